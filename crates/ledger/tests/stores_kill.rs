//! Killed at random moments, the stores of private data never lose what they acknowledged, and
//! the private data of a block is never behind the ledger.
//!
//! Replay one run with `SEED=<number> cargo test -p tidings-ledger --test stores_kill`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use made::{SMALL, block, child, child_dir};
use sha2::{Digest as _, Sha256};
use tempfile::tempdir;
use tidings_ledger::{
    Ledger,
    private::{Content, Place, PrivateBlock, PrivateEntry, PrivateStore, Queue, Why},
    transient::{Push, TransientStore, WriteSetName},
};

const PUSHERS: &str = "pushers_killed_200_times_lose_nothing_they_acknowledged";
const COMMITTER: &str = "a_committer_killed_60_times_has_the_account_of_every_block";

/// The tests of this file take turns. A child that one of them starts holds the locks of folders
/// that the other looks into until it is a program of its own, which takes a while on a busy machine.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A generator that needs no crate: the low bits of a linear congruence are dropped.
struct Random(u64);

impl Random {
    fn of(name: &str) -> Self {
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(20);
        eprintln!("{name}: SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn run_number() -> u64 {
    std::env::var("RUN").unwrap().parse().unwrap()
}

/// Writes a whole line, so that the parent never reads half of one that counts.
fn report(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}.").unwrap();
    out.flush().unwrap();
}

/// Runs the child until it has reported so much, kills it a little later, and answers all that
/// it reported.
fn run_and_kill(mut child: Command, random: &mut Random) -> Vec<Vec<String>> {
    let mut writer = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let wanted = random.below(20);
    let mut reports = Vec::new();
    let mut take = |line: String| {
        let words = line.strip_suffix('.').unwrap_or_default().split(' ');
        let words: Vec<_> = words.map(str::to_owned).collect();
        let counts = ["put", "purge", "purged", "filled", "committed"].contains(&&*words[0]);
        if counts {
            reports.push(words);
        }
        u64::from(counts)
    };
    let mut seen = 0;
    while seen < wanted {
        seen += take(lines.next().unwrap().unwrap());
    }
    thread::sleep(Duration::from_micros(random.below(8_000)));
    writer.kill().unwrap();
    writer.wait().unwrap();
    for line in lines {
        take(line.unwrap());
    }
    reports
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

/// What is pushed for a transaction.
fn body(tx_id: &str) -> Bytes {
    let seed = tx_id.bytes().fold(7_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let len = Random(seed).below(20_000);
    let mut bytes = tx_id.as_bytes().to_vec();
    bytes.resize(tx_id.len() + usize::try_from(len).unwrap(), 3);
    bytes.into()
}

fn name(tx_id: &str) -> WriteSetName<'_> {
    WriteSetName {
        tx_id,
        namespace: "cc",
        collection: "col",
    }
}

fn push_until_killed(dir: &Path) {
    let run = run_number();
    let store = TransientStore::open(dir).unwrap();
    thread::scope(|scope| {
        for pusher in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for count in 0_u64.. {
                    let tx_id = format!("{run}/{pusher}/{count}");
                    let push = Push {
                        bytes: body(&tx_id),
                        tx_id,
                        namespace: "cc".into(),
                        collection: "col".into(),
                        height: run,
                        owner: pusher.to_string().into(),
                        org: "org".into(),
                        is_own: true,
                    };
                    store.put(push).unwrap();
                    report(format_args!("put {run}/{pusher}/{count}"));
                    if count % 4 == 3 {
                        let tx_id = format!("{run}/{pusher}/{}", count - 2);
                        report(format_args!("purge {tx_id}"));
                        let hash = Sha256::digest(body(&tx_id)).into();
                        store.forget(&[(name(&tx_id), hash)]).unwrap();
                        report(format_args!("purged {tx_id}"));
                    }
                }
            });
        }
    });
}

#[test]
fn pushers_killed_200_times_lose_nothing_they_acknowledged() {
    if let Some(dir) = child_dir() {
        return push_until_killed(&dir);
    }
    let _turn = alone();
    let mut random = Random::of(PUSHERS);
    let dir = tempdir().unwrap();
    let (mut kept, mut gone) = (0, 0);
    for run in 0..200_u64 {
        let mut child = child(PUSHERS, dir.path());
        child.env("RUN", run.to_string());
        let mut state: BTreeMap<String, &str> = BTreeMap::new();
        for report in run_and_kill(child, &mut random) {
            let what = match &*report[0] {
                "put" => "there",
                "purge" => "either",
                _ => "gone",
            };
            state.insert(report[1].clone(), what);
        }
        let store = TransientStore::open(dir.path()).unwrap();
        for (tx_id, what) in &state {
            let copies: Vec<_> = store.of(name(tx_id)).unwrap().map(Result::unwrap).collect();
            match *what {
                "there" => assert_eq!(copies, [body(tx_id)], "run {run}: {tx_id}"),
                "gone" => assert!(copies.is_empty(), "run {run}: {tx_id}"),
                _ => assert!(copies.is_empty() || copies == [body(tx_id)]),
            }
            kept += u64::from(*what == "there");
            gone += u64::from(*what == "gone");
        }
        if run % 20 == 19 {
            store.purge_below(run + 1).unwrap();
            assert_eq!(store.usage().unwrap().bytes, 0, "run {run}");
        }
    }
    eprintln!("{kept} acknowledged copies found, {gone} purged ones not");
    assert!(kept > 500 && gone > 50);
}

/// What is known of a block by the run that committed it: one set held, one that is fetched
/// later, one that is not for us.
fn account(number: u64, run: u64) -> PrivateBlock {
    let rwset = |name: &str| Bytes::from(format!("{name} of {number} by {run}").repeat(40));
    let entry = |collection: &str, content| PrivateEntry {
        tx: run,
        namespace: "ns".into(),
        collection: collection.into(),
        block_to_live: 0,
        content,
    };
    PrivateBlock {
        number,
        entries: vec![
            entry("held", Content::Held(rwset("held"))),
            entry("late", Content::Missing(Why::Absent)),
            entry("theirs", Content::Missing(Why::NotEntitled)),
        ],
        purges: Vec::new(),
        left_out: BTreeMap::new(),
    }
}

fn late(number: u64, run: u64) -> (Place, Bytes) {
    let place = Place {
        block: number,
        tx: run,
        namespace: "ns".into(),
        collection: "late".into(),
    };
    (place, Bytes::from(format!("late of {number}")))
}

fn commit_until_killed(dir: &Path) {
    let run = run_number();
    let mut ledger = Ledger::open_with(dir.join("ledger"), SMALL).unwrap();
    let store = PrivateStore::open(dir.join("private"), ledger.height()).unwrap();
    loop {
        let mut group = vec![block(ledger.tip(), &[usize::try_from(run).unwrap()])];
        if ledger.height().is_multiple_of(3) {
            let tip = made::behind(&group[0]);
            group.push(block(tip, &[usize::try_from(run).unwrap()]));
        }
        let first = ledger.height();
        let end = first + group.len() as u64;
        let accounts: Vec<_> = (first..end).map(|number| account(number, run)).collect();
        store.prepare(&accounts).unwrap();
        ledger.append(&group).unwrap();
        report(format_args!("committed {end}"));
        if end.is_multiple_of(5) {
            store.fill(&[late(first, run)]).unwrap();
            report(format_args!("filled {first}"));
        }
    }
}

/// By which run a block was committed: its one transaction has so many bytes of data.
fn run_of(ledger: &Ledger, number: u64) -> u64 {
    let block = ledger.reader().block(number).unwrap().unwrap();
    let runs = (0..1_000).find(|run| {
        let tip = match number.checked_sub(1) {
            None => tidings_ledger::Tip::default(),
            Some(before) => made::behind(&ledger.reader().block(before).unwrap().unwrap()),
        };
        made::block(tip, &[*run]) == block
    });
    runs.unwrap() as u64
}

/// The account of a committed block is that of the run that committed it.
fn check_account(store: &PrivateStore, ledger: &Ledger, number: u64, filled: bool) {
    let run = run_of(ledger, number);
    let last = ledger.height() - 1;
    let Content::Held(rwset) = account(number, run).entries.remove(0).content else {
        unreachable!("the first is held");
    };
    let sets: Vec<_> = store
        .sets(number, last)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        (sets[0].place.tx, &sets[0].rwset),
        (run, &rwset),
        "{number}"
    );
    match &sets[1..] {
        [] => assert!(!filled, "{number}"),
        [set] => assert_eq!(
            (&set.place, &set.rwset),
            (&late(number, run).0, &late(number, run).1)
        ),
        _ => panic!("{number}: {sets:?}"),
    }
    let missing = [Queue::Eligible, Queue::Ineligible].map(|queue| {
        let of_block = store.missing(queue, number).unwrap().map(Result::unwrap);
        of_block.take_while(|set| set.place.block == number).count()
    });
    assert_eq!(missing, [2 - sets.len(), 1], "{number}");
}

#[test]
fn a_committer_killed_60_times_has_the_account_of_every_block() {
    if let Some(dir) = child_dir() {
        return commit_until_killed(&dir);
    }
    let _turn = alone();
    let mut random = Random::of(COMMITTER);
    let dir = tempdir().unwrap();
    let (mut height, mut ahead) = (0, 0);
    let mut filled = Vec::new();
    for run in 0..60_u64 {
        let mut child = child(COMMITTER, dir.path());
        child.env("RUN", run.to_string());
        let mut reported = height;
        for report in run_and_kill(child, &mut random) {
            match &*report[0] {
                "committed" => reported = number(&report[1]),
                _ => filled.push(number(&report[1])),
            }
        }
        let ledger = Ledger::open_with(dir.path().join("ledger"), SMALL).unwrap();
        assert!(ledger.height() >= reported, "run {run}");
        let store = PrivateStore::open(dir.path().join("private"), ledger.height()).unwrap();
        let prepared = store.height().unwrap();
        assert!(
            prepared >= ledger.height(),
            "run {run}: the store is behind"
        );
        ahead += u32::from(prepared > ledger.height());
        for number in height.saturating_sub(1)..ledger.height() {
            check_account(&store, &ledger, number, filled.contains(&number));
        }
        height = ledger.height();
    }
    let ledger = Ledger::open_with(dir.path().join("ledger"), SMALL).unwrap();
    let store = PrivateStore::open(dir.path().join("private"), height).unwrap();
    for number in 0..height {
        check_account(&store, &ledger, number, filled.contains(&number));
    }
    let counts = store.backlog(u64::MAX).unwrap().total();
    let blocks = store.height().unwrap();
    assert_eq!(counts.ineligible, blocks);
    assert_eq!(counts.held + counts.eligible, 2 * blocks);
    eprintln!(
        "{height} blocks, {} filled, {ahead} times killed in between",
        filled.len()
    );
}
