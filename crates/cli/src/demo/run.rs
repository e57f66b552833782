//! The course of a demo: start, show, disturb, end.
//!
//! One loop turns everything that happens into snapshots. It decides when the run is over and
//! never waits for anything but the next event or the next picture.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use tidings_msp::crypto::sha256;
use tidings_node::operations::{self, OperationsSettings, Shown};
use tidings_node::reception::Serving;
use tidings_node::tls::{Tls, TlsSettings};
use tidings_proto::block::BlockView;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::arguments::Arguments;
use super::load::Load;
use super::network::{Event, Network};
use super::outcome::{Truth, judge};
use super::page;
use super::progress::{Cut, Progress};
use super::setup::{self, Folder, Seat, Setup, Shape};
use super::snapshot::Snapshot;
use super::source;
use super::terminal::{Live, MemorySummary, resident_memory};
use crate::commands;
use crate::complaint::in_one_line;
use crate::orderer::{Chain, Door, Orderer};
use crate::signals::Signals;
use crate::signer;

/// Between two pictures.
const PICTURE_INTERVAL: Duration = Duration::from_millis(200);

/// Longest wait for the nodes of each organization to know each other before blocks flow.
const MEETING_TIME_MAX: Duration = Duration::from_secs(20);

/// A run in which no node commits anything for so long has failed.
const STALL_TIME_MAX: Duration = Duration::from_secs(120);

/// After Ctrl-C: time for the last blocks to reach everybody.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(10);

/// Commits taken in one turn of the loop.
const EVENTS_AT_ONCE: usize = 256;

/// The height at which memory is noted for the first time.
const MEMORY_HEIGHT: u64 = 100;

/// Runs the demo to its end.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    // Before there is anything that would be left behind.
    let mut signals = Signals::listen()?;
    let folder = Folder::open(arguments.dir.as_deref())?;
    let page = match arguments.page() {
        Some((address, exactly)) => Some(open_page(address, exactly).await?),
        None => None,
    };
    let setup = match &arguments.recorded {
        Some(dir) => setup::recorded(dir, arguments).await?,
        None => setup::make(folder.path(), &Shape::of(arguments)?).await?,
    };
    let mut live = Live::new();
    if let Folder::Kept(dir) = &folder {
        live.say(&format!("folder   {}", dir.display()));
    }
    let (sender, snapshots) = watch::channel(Snapshot::default());
    if let Some((listener, address)) = page {
        live.say(&format!("page     {address}"));
        tokio::spawn(page::serve(listener, snapshots));
    }
    let mut course = tokio::select! {
        course = Course::begin(arguments, folder.path(), setup, live, sender) => course?,
        signal = signals.next() => bail!("ended by {signal} before the network was up"),
    };
    let problems = course.play(&mut signals).await;
    course.end(arguments, problems).await
}

/// Opens the port of the page and says where a browser finds it.
async fn open_page(
    address: SocketAddr,
    exactly: bool,
) -> Result<(tokio::net::TcpListener, String)> {
    let any = SocketAddr::new(address.ip(), 0);
    let listener = match page::listen(address).await {
        Err(_) if !exactly => page::listen(any).await,
        listener => listener,
    };
    let listener = listener.map_err(|error| {
        anyhow!(
            "cannot serve the page at {address}: {error}; give another --page-port, or --no-page"
        )
    })?;
    let mut address = listener.local_addr().context("the port of the page")?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok((listener, format!("http://{address}/")))
}

/// Serves the dashboard of one node, to be seen beside the page of all.
async fn show_node(
    arguments: &Arguments,
    network: &Network,
    live: &mut Live,
) -> Result<Option<Serving>> {
    // Within a container only the page is looked at from outside.
    let is_wanted = !arguments.no_page && arguments.page_address.is_loopback();
    let Some(vitals) = network.first().filter(|_| is_wanted) else {
        return Ok(None);
    };
    let settings = OperationsSettings {
        listen: (Ipv4Addr::LOCALHOST.to_string(), 0),
        tls: None,
        metrics: true,
        dashboard: true,
    };
    let shown = Shown {
        vitals,
        logging: None,
    };
    let operations = operations::start(&settings, shown).await?;
    let (address, name) = (operations.address(), network.name(0));
    live.say(&format!("node     http://{address}/dashboard of {name}"));
    Ok(Some(operations))
}

/// What is told by several threads.
struct Shared {
    start: Instant,
    progress: Mutex<Option<Progress>>,
    memory: Mutex<MemorySummary>,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The orderer has cut a block that nobody has seen yet.
    fn cut(&self, block: &BlockView) {
        let at = self.start.elapsed();
        let number = block.number().unwrap_or_default();
        let cut = Cut {
            number,
            hash: hex::encode(sha256(&block.header_asn1().unwrap_or_default())),
            transactions: block.transactions_len(),
            bytes: block.bytes().len(),
        };
        if let Some(progress) = self.progress().as_mut() {
            progress.cut(at, cut);
        }
        if number + 1 == MEMORY_HEIGHT {
            self.memory().after_100_blocks = resident_memory();
        }
    }

    fn committed(&self, events: &mut Vec<Event>) {
        let mut progress = self.progress();
        for event in events.drain(..) {
            let at = event.at.saturating_duration_since(self.start);
            if let Some(progress) = progress.as_mut() {
                progress.committed(at, event.node, event.number, event.way);
            }
        }
    }

    /// The last picture with the commits that came after it.
    fn last(&self, shown: &Snapshot) -> Snapshot {
        let elapsed = Duration::from_millis(shown.elapsed_ms);
        self.progress()
            .as_mut()
            .map_or_else(Snapshot::default, |progress| {
                progress.snapshot(elapsed, &[])
            })
    }

    fn memory(&self) -> MutexGuard<'_, MemorySummary> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A demo that runs.
struct Course {
    shared: Arc<Shared>,
    network: Network,
    orderer: Arc<Orderer>,
    events: mpsc::Receiver<Event>,
    source: JoinHandle<Result<()>>,
    live: Live,
    snapshots: watch::Sender<Snapshot>,
    exits: bool,
    disturbance: Disturbance,
    /// Serves the dashboard of a node.
    _operations: Option<Serving>,
}

/// What `--kill-one` still has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    None,
    /// Kill at the first height, start again at the second.
    Kill(usize, u64, u64),
    Restart(usize, u64),
}

impl Course {
    async fn begin(
        arguments: &Arguments,
        dir: &Path,
        setup: Setup,
        mut live: Live,
        snapshots: watch::Sender<Snapshot>,
    ) -> Result<Self> {
        let Setup {
            material,
            orderer: seat,
            seats,
            delivery,
            recording: files,
        } = setup;
        let blocks = match &files {
            Some(files) => Some(files.len() as u64),
            None => arguments.blocks(),
        };
        let target = blocks.map(|blocks| blocks + 1);
        let shared = Arc::new(Shared {
            start: Instant::now(),
            progress: Mutex::new(None),
            memory: Mutex::new(MemorySummary::default()),
        });
        let told = Arc::clone(&shared);
        let on_cut = Box::new(move |block: &BlockView| told.cut(block));
        let chain = Chain::open(&dir.join("orderer"), &material.genesis, on_cut)?;
        let (msp, msp_id) = (seat.member.msp.clone(), seat.member.msp_id.clone());
        let door = door(seat)?;
        let orderer = Arc::new(if files.is_some() {
            Orderer::serving(chain, door)
        } else {
            Orderer::ordering(chain, signer::read(&msp, &msp_id)?, door)
        });
        let channel = material.config.channel_id().to_owned();
        let genesis = material.genesis.clone();
        let (network, events) = Network::start(dir, &channel, genesis, delivery, seats).await?;
        *shared.progress() = Some(Progress::new(&channel, target, network.nodes()));
        let disturbance = Disturbance::plan(arguments, &network, target)?;
        let operations = show_node(arguments, &network, &mut live).await?;
        let mut course = Self {
            source: tokio::spawn(async { Ok(()) }),
            shared,
            network,
            orderer: Arc::clone(&orderer),
            events,
            live,
            snapshots,
            exits: arguments.exit,
            disturbance,
            _operations: operations,
        };
        course.meet().await;
        let rate = arguments.rate;
        course.source = match files {
            Some(files) => {
                let chain = Arc::clone(orderer.chain());
                tokio::spawn(async move { source::replay(&chain, files, rate).await })
            }
            None => {
                let load = Load::of(&material, usize::try_from(arguments.block_bytes)?)?;
                tokio::spawn(async move { source::submit(&orderer, &load, rate, blocks).await })
            }
        };
        Ok(course)
    }

    /// Shows the network until the nodes of each organization know each other.
    async fn meet(&mut self) {
        let start = Instant::now();
        while !self.network.organizations_met() && start.elapsed() < MEETING_TIME_MAX {
            tokio::time::sleep(PICTURE_INTERVAL).await;
            self.picture();
        }
    }

    /// Until the run is over; gives what went wrong.
    async fn play(&mut self, signals: &mut Signals) -> Vec<String> {
        let mut pictures = tokio::time::interval(PICTURE_INTERVAL);
        pictures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut arrived = Vec::new();
        let mut last_commit = Instant::now();
        let mut farewell: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = self.events.recv_many(&mut arrived, EVENTS_AT_ONCE) => {
                    last_commit = Instant::now();
                    self.shared.committed(&mut arrived);
                }
                _ = signals.next(), if farewell.is_none() => {
                    self.source.abort();
                    self.live.say("stopping");
                    farewell = Some(Instant::now());
                }
                _ = pictures.tick() => {
                    let finished = self.picture();
                    if let Some(problem) = self.problem().await {
                        return vec![problem];
                    }
                    if let Err(error) = self.disturb().await {
                        return vec![in_one_line(&error)];
                    }
                    if finished && self.exits && self.disturbance == Disturbance::None {
                        return Vec::new();
                    }
                    if let Some(since) = farewell {
                        if self.level() || since.elapsed() > FAREWELL_TIME_MAX {
                            let early = self.exits && !finished;
                            return early.then(|| "interrupted".to_owned()).into_iter().collect();
                        }
                    } else if self.exits && last_commit.elapsed() > STALL_TIME_MAX {
                        let seconds = STALL_TIME_MAX.as_secs();
                        return vec![format!("no node has committed anything for {seconds} s")];
                    }
                }
            }
        }
    }

    /// Shows how it stands and says whether everything is done.
    fn picture(&mut self) -> bool {
        let Some(snapshot) = self.look() else {
            return false;
        };
        self.live.show(&snapshot);
        let finished = snapshot.finished;
        self.snapshots.send_replace(snapshot);
        finished
    }

    /// How everything stands.
    fn look(&self) -> Option<Snapshot> {
        let known = self.network.known_pairs();
        let snapshot = {
            let mut progress = self.shared.progress();
            let progress = progress.as_mut()?;
            for node in 0..self.network.len() {
                progress.vitals(node, self.network.vitals(node));
            }
            progress.snapshot(self.shared.start.elapsed(), &known)
        };
        let memory = resident_memory();
        {
            let mut noted = self.shared.memory();
            noted.peak = noted.peak.max(memory);
            noted.end = memory;
        }
        Some(snapshot)
    }

    /// Whether all running nodes are as high as the orderer.
    fn level(&self) -> bool {
        let snapshot = self.snapshots.borrow();
        snapshot
            .nodes
            .iter()
            .all(|node| !node.alive || node.height >= snapshot.height)
    }

    /// What keeps the run from ever ending well.
    async fn problem(&mut self) -> Option<String> {
        if let Some(failure) = self.network.failure() {
            return Some(failure);
        }
        if let Some(failure) = self.orderer.failure() {
            return Some(failure);
        }
        if self.source.is_finished() {
            let ended = std::mem::replace(&mut self.source, tokio::spawn(std::future::pending()));
            match ended.await {
                Ok(Err(error)) => return Some(in_one_line(&error)),
                Err(error) if error.is_panic() => return Some("the load panicked".into()),
                _ => {}
            }
        }
        None
    }

    async fn disturb(&mut self) -> Result<()> {
        let height = self.orderer.chain().height();
        match self.disturbance {
            Disturbance::Kill(node, at, again) if height >= at => {
                self.network.kill(node);
                let name = self.network.name(node);
                self.live
                    .say(&format!("killed {name}, the orderer at {height}"));
                self.disturbance = Disturbance::Restart(node, again);
            }
            Disturbance::Restart(node, at) if height >= at => {
                self.network.restart(node).await?;
                let name = self.network.name(node);
                self.live
                    .say(&format!("started {name} again, the orderer at {height}"));
                self.disturbance = Disturbance::None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Stops everything, judges the ledgers and prints the summary.
    async fn end(mut self, arguments: &Arguments, problems: Vec<String>) -> Result<ExitCode> {
        self.source.abort();
        let shown = self.snapshots.borrow().finished;
        if !shown {
            self.picture();
        } else if let Some(snapshot) = self.look() {
            // What was printed when all was done is the last word; bytes go on being counted.
            self.snapshots.send_replace(snapshot);
        }
        let chain = Arc::clone(self.orderer.chain());
        let Self {
            network,
            mut events,
            shared,
            snapshots,
            ..
        } = self;
        // Commits that are still on their way count too; the last node to stop ends them.
        let rest = async {
            let mut arrived = Vec::new();
            while events.recv_many(&mut arrived, EVENTS_AT_ONCE).await > 0 {
                shared.committed(&mut arrived);
            }
        };
        let (ledgers, ()) = tokio::join!(network.stop(), rest);
        let last = shared.last(&snapshots.borrow());
        let truth = Truth {
            height: chain.height(),
            last_hash: chain.last_hash().map(hex::encode).unwrap_or_default(),
        };
        let memory = *shared.memory();
        let summary =
            tokio::task::spawn_blocking(move || judge(&last, &truth, &ledgers, problems, memory))
                .await
                .context("judging the ledgers")?;
        if arguments.json {
            commands::print(&format!("{}\n", serde_json::to_string_pretty(&summary)?))?;
        } else {
            commands::print(&summary.text())?;
        }
        Ok(if summary.ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Disturbance {
    fn plan(arguments: &Arguments, network: &Network, target: Option<u64>) -> Result<Self> {
        /// Without an end, a node is away between these heights.
        const ENDLESS: (u64, u64) = (50, 100);
        if !arguments.kill_one {
            return Ok(Self::None);
        }
        let victim = network.victim().ok_or_else(|| {
            anyhow!("--kill-one needs an organization with two nodes: every node leads here")
        })?;
        let (kill, again) = target.map_or(ENDLESS, |target| (target / 3, target * 2 / 3));
        Ok(Self::Kill(victim, kill.max(2), again.max(3)))
    }
}

pub(super) fn door(seat: Seat) -> Result<Door> {
    let settings = TlsSettings {
        certificate: seat.member.tls_file("server.crt")?,
        key: seat.member.tls_file("server.key")?,
        roots: vec![seat.member.tls_file("ca.crt")?],
        ..TlsSettings::default()
    };
    let tls = Tls::new(&settings, SystemTime::now()).context("the orderer's TLS")?;
    Ok(Door {
        listener: seat.listener,
        tls,
        mutual: false,
    })
}
