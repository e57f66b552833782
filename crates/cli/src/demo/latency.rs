//! How long blocks take, in bounded memory.
//!
//! Promises: a percentile is at most one percent above the true value, the maximum is exact, and
//! the memory does not depend on how many values were added.

use std::time::Duration;

/// Values below are counted as this: finer than a loopback network can differ.
const SMALLEST: Duration = Duration::from_micros(20);

/// Each bucket is this much wider than the one before: the error of a percentile.
const GROWTH: f64 = 1.01;

/// Reaches from 20 microseconds to over 2 hours.
const BUCKETS: usize = 2000;

/// Counts of durations in buckets of growing width.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Option<Duration>,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            max: None,
        }
    }

    /// Adds one value.
    pub(crate) fn add(&mut self, value: Duration) {
        let ratio = value.as_secs_f64() / SMALLEST.as_secs_f64();
        let bucket = if ratio <= 1.0 {
            0.0
        } else {
            (ratio.ln() / GROWTH.ln()).ceil()
        };
        // A float is cast to an integer by clamping, and the last bucket takes the rest.
        let bucket = (bucket as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(Some(value));
    }

    /// The value that `part` (0 to 1) of all values do not exceed, in milliseconds.
    pub(crate) fn percentile_ms(&self, part: f64) -> Option<f64> {
        let max = self.max_ms()?;
        let rank = ((self.total as f64 * part).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (bucket, count) in (0_i32..).zip(&self.counts) {
            seen += count;
            if seen == self.total {
                return Some(max);
            }
            if seen >= rank {
                let upper = SMALLEST.as_secs_f64() * 1000.0 * GROWTH.powi(bucket);
                return Some(upper.min(max));
            }
        }
        Some(max)
    }

    /// The largest value, in milliseconds.
    pub(crate) fn max_ms(&self) -> Option<f64> {
        self.max.map(millis)
    }
}

/// Milliseconds with their fraction.
pub(crate) fn millis(value: Duration) -> f64 {
    value.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_added_has_no_percentile() {
        let empty = Histogram::new();
        assert_eq!((empty.percentile_ms(0.5), empty.max_ms()), (None, None));
    }

    #[test]
    fn one_value_is_every_percentile() {
        let mut one = Histogram::new();
        one.add(Duration::from_millis(7));
        for part in [0.0, 0.5, 0.99, 1.0] {
            assert_eq!(one.percentile_ms(part), Some(7.0));
        }
    }

    #[test]
    fn the_extremes_stay_in_the_table() {
        let mut wide = Histogram::new();
        wide.add(Duration::ZERO);
        wide.add(Duration::from_secs(1_000_000));
        assert_eq!(wide.percentile_ms(0.5), Some(0.02));
        assert_eq!(wide.percentile_ms(1.0), Some(1_000_000_000.0));
        assert_eq!(wide.counts.len(), BUCKETS);
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_a_percent(
            mut values in proptest::collection::vec(20_u64..5_000_000_000, 1..200),
            part in 0.0..1.0_f64,
        ) {
            let mut histogram = Histogram::new();
            for value in &values {
                histogram.add(Duration::from_micros(*value));
            }
            values.sort_unstable();
            let rank = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64 / 1000.0;
            let got = histogram.percentile_ms(part).unwrap();
            prop_assert!(got >= exact * 0.999_999 && got <= exact * 1.010_001, "{got} for {exact}");
        }
    }
}
