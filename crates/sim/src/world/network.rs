//! Streams between peers, and how they are found, fail and end.
//!
//! As in the real thing there is one stream between two peers, used in both directions; whoever
//! has something to send dials; a bounded number of envelopes travels in each direction. Unlike
//! it, envelopes overtake each other and some are lost, because the core may rely on neither.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::RngExt;
use tidings_gossip::{
    Connection, Input,
    effect::Destination,
    id::{ConnectionId, PkiId, Ticket},
    verify::verify,
};
use tidings_proto::{Message as _, gossip::Envelope};

use super::{Event, Life, World};
use crate::{millis, secs, stats::Arrivals, watch::Violation};

/// Envelopes on their way in one direction of a stream, and waiting for one dial, as in the
/// real queues (`peer.gossip.sendBuffSize` of the shipped settings).
const SEND_QUEUE_LEN_MAX: usize = 200;

/// A dial that nobody answers is given up after this (`peer.gossip.dialTimeout`).
const DIAL_TIMEOUT: Duration = secs(3);

/// A stream that carries nothing through for so long is broken, as TCP and keepalive find out.
const STREAM_PATIENCE: Duration = secs(15);

/// Round trips until a stream is open: TCP, TLS, Ping, handshake.
const DIAL_ROUND_TRIPS: u32 = 4;

/// A stream between two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(u64);

/// Its two ends.
pub(super) struct Link {
    ends: [End; 2],
    is_doubted: bool,
}

struct End {
    life: Life,
    /// How this end sees the other.
    connection: Arc<Connection>,
    /// Envelopes on their way to this end.
    travelling: usize,
}

/// Envelopes that wait for a stream.
pub(super) struct Dial {
    endpoint: String,
    began: Duration,
    waiting: Vec<Envelope>,
}

/// An envelope reaches the end of its way.
pub(super) struct Arrival {
    link: LinkId,
    /// Index of the end that it reaches.
    side: usize,
    frame: Bytes,
}

/// Is anybody there, and who?
pub(super) struct Question {
    ticket: Ticket,
    endpoint: String,
    wants_identity: bool,
}

impl Question {
    pub(super) fn probe(ticket: Ticket, endpoint: String) -> Self {
        Self {
            ticket,
            endpoint,
            wants_identity: false,
        }
    }

    pub(super) fn identify(ticket: Ticket, endpoint: String) -> Self {
        Self {
            wants_identity: true,
            ..Self::probe(ticket, endpoint)
        }
    }
}

impl LinkId {
    fn connection(self, side: usize) -> ConnectionId {
        ConnectionId(self.0 * 2 + side as u64)
    }

    fn of(connection: ConnectionId) -> (Self, usize) {
        let side = usize::from(connection.0 % 2 == 1);
        (Self(connection.0 / 2), side)
    }
}

/// What a core sends.
impl World {
    pub(super) fn send(&mut self, life: Life, to: &Destination, envelope: Envelope) {
        if let Err(violation) = self.watch(life, to.peer, &envelope) {
            self.violate(violation);
            return;
        }
        let other = self.by_pki_id.get(&to.peer).copied();
        let link = other.and_then(|other| self.pairs.get(&pair(life.peer, other)).copied());
        if let Some((link, other)) = link.zip(other) {
            let side = self.side_of(link, other);
            self.transmit(link, side, envelope);
        } else if to.endpoint.is_empty() {
            self.plan_input(millis(1), life, Input::Unreachable(to.peer));
        } else {
            self.dial(life, to, envelope);
        }
    }

    pub(super) fn reply(&mut self, life: Life, connection: ConnectionId, envelope: Envelope) {
        let (id, side) = LinkId::of(connection);
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let [own, other] = match side {
            0 => [&link.ends[0], &link.ends[1]],
            _ => [&link.ends[1], &link.ends[0]],
        };
        let (owner, to) = (own.life, own.connection.peer());
        let other = other.life.peer;
        if owner != life {
            self.violate(Violation::new("Reply", "on a stream of somebody else"));
        } else if let Err(violation) = self.watch(life, to, &envelope) {
            self.violate(violation);
        } else {
            self.transmit(id, self.side_of(id, other), envelope);
        }
    }

    fn watch(&mut self, life: Life, to: PkiId, envelope: &Envelope) -> Result<(), Violation> {
        let Some(from) = self.pki_id(life.peer) else {
            return Ok(());
        };
        let kind = self.register.check(from, to, envelope)?;
        self.stats.count_sent(kind, envelope.wire_len());
        Ok(())
    }

    /// Index of the end of a link at this peer.
    fn side_of(&self, link: LinkId, peer: usize) -> usize {
        let ends = self.links.get(&link).map(|link| &link.ends);
        usize::from(ends.is_some_and(|[_, second]| second.life.peer == peer))
    }

    /// Puts an envelope on its way to one end of a link.
    fn transmit(&mut self, id: LinkId, side: usize, envelope: Envelope) {
        let is_cut = self.is_link_cut(id);
        if is_cut {
            self.doubt(id);
        }
        if is_cut || self.happens(self.settings.loss) {
            self.stats.lost += 1;
            return;
        }
        let copies = 1 + usize::from(self.happens(self.settings.duplication));
        let frame: Bytes = envelope.encode_to_vec().into();
        for _ in 0..copies {
            let Some(end) = self.end_mut(id, side) else {
                return;
            };
            if end.travelling >= SEND_QUEUE_LEN_MAX {
                self.stats.overflown += 1;
                return;
            }
            end.travelling += 1;
            let latency = self.latency_to(id, side);
            let arrival = Arrival {
                link: id,
                side,
                frame: frame.clone(),
            };
            self.plan(self.now + latency, Event::Arrive(arrival));
        }
    }

    /// How long an envelope travels to one end of a link.
    fn latency_to(&mut self, id: LinkId, side: usize) -> Duration {
        let sender = self.end_mut(id, 1 - side).map(|end| end.life.peer);
        let slow = sender.and_then(|sender| self.settings.slow.get(&sender));
        let latency = slow.unwrap_or(&self.settings.latency);
        self.between(latency.clone())
    }

    /// An envelope passes the checks in front of a core and reaches it.
    pub(super) fn arrive(&mut self, Arrival { link, side, frame }: Arrival) {
        let is_cut = self.is_link_cut(link);
        let Some(end) = self.end_mut(link, side) else {
            return;
        };
        end.travelling -= 1;
        let (life, from) = (end.life, Arc::clone(&end.connection));
        if is_cut {
            self.stats.lost += 1;
            return;
        }
        let Some(body) = self.body(life) else {
            return;
        };
        let envelope = Envelope::decode(frame).expect("it was encoded a moment ago");
        match verify(&from, envelope, &body.verifier) {
            Ok(message) => {
                let arrivals = Arrivals::of(&message);
                let height = self.height(life.peer);
                self.stats.count_arrivals(&arrivals, height);
                self.give(life, Input::Received { from, message });
            }
            Err(refused) => {
                self.stats.unverified += 1;
                *self.stats.refused.entry(refused.rule).or_default() += 1;
            }
        }
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random_bool(share)
    }
}

/// Streams that begin.
impl World {
    fn dial(&mut self, life: Life, to: &Destination, envelope: Envelope) {
        let is_internal = self
            .hosts
            .iter()
            .find(|host| host.endpoint == to.endpoint)
            .is_some_and(|host| Some(&host.identity.org) != self.org_of(life.peer));
        if is_internal {
            let what = format!("peer {} dials {} of another org", life.peer, to.endpoint);
            self.violate(Violation::new("D-S7", what));
        }
        let now = self.now;
        let dial = self.dials.entry((life.peer, to.peer)).or_insert(Dial {
            endpoint: to.endpoint.clone(),
            began: now,
            waiting: Vec::new(),
        });
        if dial.waiting.len() >= SEND_QUEUE_LEN_MAX {
            self.stats.overflown += 1;
            return;
        }
        dial.waiting.push(envelope);
        if dial.waiting.len() == 1 {
            let round_trip = self.between(self.settings.latency.clone()) * 2;
            let at = now + round_trip * DIAL_ROUND_TRIPS;
            self.plan(at, Event::DialEnds(life, to.peer));
        }
    }

    fn org_of(&self, peer: usize) -> Option<&tidings_gossip::id::OrgId> {
        self.hosts.get(peer).map(|host| &host.identity.org)
    }

    pub(super) fn end_dial(&mut self, life: Life, expected: PkiId) {
        let Some(dial) = self.dials.get(&(life.peer, expected)) else {
            return;
        };
        let (endpoint, began) = (dial.endpoint.clone(), dial.began);
        match self.reach(life.peer, &endpoint) {
            Reach::Silence => {
                let at = (began + DIAL_TIMEOUT).max(self.now);
                self.plan(at, Event::DialFails(life, expected));
            }
            Reach::Refused => self.fail_dial(life, expected),
            Reach::Process(other) if !self.shake_hands(life, other) => {
                self.fail_dial(life, expected);
            }
            Reach::Process(other) if self.pki_id(other.peer) == Some(expected) => {
                let link = self.link(life, other);
                let waiting = self.dials.remove(&(life.peer, expected));
                let side = self.side_of(link, other.peer);
                for envelope in waiting.map(|dial| dial.waiting).unwrap_or_default() {
                    self.transmit(link, side, envelope);
                }
            }
            Reach::Process(other) if self.is_successor(other.peer, &expected) => {
                self.dials.remove(&(life.peer, expected));
                self.give(life, Input::Switched { expected });
                self.link(life, other);
            }
            Reach::Process(_) => self.fail_dial(life, expected),
        }
    }

    /// A peer that answers for another of the same organization has taken its place.
    fn is_successor(&self, peer: usize, of: &PkiId) -> bool {
        let expected = self.register.get(of).map(|person| &person.org);
        expected.is_some() && expected == self.org_of(peer)
    }

    /// Each side accepts the other's identity: it was not revoked and, by the own clock, has not
    /// expired.
    fn shake_hands(&self, one: Life, other: Life) -> bool {
        self.accepts(one, other) && self.accepts(other, one)
    }

    fn accepts(&self, judge: Life, other: Life) -> bool {
        let Some(identity) = self.hosts.get(other.peer).map(|host| &host.identity) else {
            return false;
        };
        let wall = self
            .hosts
            .get(judge.peer)
            .map_or(0, |host| host.wall_secs(self.now));
        self.body(judge)
            .is_some_and(|body| body.verifier.admits(&identity.pki_id))
            && wall < identity.expires_at
    }

    pub(super) fn fail_dial(&mut self, life: Life, expected: PkiId) {
        if self.dials.remove(&(life.peer, expected)).is_some() {
            self.give(life, Input::Unreachable(expected));
        }
    }

    /// The one link between two processes; both learn of it if it is new.
    fn link(&mut self, dialler: Life, acceptor: Life) -> LinkId {
        let pair = pair(dialler.peer, acceptor.peer);
        if let Some(link) = self.pairs.get(&pair) {
            return *link;
        }
        self.links_made += 1;
        let id = LinkId(self.links_made);
        let ends = [dialler, acceptor];
        let mut made = Vec::new();
        for (side, (life, other)) in [(dialler, acceptor), (acceptor, dialler)]
            .iter()
            .enumerate()
        {
            let identity = self.hosts.get(other.peer).map(|host| &host.identity);
            let handshake = self.body(*other).map(|body| &body.handshake);
            let (Some(identity), Some(handshake)) = (identity, handshake) else {
                continue;
            };
            let connection = Arc::new(Connection {
                id: id.connection(side),
                identity: Arc::clone(identity),
                handshake: handshake.clone(),
            });
            made.push(End {
                life: *life,
                connection,
                travelling: 0,
            });
        }
        let [first, second] = <[End; 2]>::try_from(made)
            .unwrap_or_else(|_| panic!("both ends of a new stream are processes that run"));
        let connections = [&first, &second].map(|end| Arc::clone(&end.connection));
        let link = Link {
            ends: [first, second],
            is_doubted: false,
        };
        self.links.insert(id, link);
        self.pairs.insert(pair, id);
        for (life, connection) in ends.into_iter().zip(connections) {
            if let Some(body) = self.body(life) {
                body.verifier.learn(&connection.identity);
            }
            self.give(life, Input::Connected(connection));
        }
        id
    }

    pub(super) fn ask(&mut self, life: Life, question: Question) {
        let round_trip = self.between(self.settings.latency.clone()) * 2;
        let at = match self.reach(life.peer, &question.endpoint) {
            Reach::Silence => DIAL_TIMEOUT,
            Reach::Refused | Reach::Process(_) => round_trip * DIAL_ROUND_TRIPS,
        };
        self.plan(self.now + at, Event::Answer(life, question));
    }

    pub(super) fn answer(&mut self, life: Life, question: Question) {
        let Question {
            ticket,
            endpoint,
            wants_identity,
        } = question;
        let reached = match self.reach(life.peer, &endpoint) {
            Reach::Process(other) if !wants_identity || self.shake_hands(life, other) => {
                Some(other)
            }
            Reach::Process(_) | Reach::Refused | Reach::Silence => None,
        };
        if !wants_identity {
            let answered = reached.is_some();
            self.give(life, Input::Probed { ticket, answered });
            return;
        }
        let identity = |life: Life| Arc::clone(&self.hosts[life.peer].identity);
        let peer = match reached {
            Some(other) => {
                let (asker, asked) = (identity(life), identity(other));
                for (host, learned) in [(life, &asked), (other, &asker)] {
                    if let Some(body) = self.body(host) {
                        body.verifier.learn(learned);
                    }
                }
                Ok(asked)
            }
            None => Err(format!("nobody answers at {endpoint}")),
        };
        self.give(life, Input::Identified { ticket, peer });
    }

    fn reach(&self, from: usize, endpoint: &str) -> Reach {
        let found = self.hosts.iter().position(|host| {
            host.endpoint == endpoint || host.external_endpoint == endpoint && !endpoint.is_empty()
        });
        let Some(peer) = found else {
            return Reach::Refused;
        };
        if self.is_cut(from, peer) {
            return Reach::Silence;
        }
        match self.hosts.get(peer) {
            Some(host) if host.body.is_some() => Reach::Process(host.life(peer)),
            _ => Reach::Refused,
        }
    }
}

/// Streams that end.
impl World {
    pub(super) fn close(&mut self, life: Life, peer: PkiId) {
        let other = self.by_pki_id.get(&peer).copied();
        let link = other.and_then(|other| self.pairs.get(&pair(life.peer, other)).copied());
        if let Some(link) = link {
            self.end_link(link, None);
        }
    }

    pub(super) fn drop_links_of(&mut self, life: Life) {
        self.dials.retain(|(from, _), _| *from != life.peer);
        let of = |link: &Link| link.ends.iter().any(|end| end.life == life);
        let links: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| of(link))
            .map(|(id, _)| *id)
            .collect();
        for link in links {
            self.end_link(link, Some(life));
        }
    }

    /// Forgets a link; both ends, but one that is dead itself, hear of it.
    fn end_link(&mut self, id: LinkId, dead: Option<Life>) {
        let is_cut = self.is_link_cut(id);
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        let [first, second] = &link.ends;
        self.pairs.remove(&pair(first.life.peer, second.life.peer));
        for end in link.ends.iter().filter(|end| Some(end.life) != dead) {
            let wait = match is_cut {
                true => STREAM_PATIENCE,
                false => self.between(self.settings.latency.clone()),
            };
            let input = Input::Disconnected {
                connection: end.connection.id,
                peer: end.connection.peer(),
            };
            self.plan_input(wait, end.life, input);
        }
    }

    /// Something was written into a cut stream: unless it heals, it will break.
    fn doubt(&mut self, id: LinkId) {
        let at = self.now + STREAM_PATIENCE;
        if let Some(link) = self.links.get_mut(&id)
            && !std::mem::replace(&mut link.is_doubted, true)
        {
            self.plan(at, Event::LinkBreaks(id));
        }
    }

    pub(super) fn break_link_if_cut(&mut self, id: LinkId) {
        let is_cut = self.is_link_cut(id);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.is_doubted = false;
        if !is_cut {
            return;
        }
        let ends = link
            .ends
            .each_ref()
            .map(|end| (end.life, end.connection.peer(), end.connection.id));
        let [(first, ..), (second, ..)] = ends;
        self.links.remove(&id);
        self.pairs.remove(&pair(first.peer, second.peer));
        for (life, peer, connection) in ends {
            self.give(life, Input::Disconnected { connection, peer });
            self.give(life, Input::Unreachable(peer));
        }
    }

    pub(super) fn cut(&mut self, name: usize, groups: Vec<Range<usize>>) {
        self.partitions.insert(name, groups);
    }

    fn is_link_cut(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| {
            let [first, second] = &link.ends;
            self.is_cut(first.life.peer, second.life.peer)
        })
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.partitions.values().any(|groups| {
            let group = |peer: usize| groups.iter().position(|group| group.contains(&peer));
            a != b && group(a) != group(b)
        })
    }

    fn end_mut(&mut self, id: LinkId, side: usize) -> Option<&mut End> {
        self.links.get_mut(&id)?.ends.get_mut(side)
    }
}

enum Reach {
    Process(Life),
    Refused,
    Silence,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
