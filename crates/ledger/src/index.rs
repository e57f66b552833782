//! Where blocks and transactions are in one segment.
//!
//! The index of the unfinished segment is in memory; that of a finished one is a file that is a
//! pure function of the segment. Keys are the first eight bytes of a hash, so an entry is a hint:
//! whoever follows it looks whether the block is the right one.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use sha2::{Digest, Sha256};
use tidings_proto::block::{BlockView, TransactionHead};

use crate::{
    BlockHash, Damage, Failed, Fault, ReadError, Tip, folder,
    record::{Salt, bytes_at, u32_at, u64_at},
    segment::{SEGMENT_HEAD_LEN, Segment},
};

const MAGIC: [u8; 8] = *b"TIDIDX\0\x01";
const HEAD_LEN: usize = 88;
const ENTRY_LEN: usize = 16;
/// For each first byte of a key, how many entries begin with it or a lower one.
const FANOUT_LEN: usize = 256 * 4;

/// First eight bytes of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) fn of_block(hash: &BlockHash) -> Self {
        Self(u64::from_be_bytes(bytes_at(hash.as_bytes(), 0)))
    }

    pub(crate) fn of_transaction(tx_id: &str) -> Self {
        Self(u64::from_be_bytes(bytes_at(&Sha256::digest(tx_id), 0)))
    }

    fn first_byte(self) -> usize {
        usize::from(self.0.to_be_bytes()[0])
    }
}

/// Says that something with this key is in a block of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// Counted from the first block of the segment.
    pub(crate) block: u32,
    /// Which transaction of the block; zero for blocks.
    pub(crate) position: u32,
}

/// Which of the two tables of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Blocks,
    Transactions,
}

/// The index of a segment in memory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    offsets: Vec<u64>,
    blocks: Vec<Entry>,
    transactions: Vec<Entry>,
}

impl SegmentIndex {
    /// Adds the block that made `tip` the tip.
    pub(crate) fn add(&mut self, first: u64, tip: &Tip, block: &BlockView, offset: u64) {
        let (Some(number), Some(hash)) = (block.number(), tip.last_hash()) else {
            return;
        };
        let relative = number
            .checked_sub(first)
            .and_then(|relative| relative.try_into().ok());
        let relative = relative.expect("a segment holds fewer than 2^32 blocks from its first on");
        self.offsets.push(offset);
        self.blocks.push(Entry {
            key: Key::of_block(&hash),
            block: relative,
            position: 0,
        });
        for (position, envelope) in (0..).zip(block.transactions()) {
            match TransactionHead::parse(&envelope) {
                Ok(head) if !head.tx_id.is_empty() => {
                    let key = Key::of_transaction(head.tx_id);
                    self.transactions.push(Entry {
                        key,
                        block: relative,
                        position,
                    });
                }
                _ => {}
            }
        }
    }

    /// Adds what was gathered for blocks behind these.
    pub(crate) fn extend(&mut self, later: Self) {
        self.offsets.extend(later.offsets);
        self.blocks.extend(later.blocks);
        self.transactions.extend(later.transactions);
    }

    /// Entries of both tables: what bounds the memory of this.
    pub(crate) fn entries_len(&self) -> usize {
        self.blocks.len() + self.transactions.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Where a block begins, counted from the first of the segment.
    pub(crate) fn offset(&self, block: u64) -> Option<u64> {
        self.offsets.get(usize::try_from(block).ok()?).copied()
    }

    /// Entries with this key, in the order of the chain. Looks at all entries, which are few.
    pub(crate) fn find(&self, table: Table, key: Key) -> Vec<Entry> {
        let entries = match table {
            Table::Blocks => &self.blocks,
            Table::Transactions => &self.transactions,
        };
        entries
            .iter()
            .filter(|entry| entry.key == key)
            .copied()
            .collect()
    }

    /// The index file of a finished segment, to the byte.
    pub(crate) fn encode(&self, segment: &Segment, segment_len: u64, tip: &Tip) -> Vec<u8> {
        let mut body = Vec::new();
        for offset in &self.offsets {
            body.extend(offset.to_le_bytes());
        }
        encode_table(&self.blocks, &mut body);
        encode_table(&self.transactions, &mut body);
        let finished = Finished {
            first: segment.first,
            salt: segment.salt,
            segment_len,
            blocks: count(self.blocks.len()),
            transactions: count(self.transactions.len()),
            last_hash: tip
                .last_hash()
                .expect("a segment is finished only with blocks in it"),
        };
        let mut file = finished.encode(segment.salt.check(&[&body])).to_vec();
        file.extend(body);
        file
    }

    /// Writes the index file, on disk under its name when this returns; the name itself survives
    /// a crash after the next sync of the folder.
    pub(crate) fn write(
        &self,
        dir: &Path,
        segment: &Segment,
        segment_len: u64,
        tip: &Tip,
    ) -> Result<Finished, Failed> {
        let bytes = self.encode(segment, segment_len, tip);
        let path = dir.join(folder::index_name(segment.first));
        let draft = path.with_extension("index-draft");
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&draft, &path)) {
            // Gives the space back; if that fails too, the next draft replaces this one.
            let _ = fs::remove_file(&draft);
            return Err(Failed::to("write", &path)(error));
        }
        Ok(Finished::decode(&bytes).expect("we encoded it"))
    }
}

/// A finished segment, as the head of its index file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) first: u64,
    pub(crate) salt: Salt,
    pub(crate) segment_len: u64,
    pub(crate) blocks: u32,
    transactions: u32,
    last_hash: BlockHash,
}

impl Finished {
    /// Reads the head of the index file. Nothing if there is none that fits the segment: then it
    /// must be made again.
    pub(crate) fn load(dir: &Path, segment: &Segment) -> Result<Option<Self>, Failed> {
        let path = dir.join(folder::index_name(segment.first));
        let mut head = [0; HEAD_LEN];
        let read = File::open(&path).and_then(|file| {
            file.read_exact_at(&mut head, 0)?;
            file.metadata()
        });
        let file_len = match read {
            Ok(metadata) => metadata.len(),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => return Ok(None),
                _ => return Err(Failed::to("read", &path)(error)),
            },
        };
        let segment_len = segment.len()?;
        Ok(Self::decode(&head).filter(|finished| {
            finished.first == segment.first
                && finished.salt == segment.salt
                && finished.segment_len == segment_len
                && finished.file_len() == file_len
        }))
    }

    /// The number behind the last block.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.blocks.into())
    }

    /// The end of the chain at the end of this segment.
    pub(crate) fn tip(&self) -> Tip {
        Tip::new(self.end(), self.last_hash)
    }

    /// Where a block of this segment begins, which is surely inside the segment.
    pub(crate) fn offset(&self, dir: &Path, number: u64) -> Result<u64, ReadError> {
        let path = dir.join(folder::index_name(self.first));
        let file = File::open(&path).map_err(Failed::to("open", &path))?;
        let at = HEAD_LEN as u64 + 8 * number.saturating_sub(self.first);
        let mut offset = [0; 8];
        file.read_exact_at(&mut offset, at)
            .map_err(Failed::to("read", &path))?;
        let offset = u64::from_le_bytes(offset);
        if (SEGMENT_HEAD_LEN as u64..self.segment_len).contains(&offset) {
            return Ok(offset);
        }
        Err(Damage {
            path,
            offset: at,
            number,
            fault: Fault::Index,
        }
        .into())
    }

    /// Entries with this key, in the order of the chain.
    pub(crate) fn find(&self, dir: &Path, table: Table, key: Key) -> Result<Vec<Entry>, ReadError> {
        let path = dir.join(folder::index_name(self.first));
        let failed = || Failed::to("read", &path);
        let file = File::open(&path).map_err(Failed::to("open", &path))?;
        let (table_at, entries_len) = self.table(table);
        let mut fanout = [0; FANOUT_LEN];
        file.read_exact_at(&mut fanout, table_at)
            .map_err(failed())?;
        let bucket = key.first_byte();
        let from = bucket
            .checked_sub(1)
            .map_or(0, |before| u32_at(&fanout, 4 * before));
        let to = u32_at(&fanout, 4 * bucket);
        if from > to || to > entries_len {
            let offset = table_at;
            return Err(Damage {
                path,
                offset,
                number: self.first,
                fault: Fault::Index,
            }
            .into());
        }
        let mut bytes = vec![0; (to - from) as usize * ENTRY_LEN];
        let at = table_at + FANOUT_LEN as u64 + u64::from(from) * ENTRY_LEN as u64;
        file.read_exact_at(&mut bytes, at).map_err(failed())?;
        let entries = bytes.chunks_exact(ENTRY_LEN).map(|entry| Entry {
            key: Key(u64_at(entry, 0)),
            block: u32_at(entry, 8),
            position: u32_at(entry, 12),
        });
        Ok(entries.filter(|entry| entry.key == key).collect())
    }

    /// Where a table begins, and how many entries it has.
    fn table(&self, table: Table) -> (u64, u32) {
        let blocks_at = HEAD_LEN as u64 + 8 * u64::from(self.blocks);
        match table {
            Table::Blocks => (blocks_at, self.blocks),
            Table::Transactions => (blocks_at + table_len(self.blocks), self.transactions),
        }
    }

    fn file_len(&self) -> u64 {
        let (transactions_at, _) = self.table(Table::Transactions);
        transactions_at + table_len(self.transactions)
    }

    fn encode(&self, body_check: [u8; 8]) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        head[..8].copy_from_slice(&MAGIC);
        head[8..16].copy_from_slice(&self.salt.0);
        head[16..24].copy_from_slice(&self.first.to_le_bytes());
        head[24..32].copy_from_slice(&self.segment_len.to_le_bytes());
        head[32..36].copy_from_slice(&self.blocks.to_le_bytes());
        head[36..40].copy_from_slice(&self.transactions.to_le_bytes());
        head[40..72].copy_from_slice(self.last_hash.as_bytes());
        head[72..80].copy_from_slice(&body_check);
        let check = self.salt.check(&[&head[..80]]);
        head[80..].copy_from_slice(&check);
        head
    }

    fn decode(file: &[u8]) -> Option<Self> {
        let head = file.get(..HEAD_LEN)?;
        let salt = Salt(bytes_at(head, 8));
        if head[..8] != MAGIC || head[80..] != salt.check(&[&head[..80]]) {
            return None;
        }
        Some(Self {
            salt,
            first: u64_at(head, 16),
            segment_len: u64_at(head, 24),
            blocks: u32_at(head, 32),
            transactions: u32_at(head, 36),
            last_hash: BlockHash::new(bytes_at(head, 40)),
        })
    }
}

fn table_len(entries: u32) -> u64 {
    FANOUT_LEN as u64 + u64::from(entries) * ENTRY_LEN as u64
}

fn encode_table(entries: &[Entry], out: &mut Vec<u8>) {
    let mut entries = entries.to_vec();
    entries.sort_unstable();
    let mut below = 0;
    for byte in 0..256 {
        let rest = entries.get(below..).unwrap_or_default();
        below += rest.partition_point(|entry| entry.key.first_byte() <= byte);
        out.extend(count(below).to_le_bytes());
    }
    for entry in entries {
        out.extend(entry.key.0.to_le_bytes());
        out.extend(entry.block.to_le_bytes());
        out.extend(entry.position.to_le_bytes());
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a segment holds fewer than 2^32 entries")
}
