//! `tidings node`: one node of an organization, from its start to its end.
//!
//! Owns the running node: whatever changes it comes here, from the command line or through the
//! admin socket, one thing after the other.

mod renewal;

use std::convert::Infallible;
use std::env;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use clap::{Args, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings_gossip::id::ChannelId;
use tidings_node::clients::{JoinWish, JoinWishes};
use tidings_node::core_config::{CoreConfig, Settings};
use tidings_node::logging::{self, Logging};
use tidings_node::operations::{self, Shown};
use tidings_node::reception::Serving;
use tidings_node::service::{RunningNode, StartRefused};
use tidings_node::web;
use tidings_proto::block::BlockView;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::read_input;
use crate::admin::server::{Door, Errand};
use crate::admin::{Joined, SOCKET};
use crate::complaint::in_one_line;
use crate::signals::Signals;
use renewal::Renewal;

/// Stopping takes as long as a write to disk does. Whoever sent the signal will not wait for much
/// longer than five seconds, and a node that is cut off here loses nothing that was committed.
const STOP_TIME_MAX: Duration = Duration::from_millis(4500);

/// Errands that wait; each belongs to a connection, which waits with it.
const ERRANDS_MAX: usize = 8;

/// Run a node of an organization.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a node and run it until SIGTERM or SIGINT.
    ///
    /// The node is a peer of its organization to Go peers and orderers. It is configured as a Go
    /// peer is: by core.yaml, in the folder that FABRIC_CFG_PATH names, else here, else in
    /// /etc/hyperledger/fabric; and by CORE_ variables, which win. Channels that it has joined are
    /// kept below peer.fileSystemPath and found there by the next start. Logs go to standard
    /// error; FABRIC_LOGGING_SPEC chooses what is written, and FABRIC_LOGGING_FORMAT=json makes
    /// every line an object. TLS certificates that are renewed on disk are taken up within a
    /// minute, and at once on SIGHUP.
    #[command(after_help = "Examples:
  FABRIC_CFG_PATH=/etc/hyperledger/peercfg tidings node start
  tidings node start --config core.yaml --join mychannel.block
  CORE_PEER_GOSSIP_BOOTSTRAP='peer0.org1.example.com:7051' tidings node start")]
    Start(Start),
}

/// Arguments of `node start`.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// A core.yaml, or the folder of one, in place of the usual places.
    #[arg(long, value_name = "FILE_OR_DIR")]
    config: Option<PathBuf>,
    /// The genesis block of a channel to join, unless it was joined or left before; may be given again.
    #[arg(long, value_name = "GENESIS")]
    join: Vec<PathBuf>,
    /// Where other commands reach this node [default: admin.sock in peer.fileSystemPath].
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
}

impl Command {
    /// Does it.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self::Start(start) = self;
        let outcome = start_logging().and_then(|logging| start.run_to_end(logging));
        match outcome {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // Whoever reads lines of JSON reads the last one, too.
            Err(error) if is_json() => {
                tracing::error!(target: "peer", "{}", in_one_line(&error));
                Ok(ExitCode::FAILURE)
            }
            Err(error) => Err(error),
        }
    }
}

impl Start {
    fn run_to_end(self, logging: Logging) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let outcome = runtime.block_on(self.run(logging));
        // Reads for others must not keep the program from ending.
        runtime.shutdown_background();
        outcome
    }

    async fn run(self, logging: Logging) -> Result<()> {
        let mut signals = Signals::listen()?;
        take_all_descriptors();
        let config = CoreConfig::load(self.config.as_deref())?;
        let settings = Settings::read(&config)?;
        tracing::info!(
            target: "peer",
            config = %config.path().display(), data = %settings.data_dir.display(),
            "tidings {} starts", env!("CARGO_PKG_VERSION")
        );
        let unknown = config.unknown();
        if !unknown.is_empty() {
            tracing::info!(target: "peer", "settings that are not known and do nothing: {}", unknown.join(", "));
        }
        let genesis = self
            .join
            .iter()
            .map(|path| Ok((path.as_path(), read_input(path)?)))
            .collect::<Result<Vec<_>>>()?;
        make_data_dir(&settings.data_dir)?;
        let socket = self.socket.clone();
        let socket = socket.unwrap_or_else(|| settings.data_dir.join(SOCKET));
        let door = Door::open(&socket)?;
        let renewal = Renewal::new(config)?;
        let (joins_in, joins) = mpsc::channel(ERRANDS_MAX);
        let started = tokio::select! {
            started = start(settings, logging, genesis, joins_in) => started,
            name = signals.next() => {
                tracing::info!(target: "peer", "{name} before the node was up");
                return Ok(());
            }
        };
        let (node, servers) = started?;
        tracing::info!(target: "peer", "the node answers at {}", socket.display());
        run(node, servers, &door, &mut signals, (joins, renewal)).await
    }
}

/// A shell gives a program 1024 descriptors as a rule, of which clients would take all; it may
/// have more without asking anybody.
fn take_all_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::info!(target: "peer", "the limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// Makes the folder, for nobody else as private data lies in it, and finds out whether it can be
/// written to before anything else fails in it.
fn make_data_dir(dir: &Path) -> Result<()> {
    let make = || {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if !dir.is_dir() => Err(error),
            _ => tempfile::tempfile_in(dir).map(drop),
        }
    };
    make().with_context(|| {
        let cure = match dir.ancestors().find(|path| path.exists()) {
            Some(there) if !there.is_dir() => "move away the file that is in its place",
            _ => "make it writable for this user",
        };
        let dir = dir.display();
        format!("cannot write to the folder {dir}: {cure}, or name another in peer.fileSystemPath")
    })
}

fn is_json() -> bool {
    let format = env::var("FABRIC_LOGGING_FORMAT").unwrap_or_default();
    format.eq_ignore_ascii_case("json")
}

fn start_logging() -> Result<Logging> {
    let spec = env::var("FABRIC_LOGGING_SPEC").unwrap_or_default();
    logging::start(&spec, is_json())
        .inspect_err(|_refused| {
            // For what is said of it. The only spec that this can refuse was refused already.
            let _ = logging::start(logging::DEFAULT_SPEC, is_json());
        })
        .context("FABRIC_LOGGING_SPEC")
}

/// Starts a node and joins what it is to join. All ports are opened before anything else is done.
async fn start(
    settings: Settings,
    logging: Logging,
    genesis: Vec<(&Path, Bytes)>,
    joins: JoinWishes,
) -> Result<(RunningNode, Vec<Serving>)> {
    let (host, port) = settings.listen.clone();
    let listener = TcpListener::bind((host.as_str(), port))
        .await
        .map_err(|error| {
            anyhow!(
                "cannot listen on {host}:{port}: {error}; name another peer.listenAddress, or stop what uses it"
            )
        })?;
    let operations = settings.operations.clone();
    let http = settings.http.clone();
    let mut config = settings
        .node(listener)
        .context("the port that was opened")?;
    config.clients.joins = Some(joins);
    let mut servers = Vec::new();
    if let Some(operations) = operations {
        let vitals = config.vitals.clone();
        let shown = Shown {
            vitals,
            logging: Some(logging),
        };
        servers.push(operations::start(&operations, shown).await?);
    }
    let http = match http {
        None => None,
        Some(settings) => Some((web::open(&settings).await?, settings)),
    };
    let mut node = RunningNode::start(config).await?;
    if let Some((door, settings)) = http {
        servers.push(web::serve(door, &settings, node.directory().clone()));
    }
    for (path, block) in genesis {
        let view = BlockView::parse(block.clone()).ok();
        if let Some(channel) = view.and_then(|view| view.channel_id().ok())
            && node.has_left(&ChannelId::from(channel.as_str()))
        {
            // Or else what an operator wrote once would undo what was done since, at every start.
            tracing::warn!(
                target: "peer.channel",
                "channel {channel} was left and is not joined at the start: use `tidings channel join`"
            );
            continue;
        }
        match node.join(block).await {
            Ok(_) => {}
            Err(StartRefused::Joined(channel)) => {
                tracing::info!(target: "peer.channel", "channel {channel} was joined before");
            }
            Err(refused) => {
                node.stop().await;
                return Err(anyhow!(refused).context(format!("cannot join by {}", path.display())));
            }
        }
    }
    Ok((node, servers))
}

/// Runs a node until a signal comes or it cannot go on, be it in the middle of an errand.
async fn run(
    mut node: RunningNode,
    mut servers: Vec<Serving>,
    door: &Door,
    signals: &mut Signals,
    (joins, renewal): (mpsc::Receiver<JoinWish>, Renewal),
) -> Result<()> {
    let (errands_in, errands) = mpsc::channel(ERRANDS_MAX);
    let failed = node.failed();
    let failure = tokio::select! {
        () = door.serve(&errands_in) => Some("the admin socket is closed".to_owned()),
        reason = failed => Some(reason),
        name = signals.next() => {
            tracing::info!(target: "peer", "{name}: the node stops");
            None
        }
        never = look_after((&mut node, &mut servers), (errands, joins), renewal) => match never {},
    };
    let stopped = async {
        node.stop().await;
        // Until then it can be seen how the node stops.
        for server in servers {
            server.stop().await;
        }
    };
    if tokio::time::timeout(STOP_TIME_MAX, stopped).await.is_err() {
        tracing::warn!(target: "peer", "the node did not stop in time; what was committed is safe");
    }
    failure.map_or(Ok(()), |reason| Err(anyhow!(reason)))
}

/// Takes up renewed certificates, and does one errand after the other.
async fn look_after(
    (node, servers): (&mut RunningNode, &mut [Serving]),
    (mut errands, mut joins): (mpsc::Receiver<Errand>, mpsc::Receiver<JoinWish>),
    mut renewal: Renewal,
) -> Infallible {
    loop {
        tokio::select! {
            read = renewal.due() => renewal.take_up(node, servers, read),
            // The sender is with the door, so there is always another.
            Some(errand) = errands.recv() => do_errand(node, errand).await,
            Some(wish) = joins.recv() => {
                let joined = node.join(wish.genesis).await;
                // Whoever asked may have gone.
                let _ = wish.done.send(joined.map(drop).map_err(|refused| refused.to_string()));
            }
        }
    }
}

fn not_in(node: &RunningNode, channel: &ChannelId) -> String {
    if node.has_left(channel) {
        return format!("channel '{channel}' was left: `tidings channel join` goes on with it");
    }
    format!("channel '{channel}' has not been joined: `tidings channel list` names those that were")
}

async fn do_errand(node: &mut RunningNode, errand: Errand) {
    // Whoever asked may have gone.
    match errand {
        Errand::Join(genesis, done) => {
            let joined = node.join(genesis).await;
            let joined = joined.map(|channel| Joined {
                warning: node.unnamed(&channel),
                channel: channel.as_str().to_owned(),
            });
            let _ = done.send(joined.map_err(Into::into));
        }
        Errand::Leave(channel, done) => {
            // Closing a ledger takes as long as the disk does.
            let left = node.leave(&channel).await;
            let _ = done.send(left.map_err(Into::into));
        }
        Errand::PrivateData(channel, done) => {
            let data = node.private_data(&channel);
            let _ = done.send(data.with_context(|| not_in(node, &channel)));
        }
        Errand::Reader(channel, done) => {
            let reader = node.reader(&channel);
            let _ = done.send(reader.with_context(|| not_in(node, &channel)));
        }
        Errand::Vitals(done) => {
            let _ = done.send(node.vitals().clone());
        }
        Errand::Channels(done) => {
            let _ = done.send(node.directory().channels());
        }
    }
}
