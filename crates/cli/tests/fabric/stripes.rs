//! Blocks by stripes among nodes of ours, with Go peers in the same organization: these pass on who
//! takes part, get every block, and notice nothing.

use std::time::{Duration, Instant};

use tidings_proto::{
    Message as _,
    gossip::{Envelope, GossipMessage, gossip_message::Content},
};

use crate::{
    fabnet::{Fabnet, GoPeer},
    leaders::{Candidates, SLACK, TIMERS, quiet, where_ours_is_first},
    node::Node,
    wait::{measured, until},
};

const BLOCKS_TIME_MAX: Duration = Duration::from_secs(120);

/// Who takes part goes round within a round of state infos of everybody.
const MEET_TIME_MAX: Duration = Duration::from_secs(60);

const SENT: &str = "tidings_comm_messages_sent";
const RECEIVED: &str = "tidings_blocks_received";

fn received(node: &Node, source: &str) -> f64 {
    node.sum(RECEIVED, &[("source", source)]).unwrap_or(0.0)
}

/// The envelope in which a node said what it has, if it says there that it takes stripes.
fn said_by(infos: Vec<Envelope>, node: &Node) -> Option<Envelope> {
    infos.into_iter().find(|envelope| {
        let message = GossipMessage::decode(envelope.payload.clone()).unwrap();
        let Some(Content::StateInfo(info)) = message.content else {
            panic!("a snapshot holds state infos");
        };
        let properties = info.properties.unwrap_or_default();
        hex::encode(&info.pki_id).starts_with(&node.pki) && !properties.extension.is_empty()
    })
}

fn join(network: &Fabnet, name: &str) -> Node {
    let mut node = network.guest(name);
    node.set("CORE_PEER_GOSSIP_STRIPES", "true");
    node.start(&network.genesis());
    node
}

#[test]
fn stripes_beside_go_peers() {
    const NAME: &str = "stripes_beside_go_peers";
    let held = ["--hold", "org1-peer0", "--hold", "org1-peer1"];
    let Some((network, first)) = where_ours_is_first(NAME, &held) else {
        return;
    };
    let leader = join(&network, &first);
    until("the lonely node leads", TIMERS + SLACK, || {
        leader.leads().then_some(())
    });
    network.run(&["start-peer", "org1-peer0", "org1-peer1"]);
    let mut others = (0..7)
        .map(|number| format!("org1-extra{number}"))
        .filter(|name| *name != first);
    let followers: Vec<String> = others.by_ref().take(2).collect();
    let unused = others.next().expect("there are seven");
    let mut ours: Vec<Node> = followers.iter().map(|name| join(&network, name)).collect();
    ours.push(leader);
    let candidates = Candidates::new(network, ours);
    let (led, _) = candidates.settle(TIMERS + SLACK);
    assert_eq!(led, first, "whoever comes first is not displaced");
    let network = &candidates.network;
    let ours = || candidates.ours.values().filter(|node| node.name != first);

    // Until the state infos have gone round, blocks are pushed.
    let began = Instant::now();
    until("blocks come by stripes", MEET_TIME_MAX, || {
        network
            .load(&["--blocks", "1", "--tx-bytes", "300"])
            .finish();
        ours()
            .all(|node| received(node, "stripe") > 0.0)
            .then_some(())
    });
    measured(
        NAME,
        format_args!(
            "both followers had blocks by stripes {:.1?} later",
            began.elapsed()
        ),
    );
    quiet(network);
    let asker = network.extra(&unused);
    for node in candidates.ours.values() {
        for peer in network.of("Org1") {
            until(
                "a Go peer passes on who takes stripes",
                MEET_TIME_MAX,
                || {
                    let own = said_by(asker.state_infos(&node.endpoint), node)?;
                    let passed_on = said_by(asker.state_infos(&peer.endpoint), node)?;
                    (own == passed_on).then_some(())
                },
            );
        }
    }
    measured(
        NAME,
        "both Go peers pass on what our nodes announce, byte for byte",
    );

    let logs: Vec<_> = network.of("Org1").map(GoPeer::log_len).collect();
    let before: Vec<_> = ours()
        .map(|node| (received(node, "stripe"), received(node, "push")))
        .collect();
    let pushed_by_us = || -> f64 {
        let pushed = |node: &Node| node.sum(SENT, &[("kind", "DataMsg")]).unwrap_or(0.0);
        candidates.ours.values().map(pushed).sum()
    };
    let pushed_before = pushed_by_us();
    let load = network.load(&["--blocks", "100", "--tx-bytes", "20000", "--rate", "10"]);
    let goal = network.height() + 100;
    until("the load is ordered", BLOCKS_TIME_MAX, || {
        (network.height() >= goal).then_some(())
    });
    let ordered = Instant::now();
    for node in candidates.ours.values() {
        node.reaches(goal, BLOCKS_TIME_MAX);
    }
    let by_ours = ordered.elapsed();
    for peer in network.of("Org1") {
        until("a Go peer has all blocks", BLOCKS_TIME_MAX, || {
            (peer.height()? >= goal).then_some(())
        });
    }
    let by_go = ordered.elapsed();
    load.finish();
    for (node, (stripe, push)) in ours().zip(before) {
        let stripe = received(node, "stripe") - stripe;
        let push = received(node, "push") - push;
        measured(
            NAME,
            format_args!(
                "{}: {stripe} of 100 blocks by stripes, {push} pushed",
                node.name
            ),
        );
        // Go peers pass on what they are pushed, sometimes before the last stripe is there.
        assert!(stripe > 0.0, "{}", node.name);
    }
    let pushed_by_us = pushed_by_us() - pushed_before;
    measured(
        NAME,
        format_args!("we pushed {pushed_by_us} blocks, the two Go peers have 100 each"),
    );
    assert!(
        pushed_by_us <= 200.0,
        "nobody is sent a block in two ways, and no Go peer by two of us"
    );
    measured(
        NAME,
        format_args!("ours had all {by_ours:.1?}, Go peers {by_go:.1?} after the last was ordered"),
    );
    for (peer, start) in network.of("Org1").zip(logs) {
        for line in peer.log_since(start) {
            assert!(!line.is_warning(), "{}: {line:?}", peer.name);
        }
    }
    let ordered = network.ordered();
    for node in candidates.ours.values() {
        assert!(node.chain() == ordered, "{} differs", node.name);
    }
    for peer in network.of("Org1") {
        network.run(&["stop-peer", &peer.name]);
        assert!(network.kept(&peer.name) == ordered, "{} differs", peer.name);
    }
}
