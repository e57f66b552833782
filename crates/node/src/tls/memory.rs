//! A network without sockets, for tests: it keeps to paused time, where sockets do not.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc,
};

use super::{Arrival, Dial, Io, Listen};

/// Bytes under way in one direction of a connection.
const PIPE: usize = 1 << 18;

#[derive(Default)]
struct Listeners(BTreeMap<String, mpsc::Sender<Box<dyn Io>>>);

/// Endpoints that listen to each other.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    listeners: Arc<Mutex<Listeners>>,
    open: Arc<Mutex<Vec<Weak<String>>>>,
    dialler: String,
}

pub(crate) struct MemoryListener(mpsc::Receiver<Box<dyn Io>>);

impl Memory {
    /// The same network, for somebody with a name.
    pub(crate) fn of(&self, dialler: &str) -> Self {
        Self {
            dialler: dialler.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn listen(&self, endpoint: &str) -> MemoryListener {
        let (sender, receiver) = mpsc::channel(2048);
        self.listeners
            .lock()
            .unwrap()
            .0
            .insert(endpoint.to_owned(), sender);
        MemoryListener(receiver)
    }

    pub(crate) fn connect(&self, endpoint: &str) -> io::Result<Box<dyn Io>> {
        let listeners = self.listeners.lock().unwrap();
        let listener = listeners
            .0
            .get(endpoint)
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(PIPE);
        listener
            .try_send(Box::new(theirs))
            .map_err(|_full| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let name = Arc::new(format!("{} to {endpoint}", self.dialler));
        let mut open = self.open.lock().unwrap();
        open.retain(|connection| connection.strong_count() > 0);
        open.push(Arc::downgrade(&name));
        Ok(Box::new(Named {
            io: ours,
            _name: name,
        }))
    }

    /// The connections whose dialler has not let go of them, as `dialler to endpoint`.
    pub(crate) fn open(&self) -> Vec<String> {
        let open = self.open.lock().unwrap();
        open.iter()
            .filter_map(Weak::upgrade)
            .map(|name| String::clone(&name))
            .collect()
    }
}

struct Named {
    io: DuplexStream,
    _name: Arc<String>,
}

impl AsyncRead for Named {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Named {
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

    /// As a socket does: the last words of a TLS session that fails are one write.
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

impl Dial for Memory {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        Box::pin(std::future::ready(self.connect(&format!("{host}:{port}"))))
    }
}

impl Listen for MemoryListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some(io)) => Poll::Ready(Ok(Arrival { io, remote: None })),
            // Nobody can dial any more.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
