//! The checks of what nodes that disseminate by stripes say to each other.
//!
//! Only what a message is by itself: lengths, numbers that mean something, and the signatures of
//! views and hashes. Whether the sender is of our organization and a member is for the component.
//!
//! Rules: docs/protocol/stripe.md.

use std::sync::Arc;

use bytes::Bytes;
use tidings_proto::gossip::{self as wire, stripe::Content, stripe_suspect::Kind};

use super::{Gate, Refused, copied, pki_id};
use crate::{
    dissemination::{
        message::{
            Chunk, Class, Counters, Cut, Digest, Hashes, Have, Message, Shape, Status, Suspicion,
            View,
        },
        parameters::{MEMBERS_MAX, STRIPES_MAX},
    },
    id::{ChannelId, PkiId},
    ports::Verifier,
};

/// The rule about parts that are missing or mean nothing.
const FORM: &str = "ST-S1";

/// The rule about the signatures of views and hashes.
const SIGNED: &str = "ST-S2";

impl<V: Verifier + ?Sized> Gate<'_, V> {
    pub(super) fn stripe(
        &self,
        channel: &ChannelId,
        stripe: wire::Stripe,
    ) -> Result<Message, Refused> {
        let content = stripe
            .content
            .ok_or_else(|| Refused::new(FORM, "no content"))?;
        Ok(match content {
            Content::Chunk(chunk) => Message::Chunk(self::chunk(chunk)?),
            Content::Ack(ack) => Message::Ack {
                number: ack.number,
                stripe: byte(ack.stripe)?,
            },
            Content::Have(have) => Message::Have(self::have(&have)?),
            Content::Request(request) => Message::Request {
                number: request.number,
                hash: digest(&request.hash)?,
                stripes: request.stripes,
                cut: cut(request.cut)?,
            },
            Content::Status(status) => Message::Status(self::status(&status)?),
            Content::View(view) => Message::View(Arc::new(self.view(channel, view)?)),
            Content::ViewRequest(request) => Message::ViewRequest {
                wanted: request.wanted,
                known: request.known,
            },
            Content::Suspect(suspect) => Message::Suspect {
                member: pki_id(&suspect.pki_id, FORM)?,
                kind: suspicion(&suspect)?,
            },
            Content::HashesRequest(request) => Message::HashesRequest {
                number: request.number,
                hash: digest(&request.hash)?,
            },
            Content::Hashes(hashes) => Message::Hashes(Arc::new(self.hashes(channel, hashes)?)),
        })
    }

    fn view(&self, channel: &ChannelId, view: wire::StripeView) -> Result<View, Refused> {
        if view.added.len().saturating_add(view.removed.len()) > MEMBERS_MAX {
            return Err(Refused::new(FORM, "a view of too many members"));
        }
        let added = view.added.iter().map(|member| {
            let class = Class::from_number(member.class)
                .ok_or_else(|| Refused::new(FORM, "a class that is none"))?;
            Ok((pki_id(&member.pki_id, FORM)?, class))
        });
        let view = View {
            epoch: view.epoch,
            root: pki_id(&view.root, FORM)?,
            author: pki_id(&view.author, FORM)?,
            base: view.base,
            added: added.collect::<Result<_, Refused>>()?,
            removed: view
                .removed
                .iter()
                .map(|id| pki_id(id, FORM))
                .collect::<Result<_, _>>()?,
            digest: digest(&view.digest)?,
            signature: copied(&view.signature),
        };
        self.signed_by(view.author, &view.to_be_signed(channel), &view.signature)?;
        Ok(view)
    }

    fn hashes(&self, channel: &ChannelId, hashes: wire::StripeHashes) -> Result<Hashes, Refused> {
        if hashes.chunks.len() > usize::from(STRIPES_MAX) {
            return Err(Refused::new(FORM, "hashes of too many chunks"));
        }
        let hashes = Hashes {
            number: hashes.number,
            hash: digest(&hashes.hash)?,
            cut: cut(hashes.cut)?,
            chunks: hashes.chunks.iter().map(digest).collect::<Result<_, _>>()?,
            signer: pki_id(&hashes.signer, FORM)?,
            signature: copied(&hashes.signature),
        };
        let signed = hashes.to_be_signed(channel);
        self.signed_by(hashes.signer, &signed, &hashes.signature)?;
        Ok(hashes)
    }

    /// By somebody of the organization that the message came from.
    fn signed_by(&self, signer: PkiId, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let identity = self.verifier.known(&signer);
        let identity = identity
            .filter(|identity| identity.org == self.connection.identity.org)
            .ok_or_else(|| {
                let reason = format_args!("{signer} is not known in {}", self.connection.org());
                Refused::new(SIGNED, reason)
            })?;
        self.verifier
            .verify(&identity, message, signature)
            .map_err(|reason| Refused::new(SIGNED, reason))
    }
}

fn chunk(chunk: wire::StripeChunk) -> Result<Chunk, Refused> {
    Ok(Chunk {
        epoch: chunk.epoch,
        number: chunk.number,
        hash: digest(&chunk.hash)?,
        cut: cut(chunk.cut)?,
        stripe: byte(chunk.stripe)?,
        shape: Shape {
            cap: u16::try_from(chunk.cap).map_err(|_too_great| too_great(chunk.cap))?,
            root_cap: byte(chunk.root_cap)?,
            ratio: byte(chunk.ratio)?,
        },
        repair: chunk.repair,
        resend: chunk.resend,
        // It is kept until its block is whole: not in the memory of everything that came with it.
        payload: copied(&chunk.payload),
    })
}

fn have(have: &wire::StripeHave) -> Result<Have, Refused> {
    Ok(Have {
        number: have.number,
        hash: digest(&have.hash)?,
        stripes: have.stripes,
        cut: cut(have.cut)?,
        urgent: have.urgent,
    })
}

/// Words beyond those that mean something are not looked at.
fn status(status: &wire::StripeStatus) -> Result<Status, Refused> {
    let mut ahead = [0; 4];
    for (word, given) in ahead.iter_mut().zip(&status.ahead) {
        *word = *given;
    }
    Ok(Status {
        answer: status.answer,
        height: status.height,
        ahead,
        counters: Counters {
            sent: status.sent,
            resent: status.resent,
            served: status.served,
        },
    })
}

fn suspicion(suspect: &wire::StripeSuspect) -> Result<Suspicion, Refused> {
    match Kind::try_from(suspect.kind) {
        Ok(Kind::Silent) => Ok(Suspicion::Silent),
        Ok(Kind::Lost) => Ok(Suspicion::Lost),
        Ok(Kind::Alive) => Ok(Suspicion::Alive),
        Ok(Kind::Corrupt) => Ok(Suspicion::Corrupt {
            number: suspect.number,
            stripe: byte(suspect.stripe)?,
        }),
        Err(_) => Err(Refused::new(FORM, "a suspicion that is none")),
    }
}

fn cut(cut: Option<wire::StripeCut>) -> Result<Cut, Refused> {
    let cut = cut.ok_or_else(|| Refused::new(FORM, "it does not say how its block was cut"))?;
    Ok(Cut {
        len: cut.len,
        k: byte(cut.k)?,
        p: byte(cut.p)?,
    })
}

fn digest(bytes: &Bytes) -> Result<Digest, Refused> {
    let bytes = <[u8; 32]>::try_from(bytes.as_ref());
    bytes
        .map(Digest)
        .map_err(|_length| Refused::new(FORM, "a hash that is not 32 bytes long"))
}

fn byte(number: u32) -> Result<u8, Refused> {
    u8::try_from(number).map_err(|_too_great| too_great(number))
}

fn too_great(number: u32) -> Refused {
    Refused::new(FORM, format_args!("{number} is no number for that"))
}
