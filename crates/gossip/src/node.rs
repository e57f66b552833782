//! All components of the protocol as one machine.
//!
//! The node decides nothing about the protocol that a component could: it turns inputs into the
//! inputs of components, hands the effects of one to the next until nothing is left, and gives
//! the rest to its owner. Its own are only three things: which channel a message belongs to, what
//! happens to messages of channels we are not in, and the order of it all.
//!
//! Promises: every effect stands behind those that it builds on; an input that makes no sense is
//! dropped with a notice, whoever it came from.

mod intake;
mod settle;
mod strangers;

use std::{collections::VecDeque, sync::Arc};

use crate::{
    Effect, Input,
    ack::Acks,
    config::{Config, Me},
    discovery::{Discovery, Member},
    id::{Moment, PkiId},
    identity::Identities,
    message::PeerIdentity,
    ports::Ports,
    view::View,
};
use settle::Work;
use strangers::Strangers;

/// One peer's part of the gossip protocol.
#[derive(Debug)]
pub struct Node<P> {
    me: Me,
    ports: P,
    identities: Identities,
    discovery: Discovery,
    acks: Acks,
    strangers: Strangers,
    /// What is left to do for the input at hand; empty between inputs.
    work: VecDeque<Work>,
}

impl<P: Ports> Node<P> {
    /// Starts with an empty memory. `seed` feeds every random choice.
    pub fn new(me: Me, config: Config, ports: P, seed: [u8; 32]) -> Self {
        Self {
            identities: Identities::new(&me, &config, &ports, &seed),
            discovery: Discovery::new(&me, &config, &seed),
            acks: Acks::new(&seed),
            strangers: Strangers::new(&config),
            work: VecDeque::new(),
            me,
            ports,
        }
    }

    /// Feeds one input. Effects are appended in the order in which they must be done.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        self.take_in(now, input, out);
        self.settle(now, out);
    }

    /// Does what has fallen due by `now`. Harmless when called early.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.tick_components(now, out);
        self.settle(now, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        [
            self.identities.deadline(),
            self.discovery.deadline(),
            self.acks.deadline(),
            self.strangers.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The ports.
    pub fn ports(&self) -> &P {
        &self.ports
    }

    /// Who we are.
    pub fn me(&self) -> &Me {
        &self.me
    }

    /// Members that are alive, ourselves left out, in order of their PKI-IDs.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.discovery.alive()
    }

    /// Members that fell silent.
    pub fn dead_members(&self) -> impl Iterator<Item = &Member> {
        self.discovery.dead()
    }

    /// The identity of a peer, if it is known and was not dropped.
    pub fn identity(&self, peer: &PkiId) -> Option<&Arc<PeerIdentity>> {
        self.identities.identity(peer)
    }

    fn view(&self) -> View<'_> {
        View {
            me: &self.me,
            identities: &self.identities,
            discovery: &self.discovery,
        }
    }
}
