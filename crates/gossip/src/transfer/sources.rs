//! What each peer is worth as a source of blocks: how much is asked of it at a time, and whether
//! it is believed at all.
//!
//! Promises: nobody is asked for more at a time than its window, which grows with quick answers
//! and shrinks with every request in vain; who does not keep what its state info promises is left
//! out for ever longer times. Knows nothing of which blocks are missing.

use std::{collections::BTreeMap, time::Duration};

use super::progress::Share;
use crate::{
    config::StateConfig,
    id::{Moment, PkiId},
};

/// Requests under way to a peer of which nothing is known yet. With a second one there is always
/// something to answer while an answer travels.
pub(super) const WINDOW_FIRST: usize = 2;

/// Most requests under way to one peer. Fabric's peers answer one at a time out of a queue of 100
/// for all askers and drop what does not fit, so a dozen askers find room; and eight answers of
/// eleven blocks keep a wire of a tenth of a second busy at 25 MB/s.
pub const WINDOW_MAX: usize = 8;

/// Peers whose share is remembered; the one that brought least gives way.
pub(super) const SOURCES_MAX: usize = 64;

/// How long a peer is left out after its first failure; doubled with each further one.
pub(super) const DOUBT_MIN: Duration = Duration::from_secs(5);

/// Longest time that a peer is left out.
pub(super) const DOUBT_MAX: Duration = Duration::from_secs(60);

/// Peers in doubt that are remembered; beyond it the first by PKI-ID is given another chance.
pub(super) const DOUBTS_MAX: usize = 1000;

/// Shortest wait until somebody else is asked for what a source owes.
const HEDGE_MIN: Duration = Duration::from_millis(100);

/// One request to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) peer: PkiId,
    pub(super) at: Moment,
    /// Requests under way to that peer, this one included.
    depth: u32,
}

#[derive(Debug)]
pub(super) struct Sources {
    response_timeout: Duration,
    /// Requests in vain, one after the other, after which a peer is in doubt.
    vain_max: u32,
    shares: BTreeMap<PkiId, Source>,
    doubts: BTreeMap<PkiId, Doubt>,
}

#[derive(Debug)]
struct Source {
    window: usize,
    open: usize,
    /// Requests in vain since the last good answer.
    vain: u32,
    /// What was asked before this and is in vain counts no more: one loss strikes once.
    struck: Moment,
    /// From request to answer, smoothed.
    latency: Option<Duration>,
    /// The same for each request under way: peers answer one after the other.
    service: Option<Duration>,
    /// Blocks that it was the first to bring.
    blocks: u64,
}

#[derive(Debug)]
struct Doubt {
    failures: u32,
    until: Moment,
}

impl Sources {
    pub(super) fn new(config: &StateConfig) -> Self {
        Self {
            response_timeout: config.response_timeout,
            vain_max: config.max_retries.saturating_add(1),
            shares: BTreeMap::new(),
            doubts: BTreeMap::new(),
        }
    }

    /// A round is over. Who is in doubt stays so.
    pub(super) fn clear(&mut self) {
        self.shares.clear();
    }

    pub(super) fn shares(&self, now: Moment) -> Vec<Share> {
        let shown = |(peer, source): (&PkiId, &Source)| Share {
            peer: *peer,
            blocks: source.blocks,
            window: match self.is_in_doubt(now, peer) {
                true => 0,
                false => source.window,
            },
            open: source.open,
        };
        self.shares.iter().map(shown).collect()
    }

    /// Whether a peer may be asked for so many more than its window says.
    pub(super) fn is_free(&self, peer: &PkiId, beyond: usize) -> bool {
        let source = self.shares.get(peer);
        source.is_none_or(|source| source.open < source.window + beyond)
    }

    /// The order in which peers are asked: who failed last goes last, then by the time until its
    /// answer would be there. Of whom nothing is known much is hoped.
    pub(super) fn rank(&self, peer: &PkiId) -> (u32, Duration) {
        let Some(source) = self.shares.get(peer) else {
            return (0, Duration::ZERO);
        };
        let ahead = count(source.open).saturating_add(1);
        let wait = source.service.unwrap_or_default().saturating_mul(ahead);
        (source.vain, wait)
    }

    pub(super) fn send(&mut self, now: Moment, peer: PkiId) -> Sent {
        if !self.shares.contains_key(&peer) && self.shares.len() >= SOURCES_MAX {
            let idle = self.shares.iter().filter(|(_, source)| source.open == 0);
            let least = idle.min_by_key(|(_, source)| source.blocks);
            if let Some(least) = least.map(|(peer, _)| *peer) {
                self.shares.remove(&least);
            }
        }
        let source = self.shares.entry(peer).or_insert(Source {
            window: WINDOW_FIRST,
            open: 0,
            vain: 0,
            struck: Moment::ZERO,
            latency: None,
            service: None,
            blocks: 0,
        });
        source.open += 1;
        Sent {
            peer,
            at: now,
            depth: count(source.open),
        }
    }

    /// A request is not under way any more, whatever became of it.
    pub(super) fn close(&mut self, peer: &PkiId) {
        if let Some(source) = self.shares.get_mut(peer) {
            source.open = source.open.saturating_sub(1);
        }
    }

    /// A request was answered with what it asked for; so many blocks were news.
    pub(super) fn good(&mut self, now: Moment, sent: &Sent, blocks: u64) {
        self.redeem(sent);
        let Some(source) = self.shares.get_mut(&sent.peer) else {
            return;
        };
        let latency = now.since(sent.at);
        source.vain = 0;
        source.blocks = source.blocks.saturating_add(blocks);
        source.measure(latency, sent.depth);
        if latency <= self.response_timeout / 4 {
            source.window = (source.window + 1).min(WINDOW_MAX);
        } else if latency >= self.response_timeout / 2 {
            // What waits behind this one would come too late.
            source.window = (source.window - 1).max(1);
        }
    }

    /// A request brought nothing, for which the peer need not be to blame. Too many of them one
    /// after the other make it doubtful.
    pub(super) fn in_vain(&mut self, now: Moment, sent: &Sent) {
        let Some(source) = self.shares.get_mut(&sent.peer) else {
            return;
        };
        if sent.at < source.struck {
            return;
        }
        source.struck = now;
        source.window = (source.window / 2).max(1);
        source.vain = source.vain.saturating_add(1);
        if source.vain >= self.vain_max {
            self.doubt(now, sent.peer);
        }
    }

    /// A request waits so long for its answer that somebody else is asked for the same.
    pub(super) fn slow(&mut self, now: Moment, sent: &Sent) {
        if let Some(source) = self.shares.get_mut(&sent.peer) {
            source.window = (source.window / 2).max(1);
            source.measure(now.since(sent.at), sent.depth);
        }
    }

    /// How long to wait for this peer before somebody else is asked for the same: several times
    /// what the quickest of the others takes.
    pub(super) fn patience(&self, peer: &PkiId) -> Duration {
        let others = self.shares.iter().filter(|(other, _)| *other != peer);
        let quickest = others.filter_map(|(_, source)| source.latency).min();
        match quickest {
            Some(latency) => latency.saturating_mul(4).max(HEDGE_MIN),
            None => self.response_timeout / 4,
        }
        .min(self.response_timeout / 2)
    }

    pub(super) fn is_in_doubt(&self, now: Moment, peer: &PkiId) -> bool {
        self.doubts.get(peer).is_some_and(|doubt| now < doubt.until)
    }

    /// Leaves a peer out for a while.
    pub(super) fn doubt(&mut self, now: Moment, peer: PkiId) {
        if let Some(source) = self.shares.get_mut(&peer) {
            (source.window, source.vain) = (1, 1);
        }
        self.doubts.retain(|_, doubt| now < doubt.until + DOUBT_MAX);
        if self.doubts.len() >= DOUBTS_MAX && !self.doubts.contains_key(&peer) {
            self.doubts.pop_first();
        }
        let doubt = self.doubts.entry(peer).or_insert(Doubt {
            failures: 0,
            until: now,
        });
        let wait = DOUBT_MIN.saturating_mul(1 << doubt.failures.min(10));
        doubt.failures = doubt.failures.saturating_add(1);
        doubt.until = now + wait.min(DOUBT_MAX);
    }

    /// Takes back one failure for an answer to what was asked after the peer was given another
    /// chance. What was asked before says nothing about it: or else a truth that is still under way
    /// would excuse each lie.
    fn redeem(&mut self, sent: &Sent) {
        let Some(doubt) = self.doubts.get_mut(&sent.peer) else {
            return;
        };
        if sent.at < doubt.until {
            return;
        }
        doubt.failures = doubt.failures.saturating_sub(1);
        if doubt.failures == 0 {
            self.doubts.remove(&sent.peer);
        }
    }
}

impl Source {
    fn measure(&mut self, latency: Duration, depth: u32) {
        let smooth = |old: Option<Duration>, new: Duration| match old {
            Some(old) => (old.saturating_mul(3).saturating_add(new)) / 4,
            None => new,
        };
        self.latency = Some(smooth(self.latency, latency));
        self.service = Some(smooth(self.service, latency / depth.max(1)));
    }
}

fn count(requests: usize) -> u32 {
    u32::try_from(requests).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    fn peer(n: usize) -> PkiId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        PkiId::new(id)
    }

    fn sources() -> Sources {
        Sources::new(&StateConfig::default())
    }

    /// Asks, and is answered well after so long. Gives the window then.
    fn answered(s: &mut Sources, n: usize, ms: u64) -> usize {
        let sent = s.send(at(0), peer(n));
        s.close(&peer(n));
        s.good(at(ms), &sent, 11);
        s.shares[&peer(n)].window
    }

    #[test]
    fn a_window_grows_with_quick_answers_and_shrinks_with_slow_ones() {
        let mut s = sources();
        let windows: Vec<_> = (0..8).map(|_| answered(&mut s, 1, 750)).collect();
        assert_eq!(windows, [3, 4, 5, 6, 7, 8, 8, 8]);
        assert_eq!(answered(&mut s, 1, 751), 8);
        let windows: Vec<_> = (0..8).map(|_| answered(&mut s, 1, 1500)).collect();
        assert_eq!(windows, [7, 6, 5, 4, 3, 2, 1, 1]);
        assert_eq!(s.shares(at(0))[0].blocks, 17 * 11);
    }

    #[test]
    fn nobody_is_asked_beyond_its_window() {
        let mut s = sources();
        for _ in 0..WINDOW_FIRST {
            assert!(s.is_free(&peer(1), 0));
            s.send(at(0), peer(1));
        }
        assert!(!s.is_free(&peer(1), 0));
        assert!(s.is_free(&peer(1), 1), "but once more for what is urgent");
        s.close(&peer(1));
        assert!(s.is_free(&peer(1), 0));
    }

    #[test]
    fn what_is_lost_together_strikes_once_and_too_much_of_it_makes_doubtful() {
        let mut s = sources();
        answered(&mut s, 1, 1);
        answered(&mut s, 1, 1);
        let sent: Vec<_> = (0..4).map(|_| s.send(at(10), peer(1))).collect();
        for sent in &sent {
            s.in_vain(at(3010), sent);
        }
        assert_eq!(s.shares[&peer(1)].window, 2, "of 4");
        for round in 1..=3 {
            assert!(!s.is_in_doubt(at(3010 * round), &peer(1)));
            let sent = s.send(at(3010 * round), peer(1));
            s.in_vain(at(3010 * (round + 1)), &sent);
        }
        assert!(
            s.is_in_doubt(at(4 * 3010), &peer(1)),
            "one and three repeats"
        );
        assert_eq!(s.shares(at(4 * 3010))[0].window, 0);
        assert_eq!(s.shares(at(4 * 3010 + 5000))[0].window, 1);
    }

    #[test]
    fn a_good_answer_makes_good() {
        let mut s = sources();
        for _ in 0..10 {
            for _ in 0..3 {
                let sent = s.send(at(5), peer(1));
                s.in_vain(at(5), &sent);
            }
            answered(&mut s, 1, 1);
        }
        assert!(!s.is_in_doubt(at(5), &peer(1)));
    }

    #[test]
    fn each_good_answer_after_a_doubt_takes_one_failure_back() {
        let mut s = sources();
        s.doubt(at(0), peer(1));
        let until = at(5000);
        s.doubt(until, peer(1));
        let until = until + DOUBT_MIN * 2;
        let good = |s: &mut Sources| {
            let sent = s.send(until, peer(1));
            s.good(until, &sent, 11);
        };
        good(&mut s);
        assert_eq!(s.doubts[&peer(1)].failures, 1);
        good(&mut s);
        assert!(!s.doubts.contains_key(&peer(1)));
    }

    #[test]
    fn a_truth_that_was_asked_for_before_a_lie_does_not_excuse_it() {
        let mut s = sources();
        let mut now = at(0);
        for secs in [5, 10, 20] {
            let truth = s.send(now, peer(1));
            s.doubt(now, peer(1));
            s.good(now, &truth, 11);
            assert!(s.is_in_doubt(now, &peer(1)));
            now = now + Duration::from_secs(secs);
            assert!(!s.is_in_doubt(now, &peer(1)), "after {secs} s");
        }
    }

    #[test]
    fn the_quick_are_asked_first_and_who_failed_last() {
        let mut s = sources();
        answered(&mut s, 1, 10);
        answered(&mut s, 2, 15);
        assert!(s.rank(&peer(1)) < s.rank(&peer(2)));
        assert!(s.rank(&peer(3)) < s.rank(&peer(1)), "worth a try");
        let sent = s.send(at(0), peer(1));
        assert!(s.rank(&peer(1)) > s.rank(&peer(2)), "one waits there");
        s.close(&peer(1));
        s.in_vain(at(1), &sent);
        answered(&mut s, 2, 3000);
        assert!(s.rank(&peer(1)) > s.rank(&peer(2)));
    }

    #[test]
    fn patience_is_measured_by_the_quickest_of_the_others() {
        let mut s = sources();
        assert_eq!(s.patience(&peer(1)), Duration::from_millis(750));
        answered(&mut s, 1, 1);
        assert_eq!(s.patience(&peer(1)), Duration::from_millis(750));
        assert_eq!(s.patience(&peer(2)), HEDGE_MIN);
        answered(&mut s, 2, 50);
        assert_eq!(s.patience(&peer(1)), Duration::from_millis(200));
        answered(&mut s, 3, 900);
        answered(&mut s, 4, 800);
        s.shares.remove(&peer(2));
        assert_eq!(s.patience(&peer(1)), Duration::from_millis(1500));
    }

    #[test]
    fn sources_are_bounded_and_the_least_useful_gives_way() {
        let mut s = sources();
        for n in 0..SOURCES_MAX {
            answered(&mut s, n, 1);
        }
        answered(&mut s, 0, 1);
        s.send(at(0), peer(1));
        answered(&mut s, SOURCES_MAX, 1);
        assert_eq!(s.shares.len(), SOURCES_MAX);
        assert!(s.shares.contains_key(&peer(0)), "it brought most");
        assert!(s.shares.contains_key(&peer(1)), "it is being asked");
        assert!(!s.shares.contains_key(&peer(2)));
    }

    #[test]
    fn doubt_doubles_up_to_its_limit_and_fades() {
        let mut s = sources();
        let mut now = at(0);
        for secs in [5, 10, 20, 40, 60, 60] {
            s.doubt(now, peer(1));
            let until = now + Duration::from_secs(secs);
            assert_eq!(s.doubts[&peer(1)].until, until);
            now = until;
            assert!(!s.is_in_doubt(now, &peer(1)));
        }
        now = now + DOUBT_MAX;
        s.doubt(now, peer(1));
        assert_eq!(s.doubts[&peer(1)].until, now + DOUBT_MIN);
    }

    #[test]
    fn doubts_are_bounded() {
        let mut s = sources();
        for n in 0..=DOUBTS_MAX {
            s.doubt(at(0), peer(n));
        }
        assert_eq!(s.doubts.len(), DOUBTS_MAX);
        assert!(!s.is_in_doubt(at(0), &peer(0)));
        assert!(s.is_in_doubt(at(0), &peer(DOUBTS_MAX)));
    }
}
