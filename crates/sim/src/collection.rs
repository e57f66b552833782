//! Private data that costs nothing: collections, and transactions that write to them.
//!
//! A collection has the real wire form, with organizations for principals and nothing to
//! evaluate. A transaction in a block names what it wrote and has its hash, as real ones do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidings_gossip::{
    id::{DIGEST_LEN, OrgId},
    message::PrivateDigest,
};
use tidings_proto::{
    Message as _,
    common::{Block, MspPrincipal, SignaturePolicyEnvelope},
    gossip::{PvtDataDigest, PvtDataElement},
    protos::{
        CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
        collection_config, collection_policy_config,
    },
};

/// The one chaincode.
pub const NAMESPACE: &str = "cc";

/// Who may have what, by the name of the collection.
pub type Collections = BTreeMap<String, Collection>;

/// One collection.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Its members.
    pub orgs: BTreeSet<OrgId>,
    /// Peers that must confirm a push.
    pub required: usize,
    /// Peers that are pushed to, at most.
    pub maximum: usize,
}

/// The definition of a collection, as pushes carry it.
pub fn configs(name: &str, collection: &Collection) -> CollectionConfigPackage {
    let principal = |org: &OrgId| MspPrincipal {
        principal: Bytes::copy_from_slice(org.as_bytes()),
        ..MspPrincipal::default()
    };
    let policy = SignaturePolicyEnvelope {
        identities: collection.orgs.iter().map(principal).collect(),
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

/// The organizations of a definition.
pub fn member_orgs(configs: &CollectionConfigPackage) -> Result<BTreeSet<OrgId>, String> {
    let config = configs.config.first().and_then(|c| c.payload.as_ref());
    let Some(collection_config::Payload::StaticCollectionConfig(config)) = config else {
        return Err("a package without collection".to_owned());
    };
    let policy = config.member_orgs_policy.as_ref();
    let Some(collection_policy_config::Payload::SignaturePolicy(policy)) =
        policy.and_then(|policy| policy.payload.as_ref())
    else {
        return Err("a collection without policy".to_owned());
    };
    let name = |principal: &MspPrincipal| {
        let name = std::str::from_utf8(&principal.principal).map_err(|e| e.to_string())?;
        Ok(OrgId::from(name))
    };
    policy.identities.iter().map(name).collect()
}

/// The hash by which a block knows a private write set.
pub fn hash(rwset: &[u8]) -> [u8; DIGEST_LEN] {
    Sha256::digest(rwset).into()
}

/// A private write set as a block shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateWrite {
    /// Which.
    pub digest: PrivateDigest,
    /// The hash of the write set.
    pub hash: [u8; DIGEST_LEN],
    /// The serialized identity of who endorsed it.
    pub endorser: Bytes,
}

/// A transaction that writes to one collection.
pub fn transaction(tx_id: &str, collection: &str, rwset: &[u8], endorser: &Bytes) -> Bytes {
    let digest = PvtDataDigest {
        tx_id: tx_id.to_owned(),
        namespace: NAMESPACE.to_owned(),
        collection: collection.to_owned(),
        ..PvtDataDigest::default()
    };
    let element = PvtDataElement {
        digest: Some(digest),
        payload: vec![Bytes::copy_from_slice(&hash(rwset)), endorser.clone()],
    };
    element.encode_to_vec().into()
}

/// The private write sets of a block, in order.
pub fn private_writes(block: &Bytes) -> Vec<PrivateWrite> {
    let Ok(block) = Block::decode(block.clone()) else {
        return Vec::new();
    };
    let number = block.header.unwrap_or_default().number;
    let transactions = block.data.unwrap_or_default().data;
    // The first says of which channel the block is.
    let private = transactions.into_iter().zip(0_u64..).skip(1);
    private
        .filter_map(|(transaction, seq)| {
            let element = PvtDataElement::decode(transaction).ok()?;
            let [hash, endorser] = element.payload.as_slice() else {
                return None;
            };
            Some(PrivateWrite {
                digest: PrivateDigest {
                    block: number,
                    seq_in_block: seq,
                    ..element.digest?.into()
                },
                hash: hash.as_ref().try_into().ok()?,
                endorser: endorser.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tidings_gossip::id::ChannelId;

    use super::*;
    use crate::toy;

    #[test]
    fn a_definition_names_its_members() {
        let collection = Collection {
            orgs: ["A".into(), "B".into()].into(),
            required: 0,
            maximum: 1,
        };
        let configs = configs("secrets", &collection);
        assert_eq!(member_orgs(&configs), Ok(collection.orgs));
        assert!(member_orgs(&CollectionConfigPackage::default()).is_err());
    }

    #[test]
    fn a_block_shows_the_private_writes_of_its_transactions() {
        let endorser = Bytes::from_static(b"endorser");
        let transactions = ["a", "b"].map(|tx| transaction(tx, "secrets", b"writes", &endorser));
        let channel = ChannelId::from("ch");
        let block = toy::block(&channel, 3, &[7; 32], 10, &transactions);
        toy::check_block(&channel, 3, &block).unwrap();
        let writes = private_writes(&block);
        let shown: Vec<_> = writes
            .iter()
            .map(|w| {
                (
                    w.digest.tx_id.as_str(),
                    w.digest.block,
                    w.digest.seq_in_block,
                )
            })
            .collect();
        assert_eq!(shown, [("a", 3, 1), ("b", 3, 2)]);
        assert!(writes.iter().all(|w| w.hash == hash(b"writes")));
        assert!(writes.iter().all(|w| w.endorser == endorser));
        assert_eq!(
            private_writes(&toy::block(&channel, 3, &[7; 32], 10, &[])),
            []
        );
    }
}
