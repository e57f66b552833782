//! What can be seen of a running node, as plain data.

use tidings_gossip::{
    id::{ChannelId, OrgId, PkiId},
    transfer::Progress,
};

/// The node as it was at most a tenth of a second ago; changes that only show in what members
/// exchange all the time, as that of an endpoint, take five seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Members that are alive, ourselves left out.
    pub members: Vec<MemberStatus>,
    /// Channels that were joined.
    pub channels: Vec<ChannelStatus>,
}

/// A member of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who.
    pub peer: PkiId,
    /// Its organization, if its identity is known.
    pub org: Option<OrgId>,
    /// Where it can be reached, by us.
    pub endpoint: String,
}

/// A channel that was joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// The channel.
    pub channel: ChannelId,
    /// Blocks in our ledger.
    pub height: u64,
    /// Members of the channel with the heights that they published, ourselves left out.
    pub peers: Vec<(PkiId, u64)>,
    /// We pull blocks from the orderers.
    pub leader: bool,
    /// Who was elected to do so, ourselves included, if that is known.
    pub elected: Option<PkiId>,
    /// While missing blocks are asked of peers: how many are missing, who gives how much, how
    /// fast.
    pub catching_up: Option<Progress>,
}
