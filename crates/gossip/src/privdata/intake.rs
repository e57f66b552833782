//! What peers say about the private data of a channel: who may say it, and what becomes of it.

use std::sync::Arc;

use tidings_proto::gossip::{
    Acknowledgement, RemotePvtDataResponse,
    gossip_message::{Content, Tag},
};

use super::{Around, Effect, PrivData, envelope, gather::Answer, push::Begun};
use crate::{
    effect::Notice,
    id::{ConnectionId, Moment},
    message::{Connection, Message, PrivateDigest, PrivateElement, PushedWrites},
    ports::{CollectionName, Ports},
    verify::Refused,
    wire,
};

/// Longest text of a refusal that a peer is sent.
pub(super) const ERROR_LEN_MAX: usize = 512;

impl PrivData {
    pub(super) fn receive<P: Ports>(
        &mut self,
        now: Moment,
        from: &Arc<Connection>,
        message: Message,
        around: &Around<'_, P>,
        out: &mut Vec<Effect>,
    ) {
        if around.channel.has_left() {
            let reason = format!("we have left {}", self.channel);
            out.push(refused(from, "S-N6", reason));
            return;
        }
        if !around.ports.is_reader(&self.channel, &from.identity) {
            let reason = format!("it may not read {}", self.channel);
            out.push(refused(from, "PD-S4", reason));
            return;
        }
        match message {
            Message::PrivateData { nonce, pushed, .. } => {
                self.take_push(from, nonce, pushed, around, out);
            }
            Message::PrivateRequest { nonce, digests, .. } => {
                self.queue(now, from, nonce, digests, out);
            }
            Message::PrivateResponse {
                nonce, elements, ..
            } => self.take_answer(now, from, nonce, elements, out),
            _ => {}
        }
    }

    /// Whatever is wrong with a push, its sender is told: it waits for an answer.
    fn take_push<P: Ports>(
        &mut self,
        from: &Arc<Connection>,
        nonce: u64,
        pushed: Result<Box<PushedWrites>, Refused>,
        around: &Around<'_, P>,
        out: &mut Vec<Effect>,
    ) {
        let checked = pushed.and_then(|pushed| match self.check_push(&pushed, around) {
            Ok(()) => Ok(pushed),
            Err(reason) => Err(Refused {
                rule: "PD-S5",
                reason,
            }),
        });
        let begun = checked.and_then(|pushed| {
            let begun = self.pushes.begin(from, nonce, pushed.rwset.len());
            begun.map(|begun| (begun, pushed)).map_err(|busy| Refused {
                rule: "PD-S6",
                reason: busy.to_string(),
            })
        });
        match begun {
            Ok((Begun::New(push), pushed)) => out.push(Effect::Store {
                push,
                from: Arc::clone(from),
                pushed,
            }),
            Ok((Begun::Repeated, _)) => {}
            Err(Refused { rule, reason }) => {
                out.push(ack(from.id, nonce, &reason));
                out.push(refused(from, rule, reason));
            }
        }
    }

    /// Data of a collection that is not ours is not for us, whoever sends it; its members can ask
    /// each other.
    fn check_push<P: Ports>(
        &self,
        pushed: &PushedWrites,
        around: &Around<'_, P>,
    ) -> Result<(), String> {
        let PushedWrites {
            namespace,
            collection,
            configs,
            ..
        } = pushed;
        let name = CollectionName {
            namespace,
            collection,
        };
        let members = around.ports.member_orgs(&self.channel, name, configs)?;
        let own = &around.view.me.identity.org;
        if members.contains(own) {
            Ok(())
        } else {
            Err(format!("{own} is no member of {namespace}/{collection}"))
        }
    }

    pub(super) fn acknowledge(
        &mut self,
        push: u64,
        result: Result<(), String>,
        out: &mut Vec<Effect>,
    ) {
        if let Some((connection, nonce)) = self.pushes.end(push) {
            let error = result.err().map(|reason| match reason.as_str() {
                // An empty text would be a confirmation.
                "" => "not stored".to_owned(),
                _ => reason,
            });
            out.push(ack(connection, nonce, &error.unwrap_or_default()));
        }
    }

    fn queue(
        &mut self,
        now: Moment,
        from: &Arc<Connection>,
        nonce: u64,
        digests: Vec<PrivateDigest>,
        out: &mut Vec<Effect>,
    ) {
        let Err(overload) = self.requests.push(now, from, nonce, digests) else {
            return;
        };
        if overload.deserves_an_answer() {
            // Whoever asks is told at once that there is nothing, and can ask elsewhere.
            let content = Content::PrivateRes(RemotePvtDataResponse::default());
            out.push(Effect::Reply {
                connection: from.id,
                envelope: envelope(&self.channel, nonce, content),
            });
        }
        out.push(refused(from, "PD-S7", overload.to_string()));
    }

    fn take_answer(
        &mut self,
        now: Moment,
        from: &Connection,
        nonce: u64,
        elements: Vec<PrivateElement>,
        out: &mut Vec<Effect>,
    ) {
        match self.gathers.answered(now, from.peer(), nonce, elements) {
            // PD-S8. Not worth a notice: an answer after its time looks like this.
            Answer::Unexpected => {}
            Answer::OfAnother => {
                let reason = "it answers what another peer was asked".to_owned();
                out.push(refused(from, "PD-S8", reason));
            }
            Answer::Taken {
                after,
                found,
                wrong,
            } => {
                out.push(Effect::Notify(Notice::PrivateAnswered {
                    channel: self.channel.clone(),
                    peer: from.peer(),
                    after,
                    found,
                }));
                if let Some(reason) = wrong {
                    self.doubt(now, from.peer(), reason, out);
                }
            }
        }
    }
}

/// A confirmation, or with a text a refusal.
fn ack(connection: ConnectionId, nonce: u64, error: &str) -> Effect {
    let mut error = error.to_owned();
    let end = (0..=ERROR_LEN_MAX.min(error.len())).rev();
    let end = end.into_iter().find(|end| error.is_char_boundary(*end));
    error.truncate(end.unwrap_or_default());
    let content = Content::Ack(Acknowledgement { error });
    Effect::Reply {
        connection,
        envelope: wire::unsigned(&wire::gossip_message(nonce, None, Tag::Undefined, content)),
    }
}

fn refused(from: &Connection, rule: &'static str, reason: String) -> Effect {
    Effect::Notify(Notice::Refused {
        from: from.peer(),
        rule,
        reason,
    })
}
