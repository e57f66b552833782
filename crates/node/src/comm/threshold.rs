//! How much of a stranger's request is read.
//!
//! A message may be a hundred megabytes long, and must be in memory before it is decoded. So
//! until a peer has authenticated itself, no more is taken from its stream than a handshake
//! needs; the rest waits at the sender. Pings are short and never notice.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::{body::Body, server::NamedService};
use tower::Service;

/// Bytes of a request that are read of a stranger. A handshake holds one certificate and takes
/// about a kilobyte; what comes behind it before we have checked it may wait.
pub(crate) const STRANGER_BYTES_MAX: usize = 64 << 10;

/// Opens the request that it came with.
#[derive(Clone, Debug)]
pub(crate) struct Trust(Arc<watch::Sender<bool>>);

impl Trust {
    /// The peer is known: read on.
    pub(crate) fn give(&self) {
        self.0.send_replace(true);
    }
}

/// A service that finds a [`Trust`] in its requests.
#[derive(Clone, Debug)]
pub(crate) struct Threshold<S>(pub(crate) S);

impl<S: NamedService> NamedService for Threshold<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Threshold<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let (mut parts, inner) = request.into_parts();
        let (trust, mut trusted) = watch::channel(false);
        parts.extensions.insert(Trust(Arc::new(trust)));
        let waiting = async move {
            // Whoever could trust has gone: then nobody will read this either.
            let _ = trusted.wait_for(|trusted| *trusted).await;
        };
        let body = Waiting {
            inner,
            left: STRANGER_BYTES_MAX,
            trusted: Some(Box::pin(waiting)),
        };
        self.0.call(Request::from_parts(parts, Body::new(body)))
    }
}

struct Waiting {
    inner: Body,
    /// Bytes that may still be read without trust.
    left: usize,
    /// None once there is trust.
    trusted: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl http_body::Body for Waiting {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if self.left == 0
            && let Some(trusted) = &mut self.trusted
        {
            ready!(trusted.as_mut().poll(cx));
            self.trusted = None;
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let read = frame.data_ref().map_or(0, Bytes::len);
            self.left = self.left.saturating_sub(read);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
