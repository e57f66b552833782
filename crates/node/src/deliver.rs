//! Pulls blocks from an orderer when the core says so, and from the one it names.
//!
//! The latest command wins; the stream of an earlier one is dropped. Every block is verified here
//! before the core sees it, and no block is taken far beyond what the ledger has reached, so a
//! fast orderer waits for a slow disk in its own socket.

mod settings;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use prost::Message;
use tidings_gossip::{
    Input, VerifiedBlock, Verifier,
    delivery::{Command, Event, StreamId},
    id::ChannelId,
};
use tidings_msp::channel_config::OrdererEndpoints;
use tidings_proto::{
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status},
    orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_position},
};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};
use tokio_stream::StreamExt;
use tokio_util::task::TaskTracker;
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use crate::{
    crypto::{Crypto, random},
    tls,
};

pub use self::settings::{AddressOverride, DeliverySettings};

const DELIVER: &str = "/orderer.AtomicBroadcast/Deliver";

/// Largest response of an orderer, as between Go nodes.
const MESSAGE_BYTES_MAX: usize = 100 << 20;

/// What a stream from the orderers needs to know of its node.
#[derive(Clone, Debug)]
pub(crate) struct DeliverConfig {
    /// What the operator says.
    pub(crate) settings: DeliverySettings,
    /// Blocks taken beyond the height of the ledger.
    pub(crate) ahead_max: u64,
    /// Our TLS side; none: plaintext.
    pub(crate) tls: Option<tls::ClientIdentity>,
    /// Show the client certificate and bind requests to it (`peer.tls.clientAuthRequired`).
    pub(crate) client_auth: bool,
}

/// The response of an orderer with the block left as bytes, to be kept as they came.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(enumeration = "Status", optional, tag = "1")]
    status: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    block: Option<Bytes>,
}

/// What a delivery follows of its channel's ledger.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    /// Blocks in it.
    pub(crate) height: watch::Receiver<u64>,
    /// Changes when orderers at the same addresses are to be trusted by other roots. (Of other
    /// addresses the core hears, and gives another command.)
    pub(crate) roots: watch::Receiver<()>,
}

/// The delivery of one channel. It ends when this is dropped.
pub(crate) struct DeliverTask {
    commands: watch::Sender<Command>,
}

impl DeliverTask {
    /// Starts a task that waits for commands.
    pub(crate) fn start(
        tasks: &TaskTracker,
        config: DeliverConfig,
        channel: ChannelId,
        crypto: Arc<Crypto>,
        ledger: Followed,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let (commands, latest) = watch::channel(Command::Disconnect);
        let deliver = Deliver {
            config,
            channel,
            crypto,
            ledger,
            inputs,
        };
        tasks.spawn(deliver.run(latest));
        Self { commands }
    }

    /// Replaces what is being done.
    pub(crate) fn command(&self, command: Command) {
        self.commands.send_replace(command);
    }
}

/// Why a stream ended.
struct Ended {
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

struct Deliver {
    config: DeliverConfig,
    channel: ChannelId,
    crypto: Arc<Crypto>,
    ledger: Followed,
    inputs: mpsc::Sender<Input>,
}

impl Deliver {
    async fn run(mut self, mut commands: watch::Receiver<Command>) {
        let mut roots = self.ledger.roots.clone();
        loop {
            roots.mark_unchanged();
            let command = commands.borrow_and_update().clone();
            let changed = match command {
                Command::Disconnect => commands.changed().await,
                Command::Connect {
                    stream,
                    endpoint,
                    start,
                    after,
                } => {
                    let ended = tokio::select! {
                        // What was changed comes before what the orderer has to say next.
                        biased;
                        changed = commands.changed() => match changed {
                            Ok(()) => continue,
                            Err(_dropped) => return,
                        },
                        Ok(()) = roots.changed() => {
                            let reason = "is asked anew: the channel has other TLS roots for it";
                            Ended::from(reason.to_owned())
                        }
                        ended = self.pull(stream, &endpoint, start, after) => ended,
                    };
                    // The core says it to the operator.
                    let Ended { reason, forbidden } = ended;
                    self.tell(Event::Failed {
                        stream,
                        reason,
                        forbidden,
                    })
                    .await;
                    commands.changed().await
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }

    async fn pull(&mut self, id: StreamId, endpoint: &str, start: u64, after: Duration) -> Ended {
        tokio::time::sleep(after).await;
        match self.stream(id, endpoint, start).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    /// Streams blocks until something goes wrong.
    async fn stream(
        &mut self,
        id: StreamId,
        endpoint: &str,
        start: u64,
    ) -> Result<std::convert::Infallible, Ended> {
        let channel = self.connect(endpoint).await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready()
            .await
            .map_err(|error| format!("is not ready: {error}"))?;
        let requests = tokio_stream::once(self.seek(start)?).chain(tokio_stream::pending());
        let codec: ProstCodec<Envelope, Response> = ProstCodec::default();
        let mut responses = grpc
            .streaming(
                Request::new(requests),
                PathAndQuery::from_static(DELIVER),
                codec,
            )
            .await
            .map_err(|status| format!("refused the stream: {}", said(&status)))?
            .into_inner();
        tracing::info!(
            target: "peer.blocksprovider",
            channel = %self.channel, endpoint, start, "pulling blocks from the orderer"
        );
        let mut next = start;
        loop {
            // By our own count: a number that the orderer invents must not make us wait.
            self.reached(next.saturating_sub(self.config.ahead_max))
                .await;
            let response = responses
                .message()
                .await
                .map_err(|status| format!("broke the stream: {}", said(&status)))?
                .ok_or_else(|| "closed the stream".to_owned())?;
            next = self.take(id, response).await?.saturating_add(1);
        }
    }

    /// Gives the number of the block that was taken.
    async fn take(&mut self, stream: StreamId, response: Response) -> Result<u64, Ended> {
        let bytes = match response {
            Response {
                block: Some(bytes), ..
            } => bytes,
            // The range never ends, so every status is a failure, SUCCESS included.
            Response {
                status: Some(code), ..
            } => {
                let name = Status::try_from(code).map_or("unknown", |status| status.as_str_name());
                return Err(Ended {
                    reason: format!("answered with status {code} ({name})"),
                    forbidden: code == i32::from(Status::Forbidden),
                });
            }
            Response {
                block: None,
                status: None,
            } => {
                return Err("sent something that is neither block nor status"
                    .to_owned()
                    .into());
            }
        };
        // The claimed number is the block's own: what is next is the core's question.
        let number = tidings_proto::block::BlockView::parse(bytes.clone())
            .ok()
            .and_then(|view| view.number())
            .ok_or_else(|| "sent a block without header".to_owned())?;
        let block = self
            .verify(number, bytes)
            .await
            .map_err(|reason| format!("sent block {number}, which is not good: {reason}"))?;
        let is_config = block.is_config;
        self.tell(Event::Block { stream, block }).await;
        if is_config {
            // What comes next is to be judged by what this block says.
            self.reached(number.saturating_add(1)).await;
        }
        Ok(number)
    }

    /// On a thread of its own: a large block takes a while to hash.
    async fn verify(&self, number: u64, bytes: Bytes) -> Result<VerifiedBlock, String> {
        let (crypto, channel) = (Arc::clone(&self.crypto), self.channel.clone());
        let verify = move || crypto.verify_block(&channel, number, &bytes);
        spawn_blocking(verify)
            .await
            .map_err(|error| error.to_string())?
    }

    /// Waits until the ledger holds that many blocks: for ever, if it takes no more.
    async fn reached(&mut self, height: u64) {
        if self
            .ledger
            .height
            .wait_for(|have| *have >= height)
            .await
            .is_err()
        {
            std::future::pending().await
        }
    }

    async fn connect(&self, endpoint: &str) -> Result<tonic::transport::Channel, Ended> {
        let overrides = &self.config.settings.address_overrides;
        let place = place(
            overrides,
            self.crypto.orderers(&self.channel),
            endpoint.to_owned(),
        );
        if self.config.tls.is_some() && place.roots.is_empty() {
            // There is no falling back on what the system trusts.
            return Err(place.why_without_roots().to_owned().into());
        }
        if place.overridden {
            tracing::info!(
                target: "peer.blocksprovider",
                channel = %self.channel, from = endpoint, to = place.address,
                "the address of the orderer is overridden"
            );
        }
        let connect = tls::channel(
            &place.address,
            self.config.tls.as_ref(),
            &place.roots,
            self.config.client_auth,
        );
        let limit = self.config.settings.connect_timeout;
        tokio::time::timeout(limit, connect)
            .await
            .map_err(|_elapsed| format!("gives no connection within {limit:?}"))?
            .map_err(|error| Ended::from(format!("is not reached: {error}")))
    }

    /// The signed request for all blocks from `start` on.
    fn seek(&self, start: u64) -> Result<Envelope, Ended> {
        let position = |number| {
            Some(SeekPosition {
                r#type: Some(seek_position::Type::Specified(SeekSpecified { number })),
            })
        };
        let seek = SeekInfo {
            start: position(start),
            stop: position(u64::MAX),
            ..SeekInfo::default()
        };
        let services = self.crypto.services();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let tls_cert_hash = match &self.config.tls {
            Some(identity) if self.config.client_auth => {
                Bytes::copy_from_slice(&identity.certificate_sha256())
            }
            _ => Bytes::new(),
        };
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
            data: seek.encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        let signature = services
            .sign(&payload)
            .map_err(|error| format!("is not asked: cannot sign: {error}"))?
            .into();
        Ok(Envelope { payload, signature })
    }

    async fn tell(&self, event: Event) {
        let channel = self.channel.clone();
        // Nobody listening means that the node is going down.
        let _ = self.inputs.send(Input::Delivery { channel, event }).await;
    }
}

/// Where an orderer is dialled.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// `host:port`.
    address: String,
    /// What it may chain to.
    roots: Vec<Bytes>,
    overridden: bool,
}

impl Place {
    fn why_without_roots(&self) -> &'static str {
        if self.overridden {
            "has an entry without caCertsFile in peer.deliveryclient.addressOverrides: name one"
        } else {
            "has no TLS root in the channel configuration, or is no longer in it"
        }
    }
}

/// Where the orderer is that the channel configuration names so. It is trusted by the TLS roots of
/// everybody who names it; an override replaces the address and the roots.
fn place(
    overrides: &BTreeMap<String, AddressOverride>,
    groups: Vec<OrdererEndpoints>,
    endpoint: String,
) -> Place {
    if let Some(AddressOverride { to, tls_roots }) = overrides.get(&endpoint) {
        return Place {
            address: to.clone(),
            roots: tls_roots
                .iter()
                .map(|root| Bytes::copy_from_slice(root))
                .collect(),
            overridden: true,
        };
    }
    let names = |group: &OrdererEndpoints| group.addresses.contains(&endpoint);
    Place {
        roots: groups
            .into_iter()
            .filter(names)
            .flat_map(|group| group.tls_roots)
            .collect(),
        address: endpoint,
        overridden: false,
    }
}

/// A status in one line.
fn said(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<OrdererEndpoints> {
        let group = |addresses: &[&str], root: &'static str| OrdererEndpoints {
            organization: None,
            addresses: addresses.iter().map(|each| (*each).to_owned()).collect(),
            tls_roots: (!root.is_empty())
                .then(|| Bytes::from(root))
                .into_iter()
                .collect(),
        };
        vec![
            group(&["a:1", "b:1"], "x"),
            group(&["b:1"], "y"),
            group(&["c:1"], ""),
        ]
    }

    #[test]
    fn an_orderer_is_trusted_by_the_roots_of_those_who_name_it() {
        let found = |endpoint: &str| place(&BTreeMap::new(), groups(), endpoint.to_owned());
        for (endpoint, roots) in [
            ("a:1", &["x"][..]),
            ("b:1", &["x", "y"]),
            ("c:1", &[]),
            ("d:1", &[]),
        ] {
            let expected = Place {
                address: endpoint.to_owned(),
                roots: roots.iter().map(|root| Bytes::from(*root)).collect(),
                overridden: false,
            };
            assert_eq!(found(endpoint), expected);
        }
    }

    #[test]
    fn an_overridden_address_is_reached_elsewhere_and_trusted_by_other_roots_only() {
        let instead = |to: &str, roots: &[&str]| AddressOverride {
            to: to.to_owned(),
            tls_roots: roots.iter().map(|root| root.as_bytes().to_vec()).collect(),
        };
        let overrides = BTreeMap::from([
            ("a:1".to_owned(), instead("b:1", &["z"])),
            ("b:1".to_owned(), instead("a:1", &[])),
            ("e:1".to_owned(), instead("f:1", &["z"])),
        ]);
        let found = |endpoint: &str| {
            let place = place(&overrides, groups(), endpoint.to_owned());
            (place.address, place.roots, place.overridden)
        };
        let z = vec![Bytes::from("z")];
        assert_eq!(found("a:1"), ("b:1".to_owned(), z, true));
        // Neither the roots of its old address nor those of the new one.
        assert_eq!(found("b:1"), ("a:1".to_owned(), Vec::new(), true));
        assert_eq!(found("c:1"), ("c:1".to_owned(), Vec::new(), false));
    }

    #[test]
    fn the_response_keeps_the_bytes_of_the_block() {
        let block = tidings_proto::common::Block {
            header: Some(tidings_proto::common::BlockHeader {
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
        assert_eq!(read.block.unwrap(), block.encode_to_vec());
    }
}
