//! The web page of the demo, for browsers on this machine.
//!
//! Promises: serves one embedded page and a stream of snapshots, nothing else; a slow reader gets
//! fewer snapshots, never a queue of old ones; and a page of another site that a browser was
//! tricked into opening under our address gets nothing. Changes nothing in the network.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, stream};
use tidings_node::operations::dressed;
use tidings_node::reception::is_for;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::snapshot::Snapshot;

/// The page without any outside resource: it must work on a machine without a network.
static PAGE: LazyLock<String> = LazyLock::new(|| dressed(include_str!("page.html")));

/// What the page may do: run its own script, draw, and listen to us.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
     style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Between two snapshots for one reader. Five a second look live; more cost processor time that
/// the nodes of the same process need.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);

/// Opens the port of the page; 0 takes any free one.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the sender of the snapshots is gone.
pub(crate) async fn serve(
    listener: TcpListener,
    snapshots: watch::Receiver<Snapshot>,
) -> io::Result<()> {
    let mut ended = snapshots.clone();
    let app = Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .layer(middleware::from_fn(only_loopback_names))
        .with_state(snapshots);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move { while ended.changed().await.is_ok() {} })
        .await
}

/// A browser tells under which name it found us. Under a foreign one it gets nothing.
async fn only_loopback_names(request: Request, next: Next) -> Response {
    if is_for("localhost", request.headers()) {
        next.run(request).await
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

async fn page() -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
            (header::CACHE_CONTROL, "no-store"),
        ],
        PAGE.as_str(),
    )
}

async fn events(
    State(snapshots): State<watch::Receiver<Snapshot>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::unfold((snapshots, true), |(mut snapshots, first)| async move {
        if !first {
            tokio::time::sleep(EVENT_INTERVAL).await;
            snapshots.changed().await.ok()?;
        }
        let json = serde_json::to_string(&*snapshots.borrow_and_update()).ok()?;
        Some((Ok(Event::default().data(json)), (snapshots, false)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// Reads until `end` came or the other side closed.
    async fn ask(address: SocketAddr, request: &str, end: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            answer.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&answer).into_owned();
            if read == 0 || text.contains(end) {
                return text;
            }
        }
    }

    async fn start() -> (SocketAddr, watch::Sender<Snapshot>) {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = watch::channel(Snapshot {
            height: 7,
            ..Snapshot::default()
        });
        tokio::spawn(serve(listener, receiver));
        (address, sender)
    }

    #[tokio::test]
    async fn the_page_comes_whole_and_with_a_policy() {
        let (address, _sender) = start().await;
        let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n";
        let answer = ask(address, request, "</html>").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer
                .to_lowercase()
                .contains("content-security-policy: default-src 'none'")
        );
        assert!(answer.trim_end().ends_with("</html>"));
    }

    #[tokio::test]
    async fn events_begin_with_the_snapshot_of_now_and_follow_changes() {
        let (address, sender) = start().await;
        let request = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let reader = tokio::spawn(async move { ask(address, request, "\"height\":8").await });
        let first = ask(address, request, "\"height\":7").await;
        assert!(
            first
                .to_lowercase()
                .contains("content-type: text/event-stream"),
            "{first}"
        );
        sender.send_modify(|snapshot| snapshot.height = 8);
        assert!(reader.await.unwrap().contains("data: {"));
    }

    #[tokio::test]
    async fn a_foreign_host_name_gets_nothing() {
        let (address, _sender) = start().await;
        for host in ["evil.example", "127.0.0.1.evil.example:80", ""] {
            let request = format!("GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = ask(address, &request, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{host}: {answer}");
        }
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        for outside in [
            "src=\"http",
            "href=\"http",
            "url(http",
            "@import",
            "import ",
        ] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
