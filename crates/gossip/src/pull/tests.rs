//! Both roles of a pull round, message by message.

use super::*;
use crate::toy;

const RESPONDER: &str = "responder";

fn at(millis: u64) -> Moment {
    Moment::after_start(Duration::from_millis(millis))
}

fn puller(name: &str) -> Puller {
    let rng = random::generator(&[0; 32], name);
    Puller::new(
        Topic::Blocks("ch".into()),
        &Config::default(),
        Moment::ZERO,
        rng,
    )
}

fn to(name: &str) -> Destination {
    Destination {
        peer: toy::identity("A", name).pki_id,
        endpoint: format!("{name}:1"),
    }
}

fn peer(name: &str) -> PkiId {
    to(name).peer
}

fn connection(name: &str) -> std::sync::Arc<Connection> {
    toy::connection(1, &toy::identity("A", name))
}

fn id(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn item(text: &str) -> Envelope {
    Envelope::signed(id(text), Bytes::new())
}

fn holding(name: &str, ids: &[&str]) -> Puller {
    let mut puller = puller(name);
    for text in ids {
        puller.add(id(text), item(text));
    }
    puller
}

/// The one message that an effect sends, in words.
fn words(effect: &Effect) -> (String, u64) {
    let (how, envelope) = match effect {
        Effect::Send { to, envelope } => (format!("to {}", to.endpoint), envelope),
        Effect::Reply {
            connection,
            envelope,
        } => (format!("on {}", connection.0), envelope),
    };
    let opened = envelope.clone().open().unwrap();
    let message = opened.message();
    tidings_proto::tag::check_tag(message).unwrap();
    assert_eq!((message.nonce, &message.channel[..]), (0, &b"ch"[..]));
    let text = |digests: &[Bytes]| {
        let texts: Vec<_> = digests
            .iter()
            .map(|id| str::from_utf8(id).unwrap())
            .collect();
        texts.join(",")
    };
    match message.content.as_ref().unwrap() {
        Content::Hello(hello) => (format!("hello {how}"), hello.nonce),
        Content::DataDig(dig) => (format!("digest {how}: {}", text(&dig.digests)), dig.nonce),
        Content::DataReq(req) => (format!("request {how}: {}", text(&req.digests)), req.nonce),
        Content::DataUpdate(update) => {
            let items: Vec<Bytes> = update
                .data
                .iter()
                .map(|item| item.payload.clone())
                .collect();
            (format!("update {how}: {}", text(&items)), update.nonce)
        }
        other => panic!("unexpected {other:?}"),
    }
}

fn check(effects: &[Effect], expect: &[&str]) {
    let got: Vec<String> = effects.iter().map(|effect| words(effect).0).collect();
    assert_eq!(got, expect);
}

/// Begins a round with these peers, and returns their nonces.
fn begin(puller: &mut Puller, peers: &[&str]) -> Vec<u64> {
    let candidates: Vec<Destination> = peers.iter().map(|name| to(name)).collect();
    let mut out = Vec::new();
    puller.tick(at(4000), &candidates, &mut out);
    assert_eq!(out.len(), peers.len());
    let nonce_of = |name: &&str| {
        let hello = format!("hello to {name}:1");
        out.iter()
            .map(words)
            .find(|(words, _)| *words == hello)
            .unwrap()
            .1
    };
    peers.iter().map(nonce_of).collect()
}

fn digest(puller: &mut Puller, now: Moment, from: &str, nonce: u64, ids: &[&str]) -> Vec<Effect> {
    let mut out = Vec::new();
    let ids = ids.iter().map(|text| id(text)).collect();
    puller.digest(now, peer(from), nonce, ids, |_| true, &mut out);
    out
}

fn update(puller: &mut Puller, now: Moment, from: &str, nonce: u64, ids: &[&str]) -> Vec<String> {
    let items = ids.iter().map(|text| (*text).to_owned()).collect();
    puller.update(now, peer(from), nonce, items, |text| id(text))
}

fn hello(puller: &mut Puller, now: Moment, from: &str, nonce: u64) -> Vec<Effect> {
    let mut out = Vec::new();
    puller.hello(now, &connection(from), nonce, None, |_| true, &mut out);
    out
}

fn request(puller: &mut Puller, now: Moment, from: &str, nonce: u64, ids: &[&str]) -> Vec<Effect> {
    let mut out = Vec::new();
    let ids: Vec<Bytes> = ids.iter().map(|text| id(text)).collect();
    puller.request(now, &connection(from), nonce, &ids, |_| true, &mut out);
    out
}

#[test]
fn a_round_fetches_what_is_missing() {
    let mut puller = holding("initiator", &["5"]);
    assert_eq!(puller.deadline(), Some(at(4000)));
    let nonces = begin(&mut puller, &["a", "b"]);
    assert_eq!(puller.deadline(), Some(at(5000)));
    assert_eq!(
        digest(&mut puller, at(4100), "a", nonces[0], &["5", "6"]),
        []
    );
    let mut out = Vec::new();
    puller.tick(at(4999), &[], &mut out);
    assert_eq!(out, []);
    puller.tick(at(5000), &[], &mut out);
    check(&out, &["request to a:1: 6"]);
    assert_eq!(words(&out[0]).1, nonces[0]);
    assert_eq!(puller.deadline(), Some(at(7000)));
    assert_eq!(update(&mut puller, at(6999), "a", nonces[0], &["6"]), ["6"]);
    puller.tick(at(7000), &[], &mut out);
    assert_eq!(puller.deadline(), Some(at(8000)));
}

#[test]
fn when_all_have_answered_items_are_asked_for_at_once() {
    let mut puller = puller("initiator");
    let nonces = begin(&mut puller, &["a", "b"]);
    assert_eq!(digest(&mut puller, at(4010), "a", nonces[0], &["1"]), []);
    let out = digest(&mut puller, at(4020), "b", nonces[1], &["2"]);
    let mut got: Vec<String> = out.iter().map(|effect| words(effect).0).collect();
    got.sort();
    assert_eq!(got, ["request to a:1: 1", "request to b:1: 2"]);
}

#[test]
fn an_early_round_does_not_put_off_the_others_nor_end_one_that_awaits_items() {
    let mut puller = puller("a");
    let mut out = Vec::new();
    assert!(puller.begin_early(at(1_000), to("b"), &mut out));
    let [Effect::Send { envelope, .. }] = &out[..] else {
        panic!("one hello expected: {out:?}");
    };
    let message = envelope.clone().open().unwrap().into_parts().1;
    let Some(Content::Hello(hello)) = message.content else {
        panic!("a hello expected");
    };
    assert_eq!(puller.deadline(), Some(at(2_000)), "the end of its digests");
    let asked = digest(&mut puller, at(1_010), "b", hello.nonce, &["1"]);
    assert_eq!(asked.len(), 1);
    assert!(!puller.begin_early(at(1_020), to("c"), &mut Vec::new()));
    let items = update(&mut puller, at(1_030), "b", hello.nonce, &["1"]);
    assert_eq!(items.len(), 1);
    assert!(puller.begin_early(at(1_040), to("c"), &mut Vec::new()));
    assert!(puller.begins_round(at(4_000)) && !puller.begins_round(at(3_999)));
}

#[test]
fn who_has_just_what_it_may_have_is_told_so_in_no_words() {
    let mut puller = holding("responder", &["1", "2", "3"]);
    let ids = |of: &[&str]| of.iter().map(|text| id(text)).collect::<Vec<_>>();
    let mut told = |round: u64, has: &[&str]| {
        let known = Summary::of_names(round, ids(has).iter());
        let (mut out, asker) = (Vec::new(), connection("asker"));
        let allowed = |id: &[u8]| id != b"3";
        puller.hello(
            at(round * 4000),
            &asker,
            round,
            Some(&known),
            allowed,
            &mut out,
        );
        let [Effect::Reply { envelope, .. }] = out.as_slice() else {
            panic!("one reply expected: {out:?}");
        };
        match envelope.clone().open().unwrap().into_parts().1.content {
            Some(Content::DataDig(digest)) => digest.digests,
            other => panic!("a digest expected: {other:?}"),
        }
    };
    assert_eq!(told(1, &["1", "2"]), ids(&[]));
    assert_eq!(told(2, &["1"]), ids(&["1", "2"]));
    assert_eq!(told(3, &["1", "2", "3"]), ids(&["1", "2"]));
}

#[test]
fn a_hello_says_what_we_have() {
    let mut puller = holding("initiator", &["5", "6"]);
    let mut out = Vec::new();
    puller.tick(at(4000), &[to("a")], &mut out);
    let [Effect::Send { envelope, .. }] = out.as_slice() else {
        panic!("one hello expected: {out:?}");
    };
    let Some(Content::Hello(hello)) = envelope.clone().open().unwrap().into_parts().1.content
    else {
        panic!("a hello expected");
    };
    let known = Summary::from_wire(&hello.metadata).unwrap();
    assert!(known.is_of_names([id("5"), id("6")].iter()));
    assert!(!known.is_of_names([id("5")].iter()));
}

#[test]
fn an_item_that_two_have_is_asked_of_one() {
    let mut puller = puller("initiator");
    let nonces = begin(&mut puller, &["a", "b"]);
    digest(&mut puller, at(4010), "a", nonces[0], &["1"]);
    let out = digest(&mut puller, at(4020), "b", nonces[1], &["1"]);
    assert_eq!(out.len(), 1);
}

#[test]
fn only_wanted_items_are_asked_for() {
    let mut puller = puller("initiator");
    let nonces = begin(&mut puller, &["a"]);
    let mut out = Vec::new();
    let long = Bytes::from(vec![b'1'; ID_LEN_MAX + 1]);
    let ids = vec![id("1"), id("2"), long];
    puller.digest(
        at(4010),
        peer("a"),
        nonces[0],
        ids,
        |id| id != b"1",
        &mut out,
    );
    check(&out, &["request to a:1: 2"]);
}

#[test]
fn without_candidates_there_is_no_round() {
    let mut puller = puller("initiator");
    begin(&mut puller, &[]);
    assert_eq!(puller.deadline(), Some(at(8000)));
}

#[test]
fn no_more_peers_are_asked_than_configured() {
    let mut puller = puller("initiator");
    let candidates: Vec<Destination> = ["a", "b", "c", "d", "e"].map(to).into();
    let mut out = Vec::new();
    puller.tick(at(4000), &candidates, &mut out);
    assert_eq!(out.len(), Config::default().pull_peer_num);
}

#[test]
fn p_s2_digests_and_items_count_only_from_whom_was_asked_and_in_time() {
    let mut puller = puller("initiator");
    let nonces = begin(&mut puller, &["a", "b"]);
    // Unknown nonce, somebody else's nonce, a stranger.
    digest(&mut puller, at(4010), "a", nonces[0] ^ 1, &["1"]);
    digest(&mut puller, at(4010), "a", nonces[1], &["1"]);
    digest(&mut puller, at(4010), "c", nonces[0], &["1"]);
    // Too late.
    digest(&mut puller, at(5000), "a", nonces[0], &["1"]);
    let mut out = Vec::new();
    puller.tick(at(5000), &[], &mut out);
    assert_eq!(out, []);

    let mut puller = self::puller("initiator");
    let nonces = begin(&mut puller, &["a"]);
    // Before it was asked for.
    assert!(update(&mut puller, at(4010), "a", nonces[0], &["1"]).is_empty());
    digest(&mut puller, at(4020), "a", nonces[0], &["1", "2"]);
    assert!(update(&mut puller, at(4030), "a", nonces[0] ^ 1, &["1"]).is_empty());
    assert!(update(&mut puller, at(4030), "b", nonces[0], &["1"]).is_empty());
    assert_eq!(update(&mut puller, at(4030), "a", nonces[0], &["1"]), ["1"]);
    assert!(update(&mut puller, at(6020), "a", nonces[0], &["2"]).is_empty());
}

#[test]
fn p_s3_a_request_without_a_hello_shortly_before_is_ignored() {
    let mut puller = holding(RESPONDER, &["1", "2"]);
    assert_eq!(request(&mut puller, at(0), "a", 7, &["1"]), []);
    check(&hello(&mut puller, at(0), "a", 7), &["digest on 1: 1,2"]);
    assert_eq!(request(&mut puller, at(10), "a", 8, &["1"]), []);
    assert_eq!(request(&mut puller, at(10), "b", 7, &["1"]), []);
    assert_eq!(request(&mut puller, at(1500), "a", 7, &["1"]), []);
    check(
        &request(&mut puller, at(1499), "a", 7, &["1", "9"]),
        &["update on 1: 1"],
    );
}

#[test]
fn p_s3_a_hello_is_good_for_one_answer() {
    let mut puller = holding(RESPONDER, &["1", "2"]);
    hello(&mut puller, at(0), "a", 7);
    hello(&mut puller, at(0), "a", 8);
    assert_eq!(request(&mut puller, at(1), "a", 7, &["9"]), []);
    check(
        &request(&mut puller, at(1), "a", 7, &["1"]),
        &["update on 1: 1"],
    );
    assert_eq!(request(&mut puller, at(2), "a", 7, &["1"]), []);
    assert_eq!(request(&mut puller, at(2), "a", 7, &["2"]), []);
    check(
        &request(&mut puller, at(3), "a", 8, &["2"]),
        &["update on 1: 2"],
    );
}

#[test]
fn p_s4_what_may_not_be_known_is_neither_told_nor_given() {
    let mut puller = holding(RESPONDER, &["1", "2"]);
    let mut out = Vec::new();
    puller.hello(at(0), &connection("a"), 7, None, |id| id == b"2", &mut out);
    check(&out, &["digest on 1: 2"]);
    out.clear();
    let ids = [id("1"), id("2")];
    puller.request(at(1), &connection("a"), 7, &ids, |id| id == b"2", &mut out);
    check(&out, &["update on 1: 2"]);
}

#[test]
fn p_s5_what_was_not_asked_for_is_dropped() {
    let mut puller = puller("initiator");
    assert!(update(&mut puller, at(1), "a", 0, &["1"]).is_empty());
    let nonces = begin(&mut puller, &["a"]);
    digest(&mut puller, at(4010), "a", nonces[0], &["1"]);
    assert_eq!(
        update(&mut puller, at(4020), "a", nonces[0], &["1", "1", "2"]),
        ["1"]
    );
    assert!(update(&mut puller, at(4030), "a", nonces[0], &["1"]).is_empty());
}

#[test]
fn nothing_to_tell_is_told_by_silence() {
    let mut puller = puller(RESPONDER);
    assert_eq!(hello(&mut puller, at(0), "a", 7), []);
    assert_eq!(request(&mut puller, at(0), "a", 7, &["1"]), []);
    puller.add(id("1"), item("1"));
    puller.remove(b"1");
    assert_eq!(hello(&mut puller, at(0), "a", 8), []);
}

#[test]
fn no_more_rounds_of_one_peer_are_remembered_than_the_limit() {
    let mut puller = holding(RESPONDER, &["1"]);
    puller.times.requests = Duration::from_secs(60);
    let last = HELLOS_PER_PEER_MAX as u64;
    for nonce in 0..=last {
        hello(&mut puller, at(500 * nonce), "a", nonce);
    }
    let now = at(500 * last);
    assert_eq!(puller.hellos[&peer("a")].len(), HELLOS_PER_PEER_MAX);
    assert_eq!(request(&mut puller, now, "a", 0, &["1"]), []);
    check(
        &request(&mut puller, now, "a", 1, &["1"]),
        &["update on 1: 1"],
    );
    puller.tick(at(70_000), &[], &mut Vec::new());
    assert!(puller.hellos.is_empty());
}

#[test]
fn m_s3_who_says_hello_without_end_is_not_answered() {
    let mut puller = holding(RESPONDER, &["1"]);
    let answers = (0..10_000).filter(|ms| !hello(&mut puller, at(*ms), "a", *ms).is_empty());
    assert_eq!(answers.count(), 8 + 19);
    assert_eq!(hello(&mut puller, at(10_000), "b", 1).len(), 1);
}

#[test]
fn no_more_peers_are_remembered_than_the_limit() {
    let mut puller = holding(RESPONDER, &["1"]);
    for n in 0..HELLO_PEERS_MAX {
        assert_eq!(hello(&mut puller, at(0), &n.to_string(), 1).len(), 1);
    }
    assert_eq!(hello(&mut puller, at(1), "late", 1), []);
    assert_eq!(hello(&mut puller, at(1), "0", 2).len(), 1);
    assert_eq!(hello(&mut puller, at(1500), "late", 1).len(), 1);
}

#[test]
fn no_more_blocks_are_asked_of_a_peer_than_pass_the_gate_at_once() {
    let mut puller = puller("initiator");
    let nonces = begin(&mut puller, &["a"]);
    let names: Vec<String> = (0..=verify::BLOCKS_MAX).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let out = digest(&mut puller, at(4010), "a", nonces[0], &names);
    let [Effect::Send { envelope, .. }] = &out[..] else {
        panic!("expected one request");
    };
    let opened = envelope.clone().open().unwrap();
    let Some(Content::DataReq(request)) = &opened.message().content else {
        panic!("expected a request");
    };
    assert_eq!(request.digests.len(), verify::BLOCKS_MAX);
}

#[test]
fn an_answer_stays_below_what_may_wait_for_a_stream() {
    assert_eq!(UPDATE_LEN_MAX, 16 << 20, "half of SEND_QUEUE_BYTES_MAX");
    let mut puller = puller(RESPONDER);
    let big = Bytes::from(vec![0; UPDATE_LEN_MAX / 2]);
    for text in ["1", "2", "3"] {
        puller.add(id(text), Envelope::signed(big.clone(), Bytes::new()));
    }
    hello(&mut puller, at(0), "a", 7);
    let out = request(&mut puller, at(1), "a", 7, &["1", "2", "3"]);
    let [Effect::Reply { envelope, .. }] = &out[..] else {
        panic!("expected one answer");
    };
    let opened = envelope.clone().open().unwrap();
    let Some(Content::DataUpdate(update)) = &opened.message().content else {
        panic!("expected an update");
    };
    assert_eq!(update.data.len(), 1);
}
