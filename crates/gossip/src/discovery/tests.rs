//! A node among others, stepped by hand; the claims are in the modules below.

use tidings_proto::gossip::{
    GossipMessage, MembershipRequest, MembershipResponse, gossip_message::Content,
};

use super::*;
use crate::{
    identity,
    toy::{self, Speech, ToyPorts, ToyVerifier},
    verify,
};

mod asking;
mod dialogue;
mod life;
mod outreach;
mod rhythm;
mod room;

fn at(secs: u64) -> Moment {
    Moment::after_start(Duration::from_secs(secs))
}

/// A node of organization A among others.
struct Stage {
    me: Me,
    ports: ToyPorts,
    identities: Identities,
    node: Discovery,
}

impl Stage {
    fn new() -> Self {
        Self::with("me-out:1", Config::default())
    }

    fn with(external: &str, config: Config) -> Self {
        let me = toy::me("A", "me", external);
        let ports = ToyPorts(Arc::clone(&me.identity));
        Self {
            identities: Identities::new(&me, &config, &ports, &[0; 32]),
            node: Discovery::new(&me, &config, &[0; 32]),
            ports,
            me,
        }
    }

    fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        let Self {
            me,
            ports,
            identities,
            node,
        } = self;
        node.handle(now, input, me, identities, ports, &mut out);
        out
    }

    fn tick(&mut self, now: Moment) -> Vec<Effect> {
        let mut out = Vec::new();
        let Self {
            me,
            ports,
            identities,
            node,
        } = self;
        node.tick(now, me, identities, ports, &mut out);
        out
    }

    /// Lets time pass up to this moment, as a driver would.
    fn run(&mut self, until: Moment) -> Vec<(Moment, Effect)> {
        let mut all = Vec::new();
        while let Some(due) = self.node.deadline().filter(|due| *due <= until) {
            let out = self.tick(due);
            all.extend(out.into_iter().map(|effect| (due, effect)));
            assert!(self.node.deadline() > Some(due), "the node does not rest");
        }
        all
    }

    fn know(&mut self, identity: &Arc<PeerIdentity>) {
        let input = identity::Input::Learned(Arc::clone(identity));
        let Self {
            me,
            identities,
            node,
            ..
        } = self;
        let mut out = Vec::new();
        identities.handle(Moment::ZERO, input, me, node, &mut out);
        assert_eq!(out, []);
    }

    fn gossip(&mut self, now: Moment, alive: Alive) -> Vec<Effect> {
        self.know(&alive.identity);
        self.gossip_unknown(now, alive)
    }

    fn gossip_unknown(&mut self, now: Moment, alive: Alive) -> Vec<Effect> {
        let from = courier();
        let alive = Box::new(alive);
        self.handle(now, Input::Alive { from, alive })
    }

    fn ask(&mut self, now: Moment, nonce: u64, about: Alive) -> Vec<Effect> {
        let about = Box::new(about);
        self.handle(
            now,
            Input::MembershipRequest {
                nonce,
                about,
                known: None,
            },
        )
    }

    fn tell(&mut self, now: Moment, alive: Vec<Alive>, dead: Vec<Alive>) -> Vec<Effect> {
        let input = Input::MembershipResponse {
            from: courier(),
            nonce: 0,
            alive,
            dead,
        };
        self.handle(now, input)
    }

    /// Makes a peer alive and known.
    fn meet(&mut self, peer: &Arc<PeerIdentity>, external: &str, internal: &str) {
        self.gossip(at(0), Speech::of(peer, external, internal).alive());
    }

    fn standing(&self, peer: &Arc<PeerIdentity>) -> &'static str {
        let peer = &peer.pki_id;
        let alive = self.node.alive().any(|member| member.peer == *peer);
        let dead = self.node.dead().any(|member| member.peer == *peer);
        assert_eq!(self.node.is_alive(peer), alive);
        assert_eq!(self.node.member(peer).is_some(), alive || dead);
        match (alive, dead) {
            (true, false) => "alive",
            (false, true) => "dead",
            (false, false) => "unknown",
            (true, true) => panic!("alive and dead"),
        }
    }
}

/// Whoever brings us messages.
fn courier() -> PkiId {
    toy::identity("A", "courier").pki_id
}

fn a(name: &str) -> Arc<PeerIdentity> {
    toy::identity("A", name)
}

fn b(name: &str) -> Arc<PeerIdentity> {
    toy::identity("B", name)
}

fn seq(speech: Speech, sequence: u64) -> Alive {
    speech.at(toy::time(1, sequence)).alive()
}

/// What an effect does, in words without what a test does not look at.
fn words(effects: &[Effect]) -> Vec<String> {
    let all = effects.iter().map(|effect| match effect {
        Effect::Send { to, envelope } => {
            let content = open(envelope).content.unwrap();
            let kind = tidings_proto::tag::Kind::of(&content);
            format!("{kind} to {}", to.endpoint)
        }
        Effect::Gossip { alive, source } => {
            let source = source.map_or_else(|| "us".to_owned(), |_| "courier".to_owned());
            format!("gossip {} from {source}", alive.time.sequence)
        }
        Effect::Close(_) => "close".to_owned(),
        Effect::Probe { endpoint, .. } => format!("probe {endpoint}"),
        Effect::Identify { endpoint, .. } => format!("identify {endpoint}"),
        Effect::Notify(Notice::MemberAlive { endpoint, .. }) => format!("alive: {endpoint}"),
        Effect::Notify(Notice::MemberDead(_)) => "dead".to_owned(),
        Effect::Notify(Notice::MemberForgotten(_)) => "forgotten".to_owned(),
        Effect::Notify(Notice::Refused { rule, .. }) => format!("refused: {rule}"),
        Effect::Notify(Notice::Warning(_)) => "warning".to_owned(),
        Effect::Notify(other) => format!("{other:?}"),
    });
    all.collect()
}

fn check(effects: &[Effect], expect: &[&str]) {
    assert_eq!(words(effects), expect);
}

fn open(envelope: &Envelope) -> GossipMessage {
    let message = envelope.clone().open().unwrap().into_parts().1;
    tidings_proto::tag::check_tag(&message).unwrap();
    message
}

fn response(effects: &[Effect]) -> (u64, MembershipResponse) {
    let sent = effects.iter().find_map(|effect| match effect {
        Effect::Send { envelope, .. } => Some(open(envelope)),
        _ => None,
    });
    let message = sent.expect("an answer");
    match message.content {
        Some(Content::MemRes(response)) => (message.nonce, response),
        other => panic!("expected a membership response, got {other:?}"),
    }
}

/// What a request says, which must pass the gate of whoever gets it.
fn request(stage: &Stage, effect: &Effect) -> (u64, Alive) {
    let Effect::Send { envelope, .. } = effect else {
        panic!("expected a message, got {effect:?}");
    };
    let own = &stage.me.identity;
    let verifier = ToyVerifier::knowing(&[own]);
    let connection = toy::connection(1, own);
    match verify::verify(&connection, envelope.clone(), &verifier)
        .unwrap()
        .into_inner()
    {
        crate::Message::MembershipRequest { nonce, about, .. } => (nonce, *about),
        other => panic!("expected a membership request, got {other:?}"),
    }
}

fn secrets(effect: &Effect) -> bool {
    let Effect::Send { envelope, .. } = effect else {
        panic!("expected a message, got {effect:?}");
    };
    match open(envelope).content {
        Some(Content::MemReq(MembershipRequest {
            self_information, ..
        })) => self_information.unwrap().secret_envelope.is_some(),
        other => panic!("expected a membership request, got {other:?}"),
    }
}
