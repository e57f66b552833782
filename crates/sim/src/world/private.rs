//! Private data: endorsers, what disks hold, and who is given what.
//!
//! A peer's disk holds what was pushed to it, what its blocks wrote, and a list of what is
//! missing. A block waits for what its peer may have and does not, before it is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::RngExt;
use tidings_gossip::{
    Connection, Input,
    id::Ticket,
    message::{PrivateDigest, PushedWrites},
    privdata::{
        Found, GatherKey, Missing, Wanted,
        distribute::{Distribution, PrivateSet},
    },
};
use tidings_proto::gossip::{
    Envelope, GossipMessage, PvtDataElement, RemotePvtDataRequest, RemotePvtDataResponse,
    gossip_message::{Content, Tag},
};

use super::{Event, Life, World, ledger::Ledger};
use crate::{
    collection::{self, NAMESPACE, PrivateWrite},
    millis, secs, toy,
    watch::Violation,
};

/// How long a disk takes.
const DISK: Range<Duration> = millis(1)..millis(15);

/// How long peers look for what old blocks lack.
const RECONCILE_PATIENCE: Duration = secs(30);

/// What a disk holds of private data.
#[derive(Debug, Default)]
pub(super) struct Vault {
    /// By transaction: collection and write set.
    transient: BTreeMap<String, Vec<(String, Bytes)>>,
    /// Names have no transaction.
    sets: BTreeMap<PrivateDigest, Bytes>,
    missing: BTreeSet<PrivateDigest>,
}

/// A transaction that is being endorsed.
#[derive(Debug)]
pub(super) struct Draft {
    endorser: Life,
    tx_id: String,
    collection: String,
    rwset: Bytes,
}

/// A push on its way to a disk.
#[derive(Debug)]
pub(super) struct Push {
    ticket: Ticket,
    pushed: Box<PushedWrites>,
}

/// What a peer has of the private writes of its ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Held, and with the hash of the block.
    pub held: usize,
    /// Not held, and listed as missing.
    pub missing: usize,
    /// Neither or both; held with another hash; held or listed without being entitled.
    pub wrong: usize,
}

/// Describing and planning.
impl World {
    /// Adds a collection of these organizations; pushes go to at most `maximum` peers, of which
    /// `required` must confirm.
    #[must_use]
    pub fn collection(
        mut self,
        name: &str,
        orgs: &[&str],
        required: usize,
        maximum: usize,
    ) -> Self {
        let collection = collection::Collection {
            orgs: orgs.iter().map(|org| (*org).into()).collect(),
            required,
            maximum,
        };
        self.register.collect(name, collection.orgs.clone());
        self.settings
            .collections
            .insert(name.to_owned(), collection);
        self
    }

    /// These peers answer requests for private data with something else.
    #[must_use]
    pub fn liars(mut self, peers: impl IntoIterator<Item = usize>) -> Self {
        self.settings.liars = peers.into_iter().collect();
        self
    }

    /// After it has stored and confirmed a push, a peer crashes with this probability, and is down
    /// for so long.
    #[must_use]
    pub fn crash_after_push(mut self, share: f64, down: Range<Duration>) -> Self {
        self.settings.crash_after_push = Some((share, down));
        self
    }

    /// As [`Self::crash`], for a peer that may be down already.
    pub fn crash_if_up(&mut self, peer: usize, when: Range<Duration>) {
        self.plan(when.start, Event::Fall(peer));
        self.plan(when.end, Event::Boot(peer));
    }

    /// Then this peer endorses a transaction that writes to this collection. If enough members
    /// confirm the push it is ordered with the next block.
    pub fn endorse(&mut self, at: Duration, peer: usize, collection: &str) {
        self.plan(at, Event::Endorse(peer, collection.to_owned()));
    }

    /// Then one peer asks another for everything that blocks wrote to a collection, as only an
    /// intruder would who does not wait for the answer.
    pub fn pry(&mut self, at: Duration, peer: usize, whom: usize, collection: &str) {
        self.plan(at, Event::Pry(peer, whom, collection.to_owned()));
    }
}

/// Endorsing.
impl World {
    pub(super) fn endorse_now(&mut self, peer: usize, collection: &str) {
        let number = self.drafts.len() as u64;
        let Some(host) = self.hosts.get(peer).filter(|host| host.body.is_some()) else {
            return;
        };
        let life = host.life(peer);
        let sim_height = host.ledger.height();
        let Some(terms) = self.settings.collections.get(collection) else {
            let what = format!("nobody defined {collection}");
            return self.violate(Violation::new("scenario", what));
        };
        let rwset = Bytes::from(format!("private writes {number} of {collection}"));
        let set = PrivateSet {
            namespace: NAMESPACE.to_owned(),
            collection: collection.to_owned(),
            rwset: rwset.clone(),
            configs: collection::configs(collection, terms),
            required: terms.required,
            maximum: terms.maximum,
        };
        let draft = Draft {
            endorser: life,
            tx_id: format!("tx{number}"),
            collection: collection.to_owned(),
            rwset,
        };
        let distribution = Distribution {
            ticket: Ticket(number),
            channel: self.settings.channel.clone(),
            tx_id: draft.tx_id.clone(),
            sim_height,
            sets: vec![set],
        };
        self.drafts.push(draft);
        self.give(life, Input::Distribute(distribution));
    }

    /// A push ended: the endorser keeps its copy and submits, or gives up.
    pub(super) fn distributed(&mut self, life: Life, ticket: Ticket, is_enough: bool) {
        let draft = usize::try_from(ticket.0)
            .ok()
            .and_then(|number| self.drafts.get(number))
            .filter(|draft| draft.endorser == life);
        let (Some(draft), Some(host)) = (draft, self.hosts.get_mut(life.peer)) else {
            return;
        };
        if !is_enough {
            self.stats.endorsements_failed += 1;
            return;
        }
        let terms = self.settings.collections.get(&draft.collection);
        if terms.is_some_and(|terms| terms.orgs.contains(&host.identity.org)) {
            let copies = host.vault.transient.entry(draft.tx_id.clone()).or_default();
            copies.push((draft.collection.clone(), draft.rwset.clone()));
        }
        let endorser = &host.identity.serialized;
        let transaction =
            collection::transaction(&draft.tx_id, &draft.collection, &draft.rwset, endorser);
        self.orderer.submit(transaction);
    }
}

/// What a core wants done.
impl World {
    pub(super) fn store_push(&mut self, life: Life, ticket: Ticket, pushed: Box<PushedWrites>) {
        let delay = self.between(DISK);
        let push = Push { ticket, pushed };
        self.plan(self.now + delay, Event::Stored(life, push));
    }

    /// A push is on the disk.
    pub(super) fn stored(&mut self, life: Life, Push { ticket, pushed }: Push) {
        if self.body(life).is_none() {
            return;
        }
        if let Some(host) = self.hosts.get_mut(life.peer) {
            let copies = host.vault.transient.entry(pushed.tx_id).or_default();
            copies.push((pushed.collection, pushed.rwset));
        }
        self.give(
            life,
            Input::PrivateStored {
                ticket,
                result: Ok(()),
            },
        );
        if let Some((share, down)) = self.settings.crash_after_push.clone()
            && self.rng.random_bool(share)
        {
            let at = self.now + self.between(Duration::ZERO..secs(1));
            let up = at + self.between(down);
            self.plan(at, Event::Fall(life.peer));
            self.plan(up, Event::Boot(life.peer));
        }
    }

    pub(super) fn fall(&mut self, peer: usize) {
        if self.hosts.get(peer).is_some_and(|host| host.body.is_some()) {
            self.kill(peer);
        }
    }

    /// What of a block's private writes a peer may have and does not.
    pub(super) fn lacking(&self, life: Life, block: &Bytes) -> (Vec<Found>, Vec<Wanted>) {
        let (mut have, mut wanted) = (Vec::new(), Vec::new());
        let Some(host) = self.hosts.get(life.peer) else {
            return (have, wanted);
        };
        for write in collection::private_writes(block) {
            let Some(orgs) = self.members_of(&write) else {
                continue;
            };
            if !orgs.contains(&host.identity.org) {
                continue;
            }
            match host.vault.pushed(&write) {
                Some(payload) => have.push(Found {
                    digest: write.digest,
                    payload,
                    from: host.identity.pki_id,
                    is_verified: true,
                }),
                None => wanted.push(Wanted {
                    hash: write.hash,
                    may_differ: false,
                    endorsers: vec![write.endorser],
                    member_orgs: orgs.clone(),
                    block_to_live: 0,
                    digest: write.digest,
                }),
            }
        }
        (have, wanted)
    }

    pub(super) fn gathered(
        &mut self,
        life: Life,
        key: GatherKey,
        found: Vec<Found>,
        missing: Vec<(PrivateDigest, Missing)>,
    ) {
        for found in &found {
            self.check_found(life, found);
        }
        let Some(host) = self.hosts.get_mut(life.peer) else {
            return;
        };
        match key {
            GatherKey::Block(number) => {
                if let Some(commit) = host.ledger.waiting_commit(number) {
                    commit.gathered(found, missing);
                }
                self.begin_commit(life);
            }
            GatherKey::Reconcile(_) => {
                self.stats.reconciled += found.len() as u64;
                for found in found {
                    let name = nameless(&found.digest);
                    host.vault.missing.remove(&name);
                    host.vault.sets.insert(name, found.payload);
                }
            }
        }
    }

    /// A core vouches for what it calls verified.
    fn check_found(&mut self, life: Life, found: &Found) {
        let hash = collection::hash(&found.payload);
        let Some(block) = self.orderer.block(found.digest.block) else {
            return;
        };
        let writes = collection::private_writes(&block.bytes);
        let name = nameless(&found.digest);
        let is_right = writes
            .iter()
            .any(|write| nameless(&write.digest) == name && write.hash == hash);
        if !is_right || !found.is_verified {
            let what = format!("peer {} takes what is not in the block", life.peer);
            self.violate(Violation::new("PD-S10", what));
        }
    }

    pub(super) fn list_missing(&mut self, life: Life, round: u64, limit: usize) {
        let Some(host) = self.hosts.get(life.peer) else {
            return;
        };
        let blocks: BTreeSet<u64> = host.vault.missing.iter().map(|d| d.block).collect();
        let newest: BTreeSet<u64> = blocks.into_iter().rev().take(limit).collect();
        let mut items = Vec::new();
        for number in newest {
            let Some(block) = host.ledger.block(number) else {
                continue;
            };
            for write in collection::private_writes(&block.bytes) {
                let digest = nameless(&write.digest);
                if !host.vault.missing.contains(&digest) {
                    continue;
                }
                items.push(Wanted {
                    digest,
                    hash: write.hash,
                    may_differ: false,
                    member_orgs: self.members_of(&write).cloned().unwrap_or_default(),
                    endorsers: vec![write.endorser],
                    block_to_live: 0,
                });
            }
        }
        let input = Input::PrivateWanted {
            channel: self.settings.channel.clone(),
            key: GatherKey::Reconcile(round),
            items,
            patience: RECONCILE_PATIENCE,
        };
        let delay = self.between(DISK);
        self.plan_input(delay, life, input);
    }

    pub(super) fn serve_private(
        &mut self,
        life: Life,
        ticket: Ticket,
        from: &Arc<Connection>,
        nonce: u64,
        digests: Vec<PrivateDigest>,
    ) {
        let asks = toy::evidence(&from.handshake);
        let is_liar = self.settings.liars.contains(&life.peer);
        let mut elements = Vec::new();
        for digest in digests {
            let terms = self.settings.collections.get(&digest.collection);
            let (Some(terms), Ok(asks)) = (terms, &asks) else {
                continue;
            };
            if !terms.orgs.contains(&asks.org) {
                self.stats.private_refused += 1;
                continue;
            }
            let copies = self.hosts.get(life.peer).map(|host| host.copies(&digest));
            let payload = match copies.unwrap_or_default() {
                _ if is_liar => vec![Bytes::from_static(b"a lie")],
                copies if copies.is_empty() => continue,
                copies => copies,
            };
            elements.push(PvtDataElement {
                digest: Some(digest.into()),
                payload,
            });
        }
        self.stats.private_given += elements.len() as u64;
        let content = Content::PrivateRes(RemotePvtDataResponse { elements });
        let envelope = self.private_envelope(nonce, content);
        self.reply(life, from.id, envelope);
        let delay = self.between(DISK);
        self.plan_input(delay, life, Input::PrivateServed { ticket });
    }

    pub(super) fn pry_now(&mut self, peer: usize, whom: usize, collection: &str) {
        let (Some(host), Some(target)) = (self.hosts.get(peer), self.hosts.get(whom)) else {
            return;
        };
        let life = host.life(peer);
        let to = tidings_gossip::effect::Destination {
            peer: target.identity.pki_id,
            endpoint: target.external_endpoint.clone(),
        };
        let blocks = target.ledger.all().iter();
        let writes = blocks.flat_map(|block| collection::private_writes(&block.bytes));
        let digests = writes
            .filter(|write| write.digest.collection == collection)
            .map(|write| write.digest.into());
        let digests = digests.collect();
        let content = Content::PrivateReq(RemotePvtDataRequest { digests });
        let envelope = self.private_envelope(7, content);
        self.send(life, &to, envelope);
    }

    fn private_envelope(&self, nonce: u64, content: Content) -> Envelope {
        Envelope::unsigned(&GossipMessage {
            nonce,
            channel: self.settings.channel.as_bytes().to_vec().into(),
            tag: Tag::ChanOnly.into(),
            content: Some(content),
        })
    }

    fn members_of(&self, write: &PrivateWrite) -> Option<&BTreeSet<tidings_gossip::id::OrgId>> {
        let terms = self.settings.collections.get(&write.digest.collection)?;
        Some(&terms.orgs)
    }
}

/// What a scenario may ask.
impl World {
    /// What a peer has of the private writes of its ledger, up or down.
    pub fn account(&self, peer: usize) -> Account {
        let mut account = Account::default();
        let Some(host) = self.hosts.get(peer) else {
            return account;
        };
        for block in host.ledger.all() {
            for write in collection::private_writes(&block.bytes) {
                let orgs = self.members_of(&write);
                let is_entitled = orgs.is_some_and(|orgs| orgs.contains(&host.identity.org));
                let name = nameless(&write.digest);
                let held = host.vault.sets.get(&name).map(|set| collection::hash(set));
                match (is_entitled, held, host.vault.missing.contains(&name)) {
                    (true, Some(hash), false) if hash == write.hash => account.held += 1,
                    (true, None, true) => account.missing += 1,
                    (false, None, false) => {}
                    _ => account.wrong += 1,
                }
            }
        }
        account
    }

    /// Whether nobody that is up has what this peer lacks.
    pub fn misses_nothing_that_others_have(&self, peer: usize) -> bool {
        let Some(host) = self.hosts.get(peer) else {
            return true;
        };
        let mut others = self.hosts.iter().filter(|other| other.body.is_some());
        others.all(|other| {
            let mut missing = host.vault.missing.iter();
            missing.all(|name| !other.vault.sets.contains_key(name))
        })
    }

    /// Whether nothing of private data is under way at a peer.
    pub fn private_is_quiet(&self, peer: usize) -> bool {
        let sizes = self.node(peer).map(|node| node.sizes());
        sizes.is_some_and(|sizes| sizes.private == Default::default() && sizes.distributions == 0)
    }
}

impl super::peer::Host {
    /// What its disk has for a digest: of a block that it has, else of a transaction.
    fn copies(&self, digest: &PrivateDigest) -> Vec<Bytes> {
        if self.ledger.height() > digest.block {
            let set = self.vault.sets.get(&nameless(digest));
            return set.into_iter().cloned().collect();
        }
        let copies = self
            .vault
            .transient
            .get(&digest.tx_id)
            .into_iter()
            .flatten();
        copies
            .filter(|(collection, _)| *collection == digest.collection)
            .map(|(_, rwset)| rwset.clone())
            .collect()
    }
}

impl Vault {
    /// Whether this write was pushed.
    fn pushed(&self, write: &PrivateWrite) -> Option<Bytes> {
        let copies = self.transient.get(&write.digest.tx_id)?;
        let right = |copy: &&(String, Bytes)| collection::hash(&copy.1) == write.hash;
        copies.iter().find(right).map(|(_, rwset)| rwset.clone())
    }

    /// A block is written, with what there is.
    pub(super) fn commit(&mut self, found: Vec<Found>, missing: Vec<(PrivateDigest, Missing)>) {
        for found in found {
            self.transient.remove(&found.digest.tx_id);
            self.sets.insert(nameless(&found.digest), found.payload);
        }
        let missing = missing.iter().map(|(digest, _)| nameless(digest));
        self.missing.extend(missing);
    }

    /// For a report.
    pub(super) fn summary(&self) -> String {
        let (held, missing) = (self.sets.len(), self.missing.len());
        let waiting = self.transient.len();
        format!("{held} private sets, {missing} missing, {waiting} transactions waiting")
    }
}

/// As the name of what a block wrote.
fn nameless(digest: &PrivateDigest) -> PrivateDigest {
    PrivateDigest {
        tx_id: String::new(),
        ..digest.clone()
    }
}

impl Ledger {
    /// Whether a block still waits for its private data.
    fn waiting_commit(&mut self, number: u64) -> Option<&mut super::ledger::Commit> {
        self.waiting_mut().find(|commit| commit.waits_as(number))
    }
}
