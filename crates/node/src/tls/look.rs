//! TLS looked at from outside, for whoever finds out what is wrong with it.
//!
//! Nothing here is a connection to be used: what a server shows is taken as it is, to be told to a
//! person, and certificates are judged as a peer that dials would judge them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{
    ALPN, Dial, DialError, Fault, TcpDial,
    buffered::Buffered,
    dial::parse,
    fault::refusal,
    material::{add_sound, pem_certificates, since_epoch_s},
    provider,
};

/// Certificates of a chain that are looked at: those of honest servers are shorter.
const CHAIN_LEN_MAX: usize = 16;

/// Whose certificate a handshake that failed is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blamed {
    /// We do not accept that of the server.
    Theirs,
    /// The server does not accept ours.
    Ours,
    /// Nobody's: the server does not speak TLS.
    NotTls,
}

impl DialError {
    /// Whose certificate is to be looked at, if it is about one.
    pub fn blamed(&self) -> Option<Blamed> {
        let Self::Tls { source, .. } = self else {
            return None;
        };
        match Fault::of_handshake(source) {
            Fault::Theirs(_) => Some(Blamed::Theirs),
            Fault::Ours(_) => Some(Blamed::Ours),
            Fault::NotTls => Some(Blamed::NotTls),
            Fault::Other(_) => None,
        }
    }
}

/// The certificates (DER, its own first) that a server shows, whoever vouches for them. Shows none
/// of ours.
pub async fn presented(endpoint: &str, limit: Duration) -> Result<Vec<Vec<u8>>, DialError> {
    let (host, port) = parse(endpoint)?;
    let malformed = || DialError::Endpoint {
        endpoint: endpoint.to_owned(),
    };
    let name = ServerName::try_from(host.to_owned())
        .ok()
        .ok_or_else(malformed)?;
    let shown = Arc::new(Shown::default());
    let provider = Arc::new(provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| DialError::Roots {
            endpoint: endpoint.to_owned(),
            source: super::TlsError::Setup(error),
        })?;
    let mut config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&shown) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let shake = async {
        let io = TcpDial
            .dial(host, port)
            .await
            .map_err(|source| DialError::Tcp {
                endpoint: endpoint.to_owned(),
                source,
            })?;
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, Buffered::new(io));
        // One that wants a certificate of ours has shown its own before.
        match (shaken.await, shown.take()) {
            (_, Some(chain)) => Ok(chain),
            (Err(source), None) => Err(DialError::Tls {
                endpoint: endpoint.to_owned(),
                source,
            }),
            (Ok(_), None) => Ok(Vec::new()),
        }
    };
    timeout(limit, shake)
        .await
        .map_err(|_elapsed| DialError::Unreachable {
            endpoint: endpoint.to_owned(),
            limit,
            reason: "no certificate was shown".to_owned(),
        })?
}

/// What somebody that has these roots (PEM or DER) has against a server's certificate (PEM, with
/// its chain behind it), the name left out. Reads after "the certificate".
pub fn objection<C: AsRef<[u8]>>(chain: &[u8], roots: &[C], now: SystemTime) -> Option<String> {
    let chain = match pem_certificates(chain) {
        Ok(chain) => chain,
        Err(reason) => return Some(format!("cannot be read: {reason}")),
    };
    objection_to(&chain, roots, now)
}

/// As [`objection`], to a chain in DER.
pub fn objection_to_der<C: AsRef<[u8]>>(
    chain: &[Vec<u8>],
    roots: &[C],
    now: SystemTime,
) -> Option<String> {
    let chain = chain.iter().map(|der| CertificateDer::from(der.as_slice()));
    let chain: Vec<_> = chain.take(CHAIN_LEN_MAX).collect();
    objection_to(&chain, roots, now)
}

fn objection_to<C: AsRef<[u8]>>(
    chain: &[CertificateDer<'_>],
    roots: &[C],
    now: SystemTime,
) -> Option<String> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Some("is not there".to_owned());
    };
    let mut store = RootCertStore::empty();
    add_sound(&mut store, roots);
    let since_epoch = Duration::from_secs(u64::try_from(since_epoch_s(now)).unwrap_or_default());
    let algorithms = provider().signature_verification_algorithms;
    let verified = ParsedCertificate::try_from(leaf).and_then(|leaf| {
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &store,
            intermediates,
            UnixTime::since_unix_epoch(since_epoch),
            algorithms.all,
        )
    });
    verified.err().map(|error| said(&error))
}

/// What somebody that dials this host has against the names of a server's certificate (PEM). Reads
/// after "the certificate".
pub fn wrong_name(chain: &[u8], host: &str) -> Option<String> {
    let chain = match pem_certificates(chain) {
        Ok(chain) => chain,
        Err(reason) => return Some(format!("cannot be read: {reason}")),
    };
    let leaf = chain.first()?;
    let Ok(name) = ServerName::try_from(host) else {
        return Some(format!("cannot be for {host:?}, which is no host"));
    };
    let verified =
        ParsedCertificate::try_from(leaf).and_then(|leaf| verify_server_name(&leaf, &name));
    verified.err().map(|error| said(&error))
}

fn said(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => refusal(error),
        other => format!("is not good: {other}"),
    }
}

/// Takes every certificate, and keeps it to be looked at.
#[derive(Debug, Default)]
struct Shown(Mutex<Option<Vec<Vec<u8>>>>);

impl Shown {
    fn take(&self) -> Option<Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = [end_entity].into_iter().chain(intermediates);
        let chain = chain.take(CHAIN_LEN_MAX).map(|der| der.to_vec()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain);
        // Enough was seen.
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::tls::{Incoming, tests::certificates::Authority};

    #[test]
    fn a_certificate_is_judged_by_roots_dates_and_names_each_for_itself() {
        let (ours, other) = (Authority::new("ours"), Authority::new("other"));
        let now = SystemTime::now();
        let good = ours.issue("a").certificate;
        assert_eq!(objection(&good, &[ours.root()], now), None);
        let unknown = objection(&good, &[other.root()], now).unwrap();
        assert_eq!(unknown, "is not issued by a root that is trusted");
        let none: [&[u8]; 0] = [];
        assert_eq!(objection(&good, &none, now), Some(unknown));
        let old = ours.issue_until("a", 2020).certificate;
        let expired = objection(&old, &[ours.root()], now);
        assert_eq!(expired.as_deref(), Some("has expired"));
        assert_eq!(wrong_name(&old, "a"), None, "that is another question");
        assert_eq!(
            wrong_name(&good, "b").as_deref(),
            Some("is for other names than the one dialled: a")
        );
        assert!(wrong_name(&good, "no host").is_some());
        let nothing = objection(b"", &[ours.root()], now);
        assert_eq!(nothing.as_deref(), Some("is not there"));
    }

    #[tokio::test]
    async fn what_a_server_shows_is_seen_whoever_vouches_for_it() {
        use futures_util::StreamExt;
        let ca = Authority::new("ca");
        let tls = ca.tls("127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (mut incoming, _closer) = Incoming::new(listener, Some(tls));
        let serving = async { while incoming.next().await.is_some() {} };
        let chain = tokio::select! {
            () = serving => unreachable!("it is served for ever"),
            chain = presented(&endpoint, Duration::from_secs(60)) => chain.unwrap(),
        };
        let now = SystemTime::now();
        assert_eq!(objection_to_der(&chain, &[ca.root()], now), None);
        let other = Authority::new("other").root();
        assert!(objection_to_der(&chain, &[other], now).is_some());
    }

    #[tokio::test]
    async fn who_speaks_no_tls_shows_nothing_and_is_told_apart() {
        use tokio::io::AsyncWriteExt;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let speaking = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 no\r\n\r\n").await.unwrap();
            stream
        };
        let limit = Duration::from_secs(60);
        let (_stream, shown) = tokio::join!(speaking, presented(&endpoint, limit));
        assert_eq!(shown.unwrap_err().blamed(), Some(Blamed::NotTls));
        drop(listener);
        let gone = presented(&endpoint, limit).await.unwrap_err();
        assert!(matches!(gone, DialError::Tcp { .. }), "{gone}");
        assert_eq!(gone.blamed(), None);
    }
}
