//! Peers about themselves, and the identities that they show.

use std::time::Duration;

use prost::Message as _;
use tidings_proto::gossip::Rhythm;

use super::*;
use crate::discovery::PERIOD_MAX;

#[test]
fn d_s1_self_information_about_another() {
    let stage = Stage::new();
    stage.refused(request(Some(speech(&stage.other).envelope())), "D-S1");
}

#[test]
fn s_n4_self_information_about_a_third_peer_or_with_a_short_pki_id() {
    let stage = Stage::new();
    let mut short = speech(&stage.peer);
    short.message.membership.as_mut().unwrap().pki_id = pki(&stage.peer).slice(..31);
    stage.refused(request(Some(short.envelope())), "D-S1");
}

#[test]
fn d_s2_self_information_that_is_worthless() {
    let stage = Stage::new();
    let good = speech(&stage.peer).envelope();
    let hello = wire::unsigned(&message("", Tag::Empty, Content::Empty(Empty {})));
    let undecodable = Envelope::signed(Bytes::from_static(b"\xff"), good.signature.clone());
    let foreign = Envelope::signed(good.payload.clone(), Bytes::from_static(b"sig"));
    for bad in [hello, undecodable, foreign] {
        stage.refused(request(Some(bad)), "D-S2");
    }
    let bare = Envelope::signed(good.payload, Bytes::new());
    stage.refused(request(Some(bare)), "W-S2");
}

#[test]
fn d_s3_an_alive_message_of_nobody_we_know_or_by_another() {
    let stage = Stage::new();
    let mut forged = speech(&stage.peer);
    forged.speaker = Arc::clone(&stage.other);
    stage.refused(forged.envelope(), "D-S3");
    stage.verifier.forget_all();
    stage.refused(speech(&stage.peer).envelope(), "D-S3");
}

#[test]
fn s_n15_an_embedded_identity_must_match_and_be_valid() {
    let stage = Stage::new();
    stage.verifier.forget_all();
    let embedding = |of: &Arc<PeerIdentity>, identity: &PeerIdentity| {
        let mut speech = speech(of);
        speech.message.identity = identity.serialized.clone();
        speech.envelope()
    };
    let (peer, other) = (&stage.peer, &stage.other);
    stage.accepted(embedding(peer, peer));
    stage.refused(embedding(peer, other), "D-S3");
    let evil = toy::identity("evil", "peer");
    stage.refused(embedding(&evil, &evil), "D-S3");
}

#[test]
fn i_s1_a_known_pki_id_does_not_excuse_another_identity() {
    let stage = Stage::new();
    let mut speech = speech(&stage.peer);
    speech.message.identity = stage.other.serialized.clone();
    stage.refused(speech.envelope(), "D-S3");
}

#[test]
fn d_s6_elements_of_a_response_are_authenticated_one_by_one() {
    let stage = Stage::new();
    let mut forged = speech(&stage.peer);
    forged.speaker = Arc::clone(&stage.other);
    let stranger = speech(&toy::identity("A", "stranger")).envelope();
    let good = speech(&stage.other).envelope();
    let list = vec![forged.envelope(), stranger, good];
    let Message::MembershipResponse { alive, dead, .. } =
        stage.accepted(response(list.clone(), list))
    else {
        panic!("expected a response");
    };
    let expect = [speech(&stage.other).alive()];
    assert_eq!((&alive[..], &dead[..]), (&expect[..], &expect[..]));
}

#[test]
fn p_s1_one_bad_identity_discards_the_whole_update() {
    let stage = Stage::new();
    let (peer, other) = (&stage.peer, &stage.other);
    let stranger = toy::identity("C", "stranger");
    let good = identity_envelope(&stranger, &stranger);
    let Message::IdentityPull(Pull::Update { nonce, items }) =
        stage.accepted(update(PullMsgType::IdentityMsg, vec![good.clone()]))
    else {
        panic!("expected an update");
    };
    let expect = IdentityMessage {
        identity: stranger,
        envelope: good.clone(),
    };
    assert_eq!((nonce, &items[..]), (9, &[expect][..]));

    let mut renamed = (**other).clone();
    renamed.pki_id = peer.pki_id;
    let mut short = message(
        "",
        Tag::Empty,
        Content::PeerIdentity(WireIdentity::default()),
    );
    if let Some(Content::PeerIdentity(identity)) = &mut short.content {
        identity.pki_id = Bytes::from_static(b"short");
    }
    let evil = toy::identity("evil", "peer");
    let bad = [
        identity_envelope(peer, other),
        identity_envelope(other, &renamed),
        identity_envelope(&evil, &evil),
        wire::unsigned(&short),
        speech(peer).envelope(),
        Envelope::signed(Bytes::from_static(b"\xff"), Bytes::from_static(b"sig")),
    ];
    for bad in bad {
        let list = vec![good.clone(), bad, good.clone()];
        stage.refused(update(PullMsgType::IdentityMsg, list), "P-S1");
    }
}

#[test]
fn s_n12_an_unsigned_identity_discards_the_whole_update() {
    let stage = Stage::new();
    let good = identity_envelope(&stage.peer, &stage.peer);
    let bare = Envelope::signed(good.payload.clone(), Bytes::new());
    stage.refused(update(PullMsgType::IdentityMsg, vec![good, bare]), "W-S2");
}

#[test]
fn a_rhythm_that_is_none_says_nothing_and_none_is_too_slow() {
    let stage = Stage::new();
    let period = |rhythm: Vec<u8>| {
        let mut speech = speech(&stage.peer);
        speech.message.rhythm = rhythm.into();
        match stage.accepted(speech.envelope()) {
            Message::Alive(alive) => alive.period,
            other => panic!("an alive message expected: {other:?}"),
        }
    };
    let of = |period_ms| Rhythm { period_ms }.encode_to_vec();
    assert_eq!(period(Vec::new()), None);
    assert_eq!(period(b"\xff".to_vec()), None);
    assert_eq!(period(of(5000)), Some(Duration::from_secs(5)));
    assert_eq!(period(of(u32::MAX)), Some(PERIOD_MAX));
}

#[test]
fn a_summary_that_is_none_says_nothing() {
    let stage = Stage::new();
    let known = |known: Vec<Bytes>| {
        let content = Content::MemReq(MembershipRequest {
            self_information: Some(speech(&stage.peer).envelope()),
            known,
        });
        match stage.accepted(unsigned("", Tag::Empty, content)) {
            Message::MembershipRequest { known, .. } => known,
            other => panic!("a request expected: {other:?}"),
        }
    };
    let summary = Bytes::from(vec![3; 24]);
    assert_eq!(known(vec![]), None);
    assert_eq!(known(vec![Bytes::from(vec![3; 25])]), None);
    assert_eq!(known(vec![summary.clone(), summary.clone()]), None);
    assert_eq!(known(vec![summary.clone()]).unwrap().to_wire(), summary);
}
