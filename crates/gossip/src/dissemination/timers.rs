//! What is due when: one entry for each thing that may fall due.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Moment, PkiId};

/// Something that falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// This child has not acknowledged this stripe of this block.
    Ack(u64, u8, PkiId),
    /// This block was announced and did not come.
    Have(u64),
    /// Only a part of this block came.
    Spread(u64),
    /// What was asked for of this block did not come.
    Retry(u64),
    /// The hashes of this block's chunks did not come.
    Hashes(u64),
    /// Nobody injected this block of a plain leader.
    Takeover(u64),
    /// Tell somebody what is here.
    Status,
    /// The view is to be changed.
    Publish,
    /// A member did not answer.
    Probe(PkiId),
    /// Accusations about this block are gathered.
    Verdict(u64),
    /// A view came whose author was not said to lead since.
    Early,
    /// An acknowledgement is missing for so long that what waits for it goes out.
    Pace,
    /// Drop what is old.
    Sweep,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Moment, Timer)>,
    due: BTreeMap<Timer, Moment>,
}

impl Timers {
    /// Sets it, in place of when it was set for before.
    pub(super) fn arm(&mut self, timer: Timer, at: Moment) {
        if let Some(before) = self.due.insert(timer, at) {
            self.queue.remove(&(before, timer));
        }
        self.queue.insert((at, timer));
    }

    /// Sets it, unless it falls due before that anyway.
    pub(super) fn arm_by(&mut self, timer: Timer, at: Moment) {
        let before = self.due.get(&timer).copied();
        self.arm(timer, before.map_or(at, |before| before.min(at)));
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.due.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    /// Cancels everything about a block that is no more.
    pub(super) fn forget(&mut self, number: u64) {
        for timer in [
            Timer::Have(number),
            Timer::Spread(number),
            Timer::Retry(number),
            Timer::Hashes(number),
            Timer::Takeover(number),
        ] {
            self.cancel(timer);
        }
        let first = Timer::Ack(number, 0, PkiId::new([0; 32]));
        let last = Timer::Ack(number, u8::MAX, PkiId::new([u8::MAX; 32]));
        let about: Vec<Timer> = self
            .due
            .range(first..=last)
            .map(|(timer, _)| *timer)
            .collect();
        for timer in about {
            self.cancel(timer);
        }
    }

    pub(super) fn is_armed(&self, timer: Timer) -> bool {
        self.due.contains_key(&timer)
    }

    pub(super) fn pop(&mut self, now: Moment) -> Option<Timer> {
        let (at, timer) = self.queue.first().copied()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.queue.first().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
