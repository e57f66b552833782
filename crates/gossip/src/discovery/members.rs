//! The two sets of members and how one message changes them.

use std::{collections::BTreeMap, time::Duration};

use super::Member;
use crate::{
    id::{Moment, OrgId, PkiId},
    message::Alive,
};

/// Members known at a time, alive and dead. At the limit new ones are refused, but those of our
/// own organization take the place of another's.
pub const MEMBERS_MAX: usize = 8192;

/// Members of one other organization: many times what the largest has, and few enough that one
/// certificate authority gone wild leaves room for others.
pub(super) const FOREIGN_MAX: usize = MEMBERS_MAX / 4;

/// Every peer is in one of the sets or in none.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Members of each organization, alive and dead.
    counts: BTreeMap<OrgId, usize>,
    alive: BTreeMap<PkiId, Member>,
    dead: BTreeMap<PkiId, Member>,
}

/// What a message changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was not newer than what we knew.
    Stale,
    /// A member that is alive said something newer.
    Refreshed,
    /// A new member.
    Learned,
    /// A dead member is back.
    Resurrected,
    /// There is no room for another member.
    Full,
}

impl Members {
    /// Takes what a peer says about itself.
    pub(super) fn update(&mut self, now: Moment, message: &Alive) -> Change {
        if let Some(member) = self.alive.get_mut(&message.peer) {
            if message.time <= member.time {
                return Change::Stale;
            }
            refresh(member, now, message);
            return Change::Refreshed;
        }
        match self.dead.remove(&message.peer) {
            Some(member) if message.time <= member.time => {
                self.dead.insert(message.peer, member);
                Change::Stale
            }
            Some(mut member) => {
                refresh(&mut member, now, message);
                self.alive.insert(message.peer, member);
                Change::Resurrected
            }
            None if self.is_full() => Change::Full,
            None => {
                self.count(message);
                self.alive.insert(message.peer, new(now, message));
                Change::Learned
            }
        }
    }

    /// Takes what somebody else says: that this peer is dead. Only news about strangers.
    pub(super) fn learn_dead(&mut self, now: Moment, message: &Alive) {
        if self.get(&message.peer).is_none() && !self.is_full() {
            self.count(message);
            self.dead.insert(message.peer, new(now, message));
        }
    }

    /// Moves a member from alive to dead.
    pub(super) fn bury(&mut self, peer: &PkiId) -> bool {
        let Some(member) = self.alive.remove(peer) else {
            return false;
        };
        self.dead.insert(*peer, member);
        true
    }

    pub(super) fn erase(&mut self, peer: &PkiId) -> Option<Member> {
        let member = self.alive.remove(peer).or_else(|| self.dead.remove(peer))?;
        if let Some(count) = self.counts.get_mut(&member.org) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&member.org);
            }
        }
        Some(member)
    }

    pub(super) fn get(&self, peer: &PkiId) -> Option<&Member> {
        self.alive.get(peer).or_else(|| self.dead.get(peer))
    }

    pub(super) fn alive(&self) -> &BTreeMap<PkiId, Member> {
        &self.alive
    }

    pub(super) fn dead(&self) -> &BTreeMap<PkiId, Member> {
        &self.dead
    }

    /// Members of this organization, alive and dead.
    pub(super) fn of_org(&self, org: &OrgId) -> usize {
        self.counts.get(org).copied().unwrap_or(0)
    }

    pub(super) fn is_full(&self) -> bool {
        self.alive.len() + self.dead.len() >= MEMBERS_MAX
    }

    fn count(&mut self, newcomer: &Alive) {
        let org = newcomer.identity.org.clone();
        *self.counts.entry(org).or_default() += 1;
    }
}

/// Those of a set that were last heard of longer ago than this says of each.
pub(super) fn silent(
    members: &BTreeMap<PkiId, Member>,
    now: Moment,
    longest: impl Fn(&Member) -> Duration,
) -> impl Iterator<Item = &Member> {
    members
        .values()
        .filter(move |member| now.since(member.last_seen) > longest(member))
}

fn new(now: Moment, message: &Alive) -> Member {
    Member {
        peer: message.peer,
        org: message.identity.org.clone(),
        endpoint: message.endpoint.clone(),
        internal_endpoint: message.internal_endpoint.clone().unwrap_or_default(),
        metadata: message.metadata.clone(),
        time: message.time,
        period: message.period,
        envelope: message.envelope.clone(),
        last_seen: now,
    }
}

fn refresh(member: &mut Member, now: Moment, message: &Alive) {
    member.endpoint.clone_from(&message.endpoint);
    if let Some(internal_endpoint) = &message.internal_endpoint {
        member.internal_endpoint.clone_from(internal_endpoint);
    }
    member.metadata = message.metadata.clone();
    member.time = message.time;
    member.period = message.period;
    member.envelope = message.envelope.clone();
    member.last_seen = now;
}
