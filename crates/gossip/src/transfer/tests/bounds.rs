//! How much is asked at a time.

use proptest::prelude::*;

use super::*;

#[test]
fn no_more_ranges_are_asked_at_a_time_than_may_be() {
    let names: Vec<String> = (0..12).map(|n| format!("b{n}")).collect();
    let peers: Vec<_> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    let mut t = Table::among(&peers);
    of_size(&mut t, 1000);
    let out = t.claim(1000);
    let asked = t.asked(&out);
    assert_eq!(asked.len(), RANGES_MAX);
    assert_eq!(*asked.last().unwrap().range.end(), 100 + 16 * 11 - 1);
    let out = t.answer(&asked[3]);
    assert_eq!(t.the_one_asked(&out).range, 276..=286);
}

#[test]
fn nothing_is_asked_beyond_what_may_be_ahead_of_the_ledger() {
    let mut t = Table::among(&[("b", 1000)]);
    let out = t.claim(1000);
    let mut open = t.asked(&out);
    let mut last = 99;
    while !open.is_empty() {
        let asked = open.remove(0);
        assert_eq!(*asked.range.start(), last + 1);
        last = *asked.range.end();
        let out = t.answer(&asked);
        open.extend(t.asked(&only_sends(out)));
    }
    assert_eq!(last, 100 + AHEAD_MAX - 1);
    let out = t.feed(Input::Height(101));
    let resumed = t.the_one_asked(&only_sends(out));
    assert_eq!(resumed.range, last + 1..=last + 1);
}

#[test]
fn a_buffer_full_of_bytes_waits_for_the_ledger() {
    let mut t = Table::among(&[("b", 111)]);
    t.transfer.buffer = Buffer::with_room(100, 30);
    let out = t.until(10_000);
    let asked = t.the_one_asked(&out);
    let out = t.answer(&asked);
    assert_eq!(only_sends(out), [], "asking again would not help");
    let waits_from = 100 + 30 / u64::try_from(block(100).bytes.len()).unwrap();
    let out = t.feed(Input::Height(waits_from));
    let resumed = t.the_one_asked(&only_sends(out));
    assert_eq!(*resumed.range.start(), waits_from);
}

/// Blocks of this size are known to come.
fn of_size(t: &mut Table, len: u64) {
    t.transfer.catch_up.measure(usize::try_from(len).unwrap());
}

#[test]
fn large_blocks_are_asked_for_in_smaller_ranges_and_fewer_at_a_time() {
    for (len, expected) in [
        (1 << 20, vec![8; 8]),
        (5 << 20, vec![1; 13]),
        (64 << 20, vec![1]),
        (100 << 20, vec![1]),
    ] {
        let names: Vec<String> = (0..12).map(|n| format!("b{n}")).collect();
        let peers: Vec<_> = names.iter().map(|name| (name.as_str(), 1000)).collect();
        let mut t = Table::among(&peers);
        of_size(&mut t, len);
        let out = t.claim(1000);
        let lens = t.asked(&out).into_iter().map(|each| each.range.count());
        assert_eq!(lens.collect::<Vec<_>>(), expected, "{len}");
    }
}

#[test]
fn bytes_that_wait_leave_less_to_ask_for() {
    let mut t = Table::among(&[("b", 1000), ("b2", 1000)]);
    let half = usize::try_from(AHEAD_BYTES_MAX / 2).unwrap();
    for number in [110, 111] {
        let block = VerifiedBlock {
            bytes: vec![0; half].into(),
            ..block(number)
        };
        let source = Source::Push;
        t.feed(Input::Block { block, source });
    }
    let out = t.claim(1000);
    let asked = t.the_one_asked(&out);
    assert_eq!(
        asked.range,
        100..=109,
        "what the ledger waits for is asked all the same"
    );
}

/// What a network may do to us.
#[derive(Clone, Debug)]
enum Step {
    Answer(prop::sample::Index, Kind),
    Wait(u64),
    Commit(u64),
    Refuse(u64),
    Push(u64),
    Claim(u64),
    Disconnect(usize),
    Unreachable(usize),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Good,
    Short,
    Nothing,
    Gap,
    Foreign,
}

const NAMES: [&str; 4] = ["b", "b2", "b3", "b4"];

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        8 => Just(Kind::Good),
        2 => Just(Kind::Short),
        2 => Just(Kind::Nothing),
        1 => Just(Kind::Gap),
        1 => Just(Kind::Foreign),
    ];
    prop_oneof![
        12 => (any::<prop::sample::Index>(), kind).prop_map(|(which, kind)| Step::Answer(which, kind)),
        6 => (1..4000_u64).prop_map(Step::Wait),
        6 => (0..40_u64).prop_map(Step::Commit),
        1 => (0..10_u64).prop_map(Step::Refuse),
        3 => (0..25_u64).prop_map(Step::Push),
        2 => (100..3000_u64).prop_map(Step::Claim),
        1 => (0..4_usize).prop_map(Step::Disconnect),
        1 => (0..4_usize).prop_map(Step::Unreachable),
    ]
}

impl Table {
    fn take(&mut self, step: Step, open: &[Asked]) -> Vec<Effect> {
        let buffer = &self.transfer.buffer;
        let (height, missing) = (buffer.height(), buffer.first_missing());
        let id = |n: usize| toy::identity("B", NAMES[n]).pki_id;
        match step {
            Step::Answer(..) if open.is_empty() => Vec::new(),
            Step::Answer(which, kind) => {
                let asked = which.get(open);
                let (start, end) = (*asked.range.start(), *asked.range.end());
                let numbers: Vec<u64> = match kind {
                    Kind::Good => (start..=end).collect(),
                    Kind::Short => (start..=start + (end - start) / 2).collect(),
                    Kind::Nothing => Vec::new(),
                    Kind::Gap => vec![start, start + 2],
                    Kind::Foreign => vec![start + 1],
                };
                self.receive(&asked.whom, response(asked.nonce, numbers))
            }
            Step::Wait(ms) => {
                let to = self.now.since_start() + Duration::from_millis(ms);
                self.until(u64::try_from(to.as_millis()).unwrap())
            }
            Step::Commit(blocks) => self.feed(Input::Height(missing.min(height + blocks))),
            Step::Refuse(ahead) => self.feed(Input::CommitRefused(height + ahead)),
            Step::Push(ahead) => self.push(height + ahead),
            Step::Claim(to) => self.feed(Input::Claimed(to)),
            Step::Disconnect(n) => self.feed(Input::Disconnected {
                connection: ConnectionId(7),
                peer: id(n),
            }),
            Step::Unreachable(n) => self.feed(Input::Unreachable(id(n))),
        }
    }
}

proptest! {
    /// Whatever happens, ranges are disjoint unless one is asked of several under one nonce, no
    /// limit is passed, and nobody is asked for what it does not claim.
    #[test]
    fn no_limit_is_passed(steps in prop::collection::vec(step(), 0..150)) {
        let heights = [3000, 3000, 1000, 300];
        let mut t = Table::among(&NAMES.into_iter().zip(heights).collect::<Vec<_>>());
        let mut asked: Vec<Asked> = Vec::new();
        for step in steps {
            let out = t.take(step, &asked);
            for each in t.asked(&only_sends(out)) {
                let claimed = heights[NAMES.iter().position(|n| *n == each.whom).unwrap()];
                prop_assert!(*each.range.end() < claimed);
                prop_assert!(each.range.clone().count() <= 11);
                let known = asked.iter().find(|old| old.nonce == each.nonce);
                prop_assert!(known.is_none_or(|old| old.range == each.range));
                asked.push(each);
            }
            let catch_up = &t.transfer.catch_up;
            let mut waited = catch_up.waited();
            prop_assert!(waited.len() <= RANGES_MAX);
            prop_assert!(catch_up.requests() <= REQUESTS_MAX);
            waited.sort_unstable();
            prop_assert!(waited.windows(2).all(|pair| pair[0].1 < pair[1].0), "{waited:?}");
            let limit = t.transfer.height() + AHEAD_MAX;
            prop_assert!(waited.iter().all(|(_, end)| *end < limit));
            let shares = t.shares();
            prop_assert!(shares.values().all(|share| share.window <= WINDOW_MAX));
            prop_assert!(shares.values().all(|share| share.open <= WINDOW_MAX + 1));
            let open: usize = shares.values().map(|share| share.open).sum();
            prop_assert_eq!(open, catch_up.requests());
            prop_assert!(t.transfer.waiting() <= usize::try_from(AHEAD_MAX).unwrap());
            prop_assert!(t.transfer.deadline().is_none_or(|due| due > t.now));
        }
    }

    /// As long as somebody answers well, everything comes.
    #[test]
    fn everything_comes_in_the_end(steps in prop::collection::vec(step(), 0..60)) {
        let mut t = Table::among(&[("b", 400), ("b2", 400), ("b3", 400), ("b4", 400)]);
        let mut open: Vec<Asked> = Vec::new();
        for step in steps {
            let out = t.take(step, &open);
            open.extend(t.asked(&only_sends(out)));
        }
        for _ in 0..400 {
            let next = t.now.since_start() + Duration::from_millis(500);
            let out = t.until(u64::try_from(next.as_millis()).unwrap());
            open.extend(t.asked(&only_sends(out)));
            for asked in std::mem::take(&mut open) {
                let out = t.answer(&asked);
                open.extend(t.asked(&only_sends(out)));
            }
            let out = t.feed(Input::Height(t.transfer.buffer.first_missing()));
            open.extend(t.asked(&only_sends(out)));
        }
        prop_assert_eq!(t.transfer.height(), 400);
        prop_assert!(t.transfer.progress(t.now).is_none());
    }
}
