//! The settings of the protocol, named as in Fabric's `core.yaml`, with the defaults of Fabric's
//! code, which the file overrides here and there.

use std::time::Duration;

use bytes::Bytes;

use crate::{id::Moment, message::PeerIdentity};
use std::sync::Arc;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Who this node is. Fixed until restart.
#[derive(Clone, Debug)]
pub struct Me {
    /// Own identity.
    pub identity: Arc<PeerIdentity>,
    /// `host:port` for peers of the own organization, never empty.
    pub endpoint: String,
    /// `host:port` for peers of other organizations; empty: invisible to them.
    pub external_endpoint: String,
    /// Wall clock at the start of the node, in nanoseconds since the Unix epoch.
    pub started_at_ns: u64,
    /// Which life of this node it is: as a rule [`Self::started_at_ns`], but later than that of
    /// every earlier life, whatever the clock has shown then.
    pub incarnation_ns: u64,
    /// Free bytes that alive messages carry.
    pub metadata: Bytes,
}

impl Me {
    /// The wall clock at this moment, in nanoseconds since the Unix epoch.
    pub fn wall_ns(&self, now: Moment) -> u64 {
        let elapsed = u64::try_from(now.since_start().as_nanos()).unwrap_or(u64::MAX);
        self.started_at_ns.saturating_add(elapsed)
    }

    /// The wall clock at this moment, in seconds since the Unix epoch.
    pub fn wall_secs(&self, now: Moment) -> i64 {
        i64::try_from(self.wall_ns(now) / 1_000_000_000).unwrap_or(i64::MAX)
    }
}

/// Keys under `peer.gossip`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Endpoints of the own organization to contact first.
    pub bootstrap: Vec<String>,
    /// Most blocks apart that two blocks in the block store may be.
    pub max_block_count_to_store: u64,
    /// Longest time that a message waits for others to be pushed together.
    pub max_propagation_burst_latency: Duration,
    /// Number of waiting messages that are pushed at once.
    pub max_propagation_burst_size: usize,
    /// How often each message is pushed.
    pub propagate_iterations: u32,
    /// To how many peers each message is pushed.
    pub propagate_peer_num: usize,
    /// Period of block pull, identity pull and membership sync.
    pub pull_interval: Duration,
    /// Peers asked in each pull round, state info request and membership sync.
    pub pull_peer_num: usize,
    /// Period of asking for state infos.
    pub request_state_info_interval: Duration,
    /// Period at which a changed state info is published.
    pub publish_state_info_interval: Duration,
    /// How long after the start alive messages embed the identity.
    pub publish_cert_period: Duration,
    /// Period of the membership metric.
    pub membership_tracker_interval: Duration,
    /// The longest that an initiator of a pull collects digests; less once all have answered.
    pub digest_wait_time: Duration,
    /// How long a responder of a pull remembers a hello.
    pub request_wait_time: Duration,
    /// How long an initiator of a pull waits for items.
    pub response_wait_time: Duration,
    /// Period of alive messages.
    pub alive_time_interval: Duration,
    /// Silence after which a member counts as dead.
    pub alive_expiration_timeout: Duration,
    /// Period of trying to reach dead members, and the longest pause between connection attempts.
    pub reconnect_interval: Duration,
    /// Alive messages are forgotten after this many times `alive_expiration_timeout`.
    pub msg_expiration_factor: u32,
    /// This node pulls blocks from the ordering service for its organization, always.
    pub org_leader: bool,
    /// The organization elects who pulls blocks. Excludes `org_leader`.
    pub use_leader_election: bool,
    /// Leader election, under `election`.
    pub election: ElectionConfig,
    /// State transfer, under `state`.
    pub state: StateConfig,
    /// Whether the leader pushes blocks that it got from an orderer
    /// (`peer.deliveryclient.blockGossipEnabled`).
    pub block_gossip_enabled: bool,
    /// An elected leader that only waited for orderers for so long makes way for another
    /// (`peer.deliveryclient.reconnectTotalTimeThreshold`).
    pub reconnect_total_time_threshold: Duration,
    /// Longest pause before orderers are tried again, if it is less than our own limit
    /// (`peer.deliveryclient.reConnectBackoffThreshold`).
    pub reconnect_backoff_threshold: Duration,
    /// Watching of orderers that may be dishonest.
    pub cluster: ClusterConfig,
    /// Private data, under `pvtData`.
    pub pvt_data: PvtDataConfig,
    /// Blocks go by stripes among those peers of the own organization that say that they do this
    /// too; everybody else gets them as from any peer. Not of Fabric.
    pub stripe: bool,
}

impl Config {
    /// Whether pushed blocks are passed on in the order of those who keep to it. Who is to send less,
    /// or everything again and to others, does as Fabric does.
    pub(crate) fn keeps_order(&self) -> bool {
        self.propagate_peer_num >= 2 && self.propagate_iterations == 1
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            max_block_count_to_store: 10,
            max_propagation_burst_latency: millis(10),
            max_propagation_burst_size: 10,
            propagate_iterations: 1,
            propagate_peer_num: 3,
            pull_interval: secs(4),
            pull_peer_num: 3,
            request_state_info_interval: secs(4),
            publish_state_info_interval: secs(4),
            publish_cert_period: secs(10),
            membership_tracker_interval: secs(5),
            digest_wait_time: secs(1),
            request_wait_time: millis(1500),
            response_wait_time: secs(2),
            alive_time_interval: secs(5),
            alive_expiration_timeout: secs(25),
            reconnect_interval: secs(25),
            msg_expiration_factor: 20,
            org_leader: false,
            use_leader_election: false,
            election: ElectionConfig::default(),
            state: StateConfig::default(),
            block_gossip_enabled: true,
            reconnect_total_time_threshold: secs(3600),
            reconnect_backoff_threshold: secs(3600),
            cluster: ClusterConfig::default(),
            pvt_data: PvtDataConfig::default(),
            stripe: false,
        }
    }
}

/// Keys under `peer.deliveryclient` that concern channels whose orderers agree although some of
/// them are dishonest.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// Whether the other orderers are asked for headers while one gives us blocks
    /// (`policy: cluster`, not `simple`).
    pub watch: bool,
    /// How long an orderer may keep back a block whose header others have shown
    /// (`blockCensorshipTimeoutKey`). Not zero.
    pub block_censorship_timeout: Duration,
    /// Pause after the first failure (`minimalReconnectInterval`). Not zero.
    pub minimal_reconnect_interval: Duration,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            watch: true,
            block_censorship_timeout: secs(30),
            minimal_reconnect_interval: millis(100),
        }
    }
}

/// Keys under `peer.gossip.election`. None of them may be zero.
#[derive(Clone, Debug, PartialEq)]
pub struct ElectionConfig {
    /// The longest that a starting peer waits for a steady membership.
    pub startup_grace_period: Duration,
    /// Period of counting the members until then.
    pub membership_sample_interval: Duration,
    /// Silence after which a leader counts as gone. Leaders speak twice as often.
    pub leader_alive_threshold: Duration,
    /// How long whoever proposed itself waits for better proposals.
    pub leader_election_duration: Duration,
}

impl Default for ElectionConfig {
    fn default() -> Self {
        Self {
            startup_grace_period: secs(15),
            membership_sample_interval: secs(1),
            leader_alive_threshold: secs(10),
            leader_election_duration: secs(5),
        }
    }
}

/// Keys under `peer.gossip.state`.
#[derive(Clone, Debug, PartialEq)]
pub struct StateConfig {
    /// Whether missing blocks are asked for. Requests are answered in any case.
    pub enabled: bool,
    /// Period of comparing the own height with others'.
    pub check_interval: Duration,
    /// Wait for each answer.
    pub response_timeout: Duration,
    /// Largest distance between first and last block of a request, asked and accepted.
    pub batch_size: u64,
    /// Blocks that may wait for their predecessors.
    pub block_buffer_size: u64,
    /// Repeats of a failed request.
    pub max_retries: u32,
    /// Requests that wait to be answered.
    pub channel_size: usize,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            check_interval: secs(10),
            response_timeout: secs(3),
            batch_size: 10,
            block_buffer_size: 20,
            max_retries: 3,
            channel_size: 100,
        }
    }
}

/// Keys under `peer.gossip.pvtData`. The defaults are those of the file that Fabric ships: its
/// code has zeros where a key is left out, with which no push succeeds and nothing is pulled.
#[derive(Clone, Debug, PartialEq)]
pub struct PvtDataConfig {
    /// How long a block waits for private data that is missing; with zero nobody is asked.
    pub pull_retry_threshold: Duration,
    /// Blocks for which pushed data is kept while its transaction does not come. For the owner.
    pub transientstore_max_block_retention: u64,
    /// How long an endorser waits for acknowledgements. Not zero.
    pub push_ack_timeout: Duration,
    /// A peer that is so near to the end of life of data is not asked for it.
    pub btl_pull_margin: u64,
    /// Blocks with missing data that are looked at in one go.
    pub reconcile_batch_size: usize,
    /// Period of looking for missing data of old blocks. Not zero.
    pub reconcile_sleep_interval: Duration,
    /// Whether missing data of old blocks is looked for.
    pub reconciliation_enabled: bool,
    /// Whether data of transactions that are not valid is left to reconciliation. For the owner.
    pub skip_pulling_invalid_transactions_during_commit: bool,
    /// Pushes for the own implicit collection that must be acknowledged
    /// (`implicitCollectionDisseminationPolicy.requiredPeerCount`). For the owner.
    pub implicit_required_peer_count: usize,
    /// Pushes for the own implicit collection that are tried (`….maxPeerCount`). For the owner.
    pub implicit_max_peer_count: usize,
}

impl Default for PvtDataConfig {
    fn default() -> Self {
        Self {
            pull_retry_threshold: secs(60),
            transientstore_max_block_retention: 20_000,
            push_ack_timeout: secs(3),
            btl_pull_margin: 10,
            reconcile_batch_size: 10,
            reconcile_sleep_interval: secs(60),
            reconciliation_enabled: true,
            skip_pulling_invalid_transactions_during_commit: false,
            implicit_required_peer_count: 0,
            implicit_max_peer_count: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_send_less_or_again_keeps_to_no_order() {
        let of = |peers, iterations| {
            let config = Config {
                propagate_peer_num: peers,
                propagate_iterations: iterations,
                ..Config::default()
            };
            config.keeps_order()
        };
        assert!(of(3, 1) && of(2, 1) && !of(1, 1) && !of(0, 1));
        assert!(!of(3, 0) && !of(3, 2));
    }
}
