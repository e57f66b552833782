//! Why a node does not start, join a channel or leave it, each in one line with what to change.

use std::{io, path::PathBuf};

use tidings_gossip::id::ChannelId;

use crate::msp_folder;

/// Why a node does not start or does not join.
#[derive(Debug, thiserror::Error)]
pub enum StartRefused {
    /// The MSP folder does not make an identity.
    #[error("{0}")]
    Msp(#[from] msp_folder::MspFolderRefused),
    /// The TLS material is no good.
    #[error("TLS: {0}")]
    Tls(#[from] crate::tls::TlsError),
    /// A folder cannot be used.
    #[error("cannot use the folder {}: {source}; {}", path.display(), folder_cure(source))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The port is gone.
    #[error("cannot use the port: {0}")]
    Listener(io::Error),
    /// Both ways to a leader at once (S-V2).
    #[error(
        "peer.gossip.orgLeader and peer.gossip.useLeaderElection exclude each other: switch one off"
    )]
    Leadership,
    /// A ledger does not open.
    #[error("{0}")]
    Ledger(#[from] tidings_ledger::OpenError),
    /// A store of private data, or of what peers say, does not open.
    #[error("{0}")]
    Store(#[from] tidings_ledger::StoreOpenError),
    /// The stores of private data and the ledger do not come together.
    #[error("the private data in {} cannot be used: {reason}", path.display())]
    Private {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was said of a channel's blocks cannot be read.
    #[error("what peers said of the blocks of {0} cannot be read: {1}")]
    Validity(ChannelId, String),
    /// What a ledger holds is no channel.
    #[error("the ledger in {} cannot be used: {reason}", path.display())]
    Channel {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The block is not the beginning of a channel.
    #[error(
        "not a genesis block: {0}; give block 0 of the channel, as `peer channel fetch oldest` writes it"
    )]
    Genesis(String),
    /// The block is not the configuration in force.
    #[error("not a configuration block: {0}")]
    Config(String),
    /// Nothing to begin from.
    #[error("the committer of channel {0} is empty: give it the channel's genesis block first")]
    Empty(ChannelId),
    /// The channel is already here.
    #[error("channel {0} is already joined")]
    Joined(ChannelId),
    /// Two ledgers of one channel.
    #[error(
        "{} and {} both hold a ledger of channel {channel}: move the one that is not to be used out \
         of the folder of all channels, and let the other have the channel's name",
        folders[0].display(), folders[1].display()
    )]
    Twice {
        /// The channel.
        channel: ChannelId,
        /// Their folders.
        folders: [PathBuf; 2],
    },
    /// The ledger that is there is of another channel.
    #[error(
        "the ledger in {} begins with another block: give the genesis block that it was joined with, \
         or remove that folder to join anew", path.display()
    )]
    OtherChain {
        /// The folder.
        path: PathBuf,
    },
    /// The channel was left with a newer configuration.
    #[error(
        "channel {0} was left with a newer configuration than its ledger has now: start the node \
         again to join it from the beginning"
    )]
    Outdated(ChannelId),
    /// The channel knows the own organization, but by other certificates.
    #[error(
        "channel {channel} does not take our certificate for one of {msp_id}: {reason}; the folder of peer.mspConfigPath must be of the organization that peer.localMspId names, or the block is of another network"
    )]
    Stranger {
        /// The channel.
        channel: ChannelId,
        /// Our MSP id.
        msp_id: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The genesis block could not be written.
    #[error("{0}")]
    Write(String),
    /// The node is going down.
    #[error("the node is stopping")]
    Stopping,
}

/// Why a channel is not left.
#[derive(Debug, thiserror::Error)]
pub enum LeaveRefused {
    /// The node is not in it.
    #[error("channel '{0}' has not been joined: `tidings channel list` names those that were")]
    NotJoined(ChannelId),
    /// It was left before.
    #[error("channel '{0}' was left before; join it with its genesis block to be in it again")]
    LeftBefore(ChannelId),
    /// That it was left cannot be noted, and the next start would be in it again.
    #[error("cannot note in {} that the channel is left: {source}; make it writable", path.display())]
    Mark {
        /// The folder of its ledger.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The node is going down.
    #[error("the node is stopping")]
    Stopping,
}

fn folder_cure(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "a file is where a folder belongs: move it away"
        }
        _ => "make it readable and writable, or name another",
    }
}
