//! The tables of the transient store, kept in step with each other.
//!
//! Every copy has one row in `copies` and one in `bytes`. The other tables follow from these, which
//! is why rows are only ever put and removed here. `docs/protocol/private-stores.md` draws them.

use redb::{
    AccessGuard, Key, ReadableTable, StorageError, Table, TableDefinition, TableError,
    WriteTransaction,
};
use sha2::{Digest, Sha256};

use super::{
    COPIES_MAX, COPY_LEN_MAX, Limits, OWNER_LEN_MAX, PURGE_LEN_MAX, Push, PutError, TX_ID_LEN_MAX,
    WriteSetName,
};
use crate::keyed::Kind;

/// What a copy counts for beside its bytes and its transaction id, so that many small ones are
/// bounded, too.
const COPY_OVERHEAD: u64 = 512;

/// Memory for pages: what was pushed is read once, soon after.
const CACHE_BYTES: usize = 32 << 20;

/// SHA-256 of the chaincode and the collection, then SHA-256 of the bytes.
pub(super) type Id = &'static [u8; ID_LEN];

pub(super) const ID_LEN: usize = 64;

type CopyRow = (u64, u64, &'static [u8], &'static [u8]);

/// With the version, how many copies there are and what they count for.
pub(super) const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("transient store");

/// A copy by transaction id and [`Id`]: height, what it counts for, owner, organization.
const COPIES: TableDefinition<'_, (&str, Id), CopyRow> = TableDefinition::new("copies");

/// The bytes of a copy, apart, so that they are touched only by whoever wants them.
pub(super) const BYTES: TableDefinition<'_, (&str, Id), &[u8]> = TableDefinition::new("bytes");

/// The copies by height.
const HEIGHTS: TableDefinition<'_, (u64, &str, Id), ()> = TableDefinition::new("heights");

/// How many copies an owner has of a transaction.
const SHARES: TableDefinition<'_, (&str, &[u8]), u64> = TableDefinition::new("shares");

/// What the copies of an owner count for.
pub(super) const OWNERS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("owners");

/// What the copies of an organization count for.
const ORGS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("organizations");

pub(super) const COPIES_ROW: &str = "copies";
pub(super) const BYTES_ROW: &str = "bytes";

pub(super) static KIND: Kind = Kind {
    name: "transient store",
    file: "transient.redb",
    about: ABOUT,
    version: 2,
    tables: |transaction| Tables::open(transaction).map(|_| ()),
    upgrade: |_, _| Ok(false),
    cache_bytes: CACHE_BYTES,
    cure: "move the file away to begin with an empty store: private data that was pushed and \
           whose block is still to come is then fetched from other members",
};

/// A push that may be stored, with its name.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) push: Push,
    pub(super) id: [u8; ID_LEN],
}

impl Copy {
    pub(super) fn of(push: Push) -> Result<Self, PutError> {
        let len = push.tx_id.len();
        if len > TX_ID_LEN_MAX {
            return Err(PutError::TxIdTooLong { len });
        }
        let len = push.owner.len().max(push.org.len());
        if len > OWNER_LEN_MAX {
            return Err(PutError::OwnerTooLong { len });
        }
        let len = push.bytes.len();
        if len > COPY_LEN_MAX {
            return Err(PutError::TooLarge { len });
        }
        let name = WriteSetName {
            tx_id: &push.tx_id,
            namespace: &push.namespace,
            collection: &push.collection,
        };
        let id = id(&name, &Sha256::digest(&push.bytes).into());
        Ok(Self { push, id })
    }

    fn cost(&self) -> u64 {
        (self.push.bytes.len() + self.push.tx_id.len()) as u64 + COPY_OVERHEAD
    }
}

/// The part of a copy's key behind the transaction id. Hashed, so that it sorts by collection and
/// has its length whatever the names are.
pub(super) fn id(name: &WriteSetName<'_>, hash: &[u8; 32]) -> [u8; ID_LEN] {
    let mut place = Sha256::new();
    place.update((name.namespace.len() as u64).to_be_bytes());
    place.update(name.namespace);
    place.update(name.collection);
    let mut id = [0; ID_LEN];
    let (first, last) = id.split_at_mut(32);
    first.copy_from_slice(&place.finalize());
    last.copy_from_slice(hash);
    id
}

/// What `copies` says of a copy.
struct Row {
    height: u64,
    cost: u64,
    owner: Vec<u8>,
    org: Vec<u8>,
}

/// The tables within one change.
pub(super) struct Tables<'t> {
    about: Table<'t, &'static str, u64>,
    copies: Table<'t, (&'static str, Id), CopyRow>,
    bytes: Table<'t, (&'static str, Id), &'static [u8]>,
    heights: Table<'t, (u64, &'static str, Id), ()>,
    shares: Table<'t, (&'static str, &'static [u8]), u64>,
    owners: Table<'t, &'static [u8], u64>,
    orgs: Table<'t, &'static [u8], u64>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            about: transaction.open_table(ABOUT)?,
            copies: transaction.open_table(COPIES)?,
            bytes: transaction.open_table(BYTES)?,
            heights: transaction.open_table(HEIGHTS)?,
            shares: transaction.open_table(SHARES)?,
            owners: transaction.open_table(OWNERS)?,
            orgs: transaction.open_table(ORGS)?,
        })
    }

    pub(super) fn has(&self, Copy { push, id }: &Copy) -> Result<bool, StorageError> {
        let copy = self.copies.get((push.tx_id.as_str(), id))?;
        Ok(copy.is_some())
    }

    /// Some of those below a height.
    pub(super) fn below(&self, height: u64) -> Result<Vec<(String, [u8; ID_LEN])>, StorageError> {
        let below = self.heights.range(..(height, "", &[0; ID_LEN]))?;
        below
            .take(PURGE_LEN_MAX)
            .map(|row| {
                let key = row?.0;
                let (_, tx_id, id) = key.value();
                Ok((tx_id.to_owned(), *id))
            })
            .collect()
    }

    /// Lets a copy that is there be forgotten as late as this one asks for; says whether that is
    /// a change.
    pub(super) fn raise(&mut self, Copy { push, id }: &Copy) -> Result<bool, StorageError> {
        let key = (push.tx_id.as_str(), id);
        let Some(row) = self.row(key)? else {
            return Ok(false);
        };
        if row.height >= push.height {
            return Ok(false);
        }
        self.copies
            .insert(key, (push.height, row.cost, &*row.owner, &*row.org))?;
        self.heights.remove((row.height, key.0, id))?;
        self.heights.insert((push.height, key.0, id), ())?;
        Ok(true)
    }

    fn row(&self, key: (&str, &[u8; ID_LEN])) -> Result<Option<Row>, StorageError> {
        let row = self.copies.get(key)?;
        Ok(row.map(|row| {
            let (height, cost, owner, org) = row.value();
            Row {
                height,
                cost,
                owner: owner.to_vec(),
                org: org.to_vec(),
            }
        }))
    }

    /// Why there is no room for a copy that is not there.
    pub(super) fn refusal(
        &self,
        copy: &Copy,
        limits: &Limits,
    ) -> Result<Option<PutError>, StorageError> {
        let Push {
            tx_id,
            owner,
            org,
            is_own,
            ..
        } = &copy.push;
        let bytes_max = match is_own {
            true => limits.bytes_max,
            false => limits.bytes_max.saturating_sub(limits.own_bytes),
        };
        let copies = self.shares.get((tx_id.as_str(), &**owner))?;
        if copies.is_some_and(|copies| copies.value() >= COPIES_MAX) {
            return Ok(Some(PutError::TooManyCopies));
        }
        let with = |row: Option<AccessGuard<'_, u64>>| {
            let before = row.map_or(0, |bytes| bytes.value());
            before.saturating_add(copy.cost())
        };
        Ok(
            if with(self.owners.get(&**owner)?) > limits.owner_bytes_max {
                let bytes_max = limits.owner_bytes_max;
                Some(PutError::OwnerFull { bytes_max })
            } else if with(self.orgs.get(&**org)?) > limits.org_bytes_max {
                let bytes_max = limits.org_bytes_max;
                Some(PutError::OrgFull { bytes_max })
            } else if with(self.about.get(BYTES_ROW)?) > bytes_max {
                Some(PutError::Full { bytes_max })
            } else {
                None
            },
        )
    }

    pub(super) fn insert(&mut self, copy: &Copy) -> Result<(), StorageError> {
        let Push {
            tx_id,
            height,
            owner,
            org,
            bytes,
            ..
        } = &copy.push;
        let (tx_id, id, owner, org) = (tx_id.as_str(), &copy.id, &**owner, &**org);
        let cost = copy.cost();
        self.copies
            .insert((tx_id, id), (*height, cost, owner, org))?;
        self.bytes.insert((tx_id, id), &**bytes)?;
        self.heights.insert((*height, tx_id, id), ())?;
        add(&mut self.shares, (tx_id, owner), 1)?;
        add(&mut self.owners, owner, cost)?;
        add(&mut self.orgs, org, cost)?;
        add(&mut self.about, COPIES_ROW, 1)?;
        add(&mut self.about, BYTES_ROW, cost)
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, tx_id: &str, id: &[u8; ID_LEN]) -> Result<bool, StorageError> {
        let Some(row) = self.row((tx_id, id))? else {
            return Ok(false);
        };
        let Row {
            height,
            cost,
            owner,
            org,
        } = row;
        self.copies.remove((tx_id, id))?;
        self.bytes.remove((tx_id, id))?;
        self.heights.remove((height, tx_id, id))?;
        take(&mut self.shares, (tx_id, &*owner), 1)?;
        take(&mut self.owners, &*owner, cost)?;
        take(&mut self.orgs, &*org, cost)?;
        take(&mut self.about, COPIES_ROW, 1)?;
        take(&mut self.about, BYTES_ROW, cost)?;
        Ok(true)
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
