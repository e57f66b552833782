//! Blocks that were asked for: by pull, and by the anti-entropy that both gossips end with.

use std::time::Duration;

use super::{
    network::{Network, Parcel},
    scenario::HEADER,
};
use crate::secs;

/// How often a node looks for blocks that it lacks.
const INTERVAL: Duration = secs(10);

/// What is younger may still come by itself.
const AGE_MIN: Duration = secs(4);

/// Blocks asked for at once.
const ASKED_MAX: usize = 10;

/// A question or a list without its entries, on the wire.
const LIST_SIZE: usize = 100;

/// An entry of a list.
const ENTRY_SIZE: usize = 8;

/// Asked and answered.
pub(super) enum Recovery {
    Request(Vec<usize>),
    Block(usize),
}

/// Bytes of a list of so many blocks.
pub(super) fn list_size(entries: usize) -> usize {
    LIST_SIZE + ENTRY_SIZE * entries
}

/// Wakes every node once in an interval, each at its own time.
pub(super) fn start<B>(net: &mut Network<B>, interval: Duration, timer: u64) {
    for node in 0..net.scenario().nodes {
        let at = net.chance(interval);
        net.wake(node, at, timer);
    }
}

/// Wakes every node for its anti-entropy.
pub(super) fn start_anti_entropy<B>(net: &mut Network<B>, timer: u64) {
    start(net, INTERVAL, timer);
}

/// The anti-entropy of one node.
pub(super) fn anti_entropy<B: From<Recovery>>(net: &mut Network<B>, node: usize, timer: u64) {
    net.wake(node, net.now() + INTERVAL, timer);
    let missing: Vec<usize> = (0..net.scenario().blocks)
        .take_while(|block| net.scenario().injected_at(*block) + AGE_MIN <= net.now())
        .filter(|block| !net.has(node, *block))
        .take(ASKED_MAX)
        .collect();
    if let Some(first) = missing.first()
        && let Some(holder) = net.holder(node, *first)
    {
        ask(net, node, holder, missing);
    }
}

/// Asks somebody for blocks.
pub(super) fn ask<B: From<Recovery>>(
    net: &mut Network<B>,
    from: usize,
    to: usize,
    blocks: Vec<usize>,
) {
    net.send(Parcel {
        from,
        to,
        size: list_size(blocks.len()),
        about: None,
        content: false,
        body: Recovery::Request(blocks).into(),
    });
}

/// Answers a request, or takes a block. Gives the block if it is new.
pub(super) fn receive<B: From<Recovery>>(
    net: &mut Network<B>,
    from: usize,
    to: usize,
    body: Recovery,
) -> Option<usize> {
    match body {
        Recovery::Request(blocks) => {
            for block in blocks
                .into_iter()
                .filter(|block| net.has(to, *block))
                .collect::<Vec<_>>()
            {
                net.send(whole(net, to, from, block, Recovery::Block(block).into()));
            }
            None
        }
        Recovery::Block(block) => net.got(to, block).then_some(block),
    }
}

/// A parcel with a whole block.
pub(super) fn whole<B>(
    net: &Network<B>,
    from: usize,
    to: usize,
    block: usize,
    body: B,
) -> Parcel<B> {
    Parcel {
        from,
        to,
        size: net.scenario().size + HEADER,
        about: Some(block),
        content: true,
        body,
    }
}
