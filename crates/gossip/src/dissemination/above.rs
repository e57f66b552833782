//! Of whom what is missing is asked: of those above us in the trees, of the root, and of those who
//! announced it.

use std::time::Duration;

use super::{
    Dissemination, Effect,
    block::{Announcer, Block, Group, bit, stripes_of},
    message::{Cut, Digest},
};
use crate::id::{Moment, PkiId};

/// This request for a block that is under way goes to who injects it: others may all lack what the
/// first below it did not pass on. By then few ask.
pub(super) const ASK_ROOT_AT: u32 = 3;

/// So much of what was late may be another's fault: one stripe in four.
const LATE_SHARE: u32 = 4;

/// Of a block about which several things are said so many requests in a row go to announcers, so that
/// each of these things is asked for, and the next to somebody else.
const ANNOUNCERS_BETWEEN: u32 = 3;

/// One request in so many is for something else that is said about a block, if there is any.
const RIVALS_EVERY: u32 = 3;

impl Block {
    /// Turns to what is asked for now, so that everything is done about that. Says which of those who
    /// announced the block is asked, if it is one of them.
    pub(super) fn turn_to_asked(&mut self, tries: u32) -> Option<Announcer> {
        if tries > 1 && tries % RIVALS_EVERY == 1 {
            self.turn_to_nth(tries / RIVALS_EVERY);
        }
        // Whoever says that they have it are not all there are.
        let rounds = match self.is_contested {
            true => ANNOUNCERS_BETWEEN,
            false => u32::try_from(self.announcers.len()).unwrap_or(u32::MAX),
        };
        match self.group.as_ref().map(Group::id) {
            Some(_) if tries == ASK_ROOT_AT || tries.is_multiple_of(rounds.saturating_add(1)) => {
                None
            }
            // They may all have been told the same lie.
            Some(known) if tries % 2 == 1 => self.next_announcer(Some(known)),
            _ => self.next_announcer(None),
        }
    }
}

impl Dissemination {
    /// Who should have sent us a stripe that we had to get from another, though most else came in
    /// time: where more is late, it may be we who are slow.
    pub(super) fn who_withheld(&mut self, number: u64) -> Option<PkiId> {
        let block = self.blocks.get(&number)?;
        let group = block.group.as_ref().filter(|group| group.has_travelled())?;
        let cut = group.cut;
        let late = (group.repaired | !group.got) & cut.all();
        let is_little = late.count_ones() * LATE_SHARE <= u32::from(cut.stripes());
        if !block.asked || block.was_injected || !is_little {
            return None;
        }
        let senders: Vec<_> = stripes_of(late, cut)
            .map(|s| (s, group.sender(s)))
            .collect();
        let above = senders
            .into_iter()
            .map(|(s, from)| (self.parent(number, s), from));
        above
            .into_iter()
            .find_map(|(above, from)| above.filter(|above| from != Some(*above)))
    }

    /// Who should have sent us this stripe, if its tree is known.
    pub(super) fn parent(&mut self, number: u64, stripe: u8) -> Option<PkiId> {
        let group = self.blocks.get(&number)?.group.as_ref()?;
        let (stripes, way) = (group.cut.stripes(), group.way(stripe)?);
        let parent = self.places(number, way)?.parent(stripe, stripes, &self.me);
        parent.filter(|parent| *parent != self.me)
    }

    /// Who injected a block, as far as its chunks say.
    pub(super) fn root_of(&mut self, number: u64) -> Option<PkiId> {
        let way = self.blocks.get(&number)?.group.as_ref()?.way(0)?;
        let root = self.places(number, way)?.injector(0);
        root.filter(|root| *root != self.me)
    }

    /// Asks those above us for what is missing of the group that everything is done about. Says how
    /// long the answers may take.
    pub(super) fn ask_parents(
        &mut self,
        now: Moment,
        number: u64,
        (hash, cut): (Digest, Cut),
        out: &mut Vec<Effect>,
    ) -> Duration {
        let mut longest = Duration::ZERO;
        let missing = self.blocks.get(&number).map_or(0, Block::missing);
        for stripe in stripes_of(missing, cut) {
            if let Some(peer) = self.parent(number, stripe) {
                longest = longest.max(self.patience(&peer, cut));
                let of = Announcer { peer, hash, cut };
                self.request(now, number, of, bit(stripe), out);
            }
        }
        longest
    }

    /// Turns to what a member announced, if some of that is here, and says what is missing of it; or
    /// else of what everything is done about.
    pub(super) fn turn_to_announced(&mut self, number: u64, announcer: Option<Announcer>) -> u64 {
        let Some(block) = self.blocks.get_mut(&number) else {
            return 0;
        };
        match announcer.filter(|it| it.hash != Digest::ANY) {
            Some(Announcer { hash, cut, .. }) if !block.turn_to((hash, cut)) => u64::MAX,
            _ => block.missing(),
        }
    }
}
