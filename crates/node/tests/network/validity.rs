//! Peers of two organizations that say which transactions are valid, and a node that asks them.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;
use tidings_node::{
    service::RunningNode,
    validity::{Report, Standing},
};
use tidings_proto::{
    common::{self, Block, BlockMetadataIndex, Envelope, Payload},
    orderer::{SeekInfo, seek_info::SeekContentType, seek_position::Type as Position},
    protos::{
        DeliverResponse,
        deliver_response::Type,
        deliver_server::{Deliver, DeliverServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    chain::Chain,
    clients::{Asked, Method, at, codes, connect, now_of, seek},
    ordering,
    peer::{Seat, channel, reaches, soon},
};

type Responses = ReceiverStream<Result<DeliverResponse, Status>>;

/// Stands for a peer that validates: serves blocks with codes. Ends when it is dropped.
struct Validator {
    address: SocketAddr,
    serves: watch::Sender<Vec<Block>>,
    /// Below this it has no blocks, as a peer that began with a snapshot.
    begins: watch::Sender<u64>,
    /// From which block on it was asked.
    starts: mpsc::Receiver<u64>,
    _server: JoinSet<()>,
}

struct Service {
    served: watch::Receiver<Vec<Block>>,
    begins: watch::Receiver<u64>,
    asked: mpsc::Sender<u64>,
    streams: TaskTracker,
}

impl Validator {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (serves, served) = watch::channel(Vec::new());
        let (begins, begun) = watch::channel(0);
        let (asked, starts) = mpsc::channel(64);
        let service = DeliverServer::new(Service {
            served,
            begins: begun,
            asked,
            streams: TaskTracker::new(),
        });
        let serving = tonic::transport::Server::builder().add_service(service);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            serving.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            address,
            serves,
            begins,
            starts,
            _server: server,
        }
    }

    /// Serves the blocks of the chain, as altered.
    fn serve(&self, chain: &Chain, alter: impl Fn(usize, &mut Block)) {
        let blocks = chain.blocks.iter().enumerate().map(|(number, block)| {
            let mut block = Block::decode(block.clone()).unwrap();
            validated(&mut block, &[code(number)], "a hash");
            alter(number, &mut block);
            block
        });
        self.serves.send_replace(blocks.collect());
    }
}

#[tonic::async_trait]
impl Deliver for Service {
    type DeliverStream = Responses;
    type DeliverFilteredStream = Responses;
    type DeliverWithPrivateDataStream = Responses;

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        let mut requests = request.into_inner();
        let envelope = requests.message().await?.unwrap();
        let payload = Payload::decode(envelope.payload).unwrap();
        let seek = SeekInfo::decode(payload.data).unwrap();
        assert_eq!(seek.content_type, i32::from(SeekContentType::HeaderWithSig));
        let Some(Position::Specified(start)) = seek.start.unwrap().r#type else {
            panic!("an odd start");
        };
        self.asked.try_send(start.number).unwrap();
        let (mut served, mut next) = (self.served.clone(), usize::try_from(start.number).unwrap());
        let (responses, stream) = mpsc::channel(1);
        if start.number < *self.begins.borrow() {
            let not_found = Type::Status(common::Status::NotFound.into());
            let response = DeliverResponse {
                r#type: Some(not_found),
            };
            responses.try_send(Ok(response)).unwrap();
            return Ok(Response::new(ReceiverStream::new(stream)));
        }
        self.streams.spawn(async move {
            // As long as the client lets its side open.
            let _requests = requests;
            loop {
                let more = tokio::select! {
                    more = served.wait_for(|served| served.len() > next) => more.map(|served| served[next].clone()),
                    () = responses.closed() => return,
                };
                let Ok(block) = more else { return };
                let response = DeliverResponse {
                    r#type: Some(Type::Block(block)),
                };
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
                next += 1;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn deliver_filtered(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn deliver_with_private_data(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

/// What every honest peer says of the only transaction of a block.
fn code(number: usize) -> u8 {
    if number.is_multiple_of(3) { 11 } else { 0 }
}

fn validated(block: &mut Block, codes: &[u8], commit_hash: &'static str) {
    let metadata = &mut block.metadata.as_mut().unwrap().metadata;
    metadata.resize(5, Bytes::new());
    metadata[BlockMetadataIndex::TransactionsFilter as usize] = Bytes::copy_from_slice(codes);
    metadata[BlockMetadataIndex::CommitHash as usize] = Bytes::from_static(commit_hash.as_bytes());
}

/// A node that asks, and nodes that name validators as themselves: one of its organization and one
/// of another. A third, of its organization, is one of ours, which validates nothing.
struct Scene {
    seat: Seat,
    node: RunningNode,
    others: Vec<(Seat, RunningNode)>,
    own: Validator,
    other: Validator,
}

impl Scene {
    async fn new(chain: &mut Chain) -> Self {
        let (own, other) = (Validator::start().await, Validator::start().await);
        let (org1, org2) = (&chain.material.org1, &chain.material.org2);
        let (mut seat, listener) = Seat::new(org1, "peer0", None).await;
        seat.validity_organizations = 2;
        let (mut mate, at_mate) = Seat::new(org1, "peer1", Some(seat.address)).await;
        mate.elsewhere = Some(own.address);
        let (like_us, at_like_us) = Seat::new(org1, "peer2", Some(seat.address)).await;
        let (mut foreign, at_foreign) = Seat::new(org2, "peer0", None).await;
        foreign.leader = false;
        seat.external_endpoint = seat.address.to_string();
        foreign.external_endpoint = other.address.to_string();
        chain.anchor(foreign.address);
        let node = seat.start(listener).await;
        let mut others = Vec::new();
        for (seat, listener) in [
            (mate, at_mate),
            (like_us, at_like_us),
            (foreign, at_foreign),
        ] {
            let node = seat.start(listener).await;
            others.push((seat, node));
        }
        Self {
            seat,
            node,
            others,
            own,
            other,
        }
    }

    async fn join(&mut self, chain: &Chain) {
        let genesis = &chain.blocks[0];
        self.node.join(genesis.clone()).await.unwrap();
        reaches(&self.node, chain.height()).await;
        for (_, node) in &mut self.others {
            node.join(genesis.clone()).await.unwrap();
        }
    }

    fn report(&self) -> Report {
        let served = self.node.directory().channel(channel().as_str()).unwrap();
        let height = *served.height.borrow();
        served
            .validity
            .as_ref()
            .unwrap()
            .report(None, height)
            .unwrap()
    }

    /// Waits until two organizations have been heard of so many blocks.
    async fn hears(&self, height: u64) {
        soon(async {
            while self.report().heard < height {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The first code of each block, as a client gets them.
    async fn given(&self, chain: &Chain) -> Vec<u8> {
        let app = chain.material.org1.member("app", "client");
        let mut asked = Asked::open(&connect(&self.node).await, Method::Blocks)
            .await
            .unwrap();
        let last = at(chain.height() - 1);
        asked.ask(now_of(&app, &seek(at(0), last))).await;
        let mut given = Vec::new();
        for _ in 0..chain.height() {
            let block = asked.block().await;
            assert!(
                block.metadata.as_ref().unwrap().metadata.len() <= 4,
                "no commit hash"
            );
            given.push(codes(&block)[0]);
        }
        given
    }

    async fn stop(self) {
        self.node.stop().await;
        for (_, node) in self.others {
            node.stop().await;
        }
    }
}

#[tokio::test]
async fn codes_are_given_once_two_organizations_agree_and_after_a_restart() {
    let (mut chain, orderer) = ordering(1).await;
    let mut scene = Scene::new(&mut chain).await;
    chain.grow_to(6);
    orderer.serve(chain.blocks.clone());
    scene.join(&chain).await;
    scene.own.serve(&chain, |_, _| {});
    // One organization alone is not enough, and nobody waits for the other for long.
    soon(async {
        while scene.report().blocks[5].standing != Standing::Claimed {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(scene.given(&chain).await, [0, 254, 254, 254, 254, 254]);
    scene.other.serve(&chain, |_, _| {});
    scene.hears(6).await;
    assert_eq!(
        scene.given(&chain).await,
        [0, 0, 0, 11, 0, 0],
        "and nothing of what was kept"
    );
    assert!(scene.node.health().failed_checks().await.is_empty());
    assert_eq!(soon(scene.other.starts.recv()).await, Some(1));

    let Scene {
        seat,
        node,
        others,
        mut own,
        mut other,
    } = scene;
    node.stop().await;
    while own.starts.try_recv().is_ok() || other.starts.try_recv().is_ok() {}
    let node = seat
        .start(TcpListener::bind(seat.address).await.unwrap())
        .await;
    assert_eq!(soon(other.starts.recv()).await, Some(6), "it goes on");
    let scene = Scene {
        seat,
        node,
        others,
        own,
        other,
    };
    assert_eq!(scene.given(&chain).await, [0, 0, 0, 11, 0, 0]);
    scene.stop().await;
}

#[tokio::test]
async fn an_organization_without_old_blocks_is_heard_of_new_ones() {
    let (mut chain, orderer) = ordering(1).await;
    let mut scene = Scene::new(&mut chain).await;
    chain.grow_to(4);
    orderer.serve(chain.blocks.clone());
    scene.own.serve(&chain, |_, _| {});
    scene.other.serve(&chain, |_, _| {});
    scene.other.begins.send_replace(4);
    scene.join(&chain).await;
    soon(async { while scene.other.starts.recv().await != Some(4) {} }).await;
    chain.grow_to(6);
    orderer.serve(chain.blocks.clone());
    scene.own.serve(&chain, |_, _| {});
    scene.other.serve(&chain, |_, _| {});
    scene.hears(6).await;
    assert_eq!(scene.given(&chain).await, [0, 254, 254, 254, 0, 0]);
    scene.stop().await;
}

#[tokio::test]
async fn whatever_one_organization_says_otherwise_is_an_alarm_and_never_agreed() {
    let (mut chain, orderer) = ordering(1).await;
    let mut scene = Scene::new(&mut chain).await;
    chain.grow_to(8);
    orderer.serve(chain.blocks.clone());
    scene.join(&chain).await;
    scene.own.serve(&chain, |_, _| {});
    scene.other.serve(&chain, |number, block| match number {
        2 => validated(block, &[10], "a hash"),
        3 => validated(block, &[11, 0], "a hash"),
        4 => block.header.as_mut().unwrap().data_hash = Bytes::from_static(b"another"),
        5 => validated(block, &[0], "another"),
        6 => validated(block, &[11], ""),
        _ => {}
    });
    scene.hears(8).await;
    assert_eq!(scene.given(&chain).await, [0, 0, 254, 254, 254, 254, 11, 0]);
    let report = scene.report();
    assert_eq!((report.disputed, report.first_disputed), (4, Some(2)));
    let counted = scene.node.metrics().text();
    for kind in ["codes", "count", "header", "commit hash"] {
        let line =
            format!(r#"tidings_validity_disagreements{{channel="mychannel",kind="{kind}"}} 1"#);
        assert!(counted.contains(&line), "{kind}: {counted}");
    }
    let failed = scene.node.health().failed_checks().await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].component, "validity/mychannel");
    scene.stop().await;
}
