//! A network of our own: `tidings orderer` as one process, nodes as others, and a client.
//!
//! Promises: blocks are ordered one for each transaction; nothing is left running.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tempfile::TempDir;
use tidings_msp::{channel_config::ChannelConfig, identity::SigningIdentity};
use tidings_node::{
    msp_folder,
    tls::{self, Tls, TlsSettings},
};
use tidings_proto::{
    Message as _,
    common::{Block, ConfigGroup, Envelope, HeaderType, Status},
    orderer::{
        SeekInfo, SeekNewest, SeekOldest, SeekPosition,
        atomic_broadcast_client::AtomicBroadcastClient, deliver_response::Type,
        seek_position::Type as Position,
    },
};
use tonic::transport::Channel;

use crate::{
    node::Node,
    ports,
    update::{transaction, update},
    wait::{say, until},
};

/// The name of the channel.
pub(crate) const CHANNEL: &str = "tidings";

/// Networks lie at ports below those of the target `fabric`.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// An orderer and eight nodes, ten ports each, and some.
const PORTS_LEN: u16 = 100;

/// Making keys and starting, unoptimised, on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// What is asked of an orderer is answered at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Shorter than an operator would have them, so that a test is short. What is not named is at
/// its default.
const TIMERS: &[(&str, &str)] = &[
    ("ALIVETIMEINTERVAL", "1s"),
    ("RECONNECTINTERVAL", "1s"),
    ("PULLINTERVAL", "1s"),
    ("DIGESTWAITTIME", "200ms"),
    ("REQUESTWAITTIME", "400ms"),
    ("RESPONSEWAITTIME", "600ms"),
    ("PUBLISHSTATEINFOINTERVAL", "500ms"),
    ("REQUESTSTATEINFOINTERVAL", "500ms"),
    ("MEMBERSHIPTRACKERINTERVAL", "500ms"),
    ("STATE_CHECKINTERVAL", "1s"),
    ("ELECTION_STARTUPGRACEPERIOD", "3s"),
    ("ELECTION_MEMBERSHIPSAMPLEINTERVAL", "300ms"),
    ("ELECTION_LEADERALIVETHRESHOLD", "3s"),
    ("ELECTION_LEADERELECTIONDURATION", "1s"),
];

/// A network.
pub(crate) struct Devnet {
    orderer: Option<Child>,
    first_port: u16,
    peers: u16,
    home: Option<TempDir>,
}

impl Devnet {
    /// Makes a network of so many organizations with so many peers each; the orderer runs.
    pub(crate) fn up(orgs: u16, peers: u16) -> Self {
        let home = tempfile::Builder::new()
            .prefix("tidings-citizen-")
            .tempdir()
            .unwrap();
        let mut network = Self {
            orderer: None,
            first_port: ports::free(PORTS, PORTS_LEN),
            peers,
            home: Some(home),
        };
        let (orgs, peers, port) = (orgs.to_string(), peers.to_string(), network.first_port);
        network.start_orderer(&[
            "--orgs",
            &orgs,
            "--peers",
            &peers,
            "--block-transactions",
            "1",
            "--first-port",
            &port.to_string(),
        ]);
        network
    }

    fn home(&self) -> &Path {
        self.home.as_ref().unwrap().path()
    }

    fn dir(&self) -> PathBuf {
        self.home().join("net")
    }

    fn start_orderer(&mut self, options: &[&str]) {
        assert!(self.orderer.is_none(), "the orderer runs");
        let path = self.home().join("orderer.log");
        let before = fs::read(&path).map_or(0, |log| log.len());
        let mut log = File::options();
        let log = log.create(true).append(true).open(&path).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .arg("orderer")
            .arg(self.dir())
            .args(options)
            .env_remove("FABRIC_LOGGING_SPEC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.orderer = Some(child);
        until("the orderer listens", START_TIME_MAX, || {
            let log = fs::read(&path).unwrap();
            let said = String::from_utf8_lossy(&log[before..]);
            said.contains("the orderer listens on").then_some(())
        });
    }

    /// Starts the orderer again where it ended.
    pub(crate) fn resume_orderer(&mut self) {
        self.start_orderer(&[]);
    }

    /// Ends the orderer at once.
    pub(crate) fn kill_orderer(&mut self) {
        let mut orderer = self.orderer.take().unwrap();
        orderer.kill().unwrap();
        orderer.wait().unwrap();
    }

    /// Block 0.
    pub(crate) fn genesis(&self) -> PathBuf {
        self.dir().join("genesis.block")
    }

    /// A node of an organization, both counted from their first, that does not run yet.
    pub(crate) fn node(&self, org: u16, peer: u16) -> Node {
        let name = format!("peer{peer}.org{org}.demo");
        let number = (org - 1) * self.peers + peer + 1;
        let endpoint = format!("127.0.0.1:{}", self.first_port + 10 * number);
        let config = self.dir().join("nodes").join(&name);
        let mut node = Node::new(&name, &self.home().join(&name), &config, &endpoint, CHANNEL);
        for (key, value) in TIMERS {
            node.set(&format!("CORE_PEER_GOSSIP_{key}"), *value);
        }
        node
    }

    /// Such a node, running and in the channel.
    #[track_caller]
    pub(crate) fn join(&self, org: u16, peer: u16) -> Node {
        let mut node = self.node(org, peer);
        node.start(&self.genesis());
        node
    }

    /// The folder of an organization's keys.
    pub(crate) fn crypto(&self, org: u16) -> PathBuf {
        let orgs = self.dir().join("crypto/peerOrganizations");
        orgs.join(format!("org{org}.demo"))
    }

    /// A user of an organization: `User1` or `Admin`.
    fn user(&self, org: u16, name: &str) -> SigningIdentity {
        let users = self.crypto(org).join("users");
        let msp = users.join(format!("{name}@org{org}.demo")).join("msp");
        msp_folder::load(&msp, &format!("Org{org}MSP"))
            .unwrap()
            .signer
    }

    async fn client(&self) -> AtomicBroadcastClient<Channel> {
        let tls = self.crypto(1).join("peers/peer0.org1.demo/tls");
        let file = |name: &str| fs::read(tls.join(name)).unwrap();
        let settings = TlsSettings {
            certificate: file("server.crt"),
            key: file("server.key"),
            roots: vec![file("ca.crt")],
            ..TlsSettings::default()
        };
        let tls = Tls::new(&settings, SystemTime::now()).unwrap();
        let orderers = self
            .dir()
            .join("crypto/ordererOrganizations/orderer.demo/orderers");
        let root = fs::read(orderers.join("orderer.orderer.demo/tls/ca.crt")).unwrap();
        let endpoint = format!("127.0.0.1:{}", self.first_port);
        let identity = tls.client_identity();
        let channel = tls::channel(&endpoint, Some(&identity), &[root], false).await;
        AtomicBroadcastClient::new(channel.unwrap())
    }

    /// Has transactions ordered; all of them are when this returns.
    #[track_caller]
    pub(crate) fn submit(&self, envelopes: Vec<Envelope>) {
        let count = envelopes.len();
        block_on(async {
            let mut client = self.client().await;
            let answers = client
                .broadcast(tokio_stream::iter(envelopes))
                .await
                .unwrap();
            let mut answers = answers.into_inner();
            for number in 0..count {
                let answer = answers.message().await.unwrap().unwrap();
                let info = answer.info;
                assert_eq!(
                    answer.status,
                    i32::from(Status::Success),
                    "{number}: {info}"
                );
            }
        });
    }

    /// Has so many blocks made of one ordinary transaction each.
    #[track_caller]
    pub(crate) fn order(&self, blocks: usize) {
        let before = self.height();
        let user = self.user(1, "User1");
        let transaction = |number: usize| {
            let data = Bytes::from(vec![u8::try_from(number % 256).unwrap(); 3000]);
            transaction(HeaderType::EndorserTransaction, CHANNEL, &user, data)
        };
        self.submit((0..blocks).map(transaction).collect());
        self.until_height(before + blocks as u64);
    }

    /// Changes the channel's configuration with the consent of these organizations' administrators.
    #[track_caller]
    pub(crate) fn reconfigure(&self, orgs: &[u16], change: impl FnOnce(&mut ConfigGroup)) {
        let blocks = self.blocks();
        let configs = blocks.iter().filter_map(|block| {
            // Of ordinary blocks there is no configuration to be had.
            ChannelConfig::from_config_block(&block.encode_to_vec().into()).ok()
        });
        let current = configs.last().unwrap().group().clone();
        let mut next = current.clone();
        change(&mut next);
        let admins: Vec<_> = orgs.iter().map(|org| self.user(*org, "Admin")).collect();
        let admins: Vec<_> = admins.iter().collect();
        self.submit(vec![update(CHANNEL, &current, &next, &admins)]);
        self.until_height(blocks.len() as u64 + 1);
    }

    /// The whole chain, as the orderer serves it.
    #[track_caller]
    pub(crate) fn blocks(&self) -> Vec<Block> {
        self.served(Position::Oldest(SeekOldest {}))
    }

    /// Blocks at the orderer.
    #[track_caller]
    pub(crate) fn height(&self) -> u64 {
        let newest = self.served(Position::Newest(SeekNewest {}));
        newest[0].header.as_ref().unwrap().number + 1
    }

    /// All blocks from that one on that there are now.
    #[track_caller]
    fn served(&self, from: Position) -> Vec<Block> {
        let position = |position| SeekPosition {
            r#type: Some(position),
        };
        let seek = SeekInfo {
            start: Some(position(from)),
            stop: Some(position(Position::Newest(SeekNewest {}))),
            ..SeekInfo::default()
        };
        let user = self.user(1, "User1");
        let seek = seek.encode_to_vec().into();
        let request = transaction(HeaderType::DeliverSeekInfo, CHANNEL, &user, seek);
        block_on(async {
            let mut client = self.client().await;
            let answers = client.deliver(tokio_stream::once(request)).await.unwrap();
            let mut answers = answers.into_inner();
            let mut blocks = Vec::new();
            loop {
                let answer = answers.message().await.unwrap();
                match answer.and_then(|answer| answer.r#type) {
                    Some(Type::Block(block)) => blocks.push(block),
                    Some(Type::Status(status)) => {
                        assert_eq!(status, i32::from(Status::Success));
                        return blocks;
                    }
                    None => panic!("the stream ended after {} blocks", blocks.len()),
                }
            }
        })
    }

    fn until_height(&self, height: u64) {
        until("the orderer has written the block", ANSWER_TIME_MAX, || {
            (self.height() >= height).then_some(())
        });
    }

    /// Waits until these nodes have the orderer's whole chain, and compares it byte by byte.
    #[track_caller]
    pub(crate) fn check_same(&self, nodes: &[&Node], within: Duration) {
        let blocks = self.blocks();
        for node in nodes {
            node.reaches(blocks.len() as u64, within);
            for (number, block) in (0..).zip(&blocks) {
                let same = node.served(number) == block.encode_to_vec();
                assert!(same, "{}: block {number} differs", node.name);
            }
        }
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        if let Some(mut orderer) = self.orderer.take() {
            let _ = orderer.kill();
            let _ = orderer.wait();
        }
        if thread::panicking() || env::var_os("TIDINGS_CITIZEN_KEEP").is_some() {
            let home = self.home.take().unwrap();
            say(format_args!("KEPT {}", home.keep().display()));
        }
    }
}

fn block_on<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(ANSWER_TIME_MAX, what).await })
        .expect("the orderer answers")
}
