//! What can be seen of the node from outside: its status, who leads, how much waits.

use crate::status::{ChannelStatus, MemberStatus, Status};

use super::{Driver, Inlets};

impl Driver {
    fn channel_statuses(&self) -> Vec<ChannelStatus> {
        let now = self.now();
        // The core goes on saying of a channel that it was left.
        let channels = self.channels.keys().map(|channel| {
            let peers = self.node.channel_peers(channel);
            ChannelStatus {
                channel: channel.clone(),
                height: self.node.height(channel).unwrap_or_default(),
                peers: peers
                    .iter()
                    .map(|peer| (peer.member.peer, peer.info.height))
                    .collect(),
                leader: self.node.is_leading(channel),
                catching_up: self.node.catching_up(now, channel),
            }
        });
        channels.collect()
    }

    /// What waits for this task.
    pub(super) fn measure(&self, inlets: &Inlets) {
        let set = |queue: &str, len: usize| {
            let gauge = self.metrics.queue_length.with_label_values(&[queue]);
            gauge.set(i64::try_from(len).unwrap_or(i64::MAX));
        };
        set("messages", inlets.messages.len());
        set("control", inlets.control.len());
    }

    pub(super) fn show(&self) {
        let members = self.node.members().map(|member| MemberStatus {
            peer: member.peer,
            org: self
                .node
                .identity(&member.peer)
                .map(|identity| identity.org.clone()),
            endpoint: member.preferred_endpoint().to_owned(),
        });
        let status = Status {
            members: members.collect(),
            channels: self.channel_statuses(),
        };
        self.lookout.status(&status);
        tell_who_leads(&self.status.borrow(), &status);
        self.status.send_if_modified(|shown| {
            let changed = *shown != status;
            *shown = status;
            changed
        });
    }
}

/// Logs where this node began or ceased to lead.
fn tell_who_leads(before: &Status, now: &Status) {
    for ChannelStatus {
        channel, leader, ..
    } in &now.channels
    {
        let before = before.channels.iter().find(|old| old.channel == *channel);
        let text = match (before.is_some_and(|old| old.leader), leader) {
            (false, true) => "this node leads: it pulls blocks from the orderers",
            (true, false) => "this node leads no more",
            _ => continue,
        };
        tracing::info!(target: "gossip.election", %channel, "{text}");
    }
    for ChannelStatus { channel, .. } in before.channels.iter().filter(|old| old.leader) {
        if now.channels.iter().all(|new| new.channel != *channel) {
            tracing::info!(target: "gossip.election", %channel, "this node leads no more");
        }
    }
}
