//! How many private write sets there are, for metrics and operators.
//!
//! Counts are kept with every change of a write set, so asking for them reads one row for each
//! collection.

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

/// How many write sets there are by collection. What has expired counts until it is removed, and
/// so does a block that is prepared and not yet committed.
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
    pub(super) fn add(&mut self, namespace: &str, collection: &str, counts: Counts) {
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
    fn plus(self, other: Self) -> Self {
        Self {
            held: self.held.saturating_add(other.held),
            eligible: self.eligible.saturating_add(other.eligible),
            deprioritized: self.deprioritized.saturating_add(other.deprioritized),
            ineligible: self.ineligible.saturating_add(other.ineligible),
        }
    }
}
