//! A node's surroundings for tests of what stands on membership: peers that are known and alive,
//! and a channel policy that can be told whom to refuse.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidings_proto::{
    gossip::{
        self as wire_types, Envelope, Properties,
        gossip_message::{Content, Tag},
    },
    protos::CollectionConfigPackage,
};

use crate::{
    channel::{self, Channel},
    config::{Config, Me},
    discovery::{self, Discovery},
    id::{ChannelId, Moment, OrgId, PkiId},
    identity::{self, Identities},
    input::JoinChannel,
    message::{BlockMessage, Extension, Message, PeerIdentity, StateInfo, VerifiedBlock},
    ports::{CollectionName, Ports, Terms},
    toy::{self, Speech, ToyPorts},
    view::View,
    wire,
};

pub(crate) const SEED: [u8; 32] = [9; 32];

pub(crate) fn at(ms: u64) -> Moment {
    Moment::after_start(Duration::from_millis(ms))
}

/// Signs as we do; everybody but the outsiders may read every channel.
pub(crate) struct Desk {
    signer: ToyPorts,
    pub(crate) outsiders: BTreeSet<PkiId>,
}

impl Ports for Desk {
    fn sign(&self, message: &[u8]) -> Bytes {
        self.signer.sign(message)
    }

    fn is_reader(&self, _: &ChannelId, identity: &PeerIdentity) -> bool {
        !self.outsiders.contains(&identity.pki_id)
    }

    fn member_orgs(
        &self,
        _: &ChannelId,
        _: CollectionName<'_>,
        configs: &CollectionConfigPackage,
    ) -> Result<BTreeSet<OrgId>, String> {
        toy::members_of(configs)
    }

    fn is_entitled(
        &self,
        _: &ChannelId,
        collection: CollectionName<'_>,
        terms: Terms<'_>,
        info: &StateInfo,
    ) -> bool {
        toy::may_have(collection, terms, info) && !self.outsiders.contains(&info.peer)
    }
}

/// Peer `me` of organization `A`, which has an external endpoint, and whom it met.
pub(crate) struct Scene {
    pub(crate) me: Me,
    pub(crate) config: Config,
    pub(crate) identities: Identities,
    pub(crate) discovery: Discovery,
    pub(crate) ports: Desk,
}

impl Scene {
    pub(crate) fn new(config: Config) -> Self {
        let me = toy::me("A", "me", "me.example:1");
        let ports = Desk {
            signer: ToyPorts(Arc::clone(&me.identity)),
            outsiders: BTreeSet::new(),
        };
        Self {
            identities: Identities::new(&me, &config, &ports, &SEED),
            discovery: Discovery::new(&me, &config, &SEED),
            me,
            config,
            ports,
        }
    }

    /// A peer whose identity we know.
    pub(crate) fn know(&mut self, org: &str, name: &str) -> Arc<PeerIdentity> {
        let identity = toy::identity(org, name);
        self.identities.handle(
            at(0),
            identity::Input::Learned(Arc::clone(&identity)),
            &self.me,
            &self.discovery,
            &mut Vec::new(),
        );
        identity
    }

    /// A peer that is alive, with an external endpoint; those of our organization tell us the
    /// internal one too.
    pub(crate) fn meet(&mut self, org: &str, name: &str) -> Arc<PeerIdentity> {
        self.meet_at(org, name, &format!("{name}.example:1"))
    }

    /// A peer that is alive, with this external endpoint.
    pub(crate) fn meet_at(&mut self, org: &str, name: &str, external: &str) -> Arc<PeerIdentity> {
        let identity = self.know(org, name);
        let internal = if org == "A" {
            format!("{name}:1")
        } else {
            String::new()
        };
        let alive = Speech::of(&identity, external, &internal).alive();
        self.discovery.handle(
            at(0),
            discovery::Input::Alive {
                from: identity.pki_id,
                alive: Box::new(alive),
            },
            &self.me,
            &self.identities,
            &self.ports,
            &mut Vec::new(),
        );
        assert!(self.discovery.is_alive(&identity.pki_id));
        identity
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            me: &self.me,
            identities: &self.identities,
            discovery: &self.discovery,
        }
    }

    /// Channel `ch` of organizations `A` and `B`, joined just now.
    pub(crate) fn channel(&self) -> Channel {
        Channel::new(
            "ch".into(),
            &join(1, &["A", "B"]),
            &self.me,
            &self.config,
            at(0),
            &SEED,
        )
    }

    /// Lets the channel hear from this peer itself that it has so many blocks.
    pub(crate) fn hears(&self, channel: &mut Channel, peer: &Arc<PeerIdentity>, height: u64) {
        self.hears_info(channel, peer, state_info(peer, "ch", height, height));
    }

    /// The same with these words.
    pub(crate) fn hears_info(
        &self,
        channel: &mut Channel,
        peer: &Arc<PeerIdentity>,
        info: StateInfo,
    ) {
        let input = channel::Input::Received {
            from: toy::connection(0, peer),
            message: Message::StateInfo(Box::new(info)),
        };
        channel.handle(at(0), input, &self.view(), &self.ports, &mut Vec::new());
        assert!(channel.state_info(&peer.pki_id).is_some());
    }
}

pub(crate) fn join(sequence: u64, orgs: &[&str]) -> JoinChannel {
    JoinChannel {
        sequence,
        members: orgs.iter().map(|org| ((*org).into(), vec![])).collect(),
    }
}

/// A state info of this peer's first incarnation.
pub(crate) fn state_info(
    peer: &Arc<PeerIdentity>,
    channel: &str,
    sequence: u64,
    height: u64,
) -> StateInfo {
    let channel_mac = channel::mac(&peer.pki_id, &channel.into());
    let content = Content::StateInfo(wire_types::StateInfo {
        timestamp: Some(wire_types::PeerTime {
            inc_num: 1,
            seq_num: sequence,
        }),
        pki_id: Bytes::copy_from_slice(peer.pki_id.as_bytes()),
        channel_mac: Bytes::copy_from_slice(&channel_mac),
        properties: Some(Properties {
            ledger_height: height,
            left_channel: false,
            chaincodes: Vec::new(),
            ..Properties::default()
        }),
    });
    let message = wire::gossip_message(0, None, Tag::ChanOrOrg, content);
    StateInfo {
        peer: peer.pki_id,
        identity: Arc::clone(peer),
        channel_mac,
        time: toy::time(1, sequence),
        height,
        left_channel: false,
        chaincodes: Vec::new(),
        extension: Extension::default(),
        envelope: wire::signed(&ToyPorts(Arc::clone(peer)), &message),
    }
}

/// Block of channel `ch`.
pub(crate) fn block(number: u64) -> VerifiedBlock {
    let bytes = toy::block_bytes("ch", number);
    VerifiedBlock {
        number,
        hash: Sha256::digest(&bytes).into(),
        previous_hash: Bytes::new(),
        is_config: false,
        config_sequence: 0,
        bytes,
    }
}

/// The same, as gossip carries it.
pub(crate) fn block_message(number: u64) -> BlockMessage {
    BlockMessage {
        block: block(number),
    }
}

/// The same as it is on the wire.
pub(crate) fn block_envelope(number: u64) -> Envelope {
    block_message(number).block.envelope(&"ch".into())
}
