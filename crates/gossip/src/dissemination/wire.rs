//! Messages as they travel.

use bytes::Bytes;
use tidings_proto::gossip::{
    self as wire, Envelope,
    gossip_message::{Content as Gossip, Tag},
    stripe::Content,
    stripe_suspect::Kind,
};

use super::message::{Chunk, Cut, Digest, Hashes, Message, Status, Suspicion, View};
use crate::{
    id::{ChannelId, PkiId},
    wire::{gossip_message, unsigned},
};

/// The message in an envelope, unsigned: its stream vouches for the sender.
pub fn envelope(channel: &ChannelId, message: &Message) -> Envelope {
    let stripe = wire::Stripe {
        content: Some(content(message)),
    };
    let content = Gossip::Stripe(stripe);
    unsigned(&gossip_message(0, Some(channel), Tag::ChanAndOrg, content))
}

fn content(message: &Message) -> Content {
    match message {
        Message::Chunk(chunk) => Content::Chunk(self::chunk(chunk)),
        Message::Ack { number, stripe } => Content::Ack(wire::StripeAck {
            number: *number,
            stripe: u32::from(*stripe),
        }),
        Message::Have(have) => Content::Have(wire::StripeHave {
            number: have.number,
            hash: digest(&have.hash),
            stripes: have.stripes,
            cut: Some(cut(have.cut)),
            urgent: have.urgent,
        }),
        Message::Request {
            number,
            hash,
            cut,
            stripes,
        } => Content::Request(wire::StripeRequest {
            number: *number,
            hash: digest(hash),
            stripes: *stripes,
            cut: Some(self::cut(*cut)),
        }),
        Message::Status(status) => Content::Status(self::status(status)),
        Message::View(view) => Content::View(self::view(view)),
        Message::ViewRequest { wanted, known } => Content::ViewRequest(wire::StripeViewRequest {
            wanted: *wanted,
            known: *known,
        }),
        Message::Suspect { member, kind } => Content::Suspect(suspect(member, *kind)),
        Message::HashesRequest { number, hash } => {
            Content::HashesRequest(wire::StripeHashesRequest {
                number: *number,
                hash: digest(hash),
            })
        }
        Message::Hashes(hashes) => Content::Hashes(self::hashes(hashes)),
    }
}

fn chunk(chunk: &Chunk) -> wire::StripeChunk {
    wire::StripeChunk {
        epoch: chunk.epoch,
        number: chunk.number,
        hash: digest(&chunk.hash),
        cut: Some(cut(chunk.cut)),
        stripe: chunk.stripe.into(),
        cap: chunk.shape.cap.into(),
        root_cap: chunk.shape.root_cap.into(),
        ratio: chunk.shape.ratio.into(),
        repair: chunk.repair,
        resend: chunk.resend,
        payload: chunk.payload.clone(),
    }
}

fn status(status: &Status) -> wire::StripeStatus {
    let words = status.ahead.iter().rposition(|word| *word != 0);
    wire::StripeStatus {
        answer: status.answer,
        height: status.height,
        ahead: status.ahead[..words.map_or(0, |last| last + 1)].to_vec(),
        sent: status.counters.sent,
        resent: status.counters.resent,
        served: status.counters.served,
    }
}

fn view(view: &View) -> wire::StripeView {
    wire::StripeView {
        epoch: view.epoch,
        root: id(&view.root),
        author: id(&view.author),
        base: view.base,
        added: view
            .added
            .iter()
            .map(|(peer, class)| wire::StripeMember {
                pki_id: id(peer),
                class: class.number().into(),
            })
            .collect(),
        removed: view.removed.iter().map(id).collect(),
        digest: digest(&view.digest),
        signature: view.signature.clone(),
    }
}

fn suspect(member: &PkiId, kind: Suspicion) -> wire::StripeSuspect {
    let (kind, number, stripe) = match kind {
        Suspicion::Silent => (Kind::Silent, 0, 0),
        Suspicion::Lost => (Kind::Lost, 0, 0),
        Suspicion::Alive => (Kind::Alive, 0, 0),
        Suspicion::Corrupt { number, stripe } => (Kind::Corrupt, number, stripe),
    };
    wire::StripeSuspect {
        pki_id: id(member),
        kind: kind.into(),
        number,
        stripe: stripe.into(),
    }
}

fn hashes(hashes: &Hashes) -> wire::StripeHashes {
    wire::StripeHashes {
        number: hashes.number,
        hash: digest(&hashes.hash),
        cut: Some(cut(hashes.cut)),
        chunks: hashes.chunks.iter().map(digest).collect(),
        signer: id(&hashes.signer),
        signature: hashes.signature.clone(),
    }
}

fn cut(cut: Cut) -> wire::StripeCut {
    wire::StripeCut {
        len: cut.len,
        k: cut.k.into(),
        p: cut.p.into(),
    }
}

fn digest(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(&digest.0)
}

fn id(peer: &PkiId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}
