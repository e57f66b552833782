//! One file of blocks: its head, walking it, and where it is torn.

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::{BuildHasher, Hasher},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tidings_proto::block::BlockView;

use crate::{
    Damage, Failed, Fault, ReadError, Tip, folder,
    index::SegmentIndex,
    record::{self, Found, HEAD_LEN, MAGIC, Salt, bytes_at},
};

/// Bytes in front of the first record.
pub(crate) const SEGMENT_HEAD_LEN: usize = 32;

const SEGMENT_MAGIC: [u8; 8] = *b"TIDBLK\0\x01";

/// Bytes looked at together when searching behind a bad record.
const SEARCH_LEN: usize = 1 << 16;

/// An open segment file with a good head.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
    pub(crate) salt: Salt,
    pub(crate) file: File,
}

impl Segment {
    /// Makes an empty segment, on disk when this returns. What stood under the name is replaced:
    /// only a segment that never had a record is made again.
    pub(crate) fn create(dir: &Path, first: u64) -> Result<Self, Failed> {
        Self::create_as(dir.join(folder::segment_name(first)), first)
    }

    /// As `create`, under another name.
    pub(crate) fn create_as(path: PathBuf, first: u64) -> Result<Self, Failed> {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let file = file.map_err(Failed::to("create", &path))?;
        let salt = Salt(RandomState::new().build_hasher().finish().to_le_bytes());
        file.write_all_at(&head(first, salt), 0)
            .and_then(|()| file.sync_all())
            .map_err(Failed::to("write", &path))?;
        folder::sync(path.parent().unwrap_or_else(|| Path::new(".")))?;
        Ok(Self {
            path,
            first,
            salt,
            file,
        })
    }

    /// Opens a segment for writing if `writable`, and reads its head.
    pub(crate) fn open(dir: &Path, first: u64, writable: bool) -> Result<Self, ReadError> {
        Self::open_as(dir.join(folder::segment_name(first)), first, writable)
    }

    /// As `open`, under another name.
    pub(crate) fn open_as(path: PathBuf, first: u64, writable: bool) -> Result<Self, ReadError> {
        let file = File::options().read(true).write(writable).open(&path);
        let file = file.map_err(Failed::to("open", &path))?;
        let mut bytes = [0; SEGMENT_HEAD_LEN];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            read => read.map_err(Failed::to("read", &path))?,
        }
        let salt = Salt(bytes_at(&bytes, 16));
        if bytes != head(first, salt) {
            let fault = Fault::SegmentHead;
            return Err(Damage {
                path,
                offset: 0,
                number: first,
                fault,
            }
            .into());
        }
        Ok(Self {
            path,
            first,
            salt,
            file,
        })
    }

    /// Whether the file under this name never had a record: a crash came while it was made, for
    /// the head is on disk before the first record is written.
    pub(crate) fn is_stillborn(dir: &Path, first: u64) -> Result<bool, ReadError> {
        match Self::open(dir, first, false) {
            Ok(_) => Ok(false),
            Err(ReadError::Damaged(damage)) => {
                let metadata = damage.path.metadata();
                let len = metadata.map_err(Failed::to("inspect", &damage.path))?.len();
                Ok(len <= SEGMENT_HEAD_LEN as u64)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn len(&self) -> Result<u64, Failed> {
        let metadata = self
            .file
            .metadata()
            .map_err(Failed::to("inspect", &self.path))?;
        Ok(metadata.len())
    }

    pub(crate) fn damage(&self, offset: u64, number: u64, fault: Fault) -> Damage {
        Damage {
            path: self.path.clone(),
            offset,
            number,
            fault,
        }
    }

    /// Reads the block at an offset, and says where the next one begins. Nothing at the end.
    pub(crate) fn read(
        &self,
        offset: u64,
        end: u64,
        number: u64,
    ) -> Result<Option<(BlockView, u64)>, ReadError> {
        let found = record::read(&self.file, self.salt, offset, end);
        match found.map_err(Failed::to("read", &self.path))? {
            Found::End => Ok(None),
            Found::Bad(fault) => Err(self.damage(offset, number, fault).into()),
            Found::Record { number: got, .. } if got != number => {
                Err(self.damage(offset, number, Fault::Number(got)).into())
            }
            Found::Record { block, next, .. } => {
                let view = BlockView::parse(block)
                    .map_err(|malformed| self.damage(offset, number, malformed.into()))?;
                Ok(Some((view, next)))
            }
        }
    }

    /// Whether some head at or behind `from` proves that block `number` had been committed.
    fn was_committed(&self, from: u64, end: u64, number: u64) -> Result<bool, Failed> {
        let mut buffer = vec![0; SEARCH_LEN + HEAD_LEN - 1];
        let mut at = from;
        while at < end {
            let len = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let window = buffer.get_mut(..len).unwrap_or_default();
            self.file
                .read_exact_at(window, at)
                .map_err(Failed::to("read", &self.path))?;
            let proves = |candidate: &[u8]| {
                candidate.starts_with(&MAGIC)
                    && <&[u8; HEAD_LEN]>::try_from(candidate)
                        .ok()
                        .and_then(|head| record::Head::decode(head, self.salt))
                        .is_some_and(|head| head.synced > number)
            };
            if window.windows(HEAD_LEN).any(proves) {
                return Ok(true);
            }
            at = at.saturating_add(SEARCH_LEN as u64);
        }
        Ok(false)
    }
}

fn head(first: u64, salt: Salt) -> [u8; SEGMENT_HEAD_LEN] {
    let mut head = [0; SEGMENT_HEAD_LEN];
    head[..8].copy_from_slice(&SEGMENT_MAGIC);
    head[8..16].copy_from_slice(&first.to_le_bytes());
    head[16..24].copy_from_slice(&salt.0);
    let check = salt.check(&[&head[..24]]);
    head[24..].copy_from_slice(&check);
    head
}

/// A tail that was never reported as committed, and is cut when the ledger is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where it is cut.
    pub offset: u64,
    /// How many bytes are lost.
    pub bytes: u64,
    /// The first block that is lost.
    pub number: u64,
}

/// A walk through a segment that checks every record and link, and gathers the index.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) segment: Arc<Segment>,
    pub(crate) tip: Tip,
    pub(crate) index: SegmentIndex,
    /// Where the next record begins.
    pub(crate) offset: u64,
    pub(crate) end: u64,
}

impl Scan {
    /// `tip` is the end of the chain before the segment.
    pub(crate) fn new(segment: Arc<Segment>, tip: Tip) -> Result<Self, Failed> {
        let end = segment.len()?;
        let offset = SEGMENT_HEAD_LEN as u64;
        Ok(Self {
            segment,
            tip,
            index: SegmentIndex::default(),
            offset,
            end,
        })
    }

    /// The next block, if it is whole and continues the chain.
    pub(crate) fn step(&mut self) -> Result<Option<BlockView>, ReadError> {
        let number = self.tip.height();
        let Some((block, next)) = self.segment.read(self.offset, self.end, number)? else {
            return Ok(None);
        };
        let tip = self.tip.follow(&block);
        let tip = tip.map_err(|fault| self.segment.damage(self.offset, number, fault))?;
        self.index
            .add(self.segment.first, &tip, &block, self.offset);
        self.tip = tip;
        self.offset = next;
        Ok(Some(block))
    }

    /// As `step`, for the last segment of a ledger: a torn tail is an end, and what to cut.
    pub(crate) fn step_to_tear(&mut self) -> Result<Result<BlockView, Option<Cut>>, ReadError> {
        match self.step() {
            Ok(Some(block)) => Ok(Ok(block)),
            Ok(None) => Ok(Err(None)),
            Err(ReadError::Damaged(damage)) => {
                let tearable = matches!(damage.fault, Fault::RecordHead | Fault::Checksum);
                let Damage { offset, number, .. } = damage;
                if !tearable || self.segment.was_committed(offset, self.end, number)? {
                    return Err(damage.into());
                }
                let bytes = self.end.saturating_sub(offset);
                Ok(Err(Some(Cut {
                    path: damage.path,
                    offset,
                    bytes,
                    number,
                })))
            }
            Err(error) => Err(error),
        }
    }
}
