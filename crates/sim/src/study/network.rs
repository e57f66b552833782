//! Links and processors: how a message gets from one node to another, and how long it takes.
//!
//! A message waits for the uplink of its sender (small ones before large ones), travels, occupies
//! the downlink of its receiver if it is large, and then the processor. Promises that what
//! happens at the same time happens in the order in which it was caused. Knows nothing of what
//! the messages say.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};

use super::{
    Crowd, Net, Outcome, Protocol, Scenario,
    record::Record,
    scenario::{CHECKING, bits, processing},
};
use crate::{millis, secs};

/// The node that injects the blocks.
pub(super) const ROOT: usize = 0;

/// From any node to any other in one room.
pub(super) const LAN_LATENCY: Duration = Duration::from_micros(500);

/// From any node to its neighbour in a wide area.
pub(super) const WAN_LATENCY_MIN: Duration = millis(20);

/// What distance adds to it at most.
const WAN_WIDTH: Duration = millis(80);

/// Messages below this go first, and never wait for a downlink.
const CONTROL_SIZE_MAX: usize = 1000;

/// How much slower a slow node's uplink and processor are.
const SLOWNESS: u32 = 10;

/// What it costs a slow node to hand a message to its system.
const SLOW_SEND_COST: Duration = Duration::from_micros(60);

/// How long the membership layer believes that a crashed node is there.
const NOTICED_AFTER: Duration = secs(25);

/// The run goes on for so long after every node has every block, ...
const AFTERMATH: Duration = secs(1);

/// ... and ends so long after the last block in any case.
const PATIENCE: Duration = secs(60);

/// What one node sends another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<B> {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Bytes on the wire.
    pub(super) size: usize,
    /// The block that it is about.
    pub(super) about: Option<usize>,
    /// Whether it holds that block or a part of it, whose signatures somebody has to check.
    pub(super) content: bool,
    pub(super) body: B,
}

/// The one thing that a node's link or processor does.
struct Node {
    control: VecDeque<usize>,
    bulk: VecDeque<usize>,
    sending: bool,
    downlink_free: Duration,
    processor_free: Duration,
    /// Blocks whose signatures it has checked, or is about to.
    checked: Vec<bool>,
    slow: bool,
    thin: bool,
    alive: bool,
    place: (f64, f64),
}

/// Something that happens. Numbers are of nodes, or where parcels lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A block is there.
    Inject(usize),
    /// An uplink is through with a message.
    Free(usize),
    /// The first bit of a large message is at its receiver; the last can be there then.
    FirstBit(usize, Duration),
    /// A message is there as a whole.
    There(usize),
    /// A processor is through with a message.
    Processed(usize),
    /// A timer of a node.
    Due(usize, u64),
    Crash(usize),
    /// The others are told of the crash.
    Noticed(usize),
}

/// All nodes, what is under way between them, and the time.
pub(super) struct Network<B> {
    scenario: Scenario,
    now: Duration,
    rng: ChaCha8Rng,
    nodes: Vec<Node>,
    /// Who is a member as far as the others know, in no order.
    members: Vec<usize>,
    agenda: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    planned: u64,
    /// What is under way; free places are listed.
    parcels: Vec<Option<Parcel<B>>>,
    free: Vec<usize>,
    record: Record,
}

/// The usual times from the root to all others, shortest first.
pub(super) fn latencies_of_root(scenario: &Scenario) -> Vec<Duration> {
    Network::<()>::new(scenario).latencies_of_root()
}

/// Lives through a scenario with a protocol.
pub(super) fn run<P: Protocol>(scenario: &Scenario, protocol: &mut P) -> Outcome {
    let mut net = Network::new(scenario);
    for block in 0..scenario.blocks {
        net.plan(scenario.injected_at(block), Event::Inject(block));
    }
    protocol.start(&mut net);
    let last = scenario.injected_at(scenario.blocks.saturating_sub(1));
    let mut end = last + PATIENCE;
    let mut complete = false;
    while let Some(Reverse((at, _, event))) = net.agenda.pop() {
        if at > end {
            break;
        }
        net.now = at;
        net.happen(event, protocol);
        if !complete && net.record.complete() {
            complete = true;
            end = end.min(at + AFTERMATH);
        }
    }
    net.record.outcome(net.now)
}

impl<B> Network<B> {
    fn new(scenario: &Scenario) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
        let crashed = crowd(&mut rng, scenario, scenario.crashed);
        let slow = crowd(&mut rng, scenario, scenario.slow);
        let thin = crowd(&mut rng, scenario, scenario.thin);
        let nodes = (0..scenario.nodes).map(|node| Node {
            control: VecDeque::new(),
            bulk: VecDeque::new(),
            sending: false,
            downlink_free: Duration::ZERO,
            processor_free: Duration::ZERO,
            checked: vec![false; scenario.blocks],
            slow: slow[node],
            thin: thin[node],
            alive: true,
            place: (rng.random(), rng.random()),
        });
        let mut net = Self {
            nodes: nodes.collect(),
            members: (0..scenario.nodes).collect(),
            scenario: scenario.clone(),
            now: Duration::ZERO,
            agenda: BinaryHeap::new(),
            planned: 0,
            parcels: Vec::new(),
            free: Vec::new(),
            record: Record::new(scenario, crashed.clone()),
            rng,
        };
        let end = scenario.injected_at(scenario.blocks);
        for (node, _) in crashed.iter().enumerate().filter(|(_, crashed)| **crashed) {
            let at = net.chance(end);
            net.plan(at, Event::Crash(node));
            net.plan(at + NOTICED_AFTER, Event::Noticed(node));
        }
        net
    }

    /// The time.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// The network as it was described.
    pub(super) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Notes that this node has this block. Whether that is news.
    pub(super) fn got(&mut self, node: usize, block: usize) -> bool {
        self.record.got(node, block, self.now)
    }

    pub(super) fn has(&self, node: usize, block: usize) -> bool {
        self.record.has(node, block)
    }

    pub(super) fn is_slow(&self, node: usize) -> bool {
        self.nodes[node].slow
    }

    /// How long a node's processor, or its uplink with what waits for it, is busy from now on.
    pub(super) fn backlog(&self, node: usize) -> Duration {
        let it = &self.nodes[node];
        let waiting = it.control.iter().chain(&it.bulk);
        let sizes = waiting.filter_map(|place| Some(self.parcels[*place].as_ref()?.size));
        let uplink = sizes.map(|size| self.send_time(node, size)).sum();
        it.processor_free.saturating_sub(self.now).max(uplink)
    }

    /// Draws a crowd that the network itself need not know.
    pub(super) fn crowd(&mut self, of: Crowd) -> Vec<bool> {
        crowd(&mut self.rng, &self.scenario, of)
    }

    /// A seed for chance that is not the network's.
    pub(super) fn seed(&mut self) -> [u8; 32] {
        self.rng.random()
    }

    /// Some time below this.
    pub(super) fn chance(&mut self, below: Duration) -> Duration {
        below.mul_f64(self.rng.random::<f64>())
    }

    /// So many different members, but for the one that asks, in random order.
    pub(super) fn pick(&mut self, node: usize, count: usize) -> Vec<usize> {
        let mut picked = Vec::with_capacity(count);
        let others = self.members.len().saturating_sub(1);
        while picked.len() < count.min(others) {
            let one = self.members[self.rng.random_range(0..self.members.len())];
            if one != node && !picked.contains(&one) {
                picked.push(one);
            }
        }
        picked
    }

    /// One of these.
    pub(super) fn choose(&mut self, from: &[usize]) -> Option<usize> {
        let place = self.rng.random_range(0..from.len().max(1));
        from.get(place).copied()
    }

    /// A member that has this block, if there is one.
    pub(super) fn holder(&mut self, node: usize, block: usize) -> Option<usize> {
        let others = self.members.iter().filter(|other| **other != node);
        let holders: Vec<usize> = others.filter(|it| self.has(**it, block)).copied().collect();
        self.choose(&holders)
    }

    /// The usual time of a bit from one node to another.
    pub(super) fn latency(&self, from: usize, to: usize) -> Duration {
        match self.scenario.net {
            Net::Lan => LAN_LATENCY,
            Net::Wan => {
                let (here, there) = (self.nodes[from].place, self.nodes[to].place);
                let distance = (here.0 - there.0).hypot(here.1 - there.1);
                WAN_LATENCY_MIN + WAN_WIDTH.mul_f64(distance.min(1.0))
            }
        }
    }

    /// The usual times from the root to all others, shortest first.
    pub(super) fn latencies_of_root(&self) -> Vec<Duration> {
        let mut latencies: Vec<_> = (1..self.nodes.len())
            .map(|to| self.latency(ROOT, to))
            .collect();
        latencies.sort_unstable();
        latencies
    }

    /// Wakes a node at this time.
    pub(super) fn wake(&mut self, node: usize, at: Duration, timer: u64) {
        self.plan(at, Event::Due(node, timer));
    }

    /// Puts a parcel into the queue of its sender.
    pub(super) fn send(&mut self, parcel: Parcel<B>) {
        let from = parcel.from;
        if !self.nodes[from].alive {
            return;
        }
        let control = parcel.size < CONTROL_SIZE_MAX;
        let place = self.put(parcel);
        let node = &mut self.nodes[from];
        if control {
            node.control.push_back(place);
        } else {
            node.bulk.push_back(place);
        }
        if !node.sending {
            self.send_next(from);
        }
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.agenda.push(Reverse((at, self.planned, event)));
    }

    fn happen<P: Protocol<Body = B>>(&mut self, event: Event, protocol: &mut P) {
        match event {
            Event::Inject(block) => {
                self.got(ROOT, block);
                self.nodes[ROOT].checked[block] = true;
                protocol.inject(self, block);
            }
            Event::Free(node) => {
                self.nodes[node].sending = false;
                self.send_next(node);
            }
            Event::FirstBit(place, last_bit) => self.occupy_downlink(place, last_bit),
            Event::There(place) => self.process(place),
            Event::Processed(place) => {
                if let Some(parcel) = self.take(place)
                    && self.nodes[parcel.to].alive
                {
                    protocol.receive(self, parcel);
                }
            }
            Event::Due(node, timer) => {
                if self.nodes[node].alive {
                    protocol.due(self, node, timer);
                }
            }
            Event::Crash(node) => {
                let crashed = &mut self.nodes[node];
                crashed.alive = false;
                let waiting: Vec<_> = crashed
                    .control
                    .drain(..)
                    .chain(crashed.bulk.drain(..))
                    .collect();
                for place in waiting {
                    self.take(place);
                }
            }
            Event::Noticed(node) => {
                self.members.retain(|member| *member != node);
                protocol.noticed(node);
            }
        }
    }

    /// Begins to send what is first in the queue.
    fn send_next(&mut self, from: usize) {
        let node = &mut self.nodes[from];
        let Some(place) = node.control.pop_front().or_else(|| node.bulk.pop_front()) else {
            return;
        };
        node.sending = true;
        let Some(parcel) = &self.parcels[place] else {
            return;
        };
        let (to, size) = (parcel.to, parcel.size);
        let taken = self.send_time(from, size);
        self.record.sent(from, size, parcel.about, self.now);
        self.plan(self.now + taken, Event::Free(from));
        if self.scenario.loss > 0.0 && self.rng.random_bool(self.scenario.loss) {
            self.take(place);
            return;
        }
        let first_bit = self.now + self.travel(from, to);
        let last_bit = first_bit + taken;
        if size < CONTROL_SIZE_MAX {
            self.plan(last_bit, Event::There(place));
        } else {
            self.plan(first_bit, Event::FirstBit(place, last_bit));
        }
    }

    /// How long a message of this size keeps the uplink busy.
    fn send_time(&self, from: usize, size: usize) -> Duration {
        if self.nodes[from].slow {
            SLOW_SEND_COST + self.scenario.wire_time(size) * SLOWNESS
        } else {
            self.scenario.send_time(size)
        }
    }

    /// How long a bit takes this time.
    fn travel(&mut self, from: usize, to: usize) -> Duration {
        let sigma = match self.scenario.net {
            Net::Lan => 0.3,
            Net::Wan => 0.1,
        };
        // Six uniforms have a variance of a half: this is close to a standard normal variable.
        let uniforms: f64 = (0..6).map(|_| self.rng.random::<f64>() - 0.5).sum();
        let z = uniforms * std::f64::consts::SQRT_2;
        self.latency(from, to).mul_f64((sigma * z).exp())
    }

    fn occupy_downlink(&mut self, place: usize, last_bit: Duration) {
        let Some(parcel) = &self.parcels[place] else {
            return;
        };
        let node = &mut self.nodes[parcel.to];
        let taken = if node.thin {
            bits(parcel.size, self.scenario.thin_bits_per_second)
        } else {
            self.scenario.wire_time(parcel.size)
        };
        node.downlink_free = node.downlink_free.max(self.now) + taken;
        let there = node.downlink_free.max(last_bit);
        self.plan(there, Event::There(place));
    }

    fn process(&mut self, place: usize) {
        let Some(parcel) = &self.parcels[place] else {
            return;
        };
        let node = &mut self.nodes[parcel.to];
        let mut taken = processing(parcel.size);
        if let Some(block) = parcel.about.filter(|_| parcel.content)
            && !std::mem::replace(&mut node.checked[block], true)
        {
            taken += CHECKING;
        }
        if node.slow {
            taken *= SLOWNESS;
        }
        node.processor_free = node.processor_free.max(self.now) + taken;
        let done = node.processor_free;
        self.plan(done, Event::Processed(place));
    }

    fn put(&mut self, parcel: Parcel<B>) -> usize {
        if let Some(place) = self.free.pop() {
            self.parcels[place] = Some(parcel);
            return place;
        }
        self.parcels.push(Some(parcel));
        self.parcels.len() - 1
    }

    fn take(&mut self, place: usize) -> Option<Parcel<B>> {
        let parcel = self.parcels[place].take()?;
        self.free.push(place);
        Some(parcel)
    }
}

/// Which nodes are of a crowd.
fn crowd(rng: &mut ChaCha8Rng, scenario: &Scenario, crowd: Crowd) -> Vec<bool> {
    let mut others: Vec<usize> = (1..scenario.nodes).collect();
    others.shuffle(rng);
    let mut chosen = vec![false; scenario.nodes];
    for node in others.into_iter().take(crowd.count(scenario.nodes)) {
        chosen[node] = true;
    }
    chosen
}

#[cfg(test)]
mod tests;
