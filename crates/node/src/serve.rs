//! Answers requests for blocks and for private data: reads them and sends a response.
//!
//! A few are read at a time, whoever asks. A peer gets its next answer when it has taken the one
//! before from its queue, so that whoever takes answers slowly waits by itself. The core allows a
//! bounded number of answers in each channel, so the tasks here are bounded.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidings_gossip::{
    Connection, Input,
    id::{ChannelId, ConnectionId, Ticket},
};
use tidings_ledger::Reader;
use tidings_proto::gossip::{
    Envelope, GossipMessage, Payload, RemoteStateResponse,
    gossip_message::{Content, Tag},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    comm::CommHandle,
    logging::Seldom,
    metrics::Metrics,
    private::{self, PrivateAsk, Vault},
};

/// Most bytes of blocks in one answer, unless a single block is larger. The asker continues after
/// what it got, so a short answer costs a round trip; a long one delays everything else on the
/// connection.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Most bytes of private data that go along with one block; the rest is for the asker to
/// reconcile.
const PRIVATE_BYTES_MAX: usize = 8 << 20;

/// Answers read at a time. The disk has no use for more, and each holds a thread.
pub(crate) const READS_MAX: usize = 4;

/// How long a peer may let its answer wait until it counts as answered: then it has given up
/// waiting, too (`peer.gossip.state.responseTimeout`), and others may have its turn.
const TAKING_TIMEOUT: Duration = Duration::from_secs(3);

static UNREADABLE: Seldom = Seldom::new();

/// Blocks that were committed, for those who ask. The ledger of this program, or what an embedder
/// puts in its place.
pub trait Blocks: Send + Sync + 'static {
    /// The serialized block, if it is there and readable.
    fn block(&self, number: u64) -> Result<Option<Bytes>, String>;

    /// Those below this number were pruned, but for the first one, configuration blocks, and blocks
    /// that define chaincodes.
    fn first(&self) -> u64 {
        0
    }
}

impl Blocks for Reader {
    fn block(&self, number: u64) -> Result<Option<Bytes>, String> {
        let block = self.block(number).map_err(|error| error.to_string())?;
        Ok(block.map(|view| view.bytes().clone()))
    }

    fn first(&self) -> u64 {
        self.first()
    }
}

/// What is asked for.
pub(crate) struct Ask {
    pub(crate) ticket: Ticket,
    pub(crate) channel: ChannelId,
    pub(crate) range: RangeInclusive<u64>,
    pub(crate) connection: ConnectionId,
    /// Whose private data goes along to whom.
    pub(crate) private: Option<(Arc<Connection>, Arc<Vault>)>,
    pub(crate) nonce: u64,
}

/// Where answers go.
#[derive(Clone)]
pub(crate) struct Serve {
    comm: CommHandle,
    inputs: mpsc::Sender<Input>,
    tasks: TaskTracker,
    metrics: Metrics,
    reads: Arc<Semaphore>,
}

impl Serve {
    /// Answers over `comm`, says so to `inputs`, works in `tasks`.
    pub(crate) fn new(
        comm: CommHandle,
        inputs: mpsc::Sender<Input>,
        tasks: TaskTracker,
        metrics: Metrics,
    ) -> Self {
        Self {
            comm,
            inputs,
            tasks,
            metrics,
            reads: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Reads and answers, off the caller's task.
    pub(crate) fn answer(&self, blocks: Arc<dyn Blocks>, ask: Ask) {
        let (ticket, connection) = (ask.ticket, ask.connection);
        let metrics = self.metrics.clone();
        let read = move || envelope(blocks.as_ref(), &ask, &metrics);
        self.answer_with(connection, read, Input::Served { ticket });
    }

    /// Reads private data and answers, off the caller's task.
    pub(crate) fn answer_private(&self, vault: Arc<Vault>, ask: PrivateAsk) {
        let (ticket, connection) = (ask.ticket, ask.from.id);
        let read = move || private::response(&vault, ask);
        self.answer_with(connection, read, Input::PrivateServed { ticket });
    }

    fn answer_with(
        &self,
        connection: ConnectionId,
        read: impl FnOnce() -> Envelope + Send + 'static,
        answered: Input,
    ) {
        let serve = self.clone();
        self.tasks.spawn(async move {
            let permit = serve.reads.acquire().await;
            // What broke off has said why, and the peer will ask again.
            if let Ok(envelope) = serve.tasks.spawn_blocking(read).await {
                drop(permit);
                let left = serve.comm.reply_watched(connection, envelope);
                let _ = timeout(TAKING_TIMEOUT, left).await;
            }
            // Nobody listening means that the node is going down.
            let _ = serve.inputs.send(answered).await;
        });
    }
}

fn envelope(blocks: &dyn Blocks, ask: &Ask, metrics: &Metrics) -> Envelope {
    let payloads = payloads(blocks, ask);
    let served = &metrics.blocks_served;
    let served = served.with_label_values(&[ask.channel.as_str()]);
    served.inc_by(u64::try_from(payloads.len()).unwrap_or(u64::MAX));
    Envelope::unsigned(&GossipMessage {
        nonce: ask.nonce,
        channel: Bytes::copy_from_slice(ask.channel.as_bytes()),
        tag: Tag::ChanOrOrg.into(),
        content: Some(Content::StateResponse(RemoteStateResponse { payloads })),
    })
}

fn payloads(blocks: &dyn Blocks, ask: &Ask) -> Vec<Payload> {
    let (mut payloads, mut bytes) = (Vec::new(), 0);
    for number in ask.range.clone() {
        match blocks.block(number) {
            Ok(Some(block)) => {
                bytes += block.len();
                if bytes > ANSWER_BYTES_MAX && !payloads.is_empty() {
                    break;
                }
                let private_data = ask
                    .private
                    .as_ref()
                    .map(|(to, vault)| private::to_go_along(vault, to, number, PRIVATE_BYTES_MAX));
                let private_data = private_data.unwrap_or_default();
                bytes += private_data.iter().map(Bytes::len).sum::<usize>();
                payloads.push(Payload {
                    seq_num: number,
                    data: block,
                    private_data,
                });
            }
            // As a Go peer passes over what its snapshot spared it.
            Ok(None) if number < blocks.first() => {}
            Ok(None) => break,
            Err(reason) => {
                if let Some(left_out) = UNREADABLE.line(Instant::now()) {
                    tracing::error!(
                        target: "gossip.state", channel = %ask.channel, number, left_out,
                        "cannot read a block that a peer asks for: {reason}"
                    );
                }
                break;
            }
        }
    }
    payloads
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks from `first` to below `height`, each of `len` bytes.
    struct Fixed {
        first: u64,
        height: u64,
        len: usize,
    }

    impl Blocks for Fixed {
        fn block(&self, number: u64) -> Result<Option<Bytes>, String> {
            let is_there = (self.first..self.height).contains(&number);
            Ok(is_there.then(|| Bytes::from(vec![0; self.len])))
        }

        fn first(&self) -> u64 {
            self.first
        }
    }

    fn served(height: u64, len: usize, range: RangeInclusive<u64>) -> Vec<u64> {
        served_from(0, height, len, range)
    }

    fn served_from(first: u64, height: u64, len: usize, range: RangeInclusive<u64>) -> Vec<u64> {
        let ask = Ask {
            ticket: Ticket(1),
            channel: ChannelId::from("ch"),
            range,
            connection: ConnectionId(1),
            private: None,
            nonce: 1,
        };
        payloads(&Fixed { first, height, len }, &ask)
            .iter()
            .map(|each| each.seq_num)
            .collect()
    }

    #[test]
    fn what_was_pruned_is_passed_over() {
        assert_eq!(served_from(7, 20, 10, 5..=9), [7, 8, 9]);
        assert!(served_from(10, 20, 10, 5..=9).is_empty());
    }

    #[test]
    fn an_answer_ends_at_the_height_and_at_the_limit() {
        assert_eq!(served(8, 10, 5..=9), [5, 6, 7]);
        assert_eq!(served(20, ANSWER_BYTES_MAX / 2, 5..=9), [5, 6]);
        assert_eq!(
            served(20, ANSWER_BYTES_MAX + 1, 5..=9),
            [5],
            "one block always fits"
        );
        assert!(served(5, 10, 5..=9).is_empty());
    }
}
