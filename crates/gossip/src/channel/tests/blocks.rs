//! Blocks that go round.

use super::*;

#[test]
fn a_pushed_block_is_spread_and_handed_on_once() {
    // S-C6 is with the gate: a message in here holds a block that was verified.
    let mut t = Table::new();
    let spread = Effect::Emit(Outgoing {
        subject: Subject::Block("ch".into(), 5),
        envelope: block_envelope(5),
        source: Some(b().pki_id),
    });
    let news = Effect::Block {
        block: block(5),
        source: Source::Push,
    };
    assert_eq!(t.receive(&b(), pushed(5)), [spread, news]);
    assert_eq!(t.receive(&a(), pushed(5)), []);
    assert_eq!(t.feed(Input::Gossip(block(5))), []);
    t.feed(Input::CommitRefused(5));
    assert_eq!(t.receive(&a(), pushed(5)).len(), 2);
}

#[test]
fn what_the_ledger_has_is_no_news_after_a_restart() {
    let mut t = Table::new();
    t.feed(Input::Height(10));
    for number in [0, 1, 9] {
        assert_eq!(t.receive(&b(), pushed(number)), [], "{number}");
    }
    assert_eq!(t.channel.blocks_len(), 0);
    assert_eq!(t.receive(&b(), pushed(10)).len(), 2);
}

#[test]
fn as_many_blocks_are_remembered_as_the_ledger_may_wait_for() {
    let mut t = Table::new();
    for number in (2..=21).rev() {
        assert_eq!(t.receive(&a(), pushed(number)).len(), 2, "{number}");
    }
    assert_eq!(t.receive(&a(), pushed(1)).len(), 2, "overtaken by twenty");
    assert_eq!(t.receive(&a(), pushed(1)), []);
    assert_eq!(t.receive(&a(), pushed(22)).len(), 2);
    assert_eq!(t.receive(&a(), pushed(1)), [], "too old now");
}

#[test]
fn peers_of_fabric_are_told_of_eleven_blocks_and_our_own_of_all() {
    let mut t = Table::new();
    t.hears(&a(), 1);
    for number in 1..=21 {
        t.receive(&a(), pushed(number));
    }
    let mut told = |nonce: u64, known: Option<Summary>| -> Vec<Bytes> {
        let out = t.receive(&a(), pull(Pull::Hello { nonce, known }));
        let [Effect::Reply { envelope, .. }] = out.as_slice() else {
            panic!("{out:?}");
        };
        let message = envelope.clone().open().unwrap().message().clone();
        let Some(Content::DataDig(digest)) = message.content else {
            panic!("a digest expected");
        };
        digest.digests
    };
    let of_fabric = told(1, None);
    assert_eq!(of_fabric.len(), 11);
    assert!(of_fabric.contains(&"11".into()) && !of_fabric.contains(&"10".into()));
    assert_eq!(told(2, Some(Summary::of_names(7, [].iter()))).len(), 21);
}

#[test]
fn a_delivered_block_is_spread_unsigned() {
    let mut t = Table::new();
    let spread = Effect::Emit(Outgoing {
        subject: Subject::Block("ch".into(), 5),
        envelope: block_envelope(5),
        source: None,
    });
    assert_eq!(t.feed(Input::Gossip(block(5))), [spread]);
    assert_eq!(t.receive(&a(), pushed(5)), []);
}

#[test]
fn s_c7_blocks_are_pulled_by_own_members_only() {
    let mut t = Table::new();
    t.receive(&a(), pushed(5));
    t.hears(&b(), 1);
    let hello = || {
        pull(Pull::Hello {
            nonce: 1,
            known: None,
        })
    };
    assert_eq!(rules(&t.receive(&b(), hello())), ["S-C7"]);
    assert_eq!(rules(&t.receive(&a(), hello())), ["S-C7"]);
    t.hears(&a(), 1);
    let out = t.receive(&a(), hello());
    let [Effect::Reply { envelope, .. }] = out.as_slice() else {
        panic!("{out:?}");
    };
    let message = envelope.clone().open().unwrap().message().clone();
    let Some(Content::DataDig(digest)) = message.content else {
        panic!("a digest expected");
    };
    assert_eq!(digest.digests, [Bytes::from_static(b"5")]);
}

#[test]
fn blocks_are_pulled_from_our_height_on() {
    let mut t = Table::with(Config {
        request_state_info_interval: Duration::from_secs(3600),
        publish_state_info_interval: Duration::from_secs(3600),
        ..Config::default()
    });
    t.feed(Input::Height(10));
    t.hears(&a(), 20);
    t.hears(&b(), 20);
    let out = t.until(4000);
    let [Effect::Send { to, envelope }] = out.as_slice() else {
        panic!("a hello to the one own member expected: {out:?}");
    };
    assert_eq!(to.peer, a().pki_id);
    let Some(Content::Hello(hello)) = envelope.clone().open().unwrap().message().content.clone()
    else {
        panic!("a hello expected");
    };
    let nonce = hello.nonce;
    let names = [
        "9",
        "10",
        "29",
        "30",
        "+12",
        "0x0d",
        "",
        "99999999999999999999",
    ];
    let digests = names
        .iter()
        .map(|n| Bytes::from_static(n.as_bytes()))
        .collect();
    let out = t.receive(&a(), pull(Pull::Digest { nonce, digests }));
    let [Effect::Send { envelope, .. }] = out.as_slice() else {
        panic!("a request expected: {out:?}");
    };
    let Some(Content::DataReq(request)) =
        envelope.clone().open().unwrap().message().content.clone()
    else {
        panic!("a request expected");
    };
    let mut asked = request.digests;
    asked.sort();
    assert_eq!(
        asked,
        [Bytes::from_static(b"10"), Bytes::from_static(b"29")],
        "20 blocks fit into the buffer"
    );
    let items = vec![block_message(29), block_message(10)];
    let pulled = |number| Effect::Block {
        block: block(number),
        source: Source::Pull,
    };
    let out = t.receive(&a(), pull(Pull::Update { nonce, items }));
    assert_eq!(out, [pulled(10), pulled(29)], "not pushed on");
}

/// Nobody but A says anything, and nothing else falls due for an hour.
fn of_own_org_with_a() -> Table {
    let hour = Duration::from_secs(3600);
    let mut t = Table::with(Config {
        request_state_info_interval: hour,
        publish_state_info_interval: hour,
        pull_interval: hour,
        membership_tracker_interval: hour,
        ..Config::default()
    });
    t.feed(Input::Height(10));
    t.hears(&a(), 20);
    t
}

const NONE: [u64; 0] = [];

/// Nonces of the hellos among these.
fn hellos(out: &[Effect]) -> Vec<u64> {
    let hello = |effect: &Effect| match effect {
        Effect::Send { to, envelope } if to.peer == a().pki_id => {
            match envelope.clone().open().unwrap().into_parts().1.content {
                Some(Content::Hello(hello)) => Some(hello.nonce),
                _ => None,
            }
        }
        _ => None,
    };
    out.iter().filter_map(hello).collect()
}

#[test]
fn a_block_that_was_overtaken_is_pulled_from_whoever_brought_a_later_one() {
    let mut t = of_own_org_with_a();
    t.receive(&a(), pushed(10));
    assert_eq!(hellos(&t.until(50)), NONE, "nothing was overtaken");
    t.receive(&a(), pushed(12));
    assert_eq!(hellos(&t.until(59)), NONE);
    let out = t.until(60);
    let [nonce] = hellos(&out)[..] else {
        panic!("a hello expected: {out:?}");
    };
    let digests = vec![Bytes::from_static(b"11"), Bytes::from_static(b"12")];
    let out = t.receive(&a(), pull(Pull::Digest { nonce, digests }));
    assert_eq!(out.len(), 1, "a request at once: {out:?}");
    let items = vec![block_message(11)];
    let pulled = Effect::Block {
        block: block(11),
        source: Source::Pull,
    };
    assert_eq!(
        t.receive(&a(), pull(Pull::Update { nonce, items })),
        [pulled]
    );
    assert_eq!(hellos(&t.until(9_000)), NONE, "nothing is missing any more");
}

#[test]
fn what_nobody_gives_is_pulled_ever_more_rarely() {
    let mut t = of_own_org_with_a();
    t.receive(&a(), pushed(11));
    let mut times = Vec::new();
    for ms in 0..10_000 {
        times.extend(hellos(&t.until(ms)).iter().map(|_| ms));
    }
    assert_eq!(times, [10, 110, 310, 710, 1510, 3110, 6310, 9510]);
    t.feed(Input::Height(12));
    assert_eq!(hellos(&t.until(60_000)), NONE, "it came another way");
}

#[test]
fn a_block_that_comes_in_a_moment_is_not_pulled() {
    let mut t = of_own_org_with_a();
    t.receive(&a(), pushed(12));
    t.until(5);
    t.receive(&a(), pushed(11));
    t.until(9);
    t.receive(&a(), pushed(10));
    assert_eq!(hellos(&t.until(9_000)), NONE);
    t.receive(&a(), pushed(60));
    assert_eq!(
        hellos(&t.until(9_100)),
        NONE,
        "far ahead is for state transfer"
    );
}

#[test]
fn s_c8_items_that_nobody_asked_for_are_not_taken() {
    // That one bad element spoils an update is with the gate.
    let mut t = Table::new();
    t.hears(&a(), 1);
    let items = vec![block_message(5)];
    assert_eq!(t.receive(&a(), pull(Pull::Update { nonce: 1, items })), []);
    assert_eq!(t.receive(&a(), pushed(5)).len(), 2, "it was not even noted");
}

#[test]
fn what_found_no_room_is_handed_on_again_when_the_ledger_is_near() {
    let mut t = Table::new();
    let not_kept = |number| Input::NotKept {
        block: block(number),
        source: Source::Push,
    };
    let again = |number| Effect::Block {
        block: block(number),
        source: Source::Push,
    };
    for number in [25, 26, 27, 28] {
        t.receive(&a(), pushed(number));
        assert_eq!(t.feed(not_kept(number)), []);
    }
    assert_eq!(t.receive(&b(), pushed(25)), [], "not spread once more");
    t.feed(Input::CommitRefused(26));
    assert_eq!(t.feed(Input::Height(5)), []);
    assert_eq!(t.feed(Input::Height(6)), [again(25)]);
    assert_eq!(t.feed(Input::Height(7)), [], "once");
    assert_eq!(t.feed(Input::Height(28)), [again(28)], "27 is old by now");

    // What does not go round any more is not kept for later.
    t.receive(&a(), pushed(60));
    t.feed(not_kept(60));
    t.receive(&a(), pushed(81));
    t.feed(not_kept(60));
    assert_eq!(t.feed(Input::Height(50)), []);
}
