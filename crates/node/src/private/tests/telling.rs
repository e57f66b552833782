//! What goes into the log does not grow with what others do.

use tidings_gossip::{
    message::PrivateDigest,
    privdata::{Found, Missing},
};
use tidings_msp::channel_config::ChannelConfig;

use super::*;
use crate::{
    logging::tests::to_memory,
    private::{pushes::tell_refused, registry::Registry},
};

/// More lines than one place writes in a while.
const MANY: usize = 100;

#[test]
fn pushes_that_are_refused_are_told_so_often_and_then_counted() {
    let scene = Scene::new();
    let vault = scene.open();
    let (_logging, subscriber, lines) = to_memory("info");
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..MANY {
            tell_refused(&vault, "there is no room");
        }
    });
    let told = lines.text().matches("is not stored").count();
    assert!((1..MANY / 2).contains(&told), "{told} lines");
}

#[test]
fn rounds_in_vain_are_told_once_for_each_reason_until_something_is_found() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let found = scene.append(vec![scene.write("one", "found")]);
    let lost = scene.append(vec![scene.write("one", "lost")]);
    let vault = scene.open();
    let mut run = Run::new(Arc::clone(&vault), mpsc::channel(1).0);
    let digest = |block| PrivateDigest {
        block,
        seq_in_block: 0,
        namespace: CHAINCODE.to_owned(),
        collection: "one".to_owned(),
        tx_id: String::new(),
    };
    let mut told = |missing: Missing, found: Option<u64>| {
        let found = found.map(|block| Found {
            digest: digest(block),
            payload: Bytes::from_static(b"found"),
            from: scene.member().pki_id,
            is_verified: true,
        });
        let chore = Chore::Fill {
            round: 1,
            found: found.into_iter().collect(),
            missing: vec![(digest(lost), missing)],
        };
        let (_logging, subscriber, lines) = to_memory("info");
        tracing::subscriber::with_default(subscriber, || run.work(chore)).unwrap();
        lines.text()
    };
    let nobody = told(Missing::NotAsked, None);
    assert!(
        nobody.contains("in vain: no member could be asked"),
        "{nobody}"
    );
    assert_eq!(told(Missing::NotAsked, None), "");
    let nothing = told(Missing::NotFound, None);
    assert!(
        nothing.contains("in vain: nobody who was asked gave it"),
        "{nothing}"
    );
    assert_eq!(told(Missing::NotFound, None), "");
    assert_eq!(told(Missing::NotAsked, None), "");
    let both = told(Missing::NotFound, Some(found));
    assert!(
        both.contains("fetched=1") && both.contains("still_missing=1"),
        "{both}"
    );
    assert_eq!(both.lines().count(), 2, "{both}");
    assert_eq!(told(Missing::NotFound, None), "");
}

#[test]
fn each_start_says_what_is_there_and_whether_a_store_was_lost() {
    let scene = Scene::new();
    let start = || {
        let (_logging, subscriber, lines) = to_memory("info");
        drop(tracing::subscriber::with_default(subscriber, || {
            scene.open()
        }));
        lines.text()
    };
    let first = start();
    assert!(first.contains("held=0 missing=0"), "{first}");
    assert!(!first.contains("WARN"), "{first}");
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    scene.append(vec![scene.write("one", "text")]);
    let second = start();
    assert!(
        second.contains("held=0 missing=1") && !second.contains("WARN"),
        "{second}"
    );
    for (store, said) in [
        ("committed", "there was no private data beside this ledger"),
        ("transient", "there was no store of pushed private data"),
    ] {
        std::fs::remove_dir_all(scene.dir.path().join(store)).unwrap();
        let log = start();
        assert!(log.contains(said) && log.contains("missing=1"), "{log}");
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
    }
}

#[test]
fn what_a_block_says_of_definitions_is_told_in_one_line() {
    let scene = Scene::new();
    let writes = |prefix: &str| {
        let names = (0..MANY).map(|n| format!("{prefix}{n}\n{}", "x".repeat(400)));
        names
            .flat_map(|name| draft::first(&name, &draft::of(&[])))
            .collect()
    };
    let material = &scene.material;
    let endorsers = [&material.peer1, &material.peer2];
    // Nobody has agreed to the one; the other is good.
    let odd = draft::Draft::of(writes("odd"))
        .by(&material.admin1, &[])
        .envelope();
    let good = draft::Draft::of(writes("good"))
        .by(&material.admin1, &endorsers)
        .envelope();
    let block = BlockView::parse(scene.block(0, vec![odd, good])).unwrap();
    let config: Arc<ChannelConfig> = scene.crypto.config(&ChannelId::from(CHANNEL)).unwrap();
    let registry = Registry::open(scene.dir.path(), 1).unwrap();
    let (_logging, subscriber, lines) = to_memory("info");
    let changed = tracing::subscriber::with_default(subscriber, || registry.take(&block, &config));
    assert_eq!(changed.len(), MANY);
    let text = lines.text();
    assert!(text.lines().count() <= 2, "{text}");
    assert!(text.lines().all(|line| line.len() < 1000), "{text}");
}
