//! A Fabric network of Go peers on loopback, driven through `fabnet.py`.
//!
//! Promises: one network at a time; it is gone when its value is dropped, and also when this
//! process ends in any other way. Knows nothing of our nodes.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    chain::{self, Essence},
    gauge, ports,
    wait::{clock, say},
};

/// The network's own program.
const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../shared/interop/fabnet.py"
);

/// The name of the channel that every network has.
pub(crate) const CHANNEL: &str = "mychannel";

/// Networks begin at one of these ports, below those that the system gives to clients.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Ports of one network, and some.
const PORTS_LEN: u16 = 400;

/// The machine is small, and figures of two networks at once would be no figures.
static TURN: Mutex<()> = Mutex::new(());

/// A network.
pub(crate) struct Fabnet {
    base: u16,
    organizations: Value,
    orderer: Value,
    peers: Vec<GoPeer>,
    extras: BTreeMap<String, Extra>,
    watchdog: Child,
    home: Option<TempDir>,
    _turn: MutexGuard<'static, ()>,
}

/// A Go peer, running or not.
#[derive(Clone, Debug)]
pub(crate) struct GoPeer {
    /// As `fabnet.py` calls it.
    pub(crate) name: String,
    /// Its organization, `Org1` or `Org2`.
    pub(crate) org: String,
    /// Where gossip reaches it.
    pub(crate) endpoint: String,
    /// Where its metrics are.
    pub(crate) operations: String,
    /// The first eight hex digits of its PKI-ID, as our logs name it.
    pub(crate) pki: String,
    /// Where it logs.
    pub(crate) log: PathBuf,
}

/// An identity that no Go peer uses.
#[derive(Clone, Debug)]
pub(crate) struct Extra {
    /// As `fabnet.py` calls it.
    pub(crate) name: String,
    /// Its organization.
    pub(crate) org: String,
    /// Its MSP.
    pub(crate) msp_id: String,
    /// Where a node with this identity listens; two more ports behind that are free.
    pub(crate) endpoint: String,
    /// Whom it finds the network by.
    pub(crate) bootstrap: Vec<String>,
    /// Its local MSP.
    pub(crate) msp_dir: PathBuf,
    /// `server.crt`, `server.key`, `ca.crt`.
    pub(crate) tls_dir: PathBuf,
}

/// A line that a Go peer logged.
#[derive(Debug)]
pub(crate) struct GoLine {
    /// The time of day, in seconds.
    pub(crate) clock: f64,
    /// `INFO`, `WARN`, …
    pub(crate) level: String,
    /// Such as `gossip.comm`.
    pub(crate) logger: String,
    /// All of it.
    pub(crate) text: String,
}

/// A command of `fabnet.py` that goes on.
pub(crate) struct Task(Option<Child>);

/// A network with these options of `fabnet.py up`; none where there is nothing to make it of.
pub(crate) fn up(scenario: &str, options: &[&str]) -> Option<Fabnet> {
    let missing = if env::var_os("FABRIC_BIN").is_none() {
        "$FABRIC_BIN does not name Fabric's programs"
    } else if !Path::new(SCRIPT).exists() {
        "there is no ../shared/interop"
    } else {
        // A scenario that failed has put its network away all the same.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        return Some(Fabnet::start(options, turn));
    };
    say(format_args!("SKIPPED {scenario}: {missing}"));
    None
}

impl Fabnet {
    fn start(options: &[&str], turn: MutexGuard<'static, ()>) -> Self {
        let home = tempfile::Builder::new()
            .prefix("tidings-fabric-")
            .tempdir()
            .unwrap();
        let dir = home.path().join("net");
        let watchdog = watch(&dir);
        let mut network = Self {
            base: ports::free(PORTS, PORTS_LEN),
            organizations: Value::Null,
            orderer: Value::Null,
            peers: Vec::new(),
            extras: BTreeMap::new(),
            watchdog,
            home: Some(home),
            _turn: turn,
        };
        let base = network.base.to_string();
        let level = env::var("TIDINGS_FABRIC_CAPABILITIES").unwrap_or_else(|_| "V3_0".to_owned());
        let up = ["up", "--port-base", &base, "--capabilities", &level];
        let told = network.run(&[&up, options].concat());
        network.describe(&serde_json::from_str(&told).unwrap());
        network
    }

    fn describe(&mut self, all: &Value) {
        self.orderer = all["orderer"].clone();
        self.organizations = all["orgs"].clone();
        let peers = all["peers"].as_array().unwrap();
        self.peers = peers.iter().map(GoPeer::read).collect();
        let extras = all["extra_identities"].as_array().unwrap();
        let extras = extras.iter().map(Extra::read);
        self.extras = extras.map(|extra| (extra.name.clone(), extra)).collect();
    }

    /// A port of this network's share, of which the first 300 have their use.
    pub(crate) fn port(&self, number: u16) -> u16 {
        assert!(number < PORTS_LEN);
        self.base + number
    }

    /// Where everything of this scenario lies.
    pub(crate) fn home(&self) -> &Path {
        self.home.as_ref().unwrap().path()
    }

    /// Where everything of the network lies.
    pub(crate) fn dir(&self) -> PathBuf {
        self.home().join("net")
    }

    /// What one command of `fabnet.py` says.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = script(&self.dir(), arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "fabnet.py {arguments:?}: {text}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What one of Fabric's programs says, run for the administrator of an organization.
    #[track_caller]
    pub(crate) fn program(&self, org: &str, name: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.attempt(org, name, arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {arguments:?}: {said}");
        output.stdout
    }

    /// One of Fabric's programs, to be run for the administrator of an organization.
    pub(crate) fn attempt(&self, org: &str, name: &str, arguments: &[&str]) -> Command {
        let peer = self.of(org).next().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let org = &self.organizations[org];
        let program = Path::new(&env::var_os("FABRIC_BIN").unwrap()).join(name);
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.home())
            .env("FABRIC_CFG_PATH", self.config_dir(&peer.name))
            .env("FABRIC_LOGGING_SPEC", "ERROR")
            .env("CORE_PEER_LOCALMSPID", text(&org["msp_id"]))
            .env("CORE_PEER_MSPCONFIGPATH", text(&org["admin_msp_dir"]))
            .env("CORE_PEER_ADDRESS", &peer.endpoint)
            .env("CORE_PEER_TLS_ENABLED", "true")
            .env("CORE_PEER_TLS_ROOTCERT_FILE", text(&org["tls_ca"]));
        command
    }

    /// The local MSP of an ordinary client of an organization.
    pub(crate) fn user_msp_dir(&self, org: &str) -> PathBuf {
        let user = self.organizations[org]["user_msp_dir"].as_str();
        user.unwrap().into()
    }

    /// How a program of Fabric reaches the orderer.
    pub(crate) fn to_orderer(&self) -> [&str; 5] {
        let orderer = |key: &str| self.orderer[key].as_str().unwrap();
        [
            "-o",
            orderer("endpoint"),
            "--tls",
            "--cafile",
            orderer("tls_ca"),
        ]
    }

    /// Where a Go peer has its `core.yaml`.
    pub(crate) fn config_dir(&self, peer: &str) -> PathBuf {
        self.dir().join("peers").join(peer)
    }

    /// Every Go peer.
    pub(crate) fn peers(&self) -> &[GoPeer] {
        &self.peers
    }

    /// The Go peers of an organization.
    pub(crate) fn of(&self, org: &str) -> impl Iterator<Item = &GoPeer> {
        self.peers.iter().filter(move |peer| peer.org == org)
    }

    /// One Go peer.
    pub(crate) fn peer(&self, name: &str) -> &GoPeer {
        self.peers.iter().find(|peer| peer.name == name).unwrap()
    }

    /// One identity that no Go peer uses.
    pub(crate) fn extra(&self, name: &str) -> &Extra {
        &self.extras[name]
    }

    /// Block 0 of the channel.
    pub(crate) fn genesis(&self) -> PathBuf {
        self.dir().join("genesis.block")
    }

    /// Begins a command of `fabnet.py`.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Task {
        let mut command = script(&self.dir(), arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Task(Some(command.spawn().unwrap()))
    }

    /// Orders blocks, as the options of `fabnet.py load` say.
    pub(crate) fn load(&self, options: &[&str]) -> Task {
        self.begin(&[&["load"], options].concat())
    }

    /// Makes a Go peer that does not run forget all it had.
    pub(crate) fn wipe(&self, peer: &str) {
        let data = self.config_dir(peer).join("data");
        if data.exists() {
            fs::remove_dir_all(data).unwrap();
        }
    }

    /// Blocks at the orderer.
    pub(crate) fn height(&self) -> u64 {
        self.ordered().len() as u64
    }

    /// The chain as the orderer keeps it.
    pub(crate) fn ordered(&self) -> Vec<Essence> {
        chain::stored(&self.dir().join("orderer/ledger/chains").join(CHANNEL))
    }

    /// The chain as a Go peer keeps it.
    pub(crate) fn kept(&self, peer: &str) -> Vec<Essence> {
        chain::stored(&self.chain_dir(peer))
    }

    /// Where a Go peer keeps its chain.
    pub(crate) fn chain_dir(&self, peer: &str) -> PathBuf {
        let data = self.config_dir(peer).join("data");
        data.join("ledgersData/chains/chains").join(CHANNEL)
    }

    /// What the orderer logged.
    pub(crate) fn orderer_log(&self) -> Vec<GoLine> {
        GoLine::all_since(&self.dir().join("logs/orderer.log"), 0)
    }

    /// A block as the orderer or a Go peer serves it.
    #[track_caller]
    pub(crate) fn served(&self, number: u64, source: &str) -> Vec<u8> {
        let out = self.home().join("served.block");
        let (number, file) = (number.to_string(), out.to_str().unwrap());
        self.run(&[
            "fetch", "--number", &number, "--source", source, "--out", file,
        ]);
        fs::read(out).unwrap()
    }
}

impl Drop for Fabnet {
    fn drop(&mut self) {
        let keep = thread::panicking() || env::var_os("TIDINGS_FABRIC_KEEP").is_some();
        // Whoever does not keep the folder has it removed by closing the pipe.
        if let (true, Some(pipe)) = (keep, self.watchdog.stdin.as_mut()) {
            let _ = pipe.write_all(b"keep\n");
        }
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        if let (true, Some(home)) = (keep, self.home.take()) {
            say(format_args!("KEPT {}", home.keep().display()));
        }
    }
}

impl GoPeer {
    fn read(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        Self {
            name: text("name"),
            org: text("org"),
            endpoint: text("endpoint"),
            operations: text("operations_endpoint"),
            pki: pki(&text("msp_id"), Path::new(&text("msp_dir"))),
            log: text("log").into(),
        }
    }

    /// The value of a metric on the channel; none while the peer does not say.
    pub(crate) fn gauge(&self, name: &str) -> Option<f64> {
        gauge::sum(
            &gauge::scrape(&self.operations)?,
            name,
            &[("channel", CHANNEL)],
        )
    }

    /// Blocks in its ledger.
    pub(crate) fn height(&self) -> Option<u64> {
        // A gauge of blocks is a whole number.
        self.gauge("ledger_blockchain_height")
            .map(|height| height as u64)
    }

    /// Whether it leads its organization.
    pub(crate) fn leads(&self) -> bool {
        self.gauge("gossip_leader_election_leader") == Some(1.0)
    }

    /// How far its log has come.
    pub(crate) fn log_len(&self) -> usize {
        fs::read(&self.log).unwrap().len()
    }

    /// What it logged after that.
    pub(crate) fn log_since(&self, start: usize) -> Vec<GoLine> {
        GoLine::all_since(&self.log, start)
    }
}

impl Extra {
    fn read(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let certificate = PathBuf::from(text(&value["tls"]["cert"]));
        let bootstrap = value["bootstrap"].as_array().unwrap();
        Self {
            name: text(&value["name"]),
            org: text(&value["org"]),
            msp_id: text(&value["msp_id"]),
            endpoint: text(&value["endpoint"]),
            bootstrap: bootstrap.iter().map(text).collect(),
            msp_dir: text(&value["msp_dir"]).into(),
            tls_dir: certificate.parent().unwrap().to_owned(),
        }
    }
}

impl GoLine {
    fn all_since(log: &Path, start: usize) -> Vec<Self> {
        let bytes = fs::read(log).unwrap();
        let text = String::from_utf8_lossy(&bytes[start..]).into_owned();
        text.lines().filter_map(Self::read).collect()
    }

    /// `date time UTC number LEVEL [logger] function -> text`, in colours.
    fn read(line: &str) -> Option<Self> {
        let mut text = String::new();
        for (index, part) in line.split('\x1b').enumerate() {
            let plain = part.split_once('m').filter(|_| index > 0);
            text.push_str(plain.map_or(part, |(_, rest)| rest));
        }
        let mut words = text.splitn(7, ' ').skip(1);
        let clock = clock(words.next()?)?;
        let mut words = words.skip(2);
        let (level, logger) = (words.next()?.to_owned(), words.next()?);
        let logger = logger.strip_prefix('[')?.strip_suffix(']')?.to_owned();
        Some(Self {
            clock,
            level,
            logger,
            text,
        })
    }

    /// Whether somebody should look into it.
    pub(crate) fn is_warning(&self) -> bool {
        !["INFO", "DEBU"].contains(&self.level.as_str())
    }
}

impl Task {
    /// Waits for the end and gives what `fabnet.py` says of it.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "fabnet.py: {text}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // A test that failed does not wait for the rest.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The first eight hex digits of the PKI-ID of the identity in an MSP folder.
pub(crate) fn pki(msp_id: &str, msp_dir: &Path) -> String {
    let mut certificates = fs::read_dir(msp_dir.join("signcerts")).unwrap();
    let pem = fs::read(certificates.next().unwrap().unwrap().path()).unwrap();
    let hash = digest(&SHA256, &[msp_id.as_bytes(), &pem].concat());
    hex::encode(&hash.as_ref()[..4])
}

fn script(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(SCRIPT).arg("--dir").arg(dir).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// Puts a network away when the pipe to it closes, which no death of ours can prevent. It stands
/// apart from this process, so that what is typed at a terminal does not end it.
fn watch(dir: &Path) -> Child {
    const WATCH: &str = r#"
        read what
        [ "$what" = keep ] || purge=--purge
        exec python3 "$1" --dir "$2" down $purge"#;
    Command::new("sh")
        .args(["-c", WATCH, "sh", SCRIPT])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

#[test]
fn a_coloured_line_of_a_go_peer_is_read() {
    let line = "\x1b[33m2026-11-21 16:45:12.578 UTC 018d WARN\x1b[0m [peer.blocksprovider] \
                \x1b[33;1mfunc1\x1b[0m -> Encountered an error";
    let line = GoLine::read(line).unwrap();
    assert!(line.is_warning());
    assert_eq!(line.clock, 60_312.578);
    assert_eq!(
        (line.level.as_str(), line.logger.as_str()),
        ("WARN", "peer.blocksprovider")
    );
    assert!(
        line.text.ends_with("func1 -> Encountered an error"),
        "{}",
        line.text
    );
    assert!(GoLine::read("goroutine 1 [running]:").is_none());
}
