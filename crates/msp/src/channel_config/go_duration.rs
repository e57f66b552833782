//! Durations as Go writes them: `2s`, `1m30s`, `1.5h`.

use std::time::Duration;

/// Text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADuration {
    /// Neither digits nor a unit where one must be.
    #[error("not a duration such as 2s or 1m30s")]
    Syntax,
    /// A number without a unit that Go knows.
    #[error("unit '{0}' is none of ns, us, ms, s, m, h")]
    Unit(String),
    /// Below zero, which no setting of a channel may be.
    #[error("below zero")]
    Negative,
    /// More than the 292 years that Go can hold.
    #[error("too long")]
    TooLong,
}

/// Largest duration that Go can hold, in nanoseconds.
const NANOSECONDS_MAX: u128 = i64::MAX.unsigned_abs() as u128;

/// Digits after the point that count; Go drops what is below a nanosecond, and an hour has
/// fewer than 10^13 of them.
const FRACTION_DIGITS_MAX: usize = 15;

/// Reads a duration as Go writes it.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(NotADuration::Syntax);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = part(rest)?;
        total = total.saturating_add(nanoseconds);
        rest = after;
    }
    if total > NANOSECONDS_MAX {
        return Err(NotADuration::TooLong);
    }
    if negative && total != 0 {
        return Err(NotADuration::Negative);
    }
    u64::try_from(total)
        .map(Duration::from_nanos)
        .or(Err(NotADuration::TooLong))
}

/// One number with its unit, in nanoseconds, and what follows.
fn part(text: &str) -> Result<(u128, &str), NotADuration> {
    let (whole, mut rest) = digits(text);
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        (fraction, rest) = digits(after);
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(NotADuration::Syntax);
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        other => return Err(NotADuration::Unit(other.to_owned())),
    };
    let whole = if whole.is_empty() {
        Ok(0)
    } else {
        whole.parse::<u64>()
    };
    let whole = u128::from(whole.or(Err(NotADuration::TooLong))?);
    let mut nanoseconds = whole.saturating_mul(unit);
    let mut scale = unit;
    // Exact while it matters: ten times finer with each digit.
    let mut below = 0;
    let mut divisor = 1;
    for digit in fraction.bytes().take(FRACTION_DIGITS_MAX) {
        below = below * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    scale = scale.saturating_mul(below) / divisor;
    nanoseconds = nanoseconds.saturating_add(scale);
    Ok((nanoseconds, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("2s", 2_000_000_000),
            ("+250ms", 250_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("3\u{b5}s7ns", 3_007),
            ("0.0000000001s", 0),
            ("-0s", 0),
            ("9223372036854775807ns", u64::MAX / 2),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses_and_what_is_below_zero() {
        use NotADuration::{Negative, Syntax, TooLong, Unit};
        for (text, refused) in [
            ("", Syntax),
            ("-", Syntax),
            (".s", Syntax),
            ("s", Syntax),
            ("2", Unit(String::new())),
            ("2 s", Unit(" s".into())),
            ("2d", Unit("d".into())),
            ("-2s", Negative),
            ("9223372036854775808ns", TooLong),
            ("99999999999999999999s", TooLong),
            ("9999999h", TooLong),
        ] {
            assert_eq!(parse(text), Err(refused), "{text}");
        }
    }
}
