//! When which orderer is asked, and what of its answers is used.

mod watch;

use bytes::Bytes;

use super::*;

const SEED: [u8; 32] = [3; 32];

fn at(secs: u64) -> Moment {
    Moment::after_start(Duration::from_secs(secs))
}

fn hash(number: u64) -> [u8; DIGEST_LEN] {
    [u8::try_from(number % 251).unwrap(); DIGEST_LEN]
}

fn block(number: u64) -> VerifiedBlock {
    VerifiedBlock {
        number,
        hash: hash(number),
        previous_hash: Bytes::copy_from_slice(&hash(number.wrapping_sub(1))),
        is_config: false,
        config_sequence: 0,
        bytes: Bytes::from_static(b"block"),
    }
}

struct Table {
    machine: Delivery,
    now: Moment,
}

impl Table {
    fn at_height(height: u64) -> Self {
        Self {
            machine: Delivery::new("ch".into(), &Config::default(), height, &SEED),
            now: at(0),
        }
    }

    /// Leads at this height and asks the first of these orderers.
    fn leading(height: u64, endpoints: &[&str]) -> Self {
        let mut table = Self::at_height(height);
        table.endpoints(endpoints);
        table.feed(Input::Lead(true));
        table
    }

    fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        out
    }

    fn endpoints(&mut self, endpoints: &[&str]) -> Vec<Effect> {
        let endpoints = endpoints.iter().map(|e| (*e).to_owned()).collect();
        self.feed(Input::Event(Event::Endpoints(endpoints)))
    }

    fn block(&mut self, number: u64) -> Vec<Effect> {
        self.deliver(block(number))
    }

    fn deliver(&mut self, block: VerifiedBlock) -> Vec<Effect> {
        let stream = self.stream();
        self.feed(Input::Event(Event::Block { stream, block }))
    }

    /// That there is now, or a wrong one.
    fn stream(&self) -> StreamId {
        let stream = self.machine.stream.as_ref();
        stream.map_or(StreamId(0), |stream| stream.id)
    }

    fn fail(&mut self, forbidden: bool) -> Vec<Effect> {
        let stream = self.stream();
        let reason = "status 503".to_owned();
        self.feed(Input::Event(Event::Failed {
            stream,
            reason,
            forbidden,
        }))
    }

    fn current(&self) -> String {
        self.machine.endpoint().unwrap_or_default().to_owned()
    }

    /// Ticks at every deadline until then.
    fn until(&mut self, end: Moment, peers_height: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        while let Some(due) = self.machine.deadline().filter(|due| *due <= end) {
            self.now = due;
            self.machine.tick(due, || peers_height, &mut out);
        }
        self.now = end;
        out
    }
}

fn connects(out: &[Effect]) -> Vec<(String, u64, Duration)> {
    out.iter()
        .filter_map(|effect| match effect {
            Effect::Command(Command::Connect {
                endpoint,
                start,
                after,
                ..
            }) => Some((endpoint.clone(), *start, *after)),
            _ => None,
        })
        .collect()
}

fn is_warning(effect: &Effect) -> bool {
    matches!(effect, Effect::Notify(Notice::Warning(_)))
}

/// What is told to the operator.
fn told(out: &[Effect]) -> Vec<String> {
    let told = |effect: &Effect| match effect {
        Effect::Notify(Notice::Warning(text) | Notice::Over(text)) => Some(text.clone()),
        _ => None,
    };
    out.iter().filter_map(told).collect()
}

fn taken(number: u64) -> Vec<Effect> {
    vec![
        Effect::Deliver(block(number)),
        Effect::Gossip(block(number)),
    ]
}

#[test]
fn only_who_leads_asks() {
    let mut t = Table::at_height(5);
    assert_eq!(t.endpoints(&["o1:7050"]), []);
    assert_eq!(t.block(5), []);
    assert_eq!(t.machine.deadline(), None);
    let connect = Effect::Command(Command::Connect {
        stream: StreamId(1),
        endpoint: "o1:7050".to_owned(),
        start: 5,
        after: Duration::ZERO,
    });
    assert_eq!(t.feed(Input::Lead(true)), [connect]);
    assert_eq!(t.feed(Input::Lead(true)), []);
    let disconnect = Effect::Command(Command::Disconnect);
    assert_eq!(t.feed(Input::Lead(false)), [disconnect]);
    assert_eq!(t.feed(Input::Lead(false)), []);
    assert_eq!(t.block(5), []);
}

#[test]
fn a_leader_without_orderers_says_so_and_begins_when_it_knows_one() {
    let mut t = Table::at_height(1);
    assert_eq!(
        t.feed(Input::Lead(true)),
        [],
        "the configuration is still to come"
    );
    let out = t.endpoints(&[]);
    assert!(matches!(out.as_slice(), [warning] if is_warning(warning)));
    let out = t.endpoints(&["o1:7050"]);
    assert_eq!(connects(&out), [("o1:7050".to_owned(), 1, Duration::ZERO)]);
}

#[test]
fn blocks_are_delivered_before_they_are_gossiped() {
    let mut t = Table::leading(5, &["o1:7050"]);
    assert_eq!(t.block(5), taken(5));
    assert_eq!(t.block(6), taken(6));
}

#[test]
fn nothing_is_gossiped_when_the_settings_say_so() {
    let mut t = Table::leading(5, &["o1:7050"]);
    t.machine.gossip_blocks = false;
    assert_eq!(t.block(5), [Effect::Deliver(block(5))]);
}

#[test]
fn s_v3_a_block_out_of_order_costs_the_orderer_its_place() {
    for wrong in [4, 6, u64::MAX] {
        let mut t = Table::leading(5, &["o1:7050", "o2:7050"]);
        let before = t.current();
        let out = t.block(wrong);
        assert!(is_warning(&out[0]), "{out:?}");
        let connects = connects(&out);
        assert_eq!(out.len(), 2);
        assert_eq!(connects.len(), 1);
        assert_ne!(connects[0].0, before);
        assert_eq!(connects[0].1, 5);
    }
}

#[test]
fn a_block_that_came_before_is_not_used_again() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    t.block(5);
    t.block(6);
    assert_eq!(t.block(5), []);
    let mut other = block(6);
    other.hash = [0xEE; DIGEST_LEN];
    let out = t.deliver(other);
    assert!(is_warning(&out[0]), "not the same block");
}

#[test]
fn s_v3_a_block_that_does_not_follow_is_not_used() {
    let mut t = Table::leading(5, &["o1:7050", "o2:7050"]);
    assert_eq!(t.block(5), taken(5));
    let mut forged = block(6);
    forged.previous_hash = Bytes::from_static(&[0xEE; 32]);
    let out = t.deliver(forged);
    assert!(is_warning(&out[0]));
    assert_eq!(connects(&out)[0].1, 6);
    assert_eq!(t.block(6), taken(6), "from the other one");
}

#[test]
fn the_link_is_checked_across_a_reconnect() {
    let mut t = Table::leading(5, &["o1:7050"]);
    t.block(5);
    t.fail(false);
    let mut forged = block(6);
    forged.previous_hash = Bytes::new();
    let out = t.deliver(forged);
    assert!(is_warning(&out[0]));
    assert_eq!(t.block(6)[1..], taken(6));
}

#[test]
fn failures_go_round_all_orderers_with_growing_pauses() {
    let mut t = Table::leading(5, &["a:1", "b:1", "c:1"]);
    let mut order = vec![t.current()];
    let mut bound = 100.0_f64;
    for _ in 0..40 {
        let out = t.fail(false);
        let (endpoint, start, after) = connects(&out).remove(0);
        assert_eq!(start, 5);
        let after = after.as_millis() as f64;
        assert!(after <= bound.min(10_000.0) + 1.0, "{after} > {bound}");
        assert!(
            after >= bound.min(10_000.0) / 2.0 - 1.0,
            "{after} of {bound}"
        );
        bound *= 1.2;
        order.push(endpoint);
    }
    let mut first: Vec<_> = order[..3].to_vec();
    first.sort();
    assert_eq!(first, ["a:1", "b:1", "c:1"]);
    assert!(order.iter().zip(order.iter().skip(3)).all(|(a, b)| a == b));
}

#[test]
fn a_good_block_ends_the_pauses() {
    let mut t = Table::leading(5, &["a:1"]);
    for _ in 0..30 {
        t.fail(false);
    }
    t.block(5);
    let (_, start, after) = connects(&t.fail(false)).remove(0);
    assert_eq!(start, 6);
    assert!(after <= BACKOFF_MIN);
}

#[test]
fn an_orderer_that_stays_away_is_told_of_once_in_a_while_and_when_it_is_back() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    let (first, out) = (t.current(), t.fail(false));
    assert_eq!(
        told(&out),
        [format!("channel ch: orderer {first} status 503")]
    );
    let (second, out) = (t.current(), t.fail(false));
    assert_eq!(
        told(&out),
        [format!("channel ch: orderer {second} status 503")]
    );
    for second in 1..600 {
        t.now = at(second);
        assert_eq!(told(&t.fail(false)), [""; 0]);
    }
    let another = told(&t.fail(true));
    assert!(another[0].contains("may read"), "{another:?}");
    t.now = at(600);
    let orderer = t.current();
    let again = format!(
        "channel ch: orderer {orderer} status 503 (301 attempts failed since this was told last)"
    );
    assert_eq!(told(&t.fail(false)), [again]);
    t.fail(false);
    let (orderer, out) = (t.current(), t.block(5));
    let over = format!("channel ch: orderer {orderer} gives blocks again after 600s");
    assert_eq!(told(&out), [over]);
    assert_eq!(told(&t.block(6)), [""; 0]);
    assert_eq!(told(&t.fail(false)).len(), 1, "which is news again");
    assert_eq!(t.machine.troubles.len(), 2);
    t.endpoints(&["c:1"]);
    assert_eq!(t.machine.troubles.len(), 0);
}

#[test]
fn a_refusal_is_told_apart_and_waits_longest() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    let before = t.current();
    let out = t.fail(true);
    assert!(
        matches!(&out[0], Effect::Notify(Notice::Warning(w)) if w.contains("may read")),
        "{out:?}"
    );
    let (endpoint, _, after) = connects(&out).remove(0);
    assert_ne!(endpoint, before);
    assert_eq!(after, BACKOFF_MAX);
}

#[test]
fn failures_of_an_orderer_that_was_left_mean_nothing() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    let left = t.stream();
    t.fail(false);
    let stale = Event::Failed {
        stream: left,
        reason: String::new(),
        forbidden: true,
    };
    assert_eq!(t.feed(Input::Event(stale)), []);
}

#[test]
fn new_endpoints_reconnect_at_once_and_the_same_ones_do_not() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    t.block(5);
    assert_eq!(t.endpoints(&["b:1", "a:1", "a:1"]), []);
    let out = t.endpoints(&["c:1"]);
    assert_eq!(out.len(), 1);
    assert_eq!(connects(&out), [("c:1".to_owned(), 6, Duration::ZERO)]);
    let out = t.endpoints(&[]);
    assert_eq!(out[0], Effect::Command(Command::Disconnect));
    assert!(is_warning(&out[1]));
}

#[test]
fn a_leader_that_comes_back_asks_the_orderers_of_now() {
    let mut t = Table::leading(5, &["a:1"]);
    t.block(5);
    t.feed(Input::Lead(false));
    // Meanwhile another peer leads, and blocks with configurations come from it.
    assert_eq!(t.endpoints(&["b:1"]), []);
    assert_eq!(t.endpoints(&["c:1"]), []);
    assert_eq!(t.feed(Input::Height(20)), []);
    let out = t.feed(Input::Lead(true));
    assert_eq!(connects(&out), [("c:1".to_owned(), 20, Duration::ZERO)]);
}

#[test]
fn reconnects_begin_after_what_was_verified_or_committed() {
    let mut t = Table::leading(5, &["a:1"]);
    t.block(5);
    t.block(6);
    assert_eq!(connects(&t.fail(false))[0].1, 7);
    assert_eq!(t.feed(Input::Height(20)), []);
    assert_eq!(connects(&t.fail(false))[0].1, 20);
}

#[test]
fn a_block_that_was_not_kept_is_asked_for_again_once() {
    for input in [Input::NoRoom, Input::CommitRefused] {
        let mut t = Table::leading(5, &["a:1"]);
        t.block(5);
        t.block(6);
        t.block(7);
        t.feed(Input::Height(6));
        assert_eq!(t.feed(input(8)), [], "8 never came from here");
        assert_eq!(connects(&t.feed(input(6)))[0].1, 6);
        assert_eq!(t.feed(input(7)), [], "7 comes again anyway");
        assert_eq!(t.block(6), taken(6));
    }
}

#[test]
fn what_an_ended_stream_still_brings_means_nothing() {
    for input in [Input::NoRoom, Input::CommitRefused] {
        let mut t = Table::leading(5, &["a:1", "b:1"]);
        t.block(5);
        t.block(6);
        let ended = t.stream();
        assert_eq!(connects(&t.feed(input(5)))[0].1, 5);
        let orderer = t.current();
        for number in [5, 6, 7, 8] {
            let block = block(number);
            let stream = ended;
            let late = Event::Block { stream, block };
            assert_eq!(t.feed(Input::Event(late)), []);
        }
        let failed = Event::Failed {
            stream: ended,
            reason: String::new(),
            forbidden: true,
        };
        assert_eq!(t.feed(Input::Event(failed)), []);
        assert_eq!(t.current(), orderer);
        assert_eq!(t.block(5), taken(5));
    }
}

#[test]
fn peers_are_looked_at_only_when_it_is_time_to_decide() {
    let heights = || -> u64 { panic!("nothing is to be decided") };
    let mut t = Table::at_height(5);
    t.machine.tick(at(100), heights, &mut Vec::new());
    let mut t = Table::leading(5, &["a:1"]);
    t.machine.tick(at(4), heights, &mut Vec::new());
    t.block(5);
    t.machine.tick(at(5), heights, &mut Vec::new());
}

#[test]
fn blocks_that_fell_with_another_are_nobodys_fault() {
    let mut t = Table::leading(5, &["a:1"]);
    for number in 5..8 {
        t.block(number);
    }
    assert_eq!(connects(&t.feed(Input::CommitRefused(5)))[0].1, 5);
    assert_eq!(t.feed(Input::CommitRefused(6)), []);
    assert_eq!(t.feed(Input::CommitRefused(7)), []);
    t.block(5);
    t.feed(Input::Height(6));
    assert_eq!(
        t.feed(Input::CommitRefused(5)),
        [],
        "a copy of what is durable"
    );
    assert_eq!(t.block(6), taken(6));
}

#[test]
fn an_orderer_that_falls_behind_our_peers_is_left() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    let before = t.current();
    assert_eq!(t.until(at(34), 6), []);
    let out = t.until(at(35), 6);
    assert!(is_warning(&out[0]));
    let (endpoint, start, after) = connects(&out).remove(0);
    assert_ne!(endpoint, before);
    assert_eq!((start, after), (5, Duration::ZERO));
}

#[test]
fn an_invented_height_changes_the_orderer_ever_more_rarely() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    let out = t.until(at(3600), u64::MAX);
    let changes = connects(&out).len();
    assert!((7..=11).contains(&changes), "{changes}");
}

#[test]
fn an_orderer_that_delivers_or_waits_for_us_is_kept() {
    let mut t = Table::leading(5, &["a:1", "b:1"]);
    assert_eq!(t.until(at(100), 5), [], "nobody has more");
    t.block(5);
    assert_eq!(t.until(at(300), 99), [], "our ledger is the slow one");
    for number in 6..60 {
        t.feed(Input::Height(number));
        let end = t.now + Duration::from_secs(20);
        assert_eq!(t.until(end, 99), [], "blocks do come");
        t.block(number);
    }
}

#[test]
fn remembered_links_are_bounded() {
    let mut t = Table::leading(0, &["a:1"]);
    let end = u64::try_from(LINKS_MAX).unwrap() + 5;
    for number in 0..end {
        t.block(number);
    }
    assert_eq!(t.machine.links.len(), LINKS_MAX);
    t.feed(Input::Height(end));
    assert_eq!(t.machine.links.len(), 1);
    assert_eq!(t.block(end), taken(end));
}

#[test]
fn who_was_elected_gives_up_after_too_much_waiting_and_who_was_appointed_never() {
    let elected = || {
        let config = Config {
            use_leader_election: true,
            reconnect_total_time_threshold: Duration::from_secs(60),
            ..Config::default()
        };
        let machine = Delivery::new("ch".into(), &config, 5, &SEED);
        let mut t = Table {
            machine,
            now: at(0),
        };
        t.endpoints(&["a:1", "b:1"]);
        t.feed(Input::Lead(true));
        t
    };
    let mut t = elected();
    for _ in 0..6 {
        assert_eq!(connects(&t.fail(true)).len(), 1);
    }
    let out = t.fail(true);
    assert!(is_warning(&out[0]), "{out:?}");
    let disconnect = Effect::Command(Command::Disconnect);
    assert_eq!(out[1..], [disconnect, Effect::GaveUp]);
    assert!(!t.machine.is_leading());
    assert_eq!(t.fail(true), []);
    t.feed(Input::Lead(true));
    assert_eq!(connects(&t.fail(true)).len(), 1, "a new term, a new budget");

    let mut t = elected();
    for number in 5..50 {
        for _ in 0..6 {
            t.fail(true);
        }
        assert_eq!(
            t.block(number)[1..],
            taken(number),
            "and a good block ends it"
        );
    }

    let mut t = Table::leading(5, &["a:1"]);
    for _ in 0..1000 {
        assert_eq!(connects(&t.fail(true)).len(), 1);
    }
}
