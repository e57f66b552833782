//! Principals: descriptions of identities that policies are made of.

use prost::Message;
use tidings_proto::common::{
    CombinedPrincipal, MspIdentityAnonymity, MspPrincipal, MspRole, OrganizationUnit,
    msp_identity_anonymity::MspIdentityAnonymityType, msp_principal::Classification,
    msp_role::MspRoleType,
};

use crate::identity::Identity;
use crate::msp::roles::Role;
use crate::msp::{IdentityRefused, Msp, MspVersion};

/// Why an identity is not what a principal describes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalRefused {
    /// The principal is not a message of its class.
    #[error("the principal is not a valid {0}")]
    Malformed(&'static str),
    /// The principal's class or role does not exist in this version of the MSP.
    #[error("principal class or role {0} does not exist in this MSP version")]
    Unsupported(i32),
    /// A combination of nothing.
    #[error("a combined principal without parts")]
    EmptyCombination,
    /// The principal is about another MSP.
    #[error("the principal is about {wanted}, the identity belongs to {got}")]
    OtherMsp {
        /// The MSP of the principal.
        wanted: String,
        /// The MSP of the identity.
        got: String,
    },
    /// The MSP does not approve the identity.
    #[error(transparent)]
    Identity(#[from] IdentityRefused),
    /// The MSP does not tell roles apart, or not this one.
    #[error("the MSP does not define the role {0}")]
    RoleUndefined(&'static str),
    /// The identity is in another role.
    #[error("the identity does not have the role {0}")]
    NotInRole(&'static str),
    /// The identity is not in the organizational unit, or by another CA.
    #[error("the identity is not in organizational unit {0} by the right CA")]
    NotInUnit(String),
    /// Another certificate.
    #[error("the identity is not the one that the principal names")]
    NotTheOne,
    /// X.509 identities are never anonymous.
    #[error("the principal demands anonymity, which certificates do not have")]
    NotAnonymous,
}

impl Msp {
    /// Whether an identity of this MSP is what a principal describes.
    pub fn satisfies(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), PrincipalRefused> {
        self.check_own(identity)?;
        // Combinations nest without limit, so they are unfolded on a list, not on the stack.
        let mut waiting = vec![principal.clone()];
        let mut simple = Vec::new();
        while let Some(principal) = waiting.pop() {
            if principal.principal_classification != Classification::Combined as i32 {
                simple.push(principal);
                continue;
            }
            if self.version() < MspVersion::V1_3 {
                return Err(PrincipalRefused::Unsupported(
                    principal.principal_classification,
                ));
            }
            let parts = CombinedPrincipal::decode(principal.principal)
                .or(Err(PrincipalRefused::Malformed("CombinedPrincipal")))?;
            if parts.principals.is_empty() {
                return Err(PrincipalRefused::EmptyCombination);
            }
            waiting.extend(parts.principals.into_iter().rev());
        }
        simple
            .iter()
            .try_for_each(|principal| self.satisfies_one(identity, principal))
    }

    fn satisfies_one(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), PrincipalRefused> {
        let class = principal.principal_classification;
        match Classification::try_from(class) {
            Ok(Classification::Role) => self.has_role(identity, principal),
            Ok(Classification::OrganizationUnit) => self.is_in_unit(identity, principal),
            Ok(Classification::Identity) => self.is_the_one(identity, principal),
            Ok(Classification::Anonymity) if self.version() >= MspVersion::V1_3 => {
                is_not_anonymous(principal)
            }
            _ => Err(PrincipalRefused::Unsupported(class)),
        }
    }

    fn has_role(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), PrincipalRefused> {
        let wanted = MspRole::decode(principal.principal.clone())
            .or(Err(PrincipalRefused::Malformed("MSPRole")))?;
        self.check_about_us(wanted.msp_identifier)?;
        match MspRoleType::try_from(wanted.role) {
            Ok(MspRoleType::Member) => Ok(self.validate(identity)?),
            Ok(MspRoleType::Admin) => self.is_admin(identity),
            Ok(MspRoleType::Client) => self.has_unit_role(identity, Role::Client),
            Ok(MspRoleType::Peer) => self.has_unit_role(identity, Role::Peer),
            Ok(MspRoleType::Orderer) if self.enforces_all_roles() => {
                self.has_unit_role(identity, Role::Orderer)
            }
            _ => Err(PrincipalRefused::Unsupported(wanted.role)),
        }
    }

    fn is_admin(&self, identity: &Identity) -> Result<(), PrincipalRefused> {
        if self.is_explicit_admin(identity.certificate()) {
            return Ok(());
        }
        if !self.enforces_all_roles() {
            return Err(PrincipalRefused::NotInRole("admin"));
        }
        self.has_unit_role(identity, Role::Admin)
    }

    fn has_unit_role(&self, identity: &Identity, role: Role) -> Result<(), PrincipalRefused> {
        self.validate(identity)?;
        let unit = self
            .unit_name(role)
            .ok_or_else(|| PrincipalRefused::RoleUndefined(role.name()))?;
        if identity
            .certificate()
            .organizational_units()
            .iter()
            .any(|name| name == unit)
        {
            return Ok(());
        }
        Err(PrincipalRefused::NotInRole(role.name()))
    }

    fn is_in_unit(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), PrincipalRefused> {
        let wanted = OrganizationUnit::decode(principal.principal.clone())
            .or(Err(PrincipalRefused::Malformed("OrganizationUnit")))?;
        self.check_about_us(wanted.msp_identifier)?;
        self.validate(identity)?;
        let certifier = self.certifier(identity.certificate());
        let unit = wanted.organizational_unit_identifier;
        let named = identity
            .certificate()
            .organizational_units()
            .contains(&unit);
        if named && certifier.is_some_and(|chain| chain == wanted.certifiers_identifier) {
            return Ok(());
        }
        Err(PrincipalRefused::NotInUnit(unit))
    }

    fn is_the_one(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), PrincipalRefused> {
        let named = self.deserialize(&principal.principal)?;
        if named.certificate() != identity.certificate() {
            return Err(PrincipalRefused::NotTheOne);
        }
        Ok(self.validate(&named)?)
    }

    fn check_about_us(&self, wanted: String) -> Result<(), PrincipalRefused> {
        if *wanted == **self.id() {
            return Ok(());
        }
        Err(PrincipalRefused::OtherMsp {
            wanted,
            got: self.id().to_string(),
        })
    }
}

fn is_not_anonymous(principal: &MspPrincipal) -> Result<(), PrincipalRefused> {
    let wanted = MspIdentityAnonymity::decode(principal.principal.clone())
        .or(Err(PrincipalRefused::Malformed("MSPIdentityAnonymity")))?;
    match MspIdentityAnonymityType::try_from(wanted.anonymity_type) {
        Ok(MspIdentityAnonymityType::Nominal) => Ok(()),
        Ok(MspIdentityAnonymityType::Anonymous) => Err(PrincipalRefused::NotAnonymous),
        Err(_) => Err(PrincipalRefused::Unsupported(wanted.anonymity_type)),
    }
}

#[cfg(test)]
mod tests;
