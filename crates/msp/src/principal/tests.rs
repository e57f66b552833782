//! Every class of principal, satisfied and not.

use std::sync::Arc;

use tidings_proto::msp::{FabricMspConfig, FabricOuIdentifier};

use super::*;
use crate::testing::{Made, config};

const ORG: &str = "Org1MSP";

fn principal(class: Classification, message: &impl Message) -> MspPrincipal {
    MspPrincipal {
        principal_classification: class as i32,
        principal: message.encode_to_vec().into(),
    }
}

fn role(msp_id: &str, role: i32) -> MspPrincipal {
    principal(
        Classification::Role,
        &MspRole {
            msp_identifier: msp_id.to_owned(),
            role,
        },
    )
}

fn combined(parts: &[MspPrincipal]) -> MspPrincipal {
    let principals = parts.to_vec();
    principal(Classification::Combined, &CombinedPrincipal { principals })
}

fn in_unit(name: &str, certifier: &[u8]) -> MspPrincipal {
    let wanted = OrganizationUnit {
        msp_identifier: ORG.to_owned(),
        organizational_unit_identifier: name.to_owned(),
        certifiers_identifier: certifier.to_vec().into(),
    };
    principal(Classification::OrganizationUnit, &wanted)
}

fn msp(config: &FabricMspConfig) -> Msp {
    Msp::from_config(config, MspVersion::V3_0).expect("a good configuration")
}

fn identity(msp: &Msp, made: &Made) -> Arc<Identity> {
    msp.deserialize(&made.serialized(ORG)).expect("recognised")
}

/// Which of member, admin, client, peer, orderer an identity is.
fn roles(msp: &Msp, made: &Made) -> Vec<i32> {
    let identity = identity(msp, made);
    (0..5)
        .filter(|number| msp.satisfies(&identity, &role(ORG, *number)).is_ok())
        .collect()
}

#[test]
fn roles_come_from_organizational_units() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let cases: [(&[&str], &[i32]); 6] = [
        (&["admin"], &[0, 1]),
        (&["client"], &[0, 2]),
        (&["peer"], &[0, 3]),
        (&["orderer"], &[0, 4]),
        (&[], &[]),
        (&["peer", "client"], &[]),
    ];
    for (units, expected) in cases {
        assert_eq!(roles(&msp, &root.member("x", units)), expected, "{units:?}");
    }
}

#[test]
fn an_explicit_admin_is_one_by_its_bytes() {
    let root = Made::root("root");
    let admin = root.member("admin", &["client"]);
    let mut with_roles = config(ORG, &[&root]);
    with_roles.admins = vec![admin.pem.clone().into()];
    assert_eq!(roles(&msp(&with_roles), &admin), [0, 1, 2]);
    let mut without = with_roles;
    without.fabric_node_ous = None;
    let msp = msp(&without);
    assert_eq!(roles(&msp, &admin), [0, 1]);
    let other = root.member("other", &["admin"]);
    assert_eq!(
        roles(&msp, &other),
        [0],
        "organizational units give no role here"
    );
    let orderer = msp.satisfies(&identity(&msp, &other), &role(ORG, 4));
    assert_eq!(orderer, Err(PrincipalRefused::Unsupported(4)));
    let peer = msp.satisfies(&identity(&msp, &other), &role(ORG, 3));
    assert_eq!(peer, Err(PrincipalRefused::RoleUndefined("peer")));
}

#[test]
fn a_role_that_is_not_configured_is_nobodys() {
    let root = Made::root("root");
    let mut config = config(ORG, &[&root]);
    config
        .fabric_node_ous
        .as_mut()
        .expect("set")
        .orderer_ou_identifier = None;
    let msp = msp(&config);
    let refused = msp.satisfies(&identity(&msp, &root.member("x", &["peer"])), &role(ORG, 4));
    assert_eq!(refused, Err(PrincipalRefused::RoleUndefined("orderer")));
}

#[test]
fn principals_of_other_msps_and_unknown_ones_are_refused() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let identity = identity(&msp, &root.member("x", &["peer"]));
    let refused = |principal| msp.satisfies(&identity, &principal).expect_err("refused");
    let (wanted, got) = ("Org2MSP".to_owned(), ORG.to_owned());
    assert_eq!(
        refused(role("Org2MSP", 0)),
        PrincipalRefused::OtherMsp { wanted, got }
    );
    assert_eq!(refused(role(ORG, 5)), PrincipalRefused::Unsupported(5));
    let class = |number| MspPrincipal {
        principal_classification: number,
        ..Default::default()
    };
    assert_eq!(refused(class(9)), PrincipalRefused::Unsupported(9));
    let junk = |number| MspPrincipal {
        principal_classification: number,
        principal: vec![0xff, 0xff].into(),
    };
    assert_eq!(refused(junk(0)), PrincipalRefused::Malformed("MSPRole"));
    assert_eq!(
        refused(junk(1)),
        PrincipalRefused::Malformed("OrganizationUnit")
    );
    assert_eq!(refused(junk(2)), IdentityRefused::NotAnIdentity.into());
    assert_eq!(
        refused(junk(3)),
        PrincipalRefused::Malformed("MSPIdentityAnonymity")
    );
    assert_eq!(
        refused(junk(4)),
        PrincipalRefused::Malformed("CombinedPrincipal")
    );
}

#[test]
fn an_organizational_unit_needs_the_exact_certifier() {
    let root = Made::root("root");
    let below = root.intermediate("below");
    let mut config = config(ORG, &[&root]);
    config.intermediate_certs = vec![below.pem.clone().into()];
    let msp = msp(&config);
    let identity = identity(&msp, &below.member("x", &["peer", "blue"]));
    let sanitized = |made: &Made| {
        let ca = made
            .certificate()
            .with_low_s(root.certificate().public_key());
        ca.expect("ECDSA").der().to_vec()
    };
    let chain = crate::crypto::sha256_parts(&[&sanitized(&below), &sanitized(&root)]);
    assert_eq!(msp.satisfies(&identity, &in_unit("blue", &chain)), Ok(()));
    let refused = Err(PrincipalRefused::NotInUnit("blue".to_owned()));
    assert_eq!(msp.satisfies(&identity, &in_unit("blue", &[])), refused);
    let root_alone = crate::crypto::sha256(&sanitized(&root));
    assert_eq!(
        msp.satisfies(&identity, &in_unit("blue", &root_alone)),
        refused
    );
    let red = Err(PrincipalRefused::NotInUnit("red".to_owned()));
    assert_eq!(msp.satisfies(&identity, &in_unit("red", &chain)), red);
}

#[test]
fn an_identity_principal_names_one_certificate() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let (one, two) = (root.member("one", &["peer"]), root.member("two", &["peer"]));
    let invalid = root.member("three", &[]);
    let named = |made: &Made| MspPrincipal {
        principal_classification: Classification::Identity as i32,
        principal: made.serialized(ORG).into(),
    };
    assert_eq!(msp.satisfies(&identity(&msp, &one), &named(&one)), Ok(()));
    let refused = msp.satisfies(&identity(&msp, &one), &named(&two));
    assert_eq!(refused, Err(PrincipalRefused::NotTheOne));
    let refused = msp.satisfies(&identity(&msp, &invalid), &named(&invalid));
    assert!(matches!(
        refused,
        Err(PrincipalRefused::Identity(IdentityRefused::NoRole(_)))
    ));
}

#[test]
fn certificates_are_nominal() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let identity = identity(&msp, &root.member("x", &["peer"]));
    let kind = |anonymity_type| {
        principal(
            Classification::Anonymity,
            &MspIdentityAnonymity { anonymity_type },
        )
    };
    assert_eq!(msp.satisfies(&identity, &kind(0)), Ok(()));
    assert_eq!(
        msp.satisfies(&identity, &kind(1)),
        Err(PrincipalRefused::NotAnonymous)
    );
    assert_eq!(
        msp.satisfies(&identity, &kind(2)),
        Err(PrincipalRefused::Unsupported(2))
    );
}

#[test]
fn all_parts_of_a_combination_must_match() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let identity = identity(&msp, &root.member("x", &["peer"]));
    let (member, peer, admin) = (role(ORG, 0), role(ORG, 3), role(ORG, 1));
    let nested = combined(&[member.clone(), combined(std::slice::from_ref(&peer))]);
    assert_eq!(msp.satisfies(&identity, &nested), Ok(()));
    let refused = msp.satisfies(&identity, &combined(&[nested, admin]));
    assert_eq!(refused, Err(PrincipalRefused::NotInRole("admin")));
    let empty = msp.satisfies(&identity, &combined(&[member, combined(&[])]));
    assert_eq!(empty, Err(PrincipalRefused::EmptyCombination));
    // Deep nesting must not cost the stack.
    let deep = (0..2_000).fold(peer, |inner, _| combined(&[inner]));
    assert_eq!(msp.satisfies(&identity, &deep), Ok(()));
}

#[test]
fn old_versions_know_fewer_principals() {
    let root = Made::root("root");
    let mut config = config(ORG, &[&root]);
    config.admins = vec![root.member("admin", &["client"]).pem.into()];
    let member = root.member("x", &["peer"]);
    let anonymity = MspPrincipal {
        principal_classification: 3,
        ..Default::default()
    };
    let combination = combined(&[role(ORG, 0)]);
    use MspVersion::{V1_0, V1_1, V1_3, V1_4_3};
    for (version, known) in [(V1_0, false), (V1_1, false), (V1_3, true), (V1_4_3, true)] {
        let msp = Msp::from_config(&config, version).expect("an MSP");
        let identity = identity(&msp, &member);
        assert_eq!(
            msp.satisfies(&identity, &role(ORG, 0)),
            Ok(()),
            "{version:?}"
        );
        for principal in [&anonymity, &combination] {
            assert_eq!(
                msp.satisfies(&identity, principal).is_ok(),
                known,
                "{version:?}"
            );
        }
        let peer = msp.satisfies(&identity, &role(ORG, 3));
        assert_eq!(peer.is_ok(), version > V1_0, "{version:?}");
        let orderer = msp.satisfies(&identity, &role(ORG, 4));
        assert_eq!(
            orderer == Err(PrincipalRefused::Unsupported(4)),
            version < V1_4_3
        );
    }
}

#[test]
fn a_named_certifier_binds_the_role() {
    let (right, wrong) = (Made::root("right"), Made::root("wrong"));
    let mut config = config(ORG, &[&right, &wrong]);
    config
        .fabric_node_ous
        .as_mut()
        .expect("set")
        .peer_ou_identifier = Some(FabricOuIdentifier {
        certificate: right.pem.clone().into(),
        organizational_unit_identifier: "peer".to_owned(),
    });
    let msp = msp(&config);
    assert_eq!(roles(&msp, &right.member("x", &["peer"])), [0, 3]);
    assert_eq!(roles(&msp, &wrong.member("x", &["peer"])), [] as [i32; 0]);
}
