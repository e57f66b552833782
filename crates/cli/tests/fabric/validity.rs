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

fn codes(block: &Block) -> Vec<u8> {
    let codes = BlockMetadataIndex::TransactionsFilter as usize;
    block.metadata.as_ref().unwrap().metadata[codes].to_vec()
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

/// A client has the codes that Go computed, and our own ledger has none.
fn gives_what_go_computed(network: &Fabnet, node: &Node, go: &str, height: u64) -> BTreeSet<u8> {
    let mut seen = BTreeSet::new();
    for number in 1..height {
        let theirs = Block::decode(&network.served(number, go)[..]).unwrap();
        let ours = fetched(network, node, &number.to_string());
        assert_eq!(codes(&ours), codes(&theirs), "block {number}");
        seen.extend(codes(&ours));
    }
    seen
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
    let seen = gives_what_go_computed(&network, &node, honest, height);
    assert!(seen.contains(&0) && seen.contains(&10), "{seen:?}");
    // One that comes live is kept back until it is agreed.
    network.load(&["--blocks", "1", "--wait"]).finish();
    let height = network.height();
    node.reaches(height, TIME_MAX);
    let last = codes(&fetched(&network, &node, "newest"));
    assert_eq!(
        last,
        codes(&Block::decode(&network.served(height - 1, honest)[..]).unwrap())
    );
    assert_eq!(node.sum("tidings_validity_disagreements", &[]), Some(0.0));
    node.stop();

    // A peer that says of an invalid transaction that it is valid.
    let victim = (1..height)
        .rev()
        .find(|number| {
            codes(&Block::decode(&network.served(*number, honest)[..]).unwrap())[0] == 10
        })
        .unwrap();
    network.run(&["stop-peer", &altered]);
    let (file, offset, stored) = codes_place(&network.chain_dir(&altered), victim);
    assert_eq!(stored[0], 10);
    let file = File::options().write(true).open(file).unwrap();
    file.write_all_at(&[0], offset as u64).unwrap();
    drop(file);
    network.run(&["start-peer", &altered]);

    fs::remove_dir_all(node.data()).unwrap();
    let before = node.log_len();
    node.start(&network.genesis());
    node.reaches(height, TIME_MAX);
    until("the alarm", TIME_MAX, || {
        let counted = node.sum("tidings_validity_disagreements", &[("kind", "codes")])?;
        (counted >= 1.0).then_some(())
    });
    hears(&node, height);
    assert_eq!(node.sum("tidings_validity_disagreements", &[]), Some(1.0));
    let lines = node.log_since(before);
    let alarm = lines.iter().find(|line| line.level == "ERROR").unwrap();
    assert_eq!(
        (alarm.target.as_str(), &alarm.fields["number"]),
        ("validity", &victim.into())
    );
    let said = report(&node, victim);
    assert_eq!(
        (&said["disputed"], &said["firstDisputed"]),
        (&1.into(), &victim.into())
    );
    assert_eq!(said["blocks"][0]["standing"], "disputed", "{said}");
    for number in 1..height {
        let ours = codes(&fetched(&network, &node, &number.to_string()));
        if number == victim {
            assert!(
                ours.iter().all(|code| *code == 254),
                "block {number}: {ours:?}"
            );
        } else {
            let theirs = Block::decode(&network.served(number, honest)[..]).unwrap();
            assert_eq!(ours, codes(&theirs), "block {number}");
        }
    }
    measured(
        NAME,
        format_args!(
            "{height} blocks; block {victim} of {altered} altered: {}",
            alarm.message
        ),
    );
    node.stop();
}
