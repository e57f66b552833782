//! Opens a stream from an orderer: dials, signs the request, sends it, and reads responses.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use prost::Message;
use tidings_gossip::{
    Input,
    delivery::{Event, StreamId},
    id::ChannelId,
};
use tidings_proto::{
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status},
    orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_info::SeekContentType, seek_position},
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::{
    Request, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;

use super::{DeliverConfig, Followed, Wanted, place::place};
use crate::{
    crypto::{Crypto, random},
    logging::foreign,
    tls::{self, Tls},
};

const DELIVER: &str = "/orderer.AtomicBroadcast/Deliver";

/// Largest block of an orderer, as between Go nodes.
const BLOCK_BYTES_MAX: usize = 100 << 20;

/// Largest header of an orderer. With a hundred signatures it has some hundred kilobytes;
/// configuration blocks, which come whole, as a rule less. A larger one ends the stream, which goes
/// on behind it once we have the block.
const HEADER_BYTES_MAX: usize = 2 << 20;

/// Asks orderers on behalf of one channel.
pub(super) struct Client {
    pub(super) config: DeliverConfig,
    pub(super) channel: ChannelId,
    pub(super) crypto: Arc<Crypto>,
    pub(super) inputs: mpsc::Sender<Input>,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Whole blocks.
    Blocks,
    /// Headers and signatures; configuration blocks are whole.
    Headers,
}

/// A response of an orderer with the block left as bytes, to be kept as they came.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(enumeration = "Status", optional, tag = "1")]
    status: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    block: Option<Bytes>,
}

/// Why a stream ended.
pub(super) struct Ended {
    /// What the orderer did, to be read behind its name.
    reason: String,
    forbidden: bool,
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self {
            reason,
            forbidden: false,
        }
    }
}

impl Response {
    /// The block, if it is one.
    pub(super) fn into_block(self) -> Result<Bytes, Ended> {
        match self {
            Self {
                block: Some(bytes), ..
            } => Ok(bytes),
            // The range never ends, so every status is a failure, SUCCESS included.
            Self {
                status: Some(code), ..
            } => {
                let name = Status::try_from(code).map_or("unknown", |status| status.as_str_name());
                Err(Ended {
                    reason: format!("answered with status {code} ({name})"),
                    forbidden: code == i32::from(Status::Forbidden),
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

/// What is done with each block or header that comes.
pub(super) trait Reader {
    /// What this reader wants.
    const CONTENT: Content;

    /// Takes it and tells the core. Gives its number, and whether what comes next can only be
    /// judged when the ledger holds it.
    fn take(
        &self,
        stream: StreamId,
        bytes: Bytes,
    ) -> impl Future<Output = Result<(u64, bool), Ended>> + Send;
}

impl Client {
    /// Does what is wanted until it fails, and tells the core why it did.
    pub(super) async fn pull<R: Reader>(&self, reader: &R, wanted: &Wanted, mut ledger: Followed) {
        let mut roots = ledger.roots.clone();
        roots.mark_unchanged();
        let ended = tokio::select! {
            // What was changed comes before what the orderer has to say next.
            biased;
            Ok(()) = roots.changed() => {
                let reason = "is asked anew: the channel has other TLS roots for it";
                Ended::from(reason.to_owned())
            }
            ended = async {
                tokio::time::sleep(wanted.after).await;
                match self.read(reader, wanted, &mut ledger).await {
                    Ok(never) => match never {},
                    Err(ended) => ended,
                }
            } => ended,
        };
        // The core says it to the operator, but not every time.
        let Ended { reason, forbidden } = ended;
        tracing::debug!(
            target: "peer.blocksprovider",
            channel = %self.channel, orderer = wanted.endpoint, "the orderer {reason}"
        );
        self.tell(Event::Failed {
            stream: wanted.stream,
            reason,
            forbidden,
        })
        .await;
    }

    /// Reads until something goes wrong.
    async fn read<R: Reader>(
        &self,
        reader: &R,
        wanted: &Wanted,
        ledger: &mut Followed,
    ) -> Result<Infallible, Ended> {
        let (channel, certificate_sha256) = self.connect(&wanted.endpoint).await?;
        let request = self.seek(R::CONTENT, wanted.start, certificate_sha256)?;
        // A Go orderer says nothing, not even that it accepts, before it has something to send.
        let blocks = R::CONTENT == Content::Blocks;
        let vitals = &self.config.vitals;
        let _pulling = blocks.then(|| vitals.pulling(&self.channel, &wanted.endpoint));
        let mut responses = ask(channel, R::CONTENT, request).await?;
        let (endpoint, start) = (&wanted.endpoint, wanted.start);
        if blocks {
            tracing::info!(
                target: "peer.blocksprovider",
                channel = %self.channel, endpoint, start, "pulling blocks from the orderer"
            );
        } else {
            // An orderer that lags behind answers and fails again and again.
            tracing::debug!(
                target: "peer.blocksprovider",
                channel = %self.channel, endpoint, start, "pulling headers from the orderer"
            );
        }
        let mut next = wanted.start;
        loop {
            // By our own count: a number that the orderer invents must not make us wait.
            let ahead_max = self.config.ahead_max;
            if !blocks || !ledger.has_room(next, ahead_max).await {
                ledger.reached(next.saturating_sub(ahead_max)).await;
            }
            let response = responses
                .message()
                .await
                .map_err(|status| format!("broke the stream: {}", said(&status)))?
                .ok_or_else(|| "closed the stream".to_owned())?;
            let (number, decides) = reader.take(wanted.stream, response.into_block()?).await?;
            next = number.saturating_add(1);
            if decides {
                ledger.reached(next).await;
            }
        }
    }

    /// Connects, and tells by the hash of which certificate of ours the request is to be bound to
    /// the connection: empty unless we show one.
    async fn connect(&self, endpoint: &str) -> Result<(Channel, Bytes), Ended> {
        let identity = self.config.tls.as_ref().map(Tls::client_identity);
        let overrides = &self.config.settings.address_overrides;
        let place = place(
            overrides,
            self.crypto.orderers(&self.channel),
            endpoint.to_owned(),
        );
        if identity.is_some() && place.roots.is_empty() {
            // There is no falling back on what the system trusts.
            return Err(place.why_without_roots().to_owned().into());
        }
        if place.overridden {
            tracing::debug!(
                target: "peer.blocksprovider",
                channel = %self.channel, from = endpoint, to = place.address,
                "the address of the orderer is overridden"
            );
        }
        let connect = tls::channel(
            &place.address,
            identity.as_ref(),
            &place.roots,
            self.config.client_auth,
        );
        let limit = self.config.settings.connect_timeout;
        let channel = tokio::time::timeout(limit, connect)
            .await
            .map_err(|_elapsed| format!("gives no connection within {limit:?}"))?
            .map_err(|error| Ended::from(format!("is not reached: {error}")))?;
        let shown = identity.filter(|_| self.config.client_auth);
        let sha256 = shown.map(|identity| identity.certificate_sha256());
        let sha256 = sha256.map(|sha256| Bytes::copy_from_slice(&sha256));
        Ok((channel, sha256.unwrap_or_default()))
    }

    /// The signed request for everything from `start` on.
    fn seek(&self, content: Content, start: u64, tls_cert_hash: Bytes) -> Result<Envelope, Ended> {
        let services = self.crypto.services();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let channel_header = ChannelHeader {
            r#type: HeaderType::DeliverSeekInfo.into(),
            channel_id: self.channel.as_str().to_owned(),
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
            data: content.seek(start).encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        let signature = services
            .sign(&payload)
            .map_err(|error| format!("is not asked: cannot sign: {error}"))?
            .into();
        Ok(Envelope { payload, signature })
    }

    pub(super) async fn tell(&self, event: Event) {
        let channel = self.channel.clone();
        // Nobody listening means that the node is going down.
        let _ = self.inputs.send(Input::Delivery { channel, event }).await;
    }
}

/// Opens the stream.
async fn ask(
    channel: Channel,
    content: Content,
    request: Envelope,
) -> Result<Streaming<Response>, Ended> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(content.bytes_max());
    grpc.ready()
        .await
        .map_err(|error| format!("is not ready: {error}"))?;
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let codec: ProstCodec<Envelope, Response> = ProstCodec::default();
    let path = PathAndQuery::from_static(DELIVER);
    let responses = grpc
        .streaming(Request::new(requests), path, codec)
        .await
        .map_err(|status| format!("refused the stream: {}", said(&status)))?;
    Ok(responses.into_inner())
}

impl Content {
    fn bytes_max(self) -> usize {
        match self {
            Self::Blocks => BLOCK_BYTES_MAX,
            Self::Headers => HEADER_BYTES_MAX,
        }
    }

    fn seek(self, start: u64) -> SeekInfo {
        let position = |number| {
            Some(SeekPosition {
                r#type: Some(seek_position::Type::Specified(SeekSpecified { number })),
            })
        };
        let content = match self {
            Self::Blocks => SeekContentType::Block,
            Self::Headers => SeekContentType::HeaderWithSig,
        };
        SeekInfo {
            start: position(start),
            stop: position(u64::MAX),
            content_type: content.into(),
            ..SeekInfo::default()
        }
    }
}

/// A status in one short line, whatever the orderer wrote into it.
fn said(status: &tonic::Status) -> String {
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
