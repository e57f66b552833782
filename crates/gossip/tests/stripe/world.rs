//! A few members, an orderer, and a network that delays and loses, all under one seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, rngs::ChaCha8Rng};
use tidings_gossip::{
    Ports, VerifiedBlock,
    dissemination::{
        Dissemination, Effect, Input, Leader, Member, Origin, PlainPeer, Rtt, Verdict,
        message::{Class, Digest, Message, Queue},
        parameters::{Parameters, PlainDelivery},
    },
    id::{ChannelId, Moment, OrgId, PkiId},
    message::{PeerIdentity, StateInfo},
    ports::{CollectionName, Terms},
    random,
};
use tidings_proto::protos::CollectionConfigPackage;

mod lies;

use lies::JUNK;
pub(crate) use lies::Lie;

/// How long a fetch in the plain way takes here.
const FETCH_TIME: Duration = Duration::from_millis(300);

/// Signs for one node in a way that the world can check.
struct Pen(PkiId);

impl Pen {
    fn signature(&self, message: &[u8]) -> Bytes {
        let mut signed = self.0.as_bytes().to_vec();
        signed.extend(message);
        Bytes::copy_from_slice(&Digest::of(&signed).0)
    }
}

impl Ports for Pen {
    fn sign(&self, message: &[u8]) -> Bytes {
        self.signature(message)
    }

    fn is_reader(&self, _: &ChannelId, _: &PeerIdentity) -> bool {
        true
    }

    fn member_orgs(
        &self,
        _: &ChannelId,
        _: CollectionName<'_>,
        _: &CollectionConfigPackage,
    ) -> Result<BTreeSet<OrgId>, String> {
        Ok(BTreeSet::new())
    }

    fn is_entitled(
        &self,
        _: &ChannelId,
        _: CollectionName<'_>,
        _: Terms<'_>,
        _: &StateInfo,
    ) -> bool {
        false
    }
}

pub(crate) struct Peer {
    pub(crate) machine: Dissemination,
    pen: Pen,
    pub(crate) is_up: bool,
    pub(crate) lie: Option<Lie>,
    pub(crate) has: BTreeMap<u64, Moment>,
    pub(crate) height: u64,
    pub(crate) fetches: BTreeSet<u64>,
    pub(crate) notices: Vec<String>,
    leader: Leader,
    uplink_free: Moment,
}

#[derive(Debug)]
enum Event {
    Arrive {
        from: usize,
        to: usize,
        message: Message,
    },
    Judged {
        at: usize,
        number: u64,
        hash: Digest,
        verdict: Verdict,
    },
    Fetched {
        at: usize,
        number: u64,
    },
}

/// What is given to a plain peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    pub(crate) by: usize,
    pub(crate) to: PkiId,
    pub(crate) number: u64,
    pub(crate) how: PlainDelivery,
}

pub(crate) struct World {
    seed: u64,
    rng: ChaCha8Rng,
    pub(crate) now: Moment,
    pub(crate) peers: Vec<Peer>,
    plain: BTreeMap<PkiId, u64>,
    events: BTreeMap<(Moment, u64), Event>,
    next_event: u64,
    pub(crate) loss: f64,
    /// No chunk of this stripe arrives.
    pub(crate) suppressed: Option<u8>,
    /// Views reach only those for whom this is true.
    pub(crate) views_reach: fn(usize) -> bool,
    pub(crate) truth: BTreeMap<u64, Bytes>,
    pub(crate) chunk_bytes: u64,
    pub(crate) control_bytes: u64,
    /// Whom a view ever called a suspect.
    pub(crate) suspects: BTreeSet<PkiId>,
    /// Whom a view ever called slow; nobody is.
    pub(crate) slow: BTreeSet<PkiId>,
    /// How often somebody found a bad chunk in a block.
    pub(crate) doubts: usize,
    pub(crate) given: Vec<Given>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.seed);
        }
    }
}

pub(crate) fn id(index: usize) -> PkiId {
    let mut id = [0; 32];
    // Scattered, so that the order of ids is not that of indices.
    let scattered = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    id[..8].copy_from_slice(&scattered.to_be_bytes());
    id[8] = index as u8;
    PkiId::new(id)
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    pub(crate) fn new(seed: u64, count: usize) -> Self {
        Self::with(seed, count, Parameters::default())
    }

    pub(crate) fn with(seed: u64, count: usize, parameters: Parameters) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let peers = (0..count).map(|index| {
            bytes[31] = index as u8;
            Peer {
                machine: Dissemination::new(id(index), "ch".into(), parameters.clone(), &bytes),
                pen: Pen(id(index)),
                is_up: true,
                lie: None,
                has: BTreeMap::new(),
                height: 0,
                fetches: BTreeSet::new(),
                notices: Vec::new(),
                leader: Leader::Unknown,
                uplink_free: Moment::ZERO,
            }
        });
        Self {
            seed,
            peers: peers.collect(),
            rng: random::generator(&bytes, "world"),
            now: Moment::ZERO,
            plain: BTreeMap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            loss: 0.0,
            suppressed: None,
            views_reach: |_| true,
            truth: BTreeMap::new(),
            chunk_bytes: 0,
            control_bytes: 0,
            doubts: 0,
            suspects: BTreeSet::new(),
            slow: BTreeSet::new(),
            given: Vec::new(),
        }
    }

    pub(crate) fn feed(&mut self, at: usize, input: Input) {
        let mut out = Vec::new();
        let peer = &mut self.peers[at];
        peer.machine.handle(self.now, input, &peer.pen, &mut out);
        self.obey(at, out);
    }

    /// Tells everybody who is there.
    pub(crate) fn introduce(&mut self) {
        for at in 0..self.peers.len() {
            let there = (0..self.peers.len()).filter(|other| *other != at);
            let members = there
                .filter(|other| self.peers[*other].is_up)
                .map(|other| Member {
                    peer: id(other),
                    class: Class::Normal,
                    rtt: Some(Rtt {
                        mean: Duration::from_millis(1),
                        deviation: None,
                    }),
                });
            let members = members.collect();
            let plain = self.plain.iter().map(|(peer, height)| PlainPeer {
                peer: *peer,
                height: *height,
            });
            let plain = plain.collect();
            self.feed(at, Input::Members { members, plain });
        }
    }

    pub(crate) fn add_plain(&mut self, peer: PkiId) {
        self.plain.insert(peer, 0);
    }

    /// A plain peer advertises a height.
    pub(crate) fn advertise(&mut self, peer: PkiId, height: u64) {
        self.plain.insert(peer, height);
        self.introduce();
    }

    pub(crate) fn crown(&mut self, leader: usize) {
        for at in 0..self.peers.len() {
            self.follow(at, leader);
        }
    }

    pub(crate) fn follow(&mut self, at: usize, leader: usize) {
        let leader = if at == leader {
            Leader::Me
        } else {
            Leader::Peer(id(leader))
        };
        self.peers[at].leader = leader;
        self.feed(at, Input::Leader(leader));
    }

    /// Nobody is elected, and everybody believes to be the one that gets blocks from an orderer.
    pub(crate) fn appoint_all(&mut self) {
        for at in 0..self.peers.len() {
            self.peers[at].leader = Leader::MeAmongOthers;
            self.feed(at, Input::Leader(Leader::MeAmongOthers));
        }
    }

    pub(crate) fn led_by_plain(&mut self, leader: PkiId) {
        for at in 0..self.peers.len() {
            self.feed(at, Input::Leader(Leader::Peer(leader)));
        }
    }

    pub(crate) fn crash(&mut self, at: usize) {
        self.peers[at].is_up = false;
    }

    pub(crate) fn connection(&mut self, of: usize, is_up: bool) {
        for at in (0..self.peers.len()).filter(|at| *at != of) {
            let peer = id(of);
            self.feed(at, Input::Connection { peer, is_up });
        }
    }

    /// A block that the orderer makes.
    pub(crate) fn make(&mut self, number: u64, len: usize) -> (VerifiedBlock, Digest) {
        let mut bytes = vec![0; len.max(8)];
        self.rng.fill(&mut bytes[..]);
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let bytes = Bytes::from(bytes);
        self.truth.insert(number, bytes.clone());
        (verified(number, &bytes), Digest::of(&bytes))
    }

    pub(crate) fn give(&mut self, at: usize, number: u64, origin: Origin) {
        let bytes = self.truth[&number].clone();
        let input = Input::Block {
            block: verified(number, &bytes),
            hash: Digest::of(&bytes),
            origin,
        };
        self.note(at, number);
        self.feed(at, input);
        self.commit(at);
    }

    pub(crate) fn order(&mut self, at: usize, number: u64, len: usize) {
        self.make(number, len);
        self.give(at, number, Origin::Ordered);
    }

    fn note(&mut self, at: usize, number: u64) {
        self.peers[at].has.entry(number).or_insert(self.now);
    }

    fn commit(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let before = peer.height;
        while peer.has.contains_key(&peer.height) {
            peer.height += 1;
        }
        let height = peer.height;
        if height > before {
            self.feed(at, Input::Height(height));
        }
    }

    fn obey(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(at, to, message),
                Effect::Judge {
                    number,
                    hash,
                    bytes,
                    ..
                } => {
                    let verdict = if Digest::of(&bytes) != hash {
                        Verdict::Corrupt
                    } else if self.truth.get(&number) == Some(&bytes) {
                        Verdict::Good(verified(number, &bytes))
                    } else {
                        Verdict::Refused
                    };
                    let judged = Event::Judged {
                        at,
                        number,
                        hash,
                        verdict,
                    };
                    self.schedule(Duration::from_micros(300), judged);
                }
                Effect::Deliver(block) => {
                    assert_eq!(self.truth.get(&block.number), Some(&block.bytes));
                    let is_news = !self.peers[at].has.contains_key(&block.number);
                    assert!(is_news, "{at} is given block {} twice", block.number);
                    self.note(at, block.number);
                    self.commit(at);
                    if self.peers[at].lie == Some(Lie::Slanders) {
                        self.slander(at, block.number);
                    }
                }
                // What is ordered here comes when the test says so.
                Effect::Hold(_) => {}
                Effect::Fetch(number) => {
                    if self.peers[at].fetches.insert(number) {
                        self.schedule(FETCH_TIME, Event::Fetched { at, number });
                    }
                }
                Effect::GivePlain { to, block, how } => self.given.push(Given {
                    by: at,
                    to,
                    number: block.number,
                    how,
                }),
                Effect::Notify(notice) => self.peers[at].notices.push(format!("{notice:?}")),
                Effect::Declare(_) => {}
            }
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.next_event += 1;
        self.events
            .insert((self.now + after, self.next_event), event);
    }

    fn send(&mut self, from: usize, to: PkiId, message: Message) {
        if !self.peers[from].is_up {
            return;
        }
        let is_chunk = message.queue() == Queue::Chunk;
        if let Message::View(view) = &message {
            for (peer, class) in &view.added {
                match class {
                    Class::Suspect => self.suspects.insert(*peer),
                    Class::Slow => self.slow.insert(*peer),
                    Class::Normal => false,
                };
            }
        }
        self.doubts += usize::from(matches!(message, Message::HashesRequest { .. }));
        let mut delay = Duration::from_micros(self.rng.random_range(300..700));
        if is_chunk {
            self.chunk_bytes += message.wire_len();
            let takes = Duration::from_nanos(20_000 + message.wire_len() * 8);
            let free = self.peers[from].uplink_free.max(self.now) + takes;
            self.peers[from].uplink_free = free;
            delay += free.since(self.now);
        } else {
            self.control_bytes += message.wire_len();
        }
        let withheld = match (&message, self.peers[from].lie) {
            (Message::Chunk(chunk), Some(Lie::Claims)) => chunk.repair,
            (Message::Chunk(_), Some(Lie::Withholds)) => true,
            _ => false,
        };
        if withheld {
            return;
        }
        let message = self.falsify(from, message);
        let to = (0..self.peers.len()).find(|index| id(*index) == to);
        let Some(to) = to.filter(|_| !self.rng.random_bool(self.loss)) else {
            return;
        };
        let is_suppressed = match &message {
            Message::Chunk(chunk) => self.suppressed == Some(chunk.stripe),
            Message::View(_) => !(self.views_reach)(to),
            _ => false,
        };
        if !is_suppressed {
            self.schedule(delay, Event::Arrive { from, to, message });
        }
    }

    /// The check of signatures that a node does in front of the machine.
    fn is_signed(&self, message: &Message) -> bool {
        let channel = "ch".into();
        match message {
            Message::View(view) => {
                view.signature == Pen(view.author).signature(&view.to_be_signed(&channel))
            }
            Message::Hashes(hashes) => {
                hashes.signature == Pen(hashes.signer).signature(&hashes.to_be_signed(&channel))
            }
            _ => true,
        }
    }

    pub(crate) fn run_until(&mut self, until: Moment) {
        loop {
            let ups = self.peers.iter().enumerate().filter(|(_, peer)| peer.is_up);
            let due = ups
                .filter_map(|(at, peer)| Some((peer.machine.deadline()?, at)))
                .min();
            let event = self.events.first_key_value().map(|(key, _)| key.0);
            let (is_event, next) = match (event, due) {
                (Some(event), Some((due, _))) if due < event => (false, due),
                (Some(event), _) => (true, event),
                (None, Some((due, _))) => (false, due),
                (None, None) => break,
            };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if is_event {
                let (_, event) = self.events.pop_first().unwrap();
                self.happen(event);
            } else if let Some((_, at)) = due {
                let mut out = Vec::new();
                let peer = &mut self.peers[at];
                peer.machine.tick(self.now, &peer.pen, &mut out);
                assert!(peer.machine.deadline().is_none_or(|due| due > self.now));
                self.obey(at, out);
            }
        }
        self.now = until;
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, message } => {
                if let (Some(Lie::Forestalls), Message::Request { number, hash, .. }) =
                    (self.peers[to].lie, &message)
                    && *hash == Digest::of(JUNK)
                {
                    self.give_junk(to, from, *number);
                } else if self.peers[to].is_up && self.is_signed(&message) {
                    let from = id(from);
                    self.feed(to, Input::Message { from, message });
                }
            }
            Event::Judged {
                at,
                number,
                hash,
                verdict,
            } => {
                let judged = Input::Judged {
                    number,
                    hash,
                    verdict,
                };
                self.feed(at, judged);
            }
            Event::Fetched { at, number } => {
                if !self.truth.contains_key(&number) {
                    // It does not exist yet, and may be asked for once more.
                    self.peers[at].fetches.remove(&number);
                } else if !self.peers[at].has.contains_key(&number) {
                    self.give(at, number, Origin::Received);
                }
            }
        }
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = usize> {
        let ups = self.peers.iter().enumerate().filter(|(_, peer)| peer.is_up);
        ups.map(|(at, _)| at).collect::<Vec<_>>().into_iter()
    }

    /// Live members that lack one of these blocks.
    pub(crate) fn lacking(&self, numbers: std::ops::Range<u64>) -> Vec<(usize, u64)> {
        let lacks = |at: usize| {
            let missing = numbers
                .clone()
                .filter(move |n| !self.peers[at].has.contains_key(n));
            missing.map(move |number| (at, number))
        };
        self.live().flat_map(lacks).collect()
    }

    /// How long it took at most from when the first had one of these blocks until the last had it.
    pub(crate) fn latest(&self, numbers: std::ops::Range<u64>) -> Duration {
        let took = |number: u64| {
            let times: Vec<_> = self.live().map(|at| self.peers[at].has[&number]).collect();
            times
                .iter()
                .max()
                .unwrap()
                .since(*times.iter().min().unwrap())
        };
        numbers.map(took).max().unwrap_or_default()
    }

    pub(crate) fn fetches(&self) -> usize {
        self.peers.iter().map(|peer| peer.fetches.len()).sum()
    }

    /// Everybody knows everybody, and the first leads.
    pub(crate) fn founded(seed: u64, count: usize) -> Self {
        let mut world = Self::new(seed, count);
        world.introduce();
        world.crown(0);
        world.run(ms(100));
        world
    }

    /// Notices of all that name this rule.
    pub(crate) fn refusals(&self, rule: &str) -> usize {
        let quoted = format!("\"{rule}\"");
        let all = self.peers.iter().flat_map(|peer| &peer.notices);
        all.filter(|notice| notice.contains(&quoted)).count()
    }
}

fn verified(number: u64, bytes: &Bytes) -> VerifiedBlock {
    VerifiedBlock {
        number,
        hash: Digest::of(bytes).0,
        previous_hash: Bytes::new(),
        is_config: false,
        config_sequence: 0,
        bytes: bytes.clone(),
    }
}
