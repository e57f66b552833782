//! A stream from an orderer: dials, asks, and reads responses.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use tidings_gossip::{
    Input,
    delivery::{Event, StreamId},
    id::ChannelId,
};
use tidings_proto::{common::Status, orderer::seek_info::SeekContentType};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::{
    DeliverConfig, Followed, Wanted,
    ask::{BLOCK_BYTES_MAX, Ended, ask, from, said, signed},
    place::place,
};
use crate::{
    crypto::Crypto,
    tls::{self, Tls},
};

const DELIVER: &str = "/orderer.AtomicBroadcast/Deliver";

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
        let Ended { reason, status } = ended;
        tracing::debug!(
            target: "peer.blocksprovider",
            channel = %self.channel, orderer = wanted.endpoint, "the orderer {reason}"
        );
        self.tell(Event::Failed {
            stream: wanted.stream,
            reason,
            forbidden: status == Some(Status::Forbidden),
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
        let request = signed(
            &self.crypto,
            &self.channel,
            &from(wanted.start, R::CONTENT.seek()),
            certificate_sha256,
        )?;
        // A Go orderer says nothing, not even that it accepts, before it has something to send.
        let blocks = R::CONTENT == Content::Blocks;
        let vitals = &self.config.vitals;
        let _pulling = blocks.then(|| vitals.pulling(&self.channel, &wanted.endpoint));
        let responses = ask(channel, DELIVER, R::CONTENT.bytes_max(), request).await?;
        let mut responses = responses.into_inner();
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

    pub(super) async fn tell(&self, event: Event) {
        let channel = self.channel.clone();
        // Nobody listening means that the node is going down.
        let _ = self.inputs.send(Input::Delivery { channel, event }).await;
    }
}

impl Content {
    fn bytes_max(self) -> usize {
        match self {
            Self::Blocks => BLOCK_BYTES_MAX,
            Self::Headers => HEADER_BYTES_MAX,
        }
    }

    fn seek(self) -> SeekContentType {
        match self {
            Self::Blocks => SeekContentType::Block,
            Self::Headers => SeekContentType::HeaderWithSig,
        }
    }
}
