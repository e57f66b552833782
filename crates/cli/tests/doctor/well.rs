//! A network that is well.

use std::time::Duration;

use serde_json::Value;

use crate::{devnet::Devnet, node::Node, told::Told, wait::until};

/// Nothing here takes a tenth of this.
const TIME_MAX: Duration = Duration::from_secs(60);

/// The node itself and all others as it tells its operator.
fn peers(node: &Node) -> Vec<Value> {
    let output = node.tidings(&["peers", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let network = Devnet::up(2, 2);
    let mut nodes = [(1, 0), (1, 1), (2, 0), (2, 1)].map(|(org, peer)| network.join(org, peer));
    network.order(3);
    until("all know each other and have every block", TIME_MAX, || {
        let complete = |node: &Node| {
            let peers = peers(node);
            peers.len() == 4 && peers.iter().all(|peer| peer["heights"]["tidings"] == 4)
        };
        nodes.iter().all(complete).then_some(())
    });
    for node in &nodes {
        until("somebody leads", TIME_MAX, || {
            let told = Told::of(node, &[&network.genesis()]);
            assert_eq!(told.code, Some(0), "{:#?}", told.complaints());
            told.complaints().is_empty().then_some(())
        });
    }
    let output = nodes[0].tidings(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\n0 faults, 0 warnings, "), "{text}");
    let table = nodes[0].tidings(&["peers"]);
    let table = String::from_utf8(table.stdout).unwrap();
    let orgs: Vec<_> = table
        .lines()
        .filter(|line| !line.starts_with(' '))
        .collect();
    assert_eq!(orgs, ["Org1MSP", "Org2MSP"], "{table}");
    assert_eq!(table.matches("tidings 4").count(), 4, "{table}");

    let seen = nodes[0].tidings(&["watch", "--once"]);
    let seen = String::from_utf8(seen.stdout).unwrap();
    for expected in [
        "\ntidings  height 4",
        "\nOrg2MSP\n",
        "this node",
        "connected",
    ] {
        assert!(seen.contains(expected), "{expected}: {seen}");
    }

    // Alone and stopped the configuration is still good, if anybody answers.
    let [stopped, ..] = &mut nodes;
    stopped.stop();
    let told = Told::of(stopped, &[]);
    assert_eq!(told.code, Some(0), "{:#?}", told.complaints());
}

#[test]
fn where_no_node_runs_there_are_no_peers_to_show() {
    let network = Devnet::up(1, 1);
    let node = network.node(1, 0);
    for command in ["peers", "watch"] {
        let output = node.tidings(&[command]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("no node answers at"), "{text}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_a_finding() {
    let network = Devnet::up(1, 1);
    let mut node = network.node(1, 0);
    node.set("CORE_PEER_GOSSIP_PULLINTERVAL", "soon");
    let told = Told::of(&node, &[]);
    told.only_fault(
        "configuration",
        "is not a duration",
        "peer.gossip.pullInterval",
    );
    node.set("CORE_PEER_GOSSIP_PULLINTERVAL", "4s");
    node.set("CORE_PEER_GOSSIP_BOOTSTRAPS", "x");
    let told = Told::of(&node, &[&network.genesis()]);
    let complaints = told.complaints();
    let unknown = complaints
        .iter()
        .find(|finding| finding["check"] == "configuration");
    assert_eq!(unknown.unwrap()["setting"], "CORE_PEER_GOSSIP_BOOTSTRAPS");
}
