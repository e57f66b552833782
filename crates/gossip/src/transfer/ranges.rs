//! Ranges of blocks that were asked for, and who owes an answer.
//!
//! Promises: ranges that are not done do not overlap. Knows nothing of whom to ask.

use std::ops::Range;

use super::{buffer::Buffer, sources::Sent};
use crate::id::{Moment, PkiId};

/// A range that was asked for, both ends inclusive. The nonce is the same for all attempts, so
/// that a late answer to an earlier one still counts (G-S4).
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) nonce: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Blocks came; what they left open is another range.
    pub(super) is_done: bool,
    /// Whose answers brought nothing.
    pub(super) failed: Vec<PkiId>,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    sent: Sent,
    /// Everything below the range was durable by then: nothing excuses an answer that does not
    /// pass.
    is_edge: bool,
    state: State,
    is_hedged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The answer is waited for until then.
    Open(Moment),
    /// It is not waited for any more, but welcome.
    Late,
    /// It came.
    Answered,
}

impl Asked {
    pub(super) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    pub(super) fn was_asked(&self, peer: &PkiId) -> bool {
        self.attempts.iter().any(|a| a.sent.peer == *peer)
    }

    /// Whether this peer was asked and has not answered yet.
    pub(super) fn is_owed_by(&self, peer: &PkiId) -> bool {
        let owes = |a: &Attempt| a.sent.peer == *peer && a.state != State::Answered;
        self.attempts.iter().any(owes)
    }

    pub(super) fn send(&mut self, sent: Sent, until: Moment, is_edge: bool) {
        self.attempts.push(Attempt {
            sent,
            is_edge,
            state: State::Open(until),
            is_hedged: false,
        });
    }

    /// This peer answered. None if it had answered before.
    pub(super) fn close(&mut self, peer: &PkiId) -> Option<Closed> {
        let mut owed = self
            .attempts
            .iter_mut()
            .filter(|a| a.sent.peer == *peer && a.state != State::Answered);
        let last = owed.next_back()?;
        let closed = Closed {
            sent: last.sent,
            is_edge: last.is_edge,
            was_open: last.is_open(),
        };
        last.state = State::Answered;
        Some(closed)
    }

    /// The only request that is waited for, if nobody else was asked because of it.
    pub(super) fn to_hedge(&self) -> Option<Sent> {
        let mut open = self.attempts.iter().filter(|a| a.is_open());
        let only = open.next().filter(|only| !only.is_hedged)?;
        open.next().is_none().then_some(only.sent)
    }

    /// Somebody else is looked for because of that request, which happens once.
    pub(super) fn begin_hedge(&mut self) -> Option<Sent> {
        let only = self.attempts.iter_mut().find(|a| a.is_open())?;
        only.is_hedged = true;
        Some(only.sent)
    }

    fn is_open(&self) -> bool {
        self.attempts.iter().any(Attempt::is_open)
    }
}

impl Attempt {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }
}

/// What an answer was to.
pub(super) struct Closed {
    pub(super) sent: Sent,
    pub(super) is_edge: bool,
    /// It was still waited for.
    pub(super) was_open: bool,
}

/// In the order in which they were first asked for.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<Asked>);

impl Ranges {
    pub(super) fn find(&self, nonce: u64) -> Option<&Asked> {
        self.0.iter().find(|range| range.nonce == nonce)
    }

    pub(super) fn find_mut(&mut self, nonce: u64) -> Option<&mut Asked> {
        self.0.iter_mut().find(|range| range.nonce == nonce)
    }

    pub(super) fn add(&mut self, nonce: u64, start: u64, end: u64) {
        let apart = |range: &Asked| range.end < start || end < range.start;
        debug_assert!(
            self.0.iter().filter(|range| !range.is_done).all(apart),
            "ranges do not overlap"
        );
        self.0.push(Asked {
            nonce,
            start,
            end,
            is_done: false,
            failed: Vec::new(),
            attempts: Vec::new(),
        });
    }

    pub(super) fn remove(&mut self, nonce: u64) {
        self.0.retain(|range| range.nonce != nonce);
    }

    /// Ranges that are waited for.
    pub(super) fn under_way(&self) -> usize {
        self.0.iter().filter(|range| !range.is_done).count()
    }

    /// Answers that are waited for.
    pub(super) fn requests(&self) -> usize {
        let attempts = self.0.iter().flat_map(|range| &range.attempts);
        attempts.filter(|a| a.is_open()).count()
    }

    /// Waits no more for what is late by now.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<Sent> {
        self.give_up(|a| matches!(a.state, State::Open(until) if until <= now))
    }

    /// Waits no more for this peer.
    pub(super) fn forgo(&mut self, peer: &PkiId) -> Vec<Sent> {
        self.give_up(|a| a.is_open() && a.sent.peer == *peer)
    }

    fn give_up(&mut self, which: impl Fn(&Attempt) -> bool) -> Vec<Sent> {
        let attempts = self.0.iter_mut().flat_map(|range| &mut range.attempts);
        let mut given_up = Vec::new();
        for attempt in attempts.filter(|a| which(a)) {
            attempt.state = State::Late;
            given_up.push(attempt.sent);
        }
        given_up
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let attempts = self.0.iter().flat_map(|range| &range.attempts);
        let until = attempts.filter_map(|a| match a.state {
            State::Open(until) => Some(until),
            State::Late | State::Answered => None,
        });
        until.min()
    }

    /// Forgets what is done and owed by nobody. What came another way is done; of what began to
    /// come another way the rest is another range, unless somebody is at it.
    pub(super) fn settle(&mut self, buffer: &Buffer) {
        for range in &mut self.0 {
            let lacks = |number: u64| buffer.lacks(number);
            range.is_done |= !(range.start..=range.end).any(lacks);
        }
        self.0.retain(|range| {
            let is_whole = !range.is_done && buffer.lacks(range.start);
            range.is_open() || is_whole
        });
    }

    /// Ranges that nobody owes and that are not done, from below.
    pub(super) fn unasked(&self) -> Vec<u64> {
        let mut unasked: Vec<&Asked> = self
            .0
            .iter()
            .filter(|range| !range.is_done && !range.is_open())
            .collect();
        unasked.sort_by_key(|range| range.start);
        unasked.iter().map(|range| range.nonce).collect()
    }

    /// Whether one was asked for so often, and nobody owes it any more.
    pub(super) fn is_exhausted(&self, attempts_max: usize) -> bool {
        let mut waited = self.0.iter().filter(|range| !range.is_done);
        waited.any(|range| !range.is_open() && range.attempts() >= attempts_max)
    }

    /// The lowest that is not done.
    pub(super) fn lowest(&self) -> Option<&Asked> {
        let waited = self.0.iter().filter(|range| !range.is_done);
        waited.min_by_key(|range| range.start)
    }

    pub(super) fn lowest_mut(&mut self) -> Option<&mut Asked> {
        let waited = self.0.iter_mut().filter(|range| !range.is_done);
        waited.min_by_key(|range| range.start)
    }

    /// The first numbers below `limit` that are neither there nor waited for.
    pub(super) fn first_unasked(&self, buffer: &Buffer, limit: u64) -> Option<Range<u64>> {
        let mut asked: Vec<(u64, u64)> = self.waited().collect();
        asked.sort_unstable();
        for gap in buffer.gaps(limit) {
            let mut start = gap.start;
            for (first, last) in asked.iter().copied().filter(|(_, last)| *last >= gap.start) {
                if start < first.min(gap.end) {
                    return Some(start..first.min(gap.end));
                }
                start = start.max(last.saturating_add(1));
            }
            if start < gap.end {
                return Some(start..gap.end);
            }
        }
        None
    }

    /// How many blocks that are not there are waited for.
    pub(super) fn blocks_under_way(&self, buffer: &Buffer, limit: u64) -> u64 {
        let gaps = buffer.gaps(limit);
        let common = |(first, last): (u64, u64)| -> u64 {
            let within = gaps.iter().map(|gap| {
                let end = gap.end.min(last.saturating_add(1));
                end.saturating_sub(gap.start.max(first))
            });
            within.sum()
        };
        self.waited().map(common).sum()
    }

    /// First and last block of what is waited for.
    pub(super) fn waited(&self) -> impl Iterator<Item = (u64, u64)> {
        let waited = self.0.iter().filter(|range| !range.is_done);
        waited.map(|range| (range.start, range.end))
    }
}
