//! What holds for all bytes: walkers do not panic, and agree with the codec where it is able.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tidings_proto::{
    Message,
    block::{BlockView, EndorsedTransaction, TransactionHead},
    canonical::CanonicalEnvelope,
    common::{
        Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, HeaderType,
        Payload,
    },
    envelope::Opened,
    gossip::{GossipMessage, PullMsgType, gossip_message::Content},
    kvrwset::{HashedRwSet, KvWrite, KvWriteHash, KvrwSet},
    protos::{
        ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, Endorsement,
        ProposalResponsePayload, Transaction, TransactionAction,
    },
    rwset::{CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet},
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

/// A read-write set whose serialized parts may be anything.
fn results() -> impl Strategy<Value = TxReadWriteSet> {
    let hashed = vec((bytes(4), any::<bool>(), bytes(4)), 0..3).prop_map(|writes| {
        let of = |(key_hash, is_delete, value_hash)| KvWriteHash {
            key_hash,
            is_delete,
            value_hash,
            is_purge: is_delete,
        };
        HashedRwSet {
            hashed_writes: writes.into_iter().map(of).collect(),
            ..Default::default()
        }
    });
    let hashed = prop_oneof![
        9 => hashed.prop_map(|set| set.encode_to_vec()),
        1 => fields(),
    ];
    let collection =
        ("[ab]", hashed, bytes(4)).prop_map(|(name, hashed, hash)| CollectionHashedReadWriteSet {
            collection_name: name,
            hashed_rwset: hashed.into(),
            pvt_rwset_hash: hash,
        });
    let public = vec(("[kl]", any::<bool>(), bytes(3)), 0..3).prop_map(|writes| {
        let of = |(key, is_delete, value)| KvWrite {
            key,
            is_delete,
            value,
        };
        KvrwSet {
            writes: writes.into_iter().map(of).collect(),
            ..Default::default()
        }
    });
    let public = prop_oneof![
        9 => public.prop_map(|set| set.encode_to_vec()),
        1 => fields(),
    ];
    let namespace = ("[xy]", public, vec(collection, 0..3)).prop_map(
        |(namespace, public, collection_hashed_rwset)| NsReadWriteSet {
            namespace,
            rwset: public.into(),
            collection_hashed_rwset,
        },
    );
    vec(namespace, 0..3).prop_map(|ns_rwset| TxReadWriteSet {
        data_model: 0,
        ns_rwset,
    })
}

fn endorsed(results: &TxReadWriteSet, endorsers: Vec<Bytes>) -> Bytes {
    let extension = ChaincodeAction {
        results: results.encode_to_vec().into(),
        // Nothing at all would be no action.
        events: Bytes::from_static(b"events"),
        ..Default::default()
    };
    let response = ProposalResponsePayload {
        proposal_hash: Bytes::new(),
        extension: extension.encode_to_vec().into(),
    };
    let endorsements = endorsers.into_iter().map(|endorser| Endorsement {
        endorser,
        signature: Bytes::new(),
    });
    let action = ChaincodeEndorsedAction {
        proposal_response_payload: response.encode_to_vec().into(),
        endorsements: endorsements.collect(),
    };
    let payload = ChaincodeActionPayload {
        action: Some(action),
        ..Default::default()
    };
    let actions = vec![TransactionAction {
        header: Bytes::new(),
        payload: payload.encode_to_vec().into(),
    }];
    let channel_header = ChannelHeader {
        r#type: HeaderType::EndorserTransaction as i32,
        ..Default::default()
    };
    let header = Some(Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: Bytes::new(),
    });
    let data = Transaction { actions }.encode_to_vec().into();
    let payload = Payload { header, data }.encode_to_vec().into();
    let signature = Bytes::new();
    Envelope { payload, signature }.encode_to_vec().into()
}

/// Public writes in one namespace, and hashed sets by namespace and collection.
#[derive(Default)]
struct Writes {
    public: Vec<KvWrite>,
    private: Vec<(String, HashedRwSet)>,
}

fn writes_by_codec(results: &TxReadWriteSet) -> Option<Writes> {
    let Writes {
        mut public,
        mut private,
    } = Writes::default();
    for namespace in &results.ns_rwset {
        let set = KvrwSet::decode(namespace.rwset.clone()).ok()?;
        if namespace.namespace == "x" {
            public.extend(set.writes);
        }
        for collection in &namespace.collection_hashed_rwset {
            let set = HashedRwSet::decode(collection.hashed_rwset.clone()).ok()?;
            let name = format!("{}/{}", namespace.namespace, collection.collection_name);
            if !private.iter().any(|(known, _)| *known == name) {
                private.push((name, set));
            }
        }
    }
    Some(Writes { public, private })
}

proptest! {
    #[test]
    fn an_endorsed_transaction_is_read_as_the_codec_decodes_it(
        results in results(), endorsers in vec(bytes(3), 0..3)
    ) {
        let envelope = endorsed(&results, endorsers.clone());
        let transaction = EndorsedTransaction::parse(&envelope);
        // What the codec refuses, a field of the wrong wire type, may be an unknown field to Go.
        if let Some(Writes { public, private }) = writes_by_codec(&results) {
            let transaction = transaction.unwrap();
            let seen = transaction.public_writes(7, "x");
            prop_assert_eq!(seen.len(), public.len());
            for (seen, write) in seen.iter().zip(public) {
                let deleted = write.is_delete || write.value.is_empty();
                prop_assert_eq!(&seen.key, &write.key);
                prop_assert_eq!(&seen.value, &(!deleted).then_some(write.value));
            }
            let seen = transaction.private_writes(7);
            prop_assert_eq!(seen.len(), private.len());
            for (seen, (name, set)) in seen.iter().zip(private) {
                prop_assert_eq!(format!("{}/{}", seen.namespace, seen.collection), name);
                prop_assert_eq!(seen.has_writes, !set.hashed_writes.is_empty() || !set.metadata_writes.is_empty());
                prop_assert_eq!(&*seen.endorsers, &*endorsers);
                let keys: Vec<_> = seen.hashed_writes().map(|write| (write.key_hash, write.is_purge)).collect();
                let expect: Vec<_> =
                    set.hashed_writes.into_iter().map(|write| (write.key_hash, write.is_purge)).collect();
                prop_assert_eq!(keys, expect);
            }
        }
    }

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
            let _ = (view.private_writes().count(), view.claimed_codes());
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
