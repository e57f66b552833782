//! Everything that can happen to a node.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidings_proto::gossip::{Chaincode, GossipMessage};

use crate::{
    delivery, dissemination,
    id::{ChannelId, ConnectionId, OrgId, PkiId, Ticket},
    message::{Connection, Message, PeerIdentity, Verified, VerifiedBlock},
    privdata::{GatherKey, Wanted, distribute::Distribution},
};

/// One thing that happened. Fed to [`crate::Node::handle`] with its time.
#[derive(Clone, Debug)]
pub enum Input {
    /// A stream passed the handshake and is registered as *the* connection to its peer.
    Connected(Arc<Connection>),
    /// That stream is gone, whoever ended it.
    Disconnected {
        /// Which stream.
        connection: ConnectionId,
        /// Who was at the other end.
        peer: PkiId,
    },
    /// A message passed [`crate::verify`].
    Received {
        /// The stream it came on.
        from: Arc<Connection>,
        /// The message.
        message: Verified<Message>,
    },
    /// Much waits to be sent to this peer, or no longer does.
    Congestion {
        /// Who.
        peer: PkiId,
        /// Much waits.
        is_congested: bool,
    },
    /// How long a message waits for the core, looked at once a second.
    Backlog(Duration),
    /// A dial or a write towards this peer failed.
    Unreachable(PkiId),
    /// A dialled endpoint turned out to belong to another peer of the same organization.
    Switched {
        /// Who was expected there.
        expected: PkiId,
    },
    /// Answer to [`crate::Effect::Probe`].
    Probed {
        /// Of the effect.
        ticket: Ticket,
        /// The endpoint answered.
        answered: bool,
    },
    /// Answer to [`crate::Effect::Identify`].
    Identified {
        /// Of the effect.
        ticket: Ticket,
        /// Who authenticated there, or why nobody did.
        peer: Result<Arc<PeerIdentity>, String>,
    },
    /// This identity is no longer valid: revoked, or its organization left every channel.
    Revoked(PkiId),
    /// Answer to [`crate::Effect::Judge`].
    Judged {
        /// Of the effect.
        channel: ChannelId,
        /// Of the effect.
        number: u64,
        /// Of the effect.
        hash: dissemination::message::Digest,
        /// What came of it.
        verdict: dissemination::Verdict,
    },
    /// Become or stay a member of a channel.
    Join {
        /// The channel.
        channel: ChannelId,
        /// Its configuration, as far as gossip needs it.
        join: JoinChannel,
        /// Number of blocks in our ledger.
        height: u64,
    },
    /// Leave a channel.
    Leave(ChannelId),
    /// Our chaincodes on a channel changed.
    Chaincodes {
        /// The channel.
        channel: ChannelId,
        /// What we can endorse with now.
        chaincodes: Vec<Chaincode>,
    },
    /// The ledger of a channel grew; everything below `height` is durable.
    Committed {
        /// The channel.
        channel: ChannelId,
        /// Number of blocks in our ledger.
        height: u64,
    },
    /// The committer refused the block it was given. The number is wanted again, by whichever
    /// way brings it next.
    CommitRefused {
        /// The channel.
        channel: ChannelId,
        /// The block.
        number: u64,
    },
    /// The blocks of [`crate::Effect::ServeBlocks`] were sent or could not be read.
    Served {
        /// Of the effect.
        ticket: Ticket,
    },
    /// Something happened to the stream from the ordering service.
    Delivery {
        /// The channel.
        channel: ChannelId,
        /// What happened.
        event: delivery::Event,
    },
    /// The owner has this block from elsewhere, and has checked it: for the ledger, and for the
    /// peers of the organization, as one of the ordering service's.
    Offered {
        /// The channel.
        channel: ChannelId,
        /// The block.
        block: VerifiedBlock,
    },
    /// Send to peers and wait for acknowledgements.
    SendByCriteria(SendByCriteria),
    /// The private write set of [`crate::Effect::StorePrivate`] is durable, or why it is not. The
    /// text goes to the peer that pushed it.
    PrivateStored {
        /// Of the effect.
        ticket: Ticket,
        /// Whether it is durable.
        result: Result<(), String>,
    },
    /// The request of [`crate::Effect::ServePrivate`] was answered.
    PrivateServed {
        /// Of the effect.
        ticket: Ticket,
    },
    /// Private write sets are missing. Answered by [`crate::Effect::PrivateGathered`], once.
    PrivateWanted {
        /// The channel.
        channel: ChannelId,
        /// What for: a block that waits to be committed, or the round of a
        /// [`crate::Effect::ListMissing`], which is answered also if nothing is missing.
        key: GatherKey,
        /// What.
        items: Vec<Wanted>,
        /// How long to look; with zero nobody is asked.
        patience: Duration,
    },
    /// Private data that was handed over unverified was worthless.
    PrivateDoubted {
        /// The channel.
        channel: ChannelId,
        /// Who gave it.
        peer: PkiId,
        /// What was wrong.
        reason: String,
    },
    /// Hand private write sets to other members. Answered by
    /// [`crate::effect::Notice::Distributed`].
    Distribute(Distribution),
}

/// The configuration of a channel as gossip needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinChannel {
    /// Sequence of the channel configuration.
    pub sequence: u64,
    /// Every application organization with its anchor peers, `host:port`.
    pub members: BTreeMap<OrgId, Vec<String>>,
}

/// An acknowledged send.
#[derive(Clone, Debug)]
pub struct SendByCriteria {
    /// Comes back in [`crate::effect::Notice::Acknowledged`].
    pub ticket: Ticket,
    /// Nonce and signature are replaced.
    pub message: GossipMessage,
    /// How long to wait for acknowledgements.
    pub timeout: Duration,
    /// Acknowledgements needed.
    pub min_ack: usize,
    /// Peers to send to.
    pub max_peers: usize,
    /// Whom to choose from: members of this channel, or all if none.
    pub channel: Option<ChannelId>,
    /// Who is eligible; all if none.
    pub eligible: Option<Vec<PkiId>>,
}
