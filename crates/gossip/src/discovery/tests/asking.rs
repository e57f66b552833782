//! Whom we ask, what we are told, and what it means to get no answer.

use super::*;
use crate::summary::Known;

const SLOW: u32 = 300;

fn peer(number: usize) -> Arc<PeerIdentity> {
    a(&format!("p{number}"))
}

fn slow(number: usize) -> Alive {
    let speech = Speech::of(&peer(number), "", &format!("p{number}:1"));
    speech.every(SLOW).alive()
}

/// Among so many of our kind, all of whom were heard at the start.
fn among(others: usize) -> Stage {
    let mut stage = Stage::new();
    for number in 0..others {
        stage.gossip(at(0), slow(number));
    }
    stage
}

fn answer(
    stage: &mut Stage,
    now: Moment,
    from: &Arc<PeerIdentity>,
    dead: Vec<Alive>,
) -> Vec<Effect> {
    let input = Input::MembershipResponse {
        from: from.pki_id,
        nonce: 0,
        alive: Vec::new(),
        dead,
    };
    stage.handle(now, input)
}

/// Who is asked by these effects.
fn asked(effects: &[Effect]) -> Vec<PkiId> {
    let all = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, .. } => Some(to.peer),
        _ => None,
    });
    all.collect()
}

/// Asks as a peer that knows this, and returns who it is told of beside us.
fn told(stage: &mut Stage, known: &Known) -> (usize, Vec<PkiId>) {
    let peer_of = |envelope: &Envelope| match open(envelope).content {
        Some(Content::AliveMsg(alive)) => {
            PkiId::from_wire(&alive.membership.unwrap().pki_id).unwrap()
        }
        other => panic!("expected an alive message, got {other:?}"),
    };
    let out = stage.handle(
        at(1),
        Input::MembershipRequest {
            nonce: 1,
            about: Box::new(slow(0)),
            known: Some(Summary::of(5, known)),
        },
    );
    let (_, response) = response(&out);
    let own = stage.me.identity.pki_id;
    let all = response.alive.iter().chain(&response.dead).map(peer_of);
    let (ours, others): (Vec<PkiId>, Vec<PkiId>) = all.partition(|peer| *peer == own);
    (ours.len(), others)
}

#[test]
fn who_knows_what_we_know_is_told_of_us_alone() {
    let mut stage = among(40);
    stage.handle(at(0), Input::Unreachable(peer(7).pki_id));
    let mut known = stage.node.known_if(|_| true);
    known.insert(stage.me.identity.pki_id, (stage.me.incarnation_ns, 1));
    assert_eq!(told(&mut stage, &known), (1, vec![]));
    // Somebody is unknown, or thought to be alive, or of another life.
    let mut without = known.clone();
    without.remove(&peer(9).pki_id);
    let mut alive = known.clone();
    alive.insert(peer(7).pki_id, (1, 1));
    let mut earlier = known.clone();
    earlier.insert(peer(20).pki_id, (0, 1));
    for (known, of) in [(without, 9), (alive, 7), (earlier, 20)] {
        let (ours, others) = told(&mut stage, &known);
        assert_eq!(ours, 1);
        assert!(others.contains(&peer(of).pki_id));
        assert!(others.len() < 20, "the rest need not be told");
    }
    // Who knows nobody, or says what means nothing, is told everything.
    assert_eq!(told(&mut stage, &Known::new()).1.len(), 40);
}

#[test]
fn a_question_says_what_we_know_and_two_who_agree_tell_each_other_nothing() {
    let mut one = among(40);
    let mut two = Stage::new();
    let external = two.me.external_endpoint.clone();
    two.me = toy::me("A", "two", &external);
    two.identities = Identities::new(&two.me, &Config::default(), &two.ports, &[1; 32]);
    for number in 0..40 {
        two.gossip(at(0), slow(number));
    }
    let say = |stage: &Stage| Speech::of(&stage.me.identity, &external, "x:1");
    let of_two = say(&two).at(toy::time(two.me.incarnation_ns, 1)).alive();
    one.gossip(at(0), of_two);
    let of_one = say(&one).at(toy::time(one.me.incarnation_ns, 1)).alive();
    two.gossip(at(0), of_one);
    let out = loop {
        let due = one.node.deadline().unwrap();
        let out: Vec<Effect> = one
            .tick(due)
            .into_iter()
            .filter(|e| matches!(e, Effect::Send { .. }))
            .collect();
        if !out.is_empty() {
            break out;
        }
    };
    let Effect::Send { envelope, .. } = &out[0] else {
        panic!("a question expected");
    };
    let verifier = ToyVerifier::knowing(&[&one.me.identity]);
    let connection = toy::connection(1, &one.me.identity);
    let message = verify::verify(&connection, envelope.clone(), &verifier).unwrap();
    let crate::Message::MembershipRequest {
        nonce,
        about,
        known,
    } = message.into_inner()
    else {
        panic!("a question expected");
    };
    assert!(known.is_some());
    let out = two.handle(
        at(1),
        Input::MembershipRequest {
            nonce,
            about,
            known,
        },
    );
    let (_, response) = response(&out);
    assert_eq!((response.alive.len(), response.dead.len()), (1, 0));
}

#[test]
fn whoever_leaves_three_questions_open_is_dead() {
    let mut stage = among(1);
    let out = stage.run(at(60));
    let questions: Vec<Moment> = out
        .iter()
        .filter(|(_, effect)| !asked(std::slice::from_ref(effect)).is_empty())
        .map(|(when, _)| *when)
        .collect();
    let deaths: Vec<Moment> = out
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Notify(Notice::MemberDead(_))))
        .map(|(when, _)| *when)
        .collect();
    let half = Duration::from_millis(500);
    let for_news = [at(0) + half, at(1) + half, at(3) + half];
    let usual = [at(0), at(4), at(8)];
    assert_eq!(questions.len(), usual.len() + for_news.len());
    assert!(
        usual
            .iter()
            .chain(&for_news)
            .all(|when| questions.contains(when))
    );
    // What the rounds for news leave open does not count.
    assert_eq!(deaths, [at(12)]);
}

#[test]
fn whoever_answers_now_and_then_is_alive() {
    let mut stage = among(1);
    for second in 0..200 {
        stage.run(at(second));
        if second % 11 == 0 {
            answer(&mut stage, at(second), &peer(0), vec![]);
        }
    }
    assert_eq!(stage.standing(&peer(0)), "alive");
}

#[test]
fn of_other_organizations_silence_says_nothing() {
    let mut stage = Stage::new();
    stage.gossip(at(0), Speech::of(&b("p"), "p:1", "").every(SLOW).alive());
    stage.run(at(200));
    assert_eq!(stage.standing(&b("p")), "alive");
}

#[test]
fn d_s6_who_is_called_dead_is_asked_and_not_believed_to_be() {
    let mut stage = among(30);
    stage.run(at(1));
    let dead: Vec<Alive> = (1..20).map(slow).collect();
    let out = answer(&mut stage, at(1), &peer(0), dead.clone());
    let doubted = asked(&out);
    assert!(
        doubted.len() <= 3,
        "one liar must not make us ask everybody"
    );
    assert!(!doubted.is_empty());
    for number in 0..30 {
        assert_eq!(stage.standing(&peer(number)), "alive");
    }
    // Said again and again, it leads to nothing more before the next round.
    for _ in 0..9 {
        let out = answer(&mut stage, at(1), &peer(0), dead.clone());
        assert!(asked(&out).iter().all(|peer| !doubted.contains(peer)));
        assert!(asked(&out).len() <= 3 - doubted.len());
    }
    // Who was heard since then is not in doubt.
    let mut stage = among(2);
    let later = Speech::of(&peer(1), "", "p1:1").every(SLOW);
    stage.gossip(at(1), later.at(toy::time(1, 2)).alive());
    stage.run(at(1));
    assert_eq!(
        asked(&answer(&mut stage, at(1), &peer(0), vec![slow(1)])),
        []
    );
}

#[test]
fn those_of_whom_nothing_was_heard_for_long_are_asked_first() {
    let mut stage = Stage::new();
    for number in 0..200 {
        let speech = Speech::of(&peer(number), "", &format!("p{number}:1"));
        stage.gossip(at(0), speech.alive());
    }
    stage.run(at(12));
    for number in 0..198 {
        let speech = Speech::of(&peer(number), "", &format!("p{number}:1"));
        stage.gossip(at(12), seq(speech, 2));
    }
    let out = stage.run(at(16));
    let asked: Vec<PkiId> = out
        .iter()
        .flat_map(|(_, e)| asked(std::slice::from_ref(e)))
        .collect();
    assert!(asked.contains(&peer(198).pki_id));
    assert!(asked.contains(&peer(199).pki_id));
}
