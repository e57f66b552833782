//! Byte streams with what TLS learned about the other end.
//!
//! A stream that we accepted must begin to speak soon, and ends when its owner says so: HTTP
//! libraries alone would let a silent client hold a connection for hours, and would not let go
//! of one whose peer has stopped reading.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, Sleep},
};
use tonic::transport::server::Connected;

use super::Fault;
use crate::vitals::Open;

/// Gossip handshakes that may be in progress on one connection. A peer needs one, and a second
/// while it replaces a stream.
const HANDSHAKES_PER_CONNECTION_MAX: usize = 4;

/// Anything that carries bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// What is known about the other end of a connection.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// SHA-256 of the certificate that we presented; none without TLS.
    pub own_certificate_sha256: Option<[u8; 32]>,
    /// SHA-256 of the certificate whose key the peer holds; none if it presented none, or
    /// without TLS.
    pub peer_certificate_sha256: Option<[u8; 32]>,
    /// That certificate, DER.
    pub peer_certificate: Option<Bytes>,
    /// Where it comes from, for logs.
    pub remote: Option<SocketAddr>,
    /// Bounds the handshakes of this connection.
    pub(crate) handshakes: Arc<Semaphore>,
}

impl TlsInfo {
    pub(super) fn new(
        own_certificate_sha256: Option<[u8; 32]>,
        peer_certificate: Option<Bytes>,
        remote: Option<SocketAddr>,
    ) -> Self {
        let peer_certificate_sha256 = peer_certificate.as_deref().map(tidings_msp::crypto::sha256);
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_PER_CONNECTION_MAX));
        Self {
            own_certificate_sha256,
            peer_certificate_sha256,
            peer_certificate,
            remote,
            handshakes,
        }
    }
}

/// Becomes ready, and stays so, when the owner of a connection wants it to end.
pub(super) struct Ending(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Ending {
    /// Ends when the sender is dropped.
    pub(super) fn with(mut owner: watch::Receiver<()>) -> Self {
        Self(Some(Box::pin(async move {
            while owner.changed().await.is_ok() {}
        })))
    }

    /// Leaves the end to the users of the connection.
    pub(super) fn never() -> Self {
        Self(Some(Box::pin(std::future::pending())))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(ending) = &mut self.0 {
            ready!(ending.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

/// A connection that ends with its owner.
pub(super) struct OwnedStream {
    io: Box<dyn Io>,
    ending: Ending,
    broke: Broke,
}

/// What TLS had against a connection after its handshake. HTTP libraries do not hand it on.
pub(super) type Broke = Arc<OnceLock<Fault>>;

impl OwnedStream {
    pub(super) fn new(io: Box<dyn Io>, ending: Ending) -> Self {
        let broke = Broke::default();
        Self { io, ending, broke }
    }

    /// Says there why it broke.
    pub(super) fn telling(mut self, broke: &Broke) -> Self {
        self.broke = Arc::clone(broke);
        self
    }
}

impl AsyncRead for OwnedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ending.poll(cx).is_ready() {
            // An HTTP/2 connection always reads, so ending the read ends the connection.
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read
            && let Some(fault) = Fault::behind(error)
        {
            // The first is the cause of all others.
            let _ = self.broke.set(fault);
        }
        read
    }
}

impl AsyncWrite for OwnedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// A connection that was accepted, for `serve_with_incoming`.
pub struct ServerStream {
    io: OwnedStream,
    info: TlsInfo,
    /// Until the first byte has come.
    first_byte_by: Option<Pin<Box<Sleep>>>,
    /// One of the connections that may be open at once.
    _slot: OwnedSemaphorePermit,
    /// Counts it while it is open.
    _open: Option<Open>,
}

impl ServerStream {
    pub(super) fn new(
        io: Box<dyn Io>,
        info: TlsInfo,
        owner: watch::Receiver<()>,
        first_byte_by: Instant,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let first_byte_by = Box::pin(tokio::time::sleep_until(first_byte_by));
        Self {
            io: OwnedStream::new(io, Ending::with(owner)),
            info,
            first_byte_by: Some(first_byte_by),
            _slot: slot,
            _open: None,
        }
    }

    /// The same, counted.
    pub(crate) fn counted(mut self, open: Open) -> Self {
        self._open = Some(open);
        self
    }

    /// What is known about the other end.
    pub fn info(&self) -> &TlsInfo {
        &self.info
    }
}

impl Connected for ServerStream {
    type ConnectInfo = TlsInfo;

    fn connect_info(&self) -> TlsInfo {
        self.info.clone()
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.first_byte_by = None;
        } else if let Some(limit) = &mut self.first_byte_by
            && limit.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
