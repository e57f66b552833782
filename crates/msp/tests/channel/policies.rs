//! Policies over real signatures and MSPs.

use std::{borrow::Cow, sync::Arc};

use tidings_msp::{
    channel_config::ChannelConfig,
    identity::Identity,
    policy::{PolicyRefused, SignedDatum},
};
use tidings_proto::common::{implicit_meta_policy::Rule, msp_role::MspRoleType};

use crate::material::{Material, Member, tree};

const MESSAGE: &[u8] = b"message";

fn signed(member: &Member) -> SignedDatum<'static> {
    SignedDatum {
        message: Cow::Borrowed(MESSAGE),
        identity: Cow::Owned(member.identity.to_vec()),
        signature: Cow::Owned(member.sign(MESSAGE).to_vec()),
    }
}

fn forged(member: &Member) -> SignedDatum<'static> {
    SignedDatum {
        message: Cow::Borrowed(b"massage"),
        ..signed(member)
    }
}

fn config(material: &Material, policy: tidings_proto::common::Policy) -> ChannelConfig {
    let mut group = material.group();
    tree::put_policy(tree::at(&mut group, &["Application"]), "Tested", policy);
    ChannelConfig::from_config_block(&material.genesis(group)).unwrap()
}

const TESTED: &str = "/Channel/Application/Tested";

#[test]
fn names_are_absolute_or_relative_and_unknown_ones_reject() {
    let material = Material::new();
    let config = config(&material, tree::implicit(Rule::Any, "Readers"));
    let peer = [signed(&material.peer1)];
    let verdict = |path: &str| config.policies().policy(path).evaluate(&peer);
    for known in [
        "/Channel/Application/Readers",
        "Application/Readers",
        "/Channel/Application/Org1-group/Readers",
        "/Channel/Readers",
        "Readers",
    ] {
        assert_eq!(verdict(known), Ok(()), "{known}");
    }
    for unknown in [
        "",
        "/",
        "/Channel",
        "/Channel/",
        "/Channel/Nothing",
        "/channel/Readers",
        "/ChannelX/Readers",
        "/Application/Readers",
        "Channel/Readers",
        "Application",
        "Application/",
        "/Channel//Readers",
        "Application/Org9/Readers",
    ] {
        assert_eq!(
            verdict(unknown),
            Err(PolicyRefused::Unknown {
                path: unknown.to_owned()
            })
        );
    }
}

#[test]
fn only_good_signatures_count_and_each_signer_once() {
    let material = Material::new();
    let [m1, m2] = [&material.org1.msp_id, &material.org2.msp_id]
        .map(|msp_id| tree::role(msp_id, MspRoleType::Member));
    let config = config(&material, tree::out_of(2, vec![m1.clone(), m1, m2]));
    let policy = config.policies().policy(TESTED);
    let (a, b, c) = (&material.peer1, &material.admin1, &material.peer2);
    let refused = |signers| Err(PolicyRefused::Signature { signers });
    assert_eq!(policy.evaluate(&[signed(a), signed(b)]), Ok(()));
    assert_eq!(policy.evaluate(&[signed(a), signed(c)]), Ok(()));
    assert_eq!(policy.evaluate(&[]), refused(0));
    assert_eq!(policy.evaluate(&[signed(a)]), refused(1));
    assert_eq!(policy.evaluate(&[signed(a), signed(a)]), refused(1));
    assert_eq!(policy.evaluate(&[signed(a), forged(b)]), refused(1));
    // A forgery in front does not keep the real one out.
    assert_eq!(
        policy.evaluate(&[forged(a), forged(b), signed(b), signed(a)]),
        Ok(())
    );
    let unknown = SignedDatum {
        identity: Cow::Borrowed(b"nobody"),
        ..signed(a)
    };
    assert_eq!(policy.evaluate(&[unknown, signed(c)]), refused(1));
    let other = SignedDatum {
        identity: Cow::Owned(b.identity.to_vec()),
        ..signed(a)
    };
    assert_eq!(policy.evaluate(&[other, signed(c)]), refused(1));
}

#[test]
fn signed_bytes_are_bounded_altogether() {
    let material = Material::new();
    let member = tree::role(&material.org1.msp_id, MspRoleType::Member);
    let config = config(&material, tree::out_of(1, vec![member]));
    let policy = config.policies().policy(TESTED);
    let half = vec![0; tidings_msp::policy::SIGNED_BYTES_MAX / 2];
    let of = |message| SignedDatum {
        message: Cow::Borrowed(message),
        identity: Cow::Borrowed(b"nobody"),
        signature: Cow::Borrowed(b"none"),
    };
    let full = vec![of(&half), of(&half)];
    let refused = Err(PolicyRefused::Signature { signers: 0 });
    assert_eq!(policy.evaluate(&full), refused);
    let above = [full, vec![of(b"x")]].concat();
    assert_eq!(policy.evaluate(&above), Err(PolicyRefused::TooLong));
}

#[test]
fn identities_verified_elsewhere_get_the_same_answer() {
    let material = Material::new();
    let m1 = tree::role(&material.org1.msp_id, MspRoleType::Member);
    let config = config(&material, tree::out_of(2, vec![m1.clone(), m1]));
    let policy = config.policies().policy(TESTED);
    let identity =
        |member: &Member| -> Arc<Identity> { config.msps().deserialize(&member.identity).unwrap() };
    let (a, b) = (identity(&material.peer1), identity(&material.admin1));
    assert_eq!(policy.evaluate_identities(&[a.clone(), b]), Ok(()));
    let refused = policy.evaluate_identities(&[a.clone(), a.clone()]);
    assert_eq!(refused, Err(PolicyRefused::Signature { signers: 1 }));
    let crowd = vec![a; tidings_msp::policy::SIGNED_DATA_MAX + 1];
    let got = crowd.len();
    assert_eq!(
        policy.evaluate_identities(&crowd),
        Err(PolicyRefused::TooMany { got })
    );
}

#[test]
fn implicit_policies_count_the_groups_directly_below() {
    let material = Material::new();
    let (a, b) = (signed(&material.peer1), signed(&material.peer2));
    let refused = |satisfied, required| {
        let sub_policy = "Readers".to_owned();
        Err(PolicyRefused::ImplicitMeta {
            satisfied,
            required,
            sub_policy,
        })
    };
    for (rule, one, both) in [
        (Rule::Any, Ok(()), Ok(())),
        (Rule::All, refused(1, 2), Ok(())),
        (Rule::Majority, refused(1, 2), Ok(())),
    ] {
        let config = config(&material, tree::implicit(rule, "Readers"));
        let policy = config.policies().policy(TESTED);
        assert_eq!(policy.evaluate(std::slice::from_ref(&a)), one, "{rule:?}");
        assert_eq!(policy.evaluate(&[a.clone(), b.clone()]), both, "{rule:?}");
    }
    let config = config(&material, tree::implicit(Rule::Any, "Nothing"));
    let verdict = config.policies().policy(TESTED).evaluate(&[a, b]);
    let sub_policy = "Nothing".to_owned();
    let expect = PolicyRefused::ImplicitMeta {
        satisfied: 0,
        required: 1,
        sub_policy,
    };
    assert_eq!(verdict, Err(expect));
}

#[test]
fn roles_are_those_of_the_certificate() {
    let material = Material::new();
    for (role, member, admin) in [
        (MspRoleType::Member, true, true),
        (MspRoleType::Admin, false, true),
        (MspRoleType::Peer, true, false),
        (MspRoleType::Client, false, false),
    ] {
        let principal = tree::role(&material.org1.msp_id, role);
        let config = config(&material, tree::out_of(1, vec![principal]));
        let policy = config.policies().policy(TESTED);
        assert_eq!(
            policy.evaluate(&[signed(&material.peer1)]).is_ok(),
            member,
            "{role:?}"
        );
        assert_eq!(
            policy.evaluate(&[signed(&material.admin1)]).is_ok(),
            admin,
            "{role:?}"
        );
        assert!(
            policy.evaluate(&[signed(&material.peer2)]).is_err(),
            "{role:?}"
        );
    }
}

#[test]
fn policies_that_need_no_signature_are_named() {
    let material = Material::new();
    let quiet = config(&material, tree::implicit(Rule::Any, "Readers"));
    assert_eq!(quiet.policies().open(), [""; 0]);
    let open = config(&material, tree::out_of(0, vec![]));
    assert_eq!(open.policies().open(), [TESTED]);
    assert!(open.policies().policy(TESTED).is_open());
    let mut group = material.group();
    tree::at(&mut group, &["Application"]).groups.clear();
    let empty = ChannelConfig::from_config_block(&material.genesis(group)).unwrap();
    let expect = ["Admins", "Readers", "Writers"].map(|key| format!("/Channel/Application/{key}"));
    let open = empty.policies().open();
    assert!(expect.iter().all(|name| open.contains(name)), "{open:?}");
}
