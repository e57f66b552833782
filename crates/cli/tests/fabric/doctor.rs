//! The doctor beside Go peers and Go orderers: nothing is wrong, and the clock is compared.

use std::time::Duration;

use serde_json::Value;

use crate::{
    fabnet,
    wait::{measured, until},
};

/// Every node hears of every other within two rounds of everything, and somebody is elected.
const MEET_TIME_MAX: Duration = Duration::from_secs(90);

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    const NAME: &str = "nothing_is_found_where_nothing_is_wrong";
    let Some(network) = fabnet::up(NAME, &[]) else {
        return;
    };
    let node = network.join("org1-extra0");
    let all = network.peers().len() + 1;
    until("everybody is listed", MEET_TIME_MAX, || {
        let listed = node.tidings(&["peers", "--json"]);
        let peers: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
        let known = peers.iter().filter(|peer| peer["organization"].is_string());
        (known.count() == all).then_some(())
    });
    // Which anchor peers there are is said by blocks.
    node.reaches(network.height(), MEET_TIME_MAX);
    let logs: Vec<_> = network.peers().iter().map(|peer| peer.log_len()).collect();
    let output = node.tidings(&["doctor", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told:#}");
    let findings = told["findings"].as_array().unwrap();
    let ok = |check: &str| {
        let of = findings
            .iter()
            .filter(|finding| finding["check"] == check && finding["severity"] == "ok");
        of.map(|finding| finding["found"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    for check in ["anchor peers", "bootstrap", "members", "orderer", "clock"] {
        assert!(!ok(check).is_empty(), "{check}: {told:#}");
        measured(NAME, format_args!("{check}: {}", ok(check).join("; ")));
    }
    assert!(
        ok("clock")
            .iter()
            .all(|found| found.contains("within a minute")),
        "{told:#}"
    );
    for (peer, start) in network.peers().iter().zip(logs) {
        for line in peer.log_since(start) {
            assert!(!line.is_warning(), "{}: {line:?}", peer.name);
        }
    }
}
