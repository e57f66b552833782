//! What was said last about each thing, and what may be said no more.
//!
//! [`Latest`] keeps the latest message of each speaker, [`Window`] the highest blocks. Both
//! forget in two steps: after one time to live an element is no longer visible but still refuses
//! what it would have refused before; after two it is gone. Nothing here looks at a clock or
//! calls back: what fell out is returned.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
    time::Duration,
};

use crate::{
    id::{Moment, PeerTime},
    order::{self, Relation},
};

/// The latest message of each speaker.
#[derive(Clone, Debug)]
pub struct Latest<K, V> {
    entries: BTreeMap<K, (PeerTime, V)>,
    ages: Ages<K>,
}

impl<K: Ord + Clone, V> Latest<K, V> {
    /// An empty store. Without a time to live nothing is ever forgotten by age.
    pub fn new(ttl: Option<Duration>) -> Self {
        Self {
            entries: BTreeMap::new(),
            ages: Ages::new(ttl),
        }
    }

    /// Whether a message of this speaker and time would be taken.
    pub fn is_news(&self, key: &K, time: PeerTime) -> bool {
        self.entries
            .get(key)
            .is_none_or(|(stored, _)| order::by_time(time, *stored) == Relation::Invalidates)
    }

    /// Takes the message if it is news, in place of the one before.
    pub fn add(&mut self, now: Moment, key: K, time: PeerTime, value: V) -> bool {
        let is_news = self.is_news(&key, time);
        if is_news {
            self.ages.born(now, key.clone());
            self.entries.insert(key, (time, value));
        }
        is_news
    }

    /// The message of this speaker, unless it is too old.
    pub fn get(&self, key: &K) -> Option<&V> {
        let (_, value) = self.entries.get(key)?;
        self.ages.is_visible(key).then_some(value)
    }

    /// All messages that are not too old, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries
            .iter()
            .filter(|(key, _)| self.ages.is_visible(key))
            .map(|(key, (_, value))| (key, value))
    }

    /// All keys in this range whose message can become too old, those that only refuse others
    /// included, the one that was taken first at the front.
    pub fn by_age(&self, range: impl RangeBounds<K>) -> Vec<&K> {
        let mut lives: Vec<_> = self.ages.lives.range(range).collect();
        lives.sort_by_key(|(_, (end, life))| (*life == Life::Visible, *end));
        lives.into_iter().map(|(key, _)| key).collect()
    }

    /// Removes without a trace.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.ages.gone(key);
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// Removes without a trace what does not satisfy this.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let ages = &mut self.ages;
        self.entries.retain(|key, (_, value)| {
            let stays = keep(key, value);
            if !stays {
                ages.gone(key);
            }
            stays
        });
    }

    /// Number of elements, those that only refuse others included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ages to this moment. Returns the keys of what has just become too old.
    pub fn expire(&mut self, now: Moment) -> Vec<K> {
        let Expired { hidden, gone } = self.ages.advance(now);
        for key in &gone {
            self.entries.remove(key);
        }
        hidden
    }

    /// When [`Self::expire`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        self.ages.deadline()
    }
}

/// The highest blocks, no two of them further apart than a limit.
#[derive(Clone, Debug)]
pub struct Window<V> {
    entries: BTreeMap<u64, V>,
    width: u64,
    ages: Ages<u64>,
}

/// What [`Window::add`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added<V> {
    /// The element is there, or too far below others.
    Refused,
    /// Taken. These fell out, visible ones and those that only refused others.
    Taken {
        /// Numbers and elements, ascending.
        evicted: Vec<(u64, V)>,
    },
}

impl<V> Window<V> {
    /// An empty store for elements at most `width` apart.
    pub fn new(width: u64, ttl: Option<Duration>) -> Self {
        Self {
            entries: BTreeMap::new(),
            width,
            ages: Ages::new(ttl),
        }
    }

    /// Whether an element of this number would be taken.
    pub fn is_news(&self, number: u64) -> bool {
        let refuses =
            |stored: u64| order::by_distance(number, stored, self.width) == Relation::Invalidated;
        // Only the highest can be too far above, and only the same number equal.
        !self.entries.contains_key(&number)
            && !self.entries.keys().next_back().is_some_and(|n| refuses(*n))
    }

    /// Takes the element if it is news.
    pub fn add(&mut self, now: Moment, number: u64, value: V) -> Added<V> {
        if !self.is_news(number) {
            return Added::Refused;
        }
        let kept = self.entries.split_off(&number.saturating_sub(self.width));
        let evicted: Vec<_> = std::mem::replace(&mut self.entries, kept)
            .into_iter()
            .collect();
        for (old, _) in &evicted {
            self.ages.gone(old);
        }
        self.ages.born(now, number);
        self.entries.insert(number, value);
        Added::Taken { evicted }
    }

    /// The highest number.
    pub fn highest(&self) -> Option<u64> {
        self.entries.keys().next_back().copied()
    }

    /// No number below this one would be taken.
    pub fn lowest_news(&self) -> u64 {
        self.highest()
            .map_or(0, |highest| highest.saturating_sub(self.width))
    }

    /// The element of this number, unless it is too old.
    pub fn get(&self, number: u64) -> Option<&V> {
        let value = self.entries.get(&number)?;
        self.ages.is_visible(&number).then_some(value)
    }

    /// Removes without a trace.
    pub fn remove(&mut self, number: u64) -> Option<V> {
        self.ages.gone(&number);
        self.entries.remove(&number)
    }

    /// All elements that are not too old, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.entries
            .iter()
            .filter(|(number, _)| self.ages.is_visible(number))
            .map(|(number, value)| (*number, value))
    }

    /// Number of elements, those that only refuse others included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ages to this moment. Returns the numbers of what has just become too old.
    pub fn expire(&mut self, now: Moment) -> Vec<u64> {
        let Expired { hidden, gone } = self.ages.advance(now);
        for number in &gone {
            self.entries.remove(number);
        }
        hidden
    }

    /// When [`Self::expire`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        self.ages.deadline()
    }
}

/// When what ages next.
#[derive(Clone, Debug)]
struct Ages<K> {
    ttl: Option<Duration>,
    /// For each key the end of the life it is in.
    lives: BTreeMap<K, (Moment, Life)>,
    /// The same, by time.
    due: BTreeSet<(Moment, K)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Visible,
    Tombstone,
}

struct Expired<K> {
    hidden: Vec<K>,
    gone: Vec<K>,
}

impl<K: Ord + Clone> Ages<K> {
    fn new(ttl: Option<Duration>) -> Self {
        Self {
            ttl,
            lives: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    fn born(&mut self, now: Moment, key: K) {
        let Some(ttl) = self.ttl else { return };
        self.gone(&key);
        self.due.insert((now + ttl, key.clone()));
        self.lives.insert(key, (now + ttl, Life::Visible));
    }

    fn gone(&mut self, key: &K) {
        if let Some((end, _)) = self.lives.remove(key) {
            self.due.remove(&(end, key.clone()));
        }
    }

    fn is_visible(&self, key: &K) -> bool {
        self.lives
            .get(key)
            .is_none_or(|(_, life)| *life == Life::Visible)
    }

    fn advance(&mut self, now: Moment) -> Expired<K> {
        let mut expired = Expired {
            hidden: Vec::new(),
            gone: Vec::new(),
        };
        let Some(ttl) = self.ttl else { return expired };
        while self.due.first().is_some_and(|(end, _)| *end <= now) {
            let Some((end, key)) = self.due.pop_first() else {
                break;
            };
            match self.lives.remove(&key) {
                Some((_, Life::Visible)) => {
                    self.due.insert((end + ttl, key.clone()));
                    self.lives.insert(key.clone(), (end + ttl, Life::Tombstone));
                    expired.hidden.push(key);
                }
                Some((_, Life::Tombstone)) | None => expired.gone.push(key),
            }
        }
        expired
    }

    fn deadline(&self) -> Option<Moment> {
        self.due.first().map(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests;
