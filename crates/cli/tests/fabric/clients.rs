//! Stock programs of Fabric against a node of ours: `peer channel join`, `list`, `getinfo`, `fetch`.

use std::{fs, process::Command, time::Duration};

use serde_json::Value;
use tidings_proto::{
    Message as _,
    common::{Block, BlockMetadataIndex},
};

use crate::{
    fabnet::{CHANNEL, Fabnet, up},
    node::Node,
    wait::measured,
};

const NAME: &str = "answers_stock_clients";

/// Catching up with a short chain, on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(60);

/// `peer`, run for the administrator of the node's organization against the node.
pub(crate) fn peer(network: &Fabnet, node: &Node, arguments: &[&str]) -> Command {
    let mut command = network.attempt("Org1", "peer", arguments);
    command.env("CORE_PEER_ADDRESS", &node.endpoint);
    command
}

/// What it says, which it must say with success.
#[track_caller]
pub(crate) fn says(mut command: Command) -> String {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn fetched(network: &Fabnet, node: &Node, which: &str) -> Block {
    let file = network.home().join("fetched.block");
    let out = file.to_str().unwrap();
    says(peer(
        network,
        node,
        &["channel", "fetch", which, out, "-c", CHANNEL],
    ));
    Block::decode(&fs::read(file).unwrap()[..]).unwrap()
}

/// Header and transactions; what committers add is theirs.
fn essence(block: &Block) -> (Vec<u8>, Vec<u8>) {
    let part = |part: Option<Vec<u8>>| part.unwrap_or_default();
    (
        part(block.header.as_ref().map(|header| header.encode_to_vec())),
        part(block.data.as_ref().map(|data| data.encode_to_vec())),
    )
}

#[test]
fn answers_stock_clients() {
    let Some(network) = up(NAME, &[]) else {
        return;
    };
    let genesis = network.genesis();
    let join = ["channel", "join", "-b", genesis.to_str().unwrap()];
    let mut node = network.guest("org1-extra0");
    node.start_as_it_is();
    let listed = || says(peer(&network, &node, &["channel", "list"]));
    assert!(!listed().lines().any(|line| line == CHANNEL));
    // An ordinary client of the organization may not.
    let mut denied = peer(&network, &node, &join);
    denied.env("CORE_PEER_MSPCONFIGPATH", network.user_msp_dir("Org1"));
    let denied = denied.output().unwrap();
    assert!(!denied.status.success());
    assert!(
        String::from_utf8_lossy(&denied.stderr).contains("access denied"),
        "{denied:?}"
    );
    says(peer(&network, &node, &join));
    assert!(listed().lines().any(|line| line == CHANNEL));
    let load = network.load(&["--blocks", "30"]);
    load.finish();
    let height = network.height();
    node.reaches(height, TIME_MAX);
    let info = says(peer(
        &network,
        &node,
        &["channel", "getinfo", "-c", CHANNEL],
    ));
    let (_, info) = info.split_once("Blockchain info: ").unwrap();
    let info: Value = serde_json::from_str(info).unwrap();
    assert_eq!(info["height"], height);
    let last = (height - 1).to_string();
    for (which, number) in [
        ("oldest", 0),
        ("newest", height - 1),
        (&last, height - 1),
        ("1", 1),
    ] {
        let ours = fetched(&network, &node, which);
        let theirs = Block::decode(&network.served(number, "orderer")[..]).unwrap();
        assert!(essence(&ours) == essence(&theirs), "{which} differs");
        let codes = BlockMetadataIndex::TransactionsFilter as usize;
        let codes = &ours.metadata.as_ref().unwrap().metadata[codes];
        let expected = if number == 0 { 0 } else { 254 };
        assert!(
            codes.iter().all(|code| *code == expected),
            "{which}: {codes:?}"
        );
    }
    let config = fetched(&network, &node, "config");
    assert_eq!(config.data.as_ref().unwrap().data.len(), 1);
    let endorse = [
        "chaincode",
        "query",
        "-C",
        CHANNEL,
        "-n",
        "any",
        "-c",
        r#"{"Args":["a"]}"#,
    ];
    let refused = peer(&network, &node, &endorse).output().unwrap();
    let refused = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.contains("a tidings node does not do any"),
        "{refused}"
    );
    measured(
        NAME,
        format_args!(
            "join, list, getinfo, fetch oldest, newest, config and numbers of {height} blocks"
        ),
    );
    node.stop();
}
