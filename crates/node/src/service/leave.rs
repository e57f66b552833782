//! Leaving a channel, and coming back to the ledger that was kept.
//!
//! Promises: once leaving has succeeded no start is in the channel, whatever happens; its ledger is
//! closed and as it was; and what we say last, that we left, is still sent over connections that
//! only this channel justifies, before they end.

use std::{sync::Arc, time::Duration};

use tidings_gossip::{Input, id::ChannelId};
use tidings_ledger::Ledger;
use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::block::BlockView;
use tokio::sync::{mpsc, oneshot};

use super::{LeaveRefused, RunningNode, StartRefused, chains};
use crate::{crypto::Crypto, driver::Request, history::config_in_force, tls::Tls};

/// For the last words on a channel: a burst of the emitter, a dial (3 s) and a handshake (2 s), as
/// they are by default.
const FAREWELL: Duration = Duration::from_secs(5);

impl RunningNode {
    /// Leaves a channel: says so to its peers, takes no further part, and closes its ledger, which
    /// stays where it is. The next start is not in the channel; [`Self::join`] goes on with the
    /// ledger. Whoever gives up waiting has left all the same from the next start on, and until
    /// then may leave again.
    pub async fn leave(&mut self, channel: &ChannelId) -> Result<(), LeaveRefused> {
        if !self.joined.contains(channel) {
            if self.has_left(channel) {
                return Err(LeaveRefused::LeftBefore(channel.clone()));
            }
            return Err(LeaveRefused::NotJoined(channel.clone()));
        }
        if self.directory.channel(channel.as_str()).is_some() {
            // First of all: what cannot be noted must not be half done.
            let path = chains::dir(&self.data_dir, channel.as_str());
            chains::mark_left(&path).map_err(|source| LeaveRefused::Mark { path, source })?;
        }
        self.directory.close(channel);
        let (done, parts) = oneshot::channel();
        let remove = Request::RemoveChannel(channel.clone(), done);
        self.requests
            .send(remove)
            .await
            .map_err(|_gone| LeaveRefused::Stopping)?;
        let parts = parts.await.map_err(|_gone| LeaveRefused::Stopping)?;
        if let Some(parts) = parts {
            // What it still writes may change the configuration, and tell the core: before it
            // hears that we leave.
            let closed = self.tasks.spawn_blocking(|| parts.finish()).await;
            if closed.is_err() {
                tracing::error!(target: "ledger", %channel, "closing the ledger panicked");
            }
        }
        self.control
            .send(Input::Leave(channel.clone()))
            .await
            .map_err(|_gone| LeaveRefused::Stopping)?;
        self.vaults.remove(channel);
        self.followed.remove(channel);
        self.private.registries.remove(channel);
        self.joined.remove(channel);
        self.vitals.forget_channel(channel);
        if let Some(config) = self.crypto.config(channel) {
            self.left.insert(channel.clone(), config.sequence());
            self.tasks.spawn(unload(
                config,
                Arc::clone(&self.crypto),
                self.certificates.tls.clone(),
                self.control.clone(),
            ));
        }
        tracing::info!(target: "peer.channel", %channel, "the node left the channel");
        Ok(())
    }

    /// Whether the channel was left and its ledger is kept.
    pub fn has_left(&self, channel: &ChannelId) -> bool {
        let name = channel.as_str();
        chains::is_name(name) && chains::is_left(&chains::dir(&self.data_dir, name))
    }

    /// The configuration at the end of a ledger that is there already, if `genesis` is what it
    /// begins with: of a channel that was left, or that we were not in when we started.
    pub(super) fn resume(
        &self,
        channel: &ChannelId,
        ledger: &Ledger,
        genesis: &BlockView,
    ) -> Result<ChannelConfig, StartRefused> {
        let reader = ledger.reader();
        let path = || chains::dir(&self.data_dir, channel.as_str());
        let broken = |reason| StartRefused::Channel {
            path: path(),
            reason,
        };
        let first = reader.block(0).map_err(|error| broken(error.to_string()))?;
        if first.and_then(|block| block.header_asn1()) != genesis.header_asn1() {
            return Err(StartRefused::OtherChain { path: path() });
        }
        let config = config_in_force(&reader).map_err(broken)?;
        self.check_new(&config)?;
        Ok(config)
    }
}

/// After the last words nobody is trusted for the sake of this configuration any more, unless the
/// channel was joined again in the meantime.
async fn unload(
    config: Arc<ChannelConfig>,
    crypto: Arc<Crypto>,
    tls: Option<Tls>,
    control: mpsc::Sender<Input>,
) {
    tokio::select! {
        () = tokio::time::sleep(FAREWELL) => {}
        () = control.closed() => return,
    }
    if !crypto.uninstall(&config) {
        return;
    }
    if let Some(tls) = tls
        && let Err(error) = tls.replace_channel_roots(|| crypto.peer_tls_roots())
    {
        tracing::error!(target: "comm.tls", "TLS roots stay as they were: {error}");
    }
    for peer in crypto.revalidate() {
        // Nobody listening means that the node is going down.
        let _ = control.send(Input::Revoked(peer)).await;
    }
}

#[cfg(test)]
mod tests {
    use tidings_gossip::Verifier as _;

    use super::*;
    use crate::commit::tests::{
        crypto,
        material::{CHANNEL, Material},
    };

    #[tokio::test(start_paused = true)]
    async fn who_was_trusted_for_the_channels_sake_is_not_for_long() {
        let material = Material::new();
        let (crypto, channel) = (crypto(&material), ChannelId::from(CHANNEL));
        let config = crypto.config(&channel).unwrap();
        let known = |member: &str, org: &Arc<Crypto>| {
            let identity = material.org2.member(member, "peer").identity;
            org.remember(&org.validate(&identity).unwrap()).unwrap()
        };
        let foreign = known("peer0", &crypto);
        let own = crypto.validate(&material.peer1.identity).unwrap();
        let own = crypto.remember(&own).unwrap();
        let (control, mut heard) = mpsc::channel(8);
        let unload = || unload(config.clone(), Arc::clone(&crypto), None, control.clone());

        crypto.install(Arc::new(ChannelConfig::clone(&config)));
        unload().await;
        assert!(heard.try_recv().is_err(), "it was joined again");
        assert!(crypto.config(&channel).is_some());

        crypto.install(config.clone());
        unload().await;
        let Ok(Input::Revoked(revoked)) = heard.try_recv() else {
            panic!("somebody is not trusted any more");
        };
        assert_eq!(revoked, foreign.pki_id);
        assert!(heard.try_recv().is_err());
        assert!(crypto.config(&channel).is_none());
        assert!(crypto.validate(&foreign.serialized).is_err());
        assert!(crypto.known(&own.pki_id).is_some());
    }
}
