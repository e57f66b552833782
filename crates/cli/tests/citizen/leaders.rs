//! Leaders die, nodes are killed, and no block is missed.

use std::{thread, time::Duration};

use crate::{
    blocks::meet,
    devnet::Devnet,
    node::Node,
    wait::{measured, settle, until},
};

/// Twice the threshold and an election, as [`crate::devnet`] sets them.
const TIMERS: Duration = Duration::from_secs(7);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(30);

/// Long enough for one that has come back to be elected, if it heard of no leader.
const STEADY: Duration = Duration::from_secs(4);

const TIME_MAX: Duration = Duration::from_secs(60);

fn leaders(nodes: &[Node]) -> Vec<String> {
    let leaders = nodes.iter().filter(|node| node.runs() && node.leads());
    leaders.map(|node| node.name.clone()).collect()
}

#[test]
fn leaders_die_and_no_block_is_missed() {
    const NAME: &str = "leaders_die_and_no_block_is_missed";
    let network = Devnet::up(1, 3);
    let mut nodes = [0, 1, 2].map(|peer| network.join(1, peer));
    meet(&nodes.iter().collect::<Vec<_>>());
    for _ in 0..3 {
        let (leader, _) = settle(STEADY, TIMERS + SLACK, || leaders(&nodes));
        network.order(5);
        let dying = nodes.iter().position(|node| node.name == leader).unwrap();
        let died = std::time::Instant::now();
        nodes[dying].kill();
        network.order(5);
        let next = until("another leads", TIMERS + SLACK, || leaders(&nodes).pop());
        measured(
            NAME,
            format_args!("{leader} died, {next} led after {:.1?}", died.elapsed()),
        );
        nodes[dying].start(&network.genesis());
    }
    let (_, several) = settle(STEADY, TIMERS + SLACK, || leaders(&nodes));
    measured(
        NAME,
        format_args!("several led for {several:.1?} at the end"),
    );
    network.check_same(&nodes.iter().collect::<Vec<_>>(), TIME_MAX);
}

#[test]
fn killed_while_blocks_come_and_started_again() {
    let network = Devnet::up(1, 2);
    let mut nodes = [0, 1].map(|peer| network.join(1, peer));
    thread::scope(|scope| {
        let ordering = scope.spawn(|| {
            for _ in 0..30 {
                network.order(3);
            }
        });
        // From before a node listens to when it has found its place again.
        for (pause_ms, victim) in [(700, 0), (50, 0), (1500, 1), (300, 1), (100, 0), (900, 1)] {
            thread::sleep(Duration::from_millis(pause_ms));
            nodes[victim].kill();
            nodes[victim].launch(&network.genesis());
        }
        ordering.join().unwrap();
    });
    network.check_same(&nodes.iter().collect::<Vec<_>>(), TIME_MAX);
    settle(STEADY, TIMERS + SLACK, || leaders(&nodes));
}
