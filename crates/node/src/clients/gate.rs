//! In front of services that are asked once and answer once: how many at a time, for how long.
//!
//! A request is in memory before anybody knows who sent it, so that strangers share a bounded
//! number of places, and each has one only for a while.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

/// From the first byte of a request to the answer. Joining a channel takes as long as the disk
/// does, everything else milliseconds.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A service behind a gate.
#[derive(Clone)]
pub(super) struct Gate<S> {
    service: S,
    places: Arc<Semaphore>,
}

impl<S> Gate<S> {
    /// Lets so many in at a time.
    pub(super) fn new(service: S, places: usize) -> Self {
        Self {
            service,
            places: Arc::new(Semaphore::new(places)),
        }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let status = Status::resource_exhausted("too many requests at a time, try again");
            return async { Ok(status.into_http()) }.boxed();
        };
        let answer = self.service.call(request);
        async move {
            let answer = timeout(TIME_MAX, answer).await.unwrap_or_else(|_late| {
                let status = Status::deadline_exceeded("the request took too long");
                Ok(status.into_http())
            });
            answer.map(|answer| {
                answer.map(|inner| {
                    Body::new(Placed {
                        inner,
                        _place: place,
                    })
                })
            })
        }
        .boxed()
    }
}

/// An answer that keeps its place until the client has it.
struct Placed {
    inner: Body,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tower::service_fn;

    use super::*;

    fn code(answer: &Result<http::Response<Body>, Infallible>) -> Code {
        let answer = answer.as_ref().unwrap();
        let status = answer.headers().get("grpc-status");
        status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_let_in_and_nobody_stays() {
        let slow = service_fn(|_: http::Request<Body>| async {
            std::future::pending::<()>().await;
            Ok(http::Response::new(Body::empty()))
        });
        let mut gate = Gate::new(slow, 2);
        let mut ask = || gate.call(http::Request::new(Body::empty()));
        let inside = [ask(), ask()];
        assert_eq!(code(&ask().await), Code::ResourceExhausted);
        for answer in inside {
            assert_eq!(code(&answer.await), Code::DeadlineExceeded);
        }
        assert_eq!(code(&ask().await), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn an_answer_has_its_place_until_the_client_has_it() {
        let quick = service_fn(|_: http::Request<Body>| async {
            let body = http_body_util::Full::from("an answer");
            Ok(http::Response::new(Body::new(body)))
        });
        let mut gate = Gate::new(quick, 1);
        let mut ask = || gate.call(http::Request::new(Body::empty()));
        let unread = ask().await;
        assert_eq!(code(&ask().await), Code::ResourceExhausted);
        drop(unread);
        assert_eq!(code(&ask().await), Code::Ok);
    }
}
