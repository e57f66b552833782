//! State infos are asked for, and answered in snapshots.

use super::*;

#[test]
fn s_c10_bad_elements_of_a_snapshot_are_left_out() {
    let mut t = Table::new();
    let dead_letter = toy::identity("A", "nobody");
    t.scene.ports.outsiders.insert(a().pki_id);
    let out = t.receive(
        &b(),
        snapshot_message(vec![
            state_info(&c(), "ch", 1, 1),
            state_info(&a(), "ch", 1, 1),
            state_info(&dead_letter, "ch", 1, 1),
            state_info(&b(), "other", 1, 1),
            state_info(&b(), "ch", 1, 1),
        ]),
    );
    assert_eq!(rules(&out), ["S-C10"]);
    assert_eq!(t.peers(), [b().pki_id], "what follows a bad one is taken");
    for peer in [c(), a(), dead_letter] {
        assert_eq!(t.channel.state_info(&peer.pki_id), None);
    }
}

#[test]
fn s_c11_others_learn_nothing_of_our_peers_without_external_endpoint() {
    let mut t = Table::new();
    let hidden = t.scene.meet_at("A", "hidden", "");
    let shy = t.scene.meet_at("B", "shy", "");
    for peer in [&a(), &b(), &hidden, &shy] {
        t.hears(peer, 1);
    }
    t.feed(Input::Height(1));
    t.until(4000);
    let sorted = |peers: &[&Arc<PeerIdentity>], own: &Table| {
        let mut envelopes: Vec<Vec<u8>> = peers
            .iter()
            .map(|peer| state_info(peer, "ch", 1, 1).envelope.payload.to_vec())
            .chain(
                own.channel
                    .own_state_info()
                    .map(|i| i.envelope.payload.to_vec()),
            )
            .collect();
        envelopes.sort();
        envelopes
    };
    let payloads = |snapshot: Vec<Envelope>| {
        let mut payloads: Vec<Vec<u8>> = snapshot.iter().map(|e| e.payload.to_vec()).collect();
        payloads.sort();
        payloads
    };
    let all = sorted(&[&a(), &b(), &hidden, &shy], &t);
    assert_eq!(payloads(t.snapshot(&a())), all);
    let external = sorted(&[&a(), &b(), &shy], &t);
    assert_eq!(payloads(t.snapshot(&b())), external);
    t.scene.me.external_endpoint.clear();
    assert_eq!(t.snapshot(&b()).len(), 3, "we are hidden too");
}

#[test]
fn m_s3_who_asks_for_state_infos_without_end_is_not_answered() {
    let mut t = Table::new();
    for _ in 0..8 {
        t.snapshot(&a());
    }
    assert_eq!(rules(&t.receive(&a(), pull_request(&a()))), ["M-S3"]);
    t.snapshot(&b());
    t.until(500);
    t.snapshot(&a());
}

#[test]
fn who_knows_our_state_infos_is_told_what_is_different_only() {
    let mut t = Table::new();
    let crowd: Vec<Arc<PeerIdentity>> = (0..40)
        .map(|number| toy::identity("A", &number.to_string()))
        .collect();
    for peer in &crowd {
        t.info(&a(), state_info(peer, "ch", 1, 1));
    }
    let ask = |t: &mut Table, known: &Known| {
        let request = Message::StateInfoPullRequest {
            channel_mac: mac(&a().pki_id, &"ch".into()),
            known: Some(Summary::of(9, known)),
        };
        t.now = t.now + Duration::from_secs(4);
        t.receive(&a(), request)
    };
    let known: Known = crowd.iter().map(|peer| (peer.pki_id, (1, 1))).collect();
    assert_eq!(ask(&mut t, &known), []);
    for news in [
        state_info(&crowd[7], "ch", 2, 1),
        state_info(&b(), "ch", 1, 1),
    ] {
        t.info(&a(), news.clone());
        let out = ask(&mut t, &known);
        let [Effect::Reply { envelope, .. }] = out.as_slice() else {
            panic!("one reply expected: {out:?}");
        };
        let opened = envelope.clone().open().unwrap();
        let Some(Content::StateSnapshot(snapshot)) = &opened.message().content else {
            panic!("a snapshot expected");
        };
        assert!(snapshot.elements.contains(&news.envelope));
        assert!(snapshot.elements.len() < 30, "not everything once more");
    }
}

#[test]
fn a_request_for_state_infos_says_what_we_know() {
    let mut t = Table::new();
    t.info(&a(), state_info(&b(), "ch", 1, 5));
    t.hears(&a(), 1);
    let out = t.until(4000);
    let requests: Vec<StateInfoPullRequest> = out
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { envelope, .. } => {
                envelope.clone().open().unwrap().into_parts().1.content
            }
            _ => None,
        })
        .filter_map(|content| match content {
            Content::StateInfoPullReq(request) => Some(request),
            _ => None,
        })
        .collect();
    assert!(!requests.is_empty());
    for request in requests {
        let summary = Summary::from_wire(&request.known).unwrap();
        let known = t.channel.roster.known_with(&"A".into(), &t.scene.view());
        let nobody = known
            .keys()
            .all(|peer| !summary.difference(&known).concerns(peer));
        assert!(nobody);
        let difference = summary.difference(&Known::new());
        assert!(difference.concerns(&b().pki_id));
    }
}

#[test]
fn an_empty_snapshot_is_an_answer() {
    let mut t = Table::new();
    assert_eq!(t.snapshot(&b()), []);
}

#[test]
fn snapshots_are_bounded_and_each_begins_somewhere_else() {
    let mut t = Table::new();
    let mut all = BTreeSet::new();
    for n in 0..20 {
        let mut info = state_info(&toy::identity("A", &n.to_string()), "ch", 1, 1);
        info.envelope.payload = vec![n; 1 << 20].into();
        all.insert(n);
        assert_eq!(t.info(&a(), info).len(), 1);
    }
    let mut seen = BTreeSet::new();
    for n in 0..20 {
        t.now = at(n * 4000);
        let mut answer = t.receive(&a(), pull_request(&a()));
        let Some(Effect::Reply { envelope, .. }) = answer.pop() else {
            panic!("a reply expected");
        };
        let (_, message) = envelope.open().unwrap().into_parts();
        let Some(Content::StateSnapshot(snapshot)) = message.content else {
            panic!("a snapshot expected");
        };
        assert_eq!(snapshot.elements.len(), 15);
        seen.extend(snapshot.elements.iter().map(|e| e.payload[0]));
    }
    assert_eq!(seen, all);
}

#[test]
fn state_infos_are_asked_of_the_channels_organizations() {
    let mut t = Table::new();
    assert_eq!(t.until(3999), []);
    let out = t.until(4000);
    let mut asked = Vec::new();
    for effect in &out {
        let Effect::Send { to, envelope } = effect else {
            panic!("{effect:?}");
        };
        asked.push(to.peer);
        let message = envelope.clone().open().unwrap().message().clone();
        assert!(message.channel.is_empty(), "G-N1");
        let Some(Content::StateInfoPullReq(request)) = message.content else {
            panic!("a pull request expected");
        };
        let own = t.scene.me.identity.pki_id;
        assert_eq!(request.channel_mac, &mac(&own, &"ch".into())[..]);
    }
    asked.sort();
    let mut members = vec![a().pki_id, b().pki_id];
    members.sort();
    assert_eq!(asked, members, "not c, and nobody twice");
}

#[test]
fn who_knows_nobody_asks_whom_it_meets_at_once() {
    let asked = |out: Vec<Effect>| {
        let asks = |effect: &Effect| match effect {
            Effect::Send { envelope, .. } => {
                let message = envelope.clone().open().unwrap().message().clone();
                matches!(message.content, Some(Content::StateInfoPullReq(_)))
            }
            _ => false,
        };
        out.iter().filter(|effect| asks(effect)).count()
    };
    let mut t = Table::new();
    t.now = at(100);
    assert_eq!(t.feed(Input::Met(c().pki_id)), []);
    assert_eq!(
        asked(t.until(150)),
        0,
        "c is of no organization of the channel"
    );
    assert_eq!(t.feed(Input::Met(a().pki_id)), []);
    assert_eq!(asked(t.until(150)), 2, "a and b");
    t.now = at(200);
    assert_eq!(t.feed(Input::Met(b().pki_id)), []);
    assert_eq!(asked(t.until(1149)), 0, "not over and over");
    assert_eq!(asked(t.until(1150)), 2);
    t.hears(&a(), 5);
    assert_eq!(t.feed(Input::Met(b().pki_id)), []);
    assert_eq!(asked(t.until(5149)), 0, "then as ever");
    assert_eq!(asked(t.until(5150)), 2);
}
