//! Four orderers of which one is dishonest.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tidings_node::service::RunningNode;
use tidings_proto::{
    common::{Block, Metadata},
    orderer::{DeliverResponse, deliver_response::Type},
};
use tokio::net::TcpListener;

use crate::{
    chain::Chain,
    orderer::Orderer,
    peer::{Seat, reaches, soon},
};

/// Orderers and a node that leads on their channel, which has only its first block yet.
struct Scene {
    chain: Chain,
    orderers: Vec<Orderer>,
    node: RunningNode,
    _seat: Seat,
    /// Who is to give the node its blocks.
    source: usize,
}

impl Scene {
    /// Who is suspected has that long.
    async fn new(timeout: Duration) -> Self {
        let mut doors: Vec<TcpListener> = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..4 {
            let (door, address) = Orderer::door().await;
            doors.push(door);
            addresses.push(address.to_string());
        }
        let chain = Chain::of_cluster(&addresses);
        let start = |door| Orderer::start(door, chain.blocks.clone());
        let mut orderers: Vec<_> = doors.into_iter().map(start).collect();
        let (mut seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
        seat.cluster.block_censorship_timeout = timeout;
        let mut node = seat.start(listener).await;
        node.join(chain.blocks[0].clone()).await.unwrap();
        let mut sources = Vec::new();
        for (index, orderer) in orderers.iter_mut().enumerate() {
            let (start, gives_blocks) = soon(async {
                tokio::select! {
                    start = orderer.starts.recv() => (start, true),
                    start = orderer.headers.recv() => (start, false),
                }
            })
            .await;
            assert_eq!(start, Some(1));
            if gives_blocks {
                sources.push(index);
            }
        }
        let [source] = sources[..] else {
            panic!("one gives blocks, the others show headers: {sources:?}");
        };
        Self {
            chain,
            orderers,
            node,
            _seat: seat,
            source,
        }
    }

    fn withheld(&self) -> u64 {
        let metrics = self.node.metrics();
        let counter = metrics.delivery_withheld.with_label_values(&["mychannel"]);
        counter.get()
    }

    fn suspected(&self) -> i64 {
        let metrics = self.node.metrics();
        let gauge = metrics
            .delivery_suspicions
            .with_label_values(&["mychannel"]);
        gauge.get()
    }
}

#[tokio::test]
async fn an_orderer_that_withholds_blocks_is_left_for_an_honest_one() {
    // Mostly long enough for the honest one to begin. That it is left alone then is tested where
    // time is not real.
    let mut scene = Scene::new(Duration::from_secs(2)).await;
    scene.chain.grow_to(5);
    for orderer in &scene.orderers {
        orderer.serve(scene.chain.blocks.clone());
    }
    reaches(&scene.node, 5).await;
    scene.chain.grow_to(9);
    let blocks = &scene.chain.blocks;
    for (index, orderer) in scene.orderers.iter().enumerate() {
        if index == scene.source {
            orderer.show(blocks.clone());
        } else {
            orderer.serve(blocks.clone());
        }
    }
    reaches(&scene.node, 9).await;
    assert!(scene.withheld() >= 1);
    let mut asked = Vec::new();
    for (index, orderer) in scene.orderers.iter_mut().enumerate() {
        if let Ok(start) = orderer.starts.try_recv() {
            asked.push((index, start));
        }
    }
    let goes_on = |(index, start): &(usize, u64)| *index != scene.source && *start == 5;
    assert!(
        asked.iter().any(goes_on),
        "another orderer goes on: {asked:?}"
    );
    // Whoever withheld is one of those who show headers now.
    let headers = &mut scene.orderers[scene.source].headers;
    assert_eq!(soon(headers.recv()).await, Some(5));
    assert_eq!(scene.suspected(), 0);
    scene.node.stop().await;
}

/// The block without one of the signatures that it needs.
fn without_quorum(block: &Bytes) -> Bytes {
    let mut block = Block::decode(block.clone()).unwrap();
    let first = &mut block.metadata.as_mut().unwrap().metadata[0];
    let mut metadata = Metadata::decode(first.clone()).unwrap();
    metadata.signatures.pop();
    *first = metadata.encode_to_vec().into();
    block.encode_to_vec().into()
}

#[tokio::test]
async fn headers_without_a_quorum_change_nothing() {
    let mut scene = Scene::new(Duration::from_millis(1)).await;
    let liar = (scene.source + 1) % 4;
    let mut shown = scene.chain.blocks.clone();
    scene.chain.grow_to(9);
    shown.extend(scene.chain.blocks[1..].iter().map(without_quorum));
    scene.orderers[liar].show(shown);
    // It is asked again and again, since what it showed was no good.
    for _ in 0..3 {
        assert_eq!(soon(scene.orderers[liar].headers.recv()).await, Some(1));
    }
    assert_eq!((scene.withheld(), scene.suspected()), (0, 0));
    scene.orderers[scene.source].serve(scene.chain.blocks.clone());
    reaches(&scene.node, 9).await;
    assert_eq!(scene.withheld(), 0);
    for orderer in &mut scene.orderers {
        assert!(orderer.starts.try_recv().is_err(), "the source stays");
    }
    scene.node.stop().await;
}

/// The block with something unsigned in it, so that the response with its header is that long.
fn padded(block: &Bytes, len: usize) -> Bytes {
    let mut block = Block::decode(block.clone()).unwrap();
    let data = block.data.take();
    let mut pad = |len: usize| {
        block.metadata.as_mut().unwrap().metadata[3] = vec![0; len].into();
        let response = DeliverResponse {
            r#type: Some(Type::Block(block.clone())),
        };
        response.encoded_len()
    };
    // Some room for the rest; all of its lengths have as many digits in the end.
    let about = len - 10_000;
    let rest = pad(about) - about;
    assert_eq!(pad(len - rest), len);
    block.data = data;
    block.encode_to_vec().into()
}

#[tokio::test]
async fn a_header_has_its_size() {
    const LIMIT: usize = 2 << 20;
    let mut scene = Scene::new(Duration::from_secs(30)).await;
    let witness = (scene.source + 1) % 4;
    scene.chain.grow_to(4);
    let blocks = &scene.chain.blocks;
    let shown = vec![
        blocks[0].clone(),
        padded(&blocks[1], LIMIT),
        padded(&blocks[2], LIMIT + 1),
    ];
    scene.orderers[witness].show(shown);
    let headers = &mut scene.orderers[witness].headers;
    assert_eq!(soon(headers.recv()).await, Some(2), "the first was good");
    assert_eq!(soon(headers.recv()).await, Some(2));
    scene.node.stop().await;
}

#[tokio::test]
async fn headers_are_read_through_a_change_of_the_configuration() {
    let mut scene = Scene::new(Duration::from_secs(30)).await;
    scene.chain.grow_to(5);
    scene.chain.add_tls_root();
    scene.chain.grow_to(8);
    for orderer in &scene.orderers {
        orderer.serve(scene.chain.blocks.clone());
    }
    reaches(&scene.node, 8).await;
    // Who is to be trusted changed: all are asked anew, behind what is there.
    for orderer in &mut scene.orderers {
        let again = soon(async {
            tokio::select! {
                start = orderer.starts.recv() => start,
                start = orderer.headers.recv() => start,
            }
        })
        .await;
        assert!(again.is_some_and(|start| start >= 6), "{again:?}");
    }
    assert_eq!(scene.withheld(), 0);
    scene.node.stop().await;
}
