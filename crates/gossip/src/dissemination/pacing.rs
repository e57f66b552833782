//! A leader sends no more, and takes no more from the orderer, than its members take from it.
//!
//! Members acknowledge what they pass on when they get to it, so a member that does not keep up is
//! late with that. While many are late, blocks wait here, and the edge is to hold back what comes next:
//! queues would fill, and what found no room in them would be asked for, or fetched, at more cost. For
//! how long it holds a block back is for the edge to limit, so nobody keeps a leader from its blocks by
//! saying nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Dissemination, Effect, parameters::Parameters};
use crate::id::{Moment, PkiId};

/// Acknowledgements that are awaited before the next block is sent. Those below pass blocks on in turn,
/// so about three times as many are under way, and overtake each other; a member takes more than these
/// beyond what it has ([`super::parameters::AHEAD_MAX`]).
const AWAITED_MAX: usize = 6;

/// Of one block no more count than these, and of one member for so many blocks. So there are three blocks
/// under way at least, however they are cut, and in a small organization half of the
/// members must be as late as this: few that are slow hold nobody up.
const AWAITED_EACH_MAX: usize = 2;

/// So many times as many are under way where messages take long.
const FAR_FACTOR: usize = 4;

/// Blocks that wait here. They are kept for those that ask in any case; of more the oldest go out.
const WAITING_MAX: usize = 64;

/// What a leader has not sent yet.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    waiting: VecDeque<u64>,
    /// Told to the edge.
    is_held: bool,
}

impl Dissemination {
    /// As the leader: sends a block by the trees that were chosen for it, in its turn.
    pub(super) fn inject(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        self.pacing.waiting.push_back(number);
        self.pace(now, out);
    }

    /// As the leader: sends what waits as far as members are ready, and says whether the next block
    /// is to be held back.
    pub(super) fn pace(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let leads = self.leader.is_me();
        let mut is_held = leads && self.is_too_fast(now);
        while !is_held || self.pacing.waiting.len() > WAITING_MAX {
            let Some(number) = self.pacing.waiting.pop_front() else {
                break;
            };
            self.send_out(now, number, out);
            is_held = leads && self.is_too_fast(now);
        }
        if std::mem::replace(&mut self.pacing.is_held, is_held) != is_held {
            out.push(Effect::Hold(is_held));
        }
    }

    fn send_out(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        block.waits = false;
        let group = block.group.as_ref();
        for stripe in 0..group.map_or(0, |group| group.cut.stripes()) {
            self.forward(now, number, stripe, out);
        }
        self.note_injection();
    }

    fn is_too_fast(&mut self, now: Moment) -> bool {
        if self.acks.len() < AWAITED_EACH_MAX {
            return false;
        }
        let factor = match Parameters::is_local(self.latency()) {
            true => 1,
            false => FAR_FACTOR,
        };
        let view = self.views.in_use(now, &self.me);
        let others = view.map_or(0, |view| view.members.len().saturating_sub(1));
        let of_each_max = AWAITED_EACH_MAX * factor;
        let many = (AWAITED_MAX * factor).min(of_each_max * others.div_ceil(2));
        let mut of_each: BTreeMap<&PkiId, BTreeSet<u64>> = BTreeMap::new();
        let (mut count, mut of_block) = (0, (0, 0));
        for (number, _, peer) in self.acks.keys() {
            if of_block.0 != *number {
                of_block = (*number, 0);
            }
            let awaited = of_each.entry(peer).or_default();
            let counts = of_block.1 < AWAITED_EACH_MAX
                && awaited.len() < of_each_max
                && awaited.insert(*number);
            of_block.1 += usize::from(counts);
            count += usize::from(counts);
            if count >= many {
                return true;
            }
        }
        false
    }
}
