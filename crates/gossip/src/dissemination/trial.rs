//! Who corrupts chunks: found from who accuses whom.
//!
//! Chunks are passed on before they are verified, so whoever is below a liar passes bad chunks on
//! in good faith. But each of those finds it out, too, and accuses the one above. The chain ends
//! with somebody who accuses nobody: it is at fault, or the last accuser lies about it. Both are
//! held to account, the accused twice as much; blocks have different trees, so an honest member
//! is seldom beside the same liar again. Nobody is condemned on the word of one: whoever is found
//! to be at fault was so beside several others.

use std::collections::{BTreeMap, BTreeSet};

use super::parameters::{ACCUSATIONS_MAX, BLAME_MAX, BLAME_TIME, TRIALS_MAX};
use crate::id::{Moment, PkiId};

/// What it counts to be accused and to accuse nobody.
const ACCUSED: usize = 2;

/// What it counts to accuse one who accuses nobody.
const ACCUSER: usize = 1;

/// How much within [`BLAME_TIME`] is guilt.
const GUILT: usize = ACCUSED * BLAME_MAX;

/// Beside how many others one must have been held to account. Two who conspire, or one who harms
/// always the same, are not enough: whoever gets bad chunks avoids their sender by itself.
const OTHERS_MIN: usize = 3;

/// Who accuses whom of which stripe.
type Accusations = BTreeMap<(u8, PkiId), PkiId>;

/// Something that is held against a member: in this block it stood beside that other one.
type Charge = (u64, PkiId);

#[derive(Debug, Default)]
pub(super) struct Trials {
    open: BTreeMap<u64, Accusations>,
    /// What each member was held to account for, when, and how much it counts.
    charges: BTreeMap<PkiId, BTreeMap<Charge, (Moment, usize)>>,
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
        if accuser == accused || self.is_heard_out(&accuser, &accused) {
            return false;
        }
        let is_first = !self.open.contains_key(&number);
        if is_first && self.open.len() >= TRIALS_MAX {
            return false;
        }
        let accusations = self.open.entry(number).or_default();
        if accusations.len() < ACCUSATIONS_MAX {
            accusations.entry((stripe, accuser)).or_insert(accused);
        }
        is_first
    }

    /// Whether one accused another as often as it takes. An honest member avoids whom it accused
    /// that often, and another would keep all trials busy.
    fn is_heard_out(&self, accuser: &PkiId, accused: &PkiId) -> bool {
        let charges = self.charges.get(accuser);
        let beside = charges.map(|charges| charges.keys().filter(|(_, with)| with == accused));
        beside.is_some_and(|beside| beside.count() >= GUILT)
    }

    /// Who was held to account too often, after this block. Nothing is held against the root, which
    /// knows what it sent.
    pub(super) fn decide(&mut self, now: Moment, number: u64, root: &PkiId) -> Vec<PkiId> {
        for charges in self.charges.values_mut() {
            charges.retain(|_, (at, _)| now.since(*at) < BLAME_TIME);
        }
        self.charges.retain(|_, charges| !charges.is_empty());
        let accusations = self.open.remove(&number).unwrap_or_default();
        for ((stripe, accuser), accused) in &accusations {
            if accusations.contains_key(&(*stripe, *accused)) {
                continue;
            }
            for (member, with, points) in [(accuser, accused, ACCUSER), (accused, accuser, ACCUSED)]
            {
                if member != root {
                    let charges = self.charges.entry(*member).or_default();
                    let (_, so_far) = charges.entry((number, *with)).or_insert((now, points));
                    *so_far = points.max(*so_far);
                }
            }
        }
        let mut guilty = Vec::new();
        while let Some(member) = self.guiltiest(root) {
            self.acquit_beside(&member);
            guilty.push(member);
        }
        guilty
    }

    /// Whom most is held against, if it is enough.
    fn guiltiest(&self, root: &PkiId) -> Option<PkiId> {
        let guilty = self.charges.iter().filter_map(|(member, charges)| {
            let others: BTreeSet<&PkiId> = charges.keys().map(|(_, with)| with).collect();
            // Who accuses the root is known to lie, and nobody else is needed to see it.
            let is_sure = others.len() >= OTHERS_MIN || others.contains(root);
            let points = points(charges);
            (is_sure && points >= GUILT).then_some((points, *member))
        });
        guilty.max().map(|(_, member)| member)
    }

    /// Somebody is found: what others were charged with beside it, and in the blocks that it
    /// spoiled, was its doing. What has nothing to do with it stays.
    fn acquit_beside(&mut self, found: &PkiId) {
        let charges = self.charges.remove(found).unwrap_or_default();
        let blocks: BTreeSet<u64> = charges.keys().map(|(number, _)| *number).collect();
        for charges in self.charges.values_mut() {
            charges.retain(|(number, with), _| with != found && !blocks.contains(number));
        }
        self.charges.retain(|_, charges| !charges.is_empty());
    }
}

/// Each block counts once, whatever number of members one stands beside in it.
fn points(charges: &BTreeMap<Charge, (Moment, usize)>) -> usize {
    let mut by_block: BTreeMap<u64, usize> = BTreeMap::new();
    for ((number, _), (_, points)) in charges {
        let so_far = by_block.entry(*number).or_default();
        *so_far = (*so_far).max(*points);
    }
    by_block.values().sum()
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
        assert_eq!(trials.charges[&peer(9)].len(), 1);
    }

    #[test]
    fn nobody_is_condemned_on_the_word_of_one_or_two() {
        let mut trials = Trials::default();
        let (liar, accomplice) = (9, 8);
        for number in 0..20 {
            let accuser = [liar, accomplice][number as usize % 2];
            assert_eq!(hear(&mut trials, number, &[(accuser, 7)]), []);
        }
        assert!(trials.is_heard_out(&peer(liar), &peer(7)));
        assert!(!trials.accuse(20, 0, peer(liar), peer(7)));
        assert!(trials.open.is_empty(), "it does not even open a trial");
    }

    #[test]
    fn who_accuses_one_after_the_other_is_found_and_they_are_not() {
        let mut trials = Trials::default();
        let liar = 9;
        for number in 0..5 {
            assert_eq!(hear(&mut trials, number, &[(liar, number as u8 + 20)]), []);
        }
        assert_eq!(hear(&mut trials, 5, &[(liar, 25)]), [peer(liar)]);
        assert!(trials.charges.is_empty(), "its victims are cleared");
    }

    #[test]
    fn who_frames_another_clears_itself_of_nothing() {
        let mut trials = Trials::default();
        let liar = 9;
        for number in 0..5 {
            assert_eq!(hear(&mut trials, number, &[(liar, number as u8 + 20)]), []);
        }
        for number in 5..8 {
            let others = [(number as u8 + 40, 7)];
            let guilty = if number == 7 { vec![peer(7)] } else { vec![] };
            assert_eq!(hear(&mut trials, number, &others), guilty);
        }
        assert_eq!(hear(&mut trials, 8, &[(liar, 25)]), [peer(liar)]);
    }

    #[test]
    fn who_accuses_itself_opens_nothing() {
        let mut trials = Trials::default();
        assert!(!trials.accuse(0, 0, peer(9), peer(9)));
        assert!(trials.open.is_empty());
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
