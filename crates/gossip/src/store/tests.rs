//! The stores against a list that does what Fabric's message store does.

use proptest::prelude::*;

use super::*;
use crate::order::{by_distance, by_time};

const TTL: Duration = Duration::from_secs(10);

fn at(secs: u64) -> Moment {
    Moment::after_start(Duration::from_secs(secs))
}

fn time(sequence: u64) -> PeerTime {
    PeerTime {
        incarnation: 1,
        sequence,
    }
}

#[test]
fn m_s1_old_and_equal_messages_are_refused_also_by_tombstones() {
    let mut store = Latest::new(Some(TTL));
    assert!(store.add(at(0), "a", time(5), 'x'));
    for (now, visible) in [(0, true), (9, true), (10, false), (19, false)] {
        store.expire(at(now));
        assert_eq!(store.get(&"a").is_some(), visible, "at {now}");
        assert!(!store.add(at(now), "a", time(5), 'y'));
        assert!(!store.add(at(now), "a", time(4), 'y'));
        assert!(store.is_news(&"a", time(6)));
    }
    assert_eq!(store.len(), 1);
    store.expire(at(20));
    assert_eq!(store.len(), 0);
    assert!(store.add(at(20), "a", time(4), 'y'));
}

#[test]
fn a_newer_message_lives_its_own_time() {
    let mut store = Latest::new(Some(TTL));
    store.add(at(0), "a", time(1), 'x');
    store.add(at(9), "a", time(2), 'y');
    assert_eq!(store.deadline(), Some(at(19)));
    assert!(store.expire(at(18)).is_empty());
    assert_eq!(store.get(&"a"), Some(&'y'));
    assert_eq!(store.expire(at(19)), ["a"]);
    // A tombstone is replaced by what is newer still.
    assert!(store.add(at(20), "a", time(3), 'z'));
    assert_eq!(store.iter().collect::<Vec<_>>(), [(&"a", &'z')]);
    assert_eq!(store.deadline(), Some(at(30)));
}

#[test]
fn without_a_time_to_live_nothing_ages() {
    let mut store = Latest::new(None);
    store.add(at(0), "a", time(1), 'x');
    store.add(at(0), "b", time(1), 'x');
    assert!(store.expire(at(1_000_000)).is_empty());
    assert_eq!(store.deadline(), None);
    store.retain(|key, _| *key == "b");
    assert_eq!(store.get(&"a"), None);
    assert_eq!(store.remove(&"b"), Some('x'));
    assert!(store.is_empty());
}

#[test]
fn what_was_removed_leaves_no_trace() {
    let mut store = Latest::new(Some(TTL));
    store.add(at(0), "a", time(5), 'x');
    store.remove(&"a");
    assert_eq!(store.deadline(), None);
    assert!(store.add(at(0), "a", time(1), 'y'));
    store.retain(|_, _| false);
    assert_eq!(store.deadline(), None);
}

#[test]
fn a_window_keeps_the_highest_blocks() {
    let mut store = Window::new(3, Some(TTL));
    for number in [5, 6, 8] {
        assert_eq!(
            store.add(at(0), number, number),
            Added::Taken {
                evicted: Vec::new()
            }
        );
    }
    assert_eq!(store.add(at(0), 6, 0), Added::Refused);
    assert_eq!(store.add(at(0), 4, 0), Added::Refused);
    assert_eq!(
        store.add(at(1), 10, 10),
        Added::Taken {
            evicted: vec![(5, 5), (6, 6)]
        }
    );
    assert_eq!(store.iter().collect::<Vec<_>>(), [(8, &8), (10, &10)]);
    assert_eq!(store.expire(at(10)), [8]);
    assert_eq!(store.get(8), None);
    // The tombstone refuses its own number and what lies too far below.
    assert_eq!(store.add(at(10), 8, 0), Added::Refused);
    assert_eq!(store.expire(at(20)), [10]);
    assert_eq!(store.len(), 1);
    assert!(!store.is_empty());
}

#[test]
fn a_window_at_the_ends_of_the_numbers() {
    let mut store = Window::new(u64::MAX, None);
    store.add(at(0), 0, ());
    assert_eq!(
        store.add(at(0), u64::MAX, ()),
        Added::Taken {
            evicted: Vec::new()
        }
    );
    let mut store = Window::new(0, None);
    store.add(at(0), 7, 'x');
    assert_eq!(
        store.add(at(0), 8, 'y'),
        Added::Taken {
            evicted: vec![(7, 'x')]
        }
    );
    assert_eq!(store.add(at(0), 7, 'x'), Added::Refused);
}

/// The store as Fabric has it: a list, scanned from the front.
struct Listed<T> {
    list: Vec<(T, u64)>,
    ttl: u64,
}

impl<T: Copy> Listed<T> {
    fn add(&mut self, now: u64, new: T, relation: impl Fn(T, T) -> Relation) -> bool {
        if self
            .list
            .iter()
            .any(|(old, _)| relation(new, *old) == Relation::Invalidated)
        {
            return false;
        }
        self.list
            .retain(|(old, _)| relation(new, *old) != Relation::Invalidates);
        self.list.push((new, now));
        true
    }

    fn visible(&mut self, now: u64) -> Vec<T> {
        self.list.retain(|(_, born)| now < born + 2 * self.ttl);
        self.list
            .iter()
            .filter(|(_, born)| now < born + self.ttl)
            .map(|(element, _)| *element)
            .collect()
    }
}

proptest! {
    #[test]
    fn latest_does_what_a_list_would(
        steps in prop::collection::vec((0u64..4, 0u8..4, 0u64..3, 0u64..4), 0..60),
    ) {
        let mut store = Latest::new(Some(TTL));
        let mut list = Listed { list: Vec::new(), ttl: 10 };
        let mut now = 0;
        for (wait, key, incarnation, sequence) in steps {
            now += wait;
            let time = PeerTime { incarnation, sequence };
            list.visible(now);
            store.expire(at(now));
            let expect = list.add(now, (key, time), |new, old| {
                if new.0 == old.0 { by_time(new.1, old.1) } else { Relation::NoAction }
            });
            prop_assert_eq!(store.add(at(now), key, time, (key, time)), expect);
            let mut expect = list.visible(now);
            expect.sort();
            let got: Vec<_> = store.iter().map(|(_, element)| *element).collect();
            prop_assert_eq!(got, expect);
            prop_assert_eq!(store.len(), list.list.len());
        }
    }

    #[test]
    fn window_does_what_a_list_would(
        steps in prop::collection::vec((0u64..4, 0u64..12), 0..60),
        width in 0u64..5,
    ) {
        let mut store = Window::new(width, Some(TTL));
        let mut list = Listed { list: Vec::new(), ttl: 10 };
        let mut now = 0;
        for (wait, number) in steps {
            now += wait;
            list.visible(now);
            store.expire(at(now));
            let expect = list.add(now, number, |new, old| by_distance(new, old, width));
            let got = store.add(at(now), number, number) != Added::Refused;
            prop_assert_eq!(got, expect);
            let mut expect = list.visible(now);
            expect.sort();
            let got: Vec<_> = store.iter().map(|(_, element)| *element).collect();
            prop_assert_eq!(got, expect);
            // Never grows past its width.
            prop_assert!(store.len() as u64 <= width + 1);
        }
    }
}
