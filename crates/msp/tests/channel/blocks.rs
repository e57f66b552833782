//! Which blocks are taken, and why the others are not.

use bytes::Bytes;
use prost::Message;
use tidings_msp::{
    block,
    channel_config::ChannelConfig,
    policy::{PolicyRefused, SIGNED_DATA_MAX},
    verify_block::{
        AttestationFacts, BlockRefused, VerifiedBlockFacts, verify_attestation, verify_block,
    },
};
use tidings_proto::{
    block::{BlockView, NoHead},
    canonical::NotCanonical,
    common::{ConfigGroup, Envelope, HeaderType, MetadataSignature},
};

use crate::material::{self, CHANNEL, Draft, Material, Member, tree};

mod bft;

fn config(material: &Material, group: ConfigGroup) -> ChannelConfig {
    ChannelConfig::from_config_block(&material.genesis(group)).unwrap()
}

fn raft() -> (Material, ChannelConfig) {
    let material = Material::new();
    let config = config(&material, material.group());
    (material, config)
}

fn bft() -> (Material, ChannelConfig) {
    let material = Material::new();
    let config = config(&material, material.bft_group());
    (material, config)
}

fn refusal(config: &ChannelConfig, block: &Draft) -> BlockRefused {
    verify_block(config, CHANNEL, 7, &block.encode()).unwrap_err()
}

/// Block 7 of a Raft channel, altered, and the reason for which it is refused.
fn altered(alter: impl FnOnce(&Material, &mut Draft)) -> BlockRefused {
    let (material, config) = raft();
    let mut block = material.block(7);
    assert!(verify_block(&config, CHANNEL, 7, &block.encode()).is_ok());
    alter(&material, &mut block);
    refusal(&config, &block)
}

fn nobody_signed() -> BlockRefused {
    let reason = PolicyRefused::ImplicitMeta {
        satisfied: 0,
        required: 1,
        sub_policy: "Writers".into(),
    };
    BlockRefused::Policy { number: 7, reason }
}

fn too_few(signers: usize) -> BlockRefused {
    BlockRefused::Policy {
        number: 7,
        reason: PolicyRefused::Signature { signers },
    }
}

fn wrong_data() -> BlockRefused {
    BlockRefused::DataHash {
        channel: CHANNEL.into(),
        number: 7,
    }
}

#[test]
fn a_good_block_tells_its_facts() {
    let (material, config) = raft();
    let mut block = material.block(7);
    let facts = verify_block(&config, CHANNEL, 7, &block.encode()).unwrap();
    assert_eq!(
        facts,
        VerifiedBlockFacts {
            number: 7,
            header_hash: block.hash(),
            previous_hash: vec![8; 32].into(),
            data_hash: block.header().data_hash.clone(),
            is_config: false,
            last_config_index: Some(0),
            transactions: 2,
        }
    );
    // The other orderer organization may sign too, and what a peer adds is not signed.
    block.sign(&[&material.other_orderer]);
    block.0.metadata.as_mut().unwrap().metadata[2] = Bytes::from_static(&[0, 254]);
    assert_eq!(
        verify_block(&config, CHANNEL, 7, &block.encode()),
        Ok(facts)
    );
}

#[test]
fn nt_2_3_wrong_number() {
    let (material, config) = raft();
    let block = material.block(7).encode();
    let refused = verify_block(&config, CHANNEL, 8, &block).unwrap_err();
    assert_eq!(
        refused,
        BlockRefused::Number {
            claimed: 8,
            actual: 7
        }
    );
}

#[test]
fn nt_2_3_other_channels_block() {
    let (material, config) = raft();
    let other = |named: &str, channel: &str| {
        let data = b"first".to_vec();
        let kind = HeaderType::EndorserTransaction;
        let transaction = material::transaction(kind, named, &material.peer1, data);
        let mut block = material::block(7, &[8; 32], [transaction]);
        block.sign(&[&material.orderers[0]]);
        verify_block(&config, channel, 7, &block.encode())
    };
    let refused = |channel: &str, named: &str| {
        Err(BlockRefused::OtherChannel {
            channel: channel.into(),
            named: named.into(),
            number: 7,
        })
    };
    assert!(other(CHANNEL, CHANNEL).is_ok());
    assert_eq!(
        other("otherchannel", CHANNEL),
        refused(CHANNEL, "otherchannel")
    );
    // The configuration of one channel says nothing about another's blocks.
    assert_eq!(
        other("otherchannel", "otherchannel"),
        refused("otherchannel", "otherchannel")
    );
    assert_eq!(
        other(CHANNEL, "otherchannel"),
        refused("otherchannel", CHANNEL)
    );
}

#[test]
fn nt_2_3_empty_data() {
    let empty = |reason| BlockRefused::NoChannel {
        channel: CHANNEL.into(),
        number: 7,
        reason,
    };
    let refused = altered(|material, block| {
        block.transactions().clear();
        block.hash_data();
        block.sign(&[&material.orderers[0]]);
    });
    assert_eq!(refused, empty(NoHead::NoTransaction));
    assert_eq!(
        altered(|_, block| block.0.data = None),
        empty(NoHead::NoTransaction)
    );
    let refused = altered(|_, block| block.transactions()[0] = Bytes::new());
    assert_eq!(refused, empty(NoHead::NoHeader));
}

#[test]
fn nt_2_3_altered_transaction() {
    let refused = altered(|_, block| {
        let mut transaction = block.transactions()[1].to_vec();
        *transaction.last_mut().unwrap() ^= 1;
        block.transactions()[1] = transaction.into();
    });
    assert_eq!(refused, wrong_data());
    assert_eq!(
        altered(|_, block| block.transactions().swap(0, 1)),
        wrong_data()
    );
    assert_eq!(
        altered(|_, block| drop(block.transactions().pop())),
        wrong_data()
    );
    // With the hash made to fit, the signature no longer does.
    let refused = altered(|_, block| {
        block.transactions().pop();
        block.hash_data();
    });
    assert_eq!(refused, nobody_signed());
}

#[test]
fn nt_2_3_altered_header() {
    let previous = altered(|_, block| block.header().previous_hash = vec![0; 32].into());
    assert_eq!(previous, nobody_signed());
    let data = altered(|_, block| block.header().data_hash = vec![0; 32].into());
    assert_eq!(data, wrong_data());
    let missing = altered(|_, block| block.0.header = None);
    assert_eq!(
        missing,
        BlockRefused::NoHeader {
            channel: CHANNEL.into()
        }
    );
    let (material, config) = raft();
    let mut block = material.block(7);
    block.header().number = 8;
    let refused = verify_block(&config, CHANNEL, 8, &block.encode()).unwrap_err();
    assert!(
        matches!(refused, BlockRefused::Policy { number: 8, .. }),
        "{refused}"
    );
}

#[test]
fn nt_2_3_altered_metadata_value() {
    let refused = altered(|_, block| {
        block.alter_signatures(|metadata| metadata.value = Bytes::from_static(b"\x0a\x02\x08\x05"));
    });
    assert_eq!(refused, nobody_signed());
}

#[test]
fn nt_2_3_altered_signature_header() {
    let refused = altered(|_, block| {
        block.alter_signatures(|metadata| {
            let mut header = metadata.signatures[0].signature_header.to_vec();
            *header.last_mut().unwrap() ^= 1;
            metadata.signatures[0].signature_header = header.into();
        });
    });
    assert_eq!(refused, nobody_signed());
}

#[test]
fn nt_2_3_malformed_signature_header_fails_the_whole_block() {
    let (material, config) = raft();
    let mut block = material.block(7);
    let good = |metadata: &mut tidings_proto::common::Metadata| {
        let mut bad = metadata.signatures[0].clone();
        bad.signature_header = Bytes::from_static(&[0xff]);
        metadata.signatures.push(bad);
    };
    block.alter_signatures(good);
    let refused = refusal(&config, &block);
    assert!(
        matches!(
            refused,
            BlockRefused::Signatures {
                part: "signature header",
                ..
            }
        ),
        "{refused}"
    );
    let mut block = material.block(7);
    block.0.metadata.as_mut().unwrap().metadata[0] = Bytes::from_static(&[0xff]);
    let refused = refusal(&config, &block);
    assert!(
        matches!(
            refused,
            BlockRefused::Signatures {
                part: "metadata",
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn nt_2_3_signature_by_an_application_org() {
    let refused = altered(|material, block| block.sign(&[&material.peer1, &material.admin1]));
    assert_eq!(refused, nobody_signed());
}

#[test]
fn nt_2_3_signature_by_a_stranger() {
    let stranger = material::Organization::new("OrdererA").member("orderer0", "orderer");
    assert_eq!(
        altered(|_, block| block.sign(&[&stranger])),
        nobody_signed()
    );
}

#[test]
fn nt_2_3_signature_by_an_orderer_removed_by_config() {
    let (material, before) = raft();
    let mut next = material.group();
    let orderer = tree::at(&mut next, &["Orderer"]);
    orderer.groups.remove(&material.orderer_b.key);
    orderer.version += 1;
    let other_admin = material.orderer_b.member("admin", "admin");
    let signers = [&material.orderer_admin, &other_admin];
    let update = material.update_block((0, &material.group()), &next, &signers);
    let after = before.apply(&update).unwrap();

    let mut block = material.block(7);
    block.sign(&[&material.other_orderer]);
    assert!(verify_block(&before, CHANNEL, 7, &block.encode()).is_ok());
    assert_eq!(refusal(&after, &block), nobody_signed());
    block.sign(&[&material.orderers[0]]);
    assert!(verify_block(&after, CHANNEL, 7, &block.encode()).is_ok());
}

#[test]
fn nt_2_3_empty_signature_list() {
    assert_eq!(altered(|_, block| block.sign(&[])), nobody_signed());
    let refused = altered(|_, block| {
        block.0.metadata.as_mut().unwrap().metadata[0] = Bytes::new();
    });
    assert_eq!(refused, nobody_signed());
}

#[test]
fn nt_2_3_no_metadata() {
    let expect = BlockRefused::NoMetadata {
        channel: CHANNEL.into(),
        number: 7,
    };
    assert_eq!(altered(|_, block| block.0.metadata = None), expect);
    assert_eq!(
        altered(|_, block| block.0.metadata.as_mut().unwrap().metadata.clear()),
        expect
    );
}

#[test]
fn too_many_signatures_are_not_looked_at() {
    let fill = |count: usize| {
        move |_: &Material, block: &mut Draft| {
            block.alter_signatures(|metadata| {
                let mut noise = metadata.signatures[0].clone();
                noise.signature = Bytes::from_static(b"noise");
                metadata.signatures = vec![noise; count];
            });
        }
    };
    assert_eq!(altered(fill(SIGNED_DATA_MAX)), nobody_signed());
    let reason = PolicyRefused::TooMany {
        got: SIGNED_DATA_MAX + 1,
    };
    assert_eq!(
        altered(fill(SIGNED_DATA_MAX + 1)),
        BlockRefused::Policy { number: 7, reason }
    );
}

/// The signed bytes hold the metadata's value once for each signature: a megabyte under a thousand
/// signatures is a gigabyte to hold and to hash, for a message a thousandth of that.
#[test]
fn a_large_value_under_many_signatures_is_not_looked_at() {
    let refused = altered(|_, block| {
        block.alter_signatures(|metadata| {
            let mut noise = metadata.signatures[0].clone();
            noise.signature = Bytes::from_static(b"noise");
            metadata.value = vec![0; 1 << 20].into();
            metadata.signatures = vec![noise; SIGNED_DATA_MAX];
        });
    });
    let reason = PolicyRefused::TooLong;
    assert_eq!(refused, BlockRefused::Policy { number: 7, reason });
}

/// A block whose second transaction is these bytes, hashed and signed as an orderer would.
fn with_second(bytes: Vec<u8>) -> Result<(), BlockRefused> {
    let (material, config) = raft();
    let mut block = material.block(7);
    block.transactions()[1] = bytes.into();
    block.hash_data();
    block.sign(&[&material.orderers[0]]);
    verify_block(&config, CHANNEL, 7, &block.encode()).map(drop)
}

#[test]
fn nt_3_8_transactions_in_another_form_are_refused() {
    let refused = |reason| {
        Err(BlockRefused::Transaction {
            number: 7,
            index: 1,
            reason,
        })
    };
    let envelope = |payload: &[u8], signature: &[u8]| {
        let (payload, signature) = (payload.to_vec().into(), signature.to_vec().into());
        Envelope { payload, signature }.encode_to_vec()
    };
    let good = envelope(b"p", b"s");
    let with = |parts: &[&[u8]]| with_second(parts.concat());
    assert_eq!(with(&[&good]), Ok(()));
    assert_eq!(
        with(&[&envelope(b"p", b"")]),
        refused(NotCanonical::Signature)
    );
    assert_eq!(
        with(&[&envelope(b"", b"s")]),
        refused(NotCanonical::Payload)
    );
    assert_eq!(with(&[]), refused(NotCanonical::Payload));
    // A duplicated field, swapped fields, a padded length.
    assert_eq!(
        with(&[&good, b"\x12\x01s"]),
        refused(NotCanonical::Repeated(2))
    );
    assert_eq!(
        with(&[b"\x12\x01s\x0a\x01p"]),
        refused(NotCanonical::Payload)
    );
    assert_eq!(
        with(&[b"\x0a\x81\x00p\x12\x01s"]),
        refused(NotCanonical::Padded(1))
    );
    // An unknown field before the payload, and one after the signature.
    assert_eq!(with(&[b"\x18\x01", &good]), refused(NotCanonical::Payload));
    assert_eq!(with(&[&good, b"\x18\x01"]), Ok(()));
    assert!(matches!(
        with(&[&good, b"\xff"]),
        Err(BlockRefused::Transaction {
            reason: NotCanonical::Malformed(_),
            ..
        })
    ));
}

#[test]
fn nt_3_8_transactions_split_differently_are_refused() {
    let refused = altered(|_, block| {
        // The concatenation and so the hash stay as they are.
        let whole: Vec<u8> = block.transactions().concat();
        *block.transactions() = vec![whole.into()];
    });
    let reason = NotCanonical::Repeated(1);
    assert_eq!(
        refused,
        BlockRefused::Transaction {
            number: 7,
            index: 0,
            reason
        }
    );
}

#[test]
fn the_one_transaction_of_a_configuration_block_may_have_any_form() {
    let (material, config) = raft();
    let kind = HeaderType::Config;
    let transaction = material::transaction(kind, CHANNEL, &material.orderers[0], vec![1]);
    let padded = [&transaction[..], b"\x98\x00\x01"].concat();
    let judge = |transactions: Vec<Bytes>| {
        let mut block = material::block(7, &[8; 32], transactions);
        block.sign(&[&material.orderers[0]]);
        verify_block(&config, CHANNEL, 7, &block.encode())
    };
    assert!(judge(vec![padded.clone().into()]).unwrap().is_config);
    let refused = judge(vec![transaction, padded.into()]).unwrap_err();
    assert!(
        matches!(refused, BlockRefused::Transaction { index: 1, .. }),
        "{refused}"
    );
}

/// Every reason for which a block that arrives by gossip is dropped.
#[test]
fn s_c6_a_block_that_is_not_the_orderers_is_refused() {
    let (material, config) = raft();
    let judge = |bytes: &[u8]| verify_block(&config, CHANNEL, 7, &Bytes::copy_from_slice(bytes));
    assert_eq!(
        judge(&[]).unwrap_err(),
        BlockRefused::NoHeader {
            channel: CHANNEL.into()
        }
    );
    assert!(matches!(
        judge(&[0xff; 20]),
        Err(BlockRefused::Malformed(_))
    ));
    let block = material.block(7).encode();
    assert!(judge(&block).is_ok());
    assert!(judge(&block[..block.len() - 1]).is_err());
    // No single bit of what is signed may change: header, transactions, signed metadata.
    let first = BlockView::parse(block.clone())
        .unwrap()
        .metadata()
        .next()
        .unwrap();
    let protected = first.as_ptr() as usize - block.as_ptr() as usize + first.len();
    for at in 0..protected {
        let mut bytes = block.to_vec();
        bytes[at] ^= 1 << (at % 8);
        assert!(judge(&bytes).is_err(), "a bit of byte {at} flipped");
    }
}

fn signed_by_number(material: &Material, signers: &[(u32, usize)]) -> Draft {
    let mut block = material.block(7);
    let signers: Vec<(u32, &Member)> = signers
        .iter()
        .map(|(id, index)| (*id, &material.orderers[*index]))
        .collect();
    block.sign_by_number(&signers);
    block
}

#[test]
fn an_attestation_is_header_and_signatures_only() {
    let (material, config) = bft();
    let mut block = signed_by_number(&material, &[(1, 0), (2, 1), (3, 2)]);
    block.0.data = None;
    let facts = verify_attestation(&config, &block.encode()).unwrap();
    let header_hash = block.hash();
    let previous_hash = vec![8; 32].into();
    assert_eq!(
        facts,
        AttestationFacts {
            number: 7,
            header_hash,
            previous_hash
        }
    );

    let judge = |block: &Draft| verify_attestation(&config, &block.encode()).unwrap_err();
    let mut other = block.clone();
    other.header().data_hash = vec![1; 32].into();
    assert_eq!(judge(&other), too_few(0));
    let mut other = block.clone();
    other.0.metadata = None;
    assert_eq!(
        judge(&other),
        BlockRefused::NoMetadata {
            channel: CHANNEL.into(),
            number: 7
        }
    );
    let mut other = block.clone();
    other.0.header = None;
    assert_eq!(
        judge(&other),
        BlockRefused::NoHeader {
            channel: CHANNEL.into()
        }
    );
    block.alter_signatures(|metadata| drop(metadata.signatures.pop()));
    assert_eq!(judge(&block), too_few(2));
}

#[test]
fn the_last_configuration_is_read_from_what_is_signed_first() {
    let material = Material::new();
    let mut block = material.block(7);
    let older = |index: u8| {
        let last = tidings_proto::common::LastConfig {
            index: index.into(),
        };
        let metadata = tidings_proto::common::Metadata {
            value: last.encode_to_vec().into(),
            signatures: vec![],
        };
        Bytes::from(metadata.encode_to_vec())
    };
    let read = |block: &Draft| block::last_config_index(&BlockView::parse(block.encode()).unwrap());
    block.0.metadata.as_mut().unwrap().metadata[1] = older(5);
    assert_eq!(read(&block), Some(0));
    block.alter_signatures(|metadata| metadata.value = Bytes::new());
    assert_eq!(read(&block), Some(5));
    block.alter_signatures(|metadata| metadata.value = Bytes::from_static(&[0xff]));
    assert_eq!(read(&block), None);
    block.0.metadata = None;
    assert_eq!(read(&block), None);
}
