//! Makes blocks durable, in order, and follows the configuration of the channel.
//!
//! One thread per channel owns the committer. It takes what has queued up while it wrote, checks
//! that each block follows its predecessor, checks it again if the channel's configuration has
//! moved on since it was verified, writes all of it with one sync, and only then says so. A
//! configuration block ends such a group: what comes after it is judged by what it says.

mod committer;

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Instant,
};

use bytes::Bytes;
use prometheus::IntGauge;
use tidings_gossip::{
    Input, JoinChannel, Source, VerifiedBlock, Verifier,
    delivery::{Agreement, Event},
    id::{ChannelId, OrgId},
    message::PrivateDigest,
    privdata::{Found, GATHERS_MAX, Missing},
};
use tidings_ledger::private::{Content, PrivateBlock, PrivateEntry, Why};
use tidings_msp::channel_config::{ChannelConfig, OrdererEndpoints};
use tidings_proto::block::BlockView;
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    crypto::Crypto,
    failed::Failed,
    logging::Seldom,
    metrics::source_label,
    private::{Commits, Ready, Vault, Window},
    tls::Tls,
    vitals::Vitals,
};

pub use committer::Committer;

/// Blocks that may wait for the writer. The core keeps fewer than this in flight, so a full queue
/// is a broken promise of ours; the block is then refused and asked for again.
const JOBS_MAX: usize = 64;

/// With what the core says of private data: no more than it looks for at a time.
const WORK_MAX: usize = JOBS_MAX + GATHERS_MAX;

static LACKING: Seldom = Seldom::new();

/// A block became durable.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The channel.
    pub channel: ChannelId,
    /// The block.
    pub number: u64,
    /// Hash of its header.
    pub hash: [u8; 32],
    /// How it reached this node.
    pub source: Source,
    /// When it was first seen here, by whichever way; none if it was too far ahead to be noted.
    pub seen_at: Option<Instant>,
    /// When it was durable.
    pub at: Instant,
}

/// A block on its way to disk.
pub(crate) struct Job {
    pub(crate) block: VerifiedBlock,
    pub(crate) source: Source,
    pub(crate) seen_at: Option<Instant>,
    /// What came along with it: serialized `PvtDataPayload`s.
    pub(crate) private_data: Vec<Bytes>,
}

/// What the writer of a channel is told.
enum Work {
    Block(Job),
    /// The core has ended looking for what this block names.
    Gathered(u64, Vec<Found>, Vec<(PrivateDigest, Missing)>),
}

/// What the writer of a channel tells the rest of the node.
#[derive(Clone)]
pub(crate) struct Outlets {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) committed: broadcast::Sender<Committed>,
    pub(crate) height: watch::Sender<u64>,
    /// Touched when the TLS roots of orderers changed, but not their addresses.
    pub(crate) roots: watch::Sender<()>,
    pub(crate) failed: Failed,
    pub(crate) crypto: Arc<Crypto>,
    pub(crate) tls: Option<Tls>,
    pub(crate) vitals: Vitals,
    /// Where private data is kept.
    pub(crate) vault: Arc<Vault>,
    /// Who does what is left to do after a commit.
    pub(crate) commits: Commits,
}

/// The queue to the writer of a channel. The writer ends when it is dropped.
pub(crate) struct Writer {
    work: SyncSender<Work>,
    /// Blocks in it.
    queued: Arc<AtomicUsize>,
    waiting: IntGauge,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(
        channel: ChannelId,
        committer: Box<dyn Committer>,
        outlets: Outlets,
    ) -> std::io::Result<Self> {
        let (work, queue) = sync_channel(WORK_MAX);
        let queued = Arc::new(AtomicUsize::new(0));
        let failed = outlets.failed.clone();
        let broken = format!("channel {channel}: the thread that commits blocks broke off");
        let (vitals, of) = (outlets.vitals.clone(), channel.clone());
        let waiting = vitals
            .metrics
            .commit_queue_length
            .with_label_values(&[channel.as_str()]);
        let mut run = Run {
            window: Window::new(Arc::clone(&outlets.vault), outlets.inputs.clone()),
            channel,
            committer,
            outlets,
            queued: Arc::clone(&queued),
            waiting: waiting.clone(),
            prunes: true,
        };
        let write = move || {
            let reason = match catch_unwind(AssertUnwindSafe(|| run.run(&queue))) {
                Ok(Ok(())) => return,
                Ok(Err(reason)) => reason,
                // What it panicked about was printed.
                Err(_panic) => broken,
            };
            tracing::error!(target: "ledger", "{reason}");
            vitals.health.ledger_broke(&of, &reason);
            failed.tell(reason);
        };
        let thread = Builder::new().name("commit".into()).spawn(write)?;
        Ok(Self {
            work,
            queued,
            waiting,
            thread,
        })
    }

    /// Queues a block. False if there is no room or the writer has failed.
    pub(crate) fn submit(&self, job: Job) -> bool {
        let number = job.block.number;
        if self.queued.fetch_add(1, Ordering::AcqRel) >= JOBS_MAX {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(target: "gossip.state", number, "no room to commit the block");
            return false;
        }
        self.waiting.inc();
        // If it has failed, its reason was told when it ended.
        let submitted = self.work.try_send(Work::Block(job)).is_ok();
        if !submitted {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            self.waiting.dec();
        }
        submitted
    }

    /// Says what came of looking for the private data of a block.
    pub(crate) fn gathered(
        &self,
        number: u64,
        found: Vec<Found>,
        missing: Vec<(PrivateDigest, Missing)>,
    ) {
        let work = Work::Gathered(number, found, missing);
        if self.work.try_send(work).is_err() {
            // Either it has failed, or it did not ask.
            tracing::debug!(target: "gossip.privdata", number, "nobody waits for private data");
        }
    }

    /// Writes what is queued and closes the ledger.
    pub(crate) fn finish(self) {
        drop(self.work);
        if self.thread.join().is_err() {
            tracing::error!(target: "ledger", "the thread that commits blocks panicked");
        }
    }
}

struct Run {
    channel: ChannelId,
    committer: Box<dyn Committer>,
    outlets: Outlets,
    /// Blocks whose private data is looked for.
    window: Window,
    queued: Arc<AtomicUsize>,
    waiting: IntGauge,
    /// Until pruning fails.
    prunes: bool,
}

impl Run {
    fn run(&mut self, queue: &Receiver<Work>) -> Result<(), String> {
        loop {
            let first = if self.prune() {
                match queue.try_recv() {
                    Ok(first) => first,
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            } else {
                let Ok(first) = queue.recv() else {
                    return Ok(());
                };
                first
            };
            self.take(std::iter::once(first).chain(queue.try_iter()))
                .map_err(|reason| format!("channel {}: {reason}", self.channel))?;
        }
    }

    /// Prunes a little. Says whether there may be more to do.
    fn prune(&mut self) -> bool {
        let vault = &self.outlets.vault;
        let defining = LazyCell::new(|| vault.defining());
        let hold = |block: &BlockView| block.number().is_some_and(|n| defining.contains(&n));
        let pruned = match self.prunes {
            true => self.committer.prune(&hold),
            false => Ok(None),
        };
        if let Some(extent) = self.committer.extent() {
            let metrics = &self.outlets.vitals.metrics;
            metrics.set_extent(&self.channel, extent);
        }
        match pruned {
            Ok(Some(first)) => {
                tracing::info!(
                    target: "ledger", channel = %self.channel, first,
                    "pruned: blocks below this one are gone, but for those that are needed for good"
                );
                self.outlets.commits.pruned(first);
            }
            Ok(None) => return false,
            Err(reason) => {
                self.prunes = false;
                tracing::error!(
                    target: "ledger", channel = %self.channel,
                    "the ledger is not pruned any more until the next start: {reason}"
                );
            }
        }
        self.prunes
    }

    /// Takes what has queued up, and writes what need not wait any more.
    fn take(&mut self, work: impl Iterator<Item = Work>) -> Result<(), String> {
        for work in work {
            match work {
                Work::Block(job) => {
                    self.queued.fetch_sub(1, Ordering::AcqRel);
                    self.waiting.dec();
                    self.window.take(job)?;
                }
                Work::Gathered(number, found, missing) => {
                    self.window.gathered(number, found, &missing);
                }
            }
        }
        loop {
            let ready = self.window.ready()?;
            if ready.is_empty() {
                return Ok(());
            }
            self.commit(ready)?;
        }
    }

    fn commit(&mut self, jobs: Vec<Ready>) -> Result<(), String> {
        let mut group: Vec<Ready> = Vec::with_capacity(jobs.len());
        for mut ready in jobs {
            if let Err(reason) = self.admit(&mut ready.job, group.last()) {
                self.refuse(ready.job.block.number, &reason);
                continue;
            }
            if ready.job.block.is_config {
                self.write(&mut group, None)?;
                // What was admitted under the old rules was written under them, too.
                match self
                    .outlets
                    .crypto
                    .next_config(&self.channel, &ready.job.block.bytes)
                {
                    Ok(config) => {
                        group.push(ready);
                        let changed = config.is_some();
                        self.write(&mut group, config)?;
                        if changed {
                            self.announce();
                        }
                    }
                    Err(reason) => self.refuse(ready.job.block.number, &reason),
                }
            } else {
                group.push(ready);
            }
        }
        self.write(&mut group, None)
    }

    /// Checks that the block follows `before` (else the last committed one) under the
    /// configuration of now.
    fn admit(&self, job: &mut Job, before: Option<&Ready>) -> Result<(), String> {
        let (expected, hash) = before.map_or_else(
            || (self.committer.height(), self.committer.last_hash()),
            |Ready { job, .. }| (job.block.number + 1, Some(job.block.hash)),
        );
        let number = job.block.number;
        if number != expected {
            return Err(format!("block {number} came where {expected} is next"));
        }
        if hash.is_none_or(|hash| hash[..] != job.block.previous_hash[..]) {
            return Err(format!("block {number} does not follow our last block"));
        }
        if self.outlets.crypto.config_sequence(&self.channel) != Some(job.block.config_sequence) {
            job.block =
                self.outlets
                    .crypto
                    .verify_block(&self.channel, number, &job.block.bytes)?;
        }
        Ok(())
    }

    fn refuse(&self, number: u64, reason: &str) {
        tracing::warn!(target: "gossip.state", channel = %self.channel, number, "not committed: {reason}");
        self.outlets
            .vitals
            .metrics
            .refused
            .with_label_values(&["commit"])
            .inc();
        self.tell(Input::CommitRefused {
            channel: self.channel.clone(),
            number,
        });
    }

    /// Makes a group durable, puts the configuration in force that it ends with, and says so: who
    /// has heard of the height judges by what belongs to it.
    fn write(
        &mut self,
        group: &mut Vec<Ready>,
        config: Option<Arc<ChannelConfig>>,
    ) -> Result<(), String> {
        if group.is_empty() {
            return Ok(());
        }
        let blocks: Vec<VerifiedBlock> = group.iter().map(|r| r.job.block.clone()).collect();
        let accounts = group.iter_mut().filter_map(|ready| ready.account.take());
        let accounts: Vec<PrivateBlock> = accounts.collect();
        let reconciles = self.outlets.vault.reconciles();
        tell_what_is_missing(&self.channel, &accounts, reconciles);
        let begun = Instant::now();
        self.outlets.vault.prepare(&accounts)?;
        let prepared = Instant::now();
        self.committer.commit(&blocks)?;
        let took_s = prepared.elapsed().as_secs_f64();
        let (at, height) = (Instant::now(), self.committer.height());
        self.outlets.vault.grown(height);
        self.outlets.vault.tell_purges(&accounts);
        self.define(group);
        self.outlets.vault.settle();
        if let Some(config) = config {
            self.configure(config);
        }
        tracing::info!(
            target: "ledger", channel = %self.channel, blocks = group.len(), height, "committed"
        );
        self.show_durations(took_s, begun.elapsed().as_secs_f64());
        let metrics = &self.outlets.vitals.metrics;
        let label = self.channel.as_str();
        let (mut copies, from) = (BTreeSet::new(), height - blocks.len() as u64);
        for Ready {
            job, copies: held, ..
        } in group.drain(..)
        {
            copies.extend(held);
            let source = source_label(job.source);
            metrics.blocks.with_label_values(&[label, source]).inc();
            // Nobody listening is fine.
            let _ = self.outlets.committed.send(Committed {
                channel: self.channel.clone(),
                number: job.block.number,
                hash: job.block.hash,
                source: job.source,
                seen_at: job.seen_at,
                at,
            });
        }
        metrics.set_height(&self.channel, height);
        if let Some(block) = blocks.last() {
            self.tell_delivery(Event::Tip {
                number: block.number,
                hash: block.hash,
            });
        }
        self.tell(Input::Committed {
            channel: self.channel.clone(),
            height,
        });
        // Who brings blocks waits for this: the core has room for what they bring then.
        self.outlets.height.send_replace(height);
        self.outlets.commits.tell(from, height, copies);
        Ok(())
    }

    /// Of a group of blocks: by themselves, and with their private data.
    fn show_durations(&self, took_s: f64, all_s: f64) {
        let metrics = &self.outlets.vitals.metrics;
        for (histogram, seconds) in [
            (&metrics.commit_duration, took_s),
            (&metrics.ledger_commit_time, took_s),
            (&metrics.privdata_commit_block_duration, all_s),
        ] {
            let histogram = histogram.with_label_values(&[self.channel.as_str()]);
            histogram.observe(seconds);
        }
    }

    /// Takes the definitions in blocks that are in the ledger, under the configuration below them.
    fn define(&self, group: &[Ready]) {
        let defining = group.iter().filter(|ready| ready.defines);
        for Ready { job, .. } in defining {
            let Some(config) = self.outlets.crypto.config(&self.channel) else {
                return;
            };
            for chaincode in self.outlets.vault.define(&job.block, &config) {
                self.outlets.commits.defined(chaincode);
            }
        }
    }

    /// Puts a configuration in force.
    fn configure(&self, config: Arc<ChannelConfig>) {
        let crypto = &self.outlets.crypto;
        let before = crypto.orderers(&self.channel);
        crypto.install(config);
        let after = crypto.orderers(&self.channel);
        if before != after && addresses(&before) == addresses(&after) {
            self.outlets.roots.send_replace(());
        }
        if let Some(tls) = &self.outlets.tls
            && let Err(error) = tls.replace_channel_roots(|| crypto.peer_tls_roots())
        {
            tracing::error!(target: "comm.tls", "TLS roots stay as they were: {error}");
        }
    }

    /// Tells gossip what a new configuration means: who belongs, where the orderers are, and
    /// whose identity is no longer good.
    fn announce(&self) {
        let crypto = &self.outlets.crypto;
        let Some(view) = crypto.channel_view(&self.channel) else {
            return;
        };
        tracing::info!(
            target: "peer.channelconfig",
            channel = %self.channel,
            sequence = view.join.sequence,
            organizations = view.join.members.len(),
            orderers = view.orderers.len(),
            "a new channel configuration is in force"
        );
        let (channel, height) = (self.channel.clone(), self.committer.height());
        self.tell(Input::Join {
            channel,
            join: view.join,
            height,
        });
        self.tell_delivery(Event::Agreement(view.agreement));
        self.tell_delivery(Event::Endpoints(view.orderers));
        for peer in crypto.revalidate() {
            self.tell(Input::Revoked(peer));
        }
    }

    fn tell_delivery(&self, event: Event) {
        let channel = self.channel.clone();
        self.tell(Input::Delivery { channel, event });
    }

    fn tell(&self, input: Input) {
        // Nobody listening means that the node is going down.
        let _ = self.outlets.inputs.blocking_send(input);
    }
}

/// A channel's configuration as gossip and delivery need it.
#[derive(Clone, Debug)]
pub(crate) struct ChannelView {
    pub(crate) join: JoinChannel,
    pub(crate) agreement: Agreement,
    pub(crate) orderers: Vec<String>,
}

/// One line for each group of blocks that are committed without something that is ours. A late node
/// can lack the data of every block, and who submits transactions can see to it that nobody has it.
fn tell_what_is_missing(channel: &ChannelId, accounts: &[PrivateBlock], reconciles: bool) {
    let missing = |entry: &&PrivateEntry| matches!(entry.content, Content::Missing(why) if why != Why::NotEntitled);
    let blocks = accounts.iter();
    let mut lacking = blocks.flat_map(
        |PrivateBlock {
             number, entries, ..
         }| {
            let entries = entries.iter().filter(missing);
            entries.map(move |entry| (number, entry))
        },
    );
    if let Some((block, first)) = lacking.next()
        && let Some(left_out) = LACKING.line(Instant::now())
    {
        tracing::warn!(
            target: "gossip.privdata", %channel, block, tx = first.tx,
            namespace = first.namespace, collection = first.collection,
            missing = 1 + lacking.count(), left_out,
            "committed without private data, of which the first is named: {}; `tidings privdata \
             missing -c {channel}` says what is still missing and why",
            match reconciles {
                true => "other members are asked for it soon, and again every \
                         reconcileSleepInterval; see that one that has it is up",
                false => "peer.gossip.pvtData.reconciliationEnabled is false, so that nobody is \
                          asked for it; set it to true",
            }
        );
    }
}

fn addresses(groups: &[OrdererEndpoints]) -> BTreeSet<&str> {
    groups
        .iter()
        .flat_map(|group| &group.addresses)
        .map(String::as_str)
        .collect()
}

/// The members of a channel with their anchors, from pairs as the configuration lists them.
pub(crate) fn members<'a>(
    orgs: impl Iterator<Item = (&'a str, Vec<String>)>,
) -> BTreeMap<OrgId, Vec<String>> {
    let mut members: BTreeMap<OrgId, Vec<String>> = BTreeMap::new();
    for (msp_id, anchors) in orgs {
        members
            .entry(OrgId::from(msp_id))
            .or_default()
            .extend(anchors);
    }
    members
}

#[cfg(test)]
pub(crate) mod tests;
