//! Keys that are to be forgotten.

use sha2::{Digest as _, Sha256};
use tidings_ledger::private::{
    KeyPurge, NotedPurge, PURGES_LISTED_MAX, PurgeError, PurgeState, Purged,
};

use super::*;

/// A `KVRWSet` with these writes.
pub(super) fn set(writes: &[(&str, &str)]) -> Bytes {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let writes = writes.iter().map(|(key, value)| {
        let write = [field(1, key.as_bytes()), field(3, value.as_bytes())].concat();
        field(3, &write)
    });
    writes.collect::<Vec<_>>().concat().into()
}

pub(super) fn of(tx: u64, collection: &str, key: &str) -> KeyPurge {
    KeyPurge {
        tx,
        namespace: "ns".into(),
        collection: collection.into(),
        key_hash: hash(key),
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn holding(tx: u64, collection: &str, writes: &[(&str, &str)]) -> PrivateEntry {
    PrivateEntry {
        content: Content::Held(set(writes)),
        ..held(tx, collection, "")
    }
}

fn purging(number: u64, entries: Vec<PrivateEntry>, purges: Vec<KeyPurge>) -> PrivateBlock {
    PrivateBlock {
        number,
        entries,
        purges,
        left_out: BTreeMap::new(),
    }
}

fn at(store: &PrivateStore, block: u64, tx: u64, collection: &str) -> (Bytes, bool) {
    let set = store
        .set(&place(block, tx, collection), 9)
        .unwrap()
        .unwrap();
    (set.rwset, set.is_trimmed)
}

/// A key that is written thrice, purged by the second transaction of block 1, and written again.
fn example() -> (TempDir, PrivateStore) {
    let (dir, store) = store(vec![vec![
        holding(0, "a", &[("x", "1"), ("y", "1")]),
        holding(1, "a", &[("x", "2")]),
        holding(2, "b", &[("x", "3")]),
        missing(3, "a", Why::Absent),
    ]]);
    let entries = vec![
        holding(0, "a", &[("x", "4")]),
        holding(1, "a", &[("x", ""), ("z", "5")]),
        holding(2, "a", &[("x", "6")]),
    ];
    let block = purging(1, entries, vec![of(1, "a", "x"), of(1, "a", "never")]);
    store.prepare(&[block]).unwrap();
    (dir, store)
}

#[test]
fn what_is_noted_changes_nothing_and_says_what_it_would() {
    let (_dir, store) = example();
    assert_eq!(
        at(&store, 0, 0, "a"),
        (set(&[("x", "1"), ("y", "1")]), false)
    );
    let all = store.purges((0, 0), 1).unwrap();
    let [purge] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(
        (purge.block, purge.tx, purge.state),
        (1, 1, PurgeState::Noted)
    );
    let [keys] = &purge.collections[..] else {
        panic!("{purge:?}");
    };
    assert_eq!(
        (&*keys.namespace, &*keys.collection, keys.keys),
        ("ns", "a", 2)
    );
    let touched = |mut bytes| {
        let touched = store.touched(purge, 1, &mut bytes).unwrap();
        (touched.sets, touched.is_cut)
    };
    assert_eq!(touched(usize::MAX), (4, false));
    assert_eq!(touched(300), (2, true), "one more may be begun");
    assert_eq!(touched(0), (0, true));
    assert_eq!(store.purges((1, 2), 1).unwrap(), []);
    assert_eq!(store.purges((0, 0), 0).unwrap(), [], "it is only prepared");
}

#[test]
fn what_is_noted_covers_its_own_transaction_and_earlier_ones() {
    let (_dir, store) = example();
    let noted = |block, tx, collection, last| {
        let keys = ["x", "y", "never"].map(hash);
        let noted = store.noted(&place(block, tx, collection), keys, last);
        noted.unwrap().len()
    };
    assert_eq!(noted(0, 0, "a", 1), 2);
    assert_eq!(noted(1, 1, "a", 1), 2, "its own, as in Fabric");
    assert_eq!(noted(1, 2, "a", 1), 0, "what came after");
    assert_eq!(noted(0, 0, "b", 1), 0);
    assert_eq!(noted(0, 0, "a", 0), 0, "it is only prepared");
}

#[test]
fn what_is_carried_out_is_gone_for_good_and_nothing_else_is() {
    let (dir, store) = example();
    let purged = Purged {
        changed: 4,
        left_out: 0,
    };
    assert_eq!(store.purge(1, 1, 1).unwrap(), purged);
    let check = |store: &PrivateStore| {
        assert_eq!(at(store, 0, 0, "a"), (set(&[("y", "1")]), true));
        assert_eq!(
            at(store, 0, 1, "a"),
            (Bytes::new(), true),
            "empty, not missing"
        );
        assert_eq!(at(store, 0, 2, "b"), (set(&[("x", "3")]), false));
        assert_eq!(at(store, 1, 0, "a"), (Bytes::new(), true));
        assert_eq!(at(store, 1, 1, "a"), (set(&[("z", "5")]), true));
        assert_eq!(at(store, 1, 2, "a"), (set(&[("x", "6")]), false));
        assert_eq!(
            store.purges((0, 0), 1).unwrap()[0].state,
            PurgeState::Done(4)
        );
    };
    check(&store);
    assert_eq!(counts(&store), [6, 1, 0, 0]);
    drop(store);
    let store = PrivateStore::open(dir.path(), 2).unwrap();
    check(&store);
    assert_eq!(store.purge(1, 1, 1).unwrap(), purged, "it is done");
    // What comes later comes without it.
    let late = (place(0, 3, "a"), set(&[("x", "late"), ("y", "late")]));
    assert_eq!(store.fill(&[late]).unwrap().stored, 1);
    assert_eq!(at(&store, 0, 3, "a"), (set(&[("y", "late")]), true));
}

#[test]
fn only_what_a_committed_block_says_is_carried_out() {
    let (_dir, store) = example();
    for (block, tx, last) in [(1, 1, 0), (1, 0, 1), (0, 1, 1), (7, 1, 9)] {
        let refused = store.purge(block, tx, last);
        assert!(
            matches!(refused, Err(PurgeError::Unknown { .. })),
            "{block}/{tx}"
        );
    }
    // Another block of that number says nothing of it.
    store
        .prepare(&[purging(1, Vec::new(), Vec::new())])
        .unwrap();
    assert_eq!(store.purges((0, 0), 9).unwrap(), []);
    assert!(store.purge(1, 1, 9).is_err());
}

/// What is left of the last write set of block 0, and what it lacks.
fn left(writes: &[(&str, &str)], gone: &[&str]) -> [(Place, Left); 1] {
    let gone = gone.iter().map(|key| hash(key)).collect();
    let rwset = set(writes);
    [(place(0, 3, "a"), Left { rwset, gone })]
}

#[test]
fn what_others_have_trimmed_is_kept_and_stays_missing_until_the_whole_comes() {
    let (dir, store) = example();
    let less = left(&[], &["x", "y"]);
    assert_eq!(store.fill_trimmed(&less).unwrap().left, 1);
    assert_eq!(counts(&store), [6, 0, 1, 0]);
    let more = left(&[("y", "1")], &["x"]);
    assert_eq!(store.fill_trimmed(&more).unwrap().left, 1, "it has more");
    for no_more in [&more, &less, &left(&[("x", "1")], &["y"])] {
        let filled = store.fill_trimmed(no_more).unwrap();
        assert_eq!((filled.left, filled.held), (0, 1));
    }
    let tried = store.deprioritize(&[(place(0, 3, "a"), Why::Absent)]);
    assert_eq!(tried.unwrap(), 0);
    drop(store);
    let store = PrivateStore::open(dir.path(), 2).unwrap();
    let missing = store.missing(Queue::Deprioritized, 1).unwrap();
    let missing: Vec<_> = missing.map(|set| set.unwrap().why).collect();
    assert_eq!(missing, [Why::Trimmed]);
    assert_eq!(
        store.set(&place(0, 3, "a"), 1).unwrap(),
        None,
        "nobody is given it"
    );
    assert_eq!(
        store.left(&place(0, 3, "a")).unwrap(),
        Some(set(&[("y", "1")]))
    );
    let full = set(&[("x", "1"), ("y", "1")]);
    let filled = store.fill(&[(place(0, 3, "a"), full.clone())]).unwrap();
    assert_eq!(filled.stored, 1);
    assert_eq!(at(&store, 0, 3, "a"), (full, false));
    assert_eq!(counts(&store), [7, 0, 0, 0]);
    assert_eq!(store.fill_trimmed(&more).unwrap().held, 1);
}

#[test]
fn what_others_have_trimmed_is_final_once_the_purge_is_applied() {
    let sets = left(&[("y", "1")], &["x"]);
    // It came before, or after.
    for is_before in [true, false] {
        let (_dir, store) = example();
        if is_before {
            assert_eq!(store.fill_trimmed(&sets).unwrap().left, 1);
        }
        let changed = 4 + u64::from(is_before);
        assert_eq!(store.purge(1, 1, 1).unwrap().changed, changed);
        if !is_before {
            assert_eq!(store.fill_trimmed(&sets).unwrap().stored, 1);
        }
        assert_eq!(at(&store, 0, 3, "a"), (set(&[("y", "1")]), true));
        assert_eq!(counts(&store), [7, 0, 0, 0]);
    }
    // A key of another purge is still wanted.
    let (_dir, store) = example();
    let sets = left(&[], &["x", "y"]);
    assert_eq!(store.fill_trimmed(&sets).unwrap().left, 1);
    store.purge(1, 1, 1).unwrap();
    assert_eq!(counts(&store), [6, 0, 1, 0]);
    let sets = left(&[("y", "1")], &["x"]);
    assert_eq!(store.fill_trimmed(&sets).unwrap().stored, 1);
}

#[test]
fn what_is_kept_of_a_write_set_has_no_key_that_is_forgotten_either() {
    let (_dir, store) = example();
    let sets = left(&[("x", "1")], &["y"]);
    assert_eq!(store.fill_trimmed(&sets).unwrap().left, 1);
    assert_eq!(store.purge(1, 1, 1).unwrap().changed, 5);
    assert_eq!(store.left(&place(0, 3, "a")).unwrap(), Some(Bytes::new()));
    assert_eq!(
        counts(&store),
        [6, 0, 1, 0],
        "the other key is still wanted"
    );
}

#[test]
fn a_block_prepared_again_keeps_what_became_of_its_purge() {
    let (dir, store) = example();
    store.purge(1, 1, 1).unwrap();
    drop(store);
    // Beside a ledger that was begun anew.
    let store = PrivateStore::open(dir.path(), 0).unwrap();
    let trimmed = |tx| PrivateEntry {
        content: Content::Trimmed(Left {
            rwset: set(&[]),
            gone: [hash("x")].into(),
        }),
        ..held(tx, "a", "")
    };
    store
        .prepare(&[purging(0, vec![trimmed(1)], Vec::new())])
        .unwrap();
    let keys = vec![of(1, "a", "never"), of(1, "a", "x")];
    store
        .prepare(&[purging(1, vec![trimmed(0)], keys)])
        .unwrap();
    let state = |store: &PrivateStore| store.purges((0, 0), 1).unwrap()[0].state;
    assert_eq!(state(&store), PurgeState::Done(4));
    assert_eq!(at(&store, 0, 1, "a"), (Bytes::new(), true));
    assert_eq!(at(&store, 1, 0, "a"), (Bytes::new(), true));
    let other = vec![of(1, "a", "x")];
    store.prepare(&[purging(1, Vec::new(), other)]).unwrap();
    assert_eq!(state(&store), PurgeState::Noted, "it says something else");
}

#[test]
fn keys_that_were_left_out_are_told() {
    let (_dir, store) = store(Vec::new());
    let block = PrivateBlock {
        left_out: BTreeMap::from([(1, 7), (2, 9)]),
        ..purging(0, Vec::new(), vec![of(1, "a", "x")])
    };
    store.prepare(std::slice::from_ref(&block)).unwrap();
    let left_out = |store: &PrivateStore| store.purges((0, 0), 0).unwrap()[0].left_out;
    assert_eq!(left_out(&store), 7);
    let in_part = |block, tx, last| store.is_noted_in_part(&place(block, tx, "a"), last);
    assert!(in_part(0, 1, 0).unwrap(), "its own, too");
    assert!(!in_part(0, 2, 0).unwrap() && !in_part(1, 0, 0).unwrap());
    assert_eq!(store.purge(0, 1, 0).unwrap().left_out, 7);
    store
        .prepare(&[purging(0, Vec::new(), block.purges)])
        .unwrap();
    assert_eq!(left_out(&store), 0);
}

#[test]
fn a_purge_of_many_write_sets_takes_many_steps() {
    let writes = [("x", "1"), ("y", "1")];
    let entries = |number: u64| (0..900).map(move |tx| holding(tx + number % 2, "a", &writes));
    let (_dir, store) = store((0..3).map(|number| entries(number).collect()).collect());
    let block = purging(3, Vec::new(), vec![of(0, "a", "x"), of(0, "b", "x")]);
    store.prepare(&[block]).unwrap();
    assert_eq!(store.purge(3, 0, 3).unwrap().changed, 2700);
    let sets = (0..3).flat_map(|block| store.sets(block, 3).unwrap());
    let left: BTreeSet<_> = sets.map(|set| set.unwrap().rwset).collect();
    assert_eq!(left, [set(&[("y", "1")])].into());
}

#[test]
fn purges_are_listed_page_by_page() {
    let (_dir, store) = store(Vec::new());
    let len = PURGES_LISTED_MAX as u64 + 1;
    let many = (0..len).map(|at| of(len, &format!("{at:04}"), "x"));
    let purges = (0..len).map(|tx| of(tx, "a", "x")).chain(many);
    store
        .prepare(&[purging(0, Vec::new(), purges.collect())])
        .unwrap();
    let page = store.purges((0, 0), 0).unwrap();
    assert_eq!(page.len(), PURGES_LISTED_MAX);
    let last = page.last().unwrap().tx;
    let page: Vec<NotedPurge> = store.purges((0, last + 1), 0).unwrap();
    assert_eq!(page.len(), 2);
    assert_eq!(page[1].collections.len(), PURGES_LISTED_MAX);
}
