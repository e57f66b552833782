//! What one channel keeps, passes on, answers and refuses, transition by transition.

use bytes::Bytes;
use tidings_proto::gossip::gossip_message::Content;

use super::*;
use crate::{
    id::PeerTime,
    message::{BlockMessage, PeerIdentity, Pull},
    scene::{SEED, Scene, at, block, block_envelope, block_message, join, state_info},
    summary::{Known, Summary},
    toy,
};

mod blocks;
mod own;
mod snapshots;

/// We are `me` of `A`, in channel `ch` of `A` and `B`; `a`, `b` and `c` of `C` are alive.
struct Table {
    scene: Scene,
    channel: Channel,
    now: Moment,
}

impl Table {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let mut scene = Scene::new(config);
        scene.meet("A", "a");
        scene.meet("B", "b");
        scene.meet("C", "c");
        let channel = scene.channel();
        Self {
            scene,
            channel,
            now: at(0),
        }
    }

    fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        let view = self.scene.view();
        self.channel
            .handle(self.now, input, &view, &self.scene.ports, &mut out);
        out
    }

    fn receive(&mut self, from: &Arc<PeerIdentity>, message: Message) -> Vec<Effect> {
        let from = toy::connection(7, from);
        self.feed(Input::Received { from, message })
    }

    fn info(&mut self, from: &Arc<PeerIdentity>, info: StateInfo) -> Vec<Effect> {
        self.receive(from, Message::StateInfo(Box::new(info)))
    }

    fn hears(&mut self, peer: &Arc<PeerIdentity>, height: u64) {
        self.scene.hears(&mut self.channel, peer, height);
    }

    /// Ticks at every deadline until then; what the tracker says is left out.
    fn until(&mut self, ms: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        while let Some(due) = self.channel.deadline().filter(|due| *due <= at(ms)) {
            let due = due.max(self.now);
            self.now = due;
            let view = self.scene.view();
            self.channel.tick(due, &view, &self.scene.ports, &mut out);
        }
        self.now = at(ms);
        out.retain(|e| !matches!(e, Effect::Notify(Notice::ChannelMembers { .. })));
        out
    }

    fn peers(&self) -> Vec<PkiId> {
        let peers = self.channel.peers(&self.scene.view());
        peers.iter().map(|peer| peer.member.peer).collect()
    }

    /// What a pull request of this peer is answered with.
    fn snapshot(&mut self, to: &Arc<PeerIdentity>) -> Vec<Envelope> {
        let out = self.receive(to, pull_request(to));
        let [
            Effect::Reply {
                connection: ConnectionId(7),
                envelope,
            },
        ] = out.as_slice()
        else {
            panic!("one reply expected: {out:?}");
        };
        let message = envelope.clone().open().unwrap().message().clone();
        assert_eq!((message.nonce, &message.channel[..]), (0, &b"ch"[..]));
        assert_eq!(message.tag, Tag::ChanOrOrg as i32);
        assert!(envelope.signature.is_empty());
        let Some(Content::StateSnapshot(snapshot)) = message.content else {
            panic!("a snapshot expected");
        };
        snapshot.elements
    }
}

fn a() -> Arc<PeerIdentity> {
    toy::identity("A", "a")
}

fn b() -> Arc<PeerIdentity> {
    toy::identity("B", "b")
}

fn c() -> Arc<PeerIdentity> {
    toy::identity("C", "c")
}

fn pull_request(of: &Arc<PeerIdentity>) -> Message {
    Message::StateInfoPullRequest {
        channel_mac: mac(&of.pki_id, &"ch".into()),
        known: None,
    }
}

fn snapshot_message(elements: Vec<StateInfo>) -> Message {
    Message::StateSnapshot {
        channel: "ch".into(),
        elements,
    }
}

fn pushed(number: u64) -> Message {
    Message::Block {
        channel: "ch".into(),
        block: block_message(number),
    }
}

fn pull(pull: Pull<BlockMessage>) -> Message {
    Message::BlockPull {
        channel: "ch".into(),
        pull,
    }
}

fn leadership(of: &Arc<PeerIdentity>, time: PeerTime) -> Leadership {
    Leadership {
        channel: "ch".into(),
        peer: of.pki_id,
        time,
        is_declaration: true,
        envelope: Envelope::default(),
    }
}

/// The rules of refusals, if there is nothing but refusals.
fn rules(out: &[Effect]) -> Vec<&'static str> {
    out.iter()
        .map(|effect| match effect {
            Effect::Notify(Notice::Refused { rule, .. }) => *rule,
            other => panic!("a refusal expected: {other:?}"),
        })
        .collect()
}

/// The own state infos that are spread, if there is nothing but those.
fn published(out: &[Effect]) -> Vec<(PeerTime, u64, bool)> {
    out.iter()
        .map(|effect| {
            let Effect::Emit(Outgoing {
                subject: Subject::StateInfo { .. },
                envelope,
                source: None,
            }) = effect
            else {
                panic!("a state info of ours expected: {effect:?}");
            };
            let message = envelope.clone().open().unwrap().message().clone();
            assert!(message.channel.is_empty(), "G-N1");
            let Some(Content::StateInfo(info)) = message.content else {
                panic!("a state info expected");
            };
            let (time, properties) = (info.timestamp.unwrap(), info.properties.unwrap());
            let time = toy::time(time.inc_num, time.seq_num);
            (time, properties.ledger_height, properties.left_channel)
        })
        .collect()
}

fn sends(out: &[Effect]) -> usize {
    let count = out.iter().filter(|e| matches!(e, Effect::Send { .. }));
    count.count()
}

#[test]
fn the_mac_is_that_of_the_reference() {
    let peer = PkiId::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
    assert_eq!(
        hex::encode(mac(&peer, &"mychannel".into())),
        "8a306cdbd99099d0aee440b1c020292a7fe2d628613ce016c2c86c09794a485b"
    );
    assert_eq!(
        hex::encode(mac(&peer, &"A".into())),
        "9a9aea255b8e54be50fc2cb5d0b83ebf64120b12e68d82699face4ee860511dc"
    );
}

#[test]
fn s_c1_a_wrong_mac_is_refused() {
    let mut t = Table::new();
    let out = t.info(&a(), state_info(&a(), "other", 1, 1));
    assert_eq!(rules(&out), ["S-C1"]);
    let out = t.receive(&a(), pull_request(&b()));
    assert_eq!(rules(&out), ["S-C1"]);
    assert_eq!(t.channel.state_info(&a().pki_id), None);
}

#[test]
fn s_c2_a_message_that_names_another_channel_is_refused() {
    let mut t = Table::new();
    let other: ChannelId = "other".into();
    let block = Message::Block {
        channel: other.clone(),
        block: block_message(1),
    };
    let snapshot = Message::StateSnapshot {
        channel: other.clone(),
        elements: vec![state_info(&b(), "ch", 1, 1)],
    };
    let hello = Message::BlockPull {
        channel: other.clone(),
        pull: Pull::Hello {
            nonce: 1,
            known: None,
        },
    };
    let leadership = Message::Leadership(Leadership {
        channel: other,
        ..leadership(&a(), toy::time(1, 1))
    });
    for message in [block, snapshot, hello, leadership] {
        assert_eq!(rules(&t.receive(&a(), message)), ["S-C2"]);
    }
    assert_eq!(t.channel.state_info(&b().pki_id), None);
}

#[test]
fn s_c3_a_sender_whose_organization_is_not_in_the_channel_is_refused() {
    let mut t = Table::new();
    t.hears(&a(), 1);
    let messages = [
        pull_request(&c()),
        Message::StateInfo(Box::new(state_info(&a(), "ch", 9, 9))),
        snapshot_message(vec![state_info(&b(), "ch", 1, 1)]),
        pushed(1),
        pull(Pull::Hello {
            nonce: 1,
            known: None,
        }),
        Message::Leadership(leadership(&a(), toy::time(1, 1))),
    ];
    for message in messages {
        assert_eq!(rules(&t.receive(&c(), message)), ["S-C3"]);
    }
    assert_eq!(t.channel.state_info(&a().pki_id).unwrap().height, 1);
}

#[test]
fn s_c4_an_outsider_is_neither_kept_nor_passed_on() {
    let mut t = Table::new();
    let out = t.info(&a(), state_info(&c(), "ch", 1, 1));
    assert_eq!(rules(&out), ["S-C4"]);
    t.scene.ports.outsiders.insert(b().pki_id);
    let out = t.info(&b(), state_info(&b(), "ch", 1, 1));
    assert_eq!(rules(&out), ["S-C4"]);
    assert_eq!(t.peers(), []);
}

#[test]
fn s_c5_what_is_not_newer_is_neither_kept_nor_passed_on() {
    let mut t = Table::new();
    let emitted = |info: &StateInfo, from: &Arc<PeerIdentity>| {
        Effect::Emit(Outgoing {
            subject: Subject::StateInfo {
                speaker: info.peer,
                channel: Some("ch".into()),
            },
            envelope: info.envelope.clone(),
            source: Some(from.pki_id),
        })
    };
    let info = state_info(&b(), "ch", 5, 50);
    assert_eq!(t.info(&a(), info.clone()), [emitted(&info, &a())]);
    assert_eq!(t.info(&b(), info), []);
    assert_eq!(t.info(&a(), state_info(&b(), "ch", 4, 90)), []);
    assert_eq!(t.channel.state_info(&b().pki_id).unwrap().height, 50);
    let newer = state_info(&b(), "ch", 6, 60);
    assert_eq!(t.info(&b(), newer.clone()), [emitted(&newer, &b())]);

    let declare = |sequence| Message::Leadership(leadership(&a(), toy::time(1, sequence)));
    let heard = |sequence| Effect::Leadership(leadership(&a(), toy::time(1, sequence)));
    assert_eq!(t.receive(&a(), declare(5)), [heard(5)]);
    assert_eq!(t.receive(&a(), declare(5)), []);
    assert_eq!(t.receive(&a(), declare(4)), []);
    assert_eq!(t.receive(&a(), declare(6)), [heard(6)]);
}

#[test]
fn nobody_else_speaks_for_us() {
    let mut t = Table::new();
    let own = Arc::clone(&t.scene.me.identity);
    let mut info = state_info(&own, "ch", u64::MAX, 999);
    info.time.incarnation = u64::MAX;
    assert_eq!(t.info(&a(), info.clone()), []);
    assert_eq!(t.receive(&a(), snapshot_message(vec![info])), []);
    assert_eq!(t.channel.own_state_info(), None);
}

#[test]
fn s_c9_leadership_of_or_from_others_is_refused() {
    let mut t = Table::new();
    let declare = |of| Message::Leadership(leadership(&of, toy::time(1, 1)));
    assert_eq!(rules(&t.receive(&b(), declare(a()))), ["S-C9"]);
    assert_eq!(rules(&t.receive(&a(), declare(b()))), ["S-C9"]);
    let stranger = toy::identity("A", "stranger");
    assert_eq!(rules(&t.receive(&a(), declare(stranger))), ["S-C9"]);
}

#[test]
fn s_c12_older_and_empty_configurations_are_ignored() {
    let mut t = Table::new();
    for ignored in [join(0, &["A", "C"]), join(2, &[])] {
        let out = t.feed(Input::Configure(ignored));
        let [Effect::Notify(Notice::Warning(_))] = out.as_slice() else {
            panic!("{out:?}");
        };
        assert!(t.channel.has_org(&"B".into()));
    }
    assert_eq!(t.feed(Input::Configure(join(1, &["A", "C"]))), []);
    assert!(!t.channel.has_org(&"B".into()));
}

#[test]
fn s_c13_a_removed_organization_is_forgotten_at_once() {
    let mut t = Table::new();
    t.hears(&a(), 1);
    t.hears(&b(), 1);
    t.feed(Input::Height(3));
    t.until(4000);
    t.feed(Input::Configure(join(2, &["A"])));
    assert_eq!(t.peers(), [a().pki_id]);
    assert_eq!(t.channel.state_info(&b().pki_id), None);
    assert!(t.channel.own_state_info().is_some());
    let out = t.info(&b(), state_info(&b(), "ch", 9, 9));
    assert_eq!(rules(&out), ["S-C3"]);
    let out = t.info(&a(), state_info(&b(), "ch", 9, 9));
    assert_eq!(rules(&out), ["S-C4"]);
}

#[test]
fn peers_are_alive_known_heard_of_and_have_not_left() {
    let mut t = Table::new();
    assert_eq!(t.peers(), []);
    t.hears(&a(), 5);
    t.hears(&b(), 9);
    let ghost = t.scene.know("A", "ghost");
    t.hears(&ghost, 50);
    let mut both = vec![a().pki_id, b().pki_id];
    both.sort();
    assert_eq!(t.peers(), both);
    assert_eq!(t.channel.peers_height(&t.scene.view()), 9);
    let mut left = state_info(&b(), "ch", 10, 10);
    left.left_channel = true;
    t.info(&b(), left);
    assert_eq!(t.peers(), [a().pki_id]);
    assert!(!t.channel.is_eligible(&b().pki_id));
}

#[test]
fn the_sweep_takes_whom_discovery_does_not_know() {
    let mut t = Table::new();
    t.hears(&a(), 5);
    let ghost = t.scene.know("A", "ghost");
    t.hears(&ghost, 5);
    t.feed(Input::Height(1));
    t.until(19_999);
    assert!(t.channel.state_info(&ghost.pki_id).is_some());
    t.until(20_000);
    assert_eq!(t.channel.state_info(&ghost.pki_id), None);
    assert!(t.channel.state_info(&a().pki_id).is_some());
    assert!(t.channel.own_state_info().is_some());
}

#[test]
fn the_tracker_counts_peers() {
    let mut t = Table::new();
    t.hears(&a(), 5);
    let mut out = Vec::new();
    let view = t.scene.view();
    t.channel.tick(at(5000), &view, &t.scene.ports, &mut out);
    let count = Effect::Notify(Notice::ChannelMembers {
        channel: "ch".into(),
        count: 1,
    });
    assert!(out.contains(&count));
}

#[test]
fn state_infos_are_bounded() {
    let mut t = Table::new();
    for n in 0..STATE_INFOS_MAX {
        let peer = toy::identity("A", &n.to_string());
        let mut info = state_info(&b(), "ch", 1, 1);
        info.channel_mac = mac(&peer.pki_id, &"ch".into());
        info.peer = peer.pki_id;
        info.identity = peer;
        assert_eq!(t.info(&a(), info).len(), 1);
    }
    let out = t.info(&a(), state_info(&a(), "ch", 1, 1));
    assert_eq!(rules(&out), ["S-C4"]);
    t.until(20_000);
    assert!(matches!(
        t.info(&a(), state_info(&a(), "ch", 1, 1)).as_slice(),
        [Effect::Emit(_)]
    ));
}

#[test]
fn speakers_of_leadership_are_bounded_and_forgotten() {
    let mut t = Table::new();
    for n in 0..LEADERS_MAX {
        let peer = t.scene.know("A", &n.to_string());
        let declare = Message::Leadership(leadership(&peer, toy::time(1, 1)));
        assert_eq!(t.receive(&a(), declare).len(), 1);
    }
    let declare = || Message::Leadership(leadership(&a(), toy::time(1, 1)));
    assert_eq!(t.receive(&a(), declare()), []);
    t.until(200_000);
    assert_eq!(t.receive(&a(), declare()).len(), 1);
}

#[test]
fn equal_seeds_make_equal_choices() {
    let run = || {
        let mut t = Table::new();
        for n in 0..20 {
            t.scene.meet("A", &n.to_string());
        }
        t.channel = Channel::new(
            "ch".into(),
            &join(1, &["A"]),
            &t.scene.me,
            &t.scene.config,
            at(0),
            &SEED,
        );
        t.until(30_000)
    };
    assert_eq!(run(), run());
}
