//! Questions about private data, answered by the node's end of the socket.

use anyhow::{Error, Result};
use serde::{Deserialize, Serialize};
use tidings_ledger::private::{PurgeState, Why};
use tidings_node::private::{Listed, ListedPurge, Presence, PrivateData};

/// Some private write sets.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    /// In the order of their places.
    pub(crate) sets: Vec<PrivateSet>,
    /// The block and transaction to go on from, if there are more.
    pub(crate) next: Option<(u64, u64)>,
}

/// A private write set that a block names.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PrivateSet {
    /// The block.
    pub(crate) block: u64,
    /// The transaction's position in it.
    pub(crate) transaction: u64,
    /// The chaincode.
    pub(crate) namespace: String,
    /// Its collection.
    pub(crate) collection: String,
    /// SHA-256 in hex: of what is here, or what it must be.
    pub(crate) hash: String,
    /// `held`, `trimmed` (held without keys that were purged), `missing`, or `not ours`.
    pub(crate) state: String,
    /// Bytes of what is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// Why it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// The block with which it is no longer to be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<u64>,
}

/// Some purges that are noted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PurgePage {
    /// Oldest first.
    pub(crate) purges: Vec<Purge>,
    /// The block and transaction to go on from, if there are more.
    pub(crate) next: Option<(u64, u64)>,
}

/// A transaction that says that keys are to be forgotten.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Purge {
    /// The block.
    pub(crate) block: u64,
    /// The transaction's position in it.
    pub(crate) transaction: u64,
    /// `validity unknown`, `being applied`, or `applied`.
    pub(crate) state: String,
    /// Write sets that are held and have one of the keys; if it is applied, or is being applied,
    /// those that were changed.
    pub(crate) write_sets: u64,
    /// There may be more of them: there was too much to look through.
    pub(crate) at_least: bool,
    /// Keys that it names beyond those that are noted here. Nothing purges them.
    pub(crate) keys_left_out: u64,
    /// How many keys, by collection.
    pub(crate) collections: Vec<PurgedKeys>,
}

/// Keys of a collection.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PurgedKeys {
    /// The chaincode.
    pub(crate) namespace: String,
    /// Its collection.
    pub(crate) collection: String,
    /// How many keys.
    pub(crate) keys: u64,
}

/// One page of purges. Waits for the disk.
pub(super) fn purges(data: &PrivateData, from: (u64, u64)) -> Result<PurgePage> {
    let page = data.purges(from).map_err(Error::msg)?;
    Ok(PurgePage {
        purges: page.purges.into_iter().map(Purge::from).collect(),
        next: page.next,
    })
}

impl From<ListedPurge> for Purge {
    fn from(listed: ListedPurge) -> Self {
        let ListedPurge { purge, touched } = listed;
        let (state, write_sets) = match purge.state {
            PurgeState::Noted => ("validity unknown", touched.sets),
            PurgeState::Begun(changed) => ("being applied", changed),
            PurgeState::Done(changed) => ("applied", changed),
        };
        let collections = purge.collections.into_iter().map(|of| PurgedKeys {
            namespace: of.namespace,
            collection: of.collection,
            keys: of.keys,
        });
        Self {
            block: purge.block,
            transaction: purge.tx,
            state: state.to_owned(),
            write_sets,
            at_least: touched.is_cut,
            keys_left_out: purge.left_out,
            collections: collections.collect(),
        }
    }
}

/// One page of what is held and missing. Waits for the disk.
pub(super) fn list(data: &PrivateData, from: (u64, u64)) -> Result<Page> {
    let page = data.list(from).map_err(Error::msg)?;
    Ok(Page {
        sets: page.sets.into_iter().map(PrivateSet::from).collect(),
        next: page.next,
    })
}

impl From<Listed> for PrivateSet {
    fn from(listed: Listed) -> Self {
        let (state, size, why) = match listed.state {
            Presence::Held(len) => ("held", Some(len), None),
            Presence::Trimmed(len) => ("trimmed", Some(len), None),
            Presence::Missing(Why::NotEntitled) => ("not ours", None, None),
            Presence::Missing(why) => ("missing", None, Some(why.to_string())),
        };
        Self {
            block: listed.place.block,
            transaction: listed.place.tx,
            namespace: listed.place.namespace,
            collection: listed.place.collection,
            hash: hex::encode(listed.hash),
            state: state.to_owned(),
            size,
            why,
            expires_at: listed.expires_at,
        }
    }
}
