//! Whose turn it is among the peers of one organization that are not followed, and from which block
//! on it is asked. Pure.
//!
//! Promises that each gets its turn, and that it is then asked for what it was not heard of since its
//! last one, [`BACK_MAX`] blocks back at most: so that two of one organization that say different
//! things of a block are both heard of it. Who has never been heard since the start is asked that far
//! back.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

/// How many blocks that the organization has been heard of already a peer is asked for. They are a
/// second's work.
const BACK_MAX: u64 = 1024;

/// The turns of one organization's peers.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last: String,
    /// The next block of each peer. No more than there are peers.
    next: BTreeMap<String, u64>,
}

impl Turns {
    /// Gives the next of these peers its turn.
    pub(super) fn take(&mut self, peers: &BTreeMap<String, u64>) -> Option<String> {
        self.next.retain(|peer, _| peers.contains_key(peer));
        let mut behind = peers.range::<String, _>((Excluded(&self.last), Unbounded));
        let (peer, _) = behind.next().or_else(|| peers.iter().next())?;
        self.last.clone_from(peer);
        Some(peer.clone())
    }

    /// From which block on a peer is heard, if the organization has been heard of all below `next`.
    pub(super) fn begin(&self, peer: &str, next: u64) -> u64 {
        let back = next.saturating_sub(BACK_MAX).max(1);
        let own = self.next.get(peer).copied().unwrap_or(back);
        own.clamp(back, next.max(back))
    }

    /// A peer has been heard of all blocks below this one.
    pub(super) fn end(&mut self, peer: String, next: u64) {
        self.next.insert(peer, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers<const N: usize>(peers: [&str; N]) -> BTreeMap<String, u64> {
        peers.map(|peer| (peer.to_owned(), 9)).into()
    }

    #[test]
    fn each_peer_gets_its_turn() {
        let mut turns = Turns::default();
        let mut take = |there: &BTreeMap<String, u64>| turns.take(there);
        let there = peers(["a", "b", "c"]);
        let order: Vec<_> = (0..4).filter_map(|_| take(&there)).collect();
        assert_eq!(order, ["a", "b", "c", "a"]);
        assert_eq!(take(&peers(["b"])).unwrap(), "b");
        assert_eq!(take(&peers(["b"])).unwrap(), "b", "alone");
        assert_eq!(take(&peers([])), None);
    }

    #[test]
    fn a_peer_is_heard_of_what_was_said_in_the_turns_of_others() {
        let mut turns = Turns::default();
        assert_eq!(turns.begin("a", 1), 1);
        assert_eq!(turns.begin("a", 7), 1, "never heard");
        turns.end("a".to_owned(), 7);
        assert_eq!((turns.begin("a", 7), turns.begin("a", 9)), (7, 7));
        assert_eq!(turns.begin("b", 9), 1);
        // Not without end, and never of what is behind the next.
        let far = 7 + BACK_MAX;
        assert_eq!((turns.begin("a", far), turns.begin("a", far + 1)), (7, 8));
        assert_eq!(turns.begin("a", 5), 5);
        // Of those that are gone nothing is kept.
        turns.take(&peers(["b"]));
        assert!(turns.next.is_empty());
    }
}
