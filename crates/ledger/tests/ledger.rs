//! What a ledger takes, keeps, finds and refuses.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bytes::Bytes;
use made::{Chain, SMALL, behind, block, block_of, child, child_dir, files, transaction};
use tempfile::tempdir;
use tidings_ledger::{
    AppendError, Audit, AuditError, BLOCK_LEN_MAX, Ledger, OpenError, Recovery, Settings, Tip,
};
use tidings_proto::{block::BlockView, common::Block};

#[test]
fn an_empty_ledger_has_no_tip_and_opens_again() {
    let dir = tempdir().unwrap();
    let dir = dir.path().join("not/yet/there");
    for _ in 0..2 {
        let ledger = Ledger::open(&dir).unwrap();
        assert_eq!(
            (ledger.tip(), ledger.recovery()),
            (Tip::default(), &Recovery::default())
        );
        assert_eq!(ledger.dir(), dir);
        Chain::default().check(&ledger);
    }
    Chain::default().audit(&dir);
}

#[test]
fn blocks_are_found_by_number_hash_and_transaction_across_segments_and_starts() {
    let dir = tempdir().unwrap();
    let mut chain = Chain::default();
    for round in 0..4 {
        let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
        assert_eq!(ledger.recovery(), &Recovery::default());
        chain.check(&ledger);
        chain.append(&mut ledger, &[&[100, 0, 300], &[], &[10]]);
        chain.append(&mut ledger, &[&[round * 500]]);
        chain.append(&mut ledger, &[]);
        chain.check(&ledger);
    }
    assert!(files(dir.path(), "blocks").len() > 2);
    assert_eq!(
        files(dir.path(), "index").len(),
        files(dir.path(), "blocks").len() - 1
    );
    chain.audit(dir.path());
}

#[test]
fn a_segment_is_finished_when_it_has_enough_entries_or_bytes() {
    let count = |settings, lens: &[usize]| {
        let dir = tempdir().unwrap();
        let mut ledger = Ledger::open_with(dir.path(), settings).unwrap();
        let mut chain = Chain::default();
        for _ in 0..9 {
            chain.append(&mut ledger, &[lens]);
        }
        chain.check(&ledger);
        files(dir.path(), "blocks").len()
    };
    let entries = |segment_entries_max| Settings {
        segment_entries_max,
        ..Settings::default()
    };
    assert_eq!(count(Settings::default(), &[1]), 1);
    assert_eq!(
        count(entries(6), &[1]),
        3,
        "three blocks of two entries each"
    );
    assert_eq!(count(entries(7), &[1]), 3, "the fourth block fills it");
    assert_eq!(count(entries(0), &[1]), 9, "never an empty segment");
    let bytes = Settings {
        segment_len_max: 1,
        ..Settings::default()
    };
    assert_eq!(count(bytes, &[1]), 9);
}

#[test]
fn only_the_next_block_of_this_chain_is_taken() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let mut chain = Chain::default();
    let stranger = block(behind(&block(Tip::default(), &[9])), &[1]);
    let refusal = |ledger: &mut Ledger, blocks: &[BlockView]| {
        let before = ledger.tip();
        let error = ledger.append(blocks).unwrap_err();
        assert_eq!(ledger.tip(), before);
        error.to_string()
    };
    let genesis = block(Tip::default(), &[1]);
    assert_eq!(
        refusal(&mut ledger, std::slice::from_ref(&stranger)),
        "block 1 cannot be next: block 0 is"
    );
    let mut odd = Block::default();
    odd.header.get_or_insert_default().previous_hash = Bytes::from_static(b"not empty");
    assert_eq!(
        refusal(&mut ledger, &[made::view(&odd)]),
        "the previous hash of block 0 is not the hash of the last header"
    );
    chain.append(&mut ledger, &[&[1], &[2]]);
    assert_eq!(
        refusal(&mut ledger, &[genesis]),
        "block 0 is already committed"
    );
    assert_eq!(
        refusal(&mut ledger, &[stranger]),
        "another block 1 is already committed: the chains have parted"
    );
    let next = block(chain.tip(), &[3]);
    let gap = block(behind(&next), &[3]);
    assert_eq!(
        refusal(&mut ledger, &[gap]),
        "block 3 cannot be next: block 2 is"
    );
    let none = BlockView::parse(Bytes::new()).unwrap();
    assert_eq!(
        refusal(&mut ledger, std::slice::from_ref(&none)),
        "the block has no header"
    );
    // A good block before a bad one is not taken either.
    assert_eq!(
        refusal(&mut ledger, &[next, none]),
        "the block has no header"
    );
    chain.check(&ledger);
}

#[test]
fn a_block_above_the_limit_is_refused() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let large = block(Tip::default(), &[BLOCK_LEN_MAX]);
    let refused = ledger.append(&[large]);
    assert!(
        matches!(refused, Err(AppendError::TooLarge { number: 0, len }) if len > BLOCK_LEN_MAX)
    );
    assert_eq!(ledger.height(), 0);
}

#[test]
fn the_first_of_two_transactions_with_one_id_is_found() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    let twice = |tip| block_of(tip, vec![transaction("twice".into(), 5, 1); 2]);
    let first = twice(Tip::default());
    let mut chain = Chain::default();
    chain.extend(vec![first.clone()]);
    ledger.append(&[first]).unwrap();
    for _ in 0..40 {
        let next = twice(chain.tip());
        ledger.append(std::slice::from_ref(&next)).unwrap();
        chain.extend(vec![next]);
    }
    assert!(files(dir.path(), "index").len() > 1);
    let found = ledger.reader().transaction("twice").unwrap().unwrap();
    assert_eq!((found.block.number(), found.position), (Some(0), 0));
}

#[test]
fn what_is_not_there_is_not_found() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    let mut chain = Chain::default();
    for _ in 0..20 {
        chain.append(&mut ledger, &[&[300, 5]]);
    }
    let reader = ledger.reader();
    assert_eq!(reader.transaction("").unwrap(), None);
    assert_eq!(reader.transaction("nobody's").unwrap(), None);
    let other = block(Tip::default(), &[77]);
    let hash = behind(&other).last_hash().unwrap();
    assert_eq!(reader.block_by_hash(&hash).unwrap(), None);
    assert_eq!(reader.block(u64::MAX).unwrap(), None);
    let some: Vec<_> = reader
        .blocks(18..25)
        .map(|block| block.unwrap().number())
        .collect();
    assert_eq!(some, [Some(18), Some(19)]);
    assert!(reader.blocks(7..7).next().is_none());
}

#[test]
fn transactions_without_readable_head_are_stored_all_the_same() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let odd = vec![
        Bytes::from_static(&[0xff; 9]),
        Bytes::new(),
        transaction("x".into(), 1, 1),
    ];
    let block = block_of(Tip::default(), odd);
    ledger.append(std::slice::from_ref(&block)).unwrap();
    assert_eq!(ledger.reader().block(0).unwrap().as_ref(), Some(&block));
    assert_eq!(
        ledger.reader().transaction("x").unwrap().unwrap().position,
        2
    );
}

#[test]
fn a_folder_has_one_writer_in_this_process() {
    let dir = tempdir().unwrap();
    let ledger = Ledger::open(dir.path()).unwrap();
    let second = Ledger::open(dir.path()).unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }));
    let expect = format!(
        "the ledger in {} is already open: stop the other process or choose another folder",
        dir.path().display()
    );
    assert_eq!(second.to_string(), expect);
    assert!(matches!(
        Audit::open(dir.path()),
        Err(AuditError::InUse { .. })
    ));
    drop(ledger);
    let audit = Audit::open(dir.path()).unwrap();
    assert!(Audit::open(dir.path()).is_ok());
    assert!(matches!(
        Ledger::open(dir.path()),
        Err(OpenError::InUse { .. })
    ));
    drop(audit);
    assert!(Ledger::open(dir.path()).is_ok());
}

#[test]
fn a_folder_has_one_writer_among_processes() {
    if let Some(dir) = child_dir() {
        let opened = Ledger::open(dir);
        println!(
            "child {}",
            if opened.is_ok() {
                "opened"
            } else {
                "was refused"
            }
        );
        return;
    }
    let dir = tempdir().unwrap();
    let says = || {
        let output = child("a_folder_has_one_writer_among_processes", dir.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let ledger = Ledger::open(dir.path()).unwrap();
    assert!(says().contains("child was refused"));
    drop(ledger);
    assert!(says().contains("child opened"));
}

#[test]
fn readers_see_a_growing_chain_beside_the_writer() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (reader, done) = (ledger.reader(), &done);
            scope.spawn(move || {
                let mut last = Tip::default();
                loop {
                    let finished = done.load(Ordering::Acquire);
                    let tip = reader.tip();
                    assert!(tip.height() >= last.height());
                    for block in reader.blocks(last.height()..tip.height()) {
                        let block = block.unwrap();
                        assert_eq!(block.number(), Some(last.height()));
                        last = behind(&block);
                    }
                    assert_eq!(last, tip);
                    if finished {
                        assert_eq!(tip.height(), 120);
                        return;
                    }
                }
            });
        }
        let mut chain = Chain::default();
        for _ in 0..60 {
            chain.append(&mut ledger, &[&[50, 60], &[200]]);
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn a_reader_outlives_the_writer() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    let mut chain = Chain::default();
    chain.append(&mut ledger, &[&[1], &[2]]);
    let reader = ledger.reader();
    drop(ledger);
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    chain.append(&mut ledger, &[&[3]]);
    assert_eq!(reader.height(), 2);
    assert_eq!(reader.block(1).unwrap().as_ref(), chain.blocks.get(1));
}

#[test]
fn a_removed_or_wrong_index_is_made_again() {
    let dir = tempdir().unwrap();
    let mut chain = Chain::default();
    let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
    for _ in 0..30 {
        chain.append(&mut ledger, &[&[200, 3]]);
    }
    drop(ledger);
    let indexes = files(dir.path(), "index");
    assert!(indexes.len() >= 4);
    let whole: Vec<_> = indexes.iter().map(|path| fs::read(path).unwrap()).collect();
    fs::remove_file(&indexes[0]).unwrap();
    fs::write(&indexes[1], b"").unwrap();
    made::flip(&indexes[2], 50);
    fs::write(&indexes[3], &whole[3][..whole[3].len() - 1]).unwrap();
    let ledger = Ledger::open(dir.path()).unwrap();
    assert_eq!(
        ledger.recovery(),
        &Recovery {
            cut: None,
            indexes_rebuilt: 4
        }
    );
    chain.check(&ledger);
    drop(ledger);
    let again: Vec<_> = indexes.iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(again, whole, "an index is a function of its segment");
    for path in indexes {
        fs::remove_file(path).unwrap();
    }
    chain.audit(dir.path());
}

#[test]
fn a_folder_that_cannot_be_a_ledger_is_named() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"not a folder").unwrap();
    let error = Ledger::open(&file).unwrap_err().to_string();
    assert!(
        error.contains("/file") && error.starts_with("cannot "),
        "{error}"
    );
    let error = Audit::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains(" holds no ledger: name the folder with the .blocks files"),
        "{error}"
    );
    for absent in [dir.path().join("nowhere"), file] {
        let error = Audit::open(&absent).unwrap_err().to_string();
        let begin = format!("there is no folder {}: name the", absent.display());
        assert!(error.starts_with(&begin) && error.ends_with("peer.fileSystemPath"));
    }
}

/// Run by hand: `cargo test --release -p tidings-ledger --test ledger -- --ignored --nocapture`.
#[test]
#[ignore = "writes a gigabyte; for the figures in FORMAT.md"]
fn a_million_blocks_open_quickly() {
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let started = std::time::Instant::now();
    let mut tip = Tip::default();
    for _ in 0..2_000 {
        let mut group = Vec::new();
        for _ in 0..500 {
            group.push(block(tip, &[700]));
            tip = behind(group.last().unwrap());
        }
        ledger.append(&group).unwrap();
    }
    println!(
        "appended {} blocks in {:?}",
        ledger.height(),
        started.elapsed()
    );
    let memory = fs::read_to_string("/proc/self/status").unwrap();
    println!(
        "{}",
        memory
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap()
    );
    drop(ledger);
    let open = |what: &str| {
        let started = std::time::Instant::now();
        let ledger = Ledger::open(dir.path()).unwrap();
        println!("opened {what} in {:?}", started.elapsed());
        assert_eq!(ledger.tip(), tip);
        ledger
    };
    let ledger = open("with indexes");
    let started = std::time::Instant::now();
    for number in (0..1_000_000).step_by(10_007) {
        let found = ledger
            .reader()
            .transaction(&made::tx_id(number, 0))
            .unwrap()
            .unwrap();
        assert_eq!(found.block.number(), Some(number));
    }
    println!("100 transactions found in {:?}", started.elapsed());
    drop(ledger);
    files(dir.path(), "index")
        .iter()
        .for_each(|path| fs::remove_file(path).unwrap());
    open("without indexes");
}
