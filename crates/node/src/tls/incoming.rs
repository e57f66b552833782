//! Accepting connections.
//!
//! Promises: a peer that is slow, silent or hostile during its TLS handshake holds up nobody
//! else. Handshakes run beside each other, each within a limit of time; when too many are in
//! progress the oldest gives way, because an honest one takes milliseconds.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, Sleep, sleep, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, field::display, info, warn};

use crate::logging::{Seldom, Unsaid, foreign};

use super::{
    Fault, Tls,
    buffered::Buffered,
    stream::{Ending, Io, ServerStream, TlsInfo},
};

static TOO_MANY: Seldom = Seldom::new();
static NOT_ACCEPTED: Seldom = Seldom::new();

/// Time for the TLS handshake and the first byte after it (docs/protocol/connections.md).
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// TLS handshakes in progress. Each costs a few kilobytes and some milliseconds of computing.
pub(super) const HANDSHAKES_MAX: usize = 128;

/// Open connections, of peers and of clients: above what the streams that clients may have take
/// if each has a connection of its own, far above the peers that talk to one node. More are
/// refused.
pub(super) const CONNECTIONS_MAX: usize = 4096;

/// Pause after the system could not give us a connection, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that came in.
pub struct Arrival {
    /// Its bytes.
    pub io: Box<dyn Io>,
    /// Where it comes from, for logs.
    pub remote: Option<SocketAddr>,
}

/// Where connections come from.
pub trait Listen: Send + Unpin + 'static {
    /// The next connection.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>>;
}

impl Listen for TcpListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        Self::poll_accept(self, cx).map_ok(|(stream, remote)| {
            // Without it small messages wait for acknowledgements; not worth failing for.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(target: "comm.tls", %error, "TCP_NODELAY");
            }
            Arrival {
                io: Box::new(stream),
                remote: Some(remote),
            }
        })
    }
}

/// Ends accepting and every accepted connection when it is dropped.
#[derive(Debug)]
pub struct Closer {
    _owner: watch::Sender<()>,
}

/// Accepted connections after their TLS handshake, for `serve_with_incoming`. Plain without TLS.
pub struct Incoming {
    listener: Box<dyn Listen>,
    tls: Option<Tls>,
    handshakes: JoinSet<Option<ServerStream>>,
    /// In order of arrival.
    oldest: VecDeque<AbortHandle>,
    slots: Arc<Semaphore>,
    pause: Option<Pin<Box<Sleep>>>,
    owner: watch::Receiver<()>,
    ending: Ending,
    /// Handshakes that failed for a certificate, as far as they were told.
    distrust: Arc<Unsaid>,
}

impl Incoming {
    /// Accepts until the closer is dropped.
    pub fn new(listener: impl Listen, tls: Option<Tls>) -> (Self, Closer) {
        let (closer, owner) = watch::channel(());
        let incoming = Self {
            listener: Box::new(listener),
            tls,
            handshakes: JoinSet::new(),
            oldest: VecDeque::new(),
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            pause: None,
            ending: Ending::with(owner.clone()),
            distrust: Arc::new(Unsaid::new()),
            owner,
        };
        (incoming, Closer { _owner: closer })
    }

    fn begin(&mut self, Arrival { io, remote }: Arrival) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            if let Some(left_out) = TOO_MANY.line(std::time::Instant::now()) {
                warn!(
                    target: "comm.tls",
                    remote = remote.map(display),
                    limit = CONNECTIONS_MAX,
                    left_out,
                    "too many connections, refused one"
                );
            }
            return;
        };
        if self.handshakes.len() >= HANDSHAKES_MAX {
            self.oldest.retain(|handshake| !handshake.is_finished());
            if let Some(oldest) = self.oldest.pop_front() {
                oldest.abort();
            }
        }
        let (tls, owner) = (self.tls.clone(), self.owner.clone());
        let distrust = self.distrust.clone();
        let task = async move {
            accept(io, remote, tls.as_ref(), owner, slot)
                .await
                .inspect_err(|error| not_shaken(&distrust, remote, error))
                .ok()
        };
        self.oldest.push_back(self.handshakes.spawn(task));
    }

    /// Takes everything that waits at the listener. Pending, or nothing more will come for now.
    fn poll_listener(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(arrival)) => self.begin(arrival),
                Poll::Ready(Err(error)) => {
                    if let Some(left_out) = NOT_ACCEPTED.line(std::time::Instant::now()) {
                        warn!(target: "comm.tls", %error, left_out, "cannot accept a connection");
                    }
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<ServerStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ending.poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.poll_listener(cx);
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(stream)))) => return Poll::Ready(Some(Ok(stream))),
                // Failed, or gave way.
                Poll::Ready(Some(_)) => {}
                // Woken again by the listener or a handshake.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
            if self.handshakes.is_empty() {
                self.oldest.clear();
            }
        }
    }
}

/// Tells that no connection came of one that was accepted. Anybody may cause it at will.
fn not_shaken(distrust: &Unsaid, remote: Option<SocketAddr>, error: &io::Error) {
    let (host, remote) = (remote.map(|remote| remote.ip()), remote.map(display));
    let fault = Fault::of_handshake(error);
    let (what, check) = match &fault {
        Fault::Ours(what) => (
            *what,
            "its TLS roots must hold that of our peer.tls.cert.file",
        ),
        Fault::Theirs(_) => (
            "its certificate is refused",
            "see peer.tls.clientRootCAs.files",
        ),
        Fault::NotTls | Fault::Other(_) => {
            return debug!(target: "comm.tls", remote, "TLS handshake failed: {}", foreign(fault));
        }
    };
    let now = std::time::Instant::now();
    let again = format!("{host:?} {what}");
    if let Some(left_out) = distrust.unsaid(again, now) {
        info!(target: "comm.tls", remote, left_out, "TLS handshake failed: {}; {check}", foreign(fault));
    }
}

/// Runs the server's side of a TLS handshake within its limit of time. The connection ends when
/// the owner's sender is dropped. Without TLS there is nothing to run.
async fn accept(
    io: Box<dyn Io>,
    remote: Option<SocketAddr>,
    tls: Option<&Tls>,
    owner: watch::Receiver<()>,
    slot: OwnedSemaphorePermit,
) -> io::Result<ServerStream> {
    let limit = Instant::now() + HANDSHAKE_TIME_MAX;
    let Some(tls) = tls else {
        return Ok(ServerStream::new(
            io,
            TlsInfo::new(None, None, remote),
            owner,
            limit,
            slot,
        ));
    };
    let own = tls.server_side();
    let handshake = TlsAcceptor::from(own.config).accept(Buffered::new(io));
    let io = timeout_at(limit, handshake).await??;
    let certificates = io.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = certificates
        .first()
        .map(|leaf| Bytes::copy_from_slice(leaf));
    let info = TlsInfo::new(Some(own.certificate_sha256), leaf, remote);
    Ok(ServerStream::new(Box::new(io), info, owner, limit, slot))
}
