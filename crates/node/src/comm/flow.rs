//! What goes over one connection, counted for as long as it lasts.
//!
//! Kept by the table with the connection, so there are as many as connections. Both ends of a
//! stream count here without waiting for anybody; the numbers of one look need not be of the very
//! same moment.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tidings_proto::tag::Kind;

/// What went one way over one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    /// Messages.
    pub messages: u64,
    /// Their bytes, before TLS.
    pub bytes: u64,
    /// Of these, in messages of the kinds that bring blocks.
    pub block_bytes: u64,
}

/// One connection with a peer as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Which connection of this node it is: a later one counts from nothing.
    pub connection: u64,
    /// By us.
    pub sent: Counted,
    /// By the peer.
    pub received: Counted,
    /// Messages that wait for the peer.
    pub waiting: u64,
}

/// The counters of one connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    sent: Tally,
    received: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    messages: AtomicU64,
    bytes: AtomicU64,
    block_bytes: AtomicU64,
}

impl Flow {
    /// An envelope of so many bytes was handed to the connection.
    pub(crate) fn sent(&self, kind: Option<Kind>, bytes: usize) {
        self.sent.add(kind, bytes);
    }

    /// An envelope of so many bytes came.
    pub(crate) fn received(&self, kind: Option<Kind>, bytes: usize) {
        self.received.add(kind, bytes);
    }

    /// What was counted so far: sent and received.
    pub(crate) fn counted(&self) -> (Counted, Counted) {
        (self.sent.counted(), self.received.counted())
    }
}

impl Tally {
    fn add(&self, kind: Option<Kind>, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(Kind::DataMsg | Kind::DataUpdate | Kind::StateResponse | Kind::Stripe) = kind {
            self.block_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn counted(&self) -> Counted {
        Counted {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            block_bytes: self.block_bytes.load(Ordering::Relaxed),
        }
    }
}
