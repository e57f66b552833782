//! Who the node is, by its MSP folder, and what the channels make of that.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidings_msp::channel_config::ChannelConfig;
use tidings_msp::folder::FolderWarning;
use tidings_msp::identity::SigningIdentity;
use tidings_msp::msp::Msp;
use tidings_msp::principal::PrincipalRefused;
use tidings_node::msp_folder;
use tidings_node::view::View;
use tidings_proto::Message as _;
use tidings_proto::common::{
    MspPrincipal, MspRole, msp_principal::Classification, msp_role::MspRoleType,
};
use tidings_proto::msp::SerializedIdentity;

use super::channels::{Age, Channel};
use super::dates;
use super::finding::{Finding, Severity};

const CHECK: &str = "identity";

const FOLDER: &str = "peer.mspConfigPath";

const MSP_ID: &str = "peer.localMspId";

/// The own MSP with the own key.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) msp: Arc<Msp>,
    pub(super) signer: Arc<SigningIdentity>,
    warnings: Vec<FolderWarning>,
}

impl Local {
    /// Reads the folder as the node does at its start.
    pub(super) fn load(dir: &Path, msp_id: &str) -> Result<Self, String> {
        let local = msp_folder::load(dir, msp_id).map_err(|error| {
            let below = dir.join("msp");
            match below.is_dir() {
                true => format!("{error}; {} may be meant", below.display()),
                false => error.to_string(),
            }
        })?;
        Ok(Self {
            msp: local.msp,
            signer: Arc::new(local.signer),
            warnings: local.warnings,
        })
    }

    /// Whether the node that runs is this one.
    pub(super) fn is(&self, node: &View) -> bool {
        node.peer == hex::encode(self.signer.pki_id())
    }
}

/// Key, chain to the own roots and dates.
pub(super) fn judge(
    local: &Result<Local, String>,
    (dir, msp_id): (&Path, &str),
    now: i64,
) -> Vec<Finding> {
    let place = dir.display().to_string();
    let local = match local {
        Ok(local) => local,
        Err(reason) => {
            return vec![
                Finding::fault(CHECK, reason.clone())
                    .at(place)
                    .because("the node does not start without an identity of its own")
                    .change(
                        FOLDER,
                        "name a folder with cacerts, signcerts, keystore and config.yaml that belong together, or mend this one",
                    ),
            ];
        }
    };
    let certificate = local.signer.certificate();
    let name = certificate.common_name();
    let what = format!("the certificate of {name} in signcerts");
    let dates = (certificate.not_before(), certificate.not_after());
    let dated = dates::judge(CHECK, &what, dates, now).map(|finding| {
        finding.at(place.clone()).change(
            FOLDER,
            "enrol again, put the new certificate into signcerts, and start the node again",
        )
    });
    let judged = dated.unwrap_or_else(|| {
        let until = dates::day(certificate.not_after());
        let found = format!("{name} of {msp_id}, good until {until}; key and roots fit");
        Finding::ok(CHECK, found).at(place.clone())
    });
    let odd = local.warnings.iter().map(|warning| {
        Finding::warning(CHECK, warning.to_string())
            .at(place.clone())
            .change(FOLDER, "mend or remove that file")
    });
    std::iter::once(judged).chain(odd).collect()
}

/// Whether the settings here are those of the node that runs. `local` is what its organization
/// makes of the folder here.
pub(super) fn compared(
    local: &Local,
    (dir, msp_id): (&Path, &str),
    node: &View,
) -> Option<Finding> {
    const ADVICE: &str = "unset the CORE_ variables that this shell has for another program; or start the node again, if the settings here are right";
    let (runs, of) = (short(&node.peer), &node.organization);
    let finding = if !local.is(node) {
        let name = local.signer.certificate().common_name();
        let here = hex::encode(local.signer.pki_id());
        let here = short(&here);
        let found = format!(
            "the node that runs is {runs} of {of}, and the MSP folder named here is of {name} ({here}), as of {msp_id}"
        );
        let settings = match msp_id == of {
            true => FOLDER.to_owned(),
            false => format!("{FOLDER}, {MSP_ID}"),
        };
        let finding = Finding::warning(CHECK, found).at(dir.display().to_string());
        finding.change(settings, ADVICE)
    } else if msp_id != of {
        let found = format!("the node that runs is {runs} of {of}, and {MSP_ID} is {msp_id} here");
        Finding::warning(CHECK, found).change(MSP_ID, ADVICE)
    } else {
        return None;
    };
    Some(finding.because("the node was started with other settings than these, and its next start with these would make it another peer"))
}

fn short(hex: &str) -> String {
    hex.chars().take(8).collect()
}

/// Whether our certificate is that of a peer, wherever certificates tell. How a channel tells roles
/// apart may have changed since an old configuration.
pub(super) fn role(local: &Local, dir: &Path, channels: &[Channel]) -> Option<Finding> {
    let own = local.signer.serialized();
    let id = local.signer.msp_id();
    let known = channels.iter().filter(|channel| !channel.is_old());
    let of_channels = known.filter_map(|channel| channel.config.msp(id));
    let is = |msp: &Msp, role| {
        let identity = msp.deserialize(own).ok()?;
        Some(msp.satisfies(&identity, &in_role(id, role)))
    };
    let mut msps = std::iter::once(&local.msp).chain(of_channels);
    let msp = msps.find(|msp| {
        let refused = is(msp, MspRoleType::Peer).and_then(Result::err);
        refused.is_some_and(|reason| matches!(reason, PrincipalRefused::NotInRole(_)))
    })?;
    let roles = [
        (MspRoleType::Client, "client"),
        (MspRoleType::Admin, "admin"),
        (MspRoleType::Orderer, "orderer"),
    ];
    let mut roles = roles.iter();
    let held = roles.find(|(role, _)| is(msp, *role).is_some_and(|is| is.is_ok()));
    let held = held.map_or("no peer", |(_, name)| name);
    let name = local.signer.certificate().common_name();
    Some(
        Finding::fault(CHECK, format!("the certificate of {name} in signcerts makes it {held} by its OU, and a node has to be a peer"))
            .at(dir.display().to_string())
            .because("others count it for no peer of our organization: policies that want one refuse it blocks and private data")
            .change(FOLDER, "name the MSP folder of a peer, not that of a user; or have a certificate of type peer issued for this node"),
    )
}

fn in_role(msp_id: &str, role: MspRoleType) -> MspPrincipal {
    let role = MspRole {
        msp_identifier: msp_id.to_owned(),
        role: role.into(),
    };
    MspPrincipal {
        principal_classification: Classification::Role.into(),
        principal: role.encode_to_vec().into(),
    }
}

/// What each channel makes of our certificate under our MSP id.
pub(super) fn membership(local: &Local, channels: &[Channel]) -> Vec<Finding> {
    let judge = |channel: &Channel| {
        let finding = in_channel(local, &channel.name, &channel.config);
        // Whose CA issued it is known whatever came after the first configuration.
        let is_of_another =
            finding.setting.as_deref() == Some(MSP_ID) && finding.severity == Severity::Fault;
        match channel.age {
            Age::Unknown if is_of_another => channel.hedged(finding),
            _ => channel.judged(finding),
        }
    };
    channels.iter().map(judge).collect()
}

fn in_channel(local: &Local, channel: &str, config: &ChannelConfig) -> Finding {
    const CHECK: &str = "organization";
    let msp_id = local.signer.msp_id();
    let refused = accepts(config, local, msp_id).err();
    let Some(reason) = refused else {
        let found = format!("channel {channel} takes our certificate for one of {msp_id}");
        return Finding::ok(CHECK, found).at(channel);
    };
    let organizations = config.application_organizations().values();
    let ids = organizations.map(|organization| organization.msp_id.as_str());
    let real = ids.clone().find(|id| accepts(config, local, id).is_ok());
    let known: Vec<&str> = ids.collect();
    let known = known.join(", ");
    let is_named = config.msp(msp_id).is_some();
    match real {
        Some(real) => Finding::fault(
            CHECK,
            format!("{MSP_ID} is {msp_id}, and channel {channel} knows our certificate as one of {real}"),
        )
        .because("orderers and peers of the channel refuse whatever this node signs")
        .change(MSP_ID, format!("write {real}")),
        None if is_named => Finding::fault(
            CHECK,
            format!("channel {channel} does not take our certificate for one of {msp_id}: {reason}"),
        )
        .because("orderers and peers of the channel refuse whatever this node signs")
        .change(
            FOLDER,
            format!("name the MSP folder of a peer of {msp_id}; or the channel is one of another network"),
        ),
        None => Finding::warning(
            CHECK,
            format!("channel {channel} does not name {msp_id}; its organizations are {known}"),
        )
        .because("until its configuration does, blocks come from the orderers alone, if they give any")
        .change(MSP_ID, "correct it, or have the organization added to the channel"),
    }
    .at(channel)
}

/// Whether the channel takes our certificate for one of this organization.
fn accepts(config: &ChannelConfig, local: &Local, msp_id: &str) -> Result<(), String> {
    let identity = SerializedIdentity {
        mspid: msp_id.to_owned(),
        id_bytes: Bytes::from(local.signer.certificate().to_pem()),
    };
    let msps = config.msps();
    let found = msps.deserialize(&identity.encode_to_vec());
    found
        .and_then(|identity| msps.validate(&identity))
        .map_err(|reason| reason.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::demo::sample;

    fn user(dir: &Path, org: u16, name: &str) -> PathBuf {
        let users = dir.join(format!("crypto/peerOrganizations/org{org}.demo/users"));
        users.join(format!("{name}@org{org}.demo/msp"))
    }

    #[test]
    fn a_certificate_of_another_role_than_peer_is_a_fault() {
        let (dir, material) = sample::network(1);
        let role = |msp: &Path| role(&Local::load(msp, "Org1MSP").unwrap(), msp, &[]);
        assert_eq!(role(&material.orgs[0].peers[0].msp), None);
        for (name, held) in [("User1", "it client"), ("Admin", "it admin")] {
            let finding = role(&user(dir.path(), 1, name)).unwrap();
            assert_eq!(finding.severity, Severity::Fault);
            assert!(finding.found.contains(held), "{finding:?}");
            assert_eq!(finding.setting.as_deref(), Some(FOLDER));
        }
    }

    #[test]
    fn settings_that_are_not_those_of_the_node_that_runs_are_named_with_both_values() {
        let (dir, material) = sample::network(2);
        let peer = &material.orgs[0].peers[0].msp;
        let local = Local::load(peer, "Org1MSP").unwrap();
        let node = View {
            peer: hex::encode(local.signer.pki_id()),
            organization: "Org1MSP".into(),
            ..View::default()
        };
        assert_eq!(compared(&local, (peer, "Org1MSP"), &node), None);
        let told = |local: &Local, dir: &Path, id: &str, here: &str, settings: &str| {
            let finding = compared(local, (dir, id), &node).unwrap();
            assert_eq!(finding.severity, Severity::Warning);
            for value in [&node.peer[..8], "of Org1MSP", here] {
                assert!(finding.found.contains(value), "{value}: {finding:?}");
            }
            assert_eq!(finding.setting.as_deref(), Some(settings));
        };
        told(
            &local,
            peer,
            "Org9MSP",
            "peer.localMspId is Org9MSP",
            MSP_ID,
        );
        let dir = user(dir.path(), 2, "Admin");
        let other = Local::load(&dir, "Org2MSP").unwrap();
        let both = "peer.mspConfigPath, peer.localMspId";
        told(&other, &dir, "Org2MSP", "Admin@org2.demo", both);
        told(&other, &dir, "Org1MSP", "Admin@org2.demo", FOLDER);
    }
}
