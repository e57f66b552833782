//! The TLS of the node: whether those who dial it, and those whom it dials, will take it.

use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use tidings_msp::certificate::Certificate;
use tidings_node::tls::{Tls, TlsSettings, objection, wrong_name};

use super::channels::Channel;
use super::dates;
use super::finding::{Finding, keys_in};

const CHECK: &str = "tls";

const CERTIFICATE: &str = "peer.tls.cert.file";

const ROOTS: &str = "peer.tls.rootcert.file";

/// The names by which others dial us, with the keys that say so.
pub(super) struct Names<'a> {
    pub(super) endpoint: &'a str,
    pub(super) external: &'a str,
}

/// All that can be said of it without a connection.
pub(super) fn judge(
    settings: Option<&TlsSettings>,
    msp_id: &str,
    channels: &[Channel],
    names: &Names<'_>,
    now: SystemTime,
) -> Vec<Finding> {
    let Some(settings) = settings else {
        return vec![
            Finding::warning(CHECK, "TLS is off")
                .because("everybody on the way reads and changes what peers say to each other; peers with TLS cannot talk to this one")
                .change("peer.tls.enabled", "set it to true, and name certificate, key and root"),
        ];
    };
    let mut findings = pairs(settings, now);
    if !findings.is_empty() {
        return findings;
    }
    findings.extend(chains(settings, msp_id, channels, now));
    findings.extend(names.judge(settings));
    if findings.is_empty() {
        let ends = Certificate::from_pem(&settings.certificate).map(|leaf| leaf.not_after());
        let until = ends.map_or_else(|_| "its end".to_owned(), dates::day);
        let found = format!("certificate, key, roots and names fit; good until {until}");
        findings.push(Finding::ok(CHECK, found).at(file(settings, CERTIFICATE)));
    }
    findings
}

/// The file that a key names.
fn file(settings: &TlsSettings, key: &str) -> String {
    let files = settings.files.get(key).and_then(|files| files.first());
    files.map_or_else(|| key.to_owned(), |file: &std::path::PathBuf| show(file))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// What keeps the node from using them, or soon will.
fn pairs(settings: &TlsSettings, now: SystemTime) -> Vec<Finding> {
    let seconds = super::seconds(now);
    let mut findings = Vec::new();
    let client = settings.client_certificate.as_ref();
    for (key, what, certificate) in [
        (
            CERTIFICATE,
            "the TLS certificate",
            Some(&settings.certificate),
        ),
        (
            "peer.tls.clientCert.file",
            "the TLS certificate for dialling",
            client,
        ),
    ] {
        let Some(Ok(leaf)) = certificate.map(|pem| Certificate::from_pem(pem)) else {
            // What is no certificate is told below.
            continue;
        };
        let dates = (leaf.not_before(), leaf.not_after());
        let dated = dates::judge(CHECK, what, dates, seconds);
        findings.extend(dated.map(|finding| {
            finding
                .at(file(settings, key))
                .because("peers, orderers and clients end every connection with it")
                .change(
                    key,
                    "put a renewed certificate there; a running node takes it up within a minute",
                )
        }));
    }
    let is_fault = |finding: &Finding| finding.severity == super::Severity::Fault;
    if findings.iter().any(is_fault) {
        return findings;
    }
    if let Err(error) = Tls::new(settings, now) {
        let reason = error.to_string();
        let keys = keys_in(&reason).join(", ");
        findings.push(
            Finding::fault(CHECK, reason)
                .because("the node does not start with it")
                .change(keys, "name files in PEM form that belong together"),
        );
    }
    findings
}

/// Whether others find a way from our certificate to a root of theirs.
fn chains(
    settings: &TlsSettings,
    msp_id: &str,
    channels: &[Channel],
    now: SystemTime,
) -> Vec<Finding> {
    let place = || file(settings, CERTIFICATE);
    let mut findings = Vec::new();
    if let Some(objection) = objection(&settings.certificate, &settings.roots, now) {
        findings.push(
            Finding::fault(CHECK, format!("in the eyes of who has the roots of {ROOTS}, our TLS certificate {objection}"))
                .at(place())
                .because("peers of our organization have the same roots, and refuse connections to this node")
                .change(format!("{CERTIFICATE}, {ROOTS}"), "put the certificate there with its intermediates behind it, or the root that issued it into the other"),
        );
    }
    for channel in channels {
        let Some(msp) = channel.config.msp(msp_id) else {
            continue;
        };
        let roots: Vec<&Vec<u8>> = msp
            .tls_roots()
            .iter()
            .chain(msp.tls_intermediates())
            .collect();
        let objection = objection(&settings.certificate, &bytes(&roots), now);
        findings.extend(objection.map(|objection| {
            channel.judged(Finding::fault(
                CHECK,
                format!("for channel {}, by the TLS roots of {msp_id} in its configuration, our TLS certificate {objection}", channel.name),
            )
            .at(place())
            .because("peers of other organizations know no other roots, and refuse connections to this node")
            .change(CERTIFICATE, format!("have it issued by a TLS CA that the channel names for {msp_id}, or add that CA to its MSP in the channel's configuration")))
        }));
    }
    findings
}

fn bytes<'a>(roots: &[&'a Vec<u8>]) -> Vec<&'a [u8]> {
    roots.iter().map(|root| root.as_slice()).collect()
}

impl Names<'_> {
    fn judge(&self, settings: &TlsSettings) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for (key, endpoint) in [
            ("peer.address, peer.gossip.endpoint", self.endpoint),
            ("peer.gossip.externalEndpoint", self.external),
        ] {
            // What nobody can dial is told with the endpoints.
            let Some(host) = host(endpoint).filter(|host| !is_any(host)) else {
                continue;
            };
            let Some(reason) = wrong_name(&settings.certificate, host) else {
                continue;
            };
            findings.push(
                Finding::fault(
                    CHECK,
                    format!("others dial {endpoint}, and the TLS certificate {reason}"),
                )
                .at(file(settings, CERTIFICATE))
                .because("whoever dials that name ends the connection")
                .change(
                    format!("{key}, {CERTIFICATE}"),
                    format!("name a host of the certificate, or have one issued for {host}"),
                ),
            );
        }
        // One host in two keys is one fault.
        if self.endpoint == self.external {
            findings.truncate(1);
        }
        findings
    }
}

fn is_any(host: &str) -> bool {
    host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
}

/// The host of an endpoint, brackets removed.
fn host(endpoint: &str) -> Option<&str> {
    let (host, _) = endpoint.rsplit_once(':')?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    (!bare.is_empty()).then_some(bare)
}
