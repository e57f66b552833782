//! Nodes on their folders.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use tempfile::TempDir;
use tidings_gossip::{ClusterConfig, Config, PvtDataConfig, StateConfig, id::ChannelId};
use tidings_ledger::Settings;
use tidings_node::{
    clients::ClientSettings,
    service::{DeliverySettings, NodeConfig, RunningNode, Transport},
    status::ChannelStatus,
    tls::TlsSettings,
    validity::ValiditySettings,
    vitals::Vitals,
};
use tokio::{net::TcpListener, time::timeout};

use crate::material::{CHANNEL, Member, Organization};

/// Nothing here takes a tenth of this; a test that hangs ends.
const SAFETY_NET: Duration = Duration::from_secs(60);

const CONFIG_YAML: &str = "NodeOUs:
  Enable: true
  ClientOUIdentifier: {OrganizationalUnitIdentifier: client}
  PeerOUIdentifier: {OrganizationalUnitIdentifier: peer}
  AdminOUIdentifier: {OrganizationalUnitIdentifier: admin}
  OrdererOUIdentifier: {OrganizationalUnitIdentifier: orderer}
";

/// What a node is started from, again and again.
pub(crate) struct Seat {
    pub(crate) home: TempDir,
    msp_id: String,
    pub(crate) address: SocketAddr,
    bootstrap: String,
    pub(crate) leader: bool,
    pub(crate) external_endpoint: String,
    pub(crate) delivery: DeliverySettings,
    pub(crate) cluster: ClusterConfig,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) pvt_data: PvtDataConfig,
    pub(crate) stripe: bool,
    pub(crate) ledger: Settings,
    pub(crate) validity: ValiditySettings,
    /// Where it says that its organization finds it, if that is elsewhere.
    pub(crate) elsewhere: Option<SocketAddr>,
}

impl Seat {
    /// The first of an organization leads it; others know where it is.
    pub(crate) async fn new(
        org: &Organization,
        name: &str,
        first: Option<SocketAddr>,
    ) -> (Self, TcpListener) {
        let home = tempfile::tempdir().unwrap();
        write_msp(&home.path().join("msp"), org, &org.member(name, "peer"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seat = Self {
            home,
            msp_id: org.msp_id.clone(),
            address,
            bootstrap: first.unwrap_or(address).to_string(),
            leader: first.is_none(),
            external_endpoint: String::new(),
            delivery: DeliverySettings::default(),
            cluster: ClusterConfig::default(),
            tls: None,
            pvt_data: PvtDataConfig::default(),
            stripe: false,
            ledger: Settings::default(),
            validity: ValiditySettings::default(),
            elsewhere: None,
        };
        (seat, listener)
    }

    pub(crate) fn config(&self, listener: TcpListener) -> NodeConfig {
        let soon = Duration::from_millis(200);
        NodeConfig {
            msp_id: self.msp_id.clone(),
            msp_dir: self.home.path().join("msp"),
            tls: self.tls.clone(),
            listener,
            endpoint: self.elsewhere.unwrap_or(self.address).to_string(),
            external_endpoint: self.external_endpoint.clone(),
            data_dir: self.home.path().join("data"),
            ledger: self.ledger,
            gossip: Config {
                bootstrap: vec![self.bootstrap.clone()],
                org_leader: self.leader,
                pull_interval: soon,
                alive_time_interval: soon,
                reconnect_interval: soon,
                publish_state_info_interval: soon,
                request_state_info_interval: soon,
                digest_wait_time: soon / 4,
                request_wait_time: soon / 2,
                response_wait_time: soon,
                state: StateConfig {
                    enabled: true,
                    check_interval: soon,
                    ..StateConfig::default()
                },
                cluster: self.cluster.clone(),
                pvt_data: self.pvt_data.clone(),
                stripe: self.stripe,
                ..Config::default()
            },
            transport: Transport::default(),
            delivery: self.delivery.clone(),
            clients: ClientSettings::default(),
            validity: self.validity,
            vitals: Vitals::default(),
        }
    }

    pub(crate) async fn start(&self, listener: TcpListener) -> RunningNode {
        // It is large, and would be a part of every scene.
        let start = RunningNode::start(self.config(listener));
        Box::pin(start).await.unwrap()
    }
}

/// A certificate of the organization for this machine, and trust in its own.
pub(crate) fn tls_settings(org: &Organization) -> TlsSettings {
    let (certificate, key) = org.tls_pair();
    TlsSettings {
        certificate: certificate.into(),
        key: key.into(),
        roots: vec![org.tls_root_pem().into()],
        ..TlsSettings::default()
    }
}

/// Writes the folder of a local MSP.
pub(crate) fn write_msp(dir: &Path, org: &Organization, member: &Member) {
    let files = [
        ("cacerts/ca.pem", &org.msp().root_certs[0][..]),
        ("signcerts/cert.pem", member.certificate_pem.as_bytes()),
        ("keystore/key_sk", member.key_pem.as_bytes()),
        ("config.yaml", CONFIG_YAML.as_bytes()),
    ];
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// The channel of all tests.
pub(crate) fn channel() -> ChannelId {
    ChannelId::from(CHANNEL)
}

/// Waits for something that comes.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SAFETY_NET, what).await.expect("it comes")
}

/// Waits until the node shows the channel so.
pub(crate) async fn shows(node: &RunningNode, wanted: impl Fn(&ChannelStatus) -> bool) {
    let mut status = node.status();
    let there = status.wait_for(|status| {
        let mut channels = status.channels.iter();
        channels.any(|each| each.channel == channel() && wanted(each))
    });
    soon(there).await.unwrap();
}

/// Waits until the node's ledger holds that many blocks.
pub(crate) async fn reaches(node: &RunningNode, height: u64) {
    shows(node, |channel| channel.height >= height).await;
}
