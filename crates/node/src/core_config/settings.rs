//! What a node is started from, made of the keys.

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tidings_gossip::{Config, ElectionConfig, StateConfig};
use tidings_ledger::Retention;
use tokio::net::TcpListener;

use super::{ConfigRefused, CoreConfig, address, delivery, operations, private};
use crate::{
    clients::ClientSettings,
    operations::OperationsSettings,
    reception::{ListenerSettings, ListenersTls},
    service::{DeliverySettings, NodeConfig, Transport},
    tls::{Section, TlsError, TlsFiles, TlsSettings},
    validity::{ORGANIZATIONS_MAX, ValiditySettings},
    vitals::Vitals,
};

/// All that a node needs but an open port.
#[derive(Debug)]
pub struct Settings {
    /// `peer.listenAddress`: host and port to listen on.
    pub listen: (String, u16),
    /// `peer.localMspId`.
    pub msp_id: String,
    /// `peer.mspConfigPath`.
    pub msp_dir: PathBuf,
    /// `peer.tls`; none if that is not enabled.
    pub tls: Option<TlsSettings>,
    /// `peer.gossip.endpoint`, else made of `peer.address`. Port 0 stands for the one that is
    /// listened on.
    pub endpoint: String,
    /// `peer.gossip.externalEndpoint`.
    pub external_endpoint: String,
    /// `peer.fileSystemPath`.
    pub data_dir: PathBuf,
    /// `ledger.retention`.
    pub retention: Retention,
    /// `peer.gossip`, and of `peer.deliveryclient` what the protocol core needs.
    pub gossip: Config,
    /// What of `peer.gossip` concerns connections.
    pub transport: Transport,
    /// What of `peer.deliveryclient` concerns connections.
    pub delivery: DeliverySettings,
    /// `peer.authentication` and `peer.limits.concurrency.deliverService`.
    pub clients: ClientSettings,
    /// `validity.organizations`.
    pub validity_organizations: usize,
    /// `operations`, and of `metrics` whether they are served; none if there is nowhere to listen.
    pub operations: Option<OperationsSettings>,
    /// `http`; none if there is nowhere to listen.
    pub http: Option<ListenerSettings>,
}

impl Settings {
    /// Reads every key that a node has.
    pub fn read(config: &CoreConfig) -> Result<Self, ConfigRefused> {
        let listen = config.must("peer.listenAddress", "where to listen, host:port")?;
        let settings = Self {
            listen: address::to_listen_on("peer.listenAddress", &listen)?,
            msp_id: config.must("peer.localMspId", "the id of our organization's MSP")?,
            msp_dir: config.place("peer.mspConfigPath", "the folder of the local MSP")?,
            tls: tls(config)?,
            endpoint: endpoint(config)?,
            external_endpoint: config
                .text("peer.gossip.externalEndpoint")?
                .unwrap_or_default(),
            data_dir: config.data_dir()?,
            retention: retention(config)?,
            gossip: gossip(config)?,
            transport: transport(config)?,
            delivery: delivery::settings(config)?,
            clients: clients(config)?,
            validity_organizations: validity(config)?,
            operations: operations::settings(config)?,
            http: operations::http(config)?,
        };
        warn_of_what_is_not_followed(config)?;
        Ok(settings)
    }

    /// Reads the files that `peer.tls` names once more.
    pub fn read_tls(config: &CoreConfig) -> Result<Option<TlsSettings>, ConfigRefused> {
        tls(config)
    }

    /// Why the TLS of the operations server, or of blocks by HTTP, cannot be used.
    pub fn listener_faults(&self, now: SystemTime) -> Vec<TlsError> {
        let operations = self.operations.as_ref().and_then(|of| of.tls.as_ref());
        let http = self.http.as_ref().and_then(|of| of.tls.as_ref());
        let listeners = [(Section::OPERATIONS, operations), (Section::HTTP, http)];
        let checked = listeners.into_iter().filter_map(|(section, tls)| {
            let tls = tls?;
            tls.server_config(section, now).err()
        });
        checked.collect()
    }

    /// Reads the files that `operations.tls` and `http.tls` name once more.
    pub fn read_listeners_tls(config: &CoreConfig) -> Result<ListenersTls, ConfigRefused> {
        operations::listeners_tls(config)
    }

    /// What [`crate::service::RunningNode::start`] wants, with the port that was opened.
    pub fn node(self, listener: TcpListener) -> io::Result<NodeConfig> {
        let endpoint = match self.endpoint.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", listener.local_addr()?.port()),
            None => self.endpoint,
        };
        Ok(NodeConfig {
            msp_id: self.msp_id,
            msp_dir: self.msp_dir,
            tls: self.tls,
            listener,
            endpoint,
            external_endpoint: self.external_endpoint,
            data_dir: self.data_dir,
            ledger: tidings_ledger::Settings {
                retention: self.retention,
                ..tidings_ledger::Settings::default()
            },
            gossip: self.gossip,
            transport: self.transport,
            delivery: self.delivery,
            clients: self.clients,
            validity: ValiditySettings {
                organizations: self.validity_organizations,
                ..ValiditySettings::default()
            },
            vitals: Vitals::default(),
        })
    }
}

fn endpoint(config: &CoreConfig) -> Result<String, ConfigRefused> {
    let detect = config.flag("peer.addressAutoDetect", false)?;
    let configured = config.must(
        "peer.address",
        "where other peers reach this one, host:port",
    )?;
    address::split("peer.address", &configured)?;
    match config.text("peer.gossip.endpoint")? {
        Some(endpoint) => {
            address::split("peer.gossip.endpoint", &endpoint)?;
            Ok(endpoint)
        }
        None => address::to_announce("peer.address", &configured, detect, address::own),
    }
}

/// Zero is as good as not set: a ledger of no blocks is not what anybody means.
fn retention(config: &CoreConfig) -> Result<Retention, ConfigRefused> {
    const DAY_S: u64 = 24 * 3600;
    let blocks = config.literal("ledger.retention.blocks", 0)?;
    let days: u32 = config.literal("ledger.retention.days", 0)?;
    Ok(Retention {
        blocks: Some(blocks).filter(|blocks| *blocks > 0),
        age: (days > 0).then(|| Duration::from_secs(u64::from(days) * DAY_S)),
    })
}

fn clients(config: &CoreConfig) -> Result<ClientSettings, ConfigRefused> {
    let usual = ClientSettings::default();
    let streams_max =
        config.literal("peer.limits.concurrency.deliverService", usual.streams_max)?;
    Ok(ClientSettings {
        time_window: config.duration_or("peer.authentication.timewindow", usual.time_window)?,
        // As in Fabric, 0 is no limit.
        streams_max: if streams_max == 0 {
            usize::MAX
        } else {
            streams_max
        },
        discovery: config.flag("peer.discovery.enabled", usual.discovery)?,
        members_discover: config.flag(
            "peer.discovery.orgMembersAllowedAccess",
            usual.members_discover,
        )?,
        joins: None,
    })
}

/// How many organizations have to agree. Only TLS shows whose a peer is that says something.
fn validity(config: &CoreConfig) -> Result<usize, ConfigRefused> {
    const KEY: &str = "validity.organizations";
    let organizations: usize = config.literal(KEY, 0)?;
    if organizations > ORGANIZATIONS_MAX {
        let wanted = "16 or less: more organizations are not asked";
        return Err(super::bad(KEY, &organizations.to_string(), wanted));
    }
    if organizations > 0 && !config.flag("peer.tls.enabled", false)? {
        return Err(ConfigRefused::Conflict(
            "validity.organizations needs peer.tls.enabled: without TLS a peer can say that it is of \
             any organization",
        ));
    }
    Ok(organizations)
}

fn tls(config: &CoreConfig) -> Result<Option<TlsSettings>, ConfigRefused> {
    if !config.flag("peer.tls.enabled", false)? {
        return Ok(None);
    }
    let must = |key, wanted| {
        let content = config.content(key)?;
        content.ok_or(ConfigRefused::Missing { key, wanted })
    };
    let certificate = must("peer.tls.cert.file", "peer.tls.enabled is true")?;
    let key = must("peer.tls.key.file", "peer.tls.enabled is true")?;
    let client_certificate = config.content("peer.tls.clientCert.file")?;
    let client_key = config.content("peer.tls.clientKey.file")?;
    if client_certificate.is_some() != client_key.is_some() {
        return Err(ConfigRefused::Conflict(
            "only one of peer.tls.clientCert.file and peer.tls.clientKey.file is set: \
             set both, or neither to use the server's pair",
        ));
    }
    let client_auth_required = config.flag("peer.tls.clientAuthRequired", false)?;
    let client_roots = if client_auth_required {
        config.contents("peer.tls.clientRootCAs.files")?
    } else {
        Vec::new()
    };
    let root = config.content("peer.tls.rootcert.file")?;
    Ok(Some(TlsSettings {
        certificate,
        key,
        client_certificate,
        client_key,
        client_auth_required,
        client_roots,
        roots: root.into_iter().collect(),
        files: files(
            config,
            &[
                "peer.tls.cert.file",
                "peer.tls.key.file",
                "peer.tls.clientCert.file",
                "peer.tls.clientKey.file",
                "peer.tls.rootcert.file",
            ],
            client_auth_required.then_some("peer.tls.clientRootCAs.files"),
        )?,
    }))
}

/// The files that keys of TLS name, one each and a list, in the order in which they were read.
pub(super) fn files(
    config: &CoreConfig,
    keys: &[&'static str],
    list: Option<&'static str>,
) -> Result<TlsFiles, ConfigRefused> {
    let mut files = TlsFiles::new();
    for &key in keys {
        let name = config.text(key)?;
        files.extend(name.map(|name| (key, vec![config.beside(&name)])));
    }
    if let Some(key) = list {
        let names = config.list(key)?;
        files.insert(key, names.iter().map(|name| config.beside(name)).collect());
    }
    Ok(files)
}

fn transport(config: &CoreConfig) -> Result<Transport, ConfigRefused> {
    let default = Transport::default();
    Ok(Transport {
        dial_timeout: config.duration_or("peer.gossip.dialTimeout", default.dial_timeout)?,
        conn_timeout: config.duration_or("peer.gossip.connTimeout", default.conn_timeout)?,
        send_queue_len_max: config
            .number_or("peer.gossip.sendBuffSize", default.send_queue_len_max)?,
    })
}

fn gossip(config: &CoreConfig) -> Result<Config, ConfigRefused> {
    let default = membership(config, spreading(config, Config::default())?)?;
    let org_leader = config.flag("peer.gossip.orgLeader", false)?;
    let use_leader_election = config.flag("peer.gossip.useLeaderElection", false)?;
    if org_leader && use_leader_election {
        return Err(ConfigRefused::Conflict(
            "peer.gossip.orgLeader and peer.gossip.useLeaderElection exclude each other: switch one off",
        ));
    }
    Ok(Config {
        stripe: config.flag("peer.gossip.stripes", true)?,
        bootstrap: config.list("peer.gossip.bootstrap")?,
        org_leader,
        use_leader_election,
        election: election(config)?,
        state: state(config)?,
        block_gossip_enabled: config.flag("peer.deliveryclient.blockGossipEnabled", true)?,
        reconnect_total_time_threshold: config.duration_or(
            "peer.deliveryclient.reconnectTotalTimeThreshold",
            default.reconnect_total_time_threshold,
        )?,
        reconnect_backoff_threshold: config.duration_or(
            "peer.deliveryclient.reConnectBackoffThreshold",
            default.reconnect_backoff_threshold,
        )?,
        cluster: delivery::cluster(config)?,
        pvt_data: private::settings(config)?,
        ..default
    })
}

/// How messages are pushed and pulled.
fn spreading(config: &CoreConfig, default: Config) -> Result<Config, ConfigRefused> {
    let time = |key, default| config.duration_or(key, default);
    Ok(Config {
        max_block_count_to_store: config.number_or(
            "peer.gossip.maxBlockCountToStore",
            default.max_block_count_to_store,
        )?,
        max_propagation_burst_latency: time(
            "peer.gossip.maxPropagationBurstLatency",
            default.max_propagation_burst_latency,
        )?,
        max_propagation_burst_size: config.number_or(
            "peer.gossip.maxPropagationBurstSize",
            default.max_propagation_burst_size,
        )?,
        propagate_iterations: config.number_or(
            "peer.gossip.propagateIterations",
            default.propagate_iterations,
        )?,
        propagate_peer_num: config
            .number_or("peer.gossip.propagatePeerNum", default.propagate_peer_num)?,
        pull_interval: time("peer.gossip.pullInterval", default.pull_interval)?,
        pull_peer_num: config.number_or("peer.gossip.pullPeerNum", default.pull_peer_num)?,
        digest_wait_time: time("peer.gossip.digestWaitTime", default.digest_wait_time)?,
        request_wait_time: time("peer.gossip.requestWaitTime", default.request_wait_time)?,
        response_wait_time: time("peer.gossip.responseWaitTime", default.response_wait_time)?,
        ..default
    })
}

/// How members hear of each other, and when they are given up.
fn membership(config: &CoreConfig, default: Config) -> Result<Config, ConfigRefused> {
    let time = |key, default| config.duration_or(key, default);
    let alive_time_interval = time("peer.gossip.aliveTimeInterval", default.alive_time_interval)?;
    let alive_expiration_timeout = time(
        "peer.gossip.aliveExpirationTimeout",
        5 * alive_time_interval,
    )?;
    Ok(Config {
        request_state_info_interval: time(
            "peer.gossip.requestStateInfoInterval",
            default.request_state_info_interval,
        )?,
        publish_state_info_interval: time(
            "peer.gossip.publishStateInfoInterval",
            default.publish_state_info_interval,
        )?,
        publish_cert_period: time("peer.gossip.publishCertPeriod", default.publish_cert_period)?,
        membership_tracker_interval: time(
            "peer.gossip.membershipTrackerInterval",
            default.membership_tracker_interval,
        )?,
        alive_time_interval,
        alive_expiration_timeout,
        reconnect_interval: time("peer.gossip.reconnectInterval", alive_expiration_timeout)?,
        msg_expiration_factor: config.number_or(
            "peer.gossip.msgExpirationFactor",
            default.msg_expiration_factor,
        )?,
        ..default
    })
}

/// `peer.gossip.election`.
fn election(config: &CoreConfig) -> Result<ElectionConfig, ConfigRefused> {
    let default = ElectionConfig::default();
    Ok(ElectionConfig {
        startup_grace_period: config.duration_or(
            "peer.gossip.election.startupGracePeriod",
            default.startup_grace_period,
        )?,
        membership_sample_interval: config.duration_or(
            "peer.gossip.election.membershipSampleInterval",
            default.membership_sample_interval,
        )?,
        leader_alive_threshold: config.duration_or(
            "peer.gossip.election.leaderAliveThreshold",
            default.leader_alive_threshold,
        )?,
        leader_election_duration: config.duration_or(
            "peer.gossip.election.leaderElectionDuration",
            default.leader_election_duration,
        )?,
    })
}

/// `peer.gossip.state`, where a zero is meant.
fn state(config: &CoreConfig) -> Result<StateConfig, ConfigRefused> {
    let default = StateConfig::default();
    let time = |key, default| {
        let set = config.duration(key)?;
        Ok(set.unwrap_or(default).max(super::DURATION_MIN))
    };
    Ok(StateConfig {
        enabled: config.flag("peer.gossip.state.enabled", false)?,
        check_interval: time("peer.gossip.state.checkInterval", default.check_interval)?,
        response_timeout: time(
            "peer.gossip.state.responseTimeout",
            default.response_timeout,
        )?,
        batch_size: config.literal("peer.gossip.state.batchSize", default.batch_size)?,
        block_buffer_size: config.literal(
            "peer.gossip.state.blockBufferSize",
            default.block_buffer_size,
        )?,
        max_retries: config.literal("peer.gossip.state.maxRetries", default.max_retries)?,
        channel_size: config.literal("peer.gossip.state.channelSize", default.channel_size)?,
    })
}

/// Settings that a Go peer would obey and this node does not.
fn warn_of_what_is_not_followed(config: &CoreConfig) -> Result<(), ConfigRefused> {
    const PROVIDER: &str = "peer.BCCSP.Default";
    let provider = config.text(PROVIDER)?;
    if let Some(provider) = provider.filter(|name| !name.eq_ignore_ascii_case("SW")) {
        config.warn(format!(
            "{PROVIDER}: {provider} is not followed: keys are read from the MSP's keystore"
        ));
    }
    Ok(())
}
