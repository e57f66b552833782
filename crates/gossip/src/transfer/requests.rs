//! Requests of others for blocks, waiting for their turn.
//!
//! One is answered at a time. Peers take turns, so that one that asks a lot delays itself only.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use crate::id::{ConnectionId, PkiId};

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
    is_serving: bool,
}

impl Requests {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            waiting: BTreeMap::new(),
            turn: None,
            is_serving: false,
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

    /// The next one to answer, unless one is being answered.
    pub(super) fn next(&mut self) -> Option<Request> {
        if self.is_serving {
            return None;
        }
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.waiting.range((after, Bound::Unbounded)).next();
        let (peer, _) = later.or_else(|| self.waiting.first_key_value())?;
        let peer = *peer;
        let queue = self.waiting.get_mut(&peer)?;
        let request = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&peer);
        }
        self.turn = Some(peer);
        self.is_serving = request.is_some();
        request
    }

    pub(super) fn served(&mut self) {
        self.is_serving = false;
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
            requests.served();
            Some((request.connection.0, request.nonce))
        })
        .collect()
    }

    #[test]
    fn one_is_answered_at_a_time_and_peers_take_turns() {
        let mut r = Requests::new(100);
        for nonce in 0..3 {
            assert_eq!(r.push(peer(1), request(1, nonce)), Ok(()));
        }
        assert_eq!(r.push(peer(2), request(2, 9)), Ok(()));
        assert!(r.next().is_some());
        assert_eq!(r.next(), None);
        r.served();
        assert_eq!(answered(&mut r), [(2, 9), (1, 1), (1, 2)]);
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
