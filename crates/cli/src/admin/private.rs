//! Questions about private data, answered by the node's end of the socket.

use anyhow::{Error, Result};
use serde::{Deserialize, Serialize};
use tidings_ledger::private::Why;
use tidings_node::private::{Listed, Presence, PrivateData};

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
    /// `held`, `missing`, or `not ours`.
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
