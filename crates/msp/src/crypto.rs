//! Hashes, keys and signatures as Fabric uses them.
//!
//! Promises that a message signature is accepted exactly when a Go peer accepts it: the digest is
//! SHA-256 (or SHA3-256) whatever the curve, `s` is at most half the order, and the DER is strict
//! but for the two places where Go tolerates extra bytes. Every call into the cryptographic
//! library is in this module and its children. Knows nothing of certificates and identities.

mod key;
mod signature;

use aws_lc_rs::digest::{self, Context};

pub use self::key::{KeyRefused, PrivateKey, PublicKey, SigningFailed};
pub(crate) use self::signature::{Curve, EcdsaParts};

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefused {
    /// Not the encoding that the key's algorithm has.
    #[error("the signature is not a DER sequence of two positive integers")]
    Malformed,
    /// ECDSA with `s` above half the order: a twin that anybody can make from the real one.
    #[error("the signature has a high S, only the lower of the two is allowed")]
    HighS,
    /// An Ed25519 signature that is not 64 bytes.
    #[error("an Ed25519 signature has 64 bytes, this one has {0}")]
    Length(usize),
    /// Well formed, but not over this message by this key.
    #[error("the signature does not match the message and the key")]
    Mismatch,
    /// The key is of a kind that signs certificates only.
    #[error("an RSA key cannot sign messages in an MSP")]
    RsaKey,
    /// The MSP of the signer names a hash family that does not exist.
    #[error("the hash family of the signer's MSP is unknown, so nothing verifies")]
    HashFamily,
    /// The algorithm named in a certificate or CRL is broken, unknown, or not the key's.
    #[error("the signature algorithm is unknown, too weak, or does not fit the key of the signer")]
    Algorithm,
}

/// The hash family of an MSP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashFamily {
    /// SHA-256 over the message.
    #[default]
    Sha2,
    /// SHA3-256 over the message.
    Sha3,
}

impl HashFamily {
    pub(crate) fn digest(self, message: &[u8]) -> [u8; 32] {
        match self {
            Self::Sha2 => sha256(message),
            Self::Sha3 => sha3_256(message),
        }
    }
}

/// The hash by which an MSP names certificates and chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdentityHash {
    /// SHA-256, the usual one.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA3-256.
    Sha3_256,
    /// SHA3-384.
    Sha3_384,
}

impl IdentityHash {
    /// Hashes the concatenation of `parts`.
    pub fn digest<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha3_256 => &digest::SHA3_256,
            Self::Sha3_384 => &digest::SHA3_384,
        };
        let mut context = Context::new(algorithm);
        for part in parts {
            context.update(part);
        }
        context.finish().as_ref().to_vec()
    }
}

/// SHA-256 of content that comes in pieces, for what is too large or too scattered to list.
#[derive(Clone)]
pub struct Sha256(Context);

impl Sha256 {
    /// Of nothing so far.
    pub fn new() -> Self {
        Self(Context::new(&digest::SHA256))
    }

    /// Adds a piece at the end.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash of all pieces.
    pub fn finish(self) -> [u8; 32] {
        self.0
            .finish()
            .as_ref()
            .try_into()
            .expect("the hash has 32 bytes")
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// SHA-256.
pub fn sha256(content: &[u8]) -> [u8; 32] {
    sha256_parts(&[content])
}

/// SHA-256 over the concatenation of `parts`.
pub fn sha256_parts(parts: &[&[u8]]) -> [u8; 32] {
    hash_32(&digest::SHA256, parts)
}

/// SHA3-256.
pub fn sha3_256(content: &[u8]) -> [u8; 32] {
    sha3_256_parts(&[content])
}

/// SHA3-256 over the concatenation of `parts`.
pub fn sha3_256_parts(parts: &[&[u8]]) -> [u8; 32] {
    hash_32(&digest::SHA3_256, parts)
}

fn hash_32(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("both hashes have 32 bytes")
}

#[cfg(test)]
mod tests;
