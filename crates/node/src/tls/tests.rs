//! TLS against peers of every kind, over pipes and paused time.

pub(crate) mod certificates;
mod dialling;
mod renewing;
mod settings;
mod shaking;

use std::sync::Arc;

use rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

use super::Tls;

/// Makes a client that keeps its certificate to itself.
pub(crate) fn show_no_certificate(tls: &Tls) {
    tls.parts.current.send_modify(|configs| {
        let mut client = ClientConfig::clone(&configs.client);
        client.client_auth_cert_resolver = Arc::new(Nothing);
        configs.client = Arc::new(client);
    });
}

#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn all_ciphers_are_offered_and_the_fastest_first() {
    let ours = super::provider().cipher_suites;
    let all = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
    assert_eq!(ours.len(), all.len());
    assert!(all.iter().all(|suite| ours.contains(suite)));
    let first = ours.first().map(rustls::SupportedCipherSuite::suite);
    let expected = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    assert_eq!(first, Some(expected));
}
