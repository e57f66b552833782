//! One good message of each kind, and everything that can be wrong with it.

use std::sync::Arc;

use prost::Message as _;
use tidings_proto::gossip::{
    Acknowledgement, AliveMessage, Chaincode, ConnEstablish, DataDigest, DataRequest, Empty,
    GossipHello, LeadershipMessage, PeerIdentity as WireIdentity, Properties, PvtDataPayload,
    RemoteStateRequest, SecretEnvelope, StateInfo, StateInfoPullRequest, gossip_message::Tag,
};

use super::*;
use crate::{
    message::PeerIdentity,
    ports::Ports as _,
    toy::{self, Speech, ToyPorts, ToyVerifier},
    wire,
};

mod channels;
mod kept;
mod limits;
mod peers;
mod private;
mod remembered;
mod stripe;

const CH: &str = "ch";

struct Stage {
    peer: Arc<PeerIdentity>,
    other: Arc<PeerIdentity>,
    connection: Arc<Connection>,
    verifier: ToyVerifier,
}

impl Stage {
    fn new() -> Self {
        let peer = toy::identity("A", "peer");
        let other = toy::identity("B", "other");
        Self {
            connection: toy::connection(1, &peer),
            verifier: ToyVerifier::knowing(&[&peer, &other]),
            peer,
            other,
        }
    }

    fn verify(&self, envelope: Envelope) -> Result<Message, Refused> {
        verify(&self.connection, envelope, &self.verifier).map(Verified::into_inner)
    }

    fn refused(&self, envelope: Envelope, rule: &str) {
        let refused = self.verify(envelope).expect_err("must be refused");
        assert_eq!(refused.rule, rule, "{refused}");
    }

    fn accepted(&self, envelope: Envelope) -> Message {
        self.verify(envelope).expect("must be accepted")
    }
}

fn message(channel: &str, tag: Tag, content: Content) -> GossipMessage {
    let channel = ChannelId::from(channel);
    wire::gossip_message(3, Some(&channel), tag, content)
}

fn unsigned(channel: &str, tag: Tag, content: Content) -> Envelope {
    wire::unsigned(&message(channel, tag, content))
}

fn signed(by: &Arc<PeerIdentity>, channel: &str, tag: Tag, content: Content) -> Envelope {
    wire::signed(&ToyPorts(Arc::clone(by)), &message(channel, tag, content))
}

fn pki(identity: &PeerIdentity) -> Bytes {
    Bytes::copy_from_slice(identity.pki_id.as_bytes())
}

fn wire_time() -> Option<tidings_proto::gossip::PeerTime> {
    Some(tidings_proto::gossip::PeerTime {
        inc_num: 4,
        seq_num: 2,
    })
}

fn speech(of: &Arc<PeerIdentity>) -> Speech {
    Speech::of(of, "out:1", "in:1")
}

fn request(self_information: Option<Envelope>) -> Envelope {
    let content = Content::MemReq(MembershipRequest {
        self_information,
        known: Vec::new(),
    });
    unsigned("", Tag::Empty, content)
}

fn response(alive: Vec<Envelope>, dead: Vec<Envelope>) -> Envelope {
    let content = Content::MemRes(MembershipResponse { alive, dead });
    unsigned("", Tag::Empty, content)
}

fn state_info(of: &PeerIdentity) -> StateInfo {
    StateInfo {
        timestamp: wire_time(),
        pki_id: pki(of),
        channel_mac: Bytes::from(vec![7; 32]),
        properties: Some(Properties {
            ledger_height: 5,
            left_channel: true,
            chaincodes: Vec::new(),
            ..Properties::default()
        }),
    }
}

fn leadership(of: &PeerIdentity) -> LeadershipMessage {
    LeadershipMessage {
        pki_id: pki(of),
        timestamp: wire_time(),
        is_declaration: true,
    }
}

fn info_envelope(by: &Arc<PeerIdentity>, info: StateInfo) -> Envelope {
    signed(by, "", Tag::ChanOrOrg, Content::StateInfo(info))
}

fn leader_envelope(by: &Arc<PeerIdentity>, leadership: LeadershipMessage) -> Envelope {
    let content = Content::LeadershipMsg(leadership);
    signed(by, CH, Tag::ChanAndOrg, content)
}

fn data(channel: &str, number: u64) -> DataMessage {
    DataMessage {
        payload: Some(Payload {
            seq_num: number,
            data: toy::block_bytes(channel, number),
            private_data: Vec::new(),
        }),
    }
}

fn data_envelope(channel: &str, data: DataMessage) -> Envelope {
    let channel = ChannelId::from(channel);
    let content = Content::DataMsg(data);
    wire::unsigned(&wire::gossip_message(
        0,
        Some(&channel),
        Tag::ChanAndOrg,
        content,
    ))
}

fn update(msg_type: PullMsgType, data: Vec<Envelope>) -> Envelope {
    let content = Content::DataUpdate(DataUpdate {
        nonce: 9,
        data,
        msg_type: msg_type as i32,
    });
    match msg_type {
        PullMsgType::BlockMsg => unsigned(CH, Tag::ChanAndOrg, content),
        _ => unsigned("", Tag::Empty, content),
    }
}

fn identity_envelope(by: &Arc<PeerIdentity>, of: &PeerIdentity) -> Envelope {
    let content = Content::PeerIdentity(WireIdentity {
        pki_id: pki(of),
        cert: of.serialized.clone(),
        metadata: Bytes::new(),
    });
    signed(by, "", Tag::Empty, content)
}

/// One good message of each kind that the main loop takes.
fn good(stage: &Stage) -> Vec<GossipMessage> {
    let peer = &stage.peer;
    let block = PullMsgType::BlockMsg as i32;
    let identity = PullMsgType::IdentityMsg as i32;
    let hello = |msg_type| {
        Content::Hello(GossipHello {
            nonce: 9,
            metadata: Bytes::new(),
            msg_type,
        })
    };
    let digest = |msg_type| {
        Content::DataDig(DataDigest {
            nonce: 9,
            digests: vec![Bytes::from_static(b"1")],
            msg_type,
        })
    };
    let data_request = |msg_type| {
        Content::DataReq(DataRequest {
            nonce: 9,
            digests: vec![Bytes::from_static(b"1")],
            msg_type,
        })
    };
    let blocks = vec![data_envelope(CH, data(CH, 1))];
    let open = |envelope: Envelope| envelope.open().unwrap().into_parts().1;
    vec![
        open(speech(peer).envelope()),
        open(request(Some(speech(peer).envelope()))),
        open(response(Vec::new(), Vec::new())),
        open(data_envelope(CH, data(CH, 1))),
        message("", Tag::Empty, hello(identity)),
        message(CH, Tag::ChanAndOrg, hello(block)),
        message("", Tag::Empty, digest(identity)),
        message(CH, Tag::ChanAndOrg, digest(block)),
        message("", Tag::Empty, data_request(identity)),
        message(CH, Tag::ChanAndOrg, data_request(block)),
        open(update(PullMsgType::IdentityMsg, Vec::new())),
        open(update(PullMsgType::BlockMsg, blocks)),
        open(info_envelope(peer, state_info(peer))),
        message(
            CH,
            Tag::ChanOrOrg,
            Content::StateSnapshot(StateInfoSnapshot::default()),
        ),
        message(
            "",
            Tag::ChanOrOrg,
            Content::StateInfoPullReq(StateInfoPullRequest {
                channel_mac: Bytes::from(vec![7; 32]),
                known: Bytes::new(),
            }),
        ),
        message(
            CH,
            Tag::ChanOrOrg,
            Content::StateRequest(RemoteStateRequest::default()),
        ),
        message(
            CH,
            Tag::ChanOrOrg,
            Content::StateResponse(RemoteStateResponse::default()),
        ),
        open(leader_envelope(peer, leadership(peer))),
        message(CH, Tag::ChanOnly, private::push()),
        message(CH, Tag::ChanOnly, private::request(1)),
        message(CH, Tag::ChanOnly, private::response(1)),
    ]
}

#[test]
fn every_kind_passes_when_nothing_is_wrong() {
    let stage = Stage::new();
    let ports = ToyPorts(Arc::clone(&stage.peer));
    for message in good(&stage) {
        stage.accepted(wire::signed(&ports, &message));
    }
}

#[test]
fn what_passes_says_what_was_sent() {
    let stage = Stage::new();
    let peer = &stage.peer;
    let speech = speech(peer).at(toy::time(4, 2));
    assert_eq!(
        stage.accepted(speech.envelope()),
        Message::Alive(Box::new(speech.alive()))
    );
    let info = info_envelope(peer, state_info(peer));
    let Message::StateInfo(got) = stage.accepted(info.clone()) else {
        panic!("expected a state info");
    };
    assert_eq!(
        (got.peer, got.time, got.height),
        (peer.pki_id, toy::time(4, 2), 5)
    );
    assert_eq!((got.left_channel, got.channel_mac), (true, [7; 32]));
    assert_eq!(got.envelope, info);
    let leader = leader_envelope(peer, leadership(peer));
    let Message::Leadership(got) = stage.accepted(leader.clone()) else {
        panic!("expected leadership");
    };
    assert_eq!((got.channel.as_str(), got.peer), (CH, peer.pki_id));
    assert_eq!((got.time, got.is_declaration), (toy::time(4, 2), true));
    assert_eq!(got.envelope, leader);
    let alive = vec![speech.envelope()];
    let Message::MembershipResponse { nonce, alive, dead } =
        stage.accepted(response(alive, Vec::new()))
    else {
        panic!("expected a response");
    };
    assert_eq!((nonce, alive, dead), (3, vec![speech.alive()], Vec::new()));
}

#[test]
fn w_s1_a_payload_that_is_no_gossip_message_is_refused() {
    let stage = Stage::new();
    for payload in [&b"\x0a"[..], b"\xff\xff\xff", b"\x2a\x05\x0a"] {
        let envelope = Envelope::signed(Bytes::from_static(payload), Bytes::new());
        stage.refused(envelope, "W-S1");
    }
    // A string that is not UTF-8 counts as undecodable (W-G5).
    let mut bytes = speech(&stage.peer).envelope().payload.to_vec();
    let place = bytes.windows(5).position(|w| w == b"out:1").unwrap();
    bytes[place] = 0xff;
    let envelope = Envelope::signed(bytes.into(), Bytes::new());
    stage.refused(envelope, "W-S1");
}

#[test]
fn w_s2_a_message_that_must_be_signed_and_is_not() {
    let stage = Stage::new();
    let peer = &stage.peer;
    for envelope in [
        speech(peer).envelope(),
        info_envelope(peer, state_info(peer)),
        leader_envelope(peer, leadership(peer)),
    ] {
        stage.accepted(envelope.clone());
        let bare = Envelope::signed(envelope.payload.clone(), Bytes::new());
        stage.refused(bare, "W-S2");
        let empty = Envelope::signed(Bytes::new(), envelope.signature);
        stage.refused(empty, "W-S4");
    }
}

#[test]
fn w_s3_a_secret_that_is_empty_unsigned_or_signed_by_another() {
    let stage = Stage::new();
    let check = |change: &dyn Fn(&mut SecretEnvelope)| {
        let mut envelope = speech(&stage.peer).envelope();
        change(envelope.secret_envelope.as_mut().unwrap());
        stage.refused(envelope, "W-S3");
    };
    check(&|secret| *secret = SecretEnvelope::default());
    check(&|secret| secret.signature = Bytes::new());
    check(&|secret| secret.payload = Bytes::new());
    check(&|secret| secret.payload = Bytes::from_static(b"\x0a\x03x:1"));
    let other = ToyPorts(Arc::clone(&stage.other));
    check(&|secret| secret.signature = other.sign(&secret.payload));
}

#[test]
fn w_s4_every_kind_with_every_wrong_tag() {
    let stage = Stage::new();
    let ports = ToyPorts(Arc::clone(&stage.peer));
    for message in good(&stage) {
        for tag in (-1..=7).chain([i32::MIN, i32::MAX]) {
            let mut changed = message.clone();
            changed.tag = tag;
            let envelope = wire::signed(&ports, &changed);
            if tag == message.tag {
                stage.accepted(envelope);
            } else {
                stage.refused(envelope, "W-S4");
            }
        }
    }
}

#[test]
fn s_n1_contents_that_are_not_for_the_main_loop() {
    let stage = Stage::new();
    let contents = [
        Content::Empty(Empty {}),
        Content::PeerIdentity(WireIdentity::default()),
    ];
    for content in contents {
        for tag in [Tag::Undefined, Tag::Empty, Tag::OrgOnly, Tag::ChanOnly] {
            stage.refused(unsigned(CH, tag, content.clone()), "W-S4");
        }
    }
    // Nothing, and something that nobody knows.
    for payload in [&b""[..], b"\x18\x01", b"\x18\x01\xd2\x01\x00"] {
        let envelope = Envelope::signed(Bytes::from_static(payload), Bytes::new());
        stage.refused(envelope, "W-S4");
    }
}

#[test]
fn c_s10_a_second_handshake_is_ignored() {
    let stage = Stage::new();
    let conn = Content::Conn(ConnEstablish::default());
    stage.refused(signed(&stage.peer, "", Tag::Empty, conn), "C-S10");
}

#[test]
fn an_acknowledgement_needs_no_tag() {
    let stage = Stage::new();
    let ack = |error: String| {
        let content = Content::Ack(Acknowledgement { error });
        stage.accepted(unsigned("", Tag::Undefined, content))
    };
    let error = String::new();
    assert_eq!(ack(error.clone()), Message::Ack { nonce: 3, error });
    let Message::Ack { error, .. } = ack("ü".repeat(ERROR_LEN_MAX)) else {
        panic!("expected an ack");
    };
    assert_eq!(error, "ü".repeat(ERROR_LEN_MAX / 2));
    let Message::Ack { error, .. } = ack(format!("x{}", "ü".repeat(ERROR_LEN_MAX))) else {
        panic!("expected an ack");
    };
    assert_eq!(error.len(), ERROR_LEN_MAX - 1);
}

#[test]
fn w_s6_missing_parts_are_refused_without_fault() {
    let stage = Stage::new();
    let peer = &stage.peer;
    let alive = |change: &dyn Fn(&mut AliveMessage)| {
        let mut speech = speech(peer);
        change(&mut speech.message);
        speech.envelope()
    };
    let no_member = alive(&|alive| alive.membership = None);
    let no_time = alive(&|alive| alive.timestamp = None);
    stage.refused(no_member.clone(), "W-S6");
    stage.refused(no_time, "W-S6");
    stage.refused(request(None), "W-S6");
    stage.refused(request(Some(no_member)), "W-S6");
    let mut info = state_info(peer);
    info.timestamp = None;
    stage.refused(info_envelope(peer, info), "W-S6");
    let mut leader = leadership(peer);
    leader.timestamp = None;
    stage.refused(leader_envelope(peer, leader), "W-S6");
    stage.refused(data_envelope(CH, DataMessage { payload: None }), "W-S6");
    let hollow = data_envelope(CH, DataMessage { payload: None });
    stage.refused(update(PullMsgType::BlockMsg, vec![hollow]), "W-S6");
}

#[test]
fn d_s13_missing_parts_within_a_response_are_left_out() {
    let stage = Stage::new();
    let good = speech(&stage.other).envelope();
    let mut hollow = speech(&stage.peer);
    hollow.message.membership = None;
    let mut timeless = speech(&stage.peer);
    timeless.message.timestamp = None;
    let list = vec![hollow.envelope(), timeless.envelope(), good];
    let Message::MembershipResponse { alive, dead, .. } =
        stage.accepted(response(list.clone(), list))
    else {
        panic!("expected a response");
    };
    assert_eq!(alive, [speech(&stage.other).alive()]);
    assert_eq!(dead, [speech(&stage.other).alive()]);
}

#[test]
fn w_s6_an_element_that_is_no_alive_message_ends_a_response() {
    let stage = Stage::new();
    let good = speech(&stage.other).envelope();
    let hello = message("", Tag::Empty, Content::Empty(Empty {}));
    let undecodable = Envelope::signed(Bytes::from_static(b"\xff"), Bytes::new());
    for bad in [wire::unsigned(&hello), undecodable, Envelope::default()] {
        let list = vec![good.clone(), bad, good.clone()];
        let lengths = |alive: &[Envelope], dead: &[Envelope]| {
            let envelope = response(alive.to_vec(), dead.to_vec());
            let Message::MembershipResponse { alive, dead, .. } = stage.accepted(envelope) else {
                panic!("expected a response");
            };
            (alive.len(), dead.len())
        };
        assert_eq!(lengths(&list, &list), (1, 0));
        assert_eq!(lengths(&[], &list), (0, 1));
    }
}

#[test]
fn p_s6_pull_messages_without_a_type_or_with_another_tag() {
    let stage = Stage::new();
    for (msg_type, tag) in [
        (PullMsgType::Undefined as i32, Tag::Empty),
        (PullMsgType::Undefined as i32, Tag::ChanAndOrg),
        (3, Tag::ChanAndOrg),
        (-1, Tag::Empty),
        (PullMsgType::BlockMsg as i32, Tag::Empty),
        (PullMsgType::IdentityMsg as i32, Tag::ChanAndOrg),
    ] {
        let hello = Content::Hello(GossipHello {
            nonce: 1,
            metadata: Bytes::new(),
            msg_type,
        });
        stage.refused(unsigned(CH, tag, hello), "W-S4");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_gate_panic(
        payload in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
        place in proptest::num::usize::ANY,
        byte in proptest::num::u8::ANY,
        which in proptest::num::usize::ANY,
    ) {
        let stage = Stage::new();
        let _ = stage.verify(Envelope::signed(payload.into(), Bytes::new()));
        // A good message with one byte changed.
        let all = good(&stage);
        let mut bytes = all[which % all.len()].encode_to_vec();
        let place = place % bytes.len();
        bytes[place] = byte;
        let signature = ToyPorts(Arc::clone(&stage.peer)).sign(&bytes);
        let _ = stage.verify(Envelope::signed(bytes.into(), signature));
    }
}
