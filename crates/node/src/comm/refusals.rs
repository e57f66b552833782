//! Which refused streams get a line in the log: no more than so many, and of an identity that is
//! no good, whose peer tries again for ever, one in a while.

use std::{net::IpAddr, time::Instant};

use super::Refused;
use crate::logging::Unsaid;

/// What was told.
#[derive(Debug)]
pub(crate) struct Refusals(Unsaid);

impl Refusals {
    pub(crate) fn new() -> Self {
        Self(Unsaid::new())
    }

    /// Whether this one is told, and if so, how many were left out since the last one, if any.
    pub(crate) fn line(
        &self,
        host: Option<IpAddr>,
        refused: &Refused,
        now: Instant,
    ) -> Option<Option<u64>> {
        match refused {
            // Nothing of what the stranger says is in it, so one host cannot push out what was
            // told of others.
            Refused::Identity(_) => self.0.unsaid(format!("{host:?} {}", refused.rule()), now),
            _ => self.0.line(now),
        }
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
        assert_eq!(refusals.line(host(1), &refused("a"), start), Some(None));
        assert_eq!(
            refusals.line(host(1), &refused("another name"), start),
            None
        );
        assert_eq!(refusals.line(host(2), &refused("a"), start), Some(None));
        assert_eq!(refusals.line(host(1), &Refused::Silent, start), Some(None));
        assert_eq!(refusals.line(host(1), &Refused::Silent, start), Some(None));
        let later = start + Duration::from_secs(600);
        assert_eq!(refusals.line(host(1), &refused("a"), later), Some(None));
    }

    #[test]
    fn what_was_not_written_does_not_count_as_told() {
        let (refusals, start) = (Refusals::new(), Instant::now());
        let refused = Refused::Identity(String::new());
        for n in 0..10 {
            assert_eq!(refusals.line(host(n), &refused, start), Some(None));
        }
        assert_eq!(refusals.line(host(10), &refused, start), None);
        let later = start + Duration::from_secs(10);
        assert_eq!(refusals.line(host(10), &refused, later), Some(Some(1)));
    }
}
