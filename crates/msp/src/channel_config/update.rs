//! Whether the members were allowed to make the next configuration.
//!
//! The configuration block carries the whole new tree and the update that led to it. Nothing in
//! the tree is believed: the update is authorised element by element against the configuration
//! in force, applied to it, and the result must be the tree that the block carries.
//!
//! Rules: docs/protocol/blocks.md.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use prost::Message;
use tidings_proto::common::{
    self, Config, ConfigEnvelope, ConfigGroup, ConfigUpdate, ConfigUpdateEnvelope, Envelope,
    HeaderType, Payload, SignatureHeader,
};

use super::{
    ChannelConfig, ConfigRefused, ConfigTransaction, decode, decode_config_envelope,
    tree::{self, Element, Kind, Place},
};
use crate::policy::{self, PolicyRefused, SignedDatum};

/// Why a configuration block does not follow the configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateRefused {
    /// The transaction itself is not signed by somebody of the channel. Fabric marks it invalid
    /// and keeps its configuration; every other variant makes the block unacceptable.
    #[error("the configuration transaction is invalid: {0}")]
    Envelope(#[from] EnvelopeRefused),
    /// The new configuration is not valid in itself, or does not decode.
    #[error("{0}")]
    Config(#[from] ConfigRefused),
    /// Another channel's block or update.
    #[error("configuration of channel '{named}', but this is channel '{channel}'")]
    Channel {
        /// Ours.
        channel: String,
        /// The one it names.
        named: String,
    },
    /// Not the next number.
    #[error("configuration is at sequence {current}, so the next cannot be {got}")]
    Sequence {
        /// In force.
        current: u64,
        /// In the block.
        got: u64,
    },
    /// The update is not a CONFIG_UPDATE transaction.
    #[error("the update in the configuration block has type {0}, not CONFIG_UPDATE")]
    NotAnUpdate(i32),
    /// The update was made for another state of an element.
    #[error("the update was made when {place} was at version {read}; it is at {current}")]
    ReadSet {
        /// The element.
        place: String,
        /// The version that the update read.
        read: u64,
        /// The version now.
        current: u64,
    },
    /// The update read an element that there is not.
    #[error("the update was made when there was a {place}; there is none")]
    ReadSetAbsent {
        /// The element.
        place: String,
    },
    /// The update changes nothing.
    #[error("the update changes nothing")]
    NoChange,
    /// A changed element names no policy, or not by a name, for its next change.
    #[error("{place} has the invalid modification policy '{mod_policy}'")]
    ModPolicy {
        /// The element.
        place: String,
        /// The name.
        mod_policy: String,
    },
    /// A new element does not start at version 0, or a changed one does not go up by one.
    #[error("{place} must go to version {expected}, not {got}")]
    Version {
        /// The element.
        place: String,
        /// The only version possible.
        expected: u64,
        /// The version in the update.
        got: u64,
    },
    /// Not enough members agreed to the change of an element.
    #[error("{place} may not be changed by these signers: {refused}")]
    NotAllowed {
        /// The element.
        place: String,
        /// Why.
        refused: PolicyRefused,
    },
    /// The tree in the block is not the result of the update in it.
    #[error("the configuration in the block is not what its update leads to")]
    OtherResult,
    /// The consensus type changed without the capability for it.
    #[error("consensus type cannot change from {from} to {to} below capability V1_4_2")]
    Consensus {
        /// In force.
        from: String,
        /// In the block.
        to: String,
    },
    /// Consortiums appear or vanish.
    #[error("the Consortiums section cannot be added or removed")]
    Consortiums,
    /// An organization keeps its key and changes its MSP's id.
    #[error("{section} organization {key} cannot change its MSP id from {from} to {to}")]
    MspId {
        /// The section.
        section: &'static str,
        /// The key of the organization.
        key: String,
        /// In force.
        from: String,
        /// In the block.
        to: String,
    },
}

/// Why the transaction around a configuration is not somebody's of the channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeRefused {
    /// Header, creator or nonce is missing, or does not decode.
    #[error("it has no usable {0}")]
    Header(&'static str),
    /// The creator is unknown to the channel, or not valid.
    #[error("its creator is refused: {0}")]
    Creator(String),
    /// The creator's signature is not good.
    #[error("its creator's signature is refused: {0}")]
    Signature(String),
}

/// See [`ChannelConfig::apply`].
pub(super) fn apply(
    current: &ChannelConfig,
    block: &Bytes,
) -> Result<ChannelConfig, UpdateRefused> {
    let transaction = ConfigTransaction::of_block(block)?;
    check_channel(current, &transaction.channel_id)?;
    check_creator(current, &transaction)?;
    let envelope = decode_config_envelope(&transaction.payload.data)?;
    let config = envelope
        .config
        .ok_or(ConfigRefused::Missing("configuration in its envelope"))?;
    if current.sequence.checked_add(1) != Some(config.sequence) {
        return Err(UpdateRefused::Sequence {
            current: current.sequence,
            got: config.sequence,
        });
    }
    let update = envelope
        .last_update
        .ok_or(ConfigRefused::Missing("update in its envelope"))?;
    let result = authorize(current, update)?;
    if config.channel_group.as_ref() != Some(&result) {
        return Err(UpdateRefused::OtherResult);
    }
    let config = Config {
        sequence: config.sequence,
        channel_group: Some(result),
    };
    follow(current, config)
}

/// See [`ChannelConfig::propose`].
pub(super) fn propose(
    current: &ChannelConfig,
    update: Envelope,
) -> Result<ConfigEnvelope, UpdateRefused> {
    let group = authorize(current, update.clone())?;
    let config = Config {
        // No chain is as long as that.
        sequence: current.sequence.saturating_add(1),
        channel_group: Some(group),
    };
    follow(current, config.clone())?;
    Ok(ConfigEnvelope {
        config: Some(config),
        last_update: Some(update),
    })
}

/// Takes the tree that an update leads to for the next configuration.
fn follow(current: &ChannelConfig, config: Config) -> Result<ChannelConfig, UpdateRefused> {
    let next = ChannelConfig::new(&current.channel_id, config)?;
    check_continuity(current, &next)?;
    Ok(next)
}

/// Checks the transaction's own signature.
fn check_creator(
    current: &ChannelConfig,
    transaction: &ConfigTransaction,
) -> Result<(), EnvelopeRefused> {
    let header = transaction
        .payload
        .header
        .as_ref()
        .ok_or(EnvelopeRefused::Header("header"))?;
    let Ok(header) = SignatureHeader::decode(header.signature_header.clone()) else {
        return Err(EnvelopeRefused::Header("signature header"));
    };
    if header.creator.is_empty() {
        return Err(EnvelopeRefused::Header("creator"));
    }
    if header.nonce.is_empty() {
        return Err(EnvelopeRefused::Header("nonce"));
    }
    let refused = |refused: &dyn std::error::Error| EnvelopeRefused::Creator(refused.to_string());
    let creator = current
        .msps
        .deserialize(&header.creator)
        .map_err(|error| refused(&error))?;
    current
        .msps
        .validate(&creator)
        .map_err(|error| refused(&error))?;
    creator
        .verify(
            &transaction.envelope.payload,
            &transaction.envelope.signature,
        )
        .map_err(|refused| EnvelopeRefused::Signature(refused.to_string()))
}

/// The tree that the update leads to, once everybody whose consent it needs has signed it.
fn authorize(current: &ChannelConfig, update: Envelope) -> Result<ConfigGroup, UpdateRefused> {
    let signed = SignedUpdate::decode(update)?;
    let update = &signed.update;
    check_channel(current, &update.channel_id)?;
    let existing = tree::elements(Some(&current.group))?;
    let read = tree::elements(update.read_set.as_ref())?;
    check_read_set(&existing, &read)?;
    let written = tree::elements(update.write_set.as_ref())?;
    let changes: BTreeMap<_, _> = written
        .iter()
        .filter(|(place, element)| {
            read.get(*place)
                .is_none_or(|read| read.version() != element.version())
        })
        .map(|(place, element)| (place.clone(), *element))
        .collect();
    check_changes(current, &existing, &changes, &signed)?;
    let mut result = existing;
    result.extend(changes);
    rebuild(&result, &[]).ok_or(UpdateRefused::OtherResult)
}

/// An update and who is said to have signed it.
struct SignedUpdate {
    bytes: Bytes,
    update: ConfigUpdate,
    signatures: Vec<UpdateSignature>,
}

struct UpdateSignature {
    header: Bytes,
    creator: Bytes,
    signature: Bytes,
}

impl SignedUpdate {
    fn decode(envelope: Envelope) -> Result<Self, UpdateRefused> {
        let payload: Payload = decode("payload of the update", envelope.payload)?;
        let header = payload
            .header
            .ok_or(ConfigRefused::Missing("header in its update"))?
            .channel_header;
        let header: common::ChannelHeader = decode("channel header of the update", header)?;
        if header.r#type != HeaderType::ConfigUpdate as i32 {
            return Err(UpdateRefused::NotAnUpdate(header.r#type));
        }
        let envelope: ConfigUpdateEnvelope = decode("update envelope", payload.data)?;
        let update = decode("update", envelope.config_update.clone())?;
        let mut signatures = Vec::new();
        for signature in envelope.signatures {
            let header = signature.signature_header;
            let decoded: SignatureHeader =
                decode("signature header of the update", header.clone())?;
            signatures.push(UpdateSignature {
                header,
                creator: decoded.creator,
                signature: signature.signature,
            });
        }
        Ok(Self {
            bytes: envelope.config_update,
            update,
            signatures,
        })
    }

    /// What was signed, each put together when its turn comes: all together may not fit memory.
    fn data(&self) -> impl ExactSizeIterator<Item = SignedDatum<'_>> {
        self.signatures.iter().map(|one| SignedDatum {
            message: Cow::Owned([&one.header[..], &self.bytes[..]].concat()),
            identity: Cow::Borrowed(&one.creator),
            signature: Cow::Borrowed(&one.signature),
        })
    }
}

fn check_channel(current: &ChannelConfig, named: &str) -> Result<(), UpdateRefused> {
    if named == current.channel_id {
        return Ok(());
    }
    Err(UpdateRefused::Channel {
        channel: current.channel_id.clone(),
        named: named.to_owned(),
    })
}

fn check_read_set(
    existing: &BTreeMap<Place, Element<'_>>,
    read: &BTreeMap<Place, Element<'_>>,
) -> Result<(), UpdateRefused> {
    for (place, read) in read {
        let Some(element) = existing.get(place) else {
            return Err(UpdateRefused::ReadSetAbsent {
                place: place.to_string(),
            });
        };
        if element.version() != read.version() {
            return Err(UpdateRefused::ReadSet {
                place: place.to_string(),
                read: read.version(),
                current: element.version(),
            });
        }
    }
    Ok(())
}

fn check_changes(
    current: &ChannelConfig,
    existing: &BTreeMap<Place, Element<'_>>,
    changes: &BTreeMap<Place, Element<'_>>,
    signed: &SignedUpdate,
) -> Result<(), UpdateRefused> {
    if changes.is_empty() {
        return Err(UpdateRefused::NoChange);
    }
    let refused = |place: &Place, refused| UpdateRefused::NotAllowed {
        place: place.to_string(),
        refused,
    };
    // Signatures are verified once, not once for every changed element.
    let mut signers = None;
    for (place, change) in changes {
        if !is_policy_name(change.mod_policy()) {
            return Err(UpdateRefused::ModPolicy {
                place: place.to_string(),
                mod_policy: change.mod_policy().to_owned(),
            });
        }
        let element = existing.get(place);
        // The last version there is has no next one.
        let expected = element.map_or(Some(0), |element| element.version().checked_add(1));
        if expected != Some(change.version()) {
            return Err(UpdateRefused::Version {
                place: place.to_string(),
                expected: expected.unwrap_or(u64::MAX),
                got: change.version(),
            });
        }
        let Some(element) = element else { continue };
        let name = element.mod_policy();
        let policy = current
            .policies
            .mod_policy(place.policy_group(), name)
            .ok_or_else(|| {
                refused(
                    place,
                    PolicyRefused::Unknown {
                        path: name.to_owned(),
                    },
                )
            })?;
        let signers = match &signers {
            Some(signers) => signers,
            None => {
                let verified = policy::signers(&current.msps, signed.data());
                signers.insert(verified.map_err(|error| refused(place, error))?)
            }
        };
        policy
            .evaluate_identities(signers)
            .map_err(|error| refused(place, error))?;
    }
    Ok(())
}

/// Whether this can be the name of a policy, absolute or relative.
fn is_policy_name(name: &str) -> bool {
    name.strip_prefix('/')
        .unwrap_or(name)
        .split('/')
        .all(tree::is_config_key)
}

/// The group at `names` with everything that it lists; nothing if an element is not there. Depth
/// was limited when the elements were collected.
fn rebuild(elements: &BTreeMap<Place, Element<'_>>, names: &[String]) -> Option<ConfigGroup> {
    let place = Place {
        names: names.to_vec(),
        kind: Kind::Group,
    };
    let Some(Element::Group(group)) = elements.get(&place) else {
        return None;
    };
    let mut rebuilt = ConfigGroup {
        version: group.version,
        mod_policy: group.mod_policy.clone(),
        ..Default::default()
    };
    for key in group.groups.keys() {
        let below = rebuild(elements, &Place::below(names, key, Kind::Group).names)?;
        rebuilt.groups.insert(key.clone(), below);
    }
    for key in group.values.keys() {
        let place = Place::below(names, key, Kind::Value);
        let Some(Element::Value(value)) = elements.get(&place) else {
            return None;
        };
        rebuilt.values.insert(key.clone(), (*value).clone());
    }
    for key in group.policies.keys() {
        let place = Place::below(names, key, Kind::Policy);
        let Some(Element::Policy(policy)) = elements.get(&place) else {
            return None;
        };
        rebuilt.policies.insert(key.clone(), (*policy).clone());
    }
    Some(rebuilt)
}

/// What no set of signatures can change. That both sections are still there, and that all
/// orderer organizations have endpoints under V3_0, the new configuration has already shown.
fn check_continuity(current: &ChannelConfig, next: &ChannelConfig) -> Result<(), UpdateRefused> {
    let (from, to) = (&current.orderer.consensus, &next.orderer.consensus);
    if from != to && !current.capabilities.v1_4_2_or_later() {
        return Err(UpdateRefused::Consensus {
            from: from.name().to_owned(),
            to: to.name().to_owned(),
        });
    }
    let of_orderer = |config: &ChannelConfig| -> BTreeMap<_, _> {
        let organizations = config.orderer.organizations.iter();
        organizations
            .map(|(key, each)| (key.clone(), each.msp_id.clone()))
            .collect()
    };
    let of_application = |config: &ChannelConfig| -> BTreeMap<_, _> {
        config
            .application
            .iter()
            .map(|(key, each)| (key.clone(), each.msp_id.clone()))
            .collect()
    };
    same_msp_ids("Orderer", &of_orderer(current), &of_orderer(next))?;
    same_msp_ids(
        "Application",
        &of_application(current),
        &of_application(next),
    )?;
    match (&current.consortiums, &next.consortiums) {
        (None, None) => Ok(()),
        (Some(current), Some(next)) => same_msp_ids("Consortiums", current, next),
        _ => Err(UpdateRefused::Consortiums),
    }
}

fn same_msp_ids(
    section: &'static str,
    current: &BTreeMap<String, String>,
    next: &BTreeMap<String, String>,
) -> Result<(), UpdateRefused> {
    for (key, from) in current {
        match next.get(key) {
            Some(to) if to != from => {
                return Err(UpdateRefused::MspId {
                    section,
                    key: key.clone(),
                    from: from.clone(),
                    to: to.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}
