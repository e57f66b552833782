//! Configurations that make an MSP, and those that do not.

use tidings_proto::msp::{FabricCryptoConfig, FabricNodeOUs, FabricOuIdentifier};

use super::*;
use crate::crypto::SignatureRefused;
use crate::testing::{ECDSA_SHA256, Made, assemble, config, crl};

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
    config.admins = vec![admin.pem.into()];
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
    config.intermediate_certs = vec![below.pem.into()];
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
            reason: CrlRefused
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
    let mut body = root.certificate().tbs().to_vec();
    let at = body
        .windows(5)
        .position(|window| window == [0x06, 0x03, 0x55, 0x1d, 0x0e]);
    body[at.expect("the extension") + 4] = 0x63;
    let signature = root.private_key().sign(&body).expect("a signature");
    let der = assemble(&body, &ECDSA_SHA256, &signature);
    let mut config = config(ORG, &[&root]);
    config.root_certs = vec![pem::encode("CERTIFICATE", &der).into()];
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
    let mut without_admins = config.clone();
    without_admins.admins.clear();
    for version in [MspVersion::V1_0, MspVersion::V1_1, MspVersion::V1_3] {
        let nobody = Msp::from_config(&without_admins, version).map(drop);
        assert_eq!(nobody, Ok(()), "{version:?} needs no administrator");
    }
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
