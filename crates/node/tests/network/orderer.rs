//! An orderer that serves blocks to whoever asks, and remembers from where on they were wanted.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;
use tidings_node::tls::{Closer, Incoming};
use tidings_proto::{
    common::{Block, Envelope, Payload},
    orderer::{
        BroadcastResponse, DeliverResponse, SeekInfo,
        atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer},
        deliver_response::Type,
        seek_position,
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

/// Ends when it is dropped.
pub(crate) struct Orderer {
    blocks: watch::Sender<Vec<Bytes>>,
    /// The first block of each request.
    pub(crate) starts: mpsc::Receiver<u64>,
    _closer: Closer,
    _server: JoinSet<()>,
}

impl Orderer {
    /// A port for it, and its address.
    pub(crate) async fn door() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    pub(crate) fn start(door: TcpListener, blocks: Vec<Bytes>) -> Self {
        let (blocks, served) = watch::channel(blocks);
        let (asked, starts) = mpsc::channel(64);
        let (incoming, closer) = Incoming::new(door, None);
        let service = AtomicBroadcastServer::new(Service {
            served,
            asked,
            streams: TaskTracker::new(),
        });
        let serving = tonic::transport::Server::builder().add_service(service);
        let mut server = JoinSet::new();
        server.spawn(async move {
            serving.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            blocks,
            starts,
            _closer: closer,
            _server: server,
        }
    }

    pub(crate) fn serve(&self, blocks: Vec<Bytes>) {
        self.blocks.send_replace(blocks);
    }
}

struct Service {
    served: watch::Receiver<Vec<Bytes>>,
    asked: mpsc::Sender<u64>,
    streams: TaskTracker,
}

#[tonic::async_trait]
impl AtomicBroadcast for Service {
    type BroadcastStream = ReceiverStream<Result<BroadcastResponse, Status>>;
    type DeliverStream = ReceiverStream<Result<DeliverResponse, Status>>;

    async fn broadcast(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        Err(Status::unimplemented("nothing is ordered here"))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let mut requests = request.into_inner();
        let envelope = requests.message().await?.unwrap();
        let payload = Payload::decode(envelope.payload).unwrap();
        let start = SeekInfo::decode(payload.data).unwrap().start.unwrap();
        let Some(seek_position::Type::Specified(start)) = start.r#type else {
            panic!("an odd start: {start:?}");
        };
        let mut next = usize::try_from(start.number).unwrap();
        self.asked.try_send(start.number).unwrap();
        let (responses, stream) = mpsc::channel(1);
        let mut served = self.served.clone();
        self.streams.spawn(async move {
            // As long as the client lets its side open.
            let _requests = requests;
            loop {
                let more = tokio::select! {
                    more = served.wait_for(|blocks| blocks.len() > next) => more,
                    () = responses.closed() => return,
                };
                let Ok(block) = more.map(|blocks| blocks[next].clone()) else {
                    return;
                };
                let block = Type::Block(Block::decode(block).unwrap());
                let response = DeliverResponse {
                    r#type: Some(block),
                };
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
                next += 1;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
