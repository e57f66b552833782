//! Tags and the contents that may carry them.

use prost::Message;

use super::*;
use crate::gossip::{DataDigest, DataRequest, DataUpdate, GossipHello};

/// A message of every kind; pull messages once for each pull type.
fn every_content() -> Vec<Content> {
    let plain = [
        Content::AliveMsg(Default::default()),
        Content::MemReq(Default::default()),
        Content::MemRes(Default::default()),
        Content::DataMsg(Default::default()),
        Content::Empty(Default::default()),
        Content::Conn(Default::default()),
        Content::StateInfo(Default::default()),
        Content::StateSnapshot(Default::default()),
        Content::StateInfoPullReq(Default::default()),
        Content::StateRequest(Default::default()),
        Content::StateResponse(Default::default()),
        Content::LeadershipMsg(Default::default()),
        Content::PeerIdentity(Default::default()),
        Content::Ack(Default::default()),
        Content::PrivateReq(Default::default()),
        Content::PrivateRes(Default::default()),
        Content::PrivateData(Default::default()),
        Content::Stripe(Default::default()),
    ];
    let pulls = [-1, 0, 1, 2, 3, i32::MAX].into_iter().flat_map(|msg_type| {
        [
            Content::Hello(GossipHello {
                msg_type,
                ..Default::default()
            }),
            Content::DataDig(DataDigest {
                msg_type,
                ..Default::default()
            }),
            Content::DataReq(DataRequest {
                msg_type,
                ..Default::default()
            }),
            Content::DataUpdate(DataUpdate {
                msg_type,
                ..Default::default()
            }),
        ]
    });
    plain.into_iter().chain(pulls).collect()
}

const TAGS: [i32; 11] = [0, 1, 2, 3, 4, 5, 6, 7, -1, i32::MIN, i32::MAX];

fn message(tag: i32, content: Option<Content>) -> GossipMessage {
    GossipMessage {
        tag,
        content,
        ..Default::default()
    }
}

/// The table of docs/protocol/wire.md, by name and number so that it shares nothing with the code.
fn legal_tag(name: &str, pull_type: Option<i32>) -> Option<i32> {
    match (name, pull_type) {
        ("DataMsg" | "LeadershipMsg" | "Stripe", None) => Some(4),
        ("AliveMsg" | "MemReq" | "MemRes", None) => Some(1),
        ("PeerIdentity", None) => Some(2),
        ("Hello" | "DataDig" | "DataReq" | "DataUpdate", Some(1)) => Some(4),
        ("Hello" | "DataDig" | "DataReq" | "DataUpdate", Some(2)) => Some(1),
        ("StateInfo" | "StateInfoPullReq" | "StateSnapshot", None) => Some(5),
        ("StateRequest" | "StateResponse", None) => Some(5),
        _ => None,
    }
}

#[test]
fn w_s4_every_content_is_refused_with_every_tag_but_its_own() {
    let mut legal = 0;
    for content in every_content() {
        for tag in TAGS {
            let message = message(tag, Some(content.clone()));
            let name = message.kind().unwrap().name();
            let expected = legal_tag(name, message.pull_type()) == Some(tag);
            assert_eq!(
                check_tag(&message).is_ok(),
                expected,
                "{name} with tag {tag}"
            );
            legal += usize::from(expected);
        }
    }
    assert_eq!(legal, 12 + 8);
}

#[test]
fn w_s4_no_content_is_illegal_with_every_tag() {
    for tag in TAGS {
        assert_eq!(check_tag(&message(tag, None)), Err(IllegalTag::NoContent));
    }
}

#[test]
fn the_reason_names_what_is_wrong() {
    let reason = |tag, content| {
        check_tag(&message(tag, Some(content)))
            .unwrap_err()
            .to_string()
    };
    let data = || Content::DataMsg(Default::default());
    assert_eq!(reason(0, data()), "DataMsg without a tag");
    assert_eq!(
        reason(9, data()),
        "DataMsg with tag 9 instead of CHAN_AND_ORG"
    );
    assert_eq!(
        reason(1, Content::Hello(Default::default())),
        "Hello with unknown pull type 0"
    );
    assert_eq!(
        reason(1, Content::Conn(Default::default())),
        "Conn is not for the main loop"
    );
}

#[test]
fn predicates_follow_the_tag() {
    let of = |tag| {
        let message = message(tag, None);
        (message.is_channel_restricted(), message.is_org_restricted())
    };
    let expect = [
        (0, (false, false)),
        (1, (false, false)),
        (2, (false, true)),
        (3, (true, false)),
        (4, (true, true)),
        (5, (true, false)),
        (6, (false, false)),
        (-1, (false, false)),
    ];
    for (tag, restricted) in expect {
        assert_eq!(of(tag), restricted, "tag {tag}");
    }
}

#[test]
fn every_kind_is_listed_once_and_four_are_pulls() {
    let mut seen: Vec<_> = every_content().iter().map(Kind::of).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, Kind::ALL);
    assert_eq!(Kind::ALL.iter().filter(|kind| kind.is_pull()).count(), 4);
    for content in every_content() {
        let message = message(0, Some(content));
        assert_eq!(message.is_pull(), message.pull_type().is_some());
    }
}

#[test]
fn the_kind_of_a_serialized_message_is_that_of_its_last_content() {
    for content in every_content() {
        let kind = Kind::of(&content);
        let plain = message(1, Some(content)).encode_to_vec();
        assert_eq!(Kind::of_payload(&plain), Some(kind));
        // Another content and an unknown field before, and an unknown one behind.
        let ack = message(1, Some(Content::Ack(Default::default()))).encode_to_vec();
        let merged = [&ack[..], &[0xe2, 0x03, 0], &plain, &[0xe2, 0x03, 0]].concat();
        let decoded = GossipMessage::decode(&merged[..]).unwrap();
        assert_eq!(Kind::of_payload(&merged), decoded.kind());
        assert_eq!(decoded.kind(), Some(kind));
    }
    assert_eq!(Kind::of_payload(&message(1, None).encode_to_vec()), None);
    assert_eq!(Kind::of_payload(&[0xff]), None);
}
