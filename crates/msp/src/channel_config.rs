//! What a channel's members have agreed on.
//!
//! A configuration block becomes a [`ChannelConfig`]: organizations with their MSPs and anchor
//! peers, orderers with addresses, roots and consenters, capabilities, and the policies. The
//! rules are those under which a Go peer takes the block; where Go stops the process, this gives
//! a [`ConfigRefused`] and concerns one channel. A following configuration block is taken by
//! [`ChannelConfig::apply`], which checks that the members were allowed to make it.
//!
//! Promises: a value of this type is complete and valid; it never changes. Knows nothing of
//! where blocks come from and does not check the orderer's signatures on them: that is
//! [`crate::verify_block`].

mod capabilities;
mod go_duration;
mod organization;
mod refused;
mod sections;
mod tree;
mod update;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tidings_proto::{
    block::{BlockView, TransactionHead},
    common::{self, Config, ConfigEnvelope, ConfigGroup, Envelope},
    msp::SerializedIdentity,
    orderer, protos,
};

pub use self::{
    capabilities::Capabilities,
    go_duration::{NotADuration, parse as parse_go_duration},
    refused::ConfigRefused,
    tree::{CONFIG_DEPTH_MAX, CONFIG_ELEMENTS_MAX, CONFIG_KEY_LEN_MAX, CONFIG_LEN_MAX},
    update::{EnvelopeRefused, UpdateRefused},
};
use self::{organization::OrganizationMsps, sections::Sections};
use crate::{
    msp::{Msp, MspManager},
    policy::{Policies, Policy},
};

/// The configuration of one channel at one sequence number.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    channel_id: String,
    sequence: u64,
    group: ConfigGroup,
    capabilities: Capabilities,
    application: BTreeMap<String, ApplicationOrganization>,
    orderer: OrdererSettings,
    /// MSP ids of consortium organizations; only a former system channel has them.
    consortiums: Option<BTreeMap<String, String>>,
    msps: Arc<MspManager>,
    policies: Policies,
}

#[derive(Clone, Debug)]
struct OrdererSettings {
    global_addresses: Vec<String>,
    organizations: BTreeMap<String, OrdererOrganization>,
    consensus: ConsensusType,
    batch: Batch,
    consenters: Vec<Consenter>,
}

/// An organization whose peers are on the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationOrganization {
    /// The id of its MSP, which need not be the key of its group.
    pub msp_id: String,
    /// Peers that other organizations may begin with, in the order of the configuration.
    pub anchors: Vec<AnchorPeer>,
}

/// A peer that other organizations may begin with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnchorPeer {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// An organization that runs orderers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdererOrganization {
    /// The id of its MSP.
    pub msp_id: String,
    /// Its own orderers' addresses, `host:port`.
    pub addresses: Vec<String>,
}

/// Orderers that are trusted through the same TLS roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdererEndpoints {
    /// The key of the organization; none for the channel's global addresses.
    pub organization: Option<String>,
    /// Addresses as configured, `host:port`.
    pub addresses: Vec<String>,
    /// DER certificates of the TLS roots and intermediates that may have issued the orderers'
    /// certificates.
    pub tls_roots: Vec<Bytes>,
}

/// How the orderers agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsensusType {
    /// Raft: an orderer that crashes is tolerated.
    EtcdRaft,
    /// Byzantine fault tolerance: an orderer that lies is tolerated.
    Bft,
    /// One that this version does not know how to fetch blocks from.
    Other(String),
}

/// When the orderer cuts a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Transactions in a block.
    pub message_count_max: u32,
    /// Bytes in a block, never exceeded.
    pub absolute_bytes_max: u32,
    /// Bytes in a block, exceeded by a single large transaction only.
    pub preferred_bytes_max: u32,
    /// The longest that a transaction waits for others.
    pub timeout: Duration,
}

/// An orderer by the number that BFT block signatures name it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consenter {
    /// Its number.
    pub id: u32,
    /// Its serialized identity.
    pub identity: Bytes,
    /// Host name.
    pub host: String,
    /// Port.
    pub port: u32,
    /// MSP id.
    pub msp_id: String,
}

impl ChannelConfig {
    /// Takes the configuration out of a configuration block that is trusted as it is: the
    /// genesis block, or the last configuration block of a ledger that was verified.
    pub fn from_config_block(block: &Bytes) -> Result<Self, ConfigRefused> {
        let transaction = ConfigTransaction::of_block(block)?;
        Self::from_config_envelope(&transaction.channel_id, &transaction.payload.data)
    }

    /// Takes the configuration out of a serialized `common.ConfigEnvelope` that is trusted as it
    /// is, such as the one a ledger keeps in its state.
    pub fn from_config_envelope(channel_id: &str, envelope: &[u8]) -> Result<Self, ConfigRefused> {
        let config = decode_config_envelope(envelope)?
            .config
            .ok_or(ConfigRefused::Missing("configuration in its envelope"))?;
        Self::new(channel_id, config)
    }

    /// Judges the configuration block that follows this configuration and gives the one after
    /// it: the creator's signature, the sequence number, the update against the policies of this
    /// configuration, and everything that makes a configuration valid.
    pub fn apply(&self, block: &Bytes) -> Result<Self, UpdateRefused> {
        update::apply(self, block)
    }

    /// What an orderer makes of a CONFIG_UPDATE transaction: judged as in [`Self::apply`], and to
    /// be put into a CONFIG transaction that the orderer signs.
    pub fn propose(&self, update: Envelope) -> Result<ConfigEnvelope, UpdateRefused> {
        update::propose(self, update)
    }

    fn new(channel_id: &str, config: Config) -> Result<Self, ConfigRefused> {
        if !tree::is_channel_id(channel_id) {
            return Err(ConfigRefused::ChannelId(channel_id.to_owned()));
        }
        let group = config
            .channel_group
            .ok_or(ConfigRefused::Missing("channel group"))?;
        tree::elements(Some(&group))?;
        let sections = Sections::find(&group)?;
        let capabilities = sections.capabilities()?;
        let global_addresses = sections.channel(&capabilities)?;
        let mut msps = OrganizationMsps::new(capabilities.msp_version());
        let application = sections.application(&capabilities, &mut msps)?;
        let orderer = sections.orderer(&capabilities, &mut msps)?;
        let consortiums = sections.consortiums(&mut msps)?;
        let msps = Arc::new(msps.finish()?);
        let policies = Policies::compile(&group, Arc::clone(&msps))?;
        if policies.policy(BLOCK_VALIDATION).is_open() {
            return Err(ConfigRefused::OpenBlockValidation);
        }
        Ok(Self {
            channel_id: channel_id.to_owned(),
            sequence: config.sequence,
            capabilities,
            application,
            orderer: OrdererSettings {
                global_addresses,
                organizations: orderer.organizations,
                consensus: ConsensusType::new(orderer.consensus),
                batch: orderer.batch,
                consenters: orderer.consenters,
            },
            consortiums,
            msps,
            policies,
            group,
        })
    }

    /// The name of the channel.
    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// How many updates made this configuration.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Organizations with peers, by the key of their group.
    pub fn application_organizations(&self) -> &BTreeMap<String, ApplicationOrganization> {
        &self.application
    }

    /// Organizations with orderers, by the key of their group.
    pub fn orderer_organizations(&self) -> &BTreeMap<String, OrdererOrganization> {
        &self.orderer.organizations
    }

    /// Where blocks can be fetched, by organization. The global addresses, trusted through the
    /// roots of all orderer organizations, only when no organization has addresses of its own.
    pub fn orderer_endpoints(&self) -> Vec<OrdererEndpoints> {
        let organizations = &self.orderer.organizations;
        let own: Vec<_> = organizations
            .iter()
            .filter(|(_, organization)| !organization.addresses.is_empty())
            .map(|(key, organization)| OrdererEndpoints {
                organization: Some(key.clone()),
                addresses: organization.addresses.clone(),
                tls_roots: self.tls_roots_of([organization.msp_id.as_str()]),
            })
            .collect();
        if !own.is_empty() || self.orderer.global_addresses.is_empty() {
            return own;
        }
        vec![OrdererEndpoints {
            organization: None,
            addresses: self.orderer.global_addresses.clone(),
            tls_roots: self.tls_roots_of(organizations.values().map(|each| each.msp_id.as_str())),
        }]
    }

    /// DER certificates of TLS roots and intermediates of all organizations with peers.
    pub fn application_tls_roots(&self) -> Vec<Bytes> {
        self.tls_roots_of(self.application.values().map(|each| each.msp_id.as_str()))
    }

    /// Of these, those of one organization, by its MSP.
    pub fn tls_roots(&self, msp_id: &str) -> Vec<Bytes> {
        self.tls_roots_of([msp_id])
    }

    /// How the orderers agree.
    pub fn consensus(&self) -> &ConsensusType {
        &self.orderer.consensus
    }

    /// When the orderer cuts a block.
    pub fn batch(&self) -> Batch {
        self.orderer.batch
    }

    /// The orderers by number, if the channel lists them.
    pub fn consenters(&self) -> &[Consenter] {
        &self.orderer.consenters
    }

    /// What the members are able to do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The MSPs of all organizations of the channel.
    pub fn msps(&self) -> &Arc<MspManager> {
        &self.msps
    }

    /// The MSP of that id.
    pub fn msp(&self, msp_id: &str) -> Option<&Arc<Msp>> {
        self.msps.msp(msp_id)
    }

    /// All policies.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Who may read the channel: its gossip members, and clients that fetch blocks.
    pub fn readers(&self) -> Policy {
        self.policies.policy("/Channel/Application/Readers")
    }

    /// Who may use what Fabric calls so, `event/Block` or `qscc/GetChainInfo` for instance: the
    /// policy that the channel's ACLs name for it, else its Readers.
    pub fn policy_for(&self, resource: &str) -> Policy {
        let listed = self
            .group
            .groups
            .get("Application")
            .and_then(|application| application.values.get("ACLs"))
            .and_then(|acls| protos::AcLs::decode(acls.value.clone()).ok())
            .and_then(|mut acls| acls.acls.remove(resource))
            .filter(|entry| !entry.policy_ref.is_empty());
        match listed {
            Some(entry) if entry.policy_ref.starts_with('/') => {
                self.policies.policy(&entry.policy_ref)
            }
            Some(entry) => {
                let path = format!("/Channel/Application/{}", entry.policy_ref);
                self.policies.policy(&path)
            }
            None => self.readers(),
        }
    }

    /// Who must have signed a block.
    pub fn block_validation(&self) -> Policy {
        self.policies.policy(BLOCK_VALIDATION)
    }

    /// The tree that all this was read from.
    pub fn group(&self) -> &ConfigGroup {
        &self.group
    }

    fn tls_roots_of<'a>(&self, msp_ids: impl IntoIterator<Item = &'a str>) -> Vec<Bytes> {
        let mut roots: Vec<Bytes> = Vec::new();
        for msp in msp_ids.into_iter().filter_map(|id| self.msp(id)) {
            for root in msp.tls_roots().iter().chain(msp.tls_intermediates()) {
                if !roots.iter().any(|known| known == root) {
                    roots.push(root.clone().into());
                }
            }
        }
        roots
    }
}

impl AnchorPeer {
    /// None for an anchor that nobody could connect to: Fabric keeps such an entry in the
    /// configuration, so it may not make the configuration invalid.
    fn usable(wire: protos::AnchorPeer) -> Option<Self> {
        let port = u16::try_from(wire.port).ok().filter(|port| *port != 0)?;
        (!wire.host.is_empty()).then_some(Self {
            host: wire.host,
            port,
        })
    }
}

impl ConsensusType {
    fn new(wire: orderer::ConsensusType) -> Self {
        match wire.r#type.as_str() {
            "etcdraft" => Self::EtcdRaft,
            "BFT" => Self::Bft,
            _ => Self::Other(wire.r#type),
        }
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        match self {
            Self::EtcdRaft => "etcdraft",
            Self::Bft => "BFT",
            Self::Other(name) => name,
        }
    }
}

impl Consenter {
    fn new(wire: common::Consenter) -> Self {
        let common::Consenter {
            id,
            host,
            port,
            msp_id,
            identity,
            ..
        } = wire;
        let serialized = SerializedIdentity {
            mspid: msp_id.clone(),
            id_bytes: identity,
        };
        Self {
            id,
            identity: serialized.encode_to_vec().into(),
            host,
            port,
            msp_id,
        }
    }
}

/// Who must have signed a block.
const BLOCK_VALIDATION: &str = "/Channel/Orderer/BlockValidation";

/// The one transaction of a configuration block.
struct ConfigTransaction {
    channel_id: String,
    envelope: Envelope,
    payload: common::Payload,
}

impl ConfigTransaction {
    fn of_block(block: &Bytes) -> Result<Self, ConfigRefused> {
        let block = BlockView::parse(block.clone())?;
        if !block.is_config_block() {
            return Err(ConfigRefused::NotConfigBlock);
        }
        let transaction = block
            .transactions()
            .next()
            .ok_or(ConfigRefused::NotConfigBlock)?;
        let channel_id = TransactionHead::parse(&transaction)?.channel_id.to_owned();
        let envelope: Envelope = decode("configuration transaction", transaction)?;
        let payload = decode("its payload", envelope.payload.clone())?;
        Ok(Self {
            channel_id,
            envelope,
            payload,
        })
    }
}

fn decode_config_envelope(bytes: &[u8]) -> Result<ConfigEnvelope, ConfigRefused> {
    if bytes.len() > CONFIG_LEN_MAX {
        return Err(ConfigRefused::TooLong(bytes.len()));
    }
    decode("configuration envelope", bytes)
}

fn decode<M: Message + Default>(what: &str, bytes: impl bytes::Buf) -> Result<M, ConfigRefused> {
    M::decode(bytes).map_err(|source| ConfigRefused::Undecodable {
        path: what.to_owned(),
        source,
    })
}
