//! Blocks and transactions by HTTP, decoded to JSON, for programs that do not speak gRPC.
//!
//! Serves what is committed, to whoever may reach its port or has a certificate that it trusts,
//! and changes nothing. Promises an answer with a sentence to every request, memory that has a
//! bound whatever blocks hold and visitors do, and that no transaction is said to be valid but as
//! [`crate::clients`] says it.
//!
//! Rules: docs/http.md.

mod answer;
mod ask;
mod cursor;
mod decode;
mod events;
mod json;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tidings_ledger::BlockHash;
use tokio::{sync::Semaphore, time::timeout};

use self::{
    answer::{Budget, Content, Refused},
    ask::{Asked, Events, Page, Which},
    cursor::Cursor,
    decode::Placed,
    events::STREAMS_MAX,
    json::{Each, Full, Json},
};
use crate::{
    clients::{block_of, codes},
    directory::{Directory, Served},
    logging::{Seldom, foreign},
    reads::Reads,
    reception::{Answers, Door, ListenRefused, ListenerSettings, Serving},
    tls::{ListenerTls, Section},
};

static UNREADABLE: Seldom = Seldom::new();

/// How the service is described to programs.
const DESCRIPTION: &str = include_str!("web/openapi.json");

/// How long an answer may take until it is there: reads are few at a time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Opens the port. Says in the log who can read what is served there, if that is everybody.
pub async fn open(settings: &ListenerSettings) -> Result<Door, ListenRefused> {
    // Who shows no certificate is let in as far as the description.
    let tls = settings.tls.clone().map(|tls| ListenerTls {
        client_auth_required: false,
        ..tls
    });
    let door = Door::open(Section::HTTP, &settings.listen, tls.as_ref()).await?;
    let address = door.address();
    if !needs_certificate(settings) && !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            target: "http", %address,
            "whoever reaches this address can read every block of every channel of this node: \
             set http.tls.enabled, http.tls.clientAuthRequired and http.tls.clientRootCAs.files, \
             or http.listenAddress to 127.0.0.1"
        );
    }
    Ok(door)
}

/// Serves the channels of a node.
pub fn serve(door: Door, settings: &ListenerSettings, directory: Directory) -> Serving {
    let address = door.address();
    let serving = door.serve(Desk::new(directory, needs_certificate(settings)));
    tracing::info!(target: "http", %address, "blocks and transactions are served by HTTP");
    serving
}

fn needs_certificate(settings: &ListenerSettings) -> bool {
    let tls = settings.tls.as_ref();
    tls.is_some_and(|tls| tls.client_auth_required)
}

/// What every connection needs.
#[derive(Clone)]
struct Desk {
    directory: Directory,
    needs_certificate: bool,
    reads: Reads,
    blocks: Budget,
    channels: Budget,
    streams: Arc<Semaphore>,
}

impl Answers for Desk {
    type Body = Content;

    fn refusal(status: StatusCode, sentence: &'static str) -> Response<Content> {
        Refused::new(status, sentence).answer()
    }

    async fn answer(&self, request: Request<Incoming>, is_certified: bool) -> Response<Content> {
        let found = match ask::page(request.method(), request.uri()) {
            Ok(found) => found,
            Err(refused) => return refused.answer(),
        };
        let page = found.page;
        let answer = if self.needs_certificate && !is_certified && page != Page::Description {
            let sentence = "this needs a client certificate of a root in \
                            http.tls.clientRootCAs.files";
            Err(Refused::new(StatusCode::FORBIDDEN, sentence))
        } else {
            match ask::asked(&found, request.uri(), request.headers()) {
                Ok(asked) => self.give(asked).await,
                Err(refused) => Err(refused),
            }
        };
        let answer = answer.unwrap_or_else(Refused::answer);
        let status = answer.status().as_u16();
        debug_assert!(page.statuses().contains(&status), "{page:?}: {status}");
        answer
    }
}

impl Desk {
    fn new(directory: Directory, needs_certificate: bool) -> Self {
        Self {
            directory,
            needs_certificate,
            reads: Reads::default(),
            blocks: Budget::of_blocks(),
            channels: Budget::of_channels(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    async fn give(&self, asked: Asked) -> Result<Response<Content>, Refused> {
        let text = match asked {
            Asked::Description => Bytes::from_static(DESCRIPTION.as_bytes()),
            Asked::Channels => self.channels().await?,
            Asked::Channel(name) => {
                let served = self.channel(&name)?;
                self.make(&self.channels, move |out| channel(out, &served))
                    .await?
            }
            Asked::Block(name, which) => {
                let served = self.channel(&name)?;
                self.make(&self.blocks, move |out| block(out, &served, &which))
                    .await?
            }
            Asked::Transaction(name, id) => {
                let served = self.channel(&name)?;
                self.make(&self.blocks, move |out| transaction(out, &served, &id))
                    .await?
            }
            Asked::Events(name, wanted) => return self.events(&name, wanted).await,
        };
        Ok(answer::json(text))
    }

    fn channel(&self, name: &str) -> Result<Arc<Served>, Refused> {
        let served = self.directory.channel(name);
        served.ok_or_else(|| {
            let sentence = format!(
                "this node is not in a channel {}; /v1/channels names those that it is in",
                foreign(name)
            );
            Refused::new(StatusCode::NOT_FOUND, sentence)
        })
    }

    /// Has something done where it may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let read = self.reads.read(move || Ok(read()));
        match timeout(ANSWER_TIME_MAX, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(reason)) => Err(unreadable(&reason)),
            Err(_elapsed) => Err(Refused::busy("too much is being read")),
        }
    }

    /// Has an answer made.
    async fn make(
        &self,
        budget: &Budget,
        write: impl FnOnce(&mut Json) -> Result<(), Refused> + Send + 'static,
    ) -> Result<Bytes, Refused> {
        let budget = budget.clone();
        self.read(move || budget.make(write)).await
    }

    async fn channels(&self) -> Result<Bytes, Refused> {
        let listed = self.directory.channels();
        let write = move |out: &mut Json| {
            let channels = Each(|| listed.iter().map(|served| Channel::of(served)));
            out.value(&channels).map_err(no_room)
        };
        self.make(&self.channels, write).await
    }

    async fn events(&self, name: &str, wanted: Events) -> Result<Response<Content>, Refused> {
        let served = self.channel(name)?;
        if let Some(after) = wanted.after {
            check(&served, after)?;
            if !after.is_whole() {
                let served = Arc::clone(&served);
                self.read(move || check_position(&served, after)).await?;
            }
        }
        let place = Arc::clone(&self.streams).try_acquire_owned();
        let place = place.map_err(|_none| {
            Refused::busy(&format!(
                "{STREAMS_MAX} streams are open, as many as may be"
            ))
        })?;
        let source = (served, self.reads.clone());
        Ok(answer::events(events::events(source, wanted, place)))
    }
}

/// Whether the events behind a cursor are there, or will be.
fn check(served: &Served, after: Cursor) -> Result<(), Refused> {
    let none = |sentence| Err(Refused::new(StatusCode::NOT_FOUND, sentence));
    // The watch is told last: who has read a block may be ahead of it.
    let told = *served.height.borrow();
    let height = told.max(served.blocks.height());
    if after.is_beyond(height) {
        return none(format!(
            "the cursor is beyond the channel, which has {height} blocks here: it is of another \
             channel, or of a node that has more"
        ));
    }
    let first = served.blocks.first();
    if after.block < first {
        let (pruned, kept) = (after.block, Cursor::before(first));
        return none(format!(
            "block {pruned}, which is next, was pruned: from after={kept} on there is something"
        ));
    }
    Ok(())
}

/// Whether the block that is there has the transaction of a cursor. Who goes on behind one that was
/// never there would miss what was.
fn check_position(served: &Served, after: Cursor) -> Result<(), Refused> {
    let view = block_of(served, after.block).map_err(|reason| unreadable(&reason))?;
    let count = view.transactions_len();
    if after.position <= count {
        return Ok(());
    }
    let sentence = format!(
        "the cursor {after} is none of this channel: block {} has {count} transactions, the first \
         of them 0; behind the block is after={}",
        after.block,
        Cursor::before(after.block + 1),
    );
    Err(Refused::new(StatusCode::NOT_FOUND, sentence))
}

/// What is said of a channel.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Channel<'a> {
    channel: &'a str,
    first_block: u64,
    height: u64,
    newest_hash: Option<String>,
}

impl<'a> Channel<'a> {
    fn of(served: &'a Served) -> Self {
        let tip = served.blocks.tip();
        Self {
            channel: served.channel.as_str(),
            first_block: served.blocks.first(),
            height: tip.height(),
            newest_hash: tip.last_hash().map(|hash| hex::encode(hash.as_bytes())),
        }
    }
}

fn channel(out: &mut Json, served: &Served) -> Result<(), Refused> {
    out.value(&Channel::of(served)).map_err(no_room)
}

fn block(out: &mut Json, served: &Served, which: &Which) -> Result<(), Refused> {
    let none = |sentence: String| Refused::new(StatusCode::NOT_FOUND, sentence);
    let height = served.blocks.height();
    let view = match *which {
        Which::Hash(hash) => {
            let found = served.blocks.block_by_hash(&BlockHash::new(hash));
            let found = found.map_err(|error| unreadable(&error.to_string()))?;
            found.ok_or_else(|| none("no block of this channel has this hash".to_owned()))?
        }
        Which::Number(number) if number >= height => {
            let sentence = format!("this channel has {height} blocks here, and not block {number}");
            return Err(none(sentence));
        }
        Which::Newest if height == 0 => {
            return Err(none("this channel has no block here yet".to_owned()));
        }
        Which::Number(number) => {
            let found = block_of(served, number);
            found.map_err(|reason| match served.blocks.holds(number) {
                true => unreadable(&reason),
                false => none(reason),
            })?
        }
        Which::Newest => block_of(served, height - 1).map_err(|e| unreadable(&e))?,
    };
    let codes = codes(served, &view).map_err(|reason| unreadable(&reason))?;
    decode::block(out, served.channel.as_str(), &view, codes).map_err(no_room)
}

fn transaction(out: &mut Json, served: &Served, id: &str) -> Result<(), Refused> {
    let found = served.blocks.transaction(id);
    let found = found.map_err(|error| unreadable(&error.to_string()))?;
    let none = || {
        let sentence = "no transaction of this channel has this id here";
        Refused::new(StatusCode::NOT_FOUND, sentence)
    };
    let found = found.ok_or_else(none)?;
    let codes = codes(served, &found.block).map_err(|reason| unreadable(&reason))?;
    let found = Placed::all(&found.block, codes, found.position).next();
    let found = found.ok_or_else(none)?;
    found.write(out).map_err(no_room)
}

fn unreadable(reason: &str) -> Refused {
    if let Some(left_out) = UNREADABLE.line(Instant::now()) {
        tracing::error!(target: "http", left_out, "cannot read what is asked for: {reason}");
    }
    let sentence = "this cannot be read here: the log of the node says why";
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, sentence)
}

/// Heads of blocks, channels and what is said of something that is left out have some hundred
/// bytes each.
fn no_room(_: Full) -> Refused {
    let sentence = "the answer would be longer than any may be here";
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, sentence)
}
