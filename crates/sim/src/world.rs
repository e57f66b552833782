//! One network under one seed: peers, an ordering service, and everything that goes wrong.
//!
//! A world is described first ([`World::org`], [`World::loss`], …), then trouble is planned
//! ([`World::partition`], [`World::crash`], …), then it runs. Everything that happens is an event
//! at a virtual time; events of the same time happen in the order in which they were planned.

mod ask;
mod ledger;
mod lies;
mod network;
mod orderer;
mod peer;
mod plan;
mod private;
mod reign;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    ops::Range,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use sha2::{Digest, Sha256};
use tidings_gossip::{
    Effect, Input, Notice,
    delivery::StreamId,
    dissemination::wire as stripes,
    id::{OrgId, PkiId},
    node::Sizes,
    privdata,
    transfer::{AHEAD_MAX, SERVING_MAX, blocking_limit},
};
use tidings_proto::Message as _;

use crate::{
    Stats, millis,
    seed::replay_command,
    watch::{Register, Violation},
};
use ledger::Commit;
use network::{Arrival, Dial, Link, LinkId, Question};
use orderer::Orderer;
use peer::{Body, Host};
use plan::Settings;
use private::{Draft, Push};
use reign::Reign;

pub use private::Account;

/// Virtual wall clock at the start of a world with no skew, in seconds since the Unix epoch.
pub const EPOCH_SECS: u64 = 1_700_000_000;

/// Warnings kept to explain a failure; the last ones tell most.
const WARNINGS_KEPT: usize = 12;

/// Wakes of one node at one moment before it counts as stuck: a node has some dozen timers.
const WAKES_AT_ONCE_MAX: u32 = 1000;

/// How often a condition that a scenario waits for is looked at.
const LOOK_EVERY: Duration = millis(50);

/// A simulated network.
pub struct World {
    seed: u64,
    rng: ChaCha8Rng,
    now: Duration,
    planned: u64,
    events: BinaryHeap<Scheduled>,
    settings: Settings,
    orgs: Vec<Org>,
    hosts: Vec<Host>,
    by_pki_id: BTreeMap<PkiId, usize>,
    links: BTreeMap<LinkId, Link>,
    pairs: BTreeMap<(usize, usize), LinkId>,
    dials: BTreeMap<(usize, PkiId), Dial>,
    links_made: u64,
    partitions: BTreeMap<usize, Vec<Range<usize>>>,
    partitions_planned: usize,
    orderer: Orderer,
    drafts: Vec<Draft>,
    reign: Reign,
    register: Register,
    revoked: BTreeSet<PkiId>,
    violations: Vec<Violation>,
    warnings: VecDeque<String>,
    stats: Stats,
    trace: Sha256,
    is_started: bool,
}

/// An organization and how many peers it has.
#[derive(Clone)]
struct Org {
    id: OrgId,
    peers: usize,
}

/// Addresses one life of a peer: what was meant for a crashed one never reaches its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    peer: usize,
    incarnation: u32,
}

enum Event {
    Boot(usize),
    Crash(usize),
    Wake(Life),
    Feed(Life, Input),
    Arrive(Arrival),
    DialEnds(Life, PkiId),
    DialFails(Life, PkiId),
    Answer(Life, Question),
    LinkBreaks(LinkId),
    Cut(usize, Vec<Range<usize>>),
    Heal(usize),
    Commit(Life, Commit),
    Lie(usize),
    Revoke(usize),
    Renew(usize),
    CutBlock,
    OrdererDown,
    OrdererUp,
    Withhold(usize),
    Honest,
    StreamOpens(Life, StreamId),
    StreamBrings(Life, StreamId, u64),
    Endorse(usize, String),
    Pry(usize, usize, String),
    Stored(Life, Push),
    Fall(usize),
}

struct Scheduled {
    at: Duration,
    turn: u64,
    /// Boxed because the heap moves what it holds.
    event: Box<Event>,
}

impl Event {
    /// Whether it takes peers from each other or has them begin anew.
    fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Boot(_)
                | Self::Crash(_)
                | Self::Fall(_)
                | Self::Cut(..)
                | Self::Heal(_)
                | Self::Revoke(_)
                | Self::Renew(_)
        )
    }
}

impl World {
    /// An empty world. Equal seeds and equal descriptions give equal runs.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Duration::ZERO,
            planned: 0,
            events: BinaryHeap::new(),
            settings: Settings::default(),
            orgs: Vec::new(),
            hosts: Vec::new(),
            by_pki_id: BTreeMap::new(),
            links: BTreeMap::new(),
            pairs: BTreeMap::new(),
            dials: BTreeMap::new(),
            links_made: 0,
            partitions: BTreeMap::new(),
            partitions_planned: 0,
            orderer: Orderer::default(),
            drafts: Vec::new(),
            reign: Reign::default(),
            register: Register::default(),
            revoked: BTreeSet::new(),
            violations: Vec::new(),
            warnings: VecDeque::new(),
            stats: Stats::default(),
            trace: Sha256::new(),
            is_started: false,
        }
    }

    /// Feeds an input to a peer that is up.
    pub fn feed(&mut self, peer: usize, input: Input) {
        self.start();
        if let Some(life) = self.hosts.get(peer).map(|host| host.life(peer)) {
            self.plan(self.now, Event::Feed(life, input));
        }
    }

    /// Runs until the condition holds.
    ///
    /// # Panics
    ///
    /// When it does not hold by `limit`, counted from the start of the world, or when something
    /// happened that must never happen.
    pub fn run_until(&mut self, condition: impl Fn(&Self) -> bool, limit: Duration) {
        self.start();
        let mut look_at = self.now;
        loop {
            if self.now >= look_at || self.events.is_empty() {
                self.watch_sizes();
                if condition(self) {
                    return;
                }
                look_at = self.now + LOOK_EVERY;
            }
            assert!(
                self.now <= limit && !self.events.is_empty(),
                "not reached by {limit:?}\n{}",
                self.report()
            );
            self.step();
        }
    }

    /// Runs for so long.
    ///
    /// # Panics
    ///
    /// When something happened that must never happen.
    pub fn run_for(&mut self, duration: Duration) {
        self.start();
        let end = self.now + duration;
        while self.events.peek().is_some_and(|next| next.at <= end) {
            self.step();
        }
        self.now = end;
        self.watch_sizes();
    }

    /// No core may remember more than the world gives it reason to.
    fn watch_sizes(&mut self) {
        let config = &self.settings.config;
        let everybody = self.register.len();
        let width = config.max_block_count_to_store;
        let width = width.max(config.state.block_buffer_size);
        let store = usize::try_from(width).unwrap_or(usize::MAX);
        let buffer = blocking_limit(config.state.block_buffer_size).max(AHEAD_MAX);
        let most = Sizes {
            identities: everybody,
            members: everybody - 1,
            strangers: 0,
            state_infos: everybody * (1 + self.settings.idle_channels),
            blocks_held: store + 1,
            blocks_waiting: usize::try_from(buffer).unwrap_or(usize::MAX),
            messages_waiting: config.max_propagation_burst_size - 1,
            serving: SERVING_MAX,
            private: privdata::Sizes {
                pushes: self.drafts.len(),
                // The window of the committer, and one for old blocks.
                gathers: 17,
                asked: 17 * everybody,
                serving: privdata::SERVING_MAX + privdata::WAITING_MAX,
            },
            distributions: self.drafts.len(),
        };
        for (peer, host) in self.hosts.iter().enumerate() {
            let Some(is) = host.body.as_ref().map(|body| body.node.sizes()) else {
                continue;
            };
            if !fits(is, most) {
                let violation =
                    Violation::new("M-S3", format!("peer {peer}: {is:?}, not {most:?}"));
                self.violations.push(violation);
            }
        }
    }

    fn step(&mut self) {
        let Some(Scheduled { at, event, .. }) = self.events.pop() else {
            return;
        };
        self.now = self.now.max(at);
        if event.is_fault() {
            self.note_fault();
        }
        self.happen(*event);
        self.watch_leaders();
        if let Some(violation) = self.violations.first() {
            panic!("{violation}\n{}", self.report());
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Boot(peer) => self.boot(peer),
            Event::Crash(peer) => self.kill(peer),
            Event::Wake(life) => self.wake(life),
            Event::Feed(life, input) => self.give(life, input),
            Event::Arrive(arrival) => self.arrive(arrival),
            Event::DialEnds(life, expected) => self.end_dial(life, expected),
            Event::DialFails(life, expected) => self.fail_dial(life, expected),
            Event::Answer(life, question) => self.answer(life, question),
            Event::LinkBreaks(link) => self.break_link_if_cut(link),
            Event::Cut(name, groups) => self.cut(name, groups),
            Event::Heal(name) => drop(self.partitions.remove(&name)),
            Event::Commit(life, commit) => self.commit(life, commit),
            Event::Lie(peer) => self.begin_to_lie(peer),
            Event::Renew(peer) => self.renew_now(peer),
            Event::Revoke(peer) => self.revoke_now(peer),
            Event::CutBlock => self.cut_block(),
            Event::OrdererDown => self.set_orderer(false),
            Event::OrdererUp => self.set_orderer(true),
            Event::StreamOpens(life, stream) => self.open_stream(life, stream),
            Event::StreamBrings(life, stream, number) => self.stream_brings(life, stream, number),
            Event::Withhold(peer) => self.begin_withholding(peer),
            Event::Honest => self.end_withholding(),
            Event::Endorse(peer, collection) => self.endorse_now(peer, &collection),
            Event::Pry(peer, whom, collection) => self.pry_now(peer, whom, &collection),
            Event::Stored(life, push) => self.stored(life, push),
            Event::Fall(peer) => self.fall(peer),
        }
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.events.push(Scheduled {
            at: at.max(self.now),
            turn: self.planned,
            event: Box::new(event),
        });
    }

    fn plan_input(&mut self, after: Duration, life: Life, input: Input) {
        self.plan(self.now + after, Event::Feed(life, input));
    }

    /// Hands an input to a core and does what it wants.
    fn give(&mut self, life: Life, input: Input) {
        let now = self.now;
        let Some(body) = self.body_mut(life) else {
            return;
        };
        let moment = body.moment(now);
        let mut out = Vec::new();
        body.node.handle(moment, input, &mut out);
        self.obey(life, out);
    }

    fn wake(&mut self, life: Life) {
        let now = self.now;
        let Some(body) = self.body_mut(life) else {
            return;
        };
        if body.wake_at != Some(now) {
            return;
        }
        body.wake_at = None;
        body.count_wake(now);
        let is_stuck = body.wakes_now > WAKES_AT_ONCE_MAX;
        let moment = body.moment(now);
        let mut out = Vec::new();
        body.node.tick(moment, &mut out);
        self.obey(life, out);
        if is_stuck {
            self.violate(Violation::new(
                "deadline",
                "a tick never moves the deadline",
            ));
        }
    }

    fn obey(&mut self, life: Life, effects: Vec<Effect>) {
        for effect in effects {
            self.trace_effect(life, &effect);
            self.perform(life, effect);
        }
        self.note_leader(life);
        let now = self.now;
        let Some(body) = self.body_mut(life) else {
            return;
        };
        let Some(deadline) = body.node.deadline() else {
            return;
        };
        let at = (body.born + deadline.since_start()).max(now);
        if body
            .wake_at
            .is_none_or(|planned| at < planned || planned < now)
        {
            body.wake_at = Some(at);
            self.plan(at, Event::Wake(life));
        }
    }

    fn perform(&mut self, life: Life, effect: Effect) {
        match effect {
            Effect::Send { to, envelope } => self.send(life, &to, envelope),
            Effect::Reply {
                connection,
                envelope,
            } => self.reply(life, connection, envelope),
            Effect::Stripe {
                to,
                channel,
                message,
            } => self.send(life, &to, stripes::envelope(&channel, &message)),
            Effect::Judge {
                channel,
                number,
                hash,
                bytes,
            } => self.judge(life, channel, number, hash, &bytes),
            Effect::Close(peer) => self.close(life, peer),
            Effect::Probe { ticket, endpoint } => {
                self.ask(life, Question::probe(ticket, endpoint));
            }
            Effect::Identify { ticket, endpoint } => {
                self.ask(life, Question::identify(ticket, endpoint));
            }
            // Orderers here give what they are told to give, and when.
            Effect::Hold { .. } => {}
            Effect::Forget(peer) => {
                if let Some(body) = self.body_mut(life) {
                    body.verifier.forget(&peer);
                }
            }
            Effect::Commit { block, source, .. } => self.enqueue_commit(life, block, source),
            Effect::ServeBlocks {
                ticket,
                start,
                end,
                connection,
                nonce,
                ..
            } => {
                self.serve_blocks(life, start..=end, connection, nonce);
                let input = Input::Served { ticket };
                self.plan_input(millis(1), life, input);
            }
            Effect::StorePrivate { ticket, pushed, .. } => self.store_push(life, ticket, pushed),
            Effect::ServePrivate {
                ticket,
                from,
                nonce,
                digests,
                ..
            } => self.serve_private(life, ticket, &from, nonce, digests),
            Effect::PrivateGathered {
                key,
                found,
                missing,
                ..
            } => self.gathered(life, key, found, missing),
            // Nothing is ordered on the idle channels, and nothing is missing there.
            Effect::ListMissing { channel, .. } | Effect::Deliver { channel, .. }
                if channel != self.settings.channel => {}
            Effect::ListMissing { round, limit, .. } => self.list_missing(life, round, limit),
            Effect::Deliver { command, .. } => self.command_stream(life, command),
            Effect::Notify(notice) => self.note(life, notice),
        }
    }

    fn note(&mut self, life: Life, notice: Notice) {
        let text = match notice {
            Notice::Refused { from, rule, reason } => {
                *self.stats.refused.entry(rule).or_default() += 1;
                format!("{rule} from {from}: {reason}")
            }
            Notice::Warning(text) | Notice::Over(text) => text,
            Notice::Suspicion {
                orderer, verdict, ..
            } => return self.note_verdict(&orderer, verdict),
            Notice::CatchUp {
                stage, progress, ..
            } => {
                let line = format!("{stage:?}: {progress:?}");
                self.stats.catch_ups.push((life.peer, stage, progress));
                line
            }
            Notice::Acknowledged { ticket, result } => {
                if let Some(body) = self.body_mut(life) {
                    body.acknowledged.insert(ticket, result);
                }
                return;
            }
            Notice::Distributed { ticket, result } => {
                let is_enough = result.is_ok();
                self.distributed(life, ticket, is_enough);
                match result {
                    Ok(_) => return,
                    Err(reason) => reason,
                }
            }
            _ => return,
        };
        if self.warnings.len() == WARNINGS_KEPT {
            self.warnings.pop_front();
        }
        let line = format!("{:?} peer {}: {text}", self.now, life.peer);
        self.warnings.push_back(line);
    }

    fn trace_effect(&mut self, life: Life, effect: &Effect) {
        self.trace.update(self.now.as_nanos().to_le_bytes());
        self.trace.update(life.peer.to_le_bytes());
        match effect {
            Effect::Send { to, envelope } => {
                self.trace.update(to.peer.as_bytes());
                self.trace.update(&to.endpoint);
                self.trace.update(envelope.encode_to_vec());
            }
            Effect::Reply {
                connection,
                envelope,
            } => {
                self.trace.update(connection.0.to_le_bytes());
                self.trace.update(envelope.encode_to_vec());
            }
            Effect::Commit { block, .. } => self.trace.update(block.hash),
            other => self.trace.update(format!("{other:?}")),
        }
    }

    fn violate(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    fn body_mut(&mut self, life: Life) -> Option<&mut Body> {
        let host = self.hosts.get_mut(life.peer)?;
        (host.incarnation == life.incarnation)
            .then_some(host.body.as_mut())
            .flatten()
    }

    fn body(&self, life: Life) -> Option<&Body> {
        let host = self.hosts.get(life.peer)?;
        (host.incarnation == life.incarnation)
            .then_some(host.body.as_ref())
            .flatten()
    }

    fn between(&mut self, range: Range<Duration>) -> Duration {
        // The cube makes short times likely and long ones possible, as in real networks.
        let share: f64 = self.rng.random();
        let spread = range.end.saturating_sub(range.start);
        range.start + spread.mul_f64(share * share * share)
    }
}

fn fits(is: Sizes, most: Sizes) -> bool {
    is.identities <= most.identities
        && is.members <= most.members
        && is.strangers <= most.strangers
        && is.state_infos <= most.state_infos
        && is.blocks_held <= most.blocks_held
        && is.blocks_waiting <= most.blocks_waiting
        && is.messages_waiting <= most.messages_waiting
        && is.serving <= most.serving
        && is.private.pushes <= most.private.pushes
        && is.private.gathers <= most.private.gathers
        && is.private.asked <= most.private.asked
        && is.private.serving <= most.private.serving
        && is.distributions <= most.distributions
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {} failed; again: {}",
                self.seed,
                replay_command(self.seed)
            );
        }
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The heap gives the greatest, and we want the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.turn).cmp(&(self.at, self.turn))
    }
}
