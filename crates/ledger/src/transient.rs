//! Private write sets that were pushed to us and wait for their block.
//!
//! # Promises
//!
//! - **Acknowledged means on disk.** [`TransientStore::put`] returns after the copy is durable, so
//!   an acknowledgement may go out. Those of one [`TransientStore::put_many`] share one sync.
//! - **Bounded.** All copies together, those of one owner, of one organization, and of one owner
//!   for one transaction have a limit. At a limit a push is refused, since what was acknowledged
//!   may not be thrown away. A part of the room is for our own organization.
//! - **Every copy counts.** Copies of one write set that differ stand beside each other; two
//!   that are the same are one. A transaction id is any text, zero bytes included.
//! - **Nobody reads what others put in.** A copy is found by the whole name of its write set and by
//!   its hash, so that copies that only share the transaction id cost whoever looks nothing.
//! - **Never made anew over a file.** Only a folder without the file gets an empty store. A file
//!   that is damaged or somebody else's is an error, and for the operator to move away.
//!
//! It knows no definitions, blocks or members: whether a copy fits its block, and who may have it,
//! is for others to judge. `docs/protocol/private-stores.md` draws the tables.

mod tables;

use std::{fmt, path::Path, sync::Arc};

use bytes::Bytes;
use redb::{Error, OwnedRange};

use crate::{
    StoreError, StoreOpenError,
    keyed::{Change, Keyed},
};
use tables::{ABOUT, BYTES, BYTES_ROW, COPIES_ROW, Copy, Id, KIND, OWNERS, Tables, id};

/// Bytes of all copies. Pushes come from anybody in the channel, so they may not fill the disk; the
/// file is checked on start, which at this size takes some seconds.
pub const BYTES_MAX: u64 = 4 << 30;

/// Bytes of the copies of one owner, so that one who pushes without end leaves room for others. An
/// endorser that pushes 100 KiB a second, a tenth of which is never ordered, reaches it after
/// half a day.
pub const OWNER_BYTES_MAX: u64 = 512 << 20;

/// Bytes of the copies of one organization, which can name as many owners as it likes.
pub const ORG_BYTES_MAX: u64 = 1 << 30;

/// Bytes that only pushes of our own organization may fill, so that its endorsers have room
/// whatever all others do together.
pub const OWN_BYTES: u64 = 1 << 30;

/// Copies of one owner for one transaction: an endorser pushes one for each collection that the
/// transaction writes.
pub const COPIES_MAX: u64 = 256;

/// Bytes of one copy: as much as one gossip message holds.
pub const COPY_LEN_MAX: usize = 100 << 20;

/// Bytes of a transaction id, which is a key. Those of Fabric have 64.
pub const TX_ID_LEN_MAX: usize = 1024;

/// Bytes of the name of an owner or an organization, which are keys. A PKI-ID has 32.
pub const OWNER_LEN_MAX: usize = 256;

/// Copies removed in one step, between which pushes have their turn.
const PURGE_LEN_MAX: usize = 1024;

/// How much a transient store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What all copies may count for: their bytes, transaction ids, and 512 bytes for each.
    pub bytes_max: u64,
    /// What the copies of one owner may count for.
    pub owner_bytes_max: u64,
    /// What the copies of one organization may count for.
    pub org_bytes_max: u64,
    /// How much of `bytes_max` only our own organization may fill.
    pub own_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: BYTES_MAX,
            owner_bytes_max: OWNER_BYTES_MAX,
            org_bytes_max: ORG_BYTES_MAX,
            own_bytes: OWN_BYTES,
        }
    }
}

/// Names what a transaction writes to one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteSetName<'a> {
    /// The id of the transaction.
    pub tx_id: &'a str,
    /// The chaincode.
    pub namespace: &'a str,
    /// Its collection.
    pub collection: &'a str,
}

/// A write set that somebody pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The transaction that it belongs to.
    pub tx_id: String,
    /// The chaincode.
    pub namespace: String,
    /// Its collection.
    pub collection: String,
    /// By which it is forgotten.
    pub height: u64,
    /// Who fills the store with it.
    pub owner: Bytes,
    /// Whose the owner is.
    pub org: Bytes,
    /// That is our own organization.
    pub is_own: bool,
    /// What was pushed.
    pub bytes: Bytes,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// How many copies.
    pub copies: u64,
    /// What they count for.
    pub bytes: u64,
}

/// The transient store of one channel, open. Its methods may be called by many threads.
#[derive(Debug)]
pub struct TransientStore {
    file: Arc<Keyed>,
    limits: Limits,
}

impl TransientStore {
    /// Opens the store in a folder of its own, or makes an empty one. The whole file is checked.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreOpenError> {
        Self::open_with(dir, Limits::default())
    }

    /// As [`TransientStore::open`], with other limits. What is there stays, even above them.
    pub fn open_with(dir: impl AsRef<Path>, limits: Limits) -> Result<Self, StoreOpenError> {
        Ok(Self {
            file: Arc::new(Keyed::open(dir.as_ref(), &KIND)?),
            limits,
        })
    }

    /// There was no store in the folder, and an empty one was made.
    pub fn was_created(&self) -> bool {
        self.file.was_created()
    }

    /// Takes a copy; it is on disk when this returns. One that is there already stays with its
    /// owner, and is forgotten by the larger of the two heights.
    pub fn put(&self, push: Push) -> Result<(), PutError> {
        let copy = Copy::of(push)?;
        let mut outcomes = self.put_all(&[copy]);
        outcomes.pop().unwrap_or(Err(PutError::BrokenOff))
    }

    /// As [`TransientStore::put`] for several at once, with one sync. What is said of each comes in
    /// their order.
    pub fn put_many(&self, pushes: Vec<Push>) -> Vec<Result<(), PutError>> {
        let copies: Vec<Result<Copy, PutError>> = pushes.into_iter().map(Copy::of).collect();
        let mut outcomes = Vec::with_capacity(copies.len());
        let mut good = Vec::with_capacity(copies.len());
        for copy in copies {
            outcomes.push(copy.map(|copy| good.push(copy)));
        }
        let mut stored = self.put_all(&good).into_iter();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = stored.next().unwrap_or(Err(PutError::BrokenOff));
        }
        outcomes
    }

    /// The copies of a write set, in no order that means anything. Each is read when it is asked
    /// for.
    pub fn of(&self, name: WriteSetName<'_>) -> Result<Copies, StoreError> {
        let range = self.file.read(|transaction| {
            let bytes = transaction.open_table(BYTES)?;
            let (first, last) = (id(&name, &[0; 32]), id(&name, &[0xff; 32]));
            Ok(bytes.range_owned((name.tx_id, &first)..=(name.tx_id, &last))?)
        })?;
        Ok(Copies {
            file: Arc::clone(&self.file),
            range,
        })
    }

    /// The copy of a write set with this SHA-256, if it is there.
    pub fn copy(
        &self,
        name: WriteSetName<'_>,
        hash: &[u8; 32],
    ) -> Result<Option<Bytes>, StoreError> {
        self.file.read(|transaction| {
            let bytes = transaction.open_table(BYTES)?;
            let copy = bytes.get((name.tx_id, &id(&name, hash)))?;
            Ok(copy.map(|copy| Bytes::copy_from_slice(copy.value())))
        })
    }

    /// Forgets the copies of these write sets with these hashes; says how many were there.
    pub fn forget(&self, copies: &[(WriteSetName<'_>, [u8; 32])]) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for copies in copies.chunks(PURGE_LEN_MAX) {
            forgotten += self.file.write(|transaction| {
                let mut tables = Tables::open(transaction)?;
                let mut removed = 0;
                for (name, hash) in copies {
                    removed += u64::from(tables.remove(name.tx_id, &id(name, hash))?);
                }
                Ok(match removed {
                    0 => Change::Nothing(0),
                    removed => Change::Keep(removed),
                })
            })?;
        }
        Ok(forgotten)
    }

    /// Forgets the copies that came below this height; says how many.
    pub fn purge_below(&self, height: u64) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let len = self.file.write(|transaction| {
                let mut tables = Tables::open(transaction)?;
                let found = tables.below(height)?;
                for (tx_id, id) in &found {
                    tables.remove(tx_id, id)?;
                }
                Ok(match found.len() {
                    0 => Change::Nothing(0),
                    len => Change::Keep(len),
                })
            })?;
            purged += len as u64;
            if len < PURGE_LEN_MAX {
                return Ok(purged);
            }
        }
    }

    /// What the store holds.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.file.read(|transaction| {
            let about = transaction.open_table(ABOUT)?;
            let number = |row| Ok::<_, Error>(about.get(row)?.map_or(0, |number| number.value()));
            Ok(Usage {
                copies: number(COPIES_ROW)?,
                bytes: number(BYTES_ROW)?,
            })
        })
    }

    /// What the copies of an owner count for.
    pub fn bytes_of(&self, owner: &[u8]) -> Result<u64, StoreError> {
        self.file.read(|transaction| {
            let owners = transaction.open_table(OWNERS)?;
            Ok(owners.get(owner)?.map_or(0, |bytes| bytes.value()))
        })
    }

    fn put_all(&self, copies: &[Copy]) -> Vec<Result<(), PutError>> {
        let done = self.file.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            let mut outcomes = Vec::with_capacity(copies.len());
            let mut changed = false;
            for copy in copies {
                outcomes.push(if tables.has(copy)? {
                    changed |= tables.raise(copy)?;
                    Ok(())
                } else if let Some(refused) = tables.refusal(copy, &self.limits)? {
                    Err(refused)
                } else {
                    tables.insert(copy)?;
                    changed = true;
                    Ok(())
                });
            }
            Ok(if changed {
                Change::Keep(outcomes)
            } else {
                Change::Nothing(outcomes)
            })
        });
        done.unwrap_or_else(|error| {
            let error = Arc::new(error);
            let failed = |_| Err(PutError::Store(Arc::clone(&error)));
            copies.iter().map(failed).collect()
        })
    }
}

/// The copies of one write set, as of the moment they were asked for. The store cannot reuse
/// what is removed meanwhile, so this is not to be kept.
pub struct Copies {
    file: Arc<Keyed>,
    range: OwnedRange<(&'static str, Id), &'static [u8]>,
}

impl Iterator for Copies {
    type Item = Result<Bytes, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.range.next()?;
        let copy = row.map(|(_, bytes)| Bytes::copy_from_slice(bytes.value()));
        Some(copy.map_err(|error| self.file.failed("read", error.into())))
    }
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copies").finish_non_exhaustive()
    }
}

/// Why a copy was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// More than [`TX_ID_LEN_MAX`].
    #[error("the transaction id has {len} bytes, more than {TX_ID_LEN_MAX}")]
    TxIdTooLong {
        /// Its bytes.
        len: usize,
    },
    /// More than [`OWNER_LEN_MAX`].
    #[error("the name of an owner or organization has {len} bytes, more than {OWNER_LEN_MAX}")]
    OwnerTooLong {
        /// Its bytes.
        len: usize,
    },
    /// More than [`COPY_LEN_MAX`].
    #[error("{len} bytes of private data, more than {COPY_LEN_MAX}")]
    TooLarge {
        /// Its bytes.
        len: usize,
    },
    /// The owner has pushed [`COPIES_MAX`] for this transaction.
    #[error("{COPIES_MAX} copies for one transaction are enough")]
    TooManyCopies,
    /// The owner has filled its share.
    #[error("the share of {bytes_max} bytes of whoever pushed is full")]
    OwnerFull {
        /// The share.
        bytes_max: u64,
    },
    /// The organization has filled its share.
    #[error("the share of {bytes_max} bytes of the organization that pushed is full")]
    OrgFull {
        /// The share.
        bytes_max: u64,
    },
    /// The store is full, or has room for our own organization only.
    #[error("the transient store is full at {bytes_max} bytes")]
    Full {
        /// Its limit.
        bytes_max: u64,
    },
    /// Nothing was said of it, which does not happen.
    #[error("the store said nothing of it")]
    BrokenOff,
    /// The store failed; one error for all that were to be written together. The copy may be
    /// there or not.
    #[error(transparent)]
    Store(Arc<StoreError>),
}
