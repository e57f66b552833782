//! How long to wait before an orderer is tried again.

use std::time::Duration;

use rand::{RngExt, rngs::ChaCha8Rng};

/// From here on every pause is the longest; keeps the powers within their integers.
const EXPONENT_MAX: u32 = 30;

/// The first pause, longer by a fifth with every failure after the first.
pub(super) fn by_fifths(first: Duration, failures: u32) -> Duration {
    let exponent = failures.saturating_sub(1).min(EXPONENT_MAX);
    let grown = first.as_millis() * 6u128.pow(exponent) / 5u128.pow(exponent);
    Duration::from_millis(u64::try_from(grown).unwrap_or(u64::MAX))
}

/// The first pause, doubled so many times.
pub(super) fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(EXPONENT_MAX))
}

/// The pause cut to the longest, of which a random half is left out so that the leaders of many
/// organizations do not come back in step.
pub(super) fn cut(rng: &mut ChaCha8Rng, pause: Duration, longest: Duration) -> Duration {
    let millis = u64::try_from(pause.min(longest).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis - rng.random_range(0..=millis / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn pauses_grow_without_overflow() {
        let first = Duration::from_millis(100);
        let millis: Vec<_> = [0, 1, 2, 3].map(|n| by_fifths(first, n).as_millis()).into();
        assert_eq!(millis, [100, 100, 120, 144]);
        let millis: Vec<_> = [0, 1, 2].map(|n| doubled(first, n).as_millis()).into();
        assert_eq!(millis, [100, 200, 400]);
        assert_eq!(by_fifths(first, 31), by_fifths(first, u32::MAX));
        assert_eq!(doubled(first, 30), doubled(first, u32::MAX));
        assert_eq!(doubled(Duration::MAX, 1), Duration::MAX);
    }

    #[test]
    fn at_most_half_of_a_pause_is_left_out() {
        let mut rng = random::generator(&[0; 32], "pause");
        let longest = Duration::from_millis(1000);
        let cut: Vec<_> = (0..100)
            .map(|_| cut(&mut rng, Duration::MAX, longest))
            .collect();
        assert!(
            cut.iter()
                .all(|pause| (longest / 2..=longest).contains(pause))
        );
        assert!(cut.iter().any(|pause| *pause < longest * 2 / 3));
        assert!(cut.iter().any(|pause| *pause > longest * 5 / 6));
    }
}
