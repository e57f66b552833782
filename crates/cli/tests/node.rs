//! `tidings node start` and `tidings channel` as an operator meets them: the program is started on
//! made identities, asked through its socket, ended by signals and started again.
//!
//! A little above 600 lines: all of it is one program on one made place, of which every test uses most.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use tempfile::TempDir;

/// A made network of one peer with a chain of two blocks, and a configuration for that peer.
struct Place {
    dir: TempDir,
    program: PathBuf,
}

impl Place {
    /// The demo is what makes keys and blocks, in a second or two.
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("demo");
        let output = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args([
                "demo", "--orgs", "1", "--peers", "1", "--blocks", "1", "--exit",
            ])
            .args([
                "--no-page",
                "--rate",
                "max",
                "--dir",
                kept.to_str().unwrap(),
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_tidings"));
        let place = Self { dir, program };
        place.configure("127.0.0.1:0", "msp");
        place
    }

    fn configure(&self, listen: &str, msp: &str) {
        let peer = "demo/crypto/peerOrganizations/org1.demo/peers/peer0.org1.demo";
        let text = format!(
            "peer:
  listenAddress: {listen}
  address: 127.0.0.1:0
  localMspId: Org1MSP
  mspConfigPath: {peer}/{msp}
  fileSystemPath: data
  tls:
    enabled: true
    cert: {{file: {peer}/tls/server.crt}}
    key: {{file: {peer}/tls/server.key}}
    rootcert: {{file: {peer}/tls/ca.crt}}
"
        );
        fs::write(self.dir.path().join("core.yaml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("FABRIC_CFG_PATH", self.dir.path())
            .env_remove("FABRIC_LOGGING_SPEC")
            .env_remove("FABRIC_LOGGING_FORMAT");
        command
    }

    /// The standard output of a command that succeeded.
    fn tidings(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    }

    fn says(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.tidings(arguments)).unwrap()
    }

    /// The last line on standard error of a command that failed.
    fn complaint(&self, arguments: &[&str]) -> String {
        complaint(&self.command(arguments).output().unwrap())
    }

    /// Starts a node and waits until it answers.
    fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&["node", "start"]);
        command.args(arguments);
        let mut running = Running::of(command);
        running.wait_for("the node answers at");
        running
    }
}

fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("tidings: "), "{text}");
    last
}

struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    fn of(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            log,
            said: String::new(),
        }
    }

    fn wait_for(&mut self, text: &str) {
        loop {
            let before = self.said.len();
            let read = self.log.read_line(&mut self.said).unwrap();
            assert_ne!(read, 0, "the node ended: {}", self.said);
            if self.said[before..].contains(text) {
                return;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends a signal and gives everything that the node has said.
    fn end(mut self, signal: &str) -> String {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        self.log.read_to_string(&mut self.said).unwrap();
        if signal != "-KILL" {
            assert_eq!(status.code(), Some(0), "{}", self.said);
        }
        std::mem::take(&mut self.said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left behind by a test that failed; one that passed has ended it already.
        let _ = self.child.kill();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_node_joins_answers_stops_and_finds_its_channels_again() {
    let place = Place::make();
    let genesis = place.path("demo/genesis.block");
    let block = fs::read(&genesis).unwrap();
    let socket = place.path("data/admin.sock");

    let node = place.start(&[]);
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        place.says(&["channel", "list"]),
        "Channels peers has joined: \n"
    );
    let unknown = place.complaint(&["channel", "getinfo", "-c", "tidings"]);
    assert!(
        unknown.contains("channel 'tidings' has not been joined"),
        "{unknown}"
    );
    let joined = place.says(&["channel", "join", "-b", text(&genesis)]);
    assert_eq!(joined, "the node is in channel tidings\n");
    let again = place.complaint(&["channel", "join", "-b", text(&genesis)]);
    assert!(again.contains("already joined"), "{again}");
    assert_eq!(
        place.says(&["channel", "list"]),
        "Channels peers has joined: \ntidings\n"
    );
    assert_eq!(
        place.says(&["privdata", "list", "-c", "tidings"]),
        "no block from 0 on names private write sets that are kept\n"
    );
    assert_eq!(
        place.says(&["privdata", "list", "-c", "tidings", "--json"]),
        ""
    );
    assert_eq!(place.says(&["privdata", "purges", "-c", "tidings"]), "");
    let purge = [
        "privdata", "purge", "-c", "tidings", "--block", "0", "--tx", "3",
    ];
    let none = place.complaint(&purge);
    assert!(
        none.contains("transaction 3 of block 0 purges nothing"),
        "{none}"
    );
    let unknown = place.complaint(&["privdata", "list", "-c", "nowhere"]);
    assert!(
        unknown.contains("channel 'nowhere' has not been joined"),
        "{unknown}"
    );
    for which in ["newest", "oldest", "config", "0"] {
        place.tidings(&["channel", "fetch", which, "-c", "tidings"]);
        let file = place.path(&format!("tidings_{which}.block"));
        assert_eq!(fs::read(file).unwrap(), block, "{which}");
        let printed = place.tidings(&["channel", "fetch", which, "-", "-c", "tidings"]);
        assert_eq!(printed, block, "{which}");
    }
    let none = place.complaint(&["channel", "fetch", "1", "-c", "tidings"]);
    assert!(none.contains("there is no block 1"), "{none}");
    let info = place.says(&["channel", "getinfo", "-c", "tidings"]);
    assert!(
        info.starts_with("Blockchain info: {\"height\":1,\"currentBlockHash\":\"")
            && !info.contains("previous"),
        "{info}"
    );
    let missing = ["privdata", "missing", "-c", "tidings"];
    assert_eq!(
        place.says(&missing),
        "0 write sets held, 0 missing (0 tried in vain), 0 not for our organization\n"
    );
    assert_eq!(
        place.says(&[&missing[..], &["--json"]].concat()),
        "{\"held\":0,\"toBeFetched\":0,\"triedInVain\":0,\"notForUs\":0,\"missing\":[]}\n"
    );
    let unknown = place.complaint(&["privdata", "missing", "-c", "other"]);
    assert!(
        unknown.contains("channel 'other' has not been joined"),
        "{unknown}"
    );
    let second = place.complaint(&["node", "start"]);
    assert!(second.contains("a node answers at"), "{second}");
    let log = node.end("-TERM");
    for said in [
        "the node is up",
        "the node is in the channel",
        "SIGTERM",
        "the node is down",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(!socket.exists());
    let gone = place.complaint(&["channel", "list"]);
    assert!(gone.contains("no node answers at"), "{gone}");

    // A node that was killed leaves its socket behind, which is in nobody's way.
    place.start(&[]).end("-KILL");
    assert!(socket.exists());
    let node = place.start(&["--join", text(&genesis)]);
    assert_eq!(place.says(&["channel", "getinfo", "-c", "tidings"]), info);
    let log = node.end("-INT");
    assert!(log.contains("was joined before"), "{log}");
}

#[test]
fn a_channel_that_was_left_is_gone_until_it_is_joined_again() {
    let place = Place::make();
    let genesis = place.path("demo/genesis.block");
    let none = "Channels peers has joined: \n";
    let node = place.start(&["--join", text(&genesis)]);
    let leave = ["channel", "leave", "-c", "tidings"];
    assert_eq!(
        place.says(&leave),
        "the node has left channel tidings; its ledger (channels/tidings) and its private data \
         (private/tidings) are kept below peer.fileSystemPath\n"
    );
    assert_eq!(place.says(&["channel", "list"]), none);
    let again = place.complaint(&leave);
    assert!(
        again.contains("channel 'tidings' was left before"),
        "{again}"
    );
    let list = ["privdata", "list", "-c", "tidings"];
    for question in [&list[..], &["channel", "getinfo", "-c", "tidings"]] {
        let left = place.complaint(question);
        assert!(left.contains("channel 'tidings' was left: "), "{left}");
    }
    // While the node runs: its ledger is closed.
    let ledger = place.path("data/channels/tidings");
    place.tidings(&["ledger", "verify", text(&ledger)]);
    node.end("-TERM");

    let node = place.start(&["--join", text(&genesis)]);
    assert_eq!(place.says(&["channel", "list"]), none);
    place.tidings(&["channel", "join", "-b", text(&genesis)]);
    let log = node.end("-TERM");
    for said in ["a channel that was left", "is not joined at the start"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    let node = place.start(&[]);
    assert_eq!(place.says(&["channel", "list"]), format!("{none}tidings\n"));
    node.end("-TERM");
}

#[test]
fn a_chain_of_two_blocks_is_told_as_fabric_tells_it() {
    let place = Place::make();
    let data = place.path("demo/nodes/peer0.org1.demo");
    // As a write leaves it that was broken off.
    let segment = data.join("channels/tidings/00000000000000000000.blocks");
    let mut file = fs::OpenOptions::new().append(true).open(segment).unwrap();
    file.write_all(&[0x5a; 1000]).unwrap();
    let socket = place.path("s.sock");
    let mut command = place.command(&["node", "start", "--socket", text(&socket)]);
    command
        .env("CORE_PEER_FILESYSTEMPATH", &data)
        .env("CORE_PEER_IDX", "x");
    let mut node = Running::of(command);
    node.wait_for("the node answers at");
    let at = ["--socket", text(&socket), "-c", "tidings"];
    let ask = |command: &[&'static str]| [&["channel"], command, &at[..]].concat();
    let info = place.says(&ask(&["getinfo"]));
    let info: serde_json::Value =
        serde_json::from_str(info.strip_prefix("Blockchain info: ").unwrap()).unwrap();
    assert_eq!(info["height"], 2);
    assert_ne!(info["currentBlockHash"], info["previousBlockHash"]);
    let newest = place.tidings(&ask(&["fetch", "newest", "-"]));
    assert_eq!(newest, place.tidings(&ask(&["fetch", "1", "-"])));
    let genesis = fs::read(place.path("demo/genesis.block")).unwrap();
    assert_eq!(place.tidings(&ask(&["fetch", "config", "-"])), genesis);
    assert_ne!(newest, genesis);
    let log = node.end("-TERM");
    assert!(log.contains("do nothing: CORE_PEER_IDX"), "{log}");
    let cut = log
        .lines()
        .find(|line| line.contains("cut the tail of a ledger"));
    let cut = cut.unwrap_or_else(|| panic!("{log}"));
    for said in ["WARN", "bytes=1000", "block=2", ".blocks"] {
        assert!(cut.contains(said), "{said}: {cut}");
    }
}

const OPERATIONS: &str = "the operations server is up";

/// One request to the server that the log names so, and the whole answer.
fn asked(running: &Running, server: &str, request: &str) -> String {
    let (_, rest) = running.said.split_once(server).unwrap();
    let (_, rest) = rest.split_once("address=").unwrap();
    let address = rest.split_whitespace().next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = request.replace('|', " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_running_node_is_watched_and_told_what_to_log() {
    let place = Place::make();
    let genesis = place.path("demo/genesis.block");
    let mut command = place.command(&["node", "start", "--join", text(&genesis)]);
    command
        .env("CORE_OPERATIONS_LISTENADDRESS", "127.0.0.1:0")
        .env("CORE_HTTP_LISTENADDRESS", "127.0.0.1:0")
        .env("CORE_METRICS_PROVIDER", "prometheus");
    let mut node = Running::of(command);
    node.wait_for("the node answers at");
    let health = asked(&node, OPERATIONS, "GET /healthz|\r\n");
    assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
    let metrics = asked(&node, OPERATIONS, "GET /metrics|\r\n");
    let height = "gossip_state_height{channel=\"tidings\"} 1\n";
    assert!(metrics.contains(height), "{metrics}");
    let http = "blocks and transactions are served by HTTP";
    let channels = asked(&node, http, "GET /v1/channels|\r\n");
    let channel = "[{\"channel\":\"tidings\",\"firstBlock\":0,\"height\":1,";
    assert!(channels.contains(channel), "{channels}");
    let changed = asked(
        &node,
        OPERATIONS,
        "PUT /logspec|Content-Length: 16\r\n\r\n{\"spec\":\"error\"}",
    );
    assert!(changed.starts_with("HTTP/1.1 204 "), "{changed}");
    let log = node.end("-TERM");
    // From then on it says nothing, not even that it stops.
    let (_, after) = log.split_once("the logging spec changes to error").unwrap();
    assert_eq!(after.trim(), "");
}

/// Where scripts and images run `peer node start`, it takes a link.
#[test]
fn the_program_answers_as_peer() {
    let mut place = Place::make();
    let link = place.path("peer");
    std::os::unix::fs::symlink(&place.program, &link).unwrap();
    place.program = link;
    for (help, usage) in [
        (&["--help"][..], "Usage: peer <COMMAND>"),
        (
            &["node", "start", "--help"],
            "Usage: peer node start [OPTIONS]",
        ),
        (
            &["channel", "list", "--help"],
            "Usage: peer channel list [OPTIONS]",
        ),
    ] {
        let said = place.says(help);
        assert!(said.contains(usage), "{said}");
    }
    let version = place.says(&["version"]);
    assert!(
        version.starts_with(concat!("tidings ", env!("CARGO_PKG_VERSION"))),
        "as what it is: {version}"
    );
    let node = place.start(&[]);
    let genesis = place.path("demo/genesis.block");
    place.tidings(&["channel", "join", "-b", text(&genesis)]);
    assert_eq!(
        place.says(&["channel", "list"]),
        "Channels peers has joined: \ntidings\n"
    );
    node.end("-TERM");
}

#[test]
fn a_node_that_cannot_start_says_what_to_change() {
    let place = Place::make();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.configure(&address, "msp");
    let port = place.complaint(&["node", "start"]);
    assert!(
        port.contains(&format!("{address}: Address already in use"))
            && port.contains("; name another peer.listenAddress"),
        "{port}"
    );
    assert!(!place.path("data/admin.sock").exists());

    place.configure("127.0.0.1:0", "msp");
    let both = place
        .command(&["node", "start"])
        .env("CORE_OPERATIONS_LISTENADDRESS", &address)
        .output()
        .unwrap();
    let port = complaint(&both);
    assert!(
        port.contains(&address) && port.contains("operations.listenAddress"),
        "{port}"
    );

    place.configure("127.0.0.1:0", "absent");
    let msp = place.complaint(&["node", "start"]);
    assert!(
        msp.contains("absent") && msp.contains("peer.mspConfigPath"),
        "{msp}"
    );

    place.configure("127.0.0.1:0", "msp");
    let mut with = place.command(&["node", "start"]);
    let other = place.path("core.yaml");
    let tls = complaint(&with.env("CORE_PEER_TLS_KEY_FILE", &other).output().unwrap());
    let named = format!("peer.tls.key.file ({})", text(&other));
    assert!(tls.contains(&named), "{tls}");
    let config =
        place.path("demo/crypto/peerOrganizations/org1.demo/peers/peer0.org1.demo/msp/config.yaml");
    let good = fs::read(&config).unwrap();
    fs::write(&config, "NodeOUs: [\n  junk").unwrap();
    let junk = place.complaint(&["node", "start"]);
    assert!(
        junk.contains(text(&config)) && junk.contains("at line 1") && !junk.contains("\\n"),
        "{junk}"
    );
    fs::write(&config, good).unwrap();

    let mut with = place.command(&["node", "start"]);
    let folder = complaint(
        &with
            .env("CORE_PEER_FILESYSTEMPATH", &other)
            .output()
            .unwrap(),
    );
    assert!(
        folder.contains(&format!("cannot write to the folder {}", text(&other)))
            && folder.contains("peer.fileSystemPath"),
        "{folder}"
    );

    let not = place.path("core.yaml");
    let join = place.complaint(&["node", "start", "--join", text(&not)]);
    assert!(
        join.contains("cannot join by") && join.contains("genesis"),
        "{join}"
    );
    let both = place
        .command(&["node", "start"])
        .env("CORE_PEER_GOSSIP_ORGLEADER", "true")
        .env("CORE_PEER_GOSSIP_USELEADERELECTION", "true")
        .output()
        .unwrap();
    assert!(complaint(&both).contains("exclude each other"), "{both:?}");
    fs::remove_file(&not).unwrap();
    let none = place.complaint(&["node", "start"]);
    assert!(none.contains("no core.yaml in"), "{none}");
}

#[test]
fn an_orderer_alone_fills_blocks_if_it_is_asked_to() {
    let place = Place::make();
    let mut quiet = Running::of(place.command(&["orderer", "net", "--orgs", "1", "--peers", "1"]));
    quiet.wait_for("with --rate they come by themselves");
    let log = quiet.end("-TERM");
    assert!(!log.contains("cut a block"), "{log}");
    // That folder, and one of a demo.
    for (dir, transactions, next) in [("net", 10, 1), ("demo", 3, 2)] {
        let mut busy = Running::of(place.command(&["orderer", dir, "--rate", "100"]));
        for number in next..next + 3 {
            busy.wait_for(&format!(
                "cut a block number={number} transactions={transactions}"
            ));
        }
        busy.end("-TERM");
    }
}

#[test]
fn who_joins_a_channel_that_does_not_name_it_is_told() {
    let place = Place::make();
    let config = place.path("core.yaml");
    let text_of = fs::read_to_string(&config).unwrap();
    fs::write(&config, text_of.replace("Org1MSP", "Org9MSP")).unwrap();
    let mut node = place.start(&[]);
    let genesis = place.path("demo/genesis.block");
    let empty = place.path("empty.block");
    fs::write(&empty, "").unwrap();
    let refused = place.complaint(&["channel", "join", "-b", text(&empty)]);
    assert!(
        refused.contains("not a genesis block: the file is empty; give block 0 of the channel"),
        "{refused}"
    );
    let refused = place.complaint(&["channel", "join", "-b", text(&config)]);
    assert!(refused.contains("give block 0 of the channel"), "{refused}");
    let joined = place
        .command(&["channel", "join", "-b", text(&genesis)])
        .output()
        .unwrap();
    assert!(joined.status.success(), "{joined:?}");
    assert_eq!(joined.stdout, b"the node is in channel tidings\n");
    let warning = "channel tidings does not name Org9MSP (S-V1): blocks come from the orderers \
                   alone until its configuration does, or correct peer.localMspId";
    let told = String::from_utf8(joined.stderr).unwrap();
    assert_eq!(told, format!("warning: {warning}\n"));
    node.wait_for(warning);
    node.end("-TERM");
}

#[test]
fn tls_certificates_that_are_renewed_on_disk_are_taken_up() {
    let place = Place::make();
    let tls =
        place.path("demo/crypto/peerOrganizations/org1.demo/peers/peer0.org1.demo/tls/server");
    let mut command = place.command(&["node", "start"]);
    command
        .env("CORE_OPERATIONS_LISTENADDRESS", "127.0.0.1:0")
        .env("CORE_OPERATIONS_TLS_ENABLED", "true")
        .env("CORE_OPERATIONS_TLS_CERT_FILE", tls.with_extension("crt"))
        .env("CORE_OPERATIONS_TLS_KEY_FILE", tls.with_extension("key"));
    let mut node = Running::of(command);
    node.wait_for("the node answers at");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let in_three_days = UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(3 * 24 * 3600 + 60);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + in_three_days;
    let certificate = params.self_signed(&key).unwrap();
    fs::write(tls.with_extension("crt"), certificate.pem()).unwrap();
    node.signal("-HUP");
    node.wait_for("the TLS certificates stay as they are: the key in peer.tls.key.file");
    fs::write(tls.with_extension("key"), key.serialize_pem()).unwrap();
    node.signal("-HUP");
    node.wait_for("new TLS certificates are in use for new connections: serial ");
    node.wait_for("is not issued by a root in peer.tls.rootcert.file: other peers will refuse it");
    node.wait_for("the own certificate (tls server) expires in 3 days and 0 hours");
    node.wait_for("new TLS certificates are in use for new connections section=\"operations\"");
    node.signal("-HUP");
    node.wait_for("the TLS certificates are unchanged");
    fs::remove_file(tls.with_extension("key")).unwrap();
    node.signal("-HUP");
    node.wait_for("which peer.tls.key.file names: No such file or directory (os error 2)");
    let said = node.end("-TERM");
    assert_eq!(said.matches("stay as they are").count(), 2, "{said}");
    assert_eq!(said.matches("(os error 2)").count(), 2, "{said}");
}

#[test]
fn why_a_node_does_not_start_is_a_line_of_json_where_lines_are() {
    let place = Place::make();
    let file = place.path("data");
    fs::write(&file, "in the way").unwrap();
    for spec in ["info", "no such level"] {
        let mut start = place.command(&["node", "start"]);
        start.env("FABRIC_LOGGING_FORMAT", "json");
        let output = start.env("FABRIC_LOGGING_SPEC", spec).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stderr).unwrap();
        for line in log.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect(line);
        }
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains("\"level\":\"ERROR\""), "{last}");
    }
}
