//! Views come and go.

use std::sync::Arc;

use super::{
    Dissemination, Effect, Leader,
    message::{Chunk, Class, Message, View},
    parameters::{STRAYS_MAX, STRIPES_MAX, VIEW_REQUEST_INTERVAL, WARDS_PER_MEMBER},
    refused,
    timers::Timer,
    view::{Known, Unfit},
};
use crate::{
    id::{Moment, PkiId},
    ports::Ports,
};

/// Epochs that are asked for at once.
const WANTED_MAX: usize = 16;

/// Payload of the chunks that wait for their view.
const STRAY_BYTES_MAX: usize = 16 << 20;

impl Dissemination {
    /// Whether blocks travel by stripes: whoever leads has said that we and others take part, and
    /// plain peers are few enough for us to look after.
    pub fn is_active(&self, now: Moment) -> bool {
        let view = self.view_that_counts(now);
        view.is_some_and(|view| self.suffices(&view))
    }

    /// Whether a block of this length travels by stripes.
    pub fn carries(&self, now: Moment, len: usize) -> bool {
        self.has_length(len) && self.is_active(now)
    }

    pub(super) fn has_length(&self, len: usize) -> bool {
        u32::try_from(len).is_ok_and(|len| len <= self.parameters.len_max())
    }

    /// Whether those in this view can carry blocks, to each other and to plain peers.
    pub(super) fn suffices(&self, view: &Known) -> bool {
        let guardians = view.members.len().saturating_sub(1);
        guardians > 0
            && view.index(&self.me).is_some()
            && self.wards.len() <= guardians.saturating_mul(WARDS_PER_MEMBER)
    }

    /// By whoever leads, or else whoever's came last.
    pub(super) fn view_that_counts(&self, now: Moment) -> Option<Arc<Known>> {
        match self.leader {
            Leader::Me | Leader::MeAmongOthers => self.views.in_use(now, &self.me),
            Leader::Peer(root) => self.views.latest_of(&root),
            Leader::Unknown | Leader::Appointed => self.views.latest(),
        }
    }

    pub(super) fn follow(
        &mut self,
        now: Moment,
        leader: Leader,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        if leader == self.leader {
            return;
        }
        self.last_leader = match self.leader {
            Leader::Me => Some(self.me),
            Leader::Peer(peer) => Some(peer),
            Leader::Unknown | Leader::Appointed | Leader::MeAmongOthers => self.last_leader,
        };
        self.leader = leader;
        self.crown(now, ports, out);
        let Leader::Peer(root) = leader else {
            return;
        };
        if let Some(early) = self.early.of(&root) {
            self.take_view(now, early.from, &early.view, out);
        }
        if self.views.latest_of(&root).is_none() {
            self.ask_for_view(now, root, 0, out);
        }
    }

    /// Whether a view waits for its author to be said to lead.
    fn is_early(&mut self, now: Moment, from: PkiId, view: &Arc<View>) -> bool {
        let is_elected = !matches!(self.leader, Leader::Appointed | Leader::MeAmongOthers);
        let may_lead = view.root == view.author && self.neighbours.find(&view.author).is_some();
        let is_kept = is_elected && may_lead && self.early.keep(now, from, view);
        if is_kept && let Some(due) = self.early.due() {
            self.timers.arm(Timer::Early, due);
        }
        is_kept
    }

    pub(super) fn refuse_early(&mut self, now: Moment, out: &mut Vec<Effect>) {
        while let Some(early) = self.early.pop(now) {
            out.push(unentitled(early.from, &early.view));
        }
        if let Some(due) = self.early.due() {
            self.timers.arm(Timer::Early, due);
        }
    }

    /// Whether this author may say who takes part.
    fn is_entitled(&self, view: &View) -> bool {
        let plain_author = || {
            let first = self.neighbours.iter().map(|(peer, _)| *peer).next();
            let is_plain = self.neighbours.find(&view.root).is_none();
            is_plain && Some(view.author) == first && view.author < self.me
        };
        let is_root = view.root == view.author;
        let may_root = is_root || plain_author();
        match self.leader {
            Leader::Peer(leader) if view.root == leader => may_root,
            Leader::Appointed | Leader::MeAmongOthers => {
                is_root && self.neighbours.find(&view.author).is_some()
            }
            _ => is_root && self.last_leader == Some(view.root),
        }
    }

    fn leads(&self, root: &PkiId) -> bool {
        match self.leader {
            Leader::Peer(leader) => leader == *root,
            Leader::Appointed => true,
            Leader::Me | Leader::MeAmongOthers | Leader::Unknown => false,
        }
    }

    pub(super) fn take_view(
        &mut self,
        now: Moment,
        from: PkiId,
        view: &Arc<View>,
        out: &mut Vec<Effect>,
    ) {
        if view.author == self.me || !self.is_entitled(view) {
            if !self.is_early(now, from, view) {
                out.push(unentitled(from, view));
            }
            return;
        }
        let known = match self.views.resolve(view, self.wanted.contains(&view.epoch)) {
            Ok(known) => known,
            Err(Unfit::Old(_)) => return,
            Err(Unfit::Baseless(_)) => {
                self.ask_for_view(now, from, view.epoch, out);
                return;
            }
            Err(Unfit::Wrong(reason)) => {
                out.push(refused(from, "S-T9", reason.to_owned()));
                return;
            }
        };
        self.wanted.remove(&view.epoch);
        // What others thought of somebody before, or those before them, counts no more.
        let latest = self.views.latest_of(&known.root);
        if self.leads(&known.root) && latest.is_none_or(|latest| latest.epoch < known.epoch) {
            self.found_out(&known);
        }
        self.views.insert(known, &self.me);
        let waiting = std::mem::take(&mut self.strays);
        for (sender, chunk) in waiting {
            if chunk.epoch == view.epoch {
                self.take_chunk(now, sender, chunk, out);
            } else {
                self.strays.push_back((sender, chunk));
            }
        }
    }

    /// What the root says of members counts more than what was found here before; and where it
    /// found who is at fault, those are cleared who only handed on what they got.
    pub(super) fn found_out(&mut self, view: &Known) {
        let before = self.views.latest_of(&view.root);
        let class = |peer: &PkiId| view.member(view.index(peer)?).map(|(_, class)| class);
        let was = |peer: &PkiId| {
            let before = before.as_ref()?;
            before.member(before.index(peer)?).map(|(_, class)| class)
        };
        let is_new_suspect = |peer: &PkiId| {
            class(peer) == Some(Class::Suspect) && was(peer).is_some_and(|c| c != Class::Suspect)
        };
        let is_news = self.neighbours.iter().any(|(peer, _)| is_new_suspect(peer));
        for (peer, neighbour) in self.neighbours.iter_mut() {
            // Trees of views before this one need not wait for it.
            neighbour.seen = (class(peer) == Some(Class::Suspect)).then_some(Class::Suspect);
            if is_news && class(peer) != Some(Class::Suspect) {
                neighbour.clear();
            }
        }
    }

    pub(super) fn show_view(
        &mut self,
        now: Moment,
        from: PkiId,
        wanted: u64,
        out: &mut Vec<Effect>,
    ) {
        let view = match wanted {
            0 => self.views.latest(),
            epoch => self.views.find(epoch),
        };
        let may_have = self
            .neighbours
            .find_mut(&from)
            .is_some_and(|n| n.may_have_answer(now));
        if let Some(view) = view.filter(|_| may_have) {
            let view = Message::View(Arc::new(view.in_full()));
            self.send(now, from, view, out);
        }
    }

    fn ask_for_view(&mut self, now: Moment, of: PkiId, wanted: u64, out: &mut Vec<Effect>) {
        let known = self.views.latest_epoch();
        let Some(neighbour) = self.neighbours.find_mut(&of) else {
            return;
        };
        let asked = neighbour.view_asked;
        if asked.is_some_and(|at| now.since(at) < VIEW_REQUEST_INTERVAL) {
            return;
        }
        neighbour.view_asked = Some(now);
        if wanted != 0 {
            if self.wanted.len() >= WANTED_MAX {
                self.wanted.pop_first();
            }
            self.wanted.insert(wanted);
        }
        self.send(now, of, Message::ViewRequest { wanted, known }, out);
    }

    /// Keeps a chunk until its view is here.
    pub(super) fn keep_stray(
        &mut self,
        now: Moment,
        from: PkiId,
        chunk: Chunk,
        out: &mut Vec<Effect>,
    ) {
        let (epoch, len) = (chunk.epoch, chunk.payload.len());
        let bytes: usize = self
            .strays
            .iter()
            .map(|(_, chunk)| chunk.payload.len())
            .sum();
        let of_sender = self
            .strays
            .iter()
            .filter(|(sender, _)| *sender == from)
            .count();
        let has_room =
            of_sender < usize::from(STRIPES_MAX) && bytes.saturating_add(len) <= STRAY_BYTES_MAX;
        let is_known = |stray: &(PkiId, Chunk)| {
            (stray.1.number, stray.1.stripe, stray.1.hash)
                == (chunk.number, chunk.stripe, chunk.hash)
        };
        if has_room && !self.strays.iter().any(is_known) {
            if self.strays.len() >= STRAYS_MAX {
                self.strays.pop_front();
            }
            self.strays.push_back((from, chunk));
        }
        self.ask_for_view(now, from, epoch, out);
    }
}

fn unentitled(from: PkiId, view: &View) -> Effect {
    let reason = format!("{} may not say who takes part", view.author);
    refused(from, "S-T8", reason)
}
