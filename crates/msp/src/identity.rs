//! Identities: who a certificate says that somebody is, remote or our own.
//!
//! An [`Identity`] is a certificate that an MSP has taken for one of its own; it can check
//! signatures. Taking is not approving: validation is the MSP's. A [`SigningIdentity`] is our
//! own, with the key. The PKI-ID here is only a hash: having one says nothing about trust.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;
use tidings_proto::msp::SerializedIdentity;

use crate::certificate::{Certificate, NotWellFormed, check_well_formed};
use crate::crypto::{
    HashFamily, IdentityHash, PrivateKey, SignatureRefused, SigningFailed, sha256_parts,
};
use crate::msp::IdentityRefused;

/// The PKI-ID of a serialized identity: SHA-256 of the MSP id followed by the certificate bytes
/// as they are. `None` for what is not a serialized identity.
pub fn pki_id(serialized_identity: &[u8]) -> Option<[u8; 32]> {
    if serialized_identity.is_empty() {
        return None;
    }
    let parsed = SerializedIdentity::decode(serialized_identity).ok()?;
    Some(sha256_parts(&[parsed.mspid.as_bytes(), &parsed.id_bytes]))
}

/// The name under which signatures of one identity count once: MSP and hash of the certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityId {
    /// The MSP.
    pub msp_id: Arc<str>,
    /// Lower-case hex of the hash of the certificate's sanitized DER.
    pub certificate: String,
}

/// A certificate that an MSP recognises as its own, and the form in which it came.
#[derive(Debug, Clone)]
pub struct Identity {
    id: IdentityId,
    certificate: Certificate,
    serialized: Bytes,
    family: Option<HashFamily>,
    /// What was found of the form of its bytes, which never changes.
    form: OnceLock<Result<(), NotWellFormed>>,
}

impl Identity {
    /// `certificate` must be the sanitized one; `serialized` is kept as received.
    pub(crate) fn new(
        msp_id: Arc<str>,
        certificate: Certificate,
        serialized: Bytes,
        family: Option<HashFamily>,
        hash: IdentityHash,
    ) -> Self {
        let certificate_hash = hex::encode(hash.digest([certificate.der()]));
        let id = IdentityId {
            msp_id,
            certificate: certificate_hash,
        };
        Self {
            id,
            certificate,
            serialized,
            family,
            form: OnceLock::new(),
        }
    }

    /// The MSP that the identity belongs to.
    pub fn msp_id(&self) -> &Arc<str> {
        &self.id.msp_id
    }

    /// The name under which the identity counts.
    pub fn id(&self) -> &IdentityId {
        &self.id
    }

    /// The sanitized certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The bytes as received.
    pub fn serialized(&self) -> &Bytes {
        &self.serialized
    }

    /// When the certificate ends, in seconds since 1970. Nothing here compares it with a clock.
    pub fn expires_at(&self) -> i64 {
        self.certificate.not_after()
    }

    /// The verdict of [`check_well_formed`] on the certificate as it was received. Parsed the first
    /// time only: it is asked for with every message.
    pub fn check_well_formed(&self) -> Result<(), NotWellFormed> {
        let look = || {
            let serialized = SerializedIdentity::decode(self.serialized.clone());
            let id_bytes = serialized.or(Err(NotWellFormed::NotPem))?.id_bytes;
            check_well_formed(&id_bytes)
        };
        self.form.get_or_init(look).clone()
    }

    /// Whether this identity signed the message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureRefused> {
        let family = self.family.ok_or(SignatureRefused::HashFamily)?;
        self.certificate
            .public_key()
            .verify(family, message, signature)
    }
}

/// Why a certificate and a key do not make a signing identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningIdentityRefused {
    /// The MSP does not take the certificate.
    #[error("own certificate: {0}")]
    Refused(IdentityRefused),
    /// The certificate has ended.
    #[error("own certificate of {subject} expired at {ended}; enroll again or reissue it")]
    Expired {
        /// Subject of the certificate.
        subject: String,
        /// When it ended.
        ended: String,
    },
    /// The MSP names a hash family that does not exist.
    #[error("the MSP's signature hash family is unknown, use SHA2 or SHA3")]
    HashFamily,
    /// Key and certificate are not of one pair.
    #[error("the private key does not belong to the certificate of {subject}")]
    WrongKey {
        /// Subject of the certificate.
        subject: String,
    },
}

/// Our own identity with its key.
#[derive(Debug)]
pub struct SigningIdentity {
    msp_id: Arc<str>,
    certificate: Certificate,
    serialized: Bytes,
    pki_id: [u8; 32],
    key: PrivateKey,
    family: HashFamily,
}

impl SigningIdentity {
    /// Joins a certificate and its key. The certificate is sent as it is: pass the sanitized
    /// one, as `Msp::signing_identity` does.
    pub fn new(
        msp_id: &str,
        certificate: Certificate,
        key: PrivateKey,
        family: HashFamily,
    ) -> Result<Self, SigningIdentityRefused> {
        if key.public_key() != certificate.public_key() {
            let subject = certificate.subject().to_owned();
            return Err(SigningIdentityRefused::WrongKey { subject });
        }
        let id_bytes = Bytes::from(certificate.to_pem());
        let pki_id = sha256_parts(&[msp_id.as_bytes(), &id_bytes]);
        let message = SerializedIdentity {
            mspid: msp_id.to_owned(),
            id_bytes,
        };
        let serialized = Bytes::from(message.encode_to_vec());
        Ok(Self {
            msp_id: msp_id.into(),
            certificate,
            serialized,
            pki_id,
            key,
            family,
        })
    }

    /// The serialized identity that we show to others.
    pub fn serialized(&self) -> &Bytes {
        &self.serialized
    }

    /// Our PKI-ID.
    pub fn pki_id(&self) -> &[u8; 32] {
        &self.pki_id
    }

    /// Our MSP.
    pub fn msp_id(&self) -> &Arc<str> {
        &self.msp_id
    }

    /// Our certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// When our certificate ends, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.certificate.not_after()
    }

    /// Signs as our MSP demands.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        self.key.sign_with(self.family, message)
    }
}

#[cfg(test)]
mod tests;
