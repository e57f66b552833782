//! Public and private keys, parsed once and then used many times.

use std::fmt;

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    self as aws, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, UnparsedPublicKey,
};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use crate::certificate::SignatureAlgorithm;
use crate::crypto::{Curve, EcdsaParts, HashFamily, SignatureRefused, sha256};
use crate::{der, pem};

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// The bytes are not a key.
    #[error("not a public key in DER")]
    Malformed,
    /// A key on a curve, or of a kind, that we cannot verify with.
    #[error("keys of kind {0} are not supported; use ECDSA P-256, P-384, P-521 or Ed25519")]
    Unsupported(String),
    /// The bytes are of the right kind, but the number in them is no key.
    #[error("the key is not a valid point or number for its algorithm")]
    Invalid,
    /// No PEM block found.
    #[error("the file has no PEM block with a private key")]
    NotPem,
    /// A PEM block that holds no private key that we can read.
    #[error(
        "not a private key in PKCS#8 or SEC1 form; an encrypted key must be decrypted before use"
    )]
    NotPrivate,
    /// RSA keys sign certificates only.
    #[error("RSA keys cannot sign in an MSP; use an ECDSA or Ed25519 key")]
    Rsa,
    /// The random generator or the allocator failed.
    #[error("the cryptographic library could not make a key")]
    Generation,
}

/// Why no signature came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library could not sign")]
pub struct SigningFailed;

/// A parsed public key.
#[derive(Clone)]
pub struct PublicKey {
    kind: PublicKind,
    spki: Vec<u8>,
}

#[derive(Clone)]
enum PublicKind {
    Ecdsa(Curve, ParsedPublicKey),
    Ed25519(ParsedPublicKey),
    /// Kept raw: only CAs have these, and each algorithm parses them its own way.
    Rsa(Vec<u8>),
}

impl PublicKey {
    /// Parses a DER SubjectPublicKeyInfo.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyRefused> {
        let Ok(([], info)) = SubjectPublicKeyInfo::from_der(spki) else {
            return Err(KeyRefused::Malformed);
        };
        let algorithm = &info.algorithm.algorithm;
        if !der::is_object_identifier(algorithm.as_bytes()) {
            return Err(KeyRefused::Malformed);
        }
        let bits = info.subject_public_key.data.as_ref();
        let kind = if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let parameters = info
                .algorithm
                .parameters
                .as_ref()
                .ok_or(KeyRefused::Malformed)?;
            let curve_id = parameters.as_oid().or(Err(KeyRefused::Malformed))?;
            if !der::is_object_identifier(curve_id.as_bytes()) {
                return Err(KeyRefused::Malformed);
            }
            let curve = if curve_id == OID_EC_P256 {
                Curve::P256
            } else if curve_id == OID_NIST_EC_P384 {
                Curve::P384
            } else if curve_id == OID_NIST_EC_P521 {
                Curve::P521
            } else {
                return Err(KeyRefused::Unsupported(format!("EC curve {curve_id}")));
            };
            // Go takes uncompressed points only.
            if bits.first() != Some(&4) {
                return Err(KeyRefused::Invalid);
            }
            PublicKind::Ecdsa(curve, curve.parse(bits)?)
        } else if *algorithm == OID_SIG_ED25519 {
            let key = ParsedPublicKey::new(&aws::ED25519, bits).or(Err(KeyRefused::Invalid))?;
            PublicKind::Ed25519(key)
        } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
            PublicKind::Rsa(bits.to_vec())
        } else {
            return Err(KeyRefused::Unsupported(algorithm.to_id_string()));
        };
        Ok(Self {
            kind,
            spki: spki.to_vec(),
        })
    }

    /// Whether `signature` over `message` counts as a message signature of this key.
    pub fn verify(
        &self,
        family: HashFamily,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureRefused> {
        match &self.kind {
            PublicKind::Ecdsa(curve, key) => {
                let parts = EcdsaParts::from_message(signature)?;
                if !parts.is_low(*curve) {
                    return Err(SignatureRefused::HighS);
                }
                verify_digest(*curve, key, &family.digest(message), parts)
            }
            PublicKind::Ed25519(key) => verify_ed25519(key, message, signature),
            PublicKind::Rsa(_) => Err(SignatureRefused::RsaKey),
        }
    }

    /// Whether this key signed the body of a certificate or CRL. High S is fine there.
    pub(crate) fn verify_certificate(
        &self,
        algorithm: SignatureAlgorithm,
        body: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureRefused> {
        match (&self.kind, algorithm) {
            (PublicKind::Ecdsa(curve, key), _) => {
                let hash = ecdsa_hash(algorithm).ok_or(SignatureRefused::Algorithm)?;
                let parts = EcdsaParts::from_certificate(signature)?;
                verify_digest(*curve, key, digest::digest(hash, body).as_ref(), parts)
            }
            (PublicKind::Ed25519(key), SignatureAlgorithm::Ed25519) => {
                verify_ed25519(key, body, signature)
            }
            (PublicKind::Rsa(key), _) => {
                let algorithm = rsa_algorithm(algorithm).ok_or(SignatureRefused::Algorithm)?;
                UnparsedPublicKey::new(algorithm, key)
                    .verify(body, signature)
                    .or(Err(SignatureRefused::Mismatch))
            }
            (PublicKind::Ed25519(_), _) => Err(SignatureRefused::Algorithm),
        }
    }

    /// The key as DER SubjectPublicKeyInfo, as received.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Name of the kind of key, for messages to an operator.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            PublicKind::Ecdsa(Curve::P256, _) => "ECDSA P-256",
            PublicKind::Ecdsa(Curve::P384, _) => "ECDSA P-384",
            PublicKind::Ecdsa(Curve::P521, _) => "ECDSA P-521",
            PublicKind::Ed25519(_) => "Ed25519",
            PublicKind::Rsa(_) => "RSA",
        }
    }

    /// Whether this is an ECDSA key.
    pub fn is_ecdsa(&self) -> bool {
        self.curve().is_some()
    }

    /// Whether this is an Ed25519 key.
    pub fn is_ed25519(&self) -> bool {
        matches!(self.kind, PublicKind::Ed25519(_))
    }

    pub(crate) fn curve(&self) -> Option<Curve> {
        match &self.kind {
            PublicKind::Ecdsa(curve, _) => Some(*curve),
            _ => None,
        }
    }

    /// The key identifier by which Fabric names key files: SHA-256 of the uncompressed point, or
    /// of the 32 bytes of an Ed25519 key. RSA keys have none here.
    pub fn ski(&self) -> Option<[u8; 32]> {
        match &self.kind {
            PublicKind::Ecdsa(_, key) | PublicKind::Ed25519(key) => Some(sha256(key.as_ref())),
            PublicKind::Rsa(_) => None,
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicKey({}, {})",
            self.kind(),
            hex::encode(sha256(&self.spki))
        )
    }
}

/// A private key that can sign for an MSP.
pub struct PrivateKey {
    kind: PrivateKind,
    public: PublicKey,
}

enum PrivateKind {
    Ecdsa(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Reads the first PEM block: PKCS#8 or SEC1, whatever its label says.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyRefused> {
        let (block, _) = pem::first_block(text).ok_or(KeyRefused::NotPem)?;
        Self::from_der(&block.content)
    }

    /// Reads PKCS#8 or SEC1 in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyRefused> {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve.signing(), der) {
                return Self::from_ecdsa(curve, pair);
            }
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            let spki = pair.public_key().as_der().or(Err(KeyRefused::Invalid))?;
            let public = PublicKey::from_spki_der(spki.as_ref())?;
            return Ok(Self {
                kind: PrivateKind::Ed25519(pair),
                public,
            });
        }
        if aws_lc_rs::rsa::KeyPair::from_pkcs8(der).is_ok()
            || aws_lc_rs::rsa::KeyPair::from_der(der).is_ok()
        {
            return Err(KeyRefused::Rsa);
        }
        Err(KeyRefused::NotPrivate)
    }

    /// Makes a new P-256 key.
    pub fn generate_p256() -> Result<Self, KeyRefused> {
        let pair = EcdsaKeyPair::generate(Curve::P256.signing()).or(Err(KeyRefused::Generation))?;
        Self::from_ecdsa(Curve::P256, pair)
    }

    fn from_ecdsa(curve: Curve, pair: EcdsaKeyPair) -> Result<Self, KeyRefused> {
        let spki = pair.public_key().as_der().or(Err(KeyRefused::Invalid))?;
        let public = PublicKey::from_spki_der(spki.as_ref())?;
        Ok(Self {
            kind: PrivateKind::Ecdsa(curve, pair),
            public,
        })
    }

    /// Signs a message as an MSP of the SHA-2 family does.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        self.sign_with(HashFamily::Sha2, message)
    }

    /// Signs a message: DER with the low `s`, or 64 raw bytes of Ed25519.
    pub fn sign_with(&self, family: HashFamily, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        match &self.kind {
            PrivateKind::Ecdsa(curve, pair) => {
                let digest = curve.fit(&family.digest(message)).ok_or(SigningFailed)?;
                let signature = pair.sign_digest(&digest).or(Err(SigningFailed))?;
                EcdsaParts::from_certificate(signature.as_ref())
                    .ok()
                    .and_then(|parts| parts.to_low_der(*curve))
                    .ok_or(SigningFailed)
            }
            PrivateKind::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// The other half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The key identifier; a key file is usually named `<hex>_sk`.
    pub fn ski(&self) -> [u8; 32] {
        self.public
            .ski()
            .expect("every key that signs has a key identifier")
    }

    /// The key as a PKCS#8 PEM file.
    pub fn to_pkcs8_pem(&self) -> Result<String, SigningFailed> {
        let document = match &self.kind {
            PrivateKind::Ecdsa(_, pair) => pair.to_pkcs8v1(),
            PrivateKind::Ed25519(pair) => pair.to_pkcs8v1(),
        };
        let document = document.or(Err(SigningFailed))?;
        Ok(pem::encode("PRIVATE KEY", document.as_ref()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey of {:?}", self.public)
    }
}

impl Curve {
    fn parse(self, point: &[u8]) -> Result<ParsedPublicKey, KeyRefused> {
        let algorithm = match self {
            Self::P256 => &aws::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &aws::ECDSA_P384_SHA384_ASN1,
            Self::P521 => &aws::ECDSA_P521_SHA512_ASN1,
        };
        ParsedPublicKey::new(algorithm, point).or(Err(KeyRefused::Invalid))
    }

    fn signing(self) -> &'static aws::EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &aws::ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &aws::ECDSA_P384_SHA384_ASN1_SIGNING,
            Self::P521 => &aws::ECDSA_P521_SHA512_ASN1_SIGNING,
        }
    }

    /// The digest in the length that the library pairs with the curve.
    ///
    /// ECDSA takes the leftmost bits of a digest longer than the order and a shorter one as it
    /// is, as a number. So cutting at the right and filling with zeros at the left changes
    /// nothing, and one path serves every pairing of curve and hash.
    fn fit(self, digest: &[u8]) -> Option<Digest> {
        let (algorithm, length) = match self {
            Self::P256 => (&digest::SHA256, 32),
            Self::P384 => (&digest::SHA384, 48),
            Self::P521 => (&digest::SHA512, 64),
        };
        let kept = digest.get(..length).unwrap_or(digest);
        let mut fitted = vec![0; length - kept.len()];
        fitted.extend_from_slice(kept);
        Digest::import_less_safe(&fitted, algorithm).ok()
    }
}

fn verify_digest(
    curve: Curve,
    key: &ParsedPublicKey,
    digest: &[u8],
    parts: EcdsaParts<'_>,
) -> Result<(), SignatureRefused> {
    // Longer numbers are never below the order, and need not travel further.
    if parts.r.len().max(parts.s.len()) > curve.order().len() {
        return Err(SignatureRefused::Mismatch);
    }
    let digest = curve.fit(digest).ok_or(SignatureRefused::Mismatch)?;
    key.verify_digest_sig(&digest, &parts.to_der())
        .or(Err(SignatureRefused::Mismatch))
}

fn verify_ed25519(
    key: &ParsedPublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureRefused> {
    if signature.len() != 64 {
        return Err(SignatureRefused::Length(signature.len()));
    }
    key.verify_sig(message, signature)
        .or(Err(SignatureRefused::Mismatch))
}

fn ecdsa_hash(algorithm: SignatureAlgorithm) -> Option<&'static digest::Algorithm> {
    match algorithm {
        SignatureAlgorithm::EcdsaSha1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        SignatureAlgorithm::EcdsaSha256 => Some(&digest::SHA256),
        SignatureAlgorithm::EcdsaSha384 => Some(&digest::SHA384),
        SignatureAlgorithm::EcdsaSha512 => Some(&digest::SHA512),
        _ => None,
    }
}

fn rsa_algorithm(algorithm: SignatureAlgorithm) -> Option<&'static aws::RsaParameters> {
    match algorithm {
        SignatureAlgorithm::RsaSha1 => Some(&aws::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY),
        SignatureAlgorithm::RsaSha256 => Some(&aws::RSA_PKCS1_2048_8192_SHA256),
        SignatureAlgorithm::RsaSha384 => Some(&aws::RSA_PKCS1_2048_8192_SHA384),
        SignatureAlgorithm::RsaSha512 => Some(&aws::RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}
