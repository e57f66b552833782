//! Sending to some peers and counting who confirms.
//!
//! Knows nothing of what is sent. A confirmation counts once, in time, and only from the peer
//! that it was asked of.

use rand::rngs::ChaCha8Rng;
use tidings_proto::gossip::Envelope;

use crate::{
    effect::Destination,
    id::{Moment, PkiId, Ticket},
    input::SendByCriteria,
};

/// What happens to acknowledged sends.
#[derive(Clone, Debug)]
pub enum Input {
    /// Send and wait.
    Send {
        /// What, to how many, and how long to wait.
        request: SendByCriteria,
        /// Whom to choose from: alive members, or the members of the channel; none if the channel
        /// is unknown.
        pool: Option<Vec<Destination>>,
    },
    /// A peer confirms or rejects.
    Ack {
        /// Who.
        from: PkiId,
        /// Of which message.
        nonce: u64,
        /// Empty on success.
        error: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer; dial if there is none.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// An acknowledged send ended.
    Acknowledged {
        /// Of the request.
        ticket: Ticket,
        /// Number of acknowledgements, or Fabric's JSON error text.
        result: Result<usize, String>,
    },
}

/// All acknowledged sends that wait.
#[derive(Debug)]
pub struct Acks {
    rng: ChaCha8Rng,
}

impl Acks {
    /// Waits for nothing.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self {
            rng: crate::random::generator(seed, "ack"),
        }
    }

    /// Feeds one input.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        let _ = (now, input, out);
    }

    /// Ends what waited long enough.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let _ = (now, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        None
    }
}
