//! Is it the block? And if not, whose chunk is bad?

use std::sync::Arc;

use super::{
    Dissemination, Effect, Verdict,
    block::{State, Way, bit},
    message::{Digest, Hashes, Message, Suspicion},
    parameters::{self, TAKEOVERS_MAX},
    parity, refused,
    timers::Timer,
};
use crate::{
    effect::Notice,
    id::{Moment, PkiId},
    ports::Ports,
};

/// How often the hashes of one block are asked for.
const HASHES_TRIES_MAX: u32 = 3;

impl Dissemination {
    /// Has the node look at what is assembled, if it is enough.
    pub(super) fn judge(&mut self, number: u64, from: PkiId, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let Some(group) = block.group.as_ref().filter(|group| group.is_enough()) else {
            return;
        };
        if !matches!(block.state, State::Open) {
            return;
        }
        if let Some(bytes) = group.assemble() {
            let (hash, opener) = (group.hash, group.opener);
            block.state = State::Judging;
            out.push(Effect::Judge {
                number,
                hash,
                bytes,
                from: opener.unwrap_or(from),
            });
        }
    }

    pub(super) fn judged(
        &mut self,
        now: Moment,
        number: u64,
        hash: Digest,
        verdict: Verdict,
        out: &mut Vec<Effect>,
    ) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let is_asked_about = matches!(block.state, State::Judging)
            && block.group.as_ref().is_some_and(|group| group.hash == hash);
        if !is_asked_about {
            return;
        }
        match verdict {
            Verdict::Good(whole) if whole.number == number => {
                out.push(Effect::Deliver(whole.clone()));
                self.last_injector = self.root_of(number).or(self.last_injector);
                self.convict(now, number, hash, out);
                self.finish(now, number, whole, out);
                self.announce(now, number, out);
                self.inject_for_plain_root(now, number, out);
            }
            Verdict::Corrupt => {
                block.state = State::Doubted;
                block.tries = 0;
                self.doubt(now, number, out);
            }
            Verdict::Good(_) | Verdict::Refused => self.abandon(now, number, true, out),
        }
    }

    /// The trees whose root is believed about the chunks of a block: those of whoever leads, if
    /// anything came by them. A former leader, or where leaders are appointed anybody, may have sent
    /// the first of them, and must not be able to call bad what others sent.
    fn vouched(&self, number: u64) -> Option<Way> {
        let group = self.blocks.get(&number)?.group.as_ref()?;
        let is_leaders = |way: &&Way| {
            let view = self.views.find(way.epoch);
            view.is_some_and(|view| self.leads_by(&view))
        };
        let of_leader = group.ways.iter().flatten().find(is_leaders);
        of_leader.copied().or_else(|| group.way(0))
    }

    /// Asks the root what the chunks should be, for a time.
    pub(super) fn doubt(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let Some(group) = &block.group else {
            return;
        };
        if !matches!(block.state, State::Doubted) {
            return;
        }
        let (hash, cut, turn) = (group.hash, group.cut, block.tries);
        block.tries += 1;
        let way = self.vouched(number);
        let places = way.and_then(|way| self.places(number, way));
        let is_plain = places
            .as_ref()
            .is_some_and(|places| places.view.is_plainly_led());
        let turn = if is_plain { turn as usize } else { 0 };
        let root = places.and_then(|places| places.injector(turn));
        let root = root.filter(|root| *root != self.me);
        let Some(root) = root.filter(|_| self.tries(number) <= HASHES_TRIES_MAX) else {
            self.abandon(now, number, false, out);
            return;
        };
        let wait = self.patience(&root, cut);
        self.timers.arm(Timer::Hashes(number), now + wait);
        self.send(now, root, Message::HashesRequest { number, hash }, out);
    }

    fn tries(&self, number: u64) -> u32 {
        self.blocks.get(&number).map_or(0, |block| block.tries)
    }

    pub(super) fn take_hashes(
        &mut self,
        now: Moment,
        from: PkiId,
        hashes: &Hashes,
        out: &mut Vec<Effect>,
    ) {
        let number = hashes.number;
        let Some(group) = self
            .blocks
            .get(&number)
            .and_then(|block| block.group.as_ref())
        else {
            return;
        };
        let (hash, cut) = (group.hash, group.cut);
        let is_doubted = matches!(self.blocks[&number].state, State::Doubted);
        if !is_doubted || hashes.hash != hash {
            return;
        }
        let way = self.vouched(number);
        let places = way.and_then(|way| self.places(number, way));
        let injects = |turn| places.as_ref()?.injector(turn);
        let is_root = (0..TAKEOVERS_MAX).any(|turn| injects(turn) == Some(hashes.signer));
        if !is_root || hashes.cut != cut || hashes.chunks.len() != usize::from(cut.stripes()) {
            let reason = format!("its hashes of block {number} are not the root's");
            out.push(refused(from, "S-T6", reason));
            return;
        }
        let mut bad = Vec::new();
        if let Some(block) = self.blocks.get_mut(&number)
            && let Some(group) = &mut block.group
        {
            let mut got = group.got;
            for (stripe, (piece, expected)) in
                (0..).zip(group.pieces.iter_mut().zip(&hashes.chunks))
            {
                let is_bad = |piece: &super::block::Piece| Digest::of(&piece.payload) != *expected;
                if let Some(found) = piece.take_if(|piece| is_bad(piece)) {
                    got &= !bit(stripe);
                    bad.push((stripe, found.from));
                }
            }
            group.got = got;
            group.expected = Some(hashes.chunks.clone());
            group.vouched_by = way.map(|way| way.epoch);
            block.requested = 0;
            block.tries = 0;
            block.state = State::Open;
        }
        self.timers.cancel(Timer::Hashes(number));
        if bad.is_empty() {
            // Every chunk is what the root says, and together they are not what it says.
            self.abandon(now, number, false, out);
            return;
        }
        for (stripe, sender) in bad {
            self.accuse(now, number, stripe, sender, out);
        }
        self.ask(now, number, out);
    }

    /// Answers what the chunks of a block are that we injected.
    pub(super) fn show_hashes(
        &mut self,
        now: Moment,
        from: PkiId,
        number: u64,
        hash: Digest,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let Some(block) = self
            .blocks
            .get_mut(&number)
            .filter(|block| block.was_injected)
        else {
            return;
        };
        let Some(group) = block.group.as_ref().filter(|group| group.hash == hash) else {
            return;
        };
        let Some(neighbour) = self.neighbours.find_mut(&from) else {
            return;
        };
        if !neighbour.may_have_answer(now) {
            return;
        }
        let (cut, kept) = (group.cut, block.hashes.clone());
        let hashes = match (kept, block.whole()) {
            (Some(hashes), _) => hashes,
            (None, Some(whole)) => {
                let stripes = (0..cut.stripes()).map(|s| parity::stripe(&whole.bytes, cut, s));
                let mut hashes = Hashes {
                    number,
                    hash,
                    cut,
                    chunks: stripes.map(|stripe| Digest::of(&stripe)).collect(),
                    signer: self.me,
                    signature: bytes::Bytes::new(),
                };
                hashes.signature = ports.sign(&hashes.to_be_signed(&self.channel));
                Arc::new(hashes)
            }
            (None, None) => return,
        };
        block.hashes = Some(hashes.clone());
        self.send(now, from, Message::Hashes(hashes), out);
    }

    /// Whether what is wrong with a stripe is anybody's fault: who says what it should be leads, or it
    /// came by trees of the same one.
    fn is_fault(&self, number: u64, stripe: u8) -> bool {
        let block = self.blocks.get(&number);
        let Some(group) = block.and_then(|block| block.group.as_ref()) else {
            return false;
        };
        let Some(epoch) = group.vouched_by else {
            return false;
        };
        let way = group.ways.get(usize::from(stripe)).copied().flatten();
        let view = self.views.find(epoch);
        way.is_some_and(|way| way.epoch == epoch) || view.is_some_and(|view| self.leads_by(&view))
    }

    /// This stripe came from there and is bad.
    pub(super) fn accuse(
        &mut self,
        now: Moment,
        number: u64,
        stripe: u8,
        sender: PkiId,
        out: &mut Vec<Effect>,
    ) {
        if !self.is_fault(number, stripe) {
            return;
        }
        self.report(now, sender, Suspicion::Corrupt { number, stripe }, out);
        let block = self.blocks.get_mut(&number);
        if block.is_some_and(|block| block.blamed.insert(sender)) {
            self.blame(now, sender, out);
        }
    }

    /// Remembers a fault of a member; after a few it is avoided.
    pub(super) fn blame(&mut self, now: Moment, member: PkiId, out: &mut Vec<Effect>) {
        let Some(neighbour) = self.neighbours.find_mut(&member) else {
            return;
        };
        if neighbour.blame(now) {
            out.push(Effect::Notify(Notice::Warning(format!(
                "{member} sent {} bad chunks of {} within an hour and is avoided for an hour; if \
                 others report it too, look at that node",
                parameters::BLAME_MAX,
                self.channel
            ))));
        }
    }

    /// What a member says about a block is one thing more than it, or all together, may say.
    pub(super) fn contradicted(&self, from: PkiId, number: u64, out: &mut Vec<Effect>) {
        let block = self.blocks.get(&number);
        if block.is_some_and(|block| block.whole().is_none()) {
            let reason = format!("too much is said about block {number}");
            out.push(refused(from, "S-T7", reason));
        }
    }

    /// What there is of this block is not the block. Something else may be; and if there is nothing
    /// else, stripes may yet bring it.
    pub(super) fn abandon(
        &mut self,
        now: Moment,
        number: u64,
        is_hash: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        block.fetched = None;
        self.timers.cancel(Timer::Hashes(number));
        if block.reject(is_hash) {
            let is_anew = block.begin_anew(now);
            let model = self.model(number);
            let wait = self.estimates.wait(model);
            self.timers.cancel(Timer::Retry(number));
            let timer = if is_anew { Timer::Spread } else { Timer::Retry };
            self.timers.arm(timer(number), now + wait);
            self.judge(number, self.me, out);
        } else {
            self.timers.forget(number);
            self.fetch(now, number, out);
        }
    }

    /// The block is here. Only now is it sure that what we rejected was a lie, and not what we could
    /// not verify yet.
    pub(super) fn convict(
        &mut self,
        now: Moment,
        number: u64,
        hash: Digest,
        out: &mut Vec<Effect>,
    ) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        let rejected = std::mem::take(&mut block.rejected);
        for group in std::mem::take(&mut block.rivals) {
            if let Some(opener) = group.opener.filter(|_| group.hash != hash) {
                let reason = format!("block {number} is not what it was the first to say");
                out.push(refused(opener, "S-T7", reason));
            }
        }
        let liars = rejected.iter().filter(|wrong| wrong.hash != hash);
        let liars: std::collections::BTreeSet<PkiId> =
            liars.filter_map(|wrong| wrong.bringer).collect();
        for liar in liars {
            let reason = format!("block {number} is not what it alone gave us as such");
            out.push(refused(liar, "S-T11", reason));
            self.blame(now, liar, out);
        }
    }
}
