//! What can be counted of a node. Names that Fabric has are Fabric's, so that dashboards made for
//! Go peers work; ours begin with `tidings_`.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use tidings_gossip::Source;

/// The metrics of one node, with a registry of its own: a process may run many nodes.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// `gossip_state_height`, by channel.
    pub state_height: IntGaugeVec,
    /// `gossip_state_commit_duration` in seconds, by channel.
    pub commit_duration: HistogramVec,
    /// `gossip_payload_buffer_size`, by channel.
    pub payload_buffer_size: IntGaugeVec,
    /// `gossip_leader_election_leader`, by channel.
    pub leader: IntGaugeVec,
    /// `gossip_membership_total_peers_known`, by channel.
    pub peers_known: IntGaugeVec,
    /// `gossip_comm_messages_sent`.
    pub messages_sent: IntCounter,
    /// `gossip_comm_messages_received`.
    pub messages_received: IntCounter,
    /// `gossip_comm_overflow_count`.
    pub overflow: IntCounter,
    /// `tidings_comm_bytes_sent`, by kind of message.
    pub bytes_sent: IntCounterVec,
    /// `tidings_comm_bytes_received`, by kind of message.
    pub bytes_received: IntCounterVec,
    /// `tidings_refused`: messages, handshakes and blocks turned away, by rule.
    pub refused: IntCounterVec,
    /// `tidings_blocks_committed`, by channel and way (push, pull, transfer, deliver).
    pub blocks: IntCounterVec,
    /// `tidings_delivery_suspicions`: orderers suspected of holding back blocks, by channel.
    pub delivery_suspicions: IntGaugeVec,
    /// `tidings_delivery_withheld`: how often an orderer was left for holding back a block, by
    /// channel.
    pub delivery_withheld: IntCounterVec,
    /// `tidings_input_duration`: seconds that the core took for one input.
    pub input_duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Shows nothing of how a channel stands any more. What was counted stays.
    pub(crate) fn forget_channel(&self, channel: &str) {
        for gauge in [
            &self.state_height,
            &self.payload_buffer_size,
            &self.leader,
            &self.peers_known,
            &self.delivery_suspicions,
        ] {
            // One that was never set is not there.
            let _ = gauge.remove_label_values(&[channel]);
        }
    }

    /// Registers everything.
    pub fn new() -> Self {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let counter = |name: &str, help: &str| {
            register(&registry, IntCounter::with_opts(Opts::new(name, help)))
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let commit = HistogramOpts::new(
            "gossip_state_commit_duration",
            "Time it takes to commit a block in seconds",
        );
        let input = HistogramOpts::new(
            "tidings_input_duration",
            "Time the protocol core takes for one input in seconds",
        )
        .buckets(vec![1e-6, 5e-6, 2.5e-5, 1e-4, 5e-4, 2.5e-3, 1e-2, 5e-2]);
        Self {
            state_height: gauge("gossip_state_height", "Current ledger height", &["channel"]),
            commit_duration: register(&registry, HistogramVec::new(commit, &["channel"])),
            payload_buffer_size: gauge(
                "gossip_payload_buffer_size",
                "Size of the payload buffer",
                &["channel"],
            ),
            leader: gauge(
                "gossip_leader_election_leader",
                "Peer is leader (1) or follower (0)",
                &["channel"],
            ),
            peers_known: gauge(
                "gossip_membership_total_peers_known",
                "Total known peers",
                &["channel"],
            ),
            messages_sent: counter("gossip_comm_messages_sent", "Number of messages sent"),
            messages_received: counter(
                "gossip_comm_messages_received",
                "Number of messages received",
            ),
            overflow: counter(
                "gossip_comm_overflow_count",
                "Number of outgoing queue buffer overflows",
            ),
            bytes_sent: counters("tidings_comm_bytes_sent", "Envelope bytes sent", &["kind"]),
            bytes_received: counters(
                "tidings_comm_bytes_received",
                "Envelope bytes received",
                &["kind"],
            ),
            refused: counters(
                "tidings_refused",
                "Messages, handshakes and blocks turned away",
                &["rule"],
            ),
            blocks: counters(
                "tidings_blocks_committed",
                "Blocks committed, by the way they came",
                &["channel", "source"],
            ),
            delivery_suspicions: gauge(
                "tidings_delivery_suspicions",
                "Orderers suspected of holding back blocks",
                &["channel"],
            ),
            delivery_withheld: counters(
                "tidings_delivery_withheld",
                "Orderers left because they held back a block",
                &["channel"],
            ),
            input_duration: register(&registry, Histogram::with_opts(input)),
            registry,
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

/// The way of a block as a label.
pub fn source_label(source: Source) -> &'static str {
    match source {
        Source::Push => "push",
        Source::Pull => "pull",
        Source::Transfer => "transfer",
        Source::Deliver => "deliver",
    }
}

fn register<C>(registry: &Registry, made: prometheus::Result<C>) -> C
where
    C: prometheus::core::Collector + Clone + 'static,
{
    let collector = made.expect("the names and labels above are well formed");
    registry
        .register(Box::new(collector.clone()))
        .expect("each name above occurs once");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printed_as_fabric_prints_them() {
        let metrics = Metrics::new();
        metrics.messages_sent.inc();
        metrics.state_height.with_label_values(&["ch"]).set(7);
        metrics
            .commit_duration
            .with_label_values(&["ch"])
            .observe(0.02);
        let text = metrics.text();
        assert!(text.contains("\ngossip_comm_messages_sent 1\n"), "{text}");
        assert!(
            text.contains("gossip_state_height{channel=\"ch\"} 7\n"),
            "{text}"
        );
        assert!(
            text.contains("gossip_state_commit_duration_bucket{channel=\"ch\",le=\"0.005\"} 0"),
            "{text}"
        );
    }
}
