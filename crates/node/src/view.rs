//! What a running node sees, as one plain value: for the dashboard, for `tidings watch`, `peers` and
//! `doctor`, and for who embeds the node.
//!
//! Promises: no list grows beyond its limit whatever others do, and no text of theirs is longer
//! than its own. Texts are as they came: whoever shows them sees to it that they do nothing.
//! Knows neither where it is found out ([`crate::outlook`]) nor how it is drawn.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidings_gossip::{Me, id::PkiId, transfer::Progress};

use crate::{
    comm::Traffic,
    health::FailedCheck,
    metrics::{Metrics, totals},
    outlook::Event,
    status::{ChannelStatus, MemberStatus, Status},
};

/// Members that are listed. As many as may be connected, which is more than anybody looks through.
const MEMBERS_MAX: usize = 1000;

/// Characters of an endpoint or of the name of an organization that are kept. Names of hosts have
/// 253 at most.
const TEXT_LEN_MAX: usize = 300;

/// What a node sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Version of the program that runs.
    pub version: String,
    /// Our PKI-ID in hex.
    pub peer: String,
    /// Our MSP id.
    pub organization: String,
    /// Where we listen.
    pub address: String,
    /// Where our organization reaches us.
    pub endpoint: String,
    /// Where others do; may be empty.
    pub external_endpoint: String,
    /// When this was so, in milliseconds since 1970.
    pub seen_at_ms: u64,
    /// How long the node had been up then.
    pub up_ms: u64,
    /// What is not well.
    pub failed: Vec<FailedCheck>,
    /// How often something was turned away, by the rule that was broken.
    pub refused: BTreeMap<String, u64>,
    /// Members that are alive, ourselves left out.
    pub members: Vec<Member>,
    /// How many more there are than are listed.
    pub members_left_out: usize,
    /// Whether it was found out in time whom we are connected to.
    pub traffic_known: bool,
    /// Bytes that went to peers and came from them, by the kind of message.
    pub kinds: BTreeMap<String, KindBytes>,
    /// Channels that were joined.
    pub channels: Vec<Channel>,
    /// What happened last, oldest first.
    pub history: Vec<Event>,
}

/// A member that is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its PKI-ID in hex.
    pub peer: String,
    /// Its MSP id, if its identity is known.
    pub organization: Option<String>,
    /// Where we reach it; may be empty.
    pub endpoint: String,
    /// How long ago it was heard, in milliseconds, if it still is a member.
    pub heard_ms: Option<u64>,
    /// What goes between it and us, if we are connected and [`View::traffic_known`].
    pub traffic: Option<Traffic>,
}

/// Bytes of messages of one kind, with all peers, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindBytes {
    /// By us.
    pub sent: u64,
    /// By peers.
    pub received: u64,
}

/// A channel that was joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    /// Its name.
    pub channel: String,
    /// Blocks in our ledger.
    pub height: u64,
    /// We pull blocks from the orderers.
    pub leads: bool,
    /// Who was elected to do so, in hex, if that is known.
    pub elected: Option<String>,
    /// Blocks that are missing, while they are asked of peers.
    pub missing: Option<u64>,
    /// Blocks of the other members by PKI-ID in hex, as they say.
    pub heights: BTreeMap<String, u64>,
    /// While blocks are asked of peers: which of them gave how many, by PKI-ID in hex.
    pub givers: BTreeMap<String, u64>,
    /// Blocks committed since the start, by the way that they came.
    pub blocks: BTreeMap<String, u64>,
    /// Private write sets of committed blocks, by whether they are here.
    pub private: BTreeMap<String, u64>,
    /// Orderers that blocks are pulled from now.
    pub orderers: Vec<String>,
    /// Streams from orderers that ended or never began, since the start.
    pub orderer_failures: u64,
}

/// What is found out in other places than the status.
pub(crate) struct Beside {
    pub(crate) heard: BTreeMap<PkiId, Duration>,
    /// None if that was not told in time.
    pub(crate) traffic: Option<BTreeMap<PkiId, Traffic>>,
    pub(crate) failed: Vec<FailedCheck>,
    pub(crate) history: Vec<Event>,
}

impl View {
    /// What the node shows, with what is known beside that.
    pub(crate) fn of(me: &Me, status: &Status, metrics: &Metrics, beside: Beside) -> Self {
        let Beside {
            heard,
            traffic,
            failed,
            history,
        } = beside;
        let members = status.members.iter().take(MEMBERS_MAX);
        let listed: BTreeSet<_> = members.clone().map(|member| member.peer).collect();
        let member = |member: &MemberStatus| Member {
            peer: hex(&member.peer),
            organization: member.org.as_ref().map(|org| short(org.as_str())),
            endpoint: short(&member.endpoint),
            heard_ms: heard.get(&member.peer).copied().map(ms),
            traffic: traffic
                .as_ref()
                .and_then(|of| of.get(&member.peer).copied()),
        };
        let channels = status.channels.iter();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer: hex(&me.identity.pki_id),
            organization: me.identity.org.to_string(),
            endpoint: me.endpoint.clone(),
            external_endpoint: me.external_endpoint.clone(),
            failed,
            refused: metrics.refusals(),
            members: members.map(member).collect(),
            members_left_out: status.members.len().saturating_sub(MEMBERS_MAX),
            traffic_known: traffic.is_some(),
            kinds: kinds(metrics),
            channels: channels
                .map(|channel| Channel::of(channel, &listed, metrics))
                .collect(),
            history,
            ..Self::default()
        }
    }
}

impl Channel {
    fn of(status: &ChannelStatus, listed: &BTreeSet<PkiId>, metrics: &Metrics) -> Self {
        let name = status.channel.as_str();
        let peers = status.peers.iter();
        let known = peers.filter(|(peer, _)| listed.contains(peer));
        let progress = status.catching_up.as_ref();
        let sources = progress.into_iter().flat_map(|it| &it.sources);
        let orderers = totals(&metrics.delivery_connected, Some(name));
        Self {
            channel: name.to_owned(),
            height: status.height,
            leads: status.leader,
            elected: status.elected.as_ref().map(hex),
            missing: progress.map(Progress::behind),
            heights: known.map(|(peer, height)| (hex(peer), *height)).collect(),
            givers: sources
                .take(MEMBERS_MAX)
                .map(|share| (hex(&share.peer), share.blocks))
                .collect(),
            blocks: totals(&metrics.blocks, Some(name)),
            private: totals(&metrics.private_sets, Some(name)),
            orderers: orderers.into_keys().collect(),
            orderer_failures: totals(&metrics.delivery_failures, Some(name))
                .into_values()
                .sum(),
        }
    }
}

fn kinds(metrics: &Metrics) -> BTreeMap<String, KindBytes> {
    let mut kinds: BTreeMap<_, KindBytes> = BTreeMap::new();
    for (kind, bytes) in totals(&metrics.bytes_sent, None) {
        kinds.entry(kind).or_default().sent = bytes;
    }
    for (kind, bytes) in totals(&metrics.bytes_received, None) {
        kinds.entry(kind).or_default().received = bytes;
    }
    kinds.retain(|_, bytes| bytes.sent + bytes.received > 0);
    kinds
}

fn hex(peer: &PkiId) -> String {
    hex::encode(peer.as_bytes())
}

pub(crate) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_LEN_MAX).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tidings_gossip::{
        PeerIdentity,
        id::{ChannelId, OrgId},
        transfer::Share,
    };

    use super::*;

    /// A node of an organization.
    pub(crate) fn me() -> Me {
        let identity = PeerIdentity {
            pki_id: PkiId::new([9; 32]),
            org: OrgId::from("Org1MSP"),
            serialized: Bytes::new(),
            expires_at: i64::MAX,
        };
        Me {
            identity: Arc::new(identity),
            endpoint: "peer0.org1:7051".to_owned(),
            external_endpoint: String::new(),
            started_at_ns: 0,
            incarnation_ns: 0,
            metadata: Bytes::new(),
        }
    }

    fn numbered(number: usize) -> PkiId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        PkiId::new(bytes)
    }

    fn nothing() -> Beside {
        Beside {
            heard: BTreeMap::new(),
            traffic: None,
            failed: Vec::new(),
            history: Vec::new(),
        }
    }

    #[test]
    fn members_and_what_they_say_are_listed_up_to_the_limit() {
        let member = |number| MemberStatus {
            peer: numbered(number),
            org: Some(OrgId::from("o".repeat(TEXT_LEN_MAX + 1).as_str())),
            endpoint: "é".repeat(TEXT_LEN_MAX + 1),
        };
        let many = MEMBERS_MAX + 3;
        let share = |number| Share {
            peer: numbered(number),
            blocks: 1,
            window: 1,
            open: 0,
        };
        let status = Status {
            members: (0..many).map(member).collect(),
            channels: vec![ChannelStatus {
                channel: ChannelId::from("ch"),
                height: 7,
                peers: (0..many).map(|number| (numbered(number), 8)).collect(),
                leader: true,
                elected: Some(numbered(1)),
                catching_up: Some(Progress {
                    from: 0,
                    height: 7,
                    goal: 10,
                    elapsed: Duration::ZERO,
                    sources: (0..many).map(share).collect(),
                }),
            }],
        };
        let view = View::of(&me(), &status, &Metrics::new(), nothing());
        assert_eq!(
            (view.members.len(), view.members_left_out),
            (MEMBERS_MAX, 3)
        );
        let first = &view.members[0];
        assert_eq!(first.endpoint.chars().count(), TEXT_LEN_MAX);
        let organization = first.organization.as_ref();
        assert_eq!(organization.map(String::len), Some(TEXT_LEN_MAX));
        let channel = &view.channels[0];
        assert_eq!(channel.heights.len(), MEMBERS_MAX);
        assert_eq!(channel.givers.len(), MEMBERS_MAX);
        assert_eq!((channel.missing, channel.leads), (Some(3), true));
    }

    #[test]
    fn what_was_counted_of_a_channel_stands_with_it_and_with_no_other() {
        let metrics = Metrics::new();
        for (channel, source, count) in [("a", "push", 3), ("b", "pull", 2)] {
            let labels = [channel, source];
            metrics.blocks.with_label_values(&labels).inc_by(count);
        }
        let connected = metrics
            .delivery_connected
            .with_label_values(&["b", "o:7050"]);
        connected.set(1);
        metrics.delivery_failures.with_label_values(&["b"]).inc();
        metrics
            .bytes_sent
            .with_label_values(&["AliveMsg"])
            .inc_by(5);
        let channel = |name| ChannelStatus {
            channel: ChannelId::from(name),
            height: 1,
            peers: Vec::new(),
            leader: false,
            elected: None,
            catching_up: None,
        };
        let status = Status {
            members: Vec::new(),
            channels: ["a", "b"].map(channel).into(),
        };
        let view = View::of(&me(), &status, &metrics, nothing());
        let of = |channel: &Channel| (channel.blocks.clone(), channel.orderers.clone());
        assert_eq!(of(&view.channels[0]), ([("push".into(), 3)].into(), vec![]));
        let expected = ([("pull".into(), 2)].into(), vec!["o:7050".to_owned()]);
        assert_eq!(of(&view.channels[1]), expected);
        let failures = view.channels.iter().map(|channel| channel.orderer_failures);
        assert_eq!(failures.collect::<Vec<_>>(), [0, 1]);
        let (sent, received) = (5, 0);
        let kinds = [("AliveMsg".to_owned(), KindBytes { sent, received })];
        assert_eq!(view.kinds, kinds.into());
    }
}
