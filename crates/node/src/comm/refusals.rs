//! Which refused streams get a line in the log: no more than so many, and of an identity that is
//! no good, whose peer tries again for ever, one in a while.

use std::{net::IpAddr, time::Instant};

use super::Refused;
use crate::logging::{Said, Seldom};

/// What was told.
#[derive(Debug)]
pub(crate) struct Refusals {
    lines: Seldom,
    identities: Said,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self {
            lines: Seldom::new(),
            identities: Said::default(),
        }
    }

    /// Whether this one is told, and if so, how many were left out since the last one.
    pub(crate) fn line(
        &self,
        host: Option<IpAddr>,
        refused: &Refused,
        now: Instant,
    ) -> Option<u64> {
        // Nothing of what the stranger says is in it, so one host cannot push out what was told of
        // others.
        let again =
            matches!(refused, Refused::Identity(_)).then(|| format!("{host:?} {}", refused.rule()));
        if again
            .as_ref()
            .is_some_and(|what| self.identities.has(what, now))
        {
            return None;
        }
        let left_out = self.lines.line(now)?;
        if let Some(what) = again {
            self.identities.note(what, now);
        }
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn host(n: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(127, 0, 0, n).into())
    }

    #[test]
    fn a_bad_identity_is_told_once_for_each_host_in_a_while() {
        let (refusals, start) = (Refusals::new(), Instant::now());
        let refused = |who: &str| Refused::Identity(who.to_owned());
        assert_eq!(refusals.line(host(1), &refused("a"), start), Some(0));
        assert_eq!(
            refusals.line(host(1), &refused("another name"), start),
            None
        );
        assert_eq!(refusals.line(host(2), &refused("a"), start), Some(0));
        assert_eq!(refusals.line(host(1), &Refused::Silent, start), Some(0));
        assert_eq!(refusals.line(host(1), &Refused::Silent, start), Some(0));
        let later = start + Duration::from_secs(600);
        assert_eq!(refusals.line(host(1), &refused("a"), later), Some(0));
    }

    #[test]
    fn what_was_not_written_does_not_count_as_told() {
        let (refusals, start) = (Refusals::new(), Instant::now());
        let refused = Refused::Identity(String::new());
        for n in 0..10 {
            assert_eq!(refusals.line(host(n), &refused, start), Some(0));
        }
        assert_eq!(refusals.line(host(10), &refused, start), None);
        let later = start + Duration::from_secs(10);
        assert_eq!(refusals.line(host(10), &refused, later), Some(1));
    }
}
