//! Peers that did not answer or gave something wrong. They are asked last.

use std::{collections::BTreeMap, time::Duration};

use crate::id::{Moment, PkiId};

/// How long a peer is asked last after its first failure; doubled with each further one.
pub const DOUBT_MIN: Duration = Duration::from_secs(5);

/// Longest time that a peer is asked last.
pub const DOUBT_MAX: Duration = Duration::from_secs(60);

/// Peers in doubt that are remembered; beyond it the first by PKI-ID is given another chance.
pub(super) const DOUBTS_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Doubts(BTreeMap<PkiId, Doubt>);

#[derive(Debug)]
struct Doubt {
    failures: u32,
    until: Moment,
    /// It gave something wrong, which was said.
    is_known: bool,
}

impl Doubts {
    /// This peer did not answer.
    pub(super) fn failed(&mut self, now: Moment, peer: PkiId) {
        self.0.retain(|_, doubt| now < doubt.until + DOUBT_MAX);
        if self.0.len() >= DOUBTS_MAX && !self.0.contains_key(&peer) {
            self.0.pop_first();
        }
        let doubt = self.0.entry(peer).or_insert(Doubt {
            failures: 0,
            until: now,
            is_known: false,
        });
        let wait = DOUBT_MIN.saturating_mul(1 << doubt.failures.min(10));
        doubt.failures = doubt.failures.saturating_add(1);
        doubt.until = now + wait.min(DOUBT_MAX);
    }

    /// This peer gave something wrong. Tells whether that is news.
    pub(super) fn lied(&mut self, now: Moment, peer: PkiId) -> bool {
        self.failed(now, peer);
        let doubt = self.0.get_mut(&peer);
        doubt.is_some_and(|doubt| !std::mem::replace(&mut doubt.is_known, true))
    }

    /// This peer kept its word.
    pub(super) fn cleared(&mut self, now: Moment, peer: &PkiId) {
        if let Some(doubt) = self.0.get_mut(peer) {
            doubt.failures = 0;
            doubt.until = now;
        }
    }

    pub(super) fn is_in_doubt(&self, now: Moment, peer: &PkiId) -> bool {
        self.0.get(peer).is_some_and(|doubt| now < doubt.until)
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

    #[test]
    fn doubt_doubles_up_to_its_limit_and_ends_with_a_good_answer() {
        let mut doubts = Doubts::default();
        let mut now = at(0);
        for secs in [5, 10, 20, 40, 60, 60] {
            doubts.failed(now, peer(1));
            let until = now + Duration::from_secs(secs);
            assert_eq!(doubts.0[&peer(1)].until, until);
            assert!(doubts.is_in_doubt(now, &peer(1)));
            now = until;
            assert!(!doubts.is_in_doubt(now, &peer(1)));
        }
        doubts.failed(now, peer(1));
        doubts.cleared(now, &peer(1));
        assert!(!doubts.is_in_doubt(now, &peer(1)));
        doubts.failed(now, peer(1));
        assert_eq!(doubts.0[&peer(1)].until, now + DOUBT_MIN);
    }

    #[test]
    fn a_lie_is_news_once_until_it_is_forgotten() {
        let mut doubts = Doubts::default();
        assert!(doubts.lied(at(0), peer(1)));
        doubts.cleared(at(1), &peer(1));
        assert!(!doubts.lied(at(2), peer(1)));
        doubts.failed(at(3), peer(2));
        assert!(doubts.lied(at(3), peer(2)), "that was silence");
        assert!(doubts.lied(at(1000), peer(1)));
    }

    #[test]
    fn doubts_about_private_data_are_bounded() {
        let mut doubts = Doubts::default();
        for n in 0..=DOUBTS_MAX {
            doubts.failed(at(0), peer(n));
        }
        assert_eq!(doubts.0.len(), DOUBTS_MAX);
        assert!(!doubts.is_in_doubt(at(0), &peer(0)));
        assert!(doubts.is_in_doubt(at(0), &peer(DOUBTS_MAX)));
    }
}
