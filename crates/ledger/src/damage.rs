//! What can be wrong with files, said so that a person knows where to look and what to do.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use tidings_proto::Malformed;

/// The operating system refused something.
#[derive(Debug)]
pub struct Failed {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Failed {
    /// For `map_err`.
    pub(crate) fn to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The file or folder it was about.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// There is no room: disk full, quota used up, or the file may not grow further.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(
            self.source.kind(),
            StorageFull | QuotaExceeded | FileTooLarge
        )
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.action,
            self.path.display(),
            self.source
        )?;
        match self.source.kind() {
            _ if self.is_full() => f.write_str("; free some space and try again, nothing is lost"),
            io::ErrorKind::PermissionDenied => {
                f.write_str("; let this user read and write the folder")
            }
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                f.write_str("; a file is where a folder belongs: move it away")
            }
            io::ErrorKind::IsADirectory => {
                f.write_str("; a folder is where a file belongs: move it away")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Committed bytes are not what they were when they were written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is damaged at byte {offset}, block {number}: {fault}; put back a copy of the folder, \
     or remove the folder to fetch the chain again",
    path.display()
)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// The block that should be there.
    pub number: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a place in a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The head of a segment file is wrong.
    #[error("the head of the segment file is wrong")]
    SegmentHead,
    /// A segment file is missing.
    #[error("the segment file that begins with this block is missing")]
    SegmentMissing,
    /// The note of what was pruned is wrong.
    #[error("the note of where the chain of this pruned ledger begins is wrong")]
    PruneNote,
    /// The head of a record is wrong or cut off.
    #[error("the head of the record is wrong or cut off")]
    RecordHead,
    /// The bytes of a block are wrong or cut off.
    #[error("the bytes of the block are wrong or cut off")]
    Checksum,
    /// The bytes are whole but no block.
    #[error("not a block: {0}")]
    NotABlock(#[from] Malformed),
    /// The block has no header.
    #[error("the block has no header")]
    NoHeader,
    /// Another block stands here.
    #[error("block {0} stands here")]
    Number(u64),
    /// The previous hash is not the hash of the header before.
    #[error("the previous hash is not the hash of the header before")]
    PreviousHash,
    /// The data hash does not cover the transactions.
    #[error("the data hash is not the hash of the transactions")]
    DataHash,
    /// The index of a segment does not say what the segment says. Removing the index file is
    /// enough: it is made again.
    #[error("the index does not fit its segment (remove the index file, it is made again)")]
    Index,
}

/// Why a block could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// What is there is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
}
