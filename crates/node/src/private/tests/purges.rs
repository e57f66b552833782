//! Keys that transactions say are to be forgotten.

use prost::Message as _;
use tidings_gossip::{
    Input,
    message::PrivateDigest,
    privdata::{Found, Wanted},
};
use tidings_ledger::private::{PurgeState, Purged, Touched, Why};
use tidings_proto::{
    kvrwset::{HashedRwSet, KvWrite, KvWriteHash, KvrwSet},
    rwset::CollectionHashedReadWriteSet,
};

use super::{window::Writer, *};
use crate::{
    logging::tests::to_memory,
    private::purges::{NOTED_MAX, Notes},
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
    let purged = Purged {
        changed: 2,
        left_out: 0,
    };
    assert_eq!(data.purge(3, 0), Ok(purged));
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

/// A node of which others have carried out the purge of block 3, and that has listed what it lacks.
struct Lacking {
    scene: Scene,
    vault: Arc<Vault>,
    run: Run,
    heard: mpsc::Receiver<Input>,
}

impl Lacking {
    fn new() -> Self {
        let scene = Scene::new();
        scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
        scene.append(vec![scene.keyed("write", &[("a", "1"), ("b", "2")])]);
        scene.append(vec![scene.keyed("purge", &[("a", "")])]);
        scene.append(vec![scene.keyed("again", &[("b", "3")])]);
        let vault = scene.open();
        let (inputs, heard) = mpsc::channel(2);
        let run = Run::new(Arc::clone(&vault), inputs);
        Self {
            scene,
            vault,
            run,
            heard,
        }
    }

    fn list(&mut self) -> Vec<Wanted> {
        let list = Chore::List {
            round: 1,
            limit: 10,
        };
        self.run.work(list).unwrap();
        let Ok(Input::PrivateWanted { items, .. }) = self.heard.try_recv() else {
            panic!("a list is always answered");
        };
        items
    }

    /// This is given for block 2; says what the core is told of who gave it.
    fn give(&mut self, payload: Bytes) -> Option<String> {
        let found = Found {
            digest: PrivateDigest {
                block: 2,
                seq_in_block: 0,
                namespace: CHAINCODE.to_owned(),
                collection: "one".to_owned(),
                tx_id: String::new(),
            },
            is_verified: payload == set(&[("a", "1"), ("b", "2")]),
            payload,
            from: self.scene.member().pki_id,
        };
        let fill = Chore::Fill {
            round: 1,
            found: vec![found],
            missing: Vec::new(),
        };
        self.run.work(fill).unwrap();
        match self.heard.try_recv() {
            Ok(Input::PrivateDoubted { peer, reason, .. }) => {
                assert_eq!(peer, self.scene.member().pki_id);
                Some(reason)
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    /// How many are held, not yet tried, and tried in vain.
    fn counts(&self) -> (u64, u64, u64) {
        let counts = counts(&self.vault);
        (counts.held, counts.eligible, counts.deprioritized)
    }

    /// What is said of block 2.
    fn state(&self) -> Presence {
        let data = PrivateData(Arc::clone(&self.vault));
        data.list((2, 0)).unwrap().sets[0].state
    }
}

#[test]
fn what_others_have_purged_keys_from_is_kept_and_the_whole_is_still_looked_for() {
    let mut lacking = Lacking::new();
    let items = lacking.list();
    let may_differ = |block| {
        let mut items = items.iter();
        let of = |item: &&Wanted| item.digest.block == block;
        items.find(of).unwrap().may_differ
    };
    assert!(may_differ(2) && may_differ(3), "the purge's own, too");
    assert!(!may_differ(4));
    assert_eq!(lacking.give(set(&[("b", "2")])), None);
    assert_eq!(lacking.counts(), (0, 2, 1));
    assert_eq!(lacking.state(), Presence::Missing(Why::Trimmed));
    assert!(held(&lacking.vault, 2).is_empty(), "nobody is given it");
    let data = PrivateData(Arc::clone(&lacking.vault));
    let missing = data.missing(10).unwrap();
    assert_eq!(missing.last().unwrap().why, Why::Trimmed);
    assert!(lacking.list().iter().any(|item| item.digest.block == 2));
    let full = set(&[("a", "1"), ("b", "2")]);
    assert_eq!(lacking.give(full.clone()), None);
    assert_eq!(
        (held(&lacking.vault, 2), lacking.counts()),
        (vec![full], (1, 2, 0))
    );
}

#[test]
fn what_others_have_purged_keys_from_is_held_once_the_purge_is_applied() {
    for is_applied_first in [true, false] {
        let mut lacking = Lacking::new();
        let data = PrivateData(Arc::clone(&lacking.vault));
        lacking.list();
        if is_applied_first {
            data.purge(3, 0).unwrap();
        }
        assert_eq!(lacking.give(set(&[("b", "2")])), None);
        if !is_applied_first {
            data.purge(3, 0).unwrap();
        }
        assert_eq!(lacking.counts(), (1, 2, 0));
        assert_eq!(held(&lacking.vault, 2), [set(&[("b", "2")])]);
        assert_eq!(lacking.state(), Presence::Trimmed(8));
    }
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
        let mut lacking = Lacking::new();
        lacking.list();
        let doubted = lacking.give(payload).unwrap();
        assert!(doubted.contains(why), "{why}: {doubted}");
        assert_eq!(lacking.counts(), (0, 2, 1));
        assert_eq!(lacking.state(), Presence::Missing(Why::WrongHash));
    }
}

#[test]
fn nobody_is_blamed_for_lacking_a_key_that_was_left_out() {
    let mut lacking = Lacking::new();
    // As if the purge had named more keys than are noted.
    let block = tidings_ledger::private::PrivateBlock {
        number: 3,
        entries: Vec::new(),
        purges: vec![tidings_ledger::private::KeyPurge {
            tx: 0,
            namespace: CHAINCODE.to_owned(),
            collection: "one".to_owned(),
            key_hash: sha256(b"a"),
        }],
        left_out: [(0, 1)].into(),
    };
    let noted = lacking
        .vault
        .with(|stores| Ok(stores.committed.note(&[block], 0)));
    noted.unwrap().unwrap();
    lacking.list();
    assert_eq!(lacking.give(set(&[("a", "1")])), None);
    assert_eq!(lacking.counts(), (0, 2, 1), "and it is not taken");
    assert!(lacking.give(set(&[("b", "3")])).is_some());
    let data = PrivateData(Arc::clone(&lacking.vault));
    assert_eq!(data.purges((0, 0)).unwrap().purges[0].purge.left_out, 1);
    assert_eq!(data.purge(3, 0).unwrap().left_out, 1);
}

#[test]
fn what_was_purged_survives_a_ledger_that_is_begun_anew() {
    let scene = Scene::new();
    let writer = example(&scene);
    PrivateData(Arc::clone(&writer.vault)).purge(3, 0).unwrap();
    drop(writer);
    let blocks = scene.chain.all().split_off(2);
    let mut writer = Writer::new(&scene);
    for block in blocks {
        writer.take(&block);
        assert!(writer.asked().is_none(), "what is left is there");
        writer.write();
    }
    let vault = &writer.vault;
    assert_eq!(held(vault, 2), [set(&[("b", "2")])]);
    assert_eq!(held(vault, 3), [Bytes::new()]);
    let data = PrivateData(Arc::clone(vault));
    assert_eq!(states(&data), [((3, 0), PurgeState::Done(2), 0)]);
    assert_eq!((counts(vault).held, counts(vault).eligible), (2, 0));
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
fn so_many_keys_of_a_block_are_noted_and_who_names_few_has_them_all() {
    let scene = Scene::new();
    let noted = |lens: &[usize]| {
        let transactions = lens.iter().map(|len| {
            let keys: Vec<String> = (0..*len).map(|n| n.to_string()).collect();
            // Each of them twice.
            let keys = keys.iter().chain(&keys);
            let writes: Vec<(&str, &str)> = keys.map(|key| (key.as_str(), "")).collect();
            scene.keyed(&len.to_string(), &writes)
        });
        let block = scene.block(0, transactions.collect());
        let block = BlockView::parse(block).unwrap();
        let mut notes = Notes::default();
        block.private_writes().for_each(|write| notes.add(&write));
        let (purges, left_out) = notes.share();
        let lens = (0..lens.len() as u64).map(|tx| purges.iter().filter(|p| p.tx == tx).count());
        (lens.collect::<Vec<_>>(), left_out)
    };
    assert_eq!(noted(&[NOTED_MAX]), (vec![NOTED_MAX], BTreeMap::new()));
    let more = NOTED_MAX + 7;
    assert_eq!(noted(&[more]), (vec![NOTED_MAX], [(0, 7)].into()));
    let most = NOTED_MAX - 10;
    assert_eq!(noted(&[more, 10]), (vec![most, 10], [(0, 17)].into()));
}

#[test]
fn purges_are_told_in_one_line_and_counted() {
    let scene = Scene::new();
    let writer = example(&scene);
    let blocks = (2..4).map(|number| {
        let block = writer.vault.block(number).unwrap();
        let writes: Vec<_> = block.private_writes().collect();
        let (have, why) = Default::default();
        let account = writer.vault.account(number, &writes, &have, &why);
        account.unwrap().unwrap()
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
