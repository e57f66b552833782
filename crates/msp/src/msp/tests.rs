//! MSPs: setting up, recognising and approving, and every way to be turned away.

use rcgen::{
    CertificateRevocationListParams, ExtendedKeyUsagePurpose, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber,
};
use tidings_proto::msp::{FabricMspConfig, FabricOuIdentifier};

use super::*;
use crate::testing::{
    ECDSA_SHA256, Made, assemble, ca_params, config, crl, member_params, serialized, twin,
};

const ORG: &str = "Org1MSP";

fn msp(config: &FabricMspConfig) -> Msp {
    Msp::from_config(config, MspVersion::V3_0).expect("a good configuration")
}

fn verdict(msp: &Msp, made: &Made) -> Result<(), IdentityRefused> {
    msp.validate(&*msp.deserialize(&made.serialized(ORG))?)
}

fn unit(name: &str, certificate: &str) -> FabricOuIdentifier {
    FabricOuIdentifier {
        certificate: certificate.to_owned().into(),
        organizational_unit_identifier: name.to_owned(),
    }
}

#[test]
fn members_of_one_role_are_approved() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    for role in ["client", "peer", "admin", "orderer"] {
        assert_eq!(verdict(&msp, &root.member(role, &[role])), Ok(()), "{role}");
        // Asked again: the same answer out of memory.
        assert_eq!(
            verdict(&msp, &root.member(role, &[role, "blue"])),
            Ok(()),
            "{role}"
        );
    }
    assert_eq!(&**msp.id(), ORG);
}

#[test]
fn nt_1_10_exactly_one_role_is_demanded() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let subject = |units: &str| format!("CN=x{units}");
    let none = verdict(&msp, &root.member("x", &[]));
    assert_eq!(none, Err(IdentityRefused::NoRole(subject(""))));
    let other = verdict(&msp, &root.member("x", &["blue"]));
    assert_eq!(other, Err(IdentityRefused::NoRole(subject(", OU=blue"))));
    for second in ["client", "peer"] {
        let two = verdict(&msp, &root.member("x", &["peer", second]));
        let expected = subject(&format!(", OU=peer, OU={second}"));
        assert_eq!(two, Err(IdentityRefused::SeveralRoles(expected)));
    }
}

#[test]
fn nt_1_10_a_role_counts_only_by_the_right_ca() {
    let (right, wrong) = (Made::root("right"), Made::root("wrong"));
    let mut config = config(ORG, &[&right, &wrong]);
    let node_ous = config.fabric_node_ous.as_mut().expect("set");
    node_ous.peer_ou_identifier = Some(unit("peer", &right.pem));
    let msp = msp(&config);
    assert_eq!(verdict(&msp, &right.member("x", &["peer"])), Ok(()));
    assert_eq!(verdict(&msp, &wrong.member("x", &["client"])), Ok(()));
    let refused = verdict(&msp, &wrong.member("x", &["peer"]));
    let (subject, unit) = ("CN=x, OU=peer".to_owned(), "peer".to_owned());
    assert_eq!(
        refused,
        Err(IdentityRefused::WrongCertifier { subject, unit })
    );
}

#[test]
fn the_list_of_units_lets_in_what_it_names() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let mut config = config(ORG, &[&root, &other]);
    config.fabric_node_ous = None;
    let admin = root.member("admin", &["blue"]);
    config.admins = vec![admin.pem.into()];
    config.organizational_unit_identifiers = vec![unit("blue", &root.pem)];
    let msp = msp(&config);
    assert_eq!(verdict(&msp, &root.member("x", &["red", "blue"])), Ok(()));
    let refused = [
        root.member("x", &["red"]),
        root.member("x", &[]),
        other.member("x", &["blue"]),
    ];
    for made in refused {
        let subject = made.certificate().subject().to_owned();
        assert_eq!(
            verdict(&msp, &made),
            Err(IdentityRefused::NotInOuList(subject))
        );
    }
}

#[test]
fn i_s4_identities_of_other_organizations_are_refused() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let msp = msp(&config(ORG, &[&root]));
    let foreign = other.member("x", &["peer"]);
    let named = msp.deserialize(&foreign.serialized("Org2MSP")).err();
    let (expected, got) = (ORG.to_owned(), "Org2MSP".to_owned());
    assert_eq!(named, Some(IdentityRefused::OtherMsp { expected, got }));
    let pretending = msp.deserialize(&foreign.serialized(ORG)).err();
    let unknown = ChainRefused::UnknownIssuer {
        subject: "CN=x, OU=peer".to_owned(),
        issuer: "CN=other".to_owned(),
    };
    assert_eq!(pretending, Some(IdentityRefused::Chain(unknown)));
}

#[test]
fn nt_1_10_cas_and_self_signed_certificates_are_nobody() {
    let root = Made::root("root");
    let intermediate = root.intermediate("ca below");
    let mut config = config(ORG, &[&root]);
    config.intermediate_certs = vec![intermediate.pem.clone().into()];
    let msp = msp(&config);
    for ca in [&root, &intermediate] {
        let subject = ca.certificate().subject().to_owned();
        assert_eq!(verdict(&msp, ca), Err(IdentityRefused::IsCa(subject)));
    }
    let key = KeyPair::generate().expect("a key");
    let alone = Made::self_signed(member_params("x", &["peer"]), key);
    assert!(matches!(
        verdict(&msp, &alone),
        Err(IdentityRefused::Chain(_))
    ));
    // A stranger's CA is recognised, as in Fabric, but not approved.
    let stranger = Made::root("stranger");
    assert!(msp.deserialize(&stranger.serialized(ORG)).is_ok());
    let subject = "CN=stranger".to_owned();
    assert_eq!(
        verdict(&msp, &stranger),
        Err(IdentityRefused::IsCa(subject))
    );
}

#[test]
fn nt_1_10_a_root_that_has_an_intermediate_issues_no_members() {
    let root = Made::root("root");
    let intermediate = root.intermediate("below");
    let mut config = config(ORG, &[&root]);
    config.intermediate_certs = vec![intermediate.pem.clone().into()];
    let msp = msp(&config);
    assert_eq!(verdict(&msp, &intermediate.member("x", &["peer"])), Ok(()));
    let refused = verdict(&msp, &root.member("x", &["peer"]));
    let inner = ChainRefused::InnerCa("CN=root".to_owned());
    assert_eq!(refused, Err(IdentityRefused::Chain(inner)));
}

#[test]
fn nt_1_10_a_certificate_for_clients_of_tls_only_is_refused() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let mut params = member_params("x", &["peer"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let refused = verdict(&msp, &root.issue(params));
    let purpose = ChainRefused::KeyPurpose("CN=x, OU=peer".to_owned());
    assert_eq!(refused, Err(IdentityRefused::Chain(purpose)));
}

#[test]
fn nt_1_10_ed25519_needs_version_3_and_rsa_is_never_an_identity() {
    let root = Made::root("root");
    let config = config(ORG, &[&root]);
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let member = root.issue_for(member_params("x", &["peer"]), ed25519);
    assert_eq!(verdict(&msp(&config), &member), Ok(()));
    let older = Msp::from_config(&config, MspVersion::V1_4_3).expect("an MSP");
    assert_eq!(
        verdict(&older, &member),
        Err(IdentityRefused::KeyKind("Ed25519"))
    );
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let member = root.issue_for(member_params("x", &["peer"]), rsa.expect("a key"));
    assert_eq!(
        verdict(&msp(&config), &member),
        Err(IdentityRefused::KeyKind("RSA"))
    );
}

#[test]
fn i_s3_revoked_certificates_are_refused() {
    let root = Made::root("root");
    let (bad, good) = (
        root.member("bad", &["peer"]),
        root.member("good", &["peer"]),
    );
    let revoked = RevokedCertParams {
        serial_number: bad.params.serial_number.clone().expect("set"),
        // A date far in the future changes nothing.
        revocation_time: rcgen::date_time_ymd(2035, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        // Nor does a list that should have been replaced long ago.
        next_update: rcgen::date_time_ymd(2026, 1, 2),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list
        .signed_by(&Issuer::from_params(&root.params, &root.key))
        .expect("a list");
    let mut config = config(ORG, &[&root]);
    for content in [list.pem().expect("PEM").into_bytes(), list.der().to_vec()] {
        config.revocation_list = vec![content.into()];
        let msp = msp(&config);
        let subject = "CN=bad, OU=peer".to_owned();
        assert_eq!(verdict(&msp, &bad), Err(IdentityRefused::Revoked(subject)));
        assert_eq!(verdict(&msp, &good), Ok(()));
    }
}

#[test]
fn nt_1_10_a_revocation_list_counts_for_its_own_ca_only() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let member = root.member("x", &["peer"]);
    let ca = root.certificate();
    let key_id = ca
        .extensions()
        .subject_key_id
        .clone()
        .expect("CAs have one");
    let serial = member.certificate().serial().to_vec();
    let list = |authority: Option<&[u8]>, signer: &Made| {
        crl(
            ca.subject_der(),
            authority,
            &[&serial],
            &signer.private_key(),
        )
    };
    let with = |lists: Vec<Vec<u8>>| {
        let mut config = config(ORG, &[&root, &other]);
        config.revocation_list = lists.into_iter().map(Into::into).collect();
        verdict(&msp(&config), &member)
    };
    let revoked = Err(IdentityRefused::Revoked("CN=x, OU=peer".to_owned()));
    assert_eq!(with(vec![list(Some(&key_id), &root)]), revoked);
    assert_eq!(
        with(vec![list(Some(&key_id), &other)]),
        Ok(()),
        "signed by another CA"
    );
    assert_eq!(
        with(vec![list(Some(b"somebody"), &root)]),
        Ok(()),
        "about another CA"
    );
    let both = vec![list(Some(&key_id), &other), list(Some(&key_id), &root)];
    assert_eq!(
        with(both),
        revoked,
        "a wrong list does not hide a right one"
    );
    let trailing = {
        let whole = list(Some(&key_id), &root);
        let outer = crate::der::read(crate::der::SEQUENCE, &whole).expect("a list");
        let body = crate::der::read(crate::der::SEQUENCE, outer.content).expect("its body");
        let signature = root.private_key().sign(body.whole).expect("a signature");
        let longer = [signature.as_slice(), b"more"].concat();
        assemble(body.whole, &ECDSA_SHA256, &longer)
    };
    assert_eq!(
        with(vec![trailing]),
        revoked,
        "Fabric does not see what trails"
    );
    let nobodys = with(vec![list(None, &root)]);
    assert_eq!(nobodys, Err(IdentityRefused::CrlWithoutAuthority));
}

#[test]
fn both_twins_of_a_certificate_are_one_identity() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let member = root.member("x", &["peer"]);
    let certificate = member.certificate();
    let twin = twin(certificate.signature());
    let twin = assemble(certificate.tbs(), &ECDSA_SHA256, &twin);
    let twin = crate::pem::encode("CERTIFICATE", &twin);
    assert_ne!(twin, certificate.to_pem());
    let one = msp
        .deserialize(&member.serialized(ORG))
        .expect("recognised");
    let two = msp
        .deserialize(&serialized(ORG, twin.as_bytes()))
        .expect("recognised");
    assert_eq!(one.id(), two.id());
    assert_eq!(one.certificate(), two.certificate());
    assert_eq!(msp.validate(&two), Ok(()));
    assert_ne!(
        one.serialized(),
        two.serialized(),
        "bytes are kept as received"
    );
}

#[test]
fn bytes_that_are_no_identity_are_refused() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let refused = |bytes: &[u8]| msp.deserialize(bytes).expect_err("no identity");
    assert_eq!(refused(&[]), IdentityRefused::NotAnIdentity);
    assert_eq!(refused(b"\xff\xff"), IdentityRefused::NotAnIdentity);
    let not_pem = IdentityRefused::Certificate(CertificateRefused::NotPem);
    let der = root.member("x", &["peer"]).certificate().der().to_vec();
    assert_eq!(refused(&serialized(ORG, &der)), not_pem);
    assert_eq!(refused(&serialized(ORG, b"")), not_pem);
    // Trailing bytes and other labels are the business of well-formedness alone.
    let pem = root.member("x", &["peer"]).pem;
    let loose = serialized(ORG, format!("{pem}more").as_bytes());
    assert!(msp.deserialize(&loose).is_ok());
    let trailing = IdentityRefused::NotWellFormed(NotWellFormed::Trailing(4));
    assert_eq!(msp.check_well_formed(&loose), Err(trailing));
}

#[test]
fn memory_is_bounded_and_long_identities_are_not_kept() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let pem = root.member("x", &["peer"]).pem;
    let padded = |text: &str| serialized(ORG, format!("{text}\n{pem}").as_bytes());
    let kept = |bytes: &[u8]| {
        let one = msp.deserialize(bytes).expect("recognised");
        let two = msp.deserialize(bytes).expect("recognised");
        Arc::ptr_eq(&one, &two)
    };
    let room = REMEMBERED_BYTES_MAX - padded("").len();
    assert!(kept(&padded(&"-".repeat(room))));
    assert!(!kept(&padded(&"-".repeat(room + 1))));
    let first = padded("first");
    let one = msp.deserialize(&first).expect("recognised");
    for number in 0..REMEMBERED_MAX {
        let _ = msp
            .deserialize(&padded(&number.to_string()))
            .expect("recognised");
    }
    let again = msp.deserialize(&first).expect("recognised");
    assert!(
        !Arc::ptr_eq(&one, &again),
        "the oldest went when the memory was full"
    );
}

/// Certificates that claim an RSA signature are recognised whoever made them, so strangers can
/// have as many judged as they like.
#[test]
fn verdicts_about_long_certificates_are_not_kept() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let kept = |name: &str| {
        let member = root.member(name, &["peer"]).certificate();
        Arc::ptr_eq(&msp.standing(&member), &msp.standing(&member))
    };
    assert!(kept("short"));
    assert!(!kept(&"long".repeat(REMEMBERED_BYTES_MAX / 4)));
}

#[test]
fn an_id_may_come_twice_only_with_the_same_content() {
    let (one, two) = (Made::root("one"), Made::root("two"));
    let (first, second) = (config("Org1MSP", &[&one]), config("Org2MSP", &[&two]));
    let both = MspManager::new(vec![msp(&first), msp(&second), msp(&first)]).expect("equal");
    assert_eq!(both.msps().count(), 2);
    let other = config("Org1MSP", &[&two]);
    let conflict = MspManager::new(vec![msp(&first), msp(&other)]).expect_err("different");
    assert_eq!(conflict, MspConflict("Org1MSP".to_owned()));

    let member = two.member("x", &["peer"]);
    let identity = both
        .deserialize(&member.serialized("Org2MSP"))
        .expect("recognised");
    assert_eq!(both.validate(&identity), Ok(()));
    let unknown = both
        .deserialize(&member.serialized("Org3MSP"))
        .expect_err("unknown");
    assert_eq!(unknown, IdentityRefused::UnknownMsp("Org3MSP".to_owned()));
    // An MSP does not judge the identities of another.
    let foreign = both.msp("Org1MSP").expect("known").validate(&identity);
    assert!(matches!(foreign, Err(IdentityRefused::OtherMsp { .. })));
}

#[test]
fn an_expired_ca_still_vouches_for_what_it_issued_in_time() {
    let mut params = ca_params("root");
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let root = Made::self_signed(params, KeyPair::generate().expect("a key"));
    let mut params = member_params("x", &["peer"]);
    params.not_before = rcgen::date_time_ymd(2001, 6, 1);
    params.not_after = rcgen::date_time_ymd(2001, 7, 1);
    assert_eq!(
        verdict(&msp(&config(ORG, &[&root])), &root.issue(params)),
        Ok(())
    );
}
