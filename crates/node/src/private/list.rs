//! What a node has and lacks of the private data of a channel, set by set, for its operator.

use std::collections::BTreeMap;

use tidings_ledger::{
    StoreError,
    private::{Account, Content, Left, MissingSet, Place, Queue, Why},
};
use tidings_msp::crypto::sha256;
use tidings_proto::block::BlockView;

use super::vault::{PrivateData, Vault};

/// Write sets of one page, so that no question keeps an operator waiting. A page ends behind a
/// transaction, so that it may hold some more.
const PAGE_LEN: usize = 1024;

/// A write set that a block of the ledger names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it belongs.
    pub place: Place,
    /// The SHA-256 of the bytes that are here, or what the block says it must be.
    pub hash: Vec<u8>,
    /// Whether it is here.
    pub state: Presence,
    /// The first block with which it is no longer to be had, if there is one.
    pub expires_at: Option<u64>,
}

/// Whether a write set is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// So many bytes of it.
    Held(u64),
    /// So many bytes that are left of it, since keys were purged.
    Trimmed(u64),
    /// It is not.
    Missing(Why),
}

/// Some write sets, and the block and transaction to go on from if there are more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of their places.
    pub sets: Vec<Listed>,
    /// Where the next page begins.
    pub next: Option<(u64, u64)>,
}

impl PrivateData {
    /// What is missing, at most `limit` write sets, in the order in which they are asked for: those
    /// that were not tried yet, newest block first; then the others, going on where the last list
    /// of them ended.
    pub fn missing(&self, limit: usize) -> Result<Vec<MissingSet>, String> {
        let (last_block, tried_from) = (self.0.last_block(), self.0.tried_from());
        self.0.with(|stores| {
            let parts = [
                (Queue::Eligible, last_block, None),
                (Queue::Deprioritized, tried_from, None),
                (Queue::Deprioritized, last_block, Some(tried_from)),
            ];
            let mut found = Vec::new();
            for (queue, from, above) in parts {
                let missing = stores.committed.missing(queue, from);
                for set in missing.map_err(|error| error.to_string())? {
                    let set = set.map_err(|error| error.to_string())?;
                    if found.len() >= limit {
                        return Ok(found);
                    }
                    if above.is_some_and(|above| set.place.block <= above) {
                        break;
                    }
                    if set.expires_at.is_none_or(|end| end > last_block) {
                        found.push(set);
                    }
                }
            }
            Ok(found)
        })
    }

    /// What is held and missing, oldest first, from this block and transaction on. What has expired
    /// is not there any more.
    pub fn list(&self, from: (u64, u64)) -> Result<Page, String> {
        let vault = &self.0;
        let last_block = vault.last_block();
        vault.with(|stores| {
            let accounts = stores.committed.accounts(from, last_block);
            let accounts = accounts.map_err(|error| error.to_string())?;
            let mut promises = Promises::default();
            page(accounts, |account| listed(vault, &mut promises, account))
        })
    }
}

/// The first of these, as many as a page takes.
fn page(
    accounts: impl Iterator<Item = Result<Account, StoreError>>,
    mut listed: impl FnMut(Account) -> Result<Listed, String>,
) -> Result<Page, String> {
    let mut sets: Vec<Listed> = Vec::new();
    for account in accounts {
        let account = account.map_err(|error| error.to_string())?;
        let at = (account.place.block, account.place.tx);
        let is_further = |last: &Listed| (last.place.block, last.place.tx) != at;
        if sets.len() >= PAGE_LEN && sets.last().is_some_and(is_further) {
            let next = Some(at);
            return Ok(Page { sets, next });
        }
        sets.push(listed(account)?);
    }
    Ok(Page { sets, next: None })
}

fn listed(vault: &Vault, promises: &mut Promises, account: Account) -> Result<Listed, String> {
    let Account {
        place,
        content,
        expires_at,
    } = account;
    let (hash, state) = match content {
        Content::Held(rwset) => (sha256(&rwset).to_vec(), Presence::Held(len(&rwset))),
        Content::Trimmed(Left { rwset, .. }) => {
            (sha256(&rwset).to_vec(), Presence::Trimmed(len(&rwset)))
        }
        Content::Missing(why) => {
            let hash = promises.of(vault, &place)?;
            (hash, Presence::Missing(why))
        }
    };
    Ok(Listed {
        place,
        hash,
        state,
        expires_at,
    })
}

fn len(rwset: &[u8]) -> u64 {
    u64::try_from(rwset.len()).unwrap_or(u64::MAX)
}

/// What one block says that hashes must be, since whatever is missing of a block comes together.
#[derive(Default)]
struct Promises {
    block: Option<u64>,
    hashes: BTreeMap<(u64, String, String), Vec<u8>>,
}

impl Promises {
    fn of(&mut self, vault: &Vault, place: &Place) -> Result<Vec<u8>, String> {
        if self.block != Some(place.block) {
            // Of what was pruned nobody can say it any more.
            let block = vault.block_if_kept(place.block)?;
            let writes = block
                .iter()
                .flat_map(BlockView::private_writes)
                .map(|write| {
                    let (namespace, collection) =
                        (write.namespace.to_string(), write.collection.to_string());
                    ((write.tx, namespace, collection), write.hash.to_vec())
                });
            self.hashes = writes.collect();
            self.block = Some(place.block);
        }
        let name = (place.tx, place.namespace.clone(), place.collection.clone());
        Ok(self.hashes.get(&name).cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(places: &[(u64, u64)]) -> Vec<usize> {
        let mut from = Some((0, 0));
        let mut pages = Vec::new();
        while let Some(start) = from {
            let accounts = places.iter().filter(|place| **place >= start);
            let accounts = accounts.map(|&(block, tx)| {
                Ok(Account {
                    place: Place {
                        block,
                        tx,
                        namespace: "cc".into(),
                        collection: "c".into(),
                    },
                    content: Content::Missing(Why::Absent),
                    expires_at: None,
                })
            });
            let page = page(accounts, |account| {
                Ok(Listed {
                    place: account.place,
                    hash: Vec::new(),
                    state: Presence::Missing(Why::Absent),
                    expires_at: None,
                })
            });
            let page = page.unwrap();
            pages.push(page.sets.len());
            from = page.next;
        }
        pages
    }

    #[test]
    fn a_page_ends_behind_the_transaction_that_fills_it() {
        let each = |number: usize| (0..number as u64).map(|n| (n / 3, n)).collect::<Vec<_>>();
        assert_eq!(pages(&[]), [0]);
        assert_eq!(pages(&each(PAGE_LEN)), [PAGE_LEN]);
        assert_eq!(pages(&each(PAGE_LEN + 1)), [PAGE_LEN, 1]);
        let large = vec![(1, 0); PAGE_LEN + 2];
        assert_eq!(pages(&large), [PAGE_LEN + 2], "one is never divided");
        let behind = [large, vec![(1, 1), (2, 0)]].concat();
        assert_eq!(pages(&behind), [PAGE_LEN + 2, 2]);
    }
}
