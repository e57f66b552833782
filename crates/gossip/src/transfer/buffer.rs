//! Blocks on their way to the ledger: those that wait for a predecessor, and those that were
//! handed to the committer and are not durable yet.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;

use crate::{effect::Source, message::VerifiedBlock};

/// Blocks handed to the committer that are not durable yet. Enough for a ledger to make several
/// durable with one flush.
pub const COMMIT_WINDOW: u64 = 16;

/// Sum of the blocks kept. Far ones give way to near ones; the very next one is always taken.
pub const BUFFER_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    pub(super) block: VerifiedBlock,
    pub(super) source: Source,
    pub(super) private_data: Vec<Bytes>,
}

impl Waiting {
    fn len(&self) -> usize {
        let private: usize = self.private_data.iter().map(Bytes::len).sum();
        self.block.bytes.len().saturating_add(private)
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Pushed {
    /// Kept; these far ones were dropped for it.
    Taken { evicted: Vec<Waiting> },
    /// Durable, handed over or there already.
    Known,
    /// No room; nearer blocks fill it.
    Full,
}

#[derive(Debug)]
pub(super) struct Buffer {
    /// Everything below is durable.
    height: u64,
    /// Everything from `height` up to here was handed over.
    next: u64,
    blocks: BTreeMap<u64, Waiting>,
    bytes: usize,
    bytes_max: usize,
}

impl Buffer {
    pub(super) fn new(height: u64) -> Self {
        Self::with_room(height, BUFFER_BYTES_MAX)
    }

    pub(super) fn with_room(height: u64, bytes_max: usize) -> Self {
        Self {
            height,
            next: height,
            blocks: BTreeMap::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.height
    }

    /// The number to be handed over next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Blocks that were not handed over yet.
    pub(super) fn waiting(&self) -> usize {
        self.blocks.range(self.next..).count()
    }

    pub(super) fn push(&mut self, waiting: Waiting) -> Pushed {
        let (number, len) = (waiting.block.number, waiting.len());
        if number < self.next || self.blocks.contains_key(&number) {
            return Pushed::Known;
        }
        let mut evicted = Vec::new();
        while self.bytes.saturating_add(len) > self.bytes_max {
            let last = self.blocks.last_entry();
            match last.filter(|last| *last.key() > number) {
                Some(last) => evicted.push(last.remove()),
                None if number == self.next => break,
                None => return Pushed::Full,
            }
            self.bytes = self.blocks.values().map(Waiting::len).sum();
        }
        self.bytes = self.bytes.saturating_add(len);
        self.blocks.insert(number, waiting);
        Pushed::Taken { evicted }
    }

    /// The next block for the committer, if it is there and the committer is not too far behind.
    /// It is kept until it is durable.
    pub(super) fn hand_over(&mut self) -> Option<Waiting> {
        if self.next - self.height >= COMMIT_WINDOW {
            return None;
        }
        let next = self.blocks.get(&self.next)?.clone();
        self.next += 1;
        Some(next)
    }

    /// Everything below `height` is durable, whoever brought it there.
    pub(super) fn grow(&mut self, height: u64) {
        if height <= self.height {
            return;
        }
        self.height = height;
        self.next = self.next.max(height);
        self.blocks = self.blocks.split_off(&height);
        self.bytes = self.blocks.values().map(Waiting::len).sum();
    }

    /// Drops a block that the committer refused; everything from it on is to be handed over
    /// again. Only the first one not durable can be refused for its own fault: those behind it
    /// fall because it did, and keep their place.
    pub(super) fn refuse(&mut self, number: u64) -> bool {
        if number != self.height || number >= self.next {
            return false;
        }
        self.next = number;
        if let Some(dropped) = self.blocks.remove(&number) {
            self.bytes = self.bytes.saturating_sub(dropped.len());
        }
        true
    }

    /// The first run of numbers that are not here.
    pub(super) fn first_gap(&self) -> Range<u64> {
        let mut start = self.next;
        for number in self.blocks.range(self.next..).map(|(number, _)| *number) {
            if number > start {
                return start..number;
            }
            start = number.saturating_add(1);
        }
        start..u64::MAX
    }

    /// The number that keeps a later block waiting.
    pub(super) fn awaited(&self) -> Option<u64> {
        let first = self.blocks.range(self.next..).next();
        first.filter(|(number, _)| **number > self.next)?;
        Some(self.next)
    }
}
