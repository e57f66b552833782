//! The account of private data: what is held, what is missing and why, and until when.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod expire;
mod fill;
#[path = "../made/mod.rs"]
mod made;
mod purge;
mod steps;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use made::{behind, block};
use tempfile::{TempDir, tempdir};
use tidings_ledger::{
    Ledger,
    private::{
        BACKLOG_COLLECTIONS_MAX, Content, Counts, FillError, Filled, Left, NAME_LEN_MAX, Place,
        PrepareError, PrivateBlock, PrivateEntry, PrivateStore, Queue, SET_LEN_MAX, Why,
    },
};

const QUEUES: [Queue; 3] = [Queue::Eligible, Queue::Deprioritized, Queue::Ineligible];

fn held(tx: u64, collection: &str, rwset: &str) -> PrivateEntry {
    PrivateEntry {
        tx,
        namespace: "ns".into(),
        collection: collection.into(),
        block_to_live: 0,
        content: Content::Held(Bytes::copy_from_slice(rwset.as_bytes())),
    }
}

fn missing(tx: u64, collection: &str, why: Why) -> PrivateEntry {
    PrivateEntry {
        content: Content::Missing(why),
        ..held(tx, collection, "")
    }
}

fn living(blocks: u64, entry: PrivateEntry) -> PrivateEntry {
    PrivateEntry {
        block_to_live: blocks,
        ..entry
    }
}

fn private(number: u64, entries: Vec<PrivateEntry>) -> PrivateBlock {
    PrivateBlock {
        number,
        entries,
        purges: Vec::new(),
        left_out: BTreeMap::new(),
    }
}

fn place(block: u64, tx: u64, collection: &str) -> Place {
    Place {
        block,
        tx,
        namespace: "ns".into(),
        collection: collection.into(),
    }
}

fn filling(block: u64, tx: u64, collection: &str, rwset: &str) -> (Place, Bytes) {
    (
        place(block, tx, collection),
        Bytes::copy_from_slice(rwset.as_bytes()),
    )
}

/// A store in which these entries are those of the blocks from 0 on.
fn store(blocks: Vec<Vec<PrivateEntry>>) -> (TempDir, PrivateStore) {
    let dir = tempdir().unwrap();
    let store = PrivateStore::open(dir.path(), 0).unwrap();
    let blocks: Vec<_> = (0..)
        .zip(blocks)
        .map(|(number, entries)| private(number, entries))
        .collect();
    store.prepare(&blocks).unwrap();
    (dir, store)
}

/// Short words for what is there: `tx collection bytes` of those that are held.
fn sets(store: &PrivateStore, block: u64, last: u64) -> Vec<String> {
    let sets = store.sets(block, last).unwrap().map(Result::unwrap);
    sets.map(|set| {
        assert_eq!(store.set(&set.place, last).unwrap().as_ref(), Some(&set));
        let (place, rwset) = (&set.place, String::from_utf8_lossy(&set.rwset).into_owned());
        assert_eq!((place.block, &*place.namespace), (block, "ns"));
        format!("{} {} {rwset}", place.tx, place.collection)
    })
    .collect()
}

/// As `sets`: `block/tx collection` of those that are missing.
fn lacking(store: &PrivateStore, queue: Queue, last: u64) -> Vec<String> {
    let missing = store.missing(queue, last).unwrap().map(Result::unwrap);
    missing
        .map(|set| {
            let Place {
                block,
                tx,
                collection,
                ..
            } = set.place;
            format!("{block}/{tx} {collection}")
        })
        .collect()
}

fn counts(store: &PrivateStore) -> [u64; 4] {
    let Counts {
        held,
        eligible,
        deprioritized,
        ineligible,
    } = store.backlog(u64::MAX).unwrap().total();
    [held, eligible, deprioritized, ineligible]
}

#[test]
fn a_block_is_held_and_missing_as_it_was_prepared_in_this_run_and_in_the_next() {
    let (dir, store) = store(vec![
        vec![
            held(0, "b", "first"),
            held(0, "a", "second"),
            missing(1, "a", Why::Absent),
            missing(1, "b", Why::NotEntitled),
            held(2, "a", ""),
        ],
        vec![],
        vec![
            missing(0, "a", Why::WrongHash),
            missing(7, "a", Why::NotAsked),
        ],
    ]);
    assert!(store.was_created());
    let check = |store: &PrivateStore| {
        assert_eq!(store.height().unwrap(), 3);
        assert_eq!(sets(store, 0, 2), ["0 a second", "0 b first", "2 a "]);
        assert_eq!(sets(store, 1, 2), [""; 0]);
        assert_eq!(
            lacking(store, Queue::Eligible, 2),
            ["2/7 a", "2/0 a", "0/1 a"]
        );
        assert_eq!(lacking(store, Queue::Deprioritized, 2), [""; 0]);
        assert_eq!(lacking(store, Queue::Ineligible, 2), ["0/1 b"]);
        let missing = store.missing(Queue::Eligible, 2).unwrap();
        let why: Vec<_> = missing.map(|set| set.unwrap().why).collect();
        assert_eq!(why, [Why::NotAsked, Why::WrongHash, Why::Absent]);
        assert_eq!(counts(store), [3, 3, 0, 1]);
        let backlog = store.backlog(u64::MAX).unwrap();
        let by_name: Vec<_> = backlog
            .collections
            .iter()
            .map(|of| {
                (
                    &*of.namespace,
                    &*of.collection,
                    of.counts.held,
                    of.counts.eligible,
                )
            })
            .collect();
        assert_eq!(by_name, [("ns", "a", 2, 3), ("ns", "b", 1, 0)]);
        assert_eq!(backlog.rest, Counts::default());
        assert_eq!(store.set(&place(0, 1, "a"), 2).unwrap(), None);
        assert_eq!(store.set(&place(9, 1, "a"), 9).unwrap(), None);
    };
    check(&store);
    drop(store);
    let store = PrivateStore::open(dir.path(), 3).unwrap();
    assert!(!store.was_created());
    check(&store);
}

#[test]
fn of_two_sets_with_one_name_the_first_counts() {
    let (_dir, store) = store(vec![vec![
        held(0, "a", "first"),
        held(0, "a", "second"),
        missing(0, "a", Why::Absent),
        missing(1, "a", Why::NotEntitled),
        held(1, "a", "late"),
    ]]);
    assert_eq!(sets(&store, 0, 0), ["0 a first"]);
    assert_eq!(counts(&store), [1, 0, 0, 1]);
}

#[test]
fn a_list_may_be_cut_anywhere_and_says_nothing_of_what_is_above_the_ledger() {
    let blocks = (0..6).map(|_| vec![missing(0, "a", Why::Absent), held(1, "a", "x")]);
    let (_dir, store) = store(blocks.collect());
    let first_two = store.missing(Queue::Eligible, 4).unwrap().take(2);
    let blocks: Vec<_> = first_two.map(|set| set.unwrap().place.block).collect();
    assert_eq!(blocks, [4, 3]);
    assert_eq!(lacking(&store, Queue::Eligible, 0), ["0/0 a"]);
    assert_eq!(lacking(&store, Queue::Eligible, u64::MAX).len(), 6);
    assert_eq!(sets(&store, 5, 4), [""; 0]);
    assert_eq!(sets(&store, 5, 5), ["1 a x"]);
    assert_eq!(sets(&store, 6, u64::MAX), [""; 0]);
    assert_eq!(sets(&store, u64::MAX, u64::MAX), [""; 0]);
    assert_eq!(store.set(&place(5, 1, "a"), 4).unwrap(), None);
}

#[test]
fn blocks_are_prepared_in_the_order_of_their_numbers() {
    let (_dir, store) = store(vec![]);
    let prepare = |numbers: &[u64]| {
        let blocks: Vec<_> = numbers
            .iter()
            .map(|number| private(*number, vec![]))
            .collect();
        store.prepare(&blocks)
    };
    assert!(matches!(
        prepare(&[1]),
        Err(PrepareError::Gap { number: 1, want: 0 })
    ));
    assert!(matches!(
        prepare(&[0, 2]),
        Err(PrepareError::Disorder { number: 0 })
    ));
    assert!(matches!(
        prepare(&[0, 0]),
        Err(PrepareError::Disorder { number: 0 })
    ));
    let last = prepare(&[u64::MAX]);
    assert!(matches!(
        last,
        Err(PrepareError::Disorder { number: u64::MAX })
    ));
    assert_eq!(store.height().unwrap(), 0, "none of them");
    prepare(&[]).unwrap();
    prepare(&[0, 1, 2]).unwrap();
    prepare(&[1]).expect("0 is in the ledger, 1 and 2 may not be");
    assert_eq!(store.height().unwrap(), 3);
    assert!(matches!(
        prepare(&[0]),
        Err(PrepareError::Settled { number: 0 })
    ));
    prepare(&[3]).unwrap();
    assert!(matches!(
        prepare(&[2]),
        Err(PrepareError::Settled { number: 2 })
    ));
    assert!(matches!(
        prepare(&[5]),
        Err(PrepareError::Gap { number: 5, want: 4 })
    ));
}

#[test]
fn a_crash_between_preparing_and_appending_leaves_what_can_be_reused_or_replaced() {
    let dir = tempdir().unwrap();
    let open = || {
        let ledger = Ledger::open(dir.path().join("ledger")).unwrap();
        let store = PrivateStore::open(dir.path().join("private"), ledger.height()).unwrap();
        (ledger, store)
    };
    let account = |number, rwset| private(number, vec![living(9, held(0, "a", rwset))]);
    let (mut ledger, store) = open();
    let first = block(ledger.tip(), &[1]);
    let second = block(behind(&first), &[1]);
    store.prepare(&[account(0, "zero")]).unwrap();
    ledger.append(&[first]).unwrap();
    let more = private(1, vec![held(0, "a", "one"), missing(4, "b", Why::Absent)]);
    store.prepare(&[more, account(2, "two")]).unwrap();
    drop((ledger, store));

    // Killed before the blocks were appended.
    let (mut ledger, store) = open();
    assert_eq!((ledger.height(), store.height().unwrap()), (1, 3));
    assert_eq!(
        sets(&store, 1, ledger.height() - 1),
        [""; 0],
        "not committed"
    );
    assert_eq!(
        sets(&store, 1, 1),
        ["0 a one"],
        "to be reused by who names it"
    );
    let committed = store.prepare(&[account(0, "other")]);
    assert!(matches!(
        committed,
        Err(PrepareError::Settled { number: 0 })
    ));
    store.prepare(&[account(1, "other")]).unwrap();
    ledger.append(&[second]).unwrap();
    let last = ledger.height() - 1;
    assert_eq!(sets(&store, 0, last), ["0 a zero"]);
    assert_eq!(
        sets(&store, 1, last),
        ["0 a other"],
        "nothing is left of the first attempt"
    );
    assert_eq!(lacking(&store, Queue::Eligible, 9), [""; 0]);
    assert_eq!(
        sets(&store, 2, 2),
        ["0 a two"],
        "and the next one still can be"
    );
    assert_eq!(counts(&store), [3, 0, 0, 0]);
    for (last_block, held) in [(0, 1), (1, 2), (2, 3)] {
        let counts = store.backlog(last_block).unwrap().total();
        assert_eq!(counts.held, held, "up to block {last_block}");
    }
    // The same once more, and its rows are replaced everywhere.
    store.prepare(&[account(2, "two")]).unwrap();
    assert_eq!(counts(&store), [3, 0, 0, 0]);
    assert_eq!(store.expire(10).unwrap(), 1);
    assert_eq!(store.expire(12).unwrap(), 2);
    assert_eq!(counts(&store), [0; 4]);
}

#[test]
fn a_store_made_anew_catches_up_with_the_ledger_first() {
    let dir = tempdir().unwrap();
    let store = PrivateStore::open(dir.path(), 3).unwrap();
    assert!(store.was_created());
    assert_eq!(store.height().unwrap(), 0);
    let absent = |number| private(number, vec![missing(0, "a", Why::NotAsked)]);
    assert!(matches!(
        store.prepare(&[absent(3)]),
        Err(PrepareError::Gap { want: 0, .. })
    ));
    store.prepare(&[absent(0), absent(1)]).unwrap();
    drop(store);
    // Killed halfway.
    let store = PrivateStore::open(dir.path(), 3).unwrap();
    assert_eq!(store.height().unwrap(), 2);
    assert!(matches!(
        store.prepare(&[absent(1)]),
        Err(PrepareError::Settled { number: 1 })
    ));
    store.prepare(&[absent(2), absent(3)]).unwrap();
    assert_eq!(
        lacking(&store, Queue::Eligible, 3),
        ["3/0 a", "2/0 a", "1/0 a", "0/0 a"]
    );
}

#[test]
fn what_is_too_long_is_refused_and_what_is_just_not_is_taken() {
    let (_dir, store) = store(vec![vec![missing(0, "a", Why::Absent)]]);
    let large = |len| Content::Held(vec![0; len].into());
    let entry = |content| PrivateEntry {
        content,
        ..held(0, "a", "")
    };
    let refused = store.prepare(&[private(1, vec![entry(large(SET_LEN_MAX + 1))])]);
    assert!(matches!(refused, Err(PrepareError::TooLarge { len, .. }) if len == SET_LEN_MAX + 1));
    let name = "n".repeat(NAME_LEN_MAX);
    let named = |namespace: String, collection: String| PrivateEntry {
        namespace,
        collection,
        ..held(0, "a", "x")
    };
    let long = format!("{name}n");
    for entry in [named(long.clone(), name.clone()), named(name.clone(), long)] {
        let refused = store.prepare(&[private(1, vec![entry])]);
        assert!(matches!(
            refused,
            Err(PrepareError::NameTooLong {
                block: 1,
                tx: 0,
                ..
            })
        ));
    }
    assert_eq!(store.height().unwrap(), 1);
    let entries = vec![entry(large(SET_LEN_MAX)), named(name.clone(), name)];
    store.prepare(&[private(1, entries)]).unwrap();
    let set = store.set(&place(1, 0, "a"), 1).unwrap().unwrap();
    assert_eq!(set.rwset.len(), SET_LEN_MAX);
    let large = (place(0, 0, "a"), Bytes::from(vec![0; SET_LEN_MAX + 1]));
    let refused = store.fill(std::slice::from_ref(&large));
    assert!(matches!(refused, Err(FillError::TooLarge { .. })));
    assert!(matches!(
        store.fill_trimmed(&[(
            large.0,
            Left {
                rwset: large.1,
                gone: BTreeSet::new()
            }
        )]),
        Err(FillError::TooLarge { .. })
    ));
    assert_eq!(lacking(&store, Queue::Eligible, 0), ["0/0 a"]);
}

#[test]
fn the_backlog_names_so_many_collections_and_sums_up_the_rest() {
    let len = BACKLOG_COLLECTIONS_MAX + 2;
    let entries = (0..len).map(|at| missing(0, &format!("{at:05}"), Why::Absent));
    let (_dir, store) = store(vec![entries.collect()]);
    let backlog = store.backlog(u64::MAX).unwrap();
    assert_eq!(backlog.collections.len(), BACKLOG_COLLECTIONS_MAX);
    let rest = Counts {
        eligible: 2,
        ..Counts::default()
    };
    assert_eq!(backlog.rest, rest);
    assert_eq!(backlog.total().eligible, len as u64);
}

#[test]
fn blocks_that_name_nothing_need_not_be_prepared_one_by_one() {
    let dir = tempdir().unwrap();
    let store = PrivateStore::open(dir.path(), 0).unwrap();
    store.prepare_from(7, &[]).unwrap();
    assert_eq!(store.height().unwrap(), 7);
    store.prepare_from(3, &[]).unwrap();
    assert_eq!(store.height().unwrap(), 7, "it does not fall");
    let block = private(9, vec![held(0, "c", "nine")]);
    assert!(matches!(
        store.prepare(std::slice::from_ref(&block)),
        Err(PrepareError::Gap { number: 9, want: 7 })
    ));
    store.prepare_from(9, std::slice::from_ref(&block)).unwrap();
    assert_eq!(store.height().unwrap(), 10);
    // As after a crash: prepared, not appended, and prepared again.
    store.prepare_from(9, &[private(9, Vec::new())]).unwrap();
    assert_eq!(store.sets(9, 9).unwrap().count(), 0);
    store
        .prepare_from(12, &[private(12, vec![held(0, "c", "x")])])
        .unwrap();
    assert!(matches!(
        store.prepare_from(9, &[block]),
        Err(PrepareError::Settled { number: 9 })
    ));
}

#[test]
fn everything_is_accounted_for_in_order_once() {
    let (_dir, store) = store(vec![
        vec![],
        vec![
            missing(1, "b", Why::NotEntitled),
            held(0, "a", "one"),
            missing(0, "b", Why::Absent),
        ],
        vec![living(1, held(0, "a", "short"))],
        vec![held(2, "a", "last")],
    ]);
    let listed = |from, last_block| {
        let accounts = store.accounts(from, last_block).unwrap();
        let accounts = accounts.map(|account| account.unwrap());
        let told = accounts.map(|account| {
            let content = match account.content {
                Content::Held(rwset) => String::from_utf8(rwset.to_vec()).unwrap(),
                Content::Trimmed(_) => "trimmed".to_owned(),
                Content::Missing(why) => why.to_string(),
            };
            (account.place, content, account.expires_at)
        });
        told.collect::<Vec<_>>()
    };
    let all = [
        (place(1, 0, "a"), "one".to_owned(), None),
        (
            place(1, 0, "b"),
            "nobody who was asked gave it".to_owned(),
            None,
        ),
        (
            place(1, 1, "b"),
            "not for our organization".to_owned(),
            None,
        ),
        (place(2, 0, "a"), "short".to_owned(), Some(4)),
        (place(3, 2, "a"), "last".to_owned(), None),
    ];
    assert_eq!(listed((0, 0), 3), all);
    assert_eq!(listed((1, 1), 3), all[2..]);
    assert_eq!(listed((0, 0), 2), all[..4], "what is only prepared is not");
    let expired = [&all[..3], &all[4..]].concat();
    assert_eq!(listed((0, 0), 4), expired, "expired is gone");
}
