//! What we say about ourselves.

use prost::Message as _;

use super::*;

#[test]
fn g_c1_and_g_c2_we_speak_in_nanoseconds_and_only_when_something_changed() {
    let mut t = Table::new();
    t.scene.know("A", "a");
    let start = toy::START * 1_000_000_000;
    let life = t.scene.me.incarnation_ns;
    assert!(life > start, "the clock was ahead in an earlier life");
    let quiet = |out: Vec<Effect>| {
        out.into_iter()
            .filter(|e| matches!(e, Effect::Emit(_)))
            .collect::<Vec<_>>()
    };
    assert_eq!(quiet(t.until(5000)), [], "no height was announced");
    t.feed(Input::Height(1));
    let out = quiet(t.until(5000));
    let first = toy::time(life, start + 5_000_000_000);
    assert_eq!(published(&out), [(first, 1, false)]);
    t.feed(Input::Height(2));
    t.feed(Input::Height(3));
    t.feed(Input::Height(3));
    assert_eq!(quiet(t.until(8999)), [], "no more often than the interval");
    let out = quiet(t.until(9000));
    let second = toy::time(life, start + 5_000_000_001);
    assert_eq!(
        published(&out),
        [(toy::time(life, second.sequence + 1), 3, false)]
    );
    assert_eq!(quiet(t.until(60_000)), []);
}

#[test]
fn the_first_peer_hears_of_us_soon() {
    let mut t = Table::new();
    let mut lonely = Scene::new(Config::default());
    std::mem::swap(&mut t.scene, &mut lonely);
    t.feed(Input::Height(7));
    assert_eq!(t.until(20_500), [], "nobody is there");
    t.scene.meet("A", "a");
    let out = t.until(21_500);
    assert_eq!(
        out.iter().filter(|e| matches!(e, Effect::Emit(_))).count(),
        1
    );
    assert_eq!(sends(&out), 1, "and is asked for state infos");
}

#[test]
fn chaincodes_are_published_at_once() {
    let mut t = Table::new();
    let chaincodes = vec![Chaincode {
        name: "cc".to_owned(),
        version: "1".to_owned(),
        metadata: Bytes::new(),
    }];
    let out = t.feed(Input::Chaincodes(chaincodes.clone()));
    assert_eq!(published(&out).len(), 1);
    assert_eq!(t.channel.own_state_info().unwrap().chaincodes, chaincodes);
    assert_eq!(t.feed(Input::Chaincodes(chaincodes)), []);
}

#[test]
fn who_left_says_so_takes_no_part_and_may_come_back() {
    let mut t = Table::new();
    t.hears(&a(), 5);
    t.feed(Input::Height(4));
    t.until(4000);
    let before = t.channel.own_state_info().unwrap().time;
    let out = t.feed(Input::Leave);
    let [(time, 4, true)] = published(&out)[..] else {
        panic!("{out:?}");
    };
    assert!(time > before);
    assert_eq!(t.feed(Input::Leave), []);
    assert_eq!(t.peers(), []);
    assert!(t.channel.has_left());
    assert_eq!(
        t.receive(
            &a(),
            pull(Pull::Hello {
                nonce: 1,
                known: None
            })
        ),
        []
    );
    assert_eq!(t.until(30_000), [], "asks nobody for anything");
    assert_eq!(t.snapshot(&a()).len(), 2, "still answers");
    assert_eq!(
        t.receive(&a(), pushed(4)).len(),
        2,
        "still passes blocks on"
    );

    assert_eq!(t.feed(Input::Configure(join(1, &["A", "B"]))), []);
    assert_eq!(t.peers(), [a().pki_id]);
    let out = t.until(30_000);
    let [(back, 4, false)] = published(&out)[..] else {
        panic!("{out:?}");
    };
    assert_eq!(back.incarnation, time.incarnation + 1);
}

#[test]
fn who_has_blocks_from_an_orderer_first_says_so_until_they_come_another_way() {
    let other_ways = [
        ("pushed", None),
        ("by stripes", Some(Input::Striped(block(6)))),
        ("transferred", Some(Input::Height(7))),
        ("none at all", Some(Input::NotSupplied)),
    ];
    for (name, other_way) in other_ways {
        let mut t = Table::new();
        t.feed(Input::Height(5));
        t.until(4000);
        assert!(!says_supplied(&t), "{name}");
        t.feed(Input::Gossip(block(5)));
        t.feed(Input::Height(6));
        t.until(8000);
        assert!(says_supplied(&t), "{name}");
        t.receive(&a(), pushed(5));
        t.feed(Input::Chaincodes(vec![Chaincode::default()]));
        assert!(says_supplied(&t), "{name}: it was here before");
        match other_way {
            Some(input) => t.feed(input),
            None => t.receive(&a(), pushed(6)),
        };
        t.until(12_000);
        assert!(!says_supplied(&t), "{name}");
    }
}

#[test]
fn who_keeps_to_no_order_says_nothing_of_where_blocks_come_from() {
    let mut t = Table::with(Config {
        propagate_iterations: 2,
        ..Config::default()
    });
    t.feed(Input::Gossip(block(5)));
    t.feed(Input::Height(6));
    t.until(8000);
    assert!(t.channel.own_state_info().is_some() && !says_supplied(&t));
}

fn says_supplied(t: &Table) -> bool {
    let info = t.channel.own_state_info().unwrap();
    let message = info.envelope.clone().open().unwrap().message().clone();
    let Some(Content::StateInfo(said)) = message.content else {
        panic!("a state info expected");
    };
    let said = said.properties.unwrap().extension;
    let said = tidings_proto::gossip::Extension::decode(said).unwrap();
    assert_eq!(said.supplied, info.extension.supplied);
    said.supplied
}
