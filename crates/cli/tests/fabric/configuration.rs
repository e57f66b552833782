//! What a change of the channel's configuration does to who meets whom, and who is cut off.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    fabnet::{self, GoPeer},
    newcomers::Newcomers,
    node::Node,
    update::{anchor, application},
    wait::{measured, throughout, until},
};

const NAME: &str = "configuration_changes";

const MEET_TIME_MAX: Duration = Duration::from_secs(60);

/// A member that is cut off is dead to the others when it was silent for 25 s.
const PART_TIME_MAX: Duration = Duration::from_secs(60);

const BLOCKS_TIME_MAX: Duration = Duration::from_secs(60);

/// Three rounds of everything that asks for blocks.
const WATCH_TIME: Duration = Duration::from_secs(30);

/// Peers of theirs and of ours.
struct Company<'a> {
    go: Vec<&'a GoPeer>,
    ours: Vec<&'a Node>,
}

impl Company<'_> {
    /// Whether each knows all the others, and nobody else.
    fn is_complete(&self) -> bool {
        let others = (self.go.len() + self.ours.len() - 1) as f64;
        let known = "gossip_membership_total_peers_known";
        let names = self.go.iter().map(|peer| peer.pki.clone());
        let names: BTreeSet<_> = names
            .chain(self.ours.iter().map(|node| node.pki.clone()))
            .collect();
        let listed = |node: &&Node| {
            let mut members: BTreeSet<_> = node.members().into_keys().collect();
            members.insert(node.pki.clone());
            members == names && node.gauge(known) == Some(others)
        };
        self.go.iter().all(|peer| peer.gauge(known) == Some(others)) && self.ours.iter().all(listed)
    }

    /// Waits for that and says how long it took.
    fn completes(&self, what: &str, within: Duration) {
        let start = Instant::now();
        until(what, within, || self.is_complete().then_some(()));
        measured(NAME, format_args!("{what}: after {:.1?}", start.elapsed()));
    }

    /// Waits until everybody has that many blocks.
    fn reaches(&self, height: u64) {
        for peer in &self.go {
            until(
                &format!("{} has {height} blocks", peer.name),
                BLOCKS_TIME_MAX,
                || (peer.height()? >= height).then_some(()),
            );
        }
        for node in &self.ours {
            node.reaches(height, BLOCKS_TIME_MAX);
        }
    }
}

#[test]
fn configuration_changes() {
    let Some(network) = fabnet::up(NAME, &["--no-anchors"]) else {
        return;
    };
    let first = network.join("org1-extra0");
    let second = network.join("org2-extra0");
    for (org, node) in [("Org1", &first), ("Org2", &second)] {
        let company = Company {
            go: network.of(org).collect(),
            ours: vec![node],
        };
        company.completes(&format!("{org} is among itself"), MEET_TIME_MAX);
    }

    network.reconfigure(&["Org2"], |config| {
        application(config)["Org2"]["values"]["AnchorPeers"] = anchor(&second.endpoint);
    });
    let company = Company {
        go: network.peers().iter().collect(),
        ours: vec![&first, &second],
    };
    company.completes("our node became Org2's anchor and all met", MEET_TIME_MAX);

    let mut third = Newcomers::make(&network);
    let mut definition = third.definition(&network);
    definition["values"]["AnchorPeers"] = anchor(&third.peer.endpoint);
    network.reconfigure(&["Org1", "Org2"], |config| {
        application(config)["Org3"] = definition;
    });
    let joined = Instant::now();
    third.start_peer(&network);
    third.node.start(&network.genesis());
    measured(
        NAME,
        format_args!(
            "Org3's two peers were up and joined after {:.1?}",
            joined.elapsed()
        ),
    );
    let all = Company {
        go: company.go.iter().copied().chain([&third.peer]).collect(),
        ours: vec![&first, &second, &third.node],
    };
    all.completes("a third organization was added and all met", MEET_TIME_MAX);
    network.load(&["--blocks", "5"]).finish();
    all.reaches(network.height());

    let removal = network.height() + 1;
    network.reconfigure(&["Org1", "Org2"], |config| {
        let organizations = application(config).as_object_mut().unwrap();
        organizations.remove("Org3").unwrap();
    });
    company.completes(
        "Org3 was removed and nobody counts its peers",
        PART_TIME_MAX,
    );
    network.load(&["--blocks", "5"]).finish();
    company.reaches(network.height());
    throughout(WATCH_TIME, || {
        for height in [third.peer.height(), third.node.height()] {
            assert!(
                height.unwrap() <= removal,
                "a removed organization gets blocks"
            );
        }
        assert!(company.is_complete());
    });
    measured(
        NAME,
        format_args!(
            "{removal} blocks up to the removal; Org3's Go peer has {:?}, our node of Org3 {:?}, \
             the others {}",
            third.peer.height().unwrap(),
            third.node.height().unwrap(),
            network.height()
        ),
    );
}
