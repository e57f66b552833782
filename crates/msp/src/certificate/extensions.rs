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
            let failed = matches!(
                extension.parsed_extension(),
                ParsedExtension::ParseError { .. }
            );
            if failed && is_read_by_go(extension.oid.as_bytes()) {
                return Err(Malformed("an extension is misencoded"));
            }
            let handled = read.take(extension)?;
            if extension.critical && !handled {
                read.unhandled_critical = Some(extension.oid.to_id_string());
            }
        }
        Ok(read)
    }

    /// Notes one extension; false when its meaning would be lost.
    fn take(&mut self, extension: &X509Extension<'_>) -> Result<bool, CertificateRefused> {
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
                // A list of nothing restricts nothing, by Go's reading.
                let is_empty = found.other.is_empty()
                    && !(found.any || found.server_auth || found.client_auth)
                    && !(found.code_signing || found.email_protection)
                    && !(found.time_stamping || found.ocsp_signing);
                self.key_purposes = (!is_empty).then_some(KeyPurposes {
                    any: found.any,
                    server_auth: found.server_auth,
                });
            }
            ParsedExtension::SubjectAlternativeName(found) => {
                let names = Names::of(&found.general_names, [4, 16])?;
                let understood = !names.is_empty();
                let raw = extension.value.to_vec();
                self.alternative_names = Some(AlternativeNames { raw, names });
                return Ok(understood);
            }
            ParsedExtension::NameConstraints(found) => {
                let permitted = Names::of_subtrees(found.permitted_subtrees.as_deref())?;
                let excluded = Names::of_subtrees(found.excluded_subtrees.as_deref())?;
                let understood = !permitted.others && !excluded.others;
                self.name_constraints = Some(NameConstraints {
                    permitted,
                    excluded,
                });
                return Ok(understood);
            }
            // Nothing in them restricts a chain as Fabric checks it.
            ParsedExtension::CertificatePolicies(_)
            | ParsedExtension::CRLDistributionPoints(_)
            | ParsedExtension::AuthorityInfoAccess(_) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Key usage, where present, must name certificate signing.
    pub(crate) fn may_sign_certificates(&self) -> bool {
        self.key_usage
            .is_none_or(|bits| bits == 0 || bits & KEY_CERT_SIGN != 0)
    }
}

impl Names {
    /// Go reads no certificate with a name that is not ASCII or an address of an odd length. Were
    /// such a name merely passed over, no constraint would reach it.
    fn of(names: &[GeneralName<'_>], address_lens: [usize; 2]) -> Result<Self, CertificateRefused> {
        const REFUSED: CertificateRefused =
            CertificateRefused::Malformed("an alternative or constrained name is misencoded");
        let text = |name: &str| name.is_ascii().then(|| name.to_owned()).ok_or(REFUSED);
        let mut sorted = Self::default();
        for name in names {
            match name {
                GeneralName::DNSName(name) => sorted.dns.push(text(name)?),
                GeneralName::IPAddress(address) if address_lens.contains(&address.len()) => {
                    sorted.ips.push(address.to_vec());
                }
                GeneralName::RFC822Name(name) => sorted.emails.push(text(name)?),
                GeneralName::URI(name) => sorted.uris.push(text(name)?),
                GeneralName::IPAddress(_) | GeneralName::Invalid(..) => return Err(REFUSED),
                _ => sorted.others = true,
            }
        }
        Ok(sorted)
    }

    /// Addresses in constraints carry a mask of their own length.
    fn of_subtrees(subtrees: Option<&[GeneralSubtree<'_>]>) -> Result<Self, CertificateRefused> {
        let names = subtrees
            .unwrap_or_default()
            .iter()
            .map(|subtree| subtree.base.clone());
        Self::of(&names.collect::<Vec<_>>(), [8, 32])
    }

    /// No name of a kind that is looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.emails.is_empty() && self.uris.is_empty()
    }
}

/// The extensions that Go's parser looks into. Others may hold anything.
fn is_read_by_go(oid: &[u8]) -> bool {
    const AUTHORITY_INFO_ACCESS: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 1, 1];
    match oid {
        [0x55, 0x1d, last] => matches!(last, 14 | 15 | 17 | 19 | 30..=33 | 35..=37 | 54),
        other => *other == AUTHORITY_INFO_ACCESS,
    }
}
