//! What a block says of private data, and of the definitions that rule it.
//!
//! A block holds hashes of private write sets, not the sets. Promises every such hash of every
//! transaction that decodes, whether the transaction is valid or not; the memory that comes out
//! is a small multiple of the block. Does not know which collections exist, who may have their
//! data, or which transactions are valid.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    BlockView, EndorsedTransaction,
    endorsed::{flag, parts},
};
use crate::common::BlockMetadataIndex;

/// Endorsers of a transaction that are handed out with its private writes. They are where to look
/// first for the data, so that more of them would say nothing more.
pub const ENDORSERS_MAX: usize = 256;

/// SHA-256 of nothing: a value of no bytes is a deletion however it is written.
const HASH_OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// What a transaction reads and writes in one collection, by hashes. Keeps the block in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateWrites {
    /// The number of the transaction in its block.
    pub tx: u64,
    /// The id of the transaction; may be empty.
    pub tx_id: Arc<str>,
    /// The chaincode that the collection belongs to.
    pub namespace: Arc<str>,
    /// The collection.
    pub collection: Arc<str>,
    /// What the SHA-256 of the private write set must be.
    pub hash: Bytes,
    /// Whether anything is written. There is no private write set of a collection that is only
    /// read.
    pub has_writes: bool,
    /// Serialized identities of who endorsed the transaction, without regard to whether their
    /// signatures are good. They should have the data.
    pub endorsers: Arc<[Bytes]>,
    /// The serialized `kvrwset.HashedRWSet`, which decodes.
    pub(super) hashed: Bytes,
}

/// One write in a collection, by hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedWrite {
    /// SHA-256 of the key.
    pub key_hash: Bytes,
    /// SHA-256 of the value, none when the key is deleted.
    pub value_hash: Option<Bytes>,
    /// Whether all earlier values of the key are to be forgotten. Only the word of a valid
    /// transaction counts.
    pub is_purge: bool,
}

/// One write that everybody sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicWrite {
    /// The number of the transaction in its block.
    pub tx: u64,
    /// The key.
    pub key: String,
    /// The value, none when the key is deleted.
    pub value: Option<Bytes>,
}

impl PrivateWrites {
    /// The writes one by one, in order. A key that is written twice ends as the last one says.
    pub fn hashed_writes(&self) -> impl Iterator<Item = HashedWrite> {
        let slice = |part: &[u8]| self.hashed.slice_ref(part);
        parts(&self.hashed, 2).map(move |write| {
            let value_hash = parts(write, 3).last().unwrap_or_default();
            let is_delete =
                flag(write, 2) || value_hash.is_empty() || value_hash == HASH_OF_NOTHING;
            HashedWrite {
                key_hash: slice(parts(write, 1).last().unwrap_or_default()),
                value_hash: (!is_delete).then(|| slice(value_hash)),
                is_purge: flag(write, 4),
            }
        })
    }
}

impl BlockView {
    /// What the transactions read and write in collections, in order. Transactions that do not
    /// decode have nothing; whether the others are valid, the block does not know.
    pub fn private_writes(&self) -> impl Iterator<Item = PrivateWrites> {
        self.endorsed()
            .flat_map(|(tx, transaction)| transaction.private_writes(tx))
    }

    /// What the transactions write for everybody to see in one namespace, in order. The same
    /// holds for their validity.
    pub fn public_writes(&self, namespace: &str) -> impl Iterator<Item = PublicWrite> {
        self.endorsed()
            .flat_map(move |(tx, transaction)| transaction.public_writes(tx, namespace))
    }

    /// The transactions that anybody could have endorsed, with their numbers in the block.
    pub fn endorsed(&self) -> impl Iterator<Item = (u64, EndorsedTransaction)> {
        (0_u64..)
            .zip(self.transactions())
            .filter_map(|(tx, envelope)| {
                let transaction = EndorsedTransaction::parse(&envelope).ok()?;
                Some((tx, transaction))
            })
    }

    /// What whoever committed the block says of its transactions, one number of
    /// `protos::TxValidationCode` each. Nobody signs it: it is a claim of the peer that gave us
    /// the block. None when there is no code for every transaction, as in blocks from orderers.
    pub fn claimed_codes(&self) -> Option<Bytes> {
        let at = usize::try_from(BlockMetadataIndex::TransactionsFilter as i32).ok()?;
        let codes = self.metadata().nth(at)?;
        (!codes.is_empty() && codes.len() == self.transactions_len()).then_some(codes)
    }
}

#[cfg(test)]
mod tests;
