//! N nodes of one organization in this process, on one channel, with real TLS between them.
//!
//! The settings are those of Fabric's `core.yaml`, with state transfer switched on, and everybody
//! begins at node 0. Ports are given by the system.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tidings_gossip::{Config, Source, StateConfig, id::ChannelId};
use tidings_node::{
    clients::ClientSettings,
    metrics::source_label,
    service::{DeliverySettings, NodeConfig, RunningNode, Transport},
    status::Status,
    validity::ValiditySettings,
    vitals::Vitals,
};
use tidings_proto::tag::Kind;
use tokio::{net::TcpListener, time::timeout};

use crate::{
    chain::CHANNEL,
    keys::{MSP_ID, Organization, Seat},
    shelf::Shelf,
};

/// The label of messages of no known kind.
const UNKNOWN_KIND: &str = "Unknown";

/// A node with its ledger.
pub(crate) struct Peer {
    pub(crate) node: RunningNode,
    pub(crate) shelf: Shelf,
}

/// What nodes start from, made before anything is measured.
pub(crate) struct Seats {
    seats: Vec<(Seat, TcpListener)>,
    blocks: Arc<[Bytes]>,
    gossip: Config,
}

impl Seats {
    /// So many nodes with folders below `home`, on the channel of these blocks.
    pub(crate) async fn new(
        org: &Organization,
        home: &Path,
        nodes: usize,
        blocks: Vec<Bytes>,
    ) -> Result<Self> {
        let mut seats = Vec::with_capacity(nodes);
        for number in 0..nodes {
            let seat = org.seat(home, &format!("peer{number}"))?;
            let listener = TcpListener::bind("127.0.0.1:0").await;
            seats.push((seat, listener.context("no port on loopback")?));
        }
        Ok(Self {
            seats,
            blocks: blocks.into(),
            gossip: Config {
                state: StateConfig {
                    enabled: true,
                    ..StateConfig::default()
                },
                ..Config::default()
            },
        })
    }

    /// Blocks are pushed to so many peers, and not to as many as in `core.yaml`.
    pub(crate) fn with_fanout(mut self, fanout: usize) -> Self {
        self.gossip.propagate_peer_num = fanout;
        self
    }

    /// Blocks go by stripes or do not.
    pub(crate) fn with_stripes(mut self, stripes: bool) -> Self {
        self.gossip.stripe = stripes;
        self
    }

    /// Starts all nodes back to back, each with the genesis block alone.
    pub(crate) async fn start(self) -> Result<Network> {
        let mut network = Network::default();
        for (seat, listener) in self.seats {
            let shelf = Shelf::new(Arc::clone(&self.blocks));
            Box::pin(network.add(seat, listener, &self.gossip, shelf)).await?;
        }
        Ok(network)
    }

    /// Starts all nodes but the last, each with all blocks; the last is for later.
    pub(crate) async fn start_sources(mut self) -> Result<(Network, Latecomer)> {
        let (seat, listener) = self.seats.pop().context("no seat for a latecomer")?;
        let mut network = Network::default();
        for (seat, listener) in self.seats {
            let shelf = Shelf::full(Arc::clone(&self.blocks));
            Box::pin(network.add(seat, listener, &self.gossip, shelf)).await?;
        }
        let latecomer = Latecomer {
            seat,
            listener,
            blocks: self.blocks,
            gossip: self.gossip,
        };
        Ok((network, latecomer))
    }
}

/// A node that is not started yet.
pub(crate) struct Latecomer {
    seat: Seat,
    listener: TcpListener,
    blocks: Arc<[Bytes]>,
    gossip: Config,
}

impl Latecomer {
    /// Starts it as the last of these, with the genesis block alone.
    pub(crate) async fn start(self, network: &mut Network) -> Result<()> {
        let shelf = Shelf::new(self.blocks);
        Box::pin(network.add(self.seat, self.listener, &self.gossip, shelf)).await
    }
}

fn config(
    seat: Seat,
    listener: TcpListener,
    gossip: &Config,
    own: &str,
    first: &str,
) -> NodeConfig {
    NodeConfig {
        msp_id: MSP_ID.to_owned(),
        msp_dir: seat.msp_dir,
        tls: Some(seat.tls),
        listener,
        endpoint: own.to_owned(),
        external_endpoint: String::new(),
        data_dir: seat.data_dir,
        ledger: Default::default(),
        gossip: Config {
            bootstrap: vec![first.to_owned()],
            ..gossip.clone()
        },
        transport: Transport::default(),
        delivery: DeliverySettings::default(),
        clients: ClientSettings::default(),
        validity: ValiditySettings::default(),
        vitals: Vitals::default(),
    }
}

/// The nodes at work.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) peers: Vec<Peer>,
}

impl Network {
    async fn add(
        &mut self,
        seat: Seat,
        listener: TcpListener,
        gossip: &Config,
        shelf: Shelf,
    ) -> Result<()> {
        let own = listener.local_addr()?;
        let first = self.peers.first().map_or(own, |peer| peer.node.address());
        let config = config(seat, listener, gossip, &own.to_string(), &first.to_string());
        // It is large.
        let mut node = Box::pin(RunningNode::start(config)).await?;
        let genesis = shelf.genesis().context("a chain has a first block")?;
        let (committer, reader) = (Box::new(shelf.clone()), Arc::new(shelf.clone()));
        Box::pin(node.join_into(&genesis, committer, reader)).await?;
        self.peers.push(Peer { node, shelf });
        Ok(())
    }

    /// Waits until every node sees all others alive.
    pub(crate) async fn meet(&self, limit: Duration) -> Result<()> {
        self.each(limit, |status| status.members.len()).await
    }

    /// Waits until every node knows all others to be on the channel.
    pub(crate) async fn meet_on_channel(&self, limit: Duration) -> Result<()> {
        let on_channel = |status: &Status| {
            let channels = status.channels.iter();
            channels.map(|channel| channel.peers.len()).max()
        };
        self.each(limit, move |status| on_channel(status).unwrap_or_default())
            .await
    }

    async fn each(&self, limit: Duration, seen: impl Fn(&Status) -> usize) -> Result<()> {
        let others = self.peers.len() - 1;
        let all = async {
            for Peer { node, .. } in &self.peers {
                let mut status = node.status();
                let met = status.wait_for(|status| seen(status) >= others).await;
                met.context("a node went down")?;
            }
            anyhow::Ok(())
        };
        match timeout(limit, all).await {
            Ok(met) => met,
            Err(_elapsed) => bail!("not everybody sees all others after {limit:?}; raise --limit"),
        }
    }

    /// What all nodes have counted so far.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for Peer { node, .. } in &self.peers {
            let metrics = node.metrics();
            let bytes = |kind: &str| metrics.bytes_received.with_label_values(&[kind]).get();
            let kinds = Kind::ALL.into_iter().map(Kind::name).chain([UNKNOWN_KIND]);
            counts.messages += metrics.messages_received.get();
            counts.payload_bytes += kinds.map(bytes).sum::<u64>();
            let striped = metrics.striped_bytes.with_label_values(&[CHANNEL]).get();
            counts.block_bytes += bytes(Kind::DataMsg.name()) + striped;
            let alive = Kind::AliveMsg.name();
            counts.alive_bytes += bytes(alive);
            counts.alive_messages += metrics.kinds_received.with_label_values(&[alive]).get();
            let wire = |direction| metrics.accepted_bytes.with_label_values(&[direction]).get();
            let requests = Kind::StateRequest.name();
            counts.state_requests += metrics.kinds_received.with_label_values(&[requests]).get();
            counts.wire_bytes += wire("received") + wire("sent");
            counts.accepted += metrics.connections_opened.get();
            counts.overflow += metrics.overflow.get();
        }
        counts
    }

    /// Messages that all nodes received so far, by kind.
    pub(crate) fn kinds(&self) -> BTreeMap<&'static str, u64> {
        let mut kinds = BTreeMap::new();
        for Peer { node, .. } in &self.peers {
            for kind in Kind::ALL.into_iter().map(Kind::name) {
                let received = node.metrics().kinds_received.with_label_values(&[kind]);
                *kinds.entry(kind).or_default() += received.get();
            }
        }
        kinds
    }

    /// Blocks that the nodes but the first committed, by the way they came.
    pub(crate) fn committed_by(&self, source: Source) -> u64 {
        let labels = [CHANNEL, source_label(source)];
        let receivers = self.peers.iter().skip(1);
        receivers
            .map(|peer| peer.node.metrics().blocks.with_label_values(&labels).get())
            .sum()
    }

    /// Blocks that the nodes but the first saw first by this way.
    pub(crate) fn first_seen_by(&self, source: Source) -> u64 {
        let labels = [CHANNEL, source_label(source)];
        let receivers = self.peers.iter().skip(1);
        let seen = receivers.map(|peer| {
            let metrics = peer.node.metrics();
            let all = metrics.blocks_received.with_label_values(&labels).get();
            all - metrics.blocks_duplicate.with_label_values(&labels).get()
        });
        seen.sum()
    }

    /// Stops every node.
    pub(crate) async fn stop(self) {
        for peer in self.peers {
            Box::pin(peer.node.stop()).await;
        }
    }
}

/// The channel of all nodes.
pub(crate) fn channel() -> ChannelId {
    ChannelId::from(CHANNEL)
}

/// Sums over all nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Messages received.
    pub(crate) messages: u64,
    /// Bytes of these, before TLS.
    pub(crate) payload_bytes: u64,
    /// Of these, of pushed blocks and of those in stripes.
    pub(crate) block_bytes: u64,
    /// Of these, of alive messages.
    pub(crate) alive_bytes: u64,
    /// Alive messages.
    pub(crate) alive_messages: u64,
    /// Requests for ranges of blocks.
    pub(crate) state_requests: u64,
    /// Bytes on connections, each once.
    pub(crate) wire_bytes: u64,
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Messages dropped for a full queue.
    pub(crate) overflow: u64,
}

impl Counts {
    /// What came after an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            messages: self.messages - earlier.messages,
            payload_bytes: self.payload_bytes - earlier.payload_bytes,
            block_bytes: self.block_bytes - earlier.block_bytes,
            alive_bytes: self.alive_bytes - earlier.alive_bytes,
            alive_messages: self.alive_messages - earlier.alive_messages,
            state_requests: self.state_requests - earlier.state_requests,
            wire_bytes: self.wire_bytes - earlier.wire_bytes,
            accepted: self.accepted - earlier.accepted,
            overflow: self.overflow - earlier.overflow,
        }
    }
}
