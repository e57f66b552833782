//! Whether this node can keep up, so that it may say so of itself.

use std::{collections::VecDeque, time::Duration};

use super::message::Class;

/// A longer backlog counts as not keeping up.
const BACKLOG_MAX: Duration = Duration::from_millis(50);

/// Samples that are looked at: a minute of them.
const SAMPLES: usize = 60;

/// What the last minute was like.
#[derive(Debug, Default)]
pub(super) struct Load {
    late: VecDeque<bool>,
    /// Samples since the last one that was late.
    calm: usize,
    class: Class,
}

impl Load {
    /// Takes the sample of a second. Gives the class to declare, if it changes.
    pub(super) fn sample(&mut self, backlog: Duration) -> Option<Class> {
        let is_late = backlog > BACKLOG_MAX;
        if self.late.len() >= SAMPLES {
            self.late.pop_front();
        }
        self.late.push_back(is_late);
        self.calm = if is_late { 0 } else { self.calm + 1 };
        let count = self.late.iter().filter(|late| **late).count();
        let class = match self.class {
            Class::Normal if count * 10 > SAMPLES => Class::Slow,
            Class::Slow if self.calm >= SAMPLES => Class::Normal,
            unchanged => unchanged,
        };
        (std::mem::replace(&mut self.class, class) != class).then_some(class)
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_slow_after_six_late_seconds_of_a_minute_and_normal_after_a_calm_one() {
        let mut load = Load::default();
        let late = BACKLOG_MAX + Duration::from_nanos(1);
        for _ in 0..6 {
            assert_eq!(load.sample(late), None);
            assert_eq!(load.sample(BACKLOG_MAX), None);
        }
        assert_eq!(load.sample(late), Some(Class::Slow));
        assert_eq!(load.sample(late), None);
        for _ in 1..SAMPLES {
            assert_eq!(load.sample(Duration::ZERO), None);
        }
        assert_eq!(load.sample(Duration::ZERO), Some(Class::Normal));
        assert_eq!(load.class(), Class::Normal);
        assert_eq!(load.late.len(), SAMPLES);
    }
}
