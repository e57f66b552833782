//! How outgoing messages are put together.

use bytes::Bytes;
use prost::Message as _;
use tidings_proto::gossip::{
    DataMessage, DataUpdate, Envelope, GossipMessage, Payload, PullMsgType,
    gossip_message::{Content, Tag},
};

use crate::{id::ChannelId, ports::Ports};

/// A message with its header. Without a channel the field stays empty.
pub fn gossip_message(
    nonce: u64,
    channel: Option<&ChannelId>,
    tag: Tag,
    content: Content,
) -> GossipMessage {
    GossipMessage {
        nonce,
        channel: channel
            .map(|channel| channel.as_bytes().to_vec().into())
            .unwrap_or_default(),
        tag: tag as i32,
        content: Some(content),
    }
}

/// The message in an envelope that we sign.
pub fn signed(ports: &impl Ports, message: &GossipMessage) -> Envelope {
    let payload = message.encode_to_vec();
    let signature = ports.sign(&payload);
    Envelope {
        payload: payload.into(),
        signature,
        secret_envelope: None,
    }
}

/// The message in an envelope without signature: the connection vouches for it.
pub fn unsigned(message: &GossipMessage) -> Envelope {
    Envelope {
        payload: message.encode_to_vec().into(),
        ..Envelope::default()
    }
}

/// A block as gossip carries it: nothing beside it, nobody's signature.
pub fn block(channel: &ChannelId, number: u64, block: Bytes) -> Envelope {
    let content = Content::DataMsg(DataMessage {
        payload: Some(Payload {
            seq_num: number,
            data: block,
            private_data: Vec::new(),
        }),
    });
    unsigned(&gossip_message(0, Some(channel), Tag::ChanAndOrg, content))
}

/// A block as the answer to a pull: whoever takes it does not push it on.
pub fn quiet_block(channel: &ChannelId, number: u64, block: Bytes) -> Envelope {
    let content = Content::DataUpdate(DataUpdate {
        nonce: 0,
        data: vec![self::block(channel, number, block)],
        msg_type: PullMsgType::BlockMsg as i32,
    });
    unsigned(&gossip_message(0, Some(channel), Tag::ChanAndOrg, content))
}

#[cfg(test)]
mod tests {
    use tidings_proto::gossip::{Acknowledgement, GossipHello};

    use super::*;

    // What Go writes.
    #[test]
    fn messages_look_as_the_reference_writes_them() {
        let hello = gossip_message(
            0,
            None,
            Tag::Empty,
            Content::Hello(GossipHello {
                nonce: 1,
                metadata: Default::default(),
                msg_type: PullMsgType::IdentityMsg as i32,
            }),
        );
        let bytes = unsigned(&hello).encode_to_vec();
        assert_eq!(hex::encode(bytes), "0a0818014a0408011802");
        let ack = Content::Ack(Acknowledgement {
            error: "boom".to_owned(),
        });
        let ack = gossip_message(5, None, Tag::Undefined, ack);
        assert_eq!(hex::encode(ack.encode_to_vec()), "0805b201060a04626f6f6d");
    }
}
