//! Certificates and keys out of files, with errors that name the setting to change.
//!
//! What comes out of here fits together: key and certificate are a pair, nothing has expired.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{RootCertStore, crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tracing::warn;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Section;

/// Why the TLS settings cannot be used. Nothing has been started.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A client certificate without key or the other way round.
    #[error(
        "only one of peer.tls.clientCert.file and peer.tls.clientKey.file is set: \
         set both, or neither to use the server's pair"
    )]
    HalfPair,
    /// The file holds no PEM certificate.
    #[error("{setting} holds no certificate in PEM form")]
    NoCertificate {
        /// Where it was set.
        setting: Place,
    },
    /// The certificate cannot be read.
    #[error("{setting} holds a certificate that cannot be read: {reason}")]
    BadCertificate {
        /// Where it was set.
        setting: Place,
        /// What the parser said.
        reason: String,
    },
    /// The certificate is past its end.
    #[error("the certificate in {setting} expired on {end}: renew it")]
    Expired {
        /// Where it was set.
        setting: Place,
        /// When.
        end: String,
    },
    /// The certificate is not good yet, and would take the place of one that is.
    #[error("the certificate in {setting} is good from {begin} on only")]
    NotYet {
        /// Where it was set.
        setting: Place,
        /// From when on, in seconds since the Unix epoch.
        begin: i64,
    },
    /// The file holds no PEM private key.
    #[error("{setting} holds no unencrypted private key in PEM form")]
    NoKey {
        /// Where it was set.
        setting: Place,
    },
    /// The key is of a kind that TLS cannot use.
    #[error("{setting} holds a private key that cannot be used: {reason}")]
    BadKey {
        /// Where it was set.
        setting: Place,
        /// What the provider said.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the key in {key} does not belong to the certificate in {certificate}")]
    Mismatch {
        /// Where the private key was set.
        key: Place,
        /// Where the certificate was set.
        certificate: Place,
    },
    /// Not a CA certificate.
    #[error("{setting} holds a certificate that cannot be a root: {reason}")]
    BadRoot {
        /// Where it was set.
        setting: Place,
        /// What the parser said.
        reason: String,
    },
    /// Nobody to trust.
    #[error("peer.tls.rootcert.file names no root: without one no peer can be dialled")]
    NoRoots,
    /// The provider lacks something.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
    /// The roots cannot be used together.
    #[error("TLS cannot be set up: {0}")]
    Verifier(rustls::server::VerifierBuilderError),
}

/// A key in `core.yaml` and the file that it names, where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    setting: &'static str,
    file: Option<PathBuf>,
}

impl Place {
    /// Of the `index`-th file that a key names.
    pub(super) fn of(setting: &'static str, files: &TlsFiles, index: usize) -> Self {
        let file = files.get(setting).and_then(|files| files.get(index));
        Self {
            setting,
            file: file.cloned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{} ({})", self.setting, file.display()),
            None => f.write_str(self.setting),
        }
    }
}

/// Which files the settings were read from, by the key that names them.
pub type TlsFiles = BTreeMap<&'static str, Vec<PathBuf>>;

/// Which of the pairs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Server,
    Client,
    Listener(&'static Section),
}

impl Source {
    pub(super) fn certificate(self) -> &'static str {
        match self {
            Self::Server => "peer.tls.cert.file",
            Self::Client => "peer.tls.clientCert.file",
            Self::Listener(section) => section.certificate,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Server => "peer.tls.key.file",
            Self::Client => "peer.tls.clientKey.file",
            Self::Listener(section) => section.key,
        }
    }
}

/// A certificate with its chain and key.
#[derive(Clone)]
pub(super) struct KeyPair {
    pub(super) key: Arc<CertifiedKey>,
    /// Of the leaf.
    pub(super) sha256: [u8; 32],
    /// The leaf's validity, in seconds since the Unix epoch.
    pub(super) begins_at: i64,
    pub(super) ends_at: i64,
    /// Which one it is, for a person.
    pub(super) name: String,
}

impl KeyPair {
    /// `now` in seconds since the Unix epoch.
    pub(super) fn parse(
        provider: &CryptoProvider,
        source: Source,
        files: &TlsFiles,
        certificate: &[u8],
        key: &[u8],
        now: i64,
    ) -> Result<Self, TlsError> {
        let setting = Place::of(source.certificate(), files, 0);
        let bad = |reason: String| {
            let setting = setting.clone();
            TlsError::BadCertificate { setting, reason }
        };
        let chain = pem_certificates(certificate).map_err(bad)?;
        let Some(leaf) = chain.first() else {
            return Err(TlsError::NoCertificate { setting });
        };
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|error| bad(error.to_string()))?;
        let begins_at = parsed.validity().not_before.timestamp();
        let end = parsed.validity().not_after;
        if end.timestamp() < now {
            return Err(TlsError::Expired {
                setting,
                end: end.to_string(),
            });
        }
        let sha256 = tidings_msp::crypto::sha256(leaf);
        let serial = parsed.raw_serial();
        let serial: String = serial.iter().map(|byte| format!("{byte:02X}")).collect();
        let name = format!("serial {serial}, until {end}");
        let key_setting = Place::of(source.key(), files, 0);
        // The parser's reason may quote the file, which is a secret.
        let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
            return Err(TlsError::NoKey {
                setting: key_setting,
            });
        };
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| TlsError::BadKey {
                setting: key_setting.clone(),
                reason: error.to_string(),
            })?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) => Ok(Self {
                key: Arc::new(key),
                sha256,
                begins_at,
                ends_at: end.timestamp(),
                name,
            }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                key: key_setting,
                certificate: setting,
            }),
            Err(error) => Err(bad(error.to_string())),
        }
    }
}

/// Roots of the settings: each has to be usable.
pub(super) fn roots(
    key: &'static str,
    files: &TlsFiles,
    contents: &[Vec<u8>],
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, content) in contents.iter().enumerate() {
        let setting = Place::of(key, files, index);
        let certificates = match pem_certificates(content) {
            Ok(certificates) => certificates,
            Err(reason) => return Err(TlsError::BadCertificate { setting, reason }),
        };
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate { setting });
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| TlsError::BadRoot {
                setting: setting.clone(),
                reason: error.to_string(),
            })?;
        }
    }
    Ok(roots)
}

/// Adds what can be a root, and says what cannot.
pub(super) fn add_sound<C: AsRef<[u8]>>(roots: &mut RootCertStore, certificates: &[C]) {
    for certificate in certificates {
        let bytes = certificate.as_ref();
        let parsed = match pem_certificates(bytes) {
            Ok(parsed) if !parsed.is_empty() => parsed,
            _ => vec![CertificateDer::from(bytes.to_vec())],
        };
        for certificate in parsed {
            if let Err(error) = roots.add(certificate) {
                warn!(target: "comm.tls", %error, "skipped a TLS root of the channel configuration");
            }
        }
    }
}

/// Zero before 1970, when no certificate is good.
pub(super) fn since_epoch_s(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The certificates, or what the parser said.
pub(super) fn pem_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}
