//! Looking after the dead: which of them to knock at, a few at a time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::id::{Moment, PkiId, Ticket};

/// Dead members knocked at at a time. Each knock may take a dial and an answer's time.
const PROBES_MAX: usize = 16;

/// A knock without any report counts as unanswered after this. Longer than a dial (3 s) and a
/// ping (2 s) may take.
const PROBE_WAIT: Duration = Duration::from_secs(10);

/// Members looked for soon after they were lost. At the limit a further one waits for the round.
const LOOKS_MAX: usize = 1024;

/// Who is to be knocked at.
#[derive(Debug)]
pub(super) struct Probes {
    next_round: Moment,
    /// Who was lost a moment ago, and when to look for it.
    looks: BTreeMap<PkiId, Moment>,
    queue: VecDeque<PkiId>,
    waiting: BTreeMap<Ticket, (PkiId, Moment)>,
}

impl Probes {
    /// The first round is due at once.
    pub(super) fn new() -> Self {
        Self {
            next_round: Moment::ZERO,
            looks: BTreeMap::new(),
            queue: VecDeque::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Whether a round is due. Call [`Self::end_round`] then.
    pub(super) fn begins_round(&self, now: Moment) -> bool {
        self.next_round <= now
    }

    pub(super) fn end_round(&mut self, next: Moment) {
        self.next_round = next;
    }

    /// Knock at this one then, and not only in the next round.
    pub(super) fn look_again(&mut self, peer: PkiId, at: Moment) {
        if self.looks.len() < LOOKS_MAX {
            self.looks.entry(peer).or_insert(at);
        }
    }

    /// Whom to look for now.
    pub(super) fn looks(&mut self, now: Moment) -> Vec<PkiId> {
        let due = self.looks.extract_if(.., |_, at| *at <= now);
        due.map(|(peer, _)| peer).collect()
    }

    /// These are dead now. Those whose turn is still to come keep it.
    pub(super) fn queue(&mut self, dead: impl Iterator<Item = PkiId>) {
        let mut known: BTreeSet<PkiId> = self.queue.iter().copied().collect();
        known.extend(self.waiting.values().map(|(peer, _)| *peer));
        self.queue.extend(dead.filter(|peer| !known.contains(peer)));
    }

    /// The next one to knock at, if there is a hand free. Call [`Self::knocked`] then.
    pub(super) fn next(&mut self) -> Option<PkiId> {
        if self.waiting.len() < PROBES_MAX {
            self.queue.pop_front()
        } else {
            None
        }
    }

    pub(super) fn knocked(&mut self, now: Moment, ticket: Ticket, peer: PkiId) {
        self.waiting.insert(ticket, (peer, now + PROBE_WAIT));
    }

    /// Who it was that this ticket was about.
    pub(super) fn reported(&mut self, ticket: Ticket) -> Option<PkiId> {
        self.waiting.remove(&ticket).map(|(peer, _)| peer)
    }

    /// Gives up on reports that did not come.
    pub(super) fn expire(&mut self, now: Moment) {
        self.waiting.retain(|_, (_, until)| now < *until);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let waits = self.waiting.values().map(|(_, until)| *until);
        let looks = self.looks.values().copied();
        waits.chain(looks).chain([self.next_round]).min()
    }
}
