//! A small channel of our own making: organizations with fresh keys, their members, a
//! configuration tree, blocks and updates, all of which a test can alter before signing.
//!
//! Independent of `../shared`. Another crate's tests take it in with
//! `#[path = "../../msp/tests/material/mod.rs"] mod material;`; it needs `bytes`, `prost`,
//! `rcgen`, `tidings-msp` and `tidings-proto`.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate uses a part of it"
)]

pub mod tree;

use bytes::Bytes;
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tidings_msp::{block::header_hash, certificate::Certificate, crypto::PrivateKey};
use tidings_proto::{
    block::{BlockView, header_asn1},
    common::{
        Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Config, ConfigEnvelope,
        ConfigGroup, ConfigSignature, ConfigUpdate, ConfigUpdateEnvelope, Envelope, Header,
        HeaderType, IdentifierHeader, LastConfig, Metadata, MetadataSignature,
        OrdererBlockMetadata, Payload, SignatureHeader,
    },
    msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, SerializedIdentity},
};

/// The channel of all material.
pub const CHANNEL: &str = "mychannel";

/// An organization with its certificate authorities.
pub struct Organization {
    /// The key of its group, which is not its MSP id on purpose.
    pub key: String,
    pub msp_id: String,
    authority: CertifiedIssuer<'static, KeyPair>,
    tls_authority: CertifiedIssuer<'static, KeyPair>,
}

/// Somebody with a certificate and a key.
pub struct Member {
    pub msp_id: String,
    pub certificate_pem: String,
    pub key_pem: String,
    /// The serialized identity.
    pub identity: Bytes,
    key: PrivateKey,
}

impl Organization {
    pub fn new(name: &str) -> Self {
        Self {
            key: format!("{name}-group"),
            msp_id: format!("{name}MSP"),
            authority: authority(&format!("ca.{name}")),
            tls_authority: authority(&format!("tlsca.{name}")),
        }
    }

    /// A new member with that organizational unit: `peer`, `client`, `admin` or `orderer`.
    pub fn member(&self, name: &str, unit: &str) -> Member {
        self.certify(KeyPair::generate().unwrap(), name, unit)
    }

    /// Another certificate for the key of a member.
    pub fn certified_again(&self, member: &Member, name: &str, unit: &str) -> Member {
        let key = KeyPair::from_pem(&member.key_pem).unwrap();
        self.certify(key, name, unit)
    }

    fn certify(&self, key: KeyPair, name: &str, unit: &str) -> Member {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, unit);
        params.use_authority_key_identifier_extension = true;
        let certificate_pem = params.signed_by(&key, &self.authority).unwrap().pem();
        Member::new(
            &self.msp_id,
            unix_lines(&certificate_pem),
            unix_lines(&key.serialize_pem()),
        )
    }

    /// The PEM list of its authority that revokes a member.
    pub fn revocation_list(&self, member: &Member) -> String {
        let certificate = Certificate::from_pem(member.certificate_pem.as_bytes()).unwrap();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(certificate.serial()),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority).unwrap();
        unix_lines(&list.pem().unwrap())
    }

    /// The definition of its MSP, with NodeOUs.
    pub fn msp(&self) -> FabricMspConfig {
        let unit = |unit: &str| {
            Some(FabricOuIdentifier {
                certificate: Bytes::new(),
                organizational_unit_identifier: unit.to_owned(),
            })
        };
        FabricMspConfig {
            name: self.msp_id.clone(),
            root_certs: vec![unix_lines(&self.authority.pem()).into()],
            tls_root_certs: vec![unix_lines(&self.tls_authority.pem()).into()],
            fabric_node_ous: Some(FabricNodeOUs {
                enable: true,
                client_ou_identifier: unit("client"),
                peer_ou_identifier: unit("peer"),
                admin_ou_identifier: unit("admin"),
                orderer_ou_identifier: unit("orderer"),
            }),
            ..FabricMspConfig::default()
        }
    }

    /// A TLS certificate for this machine with its key, both PEM.
    pub fn tls_pair(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.tls_authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The PEM certificate of its TLS authority.
    pub fn tls_root_pem(&self) -> String {
        unix_lines(&self.tls_authority.pem())
    }

    /// The DER certificate of its TLS authority.
    pub fn tls_root(&self) -> Bytes {
        self.tls_authority.der().to_vec().into()
    }
}

impl Member {
    fn new(msp_id: &str, certificate_pem: String, key_pem: String) -> Self {
        let identity = SerializedIdentity {
            mspid: msp_id.to_owned(),
            id_bytes: certificate_pem.clone().into(),
        };
        Self {
            msp_id: msp_id.to_owned(),
            identity: identity.encode_to_vec().into(),
            key: PrivateKey::from_pem(key_pem.as_bytes()).unwrap(),
            certificate_pem,
            key_pem,
        }
    }

    pub fn sign(&self, message: &[u8]) -> Bytes {
        self.key.sign(message).unwrap().into()
    }

    fn signature_header(&self) -> Bytes {
        SignatureHeader {
            creator: self.identity.clone(),
            nonce: vec![7; 24].into(),
        }
        .encode_to_vec()
        .into()
    }
}

/// Two organizations with peers, two with orderers, and somebody of each.
pub struct Material {
    pub org1: Organization,
    pub org2: Organization,
    pub orderer_a: Organization,
    pub orderer_b: Organization,
    pub peer1: Member,
    pub peer2: Member,
    pub admin1: Member,
    pub admin2: Member,
    pub orderer_admin: Member,
    /// Of the first orderer organization, four.
    pub orderers: Vec<Member>,
    /// Of the second orderer organization.
    pub other_orderer: Member,
}

impl Material {
    pub fn new() -> Self {
        let [org1, org2, orderer_a, orderer_b] =
            ["Org1", "Org2", "OrdererA", "OrdererB"].map(Organization::new);
        Self {
            peer1: org1.member("peer0.org1", "peer"),
            peer2: org2.member("peer0.org2", "peer"),
            admin1: org1.member("admin.org1", "admin"),
            admin2: org2.member("admin.org2", "admin"),
            orderer_admin: orderer_a.member("admin.orderer", "admin"),
            orderers: (0..4)
                .map(|n| orderer_a.member(&format!("orderer{n}"), "orderer"))
                .collect(),
            other_orderer: orderer_b.member("orderer.b", "orderer"),
            org1,
            org2,
            orderer_a,
            orderer_b,
        }
    }

    /// The configuration tree of a Raft channel with capability V2_0.
    pub fn group(&self) -> ConfigGroup {
        tree::raft_channel(self)
    }

    /// The tree of a BFT channel with capability V3_0 whose blocks need three of four orderers.
    pub fn bft_group(&self) -> ConfigGroup {
        tree::bft_channel(self)
    }

    /// A configuration block signed by the first orderer, as is its transaction.
    pub fn config_block(&self, number: u64, envelope: &ConfigEnvelope) -> Bytes {
        let data = envelope.encode_to_vec();
        let transaction = transaction(HeaderType::Config, CHANNEL, &self.orderers[0], data);
        let mut block = block(number, &[9; 32], [transaction]);
        block.sign(&[&self.orderers[0]]);
        block.encode()
    }

    /// The first block of a channel.
    pub fn genesis(&self, group: ConfigGroup) -> Bytes {
        let config = Config {
            sequence: 0,
            channel_group: Some(group),
        };
        self.config_block(
            0,
            &ConfigEnvelope {
                config: Some(config),
                last_update: None,
            },
        )
    }

    /// The block that turns one tree into the next, if these members agree to it.
    pub fn update_block(
        &self,
        current: (u64, &ConfigGroup),
        next: &ConfigGroup,
        signers: &[&Member],
    ) -> Bytes {
        let (sequence, current) = current;
        let update = update(current, next);
        let config = Config {
            sequence: sequence + 1,
            channel_group: Some(next.clone()),
        };
        let last_update = Some(signed_update(&update, signers));
        self.config_block(
            1,
            &ConfigEnvelope {
                config: Some(config),
                last_update,
            },
        )
    }

    /// A good block of two transactions, signed by the first orderer.
    pub fn block(&self, number: u64) -> Draft {
        let of = |text: &str| {
            let data = text.as_bytes().to_vec();
            transaction(HeaderType::EndorserTransaction, CHANNEL, &self.peer1, data)
        };
        let mut block = block(number, &[8; 32], [of("first"), of("second")]);
        block.sign(&[&self.orderers[0]]);
        block
    }
}

impl Default for Material {
    fn default() -> Self {
        Self::new()
    }
}

/// A serialized transaction envelope, signed by its creator.
pub fn transaction(kind: HeaderType, channel: &str, creator: &Member, data: Vec<u8>) -> Bytes {
    let channel_header = ChannelHeader {
        r#type: kind as i32,
        channel_id: channel.to_owned(),
        tx_id: "an id".to_owned(),
        ..ChannelHeader::default()
    };
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: creator.signature_header(),
    };
    let payload = Payload {
        header: Some(header),
        data: data.into(),
    };
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = creator.sign(&payload);
    Envelope { payload, signature }.encode_to_vec().into()
}

/// The update from one tree to another, which reads and writes all of it.
pub fn update(current: &ConfigGroup, next: &ConfigGroup) -> ConfigUpdate {
    ConfigUpdate {
        channel_id: CHANNEL.to_owned(),
        read_set: Some(current.clone()),
        write_set: Some(next.clone()),
        ..ConfigUpdate::default()
    }
}

/// The CONFIG_UPDATE transaction in which those members agree to an update.
pub fn signed_update(update: &ConfigUpdate, signers: &[&Member]) -> Envelope {
    let config_update = Bytes::from(update.encode_to_vec());
    let signatures = signers
        .iter()
        .map(|signer| {
            let signature_header = signer.signature_header();
            let signature = signer.sign(&[&signature_header[..], &config_update[..]].concat());
            ConfigSignature {
                signature_header,
                signature,
            }
        })
        .collect();
    let channel_header = ChannelHeader {
        r#type: HeaderType::ConfigUpdate as i32,
        channel_id: CHANNEL.to_owned(),
        ..ChannelHeader::default()
    };
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: Bytes::new(),
    };
    let data = ConfigUpdateEnvelope {
        config_update,
        signatures,
    }
    .encode_to_vec()
    .into();
    let payload = Payload {
        header: Some(header),
        data,
    };
    Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    }
}

/// A block that can still be altered.
#[derive(Clone)]
pub struct Draft(pub Block);

/// An unsigned block with the right data hash.
pub fn block(
    number: u64,
    previous_hash: &[u8],
    transactions: impl IntoIterator<Item = Bytes>,
) -> Draft {
    let mut draft = Draft(Block {
        header: Some(BlockHeader {
            number,
            previous_hash: previous_hash.to_vec().into(),
            data_hash: Bytes::new(),
        }),
        data: Some(BlockData {
            data: transactions.into_iter().collect(),
        }),
        metadata: Some(BlockMetadata {
            metadata: vec![Bytes::new(); 5],
        }),
    });
    draft.hash_data();
    draft
}

impl Draft {
    /// Writes the hash of the transactions into the header.
    pub fn hash_data(&mut self) {
        let hash = tidings_msp::block::data_hash(&BlockView::parse(self.encode()).unwrap());
        self.header().data_hash = hash.to_vec().into();
    }

    pub fn header(&mut self) -> &mut BlockHeader {
        self.0.header.as_mut().unwrap()
    }

    pub fn transactions(&mut self) -> &mut Vec<Bytes> {
        &mut self.0.data.as_mut().unwrap().data
    }

    /// Changes the signed metadata, signatures included.
    pub fn alter_signatures(&mut self, alter: impl FnOnce(&mut Metadata)) {
        let first = &mut self.0.metadata.as_mut().unwrap().metadata[0];
        let mut metadata = Metadata::decode(first.clone()).unwrap();
        alter(&mut metadata);
        *first = metadata.encode_to_vec().into();
    }

    /// Replaces all signatures by those of these orderers, in order.
    pub fn sign(&mut self, signers: &[&Member]) {
        let (value, header) = (self.metadata_value(), self.header_asn1());
        let signatures = signers.iter().map(|signer| {
            let signature_header = signer.signature_header();
            let signed = [&value[..], &signature_header[..], &header[..]].concat();
            MetadataSignature {
                signature: signer.sign(&signed),
                signature_header,
                identifier_header: Bytes::new(),
            }
        });
        let metadata = Metadata {
            value: value.clone(),
            signatures: signatures.collect(),
        };
        self.0.metadata.as_mut().unwrap().metadata[0] = metadata.encode_to_vec().into();
    }

    /// Replaces all signatures by those of these orderers, named by number.
    pub fn sign_by_number(&mut self, signers: &[(u32, &Member)]) {
        let (value, header) = (self.metadata_value(), self.header_asn1());
        let signatures = signers.iter().map(|(identifier, signer)| {
            let header_of_signer = IdentifierHeader {
                identifier: *identifier,
                nonce: vec![5; 24].into(),
            };
            let identifier_header = Bytes::from(header_of_signer.encode_to_vec());
            let signed = [&value[..], &identifier_header[..], &header[..]].concat();
            MetadataSignature {
                signature_header: Bytes::new(),
                signature: signer.sign(&signed),
                identifier_header,
            }
        });
        let metadata = Metadata {
            value: value.clone(),
            signatures: signatures.collect(),
        };
        self.0.metadata.as_mut().unwrap().metadata[0] = metadata.encode_to_vec().into();
    }

    pub fn encode(&self) -> Bytes {
        self.0.encode_to_vec().into()
    }

    pub fn hash(&mut self) -> [u8; 32] {
        let header = self.header();
        header_hash(header.number, &header.previous_hash, &header.data_hash)
    }

    fn metadata_value(&self) -> Bytes {
        let last_config = Some(LastConfig { index: 0 });
        OrdererBlockMetadata {
            last_config,
            consenter_metadata: Bytes::from_static(b"raft"),
        }
        .encode_to_vec()
        .into()
    }

    fn header_asn1(&mut self) -> Vec<u8> {
        let header = self.header();
        header_asn1(header.number, &header.previous_hash, &header.data_hash)
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// One line feed after each line, as Go writes PEM.
fn unix_lines(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}
