//! Where the chain of a pruned ledger begins, and the blocks below that it holds on to.
//!
//! Two files: `PRUNED`, the note, says with which block the chain goes on, behind which header, and
//! how much of `HELD` counts; `HELD` has the few blocks below that are needed for good. Promises
//! that a note never names less than what is on disk: `HELD` is written before it, and segments
//! are removed after it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tidings_proto::block::BlockView;

use crate::{
    BlockHash, Damage, Failed, Fault, ReadError, Tip, folder,
    record::{HEAD_LEN, Head, Salt, bytes_at, u64_at},
    segment::{SEGMENT_HEAD_LEN, Segment},
};

const NOTE: &str = "PRUNED";
const HELD: &str = "HELD";

const MAGIC: [u8; 8] = *b"TIDPRN\0\x01";
const NOTE_LEN: usize = 64;

/// The note secures itself against accidents only; whoever can write to the folder can do worse.
const NO_SALT: Salt = Salt([0; 8]);

/// What is left of the blocks below the first segment. Empty for a ledger that has everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pruned {
    /// The end of what was removed, where the chain goes on.
    pub(crate) tip: Tip,
    held: Option<Held>,
}

/// The blocks that are held, and where each begins and ends in their file.
#[derive(Debug, Clone)]
struct Held {
    file: Arc<Segment>,
    places: BTreeMap<u64, (u64, u64)>,
    /// Bytes of the file that count.
    len: u64,
}

impl Pruned {
    /// Reads the note and the heads of what is held.
    pub(crate) fn load(dir: &Path) -> Result<Self, ReadError> {
        let path = dir.join(NOTE);
        let note = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Ok(metadata) if metadata.len() != NOTE_LEN as u64 => Ok(Vec::new()),
            _ => fs::read(&path),
        };
        let note = note.map_err(Failed::to("read", &path))?;
        let Some((tip, len)) = decode(&note) else {
            let (number, fault) = (0, Fault::PruneNote);
            return Err(Damage {
                path,
                offset: 0,
                number,
                fault,
            }
            .into());
        };
        let file = Arc::new(Segment::open_as(dir.join(HELD), 0, false)?);
        let places = places(&file, len, tip.height())?;
        let held = Some(Held { file, places, len });
        Ok(Self { tip, held })
    }

    /// The number of the first block behind what was removed.
    pub(crate) fn first(&self) -> u64 {
        self.tip.height()
    }

    /// Bytes on disk.
    pub(crate) fn len(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.len)
    }

    /// Numbers of the blocks that are held.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let places = self.held.iter().flat_map(|held| held.places.keys());
        places.copied().collect()
    }

    /// Where a block is that is held: file, begin and end.
    pub(crate) fn place(&self, number: u64) -> Option<(Arc<Segment>, u64, u64)> {
        let held = self.held.as_ref()?;
        let (offset, end) = *held.places.get(&number)?;
        Some((Arc::clone(&held.file), offset, end))
    }

    /// A block that is held.
    pub(crate) fn block(&self, number: u64) -> Result<Option<BlockView>, ReadError> {
        let Some((file, offset, end)) = self.place(number) else {
            return Ok(None);
        };
        let read = file.read(offset, end, number)?;
        Ok(read.map(|(block, _)| block))
    }

    /// Holds on to these blocks as well, and notes that the chain goes on at `tip`. All of it is on
    /// disk when this returns; until then the note is as it was.
    pub(crate) fn advance(
        &self,
        dir: &Path,
        tip: Tip,
        blocks: &[BlockView],
    ) -> Result<Self, Failed> {
        let mut held = match &self.held {
            Some(held) => {
                let file = Segment::open_as(dir.join(HELD), 0, true);
                let file = Arc::new(file.map_err(|error| failed(error, dir))?);
                let cut = file.file.set_len(held.len);
                cut.map_err(Failed::to("cut back", &file.path))?;
                Held {
                    file,
                    ..held.clone()
                }
            }
            None => Held {
                file: Arc::new(Segment::create_as(dir.join(HELD), 0)?),
                places: BTreeMap::new(),
                len: SEGMENT_HEAD_LEN as u64,
            },
        };
        for block in blocks {
            held.write(block)?;
        }
        let synced = held.file.file.sync_all();
        synced.map_err(Failed::to("sync", &held.file.path))?;
        let path = dir.join(NOTE);
        let draft = path.with_extension("draft");
        let note = encode(tip, held.len);
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(&note)?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(Failed::to("write", &path))?;
        folder::sync(dir)?;
        let held = Some(held);
        Ok(Self { tip, held })
    }
}

impl Held {
    fn write(&mut self, block: &BlockView) -> Result<(), Failed> {
        let (file, bytes) = (&self.file, block.bytes());
        let number = block.number().unwrap_or_default();
        let head = Head::of(file.salt, number, 0, bytes).expect("it was in a segment");
        let body = self.len + HEAD_LEN as u64;
        let written = file.file.write_all_at(&head.encode(file.salt), self.len);
        written
            .and_then(|()| file.file.write_all_at(bytes, body))
            .map_err(Failed::to("write", &file.path))?;
        let end = body + u64::from(head.len);
        self.places.insert(number, (self.len, end));
        self.len = end;
        Ok(())
    }
}

/// Where each block is, by the heads alone: bodies are checked when they are read.
fn places(file: &Segment, len: u64, first: u64) -> Result<BTreeMap<u64, (u64, u64)>, ReadError> {
    let (mut places, mut offset, mut next) = (BTreeMap::new(), SEGMENT_HEAD_LEN as u64, 0);
    let all = file.len()?;
    while offset < len {
        let damage = || file.damage(offset, next, Fault::RecordHead);
        let body = offset.saturating_add(HEAD_LEN as u64);
        if body > all {
            return Err(damage().into());
        }
        let mut head = [0; HEAD_LEN];
        file.file
            .read_exact_at(&mut head, offset)
            .map_err(Failed::to("read", &file.path))?;
        let head = Head::decode(&head, file.salt).ok_or_else(damage)?;
        let end = body.saturating_add(head.len.into());
        if head.number < next || head.number >= first || end > len.min(all) {
            return Err(damage().into());
        }
        places.insert(head.number, (offset, end));
        (offset, next) = (end, head.number + 1);
    }
    Ok(places)
}

fn failed(error: ReadError, dir: &Path) -> Failed {
    match error {
        ReadError::Failed(failed) => failed,
        ReadError::Damaged(damage) => Failed::to("use", &dir.join(HELD))(io::Error::other(damage)),
    }
}

fn encode(tip: Tip, held_len: u64) -> [u8; NOTE_LEN] {
    let mut note = [0; NOTE_LEN];
    let hash = tip.last_hash().expect("a segment has blocks");
    note[..8].copy_from_slice(&MAGIC);
    note[8..16].copy_from_slice(&tip.height().to_le_bytes());
    note[16..48].copy_from_slice(hash.as_bytes());
    note[48..56].copy_from_slice(&held_len.to_le_bytes());
    let check = NO_SALT.check(&[&note[..56]]);
    note[56..].copy_from_slice(&check);
    note
}

fn decode(note: &[u8]) -> Option<(Tip, u64)> {
    let note = <&[u8; NOTE_LEN]>::try_from(note).ok()?;
    if note[..8] != MAGIC || note[56..] != NO_SALT.check(&[&note[..56]]) {
        return None;
    }
    let hash = BlockHash::new(bytes_at(note, 16));
    Some((Tip::new(u64_at(note, 8), hash), u64_at(note, 48)))
}

/// Removes the segments below the first block that a note names, with their indexes: index first,
/// so that none is left without its segment. Missing ones are gone already.
pub(crate) fn remove(dir: &Path, firsts: impl IntoIterator<Item = u64>) -> Result<(), Failed> {
    for first in firsts {
        for name in [folder::index_name(first), folder::segment_name(first)] {
            let path: PathBuf = dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Failed::to("remove", &path))?,
            }
        }
    }
    folder::sync(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_laid_out_as_the_format_says() {
        let tip = Tip::new(258, BlockHash::new([7; 32]));
        let note = encode(tip, 513);
        assert_eq!(&note[..8], b"TIDPRN\0\x01");
        assert_eq!(note[8..16], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(note[16..48], [7; 32]);
        assert_eq!(note[48..56], [1, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&note), Some((tip, 513)));
        for bit in 0..NOTE_LEN * 8 {
            let mut bad = note;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
    }
}
