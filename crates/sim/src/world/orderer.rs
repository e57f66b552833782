//! The ordering service: one chain, streams to those who lead.

use std::{collections::BTreeMap, time::Duration};

use tidings_gossip::{
    Input, VerifiedBlock,
    delivery::{self, StreamId},
};

use super::{Event, Life, World};
use crate::{millis, toy};

/// Where the ordering service answers.
pub(super) const ENDPOINT: &str = "orderer0.example.org:7050";

/// Until a stream to the ordering service is open.
const OPENING: Duration = millis(20);

/// The ordering service of the world.
#[derive(Debug, Default)]
pub(super) struct Orderer {
    chain: Vec<VerifiedBlock>,
    planned_height: u64,
    is_down: bool,
    streams_made: u64,
    streams: BTreeMap<Life, Stream>,
}

#[derive(Debug)]
struct Stream {
    name: u64,
    /// As the node calls it.
    id: StreamId,
    next: u64,
    is_open: bool,
    last_arrival: Duration,
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

    pub(super) fn lose_stream(&mut self, life: Life) {
        self.streams.remove(&life);
    }
}

impl World {
    /// Cuts the next block; the first is the genesis block, which every ledger has.
    pub(super) fn cut_block(&mut self) {
        let channel = self.settings.channel.clone();
        let number = self.orderer.height();
        let previous = self.orderer.chain.last();
        let previous = previous.map_or([0; 32], |block| block.hash);
        let bytes = toy::block(&channel, number, &previous, self.settings.block_len);
        let block = toy::check_block(&channel, number, &bytes);
        self.orderer
            .chain
            .push(block.expect("a block made here passes its own check"));
        self.stats.count_cut(number, self.now);
        let lives: Vec<_> = self.orderer.streams.keys().copied().collect();
        for life in lives {
            self.stream_what_is_there(life);
        }
    }

    pub(super) fn set_orderer(&mut self, up: bool) {
        self.orderer.is_down = !up;
        if up {
            return;
        }
        for (life, stream) in std::mem::take(&mut self.orderer.streams) {
            self.fail_stream(life, stream.id, "the ordering service went away");
        }
    }

    /// Does what a delivery machine asks for.
    pub(super) fn command_stream(&mut self, life: Life, command: delivery::Command) {
        self.orderer.lose_stream(life);
        let delivery::Command::Connect {
            stream: id,
            start,
            after,
            ..
        } = command
        else {
            return;
        };
        self.orderer.streams_made += 1;
        let name = self.orderer.streams_made;
        let stream = Stream {
            name,
            id,
            next: start,
            is_open: false,
            last_arrival: Duration::ZERO,
        };
        self.orderer.streams.insert(life, stream);
        self.plan(self.now + after + OPENING, Event::StreamOpens(life, name));
    }

    pub(super) fn open_stream(&mut self, life: Life, name: u64) {
        let is_down = self.orderer.is_down;
        let Some(stream) = self.orderer.streams.get_mut(&life) else {
            return;
        };
        if stream.name != name {
            return;
        }
        if is_down {
            let id = stream.id;
            self.orderer.lose_stream(life);
            self.fail_stream(life, id, "the ordering service does not answer");
            return;
        }
        stream.is_open = true;
        self.stream_what_is_there(life);
    }

    /// Blocks of one stream arrive in order.
    fn stream_what_is_there(&mut self, life: Life) {
        let height = self.orderer.height();
        loop {
            let latency = self.between(self.settings.latency.clone());
            let now = self.now;
            let Some(stream) = self.orderer.streams.get_mut(&life) else {
                return;
            };
            if !stream.is_open || stream.next >= height {
                return;
            }
            let (name, number) = (stream.name, stream.next);
            stream.next += 1;
            stream.last_arrival = stream.last_arrival.max(now + latency);
            let at = stream.last_arrival;
            self.plan(at, Event::StreamBlock(life, name, number));
        }
    }

    pub(super) fn stream_block(&mut self, life: Life, name: u64, number: u64) {
        let current = self.orderer.streams.get(&life);
        let id = current.filter(|stream| stream.name == name).map(|s| s.id);
        let block = usize::try_from(number)
            .ok()
            .and_then(|index| self.orderer.chain.get(index));
        if let (Some(stream), Some(block)) = (id, block) {
            let block = block.clone();
            self.give_delivery(life, delivery::Event::Block { stream, block });
        }
    }

    pub(super) fn give_delivery(&mut self, life: Life, event: delivery::Event) {
        let channel = self.settings.channel.clone();
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
