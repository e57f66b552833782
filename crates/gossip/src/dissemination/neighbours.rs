//! What is thought of each member, and what it may still cost us.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    Member, Rtt,
    message::{Class, Counters},
    parameters::{
        ANSWERS_PER_SECOND_MAX, BLAME_MAX, BLAME_TIME, SERVED_BURST_MAX, SERVED_LEN,
        SERVED_PER_SECOND_MAX,
    },
};
use crate::id::{Moment, PkiId};

/// Who acknowledges later and later is waited for no longer than this.
const ACK_PATIENCE_MAX: Duration = Duration::from_secs(2);

/// A right to so many answers, which comes back with time.
#[derive(Clone, Copy, Debug)]
struct Budget {
    left: u32,
    since: Moment,
}

impl Budget {
    fn take(&mut self, now: Moment, cost: u32, per_second: u32, burst: u32) -> bool {
        let earned = now.since(self.since).as_millis() * u128::from(per_second) / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(burst);
            self.since = now;
        }
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// One member.
#[derive(Clone, Debug)]
pub(super) struct Neighbour {
    /// What it says of itself.
    pub(super) declared: Class,
    rtt: Option<Rtt>,
    /// How long its acknowledgements take, with what they wait for at both ends: mean and
    /// deviation.
    acks: Option<(Duration, Duration)>,
    /// What we found out, if it differs from the view.
    pub(super) seen: Option<Class>,
    pub(super) is_down: bool,
    pub(super) is_congested: bool,
    pub(super) misses: u32,
    pub(super) heard: Option<Moment>,
    pub(super) counters: Counters,
    /// When a view was last asked of it.
    pub(super) view_asked: Option<Moment>,
    blames: VecDeque<Moment>,
    distrusted_until: Moment,
    /// It announced what it did not give.
    pub(super) disbelieved_until: Moment,
    chunks: Budget,
    answers: Budget,
}

impl Neighbour {
    fn new() -> Self {
        let budget = |left| Budget {
            left,
            since: Moment::ZERO,
        };
        Self {
            declared: Class::Normal,
            rtt: None,
            acks: None,
            seen: None,
            is_down: false,
            is_congested: false,
            misses: 0,
            heard: None,
            counters: Counters::default(),
            view_asked: None,
            blames: VecDeque::new(),
            distrusted_until: Moment::ZERO,
            disbelieved_until: Moment::ZERO,
            chunks: budget(SERVED_BURST_MAX),
            answers: budget(ANSWERS_PER_SECOND_MAX),
        }
    }

    /// It gave us too many bad chunks.
    pub(super) fn is_distrusted(&self, now: Moment) -> bool {
        now < self.distrusted_until
    }

    /// It gave us a bad chunk; whether that was once too often.
    pub(super) fn blame(&mut self, now: Moment) -> bool {
        self.blames.retain(|at| now.since(*at) < BLAME_TIME);
        self.blames.push_back(now);
        if self.blames.len() < BLAME_MAX {
            return false;
        }
        self.blames.clear();
        self.distrusted_until = now + BLAME_TIME;
        true
    }

    /// Another was found to be at fault for what was held against it.
    pub(super) fn clear(&mut self) {
        self.blames.clear();
        self.distrusted_until = Moment::ZERO;
    }

    /// Whether it may have one more chunk of this length by asking.
    pub(super) fn may_have_chunk(&mut self, now: Moment, len: usize) -> bool {
        let cost = len.div_ceil(SERVED_LEN).clamp(1, SERVED_BURST_MAX as usize);
        let cost = u32::try_from(cost).unwrap_or(SERVED_BURST_MAX);
        self.chunks
            .take(now, cost, SERVED_PER_SECOND_MAX, SERVED_BURST_MAX)
    }

    /// Whether it may have one more long answer.
    pub(super) fn may_have_answer(&mut self, now: Moment) -> bool {
        let limit = ANSWERS_PER_SECOND_MAX;
        self.answers.take(now, 1, limit, limit)
    }
}

/// All members that were told of.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    all: BTreeMap<PkiId, Neighbour>,
    latency: Option<Duration>,
}

impl Neighbours {
    /// These are there now, and nobody else.
    pub(super) fn replace(&mut self, members: Vec<Member>) {
        let mut before = std::mem::take(&mut self.all);
        for member in members {
            let known = before.remove(&member.peer);
            let mut neighbour = known.unwrap_or_else(Neighbour::new);
            neighbour.declared = member.class.min(Class::Slow);
            neighbour.rtt = member.rtt.or(neighbour.rtt);
            self.all.insert(member.peer, neighbour);
        }
        self.latency = None;
    }

    pub(super) fn measure(&mut self, peer: &PkiId, rtt: Rtt) {
        if let Some(neighbour) = self.all.get_mut(peer) {
            neighbour.rtt = Some(rtt);
            self.latency = None;
        }
    }

    pub(super) fn find(&self, peer: &PkiId) -> Option<&Neighbour> {
        self.all.get(peer)
    }

    pub(super) fn find_mut(&mut self, peer: &PkiId) -> Option<&mut Neighbour> {
        self.all.get_mut(peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PkiId, &Neighbour)> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&PkiId, &mut Neighbour)> {
        self.all.iter_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Median of the one-way latencies.
    pub(super) fn latency(&mut self, assumed: Duration) -> Duration {
        if let Some(latency) = self.latency {
            return latency;
        }
        let measured = self.all.values().filter_map(|n| n.rtt);
        let mut all: Vec<Duration> = measured.map(|rtt| rtt.mean / 2).collect();
        all.sort();
        let latency = all.get(all.len() / 2).copied().unwrap_or(assumed);
        self.latency = Some(latency);
        latency
    }

    /// It took so long from the first sending of a chunk. Counting from there, and not from a
    /// second one, patience grows where acknowledgements are late and not lost.
    pub(super) fn note_ack(&mut self, peer: &PkiId, took: Duration) {
        if let Some(neighbour) = self.all.get_mut(peer) {
            neighbour.acks = Some(match neighbour.acks {
                None => (took, took / 2),
                Some((mean, deviation)) => (
                    (mean * 7 + took) / 8,
                    (deviation * 3 + mean.abs_diff(took)) / 4,
                ),
            });
        }
    }

    /// How long an answer may be on its way, both ways.
    pub(super) fn travel(&self, peer: &PkiId, latency: Duration) -> Duration {
        let neighbour = self.all.get(peer);
        let by_distance = match neighbour.and_then(|neighbour| neighbour.rtt) {
            Some(Rtt {
                mean,
                deviation: Some(deviation),
            }) => mean.saturating_add(deviation.saturating_mul(4)),
            Some(Rtt { mean, .. }) => mean.saturating_mul(3) / 2,
            None => latency * 3,
        };
        let acks = neighbour.and_then(|neighbour| neighbour.acks);
        let by_acks =
            acks.map(|(mean, deviation)| mean.saturating_add(deviation.saturating_mul(4)));
        let by_acks = by_acks.map(|patience| patience.min(ACK_PATIENCE_MAX));
        by_distance.max(by_acks.unwrap_or_default())
    }
}
