//! Blocks on their way to the ledger: those that wait for a predecessor, and those that were
//! handed to the committer and are not durable yet.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use bytes::Bytes;

use crate::{effect::Source, message::VerifiedBlock};

/// Blocks handed to the committer that are not durable yet. Enough for a ledger to make several
/// durable with one flush.
pub const COMMIT_WINDOW: u64 = 16;

/// Unanswered hand-overs that are remembered. After a refusal there are up to two windows of
/// them; a committer that owes more answers than this has lost the oldest.
const HANDED_MAX: usize = 64;

/// Sum of the blocks kept. Far ones give way to near ones; the one that the ledger waits for is
/// always taken.
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
    /// Numbers in the order of being handed over, until they are answered.
    handed: VecDeque<u64>,
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
            handed: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.height
    }

    /// Blocks that were not handed over yet.
    pub(super) fn waiting(&self) -> usize {
        self.blocks.range(self.next..).count()
    }

    pub(super) fn push(&mut self, waiting: Waiting) -> Pushed {
        let (number, len) = (waiting.block.number, waiting.len());
        if let Some(known) = self.blocks.get_mut(&number) {
            if waiting.source == Source::Deliver {
                // The orderer will not send it again unless it is asked to.
                known.source = Source::Deliver;
            }
            return Pushed::Known;
        }
        if number < self.next {
            return Pushed::Known;
        }
        let mut evicted = Vec::new();
        while self.bytes.saturating_add(len) > self.bytes_max {
            let last = self.blocks.last_entry();
            match last.filter(|last| *last.key() > number) {
                Some(last) => evicted.push(last.remove()),
                None if number == self.height => break,
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
        if self.handed.len() >= HANDED_MAX {
            self.handed.pop_front();
        }
        self.handed.push_back(self.next);
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
        self.handed.retain(|number| *number >= height);
        self.bytes = self.blocks.values().map(Waiting::len).sum();
    }

    /// Drops a block that the committer refused; everything from it on is to be handed over
    /// again. Those behind it will be refused because it was, and keep their place: by then they
    /// are not handed over any more, or have been once again.
    pub(super) fn refuse(&mut self, number: u64) -> bool {
        let handed = self.handed.iter().position(|handed| *handed == number);
        if let Some(answered) = handed {
            self.handed.remove(answered);
        }
        if number < self.height || number >= self.next || self.handed.contains(&number) {
            return false;
        }
        self.next = number;
        if let Some(dropped) = self.blocks.remove(&number) {
            self.bytes = self.bytes.saturating_sub(dropped.len());
        }
        true
    }

    /// Sum of the blocks kept, those that were handed over included.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(u64::MAX)
    }

    /// Whether this block is still to come.
    pub(super) fn lacks(&self, number: u64) -> bool {
        number >= self.next && !self.blocks.contains_key(&number)
    }

    /// The first number that is not here.
    pub(super) fn first_missing(&self) -> u64 {
        let mut missing = self.next;
        for number in self.blocks.range(self.next..).map(|(number, _)| *number) {
            if number > missing {
                break;
            }
            missing = number.saturating_add(1);
        }
        missing
    }

    /// The runs of numbers below `limit` that are not here.
    pub(super) fn gaps(&self, limit: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut start = self.next;
        let here = self.blocks.range(self.next.min(limit)..limit);
        for number in here.map(|(number, _)| *number).filter(|n| *n >= self.next) {
            if number > start {
                gaps.push(start..number);
            }
            start = number.saturating_add(1);
        }
        if start < limit {
            gaps.push(start..limit);
        }
        gaps
    }

    /// The number that keeps a later block waiting.
    pub(super) fn awaited(&self) -> Option<u64> {
        let first = self.blocks.range(self.next..).next();
        first.filter(|(number, _)| **number > self.next)?;
        Some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(number: u64, len: usize) -> Waiting {
        Waiting {
            block: VerifiedBlock {
                number,
                hash: [0; 32],
                previous_hash: Bytes::new(),
                is_config: false,
                config_sequence: 0,
                bytes: vec![0; len].into(),
            },
            source: Source::Push,
            private_data: Vec::new(),
        }
    }

    fn buffer(height: u64, numbers: impl IntoIterator<Item = u64>) -> Buffer {
        let mut buffer = Buffer::new(height);
        for number in numbers {
            assert_eq!(buffer.push(waiting(number, 1)), taken());
        }
        buffer
    }

    fn taken() -> Pushed {
        Pushed::Taken {
            evicted: Vec::new(),
        }
    }

    fn handed_over(buffer: &mut Buffer) -> Vec<u64> {
        std::iter::from_fn(|| buffer.hand_over().map(|w| w.block.number)).collect()
    }

    #[test]
    fn blocks_leave_in_order_without_gaps() {
        let mut b = buffer(5, [7, 5, 8]);
        assert_eq!(handed_over(&mut b), [5]);
        assert_eq!(b.waiting(), 2);
        assert_eq!(b.push(waiting(6, 1)), taken());
        assert_eq!(handed_over(&mut b), [6, 7, 8]);
        assert_eq!(b.push(waiting(6, 1)), Pushed::Known);
        assert_eq!(b.push(waiting(4, 1)), Pushed::Known);
    }

    #[test]
    fn the_committer_is_never_further_behind_than_the_window() {
        let mut b = buffer(0, 0..100);
        assert_eq!(handed_over(&mut b), (0..COMMIT_WINDOW).collect::<Vec<_>>());
        b.grow(3);
        let more: Vec<_> = (COMMIT_WINDOW..COMMIT_WINDOW + 3).collect();
        assert_eq!(handed_over(&mut b), more);
    }

    #[test]
    fn what_others_made_durable_is_dropped() {
        let mut b = buffer(0, [0, 1, 2, 5]);
        assert_eq!(handed_over(&mut b), [0, 1, 2]);
        b.grow(4);
        assert_eq!((b.height(), b.waiting(), b.bytes), (4, 1, 1));
        b.grow(2);
        assert_eq!(b.height(), 4);
        assert_eq!(b.push(waiting(3, 1)), Pushed::Known);
    }

    #[test]
    fn a_refused_block_is_wanted_again_and_its_followers_keep_their_place() {
        let mut b = buffer(0, [0, 1, 2]);
        assert_eq!(handed_over(&mut b), [0, 1, 2]);
        assert!(b.refuse(0));
        assert!(!b.refuse(0));
        assert!(!b.refuse(1), "1 fell for the sake of 0");
        assert_eq!(handed_over(&mut b), [0; 0]);
        assert_eq!(b.gaps(9), [0..1, 3..9]);
        assert_eq!(b.push(waiting(0, 1)), taken());
        assert_eq!(handed_over(&mut b), [0, 1, 2]);
        assert!(!b.refuse(2), "said of the first time");
        assert!(b.refuse(2));
    }

    #[test]
    fn a_refusal_may_come_before_the_word_that_its_predecessors_are_durable() {
        let mut b = buffer(0, [0, 1, 2]);
        assert_eq!(handed_over(&mut b), [0, 1, 2]);
        assert!(b.refuse(1));
        assert!(!b.refuse(2));
        b.grow(1);
        assert_eq!(b.gaps(9), [1..2, 3..9]);
        assert_eq!(b.push(waiting(1, 1)), taken());
        assert_eq!(handed_over(&mut b), [1, 2]);
        assert!(!b.refuse(0), "durable");
    }

    #[test]
    fn unanswered_hand_overs_are_bounded() {
        let mut b = buffer(0, 0..COMMIT_WINDOW);
        for _ in 0..10 {
            handed_over(&mut b);
            assert!(b.handed.len() <= HANDED_MAX);
            b.handed.retain(|number| *number > 0);
            b.next = 0;
        }
        b.grow(COMMIT_WINDOW);
        assert!(b.handed.is_empty());
    }

    #[test]
    fn gaps_are_found_from_the_next_block_on() {
        for (numbers, missing, gaps) in [
            (vec![], 5, vec![(5, 9)]),
            (vec![5, 6], 7, vec![(7, 9)]),
            (vec![5, 7, 9], 6, vec![(6, 7), (8, 9)]),
            (vec![9], 5, vec![(5, 9)]),
            (vec![5, 6, 7, 8, 9], 10, vec![]),
        ] {
            let mut b = buffer(5, numbers);
            for _ in 0..2 {
                let found: Vec<_> = b.gaps(9).iter().map(|gap| (gap.start, gap.end)).collect();
                assert_eq!((b.first_missing(), &found), (missing, &gaps));
                assert!(b.gaps(3).is_empty());
                let lacks = (0..9).filter(|number| b.lacks(*number));
                assert!(lacks.eq(b.gaps(9).into_iter().flatten()));
                handed_over(&mut b);
            }
        }
        assert_eq!(buffer(5, []).awaited(), None);
        assert_eq!(buffer(5, [5, 7]).awaited(), None);
        assert_eq!(buffer(5, [6]).awaited(), Some(5));
        assert_eq!(buffer(u64::MAX, [u64::MAX]).awaited(), None);
    }

    #[test]
    fn far_blocks_give_way_at_the_limit_and_what_the_ledger_waits_for_always_fits() {
        let mut b = Buffer::with_room(0, 100);
        assert_eq!(b.push(waiting(2, 50)), taken());
        assert_eq!(b.push(waiting(3, 50)), taken());
        assert_eq!(b.push(waiting(4, 1)), Pushed::Full);
        let evicted = vec![waiting(3, 50)];
        assert_eq!(b.push(waiting(1, 20)), Pushed::Taken { evicted });
        assert_eq!(b.bytes, 70);
        let evicted = vec![waiting(2, 50), waiting(1, 20)];
        assert_eq!(b.push(waiting(0, 500)), Pushed::Taken { evicted });
        assert_eq!(b.bytes, 500);
        assert_eq!(b.push(waiting(1, 20)), Pushed::Full);
        assert_eq!(handed_over(&mut b), [0]);
        b.grow(1);
        assert_eq!(b.bytes, 0);
    }

    #[test]
    fn a_block_that_an_orderer_delivered_too_counts_as_delivered_when_it_is_dropped() {
        let mut b = Buffer::with_room(0, 100);
        let delivered = Waiting {
            source: Source::Deliver,
            ..waiting(2, 50)
        };
        assert_eq!(b.push(waiting(2, 50)), taken());
        assert_eq!(b.push(delivered.clone()), Pushed::Known);
        assert_eq!(b.push(waiting(2, 50)), Pushed::Known);
        let evicted = vec![delivered];
        assert_eq!(b.push(waiting(1, 60)), Pushed::Taken { evicted });
    }

    #[test]
    fn private_data_counts() {
        let mut b = Buffer::with_room(0, 100);
        let mut big = waiting(1, 50);
        big.private_data = vec![vec![0; 51].into()];
        assert_eq!(b.push(big), Pushed::Full);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64, usize),
        HandOver,
        Grow(u64),
        Refuse(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..60_u64, 0..40_usize).prop_map(|(number, len)| Step::Push(number, len)),
            4 => Just(Step::HandOver),
            1 => (0..60_u64).prop_map(Step::Grow),
            1 => (0..60_u64).prop_map(Step::Refuse),
        ]
    }

    proptest! {
        /// Whatever happens, the committer sees each number after the one before it, never more
        /// than the window ahead, and memory stays within its budget and one block.
        #[test]
        fn the_committer_sees_no_gap(steps in prop::collection::vec(step(), 0..300)) {
            let mut b = Buffer::with_room(0, 200);
            let (mut height, mut expected) = (0, 0);
            for step in steps {
                match step {
                    Step::Push(number, len) => {
                        b.push(waiting(number, len));
                    }
                    Step::HandOver => {
                        if let Some(next) = b.hand_over() {
                            prop_assert_eq!(next.block.number, expected);
                            expected += 1;
                        }
                    }
                    Step::Grow(to) => {
                        b.grow(to);
                        height = height.max(to);
                        expected = expected.max(to);
                    }
                    Step::Refuse(number) => {
                        if b.refuse(number) {
                            prop_assert!(height <= number && number < expected);
                            expected = number;
                        }
                    }
                }
                prop_assert!(expected - height <= COMMIT_WINDOW);
                prop_assert_eq!(b.bytes, b.blocks.values().map(Waiting::len).sum::<usize>());
                prop_assert!(b.bytes < 200 + 40);
            }
        }
    }
}
