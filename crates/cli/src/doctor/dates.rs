//! Validity of certificates, and times for a person.

use time::OffsetDateTime;

use super::finding::Finding;

/// A certificate that ends sooner is warned of: somebody has to make another.
const SOON_S: i64 = 30 * DAY_S;

const DAY_S: i64 = 24 * 3600;

/// The day of a time in seconds since 1970.
pub(super) fn day(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| format!("{seconds} s"), |time| time.date().to_string())
}

/// A duration in seconds, for a person.
pub(super) fn span(seconds: i64) -> String {
    let whole = seconds.unsigned_abs();
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// What is wrong with the dates of a certificate, if anything: what it is, when it begins and ends.
pub(super) fn judge(
    check: &'static str,
    what: &str,
    (begins, ends): (i64, i64),
    now: i64,
) -> Option<Finding> {
    if ends < now {
        let ago = (now - ends) / DAY_S;
        let found = format!("{what} expired on {} ({ago} days ago)", day(ends));
        return Some(Finding::fault(check, found));
    }
    if begins > now {
        let found = format!("{what} is good from {} on only", day(begins));
        let why = "others refuse it until then; or the clock of this machine is behind";
        return Some(Finding::fault(check, found).because(why));
    }
    if ends - now < SOON_S {
        let left = (ends - now) / DAY_S;
        let found = format!("{what} expires on {} (in {left} days)", day(ends));
        return Some(Finding::warning(check, found));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn certificates_have_a_beginning_and_an_end() {
        let now = 1_800_000_000;
        let of = |begins: i64, ends: i64| {
            let judged = judge("tls", "it", (now + begins, now + ends), now);
            judged.map(|finding| (finding.severity, finding.found))
        };
        assert_eq!(of(-1, SOON_S), None);
        let (severity, found) = of(-1, SOON_S - 1).unwrap();
        assert_eq!(severity, Severity::Warning);
        assert!(found.ends_with("(in 29 days)"), "{found}");
        let (severity, found) = of(-DAY_S, -1).unwrap();
        assert_eq!(severity, Severity::Fault);
        assert!(
            found.starts_with("it expired on 2027-01-15 (0 days"),
            "{found}"
        );
        let (severity, found) = of(1, SOON_S).unwrap();
        assert_eq!(severity, Severity::Fault);
        assert!(found.contains("from 2027-01-15 on only"), "{found}");
        assert_eq!(of(0, 0).unwrap().0, Severity::Warning);
    }

    #[test]
    fn times_are_told_in_the_units_of_people() {
        for (seconds, text) in [
            (-600, "10 min 0 s"),
            (59, "59 s"),
            (7199, "119 min 59 s"),
            (7200, "2 h 0 min"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(day(i64::MAX), format!("{} s", i64::MAX));
    }
}
