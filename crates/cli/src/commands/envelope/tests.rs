//! Envelopes of every kind, made here and recorded from Go peers.

use std::fs;

use proptest::prelude::*;
use tidings_proto::common::{Block, BlockData, BlockHeader};
use tidings_proto::gossip::{AliveMessage, GossipHello, MembershipResponse, Secret};

use super::*;

fn alive() -> Envelope {
    let message = GossipMessage {
        tag: Tag::Empty.into(),
        content: Some(Content::AliveMsg(AliveMessage {
            membership: Some(Member {
                endpoint: "peer0:7051\u{1b}[31m".into(),
                pki_id: Bytes::from_static(&[0xab; 32]),
                ..Member::default()
            }),
            timestamp: Some(PeerTime {
                inc_num: 5,
                seq_num: 7,
            }),
            ..AliveMessage::default()
        })),
        ..GossipMessage::default()
    };
    let secret = SecretEnvelope {
        payload: Secret::of_internal_endpoint("10.0.0.1:7051")
            .encode_to_vec()
            .into(),
        signature: Bytes::from_static(&[1; 70]),
    };
    Envelope::signed(message.encode_to_vec().into(), Bytes::from_static(&[1; 71]))
        .with_secret(secret)
}

#[test]
fn an_alive_message_is_shown_with_its_secret() {
    let text = show(&alive().encode_to_vec().into()).unwrap();
    let expected = format!(
        "Envelope, {} bytes
  signature       71 bytes, not checked
  kind            AliveMsg
  tag             EMPTY
  nonce           0
  endpoint        peer0:7051\\u{{1b}}[31m
  pki id          {}
  time            incarnation 5 sequence 7
  secret, for the own organization
    endpoint        10.0.0.1:7051
    signature       70 bytes, not checked
",
        alive().wire_len(),
        "ab".repeat(32)
    );
    assert_eq!(text, expected);
}

#[test]
fn envelopes_inside_are_shown_to_a_depth() {
    let mut inner = alive();
    for _ in 0..NESTING_MAX + 3 {
        let message = GossipMessage {
            tag: Tag::Empty.into(),
            content: Some(Content::MemRes(MembershipResponse {
                alive: vec![inner],
                dead: Vec::new(),
            })),
            ..GossipMessage::default()
        };
        inner = Envelope::unsigned(&message);
    }
    let text = show(&inner.encode_to_vec().into()).unwrap();
    assert_eq!(text.matches("nested too deep to be shown").count(), 2);
    assert_eq!(text.matches("MemRes").count(), NESTING_MAX + 1);
}

#[test]
fn an_illegal_tag_is_said() {
    let hello = GossipHello {
        msg_type: PullMsgType::BlockMsg.into(),
        ..GossipHello::default()
    };
    let message = GossipMessage {
        tag: 77,
        content: Some(Content::Hello(hello)),
        ..GossipMessage::default()
    };
    let text = show(&Envelope::unsigned(&message).encode_to_vec().into()).unwrap();
    assert!(text.contains("77, which is illegal"), "{text}");
}

#[test]
fn text_forms_are_recognized() {
    let bytes = Bytes::from(alive().encode_to_vec());
    assert_eq!(
        from_text(hex::encode(&bytes).as_bytes()),
        Some(bytes.clone())
    );
    let base64 = STANDARD.encode(&bytes);
    let folded: String = base64
        .as_bytes()
        .chunks(64)
        .map(|c| format!("{}\n", String::from_utf8_lossy(c)))
        .collect();
    assert_eq!(from_text(folded.as_bytes()), Some(bytes));
    assert_eq!(from_text(b"no such file"), None);
    assert_eq!(from_text(b" \n"), None);
}

#[test]
fn what_is_no_envelope_is_refused_in_one_line() {
    for (bytes, why) in [
        (&b""[..], "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff\xff\xff", "not a gossip Envelope"),
        (b"\x12\x01a", "not a gossip Envelope"),
        (b"\x0a\x01a", "not a gossip Envelope"),
        (b"{\"envelope\": \"Cg0=\"}\n{}\n", "it is JSON"),
        (b" \"Cg0=\"", "it is JSON"),
    ] {
        let error = format!("{:#}", show(&Bytes::from_static(bytes)).unwrap_err());
        assert!(error.contains(why) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_block_is_not_shown_as_an_envelope() {
    let transaction = Envelope::signed(Bytes::from_static(b"payload"), Bytes::from_static(b"s"));
    let block = Block {
        header: Some(BlockHeader {
            number: 3,
            previous_hash: Bytes::from_static(&[7; 32]),
            data_hash: Bytes::from_static(&[8; 32]),
        }),
        data: Some(BlockData {
            data: vec![transaction.encode_to_vec().into()],
        }),
        ..Block::default()
    };
    let error = show(&block.encode_to_vec().into()).unwrap_err().to_string();
    assert!(error.contains("use `tidings block show`"), "{error}");
}

#[test]
fn every_recorded_envelope_can_be_shown() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/fixtures/wire/vectors.jsonl"
    );
    let Ok(lines) = fs::read_to_string(path) else {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: ../shared is not here: recorded envelopes shown to a person\n"),
        );
        return;
    };
    let (mut shown, mut named) = (0, 0);
    for line in lines.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(envelope) = vector["envelope"].as_str() else {
            continue;
        };
        let text = show(&from_text(envelope.as_bytes()).unwrap()).unwrap();
        let kind = vector["type"].as_str().unwrap();
        assert!(
            text.contains(&format!("kind            {kind}\n")),
            "{kind}: {text}"
        );
        assert!(
            !text.contains("illegal") && !text.contains("missing"),
            "{text}"
        );
        named += usize::from(kind == "AliveMsg" && text.contains("MSP peer"));
        shown += 1;
    }
    assert!(shown > 50, "only {shown} envelopes in {path}");
    assert!(named > 0, "no alive message names its peer");
}

proptest! {
    #[test]
    fn any_bytes_are_shown_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = show(&bytes.into());
    }
}
