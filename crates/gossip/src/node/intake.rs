//! From what happened to the components that it concerns.
//!
//! Identities go first: whoever proved who he is must be known before what he says is judged.

use std::sync::Arc;

use crate::{
    Effect, Input, JoinChannel, Notice, Source, VerifiedBlock, ack,
    channel::{self, Channel},
    delivery::{self, Delivery},
    discovery,
    dissemination::{self, Leader, Origin},
    effect::Destination,
    election::{self, Election},
    emitter,
    id::{ChannelId, DIGEST_LEN, Moment, OrgId, PkiId, Ticket},
    identity,
    input::SendByCriteria,
    message::{Connection, Message, PeerIdentity, StateInfo},
    node::{CHANNELS_MAX, Node, settle::Work, stripes::Stripes},
    ports::Ports,
    privdata::{self, PrivData, distribute},
    router::{Outgoing, Subject},
    transfer::{self, Transfer},
};

impl<P: Ports> Node<P> {
    pub(super) fn take_in(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Connected(connection) => {
                let (peer, is_up) = (connection.peer(), true);
                self.learn(&connection.identity);
                self.push_to_stripes(|| dissemination::Input::Connection { peer, is_up });
            }
            Input::Disconnected { connection, peer } => {
                let is_up = false;
                self.push_to_stripes(|| dissemination::Input::Connection { peer, is_up });
                self.push_to_transfers(|| transfer::Input::Disconnected { connection, peer });
                self.push_to_private(|| privdata::Input::Disconnected { connection, peer });
            }
            Input::Received { from, message } => self.receive(now, from, message.into_inner(), out),
            Input::Congestion { peer, is_congested } => {
                self.push_to_stripes(|| dissemination::Input::Congestion { peer, is_congested });
            }
            Input::Backlog(backlog) => {
                self.push_to_stripes(|| dissemination::Input::Backlog(backlog));
            }
            Input::Unreachable(peer) => {
                let is_up = false;
                self.push_to_stripes(|| dissemination::Input::Connection { peer, is_up });
                self.push(discovery::Input::Unreachable(peer));
                self.push_to_transfers(|| transfer::Input::Unreachable(peer));
                self.push_to_private(|| privdata::Input::Unreachable(peer));
            }
            Input::Switched { expected } => self.push(discovery::Input::Purge(expected)),
            Input::Probed { ticket, answered } => {
                self.push(discovery::Input::Probed { ticket, answered });
            }
            Input::Identified { ticket, peer } => {
                if let Ok(identity) = &peer {
                    self.learn(identity);
                }
                self.push(discovery::Input::Identified { ticket, peer });
            }
            Input::Revoked(peer) => self.push(identity::Input::Revoked(peer)),
            Input::SendByCriteria(request) => self.send_by_criteria(request),
            Input::Served { ticket } => self.served(ticket, out),
            Input::PrivateStored { ticket, result } => self.private_stored(ticket, result, out),
            Input::PrivateServed { ticket } => self.private_served(ticket, out),
            Input::PrivateWanted {
                channel,
                key,
                items,
                patience,
            } => self.private_wanted(channel, key, items, patience, out),
            Input::PrivateDoubted {
                channel,
                peer,
                reason,
            } => self.of_channel(
                channel,
                |node, id| node.push_private(id, privdata::Input::Doubted { peer, reason }),
                out,
            ),
            Input::Distribute(distribution) => {
                self.push(Work::Distribution(distribute::Input::Distribute(
                    distribution,
                )));
            }
            Input::Judged {
                channel,
                number,
                hash,
                verdict,
            } => {
                let input = dissemination::Input::Judged {
                    number,
                    hash,
                    verdict,
                };
                self.push_stripes(channel, input);
            }
            Input::Join {
                channel,
                join,
                height,
            } => self.join(now, channel, join, height, out),
            Input::Leave(channel) => {
                self.of_channel(channel, |node, channel| node.leave(now, channel), out);
            }
            Input::Chaincodes {
                channel,
                chaincodes,
            } => self.of_channel(
                channel,
                |node, channel| {
                    node.push_channel(channel, channel::Input::Chaincodes(chaincodes));
                },
                out,
            ),
            Input::Committed { channel, height } => {
                self.of_channel(channel, |node, channel| node.grow(channel, height), out);
            }
            Input::CommitRefused { channel, number } => {
                self.of_channel(channel, |node, id| node.commit_refused(id, number), out);
            }
            Input::Delivery { channel, event } => self.of_channel(
                channel,
                |node, channel| node.push_delivery(channel, delivery::Input::Event(event)),
                out,
            ),
            Input::Offered { channel, block } => {
                self.of_channel(channel, |node, channel| node.offered(channel, block), out);
            }
        }
    }

    /// In the order of [`delivery::Effect::Deliver`] and [`delivery::Effect::Gossip`].
    fn offered(&mut self, channel: ChannelId, block: VerifiedBlock) {
        // Where nobody is elected, who has blocks to offer leads.
        if !self.config.use_leader_election {
            self.tell_leader(&channel, Leader::MeAmongOthers);
        }
        self.tell_stripes(&channel, &block, Origin::Ordered);
        let (source, copy) = (Source::Deliver, block.clone());
        self.push_transfer(channel.clone(), transfer::Input::Block { block, source });
        self.push_channel(channel, channel::Input::Gossip(copy));
    }

    fn receive(
        &mut self,
        now: Moment,
        from: Arc<Connection>,
        message: Message,
        out: &mut Vec<Effect>,
    ) {
        let sender = from.peer();
        if self.identities.identity(&sender).is_none() {
            let reason = "its identity was dropped and it has not authenticated since";
            refuse(out, sender, "I-S7", reason.to_owned());
            return;
        }
        self.learn(&from.identity);
        for identity in identity::shown_by(&message) {
            self.push(identity::Input::Learned(identity));
        }
        match message {
            Message::Alive(alive) => self.push(discovery::Input::Alive {
                from: sender,
                alive,
            }),
            Message::MembershipRequest {
                nonce,
                about,
                known,
            } => {
                self.push(discovery::Input::MembershipRequest {
                    nonce,
                    about,
                    known,
                });
            }
            Message::MembershipResponse { nonce, alive, dead } => {
                self.push(discovery::Input::MembershipResponse {
                    from: sender,
                    nonce,
                    alive,
                    dead,
                });
            }
            Message::IdentityPull(pull) => self.push(identity::Input::Pull { from, pull }),
            Message::Ack { nonce, error } => {
                self.push_ack_of_push(sender, nonce, error.clone());
                self.push(ack::Input::Ack {
                    from: sender,
                    nonce,
                    error,
                });
            }
            Message::StateInfo(info) => self.receive_state_info(now, from, info, out),
            Message::StateInfoPullRequest { channel_mac, .. } => {
                match self.channel_of_mac(&sender, &channel_mac) {
                    Some(id) => self.push_message(id, from, message),
                    None => {
                        let reason = "no channel of ours has its MAC".to_owned();
                        refuse(out, sender, "S-N7", reason);
                    }
                }
            }
            Message::BlockPull { ref channel, .. }
            | Message::Block { ref channel, .. }
            | Message::StateSnapshot { ref channel, .. } => {
                let channel = channel.clone();
                self.receive_on(channel, from, message, out);
            }
            Message::Leadership(ref leadership) => {
                let channel = leadership.channel.clone();
                self.receive_on(channel, from, message, out);
            }
            Message::StateRequest { ref channel, .. }
            | Message::StateResponse { ref channel, .. } => {
                let channel = channel.clone();
                self.receive_transfer(channel, from, message, out);
            }
            Message::Stripe { channel, message } => {
                self.receive_stripe(channel, &from, message, out);
            }
            Message::PrivateData { ref channel, .. }
            | Message::PrivateRequest { ref channel, .. }
            | Message::PrivateResponse { ref channel, .. } => {
                let channel = channel.clone();
                self.receive_private(channel, from, message, out);
            }
        }
    }

    /// A state info shows its channel by its MAC. Those of channels that we are not in are
    /// passed on for our own organization only.
    fn receive_state_info(
        &mut self,
        now: Moment,
        from: Arc<Connection>,
        info: Box<StateInfo>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(channel) = self.channel_of_mac(&info.peer, &info.channel_mac) {
            let claimed = transfer::Input::Claimed(info.height);
            self.look_at_members(Some(&channel));
            self.push_message(channel.clone(), from, Message::StateInfo(info));
            self.push_transfer(channel, claimed);
        } else if *from.org() != self.me.identity.org {
            let reason = "a state info of an unknown channel from another organization";
            refuse(out, from.peer(), "S-N5", reason.to_owned());
        } else if info.peer != self.me.identity.pki_id && self.strangers.add(now, &info) {
            self.push(emitter::Input::Add(Outgoing {
                subject: Subject::StateInfo {
                    speaker: info.peer,
                    channel: None,
                },
                envelope: info.envelope,
                source: Some(from.peer()),
            }));
        }
    }

    fn receive_on(
        &mut self,
        channel: ChannelId,
        from: Arc<Connection>,
        message: Message,
        out: &mut Vec<Effect>,
    ) {
        if !self.channels.contains_key(&channel) {
            refuse_channel(out, &from, &channel);
            return;
        }
        let claimed = match &message {
            Message::StateSnapshot { elements, .. } => elements.iter().map(|e| e.height).max(),
            _ => None,
        };
        if claimed.is_some() {
            self.look_at_members(Some(&channel));
        }
        self.push_message(channel.clone(), from, message);
        if let Some(height) = claimed {
            self.push_transfer(channel, transfer::Input::Claimed(height));
        }
    }

    /// State messages go past the channel, whose first check holds for them all the same.
    fn receive_transfer(
        &mut self,
        channel: ChannelId,
        from: Arc<Connection>,
        message: Message,
        out: &mut Vec<Effect>,
    ) {
        match self.channels.get(&channel) {
            None => refuse_channel(out, &from, &channel),
            Some(joined) if joined.has_left() => refuse_channel(out, &from, &channel),
            Some(joined) if !joined.has_org(from.org()) => {
                let reason = format!("{} is not in {channel}", from.org());
                refuse(out, from.peer(), "S-C3", reason);
            }
            Some(_) => self.push_transfer(channel, transfer::Input::Received { from, message }),
        }
    }

    fn join(
        &mut self,
        now: Moment,
        id: ChannelId,
        mut join: JoinChannel,
        height: u64,
        out: &mut Vec<Effect>,
    ) {
        if let Err(reason) = self.may_join(&id, &join) {
            warn(out, format!("channel {id} is not joined: {reason}"));
            return;
        }
        let own = &self.me.identity.org;
        if !join.members.contains_key(own) {
            // Whoever was added to a channel later begins with its first block all the same. Its
            // members are nothing to us, nor we to them, before a configuration says so.
            warn(out, unnamed(&id, own));
            join.members.clear();
        }
        let (config, seed) = (&self.config, &self.seed);
        let anchors = join.members.clone();
        if let Some(channel) = self.channels.get(&id) {
            if channel.has_left() {
                self.forget_blocks(now, &id, height);
            }
            self.push_channel(id.clone(), channel::Input::Configure(join));
        } else {
            let channel = Channel::new(id.clone(), &join, &self.me, config, now, seed);
            let transfer = Transfer::new(id.clone(), config, height, now, seed);
            let delivery = Delivery::new(id.clone(), config, height, seed);
            if config.use_leader_election {
                let election = Election::new(id.clone(), &self.me, &config.election);
                self.elections.insert(id.clone(), election);
            }
            self.channels.insert(id.clone(), channel);
            self.transfers.insert(id.clone(), transfer);
            let private = PrivData::new(id.clone(), config, now, seed);
            self.private.insert(id.clone(), private);
            self.deliveries.insert(id.clone(), delivery);
        }
        if self.config.stripe && !self.stripes.contains_key(&id) {
            let stripes = Stripes::new(&id, &self.me, now, &self.seed);
            self.stripes.insert(id.clone(), stripes);
            // Only now: a later configuration changes nothing about who leads.
            let leader = match (self.config.org_leader, self.config.use_leader_election) {
                (true, _) => Leader::MeAmongOthers,
                (false, true) => Leader::Unknown,
                (false, false) => Leader::Appointed,
            };
            self.tell_leader(&id, leader);
        }
        self.grow(id.clone(), height);
        let alive: Vec<PkiId> = self.discovery.alive().map(|member| member.peer).collect();
        for peer in alive {
            self.push_channel(id.clone(), channel::Input::Met(peer));
        }
        self.push(discovery::Input::Anchors {
            channel: id.clone(),
            anchors,
        });
        if self.config.org_leader {
            self.push_delivery(id, delivery::Input::Lead(true));
        } else {
            self.push_election(id, election::Input::Join);
        }
    }

    fn may_join(&self, id: &ChannelId, join: &JoinChannel) -> Result<(), String> {
        if self.config.org_leader && self.config.use_leader_election {
            let keys = "peer.gossip.orgLeader and peer.gossip.useLeaderElection";
            return Err(format!("{keys} exclude each other (S-V2): switch one off"));
        }
        if let Some(channel) = self.channels.get(id) {
            let own = &self.me.identity.org;
            let names_us = join.members.is_empty() || join.members.contains_key(own);
            // Who comes back may begin before it was added, as at the first time.
            if !names_us && !channel.has_left() {
                return Err(format!("its configuration does not name {own} (S-V1)"));
            }
            let heeded = channel.may_configure(join);
            return heeded
                .map_err(|reason| format!("its configuration is ignored (S-C12): {reason}"));
        }
        if join.members.is_empty() {
            return Err("its configuration names no organization (S-C12)".to_owned());
        }
        if self.channels.len() >= CHANNELS_MAX {
            return Err(format!("a node is in at most {CHANNELS_MAX} channels"));
        }
        Ok(())
    }

    fn leave(&mut self, now: Moment, id: ChannelId) {
        let height = self.height(&id).unwrap_or_default();
        self.forget_blocks(now, &id, height);
        self.stripes.remove(&id);
        self.push_election(id.clone(), election::Input::Leave);
        self.push_delivery(id.clone(), delivery::Input::Lead(false));
        self.push_channel(id.clone(), channel::Input::Leave);
        self.push_private(id.clone(), privdata::Input::Left);
        self.push(discovery::Input::Anchors {
            channel: id,
            anchors: Default::default(),
        });
    }

    /// Drops what is on its way to the ledger. Whoever comes back begins at the ledger's height,
    /// whatever had been seen by then.
    fn forget_blocks(&mut self, now: Moment, id: &ChannelId, height: u64) {
        if let Some(transfer) = self.transfers.get_mut(id) {
            transfer.begin_again(height, now);
        }
        if let Some(delivery) = self.deliveries.get_mut(id) {
            delivery.begin_again(height);
        }
    }

    fn grow(&mut self, id: ChannelId, height: u64) {
        self.push_delivery(id.clone(), delivery::Input::Height(height));
        self.push_channel(id.clone(), channel::Input::Height(height));
        self.push_transfer(id.clone(), transfer::Input::Height(height));
        self.push_stripes(id.clone(), dissemination::Input::Height(height));
        self.push_private(id, privdata::Input::Height(height));
    }

    fn commit_refused(&mut self, id: ChannelId, number: u64) {
        self.push_delivery(id.clone(), delivery::Input::CommitRefused(number));
        self.push_transfer(id, transfer::Input::CommitRefused(number));
    }

    fn served(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        match self.serving.remove(&ticket) {
            Some((channel, connection)) => {
                self.push_transfer(channel, transfer::Input::Served(connection));
            }
            None => warn(out, format!("nothing was to be served under {ticket:?}")),
        }
    }

    fn send_by_criteria(&mut self, request: SendByCriteria) {
        let pool: Option<Vec<Destination>> = match &request.channel {
            None => Some(self.discovery.alive().map(|m| m.destination()).collect()),
            Some(id) => self.channels.get(id).map(|channel| {
                let peers = channel.peers(&self.view());
                peers.iter().map(|peer| peer.member.destination()).collect()
            }),
        };
        self.push(ack::Input::Send { request, pool });
    }

    /// Does something about a channel that we know.
    fn of_channel(
        &mut self,
        id: ChannelId,
        then: impl FnOnce(&mut Self, ChannelId),
        out: &mut Vec<Effect>,
    ) {
        if self.channels.contains_key(&id) {
            then(self, id);
        } else {
            warn(out, format!("channel {id} was not joined"));
        }
    }

    fn channel_of_mac(&self, peer: &PkiId, mac: &[u8; DIGEST_LEN]) -> Option<ChannelId> {
        let meant = |channel: &&Channel| channel.is_meant(peer, mac);
        let channel = self.channels.values().find(meant)?;
        Some(channel.id().clone())
    }

    fn learn(&mut self, identity: &Arc<PeerIdentity>) {
        self.push(identity::Input::Learned(Arc::clone(identity)));
    }

    pub(super) fn push(&mut self, work: impl Into<Work>) {
        self.work.push_back(work.into());
    }

    fn push_message(&mut self, channel: ChannelId, from: Arc<Connection>, message: Message) {
        self.push_channel(channel, channel::Input::Received { from, message });
    }

    fn push_channel(&mut self, id: ChannelId, input: channel::Input) {
        self.push(Work::Channel(id, input));
    }

    fn push_delivery(&mut self, id: ChannelId, input: delivery::Input) {
        self.push(Work::Delivery(id, input));
    }

    fn push_election(&mut self, id: ChannelId, input: election::Input) {
        self.push(Work::Election(id, input));
    }

    fn push_transfer(&mut self, id: ChannelId, input: transfer::Input) {
        self.push(Work::Transfer(id, input));
    }

    fn push_to_transfers(&mut self, input: impl Fn() -> transfer::Input) {
        let channels = self.transfers.keys();
        self.work
            .extend(channels.map(|id| Work::Transfer(id.clone(), input())));
    }
}

/// What it means to be in a channel whose configuration does not name the own organization.
pub fn unnamed(channel: &ChannelId, own: &OrgId) -> String {
    format!(
        "channel {channel} does not name {own} (S-V1): blocks come from the orderers alone until \
         its configuration does, or correct peer.localMspId"
    )
}

pub(super) fn refuse(out: &mut Vec<Effect>, from: PkiId, rule: &'static str, reason: String) {
    out.push(Effect::Notify(Notice::Refused { from, rule, reason }));
}

pub(super) fn refuse_channel(out: &mut Vec<Effect>, from: &Connection, channel: &ChannelId) {
    refuse(out, from.peer(), "S-N6", format!("we are not in {channel}"));
}

pub(super) fn warn(out: &mut Vec<Effect>, text: String) {
    out.push(Effect::Notify(Notice::Warning(text)));
}
