//! An endorsed transaction: its public and private writes are those that the codec decodes. The
//! bytes are taken as a whole transaction, and as a read-write set inside a good one, which chance
//! finds sooner.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tidings_proto::{
    Message,
    block::{EndorsedTransaction, PUBLIC_WRITES_MAX},
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload},
    kvrwset::{HashedRwSet, KvrwSet},
    protos::{
        ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ProposalResponsePayload,
        Transaction, TransactionAction,
    },
    rwset::TxReadWriteSet,
};

mod nested;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    nested::mutate(data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(transaction) = EndorsedTransaction::parse(&bytes.to_vec().into()) {
        read(&transaction);
    }
    let inside = EndorsedTransaction::parse(&around(bytes).into());
    if let Ok(transaction) = &inside {
        read(transaction);
    }
    let Some((public, private)) = by_codec(bytes) else {
        return;
    };
    if let Ok(transaction) = inside {
        if public <= PUBLIC_WRITES_MAX {
            assert_eq!(transaction.public_writes(0, "").len(), public);
        }
        let writes = transaction.private_writes(0);
        assert!(writes.len() <= private.len());
        let first = writes.first().map(|set| set.hashed_writes().count());
        assert_eq!(first, private.first().copied());
    }
});

fn read(transaction: &EndorsedTransaction) {
    let _ = (
        transaction.proposal(),
        transaction.proposal_hash(),
        transaction.endorsements().count(),
        transaction.namespaces().count(),
        transaction.public_writes(0, "_lifecycle"),
    );
    for set in transaction.private_writes(0) {
        let _ = set.hashed_writes().count();
    }
}

/// How many public writes there are in the namespace without a name, and how many hashed ones in
/// each collection.
fn by_codec(results: &[u8]) -> Option<(usize, Vec<usize>)> {
    let results = TxReadWriteSet::decode(results).ok()?;
    let (mut public, mut private) = (0, Vec::new());
    for namespace in results.ns_rwset {
        let writes = KvrwSet::decode(namespace.rwset).ok()?.writes.len();
        public += if namespace.namespace.is_empty() {
            writes
        } else {
            0
        };
        for collection in namespace.collection_hashed_rwset {
            let set = HashedRwSet::decode(collection.hashed_rwset).ok()?;
            private.push(set.hashed_writes.len());
        }
    }
    Some((public, private))
}

fn around(results: &[u8]) -> Vec<u8> {
    let extension = ChaincodeAction {
        results: results.to_vec().into(),
        // Nothing at all would be no action.
        events: b"events".to_vec().into(),
        ..Default::default()
    };
    let response = ProposalResponsePayload {
        extension: extension.encode_to_vec().into(),
        ..Default::default()
    };
    let action = ChaincodeEndorsedAction {
        proposal_response_payload: response.encode_to_vec().into(),
        endorsements: Vec::new(),
    };
    let payload = ChaincodeActionPayload {
        action: Some(action),
        ..Default::default()
    };
    let actions = vec![TransactionAction {
        payload: payload.encode_to_vec().into(),
        ..Default::default()
    }];
    let channel_header = ChannelHeader {
        r#type: HeaderType::EndorserTransaction as i32,
        ..Default::default()
    };
    let header = Some(Header {
        channel_header: channel_header.encode_to_vec().into(),
        ..Default::default()
    });
    let data = Transaction { actions }.encode_to_vec().into();
    let envelope = Envelope {
        payload: Payload { header, data }.encode_to_vec().into(),
        ..Default::default()
    };
    envelope.encode_to_vec()
}
