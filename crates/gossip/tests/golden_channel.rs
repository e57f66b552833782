//! What our channels send in the place of a recorded Go peer is what that peer sent, byte for
//! byte. The recordings are in `../shared`; without them this is skipped loudly.

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
    Config, Connection, JoinChannel, Me, Message, PeerIdentity, Ports, StateConfig, VerifiedBlock,
    View,
    channel::{self, Channel},
    discovery::{self, Discovery},
    id::{ChannelId, ConnectionId, Moment, OrgId, PeerTime, PkiId},
    identity::{self, Identities},
    message::{Alive, Extension, StateInfo},
    ports::{CollectionName, Terms},
    transfer::{self, Transfer},
};
use tidings_proto::{
    gossip::{Envelope, GossipMessage, gossip_message::Content},
    msp::SerializedIdentity,
    protos::CollectionConfigPackage,
};

const SEED: [u8; 32] = [5; 32];

/// Signs as the recorded peer did, which is to say once.
struct Signer(Bytes);

impl Ports for Signer {
    fn sign(&self, _: &[u8]) -> Bytes {
        self.0.clone()
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

struct Recorded {
    listed: BTreeMap<String, Value>,
    lines: Vec<Value>,
}

impl Recorded {
    fn open() -> Option<Self> {
        let shared = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
        if !shared.is_dir() {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!(
                    "SKIPPED: ../shared is not here: nothing was compared with what Go sent\n"
                ),
            );
            return None;
        }
        let fixtures = shared.join("fixtures");
        let text = fs::read_to_string(fixtures.join("identities.json")).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        let listed = json["identities"].as_array_mut().unwrap();
        let named = |one: &mut Value| (one["name"].as_str().unwrap().to_owned(), one.take());
        let listed = listed.iter_mut().map(named).collect();
        let text = fs::read_to_string(fixtures.join("wire/vectors.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines = lines.collect();
        Some(Self { listed, lines })
    }

    fn identity(&self, name: &str) -> Arc<PeerIdentity> {
        let serialized = decoded(&self.listed[name]["serialized_identity"]);
        let parts = SerializedIdentity::decode(serialized.clone()).unwrap();
        let mut hash = Sha256::new();
        hash.update(&parts.mspid);
        hash.update(&parts.id_bytes);
        Arc::new(PeerIdentity {
            pki_id: PkiId::new(hash.finalize().into()),
            org: parts.mspid.as_str().into(),
            serialized,
            expires_at: i64::MAX,
        })
    }

    /// Recorded messages of one kind, whole ones only: their sender, receiver, envelope, content.
    fn sent(&self, kind: &str) -> Vec<(String, String, Envelope, GossipMessage)> {
        let lines = self.lines.iter();
        let sent: Vec<_> = lines
            .filter(|line| line["type"] == kind && line["direction"] == "sent")
            .filter(|line| line["payload"].is_string())
            .map(|line| {
                let signature = match &line["signature"] {
                    Value::String(_) => decoded(&line["signature"]),
                    _ => Bytes::new(),
                };
                let envelope = Envelope::signed(decoded(&line["payload"]), signature);
                let name = |field: &str| line[field].as_str().unwrap().to_owned();
                let (_, message) = envelope.clone().open().unwrap().into_parts();
                (name("node"), name("remote_peer"), envelope, message)
            })
            .collect();
        assert!(!sent.is_empty(), "{kind} was not recorded");
        sent
    }
}

fn decoded(field: &Value) -> Bytes {
    let text = field.as_str().unwrap();
    BASE64_STANDARD.decode(text).unwrap().into()
}

/// In the place of a recorded peer.
struct Place {
    me: Me,
    config: Config,
    ports: Signer,
    identities: Identities,
    discovery: Discovery,
}

impl Place {
    /// Started at this nanosecond; what it signs has this signature.
    fn of(identity: Arc<PeerIdentity>, started_at_ns: u64, signature: &Bytes) -> Self {
        let me = Me {
            identity,
            endpoint: "me:1".to_owned(),
            external_endpoint: "me:1".to_owned(),
            started_at_ns,
            incarnation_ns: started_at_ns,
            metadata: Bytes::new(),
        };
        let state = StateConfig {
            enabled: true,
            ..StateConfig::default()
        };
        let config = Config {
            state,
            ..Config::default()
        };
        let ports = Signer(signature.clone());
        Self {
            identities: Identities::new(&me, &config, &ports, &SEED),
            discovery: Discovery::new(&me, &config, &SEED),
            me,
            config,
            ports,
        }
    }

    fn meet(&mut self, peer: &Arc<PeerIdentity>) {
        let learned = identity::Input::Learned(Arc::clone(peer));
        let (me, out) = (&self.me, &mut Vec::new());
        self.identities
            .handle(Moment::ZERO, learned, me, &self.discovery, out);
        let alive = Alive {
            peer: peer.pki_id,
            endpoint: "peer:1".to_owned(),
            internal_endpoint: None,
            metadata: Bytes::new(),
            time: time(1, 1),
            period: None,
            identity: Arc::clone(peer),
            envelope: Envelope::default(),
        };
        let input = discovery::Input::Alive {
            from: peer.pki_id,
            alive: Box::new(alive),
        };
        self.discovery.handle(
            Moment::ZERO,
            input,
            me,
            &self.identities,
            &self.ports,
            &mut Vec::new(),
        );
    }

    fn view(&self) -> View<'_> {
        View {
            me: &self.me,
            identities: &self.identities,
            discovery: &self.discovery,
        }
    }

    fn channel(&self) -> Channel {
        let orgs = ["Org1MSP", "Org2MSP"];
        let join = JoinChannel {
            sequence: 0,
            members: orgs.map(|org| (org.into(), vec![])).into(),
        };
        let (me, config) = (&self.me, &self.config);
        Channel::new("mychannel".into(), &join, me, config, Moment::ZERO, &SEED)
    }

    fn feed(&self, channel: &mut Channel, now: Moment, input: channel::Input) -> Vec<Envelope> {
        let mut out = Vec::new();
        channel.handle(now, input, &self.view(), &self.ports, &mut out);
        let emitted = out.into_iter().filter_map(|effect| match effect {
            channel::Effect::Emit(message) => Some(message.envelope),
            _ => None,
        });
        emitted.collect()
    }
}

fn time(incarnation: u64, sequence: u64) -> PeerTime {
    PeerTime {
        incarnation,
        sequence,
    }
}

#[test]
fn macs_are_those_of_go() {
    let Some(recorded) = Recorded::open() else {
        return;
    };
    for (name, listed) in &recorded.listed {
        let peer = recorded.identity(name).pki_id;
        for (channel, mac) in listed["channel_mac"].as_object().unwrap() {
            let ours = channel::mac(&peer, &channel.as_str().into());
            assert_eq!(hex::encode(ours), mac.as_str().unwrap());
        }
    }
}

#[test]
fn our_state_infos_are_those_of_go() {
    let Some(recorded) = Recorded::open() else {
        return;
    };
    for (node, _, envelope, message) in recorded.sent("StateInfo") {
        let Some(Content::StateInfo(info)) = message.content else {
            panic!("a state info expected");
        };
        let (said_at, properties) = (info.timestamp.unwrap(), info.properties.unwrap());
        let identity = recorded.identity(&node);
        let place = Place::of(identity, said_at.inc_num, &envelope.signature);
        let mut channel = place.channel();
        let height = channel::Input::Height(properties.ledger_height);
        assert_eq!(place.feed(&mut channel, Moment::ZERO, height), []);
        let now = Duration::from_nanos(said_at.seq_num - said_at.inc_num);
        let chaincodes = channel::Input::Chaincodes(properties.chaincodes);
        let emitted = place.feed(&mut channel, Moment::after_start(now), chaincodes);
        let ours: Vec<Envelope> = emitted.iter().map(without_extension).collect();
        assert_eq!(ours, [envelope]);
    }
}

/// A state info of ours without the one thing in it that Fabric does not know.
fn without_extension(ours: &Envelope) -> Envelope {
    let mut message = ours.clone().open().unwrap().into_parts().1;
    let Some(Content::StateInfo(info)) = &mut message.content else {
        panic!("a state info expected");
    };
    let properties = info.properties.as_mut().unwrap();
    let extension = std::mem::take(&mut properties.extension);
    assert_eq!(extension.len(), 2, "who takes no stripes has little to say");
    let payload = message.encode_to_vec().into();
    Envelope::signed(payload, ours.signature.clone())
}

/// A request for state infos of ours without the one thing in it that Fabric does not know.
fn without_summary(ours: &Envelope) -> Envelope {
    let mut message = ours.clone().open().unwrap().into_parts().1;
    let Some(Content::StateInfoPullReq(request)) = &mut message.content else {
        panic!("a request expected");
    };
    let known = std::mem::take(&mut request.known);
    assert_eq!(known.len(), 16, "who knows nobody has little to say");
    Envelope::unsigned(&message)
}

#[test]
fn our_requests_for_state_infos_are_those_of_go() {
    let Some(recorded) = Recorded::open() else {
        return;
    };
    for (node, remote, envelope, _) in recorded.sent("StateInfoPullReq") {
        let mut place = Place::of(recorded.identity(&node), 1, &Bytes::new());
        place.meet(&recorded.identity(&remote));
        let mut out = Vec::new();
        let now = Moment::after_start(place.config.request_state_info_interval);
        place
            .channel()
            .tick(now, &place.view(), &place.ports, &mut out);
        let sent = out.into_iter().find_map(|effect| match effect {
            channel::Effect::Send { envelope, .. } => Some(envelope),
            _ => None,
        });
        assert_eq!(without_summary(&sent.unwrap()), envelope);
    }
}

#[test]
fn our_pushed_blocks_are_those_of_go() {
    let Some(recorded) = Recorded::open() else {
        return;
    };
    for (node, _, envelope, message) in recorded.sent("DataMsg") {
        let Some(Content::DataMsg(data)) = message.content else {
            panic!("a block expected");
        };
        let payload = data.payload.unwrap();
        let block = VerifiedBlock {
            number: payload.seq_num,
            hash: [0; 32],
            previous_hash: Bytes::new(),
            is_config: false,
            config_sequence: 0,
            bytes: payload.data,
        };
        let place = Place::of(recorded.identity(&node), 1, &Bytes::new());
        let input = channel::Input::Gossip(block);
        let emitted = place.feed(&mut place.channel(), Moment::ZERO, input);
        assert_eq!(emitted, [envelope]);
    }
}

#[test]
fn our_requests_for_blocks_are_those_of_go_but_for_the_nonce() {
    let Some(recorded) = Recorded::open() else {
        return;
    };
    for (node, remote, envelope, message) in recorded.sent("StateRequest") {
        let nonce = message.nonce;
        let Some(Content::StateRequest(request)) = message.content else {
            panic!("a request expected");
        };
        let remote = recorded.identity(&remote);
        let mut place = Place::of(recorded.identity(&node), 1, &Bytes::new());
        place.meet(&remote);
        let mut channel = place.channel();
        let info = StateInfo {
            peer: remote.pki_id,
            identity: Arc::clone(&remote),
            channel_mac: channel::mac(&remote.pki_id, channel.id()),
            time: time(1, 1),
            height: request.end_seq_num + 1,
            left_channel: false,
            chaincodes: Vec::new(),
            extension: Extension::default(),
            envelope: Envelope::default(),
        };
        let from = Arc::new(Connection {
            id: ConnectionId(1),
            identity: remote,
            handshake: Envelope::default(),
        });
        let message = Message::StateInfo(Box::new(info));
        let received = channel::Input::Received { from, message };
        place.feed(&mut channel, Moment::ZERO, received);
        let (id, config) = ("mychannel".into(), &place.config);
        let start = request.start_seq_num;
        let mut transfer = Transfer::new(id, config, start, Moment::ZERO, &SEED);
        let mut out = Vec::new();
        let now = Moment::after_start(config.state.check_interval);
        transfer.tick(now, &channel, &place.view(), &mut out);
        let [transfer::Effect::Send { envelope: ours, .. }] = out.as_slice() else {
            panic!("one request expected: {out:?}");
        };
        let (_, ours) = ours.clone().open().unwrap().into_parts();
        let ours = GossipMessage { nonce, ..ours };
        assert_eq!(Envelope::unsigned(&ours), envelope);
    }
}
