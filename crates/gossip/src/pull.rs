//! Pulling: asking others what they have, and giving them what they lack.
//!
//! One engine for each kind of item, playing both roles. Items are named by bytes and kept as
//! envelopes. The engine knows who may ask for what only through the predicates that it is
//! handed, and never looks into an item. Answers count only from the peer that was asked, in the
//! phase in which they were expected, and for items that were asked for.

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use tidings_proto::gossip::Envelope;

use crate::{
    config::Config,
    effect::Destination,
    id::{ChannelId, ConnectionId, Moment, PkiId},
    message::Connection,
};

/// What is pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Identities; an item is named by its PKI-ID.
    Identities,
    /// Blocks of a channel; an item is named by its number in decimal.
    Blocks(ChannelId),
}

/// What to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// On exactly this stream.
    Reply {
        /// Which stream.
        connection: ConnectionId,
        /// What.
        envelope: Envelope,
    },
}

/// The engine for one topic.
#[derive(Debug)]
pub struct Puller {
    topic: Topic,
    config: Config,
    rng: ChaCha8Rng,
}

impl Puller {
    /// Holds nothing; the first round begins one `pullInterval` after `now`.
    pub fn new(topic: Topic, config: &Config, now: Moment, rng: ChaCha8Rng) -> Self {
        let _ = now;
        Self {
            topic,
            config: config.clone(),
            rng,
        }
    }

    /// Holds this item from now on.
    pub fn add(&mut self, id: Bytes, item: Envelope) {
        let _ = (id, item);
    }

    /// Holds it no more.
    pub fn remove(&mut self, id: &[u8]) {
        let _ = id;
    }

    /// Whether this item is held.
    pub fn holds(&self, id: &[u8]) -> bool {
        let _ = id;
        false
    }

    /// Somebody asks what we have. `allowed` tells which items it may know of.
    pub fn hello(
        &mut self,
        now: Moment,
        from: &Connection,
        nonce: u64,
        allowed: impl Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let _ = (now, from, nonce, allowed, out);
    }

    /// Somebody tells what it has. `wanted` tells which items we care for.
    pub fn digest(
        &mut self,
        now: Moment,
        from: PkiId,
        nonce: u64,
        digests: Vec<Bytes>,
        wanted: impl Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let _ = (now, from, nonce, digests, wanted, out);
    }

    /// Somebody asks for items.
    pub fn request(
        &mut self,
        now: Moment,
        from: &Connection,
        nonce: u64,
        digests: &[Bytes],
        allowed: impl Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let _ = (now, from, nonce, digests, allowed, out);
    }

    /// Somebody sends items. Returns those that we asked it for; to hold one, [`Self::add`] it.
    pub fn update<T>(
        &mut self,
        now: Moment,
        from: PkiId,
        nonce: u64,
        items: Vec<T>,
        id: impl Fn(&T) -> Bytes,
    ) -> Vec<T> {
        let _ = (now, from, nonce, items, id);
        Vec::new()
    }

    /// Whether [`Self::tick`] would begin a round at this moment, and so look at candidates.
    pub fn begins_round(&self, now: Moment) -> bool {
        let _ = now;
        false
    }

    /// Does what is due. `candidates` are the peers that a round may ask; only looked at when
    /// [`Self::begins_round`].
    pub fn tick(&mut self, now: Moment, candidates: &[Destination], out: &mut Vec<Effect>) {
        let _ = (now, candidates, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        None
    }
}
