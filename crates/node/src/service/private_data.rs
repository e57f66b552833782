//! The private data of a node's channels, for its owner.

use std::sync::Arc;

use tidings_gossip::id::ChannelId;
use tokio::sync::oneshot;

use super::{RunningNode, StartRefused};
use crate::{
    driver::Request,
    private::{self, DistributeRefused, Handout, PrivateData, PrivateParts},
    serve::Blocks,
};

impl RunningNode {
    /// The private data of a channel that was joined.
    pub fn private_data(&self, channel: &ChannelId) -> Option<PrivateData> {
        self.vaults.get(channel).cloned().map(PrivateData)
    }

    /// Hands private write sets of a transaction to other members, as their collections demand,
    /// and keeps our own copies. Says how many confirmations there were. To be called before the
    /// transaction is ordered, by whoever endorses it.
    pub async fn distribute(
        &self,
        channel: &ChannelId,
        tx_id: &str,
        handouts: &[Handout],
    ) -> Result<usize, DistributeRefused> {
        let vault = self.vaults.get(channel);
        let vault = vault.ok_or_else(|| DistributeRefused::NotJoined(channel.clone()))?;
        let distribution = vault.distribution(tx_id, handouts)?;
        let copies = private::own_copies(&distribution);
        let (done, outcome) = oneshot::channel();
        self.requests
            .send(Request::Distribute(distribution, done))
            .await
            .map_err(|_gone| DistributeRefused::Stopping)?;
        let outcome = outcome.await.map_err(|_gone| DistributeRefused::Stopping)?;
        let confirmed = outcome.map_err(DistributeRefused::TooFew)?;
        let stored = self.tasks.spawn_blocking({
            let vault = Arc::clone(vault);
            move || vault.keep_own(copies)
        });
        let stored = stored.await.map_err(|_gone| DistributeRefused::Stopping)?;
        stored.map_err(DistributeRefused::Own)?;
        Ok(confirmed)
    }

    /// Opens the stores of private data of a channel whose configuration is in force.
    pub(super) async fn open_private(
        &self,
        channel: &ChannelId,
        height: u64,
        blocks: &Arc<dyn Blocks>,
    ) -> Result<PrivateParts, StartRefused> {
        let config = self.crypto.config(channel).ok_or(StartRefused::Stopping)?;
        let surroundings = private::Surroundings {
            channel: channel.clone(),
            me: Arc::clone(&self.me.identity),
            crypto: Arc::clone(&self.crypto),
            blocks: Arc::clone(blocks),
            height,
            private: self.private.clone(),
        };
        let (dir, inputs) = (private::dir(&self.data_dir, channel), self.control.clone());
        let open = move || PrivateParts::open(&dir, surroundings, &config, &inputs);
        let opened = self.tasks.spawn_blocking(open).await;
        opened.map_err(|_broke_off| StartRefused::Stopping)?
    }
}
