//! Whether the orderer that gives us blocks keeps some back, told by the headers of the others.
//!
//! Where orderers may be dishonest, every other orderer is asked for headers alone. A header with
//! the signatures of a quorum proves that its block exists. If the one that gives us blocks (the
//! source) has not given that block, it is suspected from the moment when the header came; when
//! the block comes the suspicion is dropped, and if it does not come in time the source is to be
//! left.
//!
//! Promises: only headers that follow by hash from a block that we hold are believed, so that
//! headers of another channel with the same orderers say nothing here; a suspicion names one
//! block, which must come, however many others do; a header stream that fails is begun again after
//! a pause of its own. Knows nothing of who comes after the source.
//!
//! Rules: docs/protocol/delivery.md.

use std::{collections::BTreeMap, time::Duration};

use rand::rngs::ChaCha8Rng;

use super::{
    BACKOFF_MAX, Effect, pause,
    stream::{Command, StreamId, VerifiedHeader},
};
use crate::{
    config::Config,
    effect::{Notice, Verdict},
    id::{ChannelId, DIGEST_LEN, Moment},
    random,
};

/// Header streams at a time. Ordering services have up to some twenty nodes; of a larger one so
/// many are asked, chosen by chance, and to hide a block from us all of them must be dishonest.
pub const HEADER_STREAMS_MAX: usize = 32;

/// How far beyond what the source has given a suspicion looks. A header proves every block below it,
/// and where we are far behind (peers may fill our ledger faster than one orderer delivers) an
/// honest source needs its time for each step of the way.
pub(super) const SUSPECT_AHEAD_MAX: u64 = 10;

/// A source that is late by less than this part of its time is not worth a word: headers overtake
/// blocks all the time.
const GRACE_PARTS: u32 = 10;

/// Where a stream of headers begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    /// The first header.
    pub(super) next: u64,
    /// The hash that it must name for the one before it.
    pub(super) hash: [u8; DIGEST_LEN],
}

/// The streams of headers of one channel, and what they make us think of the source.
#[derive(Debug)]
pub(super) struct Watch {
    channel: ChannelId,
    timeout: Duration,
    pause_min: Duration,
    pause_max: Duration,
    rng: ChaCha8Rng,
    /// By endpoint.
    streams: BTreeMap<String, HeaderStream>,
    /// By endpoint, how often it failed since it was last of use. Of orderers of the current set
    /// only.
    failures: BTreeMap<String, u32>,
    source: String,
    /// Before that the source cannot have given us what it has not given yet.
    source_since: Moment,
    suspicion: Option<Suspicion>,
}

#[derive(Debug)]
struct HeaderStream {
    id: StreamId,
    at: Anchor,
    /// When the last header came.
    heard: Option<Moment>,
}

#[derive(Debug)]
struct Suspicion {
    number: u64,
    since: Moment,
    is_told: bool,
    /// Headers are known beyond this one.
    is_near: bool,
}

impl Watch {
    pub(super) fn new(channel: ChannelId, config: &Config, seed: &[u8; 32]) -> Self {
        Self {
            timeout: config.cluster.block_censorship_timeout,
            pause_min: config.cluster.minimal_reconnect_interval,
            pause_max: config.reconnect_backoff_threshold.min(BACKOFF_MAX),
            rng: random::generator(seed, &format!("watch of {channel}")),
            streams: BTreeMap::new(),
            failures: BTreeMap::new(),
            source: String::new(),
            source_since: Moment::ZERO,
            suspicion: None,
            channel,
        }
    }

    /// Has exactly these orderers watched, as far as it is known where to begin. Those that are
    /// watched already are left alone.
    pub(super) fn arrange<'a>(
        &mut self,
        others: impl Iterator<Item = &'a str>,
        anchor: Option<Anchor>,
        ids: &mut u64,
        out: &mut Vec<Effect>,
    ) {
        let others: Vec<&str> = others.take(HEADER_STREAMS_MAX).collect();
        self.streams.retain(|endpoint, stream| {
            let stays = others.contains(&endpoint.as_str());
            if !stays {
                out.push(Effect::Command(Command::Unwatch(stream.id)));
            }
            stays
        });
        let Some(at) = anchor else {
            return;
        };
        for endpoint in others {
            if !self.streams.contains_key(endpoint) {
                let after = self.pause(endpoint);
                let stream = HeaderStream {
                    id: begin(endpoint, at, after, ids, out),
                    at,
                    heard: None,
                };
                self.streams.insert(endpoint.to_owned(), stream);
            }
        }
    }

    /// Nobody is watched any more, and what was known of them is forgotten.
    pub(super) fn dismiss(&mut self, out: &mut Vec<Effect>) {
        self.failures.clear();
        for (_, stream) in std::mem::take(&mut self.streams) {
            out.push(Effect::Command(Command::Unwatch(stream.id)));
        }
        self.close(Verdict::Dropped, out);
    }

    /// Another orderer gives us blocks from `expected` on, which cannot be before `since`.
    pub(super) fn change_source(
        &mut self,
        source: &str,
        since: Moment,
        expected: u64,
        out: &mut Vec<Effect>,
    ) {
        self.close(Verdict::Dropped, out);
        source.clone_into(&mut self.source);
        self.source_since = since;
        self.suspect(since, expected);
    }

    /// The source gives nothing any more, for a reason that holds for headers, too.
    pub(super) fn note_failure(&mut self) {
        note(&mut self.failures, &self.source);
    }

    /// The source has given all blocks below `expected`.
    pub(super) fn progress(&mut self, now: Moment, expected: u64, out: &mut Vec<Effect>) {
        self.failures.remove(&self.source);
        let has_come = |suspicion: &Suspicion| suspicion.number < expected;
        if self.suspicion.as_ref().is_none_or(has_come) {
            if self.suspicion.as_ref().is_some_and(|one| one.is_near) {
                // It was busy with this one, and could not give what lies beyond.
                self.source_since = now;
            }
            self.close(Verdict::Dropped, out);
            self.suspect(now, expected);
        }
    }

    /// Takes a header, or says why its stream is no good. Nothing comes of streams that ended.
    pub(super) fn hear(
        &mut self,
        now: Moment,
        from: StreamId,
        header: &VerifiedHeader,
        expected: u64,
    ) -> Result<(), String> {
        let mut streams = self.streams.iter_mut();
        let Some((endpoint, stream)) = streams.find(|(_, stream)| stream.id == from) else {
            return Ok(());
        };
        let Anchor { next, hash } = stream.at;
        if header.number != next {
            return Err(format!("S-V4: sent header {}, not {next}", header.number));
        }
        if header.previous_hash != hash.as_slice() {
            return Err(format!(
                "S-V4: header {next} does not follow from the one before"
            ));
        }
        stream.at = Anchor {
            next: next.saturating_add(1),
            hash: header.hash,
        };
        stream.heard = Some(now);
        self.failures.remove(endpoint);
        if self.suspicion.is_none() {
            self.suspect(now, expected);
        }
        Ok(())
    }

    /// Begins a stream that failed again after a pause; the longest if the orderer does not want
    /// us. Gives the orderer if it is the first failure since it was good. `anchor` is where
    /// others would begin.
    pub(super) fn fail(
        &mut self,
        failed: StreamId,
        forbidden: bool,
        anchor: Option<Anchor>,
        ids: &mut u64,
        out: &mut Vec<Effect>,
    ) -> Option<String> {
        let mut streams = self.streams.iter();
        let (endpoint, _) = streams.find(|(_, stream)| stream.id == failed)?;
        let endpoint = endpoint.clone();
        out.push(Effect::Command(Command::Unwatch(failed)));
        let failures = note(&mut self.failures, &endpoint);
        let after = if forbidden {
            BACKOFF_MAX
        } else {
            self.pause(&endpoint)
        };
        let stream = self.streams.get_mut(&endpoint)?;
        // What we have by now need not be shown again.
        if let Some(anchor) = anchor.filter(|anchor| anchor.next > stream.at.next) {
            stream.at = anchor;
            stream.heard = None;
        }
        stream.id = begin(&endpoint, stream.at, after, ids, out);
        (failures == 1).then_some(endpoint)
    }

    /// Whether the time of the source is over, and for which block.
    pub(super) fn judge(&mut self, now: Moment, out: &mut Vec<Effect>) -> Option<u64> {
        let suspicion = self.suspicion.as_mut()?;
        let number = suspicion.number;
        if !suspicion.is_told && now >= suspicion.since + self.timeout / GRACE_PARTS {
            suspicion.is_told = true;
            self.tell(number, Verdict::Opened, out);
        }
        let since = self.suspicion.as_ref()?.since;
        if now < since + self.timeout {
            return None;
        }
        self.close(Verdict::Withheld, out);
        Some(number)
    }

    /// When [`Self::judge`] next has something to say.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let suspicion = self.suspicion.as_ref()?;
        let wait = if suspicion.is_told {
            self.timeout
        } else {
            self.timeout / GRACE_PARTS
        };
        Some(suspicion.since + wait)
    }

    /// Whether so many orderers are watched.
    pub(super) fn is_complete(&self, others: usize) -> bool {
        self.streams.len() == others.min(HEADER_STREAMS_MAX)
    }

    /// The pause before a stream to this orderer is begun.
    fn pause(&mut self, endpoint: &str) -> Duration {
        let failures = self.failures.get(endpoint).copied().unwrap_or_default();
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(times) => {
                let pause = pause::doubled(self.pause_min, times);
                pause::cut(&mut self.rng, pause, self.pause_max)
            }
        }
    }

    /// The stream of headers from this orderer.
    #[cfg(test)]
    pub(super) fn stream(&self, endpoint: &str) -> Option<StreamId> {
        self.streams.get(endpoint).map(|stream| stream.id)
    }

    /// Suspects the source for the header beyond `expected` that has been known for longest, or for
    /// a nearer block that it proves, which has its time from now on.
    fn suspect(&mut self, now: Moment, expected: u64) {
        let ahead = self.streams.values().filter_map(|stream| {
            let last = stream.at.next.checked_sub(1)?;
            Some((stream.heard?, last)).filter(|_| last >= expected)
        });
        let near = expected.saturating_add(SUSPECT_AHEAD_MAX);
        self.suspicion = ahead.min().map(|(heard, last)| Suspicion {
            number: last.min(near),
            since: if last > near { now } else { heard }.max(self.source_since),
            is_told: false,
            is_near: last > near,
        });
    }

    fn close(&mut self, verdict: Verdict, out: &mut Vec<Effect>) {
        if let Some(suspicion) = self.suspicion.take()
            && suspicion.is_told
        {
            self.tell(suspicion.number, verdict, out);
        }
    }

    fn tell(&self, number: u64, verdict: Verdict, out: &mut Vec<Effect>) {
        out.push(Effect::Notify(Notice::Suspicion {
            channel: self.channel.clone(),
            orderer: self.source.clone(),
            number,
            verdict,
        }));
    }
}

/// Counts one more failure, and gives their number.
fn note(failures: &mut BTreeMap<String, u32>, endpoint: &str) -> u32 {
    let count = failures.entry(endpoint.to_owned()).or_default();
    *count = count.saturating_add(1);
    *count
}

/// Begins a stream of headers.
fn begin(
    endpoint: &str,
    at: Anchor,
    after: Duration,
    ids: &mut u64,
    out: &mut Vec<Effect>,
) -> StreamId {
    *ids += 1;
    let stream = StreamId(*ids);
    out.push(Effect::Command(Command::Watch {
        stream,
        endpoint: endpoint.to_owned(),
        start: at.next,
        after,
    }));
    stream
}
