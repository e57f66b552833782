//! What a peer can say to us, as types that hold only what passed the checks of [`crate::verify`].
//!
//! The wire types of `tidings-proto` stop at the edge: nothing behind it holds a message with a
//! missing part, a PKI-ID of the wrong length or an unchecked signature. Signed envelopes are kept as
//! received because they are forwarded byte for byte.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidings_proto::{
    gossip::{Chaincode, Envelope, PvtDataDigest},
    protos::CollectionConfigPackage,
};

use crate::{
    dissemination::message as stripe,
    id::{ChannelId, ConnectionId, DIGEST_LEN, OrgId, PeerTime, PkiId},
    summary::Summary,
    verify::Refused,
    wire,
};

/// Something that passed its check. Only this crate makes one, in [`crate::verify`].
#[derive(Clone, Debug, PartialEq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) const fn new(checked: T) -> Self {
        Self(checked)
    }

    /// What was checked.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// An identity that was valid when it was last checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Computed from `serialized`.
    pub pki_id: PkiId,
    /// The MSP that vouches for it.
    pub org: OrgId,
    /// The `SerializedIdentity` exactly as it was received.
    pub serialized: Bytes,
    /// End of validity of the certificate, in seconds since the Unix epoch.
    pub expires_at: i64,
}

/// An authenticated stream to another peer. Its identity never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// Which stream.
    pub id: ConnectionId,
    /// Who is at the other end.
    pub identity: Arc<PeerIdentity>,
    /// The envelope of the handshake: evidence towards channel and collection policies.
    pub handshake: Envelope,
}

impl Connection {
    /// The PKI-ID of the other end.
    pub fn peer(&self) -> PkiId {
        self.identity.pki_id
    }

    /// The organization of the other end.
    pub fn org(&self) -> &OrgId {
        &self.identity.org
    }
}

/// A peer says that it is alive.
#[derive(Clone, Debug, PartialEq)]
pub struct Alive {
    /// The speaker.
    pub peer: PkiId,
    /// Its endpoint for other organizations; empty if it has none.
    pub endpoint: String,
    /// Its endpoint within the organization, if the secret came along.
    pub internal_endpoint: Option<String>,
    /// Free bytes of the speaker.
    pub metadata: Bytes,
    /// When it spoke.
    pub time: PeerTime,
    /// How long it may take until it speaks again, if it said so; Fabric's peers do not.
    pub period: Option<Duration>,
    /// Its identity: the embedded one, else the one known under `peer`.
    pub identity: Arc<PeerIdentity>,
    /// As received.
    pub envelope: Envelope,
}

/// What a peer publishes about itself on a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct StateInfo {
    /// The speaker.
    pub peer: PkiId,
    /// Its identity.
    pub identity: Arc<PeerIdentity>,
    /// SHA-256 of the speaker's PKI-ID and the channel name: the channel for those who know it.
    pub channel_mac: [u8; DIGEST_LEN],
    /// When it spoke.
    pub time: PeerTime,
    /// Number of blocks in its ledger.
    pub height: u64,
    /// It left the channel.
    pub left_channel: bool,
    /// Chaincodes it can endorse with.
    pub chaincodes: Vec<Chaincode>,
    /// What it can do that Fabric's peers cannot.
    pub extension: Extension,
    /// As received.
    pub envelope: Envelope,
}

/// The version of the dissemination by stripes that this crate speaks.
pub const STRIPE_VERSION: u32 = 1;

/// The version of the order in which this crate passes on blocks that are pushed.
pub const RELAY_VERSION: u32 = 1;

/// What a node says on a channel that it can do beyond Fabric; peers of Fabric say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// Version of the dissemination by stripes that it takes part in; 0: none.
    pub stripe: u32,
    /// It cannot keep up and should be a leaf.
    pub slow: bool,
    /// Version of the order in which it passes on blocks that are pushed; 0: as Fabric does.
    pub relay: u32,
    /// It has blocks from an orderer before anybody pushes them.
    pub supplied: bool,
}

/// A leader of an organization declares itself, or somebody proposes itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Leadership {
    /// The channel it is about.
    pub channel: ChannelId,
    /// The speaker.
    pub peer: PkiId,
    /// When it spoke.
    pub time: PeerTime,
    /// A declaration, else a proposal.
    pub is_declaration: bool,
    /// As received.
    pub envelope: Envelope,
}

/// A block whose orderer signatures, number, channel and data hash were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedBlock {
    /// Its number.
    pub number: u64,
    /// Hash of its header.
    pub hash: [u8; DIGEST_LEN],
    /// Hash of the header before it, as this header says. Compared at commit.
    pub previous_hash: Bytes,
    /// It changes the configuration of the channel.
    pub is_config: bool,
    /// Sequence of the channel configuration under which it was checked. The committer checks
    /// again if the configuration has moved on.
    pub config_sequence: u64,
    /// The serialized `common.Block`, as received.
    pub bytes: Bytes,
}

impl VerifiedBlock {
    /// As gossip carries it on, made anew. Blocks travel unsigned: what came beside this one, in
    /// fields known or unknown, is nothing that we vouch for.
    pub fn envelope(&self, channel: &ChannelId) -> Envelope {
        wire::block(channel, self.number, self.bytes.clone())
    }
}

/// A block that gossip brought.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMessage {
    /// The block.
    pub block: VerifiedBlock,
}

/// A block of a state response with the private data that the responder was willing to give.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferredBlock {
    /// The block.
    pub block: VerifiedBlock,
    /// Serialized `PvtDataPayload`s.
    pub private_data: Vec<Bytes>,
}

/// Names a private write set: what one transaction writes to one collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrivateDigest {
    /// Number of the block.
    pub block: u64,
    /// Place of the transaction in the block.
    pub seq_in_block: u64,
    /// The chaincode.
    pub namespace: String,
    /// The collection.
    pub collection: String,
    /// The transaction; empty when data of an old block is asked for.
    pub tx_id: String,
}

impl From<PvtDataDigest> for PrivateDigest {
    fn from(digest: PvtDataDigest) -> Self {
        Self {
            block: digest.block_seq,
            seq_in_block: digest.seq_in_block,
            namespace: digest.namespace,
            collection: digest.collection,
            tx_id: digest.tx_id,
        }
    }
}

impl From<PrivateDigest> for PvtDataDigest {
    fn from(digest: PrivateDigest) -> Self {
        Self {
            tx_id: digest.tx_id,
            namespace: digest.namespace,
            collection: digest.collection,
            block_seq: digest.block,
            seq_in_block: digest.seq_in_block,
        }
    }
}

/// A private write set that an endorser hands to other members before its transaction is ordered.
/// Nothing but its form was checked: there is no block yet that has its hash.
#[derive(Clone, Debug, PartialEq)]
pub struct PushedWrites {
    /// The transaction.
    pub tx_id: String,
    /// The chaincode.
    pub namespace: String,
    /// The collection.
    pub collection: String,
    /// The serialized `KVRWSet`, as received.
    pub rwset: Bytes,
    /// Height of the endorser's ledger when it simulated.
    pub sim_height: u64,
    /// What the sender says the collection is; one, of this name.
    pub configs: CollectionConfigPackage,
}

/// One private write set of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct PrivateElement {
    /// Which.
    pub digest: PrivateDigest,
    /// The responder's copies: several endorsers may have given it several. None if it has none.
    pub payloads: Vec<PrivatePayload>,
}

/// A serialized `KVRWSet` that somebody says is the one asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct PrivatePayload {
    /// As received.
    pub bytes: Bytes,
    /// SHA-256 of these bytes, computed here.
    pub hash: [u8; DIGEST_LEN],
}

/// An identity in a pull answer, with the owner's envelope that redistribution needs.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityMessage {
    /// The identity.
    pub identity: Arc<PeerIdentity>,
    /// The envelope that its owner signed.
    pub envelope: Envelope,
}

/// The four messages of a pull round about items `I`.
#[derive(Clone, Debug, PartialEq)]
pub enum Pull<I> {
    /// What do you have?
    Hello {
        /// Names the round.
        nonce: u64,
        /// What the asker has already.
        known: Option<Summary>,
    },
    /// This is what I have.
    Digest {
        /// As in the hello.
        nonce: u64,
        /// Names of items.
        digests: Vec<Bytes>,
    },
    /// Give me these.
    Request {
        /// As in the hello.
        nonce: u64,
        /// Names of items.
        digests: Vec<Bytes>,
    },
    /// Here they are.
    Update {
        /// As in the hello.
        nonce: u64,
        /// The items.
        items: Vec<I>,
    },
}

/// Everything that reaches the core from another peer.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Gossiped sign of life.
    Alive(Box<Alive>),
    /// Tell me whom you know.
    MembershipRequest {
        /// Copied into the answer.
        nonce: u64,
        /// The requester about itself.
        about: Box<Alive>,
        /// What it knows already.
        known: Option<Summary>,
    },
    /// Whom somebody knows. Elements that did not pass are left out.
    MembershipResponse {
        /// Copied from the request.
        nonce: u64,
        /// Alive members, the responder among them.
        alive: Vec<Alive>,
        /// Dead members.
        dead: Vec<Alive>,
    },
    /// Pull of identities.
    IdentityPull(Pull<IdentityMessage>),
    /// Pull of blocks.
    BlockPull {
        /// Of this channel.
        channel: ChannelId,
        /// The message.
        pull: Pull<BlockMessage>,
    },
    /// A pushed block.
    Block {
        /// Of this channel.
        channel: ChannelId,
        /// The block.
        block: BlockMessage,
    },
    /// A peer about itself on a channel.
    StateInfo(Box<StateInfo>),
    /// Tell me what you know of the channel's peers.
    StateInfoPullRequest {
        /// SHA-256 of the requester's PKI-ID and the channel name.
        channel_mac: [u8; DIGEST_LEN],
        /// What it knows already.
        known: Option<Summary>,
    },
    /// What somebody knows of the channel's peers. Elements that did not pass are left out.
    StateSnapshot {
        /// Of this channel.
        channel: ChannelId,
        /// The state infos.
        elements: Vec<StateInfo>,
    },
    /// Leader election.
    Leadership(Leadership),
    /// Give me these blocks.
    StateRequest {
        /// Of this channel.
        channel: ChannelId,
        /// Copied into the answer.
        nonce: u64,
        /// First block wanted.
        start: u64,
        /// Last block wanted.
        end: u64,
    },
    /// Blocks that were asked for. Ends before the first block that did not pass.
    StateResponse {
        /// Of this channel.
        channel: ChannelId,
        /// Copied from the request.
        nonce: u64,
        /// The blocks.
        blocks: Vec<TransferredBlock>,
    },
    /// Answer to an acknowledged send.
    Ack {
        /// Of the message that is acknowledged.
        nonce: u64,
        /// Empty on success.
        error: String,
    },
    /// Keep this private write set until its transaction comes.
    PrivateData {
        /// Of this channel.
        channel: ChannelId,
        /// Copied into the acknowledgement.
        nonce: u64,
        /// The write set, or why it is none; its sender waits for an answer in either case.
        pushed: Result<Box<PushedWrites>, Refused>,
    },
    /// Give me these private write sets.
    PrivateRequest {
        /// Of this channel.
        channel: ChannelId,
        /// Copied into the answer.
        nonce: u64,
        /// Which ones.
        digests: Vec<PrivateDigest>,
    },
    /// Dissemination by stripes among those who announced it.
    Stripe {
        /// Of this channel.
        channel: ChannelId,
        /// What.
        message: stripe::Message,
    },
    /// Private write sets that were asked for.
    PrivateResponse {
        /// Of this channel.
        channel: ChannelId,
        /// Copied from the request.
        nonce: u64,
        /// Those that the responder gives.
        elements: Vec<PrivateElement>,
    },
}
