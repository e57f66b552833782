//! Which collections a channel has, kept across starts.
//!
//! Definitions are made of the blocks of the ledger alone, so the file with them is a short cut:
//! without it, or with one that is not what was written, the ledger is read again. A definition
//! counts if the organizations agreed to it under the configuration below its block; one from
//! before version 2, which cannot be judged so, counts as the claim of the peer that gave us the
//! block, by which nothing is given to anybody.
//!
//! Rules: docs/protocol/collections.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tidings_msp::{
    channel_config::ChannelConfig,
    collection::{
        Basis, Defined, Definitions, Entry, LEGACY_NAMESPACE, LIFECYCLE_NAMESPACE, Undefined,
        check_definition,
    },
    crypto::sha256,
};
use tidings_proto::{
    block::{BlockView, EndorsedTransaction},
    protos::TxValidationCode,
};

use crate::logging::{Seldom, foreign};

const FILE: &str = "definitions";

static PASSED_OVER: Seldom = Seldom::new();
static DEFINED: Seldom = Seldom::new();

/// The first bytes of the file; the last one is the version.
const MAGIC: &[u8] = b"tidings definitions 1";

const HASH_LEN: usize = 32;

/// Far more than what the definitions of one channel may take in memory.
const FILE_LEN_MAX: u64 = 1 << 30;

/// The definitions of one channel.
#[derive(Debug)]
pub(crate) struct Registry {
    definitions: RwLock<Definitions>,
    path: PathBuf,
    /// The height that is in the file, or that could not be put there.
    kept: AtomicU64,
}

impl Registry {
    /// Those that were kept in this folder; none if there are none, or if they are ahead of the
    /// ledger, which somebody has put back.
    pub(super) fn open(dir: &Path, ledger_height: u64) -> io::Result<Self> {
        let path = dir.join(FILE);
        let definitions = match read(&path)? {
            Kept::Nothing => Definitions::new(),
            Kept::Definitions(kept) if kept.height() <= ledger_height => kept,
            Kept::Definitions(_) => {
                tracing::warn!(
                    target: "gossip.privdata", file = %path.display(),
                    "definitions of a longer ledger: the ledger is read for them again"
                );
                Definitions::new()
            }
            Kept::Damaged => {
                tracing::warn!(
                    target: "gossip.privdata", file = %path.display(),
                    "not as it was written: the ledger is read for definitions again"
                );
                Definitions::new()
            }
        };
        Ok(Self {
            kept: AtomicU64::new(definitions.height()),
            definitions: RwLock::new(definitions),
            path,
        })
    }

    /// The number of the next block to take.
    pub(super) fn height(&self) -> u64 {
        self.look().height()
    }

    /// As [`Definitions::at`].
    pub(crate) fn at(
        &self,
        block: u64,
        namespace: &str,
        collection: &str,
    ) -> Result<Defined, Undefined> {
        self.look().at(block, namespace, collection)
    }

    /// As [`Definitions::latest`].
    pub(crate) fn latest(&self, namespace: &str, collection: &str) -> Result<Defined, Undefined> {
        self.look().latest(namespace, collection)
    }

    /// Takes the definitions in a block that is in the ledger. `config` held below it. Says which
    /// chaincodes changed. The caller need not give blocks in which [`defines`] finds nothing.
    pub(super) fn take(&self, block: &BlockView, config: &ChannelConfig) -> BTreeSet<String> {
        // Signatures are checked before anybody has to wait.
        let claimed = block.claimed_codes();
        let grounds: BTreeMap<u64, Option<Basis>> = block
            .endorsed()
            .filter(|(_, transaction)| touches_definitions(transaction))
            .map(|(tx, transaction)| {
                let at = usize::try_from(tx).ok();
                let code = claimed
                    .as_ref()
                    .zip(at)
                    .and_then(|(codes, at)| codes.get(at));
                (tx, grounds(&transaction, config, code.copied()))
            })
            .collect();
        let applied = {
            let mut definitions = self
                .definitions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            definitions.apply(block, |tx, _| grounds.get(&tx).copied().flatten())
        };
        let (channel, number) = (config.channel_id(), block.number().unwrap_or_default());
        if let [first, ..] = &applied.passed_over[..]
            && let Some(left_out) = PASSED_OVER.line(Instant::now())
        {
            tracing::info!(
                target: "gossip.privdata", channel, block = number, tx = first.tx,
                chaincode = %foreign(&first.namespace), all = applied.passed_over.len(), left_out,
                "definitions that do not count, of which the first is named: {:?}", first.reason
            );
        }
        if let [first, ..] = &applied.entries[..]
            && let Some(left_out) = DEFINED.line(Instant::now())
        {
            tracing::info!(
                target: "gossip.privdata", channel, block = number, basis = ?first.basis,
                chaincode = %foreign(&first.namespace), all = applied.entries.len(), left_out,
                "new definitions of chaincodes, of which the first is named"
            );
        }
        let changed = applied.entries.into_iter().map(|entry| entry.namespace);
        changed.collect()
    }

    /// The blocks that have the definitions.
    pub(super) fn blocks(&self) -> BTreeSet<u64> {
        self.look().entries().map(|entry| entry.block).collect()
    }

    /// The chaincodes that are defined.
    pub(super) fn chaincodes(&self) -> Vec<String> {
        self.look().chaincodes().map(str::to_owned).collect()
    }

    /// The height that was kept last.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// Forgets what is known, since a block that may have changed it cannot be had. Says whether
    /// anything was.
    pub(super) fn forget(&self) -> bool {
        let mut definitions = self
            .definitions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let was_known = !definitions.is_empty();
        *definitions = Definitions::new();
        was_known
    }

    /// The collections that a chaincode has by its last definition.
    pub(super) fn collections(&self, namespace: &str) -> Vec<Defined> {
        self.look().all(namespace)
    }

    /// Keeps what is known as of the blocks below `height`, of which the caller knows that those
    /// from [`Self::height`] on define nothing.
    pub(super) fn keep(&self, height: u64) -> io::Result<()> {
        let (height, entries) = {
            let definitions = self.look();
            let entries: Vec<Entry> = definitions.entries().collect();
            (height.max(definitions.height()), entries)
        };
        self.kept.store(height, Ordering::Release);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(height.to_be_bytes());
        for entry in entries {
            let entry = entry.encode();
            bytes.extend((entry.len() as u64).to_be_bytes());
            bytes.extend(entry);
        }
        bytes.extend(sha256(&bytes));
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
        File::open(dir)?.sync_all()
    }

    fn look(&self) -> RwLockReadGuard<'_, Definitions> {
        self.definitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a transaction writes where definitions are.
pub(super) fn touches_definitions(transaction: &EndorsedTransaction) -> bool {
    let mut namespaces = transaction.namespaces();
    namespaces.any(|namespace| {
        namespace.is_written && [LIFECYCLE_NAMESPACE, LEGACY_NAMESPACE].contains(&namespace.name)
    })
}

/// On what grounds the definitions in a transaction count.
fn grounds(
    transaction: &EndorsedTransaction,
    config: &ChannelConfig,
    claimed: Option<u8>,
) -> Option<Basis> {
    if check_definition(transaction, config).is_ok() {
        return Some(Basis::Endorsed);
    }
    let mut namespaces = transaction.namespaces();
    let is_lifecycle = namespaces.any(|namespace| namespace.name == LIFECYCLE_NAMESPACE);
    let claims_valid = claimed.map(i32::from) == Some(TxValidationCode::Valid as i32);
    (!is_lifecycle && claims_valid).then_some(Basis::Claimed)
}

enum Kept {
    Nothing,
    Definitions(Definitions),
    Damaged,
}

fn read(path: &Path) -> io::Result<Kept> {
    let bytes = match fs::metadata(path).map(|metadata| metadata.len()) {
        Ok(len) if len > FILE_LEN_MAX => return Ok(Kept::Damaged),
        Ok(_) => fs::read(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::Nothing),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes).map_or(Kept::Damaged, Kept::Definitions))
}

fn parse(bytes: &[u8]) -> Option<Definitions> {
    let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_LEN)?)?;
    if sha256(content)[..] != *hash {
        return None;
    }
    let (height, mut rest) = content.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let mut entries = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<8>() {
        let len = usize::try_from(u64::from_be_bytes(*len)).ok()?;
        let (entry, after) = after.split_at_checked(len)?;
        entries.push(Entry::decode(entry).ok()?);
        rest = after;
    }
    rest.is_empty()
        .then(|| Definitions::restore(entries, u64::from_be_bytes(*height)))
}
