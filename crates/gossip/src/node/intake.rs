//! From what happened to the components that it concerns.
//!
//! Identities go first: whoever proved who he is must be known before what he says is judged.

use std::sync::Arc;

use crate::{
    Effect, Input, Notice, ack, discovery,
    id::{Moment, PkiId},
    identity,
    message::{Alive, Connection, Message, PeerIdentity},
    node::{Node, settle::Work},
    ports::Ports,
};

impl<P: Ports> Node<P> {
    pub(super) fn take_in(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Connected(connection) => self.learn(&connection.identity),
            // Streams are found by peer when something is to be sent; nobody holds one.
            Input::Disconnected { .. } => {}
            Input::Received { from, message } => {
                self.receive(now, from, message.into_inner(), out);
            }
            Input::Unreachable(peer) => {
                self.push(discovery::Input::Unreachable(peer));
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
            _ => {}
        }
    }

    fn receive(
        &mut self,
        _now: Moment,
        from: Arc<Connection>,
        message: Message,
        out: &mut Vec<Effect>,
    ) {
        let sender = from.peer();
        if self.identities.identity(&sender).is_none() {
            let reason = "its identity was dropped and it has not authenticated since".to_owned();
            refuse(out, sender, "I-S7", reason);
            return;
        }
        self.learn(&from.identity);
        match message {
            Message::Alive(alive) => {
                self.learn(&alive.identity);
                self.push(discovery::Input::Alive {
                    from: sender,
                    alive,
                });
            }
            Message::MembershipRequest { nonce, about } => {
                if about.peer != sender {
                    let reason = format!("asks for the membership in the name of {}", about.peer);
                    refuse(out, sender, "S-N4", reason);
                    return;
                }
                self.learn(&about.identity);
                self.push(discovery::Input::MembershipRequest { nonce, about });
            }
            Message::MembershipResponse { nonce, alive, dead } => {
                self.learn_all(alive.iter().chain(&dead));
                self.push(discovery::Input::MembershipResponse {
                    from: sender,
                    nonce,
                    alive,
                    dead,
                });
            }
            Message::IdentityPull(pull) => self.push(identity::Input::Pull { from, pull }),
            Message::Ack { nonce, error } => self.push(ack::Input::Ack {
                from: sender,
                nonce,
                error,
            }),
            _ => {}
        }
    }

    fn learn_all<'a>(&mut self, about: impl Iterator<Item = &'a Alive>) {
        about.for_each(|alive| self.learn(&alive.identity));
    }

    fn learn(&mut self, identity: &Arc<PeerIdentity>) {
        self.push(identity::Input::Learned(Arc::clone(identity)));
    }

    pub(super) fn push(&mut self, work: impl Into<Work>) {
        self.work.push_back(work.into());
    }
}

pub(super) fn refuse(out: &mut Vec<Effect>, from: PkiId, rule: &'static str, reason: String) {
    out.push(Effect::Notify(Notice::Refused { from, rule, reason }));
}
