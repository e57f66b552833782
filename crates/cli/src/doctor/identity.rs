//! Who the node is, by its MSP folder, and what the channels make of that.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidings_msp::channel_config::ChannelConfig;
use tidings_msp::folder::FolderWarning;
use tidings_msp::identity::SigningIdentity;
use tidings_msp::msp::Msp;
use tidings_node::msp_folder;
use tidings_proto::Message as _;
use tidings_proto::msp::SerializedIdentity;

use super::channels::Channel;
use super::dates;
use super::finding::Finding;

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
        let local = msp_folder::load(dir, msp_id).map_err(|error| error.to_string())?;
        Ok(Self {
            msp: local.msp,
            signer: Arc::new(local.signer),
            warnings: local.warnings,
        })
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
                        "name a folder with cacerts, signcerts and keystore that belong together",
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

/// What each channel makes of our certificate under our MSP id.
pub(super) fn membership(local: &Local, channels: &[Channel]) -> Vec<Finding> {
    channels
        .iter()
        .map(|channel| in_channel(local, &channel.name, &channel.config))
        .collect()
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
