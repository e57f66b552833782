//! A pruned ledger has the last blocks and what it was told to hold, says where it begins, and
//! opens after a crash at every point.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use made::{Chain, SMALL, files, flip, tx_id};
use proptest::{collection::vec, prelude::*};
use tempfile::{TempDir, tempdir};
use tidings_ledger::{Audit, BlockHash, Fault, Ledger, OpenError, ReadError, Retention, Settings};
use tidings_proto::block::BlockView;

fn last(blocks: u64) -> Settings {
    let retention = Retention {
        blocks: Some(blocks),
        age: None,
    };
    Settings { retention, ..SMALL }
}

/// Every tenth block stands for one that is needed.
fn is_needed(block: &BlockView) -> bool {
    block.number().is_some_and(|number| number % 10 == 3)
}

fn prune(ledger: &mut Ledger) {
    while ledger
        .prune(SystemTime::now(), &is_needed)
        .unwrap()
        .is_some()
    {}
}

/// Makes a chain of so many blocks, of which a few fit a segment.
fn grow(chain: &mut Chain, ledger: &mut Ledger, height: u64) {
    while ledger.height() < height {
        chain.append(ledger, &[&[300]]);
    }
}

/// A ledger with a chain of so many blocks.
fn grown(settings: Settings, height: u64) -> (TempDir, Chain, Ledger) {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open_with(dir.path(), settings).unwrap();
    let mut chain = Chain::default();
    grow(&mut chain, &mut ledger, height);
    (dir, chain, ledger)
}

/// The ledger has what it should of this chain and no block more, whichever way it is asked.
fn check(chain: &Chain, ledger: &Ledger) {
    let reader = ledger.reader();
    let first = reader.first();
    assert_eq!(reader.tip(), chain.tip());
    for (number, block) in (0..).zip(&chain.blocks) {
        let hash = BlockHash::of(block).unwrap();
        let by_hash = reader.block_by_hash(&hash).unwrap();
        let found = reader.transaction(&tx_id(number, 0)).unwrap();
        if number >= first {
            assert_eq!(by_hash.as_ref(), Some(block));
            assert_eq!(&found.unwrap().block, block);
        } else {
            assert_eq!((by_hash, found), (None, None));
        }
        let is_there = number >= first || number == 0 || is_needed(block);
        let expected = is_there.then_some(block);
        assert_eq!(reader.block(number).unwrap().as_ref(), expected, "{number}");
        assert_eq!(reader.holds(number), is_there);
    }
    let all: Result<Vec<_>, ReadError> = reader.blocks(first..u64::MAX).collect();
    let from = usize::try_from(first).unwrap();
    assert_eq!(all.unwrap(), chain.blocks[from..]);
    let held: Result<Vec<_>, ReadError> = reader.blocks(0..u64::MAX).collect();
    assert_eq!(
        held.unwrap().len(),
        if first > 0 { 1 } else { chain.blocks.len() }
    );
}

/// As `check`, for the files themselves.
fn audit(chain: &Chain, dir: &Path) {
    let mut audit = Audit::open(dir).unwrap();
    let first = audit.begin().height();
    let all: Result<Vec<_>, ReadError> = audit.by_ref().collect();
    let numbers: Vec<u64> = all
        .unwrap()
        .iter()
        .map(|block| block.number().unwrap())
        .collect();
    let expected = (0..)
        .zip(&chain.blocks)
        .filter(|(number, block)| *number >= first || *number == 0 || is_needed(block));
    let expected: Vec<u64> = expected.map(|(number, _)| number).collect();
    assert_eq!(numbers, expected);
    assert_eq!(audit.tip(), chain.tip());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_kept_verifies_and_the_last_blocks_are_always_there(
        steps in vec((1_u64..12, any::<bool>(), any::<bool>()), 1..12), keep in 0_u64..30,
    ) {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let mut chain = Chain::default();
        let mut ledger = Ledger::open_with(dir, last(keep)).unwrap();
        for (more, prunes, reopens) in steps {
            let height = ledger.height() + more;
            grow(&mut chain, &mut ledger, height);
            if prunes {
                prune(&mut ledger);
            }
            if reopens {
                drop(ledger);
                ledger = Ledger::open_with(dir, last(keep)).unwrap();
            }
            prop_assert!(ledger.reader().first() <= ledger.height().saturating_sub(keep));
            check(&chain, &ledger);
        }
        drop(ledger);
        audit(&chain, dir);
    }
}

#[test]
fn nothing_goes_unless_it_is_said_and_never_the_last_segment() {
    let (dir, mut chain, mut ledger) = grown(SMALL, 40);
    prune(&mut ledger);
    assert_eq!(ledger.reader().first(), 0);
    drop(ledger);
    let mut ledger = Ledger::open_with(dir.path(), last(0)).unwrap();
    let all = ledger.reader().extent().bytes;
    prune(&mut ledger);
    assert_eq!(files(dir.path(), "blocks").len(), 1);
    assert_eq!(files(dir.path(), "index").len(), 0);
    let left = ledger.reader().extent();
    assert!(
        left.first > 30 && left.first < 40 && left.bytes < all,
        "{left:?}"
    );
    check(&chain, &ledger);
    grow(&mut chain, &mut ledger, 60);
    check(&chain, &ledger);
}

#[test]
fn what_either_wants_kept_is_kept_and_exactly_so_many_blocks_are_enough() {
    let (dir, _, ledger) = grown(SMALL, 30);
    drop(ledger);
    let second = files(dir.path(), "blocks")[1].clone();
    let second: u64 = second
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let day = Duration::from_secs(24 * 3600);
    let (today, next_week) = (SystemTime::now(), SystemTime::now() + 7 * day);
    let past = SystemTime::UNIX_EPOCH;
    for (blocks, age, now, goes) in [
        (Some(30 - second), None, today, true),
        (Some(30 - second + 1), None, today, false),
        (None, Some(day), today, false),
        (None, Some(day), past, false),
        (None, Some(day), next_week, true),
        (Some(30), Some(day), next_week, false),
        (Some(1), Some(8 * day), next_week, false),
    ] {
        let copy = tempdir().unwrap();
        for path in [files(dir.path(), "blocks"), files(dir.path(), "index")].concat() {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let retention = Retention { blocks, age };
        let settings = Settings { retention, ..SMALL };
        let mut ledger = Ledger::open_with(copy.path(), settings).unwrap();
        let pruned = ledger.prune(now, &is_needed).unwrap();
        assert_eq!(pruned, goes.then_some(second), "{retention:?}");
    }
}

#[test]
fn a_crash_at_any_point_of_pruning_loses_nothing_that_is_kept() {
    let (dir, mut chain, mut ledger) = grown(last(10), 20);
    prune(&mut ledger);
    grow(&mut chain, &mut ledger, 40);
    drop(ledger);
    let contents = |dir: &Path| {
        let mut all: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        all.sort();
        let read = |path: std::path::PathBuf| {
            (
                path.file_name().unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )
        };
        all.into_iter().map(read).collect::<Vec<_>>()
    };
    let before = contents(dir.path());
    let first = Audit::open(dir.path()).unwrap().begin().height();
    let mut ledger = Ledger::open_with(dir.path(), last(10)).unwrap();
    let then = ledger
        .prune(SystemTime::now(), &is_needed)
        .unwrap()
        .unwrap();
    drop(ledger);
    let after = contents(dir.path());
    let of = |all: &[(std::ffi::OsString, Vec<u8>)], name: &str| {
        all.iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .clone()
    };
    // In the order in which they are written: held blocks, draft, note, index gone, segment gone.
    let held = of(&after, "HELD");
    let old = of(&before, "HELD").len();
    for point in 0..6 {
        let crashed = tempdir().unwrap();
        let path = |name: &str| crashed.path().join(name);
        for (name, bytes) in &before {
            fs::write(crashed.path().join(name), bytes).unwrap();
        }
        match point {
            0 => fs::write(path("HELD"), &held[..old + (held.len() - old) / 2]).unwrap(),
            1 => fs::write(path("HELD"), &held).unwrap(),
            2 => {
                fs::write(path("HELD"), &held).unwrap();
                fs::write(path("PRUNED.draft"), &of(&after, "PRUNED")[..20]).unwrap();
            }
            _ => {
                fs::write(path("HELD"), &held).unwrap();
                fs::write(path("PRUNED"), of(&after, "PRUNED")).unwrap();
            }
        }
        if point >= 4 {
            fs::remove_file(path(&format!("{first:020}.index"))).unwrap();
        }
        if point >= 5 {
            fs::remove_file(path(&format!("{first:020}.blocks"))).unwrap();
        }
        audit(&chain, crashed.path());
        let mut ledger = Ledger::open_with(crashed.path(), last(10)).unwrap();
        let begins = if point < 3 { first } else { then };
        assert_eq!(ledger.reader().first(), begins, "point {point}");
        check(&chain, &ledger);
        prune(&mut ledger);
        check(&chain, &ledger);
        drop(ledger);
        audit(&chain, crashed.path());
    }
}

#[test]
fn damage_is_named_and_never_pruned_away() {
    let pruned = || {
        let (dir, mut chain, mut ledger) = grown(last(10), 20);
        prune(&mut ledger);
        grow(&mut chain, &mut ledger, 40);
        (dir, ledger)
    };
    let refused = |dir: &Path| match Ledger::open(dir).unwrap_err() {
        OpenError::Damaged(damage) => damage.fault,
        error => panic!("{error}"),
    };
    // In the segment that would go: its end is where its last block is.
    let (dir, mut ledger) = pruned();
    let oldest = files(dir.path(), "blocks")[0].clone();
    let len = usize::try_from(fs::metadata(&oldest).unwrap().len()).unwrap();
    flip(&oldest, len - 5);
    let begins = ledger.reader().first();
    let error = ledger.prune(SystemTime::now(), &is_needed).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(ledger.reader().first(), begins);
    assert!(oldest.exists());
    // In the note, and in what is held.
    let (dir, ledger) = pruned();
    drop(ledger);
    flip(&dir.path().join("PRUNED"), 10);
    assert_eq!(refused(dir.path()), Fault::PruneNote);
    let (dir, ledger) = pruned();
    drop(ledger);
    flip(&dir.path().join("HELD"), 33);
    assert_eq!(refused(dir.path()), Fault::RecordHead);
    let (dir, ledger) = pruned();
    drop(ledger);
    flip(&dir.path().join("HELD"), 32 + 40 + 5);
    let ledger = Ledger::open(dir.path()).unwrap();
    assert!(ledger.reader().block(0).is_err());
    drop(ledger);
    assert!(Audit::open(dir.path()).unwrap().any(|block| block.is_err()));
    // Without its first segment, or without the note, there is no chain.
    let (dir, ledger) = pruned();
    drop(ledger);
    fs::remove_file(&files(dir.path(), "blocks")[0]).unwrap();
    assert_eq!(refused(dir.path()), Fault::SegmentMissing);
    let (dir, ledger) = pruned();
    drop(ledger);
    fs::remove_file(dir.path().join("PRUNED")).unwrap();
    assert_eq!(refused(dir.path()), Fault::SegmentMissing);
    // Segments of an older copy, below a note that is newer, are refused and stay.
    let (dir, _, older) = grown(SMALL, 6);
    drop(older);
    let (newer, ledger) = pruned();
    drop(ledger);
    for name in ["PRUNED", "HELD"] {
        fs::copy(newer.path().join(name), dir.path().join(name)).unwrap();
    }
    let segments = files(dir.path(), "blocks");
    assert_eq!(refused(dir.path()), Fault::SegmentMissing);
    assert_eq!(files(dir.path(), "blocks"), segments);
}

#[test]
fn whoever_reads_while_it_is_pruned_gets_blocks_or_none_and_never_an_error() {
    let (dir, chain, mut ledger) = grown(last(5), 200);
    // Left by a crash in the first pruning of all.
    fs::write(dir.path().join("HELD"), "no note tells of it").unwrap();
    let reader = ledger.reader();
    let mut walk = reader.blocks(0..200);
    assert!(walk.next().unwrap().is_ok());
    let reading = std::thread::spawn({
        let hashes: Vec<BlockHash> = chain.blocks.iter().filter_map(BlockHash::of).collect();
        move || {
            for number in (0..200).rev().chain(0..200) {
                reader.block(number).unwrap();
                reader.block_by_hash(&hashes[number as usize]).unwrap();
            }
        }
    });
    prune(&mut ledger);
    reading.join().unwrap();
    // The walk goes on in the file that it has open, and ends where the next one is gone.
    assert!(walk.all(|block| block.is_ok()));
    check(&chain, &ledger);
}
