//! Private data on its way to a node of ours: from the endorser to its store, and through its
//! death.

use std::{
    collections::BTreeMap,
    process::Child,
    time::{Duration, Instant},
};

use crate::{
    crashes::Chance,
    fabnet::{self, Fabnet, GoLine, GoPeer},
    node::Node,
    private::{Promises, complaint, counts, differences, implicit},
    wait::{measured, setting, until},
};

/// Peers that have just come are pushed to once all have heard of them.
const MEET_TIME_MAX: Duration = Duration::from_secs(90);

const ARRIVE_TIME_MAX: Duration = Duration::from_secs(60);

/// Seconds from the block at the orderer to the write set in our store, on a machine with time.
const LATENCY: f64 = 2.0;

#[test]
fn approve_reaches_us() {
    const NAME: &str = "approve_reaches_us";
    let Some(network) = fabnet::up(NAME, &[]) else {
        return;
    };
    let node = network.join("org1-extra0");
    let others = network.peers().len() as f64;
    until("everybody knows our node", MEET_TIME_MAX, || {
        let known =
            |peer: &GoPeer| peer.gauge("gossip_membership_total_peers_known") == Some(others);
        network.peers().iter().all(known).then_some(())
    });
    let approvals: usize = setting("TIDINGS_FABRIC_APPROVALS", 20);
    load(&network, "org1-peer0", approvals);
    load(&network, "org2-peer0", approvals / 4 + 1);
    node.reaches(network.height(), ARRIVE_TIME_MAX);

    let (ours, theirs) = (network.promised("Org1"), network.promised("Org2"));
    assert_eq!([ours.len(), theirs.len()], [approvals, approvals / 4 + 1]);
    let sets = node.sets();
    assert_eq!(differences(&ours, &sets), "");
    assert_eq!(node.lacks(), []);
    assert_eq!(network.sets("org1-peer1"), sets);
    nothing_of_org2(&network, &node);
    measured(
        NAME,
        format_args!(
            "our node has {}, byte for byte what org1-peer1 has; of {} sets of Org2 nothing is in \
             any of its files",
            counts(&sets),
            theirs.len()
        ),
    );
    tell_lags(NAME, &network, &node, &ours);
}

fn load(network: &Fabnet, endorser: &str, approvals: usize) {
    let blocks = approvals.to_string();
    let load = [
        "--kind", "approve", "--target", endorser, "--wait", "--blocks",
    ];
    network.load(&[&load[..], &[&blocks]].concat()).finish();
}

/// How long it took from the orderer's log to ours and to that of a Go peer. Private data is on
/// disk before its block, unless it is reconciled later.
fn tell_lags(scenario: &str, network: &Fabnet, node: &Node, promises: &Promises) {
    let counter = |name: &str, labels: &[(&str, &str)]| node.sum(name, labels).unwrap_or_default();
    assert_eq!(counter("tidings_private_reconciled", &[]), 0.0);
    let ordered = go_blocks(&network.orderer_log(), "Writing block [");
    let theirs = go_blocks(
        &network.peer("org1-peer1").log_since(0),
        "Committed block [",
    );
    let mut ours = BTreeMap::new();
    for line in node.log_since(0) {
        if line.message == "committed" {
            let number = |field: &str| line.fields[field].as_u64().unwrap();
            let (height, blocks) = (number("height"), number("blocks"));
            ours.extend((height - blocks..height).map(|block| (block, line.clock)));
        }
    }
    let told = [("our node", ours), ("org1-peer1", theirs)].map(|(name, committed)| {
        let blocks = promises.keys().map(|slot| slot.block);
        // At midnight clocks begin anew.
        let lag = |block| (committed[&block] - ordered[&block]).rem_euclid(86_400.0);
        let mut lags: Vec<f64> = blocks.map(lag).collect();
        lags.sort_by(f64::total_cmp);
        let late = lags.iter().filter(|lag| **lag > LATENCY).count();
        format!(
            "{name} {:.2} s (median), {:.2} s (worst), {late} later than {LATENCY} s",
            lags[lags.len() / 2],
            lags[lags.len() - 1]
        )
    });
    measured(
        scenario,
        format_args!(
            "private data of {} blocks on disk after the orderer wrote them: {}; {} sets were \
             pushed to us",
            promises.len(),
            told.join("; "),
            counter("tidings_private_pushes", &[("outcome", "stored")]),
        ),
    );
}

/// When a Go program said this of which block.
fn go_blocks(lines: &[GoLine], what: &str) -> BTreeMap<u64, f64> {
    let found = lines.iter().filter_map(|line| {
        let (_, rest) = line.text.split_once(what)?;
        let (number, _) = rest.split_once(']')?;
        Some((number.parse().unwrap(), line.clock))
    });
    found.collect()
}

/// Neither does our node list anything of another organization, nor is it in its files, in which
/// that of its own is found.
fn nothing_of_org2(network: &Fabnet, node: &Node) {
    let collection = implicit("Org2");
    assert!(node.sets().keys().all(|slot| slot.collection != collection));
    let own = network.private_bytes("org1-peer0");
    let found = own.values().filter(|bytes| node.files_with(bytes) > 0);
    assert!(
        found.count() > 0,
        "a search that finds nothing says nothing"
    );
    for (slot, bytes) in network.private_bytes("org2-peer0") {
        assert_eq!(slot.collection, collection);
        assert_eq!(node.files_with(&bytes), 0, "our node has {slot:?}");
    }
}

#[test]
fn acknowledges_pushes() {
    const NAME: &str = "acknowledges_pushes";
    // One Go peer in Org1, which endorses if another peer of Org1 confirms.
    let options = ["--org1", "1", "--pvt-required", "1"];
    let often = ["--set", "peer.gossip.publishStateInfoInterval=1s"];
    let Some(network) = fabnet::up(NAME, &[&options[..], &often].concat()) else {
        return;
    };
    let alone = network.approval("Org1").output().unwrap();
    assert!(!alone.status.success(), "endorsed with nobody to confirm");
    let mut node = lonely(&network);
    node.start(&network.genesis());
    let begun = Instant::now();
    until("the Go peer endorses", MEET_TIME_MAX, || {
        let done = network.approval("Org1").output().unwrap();
        done.status.success().then_some(())
    });
    let met = begun.elapsed();
    let confirmed = node.sum("tidings_private_pushes", &[("outcome", "stored")]);
    assert!(confirmed >= Some(1.0), "{confirmed:?}");
    settled(&network, &node);
    node.stop();
    let left = network.approval("Org1").output().unwrap();
    assert!(!left.status.success(), "endorsed with nobody to confirm");
    measured(
        NAME,
        format_args!(
            "with our node the Go peer endorses ({met:.1?} after it came); before: {}; after: {}",
            complaint(&alone),
            complaint(&left)
        ),
    );
    node.start(&network.genesis());
    kills(NAME, &network, &mut node);
}

/// A node that has private data only from pushes: it asks nobody for any, and has its blocks from
/// the orderer.
fn lonely(network: &Fabnet) -> Node {
    let mut node = network.guest("org1-extra0");
    for (variable, value) in [
        ("CORE_PEER_GOSSIP_USELEADERELECTION", "false"),
        ("CORE_PEER_GOSSIP_ORGLEADER", "true"),
        ("CORE_PEER_GOSSIP_STATE_ENABLED", "false"),
        ("CORE_PEER_GOSSIP_PUBLISHSTATEINFOINTERVAL", "500ms"),
        ("CORE_PEER_GOSSIP_PVTDATA_PULLRETRYTHRESHOLD", "0s"),
        ("CORE_PEER_GOSSIP_PVTDATA_RECONCILIATIONENABLED", "false"),
    ] {
        node.set(variable, value);
    }
    node
}

/// Kills the node at some moment after each confirmation. What the Go peer endorsed was confirmed,
/// and must be there after the next start.
fn kills(scenario: &str, network: &Fabnet, node: &mut Node) {
    let kills: u64 = setting("TIDINGS_FABRIC_KILLS", 10);
    let mut chance = Chance::new(scenario);
    let (mut confirmed, mut missed) = (0, 0);
    let mut pauses = Vec::new();
    for kill in 0..kills {
        let height = network.height();
        let mut approval = one_confirmed(network, node);
        // Some at once, some before the block, some while it comes.
        let pause = chance.pause(0..[2, 30, 600][usize::try_from(kill % 3).unwrap()]);
        pauses.push(pause);
        node.kill();
        if approval.wait().unwrap().success() {
            confirmed += 1;
            until("the approval is ordered", ARRIVE_TIME_MAX, || {
                (network.height() > height).then_some(())
            });
        } else {
            missed += 1;
        }
        node.start(&network.genesis());
        settled(network, node);
    }
    measured(
        scenario,
        format_args!(
            "{kills} kills, {confirmed} after the confirmation arrived and {missed} before; after \
             each the node had every write set that was ordered, in the end {}; milliseconds \
             from the confirmation to the kill: {pauses:?}",
            counts(&node.sets())
        ),
    );
}

/// Begins approvals until our node has stored the push of one, which goes on.
fn one_confirmed(network: &Fabnet, node: &Node) -> Child {
    let stored = || {
        let stored = node.sum("tidings_private_pushes", &[("outcome", "stored")]);
        stored.unwrap_or_default()
    };
    until("a push is stored", MEET_TIME_MAX, || {
        let before = stored();
        let mut approval = network.approval("Org1");
        let mut approval = approval
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        loop {
            if stored() > before {
                return Some(approval);
            }
            if approval.try_wait().unwrap().is_some() {
                return None;
            }
        }
    })
}

/// The node has every block, and what they promise to its organization.
#[track_caller]
fn settled(network: &Fabnet, node: &Node) {
    node.reaches(network.height(), ARRIVE_TIME_MAX);
    let differences = differences(&network.promised("Org1"), &node.sets());
    assert_eq!(differences, "");
}
