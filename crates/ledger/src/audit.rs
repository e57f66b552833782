//! Checking a whole ledger, without changing a byte of it.
//!
//! An [`Audit`] hands out every block after it has checked records, numbers, previous hashes,
//! data hashes and index files. Whoever knows the rules of the channel checks signatures on top.

use std::{
    fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tidings_proto::block::BlockView;

use crate::{
    Cut, Damage, Failed, Fault, ReadError, Tip, chain,
    folder::{self, Lock},
    pruned::Pruned,
    segment::{Scan, Segment},
};

/// A walk through a ledger that nobody writes to. Yields blocks in order, of a pruned ledger those
/// below its first one that are held before all others; ends after the first fault.
#[derive(Debug)]
pub struct Audit {
    dir: PathBuf,
    /// First numbers of segments that are not begun, the next one last.
    waiting: Vec<u64>,
    pruned: Pruned,
    /// Numbers of held blocks that are not read, the next one last.
    held: Vec<u64>,
    scan: Option<Scan>,
    tip: Tip,
    torn: Option<Cut>,
    /// Held, not used. A copied folder may have no lock file.
    _lock: Option<File>,
}

impl Audit {
    /// Begins at the first block. Keeps a writer out while it lives.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, AuditError> {
        let dir = dir.as_ref();
        let is_folder = fs::metadata(dir).map_or_else(
            |error| error.kind() == io::ErrorKind::PermissionDenied,
            |found| found.is_dir(),
        );
        if !is_folder {
            return Err(AuditError::NoFolder {
                dir: dir.to_owned(),
            });
        }
        let mut waiting = folder::segments(dir)?;
        if waiting.is_empty() {
            return Err(AuditError::NoLedger {
                dir: dir.to_owned(),
            });
        }
        let lock = if dir.join("LOCK").exists() {
            let lock = Lock::Shared.take(dir)?;
            Some(lock.ok_or_else(|| AuditError::InUse {
                dir: dir.to_owned(),
            })?)
        } else {
            None
        };
        let pruned = Pruned::load(dir)?;
        // Those below are what a crash left of pruning.
        waiting.retain(|first| *first >= pruned.first());
        let last = waiting.last().copied();
        let last = last.ok_or_else(|| missing(dir, pruned.first()))?;
        let mut torn = None;
        if Segment::is_stillborn(dir, last)? {
            waiting.pop();
            let path = dir.join(folder::segment_name(last));
            let bytes = path.metadata().map_err(Failed::to("inspect", &path))?.len();
            torn = Some(Cut {
                path,
                offset: 0,
                bytes,
                number: last,
            });
        }
        waiting.reverse();
        let mut held = pruned.numbers();
        held.reverse();
        let dir = dir.to_owned();
        Ok(Self {
            dir,
            waiting,
            held,
            scan: None,
            tip: pruned.tip,
            pruned,
            torn,
            _lock: lock,
        })
    }

    /// The end of what was checked so far.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// Where the chain on disk begins: behind nothing, or behind what was pruned, of which the
    /// ledger's own note is the only witness.
    pub fn begin(&self) -> Tip {
        self.pruned.tip
    }

    /// The tail that opening the ledger would cut. Known when the walk has ended; no fault, but
    /// what a crash leaves.
    pub fn torn(&self) -> Option<&Cut> {
        self.torn.as_ref()
    }

    fn step(&mut self) -> Result<Option<BlockView>, ReadError> {
        if let Some(number) = self.held.pop() {
            let block = self.pruned.block(number)?;
            let block = block.filter(is_covered);
            // Its number and bytes were checked when it was read.
            let damage = || {
                let (file, offset, _) = self.pruned.place(number)?;
                Some(file.damage(offset, number, Fault::DataHash))
            };
            return match (block, damage()) {
                (None, Some(damage)) => Err(damage.into()),
                (block, _) => Ok(block),
            };
        }
        loop {
            let Some(scan) = &mut self.scan else {
                let Some(first) = self.waiting.pop() else {
                    return Ok(None);
                };
                self.scan = Some(begin(&self.dir, first, self.tip)?);
                continue;
            };
            let offset = scan.offset;
            let step = if self.waiting.is_empty() && self.torn.is_none() {
                scan.step_to_tear()?
            } else {
                scan.step()?.ok_or(None)
            };
            match step {
                Ok(block) => {
                    if !is_covered(&block) {
                        let number = self.tip.height();
                        let damage = scan.segment.damage(offset, number, Fault::DataHash);
                        return Err(damage.into());
                    }
                    self.tip = scan.tip;
                    return Ok(Some(block));
                }
                Err(torn) => {
                    let scan = self.scan.take().expect("it was just stepped");
                    self.torn = torn.or_else(|| self.torn.take());
                    if !self.waiting.is_empty() {
                        check_index(&self.dir, &scan)?;
                    }
                }
            }
        }
    }
}

impl Iterator for Audit {
    type Item = Result<BlockView, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.waiting.clear();
            self.held.clear();
            self.scan = None;
        }
        step.transpose()
    }
}

/// Which folder is wanted.
const WHICH: &str =
    "name the folder with the .blocks files, which is channels/NAME below peer.fileSystemPath";

/// Why a folder cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is none.
    #[error("there is no folder {}: {}", dir.display(), WHICH)]
    NoFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no segment file in it.
    #[error("{} holds no ledger: {}", dir.display(), WHICH)]
    NoLedger {
        /// The folder.
        dir: PathBuf,
    },
    /// Somebody writes to it.
    #[error("the ledger in {} is open: stop the process that uses it first", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<Failed> for AuditError {
    fn from(failed: Failed) -> Self {
        Self::Read(failed.into())
    }
}

fn begin(dir: &Path, first: u64, tip: Tip) -> Result<Scan, ReadError> {
    if first != tip.height() {
        return Err(missing(dir, tip.height()));
    }
    let segment = Segment::open(dir, first, false)?;
    Ok(Scan::new(Arc::new(segment), tip)?)
}

fn missing(dir: &Path, number: u64) -> ReadError {
    let damage = Damage {
        path: dir.join(folder::segment_name(number)),
        offset: 0,
        number,
        fault: Fault::SegmentMissing,
    };
    damage.into()
}

/// Whether the header's data hash is that of the transactions.
fn is_covered(block: &BlockView) -> bool {
    let claimed = block.header().map(|header| &header.data_hash[..]);
    claimed == Some(&chain::data_hash(block)[..])
}

/// An index file is what its segment makes it, or is not there at all.
fn check_index(dir: &Path, scan: &Scan) -> Result<(), ReadError> {
    let number = scan.segment.first;
    let path = dir.join(folder::index_name(number));
    let found = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(Failed::to("read", &path))?,
    };
    let empty = scan.index.is_empty();
    if !empty && scan.index.encode(&scan.segment, scan.offset, &scan.tip) == found {
        return Ok(());
    }
    Err(Damage {
        path,
        offset: 0,
        number,
        fault: Fault::Index,
    }
    .into())
}
