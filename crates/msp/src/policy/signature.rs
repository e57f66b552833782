//! Signature policies: a tree of "n out of" over "signed by".
//!
//! The evaluation is Fabric's and is greedy on purpose: every rule takes the first signer that
//! is still free, in order, and nothing is ever tried again. Two implementations that differ
//! here disagree about blocks, so nothing may be improved.

use prost::Message;
use tidings_proto::common::{
    MspPrincipal, SignaturePolicy as WireRule, SignaturePolicyEnvelope,
    signature_policy::{self, NOutOf},
};

/// Levels of "n out of" in one policy. Real ones have two or three; evaluation recurses.
pub const SIGNATURE_POLICY_DEPTH_MAX: usize = 32;

/// Rules in one policy: far above one per organization of the largest consortium, low enough
/// that even a full set of signers is judged within seconds.
pub const SIGNATURE_POLICY_RULES_MAX: usize = 4096;

/// Why the bytes are no signature policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignaturePolicyRefused {
    /// Not a `SignaturePolicyEnvelope`.
    #[error("the signature policy does not decode: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// A version that nobody has defined.
    #[error("signature policy of version {0}, only version 0 has a meaning")]
    Version(i32),
    /// A rule without content.
    #[error("the signature policy has an empty rule")]
    EmptyRule,
    /// A rule names a principal that is not listed.
    #[error("a rule wants principal {index} of {principals}")]
    NoSuchPrincipal {
        /// The number in the rule.
        index: i32,
        /// How many principals are listed.
        principals: usize,
    },
    /// Nested deeper than anybody needs.
    #[error("signature policy nested deeper than {SIGNATURE_POLICY_DEPTH_MAX} levels")]
    TooDeep,
    /// Larger than anybody needs.
    #[error("signature policy of more than {SIGNATURE_POLICY_RULES_MAX} rules")]
    TooLarge,
}

/// A compiled signature policy.
#[derive(Clone, Debug, PartialEq)]
pub struct SignaturePolicy {
    rule: Rule,
    principals: Vec<MspPrincipal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    SignedBy(usize),
    OutOf { n: i32, rules: Vec<Self> },
}

impl SignaturePolicy {
    /// Compiles the value of a policy of type SIGNATURE.
    pub fn decode(bytes: &[u8]) -> Result<Self, SignaturePolicyRefused> {
        Self::compile(SignaturePolicyEnvelope::decode(bytes)?)
    }

    /// Compiles a decoded policy.
    pub fn compile(envelope: SignaturePolicyEnvelope) -> Result<Self, SignaturePolicyRefused> {
        if envelope.version != 0 {
            return Err(SignaturePolicyRefused::Version(envelope.version));
        }
        Self::compile_any_version(envelope)
    }

    /// Compiles a decoded policy without regard to its version, as Fabric does where the policy
    /// is not from the channel's configuration.
    pub(crate) fn compile_any_version(
        envelope: SignaturePolicyEnvelope,
    ) -> Result<Self, SignaturePolicyRefused> {
        let rule = envelope
            .rule
            .as_ref()
            .ok_or(SignaturePolicyRefused::EmptyRule)?;
        let mut left = SIGNATURE_POLICY_RULES_MAX;
        let rule = Rule::compile(rule, envelope.identities.len(), 1, &mut left)?;
        Ok(Self {
            rule,
            principals: envelope.identities,
        })
    }

    /// Whether `signers` distinct signers, counted from zero, satisfy the policy, where
    /// `satisfies` says who matches which principal.
    pub fn is_satisfied(
        &self,
        signers: usize,
        satisfies: impl Fn(usize, &MspPrincipal) -> bool,
    ) -> bool {
        let mut used = vec![false; signers];
        self.rule.take(&mut used, &|signer, principal| {
            self.principals
                .get(principal)
                .is_some_and(|principal| satisfies(signer, principal))
        })
    }
}

impl Rule {
    fn compile(
        wire: &WireRule,
        principals: usize,
        depth: usize,
        left: &mut usize,
    ) -> Result<Self, SignaturePolicyRefused> {
        if depth > SIGNATURE_POLICY_DEPTH_MAX {
            return Err(SignaturePolicyRefused::TooDeep);
        }
        *left = left
            .checked_sub(1)
            .ok_or(SignaturePolicyRefused::TooLarge)?;
        match &wire.r#type {
            None => Err(SignaturePolicyRefused::EmptyRule),
            Some(signature_policy::Type::SignedBy(index)) => usize::try_from(*index)
                .ok()
                .filter(|index| *index < principals)
                .map(Self::SignedBy)
                .ok_or(SignaturePolicyRefused::NoSuchPrincipal {
                    index: *index,
                    principals,
                }),
            Some(signature_policy::Type::NOutOf(NOutOf { n, rules })) => Ok(Self::OutOf {
                n: *n,
                rules: rules
                    .iter()
                    .map(|rule| Self::compile(rule, principals, depth + 1, left))
                    .collect::<Result<_, _>>()?,
            }),
        }
    }

    /// Takes free signers for this rule. Only a rule that succeeds keeps what it took, and all
    /// rules of an "n out of" are tried even when n is reached, as Fabric does.
    fn take(&self, used: &mut [bool], satisfies: &impl Fn(usize, usize) -> bool) -> bool {
        match self {
            Self::SignedBy(principal) => {
                for (signer, used) in used.iter_mut().enumerate() {
                    if !*used && satisfies(signer, *principal) {
                        *used = true;
                        return true;
                    }
                }
                false
            }
            Self::OutOf { n, rules } => {
                let mut satisfied = 0_i64;
                for rule in rules {
                    let mut attempt = used.to_vec();
                    if rule.take(&mut attempt, satisfies) {
                        satisfied += 1;
                        used.copy_from_slice(&attempt);
                    }
                }
                satisfied >= i64::from(*n)
            }
        }
    }
}

#[cfg(test)]
mod tests;
