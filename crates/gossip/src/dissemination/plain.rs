//! Plain peers get whole blocks from the member that looks after them, in order and never far
//! ahead of what they have.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    Dissemination, Effect, PlainPeer,
    parameters::{KEPT_MAX, PLAIN_AHEAD_MAX, PLAIN_STILL, PlainDelivery},
    permutation,
    timers::Timer,
};
use crate::id::{Moment, PkiId};

/// How often it is looked whether plain peers move.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a plain peer says of its height is at most this old: twice the time between state infos.
const ADVERTISED_AGE_MAX: Duration = Duration::from_secs(8);

/// How often it is noted how far we are.
const NOTE_INTERVAL: Duration = Duration::from_millis(500);

/// A plain peer.
#[derive(Clone, Debug)]
struct Ward {
    advertised: u64,
    moved: Moment,
    /// One more than the last block that we gave it.
    given: u64,
    /// Ours to give, and not given yet or given in vain.
    waiting: BTreeSet<u64>,
    /// Ours that were given and that it has not shown to have.
    unconfirmed: BTreeSet<u64>,
    /// Quiet delivery does not move it.
    is_pushed: bool,
}

impl Ward {
    /// The next of ours that it may have now. One that keeps pace with us has what others gave it,
    /// though it has not said so yet.
    fn next(&self, progress: &Progress) -> Option<u64> {
        let keeps_pace = self.advertised.saturating_add(PLAIN_AHEAD_MAX) >= progress.earlier();
        let has = match keeps_pace && !self.is_pushed {
            true => self.advertised.max(self.given).max(progress.now),
            false => self.advertised.max(self.given),
        };
        let next = self.waiting.range(self.advertised..).next().copied();
        next.filter(|number| *number <= has.saturating_add(PLAIN_AHEAD_MAX))
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

    pub(super) fn replace(&mut self, now: Moment, plain: &[PlainPeer]) {
        let mut before = std::mem::take(&mut self.all);
        for PlainPeer { peer, height } in plain {
            let ward = before.remove(peer).unwrap_or(Ward {
                advertised: *height,
                moved: now,
                given: 0,
                waiting: BTreeSet::new(),
                unconfirmed: BTreeSet::new(),
                is_pushed: false,
            });
            let ward = self.all.entry(*peer).or_insert(ward);
            if *height > ward.advertised {
                ward.advertised = *height;
                ward.moved = now;
                ward.is_pushed = false;
                ward.waiting = ward.waiting.split_off(height);
                ward.unconfirmed = ward.unconfirmed.split_off(height);
            }
        }
    }
}

impl Dissemination {
    /// A block is here: it is given to those plain peers that we look after for it.
    pub(super) fn give_to_wards(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        // Where blocks do not travel by stripes they are pushed to everybody.
        if self.wards.all.is_empty() || !self.is_active(now) {
            return;
        }
        let group = self
            .blocks
            .get(&number)
            .and_then(|block| block.group.as_ref());
        let way = group.and_then(|group| group.way(0));
        let of_way = way.and_then(|way| self.views.find(way.epoch));
        let view = of_way.or_else(|| self.views.latest());
        let place = view.map(|view| {
            let order = self.drawer.order(&self.channel, &view, number);
            (order, view)
        });
        for (peer, ward) in &mut self.wards.all {
            let guardian = place.as_ref().and_then(|(order, view)| {
                let rank = permutation::guardian(peer.as_bytes(), order.seed, order.normal());
                view.member(order.at(rank)?)
            });
            // Where nobody but the root takes part it looks after all.
            let guardian = guardian.map_or(self.me, |(guardian, _)| guardian);
            if guardian == self.me && number >= ward.advertised {
                if ward.waiting.is_empty() && ward.unconfirmed.is_empty() {
                    // It could not move before there was anything for it.
                    ward.moved = now;
                }
                ward.waiting.insert(number);
                if ward.waiting.len() > KEPT_MAX as usize {
                    ward.waiting.pop_last();
                }
            }
        }
        self.look_after(now, out);
    }

    /// Gives plain peers what they may have by now, and tries anew where nothing moves.
    pub(super) fn look_after(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let mut is_busy = false;
        let prefix = self.prefix();
        let Wards { all, progress } = &mut self.wards;
        progress.note(now, prefix);
        for (peer, ward) in all {
            let has_more = !ward.waiting.is_empty() || !ward.unconfirmed.is_empty();
            if has_more && now.since(ward.moved) >= PLAIN_STILL {
                // What it says of itself counts again, and what was given in vain is given anew.
                ward.moved = now;
                ward.given = ward.advertised;
                ward.is_pushed = true;
                ward.waiting.append(&mut ward.unconfirmed);
            }
            while let Some(number) = ward.next(progress) {
                ward.waiting.remove(&number);
                let whole = self.blocks.get(&number).and_then(|block| block.whole());
                let Some(block) = whole else {
                    continue;
                };
                let how = match self.parameters.plain_delivery {
                    PlainDelivery::Quiet if !ward.is_pushed => PlainDelivery::Quiet,
                    _ => PlainDelivery::Push,
                };
                ward.given = ward.given.max(number.saturating_add(1));
                ward.unconfirmed.insert(number);
                if ward.unconfirmed.len() > KEPT_MAX as usize {
                    ward.unconfirmed.pop_first();
                }
                out.push(Effect::GivePlain {
                    to: *peer,
                    block: block.clone(),
                    how,
                });
            }
            is_busy |= !ward.waiting.is_empty() || !ward.unconfirmed.is_empty();
        }
        if is_busy && !self.timers.is_armed(Timer::Plain) {
            self.timers.arm(Timer::Plain, now + LOOK_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    fn ward(advertised: u64, waiting: u64) -> Ward {
        Ward {
            advertised,
            moved: Moment::ZERO,
            given: 0,
            waiting: [waiting].into(),
            unconfirmed: BTreeSet::new(),
            is_pushed: false,
        }
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
        assert_eq!(ward(100, 190).next(&progress), Some(190));
        assert_eq!(ward(150, 200).next(&progress), Some(200));
        assert_eq!(ward(150, 201).next(&progress), None);
        // It is behind what it could have said: its own word counts.
        assert_eq!(ward(99, 110).next(&progress), None);
        assert_eq!(ward(99, 109).next(&progress), Some(109));
        let stuck = Ward {
            is_pushed: true,
            ..ward(150, 161)
        };
        assert_eq!(stuck.next(&progress), None);
    }

    #[test]
    fn a_ward_that_is_far_behind_at_the_start_is_not_believed_to_keep_pace() {
        let mut progress = Progress::default();
        progress.note(at(0), 5000);
        assert_eq!(ward(4000, 5000).next(&progress), None);
        assert_eq!(ward(4990, 5000).next(&progress), Some(5000));
    }
}
