//! The block walker against blocks that the codec wrote, and against what Go makes of odd ones.

use prost::Message;

use super::*;
use crate::common::{Block, BlockData, BlockMetadata, ChannelHeader, Envelope, Header, Payload};

fn envelope(channel_header: &ChannelHeader) -> Bytes {
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: Bytes::new(),
    };
    let payload = Payload {
        header: Some(header),
        data: Bytes::from_static(b"data"),
    };
    let payload = payload.encode_to_vec().into();
    Envelope {
        payload,
        signature: Bytes::from_static(b"sig"),
    }
    .encode_to_vec()
    .into()
}

fn transaction(header_type: HeaderType, tx_id: &str) -> Bytes {
    envelope(&ChannelHeader {
        r#type: header_type as i32,
        channel_id: "mychannel".into(),
        tx_id: tx_id.into(),
        timestamp: Some(prost_types::Timestamp {
            seconds: 5,
            nanos: 6,
        }),
        ..Default::default()
    })
}

fn block(transactions: Vec<Bytes>) -> Block {
    Block {
        header: Some(BlockHeader {
            number: 7,
            previous_hash: Bytes::from_static(b"previous"),
            data_hash: Bytes::from_static(b"data hash"),
        }),
        data: Some(BlockData { data: transactions }),
        metadata: Some(BlockMetadata {
            metadata: vec![Bytes::from_static(b"m"), Bytes::new()],
        }),
    }
}

fn view(block: &Block) -> BlockView {
    BlockView::parse(block.encode_to_vec().into()).unwrap()
}

#[test]
fn a_view_shows_every_part_of_the_block() {
    let transactions = vec![
        transaction(HeaderType::EndorserTransaction, "a"),
        transaction(HeaderType::EndorserTransaction, "b"),
    ];
    let block = block(transactions.clone());
    let view = view(&block);
    assert_eq!(view.header(), block.header.as_ref());
    assert_eq!(view.number(), Some(7));
    assert_eq!(view.transactions().collect::<Vec<_>>(), transactions);
    assert_eq!(view.transactions_len(), 2);
    assert_eq!(
        view.metadata().collect::<Vec<_>>(),
        block.metadata.unwrap().metadata
    );
    assert_eq!(view.metadata_len(), 2);
    assert_eq!(view.channel_id().as_deref(), Ok("mychannel"));
    assert!(!view.is_config_block());
}

#[test]
fn parts_are_slices_of_the_block_and_no_copies() {
    let view = view(&block(vec![transaction(HeaderType::Config, "")]));
    let within = view.bytes().as_ptr_range();
    let first = view.transactions().next().unwrap();
    let hash = &view.header().unwrap().data_hash;
    assert!(within.contains(&first.as_ptr()) && within.contains(&hash.as_ptr()));
}

#[test]
fn a_config_block_has_one_transaction_of_type_config() {
    let config = || transaction(HeaderType::Config, "");
    assert!(view(&block(vec![config()])).is_config_block());
    assert!(!view(&block(vec![])).is_config_block());
    assert!(!view(&block(vec![config(), config()])).is_config_block());
    let old = transaction(HeaderType::OrdererTransaction, "");
    assert!(!view(&block(vec![old])).is_config_block());
    assert!(!view(&block(vec![Bytes::from_static(&[0xff])])).is_config_block());
}

#[test]
fn missing_parts_are_nothing_rather_than_empty() {
    let view = BlockView::parse(Bytes::new()).unwrap();
    assert_eq!((view.header(), view.header_asn1()), (None, None));
    assert_eq!(view.channel_id(), Err(NoHead::NoTransaction));
    let no_header = Envelope {
        payload: Bytes::new(),
        signature: Bytes::from_static(b"s"),
    };
    assert_eq!(
        TransactionHead::parse(&no_header.encode_to_vec()),
        Err(NoHead::NoHeader)
    );
}

#[test]
fn repeated_parts_merge() {
    let first = block(vec![transaction(HeaderType::EndorserTransaction, "a")]);
    let second = Block {
        header: Some(BlockHeader {
            number: 8,
            ..Default::default()
        }),
        data: Some(BlockData {
            data: vec![transaction(HeaderType::EndorserTransaction, "b")],
        }),
        metadata: None,
    };
    let bytes = Bytes::from([first.encode_to_vec(), second.encode_to_vec()].concat());
    let view = BlockView::parse(bytes.clone()).unwrap();
    let merged = Block::decode(bytes).unwrap();
    assert_eq!(view.header(), merged.header.as_ref());
    assert_eq!(
        view.transactions().collect::<Vec<_>>(),
        merged.data.unwrap().data
    );
}

#[test]
fn fields_of_the_wrong_wire_type_are_passed_over_as_in_go() {
    let good = block(vec![transaction(HeaderType::EndorserTransaction, "a")]);
    let bytes = [
        good.encode_to_vec(),
        vec![0x08, 0x01, 0x13, 0x14, 0xf8, 0x07, 0x01],
    ]
    .concat();
    let odd = BlockView::parse(bytes.into()).unwrap();
    assert_eq!(odd.header(), good.header.as_ref());
    assert_eq!(odd.transactions_len(), 1);
}

#[test]
fn a_string_that_is_not_utf8_spoils_the_head() {
    let mut bytes = transaction(HeaderType::EndorserTransaction, "abc").to_vec();
    let at = bytes
        .windows(3)
        .position(|window| window == b"abc")
        .unwrap();
    bytes[at] = 0xff;
    assert_eq!(
        TransactionHead::parse(&bytes),
        Err(NoHead::Malformed(Malformed::Utf8))
    );
}

#[test]
fn a_header_type_is_the_low_half_of_its_varint() {
    // Channel header with type 2^32 + 3.
    let channel_header = [0x08, 0x83, 0x80, 0x80, 0x80, 0x10];
    let head = TransactionHead::of_channel_header(&channel_header).unwrap();
    assert_eq!(head.header_type, 3);
    assert_eq!(
        ChannelHeader::decode(&channel_header[..]).unwrap().r#type,
        3
    );
}

#[test]
fn header_asn1_has_minimal_integers_and_lengths() {
    let check = |number, expect: &str| {
        assert_eq!(
            hex::encode(header_asn1(number, &[], &[0x11, 0x11])),
            expect,
            "{number}"
        );
    };
    check(0, "3009020100040004021111");
    check(127, "300902017f040004021111");
    check(128, "300a02020080040004021111");
    check(255, "300a020200ff040004021111");
    check(256, "300a02020100040004021111");
    check(u64::MAX, "3011020900ffffffffffffffff040004021111");
    let long = header_asn1(1, &[0; 200], &[0; 70_000]);
    assert_eq!(hex::encode(&long[..5]), "3083011243");
    assert_eq!(hex::encode(&long[5..11]), "0201010481c8");
    assert_eq!(hex::encode(&long[211..216]), "0483011170");
    assert_eq!(long.len(), 216 + 70_000);
}
