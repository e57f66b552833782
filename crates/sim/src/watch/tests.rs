//! Each rule catches what breaks it and lets through what does not.

use bytes::Bytes;
use tidings_proto::gossip::{
    AliveMessage, DataDigest, DataMessage, GossipHello, LeadershipMessage, Member,
    MembershipRequest, MembershipResponse, PeerTime, PrivateDataMessage, PrivatePayload,
    Properties, PvtDataDigest, PvtDataElement, RemotePvtDataResponse, SecretEnvelope, StateInfo,
    StateInfoSnapshot, gossip_message::Tag,
};

use super::*;

const OURS: u8 = 1;
const OURS_TOO: u8 = 2;
const OURS_HIDDEN: u8 = 3;
const FOREIGN: u8 = 4;
const THIRD: u8 = 5;

fn id(peer: u8) -> PkiId {
    PkiId::new([peer; 32])
}

fn register() -> Register {
    let mut register = Register::default();
    for (peer, org, visible) in [
        (OURS, "A", true),
        (OURS_TOO, "A", true),
        (OURS_HIDDEN, "A", false),
        (FOREIGN, "B", true),
        (THIRD, "C", true),
    ] {
        let org = OrgId::from(org);
        register.insert(id(peer), Person { org, visible });
    }
    register
}

fn envelope(tag: Tag, content: Content) -> Envelope {
    Envelope::unsigned(&GossipMessage {
        tag: tag.into(),
        content: Some(content),
        ..GossipMessage::default()
    })
}

fn alive(peer: u8) -> Envelope {
    let hidden = peer == OURS_HIDDEN;
    let endpoint = if hidden { "" } else { "public:1" };
    envelope(
        Tag::Empty,
        Content::AliveMsg(AliveMessage {
            membership: Some(Member {
                endpoint: endpoint.to_owned(),
                pki_id: Bytes::copy_from_slice(id(peer).as_bytes()),
                ..Member::default()
            }),
            timestamp: Some(PeerTime::default()),
            ..AliveMessage::default()
        }),
    )
}

fn alive_with_secret(peer: u8) -> Envelope {
    alive(peer).with_secret(SecretEnvelope::default())
}

fn state_info(peer: u8) -> Envelope {
    envelope(
        Tag::ChanOrOrg,
        Content::StateInfo(StateInfo {
            timestamp: Some(PeerTime::default()),
            pki_id: Bytes::copy_from_slice(id(peer).as_bytes()),
            properties: Some(Properties::default()),
            ..StateInfo::default()
        }),
    )
}

fn check(from: u8, to: u8, envelope: &Envelope, expect: Option<&str>) {
    let rule = register()
        .check(id(from), id(to), envelope)
        .err()
        .map(|violation| violation.rule);
    assert_eq!(rule, expect, "from {from} to {to}");
}

#[test]
fn secrets_stay_in_their_organization_however_they_are_wrapped() {
    let request = |about| {
        envelope(
            Tag::Empty,
            Content::MemReq(MembershipRequest {
                self_information: Some(about),
                ..MembershipRequest::default()
            }),
        )
    };
    let response = |alive, dead| {
        envelope(
            Tag::Empty,
            Content::MemRes(MembershipResponse { alive, dead }),
        )
    };
    let secret = || alive_with_secret(OURS);
    for wrapped in [
        secret(),
        request(secret()),
        response(vec![alive(OURS), secret()], vec![]),
        response(vec![], vec![secret()]),
    ] {
        check(OURS, OURS_TOO, &wrapped, None);
        check(OURS, FOREIGN, &wrapped, Some("D-S7"));
    }
    check(OURS, FOREIGN, &request(alive(OURS)), None);
}

#[test]
fn hidden_peers_are_not_spoken_of_abroad() {
    let snapshot = |elements| {
        envelope(
            Tag::ChanOrOrg,
            Content::StateSnapshot(StateInfoSnapshot { elements }),
        )
    };
    check(OURS, OURS_TOO, &alive(OURS_HIDDEN), None);
    check(OURS, FOREIGN, &alive(OURS_HIDDEN), Some("S-N10"));
    check(OURS, OURS_TOO, &state_info(OURS_HIDDEN), None);
    check(OURS, FOREIGN, &state_info(OURS_HIDDEN), Some("S-C11"));
    let hidden = snapshot(vec![state_info(OURS), state_info(OURS_HIDDEN)]);
    check(OURS, OURS_TOO, &hidden, None);
    check(OURS, FOREIGN, &hidden, Some("S-C11"));
    let digest = |peer| {
        envelope(
            Tag::Empty,
            Content::DataDig(DataDigest {
                digests: vec![Bytes::copy_from_slice(id(peer).as_bytes())],
                msg_type: PullMsgType::IdentityMsg.into(),
                ..DataDigest::default()
            }),
        )
    };
    check(OURS, FOREIGN, &digest(OURS_HIDDEN), Some("S-N14"));
    check(OURS, FOREIGN, &digest(OURS), None);
    check(OURS, FOREIGN, &digest(THIRD), Some("P-S4"));
}

#[test]
fn one_organization_does_not_speak_of_a_third_to_another() {
    check(OURS, FOREIGN, &alive(THIRD), Some("S-N9"));
    check(OURS, FOREIGN, &alive(FOREIGN), None);
    check(OURS, OURS_TOO, &alive(THIRD), None);
}

#[test]
fn blocks_and_leadership_stay_in_the_organization() {
    let hello = Content::Hello(GossipHello {
        msg_type: PullMsgType::BlockMsg.into(),
        ..GossipHello::default()
    });
    for (content, rule) in [
        (Content::DataMsg(DataMessage::default()), "S-N11"),
        (
            Content::LeadershipMsg(LeadershipMessage::default()),
            "S-N11",
        ),
        (hello, "S-C7"),
    ] {
        let envelope = envelope(Tag::ChanAndOrg, content);
        check(OURS, OURS_TOO, &envelope, None);
        check(OURS, FOREIGN, &envelope, Some(rule));
    }
}

#[test]
fn messages_that_lack_a_part_are_never_sent() {
    let alive = |alive| envelope(Tag::Empty, Content::AliveMsg(alive));
    check(
        OURS,
        OURS_TOO,
        &alive(AliveMessage::default()),
        Some("W-G3"),
    );
    let empty = envelope(Tag::ChanOrOrg, Content::StateInfo(StateInfo::default()));
    check(OURS, OURS_TOO, &empty, Some("S-C14"));
    let nobody = Content::MemReq(MembershipRequest::default());
    check(OURS, OURS_TOO, &envelope(Tag::Empty, nobody), Some("W-S6"));
    check(OURS, OURS, &alive_with_secret(OURS), Some("self"));
}

#[test]
fn private_data_stays_with_the_members_of_its_collection() {
    let mut register = register();
    register.collect("secrets", ["A".into()].into());
    register.collect("shared", ["A".into(), "B".into()].into());
    let push = |collection: &str| {
        let payload = Some(PrivatePayload {
            collection_name: collection.to_owned(),
            ..PrivatePayload::default()
        });
        let content = Content::PrivateData(PrivateDataMessage { payload });
        envelope(Tag::ChanOnly, content)
    };
    let answer = |collection: &str, payload: Vec<Bytes>| {
        let digest = Some(PvtDataDigest {
            collection: collection.to_owned(),
            ..PvtDataDigest::default()
        });
        let elements = vec![PvtDataElement { digest, payload }];
        let content = Content::PrivateRes(RemotePvtDataResponse { elements });
        envelope(Tag::ChanOnly, content)
    };
    let given = || vec![Bytes::from_static(b"writes")];
    for (to, collection, is_good) in [
        (OURS_TOO, "secrets", true),
        (FOREIGN, "secrets", false),
        (FOREIGN, "shared", true),
        (THIRD, "shared", false),
        (OURS_TOO, "unheard of", false),
    ] {
        for envelope in [push(collection), answer(collection, given())] {
            let verdict = register.check(id(OURS), id(to), &envelope);
            assert_eq!(verdict.is_ok(), is_good, "{collection} to {to}");
        }
        let empty = answer(collection, Vec::new());
        assert!(register.check(id(OURS), id(to), &empty).is_ok());
    }
}
