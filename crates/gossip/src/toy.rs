//! A world for tests: identities that are their names, signatures that anybody could compute.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};
use tidings_proto::{
    common::{MspPrincipal, SignaturePolicyEnvelope},
    gossip::{
        AliveMessage, Envelope, Member, PeerTime as WireTime, Rhythm, Secret, SecretEnvelope,
        gossip_message::{Content, Tag},
    },
    protos::{
        CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
        collection_config, collection_policy_config,
    },
};

use crate::{
    config::Me,
    id::{ChannelId, ConnectionId, OrgId, PeerTime, PkiId},
    message::{Alive, Connection, PeerIdentity, StateInfo, VerifiedBlock},
    ports::{CollectionName, Ports, Terms, Verifier},
    wire,
};

/// The wall clock at the start of every toy node, in seconds.
pub(crate) const START: u64 = 1_700_000_000;

/// `org/name` is all there is to an identity.
pub(crate) fn identity(org: &str, name: &str) -> Arc<PeerIdentity> {
    identity_until(org, name, i64::MAX)
}

pub(crate) fn identity_until(org: &str, name: &str, expires_at: i64) -> Arc<PeerIdentity> {
    let serialized = Bytes::from(format!("{org}/{name}"));
    Arc::new(PeerIdentity {
        pki_id: PkiId::new(Sha256::digest(&serialized).into()),
        org: org.into(),
        serialized,
        expires_at,
    })
}

pub(crate) fn me(org: &str, name: &str, external: &str) -> Me {
    Me {
        identity: identity(org, name),
        endpoint: format!("{name}:1"),
        external_endpoint: external.to_owned(),
        started_at_ns: START * 1_000_000_000,
        // The clock was a minute ahead once.
        incarnation_ns: (START + 60) * 1_000_000_000,
        metadata: Bytes::new(),
    }
}

pub(crate) fn connection(id: u64, identity: &Arc<PeerIdentity>) -> Arc<Connection> {
    Arc::new(Connection {
        id: ConnectionId(id),
        identity: Arc::clone(identity),
        handshake: Envelope::default(),
    })
}

fn signature(signer: &PeerIdentity, message: &[u8]) -> Bytes {
    let mut hash = Sha256::new();
    hash.update(&signer.serialized);
    hash.update(message);
    Bytes::copy_from_slice(&hash.finalize())
}

pub(crate) struct ToyPorts(pub(crate) Arc<PeerIdentity>);

impl Ports for ToyPorts {
    fn sign(&self, message: &[u8]) -> Bytes {
        signature(&self.0, message)
    }

    fn is_reader(&self, _: &ChannelId, _: &PeerIdentity) -> bool {
        true
    }

    fn member_orgs(
        &self,
        _: &ChannelId,
        _: CollectionName<'_>,
        configs: &CollectionConfigPackage,
    ) -> Result<BTreeSet<OrgId>, String> {
        members_of(configs)
    }

    fn is_entitled(
        &self,
        _: &ChannelId,
        collection: CollectionName<'_>,
        terms: Terms<'_>,
        info: &StateInfo,
    ) -> bool {
        may_have(collection, terms, info)
    }
}

/// A collection as it is defined for these organizations.
pub(crate) fn collection(name: &str, orgs: &[&str]) -> CollectionConfigPackage {
    let principal = |org: &&str| MspPrincipal {
        principal: Bytes::from(org.as_bytes().to_vec()),
        ..MspPrincipal::default()
    };
    let policy = SignaturePolicyEnvelope {
        identities: orgs.iter().map(principal).collect(),
        ..SignaturePolicyEnvelope::default()
    };
    let policy = collection_policy_config::Payload::SignaturePolicy(policy);
    let config = StaticCollectionConfig {
        name: name.to_owned(),
        member_orgs_policy: Some(CollectionPolicyConfig {
            payload: Some(policy),
        }),
        ..StaticCollectionConfig::default()
    };
    let config = collection_config::Payload::StaticCollectionConfig(config);
    CollectionConfigPackage {
        config: vec![CollectionConfig {
            payload: Some(config),
        }],
    }
}

/// The organizations that [`collection`] was given.
pub(crate) fn members_of(configs: &CollectionConfigPackage) -> Result<BTreeSet<OrgId>, String> {
    let config = configs.config.first().and_then(|c| c.payload.as_ref());
    let Some(collection_config::Payload::StaticCollectionConfig(config)) = config else {
        return Err("no collection".to_owned());
    };
    let policy = config.member_orgs_policy.as_ref();
    let policy = policy.and_then(|policy| policy.payload.as_ref());
    let Some(collection_policy_config::Payload::SignaturePolicy(policy)) = policy else {
        return Err("no policy".to_owned());
    };
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let orgs = policy.identities.iter().map(|p| text(&p.principal));
    Ok(orgs.map(|org| org.as_str().into()).collect())
}

/// The last definition of a collection names its members: `AB` is of A and B.
pub(crate) fn may_have(name: CollectionName<'_>, terms: Terms<'_>, info: &StateInfo) -> bool {
    let org = &info.identity.org;
    match terms {
        Terms::Latest => name.collection.contains(org.as_str()),
        Terms::Given(configs) => members_of(configs).is_ok_and(|orgs| orgs.contains(org)),
    }
}

/// Knows whom it was told of. Identities of `evil` are not valid, nor are blocks that do not
/// read as their channel and number.
#[derive(Default)]
pub(crate) struct ToyVerifier(Mutex<BTreeMap<PkiId, Arc<PeerIdentity>>>);

impl ToyVerifier {
    pub(crate) fn knowing(identities: &[&Arc<PeerIdentity>]) -> Self {
        let known = |identity: &&Arc<PeerIdentity>| (identity.pki_id, Arc::clone(identity));
        Self(Mutex::new(identities.iter().map(known).collect()))
    }

    pub(crate) fn forget_all(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl Verifier for ToyVerifier {
    fn known(&self, peer: &PkiId) -> Option<Arc<PeerIdentity>> {
        self.0.lock().unwrap().get(peer).cloned()
    }

    fn validate(&self, serialized: &Bytes) -> Result<Arc<PeerIdentity>, String> {
        let text = str::from_utf8(serialized).map_err(|error| error.to_string())?;
        match text.split_once('/') {
            Some((org, name)) if org != "evil" => Ok(Arc::new(PeerIdentity {
                serialized: serialized.clone(),
                ..identity(org, name).as_ref().clone()
            })),
            _ => Err("nobody vouches for it".to_owned()),
        }
    }

    fn remember(&self, identity: &Arc<PeerIdentity>) -> Result<Arc<PeerIdentity>, String> {
        let mut known = self.0.lock().unwrap();
        let known = known
            .entry(identity.pki_id)
            .or_insert_with(|| identity.clone());
        Ok(Arc::clone(known))
    }

    fn verify(&self, signer: &PeerIdentity, message: &[u8], given: &[u8]) -> Result<(), String> {
        if given == signature(signer, message) {
            Ok(())
        } else {
            Err("bad signature".to_owned())
        }
    }

    fn verify_block(
        &self,
        channel: &ChannelId,
        number: u64,
        block: &Bytes,
    ) -> Result<VerifiedBlock, String> {
        if *block != block_bytes(channel.as_str(), number) {
            return Err("bad block".to_owned());
        }
        Ok(VerifiedBlock {
            number,
            hash: Sha256::digest(block).into(),
            previous_hash: Bytes::new(),
            is_config: false,
            config_sequence: 0,
            bytes: block.clone(),
        })
    }
}

pub(crate) fn block_bytes(channel: &str, number: u64) -> Bytes {
    Bytes::from(format!("{channel} {number}"))
}

pub(crate) fn time(incarnation: u64, sequence: u64) -> PeerTime {
    PeerTime {
        incarnation,
        sequence,
    }
}

/// What an alive message says, to be changed before it is signed.
pub(crate) struct Speech {
    pub(crate) speaker: Arc<PeerIdentity>,
    pub(crate) message: AliveMessage,
    pub(crate) internal_endpoint: String,
}

impl Speech {
    /// Of a peer with these endpoints; without an internal one there is no secret.
    pub(crate) fn of(speaker: &Arc<PeerIdentity>, external: &str, internal: &str) -> Self {
        Self {
            speaker: Arc::clone(speaker),
            message: AliveMessage {
                membership: Some(Member {
                    endpoint: external.to_owned(),
                    metadata: Bytes::new(),
                    pki_id: Bytes::copy_from_slice(speaker.pki_id.as_bytes()),
                }),
                timestamp: Some(WireTime {
                    inc_num: 1,
                    seq_num: 1,
                }),
                identity: Bytes::new(),
                rhythm: Bytes::new(),
            },
            internal_endpoint: internal.to_owned(),
        }
    }

    pub(crate) fn at(mut self, time: PeerTime) -> Self {
        self.message.timestamp = Some(WireTime {
            inc_num: time.incarnation,
            seq_num: time.sequence,
        });
        self
    }

    /// Says that it speaks this often.
    pub(crate) fn every(mut self, secs: u32) -> Self {
        let period_ms = secs * 1000;
        self.message.rhythm = Rhythm { period_ms }.encode_to_vec().into();
        self
    }

    pub(crate) fn envelope(&self) -> Envelope {
        let ports = ToyPorts(Arc::clone(&self.speaker));
        let content = Content::AliveMsg(self.message.clone());
        let envelope = wire::signed(&ports, &wire::gossip_message(0, None, Tag::Empty, content));
        if self.internal_endpoint.is_empty() {
            return envelope;
        }
        let payload = Secret::of_internal_endpoint(self.internal_endpoint.clone()).encode_to_vec();
        let signature = ports.sign(&payload);
        envelope.with_secret(SecretEnvelope {
            payload: payload.into(),
            signature,
        })
    }

    /// As it is after its check.
    pub(crate) fn alive(&self) -> Alive {
        let member = self
            .message
            .membership
            .clone()
            .expect("a speech has a membership");
        let timestamp = self.message.timestamp.expect("a speech has a time");
        Alive {
            peer: self.speaker.pki_id,
            endpoint: member.endpoint,
            internal_endpoint: Some(self.internal_endpoint.clone()).filter(|e| !e.is_empty()),
            metadata: member.metadata,
            time: time(timestamp.inc_num, timestamp.seq_num),
            period: Some(&self.message.rhythm)
                .filter(|rhythm| !rhythm.is_empty())
                .map(|rhythm| Rhythm::decode(rhythm.clone()).expect("a speech has a rhythm"))
                .map(|rhythm| Duration::from_millis(rhythm.period_ms.into())),
            identity: Arc::clone(&self.speaker),
            envelope: self.envelope(),
        }
    }
}
