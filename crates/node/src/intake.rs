//! The gate: what a connection received becomes a verified message, or a counted refusal.
//!
//! Runs on the task of the connection, so that connections are checked in parallel and each waits
//! only for itself, in the order of its messages.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use tidings_gossip::{
    Connection, Input, Message, Verified,
    dissemination::message as stripes,
    verify::{self, Refused},
};
use tidings_proto::envelope::Opened;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{comm::Inbox, crypto::Crypto, metrics::Metrics};

/// Larger envelopes hold many or big blocks. They are checked on a thread of their own, lest they
/// hold up other connections that share the processor with this one.
pub(crate) const INLINE_LEN_MAX: usize = 64 << 10;

/// The gate of a node.
#[derive(Clone, Debug)]
pub struct Intake {
    crypto: Arc<Crypto>,
    messages: mpsc::Sender<Input>,
    metrics: Metrics,
}

impl Intake {
    /// What passes goes to `messages`.
    pub(crate) fn new(
        crypto: Arc<Crypto>,
        messages: mpsc::Sender<Input>,
        metrics: Metrics,
    ) -> Self {
        Self {
            crypto,
            messages,
            metrics,
        }
    }

    async fn check(
        &self,
        from: &Arc<Connection>,
        message: Opened,
    ) -> Result<Verified<Message>, Refused> {
        if message.envelope().wire_len() <= INLINE_LEN_MAX {
            return verify::verify_opened(from, message, self.crypto.as_ref());
        }
        let (crypto, connection) = (Arc::clone(&self.crypto), Arc::clone(from));
        let check = move || verify::verify_opened(&connection, message, crypto.as_ref());
        match spawn_blocking(check).await {
            Ok(result) => result,
            // The runtime is going down: nobody will miss the message.
            Err(gone) => Err(Refused {
                rule: "stopping",
                reason: gone.to_string(),
            }),
        }
    }

    fn count_striped(&self, message: &Message) {
        if let Message::Stripe {
            channel,
            message: stripes::Message::Chunk(chunk),
        } = message
        {
            let bytes = u64::try_from(chunk.payload.len()).unwrap_or(u64::MAX);
            let counter = &self.metrics.striped_bytes;
            counter.with_label_values(&[channel.as_str()]).inc_by(bytes);
        }
    }

    async fn take(&self, from: Arc<Connection>, message: Opened) {
        let timer = self.metrics.check_duration.start_timer();
        let checked = self.check(&from, message).await;
        timer.observe_duration();
        match checked {
            Ok(message) => {
                self.count_striped(&message);
                // Nobody listening means that the node is going down.
                let _ = self.messages.send(Input::Received { from, message }).await;
            }
            Err(Refused { rule, reason }) => {
                self.metrics.refused.with_label_values(&[rule]).inc();
                tracing::debug!(
                    target: "gossip.gossip", peer = %from.peer(), org = %from.org(), rule,
                    "refused a message: {reason}"
                );
            }
        }
    }
}

impl Inbox for Intake {
    fn receive(&self, from: Arc<Connection>, message: Opened) -> BoxFuture<'_, ()> {
        self.take(from, message).boxed()
    }
}
