//! Paths to roots, and every way in which there is none.

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};

use super::*;
use crate::crypto::sha256;
use crate::der;
use crate::testing::{ECDSA_SHA256, Made, assemble, ca_params, member_params};

fn trust(roots: &[&Made], intermediates: &[&Made]) -> Authorities {
    let all = |made: &[&Made]| made.iter().map(|one| one.certificate()).collect();
    let mut authorities = Authorities::new(all(roots), all(intermediates));
    authorities.mark_inner().expect("the CAs themselves chain");
    authorities
}

fn path_of(authorities: &Authorities, made: &Made) -> Result<Vec<String>, ChainRefused> {
    let path = authorities.issued_path(&made.certificate(), None)?;
    Ok(path
        .iter()
        .map(|one| one.common_name().to_owned())
        .collect())
}

fn refusal(authorities: &Authorities, made: &Made) -> ChainRefused {
    path_of(authorities, made).expect_err("refused")
}

#[test]
fn a_member_chains_through_intermediates() {
    let root = Made::root("root");
    let upper = root.intermediate("upper");
    let lower = upper.intermediate("lower");
    let member = lower.member("peer", &[]);
    let authorities = trust(&[&root], &[&lower, &upper]);
    let names = path_of(&authorities, &member).expect("a path");
    assert_eq!(names, ["peer", "lower", "upper", "root"]);
}

#[test]
fn a_stranger_has_no_path() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let authorities = trust(&[&root], &[]);
    let subject = "CN=peer".to_owned();
    let issuer = "CN=other".to_owned();
    let expected = ChainRefused::UnknownIssuer { subject, issuer };
    assert_eq!(refusal(&authorities, &other.member("peer", &[])), expected);
    // A CA of the same name but another key.
    let namesake = Made::root("root");
    let refused = refusal(&authorities, &namesake.member("peer", &[]));
    let reason = "the signature is not the issuer's";
    assert!(matches!(refused, ChainRefused::Issuer { reason: r, .. } if r == reason));
}

#[test]
fn a_self_signed_member_is_refused() {
    let root = Made::root("root");
    let key = KeyPair::generate().expect("a key");
    let alone = Made::self_signed(member_params("peer", &["peer"]), key);
    let authorities = trust(&[&root], &[]);
    assert!(matches!(
        refusal(&authorities, &alone),
        ChainRefused::UnknownIssuer { .. }
    ));
    // A root has a path, but not one of an issued certificate.
    assert!(matches!(
        refusal(&authorities, &root),
        ChainRefused::TooShort(_)
    ));
}

#[test]
fn a_root_with_an_intermediate_below_may_not_issue_members() {
    let root = Made::root("root");
    let intermediate = root.intermediate("intermediate");
    let member = root.member("peer", &[]);
    assert!(path_of(&trust(&[&root], &[]), &member).is_ok());
    let refused = refusal(&trust(&[&root], &[&intermediate]), &member);
    assert_eq!(refused, ChainRefused::InnerCa("CN=root".to_owned()));
}

#[test]
fn nt_1_10_two_paths_are_one_too_many() {
    let (one, two) = (Made::root("one"), Made::root("two"));
    let crossed = one.intermediate("crossed");
    let copy = KeyPair::from_pem(&crossed.key.serialize_pem()).expect("a key");
    let again = two.issue_for(ca_params("crossed"), copy);
    let member = crossed.member("peer", &[]);
    assert!(path_of(&trust(&[&one], &[&crossed]), &member).is_ok());
    let refused = refusal(&trust(&[&one, &two], &[&crossed, &again]), &member);
    let subject = "CN=peer".to_owned();
    assert_eq!(refused, ChainRefused::Ambiguous { subject, chains: 2 });
    // The same certificate given twice is one.
    assert!(path_of(&trust(&[&one, &one], &[&crossed, &crossed]), &member).is_ok());
}

#[test]
fn time_is_that_of_issue_and_not_of_today() {
    let root = Made::root("root");
    let mut long_ago = member_params("peer", &[]);
    long_ago.not_before = rcgen::date_time_ymd(2026, 3, 1);
    long_ago.not_after = rcgen::date_time_ymd(2026, 3, 2);
    let authorities = trust(&[&root], &[]);
    assert!(
        path_of(&authorities, &root.issue(long_ago)).is_ok(),
        "expired long ago, yet good"
    );

    let mut before_the_ca = member_params("peer", &[]);
    before_the_ca.not_before = rcgen::date_time_ymd(2020, 1, 1);
    let refused = refusal(&authorities, &root.issue(before_the_ca));
    assert_eq!(refused, ChainRefused::Time("CN=root".to_owned()));
    let mut after_the_ca = member_params("peer", &[]);
    after_the_ca.not_before = rcgen::date_time_ymd(2037, 1, 1);
    after_the_ca.not_after = rcgen::date_time_ymd(2038, 1, 1);
    let refused = refusal(&authorities, &root.issue(after_the_ca));
    assert_eq!(refused, ChainRefused::Time("CN=root".to_owned()));
}

#[test]
fn extended_key_usages_must_allow_servers_or_anything() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    let root = Made::root("root");
    let authorities = trust(&[&root], &[]);
    let cases = [
        (vec![], true),
        (vec![ServerAuth], true),
        (vec![Any], true),
        (vec![ClientAuth, ServerAuth], true),
        (vec![ClientAuth], false),
        (vec![CodeSigning], false),
    ];
    for (purposes, good) in cases {
        let mut params = member_params("peer", &[]);
        params.extended_key_usages = purposes.clone();
        let verdict = path_of(&authorities, &root.issue(params));
        assert_eq!(verdict.is_ok(), good, "{purposes:?}");
        if !good {
            assert_eq!(verdict, Err(ChainRefused::KeyPurpose("CN=peer".to_owned())));
        }
    }
    // The same for a CA above.
    let mut params = ca_params("client CA");
    params.extended_key_usages = vec![ClientAuth];
    let ca = root.issue(params);
    let member = ca.member("peer", &[]);
    let all = |made: &[&Made]| made.iter().map(|one| one.certificate()).collect();
    let authorities = Authorities::new(all(&[&root]), all(&[&ca]));
    let refused = authorities
        .unique_path(&member.certificate())
        .expect_err("refused");
    assert_eq!(refused, ChainRefused::KeyPurpose("CN=client CA".to_owned()));
}

/// Puts a certificate with odd CA settings between root and member.
fn under(change: impl FnOnce(&mut CertificateParams)) -> ChainRefused {
    let root = Made::root("root");
    let mut params = ca_params("odd");
    change(&mut params);
    let odd = root.issue(params);
    let member = odd.member("peer", &[]);
    let all = |made: &[&Made]| made.iter().map(|one| one.certificate()).collect();
    let authorities = Authorities::new(all(&[&root]), all(&[&odd]));
    authorities
        .unique_path(&member.certificate())
        .expect_err("refused")
}

#[test]
fn an_issuer_must_be_a_ca_and_may_sign_certificates() {
    let reason = |refused| match refused {
        ChainRefused::Issuer { reason, .. } => reason,
        other => panic!("{other}"),
    };
    let not_a_ca = reason(under(|params| params.is_ca = IsCa::ExplicitNoCa));
    assert_eq!(not_a_ca, "the issuer is no CA by its basic constraints");
    let silent = reason(under(|params| params.is_ca = IsCa::NoCa));
    assert_eq!(silent, "the issuer is no CA by its basic constraints");
    let usage = vec![KeyUsagePurpose::CrlSign];
    let no_cert_sign = reason(under(|params| params.key_usages = usage));
    assert_eq!(
        no_cert_sign,
        "the issuer's key usage does not allow signing certificates"
    );
}

#[test]
fn path_length_is_enforced() {
    let mut params = ca_params("root");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = Made::self_signed(params, KeyPair::generate().expect("a key"));
    let between = root.intermediate("between");
    let all = |made: &[&Made]| made.iter().map(|one| one.certificate()).collect();
    let authorities = Authorities::new(all(&[&root]), all(&[&between]));
    assert!(
        authorities
            .unique_path(&root.member("peer", &[]).certificate())
            .is_ok()
    );
    let member = between.member("peer", &[]).certificate();
    let refused = authorities.unique_path(&member).expect_err("refused");
    assert_eq!(refused, ChainRefused::Depth("CN=root".to_owned()));
}

#[test]
fn unknown_critical_extensions_are_refused_anywhere() {
    let strange = |critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(critical);
        vec![extension]
    };
    let root = Made::root("root");
    let authorities = trust(&[&root], &[]);
    let mut params = member_params("peer", &[]);
    params.custom_extensions = strange(false);
    assert!(path_of(&authorities, &root.issue(params.clone())).is_ok());
    params.custom_extensions = strange(true);
    let oid = || "1.2.3.4".to_owned();
    let expected = ChainRefused::CriticalExtension {
        subject: "CN=peer".to_owned(),
        oid: oid(),
    };
    assert_eq!(refusal(&authorities, &root.issue(params)), expected);
    let above = under(|params| params.custom_extensions = strange(true));
    let expected = ChainRefused::CriticalExtension {
        subject: "CN=odd".to_owned(),
        oid: oid(),
    };
    assert_eq!(above, expected);
}

#[test]
fn name_constraints_bind_alternative_names_and_hostlike_common_names() {
    let mut params = ca_params("root");
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("org1.test".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8)),
        ],
        excluded_subtrees: vec![GeneralSubtree::DnsName("secret.org1.test".to_owned())],
    });
    let root = Made::self_signed(params, KeyPair::generate().expect("a key"));
    let authorities = trust(&[&root], &[]);
    let named = |common_name: &str, names: &[SanType]| {
        let mut params = member_params(common_name, &[]);
        params.subject_alt_names = names.to_vec();
        path_of(&authorities, &root.issue(params)).is_ok()
    };
    let host = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    assert!(named("peer", &[host("peer.org1.test")]));
    assert!(!named("peer", &[host("peer.org2.test")]));
    assert!(!named(
        "peer",
        &[host("peer.org1.test"), host("peer.org2.test")]
    ));
    assert!(!named("peer", &[host("x.secret.org1.test")]));
    assert!(named("peer", &[SanType::IpAddress([10, 1, 2, 3].into())]));
    assert!(!named("peer", &[SanType::IpAddress([11, 1, 2, 3].into())]));
    assert!(
        !named("peer.org1.test", &[]),
        "a host name that constraints cannot see"
    );
    assert!(named("User1@org1.test", &[]), "not a host name");
}

#[test]
fn weak_signature_algorithms_are_refused() {
    // ecdsa-with-SHA1 instead of -SHA256: the last arcs 4.3.2 become 4.1.
    let root = Made::root("root");
    let tbs = root.member("peer", &[]).certificate().tbs().to_vec();
    let sha1 = [
        0x30, 0x09, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01,
    ];
    let at = tbs.windows(12).position(|window| window == ECDSA_SHA256);
    let at = at.expect("the algorithm");
    let content = der::read(der::SEQUENCE, &tbs).expect("a body").content;
    let head = tbs.len() - content.len();
    let body = [&tbs[head..at], &sha1, &tbs[at + 12..]].concat();
    let mut tbs = Vec::new();
    der::write(der::SEQUENCE, &body, &mut tbs);
    let signature = root.private_key().sign(&tbs).expect("a signature");
    let der = assemble(&tbs, &sha1, &signature);
    let certificate = Certificate::from_der(&der).expect("well formed");
    let refused = trust(&[&root], &[])
        .issued_path(&certificate, None)
        .expect_err("refused");
    let weak = "the signature algorithm is unknown or too weak";
    assert!(matches!(refused, ChainRefused::Issuer { reason, .. } if reason == weak));
}

#[test]
fn rsa_and_ed25519_cas_vouch_too() {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519);
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384);
    for key in [rsa, ed25519, p384] {
        let root = Made::self_signed(ca_params("root"), key.expect("a key"));
        let authorities = trust(&[&root], &[]);
        assert!(path_of(&authorities, &root.member("peer", &[])).is_ok());
    }
}

#[test]
fn sanitizing_needs_a_path_or_a_self_signed_ca() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let authorities = trust(&[&root], &[]);
    let member = root.member("peer", &[]).certificate();
    let sanitized = authorities.sanitize(member.clone()).expect("a path");
    assert_eq!(sanitized.tbs(), member.tbs());
    assert!(authorities.sanitize(other.certificate()).is_ok());
    assert!(
        authorities
            .sanitize(other.member("peer", &[]).certificate())
            .is_err()
    );
}

#[test]
fn the_search_gives_up_at_the_bound() {
    // Namesakes with other keys: each is a candidate whose signature must be looked at.
    let count = usize::try_from(SIGNATURE_CHECKS_MAX).expect("small");
    let right = Made::root("ca");
    let wrong: Vec<Made> = (0..count).map(|_| Made::root("ca")).collect();
    let member = right.member("peer", &[]).certificate();
    let found = |wrong: &[Made]| {
        let mut roots: Vec<Certificate> = wrong.iter().map(Made::certificate).collect();
        roots.push(right.certificate());
        Authorities::new(roots, Vec::new())
            .unique_path(&member)
            .is_ok()
    };
    assert!(
        found(&wrong[1..]),
        "the right one is the last that is looked at"
    );
    assert!(!found(&wrong), "the right one comes after the bound");
    let fingerprints: BTreeSet<_> = wrong
        .iter()
        .map(|one| sha256(one.certificate().der()))
        .collect();
    assert_eq!(fingerprints.len(), count);
}

#[test]
fn who_is_recognised_has_the_path_by_which_it_is_approved() {
    let root = Made::root("root");
    let member = root.member("peer", &[]).certificate();
    let authorities = trust(&[&root], &[]);
    let low = authorities.sanitize(member).expect("a path");
    let (same, path) = authorities.recognise(low.clone()).expect("a path");
    assert_eq!(same.der(), low.der());
    let path = path.expect("its signature was low");
    assert_eq!(path, authorities.unique_path(&low).expect("a path"));
    assert_eq!(authorities.issued_path(&low, Some(path.clone())), Ok(path));
}
