//! How much of anything is taken.

use super::*;

#[test]
fn m_s3_what_is_too_long_to_be_kept_is_refused() {
    let stage = Stage::new();
    let with_metadata = |len| {
        let mut speech = speech(&stage.peer);
        speech.internal_endpoint.clear();
        speech.message.membership.as_mut().unwrap().metadata = Bytes::from(vec![0; len]);
        speech.envelope()
    };
    let len = |envelope: &Envelope| envelope.payload.len() + envelope.signature.len();
    // Lengths of lengths make the overhead depend on the size; probe near the limit.
    let overhead = len(&with_metadata(ALIVE_LEN_MAX - 1000)) - (ALIVE_LEN_MAX - 1000);
    let fits = with_metadata(ALIVE_LEN_MAX - overhead);
    assert_eq!(len(&fits), ALIVE_LEN_MAX);
    stage.accepted(fits);
    stage.refused(with_metadata(ALIVE_LEN_MAX - overhead + 1), "M-S3");
    // An identity comes on top.
    let mut speech = speech(&stage.peer);
    speech.message.membership.as_mut().unwrap().metadata =
        Bytes::from(vec![0; ALIVE_LEN_MAX - 300]);
    speech.message.identity = stage.peer.serialized.clone();
    stage.accepted(speech.envelope());
    let with_chaincodes = |len| {
        let mut info = state_info(&stage.peer);
        info.properties.as_mut().unwrap().chaincodes = vec![Chaincode {
            metadata: Bytes::from(vec![0; len]),
            ..Chaincode::default()
        }];
        info_envelope(&stage.peer, info)
    };
    let overhead = len(&with_chaincodes(KEPT_LEN_MAX - 1000)) - (KEPT_LEN_MAX - 1000);
    stage.accepted(with_chaincodes(KEPT_LEN_MAX - overhead));
    stage.refused(with_chaincodes(KEPT_LEN_MAX - overhead + 1), "M-S3");
}

#[test]
fn lists_are_cut_at_their_limits() {
    let stage = Stage::new();
    let digests = vec![Bytes::from_static(b"1"); DIGESTS_MAX + 1];
    let content = Content::DataDig(DataDigest {
        nonce: 1,
        digests,
        msg_type: PullMsgType::IdentityMsg as i32,
    });
    let Message::IdentityPull(Pull::Digest { digests, .. }) =
        stage.accepted(unsigned("", Tag::Empty, content))
    else {
        panic!("expected a digest");
    };
    assert_eq!(digests.len(), DIGESTS_MAX);

    let element = speech(&stage.peer).envelope();
    let Message::MembershipResponse { alive, .. } =
        stage.accepted(response(vec![element; MEMBERS_MAX + 1], Vec::new()))
    else {
        panic!("expected a response");
    };
    assert_eq!(alive.len(), MEMBERS_MAX);

    let element = info_envelope(&stage.peer, state_info(&stage.peer));
    let content = Content::StateSnapshot(StateInfoSnapshot {
        elements: vec![element; STATE_INFOS_MAX + 1],
    });
    let Message::StateSnapshot { elements, .. } =
        stage.accepted(unsigned(CH, Tag::ChanOrOrg, content))
    else {
        panic!("expected a snapshot");
    };
    assert_eq!(elements.len(), STATE_INFOS_MAX);

    let mut info = state_info(&stage.peer);
    if let Some(properties) = &mut info.properties {
        properties.chaincodes = vec![Chaincode::default(); CHAINCODES_MAX + 1];
    }
    let Message::StateInfo(info) = stage.accepted(info_envelope(&stage.peer, info)) else {
        panic!("expected a state info");
    };
    assert_eq!(info.chaincodes.len(), CHAINCODES_MAX);

    let payloads = vec![data(CH, 1).payload.unwrap(); BLOCKS_MAX + 1];
    let content = Content::StateResponse(RemoteStateResponse { payloads });
    let Message::StateResponse { blocks, .. } =
        stage.accepted(unsigned(CH, Tag::ChanOrOrg, content))
    else {
        panic!("expected a state response");
    };
    assert_eq!(blocks.len(), BLOCKS_MAX);
    let mut payloads = vec![data(CH, 1).payload.unwrap(); 3];
    // Empty namespaces of a private write set: two bytes each, fifty in memory.
    let namespaces = [0x12, 0].repeat(tidings_proto::ELEMENTS_MAX + 1);
    let set = PvtDataPayload {
        tx_seq_in_block: 0,
        payload: namespaces.into(),
    };
    payloads[1].private_data = vec![set.encode_to_vec().into()];
    let content = Content::StateResponse(RemoteStateResponse { payloads });
    let Message::StateResponse { blocks, .. } =
        stage.accepted(unsigned(CH, Tag::ChanOrOrg, content))
    else {
        panic!("expected a state response");
    };
    assert_eq!(
        blocks.len(),
        1,
        "it ends before the one with too much in it"
    );

    let blocks = |count| {
        update(
            PullMsgType::BlockMsg,
            vec![data_envelope(CH, data(CH, 1)); count],
        )
    };
    assert_eq!(BLOCKS_MAX, 64, "a few answers of ten; each block is work");
    stage.accepted(blocks(BLOCKS_MAX));
    stage.refused(blocks(BLOCKS_MAX + 1), "S-C8");
    let one = identity_envelope(&stage.peer, &stage.peer);
    let identities = |count| update(PullMsgType::IdentityMsg, vec![one.clone(); count]);
    stage.accepted(identities(IDENTITIES_MAX));
    stage.refused(identities(IDENTITIES_MAX + 1), "P-S1");
}
