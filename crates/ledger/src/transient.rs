//! Private write sets that were pushed to us and wait for their block.
//!
//! # Promises
//!
//! - **Acknowledged means on disk.** [`TransientStore::put`] returns after the copy is durable, so
//!   an acknowledgement may go out. Calls of many threads share one sync.
//! - **Bounded.** All copies together, those of one owner, and those of one owner for one
//!   transaction have a limit. At a limit a push is refused, since what was acknowledged may not be
//!   thrown away.
//! - **Every copy counts.** Copies for one transaction that differ stand beside each other; two
//!   that are the same are one. A transaction id is any text, zero bytes included.
//! - **Never made anew over a file.** Only a folder without the file gets an empty store. A file
//!   that is damaged or somebody else's is an error, and for the operator to move away.
//!
//! It knows no collections, hashes or members: what a copy holds, whether it fits its block, and
//! who may have it is for others to judge. `docs/protocol/private-stores.md` draws the tables.

mod group;

use std::{collections::BTreeSet, fmt, path::Path, sync::Arc};

use bytes::Bytes;
use redb::{
    Error, Key, OwnedRange, ReadableTable, StorageError, Table, TableDefinition, TableError,
    WriteTransaction,
};
use sha2::{Digest, Sha256};

use crate::{
    StoreError, StoreOpenError,
    keyed::{Change, Keyed, Kind},
};
use group::Group;

/// Bytes of all copies. Pushes come from anybody in the channel, so they may not fill the disk; the
/// file is checked on start, which at this size takes some seconds.
pub const BYTES_MAX: u64 = 4 << 30;

/// Bytes of the copies of one owner, so that one who pushes without end leaves room for others. An
/// endorser that pushes 100 KiB a second, a tenth of which is never ordered, reaches it after
/// a day.
pub const OWNER_BYTES_MAX: u64 = 1 << 30;

/// Copies of one owner for one transaction: an endorser pushes one for each collection that the
/// transaction writes. More would be read in vain when the block comes.
pub const COPIES_MAX: u64 = 256;

/// Bytes of one copy: as much as one gossip message holds.
pub const COPY_LEN_MAX: usize = 100 << 20;

/// Bytes of a transaction id, which is a key. Those of Fabric have 64.
pub const TX_ID_LEN_MAX: usize = 1024;

/// Bytes of the name of an owner, which is a key. A PKI-ID has 32.
pub const OWNER_LEN_MAX: usize = 256;

/// What a copy counts for beside its bytes and its transaction id, so that many small ones are
/// bounded, too.
const COPY_OVERHEAD: u64 = 512;

/// Pushes that share one sync. Their threads wait for each other.
const GROUP_LEN_MAX: usize = 256;

/// Bytes that share one sync; they are in memory until then.
const GROUP_BYTES_MAX: usize = 32 << 20;

/// Copies removed in one step, between which pushes have their turn.
const PURGE_LEN_MAX: usize = 1024;

/// Memory for pages: what was pushed is read once, soon after.
const CACHE_BYTES: usize = 32 << 20;

type Hash = &'static [u8; 32];

/// With the version, how many copies there are and what they count for.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("transient store");

/// A copy by transaction id and SHA-256 of its bytes: height, what it counts for, owner.
const COPIES: TableDefinition<'_, (&str, Hash), (u64, u64, &[u8])> = TableDefinition::new("copies");

/// The bytes of a copy, apart, so that they are touched only by whoever wants them.
const BYTES: TableDefinition<'_, (&str, Hash), &[u8]> = TableDefinition::new("bytes");

/// The copies by height.
const HEIGHTS: TableDefinition<'_, (u64, &str, Hash), ()> = TableDefinition::new("heights");

/// How many copies an owner has of a transaction.
const SHARES: TableDefinition<'_, (&str, &[u8]), u64> = TableDefinition::new("shares");

/// What the copies of an owner count for.
const OWNERS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("owners");

const COPIES_ROW: &str = "copies";
const BYTES_ROW: &str = "bytes";

static KIND: Kind = Kind {
    name: "transient store",
    file: "transient.redb",
    about: ABOUT,
    version: 1,
    tables: |transaction| Tables::open(transaction).map(|_| ()),
    cache_bytes: CACHE_BYTES,
    cure: "move the file away to begin with an empty store: private data that was pushed and \
           whose block is still to come is then fetched from other members",
};

/// How much a transient store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What all copies may count for: their bytes, transaction ids, and 512 bytes for each.
    pub bytes_max: u64,
    /// What the copies of one owner may count for.
    pub owner_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: BYTES_MAX,
            owner_bytes_max: OWNER_BYTES_MAX,
        }
    }
}

/// What somebody pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The transaction that it belongs to.
    pub tx_id: String,
    /// The height at which it came, by which it is forgotten. That of our ledger: one that the
    /// pusher claims may be anything.
    pub height: u64,
    /// Who fills the store with it.
    pub owner: Bytes,
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
    group: Group<Copy, Result<(), PutError>>,
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
            group: Group::new(GROUP_LEN_MAX, GROUP_BYTES_MAX),
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
        let weight = copy.push.bytes.len();
        let outcome = self
            .group
            .submit(copy, weight, |copies| self.put_all(&copies));
        outcome.unwrap_or(Err(PutError::BrokenOff))
    }

    /// As [`TransientStore::put`] for several at once, with one sync: for who is one thread. What
    /// is said of each comes in their order.
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

    /// The copies for a transaction, in no order that means anything. Each is read when it is
    /// asked for.
    pub fn of_tx(&self, tx_id: &str) -> Result<Copies, StoreError> {
        let range = self.file.read(|transaction| {
            let bytes = transaction.open_table(BYTES)?;
            Ok(bytes.range_owned((tx_id, &[0; 32])..=(tx_id, &[0xff; 32]))?)
        })?;
        Ok(Copies {
            file: Arc::clone(&self.file),
            range,
        })
    }

    /// Forgets the copies for these transactions; says how many.
    pub fn purge_txs(&self, tx_ids: &[impl AsRef<str>]) -> Result<u64, StoreError> {
        // A block may hold two transactions with one id.
        let tx_ids: BTreeSet<&str> = tx_ids.iter().map(AsRef::as_ref).collect();
        self.purge(|tables| {
            let mut found = Vec::new();
            for &tx_id in &tx_ids {
                for copy in tables
                    .copies
                    .range((tx_id, &[0; 32])..=(tx_id, &[0xff; 32]))?
                {
                    found.push((tx_id.to_owned(), *copy?.0.value().1));
                    if found.len() == PURGE_LEN_MAX {
                        return Ok(found);
                    }
                }
            }
            Ok(found)
        })
    }

    /// Forgets the copies that came below this height; says how many.
    pub fn purge_below(&self, height: u64) -> Result<u64, StoreError> {
        self.purge(|tables| {
            let below = tables.heights.range(..(height, "", &[0; 32]))?;
            below
                .take(PURGE_LEN_MAX)
                .map(|row| {
                    let key = row?.0;
                    let (_, tx_id, hash) = key.value();
                    Ok((tx_id.to_owned(), *hash))
                })
                .collect()
        })
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

    /// Removes what `find` names until it names no more than fits one step.
    fn purge(
        &self,
        find: impl Fn(&Tables<'_>) -> Result<Vec<(String, [u8; 32])>, StorageError>,
    ) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let len = self.file.write(|transaction| {
                let mut tables = Tables::open(transaction)?;
                let found = find(&tables)?;
                for (tx_id, hash) in &found {
                    tables.remove(tx_id, hash)?;
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
}

/// The copies for one transaction, as of the moment they were asked for. The store cannot reuse
/// what is removed meanwhile, so this is not to be kept.
pub struct Copies {
    file: Arc<Keyed>,
    range: OwnedRange<(&'static str, Hash), &'static [u8]>,
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
    #[error("the owner's name has {len} bytes, more than {OWNER_LEN_MAX}")]
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
    /// The store is full.
    #[error("the transient store is full at {bytes_max} bytes")]
    Full {
        /// Its limit.
        bytes_max: u64,
    },
    /// The thread that wrote for several broke off.
    #[error("the thread that wrote this and others broke off")]
    BrokenOff,
    /// The store failed; one error for all that were to be written together. The copy may be
    /// there or not.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

/// A push that may be stored, with its name.
#[derive(Debug)]
struct Copy {
    push: Push,
    hash: [u8; 32],
}

impl Copy {
    fn of(push: Push) -> Result<Self, PutError> {
        let len = push.tx_id.len();
        if len > TX_ID_LEN_MAX {
            return Err(PutError::TxIdTooLong { len });
        }
        let len = push.owner.len();
        if len > OWNER_LEN_MAX {
            return Err(PutError::OwnerTooLong { len });
        }
        let len = push.bytes.len();
        if len > COPY_LEN_MAX {
            return Err(PutError::TooLarge { len });
        }
        let hash = Sha256::digest(&push.bytes).into();
        Ok(Self { push, hash })
    }

    fn cost(&self) -> u64 {
        (self.push.bytes.len() + self.push.tx_id.len()) as u64 + COPY_OVERHEAD
    }
}

/// The tables within one change.
struct Tables<'t> {
    about: Table<'t, &'static str, u64>,
    copies: Table<'t, (&'static str, Hash), (u64, u64, &'static [u8])>,
    bytes: Table<'t, (&'static str, Hash), &'static [u8]>,
    heights: Table<'t, (u64, &'static str, Hash), ()>,
    shares: Table<'t, (&'static str, &'static [u8]), u64>,
    owners: Table<'t, &'static [u8], u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            about: transaction.open_table(ABOUT)?,
            copies: transaction.open_table(COPIES)?,
            bytes: transaction.open_table(BYTES)?,
            heights: transaction.open_table(HEIGHTS)?,
            shares: transaction.open_table(SHARES)?,
            owners: transaction.open_table(OWNERS)?,
        })
    }

    fn has(&self, Copy { push, hash }: &Copy) -> Result<bool, StorageError> {
        let copy = self.copies.get((push.tx_id.as_str(), hash))?;
        Ok(copy.is_some())
    }

    /// Lets a copy that is there be forgotten as late as this one asks for; says whether that is
    /// a change.
    fn raise(&mut self, Copy { push, hash }: &Copy) -> Result<bool, StorageError> {
        let key = (push.tx_id.as_str(), hash);
        let Some((height, cost, owner)) = self.copies.get(key)?.map(|row| {
            let (height, cost, owner) = row.value();
            (height, cost, owner.to_vec())
        }) else {
            return Ok(false);
        };
        if height >= push.height {
            return Ok(false);
        }
        self.copies.insert(key, (push.height, cost, &*owner))?;
        self.heights.remove((height, key.0, hash))?;
        self.heights.insert((push.height, key.0, hash), ())?;
        Ok(true)
    }

    /// Why there is no room for a copy that is not there.
    fn refusal(&self, copy: &Copy, limits: &Limits) -> Result<Option<PutError>, StorageError> {
        let Push { tx_id, owner, .. } = &copy.push;
        let Limits {
            bytes_max,
            owner_bytes_max,
        } = *limits;
        let copies = self.shares.get((tx_id.as_str(), &**owner))?;
        let owned = self.owners.get(&**owner)?;
        let [all, owned] = [self.about.get(BYTES_ROW)?, owned].map(|row| {
            row.map_or(0, |bytes| bytes.value())
                .saturating_add(copy.cost())
        });
        Ok(
            if copies.is_some_and(|copies| copies.value() >= COPIES_MAX) {
                Some(PutError::TooManyCopies)
            } else if owned > owner_bytes_max {
                Some(PutError::OwnerFull {
                    bytes_max: owner_bytes_max,
                })
            } else if all > bytes_max {
                Some(PutError::Full { bytes_max })
            } else {
                None
            },
        )
    }

    fn insert(&mut self, copy: &Copy) -> Result<(), StorageError> {
        let Push {
            tx_id,
            height,
            owner,
            bytes,
        } = &copy.push;
        let (tx_id, hash, owner, cost) = (tx_id.as_str(), &copy.hash, &**owner, copy.cost());
        self.copies.insert((tx_id, hash), (*height, cost, owner))?;
        self.bytes.insert((tx_id, hash), &**bytes)?;
        self.heights.insert((*height, tx_id, hash), ())?;
        add(&mut self.shares, (tx_id, owner), 1)?;
        add(&mut self.owners, owner, cost)?;
        add(&mut self.about, COPIES_ROW, 1)?;
        add(&mut self.about, BYTES_ROW, cost)
    }

    fn remove(&mut self, tx_id: &str, hash: &[u8; 32]) -> Result<(), StorageError> {
        let Some((height, cost, owner)) = self.copies.remove((tx_id, hash))?.map(|row| {
            let (height, cost, owner) = row.value();
            (height, cost, owner.to_vec())
        }) else {
            return Ok(());
        };
        self.bytes.remove((tx_id, hash))?;
        self.heights.remove((height, tx_id, hash))?;
        take(&mut self.shares, (tx_id, &*owner), 1)?;
        take(&mut self.owners, &*owner, cost)?;
        take(&mut self.about, COPIES_ROW, 1)?;
        take(&mut self.about, BYTES_ROW, cost)
    }
}

/// Adds to a number; what is not there is zero.
fn add<K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    key: K::SelfType<'_>,
    number: u64,
) -> Result<(), StorageError> {
    let before = table.get(&key)?.map_or(0, |number| number.value());
    table.insert(&key, before.saturating_add(number))?;
    Ok(())
}

/// Takes from a number; zero is not kept.
fn take<K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    key: K::SelfType<'_>,
    number: u64,
) -> Result<(), StorageError> {
    let before = table.get(&key)?.map_or(0, |number| number.value());
    match before.saturating_sub(number) {
        0 => table.remove(&key)?,
        left => table.insert(&key, left)?,
    };
    Ok(())
}
