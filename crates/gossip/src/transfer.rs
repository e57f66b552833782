//! The path of a channel's blocks to the ledger, and the filling of gaps in it.
//!
//! Promises: blocks are handed to the committer strictly by number, without gaps, a bounded
//! number of them ahead; a block that the committer refuses is wanted again; what a peer sends in
//! answer counts only if it was asked for, from the first missing block on. Answers the requests
//! of others one at a time, each peer in its turn. Knows nothing of what is in a block.
//!
//! Rules: docs/protocol/transfer.md.

mod buffer;
mod catch_up;
mod requests;

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tidings_proto::{
    gossip::{
        Envelope, PvtDataPayload, RemoteStateRequest, RemoteStateResponse,
        gossip_message::{Content, Tag},
    },
    rwset::TxPvtReadWriteSet,
};

use self::{
    buffer::{Buffer, Pushed, Waiting},
    catch_up::{Ask, CatchUp, Verdict},
    requests::{Request, Requests},
};
use crate::{
    channel::Channel,
    config::Config,
    effect::{Destination, Notice, Source},
    id::{ChannelId, ConnectionId, Moment, PkiId},
    message::{Connection, Message, TransferredBlock, VerifiedBlock},
    ports::Ports,
    view::View,
    wire,
};

pub use self::buffer::{BUFFER_BYTES_MAX, COMMIT_WINDOW};

/// How long a block may wait for the one before it until that one is asked for. Pushes of
/// neighbouring blocks overtake each other by milliseconds, not by this.
pub const GAP_PATIENCE: Duration = Duration::from_millis(500);

/// A node without state transfer that is this many blocks behind a pushed one may never catch up
/// by gossip alone, and says so.
const STRAGGLER_DISTANCE: u64 = 100;

/// What happens to the path of blocks.
#[derive(Clone, Debug)]
pub enum Input {
    /// A verified block that somebody pushed, that we pulled, or that an orderer delivered.
    Block {
        /// The block.
        block: VerifiedBlock,
        /// Where from.
        source: Source,
    },
    /// A state request or response. Other messages have no effect.
    Received {
        /// The stream it came on.
        from: Arc<Connection>,
        /// The message.
        message: Message,
    },
    /// Everything below is durable.
    Height(u64),
    /// The committer refused this block, whatever for. Every [`Effect::Commit`] is answered, so
    /// those behind it are refused one by one as well, for want of their predecessor.
    CommitRefused(u64),
    /// The blocks of [`Effect::Serve`] were sent or could not be read.
    Served,
    /// A dial or a write towards this peer failed.
    Unreachable(PkiId),
    /// This stream is gone.
    Disconnected(ConnectionId),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer; dial if there is none.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// On exactly this stream.
    Reply {
        /// Which stream.
        connection: ConnectionId,
        /// What.
        envelope: Envelope,
    },
    /// Make this block durable; comes strictly by number, up to [`COMMIT_WINDOW`] ahead of
    /// [`Input::Height`].
    Commit {
        /// The block.
        block: VerifiedBlock,
        /// How it reached us.
        source: Source,
        /// Serialized `PvtDataPayload`s that came along.
        private_data: Vec<bytes::Bytes>,
    },
    /// Read these blocks, all of which are durable, and send them on that stream. Answered by
    /// [`Input::Served`], before which there is no other.
    Serve {
        /// First block.
        start: u64,
        /// Last block.
        end: u64,
        /// Which stream asked.
        connection: ConnectionId,
        /// To be copied into the answer.
        nonce: u64,
    },
    /// A block that an orderer delivered was not kept: it has to be delivered again.
    NoRoom(u64),
    /// A block that gossip brought was not kept. It is welcome when the ledger has grown.
    NotKept {
        /// The block.
        block: VerifiedBlock,
        /// Where from.
        source: Source,
    },
    /// The committer refused this block for what it is, not for want of its predecessor: another
    /// copy is welcome.
    Refused(u64),
    /// To be known.
    Notify(Notice),
}

/// The path of one channel's blocks.
#[derive(Debug)]
pub struct Transfer {
    channel: ChannelId,
    config: Config,
    buffer: Buffer,
    catch_up: CatchUp,
    requests: Requests,
    gap: Option<Gap>,
    /// An answer did not fit; only what the ledger waits for is asked until it grew.
    is_full: bool,
    warned_at: Option<u64>,
}

/// A later block waits for one that is not there.
#[derive(Debug)]
struct Gap {
    missing: u64,
    since: Moment,
    asked: bool,
}

/// What a component may look at while it is fed.
#[derive(Clone, Copy)]
struct Around<'a> {
    channel: &'a Channel,
    view: &'a View<'a>,
}

/// How far ahead of the ledger an orderer's block may be: `2 × blockBufferSize`, where Fabric
/// begins to block. Whoever reads the stream of an orderer should stop reading there.
pub const fn blocking_limit(block_buffer_size: u64) -> u64 {
    block_buffer_size.saturating_mul(2).saturating_add(1)
}

impl Transfer {
    /// Starts at the ledger's height. `seed` is that of the node.
    pub fn new(
        channel: ChannelId,
        config: &Config,
        height: u64,
        now: Moment,
        seed: &[u8; 32],
    ) -> Self {
        Self {
            buffer: Buffer::new(height),
            catch_up: CatchUp::new(&channel, &config.state, now, seed),
            requests: Requests::new(config.state.channel_size),
            gap: None,
            is_full: false,
            warned_at: None,
            config: config.clone(),
            channel,
        }
    }

    /// Feeds one input.
    pub fn handle(
        &mut self,
        now: Moment,
        input: Input,
        channel: &Channel,
        view: &View<'_>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let around = Around { channel, view };
        match input {
            Input::Block { block, source } => {
                self.take(block, source, out);
                self.hand_over(out);
            }
            Input::Received { from, message } => self.receive(now, &from, message, ports, out),
            Input::Height(height) => {
                self.buffer.grow(height);
                self.is_full = false;
                self.hand_over(out);
            }
            Input::CommitRefused(number) => self.refuse(number, out),
            Input::Served => {
                self.requests.served();
                self.serve(out);
            }
            Input::Unreachable(peer) => self.catch_up.lost(now, &peer),
            Input::Disconnected(connection) => self.requests.disconnected(connection),
        }
        self.watch_gap(now);
        self.pursue(now, around, out);
    }

    /// Does what has fallen due.
    pub fn tick(&mut self, now: Moment, channel: &Channel, view: &View<'_>, out: &mut Vec<Effect>) {
        if let Some(gap) = &mut self.gap
            && !gap.asked
            && gap.since + GAP_PATIENCE <= now
        {
            gap.asked = true;
            self.catch_up.begin();
        }
        self.catch_up.tick(now);
        self.pursue(now, Around { channel, view }, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let gap = self.gap.as_ref().filter(|gap| !gap.asked);
        let gap = gap.map(|gap| gap.since + GAP_PATIENCE);
        [gap, self.catch_up.deadline()].into_iter().flatten().min()
    }

    /// Number of blocks known to be durable.
    pub fn height(&self) -> u64 {
        self.buffer.height()
    }

    /// Blocks that wait for a predecessor or for the committer.
    pub fn waiting(&self) -> usize {
        self.buffer.waiting()
    }

    /// Takes a block by the rules of its source: gossip may not fill the buffer from its far
    /// end, an orderer may as far as it would be waited for.
    fn take(&mut self, block: VerifiedBlock, source: Source, out: &mut Vec<Effect>) {
        let (number, height) = (block.number, self.buffer.height());
        let limit = match source {
            Source::Push | Source::Pull => self.config.state.block_buffer_size,
            Source::Deliver | Source::Transfer => self.far(),
        };
        // An old block is no news, whoever sends it.
        let Some(ahead) = number.checked_sub(height) else {
            return;
        };
        if ahead >= limit {
            if source != Source::Deliver {
                self.warn_straggler(number, out);
            }
            give_back(block, source, out);
            self.notify_size(out);
            return;
        }
        self.push(
            Waiting {
                block,
                source,
                private_data: Vec::new(),
            },
            out,
        );
    }

    fn push(&mut self, waiting: Waiting, out: &mut Vec<Effect>) {
        let (block, source) = (waiting.block.clone(), waiting.source);
        match self.buffer.push(waiting) {
            Pushed::Known => return,
            Pushed::Full => {
                self.is_full |= source == Source::Transfer;
                give_back(block, source, out);
            }
            Pushed::Taken { evicted } => {
                for dropped in evicted {
                    give_back(dropped.block, dropped.source, out);
                }
            }
        }
        self.notify_size(out);
    }

    fn hand_over(&mut self, out: &mut Vec<Effect>) {
        let mut any = false;
        while let Some(next) = self.buffer.hand_over() {
            any = true;
            out.push(Effect::Commit {
                block: next.block,
                source: next.source,
                private_data: next.private_data,
            });
        }
        if any {
            self.notify_size(out);
        }
    }

    fn refuse(&mut self, number: u64, out: &mut Vec<Effect>) {
        if self.buffer.refuse(number) {
            out.push(Effect::Notify(Notice::Warning(format!(
                "channel {}: block {number} was refused by the committer, another copy is wanted",
                self.channel
            ))));
            out.push(Effect::Refused(number));
        }
    }

    fn receive(
        &mut self,
        now: Moment,
        from: &Connection,
        message: Message,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let (Message::StateRequest { channel, .. } | Message::StateResponse { channel, .. }) =
            &message
        else {
            return;
        };
        if *channel != self.channel {
            let reason = format!("it names {channel}, not {}", self.channel);
            out.push(refused(from, "S-S2", reason));
            return;
        }
        if !ports.is_reader(&self.channel, &from.identity) {
            let reason = format!("it may not read {}", self.channel);
            out.push(refused(from, "S-S1", reason));
            return;
        }
        match message {
            Message::StateRequest {
                nonce, start, end, ..
            } => {
                self.queue(from, nonce, start, end, out);
                self.serve(out);
            }
            Message::StateResponse { nonce, blocks, .. } => {
                self.take_response(now, from, nonce, blocks, out);
                self.hand_over(out);
            }
            _ => {}
        }
    }

    fn queue(
        &mut self,
        from: &Connection,
        nonce: u64,
        start: u64,
        end: u64,
        out: &mut Vec<Effect>,
    ) {
        let most = start.saturating_add(self.config.state.batch_size);
        if start > end || end > most {
            let batch = self.config.state.batch_size;
            let reason = format!("{start} to {end} is not a range of at most {batch} and one");
            out.push(refused(from, "S-S3", reason));
            return;
        }
        let request = Request {
            connection: from.id,
            nonce,
            start,
            end,
        };
        if let Err(dropped) = self.requests.push(from.peer(), request) {
            out.push(Effect::Notify(Notice::Refused {
                from: dropped,
                rule: "S-S4",
                reason: "too many requests wait to be answered".to_owned(),
            }));
        }
    }

    fn serve(&mut self, out: &mut Vec<Effect>) {
        let height = self.buffer.height();
        while let Some(request) = self.requests.next() {
            let last = height.checked_sub(1).filter(|last| request.start <= *last);
            let Some(last) = last else {
                // Whoever asks is told at once that there is nothing, and can ask elsewhere.
                let content = Content::StateResponse(RemoteStateResponse::default());
                out.push(Effect::Reply {
                    connection: request.connection,
                    envelope: self.envelope(request.nonce, content),
                });
                self.requests.served();
                continue;
            };
            out.push(Effect::Serve {
                start: request.start,
                end: request.end.min(last),
                connection: request.connection,
                nonce: request.nonce,
            });
        }
    }

    fn take_response(
        &mut self,
        now: Moment,
        from: &Connection,
        nonce: u64,
        blocks: Vec<TransferredBlock>,
        out: &mut Vec<Effect>,
    ) {
        let Some((start, end)) = self.catch_up.awaited(nonce) else {
            // S-S5. Not worth a notice: a second answer to a repeated request looks like this.
            return;
        };
        if !self.catch_up.was_asked(&from.peer()) {
            let reason = "it answers what another peer was asked".to_owned();
            out.push(refused(from, "S-S10", reason));
            return;
        }
        let mut expected = start;
        let mut bad = None;
        for transferred in blocks {
            if let Err(reason) = check_answer(&transferred, expected, end) {
                bad = Some(reason);
                break;
            }
            expected = expected.saturating_add(1);
            self.push(
                Waiting {
                    block: transferred.block,
                    source: Source::Transfer,
                    private_data: transferred.private_data,
                },
                out,
            );
        }
        let verdict = match (&bad, expected > start) {
            (None, true) => Verdict::Good,
            (Some(_), true) => Verdict::PartlyGood,
            (_, false) => Verdict::Useless,
        };
        self.catch_up.answered(now, from.peer(), verdict);
        if let Some(reason) = bad {
            out.push(refused(from, "S-S10", reason));
        }
    }

    /// Asks for the first missing blocks while a round is under way and nothing is asked.
    fn pursue(&mut self, now: Moment, around: Around<'_>, out: &mut Vec<Effect>) {
        if !self.catch_up.is_idle_in_round() {
            return;
        }
        let missing = self.buffer.first_gap();
        let far = self.buffer.height().saturating_add(self.far());
        if missing.start >= far || self.is_full && missing.start != self.buffer.height() {
            return;
        }
        let peers = around.channel.peers(around.view);
        let ask = self
            .catch_up
            .ask(now, missing.start, missing.end.min(far), &peers);
        let Some(Ask {
            to,
            nonce,
            start,
            end,
        }) = ask
        else {
            return;
        };
        let content = Content::StateRequest(RemoteStateRequest {
            start_seq_num: start,
            end_seq_num: end,
        });
        out.push(Effect::Send {
            to,
            envelope: self.envelope(nonce, content),
        });
    }

    fn watch_gap(&mut self, now: Moment) {
        let missing = self.buffer.awaited();
        match (&self.gap, missing) {
            (Some(gap), Some(missing)) if gap.missing == missing => {}
            (_, missing) => {
                self.gap = missing.map(|missing| Gap {
                    missing,
                    since: now,
                    asked: !self.config.state.enabled,
                });
            }
        }
    }

    fn warn_straggler(&mut self, number: u64, out: &mut Vec<Effect>) {
        let height = self.buffer.height();
        let depends_on_others = self.config.use_leader_election || !self.config.org_leader;
        let is_far = number > height.saturating_add(STRAGGLER_DISTANCE);
        let is_new = self.warned_at != Some(height);
        if !self.config.state.enabled && depends_on_others && is_far && is_new {
            self.warned_at = Some(height);
            out.push(Effect::Notify(Notice::Warning(format!(
                "channel {}: block {number} was pushed while our height is {height}; enable \
                 peer.gossip.state or this node may never catch up",
                self.channel
            ))));
        }
    }

    fn far(&self) -> u64 {
        blocking_limit(self.config.state.block_buffer_size)
    }

    fn envelope(&self, nonce: u64, content: Content) -> Envelope {
        let message = wire::gossip_message(nonce, Some(&self.channel), Tag::ChanOrOrg, content);
        wire::unsigned(&message)
    }

    fn notify_size(&self, out: &mut Vec<Effect>) {
        out.push(Effect::Notify(Notice::PayloadBuffer {
            channel: self.channel.clone(),
            size: self.buffer.waiting(),
        }));
    }
}

/// Tells whoever brought a block that was not kept; what was asked of peers is asked anew without.
fn give_back(block: VerifiedBlock, source: Source, out: &mut Vec<Effect>) {
    match source {
        Source::Deliver => out.push(Effect::NoRoom(block.number)),
        Source::Push | Source::Pull => out.push(Effect::NotKept { block, source }),
        Source::Transfer => {}
    }
}

/// Whether an answer continues with this block. Private data is looked at here because a block
/// that was handed over cannot be asked for anew without a detour (S-S10).
fn check_answer(transferred: &TransferredBlock, expected: u64, end: u64) -> Result<(), String> {
    let number = transferred.block.number;
    if number != expected || number > end {
        return Err(format!(
            "block {number} came where {expected} was due, up to {end}"
        ));
    }
    for payload in &transferred.private_data {
        let is_well_formed = PvtDataPayload::decode(payload.clone())
            .and_then(|payload| TxPvtReadWriteSet::decode(payload.payload));
        if let Err(error) = is_well_formed {
            return Err(format!(
                "private data of block {number} is malformed: {error}"
            ));
        }
    }
    Ok(())
}

fn refused(from: &Connection, rule: &'static str, reason: String) -> Effect {
    Effect::Notify(Notice::Refused {
        from: from.peer(),
        rule,
        reason,
    })
}

#[cfg(test)]
mod tests;
