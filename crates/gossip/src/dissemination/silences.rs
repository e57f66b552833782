//! How often a member did not acknowledge, by whose word.

use std::collections::BTreeMap;

use crate::id::PkiId;

/// So many of these are counted of one member about another, so that it takes four to call a member
/// slow. What we saw ourselves is counted in full.
const SILENCES_EACH_MAX: u32 = 3;

/// So many reporters of one member are remembered: enough to tell one that is missed everywhere.
const REPORTERS_MAX: usize = 32;

/// How often one member was reported not to acknowledge.
#[derive(Clone, Debug, Default)]
pub(super) struct Silences {
    own: u32,
    /// By others, and of each no more than counts.
    by: BTreeMap<PkiId, u32>,
}

impl Silences {
    pub(super) fn note(&mut self, me: &PkiId, reporter: PkiId) {
        if reporter == *me {
            self.own = self.own.saturating_add(1);
        } else if self.by.len() < REPORTERS_MAX || self.by.contains_key(&reporter) {
            let count = self.by.entry(reporter).or_default();
            *count = count.saturating_add(1).min(SILENCES_EACH_MAX);
        }
    }

    pub(super) fn count(&self) -> u64 {
        let others: u64 = self.by.values().copied().map(u64::from).sum();
        others + u64::from(self.own)
    }
}
