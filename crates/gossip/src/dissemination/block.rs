//! What is here of one block, and what was done about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    message::{Cut, Digest, Hashes, Shape},
    parameters::{ANNOUNCERS_MAX, FETCH_AFTER, SERVED_AGAIN_MAX},
    parity,
};
use crate::{
    id::{Moment, PkiId},
    message::VerifiedBlock,
};

/// How often asking for one block may begin anew.
const BEGUN_ANEW_MAX: u8 = 3;

/// A block that comes later than this after one member announced it may not have existed then.
const HEARSAY_MAX: Duration = Duration::from_millis(250);

/// Members that may be served one block. More than ever miss one and ask the same.
const SERVED_TO_MAX: usize = 1024;

/// Members that may be asked for one block, all in all.
pub(super) const ASKED_OF_MAX: usize = 64;

/// The trees that a stripe travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) epoch: u64,
    pub(super) shape: Shape,
}

/// A chunk that is here.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) payload: Bytes,
    pub(super) from: PkiId,
}

/// Somebody said that it has a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcer {
    pub(super) peer: PkiId,
    pub(super) hash: Digest,
    pub(super) cut: Cut,
}

impl Announcer {
    /// It has the block, and how that is cut was not said.
    pub(super) fn of_anything(peer: PkiId) -> Self {
        let (hash, cut) = (Digest::ANY, Cut { len: 0, k: 0, p: 0 });
        Self { peer, hash, cut }
    }
}

/// How far a block has come.
#[derive(Debug)]
pub(super) enum State {
    /// Something is missing.
    Open,
    /// The node looks whether it is good.
    Judging,
    /// A chunk is bad; which one, the root is asked.
    Doubted,
    /// It is good.
    Whole(VerifiedBlock),
    /// Stripes will not bring it: members say different things about it.
    Ignored,
}

/// The chunks of one block that belong together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) hash: Digest,
    pub(super) cut: Cut,
    pub(super) got: u64,
    pub(super) pieces: Vec<Option<Piece>>,
    pub(super) ways: Vec<Option<Way>>,
    /// What the root says that the chunks are.
    pub(super) expected: Option<Vec<Digest>>,
    /// The epoch of the trees whose root says so.
    pub(super) vouched_by: Option<u64>,
    pub(super) parity: Option<Bytes>,
    /// Stripes that came as answers.
    pub(super) repaired: u64,
    /// Stripes that were sent on.
    pub(super) forwarded: u64,
    /// Who sent the first chunk.
    pub(super) opener: Option<PkiId>,
    /// When the first chunk came.
    pub(super) first: Option<Moment>,
    /// When something of it came that was new.
    pub(super) last: Option<Moment>,
}

/// What a block is not, as far as we could see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rejected {
    pub(super) hash: Digest,
    /// If only what is cut so is not.
    pub(super) cut: Option<Cut>,
    /// Who alone brought it.
    pub(super) bringer: Option<PkiId>,
}

/// What a member was given of a block because it asked.
#[derive(Debug)]
pub(super) struct Served {
    times: [u8; 33],
    bytes: usize,
}

impl Group {
    pub(super) fn new(hash: Digest, cut: Cut) -> Self {
        let stripes = usize::from(cut.stripes());
        Self {
            hash,
            cut,
            got: 0,
            pieces: vec![None; stripes],
            ways: vec![None; stripes],
            expected: None,
            vouched_by: None,
            parity: None,
            repaired: 0,
            forwarded: 0,
            opener: None,
            first: None,
            last: None,
        }
    }

    /// What it is told from others of the same number by.
    pub(super) fn id(&self) -> (Digest, Cut) {
        (self.hash, self.cut)
    }

    pub(super) fn has(&self, stripe: u8) -> bool {
        self.got & bit(stripe) != 0
    }

    pub(super) fn is_enough(&self) -> bool {
        self.got.count_ones() >= u32::from(self.cut.k)
    }

    /// Who sent this stripe.
    pub(super) fn sender(&self, stripe: u8) -> Option<PkiId> {
        let piece = self.pieces.get(usize::from(stripe))?.as_ref();
        piece.map(|piece| piece.from)
    }

    /// Some member sent a chunk of it.
    pub(super) fn has_travelled(&self) -> bool {
        self.ways.iter().any(Option::is_some)
    }

    /// The way of this stripe, else that of any other: a root has one for all.
    pub(super) fn way(&self, stripe: u8) -> Option<Way> {
        let own = self.ways.get(usize::from(stripe)).copied().flatten();
        own.or_else(|| self.ways.iter().flatten().next().copied())
    }

    pub(super) fn assemble(&self) -> Option<Bytes> {
        parity::assemble(self.cut, |stripe| {
            let piece = self.pieces.get(usize::from(stripe))?.as_ref();
            piece.map(|piece| &piece.payload)
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let pieces = self.pieces.iter().flatten();
        pieces.map(|piece| piece.payload.len()).sum()
    }
}

/// One block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) began: Moment,
    pub(super) state: State,
    /// The one that everything is done about.
    pub(super) group: Option<Group>,
    /// What else is said about this number.
    pub(super) rivals: Vec<Group>,
    /// How often members were the first to say something about it.
    pub(super) begun: BTreeMap<PkiId, u8>,
    pub(super) first: Option<Moment>,
    pub(super) last: Moment,
    pub(super) first_have: Option<Moment>,
    pub(super) completed: Option<Moment>,
    pub(super) announcers: Vec<Announcer>,
    next_announcer: usize,
    pub(super) requested: u64,
    pub(super) asked_of: BTreeSet<PkiId>,
    pub(super) asked: bool,
    /// It is one of the few that are being asked for.
    pub(super) has_slot: bool,
    /// What the stripes that were requested are of.
    pub(super) requested_of: Option<Digest>,
    pub(super) spurious: bool,
    pub(super) tries: u32,
    /// When it was last asked for in the plain way.
    pub(super) fetched: Option<Moment>,
    /// What it was said to be and is not.
    pub(super) rejected: Vec<Rejected>,
    /// More than one thing was said about it.
    pub(super) is_contested: bool,
    /// How often asking began anew.
    begun_anew: u8,
    pub(super) digests: BTreeSet<PkiId>,
    pub(super) blamed: BTreeSet<PkiId>,
    pub(super) was_injected: bool,
    /// We inject it when members are ready.
    pub(super) waits: bool,
    /// What we signed about its chunks.
    pub(super) hashes: Option<Arc<Hashes>>,
    pub(super) served: BTreeMap<PkiId, Served>,
}

impl Block {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            began: now,
            state: State::Open,
            group: None,
            rivals: Vec::new(),
            begun: BTreeMap::new(),
            first: None,
            last: now,
            first_have: None,
            completed: None,
            announcers: Vec::new(),
            next_announcer: 0,
            requested: 0,
            asked_of: BTreeSet::new(),
            asked: false,
            has_slot: false,
            requested_of: None,
            spurious: false,
            tries: 0,
            fetched: None,
            rejected: Vec::new(),
            is_contested: false,
            begun_anew: 0,
            digests: BTreeSet::new(),
            blamed: BTreeSet::new(),
            was_injected: false,
            waits: false,
            hashes: None,
            served: BTreeMap::new(),
        }
    }

    /// Nothing will be done about it any more, or is to be done now.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Whole(_) | State::Ignored)
    }

    pub(super) fn whole(&self) -> Option<&VerifiedBlock> {
        match &self.state {
            State::Whole(block) => Some(block),
            _ => None,
        }
    }

    /// The one that gave us all of this and must have known what it is: a block that is not cut is
    /// passed on when it is verified, and so is one that is asked for as a whole.
    pub(super) fn bringer(&self) -> Option<PkiId> {
        let group = self.group.as_ref()?;
        if group.cut.k > 1 && self.has_travelled() {
            return None;
        }
        let mut senders = group.pieces.iter().flatten().map(|piece| piece.from);
        let first = senders.next()?;
        senders.all(|sender| sender == first).then_some(first)
    }

    /// Nobody sent anything of it, and no two members say that it exists.
    pub(super) fn is_hearsay(&self) -> bool {
        self.first.is_none() && self.announcers.len() < 2
    }

    /// It is no hearsay any more. What was waited for by one member's word is no measure now. True if
    /// it was asked for in vain as well, so that asking begins anew. A few requests are no reason: to
    /// members that cannot keep up all answers are late, and more requests would bring them more.
    pub(super) fn cease_to_be_hearsay(&mut self, now: Moment) -> bool {
        self.forget_hearsay(now);
        self.tries >= FETCH_AFTER && self.begin_anew(now)
    }

    /// What was announced long ago is no measure of how late this is.
    pub(super) fn forget_hearsay(&mut self, now: Moment) {
        if self
            .first_have
            .is_some_and(|at| now.since(at) > HEARSAY_MAX)
        {
            self.first_have = Some(now);
        }
    }

    /// What was asked for before was something else, or did not exist yet. False if asking goes on as
    /// it was, with the timers that it has: not so often that the plain way is never taken.
    pub(super) fn begin_anew(&mut self, now: Moment) -> bool {
        if self.begun_anew >= BEGUN_ANEW_MAX {
            return false;
        }
        self.begun_anew += 1;
        self.asked = false;
        self.has_slot = false;
        self.tries = 0;
        self.requested = 0;
        self.first_have = self.first_have.map(|_| now);
        true
    }

    /// Bytes of chunks that wait for others.
    pub(super) fn open_bytes(&self) -> usize {
        self.groups().map(Group::bytes).sum()
    }

    /// Some member sent a chunk of what everything is done about.
    pub(super) fn has_travelled(&self) -> bool {
        self.group.as_ref().is_some_and(Group::has_travelled)
    }

    /// When the first chunk came of what everything is done about.
    pub(super) fn began_to_come(&self) -> Option<Moment> {
        self.group.as_ref()?.first
    }

    /// Whether a stripe is here in this cut, for who asks. A whole block is there in any cut, as
    /// others may know it by another; but its parity, which must be computed, in its own only.
    pub(super) fn can_give(&self, cut: Cut, stripe: u8) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        match &self.state {
            State::Whole(block) => {
                let is_same_len = usize::try_from(cut.len).ok() == Some(block.bytes.len());
                is_same_len && (stripe < cut.k || (cut == group.cut && stripe < cut.stripes()))
            }
            _ => cut == group.cut && group.has(stripe),
        }
    }

    /// The payload of a stripe, if it is here in this cut.
    pub(super) fn payload(&mut self, cut: Cut, stripe: u8) -> Option<Bytes> {
        if !self.can_give(cut, stripe) {
            return None;
        }
        let group = self.group.as_mut()?;
        if let State::Whole(block) = &self.state {
            if stripe == cut.k {
                let parity = || parity::parity(&block.bytes, cut);
                return Some(group.parity.get_or_insert_with(parity).clone());
            }
            return Some(parity::stripe(&block.bytes, cut, stripe));
        }
        let piece = group.pieces.get(usize::from(stripe))?.as_ref()?;
        Some(piece.payload.clone())
    }

    pub(super) fn announce(&mut self, announcer: Announcer) {
        if let Some(known) = self
            .announcers
            .iter_mut()
            .find(|a| a.peer == announcer.peer)
        {
            // What it said once is not taken back by less.
            if announcer.hash != Digest::ANY || known.hash == Digest::ANY {
                *known = announcer;
            }
        } else if self.announcers.len() < ANNOUNCERS_MAX {
            self.announcers.push(announcer);
        }
    }

    /// The next that announced this, or else anything that may be the block.
    pub(super) fn next_announcer(&mut self, known: Option<(Digest, Cut)>) -> Option<Announcer> {
        let got = self.group.as_ref().map_or(0, |group| group.got);
        for _ in 0..self.announcers.len() {
            let index = self.next_announcer % self.announcers.len();
            self.next_announcer = index + 1;
            let announcer = self.announcers[index];
            let fits = known.is_none_or(|(hash, cut)| {
                announcer.hash == Digest::ANY
                    || (announcer.hash == hash && (announcer.cut == cut || got == 0))
            });
            if fits && !self.is_rejected((announcer.hash, announcer.cut)) {
                return Some(announcer);
            }
        }
        None
    }

    /// The first stripes that are missing, as many as it takes.
    pub(super) fn missing(&self) -> u64 {
        let Some(group) = &self.group else {
            return u64::MAX;
        };
        let wanted = u32::from(group.cut.k).saturating_sub(group.got.count_ones());
        let missing = (0..group.cut.stripes()).filter(|stripe| !group.has(*stripe));
        missing
            .take(wanted as usize)
            .fold(0, |set, stripe| set | bit(stripe))
    }

    /// Counts one more answer with this stripe to this member, unless it had enough of them: in
    /// whatever cuts it asks, it has the block so many times and not more.
    pub(super) fn may_serve(&mut self, peer: PkiId, stripe: u8, len: usize) -> bool {
        let Some(cut) = self.group.as_ref().map(|group| group.cut) else {
            return false;
        };
        if self.served.len() >= SERVED_TO_MAX && !self.served.contains_key(&peer) {
            return false;
        }
        let once: usize = (0..cut.stripes()).map(|s| cut.payload_len(s)).sum();
        let served = self.served.entry(peer).or_insert(Served {
            times: [0; 33],
            bytes: 0,
        });
        let bytes = served.bytes.saturating_add(len);
        match served.times.get_mut(usize::from(stripe)) {
            Some(times)
                if *times < SERVED_AGAIN_MAX && bytes <= once * usize::from(SERVED_AGAIN_MAX) =>
            {
                *times += 1;
                served.bytes = bytes;
                true
            }
            _ => false,
        }
    }
}

/// The bit of a stripe in a bitmap.
pub(super) fn bit(stripe: u8) -> u64 {
    1_u64.checked_shl(stripe.into()).unwrap_or(0)
}

/// The stripes of a bitmap, those that a block may have.
pub(super) fn stripes_of(set: u64, cut: Cut) -> impl Iterator<Item = u8> {
    (0..cut.stripes()).filter(move |stripe| set & bit(*stripe) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_member_announced_long_before_is_no_measure() {
        let begun = Moment::ZERO;
        let mut block = Block::new(begun);
        block.first_have = Some(begun);
        let soon = begun + HEARSAY_MAX;
        assert!(!block.cease_to_be_hearsay(soon));
        assert_eq!(block.first_have, Some(begun), "it was under way already");
        let late = soon + Duration::from_millis(1);
        assert!(!block.cease_to_be_hearsay(late));
        assert_eq!(block.first_have, Some(late));
    }
}
