//! Which clients may connect.
//!
//! Always asks for a certificate. For gossip: unless the settings require more, any certificate will do and
//! none at all too: who the peer is comes out in the gossip handshake, which is bound to this
//! certificate by its hash. What is never left out is that the peer holds the certificate's key;
//! without that the hash would say nothing.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::TlsError;

#[derive(Debug)]
pub(super) struct ClientVerifier {
    admit: Admit,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Admit {
    /// Any certificate, or none.
    Anybody,
    /// A certificate that chains to the roots.
    Chained(Arc<dyn ClientCertVerifier>),
    /// A certificate that is shown must chain to roots, but there are none.
    Nobody,
}

impl ClientVerifier {
    /// Clients must chain to `roots`, if there are any to chain to.
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        roots: Option<RootCertStore>,
    ) -> Result<Self, TlsError> {
        match roots {
            None => Ok(Self::admitting(provider, Admit::Anybody, false)),
            Some(roots) => Self::by_roots(provider, roots, true),
        }
    }

    /// A certificate that is shown must chain to `roots`; whether one must be shown is said.
    pub(super) fn by_roots(
        provider: &Arc<CryptoProvider>,
        roots: RootCertStore,
        mandatory: bool,
    ) -> Result<Self, TlsError> {
        let admit = if roots.is_empty() {
            Admit::Nobody
        } else {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
            Admit::Chained(verifier.build().map_err(TlsError::Verifier)?)
        };
        Ok(Self::admitting(provider, admit, mandatory))
    }

    fn admitting(provider: &CryptoProvider, admit: Admit, mandatory: bool) -> Self {
        Self {
            admit,
            mandatory,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// Empty unless we restrict: a Go client that finds a list without its issuer sends no
    /// certificate at all (C-G2).
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.admit {
            Admit::Chained(verifier) => verifier.root_hint_subjects(),
            Admit::Anybody | Admit::Nobody => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.admit {
            Admit::Anybody => Ok(ClientCertVerified::assertion()),
            Admit::Chained(verifier) => verifier.verify_client_cert(end_entity, intermediates, now),
            Admit::Nobody => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
