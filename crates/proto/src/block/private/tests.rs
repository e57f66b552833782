//! Private and public writes of blocks that the codec wrote, and of odd ones.

use prost::Message;

use super::*;
use crate::{
    block::{NotEndorsed, PUBLIC_WRITES_MAX, TRANSACTION_COLLECTIONS_MAX, code_name, type_name},
    common::{
        Block, BlockData, BlockMetadata, ChannelHeader, Envelope, Header, HeaderType, Payload,
    },
    kvrwset::{
        HashedRwSet, KvMetadataWrite, KvMetadataWriteHash, KvRead, KvReadHash, KvWrite,
        KvWriteHash, KvrwSet, Version,
    },
    protos::{
        ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeEvent,
        ChaincodeId, ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload,
        ChaincodeSpec, Endorsement, ProposalResponsePayload, Response, Transaction,
        TransactionAction,
    },
    rwset::{CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet},
    wire::Malformed,
};

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn write(key: &str, value: &str) -> KvWrite {
    KvWrite {
        key: key.into(),
        is_delete: false,
        value: value.to_owned().into(),
    }
}

fn collection(name: &str, hashed: &HashedRwSet) -> CollectionHashedReadWriteSet {
    CollectionHashedReadWriteSet {
        collection_name: name.into(),
        hashed_rwset: bytes(hashed),
        pvt_rwset_hash: format!("hash of {name}").into(),
    }
}

fn write_hash(key: &'static str, value: &'static str) -> KvWriteHash {
    KvWriteHash {
        key_hash: key.into(),
        value_hash: value.into(),
        ..Default::default()
    }
}

fn writing(name: &str) -> CollectionHashedReadWriteSet {
    let hashed_writes = vec![write_hash("k", "v")];
    collection(
        name,
        &HashedRwSet {
            hashed_writes,
            ..Default::default()
        },
    )
}

fn namespace(
    name: &str,
    writes: Vec<KvWrite>,
    collections: Vec<CollectionHashedReadWriteSet>,
) -> NsReadWriteSet {
    NsReadWriteSet {
        namespace: name.into(),
        rwset: bytes(&KvrwSet {
            writes,
            ..Default::default()
        }),
        collection_hashed_rwset: collections,
    }
}

fn results(namespaces: Vec<NsReadWriteSet>) -> Bytes {
    bytes(&TxReadWriteSet {
        data_model: 0,
        ns_rwset: namespaces,
    })
}

fn chaincode_action(results: Bytes) -> ChaincodeAction {
    ChaincodeAction {
        results,
        response: Some(Response {
            status: 200,
            message: "fine".into(),
            payload: Bytes::new(),
        }),
        chaincode_id: Some(ChaincodeId {
            name: "cc".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn action_payload(extension: Bytes) -> ChaincodeActionPayload {
    let endorsement = |name: &'static str| Endorsement {
        endorser: name.into(),
        signature: "good".into(),
    };
    ChaincodeActionPayload {
        chaincode_proposal_payload: "proposal".into(),
        action: Some(ChaincodeEndorsedAction {
            proposal_response_payload: bytes(&ProposalResponsePayload {
                proposal_hash: "its hash".into(),
                extension,
            }),
            endorsements: vec![endorsement("one"), endorsement("two")],
        }),
    }
}

fn of_actions(header_type: HeaderType, payloads: &[Bytes]) -> Bytes {
    let actions = payloads
        .iter()
        .map(|payload| TransactionAction {
            header: "who".into(),
            payload: payload.clone(),
        })
        .collect();
    let channel_header = ChannelHeader {
        r#type: header_type as i32,
        channel_id: "mychannel".into(),
        tx_id: "an id".into(),
        ..Default::default()
    };
    let header = Some(Header {
        channel_header: bytes(&channel_header),
        signature_header: Bytes::new(),
    });
    let data = bytes(&Transaction { actions });
    bytes(&Envelope {
        payload: bytes(&Payload { header, data }),
        signature: "sig".into(),
    })
}

fn endorsed(results: Bytes) -> Bytes {
    let payload = bytes(&action_payload(bytes(&chaincode_action(results))));
    of_actions(HeaderType::EndorserTransaction, &[payload])
}

fn view(transactions: Vec<Bytes>, metadata: Vec<Bytes>) -> BlockView {
    let block = Block {
        header: None,
        data: Some(BlockData { data: transactions }),
        metadata: Some(BlockMetadata { metadata }),
    };
    BlockView::parse(bytes(&block)).unwrap()
}

/// `tx namespace/collection`, with `-` behind what is only read.
fn private(view: &BlockView) -> Vec<String> {
    let name = |set: PrivateWrites| {
        let reads = if set.has_writes { "" } else { "-" };
        format!("{} {}/{}{reads}", set.tx, set.namespace, set.collection)
    };
    view.private_writes().map(name).collect()
}

fn public(view: &BlockView, namespace: &str) -> Vec<String> {
    let name = |write: PublicWrite| {
        let value = write
            .value
            .map(|value| String::from_utf8_lossy(&value).into_owned());
        format!("{} {}={value:?}", write.tx, write.key)
    };
    view.public_writes(namespace).map(name).collect()
}

#[test]
fn private_writes_are_those_of_every_collection_in_order() {
    let reading = HashedRwSet {
        hashed_reads: vec![KvReadHash {
            key_hash: "k".into(),
            version: Some(Version {
                block_num: 1,
                tx_num: 2,
            }),
        }],
        ..Default::default()
    };
    let metadata = HashedRwSet {
        metadata_writes: vec![KvMetadataWriteHash::default()],
        ..Default::default()
    };
    let first = results(vec![
        namespace("a", vec![], vec![writing("x"), collection("y", &reading)]),
        namespace("b", vec![], vec![collection("x", &metadata)]),
    ]);
    let view = view(
        vec![
            endorsed(first),
            of_actions(HeaderType::Config, &[]),
            endorsed(results(vec![namespace("a", vec![], vec![writing("z")])])),
        ],
        vec![],
    );
    assert_eq!(private(&view), ["0 a/x", "0 a/y-", "0 b/x", "2 a/z"]);
    let first = view.private_writes().next().unwrap();
    assert_eq!(&*first.tx_id, "an id");
    assert_eq!(first.hash, "hash of x");
    assert_eq!(
        *first.endorsers,
        [Bytes::from_static(b"one"), Bytes::from_static(b"two")]
    );
    let within = view.bytes().as_ptr_range();
    assert!(within.contains(&first.hash.as_ptr()) && within.contains(&first.hashed.as_ptr()));
}

#[test]
fn hashed_writes_tell_deletions_and_purges() {
    let delete = |is_delete, value: &'static [u8]| KvWriteHash {
        key_hash: "k".into(),
        is_delete,
        value_hash: value.into(),
        is_purge: false,
    };
    let purge = KvWriteHash {
        is_delete: true,
        is_purge: true,
        ..write_hash("p", "")
    };
    let hashed_writes = vec![
        write_hash("k", "v"),
        delete(true, b"v"),
        delete(false, b""),
        delete(false, &HASH_OF_NOTHING),
        purge,
    ];
    let set = collection(
        "x",
        &HashedRwSet {
            hashed_writes,
            ..Default::default()
        },
    );
    let view = view(
        vec![endorsed(results(vec![namespace("a", vec![], vec![set])]))],
        vec![],
    );
    let set = view.private_writes().next().unwrap();
    let seen: Vec<_> = set
        .hashed_writes()
        .map(|write| (write.key_hash, write.value_hash, write.is_purge))
        .collect();
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let deleted = (key.clone(), None, false);
    assert_eq!(
        seen,
        [
            (key, Some(value), false),
            deleted.clone(),
            deleted.clone(),
            deleted,
            ("p".into(), None, true)
        ]
    );
}

#[test]
fn of_a_collection_named_twice_the_first_counts() {
    let twice = CollectionHashedReadWriteSet {
        pvt_rwset_hash: "another".into(),
        ..writing("x")
    };
    let view = view(
        vec![endorsed(results(vec![
            namespace("a", vec![], vec![writing("x"), twice.clone()]),
            namespace("a", vec![], vec![twice, writing("y")]),
        ]))],
        vec![],
    );
    assert_eq!(private(&view), ["0 a/x", "0 a/y"]);
    assert_eq!(view.private_writes().next().unwrap().hash, "hash of x");
}

#[test]
fn public_writes_are_those_of_one_namespace() {
    let deleted = KvWrite {
        is_delete: true,
        ..write("gone", "v")
    };
    let writes = vec![write("k", "v"), deleted, write("empty", "")];
    let first = results(vec![
        namespace("other", vec![write("no", "v")], vec![]),
        namespace("a", writes, vec![writing("x")]),
    ]);
    let second = results(vec![namespace("a", vec![write("k", "w")], vec![])]);
    let view = view(vec![endorsed(first), endorsed(second)], vec![]);
    assert_eq!(
        public(&view, "a"),
        [
            "0 k=Some(\"v\")",
            "0 gone=None",
            "0 empty=None",
            "1 k=Some(\"w\")"
        ]
    );
    assert_eq!(public(&view, "nobody"), [""; 0]);
}

#[test]
fn an_endorsed_transaction_shows_what_was_signed_by_whom() {
    let read = KvrwSet {
        reads: vec![KvRead::default()],
        ..Default::default()
    };
    let metadata = KvrwSet {
        metadata_writes: vec![KvMetadataWrite::default()],
        ..Default::default()
    };
    let of = |name: &str, set: &KvrwSet| NsReadWriteSet {
        namespace: name.into(),
        rwset: bytes(set),
        collection_hashed_rwset: vec![],
    };
    let envelope = endorsed(results(vec![
        of("read", &read),
        of("metadata", &metadata),
        namespace("public", vec![write("k", "v")], vec![]),
        namespace("private", vec![], vec![writing("x")]),
    ]));
    let transaction = EndorsedTransaction::parse(&envelope).unwrap();
    assert_eq!(transaction.envelope(), &envelope);
    assert_eq!(
        (transaction.channel_id(), transaction.tx_id()),
        ("mychannel", "an id")
    );
    assert_eq!(transaction.actions_len(), 1);
    assert_eq!(transaction.action_header(), "who");
    assert_eq!(transaction.proposal(), b"proposal");
    assert_eq!(transaction.proposal_hash(), b"its hash");
    let payload = ProposalResponsePayload::decode(transaction.response_payload().clone()).unwrap();
    assert_eq!(payload.proposal_hash, "its hash");
    let endorsements: Vec<_> = transaction
        .endorsements()
        .map(|endorsement| (endorsement.endorser, endorsement.signature))
        .collect();
    assert_eq!(
        endorsements,
        [("one".into(), "good".into()), ("two".into(), "good".into())]
    );
    let namespaces: Vec<_> = transaction
        .namespaces()
        .map(|namespace| (namespace.name, namespace.is_written))
        .collect();
    assert_eq!(
        namespaces,
        [
            ("read", false),
            ("metadata", true),
            ("public", true),
            ("private", true)
        ]
    );
}

#[test]
fn a_transaction_with_a_part_that_does_not_decode_has_no_writes_at_all() {
    use Malformed::{Truncated, Utf8};
    let broken = Bytes::from_static(&[0x0a, 0x05]);
    let good = || namespace("a", vec![write("k", "v")], vec![writing("x")]);
    let of_namespace = |bad: NsReadWriteSet| endorsed(results(vec![good(), bad]));
    let spoilt = |part: &str| {
        let text = results(vec![namespace(
            "zzz",
            vec![write("yyy", "")],
            vec![writing("www")],
        )]);
        let at = text
            .windows(3)
            .position(|window| window == part.as_bytes())
            .unwrap();
        let mut bytes = text.to_vec();
        bytes[at] = 0xff;
        endorsed(bytes.into())
    };
    let in_namespace = |rwset| NsReadWriteSet {
        rwset,
        ..Default::default()
    };
    let in_collection = |hashed_rwset| CollectionHashedReadWriteSet {
        hashed_rwset,
        ..Default::default()
    };
    let with = |extension| bytes(&action_payload(extension));
    let endorser = HeaderType::EndorserTransaction;
    let cases: Vec<(Bytes, NotEndorsed)> = vec![
        (of_namespace(in_namespace(broken.clone())), Truncated.into()),
        (
            of_namespace(namespace("", vec![], vec![in_collection(broken.clone())])),
            Truncated.into(),
        ),
        (spoilt("zzz"), Utf8.into()),
        (spoilt("yyy"), Utf8.into()),
        (spoilt("www"), Utf8.into()),
        (endorsed(broken.clone()), Truncated.into()),
        (
            of_actions(endorser, &[with(broken.clone())]),
            Truncated.into(),
        ),
        (of_actions(endorser, &[broken]), Truncated.into()),
        (of_actions(endorser, &[Bytes::new()]), NotEndorsed::NoAction),
        (of_actions(endorser, &[]), NotEndorsed::NoAction),
        (
            of_actions(HeaderType::Config, &[]),
            NotEndorsed::HeaderType(1),
        ),
    ];
    for (envelope, refused) in cases {
        assert_eq!(EndorsedTransaction::parse(&envelope), Err(refused));
        let view = view(vec![envelope, endorsed(results(vec![good()]))], vec![]);
        assert_eq!(private(&view), ["1 a/x"], "{refused}");
        assert_eq!(public(&view, "a"), ["1 k=Some(\"v\")"], "{refused}");
    }
}

#[test]
fn only_the_first_action_counts_and_repeated_parts_merge() {
    let payload = |name: &str| {
        let results = results(vec![namespace(name, vec![], vec![writing("x")])]);
        bytes(&action_payload(bytes(&chaincode_action(results))))
    };
    // Endorsements may stand in a second copy of the action, which adds to the first.
    let more = ChaincodeActionPayload {
        action: Some(ChaincodeEndorsedAction {
            proposal_response_payload: Bytes::new(),
            endorsements: vec![Endorsement {
                endorser: "three".into(),
                signature: Bytes::new(),
            }],
        }),
        ..Default::default()
    };
    let first = Bytes::from([payload("a"), bytes(&more)].concat());
    let envelope = of_actions(HeaderType::EndorserTransaction, &[first, payload("b")]);
    let transaction = EndorsedTransaction::parse(&envelope).unwrap();
    assert_eq!(transaction.actions_len(), 2);
    let writes = transaction.private_writes(5);
    assert_eq!(writes.len(), 1);
    assert_eq!((&*writes[0].namespace, writes[0].tx), ("a", 5));
    assert_eq!(writes[0].endorsers.len(), 3);
}

#[test]
fn collections_of_a_transaction_are_taken_up_to_the_limit() {
    let of = |len: usize| {
        let collections = (0..len).map(|n| writing(&n.to_string())).collect();
        endorsed(results(vec![namespace("a", vec![], collections)]))
    };
    let at_limit = EndorsedTransaction::parse(&of(TRANSACTION_COLLECTIONS_MAX)).unwrap();
    assert_eq!(
        at_limit.private_writes(0).len(),
        TRANSACTION_COLLECTIONS_MAX
    );
    assert_eq!(
        EndorsedTransaction::parse(&of(TRANSACTION_COLLECTIONS_MAX + 1)),
        Err(NotEndorsed::TooManyCollections)
    );
}

#[test]
fn public_writes_of_a_transaction_are_taken_up_to_the_limit() {
    let of = |len: usize| {
        let writes = vec![write("k", "v"); len];
        let namespaces = vec![
            namespace("b", vec![write("k", "v")], vec![]),
            namespace("a", writes, vec![]),
        ];
        view(vec![endorsed(results(namespaces))], vec![])
    };
    let at_limit = of(PUBLIC_WRITES_MAX);
    assert_eq!(at_limit.public_writes("a").count(), PUBLIC_WRITES_MAX);
    let above = of(PUBLIC_WRITES_MAX + 1);
    assert_eq!(above.public_writes("a").count(), 0);
    assert_eq!(above.public_writes("b").count(), 1);
}

#[test]
fn endorsers_are_named_up_to_the_limit() {
    let of = |len: usize| {
        let results = results(vec![namespace("a", vec![], vec![writing("x")])]);
        let mut payload = action_payload(bytes(&chaincode_action(results)));
        payload.action.as_mut().unwrap().endorsements = vec![Endorsement::default(); len];
        let envelope = of_actions(HeaderType::EndorserTransaction, &[bytes(&payload)]);
        let transaction = EndorsedTransaction::parse(&envelope).unwrap();
        let named = transaction.private_writes(0)[0].endorsers.len();
        (transaction.endorsements().count(), named)
    };
    assert_eq!(of(ENDORSERS_MAX), (ENDORSERS_MAX, ENDORSERS_MAX));
    assert_eq!(of(ENDORSERS_MAX + 1), (ENDORSERS_MAX + 1, ENDORSERS_MAX));
}

#[test]
fn codes_are_claimed_only_for_every_transaction() {
    let of = |codes: &'static [u8]| {
        let metadata = vec![Bytes::new(), Bytes::new(), Bytes::from_static(codes)];
        view(
            vec![endorsed(Bytes::new()), endorsed(Bytes::new())],
            metadata,
        )
        .claimed_codes()
    };
    assert_eq!(of(&[0, 10]), Some(Bytes::from_static(&[0, 10])));
    assert_eq!(of(&[0]), None);
    assert_eq!(of(&[]), None);
    assert_eq!(view(vec![], vec![]).claimed_codes(), None);
}

#[test]
fn a_transaction_tells_its_call_its_event_and_its_writes() {
    let arguments = vec!["invoke".into(), Bytes::from_static(b"\xff")];
    let invocation = ChaincodeInvocationSpec {
        chaincode_spec: Some(ChaincodeSpec {
            input: Some(ChaincodeInput {
                args: arguments.clone(),
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    let mut deleted = write("b", "left");
    deleted.is_delete = true;
    let mut action = chaincode_action(results(vec![namespace(
        "cc",
        vec![write("a", "1"), deleted],
        vec![writing("x")],
    )]));
    action.events = bytes(&ChaincodeEvent {
        chaincode_id: "cc".into(),
        event_name: "made".into(),
        payload: "it".into(),
        ..Default::default()
    });
    let mut payload = action_payload(bytes(&action));
    payload.chaincode_proposal_payload = bytes(&ChaincodeProposalPayload {
        input: bytes(&invocation),
        ..Default::default()
    });
    let envelope = of_actions(HeaderType::EndorserTransaction, &[bytes(&payload)]);
    let transaction = EndorsedTransaction::parse(&envelope).unwrap();
    assert_eq!(transaction.chaincode(), ("cc", ""));
    assert!(transaction.arguments().eq(arguments));
    let event = transaction.event().unwrap();
    assert_eq!((event.name, event.payload), ("made", &b"it"[..]));
    let touched = transaction.namespaces().next().unwrap();
    let writes: Vec<_> = touched.writes().collect();
    assert_eq!(writes, [("a", Some(&b"1"[..])), ("b", None)]);
    assert!(touched.collections().eq(["x"]));

    let plain = EndorsedTransaction::parse(&endorsed(results(vec![]))).unwrap();
    assert_eq!((plain.event(), plain.arguments().count()), (None, 0));
}

#[test]
fn types_and_codes_have_fabrics_names() {
    for (code, name) in [(0, "VALID"), (254, "NOT_VALIDATED"), (99, "code 99")] {
        assert_eq!(code_name(code), name);
    }
    assert_eq!(type_name(3), "ENDORSER_TRANSACTION");
    assert_eq!(type_name(-7), "type -7");
}
