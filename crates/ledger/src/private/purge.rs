//! Keys that are to be forgotten.
//!
//! A transaction may say that all values of a key are to be forgotten, up to and with its own.
//! Whether it is valid the store does not know. So what transactions say is put down with their
//! blocks, as *noted*, and changes nothing; [`PrivateStore::purge`] *carries out* what one of them
//! says. That is put down before the first write set is changed, from when on nothing brings the key
//! back, and again at the end: what a crash breaks off is gone on with by [`PrivateStore::resume`].

mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadableTable as _, StorageError, Table};
use sha2::{Digest as _, Sha256};
use tidings_proto::block::purged::{keys, without_keys};

use super::{
    Left, Place, PrivateBlock, PrivateStore, Sets,
    tables::{
        ABOUT, Entry, Expiry, ForgottenKey, LEFT_OUT, NOTE_FROM, NOTE_TO, PURGED, PURGES, PURGING,
        PurgeKey, State, Tables,
    },
};
use crate::StoreError;
pub use told::{KeyPurge, NotedPurge, PurgeError, PurgeState, Purged, PurgedKeys, Touched};

/// Transactions that are listed at a time, and collections of one that are named.
pub const PURGES_LISTED_MAX: usize = 256;

/// Write sets that are looked at in one step of a purge, between which blocks have their turn.
const STEP_LEN_MAX: usize = 1024;

/// Bytes of them, with one more write set.
const STEP_BYTES_MAX: usize = 16 << 20;

/// Between two steps, for whoever waits to write: a mutex goes to who asks first, and that would be
/// the next step.
const STEP_PAUSE: Duration = Duration::from_millis(1);

/// Only noted, being carried out, and done.
const NOTED: u8 = 0;
const BEGUN: u8 = 1;
const DONE: u8 = 2;

impl PrivateStore {
    /// The transactions of committed blocks that say that keys are to be forgotten, from this one
    /// on, at most [`PURGES_LISTED_MAX`], oldest first.
    pub fn purges(&self, from: (u64, u64), last_block: u64) -> Result<Vec<NotedPurge>, StoreError> {
        self.file.read(|transaction| {
            let table = transaction.open_table(PURGING)?;
            let purges = transaction.open_table(PURGES)?;
            let left_out = transaction.open_table(LEFT_OUT)?;
            let mut found = Vec::new();
            for row in table.range(from..)?.take(PURGES_LISTED_MAX) {
                let (key, state) = row?;
                let ((block, tx), (state, changed)) = (key.value(), state.value());
                if block > last_block {
                    break;
                }
                found.push(NotedPurge {
                    block,
                    tx,
                    collections: collections(&purges, (block, tx))?,
                    left_out: left_out.get((block, tx))?.map_or(0, |row| row.value()),
                    state: match state {
                        NOTED => PurgeState::Noted,
                        BEGUN => PurgeState::Begun(changed),
                        _ => PurgeState::Done(changed),
                    },
                });
            }
            Ok(found)
        })
    }

    /// How many write sets that are held have a key that this transaction says is to be forgotten.
    /// Of all its collections together at most so many bytes are read; what was read is taken off.
    pub fn touched(
        &self,
        purge: &NotedPurge,
        last_block: u64,
        bytes: &mut usize,
    ) -> Result<Touched, StoreError> {
        let mut touched = Touched::default();
        let (block, tx) = (purge.block, purge.tx);
        for PurgedKeys {
            namespace,
            collection,
            ..
        } in &purge.collections
        {
            let name = (&**namespace, &**collection);
            let sets = Sets::of_collection(&self.file, name, (0, 0), last_block)?;
            for set in sets {
                let set = set?;
                if (set.place.block, set.place.tx) > (block, tx) {
                    break;
                }
                if *bytes == 0 {
                    touched.is_cut = true;
                    return Ok(touched);
                }
                // A small one costs a look, too.
                *bytes = bytes.saturating_sub(set.rwset.len() + 256);
                let is_touched = self.file.read(|transaction| {
                    let purges = transaction.open_table(PURGES)?;
                    let names = |key: &str| {
                        let row = (block, tx, &**namespace, &**collection, hash(key));
                        purges.get(row).map(|row| row.is_some())
                    };
                    for key in keys(&set.rwset) {
                        if names(key)? {
                            return Ok(true);
                        }
                    }
                    Ok(false)
                })?;
                touched.sets += u64::from(is_touched);
            }
        }
        Ok(touched)
    }

    /// Those of these keys of a write set that are to be forgotten, by what it or a later
    /// transaction up to the last block says.
    pub fn noted(
        &self,
        place: &Place,
        keys: impl IntoIterator<Item = [u8; 32]>,
        last_block: u64,
    ) -> Result<BTreeSet<[u8; 32]>, StoreError> {
        self.file.read(|transaction| {
            let table = transaction.open_table(PURGED)?;
            let (block, tx, namespace, collection) = place.key();
            let all = (namespace, collection, [0; 32], 0, 0)
                ..=(namespace, collection, [0xff; 32], u64::MAX, u64::MAX);
            let mut noted = BTreeSet::new();
            if table.range(all)?.next().is_none() {
                return Ok(noted);
            }
            for key in keys {
                let later = (namespace, collection, key, block, tx)
                    ..=(namespace, collection, key, last_block, u64::MAX);
                if block <= last_block && table.range(later)?.next().is_some() {
                    noted.insert(key);
                }
            }
            Ok(noted)
        })
    }

    /// Whether this write set may lack keys that are to be forgotten and are not noted.
    pub fn is_noted_in_part(&self, place: &Place, last_block: u64) -> Result<bool, StoreError> {
        self.file.read(|transaction| {
            let table = transaction.open_table(LEFT_OUT)?;
            let first = (place.block, place.tx);
            let is_there = first.0 <= last_block;
            Ok(is_there
                && table
                    .range(first..=(last_block, u64::MAX))?
                    .next()
                    .is_some())
        })
    }

    /// The blocks of a store of version 1 of which nothing was noted, from the first up to below the
    /// second.
    pub fn to_note(&self) -> Result<Option<(u64, u64)>, StoreError> {
        self.file.read(|transaction| {
            let about = transaction.open_table(ABOUT)?;
            let row = |name| Ok::<_, StorageError>(about.get(name)?.map(|row| row.value()));
            Ok(row(NOTE_FROM)?.zip(row(NOTE_TO)?))
        })
    }

    /// Notes what these of them say is to be forgotten; those below `done` need not be looked at
    /// again.
    pub fn note(&self, blocks: &[PrivateBlock], done: u64) -> Result<(), StoreError> {
        self.change(|tables| {
            for block in blocks {
                tables.note(block)?;
            }
            let to = tables.about.get(NOTE_TO)?.map(|row| row.value());
            if to.is_none_or(|to| done >= to) {
                tables.about.remove(NOTE_FROM)?;
                tables.about.remove(NOTE_TO)?;
            } else {
                tables.about.insert(NOTE_FROM, done)?;
            }
            Ok((true, ()))
        })
    }

    /// Forgets what this transaction says is to be forgotten: takes the keys out of every write set
    /// of the transaction itself and of earlier ones, and keeps them out of those that are still to
    /// come. To be called by who knows that the transaction is valid.
    pub fn purge(&self, block: u64, tx: u64, last_block: u64) -> Result<Purged, PurgeError> {
        let begun = self.begin((block, tx), last_block)?;
        let changed = match begun {
            None => return Err(PurgeError::Unknown { block, tx }),
            Some((DONE, changed)) => changed,
            Some(_) => self.carry_out((block, tx))?,
        };
        let left_out = self.file.read(|transaction| {
            let row = transaction.open_table(LEFT_OUT)?.get((block, tx))?;
            Ok(row.map_or(0, |row| row.value()))
        })?;
        Ok(Purged { changed, left_out })
    }

    /// Puts down that this is being carried out, unless it was; says how far it is.
    fn begin(
        &self,
        (block, tx): (u64, u64),
        last_block: u64,
    ) -> Result<Option<(u8, u64)>, StoreError> {
        self.change(|tables| {
            let state = tables.purging.get((block, tx))?.map(|row| row.value());
            let Some((state, changed)) = state.filter(|_| block <= last_block) else {
                return Ok((false, None));
            };
            if state != NOTED {
                return Ok((false, Some((state, changed))));
            }
            tables.forget((block, tx))?;
            tables.purging.insert((block, tx), (BEGUN, 0))?;
            Ok((true, Some((BEGUN, 0))))
        })
    }

    /// Goes on with what a crash broke off; says which transactions those were.
    pub fn resume(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let begun: Vec<(u64, u64)> = self.file.read(|transaction| {
            let table = transaction.open_table(PURGING)?;
            let mut begun = Vec::new();
            for row in table.range::<(u64, u64)>(..)? {
                let (key, state) = row?;
                if state.value().0 == BEGUN {
                    begun.push(key.value());
                }
            }
            Ok(begun)
        })?;
        for purge in &begun {
            self.carry_out(*purge)?;
        }
        Ok(begun)
    }

    /// Step by step, as there may be many write sets.
    fn carry_out(&self, purge: (u64, u64)) -> Result<u64, StoreError> {
        let mut after = None;
        while let Some((namespace, collection)) = self.next_collection(purge, after.take())? {
            let mut from = Some((0, 0));
            while let Some(start) = from {
                if start != (0, 0) {
                    thread::sleep(STEP_PAUSE);
                }
                from = self.trim_some((&namespace, &collection), start, purge)?;
            }
            after = Some((namespace, collection));
        }
        self.change(|tables| {
            let changed = tables.purging.get(purge)?.map_or(0, |row| row.value().1);
            tables.purging.insert(purge, (DONE, changed))?;
            Ok((true, changed))
        })
    }

    /// One step in a collection; says where to go on.
    fn trim_some(
        &self,
        collection: (&str, &str),
        from: (u64, u64),
        purge: (u64, u64),
    ) -> Result<Option<(u64, u64)>, StoreError> {
        self.change(|tables| {
            let (next, changed) = tables.trim_some(collection, from, purge)?;
            if changed > 0 {
                let before = tables.purging.get(purge)?.map_or(0, |row| row.value().1);
                tables.purging.insert(purge, (BEGUN, before + changed))?;
            }
            Ok((changed > 0, next))
        })
    }

    /// The next collection of which a transaction says something.
    fn next_collection(
        &self,
        (block, tx): (u64, u64),
        after: Option<(String, String)>,
    ) -> Result<Option<(String, String)>, StoreError> {
        self.file.read(|transaction| {
            let table = transaction.open_table(PURGES)?;
            next_collection(&table, (block, tx), after.as_ref()).map_err(Into::into)
        })
    }
}

impl Tables<'_> {
    /// Puts down what the transactions of a block say in place of what was said before. What
    /// became of one that says the same as before stays.
    pub(super) fn note(&mut self, block: &PrivateBlock) -> Result<(), StorageError> {
        let number = block.number;
        let before = by_tx(self.purges_of((number, 0)..=(number, u64::MAX))?);
        let after = by_tx(block.purges.iter().cloned());
        for (tx, purges) in before.iter().filter(|(tx, was)| after.get(tx) != Some(was)) {
            for purge in purges {
                let (namespace, collection) = (&*purge.namespace, &*purge.collection);
                let key = purge.key_hash;
                self.purges
                    .remove((number, *tx, namespace, collection, key))?;
                self.purged
                    .remove((namespace, collection, key, number, *tx))?;
            }
            self.purging.remove((number, *tx))?;
        }
        for tx in before.keys() {
            self.left_out.remove((number, *tx))?;
        }
        for (tx, purges) in after.iter().filter(|(tx, is)| before.get(tx) != Some(is)) {
            for purge in purges {
                let (namespace, collection) = (&*purge.namespace, &*purge.collection);
                let key = purge.key_hash;
                self.purges
                    .insert((number, *tx, namespace, collection, key), ())?;
                self.purged
                    .insert((namespace, collection, key, number, *tx), ())?;
            }
            self.purging.insert((number, *tx), (NOTED, 0))?;
        }
        for (tx, len) in block
            .left_out
            .iter()
            .filter(|(tx, _)| after.contains_key(tx))
        {
            self.left_out.insert((number, *tx), len)?;
        }
        Ok(())
    }

    fn purges_of(
        &self,
        transactions: std::ops::RangeInclusive<(u64, u64)>,
    ) -> Result<Vec<KeyPurge>, StorageError> {
        let ((block, first), (_, last)) = transactions.into_inner();
        let first = (block, first, "", "", [0; 32]);
        let rows = match last.checked_add(1) {
            Some(next) => self.purges.range(first..(block, next, "", "", [0; 32]))?,
            None => match block.checked_add(1) {
                Some(next) => self.purges.range(first..(next, 0, "", "", [0; 32]))?,
                None => self.purges.range(first..)?,
            },
        };
        rows.map(|row| {
            let key = row?.0;
            let (_, tx, namespace, collection, key_hash) = key.value();
            Ok(KeyPurge {
                tx,
                namespace: namespace.to_owned(),
                collection: collection.to_owned(),
                key_hash,
            })
        })
        .collect()
    }

    /// From now on nothing brings back what this transaction says is to be forgotten.
    fn forget(&mut self, (block, tx): (u64, u64)) -> Result<(), StorageError> {
        for purge in self.purges_of((block, tx)..=(block, tx))? {
            let key = (&*purge.namespace, &*purge.collection, purge.key_hash);
            let before = self.forgotten.get(key)?.map(|row| row.value());
            let last = before.map_or((block, tx), |before| before.max((block, tx)));
            self.forgotten.insert(key, last)?;
        }
        Ok(())
    }

    /// Puts what is held in its place, without the keys that are forgotten.
    pub(super) fn hold(
        &mut self,
        place: &Place,
        expiry: Expiry,
        rwset: &Bytes,
    ) -> Result<(), StorageError> {
        let left = trimmed(&self.forgotten, place, rwset)?;
        let state = match left {
            None => State::Held,
            Some(_) => State::Trimmed,
        };
        let rwset = left.as_ref().unwrap_or(rwset);
        self.put(place, Entry { state, expiry }, Some(rwset))
    }

    /// Puts what is left in its place, unless what is there lacks no more; says how.
    pub(super) fn hold_left(
        &mut self,
        place: &Place,
        expiry: Expiry,
        left: &Left,
    ) -> Result<Option<State>, StorageError> {
        let mut gone = BTreeSet::new();
        for key in &left.gone {
            if !is_forgotten(&self.forgotten, place, *key)? {
                gone.insert(*key);
            }
        }
        let before = self.entry(place)?.map(|entry| entry.state);
        if before == Some(State::LEFT) {
            let before = self.gone(place)?;
            if gone == before || !gone.is_subset(&before) {
                return Ok(None);
            }
        }
        let rwset = trimmed(&self.forgotten, place, &left.rwset)?;
        let rwset = rwset.as_ref().unwrap_or(&left.rwset);
        let state = match gone.is_empty() {
            true => State::Trimmed,
            false => State::LEFT,
        };
        self.put(place, Entry { state, expiry }, Some(rwset))?;
        if !gone.is_empty() {
            self.lacks(place, &gone)?;
        }
        Ok(Some(state))
    }

    /// Takes what is forgotten out of some write sets of a collection, from one transaction up to
    /// another; says where to go on, and how many were changed.
    fn trim_some(
        &mut self,
        (namespace, collection): (&str, &str),
        from: (u64, u64),
        to: (u64, u64),
    ) -> Result<(Option<(u64, u64)>, u64), StorageError> {
        let mut changes = Vec::new();
        let (mut bytes, mut next) = (0, None);
        let first = (namespace, collection, from.0, from.1);
        let last = (namespace, collection, to.0, to.1);
        for (seen, row) in self.collections.range(first..=last)?.enumerate() {
            let key = row?.0;
            let (_, _, block, tx) = key.value();
            if seen == STEP_LEN_MAX || bytes > STEP_BYTES_MAX {
                next = Some((block, tx));
                break;
            }
            let place = Place::of((block, tx, namespace, collection));
            let entry = self.entry(&place)?;
            let Some(entry) = entry.filter(|entry| entry.state.has_bytes()) else {
                continue;
            };
            let Some(rwset) = self.rwsets.get(place.key())? else {
                continue;
            };
            bytes += rwset.value().len();
            // What is gone already may be gone for good now.
            let (gone, mut is_settled) = (self.gone(&place)?, false);
            for key in &gone {
                is_settled |= is_forgotten(&self.forgotten, &place, *key)?;
            }
            let rwset = match trimmed(&self.forgotten, &place, rwset.value())? {
                Some(rwset) => rwset,
                None if is_settled => Bytes::copy_from_slice(rwset.value()),
                None => continue,
            };
            changes.push((place, entry, Left { rwset, gone }));
        }
        let changed = changes.len() as u64;
        for (place, Entry { expiry, .. }, left) in changes {
            self.remove(&place)?;
            self.hold_left(&place, expiry, &left)?;
        }
        Ok((next, changed))
    }
}

/// What is left of a write set if some of its keys are forgotten.
fn trimmed(
    forgotten: &Table<'_, ForgottenKey, (u64, u64)>,
    place: &Place,
    rwset: &[u8],
) -> Result<Option<Bytes>, StorageError> {
    let (_, _, namespace, collection) = place.key();
    let all = (namespace, collection, [0; 32])..=(namespace, collection, [0xff; 32]);
    if forgotten.range(all)?.next().is_none() {
        return Ok(None);
    }
    without_keys(rwset, |key| is_forgotten(forgotten, place, hash(key)))
}

/// Whether nothing brings back what a write set says of this key.
fn is_forgotten(
    forgotten: &Table<'_, ForgottenKey, (u64, u64)>,
    place: &Place,
    key: [u8; 32],
) -> Result<bool, StorageError> {
    let (block, tx, namespace, collection) = place.key();
    let last = forgotten.get((namespace, collection, key))?;
    Ok(last.is_some_and(|last| last.value() >= (block, tx)))
}

fn by_tx(purges: impl IntoIterator<Item = KeyPurge>) -> BTreeMap<u64, BTreeSet<KeyPurge>> {
    let mut all: BTreeMap<u64, BTreeSet<KeyPurge>> = BTreeMap::new();
    for purge in purges {
        all.entry(purge.tx).or_default().insert(purge);
    }
    all
}

fn collections(
    purges: &ReadOnlyTable<PurgeKey, ()>,
    purge: (u64, u64),
) -> Result<Vec<PurgedKeys>, StorageError> {
    let mut found: Vec<PurgedKeys> = Vec::new();
    let mut after = None;
    while let Some((namespace, collection)) = next_collection(purges, purge, after.as_ref())? {
        if found.len() == PURGES_LISTED_MAX {
            break;
        }
        let name = (purge.0, purge.1, &*namespace, &*collection);
        let first = (name.0, name.1, name.2, name.3, [0; 32]);
        let last = (name.0, name.1, name.2, name.3, [0xff; 32]);
        let keys = purges.range(first..=last)?.count() as u64;
        after = Some((namespace.clone(), collection.clone()));
        found.push(PurgedKeys {
            namespace,
            collection,
            keys,
        });
    }
    Ok(found)
}

fn next_collection(
    purges: &ReadOnlyTable<PurgeKey, ()>,
    (block, tx): (u64, u64),
    after: Option<&(String, String)>,
) -> Result<Option<(String, String)>, StorageError> {
    let (namespace, collection) = after.map_or(("", ""), |(namespace, collection)| {
        (namespace.as_str(), collection.as_str())
    });
    let first = match after {
        None => (block, tx, "", "", [0; 32]),
        Some(_) => (block, tx, namespace, collection, [0xff; 32]),
    };
    for row in purges.range(first..)? {
        let key = row?.0;
        let (at, number, namespace, collection, _) = key.value();
        if (at, number) != (block, tx) {
            break;
        }
        let found = (namespace.to_owned(), collection.to_owned());
        if after != Some(&found) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests;
