//! The gRPC service `protos.Deliver`, with responses that are encoded once for all clients.
//!
//! The generated server would encode each response for each client; this one sends bytes that the
//! shelf has made. Promises a bounded number of streams over the three methods.

use std::{convert::Infallible, sync::Arc};

use bytes::{BufMut, Bytes};
use futures_util::{FutureExt, future::BoxFuture};
use tidings_proto::common::Envelope;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, EncodeBuf, Encoder},
    codegen::{Service, http},
    metadata::MetadataValue,
    server::{Grpc, NamedService, StreamingService},
};
use tonic_prost::ProstDecoder;

use super::{
    Shared,
    deliver::{Kind, Session},
    outlet::Responses,
};
use crate::tls::TlsInfo;

/// Largest request for blocks. It holds one certificate and takes about a kilobyte.
const REQUEST_LEN_MAX: usize = 64 << 10;

/// In the metadata of every stream: codes on it are those of others. What such a node agrees with
/// is no second opinion.
pub(crate) const RELAYED: &str = "tidings-codes-of-others";

/// Responses go out as they are, requests come as envelopes.
#[derive(Clone, Copy, Debug, Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Envelope;
    type Encoder = Self;
    type Decoder = ProstDecoder<Envelope>;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

/// `protos.Deliver`.
#[derive(Clone)]
pub(super) struct Deliver(pub(super) Arc<Shared>);

impl NamedService for Deliver {
    const NAME: &'static str = "protos.Deliver";
}

impl Service<http::Request<Body>> for Deliver {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let kind = match request.uri().path() {
            "/protos.Deliver/Deliver" => Kind::Blocks,
            "/protos.Deliver/DeliverFiltered" => Kind::Filtered,
            "/protos.Deliver/DeliverWithPrivateData" => Kind::WithPrivateData,
            _ => return async { Ok(Status::unimplemented("no such method").into_http()) }.boxed(),
        };
        let method = Method {
            shared: Arc::clone(&self.0),
            kind,
        };
        async move {
            let mut grpc =
                Grpc::new(Encoded).apply_max_message_size_config(Some(REQUEST_LEN_MAX), None);
            Ok(grpc.streaming(method, request).await)
        }
        .boxed()
    }
}

struct Method {
    shared: Arc<Shared>,
    kind: Kind,
}

impl StreamingService<Envelope> for Method {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = std::future::Ready<Result<Response<Responses>, Status>>;

    fn call(&mut self, request: Request<Streaming<Envelope>>) -> Self::Future {
        std::future::ready(self.begin(request))
    }
}

impl Method {
    fn begin(&self, request: Request<Streaming<Envelope>>) -> Result<Response<Responses>, Status> {
        let stranger = Arc::clone(&self.shared.strangers).try_acquire_owned();
        let stranger = stranger.map_err(|_none| {
            Status::resource_exhausted("too many streams without a request, try again")
        })?;
        let presented = request
            .extensions()
            .get::<TlsInfo>()
            .and_then(|info| info.peer_certificate_sha256);
        let bound_to = self.shared.is_bound_to_tls.then_some(presented);
        let shared = Arc::clone(&self.shared);
        let tasks = shared.tasks.clone();
        let (session, responses) = Session::new(shared, self.kind, bound_to, stranger);
        tasks.spawn(session.serve(request.into_inner()));
        let mut response = Response::new(responses);
        response
            .metadata_mut()
            .insert(RELAYED, MetadataValue::from_static("true"));
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream::pending};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio_util::task::TaskTracker;
    use tonic::Code;

    use super::*;
    use crate::{
        clients::{ClientSettings, STRANGERS_MAX},
        commit::tests::crypto,
        directory::Directory,
        material::Material,
        metrics::Metrics,
    };

    #[tokio::test(start_paused = true)]
    async fn strangers_have_so_many_streams_and_so_much_time() {
        let known = (crypto(&Material::new()), Directory::default());
        let (settings, tasks) = (ClientSettings::default(), TaskTracker::new());
        let shared = Shared::new(settings, false, known, Metrics::default(), tasks);
        let method = Method {
            shared: Arc::new(shared),
            kind: Kind::Blocks,
        };
        let begin = || {
            let silence = StreamBody::new(pending::<Result<Frame<Bytes>, Status>>());
            let asks = Streaming::new_request(ProstDecoder::default(), silence, None, None);
            method.begin(Request::new(asks))
        };
        let streams: Vec<_> = (0..STRANGERS_MAX).map(|_| begin().unwrap()).collect();
        let refused = begin().map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        for stream in streams {
            let told = stream.into_inner().next().await.unwrap();
            assert_eq!(told.unwrap_err().code(), Code::DeadlineExceeded);
        }
        assert!(begin().is_ok(), "there is room again");
    }
}
