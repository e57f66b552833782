//! Which servers we take for who they should be, and which of them we know already.
//!
//! Promises what webpki promises, at every handshake: a chain to our roots, the name that was
//! dialled, and nothing that has ended or not begun. A chain that was found good is not followed
//! again for the same certificates and the same name; only its time is looked at. That the server
//! holds the key of its certificate is checked every time. New roots come with a new verifier.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tidings_msp::crypto::sha256;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::crypto::Recent;

/// Chains remembered: one of every peer that a node may have a connection to.
const CHAINS_MAX: usize = 1024;

/// A verifier with a memory.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    good: Mutex<Recent<[u8; 32], Times>>,
}

/// When all certificates of a chain are good, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Times {
    from: i64,
    until: i64,
}

impl Times {
    /// None if a certificate cannot be read: then it is followed anew each time.
    fn of<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Option<Self> {
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for certificate in chain {
            let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
            let validity = certificate.validity();
            from = from.max(validity.not_before.timestamp());
            until = until.min(validity.not_after.timestamp());
        }
        Some(Self { from, until })
    }

    fn hold(self, now: UnixTime) -> bool {
        i64::try_from(now.as_secs()).is_ok_and(|now| (self.from..=self.until).contains(&now))
    }
}

impl ServerVerifier {
    pub(super) fn new(webpki: Arc<WebPkiServerVerifier>) -> Self {
        let good = Mutex::new(Recent::new(CHAINS_MAX));
        Self { webpki, good }
    }
}

/// Of these certificates under this name.
fn digest(name: &ServerName<'_>, chain: &[&CertificateDer<'_>]) -> [u8; 32] {
    let certificates = chain.iter().map(|certificate| sha256(certificate));
    let name = sha256(name.to_str().as_bytes());
    let digests: Vec<[u8; 32]> = [name].into_iter().chain(certificates).collect();
    sha256(digests.as_flattened())
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<&CertificateDer<'_>> =
            [end_entity].into_iter().chain(intermediates).collect();
        let digest = digest(server_name, &chain);
        // A thread that panicked while it held this left nothing half done.
        let good = || self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let known = good().find(&digest).copied();
        if known.is_some_and(|times| times.hold(now)) {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        if let Some(times) = Times::of(chain) {
            good().insert(digest, times);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::RootCertStore;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::tls::{provider, tests::certificates::Authority};

    fn webpki(ca: &Authority) -> Arc<WebPkiServerVerifier> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&ca.root()).unwrap())
            .unwrap();
        let provider = Arc::new(provider());
        WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap()
    }

    fn verify(verifier: &ServerVerifier, chain: &[u8], name: &str, year: u64) -> bool {
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .unwrap();
        let (leaf, others) = chain.split_first().unwrap();
        let name = ServerName::try_from(name).unwrap();
        let now = Duration::from_secs((year - 1970) * 31_557_600);
        let now = UnixTime::since_unix_epoch(now);
        let verified = verifier.verify_server_cert(leaf, others, &name, &[], now);
        verified.is_ok()
    }

    #[test]
    fn a_chain_is_followed_once_and_its_time_is_looked_at_always() {
        let (ca, other) = (Authority::new("ca"), Authority::new("other"));
        let good = ca.issue_until("a", 2100).certificate;
        let verifier = ServerVerifier::new(webpki(&ca));
        assert!(verify(&verifier, &good, "a", 2050));
        assert!(verify(&verifier, &good, "a", 2060));
        assert!(!verify(&verifier, &good, "a", 2101), "it has ended");
        assert!(!verify(&verifier, &good, "a", 1971), "it has not begun");
        assert!(!verify(&verifier, &good, "b", 2050), "another name");
        let same_name = ca.issue("a").certificate;
        // With roots that vouch for none of them only the memory is left.
        let verifier = ServerVerifier {
            webpki: webpki(&other),
            ..verifier
        };
        assert!(verify(&verifier, &good, "a", 2070));
        assert!(!verify(&verifier, &good, "a", 2101));
        assert!(!verify(&verifier, &good, "a", 1971));
        assert!(!verify(&verifier, &good, "b", 2070));
        assert!(!verify(&verifier, &same_name, "a", 2070));
    }

    #[test]
    fn every_certificate_of_a_chain_counts_and_what_was_refused_is_not_remembered() {
        let (ca, other) = (Authority::new("ca"), Authority::new("other"));
        let (chain, _) = ca.issue_through("between", "a");
        let verifier = ServerVerifier::new(webpki(&other));
        assert!(!verify(&verifier, &chain, "a", 2050));
        let verifier = ServerVerifier {
            webpki: webpki(&ca),
            ..verifier
        };
        assert!(verify(&verifier, &chain, "a", 2050));
        let verifier = ServerVerifier {
            webpki: webpki(&other),
            ..verifier
        };
        assert!(verify(&verifier, &chain, "a", 2050));
        let (other_chain, _) = ca.issue_through("between", "a");
        assert!(!verify(&verifier, &other_chain, "a", 2050));
    }
}
