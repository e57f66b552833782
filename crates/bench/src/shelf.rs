//! A ledger in memory: it keeps its height and when each block came, and the blocks of the run are
//! there for everybody.
//!
//! What a node pays for its disk is left out on purpose, as in the baseline.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tidings_gossip::VerifiedBlock;
use tidings_msp::block::header_hash;
use tidings_node::{commit::Committer, serve::Blocks};
use tidings_proto::block::BlockView;
use tokio::sync::Notify;

/// The ledger of one node. Copies share it.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    blocks: Arc<[Bytes]>,
    height: Arc<AtomicUsize>,
    /// When each block was committed, in order, those aside that were there from the beginning.
    times: Arc<Mutex<Vec<Instant>>>,
    /// Told of every commit.
    grown: Arc<Notify>,
}

impl Shelf {
    /// Holds the first of these blocks.
    pub(crate) fn new(blocks: Arc<[Bytes]>) -> Self {
        Self::of(blocks, 1)
    }

    /// Holds all of these blocks.
    pub(crate) fn full(blocks: Arc<[Bytes]>) -> Self {
        let height = blocks.len();
        Self::of(blocks, height)
    }

    fn of(blocks: Arc<[Bytes]>, height: usize) -> Self {
        Self {
            blocks,
            height: Arc::new(AtomicUsize::new(height)),
            times: Arc::default(),
            grown: Arc::default(),
        }
    }

    /// The first of its blocks.
    pub(crate) fn genesis(&self) -> Option<Bytes> {
        self.blocks.first().cloned()
    }

    /// Waits until it holds so many blocks.
    pub(crate) async fn reach(&self, len: usize) {
        loop {
            let grown = self.grown.notified();
            if self.len() >= len {
                return;
            }
            grown.await;
        }
    }

    /// Blocks held.
    pub(crate) fn len(&self) -> usize {
        self.height.load(Ordering::Acquire)
    }

    /// When each block was committed, those aside that were there from the beginning.
    pub(crate) fn times(&self) -> Vec<Instant> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.clone()
    }
}

impl Committer for Shelf {
    fn height(&self) -> u64 {
        self.len() as u64
    }

    fn last_hash(&self) -> Option<[u8; 32]> {
        let last = self.blocks.get(self.len().checked_sub(1)?)?;
        let view = BlockView::parse(last.clone()).ok()?;
        let header = view.header()?;
        Some(header_hash(
            header.number,
            &header.previous_hash,
            &header.data_hash,
        ))
    }

    fn commit(&mut self, blocks: &[VerifiedBlock]) -> Result<(), String> {
        let now = Instant::now();
        for block in blocks {
            let next = self.len();
            if block.number != next as u64 {
                return Err(format!("block {} came as number {next}", block.number));
            }
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            times.push(now);
            self.height.store(next + 1, Ordering::Release);
        }
        self.grown.notify_waiters();
        Ok(())
    }
}

impl Blocks for Shelf {
    fn block(&self, number: u64) -> Result<Option<Bytes>, String> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let held = self.blocks.get(number).filter(|_| number < self.len());
        Ok(held.cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::Chain, keys::Organization};

    #[test]
    fn blocks_are_there_once_they_are_committed_in_order() {
        let chain = Chain::new(&Organization::new().unwrap(), 2, 1_000).unwrap();
        let mut shelf = Shelf::new(chain.blocks.clone().into());
        assert_eq!(shelf.block(1), Ok(None));
        let [first, second] = &chain.offered[..] else {
            panic!("two blocks were made");
        };
        let hash = shelf.last_hash().unwrap();
        assert_eq!(first.previous_hash, hash.to_vec(), "of the genesis block");
        assert!(shelf.commit(std::slice::from_ref(second)).is_err());
        assert_eq!(shelf.commit(&chain.offered), Ok(()));
        assert_eq!((shelf.len(), shelf.times().len()), (3, 2));
        assert_eq!(shelf.block(1), Ok(Some(first.bytes.clone())));
        assert_eq!(shelf.last_hash(), Some(second.hash));
        let full = Shelf::full(chain.blocks.into());
        assert_eq!((full.len(), full.times().len()), (3, 0));
    }

    #[tokio::test]
    async fn who_waits_for_a_block_is_told_of_its_commit() {
        let chain = Chain::new(&Organization::new().unwrap(), 2, 1_000).unwrap();
        let mut shelf = Shelf::new(chain.blocks.into());
        shelf.reach(1).await;
        let waiting = shelf.clone();
        let waiting = tokio::spawn(async move { waiting.reach(3).await });
        for block in &chain.offered {
            assert_eq!(shelf.commit(std::slice::from_ref(block)), Ok(()));
        }
        waiting.await.unwrap();
    }
}
