//! What is pushed is there until it is purged, and no more of it than the limits allow.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition, Value,
};
use sha2::{Digest as _, Sha256};
use tempfile::tempdir;
use tidings_ledger::transient::{
    COPIES_MAX, COPY_LEN_MAX, Limits, OWNER_LEN_MAX, Push, PutError, TX_ID_LEN_MAX, TransientStore,
    Usage, WriteSetName,
};

/// What a copy counts for beside its bytes and its transaction id.
const OVERHEAD: u64 = 512;

fn push(tx_id: &str, height: u64, owner: &'static str, bytes: impl Into<Bytes>) -> Push {
    Push {
        tx_id: tx_id.to_owned(),
        namespace: "cc".to_owned(),
        collection: "col".to_owned(),
        height,
        owner: Bytes::from_static(owner.as_bytes()),
        org: Bytes::from_static(b"Org1MSP"),
        is_own: true,
        bytes: bytes.into(),
    }
}

fn name(tx_id: &str) -> WriteSetName<'_> {
    WriteSetName {
        tx_id,
        namespace: "cc",
        collection: "col",
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Forgets all copies of that name; says how many there were.
fn forget(store: &TransientStore, tx_id: &str) -> u64 {
    let all = copies(store, tx_id);
    let all: Vec<_> = all.iter().map(|copy| (name(tx_id), hash(copy))).collect();
    store.forget(&all).unwrap()
}

fn copies(store: &TransientStore, tx_id: &str) -> BTreeSet<Bytes> {
    let all: Vec<_> = store.of(name(tx_id)).unwrap().map(Result::unwrap).collect();
    let len = all.len();
    let set: BTreeSet<_> = all.into_iter().collect();
    assert_eq!(set.len(), len, "identical copies are one");
    set
}

fn set<const N: usize>(all: [&'static str; N]) -> BTreeSet<Bytes> {
    all.map(Bytes::from).into()
}

#[test]
fn copies_are_found_by_transaction_in_this_run_and_in_the_next() {
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    assert!(store.was_created());
    store.put(push("a", 1, "p", "one")).unwrap();
    store.put(push("a", 2, "q", "two")).unwrap();
    store.put(push("b", 3, "p", "three")).unwrap();
    let check = |store: &TransientStore| {
        assert_eq!(copies(store, "a"), set(["one", "two"]));
        assert_eq!(copies(store, "b"), set(["three"]));
        assert_eq!(copies(store, "c"), set([]));
        let (copies, bytes) = (3, 3 * (OVERHEAD + 1) + 3 + 3 + 5);
        assert_eq!(store.usage().unwrap(), Usage { copies, bytes });
        assert_eq!(store.bytes_of(b"p").unwrap(), 2 * (OVERHEAD + 1) + 3 + 5);
        assert_eq!(store.bytes_of(b"nobody").unwrap(), 0);
    };
    check(&store);
    drop(store);
    let store = TransientStore::open(dir.path()).unwrap();
    assert!(!store.was_created());
    check(&store);
}

#[test]
fn two_copies_that_are_the_same_are_one_that_the_first_pays_for() {
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    store.put(push("a", 5, "p", "same")).unwrap();
    store.put(push("a", 9, "q", "same")).unwrap();
    store.put(push("a", 2, "q", "same")).unwrap();
    assert_eq!(copies(&store, "a"), set(["same"]));
    assert_eq!(store.usage().unwrap().copies, 1);
    assert_eq!(store.bytes_of(b"q").unwrap(), 0);
    // The largest height counts.
    assert_eq!(store.purge_below(9).unwrap(), 0);
    assert_eq!(store.purge_below(10).unwrap(), 1);
    assert_eq!(store.usage().unwrap(), Usage::default());
    assert_eq!(store.bytes_of(b"p").unwrap(), 0);
}

#[test]
fn a_transaction_id_is_any_text() {
    let long = "x".repeat(TX_ID_LEN_MAX);
    let names = [
        "",
        "\0",
        "\0\0",
        "a",
        "a\0",
        "a\0b",
        "ab",
        "ä",
        "\u{10ffff}",
        "\u{10ffff}\0",
        &long,
    ];
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    for name in names {
        store.put(push(name, 1, "p", format!("of {name}"))).unwrap();
    }
    for name in names {
        let want = BTreeSet::from([Bytes::from(format!("of {name}"))]);
        assert_eq!(copies(&store, name), want, "{name:?}");
    }
    for (purged, name) in names.iter().enumerate() {
        assert_eq!(forget(&store, name), 1);
        assert_eq!(copies(&store, name), set([]));
        let left = names.len() - purged - 1;
        assert_eq!(store.usage().unwrap().copies, left as u64);
    }
}

#[test]
fn what_is_too_long_is_refused_and_what_is_just_not_is_taken() {
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    let put = |tx_id: usize, owner: usize, bytes: usize| {
        store.put(Push {
            tx_id: "t".repeat(tx_id),
            owner: vec![7; owner].into(),
            bytes: vec![0; bytes].into(),
            ..push("", 1, "", "")
        })
    };
    put(TX_ID_LEN_MAX, OWNER_LEN_MAX, COPY_LEN_MAX).unwrap();
    let refused = put(TX_ID_LEN_MAX + 1, 1, 1);
    assert!(matches!(refused, Err(PutError::TxIdTooLong { len }) if len == TX_ID_LEN_MAX + 1));
    let refused = put(1, OWNER_LEN_MAX + 1, 1);
    assert!(matches!(refused, Err(PutError::OwnerTooLong { len }) if len == OWNER_LEN_MAX + 1));
    let refused = put(1, 1, COPY_LEN_MAX + 1);
    assert!(matches!(refused, Err(PutError::TooLarge { len }) if len == COPY_LEN_MAX + 1));
    assert_eq!(store.usage().unwrap().copies, 1);
    let bytes = store.of(name(&"t".repeat(TX_ID_LEN_MAX))).unwrap().next();
    assert_eq!(bytes.unwrap().unwrap().len(), COPY_LEN_MAX);
}

#[test]
fn an_owner_has_a_share_and_all_together_have_a_limit() {
    // Room for two copies of one owner, and three altogether.
    let one = OVERHEAD + 1 + 10;
    let limits = Limits {
        bytes_max: 3 * one,
        owner_bytes_max: 2 * one,
        org_bytes_max: u64::MAX,
        own_bytes: 0,
    };
    let dir = tempdir().unwrap();
    let store = TransientStore::open_with(dir.path(), limits).unwrap();
    let put = |tx_id, owner| store.put(push(tx_id, 1, owner, vec![0; 10]));
    put("a", "p").unwrap();
    put("b", "p").unwrap();
    let refused = put("c", "p");
    assert!(matches!(refused, Err(PutError::OwnerFull { bytes_max }) if bytes_max == 2 * one));
    put("c", "q").unwrap();
    let refused = put("d", "q");
    assert!(matches!(refused, Err(PutError::Full { bytes_max }) if bytes_max == 3 * one));
    assert!(refused.unwrap_err().to_string().contains("is full at"));
    put("a", "q").expect("what is there needs no room");
    assert_eq!(store.usage().unwrap().bytes, 3 * one);
    // What is purged makes room, for its owner and for all.
    assert_eq!(forget(&store, "b"), 1);
    put("d", "p").unwrap();
    assert!(matches!(put("e", "q"), Err(PutError::Full { .. })));
    drop(store);
    // Known from the file, too.
    let store = TransientStore::open_with(dir.path(), limits).unwrap();
    let refused = store.put(push("f", 1, "r", ""));
    assert!(matches!(refused, Err(PutError::Full { .. })));
    let smaller = Limits {
        bytes_max: 1,
        owner_bytes_max: 1,
        ..limits
    };
    drop(store);
    let store = TransientStore::open_with(dir.path(), smaller).unwrap();
    assert_eq!(store.usage().unwrap().copies, 3, "what is there stays");
}

#[test]
fn an_owner_has_so_many_copies_of_one_transaction() {
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    let put = |tx_id, owner, number: u64| store.put(push(tx_id, 1, owner, number.to_string()));
    let all = (0..COPIES_MAX).map(|number| push("a", 1, "p", number.to_string()));
    let outcomes = store.put_many(all.collect());
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(matches!(
        put("a", "p", COPIES_MAX),
        Err(PutError::TooManyCopies)
    ));
    put("a", "p", 0).expect("it is there");
    put("a", "q", COPIES_MAX).unwrap();
    put("b", "p", COPIES_MAX).unwrap();
    assert_eq!(forget(&store, "a"), COPIES_MAX + 1);
    put("a", "p", COPIES_MAX).unwrap();
}

#[test]
fn purging_takes_many_steps_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    // More than one step removes.
    let many = 2_500_u64;
    let tx_id = |number: u64| format!("tx {}", number / 20);
    let fill = || {
        let all = (0..many).map(|number| {
            let owner = if number % 2 == 0 { "p" } else { "q" };
            push(&tx_id(number), number, owner, number.to_string())
        });
        let outcomes = store.put_many(all.collect());
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(store.usage().unwrap().copies, many);
    };
    fill();
    assert_eq!(store.purge_below(0).unwrap(), 0);
    assert_eq!(store.purge_below(1).unwrap(), 1);
    assert_eq!(store.purge_below(many).unwrap(), many - 1);
    assert_eq!(store.usage().unwrap(), Usage::default());
    fill();
    let all: Vec<(String, String)> = (0..many)
        .map(|number| (tx_id(number), number.to_string()))
        .collect();
    let all: Vec<_> = all
        .iter()
        .map(|(tx_id, bytes)| (name(tx_id), hash(bytes.as_bytes())))
        .collect();
    assert_eq!(store.forget(&all).unwrap(), many);
    assert_eq!(store.forget(&all).unwrap(), 0, "they are gone");
    assert_eq!(store.usage().unwrap(), Usage::default());
    assert_eq!(
        store.bytes_of(b"p").unwrap() + store.bytes_of(b"q").unwrap(),
        0
    );
}

#[test]
fn a_reader_sees_what_was_there_when_it_asked() {
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    store.put(push("a", 1, "p", "one")).unwrap();
    store.put(push("a", 1, "p", "two")).unwrap();
    let before = store.of(name("a")).unwrap();
    forget(&store, "a");
    store.put(push("a", 1, "p", "three")).unwrap();
    let before: BTreeSet<_> = before.map(Result::unwrap).collect();
    assert_eq!(before, set(["one", "two"]));
    assert_eq!(copies(&store, "a"), set(["three"]));
}

#[derive(Debug, Clone)]
enum Step {
    Put(String, u64, bool, u8),
    Forget(Vec<(String, u8)>),
    PurgeBelow(u64),
    Reopen,
}

fn bytes(byte: u8) -> Bytes {
    vec![byte; usize::from(byte) * 3000].into()
}

fn step() -> impl Strategy<Value = Step> {
    let tx_id = || {
        prop_oneof![
            "[\0ab]{0,3}",
            any::<String>().prop_map(|text| text.chars().take(2).collect())
        ]
    };
    prop_oneof![
        8 => (tx_id(), 0_u64..9, any::<bool>(), 0_u8..4)
            .prop_map(|(tx_id, height, owner, byte)| Step::Put(tx_id, height, owner, byte)),
        2 => vec((tx_id(), 0_u8..4), 0..4).prop_map(Step::Forget),
        1 => (0_u64..10).prop_map(Step::PurgeBelow),
        1 => Just(Step::Reopen),
    ]
}

/// What should be there: owner and height by transaction and bytes.
type Model = BTreeMap<(String, Bytes), (&'static str, u64)>;

fn check(store: &TransientStore, model: &Model) {
    let mut by_tx: BTreeMap<&str, BTreeSet<Bytes>> = BTreeMap::new();
    for (tx_id, bytes) in model.keys() {
        by_tx.entry(tx_id).or_default().insert(bytes.clone());
    }
    for (tx_id, want) in by_tx {
        assert_eq!(copies(store, tx_id), want, "{tx_id:?}");
    }
    let cost = |tx_id: &str, bytes: &Bytes| (tx_id.len() + bytes.len()) as u64 + OVERHEAD;
    let of = |wanted: Option<&str>| {
        let of = model
            .iter()
            .filter(|(_, (owner, _))| wanted.is_none_or(|wanted| wanted == *owner));
        of.map(|((tx_id, bytes), _)| cost(tx_id, bytes)).sum()
    };
    let usage = Usage {
        copies: model.len() as u64,
        bytes: of(None),
    };
    assert_eq!(store.usage().unwrap(), usage);
    for owner in ["p", "q"] {
        assert_eq!(store.bytes_of(owner.as_bytes()).unwrap(), of(Some(owner)));
    }
}

fn open(dir: &Path) -> TransientStore {
    TransientStore::open(dir).unwrap()
}

/// No table has a row too many; see `docs/protocol/private-stores.md`.
fn check_rows(dir: &Path, model: &Model) {
    fn rows<K: Key + 'static, V: Value + 'static>(file: &ReadTransaction, name: &str) -> usize {
        let table: TableDefinition<'_, K, V> = TableDefinition::new(name);
        file.open_table(table)
            .unwrap()
            .len()
            .unwrap()
            .try_into()
            .unwrap()
    }
    let database = Database::open(dir.join("transient.redb")).unwrap();
    let file = database.begin_read().unwrap();
    let copies = rows::<(&str, &[u8; 64]), (u64, u64, &[u8], &[u8])>(&file, "copies");
    let bytes = rows::<(&str, &[u8; 64]), &[u8]>(&file, "bytes");
    let heights = rows::<(u64, &str, &[u8; 64]), ()>(&file, "heights");
    assert_eq!(
        (copies, bytes, heights),
        (model.len(), model.len(), model.len())
    );
    let all = model.iter().map(|((tx_id, _), (owner, _))| (tx_id, owner));
    let shares: BTreeSet<_> = all.clone().collect();
    assert_eq!(rows::<(&str, &[u8]), u64>(&file, "shares"), shares.len());
    let owners: BTreeSet<_> = all.map(|(_, owner)| owner).collect();
    assert_eq!(rows::<&[u8], u64>(&file, "owners"), owners.len());
    let orgs = usize::from(!model.is_empty());
    assert_eq!(rows::<&[u8], u64>(&file, "organizations"), orgs);
    assert!(rows::<&str, u64>(&file, "transient store") <= 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_done_the_store_holds_what_it_should(steps in vec(step(), 1..30)) {
        let dir = tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Put(tx_id, height, owner, byte) => {
                    let owner = if owner { "p" } else { "q" };
                    let bytes = bytes(byte);
                    store.put(push(&tx_id, height, owner, bytes.clone())).unwrap();
                    let entry = model.entry((tx_id, bytes)).or_insert((owner, height));
                    entry.1 = entry.1.max(height);
                }
                Step::Forget(copies) => {
                    let copies: Vec<(String, Bytes)> = copies
                        .into_iter()
                        .map(|(tx_id, byte)| (tx_id, bytes(byte)))
                        .collect();
                    let before = model.len();
                    model.retain(|copy, _| !copies.contains(copy));
                    let gone = (before - model.len()) as u64;
                    let copies: Vec<_> = copies
                        .iter()
                        .map(|(tx_id, bytes)| (name(tx_id), hash(bytes)))
                        .collect();
                    prop_assert_eq!(store.forget(&copies).unwrap(), gone);
                }
                Step::PurgeBelow(limit) => {
                    let before = model.len();
                    model.retain(|_, (_, height)| *height >= limit);
                    let purged = (before - model.len()) as u64;
                    prop_assert_eq!(store.purge_below(limit).unwrap(), purged);
                }
                Step::Reopen => {
                    drop(store);
                    store = open(dir.path());
                }
            }
        }
        check(&store, &model);
        drop(store);
        check_rows(dir.path(), &model);
    }
}

/// Run by hand: `cargo test -p tidings-ledger --test transient -- --ignored --nocapture`.
#[test]
#[ignore = "writes a gigabyte; for the figures in docs/protocol/private-stores.md"]
fn many_share_syncs_and_a_gigabyte_opens_soon() {
    let dir = tempdir().unwrap();
    for together in [1_usize, 8, 64] {
        let store = TransientStore::open(dir.path()).unwrap();
        let begin = std::time::Instant::now();
        let rounds = 4_000 / together.max(8);
        for round in 0..rounds {
            let pushes = (0..together).map(|number| {
                let tx_id = format!("{together} {round} {number}");
                let bytes = vec![tx_id.len().to_le_bytes()[0]; 10_000];
                push(&tx_id, 1, "p", bytes)
            });
            let outcomes = store.put_many(pushes.collect());
            assert!(outcomes.iter().all(Result::is_ok));
        }
        let rate = (together * rounds) as f64 / begin.elapsed().as_secs_f64();
        println!("{together} together: {rate:.0} copies of 10 kB a second");
    }
    let store = TransientStore::open(dir.path()).unwrap();
    for number in 0..100 {
        store
            .put(push(&number.to_string(), 1, "q", vec![number; 10_000_000]))
            .unwrap();
    }
    drop(store);
    let begin = std::time::Instant::now();
    let store = TransientStore::open(dir.path()).unwrap();
    let bytes = store.usage().unwrap().bytes;
    let file = std::fs::metadata(dir.path().join("transient.redb"))
        .unwrap()
        .len();
    println!(
        "{bytes} bytes in a file of {file} open in {:?}",
        begin.elapsed()
    );
    let begin = std::time::Instant::now();
    let purged = store.purge_below(2).unwrap();
    println!("{purged} copies are purged in {:?}", begin.elapsed());
    drop(store);
    let file = std::fs::metadata(dir.path().join("transient.redb"))
        .unwrap()
        .len();
    println!("then the file has {file} bytes");
}

#[test]
fn many_are_put_with_one_sync_and_each_is_told_its_own() {
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    let long = "x".repeat(TX_ID_LEN_MAX + 1);
    let outcomes = store.put_many(vec![
        push("a", 1, "p", "one"),
        push(&long, 1, "p", "none"),
        push("a", 1, "p", "two"),
    ]);
    assert!(matches!(
        outcomes[..],
        [Ok(()), Err(PutError::TxIdTooLong { .. }), Ok(())]
    ));
    assert!(store.put_many(Vec::new()).is_empty());
    drop(store);
    let store = TransientStore::open(dir.path()).unwrap();
    assert_eq!(copies(&store, "a"), set(["one", "two"]));
}

#[test]
fn an_organization_has_a_share_however_many_owners_it_names_and_ours_always_has_room() {
    let one = OVERHEAD + 1 + 10;
    let limits = Limits {
        bytes_max: 5 * one,
        owner_bytes_max: one,
        org_bytes_max: 2 * one,
        own_bytes: 2 * one,
    };
    let dir = tempdir().unwrap();
    let store = TransientStore::open_with(dir.path(), limits).unwrap();
    let put = |tx_id, owner: &'static str, org: &'static str| {
        store.put(Push {
            org: Bytes::from_static(org.as_bytes()),
            is_own: org == "own",
            ..push(tx_id, 1, owner, vec![0; 10])
        })
    };
    put("a", "o1", "others").unwrap();
    put("a", "o2", "others").expect("it is there");
    put("b", "o2", "others").unwrap();
    let refused = put("c", "o3", "others");
    assert!(matches!(refused, Err(PutError::OrgFull { bytes_max }) if bytes_max == 2 * one));
    put("c", "p1", "more").unwrap();
    let refused = put("d", "p2", "more");
    assert!(matches!(refused, Err(PutError::Full { bytes_max }) if bytes_max == 3 * one));
    put("d", "q1", "own").unwrap();
    put("e", "q2", "own").unwrap();
    let refused = put("f", "q3", "own");
    assert!(matches!(refused, Err(PutError::OrgFull { .. })));
    assert_eq!(store.usage().unwrap().bytes, 5 * one);
    // What is forgotten makes room for its organization.
    assert_eq!(forget(&store, "d"), 1);
    put("f", "q3", "own").unwrap();
}

#[test]
fn a_copy_is_found_by_the_whole_name_and_forgotten_by_its_hash_alone() {
    let dir = tempdir().unwrap();
    let store = TransientStore::open(dir.path()).unwrap();
    let in_collection = |namespace: &str, collection: &str, bytes: &'static str| Push {
        namespace: namespace.to_owned(),
        collection: collection.to_owned(),
        ..push("a", 1, "p", bytes)
    };
    let outcomes = store.put_many(vec![
        in_collection("cc", "col", "ours"),
        in_collection("cc", "col", "forged"),
        in_collection("c", "ccol", "foreign"),
        in_collection("cc", "other", "ours"),
    ]);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(copies(&store, "a"), set(["ours", "forged"]));
    let copy = |bytes: &[u8]| store.copy(name("a"), &hash(bytes)).unwrap();
    assert_eq!(copy(b"ours").as_deref(), Some(&b"ours"[..]));
    assert_eq!(copy(b"foreign"), None);
    // Whoever takes the id of another's transaction makes us forget his own copies only.
    assert_eq!(store.forget(&[(name("a"), hash(b"forged"))]).unwrap(), 1);
    assert_eq!(copies(&store, "a"), set(["ours"]));
    assert_eq!(store.usage().unwrap().copies, 3);
}
