//! Messages about private data.

use sha2::{Digest as _, Sha256};
use tidings_proto::gossip::{
    PrivateDataMessage, PrivatePayload as WirePayload, PvtDataDigest, PvtDataElement,
    RemotePvtDataRequest, RemotePvtDataResponse,
};

use super::*;
use crate::message::{PrivateDigest, PrivatePayload, PushedWrites};

fn payload() -> WirePayload {
    WirePayload {
        collection_name: "AB".to_owned(),
        namespace: "cc".to_owned(),
        tx_id: "tx".to_owned(),
        private_rwset: Bytes::from_static(b"writes"),
        private_sim_height: 7,
        collection_configs: Some(toy::collection("AB", &["A", "B"])),
    }
}

fn push_of(payload: Option<WirePayload>) -> Content {
    Content::PrivateData(PrivateDataMessage { payload })
}

/// A push that passes.
pub(super) fn push() -> Content {
    push_of(Some(payload()))
}

fn digest(number: u64) -> PvtDataDigest {
    PvtDataDigest {
        tx_id: "tx".to_owned(),
        namespace: "cc".to_owned(),
        collection: "AB".to_owned(),
        block_seq: 8,
        seq_in_block: number,
    }
}

/// A request for so many write sets.
pub(super) fn request(digests: u64) -> Content {
    Content::PrivateReq(RemotePvtDataRequest {
        digests: (0..digests).map(digest).collect(),
    })
}

fn element(number: u64) -> PvtDataElement {
    PvtDataElement {
        digest: Some(digest(number)),
        payload: vec![Bytes::from_static(b"writes")],
    }
}

fn response_of(elements: Vec<PvtDataElement>) -> Content {
    Content::PrivateRes(RemotePvtDataResponse { elements })
}

/// A response with so many write sets.
pub(super) fn response(elements: u64) -> Content {
    response_of((0..elements).map(element).collect())
}

fn private(content: Content) -> Envelope {
    unsigned(CH, Tag::ChanOnly, content)
}

/// What became of a push, which reaches the core in any case: its sender waits.
fn pushed(payload: Option<WirePayload>) -> Result<PushedWrites, &'static str> {
    let Message::PrivateData { nonce, pushed, .. } =
        Stage::new().accepted(private(push_of(payload)))
    else {
        panic!("expected a push");
    };
    assert_eq!(nonce, 3, "for the answer");
    pushed.map(|pushed| *pushed).map_err(|refused| refused.rule)
}

fn changed(change: impl FnOnce(&mut WirePayload)) -> Result<PushedWrites, &'static str> {
    let mut payload = payload();
    change(&mut payload);
    pushed(Some(payload))
}

fn elements_of(content: Content) -> Vec<crate::message::PrivateElement> {
    let Message::PrivateResponse { elements, .. } = Stage::new().accepted(private(content)) else {
        panic!("expected a response");
    };
    elements
}

fn digests_of(digests: Vec<PvtDataDigest>) -> Vec<PrivateDigest> {
    let content = Content::PrivateReq(RemotePvtDataRequest { digests });
    let Message::PrivateRequest { digests, .. } = Stage::new().accepted(private(content)) else {
        panic!("expected a request");
    };
    digests
}

#[test]
fn private_messages_say_what_was_sent() {
    let expected = PushedWrites {
        tx_id: "tx".to_owned(),
        namespace: "cc".to_owned(),
        collection: "AB".to_owned(),
        rwset: Bytes::from_static(b"writes"),
        sim_height: 7,
        configs: toy::collection("AB", &["A", "B"]),
    };
    assert_eq!(pushed(Some(payload())), Ok(expected));
    assert_eq!(digests_of(vec![digest(2)]), [digest(2).into()]);
    let digest: PrivateDigest = digest(0).into();
    assert_eq!((digest.block, digest.seq_in_block), (8, 0));
    let elements = elements_of(response(1));
    assert_eq!(elements.len(), 1);
    assert_eq!(elements[0].digest, digest);
    let bytes = Bytes::from_static(b"writes");
    let hash = Sha256::digest(&bytes).into();
    assert_eq!(elements[0].payloads, [PrivatePayload { bytes, hash }]);
}

#[test]
fn w_s4_private_messages_are_for_the_channel_only() {
    let stage = Stage::new();
    for content in [push(), request(1), response(1)] {
        for tag in [Tag::Undefined, Tag::ChanAndOrg, Tag::ChanOrOrg, Tag::Empty] {
            stage.refused(unsigned(CH, tag, content.clone()), "W-S4");
        }
        stage.refused(unsigned("", Tag::ChanOnly, content), "S-N6");
    }
}

#[test]
fn pd_s1_a_push_without_a_part_is_answered_with_that() {
    assert_eq!(pushed(None), Err("PD-S1"));
    assert_eq!(changed(|p| p.tx_id.clear()), Err("PD-S1"));
    assert_eq!(changed(|p| p.namespace.clear()), Err("PD-S1"));
    assert_eq!(changed(|p| p.collection_name.clear()), Err("PD-S1"));
    assert_eq!(changed(|p| p.private_rwset.clear()), Err("PD-S1"));
    assert_eq!(changed(|p| p.collection_configs = None), Err("PD-S1"));
}

#[test]
fn pd_s2_names_and_write_sets_have_their_lengths() {
    let tx_id = |len| changed(|p| p.tx_id = "x".repeat(len)).map(drop);
    assert_eq!(tx_id(TX_ID_LEN_MAX), Ok(()));
    assert_eq!(tx_id(TX_ID_LEN_MAX + 1), Err("PD-S2"));
    let namespace = |len| changed(|p| p.namespace = "x".repeat(len)).map(drop);
    assert_eq!(namespace(NAME_LEN_MAX), Ok(()));
    assert_eq!(namespace(NAME_LEN_MAX + 1), Err("PD-S2"));
    let collection = |len| {
        changed(|p| {
            p.collection_name = "A".repeat(len);
            p.collection_configs = Some(toy::collection(&p.collection_name, &["A"]));
        })
        .map(drop)
    };
    assert_eq!(collection(NAME_LEN_MAX), Ok(()));
    assert_eq!(collection(NAME_LEN_MAX + 1), Err("PD-S2"));
    assert_eq!(changed(|p| p.tx_id = "t\0x".to_owned()), Err("PD-S2"));
    assert_eq!(changed(|p| p.namespace = "\0".to_owned()), Err("PD-S2"));
    let rwset = |len| changed(|p| p.private_rwset = Bytes::from(vec![1; len])).map(drop);
    assert_eq!(rwset(WRITE_SET_LEN_MAX), Ok(()));
    assert_eq!(rwset(WRITE_SET_LEN_MAX + 1), Err("PD-S2"));
    // The name of the one organization stands for a policy of any length.
    let config = |len: usize| {
        let org = "x".repeat(len);
        changed(|p| p.collection_configs = Some(toy::collection("AB", &[&org]))).map(drop)
    };
    assert_eq!(config(COLLECTION_CONFIG_LEN_MAX - 100), Ok(()));
    assert_eq!(config(COLLECTION_CONFIG_LEN_MAX), Err("PD-S2"));
}

#[test]
fn pd_s3_a_push_comes_with_the_definition_of_its_collection_and_no_other() {
    let with = |configs| changed(|p| p.collection_configs = Some(configs)).map(drop);
    let own = || toy::collection("AB", &["A"]);
    assert_eq!(with(own()), Ok(()));
    assert_eq!(with(toy::collection("B", &["A"])), Err("PD-S3"));
    let mut none = own();
    none.config.clear();
    assert_eq!(with(none), Err("PD-S3"));
    let mut two = own();
    two.config.extend(own().config);
    assert_eq!(with(two), Err("PD-S3"));
    let mut hollow = own();
    hollow.config[0].payload = None;
    assert_eq!(with(hollow), Err("PD-S3"));
}

#[test]
fn pd_s9_digests_that_name_nothing_are_left_out_and_there_are_only_so_many() {
    let with = |change: &dyn Fn(&mut PvtDataDigest)| {
        let mut changed = digest(1);
        change(&mut changed);
        digests_of(vec![digest(0), changed, digest(2)]).len()
    };
    assert_eq!(with(&|_| ()), 3);
    assert_eq!(with(&|d| d.tx_id.clear()), 3, "a reconciliation");
    assert_eq!(with(&|d| d.tx_id = "x".repeat(TX_ID_LEN_MAX)), 3);
    assert_eq!(with(&|d| d.tx_id = "x".repeat(TX_ID_LEN_MAX + 1)), 2);
    assert_eq!(with(&|d| d.tx_id = "a\0b".to_owned()), 2);
    assert_eq!(with(&|d| d.namespace.clear()), 2);
    assert_eq!(with(&|d| d.collection.clear()), 2);
    assert_eq!(with(&|d| d.collection = "x".repeat(NAME_LEN_MAX + 1)), 2);
    assert_eq!(digests_of(Vec::new()), [], "is answered all the same");
    let many = vec![digest(0); REQUEST_DIGESTS_MAX + 1];
    assert_eq!(digests_of(many).len(), REQUEST_DIGESTS_MAX);
    let stage = Stage::new();
    stage.refused(private(request(1_000_000)), "W-S1");
}

#[test]
fn pd_s9_elements_that_name_nothing_are_left_out_and_there_are_only_so_many() {
    let mut nameless = element(1);
    nameless.digest = None;
    let mut wrong = element(1);
    wrong.digest = Some(PvtDataDigest::default());
    let elements = elements_of(response_of(vec![element(0), nameless, wrong, element(2)]));
    let places: Vec<u64> = elements.iter().map(|e| e.digest.seq_in_block).collect();
    assert_eq!(places, [0, 2]);
    let most = RESPONSE_ELEMENTS_MAX as u64;
    assert_eq!(elements_of(response(most)).len(), RESPONSE_ELEMENTS_MAX);
    Stage::new().refused(private(response(most + 1)), "PD-S9");
}

#[test]
fn pd_s9_payloads_that_are_none_are_left_out_and_there_are_only_so_many() {
    let payloads = |payload: Vec<Bytes>| {
        let mut element = element(0);
        element.payload = payload;
        elements_of(response_of(vec![element]))[0].payloads.len()
    };
    let one = || Bytes::from_static(b"x");
    assert_eq!(payloads(Vec::new()), 0);
    assert_eq!(payloads(vec![Bytes::new(), one(), Bytes::new()]), 1);
    assert_eq!(payloads(vec![Bytes::new()]), 1, "all its keys were purged");
    assert_eq!(payloads(vec![Bytes::new(); 2]), 0);
    assert_eq!(payloads(vec![one(); PAYLOADS_MAX + 1]), PAYLOADS_MAX);
    let long = |len| payloads(vec![Bytes::from(vec![1; len])]);
    assert_eq!(long(WRITE_SET_LEN_MAX), 1);
    assert_eq!(long(WRITE_SET_LEN_MAX + 1), 0);
}
