//! Peers of two organizations that say which transactions are valid, and a node that asks them.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use prost::Message;
use tidings_node::{
    service::RunningNode,
    tls::{Closer, Incoming, Tls},
    validity::{OrganizationReport, Report, Standing, ValiditySettings},
};
use tidings_proto::{
    common::{self, Block, BlockMetadataIndex, Envelope, Payload},
    orderer::{SeekInfo, seek_info::SeekContentType, seek_position::Type as Position},
    protos::{
        DeliverResponse,
        deliver_client::DeliverClient,
        deliver_response::Type,
        deliver_server::{Deliver, DeliverServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::{pending, wrappers::ReceiverStream};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    chain::Chain,
    clients::{Asked, Method, at, codes, connect, now_of, seek},
    leader,
    material::Organization,
    orderer::Orderer,
    ordering,
    peer::{Seat, channel, reaches, soon, tls_settings},
};

/// What a node that passes on the codes of others says of itself.
const RELAYS: &str = "tidings-codes-of-others";

type Responses = ReceiverStream<Result<DeliverResponse, Status>>;

/// Stands for a peer that validates: serves blocks with codes. Ends when it is dropped.
struct Validator {
    address: SocketAddr,
    serves: watch::Sender<Vec<Block>>,
    /// Below this it has no blocks, as a peer that began with a snapshot.
    begins: watch::Sender<u64>,
    /// From which block on it was asked.
    starts: mpsc::Receiver<u64>,
    running: Option<(JoinSet<()>, Closer)>,
}

struct Service {
    served: watch::Receiver<Vec<Block>>,
    begins: watch::Receiver<u64>,
    asked: mpsc::Sender<u64>,
    streams: TaskTracker,
    relays: bool,
}

impl Validator {
    async fn start() -> Self {
        Self::start_as(None, false).await
    }

    /// With a TLS certificate of this organization, and as one that says whether it relays.
    async fn start_as(of: Option<&Organization>, relays: bool) -> Self {
        let tls = of.map(|org| Tls::new(&tls_settings(org), SystemTime::now()).unwrap());
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
            relays,
        });
        let (incoming, closer) = Incoming::new(listener, tls);
        let serving = tonic::transport::Server::builder().add_service(service);
        let mut server = JoinSet::new();
        server.spawn(async move {
            serving.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            address,
            serves,
            begins,
            starts,
            running: Some((server, closer)),
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
        let mut response = Response::new(ReceiverStream::new(stream));
        if self.relays {
            let metadata = response.metadata_mut();
            metadata.insert(RELAYS, "true".parse().unwrap());
        }
        Ok(response)
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
        let validators = (Validator::start().await, Validator::start().await);
        Self::with(chain, validators, None, false).await
    }

    /// With these at the places that one of each organization names, and the third perhaps at a place
    /// of its own choosing, all with TLS or without.
    async fn with(
        chain: &mut Chain,
        (own, other): (Validator, Validator),
        third: Option<SocketAddr>,
        is_secured: bool,
    ) -> Self {
        let (org1, org2) = (&chain.material.org1, &chain.material.org2);
        let (mut seat, listener) = Seat::new(org1, "peer0", None).await;
        seat.validity = ValiditySettings {
            organizations: 2,
            turn: Duration::from_millis(50),
            skip_after: Duration::ZERO,
        };
        let (mut mate, at_mate) = Seat::new(org1, "peer1", Some(seat.address)).await;
        mate.elsewhere = Some(own.address);
        let (mut like_us, at_like_us) = Seat::new(org1, "peer2", Some(seat.address)).await;
        let (mut foreign, at_foreign) = Seat::new(org2, "peer0", None).await;
        foreign.leader = false;
        like_us.elsewhere = third;
        if is_secured {
            for seat in [&mut seat, &mut mate, &mut like_us] {
                seat.tls = Some(tls_settings(org1));
            }
            foreign.tls = Some(tls_settings(org2));
        }
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

    /// Waits until an organization is not heard for a reason that says this.
    async fn is_not_heard(&self, org: &str, why: &str) {
        let says = |reason: Option<String>| reason.is_some_and(|reason| reason.contains(why));
        soon(async {
            loop {
                let mut organizations = self.report().organizations.into_iter();
                if organizations.any(|each| each.organization == org && says(each.not_heard)) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until a block stands so.
    async fn stands(&self, number: usize, standing: Standing) {
        soon(async {
            while self.report().blocks[number].standing != standing {
                tokio::task::yield_now().await;
            }
        })
        .await;
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
    scene.stands(5, Standing::Claimed).await;
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
    let again = "what was heard is not asked again";
    assert_eq!(soon(other.starts.recv()).await, Some(6), "{again}");
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

#[tokio::test]
async fn two_peers_of_one_organization_that_disagree_are_an_alarm() {
    let (mut chain, orderer) = ordering(1).await;
    let validators = (Validator::start().await, Validator::start().await);
    let mut third = Validator::start().await;
    let place = Some(third.address);
    let mut scene = Scene::with(&mut chain, validators, place, false).await;
    chain.grow_to(6);
    orderer.serve(chain.blocks.clone());
    scene.own.serve(&chain, |_, _| {});
    third.serve(&chain, |number, block| {
        if number == 4 {
            validated(block, &[10], "a hash");
        }
    });
    scene.join(&chain).await;
    scene.stands(5, Standing::Claimed).await;
    // Which of them is followed is not in our hands. The other one is asked when its turn comes.
    let mut organizations = scene.report().organizations.into_iter();
    let org1 = organizations.find(|each| each.organization == "Org1MSP");
    let is_third_followed = org1.unwrap().heard_of == Some(third.address.to_string());
    let second = if is_third_followed {
        &scene.own
    } else {
        &third
    };
    let peer = second.address.to_string();
    scene.stands(4, Standing::Disputed).await;
    let report = scene.report();
    assert_eq!((report.disputed, report.first_disputed), (1, Some(4)));
    let disputed = &report.blocks[4];
    assert_eq!(disputed.claimed_by, ["Org1MSP"]);
    let [against] = &disputed.against[..] else {
        panic!("{disputed:?}");
    };
    assert_eq!(against.organization, "Org1MSP");
    assert!(against.what.contains(&peer), "{against:?}");
    let counted = scene.node.metrics().text();
    let line = r#"tidings_validity_disputed{channel="mychannel"} 1"#;
    assert!(counted.contains(line), "{counted}");
    assert_eq!(scene.node.health().failed_checks().await.len(), 1);
    // One whose member leaves the channel is not followed any more, though it gives blocks.
    let (_, member) = &mut scene.others[usize::from(is_third_followed)];
    member.leave(&channel()).await.unwrap();
    soon(async {
        let is_heard = |each: OrganizationReport| each.heard_of.as_ref() == Some(&peer);
        while !scene.report().organizations.into_iter().any(is_heard) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nor is one that is gone.
    let followed = if is_third_followed {
        &mut scene.own
    } else {
        &mut third
    };
    followed.running = None;
    scene.is_not_heard("Org1MSP", &peer).await;
    scene.stop().await;
}

#[tokio::test]
async fn codes_that_somebody_passes_on_count_for_nothing() {
    let (mut chain, orderer) = ordering(1).await;
    let validators = (
        Validator::start().await,
        Validator::start_as(None, true).await,
    );
    let mut scene = Scene::with(&mut chain, validators, None, false).await;
    chain.grow_to(4);
    orderer.serve(chain.blocks.clone());
    scene.own.serve(&chain, |_, _| {});
    scene.other.serve(&chain, |_, _| {});
    scene.join(&chain).await;
    scene.is_not_heard("Org2MSP", "is a tidings node").await;
    scene.stands(3, Standing::Claimed).await;
    assert_eq!(scene.report().blocks[3].claimed_by, ["Org1MSP"]);
    assert_eq!(scene.given(&chain).await, [0, 254, 254, 254]);
    scene.stop().await;
}

#[tokio::test]
async fn a_node_says_on_every_stream_that_its_codes_are_those_of_others() {
    let (chain, _orderer) = ordering(1).await;
    let (_seat, node) = leader(&chain).await;
    let mut client = DeliverClient::new(connect(&node).await);
    for responses in [
        client.deliver(pending()).await,
        client.deliver_filtered(pending()).await,
        client.deliver_with_private_data(pending()).await,
    ] {
        let responses = responses.unwrap();
        assert!(responses.metadata().contains_key(RELAYS));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_peer_is_heard_with_a_certificate_of_the_organization_that_names_it() {
    for is_same in [true, false] {
        let (door, address) = Orderer::door().await;
        let mut chain = Chain::new(&address.to_string());
        let material = &chain.material;
        let orderer = Orderer::start_secured(&material.orderer_a, door, chain.blocks.clone());
        let certifier = if is_same {
            &material.org2
        } else {
            &material.org1
        };
        let own = Validator::start_as(Some(&material.org1), false).await;
        let other = Validator::start_as(Some(certifier), false).await;
        let mut scene = Scene::with(&mut chain, (own, other), None, true).await;
        chain.grow_to(3);
        orderer.serve(chain.blocks.clone());
        scene.own.serve(&chain, |_, _| {});
        scene.other.serve(&chain, |_, _| {});
        scene.join(&chain).await;
        if is_same {
            scene.stands(2, Standing::Agreed).await;
        } else {
            scene
                .is_not_heard("Org2MSP", "is not reached: TLS with")
                .await;
            scene.stands(2, Standing::Claimed).await;
            assert_eq!(scene.report().blocks[2].claimed_by, ["Org1MSP"]);
            assert!(scene.other.starts.try_recv().is_err(), "it was asked");
        }
        scene.stop().await;
    }
}
