//! Keys under `operations` and `metrics`.

use super::*;
use crate::operations::OperationsSettings;

const ADDRESS: (&str, &str) = ("CORE_OPERATIONS_LISTENADDRESS", "127.0.0.1:9443");

fn operations(text: &str, variables: &[(&str, &str)]) -> Option<OperationsSettings> {
    settings(text, variables).unwrap().operations
}

#[test]
fn the_sample_file_has_a_server_without_metrics() {
    let sample = format!(
        "{LEAST}
operations:
  listenAddress: 127.0.0.1:9443
  tls:
    enabled: false
    cert:
      file:
    key:
      file:
    clientAuthRequired: false
    clientRootCAs:
      files: []
metrics:
  provider: disabled
  statsd:
    network: udp
    address: 127.0.0.1:8125
    writeInterval: 10s
    prefix:
"
    );
    let expected = OperationsSettings {
        listen: ("127.0.0.1".to_owned(), 9443),
        tls: None,
        metrics: false,
        dashboard: false,
    };
    let config = load(&sample, &[]).unwrap();
    let settings = Settings::read(&config).unwrap();
    assert_eq!(settings.operations.as_ref(), Some(&expected));
    assert!(config.unknown().is_empty(), "{:?}", config.unknown());
    let everywhere = [("CORE_OPERATIONS_LISTENADDRESS", ":9443")];
    assert_eq!(
        operations(&sample, &everywhere).unwrap().listen,
        ("0.0.0.0".to_owned(), 9443)
    );
    let nowhere = [("CORE_OPERATIONS_LISTENADDRESS", "")];
    assert_eq!(operations(&sample, &nowhere), None);
    assert_eq!(operations(LEAST, &[]), None);
    let typo = [("CORE_OPERATIONS_LISTENADRESS", "x")];
    let config = load(LEAST, &typo).unwrap();
    Settings::read(&config).unwrap();
    assert_eq!(config.unknown(), ["CORE_OPERATIONS_LISTENADRESS"]);
}

#[test]
fn metrics_are_served_for_prometheus_only_and_nothing_else_keeps_from_starting() {
    for (provider, served) in [
        ("prometheus", true),
        ("disabled", false),
        ("statsd", false),
        ("Prometheus", false),
        ("", false),
    ] {
        let variables = [ADDRESS, ("CORE_METRICS_PROVIDER", provider)];
        let operations = operations(LEAST, &variables).unwrap();
        assert_eq!(operations.metrics, served, "{provider:?}");
    }
}

#[test]
fn there_is_a_dashboard_only_where_it_is_enabled() {
    for (enabled, served) in [("true", true), ("false", false)] {
        let variables = [ADDRESS, ("CORE_OPERATIONS_DASHBOARD_ENABLED", enabled)];
        let operations = operations(LEAST, &variables).unwrap();
        assert_eq!(operations.dashboard, served);
    }
    assert!(!operations(LEAST, &[ADDRESS]).unwrap().dashboard);
    let odd = [ADDRESS, ("CORE_OPERATIONS_DASHBOARD_ENABLED", "maybe")];
    let refused = refused(LEAST, &odd);
    assert!(
        refused.starts_with("operations.dashboard.enabled"),
        "{refused}"
    );
}

#[test]
fn tls_is_read_when_it_is_enabled() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = dir.path().join(name);
        fs::write(&path, name).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let (cert, key, roots) = (
        place("cert"),
        place("key"),
        [place("a"), place("b")].join(" "),
    );
    let all = [
        ADDRESS,
        ("CORE_OPERATIONS_TLS_ENABLED", "true"),
        ("CORE_OPERATIONS_TLS_CERT_FILE", &cert),
        ("CORE_OPERATIONS_TLS_KEY_FILE", &key),
        ("CORE_OPERATIONS_TLS_CLIENTAUTHREQUIRED", "true"),
        ("CORE_OPERATIONS_TLS_CLIENTROOTCAS_FILES", &roots),
    ];
    let tls = operations(LEAST, &all).unwrap().tls.unwrap();
    assert_eq!(
        (&tls.certificate[..], &tls.key[..]),
        (&b"cert"[..], &b"key"[..])
    );
    assert_eq!(tls.client_roots, [b"a", b"b"]);
    let faults = settings(LEAST, &all).unwrap();
    let faults = faults.listener_faults(SystemTime::UNIX_EPOCH);
    let fault = faults.first().map(ToString::to_string).unwrap_or_default();
    assert!(fault.starts_with("operations.tls.cert.file"), "{fault}");
    assert!(tls.client_auth_required);
    let least = operations(LEAST, &all[..4]).unwrap().tls.unwrap();
    assert!(!least.client_auth_required && least.client_roots.is_empty());
    for (left_out, key) in [
        (2, "operations.tls.cert.file"),
        (3, "operations.tls.key.file"),
    ] {
        let mut variables = all.to_vec();
        variables.remove(left_out);
        let refused = refused(LEAST, &variables);
        assert!(
            refused.starts_with(&format!("{key} must be set")),
            "{refused}"
        );
    }
    let disabled = [&all[..], &[("CORE_OPERATIONS_TLS_ENABLED", "false")]].concat();
    assert_eq!(operations(LEAST, &disabled).unwrap().tls, None);
}

#[test]
fn what_is_set_and_not_followed_is_warned_of_and_no_reason_not_to_start() {
    let warned = |variables: &[(&str, &str)]| {
        let config = load(LEAST, variables).unwrap();
        Settings::read(&config).unwrap();
        config.warnings()
    };
    let asks = ("CORE_OPERATIONS_TLS_CLIENTAUTHREQUIRED", "true");
    let words = "operations.tls.clientAuthRequired is true but operations.tls.enabled is not";
    let [warning] = &warned(&[ADDRESS, asks])[..] else {
        panic!("one warning");
    };
    assert!(warning.starts_with(words), "{warning}");
    // Where nobody listens nobody is asked.
    assert!(warned(&[asks]).is_empty());
    let overrides = "[{from: 'a:1', to: 'b:1', caCertsFile: /absent}]";
    let more = [
        ADDRESS,
        ("CORE_METRICS_PROVIDER", "statsd"),
        ("CORE_PEER_DELIVERYCLIENT_ADDRESSOVERRIDES", overrides),
    ];
    let all = warned(&more);
    assert!(
        all[0].contains("a:1") && all[0].contains("/absent"),
        "{all:?}"
    );
    assert!(all[1].starts_with("metrics.provider: statsd"), "{all:?}");
}

#[test]
fn blocks_by_http_have_a_listener_of_their_own() {
    assert_eq!(settings(LEAST, &[]).unwrap().http, None);
    let text = format!(
        "{LEAST}
http:
  listenAddress: :9090
  tls: {{enabled: false, cert: {{file: a}}, key: {{file: b}}, clientAuthRequired: false, clientRootCAs: {{files: [c]}}}}
"
    );
    let config = load(&text, &[]).unwrap();
    let http = Settings::read(&config).unwrap().http.unwrap();
    assert_eq!(http.listen, ("0.0.0.0".to_owned(), 9090));
    assert_eq!(http.tls, None);
    assert!(config.unknown().is_empty(), "{:?}", config.unknown());
    let enabled = refused(&text, &[("CORE_HTTP_TLS_ENABLED", "true")]);
    assert!(enabled.contains("http.tls.cert.file names"), "{enabled}");
    let open = refused(&text, &[("CORE_HTTP_TLS_CLIENTAUTHREQUIRED", "true")]);
    assert!(open.contains("set both or neither"), "{open}");
}
