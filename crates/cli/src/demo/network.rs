//! The nodes of a demo: started from their folders, watched, killed, started again.
//!
//! Promises: what a node commits is reported with the time at which it was durable. Knows how to
//! run nodes; what happens to their blocks, [`super::progress`] keeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use tidings_gossip::id::{ChannelId, PkiId};
use tidings_gossip::{Config, PvtDataConfig, Source, StateConfig};
use tidings_node::service::{DeliverySettings, NodeConfig, RunningNode, Transport};
use tidings_node::tls::TlsSettings;
use tidings_node::validity::ValiditySettings;
use tidings_proto::tag::Kind;
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::material::Member;
use super::progress::{Node, Vitals, Way};
use super::setup::Seat;
use crate::orderer;

/// Commits on their way to the display; nodes wait for nothing when it is full, since each has a
/// task of its own that forwards.
const EVENTS_LEN: usize = 1024;

/// Tries to start a killed node again, until its port and its ledger are free.
const RESTART_TRIES_MAX: usize = 100;
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// The label of bytes in messages of no known kind.
const UNKNOWN_KIND: &str = "Unknown";

/// A node committed a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// Which node.
    pub(crate) node: usize,
    /// The block.
    pub(crate) number: u64,
    /// How it came.
    pub(crate) way: Way,
    /// When it was durable.
    pub(crate) at: Instant,
}

/// All nodes.
pub(crate) struct Network {
    channel: ChannelId,
    genesis: Bytes,
    delivery: DeliverySettings,
    slots: Vec<Slot>,
    events: mpsc::Sender<Event>,
    names: BTreeMap<PkiId, String>,
}

/// A node that runs or could run.
struct Slot {
    member: Member,
    endpoint: String,
    bootstrap: String,
    leader: bool,
    data: PathBuf,
    running: Option<RunningNode>,
    /// Its height when it was killed.
    height: u64,
    /// Bytes of its earlier lives.
    sent: u64,
    received: u64,
}

impl Network {
    /// Starts every node; the first of each organization leads it.
    pub(crate) async fn start(
        dir: &Path,
        channel: &str,
        genesis: Bytes,
        delivery: DeliverySettings,
        seats: Vec<Vec<Seat>>,
    ) -> Result<(Self, mpsc::Receiver<Event>)> {
        let (events, receiver) = mpsc::channel(EVENTS_LEN);
        let mut network = Self {
            channel: ChannelId::from(channel),
            genesis,
            delivery,
            slots: Vec::new(),
            events,
            names: BTreeMap::new(),
        };
        for org in seats {
            let bootstrap = org
                .first()
                .map(|seat| seat.endpoint.clone())
                .unwrap_or_default();
            for (index, seat) in org.into_iter().enumerate() {
                network.slots.push(Slot {
                    data: dir.join("nodes").join(&seat.member.name),
                    member: seat.member,
                    endpoint: seat.endpoint,
                    bootstrap: bootstrap.clone(),
                    leader: index == 0,
                    running: None,
                    height: 0,
                    sent: 0,
                    received: 0,
                });
                network.run(network.slots.len() - 1, seat.listener).await?;
            }
        }
        Ok((network, receiver))
    }

    /// Names and organizations, in the order of their indexes.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let node = |slot: &Slot| Node {
            name: slot.member.name.clone(),
            org: slot.member.msp_id.clone(),
        };
        self.slots.iter().map(node).collect()
    }

    /// The name of a node.
    pub(crate) fn name(&self, index: usize) -> &str {
        self.slots
            .get(index)
            .map_or("", |slot| slot.member.name.as_str())
    }

    /// What the first node shows of itself.
    pub(crate) fn first(&self) -> Option<tidings_node::vitals::Vitals> {
        let first = self.slots.first()?.running.as_ref()?;
        Some(first.vitals().clone())
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A node that can be killed without its organization losing its leader: the last one, or
    /// nothing where every node leads.
    pub(crate) fn victim(&self) -> Option<usize> {
        self.slots.iter().rposition(|slot| !slot.leader)
    }

    /// Ends a node at once: nothing is finished, nobody is told. Only what its ledger had begun to
    /// write comes to its end, and is counted.
    pub(crate) fn kill(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if let Some(node) = slot.running.take() {
            slot.height = node
                .reader(&self.channel)
                .map_or(0, |reader| reader.height());
            slot.sent += bytes(&node, Direction::Sent);
            slot.received += bytes(&node, Direction::Received);
        }
    }

    /// Starts a killed node on its port and its folder.
    pub(crate) async fn restart(&mut self, index: usize) -> Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let port = self
                .slots
                .get(index)
                .and_then(|slot| slot.endpoint.rsplit_once(':'));
            let port = port.and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
            let again = match orderer::listen(port).await {
                Ok(listener) => self.run(index, listener).await,
                Err(error) => Err(error).context("the port is still taken"),
            };
            match again {
                Err(_) if tries < RESTART_TRIES_MAX => tokio::time::sleep(RESTART_PAUSE).await,
                outcome => return outcome.context("cannot start the killed node again"),
            }
        }
    }

    /// What a node says of itself.
    pub(crate) fn vitals(&self, index: usize) -> Vitals {
        let Some(slot) = self.slots.get(index) else {
            return Vitals::default();
        };
        let Some(node) = &slot.running else {
            return Vitals {
                height: slot.height,
                sent: slot.sent,
                received: slot.received,
                ..Vitals::default()
            };
        };
        let status = node.status();
        let status = status.borrow();
        let channel = status
            .channels
            .iter()
            .find(|each| each.channel == self.channel);
        Vitals {
            height: node
                .reader(&self.channel)
                .map_or(0, |reader| reader.height()),
            leader: channel.is_some_and(|channel| channel.leader),
            alive: true,
            members: status.members.len() + 1,
            sent: slot.sent + bytes(node, Direction::Sent),
            received: slot.received + bytes(node, Direction::Received),
        }
    }

    /// Pairs of nodes of which one knows the other, each pair once.
    pub(crate) fn known_pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for slot in &self.slots {
            let Some(node) = &slot.running else {
                continue;
            };
            for member in &node.status().borrow().members {
                let Some(other) = self.names.get(&member.peer) else {
                    continue;
                };
                let own = &slot.member.name;
                pairs.push(if own < other {
                    (own.clone(), other.clone())
                } else {
                    (other.clone(), own.clone())
                });
            }
        }
        pairs.sort();
        pairs.dedup();
        pairs
    }

    /// Whether every node knows that all others of its organization are on the channel: from
    /// then on blocks are pushed to them.
    pub(crate) fn organizations_met(&self) -> bool {
        self.slots.iter().all(|slot| {
            let Some(node) = &slot.running else {
                return false;
            };
            let status = node.status();
            let status = status.borrow();
            let channel = status
                .channels
                .iter()
                .find(|each| each.channel == self.channel);
            let met: Vec<&String> = channel
                .iter()
                .flat_map(|channel| &channel.peers)
                .filter_map(|(peer, _)| self.names.get(peer))
                .collect();
            self.slots.iter().map(|other| &other.member).all(|other| {
                other.msp_id != slot.member.msp_id
                    || other.name == slot.member.name
                    || met.contains(&&other.name)
            })
        })
    }

    /// Why a node cannot go on, if one cannot.
    pub(crate) fn failure(&self) -> Option<String> {
        for slot in &self.slots {
            let Some(node) = &slot.running else {
                continue;
            };
            if let Some(reason) = node.failed().now_or_never() {
                return Some(format!("{}: {reason}", slot.member.name));
            }
        }
        None
    }

    /// Stops every node in order and tells where their ledgers are.
    pub(crate) async fn stop(mut self) -> Vec<PathBuf> {
        let mut ledgers = Vec::new();
        for slot in &mut self.slots {
            if let Some(node) = slot.running.take() {
                node.stop().await;
            }
            ledgers.push(slot.data.join("channels").join(self.channel.as_str()));
        }
        ledgers
    }

    async fn run(&mut self, index: usize, listener: TcpListener) -> Result<()> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        let name = slot.member.name.clone();
        let config = slot.config(listener, self.delivery.clone())?;
        let mut node = RunningNode::start(config)
            .await
            .with_context(|| format!("node {name} does not start"))?;
        let mut commits = node.committed();
        if node.reader(&self.channel).is_none() {
            node.join(self.genesis.clone())
                .await
                .with_context(|| format!("node {name} cannot join"))?;
        }
        self.names.insert(node.me().identity.pki_id, name);
        let events = self.events.clone();
        // Ends with the last that the node commits.
        tokio::spawn(async move {
            loop {
                match commits.recv().await {
                    Ok(commit) => {
                        let (number, way, at) = (commit.number, way(commit.source), commit.at);
                        if events
                            .send(Event {
                                node: index,
                                number,
                                way,
                                at,
                            })
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    // The counts then lack some; heights and the chain are read elsewhere.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        slot.running = Some(node);
        Ok(())
    }
}

impl Slot {
    fn config(&self, listener: TcpListener, delivery: DeliverySettings) -> Result<NodeConfig> {
        let ca = self.member.tls_file("ca.crt")?;
        Ok(NodeConfig {
            msp_id: self.member.msp_id.clone(),
            msp_dir: self.member.msp.clone(),
            tls: Some(TlsSettings {
                certificate: self.member.tls_file("server.crt")?,
                key: self.member.tls_file("server.key")?,
                roots: vec![ca],
                ..TlsSettings::default()
            }),
            listener,
            endpoint: self.endpoint.clone(),
            external_endpoint: self.endpoint.clone(),
            data_dir: self.data.clone(),
            ledger: tidings_ledger::Settings::default(),
            gossip: Config {
                bootstrap: vec![self.bootstrap.clone()],
                org_leader: self.leader,
                stripe: true,
                // What recorded blocks wrote in private nobody here has: no block waits for it.
                pvt_data: PvtDataConfig {
                    pull_retry_threshold: Duration::ZERO,
                    ..PvtDataConfig::default()
                },
                state: StateConfig {
                    enabled: true,
                    ..StateConfig::default()
                },
                ..Config::default()
            },
            transport: Transport::default(),
            delivery,
            clients: tidings_node::clients::ClientSettings::default(),
            validity: ValiditySettings::default(),
            vitals: tidings_node::vitals::Vitals::default(),
        })
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Sent,
    Received,
}

/// Bytes that a node counted over all kinds of messages.
fn bytes(node: &RunningNode, direction: Direction) -> u64 {
    let metrics = node.metrics();
    let counter = match direction {
        Direction::Sent => &metrics.bytes_sent,
        Direction::Received => &metrics.bytes_received,
    };
    let kinds = Kind::ALL.into_iter().map(Kind::name).chain([UNKNOWN_KIND]);
    kinds
        .map(|kind| counter.with_label_values(&[kind]).get())
        .sum()
}

fn way(source: Source) -> Way {
    match source {
        Source::Push => Way::Push,
        Source::Stripe => Way::Stripe,
        Source::Pull => Way::Pull,
        Source::Transfer => Way::Transfer,
        Source::Deliver => Way::Deliver,
    }
}
