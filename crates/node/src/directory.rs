//! The channels of a node that can be read, as they are now.
//!
//! Whoever serves blocks to others than peers finds them here. Promises nothing that is not
//! committed. A channel that is being left is no longer listed, and the watch of its height ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tidings_gossip::id::ChannelId;
use tidings_ledger::Reader;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{private::Vault, validity::Validity};

/// The channels that were joined into ledgers of ours. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<RwLock<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    channels: BTreeMap<ChannelId, Arc<Served>>,
    /// How many were ever opened.
    opened: u64,
}

/// A channel that can be read.
#[derive(Debug)]
pub struct Served {
    /// Its name.
    pub channel: ChannelId,
    /// Its blocks.
    pub blocks: Reader,
    /// How many there are. Ends when the channel is left.
    pub height: watch::Receiver<u64>,
    /// What peers say of its validity, if they are asked.
    pub validity: Option<Arc<Validity>>,
    /// Its private data.
    pub(crate) vault: Arc<Vault>,
    /// Which opening this is: a channel that is left and joined again has another.
    pub(crate) serial: u64,
}

impl Served {
    /// Below which of the `have` committed blocks a client may be given those from `next` on: as soon
    /// as peers agree on the codes of that one, or it has been kept back for long enough.
    pub(crate) async fn ready_below(&self, next: u64, have: u64) -> u64 {
        let Some(validity) = &self.validity else {
            return have;
        };
        loop {
            let changes = validity.changes();
            match validity.ready_below(next, have, Instant::now()) {
                Ok(end) => return end,
                Err(until) => tokio::select! {
                    () = changes => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }
}

impl Directory {
    /// A channel by its name.
    pub fn channel(&self, name: &str) -> Option<Arc<Served>> {
        self.read().channels.get(&ChannelId::from(name)).cloned()
    }

    /// All of them, by name.
    pub fn channels(&self) -> Vec<Arc<Served>> {
        self.read().channels.values().cloned().collect()
    }

    /// Lists a channel.
    pub(crate) fn open(
        &self,
        channel: ChannelId,
        blocks: Reader,
        height: watch::Receiver<u64>,
        vault: Arc<Vault>,
        validity: Option<Arc<Validity>>,
    ) {
        let mut listed = self.write();
        listed.opened += 1;
        let served = Served {
            channel: channel.clone(),
            blocks,
            height,
            validity,
            vault,
            serial: listed.opened,
        };
        listed.channels.insert(channel, Arc::new(served));
    }

    /// Lists it no longer.
    pub(crate) fn close(&self, channel: &ChannelId) {
        self.write().channels.remove(channel);
    }

    // Each change is one step, so a poisoned lock is as good as any.
    fn read(&self) -> RwLockReadGuard<'_, Listed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Listed> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
