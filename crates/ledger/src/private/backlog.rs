//! How many private write sets there are, for metrics and operators.
//!
//! Counts are kept with every change of a write set, so asking for them reads one row for each
//! collection, and whatever is above the end of the ledger.

use std::collections::BTreeMap;

use redb::{Error, ReadTransaction};

use super::tables::{COUNTS, ENTRIES, Entry};

/// Collections that [`Backlog`] names; a channel has tens.
pub const BACKLOG_COLLECTIONS_MAX: usize = 1024;

/// How many write sets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Held.
    pub held: u64,
    /// Missing and to be fetched.
    pub eligible: u64,
    /// Missing and to be fetched more seldom.
    pub deprioritized: u64,
    /// Missing and not for us.
    pub ineligible: u64,
}

/// How many write sets there are by collection. What has expired counts until it is removed; what
/// is prepared and not in the ledger does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Of the first [`BACKLOG_COLLECTIONS_MAX`] collections, in order.
    pub collections: Vec<CollectionCounts>,
    /// Of all others together.
    pub rest: Counts,
}

/// How many write sets of a collection there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionCounts {
    /// The chaincode.
    pub namespace: String,
    /// Its collection.
    pub collection: String,
    /// How many.
    pub counts: Counts,
}

impl Backlog {
    /// Of what is there up to this last block of the ledger.
    pub(super) fn below(transaction: &ReadTransaction, last_block: u64) -> Result<Self, Error> {
        let mut above: BTreeMap<(String, String), Counts> = BTreeMap::new();
        if let Some(next) = last_block.checked_add(1) {
            let table = transaction.open_table(ENTRIES)?;
            for row in table.range((next, 0, "", "")..)? {
                let (key, entry) = row?;
                let (_, _, namespace, collection) = key.value();
                let name = (namespace.to_owned(), collection.to_owned());
                let counts = above.entry(name).or_default();
                *Entry::read(entry.value())?.state.count(counts) += 1;
            }
        }
        let mut backlog = Self::default();
        let table = transaction.open_table(COUNTS)?;
        for row in table.range::<(&str, &str)>(..)? {
            let (key, counts) = row?;
            let (namespace, collection) = key.value();
            let name = (namespace.to_owned(), collection.to_owned());
            let above = above.get(&name).copied().unwrap_or_default();
            let counts = Counts::of(counts.value()).minus(above);
            if counts != Counts::default() {
                backlog.add(namespace, collection, counts);
            }
        }
        Ok(backlog)
    }

    fn add(&mut self, namespace: &str, collection: &str, counts: Counts) {
        if self.collections.len() < BACKLOG_COLLECTIONS_MAX {
            self.collections.push(CollectionCounts {
                namespace: namespace.to_owned(),
                collection: collection.to_owned(),
                counts,
            });
        } else {
            self.rest = self.rest.plus(counts);
        }
    }

    /// Of all collections.
    pub fn total(&self) -> Counts {
        let named = self.collections.iter().map(|named| named.counts);
        named.fold(self.rest, Counts::plus)
    }
}

impl Counts {
    fn minus(self, other: Self) -> Self {
        Self {
            held: self.held.saturating_sub(other.held),
            eligible: self.eligible.saturating_sub(other.eligible),
            deprioritized: self.deprioritized.saturating_sub(other.deprioritized),
            ineligible: self.ineligible.saturating_sub(other.ineligible),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            held: self.held.saturating_add(other.held),
            eligible: self.eligible.saturating_add(other.eligible),
            deprioritized: self.deprioritized.saturating_add(other.deprioritized),
            ineligible: self.ineligible.saturating_add(other.ineligible),
        }
    }
}
