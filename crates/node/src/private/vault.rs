//! The stores of a channel's private data, and what the node asks of them.
//!
//! Everything here waits for the disk, and is called from threads that may.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tidings_gossip::{
    PeerIdentity, PvtDataConfig, VerifiedBlock,
    id::{ChannelId, OrgId},
    message::PrivateDigest,
    privdata::Wanted,
};
use tidings_ledger::{
    private::{
        Backlog, Content, NAME_LEN_MAX, Place, PrivateBlock, PrivateEntry, PrivateStore, StoredSet,
        Why,
    },
    transient::{TransientStore, WriteSetName},
};
use tidings_msp::{
    channel_config::ChannelConfig,
    collection::{Defined, Undefined, implicit_org},
};
use tidings_proto::block::{BlockView, PrivateWrites};

use super::{PrivateSettings, purges::Notes, registry::Registry};
use crate::{
    crypto::Crypto,
    logging::Seldom,
    metrics::{Metrics, PRIVATE_STATES},
    serve::Blocks,
    service::StartRefused,
};

/// Blocks without private data or definitions until it is put down that they have none: so many
/// are read again after a crash.
pub(super) const QUIET_MAX: u64 = 1024;

static UNKNOWN: Seldom = Seldom::new();

/// Names a write set within its block: transaction, chaincode, collection.
pub(super) type Name = (u64, Arc<str>, Arc<str>);

/// Names a pushed copy by what a block says of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CopyName {
    tx_id: Arc<str>,
    namespace: Arc<str>,
    collection: Arc<str>,
    pub(super) hash: [u8; 32],
}

impl CopyName {
    /// None if nothing can have the hash.
    pub(super) fn of(write: &PrivateWrites) -> Option<Self> {
        Some(Self {
            tx_id: Arc::clone(&write.tx_id),
            namespace: Arc::clone(&write.namespace),
            collection: Arc::clone(&write.collection),
            hash: write.hash[..].try_into().ok()?,
        })
    }

    pub(super) fn set(&self) -> WriteSetName<'_> {
        WriteSetName {
            tx_id: &self.tx_id,
            namespace: &self.namespace,
            collection: &self.collection,
        }
    }
}

/// What a vault is made of.
pub(crate) struct Surroundings {
    pub(crate) channel: ChannelId,
    pub(crate) me: Arc<PeerIdentity>,
    pub(crate) crypto: Arc<Crypto>,
    pub(crate) blocks: Arc<dyn Blocks>,
    /// Number of blocks in the ledger.
    pub(crate) height: u64,
    pub(crate) private: PrivateSettings,
}

/// The private data of one channel.
pub(crate) struct Vault {
    pub(super) channel: ChannelId,
    pub(super) me: Arc<PeerIdentity>,
    pub(super) crypto: Arc<Crypto>,
    pub(super) blocks: Arc<dyn Blocks>,
    pub(super) registry: Arc<Registry>,
    pub(super) settings: PvtDataConfig,
    pub(super) metrics: Metrics,
    /// None once they are closed.
    stores: RwLock<Option<Stores>>,
    height: AtomicU64,
    /// As [`PrivateStore::height`].
    pub(super) prepared: AtomicU64,
    /// Blocks from the ledger's height on and below this were prepared before the node died.
    pub(super) left_over: AtomicU64,
    /// What was tried in vain is asked for again from the block below this one on downwards.
    pub(super) tried_to: AtomicU64,
}

/// Both stores, open.
pub(super) struct Stores {
    pub(super) transient: TransientStore,
    pub(super) committed: PrivateStore,
}

/// Whose a write set is.
pub(super) enum Standing {
    /// Nobody knows the collection.
    Unknown(Undefined),
    /// Of others.
    Others { block_to_live: u64 },
    /// Ours to have.
    Ours(Defined),
}

impl Vault {
    /// Opens the stores below `dir` and lets them catch up with the ledger. `config` is in force
    /// at its end.
    pub(super) fn open(
        dir: &Path,
        surroundings: Surroundings,
        config: &Arc<ChannelConfig>,
    ) -> Result<Self, StartRefused> {
        let Surroundings {
            channel,
            me,
            crypto,
            blocks,
            height,
            private,
        } = surroundings;
        let folder = |source: io::Error| StartRefused::Folder {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(folder)?;
        let registry = Registry::open(dir, height).map_err(folder)?;
        let stores = Stores {
            transient: TransientStore::open(dir.join("transient"))?,
            committed: PrivateStore::open(dir.join("committed"), height)?,
        };
        let vault = Self {
            channel,
            me,
            crypto,
            blocks,
            registry: Arc::new(registry),
            settings: private.settings,
            metrics: private.metrics,
            stores: RwLock::new(Some(stores)),
            height: AtomicU64::new(height),
            prepared: AtomicU64::new(0),
            left_over: AtomicU64::new(0),
            tried_to: AtomicU64::new(0),
        };
        let broken = |reason| StartRefused::Private {
            path: dir.to_owned(),
            reason,
        };
        vault.catch_up(config).map_err(&broken)?;
        vault.tell_start(dir).map_err(broken)?;
        let registry = Arc::clone(&vault.registry);
        private.registries.add(vault.channel.clone(), registry);
        Ok(vault)
    }

    /// Closes the stores once nobody reads them. Nothing can be had from them any more.
    pub(super) fn close(&self) {
        let height = self.height();
        let settled = self.with(|stores| {
            let done = stores.committed.prepare_from(height, &[]);
            done.map_err(|error| error.to_string())
        });
        let kept = self.registry.keep(height).map_err(|e| e.to_string());
        if let Err(reason) = settled.and(kept) {
            // The next start reads some blocks again.
            tracing::warn!(target: "gossip.privdata", channel = %self.channel, "{reason}");
        }
        let mut stores = self.stores.write().unwrap_or_else(PoisonError::into_inner);
        *stores = None;
    }

    /// Number of blocks in the ledger.
    pub(super) fn height(&self) -> u64 {
        self.height.load(Ordering::Acquire)
    }

    /// Whether what is missing is looked for after its block.
    pub(crate) fn reconciles(&self) -> bool {
        self.settings.reconciliation_enabled
    }

    /// Number of the last block; there is one in every channel.
    pub(super) fn last_block(&self) -> u64 {
        self.height().saturating_sub(1)
    }

    pub(super) fn with<T>(
        &self,
        what: impl FnOnce(&Stores) -> Result<T, String>,
    ) -> Result<T, String> {
        let stores = self.stores.read().unwrap_or_else(PoisonError::into_inner);
        let stores = stores
            .as_ref()
            .ok_or("the stores of private data are closed")?;
        what(stores)
    }

    /// A block of the ledger.
    pub(super) fn block(&self, number: u64) -> Result<BlockView, String> {
        let block = self.block_if_kept(number)?;
        block.ok_or_else(|| format!("block {number} is missing"))
    }

    /// A block of the ledger; none if that does not keep it.
    pub(super) fn block_if_kept(&self, number: u64) -> Result<Option<BlockView>, String> {
        let bytes = self.blocks.block(number)?;
        let block = bytes.map(BlockView::parse).transpose();
        block.map_err(|error| format!("block {number}: {error}"))
    }

    /// Blocks without which it could not be told again which collections there are.
    pub(crate) fn defining(&self) -> BTreeSet<u64> {
        self.registry.blocks()
    }

    /// Whose a write set of this block is. Not final before all blocks below are committed.
    pub(super) fn standing(
        &self,
        number: u64,
        namespace: &str,
        collection: &str,
        config: &ChannelConfig,
    ) -> Standing {
        let defined = match self.registry.at(number, namespace, collection) {
            Ok(defined) => defined,
            Err(undefined) => return Standing::Unknown(undefined),
        };
        if defined.collection.entitles(&self.me.serialized, config) {
            Standing::Ours(defined)
        } else {
            let block_to_live = defined.collection.block_to_live();
            Standing::Others { block_to_live }
        }
    }

    /// What is to be put down for a block: what we have of it, and what we lack and why. None if it
    /// names no private data of a collection that is known. Other organizations' implicit
    /// collections are left out: they never become ours, and anybody can name any number of them.
    pub(super) fn account(
        &self,
        number: u64,
        writes: &[PrivateWrites],
        have: &BTreeMap<Name, Bytes>,
        why: &BTreeMap<Name, Why>,
    ) -> Result<Option<PrivateBlock>, String> {
        let Some(config) = self.crypto.config(&self.channel) else {
            return Ok(None);
        };
        let mut standings = BTreeMap::new();
        let (mut entries, mut notes) = (Vec::new(), Notes::default());
        for write in writes {
            let (namespace, collection) = (&*write.namespace, &*write.collection);
            if namespace.len().max(collection.len()) > NAME_LEN_MAX {
                continue;
            }
            let standing = standings
                .entry((namespace, collection))
                .or_insert_with(|| self.standing(number, namespace, collection, &config));
            let name = name_of(write);
            let (block_to_live, content) = match standing {
                Standing::Unknown(undefined) => {
                    self.tell_unknown(number, write, undefined);
                    continue;
                }
                Standing::Others { .. } if implicit_org(collection).is_some() => continue,
                Standing::Others { block_to_live } => {
                    (*block_to_live, Content::Missing(Why::NotEntitled))
                }
                Standing::Ours(defined) => {
                    let missing = why.get(&name).copied().unwrap_or(Why::NotAsked);
                    let content = match have.get(&name) {
                        Some(rwset) => Content::Held(rwset.clone()),
                        None => self
                            .kept(number, write)?
                            .map_or(Content::Missing(missing), Content::Trimmed),
                    };
                    (defined.collection.block_to_live(), content)
                }
            };
            notes.add(write);
            entries.push(PrivateEntry {
                tx: write.tx,
                namespace: namespace.to_owned(),
                collection: collection.to_owned(),
                block_to_live,
                content,
            });
        }
        // Nothing takes the place of what was prepared for another block of that number.
        let is_left_over = number < self.left_over.load(Ordering::Acquire);
        let (purges, left_out) = notes.share();
        let account = PrivateBlock {
            number,
            entries,
            purges,
            left_out,
        };
        Ok((!account.entries.is_empty() || is_left_over).then_some(account))
    }

    fn tell_unknown(&self, number: u64, write: &PrivateWrites, undefined: &Undefined) {
        if let Some(left_out) = UNKNOWN.line(Instant::now()) {
            tracing::info!(
                target: "gossip.privdata", channel = %self.channel, block = number, tx = write.tx,
                namespace = &*write.namespace, collection = &*write.collection, left_out,
                "private data of a collection that is not known is neither kept nor given: \
                 {undefined}"
            );
        }
    }

    /// Puts down what is known of blocks that are to be appended next, of which those without an
    /// account have no private data. As long as there is none it costs nothing.
    pub(crate) fn prepare(&self, accounts: &[PrivateBlock]) -> Result<(), String> {
        let (Some(first), Some(last)) = (accounts.first(), accounts.last()) else {
            let height = self.height();
            if height < self.prepared.load(Ordering::Acquire) + QUIET_MAX {
                return Ok(());
            }
            return self.put_down(height, &[]);
        };
        // Blocks between are said to be empty, which replaces what may have been prepared for them.
        let mut blocks: Vec<PrivateBlock> = (first.number..=last.number)
            .map(|number| PrivateBlock {
                number,
                entries: Vec::new(),
                purges: Vec::new(),
                left_out: BTreeMap::new(),
            })
            .collect();
        for account in accounts {
            let at = usize::try_from(account.number - first.number).ok();
            if let Some(block) = at.and_then(|at| blocks.get_mut(at)) {
                block.clone_from(account);
            }
        }
        self.put_down(first.number, &blocks)
    }

    pub(super) fn put_down(&self, empty_below: u64, blocks: &[PrivateBlock]) -> Result<(), String> {
        self.with(|stores| {
            let done = stores.committed.prepare_from(empty_below, blocks);
            done.map_err(|error| error.to_string())
        })?;
        let next = blocks.last().map_or(empty_below, |block| block.number + 1);
        self.prepared.store(next, Ordering::Release);
        Ok(())
    }

    /// Takes what a block of the ledger says of collections; `config` held below it. Says which
    /// chaincodes changed.
    pub(crate) fn define(&self, block: &VerifiedBlock, config: &ChannelConfig) -> BTreeSet<String> {
        let Ok(view) = BlockView::parse(block.bytes.clone()) else {
            return BTreeSet::new();
        };
        let changed = self.registry.take(&view, config);
        if !changed.is_empty() {
            self.keep_definitions(block.number + 1);
        }
        changed
    }

    /// Blocks below this are in the ledger.
    pub(crate) fn grown(&self, height: u64) {
        self.height.store(height, Ordering::Release);
    }

    /// The definitions of all blocks in the ledger were taken. Puts that down once in a while, so
    /// that a start after a crash reads few blocks again.
    pub(crate) fn settle(&self) {
        let height = self.height();
        if height.saturating_sub(self.registry.kept()) >= QUIET_MAX {
            self.keep_definitions(height);
        }
    }

    /// Those of the blocks below `height`.
    fn keep_definitions(&self, height: u64) {
        if let Err(error) = self.registry.keep(height) {
            // The next start reads the ledger for it.
            tracing::warn!(
                target: "gossip.privdata", channel = %self.channel,
                "cannot keep the definitions of chaincodes: {error}"
            );
        }
    }

    /// What the core needs to look for a write set; none if nothing can have its hash.
    pub(super) fn wanted(
        &self,
        write: &PrivateWrites,
        number: u64,
        tx_id: &str,
        defined: &Defined,
        config: &ChannelConfig,
    ) -> Option<Wanted> {
        let members = defined.collection.member_orgs(config);
        Some(Wanted {
            digest: PrivateDigest {
                block: number,
                seq_in_block: write.tx,
                namespace: write.namespace.to_string(),
                collection: write.collection.to_string(),
                tx_id: tx_id.to_owned(),
            },
            hash: write.hash[..].try_into().ok()?,
            may_differ: false,
            endorsers: write.endorsers.to_vec(),
            member_orgs: members
                .iter()
                .map(|msp_id| OrgId::from(msp_id.as_str()))
                .collect(),
            block_to_live: defined.collection.block_to_live(),
        })
    }

    /// How much of the blocks of the ledger is held and missing.
    pub(super) fn backlog(&self) -> Result<Backlog, String> {
        self.with(|stores| {
            let backlog = stores.committed.backlog(self.last_block());
            backlog.map_err(|error| error.to_string())
        })
    }

    /// The block from which on downwards what was tried in vain is asked for again.
    pub(super) fn tried_from(&self) -> u64 {
        let last_block = self.last_block();
        let below = self.tried_to.load(Ordering::Acquire).checked_sub(1);
        below.map_or(last_block, |block| block.min(last_block))
    }

    /// Shows how much is held and missing.
    pub(super) fn show_backlog(&self) {
        let Ok(backlog) = self.backlog() else {
            return;
        };
        let total = backlog.total();
        let numbers = [
            total.held,
            total.eligible,
            total.deprioritized,
            total.ineligible,
        ];
        for (state, number) in PRIVATE_STATES.into_iter().zip(numbers) {
            let gauge = &self.metrics.private_sets;
            let gauge = gauge.with_label_values(&[self.channel.as_str(), state]);
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// The collections of a chaincode that are ours by its last definition.
    pub(super) fn ours(&self, namespace: &str) -> BTreeSet<String> {
        let Some(config) = self.crypto.config(&self.channel) else {
            return BTreeSet::new();
        };
        let all = self.registry.collections(namespace).into_iter();
        let ours = all.filter(|each| each.collection.entitles(&self.me.serialized, &config));
        ours.map(|each| each.collection.name().to_owned()).collect()
    }
}

pub(super) fn name_of(write: &PrivateWrites) -> Name {
    let (namespace, collection) = (Arc::clone(&write.namespace), Arc::clone(&write.collection));
    (write.tx, namespace, collection)
}

pub(super) fn place_of(block: u64, write: &PrivateWrites) -> Place {
    Place {
        block,
        tx: write.tx,
        namespace: write.namespace.to_string(),
        collection: write.collection.to_string(),
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut vault = f.debug_struct("Vault");
        vault
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// The private data that a node has of one channel, to be looked at. Waits for the disk; nothing
/// can be had after the channel was left or the node has stopped.
#[derive(Clone, Debug)]
pub struct PrivateData(pub(crate) Arc<Vault>);

impl PrivateData {
    /// How much is held and missing.
    pub fn backlog(&self) -> Result<Backlog, String> {
        self.0.backlog()
    }

    /// The write sets of a block that are held.
    pub fn sets(&self, block: u64) -> Result<Vec<StoredSet>, String> {
        let last_block = self.0.last_block();
        self.0.with(|stores| {
            let sets = stores.committed.sets(block, last_block);
            let sets = sets.map_err(|error| error.to_string())?;
            let sets: Result<Vec<_>, _> = sets.collect();
            sets.map_err(|error| error.to_string())
        })
    }

    /// How many copies of pushed write sets wait for their blocks.
    pub fn waiting(&self) -> Result<u64, String> {
        let usage = |stores: &Stores| stores.transient.usage().map_err(|e| e.to_string());
        self.0.with(usage).map(|usage| usage.copies)
    }
}
