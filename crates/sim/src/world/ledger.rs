//! Ledgers: one block at a time, each after some delay, on disk for ever.

use std::{collections::VecDeque, ops::RangeInclusive};

use tidings_gossip::{Input, Source, VerifiedBlock, delivery, id::ConnectionId};
use tidings_proto::gossip::{
    Envelope, GossipMessage, Payload, RemoteStateResponse, gossip_message,
};

use super::{Event, Life, World};
use crate::watch::Violation;
use rand::RngExt;

/// The chain that one peer committed. Survives crashes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    blocks: Vec<VerifiedBlock>,
    waiting: VecDeque<Commit>,
    is_busy: bool,
}

/// A block on its way to the disk.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    block: VerifiedBlock,
    source: Source,
}

impl Ledger {
    pub(super) fn with_genesis(genesis: VerifiedBlock) -> Self {
        Self {
            blocks: vec![genesis],
            ..Self::default()
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    pub(super) fn block(&self, number: u64) -> Option<&VerifiedBlock> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    /// What was not on disk when the process ended is lost.
    pub(super) fn lose_what_waits(&mut self) {
        self.waiting.clear();
        self.is_busy = false;
    }

    pub(super) fn is_prefix_of(&self, chain: &[VerifiedBlock]) -> bool {
        self.blocks.len() <= chain.len()
            && self
                .blocks
                .iter()
                .zip(chain)
                .all(|(ours, theirs)| ours.hash == theirs.hash)
    }
}

impl World {
    pub(super) fn enqueue_commit(&mut self, life: Life, block: VerifiedBlock, source: Source) {
        let commit = Commit { block, source };
        if let Some(host) = self.hosts.get_mut(life.peer) {
            host.ledger.waiting.push_back(commit);
        }
        self.begin_commit(life);
    }

    fn begin_commit(&mut self, life: Life) {
        let Some(ledger) = self.hosts.get_mut(life.peer).map(|host| &mut host.ledger) else {
            return;
        };
        if ledger.is_busy {
            return;
        }
        let Some(commit) = ledger.waiting.pop_front() else {
            return;
        };
        ledger.is_busy = true;
        let delay = self.between(self.settings.commit_delay.clone());
        self.plan(self.now + delay, Event::Commit(life, commit));
    }

    /// A block reaches the disk.
    pub(super) fn commit(&mut self, life: Life, Commit { block, source }: Commit) {
        if self.body(life).is_none() {
            return;
        }
        let fails = self.settings.commit_failures > 0.0
            && self.rng.random_bool(self.settings.commit_failures);
        let Some(ledger) = self.hosts.get_mut(life.peer).map(|host| &mut host.ledger) else {
            return;
        };
        ledger.is_busy = false;
        let number = block.number;
        let height = ledger.height();
        let fits = ledger
            .blocks
            .last()
            .is_some_and(|last| last.hash[..] == block.previous_hash[..]);
        let channel = self.settings.channel.clone();
        if fails {
            let input = Input::CommitRefused { channel, number };
            self.give(life, input);
        } else if number == height && fits {
            let hash = block.hash;
            ledger.blocks.push(block);
            self.stats.count_commit(life.peer, number, source, self.now);
            let height = height + 1;
            self.give_delivery(life, delivery::Event::Tip { number, hash });
            self.give(life, Input::Committed { channel, height });
        } else if self.settings.commit_failures > 0.0 && number > height {
            // Followers of a block that was refused.
            self.give(life, Input::CommitRefused { channel, number });
        } else {
            let what = format!("peer {} commits {number} at height {height}", life.peer);
            self.violate(Violation::new("commit order", what));
        }
        self.begin_commit(life);
    }

    /// Answers a state request from the ledger.
    pub(super) fn serve_blocks(
        &mut self,
        life: Life,
        range: RangeInclusive<u64>,
        connection: ConnectionId,
        nonce: u64,
    ) {
        if self.hosts.get(life.peer).is_some_and(|host| host.lies) {
            self.serve_lies(life, range, connection, nonce);
            return;
        }
        let Some(host) = self.hosts.get(life.peer) else {
            return;
        };
        if *range.end() >= host.ledger.height() && !range.is_empty() {
            let what = format!("asked for {range:?} at height {}", host.ledger.height());
            self.violate(Violation::new("ServeBlocks", what));
            return;
        }
        let payloads = range
            .filter_map(|number| host.ledger.block(number))
            .map(payload)
            .collect();
        self.reply_blocks(life, connection, nonce, payloads);
    }

    pub(super) fn reply_blocks(
        &mut self,
        life: Life,
        connection: ConnectionId,
        nonce: u64,
        payloads: Vec<Payload>,
    ) {
        let message = GossipMessage {
            nonce,
            channel: self.settings.channel.as_bytes().to_vec().into(),
            tag: gossip_message::Tag::ChanOrOrg.into(),
            content: Some(gossip_message::Content::StateResponse(
                RemoteStateResponse { payloads },
            )),
        };
        self.reply(life, connection, Envelope::unsigned(&message));
    }
}

pub(super) fn payload(block: &VerifiedBlock) -> Payload {
    Payload {
        seq_num: block.number,
        data: block.bytes.clone(),
        private_data: Vec::new(),
    }
}
