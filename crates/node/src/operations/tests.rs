//! What a visitor gets: byte by byte over sockets, and over pipes in paused time where it is about
//! patience.

mod dashboard;
mod limits;
pub(crate) mod tls;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    logging::tests::{Lines, heard, to_memory},
    reception::*,
    tls::Io,
};

fn plain() -> OperationsSettings {
    OperationsSettings {
        listen: ("127.0.0.1".to_owned(), 0),
        tls: None,
        metrics: true,
        dashboard: false,
    }
}

fn shown(vitals: Vitals, logging: Logging) -> Shown {
    Shown {
        vitals,
        logging: Some(logging),
    }
}

/// A server beside no node. Logs of this thread go where it says.
struct Scene {
    server: Serving,
    vitals: Vitals,
    lines: Lines,
    _subscribed: tracing::subscriber::DefaultGuard,
}

impl Scene {
    async fn start(settings: &OperationsSettings) -> Self {
        let (logging, subscriber, lines) = to_memory("error");
        let vitals = Vitals::default();
        let shown = Shown {
            vitals: vitals.clone(),
            logging: Some(logging),
        };
        Self {
            server: start(settings, shown).await.unwrap(),
            vitals,
            lines,
            _subscribed: tracing::subscriber::set_default(subscriber),
        }
    }

    /// The answer to one request, without what differs each time.
    async fn ask(&self, method: &str, path: &str, more: &str) -> String {
        let stream = TcpStream::connect(self.server.address()).await.unwrap();
        let (more, body) = more.split_once('|').unwrap_or((more, ""));
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n{body}"
        );
        asked(stream, &request).await
    }
}

/// Sends a request and reads until the connection ends.
async fn asked(mut io: impl Io, request: &str) -> String {
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    steady(&answer)
}

/// An answer without date, random request id and time.
fn steady(answer: &str) -> String {
    let mut steady = String::new();
    for line in answer.lines() {
        let line = match line.split_once(": ") {
            Some(("Date" | "Connection", _)) => continue,
            Some(("X-Request-Id", id)) if id.len() == 36 => "X-Request-Id: UUID",
            _ => line,
        };
        match line.split_once("\"time\":\"") {
            Some((before, rest)) => {
                let (time, after) = rest.split_once('"').unwrap();
                assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
                steady.push_str(&format!("{before}\"time\":T{after}"));
            }
            None => steady.push_str(line),
        }
        steady.push('\n');
    }
    steady
}

const JSON: &str = "Content-Type: application/json";
const ID: &str = "X-Request-Id: UUID";

/// The head with these lines and a body, as Go peers answer; the length is counted here.
fn answer(status: &str, head: &[&str], body: &str) -> String {
    let mut lines = vec![format!("HTTP/1.1 {status}")];
    lines.extend(head.iter().map(|line| (*line).to_owned()));
    lines.push(format!("Content-Length: {}", body.len()));
    lines.push(String::new());
    if !body.is_empty() {
        lines.push(body.trim_end().to_owned());
    }
    lines.join("\n") + "\n"
}

#[tokio::test]
async fn one_address_holds_only_so_many_connections() {
    const VERSION: &[u8] = b"GET /version HTTP/1.1\r\n\r\n";
    let scene = Scene::start(&plain()).await;
    let connect = || TcpStream::connect(scene.server.address());
    let mut answer = [0; 15];
    let mut inside = Vec::new();
    for _ in 0..CONNECTIONS_PER_ADDRESS_MAX {
        let mut visit = connect().await.unwrap();
        visit.write_all(VERSION).await.unwrap();
        visit.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"HTTP/1.1 200 OK");
        inside.push(visit);
    }
    let mut refused = connect().await.unwrap();
    assert_eq!(refused.read(&mut answer).await.unwrap(), 0, "closed");
    drop(inside);
    // When it has been noticed that they are gone.
    loop {
        let mut visit = connect().await.unwrap();
        let asked = visit.write_all(VERSION).await;
        if asked.is_ok() && visit.read_exact(&mut answer).await.is_ok() {
            break;
        }
    }
    assert_eq!(answer, *b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_port_of_the_machine_itself_is_not_read_under_the_name_of_a_site() {
    let scene = Scene::start(&plain()).await;
    let everywhere = OperationsSettings {
        listen: ("0.0.0.0".to_owned(), 0),
        ..plain()
    };
    let everywhere = Scene::start(&everywhere).await;
    for (hosts, is_ours) in [
        ("", true),
        ("Host: localhost\r\n", true),
        ("Host: LocalHost:9443\r\n", true),
        ("Host: 127.0.0.1:9443\r\n", true),
        ("Host: 127.1.2.3\r\n", true),
        ("Host: [::1]:9443\r\n", true),
        ("Host: [::ffff:127.0.0.1]\r\n", true),
        ("Host:\r\n", false),
        ("Host: evil.example\r\n", false),
        ("Host: localhost.evil.example:9443\r\n", false),
        ("Host: 127.0.0.1.evil.example\r\n", false),
        ("Host: 10.0.0.1\r\n", false),
        ("Host: localhost\r\nHost: evil.example\r\n", false),
    ] {
        let request = format!("GET /version HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let said = async |scene: &Scene| {
            let stream = TcpStream::connect(("127.0.0.1", scene.server.address().port()));
            asked(stream.await.unwrap(), &request).await
        };
        let said_here = said(&scene).await;
        if is_ours {
            assert!(
                said_here.starts_with("HTTP/1.1 200 "),
                "{hosts}: {said_here}"
            );
        } else {
            assert!(
                said_here.starts_with("HTTP/1.1 421 "),
                "{hosts}: {said_here}"
            );
            assert!(
                said_here.contains("{\"error\":\"without TLS a loopback address"),
                "{said_here}"
            );
        }
        let said = said(&everywhere).await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{hosts}: {said}");
    }
}

#[test]
fn the_name_that_is_configured_is_ours_too() {
    let host = HeaderValue::from_static("Peer0.org1.test:9443");
    let headers = HeaderMap::from_iter([(header::HOST, host)]);
    assert!(is_for("peer0.org1.test", &headers));
    assert!(!is_for("127.0.0.1", &headers));
}

#[tokio::test]
async fn health_and_version_are_answered_as_by_a_go_peer() {
    let scene = Scene::start(&plain()).await;
    let fine = scene.ask("GET", "/healthz", "").await;
    let body = "{\"status\":\"OK\",\"time\":T}";
    // The length depends on how many digits the time has.
    assert!(
        fine.starts_with(&format!("HTTP/1.1 200 OK\n{JSON}\n{ID}\n")),
        "{fine}"
    );
    assert!(fine.ends_with(&format!("\n\n{body}\n")), "{fine}");
    let channel = tidings_gossip::id::ChannelId::from("ch");
    scene.vitals.health.ledger_broke(&channel, "no \"space\"");
    let unwell = scene.ask("GET", "/healthz", "").await;
    let head = format!("HTTP/1.1 503 Service Unavailable\n{JSON}\n{ID}\n");
    let body = "{\"status\":\"Service Unavailable\",\"time\":T,\"failed_checks\":\
                [{\"component\":\"ledger/ch\",\"reason\":\"no \\\"space\\\"\"}]}";
    assert!(unwell.starts_with(&head), "{unwell}");
    assert!(unwell.ends_with(&format!("\n\n{body}\n")), "{unwell}");

    let version = format!(
        "{{\"CommitSHA\":\"{}\",\"Version\":\"{}\"}}",
        option_env!("TIDINGS_COMMIT").unwrap_or("development build"),
        env!("CARGO_PKG_VERSION")
    );
    let ok = |head: &[&str]| answer("200 OK", head, &version);
    let wrong = |method| {
        let body = format!("{{\"Error\":\"invalid request method: {method}\"}}");
        answer("400 Bad Request", &[JSON, ID], &body)
    };
    let no_method = answer("405 Method Not Allowed", &[ID], "");
    for (method, path, more, expected) in [
        ("POST", "/healthz", "", no_method),
        ("GET", "/version", "", ok(&[JSON, ID])),
        ("GET", "/version?x=1", "", ok(&[JSON, ID])),
        (
            "GET",
            "/version",
            "X-Request-Id: abc\r\n",
            ok(&[JSON, "X-Request-Id: abc"]),
        ),
        ("PUT", "/version", "", wrong("PUT")),
    ] {
        let said = scene.ask(method, path, more).await;
        assert_eq!(said, expected, "{method} {path}");
    }
    let head_only = scene.ask("HEAD", "/healthz", "").await;
    assert!(head_only.starts_with("HTTP/1.1 405 "), "{head_only}");
    for path in ["/", "/healthz/", "/nothing", "/debug/pprof"] {
        let head = [
            "Content-Type: text/plain; charset=utf-8",
            "X-Content-Type-Options: nosniff",
        ];
        let expected = answer("404 Not Found", &head, "404 page not found\n");
        assert_eq!(scene.ask("GET", path, "").await, expected, "{path}");
    }
}

#[tokio::test]
async fn the_logging_spec_is_told_and_changed() {
    let scene = Scene::start(&plain()).await;
    let spec = |spec: &str| {
        let body = format!("{{\"spec\":\"{spec}\"}}\n");
        answer("200 OK", &[JSON, ID], &body)
    };
    let done = format!("HTTP/1.1 204 No Content\n{ID}\n\n");
    assert_eq!(scene.ask("GET", "/logspec", "").await, spec("error"));
    assert_eq!(heard(&scene.lines), "");
    let mut now = "error".to_owned();
    for (body, expected) in [
        ("{\"spec\":\"gossip=debug:warn\"}", "gossip=debug:warn"),
        ("{\"Spec\":\"debug\",\"x\":[1]} and more", "debug"),
        ("{}", "info"),
        ("{\"spec\":\"warn\"}", "warn"),
        ("null", "info"),
        ("{\"spec\":null}", "info"),
        (
            "{\"spec\":\"gossip.=payload:info:warn\"}",
            "gossip.=payload:warn",
        ),
    ] {
        let said = scene.ask("PUT", "/logspec", &format!("|{body}")).await;
        assert_eq!(said, done, "{body}");
        assert_eq!(
            scene.ask("GET", "/logspec", "").await,
            spec(expected),
            "{body}"
        );
        expected.clone_into(&mut now);
    }
    assert_eq!(heard(&scene.lines), "state-warn gossip-debug");
    for body in [
        "{\"spec\":\"loud\"}",
        "{\"spec\":7}",
        "debug",
        "",
        "[]",
        "[\"debug\"]",
        "{\"spec\"",
    ] {
        let said = scene.ask("PUT", "/logspec", &format!("|{body}")).await;
        assert!(
            said.starts_with("HTTP/1.1 400 Bad Request\n"),
            "{body}: {said}"
        );
        let (_, error) = said.split_once("\n\n").unwrap();
        let error: serde_json::Value = serde_json::from_str(error).unwrap();
        let members: Vec<_> = error.as_object().unwrap().keys().collect();
        assert_eq!(members, ["error"], "{body}");
        let says_what = error["error"]
            .as_str()
            .unwrap()
            .ends_with("give {\"spec\":\"info\"}");
        assert_eq!(says_what, !body.contains("loud"), "{error}");
    }
    for method in ["POST", "DELETE", "PATCH"] {
        let body = format!("{{\"error\":\"invalid request method: {method}\"}}\n");
        let expected = answer("400 Bad Request", &[JSON, ID], &body);
        let said = scene.ask(method, "/logspec", "|{\"spec\":\"debug\"}").await;
        assert_eq!(said, expected);
    }
    assert_eq!(
        scene.ask("GET", "/logspec", "").await,
        spec(&now),
        "all were refused"
    );
    assert_eq!(heard(&scene.lines), "state-warn gossip-debug");
}

#[tokio::test]
async fn metrics_are_there_only_where_they_are_provided() {
    let scene = Scene::start(&plain()).await;
    scene.vitals.metrics.messages_sent.inc_by(3);
    for method in ["GET", "POST"] {
        let said = scene.ask(method, "/metrics", "").await;
        let head = "HTTP/1.1 200 OK\nContent-Type: text/plain; version=0.0.4; charset=utf-8\n";
        assert!(said.starts_with(head), "{said}");
        assert!(said.contains("\ngossip_comm_messages_sent 3\n"), "{said}");
        let version = concat!(
            "\nfabric_version{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1\n"
        );
        assert!(said.contains(version), "{said}");
        assert!(said.contains("\nprocess_open_fds "), "{said}");
    }
    let settings = OperationsSettings {
        metrics: false,
        ..plain()
    };
    let scene = Scene::start(&settings).await;
    let said = scene.ask("GET", "/metrics", "").await;
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
}

#[tokio::test]
async fn logs_that_others_write_are_neither_told_nor_changed() {
    let (logging, subscriber, _) = to_memory("info");
    drop(subscriber);
    let vitals = Vitals::default();
    let server = start(&plain(), shown(vitals, logging)).await.unwrap();
    for (method, body) in [("GET", ""), ("PUT", "{\"spec\":\"debug\"}")] {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let request = format!(
            "{method} /logspec HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let said = asked(stream, &request).await;
        assert!(said.starts_with("HTTP/1.1 500 "), "{said}");
        assert!(said.contains("not written by this program"), "{said}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let settings = OperationsSettings {
        listen: ("127.0.0.1".to_owned(), port),
        ..plain()
    };
    let (logging, _subscriber, _) = to_memory("info");
    let vitals = Vitals::default();
    let refused = start(&settings, shown(vitals, logging)).await;
    let said = refused.unwrap_err().to_string();
    let begin = format!("cannot listen on 127.0.0.1:{port} for operations: ");
    assert!(said.starts_with(&begin), "{said}");
    assert!(said.contains("operations.listenAddress"), "{said}");
}
