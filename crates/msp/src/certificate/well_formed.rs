//! The form that a remote identity's bytes must have, apart from whether it is trusted.

use crate::certificate::{Certificate, CertificateRefused};
use crate::crypto::EcdsaParts;
use crate::pem;

/// Why the bytes of an identity are not in the one form that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWellFormed {
    /// No PEM block.
    #[error("the identity is not PEM")]
    NotPem,
    /// Something stands after the block.
    #[error("{0} bytes follow the certificate of the identity")]
    Trailing(usize),
    /// A block of another type.
    #[error("the identity is a PEM block of another type than CERTIFICATE")]
    Label,
    /// The block is not a certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateRefused),
    /// The certificate's signature has another encoding than the canonical one.
    #[error("the signature of the certificate is not canonical DER")]
    Signature,
}

/// Checks the form of an identity's bytes: one PEM block of the right type, nothing after it, a
/// certificate inside whose ECDSA signature encodes to the same bytes again. High S is allowed.
pub fn check_well_formed(id_bytes: &[u8]) -> Result<(), NotWellFormed> {
    let (block, rest) = pem::first_block(id_bytes).ok_or(NotWellFormed::NotPem)?;
    if !rest.is_empty() {
        return Err(NotWellFormed::Trailing(rest.len()));
    }
    if !matches!(block.label, b"CERTIFICATE" | b"") {
        return Err(NotWellFormed::Label);
    }
    let certificate = Certificate::from_der(&block.content)?;
    if !certificate.signature_algorithm().is_ecdsa() {
        return Ok(());
    }
    match EcdsaParts::from_certificate(certificate.signature()) {
        Ok(parts) if parts.to_der() == certificate.signature() => Ok(()),
        _ => Err(NotWellFormed::Signature),
    }
}
