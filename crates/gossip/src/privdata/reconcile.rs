//! When to look for private data that committed blocks lack.
//!
//! Every interval; when a block was committed without something; when a peer appears that may
//! have it. While rounds find something they follow one another.

use std::{collections::BTreeSet, time::Duration};

use super::{Around, Ended, Found, GatherKey, Wanted};
use crate::{
    config::PvtDataConfig,
    id::{Moment, PkiId},
    message::PrivateDigest,
    ports::{CollectionName, Ports, Terms},
};

/// Pause between two rounds while they find something. Less would leave no time to the owner's
/// disk.
pub(super) const ONWARD: Duration = Duration::from_millis(100);

/// Least time between the beginnings of two rounds otherwise, however many blocks lack something.
pub(super) const APART: Duration = Duration::from_secs(1);

/// Period of looking for peers that were not there, while something is missing.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Blocks remembered that were gathered in vain and are not yet committed: as many as can wait.
/// Beyond it the interval has to do.
pub(super) const MISSED_MAX: usize = 64;

/// Collections remembered of which something is missing. A newcomer that has only others is left
/// to the interval.
pub(super) const LACKING_MAX: usize = 64;

/// Write sets remembered of which something was found that nobody has verified. With more of them
/// such a find is no progress, and the interval has to do.
pub(super) const DOUBTFUL_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Reconcile {
    /// `reconcileSleepInterval`; none if there is no reconciliation.
    interval: Option<Duration>,
    /// `reconcileBatchSize`.
    limit: usize,
    rounds: u64,
    phase: Phase,
    last_began: Option<Moment>,
    /// Blocks that will be committed without something.
    pub(super) missed: BTreeSet<u64>,
    /// A reason to look came up during a round.
    again: bool,
    /// Chaincode and collection of what the last round did not find.
    pub(super) lacking: BTreeSet<(String, String)>,
    /// What the last round found. Finding it again would be no progress.
    found: BTreeSet<PrivateDigest>,
    /// What was found and not verified, in all rounds. It may be worthless, and is progress once.
    doubtful: BTreeSet<PrivateDigest>,
    /// Peers of the channel that were there when it began, or came since.
    seen: BTreeSet<PkiId>,
    next_look: Moment,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The next round begins then.
    Idle { until: Moment },
    /// The owner lists what is missing. If it does not, another round begins then.
    Listing { round: u64, until: Moment },
    /// Peers are asked.
    Gathering { round: u64 },
}

impl Reconcile {
    pub(super) fn new(config: &PvtDataConfig, now: Moment) -> Self {
        let interval = config.reconcile_sleep_interval.max(APART);
        Self {
            interval: config.reconciliation_enabled.then_some(interval),
            limit: config.reconcile_batch_size,
            rounds: 0,
            // What was missing before a restart is listed soon; peers that may have it are noticed
            // as they appear.
            phase: Phase::Idle { until: now + APART },
            last_began: None,
            missed: BTreeSet::new(),
            again: false,
            lacking: BTreeSet::new(),
            found: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            seen: BTreeSet::new(),
            next_look: now,
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.interval?;
        let round = match self.phase {
            Phase::Idle { until } | Phase::Listing { until, .. } => Some(until),
            Phase::Gathering { .. } => None,
        };
        let look = self.is_looking().then_some(self.next_look);
        [round, look].into_iter().flatten().min()
    }

    /// Begins a round if one is due: its number and how many blocks it is about. While we are not
    /// in the channel it is put off.
    pub(super) fn list(&mut self, now: Moment, has_left: bool) -> Option<(u64, usize)> {
        let interval = self.interval?;
        match self.phase {
            Phase::Idle { until } | Phase::Listing { until, .. } if until <= now => {}
            _ => return None,
        }
        if has_left {
            self.phase = Phase::Idle {
                until: now + interval,
            };
            return None;
        }
        self.rounds += 1;
        self.last_began = Some(now);
        self.phase = Phase::Listing {
            round: self.rounds,
            until: now + interval,
        };
        Some((self.rounds, self.limit))
    }

    /// The owner says what is missing.
    pub(super) fn listed<P>(
        &mut self,
        now: Moment,
        round: u64,
        items: &[Wanted],
        around: &Around<'_, P>,
    ) {
        if !matches!(self.phase, Phase::Listing { round: listing, .. } if listing == round) {
            return;
        }
        self.phase = Phase::Gathering { round };
        self.next_look = now + LOOK_INTERVAL;
        let peers = around.channel.peers(around.view);
        self.seen = peers.iter().map(|peer| peer.member.peer).collect();
        let names = items.iter().map(Wanted::collection);
        let names: BTreeSet<CollectionName<'_>> = names.collect();
        let owned = names
            .iter()
            .map(|name| (name.namespace.to_owned(), name.collection.to_owned()));
        self.lacking = owned.take(LACKING_MAX).collect();
    }

    /// A gathering has ended. One for a block that did not find everything is a reason to look
    /// once that block is committed.
    pub(super) fn ended(&mut self, now: Moment, ended: &Ended) {
        let round = match ended.key {
            GatherKey::Block(number) => {
                if !ended.missing.is_empty() && self.missed.len() < MISSED_MAX {
                    self.missed.insert(number);
                }
                return;
            }
            GatherKey::Reconcile(round) => round,
        };
        if self.phase != (Phase::Gathering { round }) {
            return;
        }
        let is_progress = self.is_progress(&ended.found);
        if ended.missing.is_empty() {
            self.lacking.clear();
        }
        let again = std::mem::take(&mut self.again);
        let wait = match self.interval {
            _ if is_progress => ONWARD,
            Some(interval) if !again => interval,
            _ => APART,
        };
        self.phase = Phase::Idle { until: now + wait };
    }

    /// Whether a round found what no round before it did.
    pub(super) fn is_progress(&mut self, found: &[Found]) -> bool {
        let (right, other): (Vec<_>, Vec<_>) = found.iter().partition(|found| found.is_verified);
        let right: BTreeSet<PrivateDigest> = right.iter().map(|f| f.digest.clone()).collect();
        let mut is_progress = !right.is_subset(&self.found);
        self.found = right;
        for found in other {
            if self.doubtful.len() < DOUBTFUL_MAX {
                is_progress |= self.doubtful.insert(found.digest.clone());
            }
        }
        is_progress
    }

    /// Everything below is durable.
    pub(super) fn grow(&mut self, now: Moment, height: u64) {
        let committed = self.missed.first().is_some_and(|first| *first < height);
        if committed {
            self.missed = self.missed.split_off(&height);
            self.hasten(now);
        }
    }

    /// Looks whether somebody came who may have what is missing.
    pub(super) fn look<P: Ports>(&mut self, now: Moment, around: &Around<'_, P>) {
        if !self.is_looking() || now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_INTERVAL;
        let peers = around.channel.peers(around.view);
        let mut appeared = false;
        let mut seen = BTreeSet::new();
        for peer in peers {
            seen.insert(peer.member.peer);
            appeared |= !self.seen.contains(&peer.member.peer)
                && self.lacking.iter().any(|(namespace, collection)| {
                    let name = CollectionName {
                        namespace,
                        collection,
                    };
                    let channel = around.channel.id();
                    let ports = around.ports;
                    ports.is_entitled(channel, name, Terms::Latest, peer.info)
                });
        }
        self.seen = seen;
        if appeared {
            self.hasten(now);
        }
    }

    fn is_looking(&self) -> bool {
        self.interval.is_some()
            && !self.lacking.is_empty()
            && matches!(self.phase, Phase::Idle { .. })
    }

    /// There is a reason to begin a round before its time.
    fn hasten(&mut self, now: Moment) {
        match &mut self.phase {
            Phase::Idle { until } => {
                let earliest = self.last_began.map_or(now, |began| now.max(began + APART));
                *until = earliest.min(*until);
            }
            Phase::Listing { .. } | Phase::Gathering { .. } => self.again = true,
        }
    }
}
