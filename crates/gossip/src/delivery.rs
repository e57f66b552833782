//! When and from which orderer to pull blocks.

use std::time::Duration;

use crate::message::VerifiedBlock;

/// What happened to the stream from the ordering service of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The channel configuration names these orderers now, `host:port`.
    Endpoints(Vec<String>),
    /// The stream delivered a block that passed its verification.
    Block(VerifiedBlock),
    /// The stream ended or never began; also when a block did not pass.
    Failed {
        /// The endpoint it was about.
        endpoint: String,
        /// For the log.
        reason: String,
        /// The orderer refused us (403): trying again soon will not help.
        forbidden: bool,
    },
}

/// What to do with the stream from the ordering service of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// End what stream there is, wait, then ask this orderer for all blocks from `start` on.
    Connect {
        /// `host:port`.
        endpoint: String,
        /// First block wanted.
        start: u64,
        /// Back-off before the attempt.
        after: Duration,
    },
    /// End the stream.
    Disconnect,
}
