//! How often trouble that lasts is told of.
//!
//! Promises: of one party whose attempts fail again and again, a reason is told when it is new and
//! then every [`TELL_EVERY`], with how many attempts have failed; that it is over is told only if
//! the trouble was. Knows nothing of who the parties are.

use std::time::Duration;

use crate::id::Moment;

/// A reason that was told is not told again before this.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// Reasons of one party that are told within [`TELL_EVERY`]. The party may have a hand in the text,
/// so further ones wait until the first is forgotten.
const REASONS_MAX: usize = 4;

/// The trouble with one party, from its first failure on.
#[derive(Debug)]
pub(crate) struct Trouble {
    since: Moment,
    told: Vec<(String, Moment)>,
    /// Failures since the last one that was told.
    untold: u32,
}

impl Trouble {
    /// Begins now.
    pub(crate) fn since(now: Moment) -> Self {
        Self {
            since: now,
            told: Vec::new(),
            untold: 0,
        }
    }

    /// One more attempt failed. Gives the text if it is to be told.
    pub(crate) fn failed(&mut self, now: Moment, reason: &str) -> Option<String> {
        self.untold = self.untold.saturating_add(1);
        self.told.retain(|(_, at)| now.since(*at) < TELL_EVERY);
        let is_told = self.told.iter().any(|(told, _)| told == reason);
        if is_told || self.told.len() >= REASONS_MAX {
            return None;
        }
        self.told.push((reason.to_owned(), now));
        Some(match std::mem::take(&mut self.untold) {
            1 => reason.to_owned(),
            failures => format!("{reason} ({failures} attempts failed since this was told last)"),
        })
    }

    /// How long it lasted, in whole seconds.
    pub(crate) fn lasted(&self, now: Moment) -> Duration {
        Duration::from_secs(now.since(self.since).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn a_reason_is_told_when_it_is_new_and_every_ten_minutes() {
        let mut trouble = Trouble::since(at(5));
        assert_eq!(trouble.failed(at(5), "is down").unwrap(), "is down");
        for second in 6..605 {
            assert_eq!(trouble.failed(at(second), "is down"), None);
        }
        let text = "is down (600 attempts failed since this was told last)";
        assert_eq!(trouble.failed(at(605), "is down").unwrap(), text);
        assert_eq!(trouble.failed(at(606), "is full").unwrap(), "is full");
        assert_eq!(trouble.failed(at(607), "is down"), None);
        assert_eq!(trouble.lasted(at(607)), Duration::from_secs(602));
    }

    #[test]
    fn ever_new_reasons_are_told_so_often() {
        let mut trouble = Trouble::since(at(0));
        let told = |trouble: &mut Trouble, range: std::ops::Range<u64>| {
            range
                .filter(|second| trouble.failed(at(*second), &second.to_string()).is_some())
                .count()
        };
        assert_eq!(told(&mut trouble, 0..600), REASONS_MAX);
        assert_eq!(told(&mut trouble, 600..1200), REASONS_MAX);
        assert_eq!(trouble.told.len(), REASONS_MAX);
    }
}
