//! Which configuration blocks follow a configuration, and which do not.

use bytes::Bytes;
use prost::Message;
use tidings_msp::{
    channel_config::{AnchorPeer, ChannelConfig, ConfigRefused, EnvelopeRefused, UpdateRefused},
    policy::PolicyRefused,
};
use tidings_proto::{
    common::{
        Config, ConfigEnvelope, ConfigGroup, ConfigUpdate, Envelope, HeaderType,
        implicit_meta_policy,
    },
    orderer::{BatchTimeout, ConsensusType},
};

use crate::material::{self, CHANNEL, Material, Member, Organization, tree};

mod consent;

const ANCHORS: &[(&str, i32)] = &[("peer0.org1", 7051)];

fn config(material: &Material, group: &ConfigGroup) -> ChannelConfig {
    ChannelConfig::from_config_block(&material.genesis(group.clone())).unwrap()
}

/// The tree with anchors for the first organization, as its administrator would make it.
fn with_anchors(material: &Material) -> ConfigGroup {
    let mut next = material.group();
    let organization = tree::at(&mut next, &["Application", &material.org1.key]);
    tree::put(organization, "AnchorPeers", &tree::anchors(ANCHORS));
    organization.version += 1;
    next
}

fn with_timeout(material: &Material, timeout: &str) -> ConfigGroup {
    let mut next = material.group();
    let timeout = BatchTimeout {
        timeout: timeout.into(),
    };
    tree::replace(tree::at(&mut next, &["Orderer"]), "BatchTimeout", &timeout);
    next
}

fn judge(material: &Material, next: &ConfigGroup, signers: &[&Member]) -> Option<UpdateRefused> {
    let current = material.group();
    let block = material.update_block((0, &current), next, signers);
    config(material, &current).apply(&block).err()
}

/// A block with any parts, for what `update_block` would not make.
fn parts(
    material: &Material,
    sequence: u64,
    group: ConfigGroup,
    update: &ConfigUpdate,
    signers: &[&Member],
) -> Bytes {
    let envelope = ConfigEnvelope {
        config: Some(Config {
            sequence,
            channel_group: Some(group),
        }),
        last_update: Some(material::signed_update(update, signers)),
    };
    material.config_block(1, &envelope)
}

fn not_allowed(place: &str, refused: PolicyRefused) -> Option<UpdateRefused> {
    Some(UpdateRefused::NotAllowed {
        place: place.into(),
        refused,
    })
}

#[test]
fn an_update_that_was_agreed_to_gives_the_next_configuration() {
    let material = Material::new();
    let (current, next) = (material.group(), with_anchors(&material));
    let before = config(&material, &current);
    let block = material.update_block((0, &current), &next, &[&material.admin1]);
    let after = before.apply(&block).unwrap();
    assert_eq!((after.sequence(), after.channel_id()), (1, CHANNEL));
    assert_eq!(after.group(), &next);
    let anchors = |config: &ChannelConfig| {
        config.application_organizations()[&material.org1.key]
            .anchors
            .clone()
    };
    assert_eq!(anchors(&before), []);
    assert_eq!(
        anchors(&after),
        [AnchorPeer {
            host: "peer0.org1".into(),
            port: 7051
        }]
    );
    // And from there on.
    let mut third = next.clone();
    let organization = tree::at(&mut third, &["Application", &material.org1.key]);
    tree::replace(organization, "AnchorPeers", &tree::anchors(&[]));
    let block = material.update_block((1, &next), &third, &[&material.admin1]);
    let last = after.apply(&block).unwrap();
    assert_eq!((last.sequence(), anchors(&last)), (2, vec![]));
}

#[test]
fn what_an_orderer_makes_of_an_update_is_what_a_peer_takes() {
    let material = Material::new();
    let (current, next) = (material.group(), with_anchors(&material));
    let before = config(&material, &current);
    let update = material::update(&current, &next);
    let agreed = material::signed_update(&update, &[&material.admin1]);
    let proposed = before.propose(agreed.clone()).unwrap();
    assert_eq!(proposed.last_update.as_ref(), Some(&agreed));
    let block = material.config_block(1, &proposed);
    assert_eq!(before.apply(&block).unwrap().group(), &next);
    let refused = before
        .propose(material::signed_update(&update, &[]))
        .unwrap_err();
    assert!(
        matches!(refused, UpdateRefused::NotAllowed { .. }),
        "{refused}"
    );
    let after = before.apply(&block).unwrap();
    let refused = after.propose(agreed).unwrap_err();
    assert!(
        matches!(refused, UpdateRefused::ReadSet { .. }),
        "{refused}"
    );
}

#[test]
fn an_update_may_name_only_what_it_touches() {
    let material = Material::new();
    let next = with_anchors(&material);
    // The way to the element, without its neighbours; they are listed where the group changes.
    let sparse = |leaf: ConfigGroup| {
        let organizations = [(material.org1.key.clone(), leaf)].into();
        let application = ConfigGroup {
            groups: organizations,
            ..ConfigGroup::default()
        };
        let sections = [("Application".to_owned(), application)].into();
        Some(ConfigGroup {
            groups: sections,
            ..ConfigGroup::default()
        })
    };
    let organization =
        |group: &ConfigGroup| group.groups["Application"].groups[&material.org1.key].clone();
    let update = ConfigUpdate {
        channel_id: CHANNEL.into(),
        read_set: sparse(ConfigGroup {
            values: organization(&material.group()).values,
            policies: organization(&material.group()).policies,
            ..ConfigGroup::default()
        }),
        write_set: sparse(organization(&next)),
        ..ConfigUpdate::default()
    };
    let block = parts(&material, 1, next.clone(), &update, &[&material.admin1]);
    let after = config(&material, &material.group()).apply(&block).unwrap();
    assert_eq!(after.group(), &next);
}

#[test]
fn nt_3_8_sequence_gap_or_repeat() {
    let material = Material::new();
    let (current, next) = (material.group(), with_anchors(&material));
    let update = material::update(&current, &next);
    for got in [0, 2, u64::MAX] {
        let block = parts(&material, got, next.clone(), &update, &[&material.admin1]);
        let refused = config(&material, &current).apply(&block).err();
        assert_eq!(refused, Some(UpdateRefused::Sequence { current: 0, got }));
    }
    let good = material.update_block((0, &current), &next, &[&material.admin1]);
    let after = config(&material, &current).apply(&good).unwrap();
    assert_eq!(
        after.apply(&good).err(),
        Some(UpdateRefused::Sequence { current: 1, got: 1 })
    );
}

#[test]
fn a_sequence_at_its_end_has_no_next() {
    let material = Material::new();
    let (current, next) = (material.group(), with_anchors(&material));
    let last = Config {
        sequence: u64::MAX,
        channel_group: Some(current.clone()),
    };
    let last = ConfigEnvelope {
        config: Some(last),
        last_update: None,
    }
    .encode_to_vec();
    let last = ChannelConfig::from_config_envelope(CHANNEL, &last).unwrap();
    let block = parts(
        &material,
        0,
        next.clone(),
        &material::update(&current, &next),
        &[],
    );
    let refused = UpdateRefused::Sequence {
        current: u64::MAX,
        got: 0,
    };
    assert_eq!(last.apply(&block).err(), Some(refused));
}

#[test]
fn nt_3_8_tampered_result_group() {
    let material = Material::new();
    let (current, next) = (material.group(), with_anchors(&material));
    let update = material::update(&current, &next);
    let judge = |group: ConfigGroup| {
        let block = parts(&material, 1, group, &update, &[&material.admin1]);
        config(&material, &current).apply(&block).err()
    };
    assert_eq!(judge(next.clone()), None);
    assert_eq!(judge(current.clone()), Some(UpdateRefused::OtherResult));
    let mut more = next.clone();
    let stolen = tree::implicit(implicit_meta_policy::Rule::Any, "Readers");
    tree::put_policy(tree::at(&mut more, &["Application"]), "Admins", stolen);
    assert_eq!(judge(more), Some(UpdateRefused::OtherResult));
    let mut less = next;
    tree::at(&mut less, &["Application"])
        .groups
        .remove(&material.org2.key);
    assert_eq!(judge(less), Some(UpdateRefused::OtherResult));
}

#[test]
fn versions_go_up_by_one_from_what_was_read() {
    let material = Material::new();
    let current = material.group();
    let before = config(&material, &current);
    let apply = |read: &ConfigGroup, write: &ConfigGroup| {
        let update = material::update(read, write);
        let signers = [&material.orderer_admin, &material.admin1];
        before
            .apply(&parts(&material, 1, write.clone(), &update, &signers))
            .err()
    };
    let timeout = "value /Channel/Orderer/BatchTimeout";
    let at_version = |version| {
        let mut group = with_timeout(&material, "3s");
        let orderer = tree::at(&mut group, &["Orderer"]);
        orderer.values.get_mut("BatchTimeout").unwrap().version = version;
        group
    };
    let jump = UpdateRefused::Version {
        place: timeout.into(),
        expected: 1,
        got: 2,
    };
    assert_eq!(apply(&current, &at_version(2)), Some(jump));
    let stale = UpdateRefused::ReadSet {
        place: timeout.into(),
        read: 7,
        current: 0,
    };
    assert_eq!(apply(&at_version(7), &at_version(8)), Some(stale));
    assert_eq!(apply(&current, &current), Some(UpdateRefused::NoChange));
    // A changed value at an unchanged version is no change.
    assert_eq!(
        apply(&current, &at_version(0)),
        Some(UpdateRefused::NoChange)
    );
    let absent = "value /Channel/Application/Org1-group/AnchorPeers".to_owned();
    let mut with_more = current.clone();
    let organization = tree::at(&mut with_more, &["Application", &material.org1.key]);
    tree::put(organization, "AnchorPeers", &tree::anchors(ANCHORS));
    let refused = UpdateRefused::ReadSetAbsent {
        place: absent.clone(),
    };
    assert_eq!(apply(&with_more, &with_more), Some(refused));
    let mut late = with_anchors(&material);
    let organization = tree::at(&mut late, &["Application", &material.org1.key]);
    organization.values.get_mut("AnchorPeers").unwrap().version = 3;
    let refused = UpdateRefused::Version {
        place: absent,
        expected: 0,
        got: 3,
    };
    assert_eq!(apply(&current, &late), Some(refused));
}

#[test]
fn a_group_that_lists_what_the_update_leaves_out_is_refused() {
    let material = Material::new();
    let current = material.group();
    let mut write = with_anchors(&material);
    let organization = tree::at(&mut write, &["Application", &material.org1.key]);
    // Listed in the result, but neither in force nor in the update.
    let listed = organization.clone();
    organization.values.remove("AnchorPeers");
    let mut result = write.clone();
    *tree::at(&mut result, &["Application", &material.org1.key]) = listed;
    let update = material::update(&current, &write);
    let block = parts(&material, 1, result, &update, &[&material.admin1]);
    let refused = config(&material, &current).apply(&block).err();
    assert_eq!(refused, Some(UpdateRefused::OtherResult));
}

#[test]
fn an_update_for_another_channel_is_refused() {
    let material = Material::new();
    let (current, next) = (material.group(), with_anchors(&material));
    let other = || {
        Some(UpdateRefused::Channel {
            channel: CHANNEL.into(),
            named: "other".into(),
        })
    };
    let update = ConfigUpdate {
        channel_id: "other".into(),
        ..material::update(&current, &next)
    };
    let block = parts(&material, 1, next, &update, &[&material.admin1]);
    assert_eq!(config(&material, &current).apply(&block).err(), other());
    let kind = HeaderType::Config;
    let transaction = material::transaction(kind, "other", &material.orderers[0], vec![]);
    let block = material::block(1, &[], [transaction]).encode();
    assert_eq!(config(&material, &current).apply(&block).err(), other());
}

#[test]
fn the_update_must_be_one() {
    let material = Material::new();
    let (current, next) = (material.group(), with_anchors(&material));
    let before = config(&material, &current);
    let with = |last_update| {
        let config = Some(Config {
            sequence: 1,
            channel_group: Some(next.clone()),
        });
        before
            .apply(&material.config_block(
                1,
                &ConfigEnvelope {
                    config,
                    last_update,
                },
            ))
            .err()
    };
    let missing = |what| Some(UpdateRefused::Config(ConfigRefused::Missing(what)));
    assert_eq!(with(None), missing("update in its envelope"));
    assert_eq!(
        with(Some(Envelope::default())),
        missing("header in its update")
    );
    let kind = HeaderType::Config;
    let other = material::transaction(kind, CHANNEL, &material.orderers[0], vec![]);
    let other = Envelope::decode(other).unwrap();
    assert_eq!(with(Some(other)), Some(UpdateRefused::NotAnUpdate(1)));
    let block = material.block(1).encode();
    let refused = UpdateRefused::Config(ConfigRefused::NotConfigBlock);
    assert_eq!(before.apply(&block).err(), Some(refused));
}

#[test]
fn the_new_configuration_must_be_valid_itself() {
    let material = Material::new();
    let orderers = [
        &material.orderer_admin,
        &material.orderer_b.member("admin", "admin"),
    ];
    let next = with_timeout(&material, "0s");
    let refused = ConfigRefused::BatchTimeoutZero("0s".into());
    assert_eq!(
        judge(&material, &next, &orderers),
        Some(UpdateRefused::Config(refused))
    );
}

#[test]
fn sections_and_msp_ids_stay() {
    let material = Material::new();
    let other_admin = material.orderer_b.member("admin", "admin");
    let everybody = [
        &material.admin1,
        &material.admin2,
        &material.orderer_admin,
        &other_admin,
    ];
    for section in ["Application", "Orderer"] {
        let mut next = material.group();
        next.groups.remove(section);
        next.version += 1;
        let verdict = judge(&material, &next, &everybody);
        let refused = match section {
            "Application" => ConfigRefused::Missing("Application section"),
            _ => ConfigRefused::Missing("Orderer section"),
        };
        assert_eq!(verdict, Some(UpdateRefused::Config(refused)));
    }
    for (section, organization) in [
        ("Application", &material.org1),
        ("Orderer", &material.orderer_a),
    ] {
        let mut next = material.group();
        let mut renamed = organization.msp();
        renamed.name = "NewMSP".into();
        let group = tree::at(&mut next, &[section, &organization.key]);
        tree::replace(group, "MSP", &tree::msp(&renamed));
        let refused = UpdateRefused::MspId {
            section: if section == "Orderer" {
                "Orderer"
            } else {
                "Application"
            },
            key: organization.key.clone(),
            from: organization.msp_id.clone(),
            to: "NewMSP".into(),
        };
        assert_eq!(judge(&material, &next, &everybody), Some(refused));
    }
    let mut next = material.group();
    let consortiums = tree::at(&mut next, &["Consortiums"]);
    consortiums.mod_policy = "Admins".into();
    next.version += 1;
    assert_eq!(
        judge(&material, &next, &everybody),
        Some(UpdateRefused::Consortiums)
    );
}

#[test]
fn the_consensus_type_changes_only_with_the_capability() {
    let material = Material::new();
    let other_admin = material.orderer_b.member("admin", "admin");
    let signers = [&material.orderer_admin, &other_admin];
    let change = |current: ConfigGroup| {
        let mut next = current.clone();
        let kind = ConsensusType {
            r#type: "BFT".into(),
            ..ConsensusType::default()
        };
        tree::replace(tree::at(&mut next, &["Orderer"]), "ConsensusType", &kind);
        let block = material.update_block((0, &current), &next, &signers);
        config(&material, &current).apply(&block).err()
    };
    assert_eq!(change(material.group()), None);
    let everybody = [
        &material.admin1,
        &material.admin2,
        &material.orderer_admin,
        &other_admin,
    ];
    let old = older(&material, &everybody);
    let refused = UpdateRefused::Consensus {
        from: "etcdraft".into(),
        to: "BFT".into(),
    };
    assert_eq!(change(old), Some(refused));
}

/// A channel of capability V1_3: MSPs with explicit administrators, global addresses only.
fn older(material: &Material, admins: &[&Member]) -> ConfigGroup {
    let mut group = material.group();
    tree::put(&mut group, "Capabilities", &tree::capabilities(&["V1_3"]));
    let mut organization = |section: &str, organization: &Organization| {
        let mut msp = organization.msp();
        msp.fabric_node_ous = None;
        let own = admins
            .iter()
            .filter(|admin| admin.msp_id == organization.msp_id);
        msp.admins = own
            .map(|admin| admin.certificate_pem.clone().into())
            .collect();
        let group = tree::at(&mut group, &[section, &organization.key]);
        group.values.remove("Endpoints");
        tree::put(group, "MSP", &tree::msp(&msp));
    };
    organization("Application", &material.org1);
    organization("Application", &material.org2);
    organization("Orderer", &material.orderer_a);
    organization("Orderer", &material.orderer_b);
    group
}

#[test]
fn turning_on_v3_0_needs_endpoints_of_every_orderer_organization() {
    let material = Material::new();
    let other_admin = material.orderer_b.member("admin", "admin");
    let signers = [
        &material.admin1,
        &material.admin2,
        &material.orderer_admin,
        &other_admin,
    ];
    let turn_on = |current: &ConfigGroup, globals: bool| {
        let mut next = current.clone();
        tree::replace(&mut next, "Capabilities", &tree::capabilities(&["V3_0"]));
        if !globals {
            tree::replace(&mut next, "OrdererAddresses", &tree::addresses(&[]));
        }
        let block = material.update_block((0, current), &next, &signers);
        config(&material, current).apply(&block)
    };
    let refused = |refused| Some(UpdateRefused::Config(refused));
    let current = material.group();
    assert!(turn_on(&current, false).unwrap().capabilities().v3_0());
    let verdict = turn_on(&current, true).err();
    assert_eq!(verdict, refused(ConfigRefused::GlobalOrdererAddresses));
    let mut without = material.group();
    let organization = tree::at(&mut without, &["Orderer", &material.orderer_b.key]);
    organization.values.remove("Endpoints");
    let missing = ConfigRefused::NoEndpoints(material.orderer_b.key.clone());
    assert_eq!(turn_on(&without, false).err(), refused(missing));
}
