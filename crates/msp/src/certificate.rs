//! X.509 certificates as an MSP looks at them.
//!
//! A [`Certificate`] owns its DER and everything that the rules ask about, parsed once. It is
//! never re-encoded, but for the one change that Fabric makes: the signature of an ECDSA-signed
//! certificate is replaced by its low twin before certificates are compared or hashed. Whether a
//! certificate is trusted is not decided here.

mod extensions;
mod well_formed;

use std::ops::Range;

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519, OID_X509_COMMON_NAME, OID_X509_ORGANIZATIONAL_UNIT,
    Oid, asn1_rs::oid,
};
use x509_parser::prelude::{FromDer, X509Name};
use x509_parser::x509::{AlgorithmIdentifier, AttributeTypeAndValue};

pub(crate) use self::extensions::Names;
pub use self::extensions::{BasicConstraints, Extensions, KeyPurposes};
pub use self::well_formed::{NotWellFormed, check_well_formed};
use crate::crypto::{EcdsaParts, KeyRefused, PublicKey, SignatureRefused, sha256};
use crate::{der, pem};

const PEM_LABEL: &str = "CERTIFICATE";
const OID_ECDSA_WITH_SHA1: Oid<'static> = oid!(1.2.840.10045.4.1);

/// Why bytes are not a certificate that we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefused {
    /// No PEM block found.
    #[error("no PEM block found where a certificate should be")]
    NotPem,
    /// The DER does not follow the rules of X.509.
    #[error("not an X.509 certificate: {0}")]
    Malformed(&'static str),
    /// The public key inside is not usable.
    #[error("public key of the certificate: {0}")]
    Key(#[from] KeyRefused),
}

/// How a certificate or CRL is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// ECDSA with SHA-1: recognised, trusted nowhere but in old CRLs.
    EcdsaSha1,
    /// ECDSA with SHA-256.
    EcdsaSha256,
    /// ECDSA with SHA-384.
    EcdsaSha384,
    /// ECDSA with SHA-512.
    EcdsaSha512,
    /// RSA with SHA-1: recognised, trusted nowhere but in old CRLs.
    RsaSha1,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RsaSha256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    RsaSha384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    RsaSha512,
    /// Ed25519.
    Ed25519,
    /// Anything else.
    Other,
}

impl SignatureAlgorithm {
    pub(crate) fn of(identifier: &AlgorithmIdentifier<'_>) -> Self {
        let known = [
            (OID_ECDSA_WITH_SHA1, Self::EcdsaSha1),
            (OID_SIG_ECDSA_WITH_SHA256, Self::EcdsaSha256),
            (OID_SIG_ECDSA_WITH_SHA384, Self::EcdsaSha384),
            (OID_SIG_ECDSA_WITH_SHA512, Self::EcdsaSha512),
            (OID_PKCS1_SHA1WITHRSA, Self::RsaSha1),
            (OID_PKCS1_SHA256WITHRSA, Self::RsaSha256),
            (OID_PKCS1_SHA384WITHRSA, Self::RsaSha384),
            (OID_PKCS1_SHA512WITHRSA, Self::RsaSha512),
            (OID_SIG_ED25519, Self::Ed25519),
        ];
        let found = known
            .into_iter()
            .find(|(oid, _)| *oid == identifier.algorithm);
        found.map_or(Self::Other, |(_, algorithm)| algorithm)
    }

    /// Whether it is ECDSA with any hash.
    pub fn is_ecdsa(self) -> bool {
        use SignatureAlgorithm::{EcdsaSha1, EcdsaSha256, EcdsaSha384, EcdsaSha512};
        matches!(self, EcdsaSha1 | EcdsaSha256 | EcdsaSha384 | EcdsaSha512)
    }

    /// Whether forging it is within reach.
    pub fn is_weak(self) -> bool {
        matches!(self, Self::EcdsaSha1 | Self::RsaSha1 | Self::Other)
    }
}

/// A parsed certificate that owns its bytes.
#[derive(Debug, Clone)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    signature: Range<usize>,
    algorithm: SignatureAlgorithm,
    is_v3: bool,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    issuer_text: String,
    subject_text: String,
    common_name: String,
    organizational_units: Vec<String>,
    serial: Vec<u8>,
    not_before: i64,
    not_after: i64,
    public_key: PublicKey,
    extensions: Extensions,
}

/// A DER certificate as Go writes it in PEM, whatever it says.
pub fn to_pem(der: &[u8]) -> String {
    pem::encode(PEM_LABEL, der)
}

impl Certificate {
    /// Parses the first PEM block of `text`, whatever its label, and ignores the rest.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateRefused> {
        let (block, _) = pem::first_block(text).ok_or(CertificateRefused::NotPem)?;
        Self::from_der(&block.content)
    }

    /// Parses DER with nothing after it.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateRefused> {
        use CertificateRefused::Malformed;
        let layout = Layout::of(der).ok_or(Malformed("not DER of the right shape"))?;
        let Ok(([], parsed)) = X509Certificate::from_der(der) else {
            return Err(Malformed("a field is missing or misencoded"));
        };
        let body = &parsed.tbs_certificate;
        if !layout.same_algorithms {
            return Err(Malformed("inner and outer signature algorithms differ"));
        }
        if body.raw_serial().first().is_none_or(|first| *first >= 0x80) {
            return Err(Malformed("the serial number is negative"));
        }
        let is_v3 = body.version.0 == 2;
        if body.version.0 > 2 || (!is_v3 && !body.extensions().is_empty()) {
            return Err(Malformed("version and extensions do not fit"));
        }
        let identifiers = [&body.issuer, &body.subject]
            .into_iter()
            .flat_map(|name| name.iter_attributes().map(AttributeTypeAndValue::attr_type))
            .chain(body.extensions().iter().map(|extension| &extension.oid))
            .chain([&parsed.signature_algorithm.algorithm]);
        for identifier in identifiers {
            if !der::is_object_identifier(identifier.as_bytes()) {
                return Err(Malformed("an object identifier is misencoded or too large"));
            }
        }
        check_strings(&body.issuer)?;
        check_strings(&body.subject)?;
        let units = attributes(&body.subject, &OID_X509_ORGANIZATIONAL_UNIT);
        let common_names = attributes(&body.subject, &OID_X509_COMMON_NAME);
        Ok(Self {
            algorithm: SignatureAlgorithm::of(&parsed.signature_algorithm),
            is_v3,
            issuer: body.issuer.as_raw().to_vec(),
            subject: body.subject.as_raw().to_vec(),
            issuer_text: body.issuer.to_string(),
            subject_text: body.subject.to_string(),
            common_name: common_names.last().cloned().unwrap_or_default(),
            organizational_units: units,
            serial: der::without_leading_zeros(body.raw_serial()).to_vec(),
            not_before: body.validity.not_before.timestamp(),
            not_after: body.validity.not_after.timestamp(),
            public_key: PublicKey::from_spki_der(body.subject_pki.raw)?,
            extensions: Extensions::of(body)?,
            der: der.to_vec(),
            tbs: layout.tbs,
            signature: layout.signature,
        })
    }

    /// The certificate with the low twin of its signature. `issuer_key` tells the curve.
    ///
    /// Unchanged when it is not signed with ECDSA or already low.
    pub fn with_low_s(&self, issuer_key: &PublicKey) -> Result<Self, SignatureRefused> {
        if !self.algorithm.is_ecdsa() {
            return Ok(self.clone());
        }
        let curve = issuer_key.curve().ok_or(SignatureRefused::Algorithm)?;
        let parts = EcdsaParts::from_certificate(self.signature())?;
        if parts.is_low(curve) {
            return Ok(self.clone());
        }
        let low = parts.to_low_der(curve).ok_or(SignatureRefused::Malformed)?;
        Ok(self.with_signature(&low))
    }

    fn with_signature(&self, signature: &[u8]) -> Self {
        let algorithm_end = Layout::of(&self.der).map_or(self.tbs.end, |layout| layout.signed_end);
        let mut content = self.der[self.tbs.start..algorithm_end].to_vec();
        let bits = [&[0], signature].concat();
        der::write(der::BIT_STRING, &bits, &mut content);
        let mut der_bytes = Vec::with_capacity(content.len() + 5);
        der::write(der::SEQUENCE, &content, &mut der_bytes);
        Self::from_der(&der_bytes).expect("only the signature of a good certificate changed")
    }

    /// Checks that `issuer` may sign certificates and signed this one.
    pub(crate) fn check_signature_from(&self, issuer: &Self) -> Result<(), IssuerRefused> {
        match issuer.extensions.basic_constraints {
            Some(BasicConstraints { ca: false, .. }) => return Err(IssuerRefused::NotACa),
            None if issuer.is_v3 => return Err(IssuerRefused::NotACa),
            _ => {}
        }
        if !issuer.extensions.may_sign_certificates() {
            return Err(IssuerRefused::NoCertSign);
        }
        if self.algorithm.is_weak() {
            return Err(IssuerRefused::Weak);
        }
        issuer
            .public_key
            .verify_certificate(self.algorithm, self.tbs(), self.signature())
            .or(Err(IssuerRefused::Signature))
    }

    /// The whole certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as Go writes it in PEM: 64 columns, a line feed after every line.
    pub fn to_pem(&self) -> String {
        to_pem(&self.der)
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// The signed part.
    pub fn tbs(&self) -> &[u8] {
        &self.der[self.tbs.clone()]
    }

    /// The signature's bytes.
    pub fn signature(&self) -> &[u8] {
        &self.der[self.signature.clone()]
    }

    /// How it is signed.
    pub fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The issuer's name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The subject's name in DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// The issuer's name for a person.
    pub fn issuer(&self) -> &str {
        &self.issuer_text
    }

    /// The subject's name for a person.
    pub fn subject(&self) -> &str {
        &self.subject_text
    }

    /// The last common name of the subject, empty when there is none.
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// The organizational units of the subject, in order, duplicates kept.
    pub fn organizational_units(&self) -> &[String] {
        &self.organizational_units
    }

    /// The serial number, big-endian without leading zeros.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// Start of validity in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// End of validity in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The subject's key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// What the extensions say.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Whether the basic constraints say that this is a CA.
    pub fn is_ca(&self) -> bool {
        self.extensions
            .basic_constraints
            .is_some_and(|constraints| constraints.ca)
    }
}

/// Two certificates are equal when their bytes are.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

/// Why one certificate is not the issuer of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IssuerRefused {
    NotACa,
    NoCertSign,
    Weak,
    Signature,
}

/// Where the three parts of a certificate lie, checked to the byte.
struct Layout {
    tbs: Range<usize>,
    /// End of the algorithm that follows the body.
    signed_end: usize,
    signature: Range<usize>,
    /// Whether the algorithm inside the body is that after it, to the byte.
    same_algorithms: bool,
}

impl Layout {
    fn of(der: &[u8]) -> Option<Self> {
        let outer = der::read(der::SEQUENCE, der)?;
        let tbs = der::read(der::SEQUENCE, outer.content)?;
        let algorithm = der::read(der::SEQUENCE, tbs.rest)?;
        let bits = der::read(der::BIT_STRING, algorithm.rest)?;
        let [0, signature @ ..] = bits.content else {
            return None;
        };
        if !outer.rest.is_empty() || !bits.rest.is_empty() {
            return None;
        }
        // The body starts with an explicit version, where there is one, and the serial number.
        let after_version = match der::read(der::EXPLICIT_0, tbs.content) {
            Some(version) => version.rest,
            None => tbs.content,
        };
        let serial = der::read(der::INTEGER, after_version)?;
        let inner_algorithm = der::read(der::SEQUENCE, serial.rest)?;
        let same_algorithms = inner_algorithm.whole == algorithm.whole;
        let tbs_start = der.len() - outer.content.len();
        let tbs = tbs_start..tbs_start + tbs.whole.len();
        let signed_end = tbs.end + algorithm.whole.len();
        let signature = der.len() - signature.len()..der.len();
        Some(Self {
            tbs,
            signed_end,
            signature,
            same_algorithms,
        })
    }
}

fn attributes(name: &X509Name<'_>, kind: &Oid<'_>) -> Vec<String> {
    name.iter_attributes()
        .filter(|one| one.attr_type() == kind)
        .filter_map(text_of)
        .collect()
}

/// Go refuses a certificate with a name that holds anything but these kinds of text.
fn check_strings(name: &X509Name<'_>) -> Result<(), CertificateRefused> {
    if name
        .iter_attributes()
        .all(|attribute| text_of(attribute).is_some())
    {
        Ok(())
    } else {
        Err(CertificateRefused::Malformed(
            "a name holds something that is not text",
        ))
    }
}

fn text_of(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    const UTF8: u32 = 12;
    const NUMERIC: u32 = 18;
    const PRINTABLE: u32 = 19;
    const T61: u32 = 20;
    const IA5: u32 = 22;
    const BMP: u32 = 30;
    let bytes = attribute.attr_value().data;
    match attribute.attr_value().tag().0 {
        UTF8 => String::from_utf8(bytes.to_vec()).ok(),
        NUMERIC => ascii(bytes, |byte| byte.is_ascii_digit() || byte == b' '),
        PRINTABLE => ascii(bytes, is_printable),
        IA5 => ascii(bytes, |_| true),
        // Every byte is one character of Latin-1.
        T61 => Some(bytes.iter().copied().map(char::from).collect()),
        BMP => {
            let bytes = bytes.strip_suffix(&[0, 0]).unwrap_or(bytes);
            let (pairs, odd) = bytes.as_chunks::<2>();
            let units = pairs
                .iter()
                .copied()
                .map(u16::from_be_bytes)
                .collect::<Vec<_>>();
            odd.is_empty()
                .then(|| String::from_utf16(&units).ok())
                .flatten()
        }
        _ => None,
    }
}

fn ascii(bytes: &[u8], allowed: fn(u8) -> bool) -> Option<String> {
    let good = bytes.iter().all(|byte| byte.is_ascii() && allowed(*byte));
    good.then(|| bytes.iter().copied().map(char::from).collect())
}

/// What Go lets pass as PrintableString: the standard's characters, and two that CAs really use.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(&byte)
}

#[cfg(test)]
mod tests;
