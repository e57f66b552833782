//! Whole nodes over real sockets, with keys and a chain of our own and an orderer that serves it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its scene has failed"
)]

mod acknowledged;
mod chain;
mod chromium;
mod clients;
mod cluster;
mod dashboard;
#[path = "../../../msp/tests/collections/draft.rs"]
mod draft;
mod late;
#[path = "../../../msp/tests/material/mod.rs"]
mod material;
mod orderer;
mod orderers;
mod peer;
mod private;
mod pruned;
mod queries;
mod renewal;
mod stripes;
mod talker;
mod validity;
mod vitals;

use std::{fs, io::ErrorKind, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use tidings_gossip::{Source, VerifiedBlock, id::PkiId};
use tidings_ledger::Ledger;
use tidings_msp::block::header_hash;
use tidings_node::{
    commit::Committer,
    serve::Blocks,
    service::{AddressOverride, LeaveRefused, RunningNode, StartRefused},
    status::ChannelStatus,
};
use tidings_proto::{
    block::BlockView,
    common::{ConfigGroup, msp_role::MspRoleType},
};
use tokio::{net::TcpListener, sync::mpsc};

use chain::Chain;
use material::{Material, Organization, tree};
use orderer::Orderer;
use peer::{Seat, channel, reaches, shows, soon};

/// An orderer with a chain of that height.
async fn ordering(height: u64) -> (Chain, Orderer) {
    let (door, address) = Orderer::door().await;
    let mut chain = Chain::new(&address.to_string());
    chain.grow_to(height);
    let orderer = Orderer::start(door, chain.blocks.clone());
    (chain, orderer)
}

/// A node of the first organization that leads it.
async fn leader(chain: &Chain) -> (Seat, RunningNode) {
    let (seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    let node = seat.start(listener).await;
    (seat, node)
}

fn is_peer(channel: &ChannelStatus, peer: PkiId) -> bool {
    channel.peers.iter().any(|(each, _)| *each == peer)
}

fn incarnation(seat: &Seat) -> u64 {
    let text = fs::read_to_string(seat.home.path().join("data/incarnation")).unwrap();
    text.parse().unwrap()
}

#[tokio::test]
async fn blocks_reach_every_node_and_one_that_was_away_catches_up() {
    let (mut chain, orderer) = ordering(6).await;
    let (first, node) = leader(&chain).await;
    let mut nodes = vec![node];
    let mut seats = vec![first];
    for name in ["peer1", "peer2"] {
        let (seat, listener) = Seat::new(&chain.material.org1, name, Some(seats[0].address)).await;
        nodes.push(seat.start(listener).await);
        seats.push(seat);
    }
    for node in &mut nodes {
        assert_eq!(node.join(chain.blocks[0].clone()).await.unwrap(), channel());
    }
    for node in &nodes {
        reaches(node, 6).await;
    }
    let (away, seat) = (nodes.pop().unwrap(), seats.pop().unwrap());
    away.stop().await;
    let before = incarnation(&seat);
    chain.grow_to(40);
    orderer.serve(chain.blocks.clone());
    for node in &nodes {
        reaches(node, 40).await;
    }
    let listener = TcpListener::bind(seat.address).await.unwrap();
    let back = seat.start(listener).await;
    assert!(incarnation(&seat) > before);
    let mut committed = back.committed();
    reaches(&back, 40).await;
    while let Ok(commit) = committed.try_recv() {
        assert_ne!(commit.source, Source::Deliver, "it does not lead");
    }
    nodes.push(back);
    for node in nodes {
        let reader = node.reader(&channel()).unwrap();
        for (number, block) in (0..).zip(&chain.blocks) {
            assert_eq!(reader.block(number).unwrap().unwrap().bytes(), block);
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn a_configuration_moves_the_channel_and_outlives_a_restart() {
    let (mut chain, mut orderer) = ordering(3).await;
    let (seat, mut node) = leader(&chain).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    assert_eq!(soon(orderer.starts.recv()).await, Some(1));
    chain.add_tls_root();
    chain.grow_to(6);
    orderer.serve(chain.blocks.clone());
    // The address stayed, but who is to be trusted there did not.
    assert_eq!(soon(orderer.starts.recv()).await, Some(4));
    reaches(&node, 6).await;
    node.stop().await;
    // Whoever forgot the first change cannot take the second.
    chain.add_tls_root();
    chain.grow_to(8);
    orderer.serve(chain.blocks.clone());
    let listener = TcpListener::bind(seat.address).await.unwrap();
    let node = seat.start(listener).await;
    reaches(&node, 8).await;
    node.stop().await;
}

#[tokio::test]
async fn an_orderer_is_reached_where_the_operator_says() {
    let (door, address) = Orderer::door().await;
    let mut chain = Chain::new("orderer.invalid:7050");
    chain.grow_to(3);
    let _orderer = Orderer::start(door, chain.blocks.clone());
    let (mut seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    let instead = AddressOverride {
        to: address.to_string(),
        tls_roots: Vec::new(),
    };
    seat.delivery.address_overrides = [("orderer.invalid:7050".to_owned(), instead)].into();
    let mut node = seat.start(listener).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&node, 3).await;
    node.stop().await;
}

#[tokio::test]
async fn a_channel_is_joined_once_and_from_its_beginning() {
    let (chain, _orderer) = ordering(2).await;
    let (seat, mut node) = leader(&chain).await;
    for bad in [
        Bytes::from_static(b"\xff"),
        Bytes::new(),
        chain.blocks[1].clone(),
    ] {
        let refused = node.join(bad).await.unwrap_err();
        assert!(matches!(refused, StartRefused::Genesis(_)), "{refused}");
    }
    // The same names, other keys.
    let others = Material::new();
    let stranger = others.genesis(others.group());
    let refused = node.join(stranger.clone()).await.unwrap_err();
    assert!(
        matches!(refused, StartRefused::Stranger { .. }),
        "{refused}"
    );
    let dir = seat.home.path().join("data/channels/mychannel");
    assert!(!dir.exists(), "nothing is left of it");
    // Nor does it get into what is left of a join that was cut off.
    drop(Ledger::open(&dir).unwrap());
    let refused = node.join(stranger).await.unwrap_err();
    assert!(
        matches!(refused, StartRefused::Stranger { .. }),
        "{refused}"
    );
    node.join(chain.blocks[0].clone()).await.unwrap();
    let refused = node.join(chain.blocks[0].clone()).await.unwrap_err();
    assert!(matches!(refused, StartRefused::Joined(_)), "{refused}");
    node.stop().await;
}

#[tokio::test]
async fn who_leaves_is_out_at_once_and_after_restarts_and_may_come_back() {
    let (mut chain, orderer) = ordering(4).await;
    let (first, mut stays) = leader(&chain).await;
    let (seat, listener) = Seat::new(&chain.material.org1, "peer1", Some(first.address)).await;
    let mut leaver = seat.start(listener).await;
    let me = leaver.me().identity.pki_id;
    let genesis = chain.blocks[0].clone();
    stays.join(genesis.clone()).await.unwrap();
    leaver.join(genesis.clone()).await.unwrap();
    reaches(&leaver, 4).await;
    shows(&stays, |channel| is_peer(channel, me)).await;

    leaver.leave(&channel()).await.unwrap();
    let again = leaver.leave(&channel()).await.unwrap_err();
    assert!(matches!(again, LeaveRefused::LeftBefore(_)), "{again}");
    shows(&stays, |channel| !is_peer(channel, me)).await;
    assert!(leaver.reader(&channel()).is_none());
    let shown = leaver.metrics().text();
    for gauge in [
        "gossip_state_height",
        "gossip_payload_buffer_size",
        "ledger_blockchain_height",
        "tidings_blocks_behind",
        "tidings_commit_queue_length",
    ] {
        assert!(!shown.contains(&format!("{gauge}{{channel")), "{gauge}");
    }
    assert!(stays.metrics().text().contains("state_height{channel"));
    let mut status = leaver.status();
    let gone = status.wait_for(|status| status.channels.is_empty());
    assert_eq!(soon(gone).await.unwrap().members.len(), 1, "still a member");
    let dir = seat.home.path().join("data/channels/mychannel");
    assert_eq!(Ledger::open(&dir).unwrap().height(), 4, "closed and kept");

    // The leader left it behind; what it missed comes when it is back, without a restart.
    chain.grow_to(6);
    orderer.serve(chain.blocks.clone());
    reaches(&stays, 6).await;
    assert_eq!(leaver.join(genesis.clone()).await.unwrap(), channel());
    reaches(&leaver, 6).await;
    shows(&stays, |channel| is_peer(channel, me)).await;

    leaver.leave(&channel()).await.unwrap();
    leaver.stop().await;
    let listener = TcpListener::bind(seat.address).await.unwrap();
    let mut leaver = seat.start(listener).await;
    assert!(leaver.directory().channels().is_empty());
    let other = Chain::new("elsewhere:1").blocks[0].clone();
    let refused = leaver.join(other).await.unwrap_err();
    assert!(
        matches!(refused, StartRefused::OtherChain { .. }),
        "{refused}"
    );
    leaver.join(genesis).await.unwrap();
    chain.grow_to(8);
    orderer.serve(chain.blocks.clone());
    reaches(&leaver, 8).await;
    leaver.stop().await;
    let listener = TcpListener::bind(seat.address).await.unwrap();
    let leaver = seat.start(listener).await;
    assert_eq!(leaver.reader(&channel()).unwrap().height(), 8);
    leaver.stop().await;
    stays.stop().await;
}

#[tokio::test]
async fn who_is_stopped_while_leaving_has_left() {
    let (chain, _orderer) = ordering(2).await;
    let (seat, mut node) = leader(&chain).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    let leaving = node.leave(&channel()).now_or_never();
    assert!(leaving.is_none(), "it has only begun");
    node.stop().await;
    let listener = TcpListener::bind(seat.address).await.unwrap();
    let mut node = seat.start(listener).await;
    assert!(node.directory().channels().is_empty() && node.has_left(&channel()));
    node.join(chain.blocks[0].clone()).await.unwrap();
    assert!(!node.has_left(&channel()));
    node.stop().await;
}

#[tokio::test]
async fn an_organization_that_was_added_later_begins_with_the_first_block_too() {
    let (mut chain, orderer) = ordering(3).await;
    let later = Organization::new("Later");
    let (seat, listener) = Seat::new(&later, "peer0", None).await;
    let mut node = seat.start(listener).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&node, 3).await;
    node.stop().await;
    let listener = TcpListener::bind(seat.address).await.unwrap();
    let node = seat.start(listener).await;
    let admins = [&chain.material.org1, &chain.material.org2].map(|org| org.member("a", "admin"));
    let alter = |group: &mut ConfigGroup, _: &Material| {
        let application = tree::at(group, &["Application"]);
        application.version += 1;
        let mut group = application.groups["Org1-group"].clone();
        tree::put(&mut group, "MSP", &tree::msp(&later.msp()));
        let member = vec![tree::role(&later.msp_id, MspRoleType::Member)];
        tree::put_policy(&mut group, "Readers", tree::out_of(1, member));
        application.groups.insert(later.key.clone(), group);
    };
    chain.reconfigure(alter, &admins.each_ref());
    chain.grow_to(6);
    orderer.serve(chain.blocks.clone());
    reaches(&node, 6).await;
    node.stop().await;
}

#[tokio::test]
async fn stopping_leaves_nothing_behind() {
    let (chain, orderer) = ordering(3).await;
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = alive();
    let (seat, mut node) = leader(&chain).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&node, 3).await;
    // The folder and the port are taken as long as it runs.
    let dir = seat.home.path().join("data/channels/mychannel");
    assert!(Ledger::open(&dir).is_err());
    let taken = TcpListener::bind(seat.address).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = RunningNode::start(seat.config(other)).await.unwrap_err();
    assert!(
        refused.to_string().contains("stop the other process"),
        "{refused}"
    );
    node.stop().await;
    assert_eq!(Ledger::open(&dir).unwrap().height(), 3);
    TcpListener::bind(seat.address).await.unwrap();
    drop(orderer);
    soon(async {
        // Those of the orderer's connection, which ends in its own time.
        while alive() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Keeps blocks in memory until it does not.
struct Flawed {
    blocks: Vec<VerifiedBlock>,
    genesis: BlockView,
    height_max: u64,
    panics: bool,
}

impl Committer for Flawed {
    fn height(&self) -> u64 {
        1 + self.blocks.len() as u64
    }

    fn last_hash(&self) -> Option<[u8; 32]> {
        let genesis = || {
            let header = self.genesis.header().unwrap();
            header_hash(header.number, &header.previous_hash, &header.data_hash)
        };
        Some(self.blocks.last().map_or_else(genesis, |block| block.hash))
    }

    fn commit(&mut self, blocks: &[VerifiedBlock]) -> Result<(), String> {
        if self.height() + blocks.len() as u64 > self.height_max {
            assert!(!self.panics, "on purpose");
            return Err("no space left; make room and start again".to_owned());
        }
        self.blocks.extend_from_slice(blocks);
        Ok(())
    }
}

/// Says that it has begun to write a block, and fails when it is let go on.
struct Stuck {
    genesis: [u8; 32],
    begun: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Committer for Stuck {
    fn height(&self) -> u64 {
        1
    }

    fn last_hash(&self) -> Option<[u8; 32]> {
        Some(self.genesis)
    }

    fn commit(&mut self, _: &[VerifiedBlock]) -> Result<(), String> {
        self.begun.blocking_send(()).unwrap();
        self.go_on.blocking_recv().unwrap();
        Err("no space left".to_owned())
    }
}

struct NoBlocks;

impl Blocks for NoBlocks {
    fn block(&self, _: u64) -> Result<Option<Bytes>, String> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_failure_is_heard_while_a_channel_is_left() {
    let (chain, _orderer) = ordering(2).await;
    let (_seat, mut node) = leader(&chain).await;
    let genesis = BlockView::parse(chain.blocks[0].clone()).unwrap();
    let header = genesis.header().unwrap();
    let (begun, mut has_begun) = mpsc::channel(1);
    let (let_go_on, go_on) = mpsc::channel(1);
    let committer = Stuck {
        genesis: header_hash(header.number, &header.previous_hash, &header.data_hash),
        begun,
        go_on,
    };
    node.join_into(genesis.bytes(), Box::new(committer), Arc::new(NoBlocks))
        .await
        .unwrap();
    soon(has_begun.recv()).await.unwrap();
    let failed = node.failed();
    let of = channel();
    let mut leave = Box::pin(node.leave(&of));
    assert!(leave.as_mut().now_or_never().is_none());
    let_go_on.send(()).await.unwrap();
    let (reason, left) = soon(async { tokio::join!(failed, leave) }).await;
    assert_eq!(reason, "channel mychannel: no space left");
    left.unwrap();
    soon(node.stop()).await;
}

#[tokio::test]
async fn a_ledger_that_takes_no_more_is_told_in_one_line() {
    for panics in [false, true] {
        let (chain, _orderer) = ordering(50).await;
        let (_seat, mut node) = leader(&chain).await;
        let genesis = chain.blocks[0].clone();
        let committer = Flawed {
            blocks: Vec::new(),
            genesis: BlockView::parse(genesis.clone()).unwrap(),
            height_max: 10,
            panics,
        };
        node.join_into(&genesis, Box::new(committer), Arc::new(NoBlocks))
            .await
            .unwrap();
        let reason = soon(node.failed()).await;
        let expected = if panics {
            "channel mychannel: the thread that commits blocks broke off"
        } else {
            "channel mychannel: no space left; make room and start again"
        };
        assert_eq!(reason, expected);
        let failed = node.health().failed_checks().await;
        let [check] = &failed[..] else {
            panic!("{failed:?}")
        };
        let named = (check.component.as_str(), check.reason.as_str());
        assert_eq!(named, ("ledger/mychannel", expected));
        soon(node.stop()).await;
    }
}
