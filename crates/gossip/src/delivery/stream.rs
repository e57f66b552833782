//! What the machine and whoever runs the streams say to each other.

use std::time::Duration;

use bytes::Bytes;

use crate::{id::DIGEST_LEN, message::VerifiedBlock};

/// One stream from the ordering service, as its [`Command::Connect`] or [`Command::Watch`] names
/// it. Never used again for the same channel, so that what an ended stream still had under way is
/// told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// How the orderers of a channel agree, and so how far one of them can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Agreement {
    /// They may fail, but are honest: one is asked.
    #[default]
    CrashFault,
    /// Some may be dishonest: while one gives blocks, the others tell which blocks there are.
    Byzantine,
}

/// A block of which header and signatures were checked, and nothing else was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedHeader {
    /// Its number.
    pub number: u64,
    /// Hash of the header.
    pub hash: [u8; DIGEST_LEN],
    /// Hash of the header before it, as this header says.
    pub previous_hash: Bytes,
}

/// What happened to the streams from the ordering service of a channel, and what it should be
/// known for them.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The channel configuration says how the orderers agree.
    Agreement(Agreement),
    /// The channel configuration names these orderers now, `host:port`.
    Endpoints(Vec<String>),
    /// The last block that is durable. To be told before [`crate::Input::Committed`].
    Tip {
        /// Its number.
        number: u64,
        /// Hash of its header.
        hash: [u8; DIGEST_LEN],
    },
    /// The stream delivered a block that passed its verification.
    Block {
        /// Which stream.
        stream: StreamId,
        /// The block.
        block: VerifiedBlock,
    },
    /// A header stream delivered one that passed its verification.
    Header {
        /// Which stream.
        stream: StreamId,
        /// The header.
        header: VerifiedHeader,
    },
    /// The stream ended or never began; also when what it sent did not pass.
    Failed {
        /// Which stream.
        stream: StreamId,
        /// For the log.
        reason: String,
        /// The orderer refused us (403): trying again soon will not help.
        forbidden: bool,
    },
}

/// What to do with the streams from the ordering service of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// End what stream of blocks there is, wait, then ask this orderer for all blocks from `start`
    /// on.
    Connect {
        /// To be named in what is reported of this stream.
        stream: StreamId,
        /// `host:port`.
        endpoint: String,
        /// First block wanted.
        start: u64,
        /// Back-off before the attempt.
        after: Duration,
    },
    /// End the stream of blocks.
    Disconnect,
    /// Wait, then ask this orderer for header and signatures of all blocks from `start` on, beside
    /// all other streams.
    Watch {
        /// To be named in what is reported of this stream.
        stream: StreamId,
        /// `host:port`.
        endpoint: String,
        /// First header wanted.
        start: u64,
        /// Back-off before the attempt.
        after: Duration,
    },
    /// End this stream of headers. Every one that was begun is ended so, also if it failed.
    Unwatch(StreamId),
}
