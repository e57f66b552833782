//! Bytes that Go peers wrote. Vectors that stand here need nothing; recorded ones are in
//! `../shared` and are skipped loudly when it is not there.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its vectors has failed"
)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::Value;
use tidings_proto::{
    Message,
    block::{BlockView, TransactionHead, header_asn1},
    canonical::CanonicalEnvelope,
    common::Block,
    envelope::Opened,
    gossip::{
        Acknowledgement, AliveMessage, Envelope, GossipHello, GossipMessage, Member, PeerTime,
        PullMsgType, Secret, SecretEnvelope,
        gossip_message::{Content, Tag},
    },
    protos::TxValidationCode,
    tag::{Kind, check_tag},
};

fn shared(what: &str) -> Option<PathBuf> {
    let shared = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    if shared.is_dir() {
        return Some(shared);
    }
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("SKIPPED: ../shared is not here: {what}\n"),
    );
    None
}

fn both_ways(message: &GossipMessage, expect: &str) {
    assert_eq!(hex::encode(message.encode_to_vec()), expect);
    let bytes = Bytes::from(hex::decode(expect).unwrap());
    assert_eq!(&GossipMessage::decode(bytes).unwrap(), message);
}

fn of(tag: Tag, nonce: u64, content: Content) -> GossipMessage {
    GossipMessage {
        nonce,
        tag: tag as i32,
        content: Some(content),
        ..Default::default()
    }
}

#[test]
fn an_identity_hello_is_written_as_go_writes_it() {
    let hello = GossipHello {
        nonce: 1,
        msg_type: PullMsgType::IdentityMsg as i32,
        ..Default::default()
    };
    let message = of(Tag::Empty, 0, Content::Hello(hello));
    both_ways(&message, "18014a0408011802");
    let envelope = Envelope::unsigned(&message).encode_to_vec();
    assert_eq!(hex::encode(envelope), "0a0818014a0408011802");
    assert_eq!(check_tag(&message), Ok(()));
}

#[test]
fn acks_are_written_as_go_writes_them() {
    let ack = |error: &str| {
        of(
            Tag::Undefined,
            5,
            Content::Ack(Acknowledgement {
                error: error.into(),
            }),
        )
    };
    both_ways(&ack(""), "0805b20100");
    both_ways(&ack("boom"), "0805b201060a04626f6f6d");
    let envelope = Opened::unsigned(ack("")).envelope().encode_to_vec();
    assert_eq!(hex::encode(envelope), "0a050805b20100");
}

#[test]
fn a_secret_names_the_internal_endpoint() {
    let payload = Secret::of_internal_endpoint("peer0:7051").encode_to_vec();
    assert_eq!(hex::encode(&payload), "0a0a70656572303a37303531");
    let secret = SecretEnvelope {
        payload: payload.into(),
        signature: Bytes::new(),
    };
    assert_eq!(secret.internal_endpoint().as_deref(), Some("peer0:7051"));
}

#[test]
fn w_g3_an_alive_message_shows_its_empty_parts() {
    let alive = AliveMessage {
        membership: Some(Member {
            pki_id: Bytes::from_static(&[1; 4]),
            ..Default::default()
        }),
        timestamp: Some(PeerTime {
            inc_num: 1_700_000_000_000_000_000,
            seq_num: 1,
        }),
        identity: Bytes::new(),
        rhythm: Bytes::new(),
    };
    let message = of(Tag::Empty, 0, Content::AliveMsg(alive));
    both_ways(
        &message,
        "18012a160a061a0401010101120c088080a8b1e39fe7cb171001",
    );
    let zero = AliveMessage {
        membership: Some(Member::default()),
        timestamp: Some(PeerTime::default()),
        identity: Bytes::new(),
        rhythm: Bytes::new(),
    };
    both_ways(
        &of(Tag::Empty, 0, Content::AliveMsg(zero)),
        "18012a040a001200",
    );
}

#[test]
fn block_headers_hash_as_in_go() {
    let expect = format!("30470201050420{}0420{}", "00".repeat(32), "11".repeat(32));
    assert_eq!(hex::encode(header_asn1(5, &[0; 32], &[0x11; 32])), expect);
    assert_eq!(
        hex::encode(header_asn1(128, &[], &[0x11; 2])),
        "300a02020080040004021111"
    );
}

struct Line(Value);

impl Line {
    fn all() -> Vec<Self> {
        let Some(shared) = shared("recorded gossip messages") else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for name in ["vectors.jsonl", "sequence_peer0.org1.jsonl"] {
            let text = fs::read_to_string(shared.join("fixtures/wire").join(name)).unwrap();
            lines.extend(
                text.lines()
                    .map(|line| Self(serde_json::from_str(line).unwrap())),
            );
        }
        assert!(lines.len() > 250, "{}", lines.len());
        lines
    }

    fn kind(&self) -> &str {
        self.0["type"].as_str().unwrap()
    }

    fn bytes(&self, field: &str) -> Option<Bytes> {
        let text = self.0.get(field)?.as_str()?;
        Some(BASE64_STANDARD.decode(text).unwrap().into())
    }
}

/// Every envelope inside a message, however deep.
fn nested(message: &GossipMessage) -> Vec<Envelope> {
    match message.content.clone() {
        Some(Content::MemReq(request)) => request.self_information.into_iter().collect(),
        Some(Content::MemRes(response)) => [response.alive, response.dead].concat(),
        Some(Content::DataUpdate(update)) => update.data,
        Some(Content::StateSnapshot(snapshot)) => snapshot.elements,
        _ => Vec::new(),
    }
}

#[test]
fn every_recorded_message_decodes_and_encodes_to_the_same_bytes() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in Line::all() {
        let Some(payload) = line.bytes("payload") else {
            continue;
        };
        let opened = Envelope::signed(payload.clone(), line.bytes("signature").unwrap_or_default())
            .open()
            .unwrap();
        assert_eq!(opened.message().kind().unwrap().name(), line.kind());
        assert_eq!(opened.message().encode_to_vec(), payload, "{}", line.kind());
        for inner in nested(opened.message()) {
            let payload = inner.payload.clone();
            assert_eq!(inner.open().unwrap().message().encode_to_vec(), payload);
        }
        *seen.entry(line.kind().to_owned()).or_default() += 1;
        let Some(frame) = line.bytes("envelope") else {
            continue;
        };
        let whole = Opened::decode(frame.clone()).unwrap();
        assert_eq!(whole.message(), opened.message());
        assert_eq!(whole.envelope().encode_to_vec(), frame);
        assert_eq!(whole.envelope().wire_len(), frame.len());
        *seen.entry("whole envelopes".into()).or_default() += 1;
    }
    eprintln!("{seen:?}");
    assert!(
        seen.is_empty() || seen.len() == 20,
        "19 kinds and whole envelopes: {seen:?}"
    );
}

#[test]
fn w_g4_tags_that_go_sent_are_legal_but_for_what_the_loop_never_sees() {
    let exempt = [
        Kind::Ack,
        Kind::Conn,
        Kind::PrivateData,
        Kind::PrivateReq,
        Kind::PrivateRes,
    ];
    for line in Line::all() {
        let Some(payload) = line.bytes("payload") else {
            continue;
        };
        let message = GossipMessage::decode(payload).unwrap();
        let kind = message.kind().unwrap();
        assert_eq!(
            check_tag(&message).is_err(),
            exempt.contains(&kind),
            "{kind}"
        );
    }
}

fn expected() -> Option<(PathBuf, Value)> {
    let folder = shared("recorded blocks")?.join("fixtures/blocks");
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
    Some((folder, serde_json::from_str(&text).unwrap()))
}

#[test]
fn every_recorded_block_is_walked_and_its_header_is_the_one_go_hashed() {
    let Some((folder, expected)) = expected() else {
        return;
    };
    let blocks = expected["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 20);
    for (number, expect) in (0_u64..).zip(blocks) {
        for name in ["file", "from_orderer_file"] {
            let bytes = Bytes::from(fs::read(folder.join(expect[name].as_str().unwrap())).unwrap());
            let view = BlockView::parse(bytes.clone()).unwrap();
            let block = Block::decode(bytes).unwrap();
            assert_eq!(view.number(), Some(number));
            assert_eq!(view.header(), block.header.as_ref());
            let asn1 = hex::encode(view.header_asn1().unwrap());
            assert_eq!(asn1, expect["header_asn1"].as_str().unwrap());
            assert_eq!(
                view.transactions().collect::<Vec<_>>(),
                block.data.unwrap().data
            );
            assert_eq!(
                view.metadata().collect::<Vec<_>>(),
                block.metadata.unwrap().metadata
            );
            assert_eq!(
                view.channel_id().unwrap(),
                expect["channel_id"].as_str().unwrap()
            );
            assert_eq!(view.is_config_block(), number < 3, "block {number}");
            check_transactions(&view, expect);
        }
    }
}

#[test]
fn private_writes_of_recorded_blocks_are_those_that_go_found() {
    let Some((folder, expected)) = expected() else {
        return;
    };
    let mut seen = BTreeMap::new();
    for expect in expected["blocks"].as_array().unwrap() {
        for name in ["file", "from_orderer_file"] {
            let bytes = Bytes::from(fs::read(folder.join(expect[name].as_str().unwrap())).unwrap());
            let view = BlockView::parse(bytes).unwrap();
            let found: Vec<_> = view
                .private_writes()
                .filter(|set| set.has_writes)
                .map(|set| {
                    assert!(set.hashed_writes().count() > 0 && !set.endorsers.is_empty());
                    serde_json::json!({
                        "tx": set.tx,
                        "tx_id": *set.tx_id,
                        "namespace": *set.namespace,
                        "collection": *set.collection,
                        "pvt_rwset_hash": hex::encode(&set.hash),
                    })
                })
                .collect();
            assert_eq!(
                found,
                private_writes_by_go(expect),
                "block {}",
                expect["number"]
            );
            *seen.entry(name).or_insert(0) += found.len();
        }
    }
    assert_eq!(seen, [("file", 6), ("from_orderer_file", 6)].into());
}

fn private_writes_by_go(block: &Value) -> Vec<Value> {
    let mut writes = Vec::new();
    for (tx, transaction) in block["transactions"].as_array().unwrap().iter().enumerate() {
        for collection in transaction["collections"].as_array().into_iter().flatten() {
            let mut write = collection.clone();
            write["tx"] = tx.into();
            write["tx_id"] = transaction["tx_id"].clone();
            writes.push(write);
        }
    }
    writes
}

#[test]
fn a_peer_claims_codes_and_an_orderer_does_not() {
    let Some((folder, expected)) = expected() else {
        return;
    };
    for expect in expected["blocks"].as_array().unwrap() {
        let claimed = |name: &str| {
            let bytes = Bytes::from(fs::read(folder.join(expect[name].as_str().unwrap())).unwrap());
            BlockView::parse(bytes).unwrap().claimed_codes()
        };
        let codes: Vec<u8> = expect["transactions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|transaction| {
                let name = transaction["validation_code"].as_str().unwrap();
                let code = TxValidationCode::from_str_name(name).unwrap();
                u8::try_from(code as i32).unwrap()
            })
            .collect();
        assert_eq!(claimed("file").unwrap(), codes);
        assert_eq!(claimed("from_orderer_file"), None);
    }
}

fn check_transactions(view: &BlockView, expect: &Value) {
    let transactions = expect["transactions"].as_array().unwrap();
    assert_eq!(view.transactions_len(), transactions.len());
    for (envelope, expect) in view.transactions().zip(transactions) {
        let head = TransactionHead::parse(&envelope).unwrap();
        assert_eq!(head.tx_id, expect["tx_id"].as_str().unwrap_or_default());
        // Config blocks are exempt, and the genesis block has no signature at all.
        assert!(CanonicalEnvelope::parse(&envelope).is_ok() || view.number() == Some(0));
    }
}

#[test]
fn altered_blocks_are_walked_too() {
    let Some((folder, expected)) = expected() else {
        return;
    };
    let altered = expected["altered"].as_array().unwrap();
    assert_eq!(altered.len(), 8);
    for expect in altered {
        let bytes = Bytes::from(fs::read(folder.join(expect["file"].as_str().unwrap())).unwrap());
        let view = BlockView::parse(bytes.clone()).unwrap();
        assert_eq!(view.header(), Block::decode(bytes).unwrap().header.as_ref());
    }
}
