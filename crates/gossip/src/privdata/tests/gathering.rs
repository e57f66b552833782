//! Pulling what a block lacks.

use super::*;

#[test]
fn nothing_that_is_wanted_is_gathered_at_once() {
    let mut t = Table::among(&[("b", 9)]);
    assert_eq!(t.want(8, vec![]), [gathered(8, vec![], vec![])]);
}

#[test]
fn a_request_names_everything_and_its_answer_ends_the_gathering() {
    let mut t = Table::among(&[("b", 9)]);
    let out = t.want(8, vec![wanted(8, 1), wanted(8, 0), wanted(8, 1)]);
    let asked = t.the_one_asked(&out);
    assert_eq!(asked.digests, [digest(8, 0), digest(8, 1)]);
    t.until(70);
    let elements = asked.digests.iter().map(element).collect();
    let out = t.answer(&asked, elements);
    let all = vec![found(&digest(8, 0), "b"), found(&digest(8, 1), "b")];
    assert_eq!(out, [answered("b", 70, 2), gathered(8, all, vec![])]);
    assert_eq!(t.private.sizes(), Sizes::default());
    assert_eq!(t.private.deadline(), None);
}

#[test]
fn blocks_are_gathered_beside_each_other() {
    let mut t = Table::among(&[("b", 9)]);
    let asked: Vec<Asked> = (8..12)
        .map(|number| {
            let out = t.want(number, vec![wanted(number, 0)]);
            t.the_one_asked(&out)
        })
        .collect();
    for number in [10, 8, 11, 9] {
        let asked = &asked[usize::try_from(number).unwrap() - 8];
        let out = t.answer(asked, vec![element(&digest(number, 0))]);
        let found = vec![found(&digest(number, 0), "b")];
        assert_eq!(out[1], gathered(number, found, vec![]));
    }
}

#[test]
fn what_one_peer_does_not_have_another_is_asked() {
    let mut t = Table::among(&[("b", 9), ("b2", 9)]);
    let out = t.want(8, vec![wanted(8, 0), wanted(8, 1)]);
    let first = t.the_one_asked(&out);
    let nothing = PrivateElement {
        digest: digest(8, 1),
        payloads: vec![],
    };
    let out = t.answer(&first, vec![element(&digest(8, 0)), nothing]);
    assert_eq!(out[0], answered(&first.whom, 0, 1));
    let second = t.the_one_asked(&out[1..]);
    assert_ne!(second.whom, first.whom);
    assert_eq!(second.digests, [digest(8, 1)]);
    assert_ne!(second.nonce, first.nonce);
    let out = t.answer(&second, vec![element(&digest(8, 1))]);
    let all = vec![
        found(&digest(8, 0), &first.whom),
        found(&digest(8, 1), &second.whom),
    ];
    assert_eq!(out[1..], [gathered(8, all, vec![])]);
}

#[test]
fn nobody_is_asked_twice_in_a_round_and_rounds_follow_one_another() {
    let mut t = Table::among(&[("b", 9), ("b2", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let mut asked = vec![t.the_one_asked(&out)];
    for round in 0..3 {
        let first = asked.last().unwrap().clone();
        let out = t.answer(&first, vec![]);
        let second = t.the_one_asked(&out[1..]);
        assert_ne!(second.whom, first.whom);
        let out = t.answer(&second, vec![]);
        assert_eq!(out.len(), 1, "nobody is left in this round: {out:?}");
        assert_eq!(t.until(round * 1000 + 999), []);
        let out = t.until(round * 1000 + 1000);
        asked.push(t.the_one_asked(&out));
    }
}

#[test]
fn a_gathering_ends_once_when_its_time_is_over() {
    let mut t = Table::among(&[("b", 9)]);
    let out = t.want(8, vec![wanted(8, 0), wanted(8, 1)]);
    let asked = t.the_one_asked(&out);
    t.answer(&asked, vec![element(&digest(8, 0))]);
    let out = t.until(59_999);
    assert_eq!(t.asked(&out).len(), out.len(), "only requests: {out:?}");
    let out = t.until(60_000);
    let missing = vec![(digest(8, 1), Missing::NotFound)];
    let found = vec![found(&digest(8, 0), "b")];
    assert_eq!(out, [gathered(8, found, missing)]);
    assert_eq!(t.until(200_000), []);
    assert_eq!(t.private.sizes(), Sizes::default());
}

#[test]
fn with_no_patience_nobody_is_asked() {
    let mut t = Table::among(&[("b", 9)]);
    let out = t.feed(Input::Wanted {
        key: GatherKey::Block(8),
        items: vec![wanted(8, 0)],
        patience: Duration::ZERO,
    });
    let missing = vec![(digest(8, 0), Missing::NotAsked)];
    assert_eq!(out, [gathered(8, vec![], missing)]);
}

#[test]
fn what_nobody_could_be_asked_for_is_told_from_what_nobody_gave() {
    let mut t = Table::among(&[]);
    assert_eq!(t.want(8, vec![wanted(8, 0)]), []);
    let missing = vec![(digest(8, 0), Missing::NotAsked)];
    assert_eq!(t.until(60_000), [gathered(8, vec![], missing)]);
}

#[test]
fn the_same_block_once_more_begins_anew() {
    let mut t = Table::among(&[("b", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let first = t.the_one_asked(&out);
    let out = t.want(8, vec![wanted(8, 0)]);
    let missing = vec![(digest(8, 0), Missing::NotFound)];
    assert_eq!(t.asked(&out).len(), 1);
    assert_eq!(out[1..], [gathered(8, vec![], missing)]);
    assert_eq!(
        t.answer(&first, vec![element(&digest(8, 0))]),
        [],
        "that is over"
    );
}

#[test]
fn silence_has_somebody_else_asked_and_costs_the_place() {
    let mut t = Table::among(&[("b", 9), ("b2", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let first = t.the_one_asked(&out);
    assert_eq!(t.until(4999), []);
    let out = t.until(5000);
    let second = t.the_one_asked(&out);
    assert_ne!(second.whom, first.whom);
    let late = t.answer(&first, vec![element(&digest(8, 0))]);
    assert_eq!(late, [], "PD-S8: after its time");
    t.answer(&second, vec![element(&digest(8, 0))]);
    for number in 10..30 {
        let out = t.want(number, vec![wanted(number, 0)]);
        let asked = t.the_one_asked(&out);
        assert_eq!(asked.whom, second.whom, "who did not answer is asked last");
        t.answer(&asked, vec![element(&digest(number, 0))]);
    }
}

#[test]
fn whoever_is_gone_is_not_waited_for() {
    type Gone = fn(PkiId) -> Input;
    let ways: [Gone; 3] = [
        Input::Unreachable,
        |peer| Input::Disconnected {
            connection: ConnectionId(7),
            peer,
        },
        Input::Forgotten,
    ];
    for gone in ways {
        let mut t = Table::among(&[("b", 9), ("b2", 9)]);
        let out = t.want(8, vec![wanted(8, 0)]);
        let first = t.the_one_asked(&out);
        let stranger = toy::identity("B", "stranger").pki_id;
        assert_eq!(t.feed(gone(stranger)), []);
        let lost = toy::identity("B", &first.whom).pki_id;
        let out = t.feed(gone(lost));
        assert_ne!(t.the_one_asked(&out).whom, first.whom);
    }
}

#[test]
fn whoever_comes_later_is_asked_in_the_next_round() {
    let mut t = Table::among(&[]);
    assert_eq!(t.want(8, vec![wanted(8, 0)]), []);
    assert_eq!(t.until(500), []);
    t.meet("B", "b", 9);
    let out = t.until(1000);
    assert_eq!(t.the_one_asked(&out).whom, "b");
}

#[test]
fn pd_s8_only_who_was_asked_may_answer_under_its_nonce() {
    let mut t = Table::among(&[("b", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let asked = t.the_one_asked(&out);
    let right = || vec![element(&digest(8, 0))];
    let out = t.receive(&connection("b"), response(asked.nonce ^ 1, right()));
    assert_eq!(out, []);
    let out = t.receive(&connection("b2"), response(asked.nonce, right()));
    assert_eq!((rules(&out), out.len()), (vec!["PD-S8"], 1));
    let out = t.answer(&asked, right());
    assert_eq!(out.len(), 2, "it may still answer: {out:?}");
    assert_eq!(t.answer(&asked, right()), [], "once");
}

#[test]
fn pd_s10_a_wrong_answer_does_not_end_the_search_and_is_said_once() {
    let mut t = Table::among(&[("b", 9), ("b2", 9)]);
    let mut said = 0;
    let mut liar = None;
    for number in 8..28 {
        let out = t.want(number, vec![wanted(number, 0)]);
        let first = t.the_one_asked(&out);
        let liar = liar.get_or_insert_with(|| first.whom.clone()).clone();
        if first.whom == liar {
            let out = t.answer(&first, vec![wrong(&digest(number, 0))]);
            said += warnings(&out);
            assert_eq!(rules(&out), ["PD-S10"]);
            let asked = t.asked(&out);
            assert_eq!(asked.len(), 1);
            assert_ne!(asked[0].whom, liar);
            let out = t.answer(&asked[0], vec![element(&digest(number, 0))]);
            let found = vec![found(&digest(number, 0), &asked[0].whom)];
            assert_eq!(out[1..], [gathered(number, found, vec![])]);
        } else {
            t.answer(&first, vec![element(&digest(number, 0))]);
        }
        t.until((number - 7) * 6000);
    }
    assert_eq!(said, 1);
}

#[test]
fn pd_s10_whoever_lied_is_asked_last() {
    let mut t = Table::among(&[("b", 9), ("b2", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let liar = t.the_one_asked(&out);
    let out = t.answer(&liar, vec![wrong(&digest(8, 0))]);
    let honest = t.asked(&out).remove(0);
    t.answer(&honest, vec![element(&digest(8, 0))]);
    for number in 10..30 {
        let out = t.want(number, vec![wanted(number, 0)]);
        let asked = t.the_one_asked(&out);
        assert_eq!(asked.whom, honest.whom);
        t.answer(&asked, vec![element(&digest(number, 0))]);
    }
}

#[test]
fn pd_s10_what_was_not_asked_for_is_not_taken() {
    let mut t = Table::among(&[("b", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let first = t.the_one_asked(&out);
    let mut renamed = element(&digest(8, 0));
    renamed.digest.tx_id = "another".to_owned();
    let out = t.answer(&first, vec![element(&digest(8, 1)), renamed]);
    assert_eq!(rules(&out), ["PD-S10"]);
    assert_eq!(warnings(&out), 1);
    let out = t.until(1000);
    let again = t.the_one_asked(&out);
    let out = t.answer(&again, vec![element(&digest(8, 0)), element(&digest(8, 0))]);
    let found = vec![found(&digest(8, 0), "b")];
    assert_eq!(out, [answered("b", 0, 1), gathered(8, found, vec![])]);
}

#[test]
fn one_right_payload_among_several_is_enough() {
    let mut t = Table::among(&[("b", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let asked = t.the_one_asked(&out);
    let mut several = wrong(&digest(8, 0));
    several.payloads.push(payload(rwset(&digest(8, 0))));
    let out = t.answer(&asked, vec![several]);
    let found = vec![found(&digest(8, 0), "b")];
    assert_eq!(out, [answered("b", 0, 1), gathered(8, found, vec![])]);
}

#[test]
fn when_all_who_have_it_give_something_else_nobody_is_waited_for() {
    let mut t = Table::among(&[("b", 9), ("b2", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let first = t.the_one_asked(&out);
    let out = t.answer(&first, vec![wrong(&digest(8, 0))]);
    let second = t.asked(&out).remove(0);
    let out = t.answer(&second, vec![wrong(&digest(8, 0))]);
    let missing = vec![(digest(8, 0), Missing::Differs)];
    assert_eq!(out.last(), Some(&gathered(8, vec![], missing)));
}

#[test]
fn what_may_differ_is_handed_on_to_be_judged() {
    let mut t = Table::among(&[("b", 9)]);
    let mut purged = wanted(8, 0);
    purged.may_differ = true;
    let out = t.want(8, vec![purged]);
    let asked = t.the_one_asked(&out);
    let out = t.answer(&asked, vec![wrong(&digest(8, 0))]);
    let unverified = Found {
        payload: Bytes::from_static(b"something else"),
        is_verified: false,
        ..found(&digest(8, 0), "b")
    };
    let ended = gathered(8, vec![unverified], vec![]);
    assert_eq!(out, [answered("b", 0, 1), ended]);
    assert_eq!(t.private.sizes(), Sizes::default());
    let judged = Input::Doubted {
        peer: toy::identity("B", "b").pki_id,
        reason: "a key is missing".to_owned(),
    };
    let out = t.feed(judged);
    assert_eq!((warnings(&out), rules(&out)), (1, vec!["PD-S10"]));
}

/// Asks for what may differ until the one who is asked says what `say` gives; returns what came of
/// it and who was asked.
fn ask_all(names: &[&str], say: impl Fn(usize) -> PrivateElement) -> (Vec<Effect>, Vec<String>) {
    let mut t = Table::among(&[]);
    for name in names {
        t.meet("B", name, 9);
    }
    let mut purged = wanted(8, 0);
    purged.may_differ = true;
    let mut out = t.want(8, vec![purged]);
    let mut whom = Vec::new();
    while let Some(asked) = t.asked(&out).pop() {
        out = t.answer(&asked, vec![say(whom.len())]);
        whom.push(asked.whom);
    }
    (out, whom)
}

#[test]
fn what_may_differ_does_not_end_the_search_while_others_may_have_what_was_wanted() {
    let (out, whom) = ask_all(&["b", "b2"], |at| match at {
        0 => wrong(&digest(8, 0)),
        _ => element(&digest(8, 0)),
    });
    let all = vec![found(&digest(8, 0), &whom[1])];
    assert_eq!(out.last(), Some(&gathered(8, all, vec![])));
}

#[test]
fn of_what_may_differ_so_many_copies_are_handed_on() {
    let names: Vec<String> = (0..gather::OTHERS_MAX + 2)
        .map(|n| format!("b{n}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (out, whom) = ask_all(&names, |at| PrivateElement {
        digest: digest(8, 0),
        payloads: vec![payload(format!("left {}", at.max(1)))],
    });
    assert_eq!(whom.len(), names.len(), "each is asked once");
    let Some(Effect::Gathered { found, .. }) = out.last() else {
        panic!("{out:?}");
    };
    let from: Vec<_> = found.iter().map(|found| found.from).collect();
    // The second gave what the first had given.
    let others = [0, 2, 3, 4].map(|at| toy::identity("B", &whom[at]).pki_id);
    assert_eq!(from, others);
    assert_eq!(found.len(), gather::OTHERS_MAX);
}

#[test]
fn what_was_lied_about_is_not_said_to_be_nowhere() {
    let mut t = Table::with(Config::default());
    t.meet("B", "b", 9);
    t.meet("B", "b2", 9);
    t.until(1000);
    let mut item = wanted(8, 0);
    item.digest.tx_id.clear();
    let out = t.feed(Input::Wanted {
        key: GatherKey::Reconcile(1),
        items: vec![item.clone()],
        patience: Duration::from_secs(60),
    });
    let first = t.the_one_asked(&out);
    let out = t.answer(&first, vec![wrong(&item.digest)]);
    let second = t.asked(&out).remove(0);
    let out = t.answer(&second, vec![]);
    let ended = Effect::Gathered {
        key: GatherKey::Reconcile(1),
        found: vec![],
        missing: vec![(item.digest, Missing::Differs)],
    };
    assert_eq!(out.last(), Some(&ended));
}

#[test]
fn an_empty_write_set_counts_only_where_keys_may_be_purged() {
    for may_differ in [false, true] {
        let mut t = Table::among(&[("b", 9)]);
        let mut purged = wanted(8, 0);
        purged.may_differ = may_differ;
        let out = t.want(8, vec![purged]);
        let asked = t.the_one_asked(&out);
        let empty = PrivateElement {
            digest: digest(8, 0),
            payloads: vec![payload("")],
        };
        let out = t.answer(&asked, vec![empty]);
        assert_eq!(warnings(&out), 0, "it says nothing wrong");
        assert!(
            out.contains(&answered("b", 0, may_differ.into())),
            "{out:?}"
        );
    }
}

#[test]
fn items_are_asked_of_whom_their_own_peers_are_however_many_others_there_are() {
    let mut t = Table::among(&[("b1", 9), ("b2", 9)]);
    let endorsed = |seq, by: &[&str]| Wanted {
        endorsers: by
            .iter()
            .map(|name| toy::identity("B", name).serialized.clone())
            .collect(),
        ..wanted(8, seq)
    };
    let items = vec![
        endorsed(0, &["b1"]),
        endorsed(1, &["b2"]),
        endorsed(2, &["b1"]),
        endorsed(3, &["b2"]),
    ];
    let out = t.want(8, items);
    let asked = t.asked(&out);
    let of = |n: usize| -> Vec<u64> {
        let digests = asked[n].digests.iter();
        digests.map(|digest| digest.seq_in_block).collect()
    };
    assert_eq!((of(0), of(1)), (vec![0, 2], vec![1, 3]));
    // One that gave something wrong is not asked again for that, and for nothing else sooner.
    let wrong = PrivateElement {
        digest: digest(8, 0),
        payloads: vec![payload("wrong")],
    };
    let out = t.answer(&asked[0], vec![wrong]);
    let again = t.asked(&out);
    assert_eq!((again[0].whom.as_str(), again[0].digests.len()), ("b2", 2));
}
