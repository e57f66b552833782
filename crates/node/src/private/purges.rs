//! Keys of private data that are to be forgotten.
//!
//! A block says which keys a transaction purges (`KVWriteHash.is_purge`), and not whether the
//! transaction is valid, which nobody signs. So a purge is *noted* with its block, and changes
//! nothing of what is held and given, until somebody who knows says that it is valid: then the keys
//! are taken out of every write set up to the purge, and kept out of what comes later. Others may
//! have carried out what is only noted here. What they give then is taken if it is what the block
//! names, without keys that are noted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use bytes::Bytes;
use tidings_gossip::{Input, privdata::Found};
use tidings_ledger::private::{
    KeyPurge, NotedPurge, PURGES_LISTED_MAX, Place, PrivateBlock, PurgeState, Touched,
};
use tidings_msp::crypto::sha256;
use tidings_proto::block::PrivateWrites;
use tokio::sync::mpsc;

use super::vault::{PrivateData, Vault, place_of};
use crate::logging::Seldom;

/// Keys that are noted of one block. Each costs two rows, and anybody who may submit can name as many
/// as a block holds. What is beyond is not noted, and can be purged by nobody.
pub(super) const NOTED_MAX: usize = 65_536;

/// Bytes of write sets that are read to tell an operator how many purges would touch.
const TOUCHED_BYTES_MAX: usize = 1 << 30;

static PURGES: Seldom = Seldom::new();

/// A purge, and what it does or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPurge {
    /// What is noted of it.
    pub purge: NotedPurge,
    /// Write sets that are held and have a key of it, as long as it is only noted.
    pub touched: Touched,
}

/// Some purges, and the block and transaction to go on from if there may be more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgePage {
    /// Oldest first.
    pub purges: Vec<ListedPurge>,
    /// Where the next page begins.
    pub next: Option<(u64, u64)>,
}

impl Vault {
    /// Forgets what a transaction of a committed block says is to be forgotten, for good; says how
    /// many write sets that changed. Whoever calls this says that the transaction is valid, and
    /// answers for it: now the operator does.
    pub(crate) fn apply_purge(&self, block: u64, tx: u64) -> Result<u64, String> {
        let last_block = self.last_block();
        self.with(|stores| {
            let purged = stores.committed.purge(block, tx, last_block);
            let changed = purged.map_err(|error| error.to_string())?;
            tracing::info!(
                target: "gossip.privdata", channel = %self.channel, block, tx, changed,
                "purged keys of private data"
            );
            Ok(changed)
        })
    }

    /// Goes on with what a crash broke off.
    pub(super) fn resume_purges(&self) -> Result<(), String> {
        let resumed = self.with(|stores| {
            let resumed = stores.committed.resume();
            resumed.map_err(|error| error.to_string())
        })?;
        for (block, tx) in resumed {
            tracing::info!(
                target: "gossip.privdata", channel = %self.channel, block, tx,
                "went on with purging keys of private data"
            );
        }
        Ok(())
    }

    /// Keys of a write set that are noted to be forgotten.
    pub(super) fn noted(
        &self,
        block: u64,
        write: &PrivateWrites,
    ) -> Result<BTreeSet<[u8; 32]>, String> {
        let keys = write.hashed_writes();
        let keys = keys.filter_map(|write| write.key_hash[..].try_into().ok());
        let (place, last_block) = (place_of(block, write), self.last_block());
        self.with(|stores| {
            let noted = stores.committed.noted(&place, keys, last_block);
            noted.map_err(|error| error.to_string())
        })
    }

    /// Those of these write sets with another hash than the block's that are what is left of what
    /// it names. Who gave another is said to have done so.
    pub(super) fn left_of(
        &self,
        found: Vec<Found>,
        inputs: &mpsc::Sender<Input>,
    ) -> Result<Vec<(Place, Bytes)>, String> {
        let mut by_block: BTreeMap<u64, Vec<Found>> = BTreeMap::new();
        for found in found {
            by_block.entry(found.digest.block).or_default().push(found);
        }
        let mut left = Vec::new();
        for (number, found) in by_block {
            // It could be read when they were listed; what cannot be judged is not blamed.
            let Ok(block) = self.block(number) else {
                continue;
            };
            let writes: BTreeMap<Place, PrivateWrites> = block
                .private_writes()
                .map(|write| (place_of(number, &write), write))
                .collect();
            for Found {
                digest,
                payload,
                from,
                ..
            } in found
            {
                let place = super::keeper::place(digest);
                match self.judge(writes.get(&place), number, &payload)? {
                    Ok(()) => left.push((place, payload)),
                    Err(reason) => {
                        let input = Input::PrivateDoubted {
                            channel: self.channel.clone(),
                            peer: from,
                            reason,
                        };
                        // Nobody listening means that the node is going down.
                        let _ = inputs.blocking_send(input);
                    }
                }
            }
        }
        Ok(left)
    }

    /// Whether these bytes are a write set without keys that are noted, or why not.
    fn judge(
        &self,
        write: Option<&PrivateWrites>,
        number: u64,
        rwset: &[u8],
    ) -> Result<Result<(), String>, String> {
        let Some(write) = write else {
            return Ok(Err("the block does not name it".to_owned()));
        };
        let gone = match write.gone_from(rwset, sha256) {
            Ok(gone) => gone,
            Err(reason) => return Ok(Err(reason.to_string())),
        };
        let noted = self.noted(number, write)?;
        Ok(if gone.is_subset(&noted) {
            Ok(())
        } else {
            Err("it lacks a key that nobody has purged".to_owned())
        })
    }

    /// What was noted of these blocks, in one line: anybody who may submit can write any number of
    /// such transactions.
    pub(crate) fn tell_purges(&self, accounts: &[PrivateBlock]) {
        let mut transactions = BTreeSet::new();
        let mut keys: u64 = 0;
        for PrivateBlock { number, purges, .. } in accounts {
            transactions.extend(purges.iter().map(|purge| (*number, purge.tx)));
            keys += purges.len() as u64;
        }
        let Some((block, tx)) = transactions.first() else {
            return;
        };
        let noted = &self.metrics.private_purges;
        noted
            .with_label_values(&[self.channel.as_str()])
            .inc_by(keys);
        if let Some(left_out) = PURGES.line(Instant::now()) {
            tracing::info!(
                target: "gossip.privdata", channel = %self.channel, block, tx,
                transactions = transactions.len(), keys, left_out,
                "transactions say that keys of private data are to be forgotten, of which this is \
                 the first; whether they are valid is not known here: nothing is deleted until \
                 `tidings privdata purge -c {} --block {block} --tx {tx}`", self.channel
            );
        }
    }
}

/// Adds what a write set says is to be forgotten to what its block says.
pub(super) fn note(purges: &mut Vec<KeyPurge>, write: &PrivateWrites) {
    let room = NOTED_MAX.saturating_sub(purges.len());
    let keys = write.hashed_writes().filter(|write| write.is_purge);
    let keys = keys.filter_map(|write| <[u8; 32]>::try_from(&write.key_hash[..]).ok());
    purges.extend(keys.take(room).map(|key_hash| KeyPurge {
        tx: write.tx,
        namespace: write.namespace.to_string(),
        collection: write.collection.to_string(),
        key_hash,
    }));
}

impl PrivateData {
    /// The purges that are noted, oldest first, from this block and transaction on.
    pub fn purges(&self, from: (u64, u64)) -> Result<PurgePage, String> {
        let last_block = self.0.last_block();
        let mut bytes = TOUCHED_BYTES_MAX;
        self.0.with(|stores| {
            let failed = |error: tidings_ledger::StoreError| error.to_string();
            let noted = stores.committed.purges(from, last_block).map_err(failed)?;
            let next = noted.get(PURGES_LISTED_MAX - 1);
            let next = next.and_then(|last| Some((last.block, last.tx.checked_add(1)?)));
            let mut purges = Vec::new();
            for purge in noted {
                let touched = match purge.state {
                    PurgeState::Noted => {
                        let touched = stores.committed.touched(&purge, &mut bytes);
                        touched.map_err(failed)?
                    }
                    _ => Touched::default(),
                };
                purges.push(ListedPurge { purge, touched });
            }
            Ok(PurgePage { purges, next })
        })
    }

    /// Forgets what a transaction says is to be forgotten, for good; says how many write sets that
    /// changed. Whoever calls this says that the transaction is valid.
    pub fn purge(&self, block: u64, tx: u64) -> Result<u64, String> {
        self.0.apply_purge(block, tx)
    }
}
