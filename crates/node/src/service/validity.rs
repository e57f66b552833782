//! What peers say of the validity of transactions, for each channel.

use std::sync::Arc;

use tidings_gossip::id::ChannelId;
use tidings_ledger::Reader;
use tokio::sync::watch;

use super::{RunningNode, StartRefused};
use crate::validity::{self, Follow, Validity};

impl RunningNode {
    /// Has peers of a channel heard, if the operator wants that.
    pub(super) async fn follow_validity(
        &mut self,
        channel: &ChannelId,
        blocks: Reader,
        height: watch::Receiver<u64>,
    ) -> Result<Option<Arc<Validity>>, StartRefused> {
        if self.validity.organizations == 0 {
            return Ok(None);
        }
        let validity = match self.validities.get(channel) {
            // Of a channel that was left clients may still hold it, so it is not opened again.
            Some(open) => Arc::clone(open),
            None => Arc::new(self.open_validity(channel.clone()).await?),
        };
        self.validities
            .insert(channel.clone(), Arc::clone(&validity));
        self.warn_of_too_few(channel);
        let begun = validity.begin(blocks.height());
        begun.map_err(|reason| StartRefused::Validity(channel.clone(), reason))?;
        let follow = Follow {
            validity: Arc::clone(&validity),
            channel: channel.clone(),
            crypto: Arc::clone(&self.crypto),
            tls: self.certificates.tls.clone(),
            connect_timeout: self.deliver.settings.connect_timeout,
            settings: self.validity,
            blocks,
            height,
            status: self.status.clone(),
            tasks: self.tasks.clone(),
        };
        self.tasks.spawn(follow.run());
        Ok(Some(validity))
    }

    /// Who wants more organizations to agree than there are is never told of a valid transaction.
    fn warn_of_too_few(&self, channel: &ChannelId) {
        let config = self.crypto.config(channel);
        let there = config.map(|config| config.application_organizations().len());
        let wanted = self.validity.organizations;
        if let Some(there) = there.filter(|there| *there < wanted) {
            tracing::warn!(
                target: "validity", %channel,
                "validity.organizations is {wanted}, and the channel has {there}: nothing can be agreed"
            );
        }
    }

    async fn open_validity(&self, channel: ChannelId) -> Result<Validity, StartRefused> {
        let (data_dir, vitals) = (self.data_dir.clone(), self.vitals.clone());
        let wanted = self.validity.organizations;
        let open = move || validity::open(&data_dir, channel, wanted, vitals);
        let opened = self.tasks.spawn_blocking(open).await;
        Ok(opened.map_err(|_broke_off| StartRefused::Stopping)??)
    }
}
