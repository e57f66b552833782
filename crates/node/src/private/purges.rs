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
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tidings_gossip::{Input, privdata::Found};
use tidings_ledger::private::{
    KeyPurge, Left, NotedPurge, PURGES_LISTED_MAX, Place, PrivateBlock, PurgeState, Purged, Touched,
};
use tidings_msp::crypto::sha256;
use tidings_proto::block::PrivateWrites;
use tokio::sync::mpsc;

use super::vault::{PrivateData, Vault, place_of};
use crate::logging::Seldom;

/// Keys that are noted of one block. Each costs two rows, and anybody who may submit can name as many
/// as a block holds. With more, who names few has all of them noted, and those who name most have
/// equal shares, of one at least. What is left out is counted, told, and not purged.
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
    /// Forgets what a transaction of a committed block says is to be forgotten, for good; says what
    /// that did. Whoever calls this says that the transaction is valid, and answers for it: now the
    /// operator does.
    pub(crate) fn apply_purge(&self, block: u64, tx: u64) -> Result<Purged, String> {
        let last_block = self.last_block();
        let purged = self.with(|stores| {
            let purged = stores.committed.purge(block, tx, last_block);
            purged.map_err(|error| error.to_string())
        })?;
        let Purged { changed, left_out } = purged;
        tracing::info!(
            target: "gossip.privdata", channel = %self.channel, block, tx, changed,
            keys_left_out = left_out, "purged keys of private data"
        );
        Ok(purged)
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

    /// Whether others may have taken keys out of a write set.
    pub(super) fn may_differ(&self, block: u64, write: &PrivateWrites) -> Result<bool, String> {
        Ok(!self.noted(block, write)?.is_empty() || self.is_noted_in_part(block, write)?)
    }

    /// Whether there may be keys of a write set that are to be forgotten and were left out.
    fn is_noted_in_part(&self, block: u64, write: &PrivateWrites) -> Result<bool, String> {
        let (place, last_block) = (place_of(block, write), self.last_block());
        self.with(|stores| {
            let noted = stores.committed.is_noted_in_part(&place, last_block);
            noted.map_err(|error| error.to_string())
        })
    }

    /// What was left of a write set before the ledger was begun anew, if it is of this block.
    pub(super) fn kept(&self, block: u64, write: &PrivateWrites) -> Result<Option<Left>, String> {
        if block >= self.left_over.load(Ordering::Acquire) {
            return Ok(None);
        }
        let rwset = self.with(|stores| {
            let rwset = stores.committed.left(&place_of(block, write));
            rwset.map_err(|error| error.to_string())
        })?;
        Ok(rwset.and_then(|rwset| {
            let gone = write.gone_from(&rwset, sha256).ok()?;
            Some(Left { rwset, gone })
        }))
    }

    /// Those of these write sets with another hash than the block's that are what is left of what
    /// it names. Who gave what is worthless is said to have done so.
    pub(super) fn left_of(
        &self,
        found: Vec<Found>,
        inputs: &mpsc::Sender<Input>,
    ) -> Result<Vec<(Place, Left)>, String> {
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
                payload: rwset,
                from,
                ..
            } in found
            {
                let place = super::keeper::place(digest);
                match self.judge(writes.get(&place), number, &rwset)? {
                    Judged::Left(gone) => left.push((place, Left { rwset, gone })),
                    Judged::Unknown => {}
                    Judged::Worthless(reason) => {
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

    /// Whether these bytes are a write set without keys that are noted.
    fn judge(
        &self,
        write: Option<&PrivateWrites>,
        number: u64,
        rwset: &[u8],
    ) -> Result<Judged, String> {
        let Some(write) = write else {
            return Ok(Judged::Worthless("the block does not name it".to_owned()));
        };
        let gone = match write.gone_from(rwset, sha256) {
            Ok(gone) => gone,
            Err(reason) => return Ok(Judged::Worthless(reason.to_string())),
        };
        if gone.is_subset(&self.noted(number, write)?) {
            return Ok(Judged::Left(gone));
        }
        if self.is_noted_in_part(number, write)? {
            return Ok(Judged::Unknown);
        }
        let reason = "it lacks a key that nobody has purged".to_owned();
        Ok(Judged::Worthless(reason))
    }

    /// What was noted of these blocks, in one line: anybody who may submit can write any number of
    /// such transactions.
    pub(crate) fn tell_purges(&self, accounts: &[PrivateBlock]) {
        let mut transactions = BTreeSet::new();
        let (mut keys, mut keys_left_out) = (0, 0_u64);
        for account in accounts {
            let purges = account.purges.iter();
            transactions.extend(purges.map(|purge| (account.number, purge.tx)));
            keys += account.purges.len() as u64;
            keys_left_out += account.left_out.values().sum::<u64>();
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
                transactions = transactions.len(), keys, keys_left_out, left_out,
                "transactions say that keys of private data are to be forgotten, of which this is \
                 the first; whether they are valid is not known here: nothing is deleted until \
                 `tidings privdata purge -c {} --block {block} --tx {tx}`", self.channel
            );
        }
    }
}

/// What an answer with another hash is.
enum Judged {
    /// What is left without these keys.
    Left(BTreeSet<[u8; 32]>),
    /// It lacks keys that may have been left out when keys were noted: neither taken nor blamed.
    Unknown,
    /// It is not that, for this reason.
    Worthless(String),
}

/// A key by chaincode, collection, and hash.
type Key = (Arc<str>, Arc<str>, [u8; 32]);

/// What the transactions of a block say is to be forgotten.
#[derive(Default)]
pub(super) struct Notes(BTreeMap<u64, BTreeSet<Key>>);

impl Notes {
    /// Adds what a write set says.
    pub(super) fn add(&mut self, write: &PrivateWrites) {
        let keys = write.hashed_writes().filter(|write| write.is_purge);
        for key in keys.filter_map(|write| <[u8; 32]>::try_from(&write.key_hash[..]).ok()) {
            let (namespace, collection) =
                (Arc::clone(&write.namespace), Arc::clone(&write.collection));
            let keys = self.0.entry(write.tx).or_default();
            keys.insert((namespace, collection, key));
        }
    }

    /// What is noted of it, and how many keys of which transaction are not.
    pub(super) fn share(self) -> (Vec<KeyPurge>, BTreeMap<u64, u64>) {
        let share = share(self.0.values().map(BTreeSet::len).collect());
        let (mut purges, mut left_out) = (Vec::new(), BTreeMap::new());
        for (tx, keys) in self.0 {
            let beyond = keys.len().saturating_sub(share) as u64;
            if beyond > 0 {
                left_out.insert(tx, beyond);
            }
            let noted = keys.into_iter().take(share);
            purges.extend(noted.map(|(namespace, collection, key_hash)| KeyPurge {
                tx,
                namespace: namespace.to_string(),
                collection: collection.to_string(),
                key_hash,
            }));
        }
        (purges, left_out)
    }
}

/// How many keys of one transaction are noted at most.
fn share(mut lens: Vec<usize>) -> usize {
    lens.sort_unstable();
    let mut room = NOTED_MAX;
    for (at, len) in lens.iter().enumerate() {
        let rest = lens.len() - at;
        if len.saturating_mul(rest) > room {
            return (room / rest).max(1);
        }
        room -= len;
    }
    usize::MAX
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
                        let touched = stores.committed.touched(&purge, last_block, &mut bytes);
                        touched.map_err(failed)?
                    }
                    _ => Touched::default(),
                };
                purges.push(ListedPurge { purge, touched });
            }
            Ok(PurgePage { purges, next })
        })
    }

    /// Forgets what a transaction says is to be forgotten, for good; says what that did. Whoever
    /// calls this says that the transaction is valid.
    pub fn purge(&self, block: u64, tx: u64) -> Result<Purged, String> {
        self.0.apply_purge(block, tx)
    }
}
