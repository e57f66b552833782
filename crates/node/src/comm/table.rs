//! The table of connections: which peer has which streams, and who is being dialled.
//!
//! One task owns it; there are no locks. It never waits for anything but news, and hands news on
//! from a queue of its own, so that commands are taken even while the core is busy. While that
//! queue is long no new streams are taken.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tidings_gossip::{
    Connection, Input,
    effect::Destination,
    id::{ConnectionId, PkiId, Ticket},
};
use tidings_proto::gossip::Envelope;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{self, AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    Refused,
    counters::Dropped,
    flow::{Flow, Traffic},
    pair::{Pair, Side},
    queue::{NotTaken, Receipt, Sender, Turn, queue},
    stream::{self, Accepted, Context, Outcome, Placed, Registration},
};

/// Peers with a connection. Each has proven an identity that an organization vouches for, so this
/// is only reached in a network of this size.
pub(super) const PEERS_MAX: usize = 1000;

/// Commands that are done before the table looks around for anything else: few enough to take no
/// time, many enough that looking around costs nothing beside them.
const COMMANDS_AT_ONCE: usize = 64;

/// News that the core has not taken, beyond which no new streams are taken.
const NEWS_MAX: usize = 1024;

/// How often it is looked whether all is well again.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a stream that we have finished may take to end.
const LINGER: Duration = Duration::from_secs(5);

/// What comm can be told to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// As the core's effect.
    Send {
        to: Destination,
        envelope: Envelope,
        turn: Turn,
    },
    /// As the core's effect.
    Reply {
        connection: ConnectionId,
        envelope: Envelope,
        receipt: Option<Receipt>,
    },
    /// As the core's effect.
    Close(PkiId),
    /// As the core's effect.
    Probe { ticket: Ticket, endpoint: String },
    /// As the core's effect.
    Identify { ticket: Ticket, endpoint: String },
    /// Say what goes over each connection.
    Traffic(oneshot::Sender<BTreeMap<PkiId, Traffic>>),
}

/// Where the table hears from, and whom it tells.
pub(crate) struct Inlets {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) accepted: mpsc::Receiver<Accepted>,
    pub(crate) registrations: mpsc::Receiver<Registration>,
    pub(crate) stopped: watch::Receiver<()>,
    pub(crate) inputs: mpsc::Sender<Input>,
}

pub(crate) struct Table {
    context: Arc<Context>,
    tasks: JoinSet<Outcome>,
    roles: BTreeMap<task::Id, Role>,
    peers: BTreeMap<PkiId, Peer>,
    /// Whose connection has this name.
    named: BTreeMap<ConnectionId, PkiId>,
    dials: BTreeMap<PkiId, Link>,
    /// When to look whether a peer still has two streams.
    reviews: VecDeque<(Instant, PkiId)>,
    /// Peers for which much waits, as the core was told, and when to look again.
    congested: BTreeSet<PkiId>,
    look_at: Option<Instant>,
    /// Streams that we have finished, with the end of our patience.
    finished: VecDeque<(Instant, AbortHandle)>,
    news: VecDeque<News>,
    connections_made: u64,
}

/// What a task is there for, so that its end means something even if it says nothing.
struct Role {
    task: AbortHandle,
    purpose: Purpose,
    registered_as: Option<PkiId>,
}

enum Purpose {
    Inbound,
    Outbound { expected: PkiId },
    Probe(Ticket),
    Identify(Ticket),
}

struct Peer {
    connection: Arc<Connection>,
    flow: Arc<Flow>,
    streams: Pair<Link>,
}

impl Peer {
    fn traffic(&self) -> Traffic {
        let (sent, received) = self.flow.counted();
        let link = self.streams.best();
        Traffic {
            connection: self.connection.id.0,
            sent,
            received,
            waiting: link.map_or(0, |link| link.queue.waiting() as u64),
        }
    }
}

/// A stream, or one to be.
struct Link {
    queue: Sender,
    task: AbortHandle,
}

impl Link {
    fn end(self) {
        self.queue.discard();
        self.task.abort();
    }
}

/// To be told in this order.
enum News {
    Input(Box<Input>),
    /// The stream may begin to read, now that the core has been told of its connection.
    Place(oneshot::Sender<Result<Placed, Refused>>, Placed),
}

impl Table {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            tasks: JoinSet::new(),
            roles: BTreeMap::new(),
            peers: BTreeMap::new(),
            named: BTreeMap::new(),
            dials: BTreeMap::new(),
            reviews: VecDeque::new(),
            congested: BTreeSet::new(),
            look_at: None,
            finished: VecDeque::new(),
            news: VecDeque::new(),
            connections_made: 0,
        }
    }

    /// Runs until stopped, then ends every stream and waits for all tasks.
    pub(crate) async fn run(mut self, mut inlets: Inlets) {
        let mut commands = Vec::with_capacity(COMMANDS_AT_ONCE);
        loop {
            self.context.counters.peers(self.peers.len());
            let room = self.news.len() < NEWS_MAX;
            let due = self.due();
            tokio::select! {
                _ = inlets.stopped.changed() => break,
                1.. = inlets.commands.recv_many(&mut commands, COMMANDS_AT_ONCE) => {
                    commands.drain(..).for_each(|command| self.command(command));
                }
                Some(accepted) = inlets.accepted.recv(), if room => self.accept(accepted),
                Some(asking) = inlets.registrations.recv(), if room => self.register(asking),
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                permit = inlets.inputs.reserve(), if !self.news.is_empty() => {
                    self.tell(permit.ok());
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.review();
                }
            }
        }
        for peer in std::mem::take(&mut self.peers).into_values() {
            peer.streams.into_streams().for_each(Link::end);
        }
        self.tasks.shutdown().await;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send { to, envelope, turn } => self.send(to, envelope, turn),
            Command::Reply {
                connection,
                envelope,
                receipt,
            } => {
                if let Some(peer) = self.named.get(&connection).copied()
                    && self.push(peer, envelope, Turn::InOrder, receipt).is_some()
                {
                    debug!(target: "gossip.comm", %peer, "the connection ended before the reply");
                }
            }
            Command::Close(peer) => self.close(peer),
            Command::Probe { ticket, endpoint } => {
                let probe = stream::probe(self.context.clone(), endpoint);
                self.spawn(probe, Purpose::Probe(ticket));
            }
            Command::Identify { ticket, endpoint } => {
                let identify = stream::identify(self.context.clone(), endpoint);
                self.spawn(identify, Purpose::Identify(ticket));
            }
            Command::Traffic(done) => {
                let traffic = self.peers.iter().map(|(id, peer)| (*id, peer.traffic()));
                // Whoever asked may have gone.
                let _ = done.send(traffic.collect());
            }
        }
    }

    fn send(&mut self, to: Destination, envelope: Envelope, turn: Turn) {
        let Some(envelope) = self.push(to.peer, envelope, turn, None) else {
            return;
        };
        if !self.dials.contains_key(&to.peer) {
            if to.endpoint.is_empty() {
                debug!(target: "gossip.comm", peer = %to.peer, "no connection and no endpoint to dial");
                return;
            }
            self.dial(to.peer, to.endpoint);
        }
        if let Some(dialling) = self.dials.get(&to.peer)
            && let Err(not_taken) = dialling.queue.push(envelope, turn, None)
        {
            self.dropped(to.peer, &not_taken);
        }
    }

    /// Puts a message in the queue of a peer's connection, or drops it when there is no room.
    /// Gives it back if there is no connection.
    fn push(
        &mut self,
        peer: PkiId,
        mut envelope: Envelope,
        turn: Turn,
        mut receipt: Option<Receipt>,
    ) -> Option<Envelope> {
        while let Some(link) = self.peers.get(&peer).and_then(|entry| entry.streams.best()) {
            match link.queue.push(envelope, turn, receipt.take()) {
                Ok(()) => {
                    if link.queue.is_congested() && self.congested.insert(peer) {
                        self.look_at
                            .get_or_insert_with(|| Instant::now() + LOOK_INTERVAL);
                        let is_congested = true;
                        self.inform(Input::Congestion { peer, is_congested });
                    }
                    return None;
                }
                Err(NotTaken::Closed(back)) => {
                    // Its task will notice; we already know.
                    let task = link.task.id();
                    link.task.abort();
                    self.forget(peer, task);
                    envelope = *back;
                }
                Err(not_taken) => {
                    self.dropped(peer, &not_taken);
                    return None;
                }
            }
        }
        Some(envelope)
    }

    fn dropped(&self, peer: PkiId, not_taken: &NotTaken) {
        let counters = &self.context.counters;
        match not_taken {
            NotTaken::TooLong => {
                counters.dropped(Dropped::TooLong);
                warn!(target: "gossip.comm", %peer, "dropped a message that is too long for any peer")
            }
            NotTaken::Full | NotTaken::Closed(_) => {
                counters.dropped(Dropped::PeerSlow);
                debug!(target: "gossip.comm", %peer, "dropped a message")
            }
        }
    }

    fn dial(&mut self, peer: PkiId, endpoint: String) {
        let (open, gate) = oneshot::channel();
        let len_max = self.context.config.send_queue_len_max;
        let (queue, outgoing) = queue(None, Some(gate), len_max, &self.context.counters);
        let dial = stream::outbound(self.context.clone(), peer, endpoint, outgoing, open);
        let task = self.spawn(dial, Purpose::Outbound { expected: peer });
        self.dials.insert(peer, Link { queue, task });
    }

    fn accept(&mut self, accepted: Accepted) {
        let inbound = stream::inbound(self.context.clone(), accepted);
        self.spawn(inbound, Purpose::Inbound);
    }

    fn spawn(
        &mut self,
        work: impl Future<Output = Outcome> + Send + 'static,
        purpose: Purpose,
    ) -> AbortHandle {
        let task = self.tasks.spawn(work);
        let role = Role {
            task: task.clone(),
            purpose,
            registered_as: None,
        };
        self.roles.insert(task.id(), role);
        task
    }

    /// Gives a stream its place beside or instead of others of the same peer. Unanswered, it ends.
    fn register(&mut self, asking: Registration) {
        let Registration {
            task: id,
            side,
            introduction,
            queue,
            place,
        } = asking;
        let Some(role) = self.roles.get_mut(&id) else {
            return;
        };
        let found = introduction.identity.pki_id;
        let queue = match (queue, &role.purpose) {
            (Some(queue), _) => queue,
            (None, Purpose::Outbound { expected }) => {
                let expected = *expected;
                // Not there if the peer was closed meanwhile.
                let Some(dialling) = self.dials.remove(&expected) else {
                    return;
                };
                if expected != found {
                    let switched = Box::new(Input::Switched { expected });
                    self.news.push_back(News::Input(switched));
                }
                dialling.queue
            }
            (None, _) => return,
        };
        role.registered_as = Some(found);
        let link = Link {
            queue,
            task: role.task.clone(),
        };
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&found) {
            // Nobody is left to take the answer only if the stream has ended by itself.
            let _ = place.send(Err(Refused::TooMany("connections")));
            return;
        }
        self.vacate(found, side);
        let (made, named, news) = (&mut self.connections_made, &mut self.named, &mut self.news);
        let peer = self.peers.entry(found).or_insert_with(|| {
            *made += 1;
            let connection = Arc::new(Connection {
                id: ConnectionId(*made),
                identity: introduction.identity,
                handshake: introduction.handshake,
            });
            named.insert(connection.id, found);
            news.push_back(News::Input(Box::new(Input::Connected(connection.clone()))));
            Peer {
                connection,
                flow: Arc::default(),
                streams: Pair::default(),
            }
        });
        let placed = Placed {
            connection: peer.connection.clone(),
            flow: peer.flow.clone(),
        };
        link.queue.count_in(peer.flow.clone());
        peer.streams.put(side, link, Instant::now());
        news.push_back(News::Place(place, placed));
        if let Some(due) = peer.streams.retires_at(self.context.config.me, found) {
            self.reviews.push_back((due, found));
        }
    }

    /// Ends the stream whose place is wanted. If it was the only one, its connection ends too.
    fn vacate(&mut self, id: PkiId, side: Side) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if let Some(earlier) = peer.streams.vacate(side) {
            debug!(target: "gossip.comm", peer = %id, ?side, "replaced a stream");
            earlier.end();
            self.bury(id);
        }
    }

    /// Takes a stream out of its connection, if it is still in it.
    fn forget(&mut self, id: PkiId, task: task::Id) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.streams.take(|link| link.task.id() == task).is_some()
        {
            self.bury(id);
        }
    }

    /// A connection without streams is gone.
    fn bury(&mut self, id: PkiId) {
        if self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.streams.is_empty())
            && let Some(peer) = self.peers.remove(&id)
        {
            self.parted(&peer);
        }
    }

    fn parted(&mut self, peer: &Peer) {
        let (connection, id) = (peer.connection.id, peer.connection.peer());
        self.named.remove(&connection);
        self.inform(Input::Disconnected {
            connection,
            peer: id,
        });
    }

    fn close(&mut self, id: PkiId) {
        if let Some(dialling) = self.dials.remove(&id) {
            dialling.end();
        }
        if let Some(peer) = self.peers.remove(&id) {
            self.parted(&peer);
            peer.streams.into_streams().for_each(Link::end);
        }
    }

    fn ended(&mut self, ended: Result<(task::Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Some(outcome)),
            Err(error) => {
                if error.is_panic() {
                    warn!(target: "gossip.comm", %error, "a task of a stream broke off");
                }
                (error.id(), None)
            }
        };
        let Some(role) = self.roles.remove(&id) else {
            return;
        };
        if let Some(peer) = role.registered_as {
            self.forget(peer, id);
            return;
        }
        match role.purpose {
            Purpose::Inbound => {}
            Purpose::Outbound { expected } => self.not_reached(expected, id),
            Purpose::Probe(ticket) => {
                let answered = matches!(outcome, Some(Outcome::Probed(true)));
                self.inform(Input::Probed { ticket, answered });
            }
            Purpose::Identify(ticket) => {
                let peer = match outcome {
                    Some(Outcome::Identified(peer)) => peer,
                    _ => Err("the attempt broke off".to_owned()),
                };
                self.inform(Input::Identified { ticket, peer });
            }
        }
    }

    /// One dial, one report, however many messages waited for it. None if the peer was closed
    /// meanwhile, or has dialled us.
    fn not_reached(&mut self, expected: PkiId, task: task::Id) {
        if self
            .dials
            .get(&expected)
            .is_some_and(|dialling| dialling.task.id() == task)
        {
            self.dials.remove(&expected);
            if !self.peers.contains_key(&expected) {
                self.inform(Input::Unreachable(expected));
            }
        }
    }

    fn inform(&mut self, input: Input) {
        self.news.push_back(News::Input(Box::new(input)));
    }

    /// Tells the oldest news and everything that may be told with it.
    fn tell(&mut self, permit: Option<mpsc::Permit<'_, Input>>) {
        let mut permit = Some(permit);
        while let Some(news) = self.news.pop_front() {
            match news {
                News::Place(place, placed) => {
                    // The stream may have ended meanwhile.
                    let _ = place.send(Ok(placed));
                }
                News::Input(input) => match permit.take() {
                    Some(Some(permit)) => permit.send(*input),
                    // Nobody wants to know any more.
                    Some(None) => {}
                    None => {
                        self.news.push_front(News::Input(input));
                        return;
                    }
                },
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let review = self.reviews.front().map(|(due, _)| *due);
        let patience = self.finished.front().map(|(due, _)| *due);
        [review, patience, self.look_at].into_iter().flatten().min()
    }

    /// Tells of whom less waits by now, or who is gone.
    fn look_at_congested(&mut self, now: Instant) {
        if self.look_at.is_none_or(|due| due > now) {
            return;
        }
        let is_over = |peer: &PkiId| {
            let link = self.peers.get(peer).and_then(|entry| entry.streams.best());
            link.is_none_or(|link| link.queue.is_calm())
        };
        let over: Vec<PkiId> = self.congested.iter().copied().filter(is_over).collect();
        for peer in over {
            self.congested.remove(&peer);
            let is_congested = false;
            self.inform(Input::Congestion { peer, is_congested });
        }
        self.look_at = (!self.congested.is_empty()).then(|| now + LOOK_INTERVAL);
    }

    fn review(&mut self) {
        let now = Instant::now();
        self.look_at_congested(now);
        while let Some(id) = take_due(&mut self.reviews, now) {
            let me = self.context.config.me;
            if let Some(peer) = self.peers.get_mut(&id)
                && let Some(Link { queue, task }) = peer.streams.retire(me, id, now)
            {
                debug!(target: "gossip.comm", peer = %id, "two streams: finishing the one that we dialled");
                // What waits is still sent, and the peer ends the stream after that.
                drop(queue);
                self.finished.push_back((now + LINGER, task));
            }
        }
        while let Some(task) = take_due(&mut self.finished, now) {
            task.abort();
        }
    }
}

/// The first of a queue, if its time has come. Each queue is in order, because all that is put
/// into it waits equally long.
fn take_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<T> {
    queue
        .front()
        .is_some_and(|(due, _)| *due <= now)
        .then_some(())?;
    queue.pop_front().map(|(_, first)| first)
}
