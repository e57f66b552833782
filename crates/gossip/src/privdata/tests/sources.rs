//! Whom to ask.

use super::*;

/// The names of whom is asked one after another, while nobody has anything.
fn order(t: &mut Table, item: Wanted) -> Vec<String> {
    let mut out = t.want(item.digest.block, vec![item]);
    let mut names = Vec::new();
    while let Some(asked) = t.asked(&out).pop() {
        names.push(asked.whom.clone());
        let org = if asked.whom.starts_with('a') {
            "A"
        } else {
            "B"
        };
        let from = toy::connection(7, &toy::identity(org, &asked.whom));
        out = t.receive(&from, response(asked.nonce, vec![]));
    }
    names
}

#[test]
fn endorsers_come_first_then_old_members_then_others() {
    for seed in 0..10 {
        let mut t = Table::among(&[]);
        for _ in 0..seed {
            // Another place in the stream of chance.
            t.want(1, vec![]);
        }
        for name in ["a1", "a2", "a3"] {
            t.meet_own(name, 9);
        }
        for name in ["b1", "b2", "b3"] {
            t.meet("B", name, 9);
        }
        let item = Wanted {
            endorsers: vec![toy::identity("B", "b2").serialized.clone()],
            member_orgs: ["B".into()].into(),
            ..wanted(8, 0)
        };
        let names = order(&mut t, item);
        assert_eq!(names[0], "b2");
        let rest = |range: std::ops::Range<usize>| {
            let mut names = names[range].to_vec();
            names.sort();
            names
        };
        assert_eq!(rest(1..3), ["b1", "b3"]);
        assert_eq!(rest(3..6), ["a1", "a2", "a3"]);
        assert_eq!(names.len(), 6);
    }
}

#[test]
fn an_endorser_that_was_no_member_has_nothing_to_give() {
    let mut t = Table::among(&[("b", 9)]);
    t.meet_own("a1", 9);
    let mut item = Wanted {
        endorsers: vec![toy::identity("B", "b").serialized.clone()],
        member_orgs: ["A".into()].into(),
        ..wanted(8, 0)
    };
    item.digest.collection = "A".to_owned();
    assert_eq!(order(&mut t, item), ["a1"]);
}

#[test]
fn whoever_is_not_entitled_is_not_asked() {
    let mut t = Table::among(&[("b", 9), ("b2", 9)]);
    let mut item = wanted(8, 0);
    item.digest.collection = "A".to_owned();
    assert_eq!(order(&mut t, item), [""; 0]);
    let outsider = toy::identity("B", "b").pki_id;
    t.scene.ports.outsiders.insert(outsider);
    assert_eq!(order(&mut t, wanted(9, 0)), ["b2"]);
}

#[test]
fn without_a_transaction_only_those_are_asked_whose_ledgers_have_the_block() {
    let mut t = Table::among(&[("short", 8), ("long", 9)]);
    let mut item = wanted(8, 0);
    item.digest.tx_id.clear();
    assert_eq!(order(&mut t, item), ["long"]);
    let mut names = order(&mut t, wanted(9, 0));
    names.sort();
    assert_eq!(names, ["long", "short"], "it may have been pushed");
}

#[test]
fn pd_s12_an_invented_height_speaks_for_nobody_else() {
    let mut t = Table::among(&[("honest", 9), ("liar", u64::MAX)]);
    let item = Wanted {
        block_to_live: 100,
        ..wanted(8, 0)
    };
    assert_eq!(order(&mut t, item), ["honest"]);
    assert_eq!(t.private.sizes().gathers, 1, "it is still looked for");
}

#[test]
fn pd_s12_what_all_who_may_have_it_have_outlived_is_not_looked_for() {
    // The margin is ten blocks: a peer at 98 will delete the data of block 8 soon.
    let expired = |peers: &[(&str, u64)], block_to_live| {
        let mut t = Table::among(peers);
        let item = Wanted {
            block_to_live,
            ..wanted(8, 0)
        };
        let out = t.want(8, vec![item]);
        let missing = vec![(digest(8, 0), Missing::Expired)];
        out == [gathered(8, vec![], missing)]
    };
    assert!(expired(&[("b", 98), ("b2", 200)], 100));
    assert!(!expired(&[("b", 97), ("b2", 200)], 100));
    assert!(!expired(&[("b", 98)], 0), "this one lives for ever");
    assert!(!expired(&[("b", 98)], u64::MAX));
    assert!(!expired(&[], 1), "nobody says so");
}

#[test]
fn pd_s12_blocks_prove_that_data_has_reached_its_end() {
    let mut t = Table::among(&[("b", 9)]);
    let item = || Wanted {
        block_to_live: 100,
        ..wanted(8, 0)
    };
    t.feed(Input::Verified(108));
    let out = t.want(8, vec![item()]);
    t.the_one_asked(&out);
    t.feed(Input::Verified(109));
    t.feed(Input::Verified(7));
    let out = t.want(8, vec![item()]);
    let missing = vec![(digest(8, 0), Missing::Expired)];
    assert_eq!(out.last(), Some(&gathered(8, vec![], missing)));
}
