//! Reads from a connection in large pieces.
//!
//! Promises the bytes in order, and that a connection on which nothing comes holds no buffer. TLS
//! asks for four kilobytes at a time, which would be one system call each; here they come from
//! memory when more has arrived. Writes pass through.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::Io;

/// Bytes read at once: a block of usual size with what is around it, and little enough that memory
/// of this size is handed from one connection to the next.
const READ_LEN: usize = 48 << 10;

/// A connection with what was read ahead.
pub(super) struct Buffered {
    io: Box<dyn Io>,
    /// What was read and not taken yet. Without memory of its own when there is nothing.
    ahead: BytesMut,
    /// The last read took all that it could, so there may be more.
    expects_more: bool,
}

impl Buffered {
    pub(super) fn new(io: Box<dyn Io>) -> Self {
        Self {
            io,
            ahead: BytesMut::new(),
            expects_more: false,
        }
    }

    /// Gives what was read ahead.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..len]);
        self.ahead.advance(len);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }
}

impl AsyncRead for Buffered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            this.give(buf);
            return Poll::Ready(Ok(()));
        }
        if !this.expects_more || buf.remaining() >= READ_LEN {
            let room = buf.remaining();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            this.expects_more = room > 0 && buf.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        let mut ahead = BytesMut::with_capacity(READ_LEN);
        let read = ready!(poll_read_buf(Pin::new(&mut this.io), cx, &mut ahead))?;
        this.expects_more = read > buf.remaining();
        this.ahead = ahead;
        this.give(buf);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Buffered {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn all_bytes_come_in_order_and_nothing_is_kept() {
        let sent: Vec<u8> = (0..3 * READ_LEN + 5).map(|n| (n % 251) as u8).collect();
        for piece in [1, 4096, READ_LEN - 1, READ_LEN + 1] {
            let (ours, mut theirs) = tokio::io::duplex(2 * READ_LEN);
            let mut buffered = Buffered::new(Box::new(ours));
            let (mut received, mut buf) = (Vec::new(), vec![0; piece]);
            let sending = async {
                theirs.write_all(&sent).await.unwrap();
                theirs.shutdown().await.unwrap();
            };
            let receiving = async {
                loop {
                    let read = buffered.read(&mut buf).await.unwrap();
                    assert!(buffered.ahead.capacity() <= READ_LEN);
                    if read == 0 {
                        break;
                    }
                    received.extend_from_slice(&buf[..read]);
                }
            };
            tokio::join!(sending, receiving);
            assert!(received == sent, "pieces of {piece}");
            assert_eq!(buffered.ahead.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_while_nothing_comes() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut buffered = Buffered::new(Box::new(ours));
        let mut buf = [0; 4];
        theirs.write_all(b"abcdefgh").await.unwrap();
        for expected in [b"abcd", b"efgh"] {
            buffered.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, expected);
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut none = ReadBuf::new(&mut buf);
        let read = Pin::new(&mut buffered).poll_read(&mut cx, &mut none);
        assert!(read.is_pending());
        assert_eq!(buffered.ahead.capacity(), 0);
    }
}
