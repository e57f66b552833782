//! What a channel's blocks are committed to: the ledger of this program, or an embedder's.

use std::time::SystemTime;

use tidings_gossip::VerifiedBlock;
use tidings_ledger::{Extent, Ledger};
use tidings_proto::block::BlockView;

/// Where committed blocks go. The ledger of this program, or what an embedder puts in its place.
pub trait Committer: Send + 'static {
    /// Number of blocks held.
    fn height(&self) -> u64;

    /// Header hash of the last block; none if empty.
    fn last_hash(&self) -> Option<[u8; 32]>;

    /// Takes these consecutive blocks. When it returns they are durable. An error means that none
    /// can be taken any more until the operator acts, and that nothing taken before is lost.
    fn commit(&mut self, blocks: &[VerifiedBlock]) -> Result<(), String>;

    /// Gives up some of what the operator wants to keep no longer, so little that a commit can wait
    /// for it. Blocks of which `hold` says so stay readable. Says below which block the chain is
    /// gone then; nothing if there is nothing to do.
    fn prune(&mut self, _hold: &dyn Fn(&BlockView) -> bool) -> Result<Option<u64>, String> {
        Ok(None)
    }

    /// What it has on disk, if it can tell.
    fn extent(&self) -> Option<Extent> {
        None
    }
}

impl Committer for Ledger {
    fn height(&self) -> u64 {
        self.height()
    }

    fn last_hash(&self) -> Option<[u8; 32]> {
        self.tip().last_hash().map(|hash| *hash.as_bytes())
    }

    fn commit(&mut self, blocks: &[VerifiedBlock]) -> Result<(), String> {
        let views: Result<Vec<BlockView>, _> = blocks
            .iter()
            .map(|block| BlockView::parse(block.bytes.clone()))
            .collect();
        let views = views.map_err(|error| error.to_string())?;
        self.append(&views)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn prune(&mut self, hold: &dyn Fn(&BlockView) -> bool) -> Result<Option<u64>, String> {
        self.prune(SystemTime::now(), hold)
            .map_err(|error| error.to_string())
    }

    fn extent(&self) -> Option<Extent> {
        Some(self.reader().extent())
    }
}
