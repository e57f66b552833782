//! A channel's chain, made block by block.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;
use tidings_msp::block::header_hash;
use tidings_proto::{
    block::header_asn1,
    common::{
        Config, ConfigEnvelope, ConfigGroup, HeaderType, IdentifierHeader, LastConfig, Metadata,
        MetadataSignature, OrdererBlockMetadata, SignatureHeader,
    },
};

use crate::material::{self, CHANNEL, Draft, Material, Member, Organization, tree};

/// Blocks that follow from each other, signed by the first orderer or by a quorum.
pub(crate) struct Chain {
    pub(crate) material: Material,
    pub(crate) blocks: Vec<Bytes>,
    group: ConfigGroup,
    sequence: u64,
    hash: Vec<u8>,
    last_config: u64,
    by_quorum: bool,
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
        Self::begin(material, group, false)
    }

    /// The genesis block of a channel that a quorum of four orderers signs for. The last of them
    /// is of another organization.
    pub(crate) fn of_cluster(orderers: &[String]) -> Self {
        let material = Material::new();
        let mut group = material.bft_group();
        let addresses: Vec<&str> = orderers.iter().map(String::as_str).collect();
        let (last, first) = addresses.split_last().unwrap();
        let own = tree::at(&mut group, &["Orderer", "OrdererA-group"]);
        tree::put(own, "Endpoints", &tree::addresses(first));
        let other = tree::at(&mut group, &["Orderer", "OrdererB-group"]);
        tree::put(other, "Endpoints", &tree::addresses(&[last]));
        Self::begin(material, group, true)
    }

    fn begin(material: Material, group: ConfigGroup, by_quorum: bool) -> Self {
        let mut chain = Self {
            material,
            blocks: Vec::new(),
            group: group.clone(),
            sequence: 0,
            hash: Vec::new(),
            last_config: 0,
            by_quorum,
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
            self.add([transaction]);
        }
    }

    /// Adds blocks of ten transactions of some three kilobytes each up to this height.
    pub(crate) fn fill_to(&mut self, height: u64) {
        while self.height() < height {
            let transactions = (0..10_u64).map(|n| {
                let data = format!("{} {n}", self.height()).repeat(500).into_bytes();
                let kind = HeaderType::EndorserTransaction;
                material::transaction(kind, CHANNEL, &self.material.peer1, data)
            });
            self.add(transactions.collect::<Vec<_>>());
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

    /// Gives the ordering organization one more TLS root, at its old address: that of the
    /// organization that is returned.
    pub(crate) fn add_tls_root(&mut self) -> Organization {
        let admin = self.material.orderer_a.member("admin.a", "admin");
        let successor = Organization::new("More");
        let alter = |group: &mut ConfigGroup, material: &Material| {
            let mut msp = material.orderer_a.msp();
            msp.tls_root_certs.push(successor.tls_root_pem().into());
            let own = tree::at(group, &["Orderer", "OrdererA-group"]);
            tree::replace(own, "MSP", &tree::msp(&msp));
        };
        self.reconfigure(alter, &[&admin]);
        successor
    }

    /// Gives the ordering organization another address.
    pub(crate) fn move_orderer(&mut self, to: &str) {
        let admin = self.material.orderer_a.member("admin.a", "admin");
        let alter = |group: &mut ConfigGroup, _: &Material| {
            let own = tree::at(group, &["Orderer", "OrdererA-group"]);
            tree::replace(own, "Endpoints", &tree::addresses(&[to]));
        };
        self.reconfigure(alter, &[&admin]);
    }

    /// Gives the ordering organization another certificate authority, by which the first orderer
    /// is known from the next block on.
    pub(crate) fn renew_orderer(&mut self) {
        let admin = self.material.orderer_a.member("admin.a", "admin");
        let mut successor = Organization::new("More");
        successor.msp_id.clone_from(&self.material.orderer_a.msp_id);
        let alter = |group: &mut ConfigGroup, material: &Material| {
            let mut msp = material.orderer_a.msp();
            msp.root_certs.extend(successor.msp().root_certs);
            let own = tree::at(group, &["Orderer", "OrdererA-group"]);
            tree::replace(own, "MSP", &tree::msp(&msp));
        };
        self.reconfigure(alter, &[&admin]);
        self.material.orderers[0] = successor.member("orderer0", "orderer");
    }

    /// Makes the peer there the anchor of the second organization.
    pub(crate) fn anchor(&mut self, peer: SocketAddr) {
        let alter = |group: &mut ConfigGroup, material: &Material| {
            let own = tree::at(group, &["Application", &material.org2.key]);
            let anchors = tree::anchors(&[(&peer.ip().to_string(), peer.port().into())]);
            tree::put(own, "AnchorPeers", &anchors);
            own.version += 1;
        };
        let admin = self.material.org2.member("admin", "admin");
        self.reconfigure(alter, &[&admin]);
    }

    /// Has the second organization revoke one of its members.
    pub(crate) fn revoke(&mut self, member: &Member) {
        let alter = |group: &mut ConfigGroup, material: &Material| {
            let org = &material.org2;
            let mut msp = org.msp();
            msp.revocation_list = vec![org.revocation_list(member).into()];
            let own = tree::at(group, &["Application", &org.key]);
            tree::replace(own, "MSP", &tree::msp(&msp));
        };
        let admin = self.material.org2.member("admin", "admin");
        self.reconfigure(alter, &[&admin]);
    }

    fn config(&mut self, envelope: &ConfigEnvelope) {
        let data = envelope.encode_to_vec();
        let orderer = &self.material.orderers[0];
        let transaction = material::transaction(HeaderType::Config, CHANNEL, orderer, data);
        self.add([transaction]);
    }

    /// Adds a block with these transactions.
    pub(crate) fn add(&mut self, transactions: impl IntoIterator<Item = Bytes>) {
        let mut draft = material::block(self.height(), &self.hash, transactions);
        let orderers = &self.material.orderers;
        if self.by_quorum {
            sign(&mut draft, self.last_config, &orderers[..3], by_number);
        } else {
            sign(&mut draft, self.last_config, &orderers[..1], by_name);
        }
        let header = draft.header();
        self.hash = header_hash(header.number, &header.previous_hash, &header.data_hash).to_vec();
        self.blocks.push(draft.encode());
    }
}

/// Signs a block that names this configuration block.
fn sign(
    draft: &mut Draft,
    last_config: u64,
    orderers: &[Member],
    sign: impl Fn(u32, &Member, &[u8], &[u8]) -> MetadataSignature,
) {
    let value = OrdererBlockMetadata {
        last_config: Some(LastConfig { index: last_config }),
        consenter_metadata: Bytes::from_static(b"raft"),
    };
    let value = Bytes::from(value.encode_to_vec());
    let header = draft.header();
    let header = header_asn1(header.number, &header.previous_hash, &header.data_hash);
    let signatures = (1..).zip(orderers);
    let signatures = signatures.map(|(number, orderer)| sign(number, orderer, &value, &header));
    let metadata = Metadata {
        signatures: signatures.collect(),
        value: value.clone(),
    };
    draft.0.metadata.as_mut().unwrap().metadata[0] = metadata.encode_to_vec().into();
}

fn by_name(_: u32, orderer: &Member, value: &[u8], header: &[u8]) -> MetadataSignature {
    let signature_header = SignatureHeader {
        creator: orderer.identity.clone(),
        nonce: vec![7; 24].into(),
    };
    let signature_header = Bytes::from(signature_header.encode_to_vec());
    MetadataSignature {
        signature: orderer.sign(&[value, &signature_header, header].concat()),
        signature_header,
        identifier_header: Bytes::new(),
    }
}

fn by_number(number: u32, orderer: &Member, value: &[u8], header: &[u8]) -> MetadataSignature {
    let identifier_header = IdentifierHeader {
        identifier: number,
        nonce: vec![7; 24].into(),
    };
    let identifier_header = Bytes::from(identifier_header.encode_to_vec());
    MetadataSignature {
        signature: orderer.sign(&[value, &identifier_header, header].concat()),
        signature_header: Bytes::new(),
        identifier_header,
    }
}
