//! What of a channel's standings is in memory: rows on their way to the disk, how far organizations
//! were heard and of whom, which answers went stale, and which blocks are kept back. Pure.
//!
//! Promises that nothing in here grows without end. Knows nothing of disks, tasks or metrics.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::word::Word;

/// How long a block that was just committed is kept back from clients who follow the chain, so that
/// they get its codes. Peers have them some milliseconds after the block.
pub(super) const HELD_MAX: Duration = Duration::from_secs(3);

/// Blocks that are kept back. Who commits faster catches up, and nobody waits for codes then.
const FRESH_MAX: usize = 1024;

/// Blocks whose last change is known, each some fifty bytes. What was made of older ones is made
/// again.
const STAMPS_MAX: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Rows that are not on disk, and newer than those that are.
    pub(super) unsaved: BTreeMap<u64, Word>,
    /// The next block of each organization. At most as many as are followed, over all starts.
    pub(super) next: BTreeMap<String, u64>,
    /// Organizations of the channel's configuration.
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) stamps: Stamps,
    pub(super) fresh: Fresh,
}

/// Of whom an organization is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A peer at this endpoint is connected and was asked.
    Heard(String),
    /// Nobody, and why.
    Silent(String),
}

/// When codes that are shown changed, so that what was made of earlier ones is not used any more.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    last: u64,
    of: BTreeMap<u64, u64>,
    /// Of all others.
    floor: u64,
}

/// Blocks that were just committed and whose standing is not clear, with the end of waiting.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    until: BTreeMap<u64, Instant>,
    pub(super) height: u64,
}

impl Known {
    /// Notes of whom an organization is heard, or why it is not. Says whether it was the other before.
    pub(super) fn note_source(&mut self, org: &str, source: Source) -> bool {
        let before = self.heard_len();
        self.sources.insert(org.to_owned(), source);
        before != self.heard_len()
    }

    /// These are the organizations of the channel; of those that nobody follows, why. Says whether
    /// one that was heard is gone.
    pub(super) fn note_organizations(
        &mut self,
        organizations: BTreeMap<String, Option<String>>,
    ) -> bool {
        let before = self.heard_len();
        self.sources
            .retain(|org, _| organizations.contains_key(org));
        for (org, reason) in organizations {
            if let Some(reason) = reason {
                self.sources.insert(org, Source::Silent(reason));
                continue;
            }
            let begun = || Source::Silent("a peer of it is being connected to".to_owned());
            self.sources.entry(org).or_insert_with(begun);
        }
        before != self.heard_len()
    }

    /// An organization has been heard of all blocks below this one, or is not asked for them.
    pub(super) fn go_on(&mut self, org: &str, next: u64) {
        let known = self.next.entry(org.to_owned()).or_insert(1);
        *known = next.max(*known);
    }

    /// Below which of the `have` committed blocks, from `next` on, a client may be given blocks; or
    /// until when the next one is kept back at most. Where fewer organizations are heard than have to
    /// agree, or are so far behind that these blocks are not their next ones, nobody waits for the others.
    pub(super) fn ready_below(
        &self,
        next: u64,
        have: u64,
        wanted: usize,
        now: Instant,
    ) -> Result<u64, Instant> {
        let reach = next.saturating_sub(FRESH_MAX as u64);
        let near = |org: &String| self.next.get(org).copied().unwrap_or(1) >= reach;
        let heard = self.heard().filter(|org| near(org));
        if heard.count() < wanted {
            return Ok(have);
        }
        let mut held = self.fresh.until.range(next..have.max(next));
        match held.find(|(_, until)| **until > now) {
            Some((first, until)) if *first == next => Err(*until),
            Some((first, _)) => Ok(*first),
            None => Ok(have),
        }
    }

    fn heard(&self) -> impl Iterator<Item = &String> {
        let heard = self.sources.iter();
        heard.filter_map(|(org, source)| matches!(source, Source::Heard(_)).then_some(org))
    }

    fn heard_len(&self) -> usize {
        self.heard().count()
    }
}

impl Stamps {
    pub(super) fn of(&self, number: u64) -> u64 {
        self.of.get(&number).copied().unwrap_or(self.floor)
    }

    pub(super) fn change(&mut self, number: u64) {
        self.last += 1;
        self.of.insert(number, self.last);
        if self.of.len() > STAMPS_MAX
            && let Some((_, stamp)) = self.of.pop_first()
        {
            self.floor = self.floor.max(stamp);
        }
    }
}

impl Fresh {
    /// The ledger has so many blocks at this time.
    pub(super) fn note(&mut self, height: u64, now: Instant) {
        while let Some(first) = self.until.first_entry()
            && *first.get() <= now
        {
            first.remove();
        }
        let first = self.height.max(height.saturating_sub(FRESH_MAX as u64));
        for number in first..height {
            self.until.insert(number, now + HELD_MAX);
            if self.until.len() > FRESH_MAX {
                self.until.pop_first();
            }
        }
        self.height = self.height.max(height);
    }

    /// Of this block all is said. Tells whether somebody may wait for it.
    pub(super) fn release(&mut self, number: u64) -> bool {
        self.until.remove(&number).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(known: &mut Known, org: &str) -> bool {
        known.note_source(org, Source::Heard(format!("{org}:1")))
    }

    #[test]
    fn who_follows_the_chain_waits_while_enough_are_heard() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.fresh.height = 1;
        known.fresh.note(3, now);
        let end = now + HELD_MAX;
        assert!(heard(&mut known, "A"));
        assert_eq!(known.ready_below(1, 3, 2, now), Ok(3), "A alone");
        assert!(heard(&mut known, "B"));
        assert!(!heard(&mut known, "B"), "another peer of it");
        assert_eq!(known.ready_below(0, 3, 2, now), Ok(1));
        assert_eq!(known.ready_below(1, 3, 2, now), Err(end));
        assert_eq!(known.ready_below(1, 3, 2, end), Ok(3));
        assert!(known.note_source("B", Source::Silent("is gone".to_owned())));
        assert_eq!(known.ready_below(1, 3, 2, now), Ok(3), "B is gone");
        heard(&mut known, "B");
        assert!(known.fresh.release(1) && !known.fresh.release(1));
        assert_eq!(known.ready_below(1, 3, 2, now), Ok(2));
        let far = 2 + FRESH_MAX as u64;
        known.fresh.note(far + 1, now);
        assert_eq!(
            known.ready_below(far, far + 1, 2, now),
            Ok(far + 1),
            "what both are asked is old"
        );
        known.go_on("A", 2);
        known.go_on("B", far);
        assert_eq!(known.ready_below(far, far + 1, 2, now), Err(end));
    }

    #[test]
    fn every_organization_of_the_channel_is_there_and_no_other() {
        let mut known = Known::default();
        heard(&mut known, "A");
        heard(&mut known, "B");
        let of_channel = [("B", None), ("C", Some("no peer")), ("D", None)];
        let of_channel = of_channel.map(|(org, why)| (org.to_owned(), why.map(str::to_owned)));
        assert!(known.note_organizations(of_channel.into()), "A is gone");
        let expected = [
            ("B".to_owned(), Source::Heard("B:1".to_owned())),
            ("C".to_owned(), Source::Silent("no peer".to_owned())),
        ];
        let begun = known.sources.remove("D").unwrap();
        assert!(matches!(begun, Source::Silent(_)), "not heard yet");
        assert_eq!(known.sources, expected.into());
    }

    #[test]
    fn nobody_goes_back() {
        let mut known = Known::default();
        known.go_on("A", 9);
        known.go_on("A", 7);
        assert_eq!(known.next["A"], 9);
    }

    #[test]
    fn what_is_kept_in_memory_has_an_end() {
        let mut stamps = Stamps::default();
        for number in 0..STAMPS_MAX as u64 + 5 {
            stamps.change(number);
        }
        assert_eq!((stamps.of.len(), stamps.floor), (STAMPS_MAX, 5));
        assert_eq!((stamps.of(4), stamps.of(5)), (5, 6));
        let mut fresh = Fresh::default();
        let now = Instant::now();
        fresh.note(FRESH_MAX as u64, now);
        assert_eq!(fresh.until.len(), FRESH_MAX);
        fresh.note(FRESH_MAX as u64 + 2, now);
        assert_eq!(fresh.until.len(), FRESH_MAX);
        assert!(!fresh.until.contains_key(&1));
        fresh.note(u64::MAX, now);
        assert_eq!(fresh.until.len(), FRESH_MAX);
        fresh.note(u64::MAX, now + HELD_MAX);
        assert!(fresh.until.is_empty());
    }
}
