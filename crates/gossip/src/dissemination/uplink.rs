//! What is believed to be waiting at our own uplink: chunks leave one after the other at the
//! configured rate.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::parameters::{ANSWERS_COUNTED_MAX, QUEUED_MAX};
use crate::id::{Moment, PkiId};

/// Over which time it is told how busy the uplink is.
const WINDOW: Duration = Duration::from_secs(1);

/// What a waiting chunk is to those that wait for other chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of a block on its way down its trees.
    Ours,
    /// Somebody asked for it, and it counts as long as few do for the same member.
    Answer,
    /// One of many that the same member asked for.
    Surplus,
}

#[derive(Debug, Default)]
pub(super) struct Uplink {
    free_at: Moment,
    queue: VecDeque<(Moment, (PkiId, u64, u8), Kind)>,
    waiting: BTreeSet<(PkiId, u64, u8)>,
    /// Waiting chunks that nobody asked for.
    ours: usize,
    /// Waiting answers that count, by member.
    answers: BTreeMap<PkiId, usize>,
    window_from: Moment,
    busy: Duration,
    busy_before: Duration,
}

impl Uplink {
    /// Forgets what has left by now.
    pub(super) fn advance(&mut self, now: Moment) {
        while let Some((at, chunk, kind)) = self.queue.front().copied() {
            if at > now && self.queue.len() <= QUEUED_MAX {
                break;
            }
            self.queue.pop_front();
            self.waiting.remove(&chunk);
            match kind {
                Kind::Ours => self.ours = self.ours.saturating_sub(1),
                Kind::Answer => self.discount(chunk.0),
                Kind::Surplus => {}
            }
        }
        let windows = now.since(self.window_from);
        if windows >= WINDOW {
            self.busy_before = if windows < 2 * WINDOW {
                self.busy
            } else {
                Duration::ZERO
            };
            self.busy = Duration::ZERO;
            self.window_from = now;
        }
    }

    /// Whatever we reckon, no more than this waits: the transport is as fast as it is.
    pub(super) fn catch_up(&mut self, now: Moment, lag_max: Duration) {
        self.free_at = self.free_at.min(now + lag_max);
    }

    fn discount(&mut self, peer: PkiId) {
        if let Some(count) = self.answers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.answers.remove(&peer);
            }
        }
    }

    /// A chunk is handed to the transport.
    pub(super) fn push(&mut self, now: Moment, takes: Duration, chunk: (PkiId, u64, u8)) {
        self.ours += 1;
        self.busy += takes;
        self.append(now, takes, chunk, Kind::Ours);
    }

    /// A chunk is that the peer asked for. One that asks for a lot is not to decide how patient we
    /// are with others, nor how we send blocks.
    pub(super) fn push_answer(&mut self, now: Moment, takes: Duration, chunk: (PkiId, u64, u8)) {
        let count = self.answers.get(&chunk.0).copied().unwrap_or(0);
        let kind = if count < ANSWERS_COUNTED_MAX {
            self.answers.insert(chunk.0, count + 1);
            Kind::Answer
        } else {
            Kind::Surplus
        };
        self.append(now, takes, chunk, kind);
    }

    fn append(&mut self, now: Moment, takes: Duration, chunk: (PkiId, u64, u8), kind: Kind) {
        self.free_at = self.free_at.max(now) + takes;
        self.queue.push_back((self.free_at, chunk, kind));
        self.waiting.insert(chunk);
    }

    /// Chunks of blocks on their way down the trees wait.
    pub(super) fn is_sending(&self) -> bool {
        self.ours > 0
    }

    /// Chunks that others have to wait for.
    pub(super) fn len(&self) -> usize {
        self.ours + self.answers.values().sum::<usize>()
    }

    pub(super) fn is_queued(&self, chunk: (PkiId, u64, u8)) -> bool {
        self.waiting.contains(&chunk)
    }

    /// Chunks that wait for this peer.
    pub(super) fn queued_for(&self, peer: PkiId) -> usize {
        self.waiting
            .range((peer, 0, 0)..=(peer, u64::MAX, u8::MAX))
            .count()
    }

    /// Whether at least half of the last second was spent sending what nobody asked for.
    pub(super) fn is_half_busy(&self) -> bool {
        self.busy.max(self.busy_before) * 2 >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn chunks_leave_one_after_the_other() {
        let (a, b) = (PkiId::new([1; 32]), PkiId::new([2; 32]));
        let mut uplink = Uplink::default();
        for (peer, stripe) in [(a, 0), (b, 0), (a, 1)] {
            uplink.push(at(0), Duration::from_millis(10), (peer, 5, stripe));
        }
        assert_eq!(
            (uplink.len(), uplink.queued_for(a), uplink.queued_for(b)),
            (3, 2, 1)
        );
        uplink.advance(at(10));
        assert_eq!((uplink.len(), uplink.queued_for(a)), (2, 1));
        assert!(!uplink.is_queued((a, 5, 0)) && uplink.is_queued((a, 5, 1)));
        uplink.advance(at(30));
        assert_eq!(uplink.len(), 0);
    }

    #[test]
    fn what_is_reckoned_to_wait_has_a_limit() {
        let peer = PkiId::new([1; 32]);
        let mut uplink = Uplink::default();
        for number in 0..100 {
            uplink.catch_up(at(0), Duration::from_millis(20));
            uplink.push(at(0), Duration::from_millis(10), (peer, number, 0));
        }
        assert_eq!(uplink.queued_for(peer), 100);
        uplink.advance(at(29));
        assert_eq!(uplink.queued_for(peer), 98, "two have left in time");
        uplink.advance(at(30));
        assert_eq!(uplink.queued_for(peer), 0);
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_limit() {
        let mut uplink = Uplink::default();
        for number in 0..2 * QUEUED_MAX as u64 {
            uplink.push(
                at(0),
                Duration::from_secs(1),
                (PkiId::new([1; 32]), number, 0),
            );
            uplink.advance(at(0));
        }
        assert_eq!(
            (uplink.len(), uplink.waiting.len()),
            (QUEUED_MAX, QUEUED_MAX)
        );
        assert!(uplink.is_half_busy());
    }

    #[test]
    fn what_one_member_asks_for_is_only_partly_in_the_way_of_others() {
        let (a, b) = (PkiId::new([1; 32]), PkiId::new([2; 32]));
        let mut uplink = Uplink::default();
        let second = Duration::from_secs(1);
        for number in 0..512 {
            uplink.push_answer(at(0), second, (a, number, 0));
        }
        assert_eq!(uplink.len(), ANSWERS_COUNTED_MAX);
        assert_eq!(uplink.queued_for(a), 512, "they wait all the same");
        assert!(!uplink.is_sending() && !uplink.is_half_busy());
        uplink.push_answer(at(0), second, (b, 0, 0));
        uplink.push(at(0), second, (b, 0, 1));
        assert_eq!(uplink.len(), ANSWERS_COUNTED_MAX + 2);
        assert!(uplink.is_sending() && uplink.is_half_busy());
        // The first that wait are those that count.
        uplink.advance(at(10_000));
        assert_eq!(uplink.len(), ANSWERS_COUNTED_MAX + 2 - 10);
        uplink.advance(at(600_000));
        assert_eq!((uplink.len(), uplink.answers.len()), (0, 0));
    }
}
