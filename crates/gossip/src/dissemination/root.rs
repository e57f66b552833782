//! What a root does: it says who takes part, finds out who does not, and injects.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Dissemination, Effect, Leader,
    forward::have,
    message::{Class, Cut, Have, Message, Suspicion, View},
    parameters::{PARITY_END, PARITY_WINDOW, TAKEOVERS_MAX, VIEW_DELAY, VIEW_INTERVAL},
    silences::Silences,
    timers::Timer,
    trial::Trials,
    view::{self, Known},
};
use crate::{
    id::{Moment, PkiId},
    ports::Ports,
};

/// A view changes at most this often even if members fall silent or connections are lost: four
/// times before the first change is used, and so many views are remembered.
const URGENT_INTERVAL: Duration = Duration::from_millis(250);

/// How many must have lost the connection to a member.
const LOST_BY: usize = 2;

/// A member whose acknowledgements take this many times the median is slow.
const SLOW_FACTOR: u32 = 5;

/// For how long it is a leaf then.
const SLOW_TIME: Duration = Duration::from_secs(60);

/// Acknowledgements that it takes to judge of a member.
const ACKS_MIN: u32 = 8;

/// Over which time reports of members that do not acknowledge are counted.
const SILENCES_WINDOW: Duration = Duration::from_secs(5);

/// Reports that it takes to call a member slow. With one per cent of messages lost, a member has
/// about as many in this time if blocks come at ten in a second; but then so have all others.
const SILENCES_MIN: u64 = 10;

/// Why a member is a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It does not answer, until it does.
    Silent,
    /// It sends bad chunks, until then.
    Corrupt(Moment),
}

/// How long the acknowledgements of a member take.
#[derive(Clone, Copy, Debug, Default)]
struct AckTime {
    mean: Duration,
    count: u32,
}

/// What a root remembers.
#[derive(Debug, Default)]
pub(super) struct Throne {
    published: Option<(Moment, Arc<Known>)>,
    suspects: BTreeMap<PkiId, Fault>,
    lost: BTreeMap<PkiId, BTreeSet<PkiId>>,
    /// Members that are to answer, and how often they were asked.
    probes: BTreeMap<PkiId, u8>,
    ack_times: BTreeMap<PkiId, AckTime>,
    slow: BTreeMap<PkiId, Moment>,
    /// How often each member was reported not to acknowledge, since a while.
    silences: BTreeMap<PkiId, Silences>,
    silences_since: Moment,
    pub(super) trials: Trials,
    /// Chunks sent and chunks lost, as they were before each of the last blocks.
    losses: VecDeque<(u64, u64)>,
    has_parity: bool,
    /// Blocks in a row with few losses.
    calm: usize,
}

impl Dissemination {
    /// The root that we speak for: ourselves, or a plain peer that leads, if we are the first
    /// member.
    fn realm(&self) -> Option<PkiId> {
        match self.leader {
            Leader::Me | Leader::MeAmongOthers => Some(self.me),
            Leader::Peer(peer) => {
                let is_plain = self.neighbours.find(&peer).is_none() && self.wards.has(&peer);
                let first = self.neighbours.iter().map(|(peer, _)| *peer).next();
                (is_plain && first.is_none_or(|first| self.me < first)).then_some(peer)
            }
            Leader::Unknown | Leader::Appointed => None,
        }
    }

    /// The leader or the members changed.
    pub(super) fn crown(&mut self, now: Moment, ports: &impl Ports, out: &mut Vec<Effect>) {
        let neighbours = &self.neighbours;
        let throne = &mut self.throne;
        throne
            .suspects
            .retain(|peer, _| neighbours.find(peer).is_some());
        throne
            .lost
            .retain(|peer, _| neighbours.find(peer).is_some());
        throne
            .probes
            .retain(|peer, _| neighbours.find(peer).is_some());
        throne
            .ack_times
            .retain(|peer, _| neighbours.find(peer).is_some());
        throne
            .silences
            .retain(|peer, _| neighbours.find(peer).is_some());
        throne
            .slow
            .retain(|peer, until| now < *until && neighbours.find(peer).is_some());
        match self.realm() {
            Some(root)
                if self
                    .views
                    .latest_of(&root)
                    .is_none_or(|v| v.author != self.me) =>
            {
                self.publish(now, ports, out);
            }
            Some(_) => self.reconsider(now, false),
            None => self.timers.cancel(Timer::Publish),
        }
    }

    fn list(&self, now: Moment) -> Vec<(PkiId, Class)> {
        let throne = &self.throne;
        let class = |peer: &PkiId, declared: Class| match throne.suspects.get(peer) {
            Some(Fault::Silent) => Class::Suspect,
            Some(Fault::Corrupt(until)) if now < *until => Class::Suspect,
            _ if throne.slow.get(peer).is_some_and(|until| now < *until) => Class::Slow,
            _ => declared,
        };
        let others = self.neighbours.iter();
        let mut list: Vec<_> = others
            .map(|(peer, n)| (*peer, class(peer, n.declared)))
            .collect();
        list.push((self.me, self.load.class()));
        list.sort();
        list
    }

    /// Has the view published anew if it is not what it should be.
    pub(super) fn reconsider(&mut self, now: Moment, is_urgent: bool) {
        let Some(root) = self.realm() else {
            return;
        };
        let list = self.list(now);
        let published = self.throne.published.as_ref();
        if published.is_some_and(|(_, known)| known.root == root && known.members == list) {
            return;
        }
        // Who is not in the view gets nothing by stripes.
        let is_in = |peer: &PkiId| published.is_some_and(|(_, known)| known.index(peer).is_some());
        let pause = if is_urgent || !list.iter().all(|(peer, _)| is_in(peer)) {
            URGENT_INTERVAL
        } else {
            VIEW_INTERVAL
        };
        let at = published.map_or(now, |(at, _)| now.max(*at + pause));
        // What can wait must not hold up what is urgent.
        self.timers.arm_by(Timer::Publish, at);
    }

    pub(super) fn publish(&mut self, now: Moment, ports: &impl Ports, out: &mut Vec<Effect>) {
        let Some(root) = self.realm() else {
            return;
        };
        let members = self.list(now);
        let before = self
            .throne
            .published
            .as_ref()
            .map(|(_, known)| known.clone());
        let before = before.filter(|known| known.root == root);
        if before
            .as_ref()
            .is_some_and(|known| known.members == members)
            && self
                .views
                .latest_of(&root)
                .is_some_and(|known| known.author == self.me)
        {
            return;
        }
        let Some(epoch) = view::next_epoch(self.views.latest_epoch(), &self.me) else {
            return;
        };
        // Others have it before it is used; at first there are no others.
        let used = self.views.in_use(now, &root);
        let is_used = used.is_some_and(|view| view.members.len() > 1);
        let mut known = Known {
            epoch,
            root,
            author: self.me,
            digest: View::digest_of(&members),
            members,
            signature: bytes::Bytes::new(),
            used_from: if is_used { now + VIEW_DELAY } else { now },
        };
        known.signature = ports.sign(&known.in_full().to_be_signed(&self.channel));
        self.found_out(&known);
        let known = self.views.insert(known, &self.me);
        let full = Arc::new(known.in_full());
        let changes = before.map(|before| (Arc::new(changes(&before, &known)), before));
        self.throne.published = Some((now, known.clone()));
        let me = self.me;
        for (peer, _) in known.members.iter().filter(|(peer, _)| *peer != me) {
            let changes = changes
                .as_ref()
                .filter(|(_, before)| before.index(peer).is_some());
            let view = changes.map_or(&full, |(changes, _)| changes).clone();
            self.send(now, *peer, Message::View(view), out);
        }
    }

    /// To whoever speaks for the root: something about a member.
    pub(super) fn report(
        &mut self,
        now: Moment,
        member: PkiId,
        kind: Suspicion,
        out: &mut Vec<Effect>,
    ) {
        if self.realm().is_some() {
            self.suspect(now, self.me, member, kind, out);
            return;
        }
        let of_leader = match self.leader {
            Leader::Peer(leader) => self.views.latest_of(&leader),
            _ => None,
        };
        let Some(view) = of_leader.or_else(|| self.views.latest()) else {
            return;
        };
        if view.author != member && view.author != self.me {
            self.send(now, view.author, Message::Suspect { member, kind }, out);
        }
    }

    pub(super) fn take_suspicion(
        &mut self,
        now: Moment,
        from: PkiId,
        member: PkiId,
        kind: Suspicion,
        out: &mut Vec<Effect>,
    ) {
        let published = self.throne.published.as_ref();
        let takes_part = published.is_some_and(|(_, known)| known.index(&from).is_some());
        if self.realm().is_some() && takes_part {
            self.suspect(now, from, member, kind, out);
        }
    }

    fn suspect(
        &mut self,
        now: Moment,
        reporter: PkiId,
        member: PkiId,
        kind: Suspicion,
        out: &mut Vec<Effect>,
    ) {
        if let Suspicion::Corrupt { number, stripe } = kind {
            let is_plausible = !self.is_corrupt(now, &reporter)
                && self.stood_above(number, stripe, &member, &reporter);
            if is_plausible && self.throne.trials.accuse(number, stripe, reporter, member) {
                self.timers.arm(
                    Timer::Verdict(number),
                    now + super::parameters::VERDICT_DELAY,
                );
            }
            return;
        }
        if self.neighbours.find(&member).is_none() {
            return;
        }
        match kind {
            Suspicion::Silent => {
                self.note_silence(now, reporter, member);
                self.probe(now, member, out);
            }
            Suspicion::Lost => {
                let reporters = self.throne.lost.entry(member).or_default();
                if reporters.len() < LOST_BY {
                    reporters.insert(reporter);
                }
                if reporters.len() >= LOST_BY {
                    self.put_aside(now, member, Fault::Silent, true);
                }
            }
            Suspicion::Alive => self.heard(now, member),
            Suspicion::Corrupt { .. } => {}
        }
    }

    /// Whether a member was to give another this stripe of a block that we, or one of us for a plain
    /// leader, sent by trees of ours. All that is not asked for comes so; who gives bad chunks when
    /// asked is avoided by those who asked, as nobody else can know it.
    fn stood_above(&mut self, number: u64, stripe: u8, above: &PkiId, below: &PkiId) -> bool {
        let Some(block) = self.blocks.get(&number) else {
            return false;
        };
        let Some(group) = &block.group else {
            return false;
        };
        let (stripes, was_injected) = (group.cut.stripes(), block.was_injected);
        let way = group.way(stripe).filter(|_| stripe < stripes);
        let Some(places) = way.and_then(|way| self.places(number, way)) else {
            return false;
        };
        let is_plain = places.view.is_plainly_led();
        let injects = |turn| places.injector(turn).as_ref() == Some(above);
        let is_ours = places.view.author == self.me && (was_injected || is_plain);
        let lower = places.position(stripe, stripes, below);
        let upper = places.position(stripe, stripes, above);
        let is_above = || Some(places.tree.is_above(upper?, lower?));
        is_ours
            && lower.is_some()
            && (is_above() == Some(true) || is_plain && (0..TAKEOVERS_MAX).any(injects))
    }

    /// Found out to send bad chunks, not long ago.
    fn is_corrupt(&self, now: Moment, member: &PkiId) -> bool {
        let fault = self.throne.suspects.get(member);
        matches!(fault, Some(Fault::Corrupt(until)) if now < *until)
    }

    /// A member that answers probes and still is missed far more often than others cannot keep up.
    fn note_silence(&mut self, now: Moment, reporter: PkiId, member: PkiId) {
        let members = self.neighbours.len().max(1);
        let throne = &mut self.throne;
        if now.since(throne.silences_since) >= SILENCES_WINDOW {
            throne.silences.clear();
            throne.silences_since = now;
        }
        let silences = throne.silences.entry(member).or_default();
        silences.note(&self.me, reporter);
        let count = silences.count();
        let all: u64 = throne.silences.values().map(Silences::count).sum();
        let is_far_above = count * members as u64 >= all * u64::from(SLOW_FACTOR);
        // Who is below one that passes nothing on has nothing to pass on either.
        let most = throne.silences.values().map(Silences::count).max();
        let is_far_above = is_far_above && most.is_none_or(|most| count * 2 >= most);
        let is_slow = throne.slow.get(&member).is_some_and(|until| now < *until);
        let is_known = is_slow || throne.suspects.contains_key(&member);
        if count >= SILENCES_MIN && is_far_above && !is_known {
            // Its count stays: whoever is reported next is compared with it as well.
            throne.slow.insert(member, now + SLOW_TIME);
            self.reconsider(now, true);
        }
    }

    fn probe(&mut self, now: Moment, member: PkiId, out: &mut Vec<Effect>) {
        let patience = self.patience(&member, Cut { len: 1, k: 1, p: 0 });
        let heard = self.neighbours.find(&member).and_then(|n| n.heard);
        let is_fresh = heard.is_some_and(|at| now.since(at) < patience);
        if is_fresh || self.throne.probes.contains_key(&member) {
            return;
        }
        self.throne.probes.insert(member, 1);
        self.send_probe(now, member, out);
    }

    fn send_probe(&mut self, now: Moment, member: PkiId, out: &mut Vec<Effect>) {
        let patience = self.patience(&member, Cut { len: 1, k: 1, p: 0 });
        self.timers.arm(Timer::Probe(member), now + patience);
        let status = self.status(true);
        self.send(now, member, Message::Status(status), out);
    }

    pub(super) fn unanswered(&mut self, now: Moment, member: PkiId, out: &mut Vec<Effect>) {
        match self.throne.probes.remove(&member) {
            Some(1) => {
                self.throne.probes.insert(member, 2);
                self.send_probe(now, member, out);
            }
            Some(_) if self.realm().is_some() => {
                self.put_aside(now, member, Fault::Silent, true);
            }
            _ => {}
        }
    }

    fn put_aside(&mut self, now: Moment, member: PkiId, fault: Fault, is_urgent: bool) {
        // Who is none is in no tree, and would never be forgotten.
        let Some(neighbour) = self.neighbours.find_mut(&member) else {
            return;
        };
        neighbour.seen = Some(Class::Suspect);
        if !self.is_corrupt(now, &member) {
            self.throne.suspects.insert(member, fault);
        }
        self.reconsider(now, is_urgent);
    }

    /// A member spoke, or somebody heard it.
    pub(super) fn heard(&mut self, now: Moment, member: PkiId) {
        if self.throne.probes.remove(&member).is_some() {
            self.timers.cancel(Timer::Probe(member));
        }
        self.throne.lost.remove(&member);
        if self.throne.suspects.get(&member) == Some(&Fault::Silent) {
            self.throne.suspects.remove(&member);
            if let Some(neighbour) = self.neighbours.find_mut(&member) {
                neighbour.seen = Some(Class::Normal);
            }
            self.reconsider(now, false);
        }
    }

    /// Accusations about a block were gathered for long enough.
    pub(super) fn decide(&mut self, now: Moment, number: u64, _out: &mut Vec<Effect>) {
        let root = self.realm().unwrap_or(self.me);
        for member in self.throne.trials.decide(now, number, &root) {
            self.condemn(now, member, now + super::parameters::BLAME_TIME);
        }
    }

    pub(super) fn condemn(&mut self, now: Moment, member: PkiId, until: Moment) {
        self.put_aside(now, member, Fault::Corrupt(until), true);
    }

    #[cfg(test)]
    pub(super) fn suspects(&self) -> Vec<PkiId> {
        self.throne.suspects.keys().copied().collect()
    }

    /// A root notes how long its children take.
    pub(super) fn note_ack(&mut self, now: Moment, from: PkiId, took: Duration) {
        if self.realm().is_none() {
            return;
        }
        let time = self.throne.ack_times.entry(from).or_default();
        time.count = time.count.saturating_add(1);
        time.mean = match time.count {
            1 => took,
            _ => (time.mean * 7 + took) / 8,
        };
        let (mean, is_judged) = (time.mean, time.count >= ACKS_MIN);
        let judged = self
            .throne
            .ack_times
            .values()
            .filter(|time| time.count >= ACKS_MIN);
        let mut means: Vec<Duration> = judged.map(|time| time.mean).collect();
        means.sort();
        let median = means.get(means.len() / 2).copied().unwrap_or(mean);
        if is_judged && mean > median * SLOW_FACTOR {
            self.throne.ack_times.remove(&from);
            self.throne.slow.insert(from, now + SLOW_TIME);
            self.reconsider(now, false);
        }
    }

    /// Parity stripes that we add to our blocks.
    pub(super) fn parity(&self) -> u8 {
        let parity = u8::from(self.throne.has_parity && self.leader.is_me());
        self.parameters.parity.map_or(parity, |fixed| fixed.min(1))
    }

    /// A block was injected: decides about parity for the next.
    pub(super) fn note_injection(&mut self) {
        let own = self.counters;
        let (mut sent, mut lost) = (own.sent, own.resent.saturating_add(own.served));
        for (_, neighbour) in self.neighbours.iter() {
            let theirs = neighbour.counters;
            sent = sent.saturating_add(theirs.sent);
            lost = lost
                .saturating_add(theirs.resent)
                .saturating_add(theirs.served);
        }
        let throne = &mut self.throne;
        throne.losses.push_back((sent, lost));
        if throne.losses.len() <= PARITY_WINDOW {
            return;
        }
        let (sent_before, lost_before) = throne.losses.pop_front().unwrap_or_default();
        let sent = u128::from(sent.saturating_sub(sent_before));
        let lost = u128::from(lost.saturating_sub(lost_before));
        throne.calm = if lost * 1000 < sent {
            throne.calm.saturating_add(1)
        } else {
            0
        };
        if lost * 200 > sent && !self.uplink.is_half_busy() {
            throne.has_parity = true;
        } else if throne.calm >= PARITY_END {
            throne.has_parity = false;
        }
    }

    /// The leader is a plain peer and we have its block: one of us injects it.
    pub(super) fn offer_to_injector(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let Some(view) = self.views.latest().filter(|view| view.is_plainly_led()) else {
            return;
        };
        let order = self.drawer.order(&self.channel, &view, number);
        let first = order.at(0).and_then(|index| view.member(index));
        let group = self
            .blocks
            .get(&number)
            .and_then(|block| block.group.as_ref());
        let (Some((first, _)), Some(group)) = (first, group) else {
            return;
        };
        if first != self.me {
            let have = have(number, (group.hash, group.cut), Have::COMPLETE, false);
            self.send(now, first, have, out);
        }
        let turn = view.index(&self.me).and_then(|me| order.rank(me));
        let Some(turn) = turn.filter(|turn| *turn < TAKEOVERS_MAX) else {
            return;
        };
        if turn == 0 {
            self.take_over(now, number, out);
        } else {
            let model = self.model(number);
            let latency = self.latency();
            let pause = 2 * (latency * 3 + model.patience) + model.finish;
            let turn = u32::try_from(turn).unwrap_or(u32::MAX);
            self.timers.arm(Timer::Takeover(number), now + pause * turn);
        }
    }

    /// We were asked for it or repaired, and it is we who should inject it.
    pub(super) fn inject_for_plain_root(
        &mut self,
        now: Moment,
        number: u64,
        out: &mut Vec<Effect>,
    ) {
        let has_travelled = self
            .blocks
            .get(&number)
            .is_some_and(|block| block.has_travelled());
        if !has_travelled {
            self.offer_to_injector(now, number, out);
        }
    }

    pub(super) fn take_over(&mut self, now: Moment, number: u64, out: &mut Vec<Effect>) {
        let Some(view) = self.views.latest().filter(|view| view.is_plainly_led()) else {
            return;
        };
        let Some(block) = self.blocks.get(&number) else {
            return;
        };
        if block.has_travelled() || block.whole().is_none() {
            return;
        }
        let stripes = block.group.as_ref().map_or(0, |group| group.cut.stripes());
        if self.prepare(now, number, view.root) {
            for stripe in 0..stripes {
                self.forward(now, number, stripe, out);
            }
        }
    }
}

/// What is different in the later of two views.
fn changes(before: &Known, after: &Known) -> View {
    let class = |view: &Known, peer| view.member(view.index(peer)?).map(|(_, class)| class);
    let members = after.members.iter();
    let added = members.filter(|(peer, now)| class(before, peer) != Some(*now));
    let gone = before
        .members
        .iter()
        .filter(|(peer, _)| class(after, peer).is_none());
    View {
        base: before.epoch,
        added: added.copied().collect(),
        removed: gone.map(|(peer, _)| *peer).collect(),
        ..after.in_full()
    }
}
