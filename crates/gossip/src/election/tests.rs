//! The election of one peer, step by step, and of several that hear each other.

use std::sync::Arc;

use prost::Message as _;
use tidings_proto::gossip::GossipMessage;

use super::*;
use crate::{
    message::PeerIdentity,
    scene::at,
    toy::{self, ToyPorts},
};

fn ports() -> ToyPorts {
    ToyPorts(toy::identity("A", "me"))
}

/// As peer of this number; in life 7.
fn me(number: u8) -> Me {
    let me = toy::me("A", "me", "");
    let identity = PeerIdentity {
        pki_id: peer(number),
        ..me.identity.as_ref().clone()
    };
    Me {
        identity: Arc::new(identity),
        incarnation_ns: 7,
        ..me
    }
}

fn peer(number: u8) -> PkiId {
    PkiId::new([number; 32])
}

fn said(from: u8, is_declaration: bool) -> Input {
    Input::Heard(Leadership {
        channel: "ch".into(),
        peer: peer(from),
        time: toy::time(1, 1),
        is_declaration,
        envelope: Envelope::default(),
    })
}

fn read(envelope: &Envelope) -> LeadershipMessage {
    let message = GossipMessage::decode(envelope.payload.clone()).unwrap();
    assert_eq!(
        (message.tag(), &message.channel[..]),
        (Tag::ChanAndOrg, &b"ch"[..])
    );
    match message.content {
        Some(Content::LeadershipMsg(leadership)) => leadership,
        other => panic!("{other:?}"),
    }
}

/// One peer, and what it does in words.
struct Peer(Election);

impl Peer {
    fn new(number: u8) -> Self {
        let mut t = Self(Election::new(
            "ch".into(),
            &me(number),
            &ElectionConfig::default(),
        ));
        assert_eq!(t.handle(0, Input::Join), "");
        t
    }

    fn handle(&mut self, millis: u64, input: Input) -> String {
        let mut out = Vec::new();
        self.0.handle(at(millis), input, &ports(), &mut out);
        Self::told(&out)
    }

    fn tick(&mut self, millis: u64, members: usize) -> String {
        let mut out = Vec::new();
        self.0.tick(at(millis), || members, &ports(), &mut out);
        Self::told(&out)
    }

    fn told(out: &[Effect]) -> String {
        let words = out.iter().map(|effect| match effect {
            Effect::Say(envelope) => match read(envelope) {
                said if said.is_declaration => "declares".to_owned(),
                _ => "proposes".to_owned(),
            },
            Effect::Lead(leads) => format!("leads {leads}"),
            Effect::Follow(leader) => format!("follows {}", leader.as_bytes()[0]),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// When it is to be ticked, in milliseconds.
    fn due(&self) -> u64 {
        let due = self
            .0
            .deadline()
            .expect("whoever is in a channel has a deadline");
        u64::try_from(due.since_start().as_millis()).unwrap()
    }

    /// A peer that has just become leader, at 6 s.
    fn leader(number: u8) -> Self {
        let mut t = Self::new(number);
        assert_eq!(t.tick(0, 2), "");
        assert_eq!(t.tick(1000, 2), "proposes");
        assert_eq!(t.tick(6000, 2), "leads true, declares");
        t
    }
}

#[test]
fn a_peer_alone_proposes_waits_and_leads() {
    let mut t = Peer::leader(5);
    assert_eq!(t.due(), 11_000, "half the threshold later");
    assert_eq!(t.tick(10_999, 2), "");
    assert_eq!(t.tick(11_000, 2), "declares");
}

#[test]
fn start_up_waits_for_a_steady_membership_but_not_for_ever() {
    let mut t = Peer::new(5);
    for second in 0..15 {
        assert_eq!(
            t.tick(second * 1000, usize::try_from(second).unwrap()),
            "",
            "second {second}"
        );
    }
    assert_eq!(t.tick(15_000, 99), "proposes");
}

#[test]
fn a_declaration_during_start_up_makes_a_follower() {
    let mut t = Peer::new(1);
    assert_eq!(t.handle(500, said(9, true)), "follows 9");
    assert_eq!(t.due(), 10_500);
    assert_eq!(t.tick(10_500, 2), "proposes", "nothing was heard since");
}

#[test]
fn a_lower_proposal_wins_and_a_higher_one_does_not() {
    let mut t = Peer::new(5);
    t.tick(0, 2);
    t.tick(1000, 2);
    assert_eq!(t.handle(2000, said(4, false)), "");
    assert_eq!(t.tick(6000, 2), "");
    assert!(!t.0.is_leading());

    let mut t = Peer::new(5);
    t.tick(0, 2);
    t.tick(1000, 2);
    t.handle(2000, said(6, false));
    assert_eq!(t.tick(6000, 2), "leads true, declares");
}

#[test]
fn a_declaration_ends_the_wait_for_proposals() {
    let mut t = Peer::new(1);
    t.tick(0, 2);
    t.tick(1000, 2);
    assert_eq!(t.handle(1500, said(9, true)), "follows 9");
    assert_eq!(t.due(), 11_500);
}

#[test]
fn a_follower_that_hears_its_leader_stays_one() {
    let mut t = Peer::new(1);
    t.handle(0, said(9, true));
    for declared in [5_000, 15_000, 25_000] {
        t.handle(declared, said(9, true));
        assert_eq!(t.tick(declared + 5_000, 2), "");
    }
    assert_eq!(
        t.tick(40_000, 2),
        "proposes",
        "silent for a whole threshold"
    );
}

#[test]
fn of_two_leaders_the_lower_one_is_followed_until_it_falls_silent() {
    let mut t = Peer::new(5);
    assert_eq!(t.handle(0, said(4, true)), "follows 4");
    assert_eq!(t.handle(9_999, said(7, true)), "");
    assert_eq!(t.handle(10_000, said(7, true)), "follows 7");
    assert_eq!(t.handle(10_001, said(7, true)), "");
    assert_eq!(t.handle(10_002, said(4, true)), "follows 4");
}

#[test]
fn who_leads_is_known_while_it_is_heard() {
    let mut t = Peer::new(5);
    assert_eq!(t.0.leader(at(0)), None);
    t.handle(1000, said(4, true));
    assert_eq!(t.0.leader(at(10_999)), Some(peer(4)));
    assert_eq!(t.0.leader(at(11_000)), None, "silent for a threshold");
    let leader = Peer::leader(3);
    assert_eq!(leader.0.leader(at(100_000)), Some(peer(3)));
}

#[test]
fn a_leader_follows_no_higher_one_and_who_led_may_follow_the_one_before() {
    let mut t = Peer::leader(5);
    assert_eq!(t.handle(7000, said(6, true)), "");
    assert_eq!(t.handle(8000, Input::Yield), "leads false");
    assert_eq!(t.handle(8001, said(6, true)), "follows 6");
}

#[test]
fn g_e1_a_leader_steps_down_for_a_lower_declaration() {
    let mut t = Peer::leader(5);
    assert_eq!(t.handle(7000, said(4, true)), "leads false, follows 4");
    assert!(!t.0.is_leading());
    assert_eq!(t.due(), 17_000);
}

#[test]
fn g_e7_a_leader_answers_a_higher_declaration_soon_but_not_each() {
    let mut t = Peer::leader(5);
    assert_eq!(t.handle(7000, said(6, true)), "");
    assert_eq!(t.due(), 6100, "the last word was at 6 s");
    assert_eq!(t.tick(7000, 2), "declares");
    assert_eq!(t.handle(7001, said(6, true)), "");
    assert_eq!(t.tick(7050, 2), "");
    assert_eq!(t.tick(7100, 2), "declares");
    assert!(t.0.is_leading());
}

#[test]
fn g_e3_both_kinds_share_one_counter() {
    let mut t = Peer::new(5).0;
    let mut out = Vec::new();
    for millis in [0, 1000, 6000, 11_000] {
        t.tick(at(millis), || 0, &ports(), &mut out);
    }
    let times: Vec<_> = out
        .iter()
        .filter_map(|effect| match effect {
            Effect::Say(envelope) => read(envelope).timestamp,
            Effect::Lead(_) | Effect::Follow(_) => None,
        })
        .map(|time| (time.inc_num, time.seq_num))
        .collect();
    assert_eq!(times, [(7, 1), (7, 2), (7, 3)]);
}

#[test]
fn who_yields_leaves_it_to_others_for_six_thresholds() {
    let mut t = Peer::leader(5);
    assert_eq!(t.handle(7000, Input::Yield), "leads false");
    for millis in [17_000, 27_000, 37_000, 47_000, 57_000] {
        assert_eq!(t.tick(millis, 2), "", "{millis}");
    }
    assert_eq!(t.tick(67_000, 2), "proposes");
}

#[test]
fn a_leader_elsewhere_ends_the_yielding() {
    let mut t = Peer::leader(5);
    t.handle(7000, Input::Yield);
    t.handle(8000, said(6, true));
    assert_eq!(t.tick(17_000, 2), "", "follows the new leader");
    assert_eq!(t.tick(27_000, 2), "proposes", "which fell silent");
}

#[test]
fn only_a_leader_yields() {
    let mut t = Peer::new(5);
    assert_eq!(t.handle(0, Input::Yield), "");
    t.tick(0, 2);
    assert_eq!(t.tick(1000, 2), "proposes");
}

#[test]
fn own_words_that_come_back_mean_nothing() {
    let mut t = Peer::leader(5);
    assert_eq!(t.handle(7000, said(5, true)), "");
    assert_eq!(t.due(), 11_000);
}

#[test]
fn proposals_are_bounded_and_the_lowest_stay() {
    let mut t = Peer::new(255).0;
    let mut out = Vec::new();
    for number in 0..=PROPOSALS_MAX {
        let mut id = [9; 32];
        id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        let Input::Heard(message) = said(0, false) else {
            unreachable!()
        };
        let message = Leadership {
            peer: PkiId::new(id),
            ..message
        };
        t.handle(at(0), Input::Heard(message), &ports(), &mut out);
    }
    assert_eq!(t.proposals.len(), PROPOSALS_MAX);
    assert_eq!(
        t.proposals.first().unwrap().as_bytes()[..8],
        1_u64.to_be_bytes()
    );
}

/// Several peers on a network without delay.
fn elect(numbers: &[u8], cut: &dyn Fn(u64, u8, u8) -> bool, until: u64) -> Vec<u8> {
    let mut peers: Vec<(u8, Peer)> = numbers.iter().map(|n| (*n, Peer::new(*n))).collect();
    for millis in (0..until).step_by(50) {
        let mut spoken = Vec::new();
        for (number, peer) in &mut peers {
            let mut out = Vec::new();
            peer.0
                .tick(at(millis), || numbers.len() - 1, &ports(), &mut out);
            spoken.extend(out.into_iter().map(|effect| (*number, effect)));
        }
        for (from, effect) in spoken {
            let Effect::Say(envelope) = effect else {
                continue;
            };
            for (to, peer) in &mut peers {
                if *to != from && !cut(millis, from, *to) {
                    peer.handle(millis, said(from, read(&envelope).is_declaration));
                }
            }
        }
    }
    peers
        .iter()
        .filter(|(_, peer)| peer.0.is_leading())
        .map(|(number, _)| *number)
        .collect()
}

#[test]
fn the_lowest_of_those_that_start_together_leads() {
    assert_eq!(elect(&[3, 1, 2], &|_, _, _| false, 30_000), [1]);
}

#[test]
fn after_a_partition_heals_one_leader_is_left() {
    let apart = |millis: u64, a: u8, b: u8| millis < 60_000 && (a < 3) != (b < 3);
    assert_eq!(elect(&[1, 2, 3, 4], &apart, 60_000), [1, 3]);
    assert_eq!(elect(&[1, 2, 3, 4], &apart, 70_000), [1]);
}

#[test]
fn when_the_leader_falls_silent_another_takes_over() {
    let gone = |millis: u64, a: u8, b: u8| millis > 30_000 && (a == 1 || b == 1);
    // The silent one goes on leading for itself: it hears nobody.
    assert_eq!(elect(&[1, 2, 3], &gone, 60_000), [1, 2]);
}

#[test]
fn g_e5_a_peer_without_others_leads_and_says_so() {
    assert_eq!(elect(&[1], &|_, _, _| false, 7_000), [1]);
    let mut t = Peer::new(1);
    assert_eq!(t.tick(0, 0), "");
    assert_eq!(t.tick(1000, 0), "proposes");
    assert_eq!(t.tick(6000, 0), "leads true, declares");
}

#[test]
fn g_e4_the_order_is_that_of_the_raw_bytes() {
    // In base64, 0xFB begins with a plus sign and would come before digits and letters.
    let mut t = Peer::leader(0x80);
    assert_eq!(t.handle(7000, said(0xFB, true)), "");
    assert!(t.0.is_leading());
    let mut t = Peer::leader(0xFB);
    assert_eq!(t.handle(7000, said(0x80, true)), "leads false, follows 128");
}

#[test]
fn proposals_heard_while_following_count_in_the_next_round() {
    let mut t = Peer::new(5);
    t.handle(0, said(9, true));
    t.handle(4000, said(4, false));
    assert_eq!(t.tick(10_000, 2), "proposes");
    assert_eq!(t.tick(15_000, 2), "", "4 is to lead");
    assert_eq!(t.tick(25_000, 2), "proposes", "but does not");
    assert_eq!(t.tick(30_000, 2), "leads true, declares");
}

#[test]
fn a_leader_is_not_displaced_by_a_lower_newcomer() {
    let mut t = Peer::new(1);
    assert_eq!(t.handle(500, said(9, true)), "follows 9");
    for declared in [5000, 10_400, 15_000, 20_400] {
        assert_eq!(t.handle(declared, said(9, true)), "");
        assert_eq!(t.tick(declared + 100, 2), "");
    }
    let mut t = Peer::leader(9);
    assert_eq!(
        t.handle(7000, said(1, false)),
        "",
        "a proposal is not enough"
    );
    assert!(t.0.is_leading());
}

#[test]
fn whoever_left_is_silent_until_it_joins_again_and_then_later_in_its_time() {
    let mut t = Peer::leader(5);
    assert_eq!(t.handle(7000, Input::Join), "", "it is in");
    assert!(t.0.is_leading());
    assert_eq!(t.handle(7000, Input::Leave), "leads false");
    assert_eq!(t.0.deadline(), None);
    for input in [said(6, true), said(4, false), Input::Yield, Input::Leave] {
        assert_eq!(t.handle(8000, input), "");
    }
    assert_eq!(t.tick(90_000, 2), "");
    assert_eq!(t.handle(90_000, Input::Join), "");
    assert_eq!(t.tick(90_000, 2), "");
    let mut out = Vec::new();
    t.0.tick(at(91_000), || 2, &ports(), &mut out);
    let [Effect::Say(envelope)] = &out[..] else {
        panic!("one proposal expected, not {out:?}");
    };
    let time = read(envelope).timestamp.unwrap();
    assert_eq!((time.inc_num, time.seq_num), (7, 3));
    assert_eq!(
        t.tick(96_000, 2),
        "leads true, declares",
        "nothing was heard meanwhile"
    );
}

// As peer1.org1 of the recorded network said it.
#[test]
fn our_declarations_are_those_of_go() {
    let mut id = [0; 32];
    hex::decode_to_slice(
        "73b69d944b9d0860f6684c2b7756140844652ac703ab96b8290e94a9eb88c744",
        &mut id,
    )
    .unwrap();
    let identity = PeerIdentity {
        pki_id: PkiId::new(id),
        ..toy::identity("A", "me").as_ref().clone()
    };
    let me = Me {
        identity: Arc::new(identity),
        incarnation_ns: 1_795_260_457_339_301_295,
        ..toy::me("A", "me", "")
    };
    let mut t = Election::new("mychannel".into(), &me, &ElectionConfig::default());
    let mut out = Vec::new();
    t.handle(at(0), Input::Join, &ports(), &mut out);
    for millis in [0, 1000, 6000] {
        t.tick(at(millis), || 0, &ports(), &mut out);
    }
    let [Effect::Say(_), Effect::Lead(true), Effect::Say(envelope)] = &out[..] else {
        panic!("a proposal and a declaration expected, not {out:?}");
    };
    let recorded = "12096d796368616e6e656c1804a201320a2073b69d944b9d0860f6684c2b775614084465\
                    2ac703ab96b8290e94a9eb88c744120c08afdb8ef8fcfb82f51810021801";
    assert_eq!(hex::encode(&envelope.payload), recorded);
    assert!(!envelope.signature.is_empty());
}
