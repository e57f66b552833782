//! What we say about ourselves and whom we tell of whom.

use super::*;

#[test]
fn alive_messages_flow_only_while_somebody_is_there() {
    let mut stage = Stage::new();
    let said = |out: Vec<(Moment, Effect)>| -> Vec<(Moment, Alive)> {
        let own = out.into_iter().filter_map(|(when, effect)| match effect {
            Effect::Gossip {
                alive,
                source: None,
            } => Some((when, *alive)),
            _ => None,
        });
        own.collect()
    };
    assert!(said(stage.run(at(12))).is_empty());
    stage.gossip(at(12), Speech::of(&a("p"), "", "p:1").alive());
    let alive = said(stage.run(at(26)));
    let times: Vec<Moment> = alive.iter().map(|(when, _)| *when).collect();
    assert_eq!(times, [at(12), at(17), at(22)], "at once, then as ever");
    let sequences = alive.iter().map(|(_, alive)| alive.time.sequence);
    assert!(
        sequences
            .clone()
            .zip(sequences.skip(1))
            .all(|(one, next)| one < next)
    );
    for (_, alive) in alive {
        assert_eq!(alive.time.incarnation, stage.me.incarnation_ns);
        assert_eq!(alive.endpoint, "me-out:1");
        assert_eq!(alive.internal_endpoint.as_deref(), Some("me:1"));
        // It passes anybody's gate, and reads there as it does here.
        let own = &stage.me.identity;
        let connection = toy::connection(1, own);
        let verifier = ToyVerifier::knowing(&[own]);
        let message = verify::verify(&connection, alive.envelope.clone(), &verifier).unwrap();
        assert_eq!(message.into_inner(), crate::Message::Alive(Box::new(alive)));
    }
}

#[test]
fn the_identity_is_embedded_at_first_only() {
    let embeds = |alive: &Alive| match open(&alive.envelope).content {
        Some(Content::AliveMsg(alive)) => !alive.identity.is_empty(),
        other => panic!("expected an alive message, got {other:?}"),
    };
    let mut stage = Stage::new();
    stage.gossip(at(0), Speech::of(&a("p"), "", "p:1").alive());
    let gossiped: Vec<(Moment, bool)> = stage
        .run(at(16))
        .into_iter()
        .filter_map(|(when, effect)| match effect {
            Effect::Gossip { alive, .. } => Some((when, embeds(&alive))),
            _ => None,
        })
        .collect();
    let expect = [
        (at(0), true),
        (at(5), true),
        (at(10), false),
        (at(15), false),
    ];
    assert_eq!(gossiped, expect);
}

#[test]
fn a_few_members_are_asked_whom_they_know() {
    let mut stage = Stage::new();
    for n in 0..6 {
        stage.meet(&a(&format!("p{n}")), "", &format!("p{n}:1"));
    }
    stage.run(at(3));
    let out = stage.tick(at(4));
    assert_eq!(out.len(), 3);
    let mut endpoints = words(&out);
    endpoints.sort();
    endpoints.dedup();
    assert_eq!(endpoints.len(), 3);
    for effect in &out {
        let (nonce, about) = request(&stage, effect);
        assert_eq!((nonce, about.peer), (0, stage.me.identity.pki_id));
        assert_eq!(about.time.sequence, 5, "each word is later than the last");
    }
    assert_eq!(words(&stage.tick(at(7))), ["gossip 6 from us"]);
    assert_eq!(stage.tick(at(8)).len(), 3);
}

#[test]
fn d_s7_requests_to_other_organizations_carry_no_secret() {
    let mut stage = Stage::new();
    stage.meet(&a("ours"), "", "ours:1");
    stage.meet(&b("theirs"), "theirs:1", "");
    stage.run(at(3));
    let out = stage.tick(at(4));
    let mut carried: Vec<(String, bool)> = words(&out)
        .into_iter()
        .zip(out.iter().map(secrets))
        .collect();
    carried.sort();
    let expect = [
        ("MemReq to ours:1".to_owned(), true),
        ("MemReq to theirs:1".to_owned(), false),
    ];
    assert_eq!(carried, expect);
}

/// Members of three organizations, with and without external endpoint, alive and dead.
fn crowd(stage: &mut Stage) -> Vec<(String, Envelope)> {
    let mut all = Vec::new();
    for org in ["A", "B", "C"] {
        for external in ["out:1", ""] {
            for standing in ["alive", "dead"] {
                let name = format!("{org}{external}{standing}");
                let peer = toy::identity(org, &name);
                let alive = Speech::of(&peer, external, "in:1").alive();
                all.push((name, alive.envelope.clone()));
                stage.gossip(at(0), alive);
                if standing == "dead" {
                    stage.handle(at(0), Input::Unreachable(peer.pki_id));
                }
            }
        }
    }
    all
}

/// Asks, and returns who was told of, alive and dead, and whether secrets were among it.
fn told(stage: &mut Stage, about: Alive) -> (Vec<String>, Vec<String>, bool) {
    let all = crowd(stage);
    stage.know(&about.identity);
    let requester = about.envelope.payload.clone();
    let out = stage.ask(at(1), 42, about);
    let (nonce, response) = response(&out);
    assert_eq!(nonce, 42);
    let own = stage.me.identity.pki_id;
    let lists = [&response.alive, &response.dead];
    let any_secret = lists
        .iter()
        .flat_map(|list| list.iter())
        .any(|envelope| envelope.secret_envelope.is_some());
    let [alive, dead] = lists.map(|list| {
        let name = |envelope: &Envelope| {
            let known = all.iter().find(|(_, of)| of.payload == envelope.payload);
            match known {
                Some((name, of)) => {
                    assert_eq!(of.signature, envelope.signature);
                    name.clone()
                }
                None if envelope.payload == requester => "requester".to_owned(),
                None => match open(envelope).content {
                    Some(Content::AliveMsg(alive))
                        if alive.membership.as_ref().unwrap().pki_id == own.as_bytes() =>
                    {
                        "me".to_owned()
                    }
                    other => panic!("unexpected {other:?}"),
                },
            }
        };
        let mut names: Vec<String> = list.iter().map(name).collect();
        names.sort();
        names
    });
    (alive, dead, any_secret)
}

#[test]
fn our_organization_is_told_of_its_own_members_with_secrets() {
    let about = Speech::of(&a("asker"), "", "asker:1").alive();
    let (alive, dead, secrets) = told(&mut Stage::new(), about);
    assert_eq!(alive, ["Aalive", "Aout:1alive", "me", "requester"]);
    assert_eq!(dead, ["Adead", "Aout:1dead"]);
    assert!(secrets);
}

#[test]
fn d_s8_other_organizations_are_told_of_theirs_and_of_whom_they_can_reach() {
    let about = Speech::of(&b("asker"), "asker:1", "").alive();
    let (alive, dead, secrets) = told(&mut Stage::new(), about);
    assert_eq!(
        alive,
        ["Aout:1alive", "Balive", "Bout:1alive", "me", "requester"]
    );
    assert_eq!(dead, ["Aout:1dead", "Bdead", "Bout:1dead"]);
    // D-S7: internal endpoints never leave the organization.
    assert!(!secrets);
}

#[test]
fn d_s9_a_requester_whose_organization_is_unknown_gets_nothing() {
    let mut stage = Stage::new();
    crowd(&mut stage);
    let about = Speech::of(&a("dropped"), "x:1", "x:1").alive();
    check(&stage.ask(at(1), 1, about), &["refused: D-S10", "close"]);
    assert_eq!(stage.standing(&a("dropped")), "unknown");
}

#[test]
fn d_s10_without_external_endpoints_there_is_no_answer_across_organizations() {
    for (ours, theirs, answered) in [
        ("me-out:1", "x:1", true),
        ("", "x:1", false),
        ("me-out:1", "", false),
        ("", "", false),
    ] {
        let mut stage = Stage::with(ours, Config::default());
        let peer = b("asker");
        stage.know(&peer);
        let out = stage.ask(at(0), 1, Speech::of(&peer, theirs, "").alive());
        if answered {
            check(&out, &["alive: x:1", "MemRes to x:1"]);
        } else {
            let learned = format!("alive: {theirs}");
            check(&out, &[&learned, "refused: D-S10", "close"]);
        }
    }
}

#[test]
fn a_request_is_answered_where_the_requester_can_be_reached() {
    let mut stage = Stage::new();
    stage.know(&a("p"));
    let out = stage.ask(at(0), 1, Speech::of(&a("p"), "p-out:1", "p:1").alive());
    check(&out, &["alive: p:1", "MemRes to p:1"]);
    // A stale request, as the reference repeats them, is answered too.
    let out = stage.ask(at(1), 2, Speech::of(&a("p"), "p-out:1", "").alive());
    check(&out, &["MemRes to p-out:1"]);
    assert_eq!(response(&out).0, 2);
}

#[test]
fn what_we_tell_of_ourselves_is_never_old_news() {
    let mut stage = Stage::new();
    stage.know(&a("p"));
    let own_time = |out: &[Effect]| {
        let (_, response) = response(out);
        let own = response.alive.last().unwrap();
        match open(own).content {
            Some(Content::AliveMsg(alive)) => alive.timestamp.unwrap().seq_num,
            other => panic!("expected an alive message, got {other:?}"),
        }
    };
    let ask = |stage: &mut Stage, now| {
        let about = Speech::of(&a("p"), "", "p:1").alive();
        own_time(&stage.ask(now, 1, about))
    };
    let first = ask(&mut stage, at(0));
    let second = ask(&mut stage, at(1));
    assert!(first < second);
    stage.run(at(5));
    let gossiped = stage.node.voice.recent(
        at(5),
        Duration::MAX,
        Duration::ZERO,
        &stage.me,
        &stage.ports,
    );
    // Shortly after it was gossiped the same message does; later it does not.
    assert_eq!(ask(&mut stage, at(6)), gossiped.time.sequence);
    stage.handle(at(6), Input::Unreachable(a("p").pki_id));
    assert!(ask(&mut stage, at(60)) > gossiped.time.sequence);
}

#[test]
fn m_s3_who_asks_without_end_is_heard_but_not_answered() {
    let mut stage = Stage::new();
    stage.know(&a("p"));
    let about = |n| seq(Speech::of(&a("p"), "", "p:1"), n);
    check(
        &stage.ask(at(0), 1, about(1)),
        &["alive: p:1", "MemRes to p:1"],
    );
    for nonce in 2..=16 {
        check(&stage.ask(at(0), nonce, about(nonce)), &["MemRes to p:1"]);
    }
    check(&stage.ask(at(0), 17, about(17)), &["refused: M-S3"]);
    assert_eq!(
        stage.node.member(&a("p").pki_id).unwrap().time,
        toy::time(1, 17)
    );
    stage.know(&a("q"));
    let other = Speech::of(&a("q"), "", "q:1").alive();
    check(
        &stage.ask(at(0), 1, other),
        &["alive: q:1", "MemRes to q:1"],
    );
    check(&stage.ask(at(1), 18, about(18)), &["MemRes to p:1"]);
}

#[test]
fn m_s3_an_answer_has_its_size_and_always_names_us() {
    use super::super::dialogue::RESPONSE_BYTES_MAX;
    let mut stage = Stage::new();
    let big = Bytes::from(vec![1; RESPONSE_BYTES_MAX / 16]);
    for n in 0..20 {
        let mut alive = Speech::of(&a(&format!("p{n}")), "", "p:1").alive();
        alive.envelope.payload = big.clone();
        stage.gossip(at(0), alive);
    }
    let about = Speech::of(&a("p0"), "", "p:1").alive();
    let (_, first) = response(&stage.ask(at(0), 1, about.clone()));
    let sizes = first.alive.iter().map(Envelope::wire_len);
    assert!(sizes.sum::<usize>() <= RESPONSE_BYTES_MAX);
    assert_eq!(first.alive.len(), 15 + 1);
    let own = open(first.alive.last().unwrap());
    assert!(matches!(own.content, Some(Content::AliveMsg(_))));
    // The dead get what is left.
    for n in 0..10 {
        stage.handle(at(1), Input::Unreachable(a(&format!("p{n}")).pki_id));
    }
    let (_, second) = response(&stage.ask(at(1), 2, about));
    assert_eq!((second.alive.len(), second.dead.len()), (10 + 1, 5));
}
