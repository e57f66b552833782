//! Handing the effects of components on until nothing is left.

use crate::{
    Effect, Notice, ack, discovery,
    id::Moment,
    identity,
    node::{Node, intake::refuse},
    ports::Ports,
    view::View,
};

/// An input of one component.
#[derive(Debug)]
pub(super) enum Work {
    Identity(identity::Input),
    Discovery(discovery::Input),
    Acks(ack::Input),
}

impl<P: Ports> Node<P> {
    /// Works until nothing is left.
    pub(super) fn settle(&mut self, now: Moment, out: &mut Vec<Effect>) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Identity(input) => {
                    let mut done = Vec::new();
                    self.identities
                        .handle(now, input, &self.me, &self.discovery, &mut done);
                    self.after_identities(done, out);
                }
                Work::Discovery(input) => {
                    let mut done = Vec::new();
                    self.discovery.handle(
                        now,
                        input,
                        &self.me,
                        &self.identities,
                        &self.ports,
                        &mut done,
                    );
                    self.after_discovery(done, out);
                }
                Work::Acks(input) => {
                    let mut done = Vec::new();
                    self.acks.handle(now, input, &mut done);
                    self.after_acks(done, out);
                }
            }
        }
    }

    pub(super) fn tick_components(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.strangers.tick(now);
        let mut done = Vec::new();
        self.identities
            .tick(now, &self.discovery, &mut done);
        self.after_identities(done, out);
        self.settle(now, out);
        let mut done = Vec::new();
        self.discovery
            .tick(now, &self.me, &self.identities, &self.ports, &mut done);
        self.after_discovery(done, out);
        let mut done = Vec::new();
        self.acks.tick(now, &mut done);
        self.after_acks(done, out);
    }

    fn after_identities(&mut self, done: Vec<identity::Effect>, out: &mut Vec<Effect>) {
        for effect in done {
            match effect {
                identity::Effect::Send { to, envelope } => {
                    out.push(Effect::Send { to, envelope });
                }
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
                    self.push(discovery::Input::Purge(peer));
                }
                identity::Effect::Close(peer) => out.push(Effect::Close(peer)),
                identity::Effect::Refused { from, rule, reason } => {
                    refuse(out, from, rule, reason);
                }
                identity::Effect::Warning(text) => {
                    out.push(Effect::Notify(Notice::Warning(text)));
                }
            }
        }
    }

    fn after_discovery(&mut self, done: Vec<discovery::Effect>, out: &mut Vec<Effect>) {
        for effect in done {
            match effect {
                discovery::Effect::Send { to, envelope } => {
                    out.push(Effect::Send { to, envelope });
                }
                discovery::Effect::Gossip { .. } => {}
                discovery::Effect::Close(peer) => out.push(Effect::Close(peer)),
                discovery::Effect::Probe { ticket, endpoint } => {
                    out.push(Effect::Probe { ticket, endpoint });
                }
                discovery::Effect::Identify { ticket, endpoint } => {
                    out.push(Effect::Identify { ticket, endpoint });
                }
                discovery::Effect::Notify(notice) => out.push(Effect::Notify(notice)),
            }
        }
    }

    fn after_acks(&mut self, done: Vec<ack::Effect>, out: &mut Vec<Effect>) {
        out.extend(done.into_iter().map(|effect| match effect {
            ack::Effect::Send { to, envelope } => Effect::Send { to, envelope },
            ack::Effect::Acknowledged { ticket, result } => {
                Effect::Notify(Notice::Acknowledged { ticket, result })
            }
        }));
    }
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
