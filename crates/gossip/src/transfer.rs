//! The path of a channel's blocks to the ledger, and the filling of gaps in it.
//!
//! Promises: blocks are handed to the committer strictly by number, without gaps, a bounded
//! number of them ahead; a block that the committer refuses is wanted again; what a peer sends in
//! answer counts only if it was asked for, without gaps from the first block that was. Answers the
//! requests of others, one of each peer at a time, each in its turn. Knows nothing of what is in a
//! block.
//!
//! Rules: docs/protocol/transfer.md.

mod answers;
mod buffer;
mod catch_up;
mod progress;
mod ranges;
mod requests;
mod sources;

use std::{sync::Arc, time::Duration};

use tidings_proto::gossip::{
    Envelope, RemoteStateResponse,
    gossip_message::{Content, Tag},
};

use self::{
    buffer::{Buffer, Pushed, Waiting},
    catch_up::CatchUp,
    requests::{Request, Requests},
};
use crate::{
    channel::Channel,
    config::Config,
    effect::{Destination, Notice, Source},
    id::{ChannelId, ConnectionId, Moment, PkiId},
    message::{Connection, Message, VerifiedBlock},
    ports::Ports,
    view::View,
    wire,
};

pub use self::{
    buffer::{BUFFER_BYTES_MAX, COMMIT_WINDOW},
    catch_up::{AHEAD_BYTES_MAX, AHEAD_MAX, RANGES_MAX, REQUESTS_MAX},
    progress::{Progress, REPORT_INTERVAL, Share, Stage},
    requests::SERVING_MAX,
    sources::WINDOW_MAX,
};

/// How long a block that somebody has may be missing until it is asked for. Pushes of
/// neighbouring blocks overtake each other, and the state infos about them, by milliseconds, not
/// by this.
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
    /// A peer of the channel said that it has so many blocks; whether to believe it is seen when
    /// it is asked.
    Claimed(u64),
    /// The blocks of the [`Effect::Serve`] to this stream were sent or could not be read.
    Served(ConnectionId),
    /// A dial or a write towards this peer failed.
    Unreachable(PkiId),
    /// This stream is gone.
    Disconnected {
        /// Which stream.
        connection: ConnectionId,
        /// Who was at its other end.
        peer: PkiId,
    },
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
    /// [`Input::Served`], before which there is no other for the same peer.
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
    claim: Option<Claim>,
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

/// Somebody has a little more than what came here so far.
#[derive(Debug)]
struct Claim {
    height: u64,
    since: Moment,
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
            claim: None,
            is_full: false,
            warned_at: None,
            config: config.clone(),
            channel,
        }
    }

    /// Forgets all that is not in the ledger and whatever is under way, and starts at the ledger's
    /// height once more. A late answer finds nothing that it could be an answer to.
    pub fn begin_again(&mut self, height: u64, now: Moment) {
        let seed = self.catch_up.next_seed();
        *self = Self::new(self.channel.clone(), &self.config, height, now, &seed);
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
            Input::CommitRefused(number) => self.refuse(now, number, out),
            Input::Claimed(height) => self.note_claim(now, height),
            Input::Served(connection) => {
                self.requests.served(connection);
                self.serve(out);
            }
            Input::Unreachable(peer) => self.catch_up.unreachable(now, &peer),
            Input::Disconnected { connection, peer } => {
                self.requests.disconnected(connection);
                self.catch_up.disconnected(now, &peer);
            }
        }
        self.watch_gap(now);
        self.watch_claim();
        self.pursue(now, around, out);
    }

    /// Does what has fallen due.
    pub fn tick(&mut self, now: Moment, channel: &Channel, view: &View<'_>, out: &mut Vec<Effect>) {
        if let Some(gap) = &mut self.gap
            && !gap.asked
            && gap.since + GAP_PATIENCE <= now
        {
            gap.asked = true;
            self.catch_up.begin(now, self.buffer.height());
        }
        if self.claim_is_due().is_some_and(|due| due <= now) {
            self.claim = None;
            self.catch_up.begin(now, self.buffer.height());
        }
        self.catch_up.tick(now, self.buffer.height());
        self.pursue(now, Around { channel, view }, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let gap = self.gap.as_ref().filter(|gap| !gap.asked);
        let gap = gap.map(|gap| gap.since + GAP_PATIENCE);
        [gap, self.claim_is_due(), self.catch_up.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Number of blocks known to be durable.
    pub fn height(&self) -> u64 {
        self.buffer.height()
    }

    /// Blocks that wait for a predecessor or for the committer.
    pub fn waiting(&self) -> usize {
        self.buffer.waiting()
    }

    /// How far the filling of a gap has come, while there is one.
    pub fn progress(&self, now: Moment) -> Option<Progress> {
        self.catch_up.progress(now, self.buffer.height())
    }

    /// Takes a block by the rules of its source: gossip may not fill the buffer from its far
    /// end, an orderer may as far as it would be waited for.
    fn take(&mut self, block: VerifiedBlock, source: Source, out: &mut Vec<Effect>) {
        let (number, height) = (block.number, self.buffer.height());
        let limit = match source {
            Source::Push | Source::Pull | Source::Stripe => self.config.state.block_buffer_size,
            Source::Deliver | Source::Transfer => {
                blocking_limit(self.config.state.block_buffer_size)
            }
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

    /// Whether it was news.
    fn push(&mut self, waiting: Waiting, out: &mut Vec<Effect>) -> bool {
        let (block, source) = (waiting.block.clone(), waiting.source);
        let is_taken = match self.buffer.push(waiting) {
            Pushed::Known => return false,
            Pushed::Full => {
                self.is_full |= source == Source::Transfer;
                give_back(block, source, out);
                false
            }
            Pushed::Taken { evicted } => {
                for dropped in evicted {
                    give_back(dropped.block, dropped.source, out);
                }
                true
            }
        };
        self.notify_size(out);
        is_taken
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

    fn refuse(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        if self.buffer.refuse(number) {
            self.catch_up.pause(now);
            out.push(Effect::Notify(Notice::Warning(format!(
                "channel {}: block {number} was refused by the committer, another copy is wanted",
                self.channel
            ))));
            out.push(Effect::Refused(number));
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
                self.requests.served(request.connection);
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

    /// Whoever has more than the buffer would take from gossip is asked at once; what is missing
    /// of less is as a rule on its way.
    fn note_claim(&mut self, now: Moment, height: u64) {
        let behind = height.saturating_sub(self.buffer.first_missing());
        if behind == 0 || !self.config.state.enabled || self.catch_up.is_under_way() {
            return;
        }
        if behind > self.config.state.block_buffer_size {
            self.catch_up.begin(now, self.buffer.height());
        } else if self.claim.is_none() {
            self.claim = Some(Claim { height, since: now });
        }
    }

    fn watch_claim(&mut self) {
        let reached = self.buffer.first_missing();
        let is_met = |claim: &Claim| claim.height <= reached;
        if self.claim.as_ref().is_some_and(is_met) || self.catch_up.is_under_way() {
            self.claim = None;
        }
    }

    fn claim_is_due(&self) -> Option<Moment> {
        let claim = self.claim.as_ref()?;
        Some(claim.since + GAP_PATIENCE)
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
        Source::Push | Source::Pull | Source::Stripe => {
            out.push(Effect::NotKept { block, source });
        }
        Source::Transfer => {}
    }
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
