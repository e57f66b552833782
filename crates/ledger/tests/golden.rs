//! The chain that a real orderer made, on disk. What is recorded is in `../shared`; one header
//! hash stands here.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{fs, path::PathBuf};

use bytes::Bytes;
use made::SMALL;
use serde_json::Value;
use tempfile::tempdir;
use tidings_ledger::{AppendError, Audit, BlockHash, Fault, Ledger, ReadError, data_hash};
use tidings_proto::{block::BlockView, common::Block};

/// The genesis block of the recording, for its header alone.
#[test]
fn a_header_hash_is_the_one_go_computed() {
    let mut block = Block::default();
    let hash = "c9075e4f2439929a1e44655b8924577cba131609a000563defceab3e61694d4b";
    block.header.get_or_insert_default().data_hash = hex::decode(hash).unwrap().into();
    let expect = "7dbc7028a24c8ff4871b543f8cd54b5c24c1ff796880e8c3c254f6898deab086";
    assert_eq!(
        BlockHash::of(&made::view(&block)).unwrap().to_string(),
        expect
    );
    assert_eq!(
        BlockHash::of(&BlockView::parse(Bytes::new()).unwrap()),
        None
    );
}

fn recorded() -> Option<(PathBuf, Value)> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/fixtures/blocks"
    );
    let folder = PathBuf::from(folder);
    if !folder.is_dir() {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: ../shared is not here: the ledger with recorded blocks\n"),
        );
        return None;
    }
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
    Some((folder, serde_json::from_str(&text).unwrap()))
}

fn read(folder: &std::path::Path, name: &Value) -> BlockView {
    let bytes = fs::read(folder.join(name.as_str().unwrap())).unwrap();
    BlockView::parse(bytes.into()).unwrap()
}

#[test]
fn the_recorded_chain_goes_in_and_is_found_again() {
    let Some((folder, expected)) = recorded() else {
        return;
    };
    let expected = expected["blocks"].as_array().unwrap();
    for form in ["file", "from_orderer_file"] {
        let dir = tempdir().unwrap();
        let mut ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
        for (height, expect) in (1..).zip(expected) {
            let block = read(&folder, &expect[form]);
            assert_eq!(
                hex::encode(data_hash(&block)),
                expect["data_hash"].as_str().unwrap()
            );
            let tip = ledger.append(std::slice::from_ref(&block)).unwrap();
            assert_eq!(tip.height(), height);
            let hash = tip.last_hash().unwrap().to_string();
            assert_eq!(hash, expect["header_hash"].as_str().unwrap());
        }
        drop(ledger);
        let ledger = Ledger::open_with(dir.path(), SMALL).unwrap();
        assert_eq!(ledger.height(), 20);
        for (number, expect) in (0..).zip(expected) {
            let block = read(&folder, &expect[form]);
            assert_eq!(
                ledger.reader().block(number).unwrap().as_ref(),
                Some(&block)
            );
            for (position, transaction) in (0..).zip(expect["transactions"].as_array().unwrap()) {
                let Some(tx_id) = transaction["tx_id"].as_str().filter(|id| !id.is_empty()) else {
                    continue;
                };
                let found = ledger.reader().transaction(tx_id).unwrap().unwrap();
                assert_eq!(
                    (found.block.number(), found.position),
                    (Some(number), position)
                );
            }
        }
        drop(ledger);
        assert_eq!(
            Audit::open(dir.path())
                .unwrap()
                .filter(Result::is_ok)
                .count(),
            20
        );
    }
}

#[test]
fn altered_blocks_are_refused_where_links_show_it_and_audited_where_data_does() {
    let Some((folder, expected)) = recorded() else {
        return;
    };
    let after_three = |name: &str| {
        let dir = tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let good = expected["blocks"].as_array().unwrap()[..4].iter();
        let good: Vec<_> = good.map(|expect| read(&folder, &expect["file"])).collect();
        ledger.append(&good).unwrap();
        let appended = ledger.append(&[read(&folder, &Value::from(name))]);
        drop(ledger);
        let fault = Audit::open(dir.path()).unwrap().find_map(Result::err);
        (appended, fault)
    };
    let (appended, fault) = after_three("bad_previous_hash.pb");
    assert!(matches!(
        appended,
        Err(AppendError::WrongPreviousHash { number: 4 })
    ));
    assert!(fault.is_none());
    let (appended, fault) = after_three("bad_data_flipped_bit.pb");
    assert_eq!(appended.unwrap().height(), 5);
    let Some(ReadError::Damaged(damage)) = fault else {
        panic!("{fault:?}")
    };
    assert_eq!((damage.number, damage.fault), (4, Fault::DataHash));
}
