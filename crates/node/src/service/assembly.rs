//! A node's parts, put together and set to work.
//!
//! Decides who holds which end of which queue, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tidings_gossip::{Config, Input, Me, Node, PvtDataConfig};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::task::TaskTracker;

use super::{Certificates, NodeConfig, RunningNode, StartRefused, Transport};
use crate::{
    clients::Shared,
    comm::{Authenticator, Comm, CommConfig, CommHandle, Surroundings},
    crypto::{CorePorts, Crypto, random},
    deliver::DeliverConfig,
    directory::Directory,
    driver::{CONTROL_MAX, Driver, HandingOut, Inlets, MESSAGES_MAX, Request},
    failed::Failed,
    health::Health,
    intake::Intake,
    outlook::Window,
    private::{Judge, PrivateSettings, Registries},
    serve::Serve,
    status::Status,
    stripes::Stripes,
    tls::Tls,
    vitals::{Lookout, Vitals},
};

/// Commits that a slow listener may lag behind before it loses the oldest.
const COMMITTED_LEN_MAX: usize = 4096;

impl RunningNode {
    /// Puts the parts together and sets them to work.
    pub(super) fn assemble(
        config: NodeConfig,
        me: Me,
        crypto: Arc<Crypto>,
        tls: Option<Tls>,
    ) -> Result<Self, StartRefused> {
        let address = config.listener.local_addr();
        let address = address.map_err(StartRefused::Listener)?;
        let deliver = deliver_config(&config, tls.clone());
        let (messages_in, messages) = mpsc::channel(MESSAGES_MAX);
        let (control_in, control) = mpsc::channel(CONTROL_MAX);
        let (requests_in, requests) = mpsc::channel(16);
        let (status_in, status) = watch::channel(Status::default());
        let (failed, directory) = (Failed::default(), Directory::default());
        let common = Common {
            me,
            crypto,
            vitals: config.vitals,
            tasks: TaskTracker::new(),
            control: control_in,
        };
        let clients = Shared::new(
            config.clients,
            deliver.client_auth,
            (Arc::clone(&common.crypto), directory.clone()),
            common.vitals.metrics.clone(),
            common.tasks.clone(),
        );
        let comm = Comm::start(
            common.comm_config(&config.transport, tls.clone()),
            config.listener,
            clients.routes(requests_in.downgrade()),
            common.surroundings(messages_in),
        );
        let private = common.private(config.gossip.pvt_data.clone());
        let driver = common.driver(config.gossip, comm.handle(), &private.registries, status_in);
        let certificates = common.show_certificates(tls);
        common.show(address, status.clone(), &requests_in, comm.handle());
        let inlets = Inlets {
            messages,
            control,
            requests,
        };
        common.run(driver, inlets, failed.clone());
        Ok(Self {
            address,
            me: common.me,
            crypto: common.crypto,
            vitals: common.vitals,
            comm,
            requests: requests_in,
            control: common.control,
            failed,
            status,
            committed: broadcast::channel(COMMITTED_LEN_MAX).0,
            tasks: common.tasks,
            joined: BTreeSet::new(),
            left: BTreeMap::new(),
            directory,
            vaults: BTreeMap::new(),
            validity: config.validity,
            validities: BTreeMap::new(),
            followed: BTreeMap::new(),
            private,
            certificates,
            deliver,
            data_dir: config.data_dir,
            ledger: config.ledger,
        })
    }
}

/// What most parts have a copy of.
struct Common {
    me: Me,
    crypto: Arc<Crypto>,
    vitals: Vitals,
    tasks: TaskTracker,
    control: mpsc::Sender<Input>,
}

impl Common {
    fn comm_config(&self, transport: &Transport, tls: Option<Tls>) -> CommConfig {
        CommConfig {
            dial_timeout: transport.dial_timeout,
            conn_timeout: transport.conn_timeout,
            send_queue_len_max: transport.send_queue_len_max,
            ..CommConfig::new(self.me.identity.pki_id, tls)
        }
    }

    fn surroundings(&self, messages: mpsc::Sender<Input>) -> Surroundings {
        let metrics = self.vitals.metrics.clone();
        let inbox = Intake::new(Arc::clone(&self.crypto), messages, metrics.clone());
        Surroundings {
            authenticator: Arc::clone(&self.crypto) as Arc<dyn Authenticator>,
            inbox: Arc::new(inbox),
            inputs: self.control.clone(),
            metrics,
        }
    }

    fn private(&self, settings: PvtDataConfig) -> PrivateSettings {
        PrivateSettings {
            settings,
            registries: Registries::default(),
            metrics: self.vitals.metrics.clone(),
        }
    }

    fn driver(
        &self,
        gossip: Config,
        comm: CommHandle,
        registries: &Registries,
        status: watch::Sender<Status>,
    ) -> Driver {
        let (crypto, control, tasks) = (&self.crypto, &self.control, &self.tasks);
        let metrics = self.vitals.metrics.clone();
        let ports = CorePorts {
            crypto: Arc::clone(crypto),
            judge: Judge::new(Arc::clone(crypto), registries.clone()),
        };
        Driver {
            node: Node::new(self.me.clone(), gossip, ports, random()),
            started: Instant::now(),
            serve: Serve::new(
                comm.clone(),
                control.clone(),
                tasks.clone(),
                metrics.clone(),
            ),
            stripes: Stripes::new(
                comm.clone(),
                Arc::clone(crypto),
                control.clone(),
                tasks.clone(),
            ),
            comm,
            crypto: Arc::clone(crypto),
            metrics,
            lookout: Lookout::new(self.vitals.clone()),
            channels: BTreeMap::new(),
            status,
            streams: BTreeMap::new(),
            handing_out: HandingOut::default(),
            input_time: Duration::ZERO,
        }
    }

    /// Runs the core, and tells when it breaks off: or else the node would look alive for ever.
    fn run(&self, driver: Driver, inlets: Inlets, failed: Failed) {
        let health = self.vitals.health.clone();
        let core = until_it_breaks(driver.run(inlets), health, failed);
        self.tasks.spawn(core);
    }

    /// Shows when our certificates end, and has that told before it comes.
    fn show_certificates(&self, tls: Option<Tls>) -> Certificates {
        let certificates = Certificates {
            identity_ends_at: self.me.identity.expires_at,
            tls,
        };
        certificates.show(&self.vitals.metrics);
        let told = certificates.clone().warn(self.control.clone());
        self.tasks.spawn(told);
        certificates
    }

    /// Lets those who look at the node ask it.
    fn show(
        &self,
        address: SocketAddr,
        status: watch::Receiver<Status>,
        core: &mpsc::Sender<Request>,
        comm: CommHandle,
    ) {
        let expires_at = self.me.identity.expires_at;
        self.vitals.health.started(core.downgrade(), expires_at);
        self.vitals.outlook.open(Window {
            me: self.me.clone(),
            address: address.to_string(),
            started: Instant::now(),
            status,
            core: core.downgrade(),
            comm,
        });
    }
}

fn deliver_config(config: &NodeConfig, tls: Option<Tls>) -> DeliverConfig {
    let settings = config.tls.as_ref();
    DeliverConfig {
        settings: config.delivery.clone(),
        ahead_max: 2 * config.gossip.state.block_buffer_size,
        tls,
        vitals: config.vitals.clone(),
        client_auth: settings.is_some_and(|tls| tls.client_auth_required),
    }
}

async fn until_it_breaks(core: impl Future<Output = ()>, health: Health, failed: Failed) {
    if AssertUnwindSafe(core).catch_unwind().await.is_err() {
        let reason = "the protocol core broke off; what it says above is a bug of ours";
        health.gossip_broke(reason);
        failed.tell(reason.to_owned());
    }
}
