//! What can be seen of the node from outside: its status, who leads, how much waits.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use prost::Message;
use tidings_gossip::{
    Ports,
    id::{ChannelId, PkiId},
};
use tidings_proto::gossip::{
    AliveMessage, Envelope, GossipMessage, Member, PeerTime,
    gossip_message::{Content, Tag},
};

use crate::{
    clients::Discovered,
    outlook::{Matter, Outlook},
    status::{ChannelStatus, MemberStatus, Status},
};

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
                elected: self.node.leader(now, channel),
                catching_up: self.node.catching_up(now, channel),
            }
        });
        channels.collect()
    }

    /// Who is there, ourselves included, or who is in a channel: those whom other organizations
    /// can reach.
    pub(super) fn discovered(&self, channel: Option<&ChannelId>) -> Vec<Discovered> {
        let infos: Option<BTreeMap<_, _>> = channel.map(|channel| {
            let peers = self.node.channel_peers(channel);
            let own = self.node.own_state_info(channel);
            let peers = peers.iter().map(|peer| peer.info).chain(own);
            peers
                .map(|info| (info.peer, without_secret(&info.envelope)))
                .collect()
        });
        let me = self.node.me();
        let members = self.node.members().map(|member| {
            let alive = without_secret(&member.envelope);
            (member.peer, &member.endpoint, alive)
        });
        let own = (me.identity.pki_id, &me.external_endpoint, self.own_alive());
        let found = members.chain([own]).filter_map(|(peer, endpoint, alive)| {
            let identity = self.node.identity(&peer)?;
            let state_info = match &infos {
                Some(infos) => Some(infos.get(&peer)?.clone()),
                None => None,
            };
            (!endpoint.is_empty()).then(|| Discovered {
                org: identity.org.clone(),
                identity: identity.serialized.clone(),
                alive,
                state_info,
            })
        });
        found.collect()
    }

    /// What we say of ourselves, for clients: earlier than all that we gossip, so that it replaces
    /// nothing at a peer that it is brought to.
    fn own_alive(&self) -> Envelope {
        let me = self.node.me();
        let alive = AliveMessage {
            membership: Some(Member {
                endpoint: me.external_endpoint.clone(),
                metadata: me.metadata.clone(),
                pki_id: Bytes::copy_from_slice(me.identity.pki_id.as_bytes()),
            }),
            timestamp: Some(PeerTime {
                inc_num: me.incarnation_ns,
                seq_num: 0,
            }),
            identity: me.identity.serialized.clone(),
            ..AliveMessage::default()
        };
        let message = GossipMessage {
            tag: Tag::Empty.into(),
            content: Some(Content::AliveMsg(alive)),
            ..GossipMessage::default()
        };
        let payload = Bytes::from(message.encode_to_vec());
        let signature = self.node.ports().sign(&payload);
        Envelope::signed(payload, signature)
    }

    /// How long ago each member was heard.
    pub(super) fn heard(&self) -> BTreeMap<PkiId, Duration> {
        let now = self.now();
        let members = self.node.members();
        members
            .map(|member| (member.peer, now.since(member.last_seen)))
            .collect()
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
        let own = self.node.me().identity.pki_id;
        tell_who_leads(&self.status.borrow(), &status, own, self.lookout.outlook());
        self.status.send_if_modified(|shown| {
            let changed = *shown != status;
            *shown = status;
            changed
        });
    }
}

/// Logs where this node began or ceased to lead, and notes who leads instead.
fn tell_who_leads(before: &Status, now: &Status, own: PkiId, outlook: &Outlook) {
    let note = |channel, text, peer| outlook.note(Matter::Leadership, channel, text, peer);
    for ChannelStatus {
        channel,
        leader,
        elected,
        ..
    } in &now.channels
    {
        let before = before.channels.iter().find(|old| old.channel == *channel);
        let other = elected.filter(|peer| *peer != own);
        if before.and_then(|old| old.elected) != *elected && other.is_some() {
            note(channel, "leads", other);
        }
        let text = match (before.is_some_and(|old| old.leader), leader) {
            (false, true) => "this node leads: it pulls blocks from the orderers",
            (true, false) => "this node leads no more",
            _ => continue,
        };
        tracing::info!(target: "gossip.election", %channel, "{text}");
        note(channel, text, None);
    }
    for ChannelStatus { channel, .. } in before.channels.iter().filter(|old| old.leader) {
        if now.channels.iter().all(|new| new.channel != *channel) {
            let text = "this node leads no more";
            tracing::info!(target: "gossip.election", %channel, "{text}");
            note(channel, text, None);
        }
    }
}

/// A message as it may leave the organization.
fn without_secret(envelope: &Envelope) -> Envelope {
    Envelope::signed(envelope.payload.clone(), envelope.signature.clone())
}
