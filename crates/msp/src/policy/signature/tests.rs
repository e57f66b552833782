//! The greedy evaluation, case by case, and over arbitrary policies.

use proptest::prelude::*;

use super::*;

/// Signers written as the letters of the principals that they satisfy, such as `["AB", "A"]`.
fn check(rule: &str, signers: &[&str], expect: bool) {
    let policy = SignaturePolicy::compile(envelope(parse(&mut rule.chars().peekable()))).unwrap();
    let verdict = policy.is_satisfied(signers.len(), |signer, principal| {
        let letter = char::from(principal.principal[0]);
        signers[signer].contains(letter)
    });
    assert_eq!(verdict, expect, "{rule} by {signers:?}");
}

fn envelope(rule: WireRule) -> SignaturePolicyEnvelope {
    let principal = |letter: u8| MspPrincipal {
        principal_classification: 0,
        principal: vec![letter].into(),
    };
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities: (b'A'..=b'D').map(principal).collect(),
    }
}

/// `A` is "signed by A"; `2(AB)` is "two of A and B".
fn parse(text: &mut std::iter::Peekable<std::str::Chars<'_>>) -> WireRule {
    let first = text.next().unwrap();
    if let Some(n) = first.to_digit(10) {
        assert_eq!(text.next(), Some('('));
        let mut rules = Vec::new();
        while text.next_if_eq(&')').is_none() {
            rules.push(parse(text));
        }
        return out_of(n.try_into().unwrap(), rules);
    }
    signed_by(i32::try_from(u32::from(first) - u32::from('A')).unwrap())
}

fn signed_by(index: i32) -> WireRule {
    WireRule {
        r#type: Some(signature_policy::Type::SignedBy(index)),
    }
}

fn out_of(n: i32, rules: Vec<WireRule>) -> WireRule {
    WireRule {
        r#type: Some(signature_policy::Type::NOutOf(NOutOf { n, rules })),
    }
}

#[test]
fn a_signer_counts_for_one_rule_only() {
    check("A", &["A"], true);
    check("A", &["B"], false);
    check("A", &[], false);
    check("2(AA)", &["A"], false);
    check("2(AA)", &["A", "A"], true);
    check("2(AB)", &["AB"], false);
}

#[test]
fn rules_take_the_first_free_signer_and_nothing_is_tried_again() {
    // A takes the only one who could have been B.
    check("2(AB)", &["AB", "A"], false);
    check("2(AB)", &["A", "AB"], true);
    check("2(BA)", &["AB", "A"], true);
}

#[test]
fn a_rule_that_fails_gives_back_what_it_took() {
    check("1(2(AC)A)", &["A"], true);
    check("2(2(AC)AB)", &["A", "B"], true);
}

#[test]
fn rules_beyond_the_threshold_take_signers_too() {
    // "One of A, B" is content with A, yet takes B as well, and the second B finds nobody.
    check("2(1(AB)B)", &["A", "B"], false);
    check("2(1(AB)B)", &["A", "B", "B"], true);
}

#[test]
fn a_threshold_of_zero_needs_nobody_and_one_too_high_has_no_answer() {
    check("0()", &[], true);
    check("0(A)", &[], true);
    check("1()", &["ABCD"], false);
    check("3(AB)", &["A", "B", "A"], false);
    let negative = SignaturePolicy::compile(envelope(out_of(-1, vec![]))).unwrap();
    assert!(negative.is_satisfied(0, |_, _| false));
}

#[test]
fn what_does_not_compile() {
    let refused = |envelope| SignaturePolicy::compile(envelope).map(|_| ()).unwrap_err();
    for index in [-1, 4, i32::MAX, i32::MIN] {
        assert_eq!(
            refused(envelope(out_of(1, vec![signed_by(index)]))),
            SignaturePolicyRefused::NoSuchPrincipal {
                index,
                principals: 4
            }
        );
    }
    let empty = WireRule { r#type: None };
    assert_eq!(
        refused(envelope(empty.clone())),
        SignaturePolicyRefused::EmptyRule
    );
    assert_eq!(
        refused(envelope(out_of(1, vec![signed_by(0), empty]))),
        SignaturePolicyRefused::EmptyRule
    );
    let without = SignaturePolicyEnvelope {
        rule: None,
        ..envelope(signed_by(0))
    };
    assert_eq!(refused(without), SignaturePolicyRefused::EmptyRule);
    for version in [-1, 1] {
        let other = SignaturePolicyEnvelope {
            version,
            ..envelope(signed_by(0))
        };
        assert_eq!(refused(other), SignaturePolicyRefused::Version(version));
    }
}

#[test]
fn depth_is_limited() {
    let nested = |levels: usize| (1..levels).fold(signed_by(0), |rule, _| out_of(1, vec![rule]));
    let compile = |levels| SignaturePolicy::compile(envelope(nested(levels))).map(|_| ());
    assert_eq!(compile(SIGNATURE_POLICY_DEPTH_MAX), Ok(()));
    let refused = compile(SIGNATURE_POLICY_DEPTH_MAX + 1);
    assert_eq!(refused, Err(SignaturePolicyRefused::TooDeep));
    // The deepest that we take also survives the codec's own limit.
    let bytes = envelope(nested(SIGNATURE_POLICY_DEPTH_MAX)).encode_to_vec();
    assert!(SignaturePolicy::decode(&bytes).is_ok());
}

#[test]
fn size_is_limited() {
    let wide = |rules: usize| out_of(1, vec![signed_by(0); rules]);
    let compile = |rules| SignaturePolicy::compile(envelope(wide(rules))).map(|_| ());
    assert_eq!(compile(SIGNATURE_POLICY_RULES_MAX - 1), Ok(()));
    let refused = compile(SIGNATURE_POLICY_RULES_MAX);
    assert_eq!(refused, Err(SignaturePolicyRefused::TooLarge));
}

fn any_rule() -> impl Strategy<Value = WireRule> {
    let leaf = (0..4_i32).prop_map(signed_by);
    leaf.prop_recursive(3, 24, 4, |inner| {
        (0..4_i32, prop::collection::vec(inner, 0..4)).prop_map(|(n, rules)| out_of(n, rules))
    })
}

proptest! {
    /// A signer whom no principal matches changes nothing, wherever it stands.
    #[test]
    fn strangers_change_nothing(
        rule in any_rule(),
        matches in prop::collection::vec(0_u8..16, 0..5),
        at in 0_usize..6,
    ) {
        let policy = SignaturePolicy::compile(envelope(rule)).unwrap();
        let verdict = |signers: &[u8]| policy.is_satisfied(signers.len(), |signer, principal| {
            signers[signer] >> (principal.principal[0] - b'A') & 1 == 1
        });
        let mut with_stranger = matches.clone();
        with_stranger.insert(at.min(matches.len()), 0);
        prop_assert_eq!(verdict(&matches), verdict(&with_stranger));
    }

    /// With one free signer for every rule, exactly the thresholds decide.
    #[test]
    fn with_enough_signers_only_the_thresholds_count(rule in any_rule()) {
        fn possible(rule: &WireRule) -> bool {
            match rule.r#type.as_ref().unwrap() {
                signature_policy::Type::SignedBy(_) => true,
                signature_policy::Type::NOutOf(NOutOf { n, rules }) => {
                    i64::try_from(rules.iter().filter(|rule| possible(rule)).count()).unwrap()
                        >= i64::from(*n)
                }
            }
        }
        let policy = SignaturePolicy::compile(envelope(rule.clone())).unwrap();
        prop_assert_eq!(policy.is_satisfied(128, |_, _| true), possible(&rule));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(policy) = SignaturePolicy::decode(&bytes) {
            policy.is_satisfied(3, |signer, _| signer == 1);
        }
    }
}
