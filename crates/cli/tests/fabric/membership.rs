//! Being one more peer of an organization: seen, counted, and no cause for a warning.

use std::time::Duration;

use crate::{
    fabnet::{self, Fabnet},
    node::Node,
    wait::{measured, setting, throughout, until},
};

/// Every node hears of every other within two rounds of everything, and some for the machine.
const MEET_TIME_MAX: Duration = Duration::from_secs(90);

const PEERS_KNOWN: &str = "gossip_membership_total_peers_known";

#[test]
fn lives_beside_go_peers() {
    const NAME: &str = "lives_beside_go_peers";
    let Some(network) = fabnet::up(NAME, &[]) else {
        return;
    };
    let first = network.join("org1-extra0");
    let second = network.join("org2-extra0");
    let nodes = [&first, &second];
    let began = std::time::Instant::now();
    until("everybody counts everybody", MEET_TIME_MAX, || {
        complete(&network, &nodes).then_some(())
    });
    measured(
        NAME,
        format_args!("everybody counted everybody after {:.1?}", began.elapsed()),
    );

    let go_logs: Vec<_> = network.peers().iter().map(|peer| peer.log_len()).collect();
    let logs = nodes.map(Node::log_len);
    let minutes: f64 = setting("TIDINGS_FABRIC_MINUTES", 1.0);
    let mut looks = 0;
    throughout(Duration::from_secs_f64(60.0 * minutes), || {
        assert!(
            complete(&network, &nodes),
            "somebody was missed after {looks} looks"
        );
        looks += 1;
    });
    measured(
        NAME,
        format_args!("{minutes} minutes, {looks} looks, nobody was missed"),
    );
    for (peer, start) in network.peers().iter().zip(go_logs) {
        for line in peer.log_since(start) {
            assert!(!line.is_warning(), "{}: {line:?}", peer.name);
        }
    }
    for (node, start) in nodes.into_iter().zip(logs) {
        for line in node.log_since(start) {
            assert!(!line.is_warning(), "{}: {line:?}", node.name);
        }
    }
}

/// Whether each peer, theirs or ours, knows all the others, and ours by the right endpoints.
fn complete(network: &Fabnet, nodes: &[&Node]) -> bool {
    let others = (network.peers().len() + nodes.len() - 1) as f64;
    let go = |peer: &fabnet::GoPeer| peer.gauge(PEERS_KNOWN) == Some(others);
    let everybody = || {
        let go = network
            .peers()
            .iter()
            .map(|peer| (&peer.pki, &peer.endpoint));
        go.chain(nodes.iter().map(|node| (&node.pki, &node.endpoint)))
    };
    let listed = |node: &&Node| {
        let wanted = everybody().filter(|(pki, _)| **pki != node.pki);
        let wanted = wanted.map(|(pki, endpoint)| (pki.clone(), endpoint.clone()));
        node.members() == wanted.collect() && node.gauge(PEERS_KNOWN) == Some(others)
    };
    network.peers().iter().all(go) && nodes.iter().all(listed)
}
