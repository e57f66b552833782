//! What the headers of other orderers make of the one that gives us blocks.

use super::*;
use crate::{delivery::watch::SUSPECT_AHEAD_MAX, effect::Verdict};

const TIMEOUT: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(3);

fn header(number: u64) -> VerifiedHeader {
    let block = block(number);
    VerifiedHeader {
        number,
        hash: block.hash,
        previous_hash: block.previous_hash,
    }
}

/// The header streams that were begun, and when.
fn watches(out: &[Effect]) -> Vec<(String, u64, Duration)> {
    let watch = |effect: &Effect| match effect {
        Effect::Command(Command::Watch {
            endpoint,
            start,
            after,
            ..
        }) => Some((endpoint.clone(), *start, *after)),
        _ => None,
    };
    out.iter().filter_map(watch).collect()
}

fn unwatches(out: &[Effect]) -> usize {
    let unwatch = |effect: &&Effect| matches!(effect, Effect::Command(Command::Unwatch(_)));
    out.iter().filter(unwatch).count()
}

fn verdicts(out: &[Effect]) -> Vec<(String, u64, Verdict)> {
    let verdict = |effect: &Effect| match effect {
        Effect::Notify(Notice::Suspicion {
            orderer,
            number,
            verdict,
            ..
        }) => Some((orderer.clone(), *number, *verdict)),
        _ => None,
    };
    out.iter().filter_map(verdict).collect()
}

impl Table {
    fn of_channel(height: u64, endpoints: &[&str], config: &Config) -> Self {
        let machine = Delivery::new("ch".into(), config, height, &SEED);
        let mut t = Self {
            machine,
            now: at(0),
        };
        assert_eq!(t.tip(height - 1), []);
        assert_eq!(t.event(Event::Agreement(Agreement::Byzantine)), []);
        assert_eq!(t.endpoints(endpoints), []);
        t
    }

    /// Leads in a channel at height 5 whose orderers may be dishonest.
    fn watching(endpoints: &[&str]) -> Self {
        let mut t = Self::of_channel(5, endpoints, &Config::default());
        t.feed(Input::Lead(true));
        t
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        self.feed(Input::Event(event))
    }

    fn tip(&mut self, number: u64) -> Vec<Effect> {
        let hash = hash(number);
        self.event(Event::Tip { number, hash })
    }

    /// The stream of headers from this orderer.
    fn headers_from(&self, endpoint: &str) -> StreamId {
        self.machine.watch.stream(endpoint).unwrap()
    }

    /// Those who are watched, in order of their names.
    fn watched(&self) -> Vec<String> {
        let endpoints = self.machine.endpoints.iter();
        let mut watched: Vec<_> = endpoints
            .filter(|each| self.machine.watch.stream(each).is_some())
            .cloned()
            .collect();
        watched.sort();
        watched
    }

    fn shows(&mut self, endpoint: &str, header: VerifiedHeader) -> Vec<Effect> {
        let stream = self.headers_from(endpoint);
        self.event(Event::Header { stream, header })
    }

    fn fails(&mut self, endpoint: &str, forbidden: bool) -> Vec<Effect> {
        let stream = self.headers_from(endpoint);
        let reason = "closed the stream".to_owned();
        self.event(Event::Failed {
            stream,
            reason,
            forbidden,
        })
    }

    /// One who is watched.
    fn witness(&self) -> String {
        self.watched().remove(0)
    }

    fn wait(&mut self, wait: Duration) -> Vec<Effect> {
        self.until(self.now + wait, 0)
    }
}

#[test]
fn one_gives_blocks_and_all_others_show_headers() {
    let mut t = Table::of_channel(5, &["a:1", "b:1", "c:1"], &Config::default());
    let out = t.feed(Input::Lead(true));
    let mut expected = vec![Effect::Command(Command::Connect {
        stream: StreamId(1),
        endpoint: t.current(),
        start: 5,
        after: Duration::ZERO,
    })];
    let others = t.machine.endpoints.iter().skip(1);
    for (stream, endpoint) in (2..).map(StreamId).zip(others) {
        expected.push(Effect::Command(Command::Watch {
            stream,
            endpoint: endpoint.clone(),
            start: 5,
            after: Duration::ZERO,
        }));
    }
    assert_eq!(out, expected);
    let out = t.feed(Input::Lead(false));
    let mut ended = vec![Command::Disconnect];
    // In the order of their names.
    ended.extend(["a:1", "b:1", "c:1"].iter().filter_map(|endpoint| {
        let at = t.machine.endpoints.iter().position(|each| each == endpoint);
        let stream = u64::try_from(at.unwrap()).unwrap() + 1;
        (stream > 1).then_some(Command::Unwatch(StreamId(stream)))
    }));
    let ended: Vec<_> = ended.into_iter().map(Effect::Command).collect();
    assert_eq!(out, ended);
}

#[test]
fn nobody_is_watched_where_orderers_are_honest_or_the_settings_say_so() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    t.tip(4);
    assert_eq!(t.watched(), [""; 0]);
    assert_eq!(t.block(5), taken(5));

    let mut config = Config::default();
    config.cluster.watch = false;
    let mut t = Table::of_channel(5, &["a:1", "b:1"], &config);
    assert_eq!(watches(&t.feed(Input::Lead(true))), []);
    assert_eq!(t.block(5), taken(5), "and blocks are gossiped");
}

#[test]
fn a_channel_can_come_to_need_watching_and_no_longer() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    assert_eq!(t.tip(4), []);
    let out = t.event(Event::Agreement(Agreement::Byzantine));
    assert_eq!((out.len(), watches(&out).len()), (1, 1));
    assert_eq!(t.event(Event::Agreement(Agreement::Byzantine)), []);
    let out = t.event(Event::Agreement(Agreement::CrashFault));
    assert_eq!((out.len(), unwatches(&out)), (1, 1));
}

#[test]
fn blocks_of_watched_orderers_are_never_gossiped() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    assert!(t.machine.gossip_blocks);
    assert_eq!(t.block(5), [Effect::Deliver(block(5))]);
}

#[test]
fn nobody_is_watched_before_it_is_known_what_headers_must_follow() {
    let mut t = Table::at_height(5);
    t.event(Event::Agreement(Agreement::Byzantine));
    t.endpoints(&["a:1", "b:1", "c:1"]);
    let out = t.feed(Input::Lead(true));
    assert_eq!((connects(&out).len(), watches(&out).len()), (1, 0));
    let out = t.block(5);
    let starts: Vec<u64> = watches(&out).iter().map(|(_, start, _)| *start).collect();
    assert_eq!(starts, [6, 6]);
    assert_eq!(watches(&t.block(6)), []);
}

#[test]
fn a_block_that_is_kept_back_costs_the_orderer_its_place() {
    let mut t = Table::watching(&["a:1", "b:1", "c:1", "d:1"]);
    let (source, witness) = (t.current(), t.witness());
    assert_eq!(t.until(at(100), 0), []);
    assert_eq!(t.shows(&witness, header(5)), []);
    assert_eq!(t.until(at(102), 0), []);
    assert_eq!(t.machine.deadline(), Some(at(103)));
    let out = t.until(at(103), 0);
    assert_eq!(verdicts(&out), [(source.clone(), 5, Verdict::Opened)]);
    assert_eq!(out.len(), 1);
    assert_eq!(t.until(at(129), 0), []);

    let watched = t.watched();
    let out = t.until(at(130), 0);
    assert_eq!(verdicts(&out), [(source.clone(), 5, Verdict::Withheld)]);
    let Effect::Notify(Notice::Warning(warning)) = &out[1] else {
        panic!("{out:?}");
    };
    let expected =
        format!("channel ch: orderer {source} withholds block 5, which other orderers have shown");
    assert_eq!(*warning, expected);
    let next = t.current();
    let [(endpoint, 5, after)] = &connects(&out)[..] else {
        panic!("{out:?}");
    };
    assert_eq!(*endpoint, next);
    assert!(*after <= Duration::from_millis(100));
    assert!(watched.contains(&next), "one that was watched");
    // It gives blocks now, and the other shows headers; the rest goes on.
    assert_eq!(unwatches(&out), 1);
    assert_eq!(watches(&out), [(source, 5, Duration::ZERO)]);
    assert_eq!(out.len(), 5);
    assert_eq!(t.watched().len(), 3);
}

#[test]
fn a_block_that_comes_late_but_in_time_ends_the_suspicion() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let (source, witness) = (t.current(), t.witness());
    t.shows(&witness, header(5));
    assert_eq!(t.wait(GRACE).len(), 1);
    let out = t.block(5);
    let dropped = Effect::Notify(Notice::Suspicion {
        channel: "ch".into(),
        orderer: source.clone(),
        number: 5,
        verdict: Verdict::Dropped,
    });
    assert_eq!(out, [Effect::Deliver(block(5)), dropped]);
    assert_eq!(t.wait(TIMEOUT * 10), []);
    assert_eq!(t.current(), source);
}

#[test]
fn headers_that_overtake_blocks_by_little_are_not_worth_a_word() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let witness = t.witness();
    for number in 5..50 {
        assert_eq!(t.shows(&witness, header(number)), []);
        assert_eq!(t.wait(GRACE - Duration::from_millis(1)), []);
        assert_eq!(t.block(number), [Effect::Deliver(block(number))]);
        t.feed(Input::Height(number + 1));
    }
}

#[test]
fn other_blocks_than_the_one_that_is_late_do_not_end_the_suspicion() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let (source, witness) = (t.current(), t.witness());
    for number in 5..=9 {
        t.shows(&witness, header(number));
    }
    // The first that was ahead was 5; when it comes, 9 is what must come.
    t.wait(Duration::from_secs(1));
    t.block(5);
    assert_eq!(
        verdicts(&t.wait(GRACE)),
        [(source.clone(), 9, Verdict::Opened)]
    );
    for number in 6..=8 {
        assert_eq!(t.block(number), [Effect::Deliver(block(number))]);
        t.wait(Duration::from_secs(8));
    }
    let out = t.until(at(30), 0);
    assert_eq!(verdicts(&out), [(source, 9, Verdict::Withheld)]);
    assert_eq!(connects(&out)[0].1, 9);
}

#[test]
fn a_source_that_is_far_behind_is_judged_by_the_next_blocks_only() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let (source, witness) = (t.current(), t.witness());
    for number in 5..100 {
        t.shows(&witness, header(number));
    }
    // The first header was shown first; from the next block on it is 99 that is known.
    t.block(5);
    let near = 6 + SUSPECT_AHEAD_MAX;
    assert_eq!(
        verdicts(&t.wait(GRACE)),
        [(source.clone(), near, Verdict::Opened)]
    );
    // As slow as may be, and nobody accuses it.
    for number in 6..=near + 7 * (SUSPECT_AHEAD_MAX + 1) {
        t.wait(TIMEOUT / 15);
        t.block(number);
    }
    // What is left has its own time.
    let out = t.wait(TIMEOUT - Duration::from_millis(1));
    assert_eq!(verdicts(&out), [(source.clone(), 99, Verdict::Opened)]);
    assert_eq!(t.current(), source);
    let out = t.wait(Duration::from_millis(1));
    assert_eq!(verdicts(&out), [(source, 99, Verdict::Withheld)]);
}

#[test]
fn the_header_that_was_first_ahead_counts() {
    let mut t = Table::watching(&["a:1", "b:1", "c:1"]);
    let source = t.current();
    let [first, second] = &t.watched()[..] else {
        panic!("two others");
    };
    t.shows(first, header(5));
    t.wait(Duration::from_secs(1));
    for number in 5..=7 {
        t.shows(second, header(number));
    }
    t.wait(Duration::from_secs(1));
    t.shows(first, header(6));
    t.block(5);
    // 7 came at one second, 6 at two.
    let out = t.until(at(31), 0);
    let expected = [Verdict::Opened, Verdict::Withheld].map(|verdict| (source.clone(), 7, verdict));
    assert_eq!(verdicts(&out), expected);
}

#[test]
fn a_new_source_has_its_own_time() {
    let mut t = Table::watching(&["a:1", "b:1", "c:1"]);
    let (source, witness) = (t.current(), t.witness());
    t.shows(&witness, header(5));
    t.wait(Duration::from_secs(20));
    let out = t.fail(false);
    let dropped = (source, 5, Verdict::Dropped);
    assert_eq!(verdicts(&out), [dropped], "it failed, and withheld nothing");
    let (_, _, after) = connects(&out).remove(0);
    // Whoever showed the header and is asked for blocks now has no stream of headers any more.
    let other = t.witness();
    if t.machine.watch.stream(&witness).is_none() {
        t.shows(&other, header(5));
    }
    let next = t.current();
    assert_eq!(verdicts(&t.until(at(20) + after + GRACE / 2, 0)), []);
    let out = t.until(at(20) + after + TIMEOUT, 0);
    let expected = [Verdict::Opened, Verdict::Withheld].map(|verdict| (next.clone(), 5, verdict));
    assert_eq!(verdicts(&out), expected);
}

#[test]
fn what_came_by_another_way_is_still_owed() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let (source, witness) = (t.current(), t.witness());
    t.shows(&witness, header(5));
    assert_eq!(t.tip(5), []);
    assert_eq!(t.feed(Input::Height(6)), []);
    let out = t.wait(TIMEOUT);
    assert_eq!(verdicts(&out).last(), Some(&(source, 5, Verdict::Withheld)));
    assert_eq!(connects(&out)[0].1, 6);
}

#[test]
fn s_v4_headers_that_do_not_follow_are_not_believed() {
    let skipped = header(6);
    let huge = header(u64::MAX);
    let again = header(4);
    let mut of_another_channel = header(5);
    of_another_channel.previous_hash = Bytes::from_static(&[0xEE; 32]);
    let mut unlinked = header(5);
    unlinked.previous_hash = Bytes::new();
    for bad in [skipped, huge, again, of_another_channel, unlinked] {
        let mut t = Table::watching(&["a:1", "b:1", "c:1"]);
        let (source, witness) = (t.current(), t.witness());
        let out = t.shows(&witness, bad);
        assert_eq!(unwatches(&out[..1]), 1, "{out:?}");
        let [(endpoint, 5, after)] = &watches(&out)[..] else {
            panic!("{out:?}");
        };
        assert_eq!(*endpoint, witness);
        assert!(*after >= Duration::from_millis(50), "{after:?}");
        let Effect::Notify(Notice::Warning(warning)) = &out[2] else {
            panic!("{out:?}");
        };
        assert!(
            warning.contains("S-V4") && warning.contains(&witness),
            "{warning}"
        );
        assert_eq!(out.len(), 3);
        assert_eq!(t.wait(TIMEOUT * 10), [], "nobody is suspected");
        assert_eq!(t.current(), source);
        assert_eq!(t.block(5), [Effect::Deliver(block(5))]);
    }
}

#[test]
fn a_header_stream_that_fails_is_begun_again_ever_more_rarely_with_one_word() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let witness = t.witness();
    let mut bound = 100;
    for failure in 0..20 {
        let out = t.fails(&witness, false);
        let [(_, 5, after)] = &watches(&out)[..] else {
            panic!("{out:?}");
        };
        let after = after.as_millis();
        assert!((bound / 2..=bound).contains(&after), "{after} of {bound}");
        assert_eq!(out.len(), if failure == 0 { 3 } else { 2 });
        bound = (2 * bound).min(10_000);
    }
    let out = t.fails(&witness, true);
    assert_eq!(watches(&out), [(witness.clone(), 5, BACKOFF_MAX)]);
    t.shows(&witness, header(5));
    let out = t.fails(&witness, true);
    assert_eq!(watches(&out), [(witness, 6, BACKOFF_MAX)]);
    assert!(is_warning(&out[2]), "a good header made it news again");
}

#[test]
fn a_header_stream_goes_on_after_what_it_showed_or_we_have() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let witness = t.witness();
    for number in 5..=7 {
        t.shows(&witness, header(number));
    }
    assert_eq!(watches(&t.fails(&witness, false))[0].1, 8);
    for number in 5..=10 {
        t.block(number);
    }
    assert_eq!(watches(&t.fails(&witness, false))[0].1, 11);
    assert_eq!(t.shows(&witness, header(11)), []);
}

#[test]
fn header_streams_that_ended_mean_nothing() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let witness = t.witness();
    let stream = t.headers_from(&witness);
    t.fails(&witness, false);
    for number in [5, 99] {
        let header = header(number);
        assert_eq!(t.event(Event::Header { stream, header }), []);
    }
    let failed = Event::Failed {
        stream,
        reason: String::new(),
        forbidden: true,
    };
    assert_eq!(t.event(failed), []);
    assert_eq!(t.wait(TIMEOUT * 2), []);
}

#[test]
fn a_source_that_failed_shows_its_headers_after_a_pause() {
    let mut t = Table::watching(&["a:1", "b:1"]);
    let source = t.current();
    let out = t.fail(false);
    let [(endpoint, 5, after)] = &watches(&out)[..] else {
        panic!("{out:?}");
    };
    assert_eq!(*endpoint, source);
    assert!(*after >= Duration::from_millis(50));
    let out = t.fails(&source, false);
    assert_eq!(out.len(), 2, "what was said is not said again");
}

#[test]
fn new_endpoints_begin_all_streams_anew() {
    let mut t = Table::watching(&["a:1", "b:1", "c:1"]);
    let witness = t.witness();
    t.block(5);
    t.shows(&witness, header(5));
    t.fails(&witness, false);
    let out = t.endpoints(&["a:1", "b:1", "d:1", "e:1"]);
    assert_eq!((unwatches(&out), connects(&out).len()), (2, 1));
    let begun = watches(&out);
    assert_eq!(begun.len(), 3);
    assert!(
        begun
            .iter()
            .all(|(_, start, after)| *start == 6 && after.is_zero())
    );
    assert_eq!(out.len(), 6);
    let out = t.endpoints(&[]);
    assert_eq!((unwatches(&out), out.len()), (3, 5));
    assert_eq!(t.watched(), [""; 0]);
}

#[test]
fn no_more_orderers_are_watched_than_the_limit() {
    let names: Vec<String> = (0..HEADER_STREAMS_MAX + 2)
        .map(|n| format!("o{n}:1"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut t = Table::watching(&names[1..]);
    assert_eq!(t.watched().len(), HEADER_STREAMS_MAX);
    let out = t.endpoints(&names);
    assert_eq!(watches(&out).len(), HEADER_STREAMS_MAX);
    assert_eq!(t.watched().len(), HEADER_STREAMS_MAX);
    t.block(5);
    assert_eq!(watches(&t.block(6)), [], "as many as there may be");
}

#[test]
fn rounds_past_all_orderers_are_ever_longer_and_nobody_gives_up() {
    let config = Config {
        use_leader_election: true,
        reconnect_total_time_threshold: Duration::from_secs(1),
        ..Config::default()
    };
    let mut t = Table::of_channel(5, &["a:1", "b:1", "c:1", "d:1"], &config);
    t.feed(Input::Lead(true));
    for failure in 1_u64..200 {
        let out = t.fail(false);
        let (_, start, after) = connects(&out).remove(0);
        assert_eq!(start, 5);
        let bound = 100 * 2_u128.pow((failure / 4).min(10).try_into().unwrap());
        let bound = bound.min(10_000);
        let after = after.as_millis();
        assert!(
            (bound / 2..=bound).contains(&after),
            "{failure}: {after} of {bound}"
        );
    }
    assert!(t.machine.is_leading());
}

#[test]
fn the_settings_bound_the_pauses() {
    let config = Config {
        reconnect_backoff_threshold: Duration::from_millis(300),
        cluster: crate::config::ClusterConfig {
            minimal_reconnect_interval: Duration::from_millis(200),
            ..Default::default()
        },
        ..Config::default()
    };
    let mut t = Table::of_channel(5, &["a:1", "b:1"], &config);
    t.feed(Input::Lead(true));
    for failure in 1..50 {
        let (_, _, after) = connects(&t.fail(false)).remove(0);
        let bound = if failure < 2 { 200 } else { 300 };
        assert!(
            (bound / 2..=bound).contains(&after.as_millis()),
            "{after:?}"
        );
    }
}

#[test]
fn several_headers_of_one_block_are_one_suspicion() {
    let mut t = Table::watching(&["a:1", "b:1", "c:1", "d:1"]);
    let source = t.current();
    for witness in t.watched() {
        assert_eq!(t.shows(&witness, header(5)), []);
        assert_eq!(t.wait(Duration::from_millis(500)), []);
    }
    let out = t.until(at(30), 0);
    let expected = [Verdict::Opened, Verdict::Withheld].map(|verdict| (source.clone(), 5, verdict));
    assert_eq!(verdicts(&out), expected);
    // The warning, another source, and the two exchanged.
    assert_eq!(out.len(), 2 + 4);
}
