//! Checking a whole ledger, without changing a byte of it.
//!
//! An [`Audit`] hands out every block after it has checked records, numbers, previous hashes,
//! data hashes and index files. Whoever knows the rules of the channel checks signatures on top.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use tidings_proto::block::BlockView;

use crate::{
    Cut, Damage, Failed, Fault, ReadError, Tip, chain,
    folder::{self, Lock},
    segment::{Scan, Segment},
};

/// A walk through a ledger that nobody writes to. Yields blocks in order; ends after the first
/// fault.
#[derive(Debug)]
pub struct Audit {
    dir: PathBuf,
    /// First numbers of segments that are not begun, the next one last.
    waiting: Vec<u64>,
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
        let last = waiting.last().copied().unwrap_or_default();
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
        let dir = dir.to_owned();
        Ok(Self {
            dir,
            waiting,
            scan: None,
            tip: Tip::default(),
            torn,
            _lock: lock,
        })
    }

    /// The end of what was checked so far.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// The tail that opening the ledger would cut. Known when the walk has ended; no fault, but
    /// what a crash leaves.
    pub fn torn(&self) -> Option<&Cut> {
        self.torn.as_ref()
    }

    fn step(&mut self) -> Result<Option<BlockView>, ReadError> {
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
                    let claimed = block.header().map(|header| &header.data_hash[..]);
                    if claimed != Some(&chain::data_hash(&block)[..]) {
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
            self.scan = None;
        }
        step.transpose()
    }
}

/// Why a folder cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is no segment file in it.
    #[error("{} holds no ledger: name the folder with the .blocks files", dir.display())]
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
    let number = tip.height();
    if first != number {
        let path = dir.join(folder::segment_name(number));
        return Err(Damage {
            path,
            offset: 0,
            number,
            fault: Fault::SegmentMissing,
        }
        .into());
    }
    let segment = Segment::open(dir, first, false)?;
    Ok(Scan::new(Arc::new(segment), tip)?)
}

/// An index file is what its segment makes it, or is not there at all.
fn check_index(dir: &Path, scan: &Scan) -> Result<(), ReadError> {
    let number = scan.segment.first;
    let path = dir.join(folder::index_name(number));
    let found = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
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
