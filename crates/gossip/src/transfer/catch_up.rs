//! Whom to ask for missing blocks, how often, and whom to believe.
//!
//! A round asks for one range after another until nothing is missing. A peer that does not keep
//! what its state info promises is left out for a while, its height along with it, so that an
//! invented height stalls nobody.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, rngs::ChaCha8Rng};

use crate::{
    channel::ChannelPeer,
    config::StateConfig,
    effect::Destination,
    id::{ChannelId, Moment, PkiId},
    random,
};

/// How long a peer is left out after its first failure; doubled with each further one.
pub(super) const DOUBT_MIN: Duration = Duration::from_secs(5);

/// Longest time that a peer is left out.
pub(super) const DOUBT_MAX: Duration = Duration::from_secs(60);

/// Peers in doubt that are remembered; beyond it the first by PKI-ID is given another chance.
pub(super) const DOUBTS_MAX: usize = 1000;

/// What an answer was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It began where it had to.
    Good,
    /// It did, and then went wrong.
    PartlyGood,
    /// It brought nothing.
    Useless,
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
    is_round: bool,
    range: Option<Asked>,
    doubts: BTreeMap<PkiId, Doubt>,
}

/// A range that was asked for. The nonce stays the same over all attempts, so that a late answer
/// to an earlier one still counts (G-S4).
#[derive(Debug)]
struct Asked {
    nonce: u64,
    start: u64,
    end: u64,
    /// One for each attempt.
    peers: Vec<PkiId>,
    /// None once the attempt failed.
    deadline: Option<Moment>,
}

#[derive(Debug)]
struct Doubt {
    failures: u32,
    until: Moment,
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
            config: config.clone(),
            is_round: false,
            range: None,
            doubts: BTreeMap::new(),
        }
    }

    /// Looks for missing blocks now.
    pub(super) fn begin(&mut self) {
        self.is_round = self.config.enabled;
    }

    pub(super) fn tick(&mut self, now: Moment) {
        if self.next_check.is_some_and(|check| check <= now) {
            self.next_check = Some(now + self.config.check_interval);
            self.begin();
        }
        if let Some(range) = &mut self.range
            && range.deadline.is_some_and(|deadline| deadline <= now)
        {
            range.deadline = None;
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let attempt = self.range.as_ref().and_then(|range| range.deadline);
        [self.next_check, attempt].into_iter().flatten().min()
    }

    /// Whether [`Self::ask`] has something to do.
    pub(super) fn is_idle_in_round(&self) -> bool {
        self.is_round
            && self
                .range
                .as_ref()
                .is_none_or(|range| range.deadline.is_none())
    }

    /// The range that an answer with this nonce may fill, both ends inclusive.
    pub(super) fn awaited(&self, nonce: u64) -> Option<(u64, u64)> {
        let range = self.range.as_ref().filter(|range| range.nonce == nonce)?;
        Some((range.start, range.end))
    }

    pub(super) fn was_asked(&self, peer: &PkiId) -> bool {
        let range = self.range.as_ref();
        range.is_some_and(|range| range.peers.contains(peer))
    }

    /// An answer to what was asked has been taken in.
    pub(super) fn answered(&mut self, now: Moment, from: PkiId, verdict: Verdict) {
        match verdict {
            Verdict::Good => {
                self.doubts.remove(&from);
            }
            Verdict::PartlyGood | Verdict::Useless => self.doubt(now, from),
        }
        let Some(range) = &mut self.range else { return };
        if verdict != Verdict::Useless {
            self.range = None;
        } else if range.peers.last() == Some(&from) {
            range.deadline = None;
        }
    }

    /// This peer cannot be reached: if it was asked last, somebody else is asked.
    pub(super) fn lost(&mut self, now: Moment, peer: &PkiId) {
        let Some(range) = &mut self.range else { return };
        if range.deadline.is_some() && range.peers.last() == Some(peer) {
            range.deadline = None;
            self.doubt(now, *peer);
        }
    }

    /// Chooses whom to ask for what is missing in `start..limit`. Ends the round if nobody has
    /// anything, or if the range was asked for in vain too often.
    pub(super) fn ask(
        &mut self,
        now: Moment,
        start: u64,
        limit: u64,
        peers: &[ChannelPeer<'_>],
    ) -> Option<Ask> {
        // The first missing block may have come from elsewhere meanwhile.
        if self
            .range
            .as_ref()
            .is_some_and(|range| range.start != start)
        {
            self.range = None;
        }
        let attempts_max = usize::try_from(self.config.max_retries).unwrap_or(usize::MAX);
        if let Some(range) = &self.range
            && range.peers.len() > attempts_max
        {
            return self.give_up(now);
        }
        let trusted: Vec<&ChannelPeer<'_>> = peers
            .iter()
            .filter(|peer| peer.info.height > start && !self.is_in_doubt(now, &peer.info.peer))
            .collect();
        let end = match &self.range {
            Some(range) => range.end,
            None => {
                let height = trusted.iter().map(|peer| peer.info.height).max();
                let Some(height) = height else {
                    return self.give_up(now);
                };
                let batch = start.saturating_add(self.config.batch_size);
                batch.min(limit.min(height).saturating_sub(1))
            }
        };
        let Some(peer) = self.choose(&trusted, end) else {
            return self.give_up(now);
        };
        let (to, chosen) = (peer.member.destination(), peer.info.peer);
        let nonce = match &self.range {
            Some(range) => range.nonce,
            None => self.rng.random(),
        };
        let range = self.range.get_or_insert(Asked {
            nonce,
            start,
            end,
            peers: Vec::new(),
            deadline: None,
        });
        range.peers.push(chosen);
        range.deadline = Some(now + self.config.response_timeout);
        Some(Ask {
            to,
            nonce,
            start,
            end,
        })
    }

    /// Somebody who has the whole range and was not asked yet; else who has a part of it; else,
    /// for a repeat, who was asked before and may have lost the request.
    fn choose<'p, 'a>(
        &mut self,
        trusted: &[&'p ChannelPeer<'a>],
        end: u64,
    ) -> Option<&'p ChannelPeer<'a>> {
        let asked = |peer: &ChannelPeer<'_>| self.was_asked(&peer.info.peer);
        let fresh: Vec<&'p ChannelPeer<'a>> =
            trusted.iter().copied().filter(|p| !asked(p)).collect();
        let whole: Vec<&'p ChannelPeer<'a>> = fresh
            .iter()
            .copied()
            .filter(|p| p.info.height > end)
            .collect();
        let again = trusted.to_vec();
        let from = [whole, fresh, again].into_iter().find(|c| !c.is_empty())?;
        from.get(self.rng.random_range(0..from.len())).copied()
    }

    fn give_up<T>(&mut self, now: Moment) -> Option<T> {
        self.is_round = false;
        if let Some(mut range) = self.range.take() {
            range.peers.sort();
            range.peers.dedup();
            for peer in range.peers {
                if !self.is_in_doubt(now, &peer) {
                    self.doubt(now, peer);
                }
            }
        }
        None
    }

    fn is_in_doubt(&self, now: Moment, peer: &PkiId) -> bool {
        self.doubts.get(peer).is_some_and(|doubt| now < doubt.until)
    }

    fn doubt(&mut self, now: Moment, peer: PkiId) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    fn peer(n: usize) -> PkiId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        PkiId::new(id)
    }

    fn catch_up() -> CatchUp {
        CatchUp::new(&"ch".into(), &StateConfig::default(), at(0), &[0; 32])
    }

    #[test]
    fn doubt_doubles_up_to_its_limit_and_fades() {
        let mut c = catch_up();
        let mut now = at(0);
        for secs in [5, 10, 20, 40, 60, 60] {
            c.doubt(now, peer(1));
            let until = now + Duration::from_secs(secs);
            assert_eq!(c.doubts[&peer(1)].until, until);
            now = until;
            assert!(!c.is_in_doubt(now, &peer(1)));
        }
        now = now + DOUBT_MAX;
        c.doubt(now, peer(1));
        assert_eq!(c.doubts[&peer(1)].until, now + DOUBT_MIN);
    }

    #[test]
    fn doubts_are_bounded() {
        let mut c = catch_up();
        for n in 0..=DOUBTS_MAX {
            c.doubt(at(0), peer(n));
        }
        assert_eq!(c.doubts.len(), DOUBTS_MAX);
        assert!(!c.is_in_doubt(at(0), &peer(0)));
        assert!(c.is_in_doubt(at(0), &peer(DOUBTS_MAX)));
    }
}
