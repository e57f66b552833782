//! What is listed as missing, and in which order.

use tidings_gossip::{
    Input,
    message::PrivateDigest,
    privdata::{GatherKey, Missing, Wanted},
};
use tidings_ledger::private::{Content, PrivateBlock, PrivateEntry, Why};

use super::*;
use crate::private::keeper::LIST_MAX;

/// The blocks that the next list names.
fn list(run: &mut Run, heard: &mut mpsc::Receiver<Input>, round: u64) -> Vec<u64> {
    run.work(Chore::List { round, limit: 10 }).unwrap();
    let Ok(Input::PrivateWanted { key, items, .. }) = heard.try_recv() else {
        panic!("a list is always answered");
    };
    assert_eq!(key, GatherKey::Reconcile(round));
    let blocks: BTreeSet<u64> = items
        .iter()
        .map(|item: &Wanted| item.digest.block)
        .collect();
    blocks.into_iter().collect()
}

#[test]
fn what_cannot_be_asked_for_is_listed_last() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let oldest = scene.append(vec![scene.write("one", "oldest")]);
    let newer: Vec<u64> = (0..10)
        .map(|n| scene.append(vec![scene.write("one", &n.to_string())]))
        .collect();
    let vault = scene.open();
    assert_eq!(counts(&vault).eligible, 11);
    // As many as a list holds cannot be read.
    scene.chain.bad.lock().unwrap().extend(&newer);
    let (inputs, mut heard) = mpsc::channel(1);
    let mut run = Run::new(Arc::clone(&vault), inputs);
    assert!(list(&mut run, &mut heard, 1).is_empty());
    assert_eq!(list(&mut run, &mut heard, 2), [oldest]);
    // And are listed in the end, when they can be read.
    scene.chain.bad.lock().unwrap().clear();
    let mut all = BTreeSet::new();
    for round in 3..6 {
        all.extend(list(&mut run, &mut heard, round));
    }
    assert_eq!(all.len(), 11);
}

#[test]
fn a_list_takes_no_further_block_when_it_is_long() {
    let scene = Scene::new();
    let vault = scene.open();
    let lacking = |number, many| PrivateBlock {
        number,
        entries: (0..many).map(entry).collect(),
        purges: Vec::new(),
        left_out: BTreeMap::new(),
    };
    let long = LIST_MAX as u64;
    vault
        .prepare(&[lacking(1, 2), lacking(2, 1), lacking(3, long - 1)])
        .unwrap();
    vault.grown(4);
    let (inputs, mut heard) = mpsc::channel(1);
    let mut run = Run::new(Arc::clone(&vault), inputs);
    // None of these blocks can be read, so what is listed is put behind the others.
    assert!(list(&mut run, &mut heard, 1).is_empty());
    assert_eq!(
        (counts(&vault).deprioritized, counts(&vault).eligible),
        (long, 2)
    );
}

fn entry(tx: u64) -> PrivateEntry {
    PrivateEntry {
        tx,
        namespace: CHAINCODE.to_owned(),
        collection: "one".to_owned(),
        block_to_live: 0,
        content: Content::Missing(Why::NotAsked),
    }
}

#[test]
fn what_is_missing_is_shown_in_the_order_in_which_it_is_asked_for() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    for n in 0..25 {
        scene.append(vec![scene.write("one", &n.to_string())]);
    }
    let vault = scene.open();
    let shown = |vault: &Arc<Vault>| -> Vec<(u64, Why)> {
        let missing = PrivateData(Arc::clone(vault)).missing(100).unwrap();
        missing
            .into_iter()
            .map(|set| (set.place.block, set.why))
            .collect()
    };
    let untried = shown(&vault);
    let newest_first: Vec<_> = (2..27).rev().map(|block| (block, Why::NotAsked)).collect();
    assert_eq!(untried, newest_first);
    let (inputs, mut heard) = mpsc::channel(1);
    let mut run = Run::new(Arc::clone(&vault), inputs);
    for round in 1..6 {
        let mut expected: Vec<u64> = shown(&vault).into_iter().map(|(block, _)| block).collect();
        expected.truncate(10);
        expected.sort_unstable();
        let listed = list(&mut run, &mut heard, round);
        // The last part of the old ones is followed by no newer one in the same round.
        assert!(
            listed.len() == 5 || listed == expected,
            "round {round}: {listed:?}"
        );
        assert_eq!(listed[..], expected[expected.len() - listed.len()..]);
        let missing = listed
            .iter()
            .map(|block| (digest(*block), Missing::NotAsked));
        let (missing, found) = (missing.collect(), Vec::new());
        run.work(Chore::Fill {
            round,
            found,
            missing,
        })
        .unwrap();
    }
    assert!(shown(&vault).iter().all(|(_, why)| *why == Why::NotReached));
}

fn digest(block: u64) -> PrivateDigest {
    PrivateDigest {
        block,
        seq_in_block: 0,
        namespace: CHAINCODE.to_owned(),
        collection: "one".to_owned(),
        tx_id: String::new(),
    }
}

#[test]
fn what_has_no_hash_is_neither_kept_nor_missing() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let odd = |len: u8| {
        let hash = vec![7; usize::from(len)].into();
        scene.transaction(
            &len.to_string(),
            vec![draft::private_of(CHAINCODE, "one", hash)],
        )
    };
    scene.append(vec![odd(0), odd(31), odd(33), scene.write("one", "good")]);
    let vault = scene.open();
    assert_eq!(counts(&vault).eligible, 1);
}

#[test]
fn what_was_pushed_after_its_block_is_taken_from_our_own_disk() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let block = scene.append(vec![
        scene.write("one", "late"),
        scene.write("one", "never"),
    ]);
    let vault = scene.open();
    assert_eq!(counts(&vault).eligible, 2);
    keep(&vault, scene.pushed("one", "late"), &scene.member());
    let (inputs, mut heard) = mpsc::channel(1);
    let mut run = Run::new(Arc::clone(&vault), inputs);
    assert_eq!(
        list(&mut run, &mut heard, 1),
        [block],
        "the other one is asked for"
    );
    assert_eq!(held(&vault, block), ["late"]);
    assert_eq!(counts(&vault).eligible, 1);
}
