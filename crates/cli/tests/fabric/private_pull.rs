//! Private data on its way from a node of ours to those who lack it, and to nobody else.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use tidings_msp::crypto::sha256;
use tidings_proto::gossip::PvtDataElement;

use crate::{
    fabnet::{self, Fabnet},
    node::Node,
    private::{Promises, counts, differences},
    private_asker::digests,
    wait::{measured, setting, until},
};

const NAME: &str = "gives_what_go_missed";

/// The Go peer that is away.
const AWAY: &str = "org1-peer1";

/// The Go peer that endorses.
const ENDORSER: &str = "org1-peer0";

/// A Go peer looks for a member up to five times at one second, for each block.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(180);

const ARRIVE_TIME_MAX: Duration = Duration::from_secs(60);

#[test]
fn gives_what_go_missed() {
    // Every Go peer has its blocks from the orderer: a state transfer would bring the private data
    // along.
    let options = [
        "--set",
        "peer.gossip.useLeaderElection=false",
        "--set",
        "peer.gossip.orgLeader=true",
        "--set",
        "peer.gossip.state.enabled=false",
        "--set",
        "peer.gossip.pvtData.reconcileSleepInterval=2s",
    ];
    let Some(network) = fabnet::up(NAME, &options) else {
        return;
    };
    let approvals = setting("TIDINGS_FABRIC_APPROVALS", 20_usize);
    let approvals = (approvals / 5).max(1);
    let mut node = network.join("org1-extra0");
    // Whom others are told to begin with does not run all the time.
    let endpoint = network.peer(AWAY).endpoint.clone();
    node.set("CORE_PEER_GOSSIP_BOOTSTRAP", endpoint);
    approved(&network, &node, 1);
    by_reconciliation(&network, &mut node, approvals);
    at_commit(&network, &node, approvals);
    to_members_only(&network, &node);
}

/// That whoever reads and asks in these scenarios sees what there is, and that Go peers do what
/// ours is measured by.
#[test]
fn go_gives_to_members_only() {
    const NAME: &str = "go_gives_to_members_only";
    let Some(network) = fabnet::up(NAME, &[]) else {
        return;
    };
    for org in ["Org1", "Org2", "Org1"] {
        network.approve(org);
    }
    let promises = ["Org1", "Org2"].map(|org| network.promised(org));
    assert_eq!([promises[0].len(), promises[1].len()], [2, 1]);
    for peer in network.peers() {
        let promises = &promises[usize::from(peer.org == "Org2")];
        until("the Go peer has what is its own", ARRIVE_TIME_MAX, || {
            let all = peer.height()? >= network.height();
            (all && differences(promises, &network.sets(&peer.name)).is_empty()).then_some(())
        });
        let given = ["org1-extra0", "org2-extra0"].map(|name| {
            let asker = network.extra(name);
            let given = asker.asks(&peer.endpoint, digests(promises));
            right(promises, &given)
        });
        let all = promises.len();
        let [of_org1, of_org2] = given;
        measured(
            NAME,
            format_args!(
                "{} has {}; of {all} a peer of Org1 is given {of_org1}, one of Org2 {of_org2}",
                peer.name,
                counts(&network.sets(&peer.name))
            ),
        );
        let expected = if peer.org == "Org1" {
            [all, 0]
        } else {
            [0, all]
        };
        assert_eq!(given, expected);
    }
}

/// Has chaincodes approved by Org1; our node has what they write.
fn approved(network: &Fabnet, node: &Node, approvals: usize) {
    for _ in 0..approvals {
        network.approve("Org1");
    }
    let promises = network.promised("Org1");
    until("our node has what was approved", ARRIVE_TIME_MAX, || {
        (node.height()? >= network.height() && differences(&promises, &node.sets()).is_empty())
            .then_some(())
    });
}

/// The Go peer commits blocks whose data nobody has who is there; then our node comes.
fn by_reconciliation(network: &Fabnet, node: &mut Node, approvals: usize) {
    network.run(&["stop-peer", AWAY]);
    configure(
        network,
        ("pullRetryThreshold: 60s", "pullRetryThreshold: 1s"),
    );
    approved(network, node, approvals);
    network.run(&["stop-peer", ENDORSER]);
    node.stop();
    network.run(&["start-peer", AWAY]);
    let goal = network.height();
    until("the Go peer has the blocks", COMMIT_TIME_MAX, || {
        (network.peer(AWAY).height()? >= goal).then_some(())
    });
    let promises = network.promised("Org1");
    let lacking = promises.len() - network.sets(AWAY).len();
    assert_eq!(lacking, approvals, "it was to lack what it missed");
    node.start(&network.genesis());
    let (begun, given) = (Instant::now(), has_given(node));
    let sets = complete(network, &promises);
    measured(
        NAME,
        format_args!(
            "by reconciliation: a Go peer that lacked {approvals} sets had them {:.1?} after our \
             node came, which gave {}; it has {sets}",
            begun.elapsed(),
            has_given(node) - given,
        ),
    );
    assert!(has_given(node) - given >= approvals as f64);
}

/// The Go peer comes back when only our node is there, and does not reconcile.
fn at_commit(network: &Fabnet, node: &Node, approvals: usize) {
    network.run(&["stop-peer", AWAY]);
    configure(
        network,
        ("pullRetryThreshold: 1s", "pullRetryThreshold: 60s"),
    );
    configure(
        network,
        (
            "reconciliationEnabled: true",
            "reconciliationEnabled: false",
        ),
    );
    network.run(&["start-peer", ENDORSER]);
    approved(network, node, approvals);
    network.run(&["stop-peer", ENDORSER]);
    let given = has_given(node);
    network.run(&["start-peer", AWAY]);
    let begun = Instant::now();
    let sets = complete(network, &network.promised("Org1"));
    measured(
        NAME,
        format_args!(
            "at commit: a Go peer that missed {approvals} pushes had them {:.1?} after it came, of \
             which our node gave {}; it has {sets}",
            begun.elapsed(),
            has_given(node) - given,
        ),
    );
    assert!(has_given(node) - given >= approvals as f64);
}

/// Waits until the Go peer has everything that was promised, and says how much that is.
fn complete(network: &Fabnet, promises: &Promises) -> String {
    until("the Go peer has everything", COMMIT_TIME_MAX, || {
        let height = network.peer(AWAY).height()?;
        if height < network.height() {
            return None;
        }
        let sets = network.sets(AWAY);
        differences(promises, &sets)
            .is_empty()
            .then(|| counts(&sets))
    })
}

fn has_given(node: &Node) -> f64 {
    node.sum("tidings_private_given", &[]).unwrap_or_default()
}

fn configure(network: &Fabnet, (from, to): (&str, &str)) {
    let path = network.config_dir(AWAY).join("core.yaml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "no {from} in core.yaml");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Somebody else of Org1 is given everything, somebody of Org2 nothing: by our node as by a Go
/// peer.
fn to_members_only(network: &Fabnet, node: &Node) {
    let promises = network.promised("Org1");
    let (member, stranger) = (network.extra("org1-extra1"), network.extra("org2-extra0"));
    let (ours, theirs) = (&node.endpoint, &network.peer(AWAY).endpoint);
    for endpoint in [theirs, ours] {
        let given = member.asks(endpoint, digests(&promises));
        assert_eq!(right(&promises, &given), promises.len(), "{endpoint}");
    }
    assert_eq!(stranger.asks(theirs, digests(&promises)), []);
    let along = [member, stranger].map(|asker| asker.transfers(ours, &blocks(&promises)));
    assert_eq!(along, [promises.len(), 0], "what comes along with blocks");
    let withheld = || {
        node.sum("tidings_private_withheld", &[])
            .unwrap_or_default()
    };
    let before = withheld();
    assert_eq!(stranger.asks(ours, digests(&promises)), []);
    let counted = withheld() - before;
    measured(
        NAME,
        format_args!(
            "a peer of Org1 that asks for {} sets of Org1 is given all, by our node and a Go peer; \
             one of Org2 none, and {counted} are counted as withheld; also when they ask our node \
             for the blocks",
            promises.len()
        ),
    );
    assert_eq!(counted, promises.len() as f64);
}

/// The blocks of these.
fn blocks(promises: &Promises) -> BTreeSet<u64> {
    promises.keys().map(|slot| slot.block).collect()
}

/// How many of the promised sets were given, of which none may be wrong.
fn right(promises: &Promises, given: &[PvtDataElement]) -> usize {
    for element in given {
        let digest = element.digest.as_ref().unwrap();
        let (_, promise) = promises
            .iter()
            .find(|(slot, _)| (slot.block, slot.tx) == (digest.block_seq, digest.seq_in_block))
            .unwrap();
        assert_eq!(element.payload.len(), 1);
        assert_eq!(hex::encode(sha256(&element.payload[0])), promise.hash);
    }
    given.len()
}
