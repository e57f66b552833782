//! Keys that transactions say are to be forgotten.

use prost::Message as _;
use tidings_gossip::{
    Input,
    message::PrivateDigest,
    privdata::{Found, Wanted},
};
use tidings_ledger::private::{PurgeState, Touched};
use tidings_proto::{
    block::PrivateWrites,
    kvrwset::{HashedRwSet, KvWrite, KvWriteHash, KvrwSet},
    rwset::CollectionHashedReadWriteSet,
};

use super::{window::Writer, *};
use crate::{
    logging::tests::to_memory,
    private::purges::{NOTED_MAX, note},
};

/// A write set; without a value a key is deleted.
fn set(writes: &[(&str, &str)]) -> Bytes {
    let writes = writes.iter().map(|(key, value)| KvWrite {
        key: (*key).into(),
        is_delete: value.is_empty(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    });
    let set = KvrwSet {
        writes: writes.collect(),
        ..KvrwSet::default()
    };
    set.encode_to_vec().into()
}

/// What a block says of it. What is deleted is purged, too.
fn named(collection: &str, writes: &[(&str, &str)]) -> NsReadWriteSet {
    let hash = |text: &str| Bytes::copy_from_slice(&sha256(text.as_bytes()));
    let hashed = writes.iter().map(|(key, value)| KvWriteHash {
        key_hash: hash(key),
        is_delete: value.is_empty(),
        value_hash: if value.is_empty() {
            Bytes::new()
        } else {
            hash(value)
        },
        is_purge: value.is_empty(),
    });
    let hashed = HashedRwSet {
        hashed_writes: hashed.collect(),
        ..HashedRwSet::default()
    };
    NsReadWriteSet {
        namespace: CHAINCODE.to_owned(),
        rwset: Bytes::new(),
        collection_hashed_rwset: vec![CollectionHashedReadWriteSet {
            collection_name: collection.to_owned(),
            hashed_rwset: hashed.encode_to_vec().into(),
            pvt_rwset_hash: Bytes::copy_from_slice(&sha256(&set(writes))),
        }],
    }
}

impl Scene {
    fn keyed(&self, nonce: &str, writes: &[(&str, &str)]) -> Bytes {
        self.transaction(nonce, vec![named("one", writes)])
    }

    fn push_keyed(&self, vault: &Vault, nonce: &str, writes: &[(&str, &str)]) {
        let pushed = PushedWrites {
            rwset: set(writes),
            ..self.pushed("one", nonce)
        };
        keep(vault, pushed, &self.member());
    }
}

/// A node that holds two keys of block 2 and has committed a purge of one of them in block 3.
fn example(scene: &Scene) -> Writer<'_> {
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(scene);
    let writes = [("a", "1"), ("b", "2")];
    scene.push_keyed(&writer.vault, "write", &writes);
    writer.take(&scene.block(0, vec![scene.keyed("write", &writes)]));
    assert_eq!(writer.write(), [2]);
    scene.push_keyed(&writer.vault, "purge", &[("a", "")]);
    writer.take(&scene.block(0, vec![scene.keyed("purge", &[("a", "")])]));
    assert_eq!(writer.write(), [3]);
    writer
}

fn states(data: &PrivateData) -> Vec<((u64, u64), PurgeState, u64)> {
    let page = data.purges((0, 0)).unwrap();
    assert_eq!(page.next, None);
    let purges = page.purges.into_iter();
    let purges = purges.map(|ListedPurge { purge, touched }| {
        let Touched { sets, is_cut } = touched;
        assert!(!is_cut);
        ((purge.block, purge.tx), purge.state, sets)
    });
    purges.collect()
}

#[test]
fn a_purge_is_noted_and_deletes_nothing_until_somebody_says_that_it_is_valid() {
    let scene = Scene::new();
    let writer = example(&scene);
    let data = PrivateData(Arc::clone(&writer.vault));
    let full = set(&[("a", "1"), ("b", "2")]);
    assert_eq!(held(&writer.vault, 2), [full]);
    // That of the purge itself has the key, too.
    assert_eq!(states(&data), [((3, 0), PurgeState::Noted, 2)]);
    for (block, tx) in [(2, 0), (3, 1), (4, 0)] {
        let refused = data.purge(block, tx).unwrap_err();
        assert!(refused.contains("purges nothing"), "{refused}");
    }
    assert_eq!(data.purge(3, 0), Ok(2));
    let check = |vault: &Arc<Vault>| {
        let data = PrivateData(Arc::clone(vault));
        assert_eq!(held(vault, 2), [set(&[("b", "2")])]);
        assert_eq!(held(vault, 3), [Bytes::new()]);
        assert_eq!(states(&data), [((3, 0), PurgeState::Done(2), 0)]);
        let list = data.list((0, 0)).unwrap().sets;
        let list: Vec<_> = list.into_iter().map(|set| set.state).collect();
        assert_eq!(list, [Presence::Trimmed(8), Presence::Trimmed(0)]);
        assert_eq!((counts(vault).held, counts(vault).eligible), (2, 0));
    };
    check(&writer.vault);
    drop((data, writer));
    check(&scene.open());
}

#[test]
fn the_stores_made_anew_know_what_the_ledger_says_is_purged() {
    let scene = Scene::new();
    drop(example(&scene));
    std::fs::remove_dir_all(scene.dir.path().join("committed")).unwrap();
    let vault = scene.open();
    let data = PrivateData(Arc::clone(&vault));
    assert_eq!(states(&data), [((3, 0), PurgeState::Noted, 0)]);
    assert_eq!(counts(&vault).eligible, 2);
}

/// What comes of this answer for block 2 when others have carried out the purge of block 3: what is
/// held, and what the core is told of who gave it.
fn answered(payload: Bytes) -> (Vec<Bytes>, Option<String>) {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let writes = [("a", "1"), ("b", "2")];
    scene.append(vec![scene.keyed("write", &writes)]);
    scene.append(vec![scene.keyed("purge", &[("a", "")])]);
    scene.append(vec![scene.keyed("again", &[("b", "3")])]);
    let vault = scene.open();
    let (inputs, mut heard) = mpsc::channel(2);
    let mut run = Run::new(Arc::clone(&vault), inputs);
    run.work(Chore::List {
        round: 1,
        limit: 10,
    })
    .unwrap();
    let Ok(Input::PrivateWanted { items, .. }) = heard.try_recv() else {
        panic!("a list is always answered");
    };
    let may_differ = |block| {
        let mut items = items.iter();
        let of = |item: &&Wanted| item.digest.block == block;
        items.find(of).unwrap().may_differ
    };
    assert!(may_differ(2) && may_differ(3), "the purge's own, too");
    assert!(!may_differ(4));
    let found = Found {
        digest: PrivateDigest {
            block: 2,
            seq_in_block: 0,
            namespace: CHAINCODE.to_owned(),
            collection: "one".to_owned(),
            tx_id: String::new(),
        },
        is_verified: sha256(&payload) == sha256(&set(&writes)),
        payload,
        from: scene.member().pki_id,
    };
    run.work(Chore::Fill {
        round: 1,
        found: vec![found],
        missing: Vec::new(),
    })
    .unwrap();
    let doubted = match heard.try_recv() {
        Ok(Input::PrivateDoubted { peer, reason, .. }) => {
            assert_eq!(peer, scene.member().pki_id);
            Some(reason)
        }
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    };
    let is_held = u64::from(doubted.is_none());
    assert_eq!(counts(&vault).held, is_held);
    let tried = 1 - is_held;
    assert_eq!(
        (counts(&vault).eligible, counts(&vault).deprioritized),
        (2, tried)
    );
    let data = PrivateData(Arc::clone(&vault));
    let states = data.list((2, 0)).unwrap().sets.into_iter();
    let trimmed = states.filter(|set| matches!(set.state, Presence::Trimmed(_)));
    let (held, trimmed) = (held(&vault, 2), trimmed.count());
    assert_eq!(
        trimmed,
        held.iter().filter(|rwset| **rwset != set(&writes)).count()
    );
    (held, doubted)
}

#[test]
fn what_others_have_purged_keys_from_is_taken_if_the_purge_is_noted() {
    let full = set(&[("a", "1"), ("b", "2")]);
    assert_eq!(answered(full.clone()), (vec![full], None));
    let left = set(&[("b", "2")]);
    assert_eq!(answered(left.clone()), (vec![left], None));
}

#[test]
fn what_is_not_left_of_what_the_block_names_is_refused() {
    for (payload, why) in [
        (set(&[("b", "3")]), "a value is not the one"),
        (set(&[("b", "2"), ("c", "1")]), "does not name"),
        (set(&[("b", "2"), ("b", "2")]), "does not name"),
        (set(&[("a", "1")]), "a key that nobody has purged"),
        (set(&[]), "a key that nobody has purged"),
        (set(&[("b", "2"), ("a", "1")]), "no key is gone"),
        (Bytes::from_static(b"\xff"), "does not parse"),
    ] {
        let (held, doubted) = answered(payload);
        let doubted = doubted.unwrap();
        assert!(held.is_empty() && doubted.contains(why), "{why}: {doubted}");
    }
}

#[test]
fn what_may_become_ours_is_noted_and_what_never_can_is_not() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org2MSP"])]);
    let purge =
        |collection: &str| scene.transaction(collection, vec![named(collection, &[("a", "")])]);
    scene.append(vec![
        purge("one"),
        purge("_implicit_org_Org2MSP"),
        purge("unknown"),
        purge("_implicit_org_Org1MSP"),
    ]);
    let data = PrivateData(scene.open());
    let noted = [
        ((2, 0), PurgeState::Noted, 0),
        ((2, 3), PurgeState::Noted, 0),
    ];
    assert_eq!(states(&data), noted);
}

#[test]
fn so_many_keys_of_a_block_are_noted() {
    let scene = Scene::new();
    let keys: Vec<String> = (0..=NOTED_MAX).map(|n| n.to_string()).collect();
    let writes: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
    let block = BlockView::parse(scene.block(0, vec![scene.keyed("many", &writes)])).unwrap();
    let writes: Vec<PrivateWrites> = block.private_writes().collect();
    let mut purges = Vec::new();
    note(&mut purges, &writes[0]);
    assert_eq!(purges.len(), NOTED_MAX);
    note(&mut purges, &writes[0]);
    assert_eq!(purges.len(), NOTED_MAX);
}

#[test]
fn purges_are_told_in_one_line_and_counted() {
    let scene = Scene::new();
    let writer = example(&scene);
    let blocks = (2..4).map(|number| {
        let block = writer.vault.block(number).unwrap();
        let writes: Vec<_> = block.private_writes().collect();
        let (have, why) = Default::default();
        writer.vault.account(number, &writes, &have, &why).unwrap()
    });
    let blocks: Vec<_> = blocks.collect();
    let (_logging, subscriber, lines) = to_memory("info");
    tracing::subscriber::with_default(subscriber, || writer.vault.tell_purges(&blocks));
    let text = lines.text();
    let line: Vec<_> = text.lines().collect();
    assert_eq!(line.len(), 1, "{text}");
    assert!(line[0].contains("tidings privdata purge -c"), "{text}");
    assert!(line[0].contains("--block 3 --tx 0"), "{text}");
    let counter = &writer.vault.metrics.private_purges;
    let counter = counter.with_label_values(&[writer.vault.channel.as_str()]);
    assert_eq!(counter.get(), 1);
}
