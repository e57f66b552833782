//! From a certificate to a root of the MSP, by exactly one way.
//!
//! Promises Go's verifier as Fabric sets it up: the time of the check is one second after the
//! certificate's own start, so that what was valid when issued stays valid; no host name is
//! checked; extended key usages must allow TLS servers where there are any. Reads no clock and
//! knows nothing of organizational units and revocation.

mod names;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::certificate::{Certificate, IssuerRefused};

/// Candidate issuers whose signature is looked at for one certificate. Go's bound; the MSP's own
/// CAs alone are candidates, so only a strange configuration gets near it.
const SIGNATURE_CHECKS_MAX: u32 = 100;

/// Why a certificate has no acceptable chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainRefused {
    /// No CA of the MSP has the issuer's name.
    #[error("{subject} was issued by {issuer}, which is not a CA of the MSP")]
    UnknownIssuer {
        /// Whose certificate.
        subject: String,
        /// The name of its issuer.
        issuer: String,
    },
    /// The named issuer may not issue certificates, or its key did not make the signature.
    #[error("{subject} is not properly issued by {issuer}: {reason}")]
    Issuer {
        /// Whose certificate.
        subject: String,
        /// The candidate issuer.
        issuer: String,
        /// What is wrong between the two.
        reason: &'static str,
    },
    /// A certificate of the chain was not valid when the first one was issued.
    #[error("the certificate of {0} had ended, or had not begun, when the identity was issued")]
    Time(String),
    /// More intermediate CAs than a CA of the chain allows below itself.
    #[error("too many intermediate CAs below {0}")]
    Depth(String),
    /// A critical extension that is not understood.
    #[error("the certificate of {subject} has a critical extension {oid} that is not understood")]
    CriticalExtension {
        /// Whose certificate.
        subject: String,
        /// The object identifier.
        oid: String,
    },
    /// Extended key usages that leave out both TLS server and any.
    #[error("the extended key usage of {0} allows neither server authentication nor any use")]
    KeyPurpose(String),
    /// A name that a CA of the chain does not allow.
    #[error("{ca} does not allow the name {name}")]
    Name {
        /// The constraining CA.
        ca: String,
        /// The name.
        name: String,
    },
    /// More than one way leads to a root, so it is unclear who vouches.
    #[error("{chains} chains lead from {subject} to roots of the MSP, there must be exactly one")]
    Ambiguous {
        /// Whose certificate.
        subject: String,
        /// How many were found.
        chains: usize,
    },
    /// The certificate is a root itself where one below a root is needed.
    #[error("{0} is a root, not a certificate issued by one")]
    TooShort(String),
    /// The issuer has CAs below it, and only CAs without any may issue identities.
    #[error("{0} has intermediate CAs below it and so may not issue identities")]
    InnerCa(String),
}

/// Certificates from the one in question, first, up to a root, last.
pub(crate) type Path = Vec<Arc<Certificate>>;

/// The CAs that an MSP trusts.
#[derive(Debug)]
pub(crate) struct Authorities {
    roots: Vec<Arc<Certificate>>,
    intermediates: Vec<Arc<Certificate>>,
    /// Fingerprints of CAs that have intermediate CAs below them.
    inner: BTreeSet<[u8; 32]>,
}

impl Authorities {
    /// Duplicates count once.
    pub(crate) fn new(roots: Vec<Certificate>, intermediates: Vec<Certificate>) -> Self {
        let roots = without_duplicates(roots);
        let intermediates = without_duplicates(intermediates);
        Self {
            roots,
            intermediates,
            inner: BTreeSet::new(),
        }
    }

    /// Notes which CAs stand above others. Only now [`Self::issued_path`] is complete.
    pub(crate) fn mark_inner(&mut self) -> Result<(), ChainRefused> {
        let mut inner = BTreeSet::new();
        for intermediate in &self.intermediates {
            let path = self.unique_path(intermediate)?;
            inner.extend(path.iter().skip(1).map(|above| above.fingerprint()));
        }
        self.inner = inner;
        Ok(())
    }

    pub(crate) fn roots(&self) -> &[Arc<Certificate>] {
        &self.roots
    }

    pub(crate) fn intermediates(&self) -> &[Arc<Certificate>] {
        &self.intermediates
    }

    /// The only path from a certificate to a root. A root has one of length one.
    pub(crate) fn unique_path(&self, certificate: &Certificate) -> Result<Path, ChainRefused> {
        let first = Arc::new(certificate.clone());
        let at = certificate.not_before().saturating_add(1);
        let mut search = Search::new(self, &first, at);
        check_alone(&first, at)?;
        if self.roots.contains(&first) {
            search.found.push(vec![first]);
        } else {
            search.extend(&mut vec![first]);
        }
        let mut paths = search.found;
        if paths.is_empty() {
            return Err(search.why);
        }
        let purposes = paths.iter().map(check_purposes).collect::<Vec<_>>();
        if let Some(Err(first_reason)) = purposes.iter().find(|verdict| verdict.is_err())
            && purposes.iter().all(Result::is_err)
        {
            return Err(first_reason.clone());
        }
        let mut verdicts = purposes.into_iter();
        paths.retain(|_| verdicts.next().is_some_and(|verdict| verdict.is_ok()));
        match (paths.pop(), paths.len()) {
            (Some(path), 0) => names::check_without_names(&path).map(|()| path),
            (_, others) => {
                let subject = certificate.subject().to_owned();
                Err(ChainRefused::Ambiguous {
                    subject,
                    chains: others + 1,
                })
            }
        }
    }

    /// The path of a certificate that must be issued by a CA at the bottom of the tree; `known` is its
    /// unique path if that was looked for before.
    pub(crate) fn issued_path(
        &self,
        certificate: &Certificate,
        known: Option<Path>,
    ) -> Result<Path, ChainRefused> {
        let path = known.map_or_else(|| self.unique_path(certificate), Ok)?;
        let Some(issuer) = path.get(1) else {
            return Err(ChainRefused::TooShort(certificate.subject().to_owned()));
        };
        self.check_bottom(issuer)?;
        Ok(path)
    }

    /// The path of an intermediate CA that must itself be at the bottom of the tree.
    pub(crate) fn bottom_ca_path(&self, ca: &Certificate) -> Result<Path, ChainRefused> {
        let path = self.unique_path(ca)?;
        if path.len() < 2 {
            return Err(ChainRefused::TooShort(ca.subject().to_owned()));
        }
        self.check_bottom(ca)?;
        Ok(path)
    }

    fn check_bottom(&self, ca: &Certificate) -> Result<(), ChainRefused> {
        if self.inner.contains(&ca.fingerprint()) {
            return Err(ChainRefused::InnerCa(ca.subject().to_owned()));
        }
        Ok(())
    }

    /// The certificate in the form in which certificates are compared: with the low twin of its
    /// signature. For ECDSA-signed certificates this needs a path to a root, or a self-signed CA.
    pub(crate) fn sanitize(&self, certificate: Certificate) -> Result<Certificate, ChainRefused> {
        let (low, _) = self.recognise(certificate)?;
        Ok(low)
    }

    /// The same, with its path if that had to be found.
    pub(crate) fn recognise(
        &self,
        certificate: Certificate,
    ) -> Result<(Certificate, Option<Path>), ChainRefused> {
        if !certificate.signature_algorithm().is_ecdsa() {
            return Ok((certificate, None));
        }
        if certificate.is_ca() && certificate.check_signature_from(&certificate).is_ok() {
            let low = with_low_s(&certificate, &certificate)?;
            Self::new(vec![low.clone()], Vec::new()).unique_path(&low)?;
            return Ok((low, None));
        }
        let path = self.unique_path(&certificate)?;
        let Some(issuer) = path.get(1) else {
            return Err(ChainRefused::TooShort(certificate.subject().to_owned()));
        };
        let low = with_low_s(&certificate, issuer)?;
        let is_same = low.der() == certificate.der();
        Ok((low, is_same.then_some(path)))
    }
}

/// One walk over all paths.
struct Search<'a> {
    authorities: &'a Authorities,
    at: i64,
    checks: u32,
    found: Vec<Path>,
    /// The last reason why a path ended, for the case that none is found.
    why: ChainRefused,
}

impl<'a> Search<'a> {
    fn new(authorities: &'a Authorities, first: &Certificate, at: i64) -> Self {
        let subject = first.subject().to_owned();
        let issuer = first.issuer().to_owned();
        let why = ChainRefused::UnknownIssuer { subject, issuer };
        Self {
            authorities,
            at,
            checks: 0,
            found: Vec::new(),
            why,
        }
    }

    /// Tries every CA above the last certificate of `path`. The depth is bounded, as no CA comes
    /// twice in a path and every step costs one of the bounded checks.
    fn extend(&mut self, path: &mut Path) {
        let authorities = self.authorities;
        let roots = authorities.roots.iter().map(|ca| (ca, true));
        let intermediates = authorities.intermediates.iter().map(|ca| (ca, false));
        for (ca, is_root) in roots.chain(intermediates) {
            let last = path
                .last()
                .expect("a path starts with the certificate in question");
            if ca.subject_der() != last.issuer_der() || path.iter().any(|one| is_twin(one, ca)) {
                continue;
            }
            self.checks += 1;
            if self.checks > SIGNATURE_CHECKS_MAX {
                return;
            }
            if let Err(reason) = self.check_step(path, last, ca, is_root) {
                self.why = reason;
                continue;
            }
            path.push(Arc::clone(ca));
            if is_root {
                self.found.push(path.clone());
            } else {
                self.extend(path);
            }
            path.pop();
        }
    }

    fn check_step(
        &self,
        path: &Path,
        last: &Certificate,
        ca: &Certificate,
        is_root: bool,
    ) -> Result<(), ChainRefused> {
        let refuse = |reason| ChainRefused::Issuer {
            subject: last.subject().to_owned(),
            issuer: ca.subject().to_owned(),
            reason,
        };
        last.check_signature_from(ca)
            .map_err(|refused| refuse(reason_of(refused)))?;
        check_alone(ca, self.at)?;
        names::check(ca, path)?;
        let constraints = ca.extensions().basic_constraints;
        if !is_root && !ca.is_ca() {
            return Err(refuse(reason_of(IssuerRefused::NotACa)));
        }
        let between = path.len() - 1;
        let deepest = constraints.and_then(|constraints| constraints.path_length);
        if deepest.is_some_and(|deepest| usize::try_from(deepest).is_ok_and(|max| between > max)) {
            return Err(ChainRefused::Depth(ca.subject().to_owned()));
        }
        Ok(())
    }
}

fn with_low_s(
    certificate: &Certificate,
    issuer: &Certificate,
) -> Result<Certificate, ChainRefused> {
    let low = certificate.with_low_s(issuer.public_key()).ok();
    low.ok_or_else(|| ChainRefused::Issuer {
        subject: certificate.subject().to_owned(),
        issuer: issuer.subject().to_owned(),
        reason: reason_of(IssuerRefused::Signature),
    })
}

fn reason_of(refused: IssuerRefused) -> &'static str {
    match refused {
        IssuerRefused::NotACa => "the issuer is no CA by its basic constraints",
        IssuerRefused::NoCertSign => "the issuer's key usage does not allow signing certificates",
        IssuerRefused::Weak => "the signature algorithm is unknown or too weak",
        IssuerRefused::Signature => "the signature is not the issuer's",
    }
}

fn without_duplicates(certificates: Vec<Certificate>) -> Vec<Arc<Certificate>> {
    let mut kept: Vec<Arc<Certificate>> = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        let certificate = Arc::new(certificate);
        if !kept.contains(&certificate) {
            kept.push(certificate);
        }
    }
    kept
}

/// Same name, key and alternative names: one CA under two certificates may not stand above
/// itself.
fn is_twin(left: &Certificate, right: &Certificate) -> bool {
    let names_left = left
        .extensions()
        .alternative_names
        .as_ref()
        .map(|names| &names.raw);
    let names_right = right
        .extensions()
        .alternative_names
        .as_ref()
        .map(|names| &names.raw);
    left.subject_der() == right.subject_der()
        && left.public_key() == right.public_key()
        && names_left == names_right
}

fn check_alone(certificate: &Certificate, at: i64) -> Result<(), ChainRefused> {
    let subject = || certificate.subject().to_owned();
    if let Some(oid) = &certificate.extensions().unhandled_critical {
        return Err(ChainRefused::CriticalExtension {
            subject: subject(),
            oid: oid.clone(),
        });
    }
    if at < certificate.not_before() || at > certificate.not_after() {
        return Err(ChainRefused::Time(subject()));
    }
    Ok(())
}

fn check_purposes(path: &Path) -> Result<(), ChainRefused> {
    for certificate in path {
        let purposes = certificate.extensions().key_purposes;
        if purposes.is_some_and(|purposes| !purposes.any && !purposes.server_auth) {
            return Err(ChainRefused::KeyPurpose(certificate.subject().to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
