//! What can be counted of a node. Names that Fabric has are Fabric's, so that dashboards made for
//! Go peers work; ours begin with `tidings_`.
//!
//! Promises: no label has a value that a peer can invent. They are channels that we joined, orderers
//! that a channel's configuration names, and words of this program. `docs/ops.md` lists them all.

use std::collections::BTreeMap;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector, proto::LabelPair,
};
use tidings_gossip::{Source, id::ChannelId};
use tidings_ledger::Extent;

use crate::validity;

/// As in most of Fabric's histograms of durations, in seconds.
const USUAL: &[f64] = prometheus::DEFAULT_BUCKETS;

/// As in Fabric's histograms of its ledger.
const OF_LEDGER: &[f64] = &[0.005, 0.01, 0.015, 0.05, 0.1, 1.0, 10.0];

/// What takes microseconds when all is well.
const SHORT: &[f64] = &[1e-6, 5e-6, 2.5e-5, 1e-4, 5e-4, 2.5e-3, 1e-2, 5e-2];

/// What can be said of private write sets of committed blocks.
pub(crate) const PRIVATE_STATES: [&str; 4] = ["held", "eligible", "deprioritized", "ineligible"];

/// How private write sets go from peer to peer after their block was made, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Along with a block, in a state transfer.
    WithBlock,
    /// In answer to a request for them.
    Asked,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::WithBlock => "with block",
            Self::Asked => "asked",
        }
    }
}

/// From a relay within one machine to a block that had to wait for its predecessors.
const OF_SPREADING: &[f64] = &[
    1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Each metric once: field, type, name, labels, what it says.
macro_rules! metrics {
    ($($field:ident: $kind:ty = $name:literal [$($label:literal),*] $(in $buckets:ident)?, $help:literal;)*) => {
        /// The metrics of one node, with a registry of its own: a process may run many nodes.
        /// Copies share everything.
        #[derive(Clone, Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = concat!("`", $name, "`: ", $help, ".")] pub $field: $kind,)*
        }

        impl Metrics {
            /// Registers everything.
            pub fn new() -> Self {
                let registry = Registry::new();
                let metrics = Self {
                    $($field: register(&registry, &Family {
                        name: $name,
                        help: $help,
                        labels: &[$($label),*],
                        buckets: first(&[$($buckets,)? &[]]),
                    }),)*
                    registry,
                };
                metrics.version.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
                metrics.refused.with_label_values(&["commit"]);
                metrics
            }
        }

        /// Name, type and labels of each.
        #[cfg(test)]
        const ALL: &[(&str, &str, &[&str])] =
            &[$(($name, stringify!($kind), &[$($label),*])),*];
    };
}

metrics! {
    // Of Fabric.
    version: IntGaugeVec = "fabric_version" ["version"], "Version of this program";
    state_height: IntGaugeVec = "gossip_state_height" ["channel"], "Current ledger height";
    commit_duration: HistogramVec = "gossip_state_commit_duration" ["channel"] in USUAL,
        "Time it takes to commit a block in seconds";
    payload_buffer_size: IntGaugeVec = "gossip_payload_buffer_size" ["channel"],
        "Size of the payload buffer";
    leader: IntGaugeVec = "gossip_leader_election_leader" ["channel"],
        "Peer is leader (1) or follower (0)";
    peers_known: IntGaugeVec = "gossip_membership_total_peers_known" ["channel"],
        "Total known peers";
    messages_sent: IntCounter = "gossip_comm_messages_sent" [], "Number of messages sent";
    messages_received: IntCounter = "gossip_comm_messages_received" [],
        "Number of messages received";
    overflow: IntCounter = "gossip_comm_overflow_count" [],
        "Number of outgoing queue buffer overflows";
    ledger_height: IntGaugeVec = "ledger_blockchain_height" ["channel"], "Blocks in the ledger";
    ledger_commit_time: HistogramVec = "ledger_blockstorage_commit_time" ["channel"] in OF_LEDGER,
        "Seconds that a write of blocks to the ledger took";
    connections_opened: IntCounter = "grpc_comm_conn_opened" [], "Connections that came in";
    connections_closed: IntCounter = "grpc_comm_conn_closed" [],
        "Connections that came in and have ended";
    privdata_list_missing_duration: HistogramVec = "gossip_privdata_list_missing_duration" ["channel"]
        in USUAL, "Time it takes to list the missing private data (in seconds)";
    privdata_fetch_duration: HistogramVec = "gossip_privdata_fetch_duration" ["channel"] in USUAL,
        "Time it takes to fetch missing private data from peers (in seconds)";
    privdata_commit_block_duration: HistogramVec = "gossip_privdata_commit_block_duration" ["channel"]
        in USUAL, "Time it takes to commit private data and the corresponding block (in seconds)";
    privdata_purge_duration: HistogramVec = "gossip_privdata_purge_duration" ["channel"] in USUAL,
        "Time it takes to purge private data (in seconds)";
    privdata_reconciliation_duration: HistogramVec = "gossip_privdata_reconciliation_duration" ["channel"]
        in USUAL, "Time it takes for reconciliation to complete (in seconds)";
    privdata_pull_duration: HistogramVec = "gossip_privdata_pull_duration" ["channel"] in USUAL,
        "Time it takes to pull a missing private data element (in seconds)";
    privdata_retrieve_duration: HistogramVec = "gossip_privdata_retrieve_duration" ["channel"]
        in USUAL,
        "Time it takes to retrieve missing private data elements from the ledger (in seconds)";
    deliver_streams_opened: IntCounter = "deliver_streams_opened" [],
        "Streams for blocks that clients opened";
    deliver_streams_closed: IntCounter = "deliver_streams_closed" [],
        "Streams for blocks that clients opened and that have ended";
    deliver_requests_received: IntCounterVec = "deliver_requests_received" ["channel", "filtered", "data_type"],
        "Requests for blocks by clients that were admitted";
    deliver_blocks_sent: IntCounterVec = "deliver_blocks_sent" ["channel", "filtered", "data_type"],
        "Blocks that were given to clients";
    proposals_received: IntCounter = "endorser_proposals_received" [],
        "Proposals received, which are queries here";
    proposals_successful: IntCounter = "endorser_successful_proposals" [], "Queries answered";

    // Of this node.
    ledger_first_block: IntGaugeVec = "tidings_ledger_first_block" ["channel"],
        "First block that was not pruned";
    ledger_bytes: IntGaugeVec = "tidings_ledger_bytes" ["channel"],
        "Bytes of blocks on disk, without indexes";
    clients_cut_off: IntCounter = "tidings_clients_cut_off" [],
        "Clients cut off because they did not read the blocks that they asked for";
    certificate_end: IntGaugeVec = "tidings_certificate_expiry" ["certificate"],
        "Seconds since the Unix epoch at which a certificate of ours expires";

    // Between peers.
    accepted_bytes: IntCounterVec = "tidings_comm_accepted_bytes" ["direction"],
        "Bytes on connections that came in, TLS included";
    comm_peers: IntGauge = "tidings_comm_peers" [], "Peers that we have a connection to";
    kinds_sent: IntCounterVec = "tidings_comm_messages_sent" ["kind"], "Messages sent";
    kinds_received: IntCounterVec = "tidings_comm_messages_received" ["kind"], "Messages received";
    bytes_sent: IntCounterVec = "tidings_comm_bytes_sent" ["kind"], "Envelope bytes sent";
    bytes_received: IntCounterVec = "tidings_comm_bytes_received" ["kind"],
        "Envelope bytes received";
    dropped: IntCounterVec = "tidings_comm_dropped" ["reason"], "Messages dropped unsent";
    queued_messages: IntGauge = "tidings_comm_queued_messages" [],
        "Messages that wait for their peers";
    queued_bytes: IntGauge = "tidings_comm_queued_bytes" [],
        "Bytes of messages that wait for their peers";
    refused: IntCounterVec = "tidings_refused" ["rule"],
        "Messages, handshakes and blocks turned away";
    members_alive: IntGauge = "tidings_members_alive" [],
        "Members of the network that are alive, ourselves left out";

    // Within the node.
    queue_length: IntGaugeVec = "tidings_queue_length" ["queue"], "What waits within the node";
    commit_queue_length: IntGaugeVec = "tidings_commit_queue_length" ["channel"],
        "Blocks that wait for the writer of the ledger";
    input_duration: Histogram = "tidings_input_duration" [] in SHORT,
        "Time the protocol core takes for one input in seconds";
    check_duration: Histogram = "tidings_check_duration" [] in SHORT,
        "Time the check of one message takes in seconds";

    // Blocks.
    blocks_received: IntCounterVec = "tidings_blocks_received" ["channel", "source"],
        "Good blocks received, by the way they came";
    blocks_duplicate: IntCounterVec = "tidings_blocks_duplicate" ["channel", "source"],
        "Blocks received that this node had before";
    duplicate_bytes: IntCounterVec = "tidings_blocks_duplicate_bytes" ["channel", "source"],
        "Bytes of blocks received that this node had before";
    blocks: IntCounterVec = "tidings_blocks_committed" ["channel", "source"],
        "Blocks committed, by the way they came";
    striped_bytes: IntCounterVec = "tidings_blocks_striped_bytes" ["channel"],
        "Bytes of blocks received in stripes, those included that this node had before";
    spreading_duration: HistogramVec = "tidings_block_first_seen_to_committed_duration" ["channel"]
        in OF_SPREADING,
        "Seconds from the first sight of a block, by whichever way, until it was durable";
    blocks_behind: IntGaugeVec = "tidings_blocks_behind" ["channel"],
        "Blocks that the highest peer of the channel says it has and we have not";
    catch_up_missing: IntGaugeVec = "tidings_catch_up_missing" ["channel"],
        "Blocks that are still missing while they are asked of peers";
    catch_up_sources: IntGaugeVec = "tidings_catch_up_sources" ["channel"],
        "Peers that missing blocks are asked of";
    catch_ups: IntCounterVec = "tidings_catch_up_ended" ["channel", "outcome"],
        "Gaps that were filled by asking peers, or given up";
    blocks_served: IntCounterVec = "tidings_blocks_served" ["channel"],
        "Blocks given to peers that asked for a range";

    // What peers say.
    validity_height: IntGaugeVec = "tidings_validity_height" ["channel"],
        "Below which as many organizations as are to agree have been heard of every block";
    validity_disputed: IntGaugeVec = "tidings_validity_disputed" ["channel"],
        "Blocks of which not all that were heard say the same, over all starts";
    validity_disagreements: IntCounterVec = "tidings_validity_disagreements" ["channel", "kind"],
        "Blocks of which an organization says something else than others or the ledger";

    // Private data.
    private_sets: IntGaugeVec = "tidings_private_sets" ["channel", "state"],
        "Private write sets of committed blocks, by whether they are here";
    private_pushes: IntCounterVec = "tidings_private_pushes" ["channel", "outcome"],
        "Private write sets that were pushed to this node and stored, or not";
    private_reconciled: IntCounterVec = "tidings_private_reconciled" ["channel"],
        "Private write sets that came after their blocks";
    private_received: IntCounterVec = "tidings_private_received" ["channel", "way"],
        "Private write sets of blocks that other peers gave to this node";
    private_given: IntCounterVec = "tidings_private_given" ["channel", "way"],
        "Private write sets of blocks that this node gave to other peers";
    private_withheld: IntCounterVec = "tidings_private_withheld" ["channel"],
        "Private write sets that were asked for by peers that may not have them";
    private_purges: IntCounterVec = "tidings_private_purges" ["channel"],
        "Keys of private data that transactions of committed blocks say are to be forgotten";

    // The ordering service.
    delivery_connected: IntGaugeVec = "tidings_delivery_connected" ["channel", "orderer"],
        "1 for the orderer that blocks are pulled from";
    delivery_failures: IntCounterVec = "tidings_delivery_failures" ["channel"],
        "Streams from orderers that ended or never began";
    delivery_suspicions: IntGaugeVec = "tidings_delivery_suspicions" ["channel"],
        "Orderers suspected of holding back blocks";
    delivery_withheld: IntCounterVec = "tidings_delivery_withheld" ["channel"],
        "Orderers left because they held back a block";
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Shows what of a channel is worth an alarm from the beginning: of a value that is not there
    /// no alarm can tell whether it is well.
    pub(crate) fn begin_channel(&self, channel: &str) {
        for gauge in [
            &self.leader,
            &self.blocks_behind,
            &self.catch_up_missing,
            &self.commit_queue_length,
            &self.validity_disputed,
        ] {
            gauge.with_label_values(&[channel]).set(0);
        }
        for counter in [
            &self.delivery_failures,
            &self.delivery_withheld,
            &self.private_withheld,
        ] {
            counter.with_label_values(&[channel]);
        }
        for outcome in ["caught up", "stopped"] {
            self.catch_ups.with_label_values(&[channel, outcome]);
        }
        for kind in validity::kinds() {
            self.validity_disagreements
                .with_label_values(&[channel, kind]);
        }
    }

    /// How often something was turned away so far, by the rule that was broken. The rules are those
    /// of this program; what was never broken is left out.
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        let mut refusals = totals(&self.refused, None);
        refusals.retain(|_, count| *count > 0);
        refusals
    }

    /// Shows nothing of how a channel stands any more. What was counted stays.
    pub(crate) fn forget_channel(&self, channel: &str) {
        for gauge in [
            &self.state_height,
            &self.ledger_height,
            &self.payload_buffer_size,
            &self.leader,
            &self.peers_known,
            &self.commit_queue_length,
            &self.ledger_first_block,
            &self.ledger_bytes,
            &self.blocks_behind,
            &self.catch_up_missing,
            &self.catch_up_sources,
            &self.delivery_suspicions,
            &self.validity_height,
            &self.validity_disputed,
        ] {
            // One that was never set is not there.
            let _ = gauge.remove_label_values(&[channel]);
        }
        for state in PRIVATE_STATES {
            let _ = self.private_sets.remove_label_values(&[channel, state]);
        }
    }

    /// So many private write sets came, and have the hash that their block names.
    pub(crate) fn private_came(&self, channel: &ChannelId, way: Way, sets: usize) {
        count_sets(&self.private_received, channel, way, sets);
    }

    /// So many private write sets were given to a peer.
    pub(crate) fn private_went(&self, channel: &ChannelId, way: Way, sets: usize) {
        count_sets(&self.private_given, channel, way, sets);
    }

    /// The ledger of a channel holds so many blocks.
    pub(crate) fn set_height(&self, channel: &ChannelId, height: u64) {
        let height = i64::try_from(height).unwrap_or(i64::MAX);
        for gauge in [&self.state_height, &self.ledger_height] {
            gauge.with_label_values(&[channel.as_str()]).set(height);
        }
    }

    /// The ledger of a channel has this on disk.
    pub(crate) fn set_extent(&self, channel: &ChannelId, extent: Extent) {
        for (gauge, value) in [
            (&self.ledger_first_block, extent.first),
            (&self.ledger_bytes, extent.bytes),
        ] {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.with_label_values(&[channel.as_str()]).set(value);
        }
    }

    /// Everything in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

/// What a metric with whole numbers says: by its label, or of one channel by the other label.
pub(crate) fn totals(metric: &impl Collector, channel: Option<&str>) -> BTreeMap<String, u64> {
    let families = metric.collect();
    let values = families.iter().flat_map(|family| family.get_metric());
    values
        .filter_map(|value| {
            let mut labels = value.get_label().iter();
            if let Some(channel) = channel {
                let is_it = |label: &&LabelPair| label.name() == "channel";
                labels
                    .clone()
                    .find(is_it)
                    .filter(|label| label.value() == channel)?;
            }
            let other = labels.find(|label| label.name() != "channel");
            let name = other.map_or_else(String::new, |label| label.value().to_owned());
            // One of the two is not there, and 0 then.
            let count = value.get_counter().get_value() + value.get_gauge().get_value();
            Some((name, count as u64))
        })
        .collect()
}

fn count_sets(counter: &IntCounterVec, channel: &ChannelId, way: Way, sets: usize) {
    if sets > 0 {
        let counter = counter.with_label_values(&[channel.as_str(), way.label()]);
        counter.inc_by(u64::try_from(sets).unwrap_or(u64::MAX));
    }
}

/// The way of a block as a label.
pub fn source_label(source: Source) -> &'static str {
    match source {
        Source::Push => "push",
        Source::Pull => "pull",
        Source::Stripe => "stripe",
        Source::Transfer => "transfer",
        Source::Deliver => "deliver",
    }
}

/// What a metric is made of.
struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
}

impl Family {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts::new(self.name, self.help).buckets(self.buckets.to_vec())
    }
}

/// A kind of metric.
trait Kind: Collector + Clone + 'static {
    fn of(family: &Family) -> prometheus::Result<Self>;
}

impl Kind for IntGauge {
    fn of(family: &Family) -> prometheus::Result<Self> {
        Self::with_opts(family.opts())
    }
}

impl Kind for IntGaugeVec {
    fn of(family: &Family) -> prometheus::Result<Self> {
        Self::new(family.opts(), family.labels)
    }
}

impl Kind for IntCounter {
    fn of(family: &Family) -> prometheus::Result<Self> {
        Self::with_opts(family.opts())
    }
}

impl Kind for IntCounterVec {
    fn of(family: &Family) -> prometheus::Result<Self> {
        Self::new(family.opts(), family.labels)
    }
}

impl Kind for Histogram {
    fn of(family: &Family) -> prometheus::Result<Self> {
        Self::with_opts(family.histogram_opts())
    }
}

impl Kind for HistogramVec {
    fn of(family: &Family) -> prometheus::Result<Self> {
        Self::new(family.histogram_opts(), family.labels)
    }
}

fn register<K: Kind>(registry: &Registry, family: &Family) -> K {
    let collector = K::of(family).expect("the names and labels above are well formed");
    registry
        .register(Box::new(collector.clone()))
        .expect("each name above occurs once");
    collector
}

/// The buckets that a metric names, if it names any.
const fn first(given: &[&'static [f64]]) -> &'static [f64] {
    given[0]
}

#[cfg(test)]
mod tests;
