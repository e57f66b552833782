//! Blocks and events for client applications, over real sockets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use tidings_node::service::RunningNode;
use tidings_proto::{
    common::{
        Block, BlockMetadataIndex, ChannelHeader, Envelope, Header, HeaderType, Payload,
        SignatureHeader, Status,
    },
    orderer::{
        SeekInfo, SeekNewest, SeekNextCommit, SeekOldest, SeekPosition, SeekSpecified,
        seek_info::{SeekBehavior, SeekContentType},
        seek_position::Type as Position,
    },
    protos::{
        AcLs, ApiResource, ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction,
        ChaincodeEvent, DeliverResponse, FilteredBlock, ProposalResponsePayload, Transaction,
        TransactionAction, deliver_client::DeliverClient, deliver_response::Type,
        filtered_transaction::Data,
    },
};
use tokio::{sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

use crate::{
    chain::Chain,
    leader,
    material::{self, CHANNEL, Member, tree},
    ordering,
    peer::{Seat, channel, reaches, soon},
};

pub(crate) const OLDEST: Position = Position::Oldest(SeekOldest {});
pub(crate) const NEWEST: Position = Position::Newest(SeekNewest {});

pub(crate) fn at(number: u64) -> Position {
    Position::Specified(SeekSpecified { number })
}

pub(crate) fn seek(start: Position, stop: Position) -> SeekInfo {
    let position = |of| Some(SeekPosition { r#type: Some(of) });
    SeekInfo {
        start: position(start),
        stop: position(stop),
        ..SeekInfo::default()
    }
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

/// A request of this client at that time.
fn request(client: &Member, channel: &str, at: i64, info: &SeekInfo) -> Envelope {
    let header = ChannelHeader {
        r#type: HeaderType::DeliverSeekInfo.into(),
        channel_id: channel.to_owned(),
        timestamp: Some(Timestamp {
            seconds: at,
            nanos: 0,
        }),
        ..ChannelHeader::default()
    };
    let signer = SignatureHeader {
        creator: client.identity.clone(),
        nonce: vec![1; 24].into(),
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: header.encode_to_vec().into(),
            signature_header: signer.encode_to_vec().into(),
        }),
        data: info.encode_to_vec().into(),
    };
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = client.sign(&payload);
    Envelope { payload, signature }
}

pub(crate) fn now_of(client: &Member, info: &SeekInfo) -> Envelope {
    request(client, CHANNEL, now(), info)
}

pub(crate) async fn connect(node: &RunningNode) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", node.address())).unwrap();
    endpoint.connect().await.unwrap()
}

pub(crate) enum Method {
    Blocks,
    Filtered,
    WithPrivateData,
}

/// A stream on which requests are made one after the other.
pub(crate) struct Asked {
    requests: mpsc::Sender<Envelope>,
    responses: Streaming<DeliverResponse>,
}

impl Asked {
    pub(crate) async fn open(to: &Channel, method: Method) -> Result<Self, tonic::Status> {
        let (requests, waiting) = mpsc::channel(4);
        let mut client = DeliverClient::new(to.clone());
        let waiting = ReceiverStream::new(waiting);
        let responses = match method {
            Method::Blocks => client.deliver(waiting).await,
            Method::Filtered => client.deliver_filtered(waiting).await,
            Method::WithPrivateData => client.deliver_with_private_data(waiting).await,
        };
        Ok(Self {
            requests,
            responses: responses?.into_inner(),
        })
    }

    pub(crate) async fn ask(&self, request: Envelope) {
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Option<Type> {
        let response = soon(self.responses.message()).await.unwrap()?;
        Some(response.r#type.unwrap())
    }

    pub(crate) async fn block(&mut self) -> Block {
        match self.next().await {
            Some(Type::Block(block)) => block,
            other => panic!("{other:?}"),
        }
    }

    async fn filtered(&mut self) -> FilteredBlock {
        match self.next().await {
            Some(Type::FilteredBlock(block)) => block,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn status(&mut self) -> Status {
        match self.next().await {
            Some(Type::Status(status)) => Status::try_from(status).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// What a request is answered with that is refused.
pub(crate) async fn refused(to: &Channel, request: Envelope) -> Status {
    let mut asked = Asked::open(to, Method::Blocks).await.unwrap();
    asked.ask(request).await;
    let status = asked.status().await;
    assert_eq!(asked.next().await, None, "the stream ends");
    status
}

/// A node with the chain, and a client of its organization.
async fn scene(chain: &Chain) -> (Seat, RunningNode, Channel, Member) {
    let (seat, mut node) = leader(chain).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&node, chain.height()).await;
    let to = connect(&node).await;
    (seat, node, to, chain.material.org1.member("app", "client"))
}

pub(crate) fn codes(block: &Block) -> Bytes {
    let metadata = block.metadata.as_ref().unwrap();
    metadata.metadata[BlockMetadataIndex::TransactionsFilter as usize].clone()
}

#[tokio::test]
async fn blocks_are_given_as_they_are_and_nothing_is_passed_off_as_valid() {
    let (chain, _orderer) = ordering(5).await;
    let (_seat, node, to, app) = scene(&chain).await;
    let mut asked = Asked::open(&to, Method::Blocks).await.unwrap();
    asked.ask(now_of(&app, &seek(OLDEST, NEWEST))).await;
    for (number, ours) in chain.blocks.iter().enumerate() {
        let block = asked.block().await;
        let ours = Block::decode(ours.clone()).unwrap();
        assert_eq!((&block.header, &block.data), (&ours.header, &ours.data));
        let metadata = block.metadata.as_ref().unwrap();
        assert_eq!(metadata.metadata[0], ours.metadata.unwrap().metadata[0]);
        assert!(metadata.metadata.len() <= 4, "no commit hash");
        // Of block 0 we know, by it the channel was joined.
        assert_eq!(codes(&block)[..], [if number == 0 { 0 } else { 254 }]);
    }
    assert_eq!(asked.status().await, Status::Success);
    // The stream stays open for more.
    asked.ask(now_of(&app, &seek(at(3), at(3)))).await;
    assert_eq!(asked.block().await.header.unwrap().number, 3);
    assert_eq!(asked.status().await, Status::Success);
    let headers = SeekInfo {
        content_type: SeekContentType::HeaderWithSig.into(),
        ..seek(at(0), at(1))
    };
    asked.ask(now_of(&app, &headers)).await;
    assert!(asked.block().await.data.is_some(), "it is configuration");
    assert_eq!(asked.block().await.data, None);
    node.stop().await;
}

#[tokio::test]
async fn a_client_follows_the_chain_until_the_channel_is_left() {
    let (mut chain, orderer) = ordering(2).await;
    let (_seat, mut node, to, app) = scene(&chain).await;
    let mut asked = Asked::open(&to, Method::Blocks).await.unwrap();
    asked.ask(now_of(&app, &seek(at(2), at(u64::MAX)))).await;
    let mut next = Asked::open(&to, Method::Blocks).await.unwrap();
    let position = Position::NextCommit(SeekNextCommit {});
    next.ask(now_of(&app, &seek(position, at(u64::MAX)))).await;
    for height in 3..6 {
        chain.grow_to(height);
        orderer.serve(chain.blocks.clone());
        for stream in [&mut asked, &mut next] {
            assert_eq!(stream.block().await.header.unwrap().number, height - 1);
        }
    }
    // One that is in the middle of the chain, and one that reads nothing, are not served further.
    let mut behind = Asked::open(&to, Method::Blocks).await.unwrap();
    behind.ask(now_of(&app, &seek(at(0), at(u64::MAX)))).await;
    behind.block().await;
    node.leave(&channel()).await.unwrap();
    loop {
        match behind.next().await {
            Some(Type::Block(_)) => {}
            Some(Type::Status(status)) => {
                break assert_eq!(status, i32::from(Status::ServiceUnavailable));
            }
            other => panic!("{other:?}"),
        }
    }
    for stream in [&mut asked, &mut next] {
        assert_eq!(stream.status().await, Status::ServiceUnavailable);
        assert_eq!(stream.next().await, None);
    }
    let gone = refused(&to, now_of(&app, &seek(OLDEST, NEWEST))).await;
    assert_eq!(gone, Status::NotFound);
    node.stop().await;
}

#[tokio::test]
async fn a_request_that_is_not_good_has_fabrics_status() {
    let (chain, _orderer) = ordering(3).await;
    let (_seat, node, to, app) = scene(&chain).await;
    let stranger = material::Organization::new("Strange").member("app", "client");
    let all = seek(OLDEST, NEWEST);
    let mut altered = now_of(&app, &all);
    altered.signature = stranger.sign(&altered.payload);
    let mut garbage = now_of(&app, &all);
    garbage.payload = Bytes::from_static(b"\xff\xff");
    let impatient = SeekInfo {
        behavior: SeekBehavior::FailIfNotReady.into(),
        ..seek(at(3), at(9))
    };
    let quarter = 16 * 60;
    for (expected, request) in [
        (Status::BadRequest, garbage),
        (Status::BadRequest, Envelope::default()),
        (
            Status::BadRequest,
            request(&app, CHANNEL, now() - quarter, &all),
        ),
        (
            Status::BadRequest,
            request(&app, CHANNEL, now() + quarter, &all),
        ),
        (Status::BadRequest, now_of(&app, &SeekInfo::default())),
        (Status::BadRequest, now_of(&app, &seek(at(2), at(1)))),
        (Status::NotFound, request(&app, "elsewhere", now(), &all)),
        (Status::NotFound, now_of(&app, &seek(at(4), at(9)))),
        (Status::NotFound, now_of(&app, &impatient)),
        (Status::Forbidden, now_of(&stranger, &all)),
        (Status::Forbidden, altered),
    ] {
        assert_eq!(refused(&to, request).await, expected);
    }
    node.stop().await;
}

#[tokio::test]
async fn who_may_no_longer_read_is_cut_off_in_the_middle() {
    let (mut chain, orderer) = ordering(2).await;
    let (_seat, node, to, app) = scene(&chain).await;
    let foreign = chain.material.org2.member("app", "client");
    let (mut ours, mut theirs) = (
        Asked::open(&to, Method::Blocks).await.unwrap(),
        Asked::open(&to, Method::Blocks).await.unwrap(),
    );
    for (stream, client) in [(&ours, &app), (&theirs, &foreign)] {
        let all = seek(at(1), at(u64::MAX));
        stream.ask(now_of(client, &all)).await;
    }
    for stream in [&mut ours, &mut theirs] {
        assert_eq!(stream.block().await.header.unwrap().number, 1);
    }
    chain.revoke(&foreign);
    chain.grow_to(4);
    orderer.serve(chain.blocks.clone());
    // The configuration block itself is sent before it is in force.
    loop {
        match theirs.next().await {
            Some(Type::Block(block)) => assert_eq!(block.header.unwrap().number, 2),
            Some(Type::Status(status)) => break assert_eq!(status, i32::from(Status::Forbidden)),
            other => panic!("{other:?}"),
        }
    }
    for number in 2..4 {
        assert_eq!(ours.block().await.header.unwrap().number, number);
    }
    node.stop().await;
}

/// Has the channel's ACLs give a resource to the administrators of all organizations.
fn keep_to_administrators(chain: &mut Chain, resource: &str) {
    let alter = |group: &mut tidings_proto::common::ConfigGroup, _: &material::Material| {
        let application = tree::at(group, &["Application"]);
        let entry = ApiResource {
            policy_ref: "Admins".to_owned(),
        };
        let acls = AcLs {
            acls: [(resource.to_owned(), entry)].into(),
        };
        tree::put(application, "ACLs", &acls);
        application.version += 1;
    };
    let first = chain.material.org1.member("admin", "admin");
    let second = chain.material.org2.member("admin", "admin");
    chain.reconfigure(alter, &[&first, &second]);
}

#[tokio::test]
async fn the_channel_says_who_may_have_what() {
    let (door, address) = crate::orderer::Orderer::door().await;
    let mut chain = Chain::new(&address.to_string());
    keep_to_administrators(&mut chain, "event/FilteredBlock");
    let _orderer = crate::orderer::Orderer::start(door, chain.blocks.clone());
    let (_seat, node, to, app) = scene(&chain).await;
    let all = seek(OLDEST, NEWEST);
    let mut blocks = Asked::open(&to, Method::Blocks).await.unwrap();
    blocks.ask(now_of(&app, &all)).await;
    blocks.block().await;
    let mut events = Asked::open(&to, Method::Filtered).await.unwrap();
    events.ask(now_of(&app, &all)).await;
    assert_eq!(events.status().await, Status::Forbidden);
    node.stop().await;
}

fn endorsed(event: &ChaincodeEvent) -> Vec<u8> {
    let action = ChaincodeAction {
        events: event.encode_to_vec().into(),
        ..ChaincodeAction::default()
    };
    let response = ProposalResponsePayload {
        extension: action.encode_to_vec().into(),
        ..ProposalResponsePayload::default()
    };
    let payload = ChaincodeActionPayload {
        action: Some(ChaincodeEndorsedAction {
            proposal_response_payload: response.encode_to_vec().into(),
            ..ChaincodeEndorsedAction::default()
        }),
        ..ChaincodeActionPayload::default()
    };
    Transaction {
        actions: vec![TransactionAction {
            payload: payload.encode_to_vec().into(),
            ..TransactionAction::default()
        }],
    }
    .encode_to_vec()
}

#[tokio::test]
async fn events_come_without_payloads_and_what_does_not_decode_has_a_status_in_its_place() {
    let (mut chain, orderer) = ordering(1).await;
    let event = ChaincodeEvent {
        chaincode_id: "basic".to_owned(),
        tx_id: "of the event".to_owned(),
        event_name: "made".to_owned(),
        payload: Bytes::from_static(b"secret"),
    };
    let kind = HeaderType::EndorserTransaction;
    let peer = &chain.material.peer1;
    let with_event = material::transaction(kind, CHANNEL, peer, endorsed(&event));
    let without = endorsed(&ChaincodeEvent::default());
    let without = material::transaction(kind, CHANNEL, peer, without);
    chain.add([with_event, without]);
    // Its transaction does not decode.
    chain.grow_to(3);
    orderer.serve(chain.blocks.clone());
    let (_seat, node, to, app) = scene(&chain).await;
    let mut events = Asked::open(&to, Method::Filtered).await.unwrap();
    events.ask(now_of(&app, &seek(OLDEST, NEWEST))).await;
    let genesis = events.filtered().await;
    assert_eq!(genesis.filtered_transactions[0].r#type, 1);
    assert_eq!(genesis.filtered_transactions[0].tx_validation_code, 0);
    let block = events.filtered().await;
    assert_eq!((block.channel_id.as_str(), block.number), (CHANNEL, 1));
    let [first, second] = &block.filtered_transactions[..] else {
        panic!("{block:?}");
    };
    for each in [first, second] {
        assert_eq!((each.txid.as_str(), each.r#type), ("an id", 3));
        assert_eq!(each.tx_validation_code, 254, "nobody has validated it");
    }
    let events_of = |data: &Option<Data>| {
        let Some(Data::TransactionActions(actions)) = data else {
            panic!("{data:?}");
        };
        actions.chaincode_actions.clone()
    };
    let told = events_of(&first.data)[0].chaincode_event.clone().unwrap();
    let payload = Bytes::new();
    assert_eq!(told, ChaincodeEvent { payload, ..event });
    assert_eq!(events_of(&second.data), []);
    assert_eq!(
        events.status().await,
        Status::BadRequest,
        "in place of block 2"
    );
    assert_eq!(events.status().await, Status::Success);
    node.stop().await;
}

#[tokio::test]
async fn blocks_come_with_private_data_if_there_is_any() {
    let (chain, _orderer) = ordering(2).await;
    let (_seat, node, to, app) = scene(&chain).await;
    let mut asked = Asked::open(&to, Method::WithPrivateData).await.unwrap();
    asked.ask(now_of(&app, &seek(at(1), at(1)))).await;
    let Some(Type::BlockAndPrivateData(both)) = asked.next().await else {
        panic!("no block with private data");
    };
    assert_eq!(both.block.unwrap().header.unwrap().number, 1);
    assert!(both.private_data_map.is_empty());
    assert_eq!(asked.status().await, Status::Success);
    node.stop().await;
}

#[tokio::test]
async fn there_are_only_so_many_streams() {
    let (chain, _orderer) = ordering(1).await;
    let (seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    let mut config = seat.config(listener);
    config.clients.streams_max = 2;
    let mut node = Box::pin(RunningNode::start(config)).await.unwrap();
    node.join(chain.blocks[0].clone()).await.unwrap();
    let to = connect(&node).await;
    let app = chain.material.org1.member("app", "client");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = Asked::open(&to, Method::Blocks).await.unwrap();
        stream.ask(now_of(&app, &seek(OLDEST, at(u64::MAX)))).await;
        stream.block().await;
        open.push(stream);
    }
    let one_more = async || {
        let mut stream = Asked::open(&to, Method::Blocks).await.unwrap();
        stream.ask(now_of(&app, &seek(OLDEST, OLDEST))).await;
        soon(stream.responses.message()).await
    };
    let refused = one_more().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("deliverService"), "{refused}");
    // One that ends makes room, as soon as the node hears of it.
    open.pop();
    while one_more().await.is_err() {}
    node.stop().await;
}

/// Lets time pass at once, for the node and for its clients.
async fn pass(seconds: u64) {
    time::pause();
    time::advance(Duration::from_secs(seconds)).await;
    time::resume();
}

#[tokio::test]
async fn who_asks_for_nothing_has_a_time() {
    let (chain, _orderer) = ordering(1).await;
    let (_seat, node, to, app) = scene(&chain).await;
    let request = || now_of(&app, &seek(OLDEST, NEWEST));
    let mut stranger = Asked::open(&to, Method::Blocks).await.unwrap();
    let mut known = Asked::open(&to, Method::Blocks).await.unwrap();
    // Little of what it has: the rest is for a machine that is slow meanwhile.
    pass(1).await;
    known.ask(request()).await;
    known.block().await;
    assert_eq!(known.status().await, Status::Success);
    pass(9).await;
    let ended = soon(stranger.responses.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::DeadlineExceeded);
    assert_eq!(ended.message(), "no request for 10 seconds");
    pass(10).await;
    known.ask(request()).await;
    known.block().await;
    assert_eq!(known.status().await, Status::Success);
    pass(60).await;
    let ended = soon(known.responses.message()).await.unwrap_err();
    assert_eq!(ended.message(), "no request for 60 seconds");
    node.stop().await;
}

#[tokio::test]
async fn requests_are_short() {
    let (chain, _orderer) = ordering(1).await;
    let (_seat, node, to, app) = scene(&chain).await;
    let mut long = now_of(&app, &seek(OLDEST, NEWEST));
    long.signature = vec![0; 64 << 10].into();
    let mut asked = Asked::open(&to, Method::Blocks).await.unwrap();
    asked.ask(long).await;
    let ended = soon(asked.responses.message()).await;
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    node.stop().await;
}

#[tokio::test]
async fn many_clients_read_the_same_bytes() {
    let (mut chain, orderer) = ordering(1).await;
    chain.fill_to(40);
    orderer.serve(chain.blocks.clone());
    let (_seat, node, _, app) = scene(&chain).await;
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let to = connect(&node).await;
        for _ in 0..16 {
            let (to, request) = (to.clone(), now_of(&app, &seek(OLDEST, NEWEST)));
            reading.spawn(async move {
                let mut stream = Asked::open(&to, Method::Blocks).await.unwrap();
                stream.ask(request).await;
                let mut read = Vec::new();
                for number in 0..40 {
                    let block = stream.block().await;
                    assert_eq!(block.header.as_ref().unwrap().number, number);
                    read.extend(block.encode_to_vec());
                }
                assert_eq!(stream.status().await, Status::Success);
                tidings_msp::crypto::sha256(&read)
            });
        }
    }
    let read = soon(reading.join_all()).await;
    assert_eq!(read.len(), 64);
    assert!(read.iter().all(|hash| *hash == read[0]));
    node.stop().await;
}
