//! When to look for private data that committed blocks lack.
//!
//! Every interval; when a block was committed without something; when a peer appears that may
//! have it, or grows past a block that lacks it. While rounds find something they follow one another.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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

/// Period of looking for peers that were not there or had not the blocks, while something is missing.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Blocks remembered that were gathered in vain and are not yet committed: as many as can wait.
/// Beyond it the interval has to do.
pub(super) const MISSED_MAX: usize = 64;

/// Collections remembered of which something is missing, and blocks of each that lack it. A peer
/// that has only others is left to the interval.
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
    /// Chaincode and collection of what the last round did not find, and the blocks that lack it.
    pub(super) lacking: BTreeMap<(String, String), BTreeSet<u64>>,
    /// What the last round found. Finding it again would be no progress.
    found: BTreeSet<PrivateDigest>,
    /// What was found and not verified, in all rounds. It may be worthless, and is progress once.
    doubtful: BTreeSet<PrivateDigest>,
    /// Peers of the channel and their heights when it began, or at the last look since.
    seen: BTreeMap<PkiId, u64>,
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
            lacking: BTreeMap::new(),
            found: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            seen: BTreeMap::new(),
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
        self.seen = heights(around);
        self.lacking.clear();
        for item in items {
            let (name, block) = (item.collection(), item.digest.block);
            let name = (name.namespace.to_owned(), name.collection.to_owned());
            if self.lacking.len() < LACKING_MAX || self.lacking.contains_key(&name) {
                let blocks = self.lacking.entry(name).or_default();
                if blocks.len() < LACKING_MAX {
                    blocks.insert(block);
                }
            }
        }
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
        let seen = std::mem::replace(&mut self.seen, heights(around));
        let mut peers = around.channel.peers(around.view).into_iter();
        let appeared = peers.any(|peer| {
            let before = seen.get(&peer.member.peer).copied();
            self.lacking
                .iter()
                .any(|((namespace, collection), blocks)| {
                    let name = CollectionName {
                        namespace,
                        collection,
                    };
                    is_news(before, peer.info.height, blocks)
                        && around.ports.is_entitled(
                            around.channel.id(),
                            name,
                            Terms::Latest,
                            peer.info,
                        )
                })
        });
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

fn heights<P>(around: &Around<'_, P>) -> BTreeMap<PkiId, u64> {
    let peers = around.channel.peers(around.view).into_iter();
    peers
        .map(|peer| (peer.member.peer, peer.info.height))
        .collect()
}

/// Whether a peer may have something of these blocks by now that it could not be asked for before:
/// peers look into their ledgers only.
fn is_news(before: Option<u64>, height: u64, blocks: &BTreeSet<u64>) -> bool {
    match before {
        None => true,
        // A range that ends before it begins panics, and heights are the word of others.
        Some(before) => before < height && blocks.range(before..height).next().is_some(),
    }
}
