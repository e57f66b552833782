//! Everything that a node wants done, as data that a test can compare.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidings_proto::gossip::Envelope;

use crate::{
    delivery, dissemination,
    id::{ChannelId, ConnectionId, OrgId, PkiId, Ticket},
    message::{Connection, PrivateDigest, PushedWrites, VerifiedBlock},
    privdata::{Found, GatherKey, Missing},
    transfer::{Progress, Stage},
};

/// One thing to do. Effects are done in the order in which they were pushed.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send over the connection to this peer, whoever dialled it; dial if there is none.
    /// Best effort: a full queue drops the message. A failed dial or write is reported as
    /// [`crate::Input::Unreachable`].
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// As [`Effect::Send`], in the queue that the message says.
    Stripe {
        /// To whom.
        to: Destination,
        /// About which channel.
        channel: ChannelId,
        /// What.
        message: dissemination::message::Message,
    },
    /// Members of ours are far behind what comes from the orderer: hold back what comes next, but no
    /// block for long. Or go on.
    Hold {
        /// The channel.
        channel: ChannelId,
        /// Whether to hold back.
        is_held: bool,
    },
    /// Find out whether these bytes hash to this and are a good block of this number. Answered by
    /// [`crate::Input::Judged`].
    Judge {
        /// The channel.
        channel: ChannelId,
        /// Number of the block.
        number: u64,
        /// What the bytes should hash to.
        hash: dissemination::message::Digest,
        /// The bytes.
        bytes: Bytes,
    },
    /// Send on exactly this stream, if it is still there.
    Reply {
        /// Which stream.
        connection: ConnectionId,
        /// What.
        envelope: Envelope,
    },
    /// End the connection to this peer.
    Close(PkiId),
    /// Find out whether anything answers there, without identifying it.
    Probe {
        /// For the answer.
        ticket: Ticket,
        /// `host:port`.
        endpoint: String,
    },
    /// Find out who answers there.
    Identify {
        /// For the answer.
        ticket: Ticket,
        /// `host:port`.
        endpoint: String,
    },
    /// The identity was dropped: it must not verify anything until it authenticates anew.
    Forget(PkiId),
    /// The next block of the channel, to be checked against its predecessor and made durable.
    /// Emitted in order without gaps; answered by [`crate::Input::Committed`] or
    /// [`crate::Input::CommitRefused`].
    Commit {
        /// The channel.
        channel: ChannelId,
        /// The block.
        block: VerifiedBlock,
        /// How it reached us.
        source: Source,
        /// Serialized `PvtDataPayload`s that came along with a state transfer.
        private_data: Vec<Bytes>,
    },
    /// Read these blocks and send them as a state response with this nonce on that stream.
    /// Answered by [`crate::Input::Served`].
    ServeBlocks {
        /// For the answer.
        ticket: Ticket,
        /// The channel.
        channel: ChannelId,
        /// First block.
        start: u64,
        /// Last block; never beyond the own height.
        end: u64,
        /// Which stream asked.
        connection: ConnectionId,
        /// To be copied into the answer.
        nonce: u64,
    },
    /// Make this private write set durable until its transaction comes or is too old. Answered by
    /// [`crate::Input::PrivateStored`], and only then is it acknowledged.
    StorePrivate {
        /// For the answer.
        ticket: Ticket,
        /// The channel.
        channel: ChannelId,
        /// Who sent it.
        from: Arc<Connection>,
        /// What.
        pushed: Box<PushedWrites>,
    },
    /// Send a private data response with this nonce on the stream that asked: those of these write
    /// sets that are here and that the peer may have, going by the evidence of its handshake; an
    /// empty one if there are none. Answered by [`crate::Input::PrivateServed`].
    ServePrivate {
        /// For the answer.
        ticket: Ticket,
        /// The channel.
        channel: ChannelId,
        /// Who asks, on which stream.
        from: Arc<Connection>,
        /// To be copied into the response.
        nonce: u64,
        /// What is asked for, to be copied into the elements of the response as it is.
        digests: Vec<PrivateDigest>,
    },
    /// What came of [`crate::Input::PrivateWanted`]: every digest is in one of both lists.
    PrivateGathered {
        /// The channel.
        channel: ChannelId,
        /// Of the input.
        key: GatherKey,
        /// What peers gave.
        found: Vec<Found>,
        /// What they did not, and why.
        missing: Vec<(PrivateDigest, Missing)>,
    },
    /// Which private data of committed blocks is missing here? Answered, after what was gathered
    /// before is stored, by [`crate::Input::PrivateWanted`] for this round.
    ListMissing {
        /// The channel.
        channel: ChannelId,
        /// For the answer.
        round: u64,
        /// Of how many blocks, the newest first.
        limit: usize,
    },
    /// Something to do with the stream from the ordering service.
    Deliver {
        /// The channel.
        channel: ChannelId,
        /// What to do.
        command: delivery::Command,
    },
    /// Nothing to do but to know: for metrics, logs and those who wait.
    Notify(Notice),
}

/// A peer and where it can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Whom.
    pub peer: PkiId,
    /// `host:port`; empty if it cannot be dialled and only an existing connection will do.
    pub endpoint: String,
}

/// How a block reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Pushed by a peer.
    Push,
    /// Pulled from a peer.
    Pull,
    /// By stripes.
    Stripe,
    /// By state transfer.
    Transfer,
    /// From the ordering service.
    Deliver,
}

/// What comes of a suspicion against an orderer. Every one is opened once and closed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is late with a block.
    Opened,
    /// It gave us the block after all, or was left for another reason.
    Dropped,
    /// It kept the block back for too long, and is left.
    Withheld,
}

/// Something worth knowing.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A member was learned or came back.
    MemberAlive {
        /// Who.
        peer: PkiId,
        /// Of which organization.
        org: Option<OrgId>,
        /// Preferred endpoint.
        endpoint: String,
    },
    /// A member fell silent.
    MemberDead(PkiId),
    /// A member was erased.
    MemberForgotten(PkiId),
    /// An identity that we knew is good no more, and is dropped.
    IdentityEnded {
        /// Whose.
        peer: PkiId,
        /// Of which organization.
        org: OrgId,
        /// Its certificate has expired; else nobody vouches for it any longer.
        expired: bool,
    },
    /// The periodic count of peers known on a channel, ourselves left out.
    ChannelMembers {
        /// The channel.
        channel: ChannelId,
        /// How many.
        count: usize,
    },
    /// A block was taken into the payload buffer or refused by it.
    PayloadBuffer {
        /// The channel.
        channel: ChannelId,
        /// Blocks waiting.
        size: usize,
    },
    /// A gap too large for gossip is filled by state transfer.
    CatchUp {
        /// The channel.
        channel: ChannelId,
        /// Whether it begins, goes on or ends.
        stage: Stage,
        /// How far it is.
        progress: Progress,
    },
    /// A message was dropped by a rule.
    Refused {
        /// Who sent it.
        from: PkiId,
        /// The rule, as in docs/protocol: `S-C1`.
        rule: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// What we think of the orderer that gives us blocks, beside headers that others have shown.
    Suspicion {
        /// The channel.
        channel: ChannelId,
        /// Which orderer, `host:port`.
        orderer: String,
        /// A block that exists and that it has not given us.
        number: u64,
        /// What came of it.
        verdict: Verdict,
    },
    /// Something an operator should do something about.
    Warning(String),
    /// What a warning was about is over.
    Over(String),
    /// A peer answered a request for private data.
    PrivateAnswered {
        /// The channel.
        channel: ChannelId,
        /// Who.
        peer: PkiId,
        /// How long after it was asked.
        after: Duration,
        /// How many write sets it gave that were wanted.
        found: usize,
    },
    /// A [`crate::Input::Distribute`] ended.
    Distributed {
        /// Of the input.
        ticket: Ticket,
        /// Number of acknowledgements, or why there were not enough.
        result: Result<usize, String>,
    },
    /// An acknowledged send ended.
    Acknowledged {
        /// Of the request.
        ticket: Ticket,
        /// Number of acknowledgements, or Fabric's JSON error text.
        result: Result<usize, String>,
    },
}
