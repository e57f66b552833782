//! Where visitors by HTTP come in: the operations server and the service of blocks share it.
//!
//! Promises that whoever connects is bounded in number, time and bytes, and holds up nothing of
//! the node; that a certificate which is shown has been verified; and that a port which is open to
//! this machine alone, without TLS, is not read by web pages of others that a browser here was
//! talked into (DNS rebinding). Knows nothing of what is asked and answered.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header::HOST, uri::Authority};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{self, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use self::patient::Patient;
#[cfg(test)]
pub(crate) use self::patient::STALL_MAX;
use crate::{
    logging::{Seldom, foreign},
    tls::{Arrival, Fault, Io, Listen, ListenerTls, Section, TlsError},
};

mod patient;

static NOT_ACCEPTED: Seldom = Seldom::new();
static TOO_MANY: Seldom = Seldom::new();
static NOT_SHAKEN: Seldom = Seldom::new();

/// Open connections. Those who watch a node are few; others wait unaccepted until one has ended.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// Open connections from one address: nobody alone may keep out a probe. Programs that watch hold
/// one each.
pub(crate) const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;

/// Time for the TLS handshake; and for the head of a request, also of the next one on the same
/// connection; as in Fabric.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of the head of a request: the most that fits the buffer of a connection.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;

/// Header fields of a request. Programs that watch send a dozen.
pub(crate) const HEADERS_MAX: usize = 64;

/// Age at which a connection ends after the answer that is under way. Fabric gives an answer that
/// long to be written.
pub(crate) const CONNECTION_TIME_MAX: Duration = Duration::from_secs(120);

/// Time for an answer that is under way when the connection should end, and when we stop.
pub(crate) const LAST_ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Pause after the system could not give us a connection, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a section of `core.yaml` says of its listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// `listenAddress`: host and port.
    pub listen: (String, u16),
    /// `tls`; none if that is not enabled.
    pub tls: Option<ListenerTls>,
}

/// What the sections with a listener name, as read from its files, by the names of the sections.
pub type ListenersTls = BTreeMap<&'static str, ListenerTls>;

/// Why a request is refused that names another machine.
const MISDIRECTED: &str = "without TLS a loopback address is asked by itself, as localhost or by \
                           the name in listenAddress, and Host is something else: ask by one of \
                           these, or enable tls";

/// Why a server does not listen. Nothing has been started.
#[derive(Debug, thiserror::Error)]
pub enum ListenRefused {
    /// The port is not to be had.
    #[error(
        "cannot listen on {host}:{port} for {section}: {source}; name another \
         {section}.listenAddress, or stop what uses it"
    )]
    Listen {
        /// Of `core.yaml`.
        section: &'static str,
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// What the TLS settings name cannot be used.
    #[error("TLS for {section}: {source}")]
    Tls {
        /// Of `core.yaml`.
        section: &'static str,
        /// What is wrong with it.
        source: TlsError,
    },
}

/// Answers what is asked on the connections of a reception.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error = Infallible> + Send + 'static;

    /// Answers one request. `is_certified`: the visitor has shown a good certificate, or there is
    /// no TLS.
    fn answer(
        &self,
        request: Request<Incoming>,
        is_certified: bool,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// An answer that is none, with a sentence.
    fn refusal(status: StatusCode, sentence: &'static str) -> Response<Self::Body>;
}

/// Marks an answer that goes on for as long as its visitor takes it: age does not end its
/// connection. It should be the last on it (`Connection: close`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasting;

/// A port that is open and not served yet.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    /// As configured.
    host: String,
    address: SocketAddr,
    section: &'static Section,
    tls: Option<(ListenerTls, Arc<ServerConfig>)>,
}

/// A server at work. Dropping it without [`Serving::stop`] cuts off who is connected.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    section: &'static Section,
    /// What new connections use, and what it was made of.
    tls: Option<(ListenerTls, watch::Sender<Arc<ServerConfig>>)>,
    stop: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Door {
    /// Opens the port.
    pub(crate) async fn open(
        section: &'static Section,
        (host, port): &(String, u16),
        tls: Option<&ListenerTls>,
    ) -> Result<Self, ListenRefused> {
        let config = tls.map(|tls| tls.server_config(section, SystemTime::now()));
        let config = config.transpose().map_err(|source| ListenRefused::Tls {
            section: section.name,
            source,
        })?;
        let config = config.map(Arc::new);
        if tls.is_some_and(|tls| tls.client_roots.is_empty()) {
            tracing::warn!(
                target: "operations",
                "{} names no root: no client certificate is good", section.client_roots
            );
        }
        let refuse = |source| ListenRefused::Listen {
            section: section.name,
            host: host.clone(),
            port: *port,
            source,
        };
        let listener = TcpListener::bind((host.as_str(), *port)).await;
        let listener = listener.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        Ok(Self {
            listener,
            host: host.clone(),
            address,
            section,
            tls: tls.cloned().zip(config),
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets visitors in.
    pub(crate) fn serve(self, answers: impl Answers) -> Serving {
        let (stop, stopped) = watch::channel(());
        let tls = self
            .tls
            .map(|(tls, config)| (tls, watch::Sender::new(config)));
        let reception = Reception {
            tls: tls.as_ref().map(|(_, config)| config.subscribe()),
            only_here: (tls.is_none() && self.address.ip().to_canonical().is_loopback())
                .then(|| self.host.into()),
            answers,
            stopped,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(reception.run(self.listener));
        Serving {
            address: self.address,
            section: self.section,
            tls,
            stop,
            tasks,
        }
    }
}

impl Serving {
    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows what the files of its section hold by now to every new connection. False if that is
    /// the same as before. Nothing is changed by what is not good; nor is, by this, whether a
    /// certificate must be shown.
    pub fn renew(&mut self, read: &ListenersTls) -> Result<bool, TlsError> {
        let section = self.section;
        let Some(((before, config), tls)) = self.tls.as_mut().zip(read.get(section.name)) else {
            return Ok(false);
        };
        let tls = ListenerTls {
            client_auth_required: before.client_auth_required,
            ..tls.clone()
        };
        if tls == *before {
            return Ok(false);
        }
        config.send_replace(Arc::new(tls.server_config(section, SystemTime::now())?));
        *before = tls;
        let section = section.name;
        tracing::info!(target: "operations", section, "new TLS certificates are in use for new connections");
        Ok(true)
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
pub(crate) struct Reception<A> {
    pub(crate) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// If the port is open to this machine alone, and without TLS, the name that it is configured by.
    pub(crate) only_here: Option<Arc<str>>,
    pub(crate) answers: A,
    pub(crate) stopped: watch::Receiver<()>,
}

impl<A: Answers> Reception<A> {
    /// Accepts until the server stops, then waits for those who are connected.
    pub(crate) async fn run(mut self, mut listener: impl Listen) {
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
        let Some(config) = self.tls.as_ref().map(|tls| tls.borrow().clone()) else {
            return self.converse(io, true).await;
        };
        let acceptor = TlsAcceptor::from(config);
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

    /// Answers what is asked on one connection.
    pub(crate) async fn converse(mut self, io: impl Io, is_certified: bool) {
        let (begins, lasting) = watch::channel(false);
        let (answers, only_here) = (self.answers, self.only_here);
        let answer = service_fn(move |request: Request<Incoming>| {
            let (answers, begins) = (answers.clone(), begins.clone());
            let only_here = only_here.clone();
            async move {
                if only_here.is_some_and(|host| !is_for(&host, request.headers())) {
                    let status = StatusCode::MISDIRECTED_REQUEST;
                    return Ok(A::refusal(status, MISDIRECTED));
                }
                let answer = answers.answer(request, is_certified).await;
                if answer.extensions().get::<Lasting>().is_some() {
                    begins.send_replace(true);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(Patient::new(io)), answer);
        let mut connection = pin!(connection);
        tokio::select! {
            // An error is the other side's affair: it has gone, was slow, or speaks no HTTP.
            _ended = &mut connection => return,
            _ = self.stopped.changed() => {}
            () = aged(&lasting) => {}
        }
        connection.as_mut().graceful_shutdown();
        // What is not taken by then is cut off.
        let _ = timeout(LAST_ANSWER_TIME_MAX, connection).await;
    }
}

/// Whether a request is for this machine by the name under which it was asked, which may also be
/// `own`. A page of another site whose name was made to lead here has its own there; only who is no
/// browser has none.
pub fn is_for(own: &str, headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().all(|host| {
        let host = Authority::try_from(host.as_bytes());
        host.is_ok_and(|host| {
            let name = host.host().trim_start_matches('[').trim_end_matches(']');
            let address = name.parse::<IpAddr>();
            ["localhost", own]
                .iter()
                .any(|good| name.eq_ignore_ascii_case(good))
                || address.is_ok_and(|address| address.to_canonical().is_loopback())
        })
    })
}

/// When a connection has lasted long enough.
async fn aged(lasting: &watch::Receiver<bool>) {
    sleep(CONNECTION_TIME_MAX).await;
    if *lasting.borrow() {
        pending::<()>().await;
    }
}
