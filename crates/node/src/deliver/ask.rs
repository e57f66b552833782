//! What is the same whoever is asked for blocks, an orderer or a peer: the signed request, the
//! stream, and what comes on it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use tidings_gossip::id::ChannelId;
use tidings_proto::{
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status},
    orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_info::SeekContentType, seek_position},
};
use tokio_stream::StreamExt;
use tonic::{
    Request, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::{
    crypto::{Crypto, random},
    logging::foreign,
};

/// Largest block, as between Go nodes.
pub(crate) const BLOCK_BYTES_MAX: usize = 100 << 20;

/// A response with the block left as bytes, to be kept as they came.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(enumeration = "Status", optional, tag = "1")]
    status: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    block: Option<Bytes>,
}

/// Why a stream ended.
pub(crate) struct Ended {
    /// What the other end did, to be read behind its name.
    pub(crate) reason: String,
    /// The status that it ended the stream with, if it did.
    pub(crate) status: Option<Status>,
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self {
            reason,
            status: None,
        }
    }
}

impl Response {
    /// The block, if it is one.
    pub(crate) fn into_block(self) -> Result<Bytes, Ended> {
        match self {
            Self {
                block: Some(bytes), ..
            } => Ok(bytes),
            // The range never ends, so every status is a failure, SUCCESS included.
            Self {
                status: Some(code), ..
            } => {
                let status = Status::try_from(code).ok();
                let name = status.map_or("unknown", |status| status.as_str_name());
                Err(Ended {
                    reason: format!("answered with status {code} ({name})"),
                    status,
                })
            }
            Self {
                block: None,
                status: None,
            } => Err("sent something that is neither block nor status"
                .to_owned()
                .into()),
        }
    }
}

/// Everything from `start` on, for ever.
pub(crate) fn from(start: u64, content: SeekContentType) -> SeekInfo {
    let position = |number| {
        Some(SeekPosition {
            r#type: Some(seek_position::Type::Specified(SeekSpecified { number })),
        })
    };
    SeekInfo {
        start: position(start),
        stop: position(u64::MAX),
        content_type: content.into(),
        ..SeekInfo::default()
    }
}

/// The request for this, signed, and bound to a connection where our certificate with this hash is
/// shown on it.
pub(crate) fn signed(
    crypto: &Crypto,
    channel: &ChannelId,
    seek: &SeekInfo,
    tls_cert_hash: Bytes,
) -> Result<Envelope, Ended> {
    let services = crypto.services();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let channel_header = ChannelHeader {
        r#type: HeaderType::DeliverSeekInfo.into(),
        channel_id: channel.as_str().to_owned(),
        timestamp: Some(prost_types::Timestamp {
            seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        }),
        tls_cert_hash,
        ..ChannelHeader::default()
    };
    let nonce: [u8; 24] = random();
    let signature_header = SignatureHeader {
        creator: services.signer().serialized().clone(),
        nonce: Bytes::copy_from_slice(&nonce),
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: seek.encode_to_vec().into(),
    };
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = services
        .sign(&payload)
        .map_err(|error| format!("is not asked: cannot sign: {error}"))?
        .into();
    Ok(Envelope { payload, signature })
}

/// Opens the stream of this method.
pub(crate) async fn ask(
    channel: Channel,
    method: &'static str,
    bytes_max: usize,
    request: Envelope,
) -> Result<tonic::Response<Streaming<Response>>, Ended> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(bytes_max);
    grpc.ready()
        .await
        .map_err(|error| format!("is not ready: {error}"))?;
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let codec: ProstCodec<Envelope, Response> = ProstCodec::default();
    let path = PathAndQuery::from_static(method);
    let responses = grpc.streaming(Request::new(requests), path, codec).await;
    Ok(responses.map_err(|status| format!("refused the stream: {}", said(&status)))?)
}

/// A status in one short line, whatever the other end wrote into it.
pub(crate) fn said(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), foreign(status.message()))
}

#[cfg(test)]
mod tests {
    use tidings_proto::common::{Block, BlockHeader};

    use super::*;

    #[test]
    fn what_an_orderer_says_stays_on_its_line() {
        let said = |text: &str| said(&tonic::Status::unavailable(text));
        assert_eq!(said("no leader"), "Unavailable: no leader");
        assert_eq!(said("a\r\nb"), "Unavailable: a\\r\\nb");
    }

    #[test]
    fn the_response_keeps_the_bytes_of_the_block() {
        let block = Block {
            header: Some(BlockHeader {
                number: 7,
                ..Default::default()
            }),
            ..Default::default()
        };
        let full = tidings_proto::orderer::DeliverResponse {
            r#type: Some(tidings_proto::orderer::deliver_response::Type::Block(
                block.clone(),
            )),
        };
        let read = Response::decode(full.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read.status, None);
        assert_eq!(read.into_block().ok().unwrap(), block.encode_to_vec());
    }
}
