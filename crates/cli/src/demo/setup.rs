//! The folder and the ports of a demo before anything runs.
//!
//! Promises: nothing that is already there is overwritten; ports are bound before their numbers
//! are written into a genesis block, so that they cannot be lost in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use tidings_msp::channel_config::ChannelConfig;
use tidings_node::service::{AddressOverride, DeliverySettings};
use tidings_proto::Message;
use tokio::net::TcpListener;

use super::arguments::Arguments;
use super::genesis::{self, Batch, Channel};
use super::keys::{self, Kind, Plan};
use super::load;
use super::material::{Material, Member, Organization};
use super::source::Recording;
use crate::orderer;

const CHANNEL: &str = "tidings";
/// The first block, in a made or recorded network.
pub(crate) const GENESIS: &str = "genesis.block";

/// From the port of one node to that of the next: it may have others between.
const PORTS_APART: u16 = 10;

const LOOPBACK: &str = "127.0.0.1";
const ORDERER_DOMAIN: &str = "orderer.demo";
const ORDERER_HOST: &str = "orderer";

/// Fabric's usual limit of a block; the largest `--block-bytes` fits.
const BLOCK_BYTES_MAX: u32 = 99 * 1024 * 1024;

/// Only for a last, incomplete block: the load fills blocks by count.
const BATCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the demo keeps its files.
pub(crate) enum Folder {
    /// Removed at the end.
    Temporary(tempfile::TempDir),
    /// Kept.
    Kept(PathBuf),
}

impl Folder {
    /// The folder asked for, which must hold nothing, or a temporary one.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self> {
        let Some(dir) = dir else {
            let dir = tempfile::Builder::new().prefix("tidings-demo-").tempdir();
            return Ok(Self::Temporary(
                dir.context("cannot make a temporary folder")?,
            ));
        };
        let refused = |error| anyhow!("cannot use {}: {error}; name another folder", dir.display());
        fs::create_dir_all(dir).map_err(refused)?;
        let empty = fs::read_dir(dir).map_err(refused)?.next().is_none();
        ensure!(
            empty,
            "{} is not empty: name a new folder, or empty it",
            dir.display()
        );
        Ok(Self::Kept(dir.to_owned()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

/// A member with the port that it will listen on.
pub(crate) struct Seat {
    /// Who.
    pub(crate) member: Member,
    /// Its port, open.
    pub(crate) listener: TcpListener,
    /// `host:port` of it.
    pub(crate) endpoint: String,
}

/// Everything that is needed to start the nodes and the orderer.
pub(crate) struct Setup {
    /// Keys, genesis block, organizations.
    pub(crate) material: Material,
    /// The orderer.
    pub(crate) orderer: Seat,
    /// The nodes, organization by organization.
    pub(crate) seats: Vec<Vec<Seat>>,
    /// How the nodes reach the orderer.
    pub(crate) delivery: DeliverySettings,
    /// Files of the blocks that the orderer will serve; none if it makes them.
    pub(crate) recording: Option<Vec<PathBuf>>,
}

/// What a made network looks like.
pub(crate) struct Shape {
    /// Organizations with peers.
    pub(crate) orgs: u16,
    /// Peers of each.
    pub(crate) peers: u16,
    /// Transactions that fill a block.
    pub(crate) block_transactions: u32,
    /// How long a block waits to be full.
    pub(crate) batch_timeout: Duration,
    /// The orderer's port, from which those of the nodes follow; none: whatever is free.
    pub(crate) first_port: Option<u16>,
}

impl Shape {
    /// The shape of a demo.
    pub(crate) fn of(arguments: &Arguments) -> Result<Self> {
        let per_block = load::per_block(usize::try_from(arguments.block_bytes)?);
        Ok(Self {
            orgs: arguments.orgs,
            peers: arguments.peers,
            block_transactions: u32::try_from(per_block)?,
            batch_timeout: BATCH_TIMEOUT,
            first_port: None,
        })
    }

    /// Opens the port of the orderer, which is the first, or of a node.
    async fn open(&self, index: u16) -> Result<TcpListener> {
        let port = self.first_port.map_or(0, |first| {
            first.saturating_add(index.saturating_mul(PORTS_APART))
        });
        orderer::listen(port).await.with_context(|| match port {
            0 => "cannot open a port on 127.0.0.1".to_owned(),
            port => format!("cannot listen on 127.0.0.1:{port}: another --first-port may be free"),
        })
    }
}

/// Makes an organization whose first node is its anchor. Its nodes, with their ports, come behind
/// those of others.
async fn make_org(
    crypto: &Path,
    shape: &Shape,
    number: u16,
    nodes: &mut Vec<(String, TcpListener)>,
) -> Result<genesis::Member> {
    let domain = format!("org{number}.demo");
    let hosts: Vec<String> = (0..shape.peers).map(|peer| format!("peer{peer}")).collect();
    let first = nodes.len();
    for host in &hosts {
        let index = u16::try_from(nodes.len() + 1)?;
        let listener = shape.open(index).await?;
        nodes.push((format!("{host}.{domain}"), listener));
    }
    let anchor = nodes.get(first).map(|(_, listener)| port(listener));
    let anchor = anchor.transpose()?;
    let plan = Plan {
        kind: Kind::Peers,
        domain: domain.clone(),
        hosts,
    };
    keys::make(crypto, &plan)?;
    Ok(genesis::Member {
        name: format!("Org{number}"),
        msp_id: format!("Org{number}MSP"),
        domain,
        addresses: anchor
            .map(|port| (LOOPBACK.to_owned(), port))
            .into_iter()
            .collect(),
    })
}

/// Makes a network.
pub(crate) async fn make(dir: &Path, shape: &Shape) -> Result<Setup> {
    let crypto = dir.join("crypto");
    let orderer_port = shape.open(0).await?;
    let (mut ports, mut application) = (Vec::new(), Vec::new());
    for number in 1..=shape.orgs {
        application.push(make_org(&crypto, shape, number, &mut ports).await?);
    }
    let plan = Plan {
        kind: Kind::Orderers,
        domain: ORDERER_DOMAIN.into(),
        hosts: vec![ORDERER_HOST.into()],
    };
    keys::make(&crypto, &plan)?;
    let channel = Channel {
        id: CHANNEL.into(),
        orderer: genesis::Member {
            name: "OrdererOrg".into(),
            msp_id: "OrdererMSP".into(),
            domain: ORDERER_DOMAIN.into(),
            addresses: vec![(LOOPBACK.to_owned(), port(&orderer_port)?)],
        },
        orderer_host: format!("{ORDERER_HOST}.{ORDERER_DOMAIN}"),
        application,
        batch: Batch {
            messages_max: shape.block_transactions,
            bytes_max: BLOCK_BYTES_MAX,
            bytes_preferred: BLOCK_BYTES_MAX,
            timeout: shape.batch_timeout,
        },
    };
    let block = genesis::make(&crypto, &channel, SystemTime::now())?;
    let path = dir.join(GENESIS);
    fs::write(&path, block.encode_to_vec())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let material = Material::read(dir)?;
    let orderer = seat(material.orderer.clone(), orderer_port)?;
    let mut seats = Vec::new();
    for org in &material.orgs {
        let mut of_org = Vec::new();
        for member in &org.peers {
            let at = ports.iter().position(|(name, _)| *name == member.name);
            let at = at.context("a peer without a port")?;
            of_org.push(seat(member.clone(), ports.swap_remove(at).1)?);
        }
        seats.push(of_org);
    }
    Ok(Setup {
        material,
        orderer,
        seats,
        delivery: DeliverySettings::default(),
        recording: None,
    })
}

/// Reads a recorded network. Its orderer listens on a free port, and the nodes are told that this
/// is where the channel's configuration means.
pub(crate) async fn recorded(dir: &Path, arguments: &Arguments) -> Result<Setup> {
    let mut material =
        Material::read(dir).with_context(|| format!("{} is no recording", dir.display()))?;
    material.limit_peers(usize::from(arguments.peers));
    let recording = Recording::read(dir, &material.genesis)?;
    let named = [&material.config, &recording.config].map(ChannelConfig::orderer_endpoints);
    let addresses: BTreeSet<String> = named
        .into_iter()
        .flatten()
        .flat_map(|endpoints| endpoints.addresses)
        .collect();
    let host = addresses
        .first()
        .and_then(|address| Some(address.rsplit_once(':')?.0))
        .context("the recorded configuration names no orderer")?;
    let listener = recorded_door(host).await?;
    // By its own name, which is in its certificate.
    let instead = AddressOverride {
        to: format!("{host}:{}", port(&listener)?),
        tls_roots: vec![material.orderer.tls_file("ca.crt")?],
    };
    let delivery = DeliverySettings {
        address_overrides: addresses
            .iter()
            .map(|address| (address.clone(), instead.clone()))
            .collect(),
        ..DeliverySettings::default()
    };
    let orderer = seat(material.orderer.clone(), listener)?;
    let anchors = anchors(&recording.config);
    let mut seats = Vec::new();
    for org in &material.orgs {
        seats.push(recorded_seats(org, anchors.get(&org.msp_id).copied()).await?);
    }
    Ok(Setup {
        material,
        orderer,
        seats,
        delivery,
        recording: Some(recording.files),
    })
}

/// A free port of the host that the recorded orderer had, which must be this machine.
async fn recorded_door(host: &str) -> Result<TcpListener> {
    let not_here = |reason: String| {
        anyhow!(
            "the recorded orderer must answer as {host} here: {reason}; have that name lead to \
             {LOOPBACK}, in /etc/hosts for one"
        )
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let listener = TcpListener::bind((bare, 0))
        .await
        .map_err(|error| not_here(error.to_string()))?;
    let ip = listener
        .local_addr()
        .context("cannot read the number of a port")?
        .ip();
    if !ip.is_loopback() {
        return Err(not_here(format!("it leads to {ip}")));
    }
    Ok(listener)
}

/// Ports of the anchor peers that the last recorded configuration names: other organizations
/// will look for a peer there.
fn anchors(config: &ChannelConfig) -> BTreeMap<String, u16> {
    let orgs = config.application_organizations().values();
    orgs.filter_map(|org| Some((org.msp_id.clone(), org.anchors.first()?.port)))
        .collect()
}

/// The first peer sits at the port of the anchor peer if that is free; the others anywhere.
async fn recorded_seats(org: &Organization, anchor: Option<u16>) -> Result<Vec<Seat>> {
    let mut seats = Vec::new();
    for (index, member) in org.peers.iter().enumerate() {
        let wanted = if index == 0 { anchor } else { None };
        let listener = match orderer::listen(wanted.unwrap_or(0)).await {
            Err(_) if wanted.is_some() => orderer::listen(0).await,
            listener => listener,
        };
        seats.push(seat(
            member.clone(),
            listener.context("cannot open a port on 127.0.0.1")?,
        )?);
    }
    Ok(seats)
}

/// A member with its open port.
pub(crate) fn seat(member: Member, listener: TcpListener) -> Result<Seat> {
    let endpoint = format!("{LOOPBACK}:{}", port(&listener)?);
    Ok(Seat {
        member,
        listener,
        endpoint,
    })
}

fn port(listener: &TcpListener) -> Result<u16> {
    Ok(listener
        .local_addr()
        .context("cannot read the number of a port")?
        .port())
}
