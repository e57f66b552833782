//! How often one peer is answered.
//!
//! Promises: a peer that asks as often as Fabric does always gets its answer, many requests at
//! once included; one that asks without end gets two answers in a second, or as many as was said,
//! however it asks. Knows nothing of what is asked: there is one of these for each kind of request.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    id::{Moment, PkiId},
    identity::IDENTITIES_MAX,
};

/// What one answer costs, unless something else is said. The peers of Fabric ask every four
/// seconds, and repeat a request that was not answered after five.
const PERIOD: Duration = Duration::from_millis(500);

/// Answers on credit to what a peer asks once in every round.
pub(crate) const ROUNDS_BURST: u32 = 8;

/// Answers on credit to membership requests. A peer that starts asks an anchor peer once for each
/// of its channels, all at the same moment.
pub(crate) const MEMBERSHIP_BURST: u32 = 16;

/// Peers remembered, as many as can be known. At the limit those are forgotten who owe nothing,
/// then the first by PKI-ID, which begins anew.
const PEERS_MAX: usize = IDENTITIES_MAX;

/// What was answered lately.
#[derive(Debug)]
pub(crate) struct Pace {
    burst: u32,
    /// What one answer costs.
    period: Duration,
    /// When what each peer was given is paid for.
    paid: BTreeMap<PkiId, Moment>,
}

impl Pace {
    /// Nobody was answered yet. At most `burst` answers are given at once, which is not zero.
    pub(crate) fn new(burst: u32) -> Self {
        Self::of(burst, PERIOD)
    }

    /// The same for answers that are asked for more or less often.
    pub(crate) fn of(burst: u32, period: Duration) -> Self {
        Self {
            burst,
            period,
            paid: BTreeMap::new(),
        }
    }

    /// Whether this peer is to be answered now, which is then charged to it.
    pub(crate) fn answers(&mut self, now: Moment, peer: PkiId) -> bool {
        let paid = self.paid.get(&peer).map_or(now, |paid| now.max(*paid));
        if paid.since(now) > self.period * self.burst.saturating_sub(1) {
            return false;
        }
        if self.paid.len() >= PEERS_MAX && !self.paid.contains_key(&peer) {
            self.paid.retain(|_, paid| now < *paid);
            if self.paid.len() >= PEERS_MAX {
                self.paid.pop_first();
            }
        }
        self.paid.insert(peer, paid + self.period);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::after_start(Duration::from_millis(millis))
    }

    fn peer(n: usize) -> PkiId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        PkiId::new(id)
    }

    #[test]
    fn who_asks_without_end_gets_two_answers_in_a_second() {
        let mut pace = Pace::new(16);
        let answers = (0..10_000).filter(|ms| pace.answers(at(*ms), peer(1)));
        assert_eq!(answers.count(), 16 + 19);
        assert!(pace.answers(at(10_000), peer(2)), "each for itself");
    }

    #[test]
    fn who_asks_as_fabric_does_is_always_answered() {
        let mut pace = Pace::new(MEMBERSHIP_BURST);
        for ms in (0..600_000).step_by(1000) {
            // A round every four seconds, and requests with a nonce every five, all at once.
            let requests = u64::from(ms % 4000 == 0) + 8 * u64::from(ms % 5000 == 0);
            assert!((0..requests).all(|_| pace.answers(at(ms), peer(1))), "{ms}");
        }
    }

    #[test]
    fn no_more_peers_are_remembered_than_the_limit() {
        let mut pace = Pace::new(1);
        for n in 0..=PEERS_MAX {
            assert!(pace.answers(at(0), peer(n)));
        }
        assert_eq!(pace.paid.len(), PEERS_MAX);
        assert!(pace.answers(at(500), peer(PEERS_MAX + 1)));
        assert_eq!(pace.paid.len(), 1, "all had paid");
    }
}
