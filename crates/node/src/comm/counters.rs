//! The counters of comm, with their labels resolved once instead of for every message.

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
    kinds_sent: ByKind,
    kinds_received: ByKind,
    bytes_sent: ByKind,
    bytes_received: ByKind,
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
            kinds_sent: ByKind::new(&metrics.kinds_sent),
            kinds_received: ByKind::new(&metrics.kinds_received),
            bytes_sent: ByKind::new(&metrics.bytes_sent),
            bytes_received: ByKind::new(&metrics.bytes_received),
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
        self.kinds_sent.add(kind, 1);
        self.bytes_sent.add(kind, bytes);
    }

    /// An envelope of so many bytes came from a connection.
    pub(crate) fn received(&self, kind: Option<Kind>, bytes: usize) {
        self.messages_received.inc();
        self.kinds_received.add(kind, 1);
        self.bytes_received.add(kind, bytes);
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

/// A counter for each kind, and one for messages of none.
#[derive(Debug)]
struct ByKind {
    known: [IntCounter; Kind::ALL.len()],
    unknown: IntCounter,
}

impl ByKind {
    fn new(counter: &IntCounterVec) -> Self {
        Self {
            known: Kind::ALL.map(|kind| counter.with_label_values(&[kind.name()])),
            unknown: counter.with_label_values(&[UNKNOWN]),
        }
    }

    fn add(&self, kind: Option<Kind>, count: usize) {
        let counter = match kind {
            // Kinds are listed in the order in which they are declared.
            Some(kind) => self.known.get(kind as usize),
            None => Some(&self.unknown),
        };
        if let Some(counter) = counter {
            counter.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_counter() {
        let metrics = Metrics::new();
        let counters = Counters::new(&metrics);
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            counters.received(Some(kind), index + 1);
        }
        counters.received(None, 99);
        let received = |label| metrics.bytes_received.with_label_values(&[label]).get();
        for (index, kind) in (1..).zip(Kind::ALL) {
            assert_eq!(received(kind.name()), index);
        }
        assert_eq!(received(UNKNOWN), 99);
    }
}
