//! Blocks as an orderer makes them.
//!
//! Promises: header, data hash, metadata and signature as every peer checks them. Decides
//! neither what goes into a block nor when.

use std::time::SystemTime;

use anyhow::{Context, Result};
use bytes::Bytes;
use tidings_msp::channel_config::ChannelConfig;
use tidings_msp::crypto::sha256_parts;
use tidings_msp::identity::SigningIdentity;
use tidings_proto::Message;
use tidings_proto::block::{BlockView, header_asn1};
use tidings_proto::common::{
    Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, HeaderType,
    LastConfig, Metadata, MetadataSignature, OrdererBlockMetadata, Payload, SignatureHeader,
};

/// Length of the random part of a signature header, as in Go.
pub(crate) const NONCE_LEN: usize = 24;

/// Metadata entries of a block of a Fabric orderer.
const METADATA_LEN: usize = 5;

/// Where a block goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its number.
    pub(crate) number: u64,
    /// The hash of the header before it.
    pub(crate) previous_hash: Vec<u8>,
    /// The last configuration block, itself included.
    pub(crate) last_config: u64,
}

/// Makes and signs the block with these transactions.
pub(crate) fn make(signer: &SigningIdentity, place: Place, data: Vec<Bytes>) -> Result<BlockView> {
    let parts: Vec<&[u8]> = data.iter().map(AsRef::as_ref).collect();
    let header = BlockHeader {
        number: place.number,
        previous_hash: place.previous_hash.into(),
        data_hash: Bytes::copy_from_slice(&sha256_parts(&parts)),
    };
    let last_config = LastConfig {
        index: place.last_config,
    };
    let value = Bytes::from(
        OrdererBlockMetadata {
            last_config: Some(last_config),
            consenter_metadata: Bytes::new(),
        }
        .encode_to_vec(),
    );
    let signature_header = Bytes::from(
        SignatureHeader {
            creator: signer.serialized().clone(),
            nonce: nonce()?,
        }
        .encode_to_vec(),
    );
    let asn1 = header_asn1(header.number, &header.previous_hash, &header.data_hash);
    let message = [value.as_ref(), &signature_header, &asn1].concat();
    let signature = signer.sign(&message).context("cannot sign a block")?;
    let signatures = Metadata {
        value,
        signatures: vec![MetadataSignature {
            signature_header,
            signature: signature.into(),
            identifier_header: Bytes::new(),
        }],
    };
    let older = Metadata {
        value: last_config.encode_to_vec().into(),
        signatures: Vec::new(),
    };
    let mut metadata = vec![
        signatures.encode_to_vec().into(),
        older.encode_to_vec().into(),
    ];
    metadata.resize(METADATA_LEN, Bytes::new());
    let block = Block {
        header: Some(header),
        data: Some(BlockData { data }),
        metadata: Some(BlockMetadata { metadata }),
    };
    BlockView::parse(block.encode_to_vec().into()).context("a block that was just made")
}

/// The transaction that puts the configuration in force to which an update leads.
pub(crate) fn configuration(
    signer: &SigningIdentity,
    config: &ChannelConfig,
    update: Envelope,
) -> Result<Bytes> {
    let channel_header = ChannelHeader {
        r#type: HeaderType::Config.into(),
        version: 1,
        timestamp: Some(SystemTime::now().into()),
        channel_id: config.channel_id().to_owned(),
        ..ChannelHeader::default()
    };
    let signature_header = SignatureHeader {
        creator: signer.serialized().clone(),
        nonce: nonce()?,
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: config.propose(update)?.encode_to_vec().into(),
    };
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = signer.sign(&payload).context("cannot sign a transaction")?;
    let envelope = Envelope {
        payload,
        signature: signature.into(),
    };
    Ok(envelope.encode_to_vec().into())
}

/// Fresh random bytes for a signature header.
pub(crate) fn nonce() -> Result<Bytes> {
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).context("the system has no random bytes")?;
    Ok(Bytes::copy_from_slice(&nonce))
}
