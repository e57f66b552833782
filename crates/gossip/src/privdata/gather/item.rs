//! One gathering: what is still missing, and what was found.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{Found, Missing, Wanted},
    OTHERS_MAX, ROUND_PAUSE, WRONG_MAX,
    sources::Choice,
};
use crate::{
    id::{Moment, PkiId},
    message::{PrivateDigest, PrivateElement},
};

#[derive(Debug)]
pub(super) struct Gather {
    /// What was not found by then is missing.
    pub(super) ends: Moment,
    /// When the next item has rested.
    pub(super) next_wake: Option<Moment>,
    repeats: bool,
    /// Whether somebody is to be chosen for an item: there may be thousands.
    has_idle: bool,
    /// Whether an item waits for room.
    has_waiting: bool,
    items: BTreeMap<PrivateDigest, Item>,
    found: BTreeMap<PrivateDigest, Vec<Found>>,
    /// Bytes of what was found and of what may do.
    bytes: usize,
    missing: BTreeMap<PrivateDigest, Missing>,
}

/// What is missing and looked for.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) wanted: Wanted,
    /// Peers that were asked in this round.
    pub(super) asked: BTreeSet<PkiId>,
    /// Peers that gave something else.
    pub(super) wrong: BTreeSet<PkiId>,
    /// What has another hash and may do all the same. Somebody else may have what was wanted.
    others: Vec<Found>,
    /// In whatever round.
    was_asked: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Somebody is to be chosen.
    Idle,
    /// Whoever would be asked is asked enough.
    Waits,
    /// Somebody was asked, under this nonce.
    Asked(u64),
    /// Everybody was asked in this round.
    Rests(Moment),
}

/// What an element of an answer was worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Found { is_verified: bool },
    NoRoom,
    Empty,
    Wrong(String),
}

impl Gather {
    /// With so many items at most.
    pub(super) fn new(ends: Moment, repeats: bool, wanted: Vec<Wanted>, room: usize) -> Self {
        let mut gather = Self {
            ends,
            next_wake: None,
            repeats,
            has_idle: true,
            has_waiting: false,
            items: BTreeMap::new(),
            found: BTreeMap::new(),
            bytes: 0,
            missing: BTreeMap::new(),
        };
        for wanted in wanted {
            if gather.items.contains_key(&wanted.digest) {
                continue;
            }
            if gather.items.len() >= room {
                gather.missing.insert(wanted.digest, Missing::NoRoom);
                continue;
            }
            let item = Item {
                asked: BTreeSet::new(),
                wrong: BTreeSet::new(),
                others: Vec::new(),
                was_asked: false,
                state: State::Idle,
                wanted,
            };
            gather.items.insert(item.wanted.digest.clone(), item);
        }
        gather
    }

    /// Whether there is somebody to choose.
    pub(super) fn is_idle(&self) -> bool {
        self.has_idle
    }

    /// How much it looks for.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes of what it has to hand on.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_done(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn into_parts(self) -> (Vec<Found>, Vec<(PrivateDigest, Missing)>) {
        let found = self.found.into_values().flatten().collect();
        (found, self.missing.into_iter().collect())
    }

    /// Has somebody chosen for everything that nobody is asked for.
    /// The caller does what was chosen for each.
    pub(super) fn choose<'a>(
        &'a mut self,
        mut choose: impl FnMut(&'a Item) -> Choice,
    ) -> Vec<(PrivateDigest, Choice)> {
        self.has_idle = false;
        let idle = self.items.values().filter(|i| i.state == State::Idle);
        idle.map(|item| (item.wanted.digest.clone(), choose(item)))
            .collect()
    }

    pub(super) fn ask(&mut self, peer: PkiId, nonce: u64, digests: &[PrivateDigest]) {
        for digest in digests {
            if let Some(item) = self.items.get_mut(digest) {
                item.asked.insert(peer);
                item.was_asked = true;
                item.state = State::Asked(nonce);
            }
        }
    }

    pub(super) fn wait(&mut self, digest: &PrivateDigest) {
        if let Some(item) = self.items.get_mut(digest) {
            item.state = State::Waits;
            self.has_waiting = true;
        }
    }

    /// Everybody was asked for this.
    pub(super) fn exhausted(&mut self, now: Moment, digest: &PrivateDigest) {
        let has_others = |item: &Item| !item.others.is_empty();
        if !self.repeats || self.items.get(digest).is_some_and(has_others) {
            return self.decide(digest, Missing::NotFound);
        }
        if let Some(item) = self.items.get_mut(digest) {
            let until = now + ROUND_PAUSE;
            item.state = State::Rests(until);
            self.next_wake = Some(self.next_wake.map_or(until, |next| next.min(until)));
        }
    }

    /// Nobody will have this.
    pub(super) fn decide(&mut self, digest: &PrivateDigest, why: Missing) {
        if let Some(item) = self.items.remove(digest) {
            self.conclude(item, why);
        }
    }

    /// What is not found by now is missing.
    pub(super) fn give_up(&mut self, why: Missing) {
        for item in std::mem::take(&mut self.items).into_values() {
            self.conclude(item, why);
        }
    }

    /// Of what was not found, what may do is handed on.
    fn conclude(&mut self, item: Item, why: Missing) {
        let why = item.missing(why);
        let Item { wanted, others, .. } = item;
        if others.is_empty() {
            self.missing.insert(wanted.digest, why);
        } else {
            self.found.insert(wanted.digest, others);
        }
    }

    /// Begins the next round for what has rested.
    pub(super) fn wake(&mut self, now: Moment) {
        if self.next_wake.is_none_or(|next| now < next) {
            return;
        }
        let mut next = None;
        for item in self.items.values_mut() {
            match item.state {
                State::Rests(until) if until <= now => {
                    item.state = State::Idle;
                    item.asked.clear();
                    self.has_idle = true;
                }
                State::Rests(until) => {
                    next = Some(next.map_or(until, |next: Moment| next.min(until)));
                }
                _ => {}
            }
        }
        self.next_wake = next;
    }

    /// There is room for another request.
    pub(super) fn resume(&mut self) {
        if !std::mem::take(&mut self.has_waiting) {
            return;
        }
        self.has_idle = true;
        for item in self.items.values_mut() {
            if item.state == State::Waits {
                item.state = State::Idle;
            }
        }
    }

    /// What was asked under this nonce and did not come is asked of others.
    pub(super) fn release(&mut self, nonce: u64) {
        for item in self.items.values_mut() {
            if item.state == State::Asked(nonce) {
                item.state = State::Idle;
                self.has_idle = true;
            }
        }
    }

    /// Takes an element of the answer of a peer that was asked under this nonce. At most `room`
    /// bytes can be kept.
    pub(super) fn take(
        &mut self,
        from: PkiId,
        nonce: u64,
        element: PrivateElement,
        room: usize,
    ) -> Verdict {
        let PrivateElement { digest, payloads } = element;
        let asked = self.items.get_mut(&digest);
        let Some(item) = asked.filter(|item| item.state == State::Asked(nonce)) else {
            if self.found.contains_key(&digest) || self.missing.contains_key(&digest) {
                // It was asked for, and what becomes of it is decided.
                return Verdict::Empty;
            }
            return Verdict::Wrong("it gives what it was not asked for".to_owned());
        };
        let wanted = &item.wanted;
        let right = payloads.iter().find(|p| p.hash == wanted.hash);
        // Of what nobody purged, nothing is no answer rather than a wrong one.
        let other = payloads.first();
        let other = other.filter(|other| wanted.may_differ || !other.bytes.is_empty());
        let payload = match (right, other) {
            (Some(right), _) => right,
            (None, None) => return Verdict::Empty,
            (None, Some(other)) if wanted.may_differ => other,
            (None, Some(_)) => {
                item.wrong.insert(from);
                if item.wrong.len() >= WRONG_MAX {
                    self.decide(&digest, Missing::Differs);
                }
                return Verdict::Wrong("the hash of what it gives is another".to_owned());
            }
        };
        let bytes = payload.bytes.len();
        let found = Found {
            payload: payload.bytes.clone(),
            from,
            is_verified: payload.hash == wanted.hash,
            digest,
        };
        if !found.is_verified {
            return self.keep_other(found, room);
        }
        let freed: usize = item.others.iter().map(|other| other.payload.len()).sum();
        if bytes > room {
            self.decide(&found.digest, Missing::NoRoom);
            return Verdict::NoRoom;
        }
        self.bytes = self.bytes.saturating_sub(freed) + bytes;
        self.items.remove(&found.digest);
        self.found.insert(found.digest.clone(), vec![found]);
        Verdict::Found { is_verified: true }
    }

    /// Keeps what may do, until it is known that nobody gives what was wanted.
    fn keep_other(&mut self, found: Found, room: usize) -> Verdict {
        let Some(item) = self.items.get_mut(&found.digest) else {
            return Verdict::Empty;
        };
        let is_known = |other: &Found| other.from == found.from || other.payload == found.payload;
        if item.others.len() >= OTHERS_MAX || item.others.iter().any(is_known) {
            return Verdict::Empty;
        }
        if found.payload.len() > room {
            return Verdict::NoRoom;
        }
        self.bytes += found.payload.len();
        item.others.push(found);
        Verdict::Found { is_verified: false }
    }
}

impl Item {
    /// Who was never asked for cannot be said not to have it, and what somebody gave cannot be said
    /// not to have been asked for.
    fn missing(&self, why: Missing) -> Missing {
        match why {
            Missing::NotFound if !self.wrong.is_empty() => Missing::Differs,
            Missing::NotFound if !self.was_asked => Missing::NotAsked,
            Missing::Expired if self.was_asked => Missing::NotFound,
            why => why,
        }
    }
}
