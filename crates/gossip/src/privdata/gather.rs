//! Pulling what is missing, for several blocks beside each other.
//!
//! Each gathering has its own requests: one for each peer that is chosen, with everything it is
//! asked for. An item is asked of one peer at a time; in a round it is asked of no peer twice.
//! While a block waits, rounds follow one another until its time is over; a reconciliation has
//! one round.

mod item;
mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt, rngs::ChaCha8Rng};

use self::{
    item::{Gather, Verdict},
    sources::{Choice, Life, Sources},
};
use super::{Around, Found, GatherKey, Missing, Wanted, doubts::Doubts};
use crate::{
    effect::Destination,
    id::{ChannelId, Moment, PkiId},
    message::{PrivateDigest, PrivateElement},
    ports::Ports,
    random,
};

/// How long a peer has to answer, as in Fabric.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before everybody is asked again, as in Fabric.
pub const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// Gatherings of a channel at a time: the owner works on as many blocks, and reconciles. The one
/// that comes too many ends with nothing found.
pub const GATHERS_MAX: usize = 65;

/// Private write sets that are looked for at a time, in all gatherings of a channel; a block of 500
/// transactions has far fewer. What is beyond is left to reconciliation. For each of them somebody
/// is chosen anew after every answer, and what blocks name is up to strangers.
pub const WANTED_MAX: usize = 10_000;

/// Those that a gathering has room for whatever the others look for.
pub const WANTED_EACH_MIN: usize = 100;

/// Digests in one request: those of any usual block. The rest is asked for after the answer.
pub const DIGESTS_ASKED_MAX: usize = 1024;

/// Requests of a channel that wait for an answer at a time. At the limit others wait.
pub(super) const REQUESTS_MAX: usize = 256;

/// Those to one peer: half of the blocks that wait to be committed.
pub(super) const REQUESTS_PER_PEER_MAX: usize = 8;

/// Peers asked for one item in one round: more than have it and are silent. Who they are is chosen
/// anew in each.
pub(super) const ASKED_MAX: usize = 64;

/// Peers whose copy of an item was wrong. With so many of them it is left to reconciliation.
pub(super) const WRONG_MAX: usize = 16;

/// Other copies of an item that may do and are kept until it is known that nobody has what was
/// wanted: one liar cannot keep an honest one out, and no member can fill the memory with one item.
pub(super) const OTHERS_MAX: usize = 4;

/// Bytes that were found for all gatherings of a channel and not yet handed on. What finds no room
/// is left to reconciliation; one write set always does.
pub const FOUND_BYTES_MAX: usize = 256 * 1024 * 1024;

/// All gatherings of a channel.
#[derive(Debug)]
pub(super) struct Gathers {
    /// `btlPullMargin`.
    margin: u64,
    rng: ChaCha8Rng,
    doubts: Doubts,
    gathers: BTreeMap<GatherKey, Gather>,
    /// By nonce.
    requests: BTreeMap<u64, Request>,
    /// Height of the chain as far as blocks prove it.
    chain_height: u64,
    ended: Vec<Ended>,
}

#[derive(Debug)]
struct Request {
    peer: PkiId,
    key: GatherKey,
    since: Moment,
}

/// A gathering that is over.
#[derive(Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) key: GatherKey,
    pub(super) found: Vec<Found>,
    pub(super) missing: Vec<(PrivateDigest, Missing)>,
}

/// What an answer was.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// Nothing of that nonce is waited for.
    Unexpected,
    /// Somebody else was asked.
    OfAnother,
    /// It was taken in.
    Taken {
        after: Duration,
        found: usize,
        /// What was wrong with it, if something was.
        wrong: Option<String>,
    },
}

/// A request to send: to whom, under which nonce, for what.
pub(super) type Ask = (Destination, u64, Vec<PrivateDigest>);

impl Gathers {
    pub(super) fn new(channel: &ChannelId, margin: u64, seed: &[u8; 32]) -> Self {
        Self {
            margin,
            rng: random::generator(seed, &format!("private data of {channel}")),
            doubts: Doubts::default(),
            gathers: BTreeMap::new(),
            requests: BTreeMap::new(),
            chain_height: 0,
            ended: Vec::new(),
        }
    }

    /// Begins to look. One of the same name that is under way ends with what it has.
    pub(super) fn begin(
        &mut self,
        now: Moment,
        key: GatherKey,
        items: Vec<Wanted>,
        patience: Duration,
    ) {
        self.end(key);
        let repeats = matches!(key, GatherKey::Block(_));
        let others: usize = self.gathers.values().map(Gather::len).sum();
        let room = WANTED_MAX.saturating_sub(others).max(WANTED_EACH_MIN);
        let mut gather = Gather::new(now + patience, repeats, items, room);
        if patience == Duration::ZERO {
            gather.give_up(Missing::NotFound);
        } else if self.gathers.len() >= GATHERS_MAX {
            gather.give_up(Missing::NoRoom);
        }
        self.gathers.insert(key, gather);
        self.end_what_is_done();
    }

    /// A block of this number is part of the chain.
    pub(super) fn verified(&mut self, number: u64) {
        self.chain_height = self.chain_height.max(number.saturating_add(1));
    }

    /// A peer answers.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        from: PkiId,
        nonce: u64,
        elements: Vec<PrivateElement>,
    ) -> Answer {
        match self.requests.get(&nonce) {
            None => return Answer::Unexpected,
            Some(request) if request.peer != from => return Answer::OfAnother,
            Some(_) => {}
        }
        let Some(request) = self.requests.remove(&nonce) else {
            return Answer::Unexpected;
        };
        let others = self.gathers.iter().filter(|(key, _)| **key != request.key);
        let others: usize = others.map(|(_, gather)| gather.bytes()).sum();
        let Some(gather) = self.gathers.get_mut(&request.key) else {
            return Answer::Unexpected;
        };
        let (mut found, mut verified, mut wrong) = (0, 0, None);
        for element in elements {
            let room = match others + gather.bytes() {
                0 => usize::MAX,
                bytes => FOUND_BYTES_MAX.saturating_sub(bytes),
            };
            match gather.take(from, nonce, element, room) {
                Verdict::Found { is_verified } => {
                    found += 1;
                    verified += usize::from(is_verified);
                }
                Verdict::Empty | Verdict::NoRoom => {}
                Verdict::Wrong(reason) => wrong = wrong.or(Some(reason)),
            }
        }
        gather.release(nonce);
        // What is not verified may be worthless.
        if wrong.is_none() && verified > 0 {
            self.doubts.cleared(now, &from);
        }
        self.wake_waiting();
        self.end_what_is_done();
        Answer::Taken {
            after: now.since(request.since),
            found,
            wrong,
        }
    }

    /// This peer gave something worthless. Tells whether that is news.
    pub(super) fn doubt(&mut self, now: Moment, peer: PkiId) -> bool {
        self.doubts.lied(now, peer)
    }

    /// What this peer was asked will not be answered: somebody else is.
    pub(super) fn lost(&mut self, now: Moment, peer: &PkiId) {
        self.fail(now, |request| request.peer == *peer);
    }

    /// Gives up on answers that do not come, and on blocks that waited long enough.
    pub(super) fn tick(&mut self, now: Moment) {
        self.fail(now, |request| request.since + ANSWER_TIMEOUT <= now);
        for gather in self.gathers.values_mut() {
            gather.wake(now);
            if gather.ends <= now {
                gather.give_up(Missing::NotFound);
            }
        }
        self.end_what_is_done();
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let requests = self.requests.values().map(|r| r.since + ANSWER_TIMEOUT);
        let gathers = self.gathers.values();
        let gathers = gathers.flat_map(|gather| [Some(gather.ends), gather.next_wake]);
        requests.chain(gathers.flatten()).min()
    }

    /// Chooses whom to ask for what nobody is being asked for.
    pub(super) fn plan<P: Ports>(&mut self, now: Moment, around: &Around<'_, P>) -> Vec<Ask> {
        if !self.gathers.values().any(Gather::is_idle) {
            return Vec::new();
        }
        let life = Life {
            margin: self.margin,
            chain_height: self.chain_height,
        };
        let asked = self.requests.values().map(|request| request.peer);
        let mut sources = Sources::new(now, around, &self.doubts, asked, life, &mut self.rng);
        let mut asks = Vec::new();
        for (key, gather) in self.gathers.iter_mut().filter(|(_, g)| g.is_idle()) {
            let mut chooser = sources.chooser();
            let choices = gather.choose(|item| chooser.choose(item));
            let mut by_peer: BTreeMap<usize, Vec<PrivateDigest>> = BTreeMap::new();
            for (digest, choice) in choices {
                match choice {
                    Choice::Ask(peer) => by_peer.entry(peer).or_default().push(digest),
                    Choice::Wait => gather.wait(&digest),
                    Choice::Exhausted => gather.exhausted(now, &digest),
                    Choice::Nowhere(why) => gather.decide(&digest, why),
                }
            }
            for (peer, digests) in by_peer {
                let Some(to) = sources.destination(peer) else {
                    continue;
                };
                let mut nonce: u64 = self.rng.random();
                while self.requests.contains_key(&nonce) {
                    nonce = self.rng.random();
                }
                gather.ask(to.peer, nonce, &digests);
                let request = Request {
                    peer: to.peer,
                    key: *key,
                    since: now,
                };
                self.requests.insert(nonce, request);
                asks.push((to, nonce, digests));
            }
        }
        self.end_what_is_done();
        asks
    }

    /// Ends everything now.
    pub(super) fn end_all(&mut self) {
        for gather in self.gathers.values_mut() {
            gather.give_up(Missing::NotFound);
        }
        self.end_what_is_done();
    }

    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    pub(super) fn len(&self) -> usize {
        self.gathers.len()
    }

    pub(super) fn asked(&self) -> usize {
        self.requests.len()
    }

    fn fail(&mut self, now: Moment, is_lost: impl Fn(&Request) -> bool) {
        let lost = self.requests.iter().filter(|(_, request)| is_lost(request));
        let lost: Vec<u64> = lost.map(|(nonce, _)| *nonce).collect();
        if lost.is_empty() {
            return;
        }
        let mut failed = BTreeSet::new();
        for nonce in lost {
            if let Some(request) = self.requests.remove(&nonce) {
                failed.insert(request.peer);
                if let Some(gather) = self.gathers.get_mut(&request.key) {
                    gather.release(nonce);
                }
            }
        }
        // However much one was asked, it failed once.
        for peer in failed {
            self.doubts.failed(now, peer);
        }
        self.wake_waiting();
    }

    /// A request less: what waited for that can be asked.
    fn wake_waiting(&mut self) {
        for gather in self.gathers.values_mut() {
            gather.resume();
        }
    }

    fn end(&mut self, key: GatherKey) {
        if let Some(gather) = self.gathers.get_mut(&key) {
            gather.give_up(Missing::NotFound);
            self.end_what_is_done();
        }
    }

    fn end_what_is_done(&mut self) {
        let done = self.gathers.iter().filter(|(_, gather)| gather.is_done());
        let done: Vec<GatherKey> = done.map(|(key, _)| *key).collect();
        for key in done {
            if let Some(gather) = self.gathers.remove(&key) {
                let (found, missing) = gather.into_parts();
                self.requests.retain(|_, request| request.key != key);
                self.ended.push(Ended {
                    key,
                    found,
                    missing,
                });
            }
        }
    }
}
