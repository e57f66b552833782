//! A channel's chain, made block by block.

use bytes::Bytes;
use prost::Message;
use tidings_msp::block::header_hash;
use tidings_proto::{
    block::header_asn1,
    common::{
        Config, ConfigEnvelope, ConfigGroup, HeaderType, LastConfig, Metadata, MetadataSignature,
        OrdererBlockMetadata, SignatureHeader,
    },
};

use crate::material::{self, CHANNEL, Draft, Material, Member, tree};

/// Blocks that follow from each other, signed by the first orderer.
pub(crate) struct Chain {
    pub(crate) material: Material,
    pub(crate) blocks: Vec<Bytes>,
    group: ConfigGroup,
    sequence: u64,
    hash: Vec<u8>,
    last_config: u64,
}

impl Chain {
    /// The genesis block of a channel whose only orderer is at that address.
    pub(crate) fn new(orderer: &str) -> Self {
        let material = Material::new();
        let mut group = material.group();
        let own = tree::at(&mut group, &["Orderer", "OrdererA-group"]);
        tree::put(own, "Endpoints", &tree::addresses(&[orderer]));
        let other = tree::at(&mut group, &["Orderer", "OrdererB-group"]);
        other.values.remove("Endpoints");
        let mut chain = Self {
            material,
            blocks: Vec::new(),
            group: group.clone(),
            sequence: 0,
            hash: Vec::new(),
            last_config: 0,
        };
        let config = Config {
            sequence: 0,
            channel_group: Some(group),
        };
        chain.config(&ConfigEnvelope {
            config: Some(config),
            last_update: None,
        });
        chain
    }

    pub(crate) fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Adds ordinary blocks up to this height.
    pub(crate) fn grow_to(&mut self, height: u64) {
        while self.height() < height {
            let data = format!("block {}", self.height()).into_bytes();
            let kind = HeaderType::EndorserTransaction;
            let transaction = material::transaction(kind, CHANNEL, &self.material.peer1, data);
            self.add(transaction);
        }
    }

    /// Adds a configuration block that these members agree to.
    pub(crate) fn reconfigure(
        &mut self,
        alter: impl FnOnce(&mut ConfigGroup, &Material),
        signers: &[&Member],
    ) {
        let mut next = self.group.clone();
        alter(&mut next, &self.material);
        let update = material::update(&self.group, &next);
        self.sequence += 1;
        self.last_config = self.height();
        self.group = next.clone();
        let config = Config {
            sequence: self.sequence,
            channel_group: Some(next),
        };
        self.config(&ConfigEnvelope {
            config: Some(config),
            last_update: Some(material::signed_update(&update, signers)),
        });
    }

    /// Gives the ordering organization one more TLS root, at its old address.
    pub(crate) fn add_tls_root(&mut self) {
        let admin = self.material.orderer_a.member("admin.a", "admin");
        let alter = |group: &mut ConfigGroup, material: &Material| {
            let mut msp = material.orderer_a.msp();
            let more = material::Organization::new("More").msp();
            msp.tls_root_certs.extend(more.tls_root_certs);
            let own = tree::at(group, &["Orderer", "OrdererA-group"]);
            tree::replace(own, "MSP", &tree::msp(&msp));
        };
        self.reconfigure(alter, &[&admin]);
    }

    fn config(&mut self, envelope: &ConfigEnvelope) {
        let data = envelope.encode_to_vec();
        let orderer = &self.material.orderers[0];
        let transaction = material::transaction(HeaderType::Config, CHANNEL, orderer, data);
        self.add(transaction);
    }

    fn add(&mut self, transaction: Bytes) {
        let mut draft = material::block(self.height(), &self.hash, [transaction]);
        sign(&mut draft, self.last_config, &self.material.orderers[0]);
        let header = draft.header();
        self.hash = header_hash(header.number, &header.previous_hash, &header.data_hash).to_vec();
        self.blocks.push(draft.encode());
    }
}

/// Signs a block that names this configuration block.
fn sign(draft: &mut Draft, last_config: u64, orderer: &Member) {
    let value = OrdererBlockMetadata {
        last_config: Some(LastConfig { index: last_config }),
        consenter_metadata: Bytes::from_static(b"raft"),
    };
    let value = Bytes::from(value.encode_to_vec());
    let signature_header = SignatureHeader {
        creator: orderer.identity.clone(),
        nonce: vec![7; 24].into(),
    };
    let signature_header = Bytes::from(signature_header.encode_to_vec());
    let header = draft.header();
    let header = header_asn1(header.number, &header.previous_hash, &header.data_hash);
    let signature = orderer.sign(&[&value[..], &signature_header[..], &header[..]].concat());
    let signature = MetadataSignature {
        signature_header,
        signature,
        identifier_header: Bytes::new(),
    };
    let metadata = Metadata {
        value,
        signatures: vec![signature],
    };
    draft.0.metadata.as_mut().unwrap().metadata[0] = metadata.encode_to_vec().into();
}
