//! Requests of others for private data, waiting for their turn.
//!
//! A few are answered at a time. Peers take turns, so that one that asks a lot delays itself only.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use crate::{
    id::{ConnectionId, Moment, PkiId},
    message::{Connection, PrivateDigest},
    pace::Pace,
    verify::REQUEST_DIGESTS_MAX,
};

/// Requests of a channel that are answered at a time: reads from the disk, beside each other.
pub const SERVING_MAX: usize = 4;

/// Requests of a channel that wait to be answered.
pub const WAITING_MAX: usize = 256;

/// Those of one peer.
pub const WAITING_PER_PEER_MAX: usize = 32;

/// Digests in the requests of a channel that wait: a few megabytes.
const DIGESTS_WAITING_MAX: usize = 16 * REQUEST_DIGESTS_MAX;

/// Those of one peer.
const DIGESTS_WAITING_PER_PEER_MAX: usize = 4 * REQUEST_DIGESTS_MAX;

/// Answers on credit. A peer that comes back asks for every block of its window at once, and
/// again a second later.
const BURST: u32 = 64;

/// What one answer costs. A peer that lacks everything asks in every second for each block of its
/// window, and ten times for old blocks.
const PERIOD: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(super) struct Request {
    pub(super) from: Arc<Connection>,
    pub(super) nonce: u64,
    pub(super) digests: Vec<PrivateDigest>,
}

/// Why a request is not served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overload {
    TooOften,
    TooMany,
}

impl Overload {
    /// Whether the peer is told that it gets nothing. One that asks without end is not.
    pub(super) fn deserves_an_answer(&self) -> bool {
        *self == Self::TooMany
    }
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooOften => "it asks for private data too often",
            Self::TooMany => "too many requests for private data wait to be answered",
        })
    }
}

#[derive(Debug)]
pub(super) struct Requests {
    pace: Pace,
    waiting: BTreeMap<PkiId, VecDeque<Request>>,
    turn: Option<PkiId>,
    serving: BTreeSet<u64>,
    begun: u64,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            pace: Pace::of(BURST, PERIOD),
            waiting: BTreeMap::new(),
            turn: None,
            serving: BTreeSet::new(),
            begun: 0,
        }
    }

    /// Queues a request; a repeated one waits only once.
    pub(super) fn push(
        &mut self,
        now: Moment,
        from: &Arc<Connection>,
        nonce: u64,
        digests: Vec<PrivateDigest>,
    ) -> Result<(), Overload> {
        let peer = from.peer();
        let queue = self.waiting.get(&peer);
        let mut own = queue.into_iter().flatten();
        if own.any(|request| request.from.id == from.id && request.nonce == nonce) {
            return Ok(());
        }
        if !self.pace.answers(now, peer) {
            return Err(Overload::TooOften);
        }
        let own = queue.map_or(0, VecDeque::len);
        let own_digests = digests_in(queue.into_iter().flatten());
        let all_digests = digests_in(self.waiting.values().flatten());
        if own >= WAITING_PER_PEER_MAX
            || own_digests + digests.len() > DIGESTS_WAITING_PER_PEER_MAX
            || self.waiting.values().map(VecDeque::len).sum::<usize>() >= WAITING_MAX
            || all_digests + digests.len() > DIGESTS_WAITING_MAX
        {
            return Err(Overload::TooMany);
        }
        self.waiting.entry(peer).or_default().push_back(Request {
            from: Arc::clone(from),
            nonce,
            digests,
        });
        Ok(())
    }

    /// The next one to answer, unless enough are being answered.
    pub(super) fn next(&mut self) -> Option<(u64, Request)> {
        if self.serving.len() >= SERVING_MAX {
            return None;
        }
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.waiting.range((after, Bound::Unbounded)).next();
        let (peer, _) = later.or_else(|| self.waiting.first_key_value())?;
        let peer = *peer;
        let queue = self.waiting.get_mut(&peer)?;
        let request = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&peer);
        }
        self.turn = Some(peer);
        self.begun += 1;
        self.serving.insert(self.begun);
        Some((self.begun, request))
    }

    pub(super) fn served(&mut self, request: u64) {
        self.serving.remove(&request);
    }

    /// Nobody waits for the answers any more.
    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        self.waiting.retain(|_, queue| {
            queue.retain(|request| request.from.id != connection);
            !queue.is_empty()
        });
    }

    pub(super) fn forgotten(&mut self, peer: &PkiId) {
        self.waiting.remove(peer);
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Those that wait and those that are being answered.
    pub(super) fn len(&self) -> usize {
        self.serving.len() + self.waiting.values().map(VecDeque::len).sum::<usize>()
    }
}

fn digests_in<'a>(requests: impl Iterator<Item = &'a Request>) -> usize {
    requests.map(|request| request.digests.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    fn connection(id: u64, name: &str) -> Arc<Connection> {
        toy::connection(id, &toy::identity("B", name))
    }

    fn digests(number: usize) -> Vec<PrivateDigest> {
        let digest = PrivateDigest {
            block: 1,
            seq_in_block: 0,
            namespace: "cc".to_owned(),
            collection: "c".to_owned(),
            tx_id: String::new(),
        };
        vec![digest; number]
    }

    /// The connections and nonces of those that are answered, one after the other.
    fn answered(requests: &mut Requests) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| {
            let (id, request) = requests.next()?;
            requests.served(id);
            Some((request.from.id.0, request.nonce))
        })
        .collect()
    }

    #[test]
    fn a_few_are_served_at_a_time_and_peers_take_turns() {
        let mut r = Requests::new();
        let (greedy, modest) = (connection(1, "greedy"), connection(2, "modest"));
        for nonce in 0..6 {
            r.push(at(0), &greedy, nonce, digests(1)).unwrap();
        }
        r.push(at(0), &modest, 0, digests(1)).unwrap();
        let begun: Vec<_> = std::iter::from_fn(|| r.next()).collect();
        assert_eq!(begun.len(), SERVING_MAX);
        assert!(begun.iter().take(2).any(|(_, r)| r.from.id.0 == 2));
        r.served(begun[0].0);
        assert!(r.next().is_some());
        assert!(r.next().is_none());
    }

    #[test]
    fn a_repeated_request_for_private_data_waits_once() {
        let mut r = Requests::new();
        let peer = connection(1, "peer");
        for _ in 0..2 {
            r.push(at(0), &peer, 7, digests(1)).unwrap();
        }
        r.push(at(0), &connection(2, "peer"), 7, digests(1))
            .unwrap();
        assert_eq!(answered(&mut r), [(1, 7), (2, 7)]);
    }

    #[test]
    fn pd_s7_requests_that_wait_are_bounded_for_each_and_for_all() {
        let mut r = Requests::new();
        let full = Err(Overload::TooMany);
        for peer in 0..WAITING_MAX / WAITING_PER_PEER_MAX {
            let from = connection(peer as u64, &peer.to_string());
            for nonce in 0..WAITING_PER_PEER_MAX {
                r.push(at(0), &from, nonce as u64, digests(1)).unwrap();
            }
            assert_eq!(r.push(at(0), &from, 99, digests(1)), full);
        }
        let late = connection(99, "late");
        assert_eq!(r.push(at(0), &late, 0, digests(1)), full);
        assert_eq!(r.len(), WAITING_MAX);
    }

    #[test]
    fn pd_s7_digests_that_wait_are_bounded_for_each_and_for_all() {
        let mut r = Requests::new();
        let full = Err(Overload::TooMany);
        for peer in 0..4 {
            let from = connection(peer, &peer.to_string());
            for nonce in 0..4 {
                let many = digests(REQUEST_DIGESTS_MAX);
                r.push(at(0), &from, nonce, many).unwrap();
            }
            assert_eq!(r.push(at(0), &from, 99, digests(1)), full);
        }
        let late = connection(99, "late");
        assert_eq!(r.push(at(0), &late, 0, digests(1)), full);
    }

    #[test]
    fn pd_s7_who_asks_without_end_gets_forty_answers_in_a_second() {
        let mut r = Requests::new();
        let peer = connection(1, "peer");
        let mut answers = 0;
        for ms in 0..10_000 {
            answers += usize::from(r.push(at(ms), &peer, ms, digests(1)).is_ok());
            answered(&mut r);
        }
        assert_eq!(answers, 64 + 399);
    }

    #[test]
    fn nobody_is_served_after_hanging_up() {
        let mut r = Requests::new();
        let (first, second) = (connection(1, "peer"), connection(2, "peer"));
        let other = connection(3, "other");
        for from in [&first, &second, &other] {
            r.push(at(0), from, 0, digests(1)).unwrap();
        }
        r.disconnected(ConnectionId(1));
        r.forgotten(&other.peer());
        assert_eq!(answered(&mut r), [(2, 0)]);
    }
}
