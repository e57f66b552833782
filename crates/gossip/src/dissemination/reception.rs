//! Chunks and whole blocks come in.

use super::{
    Dissemination, Effect, Leader, Origin,
    block::{Announcer, Block, Group, Piece, State, Way, bit},
    forward::have,
    message::{Chunk, Cut, Digest, Have, Message},
    parameters::{HAVE_FANOUT, OPEN_BYTES_MAX, OPEN_MAX, OPEN_PER_MEMBER_MAX, TAKEOVERS_MAX},
    refused, shape,
    timers::Timer,
    view::Places,
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
            // Durable long ago, or too far ahead: state transfer's business. Who is told that we
            // have it does not send it again.
            if number < self.height && !chunk.repair {
                let ack = Message::Ack {
                    number,
                    stripe: chunk.stripe,
                };
                self.send(now, from, ack, out);
            }
            return;
        }
        let way = Way {
            epoch: chunk.epoch,
            shape: chunk.shape,
        };
        let places = self.places(number, way);
        if chunk.repair {
            let block = self.blocks.get(&number);
            if !block.is_some_and(|block| block.asked_of.contains(&from)) {
                let reason = format!("it answers about block {number} what it was not asked");
                out.push(refused(from, "S-T4", reason));
                return;
            }
        } else {
            let Some(places) = &places else {
                self.keep_stray(now, from, chunk, out);
                return;
            };
            if !self.is_above(places, &chunk, &from) {
                let reason = format!("it is not above us in the tree of block {number}");
                out.push(refused(from, "S-T3", reason));
                self.blame(now, from, out);
                return;
            }
            let own = places.position(chunk.stripe, chunk.cut.stripes(), &self.me);
            if !own.is_some_and(|own| places.tree.is_inner(own)) {
                // Leaves do not acknowledge.
            } else if self.has_room(number, &from) && self.is_of_use(&chunk) {
                let ack = Message::Ack {
                    number,
                    stripe: chunk.stripe,
                };
                self.send(now, from, ack, out);
            }
        }
        if !self.has_room(number, &from) {
            let reason = format!("there is no room for block {number}");
            out.push(refused(from, "S-T5", reason));
            return;
        }
        self.last_block = Some(now);
        self.begin_status(now);
        self.keep_chunk(now, from, chunk, way, places.as_ref(), out);
    }

    /// Whether a chunk is kept, or was before: only then may its sender rely on us for it.
    fn is_of_use(&self, chunk: &Chunk) -> bool {
        let block = self.blocks.get(&chunk.number);
        block.is_none_or(|block| block.is_of_use(chunk))
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

    /// Whether one more chunk of this block may be kept, sent by this member.
    pub(super) fn has_room(&self, number: u64, from: &PkiId) -> bool {
        if let Some(block) = self.blocks.get(&number)
            && block.group.is_some()
        {
            return true;
        }
        if number == self.prefix() {
            return true;
        }
        let mut open = 0;
        let mut by_sender = 0;
        for block in self.blocks.values().filter(|block| !block.is_settled()) {
            open += 1;
            by_sender += usize::from(block.opener == Some(*from));
        }
        open < OPEN_MAX && by_sender < OPEN_PER_MEMBER_MAX && self.open_bytes() < OPEN_BYTES_MAX
    }

    fn keep_chunk(
        &mut self,
        now: Moment,
        from: PkiId,
        chunk: Chunk,
        way: Way,
        places: Option<&Places>,
        out: &mut Vec<Effect>,
    ) {
        let (number, stripe) = (chunk.number, chunk.stripe);
        let block = self.blocks.entry(number).or_insert_with(|| Block::new(now));
        if matches!(block.state, State::Ignored) {
            self.fetch_again(now, number, out);
            return;
        }
        let is_travelling = !chunk.repair && places.is_some();
        let is_whole = block.whole().is_some();
        if !adopt(block, &chunk) {
            self.contradicted(now, from, number, out);
            return;
        }
        let Some(group) = block.group.as_mut().filter(|group| group.cut == chunk.cut) else {
            let reason = format!("it cuts block {number} unlike others");
            out.push(refused(from, "S-T2", reason));
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
        if let Some(slot) = group.pieces.get_mut(usize::from(stripe)) {
            *slot = Some(Piece {
                payload: chunk.payload,
                from,
            });
        }
        let k = group.cut.k;
        let was_hearsay = block.is_hearsay();
        block.last = now;
        let is_first = block.first.is_none();
        block.first.get_or_insert(now);
        let is_anew = was_hearsay && is_travelling && block.begin_anew(now);
        if is_anew {
            self.timers.cancel(Timer::Retry(number));
        }
        block.opener.get_or_insert(from);
        let asked = block.asked;
        if k == 1 && is_travelling {
            self.notice_gap(now, number, from);
        }
        if (is_first || is_anew) && k > 1 {
            let model = self.model(number);
            let wait = self.estimates.wait(model);
            self.timers.arm(Timer::Spread(number), now + wait);
        }
        if k > 1 && (!chunk.repair || !asked) {
            self.forward(now, number, stripe, out);
        } else if k > 1 {
            self.warn_own_children(now, number, stripe, out);
        }
        self.judge(number, from, out);
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
            .filter(|_| block.forwarded & bit(stripe) == 0)
        else {
            return;
        };
        let Some(places) = self.places(number, way) else {
            return;
        };
        let own = places.position(stripe, stripes, &self.me);
        if let Some(own) = own.filter(|own| places.tree.is_inner(*own)) {
            if let Some(block) = self.blocks.get_mut(&number) {
                block.forwarded |= bit(stripe);
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
                .raise(model, since(block.first_have), since(block.first));
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
        if number.saturating_add(super::KEPT_MAX) < self.height {
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
        self.convict(now, number, hash, out);
        let block = self.blocks.entry(number).or_insert_with(|| Block::new(now));
        let is_other = block.group.as_ref().is_some_and(|group| group.hash != hash);
        let is_contested = is_other && block.has_travelled();
        if is_other || block.group.is_none() {
            block.group = Some(Group::new(hash, cut));
            block.forwarded = 0;
        }
        self.last_block = Some(now);
        self.begin_status(now);
        let was_travelling = self.blocks.get(&number).is_some_and(Block::has_travelled);
        let leads = origin == Origin::Ordered && self.leader == Leader::Me && !is_contested;
        let leads = leads && self.carries(now, whole.bytes.len());
        let is_root = leads && self.prepare(now, number, self.me);
        self.finish(now, number, whole, out);
        if is_root {
            self.note_injection();
        } else {
            self.announce(now, number, out);
            if !was_travelling && !is_contested {
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
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        if !block.asked && block.first.is_some() {
            let lag = block
                .first_have
                .map_or_else(Default::default, |at| now.since(at));
            let spread = block.first.map(|at| now.since(at));
            self.estimates.learn(model, lag, spread);
        }
        block.state = State::Whole(whole);
        block.completed = Some(now);
        block.announcers.clear();
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

/// Makes the chunk's group the block's, if there is none; false if it is of another.
fn adopt(block: &mut Block, chunk: &Chunk) -> bool {
    let fresh = || Group::new(chunk.hash, chunk.cut);
    let is_whole = block.whole().is_some();
    let has_travelled = block.has_travelled();
    match &mut block.group {
        None => block.group = Some(fresh()),
        Some(group) if group.hash != chunk.hash => return false,
        Some(group) if group.cut != chunk.cut && is_whole && !has_travelled => {
            // It came whole, so nobody had said how it is cut.
            let is_same_len = group.cut.len == chunk.cut.len;
            if is_same_len {
                *group = fresh();
                group.got = group.cut.all();
            }
        }
        Some(_) => {}
    }
    true
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
