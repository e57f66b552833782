//! Follows peers of the channel's organizations as a client that wants headers and metadata.
//!
//! One peer for each organization at a time; another one when it fails, stalls, or knows no codes. A
//! peer is taken for one of its organization because its alive message names the endpoint, and
//! because what answers there chains to that organization's TLS roots in the channel's configuration.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use tidings_gossip::id::{ChannelId, OrgId};
use tidings_ledger::Reader;
use tidings_proto::{block::BlockView, orderer::seek_info::SeekContentType};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;
use tonic::Streaming;

use super::{
    Validity,
    word::{Claim, ORGANIZATIONS_MAX, Ours},
};
use crate::{
    clients::RELAYED,
    crypto::Crypto,
    deliver::ask::{BLOCK_BYTES_MAX, Response, ask, from, said, signed},
    logging::{Seldom, foreign},
    status::Status,
    tls::{self, Tls},
};

const DELIVER: &str = "/protos.Deliver/Deliver";

/// How long a peer may lack a block that we have. Peers that are well have it within a second.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Pause before the next peer of an organization; it doubles while nothing is heard.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Organizations may have no peer for days, and one that comes back has a few blocks to tell.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What was heard is on disk after this.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

static ENDED: Seldom = Seldom::new();

/// What follows the peers of one channel.
pub(crate) struct Follow {
    pub(crate) validity: Arc<Validity>,
    pub(crate) channel: ChannelId,
    pub(crate) crypto: Arc<Crypto>,
    /// None: plaintext, for tests; whoever answers is believed to be who it says.
    pub(crate) tls: Option<Tls>,
    pub(crate) connect_timeout: Duration,
    pub(crate) blocks: Reader,
    /// Ends when the channel is left.
    pub(crate) height: watch::Receiver<u64>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) tasks: TaskTracker,
}

impl Follow {
    /// Follows until the channel is left.
    pub(crate) async fn run(self) {
        let follow = Arc::new(self);
        let (mut height, mut status) = (follow.height.clone(), follow.status.clone());
        let (mut followers, mut followed) = (JoinSet::new(), BTreeSet::new());
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        loop {
            let members = follow.organizations(&status.borrow_and_update());
            for org in members {
                if followed.len() < ORGANIZATIONS_MAX && followed.insert(org.clone()) {
                    followers.spawn(Arc::clone(&follow).follow(org));
                }
            }
            let left = async { height.wait_for(|_| false).await.is_err() };
            tokio::select! {
                _left = left => break,
                changed = status.changed() => if changed.is_err() { break },
                _ = save.tick() => follow.save().await,
            }
        }
        followers.shutdown().await;
        follow.save().await;
    }

    async fn save(&self) {
        let validity = Arc::clone(&self.validity);
        let saved = self.tasks.spawn_blocking(move || validity.save()).await;
        if let Ok(Err(reason)) = saved
            && let Some(left_out) = ENDED.line(std::time::Instant::now())
        {
            tracing::warn!(target: "validity", channel = %self.channel, left_out, "{reason}");
        }
    }

    /// Organizations of the channel of which a peer is known.
    fn organizations(&self, status: &Status) -> BTreeSet<OrgId> {
        let members = status.members.iter();
        let named = members.filter_map(|member| member.org.clone());
        named
            .filter(|org| self.is_of_channel(org) && !self.sources(status, org).is_empty())
            .collect()
    }

    fn is_of_channel(&self, org: &OrgId) -> bool {
        self.crypto.config(&self.channel).is_some_and(|config| {
            let mut organizations = config.application_organizations().values();
            organizations.any(|each| each.msp_id == org.as_str())
        })
    }

    /// Where peers of this organization in the channel can be reached.
    fn sources(&self, status: &Status, org: &OrgId) -> Vec<String> {
        let channel = status.channels.iter().find(|c| c.channel == self.channel);
        let peers = channel.map_or(&[][..], |channel| &channel.peers);
        let members = status.members.iter();
        let fit = members.filter(|member| {
            member.org.as_ref() == Some(org)
                && !member.endpoint.is_empty()
                && peers.iter().any(|(peer, _)| *peer == member.peer)
        });
        fit.map(|member| member.endpoint.clone()).collect()
    }

    /// Follows one peer of an organization after the other.
    async fn follow(self: Arc<Self>, org: OrgId) {
        let (mut attempt, mut pause) = (0, PAUSE_MIN);
        let mut status = self.status.clone();
        loop {
            let sources = self.sources(&status.borrow_and_update(), &org);
            if sources.is_empty() {
                self.validity
                    .note_source(org.as_str(), "no peer".to_owned());
                if status.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let endpoint = &sources[attempt % sources.len()];
            let before = self.validity.next(org.as_str());
            let Err(reason) = self.read(&org, endpoint).await;
            let reason = foreign(reason);
            let source = format!("{endpoint} {reason}");
            self.validity.note_source(org.as_str(), source);
            if let Some(left_out) = ENDED.line(std::time::Instant::now()) {
                tracing::info!(
                    target: "validity", channel = %self.channel, organization = %org, endpoint,
                    left_out, "a peer is not heard any more: it {reason}"
                );
            }
            attempt += 1;
            pause = if self.validity.next(org.as_str()) > before {
                PAUSE_MIN
            } else {
                PAUSE_MAX.min(2 * pause)
            };
            sleep(pause).await;
        }
    }

    /// Hears a peer until something goes wrong.
    async fn read(&self, org: &OrgId, endpoint: &str) -> Result<Infallible, String> {
        let mut next = self.validity.next(org.as_str());
        let open = self.open(org, endpoint, next);
        let mut responses = unless_stalled(self.height.clone(), next, open).await??;
        tracing::info!(
            target: "validity", channel = %self.channel, organization = %org, endpoint, next,
            "hears of a peer which transactions are valid"
        );
        self.validity.note_source(org.as_str(), endpoint.to_owned());
        let mut height = self.height.clone();
        loop {
            let response = unless_stalled(height.clone(), next, responses.message()).await?;
            let response = response
                .map_err(|status| format!("broke the stream: {}", said(&status)))?
                .ok_or("closed the stream")?;
            let block = response.into_block().map_err(|ended| ended.reason)?;
            let there = height.wait_for(|have| *have > next).await;
            there.map_err(|_left| "is not asked any more: the channel is left")?;
            if !self.is_of_channel(org) {
                return Err("is of an organization that is no longer in the channel".to_owned());
            }
            self.hear(org, next, block).await?;
            next += 1;
        }
    }

    /// Opens the stream; ready when its first block is on its way.
    async fn open(
        &self,
        org: &OrgId,
        endpoint: &str,
        next: u64,
    ) -> Result<Streaming<Response>, String> {
        let config = self.crypto.config(&self.channel);
        let roots = config.map(|config| config.tls_roots(org.as_str()));
        let roots = roots.unwrap_or_default();
        let identity = self.tls.as_ref().map(Tls::client_identity);
        if identity.is_some() && roots.is_empty() {
            // There is no falling back on what the system trusts.
            return Err("has no TLS root in the channel configuration".to_owned());
        }
        let connect = tls::channel(endpoint, identity.as_ref(), &roots, true);
        let channel = timeout(self.connect_timeout, connect)
            .await
            .map_err(|_late| format!("gives no connection within {:?}", self.connect_timeout))?
            .map_err(|error| format!("is not reached: {error}"))?;
        let shown = identity.map(|identity| identity.certificate_sha256());
        let shown = shown.map(|sha256| Bytes::copy_from_slice(&sha256));
        let seek = from(next, SeekContentType::HeaderWithSig);
        let request = signed(
            &self.crypto,
            &self.channel,
            &seek,
            shown.unwrap_or_default(),
        );
        let request = request.map_err(|ended| ended.reason)?;
        let responses = ask(channel, DELIVER, BLOCK_BYTES_MAX, request).await;
        let responses = responses.map_err(|ended| ended.reason)?;
        if responses.metadata().contains_key(RELAYED) {
            // What it says others have said: counted again, it would be more than it is.
            return Err("is a tidings node, which validates nothing itself".to_owned());
        }
        Ok(responses.into_inner())
    }

    /// Compares what a peer says of a block with our ledger and with what others say.
    async fn hear(&self, org: &OrgId, number: u64, theirs: Bytes) -> Result<(), String> {
        let (validity, crypto) = (Arc::clone(&self.validity), Arc::clone(&self.crypto));
        let (blocks, channel, org) = (self.blocks.clone(), self.channel.clone(), org.clone());
        let now = Instant::now();
        let hear = move || {
            let block = BlockView::parse(theirs.clone())
                .map_err(|error| format!("sent what is no block: {error}"))?;
            if block.number() != Some(number) {
                let got = block.number();
                return Err(format!("sent block {got:?} where {number} is next"));
            }
            let mut claim = Claim::of(&block)
                .map_err(|reason| format!("sent block {number}, which {reason}"))?;
            let ours = blocks.block(number).map_err(|error| error.to_string())?;
            // What is not there any more nobody is shown.
            let ours = ours.map(|block| Ours {
                header: block.header_asn1().unwrap_or_default(),
                transactions: block.transactions_len(),
            });
            claim.is_signed = ours
                .as_ref()
                .is_some_and(|ours| ours.header != claim.header)
                && crypto.verify_header(&channel, &theirs).is_ok();
            let said = ours.as_ref().map(|ours| (&claim, ours));
            validity.hear(org.as_str(), number, said, now)
        };
        let heard = self.tasks.spawn_blocking(hear).await;
        heard.map_err(|broken| format!("could not be heard: {broken}"))?
    }
}

/// Waits for something of a peer, not for long once we have the block that it is about.
async fn unless_stalled<T>(
    mut height: watch::Receiver<u64>,
    next: u64,
    what: impl Future<Output = T>,
) -> Result<T, String> {
    let stalled = async {
        if height.wait_for(|have| *have > next).await.is_err() {
            std::future::pending().await
        }
        sleep(STALL_MAX).await;
    };
    tokio::select! {
        biased;
        done = what => Ok(done),
        () = stalled => Err(format!("has not given block {next} within {STALL_MAX:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_left_that_lacks_what_we_have_and_not_one_that_has_nothing_to_say() {
        let (ledger, height) = watch::channel(7);
        let waits = unless_stalled(height, 7, std::future::pending::<()>());
        let mut waits = std::pin::pin!(waits);
        let day = Duration::from_secs(24 * 3600);
        assert!(
            timeout(day, &mut waits).await.is_err(),
            "no block 7 anywhere"
        );
        ledger.send_replace(8);
        let began = Instant::now();
        let left = waits.await.unwrap_err();
        assert_eq!(
            (left.as_str(), began.elapsed()),
            ("has not given block 7 within 10s", STALL_MAX)
        );
    }
}
