//! New blocks among nodes that know a better way than gossip: STRIPE.
//!
//! The node that has a block first, the root, cuts it into stripes; each travels down a tree of
//! its own over all extended members of the organization; every node computes the trees from the
//! block's number and a list that the root publishes, the view. Inner nodes acknowledge; whoever
//! misses something learns it from small digests and asks. Plain peers get whole blocks from the
//! member that looks after them.
//!
//! Promises: a block is delivered once, after the node judged it good; nothing is kept or sent for
//! a peer without a limit; whatever members say, blocks that are not good are not delivered. Knows
//! nothing of sockets, signatures or what is in a block.
//!
//! Rules: docs/protocol/stripe.md.

pub mod message;
pub mod parameters;
pub mod permutation;
pub mod shape;

use std::time::Duration;

use bytes::Bytes;

use self::{
    message::{Class, Digest, Message},
    parameters::PlainDelivery,
};
use crate::{effect::Notice, id::PkiId, message::VerifiedBlock};

/// What the machine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A peer of our organization said this on a stream of its own.
    Message {
        /// Who.
        from: PkiId,
        /// What.
        message: Message,
    },
    /// A whole block that was verified.
    Block {
        /// The block.
        block: VerifiedBlock,
        /// Of its serialized bytes.
        hash: Digest,
        /// Where from.
        origin: Origin,
    },
    /// Answer to [`Effect::Judge`].
    Judged {
        /// Block.
        number: u64,
        /// As it was in the effect.
        hash: Digest,
        /// What came of it.
        verdict: Verdict,
    },
    /// Who is there now; replaces what was said before.
    Members {
        /// Living extended members of our organization on the channel, ourselves left out.
        members: Vec<Member>,
        /// Living members of our organization on the channel that are not extended.
        plain: Vec<PlainPeer>,
    },
    /// How far away a member is, measured anew.
    Rtt {
        /// Which member.
        peer: PkiId,
        /// The measurement.
        rtt: Rtt,
    },
    /// Who leads the organization on the channel.
    Leader(Leader),
    /// The stream to a peer broke, or works again.
    Connection {
        /// Which peer.
        peer: PkiId,
        /// It works.
        is_up: bool,
    },
    /// The transport holds too many chunks for a peer, or no longer does.
    Congestion {
        /// Which peer.
        peer: PkiId,
        /// It is congested.
        is_congested: bool,
    },
    /// How long the processor queue or the uplink is backed up; told about once a second.
    Backlog(Duration),
    /// Every block below is durable.
    Height(u64),
}

/// Where a whole block came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The ordering service gave it to us: we are the root, if we lead.
    Ordered,
    /// A plain push, a pull, a state transfer, or the ledger.
    Received,
}

/// What the node found out about assembled bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// They hash to what was said, and are a block of this number that the orderers signed.
    Good(VerifiedBlock),
    /// They hash to something else: a chunk is bad.
    Corrupt,
    /// They hash to what was said, but are no good block: whoever said it lied.
    Refused,
}

/// An extended member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub peer: PkiId,
    /// What it says of itself; a member does not call itself a suspect.
    pub class: Class,
    /// How far away it is, if that is known.
    pub rtt: Option<Rtt>,
}

/// A round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    /// Smoothed mean.
    pub mean: Duration,
    /// Mean deviation, if an estimator runs.
    pub deviation: Option<Duration>,
}

/// A plain peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainPeer {
    /// Who.
    pub peer: PkiId,
    /// The height that it advertises.
    pub height: u64,
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leader {
    /// Nobody is known to.
    #[default]
    Unknown,
    /// This node, by election or by appointment.
    Me,
    /// Another, by election. It may be a plain peer.
    Peer(PkiId),
    /// There is no election, and we are not appointed: any member may be.
    Appointed,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send over the stream to this peer, in the queue that [`Message::queue`] says.
    Send {
        /// To whom.
        to: PkiId,
        /// What.
        message: Message,
    },
    /// Find out whether these bytes hash to this and are a good block of this number. Answered by
    /// [`Input::Judged`].
    Judge {
        /// Block.
        number: u64,
        /// What they should hash to.
        hash: Digest,
        /// The bytes.
        bytes: Bytes,
        /// Who sent the first chunk.
        from: PkiId,
    },
    /// Hand this block, which was judged good, to the payload buffer.
    Deliver(VerifiedBlock),
    /// Give a plain peer this block.
    GivePlain {
        /// Which peer.
        to: PkiId,
        /// The block.
        block: VerifiedBlock,
        /// In which way.
        how: PlainDelivery,
    },
    /// This block will not come by stripes: fetch it in the plain way, now.
    Fetch(u64),
    /// Tell others that we are of this class from now on.
    Declare(Class),
    /// To be known.
    Notify(Notice),
}
