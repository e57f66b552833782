//! Follows peers of the channel's organizations as a client that wants headers and metadata.
//!
//! One peer for each organization is followed as long as it does well; another one when it fails,
//! stalls, or knows no codes. Beside that the others take turns in being asked for the same blocks, so
//! that one that says otherwise is found. A peer is taken for one of its organization because its
//! alive message names the endpoint, and because what answers there chains to that organization's TLS
//! roots in the channel's configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tidings_gossip::id::{ChannelId, OrgId};
use tidings_ledger::Reader;
use tidings_proto::{
    block::BlockView, common::Status as Answer, orderer::seek_info::SeekContentType,
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_util::task::TaskTracker;
use tonic::Streaming;

use super::{
    Validity, ValiditySettings,
    known::Source,
    sources::{LAG_MAX, near, organizations, peers},
    turns::Turns,
    word::{Claim, ORGANIZATIONS_MAX, Ours},
};
use crate::{
    clients::RELAYED,
    crypto::Crypto,
    deliver::ask::{BLOCK_BYTES_MAX, Ended, Response, ask, from, said, signed},
    logging::{Seldom, foreign},
    status::Status,
    tls::{self, Tls},
};

const DELIVER: &str = "/protos.Deliver/Deliver";

/// How long a peer may lack a block that we have. Peers that are well have it within a second.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Pause when no peer of an organization could be heard; it doubles while nothing is heard.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Organizations may have no peer for days, and one that comes back has a few blocks to tell.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What was heard is on disk after this.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

static BEGUN: Seldom = Seldom::new();
static ENDED: Seldom = Seldom::new();

/// What follows the peers of one channel.
pub(crate) struct Follow {
    pub(crate) validity: Arc<Validity>,
    pub(crate) channel: ChannelId,
    pub(crate) crypto: Arc<Crypto>,
    /// None: plaintext, for tests; whoever answers is believed to be who it says.
    pub(crate) tls: Option<Tls>,
    pub(crate) connect_timeout: Duration,
    pub(crate) settings: ValiditySettings,
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
        let (mut tasks, mut followed) = (JoinSet::new(), BTreeMap::new());
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        loop {
            let there = organizations(&status.borrow_and_update(), &follow.channel);
            follow.take_up(&there, &mut followed, &mut tasks);
            tokio::select! {
                committed = height.changed() => match committed {
                    Ok(()) => follow.validity.committed(*height.borrow_and_update(), Instant::now()),
                    Err(_left) => break,
                },
                changed = status.changed() => if changed.is_err() { break },
                _ = save.tick() => follow.save().await,
            }
        }
        tasks.shutdown().await;
        follow.save().await;
    }

    /// Follows organizations that have come to the channel, and leaves those that are gone from it.
    fn take_up(
        self: &Arc<Self>,
        there: &BTreeSet<OrgId>,
        followed: &mut BTreeMap<OrgId, [AbortHandle; 2]>,
        tasks: &mut JoinSet<()>,
    ) {
        followed.retain(|org, tasks| {
            let stays = self.anchors(org).is_some();
            if !stays {
                tasks.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        while tasks.try_join_next().is_some() {}
        for org in there {
            let is_new = followed.len() < ORGANIZATIONS_MAX && !followed.contains_key(org);
            if is_new && self.anchors(org).is_some() {
                let follows = tasks.spawn(Arc::clone(self).follow(org.clone()));
                let compares = tasks.spawn(Arc::clone(self).compare(org.clone()));
                followed.insert(org.clone(), [follows, compares]);
            }
        }
        self.note_organizations(followed);
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

    /// How many anchor peers an organization of the channel has; none if it is not in the channel.
    fn anchors(&self, org: &OrgId) -> Option<usize> {
        let config = self.crypto.config(&self.channel)?;
        let mut organizations = config.application_organizations().values();
        let found = organizations.find(|each| each.msp_id == org.as_str());
        found.map(|each| each.anchors.len())
    }

    /// Has every organization of the channel listed, and why nobody follows it.
    fn note_organizations<T>(&self, followed: &BTreeMap<OrgId, T>) {
        let Some(config) = self.crypto.config(&self.channel) else {
            return;
        };
        let organizations = config.application_organizations().values().map(|org| {
            let is_followed = followed.contains_key(&OrgId::from(org.msp_id.as_str()));
            let reason = if followed.len() >= ORGANIZATIONS_MAX {
                format!("{ORGANIZATIONS_MAX} others are followed, and no more can be")
            } else {
                no_peer(org.anchors.len())
            };
            (org.msp_id.clone(), (!is_followed).then_some(reason))
        });
        let organizations = organizations.collect();
        self.validity
            .change_and_wake(|known| known.note_organizations(organizations));
    }

    /// Follows a peer of an organization, and when it fails the next one.
    async fn follow(self: Arc<Self>, org: OrgId) {
        let mut status = self.status.clone();
        // Who failed since something was heard, why the last one did, and whether any lacks what is next.
        let (mut failed, mut last, mut lacks) = (BTreeSet::new(), String::new(), false);
        let (mut pause, mut lacking) = (PAUSE_MIN, None);
        loop {
            let there = peers(&status.borrow_and_update(), &self.channel, &org);
            let left = there.iter().filter(|(peer, _)| !failed.contains(*peer));
            let Some((peer, height)) = near(left, *self.height.borrow()) else {
                if there.is_empty() {
                    let reason = no_peer(self.anchors(&org).unwrap_or_default());
                    let silent = Source::Silent(reason);
                    self.validity.note_source(org.as_str(), silent);
                    (failed, lacks, lacking) = (BTreeSet::new(), false, None);
                    if status.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                self.note_silent(&org, &last);
                if !lacks {
                    lacking = None;
                } else if lacking.get_or_insert_with(Instant::now).elapsed()
                    >= self.settings.skip_after
                {
                    self.skip(&org);
                    (lacking, pause) = (None, PAUSE_MIN);
                }
                sleep(pause).await;
                pause = PAUSE_MAX.min(2 * pause);
                (failed, lacks) = (BTreeSet::new(), false);
                continue;
            };
            let before = self.validity.next(org.as_str());
            let mut next = before;
            let ended = tokio::select! {
                Err(ended) = self.read(&org, peer, &mut next, None) => ended,
                reason = self.reason_to_leave(&org, peer) => Ended::from(reason),
            };
            if next > before {
                (failed, lacks, lacking, pause) = (BTreeSet::new(), false, None, PAUSE_MIN);
            }
            lacks |= ended.status == Some(Answer::NotFound) && height > next;
            failed.insert(peer.to_owned());
            last = format!("{} {}", foreign(peer), foreign(&ended.reason));
            self.tell(&org, peer, &ended.reason);
        }
    }

    /// Asks the peers of an organization that are not followed for the same, one after the other.
    async fn compare(self: Arc<Self>, org: OrgId) {
        let mut turns = Turns::default();
        loop {
            sleep(self.settings.turn).await;
            let mut others = peers(&self.status.borrow(), &self.channel, &org);
            others.retain(|peer, _| !self.validity.is_heard_of(org.as_str(), peer));
            let Some(peer) = turns.take(&others) else {
                continue;
            };
            let end = self.validity.next(org.as_str());
            let mut next = turns.begin(&peer, end);
            let most = self.settings.turn.max(STALL_MAX);
            let ended = timeout(most, self.read(&org, &peer, &mut next, Some(end))).await;
            turns.end(peer.clone(), next);
            if let Ok(Err(ended)) = ended {
                self.tell(&org, &peer, &ended.reason);
            }
        }
    }

    /// Ready when a peer is not to be followed any more though it gives blocks: it was revoked or went
    /// away, its organization's TLS roots are others by now, or it is too slow for this channel.
    async fn reason_to_leave(&self, org: &OrgId, endpoint: &str) -> String {
        let roots = self.tls_roots(org);
        let (mut status, mut before) = (self.status.clone(), u64::MAX);
        let first = Instant::now() + self.settings.turn;
        let mut turns = interval_at(first, self.settings.turn);
        loop {
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                _ = turns.tick() => {
                    let height = *self.height.borrow();
                    let lag = height.saturating_sub(self.validity.next(org.as_str()));
                    if lag > LAG_MAX && lag >= before {
                        return format!("is {lag} blocks behind, and falls further behind");
                    }
                    before = lag;
                }
            }
            let there = peers(&status.borrow_and_update(), &self.channel, org);
            if !there.contains_key(endpoint) {
                return "is no member of the channel any more".to_owned();
            }
            if self.tls_roots(org) != roots {
                return "was trusted by TLS roots that have changed".to_owned();
            }
        }
    }

    fn tls_roots(&self, org: &OrgId) -> Vec<Bytes> {
        let config = self.crypto.config(&self.channel);
        let roots = config.map(|config| config.tls_roots(org.as_str()));
        roots.unwrap_or_default()
    }

    /// Tells that a peer is not heard any more, and why: of interest to few while there are others.
    fn tell(&self, org: &OrgId, endpoint: &str, reason: &str) {
        let (reason, endpoint) = (foreign(reason), foreign(endpoint));
        tracing::debug!(
            target: "validity", channel = %self.channel, organization = %org, endpoint,
            "a peer is not heard any more: it {reason}"
        );
    }

    /// Tells that nobody of an organization is heard, and why the last one is not.
    fn note_silent(&self, org: &OrgId, last: &str) {
        let silent = Source::Silent(last.to_owned());
        self.validity.note_source(org.as_str(), silent);
        if let Some(left_out) = ENDED.line(std::time::Instant::now()) {
            tracing::info!(
                target: "validity", channel = %self.channel, organization = %org,
                left_out, "no peer of the organization is heard any more: {last}"
            );
        }
    }

    /// No peer of this organization has the next block any more: they began with snapshots, or were
    /// pruned. What comes from now on they have.
    fn skip(&self, org: &OrgId) {
        let (next, height) = (self.validity.next(org.as_str()), *self.height.borrow());
        tracing::warn!(
            target: "validity", channel = %self.channel, organization = %org, next, height,
            "no peer gives block {next}: the organization is heard of blocks from {height} on"
        );
        self.validity.skip(org.as_str(), height);
    }

    /// Hears a peer from this block on until something goes wrong, or up to an end if it is only
    /// compared; `next` is how far.
    async fn read(
        &self,
        org: &OrgId,
        endpoint: &str,
        next: &mut u64,
        end: Option<u64>,
    ) -> Result<(), Ended> {
        if end.is_some_and(|end| *next >= end) {
            return Ok(());
        }
        let connected = || {
            if end.is_none() {
                self.note_heard(org, endpoint);
            }
        };
        let open = self.open(org, endpoint, *next, connected);
        let mut responses = unless_stalled(self.height.clone(), *next, open).await??;
        let mut height = self.height.clone();
        while end.is_none_or(|end| *next < end) {
            let response = unless_stalled(height.clone(), *next, responses.message()).await?;
            let response = response
                .map_err(|status| format!("broke the stream: {}", said(&status)))?
                .ok_or_else(|| "closed the stream".to_owned())?;
            let block = response.into_block()?;
            let there = height.wait_for(|have| *have > *next).await;
            there.map_err(|_left| "is not asked any more: the channel is left".to_owned())?;
            if self.anchors(org).is_none() {
                let reason = "is of an organization that is no longer in the channel";
                return Err(reason.to_owned().into());
            }
            self.hear(org, endpoint, *next, block).await?;
            *next += 1;
        }
        Ok(())
    }

    fn note_heard(&self, org: &OrgId, endpoint: &str) {
        let heard = Source::Heard(endpoint.to_owned());
        if self.validity.note_source(org.as_str(), heard)
            && let Some(left_out) = BEGUN.line(std::time::Instant::now())
        {
            let endpoint = foreign(endpoint);
            tracing::info!(
                target: "validity", channel = %self.channel, organization = %org, endpoint, left_out,
                "hears of a peer which transactions are valid"
            );
        }
    }

    /// Opens the stream; ready when its first block is on its way.
    async fn open(
        &self,
        org: &OrgId,
        endpoint: &str,
        next: u64,
        connected: impl FnOnce(),
    ) -> Result<Streaming<Response>, String> {
        let roots = self.tls_roots(org);
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
        // It may have nothing to say before there is another block.
        connected();
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
    async fn hear(
        &self,
        org: &OrgId,
        peer: &str,
        number: u64,
        theirs: Bytes,
    ) -> Result<(), String> {
        let (validity, crypto) = (Arc::clone(&self.validity), Arc::clone(&self.crypto));
        let (blocks, channel) = (self.blocks.clone(), self.channel.clone());
        let (org, peer) = (org.clone(), foreign(peer));
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
            validity.hear((org.as_str(), &peer), number, said, now)
        };
        let heard = self.tasks.spawn_blocking(hear).await;
        heard.map_err(|broken| format!("could not be heard: {broken}"))?
    }
}

/// Why an organization is not heard of which no peer is known.
fn no_peer(anchors: usize) -> String {
    format!("no peer of it is known in the channel, of which it has {anchors} as anchors")
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
