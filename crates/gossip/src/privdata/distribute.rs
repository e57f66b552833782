//! Handing private write sets to other members before their transaction is ordered.
//!
//! Promises: peers are chosen among those that the collection's policy admits, one of each
//! organization before a second of any; nothing is sent unless there are enough of them for every
//! write set; whoever confirms counts, so that one dead peer fails nothing while others are there.
//! Knows nothing of what becomes of the transaction.
//!
//! Rules: docs/protocol/private.md.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use rand::{RngExt, rngs::ChaCha8Rng, seq::SliceRandom};
use tidings_proto::{
    gossip::{
        GossipMessage, PrivateDataMessage, PrivatePayload,
        gossip_message::{Content, Tag},
    },
    protos::CollectionConfigPackage,
};

use crate::{
    ack::{self, Acks},
    channel::Channel,
    config::Config,
    effect::{Destination, Notice},
    id::{ChannelId, Moment, OrgId, PkiId, Ticket},
    input::SendByCriteria,
    ports::{CollectionName, Ports, Terms},
    random,
    view::View,
    wire,
};

/// Distributions that wait for acknowledgements at a time. Each is an endorsement that somebody
/// waits for; further ones fail at once.
pub const DISTRIBUTIONS_MAX: usize = 1024;

/// Write sets in one distribution: collections that one transaction writes to.
pub const SETS_MAX: usize = 256;

/// Private write sets to hand to other members.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Comes back in [`Notice::Distributed`].
    pub ticket: Ticket,
    /// The channel.
    pub channel: ChannelId,
    /// The transaction.
    pub tx_id: String,
    /// Height of our ledger when it was simulated.
    pub sim_height: u64,
    /// What it writes, by collection.
    pub sets: Vec<PrivateSet>,
}

/// What a transaction writes to one collection.
#[derive(Clone, Debug, PartialEq)]
pub struct PrivateSet {
    /// The chaincode.
    pub namespace: String,
    /// The collection.
    pub collection: String,
    /// The serialized `KVRWSet`.
    pub rwset: Bytes,
    /// The definition of just this collection: says who may have it, and goes along.
    pub configs: CollectionConfigPackage,
    /// Peers that must confirm.
    pub required: usize,
    /// Peers to send to, at most.
    pub maximum: usize,
}

/// What happens to distributions.
#[derive(Clone, Debug)]
pub enum Input {
    /// Hand this out.
    Distribute(Distribution),
    /// A peer confirms or rejects something.
    Ack {
        /// Who.
        from: PkiId,
        /// Of which message.
        nonce: u64,
        /// Empty on success.
        error: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer; dial if there is none.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: tidings_proto::gossip::Envelope,
    },
    /// To be known; [`Notice::Distributed`] among it.
    Notify(Notice),
}

/// All distributions of a node.
#[derive(Debug)]
pub struct Distributor {
    timeout: Duration,
    rng: ChaCha8Rng,
    acks: Acks,
    pending: BTreeMap<Ticket, Pending>,
    /// Which distribution each acknowledged send is a part of.
    sends: BTreeMap<Ticket, Ticket>,
    sent: u64,
}

#[derive(Debug)]
struct Pending {
    /// Sends that did not end yet.
    left: usize,
    acks: usize,
    failures: Vec<String>,
}

/// One write set and whom it goes to.
struct Plan {
    message: GossipMessage,
    to: Vec<Destination>,
    required: usize,
}

impl Distributor {
    /// Nothing is under way. `seed` is that of the node.
    pub fn new(config: &Config, seed: &[u8; 32]) -> Self {
        let mut rng = random::generator(seed, "distribution of private data");
        Self {
            timeout: config.pvt_data.push_ack_timeout,
            acks: Acks::new(&rng.random()),
            rng,
            pending: BTreeMap::new(),
            sends: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Feeds one input. `channel` finds a channel that we are in.
    pub fn handle<'a>(
        &mut self,
        now: Moment,
        input: Input,
        channel: impl FnOnce(&ChannelId) -> Option<&'a Channel>,
        view: &View<'_>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        match input {
            Input::Distribute(distribution) => {
                let ticket = distribution.ticket;
                let channel = channel(&distribution.channel);
                let plans = self.plan(distribution, channel, view, ports);
                match plans {
                    Ok(plans) => self.send(now, ticket, plans, out),
                    Err(reason) => out.push(distributed(ticket, Err(reason))),
                }
            }
            Input::Ack { from, nonce, error } => {
                let mut done = Vec::new();
                let ack = ack::Input::Ack { from, nonce, error };
                self.acks.handle(now, ack, &mut done);
                self.after_acks(done, out);
            }
        }
    }

    /// Ends what waited long enough.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let mut done = Vec::new();
        self.acks.tick(now, &mut done);
        self.after_acks(done, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        self.acks.deadline()
    }

    /// Distributions that wait for acknowledgements.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Chooses for every write set before anything is sent.
    fn plan(
        &mut self,
        distribution: Distribution,
        channel: Option<&Channel>,
        view: &View<'_>,
        ports: &impl Ports,
    ) -> Result<Vec<Plan>, String> {
        let Distribution {
            ticket,
            channel: id,
            tx_id,
            sim_height,
            sets,
        } = distribution;
        let channel = channel.filter(|channel| !channel.has_left());
        let channel = channel.ok_or_else(|| format!("we are not in {id}"))?;
        if self.pending.contains_key(&ticket) {
            return Err(format!("{ticket:?} is being distributed already"));
        }
        if self.pending.len() >= DISTRIBUTIONS_MAX {
            return Err("too many distributions wait for acknowledgements".to_owned());
        }
        if sets.len() > SETS_MAX {
            return Err(format!("{} write sets, of at most {SETS_MAX}", sets.len()));
        }
        let plan = |set: PrivateSet| {
            let to = self.choose(&set, channel, view, ports)?;
            let required = set.required;
            let message = message(&id, &tx_id, sim_height, set);
            Ok(Plan {
                message,
                to,
                required,
            })
        };
        sets.into_iter().map(plan).collect()
    }

    /// One of each organization, in random order, then others.
    fn choose(
        &mut self,
        set: &PrivateSet,
        channel: &Channel,
        view: &View<'_>,
        ports: &impl Ports,
    ) -> Result<Vec<Destination>, String> {
        let name = CollectionName {
            namespace: &set.namespace,
            collection: &set.collection,
        };
        let terms = Terms::Given(&set.configs);
        let mut peers = channel.peers(view);
        peers.retain(|peer| ports.is_entitled(channel.id(), name, terms, peer.info));
        let (eligible, required) = (peers.len().min(set.maximum), set.required);
        if eligible < required {
            return Err(format!(
                "{required} peers must have {}/{}, but only {eligible} can be sent to",
                set.namespace, set.collection
            ));
        }
        peers.shuffle(&mut self.rng);
        let mut turns: BTreeMap<&OrgId, usize> = BTreeMap::new();
        let mut ranked: Vec<(usize, Destination)> = Vec::new();
        for peer in &peers {
            let turn = turns.entry(&peer.info.identity.org).or_default();
            // The first of its organization, or any other: among these chance decides.
            ranked.push((*turn, peer.member.destination()));
            *turn = 1;
        }
        ranked.sort_by_key(|(turn, _)| *turn);
        let chosen = ranked.into_iter().take(set.maximum);
        Ok(chosen.map(|(_, to)| to).collect())
    }

    fn send(&mut self, now: Moment, ticket: Ticket, plans: Vec<Plan>, out: &mut Vec<Effect>) {
        let pending = Pending {
            left: plans.len(),
            acks: 0,
            failures: Vec::new(),
        };
        self.pending.insert(ticket, pending);
        let mut done = Vec::new();
        for plan in plans {
            self.sent += 1;
            let send = Ticket(self.sent);
            self.sends.insert(send, ticket);
            let request = SendByCriteria {
                ticket: send,
                message: plan.message,
                timeout: self.timeout,
                min_ack: plan.required,
                max_peers: plan.to.len(),
                channel: None,
                eligible: None,
            };
            let pool = Some(plan.to);
            let input = ack::Input::Send { request, pool };
            self.acks.handle(now, input, &mut done);
        }
        self.after_acks(done, out);
        self.end_if_done(ticket, out);
    }

    fn after_acks(&mut self, done: Vec<ack::Effect>, out: &mut Vec<Effect>) {
        for effect in done {
            match effect {
                ack::Effect::Send { to, envelope } => out.push(Effect::Send { to, envelope }),
                ack::Effect::Acknowledged { ticket, result } => {
                    let Some(of) = self.sends.remove(&ticket) else {
                        continue;
                    };
                    if let Some(pending) = self.pending.get_mut(&of) {
                        pending.left -= 1;
                        match result {
                            Ok(acks) => pending.acks += acks,
                            Err(reason) => pending.failures.push(reason),
                        }
                    }
                    self.end_if_done(of, out);
                }
            }
        }
    }

    fn end_if_done(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        let is_done = |pending: &Pending| pending.left == 0;
        if !self.pending.get(&ticket).is_some_and(is_done) {
            return;
        }
        if let Some(Pending { acks, failures, .. }) = self.pending.remove(&ticket) {
            let result = match failures.as_slice() {
                [] => Ok(acks),
                failures => Err(format!("not distributed: {}", failures.join("; "))),
            };
            out.push(distributed(ticket, result));
        }
    }
}

fn distributed(ticket: Ticket, result: Result<usize, String>) -> Effect {
    Effect::Notify(Notice::Distributed { ticket, result })
}

fn message(channel: &ChannelId, tx_id: &str, sim_height: u64, set: PrivateSet) -> GossipMessage {
    let content = Content::PrivateData(PrivateDataMessage {
        payload: Some(PrivatePayload {
            collection_name: set.collection,
            namespace: set.namespace,
            tx_id: tx_id.to_owned(),
            private_rwset: set.rwset,
            private_sim_height: sim_height,
            collection_configs: Some(set.configs),
        }),
    });
    // The nonce is set when it is sent.
    wire::gossip_message(0, Some(channel), Tag::ChanOnly, content)
}
