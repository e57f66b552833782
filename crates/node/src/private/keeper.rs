//! What is done to the stores beside the commits: listing and filling what is missing, forgetting
//! what is over.
//!
//! One thread, in the order in which it was told: what a round of reconciliation brought is stored
//! before the next list is made. Lists begin with the newest blocks, and what was looked for in
//! vain comes after what was not; among those it goes on where the last list ended, so that
//! nothing waits behind what nobody has.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidings_gossip::{
    Input,
    message::PrivateDigest,
    privdata::{Found, GatherKey, Missing, Wanted},
};
use tidings_ledger::private::{Filled, Left, MissingSet, Place, Queue, Why};
use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::block::PrivateWrites;
use tokio::sync::mpsc;

use super::{
    disk::OnDisk,
    vault::{CopyName, Stores, Vault, name_of, place_of},
    window::{BLOCK_BYTES_MAX, why},
};
use crate::{
    logging::{Seldom, foreign},
    metrics::Way,
};

/// Chores that may wait; whoever brings more waits, except the core.
const CHORES_MAX: usize = 64;

/// Write sets after which a list takes no further block, so that no round is endless.
pub(super) const LIST_MAX: usize = 1024;

/// `ledger.pvtdataStore.purgeInterval`: what has expired is not shown from its block on, and
/// removed from the file after so many.
const EXPIRE_INTERVAL: u64 = 100;

static NO_BLOCK: Seldom = Seldom::new();

/// See [`Run::show_backlog`].
const SHOW_INTERVAL: Duration = Duration::from_secs(10);

/// How long a round of reconciliation looks.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something to do.
pub(crate) enum Chore {
    /// What is missing?
    List { round: u64, limit: usize },
    /// This is what came of it.
    Fill {
        round: u64,
        found: Vec<Found>,
        missing: Vec<(PrivateDigest, Missing)>,
    },
    /// Blocks from `from` up to `height` were committed, with this private data.
    Committed {
        from: u64,
        height: u64,
        copies: BTreeSet<CopyName>,
    },
    /// This chaincode was defined anew.
    Defined(String),
    /// The ledger begins with this block now.
    Pruned(u64),
}

/// The queue to the thread that does chores. It ends when all copies of this are dropped.
pub(crate) struct Keeper {
    queue: SyncSender<Chore>,
    retention: u64,
    thread: JoinHandle<()>,
}

impl Keeper {
    pub(super) fn start(vault: Arc<Vault>, inputs: mpsc::Sender<Input>) -> io::Result<Self> {
        let (queue, chores) = sync_channel(CHORES_MAX);
        let retention = vault.settings.transientstore_max_block_retention;
        let mut run = Run::new(vault, inputs);
        let thread = Builder::new()
            .name("private".into())
            .spawn(move || run.run(&chores))?;
        Ok(Self {
            queue,
            retention,
            thread,
        })
    }

    /// For the one who commits blocks.
    pub(crate) fn commits(&self) -> Commits {
        Commits {
            queue: self.queue.clone(),
            retention: self.retention,
        }
    }

    /// Queues a chore of the core, whose next one brings what finds no room now.
    pub(crate) fn give(&self, chore: Chore) {
        if self.queue.try_send(chore).is_err() {
            tracing::debug!(target: "gossip.privdata", "no time to reconcile private data");
        }
    }

    pub(super) fn finish(self) {
        drop(self.queue);
        if self.thread.join().is_err() {
            tracing::error!(target: "gossip.privdata", "the thread of private data panicked");
        }
    }
}

/// Tells of blocks that were committed, if there is something to do about it. May wait.
#[derive(Clone)]
pub(crate) struct Commits {
    queue: SyncSender<Chore>,
    retention: u64,
}

impl Commits {
    /// Blocks from `from` up to `height` were committed, with this private data.
    pub(crate) fn tell(&self, from: u64, height: u64, copies: BTreeSet<CopyName>) {
        let is_due = |of| last_multiple(from, height, of).is_some();
        if copies.is_empty() && !is_due(EXPIRE_INTERVAL) && !is_due(self.retention) {
            return;
        }
        let chore = Chore::Committed {
            from,
            height,
            copies,
        };
        // Nobody listening means that the thread broke off; what is over is hidden all the same.
        let _ = self.queue.send(chore);
    }

    /// This chaincode was defined anew.
    pub(crate) fn defined(&self, namespace: String) {
        let _ = self.queue.send(Chore::Defined(namespace));
    }

    /// The ledger begins with this block now.
    pub(crate) fn pruned(&self, first: u64) {
        let _ = self.queue.send(Chore::Pruned(first));
    }
}

/// Does the chores.
pub(super) struct Run {
    vault: Arc<Vault>,
    inputs: mpsc::Sender<Input>,
    /// The round that is under way, and since when.
    listed: Option<(u64, Instant)>,
    /// For which reasons nothing was found, as far as that was said since something was.
    told: BTreeSet<Why>,
    /// When it was last shown how much is held and missing.
    shown: Option<Instant>,
}

impl Run {
    pub(super) fn new(vault: Arc<Vault>, inputs: mpsc::Sender<Input>) -> Self {
        Self {
            vault,
            inputs,
            listed: None,
            told: BTreeSet::new(),
            shown: None,
        }
    }

    fn run(&mut self, chores: &Receiver<Chore>) {
        self.show_backlog();
        while let Ok(chore) = chores.recv() {
            if let Err(reason) = self.work(chore) {
                tracing::error!(target: "gossip.privdata", channel = %self.vault.channel, "{reason}");
            }
        }
    }

    pub(super) fn work(&mut self, chore: Chore) -> Result<(), String> {
        match chore {
            Chore::List { round, limit } => self.list(round, limit),
            Chore::Fill {
                round,
                found,
                missing,
            } => self.fill(round, found, missing),
            Chore::Committed {
                from,
                height,
                copies,
            } => self.forget(from, height, &copies),
            Chore::Defined(namespace) => {
                self.vault.entitle(&namespace)?;
                self.show_backlog();
                Ok(())
            }
            Chore::Pruned(first) => {
                self.vault.forget_missing(first)?;
                self.show_backlog();
                Ok(())
            }
        }
    }

    fn list(&mut self, round: u64, limit: usize) -> Result<(), String> {
        let begun = Instant::now();
        self.listed = Some((round, begun));
        let places = self.places(limit)?;
        let mut described = Described::default();
        if let Some(config) = self.vault.crypto.config(&self.vault.channel) {
            for (number, places) in places {
                self.describe(number, places, &config, &mut described)?;
            }
        }
        let Described {
            items,
            on_disk,
            hopeless,
        } = described;
        let hopeless = hopeless.into_iter().map(|place| (place, Why::NotReached));
        self.put_down(&on_disk, &hopeless.collect::<Vec<_>>())?;
        self.show_backlog();
        self.observe(|metrics| &metrics.privdata_list_missing_duration, begun);
        let input = Input::PrivateWanted {
            channel: self.vault.channel.clone(),
            key: GatherKey::Reconcile(round),
            items,
            patience: PATIENCE,
        };
        // Nobody listening means that the node is going down.
        let _ = self.inputs.blocking_send(input);
        Ok(())
    }

    /// What is missing in so many blocks.
    fn places(&self, limit: usize) -> Result<BTreeMap<u64, Vec<Place>>, String> {
        let vault = Arc::clone(&self.vault);
        let last_block = vault.last_block();
        vault.with(|stores| {
            let mut places = Places {
                limit,
                ..Places::default()
            };
            places.take(stores, Queue::Eligible, last_block, last_block)?;
            if places.is_full {
                return Ok(places.by_block);
            }
            let from = vault.tried_from();
            let lowest = places.take(stores, Queue::Deprioritized, from, last_block)?;
            // From the newest again, once all were listed.
            let tried_to = lowest.filter(|_| places.is_full).unwrap_or_default();
            vault.tried_to.store(tried_to, Ordering::Release);
            Ok(places.by_block)
        })
    }

    /// Says of each place in a block what the core has to know to find it, unless it is on our own
    /// disk.
    fn describe(
        &self,
        number: u64,
        places: Vec<Place>,
        config: &ChannelConfig,
        described: &mut Described,
    ) -> Result<(), String> {
        let block = match self.vault.block(number) {
            Ok(block) => block,
            Err(reason) => {
                // Of what was pruned nobody can say any more what its hash must be.
                let is_pruned = number < self.vault.blocks.first();
                if !is_pruned && let Some(left_out) = NO_BLOCK.line(Instant::now()) {
                    tracing::warn!(
                        target: "gossip.privdata", channel = %self.vault.channel, block = number,
                        left_out, "private data is missing and cannot be looked for: {reason}"
                    );
                }
                described.hopeless.extend(places);
                return Ok(());
            }
        };
        let places: BTreeSet<Place> = places.into_iter().collect();
        let writes: BTreeMap<Place, PrivateWrites> = block
            .private_writes()
            .map(|write| (place_of(number, &write), write))
            .filter(|(place, _)| places.contains(place))
            .collect();
        let room = BLOCK_BYTES_MAX.saturating_sub(described.bytes());
        let all: Vec<&PrivateWrites> = writes.values().collect();
        let OnDisk { mut found, .. } = self.vault.on_disk(number, &all, room)?;
        for place in places {
            let write = writes.get(&place);
            if let Some(rwset) = write.and_then(|write| found.remove(&name_of(write))) {
                described.on_disk.push((place, rwset));
                continue;
            }
            let defined = self
                .vault
                .registry
                .at(number, &place.namespace, &place.collection);
            // Without a transaction id peers look into their ledgers.
            let wanted = write.zip(defined.ok()).and_then(|(write, defined)| {
                let wanted = self.vault.wanted(write, number, "", &defined, config)?;
                Some((write, wanted))
            });
            match wanted {
                Some((write, wanted)) => {
                    let may_differ = self.vault.may_differ(number, write)?;
                    described.items.push(Wanted {
                        may_differ,
                        ..wanted
                    });
                }
                None => described.hopeless.push(place),
            }
        }
        Ok(())
    }

    /// Puts down what was found, and lists last what was not.
    fn put_down(
        &self,
        found: &[(Place, Bytes)],
        not_found: &[(Place, Why)],
    ) -> Result<u64, String> {
        self.vault.with(|stores| {
            let filled = stores.committed.fill(found).map_err(|e| e.to_string())?;
            let moved = stores.committed.deprioritize(not_found);
            moved.map_err(|error| error.to_string())?;
            Ok(filled.stored)
        })
    }

    /// Puts down what was left of write sets from which others purged keys.
    fn put_down_left(&self, left: &[(Place, Left)]) -> Result<Filled, String> {
        self.vault.with(|stores| {
            let filled = stores.committed.fill_trimmed(left);
            filled.map_err(|error| error.to_string())
        })
    }

    fn fill(
        &mut self,
        round: u64,
        found: Vec<Found>,
        missing: Vec<(PrivateDigest, Missing)>,
    ) -> Result<(), String> {
        let (right, other): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|found| found.is_verified);
        let sets: Vec<(Place, Bytes)> = right
            .into_iter()
            .map(|found| (place(found.digest), found.payload))
            .collect();
        let mut tried: BTreeMap<Place, Why> = missing
            .into_iter()
            .map(|(digest, missing)| (place(digest), why(missing)))
            .collect();
        let doubtful = other.iter().map(|found| place(found.digest.clone()));
        tried.extend(doubtful.map(|place| (place, Why::WrongHash)));
        let left = self.vault.left_of(other, &self.inputs)?;
        for (place, _) in &left {
            tried.remove(place);
        }
        let mut tried: Vec<(Place, Why)> = tried.into_iter().collect();
        if !sets.is_empty() || !left.is_empty() || !tried.is_empty() {
            let stored = self.put_down(&sets, &tried)?;
            let filled = self.put_down_left(&left)?;
            let stored = stored + filled.stored;
            if filled.left > 0 {
                let first = left.first().map(|(place, _)| (place.clone(), Why::Trimmed));
                tried.extend(first);
            }
            self.tell(stored, &tried)?;
            let metrics = &self.vault.metrics;
            metrics.private_came(&self.vault.channel, Way::Asked, sets.len());
            let reconciled = &metrics.private_reconciled;
            let reconciled = reconciled.with_label_values(&[self.vault.channel.as_str()]);
            reconciled.inc_by(stored);
            self.show_backlog();
        }
        if let Some((_, begun)) = self.listed.take_if(|(listed, _)| *listed == round) {
            self.observe(|metrics| &metrics.privdata_reconciliation_duration, begun);
        }
        Ok(())
    }

    /// Says what a round brought. One in vain is like the one before as a rule: it is told when it
    /// is in vain for another reason.
    fn tell(&mut self, fetched: u64, tried: &[(Place, Why)]) -> Result<(), String> {
        let total = self.vault.backlog()?.total();
        let still_missing = total.eligible + total.deprioritized;
        let channel = &self.vault.channel;
        if fetched > 0 {
            self.told.clear();
            tracing::info!(
                target: "gossip.privdata", %channel, fetched, not_found = tried.len(),
                still_missing, "fetched private data that was missing"
            );
        }
        for (place, why) in tried {
            // After a try, as it is listed.
            let why = match why {
                Why::NotAsked => Why::NotReached,
                why => *why,
            };
            if self.told.insert(why) {
                tracing::info!(
                    target: "gossip.privdata", %channel, still_missing,
                    first = %foreign(place),
                    "private data was looked for in vain: {why}; it is looked for again every \
                     reconcileSleepInterval, and when a member appears that may have it"
                );
            }
        }
        Ok(())
    }

    /// Shows how much is held and missing, though not always where that takes long: while a ledger
    /// that was begun anew comes up to a store that was kept.
    fn show_backlog(&mut self) {
        let is_behind = self.vault.height() < self.vault.left_over.load(Ordering::Acquire);
        let is_fresh = |shown: Instant| shown.elapsed() < SHOW_INTERVAL;
        if is_behind && self.shown.is_some_and(is_fresh) {
            return;
        }
        self.vault.show_backlog();
        self.shown = Some(Instant::now());
    }

    /// Forgets pushed copies of what was committed, those that came too long ago, and what is over.
    fn forget(
        &mut self,
        from: u64,
        height: u64,
        copies: &BTreeSet<CopyName>,
    ) -> Result<(), String> {
        let begun = Instant::now();
        let retention = self.vault.settings.transientstore_max_block_retention;
        self.vault.with(|stores| {
            let failed = |error: tidings_ledger::StoreError| error.to_string();
            let names: Vec<_> = copies.iter().map(|copy| (copy.set(), copy.hash)).collect();
            stores.transient.forget(&names).map_err(failed)?;
            if let Some(number) = last_multiple(from, height, retention)
                && number > retention
            {
                let below = number - retention;
                let purged = stores.transient.purge_below(below).map_err(failed)?;
                if purged > 0 {
                    tracing::info!(
                        target: "gossip.privdata", channel = %self.vault.channel, purged, below,
                        "forgot pushed private data whose transactions never came"
                    );
                }
            }
            if last_multiple(from, height, EXPIRE_INTERVAL).is_some() {
                let expired = stores.committed.expire(height.saturating_sub(1));
                let expired = expired.map_err(failed)?;
                if expired > 0 {
                    tracing::info!(
                        target: "gossip.privdata", channel = %self.vault.channel, expired,
                        "removed private data that has reached its end"
                    );
                }
            }
            Ok(())
        })?;
        self.observe(|metrics| &metrics.privdata_purge_duration, begun);
        self.show_backlog();
        Ok(())
    }

    fn observe(
        &self,
        histogram: impl Fn(&crate::metrics::Metrics) -> &prometheus::HistogramVec,
        begun: Instant,
    ) {
        let histogram = histogram(&self.vault.metrics);
        let histogram = histogram.with_label_values(&[self.vault.channel.as_str()]);
        histogram.observe(begun.elapsed().as_secs_f64());
    }
}

/// What is to be done about what is missing.
#[derive(Default)]
struct Described {
    /// To be fetched.
    items: Vec<Wanted>,
    /// Pushed to us, and not found when the block was committed.
    on_disk: Vec<(Place, Bytes)>,
    /// Nobody can be asked for it now. It is listed last, or else it would be listed for ever
    /// in front of all others.
    hopeless: Vec<Place>,
}

impl Described {
    fn bytes(&self) -> usize {
        self.on_disk.iter().map(|(_, rwset)| rwset.len()).sum()
    }
}

/// A list that is being made.
#[derive(Default)]
struct Places {
    by_block: BTreeMap<u64, Vec<Place>>,
    len: usize,
    limit: usize,
    is_full: bool,
}

impl Places {
    /// Takes from a queue, from this block downwards; says which block was the lowest.
    fn take(
        &mut self,
        stores: &Stores,
        queue: Queue,
        from: u64,
        last_block: u64,
    ) -> Result<Option<u64>, String> {
        let missing = stores.committed.missing(queue, from);
        let mut lowest = None;
        for set in missing.map_err(|error| error.to_string())? {
            let MissingSet {
                place, expires_at, ..
            } = set.map_err(|error| error.to_string())?;
            if expires_at.is_some_and(|end| end <= last_block) {
                continue;
            }
            let is_new = !self.by_block.contains_key(&place.block);
            if is_new && (self.len >= LIST_MAX || self.by_block.len() >= self.limit) {
                self.is_full = true;
                break;
            }
            lowest = Some(place.block);
            self.len += 1;
            self.by_block.entry(place.block).or_default().push(place);
        }
        Ok(lowest)
    }
}

/// The last multiple of a number among the blocks from `from` up to below `height`.
fn last_multiple(from: u64, height: u64, of: u64) -> Option<u64> {
    let last = height.checked_sub(1)?;
    let multiple = last.checked_div(of)? * of;
    (multiple >= from && multiple > 0).then_some(multiple)
}

pub(super) fn place(digest: PrivateDigest) -> Place {
    Place {
        block: digest.block,
        tx: digest.seq_in_block,
        namespace: digest.namespace,
        collection: digest.collection,
    }
}
