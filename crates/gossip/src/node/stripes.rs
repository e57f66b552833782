//! How dissemination by stripes takes its place among the other components.
//!
//! While it carries the blocks of a channel the emitter pushes none: who takes stripes gets them
//! by stripes, and everybody else of the organization from the member that looks after him.

use crate::{
    Effect,
    channel::{self, Channel},
    config::Me,
    dissemination::{
        self, Dissemination, Leader, Member, Origin, PlainPeer,
        message::{Class, Digest, Message},
        parameters::{Parameters, PlainDelivery},
    },
    effect::Destination,
    id::{ChannelId, Moment, PkiId},
    message::{Connection, STRIPE_VERSION, VerifiedBlock},
    node::{
        Node,
        intake::{refuse, refuse_channel},
        settle::Work,
    },
    ports::Ports,
    view::View,
    wire,
};
use std::time::Duration;

/// Members are looked at again at most this often, however many of them say something new.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A host with other work is as late as this now and then. Whoever takes that for a loss sends what
/// is on its way a second time, which makes everybody later still.
const JITTER: Duration = Duration::from_millis(10);

/// Links may be faster than they are configured. More than this the queues of the transport tell of.
const LAG_MAX: Duration = Duration::from_millis(5);

/// The dissemination of one channel, with what it was last told.
#[derive(Debug)]
pub(super) struct Stripes {
    pub(super) machine: Dissemination,
    members: Vec<Member>,
    plain: Vec<PlainPeer>,
    pub(super) leader: Leader,
    /// When to look at the members, if something was heard of them.
    look_at: Option<Moment>,
    looked_at: Moment,
}

impl Stripes {
    /// `seed` is that of the node.
    pub(super) fn new(id: &ChannelId, me: &Me, now: Moment, seed: &[u8; 32]) -> Self {
        let me = me.identity.pki_id;
        let parameters = Parameters {
            jitter: JITTER,
            lag_max: Some(LAG_MAX),
            ..Parameters::default()
        };
        Self {
            machine: Dissemination::new(me, id.clone(), parameters, seed),
            members: Vec::new(),
            plain: Vec::new(),
            leader: Leader::Unknown,
            look_at: Some(now),
            looked_at: now,
        }
    }

    /// Something was heard of a member.
    pub(super) fn look(&mut self) {
        self.look_at.get_or_insert(self.looked_at + LOOK_INTERVAL);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        [self.machine.deadline(), self.look_at]
            .into_iter()
            .flatten()
            .min()
    }
}

impl<P: Ports> Node<P> {
    /// As a member: what comes of messages and of time passing.
    pub(super) fn receive_stripe(
        &mut self,
        channel: ChannelId,
        from: &Connection,
        message: Message,
        out: &mut Vec<Effect>,
    ) {
        let Some(joined) = self.channels.get(&channel).filter(|it| !it.has_left()) else {
            refuse_channel(out, from, &channel);
            return;
        };
        if *from.org() != self.me.identity.org {
            let reason = "stripes are a matter of one organization".to_owned();
            refuse(out, from.peer(), "ST-S3", reason);
        } else if !self.stripes.contains_key(&channel) {
            let reason = "we did not announce that we take stripes".to_owned();
            refuse(out, from.peer(), "ST-S3", reason);
        } else if !joined.is_own_peer(&from.peer(), &self.view()) {
            let reason = format!("it is no living member of our organization on {channel}");
            refuse(out, from.peer(), "ST-S3", reason);
        } else {
            let from = from.peer();
            self.push_stripes(channel, dissemination::Input::Message { from, message });
        }
    }

    pub(super) fn push_stripes(&mut self, id: ChannelId, input: dissemination::Input) {
        if self.stripes.contains_key(&id) {
            self.push(Work::Stripes(id, input));
        }
    }

    pub(super) fn push_to_stripes(&mut self, input: impl Fn() -> dissemination::Input) {
        let channels = self.stripes.keys();
        self.work
            .extend(channels.map(|id| Work::Stripes(id.clone(), input())));
    }

    /// Something was heard of members of a channel, or of all.
    pub(super) fn look_at_members(&mut self, channel: Option<&ChannelId>) {
        match channel {
            Some(id) => {
                if let Some(stripes) = self.stripes.get_mut(id) {
                    stripes.look();
                }
            }
            None => self.stripes.values_mut().for_each(Stripes::look),
        }
    }

    /// Whether a block of this channel goes by stripes, and not by the emitter. Its envelope is a
    /// little longer than it.
    pub(super) fn goes_by_stripes(&self, now: Moment, id: &ChannelId, envelope_len: usize) -> bool {
        self.stripes
            .get(id)
            .is_some_and(|stripes| stripes.machine.carries(now, envelope_len))
    }

    /// A block that is here whole, however it came.
    pub(super) fn tell_stripes(&mut self, id: &ChannelId, block: &VerifiedBlock, origin: Origin) {
        if self.stripes.contains_key(id) {
            let input = dissemination::Input::Block {
                hash: Digest::of(&block.bytes),
                block: block.clone(),
                origin,
            };
            self.push_stripes(id.clone(), input);
        }
    }

    /// Who leads is known from the election; without one only we ourselves can be appointed.
    pub(super) fn tell_leader(&mut self, id: &ChannelId, leader: Leader) {
        if let Some(stripes) = self.stripes.get_mut(id)
            && stripes.leader != leader
        {
            stripes.leader = leader;
            self.push_stripes(id.clone(), dissemination::Input::Leader(leader));
        }
    }

    pub(super) fn tick_stripes(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let ids: Vec<ChannelId> = self.stripes.keys().cloned().collect();
        for id in ids {
            self.look_around(now, &id);
            let mut done = Vec::new();
            if let Some(stripes) = self.stripes.get_mut(&id) {
                stripes.machine.tick(now, &self.ports, &mut done);
            }
            self.after_stripes(now, &id, done, out);
            self.settle(now, out);
        }
    }

    /// Tells who is there, if that has changed.
    fn look_around(&mut self, now: Moment, id: &ChannelId) {
        let view = View {
            me: &self.me,
            identities: &self.identities,
            discovery: &self.discovery,
        };
        let Some((stripes, channel)) = self.stripes.get_mut(id).zip(self.channels.get(id)) else {
            return;
        };
        if stripes.look_at.is_none_or(|due| due > now) {
            return;
        }
        (stripes.look_at, stripes.looked_at) = (None, now);
        let (members, plain) = company(channel, &view);
        if members != stripes.members || plain != stripes.plain {
            stripes.members.clone_from(&members);
            stripes.plain.clone_from(&plain);
            let input = dissemination::Input::Members { members, plain };
            self.push_stripes(id.clone(), input);
        }
    }

    pub(super) fn after_stripes(
        &mut self,
        now: Moment,
        id: &ChannelId,
        done: Vec<dissemination::Effect>,
        out: &mut Vec<Effect>,
    ) {
        for effect in done {
            match effect {
                dissemination::Effect::Send { to, message } => out.push(Effect::Stripe {
                    to: self.destination(to),
                    channel: id.clone(),
                    message,
                }),
                dissemination::Effect::Judge {
                    number,
                    hash,
                    bytes,
                    ..
                } => out.push(Effect::Judge {
                    channel: id.clone(),
                    number,
                    hash,
                    bytes,
                }),
                dissemination::Effect::Deliver(block) => {
                    let input = channel::Input::Striped(block);
                    self.push(Work::Channel(id.clone(), input));
                }
                dissemination::Effect::GivePlain { to, block, how } => out.push(Effect::Send {
                    to: self.destination(to),
                    envelope: match how {
                        PlainDelivery::Push => wire::block(id, block.number, block.bytes),
                        PlainDelivery::Quiet => wire::quiet_block(id, block.number, block.bytes),
                    },
                }),
                dissemination::Effect::Fetch(_) => {
                    self.push(Work::Channel(id.clone(), channel::Input::PullNow));
                }
                dissemination::Effect::Declare(class) => {
                    let slow = class == Class::Slow;
                    let wall_ns = self.me.wall_ns(now);
                    if let Some(channel) = self.channels.get_mut(id) {
                        channel.declare_slow(slow, wall_ns);
                    }
                }
                dissemination::Effect::Hold(is_held) => out.push(Effect::Hold {
                    channel: id.clone(),
                    is_held,
                }),
                dissemination::Effect::Notify(notice) => out.push(Effect::Notify(notice)),
            }
        }
    }

    fn destination(&self, peer: PkiId) -> Destination {
        let member = self.discovery.member(&peer);
        member.map_or_else(
            || Destination {
                peer,
                endpoint: String::new(),
            },
            |member| member.destination(),
        )
    }
}

/// The living peers of our organization on a channel: those who take stripes, and the others.
fn company(channel: &Channel, view: &View<'_>) -> (Vec<Member>, Vec<PlainPeer>) {
    let own = &view.me.identity.org;
    let (mut members, mut plain) = (Vec::new(), Vec::new());
    for peer in channel.peers(view) {
        let id = peer.member.peer;
        if view.identities.org_of(&id) != Some(own) {
            continue;
        }
        if peer.info.extension.stripe == STRIPE_VERSION {
            let class = match peer.info.extension.slow {
                true => Class::Slow,
                false => Class::Normal,
            };
            members.push(Member {
                peer: id,
                class,
                rtt: None,
            });
        } else {
            plain.push(PlainPeer {
                peer: id,
                height: peer.info.height,
            });
        }
    }
    (members, plain)
}
