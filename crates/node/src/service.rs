//! A node as a whole: started from files, joined to channels, stopped without loss.
//!
//! This is what Fabric calls the gossip service: it puts the core, the transport, delivery and
//! commit together and holds them. It decides nothing.

mod assembly;
mod chains;
mod expiry;
mod incarnation;
mod leave;
mod private_data;
mod refused;
mod validity;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tidings_gossip::{Config, Input, Me, VerifiedBlock, delivery::Event, id::ChannelId};
use tidings_ledger::{Ledger, Reader, Settings};
use tidings_msp::{channel_config::ChannelConfig, services::CryptoServices};
use tidings_proto::block::BlockView;
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, oneshot, watch},
};
use tokio_util::task::TaskTracker;

use crate::{
    clients::ClientSettings,
    comm::Comm,
    commit::{Committed, Committer, Outlets, Writer},
    crypto::Crypto,
    deliver::{DeliverConfig, DeliverTask, Followed},
    directory::Directory,
    driver::{ChannelParts, Request},
    failed::Failed,
    health::Health,
    metrics::Metrics,
    msp_folder,
    private::{PrivateParts, PrivateSettings, Vault},
    serve::Blocks,
    status::Status,
    tls::{Tls, TlsSettings},
    validity::{Validity, ValiditySettings},
    vitals::Vitals,
};

pub use crate::deliver::{AddressOverride, DeliverySettings};
use expiry::Certificates;
pub use refused::{LeaveRefused, StartRefused};

/// What a node is made of.
#[derive(Debug)]
pub struct NodeConfig {
    /// `peer.localMspId`.
    pub msp_id: String,
    /// `peer.mspConfigPath`: the folder with `cacerts`, `signcerts`, `keystore`.
    pub msp_dir: PathBuf,
    /// TLS material; none: plaintext, as with `peer.tls.enabled: false`.
    pub tls: Option<TlsSettings>,
    /// Where to listen, already bound.
    pub listener: TcpListener,
    /// `peer.gossip.endpoint`: how own-organization peers reach us, `host:port`.
    pub endpoint: String,
    /// `peer.gossip.externalEndpoint`; empty: invisible to other organizations.
    pub external_endpoint: String,
    /// `peer.fileSystemPath`: ledgers lie below it.
    pub data_dir: PathBuf,
    /// `ledger.retention`, and how large segments grow.
    pub ledger: Settings,
    /// `peer.gossip.*`.
    pub gossip: Config,
    /// Keys under `peer.gossip` that concern connections.
    pub transport: Transport,
    /// Keys under `peer.deliveryclient` that concern connections.
    pub delivery: DeliverySettings,
    /// What client applications may take and want.
    pub clients: ClientSettings,
    /// `validity.organizations`: how many have to agree on which transactions are valid; 0: nobody is
    /// asked. Without TLS nothing shows of which organization a peer is.
    pub validity: ValiditySettings,
    /// Where the node shows how it is. New for each start.
    pub vitals: Vitals,
}

/// How peers are connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// `peer.gossip.dialTimeout`: TCP and TLS.
    pub dial_timeout: Duration,
    /// `peer.gossip.connTimeout`: the ping, then the handshake.
    pub conn_timeout: Duration,
    /// `peer.gossip.sendBuffSize`: messages that may wait for one peer.
    pub send_queue_len_max: usize,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(3),
            conn_timeout: Duration::from_secs(2),
            send_queue_len_max: 200,
        }
    }
}

/// A node at work. Dropping it without [`RunningNode::stop`] ends it without waiting.
#[derive(Debug)]
pub struct RunningNode {
    address: SocketAddr,
    me: Me,
    crypto: Arc<Crypto>,
    vitals: Vitals,
    comm: Comm,
    requests: mpsc::Sender<Request>,
    control: mpsc::Sender<Input>,
    failed: Failed,
    status: watch::Receiver<Status>,
    committed: broadcast::Sender<Committed>,
    tasks: TaskTracker,
    joined: BTreeSet<ChannelId>,
    /// Channels that were left, with the sequence of the configuration that the core knows.
    left: BTreeMap<ChannelId, u64>,
    directory: Directory,
    /// The private data of channels that were joined.
    vaults: BTreeMap<ChannelId, Arc<Vault>>,
    /// Of each channel, what who brings blocks waits for.
    followed: BTreeMap<ChannelId, Followed>,
    private: PrivateSettings,
    validity: ValiditySettings,
    /// Of each channel that this node was in, if that is wanted.
    validities: BTreeMap<ChannelId, Arc<Validity>>,
    certificates: Certificates,
    deliver: DeliverConfig,
    data_dir: PathBuf,
    ledger: Settings,
}

impl RunningNode {
    /// Starts a node and opens the channels that it joined before. Nothing is sent before all of
    /// them are open.
    pub async fn start(config: NodeConfig) -> Result<Self, StartRefused> {
        if config.gossip.org_leader && config.gossip.use_leader_election {
            return Err(StartRefused::Leadership);
        }
        let now = SystemTime::now();
        let identity = msp_folder::load(&config.msp_dir, &config.msp_id)?;
        let tls = config
            .tls
            .as_ref()
            .map(|settings| Tls::new(settings, now))
            .transpose()?;
        let chains = chains::open_all(&config.data_dir, config.ledger)?;
        let incarnation = incarnation::next(&config.data_dir, now)?;
        let services = CryptoServices::new(identity.msp, Arc::new(identity.signer));
        let crypto = Arc::new(Crypto::new(services));
        let me = Me {
            identity: crypto.own_identity(),
            endpoint: config.endpoint.clone(),
            external_endpoint: config.external_endpoint.clone(),
            started_at_ns: incarnation::wall_ns(now),
            incarnation_ns: incarnation,
            metadata: Bytes::new(),
        };
        let mut node = Self::assemble(config, me, crypto, tls)?;
        tracing::info!(
            target: "gossip.service",
            address = %node.address, endpoint = node.me.endpoint,
            peer = %node.me.identity.pki_id, org = %node.me.identity.org, "the node is up"
        );
        for (config, ledger) in chains {
            if let Err(refused) = node.reopen(config, ledger).await {
                node.stop().await;
                return Err(refused);
            }
        }
        Ok(node)
    }

    /// Joins a channel by its genesis block, which is trusted as it is. The channel is kept
    /// across restarts. One that was left goes on where its ledger ends.
    pub async fn join(&mut self, genesis: Bytes) -> Result<ChannelId, StartRefused> {
        if genesis.is_empty() {
            return Err(StartRefused::Genesis("the file is empty".to_owned()));
        }
        let config = ChannelConfig::from_config_block(&genesis)
            .map_err(|error| StartRefused::Genesis(error.to_string()))?;
        let block =
            BlockView::parse(genesis).map_err(|error| StartRefused::Genesis(error.to_string()))?;
        if block.number() != Some(0) {
            let reason = "its number is not 0".to_owned();
            return Err(StartRefused::Genesis(reason));
        }
        let channel = ChannelId::from(config.channel_id());
        let dir = chains::dir(&self.data_dir, channel.as_str());
        if self.joined.contains(&channel) || !dir.exists() {
            self.check_new(&config)?;
            self.check_certificate(&config)?;
        }
        let mut ledger = chains::open(&dir, self.ledger)?;
        let config = if ledger.height() > 0 {
            self.resume(&channel, &ledger, &block)?
        } else {
            // A folder without blocks is what a join left that was cut off.
            self.check_new(&config)?;
            self.check_certificate(&config)?;
            ledger
                .append(&[block])
                .map_err(|error| StartRefused::Write(error.to_string()))?;
            config
        };
        self.reopen(config, ledger).await?;
        // Last: until the channel is at work the next start had better not be in it.
        chains::unmark_left(&dir).map_err(|source| StartRefused::Folder { path: dir, source })?;
        Ok(channel)
    }

    /// Joins a channel whose blocks are kept elsewhere: `committer` takes them and `blocks` reads
    /// them back for peers. `config` is the configuration block in force at the committer's
    /// height, which is trusted as it is. To be called again after every start.
    pub async fn join_into(
        &mut self,
        config: &Bytes,
        committer: Box<dyn Committer>,
        blocks: Arc<dyn Blocks>,
    ) -> Result<ChannelId, StartRefused> {
        let config = ChannelConfig::from_config_block(config)
            .map_err(|error| StartRefused::Config(error.to_string()))?;
        let channel = self.check_new(&config)?;
        if committer.height() == 0 {
            return Err(StartRefused::Empty(channel));
        }
        self.open(config, committer, blocks).await
    }

    /// Hands over a block that the owner has from elsewhere than the ordering service: for the
    /// ledger, and for the peers of the organization. Its signatures are the owner's to have
    /// checked; its place in the chain is checked at commit. For embedders and benches. Waits
    /// until the ledger is no more than twice `blockBufferSize` blocks behind it, and a moment for
    /// members of the organization that are far behind.
    pub async fn offer(&self, channel: &ChannelId, block: VerifiedBlock) {
        if let Some(followed) = self.followed.get(channel) {
            let mut followed = followed.clone();
            if !followed
                .has_room(block.number, self.deliver.ahead_max)
                .await
            {
                // The channel is being left.
                return;
            }
        }
        let channel = channel.clone();
        // A node that goes down takes nothing, and has said so.
        let _ = self.control.send(Input::Offered { channel, block }).await;
    }

    /// Where the node listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who the node is.
    pub fn me(&self) -> &Me {
        &self.me
    }

    /// The node as it is, at most a tenth of a second late.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Every block from now on when it is durable. A listener that lags far behind loses some.
    pub fn committed(&self) -> broadcast::Receiver<Committed> {
        self.committed.subscribe()
    }

    /// Counters and gauges.
    pub fn metrics(&self) -> &Metrics {
        &self.vitals.metrics
    }

    /// Metrics and health, which can be looked at while the node does something else.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// What is not well.
    pub fn health(&self) -> &Health {
        &self.vitals.health
    }

    /// What it means, if the configuration in force of a channel does not name our organization.
    pub fn unnamed(&self, channel: &ChannelId) -> Option<String> {
        let own = &self.me.identity.org;
        let view = self.crypto.channel_view(channel)?;
        (!view.join.members.contains_key(own)).then(|| tidings_gossip::node::unnamed(channel, own))
    }

    /// The channels that were joined into ledgers of ours, for whoever reads them.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The blocks of a channel that was joined into a ledger of ours.
    pub fn reader(&self, channel: &ChannelId) -> Option<Reader> {
        let served = self.directory.channel(channel.as_str())?;
        Some(served.blocks.clone())
    }

    /// Waits until the node cannot go on, for instance for want of disk space, and says why. It
    /// can be waited for while the node does something else, such as [`Self::join`].
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        self.failed.wait()
    }

    /// Stops: no more connections, what is queued for the ledgers is written, ledgers closed.
    pub async fn stop(self) {
        let (done, parts) = oneshot::channel();
        let asked = self.requests.send(Request::Stop(done)).await.is_ok();
        let parts = if asked {
            parts.await.unwrap_or_default()
        } else {
            Vec::new()
        };
        self.comm.stop().await;
        drop((self.control, self.requests, self.committed));
        // Writers end when their queues do; they may be in the middle of a sync.
        let finish = || parts.into_iter().for_each(ChannelParts::finish);
        if self.tasks.spawn_blocking(finish).await.is_err() {
            tracing::error!(target: "ledger", "closing the ledgers panicked");
        }
        self.tasks.close();
        self.tasks.wait().await;
        tracing::info!(target: "gossip.service", peer = %self.me.identity.pki_id, "the node is down");
    }

    /// Puts a channel with a ledger of ours to work, and lists it for those who read.
    async fn reopen(&mut self, config: ChannelConfig, ledger: Ledger) -> Result<(), StartRefused> {
        let channel = self.check_new(&config)?;
        let reader = ledger.reader();
        self.open(config, Box::new(ledger), Arc::new(reader.clone()))
            .await?;
        let followed = self.followed.get(&channel);
        let vault = self.vaults.get(&channel);
        let (followed, vault) = followed.zip(vault).expect("a channel at work has both");
        let (height, vault) = (followed.height.clone(), Arc::clone(vault));
        let validity = self
            .follow_validity(&channel, reader.clone(), height.clone())
            .await?;
        self.directory
            .open(channel, reader, height, vault, validity);
        Ok(())
    }

    /// No channel is joined twice. Whether its configuration names our organization already is
    /// no question here: one that was added later begins with the first block like all others.
    fn check_new(&self, config: &ChannelConfig) -> Result<ChannelId, StartRefused> {
        let channel = ChannelId::from(config.channel_id());
        if self.joined.contains(&channel) {
            return Err(StartRefused::Joined(channel));
        }
        if self
            .left
            .get(&channel)
            .is_some_and(|sequence| config.sequence() < *sequence)
        {
            return Err(StartRefused::Outdated(channel));
        }
        Ok(channel)
    }

    /// Whether a channel that names our organization takes us for a peer of it. Asked once, when
    /// it is joined: what a later configuration says of us is for others to heed.
    fn check_certificate(&self, config: &ChannelConfig) -> Result<(), StartRefused> {
        if config.msp(self.me.identity.org.as_str()).is_none() {
            return Ok(());
        }
        let msps = config.msps();
        let found = msps.deserialize(&self.me.identity.serialized);
        found
            .and_then(|identity| msps.validate(&identity))
            .map_err(|reason| StartRefused::Stranger {
                channel: ChannelId::from(config.channel_id()),
                msp_id: self.me.identity.org.as_str().to_owned(),
                reason: reason.to_string(),
            })
    }

    /// Puts a channel to work.
    async fn open(
        &mut self,
        config: ChannelConfig,
        committer: Box<dyn Committer>,
        blocks: Arc<dyn Blocks>,
    ) -> Result<ChannelId, StartRefused> {
        let channel = ChannelId::from(config.channel_id());
        self.crypto.install(Arc::new(config));
        if let Some(tls) = &self.certificates.tls {
            tls.replace_channel_roots(|| self.crypto.peer_tls_roots())?;
        }
        let tip = (committer.height(), committer.last_hash());
        let extent = committer.extent();
        let private = self.open_private(&channel, tip.0, &blocks).await?;
        let vault = Arc::clone(&private.vault);
        let parts = self.parts(&channel, committer, blocks, private)?;
        let followed = parts.deliver.followed();
        self.vitals.metrics.begin_channel(channel.as_str());
        self.vitals.metrics.set_height(&channel, tip.0);
        if let Some(extent) = extent {
            self.vitals.metrics.set_extent(&channel, extent);
        }
        let add = Request::AddChannel(channel.clone(), parts);
        self.requests
            .send(add)
            .await
            .map_err(|_gone| StartRefused::Stopping)?;
        self.introduce(&channel, tip).await?;
        self.joined.insert(channel.clone());
        self.vaults.insert(channel.clone(), vault);
        self.followed.insert(channel.clone(), followed);
        Ok(channel)
    }

    /// What works for a channel.
    fn parts(
        &self,
        channel: &ChannelId,
        committer: Box<dyn Committer>,
        blocks: Arc<dyn Blocks>,
        private: PrivateParts,
    ) -> Result<ChannelParts, StartRefused> {
        let (height_in, height) = watch::channel(committer.height());
        let (roots_in, roots) = watch::channel(());
        let outlets = Outlets {
            inputs: self.control.clone(),
            committed: self.committed.clone(),
            height: height_in,
            roots: roots_in,
            failed: self.failed.clone(),
            crypto: Arc::clone(&self.crypto),
            tls: self.certificates.tls.clone(),
            vitals: self.vitals.clone(),
            vault: Arc::clone(&private.vault),
            commits: private.keeper.commits(),
        };
        let writer = Writer::start(channel.clone(), committer, outlets)
            .map_err(|error| StartRefused::Write(format!("no thread for the ledger: {error}")))?;
        let deliver = DeliverTask::start(
            &self.tasks,
            self.deliver.clone(),
            channel.clone(),
            Arc::clone(&self.crypto),
            (height, roots),
            self.control.clone(),
        );
        Ok(ChannelParts {
            writer,
            private,
            blocks,
            deliver,
        })
    }

    /// Tells the core of a channel and how far its ledger has come.
    async fn introduce(
        &self,
        channel: &ChannelId,
        (height, last_hash): (u64, Option<[u8; 32]>),
    ) -> Result<(), StartRefused> {
        let view = self
            .crypto
            .channel_view(channel)
            .ok_or(StartRefused::Stopping)?;
        tracing::info!(
            target: "peer.channel",
            %channel, height, sequence = view.join.sequence, "the node is in the channel"
        );
        let join = Input::Join {
            channel: channel.clone(),
            join: view.join,
            height,
        };
        let tip = height.checked_sub(1).zip(last_hash);
        let events = [
            tip.map(|(number, hash)| Event::Tip { number, hash }),
            Some(Event::Agreement(view.agreement)),
            Some(Event::Endpoints(view.orderers)),
        ];
        let events = events.into_iter().flatten().map(|event| Input::Delivery {
            channel: channel.clone(),
            event,
        });
        for input in std::iter::once(join).chain(events) {
            self.control
                .send(input)
                .await
                .map_err(|_gone| StartRefused::Stopping)?;
        }
        Ok(())
    }
}
