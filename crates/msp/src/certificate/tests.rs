//! Certificates: what is read from them, and the two changes of form.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints as RcgenConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    SanType,
};

use super::*;
use crate::testing::{Made, ca_params, member_params, twin};

/// DER of a certificate with every other extension left out.
fn issued() -> (Made, Made) {
    let root = Made::root("ca.org1.test");
    let member = root.member("peer0.org1.test", &["peer", "blue"]);
    (root, member)
}

#[test]
fn the_fields_are_read() {
    let (root, member) = issued();
    let (ca, peer) = (root.certificate(), member.certificate());
    assert_eq!(peer.common_name(), "peer0.org1.test");
    assert_eq!(peer.organizational_units(), ["peer", "blue"]);
    assert_eq!(peer.issuer_der(), ca.subject_der());
    assert_eq!(peer.issuer(), "CN=ca.org1.test");
    assert_eq!(
        (peer.not_before(), peer.not_after()),
        (1_767_225_600, 2_082_758_400)
    );
    assert_eq!(peer.signature_algorithm(), SignatureAlgorithm::EcdsaSha256);
    assert_eq!(
        peer.serial(),
        member.params.serial_number.expect("set").to_bytes()
    );
    assert!(ca.is_ca() && !peer.is_ca());
    let extensions = peer.extensions();
    assert_eq!(extensions.authority_key_id, ca.extensions().subject_key_id);
    assert_eq!(extensions.key_usage, Some(1));
    assert_eq!(extensions.key_purposes, None);
    assert_eq!(extensions.unhandled_critical, None);
    assert_eq!(peer.check_signature_from(&ca), Ok(()));
    assert_eq!(ca.check_signature_from(&peer), Err(IssuerRefused::NotACa));
}

#[test]
fn extensions_are_read() {
    let root = Made::root("ca");
    let mut params = ca_params("below");
    params.is_ca = IsCa::Ca(RcgenConstraints::Constrained(3));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![
        SanType::DnsName("a.test".try_into().expect("ASCII")),
        SanType::IpAddress([127, 0, 0, 1].into()),
    ];
    let mut strange = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    strange.set_criticality(true);
    params.custom_extensions = vec![strange];
    let certificate = root.issue(params).certificate();
    let extensions = certificate.extensions();
    let constraints = BasicConstraints {
        ca: true,
        path_length: Some(3),
    };
    assert_eq!(extensions.basic_constraints, Some(constraints));
    let purposes = KeyPurposes {
        any: false,
        server_auth: true,
    };
    assert_eq!(extensions.key_purposes, Some(purposes));
    let names = &extensions
        .alternative_names
        .as_ref()
        .expect("present")
        .names;
    assert_eq!(names.dns, ["a.test"]);
    assert_eq!(names.ips, [[127, 0, 0, 1]]);
    assert_eq!(extensions.unhandled_critical.as_deref(), Some("1.2.3.4"));
}

#[test]
fn the_last_common_name_counts() {
    let root = Made::root("ca");
    let mut params = member_params("first", &[]);
    params
        .distinguished_name
        .push(DnType::CustomDnType(vec![2, 5, 4, 3]), "second");
    assert_eq!(root.issue(params).certificate().common_name(), "second");
}

#[test]
fn the_low_twin_replaces_a_high_signature_only() {
    let (root, member) = issued();
    let key = root.certificate().public_key().clone();
    let one = member.certificate();
    let other = one.with_signature(&twin(one.signature()));
    let (low_one, low_other) = (one.with_low_s(&key), other.with_low_s(&key));
    assert_eq!(low_one, low_other);
    let low = low_one.expect("sanitized");
    assert!(
        [&one, &other].contains(&&low),
        "one of the two was low already"
    );
    assert_ne!(one, other);
    assert_eq!(low.tbs(), one.tbs());
    assert_eq!(low.check_signature_from(&root.certificate()), Ok(()));
    assert_eq!(low.with_low_s(&key), Ok(low));
}

#[test]
fn the_parts_are_checked_to_the_byte() {
    let der = issued().1.certificate().der().to_vec();
    let refused = |der: &[u8]| {
        assert!(
            matches!(
                Certificate::from_der(der),
                Err(CertificateRefused::Malformed(_))
            ),
            "{der:02x?}"
        );
    };
    refused(&[]);
    refused(&der[..der.len() - 1]);
    refused(&[der.as_slice(), &[0]].concat());
    // An extra element after the signature, with the outer length made to fit.
    let mut content = der::read(der::SEQUENCE, &der)
        .expect("a sequence")
        .content
        .to_vec();
    content.extend_from_slice(&[5, 0]);
    let mut longer = Vec::new();
    der::write(der::SEQUENCE, &content, &mut longer);
    refused(&longer);
}

#[test]
fn an_extension_given_twice_is_refused() {
    let root = Made::root("ca");
    let mut params = member_params("member", &[]);
    let twice = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    params.custom_extensions = vec![twice.clone(), twice];
    let refused = Certificate::from_pem(root.issue(params).pem.as_bytes());
    let reason = CertificateRefused::Malformed("an extension appears twice");
    assert_eq!(refused, Err(reason));
}

#[test]
fn object_identifiers_are_as_large_as_go_reads_them() {
    let root = Made::root("ca");
    let verdict = |arc: u64| {
        let mut extended = member_params("member", &[]);
        let mut strange = CustomExtension::from_oid_content(&[1, 2, arc], vec![5, 0]);
        strange.set_criticality(true);
        extended.custom_extensions = vec![strange];
        let mut named = member_params("member", &[]);
        let kind = DnType::CustomDnType(vec![1, 2, arc]);
        named.distinguished_name.push(kind, "name");
        [extended, named].map(|params| {
            Certificate::from_pem(root.issue(params).pem.as_bytes())
                .map(|read| (read.extensions.unhandled_critical, read.subject_text))
        })
    };
    let [extended, named] = verdict((1 << 31) - 1);
    let oid = Some("1.2.2147483647".to_owned());
    assert_eq!(extended.map(|read| read.0), Ok(oid));
    assert!(named.is_ok());
    let reason = CertificateRefused::Malformed("an object identifier is misencoded or too large");
    for refused in verdict(1 << 31) {
        assert_eq!(refused, Err(reason.clone()));
    }
}

/// Printing this identifier, or comparing each of so many extensions with all before it, would
/// take longer than anybody waits; strangers send such things for nothing.
#[test]
fn large_certificates_cost_no_more_than_their_length() {
    let root = Made::root("ca");
    let read = |extensions: Vec<CustomExtension>| {
        let mut params = member_params("member", &[]);
        params.custom_extensions = extensions;
        let der = pem::first_block(root.issue(params).pem.as_bytes())
            .expect("our own certificate")
            .0
            .content;
        Certificate::from_der(&der).map(drop)
    };
    let many = (0..200_000).map(|arc| CustomExtension::from_oid_content(&[1, 2, arc], vec![]));
    assert_eq!(read(many.collect()), Ok(()));

    let mut key_kind = vec![0xff; 4 << 20];
    key_kind.push(0);
    let mut oid = Vec::new();
    der::write(0x06, &key_kind, &mut oid);
    let mut algorithm = Vec::new();
    der::write(der::SEQUENCE, &oid, &mut algorithm);
    algorithm.extend_from_slice(&[0x03, 0x02, 0x00, 0x01]);
    let mut spki = Vec::new();
    der::write(der::SEQUENCE, &algorithm, &mut spki);
    let refused = PublicKey::from_spki_der(&spki).map(drop);
    assert_eq!(refused, Err(KeyRefused::Malformed));
}

fn with_extension(oid: &[u64], content: &[u8]) -> Result<Extensions, CertificateRefused> {
    let mut params = member_params("member", &[]);
    params.custom_extensions = vec![CustomExtension::from_oid_content(oid, content.to_vec())];
    let made = Made::root("ca").issue(params);
    Certificate::from_pem(made.pem.as_bytes()).map(|read| read.extensions)
}

#[test]
fn only_extensions_that_go_reads_must_be_in_form() {
    // Alternative names of the issuer, and the reason of a revocation, which has no place here.
    for unread in [&[2, 5, 29, 18], &[2, 5, 29, 21]] {
        assert!(with_extension(unread, b"junk").is_ok(), "{unread:?}");
    }
    let refused = Err(CertificateRefused::Malformed("an extension is misencoded"));
    for read in [
        &[2, 5, 29, 17][..],
        &[2, 5, 29, 37],
        &[1, 3, 6, 1, 5, 5, 7, 1, 1],
    ] {
        assert_eq!(with_extension(read, b"junk"), refused, "{read:?}");
    }
}

#[test]
fn an_empty_list_of_purposes_restricts_nothing() {
    const PURPOSES: &[u64] = &[2, 5, 29, 37];
    let purposes = |content: &[u8]| {
        with_extension(PURPOSES, content)
            .expect("read")
            .key_purposes
    };
    assert_eq!(purposes(&[0x30, 0]), None);
    let nobodys = KeyPurposes {
        any: false,
        server_auth: false,
    };
    assert_eq!(purposes(&[0x30, 3, 0x06, 1, 0x2a]), Some(nobodys));
}

#[test]
fn names_that_go_cannot_read_are_refused() {
    let named = |tag: u8, name: &[u8]| {
        let mut one = Vec::new();
        der::write(tag, name, &mut one);
        let mut all = Vec::new();
        der::write(der::SEQUENCE, &one, &mut all);
        with_extension(&[2, 5, 29, 17], &all).map(drop)
    };
    let (email, dns, uri, ip) = (0x81, 0x82, 0x86, 0x87);
    let reason = CertificateRefused::Malformed("an alternative or constrained name is misencoded");
    for tag in [email, dns, uri] {
        assert_eq!(named(tag, b"a.test"), Ok(()));
        assert_eq!(named(tag, "\u{e9}.test".as_bytes()), Err(reason.clone()));
        assert_eq!(named(tag, b"\xff.test"), Err(reason.clone()));
    }
    for len in [0, 3, 4, 5, 8, 16, 32] {
        let good = matches!(len, 4 | 16);
        assert_eq!(named(ip, &vec![1; len]).is_ok(), good, "{len} bytes");
    }
}

#[test]
fn texts_hold_what_their_kind_allows() {
    let named = |tag: u8, name: &str| {
        let made = Made::root("ca").member(name, &[]);
        let mut der = made.certificate().der;
        let (len, mark) = (u8::try_from(name.len()).expect("short"), name.as_bytes());
        let mark = [&[0x0c, len], mark].concat();
        let at = der.windows(mark.len()).position(|window| window == mark);
        der[at.expect("the name is text in UTF-8")] = tag;
        Certificate::from_der(&der).map(|read| read.common_name)
    };
    let (numeric, printable, t61, ia5, bmp) = (18, 19, 20, 22, 30);
    let good = [
        (numeric, "1 2", "1 2"),
        (printable, "a.b-c &*", "a.b-c &*"),
        (t61, "\u{e9}", "\u{c3}\u{a9}"),
        (ia5, "a_b@c", "a_b@c"),
        (bmp, "\0a\0b", "ab"),
        (bmp, "\0a\0\0", "a"),
    ];
    for (tag, name, read) in good {
        assert_eq!(named(tag, name), Ok(read.to_owned()), "{tag} {name:?}");
    }
    let reason = CertificateRefused::Malformed("a name holds something that is not text");
    let bad = [
        (numeric, "a"),
        (printable, "a_b"),
        (printable, "a@b"),
        (ia5, "\u{e9}"),
        (bmp, "a"),
    ];
    for (tag, name) in bad {
        assert_eq!(named(tag, name), Err(reason.clone()), "{tag} {name:?}");
    }
}

#[test]
fn pem_is_written_as_go_writes_it() {
    let certificate = issued().1.certificate();
    let pem = certificate.to_pem();
    let lines: Vec<&str> = pem.lines().collect();
    let (first, last) = (lines.first(), lines.last());
    assert_eq!(first, Some(&"-----BEGIN CERTIFICATE-----"));
    assert_eq!(last, Some(&"-----END CERTIFICATE-----"));
    assert!(
        lines[1..lines.len() - 2]
            .iter()
            .all(|line| line.len() == 64)
    );
    assert!(pem.ends_with("-----\n") && !pem.contains('\r'));
    assert_eq!(Certificate::from_pem(pem.as_bytes()), Ok(certificate));
}

#[test]
fn i_s5_trailing_bytes_and_second_blocks_are_not_well_formed() {
    let pem = issued().1.certificate().to_pem();
    assert_eq!(check_well_formed(pem.as_bytes()), Ok(()));
    assert_eq!(check_well_formed(format!("text\n{pem}").as_bytes()), Ok(()));
    let second = check_well_formed(pem.repeat(2).as_bytes());
    assert_eq!(second, Err(NotWellFormed::Trailing(pem.len())));
    let trailing = check_well_formed(format!("{pem}\n").as_bytes());
    assert_eq!(trailing, Err(NotWellFormed::Trailing(1)));
}

#[test]
fn nt_1_10_pem_of_another_type_and_bare_der_are_not_well_formed() {
    let certificate = issued().1.certificate();
    let labelled = |label| check_well_formed(pem::encode(label, certificate.der()).as_bytes());
    assert_eq!(labelled("CERTIFICATE"), Ok(()));
    assert_eq!(labelled(""), Ok(()));
    assert_eq!(labelled("TRUSTED CERTIFICATE"), Err(NotWellFormed::Label));
    assert_eq!(
        check_well_formed(certificate.der()),
        Err(NotWellFormed::NotPem)
    );
    let junk = check_well_formed(pem::encode("CERTIFICATE", b"junk").as_bytes());
    assert!(matches!(junk, Err(NotWellFormed::Certificate(_))));
}

#[test]
fn i_s6_a_non_canonical_certificate_signature_is_not_well_formed() {
    let certificate = issued().1.certificate();
    let high_or_low = certificate.with_signature(&twin(certificate.signature()));
    assert_eq!(check_well_formed(high_or_low.to_pem().as_bytes()), Ok(()));
    let trailing = [certificate.signature(), &[0]].concat();
    let loose = certificate.with_signature(&trailing);
    let refused = check_well_formed(loose.to_pem().as_bytes());
    assert_eq!(refused, Err(NotWellFormed::Signature));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(junk in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::from_der(&junk);
        let _ = Certificate::from_pem(&junk);
        let _ = check_well_formed(pem::encode("CERTIFICATE", &junk).as_bytes());
    }
}

#[test]
fn a_changed_byte_never_panics() {
    let (root, member) = issued();
    let (ca, der) = (root.certificate(), member.certificate().der().to_vec());
    for at in 0..der.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut altered = der.clone();
            altered[at] ^= flip;
            if let Ok(certificate) = Certificate::from_der(&altered) {
                let trusted = certificate.check_signature_from(&ca).is_ok();
                assert!(!trusted, "byte {at} is not covered by the signature");
                let _ = certificate.with_low_s(ca.public_key());
            }
        }
    }
}
