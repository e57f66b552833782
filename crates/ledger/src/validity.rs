//! What peers of several organizations say of the blocks of one channel.
//!
//! # Promises
//!
//! - **What is said is said once.** The rows of a block and how far each organization has been heard
//!   change together: who goes on where the store ends misses nothing and has nothing twice.
//! - **Nothing else rests on it.** All of it can be asked for again, so that the file may be removed.
//!
//! It knows neither codes nor organizations: a row is bytes, and the caller's. It grows by one row
//! for each block.

use std::{collections::BTreeMap, ops::Range, path::Path};

use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition};

use crate::{
    StoreError, StoreOpenError,
    keyed::{Change, Keyed, Kind},
};

/// Memory for pages: rows of old blocks are read by whoever replays a chain.
const CACHE_BYTES: usize = 8 << 20;

/// With the version.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("validity");

/// The next block of each organization.
const NEXT: TableDefinition<'_, &str, u64> = TableDefinition::new("next");

/// What is said of a block.
const SAID: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("said");

/// Blocks about which something else is said, too.
const DISPUTED: TableDefinition<'_, u64, ()> = TableDefinition::new("disputed");

static KIND: Kind = Kind {
    name: "store of validity",
    file: "validity.redb",
    about: ABOUT,
    version: 1,
    tables: |transaction| {
        transaction.open_table(ABOUT)?;
        transaction.open_table(NEXT)?;
        transaction.open_table(SAID)?;
        transaction.open_table(DISPUTED).map(|_| ())
    },
    upgrade: |_, _| Ok(false),
    cache_bytes: CACHE_BYTES,
    cure: "move the file away: what peers say is then asked of them again from the first block on",
};

/// The row of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is said.
    pub bytes: Vec<u8>,
    /// Not all say the same.
    pub is_disputed: bool,
}

/// The store of one channel, open. Its methods may be called by many threads.
#[derive(Debug)]
pub struct ValidityStore(Keyed);

impl ValidityStore {
    /// Opens the store in a folder of its own, or makes an empty one. The whole file is checked.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreOpenError> {
        Keyed::open(dir.as_ref(), &KIND).map(Self)
    }

    /// The next block of each organization that was heard.
    pub fn next(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.0.read(|transaction| {
            let table = transaction.open_table(NEXT)?;
            let mut next = BTreeMap::new();
            for row in table.iter()? {
                let (org, number) = row?;
                next.insert(org.value().to_owned(), number.value());
            }
            Ok(next)
        })
    }

    /// What is said of these blocks, of which the caller names no more than it has room for.
    pub fn said(&self, numbers: Range<u64>) -> Result<BTreeMap<u64, Vec<u8>>, StoreError> {
        self.0.read(|transaction| {
            let table = transaction.open_table(SAID)?;
            let mut said = BTreeMap::new();
            for row in table.range(numbers)? {
                let (number, row) = row?;
                said.insert(number.value(), row.value().to_vec());
            }
            Ok(said)
        })
    }

    /// How many blocks are disputed, and the first of them.
    pub fn disputed(&self) -> Result<(u64, Option<u64>), StoreError> {
        self.0.read(|transaction| {
            let table = transaction.open_table(DISPUTED)?;
            let first = table.first()?.map(|(number, _)| number.value());
            Ok((table.len()?, first))
        })
    }

    /// Puts rows in place of those that were there, and how far organizations were heard. All of it
    /// is on disk when this returns, or nothing.
    pub fn put(
        &self,
        rows: &BTreeMap<u64, Row>,
        next: &BTreeMap<String, u64>,
    ) -> Result<(), StoreError> {
        self.0.write(|transaction| {
            let mut said = transaction.open_table(SAID)?;
            let mut disputed = transaction.open_table(DISPUTED)?;
            for (number, row) in rows {
                said.insert(number, &row.bytes[..])?;
                if row.is_disputed {
                    disputed.insert(number, ())?;
                } else {
                    disputed.remove(number)?;
                }
            }
            let mut heard = transaction.open_table(NEXT)?;
            for (org, number) in next {
                heard.insert(org.as_str(), number)?;
            }
            Ok(Change::Keep(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let row = |text: &str, is_disputed| Row {
            bytes: text.as_bytes().to_vec(),
            is_disputed,
        };
        let store = ValidityStore::open(dir.path()).unwrap();
        assert_eq!(store.disputed().unwrap(), (0, None));
        assert!(store.next().unwrap().is_empty() && store.said(0..9).unwrap().is_empty());
        let rows = [
            (1, row("one", false)),
            (2, row("two", true)),
            (5, row("five", true)),
        ];
        let next = [("Org1MSP".to_owned(), 6), ("Org2MSP".to_owned(), 3)];
        store.put(&rows.into(), &next.clone().into()).unwrap();
        let again = [(2, row("zwei", false))];
        store.put(&again.into(), &BTreeMap::new()).unwrap();
        drop(store);
        let store = ValidityStore::open(dir.path()).unwrap();
        let said = [(1, b"one".to_vec()), (2, b"zwei".to_vec())];
        assert_eq!(store.said(0..5).unwrap(), said.into());
        assert_eq!(store.disputed().unwrap(), (1, Some(5)));
        assert_eq!(store.next().unwrap(), next.into());
        drop(store);
        std::fs::write(dir.path().join(KIND.file), "no store").unwrap();
        let refused = ValidityStore::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("move the file away"), "{refused}");
    }
}
