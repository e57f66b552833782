//! The orderer as its clients see it: over TLS and gRPC on a loopback port, with the identities
//! and the genesis block of a made network.

use std::time::SystemTime;

use tempfile::TempDir;
use tidings_msp::crypto::sha256;
use tidings_msp::verify_block::verify_block;
use tidings_node::tls::{self, TlsSettings};
use tidings_proto::Message;
use tidings_proto::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status,
};
use tidings_proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use tidings_proto::orderer::deliver_response::Type;
use tidings_proto::orderer::seek_position::Type as Position;
use tidings_proto::orderer::{
    DeliverResponse, SeekInfo, SeekNewest, SeekOldest, SeekPosition, SeekSpecified,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

mod refusals;
#[path = "../../tests/citizen/update.rs"]
mod update;

use super::*;
use crate::demo::load::Load;
use crate::demo::material::Material;
use crate::demo::sample;
use crate::signer;

/// Ends a request that waits for blocks.
const FOR_EVER: Position = Position::Specified(SeekSpecified { number: u64::MAX });

const OLDEST: Position = Position::Oldest(SeekOldest {});

const NEWEST: Position = Position::Newest(SeekNewest {});

struct Scene {
    _dir: TempDir,
    material: Material,
    orderer: Orderer,
    endpoint: String,
    /// TLS of a peer of the first organization, to dial with.
    client: Tls,
}

fn tls_of(member: &crate::demo::material::Member) -> Tls {
    let settings = TlsSettings {
        certificate: member.tls_file("server.crt").unwrap(),
        key: member.tls_file("server.key").unwrap(),
        roots: vec![member.tls_file("ca.crt").unwrap()],
        ..TlsSettings::default()
    };
    Tls::new(&settings, SystemTime::now()).unwrap()
}

impl Scene {
    async fn with(mutual: bool, records: bool) -> Self {
        let (dir, material) = sample::network(2);
        let listener = listen(0).await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let chain = Chain::open(
            &dir.path().join("orderer"),
            &material.genesis,
            Box::new(|_| {}),
        )
        .unwrap();
        let door = Door {
            listener,
            tls: tls_of(&material.orderer),
            mutual,
        };
        let orderer = if records {
            Orderer::serving(chain, door)
        } else {
            let signer = signer::read(&material.orderer.msp, "OrdererMSP").unwrap();
            Orderer::ordering(chain, signer, door)
        };
        let client = tls_of(&material.orgs[0].peers[0]);
        Self {
            _dir: dir,
            material,
            orderer,
            endpoint,
            client,
        }
    }

    async fn ordering() -> Self {
        Self::with(false, false).await
    }

    fn load(&self) -> Load {
        Load::of(&self.material, 1000).unwrap()
    }

    /// Submits transactions; two make a block.
    async fn submit(&self, count: usize) {
        let load = self.load();
        for _ in 0..count {
            self.orderer
                .submit(load.transaction().unwrap())
                .await
                .unwrap();
        }
    }

    async fn reach(&self, height: u64) {
        self.orderer
            .chain()
            .heights()
            .wait_for(|now| *now >= height)
            .await
            .unwrap();
    }

    async fn dial(&self, show_certificate: bool) -> AtomicBroadcastClient<Channel> {
        let roots = [self.material.orderer.tls_file("ca.crt").unwrap()];
        let identity = self.client.client_identity();
        let channel = tls::channel(&self.endpoint, Some(&identity), &roots, show_certificate)
            .await
            .unwrap();
        AtomicBroadcastClient::new(channel)
    }

    async fn deliver(&self, requests: Vec<Envelope>) -> Streaming<DeliverResponse> {
        let client = self.dial(false).await;
        deliver_on(client, requests).await
    }

    /// The only answer to one request.
    async fn refused(&self, ask: Ask) -> Status {
        let mut stream = self.deliver(vec![ask.sign(self)]).await;
        let answer = next(&mut stream).await;
        assert_eq!(
            next(&mut stream).await,
            Answer::End,
            "a refusal ends the stream"
        );
        let Answer::Status(status) = answer else {
            panic!("{answer:?}")
        };
        status
    }
}

async fn deliver_on(
    mut client: AtomicBroadcastClient<Channel>,
    requests: Vec<Envelope>,
) -> Streaming<DeliverResponse> {
    let (sender, receiver) = mpsc::channel(8);
    for request in requests {
        sender.send(request).await.unwrap();
    }
    // The client keeps its side open, as a peer does.
    std::mem::forget(sender);
    client
        .deliver(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner()
}

#[derive(Debug, PartialEq)]
enum Answer {
    Block(u64),
    Status(Status),
    End,
}

async fn next(stream: &mut Streaming<DeliverResponse>) -> Answer {
    match stream
        .message()
        .await
        .unwrap()
        .and_then(|response| response.r#type)
    {
        None => Answer::End,
        Some(Type::Status(status)) => Answer::Status(status.try_into().unwrap()),
        Some(Type::Block(block)) => Answer::Block(block.header.unwrap().number),
    }
}

/// A request for blocks, good unless said otherwise.
struct Ask {
    start: Option<Position>,
    stop: Option<Position>,
    change: fn(&mut ChannelHeader, &mut SeekInfo),
    signer: fn(&Material) -> SigningIdentity,
    spoil: fn(&mut Envelope),
}

impl Ask {
    fn new(start: Position, stop: Position) -> Self {
        Self {
            start: Some(start),
            stop: Some(stop),
            change: |_, _| {},
            signer: |material| {
                signer::read(&material.orgs[0].peers[0].msp, &material.orgs[0].msp_id).unwrap()
            },
            spoil: |_| {},
        }
    }

    fn sign(self, scene: &Scene) -> Envelope {
        let position = |of: Option<Position>| of.map(|of| SeekPosition { r#type: Some(of) });
        let mut info = SeekInfo {
            start: position(self.start),
            stop: position(self.stop),
            ..SeekInfo::default()
        };
        let mut header = ChannelHeader {
            r#type: HeaderType::DeliverSeekInfo.into(),
            timestamp: Some(SystemTime::now().into()),
            channel_id: "sample".into(),
            ..ChannelHeader::default()
        };
        (self.change)(&mut header, &mut info);
        let signer = (self.signer)(&scene.material);
        let signature_header = SignatureHeader {
            creator: signer.serialized().clone(),
            nonce: nonce().unwrap(),
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: header.encode_to_vec().into(),
                signature_header: signature_header.encode_to_vec().into(),
            }),
            data: info.encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        let signature = signer.sign(&payload).unwrap().into();
        let mut envelope = Envelope { payload, signature };
        (self.spoil)(&mut envelope);
        envelope
    }
}

#[tokio::test]
async fn cut_blocks_pass_the_verification_of_a_peer() {
    let scene = Scene::ordering().await;
    scene.submit(5).await;
    scene.reach(4).await;
    let mut previous = sha256(
        &scene
            .orderer
            .chain()
            .block(0)
            .unwrap()
            .unwrap()
            .header_asn1()
            .unwrap(),
    );
    let mut transactions = Vec::new();
    for number in 1..4 {
        let block = scene.orderer.chain().block(number).unwrap().unwrap();
        let facts = verify_block(&scene.material.config, "sample", number, block.bytes()).unwrap();
        assert_eq!(facts.previous_hash, previous.as_slice());
        assert_eq!(facts.last_config_index, Some(0));
        assert_eq!(block.metadata_len(), 5);
        previous = facts.header_hash;
        transactions.push(facts.transactions);
    }
    assert_eq!(
        transactions,
        [2, 2, 1],
        "two by count, the last one by the timeout"
    );
}

#[tokio::test]
async fn deliver_sends_what_is_there_and_then_waits() {
    let scene = Scene::ordering().await;
    scene.submit(2).await;
    scene.reach(2).await;
    let mut stream = scene
        .deliver(vec![Ask::new(OLDEST, FOR_EVER).sign(&scene)])
        .await;
    assert_eq!(next(&mut stream).await, Answer::Block(0));
    assert_eq!(next(&mut stream).await, Answer::Block(1));
    scene.submit(2).await;
    assert_eq!(next(&mut stream).await, Answer::Block(2));
}

#[tokio::test]
async fn one_stream_serves_several_requests() {
    let scene = Scene::ordering().await;
    let requests = vec![
        Ask::new(OLDEST, OLDEST).sign(&scene),
        Ask::new(NEWEST, NEWEST).sign(&scene),
    ];
    let mut stream = scene.deliver(requests).await;
    for _ in 0..2 {
        assert_eq!(next(&mut stream).await, Answer::Block(0));
        assert_eq!(next(&mut stream).await, Answer::Status(Status::Success));
    }
}

#[tokio::test]
async fn headers_come_without_transactions_but_config_blocks_whole() {
    let scene = Scene::ordering().await;
    scene.submit(2).await;
    scene.reach(2).await;
    let mut ask = Ask::new(OLDEST, NEWEST);
    ask.change = |_, info| info.content_type = 1;
    let mut stream = scene.deliver(vec![ask.sign(&scene)]).await;
    let mut data = Vec::new();
    while let Some(Type::Block(block)) = stream.message().await.unwrap().unwrap().r#type {
        data.push(block.data.map(|data| data.data.len()));
    }
    assert_eq!(data, [Some(1), None]);
}

#[tokio::test]
async fn broadcast_takes_transactions_of_writers_only() {
    let scene = Scene::ordering().await;
    let transaction = scene.load().transaction().unwrap();
    let broadcast = async |envelope: Bytes| {
        let mut client = scene.dial(false).await;
        let envelope = Envelope::decode(envelope).unwrap();
        let requests = tokio_stream::once(envelope);
        let mut answers = client.broadcast(requests).await.unwrap().into_inner();
        Status::try_from(answers.message().await.unwrap().unwrap().status).unwrap()
    };
    assert_eq!(broadcast(transaction.clone()).await, Status::Success);

    let mut tampered = Envelope::decode(transaction).unwrap();
    tampered.signature = Bytes::from_static(b"x");
    assert_eq!(
        broadcast(tampered.encode_to_vec().into()).await,
        Status::Forbidden
    );

    let by_peer = Ask::new(OLDEST, NEWEST);
    let message = |change| {
        Ask {
            change,
            ..Ask::new(OLDEST, NEWEST)
        }
        .sign(&scene)
        .encode_to_vec()
    };
    assert_eq!(
        broadcast(by_peer.sign(&scene).encode_to_vec().into()).await,
        Status::BadRequest,
        "a seek request is no transaction"
    );
    let typed = message(|header, _| header.r#type = HeaderType::EndorserTransaction.into());
    assert_eq!(
        broadcast(typed.into()).await,
        Status::Forbidden,
        "peers are not writers"
    );
    let update = message(|header, _| header.r#type = HeaderType::ConfigUpdate.into());
    assert_eq!(
        broadcast(update.into()).await,
        Status::Forbidden,
        "nor do they configure"
    );
    let config = message(|header, _| header.r#type = HeaderType::Config.into());
    assert_eq!(broadcast(config.into()).await, Status::BadRequest);
    let other = message(|header, _| header.channel_id = "other".into());
    assert_eq!(broadcast(other.into()).await, Status::NotFound);

    let large = Load::of(&scene.material, 150_000).unwrap();
    let large = Load::alone(large).transaction().unwrap();
    assert_eq!(broadcast(large).await, Status::RequestEntityTooLarge);
    assert_eq!(
        scene.orderer.chain().height(),
        1,
        "one transaction waits, no other was taken"
    );
}

#[tokio::test]
async fn an_update_gets_a_block_of_its_own_and_is_in_force_at_once() {
    let scene = Scene::ordering().await;
    let before = scene.orderer.chain().config();
    let mut next = before.group().clone();
    let application = next.groups.get_mut("Application").unwrap();
    let org = application.groups.get_mut("Org1").unwrap();
    let anchors = org.values.get_mut("AnchorPeers").unwrap();
    anchors.value = Bytes::new();
    anchors.version += 1;
    let users = scene
        ._dir
        .path()
        .join("crypto/peerOrganizations/org1.demo/users");
    let admin = signer::read(&users.join("Admin@org1.demo/msp"), "Org1MSP").unwrap();
    let client = signer::read(&scene.material.orgs[0].client, "Org1MSP").unwrap();
    let update = |signers: &[&SigningIdentity]| {
        update::update("sample", before.group(), &next, signers).encode_to_vec()
    };
    let refused = scene.orderer.submit(update(&[&client]).into()).await;
    assert_eq!(refused.unwrap_err().status, Status::BadRequest);

    // What waits for its block comes before it.
    scene.submit(1).await;
    let agreed = Bytes::from(update(&[&admin]));
    scene.orderer.submit(agreed.clone()).await.unwrap();
    scene.reach(3).await;
    let chain = scene.orderer.chain();
    assert_eq!(chain.config().sequence(), 1);
    assert_eq!(
        chain.config().application_organizations()["Org1"].anchors,
        []
    );
    let config = chain.block(2).unwrap().unwrap();
    assert!(config.is_config_block());
    assert_eq!(tidings_msp::block::last_config_index(&config), Some(2));
    let late = scene.orderer.submit(agreed).await.unwrap_err();
    assert_eq!(late.status, Status::BadRequest, "{late}");
    scene.submit(2).await;
    scene.reach(4).await;
    let after = chain.block(3).unwrap().unwrap();
    assert_eq!(tidings_msp::block::last_config_index(&after), Some(2));
}

#[tokio::test]
async fn a_recording_is_served_but_not_added_to() {
    let scene = Scene::with(false, true).await;
    let refused = scene
        .orderer
        .submit(scene.load().transaction().unwrap())
        .await
        .unwrap_err();
    assert_eq!(refused.status, Status::ServiceUnavailable);
    let mut stream = scene
        .deliver(vec![Ask::new(OLDEST, OLDEST).sign(&scene)])
        .await;
    assert_eq!(next(&mut stream).await, Answer::Block(0));
}

#[tokio::test]
async fn a_chain_goes_on_where_it_ended() {
    let (dir, material) = sample::network(1);
    let signer = signer::read(&material.orderer.msp, "OrdererMSP").unwrap();
    let load = Load::of(&material, 1000).unwrap();
    let folder = dir.path().join("orderer");
    let open = || Chain::open(&folder, &material.genesis, Box::new(|_| {})).unwrap();
    let append = |chain: &Chain| {
        let transactions = vec![load.transaction().unwrap()];
        chain
            .append(block::make(&signer, chain.next(), transactions).unwrap())
            .unwrap();
    };
    let chain = open();
    append(&chain);
    drop(chain);
    let chain = open();
    assert_eq!(chain.height(), 2);
    append(&chain);
    assert_eq!(chain.height(), 3);
}
