//! Blocks on their way to the ledger that wait for their private data, each beside the others.
//!
//! Promises: blocks leave in the order in which they came, each with what is known of everything
//! it names; a block that names nothing for us waits for nobody but its predecessors. What a block
//! names for us is final when it is the first, since the definitions of all blocks below are
//! known then; what was found out before is not asked for again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidings_gossip::{
    Input, Source,
    message::PrivateDigest,
    privdata::{Found, GatherKey, Missing, Wanted},
};
use tidings_ledger::private::{PrivateBlock, SET_LEN_MAX, Why};
use tidings_msp::crypto::sha256;
use tidings_proto::{
    block::{BlockView, PrivateWrites},
    protos::TxValidationCode,
};
use tokio::sync::mpsc;

use super::{
    copy,
    disk::OnDisk,
    registry,
    vault::{CopyName, Name, Standing, Vault, name_of},
};
use crate::{commit::Job, metrics::Way};

/// Bytes of write sets of one block that are read from disk before it is committed; one more may
/// be begun. What is beyond is asked for and reconciled, from our own disk, too.
pub(super) const BLOCK_BYTES_MAX: usize = 256 << 20;

/// Bytes of write sets that waiting blocks hold together. With more, a block behind others is
/// looked for when it is the first.
const WINDOW_BYTES_MAX: usize = 256 << 20;

/// SHA-256.
const HASH_LEN: usize = 32;

/// What a block says of private data, found in one walk.
pub(super) struct Walked {
    /// What is written in private, by hashes.
    pub(super) writes: Vec<PrivateWrites>,
    /// Something is written where definitions are.
    pub(super) defines: bool,
}

impl Walked {
    pub(super) fn of(block: &BlockView) -> Self {
        let (mut writes, mut defines) = (Vec::new(), false);
        for (tx, transaction) in block.endorsed() {
            let private = transaction.private_writes(tx).into_iter();
            writes.extend(private.filter(is_set));
            defines |= registry::touches_definitions(&transaction);
        }
        Self { writes, defines }
    }
}

/// Whether there is anything that could be kept. What names no hash, which no good transaction
/// does, nobody can have: it is not missing either.
fn is_set(write: &PrivateWrites) -> bool {
    write.has_writes && write.hash.len() == HASH_LEN
}

/// A block whose private data is known to be here or missing.
pub(crate) struct Ready {
    pub(crate) job: Job,
    /// To be put down before the block is.
    pub(crate) account: Option<PrivateBlock>,
    /// What we have of its private writes: pushed copies of it are no longer needed. Others of the
    /// same transaction may be: anybody may give his transaction the id of another.
    pub(crate) copies: BTreeSet<CopyName>,
    /// It says something of collections.
    pub(crate) defines: bool,
}

struct Waiting {
    job: Job,
    walked: Walked,
    have: BTreeMap<Name, Bytes>,
    missing: BTreeMap<Name, Why>,
    /// Since when the core looks for something.
    asked: Option<Instant>,
}

/// The blocks that wait.
pub(crate) struct Window {
    vault: Arc<Vault>,
    inputs: mpsc::Sender<Input>,
    waiting: VecDeque<Waiting>,
    /// [`WINDOW_BYTES_MAX`].
    pub(super) bytes_max: usize,
}

impl Window {
    pub(crate) fn new(vault: Arc<Vault>, inputs: mpsc::Sender<Input>) -> Self {
        Self {
            vault,
            inputs,
            waiting: VecDeque::new(),
            bytes_max: WINDOW_BYTES_MAX,
        }
    }

    /// Takes a block and begins to look for what it names.
    pub(crate) fn take(&mut self, job: Job) -> Result<(), String> {
        let view = BlockView::parse(job.block.bytes.clone());
        let walked = match view {
            Ok(view) if !job.block.is_config => Walked::of(&view),
            // The ledger will say what is wrong with it.
            _ => Walked {
                writes: Vec::new(),
                defines: false,
            },
        };
        let mut waiting = Waiting {
            job,
            walked,
            have: BTreeMap::new(),
            missing: BTreeMap::new(),
            asked: None,
        };
        let came = waiting.take_what_came();
        self.vault
            .metrics
            .private_came(&self.vault.channel, Way::WithBlock, came);
        self.look(&mut waiting, false)?;
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// The core has ended looking for what a block names.
    pub(crate) fn gathered(
        &mut self,
        number: u64,
        found: Vec<Found>,
        missing: &[(PrivateDigest, Missing)],
    ) {
        let mut all = self.waiting.iter_mut();
        let waiting = all.find(|each| each.job.block.number == number && each.asked.is_some());
        // A gathering that was replaced by another of the same block ends, too.
        let Some(waiting) = waiting else {
            return;
        };
        let names = waiting.names();
        let mut taken = 0;
        for Found {
            digest, payload, ..
        } in found
        {
            if let Some((name, hash)) = names.get(&key(&digest))
                && sha256(&payload)[..] == hash[..]
                && payload.len() <= SET_LEN_MAX
            {
                waiting.have.insert(name.clone(), payload);
                taken += 1;
            }
        }
        self.vault
            .metrics
            .private_came(&self.vault.channel, Way::Asked, taken);
        for (digest, reason) in missing {
            if let Some((name, _)) = names.get(&key(digest)) {
                waiting.missing.insert(name.clone(), why(*reason));
            }
        }
        if let Some(since) = waiting.asked.take() {
            let metrics = &self.vault.metrics.privdata_fetch_duration;
            let histogram = metrics.with_label_values(&[self.vault.channel.as_str()]);
            histogram.observe(since.elapsed().as_secs_f64());
        }
    }

    /// The blocks that need not wait any more, in order. A block that says something of
    /// collections, or changes who is who, is the last of them: what comes after is judged by what
    /// it says.
    pub(crate) fn ready(&mut self) -> Result<Vec<Ready>, String> {
        let mut ready: Vec<Ready> = Vec::new();
        let goes_on = |last: &Ready| !last.defines && !last.job.block.is_config;
        while let Some(mut first) = self.waiting.pop_front() {
            if first.asked.is_none() && ready.last().is_none_or(goes_on) {
                // By the definitions that hold in the end.
                self.look(&mut first, true)?;
                if first.asked.is_none() {
                    ready.push(self.finish(first)?);
                    continue;
                }
            }
            self.waiting.push_front(first);
            break;
        }
        Ok(ready)
    }

    /// Looks on disk for what this block names for us and what is not accounted for, and lets the
    /// core look for the rest. What there is no room for waits until the block is the first.
    fn look(&self, waiting: &mut Waiting, is_first: bool) -> Result<(), String> {
        if waiting.walked.writes.is_empty() {
            return Ok(());
        }
        let Some(config) = self.vault.crypto.config(&self.vault.channel) else {
            return Ok(());
        };
        let number = waiting.job.block.number;
        let mut standings = BTreeMap::new();
        let mut lacking = Vec::new();
        for write in &waiting.walked.writes {
            let name = name_of(write);
            if waiting.have.contains_key(&name) || waiting.missing.contains_key(&name) {
                continue;
            }
            let (namespace, collection) = (&*write.namespace, &*write.collection);
            let standing = standings
                .entry((namespace, collection))
                .or_insert_with(|| self.vault.standing(number, namespace, collection, &config));
            if let Standing::Ours(defined) = standing {
                lacking.push((write, defined.clone()));
            }
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let writes: Vec<&PrivateWrites> = lacking.iter().map(|(write, _)| *write).collect();
        let bytes_max = self.room(waiting, is_first);
        let OnDisk { found, left } = self.vault.on_disk(number, &writes, bytes_max)?;
        let (mut items, mut names) = (Vec::new(), BTreeMap::new());
        for (write, defined) in lacking {
            let name = name_of(write);
            if found.contains_key(&name) || !is_first && left.contains(&name) {
                continue;
            }
            if self.vault.kept(number, write)?.is_some() {
                // What is left of it is put down, and the whole is looked for afterwards.
                waiting.missing.insert(name, Why::NotAsked);
                continue;
            }
            let wanted = self
                .vault
                .wanted(write, number, &write.tx_id, &defined, &config);
            match wanted {
                Some(wanted) if !self.is_to_be_skipped(waiting, write.tx) => {
                    names.insert(key(&wanted.digest), name);
                    items.push(wanted);
                }
                Some(_) => {
                    waiting.missing.insert(name, Why::NotAsked);
                }
                None => {
                    waiting.missing.insert(name, Why::WrongHash);
                }
            }
        }
        waiting.have.extend(found);
        if !items.is_empty() {
            self.ask(waiting, items, &names);
        }
        Ok(())
    }

    /// Has the core look for this, which has these names in its block.
    fn ask(
        &self,
        waiting: &mut Waiting,
        items: Vec<Wanted>,
        names: &BTreeMap<(u64, String, String), Name>,
    ) {
        let number = waiting.job.block.number;
        let patience = self.vault.patience(waiting.job.source);
        if patience.is_zero() {
            // Nobody is asked while it waits, so it does not wait, and can be written together
            // with others. The core is told what it will lack, to reconcile it soon.
            let lacked = items
                .iter()
                .filter_map(|item| names.get(&key(&item.digest)));
            let lacked = lacked.map(|name| (name.clone(), Why::NotAsked));
            waiting.missing.extend(lacked);
        } else {
            tracing::debug!(
                target: "gossip.privdata", channel = %self.vault.channel, block = number,
                lacking = items.len(), "asking other members for private data"
            );
            waiting.asked = Some(Instant::now());
        }
        let input = Input::PrivateWanted {
            channel: self.vault.channel.clone(),
            key: GatherKey::Block(number),
            items,
            patience,
        };
        // Nobody listening means that the node is going down, and nobody waits for the block.
        let _ = self.inputs.blocking_send(input);
    }

    /// How much may be read for a block.
    fn room(&self, waiting: &Waiting, is_first: bool) -> usize {
        if is_first {
            return BLOCK_BYTES_MAX.saturating_sub(waiting.len());
        }
        let others: usize = self.waiting.iter().map(Waiting::len).sum();
        self.bytes_max.saturating_sub(others + waiting.len())
    }

    /// `skipPullingInvalidTransactionsDuringCommit`. Whether a transaction is valid is the claim
    /// of the peer that gave us the block; a wrong one costs some time.
    fn is_to_be_skipped(&self, waiting: &Waiting, tx: u64) -> bool {
        if !self
            .vault
            .settings
            .skip_pulling_invalid_transactions_during_commit
        {
            return false;
        }
        let view = BlockView::parse(waiting.job.block.bytes.clone()).ok();
        let codes = view.and_then(|view| view.claimed_codes());
        let at = usize::try_from(tx).ok();
        let code = codes.zip(at).and_then(|(codes, at)| codes.get(at).copied());
        code.is_some_and(|code| i32::from(code) != TxValidationCode::Valid as i32)
    }

    fn finish(&self, waiting: Waiting) -> Result<Ready, String> {
        let Waiting {
            job,
            walked,
            have,
            missing,
            ..
        } = waiting;
        let account = self
            .vault
            .account(job.block.number, &walked.writes, &have, &missing)?;
        let is_held = |write: &&PrivateWrites| have.contains_key(&name_of(write));
        let held = walked.writes.iter().filter(is_held);
        Ok(Ready {
            copies: held.filter_map(CopyName::of).collect(),
            account,
            defines: walked.defines,
            job,
        })
    }
}

impl Vault {
    /// A block that others have had for long does not wait: its private data came along, or is in
    /// the ledgers of others, where reconciliation finds it without holding up those behind.
    fn patience(&self, source: Source) -> Duration {
        match source {
            Source::Transfer if self.settings.reconciliation_enabled => Duration::ZERO,
            _ => self.settings.pull_retry_threshold,
        }
    }
}

impl Waiting {
    /// Takes what came along with the block and has the right hash; says how many write sets.
    fn take_what_came(&mut self) -> usize {
        if self.walked.writes.is_empty() || self.job.private_data.is_empty() {
            return 0;
        }
        let came = copy::came_along(&std::mem::take(&mut self.job.private_data));
        for write in &self.walked.writes {
            let name = (
                write.tx,
                write.namespace.to_string(),
                write.collection.to_string(),
            );
            if let Some(rwset) = came.get(&name)
                && sha256(rwset)[..] == write.hash[..]
                && rwset.len() <= SET_LEN_MAX
            {
                self.have.insert(name_of(write), rwset.clone());
            }
        }
        self.have.len()
    }

    /// Bytes that it holds.
    fn len(&self) -> usize {
        self.have.values().map(Bytes::len).sum()
    }

    fn names(&self) -> BTreeMap<(u64, String, String), (Name, Bytes)> {
        let writes = self.walked.writes.iter();
        writes
            .map(|write| {
                let (namespace, collection) =
                    (write.namespace.to_string(), write.collection.to_string());
                let name = (name_of(write), write.hash.clone());
                ((write.tx, namespace, collection), name)
            })
            .collect()
    }
}

fn key(digest: &PrivateDigest) -> (u64, String, String) {
    (
        digest.seq_in_block,
        digest.namespace.clone(),
        digest.collection.clone(),
    )
}

pub(super) fn why(missing: Missing) -> Why {
    match missing {
        Missing::NotFound => Why::Absent,
        Missing::Differs => Why::WrongHash,
        Missing::NotAsked | Missing::Expired => Why::NotAsked,
        Missing::NoRoom => Why::NoRoom,
    }
}
