//! Reaching out to endpoints that were named to us: bootstrap peers and anchor peers.
//!
//! For each endpoint: find out who answers, ask it for its membership, wait for the answer, and
//! begin anew after a pause if any of it fails. It never gives up, and says now and then what fails.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    id::{Moment, PkiId, Ticket},
    trouble::Trouble,
};

/// Endpoints tried at a time: those of one configuration file and of the anchors of all channels.
/// At the limit further ones are left out, with a warning.
const CONNECTS_MAX: usize = 1024;

/// An identification without any report counts as failed after this. Longer than the dial (3 s),
/// ping (2 s) and stream (10 s) may take.
const IDENTIFY_WAIT: Duration = Duration::from_secs(20);

/// How long we wait for the answer to a membership request.
const RESPONSE_WAIT: Duration = Duration::from_secs(5);

/// Where to connect, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// `host:port`.
    pub endpoint: String,
    /// Whoever answers there must be of our organization.
    pub within_org: bool,
}

/// What one target is about to do.
#[derive(Debug)]
enum Step {
    /// Nothing until then.
    Pause { until: Moment },
    /// It is being found out who answers there.
    Identify { ticket: Ticket, until: Moment },
    /// It was asked for its membership.
    Ask {
        peer: PkiId,
        nonce: u64,
        until: Moment,
    },
}

#[derive(Debug)]
struct Attempt {
    failures: u32,
    /// From the first failure on.
    trouble: Option<Trouble>,
    step: Step,
}

/// What a target does when its time has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Find out who answers there.
    Identify,
    /// Something took too long.
    Failed(&'static str),
}

/// All targets that were not reached yet.
#[derive(Debug, Default)]
pub(super) struct Connects {
    attempts: BTreeMap<Target, Attempt>,
}

impl Connects {
    /// Begins with this target at once, unless that is already under way. False if there are too
    /// many.
    pub(super) fn begin(&mut self, now: Moment, target: Target) -> bool {
        if self.attempts.len() >= CONNECTS_MAX && !self.attempts.contains_key(&target) {
            return false;
        }
        self.attempts.entry(target).or_insert(Attempt {
            failures: 0,
            trouble: None,
            step: Step::Pause { until: now },
        });
        true
    }

    /// Stops with those that do not satisfy this.
    pub(super) fn retain(&mut self, keep: impl Fn(&Target) -> bool) {
        self.attempts.retain(|target, _| keep(target));
    }

    /// Reached, or not worth reaching.
    pub(super) fn end(&mut self, target: &Target) {
        self.attempts.remove(target);
    }

    /// Everything whose time has come.
    pub(super) fn due(&self, now: Moment) -> Vec<(Target, Due)> {
        let due = |attempt: &Attempt| match attempt.step {
            Step::Pause { until } if until <= now => Some(Due::Identify),
            Step::Identify { until, .. } if until <= now => {
                Some(Due::Failed("nobody could be identified in time"))
            }
            Step::Ask { until, .. } if until <= now => {
                Some(Due::Failed("no answer to the membership request"))
            }
            _ => None,
        };
        self.attempts
            .iter()
            .filter_map(|(target, attempt)| Some((target.clone(), due(attempt)?)))
            .collect()
    }

    pub(super) fn identifying(&mut self, now: Moment, target: &Target, ticket: Ticket) {
        if let Some(attempt) = self.attempts.get_mut(target) {
            let until = now + IDENTIFY_WAIT;
            attempt.step = Step::Identify { ticket, until };
        }
    }

    /// The target that this ticket was about.
    pub(super) fn identified(&self, ticket: Ticket) -> Option<Target> {
        let waits_for = |attempt: &Attempt| matches!(attempt.step, Step::Identify { ticket: t, .. } if t == ticket);
        self.attempts
            .iter()
            .find(|(_, attempt)| waits_for(attempt))
            .map(|(target, _)| target.clone())
    }

    pub(super) fn asked(&mut self, now: Moment, target: &Target, peer: PkiId, nonce: u64) {
        if let Some(attempt) = self.attempts.get_mut(target) {
            attempt.step = Step::Ask {
                peer,
                nonce,
                until: now + RESPONSE_WAIT,
            };
        }
    }

    /// This peer answered a membership request. All targets that waited for it are reached; gives
    /// those that had failed before, with the time since then.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        peer: PkiId,
        nonce: u64,
    ) -> Vec<(Target, Duration)> {
        let mut after_trouble = Vec::new();
        self.attempts.retain(|target, attempt| {
            let waits = !matches!(attempt.step, Step::Ask { peer: p, nonce: n, .. } if (p, n) == (peer, nonce));
            if let Some(trouble) = attempt.trouble.as_ref().filter(|_| !waits) {
                after_trouble.push((target.clone(), trouble.lasted(now)));
            }
            waits
        });
        after_trouble
    }

    /// How often this target has failed so far.
    pub(super) fn failures(&self, target: &Target) -> u32 {
        self.attempts
            .get(target)
            .map_or(0, |attempt| attempt.failures)
    }

    /// Pauses until then. Gives what is to be told of it, if anything is.
    pub(super) fn failed(
        &mut self,
        now: Moment,
        target: &Target,
        reason: &str,
        until: Moment,
    ) -> Option<String> {
        let attempt = self.attempts.get_mut(target)?;
        attempt.failures = attempt.failures.saturating_add(1);
        attempt.step = Step::Pause { until };
        let trouble = attempt.trouble.get_or_insert_with(|| Trouble::since(now));
        trouble.failed(now, reason)
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let until = |attempt: &Attempt| match attempt.step {
            Step::Pause { until } | Step::Identify { until, .. } | Step::Ask { until, .. } => until,
        };
        self.attempts.values().map(until).min()
    }
}
