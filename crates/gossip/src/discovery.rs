//! Which peers are there, and how we come to believe it.
//!
//! Promises: a peer is alive, dead or unknown, never two of them; what is believed about a peer
//! never goes back in its time; nobody but ourselves says anything about us. Knows nothing of
//! sockets, signature checks or channels, but the anchor peers that channels name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use tidings_proto::gossip::Envelope;

use crate::{
    config::{Config, Me},
    effect::{Destination, Notice},
    id::{ChannelId, Moment, OrgId, PeerTime, PkiId, Ticket},
    identity::Identities,
    message::{Alive, PeerIdentity},
    ports::Ports,
};

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
    /// Its endpoint for other organizations; may be empty.
    pub endpoint: String,
    /// Its endpoint within its organization; empty unless we were told.
    pub internal_endpoint: String,
    /// Free bytes of the peer.
    pub metadata: Bytes,
    /// When it last spoke, by its own count.
    pub time: PeerTime,
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
    alive: BTreeMap<PkiId, Member>,
    dead: BTreeMap<PkiId, Member>,
    anchors: BTreeMap<ChannelId, BTreeSet<String>>,
}

impl Discovery {
    /// Knows nobody; the first tick, due at once, begins to contact the bootstrap peers.
    pub fn new(me: &Me, config: &Config, seed: &[u8; 32]) -> Self {
        let _ = (me, seed);
        Self {
            config: config.clone(),
            alive: BTreeMap::new(),
            dead: BTreeMap::new(),
            anchors: BTreeMap::new(),
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
        let _ = (now, input, me, identities, ports, out);
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
        let _ = (now, me, identities, ports, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        None
    }

    /// All members that are alive, ourselves left out, in order of their PKI-IDs.
    pub fn alive(&self) -> impl Iterator<Item = &Member> {
        self.alive.values()
    }

    /// All members that fell silent, in order of their PKI-IDs.
    pub fn dead(&self) -> impl Iterator<Item = &Member> {
        self.dead.values()
    }

    /// Whether this peer is a member that is alive.
    pub fn is_alive(&self, peer: &PkiId) -> bool {
        self.alive.contains_key(peer)
    }

    /// This peer, alive or dead.
    pub fn member(&self, peer: &PkiId) -> Option<&Member> {
        self.alive.get(peer).or_else(|| self.dead.get(peer))
    }
}
