//! All components of the protocol as one machine.
//!
//! The node decides nothing about the protocol that a component could: it turns inputs into the
//! inputs of components, hands the effects of one on to the next until nothing is left, and gives
//! the rest to its owner. Its own are only three things: which channel a message belongs to, what
//! becomes of messages of channels that we are not in, and the order of it all.
//!
//! Promises: effects come in the order in which they must be done; an input that makes no sense
//! is dropped with a notice, whoever it came from; one input costs a bounded amount of work.

mod intake;
mod private;
mod settle;
mod strangers;
mod stripes;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    Effect, Input,
    ack::Acks,
    channel::{Channel, ChannelPeer},
    config::{Config, Me},
    delivery::Delivery,
    discovery::{Discovery, Member},
    election::Election,
    emitter::Emitter,
    id::{ChannelId, ConnectionId, Moment, PkiId, Ticket},
    identity::Identities,
    message::{PeerIdentity, StateInfo},
    ports::Ports,
    privdata::{self, PrivData, distribute::Distributor},
    router::Router,
    transfer::{Progress, Transfer},
    view::View,
};
pub use intake::unnamed;
use private::Job;
use settle::Work;
use strangers::Strangers;
use stripes::Stripes;

/// Channels that a node joins. An operator's decision, not a remote one; a peer that is in more
/// than this has other troubles first.
pub const CHANNELS_MAX: usize = 1000;

/// Number of the first ticket that the node itself gives out; below are those of components.
const FIRST_TICKET: u64 = 1 << 63;

/// How much a node remembers. Everything here is bounded, and most by the number of peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Known identities, the own one included.
    pub identities: usize,
    /// Members, alive and dead.
    pub members: usize,
    /// State infos of channels that we are not in.
    pub strangers: usize,
    /// State infos, over all channels.
    pub state_infos: usize,
    /// Blocks kept for others, over all channels.
    pub blocks_held: usize,
    /// Blocks that wait for a predecessor or for the committer, over all channels.
    pub blocks_waiting: usize,
    /// Messages that wait to be spread.
    pub messages_waiting: usize,
    /// Requests that are being answered.
    pub serving: usize,
    /// What is under way of private data, over all channels.
    pub private: privdata::Sizes,
    /// Private write sets of our own that are being handed out.
    pub distributions: usize,
}

/// One peer's part of the gossip protocol.
#[derive(Debug)]
pub struct Node<P> {
    me: Me,
    config: Config,
    ports: P,
    seed: [u8; 32],
    identities: Identities,
    discovery: Discovery,
    acks: Acks,
    emitter: Emitter,
    router: Router,
    /// These four have the same keys.
    channels: BTreeMap<ChannelId, Channel>,
    transfers: BTreeMap<ChannelId, Transfer>,
    private: BTreeMap<ChannelId, PrivData>,
    deliveries: BTreeMap<ChannelId, Delivery>,
    /// The same again, where leaders are elected; else none.
    elections: BTreeMap<ChannelId, Election>,
    /// And again, where we take part in stripes.
    stripes: BTreeMap<ChannelId, Stripes>,
    strangers: Strangers,
    distributor: Distributor,
    /// What the owner does for private data; each channel has a bounded number of jobs.
    private_jobs: BTreeMap<Ticket, Job>,
    /// Whose request is being answered; each channel answers a bounded number at a time.
    serving: BTreeMap<Ticket, (ChannelId, ConnectionId)>,
    next_ticket: u64,
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
            emitter: Emitter::new(&config),
            router: Router::new(&config, &seed),
            channels: BTreeMap::new(),
            transfers: BTreeMap::new(),
            private: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            elections: BTreeMap::new(),
            stripes: BTreeMap::new(),
            strangers: Strangers::new(&config),
            distributor: Distributor::new(&config, &seed),
            private_jobs: BTreeMap::new(),
            serving: BTreeMap::new(),
            next_ticket: FIRST_TICKET,
            work: VecDeque::new(),
            me,
            config,
            ports,
            seed,
        }
    }

    /// Feeds one input. Effects are appended in the order in which they must be done.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        self.take_in(now, input, out);
        self.settle(now, out);
    }

    /// Does what has fallen due by `now`. Harmless when called early.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.tick_peers(now, out);
        self.tick_channels(now, out);
        self.tick_stripes(now, out);
        self.tick_private(now, out);
        self.tick_emitter(now, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let channels = self.channels.values().filter_map(Channel::deadline);
        let transfers = self.transfers.values().filter_map(Transfer::deadline);
        let deliveries = self.deliveries.values().filter_map(Delivery::deadline);
        let elections = self.elections.values().filter_map(Election::deadline);
        let private = self.private.values().filter_map(PrivData::deadline);
        let stripes = self.stripes.values().filter_map(Stripes::deadline);
        [
            self.identities.deadline(),
            self.discovery.deadline(),
            self.acks.deadline(),
            self.emitter.deadline(),
            self.strangers.deadline(),
            self.distributor.deadline(),
        ]
        .into_iter()
        .flatten()
        .chain(channels)
        .chain(transfers)
        .chain(deliveries)
        .chain(elections)
        .chain(private)
        .chain(stripes)
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

    /// Members that fell silent, in the same order.
    pub fn dead_members(&self) -> impl Iterator<Item = &Member> {
        self.discovery.dead()
    }

    /// The identity of a peer, if it is known and was not dropped. Our own is.
    pub fn identity(&self, peer: &PkiId) -> Option<&Arc<PeerIdentity>> {
        self.identities.identity(peer)
    }

    /// Everybody known, ourselves included, in order of their PKI-IDs.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<PeerIdentity>> {
        self.identities.iter()
    }

    /// Channels that were joined, those that were left among them.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.channels.keys()
    }

    /// The peers of a channel with what they say about themselves, ourselves left out. None if
    /// the channel is not known or was left.
    pub fn channel_peers(&self, channel: &ChannelId) -> Vec<ChannelPeer<'_>> {
        let channel = self.channels.get(channel);
        channel.map_or_else(Vec::new, |channel| channel.peers(&self.view()))
    }

    /// Number of blocks of a channel that are known to be durable here.
    pub fn height(&self, channel: &ChannelId) -> Option<u64> {
        self.transfers.get(channel).map(Transfer::height)
    }

    /// What is under way of the private data of a channel.
    pub fn private_sizes(&self, channel: &ChannelId) -> Option<privdata::Sizes> {
        self.private.get(channel).map(PrivData::sizes)
    }

    /// Blocks of a channel that wait for a predecessor or for the committer.
    pub fn waiting_blocks(&self, channel: &ChannelId) -> Option<usize> {
        self.transfers.get(channel).map(Transfer::waiting)
    }

    /// How far the filling of a gap in a channel has come, while there is one.
    pub fn catching_up(&self, now: Moment, channel: &ChannelId) -> Option<Progress> {
        self.transfers.get(channel)?.progress(now)
    }

    /// Whether this node pulls blocks of a channel from the ordering service, having been
    /// appointed or elected.
    pub fn is_leading(&self, channel: &ChannelId) -> bool {
        let delivery = self.deliveries.get(channel);
        delivery.is_some_and(Delivery::is_leading)
    }

    /// Who was elected to pull blocks of a channel, as far as is known here. Of one that was
    /// appointed nobody is told.
    pub fn leader(&self, now: Moment, channel: &ChannelId) -> Option<PkiId> {
        self.elections.get(channel)?.leader(now)
    }

    /// The orderer that is asked for blocks of a channel.
    pub fn orderer(&self, channel: &ChannelId) -> Option<&str> {
        self.deliveries.get(channel)?.endpoint()
    }

    /// What we last published about ourselves on a channel.
    pub fn own_state_info(&self, channel: &ChannelId) -> Option<&StateInfo> {
        self.channels.get(channel)?.own_state_info()
    }

    /// How much is remembered.
    pub fn sizes(&self) -> Sizes {
        let channels = || self.channels.values();
        Sizes {
            identities: self.identities.iter().count(),
            members: self.discovery.alive().count() + self.discovery.dead().count(),
            strangers: self.strangers.len(),
            state_infos: channels().map(Channel::state_infos_len).sum(),
            blocks_held: channels().map(Channel::blocks_len).sum(),
            blocks_waiting: self.transfers.values().map(Transfer::waiting).sum(),
            messages_waiting: self.emitter.waiting(),
            serving: self.serving.len(),
            private: self.private.values().map(PrivData::sizes).sum(),
            distributions: self.distributor.waiting(),
        }
    }

    fn view(&self) -> View<'_> {
        View {
            me: &self.me,
            identities: &self.identities,
            discovery: &self.discovery,
        }
    }
}

#[cfg(test)]
mod tests;
