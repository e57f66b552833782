//! AtomicBroadcast over gRPC.
//!
//! Promises a bounded number of streams, each with a bounded queue. Judges nothing itself.

use std::sync::Arc;

use bytes::Bytes;
use tidings_node::tls::TlsInfo;
use tidings_proto::Message;
use tidings_proto::common::{Envelope, Status};
use tidings_proto::orderer::atomic_broadcast_server::AtomicBroadcast;
use tidings_proto::orderer::{BroadcastResponse, DeliverResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Streaming};

use super::broadcast::{self, Submitted};
use super::chain::Chain;
use super::deliver::Connection;

/// Open streams over all connections; a demo has one for each organization.
const STREAMS_MAX: usize = 256;

/// Responses ahead of a slow client: enough to keep the line busy, few enough that blocks of
/// 100 MiB do not pile up.
const RESPONSES_LEN: usize = 4;

pub(super) struct Service {
    chain: Arc<Chain>,
    queue: Option<mpsc::Sender<Submitted>>,
    mutual: bool,
    streams: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(
        chain: Arc<Chain>,
        queue: Option<mpsc::Sender<Submitted>>,
        mutual: bool,
    ) -> Self {
        Self {
            chain,
            queue,
            mutual,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    fn slot(&self) -> Result<OwnedSemaphorePermit, tonic::Status> {
        Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_none| tonic::Status::resource_exhausted("too many open streams"))
    }
}

#[tonic::async_trait]
impl AtomicBroadcast for Service {
    type BroadcastStream = ReceiverStream<Result<BroadcastResponse, tonic::Status>>;
    type DeliverStream = ReceiverStream<Result<DeliverResponse, tonic::Status>>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, tonic::Status> {
        let slot = self.slot()?;
        let (sender, receiver) = mpsc::channel(RESPONSES_LEN);
        let (chain, queue) = (Arc::clone(&self.chain), self.queue.clone());
        let mut envelopes = request.into_inner();
        tokio::spawn(async move {
            let _slot = slot;
            while let Ok(Some(envelope)) = envelopes.message().await {
                let envelope = Bytes::from(envelope.encode_to_vec());
                let answer = broadcast::submit(&chain, queue.as_ref(), envelope).await;
                let (status, info) = match answer {
                    Ok(()) => (Status::Success, String::new()),
                    Err(refused) => (refused.status, refused.reason),
                };
                let response = BroadcastResponse {
                    status: status.into(),
                    info,
                };
                if sender.send(Ok(response)).await.is_err() || status != Status::Success {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, tonic::Status> {
        let slot = self.slot()?;
        let presented = request
            .extensions()
            .get::<TlsInfo>()
            .and_then(|info| info.peer_certificate_sha256);
        let connection = Connection {
            chain: Arc::clone(&self.chain),
            bound_to: self.mutual.then_some(presented),
        };
        let (sender, receiver) = mpsc::channel(RESPONSES_LEN);
        let requests = request.into_inner();
        tokio::spawn(async move {
            let _slot = slot;
            connection.serve(requests, sender).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
