//! One membership service provider: which certificates are members, and in which role.
//!
//! An [`Msp`] is made once from its configuration and does not change. Recognising an identity
//! ([`Msp::deserialize`]) means that its certificate parses and, where ECDSA-signed, chains to
//! the MSP's roots; approving it ([`Msp::validate`]) means all of Fabric's rules. Whether the
//! certificate has ended by now is neither's business: signatures made in time must verify
//! forever, and live connections compare [`Identity::expires_at`] with a clock.
//!
//! The MSP remembers the last identities it saw. As nothing it judges by ever changes, memory
//! makes it faster and nothing else.

mod memory;
mod registry;
pub(crate) mod roles;
mod setup;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;
use tidings_proto::msp::SerializedIdentity;
use x509_parser::time::ASN1Time;

use self::memory::Memory;
pub use self::registry::{MspConflict, MspManager};
use self::roles::{NodeOus, OuList, Role};
pub use self::setup::{CaKind, MspRefused};
use crate::certificate::{Certificate, CertificateRefused, NotWellFormed, check_well_formed};
use crate::chain::{Authorities, ChainRefused, Path};
use crate::crl::Crl;
use crate::crypto::{HashFamily, IdentityHash, PrivateKey, sha256};
use crate::identity::{Identity, SigningIdentity, SigningIdentityRefused};

/// Identities and verdicts that one MSP remembers. A peer meets some tens of other peers and some
/// hundreds of clients; ten times Fabric's hundred costs a few megabytes at most.
const REMEMBERED_MAX: usize = 1000;

/// Longest serialized identity or certificate that is remembered. Real ones have about one kilobyte; longer
/// ones work too, but must not fill our memory.
const REMEMBERED_BYTES_MAX: usize = 8 * 1024;

/// Which rules an MSP follows; channels choose by their capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MspVersion {
    /// No roles by organizational unit.
    V1_0,
    /// Clients and peers are told apart.
    V1_1,
    /// Anonymous and combined principals.
    V1_3,
    /// Four roles by organizational unit, admins among them.
    V1_4_3,
    /// Ed25519 identities.
    V3_0,
}

/// Why an MSP does not take an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityRefused {
    /// Nothing there, or not the message it should be.
    #[error("not a serialized identity")]
    NotAnIdentity,
    /// The identity names an MSP that is not known here.
    #[error("the identity belongs to {0}, which is not an MSP known here")]
    UnknownMsp(String),
    /// The identity names another MSP.
    #[error("the identity belongs to {got}, not to {expected}")]
    OtherMsp {
        /// The MSP that was asked.
        expected: String,
        /// The MSP that the identity names.
        got: String,
    },
    /// The bytes are not in the form that remote identities must have.
    #[error(transparent)]
    NotWellFormed(#[from] NotWellFormed),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateRefused),
    /// No single good chain to a root of the MSP.
    #[error(transparent)]
    Chain(#[from] ChainRefused),
    /// The key is of a kind that this version of the MSP does not take.
    #[error("{0} keys are not allowed for identities of this MSP version")]
    KeyKind(&'static str),
    /// A CA certificate is nobody's identity.
    #[error("the certificate of {0} is a CA certificate, which cannot be an identity")]
    IsCa(String),
    /// A revocation list of the issuer names the certificate.
    #[error("the certificate of {0} has been revoked")]
    Revoked(String),
    /// A revocation list of the MSP does not say whose it is, so nobody can be cleared.
    #[error("a revocation list of the MSP has no authority key identifier")]
    CrlWithoutAuthority,
    /// The MSP lists organizational units, and the identity is in none.
    #[error("{0} is in none of the organizational units that the MSP lists")]
    NotInOuList(String),
    /// No organizational unit gives a role.
    #[error("{0} has no organizational unit that makes it a client, peer, admin or orderer")]
    NoRole(String),
    /// More than one organizational unit gives a role.
    #[error("{0} has several organizational units that give roles, exactly one is allowed")]
    SeveralRoles(String),
    /// The role is vouched for by another CA than the MSP demands.
    #[error("{subject} is {unit} by another CA than the one that may make it so")]
    WrongCertifier {
        /// The subject.
        subject: String,
        /// The organizational unit.
        unit: String,
    },
}

/// A membership service provider.
pub struct Msp {
    id: Arc<str>,
    version: MspVersion,
    /// `None`: a family that does not exist, under which no signature verifies.
    family: Option<HashFamily>,
    hash: IdentityHash,
    authorities: Authorities,
    crls: Vec<Crl>,
    ou_list: OuList,
    node_ous: Option<NodeOus>,
    /// DER of the explicit administrators.
    admins: Vec<Vec<u8>>,
    tls_roots: Vec<Vec<u8>>,
    tls_intermediates: Vec<Vec<u8>>,
    /// Hash of the configuration that this was made from.
    content: [u8; 32],
    recognised: Mutex<Memory<Arc<Identity>>>,
    standings: Mutex<Memory<Arc<Standing>>>,
}

/// What the MSP thinks of a certificate.
#[derive(Debug)]
struct Standing {
    verdict: Result<(), IdentityRefused>,
    /// Name of the chain of CAs, where there is a good one.
    certifier: Option<Vec<u8>>,
}

impl Msp {
    /// The MSP's id, which identities carry.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The rules that the MSP follows.
    pub fn version(&self) -> MspVersion {
        self.version
    }

    /// Root CAs for TLS connections, in DER.
    pub fn tls_roots(&self) -> &[Vec<u8>] {
        &self.tls_roots
    }

    /// Intermediate CAs for TLS connections, in DER.
    pub fn tls_intermediates(&self) -> &[Vec<u8>] {
        &self.tls_intermediates
    }

    /// Recognises a serialized identity as one of this MSP, without approving it.
    pub fn deserialize(&self, serialized: &[u8]) -> Result<Arc<Identity>, IdentityRefused> {
        let key = sha256(serialized);
        if let Some(known) = lock(&self.recognised).recall(&key) {
            return Ok(Arc::clone(known));
        }
        let (parsed, serialized) = parse(serialized)?;
        if *parsed.mspid != *self.id {
            let expected = self.id.to_string();
            return Err(IdentityRefused::OtherMsp {
                expected,
                got: parsed.mspid,
            });
        }
        let (certificate, path) = self.recognise(&parsed.id_bytes)?;
        if path.is_some() {
            // Whoever is recognised is approved next, which needs the same path.
            self.approve(&certificate, path);
        }
        let small = serialized.len() <= REMEMBERED_BYTES_MAX;
        let identity = Arc::new(self.identity_of(certificate, serialized));
        if small {
            lock(&self.recognised).remember(key, Arc::clone(&identity));
        }
        Ok(identity)
    }

    /// Checks the form of a serialized identity, which remote ones must have.
    pub fn check_well_formed(&self, serialized: &[u8]) -> Result<(), IdentityRefused> {
        let (parsed, _) = parse(serialized)?;
        Ok(check_well_formed(&parsed.id_bytes)?)
    }

    /// Approves an identity: key, chain, revocation and roles. Expiry is not looked at.
    pub fn validate(&self, identity: &Identity) -> Result<(), IdentityRefused> {
        self.check_own(identity)?;
        self.standing(identity.certificate()).verdict.clone()
    }

    /// Joins our own certificate and key. Refuses a certificate that has ended by `now`, seconds
    /// since 1970, or that this MSP would not approve.
    pub fn signing_identity(
        &self,
        certificate_pem: &[u8],
        key: PrivateKey,
        now: i64,
    ) -> Result<SigningIdentity, SigningIdentityRefused> {
        use SigningIdentityRefused::{Expired, Refused};
        let (certificate, _) = self.recognise(certificate_pem).map_err(Refused)?;
        let ends = certificate.not_after();
        if ends <= now {
            let (subject, ended) = (certificate.subject().to_owned(), date(ends));
            return Err(Expired { subject, ended });
        }
        let family = self.family.ok_or(SigningIdentityRefused::HashFamily)?;
        let identity = SigningIdentity::new(&self.id, certificate, key, family)?;
        self.standing(identity.certificate())
            .verdict
            .clone()
            .map_err(Refused)?;
        Ok(identity)
    }

    /// Whether the certificate is one of the explicit administrators'.
    pub(crate) fn is_explicit_admin(&self, certificate: &Certificate) -> bool {
        self.admins.iter().any(|admin| admin == certificate.der())
    }

    /// Whether admins and orderers are told by organizational unit here.
    pub(crate) fn enforces_all_roles(&self) -> bool {
        self.node_ous.is_some() && self.version >= MspVersion::V1_4_3
    }

    /// The organizational unit that gives a role, where roles are enforced.
    pub(crate) fn unit_name(&self, role: Role) -> Option<&str> {
        let unit = self.node_ous.as_ref()?.unit(role)?;
        Some(&unit.name)
    }

    /// Name of the chain of CAs above a sanitized certificate.
    pub(crate) fn certifier(&self, certificate: &Certificate) -> Option<Vec<u8>> {
        self.standing(certificate).certifier.clone()
    }

    pub(crate) fn check_own(&self, identity: &Identity) -> Result<(), IdentityRefused> {
        if identity.msp_id() == &self.id {
            return Ok(());
        }
        let (expected, got) = (self.id.to_string(), identity.msp_id().to_string());
        Err(IdentityRefused::OtherMsp { expected, got })
    }

    /// The sanitized certificate of an identity's bytes, with its path if that had to be found.
    fn recognise(&self, id_bytes: &[u8]) -> Result<(Certificate, Option<Path>), IdentityRefused> {
        let certificate = Certificate::from_pem(id_bytes)?;
        Ok(self.authorities.recognise(certificate)?)
    }

    fn identity_of(&self, certificate: Certificate, serialized: Bytes) -> Identity {
        Identity::new(
            Arc::clone(&self.id),
            certificate,
            serialized,
            self.family,
            self.hash,
        )
    }

    /// `certificate` must be sanitized.
    fn standing(&self, certificate: &Certificate) -> Arc<Standing> {
        if let Some(known) = lock(&self.standings).recall(&certificate.fingerprint()) {
            return Arc::clone(known);
        }
        self.approve(certificate, None)
    }

    /// Judges a sanitized certificate, by its path if that is known, and remembers the verdict.
    fn approve(&self, certificate: &Certificate, path: Option<Path>) -> Arc<Standing> {
        let standing = Arc::new(self.judge(certificate, path));
        // The verdict quotes names in the certificate, which are as long as its maker likes.
        if certificate.der().len() <= REMEMBERED_BYTES_MAX {
            lock(&self.standings).remember(certificate.fingerprint(), Arc::clone(&standing));
        }
        standing
    }

    fn judge(&self, certificate: &Certificate, path: Option<Path>) -> Standing {
        let path = if certificate.is_ca() {
            Err(IdentityRefused::IsCa(certificate.subject().to_owned()))
        } else {
            self.authorities
                .issued_path(certificate, path)
                .map_err(IdentityRefused::from)
        };
        let above = path.as_ref().ok().and_then(|path| path.get(1..));
        let certifier = above.map(|cas| self.name_of_chain(cas.iter().map(AsRef::as_ref)));
        let verdict = self.check_key(certificate).and(path);
        let verdict =
            verdict.and_then(|path| self.check_below(certificate, &path, certifier.as_deref()));
        Standing { verdict, certifier }
    }

    fn check_key(&self, certificate: &Certificate) -> Result<(), IdentityRefused> {
        let key = certificate.public_key();
        if key.is_ecdsa() || (key.is_ed25519() && self.version >= MspVersion::V3_0) {
            return Ok(());
        }
        Err(IdentityRefused::KeyKind(key.kind()))
    }

    /// What remains once the chain is known.
    fn check_below(
        &self,
        certificate: &Certificate,
        path: &[Arc<Certificate>],
        certifier: Option<&[u8]>,
    ) -> Result<(), IdentityRefused> {
        if let Some(issuer) = path.get(1) {
            self.check_revocation(certificate, issuer)?;
        }
        let certifier = certifier.unwrap_or_default();
        self.ou_list.check(certificate, certifier)?;
        match &self.node_ous {
            Some(node_ous) => node_ous.check(certificate, certifier),
            None => Ok(()),
        }
    }

    fn check_revocation(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
    ) -> Result<(), IdentityRefused> {
        let issuer_key_id = issuer.extensions().subject_key_id.as_deref();
        for crl in &self.crls {
            let about = crl
                .authority_key_id()
                .ok_or(IdentityRefused::CrlWithoutAuthority)?;
            // A list with a wrong signature is not its CA's word and is passed over.
            if Some(about) == issuer_key_id && crl.lists(certificate) && crl.is_signed_by(issuer) {
                return Err(IdentityRefused::Revoked(certificate.subject().to_owned()));
            }
        }
        Ok(())
    }

    /// The name by which principals and roles refer to a chain of CAs, issuer first.
    fn name_of_chain<'a>(&self, cas: impl IntoIterator<Item = &'a Certificate>) -> Vec<u8> {
        self.hash.digest(cas.into_iter().map(Certificate::der))
    }
}

impl fmt::Debug for Msp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Msp")
            .field("id", &self.id)
            .field("version", &self.version)
            .finish()
    }
}

fn parse(serialized: &[u8]) -> Result<(SerializedIdentity, Bytes), IdentityRefused> {
    if serialized.is_empty() {
        return Err(IdentityRefused::NotAnIdentity);
    }
    let bytes = Bytes::copy_from_slice(serialized);
    let parsed = SerializedIdentity::decode(bytes.clone());
    Ok((parsed.or(Err(IdentityRefused::NotAnIdentity))?, bytes))
}

/// Whatever a thread that panicked left behind is a complete memory.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A moment for a person.
fn date(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(
        |_| format!("{seconds} seconds after 1970"),
        |time| time.to_string(),
    )
}

#[cfg(test)]
mod tests;
