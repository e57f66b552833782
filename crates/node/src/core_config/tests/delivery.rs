//! Keys under `peer.deliveryclient`.

use tidings_gossip::ClusterConfig;
use tidings_msp::crypto::sha256;

use super::*;
use crate::service::AddressOverride;

const NAME: &str = "CORE_PEER_DELIVERYCLIENT_ADDRESSOVERRIDES";

/// Overrides as `(from, to, number of roots)`.
fn overrides(more: &str, variables: &[(&str, &str)]) -> Vec<(String, String, usize)> {
    let settings = settings(&with(more), variables).unwrap();
    let overrides = settings.delivery.address_overrides.into_iter();
    overrides
        .map(|(from, AddressOverride { to, tls_roots })| (from, to, tls_roots.len()))
        .collect()
}

fn expected(entries: &[(&str, &str, usize)]) -> Vec<(String, String, usize)> {
    let entries = entries.iter();
    entries
        .map(|(from, to, roots)| ((*from).to_owned(), (*to).to_owned(), *roots))
        .collect()
}

#[test]
fn addresses_are_overridden_by_a_list_in_the_file_or_in_a_variable() {
    let file = "  deliveryclient:
    addressOverrides:
      - {from: 'a:1', to: 'b:1', caCertsFile: ''}
      - FROM: c:1
        To: d:1
        caCertsFile:
        comment: x
      - {from: 'a:1', to: 'e:1'}
";
    let both = [("a:1", "e:1", 0), ("c:1", "d:1", 0)];
    assert_eq!(overrides(file, &[]), expected(&both));
    for (variable, entries) in [
        ("", &[][..]),
        ("[]", &[]),
        ("~", &[]),
        ("[{from: 'x:1', to: 'y:1'}]", &[("x:1", "y:1", 0)]),
        ("{from: 'x:1', to: 'y:1'}", &[("x:1", "y:1", 0)]),
        ("- to: y:1\n  from: x:1", &[("x:1", "y:1", 0)]),
    ] {
        let found = overrides(file, &[(NAME, variable)]);
        assert_eq!(found, expected(entries), "{variable}");
    }
    assert_eq!(overrides("  deliveryclient: {addressOverrides: }", &[]), []);
    for bad in ["a:1", "[a]", "[[from]]", "[{from: [a]}]", "[{", "7"] {
        let refused = refused(LEAST, &[(NAME, bad)]);
        assert!(
            refused.starts_with("peer.deliveryclient.addressOverrides: ")
                && refused.ends_with("a list of mappings with from, to and caCertsFile"),
            "{refused}"
        );
    }
}

#[test]
fn an_override_is_passed_over_when_its_file_is_of_no_use() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.self_signed(&key).unwrap()
    };
    let (first, second) = (certificate("first"), certificate("second"));
    let text = format!("of the CA\n{}{}", first.pem(), second.pem());
    for (name, content) in [("good", text.as_str()), ("empty", ""), ("odd", "no PEM")] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let dir = dir.path().display();
    let entry = |from: &str, file: &str| {
        format!("      - {{from: {from}, to: 'x:1', caCertsFile: {dir}/{file}}}\n")
    };
    let text = [
        "  deliveryclient:\n    addressOverrides:\n".to_owned(),
        entry("good", "good"),
        entry("empty", "empty"),
        entry("odd", "odd"),
        entry("absent", "absent"),
        entry("good", "absent"),
    ]
    .concat();
    assert_eq!(overrides(&text, &[]), expected(&[("good", "x:1", 2)]));
    let settings = settings(&with(&text), &[]).unwrap();
    let roots = &settings.delivery.address_overrides["good"].tls_roots;
    let hashes: Vec<_> = roots.iter().map(|root| sha256(root)).collect();
    assert_eq!(hashes, [sha256(first.der()), sha256(second.der())]);
}

#[test]
fn orderers_that_may_be_dishonest_have_their_own_keys() {
    let cluster = |more: &str| {
        let settings = settings(&with(&format!("  deliveryclient: {{{more}}}")), &[]);
        settings.unwrap().gossip.cluster
    };
    let default = ClusterConfig::default();
    assert_eq!(default.block_censorship_timeout, Duration::from_secs(30));
    for same in ["", "policy: cluster", "policy: Simple", "policy: "] {
        assert_eq!(cluster(same), default, "{same}");
    }
    assert_eq!(
        cluster("blockCensorshipTimeoutKey: 0, minimalReconnectInterval: 0"),
        default
    );
    let all = "policy: simple, blockCensorshipTimeoutKey: 5s, minimalReconnectInterval: 20ms";
    let expected = ClusterConfig {
        watch: false,
        block_censorship_timeout: Duration::from_secs(5),
        minimal_reconnect_interval: Duration::from_millis(20),
    };
    assert_eq!(cluster(all), expected);
    let backoff = "  deliveryclient: {reConnectBackoffThreshold: 7s}";
    let settings = settings(&with(backoff), &[]).unwrap();
    assert_eq!(
        settings.gossip.reconnect_backoff_threshold,
        Duration::from_secs(7)
    );
}
