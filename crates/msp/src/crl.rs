//! Revocation lists as an MSP uses them.
//!
//! A list counts for the certificates of the CA whose key identifier it names and whose key
//! signed it. Dates in it do not count: what it lists is revoked from the moment the list is in
//! the MSP's configuration, for as long as it stays there.

use std::collections::BTreeSet;

use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::certificate::{Certificate, SignatureAlgorithm};
use crate::crypto::EcdsaParts;
use crate::{der, pem};

/// Why bytes are not a revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate revocation list in PEM or DER")]
pub struct CrlRefused;

/// A parsed revocation list.
#[derive(Debug)]
pub struct Crl {
    authority_key_id: Option<Vec<u8>>,
    revoked: BTreeSet<Vec<u8>>,
    algorithm: SignatureAlgorithm,
    body: Vec<u8>,
    signature: Vec<u8>,
}

impl Crl {
    /// Parses PEM of type `X509 CRL`, or DER with nothing after it.
    pub fn parse(content: &[u8]) -> Result<Self, CrlRefused> {
        if content.starts_with(b"-----BEGIN X509 CRL")
            && let Some((block, _)) = pem::first_block(content)
            && block.label == b"X509 CRL"
        {
            return Self::from_der(&block.content);
        }
        Self::from_der(content)
    }

    fn from_der(bytes: &[u8]) -> Result<Self, CrlRefused> {
        let (body, signature) = layout(bytes).ok_or(CrlRefused)?;
        let Ok(([], parsed)) = CertificateRevocationList::from_der(bytes) else {
            return Err(CrlRefused);
        };
        let mut authority_key_id = None;
        let mut extensions = parsed.extensions().iter();
        // Should there be several, the first counts.
        if let Some(extension) =
            extensions.find(|one| one.oid == OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER)
        {
            let ParsedExtension::AuthorityKeyIdentifier(found) = extension.parsed_extension()
            else {
                return Err(CrlRefused);
            };
            // Present without an identifier in it: belongs to nobody, but is no error.
            let id = found.key_identifier.as_ref().map(|id| id.0.to_vec());
            authority_key_id = Some(id.unwrap_or_default());
        }
        let algorithm = SignatureAlgorithm::of(&parsed.signature_algorithm);
        // Fabric writes ECDSA signatures anew, so that bytes behind the numbers do not count.
        let signature = if algorithm.is_ecdsa() {
            EcdsaParts::from_message(signature)
                .or(Err(CrlRefused))?
                .to_der()
        } else {
            signature.to_vec()
        };
        let serials = parsed.iter_revoked_certificates();
        let revoked = serials
            // No certificate has a negative number, though one may have the same bytes.
            .filter(|one| one.raw_serial().first().is_some_and(|first| *first < 0x80))
            .map(|one| der::without_leading_zeros(one.raw_serial()).to_vec())
            .collect();
        Ok(Self {
            authority_key_id,
            revoked,
            algorithm,
            body: body.to_vec(),
            signature,
        })
    }

    /// The key identifier of the CA whose certificates the list is about.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// Whether the certificate's serial number is listed. Says nothing about the issuer.
    pub fn lists(&self, certificate: &Certificate) -> bool {
        self.revoked.contains(certificate.serial())
    }

    /// Whether the CA's key signed the list. Old algorithms count: refusing one would give
    /// revoked certificates their trust back.
    pub fn is_signed_by(&self, ca: &Certificate) -> bool {
        ca.public_key()
            .verify_certificate(self.algorithm, &self.body, &self.signature)
            .is_ok()
    }
}

/// The signed body and the signature.
fn layout(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let outer = der::read(der::SEQUENCE, bytes)?;
    let body = der::read(der::SEQUENCE, outer.content)?;
    let algorithm = der::read(der::SEQUENCE, body.rest)?;
    let bits = der::read(der::BIT_STRING, algorithm.rest)?;
    let [0, signature @ ..] = bits.content else {
        return None;
    };
    (outer.rest.is_empty() && bits.rest.is_empty()).then_some((body.whole, signature))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Crl::parse(&content);
            let pem = pem::encode("X509 CRL", &content);
            let _ = Crl::parse(pem.as_bytes());
        }
    }
}
