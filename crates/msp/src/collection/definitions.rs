//! Which chaincode has which collections, as of which block.
//!
//! The history of a channel's definitions, made of the blocks one after the other. Promises that a
//! definition holds from the block after its own, that the word of a transaction counts only when
//! the caller says that it is valid, and that what is not known for certain is known to nobody:
//! where a definition cannot be read, has no room or is disputed, its collections are unknown
//! rather than those of the definition before, which may have had members that the new one has
//! not.
//!
//! # Which transactions count
//!
//! A block holds invalid transactions too. Which ones they are is not signed by anybody: a peer
//! writes codes into the blocks that it commits, a block from an orderer has none. Whoever may
//! write to a channel can put any definition into a block, so that whoever believes a wrong code
//! can be made to give private data away. The caller therefore says of each transaction with
//! definitions on what grounds it counts ([`Basis`]), and every answer says on what grounds it
//! stands. To keep data on weak grounds is harmless; only [`Basis::is_proven`] is enough for
//! giving any.
//!
//! Fabric gives every definition a number, and the agreement of the organizations is for that
//! number. A definition with a number below the last one's is a repetition and passed over; two
//! different ones with one number make the collections unknown until the next number, since one
//! of them was invalid and we cannot tell which.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidings_proto::block::{BlockView, EndorsedTransaction};

use super::{
    Collection, CollectionRefused, Entry, implicit_org,
    lifecycle::{self, LIFECYCLE_NAMESPACE, LifecycleStatement, Statement},
    package::{Package, PackageRefused},
};

/// Definitions of one channel, those that later ones replaced counted: hundreds of chaincodes,
/// each changed dozens of times. At the limit a chaincode forgets its oldest one for its newest,
/// and a chaincode that has none gets none.
pub const DEFINITIONS_MAX: usize = 16_384;

/// Bytes of memory, about, that the collections of all definitions may take. Those of an ordinary
/// chaincode take some ten thousand. At the limit the collections of a new definition are
/// unknown.
pub const DEFINITIONS_COST_MAX: usize = 64 << 20;

/// Definitions of one channel that are not proven, of [`DEFINITIONS_MAX`]. Chaincodes from before
/// version 2 are dozens; anybody can claim any number, and what is proven has to have room.
pub const UNPROVEN_MAX: usize = 1024;

/// Bytes of memory, of [`DEFINITIONS_COST_MAX`], for the collections of definitions that are not
/// proven.
pub const UNPROVEN_COST_MAX: usize = 8 << 20;

/// The definitions of one channel.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    chaincodes: BTreeMap<String, Vec<Version>>,
    height: u64,
    all: Room,
    /// What of that is not proven.
    unproven: Room,
}

/// Room that definitions take.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    len: usize,
    cost: usize,
}

/// On what grounds a definition counts, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// Nobody has said that the transaction is valid. Anybody who may write to the channel can
    /// make such a definition, and keep out all others of no better grounds by a high number.
    Assumed,
    /// The peer that gave us the block wrote the code for valid into it. Any member of the channel
    /// that gives us blocks can make such a definition.
    Claimed,
    /// Those whose agreement the channel demands have signed it: see
    /// [`check_definition`](super::check_definition).
    Endorsed,
    /// It is not defined by anybody: an implicit collection is what its name says.
    Implicit,
}

/// A collection, and how we know of it.
#[derive(Clone, Debug)]
pub struct Defined {
    /// The collection.
    pub collection: Arc<Collection>,
    /// On what grounds.
    pub basis: Basis,
    /// The block with the definition; none for implicit collections.
    pub block: Option<u64>,
}

/// Why a collection is not known. Nobody may have its data, ourselves included.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undefined {
    /// The chaincode is not defined there.
    #[error("the chaincode is not defined there")]
    Chaincode,
    /// The chaincode has no such collection there.
    #[error("the chaincode has no such collection there")]
    Collection,
    /// The definition that holds there cannot be used.
    #[error("the definition of the chaincode cannot be used: {0}")]
    Package(#[from] PackageRefused),
    /// The collection cannot be used.
    #[error(transparent)]
    Refused(#[from] CollectionRefused),
}

/// What a block changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Definitions to keep. One of the same chaincode and block that is kept already is replaced.
    pub entries: Vec<Entry>,
    /// What did not count.
    pub passed_over: Vec<PassedOver>,
}

/// A definition that did not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The number of its transaction in the block.
    pub tx: u64,
    /// The chaincode.
    pub namespace: String,
    /// Why.
    pub reason: Reason,
}

/// Why a definition did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller did not say that its transaction is valid.
    NotValid,
    /// Its number is below that of a definition that we have.
    Stale,
    /// The definition before version 2 of a chaincode that has one since.
    Superseded,
    /// There are too many chaincodes.
    Full,
}

/// What one definition says of one chaincode.
#[derive(Clone, Debug)]
struct Version {
    block: u64,
    tx: u64,
    basis: Basis,
    /// Its number; none for one before version 2.
    sequence: Option<i64>,
    package: Result<Arc<Package>, PackageRefused>,
}

impl Definitions {
    /// Those of a channel of which no block has been seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that were kept: the entries that [`Self::apply`] gave for all blocks below `height`,
    /// in any order.
    pub fn restore(entries: impl IntoIterator<Item = Entry>, height: u64) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|entry| (entry.block, entry.tx));
        let mut restored = Self::new();
        for entry in entries {
            let package = match &entry.package {
                Ok(bytes) => restored.package(&entry.namespace, bytes),
                Err(refused) => Err(*refused),
            };
            let version = Version {
                block: entry.block,
                tx: entry.tx,
                basis: entry.basis,
                sequence: entry.sequence,
                package,
            };
            restored.push(&entry.namespace, version);
        }
        restored.height = height;
        restored
    }

    /// Takes the definitions in a block. Blocks come in order; those without definitions may be
    /// left out, those below [`Self::height`] change nothing. `basis` says on what grounds a
    /// transaction counts, and none that it does not; it is asked only about transactions with
    /// definitions in them.
    pub fn apply(
        &mut self,
        block: &BlockView,
        mut basis: impl FnMut(u64, &EndorsedTransaction) -> Option<Basis>,
    ) -> Applied {
        let mut applied = Applied::default();
        let Some(number) = block.number().filter(|number| *number >= self.height) else {
            return applied;
        };
        self.height = number.saturating_add(1);
        let mut changed = BTreeSet::new();
        for (tx, transaction) in block.endorsed() {
            let statements = lifecycle::statements(&transaction);
            if statements.is_empty() {
                continue;
            }
            let basis = basis(tx, &transaction);
            for (namespace, statement) in statements {
                let taken = match basis {
                    Some(basis) => self.take(&namespace, statement, (number, tx, basis)),
                    None => Err(Reason::NotValid),
                };
                match taken {
                    Ok(true) => {
                        changed.insert(namespace);
                    }
                    Ok(false) => {}
                    Err(reason) => applied.passed_over.push(PassedOver {
                        tx,
                        namespace,
                        reason,
                    }),
                }
            }
        }
        let entries = changed.into_iter().filter_map(|namespace| {
            let version = self.chaincodes.get(&namespace)?.last()?;
            Some(version.entry(namespace))
        });
        applied.entries.extend(entries);
        applied
    }

    /// The number of the next block to take.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// How many definitions are known.
    pub fn len(&self) -> usize {
        self.all.len
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.all.len == 0
    }

    /// The chaincodes that are defined.
    pub fn chaincodes(&self) -> impl Iterator<Item = &str> {
        self.chaincodes.keys().map(String::as_str)
    }

    /// All definitions by chaincode, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.chaincodes.iter().flat_map(|(namespace, versions)| {
            versions
                .iter()
                .map(move |version| version.entry(namespace.clone()))
        })
    }

    /// The collection that data of a transaction in that block belongs to: by the most recent
    /// definition below the block that has any collections. Not complete for a block above
    /// [`Self::height`].
    pub fn at(&self, block: u64, namespace: &str, collection: &str) -> Result<Defined, Undefined> {
        let versions = self.versions(namespace);
        let below = versions.partition_point(|version| version.block < block);
        let versions = versions.get(..below).unwrap_or_default();
        if let Some(msp_id) = implicit_org(collection) {
            return implicit(msp_id, namespace, versions);
        }
        // Fabric keeps no history of definitions without collections.
        let says_something =
            |version: &&Version| !matches!(&version.package, Ok(package) if package.is_empty());
        match versions.iter().rev().find(says_something) {
            Some(version) => version.collection(collection),
            None if versions.is_empty() => Err(Undefined::Chaincode),
            None => Err(Undefined::Collection),
        }
    }

    /// The collection as it is defined now.
    pub fn latest(&self, namespace: &str, collection: &str) -> Result<Defined, Undefined> {
        let versions = self.versions(namespace);
        if let Some(msp_id) = implicit_org(collection) {
            return implicit(msp_id, namespace, versions);
        }
        let version = versions.last().ok_or(Undefined::Chaincode)?;
        version.collection(collection)
    }

    /// The collections that a chaincode has now, those that can be used, implicit ones left out.
    pub fn all(&self, namespace: &str) -> Vec<Defined> {
        let last = self.versions(namespace).last();
        let package = last.and_then(|version| version.package.as_ref().ok());
        let names = package.into_iter().flat_map(|package| package.names());
        let found = names.filter_map(|name| self.latest(namespace, name).ok());
        found.collect()
    }

    fn versions(&self, namespace: &str) -> &[Version] {
        self.chaincodes.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// Takes one definition. Says whether that changed anything.
    fn take(
        &mut self,
        namespace: &str,
        statement: Statement,
        (block, tx, basis): (u64, u64, Basis),
    ) -> Result<bool, Reason> {
        let versions = self.versions(namespace);
        let before = match &statement {
            Statement::Legacy(_) if versions.iter().any(|known| known.sequence.is_some()) => {
                return Err(Reason::Superseded);
            }
            Statement::Legacy(_) => versions.last(),
            // What counts on weaker grounds neither stands in the way nor is built upon.
            Statement::Lifecycle(_) => versions
                .iter()
                .rfind(|known| known.sequence.is_some() && known.basis >= basis),
        };
        let (sequence, mut package) = match &statement {
            Statement::Legacy(package) => (None, self.package(namespace, package)),
            Statement::Lifecycle(statement) => (
                Some(statement.sequence),
                self.stated(namespace, statement, before),
            ),
        };
        if let Some(before) = before.filter(|before| before.basis >= basis) {
            if before.sequence > sequence {
                return Err(Reason::Stale);
            }
            if before.sequence == sequence && before.says(&package) {
                return Ok(false);
            }
            if before.sequence == sequence && sequence.is_some() {
                package = Err(PackageRefused::Disputed);
            }
        }
        let version = Version {
            block,
            tx,
            basis,
            sequence,
            package,
        };
        if self.push(namespace, version) {
            Ok(true)
        } else {
            Err(Reason::Full)
        }
    }

    /// The collections of a definition in which only what changed is stated.
    fn stated(
        &self,
        namespace: &str,
        statement: &LifecycleStatement,
        before: Option<&Version>,
    ) -> Result<Arc<Package>, PackageRefused> {
        match (statement.is_chaincode, &statement.collections, before) {
            (Some(false), ..) => Err(PackageRefused::NotAChaincode),
            (_, Some(Ok(bytes)), _) => self.package(namespace, bytes),
            (_, Some(Err(refused)), _) => Err(*refused),
            (_, None, Some(before)) => before.package.clone(),
            (Some(true), None, None) => Ok(Arc::default()),
            (None, None, None) => Err(PackageRefused::Unseen),
        }
    }

    /// The package of these bytes; the one that the chaincode has already, if it is the same.
    fn package(&self, namespace: &str, bytes: &[u8]) -> Result<Arc<Package>, PackageRefused> {
        let last = self.versions(namespace).last();
        match last.map(|last| &last.package) {
            Some(Ok(package)) if package.bytes() == bytes => Ok(Arc::clone(package)),
            _ => Package::parse(bytes).map(Arc::new),
        }
    }

    /// Puts a version behind all others of its chaincode, in place of one of the same block.
    /// Says whether there was room.
    fn push(&mut self, namespace: &str, mut version: Version) -> bool {
        let proven = version.basis.is_proven();
        let known = self.versions(namespace);
        // For its newest a chaincode forgets its oldest, but nothing proven for a claim.
        let oldest = known.first();
        if self.is_full(proven) && !oldest.is_some_and(|oldest| proven || !oldest.basis.is_proven())
        {
            return false;
        }
        let mut versions = self.chaincodes.remove(namespace).unwrap_or_default();
        if let Some(last) = versions.pop_if(|last| last.block >= version.block) {
            self.remove(&last, versions.last());
        }
        if self.is_full(proven) && !versions.is_empty() {
            let oldest = versions.remove(0);
            self.remove(&oldest, versions.first());
        }
        let cost = version.cost_beside(versions.last());
        let is_unproven_full = self.unproven.cost + cost > UNPROVEN_COST_MAX;
        if self.all.cost + cost > DEFINITIONS_COST_MAX || !proven && is_unproven_full {
            version.package = Err(PackageRefused::Full);
        }
        let cost = version.cost_beside(versions.last());
        for room in self.rooms(proven) {
            room.len += 1;
            room.cost += cost;
        }
        versions.push(version);
        self.chaincodes.insert(namespace.to_owned(), versions);
        true
    }

    fn is_full(&self, proven: bool) -> bool {
        self.all.len >= DEFINITIONS_MAX || !proven && self.unproven.len >= UNPROVEN_MAX
    }

    fn remove(&mut self, version: &Version, neighbour: Option<&Version>) {
        let cost = version.cost_beside(neighbour);
        for room in self.rooms(version.basis.is_proven()) {
            room.len -= 1;
            // Of two neighbours on different grounds with one package, the older pays.
            room.cost = room.cost.saturating_sub(cost);
        }
    }

    /// Where a definition counts.
    fn rooms(&mut self, proven: bool) -> impl Iterator<Item = &mut Room> {
        let unproven = (!proven).then_some(&mut self.unproven);
        std::iter::once(&mut self.all).chain(unproven)
    }
}

impl Basis {
    /// Whether more than somebody's word is behind it, so that data may be given to those whom
    /// the collection accepts.
    pub fn is_proven(self) -> bool {
        self >= Self::Endorsed
    }
}

impl Version {
    fn collection(&self, name: &str) -> Result<Defined, Undefined> {
        let package = self.package.as_ref().map_err(|refused| *refused)?;
        let collection = package.collection(name).ok_or(Undefined::Collection)?;
        Ok(Defined {
            collection: Arc::clone(collection.as_ref().map_err(Clone::clone)?),
            basis: self.basis,
            block: Some(self.block),
        })
    }

    fn says(&self, package: &Result<Arc<Package>, PackageRefused>) -> bool {
        match (&self.package, package) {
            (Ok(ours), Ok(other)) => ours.bytes() == other.bytes(),
            (Err(ours), Err(other)) => ours == other,
            _ => false,
        }
    }

    /// What its package takes when the neighbour's is in memory anyway.
    fn cost_beside(&self, neighbour: Option<&Self>) -> usize {
        match (&self.package, neighbour.map(|neighbour| &neighbour.package)) {
            (Ok(ours), Some(Ok(other))) if Arc::ptr_eq(ours, other) => 0,
            (Ok(ours), _) => ours.cost(),
            (Err(_), _) => 0,
        }
    }

    fn entry(&self, namespace: String) -> Entry {
        Entry {
            namespace,
            block: self.block,
            tx: self.tx,
            basis: self.basis,
            sequence: self.sequence,
            package: match &self.package {
                Ok(package) => Ok(package.bytes().clone()),
                Err(refused) => Err(*refused),
            },
        }
    }
}

/// Every organization has an implicit collection in every chaincode defined since version 2, and
/// in the namespace of the definitions.
fn implicit(msp_id: &str, namespace: &str, versions: &[Version]) -> Result<Defined, Undefined> {
    let defined = versions.last().is_some_and(|version| {
        version.sequence.is_some() && !matches!(version.package, Err(PackageRefused::NotAChaincode))
    });
    if !defined && namespace != LIFECYCLE_NAMESPACE {
        return Err(if versions.is_empty() {
            Undefined::Chaincode
        } else {
            Undefined::Collection
        });
    }
    Ok(Defined {
        collection: Arc::new(Collection::implicit(msp_id)),
        basis: Basis::Implicit,
        block: None,
    })
}
