//! One gathering: what is still missing, and what was found.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{Found, Missing, Wanted},
    ROUND_PAUSE, WRONG_MAX,
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
    found: BTreeMap<PrivateDigest, Found>,
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
    Found { bytes: usize },
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

    pub(super) fn is_done(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn into_parts(self) -> (Vec<Found>, Vec<(PrivateDigest, Missing)>) {
        let found = self.found.into_values().collect();
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
        if !self.repeats {
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
            self.missing.insert(digest.clone(), item.missing(why));
        }
    }

    /// What is not found by now is missing.
    pub(super) fn give_up(&mut self, why: Missing) {
        let items = std::mem::take(&mut self.items);
        let missing = items.into_iter();
        self.missing
            .extend(missing.map(|(digest, item)| (digest, item.missing(why))));
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
        if bytes > room {
            self.decide(&digest, Missing::NoRoom);
            return Verdict::NoRoom;
        }
        let found = Found {
            payload: payload.bytes.clone(),
            from,
            is_verified: payload.hash == wanted.hash,
            digest: digest.clone(),
        };
        self.items.remove(&digest);
        self.found.insert(digest, found);
        Verdict::Found { bytes }
    }
}

impl Item {
    /// Who was never asked for cannot be said not to have it.
    fn missing(&self, why: Missing) -> Missing {
        match why {
            Missing::NotFound if !self.was_asked => Missing::NotAsked,
            why => why,
        }
    }
}
