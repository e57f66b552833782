//! What the settings may name, and what is said when they name something else.

use std::time::SystemTime;

use super::certificates::{Authority, Pair, self_signed};
use crate::tls::{Tls, TlsSettings};

fn error(settings: &TlsSettings) -> String {
    Tls::new(settings, SystemTime::now())
        .unwrap_err()
        .to_string()
}

#[test]
fn without_a_client_pair_the_server_pair_serves_both_roles() {
    let ca = Authority::new("ca");
    let tls = Tls::new(&ca.settings("a"), SystemTime::now()).unwrap();
    assert_eq!(
        tls.server_certificate_sha256(),
        tls.client_certificate_sha256()
    );
    let tls = ca.tls("a");
    assert_ne!(
        tls.server_certificate_sha256(),
        tls.client_certificate_sha256()
    );
    assert_eq!(tls.certificates_end_at(), (64_060_588_800, 64_060_588_800));
    assert_eq!(
        tls.client_identity().certificate_sha256(),
        tls.client_certificate_sha256()
    );
}

#[test]
fn half_a_client_pair_is_refused() {
    let ca = Authority::new("ca");
    let Pair { certificate, key } = ca.issue("a");
    let only_certificate = TlsSettings {
        client_certificate: Some(certificate),
        ..ca.settings("a")
    };
    let only_key = TlsSettings {
        client_key: Some(key),
        ..ca.settings("a")
    };
    for settings in [only_certificate, only_key] {
        let said = error(&settings);
        assert!(
            said.starts_with("only one of peer.tls.clientCert.file and"),
            "{said}"
        );
    }
}

#[test]
fn a_missing_expired_or_foreign_part_is_named() {
    let ca = Authority::new("ca");
    let good = ca.settings("a");
    let old = ca.issue_until("a", 2020);
    let other = ca.issue("a");
    let garbled = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    let client = |pair: Pair| TlsSettings {
        client_certificate: Some(pair.certificate),
        client_key: Some(pair.key),
        ..good.clone()
    };
    let cases: [(TlsSettings, &str); 10] = [
        (
            TlsSettings {
                certificate: Vec::new(),
                ..good.clone()
            },
            "peer.tls.cert.file holds no certificate in PEM form",
        ),
        (
            TlsSettings {
                certificate: garbled.clone(),
                ..good.clone()
            },
            "peer.tls.cert.file holds a certificate that cannot be read",
        ),
        (
            TlsSettings {
                certificate: old.certificate.clone(),
                key: old.key.clone(),
                ..good.clone()
            },
            "the certificate in peer.tls.cert.file expired on Jan  1 00:00:00 2020",
        ),
        (
            TlsSettings {
                key: b"nothing".to_vec(),
                ..good.clone()
            },
            "peer.tls.key.file holds no unencrypted private key in PEM form",
        ),
        (
            TlsSettings {
                key: other.key.clone(),
                ..good.clone()
            },
            "the key in peer.tls.key.file does not belong to the certificate in peer.tls.cert.file",
        ),
        (
            client(old),
            "the certificate in peer.tls.clientCert.file expired",
        ),
        (
            client(Pair {
                key: good.key.clone(),
                ..other
            }),
            "the key in peer.tls.clientKey.file does not belong to the certificate in \
             peer.tls.clientCert.file",
        ),
        (
            TlsSettings {
                roots: Vec::new(),
                ..good.clone()
            },
            "peer.tls.rootcert.file names no root",
        ),
        (
            TlsSettings {
                roots: vec![b"nothing".to_vec()],
                ..good.clone()
            },
            "peer.tls.rootcert.file holds no certificate in PEM form",
        ),
        (
            TlsSettings {
                roots: vec![garbled],
                ..good.clone()
            },
            "peer.tls.rootcert.file holds a certificate that cannot be a root",
        ),
    ];
    assert!(Tls::new(&good, SystemTime::now()).is_ok());
    for (settings, expect) in cases {
        let said = error(&settings);
        assert!(said.starts_with(expect), "{said:?} instead of {expect:?}");
    }
}

#[test]
fn keys_do_not_show_in_logs() {
    let settings = Authority::new("ca").settings("a");
    let tls = Tls::new(&settings, SystemTime::now()).unwrap();
    let shown = format!("{settings:?} {tls:?} {:?}", tls.client_identity());
    assert_eq!(
        shown,
        "TlsSettings { client_auth_required: false, .. } Tls { client_auth_required: false, .. } \
         ClientIdentity { .. }"
    );
}

#[test]
fn a_bad_root_of_a_channel_is_skipped() {
    let ca = Authority::new("ca");
    let tls = Tls::new(&ca.settings("a"), SystemTime::now()).unwrap();
    let roots = vec![b"nothing".to_vec(), Authority::new("other").root()];
    assert!(tls.replace_channel_roots(|| roots).is_ok());
}

#[test]
fn nobody_else_replaces_roots_between_reading_and_replacing() {
    let tls = Authority::new("ca").tls("a");
    let is_free = || tls.parts.replacing.try_lock().is_ok();
    let mut was_free = None;
    let roots = || {
        was_free = Some(is_free());
        vec![Authority::new("other").root()]
    };
    tls.replace_channel_roots(roots).unwrap();
    assert_eq!(was_free, Some(false));
    assert!(is_free());
}

#[test]
fn clients_may_be_required_before_there_are_roots_for_them() {
    let settings = TlsSettings {
        client_auth_required: true,
        ..Authority::new("ca").settings("a")
    };
    assert!(Tls::new(&settings, SystemTime::now()).is_ok());
}

#[test]
fn the_file_is_named_where_it_is_known() {
    let pair = self_signed("x");
    let key = "peer.tls.clientRootCAs.files";
    let settings = TlsSettings {
        client_auth_required: true,
        client_roots: vec![pair.certificate, pair.key],
        files: [(key, vec!["/a.pem".into(), "/b.pem".into()])].into(),
        ..Authority::new("ca").settings("a")
    };
    assert_eq!(
        error(&settings),
        "peer.tls.clientRootCAs.files (/b.pem) holds no certificate in PEM form"
    );
    let settings = TlsSettings {
        files: [(key, vec!["/a.pem".into()])].into(),
        ..settings
    };
    assert!(error(&settings).starts_with("peer.tls.clientRootCAs.files holds"));
    let settings = TlsSettings {
        key: b"nothing".to_vec(),
        files: [("peer.tls.key.file", vec!["/k.pem".into()])].into(),
        ..settings
    };
    assert!(error(&settings).starts_with("peer.tls.key.file (/k.pem) holds no unencrypted"));
}
