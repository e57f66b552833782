//! Private data as Go peers sent it: it passes the gate, it has the hashes of the blocks, what we
//! would send in their place is the same to the byte, and what was altered is no longer what the
//! block says. The recordings are in `../shared`; without them this is skipped loudly.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its vectors has failed"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidings_gossip::{
    Connection, Message, PeerIdentity, VerifiedBlock, Verifier,
    id::{ChannelId, ConnectionId, PkiId},
    message::PrivateDigest,
    verify::verify,
    wire,
};
use tidings_proto::gossip::{
    Envelope, PrivateDataMessage, PrivatePayload, PvtDataElement, RemotePvtDataRequest,
    RemotePvtDataResponse,
    gossip_message::{Content, Tag},
};

/// By transaction, namespace and collection.
type Hashes = BTreeMap<(String, String, String), String>;

struct NoIdentities;

impl Verifier for NoIdentities {
    fn known(&self, _: &PkiId) -> Option<Arc<PeerIdentity>> {
        None
    }

    fn validate(&self, _: &Bytes) -> Result<Arc<PeerIdentity>, String> {
        Err("nobody".to_owned())
    }

    fn remember(&self, identity: &Arc<PeerIdentity>) -> Result<Arc<PeerIdentity>, String> {
        Ok(Arc::clone(identity))
    }

    fn verify(&self, _: &PeerIdentity, _: &[u8], _: &[u8]) -> Result<(), String> {
        Err("private data is not signed".to_owned())
    }

    fn verify_block(&self, _: &ChannelId, _: u64, _: &Bytes) -> Result<VerifiedBlock, String> {
        Err("no block".to_owned())
    }
}

fn fixtures() -> Option<PathBuf> {
    let shared = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    if !shared.is_dir() {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!(
                "SKIPPED: ../shared is not here: no recorded private data was looked at\n"
            ),
        );
        return None;
    }
    Some(shared.join("fixtures"))
}

fn recorded(fixtures: &Path) -> Vec<(String, Bytes)> {
    let text = fs::read_to_string(fixtures.join("wire/vectors.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["type"].as_str().unwrap().starts_with("Private"))
        .map(|line| {
            let payload = BASE64_STANDARD.decode(line["payload"].as_str().unwrap());
            let kind = line["type"].as_str().unwrap().to_owned();
            (kind, payload.unwrap().into())
        })
        .collect()
}

fn hashes(fixtures: &Path) -> Hashes {
    let text = fs::read_to_string(fixtures.join("blocks/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let mut hashes = Hashes::new();
    for block in expected["blocks"].as_array().unwrap() {
        for transaction in block["transactions"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            for set in transaction["collections"].as_array().into_iter().flatten() {
                let key = (
                    text(&transaction["tx_id"]),
                    text(&set["namespace"]),
                    text(&set["collection"]),
                );
                hashes.insert(key, text(&set["pvt_rwset_hash"]));
            }
        }
    }
    hashes
}

fn pass(payload: &Bytes) -> Message {
    let sender = PeerIdentity {
        pki_id: PkiId::new([1; 32]),
        org: "Org1MSP".into(),
        serialized: Bytes::new(),
        expires_at: i64::MAX,
    };
    let connection = Connection {
        id: ConnectionId(1),
        identity: Arc::new(sender),
        handshake: Envelope::default(),
    };
    let envelope = Envelope::signed(payload.clone(), Bytes::new());
    verify(&connection, envelope, &NoIdentities)
        .unwrap()
        .into_inner()
}

/// The message as we would write it.
fn written(message: Message) -> Vec<u8> {
    let (channel, nonce, content) = match message {
        Message::PrivateData {
            channel,
            nonce,
            pushed,
        } => {
            let pushed = pushed.unwrap();
            let payload = PrivatePayload {
                collection_name: pushed.collection,
                namespace: pushed.namespace,
                tx_id: pushed.tx_id,
                private_rwset: pushed.rwset,
                private_sim_height: pushed.sim_height,
                collection_configs: Some(pushed.configs),
            };
            let payload = Some(payload);
            let content = Content::PrivateData(PrivateDataMessage { payload });
            (channel, nonce, content)
        }
        Message::PrivateRequest {
            channel,
            nonce,
            digests,
        } => {
            let digests = digests.into_iter().map(Into::into).collect();
            let content = Content::PrivateReq(RemotePvtDataRequest { digests });
            (channel, nonce, content)
        }
        Message::PrivateResponse {
            channel,
            nonce,
            elements,
        } => {
            let elements = elements.into_iter().map(|element| PvtDataElement {
                digest: Some(element.digest.into()),
                payload: element.payloads.into_iter().map(|p| p.bytes).collect(),
            });
            let elements = elements.collect();
            let content = Content::PrivateRes(RemotePvtDataResponse { elements });
            (channel, nonce, content)
        }
        other => panic!("not about private data: {other:?}"),
    };
    wire::gossip_message(nonce, Some(&channel), Tag::ChanOnly, content).encode_to_vec()
}

#[test]
fn recorded_private_messages_pass_and_are_written_to_the_same_bytes() {
    let Some(fixtures) = fixtures() else { return };
    let mut passed = BTreeMap::<String, usize>::new();
    for (kind, payload) in recorded(&fixtures) {
        assert_eq!(written(pass(&payload)), payload, "{kind}");
        *passed.entry(kind).or_default() += 1;
    }
    let kinds: Vec<&str> = passed.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["PrivateData", "PrivateReq", "PrivateRes"]);
}

#[test]
fn recorded_private_data_has_the_hash_of_its_block_and_no_longer_when_altered() {
    let Some(fixtures) = fixtures() else { return };
    let hashes = hashes(&fixtures);
    let expected = |tx_id: &str, namespace: &str, collection: &str| {
        let key = (
            tx_id.to_owned(),
            namespace.to_owned(),
            collection.to_owned(),
        );
        hashes.get(&key).cloned()
    };
    let mut compared = 0;
    for (_, payload) in recorded(&fixtures) {
        let sets: Vec<(Option<String>, Bytes)> = match pass(&payload) {
            Message::PrivateData { pushed, .. } => {
                let p = pushed.unwrap();
                vec![(expected(&p.tx_id, &p.namespace, &p.collection), p.rwset)]
            }
            Message::PrivateResponse { elements, .. } => elements
                .into_iter()
                .map(|element| {
                    let PrivateDigest {
                        tx_id,
                        namespace,
                        collection,
                        ..
                    } = &element.digest;
                    let [payload] = element.payloads.as_slice() else {
                        panic!("one payload expected");
                    };
                    let hash: [u8; 32] = Sha256::digest(&payload.bytes).into();
                    assert_eq!(payload.hash, hash);
                    let expected = expected(tx_id, namespace, collection);
                    (expected, payload.bytes.clone())
                })
                .collect(),
            _ => continue,
        };
        for (expected, rwset) in sets {
            // A few of the recorded messages are of blocks that are not among the fixtures.
            let Some(expected) = expected else { continue };
            assert_eq!(hex::encode(Sha256::digest(&rwset)), expected);
            for place in [0, rwset.len() / 2, rwset.len() - 1] {
                let mut altered = rwset.to_vec();
                altered[place] ^= 1;
                assert_ne!(hex::encode(Sha256::digest(&altered)), expected);
            }
            compared += 1;
        }
    }
    assert!(compared >= 3, "{compared}");
}
