//! What Go peers said to each other passes the gate, and what we say about ourselves is what
//! they would say in our place. The recordings are in `../shared`; without them this is skipped
//! loudly. Signatures are not checked here: this crate knows no cryptography.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its vectors has failed"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidings_gossip::{
    Config, Connection, Me, Message, PeerIdentity, Ports, VerifiedBlock, Verifier,
    discovery::{self, Discovery},
    id::{ChannelId, ConnectionId, Moment, OrgId, PeerTime, PkiId},
    identity::{self, Identities},
    message::{Alive, Pull, StateInfo},
    ports::{CollectionName, Terms},
    verify::verify,
};
use tidings_proto::{
    common::Block,
    gossip::{Envelope, Rhythm, SecretEnvelope, gossip_message::Content},
    msp::SerializedIdentity,
    protos::CollectionConfigPackage,
};

struct Recorded {
    identities: BTreeMap<String, Arc<PeerIdentity>>,
    lines: Vec<Value>,
}

impl Recorded {
    fn open(file: &str) -> Option<Self> {
        let shared = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
        if !shared.is_dir() {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!(
                    "SKIPPED: ../shared is not here: {file} was not put through the gate\n"
                ),
            );
            return None;
        }
        let fixtures = shared.join("fixtures");
        let text = fs::read_to_string(fixtures.join("identities.json")).unwrap();
        let listed: Value = serde_json::from_str(&text).unwrap();
        let identities = listed["identities"].as_array().unwrap().iter().map(|one| {
            let identity = parse(&bytes(&one["serialized_identity"])).unwrap();
            assert_eq!(hex::encode(identity.pki_id.as_bytes()), one["pki_id"]);
            (one["name"].as_str().unwrap().to_owned(), Arc::new(identity))
        });
        let identities = identities.collect();
        let text = fs::read_to_string(fixtures.join("wire").join(file)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        Some(Self {
            identities,
            lines: lines.collect(),
        })
    }

    /// The stream on which a line went, seen from its receiver.
    fn connection(&self, line: &Value) -> Connection {
        let sender = match line["direction"].as_str().unwrap() {
            "sent" => &line["node"],
            _ => &line["remote_peer"],
        };
        Connection {
            id: ConnectionId(1),
            identity: Arc::clone(&self.identities[sender.as_str().unwrap()]),
            handshake: Envelope::default(),
        }
    }
}

impl Verifier for Recorded {
    fn known(&self, peer: &PkiId) -> Option<Arc<PeerIdentity>> {
        let mut all = self.identities.values();
        all.find(|identity| identity.pki_id == *peer).cloned()
    }

    fn validate(&self, serialized: &Bytes) -> Result<Arc<PeerIdentity>, String> {
        parse(serialized).map(Arc::new)
    }

    fn remember(&self, identity: &Arc<PeerIdentity>) -> Result<Arc<PeerIdentity>, String> {
        Ok(Arc::clone(identity))
    }

    fn verify(&self, _: &PeerIdentity, message: &[u8], signature: &[u8]) -> Result<(), String> {
        assert!(!message.is_empty() && !signature.is_empty());
        Ok(())
    }

    fn verify_block(
        &self,
        channel: &ChannelId,
        number: u64,
        block: &Bytes,
    ) -> Result<VerifiedBlock, String> {
        let decoded = Block::decode(block.clone()).map_err(|error| error.to_string())?;
        let header = decoded.header.ok_or("no header")?;
        if channel.as_str() != "mychannel" || header.number != number {
            return Err("another channel or number".to_owned());
        }
        Ok(VerifiedBlock {
            number,
            hash: [0; 32],
            previous_hash: header.previous_hash,
            is_config: false,
            config_sequence: 0,
            bytes: block.clone(),
        })
    }
}

fn parse(serialized: &Bytes) -> Result<PeerIdentity, String> {
    let decoded =
        SerializedIdentity::decode(serialized.clone()).map_err(|error| error.to_string())?;
    let mut hash = Sha256::new();
    hash.update(&decoded.mspid);
    hash.update(&decoded.id_bytes);
    Ok(PeerIdentity {
        pki_id: PkiId::new(hash.finalize().into()),
        org: decoded.mspid.as_str().into(),
        serialized: serialized.clone(),
        expires_at: i64::MAX,
    })
}

fn bytes(field: &Value) -> Bytes {
    BASE64_STANDARD
        .decode(field.as_str().unwrap())
        .unwrap()
        .into()
}

fn envelope(line: &Value) -> Option<Envelope> {
    let payload = line.get("payload").filter(|payload| payload.is_string())?;
    let optional = |field: &Value| {
        if field.is_string() {
            bytes(field)
        } else {
            Bytes::new()
        }
    };
    let secret = line
        .get("secret_envelope")
        .filter(|secret| secret.is_object());
    Some(Envelope {
        payload: bytes(payload),
        signature: optional(&line["signature"]),
        secret_envelope: secret.map(|secret| SecretEnvelope {
            payload: bytes(&secret["payload"]),
            signature: bytes(&secret["signature"]),
        }),
    })
}

/// Number of parts in a message, and in what the gate made of it. They must agree: nothing that
/// Go sent is left out.
fn parts(content: &Content) -> usize {
    match content {
        Content::MemRes(response) => response.alive.len() + response.dead.len(),
        Content::DataDig(digest) => digest.digests.len(),
        Content::DataReq(request) => request.digests.len(),
        Content::DataUpdate(update) => update.data.len(),
        Content::StateSnapshot(snapshot) => snapshot.elements.len(),
        Content::StateResponse(response) => response.payloads.len(),
        Content::PrivateReq(request) => request.digests.len(),
        Content::PrivateRes(response) => response.elements.len(),
        _ => 1,
    }
}

fn parts_of_pull<I>(pull: &Pull<I>) -> usize {
    match pull {
        Pull::Hello { .. } => 1,
        Pull::Digest { digests, .. } | Pull::Request { digests, .. } => digests.len(),
        Pull::Update { items, .. } => items.len(),
    }
}

fn parts_let_through(message: &Message) -> usize {
    match message {
        Message::MembershipResponse { alive, dead, .. } => alive.len() + dead.len(),
        Message::IdentityPull(pull) => parts_of_pull(pull),
        Message::BlockPull { pull, .. } => parts_of_pull(pull),
        Message::StateSnapshot { elements, .. } => elements.len(),
        Message::StateResponse { blocks, .. } => blocks.len(),
        Message::PrivateData { pushed, .. } => usize::from(pushed.is_ok()),
        Message::PrivateRequest { digests, .. } => digests.len(),
        Message::PrivateResponse { elements, .. } => elements.len(),
        _ => 1,
    }
}

fn check(file: &str) {
    let Some(recorded) = Recorded::open(file) else {
        return;
    };
    let mut passed = BTreeMap::<&str, usize>::new();
    for line in &recorded.lines {
        let Some(envelope) = envelope(line) else {
            continue;
        };
        let kind = line["type"].as_str().unwrap();
        let connection = recorded.connection(line);
        let verdict = verify(&connection, envelope.clone(), &recorded);
        match kind {
            "Conn" => assert_eq!(verdict.unwrap_err().rule, "C-S10"),
            _ => {
                let message = verdict.unwrap_or_else(|refused| panic!("{kind}: {refused}: {line}"));
                let opened = envelope.open().unwrap();
                let content = opened.message().content.as_ref().unwrap();
                assert_eq!(parts_let_through(&message), parts(content), "{line}");
                *passed.entry(kind).or_default() += 1;
            }
        }
    }
    assert!(passed.values().sum::<usize>() > 100, "{passed:?}");
}

#[test]
fn recorded_vectors_pass_the_gate() {
    check("vectors.jsonl");
}

#[test]
fn a_recorded_conversation_passes_the_gate() {
    check("sequence_peer0.org1.jsonl");
}

struct NoPorts;

impl Ports for NoPorts {
    fn sign(&self, _: &[u8]) -> Bytes {
        Bytes::from_static(b"signature")
    }

    fn is_reader(&self, _: &ChannelId, _: &PeerIdentity) -> bool {
        true
    }

    fn member_orgs(
        &self,
        _: &ChannelId,
        _: CollectionName<'_>,
        _: &CollectionConfigPackage,
    ) -> Result<BTreeSet<OrgId>, String> {
        Ok(BTreeSet::new())
    }

    fn is_entitled(
        &self,
        _: &ChannelId,
        _: CollectionName<'_>,
        _: Terms<'_>,
        _: &StateInfo,
    ) -> bool {
        false
    }
}

fn me(alive: &Alive, identity: &Arc<PeerIdentity>) -> Me {
    Me {
        identity: Arc::clone(identity),
        endpoint: alive.internal_endpoint.clone().unwrap_or_default(),
        external_endpoint: alive.endpoint.clone(),
        started_at_ns: alive.time.incarnation,
        incarnation_ns: alive.time.incarnation,
        metadata: alive.metadata.clone(),
    }
}

/// What a node says in the place of the recorded speaker, at the same count.
fn in_its_place(me: &Me, listener: &Arc<PeerIdentity>, sequence: u64, embed: bool) -> Envelope {
    let config = Config {
        publish_cert_period: if embed { Duration::MAX } else { Duration::ZERO },
        alive_expiration_timeout: Duration::from_secs(1_000_000),
        pull_interval: Duration::from_secs(1_000_000),
        // What is said to those who are asked is counted as well.
        pull_peer_num: 0,
        ..Config::default()
    };
    let mut identities = Identities::new(me, &config, &NoPorts, &[0; 32]);
    let mut node = Discovery::new(me, &config, &[0; 32]);
    // Nothing is due before the first sync; let it pass while nobody is there.
    node.tick(Moment::ZERO, me, &identities, &NoPorts, &mut Vec::new());
    let learned = identity::Input::Learned(Arc::clone(listener));
    identities.handle(Moment::ZERO, learned, me, &node, &mut Vec::new());
    let alive = Box::new(Alive {
        peer: listener.pki_id,
        endpoint: String::new(),
        internal_endpoint: None,
        metadata: Bytes::new(),
        time: PeerTime {
            incarnation: 1,
            sequence: 1,
        },
        period: None,
        identity: Arc::clone(listener),
        envelope: Envelope::default(),
    });
    let from = listener.pki_id;
    let input = discovery::Input::Alive { from, alive };
    node.handle(
        Moment::ZERO,
        input,
        me,
        &identities,
        &NoPorts,
        &mut Vec::new(),
    );
    let mut said = Vec::new();
    for round in 1..=sequence {
        let now = Moment::after_start(config.alive_time_interval * u32::try_from(round).unwrap());
        let mut out = Vec::new();
        node.tick(now, me, &identities, &NoPorts, &mut out);
        said.extend(out.into_iter().filter_map(|effect| match effect {
            discovery::Effect::Gossip { alive, .. } => Some(alive.envelope),
            _ => None,
        }));
    }
    assert_eq!(said.len() as u64, sequence);
    said.pop().unwrap()
}

/// An alive message of ours without the one thing in it that Fabric does not know.
fn without_rhythm(ours: &Envelope) -> Vec<u8> {
    let mut message = ours.clone().open().unwrap().into_parts().1;
    let Some(Content::AliveMsg(alive)) = &mut message.content else {
        panic!("expected an alive message");
    };
    let rhythm = Rhythm::decode(std::mem::take(&mut alive.rhythm)).unwrap();
    assert_eq!(rhythm.period_ms, 5000);
    message.encode_to_vec()
}

#[test]
fn our_alive_messages_are_those_of_go_in_the_same_place() {
    let Some(recorded) = Recorded::open("vectors.jsonl") else {
        return;
    };
    let mut compared = 0;
    for line in recorded
        .lines
        .iter()
        .filter(|line| line["type"] == "AliveMsg")
    {
        let envelope = envelope(line).unwrap();
        let connection = recorded.connection(line);
        let message = verify(&connection, envelope.clone(), &recorded).unwrap();
        let Message::Alive(alive) = &*message else {
            panic!("expected an alive message");
        };
        let opened = envelope.clone().open().unwrap();
        let Some(Content::AliveMsg(wire)) = &opened.message().content else {
            panic!("expected an alive message");
        };
        let me = me(alive, &recorded.known(&alive.peer).unwrap());
        let mut others = recorded.identities.values();
        let listener = others.find(|other| other.pki_id != alive.peer).unwrap();
        let embed = !wire.identity.is_empty();
        let ours = in_its_place(&me, listener, alive.time.sequence, embed);
        assert_eq!(without_rhythm(&ours), envelope.payload);
        if let Some(secret) = envelope.secret_envelope {
            assert_eq!(ours.secret_envelope.unwrap().payload, secret.payload);
        }
        compared += 1;
    }
    assert!(compared > 3);
}

#[test]
fn our_identity_is_offered_as_go_offers_it() {
    let Some(recorded) = Recorded::open("vectors.jsonl") else {
        return;
    };
    let mut compared = 0;
    for line in recorded
        .lines
        .iter()
        .filter(|line| line["type"] == "DataUpdate")
    {
        let message = verify(
            &recorded.connection(line),
            envelope(line).unwrap(),
            &recorded,
        );
        let Message::IdentityPull(Pull::Update { items, .. }) = message.unwrap().into_inner()
        else {
            continue;
        };
        for item in items {
            let me = Me {
                identity: Arc::clone(&item.identity),
                endpoint: "here:1".to_owned(),
                external_endpoint: String::new(),
                started_at_ns: 1,
                incarnation_ns: 1,
                metadata: Bytes::new(),
            };
            assert_eq!(offered(&me).payload, item.envelope.payload);
            compared += 1;
        }
    }
    assert!(compared > 3);
}

/// What a node gives to itself when asked for its identity.
fn offered(me: &Me) -> Envelope {
    let config = Config::default();
    let mut identities = Identities::new(me, &config, &NoPorts, &[0; 32]);
    let node = Discovery::new(me, &config, &[0; 32]);
    let from = Arc::new(Connection {
        id: ConnectionId(1),
        identity: Arc::clone(&me.identity),
        handshake: Envelope::default(),
    });
    let digests = vec![Bytes::copy_from_slice(me.identity.pki_id.as_bytes())];
    let mut out = Vec::new();
    for pull in [
        Pull::Hello {
            nonce: 1,
            known: None,
        },
        Pull::Request { nonce: 1, digests },
    ] {
        let from = Arc::clone(&from);
        out.clear();
        identities.handle(
            Moment::ZERO,
            identity::Input::Pull { from, pull },
            me,
            &node,
            &mut out,
        );
    }
    let Some(identity::Effect::Reply { envelope, .. }) = out.pop() else {
        panic!("expected an answer");
    };
    let Some(Content::DataUpdate(update)) = envelope.open().unwrap().into_parts().1.content else {
        panic!("expected an update");
    };
    update.data.into_iter().next().unwrap()
}
