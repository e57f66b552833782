//! Organizational units that decide: the list of those let in, and those that give roles.

use std::collections::BTreeMap;

use crate::certificate::Certificate;
use crate::msp::IdentityRefused;

/// A role that an organizational unit can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Client,
    Peer,
    Admin,
    Orderer,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Client, Self::Peer, Self::Admin, Self::Orderer];

    /// The role's name for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Admin => "admin",
            Self::Orderer => "orderer",
        }
    }

    /// The key of the role in configuration files, for messages.
    pub(crate) fn config_key(self) -> &'static str {
        match self {
            Self::Client => "ClientOUIdentifier",
            Self::Peer => "PeerOUIdentifier",
            Self::Admin => "AdminOUIdentifier",
            Self::Orderer => "OrdererOUIdentifier",
        }
    }
}

/// An organizational unit, and the chain that must vouch for it where one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) certifier: Option<Vec<u8>>,
}

/// Which organizational unit gives which role. Exists only where roles are enforced.
#[derive(Debug, Default)]
pub(super) struct NodeOus {
    units: BTreeMap<Role, Unit>,
}

impl NodeOus {
    pub(super) fn set(&mut self, role: Role, unit: Unit) {
        self.units.insert(role, unit);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(super) fn unit(&self, role: Role) -> Option<&Unit> {
        self.units.get(&role)
    }

    /// Exactly one organizational unit of the subject must give a role, by the right CA.
    pub(super) fn check(
        &self,
        certificate: &Certificate,
        certifier: &[u8],
    ) -> Result<(), IdentityRefused> {
        let subject = || certificate.subject().to_owned();
        let mut roles = 0;
        for name in certificate.organizational_units() {
            // Where two roles share a name the later one counts, in Go's order of the roles.
            let special = self.units.values().rev().find(|unit| unit.name == *name);
            let Some(unit) = special else { continue };
            if unit
                .certifier
                .as_deref()
                .is_some_and(|expected| expected != certifier)
            {
                let unit = name.clone();
                return Err(IdentityRefused::WrongCertifier {
                    subject: subject(),
                    unit,
                });
            }
            roles += 1;
        }
        match roles {
            0 => Err(IdentityRefused::NoRole(subject())),
            1 => Ok(()),
            _ => Err(IdentityRefused::SeveralRoles(subject())),
        }
    }
}

/// The organizational units that are let in, each with the chains that may vouch. Empty: all.
#[derive(Debug, Default)]
pub(super) struct OuList {
    certifiers: BTreeMap<String, Vec<Vec<u8>>>,
}

impl OuList {
    pub(super) fn add(&mut self, name: String, certifier: Vec<u8>) {
        self.certifiers.entry(name).or_default().push(certifier);
    }

    pub(super) fn check(
        &self,
        certificate: &Certificate,
        certifier: &[u8],
    ) -> Result<(), IdentityRefused> {
        let listed = |name: &String| {
            let certifiers = self.certifiers.get(name);
            certifiers.is_some_and(|all| all.iter().any(|one| one == certifier))
        };
        let units = certificate.organizational_units();
        if self.certifiers.is_empty() || units.iter().any(listed) {
            return Ok(());
        }
        Err(IdentityRefused::NotInOuList(
            certificate.subject().to_owned(),
        ))
    }
}
