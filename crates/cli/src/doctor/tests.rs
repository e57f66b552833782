//! Orderers that are asked, over TLS on loopback: one process, the development orderer.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use tidings_node::service::{AddressOverride, DeliverySettings};
use tidings_node::tls::TlsSettings;
use tidings_node::view::Member as Other;

use super::*;
use crate::demo::material::{Material, Member};
use crate::demo::sample;
use crate::orderer::{Chain, Door, Orderer, listen};
use crate::signer;

/// An orderer, and a peer of the first organization that asks it.
struct Served {
    dir: TempDir,
    material: Material,
    _orderer: Orderer,
    endpoint: String,
}

fn tls_of(member: &Member) -> Tls {
    let settings = TlsSettings {
        certificate: member.tls_file("server.crt").unwrap(),
        key: member.tls_file("server.key").unwrap(),
        roots: vec![member.tls_file("ca.crt").unwrap()],
        ..TlsSettings::default()
    };
    Tls::new(&settings, SystemTime::now()).unwrap()
}

impl Served {
    async fn new() -> Self {
        let (dir, material) = sample::network(2);
        let listener = listen(0).await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let folder = dir.path().join("orderer");
        let chain = Chain::open(&folder, &material.genesis, Box::new(|_| {})).unwrap();
        let door = Door {
            listener,
            tls: tls_of(&material.orderer),
            mutual: false,
        };
        let signer = signer::read(&material.orderer.msp, "OrdererMSP").unwrap();
        Self {
            _orderer: Orderer::ordering(chain, signer, door),
            dir,
            material,
            endpoint,
        }
    }

    /// What is found with this clock, if the orderer is trusted by these roots.
    async fn found(&self, clock: fn() -> SystemTime, root: Vec<u8>) -> Vec<Finding> {
        let peer = &self.material.orgs[0].peers[0];
        let local = Local::load(&peer.msp, &peer.msp_id).unwrap();
        let genesis = self.dir.path().join("genesis.block");
        let (channels, wrong) = channels::look(None, &self.dir.path().join("data"), &[genesis]);
        assert_eq!(wrong, []);
        let instead = AddressOverride {
            to: self.endpoint.clone(),
            tls_roots: vec![root],
        };
        let delivery = DeliverySettings {
            connect_timeout: Duration::from_secs(60),
            address_overrides: BTreeMap::from([("127.0.0.1:7000".to_owned(), instead)]),
        };
        let asking = Asking {
            local: &local,
            identity: Some(tls_of(peer).client_identity()),
            shows: false,
            delivery: &delivery,
            clock,
        };
        let asked = asking.all(&channels).await;
        let now = seconds(SystemTime::now());
        let mut findings = orderers::judge(&asked, &channels);
        findings.extend(clock::judge(&asked, &channels, now));
        findings
    }

    fn root(&self) -> Vec<u8> {
        self.material.orderer.tls_file("ca.crt").unwrap()
    }
}

fn late() -> SystemTime {
    SystemTime::now() - Duration::from_secs(600)
}

fn early() -> SystemTime {
    SystemTime::now() + Duration::from_secs(600)
}

fn of<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap()
}

#[tokio::test]
async fn a_clock_that_is_ten_minutes_off_is_found_out_by_an_orderer() {
    let served = Served::new().await;
    let findings = served.found(SystemTime::now, served.root()).await;
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Ok),
        "{findings:?}"
    );
    for (clock, side) in [(late as fn() -> SystemTime, "behind"), (early, "ahead of")] {
        let findings = served.found(clock, served.root()).await;
        let found = of(&findings, "clock");
        assert_eq!(found.severity, Severity::Fault, "{findings:?}");
        // The second in which it was asked may end in between.
        let text = &found.found;
        assert!(text.contains("min ") && text.contains(side), "{text}");
        assert!(
            text.contains("10 min ") || text.contains("9 min 5"),
            "{text}"
        );
        assert_eq!(found.setting.as_deref(), Some("the clock of this machine"));
    }
}

#[tokio::test]
async fn an_orderer_of_another_ca_is_named_with_both() {
    let served = Served::new().await;
    let peer = served.material.orgs[0].peers[0].tls_file("ca.crt").unwrap();
    let findings = served.found(SystemTime::now, peer).await;
    let found = of(&findings, "orderer");
    assert_eq!(found.severity, Severity::Fault, "{findings:?}");
    assert!(found.found.contains("tlsca.orderer.demo"), "{found:?}");
    assert!(found.found.contains("tlsca.org1.demo"), "{found:?}");
    let setting = found.setting.as_deref();
    assert_eq!(
        setting,
        Some("caCertsFile in peer.deliveryclient.addressOverrides")
    );
}

#[tokio::test]
async fn a_genesis_block_that_is_not_served_is_told() {
    let served = Served::new().await;
    // Of a network that has the same names.
    let (_dir, other) = sample::network(2);
    fs::write(served.dir.path().join("genesis.block"), &other.genesis).unwrap();
    let findings = served.found(SystemTime::now, served.root()).await;
    let found = of(&findings, "genesis");
    assert_eq!(found.severity, Severity::Fault, "{findings:?}");
    let setting = found.setting.as_deref();
    assert_eq!(setting, Some("--join of `tidings node start`"));
}

/// The channel of a made network, of which an orderer has ten blocks.
fn behind(dir: &TempDir, config_at: Option<u64>) -> Vec<Channel> {
    let files = [dir.path().join("genesis.block")];
    let (mut channels, wrong) = channels::look(None, &dir.path().join("data"), &files);
    assert_eq!(wrong, []);
    let said = orderers::Said {
        genesis: channels[0].genesis(),
        height: 10,
        config_at,
        clock: Ok(clock::Offset::Close),
    };
    channels[0].compare(&[&said], 0);
    channels
}

fn strange() -> Met {
    Met::Nobody(reach::Refusal {
        reason: "its certificate is not issued by a root that is trusted".into(),
        ..reach::Refusal::default()
    })
}

#[test]
fn members_of_organizations_that_no_channel_names_cannot_be_judged() {
    let (dir, _material) = sample::network(2);
    let member = |number: u16| Other {
        organization: Some(format!("Org{number}MSP")),
        endpoint: format!("127.0.0.1:{number}"),
        ..Other::default()
    };
    let members = [member(1), member(2)];
    let met = [1, 2].map(|number| (format!("127.0.0.1:{number}"), strange()));
    let met = met.into();
    let known = behind(&dir, Some(0));
    for (channels, expected) in [(&known[..], 2), (&[], 1)] {
        let peers = Peers {
            msp_id: "Org1MSP",
            me: None,
            endpoint: "127.0.0.1:9000",
            external: "127.0.0.1:9000",
            bootstrap: &[],
            channels,
            runs: true,
            members: &members,
            met: &met,
        };
        let mut findings = peers.judge();
        findings.retain(|each| each.check == "members" && each.severity != Severity::Ok);
        assert_eq!(findings.len(), expected, "{findings:#?}");
    }
}

#[test]
fn nothing_is_wrong_by_a_configuration_that_the_node_has_not_caught_up_with() {
    let (dir, material) = sample::network(2);
    let peer = &material.orgs[0].peers[0];
    // As if the peer had come into another organization meanwhile, with other anchor peers.
    let local = Local::load(&peer.msp, "Org2MSP").unwrap();
    let met = ["127.0.0.1:7001", "127.0.0.1:7002"].map(|at| (at.to_owned(), strange()));
    let met = met.into();
    for (config_at, is_judged) in [(Some(0), true), (Some(1), false)] {
        let channels = behind(&dir, config_at);
        let peers = Peers {
            msp_id: "Org2MSP",
            me: None,
            endpoint: "127.0.0.1:9000",
            external: "127.0.0.1:9000",
            bootstrap: &["127.0.0.1:7001".to_owned()],
            channels: &channels,
            runs: false,
            members: &[],
            met: &met,
        };
        let mut findings = identity::membership(&local, &channels);
        findings.extend(peers.judge());
        findings.extend(validity::judge(3, &channels, None));
        findings.retain(|finding| finding.severity != Severity::Ok);
        let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        let anchors = ["anchor peers"; 2];
        let all = [&["organization"], &anchors[..], &["bootstrap", "validity"]].concat();
        assert_eq!(checks, all, "{findings:#?}");
        for finding in findings {
            let waits = finding.found.starts_with("not judged yet, of 10 blocks");
            assert_eq!(waits, !is_judged, "{finding:?}");
            assert_eq!(finding.setting.is_some(), is_judged, "{finding:?}");
            assert!(is_judged || finding.severity == Severity::Warning);
        }
    }
}

#[test]
fn a_bootstrap_peer_is_judged_by_the_channel_that_vouches_for_it() {
    let (dir, _material) = sample::network(2);
    let mut channels = behind(&dir, Some(0));
    channels.extend(behind(&dir, Some(1)));
    channels[1].name = "old".to_owned();
    let current = channels[0].name.clone();
    for (vouching, severity) in [
        (&["old", &*current][..], Severity::Fault),
        (&["old"], Severity::Warning),
    ] {
        let vouched_by = vouching.iter();
        let vouched_by = vouched_by.map(|name| ("Org1MSP".to_owned(), (*name).to_owned()));
        let refusal = reach::Refusal {
            vouched_by: vouched_by.collect(),
            ..reach::Refusal::default()
        };
        let met = [("127.0.0.1:1".to_owned(), Met::Nobody(refusal))].into();
        let peers = Peers {
            msp_id: "Org2MSP",
            me: None,
            endpoint: "127.0.0.1:9000",
            external: "127.0.0.1:9000",
            bootstrap: &["127.0.0.1:1".to_owned()],
            channels: &channels,
            runs: false,
            members: &[],
            met: &met,
        };
        let findings = peers.judge();
        assert_eq!(of(&findings, "bootstrap").severity, severity);
    }
}

#[test]
fn an_entry_for_nobody_is_told_with_whom_there_is() {
    let (dir, _material) = sample::network(1);
    let mut channels = behind(&dir, Some(0));
    let mut delivery = DeliverySettings::default();
    let entry = |to: &str| AddressOverride {
        to: to.into(),
        tls_roots: Vec::new(),
    };
    let overrides = &mut delivery.address_overrides;
    overrides.insert("127.0.0.1:7000".into(), entry("a:1"));
    assert_eq!(orderers::unused(&delivery, &channels), []);
    let overrides = &mut delivery.address_overrides;
    overrides.insert("orderer:7000".into(), entry("a:1"));
    let [finding] = &orderers::unused(&delivery, &channels)[..] else {
        panic!("one finding");
    };
    for part in ["orderer:7000", "they name 127.0.0.1:7000"] {
        assert!(finding.found.contains(part), "{finding:?}");
    }
    assert_eq!(orderers::unused(&delivery, &[]), []);
    // Of a chain of which only the first block is known a later one may name it.
    channels[0].compare(&[], 0);
    assert_eq!(orderers::unused(&delivery, &channels), []);
}
