//! What to ask of whom, so that missing blocks come soon and in the order in which they are needed.
//!
//! A round is under way while somebody whom we believe has more than our ledger. Missing blocks
//! are cut into ranges, each asked of one peer, several at a time. Promises: ranges do not
//! overlap; none reaches further than the buffer takes; the lowest one never waits long for a slow
//! peer; a peer that does not keep what its state info promises is left out for a while, its
//! height along with it, so that an invented height stalls nobody.

use rand::{RngExt, rngs::ChaCha8Rng};
use std::{ops::Range, time::Duration};

use super::{
    buffer::Buffer,
    progress::{Course, Progress, Stage},
    ranges::{Asked, Closed, Ranges},
    sources::{Sent, Sources},
};
use crate::{
    channel::ChannelPeer,
    config::StateConfig,
    effect::Destination,
    id::{ChannelId, Moment, OrgId, PkiId},
    random,
};

/// Ranges asked for at a time. Two peers can be kept busy, or many with little each; it also
/// bounds what one turn of the core sends.
pub const RANGES_MAX: usize = 16;

/// Requests under way at a time: one for each range, and as many again for those that were asked
/// of somebody else, too, or came another way.
pub const REQUESTS_MAX: usize = 2 * RANGES_MAX;

/// How far above the ledger blocks are asked for: all ranges and what waits for the committer.
pub const AHEAD_MAX: u64 = 256;

/// Bytes above the ledger, those under way included as far as the size of blocks is known. What
/// the ledger waits for is asked all the same.
pub const AHEAD_BYTES_MAX: u64 = 64 << 20;

/// Bytes to ask for in one range, as far as the size of blocks is known: what a peer reads and
/// sends in a fraction of its time to answer, and well below the largest message.
const RANGE_BYTES: u64 = 8 << 20;

/// Size of a block as long as none has come.
const BLOCK_LEN_GUESS: u64 = 512 << 10;

/// How long nothing is asked after the committer has refused a block: whatever is wrong with it
/// may be wrong with the next copy.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);

/// Peers that fail at the same range before its predecessors are waited for: what comes after a
/// change of the configuration can be verified only when that is in force.
const FAILURES_MAX: usize = 2;

/// What an answer was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It began where it had to.
    Good,
    /// It did, and then went wrong.
    PartlyGood,
    /// It brought nothing that passed the gate.
    Nothing,
    /// The same, but what it was asked for has come by another way. That may have brought a new
    /// configuration, by which the gate judged an honest answer.
    Late,
    /// It did not begin where it had to.
    Wrong,
}

/// A request to send.
#[derive(Debug, PartialEq)]
pub(super) struct Ask {
    pub(super) to: Destination,
    pub(super) nonce: u64,
    pub(super) start: u64,
    /// Inclusive, as on the wire.
    pub(super) end: u64,
}

#[derive(Debug)]
pub(super) struct CatchUp {
    config: StateConfig,
    rng: ChaCha8Rng,
    next_check: Option<Moment>,
    /// There is a round under way.
    course: Option<Course>,
    ranges: Ranges,
    sources: Sources,
    /// Nothing from here on is asked before the ledger has come so far.
    barrier: Option<u64>,
    paused_until: Option<Moment>,
    /// Distance between first and last block of a range.
    reach: u64,
    /// Size of a block, smoothed.
    block_len: Option<u64>,
}

/// What a round looks at.
pub(super) struct Scene<'a> {
    pub(super) buffer: &'a Buffer,
    /// Only what the ledger waits for is asked.
    pub(super) is_full: bool,
    pub(super) peers: &'a [ChannelPeer<'a>],
    /// Our organization.
    pub(super) own: &'a OrgId,
}

/// What a turn of a round led to.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) asks: Vec<Ask>,
    pub(super) report: Option<(Stage, Progress)>,
}

impl CatchUp {
    pub(super) fn new(
        channel: &ChannelId,
        config: &StateConfig,
        now: Moment,
        seed: &[u8; 32],
    ) -> Self {
        Self {
            rng: random::generator(seed, &format!("transfer of {channel}")),
            next_check: config.enabled.then(|| now + config.check_interval),
            course: None,
            ranges: Ranges::default(),
            sources: Sources::new(config),
            barrier: None,
            paused_until: None,
            reach: config.batch_size,
            block_len: None,
            config: config.clone(),
        }
    }

    /// For a successor: from the same seed it would choose the same nonces again.
    pub(super) fn next_seed(&mut self) -> [u8; 32] {
        self.rng.random()
    }

    /// Looks for missing blocks now.
    pub(super) fn begin(&mut self, now: Moment, height: u64) {
        if self.config.enabled && self.course.is_none() {
            self.course = Some(Course::new(now, height));
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.course.is_some()
    }

    pub(super) fn progress(&self, now: Moment, height: u64) -> Option<Progress> {
        let course = self.course.as_ref()?;
        Some(course.progress(now, height, self.sources.shares(now)))
    }

    pub(super) fn tick(&mut self, now: Moment, height: u64) {
        if self.next_check.is_some_and(|check| check <= now) {
            self.next_check = Some(now + self.config.check_interval);
            self.begin(now, height);
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        let late = self.ranges.expire(now);
        if self.ranges.is_exhausted(self.attempts_max()) && !late.is_empty() {
            // It may be too much for one answer.
            self.reach /= 2;
        }
        for sent in late {
            self.sources.close(&sent.peer);
            self.sources.in_vain(now, &sent);
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let report = self.course.as_ref().and_then(|course| course.report_at);
        let hedge = self.hedge_at().map(|at| match self.paused_until {
            Some(until) => at.max(until),
            None => at,
        });
        [
            self.next_check,
            self.ranges.deadline(),
            self.paused_until,
            report,
            hedge,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// First and last blocks of the ranges that are waited for.
    #[cfg(test)]
    pub(super) fn waited(&self) -> Vec<(u64, u64)> {
        self.ranges.waited().collect()
    }

    /// Answers that are waited for.
    #[cfg(test)]
    pub(super) fn requests(&self) -> usize {
        self.ranges.requests()
    }

    /// The range that an answer may fill.
    pub(super) fn awaited(&self, nonce: u64) -> Option<&Asked> {
        self.ranges.find(nonce)
    }

    /// An answer to what was asked has been taken in; so many blocks of it were news.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        from: &PkiId,
        nonce: u64,
        verdict: Verdict,
        news: u64,
    ) {
        let Some(range) = self.ranges.find_mut(nonce) else {
            return;
        };
        let start = range.start;
        let Some(Closed {
            sent,
            is_edge,
            was_open,
        }) = range.close(from)
        else {
            return;
        };
        match verdict {
            Verdict::Good | Verdict::PartlyGood => range.is_done = true,
            Verdict::Nothing | Verdict::Late | Verdict::Wrong => range.failed.push(*from),
        }
        if was_open {
            self.sources.close(from);
        }
        match verdict {
            Verdict::Good => {
                self.sources.good(now, &sent, news);
                self.reach = (self.reach + 1).min(self.config.batch_size);
            }
            Verdict::PartlyGood | Verdict::Wrong => self.sources.doubt(now, *from),
            Verdict::Late => {}
            Verdict::Nothing if is_edge => self.sources.doubt(now, *from),
            Verdict::Nothing if self.barrier.is_some_and(|barrier| barrier <= start) => {}
            Verdict::Nothing => self.sources.in_vain(now, &sent),
        }
    }

    /// A block of this size came in answer.
    pub(super) fn measure(&mut self, block_len: usize) {
        let len = u64::try_from(block_len).unwrap_or(u64::MAX);
        self.block_len = Some(match self.block_len {
            Some(old) => (old.saturating_mul(7).saturating_add(len)) / 8,
            None => len,
        });
    }

    /// This peer cannot be reached: others are asked for what it owes.
    pub(super) fn unreachable(&mut self, now: Moment, peer: &PkiId) {
        if self.forgo(peer).is_some() {
            self.sources.doubt(now, *peer);
        }
    }

    /// A stream to this peer ended, and what was asked on it may be lost.
    pub(super) fn disconnected(&mut self, now: Moment, peer: &PkiId) {
        if let Some(sent) = self.forgo(peer) {
            self.sources.in_vain(now, &sent);
        }
    }

    /// The committer refused a block.
    pub(super) fn pause(&mut self, now: Moment) {
        if self.course.is_some() {
            self.paused_until = Some(now + REFUSAL_PAUSE);
        }
    }

    /// Asks for what is missing and not asked for, as far as the limits allow. Ends the round if
    /// nobody has more.
    pub(super) fn pursue(&mut self, now: Moment, scene: &Scene<'_>) -> Turn {
        let mut turn = Turn::default();
        if self.course.is_none() {
            return turn;
        }
        let height = scene.buffer.height();
        let believed: Vec<&ChannelPeer<'_>> = scene
            .peers
            .iter()
            .filter(|peer| !self.sources.is_in_doubt(now, &peer.info.peer))
            .collect();
        let goal = believed.iter().map(|peer| peer.info.height).max();
        let Some(goal) = goal.filter(|goal| *goal > height) else {
            turn.report = self.end(now, height, goal.is_some());
            return turn;
        };
        turn.report = self.report(now, height, goal);
        if self.barrier.is_some_and(|barrier| barrier <= height) {
            self.barrier = None;
        }
        if self.paused_until.is_none() {
            self.ranges.settle(scene.buffer);
            self.ask_again(now, scene, &believed, &mut turn.asks);
            self.ask_more(now, scene, &believed, goal, &mut turn.asks);
            self.hedge(now, scene, &believed, &mut turn.asks);
        }
        turn
    }

    fn report(&mut self, now: Moment, height: u64, goal: u64) -> Option<(Stage, Progress)> {
        let worth_telling = self.config.block_buffer_size;
        let course = self.course.as_mut()?;
        let stage = course.go_on(now, goal, worth_telling)?;
        Some((stage, self.progress(now, height)?))
    }

    fn end(&mut self, now: Moment, height: u64, anybody: bool) -> Option<(Stage, Progress)> {
        let mut course = self.course.take()?;
        let shares = self.sources.shares(now);
        self.sources.clear();
        self.ranges = Ranges::default();
        (self.barrier, self.paused_until) = (None, None);
        course.report_at?;
        let stage = match anybody {
            true => Stage::CaughtUp,
            false => Stage::Stopped,
        };
        if anybody {
            course.goal = height;
        }
        Some((stage, course.progress(now, height, shares)))
    }

    /// Ranges that nobody owes any more are asked of somebody else, under the same nonce, so that
    /// a late answer to an earlier attempt still counts (G-S4).
    fn ask_again(
        &mut self,
        now: Moment,
        scene: &Scene<'_>,
        believed: &[&ChannelPeer<'_>],
        asks: &mut Vec<Ask>,
    ) {
        let attempts_max = self.attempts_max();
        for nonce in self.ranges.unasked() {
            let Some(range) = self.ranges.find(nonce) else {
                continue;
            };
            let (start, end, failed) = (range.start, range.end, range.failed.clone());
            let (attempts, is_edge) = (range.attempts(), start <= scene.buffer.height());
            let able: Vec<&ChannelPeer<'_>> = believed
                .iter()
                .copied()
                .filter(|peer| peer.info.height > end && !failed.contains(&peer.info.peer))
                .collect();
            let is_premature = failed.len() >= FAILURES_MAX || able.is_empty();
            if !failed.is_empty() && is_premature && !is_edge {
                self.barrier = Some(self.barrier.map_or(start, |barrier| barrier.min(start)));
            }
            let is_barred = self.barrier.is_some_and(|barrier| barrier <= start);
            if is_barred || able.is_empty() || attempts >= attempts_max {
                self.ranges.remove(nonce);
                continue;
            }
            let was_asked = |peer: &PkiId| {
                let range = self.ranges.find(nonce);
                range.is_some_and(|range| range.was_asked(peer))
            };
            let (again, fresh): (Vec<_>, Vec<_>) =
                able.into_iter().partition(|p| was_asked(&p.info.peer));
            if self.ranges.requests() >= REQUESTS_MAX {
                return;
            }
            let peer = self.choose(&fresh, end, 0, scene.own);
            if let Some(peer) = peer.or_else(|| self.choose(&again, end, 0, scene.own)) {
                asks.push(self.ask(now, peer, nonce, is_edge));
            }
        }
    }

    /// Cuts ranges out of what is missing, from below.
    fn ask_more(
        &mut self,
        now: Moment,
        scene: &Scene<'_>,
        believed: &[&ChannelPeer<'_>],
        goal: u64,
        asks: &mut Vec<Ask>,
    ) {
        let height = scene.buffer.height();
        let lowest = scene.buffer.first_missing();
        let limit = goal
            .min(height.saturating_add(AHEAD_MAX))
            .min(self.barrier.unwrap_or(u64::MAX));
        while self.ranges.under_way() < RANGES_MAX && self.ranges.requests() < REQUESTS_MAX {
            let Some(missing) = self.ranges.first_unasked(scene.buffer, limit) else {
                return;
            };
            let is_full = scene.is_full && missing.start != height;
            let is_much = missing.start != lowest && self.is_much_ahead(scene.buffer, limit);
            if is_full || is_much {
                return;
            }
            let end = self.end_of_range(&missing);
            let Some(peer) = self.choose(believed, end, missing.start, scene.own) else {
                return;
            };
            let nonce = self.rng.random();
            let end = end.min(peer.info.height - 1);
            self.ranges.add(nonce, missing.start, end);
            asks.push(self.ask(now, peer, nonce, missing.start <= height));
        }
    }

    /// What keeps the ledger waiting is asked of a second peer if the first takes long.
    fn hedge(
        &mut self,
        now: Moment,
        scene: &Scene<'_>,
        believed: &[&ChannelPeer<'_>],
        asks: &mut Vec<Ask>,
    ) {
        if self.hedge_at().is_none_or(|at| now < at) {
            return;
        }
        let Some(range) = self.ranges.lowest_mut() else {
            return;
        };
        let (nonce, end) = (range.nonce, range.end);
        let is_edge = range.start <= scene.buffer.height();
        let slow = range.begin_hedge();
        let others: Vec<&ChannelPeer<'_>> = believed
            .iter()
            .copied()
            .filter(|peer| peer.info.height > end && !range.was_asked(&peer.info.peer))
            .collect();
        if range.attempts() >= self.attempts_max() || self.ranges.requests() >= REQUESTS_MAX {
            return;
        }
        // It is urgent enough to be one more than the window says.
        let free = |peer: &&ChannelPeer<'_>| self.sources.is_free(&peer.info.peer, 1);
        let others: Vec<_> = others.into_iter().filter(free).collect();
        let Some(peer) = self.pick(&others, end, scene.own) else {
            return;
        };
        if let Some(slow) = slow {
            self.sources.slow(now, &slow);
        }
        asks.push(self.ask(now, peer, nonce, is_edge));
    }

    /// When the lowest range is to be asked of a second peer.
    fn hedge_at(&self) -> Option<Moment> {
        let sent = self.ranges.lowest()?.to_hedge()?;
        Some(sent.at + self.sources.patience(&sent.peer))
    }

    fn ask(&mut self, now: Moment, peer: &ChannelPeer<'_>, nonce: u64, is_edge: bool) -> Ask {
        let sent = self.sources.send(now, peer.info.peer);
        let until = now + self.config.response_timeout;
        let range = self.ranges.find_mut(nonce);
        let range = range.expect("the range was found or made by the caller");
        range.send(sent, until, is_edge);
        Ask {
            to: peer.member.destination(),
            nonce,
            start: range.start,
            end: range.end,
        }
    }

    /// One of those whose window has room that have something from `start` on, best the whole
    /// range.
    fn choose<'p, 'a>(
        &mut self,
        among: &[&'p ChannelPeer<'a>],
        end: u64,
        start: u64,
        own: &OrgId,
    ) -> Option<&'p ChannelPeer<'a>> {
        let free: Vec<&'p ChannelPeer<'a>> = among
            .iter()
            .copied()
            .filter(|peer| peer.info.height > start && self.sources.is_free(&peer.info.peer, 0))
            .collect();
        self.pick(&free, end, own)
    }

    /// Before others those of our organization, unless they failed last: with their blocks comes
    /// private data that nobody else may have. Then by the time of the answer, then by chance.
    fn pick<'p, 'a>(
        &mut self,
        among: &[&'p ChannelPeer<'a>],
        end: u64,
        own: &OrgId,
    ) -> Option<&'p ChannelPeer<'a>> {
        let key = |peer: &ChannelPeer<'_>| {
            let is_part = peer.info.height <= end;
            let is_foreign = peer.info.identity.org != *own;
            let (vain, wait) = self.sources.rank(&peer.info.peer);
            (is_part, vain, is_foreign, wait)
        };
        let best = among.iter().map(|peer| key(peer)).min()?;
        let best: Vec<_> = among.iter().filter(|peer| key(peer) == best).collect();
        let chosen = match best.len() {
            1 => 0,
            len => self.rng.random_range(0..len),
        };
        best.get(chosen).map(|peer| **peer)
    }

    fn end_of_range(&self, missing: &Range<u64>) -> u64 {
        let blocks = (RANGE_BYTES / self.block_len().max(1)).max(1);
        let reach = self.reach.min(blocks - 1);
        missing.start.saturating_add(reach).min(missing.end - 1)
    }

    /// Whether what is there and what is under way is as much as may be.
    fn is_much_ahead(&self, buffer: &Buffer, limit: u64) -> bool {
        let asked = self.ranges.blocks_under_way(buffer, limit);
        let under_way = asked.saturating_mul(self.block_len());
        buffer.bytes().saturating_add(under_way) >= AHEAD_BYTES_MAX
    }

    /// Attempts at a range.
    fn attempts_max(&self) -> usize {
        let repeats = usize::try_from(self.config.max_retries).unwrap_or(usize::MAX);
        repeats.saturating_add(1)
    }

    fn block_len(&self) -> u64 {
        self.block_len.unwrap_or(BLOCK_LEN_GUESS)
    }

    /// Waits no more for what this peer owes. Gives the last of it.
    fn forgo(&mut self, peer: &PkiId) -> Option<Sent> {
        let owed = self.ranges.forgo(peer);
        owed.iter().for_each(|sent| self.sources.close(&sent.peer));
        owed.into_iter().max_by_key(|sent| sent.at)
    }
}
