//! Who confirms, who may, and what is said when too few do.

use tidings_proto::gossip::{Empty, gossip_message::Content, gossip_message::Tag};

use super::*;
use crate::id::PkiId;

const TICKET: Ticket = Ticket(7);

fn at(millis: u64) -> Moment {
    Moment::after_start(Duration::from_millis(millis))
}

fn peer(n: u8) -> PkiId {
    PkiId::new([n; 32])
}

fn pool(peers: std::ops::Range<u8>) -> Option<Vec<Destination>> {
    let to = |n: u8| Destination {
        peer: peer(n),
        endpoint: format!("p{n}:1"),
    };
    Some(peers.map(to).collect())
}

fn request(min_ack: usize, max_peers: usize) -> SendByCriteria {
    SendByCriteria {
        ticket: TICKET,
        message: wire::gossip_message(1, None, Tag::Empty, Content::Empty(Empty {})),
        timeout: Duration::from_secs(3),
        min_ack,
        max_peers,
        channel: None,
        eligible: None,
    }
}

/// Sends, and returns the nonce and to whom.
fn send(acks: &mut Acks, request: SendByCriteria, peers: u8) -> (u64, Vec<PkiId>) {
    let mut out = Vec::new();
    let pool = pool(0..peers);
    acks.handle(at(0), Input::Send { request, pool }, &mut out);
    let mut nonce = None;
    let mut to = Vec::new();
    for effect in out {
        let Effect::Send {
            to: target,
            envelope,
        } = effect
        else {
            panic!("expected sends only, got {effect:?}");
        };
        assert!(envelope.signature.is_empty());
        let opened = envelope.open().unwrap();
        let first = *nonce.get_or_insert_with(|| opened.message().nonce);
        assert_eq!(opened.message().nonce, first);
        to.push(target.peer);
    }
    (nonce.unwrap(), to)
}

fn ack(acks: &mut Acks, from: PkiId, nonce: u64, error: &str) -> Vec<Effect> {
    let mut out = Vec::new();
    let error = error.to_owned();
    acks.handle(at(1), Input::Ack { from, nonce, error }, &mut out);
    out
}

fn ended(result: Result<usize, &str>) -> Vec<Effect> {
    vec![Effect::Acknowledged {
        ticket: TICKET,
        result: result.map_err(str::to_owned),
    }]
}

#[test]
fn enough_acknowledgements_end_it() {
    let mut acks = Acks::new(&[0; 32]);
    let (nonce, to) = send(&mut acks, request(2, 3), 5);
    assert_eq!(to.len(), 3);
    assert_eq!(acks.deadline(), Some(at(3000)));
    assert_eq!(ack(&mut acks, to[0], nonce, ""), []);
    assert_eq!(ack(&mut acks, to[1], nonce, ""), ended(Ok(2)));
    // Late ones find nobody who waits.
    assert_eq!(ack(&mut acks, to[2], nonce, ""), []);
    assert_eq!(acks.deadline(), None);
}

#[test]
fn c_s12_only_the_addressed_peer_can_acknowledge_and_only_once() {
    let mut acks = Acks::new(&[0; 32]);
    let (nonce, to) = send(&mut acks, request(2, 2), 2);
    assert_eq!(ack(&mut acks, peer(9), nonce, ""), []);
    assert_eq!(ack(&mut acks, to[0], nonce ^ 1, ""), []);
    assert_eq!(ack(&mut acks, to[0], nonce, ""), []);
    assert_eq!(ack(&mut acks, to[0], nonce, ""), []);
    assert_eq!(ack(&mut acks, to[1], nonce, ""), ended(Ok(2)));
}

#[test]
fn failures_are_counted_by_their_text() {
    let mut acks = Acks::new(&[0; 32]);
    let (nonce, to) = send(&mut acks, request(3, 4), 4);
    ack(&mut acks, to[0], nonce, "no \"room\" <here>");
    ack(&mut acks, to[1], nonce, "");
    let mut out = Vec::new();
    acks.tick(at(2999), &mut out);
    assert_eq!(out, []);
    acks.tick(at(3000), &mut out);
    let text = r#"{"failures":{"no \"room\" \u003chere\u003e":1,"timed out":2},"successes":1}"#;
    assert_eq!(out, ended(Err(text)));
    let parsed: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(parsed["failures"]["no \"room\" <here>"], 1);
    assert_eq!(acks.deadline(), None);
}

#[test]
fn all_failures_leave_successes_out() {
    let mut acks = Acks::new(&[0; 32]);
    let (nonce, to) = send(&mut acks, request(1, 2), 2);
    assert_eq!(ack(&mut acks, to[0], nonce, "full"), []);
    let expect = ended(Err(r#"{"failures":{"full":2}}"#));
    assert_eq!(ack(&mut acks, to[1], nonce, "full"), expect);
}

#[test]
fn with_none_needed_the_first_failure_ends_it() {
    let mut acks = Acks::new(&[0; 32]);
    let (nonce, to) = send(&mut acks, request(0, 2), 2);
    assert_eq!(ack(&mut acks, to[0], nonce, "full"), ended(Ok(0)));
    let (nonce, to) = send(&mut acks, request(0, 2), 2);
    assert_eq!(ack(&mut acks, to[0], nonce, ""), []);
    assert_eq!(ack(&mut acks, to[1], nonce, ""), ended(Ok(2)));
}

#[test]
fn what_cannot_succeed_sends_nothing() {
    let check = |request: SendByCriteria, pool, expect: Result<usize, &str>| {
        let mut acks = Acks::new(&[0; 32]);
        let mut out = Vec::new();
        acks.handle(at(0), Input::Send { request, pool }, &mut out);
        assert_eq!(out, ended(expect));
        assert_eq!(acks.deadline(), None);
    };
    check(request(1, 0), None, Ok(0));
    let mut hasty = request(1, 1);
    hasty.timeout = Duration::ZERO;
    check(hasty, pool(0..1), Err("a timeout must be given"));
    check(request(1, 1), None, Err("the channel is unknown"));
    let few = "3 acknowledgements are needed but only 2 peers are suitable";
    check(request(3, 3), pool(0..2), Err(few));
    let mut picky = request(1, 3);
    picky.eligible = Some(vec![peer(9)]);
    let none = "1 acknowledgements are needed but only 0 peers are suitable";
    check(picky, pool(0..2), Err(none));
    check(request(0, 3), pool(0..0), Ok(0));
}

#[test]
fn no_more_wait_than_the_limit() {
    let mut acks = Acks::new(&[0; 32]);
    for _ in 0..PENDING_MAX {
        send(&mut acks, request(1, 1), 1);
    }
    let mut out = Vec::new();
    let request = request(1, 1);
    let pool = pool(0..1);
    acks.handle(at(0), Input::Send { request, pool }, &mut out);
    assert_eq!(out, ended(Err("too many sends wait for acknowledgements")));
}

#[test]
fn control_characters_are_escaped() {
    let parsed = |text: &str| -> String { serde_json::from_str(&json_string(text)).unwrap() };
    for text in ["", "a\u{1}b\u{1f}", "\t\n\r\\\"", "\u{2028}ü</script>&"] {
        assert_eq!(parsed(text), text);
    }
    assert_eq!(json_string("\u{1}&"), r#""\u0001\u0026""#);
}
