//! Who is known, and the pulling of identities.
//!
//! Promises: what is stored under a PKI-ID never changes, is never past its end, and is forgotten
//! when it is revoked or nobody used it for long. Validity itself was judged before: here come only
//! identities that passed [`crate::ports::Verifier::validate`].
//!
//! Rules: docs/protocol/identity.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tidings_proto::gossip::{
    Envelope, PeerIdentity as WireIdentity,
    gossip_message::{Content, Tag},
};

use crate::{
    config::{Config, Me},
    disclosure::{self, Party},
    discovery::{Discovery, Member},
    effect::{Destination, Notice},
    id::{ConnectionId, Moment, OrgId, PkiId},
    message::{Alive, Connection, IdentityMessage, Message, PeerIdentity, Pull},
    ports::Ports,
    pull::{self, Puller, Topic},
    random, wire,
};

/// Identities known at a time, as many as members can be. At the limit new ones are refused, but
/// those of our own organization take the place of another's.
pub const IDENTITIES_MAX: usize = 8192;

/// Identities of one other organization, as few as members: one certificate authority gone wild
/// leaves room for others.
const FOREIGN_MAX: usize = IDENTITIES_MAX / 4;

/// An identity that nobody used for so long is forgotten.
const USAGE_THRESHOLD: Duration = Duration::from_secs(60 * 60);

/// How often unused identities are looked for.
const PURGE_INTERVAL: Duration = Duration::from_secs(6 * 60);

/// How long a revoked identity is refused whatever says that it is valid: messages that passed
/// their check before the revocation may still be under way.
const REVOCATION_ECHO: Duration = Duration::from_secs(60);

/// What happens to the known identities.
#[derive(Clone, Debug)]
pub enum Input {
    /// An identity proved itself: by a handshake, an alive message, or by signing something.
    /// Stored if new, else noted as used.
    Learned(Arc<PeerIdentity>),
    /// No longer valid.
    Revoked(PkiId),
    /// A message of the identity pull.
    Pull {
        /// The stream it came on.
        from: Arc<Connection>,
        /// The message.
        pull: Pull<IdentityMessage>,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// On exactly this stream.
    Reply {
        /// Which stream.
        connection: ConnectionId,
        /// What.
        envelope: Envelope,
    },
    /// The identity was dropped or not taken: membership is to be purged of it, and it must not
    /// verify anything until it authenticates anew.
    Forget(PkiId),
    /// End the connection to this peer.
    Close(PkiId),
    /// Something was dropped by a rule.
    Refused {
        /// Who sent it.
        from: PkiId,
        /// The rule.
        rule: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// To be known.
    Notify(Notice),
}

impl From<pull::Effect> for Effect {
    fn from(effect: pull::Effect) -> Self {
        match effect {
            pull::Effect::Send { to, envelope } => Self::Send { to, envelope },
            pull::Effect::Reply {
                connection,
                envelope,
            } => Self::Reply {
                connection,
                envelope,
            },
        }
    }
}

/// The identities that a message shows to be in use, to be fed as [`Input::Learned`] before the
/// message goes to its component.
pub fn shown_by(message: &Message) -> Vec<Arc<PeerIdentity>> {
    let of = |alive: &Alive| Arc::clone(&alive.identity);
    match message {
        Message::Alive(alive) => vec![of(alive)],
        Message::MembershipRequest { about, .. } => vec![of(about)],
        Message::MembershipResponse { alive, dead, .. } => {
            alive.iter().chain(dead).map(of).collect()
        }
        Message::StateInfo(info) => vec![Arc::clone(&info.identity)],
        Message::StateSnapshot { elements, .. } => elements
            .iter()
            .map(|info| Arc::clone(&info.identity))
            .collect(),
        _ => Vec::new(),
    }
}

/// All known identities, the own one included.
#[derive(Debug)]
pub struct Identities {
    own: PkiId,
    entries: BTreeMap<PkiId, Entry>,
    /// Identities of each organization.
    counts: BTreeMap<OrgId, usize>,
    /// End of validity of each, soonest first.
    ends: BTreeSet<(Moment, PkiId)>,
    /// Recently revoked, with the time until which that is remembered.
    revoked: BTreeMap<PkiId, Moment>,
    next_purge: Moment,
    /// When the own identity ends, until that was reported.
    own_end: Option<Moment>,
    puller: Puller,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<PeerIdentity>,
    ends: Moment,
    last_used: Moment,
}

impl Identities {
    /// Knows nobody but ourselves.
    pub fn new(me: &Me, config: &Config, ports: &impl Ports, seed: &[u8; 32]) -> Self {
        let rng = random::generator(seed, "identity pull");
        let own = me.identity.pki_id;
        let mut puller = Puller::new(Topic::Identities, config, Moment::ZERO, rng);
        puller.add(pki_bytes(&own), own_message(me, ports));
        let entry = Entry {
            identity: Arc::clone(&me.identity),
            ends: end(me, me.identity.expires_at),
            last_used: Moment::ZERO,
        };
        Self {
            own,
            counts: BTreeMap::from([(me.identity.org.clone(), 1)]),
            ends: BTreeSet::new(),
            revoked: BTreeMap::new(),
            next_purge: Moment::ZERO + PURGE_INTERVAL,
            own_end: Some(entry.ends),
            entries: BTreeMap::from([(own, entry)]),
            puller,
        }
    }

    /// Feeds one input.
    pub fn handle(
        &mut self,
        now: Moment,
        input: Input,
        me: &Me,
        discovery: &Discovery,
        out: &mut Vec<Effect>,
    ) {
        match input {
            Input::Learned(identity) => {
                let peer = identity.pki_id;
                if let Err(why) = self.learn(now, me, identity, out) {
                    refuse(peer, peer, why, out);
                    out.push(Effect::Close(peer));
                }
            }
            Input::Revoked(peer) => {
                self.revoked.retain(|_, until| now < *until);
                if peer != self.own && self.revoked.len() < IDENTITIES_MAX {
                    self.revoked.insert(peer, now + REVOCATION_ECHO);
                }
                self.end(peer, false, out);
            }
            Input::Pull { from, pull } => self.pull(now, &from, pull, me, discovery, out),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment, discovery: &Discovery, out: &mut Vec<Effect>) {
        while let Some((end, peer)) = self.ends.first().copied() {
            if now < end {
                break;
            }
            self.end(peer, true, out);
        }
        if self.own_end.is_some_and(|end| end <= now) {
            self.own_end = None;
            self.puller.remove(self.own.as_bytes());
            let warning = "the own certificate has expired: other peers refuse this node";
            out.push(Effect::Notify(Notice::Warning(warning.to_owned())));
        }
        if self.next_purge <= now {
            self.next_purge = now + PURGE_INTERVAL;
            self.revoked.retain(|_, until| now < *until);
            self.purge_unused(now, discovery, out);
        }
        let candidates: Vec<Destination> = if self.puller.begins_round(now) {
            let alive: Vec<&Member> = discovery.alive().collect();
            let chosen = self.puller.choose_some(&alive).into_iter();
            chosen.map(|member| member.destination()).collect()
        } else {
            Vec::new()
        };
        let mut effects = Vec::new();
        self.puller.tick(now, &candidates, &mut effects);
        out.extend(effects.into_iter().map(Effect::from));
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let soonest = self.ends.first().map(|(end, _)| *end);
        [
            soonest,
            self.own_end,
            Some(self.next_purge),
            self.puller.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The identity of this peer.
    pub fn identity(&self, peer: &PkiId) -> Option<&Arc<PeerIdentity>> {
        self.entries.get(peer).map(|entry| &entry.identity)
    }

    /// The organization of this peer.
    pub fn org_of(&self, peer: &PkiId) -> Option<&OrgId> {
        self.identity(peer).map(|identity| &identity.org)
    }

    /// Everybody known, in order of the PKI-IDs.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<PeerIdentity>> {
        self.entries.values().map(|entry| &entry.identity)
    }

    /// Stores a new identity; one that is there stays as it is.
    fn learn(
        &mut self,
        now: Moment,
        me: &Me,
        identity: Arc<PeerIdentity>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Unwelcome> {
        let peer = identity.pki_id;
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.last_used = now;
            return Ok(());
        }
        let ends = end(me, identity.expires_at);
        if ends <= now {
            return unwelcome("I-S2", format!("the identity of {peer} has expired"));
        }
        if self.revoked.get(&peer).is_some_and(|until| now < *until) {
            return unwelcome("I-S3", format!("the identity of {peer} was revoked"));
        }
        if !self.makes_room(&me.identity.org, &identity.org, out) {
            return unwelcome(
                "M-S3",
                format!("too many identities for one of {}", identity.org),
            );
        }
        *self.counts.entry(identity.org.clone()).or_default() += 1;
        self.ends.insert((ends, peer));
        let entry = Entry {
            identity,
            ends,
            last_used: now,
        };
        self.entries.insert(peer, entry);
        Ok(())
    }

    /// Whether there is room for one more of this organization. One of our own takes the place
    /// of the least used of others, if need be.
    fn makes_room(&mut self, own: &OrgId, org: &OrgId, out: &mut Vec<Effect>) -> bool {
        let is_full = self.entries.len() >= IDENTITIES_MAX;
        if org != own {
            return !is_full
                && self
                    .counts
                    .get(org)
                    .is_none_or(|count| *count < FOREIGN_MAX);
        }
        if is_full {
            let foreign = self.entries.iter();
            let foreign = foreign.filter(|(_, entry)| entry.identity.org != *own);
            let least = foreign.min_by_key(|(_, entry)| entry.last_used);
            let Some(peer) = least.map(|(peer, _)| *peer) else {
                return false;
            };
            self.drop_identity(peer, out);
        }
        true
    }

    /// Drops an identity that is no longer good.
    fn end(&mut self, peer: PkiId, expired: bool, out: &mut Vec<Effect>) {
        let org = self.org_of(&peer).cloned();
        self.drop_identity(peer, out);
        if let Some(org) = org.filter(|_| peer != self.own) {
            let notice = Notice::IdentityEnded { peer, org, expired };
            out.push(Effect::Notify(notice));
        }
    }

    /// The own identity is never dropped: without it nothing could be told apart any more.
    fn drop_identity(&mut self, peer: PkiId, out: &mut Vec<Effect>) {
        if peer == self.own {
            return;
        }
        let Some(entry) = self.entries.remove(&peer) else {
            return;
        };
        self.ends.remove(&(entry.ends, peer));
        if let Some(count) = self.counts.get_mut(&entry.identity.org) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&entry.identity.org);
            }
        }
        self.puller.remove(peer.as_bytes());
        out.extend([Effect::Forget(peer), Effect::Close(peer)]);
    }

    fn purge_unused(&mut self, now: Moment, discovery: &Discovery, out: &mut Vec<Effect>) {
        let unused: Vec<PkiId> = self
            .entries
            .iter()
            .filter(|(_, entry)| now.since(entry.last_used) > USAGE_THRESHOLD)
            .map(|(peer, _)| *peer)
            .filter(|peer| !discovery.is_alive(peer))
            .collect();
        for peer in unused {
            self.drop_identity(peer, out);
        }
    }

    fn pull(
        &mut self,
        now: Moment,
        from: &Connection,
        pull: Pull<IdentityMessage>,
        me: &Me,
        discovery: &Discovery,
        out: &mut Vec<Effect>,
    ) {
        let Self {
            puller, entries, ..
        } = self;
        let org_of = |peer: &PkiId| entries.get(peer).map(|entry| &entry.identity.org);
        let to = org_of(&from.peer());
        let allowed = |id: &[u8]| {
            PkiId::from_wire(id).is_some_and(|subject| {
                let party = || Party {
                    org: org_of(&subject),
                    external_endpoint: if subject == me.identity.pki_id {
                        &me.external_endpoint
                    } else {
                        let member = discovery.member(&subject);
                        member.map_or("", |member| &member.endpoint)
                    },
                };
                disclosure::may_serve_identity(&me.identity.org, party, to)
            })
        };
        let mut effects = Vec::new();
        match pull {
            Pull::Hello { nonce, known } => {
                puller.hello(now, from, nonce, known.as_ref(), allowed, &mut effects);
            }
            Pull::Digest { nonce, digests } => {
                let wanted = |id: &[u8]| PkiId::from_wire(id).is_some();
                puller.digest(now, from.peer(), nonce, digests, wanted, &mut effects);
            }
            Pull::Request { nonce, digests } => {
                puller.request(now, from, nonce, &digests, allowed, &mut effects);
            }
            Pull::Update { nonce, items } => {
                self.update(now, from.peer(), nonce, items, me, out);
            }
        }
        out.extend(effects.into_iter().map(Effect::from));
    }

    fn update(
        &mut self,
        now: Moment,
        from: PkiId,
        nonce: u64,
        items: Vec<IdentityMessage>,
        me: &Me,
        out: &mut Vec<Effect>,
    ) {
        let id = |item: &IdentityMessage| pki_bytes(&item.identity.pki_id);
        let mut unasked: BTreeSet<PkiId> = items.iter().map(|i| i.identity.pki_id).collect();
        for item in self.puller.update(now, from, nonce, items, id) {
            let (peer, name) = (item.identity.pki_id, id(&item));
            unasked.remove(&peer);
            match self.learn(now, me, item.identity, out) {
                Ok(()) => self.puller.add(name, item.envelope),
                Err(why) => refuse(from, peer, why, out),
            }
        }
        // The gate, which cannot tell, remembers them.
        unasked.retain(|peer| !self.entries.contains_key(peer));
        out.extend(unasked.into_iter().map(Effect::Forget));
    }
}

/// Why an identity is not stored.
struct Unwelcome {
    rule: &'static str,
    reason: String,
}

fn unwelcome(rule: &'static str, reason: String) -> Result<(), Unwelcome> {
    Err(Unwelcome { rule, reason })
}

/// The gate may have remembered what it let through: there too it must not count.
fn refuse(from: PkiId, peer: PkiId, why: Unwelcome, out: &mut Vec<Effect>) {
    let Unwelcome { rule, reason } = why;
    out.push(Effect::Refused { from, rule, reason });
    out.push(Effect::Forget(peer));
}

fn pki_bytes(peer: &PkiId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}

/// Only the owner can make this message; everybody else hands it on.
fn own_message(me: &Me, ports: &impl Ports) -> Envelope {
    let content = Content::PeerIdentity(WireIdentity {
        pki_id: pki_bytes(&me.identity.pki_id),
        cert: me.identity.serialized.clone(),
        metadata: Bytes::new(),
    });
    wire::signed(ports, &wire::gossip_message(0, None, Tag::Empty, content))
}

/// The first moment at which an identity that is good until this second is no longer so.
fn end(me: &Me, expires_at: i64) -> Moment {
    let expires_at = Duration::from_secs(u64::try_from(expires_at).unwrap_or(0));
    let grace = Duration::from_millis(1);
    let started_at = Duration::from_nanos(me.started_at_ns);
    Moment::after_start(expires_at.saturating_add(grace).saturating_sub(started_at))
}

#[cfg(test)]
mod tests;
