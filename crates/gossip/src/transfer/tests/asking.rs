//! When and what we ask.

use super::*;

#[test]
fn g_s5_by_default_nothing_is_asked() {
    let mut t = Table::with(Config::default());
    t.meet("b", 200);
    t.push(105);
    assert_eq!(t.claim(200), []);
    assert_eq!(t.until(100_000), []);
    assert_eq!(t.transfer.deadline(), None);
}

#[test]
fn g_s1_what_is_missing_is_asked_in_ranges_until_nothing_is() {
    let mut t = Table::among(&[("b", 114)]);
    assert_eq!(t.until(9999), []);
    let out = t.until(10_000);
    let asked = t.asked(&out);
    assert_eq!(
        ranges(&asked),
        [100..=110, 111..=113],
        "the second meanwhile"
    );
    assert_ne!(asked[0].nonce, asked[1].nonce);
    assert_eq!(t.answer(&asked[1]), []);
    assert_eq!(t.answer(&asked[0]), commits(100..=113, Source::Transfer));
    assert_eq!(t.feed(Input::Height(114)), []);
    assert_eq!(t.until(60_000), [], "level with everybody");
}

#[test]
fn only_what_is_missing_is_asked() {
    let mut t = Table::among(&[("b", 110)]);
    t.push(100);
    t.push(103);
    t.push(104);
    let out = t.until(500);
    assert_eq!(ranges(&t.asked(&out)), [101..=102, 105..=109]);
}

#[test]
fn who_has_much_more_is_asked_at_once() {
    let mut t = Table::among(&[("b", 121)]);
    t.now = at(50);
    let out = t.claim(121);
    let began = Effect::Notify(Notice::CatchUp {
        channel: "ch".into(),
        stage: Stage::Began,
        progress: Progress {
            from: 100,
            height: 100,
            goal: 121,
            elapsed: Duration::ZERO,
            sources: Vec::new(),
        },
    });
    assert_eq!(out[0], began);
    assert_eq!(ranges(&t.asked(&out)), [100..=110, 111..=120]);
}

#[test]
fn what_is_a_little_ahead_is_asked_when_it_does_not_come_by_itself() {
    let mut t = Table::among(&[("b", 120)]);
    t.now = at(50);
    assert_eq!(t.claim(120), []);
    assert_eq!(t.until(549), []);
    let out = t.until(550);
    assert_eq!(ranges(&t.asked(&out)), [100..=110, 111..=119]);
}

#[test]
fn a_claim_that_is_met_in_time_is_no_cause() {
    let mut t = Table::among(&[("b", 102)]);
    assert_eq!(t.claim(102), []);
    t.until(499);
    t.push(100);
    t.push(101);
    assert_eq!(t.until(9000), []);
    assert_eq!(t.claim(102), [], "here, though not durable yet");
    assert_eq!(t.until(9600), []);
}

#[test]
fn a_block_kept_waiting_is_cause_to_ask_at_once() {
    let mut t = Table::among(&[("b", 110)]);
    t.now = at(1000);
    t.push(103);
    assert_eq!(t.until(1499), []);
    let out = t.until(1500);
    let asked = t.asked(&out);
    assert_eq!(ranges(&asked), [100..=102, 104..=109]);
    let out = t.answer(&asked[0]);
    assert_eq!(out[..3], commits(100..=102, Source::Transfer));
    assert_eq!(out[3..], [commit(103, Source::Push)]);
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
fn what_came_another_way_is_not_asked_for_again() {
    let mut t = Table::among(&[("b", 111)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    for number in 100..=110 {
        assert_eq!(only_sends(t.push(number)), []);
    }
    assert_eq!(t.until(13_500), [], "nobody waits for the answer");
    assert_eq!(t.answer(&asked), [], "it is no news");
}

#[test]
fn g_s3_short_answers_are_continued() {
    let mut t = Table::among(&[("b", 111)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    let out = t.receive("b", response(asked.nonce, 100..=103));
    assert_eq!(out[..4], commits(100..=103, Source::Transfer));
    let next = t.the_one_asked(&out[4..]);
    assert_eq!(next.range, 104..=110);
    assert_ne!(next.nonce, asked.nonce);
}

#[test]
fn g_s4_repeats_keep_the_nonce_and_end() {
    let mut t = Table::among(&[("b", 111)]);
    let out = t.until(10_000);
    let first = t.the_one_asked(&out);
    let out = t.until(20_000);
    let repeats = t.asked(&out);
    assert_eq!(repeats, [first.clone(), first.clone(), first.clone()]);
    let out = t.until(30_000);
    let later = t.asked(&out);
    assert_ne!(later[0].nonce, first.nonce, "the next round is a new one");
    assert_eq!(later[0].range, 100..=105, "it may have been too much");
}

#[test]
fn a_late_answer_to_an_earlier_attempt_counts() {
    let mut t = Table::among(&[("b", 105)]);
    let out = t.until(10_000);
    let first = t.the_one_asked(&out);
    let out = t.until(13_000);
    let second = t.the_one_asked(&out);
    assert_eq!(first, second);
    assert_eq!(t.answer(&first), commits(100..=104, Source::Transfer));
    assert_eq!(t.answer(&second), [], "of the other attempt");
    assert_eq!(t.answer(&second), []);
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
    assert_eq!(second.nonce, first.nonce);
    let lost = toy::identity("B", &second.whom).pki_id;
    assert_eq!(t.feed(Input::Unreachable(lost)), [], "nobody is left");
}

#[test]
fn what_was_asked_on_a_stream_that_ended_is_asked_again_at_once() {
    let mut t = Table::among(&[("b", 105)]);
    let out = t.until(10_000);
    let first = t.the_one_asked(&out);
    let gone = |name| Input::Disconnected {
        connection: ConnectionId(7),
        peer: toy::identity("B", name).pki_id,
    };
    assert_eq!(t.feed(gone("b3")), []);
    let out = t.feed(gone("b"));
    assert_eq!(t.the_one_asked(&out), first);
    assert_eq!(t.answer(&first), commits(100..=104, Source::Transfer));
}

#[test]
fn a_block_refused_by_the_committer_is_asked_for_again_but_not_at_once() {
    let mut t = Table::among(&[("b", 102)]);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    t.answer(&asked);
    let out = t.feed(Input::CommitRefused(100));
    assert_eq!(only_sends(out), []);
    assert_eq!(t.until(10_499), []);
    let out = t.until(10_500);
    let again = t.the_one_asked(&out);
    assert_eq!(again.range, 100..=100);
    assert_eq!(t.answer(&again), commits(100..=101, Source::Transfer));
}

#[test]
fn a_long_way_is_reported_from_time_to_time_and_at_its_end() {
    let mut t = Table::among(&[("b", 122)]);
    let out = t.claim(122);
    let mut waiting = t.asked(&out);
    let first = waiting.remove(0);
    let reports = |out: &[Effect]| -> Vec<(Stage, u64, u64, u64)> {
        let each = out.iter().filter_map(|effect| match effect {
            Effect::Notify(Notice::CatchUp {
                stage, progress, ..
            }) => Some((
                *stage,
                progress.height,
                progress.goal,
                progress.elapsed.as_secs(),
            )),
            _ => None,
        });
        each.collect()
    };
    t.answer(&first);
    t.feed(Input::Height(111));
    let out = t.until(9_999);
    assert_eq!(reports(&out), []);
    let out = t.until(10_000);
    assert_eq!(reports(&out), [(Stage::UnderWay, 111, 122, 10)]);
    t.answer(&waiting[0]);
    assert_eq!(t.shares()["b"].blocks, 22);
    let out = t.feed(Input::Height(122));
    assert_eq!(reports(&out), [(Stage::CaughtUp, 122, 122, 10)]);
    assert_eq!(t.transfer.progress(t.now), None);
}
