//! `tidings node start` as a process of its own: configured as a Go peer is, asked through its
//! commands and its metrics, killed, started again.
//!
//! Promises: it does not outlive its value; its log is kept over all its lives. Other test targets
//! take this in by its path, with `chain.rs`, `gauge.rs` and `wait.rs`.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    chain::Essence,
    gauge,
    wait::{clock, until},
};

/// An unoptimised node on a busy machine answers within this.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// A node and what it runs on.
pub(crate) struct Node {
    /// A short name for messages.
    pub(crate) name: String,
    /// Where gossip reaches it.
    pub(crate) endpoint: String,
    /// Where its metrics are.
    pub(crate) operations: String,
    /// The first eight hex digits of its PKI-ID, as logs name it, where that is known.
    pub(crate) pki: String,
    home: PathBuf,
    channel: &'static str,
    variables: BTreeMap<String, String>,
    child: Option<Child>,
}

/// A line that a node logged.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The time of day, in seconds.
    pub(crate) clock: f64,
    /// `INFO`, `WARN`, …
    pub(crate) level: String,
    /// The logger.
    pub(crate) target: String,
    /// What it says.
    pub(crate) message: String,
    /// Its fields.
    pub(crate) fields: Value,
}

impl Node {
    /// A node that does not run yet. Everything of it lies in `home`; `config` is the folder of
    /// its `core.yaml`, and variables set what that does not say.
    pub(crate) fn new(
        name: &str,
        home: &Path,
        config: &Path,
        endpoint: &str,
        channel: &'static str,
    ) -> Self {
        fs::create_dir_all(home).unwrap();
        let (host, port) = endpoint.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let mut node = Self {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            operations: format!("{host}:{}", port + 2),
            pki: String::new(),
            home: home.to_owned(),
            channel,
            variables: BTreeMap::new(),
            child: None,
        };
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        node.set("FABRIC_CFG_PATH", text(config));
        node.set("FABRIC_LOGGING_FORMAT", "json");
        node.set("CORE_PEER_ID", name);
        node.set("CORE_PEER_ADDRESS", endpoint);
        node.set("CORE_PEER_LISTENADDRESS", endpoint);
        node.set("CORE_PEER_GOSSIP_ENDPOINT", endpoint);
        node.set("CORE_PEER_GOSSIP_EXTERNALENDPOINT", endpoint);
        node.set("CORE_PEER_FILESYSTEMPATH", text(&node.data()));
        node.set("CORE_OPERATIONS_LISTENADDRESS", node.operations.clone());
        node.set("CORE_METRICS_PROVIDER", "prometheus");
        node
    }

    /// Sets a variable for the next start.
    pub(crate) fn set(&mut self, variable: &str, value: impl Into<String>) {
        self.variables.insert(variable.to_owned(), value.into());
    }

    /// Where its ledgers lie.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// A command of the program in this node's surroundings.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        command
            .args(arguments)
            .current_dir(&self.home)
            .env_remove("FABRIC_LOGGING_SPEC")
            .envs(&self.variables)
            .stdin(Stdio::null());
        command
    }

    /// Starts it, in the channel of that genesis block, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(&mut self, genesis: &Path) {
        let before = self.log_len();
        self.launch(genesis);
        self.answers(before);
    }

    /// Starts it, in the channels that it is in, and waits until it answers.
    #[track_caller]
    pub(crate) fn start_as_it_is(&mut self) {
        let before = self.log_len();
        self.spawn(&["node", "start"]);
        self.answers(before);
    }

    #[track_caller]
    fn answers(&mut self, before: usize) {
        let (name, path) = (&self.name, self.log_path());
        let child = self.child.as_mut().unwrap();
        until(&format!("{name} answers"), START_TIME_MAX, || {
            let said = read_since(&path, before);
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{name} ended ({ended:?}): {said}");
            said.contains("the node answers at").then_some(())
        });
    }

    /// Starts it and does not wait.
    #[track_caller]
    pub(crate) fn launch(&mut self, genesis: &Path) {
        self.spawn(&["node", "start", "--join", genesis.to_str().unwrap()]);
    }

    #[track_caller]
    fn spawn(&mut self, arguments: &[&str]) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Ends it at once: nothing is finished, nobody is told. It must not have ended by itself.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            status.signal(),
            Some(9),
            "{} ended before it was killed",
            self.name
        );
    }

    /// Ends it in good order.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{} was asked to stop", self.name);
    }

    /// Makes it forget all it had, while it does not run.
    pub(crate) fn wipe(&self) {
        assert!(!self.runs(), "{} runs", self.name);
        if self.data().exists() {
            fs::remove_dir_all(self.data()).unwrap();
        }
    }

    /// Whether it was started and not ended.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// What `tidings ARGUMENTS` does, run as the node's operator.
    pub(crate) fn tidings(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Blocks in its ledger; none while it does not say.
    pub(crate) fn height(&self) -> Option<u64> {
        // A gauge of blocks is a whole number.
        Some(self.gauge("ledger_blockchain_height")? as u64)
    }

    /// Blocks in its ledger as it tells its operator.
    #[track_caller]
    pub(crate) fn told_height(&self) -> u64 {
        let output = self.tidings(&["channel", "getinfo", "-c", self.channel]);
        assert!(output.status.success(), "{}: {output:?}", self.name);
        let text = String::from_utf8(output.stdout).unwrap();
        let info = text.strip_prefix("Blockchain info: ").unwrap();
        let info: Value = serde_json::from_str(info).unwrap();
        info["height"].as_u64().unwrap()
    }

    /// Waits until it has that many blocks.
    #[track_caller]
    pub(crate) fn reaches(&self, height: u64, within: Duration) {
        let what = format!("{} has {height} blocks", self.name);
        until(&what, within, || (self.height()? >= height).then_some(()));
    }

    /// A block as it serves it.
    #[track_caller]
    pub(crate) fn served(&self, number: u64) -> Vec<u8> {
        let number = number.to_string();
        let output = self.tidings(&["channel", "fetch", &number, "-", "-c", self.channel]);
        assert!(output.status.success(), "{}: {output:?}", self.name);
        output.stdout
    }

    /// Its whole chain as it serves it.
    #[track_caller]
    pub(crate) fn blocks(&self) -> Vec<Vec<u8>> {
        let numbers = 0..self.told_height();
        numbers.map(|number| self.served(number)).collect()
    }

    /// What of it must be the same everywhere.
    #[track_caller]
    pub(crate) fn chain(&self) -> Vec<Essence> {
        let blocks = self.blocks();
        blocks.iter().map(|block| Essence::read(block)).collect()
    }

    /// The value of a metric on the channel; none while it does not say.
    pub(crate) fn gauge(&self, name: &str) -> Option<f64> {
        self.sum(name, &[("channel", self.channel)])
    }

    /// The sum of a metric over whatever these labels leave open.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        gauge::sum(&gauge::scrape(&self.operations)?, name, labels)
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("log")
    }

    /// How far its log has come.
    pub(crate) fn log_len(&self) -> usize {
        fs::read(self.log_path()).map_or(0, |bytes| bytes.len())
    }

    /// What it logged after that.
    pub(crate) fn log_since(&self, start: usize) -> Vec<Line> {
        let text = read_since(&self.log_path(), start);
        text.lines().filter_map(Line::read).collect()
    }

    /// Whether it leads its organization.
    pub(crate) fn leads(&self) -> bool {
        self.gauge("gossip_leader_election_leader") == Some(1.0)
    }

    /// Members that it takes for alive, by the beginnings of their PKI-IDs, with the endpoints at
    /// which it would reach them, as its log tells since the last start.
    pub(crate) fn members(&self) -> BTreeMap<String, String> {
        let mut members = BTreeMap::new();
        for line in self.log_since(0) {
            let text = |field: &str| line.fields[field].as_str().unwrap_or_default().to_owned();
            match line.message.as_str() {
                "the node is up" => members.clear(),
                "member is alive" => _ = members.insert(text("peer"), text("endpoint")),
                "member fell silent" | "member forgotten" => _ = members.remove(&text("peer")),
                _ => {}
            }
        }
        members
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, which the test that notices has told.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Line {
    /// A line that a killed node was in the middle of is left out.
    fn read(line: &str) -> Option<Self> {
        let mut value: Value = serde_json::from_str(line).ok()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let time = text(&value["timestamp"]);
        Some(Self {
            clock: clock(time.split_once('T')?.1.trim_end_matches('Z'))?,
            level: text(&value["level"]),
            target: text(&value["target"]),
            message: text(&value["fields"]["message"]),
            fields: value["fields"].take(),
        })
    }

    /// Whether somebody should look into it.
    pub(crate) fn is_warning(&self) -> bool {
        ["WARN", "ERROR"].contains(&self.level.as_str())
    }
}

fn read_since(path: &Path, start: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes[start.min(bytes.len())..]).into_owned()
}
