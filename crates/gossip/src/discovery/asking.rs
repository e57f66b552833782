//! Asking members whom they know, and so whether they are there.
//!
//! Promises: everybody is asked now and then, those first of whom nothing was heard for long; a
//! member that leaves question after question open is dead, and nobody is dead because another
//! says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use rand::RngExt;
use tidings_proto::gossip::Envelope;

use super::{Discovery, Effect, Member, World, rhythm, voice};
use crate::{
    disclosure::{self, Party},
    effect::Destination,
    id::{Moment, OrgId, PkiId},
    message::Alive,
    ports::Ports,
    random,
    summary::{Known, Summary},
};

/// Questions in a row after which a member of our organization that answered none of them is
/// dead. Three of them take at least two intervals, time enough for any that is there.
const OPEN_MAX: u32 = 3;

/// Members are asked for news this long after somebody was met. Those who start together meet
/// many within a moment, and one question is for all of them.
const SOON: Duration = Duration::from_millis(500);

/// And again so long after that, then after twice as long. One in twenty is passed over when a
/// newcomer is made known, maybe just after it asked, and should not wait for the usual round.
const NEWS_PAUSE: Duration = Duration::from_secs(1);

/// What is not heard of in so many rounds comes with the usual ones.
const NEWS_ROUNDS: u32 = 3;

/// What those that are asked together are told of what we know, by their organization.
pub(super) type Told = BTreeMap<Option<OrgId>, Bytes>;

/// Questions that are open, and what there is still time for before the next round of them.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// How many each member left open in a row. Only those of members that are alive.
    open: BTreeMap<PkiId, u32>,
    /// Members that were doubted by others since the last round.
    doubted: usize,
}

impl Questions {
    pub(super) fn answered(&mut self, peer: &PkiId) {
        self.open.remove(peer);
    }

    fn asked(&mut self, peer: PkiId) {
        let open = self.open.entry(peer).or_default();
        *open = open.saturating_add(1);
    }
}

/// Rounds of questions beside the usual ones, after somebody was met.
#[derive(Debug, Default)]
pub(super) struct News {
    next: Option<Moment>,
    /// How many there were since somebody was met.
    rounds: u32,
}

impl News {
    pub(super) fn somebody_met(&mut self, now: Moment) {
        let soon = now + SOON;
        self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
        self.rounds = 0;
    }

    /// Whether one is due; then the one after it is planned.
    pub(super) fn begins_round(&mut self, now: Moment) -> bool {
        let begins = self.next.is_some_and(|next| next <= now);
        if begins {
            let pause = NEWS_PAUSE.saturating_mul(1 << self.rounds);
            self.rounds += 1;
            self.next = (self.rounds < NEWS_ROUNDS).then_some(now + pause);
        }
        begins
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.next
    }
}

impl Discovery {
    /// Asks a few members whom they know: some by chance, those of whom too little was heard, and
    /// those who did not answer.
    pub(super) fn sync(&mut self, world: &World<'_, impl Ports>, out: &mut Vec<Effect>) {
        self.bury_the_mute(out);
        self.questions.doubted = 0;
        let few = self.config.pull_peer_num;
        let mut chosen = self.some_members();
        chosen.extend(self.overdue(world, few));
        chosen.extend(self.questions.open.keys().copied().take(few));
        if chosen.is_empty() {
            return;
        }
        let own = self.word(world);
        let mut known = Told::new();
        for peer in chosen {
            self.question(world, peer, &own, &mut known, out);
        }
    }

    /// Asks a few members by chance, soon after somebody was met. What they leave open says nothing:
    /// these rounds come closer together than an answer may take.
    pub(super) fn ask_for_news(&mut self, world: &World<'_, impl Ports>, out: &mut Vec<Effect>) {
        let chosen = self.some_members();
        if chosen.is_empty() {
            return;
        }
        let own = self.word(world);
        let mut known = Told::new();
        for peer in chosen {
            out.extend(self.ask_member(world, peer, &own, &mut known));
        }
    }

    fn some_members(&mut self) -> BTreeSet<PkiId> {
        let alive: Vec<&Member> = self.members.alive().values().collect();
        let chosen = random::pick(&mut self.rng, &alive, self.config.pull_peer_num);
        chosen.into_iter().map(|member| member.peer).collect()
    }

    /// Somebody says that these are dead, of whom we believe otherwise: we ask them.
    pub(super) fn doubt(
        &mut self,
        world: &World<'_, impl Ports>,
        dead: &[Alive],
        out: &mut Vec<Effect>,
    ) {
        let mut known = Told::new();
        for about in dead {
            let believed = self.members.alive().get(&about.peer);
            let is_doubtful = believed.is_some_and(|member| {
                rhythm::is_slow(&self.config, member) && member.time <= about.time
            });
            let is_asked = self.questions.open.contains_key(&about.peer);
            if is_doubtful && !is_asked && self.questions.doubted < self.config.pull_peer_num {
                self.questions.doubted += 1;
                let own = self.word(world);
                self.question(world, about.peer, &own, &mut known, out);
            }
        }
    }

    /// The question itself; what only our organization may know is in it only for a peer of it.
    pub(super) fn ask(
        &mut self,
        world: &World<'_, impl Ports>,
        org: Option<&OrgId>,
        to: Destination,
        nonce: u64,
        own: &Envelope,
        known: &mut Told,
    ) -> Effect {
        let known = known.entry(org.cloned()).or_insert_with(|| {
            let known = self.known_with(world, org);
            Summary::of(self.rng.random(), &known).to_wire()
        });
        let known = known.clone();
        let own = disclosure::for_org(&world.me.identity.org, org, own);
        Effect::Send {
            to,
            envelope: voice::request(nonce, own, known),
        }
    }

    /// Asks this member, and counts the question as open.
    fn question(
        &mut self,
        world: &World<'_, impl Ports>,
        peer: PkiId,
        own: &Alive,
        known: &mut Told,
        out: &mut Vec<Effect>,
    ) {
        let Some(member) = self.members.alive().get(&peer) else {
            return;
        };
        // Those of other organizations may have reasons not to answer.
        let is_ours = world.identities.org_of(&peer) == Some(&world.me.identity.org);
        if is_ours && rhythm::is_slow(&self.config, member) {
            self.questions.asked(peer);
        }
        out.extend(self.ask_member(world, peer, own, known));
    }

    fn ask_member(
        &mut self,
        world: &World<'_, impl Ports>,
        peer: PkiId,
        own: &Alive,
        known: &mut Told,
    ) -> Option<Effect> {
        let to = self.members.alive().get(&peer)?.destination();
        let org = world.identities.org_of(&peer);
        Some(self.ask(world, org, to, 0, &own.envelope, known))
    }

    fn bury_the_mute(&mut self, out: &mut Vec<Effect>) {
        let open = self.questions.open.iter();
        let mute: Vec<PkiId> = open
            .filter(|(_, open)| **open >= OPEN_MAX)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in mute {
            self.bury(peer, out);
        }
    }

    /// Some of those who have been silent for more than half the time that they may be, the most
    /// silent first.
    fn overdue(&self, world: &World<'_, impl Ports>, few: usize) -> Vec<PkiId> {
        let is_overdue = |member: &&Member| {
            let silence: Duration = world.now.since(member.last_seen);
            silence > rhythm::patience(&self.config, member) / 2
        };
        let mut overdue: Vec<&Member> = self.members.alive().values().filter(is_overdue).collect();
        overdue.sort_by_key(|member| member.last_seen);
        overdue.iter().take(few).map(|member| member.peer).collect()
    }

    /// What a peer of this organization and we may tell each other: everybody that is known, with
    /// incarnation and whether it is alive.
    fn known_with(&self, world: &World<'_, impl Ports>, org: Option<&OrgId>) -> Known {
        let own = &world.me.identity.org;
        let Some(with) = org else {
            return Known::new();
        };
        let is_shared = |subject: &OrgId, endpoint: &str| {
            let subject = Party {
                org: Some(subject),
                external_endpoint: endpoint,
            };
            disclosure::is_shared(own, subject, with)
        };
        let mut known = self.known_if(|member| is_shared(&member.org, &member.endpoint));
        if is_shared(own, &world.me.external_endpoint) {
            known.insert(world.me.identity.pki_id, (world.me.incarnation_ns, 1));
        }
        known
    }

    /// Members that satisfy this, with incarnation and whether they are alive.
    pub(super) fn known_if(&self, filter: impl Fn(&Member) -> bool) -> Known {
        let alive = self.members.alive().values().map(|member| (member, 1));
        let dead = self.members.dead().values().map(|member| (member, 0));
        alive
            .chain(dead)
            .filter(|(member, _)| filter(member))
            .map(|(member, is_alive)| (member.peer, (member.time.incarnation, is_alive)))
            .collect()
    }
}
