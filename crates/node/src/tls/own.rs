//! What the settings name, checked: our certificates, and whom we trust whatever the channels say.

use std::time::{Duration, SystemTime};

use rustls::{
    CertificateError, Error, RootCertStore, client::verify_server_cert_signed_by_trust_anchor,
    crypto::CryptoProvider, server::ParsedCertificate,
};
use rustls_pki_types::UnixTime;
use tidings_msp::crypto::{sha256, sha256_parts};

use super::{
    TlsError, TlsSettings,
    fault::refusal,
    material::{self, KeyPair, Place, Source, since_epoch_s},
};

/// Everything here was good together at the time of the check.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) server: KeyPair,
    pub(super) client: KeyPair,
    /// Roots that servers we dial may chain to.
    pub(super) roots: RootCertStore,
    /// Roots that clients must chain to; none when any certificate will do.
    pub(super) client_roots: Option<RootCertStore>,
    /// Why peers that trust the same roots will not take our server's certificate, if so. It may
    /// be good elsewhere: a Go peer does not look, and other organizations have other roots.
    pub(super) doubt: Option<String>,
    /// Of all that it was made of.
    pub(super) digest: [u8; 32],
}

impl Own {
    pub(super) fn check(
        provider: &CryptoProvider,
        settings: &TlsSettings,
        client_auth_required: bool,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        let (files, now) = (&settings.files, since_epoch_s(now));
        let pair = |source, certificate: &[u8], key: &[u8]| {
            KeyPair::parse(provider, source, files, certificate, key, now)
        };
        let server = pair(Source::Server, &settings.certificate, &settings.key)?;
        let client = match (&settings.client_certificate, &settings.client_key) {
            (None, None) => server.clone(),
            (Some(certificate), Some(key)) => pair(Source::Client, certificate, key)?,
            _ => return Err(TlsError::HalfPair),
        };
        let roots = material::roots("peer.tls.rootcert.file", files, &settings.roots)?;
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let doubt = doubt(provider, &server, &roots, now).map(|doubt| {
            format!(
                "the certificate in {} {doubt}",
                Place::of(Source::Server.certificate(), files, 0)
            )
        });
        let client_roots = client_auth_required
            .then(|| {
                let roots = &settings.client_roots;
                material::roots("peer.tls.clientRootCAs.files", files, roots)
            })
            .transpose()?;
        Ok(Self {
            server,
            client,
            roots,
            client_roots,
            doubt,
            digest: digest(settings),
        })
    }

    /// At a start there is nothing better to use; in the place of what others accept nothing may
    /// come that they would not.
    pub(super) fn check_begun(
        &self,
        settings: &TlsSettings,
        now: SystemTime,
    ) -> Result<(), TlsError> {
        for (pair, source) in [
            (&self.server, Source::Server),
            (&self.client, Source::Client),
        ] {
            let begin = pair.begins_at;
            if begin > since_epoch_s(now) {
                let setting = Place::of(source.certificate(), &settings.files, 0);
                return Err(TlsError::NotYet { setting, begin });
            }
        }
        Ok(())
    }
}

/// What is wrong with a server's certificate in the eyes of who has these roots.
fn doubt(
    provider: &CryptoProvider,
    server: &KeyPair,
    roots: &RootCertStore,
    now: i64,
) -> Option<String> {
    let (leaf, intermediates) = server.key.cert.split_first()?;
    let since_epoch = Duration::from_secs(u64::try_from(now).unwrap_or_default());
    let verified = ParsedCertificate::try_from(leaf).and_then(|leaf| {
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            roots,
            intermediates,
            UnixTime::since_unix_epoch(since_epoch),
            provider.signature_verification_algorithms.all,
        )
    });
    let why = match verified {
        Ok(()) => return None,
        Err(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "is not issued by a root in peer.tls.rootcert.file".to_owned(),
        Err(Error::InvalidCertificate(error)) => refusal(&error),
        Err(other) => format!("is not good: {other}"),
    };
    Some(format!("{why}: other peers will refuse it"))
}

/// Different for settings whose files hold anything else.
fn digest(settings: &TlsSettings) -> [u8; 32] {
    let TlsSettings {
        certificate,
        key,
        client_certificate,
        client_key,
        client_auth_required: _,
        client_roots,
        roots,
        files: _,
    } = settings;
    let all = [
        Some(certificate),
        Some(key),
        client_certificate.as_ref(),
        client_key.as_ref(),
    ];
    let all = all.map(|part| sha256(part.map_or(&[], Vec::as_slice)));
    let hash_each =
        |files: &[Vec<u8>]| -> Vec<u8> { files.iter().flat_map(|file| sha256(file)).collect() };
    let (roots, client_roots) = (sha256(&hash_each(roots)), hash_each(client_roots));
    sha256_parts(&[&all[0], &all[1], &all[2], &all[3], &roots, &client_roots])
}
