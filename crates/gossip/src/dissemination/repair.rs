//! Who misses something learns it from digests, and asks.

use std::time::Duration;

use rand::RngExt;

use super::{
    Dissemination, Effect,
    above::ASK_ROOT_AT,
    block::{ASKED_OF_MAX, Announcer, Block, Group, State, stripes_of},
    message::{Chunk, Class, Cut, Digest, Have, Message, Shape, Suspicion},
    parameters::{ASKED_MAX, FETCH_AFTER, GROUPS_MAX, PATIENCE_MAX},
    refused,
    timers::Timer,
};
use crate::id::{Moment, PkiId};

/// One block is fetched in the plain way at most so often.
const FETCH_PAUSE: Duration = Duration::from_secs(1);

/// Who announced what it did not give is not believed for so long. It may just be slow.
const DISBELIEF: Duration = Duration::from_secs(10);

/// Of a chunk that travels in no tree.
const NO_SHAPE: Shape = Shape {
    cap: 1,
    root_cap: 1,
    ratio: 0,
};

impl Dissemination {
    pub(super) fn take_have(
        &mut self,
        now: Moment,
        from: PkiId,
        have: Have,
        out: &mut Vec<Effect>,
    ) {
        let is_sound = have.cut.is_sound(self.parameters.len_max());
        let is_trusted = self
            .neighbours
            .find(&from)
            .is_some_and(|n| !n.is_distrusted(now));
        if !is_sound || !is_trusted || !self.is_near(have.number) {
            return;
        }
        let state = self.blocks.get(&have.number).map(|block| &block.state);
        match state {
            None | Some(State::Open) => {}
            Some(State::Ignored) => {
                self.fetch_again(now, have.number, out);
                if !self.reopen(now, &have) {
                    return;
                }
            }
            Some(_) => return,
        }
        let number = have.number;
        let announcer = Announcer {
            peer: from,
            hash: have.hash,
            cut: have.cut,
        };
        if have.urgent {
            self.take_urgent(now, announcer, have, out);
        } else {
            self.heard_of(now, number, announcer);
        }
        self.note_news(now, number);
    }

    /// Something else is said about a block than what it is not.
    fn reopen(&mut self, now: Moment, have: &Have) -> bool {
        let block = self.blocks.get_mut(&have.number);
        let Some(block) = block.filter(|block| !block.is_rejected((have.hash, have.cut))) else {
            return false;
        };
        block.state = State::Open;
        self.ask_anew(now, have.number);
        true
    }

    /// Asking begins anew, as soon as after an announcement; or goes on as it was.
    pub(super) fn ask_anew(&mut self, now: Moment, number: u64) {
        let model = self.model(number);
        let delta = self.estimates.delta(model);
        if let Some(block) = self.blocks.get_mut(&number)
            && block.begin_anew(now)
        {
            self.timers.arm(Timer::Retry(number), now + delta);
        }
    }

    /// Statuses go on for a block that is more than what one member says.
    pub(super) fn note_news(&mut self, now: Moment, number: u64) {
        let block = self.blocks.get(&number);
        if block.is_some_and(|block| !block.is_hearsay()) {
            self.last_block = Some(now);
            self.begin_status(now);
        }
    }

    /// Nobody else will send us this.
    fn take_urgent(
        &mut self,
        now: Moment,
        announcer: Announcer,
        have: Have,
        out: &mut Vec<Effect>,
    ) {
        let number = have.number;
        let block = self.blocks.entry(number).or_insert_with(|| Block::new(now));
        if block.requested_of.replace(have.hash) != Some(have.hash) {
            // Of another hash nothing was requested, whoever is right.
            block.requested = 0;
        }
        let mut wanted = have.stripes & have.cut.all() & !block.requested;
        let id = (have.hash, have.cut);
        if let Some(group) = block.find_group(id) {
            if group.is_enough() {
                return;
            }
            wanted &= !group.got;
        } else if block.is_rejected(id) {
            return;
        } else if block.groups().count() >= GROUPS_MAX {
            self.heard_of(now, number, announcer);
            return;
        }
        if wanted != 0 {
            block.requested |= wanted;
            self.request(now, number, announcer, wanted, out);
        }
    }

    /// Somebody has this block.
    pub(super) fn heard_of(&mut self, now: Moment, number: u64, announcer: Announcer) {
        let neighbour = self.neighbours.find(&announcer.peer);
        if neighbour.is_none_or(|n| now < n.disbelieved_until) {
            return;
        }
        let block = self.blocks.entry(number).or_insert_with(|| Block::new(now));
        block.first_have.get_or_insert(now);
        let was_hearsay = block.is_hearsay();
        block.announce(announcer);
        if was_hearsay && !block.is_hearsay() && block.cease_to_be_hearsay(now) {
            self.timers.cancel(Timer::Retry(number));
        }
        if !self.timers.is_armed(Timer::Have(number)) && !self.timers.is_armed(Timer::Retry(number))
        {
            let model = self.model(number);
            let delta = self.estimates.delta(model);
            self.timers.arm(Timer::Have(number), now + delta);
        }
    }

    pub(super) fn have_fell_due(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let model = self.model(number);
        let pause = self.estimates.delta(model) / 2;
        let Some(block) = self.blocks.get(&number) else {
            return;
        };
        if !matches!(block.state, State::Open) {
            return;
        }
        if block.first.is_some() && now.since(block.last) < pause {
            self.timers.arm(Timer::Have(number), block.last + pause);
        } else {
            self.ask(now, number, out);
        }
    }

    pub(super) fn spread_fell_due(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let model = self.model(number);
        let Some(block) = self.blocks.get(&number) else {
            return;
        };
        if !matches!(block.state, State::Open) || block.asked {
            return;
        }
        if !block.announcers.is_empty() {
            self.ask(now, number, out);
            return;
        }
        if !self.take_slot(number) {
            let again = self.estimates.wait(model);
            self.timers.arm(Timer::Spread(number), now + again);
            return;
        }
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        block.asked = true;
        let ids: Vec<_> = block.groups().map(Group::id).collect();
        let mut longest = model.patience;
        for id in &ids {
            self.turn_to(number, *id);
            longest = longest.max(self.ask_parents(now, number, *id, out) + model.patience);
        }
        if let Some(first) = ids.first() {
            self.turn_to(number, *first);
            self.timers.arm(Timer::Retry(number), now + longest);
        }
    }

    /// Makes it one of the few blocks that are being asked for, if it may be. An older one takes the
    /// place of a newer one, so the first that is missing always may. What one member says and
    /// nobody sends has places of its own: it may not exist, and be in no other's way.
    fn take_slot(&mut self, number: u64) -> bool {
        let Some(block) = self.blocks.get(&number) else {
            return false;
        };
        if block.has_slot {
            return true;
        }
        let is_alike = |other: &Block| other.is_hearsay() == block.is_hearsay();
        let open = self.blocks.iter().filter(|(_, block)| !block.is_settled());
        let holders = open.filter(|(_, other)| other.has_slot && is_alike(other));
        let holders: Vec<u64> = holders.map(|(number, _)| *number).collect();
        if holders.len() >= ASKED_MAX {
            let newest = holders.last().filter(|newest| **newest > number);
            let Some(newest) = newest.and_then(|newest| self.blocks.get_mut(newest)) else {
                return false;
            };
            newest.has_slot = false;
        }
        if let Some(block) = self.blocks.get_mut(&number) {
            block.has_slot = true;
        }
        true
    }

    /// Asks one member for what is missing, and again until it is here.
    pub(super) fn ask(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let model = self.model(number);
        match self.blocks.get(&number).map(|block| &block.state) {
            Some(State::Open) => {}
            Some(State::Ignored) => return self.fetch(now, number, out),
            _ => return,
        }
        if !self.take_slot(number) {
            let again = self.estimates.delta(model) + model.finish;
            self.timers.arm(Timer::Retry(number), now + again);
            return;
        }
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let is_first = !block.asked;
        block.asked = true;
        block.requested = 0;
        block.tries = block.tries.saturating_add(1);
        let tries = block.tries;
        let before = block.group.as_ref().map(Group::id);
        let announcer = block.turn_to_asked(tries);
        let known = block.group.as_ref().map(Group::id);
        if tries >= FETCH_AFTER {
            block.fetched = Some(now);
            out.push(Effect::Fetch(number));
        }
        let announcer = match tries % FETCH_AFTER {
            0 if block.is_hearsay() => {
                self.disbelieve(now, number, out);
                None
            }
            _ => announcer,
        };
        let missing = self.turn_to_announced(number, announcer);
        let first_missing = u8::try_from(missing.trailing_zeros()).unwrap_or(0);
        let parent = if is_first {
            self.parent(number, first_missing)
        } else {
            None
        };
        let root = match tries {
            ASK_ROOT_AT => self.root_of(number),
            _ => None,
        };
        let other = parent.or(root).or_else(|| self.anybody());
        let target = announcer.or_else(|| {
            other.map(|peer| match known {
                Some((hash, cut)) => Announcer { peer, hash, cut },
                None => Announcer::of_anything(peer),
            })
        });
        let cut = known.map_or(Cut { len: 1, k: 1, p: 0 }, |(_, cut)| cut);
        let mut wait = model.patience;
        if let Some(target) = target {
            wait = self.answer_time(&target.peer, cut, missing);
            self.request(now, number, target, missing, out);
        }
        let wait = wait
            .saturating_mul(backoff(tries))
            .min(wait.max(PATIENCE_MAX));
        self.timers.arm(Timer::Retry(number), now + wait);
        if let Some(before) = before {
            self.turn_to(number, before);
        }
    }

    /// How long this member may take for what it is asked for.
    fn answer_time(&mut self, peer: &PkiId, cut: Cut, missing: u64) -> Duration {
        // Bits beyond the stripes of the block are of no meaning to anybody.
        let count = missing.count_ones().min(u32::from(cut.k));
        let wait = self.patience(peer, cut) + self.parameters.chunk_time(cut) * 2 * count;
        let is_slow = |n: &super::neighbours::Neighbour| n.declared == Class::Slow;
        match self.neighbours.find(peer).is_some_and(is_slow) {
            true => wait * 10,
            false => wait,
        }
    }

    /// Has it fetched in the plain way; and again, if stripes have been given up for it.
    pub(super) fn fetch(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        block.fetched = Some(now);
        if matches!(block.state, State::Ignored) {
            self.timers.arm(Timer::Retry(number), now + PATIENCE_MAX);
        }
        out.push(Effect::Fetch(number));
    }

    /// Somebody speaks of a block that stripes will not bring: by now others may have it.
    pub(super) fn fetch_again(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let fetched = self.blocks.get(&number).and_then(|block| block.fetched);
        if fetched.is_none_or(|at| now.since(at) >= FETCH_PAUSE) {
            self.fetch(now, number, out);
        }
    }

    /// Nobody else announces it, and the one that does and goes on talking to us gives nothing of it.
    fn disbelieve(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        for Announcer { peer, .. } in std::mem::take(&mut block.announcers) {
            let Some(neighbour) = self.neighbours.find_mut(&peer) else {
                continue;
            };
            if neighbour.heard.is_some_and(|heard| heard > block.began) {
                neighbour.disbelieved_until = now + DISBELIEF;
                let reason = format!("it announces block {number} and does not give it");
                out.push(refused(peer, "S-T10", reason));
            }
        }
    }

    /// A member at random.
    pub(super) fn anybody(&mut self) -> Option<PkiId> {
        let count = self.neighbours.len();
        if count == 0 {
            return None;
        }
        let index = self.rng.random_range(0..count);
        self.neighbours.iter().nth(index).map(|(peer, _)| *peer)
    }

    pub(super) fn request(
        &mut self,
        now: Moment,
        number: u64,
        of: Announcer,
        stripes: u64,
        out: &mut Vec<Effect>,
    ) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        // What came first may be junk, of which an honest member has nothing.
        let is_open = block.is_contested && block.tries.is_multiple_of(2);
        let known = block.group.as_ref();
        let known = known.filter(|_| of.hash == Digest::ANY && !is_open);
        let (hash, cut) = known.map_or((of.hash, of.cut), Group::id);
        let stripes = if hash == Digest::ANY {
            u64::MAX
        } else {
            stripes
        };
        if block.asked_of.len() >= ASKED_OF_MAX {
            block.asked_of.pop_first();
        }
        block.asked_of.insert(of.peer);
        let request = Message::Request {
            number,
            hash,
            cut,
            stripes,
        };
        self.send(now, of.peer, request, out);
    }

    /// Answers what is here of what is asked for, within the member's budget.
    pub(super) fn serve(
        &mut self,
        now: Moment,
        from: PkiId,
        number: u64,
        (hash, cut, stripes): (Digest, Cut, u64),
        out: &mut Vec<Effect>,
    ) {
        self.seen_alive(now, from, out);
        let before = self.turn_to(number, (hash, cut));
        self.serve_front(now, from, number, (hash, cut, stripes), out);
        if let Some(before) = before {
            self.turn_to(number, before);
        }
    }

    fn serve_front(
        &mut self,
        now: Moment,
        from: PkiId,
        number: u64,
        (hash, cut, stripes): (Digest, Cut, u64),
        out: &mut Vec<Effect>,
    ) {
        let Some(group) = self
            .blocks
            .get(&number)
            .and_then(|block| block.group.as_ref())
        else {
            return;
        };
        let cut = if hash == Digest::ANY { group.cut } else { cut };
        let is_meant = hash == Digest::ANY || hash == group.hash;
        if !is_meant || !cut.is_sound(self.parameters.len_max()) {
            return;
        }
        let (hash, limit) = (group.hash, usize::from(cut.k));
        let is_judged = self.blocks.get(&number).map(|block| &block.state);
        if matches!(is_judged, Some(State::Judging))
            && stripes_of(stripes, cut)
                .nth(limit.saturating_sub(1))
                .is_some()
        {
            // Who gives all of a block vouches for it.
            return;
        }
        for stripe in stripes_of(stripes, cut).take(limit) {
            if self.uplink.is_queued((from, number, stripe)) {
                continue;
            }
            let Some(block) = self.blocks.get_mut(&number) else {
                return;
            };
            let way = block.group.as_ref().and_then(|group| group.way(stripe));
            let Some(neighbour) = self.neighbours.find_mut(&from) else {
                return;
            };
            // The limits come first, so that a request beyond them costs us no parity.
            let len = cut.payload_len(stripe);
            if !block.can_give(cut, stripe)
                || !block.may_serve(from, stripe, len)
                || !neighbour.may_have_chunk(now, len)
            {
                continue;
            }
            let Some(payload) = block.payload(cut, stripe) else {
                continue;
            };
            self.counters.served += 1;
            let chunk = Chunk {
                epoch: way.map_or(0, |way| way.epoch),
                number,
                hash,
                cut,
                stripe,
                shape: way.map_or(NO_SHAPE, |way| way.shape),
                repair: true,
                resend: false,
                payload,
            };
            self.send(now, from, Message::Chunk(chunk), out);
        }
    }

    /// A suspect asks, so it is there.
    fn seen_alive(&mut self, now: Moment, peer: PkiId, out: &mut Vec<Effect>) {
        let latest = self.views.latest();
        let listed = latest.and_then(|view| view.member(view.index(&peer)?));
        let Some(neighbour) = self.neighbours.find_mut(&peer) else {
            return;
        };
        let class = neighbour.seen.or_else(|| listed.map(|(_, class)| class));
        if class == Some(Class::Suspect) && !neighbour.is_distrusted(now) {
            neighbour.seen = Some(Class::Normal);
            self.report(now, peer, Suspicion::Alive, out);
        }
    }
}

/// How many times longer than an answer should take it is waited for: 1, 2, 4 and 4 times, which is
/// for what gets lost, and from then on twice as long each time. Whose downlink cannot keep up would
/// drown in second copies of what is already on its way.
fn backoff(tries: u32) -> u32 {
    match tries {
        0..=3 => 1 << tries.saturating_sub(1),
        _ => 1 << (tries - 2).min(16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_slowly_at_first() {
        let waits: Vec<u32> = (1..9).map(backoff).collect();
        assert_eq!(waits, [1, 2, 4, 4, 8, 16, 32, 64]);
        assert_eq!(backoff(u32::MAX), 1 << 16);
    }
}
