//! Private data on its way between the owner, the components and the peers.

use std::{sync::Arc, time::Duration};

use super::{
    Node,
    intake::{refuse, refuse_channel, warn},
    settle::Work,
};
use crate::{
    Effect,
    id::{ChannelId, Moment, PkiId, Ticket},
    message::{Connection, Message},
    ports::Ports,
    privdata::{self, GatherKey, Missing, Wanted, distribute},
    view::View,
};

/// What the owner does for the private data of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Store(ChannelId, u64),
    Serve(ChannelId, u64),
}

impl<P: Ports> Node<P> {
    pub(super) fn receive_private(
        &mut self,
        channel: ChannelId,
        from: Arc<Connection>,
        message: Message,
        out: &mut Vec<Effect>,
    ) {
        match self.channels.get(&channel) {
            None => refuse_channel(out, &from, &channel),
            Some(joined) if !joined.has_org(from.org()) => {
                let reason = format!("{} is not in {channel}", from.org());
                refuse(out, from.peer(), "S-C3", reason);
            }
            Some(_) => self.push_private(channel, privdata::Input::Received { from, message }),
        }
    }

    pub(super) fn private_stored(
        &mut self,
        ticket: Ticket,
        result: Result<(), String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(Job::Store(channel, push)) = self.private_jobs.get(&ticket) else {
            warn(out, format!("nothing was to be stored under {ticket:?}"));
            return;
        };
        let (channel, push) = (channel.clone(), *push);
        self.private_jobs.remove(&ticket);
        self.push_private(channel, privdata::Input::Stored { push, result });
    }

    pub(super) fn private_served(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(Job::Serve(channel, request)) = self.private_jobs.get(&ticket) else {
            warn(
                out,
                format!("no private data was asked for under {ticket:?}"),
            );
            return;
        };
        let (channel, request) = (channel.clone(), *request);
        self.private_jobs.remove(&ticket);
        self.push_private(channel, privdata::Input::Served { request });
    }

    /// Whoever waits for private data of a channel that we are not in is told that there is none.
    pub(super) fn private_wanted(
        &mut self,
        channel: ChannelId,
        key: GatherKey,
        items: Vec<Wanted>,
        patience: Duration,
        out: &mut Vec<Effect>,
    ) {
        if self.channels.contains_key(&channel) {
            let input = privdata::Input::Wanted {
                key,
                items,
                patience,
            };
            self.push_private(channel, input);
            return;
        }
        warn(out, format!("channel {channel} was not joined"));
        let missing = items.into_iter().map(|wanted| wanted.digest);
        out.push(Effect::PrivateGathered {
            channel,
            key,
            found: Vec::new(),
            missing: missing.map(|d| (d, Missing::NotAsked)).collect(),
        });
    }

    pub(super) fn push_private(&mut self, id: ChannelId, input: privdata::Input) {
        self.push(Work::Private(id, input));
    }

    pub(super) fn push_to_private(&mut self, input: impl Fn() -> privdata::Input) {
        let channels = self.private.keys();
        self.work
            .extend(channels.map(|id| Work::Private(id.clone(), input())));
    }

    /// Whether a peer confirms a push shows in the nonce only.
    pub(super) fn push_ack_of_push(&mut self, from: PkiId, nonce: u64, error: String) {
        let input = distribute::Input::Ack { from, nonce, error };
        self.push(Work::Distribution(input));
    }

    pub(super) fn tick_private(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let ids: Vec<ChannelId> = self.channels.keys().cloned().collect();
        for id in ids {
            let mut done = Vec::new();
            let channel = self.channels.get(&id);
            if let Some((private, channel)) = self.private.get_mut(&id).zip(channel) {
                let view = View {
                    me: &self.me,
                    identities: &self.identities,
                    discovery: &self.discovery,
                };
                private.tick(now, channel, &view, &self.ports, &mut done);
            }
            self.after_private(&id, done, out);
        }
        let mut done = Vec::new();
        self.distributor.tick(now, &mut done);
        after_distribution(done, out);
    }

    pub(super) fn after_private(
        &mut self,
        id: &ChannelId,
        done: Vec<privdata::Effect>,
        out: &mut Vec<Effect>,
    ) {
        for effect in done {
            out.push(match effect {
                privdata::Effect::Send { to, envelope } => Effect::Send { to, envelope },
                privdata::Effect::Reply {
                    connection,
                    envelope,
                } => Effect::Reply {
                    connection,
                    envelope,
                },
                privdata::Effect::Store { push, from, pushed } => Effect::StorePrivate {
                    ticket: self.job_ticket(Job::Store(id.clone(), push)),
                    channel: id.clone(),
                    from,
                    pushed,
                },
                privdata::Effect::Serve {
                    request,
                    from,
                    nonce,
                    digests,
                } => Effect::ServePrivate {
                    ticket: self.job_ticket(Job::Serve(id.clone(), request)),
                    channel: id.clone(),
                    from,
                    nonce,
                    digests,
                },
                privdata::Effect::Gathered {
                    key,
                    found,
                    missing,
                } => Effect::PrivateGathered {
                    channel: id.clone(),
                    key,
                    found,
                    missing,
                },
                privdata::Effect::ListMissing { round, limit } => Effect::ListMissing {
                    channel: id.clone(),
                    round,
                    limit,
                },
                privdata::Effect::Notify(notice) => Effect::Notify(notice),
            });
        }
    }

    fn job_ticket(&mut self, job: Job) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.private_jobs.insert(ticket, job);
        ticket
    }
}

pub(super) fn after_distribution(done: Vec<distribute::Effect>, out: &mut Vec<Effect>) {
    out.extend(done.into_iter().map(|effect| match effect {
        distribute::Effect::Send { to, envelope } => Effect::Send { to, envelope },
        distribute::Effect::Notify(notice) => Effect::Notify(notice),
    }));
}
