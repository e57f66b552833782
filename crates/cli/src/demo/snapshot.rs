//! What the demo shows of its network at one moment, to the page and to the terminal.
//!
//! Plain values in the shape in which the page gets them as JSON. Knows nothing of how they are
//! found out ([`super::progress`]) or drawn.

use serde::Serialize;

/// The whole network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Snapshot {
    /// Name of the channel.
    pub(crate) channel: String,
    /// Time since the start.
    pub(crate) elapsed_ms: u64,
    /// Blocks that the orderer has cut, block 0 included.
    pub(crate) height: u64,
    /// The height at which the run ends.
    pub(crate) target: Option<u64>,
    /// Whether every node holds every block of the run.
    pub(crate) finished: bool,
    /// The organizations with the names of their nodes.
    pub(crate) orgs: Vec<OrgView>,
    /// All nodes.
    pub(crate) nodes: Vec<NodeView>,
    /// Which nodes know each other, and whom the orderer (`orderer`) serves.
    pub(crate) links: Vec<LinkView>,
    /// The newest block that all running nodes hold.
    pub(crate) newest: Option<BlockView>,
    /// From the orderer's cut to the commit at a node.
    pub(crate) latency: LatencyView,
    /// Sums.
    pub(crate) totals: Totals,
}

/// An organization.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct OrgView {
    /// Its MSP.
    pub(crate) name: String,
    /// Names of its nodes.
    pub(crate) nodes: Vec<String>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct NodeView {
    /// Its name.
    pub(crate) name: String,
    /// The MSP of its organization.
    pub(crate) org: String,
    /// Blocks that it holds.
    pub(crate) height: u64,
    /// Whether it pulls blocks from the orderer for its organization.
    pub(crate) leader: bool,
    /// Whether it runs.
    pub(crate) alive: bool,
    /// Peers that it believes alive, itself included.
    pub(crate) members: usize,
    /// Bytes that it sent to other nodes.
    pub(crate) sent: u64,
    /// Bytes that it received from other nodes and the orderer.
    pub(crate) received: u64,
    /// How its blocks came.
    pub(crate) blocks: Ways,
}

/// How many blocks came which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ways {
    /// In parts, down the trees of a block.
    pub(crate) stripe: u64,
    /// Pushed whole by a peer.
    pub(crate) push: u64,
    /// Pulled after comparing digests with a peer.
    pub(crate) pull: u64,
    /// Asked for by number from a peer that is ahead.
    pub(crate) transfer: u64,
    /// From the orderer.
    pub(crate) deliver: u64,
}

/// Two that know each other, or the orderer and who it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LinkView {
    /// One end, who gives.
    pub(crate) from: String,
    /// The other end.
    pub(crate) to: String,
    /// Blocks in this direction since the snapshot before.
    pub(crate) blocks: u64,
}

/// A block and when it came where.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct BlockView {
    /// Its number.
    pub(crate) number: u64,
    /// Its header hash in hex.
    pub(crate) hash: String,
    /// Transactions in it.
    pub(crate) transactions: usize,
    /// Its size.
    pub(crate) bytes: usize,
    /// In the order of the nodes.
    pub(crate) arrivals: Vec<Arrival>,
}

/// A commit of a block at a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Arrival {
    /// The node that committed.
    pub(crate) node: String,
    /// Who gave it the block, as far as is known: a node or `orderer`.
    pub(crate) from: String,
    /// Time since the cut.
    pub(crate) after_ms: f64,
}

/// Latencies in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct LatencyView {
    /// Half of all commits came sooner.
    pub(crate) p50: Option<f64>,
    /// 99 of 100 commits came sooner.
    pub(crate) p99: Option<f64>,
    /// The latest of all.
    pub(crate) max: Option<f64>,
    /// The last node to commit the newest block.
    pub(crate) last: Option<f64>,
    /// The last blocks, oldest first.
    pub(crate) recent: Vec<BlockLatency>,
}

/// Latencies of one block over the nodes, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct BlockLatency {
    /// Its number.
    pub(crate) block: u64,
    /// The first node.
    pub(crate) first: f64,
    /// The median node.
    pub(crate) p50: f64,
    /// The last node.
    pub(crate) last: f64,
}

/// Sums over the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// Transactions in all blocks.
    pub(crate) transactions: u64,
    /// Bytes that nodes sent.
    pub(crate) sent: u64,
    /// Bytes that nodes received.
    pub(crate) received: u64,
}
