//! Who corrupts chunks: found from who accuses whom.
//!
//! Chunks are passed on before they are verified, so whoever is below a liar passes bad chunks on
//! in good faith. But each of those finds it out, too, and accuses the one above. The chain ends
//! with somebody who accuses nobody: it is at fault, or the last accuser lies about it. Both are
//! held to account, the accused twice as much; blocks have different trees, so an honest member
//! is seldom beside the same liar again.

use std::collections::{BTreeMap, VecDeque};

use super::parameters::{ACCUSATIONS_MAX, BLAME_MAX, BLAME_TIME, TRIALS_MAX};
use crate::id::{Moment, PkiId};

/// What it counts to be accused and to accuse nobody.
const ACCUSED: usize = 2;

/// What it counts to accuse one who accuses nobody.
const ACCUSER: usize = 1;

/// Who accuses whom of which stripe.
type Accusations = BTreeMap<(u8, PkiId), PkiId>;

#[derive(Debug, Default)]
pub(super) struct Trials {
    open: BTreeMap<u64, Accusations>,
    /// When each member was held to account, once for each point.
    scores: BTreeMap<PkiId, VecDeque<Moment>>,
}

impl Trials {
    /// Takes an accusation. True if it is the first about its block.
    pub(super) fn accuse(
        &mut self,
        number: u64,
        stripe: u8,
        accuser: PkiId,
        accused: PkiId,
    ) -> bool {
        let is_first = !self.open.contains_key(&number);
        if is_first && self.open.len() >= TRIALS_MAX {
            return false;
        }
        let accusations = self.open.entry(number).or_default();
        if accusations.len() < ACCUSATIONS_MAX && accuser != accused {
            accusations.entry((stripe, accuser)).or_insert(accused);
        }
        is_first
    }

    /// Who was held to account too often, after this block. Nothing is held against the root, which
    /// knows what it sent.
    pub(super) fn decide(&mut self, now: Moment, number: u64, root: &PkiId) -> Vec<PkiId> {
        let accusations = self.open.remove(&number).unwrap_or_default();
        let mut points: BTreeMap<PkiId, usize> = BTreeMap::new();
        for ((stripe, accuser), accused) in &accusations {
            if accusations.contains_key(&(*stripe, *accused)) {
                continue;
            }
            for (member, point) in [(accuser, ACCUSER), (accused, ACCUSED)] {
                let so_far = points.entry(*member).or_default();
                *so_far = point.max(*so_far);
            }
        }
        points.remove(root);
        let mut guilty = Vec::new();
        for (member, points) in points {
            let score = self.scores.entry(member).or_default();
            score.extend(std::iter::repeat_n(now, points));
            score.retain(|at| now.since(*at) < BLAME_TIME);
            if score.len() >= ACCUSED * BLAME_MAX {
                guilty.push(member);
            }
        }
        if !guilty.is_empty() {
            // Somebody is found; what was held against others may have been his.
            self.scores.clear();
        }
        self.scores
            .retain(|_, score| score.back().is_some_and(|at| now.since(*at) < BLAME_TIME));
        guilty
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(number: u8) -> PkiId {
        PkiId::new([number; 32])
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    const ROOT: u8 = 0;

    fn hear(trials: &mut Trials, number: u64, accusations: &[(u8, u8)]) -> Vec<PkiId> {
        for (accuser, accused) in accusations {
            trials.accuse(number, 0, peer(*accuser), peer(*accused));
        }
        trials.decide(at(number), number, &peer(ROOT))
    }

    #[test]
    fn the_one_at_the_end_of_the_chain_is_found_and_not_those_below() {
        let mut trials = Trials::default();
        let liar = 9;
        for number in 0..2 {
            let below = number as u8 * 10 + 20;
            let chain = [(below, liar), (below + 1, below), (below + 2, below + 1)];
            assert_eq!(hear(&mut trials, number, &chain), []);
        }
        assert_eq!(hear(&mut trials, 2, &[(50, liar), (51, 50)]), [peer(liar)]);
    }

    #[test]
    fn a_liar_that_accuses_those_above_it_is_found_too() {
        let mut trials = Trials::default();
        let liar = 9;
        for number in 0..5 {
            let (above, below) = (number as u8 + 20, number as u8 + 40);
            assert_eq!(
                hear(&mut trials, number, &[(below, liar), (liar, above)]),
                []
            );
        }
        assert_eq!(
            hear(&mut trials, 5, &[(60, liar), (liar, 61)]),
            [peer(liar)]
        );
    }

    #[test]
    fn nobody_accuses_the_root_with_success() {
        let mut trials = Trials::default();
        for number in 0..5 {
            assert_eq!(hear(&mut trials, number, &[(7, ROOT)]), []);
        }
        assert_eq!(hear(&mut trials, 5, &[(7, ROOT)]), [peer(7)]);
    }

    #[test]
    fn old_faults_do_not_count() {
        let mut trials = Trials::default();
        assert_eq!(hear(&mut trials, 0, &[(20, 9)]), []);
        assert_eq!(hear(&mut trials, 1, &[(21, 9)]), []);
        assert_eq!(hear(&mut trials, BLAME_TIME.as_secs() + 1, &[(22, 9)]), []);
    }

    #[test]
    fn accusations_and_trials_are_bounded() {
        let mut trials = Trials::default();
        for number in 0..2 * TRIALS_MAX as u64 {
            let is_begun = trials.accuse(number, 0, peer(1), peer(2));
            assert_eq!(is_begun, number < TRIALS_MAX as u64);
        }
        for accuser in 0..2 * ACCUSATIONS_MAX as u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&accuser.to_be_bytes());
            trials.accuse(0, 1, PkiId::new(id), peer(2));
        }
        assert_eq!(trials.open[&0].len(), ACCUSATIONS_MAX);
    }
}
