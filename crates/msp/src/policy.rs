//! Who must have signed.
//!
//! The policies of one channel, compiled once from its configuration tree: signature policies
//! with Fabric's greedy rule ([`signature`]), implicit meta policies over the groups below
//! ([`implicit_meta`]), and the tree that finds them by name ([`Policies`]). Evaluation first
//! turns signatures into signers, each identity once, then asks the rule.
//!
//! Promises: a name that is not in the tree is a policy that nobody satisfies; the same signers
//! in the same order always get the same answer. Knows nothing of blocks, channels or how the
//! signed bytes came about.

pub mod implicit_meta;
pub mod signature;
mod tree;

use std::{
    borrow::{Borrow, Cow},
    collections::BTreeSet,
    sync::Arc,
};

pub use self::tree::{Policies, PolicyTreeRefused};
use self::{implicit_meta::ImplicitMeta, signature::SignaturePolicy};
use crate::{identity::Identity, msp::MspManager};

/// Signatures looked at in one evaluation. Each may cost a verification, and whoever sends a
/// block chooses how many it carries; no ordering service or set of administrators comes near.
pub const SIGNED_DATA_MAX: usize = 1024;

/// Signed bytes looked at in one evaluation, all signatures together. A full gossip message by one
/// signer fits twice; orderers and administrators sign some kilobytes. Without this, one large
/// message under a thousand bad signatures keeps us hashing for minutes.
pub const SIGNED_BYTES_MAX: usize = 256 << 20;

/// A message, who is said to have signed it, and the signature.
#[derive(Clone, Debug)]
pub struct SignedDatum<'a> {
    /// The bytes that were signed.
    pub message: Cow<'a, [u8]>,
    /// The serialized identity of the signer.
    pub identity: Cow<'a, [u8]>,
    /// The signature as received.
    pub signature: Cow<'a, [u8]>,
}

/// Why a policy is not satisfied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefused {
    /// The configuration has no such policy, and then nobody satisfies it.
    #[error("the channel has no policy {path}, which nobody can satisfy")]
    Unknown {
        /// The name that was asked for.
        path: String,
    },
    /// An implicit meta policy counts too few satisfied policies below it.
    #[error(
        "implicit policy failed: {satisfied} sub-policies '{sub_policy}' are satisfied, {required} must be"
    )]
    ImplicitMeta {
        /// How many were satisfied.
        satisfied: usize,
        /// How many must be.
        required: usize,
        /// The name of the policy in the groups below.
        sub_policy: String,
    },
    /// The valid signers are not those that the signature policy wants.
    #[error("the {signers} valid signers do not satisfy the signature policy")]
    Signature {
        /// How many distinct valid signers there were.
        signers: usize,
    },
    /// More signatures than anybody honest sends.
    #[error("{got} signatures in one set, at most {SIGNED_DATA_MAX} are looked at")]
    TooMany {
        /// How many there were.
        got: usize,
    },
    /// More signed bytes than anybody honest sends.
    #[error(
        "signatures over more than {SIGNED_BYTES_MAX} bytes altogether, which are not looked at"
    )]
    TooLong,
}

/// A compiled policy of a channel together with the MSPs that know its signers.
#[derive(Clone, Debug)]
pub struct Policy {
    rule: Arc<Rule>,
    msps: Arc<MspManager>,
}

/// What a policy asks of a set of signers.
#[derive(Debug)]
pub(crate) enum Rule {
    Signature(SignaturePolicy),
    ImplicitMeta(ImplicitMeta),
    Unknown(String),
}

impl Policy {
    /// Whether the signatures satisfy the policy. A signature that does not verify, an identity
    /// that no MSP of the channel knows and a repeated identity count for nothing.
    pub fn evaluate(&self, data: &[SignedDatum<'_>]) -> Result<(), PolicyRefused> {
        self.evaluate_each(data.iter())
    }

    /// As [`Self::evaluate`], for messages that are put together when their turn comes: each may
    /// be as long as the block that it is from, and there may be many.
    pub(crate) fn evaluate_each<'a>(
        &self,
        data: impl ExactSizeIterator<Item: Borrow<SignedDatum<'a>>>,
    ) -> Result<(), PolicyRefused> {
        self.rule.evaluate(&signers(&self.msps, data)?, &self.msps)
    }

    /// Whether these identities satisfy the policy, once their signatures have been verified
    /// elsewhere.
    pub fn evaluate_identities(&self, signers: &[Arc<Identity>]) -> Result<(), PolicyRefused> {
        if signers.len() > SIGNED_DATA_MAX {
            return Err(PolicyRefused::TooMany { got: signers.len() });
        }
        let mut seen = BTreeSet::new();
        let distinct: Vec<_> = signers
            .iter()
            .filter(|signer| seen.insert(signer.id()))
            .cloned()
            .collect();
        self.rule.evaluate(&distinct, &self.msps)
    }

    /// Whether the policy needs no signature at all.
    pub fn is_open(&self) -> bool {
        self.evaluate_identities(&[]).is_ok()
    }

    pub(crate) fn new(rule: Arc<Rule>, msps: Arc<MspManager>) -> Self {
        Self { rule, msps }
    }
}

impl Rule {
    fn evaluate(&self, signers: &[Arc<Identity>], msps: &MspManager) -> Result<(), PolicyRefused> {
        match self {
            Self::Signature(policy) => {
                let satisfies = |signer: usize, principal: &_| {
                    let Some(signer) = signers.get(signer) else {
                        return false;
                    };
                    msps.satisfies(signer, principal).is_ok()
                };
                if policy.is_satisfied(signers.len(), satisfies) {
                    Ok(())
                } else {
                    Err(PolicyRefused::Signature {
                        signers: signers.len(),
                    })
                }
            }
            Self::ImplicitMeta(policy) => {
                policy.evaluate(|rule| rule.evaluate(signers, msps).is_ok())
            }
            Self::Unknown(path) => Err(PolicyRefused::Unknown { path: path.clone() }),
        }
    }
}

/// The identities whose signatures verify, in order, each once. The first good signature of an
/// identity hides all later ones; a bad one hides nothing.
pub(crate) fn signers<'a>(
    msps: &MspManager,
    data: impl ExactSizeIterator<Item: Borrow<SignedDatum<'a>>>,
) -> Result<Vec<Arc<Identity>>, PolicyRefused> {
    if data.len() > SIGNED_DATA_MAX {
        return Err(PolicyRefused::TooMany { got: data.len() });
    }
    let mut seen = BTreeSet::new();
    let mut signers = Vec::new();
    let mut bytes_left = SIGNED_BYTES_MAX;
    for datum in data {
        let datum = datum.borrow();
        bytes_left = bytes_left
            .checked_sub(datum.message.len())
            .ok_or(PolicyRefused::TooLong)?;
        let Ok(identity) = msps.deserialize(&datum.identity) else {
            continue;
        };
        if seen.contains(identity.id()) {
            continue;
        }
        if identity.verify(&datum.message, &datum.signature).is_ok() {
            seen.insert(identity.id().clone());
            signers.push(identity);
        }
    }
    Ok(signers)
}
