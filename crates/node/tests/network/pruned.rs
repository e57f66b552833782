//! A node that keeps the last blocks only, between one that has all and one that comes late.

use std::time::SystemTime;

use tidings_ledger::{Audit, Ledger, Reader, Retention, SEGMENT_ENTRIES_MAX, Settings};
use tidings_node::service::RunningNode;
use tidings_proto::common::Status;
use tokio::net::TcpListener;

use crate::{
    clients::{Asked, Method, NEWEST, OLDEST, at, connect, now_of, refused, seek},
    leader,
    material::CHANNEL,
    ordering,
    peer::{Seat, channel, reaches, soon},
    queries::{asking, failed},
};

const KEEP: u64 = 10;
const HEIGHT: u64 = 60;

/// The last blocks, in segments of a few.
fn the_last() -> Settings {
    Settings {
        segment_len_max: 16_000,
        segment_entries_max: SEGMENT_ENTRIES_MAX,
        retention: Retention {
            blocks: Some(KEEP),
            age: None,
        },
    }
}

fn reader(node: &RunningNode) -> Reader {
    node.reader(&channel()).unwrap()
}

/// Waits until the node has pruned most of a chain of that height.
async fn prunes(node: &RunningNode, height: u64) {
    let reader = reader(node);
    soon(async {
        while reader.first() + KEEP + 20 < height {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(reader.first() + KEEP <= height);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruned_node_starts_again_serves_what_it_has_and_says_what_is_gone() {
    let (mut chain, orderer) = ordering(5).await;
    // What comes after this block can be verified only by what it says.
    chain.renew_orderer();
    chain.grow_to(HEIGHT);
    orderer.serve(chain.blocks.clone());
    let (full, mut all) = leader(&chain).await;
    all.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&all, HEIGHT).await;
    let (mut seat, listener) = Seat::new(&chain.material.org1, "peer1", Some(full.address)).await;
    seat.ledger = the_last();
    let mut node = seat.start(listener).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&node, HEIGHT).await;
    prunes(&node, HEIGHT).await;
    node.stop().await;
    let dir = seat.home.path().join("data/channels").join(CHANNEL);
    let mut audit = Audit::open(&dir).unwrap();
    assert!(audit.by_ref().all(|block| block.is_ok()));
    assert_eq!(audit.tip().height(), HEIGHT);
    drop(audit);
    // What it had no time for, so that it stays as it is from here on.
    let mut ledger = Ledger::open_with(&dir, the_last()).unwrap();
    while ledger
        .prune(SystemTime::now(), &|_| false)
        .unwrap()
        .is_some()
    {}
    drop(ledger);

    let listener = TcpListener::bind(seat.address).await.unwrap();
    let node = seat.start(listener).await;
    let kept = reader(&node);
    let first = kept.first();
    assert!(first > 5 && kept.holds(5), "the configuration is held");
    for number in (first..HEIGHT).chain([0, 5]) {
        let block = kept.block(number).unwrap().unwrap();
        assert_eq!(block.bytes(), &chain.blocks[number as usize]);
    }
    assert_eq!(kept.block(4).unwrap(), None);
    let shown = node.metrics().text();
    assert!(shown.contains(&format!(
        "tidings_ledger_first_block{{channel=\"{CHANNEL}\"}} {first}"
    )));

    let (to, app) = (
        connect(&node).await,
        chain.material.org1.member("app", "client"),
    );
    for (start, stop) in [(OLDEST, NEWEST), (at(4), at(4)), (at(5), at(6))] {
        let status = refused(&to, now_of(&app, &seek(start, stop))).await;
        assert_eq!(status, Status::NotFound);
    }
    let mut asked = Asked::open(&to, Method::Blocks).await.unwrap();
    for (start, stop, numbers) in [
        (OLDEST, OLDEST, 0..=0),
        (at(5), at(5), 5..=5),
        (at(first), NEWEST, first..=HEIGHT - 1),
    ] {
        asked.ask(now_of(&app, &seek(start, stop))).await;
        for number in numbers {
            assert_eq!(asked.block().await.header.unwrap().number, number);
        }
        assert_eq!(asked.status().await, Status::Success);
    }
    let query = |args: &[&[u8]]| asking(CHANNEL, "qscc", args).by(&app);
    let name = CHANNEL.as_bytes();
    let said = failed(&to, query(&[b"GetBlockByNumber", name, b"4"])).await;
    assert!(
        said.contains(&format!("was pruned: this peer has blocks from {first} on")),
        "{said}"
    );
    for function in ["GetBlockByTxID", "GetTransactionByID"] {
        let said = failed(&to, query(&[function.as_bytes(), name, b"gone"])).await;
        assert!(
            said.contains(&format!("blocks below {first} were pruned")),
            "{said}"
        );
    }

    // Who comes late gets all of it, from whoever has it.
    let (late, listener) = Seat::new(&chain.material.org1, "late", Some(full.address)).await;
    let mut late = late.start(listener).await;
    late.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&late, HEIGHT).await;
    for (number, block) in (0..).zip(&chain.blocks) {
        assert_eq!(reader(&late).block(number).unwrap().unwrap().bytes(), block);
    }
    for node in [all, node, late] {
        node.stop().await;
    }
}
