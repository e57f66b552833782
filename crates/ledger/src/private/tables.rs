//! The tables of the private data store, kept in step with each other.
//!
//! Every write set of a prepared block has one row in `entries`. The other tables follow from it,
//! which is why rows are only ever put and removed here. `docs/protocol/private-stores.md` draws
//! them.

use std::collections::BTreeSet;

use redb::{
    Error, ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction,
};

use super::{Counts, Place, Queue, Why};
use crate::keyed::Kind;

pub(super) type PlaceKey = (u64, u64, &'static str, &'static str);
pub(super) type EntryRow = (u8, u8, u64);
type QueueKey = (u8, u64, u64, &'static str, &'static str);
type CollectionKey = (&'static str, &'static str, u64, u64);
pub(super) type PurgeKey = (u64, u64, &'static str, &'static str, [u8; 32]);
pub(super) type KeyKey = (&'static str, &'static str, [u8; 32], u64, u64);
pub(super) type ForgottenKey = (&'static str, &'static str, [u8; 32]);
/// A transaction: block, and position in it.
type PurgingKey = (u64, u64);
type CountsRow = (u64, u64, u64, u64);

/// With the version, the height.
pub(super) const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("private store");

/// What is known of a write set: state, reason, the block at which it expires.
pub(super) const ENTRIES: TableDefinition<'_, PlaceKey, EntryRow> = TableDefinition::new("entries");

/// The bytes of those that are held, and of what is left of them.
pub(super) const RWSETS: TableDefinition<'_, PlaceKey, &[u8]> = TableDefinition::new("rwsets");

/// Those that are missing, by queue.
pub(super) const MISSING: TableDefinition<'_, QueueKey, ()> = TableDefinition::new("missing");

/// All by collection.
pub(super) const COLLECTIONS: TableDefinition<'_, CollectionKey, ()> =
    TableDefinition::new("collections");

/// Those that expire, by when.
const EXPIRY: TableDefinition<'_, (u64, u64, u64, &str, &str), ()> = TableDefinition::new("expiry");

/// How many a collection has: held, eligible, deprioritized, ineligible.
pub(super) const COUNTS: TableDefinition<'_, (&str, &str), CountsRow> =
    TableDefinition::new("counts");

/// Keys that transactions say are to be forgotten: block, transaction, collection, hash of the key.
pub(super) const PURGES: TableDefinition<'_, PurgeKey, ()> = TableDefinition::new("purges");

/// The same by key.
pub(super) const PURGED: TableDefinition<'_, KeyKey, ()> = TableDefinition::new("purged");

/// The transactions that say so: whether that was carried out, and how many write sets it changed.
pub(super) const PURGING: TableDefinition<'_, PurgingKey, (u8, u64)> =
    TableDefinition::new("purging");

/// The last transaction by which a key is forgotten for good.
pub(super) const FORGOTTEN: TableDefinition<'_, ForgottenKey, (u64, u64)> =
    TableDefinition::new("forgotten");

/// How many keys a transaction wants forgotten beyond those that are noted.
pub(super) const LEFT_OUT: TableDefinition<'_, PurgingKey, u64> = TableDefinition::new("left out");

/// Keys that a write set lacks and that are not forgotten for good: their hashes one after another.
pub(super) const GONE: TableDefinition<'_, PlaceKey, &[u8]> = TableDefinition::new("gone");

pub(super) const HEIGHT: &str = "height";

/// From which block on up to which it is not known what transactions want forgotten.
pub(super) const NOTE_FROM: &str = "note from";
pub(super) const NOTE_TO: &str = "note to";

/// Memory for pages: blocks are served to those who catch up, mostly one after the other.
const CACHE_BYTES: usize = 64 << 20;

pub(super) static KIND: Kind = Kind {
    name: "private data store",
    file: "private.redb",
    about: ABOUT,
    version: 3,
    tables: |transaction| Tables::open(transaction).map(|_| ()),
    upgrade,
    cache_bytes: CACHE_BYTES,
    cure: "put back a copy of the folder; or move the file away to begin with an empty store: \
           what it held is then recorded as missing and fetched from other members, and what no \
           other member has is lost",
};

/// Nothing that was there has changed its meaning. Version 1 did not note what is to be forgotten,
/// and version 2 did not keep how much was left out.
fn upgrade(transaction: &WriteTransaction, from: u64) -> Result<bool, Error> {
    if from == 1 {
        let mut about = transaction.open_table(ABOUT)?;
        let height = about.get(HEIGHT)?.map_or(0, |height| height.value());
        about.insert(NOTE_FROM, 0)?;
        about.insert(NOTE_TO, height)?;
    }
    Ok(from > 0)
}

/// What is known of a write set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: State,
    pub(super) expiry: Expiry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Held,
    /// What is left of it is held.
    Trimmed,
    Missing(Queue, Why),
}

/// The first block with which a write set is no longer to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry(u64);

impl Expiry {
    /// As Fabric's `ComputeExpiringBlock`: the collection's last block is `block` and so many
    /// more. What would be past all numbers is never.
    pub(super) fn of(block: u64, block_to_live: u64) -> Self {
        Self(match block_to_live {
            0 => u64::MAX,
            blocks => block.saturating_add(blocks).saturating_add(1),
        })
    }

    /// Nothing is never.
    pub(super) fn block(self) -> Option<u64> {
        (self.0 != u64::MAX).then_some(self.0)
    }

    pub(super) fn is_over(self, last_block: u64) -> bool {
        self.block().is_some_and(|block| last_block >= block)
    }
}

impl Entry {
    pub(super) fn read((state, why, expiry): EntryRow) -> Result<Self, StorageError> {
        let why = match why {
            0 => Why::Absent,
            1 => Why::WrongHash,
            2 if state == Queue::Deprioritized.code() => Why::NotReached,
            2 => Why::NotAsked,
            3 => Why::NotEntitled,
            4 if state == Queue::Deprioritized.code() => Why::Trimmed,
            5 => Why::NoRoom,
            _ => return Err(unreadable()),
        };
        let state = match state {
            0 => State::Held,
            1 => State::Missing(Queue::Eligible, why),
            2 => State::Missing(Queue::Deprioritized, why),
            3 => State::Missing(Queue::Ineligible, why),
            4 => State::Trimmed,
            _ => return Err(unreadable()),
        };
        let expiry = Expiry(expiry);
        Ok(Self { state, expiry })
    }

    fn row(self) -> EntryRow {
        let why = match self.state {
            State::Held | State::Trimmed | State::Missing(_, Why::Absent) => 0,
            State::Missing(_, Why::WrongHash) => 1,
            State::Missing(_, Why::NotAsked | Why::NotReached) => 2,
            State::Missing(_, Why::NotEntitled) => 3,
            State::Missing(_, Why::Trimmed) => 4,
            State::Missing(_, Why::NoRoom) => 5,
        };
        (self.state.code(), why, self.expiry.0)
    }
}

fn unreadable() -> StorageError {
    StorageError::Corrupted("a row of the table of entries says nothing".to_owned())
}

impl State {
    /// Its bytes are here, or what is left of them.
    pub(super) fn is_held(self) -> bool {
        matches!(self, Self::Held | Self::Trimmed)
    }

    /// There are bytes, though what they lack may be wanted.
    pub(super) fn has_bytes(self) -> bool {
        self.is_held() || self == Self::LEFT
    }

    /// What is left of it is here, and all of it is wanted.
    pub(super) const LEFT: Self = Self::Missing(Queue::Deprioritized, Why::Trimmed);

    fn code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Trimmed => 4,
            Self::Missing(queue, _) => queue.code(),
        }
    }

    pub(super) fn count(self, counts: &mut Counts) -> &mut u64 {
        match self {
            Self::Held | Self::Trimmed => &mut counts.held,
            Self::Missing(Queue::Eligible, _) => &mut counts.eligible,
            Self::Missing(Queue::Deprioritized, _) => &mut counts.deprioritized,
            Self::Missing(Queue::Ineligible, _) => &mut counts.ineligible,
        }
    }
}

impl Queue {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Eligible => 1,
            Self::Deprioritized => 2,
            Self::Ineligible => 3,
        }
    }
}

impl Place {
    pub(super) fn key(&self) -> (u64, u64, &str, &str) {
        let Self {
            block,
            tx,
            namespace,
            collection,
        } = self;
        (*block, *tx, namespace, collection)
    }

    pub(super) fn of((block, tx, namespace, collection): (u64, u64, &str, &str)) -> Self {
        Self {
            block,
            tx,
            namespace: namespace.to_owned(),
            collection: collection.to_owned(),
        }
    }
}

impl Counts {
    pub(super) fn of((held, eligible, deprioritized, ineligible): CountsRow) -> Self {
        Self {
            held,
            eligible,
            deprioritized,
            ineligible,
        }
    }

    fn row(self) -> CountsRow {
        let Self {
            held,
            eligible,
            deprioritized,
            ineligible,
        } = self;
        (held, eligible, deprioritized, ineligible)
    }
}

/// Some of many places, and the block and transaction to go on from.
pub(super) struct Step {
    pub(super) places: Vec<Place>,
    pub(super) next: Option<(u64, u64)>,
}

/// The tables within one change.
pub(super) struct Tables<'t> {
    pub(super) about: Table<'t, &'static str, u64>,
    entries: Table<'t, PlaceKey, EntryRow>,
    pub(super) rwsets: Table<'t, PlaceKey, &'static [u8]>,
    missing: Table<'t, QueueKey, ()>,
    pub(super) collections: Table<'t, CollectionKey, ()>,
    expiry: Table<'t, (u64, u64, u64, &'static str, &'static str), ()>,
    counts: Table<'t, (&'static str, &'static str), CountsRow>,
    pub(super) purges: Table<'t, PurgeKey, ()>,
    pub(super) purged: Table<'t, KeyKey, ()>,
    pub(super) purging: Table<'t, PurgingKey, (u8, u64)>,
    pub(super) left_out: Table<'t, PurgingKey, u64>,
    gone: Table<'t, PlaceKey, &'static [u8]>,
    pub(super) forgotten: Table<'t, ForgottenKey, (u64, u64)>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            about: transaction.open_table(ABOUT)?,
            entries: transaction.open_table(ENTRIES)?,
            rwsets: transaction.open_table(RWSETS)?,
            missing: transaction.open_table(MISSING)?,
            collections: transaction.open_table(COLLECTIONS)?,
            expiry: transaction.open_table(EXPIRY)?,
            counts: transaction.open_table(COUNTS)?,
            purges: transaction.open_table(PURGES)?,
            purged: transaction.open_table(PURGED)?,
            purging: transaction.open_table(PURGING)?,
            left_out: transaction.open_table(LEFT_OUT)?,
            gone: transaction.open_table(GONE)?,
            forgotten: transaction.open_table(FORGOTTEN)?,
        })
    }

    pub(super) fn height(&self) -> Result<u64, StorageError> {
        Ok(self.about.get(HEIGHT)?.map_or(0, |height| height.value()))
    }

    pub(super) fn entry(&self, place: &Place) -> Result<Option<Entry>, StorageError> {
        let row = self.entries.get(place.key())?;
        row.map(|row| Entry::read(row.value())).transpose()
    }

    /// The places of a block.
    pub(super) fn of_block(&self, block: u64) -> Result<Vec<Place>, StorageError> {
        let first = (block, 0, "", "");
        let rows = match block.checked_add(1) {
            Some(next) => self.entries.range(first..(next, 0, "", ""))?,
            None => self.entries.range(first..)?,
        };
        rows.map(|row| Ok(Place::of(row?.0.value()))).collect()
    }

    /// Some places of a collection in this queue, from a transaction on, and where to go on.
    pub(super) fn of_collection(
        &self,
        (namespace, collection): (&str, &str),
        queue: Queue,
        from: (u64, u64),
        len_max: usize,
    ) -> Result<Step, StorageError> {
        let mut places = Vec::new();
        let rows = self.collections.range(
            (namespace, collection, from.0, from.1)..=(namespace, collection, u64::MAX, u64::MAX),
        )?;
        for (seen, row) in rows.enumerate() {
            let key = row?.0;
            let (_, _, block, tx) = key.value();
            if seen == len_max {
                let next = Some((block, tx));
                return Ok(Step { places, next });
            }
            let place = Place::of((block, tx, namespace, collection));
            let entry = self.entry(&place)?;
            if entry
                .is_some_and(|entry| matches!(entry.state, State::Missing(at, _) if at == queue))
            {
                places.push(place);
            }
        }
        Ok(Step { places, next: None })
    }

    /// Some places that are over with this block.
    pub(super) fn over(&self, last_block: u64, len_max: usize) -> Result<Vec<Place>, StorageError> {
        let rows = match last_block.checked_add(1) {
            Some(next) => self.expiry.range(..(next, 0, 0, "", ""))?,
            None => self.expiry.range::<(u64, u64, u64, &str, &str)>(..)?,
        };
        rows.take(len_max)
            .map(|row| {
                let key = row?.0;
                let (_, block, tx, namespace, collection) = key.value();
                Ok(Place::of((block, tx, namespace, collection)))
            })
            .collect()
    }

    /// Some places of blocks below this one, but for `readable` ones, of whose write sets there is
    /// nothing.
    pub(super) fn missing_below(
        &self,
        below: u64,
        readable: &BTreeSet<u64>,
        len_max: usize,
    ) -> Result<Vec<Place>, StorageError> {
        let mut places = Vec::new();
        for queue in [Queue::Eligible, Queue::Deprioritized, Queue::Ineligible] {
            let queue = queue.code();
            let rows = (queue, 0, 0, "", "")..(queue, below, 0, "", "");
            for row in self.missing.range(rows)? {
                if places.len() == len_max {
                    return Ok(places);
                }
                let key = row?.0;
                let (_, block, tx, namespace, collection) = key.value();
                let place = Place::of((block, tx, namespace, collection));
                let entry = self.entry(&place)?;
                if !readable.contains(&block) && entry.is_some_and(|e| !e.state.has_bytes()) {
                    places.push(place);
                }
            }
        }
        Ok(places)
    }

    /// Puts what is held, or missing without bytes, in the place of what was there.
    pub(super) fn put(
        &mut self,
        place: &Place,
        entry: Entry,
        rwset: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        self.remove(place)?;
        let (block, tx, namespace, collection) = place.key();
        self.entries.insert(place.key(), entry.row())?;
        self.collections
            .insert((namespace, collection, block, tx), ())?;
        if let Some(rwset) = rwset {
            self.rwsets.insert(place.key(), rwset)?;
        }
        if let State::Missing(queue, _) = entry.state {
            let key = (queue.code(), block, tx, namespace, collection);
            self.missing.insert(key, ())?;
        }
        if let Some(expiry) = entry.expiry.block() {
            let key = (expiry, block, tx, namespace, collection);
            self.expiry.insert(key, ())?;
        }
        self.count(place, |counts| {
            let count = entry.state.count(counts);
            *count = count.saturating_add(1);
        })
    }

    /// Takes away all that is known of a place.
    pub(super) fn remove(&mut self, place: &Place) -> Result<(), StorageError> {
        let Some(entry) = self.entry(place)? else {
            return Ok(());
        };
        let (block, tx, namespace, collection) = place.key();
        self.entries.remove(place.key())?;
        self.collections
            .remove((namespace, collection, block, tx))?;
        if entry.state.has_bytes() {
            self.rwsets.remove(place.key())?;
        }
        if let State::Missing(queue, _) = entry.state {
            self.gone.remove(place.key())?;
            let key = (queue.code(), block, tx, namespace, collection);
            self.missing.remove(key)?;
        }
        if let Some(expiry) = entry.expiry.block() {
            let key = (expiry, block, tx, namespace, collection);
            self.expiry.remove(key)?;
        }
        self.count(place, |counts| {
            let count = entry.state.count(counts);
            *count = count.saturating_sub(1);
        })
    }

    /// Keys that what is here of a place lacks, and that are not forgotten for good.
    pub(super) fn gone(&self, place: &Place) -> Result<BTreeSet<[u8; 32]>, StorageError> {
        let row = self.gone.get(place.key())?;
        let (hashes, _) = row.as_ref().map_or(&[][..], |row| row.value()).as_chunks();
        Ok(hashes.iter().copied().collect())
    }

    /// Puts down which those are.
    pub(super) fn lacks(
        &mut self,
        place: &Place,
        gone: &BTreeSet<[u8; 32]>,
    ) -> Result<(), StorageError> {
        let hashes: Vec<u8> = gone.iter().flatten().copied().collect();
        self.gone.insert(place.key(), &*hashes)?;
        Ok(())
    }

    fn count(
        &mut self,
        place: &Place,
        change: impl FnOnce(&mut Counts),
    ) -> Result<(), StorageError> {
        let key = (place.namespace.as_str(), place.collection.as_str());
        let counts = self.counts.get(key)?.map(|row| Counts::of(row.value()));
        let mut counts = counts.unwrap_or_default();
        change(&mut counts);
        if counts == Counts::default() {
            self.counts.remove(key)?;
        } else {
            self.counts.insert(key, counts.row())?;
        }
        Ok(())
    }
}
