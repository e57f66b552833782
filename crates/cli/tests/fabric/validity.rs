//! What Go peers say of the validity of transactions, and one whose stored codes were altered.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use serde_json::Value;
use tidings_proto::{
    Message as _,
    common::{Block, BlockMetadataIndex},
};

use crate::{
    chain::codes_place,
    clients::fetched,
    fabnet::{CHANNEL, Fabnet, up},
    node::Node,
    wait::{measured, until},
};

const NAME: &str = "notices_altered_codes";

/// Hearing a short chain, on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(120);

/// How many organizations have to agree: both that there are.
const WANTED: u64 = 2;

/// The code of a transaction that nobody endorsed.
const UNENDORSED: u8 = 10;

fn codes(block: &Block) -> Vec<u8> {
    let codes = BlockMetadataIndex::TransactionsFilter as usize;
    block.metadata.as_ref().unwrap().metadata[codes].to_vec()
}

/// The codes that a Go peer serves.
fn of_go(network: &Fabnet, number: u64, go: &str) -> Vec<u8> {
    codes(&Block::decode(&network.served(number, go)[..]).unwrap())
}

/// The codes that the node gives a client.
fn given(network: &Fabnet, node: &Node, number: u64) -> Vec<u8> {
    codes(&fetched(network, node, &number.to_string()))
}

/// Has a Go peer say of a transaction that nobody endorsed that it is valid.
fn alter(network: &Fabnet, peer: &str, number: u64) {
    network.run(&["stop-peer", peer]);
    let (file, offset, stored) = codes_place(&network.chain_dir(peer), number);
    assert_eq!(stored[0], UNENDORSED);
    let file = File::options().write(true).open(file).unwrap();
    file.write_all_at(&[0], offset as u64).unwrap();
    network.run(&["start-peer", peer]);
}

/// What the node tells its operator of a block.
fn report(node: &Node, block: u64) -> Value {
    let block = block.to_string();
    let asked = [
        "channel", "validity", "-c", CHANNEL, "--json", "--block", &block,
    ];
    let output = node.tidings(&asked);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the node has heard as many organizations as are to agree of all blocks below.
fn hears(node: &Node, height: u64) {
    until("what peers say is heard", TIME_MAX, || {
        let heard = node.gauge("tidings_validity_height")?;
        (heard >= height as f64).then_some(())
    });
}

/// A node that begins anew raises the alarm at this block, and of all others gives the codes. Says
/// what the alarm says.
fn raises_the_alarm(
    network: &Fabnet,
    node: &mut Node,
    (victim, height): (u64, u64),
    honest: &str,
) -> String {
    fs::remove_dir_all(node.data()).unwrap();
    let before = node.log_len();
    node.start(&network.genesis());
    node.reaches(height, TIME_MAX);
    until("the alarm", TIME_MAX, || {
        let counted = node.sum("tidings_validity_disagreements", &[("kind", "codes")])?;
        (counted >= 1.0).then_some(())
    });
    hears(node, height);
    assert_eq!(node.sum("tidings_validity_disagreements", &[]), Some(1.0));
    assert_eq!(node.gauge("tidings_validity_disputed"), Some(1.0));
    let lines = node.log_since(before);
    let alarm = lines.iter().find(|line| line.level == "ERROR").unwrap();
    assert_eq!(
        (alarm.target.as_str(), &alarm.fields["number"]),
        ("validity", &victim.into())
    );
    let said = report(node, victim);
    assert_eq!(
        (&said["disputed"], &said["firstDisputed"]),
        (&1.into(), &victim.into())
    );
    assert_eq!(said["blocks"][0]["standing"], "disputed", "{said}");
    for number in 1..height {
        let expected = if number == victim {
            vec![254; of_go(network, number, honest).len()]
        } else {
            of_go(network, number, honest)
        };
        assert_eq!(given(network, node, number), expected, "block {number}");
    }
    alarm.message.clone()
}

#[test]
fn notices_altered_codes() {
    let Some(network) = up(NAME, &[]) else {
        return;
    };
    let (honest, altered) = (
        "org1-peer0",
        network.of("Org2").next().unwrap().name.clone(),
    );
    let mut node = network.guest("org1-extra0");
    node.set("CORE_VALIDITY_ORGANIZATIONS", WANTED.to_string());
    node.start(&network.genesis());
    network
        .load(&["--blocks", "5", "--txs", "3", "--wait"])
        .finish();
    // Nobody endorsed these, and every Go peer says so.
    let invalid = ["--kind", "invalid", "--blocks", "5", "--txs", "3", "--wait"];
    network.load(&invalid).finish();
    let height = network.height();
    node.reaches(height, TIME_MAX);
    hears(&node, height);
    // A client has the codes that Go computed.
    let mut seen = BTreeSet::new();
    for number in 1..height {
        let ours = given(&network, &node, number);
        assert_eq!(ours, of_go(&network, number, honest), "block {number}");
        seen.extend(ours);
    }
    assert!(seen.contains(&0) && seen.contains(&UNENDORSED), "{seen:?}");
    // One that comes live is kept back until it is agreed.
    network.load(&["--blocks", "1", "--wait"]).finish();
    let height = network.height();
    node.reaches(height, TIME_MAX);
    let last = codes(&fetched(&network, &node, "newest"));
    assert_eq!(last, of_go(&network, height - 1, honest));
    assert_eq!(node.sum("tidings_validity_disagreements", &[]), Some(0.0));
    node.stop();

    let mut numbers = (1..height).rev();
    let victim = numbers.find(|number| of_go(&network, *number, honest)[0] == UNENDORSED);
    let victim = victim.unwrap();
    alter(&network, &altered, victim);
    let alarm = raises_the_alarm(&network, &mut node, (victim, height), honest);
    measured(
        NAME,
        format_args!("{height} blocks; block {victim} of {altered} altered: {alarm}"),
    );
    node.stop();
}
