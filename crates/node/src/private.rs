//! Private data of a channel: keeping what is pushed, committing blocks with what they wrote in
//! private, giving members what they ask for, fetching what is missing.
//!
//! Promises: a push is confirmed after it is on disk; a block is in the ledger only after its
//! private data, or the note that it is missing, is; data is given to whom a definition admits
//! that its organizations are proven to have agreed to, and to nobody else. The disk is never
//! touched from the task of the core, nor from those of connections. Knows nothing of how peers
//! are found and asked: that is [`tidings_gossip::privdata`].
//!
//! ```text
//! StorePrivate ─► pushes ─► transient store ─► PrivateStored (and only then the Ack)
//! Commit ─► window: came along? prepared before? transient? ─► PrivateWanted ─► core ─► PrivateGathered
//!        ─► writer: private store ─► ledger ─► registry ─► keeper: purge, expire
//! ListMissing ─► keeper ─► PrivateWanted ─► core ─► PrivateGathered ─► keeper: fill
//! ServePrivate, ServeBlocks ─► serve: registry, handshake of who asks ─► stores ─► reply
//! ```
//!
//! Rules: docs/protocol/private.md, private-stores.md, collections.md.

mod catch_up;
mod clients;
mod copy;
mod disk;
mod distribute;
mod keeper;
mod list;
mod policy;
mod purges;
mod pushes;
mod registry;
mod serve;
mod vault;
mod window;

use std::{path::Path, sync::Arc};

use tidings_gossip::{Connection, Input, PvtDataConfig, id::ChannelId};
use tidings_msp::channel_config::ChannelConfig;
use tokio::sync::mpsc;

pub(crate) use self::{
    clients::for_client,
    distribute::own_copies,
    keeper::{Chore, Commits, Keeper},
    policy::{Judge, Registries},
    pushes::Pushes,
    serve::{PrivateAsk, response, to_go_along},
    vault::{Surroundings, Vault},
    window::{Ready, Window},
};
pub use self::{
    distribute::{DistributeRefused, Handout},
    list::{Listed, Page, Presence},
    purges::{ListedPurge, PurgePage},
    vault::PrivateData,
};
use crate::{metrics::Metrics, service::StartRefused};

/// The private data of a channel at work.
pub(crate) struct PrivateParts {
    pub(crate) vault: Arc<Vault>,
    pub(crate) pushes: Pushes,
    pub(crate) keeper: Keeper,
}

impl PrivateParts {
    /// Opens the stores below `dir` and catches up with the ledger. Takes as long as the disk does.
    pub(crate) fn open(
        dir: &Path,
        surroundings: Surroundings,
        config: &Arc<ChannelConfig>,
        inputs: &mpsc::Sender<Input>,
    ) -> Result<Self, StartRefused> {
        let vault = Arc::new(Vault::open(dir, surroundings, config)?);
        let thread = |error| StartRefused::Write(format!("no thread for private data: {error}"));
        let pushes = Pushes::start(Arc::clone(&vault), inputs.clone()).map_err(thread)?;
        let keeper = Keeper::start(Arc::clone(&vault), inputs.clone()).map_err(thread)?;
        Ok(Self {
            vault,
            pushes,
            keeper,
        })
    }

    /// Does what is queued and closes the stores. To be called after the writer has ended.
    pub(crate) fn finish(self) {
        self.pushes.finish();
        self.keeper.finish();
        self.vault.close();
    }
}

/// What a node as a whole has of private data.
#[derive(Clone, Debug)]
pub(crate) struct PrivateSettings {
    pub(crate) settings: PvtDataConfig,
    pub(crate) registries: Registries,
    pub(crate) metrics: Metrics,
}

/// Where the private data of a channel lies below the data folder.
pub(crate) fn dir(data_dir: &Path, channel: &ChannelId) -> std::path::PathBuf {
    data_dir.join("private").join(channel.as_str())
}

/// By what somebody at the other end of a stream may have data: what he signed at the handshake.
fn evidence(connection: &Connection) -> tidings_msp::policy::SignedDatum<'_> {
    use std::borrow::Cow::Borrowed;
    tidings_msp::policy::SignedDatum {
        message: Borrowed(&connection.handshake.payload),
        identity: Borrowed(&connection.identity.serialized),
        signature: Borrowed(&connection.handshake.signature),
    }
}

#[cfg(test)]
pub(crate) mod tests;
