//! Keys and signatures against vectors made by OpenSSL, against each other, and against junk.

use proptest::prelude::*;
use rcgen::KeyPair;

use super::*;
use crate::pem;
use crate::testing::{public_key, twin};

const MESSAGE: &[u8] = b"tidings";

/// Kind of key, public key and signature over the message with SHA-256 (but Ed25519), by OpenSSL.
const VECTORS: [(&str, &str, &str); 4] = [
    (
        "ECDSA P-256",
        "3059301306072a8648ce3d020106082a8648ce3d03010703420004c45e1a6a230095d0f056f3e0c22df472cc8347f37765f6f3b300c4530345aaeec61b5264ed5726472cd17c47e07bedfba87d2506f9c8fb4d740ebdff11fe771f",
        "3045022100867acd2b457bd7c3b29635cbb5922c1c19647fc399201a829be89f42994556a80220158bebe026d43487c91987123d3356ff9fd1f6baf3da8bb900e3095d65a958a2",
    ),
    (
        "ECDSA P-384",
        "3076301006072a8648ce3d020106052b8104002203620004531f0ad9e12145d9a20e2cbb696a86d4e4b5e3cbcb23671b5a82c074615ebebf40da41f89d300f4eeeb5f4292796d473b31ff4727ba4e7fdf6de9fae693d58f9c9f4d7d5fb7decb69ee5710e854dd907913211ad17a47cc72419e1d242264110",
        "3065023100d75424ce0b602f70eb596a7c88853c5498ff415a178e4adc74a4bf5ffc40e05d5bd5de70ca99174a74f504dfd2b4ae3a02303614e7b5e0ec8af88da909821328385f37c4aa5483b7a804516ce80e942b4069671a6883b8cb77c2d4383e1d3d6f744c",
    ),
    (
        "ECDSA P-521",
        "30819b301006072a8648ce3d020106052b810400230381860004016a5184a6024e43bf1ee2d027aeaa7d92e2b11a3449818e72117c56c897b7a566b6484c7a154ddf762c689058744362880169f05d0f3e0748e1fdb3bb1e2e15d6ac01c7537e441a31905e1ad82823252d9c245bf2c8479d587a353d7846ada0161f3bb6e556523337157ba365fca41c6c71f5ba84b42300d436219a844849d40de4e556",
        "308187024201962dca2d2d61849eb935f8b1b973b8f33ce6a3efcbe39f51a4f8cfd604c37a2a42fe436968b3f6d757cb04487cd718f3afa855cc500bfa13c5633443d21b350ee202416f8855757c54a14a5531cc14e644e4e4a26c4a3201d98deb47540874740e77eb5e8513a3cc3f07d12a4ea92018dfa2dd4ab66512e4946fb8aec97c9d88e4eaa2a2",
    ),
    (
        "Ed25519",
        "302a300506032b65700321003b44e61166c613b3afeaf9a7190206c955e09144811da007f46fc8d5a54c68c4",
        "207a3a47853207a582710b75b5ca3bcb9520f5e225093b92f628cc6c1b1bf45133b3808ae77afcccc573c5f9440ac850c156617575547c9c6096a1b094b05d0c",
    ),
];
/// The P-256 key of the vectors in SEC1, and its signature with SHA3-256.
const P256_SEC1: &str = "307702010104200f6f183b658aba9dcf44c2e979ce433d45117db99d226e564682999b11349c05a00a06082a8648ce3d030107a14403420004c45e1a6a230095d0f056f3e0c22df472cc8347f37765f6f3b300c4530345aaeec61b5264ed5726472cd17c47e07bedfba87d2506f9c8fb4d740ebdff11fe771f";
const P256_SHA3: &str = "304402206be02a32a88b2018b50e094b3170b9588deb5e00e5d7d9c17d91df4dc365f06b02200d066d569865859777e080c82760de115f77651dbdc8bcc1cfe1e5bf4443712c";
const P224_SPKI: &str = "304e301006072a8648ce3d020106052b81040021033a0004023594c040edcdbb9c9544dbce329c6ee5b09714024171d4b669afec45d23438c5691238485c2c57cac798cba9ea8c3cff10585f0ea17aab";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).expect("hex")
}

fn p256() -> (PublicKey, Vec<u8>) {
    (public_key(VECTORS[0].1), bytes(VECTORS[0].2))
}

fn verdict(signature: &[u8]) -> Result<(), SignatureRefused> {
    p256().0.verify(HashFamily::Sha2, MESSAGE, signature)
}

#[test]
fn signatures_of_openssl_verify_on_every_curve() {
    for (kind, spki, signature) in VECTORS {
        let key = public_key(spki);
        assert_eq!(key.kind(), kind);
        assert_eq!(
            key.verify(HashFamily::Sha2, MESSAGE, &bytes(signature)),
            Ok(()),
            "{kind}"
        );
        let refused = key.verify(HashFamily::Sha2, b"Tidings", &bytes(signature));
        assert_eq!(refused, Err(SignatureRefused::Mismatch), "{kind}");
    }
}

#[test]
fn the_sha3_family_hashes_with_sha3() {
    let (key, sha2) = p256();
    assert_eq!(
        key.verify(HashFamily::Sha3, MESSAGE, &bytes(P256_SHA3)),
        Ok(())
    );
    assert_eq!(
        key.verify(HashFamily::Sha3, MESSAGE, &sha2),
        Err(SignatureRefused::Mismatch)
    );
    let empty = "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a";
    assert_eq!(hex::encode(sha3_256(b"")), empty);
    assert_eq!(sha3_256_parts(&[b"ab", b"", b"c"]), sha3_256(b"abc"));
}

#[test]
fn nt_1_10_a_high_s_is_refused() {
    let (_, signature) = p256();
    assert_eq!(verdict(&twin(&signature)), Err(SignatureRefused::HighS));
    assert_eq!(twin(&twin(&signature)), signature);
}

#[test]
fn nt_1_10_integers_outside_the_group_are_refused() {
    let (_, signature) = p256();
    let parts = EcdsaParts::from_certificate(&signature).expect("a signature");
    let order = Curve::P256.order();
    let with = |r: &[u8], s: &[u8]| {
        let mut numbers = Vec::new();
        crate::der::write_positive(r, &mut numbers);
        crate::der::write_positive(s, &mut numbers);
        let mut out = Vec::new();
        crate::der::write(crate::der::SEQUENCE, &numbers, &mut out);
        out
    };
    let cases = [
        ("as it is", with(parts.r, parts.s), Ok(())),
        (
            "r = 0",
            with(&[0], parts.s),
            Err(SignatureRefused::Malformed),
        ),
        (
            "s = 0",
            with(parts.r, &[0]),
            Err(SignatureRefused::Malformed),
        ),
        ("s = n", with(parts.r, order), Err(SignatureRefused::HighS)),
        (
            "r = n",
            with(order, parts.s),
            Err(SignatureRefused::Mismatch),
        ),
        (
            "r huge",
            with(&[7; 2000], parts.s),
            Err(SignatureRefused::Mismatch),
        ),
        (
            "s huge",
            with(parts.r, &[7; 2000]),
            Err(SignatureRefused::HighS),
        ),
        (
            "swapped",
            with(parts.s, parts.r),
            Err(SignatureRefused::HighS),
        ),
    ];
    for (name, signature, expected) in cases {
        assert_eq!(verdict(&signature), expected, "{name}");
    }
}

#[test]
fn extra_bytes_are_tolerated_where_go_tolerates_them_only() {
    let (_, signature) = p256();
    let content = &signature[2..];
    let short = u8::try_from(content.len()).expect("short");
    let framed = |length: &[u8], content: &[u8]| [&[0x30], length, content].concat();
    let inside = [content, &[1, 2, 3]].concat();
    let refused = Err(SignatureRefused::Malformed);
    let mut padded = content.to_vec();
    padded.splice(..2, [2, 34, 0]);
    let mut negative = content.to_vec();
    negative.splice(..3, [2, 32]);
    let cases = [
        (
            "after the sequence",
            [signature.as_slice(), &[0]].concat(),
            Ok(()),
        ),
        ("inside after s", framed(&[short + 3], &inside), Ok(())),
        (
            "both",
            [framed(&[short + 3], &inside), vec![9]].concat(),
            Ok(()),
        ),
        ("empty", Vec::new(), refused),
        (
            "truncated",
            signature[..signature.len() - 1].to_vec(),
            refused,
        ),
        ("long length", framed(&[0x81, short], content), refused),
        (
            "indefinite",
            [framed(&[0x80], content), vec![0, 0]].concat(),
            refused,
        ),
        ("padded r", framed(&[short + 1], &padded), refused),
        ("negative r", framed(&[short - 1], &negative), refused),
        ("set", [&[0x31], &signature[1..]].concat(), refused),
    ];
    for (name, signature, expected) in cases {
        assert_eq!(verdict(&signature), expected, "{name}");
    }
}

#[test]
fn certificates_may_be_high_but_not_have_extra_bytes() {
    use crate::certificate::SignatureAlgorithm;
    let (key, signature) = p256();
    let verdict =
        |algorithm, signature: &[u8]| key.verify_certificate(algorithm, MESSAGE, signature);
    let sha256 = SignatureAlgorithm::EcdsaSha256;
    assert_eq!(verdict(sha256, &signature), Ok(()));
    assert_eq!(verdict(sha256, &twin(&signature)), Ok(()));
    let trailing = [signature.as_slice(), &[0]].concat();
    assert_eq!(verdict(sha256, &trailing), Err(SignatureRefused::Malformed));
    let sha384 = verdict(SignatureAlgorithm::EcdsaSha384, &signature);
    assert_eq!(sha384, Err(SignatureRefused::Mismatch));
    let rsa = verdict(SignatureAlgorithm::RsaSha256, &signature);
    assert_eq!(rsa, Err(SignatureRefused::Algorithm));
}

#[test]
fn ed25519_signatures_have_64_bytes() {
    let key = public_key(VECTORS[3].1);
    let signature = bytes(VECTORS[3].2);
    let longer = [signature.as_slice(), &[0]].concat();
    let refused = key.verify(HashFamily::Sha2, MESSAGE, &longer);
    assert_eq!(refused, Err(SignatureRefused::Length(65)));
}

#[test]
fn keys_that_cannot_be_used_say_why() {
    let refused = |der: &[u8]| PublicKey::from_spki_der(der).err();
    let kind = "EC curve 1.3.132.0.33".to_owned();
    assert_eq!(
        refused(&bytes(P224_SPKI)),
        Some(KeyRefused::Unsupported(kind))
    );
    assert_eq!(refused(b"no key"), Some(KeyRefused::Malformed));
    let spki = bytes(VECTORS[0].1);
    let trailing = [spki.as_slice(), &[0]].concat();
    assert_eq!(refused(&trailing), Some(KeyRefused::Malformed));
    let mut off_curve = spki.clone();
    *off_curve.last_mut().expect("not empty") ^= 1;
    assert_eq!(refused(&off_curve), Some(KeyRefused::Invalid));

    let refused = |text: &str| PrivateKey::from_pem(text.as_bytes()).err();
    assert_eq!(refused("no PEM"), Some(KeyRefused::NotPem));
    assert_eq!(
        refused(&pem::encode("PRIVATE KEY", b"junk")),
        Some(KeyRefused::NotPrivate)
    );
    assert_eq!(
        refused(&pem::encode("PUBLIC KEY", &spki)),
        Some(KeyRefused::NotPrivate)
    );
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let rsa = rsa.expect("an RSA key");
    assert_eq!(refused(&rsa.serialize_pem()), Some(KeyRefused::Rsa));
}

#[test]
fn private_keys_are_read_in_both_forms() {
    let sec1 = PrivateKey::from_pem(pem::encode("EC PRIVATE KEY", &bytes(P256_SEC1)).as_bytes());
    let sec1 = sec1.expect("a key");
    assert_eq!(*sec1.public_key(), p256().0);
    let pkcs8 = sec1.to_pkcs8_pem().expect("PEM");
    let pkcs8 = PrivateKey::from_pem(pkcs8.as_bytes()).expect("a key");
    assert_eq!(pkcs8.public_key(), sec1.public_key());
    let point = &bytes(VECTORS[0].1)[26..];
    assert_eq!(pkcs8.ski(), sha256(point));
}

#[test]
fn every_kind_of_key_signs_what_it_verifies() {
    let kinds = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
    ];
    for kind in kinds {
        let pair = KeyPair::generate_for(kind).expect("a key");
        let key = PrivateKey::from_pem(pair.serialize_pem().as_bytes()).expect("a key");
        for family in [HashFamily::Sha2, HashFamily::Sha3] {
            let signature = key.sign_with(family, MESSAGE).expect("a signature");
            let verdict = key.public_key().verify(family, MESSAGE, &signature);
            assert_eq!(verdict, Ok(()), "{kind:?} {family:?}");
        }
    }
}

#[test]
fn nt_1_10_a_key_of_another_curve_refuses() {
    let (_, signature) = p256();
    for (kind, spki, _) in &VECTORS[1..3] {
        let refused = public_key(spki).verify(HashFamily::Sha2, MESSAGE, &signature);
        assert_eq!(refused, Err(SignatureRefused::Mismatch), "{kind}");
    }
}

#[test]
fn hashing_in_parts_is_hashing_the_whole() {
    assert_eq!(sha256_parts(&[b"ab", b"", b"c"]), sha256(b"abc"));
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex::encode(sha256(b"abc")), known);
    let lengths = [
        (IdentityHash::Sha256, 32),
        (IdentityHash::Sha384, 48),
        (IdentityHash::Sha3_256, 32),
        (IdentityHash::Sha3_384, 48),
    ];
    for (hash, length) in lengths {
        let whole = hash.digest([b"abc".as_slice()]);
        assert_eq!(whole.len(), length);
        assert_eq!(hash.digest([b"a".as_slice(), b"bc"]), whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_signed_verifies_and_its_twin_does_not(message in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = PrivateKey::generate_p256().expect("a key");
        let signature = key.sign(&message).expect("a signature");
        let verify = |signature: &[u8]| key.public_key().verify(HashFamily::Sha2, &message, signature);
        prop_assert_eq!(verify(&signature), Ok(()));
        prop_assert_eq!(verify(&twin(&signature)), Err(SignatureRefused::HighS));
    }

    #[test]
    fn arbitrary_bytes_never_panic(junk in prop::collection::vec(any::<u8>(), 0..120)) {
        let (key, signature) = p256();
        let _ = PublicKey::from_spki_der(&junk);
        let _ = PrivateKey::from_der(&junk);
        let framed = [&[0x30, u8::try_from(junk.len()).expect("short")], junk.as_slice()].concat();
        for junk in [&junk, &framed] {
            prop_assert!(key.verify(HashFamily::Sha2, MESSAGE, junk).is_err());
        }
        let mut altered = signature;
        for (byte, mask) in altered.iter_mut().zip(&junk) {
            *byte ^= mask;
        }
        let _ = key.verify(HashFamily::Sha2, MESSAGE, &altered);
    }
}
