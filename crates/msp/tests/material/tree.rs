//! Configuration trees, and hands to alter them with.

use bytes::Bytes;
use prost::Message;
use tidings_proto::{
    common::{
        BlockDataHashingStructure, Capabilities, ConfigGroup, ConfigPolicy, ConfigValue, Consenter,
        HashingAlgorithm, ImplicitMetaPolicy, MspPrincipal, MspRole, OrdererAddresses, Orderers,
        Policy, SignaturePolicy, SignaturePolicyEnvelope,
        implicit_meta_policy::Rule,
        msp_principal::Classification,
        msp_role::MspRoleType,
        policy::PolicyType,
        signature_policy::{NOutOf, Type},
    },
    msp::{FabricMspConfig, MspConfig},
    orderer::{BatchSize, BatchTimeout, ConsensusType},
    protos::{AnchorPeer, AnchorPeers},
};

use super::{Material, Organization};

/// The group at that path below the channel group, made when absent.
pub fn at<'a>(root: &'a mut ConfigGroup, path: &[&str]) -> &'a mut ConfigGroup {
    path.iter().fold(root, |group, key| {
        group.groups.entry((*key).to_owned()).or_default()
    })
}

/// Puts a value into a group, at version 0.
pub fn put(group: &mut ConfigGroup, key: &str, value: &impl Message) {
    let value = ConfigValue {
        version: 0,
        value: value.encode_to_vec().into(),
        mod_policy: "Admins".to_owned(),
    };
    group.values.insert(key.to_owned(), value);
}

/// Replaces a value and raises its version.
pub fn replace(group: &mut ConfigGroup, key: &str, value: &impl Message) {
    let old = group.values.get_mut(key).unwrap();
    old.value = value.encode_to_vec().into();
    old.version += 1;
}

/// Puts a policy into a group, at version 0.
pub fn put_policy(group: &mut ConfigGroup, key: &str, policy: Policy) {
    let mod_policy = "Admins".to_owned();
    let policy = ConfigPolicy {
        version: 0,
        policy: Some(policy),
        mod_policy,
    };
    group.policies.insert(key.to_owned(), policy);
}

/// An implicit meta policy.
pub fn implicit(rule: Rule, sub_policy: &str) -> Policy {
    let value = ImplicitMetaPolicy {
        sub_policy: sub_policy.to_owned(),
        rule: rule as i32,
    };
    Policy {
        r#type: PolicyType::ImplicitMeta as i32,
        value: value.encode_to_vec().into(),
    }
}

/// A signature policy: `n` of the principals, each once.
pub fn out_of(n: i32, principals: Vec<MspPrincipal>) -> Policy {
    let rules = (0..)
        .zip(&principals)
        .map(|(index, _)| signed_by(index))
        .collect();
    let rule = SignaturePolicy {
        r#type: Some(Type::NOutOf(NOutOf { n, rules })),
    };
    signature(rule, principals)
}

/// A signature policy over any rule.
pub fn signature(rule: SignaturePolicy, identities: Vec<MspPrincipal>) -> Policy {
    let value = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities,
    };
    Policy {
        r#type: PolicyType::Signature as i32,
        value: value.encode_to_vec().into(),
    }
}

/// A rule that wants one signer.
pub fn signed_by(principal: i32) -> SignaturePolicy {
    SignaturePolicy {
        r#type: Some(Type::SignedBy(principal)),
    }
}

/// Everybody of an MSP with that role.
pub fn role(msp_id: &str, role: MspRoleType) -> MspPrincipal {
    let role = MspRole {
        msp_identifier: msp_id.to_owned(),
        role: role as i32,
    };
    MspPrincipal {
        principal_classification: Classification::Role as i32,
        principal: role.encode_to_vec().into(),
    }
}

/// Exactly this identity.
pub fn exactly(identity: &Bytes) -> MspPrincipal {
    MspPrincipal {
        principal_classification: Classification::Identity as i32,
        principal: identity.clone(),
    }
}

/// A capabilities value.
pub fn capabilities(names: &[&str]) -> Capabilities {
    let capability = |name: &&str| ((*name).to_owned(), Default::default());
    Capabilities {
        capabilities: names.iter().map(capability).collect(),
    }
}

/// A list of addresses.
pub fn addresses(addresses: &[&str]) -> OrdererAddresses {
    OrdererAddresses {
        addresses: addresses.iter().map(|each| (*each).to_owned()).collect(),
    }
}

/// An MSP value.
pub fn msp(definition: &FabricMspConfig) -> MspConfig {
    MspConfig {
        r#type: 0,
        config: definition.encode_to_vec().into(),
    }
}

/// Anchor peers, with ports as the wire has them.
pub fn anchors(anchors: &[(&str, i32)]) -> AnchorPeers {
    let anchor = |(host, port): &(&str, i32)| AnchorPeer {
        host: (*host).to_owned(),
        port: *port,
    };
    AnchorPeers {
        anchor_peers: anchors.iter().map(anchor).collect(),
    }
}

/// See [`Material::group`].
pub(super) fn raft_channel(material: &Material) -> ConfigGroup {
    let mut root = sections(material, "V2_0");
    put(&mut root, "OrdererAddresses", &addresses(&["global:7050"]));
    let orderer = at(&mut root, &["Orderer"]);
    put(orderer, "ConsensusType", &consensus("etcdraft"));
    put_policy(orderer, "BlockValidation", implicit(Rule::Any, "Writers"));
    root
}

/// See [`Material::bft_group`].
pub(super) fn bft_channel(material: &Material) -> ConfigGroup {
    let mut root = sections(material, "V3_0");
    let orderer = at(&mut root, &["Orderer"]);
    put(orderer, "ConsensusType", &consensus("BFT"));
    let members = || (1..).zip(&material.orderers);
    let consenters = members().map(|(id, member)| Consenter {
        id,
        host: format!("orderer{id}"),
        port: 7050,
        msp_id: member.msp_id.clone(),
        identity: member.certificate_pem.clone().into(),
        ..Consenter::default()
    });
    put(
        orderer,
        "Orderers",
        &Orderers {
            consenter_mapping: consenters.collect(),
        },
    );
    // Four tolerate one liar: the quorum is ceil((4 + 1 + 1) / 2).
    let principals = members()
        .map(|(_, member)| exactly(&member.identity))
        .collect();
    put_policy(orderer, "BlockValidation", out_of(3, principals));
    root
}

fn consensus(kind: &str) -> ConsensusType {
    ConsensusType {
        r#type: kind.to_owned(),
        ..ConsensusType::default()
    }
}

fn sections(material: &Material, capability: &str) -> ConfigGroup {
    let mut root = ConfigGroup {
        mod_policy: "Admins".to_owned(),
        ..ConfigGroup::default()
    };
    put(
        &mut root,
        "HashingAlgorithm",
        &HashingAlgorithm {
            name: "SHA256".to_owned(),
        },
    );
    let width = BlockDataHashingStructure { width: u32::MAX };
    put(&mut root, "BlockDataHashingStructure", &width);
    put(&mut root, "Capabilities", &capabilities(&[capability]));
    meta_policies(&mut root);

    let application = at(&mut root, &["Application"]);
    put(application, "Capabilities", &capabilities(&["V2_5"]));
    meta_policies(application);
    for organization in [&material.org1, &material.org2] {
        let group = organization_group(organization);
        application.groups.insert(organization.key.clone(), group);
    }

    let orderer = at(&mut root, &["Orderer"]);
    put(orderer, "Capabilities", &capabilities(&["V2_0"]));
    let batch = BatchSize {
        max_message_count: 10,
        absolute_max_bytes: 1000,
        preferred_max_bytes: 500,
    };
    put(orderer, "BatchSize", &batch);
    put(
        orderer,
        "BatchTimeout",
        &BatchTimeout {
            timeout: "2s".to_owned(),
        },
    );
    meta_policies(orderer);
    for organization in [&material.orderer_a, &material.orderer_b] {
        let mut group = organization_group(organization);
        let address = format!("{}:7050", organization.msp_id.to_lowercase());
        put(&mut group, "Endpoints", &addresses(&[&address]));
        orderer.groups.insert(organization.key.clone(), group);
    }
    root
}

/// The three policies that every level above the organizations has.
fn meta_policies(group: &mut ConfigGroup) {
    group.mod_policy = "Admins".to_owned();
    put_policy(group, "Readers", implicit(Rule::Any, "Readers"));
    put_policy(group, "Writers", implicit(Rule::Any, "Writers"));
    put_policy(group, "Admins", implicit(Rule::Majority, "Admins"));
}

fn organization_group(organization: &Organization) -> ConfigGroup {
    let mut group = ConfigGroup {
        mod_policy: "Admins".to_owned(),
        ..ConfigGroup::default()
    };
    put(&mut group, "MSP", &msp(&organization.msp()));
    let of = |kind| out_of(1, vec![role(&organization.msp_id, kind)]);
    put_policy(&mut group, "Readers", of(MspRoleType::Member));
    put_policy(&mut group, "Writers", of(MspRoleType::Member));
    put_policy(&mut group, "Admins", of(MspRoleType::Admin));
    group
}
