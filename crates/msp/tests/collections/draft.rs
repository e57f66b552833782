//! Endorsed transactions with definitions in them, which a test can alter before they are signed.
//!
//! Another crate's tests take it in as they do the material, which it needs as `crate::material`.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use bytes::Bytes;
use prost::Message;
use tidings_msp::{
    collection::{Applied, Basis, Definitions},
    crypto::{sha256, sha256_parts},
};
use tidings_proto::{
    block::BlockView,
    common::{
        ChannelHeader, Envelope, Header, HeaderType, MspPrincipal, Payload, SignatureHeader,
        SignaturePolicy, SignaturePolicyEnvelope,
        msp_role::MspRoleType,
        signature_policy::{NOutOf, Type},
    },
    kvrwset::{HashedRwSet, KvWrite, KvWriteHash, KvrwSet},
    lifecycle::{StateData, StateMetadata, state_data},
    protos::{
        ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, CollectionConfig,
        CollectionConfigPackage, CollectionPolicyConfig, Endorsement, ProposalResponsePayload,
        StaticCollectionConfig, Transaction, TransactionAction, collection_config,
        collection_policy_config,
    },
    rwset::{CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet},
};

use crate::material::{self, CHANNEL, Member, tree};

/// A transaction before it is signed.
pub(crate) struct Draft<'a> {
    pub(crate) channel: &'static str,
    pub(crate) creator: Option<&'a Member>,
    pub(crate) endorsers: Vec<&'a Member>,
    pub(crate) namespaces: Vec<NsReadWriteSet>,
    pub(crate) actions: usize,
    /// In place of the right id.
    pub(crate) tx_id: Option<&'static str>,
    /// What the endorsers saw in place of the proposal in the transaction.
    pub(crate) endorsed_proposal: &'static [u8],
    /// Makes the id of the transaction, with the creator.
    pub(crate) nonce: Vec<u8>,
}

const PROPOSAL: &[u8] = b"proposal";
const NONCE: &[u8] = b"nonce";

impl<'a> Draft<'a> {
    /// A transaction that writes these keys into the namespace of definitions.
    pub(crate) fn of(writes: Vec<KvWrite>) -> Self {
        Self {
            channel: CHANNEL,
            creator: None,
            endorsers: Vec::new(),
            namespaces: vec![public("_lifecycle", writes)],
            actions: 1,
            tx_id: None,
            endorsed_proposal: PROPOSAL,
            nonce: NONCE.to_vec(),
        }
    }

    pub(crate) fn by(mut self, creator: &'a Member, endorsers: &[&'a Member]) -> Self {
        self.creator = Some(creator);
        self.endorsers = endorsers.to_vec();
        self
    }

    pub(crate) fn envelope(&self) -> Bytes {
        let identity = self.creator.map(|creator| creator.identity.clone());
        let creator = identity.unwrap_or_default();
        let signature_header = Bytes::from(
            SignatureHeader {
                creator: creator.clone(),
                nonce: self.nonce.clone().into(),
            }
            .encode_to_vec(),
        );
        let tx_id = tx_id(&self.nonce, &creator);
        let channel_header = Bytes::from(
            ChannelHeader {
                r#type: HeaderType::EndorserTransaction as i32,
                channel_id: self.channel.to_owned(),
                tx_id: self.tx_id.map_or(tx_id, str::to_owned),
                ..ChannelHeader::default()
            }
            .encode_to_vec(),
        );
        let hash = sha256_parts(&[&channel_header, &signature_header, self.endorsed_proposal]);
        let action = TransactionAction {
            header: signature_header.clone(),
            payload: self.action(&hash).encode_to_vec().into(),
        };
        let transaction = Transaction {
            actions: vec![action; self.actions],
        };
        let payload = Payload {
            header: Some(Header {
                channel_header,
                signature_header,
            }),
            data: transaction.encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        let signature = self.creator.map(|creator| creator.sign(&payload));
        let signature = signature.unwrap_or_default();
        Envelope { payload, signature }.encode_to_vec().into()
    }

    fn action(&self, proposal_hash: &[u8]) -> ChaincodeActionPayload {
        let results = TxReadWriteSet {
            data_model: 0,
            ns_rwset: self.namespaces.clone(),
        };
        let extension = ChaincodeAction {
            results: results.encode_to_vec().into(),
            events: "events".into(),
            ..ChaincodeAction::default()
        };
        let response = Bytes::from(
            ProposalResponsePayload {
                proposal_hash: proposal_hash.to_vec().into(),
                extension: extension.encode_to_vec().into(),
            }
            .encode_to_vec(),
        );
        let endorsement = |endorser: &&Member| Endorsement {
            endorser: endorser.identity.clone(),
            signature: endorser.sign(&[&response[..], &endorser.identity[..]].concat()),
        };
        let endorsed = ChaincodeEndorsedAction {
            endorsements: self.endorsers.iter().map(endorsement).collect(),
            proposal_response_payload: response.clone(),
        };
        ChaincodeActionPayload {
            chaincode_proposal_payload: PROPOSAL.into(),
            action: Some(endorsed),
        }
    }
}

/// The id of a transaction.
pub(crate) fn tx_id(nonce: &[u8], creator: &[u8]) -> String {
    hex::encode(sha256(&[nonce, creator].concat()))
}

/// A namespace with public writes.
pub(crate) fn public(namespace: &str, writes: Vec<KvWrite>) -> NsReadWriteSet {
    let set = KvrwSet {
        writes,
        ..KvrwSet::default()
    };
    NsReadWriteSet {
        namespace: namespace.to_owned(),
        rwset: set.encode_to_vec().into(),
        collection_hashed_rwset: Vec::new(),
    }
}

/// A namespace with one private write.
pub(crate) fn private(namespace: &str, collection: &str) -> NsReadWriteSet {
    private_of(namespace, collection, Bytes::new())
}

/// A namespace with one private write, of a write set with this hash.
pub(crate) fn private_of(namespace: &str, collection: &str, hash: Bytes) -> NsReadWriteSet {
    let set = HashedRwSet {
        hashed_writes: vec![KvWriteHash::default()],
        ..HashedRwSet::default()
    };
    let collection = CollectionHashedReadWriteSet {
        collection_name: collection.to_owned(),
        hashed_rwset: set.encode_to_vec().into(),
        pvt_rwset_hash: hash,
    };
    NsReadWriteSet {
        namespace: namespace.to_owned(),
        rwset: Bytes::new(),
        collection_hashed_rwset: vec![collection],
    }
}

pub(crate) fn write(key: impl Into<String>, value: impl Into<Bytes>) -> KvWrite {
    KvWrite {
        key: key.into(),
        is_delete: false,
        value: value.into(),
    }
}

pub(crate) fn sequence(chaincode: &str, sequence: i64) -> KvWrite {
    let data = StateData {
        r#type: Some(state_data::Type::Int64(sequence)),
    };
    let key = format!("namespaces/fields/{chaincode}/Sequence");
    write(key, data.encode_to_vec())
}

pub(crate) fn metadata(chaincode: &str, datatype: &str) -> KvWrite {
    let metadata = StateMetadata {
        datatype: datatype.to_owned(),
        fields: [
            "Sequence",
            "EndorsementInfo",
            "ValidationInfo",
            "Collections",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    let key = format!("namespaces/metadata/{chaincode}");
    write(key, metadata.encode_to_vec())
}

pub(crate) fn collections(chaincode: &str, package: impl Into<Bytes>) -> KvWrite {
    let data = StateData {
        r#type: Some(state_data::Type::Bytes(package.into())),
    };
    let key = format!("namespaces/fields/{chaincode}/Collections");
    write(key, data.encode_to_vec())
}

/// The writes of a chaincode's first definition.
pub(crate) fn first(chaincode: &str, package: &CollectionConfigPackage) -> Vec<KvWrite> {
    vec![
        sequence(chaincode, 1),
        collections(chaincode, package.encode_to_vec()),
        metadata(chaincode, "ChaincodeDefinition"),
    ]
}

/// The writes of a definition that changes collections.
pub(crate) fn next(
    chaincode: &str,
    number: i64,
    package: &CollectionConfigPackage,
) -> Vec<KvWrite> {
    vec![
        sequence(chaincode, number),
        collections(chaincode, package.encode_to_vec()),
    ]
}

/// A collection whose members are those of these organizations.
pub(crate) fn collection(name: &str, msp_ids: &[&str]) -> StaticCollectionConfig {
    let principals = msp_ids
        .iter()
        .map(|msp_id| tree::role(msp_id, MspRoleType::Member));
    any_of(name, principals.collect())
}

/// A collection whose members are any of these.
pub(crate) fn any_of(name: &str, identities: Vec<MspPrincipal>) -> StaticCollectionConfig {
    let rules = (0..).zip(&identities).map(|(n, _)| tree::signed_by(n));
    let rule = SignaturePolicy {
        r#type: Some(Type::NOutOf(NOutOf {
            n: 1,
            rules: rules.collect(),
        })),
    };
    let policy = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities,
    };
    StaticCollectionConfig {
        name: name.to_owned(),
        member_orgs_policy: Some(CollectionPolicyConfig {
            payload: Some(collection_policy_config::Payload::SignaturePolicy(policy)),
        }),
        ..StaticCollectionConfig::default()
    }
}

pub(crate) fn package(collections: &[StaticCollectionConfig]) -> CollectionConfigPackage {
    let config = |collection: &StaticCollectionConfig| CollectionConfig {
        payload: Some(collection_config::Payload::StaticCollectionConfig(
            collection.clone(),
        )),
    };
    CollectionConfigPackage {
        config: collections.iter().map(config).collect(),
    }
}

/// A package of collections of one organization each, `name=organization`.
pub(crate) fn of(collections: &[&str]) -> CollectionConfigPackage {
    let configs: Vec<_> = collections
        .iter()
        .map(|text| {
            let (name, msp_id) = text.split_once('=').unwrap();
            collection(name, &[msp_id])
        })
        .collect();
    package(&configs)
}

pub(crate) fn block(number: u64, transactions: Vec<Bytes>) -> BlockView {
    let block = material::block(number, &[8; 32], transactions);
    BlockView::parse(block.encode()).unwrap()
}

/// Takes a block with one transaction for each list of writes, on good grounds.
pub(crate) fn apply(
    definitions: &mut Definitions,
    number: u64,
    transactions: Vec<Vec<KvWrite>>,
) -> Applied {
    apply_on(definitions, number, transactions, Basis::Endorsed)
}

pub(crate) fn apply_on(
    definitions: &mut Definitions,
    number: u64,
    transactions: Vec<Vec<KvWrite>>,
    basis: Basis,
) -> Applied {
    let envelopes = transactions
        .into_iter()
        .map(|writes| Draft::of(writes).envelope());
    let block = block(number, envelopes.collect());
    definitions.apply(&block, |_, _| Some(basis))
}
