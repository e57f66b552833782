//! What a scenario says of its world: who is there, how the network is, and what goes wrong when.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use tidings_gossip::{
    Config,
    id::{ChannelId, OrgId},
};

use super::{Event, Org, World};
use crate::{collection::Collections, millis, secs};

/// What a scenario may choose.
pub(super) struct Settings {
    pub(super) channel: ChannelId,
    pub(super) idle_channels: usize,
    pub(super) config: Config,
    pub(super) loss: f64,
    pub(super) duplication: f64,
    pub(super) latency: Range<Duration>,
    pub(super) commit_delay: Range<Duration>,
    pub(super) commit_failures: f64,
    pub(super) clock_skew: Duration,
    pub(super) start_interval: Option<Duration>,
    pub(super) leaders: usize,
    pub(super) anchors: usize,
    pub(super) bootstrap: usize,
    pub(super) hidden: Vec<usize>,
    pub(super) plain: BTreeSet<usize>,
    pub(super) expiring: BTreeMap<usize, Duration>,
    pub(super) block_len: usize,
    pub(super) orderers: usize,
    pub(super) byzantine: bool,
    pub(super) delivery_interval: Duration,
    pub(super) slow: BTreeMap<usize, Range<Duration>>,
    pub(super) collections: Collections,
    pub(super) liars: BTreeSet<usize>,
    pub(super) crash_after_push: Option<(f64, Range<Duration>)>,
}

/// Describing, before anything runs.
impl World {
    /// Adds an organization of so many peers. Peers are numbered through all organizations.
    #[must_use]
    pub fn org(mut self, name: &str, peers: usize) -> Self {
        self.orgs.push(Org {
            id: OrgId::from(name),
            peers,
        });
        self
    }

    /// Adds one organization, when it does not matter which.
    #[must_use]
    pub fn peers(self, peers: usize) -> Self {
        self.org("Org1MSP", peers)
    }

    /// Names the channel that all peers are in.
    #[must_use]
    pub fn channel(mut self, name: &str) -> Self {
        self.settings.channel = ChannelId::from(name);
        self
    }

    /// All peers are in so many channels more, on which nothing ever happens.
    #[must_use]
    pub fn idle_channels(mut self, count: usize) -> Self {
        self.settings.idle_channels = count;
        self
    }

    /// The network loses this share of envelopes.
    #[must_use]
    pub fn loss(mut self, share: f64) -> Self {
        self.settings.loss = share;
        self
    }

    /// The network delivers this share of envelopes twice.
    #[must_use]
    pub fn duplication(mut self, share: f64) -> Self {
        self.settings.duplication = share;
        self
    }

    /// How long an envelope travels; short times are likelier. Envelopes overtake each other.
    #[must_use]
    pub fn latency(mut self, range: Range<Duration>) -> Self {
        self.settings.latency = range;
        self
    }

    /// How long a commit takes.
    #[must_use]
    pub fn commit_delay(mut self, range: Range<Duration>) -> Self {
        self.settings.commit_delay = range;
        self
    }

    /// Committers refuse this share of good blocks.
    #[must_use]
    pub fn commit_failures(mut self, share: f64) -> Self {
        self.settings.commit_failures = share;
        self
    }

    /// Clocks are wrong by up to this much in either direction.
    #[must_use]
    pub fn clock_skew(mut self, max: Duration) -> Self {
        self.settings.clock_skew = max;
        self
    }

    /// Peers start in the order of their numbers, this long after each other. Unless said they
    /// start within a second, in any order.
    #[must_use]
    pub fn one_after_another(mut self, interval: Duration) -> Self {
        self.settings.start_interval = Some(interval);
        self
    }

    /// So many peers of each organization pull blocks from the ordering service; one unless said.
    #[must_use]
    pub fn leaders(mut self, per_org: usize) -> Self {
        self.settings.leaders = per_org;
        self
    }

    /// Each organization elects who pulls blocks; nobody is appointed. That two lead for long is
    /// watched.
    #[must_use]
    pub fn elect(mut self) -> Self {
        self.settings.config.use_leader_election = true;
        self
    }

    /// The first peers of each organization are its anchor peers; one unless said.
    #[must_use]
    pub fn anchors(mut self, per_org: usize) -> Self {
        self.settings.anchors = per_org;
        self
    }

    /// The first peers of each organization are known to the others from the start; one unless
    /// said.
    #[must_use]
    pub fn bootstrap(mut self, per_org: usize) -> Self {
        self.settings.bootstrap = per_org;
        self
    }

    /// These peers have no endpoint for other organizations.
    #[must_use]
    pub fn hidden(mut self, peers: impl IntoIterator<Item = usize>) -> Self {
        self.settings.hidden = peers.into_iter().collect();
        self
    }

    /// The certificate of this peer ends then.
    #[must_use]
    pub fn expires(mut self, peer: usize, at: Duration) -> Self {
        self.settings.expiring.insert(peer, at);
        self
    }

    /// Peers ask others for the blocks they miss.
    #[must_use]
    pub fn state_transfer(mut self, enabled: bool) -> Self {
        self.settings.config.state.enabled = enabled;
        self
    }

    /// The ordering service has so many orderers, some of which may be dishonest; one, which is
    /// honest, unless said. That an honest one is left for withholding blocks is watched.
    #[must_use]
    pub fn byzantine_orderers(mut self, orderers: usize) -> Self {
        self.settings.orderers = orderers;
        self.settings.byzantine = true;
        self
    }

    /// Whoever leads gets a block from its orderer no more often than this, as if large ones had
    /// to pass a thin wire. Headers pass at once.
    #[must_use]
    pub fn delivery_interval(mut self, interval: Duration) -> Self {
        self.settings.delivery_interval = interval;
        self
    }

    /// What this peer sends travels for so long.
    #[must_use]
    pub fn slow(mut self, peer: usize, latency: Range<Duration>) -> Self {
        self.settings.slow.insert(peer, latency);
        self
    }

    /// Blocks go by stripes, but for these peers, which are as Fabric's.
    #[must_use]
    pub fn stripes_without(mut self, plain: impl IntoIterator<Item = usize>) -> Self {
        self.settings.config.stripe = true;
        self.settings.plain.extend(plain);
        self
    }

    /// Changes other settings of all peers.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.settings.config);
        self
    }

    /// Size of the payload of a block.
    #[must_use]
    pub fn block_len(mut self, bytes: usize) -> Self {
        self.settings.block_len = bytes;
        self
    }
}

/// Planning what goes wrong and what is to be done.
impl World {
    /// From then till then, peers of different groups cannot reach each other.
    pub fn partition<const N: usize>(&mut self, groups: [Range<usize>; N], when: Range<Duration>) {
        let name = self.partitions_planned;
        self.partitions_planned += 1;
        self.plan(when.start, Event::Cut(name, groups.to_vec()));
        self.plan(when.end, Event::Heal(name));
    }

    /// The peer is killed at the start and starts again at the end, with its ledger and nothing
    /// else.
    pub fn crash(&mut self, peer: usize, when: Range<Duration>) {
        self.plan(when.start, Event::Crash(peer));
        self.plan(when.end, Event::Boot(peer));
    }

    /// As [`Self::crash`], but the peer comes back under a new certificate.
    pub fn renew(&mut self, peer: usize, when: Range<Duration>) {
        self.plan(when.start, Event::Crash(peer));
        self.plan(when.end, Event::Renew(peer));
        self.plan(when.end, Event::Boot(peer));
    }

    /// From then on the peer claims to have many more blocks than there are, and answers those who
    /// ask it for blocks with what is not there, is not what they asked for, or not at all.
    pub fn lie(&mut self, peer: usize, from: Duration) {
        self.plan(from, Event::Lie(peer));
    }

    /// The ordering service cannot be reached.
    pub fn orderer_down(&mut self, when: Range<Duration>) {
        self.plan(when.start, Event::OrdererDown);
        self.plan(when.end, Event::OrdererUp);
    }

    /// The orderer that gives this peer its blocks at that time keeps back all that are cut from
    /// then till then, from everybody, and shows their headers.
    pub fn withhold_from(&mut self, peer: usize, when: Range<Duration>) {
        self.plan(when.start, Event::Withhold(peer));
        self.plan(when.end, Event::Honest);
    }

    /// Cuts blocks, one every `interval` from `from` on, until the chain has this height, which
    /// counts the genesis block.
    pub fn blocks_from(&mut self, from: Duration, interval: Duration, height: u64) {
        let mut at = from;
        for _ in self.orderer.planned_height()..height {
            self.plan(at, Event::CutBlock);
            at += interval;
        }
        self.orderer.plan_height(height);
    }

    /// Cuts a block every half second from the eighth second on until the chain has this height.
    pub fn blocks(&mut self, height: u64) {
        self.blocks_from(secs(8), millis(500), height);
    }

    /// The identity of this peer is no longer valid for anybody from then on.
    pub fn revoke(&mut self, peer: usize, at: Duration) {
        self.plan(at, Event::Revoke(peer));
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            channel: ChannelId::from("ch"),
            idle_channels: 0,
            config: Config::default(),
            loss: 0.0,
            duplication: 0.0,
            latency: millis(1)..millis(20),
            commit_delay: millis(1)..millis(10),
            commit_failures: 0.0,
            clock_skew: Duration::ZERO,
            start_interval: None,
            leaders: 1,
            anchors: 1,
            bootstrap: 1,
            hidden: Vec::new(),
            plain: BTreeSet::new(),
            expiring: BTreeMap::new(),
            block_len: 200,
            orderers: 1,
            byzantine: false,
            delivery_interval: Duration::ZERO,
            slow: BTreeMap::new(),
            collections: Collections::new(),
            liars: BTreeSet::new(),
            crash_after_push: None,
        }
    }
}
