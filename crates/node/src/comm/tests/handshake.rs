//! What a peer must show, in both roles.

use bytes::Bytes;
use tidings_gossip::effect::Destination;
use tidings_proto::{
    gossip::{Empty, Envelope, SecretEnvelope, gossip_message::Content},
    tag::Kind,
};
use tokio::time::Instant;
use tonic::Code;

use super::toy::{Toy, World, claim, content, endpoint, hello, identity, saying, sign, signed, to};
use crate::{
    comm::handshake::{Presented, Refused, conclude},
    tls::{
        Tls,
        tests::{certificates::Authority, show_no_certificate},
    },
};

const CERTIFICATE: [u8; 32] = [7; 32];

/// A handshake of `one/b`, spoiled.
type Spoiled = (&'static str, Envelope, Refused);

fn secret(payload: &'static [u8], signature: Bytes) -> SecretEnvelope {
    SecretEnvelope {
        payload: Bytes::from_static(payload),
        signature,
    }
}

/// Everything that must be refused of a peer with this certificate, whose other certificate has
/// that hash.
fn spoiled(own: [u8; 32], other: [u8; 32]) -> Vec<Spoiled> {
    let good = || claim("one/b", Some(own));
    let hashed = |hash: &[u8]| {
        let mut claim = good();
        claim.tls_cert_hash = Bytes::copy_from_slice(hash);
        signed(claim)
    };
    let mut unclaimed = good();
    unclaimed.pki_id = Bytes::new();
    let mut anonymous = good();
    anonymous.identity = Bytes::new();
    let mut stolen = good();
    stolen.pki_id = Bytes::copy_from_slice(identity("one/c").pki_id.as_bytes());
    let mut short = good();
    short.pki_id.truncate(31);
    let mut malformed = good();
    malformed.identity = Bytes::from_static(b"nobody");
    let wrong = Bytes::from_static(b"wrong");
    let resigned = |signature| Envelope {
        signature,
        ..signed(good())
    };
    let by_another = sign(b"one/c", &signed(good()).payload);
    let with_secret = |secret| signed(good()).with_secret(secret);
    let signature = |text: &str| Refused::Signature(text.to_owned());
    let identity_of = |text: &str| Refused::Identity(text.to_owned());
    vec![
        ("c_s2 wrong hash", hashed(&[1; 32]), Refused::TlsHash),
        ("c_s2 empty hash", hashed(&[]), Refused::TlsHash),
        ("c_s2 other certificate", hashed(&other), Refused::TlsHash),
        (
            "c_s2 more than a hash",
            hashed(&[&own[..], &[0]].concat()),
            Refused::TlsHash,
        ),
        ("c_s3 another PKI-ID", signed(stolen), Refused::PkiId),
        ("c_s3 a short PKI-ID", signed(short), Refused::PkiId),
        ("c_s4 no PKI-ID", signed(unclaimed), Refused::NoPkiId),
        ("c_s4 no identity", signed(anonymous), Refused::NoIdentity),
        (
            "c_s5 unknown",
            signed(claim("evil/x", Some(own))),
            identity_of("unknown organization"),
        ),
        (
            "c_s5 malformed",
            signed(malformed),
            identity_of("malformed"),
        ),
        ("c_s6 unsigned", resigned(Bytes::new()), Refused::NotSigned),
        (
            "c_s6 wrong signature",
            resigned(wrong.clone()),
            signature("wrong"),
        ),
        (
            "c_s6 signed by another",
            resigned(by_another),
            signature("wrong"),
        ),
        (
            "w_s3 unsigned secret",
            with_secret(secret(b"x", Bytes::new())),
            Refused::NotSigned,
        ),
        (
            "w_s3 empty secret",
            with_secret(secret(b"", wrong.clone())),
            Refused::NotSigned,
        ),
        (
            "w_s3 wrong secret",
            with_secret(secret(b"x", wrong)),
            signature("wrong"),
        ),
        (
            "c_s7 another message",
            hello(1),
            Refused::WrongType(Some(Kind::Hello)),
        ),
        ("w_s1 nothing", Envelope::default(), Refused::Undecodable),
        (
            "w_s1 garbage",
            Envelope::signed(Bytes::from_static(&[8]), Bytes::new()),
            Refused::Undecodable,
        ),
    ]
}

#[test]
fn every_spoiled_handshake_has_its_reason() {
    let toy = Toy(identity("one/a"));
    let presented = Presented::Certificate(CERTIFICATE);
    let good = signed(claim("one/b", Some(CERTIFICATE)));
    let concluded = conclude(good.clone(), presented, &toy).unwrap();
    assert_eq!(concluded.identity, identity("one/b"));
    assert_eq!(
        concluded.handshake, good,
        "kept as received: it is evidence later"
    );
    assert!(!concluded.probe);
    for (what, envelope, refused) in spoiled(CERTIFICATE, [8; 32]) {
        assert_eq!(
            conclude(envelope, presented, &toy).unwrap_err(),
            refused,
            "{what}"
        );
        let rule = what
            .split(' ')
            .next()
            .unwrap()
            .replace('_', "-")
            .to_uppercase();
        // What a missing signature says is the same for the message and its secret.
        let said = if rule == "W-S3" { "C-S6" } else { &rule };
        assert_eq!(refused.rule(), said, "{what}");
    }
}

#[test]
fn a_good_secret_does_no_harm_and_the_rest_of_the_header_is_not_looked_at() {
    let toy = Toy(identity("one/a"));
    let presented = Presented::Certificate(CERTIFICATE);
    let good = signed(claim("one/b", Some(CERTIFICATE)));
    let with_secret = good.with_secret(secret(b"x", sign(b"one/b", b"x")));
    assert!(conclude(with_secret, presented, &toy).is_ok());
    // A nonce and a channel in front, and a later tag that is wrong.
    let payload = [
        &[8, 5, 18, 1, b'c'][..],
        &signed(claim("one/b", Some(CERTIFICATE))).payload,
        &[24, 5],
    ]
    .concat();
    let signature = sign(b"one/b", &payload);
    let odd = Envelope::signed(payload.into(), signature);
    assert!(conclude(odd, presented, &toy).is_ok());
}

#[test]
fn without_tls_the_hash_is_not_checked() {
    let toy = Toy(identity("one/a"));
    for hash in [None, Some([1; 32])] {
        let envelope = signed(claim("one/b", hash));
        assert!(conclude(envelope, Presented::Plaintext, &toy).is_ok());
    }
}

#[test]
fn c_s1_with_tls_there_must_be_a_certificate() {
    assert_eq!(Presented::of(true, None), Err(Refused::NoCertificate));
    assert_eq!(
        Presented::of(true, Some([1; 32])),
        Ok(Presented::Certificate([1; 32]))
    );
    assert_eq!(Presented::of(false, None), Ok(Presented::Plaintext));
}

#[tokio::test(start_paused = true)]
async fn both_ends_authenticate_and_talk_over_one_connection() {
    for world in [World::new(), World::plaintext()] {
        let (mut a, mut b) = (world.node("one/a"), world.node("two/d"));
        a.comm.handle().send(to("two/d"), hello(1));
        assert_eq!(a.news().await, "two/d connected as 1");
        assert_eq!(b.news().await, "one/a connected as 1");
        let (from, envelope) = b.message().await;
        assert_eq!(
            (from.identity.clone(), envelope),
            (a.identity.clone(), hello(1))
        );
        let own = a.tls.as_ref().map(Tls::client_certificate_sha256);
        assert_eq!(from.handshake, signed(claim("one/a", own)));

        b.comm.handle().reply(from.id, hello(2));
        b.comm.handle().send(to("one/a"), hello(3));
        let (from, envelope) = a.message().await;
        assert_eq!(
            (from.identity.clone(), envelope),
            (b.identity.clone(), hello(2))
        );
        let own = b.tls.as_ref().map(Tls::server_certificate_sha256);
        assert_eq!(from.handshake, signed(claim("two/d", own)));
        assert_eq!(a.message().await.1, hello(3));
        assert_eq!(world.net.open(), ["a to d:1"]);
        assert_eq!((a.rest().await, b.rest().await), (vec![], vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dials_with_a_spoiled_handshake_is_refused() {
    let world = World::new();
    let mut a = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    let (own, other) = (
        tls.client_certificate_sha256(),
        tls.server_certificate_sha256(),
    );
    for (what, envelope, refused) in spoiled(own, other) {
        let before = a.refused(refused.rule());
        let mut client = world.client(Some(&tls), "one/a").await;
        // C-S11: what follows is not delivered either.
        let talk = client.talk([envelope, hello(1)]).await.unwrap();
        let greeting = talk.hear().await.unwrap().unwrap();
        assert!(
            matches!(content(&greeting), Some(Content::Conn(_))),
            "{what}"
        );
        assert_eq!(talk.end().await, Err(refused.to_string()), "{what}");
        assert_eq!(a.refused(refused.rule()), before + 1, "{what}");
    }
    assert!(a.heard_nothing().await);
    assert_eq!(a.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_dialled_peer_with_a_spoiled_handshake_is_refused() {
    let world = World::new();
    let mut a = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    let (own, other) = (
        tls.server_certificate_sha256(),
        tls.client_certificate_sha256(),
    );
    for (what, envelope, refused) in spoiled(own, other) {
        let before = a.refused(refused.rule());
        let _server = world.server("one/b", Some(&tls), saying(vec![envelope, hello(1)]));
        a.comm.handle().send(to("one/b"), hello(1));
        assert_eq!(a.news().await, "one/b unreachable", "{what}");
        assert_eq!(a.refused(refused.rule()), before + 1, "{what}");
    }
    assert!(a.heard_nothing().await);
}

#[tokio::test(start_paused = true)]
async fn c_s1_a_peer_without_certificate_hears_nothing_but_pings() {
    let world = World::new();
    let a = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    show_no_certificate(&tls);
    let mut client = world.client(Some(&tls), "one/a").await;
    client.client.ping(Empty::default()).await.unwrap();
    let hash = Some(tls.client_certificate_sha256());
    let refused = client
        .talk([signed(claim("one/b", hash))])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unknown, "no TLS certificate")
    );
    assert_eq!(a.refused("C-S1"), 1);
}

#[tokio::test(start_paused = true)]
async fn c_g11_anybody_may_ping() {
    let world = World::new();
    let _a = world.node("one/a");
    let stranger = Authority::new("stranger");
    let tls = stranger.tls("x");
    tls.replace_channel_roots(|| vec![world.ca.root()]).unwrap();
    let mut client = world.client(Some(&tls), "one/a").await;
    assert_eq!(
        client
            .client
            .ping(Empty::default())
            .await
            .unwrap()
            .into_inner(),
        Empty::default()
    );
}

#[tokio::test(start_paused = true)]
async fn c_s8_a_silent_dialler_is_dropped_after_two_seconds() {
    let world = World::new();
    let mut a = world.node("one/a");
    let mut client = world.client(world.tls("one/b").as_ref(), "one/a").await;
    let began = Instant::now();
    let talk = client.talk([]).await.unwrap();
    let greeting = talk.hear().await.unwrap().unwrap();
    assert!(
        matches!(content(&greeting), Some(Content::Conn(_))),
        "ours does not wait (C-G7)"
    );
    assert_eq!(began.elapsed().as_secs(), 0);
    assert_eq!(talk.end().await, Err("no handshake in time".to_owned()));
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(a.refused("C-S8"), 1);
    assert_eq!(a.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn c_s8_a_silent_dialled_peer_is_given_up_after_two_seconds() {
    let world = World::new();
    let mut a = world.node("one/a");
    let _server = world.server("one/b", world.tls("one/b").as_ref(), saying(vec![]));
    let began = Instant::now();
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(a.news().await, "one/b unreachable");
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(a.refused("C-S8"), 1);
    assert_eq!(world.net.open(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_during_the_handshake_is_noticed_at_once() {
    let world = World::new();
    let mut a = world.node("one/a");
    let ending = |_| Box::pin(tokio_stream::iter([Err(tonic::Status::unknown("no"))])) as _;
    let _server = world.server("one/b", world.tls("one/b").as_ref(), ending);
    let began = Instant::now();
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(a.news().await, "one/b unreachable");
    let mut client = world.client(world.tls("one/c").as_ref(), "one/a").await;
    let talk = client.talk([]).await.unwrap();
    assert!(talk.finish().await.is_err());
    assert_eq!(began.elapsed().as_secs(), 0);
    assert_eq!(a.refused("handshake ended"), 2);
}

#[tokio::test(start_paused = true)]
async fn c_s9_a_stranger_where_a_peer_was_expected_is_refused() {
    let world = World::new();
    let (mut a, mut d) = (world.node("one/a"), world.node("two/d"));
    // Of another organization, and where nobody is known who was expected.
    for (expected, shown) in [("one/b", "one/b unreachable"), ("one/new", "unreachable")] {
        let there = Destination {
            peer: identity(expected).pki_id,
            endpoint: endpoint("two/d"),
        };
        a.comm.handle().send(there, hello(1));
        let news = a.news().await;
        assert!(news.ends_with(shown), "{news}");
    }
    assert_eq!(a.refused("C-S9"), 2);
    assert!(d.heard_nothing().await, "nothing is said to the wrong peer");
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_the_same_organization_takes_the_place_of_the_expected_one() {
    let world = World::new();
    let (mut a, mut b) = (world.node("one/a"), world.node("one/b"));
    let there = Destination {
        peer: identity("one/old").pki_id,
        endpoint: endpoint("one/b"),
    };
    a.comm.handle().send(there, hello(1));
    assert_eq!(a.news().await, "one/old switched");
    assert_eq!(a.news().await, "one/b connected as 1");
    assert_eq!(
        b.message().await.1,
        hello(1),
        "as Go does, what waited goes to the new one"
    );
    assert_eq!(a.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn c_s10_a_later_handshake_is_ignored() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (_client, talk) = world.friend("one/b", "one/a").await;
    talk.say.send(signed(claim("one/c", None))).await.unwrap();
    talk.say.send(hello(1)).await.unwrap();
    let (from, envelope) = a.message().await;
    assert_eq!(
        (from.peer(), envelope),
        (identity("one/b").pki_id, hello(1))
    );
    assert_eq!(a.news().await, "one/b connected as 1");
    assert_eq!(a.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn c_s11_nothing_is_delivered_before_the_core_knows_the_connection() {
    let world = World::new();
    // The core has no room for news until its first input is taken.
    let mut a = world.node_with("one/a", 10, |_| {});
    let (_b, talk) = world.friend("one/b", "one/a").await;
    talk.say.send(hello(1)).await.unwrap();
    let (from, _) = a.message().await;
    assert_eq!(
        a.inputs
            .try_recv()
            .map(|input| format!("{input:?}").contains("Connected")),
        Ok(true)
    );
    assert_eq!(from.peer(), identity("one/b").pki_id);
}

#[tokio::test(start_paused = true)]
async fn c_s12_a_message_is_attributed_to_the_peer_of_its_connection() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (_b, from_b) = world.friend("one/b", "one/a").await;
    let (_c, from_c) = world.friend("one/c", "one/a").await;
    for (talk, name) in [(&from_b, "one/b"), (&from_c, "one/c"), (&from_b, "one/b")] {
        talk.say.send(hello(1)).await.unwrap();
        assert_eq!(a.message().await.0.peer(), identity(name).pki_id);
    }
}

#[tokio::test(start_paused = true)]
async fn c_s13_a_server_with_the_wrong_name_is_not_spoken_to() {
    let world = World::new();
    let mut a = world.node("one/a");
    let _server = world.server("one/b", world.tls("one/c").as_ref(), saying(vec![]));
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(a.news().await, "one/b unreachable");
}

#[tokio::test(start_paused = true)]
async fn our_own_identity_is_no_peer() {
    let world = World::new();
    let mut a = world.node("one/a");
    a.comm.handle().send(to("one/a"), hello(1));
    assert_eq!(a.news().await, "one/a unreachable");
    let there = Destination {
        peer: identity("one/b").pki_id,
        endpoint: endpoint("one/a"),
    };
    a.comm.handle().send(there, hello(1));
    assert_eq!(a.news().await, "one/b unreachable");
    assert!(a.heard_nothing().await);
    assert_eq!(a.rest().await, Vec::<String>::new());
}
