//! What comes in and what goes out of the private data of one channel.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest as _, Sha256};
use tidings_proto::gossip::GossipMessage;

use super::*;
use crate::{
    message::{PeerIdentity, PrivateElement, PrivatePayload},
    scene::{SEED, Scene, at},
    toy,
    verify::Refused,
};

mod anything;
mod distributing;
mod gathering;
mod gathering_limits;
mod load;
mod pushing;
mod reconciling;
mod serving;
mod sources;

/// We are `me` of `A` in channel `ch` of `A` and `B`. A collection is of the organizations that
/// its name names.
struct Table {
    scene: Scene,
    channel: Channel,
    private: PrivData,
    now: Moment,
    names: BTreeMap<PkiId, String>,
}

impl Table {
    fn with(config: Config) -> Self {
        let scene = Scene::new(config);
        Self {
            channel: scene.channel(),
            private: PrivData::new("ch".into(), &scene.config, at(0), &SEED),
            scene,
            now: at(0),
            names: BTreeMap::new(),
        }
    }

    /// Without reconciliation, among these peers of `B` with these heights.
    fn among(peers: &[(&str, u64)]) -> Self {
        let mut table = Self::with(quiet());
        for (name, height) in peers {
            table.meet("B", name, *height);
        }
        table
    }

    fn meet(&mut self, org: &str, name: &str, height: u64) -> Arc<PeerIdentity> {
        let peer = self.scene.meet(org, name);
        self.scene.hears(&mut self.channel, &peer, height);
        self.names.insert(peer.pki_id, name.to_owned());
        peer
    }

    /// A peer of our organization.
    fn meet_own(&mut self, name: &str, height: u64) -> Arc<PeerIdentity> {
        self.meet("A", name, height)
    }

    fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        let view = self.scene.view();
        let ports = &self.scene.ports;
        self.private
            .handle(self.now, input, &self.channel, &view, ports, &mut out);
        out
    }

    fn receive(&mut self, from: &Arc<Connection>, message: Message) -> Vec<Effect> {
        let from = Arc::clone(from);
        self.feed(Input::Received { from, message })
    }

    /// Ticks at every deadline until then.
    fn until(&mut self, ms: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        while let Some(due) = self.private.deadline().filter(|due| *due <= at(ms)) {
            assert!(due >= self.now, "a tick that is due moves the deadline");
            self.now = due.max(self.now);
            let view = self.scene.view();
            let ports = &self.scene.ports;
            self.private
                .tick(self.now, &self.channel, &view, ports, &mut out);
        }
        self.now = at(ms);
        out
    }

    fn want(&mut self, number: u64, items: Vec<Wanted>) -> Vec<Effect> {
        self.feed(Input::Wanted {
            key: GatherKey::Block(number),
            items,
            patience: Duration::from_secs(60),
        })
    }

    /// The answer of whoever was asked.
    fn answer(&mut self, asked: &Asked, elements: Vec<PrivateElement>) -> Vec<Effect> {
        let from = connection(&asked.whom);
        self.receive(&from, response(asked.nonce, elements))
    }

    /// The requests among these effects, in the order of the names of whom they go to.
    fn asked(&self, out: &[Effect]) -> Vec<Asked> {
        let mut asked: Vec<Asked> = out
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send { to, envelope } => {
                    let message = opened(envelope);
                    let Some(Content::PrivateReq(request)) = message.content else {
                        panic!("a request expected");
                    };
                    let whom = self.names[&to.peer].clone();
                    assert!(to.endpoint.starts_with(&whom));
                    Some(Asked {
                        whom,
                        nonce: message.nonce,
                        digests: request.digests.into_iter().map(Into::into).collect(),
                    })
                }
                _ => None,
            })
            .collect();
        asked.sort_by(|a, b| a.whom.cmp(&b.whom));
        asked
    }

    /// The only request among these effects, which are nothing else.
    fn the_one_asked(&self, out: &[Effect]) -> Asked {
        let mut asked = self.asked(out);
        assert_eq!((asked.len(), out.len()), (1, 1), "{out:?}");
        asked.remove(0)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Asked {
    whom: String,
    nonce: u64,
    digests: Vec<PrivateDigest>,
}

fn quiet() -> Config {
    with(|config| config.reconciliation_enabled = false)
}

fn with(change: impl FnOnce(&mut PvtDataConfig)) -> Config {
    let mut config = Config::default();
    change(&mut config.pvt_data);
    config
}

/// To a peer of `B`.
fn connection(name: &str) -> Arc<Connection> {
    let id = name.bytes().fold(0, |id, byte| id * 256 + u64::from(byte));
    toy::connection(id, &toy::identity("B", name))
}

fn opened(envelope: &Envelope) -> GossipMessage {
    assert!(envelope.signature.is_empty());
    let message = envelope.clone().open().unwrap().message().clone();
    assert_eq!(&message.channel[..], b"ch");
    assert_eq!(message.tag, Tag::ChanOnly as i32);
    message
}

/// What transaction `seq` of a block writes to a collection of `A` and `B`.
fn digest(block: u64, seq: u64) -> PrivateDigest {
    PrivateDigest {
        block,
        seq_in_block: seq,
        namespace: "cc".to_owned(),
        collection: "AB".to_owned(),
        tx_id: format!("tx{seq}"),
    }
}

fn rwset(digest: &PrivateDigest) -> Bytes {
    Bytes::from(format!("{} {}", digest.block, digest.seq_in_block))
}

fn wanted(block: u64, seq: u64) -> Wanted {
    let digest = digest(block, seq);
    Wanted {
        hash: Sha256::digest(rwset(&digest)).into(),
        digest,
        may_differ: false,
        endorsers: Vec::new(),
        member_orgs: ["A".into(), "B".into()].into(),
        block_to_live: 0,
    }
}

fn payload(bytes: impl Into<Bytes>) -> PrivatePayload {
    let bytes = bytes.into();
    PrivatePayload {
        hash: Sha256::digest(&bytes).into(),
        bytes,
    }
}

/// The right answer.
fn element(digest: &PrivateDigest) -> PrivateElement {
    PrivateElement {
        payloads: vec![payload(rwset(digest))],
        digest: digest.clone(),
    }
}

fn wrong(digest: &PrivateDigest) -> PrivateElement {
    PrivateElement {
        payloads: vec![payload("something else")],
        digest: digest.clone(),
    }
}

fn response(nonce: u64, elements: Vec<PrivateElement>) -> Message {
    Message::PrivateResponse {
        channel: "ch".into(),
        nonce,
        elements,
    }
}

fn found(digest: &PrivateDigest, from: &str) -> Found {
    Found {
        digest: digest.clone(),
        payload: rwset(digest),
        from: toy::identity("B", from).pki_id,
        is_verified: true,
    }
}

fn gathered(number: u64, found: Vec<Found>, missing: Vec<(PrivateDigest, Missing)>) -> Effect {
    Effect::Gathered {
        key: GatherKey::Block(number),
        found,
        missing,
    }
}

fn answered(from: &str, after_ms: u64, found: usize) -> Effect {
    Effect::Notify(Notice::PrivateAnswered {
        channel: "ch".into(),
        peer: toy::identity("B", from).pki_id,
        after: Duration::from_millis(after_ms),
        found,
    })
}

/// The rules by which something was refused.
fn rules(out: &[Effect]) -> Vec<&'static str> {
    out.iter()
        .filter_map(|effect| match effect {
            Effect::Notify(Notice::Refused { rule, .. }) => Some(*rule),
            _ => None,
        })
        .collect()
}

fn warnings(out: &[Effect]) -> usize {
    let is = |effect: &&Effect| matches!(effect, Effect::Notify(Notice::Warning(_)));
    out.iter().filter(is).count()
}

fn sizes(pushes: usize, gathers: usize, asked: usize, serving: usize) -> Sizes {
    Sizes {
        pushes,
        gathers,
        asked,
        serving,
    }
}

#[test]
fn pd_s4_whoever_may_not_read_the_channel_gets_nothing_and_is_not_heard() {
    let mut t = Table::among(&[("b", 9)]);
    let out = t.want(8, vec![wanted(8, 0)]);
    let asked = t.the_one_asked(&out);
    let b = toy::identity("B", "b");
    t.scene.ports.outsiders.insert(b.pki_id);
    let refused = |out: Vec<Effect>| {
        assert_eq!((rules(&out), out.len()), (vec!["PD-S4"], 1), "{out:?}");
    };
    refused(t.answer(&asked, vec![element(&digest(8, 0))]));
    refused(t.receive(&connection("b"), pushing::push(1)));
    refused(t.receive(&connection("b"), serving::request(1, 1)));
    assert_eq!(t.private.sizes(), sizes(0, 1, 1, 0));
}

#[test]
fn whoever_left_a_channel_hears_nothing_and_waits_for_nothing() {
    let mut t = Table::among(&[("b", 9)]);
    t.want(8, vec![wanted(8, 0)]);
    let view = t.scene.view();
    let leave = crate::channel::Input::Leave;
    t.channel
        .handle(at(0), leave, &view, &t.scene.ports, &mut Vec::new());
    let nothing = |number, why| gathered(number, vec![], vec![(digest(number, 0), why)]);
    assert_eq!(t.feed(Input::Left), [nothing(8, Missing::NotFound)]);
    let unasked = nothing(9, Missing::NotAsked);
    assert_eq!(t.want(9, vec![wanted(9, 0)]), [unasked]);
    let out = t.receive(&connection("b"), pushing::push(1));
    assert_eq!((rules(&out), out.len()), (vec!["S-N6"], 1));
    assert_eq!(t.private.sizes(), Sizes::default());
}
