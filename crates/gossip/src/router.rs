//! Who gets a message that is to be spread, and what of it they may see.
//!
//! Promises: blocks and leadership stay in the own organization and on their channel; secrets
//! stay in the own organization; nobody is sent what came from them or is about themselves; the
//! bytes that were signed are sent on as they came. Keeps no state but its source of chance.
//!
//! Rules: docs/protocol/dissemination.md.

mod relay;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rand::{RngExt, rngs::ChaCha8Rng};
use tidings_proto::gossip::Envelope;

use crate::{
    channel::Channel,
    config::Config,
    disclosure,
    discovery::Member,
    effect::{Destination, Notice},
    id::{ChannelId, OrgId, PkiId},
    message::RELAY_VERSION,
    random,
    view::View,
};

/// What a spread message is about, as far as its route depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A block of this channel, with its number.
    Block(ChannelId, u64),
    /// Leadership on this channel.
    Leadership(ChannelId),
    /// A peer about itself on a channel.
    StateInfo {
        /// The speaker.
        speaker: PkiId,
        /// The channel, if we are in it.
        channel: Option<ChannelId>,
    },
    /// A sign of life.
    Alive {
        /// The speaker.
        speaker: PkiId,
        /// What it calls its endpoint for other organizations; empty if it has none.
        external_endpoint: String,
    },
}

/// A message that is to be spread.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// What it is about.
    pub subject: Subject,
    /// The message, signed by whoever had to sign it.
    pub envelope: Envelope,
    /// Who sent it to us; none if it is our own.
    pub source: Option<PkiId>,
}

/// What the router wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this there.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// To be known.
    Notify(Notice),
}

/// Chooses peers for messages.
#[derive(Debug)]
pub struct Router {
    fanout: usize,
    /// We keep to the order of those who announce it.
    relays: bool,
    rng: ChaCha8Rng,
}

/// What a choice of peers reads.
#[derive(Clone, Copy)]
struct Known<'a> {
    view: &'a View<'a>,
    channels: &'a BTreeMap<ChannelId, Channel>,
    alive: &'a [&'a Member],
}

impl Router {
    /// `seed` is that of the node.
    pub fn new(config: &Config, seed: &[u8; 32]) -> Self {
        Self {
            fanout: config.propagate_peer_num,
            relays: config.keeps_order(),
            rng: random::generator(seed, "router"),
        }
    }

    /// Routes messages that left the emitter together: first blocks, then leadership, state
    /// infos, what stays in the organization, and the other signs of life.
    pub fn route(
        &mut self,
        batch: Vec<Outgoing>,
        view: &View<'_>,
        channels: &BTreeMap<ChannelId, Channel>,
        out: &mut Vec<Effect>,
    ) {
        let alive: Vec<&Member> = view.discovery.alive().collect();
        let known = Known {
            view,
            channels,
            alive: &alive,
        };
        let mut blocks: BTreeMap<ChannelId, Vec<Outgoing>> = BTreeMap::new();
        let mut leadership: BTreeMap<ChannelId, Vec<Outgoing>> = BTreeMap::new();
        let (mut state_infos, mut own_org, mut signs_of_life) = (vec![], vec![], vec![]);
        for message in batch {
            match &message.subject {
                Subject::Block(channel, _) => {
                    blocks.entry(channel.clone()).or_default().push(message);
                }
                Subject::Leadership(channel) => {
                    leadership.entry(channel.clone()).or_default().push(message);
                }
                Subject::StateInfo { .. } => state_infos.push(message),
                Subject::Alive {
                    speaker,
                    external_endpoint,
                } if external_endpoint.is_empty() && known.is_own(speaker) => own_org.push(message),
                Subject::Alive { .. } => signs_of_life.push(message),
            }
        }
        for (channel, messages) in &blocks {
            if let Some(joined) = joined(channel, messages, known, out) {
                self.blocks(joined, messages, known, out);
            }
        }
        for (channel, messages) in &leadership {
            if let Some(joined) = joined(channel, messages, known, out) {
                let is_eligible = |member: &Member| known.is_eligible(joined, member);
                self.together(alive.len(), messages, known, is_eligible, out);
            }
        }
        for message in &state_infos {
            self.state_info(message, known, out);
        }
        self.together(self.fanout, &own_org, known, |m| known.is_own(&m.peer), out);
        for message in &signs_of_life {
            self.sign_of_life(message, known, out);
        }
    }

    /// Whoever reaches all does. Else members that keep to the order get blocks by that; of the others
    /// so many as if all were like them, and so each as often as among Fabric's peers.
    fn blocks(
        &mut self,
        joined: &Channel,
        messages: &[Outgoing],
        known: Known<'_>,
        out: &mut Vec<Effect>,
    ) {
        let is_eligible = |member: &Member| known.is_eligible(joined, member);
        let chosen = self.select(self.fanout.saturating_add(2), known.alive, is_eligible);
        let row = if self.relays && chosen.len() > self.fanout {
            known.row(joined)
        } else {
            BTreeMap::new()
        };
        let me = known.view.me.identity.pki_id;
        let place = row.range(..me).count();
        for message in messages {
            let to = chosen.iter().filter(|m| !message.concerns(&m.peer));
            let to = to.take(self.fanout).copied();
            let others = to.filter(|m| !row.contains_key(&m.peer));
            out.extend(others.map(|m| send(m, &message.envelope)));
            let Subject::Block(_, number) = message.subject else {
                continue;
            };
            for next in relay::next(place, row.len(), number) {
                let member = row.values().nth(next).copied().flatten();
                let member = member.filter(|member| !message.concerns(&member.peer));
                out.extend(member.map(|m| send(m, &message.envelope)));
            }
        }
    }

    fn state_info(&mut self, message: &Outgoing, known: Known<'_>, out: &mut Vec<Effect>) {
        let Subject::StateInfo { speaker, channel } = &message.subject else {
            return;
        };
        let joined = channel.as_ref().and_then(|id| known.channels.get(id));
        let beyond_own_org = joined.filter(|_| known.has_external_endpoint(speaker));
        let members = self.select(self.fanout, known.alive, |member| {
            !message.concerns(&member.peer)
                && match beyond_own_org {
                    Some(joined) => known
                        .org_of(&member.peer)
                        .is_some_and(|org| joined.has_org(org)),
                    None => known.is_own(&member.peer),
                }
        });
        out.extend(members.into_iter().map(|m| send(m, &message.envelope)));
    }

    fn sign_of_life(&mut self, message: &Outgoing, known: Known<'_>, out: &mut Vec<Effect>) {
        let Subject::Alive { speaker, .. } = &message.subject else {
            return;
        };
        let own = &known.view.me.identity.org;
        let Some(origin) = known.org_of(speaker) else {
            return;
        };
        let members = self.select(self.fanout, known.alive, |member| {
            let org = known.org_of(&member.peer);
            !message.concerns(&member.peer)
                && (origin == own
                    || (org == Some(own) || org == Some(origin)) && !member.endpoint.is_empty())
        });
        out.extend(members.into_iter().map(|member| {
            let org = known.org_of(&member.peer);
            send(member, &disclosure::for_org(own, org, &message.envelope))
        }));
    }

    /// Sends all messages to one choice of peers. Two peers more than needed are chosen, so that
    /// a message whose source or speaker is among them still reaches `count`.
    fn together(
        &mut self,
        count: usize,
        messages: &[Outgoing],
        known: Known<'_>,
        filter: impl Fn(&Member) -> bool,
        out: &mut Vec<Effect>,
    ) {
        if messages.is_empty() {
            return;
        }
        let chosen = self.select(count.saturating_add(2), known.alive, filter);
        for message in messages {
            let to = chosen.iter().filter(|m| !message.concerns(&m.peer));
            out.extend(to.take(count).map(|m| send(m, &message.envelope)));
        }
    }

    /// At most `count` of those that pass, each set of that size as likely as any other. Looks
    /// at no more of them than it must.
    fn select<'m>(
        &mut self,
        count: usize,
        from: &[&'m Member],
        filter: impl Fn(&Member) -> bool,
    ) -> Vec<&'m Member> {
        let mut rest = from.to_vec();
        let mut chosen = Vec::new();
        while chosen.len() < count && !rest.is_empty() {
            let member = rest.swap_remove(self.rng.random_range(0..rest.len()));
            if filter(member) {
                chosen.push(member);
            }
        }
        chosen
    }
}

impl Outgoing {
    /// Whether this peer has the message already, having sent or made it.
    fn concerns(&self, peer: &PkiId) -> bool {
        let speaker = match &self.subject {
            Subject::StateInfo { speaker, .. } | Subject::Alive { speaker, .. } => Some(speaker),
            Subject::Block(..) | Subject::Leadership(_) => None,
        };
        self.source.as_ref() == Some(peer) || speaker == Some(peer)
    }
}

impl<'a> Known<'a> {
    fn org_of(&self, peer: &PkiId) -> Option<&'a OrgId> {
        if *peer == self.view.me.identity.pki_id {
            return Some(&self.view.me.identity.org);
        }
        self.view.identities.org_of(peer)
    }

    /// Whether this member may get what stays in the own organization and on the channel.
    fn is_eligible(&self, joined: &Channel, member: &Member) -> bool {
        self.is_own(&member.peer)
            && joined.is_eligible(&member.peer)
            && self
                .org_of(&member.peer)
                .is_some_and(|org| joined.has_org(org))
    }

    /// Those who pass on blocks in order, by their ids, each with whom to send blocks for it: nobody for
    /// ourselves, and for who has them from an orderer.
    fn row(&self, joined: &Channel) -> BTreeMap<PkiId, Option<&'a Member>> {
        let place = |member: &&'a Member| {
            let said = joined.state_info(&member.peer)?.extension;
            let relays = said.relay == RELAY_VERSION && self.is_eligible(joined, member);
            relays.then_some((member.peer, (!said.supplied).then_some(*member)))
        };
        let members = self.alive.iter().filter_map(place);
        members
            .chain([(self.view.me.identity.pki_id, None)])
            .collect()
    }

    fn is_own(&self, peer: &PkiId) -> bool {
        self.org_of(peer) == Some(&self.view.me.identity.org)
    }

    fn has_external_endpoint(&self, peer: &PkiId) -> bool {
        if *peer == self.view.me.identity.pki_id {
            return !self.view.me.external_endpoint.is_empty();
        }
        let member = self.view.discovery.member(peer);
        member.is_some_and(|member| !member.endpoint.is_empty())
    }
}

/// The channel of these messages.
fn joined<'a>(
    channel: &ChannelId,
    messages: &[Outgoing],
    known: Known<'a>,
    out: &mut Vec<Effect>,
) -> Option<&'a Channel> {
    let joined = known.channels.get(channel);
    if joined.is_none() {
        out.push(Effect::Notify(Notice::Warning(format!(
            "{} messages of channel {channel} were not sent: we are not in it",
            messages.len()
        ))));
    }
    joined
}

fn send(member: &Member, envelope: &Envelope) -> Effect {
    Effect::Send {
        to: Destination {
            peer: member.peer,
            endpoint: member.preferred_endpoint().to_owned(),
        },
        envelope: envelope.clone(),
    }
}
