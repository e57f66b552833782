//! Killed right after any acknowledgement of a push, a node has what it acknowledged.
//!
//! `KILLS=200 SEED=<number> cargo test -p tidings-node --test network acknowledged` kills as often,
//! at the moments of that number.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tidings_gossip::{Config, id::PkiId};
use tidings_ledger::transient::TransientStore;
use tidings_node::{
    clients::ClientSettings,
    service::{DeliverySettings, NodeConfig, RunningNode, Transport},
    validity::ValiditySettings,
    vitals::Vitals,
};
use tidings_proto::gossip::gossip_message::Content;
use tokio::net::TcpListener;

use crate::{
    private::{Write, scene},
    talker::Talker,
};

const NAME: &str = "acknowledged::a_node_killed_at_random_moments_has_what_it_acknowledged";

/// Says to the child where its node lives.
const HOME: &str = "TIDINGS_HOME";

/// Most pushes on their way at a time.
const PUSHES_MAX: u64 = 24;

/// A generator that needs no crate: the low bits of a linear congruence are dropped.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The node on its folder, until the process is killed.
async fn live(home: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = NodeConfig {
        msp_id: "Org1MSP".to_owned(),
        msp_dir: home.join("msp"),
        tls: None,
        listener,
        endpoint: address.clone(),
        external_endpoint: String::new(),
        data_dir: home.join("data"),
        ledger: tidings_ledger::Settings::default(),
        gossip: Config::default(),
        transport: Transport::default(),
        delivery: DeliverySettings::default(),
        clients: ClientSettings::default(),
        validity: ValiditySettings::default(),
        vitals: Vitals::default(),
    };
    let _node = Box::pin(RunningNode::start(config)).await.unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nat {address}").unwrap();
    out.flush().unwrap();
    std::future::pending::<()>().await;
}

/// Starts the node as a process of its own; says where it listens.
fn start(home: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(HOME, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("at ").map(str::to_owned));
    (child, address.unwrap())
}

/// Whether the store holds exactly this for the transaction.
fn holds(store: &TransientStore, write: &Write) -> bool {
    let mut copies = store.of(write.name()).unwrap();
    copies.any(|copy| copy.unwrap() == write.rwset)
}

#[tokio::test]
async fn a_node_killed_at_random_moments_has_what_it_acknowledged() {
    if let Some(home) = std::env::var_os(HOME) {
        return live(&PathBuf::from(home)).await;
    }
    let (chain, _orderer, seat, node) = scene().await;
    let id: PkiId = node.me().identity.pki_id;
    node.stop().await;
    let (home, seed) = (seat.home.path(), number("SEED", 4));
    let mut random = Random(seed);
    let member = chain.material.org1.member("endorser", "peer");
    let transient = home.join("data/private/mychannel/transient");
    let mut acknowledged = 0;
    for kill in 0..number("KILLS", 20) {
        let (mut child, address) = start(home);
        let mut talker = Talker::new(&chain.material.org1, &member, &chain.blocks[0]).await;
        let pushes = 1 + random.below(PUSHES_MAX);
        let writes: Vec<Write> = (0..pushes)
            .map(|push| Write::new(&chain, "one", &format!("{kill} {push}")))
            .collect();
        for (nonce, write) in (0..).zip(&writes) {
            talker.say_at((id, &address), nonce, write.push());
        }
        let mut heard = Vec::new();
        for _ in 0..=random.below(pushes) {
            heard.push(talker.acknowledged().await);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        heard.extend(talker.heard_already());
        let store = TransientStore::open(&transient).unwrap();
        for message in heard {
            let Some(Content::Ack(ack)) = message.content else {
                continue;
            };
            assert_eq!(ack.error, "");
            let write = &writes[usize::try_from(message.nonce).unwrap()];
            assert!(
                holds(&store, write),
                "SEED={seed}, kill {kill}: {} is lost",
                write.tx_id
            );
            acknowledged += 1;
        }
    }
    assert!(acknowledged > 0);
}
