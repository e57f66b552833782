//! An orderer that serves blocks to whoever asks, and remembers from where on they were wanted.

use std::{net::SocketAddr, time::SystemTime};

use bytes::Bytes;
use prost::Message;
use tidings_node::tls::{Closer, Incoming, Tls};
use tidings_proto::{
    block::BlockView,
    common::{Block, Envelope, Payload},
    orderer::{
        BroadcastResponse, DeliverResponse, SeekInfo,
        atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer},
        deliver_response::Type,
        seek_info::SeekContentType,
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

use crate::{material::Organization, peer::tls_settings};

/// Ends when it is dropped.
pub(crate) struct Orderer {
    served: watch::Sender<Served>,
    /// The first block of each request for blocks.
    pub(crate) starts: mpsc::Receiver<u64>,
    /// The first header of each request for headers.
    pub(crate) headers: mpsc::Receiver<u64>,
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
        Self::start_with(None, door, blocks)
    }

    /// With TLS, as one of an organization.
    pub(crate) fn start_secured(org: &Organization, door: TcpListener, blocks: Vec<Bytes>) -> Self {
        let tls = Tls::new(&tls_settings(org), SystemTime::now()).unwrap();
        Self::start_with(Some(tls), door, blocks)
    }

    fn start_with(tls: Option<Tls>, door: TcpListener, blocks: Vec<Bytes>) -> Self {
        let (served, serving) = watch::channel(Served {
            headers: blocks.clone(),
            blocks,
        });
        let (asked, starts) = mpsc::channel(64);
        let (asked_headers, headers) = mpsc::channel(64);
        let (incoming, closer) = Incoming::new(door, tls);
        let service = AtomicBroadcastServer::new(Service {
            served: serving,
            asked,
            asked_headers,
            streams: TaskTracker::new(),
        });
        let serving = tonic::transport::Server::builder().add_service(service);
        let mut server = JoinSet::new();
        server.spawn(async move {
            serving.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            served,
            starts,
            headers,
            _closer: closer,
            _server: server,
        }
    }

    pub(crate) fn serve(&self, blocks: Vec<Bytes>) {
        self.served.send_replace(Served {
            headers: blocks.clone(),
            blocks,
        });
    }

    /// Serves headers of these blocks, and keeps the blocks back.
    pub(crate) fn show(&self, blocks: Vec<Bytes>) {
        self.served.send_modify(|served| served.headers = blocks);
    }
}

/// What can be had.
struct Served {
    blocks: Vec<Bytes>,
    headers: Vec<Bytes>,
}

struct Service {
    served: watch::Receiver<Served>,
    asked: mpsc::Sender<u64>,
    asked_headers: mpsc::Sender<u64>,
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
        let seek = SeekInfo::decode(payload.data).unwrap();
        let start = seek.start.unwrap();
        let Some(seek_position::Type::Specified(start)) = start.r#type else {
            panic!("an odd start: {start:?}");
        };
        let mut next = usize::try_from(start.number).unwrap();
        let headers = seek.content_type == i32::from(SeekContentType::HeaderWithSig);
        let asked = if headers {
            &self.asked_headers
        } else {
            &self.asked
        };
        asked.try_send(start.number).unwrap();
        let list = move |served: &Served, next: usize| {
            let list = if headers {
                &served.headers
            } else {
                &served.blocks
            };
            list.get(next).cloned()
        };
        // Go's orderers say nothing before they have something to say.
        let mut served = self.served.clone();
        let there = served.wait_for(|served| list(served, next).is_some());
        there
            .await
            .map(drop)
            .map_err(|_gone| Status::cancelled("the test is over"))?;
        let (responses, stream) = mpsc::channel(1);
        self.streams.spawn(async move {
            // As long as the client lets its side open.
            let _requests = requests;
            loop {
                let more = tokio::select! {
                    more = served.wait_for(|served| list(served, next).is_some()) => more,
                    () = responses.closed() => return,
                };
                let Ok(Some(block)) = more.map(|served| list(&served, next)) else {
                    return;
                };
                let is_config = BlockView::parse(block.clone()).unwrap().is_config_block();
                let mut block = Block::decode(block).unwrap();
                if headers && !is_config {
                    block.data = None;
                }
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
}
