//! What we say about ourselves on a channel, and when.
//!
//! The numbers are wall-clock nanoseconds, as with everybody else: in a smaller unit we would lose
//! against an earlier life of ours that others still remember (G-C1).

use bytes::Bytes;
use prost::Message as _;
use tidings_proto::gossip::{
    self, Chaincode, Properties,
    gossip_message::{Content, Tag},
};

use crate::{
    channel::mac,
    config::{Config, Me},
    id::{ChannelId, Moment, PeerTime},
    message::{Extension, RELAY_VERSION, STRIPE_VERSION, StateInfo},
    ports::Ports,
    wire,
};

#[derive(Debug)]
pub(super) struct Own {
    incarnation: u64,
    /// Nanoseconds of the last change.
    sequence: u64,
    /// None until the ledger was announced.
    height: Option<u64>,
    chaincodes: Vec<Chaincode>,
    left: bool,
    extension: Extension,
    /// Something changed since it was last published.
    dirty: bool,
    publish_from: Moment,
}

impl Own {
    pub(super) fn new(me: &Me, config: &Config, now: Moment) -> Self {
        Self {
            incarnation: me.incarnation_ns,
            sequence: me.wall_ns(now),
            height: None,
            chaincodes: Vec::new(),
            left: false,
            extension: Extension {
                stripe: if config.stripe { STRIPE_VERSION } else { 0 },
                slow: false,
                relay: if config.keeps_order() {
                    RELAY_VERSION
                } else {
                    0
                },
                supplied: false,
            },
            dirty: false,
            publish_from: now + config.publish_state_info_interval,
        }
    }

    /// One before the ledger was announced, as in Fabric: every channel has its first block.
    pub(super) fn height(&self) -> u64 {
        self.height.unwrap_or(1)
    }

    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    pub(super) fn set_height(&mut self, height: u64, wall_ns: u64) {
        if self.height != Some(height) {
            self.height = Some(height);
            self.changed(wall_ns);
        }
    }

    /// Whether this is a change.
    pub(super) fn set_chaincodes(&mut self, chaincodes: Vec<Chaincode>, wall_ns: u64) -> bool {
        let is_change = self.chaincodes != chaincodes;
        if is_change {
            self.chaincodes = chaincodes;
            self.changed(wall_ns);
        }
        is_change
    }

    pub(super) fn set_slow(&mut self, slow: bool, wall_ns: u64) {
        if self.extension.slow != slow {
            self.extension.slow = slow;
            self.changed(wall_ns);
        }
    }

    /// Whether the last block came from an orderer first. Means nothing to who does not keep to the
    /// order.
    pub(super) fn set_supplied(&mut self, supplied: bool, wall_ns: u64) {
        let supplied = supplied && self.extension.relay == RELAY_VERSION;
        if self.extension.supplied != supplied {
            self.extension.supplied = supplied;
            self.changed(wall_ns);
        }
    }

    /// Whether this is a change.
    pub(super) fn leave(&mut self, wall_ns: u64) -> bool {
        let is_change = !self.left;
        if is_change {
            self.left = true;
            self.changed(wall_ns);
        }
        is_change
    }

    /// Comes back after leaving, as a new incarnation, and says so soon. The next life of the node
    /// must come after it, so it takes the smallest step.
    pub(super) fn rejoin(&mut self, wall_ns: u64, now: Moment) {
        if self.left {
            self.left = false;
            self.incarnation = self.incarnation.saturating_add(1);
            self.changed(wall_ns);
            self.publish_from = now;
        }
    }

    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.dirty && self.publish_from <= now
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.dirty.then_some(self.publish_from)
    }

    pub(super) fn postpone(&mut self, until: Moment) {
        self.dirty = true;
        self.publish_from = until;
    }

    pub(super) fn published(&mut self, next_from: Moment) {
        self.dirty = false;
        self.publish_from = next_from;
    }

    pub(super) fn sign(&self, channel: &ChannelId, me: &Me, ports: &impl Ports) -> StateInfo {
        let peer = me.identity.pki_id;
        let channel_mac = mac(&peer, channel);
        let content = Content::StateInfo(gossip::StateInfo {
            timestamp: Some(gossip::PeerTime {
                inc_num: self.incarnation,
                seq_num: self.sequence,
            }),
            pki_id: peer.as_bytes().to_vec().into(),
            channel_mac: channel_mac.to_vec().into(),
            properties: Some(Properties {
                ledger_height: self.height(),
                left_channel: self.left,
                chaincodes: self.chaincodes.clone(),
                extension: self.extension_bytes(),
            }),
        });
        let message = wire::gossip_message(0, None, Tag::ChanOrOrg, content);
        StateInfo {
            peer,
            identity: me.identity.clone(),
            channel_mac,
            time: PeerTime {
                incarnation: self.incarnation,
                sequence: self.sequence,
            },
            height: self.height(),
            left_channel: self.left,
            chaincodes: self.chaincodes.clone(),
            extension: self.extension,
            envelope: wire::signed(ports, &message),
        }
    }

    /// Nothing, as Fabric's peers say, if there is nothing to say.
    fn extension_bytes(&self) -> Bytes {
        let Extension {
            stripe,
            slow,
            relay,
            supplied,
        } = self.extension;
        let extension = gossip::Extension {
            stripe,
            slow,
            relay,
            supplied,
        };
        extension.encode_to_vec().into()
    }

    fn changed(&mut self, wall_ns: u64) {
        // Two changes at one moment still need two times, or the second is taken for a replay.
        self.sequence = wall_ns.max(self.sequence.saturating_add(1));
        self.dirty = true;
    }
}
