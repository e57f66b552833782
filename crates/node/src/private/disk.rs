//! Write sets of blocks that are on disk before the block is: pushed, or prepared for the block
//! before a crash.
//!
//! Promises that whatever a block names costs one look each, that what is read at a time is
//! bounded, and that what others pushed under the same transaction id is not touched.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    time::Instant,
};

use bytes::Bytes;
use tidings_msp::crypto::sha256;
use tidings_proto::block::PrivateWrites;

use super::vault::{CopyName, Name, Stores, Vault, name_of, place_of};
use crate::logging::Seldom;

static UNREADABLE: Seldom = Seldom::new();

/// What was found of a block.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    pub(super) found: BTreeMap<Name, Bytes>,
    /// Not looked for, since enough was found.
    pub(super) left: BTreeSet<Name>,
}

impl Vault {
    /// Those of these write sets of a block that are on disk, until they have so many bytes: what
    /// a block names is up to strangers, and may be the same large copy many times.
    pub(super) fn on_disk(
        &self,
        number: u64,
        writes: &[&PrivateWrites],
        bytes_max: usize,
    ) -> Result<OnDisk, String> {
        let mut all = OnDisk::default();
        let (mut bytes, mut copies) = (0, BTreeMap::new());
        self.with(|stores| {
            for write in writes {
                let name = name_of(write);
                let Some(copy) = CopyName::of(write) else {
                    continue;
                };
                if bytes >= bytes_max {
                    all.left.insert(name);
                    continue;
                }
                // A block may hold two transactions with one id.
                let rwset = match copies.entry(copy) {
                    btree_map::Entry::Occupied(known) => Option::clone(known.get()),
                    btree_map::Entry::Vacant(new) => {
                        let pushed = self.pushed(stores, new.key());
                        new.insert(pushed).clone()
                    }
                };
                let rwset = match rwset {
                    Some(rwset) => Some(rwset),
                    None => prepared(stores, number, write)?,
                };
                if let Some(rwset) = rwset {
                    bytes += rwset.len();
                    all.found.insert(name, rwset);
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// What was pushed can be had from others, too: what cannot be read is not there.
    fn pushed(&self, stores: &Stores, name: &CopyName) -> Option<Bytes> {
        let copy = stores.transient.copy(name.set(), &name.hash);
        let copy = copy.unwrap_or_else(|error| {
            if let Some(left_out) = UNREADABLE.line(Instant::now()) {
                tracing::error!(
                    target: "gossip.privdata", channel = %self.channel, left_out,
                    "cannot read what was pushed, and asks others for it: {error}"
                );
            }
            None
        });
        copy.filter(|copy| sha256(copy) == name.hash)
    }
}

fn prepared(stores: &Stores, number: u64, write: &PrivateWrites) -> Result<Option<Bytes>, String> {
    let place = place_of(number, write);
    let set = stores.committed.set(&place, number);
    let set = set.map_err(|error| error.to_string())?;
    let rwset = set.map(|set| set.rwset);
    Ok(rwset.filter(|rwset| sha256(rwset)[..] == write.hash[..]))
}
