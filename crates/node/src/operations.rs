//! The operations server: health, metrics, log levels and version over HTTP, as Fabric serves them.
//!
//! Promises Fabric's paths, methods, status codes and bodies. With TLS, what tells or changes
//! more than health and version needs a client certificate. Whoever connects is bounded in number,
//! time and bytes, and holds up nothing of the node. Changes nothing but what is logged.

mod answers;
mod process;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{self, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use self::answers::Visitor;
use crate::{
    logging::{Logging, Seldom, foreign},
    tls::{Arrival, Fault, Io, Listen, OperationsTls, TlsError},
    vitals::Vitals,
};

static NOT_ACCEPTED: Seldom = Seldom::new();
static TOO_MANY: Seldom = Seldom::new();
static NOT_SHAKEN: Seldom = Seldom::new();

/// Open connections. Those who watch a node are few; others wait unaccepted until one has ended.
const CONNECTIONS_MAX: usize = 64;

/// Open connections from one address: nobody alone may keep out a probe. Programs that watch hold
/// one each.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;

/// Time for the TLS handshake; and for the head of a request, also of the next one on the same
/// connection; as in Fabric.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of the head of a request: the most that fits the buffer of a connection.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Header fields of a request. Programs that watch send a dozen.
const HEADERS_MAX: usize = 64;

/// Age at which a connection ends after the answer that is under way. Fabric gives an answer that
/// long to be written.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(120);

/// Time for an answer that is under way when the connection should end, and when we stop.
const LAST_ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Pause after the system could not give us a connection, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What `operations` and `metrics` in `core.yaml` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationsSettings {
    /// `operations.listenAddress`: host and port.
    pub listen: (String, u16),
    /// `operations.tls`; none if that is not enabled.
    pub tls: Option<OperationsTls>,
    /// Metrics are served: `metrics.provider` is `prometheus`.
    pub metrics: bool,
}

/// What the server shows.
#[derive(Clone, Debug)]
pub struct Shown {
    /// `/healthz`, and `/metrics` if they are served.
    pub vitals: Vitals,
    /// `/logspec`.
    pub logging: Logging,
}

/// Why there is no operations server. Nothing has been started.
#[derive(Debug, thiserror::Error)]
pub enum OperationsRefused {
    /// The port is not to be had.
    #[error(
        "cannot listen on {host}:{port} for operations: {source}; name another \
         operations.listenAddress, or stop what uses it"
    )]
    Listen {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// What `operations.tls` names cannot be used.
    #[error("TLS for operations: {0}")]
    Tls(#[from] TlsError),
}

/// A server at work. Dropping it without [`Operations::stop`] cuts off who is connected.
#[derive(Debug)]
pub struct Operations {
    address: SocketAddr,
    stop: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Operations {
    /// Opens the port and serves. Meant to come before the node is started, which it can show in
    /// every state.
    pub async fn start(
        settings: &OperationsSettings,
        shown: Shown,
    ) -> Result<Self, OperationsRefused> {
        let tls = settings.tls.as_ref();
        let config = tls.map(|tls| tls.server_config(SystemTime::now()));
        let acceptor = config
            .transpose()?
            .map(|config| TlsAcceptor::from(Arc::new(config)));
        if tls.is_some_and(|tls| tls.client_roots.is_empty()) {
            tracing::warn!(
                target: "operations",
                "operations.tls.clientRootCAs.files names no root: no client certificate is good"
            );
        }
        let (host, port) = &settings.listen;
        let refuse = |source| OperationsRefused::Listen {
            host: host.clone(),
            port: *port,
            source,
        };
        let listener = TcpListener::bind((host.as_str(), *port)).await;
        let listener = listener.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let (stop, stopped) = watch::channel(());
        let reception = Reception {
            acceptor,
            shown: Arc::new(shown),
            metrics: settings.metrics,
            stopped,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(reception.run(listener));
        tracing::info!(target: "operations", %address, "the operations server is up");
        Ok(Self {
            address,
            stop,
            tasks,
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops within a second: answers that are under way are given.
    pub async fn stop(mut self) {
        drop(self.stop);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Where those who are connected come from.
#[derive(Debug, Default)]
struct Inside(BTreeMap<task::Id, IpAddr>);

impl Inside {
    /// Whether one more from there may come in. Says so in the log if not.
    fn has_room(&self, from: Option<IpAddr>) -> bool {
        let same = self.0.values().filter(|address| Some(**address) == from);
        let has_room = same.count() < CONNECTIONS_PER_ADDRESS_MAX;
        if !has_room && let Some(left_out) = TOO_MANY.line(std::time::Instant::now()) {
            tracing::warn!(
                target: "operations", ?from, left_out,
                "closed a connection: there are {CONNECTIONS_PER_ADDRESS_MAX} from this address"
            );
        }
        has_room
    }

    fn entered(&mut self, visit: task::Id, from: Option<IpAddr>) {
        self.0.extend(from.map(|from| (visit, from)));
    }

    fn left(&mut self, visit: task::Id) {
        self.0.remove(&visit);
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Reception {
    acceptor: Option<TlsAcceptor>,
    shown: Arc<Shown>,
    metrics: bool,
    stopped: watch::Receiver<()>,
}

impl Reception {
    /// Accepts until the server stops, then waits for those who are connected.
    async fn run(mut self, mut listener: impl Listen) {
        let mut visits = JoinSet::new();
        let mut inside = Inside::default();
        loop {
            tokio::select! {
                _ = self.stopped.changed() => break,
                Some(ended) = visits.join_next_with_id(), if !visits.is_empty() => {
                    inside.left(ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                accepted = poll_fn(|cx| listener.poll_accept(cx)),
                    if visits.len() < CONNECTIONS_MAX => match accepted {
                    Ok(arrival) => {
                        let from = arrival.remote.map(|remote| remote.ip());
                        if inside.has_room(from) {
                            let visit = visits.spawn(self.clone().visit(arrival));
                            inside.entered(visit.id(), from);
                        }
                    }
                    Err(error) => {
                        if let Some(left_out) = NOT_ACCEPTED.line(std::time::Instant::now()) {
                            tracing::warn!(
                                target: "operations", %error, left_out, "cannot accept a connection"
                            );
                        }
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        let gone = async { while visits.join_next().await.is_some() {} };
        if timeout(LAST_ANSWER_TIME_MAX, gone).await.is_err() {
            visits.shutdown().await;
        }
    }

    async fn visit(self, Arrival { io, remote }: Arrival) {
        let Some(acceptor) = &self.acceptor else {
            return self.converse(io, true).await;
        };
        match timeout(HEAD_TIME_MAX, acceptor.accept(io)).await {
            Ok(Ok(stream)) => {
                // One that was shown has been verified, or the handshake would have failed.
                let certified = stream.get_ref().1.peer_certificates().is_some();
                self.converse(stream, certified).await;
            }
            Ok(Err(error)) => {
                if let Some(left_out) = NOT_SHAKEN.line(std::time::Instant::now()) {
                    tracing::info!(
                        target: "operations", remote = remote.map(display), left_out, "TLS handshake failed: {}", foreign(Fault::of_handshake(&error))
                    );
                }
            }
            Err(_elapsed) => {
                tracing::debug!(target: "operations", remote = remote.map(display), "no TLS handshake in time");
            }
        }
    }

    /// Answers what is asked on one connection. `trusted`: all may be seen and done on it.
    async fn converse(mut self, io: impl Io, trusted: bool) {
        let visitor = Visitor {
            shown: self.shown,
            metrics: self.metrics,
            trusted,
        };
        let answer = service_fn(move |request| {
            let visitor = visitor.clone();
            async move { Ok::<_, Infallible>(visitor.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(io), answer);
        let mut connection = pin!(connection);
        tokio::select! {
            // An error is the other side's affair: it has gone, was slow, or speaks no HTTP.
            _ended = &mut connection => return,
            _ = self.stopped.changed() => {}
            () = sleep(CONNECTION_TIME_MAX) => {}
        }
        connection.as_mut().graceful_shutdown();
        // What is not taken by then is cut off.
        let _ = timeout(LAST_ANSWER_TIME_MAX, connection).await;
    }
}
