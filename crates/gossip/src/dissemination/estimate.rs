//! How long to wait before asking, learned from blocks that nobody had to ask for.

use std::time::Duration;

use super::parameters::PATIENCE_MAX;

/// What a block's times are compared with: computed from its tree, not measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    /// When the last member has the last stripe, after the root began.
    pub(super) finish: Duration,
    /// Least patience: jitter of one hop and of the sender's queue.
    pub(super) patience: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean: Duration,
    deviation: Duration,
}

impl Estimate {
    fn learn(&mut self, sample: Duration) {
        let error = sample.abs_diff(self.mean);
        self.deviation = approach(self.deviation, error, 4);
        self.mean = approach(self.mean, sample, 8);
    }

    /// The asking was too early: `sample` would have been enough.
    fn raise(&mut self, sample: Duration) {
        let more = sample.saturating_sub(self.mean) / 8;
        self.mean = self.mean.saturating_add(more.min(self.mean));
    }

    fn bound(self) -> Duration {
        self.mean.saturating_add(self.deviation.saturating_mul(4))
    }
}

fn approach(from: Duration, to: Duration, gain: u32) -> Duration {
    match to.checked_sub(from) {
        Some(up) => from + up / gain,
        None => from - (from - to) / gain,
    }
}

/// The estimators of a node; they begin with the model of the first block.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    lag: Option<Estimate>,
    spread: Option<Estimate>,
}

impl Estimates {
    fn lag(&mut self, model: Model) -> &mut Estimate {
        self.lag.get_or_insert(Estimate {
            mean: model.finish / 2,
            deviation: model.finish / 10,
        })
    }

    fn spread(&mut self, model: Model) -> &mut Estimate {
        self.spread.get_or_insert(Estimate {
            mean: model.finish,
            deviation: model.finish / 4,
        })
    }

    /// How long after the first announcement a block is asked for.
    pub(super) fn delta(&mut self, model: Model) -> Duration {
        self.lag(model).bound() + model.patience
    }

    /// How long after the first chunk the others are asked for.
    pub(super) fn wait(&mut self, model: Model) -> Duration {
        self.spread(model).bound() + model.patience / 2
    }

    /// A block is complete that nobody was asked for.
    pub(super) fn learn(&mut self, model: Model, lag: Duration, spread: Option<Duration>) {
        self.lag(model).learn(lag.min(PATIENCE_MAX));
        if let Some(spread) = spread {
            self.spread(model).learn(spread);
        }
    }

    /// What was asked for came anyway.
    pub(super) fn raise(&mut self, model: Model, lag: Option<Duration>, spread: Option<Duration>) {
        if let Some(lag) = lag {
            self.lag(model).raise(lag.min(PATIENCE_MAX));
        }
        if let Some(spread) = spread {
            self.spread(model).raise(spread);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const MODEL: Model = Model {
        finish: ms(40),
        patience: ms(2),
    };

    #[test]
    fn patience_begins_with_the_model_and_follows_what_is_seen() {
        let mut estimates = Estimates::default();
        assert_eq!(estimates.delta(MODEL), ms(20 + 4 * 4 + 2));
        assert_eq!(estimates.wait(MODEL), ms(40 + 4 * 10 + 1));
        for _ in 0..200 {
            estimates.learn(MODEL, ms(5), Some(ms(10)));
        }
        assert!(estimates.delta(MODEL) < ms(8));
        assert!(estimates.wait(MODEL) < ms(12));
        assert!(estimates.delta(MODEL) >= ms(7));
    }

    #[test]
    fn nothing_makes_us_wait_for_ever() {
        let mut estimates = Estimates::default();
        for _ in 0..1000 {
            estimates.learn(MODEL, ms(100_000), None);
            estimates.raise(MODEL, Some(ms(100_000)), None);
        }
        assert!(estimates.delta(MODEL) < PATIENCE_MAX + ms(50));
    }

    #[test]
    fn asking_too_early_raises_patience_at_most_to_the_double() {
        let mut estimates = Estimates::default();
        estimates.wait(MODEL);
        estimates.raise(MODEL, None, Some(ms(48)));
        assert_eq!(estimates.wait(MODEL), ms(41 + 40 + 1));
        estimates.raise(MODEL, None, Some(ms(30)));
        assert_eq!(estimates.wait(MODEL), ms(41 + 40 + 1));
        estimates.raise(MODEL, None, Some(ms(100_000)));
        assert_eq!(estimates.wait(MODEL), ms(82 + 40 + 1));
    }
}
