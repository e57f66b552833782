//! Requests of others for blocks, waiting for their turn.
//!
//! Of each peer one is answered at a time, of several peers at the same time. Peers take turns, so
//! that one that asks a lot, or takes answers slowly, delays itself only.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use crate::id::{ConnectionId, PkiId};

/// Requests answered at a time: each may hold an answer in memory until its peer has taken it.
pub const SERVING_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) connection: ConnectionId,
    pub(super) nonce: u64,
    pub(super) start: u64,
    pub(super) end: u64,
}

#[derive(Debug)]
pub(super) struct Requests {
    /// `peer.gossip.state.channelSize`.
    most: usize,
    waiting: BTreeMap<PkiId, VecDeque<Request>>,
    turn: Option<PkiId>,
    /// Who is being answered on which stream.
    serving: BTreeMap<ConnectionId, PkiId>,
}

impl Requests {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            waiting: BTreeMap::new(),
            turn: None,
            serving: BTreeMap::new(),
        }
    }

    /// Queues a request; a repeated one waits only once. In a full queue the last request of
    /// whoever has most of them gives way; it is told whose.
    pub(super) fn push(&mut self, from: PkiId, request: Request) -> Result<(), PkiId> {
        let queue = self.waiting.get(&from);
        if queue.is_some_and(|queue| queue.contains(&request)) {
            return Ok(());
        }
        let own = queue.map_or(0, VecDeque::len);
        let mut dropped = Ok(());
        if self.len() >= self.most {
            let greedy = self.waiting.iter().max_by_key(|(_, queue)| queue.len());
            let Some((greedy, _)) = greedy.filter(|(_, queue)| queue.len() > own + 1) else {
                return Err(from);
            };
            let greedy = *greedy;
            if let Some(queue) = self.waiting.get_mut(&greedy) {
                queue.pop_back();
            }
            dropped = Err(greedy);
        }
        self.waiting.entry(from).or_default().push_back(request);
        dropped
    }

    /// The next one to answer, if there is one of a peer that is not being answered already.
    pub(super) fn next(&mut self) -> Option<Request> {
        if self.serving.len() >= SERVING_MAX {
            return None;
        }
        let is_idle = |peer: &&PkiId| !self.serving.values().any(|served| served == *peer);
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.waiting.range((after, Bound::Unbounded));
        let in_turn = later.map(|(peer, _)| peer).chain(self.waiting.keys());
        let peer = *in_turn.into_iter().find(is_idle)?;
        let queue = self.waiting.get_mut(&peer)?;
        let request = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&peer);
        }
        self.turn = Some(peer);
        self.serving.insert(request.connection, peer);
        Some(request)
    }

    /// The request of this stream is answered.
    pub(super) fn served(&mut self, connection: ConnectionId) {
        self.serving.remove(&connection);
    }

    /// Nobody waits for the answers any more.
    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        self.waiting.retain(|_, queue| {
            queue.retain(|request| request.connection != connection);
            !queue.is_empty()
        });
    }

    fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PkiId {
        PkiId::new([n; 32])
    }

    fn request(connection: u64, nonce: u64) -> Request {
        Request {
            connection: ConnectionId(connection),
            nonce,
            start: 0,
            end: 1,
        }
    }

    fn answered(requests: &mut Requests) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| {
            let request = requests.next()?;
            requests.served(request.connection);
            Some((request.connection.0, request.nonce))
        })
        .collect()
    }

    #[test]
    fn one_of_each_peer_is_answered_at_a_time_and_peers_take_turns() {
        let mut r = Requests::new(100);
        for nonce in 0..3 {
            assert_eq!(r.push(peer(1), request(1, nonce)), Ok(()));
        }
        assert_eq!(r.next(), Some(request(1, 0)));
        assert_eq!(r.next(), None, "it takes its time");
        assert_eq!(r.push(peer(2), request(2, 8)), Ok(()));
        assert_eq!(r.push(peer(2), request(2, 9)), Ok(()));
        assert_eq!(r.next(), Some(request(2, 8)), "which is not the others'");
        assert_eq!(r.next(), None);
        r.served(ConnectionId(1));
        r.served(ConnectionId(2));
        assert_eq!(answered(&mut r), [(1, 1), (2, 9), (1, 2)]);
    }

    #[test]
    fn a_bounded_number_of_peers_is_answered_at_a_time() {
        let mut r = Requests::new(100);
        for n in 0..=u8::try_from(SERVING_MAX).unwrap() {
            let request = request(u64::from(n), 0);
            assert_eq!(r.push(peer(n), request), Ok(()));
        }
        let begun = std::iter::from_fn(|| r.next()).count();
        assert_eq!(begun, SERVING_MAX);
        r.served(ConnectionId(3));
        assert_eq!(r.next(), Some(request(SERVING_MAX as u64, 0)));
        assert_eq!(r.next(), None);
    }

    #[test]
    fn a_repeated_request_waits_once() {
        let mut r = Requests::new(100);
        assert_eq!(r.push(peer(1), request(1, 7)), Ok(()));
        assert_eq!(r.push(peer(1), request(1, 7)), Ok(()));
        assert_eq!(answered(&mut r), [(1, 7)]);
    }

    #[test]
    fn s_s4_a_full_queue_drops_from_whoever_asks_most() {
        let mut r = Requests::new(3);
        for nonce in 0..3 {
            assert_eq!(r.push(peer(1), request(1, nonce)), Ok(()));
        }
        assert_eq!(r.push(peer(1), request(1, 3)), Err(peer(1)));
        assert_eq!(r.push(peer(2), request(2, 0)), Err(peer(1)));
        assert_eq!(r.push(peer(2), request(2, 1)), Err(peer(2)));
        assert_eq!(answered(&mut r), [(1, 0), (2, 0), (1, 1)]);
    }

    #[test]
    fn nobody_is_answered_after_hanging_up() {
        let mut r = Requests::new(10);
        r.push(peer(1), request(1, 0)).unwrap();
        r.push(peer(1), request(2, 1)).unwrap();
        r.push(peer(3), request(3, 2)).unwrap();
        r.disconnected(ConnectionId(1));
        r.disconnected(ConnectionId(3));
        assert_eq!(answered(&mut r), [(2, 1)]);
    }
}
