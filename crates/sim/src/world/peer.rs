//! One peer: what outlives its process, and the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;
use sha2::{Digest, Sha256};
use tidings_gossip::{
    Config, Input, JoinChannel, Me, Node, PeerIdentity,
    id::{ChannelId, Moment, OrgId, Ticket},
};
use tidings_proto::gossip::Envelope;

use super::{EPOCH_SECS, Life, Org, World, ledger::Ledger, private::Vault};
use crate::{
    toy::{self, ToyPorts, ToyVerifier},
    watch::{Person, Violation},
};

/// Certificates end so many seconds after the start of the world unless a scenario says
/// otherwise: ten years.
const VALIDITY_SECS: u64 = 315_360_000;

/// A machine with a disk.
pub(super) struct Host {
    pub(super) identity: Arc<PeerIdentity>,
    pub(super) endpoint: String,
    pub(super) external_endpoint: String,
    pub(super) ledger: Ledger,
    pub(super) vault: Vault,
    pub(super) incarnation: u32,
    pub(super) body: Option<Body>,
    pub(super) lies: bool,
    config: Config,
    /// Nanoseconds that its wall clock shows at the start of the world.
    clock_ns: u64,
}

/// A running process.
pub(super) struct Body {
    pub(super) node: Node<ToyPorts>,
    pub(super) verifier: ToyVerifier,
    pub(super) handshake: Envelope,
    pub(super) born: Duration,
    pub(super) wake_at: Option<Duration>,
    pub(super) wakes_now: u32,
    pub(super) acknowledged: BTreeMap<Ticket, Result<usize, String>>,
    last_wake: Duration,
}

impl Host {
    pub(super) fn life(&self, peer: usize) -> Life {
        Life {
            peer,
            incarnation: self.incarnation,
        }
    }

    /// What its wall clock shows.
    pub(super) fn wall_secs(&self, now: Duration) -> i64 {
        let since = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let ns = self.clock_ns.saturating_add(since);
        i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX)
    }

    /// What its core believes, for a report.
    pub(super) fn belief(&self) -> String {
        let Some(body) = &self.body else {
            return "no process".to_owned();
        };
        let alive: Vec<_> = body.node.members().map(|m| m.peer.to_string()).collect();
        format!("alive {alive:?}")
    }
}

impl Body {
    pub(super) fn moment(&self, now: Duration) -> Moment {
        Moment::after_start(now.saturating_sub(self.born))
    }

    pub(super) fn count_wake(&mut self, now: Duration) {
        if self.last_wake == now {
            self.wakes_now += 1;
        } else {
            self.last_wake = now;
            self.wakes_now = 0;
        }
    }
}

impl World {
    /// Makes everything that was described. Peers start in the first second.
    pub(super) fn start(&mut self) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        self.cut_block();
        for org in self.orgs.clone() {
            self.make_org(&org);
        }
        let mut turn = Duration::ZERO;
        for peer in 0..self.hosts.len() {
            let at = match self.settings.start_interval {
                Some(interval) => {
                    turn += interval;
                    turn
                }
                None => self.between(Duration::ZERO..crate::secs(1)),
            };
            self.plan(at, super::Event::Boot(peer));
        }
    }

    fn make_org(&mut self, org: &Org) {
        let first = self.hosts.len();
        let elects = self.settings.config.use_leader_election;
        let endpoint = |peer: usize| format!("peer{peer}.{}:7051", org.id);
        let bootstrap: Vec<_> = (first..first + self.settings.bootstrap.min(org.peers))
            .map(endpoint)
            .collect();
        for peer in first..first + org.peers {
            let visible = !self.settings.hidden.contains(&peer);
            let config = Config {
                bootstrap: bootstrap.clone(),
                org_leader: !elects && peer < first + self.settings.leaders,
                stripe: self.settings.config.stripe && !self.settings.plain.contains(&peer),
                ..self.settings.config.clone()
            };
            let validity = match self.settings.expiring.get(&peer) {
                Some(at) => at.as_secs(),
                None => VALIDITY_SECS,
            };
            let expires_at = i64::try_from(EPOCH_SECS + validity).unwrap_or(i64::MAX);
            let identity = toy::identity(&org.id, &format!("peer{peer}"), expires_at);
            let person = Person {
                org: org.id.clone(),
                visible,
            };
            self.register.insert(identity.pki_id, person);
            self.by_pki_id.insert(identity.pki_id, peer);
            let genesis = self.orderer.chain().first().cloned();
            let host = Host {
                identity,
                endpoint: endpoint(peer),
                external_endpoint: if visible {
                    external(peer)
                } else {
                    String::new()
                },
                ledger: Ledger::with_genesis(genesis.expect("the genesis block is cut first")),
                vault: Vault::default(),
                incarnation: 0,
                body: None,
                lies: false,
                config,
                clock_ns: self.skewed_clock(),
            };
            self.hosts.push(host);
        }
    }

    fn skewed_clock(&mut self) -> u64 {
        let max = u64::try_from(self.settings.clock_skew.as_nanos()).unwrap_or(u64::MAX);
        let shift = self.rng.random_range(0..=max.saturating_mul(2));
        EPOCH_SECS * 1_000_000_000 - max + shift
    }

    /// The anchor peers of every organization, as the channel configuration names them.
    fn join_message(&self) -> JoinChannel {
        let mut first = 0;
        let mut members = BTreeMap::new();
        for org in &self.orgs {
            let anchors = (first..first + self.settings.anchors.min(org.peers))
                .filter(|peer| !self.settings.hidden.contains(peer))
                .map(external)
                .collect();
            members.insert(org.id.clone(), anchors);
            first += org.peers;
        }
        JoinChannel {
            sequence: 1,
            members,
        }
    }

    /// Starts a process on what its disk holds.
    pub(super) fn boot(&mut self, peer: usize) {
        let (now, seed) = (self.now, self.seed);
        let collections = self.settings.collections.clone();
        let orgs: BTreeSet<OrgId> = self.orgs.iter().map(|org| org.id.clone()).collect();
        let Some(host) = self.hosts.get_mut(peer) else {
            return;
        };
        if host.body.is_some() {
            return;
        }
        host.incarnation += 1;
        let life = host.life(peer);
        let since = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let me = Me {
            identity: Arc::clone(&host.identity),
            endpoint: host.endpoint.clone(),
            external_endpoint: host.external_endpoint.clone(),
            started_at_ns: host.clock_ns + since,
            incarnation_ns: host.clock_ns + since,
            metadata: Default::default(),
        };
        let ports = ToyPorts::new(Arc::clone(&host.identity), orgs.clone(), collections);
        let mut verifier = ToyVerifier::new(orgs);
        self.revoked.iter().for_each(|peer| verifier.revoke(*peer));
        verifier.learn(&host.identity);
        host.body = Some(Body {
            node: Node::new(me, host.config.clone(), ports, node_seed(seed, life)),
            verifier,
            handshake: toy::handshake(&host.identity),
            born: now,
            wake_at: None,
            wakes_now: 0,
            last_wake: now,
            acknowledged: BTreeMap::new(),
        });
        let height = host.ledger.height();
        let (channel, join) = (self.settings.channel.clone(), self.join_message());
        self.join(life, channel, &join, height);
        for idle in 0..self.settings.idle_channels {
            let channel = ChannelId::from(format!("idle{idle}").as_str());
            self.join(life, channel, &join, 1);
        }
        self.introduce_orderers(life);
    }

    fn join(&mut self, life: Life, channel: ChannelId, join: &JoinChannel, height: u64) {
        let join = join.clone();
        let input = Input::Join {
            channel,
            join,
            height,
        };
        self.give(life, input);
    }

    /// The old name leads nowhere from now on: whoever dials it meets the new one.
    pub(super) fn renew_now(&mut self, peer: usize) {
        let Some(host) = self.hosts.get_mut(peer) else {
            return;
        };
        let (org, old) = (host.identity.org.clone(), host.identity.pki_id);
        let name = format!("peer{peer} after {}", host.incarnation);
        host.identity = toy::identity(&org, &name, host.identity.expires_at);
        let visible = !host.external_endpoint.is_empty();
        let new = host.identity.pki_id;
        self.register.insert(new, Person { org, visible });
        self.by_pki_id.remove(&old);
        self.by_pki_id.insert(new, peer);
    }

    pub(super) fn revoke_now(&mut self, peer: usize) {
        let Some(revoked) = self.pki_id(peer) else {
            return;
        };
        self.revoked.insert(revoked);
        for peer in 0..self.hosts.len() {
            let Some(host) = self.hosts.get_mut(peer) else {
                continue;
            };
            let life = host.life(peer);
            if let Some(body) = &mut host.body {
                body.verifier.revoke(revoked);
                self.give(life, Input::Revoked(revoked));
            }
        }
    }

    /// Ends a process at once; its streams break, what was not on disk is lost.
    pub(super) fn kill(&mut self, peer: usize) {
        let Some(host) = self.hosts.get_mut(peer) else {
            return;
        };
        let life = host.life(peer);
        if host.body.take().is_none() {
            let what = format!("peer {peer} is planned to crash while down");
            self.violate(Violation::new("scenario", what));
            return;
        }
        host.ledger.lose_what_waits();
        self.orderer.lose_streams(life);
        self.drop_links_of(life);
        self.note_leader(life);
    }
}

fn external(peer: usize) -> String {
    format!("public{peer}.example.org:7051")
}

fn node_seed(seed: u64, life: Life) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(life.peer.to_le_bytes());
    hasher.update(life.incarnation.to_le_bytes());
    hasher.finalize().into()
}
