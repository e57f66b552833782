//! What somebody knows, in a few bytes, so that others tell it only what is different.
//!
//! Promises: what is the same on both sides is found to be the same; a difference is overlooked
//! only by the accident of 64 bits, under a salt that nobody else could foresee. A summary hides
//! things from nobody but its author, so there is no reason to lie in it. Knows nothing of what
//! is summed up.
//!
//! Rules: docs/protocol/membership.md.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::id::PkiId;

/// Parts of the largest summary. With more of them less is told for each difference, and each
/// question is longer by eight bytes.
const PARTS_MAX: usize = 64;

/// Peers that share a part, on the average.
const PEERS_PER_PART: usize = 4;

const SALT_LEN: usize = 8;
const PART_LEN: usize = 8;

/// Everybody that is known, each with two numbers that are others when there is news.
pub(crate) type Known = BTreeMap<PkiId, (u64, u64)>;

/// What somebody knows. Peers with similar PKI-IDs share a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    salt: [u8; SALT_LEN],
    /// A power of two of them, no more than [`PARTS_MAX`].
    parts: Vec<[u8; PART_LEN]>,
}

/// Which parts of two summaries are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference(Vec<bool>);

impl Summary {
    /// In as many parts as there are peers for. `salt` is drawn anew for each
    /// round of questions.
    pub(crate) fn of(salt: u64, known: &Known) -> Self {
        let parts = (known.len() / PEERS_PER_PART).next_power_of_two();
        let salt = salt.to_be_bytes();
        Self {
            parts: parts_of(salt, parts.min(PARTS_MAX), known),
            salt,
        }
    }

    /// Of names in their order, in one part.
    pub(crate) fn of_names<'a>(salt: u64, names: impl Iterator<Item = &'a Bytes>) -> Self {
        let salt = salt.to_be_bytes();
        let parts = vec![part_of_names(salt, names)];
        Self { salt, parts }
    }

    /// Anything else than a summary says nothing.
    pub(crate) fn from_wire(bytes: &[u8]) -> Option<Self> {
        let (salt, rest) = bytes.split_first_chunk::<SALT_LEN>()?;
        let (parts, rest) = rest.as_chunks::<PART_LEN>();
        let is_one = rest.is_empty() && parts.len().is_power_of_two() && parts.len() <= PARTS_MAX;
        is_one.then(|| Self {
            salt: *salt,
            parts: parts.to_vec(),
        })
    }

    pub(crate) fn to_wire(&self) -> Bytes {
        let parts = self.parts.iter().flatten();
        self.salt.iter().chain(parts).copied().collect()
    }

    /// Where its author and whoever knows this are of different minds.
    pub(crate) fn difference(&self, known: &Known) -> Difference {
        let ours = parts_of(self.salt, self.parts.len(), known);
        let pairs = self.parts.iter().zip(&ours);
        Difference(pairs.map(|(theirs, ours)| theirs != ours).collect())
    }

    /// Whether its author has exactly these, which are in their order.
    pub(crate) fn is_of_names<'a>(&self, names: impl Iterator<Item = &'a Bytes>) -> bool {
        self.parts == [part_of_names(self.salt, names)]
    }
}

impl Difference {
    /// Whether this peer is in a part that is not the same.
    pub(crate) fn concerns(&self, peer: &PkiId) -> bool {
        self.0.get(place(peer, self.0.len())).copied() == Some(true)
    }
}

/// PKI-IDs are hashes, so their first bytes spread them evenly.
fn place(peer: &PkiId, parts: usize) -> usize {
    let first = usize::from(peer.as_bytes()[0]);
    first * parts / 256
}

fn parts_of(salt: [u8; SALT_LEN], parts: usize, known: &Known) -> Vec<[u8; PART_LEN]> {
    let mut hashes = vec![Sha256::new_with_prefix(salt); parts];
    for (peer, (first, second)) in known {
        if let Some(hash) = hashes.get_mut(place(peer, parts)) {
            hash.update(peer.as_bytes());
            hash.update(first.to_be_bytes());
            hash.update(second.to_be_bytes());
        }
    }
    hashes.into_iter().map(shortened).collect()
}

fn part_of_names<'a>(
    salt: [u8; SALT_LEN],
    names: impl Iterator<Item = &'a Bytes>,
) -> [u8; PART_LEN] {
    let mut hash = Sha256::new_with_prefix(salt);
    for name in names {
        // With its length: two names in a row must not be another one.
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
    }
    shortened(hash)
}

fn shortened(hash: Sha256) -> [u8; PART_LEN] {
    let whole: [u8; 32] = hash.finalize().into();
    let mut part = [0; PART_LEN];
    part.copy_from_slice(&whole[..PART_LEN]);
    part
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    fn known() -> impl Strategy<Value = Known> {
        let peer = any::<[u8; 32]>().prop_map(PkiId::new);
        btree_map(peer, any::<(u64, u64)>(), 0..400)
    }

    proptest! {
        #[test]
        fn the_same_is_found_to_be_the_same(known in known(), salt: u64) {
            let summary = Summary::of(salt, &known);
            let read = Summary::from_wire(&summary.to_wire());
            prop_assert_eq!(read.as_ref(), Some(&summary));
            let difference = summary.difference(&known);
            prop_assert!(known.keys().all(|peer| !difference.concerns(peer)));
        }

        #[test]
        fn what_is_lacking_old_or_unheard_of_is_found(
            known in known(),
            peer: [u8; 32],
            salt: u64,
            time: u64,
        ) {
            let peer = PkiId::new(peer);
            let summary = Summary::of(salt, &known);
            let mut changed = known.clone();
            changed.insert(peer, (time, u64::MAX));
            prop_assume!(changed != known);
            prop_assert!(summary.difference(&changed).concerns(&peer));
            let summary = Summary::of(salt, &changed);
            prop_assert!(summary.difference(&known).concerns(&peer));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>, known in known()) {
            if let Some(summary) = Summary::from_wire(&bytes) {
                prop_assert_eq!(summary.to_wire(), bytes);
                let told = known.keys().filter(|peer| summary.difference(&known).concerns(peer));
                prop_assert!(told.count() <= known.len());
            }
        }
    }

    #[test]
    fn a_summary_has_its_size() {
        let of_len = |parts: usize| Summary::from_wire(&vec![7; SALT_LEN + PART_LEN * parts]);
        let is_one: Vec<usize> = (0..300).filter(|parts| of_len(*parts).is_some()).collect();
        assert_eq!(is_one, [1, 2, 4, 8, 16, 32, PARTS_MAX]);
        assert_eq!(Summary::from_wire(&[7; SALT_LEN + PART_LEN + 1]), None);
        assert_eq!(Summary::from_wire(&[]), None);
        let peer = |number: u16| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&number.to_le_bytes());
            (PkiId::new(id), (1, 1))
        };
        let len = |peers: u16| {
            Summary::of(1, &(0..peers).map(peer).collect())
                .to_wire()
                .len()
        };
        assert_eq!(len(0), SALT_LEN + PART_LEN);
        assert_eq!(len(64), SALT_LEN + 16 * PART_LEN);
        assert_eq!(len(9999), SALT_LEN + PARTS_MAX * PART_LEN);
    }

    #[test]
    fn names_are_told_apart() {
        let names = |of: &[&'static str]| of.iter().map(|n| Bytes::from(*n)).collect::<Vec<_>>();
        let summary = Summary::of_names(9, names(&["ab", "c"]).iter());
        assert!(summary.is_of_names(names(&["ab", "c"]).iter()));
        for other in [&["a", "bc"][..], &["ab"], &["ab", "c", "d"], &["abc"], &[]] {
            assert!(!summary.is_of_names(names(other).iter()), "{other:?}");
        }
        let another = Summary::of_names(10, names(&["ab", "c"]).iter());
        assert_ne!(another, summary, "the salt matters");
    }
}
