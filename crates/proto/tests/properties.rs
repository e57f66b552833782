//! What holds for all bytes: walkers do not panic, and agree with the codec where it is able.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tidings_proto::{
    Message,
    block::{BlockView, TransactionHead},
    canonical::CanonicalEnvelope,
    common::{
        Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, Payload,
    },
    envelope::Opened,
    gossip::{GossipMessage, PullMsgType, gossip_message::Content},
    tag::check_tag,
};

fn bytes(len_max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=len_max).prop_map(Bytes::from)
}

/// Bytes that look like fields more often than chance makes them.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let field = (0_u8..4, 0_u8..8, vec(any::<u8>(), 0..6), any::<bool>()).prop_map(
        |(number, wire_type, value, padded)| {
            let tag = number << 3 | wire_type;
            let mut field = if padded {
                vec![tag | 0x80, 0]
            } else {
                vec![tag]
            };
            if wire_type == 2 {
                field.push(u8::try_from(value.len()).expect("six at most"));
            }
            field.extend(value);
            field
        },
    );
    vec(field, 0..6).prop_map(|fields| fields.concat())
}

fn block() -> impl Strategy<Value = Block> {
    let header =
        (any::<u64>(), bytes(40), bytes(40)).prop_map(|(number, previous_hash, data_hash)| {
            BlockHeader {
                number,
                previous_hash,
                data_hash,
            }
        });
    let list = || vec(bytes(300), 0..8);
    (
        proptest::option::of(header),
        proptest::option::of(list()),
        proptest::option::of(list()),
    )
        .prop_map(|(header, data, metadata)| Block {
            header,
            data: data.map(|data| BlockData { data }),
            metadata: metadata.map(|metadata| BlockMetadata { metadata }),
        })
}

fn agree(view: &BlockView, block: Block) {
    assert_eq!(view.header(), block.header.as_ref());
    let transactions = block.data.unwrap_or_default().data;
    assert_eq!(view.transactions_len(), transactions.len());
    assert_eq!(view.transactions().collect::<Vec<_>>(), transactions);
    let metadata = block.metadata.unwrap_or_default().metadata;
    assert_eq!(view.metadata_len(), metadata.len());
    assert_eq!(view.metadata().collect::<Vec<_>>(), metadata);
}

/// What the codec makes of a transaction envelope, for the parts that a head shows.
fn head_by_codec(envelope: &[u8]) -> Option<(i32, String, String)> {
    let payload = Payload::decode(Envelope::decode(envelope).ok()?.payload).ok()?;
    let header = ChannelHeader::decode(payload.header?.channel_header).ok()?;
    Some((header.r#type, header.channel_id, header.tx_id))
}

fn check_head(envelope: &[u8]) {
    let head = TransactionHead::parse(envelope);
    if let Some((header_type, channel_id, tx_id)) = head_by_codec(envelope) {
        let head = head.expect("the codec reads it");
        assert_eq!(
            (head.header_type, head.channel_id, head.tx_id),
            (header_type, &*channel_id, &*tx_id)
        );
    }
}

proptest! {
    #[test]
    fn canonical_is_what_the_codec_writes_back(envelope in fields()) {
        let canonical = CanonicalEnvelope::parse(&envelope);
        if let Ok(decoded) = Envelope::decode(&*envelope) {
            let known_only = decoded.encode_to_vec() == envelope;
            let filled = !decoded.payload.is_empty() && !decoded.signature.is_empty();
            if known_only {
                prop_assert_eq!(canonical.is_ok(), filled);
            }
            if let Ok(canonical) = canonical {
                prop_assert!(filled);
                prop_assert_eq!(canonical.payload(), &*decoded.payload);
                prop_assert_eq!(canonical.signature(), &*decoded.signature);
                // What stands behind the two is unknown to the codec, which drops it.
                prop_assert!(envelope.starts_with(&decoded.encode_to_vec()));
            }
        }
    }

    #[test]
    fn an_envelope_without_unknown_fields_is_canonical(payload in bytes(300), signature in bytes(80)) {
        let filled = !payload.is_empty() && !signature.is_empty();
        let envelope = Envelope { payload, signature }.encode_to_vec();
        prop_assert_eq!(CanonicalEnvelope::parse(&envelope).is_ok(), filled);
    }

    #[test]
    fn a_changed_length_or_cut_never_panics(envelope in bytes(200), cut in any::<prop::sample::Index>()) {
        let whole = Envelope { payload: envelope.clone(), signature: envelope }.encode_to_vec();
        let _ = CanonicalEnvelope::parse(&whole[..cut.index(whole.len() + 1)]);
    }

    #[test]
    fn a_view_shows_what_the_codec_decodes(block in block()) {
        agree(&BlockView::parse(block.encode_to_vec().into()).unwrap(), block);
    }

    #[test]
    fn walking_never_panics_and_reads_whatever_the_codec_reads(
        bytes in prop_oneof![fields(), vec(any::<u8>(), 0..200)]
    ) {
        check_head(&bytes);
        let view = BlockView::parse(bytes.clone().into());
        if let Ok(block) = Block::decode(&*bytes) {
            agree(view.as_ref().unwrap(), block);
        }
        if let Ok(view) = view {
            let _ = (view.channel_id(), view.is_config_block(), view.header_asn1());
        }
    }

    #[test]
    fn a_head_is_what_the_codec_decodes(
        header_type in any::<i32>(), channel_id in ".{0,8}", tx_id in ".{0,8}", signature in bytes(4)
    ) {
        let channel_header =
            ChannelHeader { r#type: header_type, channel_id, tx_id, ..Default::default() };
        let channel_header = channel_header.encode_to_vec().into();
        let header = Some(Header { channel_header, signature_header: signature.clone() });
        let payload = Payload { header, data: Bytes::new() }.encode_to_vec().into();
        let envelope = Envelope { payload, signature }.encode_to_vec();
        assert!(TransactionHead::parse(&envelope).is_ok());
        check_head(&envelope);
    }

    #[test]
    fn any_frame_and_any_message_gets_a_verdict(frame in prop_oneof![fields(), vec(any::<u8>(), 0..100)]) {
        if let Ok(message) = GossipMessage::decode(&*frame) {
            let _ = check_tag(&message);
        }
        if let Ok(opened) = Opened::decode(frame.into()) {
            let _ = check_tag(opened.message());
            prop_assert_eq!(&opened.clone().into_parts().0, opened.envelope());
        }
    }

    #[test]
    fn a_pull_message_is_legal_with_one_tag_at_most(tag in any::<i32>(), msg_type in any::<i32>()) {
        let hello = tidings_proto::gossip::GossipHello { msg_type, ..Default::default() };
        let message = GossipMessage { tag, content: Some(Content::Hello(hello)), ..Default::default() };
        let legal = (tag == 4 && msg_type == PullMsgType::BlockMsg as i32)
            || (tag == 1 && msg_type == PullMsgType::IdentityMsg as i32);
        prop_assert_eq!(check_tag(&message).is_ok(), legal);
    }
}
