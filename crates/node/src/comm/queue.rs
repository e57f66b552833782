//! The messages that wait for one stream.
//!
//! Promises order among those of one turn, and a limit in messages and in bytes: what finds no room is dropped, so a slow
//! peer holds up nobody. The receiving end is the body of an HTTP/2 stream, which takes a message
//! when the peer has made room for it. Nothing leaves before the gate is opened, but the greeting.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::Stream;
use tidings_proto::{gossip::Envelope, tag::Kind};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::{MESSAGE_LEN_MAX, counters::Counters, flow::Flow};

/// Bytes that may wait for one peer. Several blocks; pull and state transfer repair what is
/// dropped. A single message always finds room in an empty queue, however large.
pub(crate) const SEND_QUEUE_BYTES_MAX: usize = 32 << 20;

/// Messages or bytes that wait for a peer, from which on the core is told to send it less: well
/// before any is dropped.
const CONGESTED_FROM: (usize, usize) = (64, SEND_QUEUE_BYTES_MAX / 4);

/// Messages and bytes that wait for a peer when all is well again.
const CONGESTED_UNTIL: (usize, usize) = (8, SEND_QUEUE_BYTES_MAX / 32);

/// Short messages that may wait to go first. A peer that is alive takes them in no time.
pub(crate) const FIRST_MAX: usize = 4096;

/// When a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Before all that wait in order: it is short, and somebody waits for it.
    First,
    /// After all that were put in before.
    InOrder,
}

/// Makes a queue for so many messages. The greeting goes first; the rest waits for the gate.
pub(crate) fn queue(
    greeting: Option<Envelope>,
    gate: Option<oneshot::Receiver<()>>,
    len_max: usize,
    counters: &Arc<Counters>,
) -> (Sender, Outgoing) {
    let (items, waiting) = mpsc::channel(len_max.max(1));
    let (first, first_waiting) = mpsc::channel(FIRST_MAX);
    let shared = Arc::new(Shared::default());
    let sender = Sender {
        first,
        items,
        shared: shared.clone(),
        counters: counters.clone(),
    };
    let outgoing = Outgoing {
        greeting,
        gate,
        first: first_waiting,
        waiting,
        shared,
        counters: counters.clone(),
    };
    (sender, outgoing)
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    discarded: AtomicBool,
    /// Of the connection that the stream is a part of, once it is.
    flow: OnceLock<Arc<Flow>>,
    status: OnceLock<Status>,
}

/// Goes with a message and is gone when that has left the queue, whether it was sent or not.
pub(crate) type Receipt = oneshot::Sender<()>;

#[derive(Debug)]
struct Item {
    envelope: Envelope,
    /// Bytes on the wire.
    len: usize,
    _receipt: Option<Receipt>,
}

/// Why a message was not taken.
#[derive(Debug, PartialEq)]
pub(crate) enum NotTaken {
    /// There is no room.
    Full,
    /// No peer would take it.
    TooLong,
    /// The stream is gone. Gives the message back.
    Closed(Box<Envelope>),
}

/// The end that messages are put in. The stream ends, after what waits, when it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    first: mpsc::Sender<Item>,
    items: mpsc::Sender<Item>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
}

impl Sender {
    /// Puts a message in if there is room.
    pub(crate) fn push(
        &self,
        envelope: Envelope,
        turn: Turn,
        receipt: Option<Receipt>,
    ) -> Result<(), NotTaken> {
        let len = envelope.wire_len();
        if len > MESSAGE_LEN_MAX {
            return Err(NotTaken::TooLong);
        }
        let before = self.shared.bytes.fetch_add(len, Ordering::Relaxed);
        let pushed = if before > 0 && before.saturating_add(len) > SEND_QUEUE_BYTES_MAX {
            Err(NotTaken::Full)
        } else {
            let item = Item {
                envelope,
                len,
                _receipt: receipt,
            };
            let items = match turn {
                Turn::First => &self.first,
                Turn::InOrder => &self.items,
            };
            items.try_send(item).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NotTaken::Full,
                mpsc::error::TrySendError::Closed(item) => {
                    NotTaken::Closed(Box::new(item.envelope))
                }
            })
        };
        match &pushed {
            Ok(()) => self.counters.queued(len),
            Err(_) => {
                self.shared.bytes.fetch_sub(len, Ordering::Relaxed);
            }
        }
        pushed
    }

    /// So much waits that the peer should be sent less.
    pub(crate) fn is_congested(&self) -> bool {
        self.waiting() >= CONGESTED_FROM.0 || self.bytes() >= CONGESTED_FROM.1
    }

    /// So little waits that it may be sent as much as ever.
    pub(crate) fn is_calm(&self) -> bool {
        self.waiting() <= CONGESTED_UNTIL.0 && self.bytes() <= CONGESTED_UNTIL.1
    }

    /// What leaves from now on is counted there, too. A stream is of one connection for good.
    pub(crate) fn count_in(&self, flow: Arc<Flow>) {
        let _ = self.shared.flow.set(flow);
    }

    /// Messages that wait in order.
    pub(crate) fn waiting(&self) -> usize {
        self.items.max_capacity() - self.items.capacity()
    }

    fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Ends the stream without sending what waits.
    pub(crate) fn discard(self) {
        self.shared.discarded.store(true, Ordering::Relaxed);
    }

    /// Decides how the stream will end.
    pub(crate) fn verdict(&self) -> Verdict {
        Verdict {
            shared: self.shared.clone(),
        }
    }
}

/// How the RPC of a queue will end: well, unless said otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    shared: Arc<Shared>,
}

impl Verdict {
    /// The RPC ends with this status, after what waits. The first one counts.
    pub(crate) fn fail(&self, status: Status) {
        // A second reason adds nothing.
        let _ = self.shared.status.set(status);
    }
}

/// The end that the connection takes messages from, as the body of a request.
#[derive(Debug)]
pub(crate) struct Outgoing {
    greeting: Option<Envelope>,
    gate: Option<oneshot::Receiver<()>>,
    first: mpsc::Receiver<Item>,
    waiting: mpsc::Receiver<Item>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
}

impl Outgoing {
    /// The same with this before everything else.
    pub(crate) fn greeting_first(mut self, greeting: Envelope) -> Self {
        self.greeting = Some(greeting);
        self
    }

    /// The next one. The queue of those that go first is empty nearly always, and is only asked
    /// when something is in it, or when there is nothing else.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if !self.first.is_empty()
            && let Poll::Ready(Some(first)) = self.first.poll_recv(cx)
        {
            return Poll::Ready(Some(first));
        }
        if let Poll::Ready(next) = self.waiting.poll_recv(cx) {
            // Both ends are dropped together, so nothing waits to go first when this one has ended.
            return Poll::Ready(next);
        }
        match std::task::ready!(self.first.poll_recv(cx)) {
            Some(first) => Poll::Ready(Some(first)),
            // That end was dropped since, and before it something may have been put in here.
            None => self.waiting.poll_recv(cx),
        }
    }
}

impl Stream for Outgoing {
    type Item = Envelope;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Envelope>> {
        if let Some(greeting) = self.greeting.take() {
            return Poll::Ready(Some(greeting));
        }
        if let Some(gate) = &mut self.gate {
            match Pin::new(gate).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => self.gate = None,
                // Whoever would have opened it has given up.
                Poll::Ready(Err(_)) => return Poll::Ready(None),
            }
        }
        let Some(Item { envelope, len, .. }) = std::task::ready!(self.poll_item(cx)) else {
            return Poll::Ready(None);
        };
        self.shared.bytes.fetch_sub(len, Ordering::Relaxed);
        self.counters.unqueued(len);
        if self.shared.discarded.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        let kind = Kind::of_payload(&envelope.payload);
        self.counters.sent(kind, len);
        if let Some(flow) = self.shared.flow.get() {
            flow.sent(kind, len);
        }
        Poll::Ready(Some(envelope))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        for waiting in [&mut self.first, &mut self.waiting] {
            waiting.close();
            while let Ok(Item { len, .. }) = waiting.try_recv() {
                self.counters.unqueued(len);
            }
        }
    }
}

/// The same as the body of a response, which ends with a status.
#[derive(Debug)]
pub(crate) struct Responses {
    outgoing: Outgoing,
    ended: bool,
}

impl From<Outgoing> for Responses {
    fn from(outgoing: Outgoing) -> Self {
        Self {
            outgoing,
            ended: false,
        }
    }
}

impl Stream for Responses {
    type Item = Result<Envelope, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(Pin::new(&mut self.outgoing).poll_next(cx));
        let Some(envelope) = next else {
            self.ended = true;
            let status = self.outgoing.shared.status.get().cloned();
            return Poll::Ready(status.map(Err));
        };
        Poll::Ready(Some(Ok(envelope)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt as _;
    use tidings_proto::gossip::{Acknowledgement, GossipMessage, gossip_message::Content};

    use super::*;
    use crate::metrics::Metrics;

    fn numbered(nonce: u64) -> Envelope {
        let content = Some(Content::Ack(Acknowledgement::default()));
        Envelope::unsigned(&GossipMessage {
            nonce,
            content,
            ..GossipMessage::default()
        })
    }

    fn of_len(payload: usize) -> Envelope {
        Envelope::signed(Bytes::from(vec![0; payload]), Bytes::new())
    }

    fn small(len_max: usize) -> (Sender, Outgoing, Metrics) {
        let metrics = Metrics::new();
        let (sender, outgoing) = queue(None, None, len_max, &Arc::new(Counters::new(&metrics)));
        (sender, outgoing, metrics)
    }

    #[tokio::test]
    async fn messages_leave_in_order_up_to_the_limit() {
        let (sender, outgoing, metrics) = small(3);
        for nonce in 0..3 {
            assert_eq!(sender.push(numbered(nonce), Turn::InOrder, None), Ok(()));
        }
        assert_eq!(
            sender.push(numbered(3), Turn::InOrder, None),
            Err(NotTaken::Full)
        );
        let waiting = (metrics.queued_messages.get(), metrics.queued_bytes.get());
        let bytes: usize = (0..3).map(|nonce| numbered(nonce).wire_len()).sum();
        assert_eq!(waiting, (3, i64::try_from(bytes).unwrap()));
        drop(sender);
        let left: Vec<_> = outgoing.collect().await;
        assert_eq!(left, [numbered(0), numbered(1), numbered(2)]);
        assert_eq!(metrics.messages_sent.get(), 3);
        let bytes = metrics.bytes_sent.with_label_values(&["Ack"]).get();
        assert_eq!(
            bytes,
            left.iter()
                .map(|envelope| envelope.wire_len() as u64)
                .sum::<u64>()
        );
    }

    #[tokio::test]
    async fn what_goes_first_overtakes_and_has_a_limit_of_its_own() {
        let (sender, mut outgoing, metrics) = small(2);
        for nonce in 0..2 {
            assert_eq!(sender.push(numbered(nonce), Turn::InOrder, None), Ok(()));
        }
        let first = || numbered(9);
        for _ in 0..FIRST_MAX {
            assert_eq!(sender.push(first(), Turn::First, None), Ok(()));
        }
        let full = sender.push(first(), Turn::First, None);
        assert_eq!(full, Err(NotTaken::Full));
        for _ in 0..FIRST_MAX {
            assert_eq!(outgoing.next().await, Some(first()));
        }
        assert_eq!(outgoing.next().await, Some(numbered(0)));
        assert_eq!(sender.push(first(), Turn::First, None), Ok(()));
        drop(sender);
        let left: Vec<_> = outgoing.collect().await;
        assert_eq!(left, [first(), numbered(1)], "nothing is lost at the end");
        assert_eq!(metrics.queued_messages.get(), 0);
    }

    #[tokio::test]
    async fn bytes_are_limited_but_an_empty_queue_takes_any_message() {
        let (sender, mut outgoing, _) = small(10);
        assert_eq!(
            sender.push(of_len(SEND_QUEUE_BYTES_MAX + 1), Turn::InOrder, None),
            Ok(())
        );
        assert_eq!(
            sender.push(numbered(1), Turn::InOrder, None),
            Err(NotTaken::Full)
        );
        assert!(outgoing.next().await.is_some());
        assert_eq!(sender.push(numbered(1), Turn::InOrder, None), Ok(()));
        assert_eq!(
            sender.push(of_len(SEND_QUEUE_BYTES_MAX), Turn::InOrder, None),
            Err(NotTaken::Full)
        );
        assert_eq!(
            sender.push(of_len(SEND_QUEUE_BYTES_MAX / 2), Turn::InOrder, None),
            Ok(())
        );
    }

    #[tokio::test]
    async fn c_g6_a_message_that_nobody_would_take_does_not_end_the_stream() {
        let (sender, mut outgoing, _) = small(10);
        let overhead = of_len(MESSAGE_LEN_MAX).wire_len() - MESSAGE_LEN_MAX;
        assert_eq!(
            sender.push(of_len(MESSAGE_LEN_MAX), Turn::InOrder, None),
            Err(NotTaken::TooLong)
        );
        assert_eq!(
            sender.push(of_len(MESSAGE_LEN_MAX - overhead), Turn::InOrder, None),
            Ok(())
        );
        assert!(outgoing.next().await.is_some());
        assert_eq!(
            sender.push(numbered(1), Turn::InOrder, None),
            Ok(()),
            "no bytes were lost in the count"
        );
    }

    #[tokio::test]
    async fn only_the_greeting_leaves_before_the_gate_opens() {
        let counters = Arc::new(Counters::new(&Metrics::new()));
        let (open, gate) = oneshot::channel();
        let (sender, mut outgoing) = queue(Some(numbered(0)), Some(gate), 5, &counters);
        assert_eq!(sender.push(numbered(1), Turn::InOrder, None), Ok(()));
        assert_eq!(outgoing.next().await, Some(numbered(0)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(Pin::new(&mut outgoing).poll_next(&mut cx), Poll::Pending);
        open.send(()).unwrap();
        assert_eq!(outgoing.next().await, Some(numbered(1)));
    }

    #[tokio::test]
    async fn a_gate_that_is_given_up_lets_nothing_out() {
        let counters = Arc::new(Counters::new(&Metrics::new()));
        let (open, gate) = oneshot::channel();
        let (sender, mut outgoing) = queue(None, Some(gate), 5, &counters);
        assert_eq!(sender.push(numbered(1), Turn::InOrder, None), Ok(()));
        drop(open);
        assert_eq!(outgoing.next().await, None);
    }

    #[tokio::test]
    async fn a_receipt_is_gone_with_its_message() {
        let (sender, mut outgoing, _) = small(2);
        let (receipts, mut left): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        let mut taken = Vec::new();
        for (nonce, receipt) in (0..).zip(receipts) {
            taken.push(
                sender
                    .push(numbered(nonce), Turn::InOrder, Some(receipt))
                    .is_ok(),
            );
        }
        assert_eq!(taken, [true, true, false]);
        let mut waits = || {
            let waits = left
                .iter_mut()
                .map(|left| left.try_recv() == Err(oneshot::error::TryRecvError::Empty));
            waits.collect::<Vec<_>>()
        };
        assert_eq!(
            waits(),
            [true, true, false],
            "there was no room for the third"
        );
        outgoing.next().await;
        assert_eq!(waits(), [false, true, false]);
        drop(outgoing);
        assert_eq!(waits(), [false, false, false]);
    }

    #[tokio::test]
    async fn what_waits_is_sent_at_the_end_unless_it_is_discarded() {
        let (sender, outgoing, _) = small(5);
        assert_eq!(sender.push(numbered(1), Turn::InOrder, None), Ok(()));
        sender.verdict().fail(Status::unknown("first"));
        sender.verdict().fail(Status::unknown("second"));
        drop(sender);
        let mut responses = Responses::from(outgoing);
        assert_eq!(responses.next().await.unwrap().unwrap(), numbered(1));
        assert_eq!(
            responses.next().await.unwrap().unwrap_err().message(),
            "first"
        );
        assert!(responses.next().await.is_none());

        let (sender, outgoing, metrics) = small(5);
        assert_eq!(sender.push(numbered(1), Turn::InOrder, None), Ok(()));
        assert_eq!(sender.push(numbered(2), Turn::InOrder, None), Ok(()));
        sender.discard();
        assert!(Responses::from(outgoing).next().await.is_none());
        let waiting = (metrics.queued_messages.get(), metrics.queued_bytes.get());
        assert_eq!(waiting, (0, 0), "what is given up does not wait");
    }

    #[tokio::test]
    async fn a_stream_that_is_gone_gives_the_message_back() {
        let (sender, outgoing, _) = small(5);
        drop(outgoing);
        assert_eq!(
            sender.push(numbered(1), Turn::InOrder, None),
            Err(NotTaken::Closed(Box::new(numbered(1))))
        );
    }
}
