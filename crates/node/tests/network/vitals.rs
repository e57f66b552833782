//! What whole nodes show of themselves.

use tidings_node::vitals::Vitals;

use super::*;

/// The value of a line of the metrics; none if it is not there.
fn value(vitals: &Vitals, line: &str) -> Option<f64> {
    let text = vitals.metrics.text();
    let line = text
        .lines()
        .find_map(|each| each.strip_prefix(line)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[tokio::test]
async fn what_happens_to_blocks_can_be_seen() {
    let (door, address) = Orderer::door().await;
    let mut chain = Chain::new(&address.to_string());
    chain.grow_to(4);
    let orderer = Orderer::start(door, chain.blocks.clone());
    let (seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    let config = seat.config(listener);
    let leading = config.vitals.clone();
    assert_eq!(leading.health.failed_checks().await, [], "not started");
    let mut leader = RunningNode::start(config).await.unwrap();
    let (beside, listener) = Seat::new(&chain.material.org1, "peer1", Some(seat.address)).await;
    let config = beside.config(listener);
    let following = config.vitals.clone();
    let mut follower = RunningNode::start(config).await.unwrap();
    for node in [&mut leader, &mut follower] {
        node.join(chain.blocks[0].clone()).await.unwrap();
        reaches(node, 4).await;
    }
    chain.grow_to(9);
    orderer.serve(chain.blocks.clone());
    for node in [&leader, &follower] {
        reaches(node, 9).await;
        assert_eq!(node.health().failed_checks().await, []);
    }

    let connected =
        format!("tidings_delivery_connected{{channel=\"mychannel\",orderer=\"{address}\"}}");
    assert_eq!(value(&leading, &connected), Some(1.0));
    assert_eq!(value(&following, &connected), None);
    for (vitals, received) in [
        (&leading, &["deliver"][..]),
        (&following, &["push", "pull", "transfer"]),
    ] {
        for line in [
            "gossip_state_height{channel=\"mychannel\"}",
            "ledger_blockchain_height{channel=\"mychannel\"}",
        ] {
            assert_eq!(value(vitals, line), Some(9.0), "{line}");
        }
        let by_source = |name: &str| -> f64 {
            let line = |source| format!("{name}{{channel=\"mychannel\",source=\"{source}\"}}");
            let values = received.iter().map(|source| value(vitals, &line(source)));
            values.flatten().sum()
        };
        assert_eq!(by_source("tidings_blocks_committed"), 8.0, "{received:?}");
        let (all, vain) = (
            by_source("tidings_blocks_received"),
            by_source("tidings_blocks_duplicate"),
        );
        assert_eq!(all - vain, 8.0, "{received:?}");
        assert_eq!(value(vitals, "tidings_comm_peers"), Some(1.0));
        let identity = "tidings_certificate_expiry{certificate=\"identity\"}";
        assert!(value(vitals, identity).unwrap() > 1.7e9);
        assert_eq!(value(vitals, "tidings_members_alive"), Some(1.0));
    }
    // One is counted as closed when whoever held it has noticed.
    let open = || {
        let count = |line| value(&leading, line).unwrap();
        count("grpc_comm_conn_opened") - count("grpc_comm_conn_closed")
    };
    soon(async {
        while open() != 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    leader.stop().await;
    follower.stop().await;
    assert_eq!(
        value(&leading, &connected),
        None,
        "nobody is connected any more"
    );
    for vitals in [&leading, &following] {
        let failed = vitals.health.failed_checks().await;
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].reason.contains("has stopped"), "{failed:?}");
        for line in ["tidings_comm_queued_messages", "tidings_comm_queued_bytes"] {
            assert_eq!(value(vitals, line), Some(0.0), "{line}");
        }
        let (opened, closed) = ("grpc_comm_conn_opened", "grpc_comm_conn_closed");
        assert_eq!(value(vitals, opened), value(vitals, closed));
    }
}

#[tokio::test]
async fn an_orderer_that_has_nothing_to_send_serves_us_all_the_same() {
    // A Go orderer says nothing at all before it has a block.
    let (door, address) = Orderer::door().await;
    let chain = Chain::new(&address.to_string());
    let (_seat, mut node) = leader(&chain).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    let (silent, _) = soon(door.accept()).await.unwrap();
    let connected = || {
        let line = "tidings_delivery_connected{channel=\"mychannel\"";
        node.metrics().text().contains(line)
    };
    let becomes = async |expected| {
        while connected() != expected {
            tokio::task::yield_now().await;
        }
    };
    soon(becomes(true)).await;
    drop((silent, door));
    soon(becomes(false)).await;
    node.stop().await;
}
