//! The policies of a channel by name, in the shape of its configuration tree.

use std::{collections::BTreeMap, sync::Arc};

use tidings_proto::common::{ConfigGroup, ConfigPolicy, policy::PolicyType};

use super::{
    Policy, Rule,
    implicit_meta::{ImplicitMeta, ImplicitMetaRefused},
    signature::{SignaturePolicy, SignaturePolicyRefused},
};
use crate::msp::MspManager;

/// Why the policies of a configuration do not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyTreeRefused {
    /// An entry without a policy in it.
    #[error("policy {path} is empty")]
    Empty {
        /// Where.
        path: String,
    },
    /// A type other than SIGNATURE and IMPLICIT_META.
    #[error("policy {path} has type {kind}, which is neither SIGNATURE nor IMPLICIT_META")]
    Type {
        /// Where.
        path: String,
        /// The type.
        kind: i32,
    },
    /// A signature policy that does not compile.
    #[error("policy {path}: {refused}")]
    Signature {
        /// Where.
        path: String,
        /// Why.
        refused: SignaturePolicyRefused,
    },
    /// An implicit meta policy that does not compile.
    #[error("policy {path}: {refused}")]
    ImplicitMeta {
        /// Where.
        path: String,
        /// Why.
        refused: ImplicitMetaRefused,
    },
}

/// All policies of a channel.
#[derive(Clone, Debug)]
pub struct Policies {
    root: Group,
    msps: Arc<MspManager>,
}

#[derive(Clone, Debug)]
struct Group {
    path: String,
    rules: BTreeMap<String, Arc<Rule>>,
    groups: BTreeMap<String, Self>,
}

impl Policies {
    /// Compiles every policy in the tree. The tree must already be checked for depth and names.
    pub(crate) fn compile(
        root: &ConfigGroup,
        msps: Arc<MspManager>,
    ) -> Result<Self, PolicyTreeRefused> {
        Ok(Self {
            root: Group::compile("/Channel".to_owned(), root)?,
            msps,
        })
    }

    /// The policy of that name: absolute (`/Channel/Application/Readers`) or relative to the
    /// channel group (`Application/Readers`). One that nobody satisfies when there is none.
    pub fn policy(&self, path: &str) -> Policy {
        let rule = self
            .root
            .find(path)
            .unwrap_or_else(|| Arc::new(Rule::Unknown(path.to_owned())));
        Policy::new(rule, Arc::clone(&self.msps))
    }

    /// Whether there is a policy of that name.
    pub fn contains(&self, path: &str) -> bool {
        self.root.find(path).is_some()
    }

    /// The names of all policies that are satisfied without any signature, such as an implicit
    /// meta policy over no groups. Fabric takes them; whoever runs the node should know.
    pub fn open(&self) -> Vec<String> {
        let mut open = Vec::new();
        let mut groups = vec![&self.root];
        while let Some(group) = groups.pop() {
            let satisfied = group.rules.iter().filter(|(_, rule)| {
                Policy::new(Arc::clone(rule), Arc::clone(&self.msps)).is_open()
            });
            open.extend(satisfied.map(|(key, _)| format!("{}/{key}", group.path)));
            groups.extend(group.groups.values());
        }
        open.sort();
        open
    }

    /// The policy that must be satisfied to change an element in the group at `group` (keys
    /// below the channel group): relative names are relative to that group.
    pub(crate) fn mod_policy(&self, group: &[String], name: &str) -> Option<Policy> {
        let from = if name.starts_with('/') {
            &self.root
        } else {
            group
                .iter()
                .try_fold(&self.root, |at, key| at.groups.get(key))?
        };
        from.find(name)
            .map(|rule| Policy::new(rule, Arc::clone(&self.msps)))
    }
}

impl Group {
    fn compile(path: String, group: &ConfigGroup) -> Result<Self, PolicyTreeRefused> {
        let mut compiled = Self {
            path,
            rules: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for (key, below) in &group.groups {
            let below = Self::compile(format!("{}/{key}", compiled.path), below)?;
            compiled.groups.insert(key.clone(), below);
        }
        for (key, policy) in &group.policies {
            let rule = compiled.rule(format!("{}/{key}", compiled.path), policy)?;
            compiled.rules.insert(key.clone(), Arc::new(rule));
        }
        Ok(compiled)
    }

    fn rule(&self, path: String, policy: &ConfigPolicy) -> Result<Rule, PolicyTreeRefused> {
        let Some(policy) = &policy.policy else {
            return Err(PolicyTreeRefused::Empty { path });
        };
        match PolicyType::try_from(policy.r#type) {
            Ok(PolicyType::Signature) => SignaturePolicy::decode(&policy.value)
                .map(Rule::Signature)
                .map_err(|refused| PolicyTreeRefused::Signature { path, refused }),
            Ok(PolicyType::ImplicitMeta) => {
                ImplicitMeta::decode(&policy.value, |name| self.below(name))
                    .map(Rule::ImplicitMeta)
                    .map_err(|refused| PolicyTreeRefused::ImplicitMeta { path, refused })
            }
            _ => Err(PolicyTreeRefused::Type {
                path,
                kind: policy.r#type,
            }),
        }
    }

    /// The policy of that name in every group directly below.
    fn below(&self, name: &str) -> Vec<Arc<Rule>> {
        self.groups
            .values()
            .map(|group| {
                group
                    .find(name)
                    .unwrap_or_else(|| Arc::new(Rule::Unknown(format!("{}/{name}", group.path))))
            })
            .collect()
    }

    /// A policy by its name relative to this group, or by an absolute name inside this group.
    fn find(&self, name: &str) -> Option<Arc<Rule>> {
        let relative = if name.starts_with('/') {
            name.strip_prefix(&self.path)?.strip_prefix('/')?
        } else {
            name
        };
        let mut group = self;
        let mut rest = relative;
        while let Some((key, below)) = rest.split_once('/') {
            group = group.groups.get(key)?;
            rest = below;
        }
        group.rules.get(rest).cloned()
    }
}
