//! When and from which orderer to pull blocks.
//!
//! Promises: while this node leads, one orderer is asked at a time for the blocks that nobody
//! verified yet; every block that leaves here follows the one before by number and, where that
//! one is known here, by hash; an orderer that fails, errs, lags behind our peers or keeps back
//! what the other orderers show is left for the next. Who was appointed never gives up, nor does
//! anybody whose orderers may be dishonest; who was elected otherwise does, so that another may
//! try. Knows nothing of connections, signatures or how elections go.
//!
//! Rules: docs/protocol/delivery.md.

mod pause;
mod stream;
mod watch;

use std::{collections::BTreeMap, time::Duration};

use rand::{rngs::ChaCha8Rng, seq::SliceRandom};

use crate::{
    config::Config,
    effect::Notice,
    id::{ChannelId, DIGEST_LEN, Moment},
    message::VerifiedBlock,
    random,
    trouble::Trouble,
};

use self::watch::{Anchor, Watch};
pub use self::{
    stream::{Agreement, Command, Event, StreamId, VerifiedHeader},
    watch::HEADER_STREAMS_MAX,
};

/// Back-off after the first failure, as in Fabric.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest back-off. Fabric waits up to an hour, by when the orderers are long back.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// How long an orderer may deliver nothing while peers have blocks that it did not deliver.
/// Doubled by every change of the orderer that brought no block, so that one peer with an
/// invented height cannot keep us changing.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// What [`PROGRESS_TIMEOUT`] grows to.
pub const PROGRESS_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Period of comparing what was delivered with what peers have.
pub const PROGRESS_LOOK: Duration = Duration::from_secs(5);

/// Hashes of delivered blocks that are not durable yet. Beyond it the oldest are forgotten and
/// the link to them is left to the committer, which checks it in any case.
pub const LINKS_MAX: usize = 1000;

/// What the machine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Pull blocks for the organization from now on, or stop. Static leaders get it once, when
    /// the channel begins; an election may give it any time.
    Lead(bool),
    /// Something happened to a stream, or is to be known.
    Event(Event),
    /// Everything below is durable.
    Height(u64),
    /// The payload buffer had no room for this block.
    NoRoom(u64),
    /// The committer refused this block.
    CommitRefused(u64),
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Something to do with a stream.
    Command(Command),
    /// A delivered block, for the payload buffer.
    Deliver(VerifiedBlock),
    /// The same block, for the peers of the organization. Comes after [`Self::Deliver`].
    Gossip(VerifiedBlock),
    /// No orderer gave a block for too long: this node does not lead any more.
    GaveUp,
    /// To be known.
    Notify(Notice),
}

/// The pull of one channel's blocks from its orderers.
#[derive(Debug)]
pub struct Delivery {
    channel: ChannelId,
    gossip_blocks: bool,
    rng: ChaCha8Rng,
    leading: bool,
    /// Shuffled once for every new set.
    endpoints: Vec<String>,
    current: usize,
    /// With orderers of the current set, while they give no blocks.
    troubles: BTreeMap<String, Trouble>,
    stream: Option<Stream>,
    /// Streams that were begun, of blocks and of headers.
    streams: u64,
    agreement: Agreement,
    /// Whether orderers that may be dishonest are watched.
    watches: bool,
    watch: Watch,
    height: u64,
    /// Number after the last block that left here.
    verified: u64,
    /// Hashes of the blocks that left here, from the last durable one on.
    links: BTreeMap<u64, [u8; DIGEST_LEN]>,
    failures: u32,
    /// The first pause where orderers are watched; elsewhere it is [`BACKOFF_MIN`].
    pause_min: Duration,
    pause_max: Duration,
    patience: Duration,
    /// Sum of the back-offs since the last good block.
    waited: Duration,
    /// How much of it is too much; none if we were appointed.
    gives_up_after: Option<Duration>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    /// The next number that must come.
    expected: u64,
    look: Moment,
    behind_since: Option<Moment>,
}

impl Delivery {
    /// Starts idle: neither leading nor knowing an orderer. `height` is that of the ledger.
    pub fn new(channel: ChannelId, config: &Config, height: u64, seed: &[u8; 32]) -> Self {
        Self {
            gossip_blocks: config.block_gossip_enabled,
            rng: random::generator(seed, &format!("delivery of {channel}")),
            leading: false,
            endpoints: Vec::new(),
            current: 0,
            troubles: BTreeMap::new(),
            stream: None,
            streams: 0,
            agreement: Agreement::default(),
            watches: config.cluster.watch,
            watch: Watch::new(channel.clone(), config, seed),
            height,
            verified: height,
            links: BTreeMap::new(),
            failures: 0,
            pause_min: config.cluster.minimal_reconnect_interval,
            pause_max: config.reconnect_backoff_threshold.min(BACKOFF_MAX),
            patience: PROGRESS_TIMEOUT,
            waited: Duration::ZERO,
            gives_up_after: config
                .use_leader_election
                .then_some(config.reconnect_total_time_threshold),
            channel,
        }
    }

    /// Feeds one input.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Lead(leading) => self.lead(now, leading, out),
            Input::Height(height) => self.grow(height),
            Input::NoRoom(number) => self.step_back(now, number, false, out),
            Input::CommitRefused(number) if number >= self.height => {
                self.step_back(now, number, true, out);
            }
            Input::CommitRefused(_) => {}
            Input::Event(event) => self.hear(now, event, out),
        }
    }

    fn hear(&mut self, now: Moment, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Agreement(agreement) if agreement == self.agreement => {}
            Event::Agreement(agreement) => {
                self.agreement = agreement;
                self.watch_source(now, out);
            }
            Event::Endpoints(endpoints) => self.replace(now, endpoints, out),
            Event::Tip { number, hash } => self.anchor(number, hash, out),
            Event::Block { stream, block } => self.take(now, stream, block, out),
            Event::Header { stream, header } => {
                let Some(source) = &self.stream else {
                    return;
                };
                let heard = self.watch.hear(now, stream, &header, source.expected);
                if let Err(reason) = heard {
                    self.fail_watch(stream, &reason, false, out);
                }
            }
            Event::Failed {
                stream,
                reason,
                forbidden,
            } => self.fail(now, stream, &reason, forbidden, out),
        }
    }

    /// Leaves an orderer that delivers nothing although there are blocks. `peers_height` finds the
    /// greatest height that peers of the channel claim, for which all of them are looked at: it is
    /// only called when there is something to decide.
    pub fn tick(&mut self, now: Moment, peers_height: impl FnOnce() -> u64, out: &mut Vec<Effect>) {
        if let Some(number) = self.watch.judge(now, out) {
            let reason = format!("withholds block {number}, which other orderers have shown");
            self.warn(reason, out);
            return self.pass_on(now, out);
        }
        let Some(stream) = &mut self.stream else {
            return;
        };
        if now < stream.look {
            return;
        }
        stream.look = now + PROGRESS_LOOK;
        // While our own ledger is behind the stream, it is we who do not read.
        let lags =
            stream.expected <= self.height && stream.expected < peers_height().max(self.height);
        if !lags {
            stream.behind_since = None;
            return;
        }
        let since = *stream.behind_since.get_or_insert(now);
        if now.since(since) >= self.patience {
            let silent = self.patience;
            self.patience = (self.patience * 2).min(PROGRESS_TIMEOUT_MAX);
            self.warn(
                format!("delivered nothing for {silent:?} while peers have new blocks"),
                out,
            );
            self.rotate();
            self.connect(now, Duration::ZERO, out);
        }
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let look = self.stream.as_ref().map(|stream| stream.look);
        [look, self.watch.deadline()].into_iter().flatten().min()
    }

    /// Forgets what was delivered and how it went. To be called while not leading, or on the way
    /// to it: the stream that is there stays what it is.
    pub fn begin_again(&mut self, height: u64) {
        self.height = height;
        self.verified = height;
        self.links.clear();
        self.failures = 0;
        self.waited = Duration::ZERO;
        self.patience = PROGRESS_TIMEOUT;
    }

    /// Whether this node pulls blocks for its organization.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// The orderer that is asked, if any.
    pub fn endpoint(&self) -> Option<&str> {
        self.stream.as_ref()?;
        self.endpoints.get(self.current).map(String::as_str)
    }

    fn lead(&mut self, now: Moment, leading: bool, out: &mut Vec<Effect>) {
        if self.leading == leading {
            return;
        }
        self.leading = leading;
        self.troubles.clear();
        if leading {
            self.failures = 0;
            self.waited = Duration::ZERO;
            // Before the channel configuration named any there is nobody to ask, and nothing wrong.
            if !self.endpoints.is_empty() {
                self.connect(now, Duration::ZERO, out);
            }
        } else {
            if self.stream.take().is_some() {
                out.push(Effect::Command(Command::Disconnect));
            }
            self.watch.dismiss(out);
        }
    }

    /// Whether orderers other than the source are asked, too.
    fn is_watching(&self) -> bool {
        self.watches && self.agreement == Agreement::Byzantine
    }

    /// Looks at the source of now with the eyes of the others. It gives nothing before `since`.
    fn watch_source(&mut self, since: Moment, out: &mut Vec<Effect>) {
        self.watch_others(out);
        if let Some(stream) = self.stream.as_ref().filter(|_| self.is_watching()) {
            let source = self.endpoints.get(self.current).map_or("", String::as_str);
            let expected = stream.expected;
            self.watch.change_source(source, since, expected, out);
        }
    }

    /// Has those watched that are to be, beside the current source.
    fn watch_others(&mut self, out: &mut Vec<Effect>) {
        let Some(stream) = self.stream.as_ref().filter(|_| self.is_watching()) else {
            return self.watch.dismiss(out);
        };
        let anchor = anchor(&self.links, stream.expected);
        let after = self.endpoints.iter().skip(self.current).skip(1);
        let others = after.chain(self.endpoints.iter().take(self.current));
        let others = others.map(String::as_str);
        self.watch.arrange(others, anchor, &mut self.streams, out);
    }

    fn anchor(&mut self, number: u64, hash: [u8; DIGEST_LEN], out: &mut Vec<Effect>) {
        if number.saturating_add(1) < self.height {
            return;
        }
        self.links.insert(number, hash);
        self.bound_links();
        if self.is_watching() {
            self.watch_others(out);
        }
    }

    fn bound_links(&mut self) {
        if self.links.len() > LINKS_MAX {
            self.links.pop_first();
        }
    }

    fn grow(&mut self, height: u64) {
        if height > self.height {
            self.height = height;
            self.links = self.links.split_off(&height.saturating_sub(1));
        }
    }

    fn replace(&mut self, now: Moment, mut endpoints: Vec<String>, out: &mut Vec<Effect>) {
        endpoints.sort();
        endpoints.dedup();
        let mut known = self.endpoints.clone();
        known.sort();
        if known == endpoints && !known.is_empty() {
            return;
        }
        endpoints.shuffle(&mut self.rng);
        self.troubles
            .retain(|orderer, _| endpoints.contains(orderer));
        self.endpoints = endpoints;
        self.current = 0;
        self.watch.dismiss(out);
        if self.leading {
            // A refresh is nobody's failure.
            self.failures = 0;
            self.connect(now, Duration::ZERO, out);
        }
    }

    fn take(&mut self, now: Moment, from: StreamId, block: VerifiedBlock, out: &mut Vec<Effect>) {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.id == from) else {
            return;
        };
        let expected = stream.expected;
        let is_repeat = self.links.get(&block.number) == Some(&block.hash);
        if block.number < expected && is_repeat {
            // What was delivered once is nobody's failure.
            return;
        }
        if block.number != expected {
            let reason = format!("S-V3: sent block {}, not {expected}", block.number);
            return self.leave_orderer(now, &reason, out);
        }
        let before = expected.checked_sub(1).and_then(|n| self.links.get(&n));
        if before.is_some_and(|hash| block.previous_hash != hash.as_slice()) {
            let reason = format!("S-V3: block {expected} does not follow from the one before");
            return self.leave_orderer(now, &reason, out);
        }
        stream.expected = expected.saturating_add(1);
        stream.behind_since = None;
        self.verified = self.verified.max(stream.expected);
        self.failures = 0;
        self.waited = Duration::ZERO;
        self.patience = PROGRESS_TIMEOUT;
        self.links.insert(block.number, block.hash);
        self.bound_links();
        self.end_trouble(now, out);
        if self.gossip_blocks && !self.is_watching() {
            out.push(Effect::Deliver(block.clone()));
            out.push(Effect::Gossip(block));
        } else {
            out.push(Effect::Deliver(block));
        }
        if self.is_watching() {
            self.watch.progress(now, expected.saturating_add(1), out);
            if !self
                .watch
                .is_complete(self.endpoints.len().saturating_sub(1))
            {
                self.watch_others(out);
            }
        }
    }

    fn fail(
        &mut self,
        now: Moment,
        of: StreamId,
        reason: &str,
        forbidden: bool,
        out: &mut Vec<Effect>,
    ) {
        if self.stream.as_ref().is_none_or(|stream| stream.id != of) {
            return self.fail_watch(of, reason, forbidden, out);
        }
        if self.is_watching() {
            self.watch.note_failure();
        }
        if forbidden {
            self.trouble(now, &refusal(reason), out);
            self.failures = self.failures.saturating_add(1);
            self.rotate();
            return self.connect_again(now, BACKOFF_MAX, out);
        }
        self.leave_orderer(now, reason, out);
    }

    fn fail_watch(&mut self, of: StreamId, reason: &str, forbidden: bool, out: &mut Vec<Effect>) {
        let expected = self.stream.as_ref().map(|stream| stream.expected);
        let anchor = expected.and_then(|expected| anchor(&self.links, expected));
        let ids = &mut self.streams;
        let Some(orderer) = self.watch.fail(of, forbidden, anchor, ids, out) else {
            return;
        };
        let reason = if forbidden {
            refusal(reason)
        } else {
            reason.to_owned()
        };
        self.warn_of(
            &orderer,
            &format!("does not show us headers: it {reason}"),
            out,
        );
    }

    fn leave_orderer(&mut self, now: Moment, reason: &str, out: &mut Vec<Effect>) {
        self.trouble(now, reason, out);
        self.pass_on(now, out);
    }

    fn pass_on(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.failures = self.failures.saturating_add(1);
        self.rotate();
        let after = self.backoff();
        self.connect_again(now, after, out);
    }

    /// Asks again from the ledger's height on. A number at or beyond what the stream has come to
    /// belongs to an earlier stream, or to a copy that a peer sent.
    fn step_back(&mut self, now: Moment, number: u64, elsewhere: bool, out: &mut Vec<Effect>) {
        if self.stream.as_ref().is_none_or(|s| number >= s.expected) {
            return;
        }
        self.verified = self.height;
        drop(self.links.split_off(&self.height));
        self.failures = self.failures.saturating_add(1);
        if elsewhere {
            self.warn(format!("delivered block {number}, which was refused"), out);
            self.rotate();
        }
        let after = self.backoff();
        self.connect_again(now, after, out);
    }

    /// Connects after a failure, unless that has been tried for too long.
    fn connect_again(&mut self, now: Moment, after: Duration, out: &mut Vec<Effect>) {
        self.waited = self.waited.saturating_add(after);
        match self.gives_up_after {
            Some(most) if self.waited > most && !self.is_watching() => {
                self.warn(
                    format!("and the others gave no block for {most:?}: giving up leading"),
                    out,
                );
                self.lead(now, false, out);
                out.push(Effect::GaveUp);
            }
            _ => self.connect(now, after, out),
        }
    }

    fn connect(&mut self, now: Moment, after: Duration, out: &mut Vec<Effect>) {
        let was_connected = self.stream.take().is_some();
        let Some(endpoint) = self.endpoints.get(self.current) else {
            if was_connected {
                out.push(Effect::Command(Command::Disconnect));
            }
            out.push(Effect::Notify(Notice::Warning(format!(
                "channel {}: no orderer is known, no blocks are pulled; the channel \
                 configuration must name orderer endpoints",
                self.channel
            ))));
            return self.watch.dismiss(out);
        };
        let start = self.verified.max(self.height);
        self.streams += 1;
        let id = StreamId(self.streams);
        out.push(Effect::Command(Command::Connect {
            stream: id,
            endpoint: endpoint.clone(),
            start,
            after,
        }));
        self.stream = Some(Stream {
            id,
            expected: start,
            look: now + after + PROGRESS_LOOK,
            behind_since: None,
        });
        self.watch_source(now + after, out);
    }

    fn rotate(&mut self) {
        let after = self.current.saturating_add(1);
        self.current = if after < self.endpoints.len() {
            after
        } else {
            0
        };
    }

    fn backoff(&mut self) -> Duration {
        let pause = if self.is_watching() {
            let sources = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
            // One round past all of them before it is doubled.
            pause::doubled(self.pause_min, self.failures / sources.max(1))
        } else {
            pause::by_fifths(BACKOFF_MIN, self.failures)
        };
        pause::cut(&mut self.rng, pause, self.pause_max)
    }

    /// The orderer did something that may go on for long.
    fn trouble(&mut self, now: Moment, reason: &str, out: &mut Vec<Effect>) {
        let orderer = self.endpoints.get(self.current).cloned();
        let trouble = self.troubles.entry(orderer.unwrap_or_default());
        let trouble = trouble.or_insert_with(|| Trouble::since(now));
        if let Some(text) = trouble.failed(now, reason) {
            self.warn(text, out);
        }
    }

    /// The orderer gave a good block.
    fn end_trouble(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let orderer = self.endpoints.get(self.current);
        if let Some((orderer, trouble)) = orderer.and_then(|it| self.troubles.remove_entry(it)) {
            out.push(Effect::Notify(Notice::Over(format!(
                "channel {}: orderer {orderer} gives blocks again after {:?}",
                self.channel,
                trouble.lasted(now)
            ))));
        }
    }

    fn warn(&self, what: String, out: &mut Vec<Effect>) {
        let orderer = self.endpoints.get(self.current).map_or("", String::as_str);
        self.warn_of(orderer, &what, out);
    }

    fn warn_of(&self, orderer: &str, what: &str, out: &mut Vec<Effect>) {
        out.push(Effect::Notify(Notice::Warning(format!(
            "channel {}: orderer {orderer} {what}",
            self.channel
        ))));
    }
}

fn refusal(reason: &str) -> String {
    format!(
        "refuses us: {reason}; check that our organization may read the channel, \
         or correct peer.localMspId"
    )
}

/// Where headers are wanted from on if the block before it is known.
fn anchor(links: &BTreeMap<u64, [u8; DIGEST_LEN]>, next: u64) -> Option<Anchor> {
    let hash = *links.get(&next.checked_sub(1)?)?;
    Some(Anchor { next, hash })
}

#[cfg(test)]
mod tests;
