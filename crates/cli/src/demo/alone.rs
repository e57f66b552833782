//! `tidings orderer`: everything of a demo but its nodes, for those who start nodes themselves.
//!
//! Promises: a folder is made once; whoever comes back to it finds the same network and its chain.
//! Starts no node, and submits nothing unless that is asked for.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use tidings_node::logging;
use tidings_proto::block::BlockView;
use tokio::net::TcpListener;

use super::arguments::{ORGS_MAX, PEERS_MAX, rate};
use super::load::Load;
use super::material::Material;
use super::run::door;
use super::setup::{self, Seat, Shape};
use super::source::{self, Rate};
use crate::commands::print;
use crate::orderer::{Chain, Orderer};
use crate::signals::Signals;
use crate::signer;

/// How long a block waits to be full.
const BATCH_TIMEOUT: Duration = Duration::from_millis(500);

/// Of a node, from its own port: its operations server.
const OPERATIONS: u16 = 2;

/// How often it is looked whether the orderer can go on.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Run the development orderer alone, for nodes that you start yourself.
///
/// A new folder is filled with keys and certificates as cryptogen lays them out, the genesis block
/// of a channel `tidings`, and for every peer a core.yaml; the commands that start nodes are
/// printed. The orderer then takes transactions and configuration updates of clients until
/// SIGTERM or SIGINT. Given the folder again, or that of `tidings demo --dir`, it goes on with its
/// chain. Without clients there are no blocks: --rate makes some. Everything listens on 127.0.0.1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidings orderer net --rate 1
  tidings node start --config net/nodes/peer0.org1.demo --join net/genesis.block
  tidings orderer net --orgs 3 --first-port 20000")]
pub(crate) struct Arguments {
    /// A new or empty folder, or one that this command made.
    dir: PathBuf,
    /// Organizations with peers, in a new folder.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(ORGS_MAX)))]
    orgs: u16,
    /// Peers of each organization, in a new folder.
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(PEERS_MAX)))]
    peers: u16,
    /// Transactions that fill a block, in a new folder.
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    block_transactions: u32,
    /// Order transactions of its own, as `tidings demo` does: blocks a second, 0.001 to 100000, or
    /// `max`.
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = rate)]
    rate: Option<Rate>,
    /// Port of the orderer in a new folder; each node has the tenth one after that of the one
    /// before. Without it they are whatever was free.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=60_000))]
    first_port: Option<u16>,
}

/// Runs the orderer to its end.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let spec = std::env::var("FABRIC_LOGGING_SPEC").unwrap_or_default();
    logging::start(&spec, false).context("FABRIC_LOGGING_SPEC")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(order(arguments));
    // Streams that clients hold open must not keep the program from ending.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn order(arguments: &Arguments) -> Result<()> {
    let mut signals = Signals::listen()?;
    let dir = &arguments.dir;
    let (material, seat) = if dir.join(setup::GENESIS).exists() {
        again(dir).await?
    } else {
        make(arguments).await?
    };
    let on_cut = Box::new(|block: &BlockView| {
        let number = block.number().unwrap_or_default();
        let transactions = block.transactions_len();
        tracing::info!(target: "orderer", number, transactions, "cut a block");
    });
    let chain = Chain::open(&dir.join("orderer"), &material.genesis, on_cut)?;
    let signer = signer::read(&seat.member.msp, &seat.member.msp_id)?;
    let endpoint = seat.endpoint.clone();
    let orderer = Arc::new(Orderer::ordering(chain, signer, door(seat)?));
    tracing::info!(
        target: "orderer", height = orderer.chain().height(), "the orderer listens on {endpoint}"
    );
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut submitting = pin!(submit(&orderer, &material, arguments.rate));
    loop {
        tokio::select! {
            name = signals.next() => {
                tracing::info!(target: "orderer", "{name}: the orderer stops");
                return Ok(());
            }
            _ = look.tick() => if let Some(reason) = orderer.failure() {
                bail!("{reason}");
            },
            submitted = &mut submitting => match submitted? {},
        }
    }
}

/// Submits transactions that fill blocks at this rate, for ever; nothing without one.
async fn submit(orderer: &Orderer, material: &Material, rate: Option<Rate>) -> Result<Infallible> {
    if let Some(rate) = rate {
        // No larger than they have to be.
        let load = Load::of(material, 0)?;
        let per_block = orderer.chain().config().batch().message_count_max;
        let load = load.with_per_block(usize::try_from(per_block)?);
        source::submit(orderer, &load, rate, None).await?;
    } else {
        let text = "blocks come of what clients submit: with --rate they come by themselves";
        tracing::info!(target: "orderer", "{text}");
    }
    std::future::pending().await
}

/// Makes a network and says how its nodes are started.
async fn make(arguments: &Arguments) -> Result<(Material, Seat)> {
    let dir = setup::Folder::open(Some(&arguments.dir))?;
    let made = setup::make(
        dir.path(),
        &Shape {
            orgs: arguments.orgs,
            peers: arguments.peers,
            block_transactions: arguments.block_transactions,
            batch_timeout: BATCH_TIMEOUT,
            first_port: arguments.first_port,
        },
    )
    .await?;
    let mut told = String::new();
    for org in &made.seats {
        let bootstrap = org.first().map_or("", |seat| &seat.endpoint);
        for seat in org {
            let folder = dir.path().join("nodes").join(&seat.member.name);
            write_config(&folder, seat, bootstrap)?;
            let (folder, genesis) = (folder.display(), dir.path().join(setup::GENESIS));
            let genesis = genesis.display();
            writeln!(
                told,
                "tidings node start --config {folder} --join {genesis}"
            )?;
        }
    }
    print(&told)?;
    Ok((made.material, made.orderer))
}

/// Goes back to a network that was made before.
async fn again(dir: &Path) -> Result<(Material, Seat)> {
    let material = Material::read(dir)?;
    let endpoints = material.config.orderer_endpoints();
    let mut addresses = endpoints.iter().flat_map(|group| &group.addresses);
    let address = addresses
        .next()
        .context("the genesis block names no orderer")?;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: stop what uses that port"))?;
    tracing::info!(
        target: "orderer",
        "goes on with the network in {}; what is said of a new folder is not followed", dir.display()
    );
    let seat = setup::seat(material.orderer.clone(), listener)?;
    Ok((material, seat))
}

/// What a peer is started from, with the keys of an operator's own file.
fn write_config(folder: &Path, seat: &Seat, bootstrap: &str) -> Result<()> {
    let Seat {
        member, endpoint, ..
    } = seat;
    let (host, port) = endpoint
        .rsplit_once(':')
        .context("an endpoint has a port")?;
    let operations = port.parse::<u16>()?.saturating_add(OPERATIONS);
    let of = |path: &Path| -> Result<String> {
        // Relative to the file, so that the folder may be moved.
        let root = folder
            .parent()
            .and_then(Path::parent)
            .context("a folder of nodes")?;
        let path = path.strip_prefix(root).context("keys lie in the folder")?;
        Ok(Path::new("../..").join(path).display().to_string())
    };
    let (msp, tls) = (of(&member.msp)?, of(&member.tls)?);
    let text = format!(
        r#"peer:
  id: {name}
  listenAddress: {endpoint}
  address: {endpoint}
  localMspId: {msp_id}
  mspConfigPath: "{msp}"
  fileSystemPath: data
  gossip:
    bootstrap: {bootstrap}
    externalEndpoint: {endpoint}
    useLeaderElection: true
    orgLeader: false
    state: {{enabled: true}}
  deliveryclient: {{blockGossipEnabled: true}}
  tls:
    enabled: true
    cert: {{file: "{tls}/server.crt"}}
    key: {{file: "{tls}/server.key"}}
    rootcert: {{file: "{tls}/ca.crt"}}
operations: {{listenAddress: "{host}:{operations}", dashboard: {{enabled: true}}}}
metrics: {{provider: prometheus}}
"#,
        name = member.name,
        msp_id = member.msp_id,
    );
    let path = folder.join("core.yaml");
    let refused = || format!("cannot write {}", path.display());
    fs::create_dir_all(folder).with_context(refused)?;
    fs::write(&path, text).with_context(refused)
}
