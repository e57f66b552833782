//! Pulling: asking others what they have, and giving them what they lack.
//!
//! One engine for each kind of item, playing both roles. Items are named by bytes. The engine knows
//! who may ask for what only through the predicates that it is handed, and what an item is only as
//! far as it is put into an envelope. Answers count only from the peer that was asked, in the
//! phase in which they were expected, and for items that were asked for.
//!
//! Rules: docs/protocol/pull.md.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, rngs::ChaCha8Rng};
use tidings_proto::gossip::{
    DataDigest, DataRequest, DataUpdate, Envelope, GossipHello, PullMsgType,
    gossip_message::{Content, Tag},
};

use crate::{
    config::Config,
    effect::Destination,
    id::{ChannelId, ConnectionId, Moment, PkiId},
    message::Connection,
    pace::{self, Pace},
    random,
    summary::Summary,
    verify, wire,
};

/// Rounds of one peer that are remembered at a time, of which it has one every few seconds. At
/// the limit the oldest is forgotten.
const HELLOS_PER_PEER_MAX: usize = 8;

/// Peers whose rounds are remembered at a time. At the limit hellos of others stay unanswered.
const HELLO_PEERS_MAX: usize = 8192;

/// Longest name of an item: a PKI-ID. Longer ones name nothing.
const ID_LEN_MAX: usize = 32;

/// Bytes of items in one answer. Less than may wait for a stream (32 MiB), so that an answer never
/// fills its queue alone, and than a stream carries (100 MiB). At the limit the rest is left for
/// the next round; one item always goes.
const UPDATE_LEN_MAX: usize = 16 * 1024 * 1024;

/// What is pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Identities; an item is named by its PKI-ID.
    Identities,
    /// Blocks of a channel; an item is named by its number in decimal.
    Blocks(ChannelId),
}

impl Topic {
    fn msg_type(&self) -> i32 {
        match self {
            Self::Identities => PullMsgType::IdentityMsg as i32,
            Self::Blocks(_) => PullMsgType::BlockMsg as i32,
        }
    }

    /// Items asked of one peer in a round: its answer must pass our gate.
    fn items_max(&self) -> usize {
        match self {
            Self::Identities => verify::IDENTITIES_MAX,
            Self::Blocks(_) => verify::BLOCKS_MAX,
        }
    }

    fn envelope(&self, content: Content) -> Envelope {
        let message = match self {
            Self::Identities => wire::gossip_message(0, None, Tag::Empty, content),
            Self::Blocks(channel) => {
                wire::gossip_message(0, Some(channel), Tag::ChanAndOrg, content)
            }
        };
        wire::unsigned(&message)
    }
}

/// What is held for others.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// As it goes to them.
    Envelope(Envelope),
    /// A block, put into its envelope for who asks for it: few do, and it is held already.
    Block(ChannelId, u64, Bytes),
}

impl Item {
    fn packed(&self) -> Envelope {
        match self {
            Self::Envelope(envelope) => envelope.clone(),
            Self::Block(channel, number, block) => wire::block(channel, *number, block.clone()),
        }
    }
}

impl From<Envelope> for Item {
    fn from(envelope: Envelope) -> Self {
        Self::Envelope(envelope)
    }
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

/// Time between rounds that are out of turn. Whoever is asked answers one each half second.
const HASTE: Duration = Duration::from_secs(1);

/// The engine for one topic.
#[derive(Debug)]
pub struct Puller {
    topic: Topic,
    times: Times,
    peers_per_round: usize,
    rng: ChaCha8Rng,
    items: BTreeMap<Bytes, Item>,
    next_round: Moment,
    /// Before this no round begins out of turn.
    hasty_from: Moment,
    round: Option<Round>,
    hellos: BTreeMap<PkiId, VecDeque<Hello>>,
    /// Who was told what we have.
    answered: Pace,
}

impl Puller {
    /// Holds nothing; the first round begins one `pullInterval` after `now`.
    pub fn new(topic: Topic, config: &Config, now: Moment, rng: ChaCha8Rng) -> Self {
        let times = Times {
            interval: config.pull_interval.max(Duration::from_millis(1)),
            digests: config.digest_wait_time,
            requests: config.request_wait_time,
            items: config.response_wait_time,
        };
        Self {
            topic,
            next_round: now + times.interval,
            hasty_from: now,
            times,
            peers_per_round: config.pull_peer_num,
            rng,
            items: BTreeMap::new(),
            round: None,
            hellos: BTreeMap::new(),
            answered: Pace::new(pace::ROUNDS_BURST),
        }
    }

    /// Holds this item from now on.
    pub fn add(&mut self, id: Bytes, item: impl Into<Item>) {
        self.items.insert(id, item.into());
    }

    /// Holds it no more.
    pub fn remove(&mut self, id: &[u8]) {
        self.items.remove(id);
    }

    /// Somebody asks what we have. `allowed` tells which items it may know of. If it knows all of
    /// them and nothing else, that is what it is told by an empty list.
    pub fn hello(
        &mut self,
        now: Moment,
        from: &Connection,
        nonce: u64,
        known: Option<&Summary>,
        allowed: impl Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) {
        // More than that is no round of pulling; what we have takes long to look through.
        if !self.answered.answers(now, from.peer()) || !self.remember(now, from.peer(), nonce) {
            return;
        }
        let told: Vec<&Bytes> = self.items.keys().filter(|id| allowed(id)).collect();
        if told.is_empty() {
            return;
        }
        let digests = match known.is_some_and(|known| known.is_of_names(told.iter().copied())) {
            true => Vec::new(),
            false => told.into_iter().cloned().collect(),
        };
        let msg_type = self.topic.msg_type();
        let content = Content::DataDig(DataDigest {
            nonce,
            digests,
            msg_type,
        });
        out.push(Effect::Reply {
            connection: from.id,
            envelope: self.topic.envelope(content),
        });
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
        let Some(round) = &mut self.round else { return };
        let Phase::Digests { owners } = &mut round.phase else {
            return;
        };
        let Some(asked) = round.asked.get_mut(&from) else {
            return;
        };
        if asked.nonce != nonce || asked.answered || now >= round.ends {
            return;
        }
        asked.answered = true;
        for id in digests {
            if id.len() <= ID_LEN_MAX && !self.items.contains_key(&id) && wanted(&id) {
                // A copy: the name shares the memory of the whole answer.
                let owners = owners.entry(Bytes::copy_from_slice(&id)).or_default();
                if !owners.contains(&from) {
                    owners.push(from);
                }
            }
        }
        // Nobody else can add to what we know now.
        if round.asked.values().all(|asked| asked.answered) {
            self.ask_for_items(now, out);
        }
    }

    /// Somebody asks for items. A hello is good for one answer that has any.
    pub fn request(
        &mut self,
        now: Moment,
        from: &Connection,
        nonce: u64,
        digests: &[Bytes],
        allowed: impl Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let remembered = self.hellos.get(&from.peer()).is_some_and(|hellos| {
            hellos
                .iter()
                .any(|hello| hello.nonce == nonce && now < hello.forgotten)
        });
        if !remembered {
            return;
        }
        let wanted: BTreeSet<&Bytes> = digests.iter().collect();
        let mut data = Vec::new();
        let mut len = 0;
        for id in wanted.into_iter().filter(|id| allowed(id)) {
            let Some(item) = self.items.get(id) else {
                continue;
            };
            let item = item.packed();
            len += item.wire_len();
            if len > UPDATE_LEN_MAX && !data.is_empty() {
                break;
            }
            data.push(item);
        }
        if data.is_empty() {
            return;
        }
        if let Some(hellos) = self.hellos.get_mut(&from.peer()) {
            hellos.retain(|hello| hello.nonce != nonce);
        }
        let msg_type = self.topic.msg_type();
        let content = Content::DataUpdate(DataUpdate {
            nonce,
            data,
            msg_type,
        });
        out.push(Effect::Reply {
            connection: from.id,
            envelope: self.topic.envelope(content),
        });
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
        let Some(round) = &mut self.round else {
            return Vec::new();
        };
        let Some(asked) = round.asked.get_mut(&from) else {
            return Vec::new();
        };
        if !matches!(round.phase, Phase::Items) || asked.nonce != nonce || now >= round.ends {
            return Vec::new();
        }
        items
            .into_iter()
            .filter(|item| asked.requested.remove(&id(item)))
            .collect()
    }

    /// Something is missing: the next round begins now, or soon if the last one was just now.
    pub fn hasten(&mut self, now: Moment) {
        if self.round.is_none() {
            self.next_round = self.next_round.min(self.hasty_from.max(now));
        }
    }

    /// Whether [`Self::tick`] would begin a round at this moment, and so look at candidates.
    pub fn begins_round(&self, now: Moment) -> bool {
        self.next_round <= now
    }

    /// As many of these as a round asks: not of every candidate need be known how to address it.
    pub fn choose_some<'a, T>(&mut self, candidates: &'a [T]) -> Vec<&'a T> {
        random::pick(&mut self.rng, candidates, self.peers_per_round)
    }

    /// One of these.
    pub fn choose<'a>(&mut self, candidates: &'a [Destination]) -> Option<&'a Destination> {
        random::pick(&mut self.rng, candidates, 1).pop()
    }

    /// Begins a round with this one peer now, unless items are awaited already; false then. It does
    /// not count as one of those that come again and again.
    pub fn begin_early(&mut self, now: Moment, to: Destination, out: &mut Vec<Effect>) -> bool {
        let awaits = |round: &Round| {
            let asked = || round.asked.values();
            now < round.ends && asked().any(|asked| !asked.requested.is_empty())
        };
        if self.round.as_ref().is_some_and(awaits) {
            return false;
        }
        self.ask(now, vec![to], out);
        true
    }

    /// Does what is due. `candidates` are the peers that a round may ask; only looked at when
    /// [`Self::begins_round`].
    pub fn tick(&mut self, now: Moment, candidates: &[Destination], out: &mut Vec<Effect>) {
        if self.round.as_ref().is_some_and(|round| round.ends <= now) {
            self.end_phase(now, out);
        }
        if self.begins_round(now) {
            self.forget_hellos(now);
            self.begin_round(now, candidates, out);
        }
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let phase = self.round.as_ref().map(|round| round.ends);
        phase.into_iter().chain([self.next_round]).min()
    }

    fn begin_round(&mut self, now: Moment, candidates: &[Destination], out: &mut Vec<Effect>) {
        self.next_round = now + self.times.interval;
        self.hasty_from = now + HASTE;
        let chosen = random::pick(&mut self.rng, candidates, self.peers_per_round);
        let chosen = chosen.into_iter().cloned().collect();
        self.ask(now, chosen, out);
    }

    fn ask(&mut self, now: Moment, chosen: Vec<Destination>, out: &mut Vec<Effect>) {
        let mut asked = BTreeMap::new();
        let known = Summary::of_names(self.rng.random(), self.items.keys()).to_wire();
        for to in chosen {
            let nonce = self.rng.random();
            let content = Content::Hello(GossipHello {
                nonce,
                metadata: known.clone(),
                msg_type: self.topic.msg_type(),
            });
            out.push(Effect::Send {
                to: to.clone(),
                envelope: self.topic.envelope(content),
            });
            asked.insert(to.peer, Asked::new(to, nonce));
        }
        self.round = (!asked.is_empty()).then(|| Round {
            phase: Phase::Digests {
                owners: BTreeMap::new(),
            },
            ends: now + self.times.digests,
            asked,
        });
    }

    fn end_phase(&mut self, now: Moment, out: &mut Vec<Effect>) {
        match &self.round {
            Some(Round {
                phase: Phase::Digests { .. },
                ..
            }) => self.ask_for_items(now, out),
            _ => self.round = None,
        }
    }

    /// Each missing item is asked of one of those who have it.
    fn ask_for_items(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Some(round) = &mut self.round else { return };
        let Phase::Digests { owners } = std::mem::replace(&mut round.phase, Phase::Items) else {
            return;
        };
        round.ends = now + self.times.items;
        for (id, owners) in owners {
            if self.items.contains_key(&id) {
                continue;
            }
            let owner = random::pick(&mut self.rng, &owners, 1);
            let asked = owner.first().and_then(|peer| round.asked.get_mut(peer));
            let has_room = |asked: &&mut Asked| asked.requested.len() < self.topic.items_max();
            if let Some(asked) = asked.filter(has_room) {
                asked.requested.insert(id);
            }
        }
        for asked in round.asked.values() {
            if asked.requested.is_empty() {
                continue;
            }
            let content = Content::DataReq(DataRequest {
                nonce: asked.nonce,
                digests: asked.requested.iter().cloned().collect(),
                msg_type: self.topic.msg_type(),
            });
            out.push(Effect::Send {
                to: asked.to.clone(),
                envelope: self.topic.envelope(content),
            });
        }
    }

    fn remember(&mut self, now: Moment, peer: PkiId, nonce: u64) -> bool {
        if self.hellos.len() >= HELLO_PEERS_MAX && !self.hellos.contains_key(&peer) {
            self.forget_hellos(now);
            if self.hellos.len() >= HELLO_PEERS_MAX {
                return false;
            }
        }
        let hellos = self.hellos.entry(peer).or_default();
        if hellos.len() >= HELLOS_PER_PEER_MAX {
            hellos.pop_front();
        }
        hellos.push_back(Hello {
            nonce,
            forgotten: now + self.times.requests,
        });
        true
    }

    fn forget_hellos(&mut self, now: Moment) {
        self.hellos.retain(|_, hellos| {
            hellos.retain(|hello| now < hello.forgotten);
            !hellos.is_empty()
        });
    }
}

#[derive(Clone, Copy, Debug)]
struct Times {
    interval: Duration,
    /// How long we collect digests.
    digests: Duration,
    /// How long others may ask for items after their hello.
    requests: Duration,
    /// How long we wait for items.
    items: Duration,
}

/// A round that we began.
#[derive(Debug)]
struct Round {
    phase: Phase,
    /// When the phase ends.
    ends: Moment,
    asked: BTreeMap<PkiId, Asked>,
}

#[derive(Debug)]
enum Phase {
    /// Digests are awaited.
    Digests {
        /// Who has which missing item.
        owners: BTreeMap<Bytes, Vec<PkiId>>,
    },
    /// Items are awaited.
    Items,
}

/// A peer that we asked.
#[derive(Debug)]
struct Asked {
    to: Destination,
    nonce: u64,
    answered: bool,
    requested: BTreeSet<Bytes>,
}

impl Asked {
    fn new(to: Destination, nonce: u64) -> Self {
        Self {
            to,
            nonce,
            answered: false,
            requested: BTreeSet::new(),
        }
    }
}

/// A round that somebody else began with us.
#[derive(Debug)]
struct Hello {
    nonce: u64,
    forgotten: Moment,
}

#[cfg(test)]
mod tests;
