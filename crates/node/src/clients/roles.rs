//! What somebody is in our own organization: what Fabric's policies without a channel ask.

use prost::Message;
use tidings_msp::{identity::Identity, msp::Msp};
use tidings_proto::common::{
    MspPrincipal, MspRole, msp_principal::Classification, msp_role::MspRoleType,
};

/// Whether a client has a role in our organization.
pub(super) fn check_role(local: &Msp, client: &Identity, role: MspRoleType) -> Result<(), String> {
    let role = MspRole {
        msp_identifier: local.id().to_string(),
        role: role.into(),
    };
    let principal = MspPrincipal {
        principal_classification: Classification::Role.into(),
        principal: role.encode_to_vec().into(),
    };
    local
        .satisfies(client, &principal)
        .map_err(|refused| refused.to_string())
}
