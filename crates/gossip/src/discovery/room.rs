//! Who is let in when there are as many members as can be, or as many of one organization.
//!
//! Promises: no other organization can keep newcomers of ours out.

use std::collections::BTreeMap;

use super::{Discovery, Effect, HEARD_MAX, Member, World, members::FOREIGN_MAX};
use crate::{
    config::Me,
    id::{OrgId, PkiId},
    identity::Identities,
    message::Alive,
    ports::Ports,
};

impl Discovery {
    /// Whether there is room for the speaker among the members. One of our own organization
    /// takes the place of the member of another that has been silent for longest, if need be.
    pub(super) fn makes_room(
        &mut self,
        world: &World<'_, impl Ports>,
        about: &Alive,
        out: &mut Vec<Effect>,
    ) -> bool {
        if self.members.get(&about.peer).is_some() {
            return true;
        }
        let (own, org) = (&world.me.identity.org, &about.identity.org);
        if org != own {
            return !self.members.is_full() && self.members.of_org(org) < FOREIGN_MAX;
        }
        if !self.members.is_full() {
            return true;
        }
        let [dead, alive] = [self.members.dead(), self.members.alive()];
        let Some(peer) = longest_silent(dead, own).or_else(|| longest_silent(alive, own)) else {
            return false;
        };
        self.bury(peer, out);
        self.erase(world, peer, out);
        true
    }

    /// Whether there is room to remember that the speaker was heard. For one of our own
    /// organization what was heard first of others is forgotten, if need be.
    pub(super) fn has_room_to_hear(
        &mut self,
        me: &Me,
        about: &Alive,
        identities: &Identities,
    ) -> bool {
        if self.heard.len() < HEARD_MAX || self.heard.get(&about.peer).is_some() {
            return true;
        }
        let own = &me.identity.org;
        if about.identity.org != *own {
            return false;
        }
        let is_foreign = |peer: &&PkiId| identities.org_of(peer) != Some(own);
        let first = self.heard.by_age(..).into_iter().find(is_foreign).copied();
        first.is_some_and(|peer| self.heard.remove(&peer).is_some())
    }
}

fn longest_silent(members: &BTreeMap<PkiId, Member>, own: &OrgId) -> Option<PkiId> {
    let foreign = members.values().filter(|member| member.org != *own);
    foreign
        .min_by_key(|member| member.last_seen)
        .map(|member| member.peer)
}
