//! Connections that came in, with their bytes counted as the network sees them.
//!
//! Only these, not those that we dialled: so the sum over all nodes holds each byte once. Nothing
//! is looked at and nothing is changed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    metrics::Metrics,
    tls::{Arrival, Io, Listen},
};

/// A listener whose connections count.
pub(super) struct Metered<L> {
    listener: L,
    received: IntCounter,
    sent: IntCounter,
}

impl<L> Metered<L> {
    pub(super) fn new(listener: L, metrics: &Metrics) -> Self {
        let direction = |label| metrics.accepted_bytes.with_label_values(&[label]);
        Self {
            listener,
            received: direction("received"),
            sent: direction("sent"),
        }
    }
}

impl<L: Listen> Listen for Metered<L> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        let (received, sent) = (&self.received, &self.sent);
        self.listener.poll_accept(cx).map_ok(|arrival| Arrival {
            io: Box::new(MeteredIo {
                io: arrival.io,
                received: received.clone(),
                sent: sent.clone(),
            }),
            remote: arrival.remote,
        })
    }
}

struct MeteredIo {
    io: Box<dyn Io>,
    received: IntCounter,
    sent: IntCounter,
}

impl MeteredIo {
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.sent.inc_by(u64::try_from(*bytes).unwrap_or(u64::MAX));
        }
    }
}

impl AsyncRead for MeteredIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let bytes = buf.filled().len().saturating_sub(before);
        self.received
            .inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        read
    }
}

impl AsyncWrite for MeteredIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(&written);
        written
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
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Gives one connection.
    struct Once(Option<Box<dyn Io>>);

    impl Listen for Once {
        fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
            let arrival = |io| Ok(Arrival { io, remote: None });
            self.0
                .take()
                .map_or(Poll::Pending, |io| Poll::Ready(arrival(io)))
        }
    }

    #[tokio::test]
    async fn each_byte_is_counted_once_in_its_direction() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let metrics = Metrics::new();
        let mut listener = Metered::new(Once(Some(Box::new(ours))), &metrics);
        let arrival = std::future::poll_fn(|cx| listener.poll_accept(cx)).await;
        let mut io = arrival.unwrap().io;
        theirs.write_all(b"hello").await.unwrap();
        theirs.write_all(b"you").await.unwrap();
        io.read_exact(&mut [0; 8]).await.unwrap();
        io.write_all(b"yes").await.unwrap();
        io.flush().await.unwrap();
        theirs.read_exact(&mut [0; 3]).await.unwrap();
        let counted = |label| metrics.accepted_bytes.with_label_values(&[label]).get();
        assert_eq!((counted("received"), counted("sent")), (8, 3));
    }
}
