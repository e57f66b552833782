//! Reading a store from end to end without holding more than one write set.
//!
//! An iterator shows the store as it was when it was made. While it lives, the file cannot reuse
//! what is removed meanwhile, so it is not to be kept.

use std::{collections::BTreeSet, fmt, ops::Bound, sync::Arc};

use bytes::Bytes;
use redb::{Error, OwnedRange, ReadOnlyTable, ReadTransaction, StorageError};

use super::{
    Account, Content, Left, MissingSet, Place, Queue, StoredSet,
    tables::{COLLECTIONS, ENTRIES, Entry, EntryRow, MISSING, PlaceKey, RWSETS, State},
};
use crate::{StoreError, keyed::Keyed};

type Places = Box<dyn Iterator<Item = Result<Place, StorageError>> + Send>;

/// Write sets that are held, in the order of their places.
pub struct Sets {
    file: Arc<Keyed>,
    places: Places,
    look: Look,
}

/// Write sets that are missing, those of the newest block first.
pub struct MissingSets {
    file: Arc<Keyed>,
    places: Places,
    look: Look,
}

/// Write sets that are held or missing, in the order of their places.
pub struct Accounts {
    file: Arc<Keyed>,
    places: Places,
    look: Look,
}

/// What is known of a place.
pub(super) struct Look {
    entries: ReadOnlyTable<PlaceKey, EntryRow>,
    rwsets: ReadOnlyTable<PlaceKey, &'static [u8]>,
    last_block: u64,
}

impl Sets {
    /// Of one block.
    pub(super) fn of_block(
        file: &Arc<Keyed>,
        block: u64,
        last_block: u64,
    ) -> Result<Self, StoreError> {
        file.read(|transaction| {
            let look = Look::new(transaction, last_block)?;
            let end = block.checked_add(1);
            let end = end.map_or(Bound::Unbounded, |next| Bound::Excluded((next, 0, "", "")));
            let first = Bound::Included((block, 0, "", ""));
            let rows = look
                .entries
                .range_owned::<(u64, u64, &str, &str)>((first, end))?;
            Ok(Self {
                file: Arc::clone(file),
                places: Box::new(rows.map(|row| Ok(Place::of(row?.0.value())))),
                look,
            })
        })
    }

    /// Of one collection, from a block and transaction on.
    pub(super) fn of_collection(
        file: &Arc<Keyed>,
        (namespace, collection): (&str, &str),
        from: (u64, u64),
        last_block: u64,
    ) -> Result<Self, StoreError> {
        file.read(|transaction| {
            let first = (namespace, collection, from.0, from.1);
            let last = (namespace, collection, last_block, u64::MAX);
            let table = transaction.open_table(COLLECTIONS)?;
            let places: Places = if from.0 > last_block {
                Box::new(std::iter::empty())
            } else {
                Box::new(table.range_owned(first..=last)?.map(|row| {
                    let key = row?.0;
                    let (namespace, collection, block, tx) = key.value();
                    Ok(Place::of((block, tx, namespace, collection)))
                }))
            };
            Ok(Self {
                file: Arc::clone(file),
                places,
                look: Look::new(transaction, last_block)?,
            })
        })
    }
}

impl Iterator for Sets {
    type Item = Result<StoredSet, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { file, places, look } = self;
        let found = places.find_map(|place| {
            let set = place.and_then(|place| look.stored(place));
            set.transpose()
        })?;
        Some(found.map_err(|error| file.failed("read", error.into())))
    }
}

impl MissingSets {
    pub(super) fn of(file: &Arc<Keyed>, queue: Queue, last_block: u64) -> Result<Self, StoreError> {
        file.read(|transaction| {
            let queue = queue.code();
            let end = last_block.checked_add(1);
            let end = end.map_or((queue + 1, 0, 0, "", ""), |next| (queue, next, 0, "", ""));
            let table = transaction.open_table(MISSING)?;
            let rows: OwnedRange<_, _> = table.range_owned((queue, 0, 0, "", "")..end)?;
            let places = rows.rev().map(|row| {
                let key = row?.0;
                let (_, block, tx, namespace, collection) = key.value();
                Ok(Place::of((block, tx, namespace, collection)))
            });
            Ok(Self {
                file: Arc::clone(file),
                places: Box::new(places),
                look: Look::new(transaction, last_block)?,
            })
        })
    }
}

impl Iterator for MissingSets {
    type Item = Result<MissingSet, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { file, places, look } = self;
        let found = places.find_map(|place| {
            let set = place.and_then(|place| look.missing(place));
            set.transpose()
        })?;
        Some(found.map_err(|error| file.failed("read", error.into())))
    }
}

impl Accounts {
    pub(super) fn of(
        file: &Arc<Keyed>,
        from: (u64, u64),
        last_block: u64,
    ) -> Result<Self, StoreError> {
        file.read(|transaction| {
            let look = Look::new(transaction, last_block)?;
            let rows = look
                .entries
                .range_owned::<(u64, u64, &str, &str)>((from.0, from.1, "", "")..)?;
            let places = rows.map(|row| Ok(Place::of(row?.0.value())));
            Ok(Self {
                file: Arc::clone(file),
                // What is prepared above the last block need not be walked through.
                places: Box::new(places.take_while(
                    move |place| !matches!(place, Ok(place) if place.block > last_block),
                )),
                look,
            })
        })
    }
}

impl Iterator for Accounts {
    type Item = Result<Account, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { file, places, look } = self;
        let found = places.find_map(|place| {
            let account = place.and_then(|place| look.account(place));
            account.transpose()
        })?;
        Some(found.map_err(|error| file.failed("read", error.into())))
    }
}

impl Look {
    pub(super) fn new(transaction: &ReadTransaction, last_block: u64) -> Result<Self, Error> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            rwsets: transaction.open_table(RWSETS)?,
            last_block,
        })
    }

    /// What is there and neither expired nor above the last block.
    fn entry(&self, place: &Place) -> Result<Option<Entry>, StorageError> {
        let row = self.entries.get(place.key())?;
        let entry = row.map(|row| Entry::read(row.value())).transpose()?;
        let seen = |entry: &Entry| {
            place.block <= self.last_block && !entry.expiry.is_over(self.last_block)
        };
        Ok(entry.filter(seen))
    }

    pub(super) fn stored(&self, place: Place) -> Result<Option<StoredSet>, StorageError> {
        let entry = self.entry(&place)?;
        let Some(entry) = entry.filter(|entry| entry.state.is_held()) else {
            return Ok(None);
        };
        Ok(Some(StoredSet {
            rwset: self.rwset(&place)?,
            is_trimmed: entry.state == State::Trimmed,
            place,
            expires_at: entry.expiry.block(),
        }))
    }

    /// The bytes of what is held.
    fn rwset(&self, place: &Place) -> Result<Bytes, StorageError> {
        let rwset = self.rwsets.get(place.key())?.ok_or_else(|| {
            StorageError::Corrupted("the bytes of a write set that is held are gone".to_owned())
        })?;
        Ok(Bytes::copy_from_slice(rwset.value()))
    }

    fn account(&self, place: Place) -> Result<Option<Account>, StorageError> {
        let Some(entry) = self.entry(&place)? else {
            return Ok(None);
        };
        let content = match entry.state {
            State::Held => Content::Held(self.rwset(&place)?),
            State::Trimmed => Content::Trimmed(Left {
                rwset: self.rwset(&place)?,
                gone: BTreeSet::new(),
            }),
            State::Missing(_, why) => Content::Missing(why),
        };
        Ok(Some(Account {
            place,
            content,
            expires_at: entry.expiry.block(),
        }))
    }

    fn missing(&self, place: Place) -> Result<Option<MissingSet>, StorageError> {
        let entry = self.entry(&place)?;
        Ok(entry.and_then(|entry| match entry.state {
            State::Held | State::Trimmed => None,
            State::Missing(queue, why) => Some(MissingSet {
                place,
                why,
                queue,
                expires_at: entry.expiry.block(),
            }),
        }))
    }
}

impl fmt::Debug for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sets").finish_non_exhaustive()
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

impl fmt::Debug for MissingSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MissingSets").finish_non_exhaustive()
    }
}
