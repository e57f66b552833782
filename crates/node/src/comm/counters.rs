//! The counters of comm, with their labels resolved once instead of for every message.

use std::collections::BTreeMap;

use prometheus::{IntCounter, IntCounterVec};
use tidings_proto::tag::Kind;

use crate::metrics::Metrics;

/// The label of messages that carry nothing we know.
const UNKNOWN: &str = "Unknown";

#[derive(Debug)]
pub(crate) struct Counters {
    messages_sent: IntCounter,
    messages_received: IntCounter,
    overflow: IntCounter,
    bytes_sent: BTreeMap<Option<Kind>, IntCounter>,
    bytes_received: BTreeMap<Option<Kind>, IntCounter>,
    refused: IntCounterVec,
}

impl Counters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            messages_sent: metrics.messages_sent.clone(),
            messages_received: metrics.messages_received.clone(),
            overflow: metrics.overflow.clone(),
            bytes_sent: by_kind(&metrics.bytes_sent),
            bytes_received: by_kind(&metrics.bytes_received),
            refused: metrics.refused.clone(),
        }
    }

    /// An envelope of so many bytes was handed to the connection.
    pub(crate) fn sent(&self, kind: Option<Kind>, bytes: usize) {
        self.messages_sent.inc();
        add(&self.bytes_sent, kind, bytes);
    }

    /// An envelope of so many bytes came from a connection.
    pub(crate) fn received(&self, kind: Option<Kind>, bytes: usize) {
        self.messages_received.inc();
        add(&self.bytes_received, kind, bytes);
    }

    /// A message found no room and was dropped.
    pub(crate) fn overflow(&self) {
        self.overflow.inc();
    }

    /// A handshake or stream was turned away.
    pub(crate) fn refused(&self, rule: &'static str) {
        self.refused.with_label_values(&[rule]).inc();
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
