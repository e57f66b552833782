//! Reading beside the writer.
//!
//! Readers share what is committed with the writer and nothing else: they find the place of a
//! block under a short lock and read the file without it. Every block is checked against its
//! record when it is read, so damage is an error and never a wrong block.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;
use tidings_proto::block::{BlockView, TransactionHead};

use crate::{
    BlockHash, ReadError, Tip,
    index::{Entry, Finished, Key, SegmentIndex, Table},
    pruned::Pruned,
    segment::Segment,
};

/// What writer and readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    committed: RwLock<Committed>,
}

/// Everything that is on disk for sure.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) tip: Tip,
    /// Below the first segment.
    pub(crate) pruned: Arc<Pruned>,
    pub(crate) finished: Arc<Vec<Finished>>,
    pub(crate) segment: Arc<Segment>,
    /// Of the last segment.
    pub(crate) index: SegmentIndex,
    /// Bytes of the last segment.
    pub(crate) len: u64,
}

impl Shared {
    pub(crate) fn new(dir: PathBuf, committed: Committed) -> Self {
        Self {
            dir,
            committed: RwLock::new(committed),
        }
    }

    /// Changes under the lock cannot fail halfway, so a poisoned lock still guards a whole value.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Committed> {
        self.committed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Committed> {
        self.committed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads committed blocks. Cheap to clone, and stays usable after the writer is gone.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Height and last hash, of one moment.
    pub fn tip(&self) -> Tip {
        self.shared.read().tip
    }

    /// How many blocks are committed.
    pub fn height(&self) -> u64 {
        self.tip().height()
    }

    /// The header hash of the last committed block; nothing in an empty ledger.
    pub fn last_hash(&self) -> Option<BlockHash> {
        self.tip().last_hash()
    }

    /// With which block the chain on disk begins. Of those below it only the ones that are held
    /// can be read.
    pub fn first(&self) -> u64 {
        self.shared.read().pruned.first()
    }

    /// What there is, of one moment.
    pub fn extent(&self) -> Extent {
        let committed = self.shared.read();
        let finished = committed.finished.iter();
        let segments: u64 = finished.map(|segment| segment.segment_len).sum();
        Extent {
            first: committed.pruned.first(),
            bytes: segments + committed.len + committed.pruned.len(),
        }
    }

    /// Whether the block with this number can be read.
    pub fn holds(&self, number: u64) -> bool {
        let committed = self.shared.read();
        let is_kept = (committed.pruned.first()..committed.tip.height()).contains(&number);
        is_kept || committed.pruned.place(number).is_some()
    }

    /// The block with this number; nothing above the height, nor if it was pruned.
    pub fn block(&self, number: u64) -> Result<Option<BlockView>, ReadError> {
        let Some(place) = self.place(number)? else {
            return Ok(None);
        };
        let read = place.segment.read(place.offset, place.end, number)?;
        Ok(read.map(|(block, _)| block))
    }

    /// The block whose header has this hash.
    pub fn block_by_hash(&self, hash: &BlockHash) -> Result<Option<BlockView>, ReadError> {
        self.search(Table::Blocks, Key::of_block(hash), |block, _| {
            (BlockHash::of(&block).as_ref() == Some(hash)).then_some(block)
        })
    }

    /// The first transaction in the chain that has this id.
    pub fn transaction(&self, tx_id: &str) -> Result<Option<Transaction>, ReadError> {
        if tx_id.is_empty() {
            return Ok(None);
        }
        self.search(
            Table::Transactions,
            Key::of_transaction(tx_id),
            |block, position| {
                let envelope = block.transactions().nth(position)?;
                let found = TransactionHead::parse(&envelope).is_ok_and(|head| head.tx_id == tx_id);
                found.then_some(Transaction {
                    block,
                    position,
                    envelope,
                })
            },
        )
    }

    /// Blocks from `numbers.start` on, in order, until `numbers.end` or the height, whichever
    /// comes first, or one that was pruned. The height is looked at anew for each block.
    pub fn blocks(&self, numbers: Range<u64>) -> Blocks {
        Blocks {
            reader: self.clone(),
            numbers,
            place: None,
        }
    }

    /// Follows the hints of the indexes from the oldest segment on until one turns out right.
    fn search<T>(
        &self,
        table: Table,
        key: Key,
        mut confirm: impl FnMut(BlockView, usize) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        let (finished, first, recent) = {
            let committed = self.shared.read();
            let recent = committed.index.find(table, key);
            (
                Arc::clone(&committed.finished),
                committed.segment.first,
                recent,
            )
        };
        let mut follow = |first: u64, entry: Entry| -> Result<Option<T>, ReadError> {
            let block = self.block(first.saturating_add(entry.block.into()))?;
            Ok(block.and_then(|block| confirm(block, entry.position as usize)))
        };
        for segment in finished.iter() {
            let entries = match segment.find(&self.shared.dir, table, key) {
                // It went while we looked.
                Err(_) if segment.first < self.first() => continue,
                found => found?,
            };
            for entry in entries {
                if let Some(found) = follow(segment.first, entry)? {
                    return Ok(Some(found));
                }
            }
        }
        for entry in recent {
            if let Some(found) = follow(first, entry)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn place(&self, number: u64) -> Result<Option<Place>, ReadError> {
        match self.find(number) {
            // It went while we looked.
            Err(_) if number < self.first() => self.find(number),
            found => found,
        }
    }

    fn find(&self, number: u64) -> Result<Option<Place>, ReadError> {
        let finished = {
            let committed = self.shared.read();
            if number >= committed.tip.height() {
                return Ok(None);
            }
            if number < committed.pruned.first() {
                let held = committed.pruned.place(number);
                return Ok(held.map(|(segment, offset, end)| Place {
                    segment,
                    offset,
                    end,
                }));
            }
            if let Some(relative) = number.checked_sub(committed.segment.first) {
                let segment = Arc::clone(&committed.segment);
                let offset = committed.index.offset(relative);
                let offset = offset.expect("every committed block of the segment is indexed");
                return Ok(Some(Place {
                    segment,
                    offset,
                    end: committed.len,
                }));
            }
            let at = committed
                .finished
                .partition_point(|segment| segment.end() <= number);
            committed
                .finished
                .get(at)
                .cloned()
                .expect("segments follow each other without gap")
        };
        let segment = Arc::new(Segment::open(&self.shared.dir, finished.first, false)?);
        let offset = finished.offset(&self.shared.dir, number)?;
        let end = finished.segment_len;
        Ok(Some(Place {
            segment,
            offset,
            end,
        }))
    }
}

/// A transaction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The block it is in.
    pub block: BlockView,
    /// Which of the block's transactions it is.
    pub position: usize,
    /// Its serialized envelope.
    pub envelope: Bytes,
}

/// What a ledger has on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// The number of the first block that was not pruned.
    pub first: u64,
    /// Bytes of blocks, without indexes.
    pub bytes: u64,
}

/// Where a block begins.
#[derive(Debug)]
struct Place {
    segment: Arc<Segment>,
    offset: u64,
    end: u64,
}

/// Committed blocks in order. Ends after an error.
#[derive(Debug)]
pub struct Blocks {
    reader: Reader,
    numbers: Range<u64>,
    /// Where the next block begins, if it is known without looking.
    place: Option<Place>,
}

impl Blocks {
    fn read(&mut self, number: u64) -> Result<Option<BlockView>, ReadError> {
        let place = match self.place.take() {
            Some(place) if place.offset < place.end => Some(place),
            _ => self.reader.place(number)?,
        };
        let Some(mut place) = place else {
            return Ok(None);
        };
        let Some((block, next)) = place.segment.read(place.offset, place.end, number)? else {
            return Ok(None);
        };
        place.offset = next;
        self.place = Some(place);
        Ok(Some(block))
    }
}

impl Iterator for Blocks {
    type Item = Result<BlockView, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.numbers.is_empty() {
            return None;
        }
        let block = self.read(self.numbers.start);
        match &block {
            Ok(Some(_)) => self.numbers.start += 1,
            Ok(None) => {}
            Err(_) => self.numbers.end = self.numbers.start,
        }
        block.transpose()
    }
}
