//! What can be seen of the filling of a gap.

use std::time::Duration;

use crate::id::{Moment, PkiId};

/// Period of saying how far a long one has come.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How far the filling of a gap has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Number of durable blocks when it began.
    pub from: u64,
    /// Number of durable blocks now.
    pub height: u64,
    /// The greatest height that somebody claims whom we believe.
    pub goal: u64,
    /// How long it goes on.
    pub elapsed: Duration,
    /// Who was asked, in order of PKI-IDs.
    pub sources: Vec<Share>,
}

/// One peer's part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who.
    pub peer: PkiId,
    /// Blocks that it was the first to bring.
    pub blocks: u64,
    /// Requests that it may be asked at a time; none while it is left out.
    pub window: usize,
    /// Requests that it has not answered yet.
    pub open: usize,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It begins.
    Began,
    /// It goes on for another [`REPORT_INTERVAL`].
    UnderWay,
    /// Nobody whom we believe has more.
    CaughtUp,
    /// Somebody has more, but nobody whom we believe any more. It begins again.
    Stopped,
}

impl Progress {
    /// Blocks that are missing.
    pub fn behind(&self) -> u64 {
        self.goal.saturating_sub(self.height)
    }

    /// Blocks that became durable in a second, on average.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        let blocks = self.height.saturating_sub(self.from) as f64;
        let secs = self.elapsed.as_secs_f64();
        if secs > 0.0 { blocks / secs } else { 0.0 }
    }
}

/// A gap that is being filled.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) from: u64,
    pub(super) began: Moment,
    pub(super) goal: u64,
    /// When to report next; none while the gap is too small to speak of.
    pub(super) report_at: Option<Moment>,
}

impl Course {
    pub(super) fn new(now: Moment, height: u64) -> Self {
        Self {
            from: height,
            began: now,
            goal: height,
            report_at: None,
        }
    }

    /// Notes how far others are, and says what is to be reported.
    pub(super) fn go_on(&mut self, now: Moment, goal: u64, worth_telling: u64) -> Option<Stage> {
        self.goal = goal;
        let stage = match self.report_at {
            Some(at) if now < at => return None,
            Some(_) => Stage::UnderWay,
            None if goal.saturating_sub(self.from) <= worth_telling => return None,
            None => Stage::Began,
        };
        self.report_at = Some(now + REPORT_INTERVAL);
        Some(stage)
    }

    pub(super) fn progress(&self, now: Moment, height: u64, sources: Vec<Share>) -> Progress {
        Progress {
            from: self.from,
            height,
            goal: self.goal.max(height),
            elapsed: now.since(self.began),
            sources,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_large_gap_is_reported_at_its_beginning_and_from_time_to_time() {
        let mut course = Course::new(at(500), 100);
        assert_eq!(course.go_on(at(500), 120, 20), None, "too small");
        assert_eq!(course.go_on(at(600), 121, 20), Some(Stage::Began));
        assert_eq!(course.go_on(at(10_599), 300, 20), None);
        assert_eq!(course.go_on(at(10_600), 300, 20), Some(Stage::UnderWay));
        assert_eq!(course.go_on(at(20_599), 300, 20), None);
    }

    #[test]
    fn progress_counts_from_where_it_began() {
        let course = Course {
            goal: 300,
            ..Course::new(at(500), 100)
        };
        let progress = course.progress(at(2500), 250, Vec::new());
        assert_eq!((progress.behind(), progress.rate()), (50, 75.0));
        let beyond = course.progress(at(500), 301, Vec::new());
        assert_eq!((beyond.behind(), beyond.rate()), (0, 0.0));
    }
}
