//! The account of private data: what is held, what is missing and why, and until when.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use made::{behind, block};
use proptest::{collection::vec, prelude::*};
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition, Value,
};
use tempfile::{TempDir, tempdir};
use tidings_ledger::{
    Ledger,
    private::{
        BACKLOG_COLLECTIONS_MAX, Content, Counts, FillError, Filled, NAME_LEN_MAX, Place,
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
    PrivateBlock { number, entries }
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
    } = store.backlog().unwrap().total();
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
        let backlog = store.backlog().unwrap();
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
fn what_is_fetched_later_is_held_once_and_only_if_it_is_wanted() {
    let (_dir, store) = store(vec![vec![
        held(0, "a", "held"),
        missing(1, "a", Why::Absent),
        missing(2, "a", Why::WrongHash),
        missing(3, "a", Why::NotEntitled),
    ]]);
    assert_eq!(store.deprioritize(&[place(0, 2, "a")]).unwrap(), 1);
    let all = [
        filling(0, 0, "a", "other"),
        filling(0, 1, "a", "one"),
        filling(0, 2, "a", "two"),
        filling(0, 3, "a", "three"),
        filling(0, 4, "a", "never named"),
        filling(8, 0, "a", "of no block"),
    ];
    let filled = Filled {
        stored: 2,
        held: 1,
        unwanted: 3,
    };
    assert_eq!(store.fill(&all).unwrap(), filled);
    let check = || {
        assert_eq!(sets(&store, 0, 0), ["0 a held", "1 a one", "2 a two"]);
        assert_eq!(lacking(&store, Queue::Eligible, 0), [""; 0]);
        assert_eq!(lacking(&store, Queue::Deprioritized, 0), [""; 0]);
        assert_eq!(lacking(&store, Queue::Ineligible, 0), ["0/3 a"]);
        assert_eq!(counts(&store), [3, 0, 0, 1]);
    };
    check();
    let filled = Filled {
        stored: 0,
        held: 3,
        unwanted: 3,
    };
    assert_eq!(store.fill(&all).unwrap(), filled, "and again");
    check();
    assert_eq!(store.fill(&[]).unwrap(), Filled::default());
}

#[test]
fn what_could_not_be_fetched_is_asked_for_more_seldom() {
    let (_dir, store) = store(vec![
        vec![
            missing(0, "a", Why::Absent),
            missing(1, "a", Why::NotEntitled),
        ],
        vec![missing(0, "a", Why::WrongHash), held(1, "a", "x")],
    ]);
    let all = [
        place(0, 0, "a"),
        place(0, 1, "a"),
        place(1, 1, "a"),
        place(5, 5, "a"),
    ];
    assert_eq!(store.deprioritize(&all).unwrap(), 1);
    assert_eq!(store.deprioritize(&all).unwrap(), 0, "no second time");
    assert_eq!(lacking(&store, Queue::Eligible, 1), ["1/0 a"]);
    assert_eq!(lacking(&store, Queue::Deprioritized, 1), ["0/0 a"]);
    let seldom = store.missing(Queue::Deprioritized, 1).unwrap().next();
    assert_eq!(seldom.unwrap().unwrap().why, Why::Absent);
    assert_eq!(counts(&store), [1, 1, 1, 1]);
}

#[test]
fn a_new_member_of_a_collection_wants_what_it_lacks_of_it() {
    // Many steps, with others in between.
    let block = |_| {
        let mine = (0..500).map(|tx| missing(tx, "mine", Why::NotEntitled));
        let others = (0..5).map(|tx| missing(tx, "theirs", Why::NotEntitled));
        let held = (500..900).map(|tx| held(tx, "mine", "x"));
        mine.chain(others).chain(held).collect()
    };
    let (_dir, store) = store((0..5).map(block).collect());
    assert_eq!(counts(&store), [2000, 0, 0, 2525]);
    assert_eq!(store.entitle("ns", "mine").unwrap(), 2500);
    assert_eq!(counts(&store), [2000, 2500, 0, 25]);
    assert_eq!(store.entitle("ns", "mine").unwrap(), 0);
    assert_eq!(store.entitle("ns", "unknown").unwrap(), 0);
    assert_eq!(lacking(&store, Queue::Ineligible, 9).len(), 25);
    let first = store.missing(Queue::Eligible, 9).unwrap().next();
    let first = first.unwrap().unwrap();
    assert_eq!(
        (first.place, first.why),
        (place(4, 499, "mine"), Why::NotAsked)
    );
}

/// As Fabric's `isExpired` and `ComputeExpiringBlock`: the expiring block is that of the write
/// plus block-to-live plus one, and with it as the last block the data is expired.
#[test]
fn what_lives_for_some_blocks_is_gone_with_the_block_after_them() {
    for lives in [1, 2, 5] {
        for queue_of_missing in [None, Some(Why::Absent), Some(Why::NotEntitled)] {
            let entry = match queue_of_missing {
                None => held(0, "a", "x"),
                Some(why) => missing(0, "a", why),
            };
            let (_dir, store) = store(vec![vec![], vec![], vec![living(lives, entry)]]);
            let seen = |last| {
                let held = sets(&store, 2, last).len();
                let missing = QUEUES.map(|queue| lacking(&store, queue, last).len());
                held + missing.iter().sum::<usize>() == 1
            };
            let over = 2 + lives + 1;
            assert!((2..over).all(seen), "{lives}");
            assert!(!seen(over) && !seen(over + 1) && !seen(u64::MAX), "{lives}");
            assert_eq!(store.expire(over - 1).unwrap(), 0);
            assert!(seen(over - 1));
            assert_eq!(store.expire(over).unwrap(), 1);
            assert!(!seen(over - 1), "removed from the file");
            assert_eq!(counts(&store), [0; 4]);
            assert_eq!(store.expire(u64::MAX).unwrap(), 0);
        }
    }
}

#[test]
fn what_lives_for_ever_or_longer_than_there_are_blocks_stays() {
    let lives = |blocks| vec![vec![], vec![living(blocks, held(0, "a", "x"))]];
    // Block 1 and so many, and one: past all numbers, or the last of them.
    for blocks in [0, u64::MAX, u64::MAX - 1, u64::MAX - 2] {
        let (_dir, store) = store(lives(blocks));
        assert_eq!(sets(&store, 1, u64::MAX), ["0 a x"], "{blocks}");
        assert_eq!(store.expire(u64::MAX).unwrap(), 0, "{blocks}");
        let set = store.set(&place(1, 0, "a"), 1).unwrap().unwrap();
        assert_eq!(set.expires_at, None, "{blocks}");
    }
    let (_dir, store) = store(lives(u64::MAX - 3));
    assert_eq!(sets(&store, 1, u64::MAX - 2), ["0 a x"]);
    assert_eq!(store.expire(u64::MAX - 2).unwrap(), 0);
    assert_eq!(store.expire(u64::MAX - 1).unwrap(), 1);
}

#[test]
fn what_was_fetched_expires_as_if_it_had_always_been_there() {
    let (_dir, store) = store(vec![vec![living(3, missing(0, "a", Why::Absent))]]);
    store.fill(&[filling(0, 0, "a", "late")]).unwrap();
    let set = store.set(&place(0, 0, "a"), 3).unwrap().unwrap();
    assert_eq!((&*set.rwset, set.expires_at), (&b"late"[..], Some(4)));
    assert_eq!(sets(&store, 0, 4), [""; 0]);
    assert_eq!(store.expire(4).unwrap(), 1);
    let filled = store.fill(&[filling(0, 0, "a", "late")]).unwrap();
    assert_eq!(
        (filled.stored, filled.unwanted),
        (0, 1),
        "it does not come back"
    );
    assert_eq!(counts(&store), [0; 4]);
}

#[test]
fn expiring_takes_many_steps() {
    let entries = (0..2500)
        .map(|tx| living(1 + tx % 2, held(tx, "a", "x")))
        .collect();
    let (_dir, store) = store(vec![entries]);
    assert_eq!(store.expire(2).unwrap(), 1250);
    assert_eq!(counts(&store), [1250, 0, 0, 0]);
    assert_eq!(store.expire(3).unwrap(), 1250);
    assert_eq!(sets(&store, 0, 0), [""; 0]);
}

#[test]
fn what_is_held_can_be_replaced_and_keeps_its_place_and_time() {
    let (_dir, store) = store(vec![vec![
        living(3, held(0, "a", "key=1 other=2")),
        held(1, "a", "key=1"),
        missing(2, "a", Why::Absent),
    ]]);
    let purged = [
        filling(0, 0, "a", "other=2"),
        filling(0, 1, "a", ""),
        filling(0, 2, "a", "not held"),
        filling(7, 0, "a", "of no block"),
    ];
    assert_eq!(store.replace(&purged).unwrap(), 2);
    assert_eq!(sets(&store, 0, 0), ["0 a other=2", "1 a "]);
    assert_eq!(counts(&store), [2, 1, 0, 0]);
    assert_eq!(store.expire(4).unwrap(), 1);
    assert_eq!(
        store.replace(&purged).unwrap(),
        1,
        "and what expired stays away"
    );
}

#[test]
fn the_sets_of_a_collection_are_walked_from_any_transaction() {
    let entries = |number: u64| {
        let rwset = number.to_string();
        let lives = u64::from(number == 1);
        vec![
            living(lives, held(0, "a", &rwset)),
            held(3, "a", &rwset),
            held(0, "b", "other"),
            missing(5, "a", Why::Absent),
        ]
    };
    let (_dir, store) = store((0..4).map(entries).collect());
    let walk = |collection, from, last| {
        let sets = store.sets_of("ns", collection, from, last).unwrap();
        let places = sets.map(|set| set.unwrap().place);
        places
            .map(|place| (place.block, place.tx))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        walk("a", (0, 0), 2),
        [(0, 0), (0, 3), (1, 0), (1, 3), (2, 0), (2, 3)]
    );
    assert_eq!(walk("a", (1, 1), 2), [(1, 3), (2, 0), (2, 3)]);
    assert_eq!(
        walk("a", (0, 4), 3),
        [(1, 3), (2, 0), (2, 3), (3, 0), (3, 3)],
        "expired"
    );
    assert_eq!(walk("a", (3, 0), 2), []);
    assert_eq!(
        walk("b", (0, 0), u64::MAX),
        [(0, 0), (1, 0), (2, 0), (3, 0)]
    );
    assert_eq!(walk("ab", (0, 0), u64::MAX), []);
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
        store.replace(&[large]),
        Err(FillError::TooLarge { .. })
    ));
    assert_eq!(lacking(&store, Queue::Eligible, 0), ["0/0 a"]);
}

#[test]
fn the_backlog_names_so_many_collections_and_sums_up_the_rest() {
    let len = BACKLOG_COLLECTIONS_MAX + 2;
    let entries = (0..len).map(|at| missing(0, &format!("{at:05}"), Why::Absent));
    let (_dir, store) = store(vec![entries.collect()]);
    let backlog = store.backlog().unwrap();
    assert_eq!(backlog.collections.len(), BACKLOG_COLLECTIONS_MAX);
    let rest = Counts {
        eligible: 2,
        ..Counts::default()
    };
    assert_eq!(backlog.rest, rest);
    assert_eq!(backlog.total().eligible, len as u64);
}

#[derive(Debug, Clone)]
enum Step {
    /// So many blocks, of which the first is so far below the height; so many are appended.
    Commit(Vec<Vec<(u64, bool, u64, u8)>>, bool),
    Fill(Vec<(u64, u64, bool)>),
    Deprioritize(Vec<(u64, u64, bool)>),
    Entitle(bool),
    Expire,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let entry = (0_u64..3, any::<bool>(), 0_u64..4, 0_u8..6);
    let places = || vec((0_u64..12, 0_u64..3, any::<bool>()), 0..6);
    prop_oneof![
        6 => (vec(vec(entry, 0..5), 1..3), any::<bool>())
            .prop_map(|(blocks, append)| Step::Commit(blocks, append)),
        2 => places().prop_map(Step::Fill),
        1 => places().prop_map(Step::Deprioritize),
        1 => any::<bool>().prop_map(Step::Entitle),
        1 => Just(Step::Expire),
        1 => Just(Step::Reopen),
    ]
}

fn collection(first: bool) -> &'static str {
    if first { "a" } else { "b" }
}

/// What should be known of a place: the queue, or nothing if it is held; the expiring block.
type Model = BTreeMap<Place, (Option<Queue>, u64)>;

fn check(store: &PrivateStore, model: &Model, last: u64) {
    let seen = |place: &Place, expiry: u64| place.block <= last && last < expiry;
    let of = |wanted: Option<Queue>| {
        let of = model.iter().filter(|(_, (queue, _))| *queue == wanted);
        of.filter(|(place, (_, expiry))| seen(place, *expiry))
            .map(|(place, _)| place.clone())
            .collect::<Vec<_>>()
    };
    let held: Vec<_> = (0..=last)
        .flat_map(|block| store.sets(block, last).unwrap())
        .map(|set| set.unwrap().place)
        .collect();
    assert_eq!(held, of(None));
    for first in [true, false] {
        let walked = store
            .sets_of("ns", collection(first), (0, 0), last)
            .unwrap();
        let walked: Vec<_> = walked.map(|set| set.unwrap().place).collect();
        let mut want = of(None);
        want.retain(|place| place.collection == collection(first));
        assert_eq!(walked, want);
    }
    for queue in QUEUES {
        let missing = store.missing(queue, last).unwrap();
        let mut missing: Vec<_> = missing.map(|set| set.unwrap().place).collect();
        missing.reverse();
        assert_eq!(missing, of(Some(queue)));
    }
    let count = |wanted| model.values().filter(|(queue, _)| *queue == wanted).count() as u64;
    let [eligible, deprioritized, ineligible] = QUEUES.map(|queue| count(Some(queue)));
    assert_eq!(
        counts(store),
        [count(None), eligible, deprioritized, ineligible]
    );
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
    type Names = (&'static str, &'static str);
    let database = Database::open(dir.join("private.redb")).unwrap();
    let file = database.begin_read().unwrap();
    let held = model.values().filter(|(queue, _)| queue.is_none()).count();
    let mortal = model
        .values()
        .filter(|(_, expiry)| *expiry != u64::MAX)
        .count();
    let collections: BTreeSet<_> = model.keys().map(|place| &place.collection).collect();
    let entries = rows::<(u64, u64, &str, &str), (u8, u8, u64)>(&file, "entries");
    assert_eq!(entries, model.len());
    assert_eq!(rows::<(u64, u64, &str, &str), &[u8]>(&file, "rwsets"), held);
    let missing = rows::<(u8, u64, u64, &str, &str), ()>(&file, "missing");
    assert_eq!(missing, model.len() - held);
    assert_eq!(
        rows::<(&str, &str, u64, u64), ()>(&file, "collections"),
        model.len()
    );
    assert_eq!(
        rows::<(u64, u64, u64, &str, &str), ()>(&file, "expiry"),
        mortal
    );
    let counts = rows::<Names, (u64, u64, u64, u64)>(&file, "counts");
    assert_eq!(counts, collections.len());
    assert!(rows::<&str, u64>(&file, "private store") <= 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_done_all_tables_say_the_same(steps in vec(step(), 1..25)) {
        let dir = tempdir().unwrap();
        let (mut ledger, mut prepared) = (0, 0);
        let mut store = PrivateStore::open(dir.path(), 0).unwrap();
        let mut model = Model::new();
        for step in steps {
            let last = u64::max(ledger, 1) - 1;
            match step {
                Step::Commit(blocks, append) => {
                    let blocks: Vec<_> = (ledger..).zip(blocks).map(|(number, entries)| {
                        model.retain(|place, _| place.block != number);
                        let entries = entries.into_iter().map(|(tx, first, lives, kind)| {
                            let collection = collection(first);
                            let (entry, queue) = match kind {
                                0 => (missing(tx, collection, Why::Absent), Some(Queue::Eligible)),
                                1 => (
                                    missing(tx, collection, Why::NotEntitled),
                                    Some(Queue::Ineligible),
                                ),
                                _ => (held(tx, collection, "x"), None),
                            };
                            let expiry = if lives == 0 { u64::MAX } else { number + lives + 1 };
                            let place = place(number, tx, collection);
                            model.entry(place).or_insert((queue, expiry));
                            living(lives, entry)
                        });
                        private(number, entries.collect())
                    }).collect();
                    store.prepare(&blocks).unwrap();
                    prepared = prepared.max(ledger + blocks.len() as u64);
                    ledger += if append { blocks.len() as u64 } else { 0 };
                }
                Step::Fill(places) => {
                    let sets = places.iter().map(|(block, tx, first)| {
                        filling(*block, *tx, collection(*first), "late")
                    });
                    let sets: Vec<_> = sets.collect();
                    for (place, _) in &sets {
                        if let Some((queue, _)) = model.get_mut(place)
                            && *queue != Some(Queue::Ineligible)
                        {
                            *queue = None;
                        }
                    }
                    store.fill(&sets).unwrap();
                }
                Step::Deprioritize(places) => {
                    let places = places.iter().map(|(block, tx, first)| {
                        place(*block, *tx, collection(*first))
                    });
                    let places: Vec<_> = places.collect();
                    for place in &places {
                        if let Some((queue, _)) = model.get_mut(place)
                            && *queue == Some(Queue::Eligible)
                        {
                            *queue = Some(Queue::Deprioritized);
                        }
                    }
                    store.deprioritize(&places).unwrap();
                }
                Step::Entitle(first) => {
                    for (place, (queue, _)) in &mut model {
                        if place.collection == collection(first) && *queue == Some(Queue::Ineligible)
                        {
                            *queue = Some(Queue::Eligible);
                        }
                    }
                    store.entitle("ns", collection(first)).unwrap();
                }
                Step::Expire => {
                    let before = model.len();
                    model.retain(|_, (_, expiry)| last < *expiry);
                    let expired = (before - model.len()) as u64;
                    prop_assert_eq!(store.expire(last).unwrap(), expired);
                }
                Step::Reopen => {
                    drop(store);
                    store = PrivateStore::open(dir.path(), ledger).unwrap();
                }
            }
            prop_assert_eq!(store.height().unwrap(), prepared);
        }
        check(&store, &model, u64::max(ledger, 1) - 1);
        check(&store, &model, ledger + 3);
        drop(store);
        check_rows(dir.path(), &model);
    }
}
