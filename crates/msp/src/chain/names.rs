//! Name constraints: which names a CA lets its children carry.
//!
//! Host names and addresses are compared as Go compares them. Constraints on mail addresses and
//! URIs are not evaluated: a certificate that carries such a name under such a constraint is
//! refused, whatever the constraint says.

use crate::certificate::{Certificate, Names};
use crate::chain::{ChainRefused, Path};

/// Checks the names of every certificate below `ca` against the constraints of `ca`.
pub(super) fn check(ca: &Certificate, below: &Path) -> Result<(), ChainRefused> {
    let Some(constraints) = &ca.extensions().name_constraints else {
        return Ok(());
    };
    for certificate in below {
        let Some(carried) = &certificate.extensions().alternative_names else {
            continue;
        };
        let verdict = disallowed(
            &carried.names,
            &constraints.permitted,
            &constraints.excluded,
        );
        if let Some(name) = verdict {
            return Err(ChainRefused::Name {
                ca: ca.subject().to_owned(),
                name,
            });
        }
    }
    Ok(())
}

/// A constrained CA may not vouch for a certificate whose host name hides in the common name,
/// where constraints do not reach.
pub(super) fn check_without_names(path: &Path) -> Result<(), ChainRefused> {
    let Some((first, above)) = path.split_first() else {
        return Ok(());
    };
    let name = first.common_name();
    if first.extensions().alternative_names.is_some() || !looks_like_host(name) {
        return Ok(());
    }
    match above
        .iter()
        .find(|ca| ca.extensions().name_constraints.is_some())
    {
        Some(ca) => {
            let (ca, name) = (ca.subject().to_owned(), name.to_owned());
            Err(ChainRefused::Name { ca, name })
        }
        None => Ok(()),
    }
}

/// The first carried name that is excluded or not permitted.
fn disallowed(carried: &Names, permitted: &Names, excluded: &Names) -> Option<String> {
    let bad_host = carried.dns.iter().find(|host| {
        let matches = |constraint: &String| is_within(host, constraint);
        labels(host).is_none()
            || excluded.dns.iter().any(matches)
            || !(permitted.dns.is_empty() || permitted.dns.iter().any(matches))
    });
    let bad_address = carried.ips.iter().find(|address| {
        let matches = |constraint: &Vec<u8>| is_in_range(address, constraint);
        excluded.ips.iter().any(matches)
            || !(permitted.ips.is_empty() || permitted.ips.iter().any(matches))
    });
    let constrained =
        |one: fn(&Names) -> &Vec<String>| !one(permitted).is_empty() || !one(excluded).is_empty();
    let email = carried
        .emails
        .first()
        .filter(|_| constrained(|names| &names.emails));
    let uri = carried
        .uris
        .first()
        .filter(|_| constrained(|names| &names.uris));
    bad_host
        .cloned()
        .or_else(|| bad_address.map(hex::encode))
        .or_else(|| email.or(uri).cloned())
}

/// Whether `host` is the domain of the constraint or below it. With a leading dot only below.
fn is_within(host: &str, constraint: &str) -> bool {
    if constraint.is_empty() {
        return true;
    }
    let (domain, only_below) = match constraint.strip_prefix('.') {
        Some(domain) => (domain, true),
        None => (constraint, false),
    };
    let (Some(host), Some(domain)) = (labels(host), labels(domain)) else {
        return false;
    };
    if host.len() < domain.len() || (only_below && host.len() == domain.len()) {
        return false;
    }
    let pairs = host.iter().rev().zip(domain.iter().rev());
    pairs
        .into_iter()
        .all(|(left, right)| left.eq_ignore_ascii_case(right))
}

/// The labels of a host name, or nothing when one is empty or not printable ASCII.
fn labels(host: &str) -> Option<Vec<&str>> {
    let labels: Vec<&str> = host.split('.').collect();
    let good =
        |label: &&str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_graphic());
    labels.iter().all(good).then_some(labels)
}

/// Whether an address lies in a range given as address and mask.
fn is_in_range(address: &[u8], range: &[u8]) -> bool {
    let Some((base, mask)) = range.split_at_checked(address.len()) else {
        return false;
    };
    if mask.len() != base.len() {
        return false;
    }
    let bits = address.iter().zip(base).zip(mask);
    bits.into_iter()
        .all(|((address, base), mask)| address & mask == base & mask)
}

fn looks_like_host(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return false;
    }
    name.split('.').enumerate().all(|(at, label)| {
        let wildcard = at == 0 && label == "*";
        let plain = label.bytes().enumerate().all(|(at, byte)| {
            // Underscore and colon are no host name characters, but Go lets them pass as such.
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':') || (byte == b'-' && at > 0)
        });
        wildcard || (!label.is_empty() && plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(names: &[&str]) -> Names {
        Names {
            dns: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Names::default()
        }
    }

    fn ips(ranges: &[&[u8]]) -> Names {
        Names {
            ips: ranges.iter().map(|range| range.to_vec()).collect(),
            ..Names::default()
        }
    }

    #[test]
    fn host_names_are_compared_by_label() {
        let none = Names::default();
        let cases = [
            ("peer.org1.test", dns(&["org1.test"]), none.clone(), true),
            ("org1.test", dns(&["org1.test"]), none.clone(), true),
            ("ORG1.TEST", dns(&["org1.test"]), none.clone(), true),
            ("org1.test", dns(&[".org1.test"]), none.clone(), false),
            ("peer.org1.test", dns(&[".org1.test"]), none.clone(), true),
            ("evilorg1.test", dns(&["org1.test"]), none.clone(), false),
            (
                "peer.org2.test",
                dns(&["org1.test", "org2.test"]),
                none.clone(),
                true,
            ),
            (
                "peer.org1.test",
                dns(&["org1.test"]),
                dns(&["peer.org1.test"]),
                false,
            ),
            ("peer.org1.test", none.clone(), dns(&["org2.test"]), true),
            ("peer..test", none.clone(), dns(&["org2.test"]), false),
            ("peer.org1.test", none, dns(&[""]), false),
        ];
        for (host, permitted, excluded, allowed) in cases {
            let verdict = disallowed(&dns(&[host]), &permitted, &excluded);
            assert_eq!(
                verdict.is_none(),
                allowed,
                "{host} {permitted:?} {excluded:?}"
            );
        }
    }

    #[test]
    fn addresses_are_compared_under_the_mask() {
        let ten = ips(&[&[10, 0, 0, 0, 255, 0, 0, 0]]);
        let none = Names::default();
        let cases: [(&[u8], &Names, &Names, bool); 6] = [
            (&[10, 9, 9, 9], &ten, &none, true),
            (&[11, 9, 9, 9], &ten, &none, false),
            (&[10, 9, 9, 9], &none, &ten, false),
            (&[11, 9, 9, 9], &none, &ten, true),
            (&[0; 16], &ten, &none, false),
            (&[], &ten, &none, false),
        ];
        for (address, permitted, excluded, allowed) in cases {
            let verdict = disallowed(&ips(&[address]), permitted, excluded);
            assert_eq!(verdict.is_none(), allowed, "{address:?}");
        }
    }

    #[test]
    fn constrained_mail_addresses_and_uris_are_refused() {
        let mail = Names {
            emails: vec!["a@b".to_owned()],
            ..Names::default()
        };
        let uri = Names {
            uris: vec!["http://b".to_owned()],
            ..Names::default()
        };
        let none = Names::default();
        for names in [&mail, &uri] {
            assert!(disallowed(names, names, &none).is_some());
            assert!(disallowed(names, &none, names).is_some());
            assert!(disallowed(names, &none, &none).is_none());
        }
        assert!(disallowed(&mail, &uri, &none).is_none());
    }

    #[test]
    fn common_names_that_look_like_hosts() {
        for name in [
            "peer0.org1.test",
            "a",
            "*.org",
            "a_b:7",
            "a-b.",
            "localhost",
        ] {
            assert!(looks_like_host(name), "{name}");
        }
        for name in ["", ".", "Admin@org1.test", "a b", "-a", "a..b", "a.*"] {
            assert!(!looks_like_host(name), "{name}");
        }
    }
}
