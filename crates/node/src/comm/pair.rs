//! The streams between us and one peer: at most one that we dialled and one that it dialled.
//!
//! Promises that two nodes that dial each other at the same time end up with one stream, the same
//! one on both sides, and that a Go peer, which has its own way of choosing, never loses the
//! stream that we chose. Why this is so: docs/protocol/connections.md. Knows no sockets.

use std::time::Duration;

use tidings_gossip::id::PkiId;
use tokio::time::Instant;

/// How long both streams are kept. A Go peer ends the one it dialled within a round trip; a node
/// of our kind is recognized by not doing so. Longer than any round trip worth gossiping over.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// We did.
    Outbound,
    /// The peer did.
    Inbound,
}

/// The streams of one connection. `S` is what stands for a stream.
#[derive(Debug)]
pub(crate) struct Pair<S> {
    outbound: Option<S>,
    inbound: Option<S>,
    both_since: Option<Instant>,
}

impl<S> Default for Pair<S> {
    fn default() -> Self {
        Self {
            outbound: None,
            inbound: None,
            both_since: None,
        }
    }
}

impl<S> Pair<S> {
    /// Adds a stream. The place of its side has to be vacant.
    pub(crate) fn put(&mut self, side: Side, stream: S, now: Instant) {
        let earlier = self.place(side).replace(stream);
        assert!(earlier.is_none(), "a place is vacated before it is filled");
        let both = self.outbound.is_some() && self.inbound.is_some();
        self.both_since = both.then_some(now);
    }

    /// Takes out the stream of this side, because a later one replaces it.
    pub(crate) fn vacate(&mut self, side: Side) -> Option<S> {
        self.both_since = None;
        self.place(side).take()
    }

    /// Takes out the stream for which this holds, if there is one.
    pub(crate) fn take(&mut self, is_it: impl Fn(&S) -> bool) -> Option<S> {
        let sides = [Side::Outbound, Side::Inbound];
        let side = sides
            .into_iter()
            .find(|side| self.place(*side).as_ref().is_some_and(&is_it))?;
        self.vacate(side)
    }

    /// The stream to send on: ours, because a Go peer will end its own.
    pub(crate) fn best(&self) -> Option<&S> {
        self.outbound.as_ref().or(self.inbound.as_ref())
    }

    /// Whether no stream is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.outbound.is_none() && self.inbound.is_none()
    }

    /// Takes out the stream that we are to end, if it is time: the one that the larger PKI-ID
    /// dialled, and only its dialler ends it.
    pub(crate) fn retire(&mut self, me: PkiId, peer: PkiId, now: Instant) -> Option<S> {
        let due = self.retires_at(me, peer).is_some_and(|due| due <= now);
        if due {
            self.vacate(Side::Outbound)
        } else {
            None
        }
    }

    /// When [`Self::retire`] will have something to do.
    pub(crate) fn retires_at(&self, me: PkiId, peer: PkiId) -> Option<Instant> {
        if me > peer {
            self.both_since.map(|since| since + GRACE)
        } else {
            None
        }
    }

    /// Every stream, to be ended.
    pub(crate) fn into_streams(self) -> impl Iterator<Item = S> {
        self.outbound.into_iter().chain(self.inbound)
    }

    fn place(&mut self, side: Side) -> &mut Option<S> {
        match side {
            Side::Outbound => &mut self.outbound,
            Side::Inbound => &mut self.inbound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Side::*, *};

    const SMALL: PkiId = PkiId::new([1; 32]);
    const LARGE: PkiId = PkiId::new([2; 32]);

    fn at(ms: u64) -> Instant {
        // Any origin will do, as long as it is one.
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *ORIGIN.get_or_init(Instant::now) + Duration::from_millis(ms)
    }

    fn pair(streams: &[(Side, u32, u64)]) -> Pair<u32> {
        let mut pair = Pair::default();
        for (side, stream, ms) in streams {
            pair.put(*side, *stream, at(*ms));
        }
        pair
    }

    #[test]
    fn our_own_stream_carries_what_we_send() {
        assert_eq!(pair(&[]).best(), None);
        assert_eq!(pair(&[(Inbound, 1, 0)]).best(), Some(&1));
        assert_eq!(pair(&[(Inbound, 1, 0), (Outbound, 2, 0)]).best(), Some(&2));
        assert_eq!(pair(&[(Outbound, 2, 0), (Inbound, 1, 0)]).best(), Some(&2));
    }

    #[test]
    fn a_later_stream_of_the_same_side_takes_the_place_and_only_the_place() {
        let mut pair = pair(&[(Inbound, 1, 0), (Outbound, 2, 0)]);
        assert_eq!(pair.vacate(Inbound), Some(1));
        pair.put(Inbound, 3, at(1));
        // The end of the replaced stream must not take the new one with it (C-G3).
        assert_eq!(pair.take(|stream| *stream == 1), None);
        assert_eq!(pair.into_streams().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn the_larger_end_retires_what_it_dialled_after_the_grace() {
        let mut pair = pair(&[(Outbound, 1, 0), (Inbound, 2, 100)]);
        assert_eq!(pair.retires_at(LARGE, SMALL), Some(at(100) + GRACE));
        assert_eq!(pair.retire(LARGE, SMALL, at(5099)), None);
        assert_eq!(pair.retire(LARGE, SMALL, at(5100)), Some(1));
        assert_eq!(pair.best(), Some(&2));
        assert_eq!(pair.retires_at(LARGE, SMALL), None);
        assert_eq!(
            pair.retire(LARGE, SMALL, at(60_000)),
            None,
            "the last one stays"
        );
    }

    #[test]
    fn the_smaller_end_never_retires_anything() {
        let mut pair = pair(&[(Outbound, 1, 0), (Inbound, 2, 0)]);
        assert_eq!(pair.retires_at(SMALL, LARGE), None);
        assert_eq!(pair.retire(SMALL, LARGE, at(1_000_000)), None);
    }

    #[test]
    fn a_peer_that_ends_its_own_stream_in_time_leaves_us_ours() {
        let mut pair = pair(&[(Outbound, 1, 0), (Inbound, 2, 0)]);
        assert_eq!(pair.take(|stream| *stream == 2), Some(2));
        assert_eq!(pair.retire(LARGE, SMALL, at(60_000)), None);
        assert_eq!(pair.best(), Some(&1));
        pair.put(Inbound, 3, at(60_000));
        assert_eq!(
            pair.retires_at(LARGE, SMALL),
            Some(at(60_000) + GRACE),
            "the grace is anew"
        );
        assert!(!pair.is_empty());
        assert_eq!(pair.take(|stream| *stream == 1), Some(1));
        assert_eq!(pair.take(|stream| *stream == 3), Some(3));
        assert!(pair.is_empty());
    }
}
