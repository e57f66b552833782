//! What must never be sent, whatever happens, checked on every envelope that leaves a core.
//!
//! Looks at the wire form only, nested envelopes included, and at who the peers really are. It
//! knows nothing of what a core believes, so a core with wrong beliefs is caught all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tidings_gossip::id::{OrgId, PkiId};
use tidings_proto::{
    Message as _,
    gossip::{Envelope, GossipMessage, PullMsgType, gossip_message::Content},
    msp::SerializedIdentity,
    tag::Kind,
};

/// Who a peer is.
#[derive(Clone, Debug)]
pub struct Person {
    /// Its organization.
    pub org: OrgId,
    /// It has an endpoint for other organizations.
    pub visible: bool,
}

/// Everybody who ever was.
#[derive(Clone, Debug, Default)]
pub struct Register {
    people: BTreeMap<PkiId, Person>,
    /// The members of each collection.
    collections: BTreeMap<String, BTreeSet<OrgId>>,
}

/// Something that must not happen did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as in the protocol documents.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl Violation {
    /// Something about this rule.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self {
            rule,
            what: what.into(),
        }
    }
}

impl Register {
    /// Enters a peer.
    pub fn insert(&mut self, peer: PkiId, person: Person) {
        self.people.insert(peer, person);
    }

    /// Enters a collection with its members.
    pub fn collect(&mut self, name: &str, members: BTreeSet<OrgId>) {
        self.collections.insert(name.to_owned(), members);
    }

    /// Who this is or was.
    pub fn get(&self, peer: &PkiId) -> Option<&Person> {
        self.people.get(peer)
    }

    /// How many were entered, those that are gone included.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// Nobody was entered.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    /// Checks one envelope from one peer to another.
    pub fn check(&self, from: PkiId, to: PkiId, envelope: &Envelope) -> Result<Kind, Violation> {
        if from == to {
            return Err(Violation::new("self", format!("{from} sends to itself")));
        }
        let (Some(sender), Some(receiver)) = (self.people.get(&from), self.people.get(&to)) else {
            return Err(Violation::new("register", "a peer that nobody entered"));
        };
        let border = Border {
            register: self,
            sender: &sender.org,
            receiver: &receiver.org,
        };
        border.check(envelope)
    }
}

/// The way of one envelope.
struct Border<'a> {
    register: &'a Register,
    sender: &'a OrgId,
    receiver: &'a OrgId,
}

impl Border<'_> {
    fn is_crossed(&self) -> bool {
        self.sender != self.receiver
    }

    fn check(&self, envelope: &Envelope) -> Result<Kind, Violation> {
        let message = open(envelope)?;
        let Some(content) = &message.content else {
            return Err(Violation::new("W-S6", "sends a message without content"));
        };
        let kind = Kind::of(content);
        if envelope.secret_envelope.is_some() && kind != Kind::AliveMsg {
            return Err(Violation::new("S-N8", format!("{kind} with a secret")));
        }
        match content {
            Content::AliveMsg(_) => self.alive(envelope)?,
            Content::MemReq(request) => {
                let about = request.self_information.as_ref();
                self.alive(about.ok_or_else(|| Violation::new("W-S6", "mem_req of nobody"))?)?;
            }
            Content::MemRes(response) => response
                .alive
                .iter()
                .chain(&response.dead)
                .try_for_each(|element| self.alive(element))?,
            Content::StateInfo(_) => self.state_info(envelope)?,
            Content::StateSnapshot(snapshot) => snapshot
                .elements
                .iter()
                .try_for_each(|element| self.state_info(element))?,
            Content::DataMsg(_) | Content::LeadershipMsg(_) | Content::Stripe(_)
                if self.is_crossed() =>
            {
                return Err(Violation::new("S-N11", format!("{kind} to another org")));
            }
            Content::Hello(_)
            | Content::DataDig(_)
            | Content::DataReq(_)
            | Content::DataUpdate(_) => self.pull(&message, content)?,
            Content::PrivateData(data) => {
                let payload = data.payload.as_ref();
                self.private(payload.map_or("", |p| p.collection_name.as_str()))?;
            }
            Content::PrivateRes(response) => {
                let given = response.elements.iter().filter(|e| !e.payload.is_empty());
                let names = given.map(|e| e.digest.as_ref().map_or("", |d| &d.collection));
                names.into_iter().try_for_each(|name| self.private(name))?;
            }
            _ => {}
        }
        Ok(kind)
    }

    fn alive(&self, envelope: &Envelope) -> Result<(), Violation> {
        let message = open(envelope)?;
        let Some(Content::AliveMsg(alive)) = message.content else {
            return Err(Violation::new("W-S6", "not an alive message"));
        };
        let member = alive.membership.as_ref();
        let member = member.ok_or_else(|| Violation::new("W-G3", "alive without membership"))?;
        if alive.timestamp.is_none() {
            return Err(Violation::new("W-G3", "alive without timestamp"));
        }
        let subject = self.person(&member.pki_id)?;
        if envelope.secret_envelope.is_some() && subject.org != *self.receiver {
            return Err(Violation::new(
                "D-S7",
                format!("a secret of {} goes to {}", subject.org, self.receiver),
            ));
        }
        if member.endpoint.is_empty() == subject.visible {
            return Err(Violation::new(
                "D-G2",
                format!("{:?} in an alive message", member.endpoint),
            ));
        }
        self.about("S-N10", &subject)?;
        if subject.org != *self.sender && subject.org != *self.receiver && self.is_crossed() {
            return Err(Violation::new(
                "S-N9",
                format!(
                    "alive of {} from {} to {}",
                    subject.org, self.sender, self.receiver
                ),
            ));
        }
        Ok(())
    }

    fn state_info(&self, envelope: &Envelope) -> Result<(), Violation> {
        let message = open(envelope)?;
        if !message.channel.is_empty() {
            return Err(Violation::new("G-N1", "state info names its channel"));
        }
        let Some(Content::StateInfo(info)) = message.content else {
            return Err(Violation::new("G-C8", "not a state info"));
        };
        if info.timestamp.is_none() || info.properties.is_none() {
            return Err(Violation::new("S-C14", "a state info lacks a part"));
        }
        self.about("S-C11", &self.person(&info.pki_id)?)
    }

    fn pull(&self, message: &GossipMessage, content: &Content) -> Result<(), Violation> {
        if message.pull_type() == Some(PullMsgType::BlockMsg.into()) && self.is_crossed() {
            return Err(Violation::new("S-C7", "block pull with another org"));
        }
        let is_identity = message.pull_type() == Some(PullMsgType::IdentityMsg.into());
        match content {
            Content::DataDig(digest) if is_identity => {
                digest.digests.iter().try_for_each(|id| self.identity(id))
            }
            Content::DataUpdate(update) if is_identity => update
                .data
                .iter()
                .try_for_each(|element| self.identity_element(element)),
            _ => Ok(()),
        }
    }

    /// Private data stays with the members of its collection.
    fn private(&self, collection: &str) -> Result<(), Violation> {
        let members = self.register.collections.get(collection);
        if members.is_some_and(|members| members.contains(self.receiver)) {
            return Ok(());
        }
        let what = format!("private data of {collection:?} to {}", self.receiver);
        Err(Violation::new("PD-S5", what))
    }

    fn identity_element(&self, envelope: &Envelope) -> Result<(), Violation> {
        let Some(Content::PeerIdentity(identity)) = open(envelope)?.content else {
            return Err(Violation::new("P-S1", "not an identity"));
        };
        let decodes = SerializedIdentity::decode(identity.cert).is_ok();
        if !decodes || envelope.signature.is_empty() {
            return Err(Violation::new("P-S1", "an identity without signature"));
        }
        self.identity(&identity.pki_id)
    }

    fn identity(&self, id: &[u8]) -> Result<(), Violation> {
        let subject = self.person(id)?;
        self.about("S-N14", &subject)?;
        if subject.org != *self.sender && subject.org != *self.receiver && self.is_crossed() {
            return Err(Violation::new("P-S4", "identity of a third org"));
        }
        Ok(())
    }

    /// Nothing about a peer without external endpoint leaves its organization.
    fn about(&self, rule: &'static str, subject: &Person) -> Result<(), Violation> {
        if subject.visible || subject.org == *self.receiver {
            return Ok(());
        }
        let what = format!(
            "about a hidden peer of {} to {}",
            subject.org, self.receiver
        );
        Err(Violation::new(rule, what))
    }

    fn person(&self, id: &[u8]) -> Result<Person, Violation> {
        PkiId::from_wire(id)
            .and_then(|id| self.register.people.get(&id).cloned())
            .ok_or_else(|| Violation::new("register", "about a peer that does not exist"))
    }
}

fn open(envelope: &Envelope) -> Result<GossipMessage, Violation> {
    GossipMessage::decode(envelope.payload.clone())
        .map_err(|error| Violation::new("W-S1", error.to_string()))
}

#[cfg(test)]
mod tests;
