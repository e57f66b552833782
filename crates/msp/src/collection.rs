//! Collections: who may have private data, and which collections there are.
//!
//! A [`Collection`] is one entry of a chaincode's definition, or the implicit one that every
//! organization has in every chaincode. [`Definitions`] knows which chaincode has which
//! collections as of which block. [`check_definition`] says whether those whose word it is agreed
//! to a definition.
//!
//! Promises Fabric's answer to whether somebody may have the data of a collection, never a wider
//! one. Knows nothing of the data, where it is kept, or how it travels.
//!
//! Rules: docs/protocol/collections.md.

mod definitions;
mod endorsed;
mod entry;
mod lifecycle;
mod package;

use std::{collections::BTreeSet, sync::Arc};

use prost::Message;
use tidings_proto::{
    common::{
        MspPrincipal, MspRole, OrganizationUnit, SignaturePolicy as WireRule,
        SignaturePolicyEnvelope,
        msp_principal::Classification,
        msp_role::MspRoleType,
        signature_policy::{NOutOf, Type},
    },
    msp::SerializedIdentity,
    protos::{
        CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
        collection_config, collection_policy_config,
    },
};

pub use self::{
    definitions::{
        Applied, Basis, DEFINITIONS_COST_MAX, DEFINITIONS_MAX, Defined, Definitions, PassedOver,
        Reason, UNPROVEN_COST_MAX, UNPROVEN_MAX, Undefined,
    },
    endorsed::{DefinitionRefused, check_definition},
    entry::{Entry, EntryRefused},
    lifecycle::{LEGACY_NAMESPACE, LIFECYCLE_NAMESPACE, NAMESPACE_LEN_MAX},
    package::{COLLECTIONS_MAX, PACKAGE_LEN_MAX, PackageRefused},
};
use crate::{
    channel_config::ChannelConfig,
    policy::{
        Policy, PolicyRefused, Rule, SignedDatum,
        signature::{SignaturePolicy, SignaturePolicyRefused},
    },
};

/// What the names of implicit collections begin with; no other collection's name may.
const IMPLICIT_PREFIX: &str = "_implicit_org_";

/// A collection and who its members are.
#[derive(Clone, Debug)]
pub struct Collection {
    config: StaticCollectionConfig,
    rule: Arc<Rule>,
}

/// Why a collection cannot be used. Nobody may have its data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectionRefused {
    /// No policy says who its members are.
    #[error("the collection does not say who its members are")]
    NoPolicy,
    /// The policy does not compile.
    #[error("the policy of the collection's members: {0}")]
    Policy(#[from] SignaturePolicyRefused),
    /// The policy is satisfied without any signature. Fabric lets nobody define such a collection.
    #[error("the policy of the collection's members is satisfied by anybody")]
    Open,
}

impl Collection {
    /// A collection as it is defined.
    pub fn new(config: StaticCollectionConfig) -> Result<Self, CollectionRefused> {
        let policy = signature_policy(&config).ok_or(CollectionRefused::NoPolicy)?;
        let policy = SignaturePolicy::compile_any_version(policy.clone())?;
        if policy.is_satisfied(0, |_, _| false) {
            return Err(CollectionRefused::Open);
        }
        Ok(Self {
            config,
            rule: Arc::new(Rule::Signature(policy)),
        })
    }

    /// The implicit collection of an organization. Its data is pushed to nobody, which is so for
    /// other organizations' collections; our own's counts are the node's to configure.
    pub fn implicit(msp_id: &str) -> Self {
        let policy = collection_policy_config::Payload::SignaturePolicy(members(1, &[msp_id]));
        Self::new(StaticCollectionConfig {
            name: implicit_name(msp_id),
            member_orgs_policy: Some(CollectionPolicyConfig {
                payload: Some(policy),
            }),
            ..StaticCollectionConfig::default()
        })
        .expect("one member of one organization is a policy")
    }

    /// The same collection with other counts of peers to push to.
    pub fn with_peer_counts(mut self, required: u32, maximum: u32) -> Self {
        self.config.required_peer_count = i32::try_from(required).unwrap_or(i32::MAX);
        self.config.maximum_peer_count = i32::try_from(maximum).unwrap_or(i32::MAX);
        self
    }

    /// Its name, which is its own among the collections of its chaincode.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How many peers must have taken new data before a transaction is endorsed.
    pub fn required_peer_count(&self) -> u32 {
        u32::try_from(self.config.required_peer_count).unwrap_or_default()
    }

    /// How many peers new data is pushed to at most.
    pub fn maximum_peer_count(&self) -> u32 {
        u32::try_from(self.config.maximum_peer_count).unwrap_or_default()
    }

    /// The block at which data of that block expires; none for data that is kept for ever.
    pub fn expires_at(&self, block: u64) -> Option<u64> {
        let to_live = Some(self.config.block_to_live).filter(|blocks| *blocks != 0)?;
        Some(block.saturating_add(to_live).saturating_add(1))
    }

    /// How many blocks data lives; zero is for ever.
    pub fn block_to_live(&self) -> u64 {
        self.config.block_to_live
    }

    /// Whether clients that are no members may not read through chaincode.
    pub fn member_only_read(&self) -> bool {
        self.config.member_only_read
    }

    /// Whether clients that are no members may not write through chaincode.
    pub fn member_only_write(&self) -> bool {
        self.config.member_only_write
    }

    /// The definition as it is on the wire.
    pub fn config(&self) -> &StaticCollectionConfig {
        &self.config
    }

    /// A package of just this collection, as it goes with pushed data.
    pub fn package(&self) -> CollectionConfigPackage {
        let config = collection_config::Payload::StaticCollectionConfig(self.config.clone());
        CollectionConfigPackage {
            config: vec![CollectionConfig {
                payload: Some(config),
            }],
        }
    }

    /// The MSP ids that the policy names, whatever it says of them. An identity that no MSP of
    /// the channel knows names none.
    pub fn member_orgs(&self, config: &ChannelConfig) -> BTreeSet<String> {
        signature_policy(&self.config)
            .into_iter()
            .flat_map(|policy| &policy.identities)
            .filter_map(|principal| msp_id(principal, config))
            .collect()
    }

    /// Whether somebody may have the data, by what he signed. What it was does not matter here:
    /// the caller must know that it was signed for this purpose and by whom it was sent.
    pub fn accepts(
        &self,
        evidence: &SignedDatum<'_>,
        config: &ChannelConfig,
    ) -> Result<(), PolicyRefused> {
        self.policy(config).evaluate(std::slice::from_ref(evidence))
    }

    /// Whether the data is ours to have: the policy names our organization, or accepts our own
    /// serialized identity.
    pub fn entitles(&self, ourselves: &[u8], config: &ChannelConfig) -> bool {
        let Ok(parsed) = SerializedIdentity::decode(ourselves) else {
            return false;
        };
        if self.member_orgs(config).contains(&parsed.mspid) {
            return true;
        }
        let identity = config.msps().deserialize(ourselves);
        identity.is_ok_and(|us| self.policy(config).evaluate_identities(&[us]).is_ok())
    }

    /// Whether somebody may have the data whose signature the caller has checked.
    pub fn accepts_identity(
        &self,
        serialized: &[u8],
        config: &ChannelConfig,
    ) -> Result<(), PolicyRefused> {
        // An identity that no MSP of the channel knows satisfies nothing, as one that is not there.
        let identity = config.msps().deserialize(serialized).ok();
        let signers: Vec<_> = identity.into_iter().collect();
        self.policy(config).evaluate_identities(&signers)
    }

    fn policy(&self, config: &ChannelConfig) -> Policy {
        Policy::new(Arc::clone(&self.rule), Arc::clone(config.msps()))
    }
}

/// The name of an organization's implicit collection.
pub fn implicit_name(msp_id: &str) -> String {
    format!("{IMPLICIT_PREFIX}{msp_id}")
}

/// Whose implicit collection that is, if it is one.
pub fn implicit_org(collection: &str) -> Option<&str> {
    collection.strip_prefix(IMPLICIT_PREFIX)
}

/// `n` members, each of another of these organizations.
fn members(n: i32, msp_ids: &[&str]) -> SignaturePolicyEnvelope {
    let principal = |msp_id: &&str| {
        let role = MspRole {
            msp_identifier: (*msp_id).to_owned(),
            role: MspRoleType::Member as i32,
        };
        MspPrincipal {
            principal_classification: Classification::Role as i32,
            principal: role.encode_to_vec().into(),
        }
    };
    let rule = |(index, _)| WireRule {
        r#type: Some(Type::SignedBy(index)),
    };
    let rules = (0..).zip(msp_ids).map(rule).collect();
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(WireRule {
            r#type: Some(Type::NOutOf(NOutOf { n, rules })),
        }),
        identities: msp_ids.iter().map(principal).collect(),
    }
}

fn signature_policy(config: &StaticCollectionConfig) -> Option<&SignaturePolicyEnvelope> {
    let policy = config.member_orgs_policy.as_ref()?;
    let collection_policy_config::Payload::SignaturePolicy(policy) = policy.payload.as_ref()?;
    Some(policy)
}

/// Whose principal that is. Combined and anonymous ones are nobody's.
fn msp_id(principal: &MspPrincipal, config: &ChannelConfig) -> Option<String> {
    let bytes = principal.principal.clone();
    match Classification::try_from(principal.principal_classification).ok()? {
        Classification::Role => Some(MspRole::decode(bytes).ok()?.msp_identifier),
        Classification::OrganizationUnit => {
            Some(OrganizationUnit::decode(bytes).ok()?.msp_identifier)
        }
        Classification::Identity => {
            let identity = config.msps().deserialize(&bytes).ok()?;
            Some(identity.msp_id().to_string())
        }
        Classification::Anonymity | Classification::Combined => None,
    }
}
