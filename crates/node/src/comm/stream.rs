//! The life of one stream: dial or be dialled, shake hands, register, read until the end.
//!
//! Each function here is the body of a task that the table owns. A task that ends, for whatever
//! reason, ends its stream, and the table learns of it by that.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tidings_gossip::{Connection, PeerIdentity, id::PkiId};
use tidings_proto::{
    gossip::{Empty, Envelope, gossip_client::GossipClient},
    tag::Kind,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task,
    time::timeout,
};
use tonic::{Status, Streaming, transport::Channel};
use tracing::{debug, field::display, info};

use super::{
    Authenticator, CommConfig, Inbox, MESSAGE_LEN_MAX, Refused,
    counters::Counters,
    flow::Flow,
    handshake::{Introduction, Presented, conclude, stands_for},
    pair::Side,
    queue::{Outgoing, Sender, queue},
    refusals::Refusals,
    threshold::Trust,
};
use crate::{
    logging::{Seldom, foreign},
    tls::{self, DialError, Dialed, Fault},
};

static NOT_REACHED: Seldom = Seldom::new();

/// What all tasks of comm share.
pub(crate) struct Context {
    pub(crate) config: CommConfig,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) inbox: Arc<dyn Inbox>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) registrations: mpsc::Sender<Registration>,
    pub(crate) dials: Arc<Semaphore>,
    pub(crate) handshakes: Arc<Semaphore>,
    /// Which were told.
    pub(crate) refusals: Refusals,
}

/// A stream that passed the handshake asks the table for its place.
pub(crate) struct Registration {
    pub(crate) task: task::Id,
    pub(crate) side: Side,
    pub(crate) introduction: Introduction,
    /// Of an inbound stream; that of an outbound one is known to the table.
    pub(crate) queue: Option<Sender>,
    /// Given after the core's inputs hold the news of the connection.
    pub(crate) place: oneshot::Sender<Result<Placed, Refused>>,
}

/// A stream's place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) connection: Arc<Connection>,
    pub(crate) flow: Arc<Flow>,
}

/// A stream that a peer opened. Our greeting is on its way.
pub(crate) struct Accepted {
    pub(crate) stream: Streaming<Envelope>,
    pub(crate) presented: Presented,
    pub(crate) queue: Sender,
    pub(crate) remote: Option<SocketAddr>,
    /// The right to be in a handshake.
    pub(crate) slots: Vec<OwnedSemaphorePermit>,
    /// To be given to a peer that has its place.
    pub(crate) trust: Option<Trust>,
}

/// What is left of a task.
pub(crate) enum Outcome {
    /// A stream, registered or not.
    Ended,
    /// Whether there was an answer.
    Probed(bool),
    /// Who answered.
    Identified(Result<Arc<PeerIdentity>, String>),
}

/// Why a dialled peer gave us nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("ping: {0}")]
    Ping(String),
    /// After the handshake, as far as we could see: servers judge a client's certificate later.
    #[error("TLS: {0}")]
    Tls(Fault),
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Failed {
    /// Which setting an operator should look at, to be read behind the reason.
    fn advice(&self) -> &'static str {
        let fault = match self {
            Self::Dial(DialError::Tls { source, .. }) => Some(Fault::of_handshake(source)),
            Self::Tls(fault) => Some(fault.clone()),
            _ => None,
        };
        match fault {
            Some(Fault::Theirs(_)) => {
                "; check peer.tls.rootcert.file here, and peer.tls.cert.file there"
            }
            Some(Fault::Ours(_)) => {
                "; check our peer.tls.cert.file and clientCert.file, and the TLS roots there"
            }
            Some(Fault::NotTls) => "; compare peer.tls.enabled here and there",
            Some(Fault::Other(_)) | None => "",
        }
    }
}

/// A stream that a peer opened.
pub(crate) async fn inbound(context: Arc<Context>, accepted: Accepted) -> Outcome {
    let Accepted {
        mut stream,
        presented,
        queue,
        remote,
        slots,
        trust,
    } = accepted;
    // Held here too, so that the RPC cannot end before it is said how.
    let verdict = queue.verdict();
    let registered = async {
        let introduction = introduce(&context, &mut stream, presented).await?;
        if introduction.probe {
            debug!(target: "gossip.comm", remote = remote.map(display), peer = %introduction.identity.pki_id, "probed");
            return Ok(None);
        }
        register(&context, Side::Inbound, introduction, Some(queue.clone()))
            .await
            .map(Some)
    };
    match registered.await {
        Ok(Some(placed)) => {
            drop(slots);
            if let Some(trust) = trust {
                trust.give();
            }
            if let Err(status) = read(&context, &mut stream, &placed).await {
                debug!(target: "gossip.comm", peer = %placed.connection.peer(), %status, "inbound stream failed");
                verdict.fail(status);
            }
        }
        Ok(None) => {}
        Err(refused) => {
            turned_away(&context, remote, &refused);
            verdict.fail(refused.status());
        }
    }
    drop(queue);
    Outcome::Ended
}

/// Tells and counts that a stream which a peer opened came to nothing.
pub(crate) fn turned_away(context: &Context, remote: Option<SocketAddr>, refused: &Refused) {
    let rule = refused.rule();
    let line = context
        .refusals
        .line(remote.map(|remote| remote.ip()), refused, Instant::now());
    let remote = remote.map(display);
    let reason = foreign(refused);
    if let Some(left_out) = line {
        info!(target: "gossip.comm", remote, rule, left_out, "refused a handshake: {reason}");
    } else {
        debug!(target: "gossip.comm", remote, rule, "refused a handshake: {reason}");
    }
    context.counters.refused(rule);
}

/// A stream that we dial, to whoever `expected` is or was.
pub(crate) async fn outbound(
    context: Arc<Context>,
    expected: PkiId,
    endpoint: String,
    outgoing: Outgoing,
    gate: oneshot::Sender<()>,
) -> Outcome {
    match open(&context, expected, &endpoint, outgoing).await {
        Ok((_dialed, mut stream, placed)) => {
            // The stream may have ended already; then reading says so.
            let _ = gate.send(());
            if let Err(status) = read(&context, &mut stream, &placed).await {
                debug!(target: "gossip.comm", peer = %placed.connection.peer(), %status, "outbound stream failed");
            }
        }
        Err(failed) => {
            if let Some(left_out) = NOT_REACHED.line(Instant::now()) {
                info!(
                    target: "gossip.comm", peer = %expected, endpoint, left_out,
                    "no connection to a member: {}", foreign(&failed)
                );
            }
            note(&context, &failed);
        }
    }
    Outcome::Ended
}

async fn open(
    context: &Context,
    expected: PkiId,
    endpoint: &str,
    outgoing: Outgoing,
) -> Result<(Dialed, Streaming<Envelope>, Placed), Failed> {
    let slot = context.dials.acquire().await;
    let (dialed, client) = reach(context, endpoint).await?;
    let (stream, introduction) = greet(context, &dialed, client, outgoing, false).await?;
    if introduction.identity.pki_id == context.config.me {
        return Err(Refused::Ourselves.into());
    }
    stands_for(expected, &introduction.identity, &*context.authenticator)?;
    let placed = register(context, Side::Outbound, introduction, None).await?;
    drop(slot);
    Ok((dialed, stream, placed))
}

/// Whether anything answers at an endpoint.
pub(crate) async fn probe(context: Arc<Context>, endpoint: String) -> Outcome {
    let _slot = context.dials.acquire().await;
    let reached = reach(&context, &endpoint).await;
    if let Err(failed) = &reached {
        let reason = foreign(failed);
        debug!(target: "gossip.comm", endpoint, reason, "no answer to a probe");
    }
    Outcome::Probed(reached.is_ok())
}

/// Who answers at an endpoint.
pub(crate) async fn identify(context: Arc<Context>, endpoint: String) -> Outcome {
    let _slot = context.dials.acquire().await;
    let identified = async {
        let (dialed, client) = reach(&context, &endpoint).await?;
        let (_, outgoing) = queue(None, None, 1, &context.counters);
        let (_stream, introduction) = greet(&context, &dialed, client, outgoing, true).await?;
        Ok::<_, Failed>(introduction.identity)
    };
    let identified = identified.await;
    if let Err(failed) = &identified {
        let reason = foreign(failed);
        debug!(target: "gossip.comm", endpoint, reason, "not identified");
        note(&context, failed);
    }
    let told = |failed: Failed| format!("{}{}", foreign(&failed), failed.advice());
    Outcome::Identified(identified.map_err(told))
}

/// Dials and pings, as Go does before every stream.
async fn reach(
    context: &Context,
    endpoint: &str,
) -> Result<(Dialed, GossipClient<Channel>), Failed> {
    let CommConfig {
        tls,
        dial,
        dial_timeout,
        conn_timeout,
        ..
    } = &context.config;
    let dialed = tls::connect(&**dial, endpoint, tls.as_ref(), *dial_timeout).await?;
    let mut client = GossipClient::new(dialed.channel.clone())
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(MESSAGE_LEN_MAX);
    timeout(*conn_timeout, client.ping(Empty::default()))
        .await
        .map_err(|_elapsed| Failed::Ping("no answer".to_owned()))?
        .map_err(|status| match dialed.broke() {
            Some(fault) => Failed::Tls(fault.clone()),
            None => Failed::Ping(status.message().to_owned()),
        })?;
    Ok((dialed, client))
}

/// The initiator's side of the handshake.
async fn greet(
    context: &Context,
    dialed: &Dialed,
    mut client: GossipClient<Channel>,
    outgoing: Outgoing,
    probe: bool,
) -> Result<(Streaming<Envelope>, Introduction), Refused> {
    let config = &context.config;
    let presented = Presented::of(config.tls.is_some(), dialed.peer_certificate_sha256)?;
    let own = dialed.own_certificate_sha256;
    let greeting = context.authenticator.own_handshake(own, probe);
    // The request's body flows before the response's headers come (C-G7).
    let opened = timeout(config.conn_timeout, async {
        let response = client
            .gossip_stream(outgoing.greeting_first(greeting))
            .await;
        let mut stream = response.map_err(|status| ended(&status))?.into_inner();
        let introduction = introduce(context, &mut stream, presented).await?;
        Ok((stream, introduction))
    });
    let (stream, introduction) = opened.await.map_err(|_elapsed| Refused::Silent)??;
    if introduction.probe {
        Err(Refused::Probe)
    } else {
        Ok((stream, introduction))
    }
}

/// Reads the peer's side of the handshake and checks it.
async fn introduce(
    context: &Context,
    stream: &mut Streaming<Envelope>,
    presented: Presented,
) -> Result<Introduction, Refused> {
    let first = timeout(context.config.conn_timeout, stream.message())
        .await
        .map_err(|_elapsed| Refused::Silent)?
        .map_err(|status| ended(&status))?
        .ok_or_else(|| Refused::Ended("nothing was said".to_owned()))?;
    conclude(first, presented, &*context.authenticator)
}

fn ended(status: &Status) -> Refused {
    Refused::Ended(status.message().to_owned())
}

async fn register(
    context: &Context,
    side: Side,
    introduction: Introduction,
    queue: Option<Sender>,
) -> Result<Placed, Refused> {
    if introduction.identity.pki_id == context.config.me {
        return Err(Refused::Ourselves);
    }
    let (place, placed) = oneshot::channel();
    let registration = Registration {
        task: task::id(),
        side,
        introduction,
        queue,
        place,
    };
    context
        .registrations
        .send(registration)
        .await
        .map_err(|_stopped| Refused::Stopping)?;
    placed.await.unwrap_or(Err(Refused::Stopping))
}

/// Hands over what the peer sends, one after the other, until the stream ends.
async fn read(
    context: &Context,
    stream: &mut Streaming<Envelope>,
    Placed { connection, flow }: &Placed,
) -> Result<(), Status> {
    while let Some(envelope) = stream.message().await? {
        let bytes = envelope.wire_len();
        let opened = envelope.open().map_err(|error| {
            context.counters.refused(Refused::Undecodable.rule());
            Status::unknown(format!("not a gossip message: {error}"))
        })?;
        let kind = opened.message().kind();
        context.counters.received(kind, bytes);
        flow.received(kind, bytes);
        // The identity of a connection never changes (C-S10), and `empty` says nothing.
        if matches!(kind, Some(Kind::Conn | Kind::Empty)) {
            continue;
        }
        context.inbox.receive(connection.clone(), opened).await;
    }
    Ok(())
}

fn note(context: &Context, failed: &Failed) {
    if let Failed::Refused(refused) = failed {
        context.counters.refused(refused.rule());
    }
}
