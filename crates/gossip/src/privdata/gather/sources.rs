//! Whom to ask for a private write set.
//!
//! First those who endorsed the transaction, as they had it; then those who may have it and were
//! members when it came about; then all others who may have it. Within each, peers in random
//! order; those in doubt after all others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{rngs::ChaCha8Rng, seq::SliceRandom};

use super::{
    super::{Around, Missing, Wanted, doubts::Doubts},
    ASKED_MAX, DIGESTS_ASKED_MAX, REQUESTS_MAX, REQUESTS_PER_PEER_MAX,
    item::Item,
};
use crate::{
    channel::ChannelPeer,
    effect::Destination,
    id::{ChannelId, Moment, OrgId, PkiId},
    ports::{CollectionName, Ports, Terms},
};

/// What to do about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Ask this one, of [`Sources`].
    Ask(usize),
    /// Those who could be asked have enough to answer.
    Wait,
    /// Nobody is left in this round.
    Exhausted,
    /// Nobody will be left in any round.
    Nowhere(Missing),
}

/// The rules about the life of data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// `btlPullMargin`.
    pub(super) margin: u64,
    /// Height of the chain as far as blocks prove it.
    pub(super) chain_height: u64,
}

/// The peers of a channel in the order in which they are asked, and what they have to answer.
pub(super) struct Sources<'a, P> {
    channel: &'a ChannelId,
    ports: &'a P,
    peers: Vec<Source<'a>>,
    life: Life,
    requests: usize,
}

struct Source<'a> {
    peer: ChannelPeer<'a>,
    is_in_doubt: bool,
    /// Requests that it has to answer.
    requests: usize,
}

/// Chooses for one gathering.
pub(super) struct Chooser<'s, 'a, 'i, P> {
    sources: &'s mut Sources<'a, P>,
    /// What the ports said; they are asked no more often than needed.
    entitled: BTreeMap<(CollectionName<'i>, usize), bool>,
    /// How many digests each is going to be asked for.
    digests: BTreeMap<usize, usize>,
    /// What was chosen for items of each kind: there may be thousands that are alike.
    chosen: BTreeMap<Kind<'i>, Choice>,
}

/// All of an item that matters for whom to ask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind<'i> {
    block: u64,
    block_to_live: u64,
    has_tx_id: bool,
    collection: CollectionName<'i>,
    asked_len: usize,
    member_orgs: &'i BTreeSet<OrgId>,
    wrong: &'i BTreeSet<PkiId>,
    endorsers: &'i [Bytes],
    asked: &'i BTreeSet<PkiId>,
}

/// How good a source a peer is, the best first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Endorser,
    Member,
    Newcomer,
}

impl<'a, P: Ports> Sources<'a, P> {
    pub(super) fn new(
        now: Moment,
        around: &Around<'a, P>,
        doubts: &Doubts,
        asked: impl Iterator<Item = PkiId>,
        life: Life,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let mut requests: BTreeMap<PkiId, usize> = BTreeMap::new();
        for peer in asked {
            *requests.entry(peer).or_default() += 1;
        }
        let mut peers = around.channel.peers(around.view);
        peers.shuffle(rng);
        let source = |peer: ChannelPeer<'a>| Source {
            is_in_doubt: doubts.is_in_doubt(now, &peer.member.peer),
            requests: requests.get(&peer.member.peer).copied().unwrap_or(0),
            peer,
        };
        Self {
            channel: around.channel.id(),
            ports: around.ports,
            peers: peers.into_iter().map(source).collect(),
            life,
            requests: requests.values().sum(),
        }
    }

    pub(super) fn chooser<'s, 'i>(&'s mut self) -> Chooser<'s, 'a, 'i, P> {
        Chooser {
            sources: self,
            entitled: BTreeMap::new(),
            digests: BTreeMap::new(),
            chosen: BTreeMap::new(),
        }
    }

    pub(super) fn destination(&self, source: usize) -> Option<Destination> {
        let source = self.peers.get(source)?;
        Some(source.peer.member.destination())
    }
}

impl<'i, P: Ports> Chooser<'_, '_, 'i, P> {
    pub(super) fn choose(&mut self, item: &'i Item) -> Choice {
        let kind = Kind::of(item);
        match self.chosen.get(&kind).copied() {
            // It has enough to answer by now.
            Some(Choice::Ask(index)) if !self.book(index) => {}
            Some(choice) => return choice,
            None => {}
        }
        let choice = self.choose_anew(item);
        self.chosen.insert(kind, choice);
        choice
    }

    fn choose_anew(&mut self, item: &'i Item) -> Choice {
        if self.sources.life.is_over(&item.wanted) {
            return Choice::Nowhere(Missing::Expired);
        }
        let mut is_full = false;
        let may_go_on = item.asked.len() < ASKED_MAX;
        for is_in_doubt in [false, true] {
            for class in [Class::Endorser, Class::Member, Class::Newcomer] {
                for index in 0..self.sources.peers.len() {
                    let source = &self.sources.peers[index];
                    if !may_go_on
                        || source.is_in_doubt != is_in_doubt
                        || !self.sources.life.is_fit(item, &source.peer)
                        || !self.is_of(class, item, index)
                    {
                        continue;
                    }
                    if self.book(index) {
                        return Choice::Ask(index);
                    }
                    is_full = true;
                }
            }
        }
        if is_full {
            Choice::Wait
        } else {
            self.conclude(item)
        }
    }

    /// Takes a place in a request to this peer, unless it has enough to answer.
    fn book(&mut self, index: usize) -> bool {
        let source = &mut self.sources.peers[index];
        match self.digests.get_mut(&index) {
            Some(digests) if *digests < DIGESTS_ASKED_MAX => *digests += 1,
            Some(_) => return false,
            None if source.requests >= REQUESTS_PER_PEER_MAX => return false,
            None if self.sources.requests >= REQUESTS_MAX => return false,
            None => {
                source.requests += 1;
                self.sources.requests += 1;
                self.digests.insert(index, 1);
            }
        }
        true
    }

    fn is_of(&mut self, class: Class, item: &'i Item, index: usize) -> bool {
        let wanted = &item.wanted;
        let identity = &self.sources.peers[index].peer.info.identity;
        let is_member = wanted.member_orgs.contains(&identity.org);
        let is_endorser = is_member && wanted.endorsers.contains(&identity.serialized);
        match class {
            Class::Endorser => is_endorser,
            Class::Member => is_member && !is_endorser && self.is_entitled(item, index),
            Class::Newcomer => !is_member && self.is_entitled(item, index),
        }
    }

    fn is_entitled(&mut self, item: &'i Item, index: usize) -> bool {
        let Sources {
            channel,
            ports,
            peers,
            ..
        } = &*self.sources;
        let name = item.wanted.collection();
        let answer = self.entitled.entry((name, index));
        *answer.or_insert_with(|| {
            let info = peers[index].peer.info;
            ports.is_entitled(channel, name, Terms::Latest, info)
        })
    }

    /// Nobody can be asked now. Whether somebody can be later depends on why: data that all who
    /// may have it have outlived, or give in another form, will not come.
    fn conclude(&mut self, item: &'i Item) -> Choice {
        let (mut any_past, mut any_wrong) = (false, false);
        for index in 0..self.sources.peers.len() {
            let classes = [Class::Endorser, Class::Member, Class::Newcomer];
            if !classes.into_iter().any(|c| self.is_of(c, item, index)) {
                continue;
            }
            let peer = &self.sources.peers[index].peer;
            if item.wrong.contains(&peer.member.peer) {
                any_wrong = true;
            } else if self.sources.life.is_past(&item.wanted, peer) {
                any_past = true;
            } else {
                return Choice::Exhausted;
            }
        }
        match (any_wrong, any_past) {
            (true, _) => Choice::Nowhere(Missing::Differs),
            (false, true) => Choice::Nowhere(Missing::Expired),
            (false, false) => Choice::Exhausted,
        }
    }
}

impl<'i> Kind<'i> {
    fn of(item: &'i Item) -> Self {
        let Item {
            wanted,
            asked,
            wrong,
            ..
        } = item;
        Self {
            block: wanted.digest.block,
            block_to_live: wanted.block_to_live,
            has_tx_id: !wanted.digest.tx_id.is_empty(),
            collection: wanted.collection(),
            asked_len: asked.len(),
            member_orgs: &wanted.member_orgs,
            wrong,
            endorsers: &wanted.endorsers,
            asked,
        }
    }
}

impl Life {
    /// Whether blocks prove that this data has reached its end.
    fn is_over(self, wanted: &Wanted) -> bool {
        let last = wanted.digest.block.saturating_add(wanted.block_to_live);
        wanted.block_to_live != 0 && self.chain_height > last.saturating_add(1)
    }

    /// Whether a peer says of itself that it has outlived this data, or will soon have. What it
    /// says counts for nobody else: heights can be invented.
    fn is_past(self, wanted: &Wanted, peer: &ChannelPeer<'_>) -> bool {
        let last = wanted.digest.block.saturating_add(wanted.block_to_live);
        wanted.block_to_live != 0 && peer.info.height.saturating_add(self.margin) >= last
    }

    /// Whether this peer may have this and was not asked in vain.
    fn is_fit(self, item: &Item, peer: &ChannelPeer<'_>) -> bool {
        let (digest, id) = (&item.wanted.digest, &peer.member.peer);
        // Without a transaction id peers look into their ledgers only.
        let is_behind = digest.tx_id.is_empty() && peer.info.height <= digest.block;
        !is_behind
            && !item.asked.contains(id)
            && !item.wrong.contains(id)
            && !self.is_past(&item.wanted, peer)
    }
}
