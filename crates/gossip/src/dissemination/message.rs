//! What extended nodes say to each other about blocks, as types.
//!
//! The protobuf form is a matter of the edge. What is signed has one form, made here of fixed
//! fields, so that everybody gets the same bytes. Promises nothing about what is in a message but
//! its types: whether the fields fit together is judged where they are used.
//!
//! Rules: docs/protocol/stripe.md.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::id::{ChannelId, DIGEST_LEN, PkiId};

/// Bytes of a chunk message beside its payload, for what is computed of times and budgets.
pub const CHUNK_OVERHEAD: u64 = 128;

/// Blocks after the gap-free prefix that a [`Status`] tells of.
pub const STATUS_AHEAD: u64 = 256;

/// SHA-256 of bytes as they stand: a serialized block, a chunk, the list of a view.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; DIGEST_LEN]);

impl Digest {
    /// Stands for whatever the addressee has.
    pub const ANY: Self = Self([0; DIGEST_LEN]);

    /// Hashes these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// One message. It comes from a peer whose stream was authenticated and that is of our own
/// organization; the signature of a [`View`] was checked to be its author's, and that of
/// [`Hashes`] its signer's.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A part of a block: from parent to child, or in answer to a request.
    Chunk(Chunk),
    /// An inner node of the tree has this stripe, and will send it on.
    Ack {
        /// Block.
        number: u64,
        /// Which stripe.
        stripe: u8,
    },
    /// What the sender has of a block.
    Have(Have),
    /// These stripes are wanted.
    Request {
        /// Block.
        number: u64,
        /// Of its bytes; [`Digest::ANY`] if the sender knows only that the addressee has it.
        hash: Digest,
        /// How the sender believes the block to be cut; means nothing with [`Digest::ANY`].
        cut: Cut,
        /// Which stripes.
        stripes: u64,
    },
    /// What the sender has of all.
    Status(Status),
    /// Who takes part.
    View(Arc<View>),
    /// A view is missing here.
    ViewRequest {
        /// Its epoch; zero for the latest.
        wanted: u64,
        /// The latest epoch that is known; zero for none.
        known: u64,
    },
    /// To the root: something is wrong with a member, or no longer.
    Suspect {
        /// With whom.
        member: PkiId,
        /// What.
        kind: Suspicion,
    },
    /// To the root: the chunks of a block do not make up its bytes.
    HashesRequest {
        /// Block.
        number: u64,
        /// Of its bytes.
        hash: Digest,
    },
    /// The answer to it.
    Hashes(Arc<Hashes>),
}

impl Message {
    /// Which of the two queues of a stream it waits in. Control leaves before chunks.
    pub fn queue(&self) -> Queue {
        match self {
            Self::Chunk(_) => Queue::Chunk,
            _ => Queue::Control,
        }
    }

    /// About how long it is on the wire, framing included.
    pub fn wire_len(&self) -> u64 {
        let count = |entries: usize| u64::try_from(entries).unwrap_or(u64::MAX);
        match self {
            Self::Chunk(chunk) => count(chunk.payload.len()).saturating_add(CHUNK_OVERHEAD),
            Self::Ack { .. } => 56,
            Self::Have(_) | Self::Suspect { .. } | Self::ViewRequest { .. } => 64,
            Self::Request { .. } | Self::HashesRequest { .. } => 72,
            Self::Status(status) => 96 + status.ahead_len(),
            Self::View(view) => 256 + 37 * count(view.added.len()) + 34 * count(view.removed.len()),
            Self::Hashes(hashes) => 256 + 34 * count(hashes.chunks.len()),
        }
    }
}

/// Where a message waits to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Small messages, always first.
    Control,
    /// Payload; first in, first out over all streams of the node.
    Chunk,
}

/// How a block was cut, and by which trees it travels. The root decides it for each block, and
/// every chunk says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Length of the block.
    pub len: u32,
    /// Data stripes.
    pub k: u8,
    /// Parity stripes, 0 or 1.
    pub p: u8,
}

/// By which rule a tree grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Children of an inner node.
    pub cap: u16,
    /// Children of the root.
    pub root_cap: u8,
    /// Travelling time in sending times, in quarters of a power of two.
    pub ratio: u8,
}

/// A part of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Of the view whose trees it travels in.
    pub epoch: u64,
    /// Block.
    pub number: u64,
    /// Of the bytes of the whole block.
    pub hash: Digest,
    /// How the block was cut.
    pub cut: Cut,
    /// Which part: data stripes first, then parity.
    pub stripe: u8,
    /// The trees.
    pub shape: Shape,
    /// It answers a request, so it travels in no tree.
    pub repair: bool,
    /// It was sent before, and not acknowledged.
    pub resend: bool,
    /// A slice of the block, or parity. The last slice may be shorter than the others.
    pub payload: Bytes,
}

/// What a node has of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    /// Block.
    pub number: u64,
    /// Of its bytes.
    pub hash: Digest,
    /// Stripes that are here. [`Have::COMPLETE`]: the block was verified. Zero: it comes in place
    /// of a payload that would not be sent to the addressee.
    pub stripes: u64,
    /// How the block was cut.
    pub cut: Cut,
    /// The addressee may miss these stripes and nobody else will send them.
    pub urgent: bool,
}

impl Have {
    /// All stripes, verified.
    pub const COMPLETE: u64 = u64::MAX;
}

/// What a node has of all blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The addressee is to answer with its own, which does not want an answer.
    pub answer: bool,
    /// Every block below is here.
    pub height: u64,
    /// Bit i: block `height + i` is here, bit 0 of the first word first.
    pub ahead: [u64; 4],
    /// What the sender sent of chunks since it started.
    pub counters: Counters,
}

impl Status {
    fn ahead_len(&self) -> u64 {
        let words = self.ahead.iter().rposition(|word| *word != 0);
        words.map_or(0, |last| 8 * (last as u64 + 1))
    }
}

/// Counts of chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// To children, for the first time.
    pub sent: u64,
    /// To children, once more.
    pub resent: u64,
    /// In answer to requests.
    pub served: u64,
}

/// How a member takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// May be an inner node of a tree.
    #[default]
    Normal,
    /// Always a leaf: it delays only itself.
    Slow,
    /// A leaf that gets digests in place of payload.
    Suspect,
}

impl Class {
    /// As it stands on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Slow => 1,
            Self::Suspect => 2,
        }
    }

    /// From the wire.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::Slow),
            2 => Some(Self::Suspect),
            _ => None,
        }
    }
}

/// What is wrong with a member, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspicion {
    /// It did not acknowledge a chunk.
    Silent,
    /// The connection to it broke.
    Lost,
    /// It was suspected here and spoke.
    Alive,
    /// This stripe of this block came from it, and is not what the root has signed.
    Corrupt {
        /// Block.
        number: u64,
        /// Which stripe.
        stripe: u8,
    },
}

/// Who takes part in the trees of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Later views have greater epochs; the low sixteen bits are the author's.
    pub epoch: u64,
    /// Who injects blocks: one of the members, or a plain peer that leads.
    pub root: PkiId,
    /// Whose signature it bears: the root's, or that of the member that speaks for a plain root.
    pub author: PkiId,
    /// The epoch that the lists change; zero if `added` is everybody.
    pub base: u64,
    /// New members and members of another class than before.
    pub added: Vec<(PkiId, Class)>,
    /// Members that are no more.
    pub removed: Vec<PkiId>,
    /// [`View::digest_of`] the list that results.
    pub digest: Digest,
    /// The author's, over [`View::to_be_signed`].
    pub signature: Bytes,
}

impl View {
    /// The digest of a whole list of members, which is sorted by id.
    pub fn digest_of(members: &[(PkiId, Class)]) -> Digest {
        let mut hash = Sha256::new();
        for (peer, class) in members {
            hash.update(peer.as_bytes());
            hash.update([class.number()]);
        }
        Digest(hash.finalize().into())
    }

    /// What the author signs. It names the list that results and not the one that it changes, so
    /// that a member may hand the view on in full that it received as changes.
    pub fn to_be_signed(&self, channel: &ChannelId) -> Vec<u8> {
        let mut bytes = signed_header(b"stripe/1 view", channel);
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend(self.root.as_bytes());
        bytes.extend(self.author.as_bytes());
        bytes.extend(self.digest.0);
        bytes
    }
}

/// What the chunks of a block should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// Block.
    pub number: u64,
    /// Of its bytes.
    pub hash: Digest,
    /// How it was cut.
    pub cut: Cut,
    /// Of every chunk, by stripe.
    pub chunks: Vec<Digest>,
    /// Who signed it.
    pub signer: PkiId,
    /// The signer's, over [`Hashes::to_be_signed`].
    pub signature: Bytes,
}

impl Hashes {
    /// What the signer signs.
    pub fn to_be_signed(&self, channel: &ChannelId) -> Vec<u8> {
        let mut bytes = signed_header(b"stripe/1 hashes", channel);
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.hash.0);
        bytes.extend(self.cut.len.to_be_bytes());
        bytes.extend([self.cut.k, self.cut.p]);
        bytes.extend(self.signer.as_bytes());
        for chunk in &self.chunks {
            bytes.extend(chunk.0);
        }
        bytes
    }
}

/// Keeps what is signed for one purpose and channel from meaning anything for another.
fn signed_header(purpose: &[u8], channel: &ChannelId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend(purpose);
    bytes.push(0);
    let len = u32::try_from(channel.as_bytes().len()).unwrap_or(u32::MAX);
    bytes.extend(len.to_be_bytes());
    bytes.extend(channel.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_survive_the_wire_and_others_are_none() {
        for class in [Class::Normal, Class::Slow, Class::Suspect] {
            assert_eq!(Class::from_number(class.number().into()), Some(class));
        }
        assert_eq!(Class::from_number(3), None);
    }

    #[test]
    fn everything_that_counts_is_signed() {
        let view = View {
            epoch: 1,
            root: PkiId::new([1; 32]),
            author: PkiId::new([2; 32]),
            base: 0,
            added: Vec::new(),
            removed: Vec::new(),
            digest: View::digest_of(&[(PkiId::new([1; 32]), Class::Normal)]),
            signature: Bytes::new(),
        };
        let signed = |view: &View| view.to_be_signed(&"ch".into());
        for other in [
            View {
                epoch: 2,
                ..view.clone()
            },
            View {
                root: PkiId::new([3; 32]),
                ..view.clone()
            },
            View {
                author: PkiId::new([3; 32]),
                ..view.clone()
            },
            View {
                digest: View::digest_of(&[]),
                ..view.clone()
            },
        ] {
            assert_ne!(signed(&view), signed(&other), "{other:?}");
        }
        assert_ne!(signed(&view), view.to_be_signed(&"other".into()));
        let as_changes = View {
            base: 9,
            ..view.clone()
        };
        assert_eq!(signed(&view), signed(&as_changes));
    }
}
