//! The counters of comm, with their labels resolved once instead of for every message.

use std::collections::BTreeMap;

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tidings_proto::tag::Kind;

use crate::metrics::Metrics;

/// The label of messages that carry nothing we know.
const UNKNOWN: &str = "Unknown";

#[derive(Debug)]
pub(crate) struct Counters {
    messages_sent: IntCounter,
    messages_received: IntCounter,
    overflow: IntCounter,
    kinds_sent: BTreeMap<Option<Kind>, IntCounter>,
    kinds_received: BTreeMap<Option<Kind>, IntCounter>,
    bytes_sent: BTreeMap<Option<Kind>, IntCounter>,
    bytes_received: BTreeMap<Option<Kind>, IntCounter>,
    dropped: IntCounterVec,
    refused: IntCounterVec,
    queued_messages: IntGauge,
    queued_bytes: IntGauge,
    peers: IntGauge,
}

impl Counters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            messages_sent: metrics.messages_sent.clone(),
            messages_received: metrics.messages_received.clone(),
            overflow: metrics.overflow.clone(),
            kinds_sent: by_kind(&metrics.kinds_sent),
            kinds_received: by_kind(&metrics.kinds_received),
            bytes_sent: by_kind(&metrics.bytes_sent),
            bytes_received: by_kind(&metrics.bytes_received),
            dropped: metrics.dropped.clone(),
            refused: metrics.refused.clone(),
            queued_messages: metrics.queued_messages.clone(),
            queued_bytes: metrics.queued_bytes.clone(),
            peers: metrics.comm_peers.clone(),
        }
    }

    /// An envelope of so many bytes was handed to the connection.
    pub(crate) fn sent(&self, kind: Option<Kind>, bytes: usize) {
        self.messages_sent.inc();
        add(&self.kinds_sent, kind, 1);
        add(&self.bytes_sent, kind, bytes);
    }

    /// An envelope of so many bytes came from a connection.
    pub(crate) fn received(&self, kind: Option<Kind>, bytes: usize) {
        self.messages_received.inc();
        add(&self.kinds_received, kind, 1);
        add(&self.bytes_received, kind, bytes);
    }

    /// A message was dropped unsent.
    pub(crate) fn dropped(&self, why: Dropped) {
        if why != Dropped::TooLong {
            self.overflow.inc();
        }
        self.dropped.with_label_values(&[why.label()]).inc();
    }

    /// A message of so many bytes waits for its peer.
    pub(crate) fn queued(&self, bytes: usize) {
        self.queued_messages.inc();
        self.queued_bytes
            .add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A message of so many bytes waits no more, whether it was sent or not.
    pub(crate) fn unqueued(&self, bytes: usize) {
        self.queued_messages.dec();
        self.queued_bytes
            .sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So many peers have a connection to us.
    pub(crate) fn peers(&self, count: usize) {
        self.peers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A handshake or stream was turned away.
    pub(crate) fn refused(&self, rule: &'static str) {
        self.refused.with_label_values(&[rule]).inc();
    }
}

/// Why a message was dropped unsent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Too many wait for its peer.
    PeerSlow,
    /// Too many wait for us to look at them.
    Busy,
    /// No peer would take it.
    TooLong,
}

impl Dropped {
    fn label(self) -> &'static str {
        match self {
            Self::PeerSlow => "peer slow",
            Self::Busy => "node busy",
            Self::TooLong => "too long",
        }
    }
}

fn by_kind(counter: &IntCounterVec) -> BTreeMap<Option<Kind>, IntCounter> {
    let known = Kind::ALL.into_iter().map(|kind| (Some(kind), kind.name()));
    known
        .chain([(None, UNKNOWN)])
        .map(|(kind, label)| (kind, counter.with_label_values(&[label])))
        .collect()
}

fn add(counters: &BTreeMap<Option<Kind>, IntCounter>, kind: Option<Kind>, bytes: usize) {
    if let Some(counter) = counters.get(&kind) {
        counter.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}
