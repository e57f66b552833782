//! What lives for a number of blocks.

use super::*;

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
fn what_is_missing_of_blocks_that_are_gone_is_forgotten_and_what_is_held_stays() {
    let left = |tx, collection| PrivateEntry {
        content: Content::Trimmed(Left {
            rwset: "left".into(),
            gone: [[7; 32]].into(),
        }),
        ..held(tx, collection, "")
    };
    let all = || {
        vec![
            held(0, "a", "x"),
            missing(1, "a", Why::Absent),
            missing(2, "a", Why::NotEntitled),
            living(9, missing(3, "a", Why::NotAsked)),
            left(4, "a"),
        ]
    };
    // More than are removed in one commit, and as many that stay in front of one that does not.
    let many = (0..1024).map(|tx| missing(tx, "b", Why::Absent));
    let stay = (0..1024).map(|tx| left(tx, "c"));
    let many = many.chain(stay).chain([missing(1024, "b", Why::Absent)]);
    let (_dir, store) = store(vec![all(), many.collect(), all(), all()]);
    let tried = [place(0, 1, "a"), place(1, 1024, "b")].map(|place| (place, Why::Absent));
    store.deprioritize(&tried).unwrap();
    let held = BTreeSet::from([2]);
    assert_eq!(store.forget_missing(0, &held).unwrap(), 0);
    assert_eq!(store.forget_missing(3, &held).unwrap(), 3 + 1025);
    assert_eq!(sets(&store, 0, 3), ["0 a x"]);
    for tx in 0..1024 {
        let left = store.left(&place(1, tx, "c")).unwrap();
        assert_eq!(left.as_deref(), Some(&b"left"[..]), "{tx}");
    }
    assert_eq!(
        lacking(&store, Queue::Eligible, 3),
        ["3/3 a", "3/1 a", "2/3 a", "2/1 a"],
        "block 2 is still to be had"
    );
    let left = lacking(&store, Queue::Deprioritized, 3);
    assert_eq!(left.len(), 3 + 1024);
    assert_eq!(left.last().map(String::as_str), Some("0/4 a"));
    assert_eq!(lacking(&store, Queue::Ineligible, 3), ["3/2 a", "2/2 a"]);
    assert_eq!(counts(&store), [3, 4, 3 + 1024, 2]);
    // What comes of asking for it before comes too late.
    let filled = store.fill(&[filling(0, 1, "a", "late")]).unwrap();
    assert_eq!((filled.stored, filled.unwanted), (0, 1));
    assert_eq!(
        store.expire(u64::MAX).unwrap(),
        2,
        "of what expires nothing is left behind"
    );
}
