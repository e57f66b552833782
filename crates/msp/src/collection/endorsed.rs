//! Whether those whose word it is agreed to a definition.
//!
//! A node that does not execute chaincode cannot say of every transaction whether it is valid, but
//! of a definition it can say nearly all: the channel's configuration names the policy, and the
//! transaction carries the signatures. Promises Fabric's verdict on creator, proposal and
//! endorsements. Does not compare what the transaction read with what was there, nor its id with
//! those of earlier ones; [`Definitions`](super::Definitions) makes up for that by the numbers of
//! definitions.

use std::{borrow::Cow, sync::Arc};

use prost::Message;
use tidings_proto::{
    block::EndorsedTransaction,
    common::{Envelope, Header, Payload, SignatureHeader},
};

use super::{lifecycle::LIFECYCLE_NAMESPACE, members};
use crate::{
    channel_config::ChannelConfig,
    crypto::{SignatureRefused, sha256_parts},
    msp::IdentityRefused,
    policy::{
        Policy, PolicyRefused, Rule, SIGNED_DATA_MAX, SignedDatum, signature::SignaturePolicy,
    },
};

/// Who must have endorsed a definition.
const LIFECYCLE_ENDORSEMENT: &str = "/Channel/Application/LifecycleEndorsement";

/// Why a transaction is no definition that the organizations agreed to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionRefused {
    /// Definitions of this kind begin with application capability V2_0.
    #[error(
        "the channel has no definitions in {LIFECYCLE_NAMESPACE}: application capability V2_0 is off"
    )]
    Capability,
    /// Made for another channel.
    #[error("the transaction was made for channel {0}")]
    OtherChannel(String),
    /// None or several actions.
    #[error("the transaction has {0} actions, a valid one has one")]
    Actions(usize),
    /// It writes where other policies hold, which are not judged here.
    #[error("the transaction also writes to {0}")]
    OtherNamespace(String),
    /// It names the namespace of definitions twice.
    #[error("the transaction names {LIFECYCLE_NAMESPACE} twice")]
    Repeated,
    /// A header does not decode or is not there.
    #[error("the transaction's headers do not decode")]
    Headers,
    /// The id is not made of creator and nonce.
    #[error("the transaction's id is not made of its creator and nonce")]
    Id,
    /// The creator is not anybody known.
    #[error("the transaction's creator: {0}")]
    Creator(#[from] IdentityRefused),
    /// The signature is not the creator's.
    #[error("the transaction's signature: {0}")]
    Signature(#[from] SignatureRefused),
    /// What was endorsed is another proposal.
    #[error("what was endorsed is not the proposal in the transaction")]
    Proposal,
    /// More endorsements than anybody needs.
    #[error("more than {SIGNED_DATA_MAX} endorsements")]
    TooMany,
    /// Too few of those who must endorse it.
    #[error("the endorsements do not satisfy the channel's policy: {0}")]
    Policy(#[from] PolicyRefused),
}

/// Judges a transaction with definitions in `_lifecycle` under the configuration that held below
/// its block.
pub fn check_definition(
    transaction: &EndorsedTransaction,
    config: &ChannelConfig,
) -> Result<(), DefinitionRefused> {
    if !config.capabilities().lifecycle_v2() {
        return Err(DefinitionRefused::Capability);
    }
    if transaction.channel_id() != config.channel_id() {
        let channel = transaction.channel_id().to_owned();
        return Err(DefinitionRefused::OtherChannel(channel));
    }
    if transaction.actions_len() != 1 {
        return Err(DefinitionRefused::Actions(transaction.actions_len()));
    }
    check_namespaces(transaction)?;
    check_creator(transaction, config)?;
    check_endorsements(transaction, config)
}

/// Writes elsewhere would have to satisfy the policies there for the transaction to be valid.
fn check_namespaces(transaction: &EndorsedTransaction) -> Result<(), DefinitionRefused> {
    let mut seen = false;
    for namespace in transaction.namespaces() {
        if namespace.name == LIFECYCLE_NAMESPACE {
            if seen {
                return Err(DefinitionRefused::Repeated);
            }
            seen = true;
        } else if namespace.is_written {
            let name = namespace.name.to_owned();
            return Err(DefinitionRefused::OtherNamespace(name));
        }
    }
    Ok(())
}

fn check_creator(
    transaction: &EndorsedTransaction,
    config: &ChannelConfig,
) -> Result<(), DefinitionRefused> {
    let malformed = |_| DefinitionRefused::Headers;
    let envelope = Envelope::decode(transaction.envelope().clone()).map_err(malformed)?;
    let payload = Payload::decode(envelope.payload.clone()).map_err(malformed)?;
    let header: Header = payload.header.ok_or(DefinitionRefused::Headers)?;
    let signed = SignatureHeader::decode(header.signature_header).map_err(malformed)?;
    let proposed = transaction.action_header();
    let proposer = SignatureHeader::decode(proposed.clone()).map_err(malformed)?;
    for header in [&signed, &proposer] {
        if header.nonce.is_empty() || header.creator.is_empty() {
            return Err(DefinitionRefused::Headers);
        }
    }
    let creator = config.msps().deserialize(&signed.creator)?;
    config.msps().validate(&creator)?;
    creator.verify(&envelope.payload, &envelope.signature)?;
    let id = sha256_parts(&[&signed.nonce, &signed.creator]);
    if hex::encode(id) != transaction.tx_id() {
        return Err(DefinitionRefused::Id);
    }
    let hash = sha256_parts(&[&header.channel_header, proposed, transaction.proposal()]);
    if hash != transaction.proposal_hash() {
        return Err(DefinitionRefused::Proposal);
    }
    Ok(())
}

fn check_endorsements(
    transaction: &EndorsedTransaction,
    config: &ChannelConfig,
) -> Result<(), DefinitionRefused> {
    let endorsements: Vec<_> = transaction
        .endorsements()
        .take(SIGNED_DATA_MAX + 1)
        .collect();
    if endorsements.len() > SIGNED_DATA_MAX {
        return Err(DefinitionRefused::TooMany);
    }
    let signed = endorsements.iter().map(|endorsement| SignedDatum {
        message: [
            &transaction.response_payload()[..],
            &endorsement.endorser[..],
        ]
        .concat()
        .into(),
        identity: Cow::Borrowed(&endorsement.endorser),
        signature: Cow::Borrowed(&endorsement.signature),
    });
    Ok(policy(config).evaluate_each(signed)?)
}

/// The channel's policy, or Fabric's for a channel that has none: a member of each of most
/// organizations with peers.
fn policy(config: &ChannelConfig) -> Policy {
    if config.policies().contains(LIFECYCLE_ENDORSEMENT) {
        return config.policies().policy(LIFECYCLE_ENDORSEMENT);
    }
    let organizations = config.application_organizations().values();
    let mut msp_ids: Vec<_> = organizations.map(|each| each.msp_id.as_str()).collect();
    msp_ids.sort_unstable();
    let most = i32::try_from(msp_ids.len() / 2 + 1).unwrap_or(i32::MAX);
    let rule = SignaturePolicy::compile_any_version(members(most, &msp_ids)).map_or_else(
        |_too_large| Rule::Unknown(LIFECYCLE_ENDORSEMENT.to_owned()),
        Rule::Signature,
    );
    Policy::new(Arc::new(rule), Arc::clone(config.msps()))
}
