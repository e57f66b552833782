//! Private data of one channel: taking what endorsers push, pulling what is missing, having
//! others served.
//!
//! Promises: a push is acknowledged after its owner has stored it, and refused with a reason else;
//! what a peer answers counts only if that peer was asked for exactly this, and is handed on as
//! verified only if it has the hash that the block has; every gathering ends once, with what was
//! found and what was not; peers that ask take turns. Knows nothing of stores, blocks or policies:
//! the owner keeps them, and [`Ports`] judges who may have what.
//!
//! Rules: docs/protocol/private.md.

pub mod distribute;
mod doubts;
mod gather;
mod intake;
mod push;
mod reconcile;
mod serve;

use std::{collections::BTreeSet, iter::Sum, sync::Arc, time::Duration};

use bytes::Bytes;
use tidings_proto::gossip::{
    Envelope, RemotePvtDataRequest,
    gossip_message::{Content, Tag},
};

use self::{
    gather::{Ended, Gathers},
    push::Pushes,
    reconcile::Reconcile,
    serve::Requests,
};
use crate::{
    channel::Channel,
    config::{Config, PvtDataConfig},
    effect::{Destination, Notice},
    id::{ChannelId, ConnectionId, DIGEST_LEN, Moment, OrgId, PkiId},
    message::{Connection, Message, PrivateDigest, PushedWrites},
    ports::{CollectionName, Ports},
    view::View,
    wire,
};

pub use self::{
    doubts::{DOUBT_MAX, DOUBT_MIN},
    gather::{
        ANSWER_TIMEOUT, DIGESTS_ASKED_MAX, FOUND_BYTES_MAX, GATHERS_MAX, ROUND_PAUSE,
        WANTED_EACH_MIN, WANTED_MAX,
    },
    push::{PUSH_BYTES_MAX, PUSH_BYTES_PER_PEER_MAX, PUSHES_MAX, PUSHES_PER_PEER_MAX},
    serve::{SERVING_MAX, WAITING_MAX, WAITING_PER_PEER_MAX},
};

/// What a gathering is for. Its owner names it and gets it back with what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GatherKey {
    /// For this block, which waits to be committed.
    Block(u64),
    /// For blocks that were committed without: the answer to this [`Effect::ListMissing`].
    Reconcile(u64),
}

/// A private write set that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which. In a reconciliation the transaction id is empty, so that peers look into their
    /// ledgers.
    pub digest: PrivateDigest,
    /// The hash that the block has.
    pub hash: [u8; DIGEST_LEN],
    /// Something with another hash may be right, because keys were purged from it since. If nobody
    /// gives what was wanted, that is handed on, not verified, and may be several for one; the
    /// owner judges it, and says so if it was worthless ([`Input::Doubted`]).
    pub may_differ: bool,
    /// The serialized identities of those who endorsed the transaction: they had it.
    pub endorsers: Vec<Bytes>,
    /// Organizations that were members of the collection in that block: they are asked first.
    pub member_orgs: BTreeSet<OrgId>,
    /// Blocks until the data is deleted everywhere; zero for never.
    pub block_to_live: u64,
}

impl Wanted {
    fn collection(&self) -> CollectionName<'_> {
        CollectionName {
            namespace: &self.digest.namespace,
            collection: &self.digest.collection,
        }
    }
}

/// A private write set that a peer gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub digest: PrivateDigest,
    /// The serialized `KVRWSet`.
    pub payload: Bytes,
    /// Who gave it.
    pub from: PkiId,
    /// It has the hash that was wanted. Else the owner has to judge it.
    pub is_verified: bool,
}

/// Why a private write set is still missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// Nobody who was asked gave it in time.
    NotFound,
    /// Nobody could be asked, or there was no time to.
    NotAsked,
    /// It has reached the end of its life, for all who may have it.
    Expired,
    /// All who may have it give something else: keys were purged from it, or they lie.
    Differs,
    /// More is wanted at a time than is kept in memory.
    NoRoom,
}

/// What happens to the private data of a channel.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message about private data. Others have no effect.
    Received {
        /// The stream it came on.
        from: Arc<Connection>,
        /// The message.
        message: Message,
    },
    /// The answer to [`Effect::Store`].
    Stored {
        /// Of the effect.
        push: u64,
        /// Whether it is durable. The text goes to the peer.
        result: Result<(), String>,
    },
    /// These private write sets are missing; answered by [`Effect::Gathered`].
    Wanted {
        /// What for.
        key: GatherKey,
        /// What.
        items: Vec<Wanted>,
        /// How long to look.
        patience: Duration,
    },
    /// The answer to [`Effect::Serve`].
    Served {
        /// Of the effect.
        request: u64,
    },
    /// What this peer gave and the owner judged was worthless.
    Doubted {
        /// Who.
        peer: PkiId,
        /// What was wrong.
        reason: String,
    },
    /// Everything below is durable.
    Height(u64),
    /// A block of this number was verified: the chain has it, whatever peers claim.
    Verified(u64),
    /// We left the channel.
    Left,
    /// A dial or a write towards this peer failed.
    Unreachable(PkiId),
    /// A stream is gone.
    Disconnected {
        /// Which.
        connection: ConnectionId,
        /// To whom.
        peer: PkiId,
    },
    /// The identity of this peer was dropped.
    Forgotten(PkiId),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer; dial if there is none.
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
    /// Make this durable until its transaction comes. Answered by [`Input::Stored`].
    Store {
        /// For the answer.
        push: u64,
        /// Who sent it.
        from: Arc<Connection>,
        /// What.
        pushed: Box<PushedWrites>,
    },
    /// Send what of this the peer may have, at least nothing, on the stream that asked. Answered
    /// by [`Input::Served`].
    Serve {
        /// For the answer.
        request: u64,
        /// Who asks.
        from: Arc<Connection>,
        /// To be copied into the response.
        nonce: u64,
        /// What is asked for, to be copied into the elements of the response.
        digests: Vec<PrivateDigest>,
    },
    /// What came of [`Input::Wanted`]. Every digest is in one of both lists.
    Gathered {
        /// Of the input.
        key: GatherKey,
        /// What peers gave.
        found: Vec<Found>,
        /// What they did not.
        missing: Vec<(PrivateDigest, Missing)>,
    },
    /// Which data of committed blocks is missing? Answered by [`Input::Wanted`] with
    /// [`GatherKey::Reconcile`] of this round, also if there is none.
    ListMissing {
        /// For the answer.
        round: u64,
        /// Of how many blocks.
        limit: usize,
    },
    /// To be known.
    Notify(Notice),
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pushes that are being stored.
    pub pushes: usize,
    /// Gatherings under way.
    pub gathers: usize,
    /// Requests of ours that wait for an answer.
    pub asked: usize,
    /// Requests of others, waiting or being answered.
    pub serving: usize,
}

impl Sum for Sizes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            pushes: sum.pushes + one.pushes,
            gathers: sum.gathers + one.gathers,
            asked: sum.asked + one.asked,
            serving: sum.serving + one.serving,
        })
    }
}

/// The private data of one channel.
#[derive(Debug)]
pub struct PrivData {
    channel: ChannelId,
    pushes: Pushes,
    gathers: Gathers,
    requests: Requests,
    reconcile: Reconcile,
}

/// What a component may look at while it is fed.
struct Around<'a, P> {
    channel: &'a Channel,
    view: &'a View<'a>,
    ports: &'a P,
}

impl PrivData {
    /// Nothing is under way. `seed` is that of the node.
    pub fn new(channel: ChannelId, config: &Config, now: Moment, seed: &[u8; 32]) -> Self {
        let config: &PvtDataConfig = &config.pvt_data;
        Self {
            pushes: Pushes::default(),
            gathers: Gathers::new(&channel, config.btl_pull_margin, seed),
            requests: Requests::new(),
            reconcile: Reconcile::new(config, now),
            channel,
        }
    }

    /// Feeds one input.
    pub fn handle<P: Ports>(
        &mut self,
        now: Moment,
        input: Input,
        channel: &Channel,
        view: &View<'_>,
        ports: &P,
        out: &mut Vec<Effect>,
    ) {
        let around = Around {
            channel,
            view,
            ports,
        };
        match input {
            Input::Received { from, message } => self.receive(now, &from, message, &around, out),
            Input::Stored { push, result } => self.acknowledge(push, result, out),
            Input::Wanted {
                key,
                items,
                patience,
            } => self.want(now, key, items, patience, &around),
            Input::Served { request } => self.requests.served(request),
            Input::Doubted { peer, reason } => self.doubt(now, peer, reason, out),
            Input::Height(height) => self.reconcile.grow(now, height),
            Input::Verified(number) => self.gathers.verified(number),
            Input::Left => {
                self.gathers.end_all();
                self.requests.clear();
            }
            Input::Unreachable(peer) => self.gathers.lost(now, &peer),
            Input::Disconnected { connection, peer } => {
                self.requests.disconnected(connection);
                self.gathers.lost(now, &peer);
            }
            Input::Forgotten(peer) => {
                self.requests.forgotten(&peer);
                self.gathers.lost(now, &peer);
            }
        }
        self.pursue(now, &around, out);
    }

    /// Does what has fallen due.
    pub fn tick<P: Ports>(
        &mut self,
        now: Moment,
        channel: &Channel,
        view: &View<'_>,
        ports: &P,
        out: &mut Vec<Effect>,
    ) {
        let around = Around {
            channel,
            view,
            ports,
        };
        self.gathers.tick(now);
        self.reconcile.look(now, &around);
        self.pursue(now, &around, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let deadlines = [self.gathers.deadline(), self.reconcile.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// How much is remembered.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            pushes: self.pushes.len(),
            gathers: self.gathers.len(),
            asked: self.gathers.asked(),
            serving: self.requests.len(),
        }
    }

    /// Whoever gave something wrong is asked last for a while. The operator hears of it once.
    fn doubt(&mut self, now: Moment, peer: PkiId, reason: String, out: &mut Vec<Effect>) {
        if self.gathers.doubt(now, peer) {
            out.push(Effect::Notify(Notice::Warning(format!(
                "channel {}: peer {peer} gives private data that is not that of the block: \
                 {reason}; others are asked first from now on",
                self.channel
            ))));
        }
        out.push(Effect::Notify(Notice::Refused {
            from: peer,
            rule: "PD-S10",
            reason,
        }));
    }

    fn want<P>(
        &mut self,
        now: Moment,
        key: GatherKey,
        items: Vec<Wanted>,
        patience: Duration,
        around: &Around<'_, P>,
    ) {
        if let GatherKey::Reconcile(round) = key {
            self.reconcile.listed(now, round, &items, around);
        }
        self.gathers.begin(now, key, items, patience);
        if around.channel.has_left() {
            self.gathers.end_all();
        }
    }

    /// Asks for what is missing, hands on what is gathered, lets others be served.
    fn pursue<P: Ports>(&mut self, now: Moment, around: &Around<'_, P>, out: &mut Vec<Effect>) {
        for (to, nonce, digests) in self.gathers.plan(now, around) {
            let digests = digests.into_iter().map(Into::into).collect();
            let content = Content::PrivateReq(RemotePvtDataRequest { digests });
            out.push(Effect::Send {
                to,
                envelope: envelope(&self.channel, nonce, content),
            });
        }
        for ended in self.gathers.take_ended() {
            self.reconcile.ended(now, &ended);
            let Ended {
                key,
                found,
                missing,
            } = ended;
            out.push(Effect::Gathered {
                key,
                found,
                missing,
            });
        }
        // Whoever left comes back some time, perhaps.
        if let Some((round, limit)) = self.reconcile.list(now, around.channel.has_left()) {
            out.push(Effect::ListMissing { round, limit });
        }
        while let Some((request, next)) = self.requests.next() {
            out.push(Effect::Serve {
                request,
                from: next.from,
                nonce: next.nonce,
                digests: next.digests,
            });
        }
    }
}

fn envelope(channel: &ChannelId, nonce: u64, content: Content) -> Envelope {
    let message = wire::gossip_message(nonce, Some(channel), Tag::ChanOnly, content);
    wire::unsigned(&message)
}

#[cfg(test)]
mod tests;
