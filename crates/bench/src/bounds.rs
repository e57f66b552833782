//! What may be asked of a run: enough for every workload of the baseline, and for nothing that
//! would take a machine away from its other users.

/// Longest pause or limit.
const SECONDS_MAX: f64 = 3_600.0;

/// Blocks a second: below, a run would take days; above, the clock is too coarse.
const RATES: std::ops::RangeInclusive<f64> = 0.01..=10_000.0;

/// Reads a number of seconds.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.0..=SECONDS_MAX)
}

/// Reads a number of blocks a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    within(text, RATES)
}

fn within(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_error| "not a number".to_owned())?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("not within {} and {}", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_within_bounds_is_taken() {
        assert_eq!(seconds("0"), Ok(0.0));
        assert_eq!(seconds("3600"), Ok(3_600.0));
        for bad in ["-1", "3601", "NaN", "inf", "x", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(rate("20"), Ok(20.0));
        for bad in ["0", "0.001", "10001"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
