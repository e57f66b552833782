//! New blocks among nodes that know a better way than gossip: STRIPE.
//!
//! The node that has a block first, the root, cuts it into stripes; each travels down a tree of
//! its own over all extended members of the organization; every node computes the trees from the
//! block's number and a list that the root publishes, the view. Inner nodes acknowledge; whoever
//! misses something learns it from small digests and asks. Plain peers get whole blocks from the
//! member that looks after them.
//!
//! Promises: a block is delivered once, after the node judged it good; nothing is kept or sent for
//! a peer without a limit; whatever members say, blocks that are not good are not delivered. Knows
//! nothing of sockets, signatures or what is in a block.
//!
//! Rules: docs/protocol/stripe.md.

mod above;
mod block;
mod early;
mod estimate;
mod forward;
mod judgement;
mod keeping;
mod load;
pub mod message;
mod model;
mod neighbours;
mod pacing;
pub mod parameters;
mod parity;
pub mod permutation;
mod plain;
mod reception;
mod repair;
mod rivals;
mod root;
pub mod shape;
mod silences;
mod status;
mod timers;
mod trial;
mod uplink;
mod view;
mod views;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;

use self::{
    block::{Block, Way},
    estimate::Estimates,
    forward::Awaited,
    load::Load,
    message::{Chunk, Class, Counters, Digest, Message},
    neighbours::Neighbours,
    pacing::Pacing,
    parameters::{MEMBERS_MAX, PLAIN_MAX, Parameters, PlainDelivery},
    plain::Wards,
    root::Throne,
    timers::{Timer, Timers},
    uplink::Uplink,
    view::{Drawer, Places, Views},
};
use crate::{
    effect::Notice,
    id::{ChannelId, Moment, PkiId},
    message::VerifiedBlock,
    ports::Ports,
    random,
};

/// What the machine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A peer of our organization said this on a stream of its own.
    Message {
        /// Who.
        from: PkiId,
        /// What.
        message: Message,
    },
    /// A whole block that was verified.
    Block {
        /// The block.
        block: VerifiedBlock,
        /// Of its serialized bytes.
        hash: Digest,
        /// Where from.
        origin: Origin,
    },
    /// Answer to [`Effect::Judge`].
    Judged {
        /// Block.
        number: u64,
        /// As it was in the effect.
        hash: Digest,
        /// What came of it.
        verdict: Verdict,
    },
    /// Who is there now; replaces what was said before.
    Members {
        /// Living extended members of our organization on the channel, ourselves left out.
        members: Vec<Member>,
        /// Living members of our organization on the channel that are not extended.
        plain: Vec<PlainPeer>,
    },
    /// How far away a member is, measured anew.
    Rtt {
        /// Which member.
        peer: PkiId,
        /// The measurement.
        rtt: Rtt,
    },
    /// Who leads the organization on the channel.
    Leader(Leader),
    /// The stream to a peer broke, or works again.
    Connection {
        /// Which peer.
        peer: PkiId,
        /// It works.
        is_up: bool,
    },
    /// The transport holds too many chunks for a peer, or no longer does.
    Congestion {
        /// Which peer.
        peer: PkiId,
        /// It is congested.
        is_congested: bool,
    },
    /// How long the processor queue or the uplink is backed up; told about once a second.
    Backlog(Duration),
    /// Every block below is durable.
    Height(u64),
}

/// Where a whole block came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The ordering service gave it to us: we are the root, if we lead.
    Ordered,
    /// A plain push, a pull, a state transfer, or the ledger.
    Received,
}

/// What the node found out about assembled bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// They hash to what was said, and are a block of this number that the orderers signed.
    Good(VerifiedBlock),
    /// They hash to something else: a chunk is bad.
    Corrupt,
    /// They hash to what was said, but are no good block: whoever said it lied.
    Refused,
}

/// An extended member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub peer: PkiId,
    /// What it says of itself; a member does not call itself a suspect.
    pub class: Class,
    /// How far away it is, if that is known.
    pub rtt: Option<Rtt>,
}

/// A round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    /// Smoothed mean.
    pub mean: Duration,
    /// Mean deviation, if an estimator runs.
    pub deviation: Option<Duration>,
}

/// A plain peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainPeer {
    /// Who.
    pub peer: PkiId,
    /// The height that it advertises.
    pub height: u64,
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leader {
    /// Nobody is known to.
    #[default]
    Unknown,
    /// This node, by election.
    Me,
    /// This node, by appointment: others may be appointed as well, even all.
    MeAmongOthers,
    /// Another, by election. It may be a plain peer.
    Peer(PkiId),
    /// There is no election, and we are not appointed: any member may be.
    Appointed,
}

impl Leader {
    fn is_me(self) -> bool {
        matches!(self, Self::Me | Self::MeAmongOthers)
    }
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send over the stream to this peer, in the queue that [`Message::queue`] says.
    Send {
        /// To whom.
        to: PkiId,
        /// What.
        message: Message,
    },
    /// Find out whether these bytes hash to this and are a good block of this number. Answered by
    /// [`Input::Judged`].
    Judge {
        /// Block.
        number: u64,
        /// What they should hash to.
        hash: Digest,
        /// The bytes.
        bytes: Bytes,
        /// Who sent the first chunk.
        from: PkiId,
    },
    /// Hand this block, which was judged good, to the payload buffer.
    Deliver(VerifiedBlock),
    /// Give a plain peer this block.
    GivePlain {
        /// Which peer.
        to: PkiId,
        /// The block.
        block: VerifiedBlock,
        /// In which way.
        how: PlainDelivery,
    },
    /// This block will not come by stripes: fetch it in the plain way, now.
    Fetch(u64),
    /// Tell others that we are of this class from now on.
    Declare(Class),
    /// Hold back for a moment what comes next from the orderer: members are behind. Or go on.
    Hold(bool),
    /// To be known.
    Notify(Notice),
}

/// How much is remembered. Everything here is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Blocks of which something is known.
    pub blocks: usize,
    /// Of these, blocks of which something is missing.
    pub open: usize,
    /// Bytes of chunks of open blocks.
    pub open_bytes: usize,
    /// Bytes of blocks kept for others.
    pub kept_bytes: usize,
    /// Chunks whose view is missing.
    pub strays: usize,
    /// Views.
    pub views: usize,
    /// Members.
    pub members: usize,
    /// Things that may fall due.
    pub timers: usize,
}

/// The dissemination of one channel's blocks, as one member sees it.
#[derive(Debug)]
pub struct Dissemination {
    me: PkiId,
    channel: ChannelId,
    parameters: Parameters,
    rng: ChaCha8Rng,
    /// Every block below is durable.
    height: u64,
    blocks: BTreeMap<u64, Block>,
    neighbours: Neighbours,
    wards: Wards,
    leader: Leader,
    /// Who led before; what it began may still be under way.
    last_leader: Option<PkiId>,
    /// By whose trees the last good block came.
    last_injector: Option<PkiId>,
    views: Views,
    /// Views of those who may be about to lead.
    early: early::Waiting,
    drawer: Drawer,
    /// Epochs that were asked for.
    wanted: BTreeSet<u64>,
    strays: VecDeque<(PkiId, Chunk)>,
    acks: BTreeMap<(u64, u8, PkiId), VecDeque<Awaited>>,
    timers: Timers,
    estimates: Estimates,
    model: Option<(model::Key, Duration)>,
    uplink: Uplink,
    throne: Throne,
    load: Load,
    pacing: Pacing,
    counters: Counters,
    last_block: Option<Moment>,
}

impl Dissemination {
    /// Knows nobody and has no block.
    pub fn new(me: PkiId, channel: ChannelId, parameters: Parameters, seed: &[u8; 32]) -> Self {
        let name = format!("dissemination {channel}");
        Self {
            rng: random::generator(seed, &name),
            me,
            channel,
            parameters,
            height: 0,
            blocks: BTreeMap::new(),
            neighbours: Neighbours::default(),
            wards: Wards::default(),
            leader: Leader::Unknown,
            last_leader: None,
            last_injector: None,
            views: Views::default(),
            early: early::Waiting::default(),
            drawer: Drawer::default(),
            wanted: BTreeSet::new(),
            strays: VecDeque::new(),
            acks: BTreeMap::new(),
            timers: Timers::default(),
            estimates: Estimates::default(),
            model: None,
            uplink: Uplink::default(),
            throne: Throne::default(),
            load: Load::default(),
            pacing: Pacing::default(),
            counters: Counters::default(),
            last_block: None,
        }
    }

    /// Feeds one input. Effects are appended in the order in which they must be done.
    pub fn handle(&mut self, now: Moment, input: Input, ports: &impl Ports, out: &mut Vec<Effect>) {
        self.uplink.advance(now);
        match input {
            Input::Message { from, message } => self.receive(now, from, message, ports, out),
            Input::Block {
                block,
                hash,
                origin,
            } => self.take_whole(now, block, hash, origin, out),
            Input::Judged {
                number,
                hash,
                verdict,
            } => self.judged(now, number, hash, verdict, out),
            Input::Members { members, plain } => self.meet(now, members, plain, ports, out),
            Input::Rtt { peer, rtt } => self.neighbours.measure(&peer, rtt),
            Input::Leader(leader) => self.follow(now, leader, ports, out),
            Input::Connection { peer, is_up } => self.connection(now, peer, is_up, out),
            Input::Congestion { peer, is_congested } => {
                if let Some(neighbour) = self.neighbours.find_mut(&peer) {
                    neighbour.is_congested = is_congested;
                }
            }
            Input::Backlog(backlog) => {
                if let Some(class) = self.load.sample(backlog) {
                    out.push(Effect::Declare(class));
                    self.reconsider(now, false);
                }
            }
            Input::Height(height) => self.grow(now, height),
        }
        self.go_on(now, out);
    }

    /// Does what has fallen due by `now`. Harmless when called early.
    pub fn tick(&mut self, now: Moment, ports: &impl Ports, out: &mut Vec<Effect>) {
        self.uplink.advance(now);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Ack(number, stripe, peer) => {
                    self.unacknowledged(now, number, stripe, peer, out)
                }
                Timer::Have(number) => self.have_fell_due(now, number, out),
                Timer::Spread(number) => self.spread_fell_due(now, number, out),
                Timer::Retry(number) => self.ask(now, number, out),
                Timer::Hashes(number) => self.doubt(now, number, out),
                Timer::Takeover(number) => self.take_over(now, number, out),
                Timer::Status => self.tell_status(now, out),
                Timer::Publish => self.publish(now, ports, out),
                Timer::Probe(peer) => self.unanswered(now, peer, out),
                Timer::Verdict(number) => self.decide(now, number, out),
                Timer::Early => self.refuse_early(now, out),
                // Follows in any case.
                Timer::Pace => {}
                Timer::Sweep => self.sweep(now),
            }
        }
        self.go_on(now, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        self.timers.deadline()
    }

    /// What was sent of chunks since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn receive(
        &mut self,
        now: Moment,
        from: PkiId,
        message: Message,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let neighbour = self.neighbours.find_mut(&from);
        let is_listed = neighbour.is_some() || self.views.is_listed(&from);
        if from == self.me || !is_listed {
            let reason = "it is not an extended member of our organization".to_owned();
            out.push(refused(from, "S-T1", reason));
            return;
        }
        if let Some(neighbour) = self.neighbours.find_mut(&from) {
            neighbour.heard = Some(now);
        }
        self.heard(now, from);
        match message {
            Message::Chunk(chunk) => self.take_chunk(now, from, chunk, out),
            Message::Ack { number, stripe } => self.acknowledged(now, from, number, stripe),
            Message::Have(have) => self.take_have(now, from, have, out),
            Message::Request {
                number,
                hash,
                cut,
                stripes,
            } => self.serve(now, from, number, (hash, cut, stripes), out),
            Message::Status(status) => self.take_status(now, from, status, out),
            Message::View(view) => self.take_view(now, from, &view, out),
            Message::ViewRequest { wanted, .. } => self.show_view(now, from, wanted, out),
            Message::Suspect { member, kind } => self.take_suspicion(now, from, member, kind, out),
            Message::HashesRequest { number, hash } => {
                self.show_hashes(now, from, number, hash, ports, out);
            }
            Message::Hashes(hashes) => self.take_hashes(now, from, &hashes, out),
        }
    }

    fn meet(
        &mut self,
        now: Moment,
        mut members: Vec<Member>,
        mut plain: Vec<PlainPeer>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        members.retain(|member| member.peer != self.me);
        members.truncate(MEMBERS_MAX - 1);
        plain.truncate(PLAIN_MAX);
        self.neighbours.replace(members);
        let prefix = self.prefix();
        self.wards.replace(now, prefix, &plain);
        self.crown(now, ports, out);
    }

    fn connection(&mut self, now: Moment, peer: PkiId, is_up: bool, out: &mut Vec<Effect>) {
        let Some(neighbour) = self.neighbours.find_mut(&peer) else {
            return;
        };
        let was_down = std::mem::replace(&mut neighbour.is_down, !is_up);
        match (was_down, is_up) {
            (false, false) => self.report(now, peer, message::Suspicion::Lost, out),
            (true, true) => self.report(now, peer, message::Suspicion::Alive, out),
            _ => {}
        }
    }

    /// The trees of a block, if the list of that epoch is known.
    fn places(&mut self, number: u64, way: Way) -> Option<Places> {
        let view = self.views.find(way.epoch)?;
        Some(self.drawer.of(&self.channel, &view, number, way.shape))
    }

    fn send(&mut self, now: Moment, to: PkiId, message: Message, out: &mut Vec<Effect>) {
        if let Message::Chunk(chunk) = &message {
            let takes = self.parameters.sending(message.wire_len());
            if let Some(lag_max) = self.parameters.lag_max {
                self.uplink.catch_up(now, lag_max);
            }
            let queued = (to, chunk.number, chunk.stripe);
            match chunk.repair {
                true => self.uplink.push_answer(now, takes, queued),
                false => self.uplink.push(now, takes, queued),
            }
        }
        out.push(Effect::Send { to, message });
    }
}

fn refused(from: PkiId, rule: &'static str, reason: String) -> Effect {
    Effect::Notify(Notice::Refused { from, rule, reason })
}

#[cfg(test)]
mod tests;
