//! Streams of blocks and transactions as server-sent events.
//!
//! Promises each event once and in order, with an `id` from which a later request goes on without
//! gap or repetition, also after restarts of either side. A stream holds one page of events, makes
//! the next when that is taken, and works on the chain in steps of bounded size, so that a filter
//! that finds nothing in a long chain holds up nobody.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    ask::{Events, Filter},
    cursor::Cursor,
    decode::{Placed, block},
    json::{Full, Json},
    unreadable,
};
use crate::{
    clients::{agreed, block_of, codes_in},
    directory::Served,
    reads::Reads,
};

/// Streams at a time: half of the connections that there may be. Applications by the thousand use
/// `Deliver`.
pub(super) const STREAMS_MAX: usize = 32;

/// Bytes of one event. What does not fit is left out of it.
pub(super) const EVENT_BYTES_MAX: usize = 4 << 20;

/// Bytes of events after which a page has enough: few enough that one waits for each stream, and
/// enough that a block is not read again for every transaction of it.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Blocks that are looked at in one step.
const STEP_BLOCKS_MAX: usize = 64;

/// Transactions that are looked at in one step.
const STEP_TRANSACTIONS_MAX: usize = 4096;

/// Bytes of blocks that are read in one step, unless one alone has more.
const STEP_BYTES_MAX: usize = 8 << 20;

/// How long a stream says nothing: well below the patience of what may stand between.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream lasts: who comes again shows his certificate again, and goes on where he was.
pub(super) const STREAM_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// Room for `id`, `event` and `data` of one event.
const FRAME_LEN: usize = 128;

/// What a stream goes through.
pub(super) struct Source {
    pub(super) served: Arc<Served>,
    /// None: whole blocks.
    pub(super) filter: Option<Filter>,
}

/// What one step found.
#[derive(Debug)]
struct Page {
    text: Vec<u8>,
    events: u64,
    next: Cursor,
}

struct Follow {
    source: Arc<Source>,
    reads: Reads,
    height: watch::Receiver<u64>,
    next: Cursor,
    /// Events that are still wanted.
    wanted: u64,
    /// When it said something last; none at the beginning.
    said: Option<Instant>,
    ends: Instant,
    _place: OwnedSemaphorePermit,
}

/// The events, from a cursor that is not beyond the chain, until as many were given as are wanted,
/// the channel is left, or the time is over.
pub(super) fn events(
    (served, reads): (Arc<Served>, Reads),
    Events {
        after,
        limit,
        filter,
    }: Events,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let height = served.height.clone();
    let next = after.unwrap_or_else(|| Cursor::before(*height.borrow()));
    let follow = Follow {
        source: Arc::new(Source { served, filter }),
        reads,
        height,
        next,
        wanted: limit.unwrap_or(u64::MAX),
        said: None,
        ends: Instant::now() + STREAM_TIME_MAX,
        _place: place,
    };
    stream::unfold(follow, |mut follow| async {
        let page = follow.page().await?;
        Some((page, follow))
    })
}

impl Follow {
    /// What comes next, as soon as there is something; none at the end.
    async fn page(&mut self) -> Option<Bytes> {
        let Some(said) = self.said else {
            return Some(self.heartbeat());
        };
        loop {
            let is_over = self.wanted == 0 || Instant::now() >= self.ends;
            if is_over || self.height.has_changed().is_err() {
                return None;
            }
            let height = *self.height.borrow_and_update();
            if self.next.block >= height {
                tokio::select! {
                    changed = self.height.changed() => changed.ok()?,
                    () = sleep_until(self.ends) => return None,
                    () = sleep_until(said + HEARTBEAT) => return Some(self.heartbeat()),
                }
                continue;
            }
            let served = &self.source.served;
            let height = served.ready_below(self.next.block, height).await;
            let (source, next, wanted) = (Arc::clone(&self.source), self.next, self.wanted);
            let step = self.reads.read(move || source.step(next, height, wanted));
            let page = match step.await {
                Ok(page) => page,
                // Who comes again is told that his cursor was pruned.
                Err(_pruned) if self.next.block < self.source.served.blocks.first() => return None,
                Err(reason) => {
                    unreadable(&reason);
                    return None;
                }
            };
            self.next = page.next;
            self.wanted -= page.events;
            if page.events > 0 {
                self.said = Some(Instant::now());
                return Some(page.text.into());
            }
            if said.elapsed() >= HEARTBEAT {
                return Some(self.heartbeat());
            }
            yield_now().await;
        }
    }

    /// Nothing but the place: clients take an `id` without data for their next `Last-Event-ID`.
    fn heartbeat(&mut self) -> Bytes {
        self.said = Some(Instant::now());
        format!(": here\nid: {}\n\n", self.next).into()
    }
}

impl Source {
    /// Looks at what follows, up to the limits of a step and a page. What was found before
    /// something that cannot be read is given, and the next step fails.
    fn step(&self, from: Cursor, height: u64, wanted: u64) -> Result<Page, String> {
        let mut out = Json::new(PAGE_BYTES_MAX + EVENT_BYTES_MAX);
        let mut page = Page {
            text: Vec::new(),
            events: 0,
            next: from,
        };
        match self.fill(&mut out, &mut page, height, wanted) {
            Err(reason) if page.next == from => return Err(reason),
            Ok(()) | Err(_) => {}
        }
        page.text = out.finish();
        Ok(page)
    }

    fn fill(
        &self,
        out: &mut Json,
        page: &mut Page,
        height: u64,
        wanted: u64,
    ) -> Result<(), String> {
        let (mut looked_at, mut bytes) = (0, 0);
        let from = page.next.block;
        let end = height.min(from.saturating_add(STEP_BLOCKS_MAX as u64));
        let agreed = agreed(&self.served, from..end.max(from))?;
        for _ in 0..STEP_BLOCKS_MAX {
            let next = page.next;
            let has_room = bytes < STEP_BYTES_MAX && looked_at < STEP_TRANSACTIONS_MAX;
            let has_enough = page.events == wanted || out.len() >= PAGE_BYTES_MAX;
            if next.block >= height || has_enough || !has_room {
                break;
            }
            let view = block_of(&self.served, next.block)?;
            bytes += view.bytes().len();
            let codes = codes_in(&agreed, &view);
            let after = Cursor::before(next.block + 1);
            let Some(filter) = &self.filter else {
                let channel = self.served.channel.as_str();
                event(out, after, "block", |out| block(out, channel, &view, codes))?;
                page.events += 1;
                page.next = after;
                continue;
            };
            for transaction in Placed::all(&view, codes, next.position) {
                let is_full = out.len() >= PAGE_BYTES_MAX || looked_at == STEP_TRANSACTIONS_MAX;
                if page.events == wanted || is_full {
                    return Ok(());
                }
                looked_at += 1;
                let behind = Cursor {
                    block: next.block,
                    position: transaction.position() + 1,
                };
                if transaction.passes(filter) {
                    let write = |out: &mut Json| transaction.write(out);
                    event(out, behind, "transaction", write)?;
                    page.events += 1;
                }
                page.next = behind;
            }
            page.next = after;
        }
        Ok(())
    }
}

/// Writes one event.
fn event(
    out: &mut Json,
    id: Cursor,
    kind: &str,
    data: impl FnOnce(&mut Json) -> Result<(), Full>,
) -> Result<(), String> {
    let written = out.within(EVENT_BYTES_MAX, |out| {
        out.raw(&format!("id: {id}\nevent: {kind}\ndata: "))?;
        let room = out.room().saturating_sub(FRAME_LEN);
        out.within(room, data)?;
        out.raw("\n\n")
    });
    written.map_err(|Full| format!("the event {id} has no room in itself"))
}

#[cfg(test)]
mod tests;
