//! How members come, go and are forgotten.

use super::*;

#[test]
fn a_new_peer_is_learned_and_its_message_goes_on() {
    let mut stage = Stage::new();
    let alive = Speech::of(&a("p"), "p-out:1", "p:1").alive();
    let out = stage.gossip(at(3), alive.clone());
    let expect = [
        Effect::Notify(Notice::MemberAlive {
            peer: alive.peer,
            org: Some("A".into()),
            endpoint: "p:1".to_owned(),
        }),
        Effect::Gossip {
            alive: Box::new(alive.clone()),
            source: Some(courier()),
        },
    ];
    assert_eq!(out, expect);
    let member = Member {
        peer: alive.peer,
        org: alive.identity.org.clone(),
        endpoint: alive.endpoint,
        internal_endpoint: "p:1".to_owned(),
        metadata: alive.metadata,
        time: alive.time,
        period: None,
        envelope: alive.envelope,
        last_seen: at(3),
    };
    assert_eq!(stage.node.alive().collect::<Vec<_>>(), [&member]);
    assert_eq!(member.destination().endpoint, "p:1");
}

#[test]
fn d_s4_old_and_equal_messages_change_nothing_and_go_nowhere() {
    let mut stage = Stage::new();
    let p = a("p");
    stage.gossip(at(0), seq(Speech::of(&p, "", "p:1"), 5));
    for sequence in [5, 4, 0] {
        let out = stage.gossip(at(1), seq(Speech::of(&p, "", "other:1"), sequence));
        assert_eq!(out, []);
    }
    assert_eq!(
        stage.node.member(&p.pki_id).unwrap().preferred_endpoint(),
        "p:1"
    );
    let out = stage.gossip(at(1), seq(Speech::of(&p, "", "new:1"), 6));
    check(&out, &["gossip 6 from courier"]);
    assert_eq!(
        stage.node.member(&p.pki_id).unwrap().preferred_endpoint(),
        "new:1"
    );
}

#[test]
fn an_internal_endpoint_is_kept_when_the_secret_is_missing() {
    let mut stage = Stage::new();
    let p = a("p");
    stage.gossip(at(0), seq(Speech::of(&p, "p-out:1", "p:1"), 1));
    stage.gossip(at(1), seq(Speech::of(&p, "p-new:1", ""), 2));
    let member = stage.node.member(&p.pki_id).unwrap();
    let endpoints = (&member.endpoint[..], &member.internal_endpoint[..]);
    assert_eq!(endpoints, ("p-new:1", "p:1"));
}

#[test]
fn d_s5_nobody_else_speaks_about_us() {
    let mut stage = Stage::new();
    let me = Arc::clone(&stage.me.identity);
    // Our own message coming back, from inside and from outside.
    for internal in ["me:1", ""] {
        let echo = seq(Speech::of(&me, "me-out:1", internal), 1 << 40);
        assert_eq!(stage.gossip(at(0), echo.clone()), []);
        assert_eq!(stage.tell(at(0), vec![echo.clone()], vec![echo]), []);
    }
    let forged = seq(Speech::of(&me, "elsewhere:1", "me:1"), 1 << 40);
    let out = stage.gossip(at(0), forged.clone());
    check(&out, &["warning", "refused: D-S5"]);
    // Once is enough.
    assert_eq!(stage.gossip(at(0), forged.clone()), []);
    assert_eq!(stage.ask(at(0), 1, forged), []);
    assert_eq!(stage.node.member(&me.pki_id), None);
}

#[test]
fn d_s12_a_message_of_a_dropped_identity_is_refused() {
    let mut stage = Stage::new();
    let alive = Speech::of(&a("p"), "", "p:1").alive();
    let out = stage.gossip_unknown(at(0), alive.clone());
    check(&out, &["refused: D-S12"]);
    assert_eq!(stage.tell(at(0), vec![alive.clone()], vec![alive]), []);
    assert_eq!(stage.standing(&a("p")), "unknown");
}

#[test]
fn d_s12_a_member_whose_identity_is_dropped_is_erased() {
    let mut stage = Stage::new();
    let p = a("p");
    stage.meet(&p, "", "p:1");
    check(&stage.handle(at(1), Input::Purge(p.pki_id)), &["forgotten"]);
    assert_eq!(stage.standing(&p), "unknown");
    assert_eq!(stage.handle(at(1), Input::Purge(p.pki_id)), []);
    // What it said before is not news even now.
    assert_eq!(stage.gossip(at(2), Speech::of(&p, "", "p:1").alive()), []);
}

#[test]
fn d_s6_others_cannot_declare_a_member_dead() {
    let mut stage = Stage::new();
    let (p, stranger) = (a("p"), a("stranger"));
    stage.meet(&p, "", "p:1");
    stage.know(&stranger);
    let dead = [&p, &stranger].map(|peer| seq(Speech::of(peer, "", "x:1"), 9));
    assert_eq!(stage.tell(at(1), Vec::new(), dead.into()), []);
    assert_eq!(stage.standing(&p), "alive");
    assert_eq!(stage.standing(&stranger), "dead");
    // Dead already is not news either, and it comes back by its own word only.
    let out = stage.tell(
        at(2),
        vec![seq(Speech::of(&stranger, "", "x:1"), 9)],
        Vec::new(),
    );
    assert_eq!(out, []);
    let out = stage.tell(
        at(2),
        vec![seq(Speech::of(&stranger, "", "x:1"), 10)],
        Vec::new(),
    );
    check(&out, &["alive: x:1"]);
}

#[test]
fn what_a_response_tells_is_not_handed_on() {
    let mut stage = Stage::new();
    stage.know(&a("p"));
    let alive = Speech::of(&a("p"), "", "p:1").alive();
    check(
        &stage.tell(at(0), vec![alive.clone()], Vec::new()),
        &["alive: p:1"],
    );
    // When it comes by gossip it does go on, though it tells us nothing.
    check(&stage.gossip(at(0), alive), &["gossip 1 from courier"]);
}

#[test]
fn who_falls_silent_is_dead_and_its_connection_is_closed() {
    let mut stage = Stage::new();
    let p = a("p");
    stage.run(at(0));
    stage.gossip(at(0), seq(Speech::of(&p, "", "p:1"), 1));
    let dead: Vec<_> = stage
        .run(at(30))
        .into_iter()
        .filter(|(_, effect)| matches!(effect, Effect::Notify(_) | Effect::Close(_)))
        .collect();
    // The first check at which the silence is longer than 25 seconds.
    let when = Moment::after_start(Duration::from_millis(27_500));
    let notice = Effect::Notify(Notice::MemberDead(p.pki_id));
    assert_eq!(dead, [(when, notice), (when, Effect::Close(p.pki_id))]);
    assert_eq!(stage.standing(&p), "dead");
}

#[test]
fn an_unreachable_member_is_dead_until_it_says_something_new() {
    let mut stage = Stage::new();
    let p = a("p");
    stage.gossip(at(0), seq(Speech::of(&p, "", "p:1"), 3));
    check(
        &stage.handle(at(1), Input::Unreachable(p.pki_id)),
        &["dead", "close"],
    );
    assert_eq!(stage.handle(at(1), Input::Unreachable(p.pki_id)), []);
    assert_eq!(stage.handle(at(1), Input::Unreachable(a("q").pki_id)), []);
    assert_eq!(stage.gossip(at(2), seq(Speech::of(&p, "", "p:1"), 3)), []);
    assert_eq!(stage.standing(&p), "dead");
    let out = stage.gossip(at(2), seq(Speech::of(&p, "", "p:1"), 4));
    check(&out, &["alive: p:1", "gossip 4 from courier"]);
}

#[test]
fn a_restarted_peer_is_recognized_by_its_incarnation() {
    let mut stage = Stage::new();
    let p = a("p");
    stage.gossip(at(0), seq(Speech::of(&p, "", "p:1"), 900));
    let restarted = Speech::of(&p, "", "p:2").at(toy::time(2, 1)).alive();
    check(&stage.gossip(at(1), restarted), &["gossip 1 from courier"]);
    assert_eq!(stage.node.member(&p.pki_id).unwrap().time, toy::time(2, 1));
}

#[test]
fn the_dead_are_forgotten_unless_their_endpoint_was_named() {
    let config = Config {
        bootstrap: vec!["boot:1".to_owned()],
        ..Config::default()
    };
    let mut stage = Stage::with("me-out:1", config);
    let (lost, boot, anchor) = (a("lost"), a("boot"), b("anchor"));
    let named = BTreeMap::from([("B".into(), vec!["anchor:1".to_owned()])]);
    let channel = ChannelId::from("ch");
    let anchors = |anchors| Input::Anchors {
        channel: channel.clone(),
        anchors,
    };
    stage.handle(at(0), anchors(named));
    stage.meet(&lost, "", "lost:1");
    stage.meet(&boot, "", "boot:1");
    stage.meet(&anchor, "anchor:1", "");
    stage.run(at(499));
    let standings = |stage: &Stage| [&lost, &boot, &anchor].map(|peer| stage.standing(peer));
    assert_eq!(standings(&stage), ["dead", "dead", "dead"]);
    stage.run(at(505));
    assert_eq!(standings(&stage), ["unknown", "dead", "dead"]);
    // It is forgotten, but what it said is not.
    assert_eq!(
        stage.gossip(at(900), Speech::of(&lost, "", "lost:1").alive()),
        []
    );
    // When the channel is left nothing protects its anchors any more.
    stage.handle(at(900), anchors(BTreeMap::new()));
    stage.run(at(905));
    assert_eq!(standings(&stage), ["unknown", "dead", "unknown"]);
    stage.run(at(1100));
    let out = stage.gossip(at(1100), Speech::of(&lost, "", "lost:1").alive());
    check(&out, &["alive: lost:1", "gossip 1 from courier"]);
}

#[test]
fn no_more_members_are_known_than_the_limit() {
    let mut stage = Stage::new();
    for n in 0..MEMBERS_MAX - 1 {
        let alive = Speech::of(&a(&n.to_string()), "", "x:1").alive();
        stage.node.members.learn_dead(at(0), &alive);
    }
    stage.meet(&a("last"), "", "x:1");
    let out = stage.gossip(at(0), Speech::of(&a("late"), "", "x:1").alive());
    check(&out, &["refused: M-S3"]);
    let dead = vec![Speech::of(&a("late"), "", "x:1").alive()];
    assert_eq!(stage.tell(at(0), Vec::new(), dead), []);
    assert_eq!(stage.standing(&a("late")), "unknown");
    // Those who are known are still heard.
    check(
        &stage.gossip(at(0), seq(Speech::of(&a("last"), "", "x:1"), 2)),
        &["gossip 2 from courier"],
    );
}

#[test]
fn no_more_messages_are_remembered_than_the_limit() {
    let mut stage = Stage::new();
    stage.meet(&a("p"), "", "x:1");
    for n in 1..HEARD_MAX {
        let peer = a(&n.to_string()).pki_id;
        assert!(stage.node.heard.add(at(0), peer, toy::time(1, 1), ()));
    }
    let out = stage.gossip(at(0), Speech::of(&b("late"), "x:1", "").alive());
    check(&out, &["refused: M-S3"]);
    let out = stage.gossip(at(0), seq(Speech::of(&a("p"), "", "x:1"), 2));
    check(&out, &["gossip 2 from courier"]);
    stage.handle(at(0), Input::Purge(a("p").pki_id));
    assert_eq!(stage.node.heard.len(), HEARD_MAX);
}

#[test]
fn an_early_tick_changes_nothing() {
    let run = |ticks: u64| {
        let mut stage = Stage::new();
        stage.meet(&a("p"), "", "p:1");
        let mut all = Vec::new();
        for millis in 0..60_000 / ticks {
            let now = Moment::after_start(Duration::from_millis(millis * ticks));
            all.extend(stage.tick(now));
        }
        words(&all)
    };
    assert_eq!(run(500), run(100));
}
