//! Handing the effects of components on until nothing is left.
//!
//! This ends because components form a line: the effects of one only ever become inputs of those
//! behind it. [`Work::rank`] is the place in that line; handing something back would be an error
//! of ours, which an assertion catches.

use crate::{
    Effect, Notice, Source, ack,
    channel::{self, Channel},
    delivery, discovery,
    dissemination::{self, Leader, Origin},
    election, emitter,
    id::{ChannelId, ConnectionId, Moment, Ticket},
    identity,
    message::Leadership,
    node::{Node, intake::refuse, private::after_distribution},
    ports::Ports,
    privdata::{self, distribute},
    router::{self, Outgoing, Subject},
    transfer,
    view::View,
};

/// An input of one component.
#[derive(Debug)]
pub(super) enum Work {
    Identity(identity::Input),
    Discovery(discovery::Input),
    Acks(ack::Input),
    Delivery(ChannelId, delivery::Input),
    Stripes(ChannelId, dissemination::Input),
    Channel(ChannelId, channel::Input),
    Transfer(ChannelId, transfer::Input),
    Election(ChannelId, election::Input),
    Private(ChannelId, privdata::Input),
    Distribution(distribute::Input),
    Emitter(emitter::Input),
    Router(Vec<Outgoing>),
}

impl Work {
    fn rank(&self) -> u8 {
        match self {
            Self::Identity(_) => 0,
            Self::Discovery(_) => 1,
            Self::Acks(_) => 2,
            // The answer of a full buffer to a delivered block; all it can lead to is a command,
            // or to giving up.
            Self::Delivery(_, delivery::Input::NoRoom(_)) => 7,
            // What an election decided; all it can lead to is a command or a warning.
            Self::Delivery(_, delivery::Input::Lead(_)) => 9,
            Self::Delivery(..) => 3,
            // A block that is here, and who leads; all they can lead to is what is sent.
            Self::Stripes(
                _,
                dissemination::Input::Block { .. }
                | dissemination::Input::Height(_)
                | dissemination::Input::Leader(_),
            ) => 9,
            Self::Stripes(..) => 4,
            // Word of what became of a block; it leads to nothing.
            Self::Channel(_, channel::Input::CommitRefused(_) | channel::Input::NotKept { .. }) => {
                7
            }
            // The end of a source; it leads to nothing before the next publication.
            Self::Channel(_, channel::Input::NotSupplied) => 9,
            Self::Channel(..) => 5,
            Self::Transfer(..) => 6,
            Self::Election(..) => 8,
            // They lead to nothing.
            Self::Private(..) | Self::Distribution(_) => 9,
            Self::Emitter(_) => 10,
            Self::Router(_) => 11,
        }
    }
}

/// The parts that components read, borrowed apart from those that change.
macro_rules! view {
    ($node:ident) => {
        View {
            me: &$node.me,
            identities: &$node.identities,
            discovery: &$node.discovery,
        }
    };
}

impl<P: Ports> Node<P> {
    /// Works until nothing is left.
    pub(super) fn settle(&mut self, now: Moment, out: &mut Vec<Effect>) {
        while let Some(work) = self.work.pop_front() {
            let (rank, waiting) = (work.rank(), self.work.len());
            self.do_work(now, work, out);
            let handed_on = self.work.iter().skip(waiting);
            debug_assert!(
                handed_on.map(Work::rank).all(|next| next > rank),
                "components form a line"
            );
        }
    }

    fn do_work(&mut self, now: Moment, work: Work, out: &mut Vec<Effect>) {
        match work {
            Work::Identity(input) => {
                let mut done = Vec::new();
                self.identities
                    .handle(now, input, &self.me, &self.discovery, &mut done);
                self.after_identities(done, out);
            }
            Work::Discovery(input) => {
                let mut done = Vec::new();
                let (me, identities) = (&self.me, &self.identities);
                self.discovery
                    .handle(now, input, me, identities, &self.ports, &mut done);
                self.after_discovery(done, out);
            }
            Work::Acks(input) => {
                let mut done = Vec::new();
                self.acks.handle(now, input, &mut done);
                after_acks(done, out);
            }
            Work::Delivery(id, input) => {
                let mut done = Vec::new();
                if let Some(delivery) = self.deliveries.get_mut(&id) {
                    delivery.handle(now, input, &mut done);
                }
                self.after_delivery(&id, done, out);
            }
            Work::Stripes(id, input) => {
                let mut done = Vec::new();
                if let Some(stripes) = self.stripes.get_mut(&id) {
                    stripes.machine.handle(now, input, &self.ports, &mut done);
                }
                self.after_stripes(now, &id, done, out);
            }
            Work::Channel(id, input) => {
                let mut done = Vec::new();
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.handle(now, input, &view!(self), &self.ports, &mut done);
                }
                self.after_channel(now, &id, done, out);
            }
            Work::Transfer(id, input) => {
                let mut done = Vec::new();
                if let transfer::Input::Block { block, .. } = &input {
                    self.push_private(id.clone(), privdata::Input::Verified(block.number));
                }
                let channel = self.channels.get(&id);
                if let Some((transfer, channel)) = self.transfers.get_mut(&id).zip(channel) {
                    transfer.handle(now, input, channel, &view!(self), &self.ports, &mut done);
                }
                self.after_transfer(&id, done, out);
            }
            Work::Election(id, input) => {
                let mut done = Vec::new();
                if let Some(election) = self.elections.get_mut(&id) {
                    election.handle(now, input, &self.ports, &mut done);
                }
                self.after_election(&id, done);
            }
            Work::Private(id, input) => {
                let mut done = Vec::new();
                let channel = self.channels.get(&id);
                if let Some((private, channel)) = self.private.get_mut(&id).zip(channel) {
                    private.handle(now, input, channel, &view!(self), &self.ports, &mut done);
                }
                self.after_private(&id, done, out);
            }
            Work::Distribution(input) => {
                let mut done = Vec::new();
                let (channel, view) = (|id: &_| self.channels.get(id), view!(self));
                self.distributor
                    .handle(now, input, channel, &view, &self.ports, &mut done);
                after_distribution(done, out);
            }
            Work::Emitter(input) => {
                let mut done = Vec::new();
                self.emitter.handle(now, input, &mut done);
                self.after_emitter(done, out);
            }
            Work::Router(batch) => {
                let mut done = Vec::new();
                self.router
                    .route(batch, &view!(self), &self.channels, &mut done);
                out.extend(done.into_iter().map(|effect| match effect {
                    router::Effect::Send { to, envelope } => Effect::Send { to, envelope },
                    router::Effect::Notify(notice) => Effect::Notify(notice),
                }));
            }
        }
    }

    pub(super) fn tick_peers(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.strangers.tick(now);
        let mut done = Vec::new();
        self.identities.tick(now, &self.discovery, &mut done);
        self.after_identities(done, out);
        self.settle(now, out);
        let mut done = Vec::new();
        self.discovery
            .tick(now, &self.me, &self.identities, &self.ports, &mut done);
        self.after_discovery(done, out);
        self.settle(now, out);
        let mut done = Vec::new();
        self.acks.tick(now, &mut done);
        after_acks(done, out);
    }

    pub(super) fn tick_channels(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let ids: Vec<ChannelId> = self.channels.keys().cloned().collect();
        for id in ids {
            let view = view!(self);
            let (mut from_delivery, mut from_channel) = (Vec::new(), Vec::new());
            let (mut from_transfer, mut from_election) = (Vec::new(), Vec::new());
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.tick(now, &view, &self.ports, &mut from_channel);
                if let Some(delivery) = self.deliveries.get_mut(&id) {
                    let peers_height = || channel.peers_height(&view);
                    delivery.tick(now, peers_height, &mut from_delivery);
                }
                if let Some(transfer) = self.transfers.get_mut(&id) {
                    transfer.tick(now, channel, &view, &mut from_transfer);
                }
                if let Some(election) = self.elections.get_mut(&id) {
                    let members = || channel.own_peers_len(&view);
                    election.tick(now, members, &self.ports, &mut from_election);
                }
            }
            self.after_delivery(&id, from_delivery, out);
            self.after_channel(now, &id, from_channel, out);
            self.after_transfer(&id, from_transfer, out);
            self.after_election(&id, from_election);
            self.settle(now, out);
        }
    }

    pub(super) fn tick_emitter(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let mut done = Vec::new();
        self.emitter.tick(now, &mut done);
        self.after_emitter(done, out);
        self.settle(now, out);
    }

    fn after_identities(&mut self, done: Vec<identity::Effect>, out: &mut Vec<Effect>) {
        for effect in done {
            match effect {
                identity::Effect::Send { to, envelope } => out.push(Effect::Send { to, envelope }),
                identity::Effect::Reply {
                    connection,
                    envelope,
                } => out.push(Effect::Reply {
                    connection,
                    envelope,
                }),
                identity::Effect::Forget(peer) => {
                    out.push(Effect::Forget(peer));
                    self.strangers.forget(&peer);
                    self.push_to_private(|| privdata::Input::Forgotten(peer));
                    self.push(discovery::Input::Purge(peer));
                }
                identity::Effect::Close(peer) => out.push(Effect::Close(peer)),
                identity::Effect::Refused { from, rule, reason } => refuse(out, from, rule, reason),
                identity::Effect::Notify(notice) => out.push(Effect::Notify(notice)),
            }
        }
    }

    fn after_discovery(&mut self, done: Vec<discovery::Effect>, out: &mut Vec<Effect>) {
        for effect in done {
            match effect {
                discovery::Effect::Send { to, envelope } => {
                    out.push(Effect::Send { to, envelope });
                }
                discovery::Effect::Gossip { alive, source } => {
                    let message = Outgoing {
                        subject: Subject::Alive {
                            speaker: alive.peer,
                            external_endpoint: alive.endpoint,
                        },
                        envelope: alive.envelope,
                        source,
                    };
                    self.push(emitter::Input::Add(message));
                }
                discovery::Effect::Close(peer) => out.push(Effect::Close(peer)),
                discovery::Effect::Probe { ticket, endpoint } => {
                    out.push(Effect::Probe { ticket, endpoint });
                }
                discovery::Effect::Identify { ticket, endpoint } => {
                    out.push(Effect::Identify { ticket, endpoint });
                }
                discovery::Effect::Notify(notice) => {
                    if matches!(notice, Notice::MemberAlive { .. } | Notice::MemberDead(_)) {
                        self.look_at_members(None);
                    }
                    if let Notice::MemberAlive { peer, .. } = notice {
                        let met = channel::Input::Met(peer);
                        let ids = self.channels.keys().cloned();
                        let works = ids.map(|id| Work::Channel(id, met.clone()));
                        self.work.extend(works);
                    }
                    out.push(Effect::Notify(notice));
                }
            }
        }
    }

    fn after_delivery(
        &mut self,
        id: &ChannelId,
        done: Vec<delivery::Effect>,
        out: &mut Vec<Effect>,
    ) {
        for effect in done {
            match effect {
                delivery::Effect::Command(command) => out.push(Effect::Deliver {
                    channel: id.clone(),
                    command,
                }),
                delivery::Effect::Deliver(block) => {
                    let source = Source::Deliver;
                    let input = transfer::Input::Block { block, source };
                    self.push(Work::Transfer(id.clone(), input));
                }
                delivery::Effect::Gossip(block) => {
                    self.tell_stripes(id, &block, Origin::Ordered);
                    self.push(Work::Channel(id.clone(), channel::Input::Gossip(block)));
                }
                delivery::Effect::GaveUp => {
                    self.push(Work::Channel(id.clone(), channel::Input::NotSupplied));
                    self.push(Work::Election(id.clone(), election::Input::Yield));
                }
                delivery::Effect::Notify(notice) => out.push(Effect::Notify(notice)),
            }
        }
    }

    fn after_channel(
        &mut self,
        now: Moment,
        id: &ChannelId,
        done: Vec<channel::Effect>,
        out: &mut Vec<Effect>,
    ) {
        for effect in done {
            match effect {
                channel::Effect::Send { to, envelope } => out.push(Effect::Send { to, envelope }),
                channel::Effect::Reply {
                    connection,
                    envelope,
                } => out.push(Effect::Reply {
                    connection,
                    envelope,
                }),
                channel::Effect::Emit(message) => {
                    let is_block = matches!(message.subject, Subject::Block(..));
                    if !is_block {
                        self.push(emitter::Input::Add(message));
                    } else if !self.goes_by_stripes(now, id, message.envelope.payload.len()) {
                        // Whoever waits for a block gains nothing from what comes along with it.
                        self.push(emitter::Input::Urgent(message));
                    }
                }
                // Whoever left has no ledger that it could be for.
                channel::Effect::Block { .. }
                    if self.channels.get(id).is_some_and(Channel::has_left) => {}
                channel::Effect::Block { block, source } => {
                    if source != Source::Stripe {
                        self.tell_stripes(id, &block, Origin::Received);
                    }
                    let input = transfer::Input::Block { block, source };
                    self.push(Work::Transfer(id.clone(), input));
                }
                channel::Effect::Leadership(message) => self.hear_leadership(id, message, out),
                channel::Effect::Notify(notice) => out.push(Effect::Notify(notice)),
            }
        }
    }

    /// Only those count whom we would send ours to, as far as we know.
    fn hear_leadership(&mut self, id: &ChannelId, message: Leadership, out: &mut Vec<Effect>) {
        if !self.elections.contains_key(id) {
            return;
        }
        let channel = self.channels.get(id);
        if channel.is_some_and(|channel| channel.is_own_peer(&message.peer, &view!(self))) {
            let input = election::Input::Heard(message);
            self.push(Work::Election(id.clone(), input));
        } else {
            let reason = format!("it is no living member of our organization on {id}");
            refuse(out, message.peer, "S-E1", reason);
        }
    }

    fn after_election(&mut self, id: &ChannelId, done: Vec<election::Effect>) {
        for effect in done {
            match effect {
                election::Effect::Say(envelope) => {
                    let message = Outgoing {
                        subject: Subject::Leadership(id.clone()),
                        envelope,
                        source: None,
                    };
                    self.push(emitter::Input::Add(message));
                }
                election::Effect::Follow(leader) => {
                    self.tell_leader(id, Leader::Peer(leader));
                }
                election::Effect::Lead(leads) => {
                    self.tell_leader(
                        id,
                        match leads {
                            true => Leader::Me,
                            false => Leader::Unknown,
                        },
                    );
                    if !leads {
                        self.push(Work::Channel(id.clone(), channel::Input::NotSupplied));
                    }
                    let input = delivery::Input::Lead(leads);
                    self.push(Work::Delivery(id.clone(), input));
                }
            }
        }
    }

    fn after_transfer(
        &mut self,
        id: &ChannelId,
        done: Vec<transfer::Effect>,
        out: &mut Vec<Effect>,
    ) {
        for effect in done {
            match effect {
                transfer::Effect::Send { to, envelope } => out.push(Effect::Send { to, envelope }),
                transfer::Effect::Reply {
                    connection,
                    envelope,
                } => out.push(Effect::Reply {
                    connection,
                    envelope,
                }),
                transfer::Effect::Commit {
                    block,
                    source,
                    private_data,
                } => out.push(Effect::Commit {
                    channel: id.clone(),
                    block,
                    source,
                    private_data,
                }),
                transfer::Effect::Serve {
                    start,
                    end,
                    connection,
                    nonce,
                } => out.push(Effect::ServeBlocks {
                    ticket: self.serve_ticket(id, connection),
                    channel: id.clone(),
                    start,
                    end,
                    connection,
                    nonce,
                }),
                transfer::Effect::NoRoom(number) => {
                    let input = delivery::Input::NoRoom(number);
                    self.push(Work::Delivery(id.clone(), input));
                }
                transfer::Effect::NotKept { block, source } => {
                    let input = channel::Input::NotKept { block, source };
                    self.push(Work::Channel(id.clone(), input));
                }
                transfer::Effect::Refused(number) => {
                    let input = channel::Input::CommitRefused(number);
                    self.push(Work::Channel(id.clone(), input));
                }
                transfer::Effect::Notify(notice) => out.push(Effect::Notify(notice)),
            }
        }
    }

    fn after_emitter(&mut self, done: Vec<emitter::Effect>, out: &mut Vec<Effect>) {
        for effect in done {
            match effect {
                emitter::Effect::Route(batch) => self.push(Work::Router(batch)),
                emitter::Effect::Notify(notice) => out.push(Effect::Notify(notice)),
            }
        }
    }

    fn serve_ticket(&mut self, id: &ChannelId, connection: ConnectionId) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.serving.insert(ticket, (id.clone(), connection));
        ticket
    }
}

fn after_acks(done: Vec<ack::Effect>, out: &mut Vec<Effect>) {
    out.extend(done.into_iter().map(|effect| match effect {
        ack::Effect::Send { to, envelope } => Effect::Send { to, envelope },
        ack::Effect::Acknowledged { ticket, result } => {
            Effect::Notify(Notice::Acknowledged { ticket, result })
        }
    }));
}

impl From<identity::Input> for Work {
    fn from(input: identity::Input) -> Self {
        Self::Identity(input)
    }
}

impl From<discovery::Input> for Work {
    fn from(input: discovery::Input) -> Self {
        Self::Discovery(input)
    }
}

impl From<ack::Input> for Work {
    fn from(input: ack::Input) -> Self {
        Self::Acks(input)
    }
}

impl From<emitter::Input> for Work {
    fn from(input: emitter::Input) -> Self {
        Self::Emitter(input)
    }
}
