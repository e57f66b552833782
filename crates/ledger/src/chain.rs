//! How blocks hang together: numbers, header hashes, data hashes.
//!
//! Pure. Says whether a block continues a chain, never whether anybody was allowed to make it.

use std::fmt;

use sha2::{Digest, Sha256};
use tidings_proto::block::BlockView;

use crate::Fault;

/// SHA-256 of a block header's hashed form: the name of a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash([u8; 32]);

impl BlockHash {
    /// A hash that somebody else computed.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash of a block's header; nothing without header.
    pub fn of(block: &BlockView) -> Option<Self> {
        block
            .header_asn1()
            .map(|header| Self(Sha256::digest(header).into()))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 of the plain concatenation of a block's transactions: what its header should carry as
/// data hash.
pub fn data_hash(block: &BlockView) -> [u8; 32] {
    let mut hash = Sha256::new();
    for transaction in block.transactions() {
        hash.update(&transaction);
    }
    hash.finalize().into()
}

/// The end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tip {
    height: u64,
    last_hash: Option<BlockHash>,
}

impl Tip {
    pub(crate) fn new(height: u64, last_hash: BlockHash) -> Self {
        Self {
            height,
            last_hash: Some(last_hash),
        }
    }

    /// The tip that this block makes, wherever it comes from; nothing without header.
    pub fn of(block: &BlockView) -> Option<Self> {
        Some(Self::new(
            block.number()?.checked_add(1)?,
            BlockHash::of(block)?,
        ))
    }

    /// How many blocks there are, which is the number of the next one.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The header hash of the last block; nothing in an empty chain.
    pub fn last_hash(&self) -> Option<BlockHash> {
        self.last_hash
    }

    /// The tip with this block behind it, if it belongs there. The first block has an empty
    /// previous hash.
    pub(crate) fn follow(&self, block: &BlockView) -> Result<Self, Fault> {
        let header = block.header().ok_or(Fault::NoHeader)?;
        if header.number != self.height {
            return Err(Fault::Number(header.number));
        }
        let previous = self.last_hash.as_ref().map_or(&[][..], |hash| &hash.0);
        if header.previous_hash != previous {
            return Err(Fault::PreviousHash);
        }
        Self::of(block).ok_or(Fault::Number(header.number))
    }
}
