//! Changed files of a ledger: it opens or says why, and what it reads is what was written.

#![no_main]

use std::{fs, path::Path};

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use tidings_ledger::{Audit, Ledger, Retention, Settings, Tip};
use tidings_proto::{
    Message,
    block::BlockView,
    common::{Block, BlockData, BlockHeader},
};

#[derive(Debug, Arbitrary)]
enum Change {
    Xor { file: u8, at: u16, with: u8 },
    Truncate { file: u8, at: u16 },
    Append { file: u8, bytes: Vec<u8> },
    Replace { file: u8, bytes: Vec<u8> },
    Remove { file: u8 },
}

const SETTINGS: Settings = Settings {
    segment_len_max: 300,
    segment_entries_max: 64,
    retention: Retention::ALL,
};

/// Nine blocks in a few segments.
fn write(dir: &Path) -> Vec<BlockView> {
    let mut ledger = Ledger::open_with(dir, SETTINGS).expect("the folder is new");
    let mut blocks = Vec::new();
    let mut tip = Tip::default();
    for number in 0_u8..9 {
        let previous = tip
            .last_hash()
            .map(|hash| hash.as_bytes().to_vec())
            .unwrap_or_default();
        let header = BlockHeader {
            number: number.into(),
            previous_hash: previous.into(),
            data_hash: vec![number].into(),
        };
        let data = BlockData {
            data: vec![vec![number; 40].into()],
        };
        let block = Block {
            header: Some(header),
            data: Some(data),
            metadata: None,
        };
        let block = BlockView::parse(block.encode_to_vec().into()).expect("we encoded it");
        tip = ledger
            .append(std::slice::from_ref(&block))
            .expect("it continues the chain");
        blocks.push(block);
    }
    blocks
}

fn apply(dir: &Path, change: Change) {
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("it is ours")
        .map(|entry| entry.expect("listed").path())
        .collect();
    files.sort();
    let path = |file: u8| files[usize::from(file) % files.len()].clone();
    let edit = |file, edit: &dyn Fn(&mut Vec<u8>)| {
        let path = path(file);
        let mut bytes = fs::read(&path).expect("it was listed");
        edit(&mut bytes);
        fs::write(path, bytes).expect("it is ours");
    };
    match change {
        Change::Xor { file, at, with } => edit(file, &|bytes| {
            let len = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(usize::from(at) % len) {
                *byte ^= with;
            }
        }),
        Change::Truncate { file, at } => edit(file, &|bytes| bytes.truncate(at.into())),
        Change::Append { file, bytes: more } => edit(file, &|bytes| bytes.extend(&more)),
        Change::Replace { file, bytes: new } => edit(file, &|bytes| bytes.clone_from(&new)),
        Change::Remove { file } => fs::remove_file(path(file)).expect("it is ours"),
    }
}

fuzz_target!(|changes: Vec<Change>| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let written = write(folder.path());
    for change in changes.into_iter().take(8) {
        apply(folder.path(), change);
    }
    if let Ok(audit) = Audit::open(folder.path()) {
        for (block, expect) in audit.filter_map(Result::ok).zip(&written) {
            assert_eq!(&block, expect);
        }
    }
    let Ok(ledger) = Ledger::open_with(folder.path(), SETTINGS) else {
        return;
    };
    for number in 0..ledger.height() {
        if let Ok(Some(block)) = ledger.reader().block(number) {
            assert_eq!(written.get(number as usize), Some(&block));
        }
    }
});
