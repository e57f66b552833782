//! Requests of ours.

use super::*;

#[test]
fn g_s5_by_default_nothing_is_asked() {
    let mut t = Table::with(Config::default());
    t.meet("b", 200);
    t.push(105);
    assert_eq!(t.until(100_000), []);
    assert_eq!(t.transfer.deadline(), None);
}

#[test]
fn g_s1_one_batch_after_another_is_asked_until_nothing_is_missing() {
    let mut t = Table::among(&[("b", 114)]);
    assert_eq!(t.until(9999), []);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    assert_eq!(asked.range, 100..=110);
    let out = t.receive("b", response(asked.nonce, 100..=110));
    let (committed, next) = out.split_at(11);
    assert_eq!(committed, commits(100..=110, Source::Transfer));
    let next = t.the_one_asked(next);
    assert_eq!(next.range, 111..=113);
    assert_ne!(next.nonce, asked.nonce);
    let out = t.receive("b", response(next.nonce, 111..=113));
    assert_eq!(out, commits(111..=113, Source::Transfer));
    t.feed(Input::Height(114));
    assert_eq!(t.until(60_000), [], "level with everybody");
}

#[test]
fn only_what_is_missing_is_asked() {
    let mut t = Table::among(&[("b", 110)]);
    t.push(100);
    t.push(103);
    t.push(104);
    let out = t.until(10_000);
    assert_eq!(t.the_one_asked(&out[..1]).range, 101..=102);
}

#[test]
fn a_block_kept_waiting_is_cause_to_ask_at_once() {
    let mut t = Table::among(&[("b", 110)]);
    t.now = at(1000);
    t.push(103);
    assert_eq!(t.until(1499), []);
    let out = t.until(1500);
    let asked = t.the_one_asked(&out);
    assert_eq!(asked.range, 100..=102);
    let out = t.receive("b", response(asked.nonce, 100..=102));
    assert_eq!(
        out.len(),
        5,
        "four commits, and the rest is asked for: {out:?}"
    );
}

#[test]
fn a_gap_that_closes_in_time_is_no_cause() {
    let mut t = Table::among(&[("b", 104)]);
    t.push(101);
    t.until(499);
    t.push(100);
    t.push(103);
    t.until(600);
    t.push(102);
    assert_eq!(t.until(5000), []);
}

#[test]
fn g_s3_short_answers_are_continued() {
    let mut t = Table::among(&[("b", 111)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    let out = t.receive("b", response(asked.nonce, 100..=103));
    let next = t.the_one_asked(&out[4..]);
    assert_eq!(next.range, 104..=110);
}

#[test]
fn g_s4_repeats_keep_the_nonce_and_end() {
    let mut t = Table::among(&[("b", 111)]);
    let out = t.until(10_000);
    let first = t.the_one_asked(&out);
    let out = t.until(19_999);
    let repeats = t.asked(&out);
    assert_eq!(repeats, [first.clone(), first.clone(), first.clone()]);
    let out = t.until(30_000);
    let later = t.asked(&out);
    assert_ne!(later[0].nonce, first.nonce, "the next round is a new one");
}

#[test]
fn a_late_answer_to_an_earlier_attempt_counts() {
    let mut t = Table::among(&[("b", 105), ("b2", 105)]);
    let out = t.until(10_000);
    let first = t.the_one_asked(&out);
    let out = t.until(13_000);
    let second = t.the_one_asked(&out);
    assert_ne!(first.whom, second.whom, "somebody else is asked first");
    assert_eq!(first.nonce, second.nonce);
    let out = t.receive(&first.whom, response(first.nonce, 100..=104));
    assert_eq!(out, commits(100..=104, Source::Transfer));
    let out = t.receive(&second.whom, response(first.nonce, 100..=104));
    assert_eq!(out, []);
}

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
fn s_s6_an_answer_cut_short_by_the_gate_costs_trust_if_nothing_is_left() {
    // The gate ends an answer before the first block that is not valid.
    let mut t = Table::among(&[("b", 111), ("b2", 105)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    assert_eq!(asked.whom, "b", "the only one who has the whole range");
    let out = t.receive("b", response(asked.nonce, []));
    let next = t.the_one_asked(&out);
    assert_eq!((next.whom.as_str(), next.nonce), ("b2", asked.nonce));
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
fn an_invented_height_stalls_nobody() {
    let mut t = Table::among(&[("honest", 105), ("liar", u64::MAX)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    assert_eq!((asked.whom.as_str(), asked.range), ("liar", 100..=110));
    let out = t.receive("liar", response(asked.nonce, []));
    let next = t.the_one_asked(&out);
    assert_eq!(next.whom, "honest");
    let out = t.receive("honest", response(next.nonce, 100..=104));
    assert_eq!(
        out,
        commits(100..=104, Source::Transfer),
        "and nothing more is asked"
    );
    t.feed(Input::Height(105));
    let mut asked = Vec::new();
    for round in 2..=12 {
        let out = t.until(round * 10_000);
        for request in t.asked(&out) {
            asked.push(round);
            t.receive("liar", response(request.nonce, []));
        }
    }
    assert_eq!(asked, [2, 3, 5, 9], "ever more rarely");
}

#[test]
fn somebody_else_is_asked_when_the_dial_fails() {
    let mut t = Table::among(&[("b", 105), ("b2", 105)]);
    let out = t.until(10_000);
    let first = t.the_one_asked(&out);
    let other = toy::identity("B", "b3").pki_id;
    assert_eq!(t.feed(Input::Unreachable(other)), []);
    let lost = toy::identity("B", &first.whom).pki_id;
    let out = t.feed(Input::Unreachable(lost));
    let second = t.the_one_asked(&out);
    assert_ne!(second.whom, first.whom);
    let lost = toy::identity("B", &second.whom).pki_id;
    assert_eq!(t.feed(Input::Unreachable(lost)), [], "nobody is left");
}

#[test]
fn nothing_is_asked_beyond_what_the_buffer_takes() {
    let mut t = Table::among(&[("b", 1000)]);
    let mut next = {
        let out = t.until(10_000);
        t.the_one_asked(&out)
    };
    let mut last = 99;
    loop {
        assert_eq!(*next.range.start(), last + 1);
        last = *next.range.end();
        let out = t.receive("b", response(next.nonce, next.range.clone()));
        match t.asked(&only_sends(out)).pop() {
            Some(asked) => next = asked,
            None => break,
        }
    }
    assert_eq!(last, 100 + blocking_limit(20) - 1);
    let out = t.feed(Input::Height(101));
    let resumed = t.the_one_asked(&only_sends(out));
    assert_eq!(resumed.range, last + 1..=last + 1);
}

#[test]
fn a_block_refused_by_the_committer_is_asked_for_again() {
    let mut t = Table::among(&[("b", 102)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    t.receive("b", response(asked.nonce, 100..=101));
    t.feed(Input::CommitRefused(100));
    let out = t.until(10_500);
    let again = t.the_one_asked(&out);
    assert_eq!(again.range, 100..=100);
    let out = t.receive("b", response(again.nonce, [100]));
    assert_eq!(out, commits(100..=101, Source::Transfer));
}

#[test]
fn a_buffer_full_of_bytes_waits_for_the_ledger() {
    let mut t = Table::among(&[("b", 200)]);
    t.transfer.buffer = Buffer::with_room(100, 30);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    let out = t.receive("b", response(asked.nonce, 100..=110));
    assert_eq!(only_sends(out), [], "asking again would not help");
    let waits_from = 100 + 30 / u64::try_from(block(100).bytes.len()).unwrap();
    let out = t.feed(Input::Height(waits_from));
    let resumed = t.the_one_asked(&only_sends(out));
    assert_eq!(*resumed.range.start(), waits_from);
}

fn only_sends(out: Vec<Effect>) -> Vec<Effect> {
    let sends = out.into_iter();
    sends.filter(|e| matches!(e, Effect::Send { .. })).collect()
}
