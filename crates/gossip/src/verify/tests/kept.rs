//! What stays of a message that passed.

use tidings_proto::gossip::Chaincode;

use super::*;

/// The message that a frame holds, with nothing left but that and the frame.
fn taken(stage: &Stage, envelope: &Envelope) -> (Message, Bytes) {
    let frame = Bytes::from(envelope.encode_to_vec());
    let message = stage.accepted(Envelope::decode(frame.clone()).unwrap());
    (message, frame)
}

#[test]
fn m_s3_what_is_kept_does_not_hold_on_to_the_frame_that_it_came_in() {
    let stage = Stage::new();
    let (peer, other) = (&stage.peer, &stage.other);
    let newcomer = toy::identity("A", "newcomer");
    let alive = |of: &Arc<PeerIdentity>| {
        let mut speech = speech(of);
        speech.message.identity = of.serialized.clone();
        speech.message.membership.as_mut().unwrap().metadata = Bytes::from_static(b"metadata");
        speech.envelope()
    };
    let info = || {
        let mut info = state_info(other);
        info.properties.as_mut().unwrap().chaincodes = vec![Chaincode {
            name: "cc".to_owned(),
            version: "1".to_owned(),
            metadata: Bytes::from_static(b"metadata"),
        }];
        info_envelope(other, info)
    };
    let block = data_envelope(CH, data(CH, 7));
    let mut payload = data(CH, 7).payload.unwrap();
    payload.private_data = vec![Bytes::from_static(b"private")];
    let transferred = Content::StateResponse(RemoteStateResponse {
        payloads: vec![payload],
    });
    let snapshot = Content::StateSnapshot(StateInfoSnapshot {
        elements: vec![info()],
    });
    let identity = identity_envelope(&newcomer, &newcomer);
    for envelope in [
        alive(&newcomer),
        alive(peer),
        request(Some(alive(peer))),
        response(vec![alive(&newcomer)], vec![alive(other)]),
        info(),
        unsigned(CH, Tag::ChanOrOrg, snapshot),
        leader_envelope(peer, leadership(peer)),
        update(PullMsgType::IdentityMsg, vec![identity]),
        update(PullMsgType::BlockMsg, vec![block.clone()]),
        block,
        unsigned(CH, Tag::ChanOrOrg, transferred),
        unsigned(CH, Tag::ChanOnly, private::push()),
        unsigned(CH, Tag::ChanOnly, private::response(1)),
    ] {
        let (message, frame) = taken(&stage, &envelope);
        assert!(frame.is_unique(), "{message:?}");
    }
}
