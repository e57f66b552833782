//! Reaching dead members, bootstrap peers and anchor peers.

use super::*;

fn probes(out: &[Effect]) -> Vec<Ticket> {
    let tickets = out.iter().filter_map(|effect| match effect {
        Effect::Probe { ticket, .. } => Some(*ticket),
        _ => None,
    });
    tickets.collect()
}

fn identify(out: &[Effect]) -> Ticket {
    match out {
        [Effect::Identify { ticket, .. }] => *ticket,
        other => panic!("expected to identify, got {other:?}"),
    }
}

/// Whose time has come first, and what is done then.
fn next(stage: &mut Stage) -> (Moment, Vec<Effect>) {
    loop {
        let due = stage.node.deadline().unwrap();
        let out = stage.tick(due);
        if !out.is_empty() {
            return (due, out);
        }
    }
}

fn bootstrapped(endpoints: &[&str]) -> Stage {
    let config = Config {
        bootstrap: endpoints
            .iter()
            .map(|endpoint| (*endpoint).to_owned())
            .collect(),
        ..Config::default()
    };
    Stage::with("me-out:1", config)
}

fn identified(
    stage: &mut Stage,
    now: Moment,
    ticket: Ticket,
    peer: Result<&Arc<PeerIdentity>, &str>,
) -> Vec<Effect> {
    let peer = peer.map(Arc::clone).map_err(str::to_owned);
    stage.handle(now, Input::Identified { ticket, peer })
}

fn respond(stage: &mut Stage, now: Moment, from: &Arc<PeerIdentity>, nonce: u64) {
    let input = Input::MembershipResponse {
        from: from.pki_id,
        nonce,
        alive: Vec::new(),
        dead: Vec::new(),
    };
    assert_eq!(stage.handle(now, input), []);
}

#[test]
fn the_dead_are_knocked_at_and_asked_when_they_answer() {
    let mut stage = Stage::new();
    let p = a("p");
    stage.tick(at(0));
    stage.meet(&p, "", "p:1");
    stage.handle(at(1), Input::Unreachable(p.pki_id));
    assert_eq!(stage.tick(at(2)), []);
    // Soon after it was lost, as a failed write may have been an accident.
    let out = stage.tick(at(3));
    check(&out, &["probe p:1"]);
    let ticket = probes(&out)[0];
    let out = stage.handle(
        at(4),
        Input::Probed {
            ticket,
            answered: true,
        },
    );
    check(&out, &["MemReq to p:1"]);
    assert_eq!(request(&stage, &out[0]).0, 0);
    // Only once.
    assert_eq!(
        stage.handle(
            at(4),
            Input::Probed {
                ticket,
                answered: true
            }
        ),
        []
    );
    assert_eq!(stage.standing(&p), "dead");
}

#[test]
fn who_does_not_answer_is_knocked_at_again_after_a_while() {
    let mut stage = Stage::new();
    stage.tick(at(0));
    stage.meet(&a("p"), "", "p:1");
    stage.handle(at(0), Input::Unreachable(a("p").pki_id));
    let (first, out) = next(&mut stage);
    assert_eq!(first, at(2));
    let ticket = probes(&out)[0];
    assert_eq!(
        stage.handle(
            at(7),
            Input::Probed {
                ticket,
                answered: false
            }
        ),
        []
    );
    let (second, out) = next(&mut stage);
    check(&out, &["probe p:1"]);
    let pause = second.since(first);
    assert!(
        pause >= Duration::from_secs(25) && pause < Duration::from_secs(29),
        "{pause:?}"
    );
}

#[test]
fn a_member_that_came_back_by_itself_is_not_asked() {
    let mut stage = Stage::new();
    stage.tick(at(0));
    stage.meet(&a("p"), "", "p:1");
    stage.handle(at(0), Input::Unreachable(a("p").pki_id));
    let out = stage.tick(at(2));
    stage.gossip(at(3), seq(Speech::of(&a("p"), "", "p:1"), 2));
    let ticket = probes(&out)[0];
    assert_eq!(
        stage.handle(
            at(3),
            Input::Probed {
                ticket,
                answered: true
            }
        ),
        []
    );
}

#[test]
fn a_member_without_endpoint_cannot_be_knocked_at() {
    let mut stage = Stage::new();
    stage.tick(at(0));
    stage.meet(&a("p"), "", "");
    stage.handle(at(0), Input::Unreachable(a("p").pki_id));
    assert_eq!(stage.tick(at(2)), []);
}

#[test]
fn the_dead_are_knocked_at_a_few_at_a_time() {
    let mut stage = Stage::new();
    stage.tick(at(0));
    for n in 0..40 {
        stage.meet(&a(&n.to_string()), "", &format!("{n}:1"));
        stage.handle(at(0), Input::Unreachable(a(&n.to_string()).pki_id));
    }
    let mut waiting = probes(&stage.tick(at(2)));
    assert_eq!(waiting.len(), 16);
    let mut all = waiting.len();
    while let Some(ticket) = waiting.pop() {
        let out = stage.handle(
            at(3),
            Input::Probed {
                ticket,
                answered: false,
            },
        );
        all += probes(&out).len();
        waiting.extend(probes(&out));
        assert!(waiting.len() <= 16);
    }
    assert_eq!(all, 40);
}

#[test]
fn a_knock_that_is_never_reported_does_not_block_the_others() {
    let mut stage = Stage::new();
    stage.tick(at(0));
    for n in 0..17 {
        stage.meet(&a(&n.to_string()), "", &format!("{n}:1"));
        stage.handle(at(0), Input::Unreachable(a(&n.to_string()).pki_id));
    }
    assert_eq!(probes(&stage.tick(at(2))).len(), 16);
    assert_eq!(probes(&stage.tick(at(11))).len(), 0);
    assert_eq!(probes(&stage.tick(at(12))).len(), 1);
}

#[test]
fn a_bootstrap_peer_is_identified_and_asked() {
    let mut stage = bootstrapped(&["boot:1"]);
    let boot = a("boot");
    let out = stage.tick(at(0));
    check(&out, &["identify boot:1"]);
    let out = identified(&mut stage, at(1), identify(&out), Ok(&boot));
    check(&out, &["MemReq to boot:1"]);
    assert!(secrets(&out[0]));
    let (nonce, _) = request(&stage, &out[0]);
    assert_ne!(nonce, 0);
    // Neither another peer nor another nonce counts as the answer.
    respond(&mut stage, at(2), &a("other"), nonce);
    respond(&mut stage, at(2), &boot, nonce ^ 1);
    assert!(!stage.node.connects.due(at(6)).is_empty());
    respond(&mut stage, at(2), &boot, nonce);
    assert_eq!(stage.node.connects.deadline(), None);
}

/// The pause lasts so many seconds, with some jitter.
fn check_pause(from: Moment, to: Moment, secs: u64) {
    let (pause, least) = (to.since(from), Duration::from_secs(secs));
    assert!(pause >= least && pause <= least + least / 8, "{pause:?}");
}

#[test]
fn whoever_cannot_be_reached_is_tried_again_and_again() {
    let mut stage = bootstrapped(&["boot:1"]);
    let boot = a("boot");
    let out = stage.tick(at(0));
    let ticket = identify(&out);
    check(
        &identified(&mut stage, at(3), ticket, Err("refused")),
        &["warning"],
    );
    // A late report means nothing.
    assert_eq!(identified(&mut stage, at(3), ticket, Ok(&boot)), []);
    let (when, out) = next(&mut stage);
    check_pause(at(3), when, 1);
    // It is identified but does not answer: from the beginning.
    identified(&mut stage, when, identify(&out), Ok(&boot));
    let (answer_missed, out) = next(&mut stage);
    assert_eq!(answer_missed, when + Duration::from_secs(5));
    check(&out, &["warning"]);
    let (when, out) = next(&mut stage);
    check_pause(answer_missed, when, 2);
    // Nobody reports on the identification.
    identify(&out);
    let (missed, out) = next(&mut stage);
    assert_eq!(missed, when + Duration::from_secs(20));
    check(&out, &["warning"]);
    let (mut last, mut out) = next(&mut stage);
    check_pause(missed, last, 4);
    // Each pause is twice as long as the one before, up to the reconnect interval.
    for pause in [8, 16, 25, 25] {
        identified(&mut stage, last, identify(&out), Err("refused"));
        let before = last;
        (last, out) = next(&mut stage);
        check_pause(before, last, pause);
    }
}

/// What is told to the operator.
fn told(out: &[Effect]) -> Vec<&str> {
    let mut told = Vec::new();
    for effect in out {
        if let Effect::Notify(Notice::Warning(text) | Notice::Over(text)) = effect {
            told.push(text.as_str());
        }
    }
    told
}

#[test]
fn a_named_endpoint_that_is_not_reached_is_told_of_once_in_a_while_and_when_it_is() {
    let mut stage = bootstrapped(&["boot:1"]);
    let mut fails = |until: Moment, reason| {
        let mut all = Vec::new();
        loop {
            let (when, out) = next(&mut stage);
            let out = identified(&mut stage, when, identify(&out), Err(reason));
            all.extend(told(&out).into_iter().map(str::to_owned));
            if when >= until {
                return all;
            }
        }
    };
    let line = "bootstrap peer (peer.gossip.bootstrap) boot:1 is not reached: ";
    assert_eq!(fails(at(500), "no answer"), [format!("{line}no answer")]);
    let another = fails(at(510), "is another");
    assert!(
        another[0].starts_with(&format!("{line}is another (")),
        "{another:?}"
    );
    let again = fails(at(640), "no answer");
    assert!(
        again[0].ends_with(" attempts failed since this was told last)"),
        "{again:?}"
    );
    assert_eq!(again.len(), 1);

    let (when, out) = next(&mut stage);
    let out = identified(&mut stage, when, identify(&out), Ok(&a("boot")));
    let (nonce, _) = request(&stage, &out[0]);
    let answer = Input::MembershipResponse {
        from: a("boot").pki_id,
        nonce,
        alive: Vec::new(),
        dead: Vec::new(),
    };
    let out = stage.handle(when, answer);
    let after = Duration::from_secs(when.since_start().as_secs());
    let line = format!("bootstrap peer (peer.gossip.bootstrap) boot:1 is reached after {after:?}");
    assert_eq!(told(&out), [line]);
    assert_eq!(stage.node.connects.deadline(), None);
}

#[test]
fn of_an_anchor_the_channel_configuration_is_named() {
    let mut stage = Stage::new();
    anchors(&mut stage, "ch", &[("B", &["b:1"])]);
    let ticket = identify(&stage.tick(at(0)));
    let out = identified(&mut stage, at(1), ticket, Err("no answer"));
    let line = "anchor peer (of the channel configuration) b:1 is not reached: no answer";
    assert_eq!(told(&out), [line]);
}

#[test]
fn d_s11_a_foreign_peer_at_an_endpoint_of_our_own_is_not_connected() {
    let mut stage = bootstrapped(&["boot:1"]);
    let out = stage.tick(at(0));
    let out = identified(&mut stage, at(1), identify(&out), Ok(&b("foreign")));
    check(&out, &["refused: D-S11", "warning"]);
    let (_, out) = next(&mut stage);
    check(&out, &["identify boot:1"]);
}

#[test]
fn s_n13_an_anchor_of_our_own_that_is_foreign_is_not_connected() {
    let mut stage = Stage::new();
    anchors(&mut stage, "ch", &[("A", &["anchor:1"])]);
    let out = stage.tick(at(0));
    let out = identified(&mut stage, at(1), identify(&out), Ok(&b("foreign")));
    check(&out, &["refused: D-S11", "warning"]);
}

#[test]
fn our_own_endpoints_are_not_dialled() {
    let own = ["me:1", "me-out:1", "127.0.0.1:1", "localhost:1"];
    let mut stage = bootstrapped(&own);
    assert_eq!(stage.tick(at(0)), []);
    anchors(&mut stage, "ch", &[("A", &own), ("B", &own)]);
    assert_eq!(stage.tick(at(0)), []);
    // Another name of ours shows itself in the handshake.
    anchors(&mut stage, "ch", &[("A", &["alias:1", "127.0.0.1:2"])]);
    let out = stage.tick(at(0));
    check(&out, &["identify 127.0.0.1:2", "identify alias:1"]);
    let me = Arc::clone(&stage.me.identity);
    for effect in out {
        let Effect::Identify { ticket, .. } = effect else {
            panic!("expected to identify");
        };
        assert_eq!(identified(&mut stage, at(1), ticket, Ok(&me)), []);
    }
    assert_eq!(stage.node.connects.deadline(), None);
}

fn anchors(stage: &mut Stage, channel: &str, anchors: &[(&str, &[&str])]) {
    let anchors = anchors.iter().map(|(org, endpoints)| {
        let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned());
        (OrgId::from(*org), endpoints.collect())
    });
    let input = Input::Anchors {
        channel: channel.into(),
        anchors: anchors.collect(),
    };
    assert_eq!(stage.handle(at(0), input), []);
}

#[test]
fn anchors_of_all_organizations_are_contacted() {
    let mut stage = Stage::new();
    anchors(
        &mut stage,
        "ch",
        &[("A", &["a:1"]), ("B", &["b:1", ":1", "b:0", "b", "b:x"])],
    );
    let out = stage.tick(at(0));
    check(&out, &["identify a:1", "identify b:1"]);
    let Effect::Identify { ticket, .. } = out[1] else {
        panic!("expected to identify");
    };
    // A foreign anchor may turn out to be anybody.
    let out = identified(&mut stage, at(1), ticket, Ok(&toy::identity("C", "c")));
    check(&out, &["MemReq to b:1"]);
    assert!(!secrets(&out[0]));
}

#[test]
fn foreign_anchors_are_left_out_by_a_node_that_they_may_not_know() {
    let mut stage = Stage::with("", Config::default());
    anchors(&mut stage, "ch", &[("A", &["a:1"]), ("B", &["b:1"])]);
    check(&stage.tick(at(0)), &["identify a:1"]);
}

#[test]
fn anchors_that_are_named_no_more_are_not_tried_any_longer() {
    let mut stage = bootstrapped(&["boot:1"]);
    anchors(&mut stage, "one", &[("B", &["b:1", "c:1"])]);
    anchors(&mut stage, "two", &[("B", &["c:1", "d:1"])]);
    anchors(&mut stage, "one", &[("B", &["e:1"])]);
    let expect = [
        "identify boot:1",
        "identify c:1",
        "identify d:1",
        "identify e:1",
    ];
    check(&stage.tick(at(0)), &expect);
    anchors(&mut stage, "two", &[]);
    let waiting = |endpoint: &str| {
        let due = stage.node.connects.due(at(60));
        due.iter().any(|(target, _)| target.endpoint == endpoint)
    };
    assert!(waiting("boot:1") && waiting("e:1"));
    assert!(!waiting("c:1") && !waiting("d:1"));
}

#[test]
fn no_more_endpoints_are_tried_than_the_limit() {
    let mut stage = Stage::new();
    let endpoints = (0..1025).map(|n| format!("{n}:1")).collect();
    let input = Input::Anchors {
        channel: "ch".into(),
        anchors: BTreeMap::from([("B".into(), endpoints)]),
    };
    check(&stage.handle(at(0), input), &["warning"]);
    assert_eq!(stage.tick(at(0)).len(), 1024);
}

#[test]
fn one_that_comes_and_goes_does_not_hurry_the_knocking_at_others() {
    let mut stage = Stage::new();
    stage.meet(&a("gone"), "", "gone:1");
    stage.meet(&a("flaps"), "", "flaps:1");
    stage.handle(at(0), Input::Unreachable(a("gone").pki_id));
    let mut knocks = BTreeMap::new();
    for n in 1..20 {
        let flaps = Input::Unreachable(a("flaps").pki_id);
        stage.handle(at(n), flaps);
        for effect in stage.tick(at(n)) {
            if let Effect::Probe { ticket, endpoint } = effect {
                *knocks.entry(endpoint).or_insert(0) += 1;
                let answered = false;
                stage.handle(at(n), Input::Probed { ticket, answered });
            }
        }
        let back = seq(Speech::of(&a("flaps"), "", "flaps:1"), n + 1);
        stage.gossip(at(n), back);
    }
    // In the first round, and two seconds after it was lost.
    assert_eq!(knocks["gone:1"], 2);
}

#[test]
fn few_are_looked_for_out_of_turn() {
    let mut probes = Probes::new();
    for n in 0..2000 {
        probes.look_again(a(&n.to_string()).pki_id, at(2));
    }
    assert_eq!(probes.looks(at(1)), []);
    assert_eq!(probes.looks(at(2)).len(), 1024);
    assert_eq!(probes.looks(at(2)), []);
}

#[test]
fn a_named_endpoint_whose_peer_was_erased_is_reached_for_anew() {
    let mut stage = bootstrapped(&["boot:1"]);
    let ticket = identify(&stage.tick(at(0)));
    let out = identified(&mut stage, at(0), ticket, Ok(&a("boot")));
    let (nonce, _) = request(&stage, &out[0]);
    respond(&mut stage, at(0), &a("boot"), nonce);
    stage.meet(&a("boot"), "", "boot:1");
    stage.meet(&a("other"), "", "other:1");
    let anchors = BTreeMap::from([("B".into(), vec!["anchor:1".to_owned()])]);
    let channel = ChannelId::from("ch");
    stage.tick(at(0));
    stage.handle(at(0), Input::Anchors { channel, anchors });
    let ticket = identify(&stage.tick(at(0)));
    let out = identified(&mut stage, at(0), ticket, Ok(&b("anchor")));
    let (nonce, _) = request(&stage, &out[0]);
    respond(&mut stage, at(0), &b("anchor"), nonce);
    stage.meet(&b("anchor"), "anchor:1", "");
    assert_eq!(stage.node.connects.deadline(), None);
    stage.run(at(1));
    for (peer, endpoint) in [
        (a("other"), None),
        (a("boot"), Some("boot:1")),
        (b("anchor"), Some("anchor:1")),
    ] {
        stage.handle(at(1), Input::Purge(peer.pki_id));
        let out = stage.tick(at(1));
        let expect: Vec<String> = endpoint.iter().map(|e| format!("identify {e}")).collect();
        assert_eq!(words(&out), expect);
    }
}
