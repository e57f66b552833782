//! Makes pushes durable: many with one sync, off everybody's way, and only then says so.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Instant,
};

use bytes::Bytes;
use tidings_gossip::{
    Connection, Input, PeerIdentity, id::Ticket, message::PushedWrites, privdata::PUSHES_MAX,
};
use tidings_ledger::transient::Push;
use tokio::sync::mpsc;

use super::vault::Vault;
use crate::logging::Seldom;

/// Pushes that share one sync; those that came in the meantime have the next.
const TOGETHER_MAX: usize = 256;

/// Bytes that share one sync.
const TOGETHER_BYTES_MAX: usize = 32 << 20;

/// Pushes that may wait: as many as the core lets be stored at a time.
const WAITING_MAX: usize = PUSHES_MAX;

/// How far ahead of our ledger an endorser's may be. A copy is forgotten by the height at which it
/// was simulated, as ours may be far behind; that height is a claim, and one that is too high lets
/// a copy fill the share of its owner for so many blocks longer.
const LAG_MAX: u64 = 1_000_000;

static REFUSED: Seldom = Seldom::new();

/// A push whose peer waits for the acknowledgement.
struct Waiting {
    push: Push,
    ticket: Ticket,
}

/// The queue to the thread that stores pushes. It ends when this is dropped.
pub(crate) struct Pushes {
    queue: SyncSender<Waiting>,
    vault: Arc<Vault>,
    thread: JoinHandle<()>,
}

impl Pushes {
    pub(super) fn start(vault: Arc<Vault>, inputs: mpsc::Sender<Input>) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(WAITING_MAX);
        let of = Arc::clone(&vault);
        let thread = Builder::new()
            .name("pushes".into())
            .spawn(move || run(&of, &waiting, &inputs))?;
        Ok(Self {
            queue,
            vault,
            thread,
        })
    }

    /// Queues a push of a peer, or says that it cannot be stored.
    pub(crate) fn store(
        &self,
        ticket: Ticket,
        from: &Connection,
        pushed: PushedWrites,
    ) -> Option<Input> {
        let push = self.vault.copy_of(pushed, &from.identity);
        let queued = self.queue.try_send(Waiting { push, ticket });
        queued.err().map(|_full| Input::PrivateStored {
            ticket,
            result: Err("busy: too many pushes are being stored, try again".to_owned()),
        })
    }

    /// Stores what is queued.
    pub(super) fn finish(self) {
        drop(self.queue);
        if self.thread.join().is_err() {
            tracing::error!(target: "gossip.privdata", "the thread that stores pushes panicked");
        }
    }
}

impl Vault {
    /// What is kept of a push.
    pub(super) fn copy_of(&self, pushed: PushedWrites, from: &PeerIdentity) -> Push {
        let PushedWrites {
            tx_id,
            namespace,
            collection,
            rwset,
            sim_height,
            ..
        } = pushed;
        let height = self.height();
        Push {
            tx_id,
            namespace,
            collection,
            height: sim_height.clamp(height, height.saturating_add(LAG_MAX)),
            owner: Bytes::copy_from_slice(from.pki_id.as_bytes()),
            org: Bytes::copy_from_slice(from.org.as_str().as_bytes()),
            is_own: from.org == self.me.org,
            bytes: rwset,
        }
    }
}

fn run(vault: &Vault, queue: &Receiver<Waiting>, inputs: &mpsc::Sender<Input>) {
    while let Ok(first) = queue.recv() {
        let mut bytes = first.push.bytes.len();
        let mut together = vec![first];
        while together.len() < TOGETHER_MAX && bytes < TOGETHER_BYTES_MAX {
            let Ok(next) = queue.try_recv() else {
                break;
            };
            bytes += next.push.bytes.len();
            together.push(next);
        }
        store(vault, together, inputs);
    }
}

fn store(vault: &Vault, together: Vec<Waiting>, inputs: &mpsc::Sender<Input>) {
    let (pushes, tickets): (Vec<Push>, Vec<Ticket>) = together
        .into_iter()
        .map(|waiting| (waiting.push, waiting.ticket))
        .unzip();
    let stored = vault.with(|stores| Ok(stores.transient.put_many(pushes)));
    let mut stored = stored.map(Vec::into_iter);
    for ticket in tickets {
        let result = match &mut stored {
            Ok(stored) => stored.next().map_or_else(
                || Err("not stored".to_owned()),
                |stored| stored.map_err(|refused| refused.to_string()),
            ),
            Err(closed) => Err(closed.clone()),
        };
        let outcome = if result.is_ok() { "stored" } else { "failed" };
        let labels = [vault.channel.as_str(), outcome];
        vault
            .metrics
            .private_pushes
            .with_label_values(&labels)
            .inc();
        if let Err(reason) = &result {
            tell_refused(vault, reason);
        }
        // Nobody listening means that the node is going down, and nothing is confirmed.
        let _ = inputs.blocking_send(Input::PrivateStored { ticket, result });
    }
}

pub(super) fn tell_refused(vault: &Vault, reason: &str) {
    if let Some(left_out) = REFUSED.line(Instant::now()) {
        tracing::warn!(
            target: "gossip.privdata", channel = %vault.channel, left_out,
            "a push is not stored: {reason}"
        );
    }
}
