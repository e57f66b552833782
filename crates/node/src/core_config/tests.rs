//! Keys and variables on an own small file: what a Go peer makes of them.

use std::{
    io,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use tidings_ledger::Retention;

use super::*;

mod delivery;
mod operations;
mod private;

/// The least that a node needs.
const LEAST: &str = "
peer:
  listenAddress: 0.0.0.0:7051
  address: peer0.org1:7051
  localMspId: Org1MSP
  mspConfigPath: msp
  fileSystemPath: data
";

fn load(text: &str, variables: &[(&str, &str)]) -> Result<CoreConfig, ConfigRefused> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    CoreConfig::parse(text, Path::new("/etc/peer/core.yaml"), variables)
}

/// The least and more below `peer`.
fn with(more: &str) -> String {
    format!("{LEAST}{more}")
}

fn settings(text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigRefused> {
    Settings::read(&load(text, variables)?)
}

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    settings(text, variables).unwrap_err().to_string()
}

#[test]
fn the_least_that_must_be_set_has_the_defaults_of_the_code() {
    let settings = settings(LEAST, &[]).unwrap();
    assert_eq!(settings.listen, ("0.0.0.0".to_owned(), 7051));
    assert_eq!(settings.endpoint, "peer0.org1:7051");
    assert_eq!(settings.external_endpoint, "");
    assert_eq!(settings.msp_id, "Org1MSP");
    let gossip = tidings_gossip::Config {
        stripe: true,
        ..Default::default()
    };
    assert_eq!(settings.gossip, gossip);
    assert_eq!(settings.transport, crate::service::Transport::default());
    assert_eq!(
        settings.delivery,
        crate::service::DeliverySettings::default()
    );
    assert!(settings.tls.is_none());
}

#[test]
fn what_must_be_set_is_missed_by_name() {
    for key in [
        "listenAddress",
        "address",
        "localMspId",
        "mspConfigPath",
        "fileSystemPath",
    ] {
        let without: String = LEAST
            .lines()
            .filter(|line| !line.trim_start().starts_with(&format!("{key}:")))
            .map(|line| format!("{line}\n"))
            .collect();
        let error = refused(&without, &[]);
        assert!(
            error.starts_with(&format!("peer.{key} must be set")),
            "{error}"
        );
        let variable = format!("CORE_PEER_{}", key.to_ascii_uppercase());
        assert_eq!(error, refused(LEAST, &[(&variable, "")]), "empty wins");
    }
}

#[test]
fn the_environment_wins_over_the_file_also_when_it_is_empty() {
    let file = "{Peer: {Gossip: {ExternalEndpoint: 'file:1'}}}";
    let read = |text, variables: &[(&str, &str)]| {
        let config = load(text, variables).unwrap();
        config.text("peer.gossip.externalEndpoint").unwrap()
    };
    const NAME: &str = "CORE_PEER_GOSSIP_EXTERNALENDPOINT";
    for (text, variables, expected) in [
        ("", &[][..], None),
        ("peer:", &[][..], None),
        (file, &[][..], Some("file:1")),
        (file, &[(NAME, "env:1")][..], Some("env:1")),
        ("", &[(NAME, "env:1")][..], Some("env:1")),
        (file, &[(NAME, "")][..], None),
        (
            file,
            &[("PEER_GOSSIP_EXTERNALENDPOINT", "x:1")][..],
            Some("file:1"),
        ),
        (
            file,
            &[("CORE_peer_gossip_externalEndpoint", "env:1")][..],
            Some("env:1"),
        ),
    ] {
        assert_eq!(
            read(text, variables).as_deref(),
            expected,
            "{text} {variables:?}"
        );
    }
}

#[test]
fn lists_are_split_at_white_space_and_not_at_commas() {
    const NAME: &str = "CORE_PEER_GOSSIP_BOOTSTRAP";
    for (more, variables, expected) in [
        ("", &[][..], &[][..]),
        ("  gossip: {bootstrap: 'a:1'}", &[], &["a:1"]),
        ("  gossip: {bootstrap: [a:1, b:2]}", &[], &["a:1", "b:2"]),
        ("  gossip: {bootstrap: []}", &[], &[]),
        ("  gossip: {bootstrap: }", &[], &[]),
        ("", &[(NAME, "a:1 b:2\t c:3")], &["a:1", "b:2", "c:3"]),
        ("", &[(NAME, "a:1,b:2")], &["a:1,b:2"]),
        ("  gossip: {bootstrap: 'a:1'}", &[(NAME, "")], &[]),
    ] {
        let settings = settings(&with(more), variables).unwrap();
        assert_eq!(settings.gossip.bootstrap, expected, "{more} {variables:?}");
    }
    assert!(refused(&with("  gossip: {bootstrap: [1]}"), &[]).contains("a list of texts"));
}

#[test]
fn durations_are_gos_and_zero_means_the_default() {
    let pull = |value: &str| {
        settings(&with(&format!("  gossip: {{pullInterval: {value}}}")), &[])
            .map(|settings| settings.gossip.pull_interval)
    };
    for (value, millis) in [
        ("10ms", 10),
        ("1m30s", 90_000),
        ("1.5s", 1500),
        ("25000000", 25),
        ("'25000000'", 25),
        ("0", 4000),
        ("0s", 4000),
        ("", 4000),
        ("10", 1),
    ] {
        assert_eq!(
            pull(value).unwrap(),
            Duration::from_millis(millis),
            "{value}"
        );
    }
    for value in ["4 seconds", "-4s", "-1", "1d", "[4s]", "true", "900000h"] {
        let error = pull(value).unwrap_err().to_string();
        assert!(error.starts_with("peer.gossip.pullInterval: "), "{error}");
    }
}

#[test]
fn zero_means_the_default_except_under_state() {
    let text = with(
        "  gossip: {propagatePeerNum: 0, sendBuffSize: 0, maxBlockCountToStore: 7,
    state: {batchSize: 0, blockBufferSize: 0, maxRetries: 0, channelSize: 0, responseTimeout: 0s}}",
    );
    let Settings {
        gossip, transport, ..
    } = settings(&text, &[]).unwrap();
    assert_eq!(gossip.propagate_peer_num, 3);
    assert_eq!(transport.send_queue_len_max, 200);
    assert_eq!(gossip.max_block_count_to_store, 7);
    let state = gossip.state;
    assert_eq!((state.batch_size, state.block_buffer_size), (0, 0));
    assert_eq!((state.max_retries, state.channel_size), (0, 0));
    assert_eq!(state.response_timeout, DURATION_MIN);
    assert_eq!(state.check_interval, Duration::from_secs(10));
    for bad in ["-1", "many", "1.5", "99999999999999999999"] {
        let error = refused(&with(&format!("  gossip: {{pullPeerNum: {bad}}}")), &[]);
        assert!(error.starts_with("peer.gossip.pullPeerNum: "), "{error}");
    }
}

#[test]
fn times_that_follow_others_follow_them() {
    let alive = |more: &str| {
        let gossip = settings(&with(&format!("  gossip: {{{more}}}")), &[])
            .unwrap()
            .gossip;
        (
            gossip.alive_expiration_timeout.as_secs(),
            gossip.reconnect_interval.as_secs(),
        )
    };
    assert_eq!(alive(""), (25, 25));
    assert_eq!(alive("aliveTimeInterval: 2s"), (10, 10));
    assert_eq!(alive("aliveExpirationTimeout: 7s"), (7, 7));
    assert_eq!(
        alive("aliveTimeInterval: 2s, reconnectInterval: 3s"),
        (10, 3)
    );
}

#[test]
fn election_and_delivery_have_their_own_keys() {
    let text = with(
        "  gossip: {election: {startupGracePeriod: 1s, membershipSampleInterval: 2s,
    leaderAliveThreshold: 3s, leaderElectionDuration: 0}}
  deliveryclient: {reconnectTotalTimeThreshold: 4m, connTimeout: 5s, blockGossipEnabled: false}",
    );
    let settings = settings(&text, &[]).unwrap();
    let secs = Duration::from_secs;
    let election = tidings_gossip::ElectionConfig {
        startup_grace_period: secs(1),
        membership_sample_interval: secs(2),
        leader_alive_threshold: secs(3),
        leader_election_duration: secs(5),
    };
    assert_eq!(settings.gossip.election, election);
    assert_eq!(settings.gossip.reconnect_total_time_threshold, secs(240));
    assert!(!settings.gossip.block_gossip_enabled);
    assert_eq!(settings.delivery.connect_timeout, secs(5));
}

#[test]
fn a_node_appoints_its_leader_or_elects_it() {
    let modes = |more: &str| {
        settings(&with(more), &[]).map(|s| (s.gossip.org_leader, s.gossip.use_leader_election))
    };
    assert_eq!(modes("").unwrap(), (false, false));
    assert_eq!(modes("  gossip: {orgLeader: true}").unwrap(), (true, false));
    assert_eq!(
        modes("  gossip: {orgLeader: 'F', useLeaderElection: yes}").unwrap(),
        (false, true)
    );
    let both = modes("  gossip: {orgLeader: true, useLeaderElection: true}").unwrap_err();
    assert!(both.to_string().contains("exclude each other"), "{both}");
    let neither = refused(&with("  gossip: {orgLeader: perhaps}"), &[]);
    assert!(neither.contains("not true or false"), "{neither}");
}

#[test]
fn what_nobody_understands_is_named_and_what_go_understands_is_not() {
    let text = with(
        "  id: peer0
  BCCSP: {Default: SW}
  keepalive: {client: {interval: 60s}}
  gossip: {bootStrap: 'a:1', boostrap: 'b:1', pvtData: {pullRetryThreshold: 60s, pullRetry: 1s}}
  tls: {enabled: false, cert: {file: x}, keyy: {file: y}}
  deliveryclient: {policy: cluster, polizy: simple}
vm: {endpoint: x}
ledger:
  blockchain:
  retention: {blocks: 5, block: 5}
chaincode:
extra: [1, 2]
",
    );
    let variables = [
        ("CORE_PEER_ID", "peer0"),
        ("CORE_PEER_IDX", "peer0"),
        ("CORE_PEER_LOCALMSPID", "Org1MSP"),
        ("CORE_VM_ENDPOINT", ""),
        ("CORE_LOGGING_LEVEL", "debug"),
        ("OTHER", "x"),
    ];
    let config = load(&text, &variables).unwrap();
    Settings::read(&config).unwrap();
    assert_eq!(
        config.unknown(),
        [
            "extra",
            "ledger.retention.block",
            "peer.deliveryclient.polizy",
            "peer.gossip.boostrap",
            "peer.gossip.pvtdata.pullretry",
            "peer.tls.keyy.file",
            "CORE_LOGGING_LEVEL",
            "CORE_PEER_IDX",
        ]
    );
}

#[test]
fn what_is_kept_of_ledgers_is_everything_unless_it_is_said() {
    let kept = |text: &str, variables: &[(&str, &str)]| {
        let settings = settings(&format!("{LEAST}{text}"), variables);
        settings.map(|settings| settings.retention)
    };
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    assert_eq!(kept("", &[]).unwrap(), Retention::ALL);
    let none = "\nledger: {retention: {blocks: 0, days: 0}}\n";
    assert_eq!(kept(none, &[]).unwrap(), Retention::ALL);
    let some = "\nledger: {retention: {blocks: 7, days: 30}}\n";
    let variables = [("CORE_LEDGER_RETENTION_BLOCKS", "9")];
    let expected = Retention {
        blocks: Some(9),
        age: Some(days(30)),
    };
    assert_eq!(kept(some, &variables).unwrap(), expected);
    let error = kept("", &[("CORE_LEDGER_RETENTION_DAYS", "-1")]).unwrap_err();
    assert!(
        error.to_string().contains("ledger.retention.days"),
        "{error}"
    );
}

#[test]
fn whether_organizations_agree_is_asked_only_where_tls_shows_whose_a_peer_is() {
    let organizations = |count: &str| {
        let variables = [("CORE_VALIDITY_ORGANIZATIONS", count)];
        settings(LEAST, &variables).map(|settings| settings.validity_organizations)
    };
    assert_eq!(organizations("0").unwrap(), 0);
    let open = organizations("16").unwrap_err().to_string();
    assert!(open.contains("needs peer.tls.enabled"), "{open}");
    let many = organizations("17").unwrap_err().to_string();
    assert!(many.contains("16 or less"), "{many}");
}

#[test]
fn relative_paths_begin_at_the_file() {
    let relative = settings(LEAST, &[]).unwrap();
    assert_eq!(relative.msp_dir, Path::new("/etc/peer/msp"));
    assert_eq!(relative.data_dir, Path::new("/etc/peer/data"));
    let variables = [
        ("CORE_PEER_MSPCONFIGPATH", "/elsewhere/msp"),
        ("CORE_PEER_FILESYSTEMPATH", "../data"),
    ];
    let absolute = settings(LEAST, &variables).unwrap();
    assert_eq!(absolute.msp_dir, Path::new("/elsewhere/msp"));
    assert_eq!(absolute.data_dir, Path::new("/etc/peer/../data"));
}

#[test]
fn files_of_tls_are_read_and_come_in_pairs() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["crt", "key", "ca", "more"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let tls = |variables: &[(&str, &str)]| {
        let text = with("  tls: {enabled: true, rootcert: {file: ca}}");
        let variables = variables
            .iter()
            .map(|(name, value)| (format!("CORE_PEER_TLS_{name}"), (*value).to_owned()));
        let config = CoreConfig::parse(&text, &dir.path().join("core.yaml"), variables)?;
        Settings::read(&config).map(|settings| settings.tls.unwrap())
    };
    const PAIR: [(&str, &str); 2] = [("CERT_FILE", "crt"), ("KEY_FILE", "key")];
    let plain = tls(&PAIR).unwrap();
    assert_eq!(
        (&plain.certificate[..], &plain.key[..]),
        (&b"crt"[..], &b"key"[..])
    );
    assert_eq!(plain.roots, [b"ca"]);
    assert!(plain.client_certificate.is_none() && plain.client_roots.is_empty());

    let more = |extra: &[(&'static str, &'static str)]| {
        let all: Vec<_> = PAIR.iter().chain(extra).copied().collect();
        tls(&all).map_err(|error| error.to_string())
    };
    let roots = ("CLIENTROOTCAS_FILES", "ca more");
    assert!(
        more(&[roots]).unwrap().client_roots.is_empty(),
        "nobody asked for it"
    );
    let required = more(&[roots, ("CLIENTAUTHREQUIRED", "true")]).unwrap();
    assert_eq!(required.client_roots, [&b"ca"[..], &b"more"[..]]);
    let client = [("CLIENTCERT_FILE", "more"), ("CLIENTKEY_FILE", "key")];
    assert_eq!(
        more(&client).unwrap().client_certificate.as_deref(),
        Some(&b"more"[..])
    );
    for half in client {
        assert!(more(&[half]).unwrap_err().contains("set both"), "{half:?}");
    }
    assert!(
        more(&[("KEY_FILE", "")])
            .unwrap_err()
            .starts_with("peer.tls.key.file must be set")
    );
    let absent = more(&[("CERT_FILE", "absent")]).unwrap_err();
    assert!(
        absent.contains("absent, which peer.tls.cert.file names"),
        "{absent}"
    );
}

#[test]
fn the_address_that_others_are_told_is_one_that_they_can_use() {
    let own = || Ok(IpAddr::from([10, 0, 0, 7]));
    let announced = |configured, detect| {
        address::to_announce("peer.address", configured, detect, own).map_err(|e| e.to_string())
    };
    assert_eq!(announced("peer0:7051", false).unwrap(), "peer0:7051");
    assert_eq!(announced("peer0:7051", true).unwrap(), "10.0.0.7:7051");
    assert_eq!(announced("0.0.0.0:7051", false).unwrap(), "10.0.0.7:7051");
    assert_eq!(announced("[::]:7051", false).unwrap(), "10.0.0.7:7051");
    assert_eq!(announced("[::1]:7051", false).unwrap(), "[::1]:7051");
    for bad in [
        "peer0",
        "peer0:",
        "peer0:http",
        "peer0:70510",
        "::1:7051",
        "[::1:7051",
    ] {
        assert!(
            announced(bad, false)
                .unwrap_err()
                .contains("is not host:port"),
            "{bad}"
        );
    }
    let lost = address::to_announce("peer.address", "0.0.0.0:1", false, || {
        Err(io::ErrorKind::NetworkUnreachable.into())
    });
    assert!(
        lost.unwrap_err()
            .to_string()
            .contains("peer.gossip.endpoint")
    );

    let endpoint = [("CORE_PEER_GOSSIP_ENDPOINT", "inside:7000")];
    assert_eq!(settings(LEAST, &endpoint).unwrap().endpoint, "inside:7000");
    let any = [("CORE_PEER_LISTENADDRESS", ":7051")];
    assert_eq!(
        settings(LEAST, &any).unwrap().listen,
        ("0.0.0.0".to_owned(), 7051)
    );
}

#[tokio::test]
async fn port_0_is_announced_as_the_port_that_it_became() {
    let variables = [("CORE_PEER_ADDRESS", "localhost:0")];
    let settings = settings(LEAST, &variables).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(
        settings.node(listener).unwrap().endpoint,
        format!("localhost:{port}")
    );
}

#[test]
fn a_file_is_found_in_a_folder_and_a_bad_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let absent = CoreConfig::load(Some(dir.path())).unwrap_err().to_string();
    assert!(
        absent.contains("core.yaml") && !absent.contains("which"),
        "{absent}"
    );
    let file = dir.path().join(FILE);
    fs::write(&file, LEAST).unwrap();
    assert_eq!(CoreConfig::load(Some(dir.path())).unwrap().path(), file);
    assert_eq!(CoreConfig::load(Some(&file)).unwrap().path(), file);
    fs::write(&file, "peer: [").unwrap();
    let bad = CoreConfig::load(Some(&file)).unwrap_err().to_string();
    assert!(bad.contains("core.yaml: "), "{bad}");
    fs::write(&file, vec![b'#'; usize::try_from(FILE_BYTES_MAX).unwrap()]).unwrap();
    assert!(CoreConfig::load(Some(&file)).is_ok(), "as long as can be");
    fs::write(
        &file,
        vec![b'#'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1],
    )
    .unwrap();
    assert!(CoreConfig::load(Some(&file)).is_err());
}
