//! A change of the channel's configuration changes who meets whom, and who is cut off.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_proto::{
    Message as _,
    common::{ConfigGroup, ConfigValue},
    protos::{AnchorPeer, AnchorPeers},
};

use crate::{
    blocks::meet,
    devnet::Devnet,
    node::Node,
    wait::{measured, throughout},
};

const NAME: &str = "configuration_changes";

const TIME_MAX: Duration = Duration::from_secs(60);

/// Several rounds of everything that asks for blocks.
const WATCH_TIME: Duration = Duration::from_secs(4);

fn application(config: &mut ConfigGroup) -> &mut ConfigGroup {
    config.groups.get_mut("Application").unwrap()
}

#[test]
fn configuration_changes() {
    let network = Devnet::up(3, 2);
    let mut third = None;
    network.reconfigure(&[1, 2], |config| {
        third = application(config).groups.remove("Org3");
        application(config).version += 1;
    });
    // Nobody runs where the genesis block says that anchors are.
    let nodes = [1, 2].map(|org| network.join(org, 1));
    let [first, second] = &nodes;
    for node in &nodes {
        node.reaches(2, TIME_MAX);
        assert_eq!(node.members().len(), 0, "{} knows somebody", node.name);
    }

    let start = Instant::now();
    network.reconfigure(&[1], |config| {
        let org = application(config).groups.get_mut("Org1").unwrap();
        anchors(org).value = anchor(first);
        anchors(org).version += 1;
    });
    meet(&[first, second]);
    measured(
        NAME,
        format_args!(
            "an anchor was named and both met after {:.1?}",
            start.elapsed()
        ),
    );

    // Nobody passes on word of one foreign organization to another, so that this one must be
    // found by both.
    let mut late = network.node(3, 1);
    let mut third = third.unwrap();
    anchors(&mut third).value = anchor(&late);
    network.reconfigure(&[1, 2], |config| {
        application(config).groups.insert("Org3".to_owned(), third);
        application(config).version += 1;
    });
    let start = Instant::now();
    late.start(&network.genesis());
    meet(&[first, second, &late]);
    measured(
        NAME,
        format_args!("Org3 was added and all met after {:.1?}", start.elapsed()),
    );
    network.order(3);
    network.check_same(&[first, second, &late], TIME_MAX);

    let before = network.height();
    let start = Instant::now();
    network.reconfigure(&[1, 2], |config| {
        application(config).groups.remove("Org3").unwrap();
        application(config).version += 1;
    });
    meet(&[first, second]);
    measured(
        NAME,
        format_args!(
            "Org3 was removed and forgotten after {:.1?}",
            start.elapsed()
        ),
    );
    network.order(5);
    network.check_same(&[first, second], TIME_MAX);
    throughout(WATCH_TIME, || {
        let height = late.height().unwrap();
        assert!(height <= before + 1, "a removed organization gets blocks");
    });
}

/// What an organization's part of the configuration says of its anchor peers.
fn anchors(org: &mut ConfigGroup) -> &mut ConfigValue {
    org.values.get_mut("AnchorPeers").unwrap()
}

fn anchor(node: &Node) -> Bytes {
    let (host, port) = node.endpoint.rsplit_once(':').unwrap();
    let anchor = AnchorPeer {
        host: host.to_owned(),
        port: port.parse().unwrap(),
    };
    let anchors = AnchorPeers {
        anchor_peers: vec![anchor],
    };
    anchors.encode_to_vec().into()
}
