//! Private data as real peers sent it, against the blocks that hold its hashes. Recorded material
//! is in `../shared`; where it is not there, that is said.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use tidings_msp::{
    channel_config::ChannelConfig,
    collection::{
        Applied, Collection, DefinitionRefused, Definitions, check_definition, implicit_org,
    },
    crypto::sha256,
};
use tidings_proto::{
    block::{BlockView, PrivateWrites},
    gossip::{GossipMessage, Payload, PrivatePayload, PvtDataPayload, gossip_message::Content},
    protos::StaticCollectionConfig,
    rwset::TxPvtReadWriteSet,
};

use crate::draft::{apply, collection, write};

fn fixtures(what: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/fixtures"
    ));
    if folder.exists() {
        return Some(folder.to_owned());
    }
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("SKIPPED: ../shared is not here: {what}\n"),
    );
    None
}

fn block(folder: &Path, number: u64) -> BlockView {
    let path = folder.join(format!("blocks/block_{number:02}.pb"));
    BlockView::parse(fs::read(path).unwrap().into()).unwrap()
}

fn blocks(folder: &Path) -> Vec<BlockView> {
    (0..20).map(|number| block(folder, number)).collect()
}

/// What one private write set is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    block: u64,
    tx: u64,
    namespace: String,
    collection: String,
}

/// The private writes of all recorded blocks.
fn expected(blocks: &[BlockView]) -> BTreeMap<Name, PrivateWrites> {
    let each = |view: &BlockView| -> Vec<_> {
        let block = view.number().unwrap();
        let written = view.private_writes().filter(|set| set.has_writes);
        written.map(move |set| (name(block, &set), set)).collect()
    };
    blocks.iter().flat_map(each).collect()
}

fn name(block: u64, set: &PrivateWrites) -> Name {
    Name {
        block,
        tx: set.tx,
        namespace: set.namespace.to_string(),
        collection: set.collection.to_string(),
    }
}

/// Every recorded message with its kind. The bytes that it is encoded to again are those that
/// were recorded.
fn messages(folder: &Path) -> Vec<(String, GossipMessage)> {
    let mut messages = Vec::new();
    for file in ["vectors.jsonl", "sequence_peer0.org1.jsonl"] {
        let text = fs::read_to_string(folder.join("wire").join(file)).unwrap();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let Some(payload) = line["payload"].as_str() else {
                continue;
            };
            let payload = Bytes::from(BASE64_STANDARD.decode(payload).unwrap());
            let message = GossipMessage::decode(payload.clone()).unwrap();
            assert_eq!(message.encode_to_vec(), payload);
            messages.push((line["type"].as_str().unwrap().to_owned(), message));
        }
    }
    messages
}

/// The write sets that one message carries, with what they are of; the transaction by number
/// where the message says it, else by id.
fn carried(message: GossipMessage, ids: &BTreeMap<String, (u64, u64)>) -> Vec<(Name, Bytes)> {
    match message.content {
        Some(Content::PrivateData(message)) => pushed(message.payload.unwrap(), ids),
        Some(Content::PrivateRes(response)) => {
            let elements = response.elements.into_iter().flat_map(|element| {
                let digest = element.digest.unwrap();
                let name = Name {
                    block: digest.block_seq,
                    tx: digest.seq_in_block,
                    namespace: digest.namespace,
                    collection: digest.collection,
                };
                let sets = element.payload.into_iter();
                sets.map(move |set| (name.clone(), set))
            });
            elements.collect()
        }
        Some(Content::StateResponse(response)) => response
            .payloads
            .into_iter()
            .flat_map(transferred)
            .collect(),
        _ => Vec::new(),
    }
}

fn pushed(payload: PrivatePayload, ids: &BTreeMap<String, (u64, u64)>) -> Vec<(Name, Bytes)> {
    // The peer that pushed had configured one peer, required and at most.
    let package = payload.collection_configs.unwrap();
    let organization = implicit_org(&payload.collection_name).unwrap();
    let implicit = Collection::implicit(organization).with_peer_counts(1, 1);
    assert_eq!(package, implicit.package());
    let Some(&(block, tx)) = ids.get(&payload.tx_id) else {
        return Vec::new();
    };
    let name = Name {
        block,
        tx,
        namespace: payload.namespace,
        collection: payload.collection_name,
    };
    vec![(name, payload.private_rwset)]
}

fn transferred(payload: Payload) -> Vec<(Name, Bytes)> {
    let mut sets = Vec::new();
    for private in payload.private_data {
        let of_tx = PvtDataPayload::decode(private.clone()).unwrap();
        assert_eq!(of_tx.encode_to_vec(), private);
        let set = TxPvtReadWriteSet::decode(of_tx.payload.clone()).unwrap();
        assert_eq!(set.encode_to_vec(), of_tx.payload);
        for namespace in set.ns_pvt_rwset {
            for collection in namespace.collection_pvt_rwset {
                let name = Name {
                    block: payload.seq_num,
                    tx: of_tx.tx_seq_in_block,
                    namespace: namespace.namespace.clone(),
                    collection: collection.collection_name,
                };
                sets.push((name, collection.rwset));
            }
        }
    }
    sets
}

#[test]
fn recorded_private_data_is_what_the_blocks_say() {
    let Some(folder) = fixtures("private data of recorded messages") else {
        return;
    };
    let blocks = blocks(&folder);
    let expected = expected(&blocks);
    assert_eq!(expected.len(), 6);
    let ids = expected
        .iter()
        .map(|(name, set)| (set.tx_id.to_string(), (name.block, name.tx)));
    let ids = ids.collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for (kind, message) in messages(&folder) {
        for (name, bytes) in carried(message, &ids) {
            // A few messages are about blocks after those that were recorded.
            let Some(set) = expected.get(&name) else {
                assert!(name.block >= 20, "{name:?}");
                continue;
            };
            assert_eq!(sha256(&bytes)[..], set.hash, "{kind} {name:?}");
            for at in 0..bytes.len() {
                let mut altered = bytes.to_vec();
                altered[at] ^= 1;
                assert_ne!(sha256(&altered)[..], set.hash);
            }
            check_writes(&bytes, set);
            *seen.entry(kind.clone()).or_default() += 1;
            found.insert(name);
        }
    }
    let kinds: Vec<_> = seen.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["PrivateData", "PrivateRes", "StateResponse"]);
    // Org2's was never sent.
    let ours = expected.keys();
    let ours: BTreeSet<_> = ours
        .filter(|name| name.collection.ends_with("Org1MSP"))
        .cloned()
        .collect();
    assert_eq!(ours.len(), 5);
    assert!(found.is_subset(&ours), "{found:?}");
    eprintln!("{seen:?}, {} of {} write sets", found.len(), expected.len());
}

/// Keys and values hash to what the block says of each.
fn check_writes(bytes: &Bytes, set: &PrivateWrites) {
    let writes = tidings_proto::kvrwset::KvrwSet::decode(bytes.clone())
        .unwrap()
        .writes;
    let hashed: Vec<_> = set.hashed_writes().collect();
    assert_eq!(writes.len(), hashed.len());
    for (write, hashed) in writes.iter().zip(hashed) {
        assert_eq!(sha256(write.key.as_bytes())[..], hashed.key_hash);
        assert_eq!(sha256(&write.value)[..], hashed.value_hash.unwrap());
        assert!(!hashed.is_purge);
    }
}

/// What Go peers wrote for three definitions of one chaincode: with two collections, with another
/// policy for the first of them, and with another version of the chaincode. Keys below
/// `namespaces/`.
const DEFINITIONS: [&[(&str, &str)]; 3] = [
    &[
        (
            "fields/mycc/Collections",
            "12650a3c0a3a0a06736861726564122a0a28120c120a080112020800120208011a0b12090a074f7267314d53\
             501a0b12090a074f7267324d53502001280530010a250a230a046f75727312190a1712081206080112020800\
             1a0b12090a074f7267314d53502002",
        ),
        ("fields/mycc/EndorsementInfo", "12090a01311a0465736363"),
        ("fields/mycc/Sequence", "0801"),
        (
            "fields/mycc/ValidationInfo",
            "12360a0476736363122e0a2c120c120a080112020800120208011a0d120b0a074f7267314d535010031a0d12\
             0b0a074f7267324d53501003",
        ),
        (
            "metadata/mycc",
            "0a13436861696e636f6465446566696e6974696f6e120853657175656e6365120f456e646f7273656d656e74\
             496e666f120e56616c69646174696f6e496e666f120b436f6c6c656374696f6e73",
        ),
    ],
    &[
        (
            "fields/mycc/Collections",
            "12540a2b0a290a0673686172656412190a17120812060801120208001a0b12090a074f7267314d5350200128\
             0530010a250a230a046f75727312190a17120812060801120208001a0b12090a074f7267314d53502002",
        ),
        ("fields/mycc/Sequence", "0802"),
    ],
    &[
        ("fields/mycc/EndorsementInfo", "12090a01321a0465736363"),
        ("fields/mycc/Sequence", "0803"),
    ],
];

#[test]
fn definitions_that_go_peers_wrote_read_as_they_were_made() {
    let mut definitions = Definitions::new();
    for (block, writes) in [5, 8, 11].into_iter().zip(DEFINITIONS) {
        let writes = writes.iter().map(|(key, value)| {
            let value = hex::decode(value).unwrap();
            write(format!("namespaces/{key}"), value)
        });
        let applied = apply(&mut definitions, block, vec![writes.collect()]);
        assert_eq!(applied.entries.len(), 1);
    }
    let shared = |msp_ids: &[&str]| StaticCollectionConfig {
        maximum_peer_count: 1,
        block_to_live: 5,
        member_only_read: true,
        ..collection("shared", msp_ids)
    };
    let ours = StaticCollectionConfig {
        maximum_peer_count: 2,
        ..collection("ours", &["Org1MSP"])
    };
    let found = |block, name| {
        let found = definitions.at(block, "mycc", name).unwrap();
        (found.block, found.collection.config().clone())
    };
    assert_eq!(
        found(8, "shared"),
        (Some(5), shared(&["Org1MSP", "Org2MSP"]))
    );
    assert_eq!(found(11, "shared"), (Some(8), shared(&["Org1MSP"])));
    assert_eq!(found(12, "shared"), (Some(11), shared(&["Org1MSP"])));
    assert_eq!(found(12, "ours"), (Some(11), ours));
}

#[test]
fn endorsements_of_recorded_transactions_have_go_s_verdict() {
    let Some(folder) = fixtures("endorsements in recorded blocks") else {
        return;
    };
    let mut config = ChannelConfig::from_config_block(block(&folder, 0).bytes()).unwrap();
    let mut definitions = Definitions::new();
    let mut verdicts: BTreeMap<(String, u8), usize> = BTreeMap::new();
    for view in blocks(&folder) {
        let codes = view.claimed_codes().unwrap();
        for (tx, transaction) in view.endorsed() {
            let private = transaction
                .private_writes(tx)
                .iter()
                .any(|set| set.has_writes);
            let verdict = match check_definition(&transaction, &config) {
                Ok(()) => "agreed",
                Err(DefinitionRefused::Policy(_)) if private => "approval",
                Err(DefinitionRefused::Policy(_)) => "too few",
                Err(refused) => panic!("{refused}"),
            };
            let code = codes[usize::try_from(tx).unwrap()];
            *verdicts.entry((verdict.to_owned(), code)).or_default() += 1;
        }
        let applied = definitions.apply(&view, |_, _| None);
        assert_eq!(applied, Applied::default(), "nothing was defined");
        if view.is_config_block() && view.number() != Some(0) {
            config = config.apply(view.bytes()).unwrap();
        }
    }
    // An approval is for its organization alone to endorse. 10: ENDORSEMENT_POLICY_FAILURE.
    let expect = [("agreed", 0, 15), ("approval", 0, 6), ("too few", 10, 1)];
    let expect = expect.map(|(verdict, code, len)| ((verdict.to_owned(), code), len));
    assert_eq!(verdicts, expect.into());
    assert_eq!(definitions.height(), 20);
}
