//! Reads of ledgers for clients, off the tasks that serve them.
//!
//! Promises that not many are made at a time, first come first served, and that one which was
//! begun counts until it has ended, whether or not somebody still waits for it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::serve::READS_MAX;

/// Places for reads. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Reads(Arc<Semaphore>);

impl Default for Reads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READS_MAX)))
    }
}

impl Reads {
    /// Does what waits for the disk: not where others wait.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let slot = Arc::clone(&self.0).acquire_owned().await;
        let slot = slot.expect("the semaphore is never closed");
        let read = move || {
            let _slot = slot;
            read()
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|broken| Err(format!("reading broke off: {broken}")))
    }
}

#[cfg(test)]
impl Reads {
    /// Nothing is read as long as this is held.
    pub(crate) fn held(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(READS_MAX).unwrap();
        Arc::clone(&self.0).try_acquire_many_owned(all).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn so_many_are_read_at_once_and_the_next_waits() {
        let reads = Reads::default();
        let (begun_in, begun) = mpsc::sync_channel(READS_MAX);
        let mut tasks = tokio::task::JoinSet::new();
        let mut ends = Vec::new();
        for _ in 0..READS_MAX {
            let (end, ended) = mpsc::sync_channel::<()>(1);
            let (reads, begun) = (reads.clone(), begun_in.clone());
            tasks.spawn(async move {
                reads
                    .read(move || {
                        begun.send(()).unwrap();
                        let _ = ended.recv();
                        Ok(())
                    })
                    .await
            });
            ends.push(end);
        }
        let all = tokio::task::spawn_blocking(move || begun.iter().take(READS_MAX).count());
        assert_eq!(all.await.unwrap(), READS_MAX);
        assert_eq!(reads.0.available_permits(), 0);
        let mut next = Box::pin(reads.read(|| Ok(7)));
        assert!(futures_util::poll!(&mut next).is_pending());
        ends.pop();
        assert_eq!(next.await, Ok(7));
    }
}
