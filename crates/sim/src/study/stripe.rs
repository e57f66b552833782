//! (g) STRIPE: the machine that the node runs, one for each node of the model.
//!
//! What the model knows the machines are told at once: round trips, and every four seconds who is
//! a member, how slow it says it is and how high it says its ledger is. Before the run they agree
//! on a view, without loss or delay. A block that was assembled is judged by looking whether it is
//! the one that was injected; the time of that is in the model already.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::ChaCha8Rng};
use serde::{Serialize, Serializer};
use tidings_gossip::{
    VerifiedBlock,
    dissemination::{
        Dissemination, Effect, Input, Leader, Member, Origin, PlainPeer, Rtt, Verdict,
        message::{Class, Digest, Message},
        parameters::Parameters,
    },
    id::{Moment, OrgId, PkiId},
};

pub use tidings_gossip::dissemination::parameters::PlainDelivery;

use super::{
    Crowd, Protocol, Scenario,
    fabric::{BATCH_INTERVAL, FANOUT, next_tick},
    network::{Network, Parcel, ROOT},
    recovery::whole,
};
use crate::{
    collection::Collections,
    secs,
    toy::{self, ToyPorts},
};

const CHANNEL: &str = "study";

/// Machines have lived for so long when the run begins, ...
const PRELUDE: Duration = secs(40);

/// ... and this is when those that know the last view learn it.
const LAST_CHANGE: Duration = secs(20);

/// How often state infos tell of heights and classes.
const STATE_INFO_INTERVAL: Duration = secs(4);

/// How often a node looks how much waits for its uplink and its processor.
const BACKLOG_INTERVAL: Duration = secs(1);

/// The last view added one in so many, if there are nodes that do not know it.
const NEWCOMERS: usize = 10;

const MACHINE: u64 = 0;
const BACKLOG: u64 = 1;
const STATE_INFO: u64 = 2;
const PUSH: u64 = 3;

/// How stripes are used.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct Stripe {
    /// Stripes of parity: 0 or 1.
    pub parity: u8,
    /// Chunks of this stripe get lost everywhere, but for those that were asked for.
    pub suppressed: Option<u8>,
    /// Nodes that are plain peers.
    pub plain: Crowd,
    /// How those are given blocks.
    #[serde(serialize_with = "as_word")]
    pub delivery: PlainDelivery,
    /// Nodes that were not told of the last view.
    pub outdated: Crowd,
}

impl Default for Stripe {
    fn default() -> Self {
        Self {
            parity: 0,
            suppressed: None,
            plain: Crowd::default(),
            delivery: PlainDelivery::Quiet,
            outdated: Crowd::default(),
        }
    }
}

pub(super) enum Body {
    Stripe(Message),
    /// A whole block for a plain peer, which may push it on.
    Given(PlainDelivery),
    /// A whole block that a plain peer pushes on.
    Pushed,
}

struct Node {
    /// None of a plain peer.
    machine: Option<Dissemination>,
    /// Blocks that it has without a gap.
    height: usize,
    class: Class,
    /// It crashed, and the others were told.
    is_gone: bool,
    is_outdated: bool,
    /// When the machine will be woken.
    armed: Option<Duration>,
    /// When a plain peer's emitter first looks after its batch.
    phase: Duration,
    /// What waits there.
    batch: Vec<usize>,
}

/// All nodes.
pub(super) struct Stripes {
    options: Stripe,
    /// Sign for everybody: nobody checks it here.
    ports: ToyPorts,
    nodes: Vec<Node>,
    blocks: Vec<(VerifiedBlock, Digest)>,
    /// What is under way before the run begins: from whom, to whom. None from then on.
    rehearsal: Option<VecDeque<(usize, usize, Message)>>,
    /// Newcomers are not there yet.
    is_old_view: bool,
}

impl Stripes {
    pub(super) fn new(scenario: &Scenario, options: Stripe) -> Self {
        Self {
            options,
            ports: ports(),
            nodes: Vec::new(),
            blocks: blocks(scenario),
            rehearsal: Some(VecDeque::new()),
            is_old_view: false,
        }
    }

    fn found(&mut self, net: &mut Network<Body>) {
        let plain = net.crowd(self.options.plain);
        let outdated = net.crowd(self.options.outdated);
        for node in 0..net.scenario().nodes {
            let (parameters, seed) = (parameters(net, self.options), net.seed());
            let machine = Dissemination::new(id(node), CHANNEL.into(), parameters, &seed);
            self.nodes.push(Node {
                machine: (!plain[node]).then_some(machine),
                height: 0,
                class: if net.is_slow(node) {
                    Class::Slow
                } else {
                    Class::Normal
                },
                is_gone: false,
                is_outdated: outdated[node],
                armed: None,
                phase: net.chance(BATCH_INTERVAL),
                batch: Vec::new(),
            });
        }
    }

    /// Lets the machines agree on a view before the run.
    fn rehearse(&mut self, net: &mut Network<Body>) {
        self.is_old_view = self.options.outdated.share > 0.0;
        for node in 0..self.nodes.len() {
            let leader = if node == ROOT {
                Leader::Me
            } else {
                Leader::Peer(id(ROOT))
            };
            self.tell(net, Moment::ZERO, node, Input::Height(number(0)));
            self.tell(net, Moment::ZERO, node, self.members(net, node));
            self.tell(net, Moment::ZERO, node, Input::Leader(leader));
        }
        self.rehearse_until(net, LAST_CHANGE);
        if self.is_old_view {
            self.is_old_view = false;
            for node in 0..self.nodes.len() {
                let members = self.members(net, node);
                self.tell(net, Moment::after_start(LAST_CHANGE), node, members);
            }
        }
        self.rehearse_until(net, PRELUDE);
        self.rehearsal = None;
    }

    /// Everything arrives at once, but for the last view at those that are not to know it.
    fn rehearse_until(&mut self, net: &mut Network<Body>, end: Duration) {
        let mut now = Moment::ZERO;
        loop {
            while let Some((from, to, message)) =
                self.rehearsal.as_mut().and_then(VecDeque::pop_front)
            {
                let is_kept_from = self.nodes[to].is_outdated && now.since_start() >= LAST_CHANGE;
                if !(is_kept_from && matches!(message, Message::View(_))) {
                    let from = id(from);
                    self.tell(net, now, to, Input::Message { from, message });
                }
            }
            let due = |(node, it): (usize, &Node)| Some((it.machine.as_ref()?.deadline()?, node));
            match self.nodes.iter().enumerate().filter_map(due).min() {
                Some((at, node)) if at.since_start() < end => {
                    now = now.max(at);
                    self.tick(net, now, node);
                }
                _ => return,
            }
        }
    }

    /// Who is there, as this node's membership layer says.
    fn members(&self, net: &Network<Body>, node: usize) -> Input {
        let is_there = |other: &usize| {
            let is_newcomer = self.is_old_view && other % NEWCOMERS == 1;
            *other != node && !self.nodes[*other].is_gone && !is_newcomer
        };
        let (mut members, mut plain) = (Vec::new(), Vec::new());
        for other in (0..self.nodes.len()).filter(is_there) {
            let it = &self.nodes[other];
            if it.machine.is_none() {
                plain.push(PlainPeer {
                    peer: id(other),
                    height: number(it.height),
                });
                continue;
            }
            members.push(Member {
                peer: id(other),
                class: it.class,
                rtt: Some(Rtt {
                    mean: net.latency(node, other) * 2,
                    deviation: None,
                }),
            });
        }
        Input::Members { members, plain }
    }

    fn moment(net: &Network<Body>) -> Moment {
        Moment::after_start(PRELUDE + net.now())
    }

    fn tell(&mut self, net: &mut Network<Body>, now: Moment, node: usize, input: Input) {
        let mut effects = Vec::new();
        if let Some(machine) = &mut self.nodes[node].machine {
            machine.handle(now, input, &self.ports, &mut effects);
        }
        self.act(net, now, node, effects);
    }

    fn tick(&mut self, net: &mut Network<Body>, now: Moment, node: usize) {
        let mut effects = Vec::new();
        if let Some(machine) = &mut self.nodes[node].machine {
            machine.tick(now, &self.ports, &mut effects);
        }
        self.act(net, now, node, effects);
    }

    fn act(&mut self, net: &mut Network<Body>, now: Moment, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(net, node, index(to), message),
                Effect::Judge {
                    number,
                    hash,
                    bytes,
                    ..
                } => {
                    let verdict = self.judge(number, hash, &bytes);
                    self.tell(
                        net,
                        now,
                        node,
                        Input::Judged {
                            number,
                            hash,
                            verdict,
                        },
                    );
                }
                Effect::Deliver(block) => self.arrived(net, now, node, place(block.number)),
                Effect::GivePlain { to, block, how } => {
                    let parcel = whole(net, node, index(to), place(block.number), Body::Given(how));
                    net.send(parcel);
                }
                Effect::Declare(class) => self.nodes[node].class = class,
                Effect::Fetch(_) | Effect::Hold(_) | Effect::Notify(_) => {}
            }
        }
        if self.rehearsal.is_none() {
            self.arm(net, node);
        }
    }

    fn send(&mut self, net: &mut Network<Body>, from: usize, to: usize, message: Message) {
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.push_back((from, to, message));
            return;
        }
        let about = block_of(&message)
            .map(place)
            .filter(|block| *block < self.blocks.len());
        net.send(Parcel {
            from,
            to,
            size: usize::try_from(message.wire_len()).unwrap_or(usize::MAX),
            about,
            content: matches!(message, Message::Chunk(_)),
            body: Body::Stripe(message),
        });
    }

    fn judge(&self, number: u64, hash: Digest, bytes: &Bytes) -> Verdict {
        match self.blocks.get(place(number)) {
            Some((block, expected)) if *expected == hash && block.bytes == *bytes => {
                Verdict::Good(block.clone())
            }
            _ => Verdict::Corrupt,
        }
    }

    /// A block is there and durable at once.
    fn arrived(&mut self, net: &mut Network<Body>, now: Moment, node: usize, block: usize) {
        net.got(node, block);
        let before = self.nodes[node].height;
        let mut height = before;
        while height < self.blocks.len() && net.has(node, height) {
            height += 1;
        }
        self.nodes[node].height = height;
        if height > before {
            self.tell(net, now, node, Input::Height(number(height)));
        }
    }

    /// Has the machine woken when it wants to be.
    fn arm(&mut self, net: &mut Network<Body>, node: usize) {
        let it = &mut self.nodes[node];
        let deadline = it.machine.as_ref().and_then(Dissemination::deadline);
        let Some(deadline) = deadline.map(|at| at.since_start().saturating_sub(PRELUDE)) else {
            return;
        };
        if it.armed.is_none_or(|armed| deadline < armed) {
            it.armed = Some(deadline);
            net.wake(node, deadline.max(net.now()), MACHINE);
        }
    }

    /// A plain peer was given or pushed a block.
    fn received_plain(&mut self, net: &mut Network<Body>, node: usize, block: usize, pushes: bool) {
        let now = Self::moment(net);
        if self.nodes[node].machine.is_some() {
            let (block, hash) = self.blocks[block].clone();
            let origin = Origin::Received;
            self.tell(
                net,
                now,
                node,
                Input::Block {
                    block,
                    hash,
                    origin,
                },
            );
            return;
        }
        let is_new = !net.has(node, block);
        self.arrived(net, now, node, block);
        if is_new && pushes {
            let it = &mut self.nodes[node];
            it.batch.push(block);
            let at = next_tick(it.phase, net.now());
            net.wake(node, at, PUSH);
        }
    }

    fn push(&mut self, net: &mut Network<Body>, node: usize) {
        for block in mem::take(&mut self.nodes[node].batch) {
            for to in net.pick(node, FANOUT) {
                net.send(whole(net, node, to, block, Body::Pushed));
            }
        }
    }
}

impl Protocol for Stripes {
    type Body = Body;

    fn start(&mut self, net: &mut Network<Body>) {
        self.found(net);
        self.rehearse(net);
        for node in 0..self.nodes.len() {
            self.arm(net, node);
            let at = net.chance(STATE_INFO_INTERVAL);
            net.wake(node, at, STATE_INFO);
            let at = net.chance(BACKLOG_INTERVAL);
            net.wake(node, at, BACKLOG);
        }
    }

    fn inject(&mut self, net: &mut Network<Body>, block: usize) {
        let now = Self::moment(net);
        let (block, hash) = self.blocks[block].clone();
        let origin = Origin::Ordered;
        self.tell(
            net,
            now,
            ROOT,
            Input::Block {
                block,
                hash,
                origin,
            },
        );
    }

    fn receive(&mut self, net: &mut Network<Body>, parcel: Parcel<Body>) {
        let (from, to) = (parcel.from, parcel.to);
        match (parcel.body, parcel.about) {
            (Body::Stripe(Message::Chunk(chunk)), _)
                if Some(chunk.stripe) == self.options.suppressed && !chunk.repair => {}
            (Body::Stripe(message), _) => {
                let from = id(from);
                self.tell(net, Self::moment(net), to, Input::Message { from, message });
            }
            (Body::Given(how), Some(block)) => {
                self.received_plain(net, to, block, how == PlainDelivery::Push);
            }
            (Body::Pushed, Some(block)) => self.received_plain(net, to, block, true),
            (Body::Given(_) | Body::Pushed, None) => {}
        }
    }

    fn due(&mut self, net: &mut Network<Body>, node: usize, timer: u64) {
        let now = Self::moment(net);
        match timer {
            MACHINE => {
                self.nodes[node].armed = None;
                self.tick(net, now, node);
            }
            BACKLOG => {
                net.wake(node, net.now() + BACKLOG_INTERVAL, BACKLOG);
                let backlog = net.backlog(node);
                self.tell(net, now, node, Input::Backlog(backlog));
            }
            STATE_INFO => {
                net.wake(node, net.now() + STATE_INFO_INTERVAL, STATE_INFO);
                let members = self.members(net, node);
                self.tell(net, now, node, members);
            }
            _ => self.push(net, node),
        }
    }

    fn noticed(&mut self, node: usize) {
        self.nodes[node].is_gone = true;
    }
}

fn parameters(net: &Network<Body>, options: Stripe) -> Parameters {
    let latencies = net.latencies_of_root();
    let median = latencies
        .get(latencies.len() / 2)
        .copied()
        .unwrap_or_default();
    Parameters {
        uplink_bps: net.scenario().bits_per_second,
        plain_delivery: options.delivery,
        parity: Some(options.parity),
        latency: median,
        ..Parameters::default()
    }
}

fn ports() -> ToyPorts {
    let identity = toy::identity(&OrgId::new("Org1MSP"), CHANNEL, i64::MAX);
    ToyPorts::new(identity, BTreeSet::new(), Collections::new())
}

/// Different bytes for each block, in one allocation.
fn blocks(scenario: &Scenario) -> Vec<(VerifiedBlock, Digest)> {
    let mut pool = vec![0; scenario.size + scenario.blocks];
    ChaCha8Rng::seed_from_u64(scenario.seed).fill_bytes(&mut pool);
    let pool = Bytes::from(pool);
    let block = |index: usize| {
        let bytes = pool.slice(index..index + scenario.size);
        let hash = Digest::of(&bytes);
        let block = VerifiedBlock {
            number: number(index),
            hash: hash.0,
            previous_hash: Bytes::new(),
            is_config: false,
            config_sequence: 0,
            bytes,
        };
        (block, hash)
    };
    (0..scenario.blocks).map(block).collect()
}

/// A block's number: the first block of a channel is there before the run.
fn number(block: usize) -> u64 {
    block as u64 + 1
}

/// Which block of the run that is; none of the others is ever so late.
fn place(number: u64) -> usize {
    number
        .checked_sub(1)
        .and_then(|block| usize::try_from(block).ok())
        .unwrap_or(usize::MAX)
}

/// A node's name, in the order of the nodes.
fn id(node: usize) -> PkiId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(node as u64).to_be_bytes());
    PkiId::new(id)
}

fn index(peer: PkiId) -> usize {
    let number = peer
        .as_bytes()
        .iter()
        .take(8)
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The block that a message is about, if it is about one.
fn block_of(message: &Message) -> Option<u64> {
    match message {
        Message::Chunk(chunk) => Some(chunk.number),
        Message::Have(have) => Some(have.number),
        Message::Hashes(hashes) => Some(hashes.number),
        Message::Ack { number, .. }
        | Message::Request { number, .. }
        | Message::HashesRequest { number, .. } => Some(*number),
        Message::Status(_)
        | Message::View(_)
        | Message::ViewRequest { .. }
        | Message::Suspect { .. } => None,
    }
}

fn as_word<S: Serializer>(delivery: &PlainDelivery, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match delivery {
        PlainDelivery::Quiet => "quiet",
        PlainDelivery::Push => "push",
    })
}
