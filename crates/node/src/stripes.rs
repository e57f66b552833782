//! What dissemination by stripes needs outside the core: its messages in their envelopes, and
//! assembled blocks judged while the core goes on.

use std::sync::Arc;

use bytes::Bytes;
use tidings_gossip::{
    Input,
    dissemination::{
        message::{Digest, Message, Queue},
        wire,
    },
    effect::Destination,
    id::ChannelId,
    verify,
};
use tidings_proto::gossip::Envelope;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::task::TaskTracker;

use crate::{comm::CommHandle, crypto::Crypto, intake::INLINE_LEN_MAX};

/// The outer side of dissemination by stripes.
pub(crate) struct Stripes {
    comm: CommHandle,
    crypto: Arc<Crypto>,
    inputs: mpsc::Sender<Input>,
    tasks: TaskTracker,
    /// The last chunk: it goes to several children, and is put into its envelope once.
    last: Option<(ChannelId, Message, Envelope)>,
}

impl Stripes {
    /// Verdicts go to `inputs`.
    pub(crate) fn new(
        comm: CommHandle,
        crypto: Arc<Crypto>,
        inputs: mpsc::Sender<Input>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            comm,
            crypto,
            inputs,
            tasks,
            last: None,
        }
    }

    /// As [`tidings_gossip::Effect::Stripe`].
    pub(crate) fn send(&mut self, to: Destination, channel: ChannelId, message: Message) {
        match message.queue() {
            Queue::Control => {
                let envelope = wire::envelope(&channel, &message);
                self.comm.send_first(to, envelope);
            }
            Queue::Chunk => {
                let envelope = self.packed(channel, message);
                self.comm.send(to, envelope);
            }
        }
    }

    fn packed(&mut self, channel: ChannelId, message: Message) -> Envelope {
        match &self.last {
            Some((c, m, envelope)) if *c == channel && *m == message => envelope.clone(),
            _ => {
                let envelope = wire::envelope(&channel, &message);
                self.last = Some((channel, message, envelope.clone()));
                envelope
            }
        }
    }

    /// As [`tidings_gossip::Effect::Judge`]. The core has a limit for how many wait. A short block
    /// is judged at once: that takes no longer than to wake somebody who does it.
    pub(crate) fn judge(
        &self,
        channel: ChannelId,
        number: u64,
        hash: Digest,
        bytes: Bytes,
    ) -> Option<Input> {
        if bytes.len() <= INLINE_LEN_MAX {
            let verdict = verify::judge(self.crypto.as_ref(), &channel, number, &hash, &bytes);
            return Some(Input::Judged {
                channel,
                number,
                hash,
                verdict,
            });
        }
        let (crypto, inputs) = (Arc::clone(&self.crypto), self.inputs.clone());
        self.tasks.spawn(async move {
            let of = channel.clone();
            let judge = move || verify::judge(crypto.as_ref(), &of, number, &hash, &bytes);
            let Ok(verdict) = spawn_blocking(judge).await else {
                // The runtime is going down: nobody will miss the verdict.
                return;
            };
            let input = Input::Judged {
                channel,
                number,
                hash,
                verdict,
            };
            // Nobody listening means that the node is going down.
            let _ = inputs.send(input).await;
        });
        None
    }
}
