//! Chunks and whole blocks come in.

use super::{
    Dissemination, Effect, Leader, Origin,
    block::{Announcer, Block, Group, Piece, State, Way, bit},
    forward::have,
    message::{Chunk, Cut, Digest, Have, Message, Suspicion},
    parameters::{
        BEGUN_BYTES_MAX, HAVE_FANOUT, KEPT_MAX, OPEN_BYTES_MAX, OPEN_MAX, OPEN_PER_MEMBER_MAX,
        TAKEOVERS_MAX,
    },
    refused, shape,
    timers::Timer,
    view::{Known, Places},
};
use crate::{
    id::{Moment, PkiId},
    message::VerifiedBlock,
};

impl Dissemination {
    pub(super) fn take_chunk(
        &mut self,
        now: Moment,
        from: PkiId,
        chunk: Chunk,
        out: &mut Vec<Effect>,
    ) {
        if let Err(reason) = check(&chunk, self.parameters.len_max()) {
            out.push(refused(from, "S-T2", reason.to_owned()));
            return;
        }
        let is_distrusted = |n: &super::neighbours::Neighbour| n.is_distrusted(now);
        if self.neighbours.find(&from).is_none_or(is_distrusted) {
            return;
        }
        let number = chunk.number;
        if !self.blocks.contains_key(&number) && !self.is_near(number) {
            self.decline(now, from, &chunk, out);
            return;
        }
        let block = self.blocks.get(&number);
        let is_answer = block.is_some_and(|block| block.asked_of.contains(&from));
        if chunk.repair && !is_answer {
            let reason = format!("it answers about block {number} what it was not asked");
            out.push(refused(from, "S-T4", reason));
            return;
        }
        let way = Way {
            epoch: chunk.epoch,
            shape: chunk.shape,
        };
        let places = self.places(number, way);
        let mut injects = false;
        if !chunk.repair {
            let Some(places) = &places else {
                self.keep_stray(now, from, chunk, out);
                return;
            };
            if !self.is_above(places, &chunk, &from) {
                let reason = format!("it is not above us in the tree of block {number}");
                out.push(refused(from, "S-T3", reason));
                if self.leads_by(&places.view) {
                    self.blame(now, from, out);
                }
                return;
            }
            // Who was elected says itself what its block is.
            injects = self.leader == Leader::Peer(from) && places.injector(0) == Some(from);
            let own = places.position(chunk.stripe, chunk.cut.stripes(), &self.me);
            let is_inner = own.is_some_and(|own| places.tree.is_inner(own));
            // Leaves do not acknowledge.
            if is_inner && self.is_of_use(now, &chunk, &from, injects) {
                let ack = Message::Ack {
                    number,
                    stripe: chunk.stripe,
                };
                self.send(now, from, ack, out);
            }
        }
        if !self.has_room(&chunk, &from, injects) {
            let reason = format!("there is no room for block {number}");
            out.push(refused(from, "S-T5", reason));
            return;
        }
        self.last_block = Some(now);
        self.begin_status(now);
        self.keep_chunk(now, from, chunk, (way, places.as_ref(), injects), out);
    }

    /// The block is durable for long, or too far ahead: state transfer's business. Who is told that we
    /// have it does not send it again.
    fn decline(&mut self, now: Moment, from: PkiId, chunk: &Chunk, out: &mut Vec<Effect>) {
        let (number, stripe) = (chunk.number, chunk.stripe);
        if number < self.height && !chunk.repair {
            self.send(now, from, Message::Ack { number, stripe }, out);
        }
    }

    /// Whether a chunk is kept, or was before: only then may its sender rely on us for it.
    fn is_of_use(&self, now: Moment, chunk: &Chunk, from: &PkiId, injects: bool) -> bool {
        let block = self.blocks.get(&chunk.number);
        block.is_none_or(|block| block.has_place(now, chunk, from, injects))
            && self.has_room(chunk, from, injects)
    }

    /// Whether a view is by who leads now, or for it. Of the view of another nobody knows who else
    /// has the same: its author may have signed two, and only who does harm by it is to blame.
    pub(super) fn leads_by(&self, view: &Known) -> bool {
        match self.leader {
            Leader::Me | Leader::MeAmongOthers => view.root == self.me,
            Leader::Peer(leader) => view.root == leader,
            Leader::Unknown | Leader::Appointed => false,
        }
    }

    /// Whether this member may send us this stripe without being asked.
    fn is_above(&self, places: &Places, chunk: &Chunk, from: &PkiId) -> bool {
        let stripes = chunk.cut.stripes();
        let Some(own) = places.position(chunk.stripe, stripes, &self.me) else {
            return places.view.index(from).is_some();
        };
        let injects = |turn| places.injector(turn) == Some(*from);
        if places.view.is_plainly_led() && (0..TAKEOVERS_MAX).any(injects) {
            return true;
        }
        let theirs = places.position(chunk.stripe, stripes, from);
        theirs.is_some_and(|theirs| places.tree.is_above(theirs, own))
    }

    /// Whether one more chunk may be kept, sent by this member; `injects` if it injects the block.
    pub(super) fn has_room(&self, chunk: &Chunk, from: &PkiId, injects: bool) -> bool {
        let number = chunk.number;
        let block = self.blocks.get(&number);
        if number == self.prefix() || block.is_some_and(|block| block.whole().is_some()) {
            return true;
        }
        if self.open_bytes().saturating_add(chunk.payload.len()) > OPEN_BYTES_MAX {
            return false;
        }
        if block.is_some_and(|block| block.find_group((chunk.hash, chunk.cut)).is_some()) {
            return true;
        }
        let (mut open, mut by_sender) = (0, 0);
        let mut bytes = len_of(chunk.cut);
        for block in self.blocks.values().filter(|block| !block.is_settled()) {
            open += 1;
            let begun = block.groups().filter(|group| group.opener == Some(*from));
            let begun: Vec<usize> = begun.map(|group| len_of(group.cut)).collect();
            by_sender += usize::from(!begun.is_empty());
            bytes = begun
                .iter()
                .fold(bytes, |sum, len| sum.saturating_add(*len));
        }
        // Where nobody is elected, who injected the last block most likely injects this one.
        let is_appointed = matches!(self.leader, Leader::Appointed | Leader::MeAmongOthers);
        let injects = injects || (is_appointed && self.last_injector == Some(*from));
        open < OPEN_MAX && by_sender < OPEN_PER_MEMBER_MAX && (injects || bytes <= BEGUN_BYTES_MAX)
    }

    fn keep_chunk(
        &mut self,
        now: Moment,
        from: PkiId,
        chunk: Chunk,
        (way, places, injects): (Way, Option<&Places>, bool),
        out: &mut Vec<Effect>,
    ) {
        let number = chunk.number;
        let block = self.blocks.entry(number).or_insert_with(|| Block::new(now));
        let was_ignored = matches!(block.state, State::Ignored);
        let before = block.group.as_ref().map(Group::id);
        let is_known = block.find_group((chunk.hash, chunk.cut)).is_some();
        if !block.take_in(now, &chunk, from, injects) {
            match was_ignored {
                true => self.fetch_again(now, number, out),
                false => self.turn_away(now, from, &chunk, out),
            }
            return;
        }
        if !is_known && block.announcers.len() < 2 {
            block.forget_hearsay(now);
        }
        let is_travelling = !chunk.repair && places.is_some();
        if !is_known && is_travelling && (was_ignored || before.is_some()) {
            // What was asked for before this was something else. A cut block is waited for from now on,
            // and one that is not is judged.
            if matches!(block.state, State::Open) && block.begin_anew(now) {
                self.timers.cancel(Timer::Retry(number));
            }
        }
        self.put_in_group(now, from, chunk, (way, is_travelling, is_known), out);
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        if let Some(before) = before {
            block.turn_to(before);
        }
        if block.turn_to_best() {
            self.timers.cancel(Timer::Hashes(number));
        }
        self.judge(number, from, out);
    }

    /// There is no place for what may well be the block: it is asked for, and fetched beside.
    fn turn_away(&mut self, now: Moment, from: PkiId, chunk: &Chunk, out: &mut Vec<Effect>) {
        let number = chunk.number;
        self.contradicted(from, number, out);
        let id = (chunk.hash, chunk.cut);
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        if block.whole().is_some() || block.is_rejected(id) || block.find_group(id).is_some() {
            return;
        }
        block.is_contested = true;
        if matches!(block.state, State::Open) && block.tries > 1 {
            self.ask_anew(now, number);
        }
        let (hash, cut) = id;
        let peer = from;
        self.heard_of(now, number, Announcer { peer, hash, cut });
        self.fetch_again(now, number, out);
    }

    /// Puts a chunk where it belongs, which everything is done about now, and sends it on.
    fn put_in_group(
        &mut self,
        now: Moment,
        from: PkiId,
        chunk: Chunk,
        (way, is_travelling, is_known): (Way, bool, bool),
        out: &mut Vec<Effect>,
    ) {
        let (number, stripe) = (chunk.number, chunk.stripe);
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let is_whole = block.whole().is_some();
        let Some(group) = &mut block.group else {
            return;
        };
        if is_travelling && let Some(slot) = group.ways.get_mut(usize::from(stripe)) {
            slot.get_or_insert(way);
        }
        if group.has(stripe) || is_whole {
            if block.asked && !block.spurious {
                block.spurious = true;
                self.asked_too_early(now, number);
            }
            if is_whole || chunk.cut.k > 1 {
                self.forward(now, number, stripe, out);
            }
            return;
        }
        if let Some(expected) = &group.expected
            && expected.get(usize::from(stripe)) != Some(&Digest::of(&chunk.payload))
        {
            self.accuse(now, number, stripe, from, out);
            return;
        }
        group.got |= bit(stripe);
        if chunk.repair {
            group.repaired |= bit(stripe);
        }
        group.last = Some(now);
        if let Some(slot) = group.pieces.get_mut(usize::from(stripe)) {
            *slot = Some(Piece {
                payload: chunk.payload,
                from,
            });
        }
        let k = group.cut.k;
        let was_hearsay = block.is_hearsay();
        block.last = now;
        block.first.get_or_insert(now);
        let is_anew = was_hearsay && is_travelling && block.cease_to_be_hearsay(now);
        if is_anew {
            self.timers.cancel(Timer::Retry(number));
        }
        let asked = block.asked;
        if k == 1 && is_travelling {
            self.notice_gap(now, number, from);
        }
        if (!is_known || is_anew) && k > 1 {
            let model = self.model(number);
            let wait = self.estimates.wait(model);
            self.timers.arm(Timer::Spread(number), now + wait);
        }
        if k > 1 && (!chunk.repair || !asked) {
            self.forward(now, number, stripe, out);
        } else if k > 1 {
            self.warn_own_children(now, number, stripe, out);
        }
    }

    /// Whoever sends this block has most likely those before it. Blocks that are not cut are
    /// announced by nothing else but the next one, and by statuses.
    fn notice_gap(&mut self, now: Moment, number: u64, from: PkiId) {
        for before in self.prefix()..number {
            let block = self.blocks.get(&before);
            let is_unheard = |block: &Block| {
                matches!(block.state, State::Open)
                    && block.first.is_none()
                    && block.first_have.is_none()
            };
            if block.is_none_or(is_unheard) {
                self.heard_of(now, before, Announcer::of_anything(from));
            }
        }
    }

    /// We were repaired, so those below us may miss it too.
    fn warn_own_children(&mut self, now: Moment, number: u64, stripe: u8, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let Some(group) = &block.group else {
            return;
        };
        let stripes = group.cut.stripes();
        let Some(way) = group
            .way(stripe)
            .filter(|_| group.forwarded & bit(stripe) == 0)
        else {
            return;
        };
        let Some(places) = self.places(number, way) else {
            return;
        };
        let own = places.position(stripe, stripes, &self.me);
        if let Some(own) = own.filter(|own| places.tree.is_inner(*own)) {
            let block = self.blocks.get_mut(&number);
            if let Some(group) = block.and_then(|block| block.group.as_mut()) {
                group.forwarded |= bit(stripe);
            }
            self.warn_children(now, (number, stripe), way, own, out);
        }
    }

    /// Something asked for came by its tree after all.
    fn asked_too_early(&mut self, now: Moment, number: u64) {
        let model = self.model(number);
        if let Some(block) = self.blocks.get(&number) {
            let end = block.completed.unwrap_or(now);
            let since = |from: Option<Moment>| from.map(|from| end.since(from));
            self.estimates
                .raise(model, since(block.first_have), since(block.began_to_come()));
        }
    }

    /// A whole block is here that did not come by stripes.
    pub(super) fn take_whole(
        &mut self,
        now: Moment,
        whole: VerifiedBlock,
        hash: Digest,
        origin: Origin,
        out: &mut Vec<Effect>,
    ) {
        let number = whole.number;
        if number.saturating_add(KEPT_MAX) < self.height {
            return;
        }
        let len = u32::try_from(whole.bytes.len()).unwrap_or(u32::MAX);
        let k = self.parameters.stripes(len);
        // Parity of a single stripe is that stripe again.
        let p = if k > 1 { self.parity() } else { 0 };
        let cut = Cut { len, k, p };
        let block = self.blocks.entry(number).or_insert_with(|| Block::new(now));
        if block.whole().is_some() {
            return;
        }
        block.turn_to_whole(hash, cut);
        self.convict(now, number, hash, out);
        self.last_block = Some(now);
        self.begin_status(now);
        let was_travelling = self.blocks.get(&number).is_some_and(Block::has_travelled);
        let leads = origin == Origin::Ordered && self.leader.is_me();
        let leads = leads && self.carries(now, whole.bytes.len());
        let is_root = leads && self.prepare(now, number, self.me);
        if let Some(block) = self.blocks.get_mut(&number) {
            block.waits = is_root;
        }
        self.finish(now, number, whole, out);
        if is_root {
            self.inject(now, number, out);
        } else {
            self.announce(now, number, out);
            if !was_travelling {
                self.offer_to_injector(now, number, out);
            }
        }
    }

    /// The block is good: nothing of it is missing any more.
    pub(super) fn finish(
        &mut self,
        now: Moment,
        number: u64,
        whole: VerifiedBlock,
        out: &mut Vec<Effect>,
    ) {
        let model = self.model(number);
        let withholds = self.who_withheld(number);
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let first = block.began_to_come();
        if !block.asked && first.is_some() {
            let lag = block
                .first_have
                .map_or_else(Default::default, |at| now.since(at));
            let spread = first.map(|at| now.since(at));
            self.estimates.learn(model, lag, spread);
        }
        block.state = State::Whole(whole);
        block.completed = Some(now);
        block.announcers.clear();
        if block.is_contested {
            // What was given of something else does not count.
            block.served.clear();
        }
        let stripes = match &mut block.group {
            Some(group) => {
                group.got = group.cut.all();
                group.pieces.fill(None);
                group.cut.stripes()
            }
            None => 0,
        };
        for timer in [Timer::Have, Timer::Spread, Timer::Retry, Timer::Hashes] {
            self.timers.cancel(timer(number));
        }
        for stripe in 0..stripes {
            self.forward(now, number, stripe, out);
        }
        if let Some(parent) = withholds {
            self.report(now, parent, Suspicion::Silent, out);
        }
        self.sweep(now);
        self.give_to_wards(now, number, out);
    }

    /// Tells a few others, far from each other in the order of the block, that we have it.
    pub(super) fn announce(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get(&number) else {
            return;
        };
        let Some(group) = block.group.as_ref().filter(|_| !block.was_injected) else {
            return;
        };
        let (hash, cut) = (group.hash, group.cut);
        if cut.k == 1 && block.has_travelled() {
            // Two messages for one that carries it all: see `notice_gap`.
            return;
        }
        let of_way = group.way(0).and_then(|way| self.views.find(way.epoch));
        let Some(view) = of_way.or_else(|| self.views.latest()) else {
            return;
        };
        let order = self.drawer.order(&self.channel, &view, number);
        let Some(rank) = view.index(&self.me).and_then(|me| order.rank(me)) else {
            return;
        };
        for j in 0..HAVE_FANOUT {
            let other = (rank + 1 + (2 * j + 1) * order.len() / (2 * HAVE_FANOUT)) % order.len();
            let member = order.at(other).and_then(|index| view.member(index));
            if let Some((peer, _)) = member.filter(|(peer, _)| *peer != self.me) {
                self.send(
                    now,
                    peer,
                    have(number, (hash, cut), Have::COMPLETE, false),
                    out,
                );
            }
        }
    }
}

/// How long a block is that is cut so.
fn len_of(cut: Cut) -> usize {
    usize::try_from(cut.len).unwrap_or(usize::MAX)
}

/// Whether the fields of a chunk fit together.
fn check(chunk: &Chunk, len_max: u32) -> Result<(), &'static str> {
    let Chunk { cut, shape, .. } = chunk;
    if !cut.is_sound(len_max) {
        return Err("no block can be cut so");
    }
    if chunk.stripe >= cut.stripes() || chunk.payload.len() != cut.payload_len(chunk.stripe) {
        return Err("its payload is not that of a stripe");
    }
    if !chunk.repair && (shape.cap == 0 || shape.root_cap == 0 || shape.ratio > shape::RATIO_MAX) {
        return Err("no tree has such a shape");
    }
    Ok(())
}
