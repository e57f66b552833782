//! What must hold of what is put in, and what is said where it does not.

use bytes::Bytes;

use super::{Content, Left, NAME_LEN_MAX, Place, PrivateBlock, SET_LEN_MAX};
use crate::StoreError;

/// Why blocks were not prepared. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The blocks are not in the order of their numbers, or the last number is the last there is.
    #[error("block {number} is not followed by the next one")]
    Disorder {
        /// The block before.
        number: u64,
    },
    /// Blocks below were never prepared.
    #[error("block {number} cannot be prepared before block {want}")]
    Gap {
        /// Its number.
        number: u64,
        /// The number that comes first.
        want: u64,
    },
    /// The block is in the ledger, and what is known of it changes by reconciliation only.
    #[error("block {number} is committed and cannot be prepared again")]
    Settled {
        /// Its number.
        number: u64,
    },
    /// More than [`SET_LEN_MAX`]; to be put down as missing.
    #[error("{place}: {len} bytes, more than {SET_LEN_MAX}")]
    TooLarge {
        /// The write set.
        place: Place,
        /// Its bytes.
        len: usize,
    },
    /// More than [`NAME_LEN_MAX`]. No definition has such a name; to be left out.
    #[error("block {block}, transaction {tx}: a name of {len} bytes, more than {NAME_LEN_MAX}")]
    NameTooLong {
        /// The block.
        block: u64,
        /// The transaction.
        tx: u64,
        /// The bytes of the name.
        len: usize,
    },
    /// The store failed. The blocks may be prepared or not; they can be prepared again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why write sets were not put down. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// More than [`SET_LEN_MAX`].
    #[error("{place}: {len} bytes, more than {SET_LEN_MAX}")]
    TooLarge {
        /// The write set.
        place: Place,
        /// Its bytes.
        len: usize,
    },
    /// The store failed. The same can be tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What can be said of blocks without the store.
pub(super) fn judge(blocks: &[PrivateBlock]) -> Result<(), PrepareError> {
    for (at, block) in blocks.iter().enumerate() {
        let number = block.number;
        let next = blocks.get(at + 1).map(|next| next.number);
        let follows = number.checked_add(1);
        if follows.is_none() || next.is_some() && next != follows {
            return Err(PrepareError::Disorder { number });
        }
        for entry in &block.entries {
            let len = entry.namespace.len().max(entry.collection.len());
            if len > NAME_LEN_MAX {
                let (block, tx) = (number, entry.tx);
                return Err(PrepareError::NameTooLong { block, tx, len });
            }
            if let Content::Held(rwset) | Content::Trimmed(Left { rwset, .. }) = &entry.content
                && rwset.len() > SET_LEN_MAX
            {
                let (place, len) = (entry.place(number), rwset.len());
                return Err(PrepareError::TooLarge { place, len });
            }
        }
    }
    Ok(())
}

/// Whether write sets are short enough.
pub(super) fn judge_lens<'a>(
    mut sets: impl Iterator<Item = (&'a Place, &'a Bytes)>,
) -> Result<(), FillError> {
    let large = sets.find(|(_, rwset)| rwset.len() > SET_LEN_MAX);
    large.map_or(Ok(()), |(place, rwset)| {
        let (place, len) = (place.clone(), rwset.len());
        Err(FillError::TooLarge { place, len })
    })
}
