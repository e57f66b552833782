//! The one writer: opening a folder, and appending to it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tidings_proto::block::BlockView;

use crate::{
    BLOCK_LEN_MAX, BlockHash, Cut, Damage, Failed, Fault, ReadError, Reader, Tip,
    folder::{self, Lock},
    index::{Finished, SegmentIndex},
    pruned::{self, Pruned},
    reader::{Committed, Shared},
    record::{HEAD_LEN, Head},
    segment::{SEGMENT_HEAD_LEN, Scan, Segment},
};

/// Bytes after which a segment is finished. The last segment is read on start, which at this
/// size takes a fraction of a second.
pub const SEGMENT_LEN_MAX: u64 = 64 << 20;

/// Index entries (one for each block and each transaction) after which a segment is finished, so
/// that tiny blocks cannot fill memory with the index of the last segment: 16 bytes each make
/// one MiB.
pub const SEGMENT_ENTRIES_MAX: usize = 1 << 16;

/// When a segment is finished. A group of blocks is never split, so a segment may be larger by
/// one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes in a segment.
    pub segment_len_max: u64,
    /// Index entries of a segment; above [`SEGMENT_ENTRIES_MAX`] that counts.
    pub segment_entries_max: usize,
    /// What [`Ledger::prune`] leaves.
    pub retention: Retention,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_len_max: SEGMENT_LEN_MAX,
            segment_entries_max: SEGMENT_ENTRIES_MAX,
            retention: Retention::ALL,
        }
    }
}

/// What is kept: everything if nothing is said, and what either wants kept if both are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// At least so many of the last blocks.
    pub blocks: Option<u64>,
    /// At least what was written here so short ago: the time of the last write to a segment file
    /// counts, since what is in a block is somebody else's word.
    pub age: Option<Duration>,
}

impl Retention {
    /// Everything.
    pub const ALL: Self = Self {
        blocks: None,
        age: None,
    };

    /// Whether a segment that ends so many blocks below the height, and was last written then, is
    /// given up.
    fn gives_up(&self, above: u64, written: SystemTime, now: SystemTime) -> bool {
        // A clock that went back makes things younger, not older.
        let age = now.duration_since(written).unwrap_or_default();
        let is_told = self.blocks.is_some() || self.age.is_some();
        // The newest block is always there.
        (is_told && above > 0)
            && self.blocks.is_none_or(|blocks| above >= blocks)
            && self.age.is_none_or(|keep| age >= keep)
    }
}

/// The chain of one channel on disk, open for writing.
#[derive(Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
    settings: Settings,
    recovery: Recovery,
    /// Bytes behind the committed ones may be left from an append that failed.
    unclean: bool,
    /// Held, not used.
    _lock: File,
}

impl Ledger {
    /// Opens the ledger in a folder, or makes an empty one. Cuts a torn tail and makes missing
    /// indexes again; [`Ledger::recovery`] says so.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(dir, Settings::default())
    }

    /// As [`Ledger::open`], with other sizes. A folder may be opened with different sizes each
    /// time.
    pub fn open_with(dir: impl AsRef<Path>, settings: Settings) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        folder::create(dir)?;
        let lock = Lock::Exclusive.take(dir)?;
        let lock = lock.ok_or_else(|| OpenError::InUse {
            dir: dir.to_owned(),
        })?;
        let mut recovery = Recovery::default();
        let committed = recover(dir, &mut recovery)?;
        let shared = Arc::new(Shared::new(dir.to_owned(), committed));
        Ok(Self {
            shared,
            settings,
            recovery,
            unclean: false,
            _lock: lock,
        })
    }

    /// Commits blocks: they are on disk and visible to readers when this returns, with one sync
    /// for all of them. On an error none of them is, and the ledger is as before.
    pub fn append(&mut self, blocks: &[BlockView]) -> Result<Tip, AppendError> {
        let tips = self.judge(blocks)?;
        let Some(tip) = tips.last().copied() else {
            return Ok(self.tip());
        };
        self.clean()?;
        if self.is_full() {
            self.roll()?;
        }
        match self.store(blocks, &tips) {
            Ok((index, len)) => {
                let mut committed = self.shared.write();
                committed.index.extend(index);
                committed.len = len;
                committed.tip = tip;
                Ok(tip)
            }
            Err(failed) => {
                self.unclean = true;
                // What this cannot do, the next append does first.
                let _ = self.clean();
                Err(failed.into())
            }
        }
    }

    /// Removes the oldest segment for good if it is finished and all of it is to be given up, and
    /// says up to which block the chain is gone then; nothing if there is nothing to do. The first
    /// block, configuration blocks, and those for which `hold` says so stay readable. On an error
    /// no block is lost that a note does not tell of.
    pub fn prune(
        &mut self,
        now: SystemTime,
        hold: &dyn Fn(&BlockView) -> bool,
    ) -> Result<Option<u64>, ReadError> {
        let (oldest, before, height) = {
            let committed = self.shared.read();
            let oldest = committed.finished.first().cloned();
            let oldest = oldest.filter(|_| self.settings.retention != Retention::ALL);
            (
                oldest,
                Arc::clone(&committed.pruned),
                committed.tip.height(),
            )
        };
        let Some(oldest) = oldest else {
            return Ok(None);
        };
        let dir = &self.shared.dir;
        let path = dir.join(folder::segment_name(oldest.first));
        let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let written = written.map_err(Failed::to("inspect", &path))?;
        let above = height.saturating_sub(oldest.end());
        if !self.settings.retention.gives_up(above, written, now) {
            return Ok(None);
        }
        let mut scan = Scan::new(
            Arc::new(Segment::open(dir, oldest.first, false)?),
            before.tip,
        )?;
        let mut held = Vec::new();
        while let Some(block) = scan.step()? {
            if block.number() == Some(0) || block.is_config_block() || hold(&block) {
                held.push(block);
            }
        }
        if scan.tip != oldest.tip() {
            let (offset, number) = (scan.offset, scan.tip.height());
            return Err(scan
                .segment
                .damage(offset, number, Fault::RecordHead)
                .into());
        }
        let pruned = before.advance(dir, scan.tip, &held)?;
        {
            let mut committed = self.shared.write();
            committed.pruned = Arc::new(pruned);
            Arc::make_mut(&mut committed.finished).remove(0);
        }
        pruned::remove(dir, [oldest.first])?;
        Ok(Some(oldest.end()))
    }

    /// A reader beside this writer.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The end of the chain.
    pub fn tip(&self) -> Tip {
        self.shared.read().tip
    }

    /// How many blocks are committed, which is the number of the next one.
    pub fn height(&self) -> u64 {
        self.tip().height()
    }

    /// What had to be put right when the folder was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The tips that the blocks lead to one after the other.
    fn judge(&self, blocks: &[BlockView]) -> Result<Vec<Tip>, AppendError> {
        let mut tip = self.tip();
        let mut tips = Vec::with_capacity(blocks.len());
        for block in blocks {
            let len = block.bytes().len();
            tip = tip
                .follow(block)
                .map_err(|fault| self.refusal(block, tip, &fault))?;
            if len > BLOCK_LEN_MAX {
                return Err(AppendError::TooLarge {
                    number: tip.height() - 1,
                    len,
                });
            }
            tips.push(tip);
        }
        Ok(tips)
    }

    fn refusal(&self, block: &BlockView, tip: Tip, fault: &Fault) -> AppendError {
        let Some(number) = block.number() else {
            return AppendError::NoHeader;
        };
        let want = tip.height();
        if matches!(fault, Fault::PreviousHash) {
            return AppendError::WrongPreviousHash { number };
        }
        match self.reader().block(number) {
            Ok(Some(ours)) if BlockHash::of(&ours) == BlockHash::of(block) => {
                AppendError::AlreadyCommitted { number }
            }
            Ok(Some(_)) => AppendError::Fork { number },
            Ok(None) | Err(_) => AppendError::WrongNumber { number, want },
        }
    }

    /// Writes and syncs the blocks behind the committed ones.
    fn store(&self, blocks: &[BlockView], tips: &[Tip]) -> Result<(SegmentIndex, u64), Failed> {
        let (segment, mut offset, synced) = {
            let committed = self.shared.read();
            (
                Arc::clone(&committed.segment),
                committed.len,
                committed.tip.height(),
            )
        };
        let mut index = SegmentIndex::default();
        for (block, tip) in blocks.iter().zip(tips) {
            let bytes = block.bytes();
            let head = Head::of(segment.salt, tip.height() - 1, synced, bytes);
            let head = head.expect("the length was judged before");
            index.add(segment.first, tip, block, offset);
            let body = offset + HEAD_LEN as u64;
            let written = segment
                .file
                .write_all_at(&head.encode(segment.salt), offset);
            written
                .and_then(|()| segment.file.write_all_at(bytes, body))
                .map_err(Failed::to("write", &segment.path))?;
            offset = body + u64::from(head.len);
        }
        segment
            .file
            .sync_data()
            .map_err(Failed::to("sync", &segment.path))?;
        Ok((index, offset))
    }

    /// Cuts away what a failed append may have left.
    fn clean(&mut self) -> Result<(), Failed> {
        if self.unclean {
            let committed = self.shared.read();
            let segment = &committed.segment;
            // On disk too, before a segment may follow: were only the cut lost in a crash, blocks
            // that were never committed would stand between the two.
            let cut = segment.file.set_len(committed.len);
            cut.and_then(|()| segment.file.sync_data())
                .map_err(Failed::to("cut back", &segment.path))?;
            self.unclean = false;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let committed = self.shared.read();
        let entries_max = self.settings.segment_entries_max.min(SEGMENT_ENTRIES_MAX);
        let full = committed.len >= self.settings.segment_len_max
            || committed.index.entries_len() >= entries_max;
        full && !committed.index.is_empty()
    }

    /// Finishes the last segment and begins a new one. Until the new one is on disk nothing
    /// changes but an index file, which is written again next time.
    fn roll(&self) -> Result<(), Failed> {
        let dir = &self.shared.dir;
        let (segment, finished) = {
            let committed = self.shared.read();
            let Committed {
                segment,
                index,
                len,
                tip,
                ..
            } = &*committed;
            let finished = index.write(dir, segment, *len, tip)?;
            (Segment::create(dir, tip.height()), finished)
        };
        let segment = segment.inspect_err(|failed| {
            // Without a good head it would be removed on start anyway.
            let _ = fs::remove_file(failed.path());
        })?;
        let mut committed = self.shared.write();
        Arc::make_mut(&mut committed.finished).push(finished);
        committed.segment = Arc::new(segment);
        committed.index = SegmentIndex::default();
        committed.len = SEGMENT_HEAD_LEN as u64;
        Ok(())
    }
}

/// What was put right on start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The tail that was cut: bytes of blocks that were never reported as committed.
    pub cut: Option<Cut>,
    /// How many index files were missing or did not fit and were made again.
    pub indexes_rebuilt: usize,
}

/// Why a folder could not be opened as a ledger. It is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open, or this one already does.
    #[error(
        "the ledger in {} is already open: stop the other process or choose another folder",
        dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The operating system refused.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Committed blocks are damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Failed(failed) => failed.into(),
            ReadError::Damaged(damage) => damage.into(),
        }
    }
}

/// Why blocks were not committed. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A block without header.
    #[error("the block has no header")]
    NoHeader,
    /// This block is in the ledger.
    #[error("block {number} is already committed")]
    AlreadyCommitted {
        /// Its number.
        number: u64,
    },
    /// Another block with this number is in the ledger.
    #[error("another block {number} is already committed: the chains have parted")]
    Fork {
        /// Its number.
        number: u64,
    },
    /// Blocks come in the order of their numbers.
    #[error("block {number} cannot be next: block {want} is")]
    WrongNumber {
        /// Its number.
        number: u64,
        /// The only number that would do.
        want: u64,
    },
    /// The block belongs to another chain.
    #[error("the previous hash of block {number} is not the hash of the last header")]
    WrongPreviousHash {
        /// Its number.
        number: u64,
    },
    /// Larger than [`BLOCK_LEN_MAX`].
    #[error("block {number} has {len} bytes, more than the {BLOCK_LEN_MAX} that are stored")]
    TooLarge {
        /// Its number.
        number: u64,
        /// Its bytes.
        len: usize,
    },
    /// There is no room. The same blocks can be tried again when there is.
    #[error(transparent)]
    NoSpace(Failed),
    /// The operating system refused. The same blocks can be tried again.
    #[error(transparent)]
    Failed(Failed),
}

impl From<Failed> for AppendError {
    fn from(failed: Failed) -> Self {
        if failed.is_full() {
            Self::NoSpace(failed)
        } else {
            Self::Failed(failed)
        }
    }
}

/// Reads the folder up to its end and puts right what a crash left.
fn recover(dir: &Path, recovery: &mut Recovery) -> Result<Committed, OpenError> {
    let mut firsts = folder::segments(dir)?;
    let pruned = Pruned::load(dir)?;
    let given_up = firsts.partition_point(|first| *first < pruned.first());
    if firsts.get(given_up) == Some(&pruned.first()) && given_up > 0 {
        // A crash came while they were removed. Where the chain does not go on, nothing is.
        pruned::remove(dir, firsts.drain(..given_up))?;
    }
    drop_stillborn(dir, &mut firsts, recovery)?;
    let last = firsts.pop();
    let mut tip = pruned.tip;
    let mut finished = Vec::with_capacity(firsts.len());
    for first in firsts {
        check_next(dir, first, tip)?;
        let segment = finish(dir, first, tip, recovery)?;
        tip = segment.tip();
        finished.push(segment);
    }
    let segment = match last {
        None => {
            // The last segment is never pruned.
            check_next(dir, 0, tip)?;
            Segment::create(dir, 0)?
        }
        Some(first) => {
            check_next(dir, first, tip)?;
            Segment::open(dir, first, true)?
        }
    };
    let mut scan = Scan::new(Arc::new(segment), tip)?;
    let cut = loop {
        if let Err(cut) = scan.step_to_tear()? {
            break cut;
        }
    };
    if let Some(cut) = cut {
        let done = scan.segment.file.set_len(cut.offset);
        done.map_err(Failed::to("cut the torn tail of", &cut.path))?;
        recovery.cut = Some(cut);
    }
    // A killed process may have left whole records that were never synced. From here on they
    // count as committed.
    let synced = scan.segment.file.sync_all();
    synced.map_err(Failed::to("sync", &scan.segment.path))?;
    folder::sync(dir)?;
    let Scan {
        segment,
        tip,
        index,
        offset: len,
        ..
    } = scan;
    Ok(Committed {
        tip,
        pruned: Arc::new(pruned),
        finished: Arc::new(finished),
        segment,
        index,
        len,
    })
}

/// Removes a last segment file that a crash left before it had a head.
fn drop_stillborn(
    dir: &Path,
    firsts: &mut Vec<u64>,
    recovery: &mut Recovery,
) -> Result<(), OpenError> {
    let Some(first) = firsts.last().copied() else {
        return Ok(());
    };
    if !Segment::is_stillborn(dir, first)? {
        return Ok(());
    }
    let path = dir.join(folder::segment_name(first));
    let bytes = path.metadata().map_err(Failed::to("inspect", &path))?.len();
    fs::remove_file(&path).map_err(Failed::to("remove", &path))?;
    folder::sync(dir)?;
    recovery.cut = Some(Cut {
        path,
        offset: 0,
        bytes,
        number: first,
    });
    firsts.pop();
    Ok(())
}

fn check_next(dir: &Path, first: u64, tip: Tip) -> Result<(), Damage> {
    if first == tip.height() {
        return Ok(());
    }
    let number = tip.height();
    let path = dir.join(folder::segment_name(number));
    Err(Damage {
        path,
        offset: 0,
        number,
        fault: Fault::SegmentMissing,
    })
}

/// Loads the index of a segment that others follow, or makes it again from the blocks.
fn finish(
    dir: &Path,
    first: u64,
    tip: Tip,
    recovery: &mut Recovery,
) -> Result<Finished, OpenError> {
    let segment = Segment::open(dir, first, false)?;
    if let Some(finished) = Finished::load(dir, &segment)? {
        return Ok(finished);
    }
    let mut scan = Scan::new(Arc::new(segment), tip)?;
    while scan.step()?.is_some() {}
    if scan.index.is_empty() {
        let fault = Fault::RecordHead;
        return Err(scan.segment.damage(scan.offset, first, fault).into());
    }
    recovery.indexes_rebuilt += 1;
    Ok(scan
        .index
        .write(dir, &scan.segment, scan.offset, &scan.tip)?)
}
