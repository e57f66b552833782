//! Plain peers get whole blocks from the member that looks after them, at once and never far ahead of
//! what they have. Each block is given once: what gets lost is theirs to pull.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{Dissemination, Effect, PlainPeer, parameters::PLAIN_AHEAD_MAX, permutation};
use crate::id::{Moment, PkiId};

/// What a plain peer says of its height is at most this old: twice the time between state infos.
const ADVERTISED_AGE_MAX: Duration = Duration::from_secs(8);

/// A plain peer that keeps pace says to be where we were no longer ago than this, when its word is
/// fresh.
const FRESH_TIME: Duration = Duration::from_millis(500);

/// One word may have come late. So many in a row did not: their peer is behind.
const STALE_WORDS_MAX: u8 = 2;

/// How often it is noted how far we are.
const NOTE_INTERVAL: Duration = Duration::from_millis(500);

/// A plain peer.
#[derive(Clone, Copy, Debug)]
struct Ward {
    advertised: u64,
    /// How many of its last words were that it is behind.
    stale_words: u8,
    /// One more than the last block that we gave it.
    given: u64,
}

impl Ward {
    /// Whether it may be given this block. It may have what it has not said to have: one that
    /// keeps pace with us is given by others what we do not give it.
    fn takes(&self, number: u64, progress: &Progress) -> bool {
        let keeps_pace = self.stale_words < STALE_WORDS_MAX
            && self.advertised.saturating_add(PLAIN_AHEAD_MAX) >= progress.earlier();
        let has = match keeps_pace {
            true => self.advertised.max(self.given).max(progress.now),
            false => self.advertised.max(self.given),
        };
        number >= self.advertised && number <= has.saturating_add(PLAIN_AHEAD_MAX)
    }
}

/// How far we ourselves were.
#[derive(Debug, Default)]
struct Progress {
    /// Every block below is here.
    now: u64,
    /// The same, earlier: the first is what counts, or will.
    before: VecDeque<(Moment, u64)>,
}

impl Progress {
    fn note(&mut self, now: Moment, height: u64) {
        self.now = height;
        let last = self.before.back().copied();
        if last.is_none_or(|(at, _)| now.since(at) >= NOTE_INTERVAL) {
            self.before.push_back((now, height));
        }
        let is_old = |it: Option<&(Moment, u64)>| {
            it.is_some_and(|(at, _)| now.since(*at) >= ADVERTISED_AGE_MAX)
        };
        while is_old(self.before.get(1)) {
            self.before.pop_front();
        }
    }

    /// As far as a fresh word of somebody who keeps pace is.
    fn at_least(&self, now: Moment) -> u64 {
        let is_then = |it: &&(Moment, u64)| now.since(it.0) >= FRESH_TIME;
        let noted = self.before.iter().rev().find(is_then);
        noted
            .or_else(|| self.before.front())
            .map_or(self.now, |it| it.1)
    }

    /// As far as somebody who keeps pace must have said to be by now.
    fn earlier(&self) -> u64 {
        self.before.front().map_or(self.now, |(_, height)| *height)
    }
}

/// All plain peers.
#[derive(Debug, Default)]
pub(super) struct Wards {
    all: BTreeMap<PkiId, Ward>,
    progress: Progress,
}

impl Wards {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn has(&self, peer: &PkiId) -> bool {
        self.all.contains_key(peer)
    }

    /// `prefix` is how far we are ourselves.
    pub(super) fn replace(&mut self, now: Moment, prefix: u64, plain: &[PlainPeer]) {
        if !plain.is_empty() {
            self.progress.note(now, prefix);
        }
        let needed = self.progress.at_least(now);
        let mut before = std::mem::take(&mut self.all);
        for PlainPeer { peer, height } in plain {
            let is_behind = height.saturating_add(PLAIN_AHEAD_MAX) < needed;
            let (stale_words, word) = match before.get(peer) {
                // Of who is new nothing better was heard before.
                None => (STALE_WORDS_MAX, true),
                Some(known) => (
                    known.stale_words.saturating_add(1),
                    *height > known.advertised,
                ),
            };
            let ward = before.remove(peer).unwrap_or(Ward {
                advertised: *height,
                stale_words,
                given: 0,
            });
            let ward = self.all.entry(*peer).or_insert(ward);
            ward.advertised = ward.advertised.max(*height);
            if word {
                ward.stale_words = if is_behind { stale_words } else { 0 };
            }
        }
    }
}

impl Dissemination {
    /// A block is here: it is given to those plain peers that we look after for it.
    pub(super) fn give_to_wards(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        if self.wards.all.is_empty() {
            return;
        }
        let prefix = self.prefix();
        self.wards.progress.note(now, prefix);
        let Some(here) = self.blocks.get(&number) else {
            return;
        };
        let Some(whole) = here.whole() else {
            return;
        };
        let way = here.group.as_ref().and_then(|group| group.way(0));
        let of_way = way.and_then(|way| self.views.find(way.epoch));
        let view = of_way.or_else(|| self.view_that_counts(now));
        // Where blocks do not travel by stripes they are pushed to everybody.
        let carries = view.as_ref().is_some_and(|view| self.suffices(view));
        if !carries || !self.has_length(whole.bytes.len()) {
            return;
        }
        let place = view.map(|view| {
            let order = self.drawer.order(&self.channel, &view, number);
            (order, view)
        });
        let Wards { all, progress } = &mut self.wards;
        for (peer, ward) in all {
            let guardian = place.as_ref().and_then(|(order, view)| {
                let rank = permutation::guardian(peer.as_bytes(), order.seed, order.normal());
                view.member(order.at(rank)?)
            });
            // Where nobody but the root takes part it looks after all.
            let guardian = guardian.map_or(self.me, |(guardian, _)| guardian);
            if guardian == self.me && ward.takes(number, progress) {
                ward.given = ward.given.max(number.saturating_add(1));
                out.push(Effect::GivePlain {
                    to: *peer,
                    block: whole.clone(),
                    how: self.parameters.plain_delivery,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    fn ward(advertised: u64) -> Ward {
        Ward {
            advertised,
            stale_words: 0,
            given: 0,
        }
    }

    #[test]
    fn who_says_twice_to_be_behind_is_given_no_more_than_it_can_keep() {
        let me = PkiId::new([9; 32]);
        let mut wards = Wards::default();
        let mut say = |second: u64, height: u64| {
            for half in 0..=second * 2 {
                let then = Moment::after_start(Duration::from_millis(half * 500));
                if wards.progress.before.back().is_none_or(|it| it.0 < then) {
                    wards.progress.note(then, half * 10);
                }
            }
            let word = [PlainPeer { peer: me, height }];
            wards.replace(at(second), second * 20, &word);
            let Wards { all, progress } = &wards;
            let most = (0..2_000).rev().find(|n| all[&me].takes(*n, progress));
            most.expect("it may always have the next")
        };
        assert_eq!(say(0, 0), 10);
        // It keeps pace, and one word comes late.
        assert_eq!(say(4, 78), 80 + 10);
        assert_eq!(say(8, 90), 160 + 10);
        assert_eq!(say(12, 239), 240 + 10);
        // It commits more slowly than we do. Eight seconds ago we were there, and that is not enough.
        assert_eq!(say(16, 270), 320 + 10);
        assert_eq!(say(20, 310), 310 + 10);
        assert_eq!(say(21, 310), 310 + 10, "nothing new");
        assert_eq!(say(24, 360), 360 + 10);
        assert_eq!(say(28, 555), 560 + 10, "it has caught up");
    }

    #[test]
    fn who_keeps_pace_is_given_more_than_it_said_to_be_ready_for() {
        let mut progress = Progress::default();
        for second in 0..20 {
            progress.note(at(second), second * 10);
        }
        assert_eq!((progress.now, progress.earlier()), (190, 110));
        assert_eq!(progress.before.len(), 9);
        // It said 8 s ago what it must have said by now, or something newer.
        assert!(ward(100).takes(190, &progress));
        assert!(ward(150).takes(200, &progress));
        assert!(!ward(150).takes(201, &progress));
        // It is behind what it could have said: its own word counts.
        assert!(!ward(99).takes(110, &progress));
        assert!(ward(99).takes(109, &progress));
    }

    #[test]
    fn a_ward_that_is_far_behind_at_the_start_is_not_believed_to_keep_pace() {
        let mut progress = Progress::default();
        progress.note(at(0), 5000);
        assert!(!ward(4000).takes(5000, &progress));
        assert!(ward(4990).takes(5000, &progress));
    }

    #[test]
    fn what_a_ward_has_is_not_given() {
        assert!(!ward(5).takes(4, &Progress::default()));
        assert!(ward(5).takes(5, &Progress::default()));
    }
}
