//! Statuses: what we have, told to somebody now and then while blocks come, and what others say of
//! themselves. They repair what no announcement brought.

use rand::RngExt;

use super::{
    Dissemination, Effect,
    block::{Announcer, Block, State},
    forward::have,
    message::{Have, Message, STATUS_AHEAD, Status},
    parameters::{AHEAD_MAX, ASKED_MAX, Parameters, QUIET_AFTER},
    timers::Timer,
};
use crate::id::{Moment, PkiId};

impl Dissemination {
    /// Statuses begin, or go on, when a block is seen.
    pub(super) fn begin_status(&mut self, now: Moment) {
        if !self.timers.is_armed(Timer::Status) {
            let latency = self.latency();
            let interval = Parameters::status_interval(latency);
            let phase = interval.mul_f64(self.rng.random_range(0.0..1.0));
            self.timers.arm(Timer::Status, now + phase);
        }
    }

    pub(super) fn tell_status(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if self
            .last_block
            .is_none_or(|at| now.since(at) >= QUIET_AFTER)
        {
            return;
        }
        let latency = self.latency();
        self.timers
            .arm(Timer::Status, now + Parameters::status_interval(latency));
        if let Some(peer) = self.anybody() {
            let status = self.status(false);
            self.send(now, peer, Message::Status(status), out);
        }
    }

    pub(super) fn status(&self, answer: bool) -> Status {
        // What waits to be sent will come: nobody is to ask for it.
        let height = self.first_waiting().unwrap_or(u64::MAX).min(self.prefix());
        let mut ahead = [0; 4];
        for (number, block) in self
            .blocks
            .range(height..height.saturating_add(STATUS_AHEAD))
        {
            if block.whole().is_some() && !block.waits {
                let bit = number - height;
                if let Some(word) = ahead.get_mut(usize::try_from(bit / 64).unwrap_or(4)) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
        Status {
            answer,
            height,
            ahead,
            counters: self.counters,
        }
    }

    pub(super) fn take_status(
        &mut self,
        now: Moment,
        from: PkiId,
        status: Status,
        out: &mut Vec<Effect>,
    ) {
        if status.answer {
            let status = self.status(false);
            self.send(now, from, Message::Status(status), out);
        }
        let Some(neighbour) = self.neighbours.find_mut(&from) else {
            return;
        };
        neighbour.counters = status.counters;
        if neighbour.is_distrusted(now) {
            return;
        }
        let has = |number: u64| has(&status, number);
        let prefix = self.prefix();
        let near = prefix..prefix.saturating_add(AHEAD_MAX);
        for number in near.filter(|number| has(*number)) {
            let block = self.blocks.get(&number);
            if block.is_none_or(|block| matches!(block.state, State::Open)) {
                self.heard_of(now, number, Announcer::of_anything(from));
                self.note_news(now, number);
            } else if block.is_some_and(|block| matches!(block.state, State::Ignored)) {
                self.fetch_again(now, number, out);
            }
        }
        let latency = self.latency();
        let interval = Parameters::status_interval(latency);
        let is_due = |block: &Block| block.completed.is_some_and(|at| now.since(at) > interval);
        let lacking = self
            .blocks
            .range(status.height..)
            .filter(|(number, _)| !has(**number));
        let lacking =
            lacking.filter(|(_, block)| block.whole().is_some() && !block.waits && is_due(block));
        let groups = lacking.filter_map(|(number, block)| Some((*number, block.group.as_ref()?)));
        let told: Vec<_> = groups
            .take(ASKED_MAX)
            .map(|(number, g)| (number, g.hash, g.cut))
            .collect();
        for (number, hash, cut) in told {
            self.send(
                now,
                from,
                have(number, (hash, cut), Have::COMPLETE, false),
                out,
            );
        }
    }
}

/// Whether a status says that its sender has this block.
fn has(status: &Status, number: u64) -> bool {
    let Some(bit) = number.checked_sub(status.height) else {
        return true;
    };
    let word = usize::try_from(bit / 64)
        .ok()
        .and_then(|word| status.ahead.get(word));
    word.is_some_and(|word| word >> (bit % 64) & 1 == 1)
}
