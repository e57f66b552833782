//! Requests to an orderer: one position of a chain, one answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidings_msp::identity::SigningIdentity;
use tidings_proto::Message as _;
use tidings_proto::common::{
    Block, ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status,
};
use tidings_proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use tidings_proto::orderer::deliver_response::Type;
use tidings_proto::orderer::{SeekInfo, SeekPosition, seek_position::Type as Position};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::orderer::nonce;

/// An orderer that has a block sends it at once; the largest takes a while on a slow line.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// The largest message that Fabric's programs send.
const MESSAGE_LEN_MAX: usize = 100 << 20;

/// Asks one orderer on one connection.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) connection: Channel,
    pub(super) signer: Arc<SigningIdentity>,
    /// Hash of the TLS certificate that we show; empty if we show none.
    pub(super) bound_to: Bytes,
    /// What our clock says.
    pub(super) clock: fn() -> SystemTime,
}

/// What came first.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Block(Block),
    Status(Status),
}

impl Asker {
    /// Asks for one block, as if it were so many seconds later than it is. Without a position the
    /// request asks nothing, and is answered by a status.
    pub(super) async fn ask(
        &self,
        channel: &str,
        position: Option<Position>,
        later_s: i64,
    ) -> Result<Answer, String> {
        let request = self.request(channel, position, later_s)?;
        let answer = async {
            let mut client = AtomicBroadcastClient::new(self.connection.clone())
                .max_decoding_message_size(MESSAGE_LEN_MAX);
            let answers = client.deliver(tokio_stream::once(request)).await;
            let mut answers = answers.map_err(|status| said(&status))?.into_inner();
            let answer = answers.message().await.map_err(|status| said(&status))?;
            match answer.and_then(|answer| answer.r#type) {
                Some(Type::Block(block)) => Ok(Answer::Block(block)),
                Some(Type::Status(code)) => Status::try_from(code)
                    .map(Answer::Status)
                    .map_err(|_unknown| format!("the status {code} is not known")),
                None => Err("the stream ended without an answer".to_owned()),
            }
        };
        timeout(ANSWER_TIME_MAX, answer)
            .await
            .map_err(|_elapsed| format!("nothing came within {ANSWER_TIME_MAX:?}"))?
    }

    fn request(
        &self,
        channel: &str,
        position: Option<Position>,
        later_s: i64,
    ) -> Result<Envelope, String> {
        let now = (self.clock)().duration_since(UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        let header = ChannelHeader {
            r#type: HeaderType::DeliverSeekInfo.into(),
            channel_id: channel.to_owned(),
            timestamp: Some(prost_types::Timestamp {
                seconds: now.saturating_add(later_s),
                nanos: 0,
            }),
            tls_cert_hash: self.bound_to.clone(),
            ..ChannelHeader::default()
        };
        let signature_header = SignatureHeader {
            creator: self.signer.serialized().clone(),
            nonce: nonce().map_err(|error| error.to_string())?,
        };
        let position = position.map(|position| SeekPosition {
            r#type: Some(position),
        });
        let seek = SeekInfo {
            start: position,
            stop: position,
            ..SeekInfo::default()
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: header.encode_to_vec().into(),
                signature_header: signature_header.encode_to_vec().into(),
            }),
            data: seek.encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        let signature = self.signer.sign(&payload);
        let signature = signature.map_err(|error| format!("cannot sign: {error}"))?;
        Ok(Envelope {
            signature: signature.into(),
            payload,
        })
    }
}

fn said(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
