//! Coming late: how a node of ours catches up, how a Go peer does beside it, and how a Go peer
//! catches up from a node of ours.

use std::time::{Duration, Instant};

use crate::{
    fabnet::{self, Fabnet},
    node::Node,
    wait::{measured, setting, until},
};

const NAME: &str = "late_by_two_thousand_blocks";

/// The Go peer that comes late.
const LATE: &str = "org1-peer1";

/// Go peers need some hundredths of a second for a block, on a machine with nothing else to do.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(1200);

#[test]
fn late_by_two_thousand_blocks() {
    let Some(network) = fabnet::up(NAME, &["--hold", LATE]) else {
        return;
    };
    let blocks = setting("TIDINGS_FABRIC_BLOCKS", 300_u64).to_string();
    let wait = ["--wait", "--timeout", "1200"];
    let load = network.load(&[&["--blocks", &blocks, "--tx-bytes", "1024"], &wait[..]].concat());
    load.finish();
    let goal = network.height();

    let mut node = network.guest("org1-extra0");
    race("from Go peers and the orderer", &network, &mut node, goal);
    leave(&network, &mut node);
    network.run(&["stop-peer", "orderer"]);
    race("from Go peers alone", &network, &mut node, goal);
    network.run(&["stop-peer", LATE, "org1-peer0", "org2-peer0"]);
    node.stop();
    from_ours_alone(&network, &mut node, goal);
    leave(&network, &mut node);
    network.run(&["start-peer", "orderer"]);
    // Each leads its organization, so that neither does the other's work.
    let mut node = network.guest("org2-extra0");
    race("from the orderer alone", &network, &mut node, goal);
}

fn leave(network: &Fabnet, node: &mut Node) {
    network.run(&["stop-peer", LATE]);
    node.stop();
    node.wipe();
    network.wipe(LATE);
}

/// The late Go peer and a node of ours start at the same moment with nothing.
fn race(from: &str, network: &Fabnet, node: &mut Node, goal: u64) {
    let peer = network.peer(LATE);
    let start = Instant::now();
    let going = network.begin(&["start-peer", LATE]);
    node.start(&network.genesis());
    let ours_joined = start.elapsed();
    let (mut ours, mut theirs_joined, mut theirs) = (None, None, None);
    until("both have every block", CATCH_UP_TIME_MAX, || {
        if ours.is_none() && node.height()? >= goal {
            ours = Some(start.elapsed());
        }
        let height = peer.height().unwrap_or_default();
        if height > 0 {
            theirs_joined.get_or_insert_with(|| start.elapsed());
        }
        if height >= goal {
            theirs.get_or_insert_with(|| start.elapsed());
        }
        ours.and(theirs)
    });
    going.finish();
    let seconds = |end: Option<Duration>, begin: Duration| (end.unwrap() - begin).as_secs_f64();
    let ours = seconds(ours, ours_joined);
    let theirs = seconds(theirs, theirs_joined.unwrap());
    measured(
        NAME,
        format_args!(
            "{goal} blocks {from}: ours {ours:.1} s, a Go peer beside it {theirs:.1} s, ratio {:.1}",
            theirs / ours
        ),
    );
    assert!(node.chain() == network.ordered(), "our chain differs");
}

/// The late Go peer has nobody but a node of ours, which has everything.
fn from_ours_alone(network: &Fabnet, node: &mut Node, goal: u64) {
    network.wipe(LATE);
    network.run(&["start-peer", LATE]);
    let peer = network.peer(LATE);
    let bootstrap = network.extra("org1-extra0").bootstrap.join(" ");
    // Whom the Go peer is told to begin with does not run, so we begin with it.
    node.set("CORE_PEER_GOSSIP_BOOTSTRAP", peer.endpoint.clone());
    let start = Instant::now();
    node.start(&network.genesis());
    until("the Go peer has every block", CATCH_UP_TIME_MAX, || {
        (peer.height()? >= goal).then_some(())
    });
    let took = start.elapsed().as_secs_f64();
    measured(
        NAME,
        format_args!("{goal} blocks from ours alone: a Go peer had them {took:.1} s after we came"),
    );
    network.run(&["stop-peer", LATE]);
    assert!(
        network.kept(LATE) == network.ordered(),
        "the Go peer's chain differs"
    );
    network.run(&["start-peer", LATE]);
    node.set("CORE_PEER_GOSSIP_BOOTSTRAP", bootstrap);
}
