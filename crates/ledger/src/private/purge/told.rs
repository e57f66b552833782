//! What is told of purges.

use crate::StoreError;

/// A key of which a transaction says that all values are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPurge {
    /// The transaction's position in its block.
    pub tx: u64,
    /// The chaincode.
    pub namespace: String,
    /// Its collection.
    pub collection: String,
    /// SHA-256 of the key.
    pub key_hash: [u8; 32],
}

/// A transaction that says that keys are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedPurge {
    /// Its block.
    pub block: u64,
    /// Its position in it.
    pub tx: u64,
    /// The keys by chaincode and collection, of the first [`super::PURGES_LISTED_MAX`] collections.
    pub collections: Vec<PurgedKeys>,
    /// How many more keys it names, which are not noted, and which nothing purges.
    pub left_out: u64,
    /// What became of it.
    pub state: PurgeState,
}

/// What became of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeState {
    /// It changes nothing.
    Noted,
    /// It is being carried out, and so many write sets were changed.
    Begun(u64),
    /// It is carried out, and so many write sets were changed.
    Done(u64),
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// So many write sets were changed.
    pub changed: u64,
    /// So many of its keys are not noted, and are where they were.
    pub left_out: u64,
}

/// Keys of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgedKeys {
    /// The chaincode.
    pub namespace: String,
    /// Its collection.
    pub collection: String,
    /// How many keys.
    pub keys: u64,
}

/// How many write sets have a key that is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touched {
    /// So many that were looked at.
    pub sets: u64,
    /// There are more that were not looked at.
    pub is_cut: bool,
}

/// Why nothing was purged.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// No such transaction says that a key is to be forgotten, as far as is known here.
    #[error("transaction {tx} of block {block} purges nothing that is known here")]
    Unknown {
        /// The block.
        block: u64,
        /// The transaction.
        tx: u64,
    },
    /// The store failed. Some may be purged; it goes on when it is tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
}
