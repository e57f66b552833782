//! Who becomes known, who is dropped, and who is told of whom.

use tidings_proto::gossip::{DataDigest, DataRequest, DataUpdate, GossipHello, PullMsgType};

use super::*;
use crate::{
    discovery,
    id::PeerTime,
    toy::{self, START, Speech, ToyPorts, ToyVerifier},
    verify,
};

const HOUR: Duration = Duration::from_secs(3600);

fn at(secs: u64) -> Moment {
    Moment::after_start(Duration::from_secs(secs))
}

struct Stage {
    me: Me,
    identities: Identities,
    discovery: Discovery,
}

impl Stage {
    fn new(external: &str) -> Self {
        let me = toy::me("A", "me", external);
        let config = Config::default();
        let ports = ToyPorts(Arc::clone(&me.identity));
        Self {
            identities: Identities::new(&me, &config, &ports, &[0; 32]),
            discovery: Discovery::new(&me, &config, &[0; 32]),
            me,
        }
    }

    fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        let Self {
            me,
            identities,
            discovery,
        } = self;
        identities.handle(now, input, me, discovery, &mut out);
        out
    }

    fn tick(&mut self, now: Moment) -> Vec<Effect> {
        let mut out = Vec::new();
        self.identities.tick(now, &self.discovery, &mut out);
        out
    }

    fn learn(&mut self, identity: &Arc<PeerIdentity>) {
        let out = self.handle(at(0), Input::Learned(Arc::clone(identity)));
        assert_eq!(out, []);
    }

    /// This peer is known and alive.
    fn meet(&mut self, identity: &Arc<PeerIdentity>, external: &str) {
        self.learn(identity);
        let alive = Box::new(Speech::of(identity, external, "in:1").alive());
        let from = identity.pki_id;
        let input = discovery::Input::Alive { from, alive };
        let ports = ToyPorts(Arc::clone(&self.me.identity));
        let Self {
            me,
            identities,
            discovery,
        } = self;
        discovery.handle(at(0), input, me, identities, &ports, &mut Vec::new());
        assert!(discovery.is_alive(&from));
    }

    fn pull(
        &mut self,
        now: Moment,
        from: &Arc<PeerIdentity>,
        pull: Pull<IdentityMessage>,
    ) -> Vec<Effect> {
        let from = toy::connection(5, from);
        self.handle(now, Input::Pull { from, pull })
    }

    /// What this peer is told of us when it asks, and what it gets when it asks for all.
    fn offered(&mut self, to: &Arc<PeerIdentity>, all: &[&Arc<PeerIdentity>]) -> Vec<PkiId> {
        let nonce = 77;
        let out = self.pull(at(0), to, Pull::Hello { nonce, known: None });
        let told: Vec<PkiId> = match contents(out).as_slice() {
            [] => Vec::new(),
            [Content::DataDig(DataDigest { digests, .. })] => digests
                .iter()
                .map(|id| PkiId::from_wire(id).unwrap())
                .collect(),
            other => panic!("unexpected {other:?}"),
        };
        let digests = all
            .iter()
            .map(|identity| pki_bytes(&identity.pki_id))
            .collect();
        let out = self.pull(at(0), to, Pull::Request { nonce, digests });
        let given: Vec<PkiId> = match contents(out).as_slice() {
            [] => Vec::new(),
            [Content::DataUpdate(update)] => given(&self.me, update),
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!(told, given);
        told
    }
}

/// The identities in an update, which must pass the gate of whoever gets them.
fn given(me: &Me, update: &DataUpdate) -> Vec<PkiId> {
    let connection = toy::connection(1, &me.identity);
    let content = Content::DataUpdate(update.clone());
    let envelope = wire::unsigned(&wire::gossip_message(0, None, Tag::Empty, content));
    let message = verify::verify(&connection, envelope, &ToyVerifier::default()).unwrap();
    let Message::IdentityPull(Pull::Update { items, .. }) = message.into_inner() else {
        panic!("expected an update");
    };
    items.iter().map(|item| item.identity.pki_id).collect()
}

fn contents(effects: Vec<Effect>) -> Vec<Content> {
    let content = |effect| match effect {
        Effect::Send { envelope, .. } | Effect::Reply { envelope, .. } => {
            envelope.open().unwrap().into_parts().1.content.unwrap()
        }
        other => panic!("expected a message, got {other:?}"),
    };
    effects.into_iter().map(content).collect()
}

fn message_of(identity: &Arc<PeerIdentity>) -> IdentityMessage {
    let mut me = toy::me("A", "me", "");
    me.identity = Arc::clone(identity);
    IdentityMessage {
        identity: Arc::clone(identity),
        envelope: own_message(&me, &ToyPorts(Arc::clone(identity))),
    }
}

/// Plays a whole round in which `from` offers these.
fn pull_from(
    stage: &mut Stage,
    from: &Arc<PeerIdentity>,
    items: Vec<IdentityMessage>,
) -> Vec<Effect> {
    let hello = contents(stage.tick(at(4)));
    let [
        Content::Hello(GossipHello {
            nonce, msg_type, ..
        }),
    ] = hello[..]
    else {
        panic!("expected one hello, got {hello:?}");
    };
    assert_eq!(msg_type, PullMsgType::IdentityMsg as i32);
    let digests: Vec<Bytes> = items
        .iter()
        .map(|item| pki_bytes(&item.identity.pki_id))
        .collect();
    let asked = contents(stage.pull(at(4), from, Pull::Digest { nonce, digests }));
    let [Content::DataReq(DataRequest { .. })] = asked[..] else {
        panic!("expected one request, got {asked:?}");
    };
    stage.pull(at(4), from, Pull::Update { nonce, items })
}

/// An identity was not taken, and counts nowhere.
fn turned_away(out: &[Effect], expect: &str) {
    let [
        Effect::Refused { from, rule, .. },
        Effect::Forget(forgotten),
        Effect::Close(closed),
    ] = out
    else {
        panic!("expected to turn away, got {out:?}");
    };
    assert_eq!((*rule, forgotten, closed), (expect, from, from));
}

#[test]
fn we_know_ourselves() {
    let stage = Stage::new("");
    assert_eq!(
        stage.identities.iter().collect::<Vec<_>>(),
        [&stage.me.identity]
    );
    let own = stage.me.identity.pki_id;
    assert_eq!(stage.identities.org_of(&own).map(OrgId::as_str), Some("A"));
}

#[test]
fn i_s9_what_is_known_is_never_replaced() {
    let mut stage = Stage::new("");
    let peer = toy::identity("A", "peer");
    stage.learn(&peer);
    let mut other = (*peer).clone();
    other.org = "B".into();
    stage.learn(&Arc::new(other));
    assert_eq!(stage.identities.identity(&peer.pki_id), Some(&peer));
}

#[test]
fn i_s2_an_expired_identity_is_not_stored() {
    let mut stage = Stage::new("");
    let expires_at = START as i64 + 10;
    let peer = toy::identity_until("A", "peer", expires_at);
    let input = || Input::Learned(Arc::clone(&peer));
    let out = stage.handle(at(11), input());
    turned_away(&out, "I-S2");
    assert_eq!(stage.identities.identity(&peer.pki_id), None);
    assert_eq!(stage.handle(at(10), input()), []);
    for long_ago in [0, -1, i64::MIN] {
        let ancient = toy::identity_until("A", "ancient", long_ago);
        let out = stage.handle(at(0), Input::Learned(ancient));
        turned_away(&out, "I-S2");
    }
}

fn ended(identity: &PeerIdentity, expired: bool) -> [Effect; 3] {
    let (peer, org) = (identity.pki_id, identity.org.clone());
    [
        Effect::Forget(peer),
        Effect::Close(peer),
        Effect::Notify(Notice::IdentityEnded { peer, org, expired }),
    ]
}

#[test]
fn i_s7_an_identity_is_dropped_when_it_expires() {
    let mut stage = Stage::new("");
    let peer = toy::identity_until("A", "peer", START as i64 + 2);
    stage.learn(&peer);
    let end = Moment::after_start(Duration::from_millis(2001));
    assert_eq!(stage.identities.deadline(), Some(end));
    assert_eq!(stage.tick(at(2)), []);
    assert_eq!(stage.tick(end), ended(&peer, true));
    assert_eq!(stage.identities.identity(&peer.pki_id), None);
    let out = stage.handle(end, Input::Learned(peer));
    turned_away(&out, "I-S2");
}

#[test]
fn when_our_own_certificate_expires_we_say_so_once_and_offer_it_no_more() {
    let mut stage = Stage::new("");
    let me = toy::identity_until("A", "me", START as i64 + 2);
    stage.me.identity = Arc::clone(&me);
    let ports = ToyPorts(Arc::clone(&me));
    stage.identities = Identities::new(&stage.me, &Config::default(), &ports, &[0; 32]);
    let peer = toy::identity("A", "peer");
    stage.learn(&peer);
    assert_eq!(stage.offered(&peer, &[&me]), [me.pki_id]);
    let out = stage.tick(at(3));
    assert!(
        matches!(out[..], [Effect::Notify(Notice::Warning(_))]),
        "{out:?}"
    );
    assert_eq!(stage.tick(at(3)), []);
    assert_eq!(stage.offered(&peer, &[&me]), []);
    assert!(stage.identities.identity(&me.pki_id).is_some());
}

#[test]
fn i_s8_a_revoked_identity_is_dropped_and_handed_on_no_more() {
    let mut stage = Stage::new("");
    let (peer, asker) = (toy::identity("A", "peer"), toy::identity("A", "asker"));
    stage.meet(&asker, "");
    assert_eq!(pull_from(&mut stage, &asker, vec![message_of(&peer)]), []);
    let me = Arc::clone(&stage.me.identity);
    let mut all = [me.pki_id, peer.pki_id];
    all.sort();
    assert_eq!(stage.offered(&asker, &[&me, &peer]), all);
    let out = stage.handle(at(5), Input::Revoked(peer.pki_id));
    assert_eq!(out, ended(&peer, false));
    let again = stage.handle(at(5), Input::Revoked(peer.pki_id));
    assert_eq!(again, [], "it is said once");
    assert_eq!(stage.offered(&asker, &[&me, &peer]), [me.pki_id]);
}

#[test]
fn i_s3_a_revoked_identity_is_not_learned_from_what_was_under_way() {
    let mut stage = Stage::new("");
    let peer = toy::identity("A", "peer");
    stage.learn(&peer);
    stage.handle(at(5), Input::Revoked(peer.pki_id));
    let out = stage.handle(at(64), Input::Learned(Arc::clone(&peer)));
    turned_away(&out, "I-S3");
    // By then it proved itself anew.
    assert_eq!(stage.handle(at(65), Input::Learned(peer)), []);
}

#[test]
fn our_own_identity_stays() {
    let mut stage = Stage::new("");
    let own = stage.me.identity.pki_id;
    assert_eq!(stage.handle(at(5), Input::Revoked(own)), []);
    assert!(stage.identities.identity(&own).is_some());
}

#[test]
fn an_identity_that_nobody_uses_is_forgotten() {
    let mut stage = Stage::new("");
    let (unused, used) = (toy::identity("A", "unused"), toy::identity("A", "used"));
    let alive = toy::identity("A", "alive");
    stage.learn(&unused);
    stage.learn(&used);
    stage.meet(&alive, "");
    stage.handle(at(2), Input::Learned(Arc::clone(&used)));
    let only_drops = |effects: Vec<Effect>| -> Vec<Effect> {
        let is_send = |effect: &Effect| matches!(effect, Effect::Send { .. });
        effects
            .into_iter()
            .filter(|effect| !is_send(effect))
            .collect()
    };
    assert_eq!(only_drops(stage.tick(Moment::after_start(HOUR))), []);
    // The next purge is six minutes later.
    let out = stage.tick(Moment::after_start(HOUR + PURGE_INTERVAL));
    let mut dropped = only_drops(out);
    dropped.retain(|effect| matches!(effect, Effect::Forget(_)));
    let mut peers = [unused.pki_id, used.pki_id];
    peers.sort();
    assert_eq!(dropped, peers.map(Effect::Forget));
    let known: Vec<PkiId> = stage
        .identities
        .iter()
        .map(|identity| identity.pki_id)
        .collect();
    let mut expect = [stage.me.identity.pki_id, alive.pki_id];
    expect.sort();
    assert_eq!(known, expect);
}

#[test]
fn use_keeps_an_identity() {
    let mut stage = Stage::new("");
    let used = toy::identity("A", "used");
    stage.learn(&used);
    stage.handle(Moment::after_start(HOUR), Input::Learned(Arc::clone(&used)));
    stage.tick(Moment::after_start(HOUR + PURGE_INTERVAL));
    assert!(stage.identities.identity(&used.pki_id).is_some());
}

#[test]
fn no_more_identities_are_known_than_the_limit() {
    let mut stage = Stage::new("");
    for n in 1..IDENTITIES_MAX {
        stage.learn(&toy::identity("A", &n.to_string()));
    }
    let input = || Input::Learned(toy::identity("A", "late"));
    let out = stage.handle(at(0), input());
    turned_away(&out, "M-S3");
    stage.handle(at(0), Input::Revoked(toy::identity("A", "1").pki_id));
    assert_eq!(stage.handle(at(0), input()), []);
}

#[test]
fn m_s3_another_organization_has_a_share_and_ours_takes_its_place() {
    let mut stage = Stage::new("");
    let peer = |org: &str, n: usize| toy::identity(org, &n.to_string());
    for org in ["B", "C", "D"] {
        (0..FOREIGN_MAX).for_each(|n| stage.learn(&peer(org, n)));
        turned_away(
            &stage.handle(at(0), Input::Learned(peer(org, FOREIGN_MAX))),
            "M-S3",
        );
    }
    (1..FOREIGN_MAX).for_each(|n| stage.learn(&peer("E", n)));
    turned_away(&stage.handle(at(0), Input::Learned(peer("F", 0))), "M-S3");
    // All but one of the strangers are used.
    for org in ["B", "C", "D", "E"] {
        for n in 1..FOREIGN_MAX {
            stage.handle(at(1), Input::Learned(peer(org, n)));
        }
    }
    for org in ["B", "C"] {
        stage.handle(at(1), Input::Learned(peer(org, 0)));
    }
    let least = peer("D", 0).pki_id;
    let out = stage.handle(at(2), Input::Learned(peer("A", 0)));
    assert_eq!(out, [Effect::Forget(least), Effect::Close(least)]);
    assert_eq!(stage.identities.iter().count(), IDENTITIES_MAX);
    // Who leaves makes room for another of the same organization.
    stage.handle(at(2), Input::Revoked(peer("B", 5).pki_id));
    let out = stage.handle(at(2), Input::Learned(peer("B", FOREIGN_MAX)));
    assert_eq!(out, []);
}

#[test]
fn an_identity_that_is_pulled_is_known_and_handed_on() {
    let mut stage = Stage::new("");
    let (friend, far) = (toy::identity("A", "friend"), toy::identity("B", "far"));
    stage.meet(&friend, "");
    assert_eq!(pull_from(&mut stage, &friend, vec![message_of(&far)]), []);
    assert_eq!(stage.identities.identity(&far.pki_id), Some(&far));
    let me = Arc::clone(&stage.me.identity);
    let mut both = [me.pki_id, far.pki_id];
    both.sort();
    assert_eq!(stage.offered(&friend, &[&me, &far]), both);
}

#[test]
fn an_expired_identity_in_an_answer_spoils_nothing_but_itself() {
    let mut stage = Stage::new("");
    let friend = toy::identity("A", "friend");
    let old = toy::identity_until("B", "old", START as i64 + 1);
    let far = toy::identity("B", "far");
    stage.meet(&friend, "");
    let out = pull_from(
        &mut stage,
        &friend,
        vec![message_of(&old), message_of(&far)],
    );
    assert!(
        matches!(
            out[..],
            [Effect::Refused { rule: "I-S2", .. }, Effect::Forget(_)]
        ),
        "{out:?}"
    );
    assert!(stage.identities.identity(&far.pki_id).is_some());
    // Not stored, so not handed on either (I-G4).
    let told = stage.pull(
        at(4),
        &friend,
        Pull::Hello {
            nonce: 1,
            known: None,
        },
    );
    let told = contents(told);
    let [Content::DataDig(digest)] = &told[..] else {
        panic!("expected a digest");
    };
    assert!(!digest.digests.contains(&pki_bytes(&old.pki_id)));
}

#[test]
fn p_s5_identities_that_were_not_asked_for_are_dropped() {
    let mut stage = Stage::new("");
    let (friend, far) = (toy::identity("A", "friend"), toy::identity("B", "far"));
    stage.meet(&friend, "");
    let items = vec![message_of(&far), message_of(&friend), message_of(&far)];
    assert_eq!(
        stage.pull(at(1), &friend, Pull::Update { nonce: 1, items }),
        [Effect::Forget(far.pki_id)],
        "the gate has remembered it"
    );
    assert_eq!(stage.identities.identity(&far.pki_id), None);
}

#[test]
fn p_s4_foreign_peers_are_told_of_those_that_may_be_known() {
    let peers = |stage: &mut Stage| {
        let us = toy::identity("A", "us");
        let hidden = toy::identity("A", "hidden");
        let them = toy::identity("B", "them");
        let third = toy::identity("C", "third");
        let friend = toy::identity("A", "friend");
        stage.meet(&friend, "");
        let items = [&us, &hidden, &them, &third].map(message_of).into();
        assert_eq!(pull_from(stage, &friend, items), []);
        for (peer, external) in [
            (&us, "us:1"),
            (&hidden, ""),
            (&them, "them:1"),
            (&third, "3:1"),
        ] {
            stage.meet(peer, external);
        }
        (us, hidden, them, third)
    };
    for external in ["", "me:1"] {
        let mut stage = Stage::new(external);
        let (us, hidden, them, third) = peers(&mut stage);
        let me = Arc::clone(&stage.me.identity);
        let all = [&me, &us, &hidden, &them, &third];
        let mut expect: Vec<PkiId> = vec![us.pki_id, them.pki_id];
        if !external.is_empty() {
            expect.push(me.pki_id);
        }
        expect.sort();
        assert_eq!(stage.offered(&toy::identity("B", "stranger"), &all), []);
        let asker = toy::identity("B", "asker");
        stage.learn(&asker);
        assert_eq!(stage.offered(&asker, &all), expect);
        // Our own organization gets everything.
        let mut expect = all.map(|identity| identity.pki_id);
        expect.sort();
        assert_eq!(stage.offered(&us, &all), expect);
    }
}

#[test]
fn what_a_message_shows() {
    let (a, b) = (toy::identity("A", "a"), toy::identity("A", "b"));
    let alive = |of| {
        Speech::of(of, "", "in:1")
            .at(PeerTime {
                incarnation: 1,
                sequence: 1,
            })
            .alive()
    };
    let check = |message: Message, expect: &[&Arc<PeerIdentity>]| {
        assert_eq!(shown_by(&message).iter().collect::<Vec<_>>(), expect);
    };
    check(Message::Alive(Box::new(alive(&a))), &[&a]);
    let about = Box::new(alive(&b));
    let request = Message::MembershipRequest {
        nonce: 1,
        about,
        known: None,
    };
    check(request, &[&b]);
    let (one, two) = (vec![alive(&a)], vec![alive(&b)]);
    let response = Message::MembershipResponse {
        nonce: 1,
        alive: one,
        dead: two,
    };
    check(response, &[&a, &b]);
    check(
        Message::IdentityPull(Pull::Hello {
            nonce: 1,
            known: None,
        }),
        &[],
    );
}
