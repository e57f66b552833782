//! Answers state requests: reads blocks and sends them as a state response.
//!
//! The core allows one answer per channel at a time, so the tasks here are bounded by the number
//! of channels.

use std::{ops::RangeInclusive, sync::Arc, time::Instant};

use bytes::Bytes;
use tidings_gossip::{
    Input,
    id::{ChannelId, ConnectionId, Ticket},
};
use tidings_ledger::Reader;
use tidings_proto::gossip::{
    Envelope, GossipMessage, Payload, RemoteStateResponse,
    gossip_message::{Content, Tag},
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::{comm::CommHandle, logging::Seldom, metrics::Metrics};

/// Most bytes of blocks in one answer, unless a single block is larger. The asker continues after
/// what it got, so a short answer costs a round trip; a long one delays everything else on the
/// connection.
const ANSWER_BYTES_MAX: usize = 8 << 20;

static UNREADABLE: Seldom = Seldom::new();

/// Blocks that were committed, for those who ask. The ledger of this program, or what an embedder
/// puts in its place.
pub trait Blocks: Send + Sync + 'static {
    /// The serialized block, if it is there and readable.
    fn block(&self, number: u64) -> Result<Option<Bytes>, String>;
}

impl Blocks for Reader {
    fn block(&self, number: u64) -> Result<Option<Bytes>, String> {
        let block = self.block(number).map_err(|error| error.to_string())?;
        Ok(block.map(|view| view.bytes().clone()))
    }
}

/// What is asked for.
pub(crate) struct Ask {
    pub(crate) ticket: Ticket,
    pub(crate) channel: ChannelId,
    pub(crate) range: RangeInclusive<u64>,
    pub(crate) connection: ConnectionId,
    pub(crate) nonce: u64,
}

/// Where answers go.
#[derive(Clone)]
pub(crate) struct Serve {
    pub(crate) comm: CommHandle,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) tasks: TaskTracker,
    pub(crate) metrics: Metrics,
}

impl Serve {
    /// Reads and answers, off the caller's task.
    pub(crate) fn answer(&self, blocks: Arc<dyn Blocks>, ask: Ask) {
        let (comm, inputs) = (self.comm.clone(), self.inputs.clone());
        let served = &self.metrics.blocks_served;
        let served = served.with_label_values(&[ask.channel.as_str()]);
        self.tasks.spawn_blocking(move || {
            let payloads = payloads(blocks.as_ref(), &ask);
            served.inc_by(u64::try_from(payloads.len()).unwrap_or(u64::MAX));
            let message = GossipMessage {
                nonce: ask.nonce,
                channel: Bytes::copy_from_slice(ask.channel.as_bytes()),
                tag: Tag::ChanOrOrg.into(),
                content: Some(Content::StateResponse(RemoteStateResponse { payloads })),
            };
            comm.reply(ask.connection, Envelope::unsigned(&message));
            // Nobody listening means that the node is going down.
            let _ = inputs.blocking_send(Input::Served { ticket: ask.ticket });
        });
    }
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
                payloads.push(Payload {
                    seq_num: number,
                    data: block,
                    private_data: Vec::new(),
                });
            }
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

    /// Blocks below `height`, each of `len` bytes.
    struct Fixed {
        height: u64,
        len: usize,
    }

    impl Blocks for Fixed {
        fn block(&self, number: u64) -> Result<Option<Bytes>, String> {
            Ok((number < self.height).then(|| Bytes::from(vec![0; self.len])))
        }
    }

    fn served(height: u64, len: usize, range: RangeInclusive<u64>) -> Vec<u64> {
        let ask = Ask {
            ticket: Ticket(1),
            channel: ChannelId::from("ch"),
            range,
            connection: ConnectionId(1),
            nonce: 1,
        };
        payloads(&Fixed { height, len }, &ask)
            .iter()
            .map(|each| each.seq_num)
            .collect()
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
