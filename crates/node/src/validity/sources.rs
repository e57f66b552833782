//! Which peers of which organizations can be asked, by what gossip knows of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidings_gossip::id::{ChannelId, OrgId, PkiId};

use crate::status::{MemberStatus, Status};

/// Peers of one organization that are known here.
const PEERS_MAX: usize = 32;

/// How far a peer may say it is behind our ledger and be followed all the same: published heights are
/// seconds old. Who is further behind would let the organization be silent for as long as it stalls.
pub(super) const LAG_MAX: u64 = 64;

/// Members that are in the channel and can be reached, with the heights that they published.
fn members<'a>(
    status: &'a Status,
    channel: &ChannelId,
) -> impl Iterator<Item = (&'a MemberStatus, u64)> {
    let channel = status.channels.iter().find(|each| each.channel == *channel);
    let peers = channel.into_iter().flat_map(|channel| &channel.peers);
    let heights: BTreeMap<PkiId, u64> = peers.copied().collect();
    let members = status.members.iter();
    members.filter_map(move |member| {
        let height = heights.get(&member.peer).copied();
        Some((member, height.filter(|_| !member.endpoint.is_empty())?))
    })
}

/// Organizations of which a peer in the channel can be reached.
pub(super) fn organizations(status: &Status, channel: &ChannelId) -> BTreeSet<OrgId> {
    let members = members(status, channel);
    members
        .filter_map(|(member, _)| member.org.clone())
        .collect()
}

/// Where peers of this organization in the channel can be reached, with the heights that they
/// published.
pub(super) fn peers(status: &Status, channel: &ChannelId, org: &OrgId) -> BTreeMap<String, u64> {
    let ours = members(status, channel).filter(|(member, _)| member.org.as_ref() == Some(org));
    ours.take(PEERS_MAX)
        .map(|(member, height)| (member.endpoint.clone(), height))
        .collect()
}

/// The first of these peers; of those that lag far behind our ledger only if there is no other.
pub(super) fn near<'a>(
    peers: impl Iterator<Item = (&'a String, &'a u64)> + Clone,
    own: u64,
) -> Option<(&'a str, u64)> {
    let least = own.saturating_sub(LAG_MAX);
    let first = peers.clone().find(|(_, height)| **height >= least);
    let (peer, height) = first.or_else(|| peers.clone().next())?;
    Some((peer.as_str(), *height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ChannelStatus;

    #[test]
    fn members_of_the_channel_that_can_be_reached_are_sources() {
        let peer = |number| PkiId::new([number; 32]);
        let member = |number, org: &str, endpoint: &str| MemberStatus {
            peer: peer(number),
            org: Some(OrgId::from(org)),
            endpoint: endpoint.to_owned(),
        };
        let channel = ChannelId::from("ch");
        let mut status = Status {
            members: vec![
                member(1, "A", "a:1"),
                member(2, "A", ""),
                member(3, "B", "b:1"),
                member(4, "C", "c:1"),
            ],
            channels: vec![ChannelStatus {
                channel: channel.clone(),
                height: 9,
                peers: vec![(peer(1), 7), (peer(2), 7), (peer(3), 8)],
                leader: false,
                elected: None,
                catching_up: None,
            }],
        };
        let all: Vec<OrgId> = organizations(&status, &channel).into_iter().collect();
        assert_eq!(all, [OrgId::from("A"), OrgId::from("B")]);
        let of_a = |status: &Status| peers(status, &channel, &OrgId::from("A"));
        assert_eq!(of_a(&status), [("a:1".to_owned(), 7)].into());
        assert!(peers(&status, &ChannelId::from("x"), &OrgId::from("A")).is_empty());
        for number in 0..PEERS_MAX as u8 {
            status
                .members
                .push(member(100 + number, "A", &format!("more:{number}")));
            status.channels[0].peers.push((peer(100 + number), 7));
        }
        assert_eq!(of_a(&status).len(), PEERS_MAX);
    }

    #[test]
    fn who_lags_is_heard_only_if_there_is_no_other() {
        let peers = BTreeMap::from([("a".to_owned(), 7), ("b".to_owned(), 8)]);
        let near = |own| near(peers.iter(), own);
        assert_eq!(near(7 + LAG_MAX), Some(("a", 7)));
        assert_eq!(near(8 + LAG_MAX), Some(("b", 8)));
        assert_eq!(near(9 + LAG_MAX), Some(("a", 7)));
        assert_eq!(super::near([].into_iter(), 1), None);
    }
}
