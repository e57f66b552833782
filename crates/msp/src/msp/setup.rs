//! Making an MSP from its configuration, with every check that Fabric makes on the way.

use std::sync::Mutex;

use bytes::Bytes;
use prost::Message;
use tidings_proto::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier};

use crate::certificate::{Certificate, CertificateRefused};
use crate::chain::{Authorities, ChainRefused};
use crate::crl::{Crl, CrlRefused};
use crate::crypto::{HashFamily, IdentityHash, sha256};
use crate::msp::memory::Memory;
use crate::msp::roles::{NodeOus, OuList, Role, Unit};
use crate::msp::{IdentityRefused, Msp, MspVersion, REMEMBERED_MAX};
use crate::pem;

/// Which list of the configuration a certificate stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaKind {
    /// Root CAs of identities.
    Root,
    /// Intermediate CAs of identities.
    Intermediate,
    /// Explicit administrators.
    Admin,
    /// Root CAs of TLS.
    TlsRoot,
    /// Intermediate CAs of TLS.
    TlsIntermediate,
    /// The certificate that an organizational unit names.
    Certifier,
}

impl std::fmt::Display for CaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Root => "root CA (cacerts)",
            Self::Intermediate => "intermediate CA (intermediatecerts)",
            Self::Admin => "administrator (admincerts)",
            Self::TlsRoot => "TLS root CA (tlscacerts)",
            Self::TlsIntermediate => "TLS intermediate CA (tlsintermediatecerts)",
            Self::Certifier => "certificate of an organizational unit (config.yaml)",
        })
    }
}

/// Why no MSP can be made from a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MspRefused {
    /// An MSP without an id.
    #[error("the MSP has no name")]
    NoName,
    /// Nobody to trust.
    #[error("the MSP has no root CA certificate")]
    NoRoots,
    /// The hash for identity identifiers is unknown.
    #[error("identity identifier hash function {0} is unknown; SHA256 is the usual one")]
    IdentityHash(String),
    /// A certificate does not parse.
    #[error("{kind}, number {number}: {reason}")]
    Certificate {
        /// Where it stands.
        kind: CaKind,
        /// Its place in the list, from 1.
        number: usize,
        /// What is wrong.
        reason: CertificateRefused,
    },
    /// A certificate does not chain to the roots.
    #[error("{kind} {subject}: {reason}")]
    Chain {
        /// Where it stands.
        kind: CaKind,
        /// Whose it is.
        subject: String,
        /// What is wrong.
        reason: ChainRefused,
    },
    /// A CA certificate without the CA flag.
    #[error("{kind} {subject} is not a CA certificate")]
    NotACa {
        /// Where it stands.
        kind: CaKind,
        /// Whose it is.
        subject: String,
    },
    /// A CA certificate without a subject key identifier.
    #[error("{kind} {subject} has no subject key identifier")]
    NoSubjectKeyId {
        /// Where it stands.
        kind: CaKind,
        /// Whose it is.
        subject: String,
    },
    /// A CA certificate is revoked, or nobody can tell.
    #[error("{kind}: {reason}")]
    Ca {
        /// Where it stands.
        kind: CaKind,
        /// What is wrong.
        reason: IdentityRefused,
    },
    /// A revocation list does not parse.
    #[error("revocation list number {number}: {reason}")]
    Crl {
        /// Its place in the list, from 1.
        number: usize,
        /// What is wrong.
        reason: CrlRefused,
    },
    /// An organizational unit names a certificate that is no CA of the MSP.
    #[error("the certificate of organizational unit {0} is not one of the MSP's CAs")]
    UnknownCertifier(String),
    /// A role that this version of the MSP must have is missing.
    #[error("NodeOUs: {0} is missing, which this MSP version demands")]
    NodeOuMissing(&'static str),
    /// Nobody could ever administrate.
    #[error("no administrator: put a certificate into admincerts or set AdminOUIdentifier")]
    NoAdmins,
    /// An explicit administrator is not valid.
    #[error("administrator {subject}: {reason}")]
    Admin {
        /// Whose certificate.
        subject: String,
        /// What is wrong.
        reason: IdentityRefused,
    },
    /// An explicit administrator has neither the client nor the admin role.
    #[error("administrator {0} carries neither the client nor the admin organizational unit")]
    AdminWithoutRole(String),
}

impl Msp {
    /// Makes an MSP and checks all of its configuration. A signing identity in it is ignored;
    /// see [`Msp::signing_identity`].
    pub fn from_config(config: &FabricMspConfig, version: MspVersion) -> Result<Self, MspRefused> {
        if config.name.is_empty() {
            return Err(MspRefused::NoName);
        }
        let (family, hash) = hashes(config)?;
        let mut msp = Self {
            id: config.name.as_str().into(),
            version,
            family,
            hash,
            authorities: authorities(config)?,
            crls: crls(config)?,
            ou_list: OuList::default(),
            node_ous: None,
            admins: Vec::new(),
            tls_roots: ders(&config.tls_root_certs),
            tls_intermediates: ders(&config.tls_intermediate_certs),
            content: sha256(&config.encode_to_vec()),
            recognised: Mutex::new(Memory::new(REMEMBERED_MAX)),
            standings: Mutex::new(Memory::new(REMEMBERED_MAX)),
        };
        msp.check_authorities()?;
        msp.check_tls_authorities(config)?;
        for unit in &config.organizational_unit_identifiers {
            let certifier = msp.certifier_of(unit)?;
            msp.ou_list
                .add(unit.organizational_unit_identifier.clone(), certifier);
        }
        msp.node_ous = msp.node_ous_of(config.fabric_node_ous.as_ref())?;
        msp.set_admins(config)?;
        Ok(msp)
    }

    /// Every CA must be one, chain, and not be revoked.
    fn check_authorities(&mut self) -> Result<(), MspRefused> {
        let roots = self.authorities.roots().iter().map(|ca| (CaKind::Root, ca));
        let intermediates = self.authorities.intermediates().iter();
        for (kind, ca) in roots.chain(intermediates.map(|ca| (CaKind::Intermediate, ca))) {
            check_ca(kind, ca)?;
            self.check_ca_path(kind, ca, &self.authorities)?;
        }
        let kind = CaKind::Intermediate;
        let failed = |reason| MspRefused::Chain {
            kind,
            subject: self.id.to_string(),
            reason,
        };
        let marked = self.authorities.mark_inner();
        marked.map_err(failed)
    }

    fn check_tls_authorities(&self, config: &FabricMspConfig) -> Result<(), MspRefused> {
        let roots = certificates(CaKind::TlsRoot, &config.tls_root_certs)?;
        let kind = CaKind::TlsIntermediate;
        let intermediates = certificates(kind, &config.tls_intermediate_certs)?;
        let authorities = Authorities::new(roots, intermediates);
        let roots = authorities.roots().iter().map(|ca| (CaKind::TlsRoot, ca));
        for (kind, ca) in roots.chain(authorities.intermediates().iter().map(|ca| (kind, ca))) {
            check_ca(kind, ca)?;
            self.check_ca_path(kind, ca, &authorities)?;
        }
        Ok(())
    }

    fn check_ca_path(
        &self,
        kind: CaKind,
        ca: &Certificate,
        authorities: &Authorities,
    ) -> Result<(), MspRefused> {
        let path = authorities
            .unique_path(ca)
            .map_err(chain_refused(kind, ca))?;
        match path.get(1) {
            None => Ok(()),
            Some(issuer) => self
                .check_revocation(ca, issuer)
                .map_err(|reason| MspRefused::Ca { kind, reason }),
        }
    }

    /// The name of the chain that an organizational unit's certificate stands for.
    fn certifier_of(&self, unit: &FabricOuIdentifier) -> Result<Vec<u8>, MspRefused> {
        let kind = CaKind::Certifier;
        let parsed =
            Certificate::from_pem(&unit.certificate).map_err(|reason| MspRefused::Certificate {
                kind,
                number: 1,
                reason,
            })?;
        let refused = chain_refused(kind, &parsed);
        let ca = self.authorities.sanitize(parsed).map_err(&refused)?;
        if self.authorities.roots().iter().any(|root| **root == ca) {
            return Ok(self.name_of_chain([&ca]));
        }
        if !self
            .authorities
            .intermediates()
            .iter()
            .any(|one| **one == ca)
        {
            let unit = unit.organizational_unit_identifier.clone();
            return Err(MspRefused::UnknownCertifier(unit));
        }
        let path = self.authorities.bottom_ca_path(&ca).map_err(&refused)?;
        Ok(self.name_of_chain(path.iter().map(AsRef::as_ref)))
    }

    /// The roles, where the version knows them and the configuration enforces them.
    fn node_ous_of(&self, config: Option<&FabricNodeOUs>) -> Result<Option<NodeOus>, MspRefused> {
        let Some(config) = config.filter(|_| self.version >= MspVersion::V1_1) else {
            return Ok(None);
        };
        let all_four = self.version >= MspVersion::V1_4_3;
        let mut node_ous = NodeOus::default();
        for role in Role::ALL {
            let unit = match role {
                Role::Client => &config.client_ou_identifier,
                Role::Peer => &config.peer_ou_identifier,
                Role::Admin if all_four => &config.admin_ou_identifier,
                Role::Orderer if all_four => &config.orderer_ou_identifier,
                Role::Admin | Role::Orderer => continue,
            };
            let unit = unit.as_ref();
            match unit.filter(|unit| !unit.organizational_unit_identifier.is_empty()) {
                Some(unit) => node_ous.set(role, self.unit_of(unit)?),
                None if all_four => {}
                None => return Err(MspRefused::NodeOuMissing(role.config_key())),
            }
        }
        Ok((config.enable && !node_ous.is_empty()).then_some(node_ous))
    }

    fn unit_of(&self, unit: &FabricOuIdentifier) -> Result<Unit, MspRefused> {
        let named = !unit.certificate.is_empty();
        let certifier = if named {
            Some(self.certifier_of(unit)?)
        } else {
            None
        };
        Ok(Unit {
            name: unit.organizational_unit_identifier.clone(),
            certifier,
        })
    }

    fn set_admins(&mut self, config: &FabricMspConfig) -> Result<(), MspRefused> {
        let kind = CaKind::Admin;
        let mut admins = Vec::new();
        for parsed in certificates(kind, &config.admins)? {
            let refused = chain_refused(kind, &parsed);
            admins.push(self.authorities.sanitize(parsed).map_err(refused)?);
        }
        self.admins = admins.iter().map(|admin| admin.der().to_vec()).collect();
        let by_unit = self.version >= MspVersion::V1_4_3
            && self
                .node_ous
                .as_ref()
                .is_some_and(|ous| ous.unit(Role::Admin).is_some());
        // Versions before had no role of administrator to demand.
        if admins.is_empty() && !by_unit && self.version >= MspVersion::V1_4_3 {
            return Err(MspRefused::NoAdmins);
        }
        admins.iter().try_for_each(|admin| self.check_admin(admin))
    }

    /// Where roles are enforced an administrator needs one, elsewhere it must be valid.
    fn check_admin(&self, admin: &Certificate) -> Result<(), MspRefused> {
        let subject = admin.subject().to_owned();
        let standing = self.standing(admin);
        if self.node_ous.is_none() || self.version < MspVersion::V1_4_3 {
            let verdict = standing.verdict.clone();
            verdict.map_err(|reason| MspRefused::Admin {
                subject: subject.clone(),
                reason,
            })?;
        }
        let Some(node_ous) = &self.node_ous else {
            return Ok(());
        };
        let roles: &[Role] = match self.version {
            MspVersion::V1_4_3 | MspVersion::V3_0 => &[Role::Client, Role::Admin],
            _ => &[Role::Client],
        };
        // Without a chain the units count for nothing, as nobody vouches for them.
        let vouched = standing.certifier.is_some();
        let named = |role: &Role| {
            let unit = node_ous.unit(*role);
            unit.is_some_and(|unit| admin.organizational_units().contains(&unit.name))
        };
        if vouched && roles.iter().any(named) {
            return Ok(());
        }
        Err(MspRefused::AdminWithoutRole(subject))
    }
}

fn hashes(config: &FabricMspConfig) -> Result<(Option<HashFamily>, IdentityHash), MspRefused> {
    let Some(crypto) = &config.crypto_config else {
        return Ok((Some(HashFamily::Sha2), IdentityHash::Sha256));
    };
    let family = match crypto.signature_hash_family.as_str() {
        "" | "SHA2" => Some(HashFamily::Sha2),
        "SHA3" => Some(HashFamily::Sha3),
        _ => None,
    };
    let hash = match crypto.identity_identifier_hash_function.as_str() {
        "" | "SHA256" => IdentityHash::Sha256,
        "SHA384" => IdentityHash::Sha384,
        "SHA3_256" => IdentityHash::Sha3_256,
        "SHA3_384" => IdentityHash::Sha3_384,
        other => return Err(MspRefused::IdentityHash(other.to_owned())),
    };
    Ok((family, hash))
}

/// The CAs in sanitized form. Sanitizing an intermediate needs the others as they came.
fn authorities(config: &FabricMspConfig) -> Result<Authorities, MspRefused> {
    if config.root_certs.is_empty() {
        return Err(MspRefused::NoRoots);
    }
    let roots = certificates(CaKind::Root, &config.root_certs)?;
    let intermediates = certificates(CaKind::Intermediate, &config.intermediate_certs)?;
    let as_given = Authorities::new(roots.clone(), intermediates.clone());
    let sanitized = |kind, list: Vec<Certificate>| {
        let one = |ca: Certificate| {
            let refused = chain_refused(kind, &ca);
            as_given.sanitize(ca).map_err(refused)
        };
        list.into_iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    let roots = sanitized(CaKind::Root, roots)?;
    let intermediates = sanitized(CaKind::Intermediate, intermediates)?;
    Ok(Authorities::new(roots, intermediates))
}

fn certificates(kind: CaKind, items: &[Bytes]) -> Result<Vec<Certificate>, MspRefused> {
    let numbered = items.iter().zip(1..);
    let parsed = numbered.map(|(item, number)| {
        Certificate::from_pem(item).map_err(|reason| MspRefused::Certificate {
            kind,
            number,
            reason,
        })
    });
    parsed.collect()
}

fn crls(config: &FabricMspConfig) -> Result<Vec<Crl>, MspRefused> {
    let numbered = config.revocation_list.iter().zip(1..);
    let parsed = numbered.map(|(item, number)| {
        Crl::parse(item).map_err(|reason| MspRefused::Crl { number, reason })
    });
    parsed.collect()
}

/// Certificates for a TLS pool: every block of every item.
fn ders(items: &[Bytes]) -> Vec<Vec<u8>> {
    items
        .iter()
        .flat_map(|item| pem::blocks(item))
        .map(|block| block.content)
        .collect()
}

fn check_ca(kind: CaKind, ca: &Certificate) -> Result<(), MspRefused> {
    let subject = || ca.subject().to_owned();
    if !ca.is_ca() {
        return Err(MspRefused::NotACa {
            kind,
            subject: subject(),
        });
    }
    if ca.extensions().subject_key_id.is_none() {
        return Err(MspRefused::NoSubjectKeyId {
            kind,
            subject: subject(),
        });
    }
    Ok(())
}

fn chain_refused(kind: CaKind, of: &Certificate) -> impl Fn(ChainRefused) -> MspRefused + use<> {
    let subject = of.subject().to_owned();
    move |reason| MspRefused::Chain {
        kind,
        subject: subject.clone(),
        reason,
    }
}

#[cfg(test)]
mod tests;
