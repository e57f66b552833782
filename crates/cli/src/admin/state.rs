//! How a node is, in what can be sent through its socket.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_gossip::id::{OrgId, PkiId};
use tidings_gossip::{Me, transfer::Progress};
use tidings_node::health::FailedCheck;
use tidings_node::status::{ChannelStatus, MemberStatus, Status};

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// Version of the program that runs.
    pub(crate) version: String,
    /// Our PKI-ID in hex.
    pub(crate) peer: String,
    /// Our MSP id.
    pub(crate) organization: String,
    /// Where we listen.
    pub(crate) address: String,
    /// Where our organization reaches us.
    pub(crate) endpoint: String,
    /// Where others do; may be empty.
    pub(crate) external_endpoint: String,
    /// What is not well.
    pub(crate) failed: Vec<Failed>,
    /// How often something was turned away, by the rule that was broken.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Members that are alive, ourselves left out.
    pub(crate) members: Vec<Member>,
    /// Channels that were joined.
    pub(crate) channels: Vec<Channel>,
}

/// Something that is not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// The part of the node.
    pub(crate) component: String,
    /// What is wrong.
    pub(crate) reason: String,
}

/// A member that is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    /// Its PKI-ID in hex.
    pub(crate) peer: String,
    /// Its MSP id, if its identity is known.
    pub(crate) organization: Option<String>,
    /// Where we reach it; may be empty.
    pub(crate) endpoint: String,
    /// How long ago it was heard, in milliseconds, if it still is a member.
    pub(crate) heard_ms: Option<u64>,
}

/// A channel that was joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Channel {
    /// Its name.
    pub(crate) channel: String,
    /// Blocks in our ledger.
    pub(crate) height: u64,
    /// We pull blocks from the orderers.
    pub(crate) leads: bool,
    /// Who was elected to do so, in hex, if that is known.
    pub(crate) elected: Option<String>,
    /// Blocks that are missing, while they are asked of peers.
    pub(crate) missing: Option<u64>,
    /// Blocks of the other members by PKI-ID in hex, as they say.
    pub(crate) heights: BTreeMap<String, u64>,
}

impl State {
    /// Of what is known of a running node.
    pub(crate) fn of(
        me: &Me,
        address: String,
        status: &Status,
        heard: &BTreeMap<PkiId, Duration>,
    ) -> Self {
        let member = |member: &MemberStatus| Member {
            peer: hex::encode(member.peer.as_bytes()),
            organization: member.org.as_ref().map(|org: &OrgId| org.to_string()),
            endpoint: member.endpoint.clone(),
            heard_ms: heard
                .get(&member.peer)
                .map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer: hex::encode(me.identity.pki_id.as_bytes()),
            organization: me.identity.org.to_string(),
            address,
            endpoint: me.endpoint.clone(),
            external_endpoint: me.external_endpoint.clone(),
            failed: Vec::new(),
            refused: BTreeMap::new(),
            members: status.members.iter().map(member).collect(),
            channels: status.channels.iter().map(Channel::of).collect(),
        }
    }
}

impl Channel {
    fn of(status: &ChannelStatus) -> Self {
        let missing = |progress: &Progress| progress.goal.saturating_sub(progress.height);
        let peers = status.peers.iter();
        Self {
            channel: status.channel.as_str().to_owned(),
            height: status.height,
            leads: status.leader,
            elected: status.elected.map(|peer| hex::encode(peer.as_bytes())),
            missing: status.catching_up.as_ref().map(missing),
            heights: peers
                .map(|(peer, height)| (hex::encode(peer.as_bytes()), *height))
                .collect(),
        }
    }
}

impl From<FailedCheck> for Failed {
    fn from(check: FailedCheck) -> Self {
        let FailedCheck { component, reason } = check;
        Self { component, reason }
    }
}
