//! What a node finds when it starts: after a crash between any two steps, and after files were
//! lost.

use std::fs;

use tidings_gossip::Input;
use tidings_msp::collection::Undefined;

use super::{window::Writer, *};
use crate::private::{registry::Registry, vault::QUIET_MAX};

/// Somebody is proven to be allowed to have the collection by its last definition.
fn is_known(vault: &Vault) -> bool {
    let latest = vault.registry.latest(CHAINCODE, "one");
    latest.is_ok_and(|defined| defined.basis.is_proven())
}

/// A ledger in which a collection was written to before it was ours.
fn joined_late() -> Scene {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org2MSP"])]);
    scene.append(vec![scene.write("one", "old")]);
    scene
}

#[test]
fn what_is_prepared_and_not_in_the_ledger_is_used_again() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let block = scene.block(0, vec![scene.write("one", "text")]);
    let mut writer = Writer::new(&scene);
    keep(&writer.vault, scene.pushed("one", "text"), &scene.member());
    writer.take(&block);
    writer.only_prepare();
    let forgotten = writer
        .vault
        .with(|stores| Ok(stores.transient.purge_below(u64::MAX)));
    assert_eq!(forgotten.unwrap().unwrap(), 1);
    drop(writer);
    let mut writer = Writer::new(&scene);
    assert!(held(&writer.vault, 2).is_empty(), "it is not committed");
    writer.take(&block);
    assert!(writer.asked().is_none());
    assert_eq!(writer.write(), [2]);
    assert_eq!(held(&writer.vault, 2), ["text"]);
}

#[test]
fn another_block_takes_the_place_of_what_was_prepared() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(&scene);
    keep(&writer.vault, scene.pushed("one", "text"), &scene.member());
    writer.take(&scene.block(0, vec![scene.write("one", "text")]));
    writer.only_prepare();
    drop(writer);
    let mut writer = Writer::new(&scene);
    writer.take(&scene.block(0, vec![scene.transaction("nothing", Vec::new())]));
    assert_eq!(writer.write(), [2]);
    writer.take(&scene.block(0, vec![scene.write("one", "text")]));
    assert_eq!(writer.write(), [3]);
    assert!(held(&writer.vault, 2).is_empty());
    assert_eq!(
        held(&writer.vault, 3),
        ["text"],
        "the pushed copy was still there"
    );
}

#[test]
fn a_definition_in_the_ledger_is_taken_when_the_node_died_before() {
    let scene = joined_late();
    drop(scene.open());
    // In the ledger, and nobody has heard of it.
    scene.append(vec![scene.definition(2, &["one=Org1MSP"])]);
    scene.append(vec![scene.write("one", "new")]);
    let vault = scene.open();
    assert!(is_known(&vault));
    assert_eq!((counts(&vault).eligible, counts(&vault).ineligible), (2, 0));
}

#[test]
fn a_collection_that_became_ours_is_fetched_when_the_node_died_before_it_was_told() {
    let scene = joined_late();
    let mut writer = Writer::new(&scene);
    writer.take(&scene.block(0, vec![scene.definition(2, &["one=Org1MSP"])]));
    writer.without_chores();
    assert_eq!(
        Registry::open(scene.dir.path(), 4).unwrap().height(),
        4,
        "it is kept"
    );
    assert_eq!(counts(&writer.vault).ineligible, 1);
    drop(writer);
    let vault = scene.open();
    assert_eq!((counts(&vault).eligible, counts(&vault).ineligible), (1, 0));
}

#[test]
fn a_collection_that_became_ours_is_fetched_after_the_stores_were_lost() {
    let scene = joined_late();
    scene.append(vec![scene.definition(2, &["one=Org1MSP"])]);
    let vault = scene.open();
    assert_eq!(counts(&vault).eligible, 1);
    drop(vault);
    fs::remove_dir_all(scene.dir.path().join("committed")).unwrap();
    let vault = scene.open();
    assert_eq!((counts(&vault).eligible, counts(&vault).ineligible), (1, 0));
}

#[test]
fn definitions_that_are_damaged_or_of_a_longer_ledger_are_read_again() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    drop(scene.open());
    let file = scene.dir.path().join("definitions");
    let mut bytes = fs::read(&file).unwrap();
    assert_eq!(
        Registry::open(scene.dir.path(), 1).unwrap().height(),
        0,
        "longer"
    );
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(
        Registry::open(scene.dir.path(), 2).unwrap().height(),
        0,
        "damaged"
    );
    assert!(is_known(&scene.open()));
    assert_eq!(
        Registry::open(scene.dir.path(), 2).unwrap().height(),
        2,
        "kept again"
    );
}

#[test]
fn a_block_that_cannot_be_read_ends_the_start() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    drop(scene.open());
    let number = scene.append(vec![scene.definition(2, &["one=Org2MSP"])]);
    scene.chain.bad.lock().unwrap().insert(number);
    let refused = scene.try_open().unwrap_err().to_string();
    assert!(refused.contains("block 2 is damaged"), "{refused}");
    scene.chain.bad.lock().unwrap().clear();
    assert!(is_known(&scene.open()));
}

#[test]
fn what_a_block_that_is_not_kept_may_have_changed_is_not_known() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    drop(scene.open());
    let number = scene.append(vec![scene.definition(2, &["one=Org2MSP"])]);
    scene.chain.absent.lock().unwrap().insert(number);
    let vault = scene.open();
    let latest = vault.registry.latest(CHAINCODE, "one").map(drop);
    assert_eq!(latest, Err(Undefined::Chaincode));
}

#[test]
fn definitions_are_kept_once_in_a_while() {
    let scene = Scene::new();
    let vault = scene.open();
    let kept = || Registry::open(scene.dir.path(), u64::MAX).unwrap().height();
    for (height, is) in [
        (QUIET_MAX, 1),
        (QUIET_MAX + 1, QUIET_MAX + 1),
        (QUIET_MAX + 2, QUIET_MAX + 1),
    ] {
        vault.grown(height);
        vault.settle();
        assert_eq!(kept(), is, "at {height}");
    }
}

#[test]
fn what_held_blocks_of_a_pruned_ledger_lack_is_asked_for_all_the_same() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let transactions = vec![
        scene.definition(2, &["one=Org1MSP"]),
        scene.write("one", "old"),
    ];
    let defining = scene.append(transactions);
    let gone = scene.append(vec![scene.write("one", "older")]);
    scene.append(vec![scene.transaction("nothing", Vec::new())]);
    let vault = scene.open();
    assert_eq!(counts(&vault).eligible, 2);
    scene.chain.absent.lock().unwrap().insert(gone);
    *scene.chain.first.lock().unwrap() = gone + 1;
    let (inputs, mut heard) = mpsc::channel(1);
    let mut run = Run::new(Arc::clone(&vault), inputs);
    run.work(Chore::Pruned(gone + 1)).unwrap();
    assert_eq!(counts(&vault).eligible, 1);
    let (round, limit) = (1, 10);
    run.work(Chore::List { round, limit }).unwrap();
    let Ok(Input::PrivateWanted { items, .. }) = heard.try_recv() else {
        panic!("a list is always answered");
    };
    let blocks: Vec<u64> = items.iter().map(|item| item.digest.block).collect();
    assert_eq!(blocks, [defining]);
}

#[test]
fn a_pruned_ledger_says_which_collections_there_are_and_what_it_lacks_is_forgotten() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let written = scene.append(vec![scene.write("one", "old")]);
    scene.append(vec![scene.transaction("nothing", Vec::new())]);
    let vault = scene.open();
    assert_eq!(vault.defining(), BTreeSet::from([1]), "what is to be held");
    assert_eq!(counts(&vault).eligible, 1);
    drop(vault);
    scene.chain.absent.lock().unwrap().insert(written);
    *scene.chain.first.lock().unwrap() = written + 1;
    for lost in [&[][..], &["definitions"], &["definitions", "committed"]] {
        for name in lost {
            let path = scene.dir.path().join(name);
            let removed = fs::remove_file(&path).or_else(|_dir| fs::remove_dir_all(&path));
            removed.unwrap();
        }
        let vault = scene.open();
        assert!(is_known(&vault), "without {lost:?}");
        assert_eq!(counts(&vault), Counts::default(), "without {lost:?}");
        let list = PrivateData(Arc::clone(&vault)).list((0, 0));
        assert!(list.unwrap().sets.is_empty());
        vault.close();
    }
}
