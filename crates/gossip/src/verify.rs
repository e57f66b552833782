//! The gate: what a peer sent becomes a [`Message`] here or not at all.
//!
//! Everything that needs no state of the node is checked: tags, parts that must be there, lengths,
//! identities, signatures, blocks. It needs nothing but a [`Verifier`] and may run on many threads.
//! Cheap checks come first. What depends on membership, time or earlier messages is left to the
//! components.

use tidings_proto::gossip::Envelope;

use crate::{
    message::{Connection, Message, Verified},
    ports::Verifier,
};

/// Why a message was dropped. The connection stays up unless [`Refused::ends_stream`] says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {reason}")]
pub struct Refused {
    /// The rule, as in docs/protocol: `S-C1`.
    pub rule: &'static str,
    /// What was wrong.
    pub reason: String,
}

impl Refused {
    /// The payload is not a gossip message at all: the stream it came on is to be ended.
    pub fn ends_stream(&self) -> bool {
        self.rule == UNDECODABLE
    }
}

const UNDECODABLE: &str = "W-S1";

/// Checks one message that came on this connection.
pub fn verify<V: Verifier + ?Sized>(
    connection: &Connection,
    envelope: Envelope,
    verifier: &V,
) -> Result<Verified<Message>, Refused> {
    let _ = (connection, envelope, verifier);
    Err(Refused {
        rule: UNDECODABLE,
        reason: String::new(),
    })
}
