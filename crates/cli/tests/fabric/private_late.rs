//! Coming late where there is private data: what a node of ours has in the end is what a Go peer
//! of its organization has.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidings_proto::block::BlockView;

use crate::{
    fabnet::{self, Fabnet},
    private::{Sets, chaincode, counts, differences},
    wait::{measured, setting, until},
};

const NAME: &str = "late_private";

/// Nearly always the first two meet.
const RIVALS_MAX: usize = 10;

/// Blocks, and then rounds of reconciliation.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(300);

#[test]
fn late_private() {
    let Some(network) = fabnet::up(NAME, &["--extra-org1", "3"]) else {
        return;
    };
    let approvals: u64 = setting("TIDINGS_FABRIC_APPROVALS", 20);
    let invalid = rivals(&network);
    measured(
        NAME,
        format_args!("{invalid} transaction that writes private data is not valid"),
    );
    mixed(&network, approvals);
    comes(&network, "org1-extra0", "by transfer", &[]);
    let alone = [
        ("CORE_PEER_GOSSIP_USELEADERELECTION", "false"),
        ("CORE_PEER_GOSSIP_ORGLEADER", "true"),
        ("CORE_PEER_GOSSIP_STATE_ENABLED", "false"),
    ];
    let how = "with blocks from the orderer, by pull at commit";
    comes(&network, "org1-extra1", how, &alone);
    let never = ("CORE_PEER_GOSSIP_PVTDATA_PULLRETRYTHRESHOLD", "0s");
    let how = "with blocks from the orderer, by reconciliation";
    comes(
        &network,
        "org1-extra2",
        how,
        &[&alone[..], &[never]].concat(),
    );
    comes(&network, "org2-extra0", "in the other organization", &[]);
}

/// Private data of both organizations, and blocks without any between.
fn mixed(network: &Fabnet, approvals: u64) {
    let each = (approvals / 2).max(1).to_string();
    for peer in ["org1-peer0", "org2-peer0", "org1-peer1"] {
        let load = ["--kind", "approve", "--target", peer, "--blocks", &each];
        network.load(&load).finish();
        let plain = ["--blocks", "10", "--tx-bytes", "300", "--wait"];
        network.load(&plain).finish();
    }
}

/// Two approvals of the same at the same time, of which one is not valid. Go peers keep what it
/// wrote in private all the same.
fn rivals(network: &Fabnet) -> usize {
    for _ in 0..RIVALS_MAX {
        let (before, name) = (network.promised("Org1").len(), chaincode());
        let rivals = [(); 2].map(|()| {
            let mut approval = network.approval_of("Org1", &name);
            let approval = approval.stdout(Stdio::null()).stderr(Stdio::null());
            approval.spawn().unwrap()
        });
        let endorsed = rivals.map(|mut rival| rival.wait().unwrap().success());
        let endorsed = endorsed.into_iter().filter(|done| *done).count();
        let promises = until("the approvals are ordered", CATCH_UP_TIME_MAX, || {
            let promises = network.promised("Org1");
            (promises.len() == before + endorsed).then_some(promises)
        });
        let peer = network.peer("org1-peer0");
        until("the Go peer has them", CATCH_UP_TIME_MAX, || {
            (peer.height()? >= network.height()).then_some(())
        });
        let last = promises.keys().rev().take(endorsed);
        let invalid = last.filter(|slot| {
            let block = network.served(slot.block, &peer.name);
            let view = BlockView::parse(Bytes::from(block)).unwrap();
            let codes = view.claimed_codes().unwrap();
            codes[usize::try_from(slot.tx).unwrap()] != 0
        });
        let invalid = invalid.count();
        if invalid > 0 {
            return invalid;
        }
    }
    panic!("of {RIVALS_MAX} pairs of rivals all were valid");
}

/// A node that has nothing comes, and goes when it has everything.
fn comes(network: &Fabnet, name: &str, how: &str, variables: &[(&str, &str)]) {
    let mut node = network.guest(name);
    node.set("CORE_PEER_GOSSIP_PVTDATA_RECONCILESLEEPINTERVAL", "2s");
    for (variable, value) in variables {
        node.set(variable, *value);
    }
    let org = network.extra(name).org.clone();
    let promises = network.promised(&org);
    let begun = Instant::now();
    node.start(&network.genesis());
    let goal = network.height();
    node.reaches(goal, CATCH_UP_TIME_MAX);
    let (blocks, at_first) = (begun.elapsed(), node.sets());
    let sets = until("the node has all private data", CATCH_UP_TIME_MAX, || {
        let sets = node.sets();
        differences(&promises, &sets).is_empty().then_some(sets)
    });
    let all = begun.elapsed();
    assert_eq!(node.lacks(), []);
    for (state, number) in [("held", sets.len()), ("eligible", 0), ("deprioritized", 0)] {
        let told = node.sum("tidings_private_sets", &[("state", state)]);
        assert_eq!(told, Some(number as f64), "{state}");
    }
    let peer = network.of(&org).last().unwrap().name.clone();
    same(&sets, &network.sets(&peer));
    let reconciled = node.sum("tidings_private_reconciled", &[]);
    measured(
        NAME,
        format_args!(
            "{how}: {goal} blocks after {blocks:.1?}, then with {} sets; all after {all:.1?}, \
             {} by reconciliation; ours and {peer} have {}",
            at_first.len(),
            reconciled.unwrap_or_default(),
            counts(&sets),
        ),
    );
    node.stop();
}

fn same(ours: &Sets, theirs: &Sets) {
    for (slot, set) in theirs {
        assert_eq!(ours.get(slot), Some(set), "{slot:?}");
    }
    assert_eq!(ours.len(), theirs.len());
}
