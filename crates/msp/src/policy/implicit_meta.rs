//! Implicit meta policies: any, all or most of the policies of one name in the groups directly
//! below.

use std::sync::Arc;

use prost::Message;
use tidings_proto::common::{ImplicitMetaPolicy, implicit_meta_policy};

use super::{PolicyRefused, Rule};

/// Why the bytes are no implicit meta policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImplicitMetaRefused {
    /// Not an `ImplicitMetaPolicy`.
    #[error("the implicit meta policy does not decode: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// Neither ANY, ALL nor MAJORITY. Fabric would read it as "none may sign"; we refuse it.
    #[error("implicit meta rule {0} is none of ANY (0), ALL (1), MAJORITY (2)")]
    Rule(i32),
}

/// A compiled implicit meta policy.
#[derive(Clone, Debug)]
pub struct ImplicitMeta {
    required: usize,
    sub_policy: String,
    below: Vec<Arc<Rule>>,
}

impl ImplicitMeta {
    /// Compiles the value of a policy of type IMPLICIT_META; `below` finds the policy of the
    /// given name in every group directly below, a rejecting one where it is absent.
    pub(crate) fn decode(
        bytes: &[u8],
        below: impl FnOnce(&str) -> Vec<Arc<Rule>>,
    ) -> Result<Self, ImplicitMetaRefused> {
        let wire = ImplicitMetaPolicy::decode(bytes)?;
        let rule = implicit_meta_policy::Rule::try_from(wire.rule)
            .map_err(|prost::UnknownEnumValue(rule)| ImplicitMetaRefused::Rule(rule))?;
        let below = below(&wire.sub_policy);
        let required = threshold(rule, below.len());
        Ok(Self {
            required,
            sub_policy: wire.sub_policy,
            below,
        })
    }

    /// Counts the satisfied policies below, and stops once there are enough.
    pub(crate) fn evaluate(&self, satisfied: impl Fn(&Rule) -> bool) -> Result<(), PolicyRefused> {
        let count = self
            .below
            .iter()
            .filter(|rule| satisfied(rule.as_ref()))
            .take(self.required)
            .count();
        if count >= self.required {
            return Ok(());
        }
        Err(PolicyRefused::ImplicitMeta {
            satisfied: count,
            required: self.required,
            sub_policy: self.sub_policy.clone(),
        })
    }
}

/// How many of `groups` must agree. Over no groups at all nobody needs to.
fn threshold(rule: implicit_meta_policy::Rule, groups: usize) -> usize {
    match rule {
        _ if groups == 0 => 0,
        implicit_meta_policy::Rule::Any => 1,
        implicit_meta_policy::Rule::All => groups,
        implicit_meta_policy::Rule::Majority => groups / 2 + 1,
    }
}

#[cfg(test)]
mod tests {
    use tidings_proto::common::implicit_meta_policy::Rule::{All, Any, Majority};

    use super::*;

    #[test]
    fn thresholds_are_those_of_fabric() {
        for (groups, any, all, majority) in [
            (0, 0, 0, 0),
            (1, 1, 1, 1),
            (2, 1, 2, 2),
            (3, 1, 3, 2),
            (4, 1, 4, 3),
            (5, 1, 5, 3),
        ] {
            let got = [Any, All, Majority].map(|rule| threshold(rule, groups));
            assert_eq!(got, [any, all, majority], "over {groups} groups");
        }
    }

    /// A rule outside 0..2 would have threshold 0 in Fabric and accept an unsigned set.
    #[test]
    fn nt_3_8_implicit_meta_rule_out_of_range_is_refused() {
        for rule in [-1, 3, 7] {
            let bytes = ImplicitMetaPolicy {
                sub_policy: "Writers".into(),
                rule,
            }
            .encode_to_vec();
            let refused = ImplicitMeta::decode(&bytes, |_| Vec::new())
                .map(|_| ())
                .unwrap_err();
            assert_eq!(refused, ImplicitMetaRefused::Rule(rule));
        }
    }

    #[test]
    fn a_group_without_the_policy_counts_as_one_that_refuses() {
        let unknown = || Arc::new(Rule::Unknown("Writers".into()));
        let bytes = |rule| {
            ImplicitMetaPolicy {
                sub_policy: "Writers".into(),
                rule,
            }
            .encode_to_vec()
        };
        let all = ImplicitMeta::decode(&bytes(1), |name| {
            assert_eq!(name, "Writers");
            vec![unknown(), unknown()]
        })
        .unwrap();
        assert_eq!(
            all.evaluate(|_| false),
            Err(PolicyRefused::ImplicitMeta {
                satisfied: 0,
                required: 2,
                sub_policy: "Writers".into()
            })
        );
        assert_eq!(all.evaluate(|_| true), Ok(()));
    }
}
