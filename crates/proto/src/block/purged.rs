//! Private write sets of which keys were purged.
//!
//! A block has the hash of a write set as it was written. Who purges a key takes its write out, and
//! what is left has another hash: it can be told to be right by its keys and values only, each of
//! which the block has the hash of. Promises that what passes holds nothing that the block does not
//! name, and says of which keys the writes are gone. Walks the bytes where they lie. Does not know
//! which keys were purged, nor how to hash.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use bytes::Bytes;

use super::{
    endorsed::{flag, parts},
    private::PrivateWrites,
};
use crate::wire::{Field, Fields, Malformed, Value};

/// Where a `kvrwset.KVRWSet` has its writes.
const WRITES: u64 = 3;

/// Where it has those of metadata: of a private one the keys, and nothing else.
const METADATA_WRITES: u64 = 4;

/// SHA-256.
pub type Hash = [u8; 32];

/// Why a write set is not what is left of the one that a block names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotLeft {
    /// It is no write set.
    #[error("it does not parse: {0}")]
    Malformed(#[from] Malformed),
    /// It holds something else than writes, which has no hash in the block.
    #[error("it holds field {0}, of which the block says nothing")]
    Unknown(u64),
    /// A key that is not written there.
    #[error("it has a key that the block does not name")]
    Key,
    /// A key twice, in it or in the block.
    #[error("a key is written twice")]
    Twice,
    /// Another value.
    #[error("a value is not the one in the block")]
    Value,
    /// Nothing is gone, so that its hash should be the one in the block.
    #[error("no key is gone from it")]
    Nothing,
}

impl PrivateWrites {
    /// The hashes of the keys that it writes and `rwset` does not, if each write that is there is
    /// one of the block's. A write set without metadata passes: Fabric drops what is said of
    /// metadata, which is only for which keys there is some, when it takes keys out.
    pub fn gone_from(
        &self,
        rwset: &[u8],
        hash: impl Fn(&[u8]) -> Hash,
    ) -> Result<BTreeSet<Hash>, NotLeft> {
        let mut values: BTreeMap<Hash, Option<Bytes>> = BTreeMap::new();
        for write in self.hashed_writes() {
            let key: Hash = write.key_hash[..].try_into().map_err(|_len| NotLeft::Key)?;
            match values.entry(key) {
                btree_map::Entry::Vacant(new) => new.insert(write.value_hash),
                btree_map::Entry::Occupied(_) => return Err(NotLeft::Twice),
            };
        }
        let mut metadata: BTreeSet<&[u8]> = parts(&self.hashed, METADATA_WRITES - 1)
            .map(|write| parts(write, 1).last().unwrap_or_default())
            .collect();
        for field in Fields::new(rwset) {
            match field? {
                Field {
                    number: WRITES,
                    value: Value::Bytes(write),
                    ..
                } => {
                    let key = only(write, [1, 2, 3]).map(|()| key_of(write))??;
                    let want = values.remove(&hash(key.as_bytes())).ok_or(NotLeft::Key)?;
                    let value = parts(write, 3).last().unwrap_or_default();
                    let is_delete = flag(write, 2) || value.is_empty();
                    let is_right = match want {
                        None => is_delete && value.is_empty(),
                        Some(want) => !is_delete && hash(value)[..] == want[..],
                    };
                    if !is_right {
                        return Err(NotLeft::Value);
                    }
                }
                Field {
                    number: METADATA_WRITES,
                    value: Value::Bytes(write),
                    ..
                } => {
                    let key = only(write, [1]).map(|()| key_of(write))??;
                    if !metadata.remove(&hash(key.as_bytes())[..]) {
                        return Err(NotLeft::Key);
                    }
                }
                other => return Err(NotLeft::Unknown(other.number)),
            }
        }
        if values.is_empty() {
            return Err(NotLeft::Nothing);
        }
        Ok(values.into_keys().collect())
    }
}

/// A write set without what it says of these keys; none if it says nothing of them, or is none. The
/// rest stays as it is, byte for byte.
pub fn without_keys<E>(
    rwset: &[u8],
    mut is_purged: impl FnMut(&str) -> Result<bool, E>,
) -> Result<Option<Bytes>, E> {
    let mut left = Vec::new();
    let (mut begin, mut fields) = (0, Fields::new(rwset));
    let mut is_changed = false;
    while let Some(field) = fields.next() {
        let Ok(field) = field else {
            return Ok(None);
        };
        let end = rwset.len() - fields.rest_len();
        let key = match field.value {
            Value::Bytes(write) if [WRITES, METADATA_WRITES].contains(&field.number) => {
                key_of(write).ok()
            }
            _ => None,
        };
        if key.map(&mut is_purged).transpose()?.unwrap_or_default() {
            is_changed = true;
        } else {
            left.extend_from_slice(&rwset[begin..end]);
        }
        begin = end;
    }
    Ok(is_changed.then(|| left.into()))
}

/// The keys that a write set says something of; those of what is none up to where it breaks off.
pub fn keys(rwset: &[u8]) -> impl Iterator<Item = &str> {
    let writes = Fields::new(rwset).map_while(Result::ok);
    writes.filter_map(|field| match field {
        Field {
            number: WRITES | METADATA_WRITES,
            value: Value::Bytes(write),
            ..
        } => key_of(write).ok(),
        _ => None,
    })
}

/// Each of these fields is there at most once, and no other is. The second of a write is a number.
fn only<const N: usize>(write: &[u8], numbers: [u64; N]) -> Result<(), NotLeft> {
    let mut seen = BTreeSet::new();
    for field in Fields::new(write) {
        let Field { number, value, .. } = field?;
        let is_right = match value {
            Value::Varint(_) => number == 2,
            Value::Bytes(_) => number != 2,
            Value::Other => false,
        };
        if !is_right || !numbers.contains(&number) {
            return Err(NotLeft::Unknown(number));
        }
        if !seen.insert(number) {
            return Err(NotLeft::Twice);
        }
    }
    Ok(())
}

fn key_of(write: &[u8]) -> Result<&str, Malformed> {
    let key = parts(write, 1).last().unwrap_or_default();
    std::str::from_utf8(key).map_err(|_where| Malformed::Utf8)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::kvrwset::{
        HashedRwSet, KvMetadataWrite, KvMetadataWriteHash, KvRead, KvWrite, KvWriteHash, KvrwSet,
    };

    /// Not SHA-256: whoever calls brings that.
    fn hash(bytes: &[u8]) -> Hash {
        let mut hash = [bytes.len() as u8; 32];
        for (at, byte) in bytes.iter().enumerate() {
            hash[at % 31] = hash[at % 31].wrapping_mul(31).wrapping_add(*byte);
        }
        hash
    }

    fn write(key: &str, value: &str) -> KvWrite {
        KvWrite {
            key: key.into(),
            is_delete: value.is_empty(),
            value: Bytes::copy_from_slice(value.as_bytes()),
        }
    }

    /// What a block says of a write set.
    fn named(set: &KvrwSet) -> PrivateWrites {
        let hashed = HashedRwSet {
            hashed_reads: Vec::new(),
            hashed_writes: set
                .writes
                .iter()
                .map(|write| KvWriteHash {
                    key_hash: Bytes::copy_from_slice(&hash(write.key.as_bytes())),
                    is_delete: write.is_delete,
                    value_hash: match write.is_delete {
                        true => Bytes::new(),
                        false => Bytes::copy_from_slice(&hash(&write.value)),
                    },
                    is_purge: false,
                })
                .collect(),
            metadata_writes: set
                .metadata_writes
                .iter()
                .map(|write| KvMetadataWriteHash {
                    key_hash: Bytes::copy_from_slice(&hash(write.key.as_bytes())),
                    entries: Vec::new(),
                })
                .collect(),
        };
        PrivateWrites {
            tx: 0,
            tx_id: "".into(),
            namespace: "cc".into(),
            collection: "c".into(),
            hash: Bytes::new(),
            has_writes: true,
            endorsers: [].into(),
            hashed: hashed.encode_to_vec().into(),
        }
    }

    /// Three keys and metadata of one, which the block names, and that without the first.
    fn example() -> (PrivateWrites, KvrwSet) {
        let mut set = KvrwSet {
            writes: vec![write("a", "1"), write("b", "2"), write("c", "")],
            metadata_writes: vec![KvMetadataWrite {
                key: "b".into(),
                entries: Vec::new(),
            }],
            ..KvrwSet::default()
        };
        let named = named(&set);
        set.writes.remove(0);
        (named, set)
    }

    fn gone(named: &PrivateWrites, set: &KvrwSet) -> Result<BTreeSet<Hash>, NotLeft> {
        named.gone_from(&set.encode_to_vec(), hash)
    }

    #[test]
    fn what_is_left_of_a_write_set_passes_and_says_what_is_gone() {
        let (named, mut set) = example();
        assert_eq!(gone(&named, &set), Ok([hash(b"a")].into()));
        set.metadata_writes.clear();
        assert_eq!(gone(&named, &set), Ok([hash(b"a")].into()));
        set.writes.swap(0, 1);
        assert_eq!(gone(&named, &set), Ok([hash(b"a")].into()));
        let all = [hash(b"a"), hash(b"b"), hash(b"c")];
        assert_eq!(named.gone_from(b"", hash), Ok(all.into()));
    }

    #[test]
    fn what_is_altered_is_not_left() {
        let (named, set) = example();
        let altered = |change: fn(&mut KvrwSet)| {
            let mut set = set.clone();
            change(&mut set);
            gone(&named, &set)
        };
        type Change = fn(&mut KvrwSet);
        let cases: [(Change, NotLeft); 11] = [
            (|set| set.writes[0].value = "3".into(), NotLeft::Value),
            (|set| set.writes[0].value = Bytes::new(), NotLeft::Value),
            (|set| set.writes[0].is_delete = true, NotLeft::Value),
            (|set| set.writes[1].value = "3".into(), NotLeft::Value),
            (|set| set.writes[0].key = "d".into(), NotLeft::Key),
            (|set| set.writes.push(write("d", "")), NotLeft::Key),
            (|set| set.writes.push(write("b", "2")), NotLeft::Key),
            (|set| set.metadata_writes[0].key = "a".into(), NotLeft::Key),
            (
                |set| set.metadata_writes.push(set.metadata_writes[0].clone()),
                NotLeft::Key,
            ),
            (|set| set.reads.push(KvRead::default()), NotLeft::Unknown(1)),
            (|set| set.writes.push(write("a", "1")), NotLeft::Nothing),
        ];
        for (at, (change, why)) in cases.into_iter().enumerate() {
            assert_eq!(altered(change), Err(why), "case {at}");
        }
        let bytes = |more: &[u8]| [&set.encode_to_vec(), more].concat();
        let refused = |more: &[u8]| named.gone_from(&bytes(more), hash).unwrap_err();
        assert_eq!(refused(&[0x28, 1]), NotLeft::Unknown(5));
        assert!(matches!(refused(&[0xff]), NotLeft::Malformed(_)));
        // The first key once more, with an unknown field in it, and a second key over the first.
        assert_eq!(
            refused(&[0x1a, 5, 0x0a, 1, b'a', 0x28, 1]),
            NotLeft::Unknown(5)
        );
        assert_eq!(
            refused(&[0x1a, 6, 0x0a, 1, b'x', 0x0a, 1, b'a']),
            NotLeft::Twice
        );
        assert!(matches!(
            refused(&[0x1a, 3, 0x0a, 1, 0xff]),
            NotLeft::Malformed(_)
        ));
    }

    #[test]
    fn of_a_block_that_writes_a_key_twice_nothing_is_left() {
        let set = KvrwSet {
            writes: vec![write("a", "1"), write("a", "2"), write("b", "1")],
            ..KvrwSet::default()
        };
        assert_eq!(named(&set).gone_from(b"", hash), Err(NotLeft::Twice));
    }

    #[test]
    fn taking_keys_out_leaves_the_rest_as_it_was() {
        let (_, set) = example();
        let bytes = set.encode_to_vec();
        let without = |purged: &[&str]| {
            without_keys(&bytes, |key| Ok::<_, Infallible>(purged.contains(&key))).unwrap()
        };
        assert_eq!(without(&["x"]), None);
        assert_eq!(without(&["b", "c"]).unwrap(), Bytes::new());
        let left = KvrwSet::decode(without(&["b"]).unwrap()).unwrap();
        assert_eq!(
            (left.writes, left.metadata_writes),
            (vec![write("c", "")], vec![])
        );
        assert_eq!(keys(&bytes).collect::<Vec<_>>(), ["b", "c", "b"]);
        let broken = without_keys(&[&bytes[..], &[0xff]].concat(), |_| {
            Ok::<_, Infallible>(true)
        });
        assert_eq!(broken.unwrap(), None, "it is no write set, and stays");
    }

    /// Whether all that a write set writes is written there. A longer number may be the same number,
    /// and a delete is also an empty value, as in Fabric.
    fn are_named(writes: &BTreeMap<String, String>, rwset: &[u8]) -> bool {
        let set = KvrwSet::decode(rwset).unwrap();
        let mut writes = writes.clone();
        set.writes.into_iter().all(|write| {
            let value = String::from_utf8(write.value.to_vec()).ok();
            writes.remove(&write.key) == value
        })
    }

    #[test]
    fn which_of_its_keys_are_left_is_not_for_a_block_to_say() {
        // Of two deletes one is left, and a bit makes it the other.
        let set = KvrwSet {
            writes: vec![write("d", ""), write("e", "")],
            ..KvrwSet::default()
        };
        let named = named(&set);
        let other = [26, 5, 10, 1, b'e', 16, 1];
        assert_eq!(named.gone_from(&other, hash), Ok([hash(b"d")].into()));
        let value = [26, 5, 10, 1, b'e', 16, 0];
        assert_eq!(named.gone_from(&value, hash), Ok([hash(b"d")].into()));
    }

    proptest! {
        #[test]
        fn what_keys_are_taken_out_of_is_left_and_no_bytes_break_it(
            writes in prop::collection::btree_map("[a-e]", "[0-2]{0,2}", 0..5),
            purged in prop::collection::btree_set("[a-e]", 0..5),
            junk in prop::collection::vec(any::<u8>(), 0..60),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let set = KvrwSet {
                writes: writes.iter().map(|(key, value)| write(key, value)).collect(),
                ..KvrwSet::default()
            };
            let named = named(&set);
            let bytes = set.encode_to_vec();
            let left = without_keys(&bytes, |key| Ok::<_, Infallible>(purged.contains(key)));
            let left = left.unwrap();
            let gone: BTreeSet<Hash> = purged.iter().filter(|key| writes.contains_key(*key))
                .map(|key| hash(key.as_bytes())).collect();
            prop_assert_eq!(left.is_none(), gone.is_empty());
            if let Some(left) = left {
                prop_assert_eq!(named.gone_from(&left, hash), Ok(gone));
                if !left.is_empty() {
                    let mut odd = left.to_vec();
                    odd[at.index(left.len())] ^= 1 << bit;
                    let kept = named.gone_from(&odd, hash);
                    prop_assert!(kept.is_err() || are_named(&writes, &odd), "{odd:?}");
                }
            }
            let kept = named.gone_from(&junk, hash);
            prop_assert!(kept.is_err() || are_named(&writes, &junk), "{junk:?}");
            let _ = without_keys(&junk, |_| Ok::<_, Infallible>(true)).unwrap();
            let _ = keys(&junk).count();
        }
    }
}
