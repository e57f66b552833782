//! Blocks that a quorum of consenters signed, named by number: what counts and what does not.
//! Every vector is made here, by the rules of docs/protocol/blocks.md.

use bytes::Bytes;
use prost::Message;
use tidings_msp::{
    channel_config::ChannelConfig,
    policy::{PolicyRefused, SIGNED_DATA_MAX},
    verify_block::{BlockRefused, verify_attestation, verify_block},
};
use tidings_proto::{
    block::header_asn1,
    common::{
        ConfigGroup, Consenter, IdentifierHeader, Metadata, MetadataSignature, Orderers,
        implicit_meta_policy::Rule,
    },
    orderer::ConsensusType,
};

use crate::material::{CHANNEL, Draft, Material, Member, tree};

fn config(material: &Material, group: ConfigGroup) -> ChannelConfig {
    ChannelConfig::from_config_block(&material.genesis(group)).unwrap()
}

fn consenters<'a>(members: impl Iterator<Item = (u32, &'a Member)>) -> Orderers {
    let consenter = |(id, member): (u32, &Member)| Consenter {
        id,
        host: format!("orderer{id}"),
        port: 7050,
        msp_id: member.msp_id.clone(),
        identity: member.certificate_pem.clone().into(),
        ..Consenter::default()
    };
    Orderers {
        consenter_mapping: members.map(consenter).collect(),
    }
}

/// A channel with these consenters, numbered from 1 on, of which so many must sign.
fn channel_of(material: &Material, members: &[Member], quorum: i32) -> ChannelConfig {
    let mut group = material.bft_group();
    let orderer = tree::at(&mut group, &["Orderer"]);
    tree::put(orderer, "Orderers", &consenters((1..).zip(members)));
    let principals = members.iter().map(|member| tree::exactly(&member.identity));
    let policy = tree::out_of(quorum, principals.collect());
    tree::put_policy(orderer, "BlockValidation", policy);
    config(material, group)
}

fn bft() -> (Material, ChannelConfig) {
    let material = Material::new();
    let config = config(&material, material.bft_group());
    (material, config)
}

fn judge(config: &ChannelConfig, block: &Draft) -> Result<(), BlockRefused> {
    verify_block(config, CHANNEL, 7, &block.encode()).map(drop)
}

fn too_few(signers: usize) -> Result<(), BlockRefused> {
    Err(BlockRefused::Policy {
        number: 7,
        reason: PolicyRefused::Signature { signers },
    })
}

/// Block 7 with the signatures of the first so many consenters of the material.
fn signed(material: &Material, signers: usize) -> Draft {
    let mut block = material.block(7);
    let orderers = material.orderers.iter().take(signers);
    block.sign_by_number(&(1..).zip(orderers).collect::<Vec<_>>());
    block
}

/// A signature over exactly these headers of a signer.
fn over(block: &mut Draft, signer: &Member, signed_header: &[u8]) -> Bytes {
    let mut value = Bytes::new();
    block.alter_signatures(|metadata| value = metadata.value.clone());
    let header = block.header();
    let header = header_asn1(header.number, &header.previous_hash, &header.data_hash);
    signer.sign(&[&value[..], signed_header, &header[..]].concat())
}

/// Replaces the third of three signatures.
fn with_third(block: &Draft, third: MetadataSignature) -> Draft {
    let mut block = block.clone();
    block.alter_signatures(|metadata| metadata.signatures[2] = third);
    block
}

#[test]
fn exactly_a_quorum_is_enough_whatever_the_number_of_consenters() {
    let material = Material::new();
    for (consenters, faulty, quorum) in [
        (1, 0, 1),
        (3, 0, 2),
        (4, 1, 3),
        (5, 1, 4),
        (7, 2, 5),
        (10, 3, 7),
    ] {
        // ceil((n + f + 1) / 2) with f = floor((n - 1) / 3).
        assert_eq!(
            (faulty, quorum),
            ((consenters - 1) / 3, (consenters + faulty + 2) / 2)
        );
        let member = |n| {
            material
                .orderer_a
                .member(&format!("consenter{n}"), "orderer")
        };
        let members: Vec<Member> = (0..consenters).map(member).collect();
        let config = channel_of(&material, &members, i32::try_from(quorum).unwrap());
        let numbered: Vec<(u32, &Member)> = (1..).zip(&members).collect();
        let mut block = material.block(7);
        for signers in 0..=consenters {
            // Whoever they are, and in whatever order.
            let mut last = numbered[consenters - signers..].to_vec();
            last.reverse();
            block.sign_by_number(&last);
            let expected = if signers < quorum {
                too_few(signers)
            } else {
                Ok(())
            };
            assert_eq!(
                judge(&config, &block),
                expected,
                "{signers} of {consenters}"
            );
            let attested = verify_attestation(&config, &block.encode()).map(drop);
            assert_eq!(attested, expected);
        }
    }
}

#[test]
fn no_bit_of_what_a_quorum_signed_may_change() {
    let (material, config) = bft();
    let block = signed(&material, 3);
    let first = block.0.metadata.as_ref().unwrap().metadata[0].clone();
    for at in 0..first.len() {
        let mut bytes = first.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let mut other = block.clone();
        other.0.metadata.as_mut().unwrap().metadata[0] = bytes.into();
        assert!(
            judge(&config, &other).is_err(),
            "a bit of byte {at} of the metadata"
        );
        assert!(verify_attestation(&config, &other.encode()).is_err());
    }
    type Alter = fn(&mut Draft, usize);
    let hashes: [Alter; 2] = [
        |block, at| flip(&mut block.header().previous_hash, at),
        |block, at| flip(&mut block.header().data_hash, at),
    ];
    for (alter, at) in hashes
        .into_iter()
        .flat_map(|alter| (0..32).map(move |at| (alter, at)))
    {
        let mut other = block.clone();
        alter(&mut other, at);
        assert!(judge(&config, &other).is_err());
        let attested = verify_attestation(&config, &other.encode()).map(drop);
        assert_eq!(attested, too_few(0), "a bit of byte {at} of a hash");
    }
    let mut other = block.clone();
    other.header().number = 8;
    let attested = verify_attestation(&config, &other.encode()).map(drop);
    let expected = Err(BlockRefused::Policy {
        number: 8,
        reason: PolicyRefused::Signature { signers: 0 },
    });
    assert_eq!(attested, expected);
    // What nobody signed may be anything.
    let mut other = block;
    other.0.metadata.as_mut().unwrap().metadata[2] = Bytes::from_static(&[255; 9]);
    assert_eq!(judge(&config, &other), Ok(()));
}

fn flip(bytes: &mut Bytes, at: usize) {
    let mut changed = bytes.to_vec();
    changed[at] ^= 1 << (at % 8);
    *bytes = changed.into();
}

#[test]
fn a_block_without_signatures_is_refused() {
    let (material, config) = bft();
    let mut block = signed(&material, 3);
    block.alter_signatures(|metadata| metadata.signatures.clear());
    assert_eq!(judge(&config, &block), too_few(0));
    block.0.metadata.as_mut().unwrap().metadata[0] = Bytes::new();
    assert_eq!(judge(&config, &block), too_few(0));
    // Signatures that are there but empty, with one header, the other, or none.
    let by_number = signed(&material, 3);
    let mut empty = by_number.clone();
    empty.alter_signatures(|metadata| metadata.signatures[2].signature = Bytes::new());
    assert_eq!(judge(&config, &empty), too_few(2));
    assert_eq!(
        judge(
            &config,
            &with_third(&by_number, MetadataSignature::default())
        ),
        too_few(2)
    );
}

#[test]
fn a_consenters_header_is_signed_as_it_was_received() {
    let (material, config) = bft();
    let mut block = signed(&material, 3);
    let signer = &material.orderers[2];
    let usual = IdentifierHeader {
        identifier: 3,
        nonce: Bytes::new(),
    }
    .encode_to_vec();
    let odd = [
        // No nonce; the nonce first; the number twice, of which the last counts; in more bytes
        // than it needs; with something that nobody knows behind it.
        usual.clone(),
        b"\x12\x01n\x08\x03".to_vec(),
        b"\x08\x01\x08\x03".to_vec(),
        b"\x08\x83\x00".to_vec(),
        [&usual[..], b"\x7a\x01x"].concat(),
    ];
    for header in odd {
        let third = MetadataSignature {
            signature_header: Bytes::new(),
            signature: over(&mut block, signer, &header),
            identifier_header: header.clone().into(),
        };
        assert_eq!(judge(&config, &with_third(&block, third.clone())), Ok(()));
        // The same said in other bytes was not signed.
        let said_otherwise = MetadataSignature {
            identifier_header: [&header[..], b"\x7a\x01y"].concat().into(),
            ..third
        };
        assert_eq!(
            judge(&config, &with_third(&block, said_otherwise)),
            too_few(2)
        );
    }
    // No number is number 0, which nobody has.
    let header = b"\x12\x01n";
    let third = MetadataSignature {
        signature_header: Bytes::new(),
        signature: over(&mut block, signer, header),
        identifier_header: Bytes::from_static(header),
    };
    assert_eq!(judge(&config, &with_third(&block, third)), too_few(2));
}

#[test]
fn where_both_headers_are_given_the_certificates_counts() {
    let (material, config) = bft();
    let mut block = signed(&material, 3);
    let signer = &material.orderers[2];
    let mut by_certificate = block.clone();
    by_certificate.sign(&[signer]);
    let mut certificate = Vec::new();
    by_certificate.alter_signatures(|metadata| certificate.clone_from(&metadata.signatures));
    let mut number = Vec::new();
    block.alter_signatures(|metadata| number.clone_from(&metadata.signatures));
    let [certificate] = &certificate[..] else {
        panic!("one signer");
    };
    let both = |signature: &Bytes| MetadataSignature {
        signature_header: certificate.signature_header.clone(),
        signature: signature.clone(),
        identifier_header: number[2].identifier_header.clone(),
    };
    let normal = both(&certificate.signature);
    assert_eq!(judge(&config, &with_third(&block, normal)), Ok(()));
    // Signed over the number, it is good without the certificate and not with it.
    let other = both(&number[2].signature);
    assert_eq!(judge(&config, &with_third(&block, other)), too_few(2));
    let garbled = MetadataSignature {
        signature_header: Bytes::from_static(&[0xff]),
        ..number[2].clone()
    };
    let refused = judge(&config, &with_third(&block, garbled)).unwrap_err();
    let expected = BlockRefused::Signatures {
        number: 7,
        part: "signature header",
        source: source(&refused),
    };
    assert_eq!(refused, expected);
}

fn source(refused: &BlockRefused) -> prost::DecodeError {
    let BlockRefused::Signatures { source, .. } = refused else {
        panic!("{refused}");
    };
    source.clone()
}

#[test]
fn a_raft_channel_of_v3_0_takes_both_forms() {
    let material = Material::new();
    let raft = |list: bool| {
        let mut group = material.bft_group();
        let orderer = tree::at(&mut group, &["Orderer"]);
        let consensus = ConsensusType {
            r#type: "etcdraft".to_owned(),
            ..ConsensusType::default()
        };
        tree::put(orderer, "ConsensusType", &consensus);
        let any = tree::implicit(Rule::Any, "Writers");
        tree::put_policy(orderer, "BlockValidation", any);
        if !list {
            orderer.values.remove("Orderers");
        }
        config(&material, group)
    };
    let by_number = signed(&material, 1);
    assert_eq!(judge(&raft(true), &by_number), Ok(()));
    assert!(
        judge(&raft(false), &by_number).is_err(),
        "nobody has a number"
    );
    let by_certificate = material.block(7);
    for list in [true, false] {
        assert_eq!(judge(&raft(list), &by_certificate), Ok(()));
    }
}

#[test]
fn a_number_stands_for_who_has_it_now() {
    let material = Material::new();
    let [a, b, c, d] = &material.orderers[..] else {
        panic!("four orderers");
    };
    let newcomer = material.orderer_a.member("newcomer", "orderer");
    let with = |numbered: &[(u32, &Member)], policy: &[&Member]| {
        let mut group = material.bft_group();
        let orderer = tree::at(&mut group, &["Orderer"]);
        tree::put(orderer, "Orderers", &consenters(numbered.iter().copied()));
        let principals = policy.iter().map(|member| tree::exactly(&member.identity));
        let policy = tree::out_of(3, principals.collect());
        tree::put_policy(orderer, "BlockValidation", policy);
        config(&material, group)
    };
    let before = with(&[(1, a), (2, b), (3, c), (4, d)], &[a, b, c, d]);
    let after = with(
        &[(1, a), (2, b), (3, &newcomer), (4, d)],
        &[a, b, &newcomer, d],
    );
    let mut old = material.block(7);
    old.sign_by_number(&[(1, a), (2, b), (3, c)]);
    let mut new = material.block(7);
    new.sign_by_number(&[(1, a), (2, b), (3, &newcomer)]);
    assert_eq!(judge(&before, &old), Ok(()));
    assert_eq!(judge(&before, &new), too_few(2));
    assert_eq!(judge(&after, &old), too_few(2));
    assert_eq!(judge(&after, &new), Ok(()));
    // Who has a number but no say, signs well and in vain.
    let no_say = with(&[(1, a), (2, b), (3, &newcomer), (4, d)], &[a, b, c, d]);
    assert_eq!(judge(&no_say, &new), too_few(3));
    // Who has a say but another's number, too.
    let exchanged = with(&[(1, b), (2, a), (3, c), (4, d)], &[a, b, c, d]);
    assert_eq!(judge(&exchanged, &old), too_few(1));
}

#[test]
fn a_consenter_is_one_of_its_organization() {
    let material = Material::new();
    let [a, b, ..] = &material.orderers[..] else {
        panic!("four orderers");
    };
    let mut group = material.bft_group();
    let orderer = tree::at(&mut group, &["Orderer"]);
    let mut listed = consenters((1..).zip(&material.orderers));
    // The certificate is the third orderer's, the organization is not.
    listed.consenter_mapping[2].msp_id = material.other_orderer.msp_id.clone();
    tree::put(orderer, "Orderers", &listed);
    let config = config(&material, group);
    assert_eq!(judge(&config, &signed(&material, 3)), too_few(2));
    let mut block = material.block(7);
    block.sign_by_number(&[(1, a), (2, b), (4, &material.orderers[3])]);
    assert_eq!(judge(&config, &block), Ok(()));
}

#[test]
fn no_more_signatures_are_looked_at_than_the_limit() {
    let (material, config) = bft();
    let block = signed(&material, 3);
    let padded = |len: usize| {
        let mut block = block.clone();
        block.alter_signatures(|metadata: &mut Metadata| {
            let unknown = MetadataSignature {
                identifier_header: Bytes::from_static(b"\x08\x63"),
                ..MetadataSignature::default()
            };
            metadata.signatures.resize(len, unknown);
        });
        block
    };
    assert_eq!(judge(&config, &padded(SIGNED_DATA_MAX)), Ok(()));
    let reason = PolicyRefused::TooMany {
        got: SIGNED_DATA_MAX + 1,
    };
    let expected = Err(BlockRefused::Policy { number: 7, reason });
    assert_eq!(judge(&config, &padded(SIGNED_DATA_MAX + 1)), expected);
}
