//! (a) Fabric's gossip with its default settings: pushed once to three, pulled every four seconds.

use std::{collections::BTreeMap, mem, time::Duration};

use super::{
    Protocol, Scenario,
    network::{Network, Parcel, ROOT},
    recovery::{self, Recovery, list_size, whole},
};
use crate::{millis, secs};

/// Members that a batch goes to, and that a node pulls from.
pub(super) const FANOUT: usize = 3;

/// A batch waits so long at most, ...
pub(super) const BATCH_INTERVAL: Duration = millis(10);

/// ... or until it is so long.
const BATCH_LEN: usize = 10;

const PULL_INTERVAL: Duration = secs(4);

/// How long digests are waited for.
const DIGEST_WAIT: Duration = secs(1);

/// A greeting, on the wire.
const HELLO_SIZE: usize = 100;

const BATCH: u64 = 0;
const PULL: u64 = 1;
const ASK: u64 = 2;
const ANTI_ENTROPY: u64 = 3;

pub(super) enum Body {
    Push(usize),
    Hello,
    Digest(Vec<usize>),
    Recovery(Recovery),
}

impl From<Recovery> for Body {
    fn from(body: Recovery) -> Self {
        Self::Recovery(body)
    }
}

#[derive(Default)]
struct Node {
    /// When its emitter first looks after its batch.
    phase: Duration,
    /// Blocks to pass on, and whom they are from.
    batch: Vec<(usize, usize)>,
    /// Who has which blocks that we lack, by the digests of this pull.
    offers: BTreeMap<usize, Vec<usize>>,
}

/// All nodes.
pub(super) struct Fabric {
    nodes: Vec<Node>,
}

impl Fabric {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            nodes: (0..scenario.nodes).map(|_| Node::default()).collect(),
        }
    }

    /// Puts a block into the batch.
    fn pass_on(&mut self, net: &mut Network<Body>, node: usize, block: usize, from: usize) {
        let it = &mut self.nodes[node];
        it.batch.push((block, from));
        if it.batch.len() >= BATCH_LEN {
            self.emit(net, node);
        } else if it.batch.len() == 1 {
            let at = next_tick(it.phase, net.now());
            net.wake(node, at, BATCH);
        }
    }

    fn emit(&mut self, net: &mut Network<Body>, node: usize) {
        let batch = mem::take(&mut self.nodes[node].batch);
        if batch.is_empty() {
            return;
        }
        let targets = net.pick(node, FANOUT);
        for (block, source) in batch {
            for to in targets.iter().filter(|to| **to != source) {
                net.send(whole(net, node, *to, block, Body::Push(block)));
            }
        }
    }

    fn greet(net: &mut Network<Body>, node: usize) {
        for to in net.pick(node, FANOUT) {
            net.send(note(node, to, HELLO_SIZE, Body::Hello));
        }
        net.wake(node, net.now() + DIGEST_WAIT, ASK);
        net.wake(node, net.now() + PULL_INTERVAL, PULL);
    }

    /// Asks one of those that offer it for each block.
    fn ask(&mut self, net: &mut Network<Body>, node: usize) {
        let mut asked: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (block, holders) in mem::take(&mut self.nodes[node].offers) {
            if !net.has(node, block)
                && let Some(holder) = net.choose(&holders)
            {
                asked.entry(holder).or_default().push(block);
            }
        }
        for (holder, blocks) in asked {
            recovery::ask(net, node, holder, blocks);
        }
    }
}

impl Protocol for Fabric {
    type Body = Body;

    fn start(&mut self, net: &mut Network<Body>) {
        for node in &mut self.nodes {
            node.phase = net.chance(BATCH_INTERVAL);
        }
        recovery::start(net, PULL_INTERVAL, PULL);
        recovery::start_anti_entropy(net, ANTI_ENTROPY);
    }

    fn inject(&mut self, net: &mut Network<Body>, block: usize) {
        self.pass_on(net, ROOT, block, ROOT);
    }

    fn receive(&mut self, net: &mut Network<Body>, parcel: Parcel<Body>) {
        let (from, to) = (parcel.from, parcel.to);
        match parcel.body {
            Body::Push(block) => {
                if net.got(to, block) {
                    self.pass_on(net, to, block, from);
                }
            }
            Body::Hello => {
                let held = (0..net.scenario().blocks).filter(|block| net.has(to, *block));
                let held: Vec<usize> = held.collect();
                net.send(note(to, from, list_size(held.len()), Body::Digest(held)));
            }
            Body::Digest(blocks) => {
                for block in blocks.into_iter().filter(|block| !net.has(to, *block)) {
                    self.nodes[to].offers.entry(block).or_default().push(from);
                }
            }
            Body::Recovery(body) => {
                recovery::receive(net, from, to, body);
            }
        }
    }

    fn due(&mut self, net: &mut Network<Body>, node: usize, timer: u64) {
        match timer {
            BATCH => self.emit(net, node),
            PULL => Self::greet(net, node),
            ASK => self.ask(net, node),
            _ => recovery::anti_entropy(net, node, ANTI_ENTROPY),
        }
    }
}

/// A parcel about no block in particular.
fn note(from: usize, to: usize, size: usize, body: Body) -> Parcel<Body> {
    Parcel {
        from,
        to,
        size,
        about: None,
        content: false,
        body,
    }
}

/// When an emitter that looks after its batch at this phase does so next.
pub(super) fn next_tick(phase: Duration, now: Duration) -> Duration {
    let since = now.saturating_sub(phase).as_nanos();
    let ticks = since / BATCH_INTERVAL.as_nanos() + u128::from(now >= phase);
    phase + BATCH_INTERVAL.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emitter_ticks_from_its_phase_on() {
        assert_eq!(next_tick(millis(4), millis(0)), millis(4));
        assert_eq!(next_tick(millis(4), millis(4)), millis(14));
        assert_eq!(next_tick(millis(4), millis(23)), millis(24));
    }
}
