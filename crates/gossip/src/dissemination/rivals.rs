//! What members say about one number: what identifies a block is vouched for by nobody before it is
//! here, so what comes first is not right for that.
//!
//! Promises that chunks are put together only with their like, that there are few such groups for
//! a number, and that no member alone keeps out what others say.

use super::{
    block::{Block, Group, Rejected, State},
    message::{Chunk, Cut, Digest},
    parameters::{BEGINNERS_MAX, BEGUN_EACH_MAX, GIVES_WAY_AFTER, GROUPS_MAX},
};
use crate::id::{Moment, PkiId};

impl Block {
    /// All that is said about it, the one first that everything is done about.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.group.iter().chain(&self.rivals)
    }

    pub(super) fn find_group(&self, id: (Digest, Cut)) -> Option<&Group> {
        self.groups().find(|group| group.id() == id)
    }

    /// It was looked at, or the root asked about it, and it is not the block.
    pub(super) fn is_rejected(&self, (hash, cut): (Digest, Cut)) -> bool {
        let is_it = |it: &Rejected| it.hash == hash && it.cut.is_none_or(|wrong| wrong == cut);
        self.rejected.iter().any(is_it)
    }

    /// From now on everything is done about this group. False if there is none such.
    pub(super) fn turn_to(&mut self, id: (Digest, Cut)) -> bool {
        if self.group.as_ref().is_some_and(|group| group.id() == id) {
            return true;
        }
        let Some(index) = self.rivals.iter().position(|group| group.id() == id) else {
            return false;
        };
        match &mut self.group {
            Some(group) => std::mem::swap(group, &mut self.rivals[index]),
            None => self.group = Some(self.rivals.swap_remove(index)),
        }
        true
    }

    /// Turns to each of the groups in turn.
    pub(super) fn turn_to_nth(&mut self, turn: u32) {
        let count = self.groups().count().max(1);
        let turn = usize::try_from(turn).unwrap_or(0) % count;
        let id = self.groups().nth(turn).map(Group::id);
        if let Some(id) = id {
            self.turn_to(id);
        }
    }

    /// Turns to the group that is nearest to being whole. While one is judged it stays with that,
    /// and one that is doubted waits for another that has all its chunks. Says whether it was doubted.
    pub(super) fn turn_to_best(&mut self) -> bool {
        let is_doubted = match self.state {
            State::Open => false,
            State::Doubted => true,
            State::Judging | State::Whole(_) | State::Ignored => return false,
        };
        let share =
            |group: &Group| u32::from(u8::MAX) * group.got.count_ones() / u32::from(group.cut.k);
        let best = self.rivals.iter().max_by_key(|group| share(group));
        let Some(best) = best.filter(|best| !is_doubted || best.is_enough()) else {
            return false;
        };
        if !is_doubted
            && self
                .group
                .as_ref()
                .is_some_and(|group| share(group) >= share(best))
        {
            return false;
        }
        self.turn_to(best.id());
        self.state = State::Open;
        is_doubted
    }

    /// Turns to the group that a chunk is of, which is begun if there is none. False if the chunk is
    /// of no use to us.
    pub(super) fn take_in(
        &mut self,
        now: Moment,
        chunk: &Chunk,
        from: PkiId,
        injects: bool,
    ) -> bool {
        let id = (chunk.hash, chunk.cut);
        if self.turn_to(id) {
            return true;
        }
        if !self.has_place(now, chunk, &from, injects) {
            return false;
        }
        let mut group = Group::new(chunk.hash, chunk.cut);
        if self.whole().is_some() {
            // It came whole, so nobody had said how it is cut.
            group.got = group.cut.all();
            self.group = Some(group);
            return true;
        }
        if self.groups().count() >= GROUPS_MAX {
            let Some(weakest) = self.weakest(now, injects) else {
                return false;
            };
            if self.turn_to(weakest) {
                self.group = None;
            }
        }
        if !chunk.repair {
            let begun = self.begun.entry(from).or_default();
            *begun = begun.saturating_add(1);
        }
        self.is_contested |= self.group.is_some() || !self.rejected.is_empty();
        group.opener = Some(from);
        (group.first, group.last) = (Some(now), Some(now));
        self.rivals.push(group);
        if matches!(self.state, State::Ignored) {
            self.state = State::Open;
        }
        self.turn_to(id)
    }

    /// Whether a chunk belongs to what is here or may begin something.
    pub(super) fn has_place(
        &self,
        now: Moment,
        chunk: &Chunk,
        from: &PkiId,
        injects: bool,
    ) -> bool {
        if let Some(group) = self.find_group((chunk.hash, chunk.cut)) {
            let expected = group.expected.as_ref();
            let expected = expected.and_then(|all| all.get(usize::from(chunk.stripe)));
            let is_good = |expected: &Digest| {
                group.has(chunk.stripe) || *expected == Digest::of(&chunk.payload)
            };
            return expected.is_none_or(is_good);
        }
        if self.whole().is_some() {
            let is_alike =
                |group: &Group| group.hash == chunk.hash && group.cut.len == chunk.cut.len;
            return !self.has_travelled() && self.group.as_ref().is_none_or(is_alike);
        }
        if self.is_rejected((chunk.hash, chunk.cut)) {
            return false;
        }
        let is_new = !self.begun.contains_key(from);
        let begun = self.begun.get(from).copied().unwrap_or(0);
        let may_begin = begun < BEGUN_EACH_MAX && (!is_new || self.begun.len() < BEGINNERS_MAX);
        let has_room = self.groups().count() < GROUPS_MAX || self.weakest(now, injects).is_some();
        // Who was asked is not one that only passed on what it was told.
        (may_begin || injects || chunk.repair) && has_room
    }

    /// The group that gives way to something else: one that did not go on for a while, or any if
    /// the one that injects says something else.
    fn weakest(&self, now: Moment, injects: bool) -> Option<(Digest, Cut)> {
        let gives_way = |group: &&Group| {
            injects || group.last.is_none_or(|at| now.since(at) >= GIVES_WAY_AFTER)
        };
        let is_fixed = !matches!(self.state, State::Open);
        let others = self
            .groups()
            .skip(usize::from(is_fixed && self.group.is_some()));
        let weakest = others.filter(gives_way).min_by_key(|group| group.last);
        weakest.map(Group::id)
    }

    /// Turns to what came of a block that is here whole: as it is cut here, or else as most of it
    /// came. It had none to send chunks to if it did not travel.
    pub(super) fn turn_to_whole(&mut self, hash: Digest, cut: Cut) {
        let alike = self
            .groups()
            .filter(|group| group.hash == hash && group.cut.len == cut.len);
        let best = alike.max_by_key(|group| (group.cut == cut, group.got.count_ones()));
        match best.map(Group::id) {
            Some(best) => {
                self.turn_to(best);
            }
            None => {
                let other = self.group.replace(Group::new(hash, cut));
                self.rivals.extend(other);
            }
        }
    }

    /// What everything was done about is not the block. Turns to the next, if there is one.
    /// `is_hash` if nothing with its hash is.
    pub(super) fn reject(&mut self, is_hash: bool) -> bool {
        let bringer = self.bringer().filter(|_| is_hash);
        if let Some(Group { hash, cut, .. }) = self.group.take() {
            let cut = (!is_hash).then_some(cut);
            if self.rejected.len() < BEGINNERS_MAX {
                self.rejected.push(Rejected { hash, cut, bringer });
            }
            let is_other = |group: &Group| group.hash != hash || cut.is_some();
            self.rivals.retain(is_other);
        }
        self.group = self.rivals.pop();
        self.requested = 0;
        self.state = if self.group.is_some() {
            State::Open
        } else {
            State::Ignored
        };
        self.turn_to_best();
        self.group.is_some()
    }
}
