//! Whom we believe, and what becomes of answers that are not what was asked for.

use prost::Message as _;
use tidings_proto::{gossip::PvtDataPayload, rwset::TxPvtReadWriteSet};

use super::*;

#[test]
fn s_s5_what_was_not_asked_for_is_dropped() {
    let mut t = Table::among(&[("b", 111)]);
    assert_eq!(t.receive("b", response(1, [100])), []);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    assert_eq!(t.receive("b", response(asked.nonce ^ 1, [100])), []);
    assert_eq!(t.transfer.waiting(), 0);
}

#[test]
fn s_s5_who_begins_again_asks_by_nonces_that_were_never_used() {
    let mut t = Table::among(&[("b", 105)]);
    let out = t.until(10_000);
    let before = t.the_one_asked(&out);
    t.transfer.begin_again(100, t.now);
    assert_eq!(t.receive("b", response(before.nonce, 100..=104)), []);
    let out = t.until(20_000);
    let after = t.the_one_asked(&out);
    assert_eq!(after.range, before.range);
    assert_ne!(after.nonce, before.nonce);
    assert_eq!(t.receive("b", response(before.nonce, 100..=104)), []);
}

#[test]
fn s_s10_only_who_was_asked_may_answer() {
    let mut t = Table::among(&[("b", 111)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    let out = t.receive("b2", response(asked.nonce, 100..=110));
    assert_eq!(rules(&out), ["S-S10"]);
    assert_eq!(out.len(), 1);
}

#[test]
fn s_s10_answers_hold_what_was_asked_from_the_first_missing_block_on() {
    for (wrong, kept) in [
        (vec![101, 102], 0),
        (vec![99, 100], 0),
        (vec![100, 100], 1),
        (vec![100, 102], 1),
        (vec![100, 101, 102, 103, 104, 105], 5),
    ] {
        let mut t = Table::among(&[("b", 105)]);
        let out = t.until(10_000);
        let asked = t.the_one_asked(&out);
        assert_eq!(asked.range, 100..=104);
        let out = t.receive("b", response(asked.nonce, wrong.clone()));
        assert_eq!(rules(&out), ["S-S10"], "{wrong:?}");
        let committed = out.iter().filter(|e| matches!(e, Effect::Commit { .. }));
        assert_eq!(committed.count(), kept, "{wrong:?}");
    }
}

#[test]
fn s_s10_private_data_is_looked_at_before_the_block_is_handed_over() {
    let mut t = Table::among(&[("b", 102)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    let payload = PvtDataPayload {
        tx_seq_in_block: 1,
        payload: TxPvtReadWriteSet::default().encode_to_vec().into(),
    };
    let good: bytes::Bytes = payload.encode_to_vec().into();
    let outer = bytes::Bytes::from_static(b"\xff\xff");
    let inner: bytes::Bytes = PvtDataPayload {
        payload: outer.clone(),
        ..payload
    }
    .encode_to_vec()
    .into();
    let mut blocks = vec![transferred(100), transferred(101)];
    blocks[0].private_data = vec![good.clone()];
    for bad in [outer, inner] {
        blocks[1].private_data = vec![good.clone(), bad];
        let mut t = Table::among(&[("b", 102)]);
        let nonce = {
            let out = t.until(10_000);
            t.the_one_asked(&out).nonce
        };
        assert_eq!(nonce, asked.nonce);
        let message = Message::StateResponse {
            channel: "ch".into(),
            nonce,
            blocks: blocks.clone(),
        };
        let out = t.receive("b", message);
        assert_eq!(rules(&out), ["S-S10"]);
        let with_data = Effect::Commit {
            block: block(100),
            source: Source::Transfer,
            private_data: vec![good.clone()],
        };
        assert_eq!(out.iter().filter(|e| **e == with_data).count(), 1);
        assert_eq!(out.len(), 2, "101 is not taken: {out:?}");
    }
}

#[test]
fn s_s5_a_second_answer_to_a_request_is_dropped() {
    let mut t = Table::among(&[("b", 114)]);
    let out = t.until(10_000);
    let asked = t.asked(&out);
    assert_eq!(t.answer(&asked[1]), []);
    assert_eq!(t.answer(&asked[1]), []);
    assert_eq!(t.receive("b", response(asked[1].nonce, [500])), []);
    assert_eq!(t.shares()["b"].blocks, 3, "counted once");
}

#[test]
fn s_s6_an_answer_cut_short_by_the_gate_costs_trust_if_nothing_is_left() {
    // The gate ends an answer before the first block that is not valid.
    let mut t = Table::among(&[("b", 111), ("b2", 111)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    let out = t.answer_nothing(&asked);
    let next = t.the_one_asked(&out);
    assert_ne!(next.whom, asked.whom);
    assert_eq!((next.nonce, next.range.clone()), (asked.nonce, 100..=110));
    assert_eq!(t.shares()[&asked.whom].window, 0);
    assert_eq!(t.answer_nothing(&next), [], "nobody is left to believe");
}

#[test]
fn who_has_less_is_asked_for_no_more_than_it_has() {
    let mut t = Table::among(&[("b", 111), ("b2", 105)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    assert_eq!(asked.whom, "b", "the only one who has the whole range");
    let out = t.answer_nothing(&asked);
    let next = t.the_one_asked(&out);
    assert_eq!((next.whom.as_str(), next.range), ("b2", 100..=104));
    assert_ne!(next.nonce, asked.nonce, "another range, another nonce");
}

#[test]
fn an_invented_height_stalls_nobody() {
    let mut t = Table::among(&[("honest", 105), ("liar", u64::MAX)]);
    let out = t.until(10_000);
    let asked = t.asked(&out);
    assert_eq!(asked[0].whom, "liar", "it claims the whole range");
    assert_eq!(ranges(&asked), [100..=110, 111..=121]);
    let out = t.answer_nothing(&asked[0]);
    let next = t.the_one_asked(&out);
    assert_eq!((next.whom.as_str(), &next.range), ("honest", &(100..=104)));
    assert_eq!(t.answer_nothing(&asked[1]), []);
    assert_eq!(t.answer(&next), commits(100..=104, Source::Transfer));
    let out = t.feed(Input::Height(105));
    let [
        Effect::Notify(Notice::CatchUp {
            stage, progress, ..
        }),
    ] = out.as_slice()
    else {
        panic!("nothing more is asked: {out:?}");
    };
    assert_eq!(*stage, Stage::CaughtUp);
    assert_eq!(
        (progress.from, progress.height, progress.goal),
        (100, 105, 105)
    );
    let mut rounds = Vec::new();
    for round in 2..=12 {
        let out = t.until(round * 10_000);
        if let Some(request) = t.asked(&out).first() {
            rounds.push(round);
            t.answer_nothing(request);
        }
    }
    assert_eq!(rounds, [2, 3, 5, 9], "ever more rarely");
}

#[test]
fn blocks_out_of_place_cost_trust_wherever_they_were_asked_for() {
    for wrong in [vec![112, 113], vec![111, 113], vec![110, 111]] {
        let mut t = Table::among(&[("b", 114)]);
        let out = t.until(10_000);
        let asked = t.asked(&out);
        let out = t.receive("b", response(asked[1].nonce, wrong.clone()));
        assert_eq!(rules(&out), ["S-S10"], "{wrong:?}");
        assert_eq!(t.transfer.progress(t.now), None, "nobody is left");
    }
}

#[test]
fn what_cannot_be_verified_yet_is_asked_again_when_its_predecessors_are_durable() {
    // As behind a change of the configuration that is not in force here yet.
    let mut t = Table::among(&[("b", 133)]);
    let out = t.claim(133);
    let asked = t.asked(&out);
    assert_eq!(ranges(&asked), [100..=110, 111..=121]);
    assert_eq!(
        t.answer_nothing(&asked[1]),
        [],
        "whoever is asked, before that"
    );
    assert_eq!(t.shares()["b"].window, 1, "it need not be to blame");
    let out = t.answer(&asked[0]);
    assert_eq!(out, commits(100..=110, Source::Transfer));
    assert_eq!(t.feed(Input::Height(110)), []);
    let out = t.feed(Input::Height(111));
    let again = t.asked(&out);
    assert_eq!(ranges(&again), [111..=121, 122..=132]);
    let out = t.answer_nothing(&again[0]);
    assert!(matches!(
        out.as_slice(),
        [Effect::Notify(Notice::CatchUp {
            stage: Stage::Stopped,
            ..
        })]
    ));
}

#[test]
fn what_one_peer_could_not_give_is_asked_of_another_before_it_is_put_off() {
    let mut t = Table::among(&[("b", 144), ("b2", 144), ("b3", 144)]);
    let out = t.claim(144);
    let asked = t.asked(&out);
    let failed = asked.iter().find(|each| each.range == (111..=121)).unwrap();
    let out = t.answer_nothing(failed);
    let second = t.the_one_asked(&out);
    assert_eq!((second.nonce, &second.range), (failed.nonce, &(111..=121)));
    assert_ne!(second.whom, failed.whom);
    assert_eq!(t.answer_nothing(&second), [], "two are enough");
    let first = asked.iter().find(|each| each.range == (100..=110)).unwrap();
    let beyond: Vec<_> = asked.iter().filter(|a| *a.range.start() > 121).collect();
    assert!(!beyond.is_empty());
    let before = t.windows();
    for each in beyond {
        assert_eq!(t.answer_nothing(each), []);
    }
    assert_eq!(t.windows(), before, "of which more of the same is no sign");
    t.answer(first);
    let out = t.feed(Input::Height(111));
    assert_eq!(*t.asked(&out)[0].range.start(), 111);
}

#[test]
fn who_fails_again_and_again_is_left_out() {
    let mut t = Table::among(&[("b", 5000), ("b2", 5000)]);
    let out = t.claim(5000);
    let mut open = t.asked(&out);
    let out = t.answer(&open.remove(0));
    open.extend(t.asked(&only_sends(out)));
    let mut fails = 0;
    while t.shares()["b2"].window > 0 {
        t.now = t.now + Duration::from_millis(1);
        // The ledger is always one block behind, so that nothing is certain.
        let height = t.transfer.buffer.first_missing() - 1;
        let mut out = t.feed(Input::Height(height));
        let failing = open.iter().position(|each| each.whom == "b2");
        let asked = open.remove(failing.unwrap_or(0));
        out.extend(if failing.is_some() {
            fails += 1;
            t.answer_nothing(&asked)
        } else {
            t.answer(&asked)
        });
        open.extend(t.asked(&only_sends(out)));
    }
    // Once and three repeats, and what was on its way when it failed.
    assert!((4..8).contains(&fails), "{fails}");
}
