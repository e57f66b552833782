//! Blocks reach every node, and those that come late.

use std::time::{Duration, Instant};

use tidings_proto::Message as _;

use crate::{
    devnet::Devnet,
    node::Node,
    wait::{measured, until},
};

/// Nothing here takes a tenth of this.
const TIME_MAX: Duration = Duration::from_secs(60);

const PEERS_KNOWN: &str = "gossip_membership_total_peers_known";

/// Waits until each of these counts all others as peers of the channel.
#[track_caller]
pub(crate) fn meet(nodes: &[&Node]) {
    let others = Some((nodes.len() - 1) as f64);
    until("all count each other", TIME_MAX, || {
        let complete = |node: &&Node| node.gauge(PEERS_KNOWN) == others;
        nodes.iter().all(complete).then_some(())
    });
}

#[test]
fn every_node_gets_every_block_as_the_orderer_made_it() {
    let network = Devnet::up(2, 2);
    let nodes = [(1, 0), (1, 1), (2, 0), (2, 1)].map(|(org, peer)| network.join(org, peer));
    let nodes: Vec<_> = nodes.iter().collect();
    meet(&nodes);
    network.order(20);
    network.check_same(&nodes, TIME_MAX);
    for node in &nodes {
        let warnings = node
            .log_since(0)
            .into_iter()
            .filter(|line| line.is_warning());
        assert_eq!(warnings.count(), 0, "{}", node.name);
    }
}

#[test]
fn late_by_three_hundred_blocks() {
    const NAME: &str = "late_by_three_hundred_blocks";
    let mut network = Devnet::up(1, 3);
    let mut early = [0, 1].map(|peer| network.join(1, peer));
    network.order(300);
    let blocks = network.blocks();
    let height = blocks.len() as u64;
    for node in &early {
        node.reaches(height, TIME_MAX);
    }
    let catches_up = |late: &mut Node, from: &str| {
        let start = Instant::now();
        late.start(&network.genesis());
        late.reaches(height, TIME_MAX);
        measured(
            NAME,
            format_args!("{height} blocks from {from} in {:.1?}", start.elapsed()),
        );
        for number in (0..height).step_by(23).chain([height - 1]) {
            let block = &blocks[usize::try_from(number).unwrap()];
            assert!(
                late.served(number) == block.encode_to_vec(),
                "block {number} differs"
            );
        }
        late.stop();
        late.wipe();
    };
    let mut late = network.node(1, 2);
    catches_up(&mut late, "peers and the orderer");
    for node in &mut early {
        node.stop();
    }
    catches_up(&mut late, "the orderer alone");
    for node in &mut early {
        node.start(&network.genesis());
    }
    network.kill_orderer();
    let start = Instant::now();
    late.start(&network.genesis());
    late.reaches(height, TIME_MAX);
    measured(
        NAME,
        format_args!(
            "{height} blocks from peers alone in {:.1?}",
            start.elapsed()
        ),
    );
    // The chain goes on where everybody is.
    network.resume_orderer();
    network.order(3);
    for node in early.iter().chain([&late]) {
        node.reaches(height + 3, TIME_MAX);
    }
}
