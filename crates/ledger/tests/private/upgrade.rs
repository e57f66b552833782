//! Stores that earlier versions have made.

use redb::{Database, ReadableTable as _, TableDefinition};

use super::*;

type Place4 = (u64, u64, &'static str, &'static str);
type Queued = (u8, u64, u64, &'static str, &'static str);
type Expiring = (u64, u64, u64, &'static str, &'static str);
type Named = (&'static str, &'static str, u64, u64);
type Name = (&'static str, &'static str);

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("private store");
const ENTRIES: TableDefinition<'_, Place4, (u8, u8, u64)> = TableDefinition::new("entries");
const RWSETS: TableDefinition<'_, Place4, &[u8]> = TableDefinition::new("rwsets");
const MISSING: TableDefinition<'_, Queued, ()> = TableDefinition::new("missing");
const COLLECTIONS: TableDefinition<'_, Named, ()> = TableDefinition::new("collections");
const EXPIRY: TableDefinition<'_, Expiring, ()> = TableDefinition::new("expiry");
const COUNTS: TableDefinition<'_, Name, (u64, u64, u64, u64)> = TableDefinition::new("counts");

/// What version 1 wrote of two blocks: one write set that is held, and one tried in vain.
fn version_1(dir: &std::path::Path) {
    let database = Database::create(dir.join("private.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut about = transaction.open_table(ABOUT).unwrap();
        about.insert("version", 1).unwrap();
        about.insert("height", 2).unwrap();
        let mut entries = transaction.open_table(ENTRIES).unwrap();
        entries.insert((0, 0, "ns", "a"), (0, 0, 9)).unwrap();
        entries.insert((1, 0, "ns", "a"), (2, 2, u64::MAX)).unwrap();
        let mut rwsets = transaction.open_table(RWSETS).unwrap();
        rwsets.insert((0, 0, "ns", "a"), &b"kept"[..]).unwrap();
        let mut missing = transaction.open_table(MISSING).unwrap();
        missing.insert((2, 1, 0, "ns", "a"), ()).unwrap();
        let mut collections = transaction.open_table(COLLECTIONS).unwrap();
        collections.insert(("ns", "a", 0, 0), ()).unwrap();
        collections.insert(("ns", "a", 1, 0), ()).unwrap();
        let mut expiry = transaction.open_table(EXPIRY).unwrap();
        expiry.insert((9, 0, 0, "ns", "a"), ()).unwrap();
        let mut counts = transaction.open_table(COUNTS).unwrap();
        counts.insert(("ns", "a"), (1, 0, 1, 0)).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn a_store_of_version_1_is_taken_over_and_says_of_which_blocks_nothing_is_noted() {
    let dir = tempdir().unwrap();
    version_1(dir.path());
    let store = PrivateStore::open(dir.path(), 2).unwrap();
    let kept = store.set(&place(0, 0, "a"), 1).unwrap().unwrap();
    assert_eq!((&kept.rwset[..], kept.expires_at), (&b"kept"[..], Some(9)));
    assert_eq!(counts(&store), [1, 0, 1, 0]);
    let missing = store.missing(Queue::Deprioritized, 1).unwrap();
    let missing: Vec<_> = missing.map(|set| set.unwrap().why).collect();
    assert_eq!(missing, [Why::NotReached]);
    assert_eq!(store.to_note().unwrap(), Some((0, 2)));
    let block = PrivateBlock {
        purges: vec![purge::of(0, "a", "x")],
        ..private(0, Vec::new())
    };
    store.note(&[block], 1).unwrap();
    drop(store);
    let store = PrivateStore::open(dir.path(), 2).unwrap();
    assert_eq!(
        store.to_note().unwrap(),
        Some((1, 2)),
        "where a crash broke it off"
    );
    store.note(&[], 2).unwrap();
    assert_eq!(store.to_note().unwrap(), None);
    assert_eq!(store.purges((0, 0), 1).unwrap().len(), 1);
    assert_eq!(counts(&store), [1, 0, 1, 0], "entries stay as they are");
}

#[test]
fn a_store_of_a_later_version_is_left_as_it_is() {
    let dir = tempdir().unwrap();
    version_1(dir.path());
    let path = dir.path().join("private.redb");
    for version in [0, 4] {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(ABOUT)
            .unwrap()
            .insert("version", version)
            .unwrap();
        transaction.commit().unwrap();
        drop(database);
        let refused = PrivateStore::open(dir.path(), 2).unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("what no other member has is lost"),
            "{refused}"
        );
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let about = transaction.open_table(ABOUT).unwrap();
        assert_eq!(about.get("version").unwrap().unwrap().value(), version);
    }
}
