//! A leader sends no more, and takes no more from the orderer, than its members take from it.
//!
//! Members acknowledge what they pass on when they get to it, so a member that does not keep up is
//! late with that. While many are late, blocks wait here, and the edge is to hold back what comes next:
//! queues would fill, and what found no room in them would be asked for, or fetched, at more cost. For
//! how long it holds a block back is for the edge to limit, so nobody keeps a leader from its blocks by
//! saying nothing.

use std::{collections::VecDeque, time::Duration};

use super::{Dissemination, Effect, parameters::Parameters, timers::Timer};
use crate::id::{Moment, PkiId};

/// So many members are waited for, or half of all, but two at least: if no fewer are late, the next
/// block is not sent yet. A single slow member holds nobody up.
const LATE_MAX: usize = 3;

/// A member is late with so many blocks. Others may be late with less, as long as it comes to the
/// same. Those below pass blocks on in turn, so about three times as many are under way, and overtake each
/// other; a member takes more than these beyond what it has ([`super::parameters::AHEAD_MAX`]).
const AWAITED_EACH_MAX: usize = 2;

/// An acknowledgement that is missing for longer does not count, so that silent members make others wait
/// no longer than this for every few blocks.
const COUNTS_FOR: Duration = Duration::from_millis(100);

/// So many times as many blocks, for so many times as long, where messages take long.
const FAR_FACTOR: u8 = 4;

/// Blocks that wait here; of more the oldest go out.
const WAITING_MAX: usize = 64;

/// Bytes of blocks that wait here, a share of those that are kept for others; of more the oldest go out.
const WAITING_BYTES_MAX: usize = super::parameters::KEPT_BYTES_MAX / 4;

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

    /// Goes on where something waits, or the edge does: nothing else brings that about but a block.
    pub(super) fn go_on(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if self.pacing.is_held {
            self.pace(now, out);
        }
    }

    /// As the leader: sends what waits as far as members are ready, and says whether the next block
    /// is to be held back.
    fn pace(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let mut held_until = self.held_until(now);
        while held_until.is_none() || self.is_too_much() {
            let Some(number) = self.pacing.waiting.pop_front() else {
                break;
            };
            self.send_out(now, number, out);
            held_until = self.held_until(now);
        }
        match held_until {
            Some(until) => self.timers.arm(Timer::Pace, until),
            None => self.timers.cancel(Timer::Pace),
        }
        let is_held = held_until.is_some();
        if std::mem::replace(&mut self.pacing.is_held, is_held) != is_held {
            out.push(Effect::Hold(is_held));
        }
    }

    /// The first block that waits: what members are to know of ends before it.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        self.pacing.waiting.iter().min().copied()
    }

    fn is_too_much(&self) -> bool {
        let waiting = &self.pacing.waiting;
        let blocks = waiting.iter().filter_map(|number| self.blocks.get(number));
        let bytes = blocks.filter_map(|block| Some(block.whole()?.bytes.len()));
        waiting.len() > WAITING_MAX || bytes.sum::<usize>() > WAITING_BYTES_MAX
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

    /// As the leader, while many acknowledgements are missing: until when, if none comes.
    fn held_until(&mut self, now: Moment) -> Option<Moment> {
        if self.acks.len() < AWAITED_EACH_MAX || !self.leader.is_me() {
            return None;
        }
        let factor = match Parameters::is_local(self.latency()) {
            true => 1,
            false => FAR_FACTOR,
        };
        let view = self.views.in_use(now, &self.me);
        let others = view.map_or(0, |view| view.members.len().saturating_sub(1));
        let counts_for = COUNTS_FOR * factor.into();
        let of_each_max = AWAITED_EACH_MAX * usize::from(factor);
        let many = of_each_max * others.div_ceil(2).clamp(2, LATE_MAX);
        // Who is late, with how many blocks, the last of which was this.
        let mut late: Vec<(&PkiId, usize, u64)> = Vec::new();
        let (mut count, mut of_block, mut until) = (0, (0, 0), None);
        for ((number, _, peer), awaited) in &self.acks {
            let since = awaited.front().map(|awaited| awaited.since());
            let Some(ends) = since.map(|at| at + counts_for).filter(|at| *at > now) else {
                continue;
            };
            if of_block.0 != *number {
                of_block = (*number, 0);
            }
            // However it is cut, one block alone is not much.
            if of_block.1 >= AWAITED_EACH_MAX {
                continue;
            }
            match late.iter_mut().find(|it| it.0 == peer) {
                Some((_, blocks, last)) if *blocks >= of_each_max || last == number => continue,
                Some((_, blocks, last)) => (*blocks, *last) = (*blocks + 1, *number),
                None => late.push((peer, 1, *number)),
            }
            of_block.1 += 1;
            count += 1;
            until = until.map_or(Some(ends), |until: Moment| Some(until.min(ends)));
            if count >= many {
                return until;
            }
        }
        None
    }
}
