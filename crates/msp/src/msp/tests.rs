//! MSPs: setting up, recognising and approving, and every way to be turned away.

use rcgen::{
    CertificateRevocationListParams, ExtendedKeyUsagePurpose, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber,
};
use tidings_proto::msp::{FabricCryptoConfig, FabricMspConfig, FabricNodeOUs, FabricOuIdentifier};

use super::*;
use crate::crypto::SignatureRefused;
use crate::testing::{Made, ca_params, config, crl, member_params, serialized, twin};

const ORG: &str = "Org1MSP";

fn msp(config: &FabricMspConfig) -> Msp {
    Msp::from_config(config, MspVersion::V3_0).expect("a good configuration")
}

fn refused(config: &FabricMspConfig) -> MspRefused {
    Msp::from_config(config, MspVersion::V3_0).expect_err("a bad configuration")
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
fn exactly_one_role_is_demanded() {
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
fn a_role_counts_only_by_the_right_ca() {
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
fn the_certifier_of_an_intermediate_is_its_whole_chain() {
    let root = Made::root("root");
    let (upper, other) = (root.intermediate("upper"), root.intermediate("other"));
    let lower = upper.intermediate("lower");
    let mut config = config(ORG, &[&root]);
    let intermediates = [&upper, &lower, &other];
    config.intermediate_certs = intermediates.map(|ca| ca.pem.clone().into()).into();
    let with = |certificate: &str| {
        let mut config = config.clone();
        let node_ous = config.fabric_node_ous.as_mut().expect("set");
        node_ous.peer_ou_identifier = Some(unit("peer", certificate));
        Msp::from_config(&config, MspVersion::V3_0)
    };
    let by_lower = with(&lower.pem).expect("at the bottom of the tree");
    assert_eq!(verdict(&by_lower, &lower.member("x", &["peer"])), Ok(()));
    assert!(verdict(&by_lower, &other.member("x", &["peer"])).is_err());
    // The root's name is the root alone, which no chain through an intermediate has.
    let by_root = with(&root.pem).expect("a root may be named");
    assert!(verdict(&by_root, &lower.member("x", &["peer"])).is_err());
    assert!(matches!(
        with(&upper.pem),
        Err(MspRefused::Chain {
            kind: CaKind::Certifier,
            ..
        })
    ));
    let stranger = with(&Made::root("stranger").pem).expect_err("not a CA of the MSP");
    assert_eq!(stranger, MspRefused::UnknownCertifier("peer".to_owned()));
}

#[test]
fn node_ous_without_any_entry_or_switched_off_demand_nothing() {
    let root = Made::root("root");
    let admin = root.member("admin", &[]);
    let mut config = config(ORG, &[&root]);
    config.admins = vec![admin.pem.clone().into()];
    for node_ous in [
        Some(FabricNodeOUs {
            enable: true,
            ..FabricNodeOUs::default()
        }),
        config.fabric_node_ous.clone().map(|ous| FabricNodeOUs {
            enable: false,
            ..ous
        }),
        None,
    ] {
        config.fabric_node_ous = node_ous;
        assert_eq!(verdict(&msp(&config), &root.member("x", &[])), Ok(()));
    }
}

#[test]
fn the_list_of_units_lets_in_what_it_names() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let mut config = config(ORG, &[&root, &other]);
    config.fabric_node_ous = None;
    let admin = root.member("admin", &["blue"]);
    config.admins = vec![admin.pem.clone().into()];
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
fn cas_and_self_signed_certificates_are_nobody() {
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
fn a_root_that_has_an_intermediate_issues_no_members() {
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
fn a_certificate_for_clients_of_tls_only_is_refused() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let mut params = member_params("x", &["peer"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let refused = verdict(&msp, &root.issue(params));
    let purpose = ChainRefused::KeyPurpose("CN=x, OU=peer".to_owned());
    assert_eq!(refused, Err(IdentityRefused::Chain(purpose)));
}

#[test]
fn ed25519_needs_version_3_and_rsa_is_never_an_identity() {
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
fn a_revocation_list_counts_for_its_own_ca_only() {
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
    let nobodys = with(vec![list(None, &root)]);
    assert_eq!(nobodys, Err(IdentityRefused::CrlWithoutAuthority));
}

#[test]
fn a_revoked_ca_spoils_the_msp() {
    let root = Made::root("root");
    let below = root.intermediate("below");
    let ca = root.certificate();
    let key_id = ca.extensions().subject_key_id.clone();
    let serial = below.certificate().serial().to_vec();
    let list = crl(
        ca.subject_der(),
        key_id.as_deref(),
        &[&serial],
        &root.private_key(),
    );
    let mut config = config(ORG, &[&root]);
    config.intermediate_certs = vec![below.pem.clone().into()];
    assert!(Msp::from_config(&config, MspVersion::V3_0).is_ok());
    config.revocation_list = vec![list.into()];
    let reason = IdentityRefused::Revoked("CN=below".to_owned());
    assert_eq!(
        refused(&config),
        MspRefused::Ca {
            kind: CaKind::Intermediate,
            reason
        }
    );
}

#[test]
fn both_twins_of_a_certificate_are_one_identity() {
    let root = Made::root("root");
    let msp = msp(&config(ORG, &[&root]));
    let member = root.member("x", &["peer"]);
    let certificate = member.certificate();
    let der = certificate.der();
    let at = der.len() - certificate.signature().len();
    let other = twin(certificate.signature());
    // The twin may be a byte longer or shorter, so the frame is written anew.
    let body = crate::der::read(crate::der::SEQUENCE, der)
        .expect("a sequence")
        .content;
    let bits_header = at - 1 - 2 - (der.len() - body.len());
    let mut content = body[..bits_header].to_vec();
    let bits = [&[0], other.as_slice()].concat();
    crate::der::write(crate::der::BIT_STRING, &bits, &mut content);
    let mut twin = Vec::new();
    crate::der::write(crate::der::SEQUENCE, &content, &mut twin);
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

#[test]
fn configurations_that_cannot_work_say_why() {
    let root = Made::root("root");
    let good = config(ORG, &[&root]);
    let with = |change: fn(&mut FabricMspConfig)| {
        let mut config = good.clone();
        change(&mut config);
        refused(&config)
    };
    assert_eq!(with(|config| config.name.clear()), MspRefused::NoName);
    assert_eq!(
        with(|config| config.root_certs.clear()),
        MspRefused::NoRoots
    );
    assert_eq!(
        with(|config| config.fabric_node_ous = None),
        MspRefused::NoAdmins
    );
    let crl = with(|config| config.revocation_list = vec!["junk".into()]);
    assert_eq!(
        crl,
        MspRefused::Crl {
            number: 1,
            reason: crate::crl::CrlRefused
        }
    );
    let junk = with(|config| config.intermediate_certs = vec!["junk".into()]);
    let (kind, reason) = (CaKind::Intermediate, CertificateRefused::NotPem);
    assert_eq!(
        junk,
        MspRefused::Certificate {
            kind,
            number: 1,
            reason
        }
    );
    let hash = with(|config| {
        config.crypto_config = Some(FabricCryptoConfig {
            identity_identifier_hash_function: "MD5".to_owned(),
            ..FabricCryptoConfig::default()
        });
    });
    assert_eq!(hash, MspRefused::IdentityHash("MD5".to_owned()));
}

#[test]
fn cas_must_be_cas_and_chain() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let member = root.member("x", &["peer"]);
    let mut with_member = config(ORG, &[&root]);
    with_member.intermediate_certs = vec![member.pem.clone().into()];
    let subject = || "CN=x, OU=peer".to_owned();
    let kind = CaKind::Intermediate;
    assert_eq!(
        refused(&with_member),
        MspRefused::NotACa {
            kind,
            subject: subject()
        }
    );
    let mut with_orphan = config(ORG, &[&root]);
    with_orphan.intermediate_certs = vec![other.intermediate("orphan").pem.into()];
    assert!(matches!(
        refused(&with_orphan),
        MspRefused::Chain {
            kind: CaKind::Intermediate,
            ..
        }
    ));
    let as_root = config(ORG, &[&member]);
    assert!(matches!(
        refused(&as_root),
        MspRefused::Chain {
            kind: CaKind::Root,
            ..
        }
    ));
    let mut tls = config(ORG, &[&root]);
    tls.tls_root_certs = vec![other.pem.clone().into()];
    tls.tls_intermediate_certs = vec![root.intermediate("tls").pem.into()];
    let kind = CaKind::TlsIntermediate;
    assert!(matches!(refused(&tls), MspRefused::Chain { kind: found, .. } if found == kind));
    tls.tls_intermediate_certs = vec![other.intermediate("tls").pem.into()];
    let msp = msp(&tls);
    assert_eq!(msp.tls_roots(), [other.certificate().der()]);
    assert_eq!(msp.tls_intermediates().len(), 1);
}

#[test]
fn a_ca_without_a_subject_key_identifier_is_refused() {
    // CAs made here always have one, so it is renamed to an extension that nobody knows.
    let root = Made::root("root");
    let der = root.certificate().der().to_vec();
    let body = root.certificate().tbs().to_vec();
    let at = body
        .windows(5)
        .position(|window| window == [0x06, 0x03, 0x55, 0x1d, 0x0e]);
    let mut body = body;
    body[at.expect("the extension") + 4] = 0x63;
    let signature = root.private_key().sign(&body).expect("a signature");
    let inner = crate::der::read(crate::der::SEQUENCE, &der)
        .expect("a sequence")
        .content;
    let algorithm = &inner[body.len()..body.len() + 12];
    let mut content = [body.as_slice(), algorithm].concat();
    let bits = [&[0], signature.as_slice()].concat();
    crate::der::write(crate::der::BIT_STRING, &bits, &mut content);
    let mut der = Vec::new();
    crate::der::write(crate::der::SEQUENCE, &content, &mut der);
    let mut config = config(ORG, &[&root]);
    config.root_certs = vec![crate::pem::encode("CERTIFICATE", &der).into()];
    let (kind, subject) = (CaKind::Root, "CN=root".to_owned());
    assert_eq!(
        refused(&config),
        MspRefused::NoSubjectKeyId { kind, subject }
    );
}

#[test]
fn tls_pools_take_every_block_of_an_item() {
    let (root, one, two) = (Made::root("root"), Made::root("one"), Made::root("two"));
    let mut config = config(ORG, &[&root]);
    config.tls_root_certs = vec![[one.pem.clone(), two.pem.clone()].concat().into()];
    let msp = msp(&config);
    assert_eq!(
        msp.tls_roots(),
        [one.certificate().der(), two.certificate().der()]
    );
}

#[test]
fn explicit_administrators_are_checked() {
    let root = Made::root("root");
    let with = |version, made: &Made| {
        let mut config = config(ORG, &[&root]);
        config.admins = vec![made.pem.clone().into()];
        Msp::from_config(&config, version).map(|_| ())
    };
    use MspVersion::{V1_1, V3_0};
    let subject = |units: &str| format!("CN=x{units}");
    assert_eq!(with(V3_0, &root.member("x", &["client"])), Ok(()));
    assert_eq!(with(V3_0, &root.member("x", &["admin"])), Ok(()));
    let peer = with(V3_0, &root.member("x", &["peer"]));
    assert_eq!(
        peer,
        Err(MspRefused::AdminWithoutRole(subject(", OU=peer")))
    );
    // Older versions know clients only, and the admin must be valid.
    assert_eq!(with(V1_1, &root.member("x", &["client"])), Ok(()));
    assert!(with(V1_1, &root.member("x", &["admin"])).is_err());
    let stranger = Made::root("stranger").member("x", &["client"]);
    assert!(matches!(
        with(V3_0, &stranger),
        Err(MspRefused::Chain {
            kind: CaKind::Admin,
            ..
        })
    ));
}

#[test]
fn version_1_1_demands_both_roles_and_1_0_knows_none() {
    let root = Made::root("root");
    let mut config = config(ORG, &[&root]);
    config.admins = vec![root.member("admin", &["client"]).pem.into()];
    let without_peer = |config: &FabricMspConfig| {
        let mut config = config.clone();
        config
            .fabric_node_ous
            .as_mut()
            .expect("set")
            .peer_ou_identifier = None;
        config
    };
    let refused = Msp::from_config(&without_peer(&config), MspVersion::V1_1).expect_err("missing");
    assert_eq!(refused, MspRefused::NodeOuMissing("PeerOUIdentifier"));
    let member = root.member("x", &[]);
    let oldest = Msp::from_config(&without_peer(&config), MspVersion::V1_0).expect("an MSP");
    assert_eq!(verdict(&oldest, &member), Ok(()));
    let newer = Msp::from_config(&config, MspVersion::V1_1).expect("an MSP");
    assert!(verdict(&newer, &member).is_err());
    // Admin and orderer are no roles there.
    let orderer = verdict(&newer, &root.member("x", &["orderer"]));
    assert_eq!(
        orderer,
        Err(IdentityRefused::NoRole("CN=x, OU=orderer".to_owned()))
    );
}

#[test]
fn hash_settings_are_followed() {
    let root = Made::root("root");
    let member = root.member("x", &["peer"]);
    let with = |family: &str, hash: &str| {
        let mut config = config(ORG, &[&root]);
        config.crypto_config = Some(FabricCryptoConfig {
            signature_hash_family: family.to_owned(),
            identity_identifier_hash_function: hash.to_owned(),
        });
        msp(&config)
            .deserialize(&member.serialized(ORG))
            .expect("recognised")
    };
    let key = member.private_key();
    let sha2 = key
        .sign_with(HashFamily::Sha2, b"message")
        .expect("a signature");
    let sha3 = key
        .sign_with(HashFamily::Sha3, b"message")
        .expect("a signature");
    let verdicts = |family| {
        let identity = with(family, "SHA384");
        assert_eq!(identity.id().certificate.len(), 96);
        [
            identity.verify(b"message", &sha2),
            identity.verify(b"message", &sha3),
        ]
    };
    assert_eq!(verdicts("SHA2"), [Ok(()), Err(SignatureRefused::Mismatch)]);
    assert_eq!(verdicts("SHA3"), [Err(SignatureRefused::Mismatch), Ok(())]);
    assert_eq!(verdicts("SHA9"), [Err(SignatureRefused::HashFamily); 2]);
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
