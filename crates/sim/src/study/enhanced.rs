//! (b) The enhanced gossip of arXiv 2004.07060: every message counts how far it has come, is told
//! on at each new count, as the block itself at first and as a digest from then on.

use std::{collections::VecDeque, time::Duration};

use super::{
    Fanout, Protocol, Scenario,
    network::{Network, Parcel, ROOT},
    recovery::{self, Recovery, whole},
    scenario::HEADER,
};
use crate::millis;

/// A digest, and a request for what it names, on the wire.
const DIGEST_SIZE: usize = 100;

/// The timer of the anti-entropy; others are numbers of blocks.
const ANTI_ENTROPY: u64 = u64::MAX;

pub(super) enum Body {
    /// The block, at this count.
    Push(u32),
    Digest(u32),
    Request,
    /// The block, because it was asked for.
    Answer,
    Recovery(Recovery),
}

impl From<Recovery> for Body {
    fn from(body: Recovery) -> Self {
        Self::Recovery(body)
    }
}

/// What a node knows of a block.
#[derive(Clone, Default)]
struct Seen {
    /// Counts at which it was heard of.
    counts: u64,
    /// Counts to tell on as soon as the block is there.
    waiting: Vec<u32>,
    /// Who has it and was not asked yet.
    sources: VecDeque<usize>,
    /// How many were asked; the answer of the last is waited for.
    asked: u64,
    asking: bool,
}

/// All nodes.
pub(super) struct Enhanced {
    fanout: usize,
    /// At this count it is not told on.
    ttl: u32,
    /// Up to this count the block itself is sent.
    direct: u32,
    /// How long an answer is waited for.
    patience: Duration,
    /// By node, then by block.
    seen: Vec<Vec<Seen>>,
}

impl Enhanced {
    pub(super) fn new(scenario: &Scenario, fanout: Fanout) -> Self {
        let (fanout, ttl, direct) = match (fanout, scenario.nodes) {
            (Fanout::Four, 0..=150) => (4, 9, 2),
            (Fanout::Four, 151..=2000) => (4, 11, 3),
            (Fanout::Four, _) => (4, 13, 4),
            (Fanout::Two, 0..=150) => (2, 19, 3),
            (Fanout::Two, 151..=2000) => (2, 23, 5),
            (Fanout::Two, _) => (2, 27, 8),
        };
        Self {
            fanout,
            ttl,
            direct,
            patience: Duration::ZERO,
            seen: vec![vec![Seen::default(); scenario.blocks]; scenario.nodes],
        }
    }

    /// Notes a count, and tells it on once the block is there.
    fn hear(&mut self, net: &mut Network<Body>, node: usize, block: usize, count: u32) {
        let seen = &mut self.seen[node][block];
        let bit = 1 << count;
        if seen.counts & bit != 0 {
            return;
        }
        seen.counts |= bit;
        if count >= self.ttl {
            return;
        }
        if net.has(node, block) {
            self.tell(net, node, block, count + 1);
        } else {
            seen.waiting.push(count);
        }
    }

    fn tell(&self, net: &mut Network<Body>, node: usize, block: usize, count: u32) {
        for to in net.pick(node, self.fanout) {
            if count <= self.direct {
                net.send(whole(net, node, to, block, Body::Push(count)));
            } else {
                net.send(digest(node, to, block, Body::Digest(count)));
            }
        }
    }

    /// The block is there: tells on what waited for it.
    fn arrived(&mut self, net: &mut Network<Body>, node: usize, block: usize) {
        for count in std::mem::take(&mut self.seen[node][block].waiting) {
            self.tell(net, node, block, count + 1);
        }
    }

    /// Asks the next that has it, if nobody is being asked.
    fn ask(&mut self, net: &mut Network<Body>, node: usize, block: usize) {
        let seen = &mut self.seen[node][block];
        if seen.asking || net.has(node, block) {
            return;
        }
        if let Some(source) = seen.sources.pop_front() {
            seen.asking = true;
            seen.asked += 1;
            let timer = seen.asked << 32 | block as u64;
            net.send(digest(node, source, block, Body::Request));
            net.wake(node, net.now() + self.patience, timer);
        }
    }
}

impl Protocol for Enhanced {
    type Body = Body;

    fn start(&mut self, net: &mut Network<Body>) {
        let scenario = net.scenario();
        let block_time = scenario.send_time(scenario.size + HEADER);
        let latencies = net.latencies_of_root();
        let median = latencies
            .get(latencies.len() / 2)
            .copied()
            .unwrap_or_default();
        self.patience = 4 * median + millis(2) + 6 * block_time;
        recovery::start_anti_entropy(net, ANTI_ENTROPY);
    }

    fn inject(&mut self, net: &mut Network<Body>, block: usize) {
        for to in net.pick(ROOT, 1) {
            net.send(whole(net, ROOT, to, block, Body::Push(0)));
        }
    }

    fn receive(&mut self, net: &mut Network<Body>, parcel: Parcel<Body>) {
        let (from, to) = (parcel.from, parcel.to);
        if let Body::Recovery(body) = parcel.body {
            if let Some(block) = recovery::receive(net, from, to, body) {
                self.arrived(net, to, block);
            }
            return;
        }
        let Some(block) = parcel.about else {
            return;
        };
        match parcel.body {
            Body::Push(count) => {
                if net.got(to, block) {
                    self.arrived(net, to, block);
                }
                self.hear(net, to, block, count);
            }
            Body::Digest(count) => {
                self.hear(net, to, block, count);
                if !net.has(to, block) {
                    self.seen[to][block].sources.push_back(from);
                    self.ask(net, to, block);
                }
            }
            Body::Request => {
                if net.has(to, block) {
                    net.send(whole(net, to, from, block, Body::Answer));
                }
            }
            Body::Answer => {
                if net.got(to, block) {
                    self.arrived(net, to, block);
                }
            }
            Body::Recovery(_) => {}
        }
    }

    fn due(&mut self, net: &mut Network<Body>, node: usize, timer: u64) {
        if timer == ANTI_ENTROPY {
            recovery::anti_entropy(net, node, ANTI_ENTROPY);
            return;
        }
        let (asked, block) = (timer >> 32, timer as u32 as usize);
        let seen = &mut self.seen[node][block];
        if seen.asked == asked {
            seen.asking = false;
            self.ask(net, node, block);
        }
    }
}

/// A small parcel about a block.
fn digest(from: usize, to: usize, block: usize, body: Body) -> Parcel<Body> {
    Parcel {
        from,
        to,
        size: DIGEST_SIZE,
        about: Some(block),
        content: false,
        body,
    }
}
