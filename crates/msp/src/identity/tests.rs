//! Identities by their bytes, and our own.

use proptest::prelude::*;

use super::*;
use crate::crypto::sha256;
use crate::msp::{Msp, MspVersion};
use crate::testing::{Made, config, serialized};

#[test]
fn i_s1_the_pki_id_hashes_msp_and_certificate_without_a_separator() {
    let id = pki_id(&serialized("Org1MSP", b"certificate"));
    assert_eq!(id, Some(sha256(b"Org1MSPcertificate")));
    assert_eq!(id, pki_id(&serialized("Org1MSPc", b"ertificate")));
    assert_ne!(id, Some(sha256(&serialized("Org1MSP", b"certificate"))));
    assert_eq!(pki_id(&[]), None);
    assert_eq!(pki_id(b"\x0a\xffno identity"), None);
}

#[test]
fn a_signer_shows_what_others_recognise() {
    let root = Made::root("root");
    let peer = root.member("peer0", &["peer"]);
    let admin = root.member("admin", &["admin"]);
    let msp = Msp::from_config(&config("Org1MSP", &[&root]), MspVersion::V3_0).expect("an MSP");
    let signer = msp.signing_identity(peer.pem.as_bytes(), peer.private_key(), 1_800_000_000);
    let signer = signer.expect("a signer");
    assert_eq!(Some(*signer.pki_id()), pki_id(signer.serialized()));
    assert_eq!(&**signer.msp_id(), "Org1MSP");
    assert_eq!(signer.not_after(), peer.certificate().not_after());
    let seen = msp.deserialize(signer.serialized()).expect("recognised");
    assert_eq!(seen.certificate(), signer.certificate());
    assert_eq!(msp.check_well_formed(signer.serialized()), Ok(()));
    let signature = signer.sign(b"message").expect("a signature");
    assert_eq!(seen.verify(b"message", &signature), Ok(()));
    assert_eq!(
        seen.verify(b"messagf", &signature),
        Err(SignatureRefused::Mismatch)
    );
    // The same certificate counts once, whatever its bytes looked like.
    let dressed = [b"text\n".as_slice(), peer.pem.as_bytes()].concat();
    let dressed = msp
        .deserialize(&serialized("Org1MSP", &dressed))
        .expect("recognised");
    assert_ne!(dressed.serialized(), seen.serialized());
    assert_eq!(dressed.id(), seen.id());
    assert_eq!(
        seen.id().certificate,
        hex::encode(seen.certificate().fingerprint())
    );

    let wrong = msp.signing_identity(peer.pem.as_bytes(), admin.private_key(), 1_800_000_000);
    let subject = peer.certificate().subject().to_owned();
    assert_eq!(
        wrong.err(),
        Some(SigningIdentityRefused::WrongKey { subject })
    );
}

#[test]
fn i_s2_our_own_certificate_must_not_have_ended() {
    let root = Made::root("root");
    let peer = root.member("peer0", &["peer"]);
    let msp = Msp::from_config(&config("Org1MSP", &[&root]), MspVersion::V3_0).expect("an MSP");
    let end = peer.certificate().not_after();
    let sign_at = |now| msp.signing_identity(peer.pem.as_bytes(), peer.private_key(), now);
    assert!(sign_at(end - 1).is_ok());
    let refused = sign_at(end).expect_err("ended");
    let text = refused.to_string();
    assert!(
        text.contains("peer0") && text.contains("expired at Jan  1 00:00:00 2036"),
        "{text}"
    );
    // Others are still recognised and valid; their end is for those who hold connections.
    let seen = msp
        .deserialize(&peer.serialized("Org1MSP"))
        .expect("recognised");
    assert_eq!(msp.validate(&seen), Ok(()));
    assert_eq!(seen.expires_at(), end);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(junk in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = pki_id(&junk);
        let _ = pki_id(&serialized("Org1MSP", &junk));
    }
}
