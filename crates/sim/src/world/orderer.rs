//! The ordering service: one chain, and orderers that stream it to those who lead.
//!
//! Orderers may be dishonest in one way: keep blocks back while they show headers. What they show
//! is true, since nothing else passes the check in front of a core.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use tidings_gossip::{
    Input, Verdict, VerifiedBlock,
    delivery::{self, Agreement, Command, StreamId, VerifiedHeader},
    id::ChannelId,
};

use super::{Event, Life, World};
use crate::{millis, toy, watch::Violation};

/// Until a stream to the ordering service is open.
const OPENING: Duration = millis(20);

/// The ordering service of the world.
#[derive(Debug, Default)]
pub(super) struct Orderer {
    chain: Vec<VerifiedBlock>,
    planned_height: u64,
    /// Transactions for the next block.
    submitted: Vec<Bytes>,
    is_down: bool,
    /// Numbers of the orderers that keep blocks back.
    dishonest: BTreeSet<usize>,
    streams: BTreeMap<(Life, StreamId), Stream>,
}

#[derive(Debug)]
struct Stream {
    /// Which orderer.
    orderer: usize,
    content: Content,
    next: u64,
    is_open: bool,
    last_arrival: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Blocks,
    Headers,
}

impl Orderer {
    pub(super) fn chain(&self) -> &[VerifiedBlock] {
        &self.chain
    }

    pub(super) fn height(&self) -> u64 {
        self.chain.len() as u64
    }

    pub(super) fn planned_height(&self) -> u64 {
        self.planned_height.max(1)
    }

    pub(super) fn plan_height(&mut self, height: u64) {
        self.planned_height = self.planned_height.max(height);
    }

    pub(super) fn block(&self, number: u64) -> Option<&VerifiedBlock> {
        self.chain.get(usize::try_from(number).ok()?)
    }

    /// Has this transaction ordered with the next block.
    pub(super) fn submit(&mut self, transaction: Bytes) {
        self.submitted.push(transaction);
    }

    pub(super) fn lose_streams(&mut self, life: Life) {
        self.streams.retain(|(of, _), _| *of != life);
    }

    fn lose_blocks(&mut self, life: Life) {
        self.streams
            .retain(|(of, _), stream| *of != life || stream.content != Content::Blocks);
    }
}

/// Where an orderer answers.
pub(super) fn endpoint(orderer: usize) -> String {
    format!("orderer{orderer}.example.org:7050")
}

fn number(endpoint: &str) -> Option<usize> {
    let (name, _) = endpoint.strip_prefix("orderer")?.split_once('.')?;
    name.parse().ok()
}

impl World {
    /// Cuts the next block; the first is the genesis block, which every ledger has.
    pub(super) fn cut_block(&mut self) {
        let channel = self.settings.channel.clone();
        let number = self.orderer.height();
        let previous = self.orderer.chain.last();
        let previous = previous.map_or([0; 32], |block| block.hash);
        let transactions = std::mem::take(&mut self.orderer.submitted);
        let len = self.settings.block_len;
        let bytes = toy::block(&channel, number, &previous, len, &transactions);
        let block = toy::check_block(&channel, number, &bytes);
        self.orderer
            .chain
            .push(block.expect("a block made here passes its own check"));
        self.stats.count_cut(number, self.now);
        self.stream_everywhere();
    }

    pub(super) fn set_orderer(&mut self, up: bool) {
        self.orderer.is_down = !up;
        if up {
            return;
        }
        for ((life, stream), _) in std::mem::take(&mut self.orderer.streams) {
            self.fail_stream(life, stream, "the ordering service went away");
        }
    }

    /// The orderer that gives this peer its blocks keeps them back from now on, from everybody.
    pub(super) fn begin_withholding(&mut self, peer: usize) {
        let Some(life) = self.hosts.get(peer).map(|host| host.life(peer)) else {
            return;
        };
        let mut streams = self.orderer.streams.iter();
        let source = streams.find(|((of, _), stream)| {
            *of == life && stream.content == Content::Blocks && stream.is_open
        });
        if let Some((_, stream)) = source {
            self.orderer.dishonest.insert(stream.orderer);
        } else {
            let what = format!("peer {peer} has no orderer that could withhold");
            self.violate(Violation::new("scenario", what));
        }
    }

    /// Nobody keeps blocks back any more.
    pub(super) fn end_withholding(&mut self) {
        self.orderer.dishonest.clear();
        self.stream_everywhere();
    }

    /// What peers think of the orderers.
    pub(super) fn note_verdict(&mut self, orderer: &str, verdict: Verdict) {
        *self.stats.verdicts.entry(verdict).or_default() += 1;
        let is_dishonest = number(orderer).is_some_and(|n| self.orderer.dishonest.contains(&n));
        if verdict == Verdict::Withheld && !is_dishonest {
            let what = format!("{orderer} is honest, and was left for withholding blocks");
            self.violate(Violation::new("suspicion", what));
        }
    }

    /// What delivery is told when a process begins.
    pub(super) fn introduce_orderers(&mut self, life: Life) {
        let Some(host) = self.hosts.get(life.peer) else {
            return;
        };
        let tip = host.ledger.height().checked_sub(1);
        if let Some(tip) = tip.and_then(|number| host.ledger.block(number)) {
            let (number, hash) = (tip.number, tip.hash);
            self.give_delivery(life, delivery::Event::Tip { number, hash });
        }
        if self.settings.byzantine {
            self.give_delivery(life, delivery::Event::Agreement(Agreement::Byzantine));
        }
        let endpoints = (0..self.settings.orderers).map(endpoint).collect();
        self.give_delivery(life, delivery::Event::Endpoints(endpoints));
    }

    /// Does what a delivery machine asks for.
    pub(super) fn command_stream(&mut self, life: Life, command: Command) {
        let (content, id, endpoint, start, after) = match command {
            Command::Disconnect => return self.orderer.lose_blocks(life),
            Command::Unwatch(stream) => {
                self.orderer.streams.remove(&(life, stream));
                return;
            }
            Command::Connect {
                stream,
                endpoint,
                start,
                after,
            } => {
                self.orderer.lose_blocks(life);
                (Content::Blocks, stream, endpoint, start, after)
            }
            Command::Watch {
                stream,
                endpoint,
                start,
                after,
            } => (Content::Headers, stream, endpoint, start, after),
        };
        let Some(orderer) = number(&endpoint) else {
            return self.violate(Violation::new("scenario", format!("no orderer {endpoint}")));
        };
        let stream = Stream {
            orderer,
            content,
            next: start,
            is_open: false,
            last_arrival: Duration::ZERO,
        };
        self.orderer.streams.insert((life, id), stream);
        self.plan(self.now + after + OPENING, Event::StreamOpens(life, id));
    }

    pub(super) fn open_stream(&mut self, life: Life, id: StreamId) {
        let is_down = self.orderer.is_down;
        let Some(stream) = self.orderer.streams.get_mut(&(life, id)) else {
            return;
        };
        if is_down {
            self.orderer.streams.remove(&(life, id));
            self.fail_stream(life, id, "the ordering service does not answer");
            return;
        }
        stream.is_open = true;
        self.stream_what_is_there(life, id);
    }

    fn stream_everywhere(&mut self) {
        let streams: Vec<_> = self.orderer.streams.keys().copied().collect();
        for (life, id) in streams {
            self.stream_what_is_there(life, id);
        }
    }

    /// What one stream brings arrives in order.
    fn stream_what_is_there(&mut self, life: Life, id: StreamId) {
        let height = self.orderer.height();
        loop {
            let latency = self.between(self.settings.latency.clone());
            let now = self.now;
            let Some(stream) = self.orderer.streams.get_mut(&(life, id)) else {
                return;
            };
            let is_kept_back = stream.content == Content::Blocks
                && self.orderer.dishonest.contains(&stream.orderer);
            if !stream.is_open || stream.next >= height || is_kept_back {
                return;
            }
            let number = stream.next;
            stream.next += 1;
            let pause = match stream.content {
                Content::Blocks => self.settings.delivery_interval,
                Content::Headers => Duration::ZERO,
            };
            stream.last_arrival = (stream.last_arrival + pause).max(now + latency);
            let at = stream.last_arrival;
            self.plan(at, Event::StreamBrings(life, id, number));
        }
    }

    pub(super) fn stream_brings(&mut self, life: Life, stream: StreamId, number: u64) {
        let Some(content) = self.orderer.streams.get(&(life, stream)).map(|s| s.content) else {
            return;
        };
        let index = usize::try_from(number).ok();
        let Some(block) = index.and_then(|index| self.orderer.chain.get(index).cloned()) else {
            return;
        };
        let event = match content {
            Content::Blocks => delivery::Event::Block { stream, block },
            Content::Headers => delivery::Event::Header {
                stream,
                header: VerifiedHeader {
                    number,
                    hash: block.hash,
                    previous_hash: block.previous_hash,
                },
            },
        };
        self.give_delivery(life, event);
    }

    pub(super) fn give_delivery(&mut self, life: Life, event: delivery::Event) {
        let channel: ChannelId = self.settings.channel.clone();
        self.give(life, Input::Delivery { channel, event });
    }

    fn fail_stream(&mut self, life: Life, stream: StreamId, reason: &str) {
        let event = delivery::Event::Failed {
            stream,
            reason: reason.to_owned(),
            forbidden: false,
        };
        self.give_delivery(life, event);
    }
}
