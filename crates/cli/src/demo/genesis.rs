//! The first block of a channel: its whole configuration, as configtxgen's usual profile has it.
//!
//! Promises: the same folders and addresses give the same configuration (the block differs only
//! in time, nonce and transaction id). Reads verifying MSP folders; makes no keys, opens no port.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use tidings_proto::Message;
use tidings_proto::common::implicit_meta_policy::Rule;
use tidings_proto::common::msp_role::MspRoleType;
use tidings_proto::common::policy::PolicyType;
use tidings_proto::common::signature_policy::{NOutOf, Type as PolicyNode};
use tidings_proto::common::{
    Block, BlockData, BlockDataHashingStructure, BlockHeader, BlockMetadata, Capabilities,
    Capability, ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigPolicy, ConfigValue,
    Envelope, HashingAlgorithm, Header, HeaderType, ImplicitMetaPolicy, LastConfig, Metadata,
    MspPrincipal, MspRole, OrdererAddresses, OrdererBlockMetadata, Payload, Policy,
    SignatureHeader, SignaturePolicy, SignaturePolicyEnvelope,
};
use tidings_proto::msp::{
    FabricCryptoConfig, FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, MspConfig,
};
use tidings_proto::orderer::{BatchSize, BatchTimeout, ChannelRestrictions, ConsensusType};
use tidings_proto::protos::{AnchorPeer, AnchorPeers};

use super::keys::Kind;
use crate::orderer;

/// Every element of the configuration is changed by the administrators of its group.
const ADMINS: &str = "Admins";

/// An organization on the channel.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Key of its group in the configuration.
    pub(crate) name: String,
    /// Name of its MSP.
    pub(crate) msp_id: String,
    /// Its folder below `crypto`.
    pub(crate) domain: String,
    /// Host and port of anchor peers, or of orderers in the ordering organization.
    pub(crate) addresses: Vec<(String, u16)>,
}

/// When the orderer cuts a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// At so many transactions.
    pub(crate) messages_max: u32,
    /// Never larger than this; a transaction above it is refused.
    pub(crate) bytes_max: u32,
    /// Not larger than this, unless one transaction is.
    pub(crate) bytes_preferred: u32,
    /// So long after the first transaction.
    pub(crate) timeout: Duration,
}

/// Everything that a channel's configuration says.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    /// The channel's name.
    pub(crate) id: String,
    /// The ordering organization.
    pub(crate) orderer: Member,
    /// Folder of the orderer's TLS certificate, which raft wants to know.
    pub(crate) orderer_host: String,
    /// The organizations with peers.
    pub(crate) application: Vec<Member>,
    /// When the orderer cuts a block.
    pub(crate) batch: Batch,
}

/// Consenters and options of a raft channel, the metadata of `ConsensusType`.
#[derive(Clone, PartialEq, prost::Message)]
struct RaftMetadata {
    #[prost(message, repeated, tag = "1")]
    consenters: Vec<RaftConsenter>,
    #[prost(message, optional, tag = "2")]
    options: Option<RaftOptions>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RaftConsenter {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(bytes = "bytes", tag = "3")]
    client_tls_cert: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    server_tls_cert: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RaftOptions {
    #[prost(string, tag = "1")]
    tick_interval: String,
    #[prost(uint32, tag = "2")]
    election_tick: u32,
    #[prost(uint32, tag = "3")]
    heartbeat_tick: u32,
    #[prost(uint32, tag = "4")]
    max_inflight_blocks: u32,
    #[prost(uint32, tag = "5")]
    snapshot_interval_size: u32,
}

/// Makes block 0 of the channel from the MSP folders below `crypto`.
pub(crate) fn make(crypto: &Path, channel: &Channel, now: SystemTime) -> Result<Block> {
    let nonce = orderer::nonce()?;
    let config = ConfigEnvelope {
        config: Some(Config {
            sequence: 0,
            channel_group: Some(channel_group(crypto, channel)?),
        }),
        last_update: None,
    };
    let tx_id = hex::encode(digest(&SHA256, &nonce));
    let header = Header {
        channel_header: ChannelHeader {
            r#type: HeaderType::Config.into(),
            version: 1,
            timestamp: Some(now.into()),
            channel_id: channel.id.clone(),
            tx_id,
            ..ChannelHeader::default()
        }
        .encode_to_vec()
        .into(),
        signature_header: encoded(&SignatureHeader {
            creator: Bytes::new(),
            nonce,
        }),
    };
    let payload = Payload {
        header: Some(header),
        data: encoded(&config),
    };
    let envelope = encoded(&Envelope {
        payload: encoded(&payload),
        signature: Bytes::new(),
    });
    let last_config = OrdererBlockMetadata {
        last_config: Some(LastConfig { index: 0 }),
        consenter_metadata: Bytes::new(),
    };
    let signatures = Metadata {
        value: encoded(&last_config),
        signatures: Vec::new(),
    };
    let mut metadata = vec![Bytes::new(); 5];
    metadata[0] = encoded(&signatures);
    Ok(Block {
        header: Some(BlockHeader {
            number: 0,
            previous_hash: Bytes::new(),
            data_hash: Bytes::copy_from_slice(digest(&SHA256, &envelope).as_ref()),
        }),
        data: Some(BlockData {
            data: vec![envelope],
        }),
        metadata: Some(BlockMetadata { metadata }),
    })
}

fn channel_group(crypto: &Path, channel: &Channel) -> Result<ConfigGroup> {
    let groups = [
        ("Orderer", orderer_group(crypto, channel)?),
        ("Application", application_group(crypto, channel)?),
    ];
    Ok(ConfigGroup {
        groups: groups
            .into_iter()
            .map(|(name, group)| (name.to_owned(), group))
            .collect(),
        values: values([
            (
                "HashingAlgorithm",
                encoded(&HashingAlgorithm {
                    name: "SHA256".into(),
                }),
            ),
            (
                "BlockDataHashingStructure",
                encoded(&BlockDataHashingStructure { width: u32::MAX }),
            ),
            ("Capabilities", capability("V2_0")),
        ]),
        policies: usual_policies(),
        ..group()
    })
}

fn orderer_group(crypto: &Path, channel: &Channel) -> Result<ConfigGroup> {
    let org = &channel.orderer;
    let endpoints = org
        .addresses
        .iter()
        .map(|(host, port)| format!("{host}:{port}"))
        .collect();
    let mut org_group = org_group(crypto, Kind::Orderers, org)?;
    org_group.values.extend(values([(
        "Endpoints",
        encoded(&OrdererAddresses {
            addresses: endpoints,
        }),
    )]));
    org_group.policies.extend(policies([(
        "Writers",
        members(&org.msp_id, &[MspRoleType::Member]),
    )]));

    let batch = channel.batch;
    let mut policies = usual_policies();
    policies.insert(
        "BlockValidation".into(),
        by_admins(implicit(Rule::Any, "Writers")),
    );
    Ok(ConfigGroup {
        groups: BTreeMap::from([(org.name.clone(), org_group)]),
        values: values([
            ("ConsensusType", consensus(crypto, channel)?),
            (
                "BatchSize",
                encoded(&BatchSize {
                    max_message_count: batch.messages_max,
                    absolute_max_bytes: batch.bytes_max,
                    preferred_max_bytes: batch.bytes_preferred,
                }),
            ),
            (
                "BatchTimeout",
                encoded(&BatchTimeout {
                    timeout: format!("{}ms", batch.timeout.as_millis()),
                }),
            ),
            (
                "ChannelRestrictions",
                encoded(&ChannelRestrictions::default()),
            ),
            ("Capabilities", capability("V2_0")),
        ]),
        policies,
        ..group()
    })
}

fn application_group(crypto: &Path, channel: &Channel) -> Result<ConfigGroup> {
    let mut groups = BTreeMap::new();
    for org in &channel.application {
        let mut group = org_group(crypto, Kind::Peers, org)?;
        let anchor_peers = org
            .addresses
            .iter()
            .map(|(host, port)| AnchorPeer {
                host: host.clone(),
                port: i32::from(*port),
            })
            .collect();
        group.values.extend(values([(
            "AnchorPeers",
            encoded(&AnchorPeers { anchor_peers }),
        )]));
        group.policies.extend(policies([
            (
                "Writers",
                members(&org.msp_id, &[MspRoleType::Admin, MspRoleType::Client]),
            ),
            ("Endorsement", members(&org.msp_id, &[MspRoleType::Peer])),
        ]));
        groups.insert(org.name.clone(), group);
    }
    let mut policies = usual_policies();
    for name in ["Endorsement", "LifecycleEndorsement"] {
        policies.insert(
            name.into(),
            by_admins(implicit(Rule::Majority, "Endorsement")),
        );
    }
    Ok(ConfigGroup {
        groups,
        values: values([("Capabilities", capability("V2_5"))]),
        policies,
        ..group()
    })
}

/// What organizations of both kinds have: the MSP, who reads and who administrates.
fn org_group(crypto: &Path, kind: Kind, org: &Member) -> Result<ConfigGroup> {
    let folder = crypto.join(kind.folder()).join(&org.domain).join("msp");
    let msp = MspConfig {
        r#type: 0,
        config: encoded(&msp_config(&folder, org)?),
    };
    Ok(ConfigGroup {
        values: values([("MSP", encoded(&msp))]),
        policies: policies([
            ("Readers", members(&org.msp_id, &[MspRoleType::Member])),
            ("Admins", members(&org.msp_id, &[MspRoleType::Admin])),
        ]),
        ..group()
    })
}

/// The MSP of a folder that [`super::keys`] laid out: one CA, one TLS CA, all four roles.
fn msp_config(folder: &Path, org: &Member) -> Result<FabricMspConfig> {
    let read = |kind: &str, name: &str| -> Result<Bytes> {
        let path = folder
            .join(kind)
            .join(format!("{name}.{}-cert.pem", org.domain));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(bytes.into())
    };
    let ca = read("cacerts", "ca")?;
    let ou = |role: &str| {
        Some(FabricOuIdentifier {
            certificate: ca.clone(),
            organizational_unit_identifier: role.to_owned(),
        })
    };
    Ok(FabricMspConfig {
        name: org.msp_id.clone(),
        crypto_config: Some(FabricCryptoConfig {
            signature_hash_family: "SHA2".into(),
            identity_identifier_hash_function: "SHA256".into(),
        }),
        tls_root_certs: vec![read("tlscacerts", "tlsca")?],
        fabric_node_ous: Some(FabricNodeOUs {
            enable: true,
            client_ou_identifier: ou("client"),
            peer_ou_identifier: ou("peer"),
            admin_ou_identifier: ou("admin"),
            orderer_ou_identifier: ou("orderer"),
        }),
        root_certs: vec![ca],
        ..FabricMspConfig::default()
    })
}

fn consensus(crypto: &Path, channel: &Channel) -> Result<Bytes> {
    let path = crypto
        .join(Kind::Orderers.folder())
        .join(&channel.orderer.domain)
        .join(Kind::Orderers.nodes())
        .join(&channel.orderer_host)
        .join("tls/server.crt");
    let certificate: Bytes = fs::read(&path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .into();
    let consenters = channel
        .orderer
        .addresses
        .iter()
        .map(|(host, port)| RaftConsenter {
            host: host.clone(),
            port: u32::from(*port),
            client_tls_cert: certificate.clone(),
            server_tls_cert: certificate.clone(),
        });
    let metadata = RaftMetadata {
        consenters: consenters.collect(),
        options: Some(RaftOptions {
            tick_interval: "500ms".into(),
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_blocks: 5,
            snapshot_interval_size: 16 * 1024 * 1024,
        }),
    };
    Ok(encoded(&ConsensusType {
        r#type: "etcdraft".into(),
        metadata: encoded(&metadata),
        ..ConsensusType::default()
    }))
}

fn group() -> ConfigGroup {
    ConfigGroup {
        mod_policy: ADMINS.into(),
        ..ConfigGroup::default()
    }
}

fn values<const N: usize>(list: [(&str, Bytes); N]) -> BTreeMap<String, ConfigValue> {
    let value = |value| ConfigValue {
        version: 0,
        value,
        mod_policy: ADMINS.into(),
    };
    list.into_iter()
        .map(|(name, bytes)| (name.to_owned(), value(bytes)))
        .collect()
}

fn capability(name: &str) -> Bytes {
    encoded(&Capabilities {
        capabilities: BTreeMap::from([(name.to_owned(), Capability {})]),
    })
}

fn usual_policies() -> BTreeMap<String, ConfigPolicy> {
    policies([
        ("Readers", implicit(Rule::Any, "Readers")),
        ("Writers", implicit(Rule::Any, "Writers")),
        ("Admins", implicit(Rule::Majority, "Admins")),
    ])
}

fn policies<const N: usize>(list: [(&str, Policy); N]) -> BTreeMap<String, ConfigPolicy> {
    list.into_iter()
        .map(|(name, policy)| (name.to_owned(), by_admins(policy)))
        .collect()
}

fn by_admins(policy: Policy) -> ConfigPolicy {
    ConfigPolicy {
        version: 0,
        policy: Some(policy),
        mod_policy: ADMINS.into(),
    }
}

fn implicit(rule: Rule, sub_policy: &str) -> Policy {
    let meta = ImplicitMetaPolicy {
        sub_policy: sub_policy.to_owned(),
        rule: rule.into(),
    };
    Policy {
        r#type: PolicyType::ImplicitMeta.into(),
        value: encoded(&meta),
    }
}

/// One signature by anybody of the MSP with one of the roles.
fn members(msp_id: &str, roles: &[MspRoleType]) -> Policy {
    let principal = |role: &MspRoleType| MspPrincipal {
        principal_classification: 0,
        principal: encoded(&MspRole {
            msp_identifier: msp_id.to_owned(),
            role: (*role).into(),
        }),
    };
    let any = (0_i32..).zip(roles).map(|(index, _)| SignaturePolicy {
        r#type: Some(PolicyNode::SignedBy(index)),
    });
    let envelope = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(SignaturePolicy {
            r#type: Some(PolicyNode::NOutOf(NOutOf {
                n: 1,
                rules: any.collect(),
            })),
        }),
        identities: roles.iter().map(principal).collect(),
    };
    Policy {
        r#type: PolicyType::Signature.into(),
        value: encoded(&envelope),
    }
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use tidings_msp::channel_config::{AnchorPeer, ConsensusType};
    use tidings_msp::policy::SignedDatum;

    use super::*;
    use crate::demo::sample;
    use crate::signer;

    #[test]
    fn the_configuration_is_valid_and_says_what_was_asked() {
        let (_dir, material) = sample::network(2);
        let config = &material.config;
        assert_eq!((config.channel_id(), config.sequence()), ("sample", 0));
        assert_eq!(config.consensus(), &ConsensusType::EtcdRaft);
        let anchors: Vec<_> = config
            .application_organizations()
            .iter()
            .map(|(name, org)| (name.as_str(), org.msp_id.as_str(), org.anchors.clone()))
            .collect();
        let anchor = |port| {
            vec![AnchorPeer {
                host: "127.0.0.1".into(),
                port,
            }]
        };
        assert_eq!(
            anchors,
            [
                ("Org1", "Org1MSP", anchor(7001)),
                ("Org2", "Org2MSP", anchor(7002))
            ]
        );
        let endpoints = config.orderer_endpoints();
        assert_eq!(endpoints.len(), 1);
        assert_eq!(endpoints[0].addresses, ["127.0.0.1:7000"]);
        assert_eq!(endpoints[0].tls_roots.len(), 1);
        let batch = config.batch();
        assert_eq!(
            (
                batch.message_count_max,
                batch.absolute_bytes_max,
                batch.preferred_bytes_max
            ),
            (2, 100_000, 50_000)
        );
        assert_eq!(batch.timeout, Duration::from_millis(1500));
    }

    /// Who may do what, asked of the policies with real signatures of the made identities.
    #[test]
    fn roles_are_those_of_the_usual_profile() {
        let (dir, material) = sample::network(2);
        let org = &material.orgs[0];
        let admin = dir
            .path()
            .join("crypto/peerOrganizations/org1.demo/users/Admin@org1.demo/msp");
        let signers = [
            signer::read(&material.orderer.msp, "OrdererMSP").unwrap(),
            signer::read(&org.peers[0].msp, &org.msp_id).unwrap(),
            signer::read(&org.client, &org.msp_id).unwrap(),
            signer::read(&admin, &org.msp_id).unwrap(),
        ];
        let may = |path: &str| -> Vec<bool> {
            let policy = material.config.policies().policy(path);
            let message = b"some message";
            signers
                .iter()
                .map(|signer| {
                    let signature = signer.sign(message).unwrap();
                    let datum = SignedDatum {
                        message: message.as_slice().into(),
                        identity: signer.serialized().as_ref().into(),
                        signature: signature.into(),
                    };
                    policy.evaluate(&[datum]).is_ok()
                })
                .collect()
        };
        for (path, [orderer, peer, client, admin]) in [
            ("/Channel/Readers", [true, true, true, true]),
            ("/Channel/Writers", [true, false, true, true]),
            ("/Channel/Application/Readers", [false, true, true, true]),
            ("/Channel/Application/Writers", [false, false, true, true]),
            (
                "/Channel/Application/Org1/Endorsement",
                [false, true, false, false],
            ),
            (
                "/Channel/Application/Org1/Admins",
                [false, false, false, true],
            ),
            (
                "/Channel/Application/Org2/Readers",
                [false, false, false, false],
            ),
            (
                "/Channel/Orderer/BlockValidation",
                [true, false, false, false],
            ),
            ("/Channel/Admins", [false, false, false, false]),
        ] {
            assert_eq!(may(path), [orderer, peer, client, admin], "{path}");
        }
    }

    #[test]
    fn every_made_identity_is_a_local_msp() {
        let (_dir, material) = sample::network(1);
        let members = material
            .orgs
            .iter()
            .flat_map(|org| &org.peers)
            .chain([&material.orderer]);
        for member in members {
            tidings_node::msp_folder::load(&member.msp, &member.msp_id)
                .unwrap_or_else(|error| panic!("{}: {error}", member.name));
        }
    }

    #[test]
    fn a_single_organization_makes_a_channel_too() {
        let (_dir, material) = sample::network(1);
        assert_eq!(material.config.application_organizations().len(), 1);
    }
}
