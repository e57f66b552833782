//! Who is known, and the pulling of identities.
//!
//! Promises: what is stored under a PKI-ID never changes, is never past its end, and is forgotten
//! when it is revoked or nobody used it for long. Validity itself was judged before: here come only
//! identities that passed [`crate::ports::Verifier::validate`].

use std::{collections::BTreeMap, sync::Arc};

use tidings_proto::gossip::Envelope;

use crate::{
    config::{Config, Me},
    discovery::Discovery,
    effect::Destination,
    id::{ConnectionId, Moment, OrgId, PkiId},
    message::{Connection, IdentityMessage, PeerIdentity, Pull},
    ports::Ports,
};

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
    /// The identity was dropped: membership is to be purged of it, and it must not verify
    /// anything until it authenticates anew.
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
    /// Something an operator should do something about.
    Warning(String),
}

/// All known identities, the own one included.
#[derive(Debug)]
pub struct Identities {
    entries: BTreeMap<PkiId, Arc<PeerIdentity>>,
}

impl Identities {
    /// Knows nobody but ourselves.
    pub fn new(me: &Me, config: &Config, ports: &impl Ports, seed: &[u8; 32]) -> Self {
        let _ = (me, config, ports, seed);
        Self {
            entries: BTreeMap::new(),
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
        let _ = (now, input, me, discovery, out);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment, me: &Me, discovery: &Discovery, out: &mut Vec<Effect>) {
        let _ = (now, me, discovery, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        None
    }

    /// The identity of this peer.
    pub fn identity(&self, peer: &PkiId) -> Option<&Arc<PeerIdentity>> {
        self.entries.get(peer)
    }

    /// The organization of this peer.
    pub fn org_of(&self, peer: &PkiId) -> Option<&OrgId> {
        self.entries.get(peer).map(|identity| &identity.org)
    }

    /// Everybody known, in order of the PKI-IDs.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<PeerIdentity>> {
        self.entries.values()
    }
}
