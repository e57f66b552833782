//! The dashboard of a real node in a real browser.

use tidings_node::operations::{self, OperationsSettings, Shown};

use super::*;
use crate::chromium::look;

/// An endpoint as no operator would write it: any of it that became markup would show.
const HOSTILE: &str = "<img src=x onerror=console.error(1)>\"'&amp;:7051";

#[tokio::test]
async fn a_browser_shows_who_is_there_and_nothing_becomes_markup() {
    let (chain, _orderer) = ordering(4).await;
    let (seat, mut node) = leader(&chain).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    let (beside, listener) = Seat::new(&chain.material.org1, "peer1", Some(seat.address)).await;
    let mut config = beside.config(listener);
    config.endpoint = HOSTILE.to_owned();
    let mut other = RunningNode::start(config).await.unwrap();
    other.join(chain.blocks[0].clone()).await.unwrap();
    for node in [&node, &other] {
        reaches(node, 4).await;
    }
    shows(&node, |channel| {
        channel.peers.iter().any(|(_, height)| *height == 4)
    })
    .await;

    let view = node.vitals().view().await.unwrap();
    let [member] = &view.members[..] else {
        panic!("{view:?}")
    };
    assert_eq!(member.endpoint, HOSTILE);
    assert_eq!(member.organization.as_deref(), Some("Org1MSP"));
    assert!(member.heard_ms.is_some());
    let traffic = member.traffic.unwrap();
    assert!(
        traffic.sent.messages > 0 && traffic.received.bytes > 0,
        "{traffic:?}"
    );
    let [channel] = &view.channels[..] else {
        panic!("{view:?}")
    };
    assert_eq!((channel.height, channel.leads), (4, true));
    assert_eq!(channel.heights[&member.peer], 4);
    assert_eq!(channel.blocks, [("deliver".to_owned(), 3)].into());
    assert_eq!(channel.orderers.len(), 1);
    let told: Vec<_> = view
        .history
        .iter()
        .map(|event| event.text.as_str())
        .collect();
    assert!(
        told.contains(&"this node leads: it pulls blocks from the orderers"),
        "{told:?}"
    );

    looks_well(&node).await;
    node.stop().await;
    other.stop().await;
}

/// Looks at the dashboard of a node, if there is a browser.
async fn looks_well(node: &RunningNode) {
    let settings = OperationsSettings {
        listen: ("127.0.0.1".to_owned(), 0),
        tls: None,
        metrics: false,
        dashboard: true,
    };
    let shown = Shown {
        vitals: node.vitals().clone(),
        logging: None,
    };
    let operations = operations::start(&settings, shown).await.unwrap();
    let url = format!("http://{}/dashboard", operations.address());
    if let Some(seen) = look(url).await {
        let dom = &seen.dom;
        assert_eq!(seen.console, Vec::<String>::new(), "{dom}");
        for expected in [
            // Two views were seen.
            "live, ",
            "Org1",
            "mychannel",
            "this node",
            "&lt;img src=x onerror=",
        ] {
            assert!(dom.contains(expected), "{expected}: {dom}");
        }
        assert!(!dom.contains("<img"), "{dom}");
    }
    operations.stop().await;
}
