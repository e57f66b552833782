//! Which peers are there, and how we come to believe it.
//!
//! Promises: a peer is alive, dead or unknown, never two of them; what is believed about a peer
//! never goes back in its time; nobody but ourselves says anything about us. Knows nothing of
//! sockets, signature checks or channels, but the anchor peers that channels name.
//!
//! Rules: docs/protocol/membership.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use tidings_proto::gossip::Envelope;

use crate::{
    config::{Config, Me},
    effect::{Destination, Notice},
    id::{ChannelId, Moment, OrgId, PeerTime, PkiId, Ticket},
    identity::Identities,
    message::{Alive, PeerIdentity},
    pace::{self, Pace},
    ports::Ports,
    random,
    store::Latest,
    summary::Summary,
};

mod asking;
mod connects;
mod dialogue;
mod members;
mod outreach;
mod probes;
mod rhythm;
mod room;
mod voice;

pub use members::MEMBERS_MAX;
pub use rhythm::PERIOD_MAX;

use asking::{News, Questions};
use connects::{Connects, Target};
use members::{Change, Members};
use probes::Probes;
use voice::Voice;

/// Messages remembered so that none is taken twice. More than members can be, as those who were
/// forgotten are remembered for some time. At the limit messages of newcomers are refused.
const HEARD_MAX: usize = 2 * MEMBERS_MAX;

/// How soon after a failed dial or write we try whether the peer is really gone.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// What happens to the membership.
#[derive(Clone, Debug)]
pub enum Input {
    /// A peer's sign of life was gossiped to us.
    Alive {
        /// Who sent it, not necessarily the one it is about.
        from: PkiId,
        /// The message.
        alive: Box<Alive>,
    },
    /// Somebody asks whom we know.
    MembershipRequest {
        /// Copied into the answer.
        nonce: u64,
        /// The requester about itself.
        about: Box<Alive>,
        /// What it knows already.
        known: Option<Summary>,
    },
    /// Somebody tells whom it knows.
    MembershipResponse {
        /// Who.
        from: PkiId,
        /// Copied from our request.
        nonce: u64,
        /// Alive members.
        alive: Vec<Alive>,
        /// Dead members.
        dead: Vec<Alive>,
    },
    /// A dial or a write towards this peer failed.
    Unreachable(PkiId),
    /// This peer is to be erased: its endpoint belongs to another now, or its identity was
    /// dropped.
    Purge(PkiId),
    /// Answer to [`Effect::Probe`].
    Probed {
        /// Of the effect.
        ticket: Ticket,
        /// The endpoint answered.
        answered: bool,
    },
    /// Answer to [`Effect::Identify`].
    Identified {
        /// Of the effect.
        ticket: Ticket,
        /// Who authenticated there, or why nobody did.
        peer: Result<Arc<PeerIdentity>, String>,
    },
    /// These are the anchor peers of a channel now; none when the channel is left.
    Anchors {
        /// The channel.
        channel: ChannelId,
        /// Endpoints of each organization, `host:port`.
        anchors: BTreeMap<OrgId, Vec<String>>,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer; dial if there is none.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// Push this alive message, our own or somebody's, by the rules for its class.
    Gossip {
        /// The message; its envelope is to be sent as it is or without its secret.
        alive: Box<Alive>,
        /// Who sent it to us; nobody if it is our own.
        source: Option<PkiId>,
    },
    /// End the connection to this peer.
    Close(PkiId),
    /// Find out whether anything answers there.
    Probe {
        /// For the answer.
        ticket: Ticket,
        /// `host:port`.
        endpoint: String,
    },
    /// Find out who answers there.
    Identify {
        /// For the answer.
        ticket: Ticket,
        /// `host:port`.
        endpoint: String,
    },
    /// Something worth knowing: members that come and go, messages refused, warnings.
    Notify(Notice),
}

/// A peer that is or was there.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Who.
    pub peer: PkiId,
    /// Of which organization.
    pub org: OrgId,
    /// Its endpoint for other organizations; may be empty.
    pub endpoint: String,
    /// Its endpoint within its organization; empty unless we were told.
    pub internal_endpoint: String,
    /// Free bytes of the peer.
    pub metadata: Bytes,
    /// When it last spoke, by its own count.
    pub time: PeerTime,
    /// How long it may take until it speaks again, if it said so.
    pub period: Option<Duration>,
    /// Its latest alive message, as received.
    pub envelope: Envelope,
    /// When we heard of that message.
    pub last_seen: Moment,
}

impl Member {
    /// Where to dial: the endpoint within the organization, else the one for others.
    pub fn preferred_endpoint(&self) -> &str {
        if self.internal_endpoint.is_empty() {
            &self.endpoint
        } else {
            &self.internal_endpoint
        }
    }

    /// How to address this peer.
    pub fn destination(&self) -> Destination {
        Destination {
            peer: self.peer,
            endpoint: self.preferred_endpoint().to_owned(),
        }
    }
}

/// The membership of the whole network, as seen from here.
#[derive(Debug)]
pub struct Discovery {
    config: Config,
    rng: ChaCha8Rng,
    members: Members,
    /// When each peer spoke last by what was gossiped, also of those who were forgotten.
    heard: Latest<PkiId, ()>,
    voice: Voice,
    probes: Probes,
    /// Who was told whom we know.
    answered: Pace,
    connects: Connects,
    anchors: BTreeMap<ChannelId, BTreeSet<Target>>,
    next_ticket: u64,
    next_alive: Moment,
    next_check: Moment,
    next_sync: Moment,
    news: News,
    /// How long others were told that we may take to speak again.
    own_period: Duration,
    /// What it was when we last spoke to all.
    spoken_period: Duration,
    questions: Questions,
    /// The incarnation of the last peer that spoke in our name, which was reported.
    impostor: Option<u64>,
}

/// What every step may read.
struct World<'a, P> {
    now: Moment,
    me: &'a Me,
    identities: &'a Identities,
    ports: &'a P,
}

impl Discovery {
    /// Knows nobody; the first tick, due at once, begins to contact the bootstrap peers.
    pub fn new(me: &Me, config: &Config, seed: &[u8; 32]) -> Self {
        let mut connects = Connects::default();
        for target in bootstrap(config) {
            if !outreach::is_own(&target.endpoint, me) {
                connects.begin(Moment::ZERO, target);
            }
        }
        Self {
            rng: random::generator(seed, "discovery"),
            members: Members::default(),
            heard: Latest::new(Some(forgetting_time(config))),
            voice: Voice::new(config.publish_cert_period),
            probes: Probes::new(),
            answered: Pace::new(pace::MEMBERSHIP_BURST),
            connects,
            anchors: BTreeMap::new(),
            next_ticket: 0,
            next_alive: Moment::ZERO + period(config.alive_time_interval),
            next_check: Moment::ZERO + check_period(config),
            next_sync: Moment::ZERO,
            news: News::default(),
            own_period: period(config.alive_time_interval),
            spoken_period: Duration::ZERO,
            questions: Questions::default(),
            impostor: None,
            config: config.clone(),
        }
    }

    /// Feeds one input.
    pub fn handle(
        &mut self,
        now: Moment,
        input: Input,
        me: &Me,
        identities: &Identities,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let world = &World {
            now,
            me,
            identities,
            ports,
        };
        match input {
            Input::Alive { from, alive } => self.gossiped(world, from, alive, out),
            Input::MembershipRequest {
                nonce,
                about,
                known,
            } => {
                self.requested(world, nonce, &about, known.as_ref(), out);
            }
            Input::MembershipResponse {
                from,
                nonce,
                alive,
                dead,
            } => {
                let after_trouble = self.connects.answered(now, from, nonce);
                self.reached(after_trouble, out);
                self.responded(world, from, &alive, &dead, out);
            }
            Input::Unreachable(peer) => {
                if self.bury(peer, out) {
                    self.probes.look_again(peer, now + SECOND_LOOK);
                }
            }
            Input::Purge(peer) => self.erase(world, peer, out),
            Input::Probed { ticket, answered } => self.probed(world, ticket, answered, out),
            Input::Identified { ticket, peer } => self.identified(world, ticket, peer, out),
            Input::Anchors { channel, anchors } => {
                self.anchored(world, channel, &anchors, out);
            }
        }
    }

    /// Does what is due.
    pub fn tick(
        &mut self,
        now: Moment,
        me: &Me,
        identities: &Identities,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        let world = &World {
            now,
            me,
            identities,
            ports,
        };
        self.heard.expire(now);
        if self.next_check <= now {
            self.next_check = now + check_period(&self.config);
            self.check(world, out);
        }
        self.reconnect(now, out);
        self.connect(world, out);
        if self.next_alive <= now {
            self.speak(world, out);
        }
        if self.next_sync <= now {
            self.next_sync = now + period(self.config.pull_interval);
            // One round is for both.
            self.news.begins_round(now);
            self.sync(world, out);
        } else if self.news.begins_round(now) {
            self.ask_for_news(world, out);
        }
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        [
            self.heard.deadline(),
            self.probes.deadline(),
            self.connects.deadline(),
            Some(self.next_check),
            Some(self.next_alive),
            Some(self.next_sync),
            self.news.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// All members that are alive, ourselves left out, in order of their PKI-IDs.
    pub fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.alive().values()
    }

    /// All members that fell silent, in order of their PKI-IDs.
    pub fn dead(&self) -> impl Iterator<Item = &Member> {
        self.members.dead().values()
    }

    /// Whether this peer is a member that is alive.
    pub fn is_alive(&self, peer: &PkiId) -> bool {
        self.members.alive().contains_key(peer)
    }

    /// This peer, alive or dead.
    pub fn member(&self, peer: &PkiId) -> Option<&Member> {
        self.members.get(peer)
    }

    /// A sign of life that travels from peer to peer: taken once, and handed on.
    fn gossiped(
        &mut self,
        world: &World<'_, impl Ports>,
        from: PkiId,
        alive: Box<Alive>,
        out: &mut Vec<Effect>,
    ) {
        if alive.peer == world.me.identity.pki_id {
            self.about_ourselves(world.me, from, &alive, out);
            return;
        }
        if !self.heard.is_news(&alive.peer, alive.time) {
            return;
        }
        if world.identities.identity(&alive.peer).is_none() {
            let reason = format!("the identity of {} was dropped", alive.peer);
            out.push(refused(from, "D-S12", reason));
            return;
        }
        if !self.has_room_to_hear(world.me, &alive, world.identities) {
            out.push(refused(from, "M-S3", "too many peers".to_owned()));
            return;
        }
        if self.update(world, &alive, out) == Change::Full {
            out.push(refused(from, "M-S3", "too many members".to_owned()));
            return;
        }
        self.heard.add(world.now, alive.peer, alive.time, ());
        out.push(Effect::Gossip {
            alive,
            source: Some(from),
        });
    }

    /// Somebody spoke in our name. Our own messages come back now and then; those of another
    /// node with our key are worth a warning.
    fn about_ourselves(&mut self, me: &Me, from: PkiId, alive: &Alive, out: &mut Vec<Effect>) {
        let internal = alive.internal_endpoint.as_ref();
        let is_ours = alive.endpoint == me.external_endpoint
            && internal.is_none_or(|endpoint| *endpoint == me.endpoint);
        if is_ours || self.impostor == Some(alive.time.incarnation) {
            return;
        }
        self.impostor = Some(alive.time.incarnation);
        let reason = format!(
            "an alive message in our name with endpoints {:?} and {:?}: another node uses this \
             node's identity",
            alive.endpoint,
            internal.map_or("", |endpoint| endpoint.as_str()),
        );
        out.push(Effect::Notify(Notice::Warning(reason.clone())));
        out.push(refused(from, "D-S5", reason));
    }

    fn update(
        &mut self,
        world: &World<'_, impl Ports>,
        about: &Alive,
        out: &mut Vec<Effect>,
    ) -> Change {
        if !self.makes_room(world, about, out) {
            return Change::Full;
        }
        let was_alone = self.members.alive().is_empty();
        let change = self.members.update(world.now, about);
        self.keep_time(world.now, about, change, was_alone);
        if matches!(change, Change::Learned | Change::Resurrected)
            && let Some(member) = self.members.get(&about.peer)
        {
            out.push(Effect::Notify(Notice::MemberAlive {
                peer: about.peer,
                org: world.identities.org_of(&about.peer).cloned(),
                endpoint: member.preferred_endpoint().to_owned(),
            }));
        }
        change
    }

    fn bury(&mut self, peer: PkiId, out: &mut Vec<Effect>) -> bool {
        let was_alive = self.members.bury(&peer);
        if was_alive {
            self.questions.answered(&peer);
            out.push(Effect::Notify(Notice::MemberDead(peer)));
            out.push(Effect::Close(peer));
        }
        was_alive
    }

    /// Forgets a member, but not when it last spoke: what it said before stays old.
    /// Whoever it was, an endpoint that was named to us is reached for anew.
    fn erase(&mut self, world: &World<'_, impl Ports>, peer: PkiId, out: &mut Vec<Effect>) {
        let Some(member) = self.members.erase(&peer) else {
            return;
        };
        self.questions.answered(&peer);
        if self.heard.len() < HEARD_MAX {
            self.heard.add(world.now, peer, member.time, ());
        }
        out.push(Effect::Notify(Notice::MemberForgotten(peer)));
        for target in self.targets_at(&member) {
            self.reach_for(world, target);
        }
    }

    /// Who fell silent is dead; who has been dead for long is forgotten, unless its endpoint was
    /// named to us.
    fn check(&mut self, world: &World<'_, impl Ports>, out: &mut Vec<Effect>) {
        let now = world.now;
        let patience = |member: &Member| rhythm::patience(&self.config, member);
        let silent: Vec<PkiId> = members::silent(self.members.alive(), now, patience)
            .map(|member| member.peer)
            .collect();
        for peer in silent {
            self.bury(peer, out);
        }
        let memory = |member: &Member| rhythm::memory(&self.config, member);
        let lost: Vec<PkiId> = members::silent(self.members.dead(), now, memory)
            .filter(|member| self.targets_at(member).is_empty())
            .map(|member| member.peer)
            .collect();
        for peer in lost {
            self.erase(world, peer, out);
        }
    }

    /// What was named to us of the endpoints of this member: it is a bootstrap or anchor peer if
    /// that is anything.
    fn targets_at(&self, member: &Member) -> BTreeSet<Target> {
        let own = [&member.endpoint, &member.internal_endpoint];
        bootstrap(&self.config)
            .chain(self.anchors.values().flatten().cloned())
            .filter(|target| own.contains(&&target.endpoint))
            .collect()
    }
}

fn refused(from: PkiId, rule: &'static str, reason: String) -> Effect {
    Effect::Notify(Notice::Refused { from, rule, reason })
}

fn bootstrap(config: &Config) -> impl Iterator<Item = Target> {
    config.bootstrap.iter().map(|endpoint| Target {
        endpoint: endpoint.clone(),
        within_org: true,
    })
}

/// How long after its last word a dead member is forgotten.
fn forgetting_time(config: &Config) -> Duration {
    let factor = config.msg_expiration_factor;
    period(config.alive_expiration_timeout.saturating_mul(factor))
}

fn check_period(config: &Config) -> Duration {
    period(config.alive_expiration_timeout / 10)
}

/// No period is zero: its timer would never rest.
fn period(period: Duration) -> Duration {
    period.max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests;
