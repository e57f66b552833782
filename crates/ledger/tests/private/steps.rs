//! Any steps in any order, against a model.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use proptest::{collection::vec, prelude::*};
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition, Value,
};

use tidings_ledger::private::PurgeState;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// So many blocks, of which the first is so far below the height; so many are appended.
    Commit(Vec<Vec<(u64, bool, u64, u8)>>, bool),
    /// One block with these purges: transaction, collection, key.
    Noted(Vec<(u64, bool, u8)>),
    /// What this transaction says is carried out.
    Purge(u64, u64),
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
        2 => vec((0_u64..3, any::<bool>(), 0_u8..2), 1..4).prop_map(Step::Noted),
        2 => (0_u64..12, 0_u64..3).prop_map(|(block, tx)| Step::Purge(block, tx)),
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

/// What should be known of purges.
#[derive(Default)]
struct Purges {
    noted: BTreeMap<(u64, u64), BTreeSet<(bool, u8)>>,
    done: BTreeSet<(u64, u64)>,
}

impl Purges {
    /// What should be held in a place.
    fn left(&self, place: &Place) -> Bytes {
        let at = (place.block, place.tx);
        let is_gone = |key: &u8| {
            let mut done = self.done.range(at..);
            done.any(|purge| self.noted[purge].contains(&(place.collection == "a", *key)))
        };
        keyed(&(0..2).filter(|key| !is_gone(key)).collect::<Vec<_>>())
    }

    fn check(&self, store: &PrivateStore, last: u64) {
        let noted = self.noted.range(..=(last, u64::MAX));
        let want: Vec<_> = noted
            .map(|(purge, keys)| (*purge, keys.len() as u64, self.done.contains(purge)))
            .collect();
        let found = store.purges((0, 0), last).unwrap().into_iter();
        let found: Vec<_> = found
            .map(|purge| {
                let keys = purge.collections.iter().map(|of| of.keys).sum::<u64>();
                (
                    (purge.block, purge.tx),
                    keys,
                    purge.state != PurgeState::Noted,
                )
            })
            .collect();
        assert_eq!(found, want);
    }
}

/// A write set of these keys.
fn keyed(keys: &[u8]) -> Bytes {
    let keys: Vec<_> = keys.iter().map(|key| format!("k{key}")).collect();
    let writes: Vec<_> = keys.iter().map(|key| (key.as_str(), "value")).collect();
    purge::set(&writes)
}

fn check(store: &PrivateStore, model: &Model, purges: &Purges, last: u64) {
    let seen = |place: &Place, expiry: u64| place.block <= last && last < expiry;
    let of = |wanted: Option<Queue>| {
        let of = model.iter().filter(|(_, (queue, _))| *queue == wanted);
        of.filter(|(place, (_, expiry))| seen(place, *expiry))
            .map(|(place, _)| place.clone())
            .collect::<Vec<_>>()
    };
    let held: Vec<_> = (0..=last)
        .flat_map(|block| store.sets(block, last).unwrap())
        .map(|set| {
            let set = set.unwrap();
            let left = purges.left(&set.place);
            assert_eq!(set.is_trimmed, left != keyed(&[0, 1]));
            assert_eq!(set.rwset, left);
            set.place
        })
        .collect();
    assert_eq!(held, of(None));
    purges.check(store, last);
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
fn check_rows(dir: &Path, model: &Model, purges: &Purges) {
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
    let noted: usize = purges.noted.values().map(BTreeSet::len).sum();
    type Hash = [u8; 32];
    let by_place = rows::<(u64, u64, &str, &str, Hash), ()>(&file, "purges");
    let by_key = rows::<(&str, &str, Hash, u64, u64), ()>(&file, "purged");
    assert_eq!([by_place, by_key], [noted; 2]);
    assert_eq!(
        rows::<(u64, u64), (u8, u64)>(&file, "purging"),
        purges.noted.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_done_all_tables_say_the_same(steps in vec(step(), 1..25)) {
        let dir = tempdir().unwrap();
        let (mut ledger, mut prepared) = (0, 0);
        let mut store = PrivateStore::open(dir.path(), 0).unwrap();
        let mut model = Model::new();
        let mut purges = Purges::default();
        for step in steps {
            let last = u64::max(ledger, 1) - 1;
            match step {
                Step::Commit(blocks, append) => {
                    let blocks: Vec<_> = (ledger..).zip(blocks).map(|(number, entries)| {
                        model.retain(|place, _| place.block != number);
                        purges.noted.retain(|(block, _), _| *block != number);
                        let entries = entries.into_iter().map(|(tx, first, lives, kind)| {
                            let collection = collection(first);
                            let (entry, queue) = match kind {
                                0 => (missing(tx, collection, Why::Absent), Some(Queue::Eligible)),
                                1 => (
                                    missing(tx, collection, Why::NotEntitled),
                                    Some(Queue::Ineligible),
                                ),
                                _ => (PrivateEntry {
                                    content: Content::Held(keyed(&[0, 1])),
                                    ..held(tx, collection, "")
                                }, None),
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
                Step::Noted(keys) => {
                    let number = ledger;
                    model.retain(|place, _| place.block != number);
                    purges.noted.retain(|(block, _), _| *block != number);
                    let mut block = private(number, Vec::new());
                    for (tx, first, key) in keys {
                        let of = purges.noted.entry((number, tx)).or_default();
                        of.insert((first, key));
                        block.purges.push(purge::of(tx, collection(first), &format!("k{key}")));
                    }
                    store.prepare(&[block]).unwrap();
                    prepared = prepared.max(number + 1);
                    ledger += 1;
                }
                Step::Purge(block, tx) => {
                    let is_known = purges.noted.contains_key(&(block, tx)) && block <= last;
                    if is_known {
                        purges.done.insert((block, tx));
                    }
                    prop_assert_eq!(store.purge(block, tx, last).is_ok(), is_known);
                }
                Step::Fill(places) => {
                    let sets = places.iter().map(|(block, tx, first)| {
                        (place(*block, *tx, collection(*first)), keyed(&[0, 1]))
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
        check(&store, &model, &purges, u64::max(ledger, 1) - 1);
        check(&store, &model, &purges, ledger + 3);
        drop(store);
        check_rows(dir.path(), &model, &purges);
    }
}
