//! Channels are joined, configured anew and left.

use super::*;

#[test]
fn s_v1_a_configuration_without_our_organization_changes_nothing() {
    let mut t = Table::new(follower());
    t.join("ch", join(1, &["A", "B"]));
    warned("S-V1", &t.join("ch", join(2, &["C"])));
    let (still, never) = (t.meet("B", "b"), t.meet("C", "c"));
    assert_eq!(t.say(&still, &still, "ch"), [], "B is still in");
    refused(&never, "S-C3", &t.say(&never, &never, "ch"));
}

#[test]
fn s_v1_where_we_are_not_named_yet_we_know_nobody_and_ask_the_orderers_alone() {
    let mut t = Table::new(leader());
    warned("S-V1", &t.join("ch", join(1, &["B", "C"])));
    assert!(t.node.is_leading(&"ch".into()));
    let (foreign, own) = (t.meet("B", "b"), t.meet("A", "a"));
    refused(&foreign, "S-C3", &t.say(&foreign, &foreign, "ch"));
    refused(&own, "S-C3", &t.say(&own, &own, "ch"));
    warned("S-V1", &t.join("ch", join(2, &["B"])));
    t.join("ch", join(3, &["A", "B"]));
    assert_eq!(t.say(&foreign, &foreign, "ch"), []);
    assert_eq!(t.node.channel_peers(&"ch".into()).len(), 1);
}

#[test]
fn s_c12_a_configuration_that_is_ignored_does_nothing_at_all() {
    let mut t = Table::in_channel(leader());
    let anchor = |sequence| {
        let mut join = join(sequence, &["A", "B"]);
        join.members.insert("A".into(), vec!["anchor:1".to_owned()]);
        join
    };
    t.join("ch", anchor(5));
    let identifies = |out: Vec<Effect>| {
        let endpoint = "anchor:1";
        let is = |e: &Effect| matches!(e, Effect::Identify { endpoint: e, .. } if e == endpoint);
        out.iter().filter(|effect| is(effect)).count()
    };
    for ignored in [join(6, &[]), join(4, &["A", "B"])] {
        warned("S-C12", &t.join("ch", ignored));
    }
    assert_eq!(identifies(t.tick(at(10))), 1, "the anchors stay");
    t.feed(Input::Leave("ch".into()));
    for ignored in [join(6, &[]), anchor(4)] {
        warned("S-C12", &t.join("ch", ignored));
        assert!(!t.node.is_leading(&"ch".into()));
    }
    assert_eq!(identifies(t.tick(at(20))), 0, "nor do they come back");
    t.join("ch", anchor(5));
    assert!(t.node.is_leading(&"ch".into()));
    assert_eq!(identifies(t.tick(at(30))), 1);
}

#[test]
fn s_v1_who_comes_back_before_it_is_named_pulls_blocks_all_the_same() {
    let mut t = Table::in_channel(leader());
    t.feed(Input::Leave("ch".into()));
    assert!(!t.node.is_leading(&"ch".into()));
    warned("S-V1", &t.join("ch", join(5, &["B"])));
    assert!(t.node.is_leading(&"ch".into()));
}

#[test]
fn s_v2_two_ways_to_lead_exclude_each_other() {
    let mut t = Table::new(Config {
        org_leader: true,
        use_leader_election: true,
        ..Config::default()
    });
    warned("S-V2", &t.join("ch", join(1, &["A"])));
    assert_eq!(t.node.channels().count(), 0);
}

#[test]
fn a_new_channel_needs_members_and_there_are_only_so_many() {
    let mut t = Table::new(follower());
    warned("S-C12", &t.join("ch", join(1, &[])));
    for number in 0..CHANNELS_MAX {
        assert_eq!(t.join(&format!("ch{number}"), join(1, &["A"])), []);
    }
    warned("at most 1000", &t.join("ch", join(1, &["A"])));
    assert_eq!(
        t.join("ch7", join(2, &["A", "B"])),
        [],
        "one that we are in"
    );
}

#[test]
fn inputs_about_channels_that_were_not_joined_are_dropped_with_a_warning() {
    let mut t = Table::new(leader());
    let channel = || ChannelId::from("ch");
    for input in [
        Input::Leave(channel()),
        Input::Chaincodes {
            channel: channel(),
            chaincodes: vec![],
        },
        Input::Committed {
            channel: channel(),
            height: 5,
        },
        Input::CommitRefused {
            channel: channel(),
            number: 5,
        },
        Input::Delivery {
            channel: channel(),
            event: first_block(),
        },
    ] {
        warned("was not joined", &t.feed(input));
    }
}

#[test]
fn a_channel_that_was_left_can_be_joined_again() {
    let mut t = Table::in_channel(leader());
    let a = t.meet("A", "a");
    t.say(&a, &a, "ch");
    assert_eq!(t.node.channel_peers(&"ch".into()).len(), 1);
    t.feed(Input::Leave("ch".into()));
    assert_eq!(t.node.channel_peers(&"ch".into()).len(), 0);
    assert!(!t.node.is_leading(&"ch".into()));
    t.join("ch", join(1, &["A", "B"]));
    assert_eq!(t.node.channel_peers(&"ch".into()).len(), 1);
    assert!(t.node.is_leading(&"ch".into()));
}

#[test]
fn who_left_takes_nothing_and_gives_nothing_until_it_joins_again_at_its_ledgers_height() {
    let mut t = Table::in_channel(leader());
    let ch = || ChannelId::from("ch");
    let deliver = |event| Input::Delivery {
        channel: ch(),
        event,
    };
    let a = t.meet("A", "a");
    t.say(&a, &a, "ch");
    t.feed(deliver(delivery::Event::Endpoints(vec!["o:1".into()])));
    let delivered = t.feed(deliver(first_block()));
    let commits = |out: &[Effect]| out.iter().any(|e| matches!(e, Effect::Commit { .. }));
    assert!(commits(&delivered));

    let out = t.feed(Input::Leave(ch()));
    let disconnect = Effect::Deliver {
        channel: ch(),
        command: delivery::Command::Disconnect,
    };
    assert_eq!(out, [disconnect]);
    assert!(t.node.own_state_info(&ch()).unwrap().left_channel);
    assert_eq!(t.feed(deliver(first_block())), []);
    let pushed = Message::Block {
        channel: ch(),
        block: block_message(1),
    };
    assert!(!commits(&t.receive(&a, pushed.clone())));
    let request = Message::StateRequest {
        channel: ch(),
        nonce: 1,
        start: 0,
        end: 0,
    };
    refused(&a, "S-N6", &t.receive(&a, request));
    // The answer to what was on its way to the ledger when we left.
    let refusal = Input::CommitRefused {
        channel: ch(),
        number: 1,
    };
    assert_eq!(t.feed(refusal), []);

    let out = t.join("ch", join(1, &["A", "B"]));
    let connect = Effect::Deliver {
        channel: ch(),
        command: delivery::Command::Connect {
            stream: StreamId(2),
            endpoint: "o:1".to_owned(),
            start: 1,
            after: Duration::ZERO,
        },
    };
    assert_eq!(out, [connect], "what was not committed comes again");
    assert!(commits(&t.receive(&a, pushed)));
}
