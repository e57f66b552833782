//! The gRPC service `gossip.Gossip`.
//!
//! Promises to answer pings to anybody and to let only so many strangers begin a handshake. Our
//! own greeting leaves with the response headers, before the peer has said anything (C-G7).

use std::sync::Arc;

use tidings_proto::gossip::{Empty, Envelope, gossip_server::Gossip};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::{
    handshake::{Presented, Refused},
    queue::{Responses, queue},
    stream::{Accepted, Context, turned_away},
    threshold::Trust,
};
use crate::tls::TlsInfo;

pub(crate) struct Service {
    pub(crate) context: Arc<Context>,
    pub(crate) accepted: mpsc::Sender<Accepted>,
}

impl Service {
    async fn admit(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Responses>, Refused> {
        let info = request.extensions().get::<TlsInfo>().cloned();
        let config = &self.context.config;
        let sha256 = info.as_ref().and_then(|info| info.peer_certificate_sha256);
        let presented = Presented::of(config.tls.is_some(), sha256)?;
        let of_all = self.context.handshakes.clone();
        let of_connection = info.as_ref().map(|info| info.handshakes.clone());
        let mut slots = Vec::with_capacity(2);
        for semaphore in of_connection.into_iter().chain([of_all]) {
            let slot = semaphore.try_acquire_owned();
            slots.push(slot.map_err(|_none| Refused::TooMany("handshakes"))?);
        }
        // Of this connection, which may be older than the certificate of now.
        let own = info.as_ref().and_then(|info| info.own_certificate_sha256);
        let greeting = self.context.authenticator.own_handshake(own, false);
        let len_max = config.send_queue_len_max;
        let (queue, outgoing) = queue(Some(greeting), None, len_max, &self.context.counters);
        let trust = request.extensions().get::<Trust>().cloned();
        let accepted = Accepted {
            stream: request.into_inner(),
            presented,
            queue,
            remote: info.and_then(|info| info.remote),
            slots,
            trust,
        };
        self.accepted
            .send(accepted)
            .await
            .map_err(|_stopped| Refused::Stopping)?;
        Ok(Response::new(outgoing.into()))
    }
}

#[tonic::async_trait]
impl Gossip for Service {
    type GossipStreamStream = Responses;

    async fn gossip_stream(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        let info = request.extensions().get::<TlsInfo>();
        let remote = info.and_then(|info| info.remote);
        self.admit(request).await.map_err(|refused| {
            turned_away(&self.context, remote, &refused);
            refused.status()
        })
    }

    async fn ping(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty::default()))
    }
}
