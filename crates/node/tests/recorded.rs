//! Everything that real Go peers sent, judged by our gate with real keys: what Go took we take,
//! and a flipped bit in any signature or signed payload is refused.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its scene has failed"
)]

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::Value;
use tidings_gossip::{Connection, PeerIdentity, Verifier, id::ConnectionId, verify};
use tidings_msp::{channel_config::ChannelConfig, services::CryptoServices};
use tidings_node::{comm::Authenticator, crypto::Crypto, msp_folder};
use tidings_proto::gossip::{Envelope, SecretEnvelope, gossip_message::Content};

fn fixtures() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    if path.is_dir() {
        return Some(path);
    }
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!(
            "SKIPPED: ../shared is not here: envelopes recorded from Go peers were not judged\n"
        ),
    );
    None
}

struct Recorded {
    crypto: Arc<Crypto>,
    identities: BTreeMap<String, Arc<PeerIdentity>>,
    lines: Vec<Value>,
}

impl Recorded {
    /// A peer of Org1 that never ran, on the recorded channel, who knows everybody.
    fn load() -> Option<Self> {
        let root = fixtures()?;
        let msp = root.join("crypto/peerOrganizations/org1.test/peers/peer3.org1.test/msp");
        let local = msp_folder::load(&msp, "Org1MSP").unwrap();
        let genesis = Bytes::from(fs::read(root.join("genesis.block")).unwrap());
        let config = ChannelConfig::from_config_block(&genesis).unwrap();
        let services = CryptoServices::new(local.msp, Arc::new(local.signer));
        let crypto = Arc::new(Crypto::new(services.with_channel(Arc::new(config))));
        let text = fs::read_to_string(root.join("identities.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let identities = json["identities"].as_array().unwrap().iter();
        let identities = identities.map(|each| {
            let name = each["name"].as_str().unwrap().to_owned();
            let identity = crypto
                .validate(&binary(&each["serialized_identity"]))
                .unwrap();
            let identity = crypto.remember(&identity).unwrap();
            assert_eq!(
                hex::encode(identity.pki_id.as_bytes()),
                each["pki_id"],
                "{name}"
            );
            (name, identity)
        });
        let identities = identities.collect();
        let mut lines = Vec::new();
        for file in ["wire/vectors.jsonl", "wire/sequence_peer0.org1.jsonl"] {
            let text = fs::read_to_string(root.join(file)).unwrap();
            lines.extend(
                text.lines()
                    .map(|line| serde_json::from_str::<Value>(line).unwrap()),
            );
        }
        Some(Self {
            crypto,
            identities,
            lines,
        })
    }

    fn speaker(&self, line: &Value) -> Connection {
        let field = if line["direction"] == "sent" {
            "node"
        } else {
            "remote_peer"
        };
        let name = line[field].as_str().unwrap();
        Connection {
            id: ConnectionId(1),
            identity: Arc::clone(&self.identities[name]),
            handshake: Envelope::default(),
        }
    }

    fn verdict(&self, line: &Value, envelope: Envelope) -> Result<(), verify::Refused> {
        verify::verify(&self.speaker(line), envelope, self.crypto.as_ref()).map(drop)
    }
}

fn binary(value: &Value) -> Bytes {
    value
        .as_str()
        .map(|text| BASE64_STANDARD.decode(text).unwrap().into())
        .unwrap_or_default()
}

/// None where the recording left the payload out for its size.
fn envelope(line: &Value) -> Option<Envelope> {
    line["payload"].as_str()?;
    let secret = line
        .get("secret_envelope")
        .filter(|secret| secret.is_object());
    Some(Envelope {
        payload: binary(&line["payload"]),
        signature: line.get("signature").map(binary).unwrap_or_default(),
        secret_envelope: secret.map(|secret| SecretEnvelope {
            payload: binary(&secret["payload"]),
            signature: binary(&secret["signature"]),
        }),
    })
}

#[test]
fn what_go_peers_sent_passes_the_gate() {
    let Some(recorded) = Recorded::load() else {
        return;
    };
    let mut judged = BTreeMap::<String, usize>::new();
    for line in &recorded.lines {
        let Some(envelope) = envelope(line) else {
            continue;
        };
        let kind = line["type"].as_str().unwrap();
        let verdict = recorded.verdict(line, envelope);
        match kind {
            "Conn" => assert_eq!(verdict.unwrap_err().rule, "C-S10"),
            _ => assert_eq!(verdict, Ok(()), "{line}"),
        }
        *judged.entry(kind.to_owned()).or_default() += 1;
    }
    assert!(judged.len() >= 18, "every kind should occur: {judged:?}");
}

#[test]
fn recorded_handshakes_authenticate_and_altered_ones_do_not() {
    let Some(recorded) = Recorded::load() else {
        return;
    };
    let mut seen = 0;
    for line in recorded.lines.iter().filter(|line| line["type"] == "Conn") {
        let Some(envelope) = envelope(line) else {
            continue;
        };
        let opened = envelope.clone().open().unwrap();
        let Some(Content::Conn(claim)) = &opened.message().content else {
            panic!("{line}")
        };
        let speaker = recorded.speaker(line);
        let identity = recorded.crypto.authenticate(&envelope, claim).unwrap();
        assert_eq!(identity, speaker.identity);
        let mut altered = envelope.clone();
        altered.signature = flip(&altered.signature);
        assert!(recorded.crypto.authenticate(&altered, claim).is_err());
        let other = recorded
            .identities
            .values()
            .find(|other| **other != speaker.identity);
        let mut claim = claim.clone();
        claim.identity = other.unwrap().serialized.clone();
        assert!(
            recorded.crypto.authenticate(&envelope, &claim).is_err(),
            "another's identity"
        );
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn w_s5_a_changed_signed_message_is_refused() {
    let Some(recorded) = Recorded::load() else {
        return;
    };
    let signed = ["AliveMsg", "StateInfo", "LeadershipMsg"];
    let mut seen = 0;
    for line in &recorded.lines {
        if !signed.contains(&line["type"].as_str().unwrap()) {
            continue;
        }
        let Some(envelope) = envelope(line) else {
            continue;
        };
        let refused = |altered: Envelope| recorded.verdict(line, altered).is_err();
        assert!(refused(Envelope {
            signature: flip(&envelope.signature),
            ..envelope.clone()
        }));
        assert!(
            refused(Envelope {
                signature: Bytes::new(),
                ..envelope.clone()
            }),
            "W-S2"
        );
        if let Some(secret) = envelope.secret_envelope.clone() {
            let signature = flip(&secret.signature);
            let altered = SecretEnvelope {
                signature,
                ..secret.clone()
            };
            assert!(refused(envelope.clone().with_secret(altered)), "W-S3");
            let altered = SecretEnvelope {
                payload: Bytes::new(),
                ..secret
            };
            assert!(refused(envelope.clone().with_secret(altered)), "W-S3");
        }
        seen += 1;
    }
    assert!(seen > 0);
}

/// The same bytes with one bit of the last byte turned.
fn flip(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}
