//! A network without sockets, for tests: it keeps to paused time, where sockets do not.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Arrival, Dial, Io, Listen};

/// Bytes under way in one direction of a connection.
const PIPE: usize = 1 << 18;

/// Endpoints that listen to each other.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    listeners: Arc<Mutex<BTreeMap<String, mpsc::Sender<Box<dyn Io>>>>>,
}

pub(crate) struct MemoryListener(mpsc::Receiver<Box<dyn Io>>);

impl Memory {
    pub(crate) fn listen(&self, endpoint: &str) -> MemoryListener {
        let (sender, receiver) = mpsc::channel(1024);
        self.listeners
            .lock()
            .unwrap()
            .insert(endpoint.to_owned(), sender);
        MemoryListener(receiver)
    }

    pub(crate) fn connect(&self, endpoint: &str) -> io::Result<Box<dyn Io>> {
        let listeners = self.listeners.lock().unwrap();
        let listener = listeners
            .get(endpoint)
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(PIPE);
        listener
            .try_send(Box::new(theirs))
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(Box::new(ours))
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
