//! Configuration updates as administrators make them, without tools.
//!
//! The orderer's own tests take this in by its path.

use std::time::SystemTime;

use bytes::Bytes;
use tidings_msp::identity::SigningIdentity;
use tidings_proto::{
    Message as _,
    common::{
        ChannelHeader, ConfigGroup, ConfigSignature, ConfigUpdate, ConfigUpdateEnvelope, Envelope,
        Header, HeaderType, Payload, SignatureHeader,
    },
};

/// The transaction in which these identities agree to go from one tree to another, submitted by
/// the first of them. Whoever changes an element raises its version.
pub(crate) fn update(
    channel: &str,
    current: &ConfigGroup,
    next: &ConfigGroup,
    agreed: &[&SigningIdentity],
) -> Envelope {
    let update = ConfigUpdate {
        channel_id: channel.to_owned(),
        read_set: Some(current.clone()),
        write_set: Some(next.clone()),
        ..ConfigUpdate::default()
    };
    let config_update = Bytes::from(update.encode_to_vec());
    let sign = |signer: &&SigningIdentity| {
        let signature_header = signature_header(signer);
        let signature = signer.sign(&[&signature_header[..], &config_update[..]].concat());
        ConfigSignature {
            signature_header,
            signature: signature.unwrap().into(),
        }
    };
    let signatures = agreed.iter().map(sign).collect();
    let data = ConfigUpdateEnvelope {
        config_update: config_update.clone(),
        signatures,
    };
    let data = Bytes::from(data.encode_to_vec());
    transaction(HeaderType::ConfigUpdate, channel, agreed[0], data)
}

/// A transaction of any kind.
pub(crate) fn transaction(
    kind: HeaderType,
    channel: &str,
    creator: &SigningIdentity,
    data: Bytes,
) -> Envelope {
    let channel_header = ChannelHeader {
        r#type: kind.into(),
        timestamp: Some(SystemTime::now().into()),
        channel_id: channel.to_owned(),
        ..ChannelHeader::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header(creator),
        }),
        data,
    };
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = creator.sign(&payload).unwrap().into();
    Envelope { payload, signature }
}

fn signature_header(creator: &SigningIdentity) -> Bytes {
    let mut nonce = [0; 24];
    aws_lc_rs::rand::fill(&mut nonce).unwrap();
    let header = SignatureHeader {
        creator: creator.serialized().clone(),
        nonce: Bytes::copy_from_slice(&nonce),
    };
    header.encode_to_vec().into()
}
