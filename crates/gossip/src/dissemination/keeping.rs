//! How long blocks are kept for others, and how much of them: nothing stays because somebody wants it to.

use std::time::Duration;

use super::{
    Dissemination, Sizes,
    block::Block,
    parameters::{AHEAD_MAX, KEPT_BYTES_MAX, KEPT_MAX, KEPT_TIME},
    timers::Timer,
};
use crate::id::{Moment, PkiId};

/// How often old blocks are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

impl Dissemination {
    /// How much is remembered.
    pub fn sizes(&self) -> Sizes {
        let open = self.blocks.values().filter(|block| !block.is_settled());
        Sizes {
            blocks: self.blocks.len(),
            open: open.count(),
            open_bytes: self.open_bytes(),
            kept_bytes: self.kept_bytes(),
            strays: self.strays.len(),
            views: self.views.len(),
            members: self.neighbours.len(),
            timers: self.timers.len(),
        }
    }

    /// The first block that is neither durable nor here.
    pub(super) fn prefix(&self) -> u64 {
        let mut prefix = self.height;
        for (number, block) in self.blocks.range(self.height..) {
            if *number != prefix || block.whole().is_none() {
                break;
            }
            prefix = prefix.saturating_add(1);
        }
        prefix
    }

    /// Whether anything may be begun about this block.
    pub(super) fn is_near(&self, number: u64) -> bool {
        let below = self.prefix().saturating_add(AHEAD_MAX);
        (self.height..below.min(self.height.saturating_add(KEPT_MAX))).contains(&number)
    }

    pub(super) fn grow(&mut self, now: Moment, height: u64) {
        if height <= self.height {
            return;
        }
        self.height = height;
        self.sweep(now);
    }

    /// Drops blocks that are old or far behind, and parts of blocks that came otherwise.
    pub(super) fn sweep(&mut self, now: Moment) {
        let (height, oldest) = (self.height, self.height.saturating_sub(KEPT_MAX));
        let is_over = |number: u64, block: &Block| {
            number < oldest
                || now.since(block.began) >= KEPT_TIME
                || (number < height && block.whole().is_none())
        };
        let over = self
            .blocks
            .iter()
            .filter(|(number, block)| is_over(**number, block));
        let over: Vec<u64> = over.map(|(number, _)| *number).collect();
        for number in over {
            self.forget(number);
        }
        self.strays.retain(|(_, chunk)| chunk.number >= height);
        while self.kept_bytes() > KEPT_BYTES_MAX {
            // What the ledger does not have yet would only come once more.
            let whole = self
                .blocks
                .range(..height)
                .find(|(_, block)| block.whole().is_some());
            let Some(oldest) = whole.map(|(number, _)| *number) else {
                break;
            };
            self.forget(oldest);
        }
        if !self.blocks.is_empty() && !self.timers.is_armed(Timer::Sweep) {
            self.timers.arm(Timer::Sweep, now + SWEEP_INTERVAL);
        }
    }

    fn forget(&mut self, number: u64) {
        self.blocks.remove(&number);
        self.timers.forget(number);
        let all = (number, 0, PkiId::new([0; 32]))..=(number, u8::MAX, PkiId::new([255; 32]));
        let acks: Vec<_> = self.acks.range(all).map(|(key, _)| *key).collect();
        for key in acks {
            self.acks.remove(&key);
        }
    }

    pub(super) fn open_bytes(&self) -> usize {
        self.blocks.values().map(Block::open_bytes).sum()
    }

    fn kept_bytes(&self) -> usize {
        let whole = self.blocks.values().filter_map(Block::whole);
        whole.map(|block| block.bytes.len()).sum()
    }
}
