//! Plain peers get whole blocks from the member that looks after them, in order and never far
//! ahead of what they have.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// The next of ours that it may have now.
    fn next(&self) -> Option<u64> {
        let limit = self
            .advertised
            .max(self.given)
            .saturating_add(PLAIN_AHEAD_MAX);
        let next = self.waiting.range(self.advertised..).next().copied();
        next.filter(|number| *number <= limit)
    }
}

/// All plain peers.
#[derive(Debug, Default)]
pub(super) struct Wards {
    all: BTreeMap<PkiId, Ward>,
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
        for (peer, ward) in &mut self.wards.all {
            let has_more = !ward.waiting.is_empty() || !ward.unconfirmed.is_empty();
            if has_more && now.since(ward.moved) >= PLAIN_STILL {
                // What it says of itself counts again, and what was given in vain is given anew.
                ward.moved = now;
                ward.given = ward.advertised;
                ward.is_pushed = true;
                ward.waiting.append(&mut ward.unconfirmed);
            }
            while let Some(number) = ward.next() {
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
