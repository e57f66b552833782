//! The latest blocks that go round in a channel, and the pulling of them.
//!
//! A block that did not come although a later one was pushed is pulled at once from whoever pushed
//! that, and not with the next round.
//!
//! Knows nothing of the ledger but its height: what was committed from elsewhere is not offered.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;

use crate::{
    config::Config,
    discovery::Member,
    effect::{Destination, Source},
    id::{ChannelId, Moment, PkiId},
    message::{BlockMessage, Connection, Pull, VerifiedBlock},
    pull::{self, Puller, Topic},
    store::{Added, Window},
};

/// How long a block may be missing that a later one overtook, before it is pulled. Pushes by
/// different ways differ by what a few hops take.
const OVERTAKEN_PATIENCE: Duration = Duration::from_millis(10);

/// Pause after the first such pull that did not bring it. Each further one is twice as long: whoever
/// is asked answers two rounds a second.
const OVERTAKEN_RETRY: Duration = Duration::from_millis(100);

/// More doublings would be rarer than rounds that come by themselves.
const DOUBLINGS_MAX: u32 = 5;

#[derive(Debug)]
pub(super) struct Blocks {
    channel: ChannelId,
    seen: Window<()>,
    /// How far below the highest a block may be that peers of Fabric are told of: they throw away
    /// what is further below.
    told: u64,
    puller: Puller,
    /// The highest block that was pushed to us, and by whom unless that peer was asked for others.
    pushed: Option<(u64, Option<PkiId>)>,
    gap: Option<Gap>,
    /// Those seen for which there was no room on the way to the ledger. Nobody sends them again.
    put_off: BTreeMap<u64, (VerifiedBlock, Source)>,
}

/// A block is missing that was overtaken.
#[derive(Debug)]
struct Gap {
    missing: u64,
    /// When to pull it.
    due: Moment,
    pulls: u32,
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
        // Whatever the ledger may still wait for is news, however many blocks overtook it.
        let width = config
            .max_block_count_to_store
            .max(config.state.block_buffer_size);
        Self {
            channel: id.clone(),
            seen: Window::new(width, Some(ttl)),
            told: config.max_block_count_to_store,
            puller: Puller::new(Topic::Blocks(id.clone()), config, now, rng),
            pushed: None,
            gap: None,
            put_off: BTreeMap::new(),
        }
    }

    /// Holds a block from now on and offers it, if it is news; whether it is.
    pub(super) fn hold(&mut self, now: Moment, block: &VerifiedBlock) -> bool {
        let number = block.number;
        match self.seen.add(now, number, ()) {
            Added::Refused => false,
            Added::Taken { evicted } => {
                for (old, ()) in evicted {
                    self.let_go(old);
                }
                let item = pull::Item::Block(self.channel.clone(), number, block.bytes.clone());
                self.puller.add(name(number), item);
                true
            }
        }
    }

    /// Whether it was held, or is too old to be.
    pub(super) fn has_seen(&self, number: u64) -> bool {
        !self.seen.is_news(number)
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
            Pull::Hello { nonce, known } => {
                let lowest = self.seen.highest().unwrap_or(0).saturating_sub(self.told);
                let is_told =
                    |name: &[u8]| known.is_some() || number(name).is_some_and(|n| n >= lowest);
                self.puller
                    .hello(now, from, nonce, known.as_ref(), is_told, out);
            }
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
                    .filter(|item| self.hold(now, &item.block))
                    .map(|item| item.block)
                    .collect();
            }
        }
        Vec::new()
    }

    pub(super) fn hasten(&mut self, now: Moment) {
        self.puller.hasten(now);
    }

    /// Whether [`Self::tick`] looks at candidates.
    pub(super) fn begins_round(&self, now: Moment) -> bool {
        self.puller.begins_round(now) || self.gap.as_ref().is_some_and(|gap| gap.due <= now)
    }

    /// Those of these that may be asked now: the one that pushed on what is missing may be any.
    pub(super) fn candidates(&mut self, now: Moment, members: Vec<&Member>) -> Vec<Destination> {
        let chosen = match self.gap.as_ref().is_some_and(|gap| gap.due <= now) {
            true => members,
            false => self
                .puller
                .choose_some(&members)
                .into_iter()
                .copied()
                .collect(),
        };
        chosen
            .into_iter()
            .map(|member| member.destination())
            .collect()
    }

    /// This peer pushed a block.
    pub(super) fn pushed(&mut self, number: u64, by: PkiId) {
        if self.pushed.is_none_or(|(highest, _)| highest <= number) {
            self.pushed = Some((number, Some(by)));
        }
    }

    /// Looks for the lowest block that is wanted and was overtaken.
    pub(super) fn watch(&mut self, now: Moment, wanted: &Range<u64>) {
        let missing = self.overtaken(wanted);
        match (&self.gap, missing) {
            (Some(gap), Some(missing)) if gap.missing == missing => {}
            (_, missing) => {
                self.gap = missing.map(|missing| Gap {
                    missing,
                    due: now + OVERTAKEN_PATIENCE,
                    pulls: 0,
                });
            }
        }
    }

    fn overtaken(&self, wanted: &Range<u64>) -> Option<u64> {
        let (highest, _) = self.pushed?;
        // What is further below would not be taken any more.
        let lowest = wanted.start.max(self.seen.lowest_news());
        let overtaken = lowest..highest.min(wanted.end);
        overtaken
            .into_iter()
            .find(|number| self.seen.is_news(*number))
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
        self.pull_overtaken(now, candidates, out);
    }

    fn pull_overtaken(
        &mut self,
        now: Moment,
        candidates: &[Destination],
        out: &mut Vec<pull::Effect>,
    ) {
        let Some(gap) = self.gap.as_mut().filter(|gap| gap.due <= now) else {
            return;
        };
        gap.due = now + OVERTAKEN_RETRY.saturating_mul(1 << gap.pulls.min(DOUBLINGS_MAX));
        gap.pulls = gap.pulls.saturating_add(1);
        let witness = self.pushed.as_mut().and_then(|(_, by)| by.take());
        let is_witness = |to: &&Destination| Some(to.peer) == witness;
        let to = candidates.iter().find(is_witness);
        if let Some(to) = to.or_else(|| self.puller.choose(candidates)) {
            self.puller.begin_early(now, to.clone(), out);
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let gap = self.gap.as_ref().map(|gap| gap.due);
        let times = [self.seen.deadline(), self.puller.deadline(), gap];
        times.into_iter().flatten().min()
    }

    fn let_go(&mut self, number: u64) {
        self.puller.remove(&name(number));
        self.put_off.remove(&number);
    }
}
