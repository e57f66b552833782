//! What others send on a channel: who may say what, and what becomes of it.

use std::sync::Arc;

use tidings_proto::gossip::{
    StateInfoSnapshot,
    gossip_message::{Content, Tag},
};

use super::{Channel, Effect, LEADERS_MAX};
use crate::{
    effect::{Notice, Source},
    id::{ChannelId, Moment},
    message::{BlockMessage, Connection, Leadership, Message, Pull, StateInfo},
    ports::Ports,
    router::{Outgoing, Subject},
    summary::Summary,
    view::View,
    wire,
};

impl Channel {
    pub(super) fn receive(
        &mut self,
        now: Moment,
        from: &Arc<Connection>,
        message: Message,
        view: &View<'_>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let checked = self.check(from, &message);
        if let Err((rule, reason)) = checked {
            out.push(refused(from, rule, reason));
            return;
        }
        match message {
            Message::StateInfoPullRequest { known, .. } => {
                self.answer(now, from, known.as_ref(), view, out);
            }
            Message::StateInfo(info) => self.take_state_info(from, *info, view, ports, out),
            Message::StateSnapshot { elements, .. } => {
                self.take_snapshot(from, elements, view, ports, out);
            }
            Message::Block { block, .. } => self.take_block(now, from, block, view, out),
            Message::BlockPull { pull, .. } => self.take_pull(now, from, pull, view, out),
            Message::Leadership(message) => self.take_leadership(now, from, message, view, out),
            _ => {}
        }
    }

    /// The checks that every message of a channel has to pass.
    fn check(&self, from: &Connection, message: &Message) -> Result<(), (&'static str, String)> {
        let (subject, channel_mac) = match message {
            Message::StateInfo(info) => (info.peer, Some(&info.channel_mac)),
            Message::StateInfoPullRequest { channel_mac, .. } => (from.peer(), Some(channel_mac)),
            _ => (from.peer(), None),
        };
        if channel_mac.is_some_and(|channel_mac| !self.is_meant(&subject, channel_mac)) {
            return Err(("S-C1", format!("its MAC is not that of {}", self.id)));
        }
        if let Some(named) = channel_of(message).filter(|named| **named != self.id) {
            return Err(("S-C2", format!("it names {named}, not {}", self.id)));
        }
        if !self.has_org(from.org()) {
            let reason = format!("{} is not in {}", from.org(), self.id);
            return Err(("S-C3", reason));
        }
        Ok(())
    }

    fn answer(
        &mut self,
        now: Moment,
        to: &Connection,
        known: Option<&Summary>,
        view: &View<'_>,
        out: &mut Vec<Effect>,
    ) {
        if !self.answered.answers(now, to.peer()) {
            let reason = "it asks for state infos too often".to_owned();
            out.push(refused(to, "M-S3", reason));
            return;
        }
        let elements = self
            .roster
            .snapshot_for(to.org(), known, view, &mut self.rng);
        if known.is_some() && elements.is_empty() {
            return;
        }
        let content = Content::StateSnapshot(StateInfoSnapshot { elements });
        let message = wire::gossip_message(0, Some(&self.id), Tag::ChanOrOrg, content);
        out.push(Effect::Reply {
            connection: to.id,
            envelope: wire::unsigned(&message),
        });
    }

    fn take_state_info(
        &mut self,
        from: &Connection,
        info: StateInfo,
        view: &View<'_>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        if info.peer == view.me.identity.pki_id {
            return;
        }
        let message = Outgoing {
            subject: Subject::StateInfo {
                speaker: info.peer,
                channel: Some(self.id.clone()),
            },
            envelope: info.envelope.clone(),
            source: Some(from.peer()),
        };
        match self.roster.add(info, ports) {
            Ok(true) => out.push(Effect::Emit(message)),
            Ok(false) => {}
            Err(reason) => out.push(refused(from, "S-C4", reason)),
        }
    }

    fn take_snapshot(
        &mut self,
        from: &Connection,
        elements: Vec<StateInfo>,
        view: &View<'_>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let (mut bad, mut first) = (0_usize, None);
        for info in elements {
            if view.discovery.member(&info.peer).is_none() {
                // Also leaves ourselves out: nobody tells us about us.
                continue;
            }
            let taken = if self.is_meant(&info.peer, &info.channel_mac) {
                self.roster.add(info, ports)
            } else {
                Err(format!("the MAC of {} is of another channel", info.peer))
            };
            if let Err(reason) = taken {
                bad += 1;
                first.get_or_insert(reason);
            }
        }
        if let Some(reason) = first {
            let reason = format!("{bad} elements left out, the first because {reason}");
            out.push(refused(from, "S-C10", reason));
        }
    }

    fn take_block(
        &mut self,
        now: Moment,
        from: &Connection,
        block: BlockMessage,
        view: &View<'_>,
        out: &mut Vec<Effect>,
    ) {
        let number = block.block.number;
        // What the ledger has is no news, though a node that was just started remembers nothing.
        if number < self.own.height() {
            return;
        }
        self.blocks.pushed(number, from.peer());
        if self.blocks.hold(now, &block.block) {
            self.own.set_supplied(false, view.me.wall_ns(now));
            out.push(self.emit_block(&block.block, Some(from.peer())));
            out.push(Effect::Block {
                block: block.block,
                source: Source::Push,
            });
        }
        self.blocks.watch(now, &self.wanted());
    }

    fn take_pull(
        &mut self,
        now: Moment,
        from: &Connection,
        pull: Pull<BlockMessage>,
        view: &View<'_>,
        out: &mut Vec<Effect>,
    ) {
        if self.own.has_left() {
            return;
        }
        if let Err(reason) = self.may_pull(from, view) {
            out.push(refused(from, "S-C7", reason));
            return;
        }
        let wanted = self.wanted();
        let mut effects = Vec::new();
        let news = self.blocks.pull(now, from, pull, &wanted, &mut effects);
        for block in news {
            self.own.set_supplied(false, view.me.wall_ns(now));
            out.push(Effect::Block {
                block,
                source: Source::Pull,
            });
        }
        self.blocks.watch(now, &wanted);
        out.extend(effects.into_iter().map(Effect::from));
    }

    fn take_leadership(
        &mut self,
        now: Moment,
        from: &Connection,
        message: Leadership,
        view: &View<'_>,
        out: &mut Vec<Effect>,
    ) {
        let own = &view.me.identity.org;
        if from.org() != own || view.identities.org_of(&message.peer) != Some(own) {
            let reason = "leadership is a matter of one organization".to_owned();
            out.push(refused(from, "S-C9", reason));
            return;
        }
        let is_full = self.leaders.len() >= LEADERS_MAX;
        if is_full && self.leaders.get(&message.peer).is_none() {
            return;
        }
        if self.leaders.add(now, message.peer, message.time, ()) {
            out.push(Effect::Leadership(message));
        }
    }

    /// Blocks are pulled within the organization, among those whose state info is known.
    fn may_pull(&self, from: &Connection, view: &View<'_>) -> Result<(), String> {
        if *from.org() != view.me.identity.org {
            return Err("blocks are pulled within an organization only".to_owned());
        }
        if view.identities.identity(&from.peer()).is_none() {
            return Err("its identity is not known".to_owned());
        }
        if self.roster.get(&from.peer()).is_none() {
            return Err("it published no state info".to_owned());
        }
        Ok(())
    }
}

fn channel_of(message: &Message) -> Option<&ChannelId> {
    match message {
        Message::BlockPull { channel, .. }
        | Message::Block { channel, .. }
        | Message::StateSnapshot { channel, .. } => Some(channel),
        Message::Leadership(message) => Some(&message.channel),
        _ => None,
    }
}

fn refused(from: &Connection, rule: &'static str, reason: String) -> Effect {
    Effect::Notify(Notice::Refused {
        from: from.peer(),
        rule,
        reason,
    })
}
