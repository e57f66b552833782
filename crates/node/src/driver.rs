//! The one task that owns the protocol core: inputs in, effects done, in order.
//!
//! It never waits for anything but its inputs and the clock. Every effect goes into a queue that
//! refuses when full, and whoever empties those queues may wait for this task; so there is no
//! cycle of waiting. It holds no rule of the protocol.

mod show;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use tidings_gossip::{
    Connection, Effect, Input, Node, Notice, Verdict,
    id::{ChannelId, ConnectionId, Moment, PkiId, Ticket},
    privdata::{GatherKey, distribute::Distribution},
};
use tokio::sync::{mpsc, watch};

use crate::{
    catch_up,
    clients::Discovered,
    comm::CommHandle,
    commit::{Job, Writer},
    crypto::{CorePorts, Crypto},
    deliver::DeliverTask,
    logging::foreign,
    metrics::Metrics,
    private::{Chore, PrivateAsk, PrivateParts},
    routine::{is_routine, tells_of_change},
    serve::{Ask, Blocks, Serve},
    status::Status,
    stripes::Stripes,
    vitals::Lookout,
};

/// Messages of peers that may wait for the core. Connections wait when it is full, each for itself.
pub(crate) const MESSAGES_MAX: usize = 1024;

/// Messages that are taken before this task waits again, and lets others have the processor.
const MESSAGES_AT_ONCE: usize = 32;

/// Messages that are fed before the next thing that our own parts say, if there are any. Parts that
/// always have something to say, as orderers that are far ahead, must not make us deaf to peers.
const MESSAGES_BETWEEN: usize = 4;

/// What our own parts may have to say at once; they wait when it is full.
pub(crate) const CONTROL_MAX: usize = 1024;

/// Least time between two looks at the node's state for those who watch it.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// The same after nothing but what happens all the time. A look costs as much as several messages,
/// and an idle node hears a few in a second.
const ROUTINE_INTERVAL: Duration = Duration::from_secs(5);

/// Least time between two looks at how much waits for the core.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(1);

/// What a channel needs outside the core.
pub(crate) struct ChannelParts {
    pub(crate) writer: Writer,
    pub(crate) private: PrivateParts,
    pub(crate) blocks: Arc<dyn Blocks>,
    pub(crate) deliver: DeliverTask,
}

impl ChannelParts {
    /// Writes what is queued and closes the ledger and the stores. Waits for the disk.
    pub(crate) fn finish(self) {
        self.writer.finish();
        self.private.finish();
    }
}

/// What can be asked of a running driver.
pub(crate) enum Request {
    /// Take over the parts of a channel; its `Input::Join` follows.
    AddChannel(ChannelId, ChannelParts),
    /// Hand back the parts of a channel that is being left; `Input::Leave` follows.
    RemoveChannel(
        ChannelId,
        tokio::sync::oneshot::Sender<Option<ChannelParts>>,
    ),
    /// Hand private data to other members, and say how many confirmed.
    Distribute(
        Distribution,
        tokio::sync::oneshot::Sender<Result<usize, String>>,
    ),
    /// Say who is there, or who is in a channel, for clients.
    Discover(
        Option<ChannelId>,
        tokio::sync::oneshot::Sender<Vec<Discovered>>,
    ),
    /// Show the node as it is now, and say how long ago each member was heard.
    Heard(tokio::sync::oneshot::Sender<BTreeMap<PkiId, Duration>>),
    /// Say that the core is alive.
    Answer(tokio::sync::oneshot::Sender<()>),
    /// Stop. Parts are handed back so that the caller can wait for them.
    Stop(tokio::sync::oneshot::Sender<Vec<ChannelParts>>),
}

/// Where inputs come from.
pub(crate) struct Inlets {
    /// From peers.
    pub(crate) messages: mpsc::Receiver<Input>,
    /// From our own parts.
    pub(crate) control: mpsc::Receiver<Input>,
    /// From the owner of the node.
    pub(crate) requests: mpsc::Receiver<Request>,
}

/// The driver.
pub(crate) struct Driver {
    pub(crate) node: Node<CorePorts>,
    pub(crate) started: Instant,
    pub(crate) comm: CommHandle,
    pub(crate) crypto: Arc<Crypto>,
    pub(crate) metrics: Metrics,
    pub(crate) lookout: Lookout,
    pub(crate) serve: Serve,
    pub(crate) stripes: Stripes,
    pub(crate) channels: BTreeMap<ChannelId, ChannelParts>,
    pub(crate) status: watch::Sender<Status>,
    /// The streams that are open, by which private data goes along with blocks or does not.
    pub(crate) streams: BTreeMap<ConnectionId, Arc<Connection>>,
    /// Who waits for what was handed out.
    pub(crate) handing_out: HandingOut,
    /// How long the core takes for an input, on average of the last ones.
    pub(crate) input_time: Duration,
}

/// What became of messages that waited.
struct Waiting {
    /// They were nothing but routine.
    was_routine: bool,
    /// When the core next has something to do.
    core_due: Option<Moment>,
}

/// Distributions of private data that somebody waits for. Bounded by the core, which ends those
/// that are too many at once.
#[derive(Default)]
pub(crate) struct HandingOut {
    begun: u64,
    waiting: BTreeMap<Ticket, tokio::sync::oneshot::Sender<Result<usize, String>>>,
}

impl Driver {
    /// Does what the owner wants: at once, or by an input for the core. Breaks at the end.
    fn obey(&mut self, request: Option<Request>) -> ControlFlow<(), Option<Input>> {
        // Whoever asked may have gone, each time.
        match request {
            Some(Request::AddChannel(channel, parts)) => {
                self.channels.insert(channel, parts);
            }
            Some(Request::RemoveChannel(channel, done)) => {
                let parts = self.channels.remove(&channel);
                if let Err(Some(parts)) = done.send(parts) {
                    // The owner does not wait any more: whoever stops waits for them.
                    self.channels.insert(channel, parts);
                }
            }
            Some(Request::Distribute(distribution, done)) => {
                return ControlFlow::Continue(Some(self.hand_out(distribution, done)));
            }
            Some(Request::Discover(channel, done)) => {
                let _ = done.send(self.discovered(channel.as_ref()));
            }
            Some(Request::Heard(done)) => {
                self.show();
                let _ = done.send(self.heard());
            }
            Some(Request::Answer(done)) => {
                let _ = done.send(());
            }
            Some(Request::Stop(done)) => {
                let parts = std::mem::take(&mut self.channels);
                let _ = done.send(parts.into_values().collect());
                return ControlFlow::Break(());
            }
            None => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(None)
    }

    /// Runs until asked to stop.
    pub(crate) async fn run(mut self, mut inlets: Inlets) {
        let mut effects = Vec::new();
        let (mut shown, mut sampled) = (Moment::ZERO, Moment::ZERO);
        let mut show_at: Option<Moment> = None;
        let mut core_due = self.node.deadline();
        let mut was_due = false;
        loop {
            let due = [core_due, show_at].into_iter().flatten().min();
            // Parts that always have something to say must not keep us from what is due.
            let is_overdue = !was_due && due.is_some_and(|due| due <= self.now());
            was_due = is_overdue;
            let input = tokio::select! {
                biased;
                () = std::future::ready(()), if is_overdue => None,
                request = inlets.requests.recv() => match self.obey(request) {
                    ControlFlow::Break(()) => return,
                    ControlFlow::Continue(None) => continue,
                    ControlFlow::Continue(input) => input,
                },
                Some(input) = inlets.control.recv() => Some(input),
                () = self.until(due) => None,
                Some(input) = inlets.messages.recv() => Some(input),
            };
            let mut was_routine = self.step(input, &mut effects);
            let waiting = self.take_waiting(&mut inlets, show_at, &mut effects);
            was_routine &= waiting.was_routine;
            core_due = waiting.core_due;
            let interval = if was_routine {
                ROUTINE_INTERVAL
            } else {
                STATUS_INTERVAL
            };
            let due = shown + interval;
            let due = show_at.map_or(due, |planned| planned.min(due));
            show_at = Some(due);
            let now = self.now();
            if now >= due {
                (shown, show_at) = (now, None);
                self.show();
                self.measure(&inlets);
            }
            if now >= sampled + BACKLOG_INTERVAL {
                sampled = now;
                let waiting = u32::try_from(inlets.messages.len()).unwrap_or(u32::MAX);
                let backlog = self.input_time.saturating_mul(waiting);
                self.step(Some(Input::Backlog(backlog)), &mut effects);
                core_due = self.node.deadline();
            }
        }
    }

    /// Feeds messages that wait, a few, or as long as nothing does that goes before them.
    fn take_waiting(
        &mut self,
        inlets: &mut Inlets,
        show_at: Option<Moment>,
        effects: &mut Vec<Effect>,
    ) -> Waiting {
        let mut was_routine = true;
        let mut core_due = self.node.deadline();
        for taken in 0..MESSAGES_AT_ONCE {
            let due = [core_due, show_at].into_iter().flatten().min();
            let is_due = due.is_some_and(|due| due <= self.now());
            let is_own_turn = taken >= MESSAGES_BETWEEN && !inlets.control.is_empty();
            if is_due || is_own_turn || !inlets.requests.is_empty() {
                break;
            }
            let Ok(input) = inlets.messages.try_recv() else {
                break;
            };
            was_routine &= self.step(Some(input), effects);
            core_due = self.node.deadline();
        }
        Waiting {
            was_routine,
            core_due,
        }
    }

    /// Feeds one input, or the passing of time, and does what comes out. What cannot be done is
    /// fed back at once, so the core never waits for an answer that was lost on the way. Tells
    /// whether that was nothing but routine.
    fn step(&mut self, input: Option<Input>, effects: &mut Vec<Effect>) -> bool {
        let mut was_routine = true;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            was_routine &= is_routine(input.as_ref());
            if let Some(input) = &input {
                self.lookout.input(input);
                self.note_stream(input);
            }
            let timer = self.metrics.input_duration.start_timer();
            let now = self.now();
            match input {
                Some(input) => self.node.handle(now, input, effects),
                None => self.node.tick(now, effects),
            }
            self.input_time = (self.input_time * 15 + self.now().since(now)) / 16;
            timer.observe_duration();
            for effect in effects.drain(..) {
                was_routine &= !tells_of_change(&effect);
                let is_joined = |channel: &ChannelId| self.channels.contains_key(channel);
                self.lookout.effect(&effect, is_joined);
                inputs.extend(self.perform(effect).map(Some));
            }
        }
        was_routine
    }

    fn note_stream(&mut self, input: &Input) {
        match input {
            Input::Connected(connection) => {
                self.streams.insert(connection.id, Arc::clone(connection));
            }
            Input::Disconnected { connection, .. } => {
                self.streams.remove(connection);
            }
            _ => {}
        }
    }

    fn hand_out(
        &mut self,
        distribution: Distribution,
        done: tokio::sync::oneshot::Sender<Result<usize, String>>,
    ) -> Input {
        let HandingOut { begun, waiting } = &mut self.handing_out;
        *begun += 1;
        let ticket = Ticket(*begun);
        waiting.insert(ticket, done);
        Input::Distribute(Distribution {
            ticket,
            ..distribution
        })
    }

    async fn until(&self, due: Option<Moment>) {
        match due {
            Some(due) => tokio::time::sleep(due.since(self.now())).await,
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    /// Does one effect. Gives the answer that nobody else will.
    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Send { to, envelope } => self.comm.send(to, envelope),
            Effect::Stripe {
                to,
                channel,
                message,
            } => self.stripes.send(to, channel, message),
            Effect::Judge {
                channel,
                number,
                hash,
                bytes,
            } => return self.stripes.judge(channel, number, hash, bytes),
            Effect::Reply {
                connection,
                envelope,
            } => self.comm.reply(connection, envelope),
            Effect::Close(peer) => self.comm.close(peer),
            Effect::Probe { ticket, endpoint } => return self.comm.probe(ticket, endpoint),
            Effect::Identify { ticket, endpoint } => return self.comm.identify(ticket, endpoint),
            Effect::Forget(peer) => self.crypto.forget(&peer),
            Effect::Commit {
                channel,
                block,
                source,
                private_data,
            } => {
                let seen_at = self.lookout.seen_at(&channel, block.number);
                let job = Job {
                    block,
                    source,
                    seen_at,
                    private_data,
                };
                return self.commit(channel, job);
            }
            Effect::ServeBlocks {
                ticket,
                channel,
                start,
                end,
                connection,
                nonce,
            } => {
                let ask = Ask {
                    ticket,
                    channel,
                    range: start..=end,
                    connection,
                    private: None,
                    nonce,
                };
                return self.serve_blocks(ask);
            }
            Effect::StorePrivate { .. }
            | Effect::ServePrivate { .. }
            | Effect::PrivateGathered { .. }
            | Effect::ListMissing { .. } => return self.perform_private(effect),
            Effect::Deliver { channel, command } => {
                self.channels.get(&channel)?.deliver.command(command);
            }
            Effect::Hold { channel, is_held } => {
                self.channels.get(&channel)?.deliver.hold(is_held);
            }
            Effect::Notify(notice) => self.note(notice),
        }
        None
    }

    /// Has blocks read for a peer. Of a channel without parts, which is about to be left, it gets
    /// none.
    fn serve_blocks(&self, ask: Ask) -> Option<Input> {
        let Some(parts) = self.channels.get(&ask.channel) else {
            let ticket = ask.ticket;
            return Some(Input::Served { ticket });
        };
        // Without the evidence of its handshake a peer gets blocks only.
        let from = self.streams.get(&ask.connection);
        let private = from.map(|from| (Arc::clone(from), Arc::clone(&parts.private.vault)));
        let ask = Ask { private, ..ask };
        self.serve.answer(Arc::clone(&parts.blocks), ask);
        None
    }

    /// Does an effect about private data. Of a channel without parts, which is about to be left,
    /// nothing is stored and nobody is served.
    fn perform_private(&self, effect: Effect) -> Option<Input> {
        let parts = |channel: &ChannelId| self.channels.get(channel);
        match effect {
            Effect::StorePrivate {
                ticket,
                channel,
                from,
                pushed,
            } => match parts(&channel) {
                Some(parts) => parts.private.pushes.store(ticket, &from, *pushed),
                None => Some(Input::PrivateStored {
                    ticket,
                    result: Err(format!("we leave {channel}")),
                }),
            },
            Effect::ServePrivate {
                ticket,
                channel,
                from,
                nonce,
                digests,
            } => {
                let Some(parts) = parts(&channel) else {
                    return Some(Input::PrivateServed { ticket });
                };
                let ask = PrivateAsk {
                    ticket,
                    from,
                    nonce,
                    digests,
                };
                let vault = Arc::clone(&parts.private.vault);
                self.serve.answer_private(vault, ask);
                None
            }
            Effect::PrivateGathered {
                channel,
                key,
                found,
                missing,
            } => {
                let parts = parts(&channel)?;
                match key {
                    GatherKey::Block(number) => parts.writer.gathered(number, found, missing),
                    GatherKey::Reconcile(round) => parts.private.keeper.give(Chore::Fill {
                        round,
                        found,
                        missing,
                    }),
                }
                None
            }
            Effect::ListMissing {
                channel,
                round,
                limit,
            } => {
                let keeper = &parts(&channel)?.private.keeper;
                keeper.give(Chore::List { round, limit });
                None
            }
            _ => None,
        }
    }

    /// Queues a block for the ledger, or gives the refusal.
    fn commit(&self, channel: ChannelId, job: Job) -> Option<Input> {
        let number = job.block.number;
        // A channel without parts is about to be left, which ends all waiting.
        let taken = self.channels.get(&channel)?.writer.submit(job);
        (!taken).then_some(Input::CommitRefused { channel, number })
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::MemberAlive {
                peer,
                org,
                endpoint,
            } => {
                let org =
                    org.map_or_else(|| "unknown organization".to_owned(), |org| org.to_string());
                tracing::info!(target: "gossip.discovery", %peer, org, endpoint, "member is alive");
            }
            Notice::MemberDead(peer) => {
                tracing::warn!(target: "gossip.discovery", %peer, "member fell silent");
            }
            Notice::IdentityEnded { peer, org, expired } => {
                let why = if expired {
                    "has expired"
                } else {
                    "is not valid any more"
                };
                tracing::info!(target: "gossip.identity", %peer, %org, "the certificate of a peer {why}");
            }
            Notice::MemberForgotten(peer) => {
                tracing::info!(target: "gossip.discovery", %peer, "member forgotten");
            }
            Notice::CatchUp {
                channel,
                stage,
                progress,
            } => catch_up::note(&channel, stage, &progress),
            Notice::Refused { from, rule, reason } => {
                tracing::debug!(target: "gossip.node", %from, rule, "refused: {}", foreign(reason));
            }
            // What was left is not counted any more.
            Notice::Suspicion { channel, .. } if !self.channels.contains_key(&channel) => {}
            Notice::Suspicion {
                channel,
                orderer,
                number,
                verdict,
            } => self.note_suspicion(&channel, &orderer, number, verdict),
            Notice::Distributed { ticket, result } => {
                if let Some(done) = self.handing_out.waiting.remove(&ticket) {
                    // Whoever waited may have gone.
                    let _ = done.send(result);
                }
            }
            Notice::Warning(text) => tracing::warn!(target: "gossip.node", "{text}"),
            Notice::Over(text) => tracing::info!(target: "gossip.node", "{text}"),
            Notice::ChannelMembers { .. }
            | Notice::PayloadBuffer { .. }
            | Notice::PrivateAnswered { .. }
            | Notice::Acknowledged { .. } => {}
        }
    }

    /// Of an orderer that is left a warning says so, too.
    fn note_suspicion(&self, channel: &ChannelId, orderer: &str, number: u64, verdict: Verdict) {
        let labels = &[channel.as_str()];
        let suspected = self.metrics.delivery_suspicions.with_label_values(labels);
        suspected.set(i64::from(verdict == Verdict::Opened));
        let text = match verdict {
            Verdict::Opened => "the orderer is late with a block that others have shown",
            Verdict::Dropped => "the orderer is no longer suspected",
            Verdict::Withheld => {
                self.metrics
                    .delivery_withheld
                    .with_label_values(labels)
                    .inc();
                "the orderer has withheld a block"
            }
        };
        tracing::info!(target: "peer.blocksprovider", %channel, orderer, number, "{text}");
    }
}
