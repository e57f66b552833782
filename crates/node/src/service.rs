//! A node as a whole: started from files, joined to channels, stopped without loss.
//!
//! This is what Fabric calls the gossip service: it puts the core, the transport, delivery and
//! commit together and holds them. It decides nothing.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tidings_gossip::{Config, Input, Me, Node, delivery, id::ChannelId};
use tidings_ledger::{Ledger, Reader};
use tidings_msp::{channel_config::ChannelConfig, services::CryptoServices};
use tidings_proto::block::BlockView;
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, oneshot, watch},
};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::{
    comm::{Authenticator, Comm, CommConfig, Surroundings},
    commit::{Committed, Outlets, Writer},
    crypto::{CorePorts, Crypto, random},
    deliver::{DeliverConfig, DeliverTask},
    driver::{CONTROL_MAX, ChannelParts, Driver, Inlets, MESSAGES_MAX, Request},
    intake::Intake,
    metrics::Metrics,
    msp_folder,
    serve::Serve,
    status::Status,
    tls::{Tls, TlsSettings},
};

/// Commits that a slow listener may lag behind before it loses the oldest.
const COMMITTED_LEN_MAX: usize = 4096;

/// Where channels lie below the data folder.
const CHANNELS: &str = "channels";

/// Where the newest incarnation lies below the data folder.
const INCARNATION: &str = "incarnation";

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
    /// `peer.gossip.*`.
    pub gossip: Config,
    /// `peer.deliveryclient.connTimeout`.
    pub deliver_connect_timeout: Duration,
}

/// Why a node does not start or does not join.
#[derive(Debug, thiserror::Error)]
pub enum StartRefused {
    /// The MSP folder does not make an identity.
    #[error("{0}")]
    Msp(#[from] msp_folder::MspFolderRefused),
    /// The TLS material is no good.
    #[error("TLS: {0}")]
    Tls(#[from] crate::tls::TlsError),
    /// A folder cannot be used.
    #[error("cannot use the folder {}: {source}; make it readable and writable, or name another", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A ledger does not open.
    #[error("{0}")]
    Ledger(#[from] tidings_ledger::OpenError),
    /// What a ledger holds is no channel.
    #[error("the ledger in {} cannot be used: {reason}", path.display())]
    Channel {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The block is not the beginning of a channel.
    #[error("not a genesis block: {0}")]
    Genesis(String),
    /// The channel is already here.
    #[error("channel {0} is already joined")]
    Joined(ChannelId),
    /// The own organization is not on the channel.
    #[error("{msp_id} is no application organization of channel {channel}: gossip peers would ignore us")]
    Outsider {
        /// The channel.
        channel: ChannelId,
        /// Our MSP id.
        msp_id: String,
    },
    /// The genesis block could not be written.
    #[error("{0}")]
    Write(String),
    /// The node is going down.
    #[error("the node is stopping")]
    Stopping,
}

/// A node at work. Dropping it without [`RunningNode::stop`] ends it without waiting.
#[derive(Debug)]
pub struct RunningNode {
    address: SocketAddr,
    me: Me,
    crypto: Arc<Crypto>,
    metrics: Metrics,
    comm: Comm,
    requests: mpsc::Sender<Request>,
    control: mpsc::Sender<Input>,
    failed_sender: mpsc::Sender<String>,
    failed: mpsc::Receiver<String>,
    status: watch::Receiver<Status>,
    committed: broadcast::Sender<Committed>,
    tasks: TaskTracker,
    readers: BTreeMap<ChannelId, Reader>,
    tls: Option<Tls>,
    deliver: DeliverConfig,
    data_dir: PathBuf,
}

impl RunningNode {
    /// Starts a node and opens the channels that it joined before.
    pub async fn start(config: NodeConfig) -> Result<Self, StartRefused> {
        let now = SystemTime::now();
        let identity = msp_folder::load(&config.msp_dir, &config.msp_id)?;
        let tls = config.tls.as_ref().map(|settings| Tls::new(settings, now)).transpose()?;
        let incarnation = incarnation(&config.data_dir, now)?;
        let crypto = Arc::new(Crypto::new(CryptoServices::new(identity.msp, Arc::new(identity.signer))));
        let me = Me {
            identity: crypto.own_identity(),
            endpoint: config.endpoint,
            external_endpoint: config.external_endpoint,
            started_at_ns: incarnation,
            metadata: Bytes::new(),
        };
        let metrics = Metrics::new();
        let address = config.listener.local_addr().map_err(|source| StartRefused::Folder {
            path: config.data_dir.clone(),
            source,
        })?;
        let (messages_in, messages) = mpsc::channel(MESSAGES_MAX);
        let (control_in, control) = mpsc::channel(CONTROL_MAX);
        let (requests_in, requests) = mpsc::channel(16);
        let (failed_sender, failed) = mpsc::channel(16);
        let (status_in, status) = watch::channel(Status::default());
        let (committed, _) = broadcast::channel(COMMITTED_LEN_MAX);
        let tasks = TaskTracker::new();
        let comm = Comm::start(
            CommConfig::new(me.identity.pki_id, tls.clone()),
            config.listener,
            Routes::default(),
            Surroundings {
                authenticator: Arc::clone(&crypto) as Arc<dyn Authenticator>,
                inbox: Arc::new(Intake::new(Arc::clone(&crypto), messages_in, metrics.clone())),
                inputs: control_in.clone(),
                metrics: metrics.clone(),
            },
        );
        let deliver = DeliverConfig {
            connect_timeout: config.deliver_connect_timeout,
            ahead_max: 2 * config.gossip.state.block_buffer_size,
            tls: tls.as_ref().map(Tls::client_identity),
            client_auth: config.tls.as_ref().is_some_and(|tls| tls.client_auth_required),
        };
        let driver = Driver {
            node: Node::new(me.clone(), config.gossip, CorePorts(Arc::clone(&crypto)), random()),
            started: Instant::now(),
            comm: comm.handle(),
            crypto: Arc::clone(&crypto),
            metrics: metrics.clone(),
            serve: Serve { comm: comm.handle(), inputs: control_in.clone(), tasks: tasks.clone() },
            channels: BTreeMap::new(),
            status: status_in,
        };
        tasks.spawn(driver.run(Inlets { messages, control, requests }));
        let mut node = Self {
            address,
            me,
            crypto,
            metrics,
            comm,
            requests: requests_in,
            control: control_in,
            failed_sender,
            failed,
            status,
            committed,
            tasks,
            readers: BTreeMap::new(),
            tls,
            deliver,
            data_dir: config.data_dir,
        };
        node.reopen().await?;
        Ok(node)
    }

    /// Joins a channel by its genesis block, which is trusted as it is. The channel is kept
    /// across restarts.
    pub async fn join(&mut self, genesis: Bytes) -> Result<ChannelId, StartRefused> {
        let config = ChannelConfig::from_config_block(&genesis)
            .map_err(|error| StartRefused::Genesis(error.to_string()))?;
        let block = BlockView::parse(genesis)
            .map_err(|error| StartRefused::Genesis(error.to_string()))?;
        if block.number() != Some(0) {
            let reason = "its number is not 0; fetch the channel's oldest block".to_owned();
            return Err(StartRefused::Genesis(reason));
        }
        let channel = ChannelId::from(config.channel_id());
        if self.readers.contains_key(&channel) {
            return Err(StartRefused::Joined(channel));
        }
        self.check_member(&channel, &config)?;
        let dir = self.channels_dir().join(channel.as_str());
        let mut ledger = Ledger::open(&dir)?;
        if ledger.height() == 0 {
            ledger.append(&[block]).map_err(|error| StartRefused::Write(error.to_string()))?;
        }
        self.open(channel.clone(), config, ledger).await?;
        tracing::info!(target: "peer.channel", %channel, "joined the channel");
        Ok(channel)
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
        &self.metrics
    }

    /// The blocks of a joined channel.
    pub fn reader(&self, channel: &ChannelId) -> Option<&Reader> {
        self.readers.get(channel)
    }

    /// Waits until the node cannot go on, for instance for want of disk space, and says why.
    pub async fn failed(&mut self) -> String {
        // This holds a sender itself, so there is always something to wait for.
        self.failed.recv().await.unwrap_or_default()
    }

    /// Stops: no more connections, what is queued for the ledgers is written, ledgers closed.
    pub async fn stop(self) {
        let (done, parts) = oneshot::channel();
        let asked = self.requests.send(Request::Stop(done)).await.is_ok();
        let parts = if asked { parts.await.unwrap_or_default() } else { Vec::new() };
        self.comm.stop().await;
        drop((self.control, self.requests, self.committed));
        // Writers end when their queues do; they may be in the middle of a sync.
        let writers: Vec<Writer> = parts.into_iter().map(|parts| parts.writer).collect();
        let finish = || writers.into_iter().for_each(Writer::finish);
        if self.tasks.spawn_blocking(finish).await.is_err() {
            tracing::error!(target: "ledger", "closing the ledgers panicked");
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn channels_dir(&self) -> PathBuf {
        self.data_dir.join(CHANNELS)
    }

    /// Opens every channel that was joined before.
    async fn reopen(&mut self) -> Result<(), StartRefused> {
        let root = self.channels_dir();
        let refused = |source| StartRefused::Folder { path: root.clone(), source };
        fs::create_dir_all(&root).map_err(refused)?;
        let mut dirs = Vec::new();
        for entry in fs::read_dir(&root).map_err(refused)? {
            dirs.push(entry.map_err(refused)?.path());
        }
        dirs.sort();
        for dir in dirs {
            let ledger = Ledger::open(&dir)?;
            if ledger.height() == 0 {
                // A join that was cut off before its first block: joining again will do.
                continue;
            }
            let config = last_config(&ledger.reader())
                .map_err(|reason| StartRefused::Channel { path: dir.clone(), reason })?;
            let channel = ChannelId::from(config.channel_id());
            self.check_member(&channel, &config)?;
            self.open(channel, config, ledger).await?;
        }
        Ok(())
    }

    fn check_member(&self, channel: &ChannelId, config: &ChannelConfig) -> Result<(), StartRefused> {
        let own = self.me.identity.org.as_str();
        if config.application_organizations().values().any(|org| org.msp_id == own) {
            return Ok(());
        }
        Err(StartRefused::Outsider { channel: channel.clone(), msp_id: own.to_owned() })
    }

    /// Puts a channel to work.
    async fn open(
        &mut self,
        channel: ChannelId,
        config: ChannelConfig,
        ledger: Ledger,
    ) -> Result<(), StartRefused> {
        self.crypto.install(Arc::new(config));
        if let Some(tls) = &self.tls {
            tls.replace_channel_roots(&self.crypto.peer_tls_roots())?;
        }
        let (height, reader) = (ledger.height(), ledger.reader());
        let (height_in, heights) = watch::channel(height);
        let outlets = Outlets {
            inputs: self.control.clone(),
            committed: self.committed.clone(),
            height: height_in,
            failed: self.failed_sender.clone(),
            crypto: Arc::clone(&self.crypto),
            tls: self.tls.clone(),
            metrics: self.metrics.clone(),
        };
        let writer = Writer::start(channel.clone(), Box::new(ledger), outlets)
            .map_err(|error| StartRefused::Write(format!("no thread for the ledger: {error}")))?;
        let deliver = DeliverTask::start(
            &self.tasks,
            self.deliver.clone(),
            channel.clone(),
            Arc::clone(&self.crypto),
            heights,
            self.control.clone(),
        );
        self.readers.insert(channel.clone(), reader.clone());
        let gauge = self.metrics.state_height.with_label_values(&[channel.as_str()]);
        gauge.set(i64::try_from(height).unwrap_or(i64::MAX));
        let view = self.crypto.channel_view(&channel).ok_or(StartRefused::Stopping)?;
        let parts = ChannelParts { writer, blocks: Arc::new(reader), deliver };
        let add = Request::AddChannel(channel.clone(), parts);
        self.requests.send(add).await.map_err(|_gone| StartRefused::Stopping)?;
        let event = delivery::Event::Endpoints(view.orderers);
        for input in [
            Input::Join { channel: channel.clone(), join: view.join, height },
            Input::Delivery { channel, event },
        ] {
            self.control.send(input).await.map_err(|_gone| StartRefused::Stopping)?;
        }
        Ok(())
    }
}

/// The configuration in force at the end of a ledger.
fn last_config(ledger: &Reader) -> Result<ChannelConfig, String> {
    let read = |number| {
        let block = ledger.block(number).map_err(|error| error.to_string())?;
        block.ok_or_else(|| format!("block {number} is missing"))
    };
    let last = read(ledger.height().saturating_sub(1))?;
    // The genesis block says nothing of itself: it is its own configuration.
    let index = tidings_msp::block::last_config_index(&last).unwrap_or(0);
    ChannelConfig::from_config_block(read(index)?.bytes()).map_err(|error| error.to_string())
}

/// The incarnation of this start: the wall clock, but later than at every start before, so that
/// peers never take us for an older self when the clock was set back.
fn incarnation(data_dir: &Path, now: SystemTime) -> Result<u64, StartRefused> {
    let refused = |source| StartRefused::Folder { path: data_dir.to_owned(), source };
    fs::create_dir_all(data_dir).map_err(refused)?;
    let path = data_dir.join(INCARNATION);
    let before = match fs::read_to_string(&path) {
        // Unreadable content is from a write that was cut off: the clock alone decides then.
        Ok(text) => text.trim().parse::<u64>().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(refused(error)),
    };
    let clock = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let incarnation = u64::try_from(clock).unwrap_or(u64::MAX).max(before.saturating_add(1));
    let fresh = path.with_extension("new");
    fs::write(&fresh, incarnation.to_string()).map_err(refused)?;
    fs::rename(&fresh, &path).map_err(refused)?;
    Ok(incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(incarnation(dir.path(), at(100)).unwrap(), 100_000_000_000);
        assert_eq!(incarnation(dir.path(), at(50)).unwrap(), 100_000_000_001);
        assert_eq!(incarnation(dir.path(), at(200)).unwrap(), 200_000_000_000);
        fs::write(dir.path().join(INCARNATION), "torn").unwrap();
        assert_eq!(incarnation(dir.path(), at(201)).unwrap(), 201_000_000_000);
    }

    #[test]
    fn a_data_folder_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = incarnation(&file, UNIX_EPOCH).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}
