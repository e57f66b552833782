//! Hashes of blocks, and what a block says about itself.
//!
//! Everything here works on the bytes as received. Nothing here says whether a block is good:
//! that is [`crate::verify_block`].

use prost::Message;
use tidings_proto::{
    block::{BlockView, header_asn1},
    common::{BlockMetadataIndex, LastConfig, Metadata, OrdererBlockMetadata},
};

use crate::crypto::{Sha256, sha256};

/// The hash of a block's header, by which the next block names it.
pub fn header_hash(number: u64, previous_hash: &[u8], data_hash: &[u8]) -> [u8; 32] {
    sha256(&header_asn1(number, previous_hash, data_hash))
}

/// The hash of a block's transactions: over their plain concatenation, without lengths.
pub fn data_hash(block: &BlockView) -> [u8; 32] {
    let mut hash = Sha256::new();
    for transaction in block.transactions() {
        hash.update(&transaction);
    }
    hash.finish()
}

/// The number of the last configuration block up to this block, itself included, as the orderer
/// wrote it. From the signed metadata; from the older entry only where the signed one is empty.
pub fn last_config_index(block: &BlockView) -> Option<u64> {
    let signed = metadata(block, BlockMetadataIndex::Signatures)?;
    if signed.value.is_empty() {
        let older = metadata(block, BlockMetadataIndex::LastConfig)?;
        return Some(LastConfig::decode(older.value).ok()?.index);
    }
    Some(
        OrdererBlockMetadata::decode(signed.value)
            .ok()?
            .last_config?
            .index,
    )
}

fn metadata(block: &BlockView, index: BlockMetadataIndex) -> Option<Metadata> {
    let index = usize::try_from(index as i32).ok()?;
    Metadata::decode(block.metadata().nth(index)?).ok()
}
