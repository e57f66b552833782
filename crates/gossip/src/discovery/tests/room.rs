//! Limits, and that no other organization can use them to keep ours out.

use super::{super::members::FOREIGN_MAX, *};

fn crowd(stage: &mut Stage, orgs: &[&str], each: usize) {
    for org in orgs {
        for n in 0..each {
            let peer = toy::identity(org, &n.to_string());
            let alive = Speech::of(&peer, "x:1", "").alive();
            let now = Moment::after_start(Duration::from_millis(n as u64));
            stage.node.members.learn_dead(now, &alive);
        }
    }
}

#[test]
fn m_s3_one_other_organization_has_a_share_of_the_members() {
    let mut stage = Stage::new();
    crowd(&mut stage, &["B"], FOREIGN_MAX - 1);
    stage.meet(&b("last"), "x:1", "");
    let late = || Speech::of(&b("late"), "x:1", "").alive();
    check(&stage.gossip(at(1), late()), &["refused: M-S3"]);
    assert_eq!(stage.tell(at(1), Vec::new(), vec![late()]), []);
    assert_eq!(stage.standing(&b("late")), "unknown");
    stage.meet(&toy::identity("C", "c"), "x:1", "");
    // One that is forgotten leaves its place to another.
    stage.handle(at(1), Input::Purge(b("last").pki_id));
    let out = stage.gossip(at(1), late());
    check(&out, &["alive: x:1", "gossip 1 from courier"]);
}

#[test]
fn m_s3_newcomers_of_our_organization_take_the_place_of_others() {
    let mut stage = Stage::new();
    crowd(&mut stage, &["B", "C", "D", "E"], FOREIGN_MAX);
    let stranger = toy::identity("F", "f");
    let out = stage.gossip(at(10), Speech::of(&stranger, "x:1", "").alive());
    check(&out, &["refused: M-S3"]);
    let out = stage.gossip(at(10), Speech::of(&a("p"), "", "p:1").alive());
    check(&out, &["forgotten", "alive: p:1", "gossip 1 from courier"]);
    assert_eq!(stage.node.members.of_org(&"A".into()), 1);
    let dead = Speech::of(&a("q"), "", "q:1").alive();
    stage.know(&a("q"));
    check(&stage.tell(at(10), Vec::new(), vec![dead]), &["forgotten"]);
    assert_eq!(stage.standing(&a("q")), "dead");
    let all = stage.node.alive().chain(stage.node.dead()).count();
    assert_eq!(all, MEMBERS_MAX);
    let gone = ["B", "C", "D", "E"]
        .map(|org| stage.standing(&toy::identity(org, "0")))
        .into_iter()
        .filter(|standing| *standing == "unknown");
    assert_eq!(gone.count(), 2, "those silent for longest");
}

#[test]
fn m_s3_those_of_our_organization_are_heard_whoever_was_heard_before() {
    let mut stage = Stage::new();
    for n in 0..HEARD_MAX {
        let peer = b(&n.to_string()).pki_id;
        let now = Moment::after_start(Duration::from_millis(n as u64));
        assert!(stage.node.heard.add(now, peer, toy::time(1, 1), ()));
    }
    let out = stage.gossip(at(20), Speech::of(&b("late"), "x:1", "").alive());
    check(&out, &["refused: M-S3"]);
    let out = stage.gossip(at(20), Speech::of(&a("p"), "", "p:1").alive());
    check(&out, &["alive: p:1", "gossip 1 from courier"]);
    assert_eq!(stage.node.heard.len(), HEARD_MAX);
    assert!(stage.node.heard.get(&b("0").pki_id).is_none(), "the first");
    assert!(stage.node.heard.get(&b("1").pki_id).is_some());
}
