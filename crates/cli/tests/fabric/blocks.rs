//! Blocks on their way through a node: from Go peers or the orderer to it, and from it to Go
//! peers, with nothing changed.

use std::time::{Duration, Instant};

use serde_json::Value;
use tidings_proto::{Message as _, common::Block};

use crate::{
    chain::Essence,
    fabnet::{self, Fabnet},
    node::Node,
    wait::{measured, until},
};

const NAME: &str = "gets_and_relays_blocks";

/// 200 blocks of 10 transactions with 3 kB each, 10 in a second.
const LOAD: [&str; 6] = ["--blocks", "200", "--tx-bytes", "3000", "--rate", "10"];

/// Signing the load ahead takes a while.
const LOAD_TIME_MAX: Duration = Duration::from_secs(180);

/// Whoever was left out by every push looks for what it lacks every ten seconds.
const ARRIVE_TIME_MAX: Duration = Duration::from_secs(60);

/// Metadata of blocks that whoever commits them writes over: validation codes and commit hash.
const COMMITTERS: [usize; 2] = [2, 4];

#[test]
fn gets_and_relays_blocks() {
    let Some(network) = fabnet::up(NAME, &[]) else {
        return;
    };
    follows_a_go_leader(&network);
    drop(network);
    // Go peers that never lead.
    let followers = [
        "--no-anchors",
        "--set",
        "peer.gossip.useLeaderElection=false",
    ];
    leads_a_lonely_follower(&fabnet::up(NAME, &followers).unwrap());
}

/// One more follower in a usual network.
fn follows_a_go_leader(network: &Fabnet) {
    let node = network.join("org1-extra0");
    node.reaches(network.height(), ARRIVE_TIME_MAX);
    let spent = carry(network, &node, || slowest(network));
    measured(NAME, format_args!("as a follower: {spent}"));
    check_same(network, &node);
}

/// Nobody but this node can tell a Go peer of blocks.
fn leads_a_lonely_follower(network: &Fabnet) {
    let mut node = network.guest("org1-extra0");
    node.set("CORE_PEER_GOSSIP_USELEADERELECTION", "false");
    node.set("CORE_PEER_GOSSIP_ORGLEADER", "true");
    node.start(&network.genesis());
    let follower = network.peer("org1-peer1");
    until("the two know each other", ARRIVE_TIME_MAX, || {
        let known = node.members().contains_key(&follower.pki);
        (known && follower.gauge("gossip_membership_total_peers_known")? >= 2.0).then_some(())
    });
    network.run(&["stop-peer", "org1-peer0", "org2-peer0"]);
    let spent = carry(network, &node, || follower.height());
    measured(
        NAME,
        format_args!("to a Go follower that has nobody else: {spent}"),
    );
    check_same(network, &node);
    network.run(&["stop-peer", "org1-peer1"]);
    assert!(
        network.ordered() == network.kept("org1-peer1"),
        "the follower's chain differs"
    );
}

/// Blocks at the Go peer that has the fewest.
fn slowest(network: &Fabnet) -> Option<u64> {
    let heights = network.peers().iter().map(fabnet::GoPeer::height);
    heights.min().flatten()
}

/// Orders the load and waits until the node, and whoever else is asked, has all of it.
fn carry(network: &Fabnet, node: &Node, height: impl Fn() -> Option<u64>) -> String {
    let load = network.load(&LOAD);
    let goal = network.height() + 200;
    until("the load is ordered", LOAD_TIME_MAX, || {
        (network.height() >= goal).then_some(())
    });
    let ordered = Instant::now();
    node.reaches(goal, ARRIVE_TIME_MAX);
    let here = ordered.elapsed();
    until("every Go peer has all", ARRIVE_TIME_MAX, || {
        (height()? >= goal).then_some(())
    });
    let there = ordered.elapsed();
    let sources = ["push", "pull", "transfer", "deliver"].map(|source| {
        let labels = [("channel", fabnet::CHANNEL), ("source", source)];
        let blocks = node.sum("tidings_blocks_committed", &labels);
        format!("{source} {}", blocks.unwrap_or_default())
    });
    let told: Value = serde_json::from_str(&load.finish()).unwrap();
    format!(
        "200 blocks ordered in {} s; after the last one was ordered our node had all in {here:.1?}, \
         the slowest Go peer in {there:.1?}; they came to us by {}",
        told["seconds"],
        sources.join(", ")
    )
}

/// The node's whole chain is the orderer's, and some blocks are so in every byte that the orderer
/// serves. What Go peers added when they committed a block is there where it came out of a Go
/// peer's ledger, by state transfer: we keep blocks as they come, and add nothing of that kind.
fn check_same(network: &Fabnet, node: &Node) {
    let (theirs, ours) = (network.ordered(), node.blocks());
    for (number, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
        assert!(*theirs == Essence::read(ours), "block {number} differs");
    }
    assert_eq!(theirs.len(), ours.len());
    let numbers = [0, 1, ours.len() / 2, ours.len() - 1];
    for number in numbers {
        let theirs = network.served(number as u64, "orderer");
        let (ours, _) = as_ordered(&ours[number]);
        assert!(theirs == ours, "block {number} differs");
    }
    let committed = ours.iter().filter(|block| as_ordered(block).1).count();
    let labels = [("channel", fabnet::CHANNEL), ("source", "transfer")];
    let transferred = node.sum("tidings_blocks_committed", &labels);
    assert_eq!(committed as f64, transferred.unwrap_or_default());
    measured(
        NAME,
        format_args!(
            "{} blocks equal to the orderer's, {} of them compared with what it serves in every \
             byte; {committed} with what Go peers added when they committed them",
            ours.len(),
            numbers.len()
        ),
    );
}

/// A serialized block as the orderer gave it, and whether a Go peer had committed it since.
fn as_ordered(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut block = Block::decode(bytes).unwrap();
    let mut is_committed = false;
    let metadata = block.metadata.iter_mut();
    for (index, slot) in metadata.flat_map(|all| &mut all.metadata).enumerate() {
        if COMMITTERS.contains(&index) {
            is_committed |= !std::mem::take(slot).is_empty();
        }
    }
    (block.encode_to_vec(), is_committed)
}
