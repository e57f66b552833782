//! What the store does of purges where only its insides show it.

use super::*;
use crate::private::{Content, PrivateBlock, PrivateEntry};

/// `x` and `y`, which is written as text of one byte each.
const SET: &[u8] = b"\x1a\x06\x0a\x01x\x1a\x011\x1a\x06\x0a\x01y\x1a\x011";

fn left(store: &PrivateStore) -> BTreeSet<Vec<u8>> {
    let sets = store.sets(0, 1).unwrap();
    sets.map(|set| set.unwrap().rwset.to_vec()).collect()
}

fn state(store: &PrivateStore) -> PurgeState {
    store.purges((0, 0), 1).unwrap()[0].state
}

#[test]
fn what_a_crash_breaks_off_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let store = PrivateStore::open(dir.path(), 0).unwrap();
    let entries = (0..STEP_LEN_MAX as u64 + 1).map(|tx| PrivateEntry {
        tx,
        namespace: "ns".into(),
        collection: "a".into(),
        block_to_live: 0,
        content: Content::Held(Bytes::from_static(SET)),
    });
    let purge = KeyPurge {
        tx: 0,
        namespace: "ns".into(),
        collection: "a".into(),
        key_hash: hash("x"),
    };
    let blocks = [
        (0, entries.collect(), Vec::new()),
        (1, Vec::new(), vec![purge]),
    ];
    let blocks = blocks.map(|(number, entries, purges)| PrivateBlock {
        number,
        entries,
        purges,
        left_out: BTreeMap::new(),
    });
    store.prepare(&blocks).unwrap();
    assert!(
        store.resume().unwrap().is_empty(),
        "nobody has said that it is valid"
    );
    assert_eq!(left(&store).len(), 1);
    assert_eq!(store.begin((1, 0), 1).unwrap(), Some((BEGUN, 0)));
    drop(store);
    // Killed before the first step, and then after it.
    let store = PrivateStore::open(dir.path(), 2).unwrap();
    assert_eq!(left(&store), [SET.to_vec()].into());
    assert_eq!(state(&store), PurgeState::Begun(0));
    let some = store.trim_some(("ns", "a"), (0, 0), (1, 0)).unwrap();
    assert_eq!(some, Some((0, STEP_LEN_MAX as u64)));
    assert_eq!(left(&store).len(), 2);
    assert_eq!(state(&store), PurgeState::Begun(STEP_LEN_MAX as u64));
    drop(store);
    let store = PrivateStore::open(dir.path(), 2).unwrap();
    assert_eq!(store.resume().unwrap(), [(1, 0)]);
    assert_eq!(left(&store), [SET[8..].to_vec()].into());
    assert_eq!(state(&store), PurgeState::Done(STEP_LEN_MAX as u64 + 1));
    assert!(store.resume().unwrap().is_empty());
}
