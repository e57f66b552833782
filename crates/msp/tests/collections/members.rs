//! Who may have the data of a collection.

use std::borrow::Cow;

use bytes::Bytes;
use prost::Message;
use tidings_msp::{
    channel_config::ChannelConfig,
    collection::{Collection, CollectionRefused, implicit_name, implicit_org},
    policy::{PolicyRefused, SignedDatum, signature::SignaturePolicyRefused},
};
use tidings_proto::{
    common::{
        CombinedPrincipal, MspPrincipal, OrganizationUnit, SignaturePolicy,
        SignaturePolicyEnvelope,
        msp_principal::Classification,
        msp_role::MspRoleType,
        signature_policy::{NOutOf, Type},
    },
    msp::SerializedIdentity,
    protos::{CollectionPolicyConfig, StaticCollectionConfig, collection_policy_config},
};

use crate::{
    draft::{any_of, collection, package},
    material::{Material, Member, tree},
};

const MESSAGE: &[u8] = b"hello";

fn signed(member: &Member) -> SignedDatum<'static> {
    SignedDatum {
        message: Cow::Borrowed(MESSAGE),
        identity: Cow::Owned(member.identity.to_vec()),
        signature: Cow::Owned(member.sign(MESSAGE).to_vec()),
    }
}

fn config(material: &Material) -> ChannelConfig {
    ChannelConfig::from_config_block(&material.genesis(material.group())).unwrap()
}

fn principal(kind: Classification, principal: impl Into<Bytes>) -> MspPrincipal {
    MspPrincipal {
        principal_classification: kind as i32,
        principal: principal.into(),
    }
}

fn policy_of(config: &mut StaticCollectionConfig) -> &mut SignaturePolicyEnvelope {
    let policy = config.member_orgs_policy.as_mut().unwrap();
    let Some(collection_policy_config::Payload::SignaturePolicy(policy)) = &mut policy.payload
    else {
        panic!("a signature policy")
    };
    policy
}

#[test]
fn members_are_accepted_by_what_they_signed_and_nobody_else() {
    let material = Material::new();
    let config = config(&material);
    let ours = Collection::new(collection("c", &["Org1MSP"])).unwrap();
    let accepts = |evidence: &SignedDatum<'_>| ours.accepts(evidence, &config);
    assert_eq!(accepts(&signed(&material.peer1)), Ok(()));
    let nobody = |signers| Err(PolicyRefused::Signature { signers });
    assert_eq!(accepts(&signed(&material.peer2)), nobody(1));
    let forged = SignedDatum {
        message: Cow::Borrowed(b"hallo"),
        ..signed(&material.peer1)
    };
    assert_eq!(accepts(&forged), nobody(0));
    let stranger = Material::new();
    assert_eq!(accepts(&signed(&stranger.peer1)), nobody(0));
}

#[test]
fn who_left_the_channel_is_no_member_any_more() {
    let material = Material::new();
    let mut group = material.group();
    let application = tree::at(&mut group, &["Application"]);
    application.groups.remove(&material.org2.key);
    let without = ChannelConfig::from_config_block(&material.genesis(group)).unwrap();
    let both = Collection::new(collection("c", &["Org1MSP", "Org2MSP"])).unwrap();
    assert_eq!(
        both.accepts(&signed(&material.peer2), &config(&material)),
        Ok(())
    );
    assert!(both.accepts(&signed(&material.peer2), &without).is_err());
    assert_eq!(both.accepts(&signed(&material.peer1), &without), Ok(()));
}

#[test]
fn organizations_are_named_by_roles_units_and_identities() {
    let material = Material::new();
    let config = config(&material);
    let unit = OrganizationUnit {
        msp_identifier: "UnitMSP".to_owned(),
        ..OrganizationUnit::default()
    };
    let stranger = Material::new().peer1.identity;
    let unknown = SerializedIdentity {
        mspid: "UnknownMSP".to_owned(),
        id_bytes: Bytes::new(),
    };
    let combined = CombinedPrincipal {
        principals: vec![tree::role("CombinedMSP", MspRoleType::Member)],
    };
    let principals = vec![
        tree::role("RoleMSP", MspRoleType::Admin),
        principal(Classification::OrganizationUnit, unit.encode_to_vec()),
        tree::exactly(&material.peer2.identity),
        tree::exactly(&stranger),
        tree::exactly(&unknown.encode_to_vec().into()),
        principal(Classification::Combined, combined.encode_to_vec()),
        principal(Classification::Anonymity, Bytes::new()),
        principal(Classification::Role, vec![0xff]),
    ];
    let collection = Collection::new(any_of("c", principals)).unwrap();
    let orgs: Vec<_> = collection.member_orgs(&config).into_iter().collect();
    assert_eq!(orgs, ["Org2MSP", "RoleMSP", "UnitMSP"]);
}

#[test]
fn data_is_ours_when_our_organization_is_named_or_we_are_accepted() {
    let material = Material::new();
    let config = config(&material);
    let entitled = |principals, us: &Member| {
        let collection = Collection::new(any_of("c", principals)).unwrap();
        let ours = collection.entitles(&us.identity, &config);
        (ours, collection.accepts(&signed(us), &config).is_ok())
    };
    let admins = || vec![tree::role("Org1MSP", MspRoleType::Admin)];
    assert_eq!(entitled(admins(), &material.peer1), (true, false));
    assert_eq!(entitled(admins(), &material.admin1), (true, true));
    assert_eq!(entitled(admins(), &material.peer2), (false, false));
    // A combination names no organization.
    let combined = CombinedPrincipal {
        principals: vec![tree::role("Org1MSP", MspRoleType::Peer)],
    };
    let combined = || {
        vec![principal(
            Classification::Combined,
            combined.encode_to_vec(),
        )]
    };
    assert_eq!(entitled(combined(), &material.peer1), (true, true));
    assert_eq!(entitled(combined(), &material.admin1), (false, false));
    let ours = Collection::implicit("Org1MSP");
    assert!(!ours.entitles(b"nobody at all \xff", &config));
    // Our organization need not be in the channel's configuration to be named.
    let stranger = Material::new().peer1;
    assert!(ours.entitles(&stranger.identity, &config));
}

#[test]
fn a_collection_without_a_usable_policy_is_refused() {
    let refused = |alter: &dyn Fn(&mut StaticCollectionConfig)| {
        let mut config = collection("c", &["Org1MSP"]);
        alter(&mut config);
        Collection::new(config).map(drop)
    };
    assert_eq!(refused(&|_| ()), Ok(()));
    assert_eq!(
        refused(&|config| config.member_orgs_policy = None),
        Err(CollectionRefused::NoPolicy)
    );
    let empty = CollectionPolicyConfig { payload: None };
    assert_eq!(
        refused(&|config| config.member_orgs_policy = Some(empty.clone())),
        Err(CollectionRefused::NoPolicy)
    );
    assert_eq!(
        refused(&|config| policy_of(config).rule = Some(tree::signed_by(1))),
        Err(CollectionRefused::Policy(
            SignaturePolicyRefused::NoSuchPrincipal {
                index: 1,
                principals: 1
            }
        ))
    );
    let open = SignaturePolicy {
        r#type: Some(Type::NOutOf(NOutOf {
            n: 0,
            rules: Vec::new(),
        })),
    };
    assert_eq!(
        refused(&|config| policy_of(config).rule = Some(open.clone())),
        Err(CollectionRefused::Open)
    );
    // Fabric does not look at the version of these policies.
    assert_eq!(refused(&|config| policy_of(config).version = 7), Ok(()));
}

#[test]
fn an_implicit_collection_is_its_organizations() {
    let material = Material::new();
    let config = config(&material);
    let implicit = Collection::implicit("Org2MSP");
    assert_eq!(implicit.name(), "_implicit_org_Org2MSP");
    assert_eq!(implicit.name(), implicit_name("Org2MSP"));
    assert_eq!(implicit_org(implicit.name()), Some("Org2MSP"));
    assert_eq!(implicit_org("_implicit_Org2MSP"), None);
    assert_eq!(implicit.accepts(&signed(&material.peer2), &config), Ok(()));
    assert!(implicit.accepts(&signed(&material.peer1), &config).is_err());
    assert!(implicit.entitles(&material.peer2.identity, &config));
    assert!(!implicit.entitles(&material.peer1.identity, &config));
    let counts = |collection: &Collection| {
        let required = collection.required_peer_count();
        (required, collection.maximum_peer_count())
    };
    assert_eq!(counts(&implicit), (0, 0));
    assert_eq!(counts(&implicit.clone().with_peer_counts(1, 2)), (1, 2));
    assert_eq!(implicit.expires_at(7), None);
}

#[test]
fn a_collection_says_what_it_was_defined_as() {
    let config = StaticCollectionConfig {
        required_peer_count: -1,
        maximum_peer_count: 3,
        block_to_live: 10,
        member_only_read: true,
        ..collection("c", &["Org1MSP"])
    };
    let collection = Collection::new(config.clone()).unwrap();
    assert_eq!(collection.name(), "c");
    assert_eq!(collection.required_peer_count(), 0);
    assert_eq!(collection.maximum_peer_count(), 3);
    assert_eq!(collection.block_to_live(), 10);
    assert!(collection.member_only_read() && !collection.member_only_write());
    assert_eq!(collection.config(), &config);
    assert_eq!(collection.package(), package(&[config]));
    assert_eq!(collection.expires_at(100), Some(111));
    assert_eq!(collection.expires_at(u64::MAX - 5), Some(u64::MAX));
}
