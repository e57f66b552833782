//! What is believed to be waiting at our own uplink: chunks leave one after the other at the
//! configured rate.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::parameters::QUEUED_MAX;
use crate::id::{Moment, PkiId};

/// Over which time it is told how busy the uplink is.
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Uplink {
    free_at: Moment,
    queue: VecDeque<(Moment, PkiId, u64, u8)>,
    waiting: BTreeSet<(PkiId, u64, u8)>,
    window_from: Moment,
    busy: Duration,
    busy_before: Duration,
}

impl Uplink {
    /// Forgets what has left by now.
    pub(super) fn advance(&mut self, now: Moment) {
        while let Some((at, peer, number, stripe)) = self.queue.front().copied() {
            if at > now && self.queue.len() <= QUEUED_MAX {
                break;
            }
            self.queue.pop_front();
            self.waiting.remove(&(peer, number, stripe));
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

    /// A chunk is handed to the transport.
    pub(super) fn push(&mut self, now: Moment, takes: Duration, chunk: (PkiId, u64, u8)) {
        self.free_at = self.free_at.max(now) + takes;
        self.busy += takes;
        let (peer, number, stripe) = chunk;
        self.queue.push_back((self.free_at, peer, number, stripe));
        self.waiting.insert(chunk);
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
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

    /// Whether at least half of the last second was spent sending.
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
}
