//! Several sources at the same time.

use super::*;

#[test]
fn several_peers_are_asked_for_disjoint_ranges() {
    let mut t = Table::among(&[("b", 200), ("b2", 200), ("b3", 200)]);
    let out = t.claim(200);
    let asked = t.asked(&out);
    assert_eq!(
        ranges(&asked),
        [
            100..=110,
            111..=121,
            122..=132,
            133..=143,
            144..=154,
            155..=165
        ]
    );
    for name in ["b", "b2", "b3"] {
        let share = asked.iter().filter(|each| each.whom == name).count();
        assert_eq!(share, 2, "{name}: one is answered while one waits");
    }
    let first: std::collections::BTreeSet<_> = asked[..3].iter().map(|each| &each.whom).collect();
    assert_eq!(first.len(), 3, "nobody is asked twice before the others");
}

#[test]
fn quick_answers_widen_the_window_of_the_only_source() {
    let mut t = Table::among(&[("b", 2000)]);
    let out = t.claim(2000);
    let mut open = t.asked(&out);
    let mut most = 0;
    let mut height = 100;
    while height < 500 {
        most = most.max(open.len());
        t.now = t.now + Duration::from_millis(5);
        let asked = open.remove(0);
        height = asked.range.end() + 1;
        let out = t.answer(&asked);
        open.extend(t.asked(&only_sends(out)));
        let out = t.feed(Input::Height(height));
        open.extend(t.asked(&only_sends(out)));
    }
    assert_eq!(most, WINDOW_MAX);
    assert_eq!(t.windows(), [("b".to_owned(), WINDOW_MAX)]);
    assert_eq!(t.shares()["b"].blocks, height - 100);
}

#[test]
fn who_keeps_the_ledger_waiting_is_helped_by_another_and_loses_its_share() {
    let mut t = Table::among(&[("b", 145), ("b2", 145)]);
    let out = t.claim(145);
    let asked = t.asked(&out);
    assert_eq!(asked.len(), 4);
    let slow = asked[0].clone();
    t.now = at(20);
    let mut more = Vec::new();
    for quick in asked.iter().filter(|each| each.whom != slow.whom) {
        let out = t.answer(quick);
        more.extend(t.asked(&out));
    }
    assert_eq!(ranges(&more), [144..=144], "everything else is under way");
    let out = t.until(99);
    assert_eq!(out, [], "the quickest took 20 ms");
    let out = t.until(100);
    let hedge = t.the_one_asked(&out);
    assert_eq!((hedge.nonce, &hedge.range), (slow.nonce, &slow.range));
    assert_ne!(hedge.whom, slow.whom);
    assert_eq!(t.shares()[&slow.whom].window, 1);
    let out = t.answer(&hedge);
    let committed = out.iter().filter(|e| matches!(e, Effect::Commit { .. }));
    assert!(committed.count() >= 11, "the first valid answer wins");
    assert_eq!(t.answer(&slow), [], "the other is no news");
    assert_eq!(t.shares()[&slow.whom].blocks, 0);
}

#[test]
fn somebody_else_is_asked_once_for_what_is_late() {
    let mut t = Table::among(&[("b", 105), ("b2", 105), ("b3", 105), ("b4", 105)]);
    let out = t.until(10_000);
    let first = t.the_one_asked(&out);
    assert_eq!(t.until(10_749), [], "a quarter of responseTimeout");
    let out = t.until(10_750);
    let second = t.the_one_asked(&out);
    assert_ne!(first.whom, second.whom);
    assert_eq!(t.until(12_999), []);
    // The first request is given up, and the second may be as lost.
    let out = t.until(13_000);
    let third = t.the_one_asked(&out);
    assert!(third.whom != first.whom && third.whom != second.whom);
    assert_eq!(third.nonce, first.nonce);
}

#[test]
fn who_does_not_answer_is_asked_for_little() {
    let mut t = Table::among(&[("b", 100_000), ("b2", 100_000)]);
    let out = t.claim(100_000);
    let mut open = t.asked(&out);
    let mut height = 100;
    let mut silent = 0;
    for _ in 0..200 {
        t.now = t.now + Duration::from_millis(10);
        let now = t.now.since_start().as_millis();
        let out = t.until(u64::try_from(now).unwrap());
        open.extend(t.asked(&out));
        let quick: Vec<Asked> = open.extract_if(.., |each| each.whom == "b2").collect();
        silent = silent.max(open.len());
        open.clear();
        for asked in quick {
            let out = t.answer(&asked);
            open.extend(t.asked(&only_sends(out)));
        }
        height = t.transfer.buffer.first_missing().max(height);
        let out = t.feed(Input::Height(height));
        open.extend(t.asked(&only_sends(out)));
    }
    assert!(silent <= sources::WINDOW_FIRST, "{silent}");
    assert!(height > 2000, "{height} in two seconds");
    assert_eq!(t.shares()["b"].blocks, 0);
}

/// With blocks from our organization comes private data that others may not have.
#[test]
fn peers_of_our_organization_are_asked_first_and_others_for_what_they_have_no_room_for() {
    let mut t = Table::among(&[("b", 200), ("b2", 200)]);
    t.meet_of("A", "a", 200);
    let out = t.claim(200);
    let asked = t.asked(&out);
    let whom: Vec<&str> = asked.iter().map(|each| &*each.whom).collect();
    assert_eq!(whom[..2], ["a"; 2]);
    assert_eq!(whom.len(), 6, "nobody waits: {whom:?}");
    assert_eq!(ranges(&asked[..2]), [100..=110, 111..=121]);
}

#[test]
fn a_peer_of_our_organization_that_has_less_comes_last() {
    let mut t = Table::among(&[("b", 200)]);
    t.meet_of("A", "a", 105);
    let out = t.claim(200);
    let asked = t.asked(&out);
    let whom: Vec<&str> = asked.iter().map(|each| &*each.whom).collect();
    assert_eq!(whom[..2], ["b"; 2]);
}
