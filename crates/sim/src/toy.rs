//! Signatures, identities, policies and blocks that cost nothing and still can be wrong.
//!
//! A toy signature is a digest over the signer's identity and the message: anyone could forge
//! one, but a message altered, unsigned or signed as somebody else fails its check as it should.
//! An identity says in its own bytes when it expires. A block has the real wire form, a chained
//! header hash and one toy orderer signature.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidings_gossip::{
    PeerIdentity, Ports, VerifiedBlock, Verifier,
    id::{ChannelId, DIGEST_LEN, OrgId, PkiId},
    message::StateInfo,
    ports::{CollectionName, Terms},
};
use tidings_proto::{
    Message as _,
    block::header_asn1,
    common::{Block, BlockData, BlockHeader, BlockMetadata},
    gossip::{ConnEstablish, Envelope, GossipMessage, gossip_message},
    msp::SerializedIdentity,
    protos::CollectionConfigPackage,
};

use crate::collection::{self, Collections};

/// Makes the identity of a peer that is valid until `expires_at`, seconds since the Unix epoch.
pub fn identity(org: &OrgId, name: &str, expires_at: i64) -> Arc<PeerIdentity> {
    let id_bytes = Bytes::from(format!("{name}|{expires_at}"));
    let serialized = SerializedIdentity {
        mspid: org.as_str().to_owned(),
        id_bytes,
    }
    .encode_to_vec()
    .into();
    Arc::new(parse(&serialized).expect("an identity made here is well formed"))
}

fn parse(serialized: &Bytes) -> Result<PeerIdentity, String> {
    let identity = SerializedIdentity::decode(serialized.clone()).map_err(|e| e.to_string())?;
    let text = std::str::from_utf8(&identity.id_bytes).map_err(|e| e.to_string())?;
    let (_, expires_at) = text.rsplit_once('|').ok_or("an identity without expiry")?;
    let expires_at = expires_at
        .parse()
        .map_err(|error| format!("expiry {expires_at:?}: {error}"))?;
    let pki_id = digest([identity.mspid.as_bytes(), &identity.id_bytes]);
    Ok(PeerIdentity {
        pki_id: PkiId::new(pki_id),
        org: OrgId::new(identity.mspid),
        serialized: serialized.clone(),
        expires_at,
    })
}

fn signature(signer: &PeerIdentity, message: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&digest([b"peer", &signer.serialized, message]))
}

fn digest<const N: usize>(parts: [&[u8]; N]) -> [u8; DIGEST_LEN] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// The envelope with which this peer opens each stream.
pub fn handshake(identity: &PeerIdentity) -> Envelope {
    let message = GossipMessage {
        tag: gossip_message::Tag::Empty.into(),
        content: Some(gossip_message::Content::Conn(ConnEstablish {
            pki_id: Bytes::copy_from_slice(identity.pki_id.as_bytes()),
            identity: identity.serialized.clone(),
            ..ConnEstablish::default()
        })),
        ..GossipMessage::default()
    };
    let payload = Bytes::from(message.encode_to_vec());
    let signature = signature(identity, &payload);
    Envelope::signed(payload, signature)
}

/// Who opened a stream with this, if it is signed by whom it names.
pub fn evidence(handshake: &Envelope) -> Result<PeerIdentity, String> {
    let message = GossipMessage::decode(handshake.payload.clone()).map_err(|e| e.to_string())?;
    let Some(gossip_message::Content::Conn(conn)) = message.content else {
        return Err("not a handshake".to_owned());
    };
    let identity = parse(&conn.identity)?;
    if signature(&identity, &handshake.payload) != handshake.signature {
        return Err(format!("{} did not sign this", identity.pki_id));
    }
    Ok(identity)
}

/// Makes the next block of a channel, with a payload of so many bytes, and these transactions.
pub fn block(
    channel: &ChannelId,
    number: u64,
    previous_hash: &[u8],
    payload_len: usize,
    transactions: &[Bytes],
) -> Bytes {
    let mut transaction = channel.as_bytes().to_vec();
    transaction.push(0);
    let filler = number.to_le_bytes();
    transaction.extend(filler.iter().cycle().take(payload_len));
    let mut data = vec![Bytes::from(transaction)];
    data.extend_from_slice(transactions);
    let data_hash = digest([&data.concat()]);
    let header = header_asn1(number, previous_hash, &data_hash);
    let signature = digest([b"orderer", channel.as_bytes(), &header]);
    Block {
        header: Some(BlockHeader {
            number,
            previous_hash: Bytes::copy_from_slice(previous_hash),
            data_hash: Bytes::copy_from_slice(&data_hash),
        }),
        data: Some(BlockData { data }),
        metadata: Some(BlockMetadata {
            metadata: vec![Bytes::copy_from_slice(&signature)],
        }),
    }
    .encode_to_vec()
    .into()
}

/// Checks a block: number, channel, data hash, orderer signature.
pub fn check_block(
    channel: &ChannelId,
    number: u64,
    bytes: &Bytes,
) -> Result<VerifiedBlock, String> {
    let block = Block::decode(bytes.clone()).map_err(|e| e.to_string())?;
    let header = block.header.ok_or("a block without header")?;
    if header.number != number {
        return Err(format!("header says {}, not {number}", header.number));
    }
    let data = block.data.unwrap_or_default().data;
    let transaction = data.first().ok_or("a block without transactions")?;
    let name = transaction.split(|byte| *byte == 0).next();
    if name != Some(channel.as_bytes()) {
        return Err("a block of another channel".to_owned());
    }
    if digest([&data.concat()])[..] != header.data_hash[..] {
        return Err("data hash does not fit".to_owned());
    }
    let asn1 = header_asn1(number, &header.previous_hash, &header.data_hash);
    let expected = digest([b"orderer", channel.as_bytes(), &asn1]);
    let metadata = block.metadata.unwrap_or_default().metadata;
    if metadata.first().is_none_or(|slot| slot[..] != expected[..]) {
        return Err("no orderer signed this block".to_owned());
    }
    Ok(VerifiedBlock {
        number,
        hash: digest([&asn1]),
        previous_hash: header.previous_hash,
        is_config: false,
        config_sequence: 0,
        bytes: bytes.clone(),
    })
}

/// What the core of one peer asks.
#[derive(Debug)]
pub struct ToyPorts {
    identity: Arc<PeerIdentity>,
    readers: BTreeSet<OrgId>,
    collections: Collections,
}

impl ToyPorts {
    /// Signs as this peer; members of these organizations are Readers of every channel, which
    /// has these collections.
    pub fn new(
        identity: Arc<PeerIdentity>,
        readers: BTreeSet<OrgId>,
        collections: Collections,
    ) -> Self {
        Self {
            identity,
            readers,
            collections,
        }
    }
}

impl Ports for ToyPorts {
    fn sign(&self, message: &[u8]) -> Bytes {
        signature(&self.identity, message)
    }

    fn is_reader(&self, _channel: &ChannelId, identity: &PeerIdentity) -> bool {
        self.readers.contains(&identity.org)
    }

    fn member_orgs(
        &self,
        _channel: &ChannelId,
        name: CollectionName<'_>,
        configs: &CollectionConfigPackage,
    ) -> Result<BTreeSet<OrgId>, String> {
        let claimed = collection::member_orgs(configs)?;
        match self.collections.get(name.collection) {
            Some(known) if known.orgs == claimed => Ok(claimed),
            Some(_) => Err(format!("{} has other members", name.collection)),
            None => Err(format!("{} was never defined", name.collection)),
        }
    }

    fn is_entitled(
        &self,
        _channel: &ChannelId,
        name: CollectionName<'_>,
        terms: Terms<'_>,
        info: &StateInfo,
    ) -> bool {
        let is_member = match terms {
            Terms::Given(configs) => {
                collection::member_orgs(configs).is_ok_and(|orgs| orgs.contains(&info.identity.org))
            }
            Terms::Latest => {
                let known = self.collections.get(name.collection);
                known.is_some_and(|known| known.orgs.contains(&info.identity.org))
            }
        };
        let (payload, signed) = (&info.envelope.payload, &info.envelope.signature);
        is_member && signature(&info.identity, payload) == *signed
    }
}

/// The checks in front of the core of one peer.
#[derive(Debug)]
pub struct ToyVerifier {
    orgs: BTreeSet<OrgId>,
    known: Mutex<BTreeMap<PkiId, Arc<PeerIdentity>>>,
    revoked: BTreeSet<PkiId>,
}

impl ToyVerifier {
    /// Vouches for identities of these organizations.
    pub fn new(orgs: BTreeSet<OrgId>) -> Self {
        Self {
            orgs,
            known: Mutex::default(),
            revoked: BTreeSet::new(),
        }
    }

    /// A handshake showed this identity.
    pub fn learn(&self, identity: &Arc<PeerIdentity>) {
        self.table().insert(identity.pki_id, Arc::clone(identity));
    }

    /// This identity is not valid any more.
    pub fn revoke(&mut self, peer: PkiId) {
        self.revoked.insert(peer);
    }

    /// Whether this identity may open a stream.
    pub fn admits(&self, peer: &PkiId) -> bool {
        !self.revoked.contains(peer)
    }

    /// The core dropped this identity.
    pub fn forget(&self, peer: &PkiId) {
        self.table().remove(peer);
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<PkiId, Arc<PeerIdentity>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verifier for ToyVerifier {
    fn known(&self, peer: &PkiId) -> Option<Arc<PeerIdentity>> {
        self.table().get(peer).cloned()
    }

    fn validate(&self, serialized: &Bytes) -> Result<Arc<PeerIdentity>, String> {
        let identity = parse(serialized)?;
        if !self.orgs.contains(&identity.org) {
            return Err(format!("nobody vouches for {}", identity.org));
        }
        if !self.admits(&identity.pki_id) {
            return Err(format!("{} was revoked", identity.pki_id));
        }
        Ok(Arc::new(identity))
    }

    fn remember(&self, identity: &Arc<PeerIdentity>) -> Result<Arc<PeerIdentity>, String> {
        self.learn(identity);
        Ok(Arc::clone(identity))
    }

    fn verify(&self, signer: &PeerIdentity, message: &[u8], given: &[u8]) -> Result<(), String> {
        if signature(signer, message)[..] == *given {
            Ok(())
        } else {
            Err(format!("{} did not sign this", signer.pki_id))
        }
    }

    fn verify_block(
        &self,
        channel: &ChannelId,
        number: u64,
        block: &Bytes,
    ) -> Result<VerifiedBlock, String> {
        check_block(channel, number, block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_one_signer_and_one_message() {
        let org = OrgId::from("Org1MSP");
        let (ann, bob) = (identity(&org, "ann", 100), identity(&org, "bob", 100));
        let verifier = ToyVerifier::new([org].into());
        let signature = signature(&ann, b"hello");
        assert_eq!(verifier.verify(&ann, b"hello", &signature), Ok(()));
        assert!(verifier.verify(&ann, b"hullo", &signature).is_err());
        assert!(verifier.verify(&bob, b"hello", &signature).is_err());
        assert!(verifier.verify(&ann, b"hello", &[]).is_err());
    }

    #[test]
    fn only_identities_of_known_organizations_are_valid() {
        let verifier = ToyVerifier::new([OrgId::from("Org1MSP")].into());
        let ours = identity(&OrgId::from("Org1MSP"), "ann", 100);
        let stranger = identity(&OrgId::from("Org9MSP"), "eve", 100);
        assert_eq!(verifier.validate(&ours.serialized), Ok(Arc::clone(&ours)));
        assert_eq!(verifier.known(&ours.pki_id), None, "it proved nothing yet");
        assert_eq!(verifier.remember(&ours), Ok(Arc::clone(&ours)));
        assert_eq!(verifier.known(&ours.pki_id), Some(Arc::clone(&ours)));
        assert!(verifier.validate(&stranger.serialized).is_err());
        verifier.forget(&ours.pki_id);
        assert_eq!(verifier.known(&ours.pki_id), None);
    }

    #[test]
    fn an_altered_block_fails_its_check() {
        let channel = ChannelId::from("ch");
        let good = block(&channel, 3, &[7; 32], 100, &[]);
        let checked = check_block(&channel, 3, &good).unwrap();
        assert_eq!(checked.previous_hash[..], [7; 32]);
        assert!(check_block(&channel, 4, &good).is_err());
        assert!(check_block(&ChannelId::from("other"), 3, &good).is_err());
        let mut altered = good.to_vec();
        if let Some(byte) = altered.iter_mut().rev().nth(60) {
            *byte ^= 1;
        }
        assert!(check_block(&channel, 3, &altered.into()).is_err());
        assert!(check_block(&channel, 3, &Bytes::new()).is_err());
    }
}
