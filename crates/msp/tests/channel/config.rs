//! What a configuration says, and which ones are refused.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tidings_msp::channel_config::{
    AnchorPeer, Batch, CONFIG_DEPTH_MAX, CONFIG_LEN_MAX, ChannelConfig, ConfigRefused,
    ConsensusType,
};
use tidings_proto::common::{
    BlockDataHashingStructure, Config, ConfigEnvelope, ConfigGroup, HashingAlgorithm, HeaderType,
    ImplicitMetaPolicy, Policy, implicit_meta_policy::Rule, policy::PolicyType,
};
use tidings_proto::orderer::{BatchSize, BatchTimeout, ConsensusType as WireConsensus};
use tidings_proto::protos::AcLs;

use crate::material::{self, CHANNEL, Material, tree};

mod organizations;

fn read(material: &Material, group: ConfigGroup) -> Result<ChannelConfig, ConfigRefused> {
    ChannelConfig::from_config_block(&material.genesis(group))
}

/// Alters the tree of a good channel and expects it refused with that text.
fn check(alter: impl FnOnce(&Material, &mut ConfigGroup), expect: &str) {
    let material = Material::new();
    let mut group = material.group();
    alter(&material, &mut group);
    let refused = read(&material, group).map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), expect);
}

fn accept(alter: impl FnOnce(&Material, &mut ConfigGroup)) -> ChannelConfig {
    let material = Material::new();
    let mut group = material.group();
    alter(&material, &mut group);
    read(&material, group).unwrap()
}

#[test]
fn a_configuration_says_who_is_on_the_channel() {
    let material = Material::new();
    let mut group = material.group();
    let organization = tree::at(&mut group, &["Application", &material.org1.key]);
    let anchors = [("b.org1", 7051), ("a.org1", 65535)];
    tree::put(organization, "AnchorPeers", &tree::anchors(&anchors));
    let config = read(&material, group.clone()).unwrap();

    assert_eq!((config.channel_id(), config.sequence()), (CHANNEL, 0));
    assert_eq!(config.group(), &group);
    let organizations: Vec<_> = config.application_organizations().iter().collect();
    let [(key1, org1), (key2, org2)] = organizations[..] else {
        panic!("two organizations")
    };
    assert_eq!(
        (key1, &org1.msp_id),
        (&material.org1.key, &material.org1.msp_id)
    );
    assert_eq!(
        (key2, &org2.msp_id),
        (&material.org2.key, &material.org2.msp_id)
    );
    let expect = anchors.map(|(host, port)| AnchorPeer {
        host: host.into(),
        port: u16::try_from(port).unwrap(),
    });
    assert_eq!(
        (&org1.anchors[..], &org2.anchors[..]),
        (&expect[..], &[][..])
    );
    let roots = vec![material.org1.tls_root(), material.org2.tls_root()];
    assert_eq!(config.application_tls_roots(), roots);
    assert_eq!(config.consensus(), &ConsensusType::EtcdRaft);
    assert_eq!(
        config.batch(),
        Batch {
            message_count_max: 10,
            absolute_bytes_max: 1000,
            preferred_bytes_max: 500,
            timeout: Duration::from_secs(2),
        }
    );
    assert!(!config.capabilities().v3_0());
    assert!(config.consenters().is_empty());
    assert!(config.msp(&material.org1.msp_id).is_some());
    assert!(config.msp("Org9MSP").is_none());
}

#[test]
fn orderers_of_each_organization_come_with_its_own_roots() {
    let material = Material::new();
    let config = read(&material, material.group()).unwrap();
    let endpoints: Vec<_> = config
        .orderer_endpoints()
        .into_iter()
        .map(|each| (each.organization, each.addresses, each.tls_roots))
        .collect();
    assert_eq!(
        endpoints,
        [&material.orderer_a, &material.orderer_b].map(|organization| (
            Some(organization.key.clone()),
            vec![format!("{}:7050", organization.msp_id.to_lowercase())],
            vec![organization.tls_root()],
        ))
    );
}

#[test]
fn global_addresses_count_only_when_no_organization_has_its_own() {
    let material = Material::new();
    let mut group = material.group();
    let without = |group: &mut ConfigGroup, key: &str| {
        tree::at(group, &["Orderer", key])
            .values
            .remove("Endpoints");
    };
    without(&mut group, &material.orderer_a.key);
    let names = |group: &ConfigGroup| -> Vec<_> {
        let endpoints = read(&material, group.clone()).unwrap().orderer_endpoints();
        endpoints
            .into_iter()
            .map(|each| (each.organization, each.addresses))
            .collect()
    };
    let own = (
        Some(material.orderer_b.key.clone()),
        vec!["ordererbmsp:7050".to_owned()],
    );
    assert_eq!(names(&group), [own]);
    without(&mut group, &material.orderer_b.key);
    assert_eq!(names(&group), [(None, vec!["global:7050".to_owned()])]);
    let endpoints = read(&material, group.clone()).unwrap().orderer_endpoints();
    let roots = vec![material.orderer_a.tls_root(), material.orderer_b.tls_root()];
    assert_eq!(endpoints[0].tls_roots, roots);
    group.values.remove("OrdererAddresses");
    assert_eq!(names(&group), []);
}

#[test]
fn a_bft_channel_lists_its_consenters() {
    let material = Material::new();
    let config = read(&material, material.bft_group()).unwrap();
    assert_eq!(config.consensus(), &ConsensusType::Bft);
    assert!(config.capabilities().v3_0());
    let consenters: Vec<_> = config
        .consenters()
        .iter()
        .map(|each| (each.id, each.identity.clone()))
        .collect();
    let expect: Vec<_> = (1..)
        .zip(material.orderers.iter().map(|each| each.identity.clone()))
        .collect();
    assert_eq!(consenters, expect);
}

#[test]
fn what_is_no_configuration_block_is_refused() {
    let material = Material::new();
    let of = |transactions: Vec<Bytes>| {
        let block = material::block(0, &[], transactions).encode();
        ChannelConfig::from_config_block(&block)
            .map(|_| ())
            .unwrap_err()
    };
    let config = Config {
        sequence: 0,
        channel_group: Some(material.group()),
    };
    let data = ConfigEnvelope {
        config: Some(config),
        last_update: None,
    }
    .encode_to_vec();
    let transaction = |kind, channel, data: &[u8]| {
        material::transaction(kind, channel, &material.orderers[0], data.to_vec())
    };
    let good = transaction(HeaderType::Config, CHANNEL, &data);
    let other = transaction(HeaderType::EndorserTransaction, CHANNEL, &data);
    let obsolete = transaction(HeaderType::OrdererTransaction, CHANNEL, &data);
    assert_eq!(of(vec![]), ConfigRefused::NotConfigBlock);
    assert_eq!(of(vec![other.clone()]), ConfigRefused::NotConfigBlock);
    assert_eq!(of(vec![obsolete]), ConfigRefused::NotConfigBlock);
    assert_eq!(of(vec![good.clone(), other]), ConfigRefused::NotConfigBlock);
    let bad_name = transaction(HeaderType::Config, "My_Channel", &data);
    assert_eq!(
        of(vec![bad_name]),
        ConfigRefused::ChannelId("My_Channel".into())
    );
    let empty = transaction(HeaderType::Config, CHANNEL, &[]);
    assert_eq!(
        of(vec![empty]),
        ConfigRefused::Missing("configuration in its envelope")
    );
    let noise = transaction(HeaderType::Config, CHANNEL, &[0xff; 9]);
    assert!(matches!(of(vec![noise]), ConfigRefused::Undecodable { .. }));
    let block = material::block(0, &[], [good]).encode();
    assert!(ChannelConfig::from_config_block(&block).is_ok());
    let cut = block.slice(..block.len() - 1);
    assert!(matches!(
        ChannelConfig::from_config_block(&cut),
        Err(ConfigRefused::Block(_) | ConfigRefused::Undecodable { .. })
    ));
}

#[test]
fn nt_3_8_config_block_with_two_transactions_is_refused() {
    let material = Material::new();
    let config = Config {
        sequence: 0,
        channel_group: Some(material.group()),
    };
    let data = ConfigEnvelope {
        config: Some(config),
        last_update: None,
    }
    .encode_to_vec();
    let transaction =
        material::transaction(HeaderType::Config, CHANNEL, &material.orderers[0], data);
    let block = material::block(0, &[], [transaction.clone(), transaction]).encode();
    let refused = ChannelConfig::from_config_block(&block)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(refused, ConfigRefused::NotConfigBlock);
}

#[test]
fn the_envelope_kept_in_a_ledger_gives_the_same_configuration() {
    let material = Material::new();
    let config = Config {
        sequence: 5,
        channel_group: Some(material.group()),
    };
    let envelope = ConfigEnvelope {
        config: Some(config),
        last_update: None,
    }
    .encode_to_vec();
    let config = ChannelConfig::from_config_envelope(CHANNEL, &envelope).unwrap();
    assert_eq!((config.channel_id(), config.sequence()), (CHANNEL, 5));
    assert_eq!(config.group(), &material.group());
    let refused = ChannelConfig::from_config_envelope("", &envelope)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(refused, ConfigRefused::ChannelId(String::new()));
}

#[test]
fn length_is_limited() {
    let material = Material::new();
    let config = Config {
        sequence: 0,
        channel_group: Some(material.group()),
    };
    let envelope = ConfigEnvelope {
        config: Some(config),
        last_update: None,
    }
    .encode_to_vec();
    // Filled up with an unknown field, which takes four bytes for its length.
    let padding = CONFIG_LEN_MAX - envelope.len() - 5;
    let mut length = Vec::new();
    prost::encoding::encode_varint(padding as u64, &mut length);
    assert_eq!(length.len(), 4);
    let mut padded = [&envelope[..], &[0x7a], &length, &vec![0; padding]].concat();
    assert_eq!(padded.len(), CONFIG_LEN_MAX);
    assert!(ChannelConfig::from_config_envelope(CHANNEL, &padded).is_ok());
    padded.push(0);
    let refused = ChannelConfig::from_config_envelope(CHANNEL, &padded)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(refused, ConfigRefused::TooLong(CONFIG_LEN_MAX + 1));
}

#[test]
fn nt_3_8_unknown_value_key_is_refused() {
    let put = |group: &mut ConfigGroup| tree::put(group, "Colour", &tree::capabilities(&[]));
    check(|_, root| put(root), "unexpected value /Channel/Colour");
    check(
        |_, root| put(tree::at(root, &["Application"])),
        "unexpected value /Channel/Application/Colour",
    );
    check(
        |_, root| put(tree::at(root, &["Orderer"])),
        "unexpected value /Channel/Orderer/Colour",
    );
    check(
        |material, root| put(tree::at(root, &["Application", &material.org1.key])),
        "unexpected value /Channel/Application/Org1-group/Colour",
    );
    check(
        |material, root| put(tree::at(root, &["Orderer", &material.orderer_a.key])),
        "unexpected value /Channel/Orderer/OrdererA-group/Colour",
    );
    check(
        |material, root| {
            let group = tree::at(root, &["Application", &material.org1.key]);
            tree::put(group, "Endpoints", &tree::addresses(&["a:1"]));
        },
        "unexpected value /Channel/Application/Org1-group/Endpoints",
    );
}

#[test]
fn nt_3_8_unknown_capability_is_refused() {
    check(
        |_, root| tree::put(root, "Capabilities", &tree::capabilities(&["V2_0", "V9_9"])),
        "channel capability V9_9 is not supported by this version: upgrade the node",
    );
    check(
        |_, root| {
            let application = tree::at(root, &["Application"]);
            tree::put(application, "Capabilities", &tree::capabilities(&["V3_0"]));
        },
        "application capability V3_0 is not supported by this version: upgrade the node",
    );
    // The orderers' own capabilities are theirs to know.
    accept(|_, root| {
        let orderer = tree::at(root, &["Orderer"]);
        tree::put(orderer, "Capabilities", &tree::capabilities(&["V9_9"]));
    });
}

#[test]
fn capabilities_need_those_of_the_orderer() {
    check(
        |_, root| {
            tree::at(root, &["Orderer"]).values.remove("Capabilities");
        },
        "channel capabilities are set, but the orderer section has none",
    );
    check(
        |_, root| {
            tree::at(root, &["Orderer"]).values.remove("Capabilities");
            root.values.remove("Capabilities");
        },
        "application capabilities are set, but the orderer section has none",
    );
}

#[test]
fn groups_are_where_they_belong_or_nowhere() {
    let section = |root: &mut ConfigGroup, key: &str| root.groups.remove(key);
    check(
        |_, root| drop(section(root, "Application")),
        "the configuration has no Application section",
    );
    check(
        |_, root| drop(section(root, "Orderer")),
        "the configuration has no Orderer section",
    );
    check(
        |_, root| _ = tree::at(root, &["Colour"]),
        "unexpected group /Channel/Colour",
    );
    check(
        |material, root| _ = tree::at(root, &["Application", &material.org1.key, "Unit"]),
        "unexpected group /Channel/Application/Org1-group/Unit",
    );
    check(
        |material, root| _ = tree::at(root, &["Orderer", &material.orderer_a.key, "Unit"]),
        "unexpected group /Channel/Orderer/OrdererA-group/Unit",
    );
    check(
        |_, root| {
            let path = ["Application"; CONFIG_DEPTH_MAX];
            tree::at(root, &path);
        },
        "configuration groups nest deeper than 8",
    );
    check(
        |_, root| _ = tree::at(root, &["Application", "Org_1"]),
        "name of 'group /Channel/Application/Org_1' must match [a-zA-Z0-9.-]+, have at most 249 \
         characters, not be . or ..",
    );
}

#[test]
fn hashing_is_the_one_that_there_is() {
    let hash = |name: &str| HashingAlgorithm { name: name.into() };
    check(
        |_, root| tree::put(root, "HashingAlgorithm", &hash("MD5")),
        "hashing algorithm 'MD5' is neither SHA256 nor SHA3_256",
    );
    check(
        |_, root| drop(root.values.remove("HashingAlgorithm")),
        "hashing algorithm '' is neither SHA256 nor SHA3_256",
    );
    accept(|_, root| tree::put(root, "HashingAlgorithm", &hash("SHA3_256")));
    let width = BlockDataHashingStructure { width: 2 };
    check(
        |_, root| tree::put(root, "BlockDataHashingStructure", &width),
        "block data hashing width 2 is not 4294967295",
    );
}

#[test]
fn addresses_follow_the_capability() {
    let capability = |root: &mut ConfigGroup, name: &str| {
        tree::put(root, "Capabilities", &tree::capabilities(&[name]));
    };
    check(
        |_, root| {
            capability(root, "V1_3");
            root.values.remove("OrdererAddresses");
        },
        "orderer addresses must be set below capability V1_4_2",
    );
    check(
        |_, root| capability(root, "V3_0"),
        "global orderer addresses are not allowed with capability V3_0",
    );
    check(
        |material, root| {
            capability(root, "V3_0");
            root.values.remove("OrdererAddresses");
            let organization = tree::at(root, &["Orderer", &material.orderer_b.key]);
            organization.values.remove("Endpoints");
        },
        "orderer organization OrdererB-group has no endpoints, which capability V3_0 demands",
    );
    accept(|_, root| {
        capability(root, "V3_0");
        root.values.remove("OrdererAddresses");
    });
    check(
        |_, root| {
            // Below V1_4_2 the MSPs would be of an older kind too; the orderers come first here.
            capability(root, "V1_3");
            tree::at(root, &["Application"]).groups.clear();
        },
        "orderer organization OrdererA-group has endpoints, which need capability V1_4_2 or later",
    );
}

#[test]
fn acls_need_their_capability() {
    let acls = AcLs::default();
    check(
        |_, root| {
            let application = tree::at(root, &["Application"]);
            tree::put(application, "Capabilities", &tree::capabilities(&["V1_1"]));
            tree::put(application, "ACLs", &acls);
        },
        "ACLs need application capability V1_2 or later",
    );
    accept(|_, root| tree::put(tree::at(root, &["Application"]), "ACLs", &acls));
}

#[test]
fn batches_make_sense() {
    let size = |count, absolute, preferred| BatchSize {
        max_message_count: count,
        absolute_max_bytes: absolute,
        preferred_max_bytes: preferred,
    };
    for (count, absolute, preferred) in [(0, 1, 1), (1, 0, 0), (1, 1, 0), (1, 5, 6)] {
        let size = size(count, absolute, preferred);
        check(
            |_, root| tree::put(tree::at(root, &["Orderer"]), "BatchSize", &size),
            &format!(
                "batch size: all three must be above zero and preferred ({preferred}) at most \
                 absolute ({absolute}); message count is {count}"
            ),
        );
    }
    accept(|_, root| tree::put(tree::at(root, &["Orderer"]), "BatchSize", &size(1, 1, 1)));
    for (timeout, expect) in [
        ("0s", "batch timeout '0s' must be above zero"),
        ("-2s", "batch timeout '-2s': below zero"),
        (
            "soon",
            "batch timeout 'soon': not a duration such as 2s or 1m30s",
        ),
    ] {
        let timeout = BatchTimeout {
            timeout: timeout.into(),
        };
        check(
            |_, root| tree::put(tree::at(root, &["Orderer"]), "BatchTimeout", &timeout),
            expect,
        );
    }
}

#[test]
fn an_unknown_consensus_type_is_kept_by_its_name() {
    let solo = WireConsensus {
        r#type: "solo".into(),
        ..Default::default()
    };
    let config = accept(|_, root| tree::put(tree::at(root, &["Orderer"]), "ConsensusType", &solo));
    assert_eq!(config.consensus(), &ConsensusType::Other("solo".into()));
}

#[test]
fn policies_compile_or_the_configuration_is_refused() {
    let put = |root: &mut ConfigGroup, policy: Policy| {
        tree::put_policy(tree::at(root, &["Application"]), "Readers", policy);
    };
    let of = |kind, value: Vec<u8>| Policy {
        r#type: kind,
        value: value.into(),
    };
    check(
        |_, root| put(root, of(PolicyType::Msp as i32, vec![])),
        "policy /Channel/Application/Readers has type 2, which is neither SIGNATURE nor \
         IMPLICIT_META",
    );
    check(
        |_, root| put(root, of(PolicyType::Signature as i32, vec![])),
        "policy /Channel/Application/Readers: the signature policy has an empty rule",
    );
    check(
        |_, root| put(root, tree::signature(tree::signed_by(1), vec![])),
        "policy /Channel/Application/Readers: a rule wants principal 1 of 0",
    );
    let rule = ImplicitMetaPolicy {
        sub_policy: "Readers".into(),
        rule: 3,
    }
    .encode_to_vec();
    check(
        |_, root| put(root, of(PolicyType::ImplicitMeta as i32, rule)),
        "policy /Channel/Application/Readers: implicit meta rule 3 is none of ANY (0), ALL (1), \
         MAJORITY (2)",
    );
    check(
        |_, root| {
            let readers = tree::at(root, &["Application"]).policies.get_mut("Readers");
            readers.unwrap().policy = None;
        },
        "policy /Channel/Application/Readers is empty",
    );
}

/// A policy for blocks that nobody needs to sign for would take any block from anybody.
#[test]
fn nt_3_8_block_validation_without_signatures_is_refused() {
    const EXPECT: &str = "/Channel/Orderer/BlockValidation is satisfied without any signature";
    let put = |root: &mut ConfigGroup, policy| {
        tree::put_policy(tree::at(root, &["Orderer"]), "BlockValidation", policy);
    };
    check(|_, root| put(root, tree::out_of(0, vec![])), EXPECT);
    check(
        |_, root| tree::at(root, &["Orderer"]).groups.clear(),
        EXPECT,
    );
    check(
        |material, root| {
            put(root, tree::implicit(Rule::Any, "Open"));
            let organization = tree::at(root, &["Orderer", &material.orderer_a.key]);
            tree::put_policy(organization, "Open", tree::out_of(-1, vec![]));
        },
        EXPECT,
    );
    // Without a policy no block is good, which harms nobody.
    accept(|_, root| {
        tree::at(root, &["Orderer"])
            .policies
            .remove("BlockValidation");
    });
}
