//! Who is let in where this node serves more than gossip, as far as the settings say it.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::SystemTime;

use tidings_node::core_config::Settings;
use tidings_node::tls::ListenerTls;

use super::finding::{Finding, keys_in};

const CHECK: &str = "doors";

/// One of the servers of HTTP.
struct Door<'a> {
    section: &'static str,
    place: String,
    /// Whether other machines reach it.
    is_far: bool,
    tls: Option<&'a ListenerTls>,
}

/// All of them. `joined`: a channel is.
pub(super) fn judge(settings: &Settings, joined: bool, now: SystemTime) -> Vec<Finding> {
    let door = |section, (host, port): &(String, u16), tls| Door {
        section,
        place: format!("{host}:{port}"),
        is_far: is_far(host),
        tls,
    };
    let faults = settings.listener_faults(now);
    let told = faults.iter().map(|error| {
        let reason = error.to_string();
        let keys = keys_in(&reason).join(", ");
        Finding::fault(CHECK, reason)
            .because("the node does not start with it")
            .change(keys, "name files in PEM form that belong together")
    });
    let mut findings: Vec<_> = told.collect();
    if let Some(of) = &settings.operations {
        let door = door("operations", &of.listen, of.tls.as_ref());
        findings.extend(door.locked().or_else(|| door.operations()));
    }
    if let Some(of) = &settings.http {
        let door = door("http", &of.listen, of.tls.as_ref());
        findings.extend(door.locked().or_else(|| door.http()));
    }
    let tls = settings.tls.as_ref();
    let asks = tls.is_some_and(|tls| tls.client_auth_required && tls.client_roots.is_empty());
    if asks && !joined {
        let found = "peer.tls.clientAuthRequired is true, peer.tls.clientRootCAs.files names no root, and no channel is joined whose roots would count";
        findings.push(
            Finding::warning(CHECK, found)
                .because("nobody is let in until a channel is joined, not even to join it by `peer channel join`")
                .change("peer.tls.clientRootCAs.files", "name the TLS CA of those who are to be let in"),
        );
    }
    findings
}

/// What cannot be looked up is told with the ports.
fn is_far(host: &str) -> bool {
    let addresses = (host, 0).to_socket_addrs();
    let mut addresses = addresses.into_iter().flatten();
    addresses.any(|address| !is_near(address.ip()))
}

fn is_near(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

impl Door<'_> {
    /// Nobody is let in.
    fn locked(&self) -> Option<Finding> {
        let Self { section, place, .. } = self;
        let asks = |tls: &&ListenerTls| tls.client_auth_required && tls.client_roots.is_empty();
        self.tls.filter(asks)?;
        let comes = match *section {
            // What describes it is shown to everybody.
            "http" => "nobody reads blocks",
            _ => "nobody is served",
        };
        let found = format!(
            "{section}.tls.clientAuthRequired is true, and {section}.tls.clientRootCAs.files names no root"
        );
        Some(
            Finding::fault(CHECK, found)
                .at(place)
                .because(format!("no client certificate is good there, so {comes}"))
                .change(
                    format!("{section}.tls.clientRootCAs.files"),
                    "name the CA of those who are to be let in",
                ),
        )
    }

    /// Fabric's peers are the same, so that it is open is not worth a warning.
    fn operations(&self) -> Option<Finding> {
        if self.tls.is_some_and(|tls| tls.client_roots.is_empty()) {
            let found = "operations.tls.enabled is true, and operations.tls.clientRootCAs.files names no root";
            return Some(
                Finding::warning(CHECK, found)
                    .at(&self.place)
                    .because("without a client certificate /metrics, /logspec and /dashboard answer 401, and none is good there: nobody sees them")
                    .change(
                        "operations.tls.clientRootCAs.files",
                        "name the CA of those who are to see them",
                    ),
            );
        }
        let is_open = self.is_far && self.tls.is_none();
        let place = &self.place;
        is_open.then(|| {
            let found = format!("without TLS whoever reaches {place} sees metrics and members and sets log levels: operations.tls.enabled, or operations.listenAddress on 127.0.0.1, prevents it");
            Finding::ok(CHECK, found).at(place)
        })
    }

    fn http(&self) -> Option<Finding> {
        let asks = self.tls.is_some_and(|tls| tls.client_auth_required);
        let place = &self.place;
        (self.is_far && !asks).then(|| {
            let found = format!("http.listenAddress is {place}, and no client certificate is asked for there");
            Finding::warning(CHECK, found)
                .at(place)
                .because("whoever reaches this address can read every block of every channel of this node")
                .change(
                    "http.tls.enabled, http.tls.clientAuthRequired, http.tls.clientRootCAs.files",
                    "set them, or http.listenAddress to 127.0.0.1",
                )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    fn told(place: &str, tls: Option<(bool, usize)>) -> [Option<Severity>; 2] {
        let tls = tls.map(|(client_auth_required, roots)| ListenerTls {
            client_auth_required,
            client_roots: vec![Vec::new(); roots],
            ..ListenerTls::default()
        });
        ["operations", "http"].map(|section| {
            let door = Door {
                section,
                place: format!("{place}:8080"),
                is_far: is_far(place),
                tls: tls.as_ref(),
            };
            let open = || match section {
                "http" => door.http(),
                _ => door.operations(),
            };
            let finding = door.locked().or_else(open)?;
            let says = finding.setting.as_deref().unwrap_or(&finding.found);
            assert!(says.contains(&format!("{section}.tls.")), "{finding:?}");
            Some(finding.severity)
        })
    }

    #[test]
    fn a_door_that_stands_open_or_lets_nobody_in_is_seen() {
        use Severity::{Fault, Ok, Warning};
        for near in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(told(near, None), [None, None], "{near}");
        }
        for far in ["0.0.0.0", "::", "192.0.2.1"] {
            assert_eq!(told(far, None), [Some(Ok), Some(Warning)], "{far}");
            // TLS without certificates hides nothing from who connects.
            assert_eq!(told(far, Some((false, 1))), [None, Some(Warning)]);
            assert_eq!(told(far, Some((true, 1))), [None, None]);
        }
        assert_eq!(told("::1", Some((true, 0))), [Some(Fault), Some(Fault)]);
        // Most pages of the one want a certificate always, those of the other if they are told to.
        assert_eq!(told("::1", Some((false, 0))), [Some(Warning), None]);
    }
}
