//! Whether the node can listen where it is told to.

use std::io::ErrorKind;
use std::net::TcpListener;

use super::finding::Finding;

const CHECK: &str = "ports";

/// What stands in the way of listening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// Nothing.
    Free,
    /// Somebody listens there.
    Taken,
    /// Anything else.
    Refused(String),
}

/// Tries to listen, for a moment.
pub(super) fn look((host, port): (&str, u16)) -> Port {
    match TcpListener::bind((host, port)) {
        Ok(_) => Port::Free,
        Err(error) if error.kind() == ErrorKind::AddrInUse => Port::Taken,
        Err(error) => Port::Refused(error.to_string()),
    }
}

/// What a port means for a node that runs, or does not. `running` is where the node that runs
/// listens, if it says so.
pub(super) fn judge(
    key: &'static str,
    (host, number): (&str, u16),
    port: &Port,
    node: Option<Option<&str>>,
) -> Finding {
    let place = format!("{host}:{number}");
    let other = "name another, or stop the program that listens there (`ss -ltnp` names it)";
    match (port, node) {
        (Port::Taken, Some(listens)) => match listens.filter(|at| !is_port(at, number)) {
            None => Finding::ok(
                CHECK,
                format!("{key}: the node that runs listens at {place}"),
            ),
            Some(at) => Finding::fault(
                CHECK,
                format!("{key}: the node that runs listens at {at}, and something else at {place}"),
            )
            .because("the next start of the node fails")
            .change(key, other),
        },
        (Port::Free, Some(_)) if number != 0 => Finding::warning(
            CHECK,
            format!("{key}: the node that runs does not listen at {place}"),
        )
        .because("it was started with other settings than these")
        .change(key, "start the node again, if these are the right ones"),
        (Port::Free, _) => Finding::ok(CHECK, format!("{key}: {place} is free")),
        (Port::Taken, None) => Finding::fault(
            CHECK,
            format!("{key}: another program listens at {place}, and no node runs here"),
        )
        .because("the node does not start")
        .change(key, other),
        (Port::Refused(reason), _) => {
            Finding::fault(CHECK, format!("{key}: cannot listen at {place}: {reason}"))
                .because("the node does not start")
                .change(
                    key,
                    "name an address of this machine, and a port that this user may open",
                )
        }
    }
    .at(place)
}

/// Whether another key has the same port, where it would be in the way.
pub(super) fn twice(
    key: &'static str,
    (host, number): (&str, u16),
    others: &[(&str, (&str, u16))],
) -> Option<Finding> {
    let is_any = |host: &str| ["0.0.0.0", "::"].contains(&host);
    let (other, _) = others.iter().find(|(_, (at, port))| {
        *port == number && number != 0 && (*at == host || is_any(at) || is_any(host))
    })?;
    Some(
        Finding::fault(CHECK, format!("{key} and {other} both want port {number}"))
            .at(format!("{host}:{number}"))
            .because("the node does not start")
            .change(key, "name another port"),
    )
}

fn is_port(address: &str, number: u16) -> bool {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    number == 0 || port == Some(number.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn a_port_is_ours_or_free_or_somebody_elses() {
        let of = |port: &Port, node| {
            let found = judge("peer.listenAddress", ("127.0.0.1", 7051), port, node);
            let is_ok = found.severity == Severity::Ok;
            assert!(is_ok || found.setting.as_deref() == Some("peer.listenAddress"));
            found.severity
        };
        let ours = Some(Some("127.0.0.1:7051"));
        let refused = Port::Refused("no".into());
        for (port, node, severity) in [
            (&Port::Free, None, Severity::Ok),
            (&Port::Taken, None, Severity::Fault),
            (&Port::Taken, ours, Severity::Ok),
            (&Port::Taken, Some(None), Severity::Ok),
            (&Port::Taken, Some(Some("127.0.0.1:7052")), Severity::Fault),
            (&Port::Free, ours, Severity::Warning),
            (&refused, None, Severity::Fault),
        ] {
            assert_eq!(of(port, node), severity, "{port:?} {node:?}");
        }
    }

    #[test]
    fn a_port_is_wanted_by_one_only() {
        let others = [("peer.listenAddress", ("127.0.0.1", 7051))];
        let is_twice = |at| twice("http.listenAddress", at, &others).is_some();
        assert!(is_twice(("127.0.0.1", 7051)) && is_twice(("0.0.0.0", 7051)));
        assert!(!is_twice(("127.0.0.2", 7051)) && !is_twice(("127.0.0.1", 7052)));
        let chosen = [("peer.listenAddress", ("127.0.0.1", 0))];
        assert_eq!(twice("http.listenAddress", ("127.0.0.1", 0), &chosen), None);
    }

    #[test]
    fn a_port_that_is_listened_at_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(look(("127.0.0.1", port)), Port::Taken);
        // Of a net for documentation.
        assert!(matches!(look(("192.0.2.1", 0)), Port::Refused(_)));
    }
}
