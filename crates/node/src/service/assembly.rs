//! A node's parts, put together and set to work.
//!
//! Decides who holds which end of which queue, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tidings_gossip::{Input, Me, Node};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::task::TaskTracker;

use super::{Certificates, NodeConfig, RunningNode, StartRefused, Transport};
use crate::{
    clients::Shared,
    comm::{Authenticator, Comm, CommConfig, Surroundings},
    crypto::{CorePorts, Crypto, random},
    deliver::DeliverConfig,
    directory::Directory,
    driver::{CONTROL_MAX, Driver, HandingOut, Inlets, MESSAGES_MAX},
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
        let address = config
            .listener
            .local_addr()
            .map_err(StartRefused::Listener)?;
        let deliver = deliver_config(&config, tls.clone());
        let validity_wanted = config.validity_organizations;
        let vitals = config.vitals;
        let metrics = vitals.metrics.clone();
        let (messages_in, messages) = mpsc::channel(MESSAGES_MAX);
        let (control_in, control) = mpsc::channel(CONTROL_MAX);
        let (requests_in, requests) = mpsc::channel(16);
        let (status_in, status) = watch::channel(Status::default());
        let (tasks, failed) = (TaskTracker::new(), Failed::default());
        let surroundings = Surroundings {
            authenticator: Arc::clone(&crypto) as Arc<dyn Authenticator>,
            inbox: Arc::new(Intake::new(
                Arc::clone(&crypto),
                messages_in,
                metrics.clone(),
            )),
            inputs: control_in.clone(),
            metrics: metrics.clone(),
        };
        let own = CommConfig::new(me.identity.pki_id, tls.clone());
        let directory = Directory::default();
        let clients = Shared::new(
            config.clients,
            deliver.client_auth,
            (Arc::clone(&crypto), directory.clone()),
            metrics.clone(),
            tasks.clone(),
        );
        let comm = Comm::start(
            comm_config(&config.transport, own),
            config.listener,
            clients.routes(requests_in.downgrade()),
            surroundings,
        );
        let private = PrivateSettings {
            settings: config.gossip.pvt_data.clone(),
            registries: Registries::default(),
            metrics: metrics.clone(),
        };
        let ports = CorePorts {
            crypto: Arc::clone(&crypto),
            judge: Judge::new(Arc::clone(&crypto), private.registries.clone()),
        };
        let driver = Driver {
            node: Node::new(me.clone(), config.gossip, ports, random()),
            started: Instant::now(),
            comm: comm.handle(),
            crypto: Arc::clone(&crypto),
            metrics: metrics.clone(),
            lookout: Lookout::new(vitals.clone()),
            serve: Serve::new(comm.handle(), control_in.clone(), tasks.clone(), metrics),
            stripes: Stripes::new(
                comm.handle(),
                Arc::clone(&crypto),
                control_in.clone(),
                tasks.clone(),
            ),
            channels: BTreeMap::new(),
            status: status_in,
            streams: BTreeMap::new(),
            handing_out: HandingOut::default(),
            input_time: Duration::ZERO,
        };
        let certificates = show_certificates(&vitals, &me, tls, &tasks, &control_in);
        let health = vitals.health.clone();
        health.started(requests_in.downgrade(), me.identity.expires_at);
        vitals.outlook.open(Window {
            me: me.clone(),
            address: address.to_string(),
            started: Instant::now(),
            status: status.clone(),
            core: requests_in.downgrade(),
            comm: comm.handle(),
        });
        let inlets = Inlets {
            messages,
            control,
            requests,
        };
        tasks.spawn(until_it_breaks(driver.run(inlets), health, failed.clone()));
        Ok(Self {
            address,
            me,
            crypto,
            vitals,
            comm,
            requests: requests_in,
            control: control_in,
            failed,
            status,
            committed: broadcast::channel(COMMITTED_LEN_MAX).0,
            tasks,
            joined: BTreeSet::new(),
            left: BTreeMap::new(),
            directory,
            vaults: BTreeMap::new(),
            validity_wanted,
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

fn comm_config(transport: &Transport, own: CommConfig) -> CommConfig {
    CommConfig {
        dial_timeout: transport.dial_timeout,
        conn_timeout: transport.conn_timeout,
        send_queue_len_max: transport.send_queue_len_max,
        ..own
    }
}

/// Shows when our certificates end, and has that told before it comes.
fn show_certificates(
    vitals: &Vitals,
    me: &Me,
    tls: Option<Tls>,
    tasks: &TaskTracker,
    node: &mpsc::Sender<Input>,
) -> Certificates {
    let certificates = Certificates {
        identity_ends_at: me.identity.expires_at,
        tls,
    };
    certificates.show(&vitals.metrics);
    tasks.spawn(certificates.clone().warn(node.clone()));
    certificates
}

/// Runs the core, and tells when it breaks off: or else the node would look alive for ever.
async fn until_it_breaks(core: impl Future<Output = ()>, health: Health, failed: Failed) {
    if AssertUnwindSafe(core).catch_unwind().await.is_err() {
        let reason = "the protocol core broke off; what it says above is a bug of ours";
        health.gossip_broke(reason);
        failed.tell(reason.to_owned());
    }
}
