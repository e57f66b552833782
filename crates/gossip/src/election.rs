//! Who pulls blocks for the organization on a channel, where nobody was appointed.
//!
//! Peers of one organization propose themselves; the lowest PKI-ID among those that do declares
//! itself and goes on declaring. Whoever hears declarations follows; whoever hears none for a
//! while proposes itself. Promises: of two leaders that hear each other the higher steps down
//! with the first declaration that arrives; a leader that others can hear is left in peace. Knows
//! nothing of signatures, orderers or who is alive: it is told only what living members of the
//! own organization on the channel said.
//!
//! The timers and the order of steps are those of Go peers, because an election is shared with
//! them. Rules: docs/protocol/election.md.

use std::{collections::BTreeSet, time::Duration};

use tidings_proto::gossip::{
    Envelope, LeadershipMessage, PeerTime as WireTime,
    gossip_message::{Content, Tag},
};

use crate::{
    config::{ElectionConfig, Me},
    id::{ChannelId, Moment, PkiId},
    message::Leadership,
    ports::Ports,
    wire,
};

/// A leader answers the declarations of others at most this often (G-E7).
pub const ANSWER_INTERVAL: Duration = Duration::from_millis(100);

/// For how many times the leader's silence a peer that gave up leading does not propose itself.
const YIELD_FACTOR: u32 = 6;

/// Proposals remembered: as many as speakers are heard on a channel. The lowest are kept, as one
/// that is lower than ours is all that matters.
pub const PROPOSALS_MAX: usize = 1000;

/// What the election is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// We are in the channel from now on. Means nothing to who is.
    Join,
    /// We left the channel: nothing is said or heard until we join again.
    Leave,
    /// A living member of our organization on the channel spoke.
    Heard(Leadership),
    /// We cannot reach the orderers: let another lead.
    Yield,
}

/// What the election wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell every member of our organization on the channel.
    Say(Envelope),
    /// Pull blocks from now on, or stop.
    Lead(bool),
    /// This peer leads us from now on.
    Follow(PkiId),
}

/// The election of one channel, as one peer sees it.
#[derive(Debug)]
pub struct Election {
    me: PkiId,
    channel: ChannelId,
    config: ElectionConfig,
    incarnation: u64,
    /// Of the last message that we made, of either kind (G-E3).
    sequence: u64,
    /// A declaration was heard since we last began to follow.
    leader_exists: bool,
    /// Whom we follow, and when it last declared itself.
    leader: Option<(PkiId, Moment)>,
    yielding_until: Option<Moment>,
    /// Heard since we last began to follow.
    proposals: BTreeSet<PkiId>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Not in the channel.
    Out,
    /// Waiting until the number of members no longer changes.
    Sampling {
        until: Moment,
        next: Moment,
        seen: Option<usize>,
    },
    /// Proposed ourselves; waiting for better proposals and for declarations.
    Proposing { until: Moment },
    /// Declaring ourselves again and again.
    Leading { next: Moment, said: Moment },
    /// Listening for declarations.
    Following { until: Moment },
}

impl Election {
    /// Begins outside of the channel.
    pub fn new(channel: ChannelId, me: &Me, config: &ElectionConfig) -> Self {
        Self {
            me: me.identity.pki_id,
            channel,
            config: config.clone(),
            incarnation: me.incarnation_ns,
            sequence: 0,
            leader_exists: false,
            leader: None,
            yielding_until: None,
            proposals: BTreeSet::new(),
            phase: Phase::Out,
        }
    }

    /// Whether this peer leads.
    pub fn is_leading(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// Who leads as far as this peer knows: itself, or whom it has heard declare itself lately.
    pub fn leader(&self, now: Moment) -> Option<PkiId> {
        if self.is_leading() {
            return Some(self.me);
        }
        let (leader, at) = self.leader?;
        (now.since(at) < self.config.leader_alive_threshold).then_some(leader)
    }

    /// Feeds one input.
    pub fn handle(&mut self, now: Moment, input: Input, ports: &impl Ports, out: &mut Vec<Effect>) {
        match input {
            Input::Join => self.join(now),
            Input::Leave => self.leave(out),
            // What we said ourselves may come back.
            Input::Heard(message) if self.phase == Phase::Out || message.peer == self.me => {}
            Input::Heard(message) if message.is_declaration => {
                self.hear_leader(now, message.peer, ports, out);
            }
            Input::Heard(message) => self.hear_candidate(message.peer),
            Input::Yield if self.is_leading() => {
                self.leader = None;
                let silence = self.config.leader_alive_threshold;
                self.yielding_until = Some(now + silence.saturating_mul(YIELD_FACTOR));
                out.push(Effect::Lead(false));
                self.follow(now);
            }
            Input::Yield => {}
        }
    }

    /// Does what has fallen due. `members` counts the living members of our organization on the
    /// channel, ourselves left out; it is only called while that decides something.
    pub fn tick(
        &mut self,
        now: Moment,
        members: impl FnOnce() -> usize,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        match self.phase {
            Phase::Sampling { until, next, seen } if next <= now => {
                let count = Some(members());
                if seen == count || until <= now {
                    self.begin(now, ports, out);
                } else {
                    let next = now + self.config.membership_sample_interval;
                    self.phase = Phase::Sampling {
                        until,
                        next,
                        seen: count,
                    };
                }
            }
            Phase::Proposing { until } if until <= now => self.conclude(now, ports, out),
            Phase::Leading { next, .. } if next <= now => self.declare(now, ports, out),
            Phase::Following { until } if until <= now => self.begin(now, ports, out),
            _ => {}
        }
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Out => None,
            Phase::Sampling { next, .. } | Phase::Leading { next, .. } => Some(next),
            Phase::Proposing { until } | Phase::Following { until } => Some(until),
        }
    }

    fn join(&mut self, now: Moment) {
        if self.phase == Phase::Out {
            self.phase = Phase::Sampling {
                until: now + self.config.startup_grace_period,
                next: now,
                seen: None,
            };
        }
    }

    /// Nobody is told: there is no message for it, and others notice by the silence.
    fn leave(&mut self, out: &mut Vec<Effect>) {
        if self.is_leading() {
            out.push(Effect::Lead(false));
        }
        self.leader_exists = false;
        self.leader = None;
        self.yielding_until = None;
        self.proposals.clear();
        self.phase = Phase::Out;
    }

    fn hear_candidate(&mut self, peer: PkiId) {
        self.proposals.insert(peer);
        if self.proposals.len() > PROPOSALS_MAX {
            self.proposals.pop_last();
        }
    }

    fn hear_leader(&mut self, now: Moment, from: PkiId, ports: &impl Ports, out: &mut Vec<Effect>) {
        self.leader_exists = true;
        match self.phase {
            Phase::Out | Phase::Following { .. } => {}
            Phase::Sampling { .. } => self.begin(now, ports, out),
            Phase::Proposing { .. } => self.conclude(now, ports, out),
            // If we answered instead, a Go leader and we would do so without end (G-E1).
            Phase::Leading { .. } if from < self.me => {
                out.push(Effect::Lead(false));
                self.follow(now);
            }
            // The other one is to hear of us soon, but not for every word of its.
            Phase::Leading { next, said } => {
                let next = next.min(said + ANSWER_INTERVAL);
                self.phase = Phase::Leading { next, said };
            }
        }
        if !matches!(self.phase, Phase::Out | Phase::Leading { .. }) {
            self.follow_whom(now, from, out);
        }
    }

    /// Of two that declare themselves the higher one is about to step down.
    fn follow_whom(&mut self, now: Moment, from: PkiId, out: &mut Vec<Effect>) {
        let is_heard = |at: Moment| now.since(at) < self.config.leader_alive_threshold;
        match self.leader {
            Some((leader, at)) if leader < from && is_heard(at) => {}
            Some((leader, _)) if leader == from => self.leader = Some((from, now)),
            _ => {
                self.leader = Some((from, now));
                out.push(Effect::Follow(from));
            }
        }
    }

    /// Proposes ourselves if nobody leads.
    fn begin(&mut self, now: Moment, ports: &impl Ports, out: &mut Vec<Effect>) {
        let yields = self.yielding_until.is_some_and(|until| now < until);
        if self.leader_exists || !yields {
            self.yielding_until = None;
        }
        if self.leader_exists || yields {
            self.follow(now);
        } else {
            self.say(false, ports, out);
            let until = now + self.config.leader_election_duration;
            self.phase = Phase::Proposing { until };
        }
    }

    fn conclude(&mut self, now: Moment, ports: &impl Ports, out: &mut Vec<Effect>) {
        let lowest = self.proposals.first();
        if self.leader_exists || lowest.is_some_and(|lowest| *lowest < self.me) {
            self.follow(now);
        } else {
            self.leader = None;
            out.push(Effect::Lead(true));
            self.declare(now, ports, out);
        }
    }

    fn declare(&mut self, now: Moment, ports: &impl Ports, out: &mut Vec<Effect>) {
        self.say(true, ports, out);
        let next = now + self.config.leader_alive_threshold / 2;
        self.phase = Phase::Leading { next, said: now };
    }

    fn follow(&mut self, now: Moment) {
        self.proposals.clear();
        self.leader_exists = false;
        let until = now + self.config.leader_alive_threshold;
        self.phase = Phase::Following { until };
    }

    fn say(&mut self, is_declaration: bool, ports: &impl Ports, out: &mut Vec<Effect>) {
        self.sequence = self.sequence.saturating_add(1);
        let content = Content::LeadershipMsg(LeadershipMessage {
            pki_id: self.me.as_bytes().to_vec().into(),
            timestamp: Some(WireTime {
                inc_num: self.incarnation,
                seq_num: self.sequence,
            }),
            is_declaration,
        });
        let message = wire::gossip_message(0, Some(&self.channel), Tag::ChanAndOrg, content);
        out.push(Effect::Say(wire::signed(ports, &message)));
    }
}

#[cfg(test)]
mod tests;
