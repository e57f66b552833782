//! Private write sets as they come and go along with blocks.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use tidings_ledger::private::StoredSet;
use tidings_proto::{
    gossip::PvtDataPayload,
    rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet},
};

/// What came along with a block in a state transfer, by transaction, chaincode and collection. What
/// does not decode is left out: nobody vouches for any of it, so that only its hash says what it
/// is worth.
pub(super) fn came_along(payloads: &[Bytes]) -> BTreeMap<(u64, String, String), Bytes> {
    let mut sets = BTreeMap::new();
    for payload in payloads {
        let Ok(payload) = PvtDataPayload::decode(payload.clone()) else {
            continue;
        };
        let tx = payload.tx_seq_in_block;
        let Ok(transaction) = TxPvtReadWriteSet::decode(payload.payload) else {
            continue;
        };
        for namespace in transaction.ns_pvt_rwset {
            for set in namespace.collection_pvt_rwset {
                let name = (tx, namespace.namespace.clone(), set.collection_name);
                sets.insert(name, set.rwset);
            }
        }
    }
    sets
}

/// Write sets of one block as a state response carries them: in the order of their places, those
/// of one transaction together.
pub(super) fn to_go_along(sets: Vec<StoredSet>) -> Vec<Bytes> {
    let mut transactions: BTreeMap<u64, TxPvtReadWriteSet> = BTreeMap::new();
    for StoredSet { place, rwset, .. } in sets {
        let transaction = transactions.entry(place.tx).or_default();
        let set = CollectionPvtReadWriteSet {
            collection_name: place.collection,
            rwset,
        };
        match transaction.ns_pvt_rwset.last_mut() {
            Some(last) if last.namespace == place.namespace => last.collection_pvt_rwset.push(set),
            _ => transaction.ns_pvt_rwset.push(NsPvtReadWriteSet {
                namespace: place.namespace,
                collection_pvt_rwset: vec![set],
            }),
        }
    }
    let payloads = transactions.into_iter().map(|(tx, transaction)| {
        let payload = PvtDataPayload {
            tx_seq_in_block: tx,
            payload: transaction.encode_to_vec().into(),
        };
        payload.encode_to_vec().into()
    });
    payloads.collect()
}

#[cfg(test)]
mod tests {
    use tidings_ledger::private::Place;

    use super::*;

    fn set(tx: u64, namespace: &str, collection: &str) -> StoredSet {
        StoredSet {
            place: Place {
                block: 7,
                tx,
                namespace: namespace.into(),
                collection: collection.into(),
            },
            rwset: format!("{tx} {namespace} {collection}").into(),
            is_trimmed: false,
            expires_at: None,
        }
    }

    #[test]
    fn what_goes_along_comes_along() {
        let sets = vec![
            set(0, "cc", "a"),
            set(0, "cc", "b"),
            set(0, "dd", "a"),
            set(3, "cc", "a"),
        ];
        let payloads = to_go_along(sets.clone());
        assert_eq!(payloads.len(), 2, "one for each transaction");
        let came = came_along(&payloads);
        assert_eq!(came.len(), sets.len());
        for StoredSet { place, rwset, .. } in sets {
            let name = (place.tx, place.namespace, place.collection);
            assert_eq!(came[&name], rwset);
        }
    }

    #[test]
    fn what_does_not_decode_brings_nothing() {
        let odd = PvtDataPayload {
            tx_seq_in_block: 1,
            payload: Bytes::from_static(&[0xff]),
        };
        let odd = Bytes::from(odd.encode_to_vec());
        assert!(came_along(&[Bytes::from_static(&[0xff]), odd]).is_empty());
        assert!(came_along(&[]).is_empty());
    }
}
