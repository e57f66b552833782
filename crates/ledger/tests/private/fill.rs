//! What is fetched after its block was committed.

use super::*;

#[test]
fn what_is_fetched_later_is_held_once_and_only_if_it_is_wanted() {
    let (_dir, store) = store(vec![vec![
        held(0, "a", "held"),
        missing(1, "a", Why::Absent),
        missing(2, "a", Why::WrongHash),
        missing(3, "a", Why::NotEntitled),
    ]]);
    assert_eq!(
        store
            .deprioritize(&[(place(0, 2, "a"), Why::WrongHash)])
            .unwrap(),
        1
    );
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
        left: 0,
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
        left: 0,
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
    ]
    .map(|place| (place, Why::NotAsked));
    assert_eq!(store.deprioritize(&all).unwrap(), 1);
    assert_eq!(store.deprioritize(&all).unwrap(), 0, "no second time");
    assert_eq!(lacking(&store, Queue::Eligible, 1), ["1/0 a"]);
    assert_eq!(lacking(&store, Queue::Deprioritized, 1), ["0/0 a"]);
    let seldom = store.missing(Queue::Deprioritized, 1).unwrap().next();
    assert_eq!(seldom.unwrap().unwrap().why, Why::NotReached);
    assert_eq!(counts(&store), [1, 1, 1, 1]);
    let again = all.map(|(place, _)| (place, Why::WrongHash));
    assert_eq!(store.deprioritize(&again).unwrap(), 0, "it was moved");
    let seldom = store.missing(Queue::Deprioritized, 1).unwrap().next();
    assert_eq!(
        seldom.unwrap().unwrap().why,
        Why::WrongHash,
        "of the last try"
    );
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
