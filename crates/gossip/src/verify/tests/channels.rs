//! Messages of channels: state infos, leadership, blocks.

use super::*;

#[test]
fn s_n2_a_state_info_of_nobody_we_know_or_by_another() {
    let stage = Stage::new();
    let (peer, other) = (Arc::clone(&stage.peer), Arc::clone(&stage.other));
    stage.refused(info_envelope(&other, state_info(&peer)), "S-N2");
    let mut short = state_info(&peer);
    short.pki_id = Bytes::from_static(b"short");
    stage.refused(info_envelope(&peer, short), "S-N2");
    let mut whispered = info_envelope(&peer, state_info(&peer));
    whispered.secret_envelope = Some(SecretEnvelope::default());
    stage.refused(whispered, "W-S3");
    stage.verifier.forget_all();
    stage.refused(info_envelope(&peer, state_info(&peer)), "S-N2");
}

#[test]
fn s_n3_leadership_of_nobody_we_know_or_by_another() {
    let stage = Stage::new();
    let (peer, other) = (Arc::clone(&stage.peer), Arc::clone(&stage.other));
    stage.refused(leader_envelope(&other, leadership(&peer)), "S-N3");
    let mut nameless = leadership(&peer);
    nameless.pki_id = Bytes::new();
    stage.refused(leader_envelope(&peer, nameless), "S-N3");
    stage.verifier.forget_all();
    stage.refused(leader_envelope(&peer, leadership(&peer)), "S-N3");
}

#[test]
fn s_n6_a_channel_name_that_is_none() {
    let stage = Stage::new();
    let long = "x".repeat(CHANNEL_LEN_MAX + 1);
    for name in ["", &long] {
        stage.refused(data_envelope(name, data(name, 1)), "S-N6");
    }
    let longest = "x".repeat(CHANNEL_LEN_MAX);
    stage.accepted(data_envelope(&longest, data(&longest, 1)));
    let mut message = message(CH, Tag::ChanAndOrg, Content::DataMsg(data(CH, 1)));
    message.channel = Bytes::from_static(b"\xff");
    stage.refused(wire::unsigned(&message), "S-N6");
}

#[test]
fn s_c1_a_channel_mac_of_another_length() {
    let stage = Stage::new();
    for len in [0, 31, 33] {
        let channel_mac = Bytes::from(vec![7; len]);
        let mut info = state_info(&stage.peer);
        info.channel_mac = channel_mac.clone();
        stage.refused(info_envelope(&stage.peer, info), "S-C1");
        let pull = Content::StateInfoPullReq(StateInfoPullRequest {
            channel_mac,
            known: Bytes::new(),
        });
        stage.refused(unsigned("", Tag::ChanOrOrg, pull), "S-C1");
    }
}

#[test]
fn s_c6_a_block_that_does_not_pass() {
    let stage = Stage::new();
    let Message::Block { channel, block } = stage.accepted(data_envelope(CH, data(CH, 7))) else {
        panic!("expected a block");
    };
    assert_eq!((channel.as_str(), block.block.number), (CH, 7));
    let mut renumbered = data(CH, 7);
    renumbered.payload.as_mut().unwrap().seq_num = 8;
    stage.refused(data_envelope(CH, renumbered), "S-C6");
    stage.refused(data_envelope(CH, data("another", 7)), "S-C6");
}

#[test]
fn a_block_is_handed_on_without_what_nobody_vouches_for() {
    let stage = Stage::new();
    let plain = data_envelope(CH, data(CH, 7));
    let mut loaded = plain.clone();
    loaded.signature = Bytes::from_static(b"anything");
    loaded.secret_envelope = Some(SecretEnvelope::default());
    let mut private = data(CH, 7);
    private.payload.as_mut().unwrap().private_data = vec![Bytes::from_static(b"private")];
    // Field 60, which nobody knows, at the end of the message.
    let mut padded = plain.payload.to_vec();
    padded.extend([0xe2, 0x03, 0x03, 1, 2, 3]);
    let padded = Envelope::signed(padded.into(), Bytes::new());
    for loaded in [loaded, data_envelope(CH, private), padded] {
        let Message::BlockPull { pull, .. } =
            stage.accepted(update(PullMsgType::BlockMsg, vec![loaded.clone()]))
        else {
            panic!("expected a block pull");
        };
        let Pull::Update { items, .. } = pull else {
            panic!("expected an update");
        };
        let Message::Block { channel, block } = stage.accepted(loaded) else {
            panic!("expected a block");
        };
        assert_eq!(block.block.envelope(&channel), plain);
        assert_eq!(items, [block]);
    }
}

#[test]
fn s_c8_one_bad_element_drops_the_whole_update() {
    let stage = Stage::new();
    let good = data_envelope(CH, data(CH, 1));
    let Message::BlockPull { channel, pull } =
        stage.accepted(update(PullMsgType::BlockMsg, vec![good.clone()]))
    else {
        panic!("expected a block pull");
    };
    let Pull::Update { nonce, items } = pull else {
        panic!("expected an update");
    };
    assert_eq!((channel.as_str(), nonce, items.len()), (CH, 9, 1));
    assert_eq!(items[0].block.envelope(&channel), good);

    let mut fabricated = data(CH, 2);
    fabricated.payload.as_mut().unwrap().data = Bytes::from_static(b"fabricated");
    let bad = [
        data_envelope("another", data("another", 2)),
        data_envelope(CH, fabricated),
        info_envelope(&stage.peer, state_info(&stage.peer)),
        unsigned(CH, Tag::ChanAndOrg, Content::Empty(Empty {})),
        Envelope::signed(Bytes::from_static(b"\xff"), Bytes::new()),
        Envelope::default(),
    ];
    for bad in bad {
        let list = vec![good.clone(), bad, good.clone()];
        stage.refused(update(PullMsgType::BlockMsg, list), "S-C8");
    }
}

#[test]
fn s_c10_bad_elements_of_a_snapshot_are_left_out() {
    let stage = Stage::new();
    let (peer, other) = (&stage.peer, &stage.other);
    let good = info_envelope(other, state_info(other));
    let elements = vec![
        info_envelope(other, state_info(peer)),
        speech(peer).envelope(),
        Envelope::signed(Bytes::from_static(b"\xff"), Bytes::new()),
        Envelope::default(),
        good.clone(),
    ];
    let content = Content::StateSnapshot(StateInfoSnapshot { elements });
    let Message::StateSnapshot { elements, .. } =
        stage.accepted(unsigned(CH, Tag::ChanOrOrg, content))
    else {
        panic!("expected a snapshot");
    };
    let envelopes: Vec<_> = elements.into_iter().map(|info| info.envelope).collect();
    assert_eq!(envelopes, [good]);
}

#[test]
fn s_c14_a_state_info_without_properties() {
    let stage = Stage::new();
    let mut info = state_info(&stage.peer);
    info.properties = None;
    stage.refused(info_envelope(&stage.peer, info), "S-C14");
}

#[test]
fn s_s6_a_state_response_ends_before_the_first_bad_block() {
    let stage = Stage::new();
    let payload = |number| data(CH, number).payload.unwrap();
    let numbers = |payloads: Vec<Payload>| {
        let content = Content::StateResponse(RemoteStateResponse { payloads });
        let Message::StateResponse { nonce, blocks, .. } =
            stage.accepted(unsigned(CH, Tag::ChanOrOrg, content))
        else {
            panic!("expected a state response");
        };
        assert_eq!(nonce, 3);
        let numbers: Vec<u64> = blocks.iter().map(|block| block.block.number).collect();
        numbers
    };
    assert_eq!(numbers(vec![payload(1), payload(2)]), [1, 2]);
    let mut renumbered = payload(2);
    renumbered.seq_num = 3;
    assert_eq!(numbers(vec![payload(1), renumbered, payload(3)]), [1]);
    let foreign = data("another", 2).payload.unwrap();
    assert_eq!(numbers(vec![payload(1), foreign, payload(3)]), [1]);
    assert!(numbers(vec![Payload::default(), payload(1)]).is_empty());
}
