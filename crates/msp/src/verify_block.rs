//! Whether a block is the orderers' block of that number of that channel.
//!
//! Promises Go's verdict for every block, on the bytes as received: number, channel, form of the
//! transactions, data hash, and signatures under the channel's BlockValidation policy, in that
//! order. Does not check the link to the previous block (the ledger does, it has the hash), nor
//! what transactions say. Metadata other than the first entry is not signed and never looked at.
//!
//! Rules: docs/protocol/blocks.md.

use std::borrow::Cow;

use bytes::{Buf, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tidings_proto::{
    Malformed,
    block::{BlockView, NoHead},
    canonical::{CanonicalEnvelope, NotCanonical},
    common::{BlockHeader, IdentifierHeader, Metadata, MetadataSignature, SignatureHeader},
};

use crate::{
    block,
    channel_config::ChannelConfig,
    crypto::sha256,
    policy::{PolicyRefused, SIGNED_DATA_MAX, SignedDatum},
};

/// What is known of a block once it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBlockFacts {
    /// Its number.
    pub number: u64,
    /// The hash of its header, which the next block must name.
    pub header_hash: [u8; 32],
    /// The hash that it names for the block before it. Signed, but not compared with anything.
    pub previous_hash: Bytes,
    /// The hash of its transactions.
    pub data_hash: Bytes,
    /// Whether it changes the configuration.
    pub is_config: bool,
    /// The last configuration block up to it, if the orderer wrote it legibly.
    pub last_config_index: Option<u64>,
    /// How many transactions it has.
    pub transactions: usize,
}

/// What is known of a block of which only header and metadata were verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationFacts {
    /// Its number.
    pub number: u64,
    /// The hash of its header.
    pub header_hash: [u8; 32],
    /// The hash that it names for the block before it.
    pub previous_hash: Bytes,
}

/// Why a block is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockRefused {
    /// We are not on that channel, so nothing about it can be judged.
    #[error("channel {0} is not known here")]
    UnknownChannel(String),
    /// Not a block.
    #[error("the bytes are not a block: {0}")]
    Malformed(#[from] Malformed),
    /// There is no header.
    #[error("block of channel {channel} has no header")]
    NoHeader {
        /// The channel it was meant for.
        channel: String,
    },
    /// Another number than the sender said.
    #[error("claimed number is {claimed} but the number inside the block is {actual}")]
    Number {
        /// What the sender said.
        claimed: u64,
        /// What the block says.
        actual: u64,
    },
    /// The first transaction does not say which channel it is for.
    #[error("no channel id in block {number} of channel {channel}: {reason}")]
    NoChannel {
        /// The channel it was meant for.
        channel: String,
        /// Its number.
        number: u64,
        /// Why.
        reason: NoHead,
    },
    /// The block is another channel's.
    #[error("block {number} is for channel '{named}', not for '{channel}'")]
    OtherChannel {
        /// The channel it was meant for.
        channel: String,
        /// The channel it names.
        named: String,
        /// Its number.
        number: u64,
    },
    /// There is no metadata, so no signature.
    #[error("block {number} of channel {channel} has no metadata")]
    NoMetadata {
        /// The channel.
        channel: String,
        /// Its number.
        number: u64,
    },
    /// A transaction is not in the one form that the data hash protects.
    #[error("transaction {index} of block {number} is not well formed: {reason}")]
    Transaction {
        /// The block.
        number: u64,
        /// Which one, from 0.
        index: usize,
        /// Why.
        reason: NotCanonical,
    },
    /// The transactions are not those that the header names.
    #[error(
        "data hash in the header is not the hash of the transactions, in block {number} of channel {channel}"
    )]
    DataHash {
        /// The channel.
        channel: String,
        /// Its number.
        number: u64,
    },
    /// The signatures, or who they are by, do not decode.
    #[error("{part} of block {number} does not decode: {source}")]
    Signatures {
        /// The block.
        number: u64,
        /// Which part.
        part: &'static str,
        /// Why.
        source: DecodeError,
    },
    /// The signatures are not those that the channel demands.
    #[error("signatures of block {number} do not satisfy BlockValidation: {reason}")]
    Policy {
        /// The block.
        number: u64,
        /// Why.
        reason: PolicyRefused,
    },
}

/// Judges a serialized block that somebody says is number `claimed` of the channel, under the
/// configuration that is in force before it.
pub fn verify_block(
    config: &ChannelConfig,
    channel: &str,
    claimed: u64,
    block: &Bytes,
) -> Result<VerifiedBlockFacts, BlockRefused> {
    verify_view(config, channel, claimed, &BlockView::parse(block.clone())?)
}

/// As [`verify_block`], for a block that was walked already.
pub fn verify_view(
    config: &ChannelConfig,
    channel: &str,
    claimed: u64,
    block: &BlockView,
) -> Result<VerifiedBlockFacts, BlockRefused> {
    let header = header(block, channel)?;
    let number = header.number;
    if number != claimed {
        return Err(BlockRefused::Number {
            claimed,
            actual: number,
        });
    }
    let named = block
        .channel_id()
        .map_err(|reason| BlockRefused::NoChannel {
            channel: channel.to_owned(),
            number,
            reason,
        })?;
    if named != channel || named != config.channel_id() {
        return Err(BlockRefused::OtherChannel {
            channel: channel.to_owned(),
            named,
            number,
        });
    }
    check_metadata(block, channel, number)?;
    let is_config = block.is_config_block();
    if !is_config {
        check_transactions(block, number)?;
    }
    if block::data_hash(block) != *header.data_hash {
        return Err(BlockRefused::DataHash {
            channel: channel.to_owned(),
            number,
        });
    }
    let header_hash = check_signatures(config, block, header)?;
    Ok(VerifiedBlockFacts {
        number,
        header_hash,
        previous_hash: header.previous_hash.clone(),
        data_hash: header.data_hash.clone(),
        is_config,
        last_config_index: block::last_config_index(block),
        transactions: block.transactions_len(),
    })
}

/// Judges header and metadata of a serialized block whose transactions were left out.
pub fn verify_attestation(
    config: &ChannelConfig,
    block: &Bytes,
) -> Result<AttestationFacts, BlockRefused> {
    let block = BlockView::parse(block.clone())?;
    let header = header(&block, config.channel_id())?;
    check_metadata(&block, config.channel_id(), header.number)?;
    Ok(AttestationFacts {
        number: header.number,
        header_hash: check_signatures(config, &block, header)?,
        previous_hash: header.previous_hash.clone(),
    })
}

fn header<'a>(block: &'a BlockView, channel: &str) -> Result<&'a BlockHeader, BlockRefused> {
    block.header().ok_or_else(|| BlockRefused::NoHeader {
        channel: channel.to_owned(),
    })
}

fn check_metadata(block: &BlockView, channel: &str, number: u64) -> Result<(), BlockRefused> {
    if block.metadata_len() == 0 {
        return Err(BlockRefused::NoMetadata {
            channel: channel.to_owned(),
            number,
        });
    }
    Ok(())
}

fn check_transactions(block: &BlockView, number: u64) -> Result<(), BlockRefused> {
    for (index, transaction) in block.transactions().enumerate() {
        CanonicalEnvelope::parse(&transaction).map_err(|reason| BlockRefused::Transaction {
            number,
            index,
            reason,
        })?;
    }
    Ok(())
}

/// Checks the orderers' signatures and gives the hash of the header that they cover.
fn check_signatures(
    config: &ChannelConfig,
    block: &BlockView,
    header: &BlockHeader,
) -> Result<[u8; 32], BlockRefused> {
    let number = header.number;
    let asn1 = tidings_proto::block::header_asn1(number, &header.previous_hash, &header.data_hash);
    let first = block.metadata().next().unwrap_or_default();
    let metadata = decode_metadata(number, first)?;
    let mut claims = Vec::new();
    for signature in &metadata.signatures {
        claims.extend(claim(config, number, signature)?);
    }
    let data = claims.into_iter().map(|claim| SignedDatum {
        message: Cow::Owned([&metadata.value[..], claim.header, &asn1].concat()),
        identity: claim.identity,
        signature: Cow::Borrowed(claim.signature),
    });
    config
        .block_validation()
        .evaluate_each(data)
        .map_err(|reason| BlockRefused::Policy { number, reason })?;
    Ok(sha256(&asn1))
}

/// Decodes the signed metadata once it is known how many signatures that will make: an empty one
/// has two bytes here and a hundred in memory.
fn decode_metadata(number: u64, metadata: Bytes) -> Result<Metadata, BlockRefused> {
    let undecodable = |source| undecodable(number, "metadata", source);
    let signatures = signatures_len(metadata.clone()).map_err(undecodable)?;
    if signatures > SIGNED_DATA_MAX {
        let reason = PolicyRefused::TooMany { got: signatures };
        return Err(BlockRefused::Policy { number, reason });
    }
    Metadata::decode(metadata).map_err(undecodable)
}

fn signatures_len(mut metadata: Bytes) -> Result<usize, DecodeError> {
    const SIGNATURES: u32 = 2;
    let mut len = 0;
    while metadata.has_remaining() {
        let (tag, wire_type) = decode_key(&mut metadata)?;
        skip_field(wire_type, tag, &mut metadata, DecodeContext::default())?;
        len += usize::from(tag == SIGNATURES);
    }
    Ok(len)
}

/// Who is said to have signed, with the header that the signature covers.
struct Claim<'a> {
    header: &'a [u8],
    identity: Cow<'a, [u8]>,
    signature: &'a [u8],
}

/// Nothing for a consenter's number that the channel does not list.
fn claim<'a>(
    config: &'a ChannelConfig,
    number: u64,
    signature: &'a MetadataSignature,
) -> Result<Option<Claim<'a>>, BlockRefused> {
    let by_number = config.capabilities().v3_0()
        && signature.signature_header.is_empty()
        && !signature.identifier_header.is_empty();
    let (header, identity) = if by_number {
        let header = IdentifierHeader::decode(signature.identifier_header.as_ref())
            .map_err(|source| undecodable(number, "identifier header", source))?;
        let mut consenters = config.consenters().iter();
        let Some(consenter) = consenters.find(|consenter| consenter.id == header.identifier) else {
            return Ok(None);
        };
        (
            &signature.identifier_header,
            Cow::Borrowed(consenter.identity.as_ref()),
        )
    } else {
        let header = SignatureHeader::decode(signature.signature_header.as_ref())
            .map_err(|source| undecodable(number, "signature header", source))?;
        (
            &signature.signature_header,
            Cow::Owned(header.creator.into()),
        )
    };
    Ok(Some(Claim {
        header,
        identity,
        signature: &signature.signature,
    }))
}

fn undecodable(number: u64, part: &'static str, source: DecodeError) -> BlockRefused {
    BlockRefused::Signatures {
        number,
        part,
        source,
    }
}
