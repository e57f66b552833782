//! The rules that are the node's own, and that nothing it is fed breaks it.

use std::{sync::Arc, time::Duration};

use super::{
    strangers::{PER_SPEAKER_MAX, STRANGERS_MAX},
    *,
};
use crate::{
    JoinChannel, Notice, Source, channel,
    delivery::{self, StreamId},
    effect::Destination,
    id::ConnectionId,
    input::SendByCriteria,
    message::{Connection, Leadership, Message, Pull, Verified},
    scene::{at, block, block_envelope, block_message, join, state_info},
    toy::{self, Speech, ToyPorts, connection, identity},
};

mod anything;
mod blocks;
mod election;
mod joining;
mod private;
mod stripes;

const SEED: [u8; 32] = [4; 32];

/// A node of organization `A`, and what it did.
struct Table {
    node: Node<ToyPorts>,
    now: Moment,
}

impl Table {
    fn new(config: Config) -> Self {
        let me = toy::me("A", "me", "me.example:1");
        let ports = ToyPorts(Arc::clone(&me.identity));
        Self {
            node: Node::new(me, config, ports, SEED),
            now: at(0),
        }
    }

    /// In channel `ch` of `A` and `B`, with one block.
    fn in_channel(config: Config) -> Self {
        let mut table = Self::new(config);
        table.join("ch", join(1, &["A", "B"]));
        table
    }

    fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.node.handle(self.now, input, &mut out);
        out
    }

    fn tick(&mut self, now: Moment) -> Vec<Effect> {
        self.now = now;
        let mut out = Vec::new();
        self.node.tick(now, &mut out);
        out
    }

    fn join(&mut self, channel: &str, join: JoinChannel) -> Vec<Effect> {
        self.feed(Input::Join {
            channel: channel.into(),
            join,
            height: 1,
        })
    }

    fn receive(&mut self, from: &Arc<PeerIdentity>, message: Message) -> Vec<Effect> {
        self.feed(Input::Received {
            from: connection(1, from),
            message: Verified::new(message),
        })
    }

    fn connect(&mut self, org: &str, name: &str) -> Arc<PeerIdentity> {
        let identity = identity(org, name);
        let out = self.feed(Input::Connected(connection(1, &identity)));
        assert_eq!(out, []);
        identity
    }

    /// A peer that is connected and alive.
    fn meet(&mut self, org: &str, name: &str) -> Arc<PeerIdentity> {
        let identity = self.connect(org, name);
        let external = format!("{name}.example:1");
        let internal = format!("{name}:1");
        let internal = if org == "A" { internal.as_str() } else { "" };
        let alive = Speech::of(&identity, &external, internal).alive();
        self.receive(&identity, Message::Alive(Box::new(alive)));
        assert!(self.node.members().any(|m| m.peer == identity.pki_id));
        identity
    }

    fn say(
        &mut self,
        from: &Arc<PeerIdentity>,
        about: &Arc<PeerIdentity>,
        channel: &str,
    ) -> Vec<Effect> {
        let info = state_info(about, channel, 1, 1);
        self.receive(from, Message::StateInfo(Box::new(info)))
    }
}

fn refused(from: &Arc<PeerIdentity>, rule: &'static str, out: &[Effect]) {
    let [
        Effect::Notify(Notice::Refused {
            from: f, rule: r, ..
        }),
    ] = out
    else {
        panic!("one refusal by {rule} expected, not {out:?}");
    };
    assert_eq!((*f, *r), (from.pki_id, rule));
}

fn warned(about: &str, out: &[Effect]) {
    let [Effect::Notify(Notice::Warning(text))] = out else {
        panic!("one warning about {about} expected, not {out:?}");
    };
    assert!(text.contains(about), "{text}");
}

fn first_block() -> delivery::Event {
    delivery::Event::Block {
        stream: StreamId(1),
        block: block(1),
    }
}

fn sent_to(out: &[Effect]) -> Vec<&Destination> {
    let mut all = Vec::new();
    for effect in out {
        if let Effect::Send { to, .. } = effect {
            all.push(to);
        }
    }
    all
}

fn follower() -> Config {
    Config::default()
}

fn leader() -> Config {
    Config {
        org_leader: true,
        ..Config::default()
    }
}

#[test]
fn s_n5_a_foreign_peer_cannot_have_us_pass_on_what_we_cannot_place() {
    let mut t = Table::new(follower());
    let (ours, foreign) = (t.meet("A", "ours"), t.connect("B", "foreign"));
    t.tick(at(10));
    refused(&foreign, "S-N5", &t.say(&foreign, &foreign, "elsewhere"));
    refused(&foreign, "S-N5", &t.say(&foreign, &ours, "elsewhere"));
    assert_eq!(t.node.sizes().strangers, 0);
}

#[test]
fn a_state_info_of_an_unknown_channel_goes_round_the_own_organization_once() {
    let mut t = Table::new(follower());
    let (a, b) = (t.meet("A", "a"), t.meet("A", "b"));
    t.meet("B", "foreign");
    t.tick(at(10));
    assert_eq!(t.say(&a, &a, "elsewhere"), []);
    assert_eq!(t.say(&b, &a, "elsewhere"), [], "known by now");
    let out = t.tick(at(20));
    let to: Vec<PkiId> = sent_to(&out).iter().map(|to| to.peer).collect();
    assert_eq!(to, [b.pki_id]);
    assert_eq!(
        t.say(&a, &a, "another"),
        [],
        "another channel, nothing replaced"
    );
    assert_eq!(t.node.sizes().strangers, 2);
}

fn number_mac(info: &mut StateInfo, number: u64) {
    info.channel_mac[..8].copy_from_slice(&number.to_be_bytes());
}

#[test]
fn m_s3_state_infos_of_unknown_channels_are_bounded() {
    let mut strangers = Strangers::new(&follower());
    for number in 0..STRANGERS_MAX {
        let speaker = identity("A", &(number / PER_SPEAKER_MAX).to_string());
        let mut info = state_info(&speaker, "elsewhere", 1, 1);
        number_mac(&mut info, number as u64);
        assert!(strangers.add(at(0), &info));
    }
    let mut known = state_info(&identity("A", "0"), "elsewhere", 2, 1);
    number_mac(&mut known, 0);
    assert!(strangers.add(at(0), &known), "who is in stays heard");
    let late = state_info(&identity("A", "late"), "elsewhere", 1, 1);
    assert!(!strangers.add(at(0), &late));
    assert_eq!(strangers.len(), STRANGERS_MAX);
}

#[test]
fn m_s3_one_speaker_has_a_share_of_the_unknown_channels() {
    let mut strangers = Strangers::new(&follower());
    let mut info = state_info(&identity("A", "a"), "elsewhere", 1, 1);
    for number in 0..PER_SPEAKER_MAX as u64 {
        number_mac(&mut info, number);
        assert!(strangers.add(at(number), &info));
    }
    number_mac(&mut info, 0);
    info.time = toy::time(1, 2);
    assert!(strangers.add(at(100), &info), "what is known costs nothing");
    info.time = toy::time(1, 1);
    number_mac(&mut info, 1000);
    assert!(strangers.add(at(101), &info));
    assert_eq!(strangers.len(), PER_SPEAKER_MAX);
    number_mac(&mut info, 2);
    assert!(!strangers.add(at(102), &info), "2 is remembered");
    number_mac(&mut info, 1);
    assert!(strangers.add(at(102), &info), "1 was the oldest");
}

#[test]
fn s_n6_messages_of_channels_that_we_are_not_in_are_refused() {
    let mut t = Table::in_channel(follower());
    let a = t.meet("A", "a");
    let channel = || ChannelId::from("elsewhere");
    let leadership = Leadership {
        channel: channel(),
        peer: a.pki_id,
        time: toy::time(1, 1),
        is_declaration: true,
        envelope: Default::default(),
    };
    for message in [
        Message::Block {
            channel: channel(),
            block: block_message(1),
        },
        Message::BlockPull {
            channel: channel(),
            pull: Pull::Hello {
                nonce: 1,
                known: None,
            },
        },
        Message::StateSnapshot {
            channel: channel(),
            elements: vec![],
        },
        Message::Leadership(leadership),
        Message::StateRequest {
            channel: channel(),
            nonce: 1,
            start: 0,
            end: 0,
        },
        Message::StateResponse {
            channel: channel(),
            nonce: 1,
            blocks: vec![],
        },
        private::push("elsewhere"),
        private::request("elsewhere"),
        private::response("elsewhere", 1),
    ] {
        refused(&a, "S-N6", &t.receive(&a, message));
    }
}

#[test]
fn s_n7_a_pull_request_counts_with_the_mac_of_its_connection_only() {
    let mut t = Table::in_channel(follower());
    let (a, b) = (t.meet("A", "a"), t.meet("A", "b"));
    let request = |peer: &Arc<PeerIdentity>| Message::StateInfoPullRequest {
        channel_mac: channel::mac(&peer.pki_id, &"ch".into()),
        known: None,
    };
    refused(&a, "S-N7", &t.receive(&a, request(&b)));
    let out = t.receive(&a, request(&a));
    assert!(matches!(out.as_slice(), [Effect::Reply { .. }]), "{out:?}");
}

#[test]
fn s_c3_blocks_are_not_transferred_to_organizations_outside_the_channel() {
    let mut t = Table::in_channel(follower());
    let (member, outsider) = (t.connect("B", "b"), t.connect("C", "c"));
    let request = || Message::StateRequest {
        channel: "ch".into(),
        nonce: 1,
        start: 0,
        end: 0,
    };
    refused(&outsider, "S-C3", &t.receive(&outsider, request()));
    let out = t.receive(&member, request());
    let [
        Effect::ServeBlocks {
            ticket,
            start: 0,
            end: 0,
            connection,
            nonce: 1,
            ..
        },
    ] = out[..]
    else {
        panic!("one range to be served expected, not {out:?}");
    };
    assert_eq!(connection, ConnectionId(1));
    assert_eq!(t.feed(Input::Served { ticket }), []);
    warned(
        "nothing was to be served",
        &t.feed(Input::Served { ticket }),
    );
}

#[test]
fn i_s7_nothing_is_heard_from_a_dropped_identity() {
    let mut t = Table::new(follower());
    let stranger = identity("A", "stranger");
    let hello = || {
        Message::IdentityPull(Pull::Hello {
            nonce: 1,
            known: None,
        })
    };
    refused(&stranger, "I-S7", &t.receive(&stranger, hello()));
    let peer = t.meet("A", "peer");
    let out = t.feed(Input::Revoked(peer.pki_id));
    let first = Effect::Forget(peer.pki_id);
    assert_eq!(out.first(), Some(&first));
    assert!(out.contains(&Effect::Close(peer.pki_id)));
    assert_eq!(t.node.members().count() + t.node.dead_members().count(), 0);
    refused(&peer, "I-S7", &t.receive(&peer, hello()));
}

#[test]
fn a_leader_asks_the_orderer_and_hands_blocks_to_ledger_and_peers() {
    let mut t = Table::in_channel(leader());
    let a = t.meet("A", "a");
    t.say(&a, &a, "ch");
    t.tick(at(20));
    let deliver = |event| Input::Delivery {
        channel: "ch".into(),
        event,
    };
    let out = t.feed(deliver(delivery::Event::Endpoints(vec![
        "orderer:1".into(),
    ])));
    let connect = Effect::Deliver {
        channel: "ch".into(),
        command: delivery::Command::Connect {
            stream: StreamId(1),
            endpoint: "orderer:1".to_owned(),
            start: 1,
            after: Duration::ZERO,
        },
    };
    assert_eq!(out, [connect]);
    assert!(t.node.is_leading(&"ch".into()));
    assert_eq!(t.node.orderer(&"ch".into()), Some("orderer:1"));
    let out = t.feed(deliver(first_block()));
    let commit = Effect::Commit {
        channel: "ch".into(),
        block: block(1),
        source: Source::Deliver,
        private_data: vec![],
    };
    assert_eq!(out.iter().filter(|e| **e == commit).count(), 1);
    let push = Effect::Send {
        to: Destination {
            peer: a.pki_id,
            endpoint: "a:1".to_owned(),
        },
        envelope: block_envelope(1),
    };
    assert_eq!(out.iter().filter(|e| **e == push).count(), 1, "{out:?}");
    t.feed(Input::Committed {
        channel: "ch".into(),
        height: 2,
    });
    assert_eq!(t.node.height(&"ch".into()), Some(2));
}

#[test]
fn a_block_of_the_owner_goes_to_ledger_and_peers() {
    let mut t = Table::in_channel(follower());
    let a = t.meet("A", "a");
    t.say(&a, &a, "ch");
    t.tick(at(20));
    let offer = || Input::Offered {
        channel: "ch".into(),
        block: block(1),
    };
    let commit = Effect::Commit {
        channel: "ch".into(),
        block: block(1),
        source: Source::Deliver,
        private_data: vec![],
    };
    let push = Effect::Send {
        to: Destination {
            peer: a.pki_id,
            endpoint: "a:1".to_owned(),
        },
        envelope: block_envelope(1),
    };
    let mut out = t.feed(offer());
    out.retain(|effect| !matches!(effect, Effect::Notify(_)));
    assert_eq!(out, [commit, push]);
    assert_eq!(t.feed(offer()), [], "once");
}

#[test]
fn whoever_cannot_be_reached_is_dead() {
    let mut t = Table::new(follower());
    let a = t.meet("A", "a");
    let out = t.feed(Input::Unreachable(a.pki_id));
    let dead = Effect::Notify(Notice::MemberDead(a.pki_id));
    assert!(out.contains(&dead), "{out:?}");
    assert_eq!(t.node.members().count(), 0);
    assert_eq!(t.node.dead_members().count(), 1);
}

#[test]
fn a_peer_that_changed_its_identity_is_erased_under_the_old_one() {
    let mut t = Table::new(follower());
    let a = t.meet("A", "a");
    t.feed(Input::Switched { expected: a.pki_id });
    assert_eq!(t.node.sizes().members, 0);
}

#[test]
fn an_acknowledged_send_chooses_among_the_peers_of_its_channel() {
    let mut t = Table::in_channel(follower());
    let (a, _) = (t.meet("A", "a"), t.meet("A", "b"));
    t.say(&a, &a, "ch");
    let request = |channel: &str| {
        Input::SendByCriteria(SendByCriteria {
            ticket: Ticket(7),
            message: Default::default(),
            timeout: Duration::from_secs(1),
            min_ack: 1,
            max_peers: 5,
            channel: Some(channel.into()),
            eligible: None,
        })
    };
    let out = t.feed(request("ch"));
    let to: Vec<PkiId> = sent_to(&out).iter().map(|to| to.peer).collect();
    assert_eq!(to, [a.pki_id]);
    let out = t.feed(request("elsewhere"));
    let [
        Effect::Notify(Notice::Acknowledged {
            ticket: Ticket(7),
            result: Err(_),
        }),
    ] = &out[..]
    else {
        panic!("an error expected, not {out:?}");
    };
}
