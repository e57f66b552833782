//! A block goes down its trees, and who does not acknowledge is noticed.

use std::collections::VecDeque;

use super::{
    Dissemination, Effect,
    block::{Block, Group, Way, bit},
    message::{Chunk, Class, Cut, Digest, Have, Message, Suspicion},
    parameters::{GROUPS_MAX, QUEUED_PER_MEMBER_MAX},
    timers::Timer,
    view::Places,
};
use crate::id::{Moment, PkiId};

/// An acknowledgement that did not come yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    way: Way,
    position: usize,
    /// Of what is said about the block.
    id: (Digest, Cut),
    is_first: bool,
    /// Nothing else of the kind was awaited since.
    is_alone: bool,
    /// When it was sent for the first time.
    since: Moment,
    due: Moment,
}

impl Awaited {
    pub(super) fn since(&self) -> Moment {
        self.since
    }
}

/// What a member gets in its place of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    Payload,
    /// A digest; we send to its children in its place.
    Digest,
    /// Nothing; we send to its children in its place.
    Nothing,
}

impl Dissemination {
    /// Chooses the trees for what of a block has not travelled yet. False if there are none.
    pub(super) fn prepare(&mut self, now: Moment, number: u64, root: PkiId) -> bool {
        let Some(view) = self.views.in_use(now, &root) else {
            return false;
        };
        let latency = self.latency();
        let len_max = self.parameters.len_max();
        let Some(block) = self.blocks.get_mut(&number) else {
            return false;
        };
        let Some(group) = block.group.as_mut() else {
            return false;
        };
        if !group.cut.is_sound(len_max) {
            return false;
        }
        let mut shape = self
            .parameters
            .shape(view.members.len(), group.cut, latency);
        if self.uplink.is_sending() {
            // The last block is still leaving. Whoever gets this one has an uplink as well.
            shape.root_cap = 1;
        }
        let way = Way {
            epoch: view.epoch,
            shape,
        };
        for stripe_way in &mut group.ways {
            stripe_way.get_or_insert(way);
        }
        block.was_injected = true;
        true
    }

    /// Sends a stripe to our children in its tree, once.
    pub(super) fn forward(&mut self, now: Moment, number: u64, stripe: u8, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        if block.waits {
            return;
        }
        let was_injected = block.was_injected;
        let Some(group) = &mut block.group else {
            return;
        };
        let cut = group.cut;
        let Some(way) = group
            .way(stripe)
            .filter(|_| group.forwarded & bit(stripe) == 0)
        else {
            return;
        };
        group.forwarded |= bit(stripe);
        let Some(places) = self.places(number, way) else {
            return;
        };
        let own = places.position(stripe, cut.stripes(), &self.me);
        let top = (was_injected && places.view.is_plainly_led()).then_some(0);
        if let Some(position) = top.or(own) {
            self.send_children(now, (number, stripe), way, &places, position, out);
        }
    }

    fn send_children(
        &mut self,
        now: Moment,
        (number, stripe): (u64, u8),
        way: Way,
        places: &Places,
        position: usize,
        out: &mut Vec<Effect>,
    ) {
        let Some(cut) = self.cut(number) else {
            return;
        };
        let below = |q: usize| {
            places
                .tree
                .children(q)
                .iter()
                .rev()
                .map(|q| usize::from(*q))
        };
        let mut next: Vec<usize> = below(position).collect();
        while let Some(q) = next.pop() {
            let Some((peer, class)) = places.node(stripe, cut.stripes(), q) else {
                continue;
            };
            match self.gets(now, &peer, class) {
                Gets::Payload => {
                    self.send_chunk(now, peer, (number, stripe), way, false, out);
                    if places.tree.is_inner(q) {
                        self.await_ack(now, (number, stripe, peer), way, q, None);
                    }
                }
                Gets::Digest => {
                    self.send_digest(now, peer, number, out);
                    next.extend(below(q));
                }
                Gets::Nothing => next.extend(below(q)),
            }
        }
    }

    fn gets(&self, now: Moment, peer: &PkiId, class: Class) -> Gets {
        let Some(neighbour) = self.neighbours.find(peer) else {
            // Ourselves in place of a plain root, or whom the membership has dropped.
            return Gets::Nothing;
        };
        if neighbour.is_down {
            return Gets::Nothing;
        }
        let is_suspect = neighbour.seen.unwrap_or(class) == Class::Suspect
            || neighbour.is_congested
            || neighbour.is_distrusted(now)
            || self.uplink.queued_for(*peer) >= QUEUED_PER_MEMBER_MAX;
        if is_suspect {
            Gets::Digest
        } else {
            Gets::Payload
        }
    }

    /// How a block is cut, if that is known.
    pub(super) fn cut(&self, number: u64) -> Option<Cut> {
        let group = self.blocks.get(&number)?.group.as_ref()?;
        Some(group.cut)
    }

    fn send_chunk(
        &mut self,
        now: Moment,
        to: PkiId,
        (number, stripe): (u64, u8),
        way: Way,
        resend: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let Some((hash, cut)) = block.group.as_ref().map(|group| (group.hash, group.cut)) else {
            return;
        };
        let Some(payload) = block.payload(cut, stripe) else {
            return;
        };
        if resend {
            self.counters.resent += 1;
        } else {
            self.counters.sent += 1;
        }
        let chunk = Chunk {
            epoch: way.epoch,
            number,
            hash,
            cut,
            stripe,
            shape: way.shape,
            repair: false,
            resend,
            payload,
        };
        self.send(now, to, Message::Chunk(chunk), out);
    }

    /// In place of payload, once for each block.
    fn send_digest(&mut self, now: Moment, to: PkiId, number: u64, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let Some((hash, cut)) = block.group.as_ref().map(|group| (group.hash, group.cut)) else {
            return;
        };
        if block.digests.insert(to) {
            let have = have(number, (hash, cut), 0, false);
            self.send(now, to, have, out);
        }
    }

    pub(super) fn await_ack(
        &mut self,
        now: Moment,
        key: (u64, u8, PkiId),
        way: Way,
        position: usize,
        first: Option<Moment>,
    ) {
        let (number, _, peer) = key;
        let group = self.blocks.get(&number).and_then(|b| b.group.as_ref());
        let Some(id) = group.map(Group::id) else {
            return;
        };
        let due = now + self.patience(&peer, id.1);
        let all = self.acks.entry(key).or_default();
        if all.len() >= GROUPS_MAX {
            all.pop_front();
        }
        all.iter_mut().for_each(|other| other.is_alone = false);
        let is_alone = all.is_empty();
        all.push_back(Awaited {
            way,
            position,
            id,
            is_first: first.is_none(),
            is_alone,
            since: first.unwrap_or(now),
            due,
        });
        self.await_next(key);
    }

    /// Waits for the oldest of what a member should acknowledge of a stripe.
    fn await_next(&mut self, key: (u64, u8, PkiId)) {
        let (number, stripe, peer) = key;
        let timer = Timer::Ack(number, stripe, peer);
        match self.acks.get(&key).and_then(|all| all.front()) {
            Some(awaited) => self.timers.arm(timer, awaited.due),
            None => {
                self.acks.remove(&key);
                self.timers.cancel(timer);
            }
        }
    }

    /// It does not say what of: where several things are said about a block, the oldest counts.
    pub(super) fn acknowledged(&mut self, now: Moment, from: PkiId, number: u64, stripe: u8) {
        let key = (number, stripe, from);
        let awaited = self.acks.get_mut(&key).and_then(VecDeque::pop_front);
        if let Some(awaited) = awaited {
            if let Some(neighbour) = self.neighbours.find_mut(&from) {
                neighbour.misses = 0;
            }
            if awaited.is_alone {
                let took = now.since(awaited.since);
                self.neighbours.note_ack(&from, took);
                self.note_ack(now, from, took);
            }
        }
        self.await_next(key);
    }

    pub(super) fn unacknowledged(
        &mut self,
        now: Moment,
        number: u64,
        stripe: u8,
        peer: PkiId,
        out: &mut Vec<Effect>,
    ) {
        let key = (number, stripe, peer);
        let awaited = self.acks.get_mut(&key).and_then(VecDeque::pop_front);
        self.await_next(key);
        let Some(awaited) = awaited else {
            return;
        };
        let Awaited {
            way,
            position,
            id,
            is_first,
            is_alone,
            since,
            ..
        } = awaited;
        if self.neighbours.find(&peer).is_none() {
            return;
        }
        let Some(before) = self.turn_to(number, id) else {
            // Something else is the block, or gave way.
            return;
        };
        // Junk is refused without a word, by those who know better; and of several things sent it may
        // be this one that was acknowledged.
        let is_sure = |block: &Block| is_alone && (block.whole().is_some() || !block.is_contested);
        let is_missed = self.blocks.get(&number).is_some_and(is_sure);
        let mut misses = 0;
        if let Some(neighbour) = self.neighbours.find_mut(&peer) {
            neighbour.misses = neighbour.misses.saturating_add(u32::from(is_missed));
            misses = neighbour.misses;
        }
        if is_missed {
            self.report(now, peer, Suspicion::Silent, out);
        }
        if misses < 3 && is_first {
            self.send_chunk(now, peer, (number, stripe), way, true, out);
            self.await_ack(now, key, way, position, Some(since));
        }
        if !is_first || misses >= 2 {
            self.warn_children(now, (number, stripe), way, position, out);
        }
        self.turn_to(number, before);
    }

    /// Does what follows about this group of a block, if it is there; says about which it was done.
    pub(super) fn turn_to(&mut self, number: u64, id: (Digest, Cut)) -> Option<(Digest, Cut)> {
        let block = self.blocks.get_mut(&number)?;
        let before = block.group.as_ref().map(Group::id)?;
        block.turn_to(id).then_some(before)
    }

    /// Tells those that a position should have sent a stripe to that we have it.
    pub(super) fn warn_children(
        &mut self,
        now: Moment,
        (number, stripe): (u64, u8),
        way: Way,
        position: usize,
        out: &mut Vec<Effect>,
    ) {
        let Some(places) = self.places(number, way) else {
            return;
        };
        let group = self.blocks.get(&number).and_then(|b| b.group.as_ref());
        let Some((hash, cut)) = group.map(|group| (group.hash, group.cut)) else {
            return;
        };
        for child in places.tree.children(position) {
            let node = places.node(stripe, cut.stripes(), usize::from(*child));
            if let Some((peer, _)) = node.filter(|(peer, _)| *peer != self.me) {
                let have = have(number, (hash, cut), bit(stripe), true);
                self.send(now, peer, have, out);
            }
        }
    }
}

pub(super) fn have(number: u64, (hash, cut): (Digest, Cut), stripes: u64, urgent: bool) -> Message {
    Message::Have(Have {
        number,
        hash,
        stripes,
        cut,
        urgent,
    })
}
