//! Connections to other peers.
//!
//! Promises: a message that leaves here came from a peer whose handshake was checked, on the
//! connection that it names; there is one connection to a peer, whoever dialled it; what is sent
//! waits in a queue with a limit and is dropped beyond it; a connection whose messages are not
//! taken waits alone. Nothing here looks into a message further than its kind.
//!
//! One task, the table, owns which peer has which streams (`table`). Every stream has a task of
//! its own (`stream`). The table never waits for anybody, so everybody may wait for it.
//!
//! Rules: docs/protocol/connections.md.

mod counters;
mod flow;
mod handshake;
mod metered;
mod pair;
mod queue;
mod refusals;
mod service;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod threshold;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures_util::{TryStreamExt, future::BoxFuture};
use tidings_gossip::{
    Connection, Input,
    effect::Destination,
    id::{ConnectionId, PkiId, Ticket},
};
use tidings_proto::{
    envelope::Opened,
    gossip::{Envelope, gossip_server::GossipServer},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tonic::{service::Routes, transport::Server};
use tracing::{debug, error, warn};

use self::{
    counters::{Counters, Dropped},
    metered::Metered,
    queue::Turn,
    service::Service,
    stream::Context,
    table::{Command, Inlets, Table},
    threshold::Threshold,
};
pub use self::{
    flow::{Counted, Traffic},
    handshake::{Authenticator, Refused},
};
use crate::{
    metrics::Metrics,
    tls::{self, Closer, Dial, Incoming, Listen, TcpDial, Tls},
    vitals::Open,
};

/// Largest message in either direction: `peer.maxRecvMsgSize` and `peer.maxSendMsgSize` (C-G6).
pub const MESSAGE_LEN_MAX: usize = 100 << 20;

/// Commands that may wait for the table, which only waits for the processor.
const COMMANDS_MAX: usize = 4096;

/// Streams that passed TLS and wait for the table.
const ACCEPTED_MAX: usize = 64;

/// Handshakes with peers that are not known yet: each may make us check two signatures.
const HANDSHAKES_MAX: usize = 64;

/// Endpoints dialled at the same time.
const DIALS_MAX: usize = 64;

/// HTTP/2 streams on one connection, of all services.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;

/// Interval of the server's HTTP/2 pings, as in Go.
const SERVER_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(7200);

/// Time for the last words of streams when we stop.
const FAREWELL: Duration = Duration::from_secs(1);

/// The settings of comm.
#[derive(Clone)]
pub struct CommConfig {
    /// Our own PKI-ID.
    pub me: PkiId,
    /// None: plaintext.
    pub tls: Option<Tls>,
    /// `peer.gossip.dialTimeout`: TCP and TLS.
    pub dial_timeout: Duration,
    /// `peer.gossip.connTimeout`: the ping, then the handshake.
    pub conn_timeout: Duration,
    /// `peer.gossip.sendBuffSize`: messages that may wait for one peer.
    pub send_queue_len_max: usize,
    /// How endpoints are reached.
    pub dial: Arc<dyn Dial>,
}

impl CommConfig {
    /// Fabric's defaults, over TCP.
    pub fn new(me: PkiId, tls: Option<Tls>) -> Self {
        Self {
            me,
            tls,
            dial_timeout: Duration::from_secs(3),
            conn_timeout: Duration::from_secs(2),
            send_queue_len_max: 200,
            dial: Arc::new(TcpDial),
        }
    }
}

impl fmt::Debug for CommConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommConfig")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

/// Takes what peers send.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one message. Until this is done nothing more is read from this connection, and soon
    /// its peer can send no more; other connections go on.
    fn receive(&self, from: Arc<Connection>, message: Opened) -> BoxFuture<'_, ()>;
}

/// Whom comm works with.
#[derive(Clone)]
pub struct Surroundings {
    /// Identities and keys.
    pub authenticator: Arc<dyn Authenticator>,
    /// Where messages go.
    pub inbox: Arc<dyn Inbox>,
    /// Where everything else goes: `Connected`, `Disconnected`, `Unreachable`, `Switched`,
    /// `Probed` and `Identified`. A connection's `Connected` is put here before its first message
    /// is put into the inbox.
    pub inputs: mpsc::Sender<Input>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Running connections. Everything ends when this is dropped; [`Comm::stop`] also waits for it.
#[derive(Debug)]
pub struct Comm {
    handle: CommHandle,
    stop_table: watch::Sender<()>,
    stop_server: watch::Sender<()>,
    closer: Closer,
    table: JoinSet<()>,
    server: JoinSet<()>,
}

impl Comm {
    /// Accepts connections for gossip and for the other services of this port, and dials. Must be
    /// called within a tokio runtime.
    pub fn start(
        config: CommConfig,
        listener: impl Listen,
        routes: Routes,
        surroundings: Surroundings,
    ) -> Self {
        let counters = Arc::new(Counters::new(&surroundings.metrics));
        let metrics = surroundings.metrics;
        let (registrations, registrations_in) = mpsc::channel(ACCEPTED_MAX);
        let (accepted, accepted_in) = mpsc::channel(ACCEPTED_MAX);
        let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
        let (stop_table, table_stopped) = watch::channel(());
        let (stop_server, mut server_stopped) = watch::channel(());
        let (incoming, closer) =
            Incoming::new(Metered::new(listener, &metrics), config.tls.clone());
        let incoming = incoming.map_ok(move |stream| stream.counted(Open::new(&metrics)));
        let context = Arc::new(Context {
            authenticator: surroundings.authenticator,
            inbox: surroundings.inbox,
            counters: counters.clone(),
            registrations,
            dials: Arc::new(Semaphore::new(DIALS_MAX)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            config,
            refusals: refusals::Refusals::new(),
        });
        let inlets = Inlets {
            commands: commands_in,
            accepted: accepted_in,
            registrations: registrations_in,
            stopped: table_stopped,
            inputs: surroundings.inputs,
        };
        let mut table = JoinSet::new();
        table.spawn(Table::new(context.clone()).run(inlets));

        let gossip = GossipServer::new(Service { context, accepted })
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX);
        let serving = Server::builder()
            .http2_keepalive_interval(Some(SERVER_KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(tls::KEEPALIVE_TIMEOUT))
            .initial_stream_window_size(tls::STREAM_WINDOW)
            .initial_connection_window_size(tls::CONNECTION_WINDOW)
            .max_frame_size(tls::FRAME_LEN_MAX)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .add_routes(routes.add_service(Threshold(gossip)))
            .serve_with_incoming_shutdown(incoming, async move {
                // An error means that the owner is gone, which asks for the same.
                let _ = server_stopped.changed().await;
            });
        let mut server = JoinSet::new();
        server.spawn(async move {
            if let Err(error) = serving.await {
                error!(target: "gossip.comm", %error, "stopped accepting connections");
            }
        });
        let handle = CommHandle { commands, counters };
        Self {
            handle,
            stop_table,
            stop_server,
            closer,
            table,
            server,
        }
    }

    /// For those who send.
    pub fn handle(&self) -> CommHandle {
        self.handle.clone()
    }

    /// Stops accepting, ends every connection and waits for all tasks.
    pub async fn stop(mut self) {
        drop(self.stop_table);
        while self.table.join_next().await.is_some() {}
        drop(self.stop_server);
        let gone = async { while self.server.join_next().await.is_some() {} };
        let mut gone = std::pin::pin!(gone);
        if timeout(FAREWELL, &mut gone).await.is_err() {
            debug!(target: "gossip.comm", "ending connections whose peers hold on to them");
            drop(self.closer);
            gone.await;
        }
    }
}

/// Gives commands to comm. Never waits.
#[derive(Clone, Debug)]
pub struct CommHandle {
    commands: mpsc::Sender<Command>,
    counters: Arc<Counters>,
}

impl CommHandle {
    /// As [`tidings_gossip::Effect::Send`].
    pub fn send(&self, to: Destination, envelope: Envelope) {
        let turn = Turn::InOrder;
        self.give_message(Command::Send { to, envelope, turn });
    }

    /// As [`tidings_gossip::Effect::Stripe`], for messages that go before those of [`Self::send`].
    pub(crate) fn send_first(&self, to: Destination, envelope: Envelope) {
        let turn = Turn::First;
        self.give_message(Command::Send { to, envelope, turn });
    }

    /// As [`tidings_gossip::Effect::Reply`].
    pub fn reply(&self, connection: ConnectionId, envelope: Envelope) {
        self.give_message(Command::Reply {
            connection,
            envelope,
            receipt: None,
        });
    }

    /// As [`Self::reply`]. What is given ends when the message waits no more, because its peer
    /// takes it or because it was dropped; the value of its end means nothing.
    pub(crate) fn reply_watched(
        &self,
        connection: ConnectionId,
        envelope: Envelope,
    ) -> oneshot::Receiver<()> {
        let (receipt, left) = oneshot::channel();
        self.give_message(Command::Reply {
            connection,
            envelope,
            receipt: Some(receipt),
        });
        left
    }

    /// As [`tidings_gossip::Effect::Close`].
    pub fn close(&self, peer: PkiId) {
        if !self.give(Command::Close(peer)) {
            warn!(target: "gossip.comm", %peer, "not closed: comm has no time or has stopped");
        }
    }

    /// As [`tidings_gossip::Effect::Probe`]. The answer comes later, or is given back at once
    /// when there is no room for another command.
    #[must_use]
    pub fn probe(&self, ticket: Ticket, endpoint: String) -> Option<Input> {
        let given = self.give(Command::Probe { ticket, endpoint });
        let answered = false;
        (!given).then_some(Input::Probed { ticket, answered })
    }

    /// As [`tidings_gossip::Effect::Identify`]. Answered as [`Self::probe`].
    #[must_use]
    pub fn identify(&self, ticket: Ticket, endpoint: String) -> Option<Input> {
        let given = self.give(Command::Identify { ticket, endpoint });
        let peer = || Err("comm has no time or has stopped".to_owned());
        (!given).then(|| Input::Identified {
            ticket,
            peer: peer(),
        })
    }

    /// What goes over each connection. None if comm has no time or has stopped.
    pub fn traffic(&self) -> impl Future<Output = Option<BTreeMap<PkiId, Traffic>>> + Send + use<> {
        let (done, traffic) = oneshot::channel();
        self.give(Command::Traffic(done));
        async move { traffic.await.ok() }
    }

    /// To a comm that does nothing, with room for one command; it goes on until what is given ends.
    #[cfg(test)]
    pub(crate) fn to_nobody() -> (Self, impl Sized) {
        let (commands, nobody) = mpsc::channel(1);
        let counters = Arc::new(Counters::new(&Metrics::new()));
        (Self { commands, counters }, nobody)
    }

    fn give_message(&self, command: Command) {
        if !self.give(command) {
            self.counters.dropped(Dropped::Busy);
        }
    }

    /// False if the table is starved of processor time, or comm has stopped.
    fn give(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }
}
