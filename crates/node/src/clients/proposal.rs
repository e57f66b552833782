//! A signed proposal, taken apart and judged.
//!
//! Promises the checks that a Go peer makes before it looks at what is asked: the header, the
//! transaction id, that the creator is a valid member of the channel (without a channel, of our
//! organization) and that it signed. Answers nothing.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use prost::{DecodeError, Message};
use prost_types::Timestamp;
use tidings_msp::{
    channel_config::ChannelConfig, crypto::sha256_parts, identity::Identity, policy::SignedDatum,
};
use tidings_proto::{
    common::{ChannelHeader, Header, HeaderType, SignatureHeader},
    protos::{
        ChaincodeHeaderExtension, ChaincodeInvocationSpec, ChaincodeProposalPayload,
        Proposal as Wire, SignedProposal,
    },
};

use super::request::{Refused, check_expiry, check_time};
use crate::crypto::Crypto;

/// The longest name of a channel, as in Fabric.
pub(super) const CHANNEL_LEN_MAX: usize = 249;

/// A transaction id is the SHA-256 of nonce and creator in hex.
const TX_ID_LEN: usize = 64;

/// Longer than all names of chaincodes that are written anywhere.
const CHAINCODE_LEN_MAX: usize = 256;

/// Why a proposal is not looked at any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProposalRefused {
    #[error("the {part} of the proposal does not decode: {error}")]
    Undecodable {
        part: &'static str,
        error: DecodeError,
    },
    #[error("the proposal lacks {0}")]
    Missing(&'static str),
    #[error("the {0} of the proposal is longer than any")]
    TooLong(&'static str),
    /// It is old, or the certificate of its creator has ended.
    #[error("error validating proposal: {0}")]
    Time(Refused),
    #[error("error validating proposal: invalid header type {0}")]
    HeaderType(i32),
    #[error("error validating proposal: epoch is non-zero")]
    Epoch,
    #[error(
        "error validating proposal: incorrectly computed txid '{claimed}' -- expected '{expected}'"
    )]
    TxId { claimed: String, expected: String },
    #[error(
        "error validating proposal: access denied: channel [{channel}] creator org unknown, creator is malformed"
    )]
    UnknownCreator { channel: String },
    #[error("error validating proposal: access denied: channel [{channel}] creator org [{org}]")]
    Denied {
        channel: String,
        org: String,
        /// For our own log only.
        reason: String,
    },
}

/// What a client proposes. Only its form is known to be good.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    signed: SignedProposal,
    header: Header,
    creator: Bytes,
    nonce: Bytes,
    header_type: i32,
    epoch: u64,
    tx_id: String,
    timestamp: Option<Timestamp>,
    payload_input: Bytes,
    /// Empty if it is for the peer itself.
    pub(super) channel: String,
    pub(super) chaincode: String,
    /// The function, and its arguments.
    pub(super) args: Vec<Bytes>,
}

fn decoded<M: Message + Default>(part: &'static str, bytes: Bytes) -> Result<M, ProposalRefused> {
    M::decode(bytes).map_err(|error| ProposalRefused::Undecodable { part, error })
}

impl Proposal {
    /// Takes it apart.
    pub(super) fn parse(signed: SignedProposal) -> Result<Self, ProposalRefused> {
        let proposal: Wire = decoded("outside", signed.proposal_bytes.clone())?;
        let header: Header = decoded("header", proposal.header)?;
        let channel: ChannelHeader = decoded("channel header", header.channel_header.clone())?;
        let signer: SignatureHeader = decoded("signature header", header.signature_header.clone())?;
        let extension: ChaincodeHeaderExtension = decoded("extension", channel.extension)?;
        let chaincode = extension.chaincode_id.map(|id| id.name);
        let chaincode = chaincode.filter(|name| !name.is_empty());
        let payload: ChaincodeProposalPayload = decoded("payload", proposal.payload)?;
        let spec: ChaincodeInvocationSpec = decoded("invocation", payload.input.clone())?;
        for (part, len, len_max) in [
            ("channel", channel.channel_id.len(), CHANNEL_LEN_MAX),
            ("transaction id", channel.tx_id.len(), TX_ID_LEN),
            (
                "chaincode",
                chaincode.as_ref().map_or(0, String::len),
                CHAINCODE_LEN_MAX,
            ),
        ] {
            if len > len_max {
                return Err(ProposalRefused::TooLong(part));
            }
        }
        let spec = spec.chaincode_spec;
        let spec = spec.ok_or(ProposalRefused::Missing("a chaincode spec"))?;
        let input = spec.input.ok_or(ProposalRefused::Missing("input"))?;
        Ok(Self {
            signed,
            header,
            creator: signer.creator,
            nonce: signer.nonce,
            header_type: channel.r#type,
            epoch: channel.epoch,
            tx_id: channel.tx_id,
            timestamp: channel.timestamp,
            payload_input: payload.input,
            channel: channel.channel_id,
            chaincode: chaincode.ok_or(ProposalRefused::Missing("the name of a chaincode"))?,
            args: input.args,
        })
    }

    /// Who proposes it: a valid member of the channel, or without one of our organization.
    pub(super) fn check(
        &self,
        crypto: &Crypto,
        config: Option<&ChannelConfig>,
        (now, window): (SystemTime, Duration),
    ) -> Result<Arc<Identity>, ProposalRefused> {
        let types = [HeaderType::EndorserTransaction, HeaderType::Config];
        if !types.map(i32::from).contains(&self.header_type) {
            return Err(ProposalRefused::HeaderType(self.header_type));
        }
        if self.epoch != 0 {
            return Err(ProposalRefused::Epoch);
        }
        for (part, is_empty) in [
            ("a nonce", self.nonce.is_empty()),
            ("a creator", self.creator.is_empty()),
            ("a signature", self.signed.signature.is_empty()),
        ] {
            if is_empty {
                return Err(ProposalRefused::Missing(part));
            }
        }
        check_time(self.timestamp.as_ref(), now, window).map_err(ProposalRefused::Time)?;
        let expected = tx_id(&self.nonce, &self.creator);
        if self.tx_id != expected {
            let claimed = self.tx_id.clone();
            return Err(ProposalRefused::TxId { claimed, expected });
        }
        let found = match config {
            Some(config) => config.msps().deserialize(&self.creator),
            None => crypto.services().local().deserialize(&self.creator),
        };
        let creator = found.map_err(|_unknown| ProposalRefused::UnknownCreator {
            channel: self.channel.clone(),
        })?;
        let denied = |reason: String| ProposalRefused::Denied {
            channel: self.channel.clone(),
            org: creator.msp_id().to_string(),
            reason,
        };
        match config {
            Some(config) => config.msps().validate(&creator),
            None => crypto.services().local().validate(&creator),
        }
        .map_err(|refused| denied(refused.to_string()))?;
        creator
            .verify(&self.signed.proposal_bytes, &self.signed.signature)
            .map_err(|refused| denied(refused.to_string()))?;
        check_expiry(Some(creator.expires_at()), now).map_err(ProposalRefused::Time)?;
        Ok(creator)
    }

    /// What the creator signed, as policies take it.
    pub(super) fn signed(&self) -> SignedDatum<'_> {
        SignedDatum {
            message: Cow::Borrowed(&self.signed.proposal_bytes),
            identity: Cow::Borrowed(&self.creator),
            signature: Cow::Borrowed(&self.signed.signature),
        }
    }

    /// What an endorsement of the answer refers to. The transient part does not count.
    pub(super) fn hash(&self) -> [u8; 32] {
        let payload = ChaincodeProposalPayload {
            input: self.payload_input.clone(),
            ..ChaincodeProposalPayload::default()
        };
        sha256_parts(&[
            &self.header.channel_header,
            &self.header.signature_header,
            &payload.encode_to_vec(),
        ])
    }
}

/// The id that a transaction of this creator has.
pub(super) fn tx_id(nonce: &[u8], creator: &[u8]) -> String {
    hex::encode(sha256_parts(&[nonce, creator]))
}
