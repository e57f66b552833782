//! The channel of a run: its genesis block, and blocks of a given size, all made beforehand.
//!
//! A block holds one transaction of random bytes and one orderer's signature, as in the baseline.
//! One identity of the organization suffices to sign a block.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::rand;
use bytes::Bytes;
use tidings_gossip::VerifiedBlock;
use tidings_msp::block::{data_hash, header_hash};
use tidings_proto::{
    Message,
    block::{BlockView, header_asn1},
    common::{
        Block, BlockData, BlockDataHashingStructure, BlockHeader, BlockMetadata, Capabilities,
        ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigPolicy, ConfigValue, Envelope,
        HashingAlgorithm, Header, HeaderType, ImplicitMetaPolicy, LastConfig, Metadata,
        MetadataSignature, MspPrincipal, MspRole, OrdererAddresses, OrdererBlockMetadata, Payload,
        Policy, SignatureHeader, SignaturePolicy, SignaturePolicyEnvelope,
        implicit_meta_policy::Rule,
        msp_principal::Classification,
        msp_role::MspRoleType,
        policy::PolicyType,
        signature_policy::{NOutOf, Type},
    },
    msp::MspConfig,
    orderer::{BatchSize, BatchTimeout, ConsensusType},
};

use crate::keys::{MSP_ID, Orderer, Organization};

/// The only channel.
pub(crate) const CHANNEL: &str = "bench";

/// A transaction's signature, which nobody looks at here.
const TRANSACTION_SIGNATURE_LEN: usize = 71;

/// Ordinary blocks behind a genesis block.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// Serialized, from number 0 on.
    pub(crate) blocks: Vec<Bytes>,
    /// The ordinary ones, as whoever injects them knows them.
    pub(crate) offered: Vec<VerifiedBlock>,
}

impl Chain {
    /// A genesis block and so many blocks of that many bytes, or as few as a block has.
    pub(crate) fn new(org: &Organization, count: usize, size: usize) -> Result<Self> {
        let orderer = org.orderer()?;
        let genesis = genesis(org, &orderer)?;
        let mut chain = Self {
            offered: Vec::with_capacity(count),
            blocks: vec![genesis.bytes],
        };
        let mut previous = genesis.hash;
        for number in (1..).take(count) {
            let next = ordinary(&orderer, number, previous, size)?;
            previous = next.hash;
            chain.blocks.push(next.bytes.clone());
            chain.offered.push(next);
        }
        Ok(chain)
    }

    /// Bytes of an ordinary block, on the average.
    pub(crate) fn block_len(&self) -> f64 {
        let bytes: usize = self.offered.iter().map(|block| block.bytes.len()).sum();
        bytes as f64 / self.offered.len().max(1) as f64
    }
}

fn ordinary(
    orderer: &Orderer,
    number: u64,
    previous: [u8; 32],
    size: usize,
) -> Result<VerifiedBlock> {
    let make = |len: usize| {
        let mut data = vec![0; len];
        rand::fill(&mut data).context("no random bytes")?;
        let kind = HeaderType::EndorserTransaction;
        block(orderer, number, &previous, transaction(kind, data))
    };
    let around = make(size)?.bytes.len() - size;
    make(size.saturating_sub(around))
}

fn genesis(org: &Organization, orderer: &Orderer) -> Result<VerifiedBlock> {
    let config = ConfigEnvelope {
        config: Some(Config {
            sequence: 0,
            channel_group: Some(channel_group(org)),
        }),
        last_update: None,
    };
    let transaction = transaction(HeaderType::Config, config.encode_to_vec());
    block(orderer, 0, &[], transaction)
}

fn transaction(kind: HeaderType, data: Vec<u8>) -> Bytes {
    let channel_header = ChannelHeader {
        r#type: kind.into(),
        channel_id: CHANNEL.to_owned(),
        tx_id: "bench".to_owned(),
        ..ChannelHeader::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data: data.into(),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: vec![7; TRANSACTION_SIGNATURE_LEN].into(),
    };
    envelope.encode_to_vec().into()
}

fn block(
    orderer: &Orderer,
    number: u64,
    previous: &[u8],
    transaction: Bytes,
) -> Result<VerifiedBlock> {
    let is_config = number == 0;
    let mut block = Block {
        header: Some(BlockHeader {
            number,
            previous_hash: previous.to_vec().into(),
            data_hash: Bytes::new(),
        }),
        data: Some(BlockData {
            data: vec![transaction],
        }),
        metadata: None,
    };
    let view = BlockView::parse(block.encode_to_vec().into())?;
    let data_hash = data_hash(&view);
    ensure!(!previous.is_empty() || is_config, "a block follows another");
    if let Some(header) = &mut block.header {
        header.data_hash = data_hash.to_vec().into();
    }
    let mut metadata = vec![Bytes::new(); 5];
    metadata[0] = signatures(orderer, &header_asn1(number, previous, &data_hash))?;
    block.metadata = Some(BlockMetadata { metadata });
    Ok(VerifiedBlock {
        number,
        hash: header_hash(number, previous, &data_hash),
        previous_hash: previous.to_vec().into(),
        is_config,
        config_sequence: 0,
        bytes: block.encode_to_vec().into(),
    })
}

fn signatures(orderer: &Orderer, header: &[u8]) -> Result<Bytes> {
    let value = OrdererBlockMetadata {
        last_config: Some(LastConfig { index: 0 }),
        consenter_metadata: Bytes::new(),
    };
    let value = value.encode_to_vec();
    let signature_header = SignatureHeader {
        creator: orderer.identity.clone(),
        nonce: vec![7; 24].into(),
    };
    let signature_header = signature_header.encode_to_vec();
    let signed = [&value, &signature_header, header].concat();
    let signature = MetadataSignature {
        signature: orderer.key.sign(&signed)?.into(),
        signature_header: signature_header.into(),
        identifier_header: Bytes::new(),
    };
    let metadata = Metadata {
        value: value.into(),
        signatures: vec![signature],
    };
    Ok(metadata.encode_to_vec().into())
}

fn channel_group(org: &Organization) -> ConfigGroup {
    let mut root = section("V2_0");
    let hashing = HashingAlgorithm {
        name: "SHA256".to_owned(),
    };
    put(&mut root, "HashingAlgorithm", &hashing);
    let width = BlockDataHashingStructure { width: u32::MAX };
    put(&mut root, "BlockDataHashingStructure", &width);
    let mut application = section("V2_5");
    application
        .groups
        .insert("Org1".to_owned(), organization(org));
    let mut orderer = section("V2_0");
    let consensus = ConsensusType {
        r#type: "etcdraft".to_owned(),
        ..ConsensusType::default()
    };
    put(&mut orderer, "ConsensusType", &consensus);
    let batch = BatchSize {
        max_message_count: 10,
        absolute_max_bytes: 10 << 20,
        preferred_max_bytes: 2 << 20,
    };
    put(&mut orderer, "BatchSize", &batch);
    let timeout = BatchTimeout {
        timeout: "2s".to_owned(),
    };
    put(&mut orderer, "BatchTimeout", &timeout);
    put_policy(&mut orderer, "BlockValidation", one_of(MspRoleType::Member));
    let mut orderers = organization(org);
    // Nobody leads, so nobody dials it.
    let addresses = OrdererAddresses {
        addresses: vec!["orderer.invalid:7050".to_owned()],
    };
    put(&mut orderers, "Endpoints", &addresses);
    orderer.groups.insert("Orderer".to_owned(), orderers);
    root.groups = [
        ("Application".to_owned(), application),
        ("Orderer".to_owned(), orderer),
    ]
    .into();
    root
}

/// A level above the organizations.
fn section(capability: &str) -> ConfigGroup {
    let mut group = group();
    let capabilities = Capabilities {
        capabilities: [(capability.to_owned(), Default::default())].into(),
    };
    put(&mut group, "Capabilities", &capabilities);
    for (name, rule) in [
        ("Readers", Rule::Any),
        ("Writers", Rule::Any),
        ("Admins", Rule::Majority),
    ] {
        let meta = ImplicitMetaPolicy {
            sub_policy: name.to_owned(),
            rule: rule.into(),
        };
        let policy = Policy {
            r#type: PolicyType::ImplicitMeta.into(),
            value: meta.encode_to_vec().into(),
        };
        put_policy(&mut group, name, policy);
    }
    group
}

fn organization(org: &Organization) -> ConfigGroup {
    let mut group = group();
    let msp = MspConfig {
        r#type: 0,
        config: org.msp().encode_to_vec().into(),
    };
    put(&mut group, "MSP", &msp);
    for (name, role) in [
        ("Readers", MspRoleType::Member),
        ("Writers", MspRoleType::Member),
        ("Admins", MspRoleType::Admin),
    ] {
        put_policy(&mut group, name, one_of(role));
    }
    group
}

fn group() -> ConfigGroup {
    ConfigGroup {
        mod_policy: "Admins".to_owned(),
        ..ConfigGroup::default()
    }
}

fn put(group: &mut ConfigGroup, key: &str, value: &impl Message) {
    let value = ConfigValue {
        version: 0,
        value: value.encode_to_vec().into(),
        mod_policy: "Admins".to_owned(),
    };
    group.values.insert(key.to_owned(), value);
}

fn put_policy(group: &mut ConfigGroup, key: &str, policy: Policy) {
    let policy = ConfigPolicy {
        version: 0,
        policy: Some(policy),
        mod_policy: "Admins".to_owned(),
    };
    group.policies.insert(key.to_owned(), policy);
}

/// One signature by somebody with that role.
fn one_of(role: MspRoleType) -> Policy {
    let role = MspRole {
        msp_identifier: MSP_ID.to_owned(),
        role: role.into(),
    };
    let rule = SignaturePolicy {
        r#type: Some(Type::NOutOf(NOutOf {
            n: 1,
            rules: vec![SignaturePolicy {
                r#type: Some(Type::SignedBy(0)),
            }],
        })),
    };
    let envelope = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities: vec![MspPrincipal {
            principal_classification: Classification::Role.into(),
            principal: role.encode_to_vec().into(),
        }],
    };
    Policy {
        r#type: PolicyType::Signature.into(),
        value: envelope.encode_to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use tidings_msp::channel_config::ChannelConfig;

    use super::*;

    #[test]
    fn blocks_have_their_size_and_follow_from_each_other() {
        let org = Organization::new().unwrap();
        let chain = Chain::new(&org, 3, 9_907).unwrap();
        let config = ChannelConfig::from_config_block(&chain.blocks[0]).unwrap();
        assert_eq!(config.channel_id(), CHANNEL);
        assert_eq!((chain.blocks.len(), chain.offered.len()), (4, 3));
        for (block, bytes) in chain.offered.iter().zip(&chain.blocks[1..]) {
            assert_eq!(&block.bytes, bytes);
            // Signatures differ in length by some bytes.
            assert!(bytes.len().abs_diff(9_907) < 16, "{}", bytes.len());
        }
        for pair in chain.offered.windows(2) {
            assert_eq!(pair[1].previous_hash, pair[0].hash.to_vec());
        }
    }

    #[test]
    fn a_size_below_what_a_block_needs_gives_the_smallest() {
        let org = Organization::new().unwrap();
        let chain = Chain::new(&org, 1, 1).unwrap();
        assert!(chain.block_len() > 500.0);
    }
}
