//! The sections of the configuration tree: which values each may hold, and what they must be.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use tidings_proto::{
    common::{
        self, BlockDataHashingStructure, ConfigGroup, Consortium, HashingAlgorithm,
        OrdererAddresses, Orderers,
    },
    msp::MspConfig,
    orderer, protos,
};

use super::{
    AnchorPeer, ApplicationOrganization, Batch, Consenter, OrdererOrganization,
    capabilities::Capabilities, go_duration, organization::OrganizationMsps,
    refused::ConfigRefused,
};

const APPLICATION: &str = "/Channel/Application";
const ORDERER: &str = "/Channel/Orderer";
const CONSORTIUMS: &str = "/Channel/Consortiums";

/// A group of the tree that values are read from.
#[derive(Clone, Copy)]
struct Section<'a> {
    path: &'a str,
    group: &'a ConfigGroup,
}

impl Section<'_> {
    /// Refuses values of other names.
    fn only(self, keys: &[&str]) -> Result<Self, ConfigRefused> {
        match self
            .group
            .values
            .keys()
            .find(|key| !keys.contains(&key.as_str()))
        {
            Some(key) => Err(ConfigRefused::UnknownValue(format!("{}/{key}", self.path))),
            None => Ok(self),
        }
    }

    /// The value of that name; an empty one when there is none, as in Fabric.
    fn value<M: Message + Default>(self, key: &str) -> Result<M, ConfigRefused> {
        let Some(value) = self.group.values.get(key) else {
            return Ok(M::default());
        };
        M::decode(value.value.as_ref()).map_err(|source| ConfigRefused::Undecodable {
            path: format!("{}/{key}", self.path),
            source,
        })
    }

    /// Refuses groups below, which an organization may not have.
    fn without_groups(self) -> Result<Self, ConfigRefused> {
        match self.group.groups.keys().next() {
            Some(key) => Err(ConfigRefused::UnknownGroup(format!("{}/{key}", self.path))),
            None => Ok(self),
        }
    }
}

/// The sections of a tree, the two found that a peer needs.
pub(super) struct Sections<'a> {
    channel: &'a ConfigGroup,
    application: &'a ConfigGroup,
    orderer: &'a ConfigGroup,
    consortiums: Option<&'a ConfigGroup>,
}

/// What the orderer section says.
pub(super) struct OrdererSection {
    pub(super) consensus: orderer::ConsensusType,
    pub(super) batch: Batch,
    pub(super) consenters: Vec<Consenter>,
    pub(super) organizations: BTreeMap<String, OrdererOrganization>,
}

impl<'a> Sections<'a> {
    pub(super) fn find(channel: &'a ConfigGroup) -> Result<Self, ConfigRefused> {
        for key in channel.groups.keys() {
            if !matches!(key.as_str(), "Application" | "Orderer" | "Consortiums") {
                return Err(ConfigRefused::UnknownGroup(format!("/Channel/{key}")));
            }
        }
        let section = |key: &str| channel.groups.get(key);
        let application =
            section("Application").ok_or(ConfigRefused::Missing("Application section"))?;
        let orderer = section("Orderer").ok_or(ConfigRefused::Missing("Orderer section"))?;
        if !orderer.values.contains_key("Capabilities") {
            for (name, group) in [("channel", channel), ("application", application)] {
                if group.values.contains_key("Capabilities") {
                    return Err(ConfigRefused::CapabilitiesWithoutOrderer(name));
                }
            }
        }
        Ok(Self {
            channel,
            application,
            orderer,
            consortiums: section("Consortiums"),
        })
    }

    pub(super) fn capabilities(&self) -> Result<Capabilities, ConfigRefused> {
        let of =
            |path, group| Section { path, group }.value::<common::Capabilities>("Capabilities");
        Capabilities::new(
            of("/Channel", self.channel)?,
            of(APPLICATION, self.application)?,
            of(ORDERER, self.orderer)?,
        )
    }

    /// Checks the channel group's own values and gives the global orderer addresses.
    pub(super) fn channel(&self, able: &Capabilities) -> Result<Vec<String>, ConfigRefused> {
        let section = Section {
            path: "/Channel",
            group: self.channel,
        }
        .only(&[
            "BlockDataHashingStructure",
            "Capabilities",
            "Consortium",
            "HashingAlgorithm",
            "OrdererAddresses",
            "Orderers",
        ])?;
        let hash: HashingAlgorithm = section.value("HashingAlgorithm")?;
        if !matches!(hash.name.as_str(), "SHA256" | "SHA3_256") {
            return Err(ConfigRefused::HashingAlgorithm(hash.name));
        }
        let structure: BlockDataHashingStructure = section.value("BlockDataHashingStructure")?;
        if structure.width != u32::MAX {
            return Err(ConfigRefused::HashingWidth(structure.width));
        }
        section.value::<Orderers>("Orderers")?;
        section.value::<Consortium>("Consortium")?;
        let OrdererAddresses { addresses } = section.value("OrdererAddresses")?;
        if addresses.is_empty() && !able.v1_4_2_or_later() {
            return Err(ConfigRefused::NoOrdererAddresses);
        }
        if !addresses.is_empty() && able.v3_0() {
            return Err(ConfigRefused::GlobalOrdererAddresses);
        }
        Ok(addresses)
    }

    pub(super) fn application(
        &self,
        able: &Capabilities,
        msps: &mut OrganizationMsps,
    ) -> Result<BTreeMap<String, ApplicationOrganization>, ConfigRefused> {
        let section = Section {
            path: APPLICATION,
            group: self.application,
        }
        .only(&["ACLs", "Capabilities"])?;
        if self.application.values.contains_key("ACLs") && !able.acls() {
            return Err(ConfigRefused::AclsWithoutCapability);
        }
        section.value::<protos::AcLs>("ACLs")?;
        let mut organizations = BTreeMap::new();
        for (key, group) in &self.application.groups {
            let path = format!("{APPLICATION}/{key}");
            let section = Section { path: &path, group }
                .without_groups()?
                .only(&["AnchorPeers", "MSP"])?;
            let anchors: protos::AnchorPeers = section.value("AnchorPeers")?;
            let msp_id = msps.add(&path, section.value::<MspConfig>("MSP")?)?;
            let anchors = anchors
                .anchor_peers
                .into_iter()
                .filter_map(AnchorPeer::usable)
                .collect();
            organizations.insert(key.clone(), ApplicationOrganization { msp_id, anchors });
        }
        Ok(organizations)
    }

    pub(super) fn orderer(
        &self,
        able: &Capabilities,
        msps: &mut OrganizationMsps,
    ) -> Result<OrdererSection, ConfigRefused> {
        let section = Section {
            path: ORDERER,
            group: self.orderer,
        }
        .only(&[
            "BatchSize",
            "BatchTimeout",
            "Capabilities",
            "ChannelRestrictions",
            "ConsensusType",
            "KafkaBrokers",
            "Orderers",
        ])?;
        section.value::<orderer::ChannelRestrictions>("ChannelRestrictions")?;
        section.value::<orderer::KafkaBrokers>("KafkaBrokers")?;
        let Orderers { consenter_mapping } = section.value("Orderers")?;
        let mut organizations = BTreeMap::new();
        for (key, group) in &self.orderer.groups {
            let path = format!("{ORDERER}/{key}");
            let section = Section { path: &path, group }.without_groups()?;
            organizations.insert(key.clone(), orderer_organization(key, section, able, msps)?);
        }
        Ok(OrdererSection {
            consensus: section.value("ConsensusType")?,
            batch: batch(section)?,
            consenters: consenter_mapping.into_iter().map(Consenter::new).collect(),
            organizations,
        })
    }

    /// Consortiums are left over from system channels; they give MSPs and nothing else. The MSP
    /// id of each organization, under `consortium/organization`.
    pub(super) fn consortiums(
        &self,
        msps: &mut OrganizationMsps,
    ) -> Result<Option<BTreeMap<String, String>>, ConfigRefused> {
        let Some(consortiums) = self.consortiums else {
            return Ok(None);
        };
        let mut organizations = BTreeMap::new();
        for (name, consortium) in &consortiums.groups {
            let path = format!("{CONSORTIUMS}/{name}");
            Section {
                path: &path,
                group: consortium,
            }
            .only(&["ChannelCreationPolicy"])?
            .value::<common::Policy>("ChannelCreationPolicy")?;
            for (key, group) in &consortium.groups {
                let path = format!("{path}/{key}");
                let section = Section { path: &path, group }
                    .without_groups()?
                    .only(&["MSP"])?;
                let msp_id = msps.add(&path, section.value::<MspConfig>("MSP")?)?;
                organizations.insert(format!("{name}/{key}"), msp_id);
            }
        }
        Ok(Some(organizations))
    }
}

fn orderer_organization(
    key: &str,
    section: Section<'_>,
    able: &Capabilities,
    msps: &mut OrganizationMsps,
) -> Result<OrdererOrganization, ConfigRefused> {
    if section.group.values.contains_key("Endpoints") && !able.v1_4_2_or_later() {
        return Err(ConfigRefused::EndpointsWithoutCapability(key.to_owned()));
    }
    section.only(&["Endpoints", "MSP"])?;
    let OrdererAddresses { addresses } = section.value("Endpoints")?;
    if addresses.is_empty() && able.v3_0() {
        return Err(ConfigRefused::NoEndpoints(key.to_owned()));
    }
    let msp_id = msps.add(section.path, section.value::<MspConfig>("MSP")?)?;
    Ok(OrdererOrganization { msp_id, addresses })
}

fn batch(section: Section<'_>) -> Result<Batch, ConfigRefused> {
    let size: orderer::BatchSize = section.value("BatchSize")?;
    let (count, absolute, preferred) = (
        size.max_message_count,
        size.absolute_max_bytes,
        size.preferred_max_bytes,
    );
    if count == 0 || absolute == 0 || preferred == 0 || preferred > absolute {
        return Err(ConfigRefused::BatchSize {
            count,
            absolute,
            preferred,
        });
    }
    let orderer::BatchTimeout { timeout: text } = section.value("BatchTimeout")?;
    let timeout = match go_duration::parse(&text) {
        Ok(Duration::ZERO) => return Err(ConfigRefused::BatchTimeoutZero(text)),
        Ok(timeout) => timeout,
        Err(refused) => return Err(ConfigRefused::BatchTimeout { text, refused }),
    };
    Ok(Batch {
        message_count_max: count,
        absolute_bytes_max: absolute,
        preferred_bytes_max: preferred,
        timeout,
    })
}
