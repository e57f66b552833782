//! The latest blocks that go round in a channel, and the pulling of them.
//!
//! Knows nothing of the ledger but its height: what was committed from elsewhere is not offered.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use tidings_proto::gossip::Envelope;

use crate::{
    config::Config,
    effect::{Destination, Source},
    id::{ChannelId, Moment},
    message::{BlockMessage, Connection, Pull, VerifiedBlock},
    pull::{self, Puller, Topic},
    store::{Added, Window},
    wire,
};

#[derive(Debug)]
pub(super) struct Blocks {
    seen: Window<()>,
    puller: Puller,
    /// Those seen for which there was no room on the way to the ledger. Nobody sends them again.
    put_off: BTreeMap<u64, (VerifiedBlock, Source)>,
}

/// The name of a block in digests: its number in decimal.
fn name(number: u64) -> Bytes {
    number.to_string().into()
}

/// The number behind a name, as leniently as Go parses it.
fn number(name: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(name).ok()?;
    if digits.starts_with('+') {
        return None;
    }
    digits.parse().ok()
}

impl Blocks {
    pub(super) fn new(id: &ChannelId, config: &Config, now: Moment, rng: ChaCha8Rng) -> Self {
        let ttl = config.pull_interval.saturating_mul(100);
        Self {
            seen: Window::new(config.max_block_count_to_store, Some(ttl)),
            puller: Puller::new(Topic::Blocks(id.clone()), config, now, rng),
            put_off: BTreeMap::new(),
        }
    }

    /// Whether the block is news; if so it is offered from now on.
    pub(super) fn store(&mut self, now: Moment, block: &BlockMessage) -> bool {
        self.hold(now, block.block.number, || block.envelope.clone())
    }

    /// A block that came to us from elsewhere than gossip, as gossip carries it; none if gossip
    /// brought it before.
    pub(super) fn offer(
        &mut self,
        now: Moment,
        channel: &ChannelId,
        block: &VerifiedBlock,
    ) -> Option<Envelope> {
        if !self.seen.is_news(block.number) {
            return None;
        }
        let envelope = wire::block(channel, block.number, block.bytes.clone());
        self.hold(now, block.number, || envelope.clone())
            .then_some(envelope)
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn forget(&mut self, number: u64) {
        self.seen.remove(number);
        self.let_go(number);
    }

    /// Keeps a block for later, for as long as it is offered to others.
    pub(super) fn put_off(&mut self, block: VerifiedBlock, source: Source) {
        if self.seen.get(block.number).is_some() {
            self.put_off.insert(block.number, (block, source));
        }
    }

    /// What was put off and is wanted now. Nothing of it is put off any more, nor what is old.
    pub(super) fn resume(&mut self, wanted: &Range<u64>) -> Vec<(VerifiedBlock, Source)> {
        let far = self.put_off.split_off(&wanted.end);
        let near = std::mem::replace(&mut self.put_off, far).into_values();
        near.filter(|(block, _)| wanted.contains(&block.number))
            .collect()
    }

    /// Plays our part in a pull, asking for blocks of these numbers only. Returns those that are
    /// news.
    pub(super) fn pull(
        &mut self,
        now: Moment,
        from: &Connection,
        message: Pull<BlockMessage>,
        wanted: &Range<u64>,
        out: &mut Vec<pull::Effect>,
    ) -> Vec<VerifiedBlock> {
        match message {
            Pull::Hello { nonce } => self.puller.hello(now, from, nonce, |_| true, out),
            Pull::Digest { nonce, digests } => {
                let seen = &self.seen;
                let is_wanted = |name: &[u8]| {
                    number(name).is_some_and(|n| wanted.contains(&n) && seen.is_news(n))
                };
                let peer = from.peer();
                self.puller
                    .digest(now, peer, nonce, digests, is_wanted, out);
            }
            Pull::Request { nonce, digests } => {
                self.puller
                    .request(now, from, nonce, &digests, |_| true, out);
            }
            Pull::Update { nonce, items } => {
                let id = |item: &BlockMessage| name(item.block.number);
                let mut asked = self.puller.update(now, from.peer(), nonce, items, id);
                // A late block makes those far below it old.
                asked.sort_by_key(|item| item.block.number);
                return asked
                    .into_iter()
                    .filter(|item| self.store(now, item))
                    .map(|item| item.block)
                    .collect();
            }
        }
        Vec::new()
    }

    pub(super) fn hasten(&mut self, now: Moment) {
        self.puller.hasten(now);
    }

    pub(super) fn begins_round(&self, now: Moment) -> bool {
        self.puller.begins_round(now)
    }

    pub(super) fn tick(
        &mut self,
        now: Moment,
        candidates: &[Destination],
        out: &mut Vec<pull::Effect>,
    ) {
        for number in self.seen.expire(now) {
            self.let_go(number);
        }
        self.puller.tick(now, candidates, out);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let times = [self.seen.deadline(), self.puller.deadline()];
        times.into_iter().flatten().min()
    }

    fn hold(&mut self, now: Moment, number: u64, envelope: impl FnOnce() -> Envelope) -> bool {
        match self.seen.add(now, number, ()) {
            Added::Refused => false,
            Added::Taken { evicted } => {
                for (old, ()) in evicted {
                    self.let_go(old);
                }
                self.puller.add(name(number), envelope());
                true
            }
        }
    }

    fn let_go(&mut self, number: u64) {
        self.puller.remove(&name(number));
        self.put_off.remove(&number);
    }
}
