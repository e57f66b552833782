//! Ledgers: one block at a time, each after some delay, on disk for ever.

use std::{collections::VecDeque, ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use tidings_gossip::{
    Input, Source, VerifiedBlock, delivery,
    dissemination::message::Digest,
    id::{ChannelId, ConnectionId},
    message::PrivateDigest,
    privdata::{Found, GatherKey, Missing},
    verify,
};
use tidings_proto::gossip::{
    Envelope, GossipMessage, Payload, RemoteStateResponse, gossip_message,
};

use super::{Event, Life, World};
use crate::watch::Violation;
use rand::RngExt;

/// How long a block is judged.
const JUDGING: Duration = crate::millis(1);

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
    /// It waits for private data.
    waits: bool,
    found: Vec<Found>,
    missing: Vec<(PrivateDigest, Missing)>,
}

impl Commit {
    /// Whether this is the block of this number, which waits for private data.
    pub(super) fn waits_as(&self, number: u64) -> bool {
        self.waits && self.block.number == number
    }

    pub(super) fn gathered(&mut self, found: Vec<Found>, missing: Vec<(PrivateDigest, Missing)>) {
        self.waits = false;
        self.found.extend(found);
        self.missing = missing;
    }
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

    pub(super) fn all(&self) -> &[VerifiedBlock] {
        &self.blocks
    }

    pub(super) fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Commit> {
        self.waiting.iter_mut()
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
    /// What assembled bytes are, after the time that hashing and checking take.
    pub(super) fn judge(
        &mut self,
        life: Life,
        channel: ChannelId,
        number: u64,
        hash: Digest,
        bytes: &Bytes,
    ) {
        let Some(body) = self.body(life) else {
            return;
        };
        let verdict = verify::judge(&body.verifier, &channel, number, &hash, bytes);
        let input = Input::Judged {
            channel,
            number,
            hash,
            verdict,
        };
        self.plan_input(JUDGING, life, input);
    }

    pub(super) fn enqueue_commit(&mut self, life: Life, block: VerifiedBlock, source: Source) {
        let (found, wanted) = self.lacking(life, &block.bytes);
        let waits = !wanted.is_empty();
        if waits {
            let input = Input::PrivateWanted {
                channel: self.settings.channel.clone(),
                key: GatherKey::Block(block.number),
                items: wanted,
                patience: self.settings.config.pvt_data.pull_retry_threshold,
            };
            self.plan_input(Duration::ZERO, life, input);
        }
        let commit = Commit {
            block,
            source,
            waits,
            found,
            missing: Vec::new(),
        };
        if let Some(host) = self.hosts.get_mut(life.peer) {
            host.ledger.waiting.push_back(commit);
        }
        self.begin_commit(life);
    }

    pub(super) fn begin_commit(&mut self, life: Life) {
        let Some(ledger) = self.hosts.get_mut(life.peer).map(|host| &mut host.ledger) else {
            return;
        };
        if ledger.is_busy || ledger.waiting.front().is_some_and(|commit| commit.waits) {
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
    pub(super) fn commit(&mut self, life: Life, commit: Commit) {
        let Commit {
            block,
            source,
            found,
            missing,
            ..
        } = commit;
        if self.body(life).is_none() {
            return;
        }
        let fails = self.settings.commit_failures > 0.0
            && self.rng.random_bool(self.settings.commit_failures);
        let Some(host) = self.hosts.get_mut(life.peer) else {
            return;
        };
        let (ledger, vault) = (&mut host.ledger, &mut host.vault);
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
            vault.commit(found, missing);
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
