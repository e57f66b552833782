//! How often members speak, and what their silence means.

use super::*;

const FAST: u32 = 5;
const SLOW: u32 = 60;

fn peer(number: usize) -> Arc<PeerIdentity> {
    a(&format!("p{number}"))
}

fn speech(number: usize, period: u32) -> Speech {
    Speech::of(&peer(number), "", &format!("p{number}:1")).every(period)
}

/// Makes these alive, all of them nodes of our kind.
fn among(stage: &mut Stage, now: Moment, others: std::ops::Range<usize>) {
    for number in others {
        let alive = speech(number, FAST).alive();
        stage.gossip(now, alive);
    }
}

/// What we gossip about ourselves until then, and how long it says that the next may take.
fn said(stage: &mut Stage, until: Moment) -> Vec<(Moment, Duration)> {
    let out = stage.run(until);
    let own = out.into_iter().filter_map(|(when, effect)| match effect {
        Effect::Gossip {
            alive,
            source: None,
        } => Some((when, alive.period.unwrap())),
        _ => None,
    });
    own.collect()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How often we speak among so many others of our kind.
fn period_among(others: usize) -> Duration {
    let mut stage = Stage::new();
    among(&mut stage, at(0), 0..others);
    said(&mut stage, at(0))[0].1
}

#[test]
fn few_speak_as_often_as_peers_of_fabric_and_many_less_often() {
    assert_eq!(period_among(1), secs(5));
    assert_eq!(period_among(11), secs(5));
    assert_eq!(period_among(12), secs(17), "13 x 5 s / (5 / 4 x 3)");
    assert_eq!(period_among(63), secs(42));
    assert_eq!(period_among(255), secs(128));
    assert_eq!(period_among(1500), PERIOD_MAX);
}

#[test]
fn nobody_waits_longer_for_us_than_we_said() {
    let mut stage = Stage::new();
    among(&mut stage, at(0), 0..63);
    let mut promised = None;
    for (when, period) in said(&mut stage, at(600)) {
        assert!(promised.is_none_or(|until| when <= until), "{when:?}");
        promised = Some(when + period);
    }
    assert!(promised.is_some());
}

#[test]
fn a_peer_of_fabric_makes_everybody_speak_as_often_as_it_does() {
    let mut stage = Stage::new();
    for number in 0..63 {
        // Of another organization, and so not thought dead for not answering.
        let endpoint = format!("p{number}:1");
        let speech = Speech::of(&b(&endpoint), &endpoint, "").every(300);
        stage.gossip(at(0), speech.alive());
    }
    said(&mut stage, at(100));
    let fabric = Speech::of(&a("go"), "", "go:1").alive();
    stage.gossip(at(100), fabric);
    let soon = said(&mut stage, at(105));
    assert!(!soon.is_empty());
    assert!(soon.iter().all(|(_, period)| *period == secs(5)));
    // Until it is dead.
    stage.handle(at(106), Input::Unreachable(a("go").pki_id));
    let later = said(&mut stage, at(120));
    assert!(later.iter().any(|(_, period)| *period > secs(5)));
}

#[test]
fn who_speaks_seldom_may_be_silent_for_longer() {
    let mut stage = Stage::new();
    stage.gossip(at(0), Speech::of(&a("go"), "", "go:1").alive());
    stage.gossip(at(0), speech(1, FAST).alive());
    stage.gossip(
        at(0),
        Speech::of(&b("slow"), "slow:1", "").every(SLOW).alive(),
    );
    stage.run(at(24));
    assert_eq!(stage.standing(&a("go")), "alive");
    stage.run(at(29));
    assert_eq!(stage.standing(&a("go")), "dead");
    assert_eq!(stage.standing(&peer(1)), "dead");
    stage.run(at(150));
    assert_eq!(stage.standing(&b("slow")), "alive");
    stage.run(at(155));
    assert_eq!(stage.standing(&b("slow")), "dead");
    // The dead are remembered for as much longer.
    stage.run(at(504));
    assert_eq!(stage.standing(&peer(1)), "unknown");
    stage.run(at(624));
    assert_eq!(stage.standing(&b("slow")), "dead");
    stage.run(at(630));
    assert_eq!(stage.standing(&b("slow")), "unknown");
}

#[test]
fn who_is_of_our_mind_is_told_what_all_have_heard() {
    let mut stage = Stage::new();
    among(&mut stage, at(0), 0..63);
    let when = said(&mut stage, at(2)).last().unwrap().0;
    let told = |stage: &mut Stage, now, known| {
        let (nonce, about) = (1, Box::new(speech(0, FAST).alive()));
        let out = stage.handle(
            now,
            Input::MembershipRequest {
                nonce,
                about,
                known: Some(known),
            },
        );
        let sent = out.into_iter().find_map(|effect| match effect {
            Effect::Send { envelope, .. } => Some(envelope),
            _ => None,
        });
        match open(&sent.unwrap()).content {
            Some(Content::MemRes(response)) => response.alive.last().unwrap().clone(),
            other => panic!("expected an answer, got {other:?}"),
        }
    };
    let own = stage.me.identity.pki_id;
    let mut known = stage.node.known_if(|_| true);
    known.insert(own, (stage.me.incarnation_ns, 1));
    let late = when + secs(15);
    let same = told(&mut stage, late, Summary::of(1, &known));
    assert_eq!(told(&mut stage, late, Summary::of(2, &known)), same);
    // Who believes us to be dead must hear something new.
    known.insert(own, (stage.me.incarnation_ns, 0));
    let new = told(&mut stage, late, Summary::of(3, &known));
    assert_ne!(new, same);
}
