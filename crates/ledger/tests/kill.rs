//! A writer killed at random moments never loses a block that it reported as committed.
//!
//! Replay one run with `SEED=<number> cargo test -p tidings-ledger --test kill`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
    thread,
    time::Duration,
};

use made::{Chain, behind, block, child, child_dir};
use tempfile::tempdir;
use tidings_ledger::{Ledger, ReadError, Retention, Settings, Tip};
use tidings_proto::block::BlockView;

const TEST: &str = "a_writer_killed_200_times_never_loses_a_reported_block";
const KILLS: u32 = 200;

/// Small, so that many of the moments are in the middle of finishing a segment.
const SETTINGS: Settings = Settings {
    segment_len_max: 20_000,
    segment_entries_max: 256,
    retention: Retention::ALL,
};

/// A generator that needs no crate: the low bits of a linear congruence are dropped.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Every block is a function of the chain before it, so that the parent knows what to expect.
fn next_block(tip: Tip) -> BlockView {
    let mut random = Random(tip.height());
    let lens: Vec<_> = (0..random.below(4))
        .map(|_| usize::try_from(random.below(3_000)).unwrap())
        .collect();
    block(tip, &lens)
}

fn write_until_killed(dir: &std::path::Path) -> ! {
    let mut ledger = Ledger::open_with(dir, SETTINGS).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nopened {}", ledger.height()).unwrap();
    loop {
        let mut group = vec![next_block(ledger.tip())];
        for _ in 0..ledger.height() % 3 {
            group.push(next_block(behind(group.last().unwrap())));
        }
        let tip = ledger.append(&group).unwrap();
        writeln!(out, "committed {}", tip.height()).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_writer_killed_200_times_never_loses_a_reported_block() {
    if let Some(dir) = child_dir() {
        write_until_killed(&dir);
    }
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20);
    eprintln!("SEED={seed}");
    let mut random = Random(seed);
    let dir = tempdir().unwrap();
    let (mut height, mut cuts) = (0, 0);
    for kill in 0..KILLS {
        let mut writer = child(TEST, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Somewhere after the so-manieth report, or while it opens.
        let reports = random.below(12);
        let mut reported = height;
        let mut note = |line: String| {
            if let Some((_, number)) = line.split_once("committed ") {
                reported = number.parse().unwrap();
                return true;
            }
            false
        };
        let mut seen = 0;
        while seen < reports {
            seen += u64::from(note(lines.next().unwrap().unwrap()));
        }
        thread::sleep(Duration::from_micros(random.below(4_000)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        for line in lines {
            note(line.unwrap());
        }
        let ledger = Ledger::open_with(dir.path(), SETTINGS).unwrap();
        assert!(
            ledger.height() >= reported,
            "kill {kill}: {} < {reported}",
            ledger.height()
        );
        cuts += u32::from(ledger.recovery().cut.is_some());
        let from = height.saturating_sub(1);
        for block in ledger.reader().blocks(from..u64::MAX) {
            assert!(block.unwrap().number().unwrap() < ledger.height());
        }
        height = ledger.height();
    }
    let mut chain = Chain::default();
    while chain.tip().height() < height {
        chain.extend(vec![next_block(chain.tip())]);
    }
    chain.audit(dir.path());
    eprintln!("{KILLS} kills, {height} blocks, {cuts} torn tails cut");
    let all: Result<Vec<_>, ReadError> = Ledger::open(dir.path())
        .unwrap()
        .reader()
        .blocks(0..u64::MAX)
        .collect();
    assert_eq!(all.unwrap(), chain.blocks);
}
