//! Blocks by stripes among nodes that know them, beside one that does not.

use tidings_gossip::Source;
use tidings_node::service::RunningNode;

use crate::{
    ordering,
    peer::{Seat, channel, reaches, shows},
};

/// How blocks came to a node, from the next on.
async fn ways(node: &RunningNode, height: u64) -> Vec<Source> {
    let mut committed = node.committed();
    reaches(node, height).await;
    let mut ways = Vec::new();
    while let Ok(commit) = committed.try_recv() {
        ways.push(commit.source);
    }
    ways
}

#[tokio::test]
async fn blocks_go_by_stripes_and_reach_those_who_do_not_take_them() {
    let (mut chain, orderer) = ordering(3).await;
    let (mut nodes, mut seats) = (Vec::new(), Vec::<Seat>::new());
    for (name, takes_stripes) in [
        ("peer0", true),
        ("peer1", true),
        ("peer2", true),
        ("peer3", false),
    ] {
        let first = seats.first().map(|seat| seat.address);
        let (mut seat, listener) = Seat::new(&chain.material.org1, name, first).await;
        seat.stripe = takes_stripes;
        let mut node = seat.start(listener).await;
        node.join(chain.blocks[0].clone()).await.unwrap();
        nodes.push(node);
        seats.push(seat);
    }
    for node in &nodes {
        reaches(node, 3).await;
        shows(node, |channel| channel.peers.len() == 3).await;
    }
    let mut by_stripes = [0; 4];
    let mut height = 3;
    // The first ones may still be pushed, while it goes round who takes part.
    while by_stripes[1] < 5 || by_stripes[2] < 5 {
        assert!(height < 300, "no stripes: {by_stripes:?}");
        height += 5;
        chain.grow_to(height);
        orderer.serve(chain.blocks.clone());
        let came = nodes.iter().map(|node| ways(node, height));
        let came = futures_util::future::join_all(came).await;
        for (count, came) in by_stripes.iter_mut().zip(came) {
            *count += came.iter().filter(|way| **way == Source::Stripe).count();
        }
    }
    assert_eq!(by_stripes[0], 0, "it gets them from the orderer");
    assert_eq!(by_stripes[3], 0, "it does not take them");
    for node in nodes {
        let reader = node.reader(&channel()).unwrap();
        for (number, block) in (0..).zip(&chain.blocks) {
            assert_eq!(reader.block(number).unwrap().unwrap().bytes(), block);
        }
        node.stop().await;
    }
}
