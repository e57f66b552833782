//! The way of blocks to one client, which takes them as fast as it likes.
//!
//! Promises that a client holds one page that waits and one that it is sending, and that one that
//! takes nothing while something waits for it is cut off and told why.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

/// How long a client may take nothing while a block waits for it. A client that is alive empties
/// its windows much sooner, even one that stores each block before it reads the next.
pub(super) const STALL_MAX: Duration = Duration::from_secs(60);

/// What counts for a stream as long as any of it is there: also what is done with on our end and
/// lies on its way to the client.
#[derive(Clone)]
pub(super) struct Tenure(Arc<Mutex<OwnedSemaphorePermit>>);

impl Tenure {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(permit)))
    }

    /// Counts as something else from now on.
    pub(super) fn exchange(&self, permit: OwnedSemaphorePermit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

/// Our end.
pub(super) struct Outlet {
    pages: mpsc::Sender<Vec<Bytes>>,
    cut: Arc<OnceLock<tonic::Status>>,
}

/// The client has gone, or was cut off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Left,
    CutOff,
}

/// What a client is sent.
pub(super) struct Responses {
    pages: mpsc::Receiver<Vec<Bytes>>,
    page: vec::IntoIter<Bytes>,
    cut: Arc<OnceLock<tonic::Status>>,
    _tenure: Tenure,
}

/// Both ends.
pub(super) fn outlet(tenure: Tenure) -> (Outlet, Responses) {
    let (pages, pages_in) = mpsc::channel(1);
    let cut = Arc::new(OnceLock::new());
    let responses = Responses {
        pages: pages_in,
        page: Vec::new().into_iter(),
        cut: Arc::clone(&cut),
        _tenure: tenure,
    };
    (Outlet { pages, cut }, responses)
}

impl Outlet {
    /// The client has gone.
    pub(super) async fn closed(&self) {
        self.pages.closed().await;
    }

    /// Says how the stream ends; the client is told when it reads on.
    pub(super) fn cut_off(&self, status: tonic::Status) {
        // The first reason is the right one.
        let _ = self.cut.set(status);
    }

    /// Waits until the client has begun with what it was given last.
    pub(super) async fn room(&self) -> Result<mpsc::Permit<'_, Vec<Bytes>>, Gone> {
        match timeout(STALL_MAX, self.pages.reserve()).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_closed)) => Err(Gone::Left),
            Err(_late) => {
                let reason = format!(
                    "nothing of what was sent was read for {} seconds",
                    STALL_MAX.as_secs()
                );
                self.cut_off(tonic::Status::aborted(reason));
                Err(Gone::CutOff)
            }
        }
    }
}

impl Stream for Responses {
    type Item = Result<Bytes, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(next) = self.page.next() {
                return Poll::Ready(Some(Ok(next)));
            }
            match ready!(self.pages.poll_recv(cx)) {
                Some(page) => self.page = page.into_iter(),
                None => return Poll::Ready(self.cut.get().cloned().map(Err)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::sync::Semaphore;

    use super::*;

    /// Both ends of a stream that counts among these.
    fn ends(of: &Arc<Semaphore>) -> (Outlet, Responses) {
        outlet(Tenure::new(Arc::clone(of).try_acquire_owned().unwrap()))
    }

    fn page(text: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(text.as_bytes()); 2]
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_cut_off_and_told_when_it_reads_on() {
        let places = Arc::new(Semaphore::new(1));
        let (outlet, mut responses) = ends(&places);
        outlet.room().await.unwrap().send(page("first"));
        assert_eq!(outlet.room().await.err(), Some(Gone::CutOff));
        drop(outlet);
        assert_eq!(places.available_permits(), 0, "its pages are still there");
        for _ in 0..2 {
            assert_eq!(responses.next().await.unwrap().unwrap(), "first");
        }
        let told = responses.next().await.unwrap().unwrap_err();
        assert_eq!(told.code(), tonic::Code::Aborted);
        assert!(told.message().contains("60 seconds"), "{told}");
        drop(responses);
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_waited_for() {
        let places = Arc::new(Semaphore::new(1));
        let (outlet, mut responses) = ends(&places);
        let reads = async move {
            let mut read = 0;
            while let Some(next) = responses.next().await {
                next.unwrap();
                read += 1;
                tokio::time::sleep(STALL_MAX / 3).await;
            }
            read
        };
        let gives = async move {
            for _ in 0..5 {
                outlet.room().await.unwrap().send(page("slow"));
            }
        };
        let (read, ()) = tokio::join!(reads, gives);
        assert_eq!(read, 10);
    }

    #[tokio::test]
    async fn who_has_gone_gets_nothing_more() {
        let places = Arc::new(Semaphore::new(1));
        let (outlet, responses) = ends(&places);
        drop(responses);
        assert_eq!(outlet.room().await.err(), Some(Gone::Left));
        outlet.closed().await;
    }
}
