//! What the stores of private data do not know of the ledger when they are opened.
//!
//! That happens after a crash, after a file was moved away, and with a ledger from before there
//! were these stores. Promises that afterwards the account of every block of the ledger is there,
//! that every definition in it is known, and that what is missing of collections that are ours by
//! now is to be fetched. A block that cannot be read ends the start, since it may hold the
//! definition that takes somebody's data away; where a ledger does not keep a block, as an
//! embedder's need not, nothing counts that it may have changed. What a ledger of ours prunes
//! defines nothing, and is not accounted for again.

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use tidings_ledger::{StoreError, private::PrivateBlock};
use tidings_msp::channel_config::ChannelConfig;

use super::{
    vault::{QUIET_MAX, Vault},
    window::Walked,
};
use crate::{crypto::next_config, history::config_below};

/// Blocks put down together at most while a store catches up with the ledger.
const CATCH_UP_LEN: u64 = 1024;

/// What they say together, with one more block: strangers fill blocks, and all of it is in memory.
const CATCH_UP_ROWS: usize = 65_536;

impl Vault {
    /// Says once at each start what is there, and whether it was made now beside a ledger that is
    /// older.
    pub(super) fn tell_start(&self, dir: &Path) -> Result<(), String> {
        let total = self.backlog()?.total();
        let made = self.with(|stores| {
            let (pushed, kept) = (&stores.transient, &stores.committed);
            Ok((pushed.was_created(), kept.was_created()))
        })?;
        let (channel, folder) = (&self.channel, dir.display());
        let missing = total.eligible + total.deprioritized;
        match made {
            // Of the first block alone: the channel is being joined.
            _ if self.last_block() == 0 => {}
            (_, true) => tracing::warn!(
                target: "gossip.privdata", %channel, %folder, missing,
                "there was no private data beside this ledger, and an empty store was made: what \
                 blocks name for us is missing until other members give it"
            ),
            (true, false) => tracing::warn!(
                target: "gossip.privdata", %channel, %folder,
                "there was no store of pushed private data beside this ledger, and an empty one \
                 was made: what was pushed for blocks to come is asked of other members with them"
            ),
            (false, false) => {}
        }
        tracing::info!(
            target: "gossip.privdata", %channel, held = total.held, missing,
            tried_in_vain = total.deprioritized, not_ours = total.ineligible,
            "private data of the blocks in the ledger"
        );
        Ok(())
    }

    /// Reads what the ledger has that the stores do not know of: after a crash, after a file was
    /// moved away, and of a ledger from before there were these stores.
    pub(super) fn catch_up(&self, config: &Arc<ChannelConfig>) -> Result<(), String> {
        let height = self.height();
        let prepared = self.with(|stores| stores.committed.height().map_err(|e| e.to_string()))?;
        self.prepared.store(prepared.min(height), Ordering::Release);
        self.left_over.store(prepared, Ordering::Release);
        if self.registry.height().min(prepared) < height {
            self.read_again(prepared, config)?;
            self.registry.keep(height).map_err(|e| e.to_string())?;
        }
        self.note_purges()?;
        self.resume_purges()?;
        // Of a definition in the ledger, that may not have been done.
        for chaincode in self.registry.chaincodes() {
            self.entitle(&chaincode)?;
        }
        // What is pruned while nobody listens, or just before a crash.
        self.forget_missing(self.blocks.first())?;
        let last_block = self.last_block();
        let expired = self.with(|stores| {
            let expired = stores.committed.expire(last_block);
            expired.map_err(|error| error.to_string())
        })?;
        if expired > 0 {
            tracing::info!(
                target: "gossip.privdata", channel = %self.channel, expired,
                "removed private data that has reached its end"
            );
        }
        Ok(())
    }

    /// Forgets what is missing of blocks below this one, which are pruned, but for those that are
    /// held: by these it can still be asked for.
    pub(super) fn forget_missing(&self, first: u64) -> Result<(), String> {
        let held = self.defining();
        let forgotten = self.with(|stores| {
            let forgotten = stores.committed.forget_missing(first, &held);
            forgotten.map_err(|error| error.to_string())
        })?;
        if forgotten > 0 {
            tracing::info!(
                target: "gossip.privdata", channel = %self.channel, forgotten, first,
                "forgot what was missing of pruned blocks, for which nobody can be asked any more"
            );
        }
        Ok(())
    }

    /// What the registry has not taken and what was not prepared.
    fn read_again(&self, prepared: u64, config: &Arc<ChannelConfig>) -> Result<(), String> {
        let (height, taken) = (self.height(), self.registry.height());
        let first = taken.min(prepared).max(1);
        let is_kept = Cell::new(true);
        let read = |number| {
            let block = self.block_if_kept(number)?;
            if block.is_none() && number >= self.blocks.first() {
                is_kept.set(false);
                return Err(format!("block {number} is missing"));
            }
            Ok(block)
        };
        let mut config = match config_below(first, read) {
            Ok(config) => Arc::new(config),
            // An embedder may have no blocks from the beginning: then the rules of now have to do.
            Err(_) if !is_kept.get() => Arc::clone(config),
            Err(reason) => return Err(format!("the rules of block {first}: {reason}")),
        };
        if height.saturating_sub(first) > QUIET_MAX {
            tracing::info!(
                target: "gossip.privdata", channel = %self.channel, from = first, height,
                "reading the ledger for definitions and private data"
            );
        }
        let mut accounts: Vec<PrivateBlock> = Vec::new();
        for number in first..height {
            if is_enough(&accounts, number) {
                self.prepare(&std::mem::take(&mut accounts))?;
            }
            let Some(block) = self.block_if_kept(number)? else {
                // One that was pruned defines nothing.
                let is_unknown = number >= taken.max(self.blocks.first());
                if is_unknown && self.registry.forget() {
                    tracing::warn!(
                        target: "gossip.privdata", channel = %self.channel, block = number,
                        "the block is not kept and may define collections: none is known until it \
                         is defined anew"
                    );
                }
                continue;
            };
            if block.is_config_block() {
                if let Ok(Some(next)) = next_config(&config, block.bytes()) {
                    config = Arc::new(next);
                }
                continue;
            }
            let walked = Walked::of(&block);
            if number >= prepared {
                let (have, why) = (BTreeMap::new(), BTreeMap::new());
                accounts.extend(self.account(number, &walked.writes, &have, &why)?);
            }
            if walked.defines && number >= taken {
                self.registry.take(&block, &config);
            }
        }
        if !accounts.is_empty() {
            self.prepare(&accounts)?;
        }
        self.put_down(height, &[])
    }

    /// What transactions want forgotten in blocks that an earlier version put down, which did not
    /// note it.
    fn note_purges(&self) -> Result<(), String> {
        let failed = |error: StoreError| error.to_string();
        let Some((from, to)) = self.with(|stores| stores.committed.to_note().map_err(failed))?
        else {
            return Ok(());
        };
        let to = to.min(self.height());
        let put_down = |accounts: &[PrivateBlock], done| {
            self.with(|stores| stores.committed.note(accounts, done).map_err(failed))
        };
        let mut accounts: Vec<PrivateBlock> = Vec::new();
        for number in from..to {
            if is_enough(&accounts, number) {
                put_down(&std::mem::take(&mut accounts), number)?;
            }
            let Some(block) = self.block_if_kept(number)? else {
                continue;
            };
            let writes = Walked::of(&block).writes;
            let account = self.account(number, &writes, &BTreeMap::new(), &BTreeMap::new())?;
            accounts.extend(account.filter(|account| !account.purges.is_empty()));
        }
        put_down(&accounts, u64::MAX)
    }

    /// What was missing because a collection was not ours is to be fetched when it becomes ours.
    pub(super) fn entitle(&self, namespace: &str) -> Result<(), String> {
        for collection in self.ours(namespace) {
            let entitled = self.with(|stores| {
                let entitled = stores.committed.entitle(namespace, &collection);
                entitled.map_err(|error| error.to_string())
            })?;
            if entitled > 0 {
                tracing::info!(
                    target: "gossip.privdata", channel = %self.channel, namespace,
                    collection, missing = entitled,
                    "our organization is a member of a collection now; its data is to be fetched"
                );
            }
        }
        Ok(())
    }
}

/// Whether these accounts are to be put down before the next block is read.
fn is_enough(accounts: &[PrivateBlock], next: u64) -> bool {
    let begun = accounts.first().map_or(next, |account| account.number);
    let rows = accounts.iter();
    let rows = rows.map(|account| account.entries.len() + account.purges.len());
    next - begun >= CATCH_UP_LEN || rows.sum::<usize>() >= CATCH_UP_ROWS
}

#[cfg(test)]
mod tests {
    use tidings_ledger::private::KeyPurge;

    use super::*;

    fn account(number: u64, keys: usize) -> PrivateBlock {
        let purge = KeyPurge {
            tx: 0,
            namespace: "cc".into(),
            collection: "c".into(),
            key_hash: [7; 32],
        };
        PrivateBlock {
            number,
            entries: Vec::new(),
            purges: vec![purge; keys],
            left_out: BTreeMap::new(),
        }
    }

    #[test]
    fn accounts_are_put_down_before_there_are_too_many_or_they_say_too_much() {
        assert!(!is_enough(&[], 5000));
        assert!(!is_enough(&[account(7, 1)], 7 + CATCH_UP_LEN - 1));
        assert!(is_enough(&[account(7, 1)], 7 + CATCH_UP_LEN));
        let most = [account(7, CATCH_UP_ROWS - 1), account(8, 0)];
        assert!(!is_enough(&most, 9));
        assert!(is_enough(
            &[most, [account(9, 1), account(10, 0)]].concat(),
            11
        ));
    }
}
