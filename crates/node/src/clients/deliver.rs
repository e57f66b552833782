//! The stream on which blocks go to a client.
//!
//! Promises the checks of Fabric's deliver handler in their order, its statuses, and that every
//! status but success ends the stream (but for the one in place of a filtered block). Holds a page of blocks at a time.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use prost::Message;
use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::{
    common::{Envelope, Status},
    orderer::SeekInfo,
    protos::{BlockAndPrivateData, DeliverResponse, deliver_response::Type},
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tonic::Streaming;

use super::{
    Shared,
    outlet::{Gone, Outlet, Responses, Tenure, outlet},
    request::{Refused, Request, check_expiry},
    seek::Seek,
    shelf::{self, Form, Shelf},
};
use crate::{
    directory::Served,
    logging::{Seldom, foreign},
    private::for_client,
};

/// Bytes of blocks that are given to a stream in one go, unless a single block is larger. With
/// those before them, which it may still be sending, this is what a slow client holds.
const PAGE_BYTES_MAX: usize = 64 << 10;

/// Blocks in one go: enough that finding them costs little beside sending them.
const PAGE_LEN_MAX: usize = 64;

/// How long a stream may be open without a request. Clients send theirs with the stream.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// How long it may be open after a request was served.
const NEXT_REQUEST_MAX: Duration = Duration::from_secs(60);

static REFUSED: Seldom = Seldom::new();

/// Which of the three methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Blocks,
    Filtered,
    WithPrivateData,
}

impl Kind {
    fn resource(self) -> &'static str {
        match self {
            Self::Blocks | Self::WithPrivateData => "event/Block",
            Self::Filtered => "event/FilteredBlock",
        }
    }

    /// As Fabric's metrics call it.
    fn data_type(self) -> &'static str {
        match self {
            Self::Blocks => "block",
            Self::Filtered => "filtered_block",
            Self::WithPrivateData => "block_and_pvtdata",
        }
    }

    fn form(self, seek: Seek) -> Form {
        match self {
            Self::Filtered => Form::Filtered,
            Self::Blocks if seek.headers_only => Form::Header,
            Self::Blocks | Self::WithPrivateData => Form::Whole,
        }
    }
}

/// A client's stream.
pub(super) struct Session {
    shared: Arc<Shared>,
    kind: Kind,
    /// With mutual TLS: the hash of the client's certificate, if it showed one.
    bound_to: Option<Option<[u8; 32]>>,
    out: Outlet,
    tenure: Tenure,
    is_admitted: bool,
}

/// Why a request ended.
enum Ended {
    Refused(Refused),
    Gone(Gone),
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Gone> for Ended {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

/// A request whose checks were passed, and by what.
struct Admitted {
    request: Request,
    served: Arc<Served>,
    config: Arc<ChannelConfig>,
    /// The end of the client's certificate under that configuration.
    expires_at: Option<i64>,
    seek: Seek,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        kind: Kind,
        bound_to: Option<Option<[u8; 32]>>,
        stranger: OwnedSemaphorePermit,
    ) -> (Self, Responses) {
        let tenure = Tenure::new(stranger);
        let (out, responses) = outlet(tenure.clone());
        let session = Self {
            shared,
            kind,
            bound_to,
            out,
            tenure,
            is_admitted: false,
        };
        (session, responses)
    }

    /// Serves requests one after the other until one fails or the client goes.
    pub(super) async fn serve(mut self, mut requests: Streaming<Envelope>) {
        let metrics = self.shared.metrics.clone();
        metrics.deliver_streams_opened.inc();
        self.serve_each(&mut requests).await;
        metrics.deliver_streams_closed.inc();
    }

    async fn serve_each(&mut self, requests: &mut Streaming<Envelope>) {
        let mut patience = REQUEST_MAX;
        loop {
            let envelope = tokio::select! {
                request = timeout(patience, requests.message()) => request,
                () = self.out.closed() => return,
            };
            let Ok(envelope) = envelope else {
                let reason = format!("no request for {} seconds", patience.as_secs());
                return self.out.cut_off(tonic::Status::deadline_exceeded(reason));
            };
            let Ok(Some(envelope)) = envelope else { return };
            patience = NEXT_REQUEST_MAX;
            let ended = self.request(envelope).await;
            let status = match &ended {
                Ok(()) => Status::Success,
                Err(Ended::Refused(refused)) => {
                    self.tell(refused);
                    refused.status
                }
                Err(Ended::Gone(Gone::Left)) => return,
                Err(Ended::Gone(Gone::CutOff)) => return self.say_cut_off(),
            };
            let response = DeliverResponse {
                r#type: Some(Type::Status(status.into())),
            };
            let sent = self.give(vec![response.encode_to_vec().into()]).await;
            if ended.is_err() || sent.is_err() {
                return;
            }
        }
    }

    fn tell(&self, refused: &Refused) {
        if let Some(left_out) = REFUSED.line(Instant::now()) {
            tracing::info!(
                target: "peer.deliverevents", kind = ?self.kind, left_out,
                "a client's request for blocks ends: {}", foreign(refused)
            );
        }
    }

    /// From now on the stream counts among those that are served.
    fn admit(&mut self) -> Result<(), Gone> {
        if self.is_admitted {
            return Ok(());
        }
        match Arc::clone(&self.shared.streams).try_acquire_owned() {
            Ok(slot) => {
                self.tenure.exchange(slot);
                self.is_admitted = true;
                Ok(())
            }
            Err(_none) => {
                let most = self.shared.settings.streams_max;
                self.out.cut_off(tonic::Status::resource_exhausted(format!(
                    "{most} streams for blocks are open, as many as \
                     peer.limits.concurrency.deliverService allows"
                )));
                Err(Gone::Left)
            }
        }
    }

    async fn request(&mut self, envelope: Envelope) -> Result<(), Ended> {
        let request = Request::parse(envelope)?;
        request.check_time(SystemTime::now(), self.shared.settings.time_window)?;
        if let Some(presented) = self.bound_to {
            request.check_binding(presented)?;
        }
        let name = &request.header.channel_id;
        let (served, config) = self.shared.channel(name).ok_or_else(|| {
            let reason = format!("this peer is not in the channel {}", foreign(name));
            Refused::new(Status::NotFound, reason)
        })?;
        let info = SeekInfo::decode(request.data.clone())
            .map_err(|error| Refused::undecodable("seek info", &error))?;
        let expires_at = request.expires_at(&config);
        check_expiry(expires_at, SystemTime::now())?;
        request.check_policy(&config.policy_for(self.kind.resource()))?;
        let seek = Seek::new(&info, *served.height.borrow())?;
        self.admit()?;
        self.blocks(Admitted {
            request,
            served,
            config,
            expires_at,
            seek,
        })
        .await
    }

    async fn blocks(&self, mut admitted: Admitted) -> Result<(), Ended> {
        let mut height = admitted.served.height.clone();
        let metrics = &self.shared.metrics;
        let filtered = (self.kind == Kind::Filtered).to_string();
        let channel = admitted.served.channel.as_str();
        let label = [channel, &filtered, self.kind.data_type()];
        metrics
            .deliver_requests_received
            .with_label_values(&label)
            .inc();
        let sent = metrics.deliver_blocks_sent.with_label_values(&label);
        loop {
            if height.has_changed().is_err() {
                return Err(left().into());
            }
            let have = *height.borrow_and_update();
            if have <= admitted.seek.next {
                if !admitted.seek.waits {
                    let reason = "the block is not there yet";
                    return Err(Refused::new(Status::NotFound, reason).into());
                }
                tokio::select! {
                    changed = height.changed() => changed.map_err(|_ended| left())?,
                    () = self.out.closed() => return Err(Gone::Left.into()),
                }
                continue;
            }
            let have = tokio::select! {
                below = admitted.served.ready_below(admitted.seek.next, have) => below,
                () = self.out.closed() => return Err(Gone::Left.into()),
            };
            let room = self.out.room().await?;
            admitted.check_again(&self.shared, self.kind)?;
            admitted.check_kept()?;
            let page = self.page(&admitted, have).await;
            let page = page.map_err(|reason| {
                if let Err(pruned) = admitted.check_kept() {
                    return pruned;
                }
                tracing::error!(
                    target: "peer.deliverevents", channel = %admitted.served.channel,
                    "cannot give blocks to a client: {reason}"
                );
                Refused::new(Status::ServiceUnavailable, reason)
            })?;
            let given = page.len() as u64;
            sent.inc_by(given);
            room.send(page);
            let last = admitted.seek.next + given.saturating_sub(1);
            if last == admitted.seek.stop {
                return Ok(());
            }
            admitted.seek.next = last + 1;
        }
    }

    /// The next blocks, at least one.
    async fn page(&self, admitted: &Admitted, have: u64) -> Result<Vec<Bytes>, String> {
        let Admitted { served, seek, .. } = admitted;
        if self.kind == Kind::WithPrivateData {
            return self
                .with_private_data(admitted)
                .await
                .map(|made| vec![made]);
        }
        // Compared for equality, a stop below the next one is never met.
        let end = if seek.stop >= seek.next {
            have.min(seek.stop.saturating_add(1))
        } else {
            have
        };
        let form = self.kind.form(*seek);
        page(&self.shared.shelf, served, form, seek.next..end).await
    }

    /// Made for each client: it depends on who it is.
    async fn with_private_data(&self, admitted: &Admitted) -> Result<Bytes, String> {
        let served = Arc::clone(&admitted.served);
        let config = Arc::clone(&admitted.config);
        let (request, number) = (admitted.request.clone(), admitted.seek.next);
        self.shared
            .shelf
            .reads
            .read(move || {
                let block = shelf::block_of(&served, number)?;
                let given = for_client(&served.vault, &config, &request.signed(), number)?;
                let content = BlockAndPrivateData {
                    block: Some(shelf::block_for_clients(&served, &block)?),
                    private_data_map: given,
                };
                let response = DeliverResponse {
                    r#type: Some(Type::BlockAndPrivateData(content)),
                };
                Ok(response.encode_to_vec().into())
            })
            .await
    }

    fn say_cut_off(&self) {
        self.shared.metrics.clients_cut_off.inc();
        tracing::warn!(
            target: "peer.deliverevents", kind = ?self.kind,
            "a client is cut off: it asked for blocks and reads none"
        );
    }

    async fn give(&self, page: Vec<Bytes>) -> Result<(), Ended> {
        self.out.room().await?.send(page);
        Ok(())
    }
}

impl Admitted {
    /// A new configuration may no longer admit the client, and its certificate may have ended.
    fn check_again(&mut self, shared: &Shared, kind: Kind) -> Result<(), Refused> {
        let config = shared
            .crypto
            .config(&self.served.channel)
            .ok_or_else(left)?;
        if config.sequence() > self.config.sequence() {
            self.request
                .check_policy(&config.policy_for(kind.resource()))?;
            self.expires_at = self.request.expires_at(&config);
            self.config = config;
        }
        check_expiry(self.expires_at, SystemTime::now())
    }

    /// As a Go peer that began with a snapshot gives no stream that begins below it. A single block
    /// is given if it is there, for which `peer channel fetch oldest` and `config` ask.
    fn check_kept(&self) -> Result<(), Refused> {
        let (blocks, Seek { next, stop, .. }) = (&self.served.blocks, self.seek);
        let first = blocks.first();
        if next >= first || (next == stop && blocks.holds(next)) {
            return Ok(());
        }
        let reason = format!("block {next} was pruned: blocks from {first} on are there");
        Err(Refused::new(Status::NotFound, reason))
    }
}

/// As many of these blocks as go in one go, at least one.
async fn page(
    shelf: &Shelf,
    served: &Arc<Served>,
    form: Form,
    numbers: Range<u64>,
) -> Result<Vec<Bytes>, String> {
    let mut page = vec![shelf.response(served, form, numbers.clone()).await?];
    let first = page.first().map_or(0, Bytes::len);
    let room = (
        PAGE_LEN_MAX.saturating_sub(1),
        PAGE_BYTES_MAX.saturating_sub(first),
    );
    page.extend(shelf.more(served, form, numbers.start + 1..numbers.end, room));
    Ok(page)
}

fn left() -> Refused {
    let reason = "the channel is being left, or the node stops";
    Refused::new(Status::ServiceUnavailable, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::Scene;

    #[tokio::test]
    async fn a_page_has_so_many_blocks_and_so_many_bytes() {
        let mut scene = Scene::new();
        for _ in 0..PAGE_LEN_MAX + 1 {
            scene.commit(vec![]);
        }
        for len in [
            PAGE_BYTES_MAX / 3,
            PAGE_BYTES_MAX / 3,
            PAGE_BYTES_MAX / 3,
            2 * PAGE_BYTES_MAX,
        ] {
            scene.commit(vec![vec![7; len].into()]);
        }
        let (shelf, served) = (Shelf::new(), scene.served());
        let len = async |numbers| {
            let page = page(&shelf, &served, Form::Whole, numbers).await;
            page.unwrap().len()
        };
        let (large, height) = (PAGE_LEN_MAX as u64 + 1, served.blocks.height());
        assert_eq!(len(0..height).await, PAGE_LEN_MAX);
        assert_eq!(len(0..2).await, 2, "no further than is asked for");
        assert_eq!(len(large..height).await, 2, "with what is around them");
        assert_eq!(len(height - 1..height).await, 1, "one goes whatever it has");
    }
}
