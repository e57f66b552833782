//! Any steps in any order, against a model.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use proptest::{collection::vec, prelude::*};
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition, Value,
};

use super::*;

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
                    let tried = places.into_iter().map(|place| (place, Why::Absent));
                    store.deprioritize(&tried.collect::<Vec<_>>()).unwrap();
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
