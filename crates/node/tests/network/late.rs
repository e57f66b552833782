//! A node that comes late, among others that have everything.

use std::time::Instant;

use tidings_gossip::{Source, transfer::Progress};
use tidings_node::service::RunningNode;

use crate::{
    ordering,
    peer::{Seat, channel, reaches, soon},
};

/// How far the chain goes: `TIDINGS_LATE_BLOCKS=2000`, with `--release` and `--nocapture`, tells
/// how fast this machine is.
fn blocks() -> u64 {
    let blocks = std::env::var("TIDINGS_LATE_BLOCKS").ok();
    blocks.map_or(300, |blocks| blocks.parse().unwrap())
}

/// What the node shows of catching up until it has that many blocks, latest first.
async fn shown(node: &RunningNode, height: u64) -> Vec<Progress> {
    let mut status = node.status();
    let mut shown = Vec::new();
    loop {
        let now = status.borrow_and_update().channels.first().cloned();
        if let Some(now) = now {
            shown.extend(now.catching_up);
            if now.height >= height {
                shown.reverse();
                return shown;
            }
        }
        status.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_node_catches_up_from_others_through_a_change_of_the_orderer() {
    let (mut chain, orderer) = ordering(1).await;
    let height = blocks();
    chain.fill_to(height / 2);
    // What comes after this block can be verified only when it is in force.
    chain.renew_orderer();
    chain.fill_to(height);
    orderer.serve(chain.blocks.clone());
    let (first, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    let mut nodes = vec![first.start(listener).await];
    let mut seats = vec![first];
    for name in ["peer1", "peer2", "late"] {
        let (seat, listener) = Seat::new(&chain.material.org1, name, Some(seats[0].address)).await;
        if name == "late" {
            for node in &mut nodes {
                node.join(chain.blocks[0].clone()).await.unwrap();
            }
            for node in &nodes {
                reaches(node, height).await;
            }
        }
        nodes.push(seat.start(listener).await);
        seats.push(seat);
    }
    let mut late = nodes.pop().unwrap();
    let mut committed = late.committed();
    let began = Instant::now();
    late.join(chain.blocks[0].clone()).await.unwrap();
    let shown = soon(shown(&late, height)).await;
    eprintln!(
        "{height} blocks after {:.2?}: {:?}",
        began.elapsed(),
        shown.first()
    );
    assert!(!shown.is_empty(), "how far it is can be seen");
    for progress in &shown {
        assert!(progress.from <= progress.height, "{progress:?}");
        assert!(progress.goal <= height, "{progress:?}");
    }
    let mut transferred = 0;
    for number in 1..height {
        let commit = committed.recv().await.unwrap();
        assert_eq!(commit.number, number);
        assert_ne!(commit.source, Source::Deliver, "it does not lead");
        transferred += u64::from(commit.source == Source::Transfer);
    }
    // Pull brings the newest blocks only.
    assert!(transferred >= height / 2, "{transferred}");
    let reader = late.reader(&channel()).unwrap();
    for (number, block) in (0..).zip(&chain.blocks) {
        assert_eq!(reader.block(number).unwrap().unwrap().bytes(), block);
    }
    for node in nodes.into_iter().chain([late]) {
        node.stop().await;
    }
}
