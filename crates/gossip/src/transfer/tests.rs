//! In which order blocks reach the committer, and how gaps are filled.

use std::{collections::BTreeMap, ops::RangeInclusive};

use tidings_proto::gossip::GossipMessage;

use super::*;
use crate::{
    config::StateConfig,
    message::{PeerIdentity, TransferredBlock},
    scene::{SEED, Scene, at, block},
    toy,
};

mod answering;
mod asking;
mod bounds;
mod sharing;
mod trust;

/// We are `me` of `A` in channel `ch` of `A` and `B`, at height 100.
struct Table {
    scene: Scene,
    channel: Channel,
    transfer: Transfer,
    now: Moment,
    names: BTreeMap<PkiId, String>,
}

impl Table {
    fn with(config: Config) -> Self {
        let scene = Scene::new(config);
        Self {
            channel: scene.channel(),
            transfer: Transfer::new("ch".into(), &scene.config, 100, at(0), &SEED),
            scene,
            now: at(0),
            names: BTreeMap::new(),
        }
    }

    /// State transfer is on, and these peers of the channel claim these heights.
    fn among(peers: &[(&str, u64)]) -> Self {
        let mut table = Self::with(enabled());
        for (name, height) in peers {
            table.meet(name, *height);
        }
        table
    }

    fn meet(&mut self, name: &str, height: u64) -> Arc<PeerIdentity> {
        self.meet_of("B", name, height)
    }

    fn meet_of(&mut self, org: &str, name: &str, height: u64) -> Arc<PeerIdentity> {
        let peer = self.scene.meet(org, name);
        self.scene.hears(&mut self.channel, &peer, height);
        self.names.insert(peer.pki_id, name.to_owned());
        peer
    }

    fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        let view = self.scene.view();
        let ports = &self.scene.ports;
        self.transfer
            .handle(self.now, input, &self.channel, &view, ports, &mut out);
        out.retain(|e| !matches!(e, Effect::Notify(Notice::PayloadBuffer { .. })));
        out
    }

    fn push(&mut self, number: u64) -> Vec<Effect> {
        self.feed(Input::Block {
            block: block(number),
            source: Source::Push,
        })
    }

    fn deliver(&mut self, number: u64) -> Vec<Effect> {
        self.feed(Input::Block {
            block: block(number),
            source: Source::Deliver,
        })
    }

    fn receive(&mut self, from: &str, message: Message) -> Vec<Effect> {
        self.receive_on(7, from, message)
    }

    fn receive_on(&mut self, connection: u64, from: &str, message: Message) -> Vec<Effect> {
        let from = toy::connection(connection, &toy::identity("B", from));
        self.feed(Input::Received { from, message })
    }

    /// The good answer to this request.
    fn answer(&mut self, asked: &Asked) -> Vec<Effect> {
        self.receive(&asked.whom, response(asked.nonce, asked.range.clone()))
    }

    /// An answer in which nothing passed the gate.
    fn answer_nothing(&mut self, asked: &Asked) -> Vec<Effect> {
        self.receive(&asked.whom, response(asked.nonce, []))
    }

    /// Somebody says so of this height.
    fn claim(&mut self, height: u64) -> Vec<Effect> {
        self.feed(Input::Claimed(height))
    }

    fn shares(&self) -> BTreeMap<String, Share> {
        let progress = self.transfer.progress(self.now);
        let shares = progress.map(|progress| progress.sources);
        let named = |share: Share| (self.names[&share.peer].clone(), share);
        shares.unwrap_or_default().into_iter().map(named).collect()
    }

    fn windows(&self) -> Vec<(String, usize)> {
        let shares = self.shares().into_iter();
        shares.map(|(name, share)| (name, share.window)).collect()
    }

    /// Ticks at every deadline until then.
    fn until(&mut self, ms: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        while let Some(due) = self.transfer.deadline().filter(|due| *due <= at(ms)) {
            self.now = due.max(self.now);
            let view = self.scene.view();
            self.transfer.tick(self.now, &self.channel, &view, &mut out);
        }
        self.now = at(ms);
        out
    }

    /// The requests among these effects, which must be nothing but requests and reports.
    fn asked(&self, out: &[Effect]) -> Vec<Asked> {
        out.iter()
            .filter(|effect| !is_report(effect))
            .map(|effect| {
                let Effect::Send { to, envelope } = effect else {
                    panic!("a request expected: {effect:?}");
                };
                let message = opened(envelope);
                let Some(Content::StateRequest(request)) = message.content else {
                    panic!("a request expected");
                };
                Asked {
                    whom: self.names[&to.peer].clone(),
                    range: request.start_seq_num..=request.end_seq_num,
                    nonce: message.nonce,
                }
            })
            .collect()
    }

    /// The only request among these effects.
    fn the_one_asked(&self, out: &[Effect]) -> Asked {
        let mut asked = self.asked(out);
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Asked {
    whom: String,
    range: RangeInclusive<u64>,
    nonce: u64,
}

fn enabled() -> Config {
    Config {
        state: StateConfig {
            enabled: true,
            ..StateConfig::default()
        },
        ..Config::default()
    }
}

fn opened(envelope: &Envelope) -> GossipMessage {
    assert!(envelope.signature.is_empty());
    let message = envelope.clone().open().unwrap().message().clone();
    assert_eq!(&message.channel[..], b"ch");
    assert_eq!(message.tag, Tag::ChanOrOrg as i32);
    message
}

fn commit(number: u64, source: Source) -> Effect {
    Effect::Commit {
        block: block(number),
        source,
        private_data: Vec::new(),
    }
}

fn commits(numbers: impl IntoIterator<Item = u64>, source: Source) -> Vec<Effect> {
    numbers.into_iter().map(|n| commit(n, source)).collect()
}

fn transferred(number: u64) -> TransferredBlock {
    TransferredBlock {
        block: block(number),
        private_data: Vec::new(),
    }
}

fn response(nonce: u64, numbers: impl IntoIterator<Item = u64>) -> Message {
    Message::StateResponse {
        channel: "ch".into(),
        nonce,
        blocks: numbers.into_iter().map(transferred).collect(),
    }
}

fn request(nonce: u64, start: u64, end: u64) -> Message {
    Message::StateRequest {
        channel: "ch".into(),
        nonce,
        start,
        end,
    }
}

fn rules(out: &[Effect]) -> Vec<&'static str> {
    out.iter()
        .filter_map(|effect| match effect {
            Effect::Notify(Notice::Refused { rule, .. }) => Some(*rule),
            _ => None,
        })
        .collect()
}

fn not_kept(number: u64) -> Effect {
    Effect::NotKept {
        block: block(number),
        source: Source::Push,
    }
}

fn is_report(effect: &Effect) -> bool {
    matches!(effect, Effect::Notify(Notice::CatchUp { .. }))
}

fn only_sends(out: Vec<Effect>) -> Vec<Effect> {
    let sends = out.into_iter();
    sends.filter(|e| matches!(e, Effect::Send { .. })).collect()
}

fn ranges(asked: &[Asked]) -> Vec<RangeInclusive<u64>> {
    asked.iter().map(|each| each.range.clone()).collect()
}

fn is_warning(effect: &Effect) -> bool {
    matches!(effect, Effect::Notify(Notice::Warning(_)))
}

#[test]
fn blocks_are_committed_in_order_with_their_source() {
    let mut t = Table::with(Config::default());
    assert_eq!(t.push(102), []);
    assert_eq!(t.deliver(101), []);
    let pulled = Input::Block {
        block: block(100),
        source: Source::Pull,
    };
    assert_eq!(
        t.feed(pulled),
        [
            commit(100, Source::Pull),
            commit(101, Source::Deliver),
            commit(102, Source::Push)
        ]
    );
    assert_eq!(t.push(101), []);
    assert_eq!(t.transfer.waiting(), 0);
}

#[test]
fn the_buffer_tells_its_size() {
    let mut t = Table::with(Config::default());
    let mut out = Vec::new();
    let input = Input::Block {
        block: block(101),
        source: Source::Push,
    };
    let view = t.scene.view();
    t.transfer
        .handle(t.now, input, &t.channel, &view, &t.scene.ports, &mut out);
    let size = Effect::Notify(Notice::PayloadBuffer {
        channel: "ch".into(),
        size: 1,
    });
    assert_eq!(out, [size]);
}

#[test]
fn a_window_of_blocks_is_committed_at_a_time() {
    let mut t = Table::with(Config::default());
    let mut out = Vec::new();
    for number in 100..120 {
        out.extend(t.push(number));
    }
    let end = 100 + COMMIT_WINDOW;
    assert_eq!(out, commits(100..end, Source::Push));
    assert_eq!(
        t.feed(Input::Height(102)),
        commits(end..end + 2, Source::Push)
    );
    assert_eq!(t.transfer.height(), 102);
}

#[test]
fn a_refused_block_is_wanted_again() {
    let mut t = Table::with(Config::default());
    t.push(100);
    t.push(101);
    let out = t.feed(Input::CommitRefused(100));
    let [warning, refused] = out.as_slice() else {
        panic!("a warning and a refusal expected: {out:?}");
    };
    assert!(is_warning(warning));
    assert_eq!(*refused, Effect::Refused(100));
    assert_eq!(t.feed(Input::CommitRefused(101)), []);
    assert_eq!(
        t.deliver(100),
        [commit(100, Source::Deliver), commit(101, Source::Push)]
    );
}

#[test]
fn s_s8_gossip_may_not_fill_the_buffer_from_its_far_end() {
    let mut t = Table::with(Config::default());
    for number in [99, 0, 120, u64::MAX] {
        let mut out = t.push(number);
        out.retain(|effect| !is_warning(effect));
        let back = (number > 99).then(|| not_kept(number));
        assert_eq!(out, Vec::from_iter(back));
        assert_eq!(t.transfer.waiting(), 0, "{number}");
    }
    for number in 101..=119 {
        assert_eq!(t.push(number), []);
    }
    assert_eq!(t.transfer.waiting(), 19);
}

#[test]
fn an_orderer_is_told_when_its_block_was_not_kept() {
    let mut t = Table::with(Config::default());
    let limit = blocking_limit(20);
    assert_eq!(t.deliver(100 + limit - 1), []);
    assert_eq!(t.transfer.waiting(), 1);
    let number = 100 + limit;
    assert_eq!(t.deliver(number), [Effect::NoRoom(number)]);
    assert_eq!(t.deliver(99), [], "old blocks are no news");
}

#[test]
fn stragglers_are_warned_as_in_the_reference() {
    let warns = |use_leader_election, org_leader, enabled, number| {
        let mut t = Table::with(Config {
            use_leader_election,
            org_leader,
            state: StateConfig {
                enabled,
                ..StateConfig::default()
            },
            ..Config::default()
        });
        let warned = t.push(number).iter().any(is_warning);
        assert!(!t.push(number).iter().any(is_warning), "once is enough");
        warned
    };
    assert!(warns(true, false, false, 300));
    assert!(warns(false, false, false, 300));
    assert!(!warns(false, true, false, 300));
    for (election, leader) in [(true, false), (false, false), (false, true)] {
        assert!(!warns(election, leader, true, 300));
        assert!(!warns(election, leader, false, 105));
    }
}
