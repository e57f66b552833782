//! The stream on which blocks go out.
//!
//! Promises the order of checks, the waiting and the statuses of Fabric's deliver handler: every
//! status but success ends the stream. Reads one block at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tidings_node::clients::{Refused, Request, Seek, check_expiry};
use tidings_proto::Message;
use tidings_proto::common::{Block, Envelope, Status};
use tidings_proto::orderer::deliver_response::Type;
use tidings_proto::orderer::{DeliverResponse, SeekInfo};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::chain::Chain;

const READERS: &str = "/Channel/Readers";

/// How far the clock of a client may be from ours (`Authentication.TimeWindow`).
const TIME_WINDOW: Duration = Duration::from_secs(15 * 60);

/// What every stream of a connection shares.
pub(super) struct Connection {
    pub(super) chain: Arc<Chain>,
    /// With mutual TLS: the hash of the client's certificate, if it showed one.
    pub(super) bound_to: Option<Option<[u8; 32]>>,
}

/// What goes out.
pub(super) type Responses = mpsc::Sender<Result<DeliverResponse, tonic::Status>>;

/// The client has gone.
struct Gone;

/// Why a request ended.
enum Ended {
    Refused(Refused),
    Gone,
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Gone> for Ended {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl Connection {
    /// Serves requests one after the other until one fails or the client goes.
    pub(super) async fn serve(self, mut requests: Streaming<Envelope>, responses: Responses) {
        loop {
            let envelope = tokio::select! {
                request = requests.message() => request,
                () = responses.closed() => return,
            };
            let Ok(Some(envelope)) = envelope else { return };
            let ended = self.request(envelope, &responses).await;
            let status = match &ended {
                Ok(()) => Status::Success,
                Err(Ended::Refused(refused)) => refused.status,
                Err(Ended::Gone) => return,
            };
            let sent = send(&responses, Type::Status(status.into())).await;
            if ended.is_err() || sent.is_err() {
                return;
            }
        }
    }

    async fn request(&self, envelope: Envelope, responses: &Responses) -> Result<(), Ended> {
        let request = Request::parse(envelope)?;
        let config = self.chain.config();
        request.check_time(SystemTime::now(), TIME_WINDOW)?;
        if let Some(presented) = self.bound_to {
            request.check_binding(presented)?;
        }
        request.check_channel(&config)?;
        let info = SeekInfo::decode(request.data.clone())
            .map_err(|error| Refused::undecodable("seek info", &error))?;
        check_expiry(request.expires_at(&config), SystemTime::now())?;
        request.check_policy(&config.policies().policy(READERS))?;
        let seek = Seek::new(&info, self.chain.height())?;
        self.blocks(&request, config.sequence(), seek, responses)
            .await
    }

    async fn blocks(
        &self,
        request: &Request,
        mut sequence: u64,
        mut seek: Seek,
        responses: &Responses,
    ) -> Result<(), Ended> {
        let mut heights = self.chain.heights();
        loop {
            if *heights.borrow_and_update() <= seek.next {
                if !seek.waits {
                    let reason = "the block is not there yet";
                    return Err(Refused::new(Status::NotFound, reason).into());
                }
                tokio::select! {
                    changed = heights.changed() => changed.map_err(|_ended| {
                        Refused::new(Status::ServiceUnavailable, "the orderer ends")
                    })?,
                    () = responses.closed() => return Err(Ended::Gone),
                }
                continue;
            }
            let config = self.chain.config();
            if config.sequence() > sequence {
                sequence = config.sequence();
                request.check_policy(&config.policies().policy(READERS))?;
            }
            check_expiry(request.expires_at(&config), SystemTime::now())?;
            let block = self
                .block(seek)
                .await
                .map_err(|error| Refused::new(Status::ServiceUnavailable, format!("{error:#}")))?;
            send(responses, Type::Block(block)).await?;
            if seek.next == seek.stop {
                return Ok(());
            }
            seek.next += 1;
        }
    }

    async fn block(&self, seek: Seek) -> Result<Block> {
        let chain = Arc::clone(&self.chain);
        let read = tokio::task::spawn_blocking(move || chain.block(seek.next)).await??;
        let view = read.context("a block below the height is not there")?;
        let mut block = Block::decode(view.bytes().clone())?;
        if seek.headers_only && !view.is_config_block() {
            block.data = None;
        }
        Ok(block)
    }
}

async fn send(responses: &Responses, response: Type) -> Result<(), Gone> {
    responses
        .send(Ok(DeliverResponse {
            r#type: Some(response),
        }))
        .await
        .map_err(|_closed| Gone)
}
