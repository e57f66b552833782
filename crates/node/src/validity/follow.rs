//! Follows peers of the channel's organizations as a client that wants headers and metadata.
//!
//! One peer for each organization at a time; another one when its turn is over, or when it fails,
//! stalls, or knows no codes. A peer is taken for one of its organization because its alive message
//! names the endpoint, and because what answers there chains to that organization's TLS roots in the
//! channel's configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tidings_gossip::id::{ChannelId, OrgId, PkiId};
use tidings_ledger::Reader;
use tidings_proto::{
    block::BlockView, common::Status as Answer, orderer::seek_info::SeekContentType,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;
use tonic::Streaming;

use super::{
    Validity,
    known::Source,
    turns::Turns,
    word::{Claim, ORGANIZATIONS_MAX, Ours},
};
use crate::{
    clients::RELAYED,
    crypto::Crypto,
    deliver::ask::{BLOCK_BYTES_MAX, Ended, Response, ask, from, said, signed},
    logging::{Seldom, foreign},
    status::{MemberStatus, Status},
    tls::{self, Tls},
};

const DELIVER: &str = "/protos.Deliver/Deliver";

/// How long a peer may lack a block that we have. Peers that are well have it within a second.
const STALL_MAX: Duration = Duration::from_secs(10);

/// How long one peer of an organization is heard while there are others. Whoever says otherwise than
/// they do is found within a turn of each.
const TURN: Duration = Duration::from_secs(60);

/// Peers of one organization that take turns.
const PEERS_MAX: usize = 32;

/// How far a peer may say it is behind our ledger and get its turn all the same: published heights are
/// seconds old. Who is further behind would let the organization be silent for as long as it stalls.
const LAG_MAX: u64 = 64;

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
            let there = organizations(&status.borrow_and_update(), &follow.channel);
            for org in there {
                let is_new = followed.len() < ORGANIZATIONS_MAX && !followed.contains(&org);
                if is_new && follow.anchors(&org).is_some() {
                    followed.insert(org.clone());
                    followers.spawn(Arc::clone(&follow).follow(org));
                }
            }
            follow.note_organizations(&followed);
            tokio::select! {
                committed = height.changed() => match committed {
                    Ok(()) => follow.validity.committed(*height.borrow_and_update(), Instant::now()),
                    Err(_left) => break,
                },
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

    /// How many anchor peers an organization of the channel has; none if it is not in the channel.
    fn anchors(&self, org: &OrgId) -> Option<usize> {
        let config = self.crypto.config(&self.channel)?;
        let mut organizations = config.application_organizations().values();
        let found = organizations.find(|each| each.msp_id == org.as_str());
        found.map(|each| each.anchors.len())
    }

    /// Has every organization of the channel listed, and why nobody follows it.
    fn note_organizations(&self, followed: &BTreeSet<OrgId>) {
        let Some(config) = self.crypto.config(&self.channel) else {
            return;
        };
        let organizations = config.application_organizations().values().map(|org| {
            let is_followed = followed.contains(&OrgId::from(org.msp_id.as_str()));
            let reason = if followed.len() >= ORGANIZATIONS_MAX {
                format!("{ORGANIZATIONS_MAX} others are followed, and no more can be")
            } else {
                no_peer(org.anchors.len())
            };
            (org.msp_id.clone(), (!is_followed).then_some(reason))
        });
        let organizations = organizations.collect();
        self.validity.change(|known| {
            known.note_organizations(organizations);
            false
        });
    }

    /// Follows the peers of an organization, one after the other.
    async fn follow(self: Arc<Self>, org: OrgId) {
        let (mut turns, mut pause) = (Turns::default(), PAUSE_MIN);
        // How many peers failed one after the other, and how many of these lack what is next.
        let (mut failed, mut without) = (0, 0);
        let mut status = self.status.clone();
        loop {
            let peers = peers(&status.borrow_and_update(), &self.channel, &org);
            let Some(peer) = turns.take(&peers) else {
                let reason = no_peer(self.anchors(&org).unwrap_or_default());
                let silent = Source::Silent(reason);
                self.validity.note_source(org.as_str(), silent);
                if status.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let before = self.validity.next(org.as_str());
            let mut next = turns.begin(&peer, before);
            let mut ended = self.hear_turn(&org, &peer, &mut next).await;
            let has_not = |ended: &Option<Ended>| {
                let status = ended.as_ref().and_then(|ended| ended.status);
                status == Some(Answer::NotFound)
            };
            if has_not(&ended) && next < before {
                // It may have what is next all the same.
                next = before;
                ended = self.hear_turn(&org, &peer, &mut next).await;
            }
            let lacks = has_not(&ended) && peers.get(&peer) > Some(&next);
            turns.end(peer.clone(), next);
            let Some(ended) = ended else {
                (failed, without) = (0, 0);
                continue;
            };
            failed += 1;
            without = if lacks { without + 1 } else { 0 };
            if without >= peers.len() {
                self.skip(&org, next);
                without = 0;
            }
            if self.validity.next(org.as_str()) > before {
                pause = PAUSE_MIN;
            }
            let is_silent = failed >= peers.len();
            self.tell(&org, &peer, &ended.reason, is_silent);
            if is_silent {
                sleep(pause).await;
                pause = PAUSE_MAX.min(2 * pause);
                failed = 0;
            }
        }
    }

    /// Hears a peer until something goes wrong, or its turn is over.
    async fn hear_turn(&self, org: &OrgId, peer: &str, next: &mut u64) -> Option<Ended> {
        let others = || peers(&self.status.borrow(), &self.channel, org).len() > 1;
        tokio::select! {
            Err(ended) = self.read(org, peer, next) => Some(ended),
            () = turn(others) => None,
        }
    }

    /// Tells that a peer is not heard any more, and why. While there are others to be heard, it is of
    /// interest to few.
    fn tell(&self, org: &OrgId, endpoint: &str, reason: &str, is_silent: bool) {
        let (reason, endpoint) = (foreign(reason), foreign(endpoint));
        if !is_silent {
            tracing::debug!(
                target: "validity", channel = %self.channel, organization = %org, endpoint,
                "a peer is not heard any more: it {reason}"
            );
            return;
        }
        let silent = Source::Silent(format!("{endpoint} {reason}"));
        self.validity.note_source(org.as_str(), silent);
        if let Some(left_out) = ENDED.line(std::time::Instant::now()) {
            tracing::info!(
                target: "validity", channel = %self.channel, organization = %org, endpoint,
                left_out, "no peer of the organization is heard any more: the last one {reason}"
            );
        }
    }

    /// No peer of this organization has the next block any more: they began with snapshots, or were
    /// pruned. What comes from now on they have.
    fn skip(&self, org: &OrgId, next: u64) {
        let height = *self.height.borrow();
        tracing::warn!(
            target: "validity", channel = %self.channel, organization = %org, next, height,
            "no peer gives block {next}: the organization is heard of blocks from {height} on"
        );
        self.validity.skip(org.as_str(), height);
    }

    /// Hears a peer from this block on until something goes wrong; `next` is how far.
    async fn read(&self, org: &OrgId, endpoint: &str, next: &mut u64) -> Result<Infallible, Ended> {
        let open = self.open(org, endpoint, *next);
        let mut responses = unless_stalled(self.height.clone(), *next, open).await??;
        let mut height = self.height.clone();
        loop {
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
        // It may have nothing to say before there is another block.
        let heard = Source::Heard(foreign(endpoint));
        if self.validity.note_source(org.as_str(), heard)
            && let Some(left_out) = BEGUN.line(std::time::Instant::now())
        {
            tracing::info!(
                target: "validity", channel = %self.channel, organization = %org, endpoint, left_out,
                "hears of a peer which transactions are valid"
            );
        }
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

/// Members that are in the channel and can be reached, with the heights that they published.
fn members<'a>(
    status: &'a Status,
    channel: &ChannelId,
) -> impl Iterator<Item = (&'a MemberStatus, u64)> {
    let channel = status.channels.iter().find(|each| each.channel == *channel);
    let peers = channel.into_iter().flat_map(|channel| &channel.peers);
    let heights: BTreeMap<PkiId, u64> = peers.copied().collect();
    let members = status.members.iter();
    members.filter_map(move |member| {
        let height = heights.get(&member.peer).copied();
        Some((member, height.filter(|_| !member.endpoint.is_empty())?))
    })
}

/// Organizations of which a peer in the channel can be reached.
fn organizations(status: &Status, channel: &ChannelId) -> BTreeSet<OrgId> {
    let members = members(status, channel);
    members
        .filter_map(|(member, _)| member.org.clone())
        .collect()
}

/// Where peers of this organization in the channel can be reached, with the heights that they
/// published. Those that lag behind only where there is no other.
fn peers(status: &Status, channel: &ChannelId, org: &OrgId) -> BTreeMap<String, u64> {
    let ours = members(status, channel).filter(|(member, _)| member.org.as_ref() == Some(org));
    let mut peers: BTreeMap<String, u64> = ours
        .take(PEERS_MAX)
        .map(|(member, height)| (member.endpoint.clone(), height))
        .collect();
    let mut channels = status.channels.iter();
    let own = channels.find(|each| each.channel == *channel);
    let least = own.map_or(0, |own| own.height.saturating_sub(LAG_MAX));
    if peers.values().any(|height| *height >= least) {
        peers.retain(|_, height| *height >= least);
    }
    peers
}

/// Why an organization is not heard of which no peer is known.
fn no_peer(anchors: usize) -> String {
    format!("no peer of it is known in the channel, of which it has {anchors} as anchors")
}

/// Ends when a peer has been heard for long enough, if there are others then.
async fn turn(others: impl Fn() -> bool) {
    loop {
        sleep(TURN).await;
        if others() {
            return;
        }
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
    use crate::status::ChannelStatus;

    #[test]
    fn members_of_the_channel_that_can_be_reached_are_sources() {
        let peer = |number| PkiId::new([number; 32]);
        let member = |number, org: &str, endpoint: &str| MemberStatus {
            peer: peer(number),
            org: Some(OrgId::from(org)),
            endpoint: endpoint.to_owned(),
        };
        let channel = ChannelId::from("ch");
        let mut status = Status {
            members: vec![
                member(1, "A", "a:1"),
                member(2, "A", ""),
                member(3, "B", "b:1"),
                member(4, "C", "c:1"),
            ],
            channels: vec![ChannelStatus {
                channel: channel.clone(),
                height: 9,
                peers: vec![(peer(1), 7), (peer(2), 7), (peer(3), 8)],
                leader: false,
                elected: None,
                catching_up: None,
            }],
        };
        let all: Vec<OrgId> = organizations(&status, &channel).into_iter().collect();
        assert_eq!(all, [OrgId::from("A"), OrgId::from("B")]);
        let of_a = |status: &Status| peers(status, &channel, &OrgId::from("A"));
        assert_eq!(of_a(&status), [("a:1".to_owned(), 7)].into());
        assert!(peers(&status, &ChannelId::from("x"), &OrgId::from("A")).is_empty());
        status.members[1].endpoint = "late:1".to_owned();
        for (own, of_whom) in [(7 + LAG_MAX, 2), (8 + LAG_MAX, 1), (20 + LAG_MAX, 2)] {
            status.channels[0].height = own;
            status.channels[0].peers[0].1 = 8;
            assert_eq!(of_a(&status).len(), of_whom, "{own}");
        }
        for number in 0..PEERS_MAX as u8 {
            status
                .members
                .push(member(100 + number, "A", &format!("more:{number}")));
            status.channels[0].peers.push((peer(100 + number), 7));
        }
        assert_eq!(of_a(&status).len(), PEERS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_heard_for_a_turn_and_on_while_it_is_alone() {
        let began = Instant::now();
        let others = || began.elapsed() > 5 * TURN / 2;
        turn(others).await;
        assert_eq!(began.elapsed(), 3 * TURN);
    }

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
