//! Identities that anybody can forge, nodes that have them, and peers that say what a test wants.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream};
use prost::Message as _;
use tidings_gossip::{
    Connection, Input, PeerIdentity,
    effect::Destination,
    id::{OrgId, PkiId},
};
use tidings_msp::crypto::{sha256, sha256_parts};
use tidings_proto::{
    envelope::Opened,
    gossip::{
        ConnEstablish, Empty, Envelope, GossipHello, GossipMessage, PullMsgType,
        gossip_client::GossipClient,
        gossip_message::{Content, Tag},
        gossip_server::{Gossip, GossipServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    service::Routes,
    transport::{Channel, Server},
};

use crate::{
    comm::{Authenticator, Comm, CommConfig, Inbox, MESSAGE_LEN_MAX, Refused, Surroundings},
    metrics::Metrics,
    tls::{
        self, Closer, Dial, Dialed, Incoming, Listen, Tls, memory::Memory,
        tests::certificates::Authority,
    },
};

/// What is still queued when nobody reads.
const INPUTS: usize = 10_000;

/// An identity is `org/name`. Its signature is a hash that anybody can compute.
pub(super) fn identity(name: &str) -> Arc<PeerIdentity> {
    let (org, _) = name.split_once('/').unwrap();
    Arc::new(PeerIdentity {
        pki_id: PkiId::new(sha256(name.as_bytes())),
        org: OrgId::from(org),
        serialized: Bytes::copy_from_slice(name.as_bytes()),
        expires_at: i64::MAX,
    })
}

pub(super) fn sign(signer: &[u8], message: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&sha256_parts(&[signer, message]))
}

/// A `conn` that everybody accepts, to be spoiled.
pub(super) fn claim(name: &str, certificate_sha256: Option<[u8; 32]>) -> ConnEstablish {
    let identity = identity(name);
    ConnEstablish {
        pki_id: Bytes::copy_from_slice(identity.pki_id.as_bytes()),
        identity: identity.serialized.clone(),
        tls_cert_hash: certificate_sha256
            .map(|sha256| Bytes::copy_from_slice(&sha256))
            .unwrap_or_default(),
        probe: false,
    }
}

/// The message in an envelope that the claimed identity signed.
pub(super) fn signed(claim: ConnEstablish) -> Envelope {
    let signer = claim.identity.clone();
    let message = GossipMessage {
        tag: Tag::Empty.into(),
        content: Some(Content::Conn(claim)),
        ..GossipMessage::default()
    };
    let payload: Bytes = message.encode_to_vec().into();
    let signature = sign(&signer, &payload);
    Envelope::signed(payload, signature)
}

/// A message with a number.
pub(super) fn hello(nonce: u64) -> Envelope {
    let hello = GossipHello {
        nonce,
        metadata: Bytes::new(),
        msg_type: PullMsgType::IdentityMsg.into(),
    };
    Envelope::unsigned(&GossipMessage {
        tag: Tag::Empty.into(),
        content: Some(Content::Hello(hello)),
        ..GossipMessage::default()
    })
}

/// A node that knows every identity but those of the organization `evil`.
pub(super) struct Toy(pub(super) Arc<PeerIdentity>);

/// Whose organizations [`Toy`] remembers.
pub(super) const KNOWN: [&str; 6] = ["one/a", "one/b", "one/c", "two/d", "two/e", "one/old"];

impl Authenticator for Toy {
    fn own_handshake(&self, certificate_sha256: Option<[u8; 32]>, probe: bool) -> Envelope {
        let name = std::str::from_utf8(&self.0.serialized).unwrap();
        signed(ConnEstablish {
            probe,
            ..claim(name, certificate_sha256)
        })
    }

    fn authenticate(
        &self,
        handshake: &Envelope,
        claim: &ConnEstablish,
    ) -> Result<Arc<PeerIdentity>, Refused> {
        let name = std::str::from_utf8(&claim.identity)
            .ok()
            .filter(|name| name.contains('/'))
            .ok_or_else(|| Refused::Identity("malformed".to_owned()))?;
        let found = identity(name);
        if found.org.as_str() == "evil" {
            return Err(Refused::Identity("unknown organization".to_owned()));
        }
        if claim.pki_id != found.pki_id.as_bytes() {
            return Err(Refused::PkiId);
        }
        let secret = handshake.secret_envelope.as_ref();
        let parts = secret.map(|secret| (&secret.payload, &secret.signature));
        for (message, signature) in [(&handshake.payload, &handshake.signature)]
            .into_iter()
            .chain(parts)
        {
            if *signature != sign(&found.serialized, message) {
                return Err(Refused::Signature("wrong".to_owned()));
            }
        }
        Ok(found)
    }

    fn org(&self, peer: &PkiId) -> Option<OrgId> {
        let known = KNOWN
            .into_iter()
            .map(identity)
            .find(|known| known.pki_id == *peer);
        known.map(|known| known.org.clone())
    }
}

struct ToTest(mpsc::Sender<(Arc<Connection>, Envelope)>);

impl Inbox for ToTest {
    fn receive(&self, from: Arc<Connection>, message: Opened) -> BoxFuture<'_, ()> {
        let (envelope, _) = message.into_parts();
        Box::pin(async move {
            // A test that has seen enough no longer takes messages.
            let _ = self.0.send((from, envelope)).await;
        })
    }
}

/// A network with an authority for TLS certificates.
pub(super) struct World {
    pub(super) net: Memory,
    pub(super) ca: Authority,
    encrypted: bool,
}

/// A running comm. Its endpoint is `name:1`.
pub(super) struct Node {
    pub(super) identity: Arc<PeerIdentity>,
    pub(super) tls: Option<Tls>,
    pub(super) comm: Comm,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) messages: mpsc::Receiver<(Arc<Connection>, Envelope)>,
    pub(super) metrics: Metrics,
}

fn host(name: &str) -> &str {
    name.split_once('/').unwrap().1
}

pub(super) fn endpoint(name: &str) -> String {
    format!("{}:1", host(name))
}

pub(super) fn to(name: &str) -> Destination {
    Destination {
        peer: identity(name).pki_id,
        endpoint: endpoint(name),
    }
}

fn start(
    name: &str,
    config: CommConfig,
    listener: impl Listen,
    room: usize,
    inputs_room: usize,
) -> Node {
    let (inputs_in, inputs) = mpsc::channel(inputs_room);
    let (messages_in, messages) = mpsc::channel(room);
    let (identity, tls, metrics) = (identity(name), config.tls.clone(), Metrics::new());
    let surroundings = Surroundings {
        authenticator: Arc::new(Toy(identity.clone())),
        inbox: Arc::new(ToTest(messages_in)),
        inputs: inputs_in,
        metrics: metrics.clone(),
    };
    let comm = Comm::start(config, listener, Routes::default(), surroundings);
    Node {
        identity,
        tls,
        comm,
        inputs,
        messages,
        metrics,
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            net: Memory::default(),
            ca: Authority::new("ca"),
            encrypted: true,
        }
    }

    pub(super) fn plaintext() -> Self {
        Self {
            encrypted: false,
            ..Self::new()
        }
    }

    pub(super) fn tls(&self, name: &str) -> Option<Tls> {
        self.encrypted.then(|| self.ca.tls(host(name)))
    }

    pub(super) fn node(&self, name: &str) -> Node {
        self.node_with(name, INPUTS, |_| {})
    }

    /// With so much room for messages, and other settings.
    pub(super) fn node_with(
        &self,
        name: &str,
        room: usize,
        set: impl FnOnce(&mut CommConfig),
    ) -> Node {
        let mut config = self.config(name);
        set(&mut config);
        start(name, config, self.net.listen(&endpoint(name)), room, INPUTS)
    }

    /// With so much room for news.
    pub(super) fn node_with_inputs(&self, name: &str, room: usize) -> Node {
        let listener = self.net.listen(&endpoint(name));
        start(name, self.config(name), listener, INPUTS, room)
    }

    /// With sockets.
    pub(super) fn node_on(
        &self,
        name: &str,
        tls: Option<Tls>,
        listener: TcpListener,
        dial: Arc<dyn Dial>,
    ) -> Node {
        let config = CommConfig {
            tls,
            dial,
            ..self.config(name)
        };
        start(name, config, listener, INPUTS, INPUTS)
    }

    fn config(&self, name: &str) -> CommConfig {
        let mut config = CommConfig::new(identity(name).pki_id, self.tls(name));
        config.dial = Arc::new(self.net.of(host(name)));
        config
    }

    /// A gRPC client with the TLS of its own, for peers that do not behave.
    pub(super) async fn client(&self, tls: Option<&Tls>, node: &str) -> Client {
        let limit = Duration::from_secs(3);
        let dialed = tls::connect(&self.net, &endpoint(node), tls, limit)
            .await
            .unwrap();
        let client = GossipClient::new(dialed.channel.clone())
            .max_decoding_message_size(2 * MESSAGE_LEN_MAX)
            .max_encoding_message_size(2 * MESSAGE_LEN_MAX);
        Client {
            _dialed: dialed,
            client,
        }
    }

    /// Whether nobody listens there any more.
    pub(super) async fn client_fails(&self, endpoint: &str) -> bool {
        let limit = Duration::from_secs(3);
        let Ok(dialed) = tls::connect(&self.net, endpoint, None, limit).await else {
            return true;
        };
        GossipClient::new(dialed.channel.clone())
            .ping(Empty::default())
            .await
            .is_err()
    }

    /// A client whose handshake with a node succeeded.
    pub(super) async fn friend(&self, name: &str, node: &str) -> (Client, Talk) {
        let tls = self.tls(name);
        let mut client = self.client(tls.as_ref(), node).await;
        let sha256 = tls.as_ref().map(Tls::client_certificate_sha256);
        let talk = client.talk([signed(claim(name, sha256))]).await.unwrap();
        assert!(matches!(
            content(&talk.hear().await.unwrap().unwrap()),
            Some(Content::Conn(_))
        ));
        (client, talk)
    }

    /// A server at the endpoint of `name` that runs a script for each stream.
    pub(super) fn server(&self, name: &str, tls: Option<&Tls>, script: impl Script) -> FakeServer {
        let listener = self.net.listen(&endpoint(name));
        let (incoming, closer) = Incoming::new(listener, tls.cloned());
        let service = GossipServer::new(Scripted(Arc::new(script)));
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serving.await.unwrap() });
        FakeServer {
            _closer: closer,
            _tasks: tasks,
        }
    }
}

pub(super) struct FakeServer {
    _closer: Closer,
    _tasks: JoinSet<()>,
}

/// What a fake server answers to a stream.
pub(super) trait Script: Send + Sync + 'static {
    fn answer(&self, heard: Streaming<Envelope>) -> Answer;
}

pub(super) type Answer = std::pin::Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

impl<F: Fn(Streaming<Envelope>) -> Answer + Send + Sync + 'static> Script for F {
    fn answer(&self, heard: Streaming<Envelope>) -> Answer {
        self(heard)
    }
}

/// Says this on each stream, and then nothing until the peer has ended it.
pub(super) fn saying(envelopes: Vec<Envelope>) -> impl Script {
    move |heard: Streaming<Envelope>| {
        let rest = stream::unfold(heard, async |mut heard| {
            while let Ok(Some(_)) = heard.message().await {}
            None
        });
        let said = stream::iter(envelopes.clone()).map(Ok);
        Box::pin(said.chain(rest)) as Answer
    }
}

struct Scripted<S>(Arc<S>);

#[tonic::async_trait]
impl<S: Script> Gossip for Scripted<S> {
    type GossipStreamStream = Answer;

    async fn gossip_stream(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Answer>, Status> {
        Ok(Response::new(self.0.answer(request.into_inner())))
    }

    async fn ping(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty::default()))
    }
}

/// A client of a fake peer. The connection ends with it.
pub(super) struct Client {
    _dialed: Dialed,
    pub(super) client: GossipClient<Channel>,
}

/// A stream of a fake peer. Half-closed when `say` is dropped.
pub(super) struct Talk {
    pub(super) say: mpsc::Sender<Envelope>,
    heard: Mutex<Streaming<Envelope>>,
}

impl Client {
    pub(super) async fn talk(
        &mut self,
        first: impl IntoIterator<Item = Envelope>,
    ) -> Result<Talk, Status> {
        let (say, said) = mpsc::channel(64);
        for envelope in first {
            say.send(envelope).await.unwrap();
        }
        let response = self.client.gossip_stream(ReceiverStream::new(said)).await?;
        Ok(Talk {
            say,
            heard: Mutex::new(response.into_inner()),
        })
    }
}

impl Talk {
    pub(super) async fn hear(&self) -> Result<Option<Envelope>, Status> {
        self.heard.lock().await.message().await
    }

    /// Half-closes, and says how the stream ended.
    pub(super) async fn finish(self) -> Result<(), String> {
        let Self { say, heard } = self;
        drop(say);
        // Nobody says anything any more on the new channel.
        let (say, _) = mpsc::channel(1);
        Self { say, heard }.end().await
    }

    /// How the stream ended: well, or with this message.
    pub(super) async fn end(&self) -> Result<(), String> {
        loop {
            match self.hear().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(status.message().to_owned()),
            }
        }
    }
}

pub(super) fn content(envelope: &Envelope) -> Option<Content> {
    GossipMessage::decode(envelope.payload.clone())
        .unwrap()
        .content
}

impl Node {
    /// The next input, shortened to what tests compare.
    pub(super) async fn news(&mut self) -> String {
        told(&self.inputs.recv().await.unwrap())
    }

    /// Whatever has been told and not been read, given time for more to come.
    pub(super) async fn rest(&mut self) -> Vec<String> {
        rest(&mut self.inputs).await
    }

    /// The next message with its sender.
    pub(super) async fn message(&mut self) -> (Arc<Connection>, Envelope) {
        self.messages.recv().await.unwrap()
    }

    /// Whether nothing waits, given time for something to come.
    pub(super) async fn heard_nothing(&mut self) -> bool {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.messages.try_recv().is_err()
    }

    pub(super) fn refused(&self, rule: &str) -> u64 {
        self.metrics.refused.with_label_values(&[rule]).get()
    }
}

/// Whatever waits there, given time for more to come.
pub(super) async fn rest(inputs: &mut mpsc::Receiver<Input>) -> Vec<String> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut rest = Vec::new();
    while let Ok(input) = inputs.try_recv() {
        rest.push(told(&input));
    }
    rest
}

pub(super) fn told(input: &Input) -> String {
    let name = |peer: &PkiId| {
        let known = KNOWN
            .into_iter()
            .find(|name| identity(name).pki_id == *peer);
        known.map_or_else(|| peer.to_string(), str::to_owned)
    };
    match input {
        Input::Connected(connection) => {
            format!(
                "{} connected as {}",
                name(&connection.peer()),
                connection.id.0
            )
        }
        Input::Disconnected { connection, peer } => {
            format!("{} disconnected as {}", name(peer), connection.0)
        }
        Input::Unreachable(peer) => format!("{} unreachable", name(peer)),
        Input::Switched { expected } => format!("{} switched", name(expected)),
        Input::Probed { ticket, answered } => format!("probe {}: {answered}", ticket.0),
        Input::Identified {
            ticket,
            peer: Ok(peer),
        } => {
            format!("identified {}: {}", ticket.0, name(&peer.pki_id))
        }
        Input::Identified {
            ticket,
            peer: Err(reason),
        } => {
            format!("not identified {}: {reason}", ticket.0)
        }
        Input::Congestion { peer, is_congested } => {
            let is = if *is_congested { "is" } else { "is no longer" };
            format!("{} {is} congested", name(peer))
        }
        other => panic!("comm does not tell {other:?}"),
    }
}
