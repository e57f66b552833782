//! The private write sets of committed blocks, and the account of those that are missing.
//!
//! A block holds only the hash of each private write set. This store holds the write set, or says
//! that it is missing and why: every write set that a block names for a known collection has one
//! entry here.
//!
//! # Promises
//!
//! - **Before the block.** [`PrivateStore::prepare`] returns after a block's entries are durable;
//!   the block is appended to the ledger only then. So a block in the ledger always has its
//!   account, whenever the node dies.
//! - **Prepared is not committed.** A block that was prepared and never appended is prepared again,
//!   with the same or other content. Readers say what the last block of the ledger is and see
//!   nothing above it.
//! - **Without a gap.** Blocks are prepared in the order of their numbers. Preparing one says that
//!   those below it are in the ledger, and they are never prepared again.
//! - **Expired is gone.** What block B wrote with a block-to-live of N is not shown from block
//!   B + N + 1 on, as in Fabric, and [`PrivateStore::expire`] removes it from the file.
//! - **Forgotten is gone.** A key that was purged with [`PrivateStore::purge`] is in no write set of
//!   that transaction or an earlier one, nor gets into one that is put in later.
//! - **Flat memory.** Whoever reads holds one write set at a time.
//!
//! It knows no members or policies, and not which transactions are valid: what is put in was checked
//! by somebody else, who also says which collections we are entitled to. `docs/protocol/private-stores.md` draws the tables.

mod backlog;
mod judge;
mod purge;
mod tables;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use redb::StorageError;

use crate::{
    StoreError, StoreOpenError,
    keyed::{Change, Keyed},
};
pub use backlog::{BACKLOG_COLLECTIONS_MAX, Backlog, CollectionCounts, Counts};
pub use judge::{FillError, PrepareError};
use judge::{judge, judge_lens};
pub use purge::{
    KeyPurge, NotedPurge, PURGES_LISTED_MAX, PurgeError, PurgeState, Purged, PurgedKeys, Touched,
};
use tables::{ABOUT, COUNTS, ENTRIES, Entry, Expiry, HEIGHT, KIND, RWSETS, State, Step, Tables};
pub use walk::{Accounts, MissingSets, Sets};

/// Bytes of one write set: as much as one gossip message holds. A larger one cannot be fetched
/// from anybody either.
pub const SET_LEN_MAX: usize = 100 << 20;

/// Bytes of a namespace or collection, which are in keys. Those of definitions are far shorter.
pub const NAME_LEN_MAX: usize = 1024;

/// Entries removed or changed in one step, between which blocks have their turn.
const STEP_LEN_MAX: usize = 1024;

/// Where a private write set belongs: transaction `tx`, counted from 0, of block `block`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The block's number.
    pub block: u64,
    /// The transaction's position in it.
    pub tx: u64,
    /// The chaincode.
    pub namespace: String,
    /// Its collection.
    pub collection: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            block,
            tx,
            namespace,
            collection,
        } = self;
        write!(
            f,
            "{namespace}/{collection} of block {block}, transaction {tx}"
        )
    }
}

/// What is to be known of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateBlock {
    /// Its number.
    pub number: u64,
    /// Every private write set that it names. Of two for one transaction and collection the first
    /// counts.
    pub entries: Vec<PrivateEntry>,
    /// Keys that its transactions say are to be forgotten.
    pub purges: Vec<KeyPurge>,
    /// How many more each of them names, which are not noted.
    pub left_out: BTreeMap<u64, u64>,
}

/// A private write set that a block names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateEntry {
    /// The transaction's position in the block.
    pub tx: u64,
    /// The chaincode.
    pub namespace: String,
    /// Its collection.
    pub collection: String,
    /// For how many blocks after its own it is to be had; 0 for always.
    pub block_to_live: u64,
    /// The write set, or why we have none.
    pub content: Content,
}

/// A write set, or why we have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The bytes whose hash is in the block.
    Held(Bytes),
    /// What is left of them when keys were purged.
    Trimmed(Left),
    /// We have none.
    Missing(Why),
}

/// What is left of a write set from which keys were purged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    /// The bytes.
    pub rwset: Bytes,
    /// Hashes of the keys that it lacks; of what is read, of those that are not forgotten for good.
    pub gone: BTreeSet<[u8; 32]>,
}

/// Why a write set is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Nobody who was asked gave it.
    Absent,
    /// Others gave something whose hash is not the one in the block.
    WrongHash,
    /// Nobody was asked yet.
    NotAsked,
    /// It was tried, and there was nobody who could be asked.
    NotReached,
    /// The collection is not for our organization.
    NotEntitled,
    /// What is left of it is kept, and lacks keys of which it is only said that they were purged.
    Trimmed,
    /// It was given, or could have been, when there was no room for it.
    NoRoom,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "nobody who was asked gave it",
            Self::WrongHash => "others gave something else",
            Self::NotAsked => "nobody was asked yet",
            Self::NotReached => "no member could be asked",
            Self::NotEntitled => "not for our organization",
            Self::Trimmed => {
                "what others gave lacks keys of a purge that is not applied here; it is kept, and \
                 the whole is looked for"
            }
            Self::NoRoom => "there was no room for it",
        })
    }
}

/// Those that are missing, by what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// To be fetched.
    Eligible,
    /// To be fetched, more seldom: it was tried.
    Deprioritized,
    /// Not to be fetched: we are not entitled to it.
    Ineligible,
}

/// A write set that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSet {
    /// Where it belongs.
    pub place: Place,
    /// The bytes as they were put in, or what is left of them.
    pub rwset: Bytes,
    /// Keys were purged from it.
    pub is_trimmed: bool,
    /// The first block of the ledger with which it is no longer to be had, if there is one.
    pub expires_at: Option<u64>,
}

/// A write set that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingSet {
    /// Where it belongs.
    pub place: Place,
    /// Why it is missing.
    pub why: Why,
    /// What is done about it.
    pub queue: Queue,
    /// The first block of the ledger with which it is no longer to be had, if there is one.
    pub expires_at: Option<u64>,
}

/// What is known of a write set that a block names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Where it belongs.
    pub place: Place,
    /// The write set, or why we have none.
    pub content: Content,
    /// The first block of the ledger with which it is no longer to be had, if there is one.
    pub expires_at: Option<u64>,
}

/// What became of write sets that were fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filled {
    /// Were missing and are held now.
    pub stored: u64,
    /// Are kept as what is left of them, and go on being missing.
    pub left: u64,
    /// Were held before.
    pub held: u64,
    /// Are not wanted: expired meanwhile, not for us, or never named by a block.
    pub unwanted: u64,
}

/// The private data store of one channel, open. Its methods may be called by many threads.
#[derive(Debug)]
pub struct PrivateStore {
    file: Arc<Keyed>,
    /// Blocks below this are in the ledger for sure.
    settled: AtomicU64,
}

impl PrivateStore {
    /// Opens the store in a folder of its own, or makes an empty one. The whole file is checked.
    /// The height of the ledger says which blocks are committed and may not change.
    pub fn open(dir: impl AsRef<Path>, ledger_height: u64) -> Result<Self, StoreOpenError> {
        Ok(Self {
            file: Arc::new(Keyed::open(dir.as_ref(), &KIND)?),
            settled: AtomicU64::new(ledger_height),
        })
    }

    /// There was no store in the folder, and an empty one was made.
    pub fn was_created(&self) -> bool {
        self.file.was_created()
    }

    /// The lowest number that was never prepared. Below the height of the ledger, as in a store
    /// that was made anew, the blocks from here on are to be looked at before any other is
    /// prepared. Above it, the blocks from the ledger's height on were prepared and never appended.
    pub fn height(&self) -> Result<u64, StoreError> {
        self.file.read(|transaction| {
            let about = transaction.open_table(ABOUT)?;
            Ok(about.get(HEIGHT)?.map_or(0, |height| height.value()))
        })
    }

    /// Puts down what is known of blocks that are to be appended next, all or none. What was
    /// prepared for one of these numbers before is replaced. Says that all blocks below the first
    /// are in the ledger.
    pub fn prepare(&self, blocks: &[PrivateBlock]) -> Result<(), PrepareError> {
        self.prepare_from(0, blocks)
    }

    /// As [`PrivateStore::prepare`], by who knows that all blocks below `empty_below` that were not
    /// prepared are in the ledger and name no private data. Without blocks it says only this.
    /// Most blocks name none, and a commit for each of them would double what a block costs.
    pub fn prepare_from(
        &self,
        empty_below: u64,
        blocks: &[PrivateBlock],
    ) -> Result<(), PrepareError> {
        let first = blocks.first().map_or(empty_below, |block| block.number);
        judge(blocks)?;
        let done = self.file.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            let before = tables.height()?;
            let height = before.max(empty_below);
            if blocks.is_empty() {
                if height > before {
                    tables.about.insert(HEIGHT, height)?;
                    return Ok(Change::Keep(Ok(())));
                }
                return Ok(Change::Nothing(Ok(())));
            }
            // Blocks of the ledger that a store made anew lacks may still come.
            let settled = self.settled.load(Ordering::Acquire).min(height);
            if first > height {
                let error = PrepareError::Gap {
                    number: first,
                    want: height,
                };
                return Ok(Change::Nothing(Err(error)));
            }
            if first < settled {
                let error = PrepareError::Settled { number: first };
                return Ok(Change::Nothing(Err(error)));
            }
            for block in blocks {
                tables.replace_block(block)?;
            }
            let next = blocks.last().map_or(first, |block| block.number) + 1;
            tables.about.insert(HEIGHT, next.max(height))?;
            Ok(Change::Keep(Ok(())))
        })?;
        if done.is_ok() {
            self.settled.fetch_max(first, Ordering::AcqRel);
        }
        done
    }

    /// The write sets of a block that are held and, with `last_block` as the last of the ledger,
    /// neither expired nor above it. A block that is prepared and not yet appended is seen by who
    /// names it as the last.
    pub fn sets(&self, block: u64, last_block: u64) -> Result<Sets, StoreError> {
        Sets::of_block(&self.file, block, last_block)
    }

    /// One write set, if it is held and to be seen as in [`PrivateStore::sets`].
    pub fn set(&self, place: &Place, last_block: u64) -> Result<Option<StoredSet>, StoreError> {
        self.file.read(|transaction| {
            let look = walk::Look::new(transaction, last_block)?;
            Ok(look.stored(place.clone())?)
        })
    }

    /// Every write set that is held or missing, from this block and transaction on, oldest first,
    /// to be seen as in [`PrivateStore::sets`].
    pub fn accounts(&self, from: (u64, u64), last_block: u64) -> Result<Accounts, StoreError> {
        Accounts::of(&self.file, from, last_block)
    }

    /// The write sets of a queue, those of the newest block first, to be seen as in
    /// [`PrivateStore::sets`]. Take as many as are wanted.
    pub fn missing(&self, queue: Queue, last_block: u64) -> Result<MissingSets, StoreError> {
        MissingSets::of(&self.file, queue, last_block)
    }

    /// How many write sets are held and missing of blocks up to this last one of the ledger. Takes
    /// as long as there is something above it, of which there is much only where a ledger was begun
    /// anew beside a store that was kept.
    pub fn backlog(&self, last_block: u64) -> Result<Backlog, StoreError> {
        self.file
            .read(|transaction| Backlog::below(transaction, last_block))
    }

    /// Puts down write sets that were missing and have been fetched. Those that are held stay as
    /// they are.
    pub fn fill(&self, sets: &[(Place, Bytes)]) -> Result<Filled, FillError> {
        judge_lens(sets.iter().map(|(place, rwset)| (place, rwset)))?;
        Ok(self.change(|tables| {
            let mut filled = Filled::default();
            for (place, rwset) in sets {
                if let Some(expiry) = tables.to_fill(place, &mut filled)? {
                    tables.hold(place, expiry, rwset)?;
                    filled.stored += 1;
                }
            }
            Ok((filled.stored > 0, filled))
        })?)
    }

    /// Puts down what is left of write sets from which others purged keys. As long as one of the
    /// keys is not forgotten here, too, the whole goes on being missing, and what lacks less of it
    /// takes the place of this.
    pub fn fill_trimmed(&self, sets: &[(Place, Left)]) -> Result<Filled, FillError> {
        judge_lens(sets.iter().map(|(place, left)| (place, &left.rwset)))?;
        Ok(self.change(|tables| {
            let mut filled = Filled::default();
            for (place, left) in sets {
                let Some(expiry) = tables.to_fill(place, &mut filled)? else {
                    continue;
                };
                match tables.hold_left(place, expiry, left)? {
                    None => filled.held += 1,
                    Some(State::LEFT) => filled.left += 1,
                    Some(_) => filled.stored += 1,
                }
            }
            Ok((filled.stored + filled.left > 0, filled))
        })?)
    }

    /// What is left of a write set that is to be prepared again, whatever block it is of.
    pub fn left(&self, place: &Place) -> Result<Option<Bytes>, StoreError> {
        self.file.read(|transaction| {
            let row = transaction.open_table(ENTRIES)?.get(place.key())?;
            let entry = row.map(|row| Entry::read(row.value())).transpose()?;
            if !entry.is_some_and(|e| [State::Trimmed, State::LEFT].contains(&e.state)) {
                return Ok(None);
            }
            let rwset = transaction.open_table(RWSETS)?.get(place.key())?;
            Ok(rwset.map(|rwset| Bytes::copy_from_slice(rwset.value())))
        })
    }

    /// Moves what is missing and eligible to those that are asked for more seldom, for these
    /// reasons; says how many. Of what is there already the reason is replaced.
    pub fn deprioritize(&self, tried: &[(Place, Why)]) -> Result<u64, StoreError> {
        self.change(|tables| {
            let (mut moved, mut is_changed) = (0, false);
            for (place, why) in tried {
                let Some(entry) = tables.entry(place)? else {
                    continue;
                };
                let why = match why {
                    Why::NotAsked => Why::NotReached,
                    // That is said of what is kept.
                    Why::Trimmed => Why::WrongHash,
                    why => *why,
                };
                let state = State::Missing(Queue::Deprioritized, why);
                match entry.state {
                    State::LEFT => continue,
                    State::Missing(Queue::Eligible, _) => moved += 1,
                    State::Missing(Queue::Deprioritized, _) if entry.state != state => {}
                    _ => continue,
                }
                tables.put(place, Entry { state, ..entry }, None)?;
                is_changed = true;
            }
            Ok((is_changed, moved))
        })
    }

    /// Makes what is missing of a collection eligible, since our organization has become a member;
    /// says how many were not. Where none is it costs one look.
    pub fn entitle(&self, namespace: &str, collection: &str) -> Result<u64, StoreError> {
        let counts = self.file.read(|transaction| {
            let counts = transaction
                .open_table(COUNTS)?
                .get((namespace, collection))?;
            Ok(counts.map(|counts| Counts::of(counts.value())))
        })?;
        if counts.unwrap_or_default().ineligible == 0 {
            return Ok(0);
        }
        let (mut entitled, mut from) = (0, Some((0, 0)));
        while let Some(start) = from {
            let (len, next) = self.change(|tables| {
                let name = (namespace, collection);
                let Step { places, next } =
                    tables.of_collection(name, Queue::Ineligible, start, STEP_LEN_MAX)?;
                for place in &places {
                    if let Some(entry) = tables.entry(place)? {
                        let state = State::Missing(Queue::Eligible, Why::NotAsked);
                        tables.put(place, Entry { state, ..entry }, None)?;
                    }
                }
                Ok((!places.is_empty(), (places.len() as u64, next)))
            })?;
            entitled += len;
            from = next;
        }
        Ok(entitled)
    }

    /// Removes from the file what has expired with this last block of the ledger; says how many.
    pub fn expire(&self, last_block: u64) -> Result<u64, StoreError> {
        self.remove_all(|tables| tables.over(last_block, STEP_LEN_MAX))
    }

    /// Forgets what is missing of blocks below this one, but for those that are still `readable`,
    /// since nobody can say any more what it must be; says how many. What is held stays, and so
    /// does what is left of a write set, which is held once its purge is carried out.
    pub fn forget_missing(&self, below: u64, readable: &BTreeSet<u64>) -> Result<u64, StoreError> {
        self.remove_all(|tables| tables.missing_below(below, readable, STEP_LEN_MAX))
    }

    /// Removes all that `some` finds, which finds a step at a time.
    fn remove_all(
        &self,
        some: impl Fn(&Tables<'_>) -> Result<Vec<Place>, StorageError>,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let len = self.change(|tables| {
                let places = some(tables)?;
                for place in &places {
                    tables.remove(place)?;
                }
                Ok((!places.is_empty(), places.len()))
            })?;
            removed += len as u64;
            if len < STEP_LEN_MAX {
                return Ok(removed);
            }
        }
    }

    /// Changes the tables; `change` says whether anything changed at all.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<(bool, T), StorageError>,
    ) -> Result<T, StoreError> {
        self.file.write(|transaction| {
            let (changed, value) = change(&mut Tables::open(transaction)?)?;
            Ok(if changed {
                Change::Keep(value)
            } else {
                Change::Nothing(value)
            })
        })
    }
}

impl Tables<'_> {
    fn replace_block(&mut self, block: &PrivateBlock) -> Result<(), StorageError> {
        for place in self.of_block(block.number)? {
            self.remove(&place)?;
        }
        for entry in &block.entries {
            let place = entry.place(block.number);
            if self.entry(&place)?.is_some() {
                continue;
            }
            let expiry = Expiry::of(block.number, entry.block_to_live);
            match &entry.content {
                Content::Held(rwset) => self.hold(&place, expiry, rwset)?,
                Content::Trimmed(left) => {
                    self.hold_left(&place, expiry, left)?;
                }
                Content::Missing(why) => {
                    let state = State::Missing(why.queue(), *why);
                    self.put(&place, Entry { state, expiry }, None)?;
                }
            }
        }
        self.note(block)
    }

    /// Until when what is to be put in a place is to be had, if it is wanted there.
    fn to_fill(&self, place: &Place, filled: &mut Filled) -> Result<Option<Expiry>, StorageError> {
        match self.entry(place)? {
            Some(Entry {
                state: State::Missing(Queue::Eligible | Queue::Deprioritized, _),
                expiry,
            }) => return Ok(Some(expiry)),
            Some(entry) if entry.state.is_held() => filled.held += 1,
            _ => filled.unwanted += 1,
        }
        Ok(None)
    }
}

impl PrivateEntry {
    fn place(&self, block: u64) -> Place {
        Place {
            block,
            tx: self.tx,
            namespace: self.namespace.clone(),
            collection: self.collection.clone(),
        }
    }
}

impl Why {
    fn queue(self) -> Queue {
        match self {
            Self::Absent | Self::WrongHash | Self::NotAsked | Self::NotReached | Self::NoRoom => {
                Queue::Eligible
            }
            Self::Trimmed => Queue::Deprioritized,
            Self::NotEntitled => Queue::Ineligible,
        }
    }
}
