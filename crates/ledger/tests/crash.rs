//! Torn tails are cut, damage to what was committed is named, and nothing in between.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use made::{Chain, SMALL, files, flip};
use proptest::{collection::vec, prelude::*, sample::Index};
use tempfile::tempdir;
use tidings_ledger::{Audit, Cut, Damage, Fault, Ledger, OpenError, ReadError, Settings};

/// What a crash may do to bytes that were not synced.
#[derive(Debug, Clone)]
enum Tear {
    Truncate(Index),
    Flip(Index),
    Zero(Index, Index),
    Junk(Vec<u8>),
}

impl Tear {
    /// Acts on `path` from `from` on.
    fn act(&self, path: &Path, from: usize) {
        let mut bytes = fs::read(path).unwrap();
        let tail = bytes.len() - from;
        match self {
            Self::Truncate(at) => bytes.truncate(from + at.index(tail + 1)),
            Self::Flip(at) if tail > 0 => bytes[from + at.index(tail)] ^= 0x10,
            Self::Zero(a, b) => {
                let (a, b) = (a.index(tail + 1), b.index(tail + 1));
                bytes[from + a.min(b)..from + a.max(b)].fill(0);
            }
            Self::Junk(junk) => bytes.extend(junk),
            Self::Flip(_) => {}
        }
        fs::write(path, bytes).unwrap();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Vec<usize>>),
    /// An append that the crash came upon before its sync, and what the crash did to it.
    Crash(Vec<Vec<usize>>, Tear),
    Reopen,
    RemoveIndexes,
}

fn step() -> impl Strategy<Value = Step> {
    let group = || vec(vec(0_usize..400, 0..3), 1..4);
    let index = any::<Index>;
    let tear = prop_oneof![
        index().prop_map(Tear::Truncate),
        index().prop_map(Tear::Flip),
        (index(), index()).prop_map(|(a, b)| Tear::Zero(a, b)),
        vec(any::<u8>(), 1..100).prop_map(Tear::Junk),
    ];
    prop_oneof![
        3 => group().prop_map(Step::Append),
        3 => (group(), tear).prop_map(|(group, tear)| Step::Crash(group, tear)),
        1 => Just(Step::Reopen),
        1 => Just(Step::RemoveIndexes),
    ]
}

fn append(chain: &mut Chain, ledger: &mut Ledger, group: &[Vec<usize>]) {
    let group: Vec<_> = group.iter().map(Vec::as_slice).collect();
    chain.append(ledger, &group);
}

/// The last segment and its length.
fn end(dir: &Path) -> (PathBuf, usize) {
    let path = files(dir, "blocks").pop().unwrap();
    let len = fs::read(&path).unwrap().len();
    (path, len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_crash_never_loses_what_was_committed_and_the_folder_opens(steps in vec(step(), 1..10)) {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let open = || Ledger::open_with(dir, SMALL).unwrap();
        let mut chain = Chain::default();
        let mut ledger = open();
        for step in steps {
            match step {
                Step::Append(group) => append(&mut chain, &mut ledger, &group),
                Step::Reopen => {
                    drop(ledger);
                    ledger = open();
                }
                Step::RemoveIndexes => {
                    drop(ledger);
                    files(dir, "index").iter().for_each(|path| fs::remove_file(path).unwrap());
                    ledger = open();
                }
                Step::Crash(group, tear) => {
                    let committed = chain.tip().height();
                    let (path, len) = end(dir);
                    append(&mut chain, &mut ledger, &group);
                    drop(ledger);
                    let (torn, torn_len) = end(dir);
                    // The head of a new segment is on disk before the first record is written.
                    tear.act(&torn, if torn == path { len } else { torn_len.min(32) });
                    ledger = open();
                    let cut = ledger.recovery().cut.clone();
                    prop_assert!(ledger.height() >= committed);
                    // Cut exactly between two blocks, the file shows nothing of the loss.
                    prop_assert!(cut.is_none_or(|cut| cut.number == ledger.height()));
                    chain.truncate(ledger.height());
                }
            }
            chain.check(&ledger);
        }
        drop(ledger);
        chain.audit(dir);
    }

    #[test]
    fn a_folder_of_any_bytes_gets_a_verdict(bytes in vec(any::<u8>(), 0..300), from in 0_usize..100) {
        let dir = tempdir().unwrap();
        let mut chain = Chain::default();
        chain.append(&mut Ledger::open(dir.path()).unwrap(), &[&[10]]);
        let (path, len) = end(dir.path());
        let kept = fs::read(&path).unwrap()[..from.min(len)].to_vec();
        fs::write(&path, [kept, bytes].concat()).unwrap();
        let _ = Audit::open(dir.path()).map(|audit| audit.count());
        let _ = Ledger::open(dir.path());
    }
}

/// Three groups in one segment.
fn three_groups(dir: &Path) -> Chain {
    let mut chain = Chain::default();
    let mut ledger = Ledger::open(dir).unwrap();
    for _ in 0..3 {
        chain.append(&mut ledger, &[&[20]]);
    }
    chain
}

#[test]
fn a_new_segment_without_a_whole_head_is_made_again() {
    for len in 0..=32 {
        let dir = tempdir().unwrap();
        let mut chain = three_groups(dir.path());
        let born = dir.path().join("00000000000000000003.blocks");
        fs::write(&born, vec![7; len]).unwrap();
        let mut audit = Audit::open(dir.path()).unwrap();
        assert_eq!(audit.by_ref().filter(Result::is_ok).count(), 3);
        assert_eq!(audit.torn().map(|cut| cut.bytes), Some(len as u64));
        drop(audit);
        let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
        let cut = Cut {
            path: born,
            offset: 0,
            bytes: len as u64,
            number: 3,
        };
        assert_eq!(ledger.recovery().cut.as_ref(), Some(&cut));
        for _ in 0..9 {
            chain.append(&mut ledger, &[&[400]]);
        }
        chain.check(&ledger);
    }
}

#[test]
fn what_is_cut_is_reported() {
    let dir = tempdir().unwrap();
    let mut chain = three_groups(dir.path());
    let (path, len) = end(dir.path());
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len as u64 - 1)
        .unwrap();
    let mut audit = Audit::open(dir.path()).unwrap();
    assert_eq!(audit.by_ref().filter(Result::is_ok).count(), 2);
    let torn = audit.torn().cloned();
    drop(audit);
    let ledger = Ledger::open(dir.path()).unwrap();
    let cut = ledger.recovery().cut.clone().unwrap();
    assert_eq!((cut.number, cut.offset + cut.bytes), (2, len as u64 - 1));
    assert_eq!(
        (Some(&cut), fs::metadata(path).unwrap().len()),
        (torn.as_ref(), cut.offset)
    );
    chain.truncate(2);
    chain.check(&ledger);
    drop(ledger);
    assert_eq!(Ledger::open(dir.path()).unwrap().recovery().cut, None);
}

#[test]
fn a_flipped_bit_anywhere_in_committed_blocks_is_damage_and_never_a_cut() {
    let dir = tempdir().unwrap();
    let chain = three_groups(dir.path());
    let (path, len) = end(dir.path());
    let last = 40 + chain.blocks[2].bytes().len();
    for at in 0..len {
        flip(&path, at);
        let before = fs::read(&path).unwrap();
        match Ledger::open(dir.path()) {
            Err(OpenError::Damaged(damage)) => assert_eq!(damage.path, path),
            // Nothing stands behind the last record to prove that it had been committed.
            Ok(ledger) if at >= len - last => {
                assert_eq!(ledger.height(), 2);
                drop(ledger);
                fs::write(&path, &before).unwrap();
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), before, "left as it was");
        let mut audit = Audit::open(dir.path()).unwrap();
        let fault = audit.by_ref().any(|block| block.is_err());
        assert!(fault || audit.torn().is_some(), "byte {at}");
        drop(audit);
        flip(&path, at);
    }
    chain.audit(dir.path());
}

#[test]
fn damage_in_a_finished_segment_spoils_that_block_alone() {
    let dir = tempdir().unwrap();
    let mut chain = Chain::default();
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    for _ in 0..30 {
        chain.append(&mut ledger, &[&[200]]);
    }
    drop(ledger);
    let first = &files(dir.path(), "blocks")[0];
    let offset = 32 + 40 + chain.blocks[0].bytes().len();
    flip(first, offset + 40 + 100);
    let expect = Damage {
        path: first.clone(),
        offset: offset as u64,
        number: 1,
        fault: Fault::Checksum,
    };
    let is_it = |error: ReadError| matches!(error, ReadError::Damaged(damage) if damage == expect);

    let ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    let reader = ledger.reader();
    assert!(is_it(reader.block(1).unwrap_err()));
    assert_eq!(reader.block(2).unwrap().as_ref(), Some(&chain.blocks[2]));
    let mut walk = reader.blocks(0..30);
    assert!(walk.next().unwrap().is_ok() && is_it(walk.next().unwrap().unwrap_err()));
    assert!(walk.next().is_none());
    drop(ledger);

    let mut audit = Audit::open(dir.path()).unwrap();
    assert!(audit.next().unwrap().is_ok() && is_it(audit.next().unwrap().unwrap_err()));
    assert!(audit.next().is_none());
    assert_eq!(audit.tip(), chain.tips[0]);
    drop(audit);

    fs::remove_file(&files(dir.path(), "index")[0]).unwrap();
    let refused = Ledger::open(dir.path()).unwrap_err();
    assert!(matches!(&refused, OpenError::Damaged(damage) if *damage == expect));
    let said = refused.to_string();
    assert!(said.contains("byte") && said.contains("block 1") && said.contains("fetch the chain"));
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempdir().unwrap();
    let mut chain = Chain::default();
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    for _ in 0..30 {
        chain.append(&mut ledger, &[&[200]]);
    }
    drop(ledger);
    let second = files(dir.path(), "blocks").remove(1);
    fs::remove_file(&second).unwrap();
    let refused = Ledger::open(dir.path()).unwrap_err();
    let is_it = |damage: &Damage| damage.path == second && damage.fault == Fault::SegmentMissing;
    assert!(matches!(&refused, OpenError::Damaged(damage) if is_it(damage)));
    let fault = Audit::open(dir.path())
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    assert!(matches!(&fault, ReadError::Damaged(damage) if is_it(damage)));
}

/// Entries of an index are hints: a wrong one may hide a block or be an error, but what is found is
/// what was asked for.
#[test]
fn a_wrong_index_never_serves_a_wrong_block() {
    let dir = tempdir().unwrap();
    let mut chain = Chain::default();
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    for _ in 0..12 {
        chain.append(&mut ledger, &[&[200, 3]]);
    }
    let index = &files(dir.path(), "index")[0];
    let len = fs::read(index).unwrap().len();
    let reader = ledger.reader();
    let (mut hidden, mut failed) = (0, 0);
    for at in (0..len).step_by(3) {
        flip(index, at);
        for (number, block) in (0..).zip(&chain.blocks) {
            match reader.block(number) {
                Ok(found) => assert_eq!(found.as_ref(), Some(block), "byte {at}"),
                Err(_) => failed += 1,
            }
            let hash = tidings_ledger::BlockHash::of(block).unwrap();
            match reader.block_by_hash(&hash) {
                Ok(Some(found)) => assert_eq!(&found, block, "byte {at}"),
                Ok(None) => hidden += 1,
                Err(_) => failed += 1,
            }
            match reader.transaction(&made::tx_id(number, 1)) {
                Ok(Some(found)) => assert_eq!((&found.block, found.position), (block, 1)),
                Ok(None) => hidden += 1,
                Err(_) => failed += 1,
            }
        }
        flip(index, at);
    }
    assert!(hidden > 0 && failed > 0, "{hidden} {failed}");
    chain.check(&ledger);
}

#[test]
fn an_audit_finds_a_wrong_index_and_a_wrong_data_hash() {
    let dir = tempdir().unwrap();
    let mut chain = Chain::default();
    let settings = Settings {
        segment_len_max: 1_000,
        ..Settings::default()
    };
    let mut ledger = Ledger::open_with(dir.path(), settings).unwrap();
    for _ in 0..9 {
        chain.append(&mut ledger, &[&[200]]);
    }
    let mut wrong = tidings_proto::common::Block::default();
    let header = wrong.header.get_or_insert_default();
    header.number = 9;
    header.previous_hash = chain.tip().last_hash().unwrap().as_bytes().to_vec().into();
    ledger.append(&[made::view(&wrong)]).unwrap();
    drop(ledger);
    let fault = |dir: &Path| match Audit::open(dir).unwrap().find_map(Result::err).unwrap() {
        ReadError::Damaged(damage) => (damage.number, damage.fault),
        ReadError::Failed(failed) => panic!("{failed}"),
    };
    assert_eq!(fault(dir.path()), (9, Fault::DataHash));
    let index = &files(dir.path(), "index")[0];
    let len = fs::read(index).unwrap().len();
    for at in (0..len).step_by(7) {
        flip(index, at);
        assert_eq!(fault(dir.path()), (0, Fault::Index), "byte {at}");
        flip(index, at);
    }
}
