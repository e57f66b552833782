//! What the extensions of a certificate say, as far as Go's verifier asks.

use std::collections::BTreeSet;

use x509_parser::certificate::TbsCertificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, ParsedExtension, X509Extension};

use crate::certificate::CertificateRefused;

/// The extensions that decide something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Whether this is a CA, and how deep.
    pub basic_constraints: Option<BasicConstraints>,
    /// The subject key identifier.
    pub subject_key_id: Option<Vec<u8>>,
    /// The key identifier of the issuer.
    pub authority_key_id: Option<Vec<u8>>,
    /// Key usage bits, digital signature being the lowest.
    pub key_usage: Option<u16>,
    /// Extended key usages.
    pub key_purposes: Option<KeyPurposes>,
    pub(crate) alternative_names: Option<AlternativeNames>,
    pub(crate) name_constraints: Option<NameConstraints>,
    /// Object identifier of a critical extension that nobody here understands.
    pub unhandled_critical: Option<String>,
}

/// The basic constraints extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicConstraints {
    /// May issue certificates.
    pub ca: bool,
    /// How many intermediate CAs may stand below.
    pub path_length: Option<u32>,
}

/// The extended key usages that matter to Fabric's use of Go's verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPurposes {
    /// Any purpose.
    pub any: bool,
    /// TLS server authentication.
    pub server_auth: bool,
}

/// The subject alternative names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlternativeNames {
    /// The extension's bytes, to compare two certificates.
    pub(crate) raw: Vec<u8>,
    pub(crate) names: Names,
}

/// The name constraints of a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameConstraints {
    pub(crate) permitted: Names,
    pub(crate) excluded: Names,
}

/// Names by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) dns: Vec<String>,
    /// Address bytes; in a constraint address and mask.
    pub(crate) ips: Vec<Vec<u8>>,
    pub(crate) emails: Vec<String>,
    pub(crate) uris: Vec<String>,
    /// There were names of a kind that Go does not look at.
    pub(crate) others: bool,
}

const KEY_CERT_SIGN: u16 = 1 << 5;

impl Extensions {
    pub(crate) fn of(body: &TbsCertificate<'_>) -> Result<Self, CertificateRefused> {
        use CertificateRefused::Malformed;
        let mut read = Self::default();
        let mut seen = BTreeSet::new();
        for extension in body.extensions() {
            if !seen.insert(extension.oid.as_bytes()) {
                return Err(Malformed("an extension appears twice"));
            }
            if let ParsedExtension::ParseError { .. } = extension.parsed_extension() {
                return Err(Malformed("an extension is misencoded"));
            }
            let handled = read.take(extension);
            if extension.critical && !handled {
                read.unhandled_critical = Some(extension.oid.to_id_string());
            }
        }
        Ok(read)
    }

    /// Notes one extension; false when its meaning would be lost.
    fn take(&mut self, extension: &X509Extension<'_>) -> bool {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(found) => {
                let path_length = found.path_len_constraint;
                self.basic_constraints = Some(BasicConstraints {
                    ca: found.ca,
                    path_length,
                });
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(found) => {
                let id = found.key_identifier.as_ref();
                self.authority_key_id = id.map(|id| id.0.to_vec());
            }
            ParsedExtension::KeyUsage(found) => self.key_usage = Some(found.flags),
            ParsedExtension::ExtendedKeyUsage(found) => {
                self.key_purposes = Some(KeyPurposes {
                    any: found.any,
                    server_auth: found.server_auth,
                });
            }
            ParsedExtension::SubjectAlternativeName(found) => {
                let names = Names::of(&found.general_names);
                let understood = !names.is_empty();
                let raw = extension.value.to_vec();
                self.alternative_names = Some(AlternativeNames { raw, names });
                return understood;
            }
            ParsedExtension::NameConstraints(found) => {
                let permitted = Names::of_subtrees(found.permitted_subtrees.as_deref());
                let excluded = Names::of_subtrees(found.excluded_subtrees.as_deref());
                let understood = !permitted.others && !excluded.others;
                self.name_constraints = Some(NameConstraints {
                    permitted,
                    excluded,
                });
                return understood;
            }
            // Nothing in them restricts a chain as Fabric checks it.
            ParsedExtension::CertificatePolicies(_)
            | ParsedExtension::CRLDistributionPoints(_)
            | ParsedExtension::AuthorityInfoAccess(_) => {}
            _ => return false,
        }
        true
    }

    /// Key usage, where present, must name certificate signing.
    pub(crate) fn may_sign_certificates(&self) -> bool {
        self.key_usage
            .is_none_or(|bits| bits == 0 || bits & KEY_CERT_SIGN != 0)
    }
}

impl Names {
    fn of(names: &[GeneralName<'_>]) -> Self {
        let mut sorted = Self::default();
        for name in names {
            match name {
                GeneralName::DNSName(name) => sorted.dns.push((*name).to_owned()),
                GeneralName::IPAddress(address) => sorted.ips.push(address.to_vec()),
                GeneralName::RFC822Name(name) => sorted.emails.push((*name).to_owned()),
                GeneralName::URI(name) => sorted.uris.push((*name).to_owned()),
                _ => sorted.others = true,
            }
        }
        sorted
    }

    fn of_subtrees(subtrees: Option<&[GeneralSubtree<'_>]>) -> Self {
        let names = subtrees
            .unwrap_or_default()
            .iter()
            .map(|subtree| subtree.base.clone());
        Self::of(&names.collect::<Vec<_>>())
    }

    /// No name of a kind that is looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.emails.is_empty() && self.uris.is_empty()
    }
}
