//! When a block is full.
//!
//! Promises: order is kept, nothing is lost, and a batch exceeds the preferred size only when it
//! is one single transaction. Fabric's rule (`blockcutter.Ordered`). Signs and writes nothing.

use bytes::Bytes;
use tidings_msp::channel_config::Batch;
use tokio::time::Instant;

/// Transactions that wait for their block.
pub(crate) struct Batches {
    limits: Batch,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    due: Instant,
}

impl Batches {
    /// Nothing waits.
    pub(crate) fn new(limits: Batch) -> Self {
        Self {
            limits,
            pending: Vec::new(),
            pending_bytes: 0,
            due: Instant::now(),
        }
    }

    /// Takes the next transaction; gives the batches, at most two, that are full with it.
    pub(crate) fn order(&mut self, now: Instant, envelope: Bytes) -> Vec<Vec<Bytes>> {
        let preferred = usize::try_from(self.limits.preferred_bytes_max).unwrap_or(usize::MAX);
        let count = usize::try_from(self.limits.message_count_max).unwrap_or(usize::MAX);
        let mut full = Vec::new();
        if self.pending_bytes.saturating_add(envelope.len()) > preferred && !self.is_empty() {
            full.push(self.cut());
        }
        if self.is_empty() {
            self.due = now + self.limits.timeout;
        }
        self.pending_bytes += envelope.len();
        self.pending.push(envelope);
        if self.pending_bytes > preferred || self.pending.len() >= count {
            full.push(self.cut());
        }
        full
    }

    /// What waits, which is then no more.
    pub(crate) fn cut(&mut self) -> Vec<Bytes> {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// When what waits must be cut.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn batches(count: u32, preferred: u32) -> Batches {
        Batches::new(Batch {
            message_count_max: count,
            absolute_bytes_max: 1000,
            preferred_bytes_max: preferred,
            timeout: Duration::from_secs(2),
        })
    }

    fn lengths(full: &[Vec<Bytes>]) -> Vec<Vec<usize>> {
        full.iter()
            .map(|batch| batch.iter().map(Bytes::len).collect())
            .collect()
    }

    fn order(to: &mut Batches, len: usize) -> Vec<Vec<usize>> {
        lengths(&to.order(Instant::now(), Bytes::from(vec![0; len])))
    }

    #[test]
    fn a_batch_is_full_by_count_or_by_bytes() {
        let mut by_count = batches(3, 500);
        assert_eq!(order(&mut by_count, 1), [[0; 0]; 0]);
        assert_eq!(order(&mut by_count, 1), [[0; 0]; 0]);
        assert_eq!(order(&mut by_count, 1), [[1, 1, 1]]);
        assert!(by_count.is_empty());

        let mut by_bytes = batches(10, 500);
        assert!(order(&mut by_bytes, 300).is_empty());
        assert!(
            order(&mut by_bytes, 200).is_empty(),
            "exactly preferred still fits"
        );
        assert_eq!(order(&mut by_bytes, 1), [[300, 200]]);
        assert_eq!(
            order(&mut by_bytes, 600),
            [vec![1], vec![600]],
            "too large goes alone"
        );
        assert!(by_bytes.is_empty());
    }

    #[test]
    fn the_timeout_runs_from_the_first_of_a_batch() {
        let mut batches = batches(10, 500);
        let start = Instant::now();
        batches.order(start, Bytes::from_static(b"a"));
        batches.order(start + Duration::from_secs(1), Bytes::from_static(b"b"));
        assert_eq!(batches.due(), start + Duration::from_secs(2));
        batches.cut();
        batches.order(start + Duration::from_secs(5), Bytes::from_static(b"c"));
        assert_eq!(batches.due(), start + Duration::from_secs(7));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_too_large(
            lens in proptest::collection::vec(0_usize..800, 0..60),
            count in 1_u32..8,
        ) {
            let mut batches = batches(count, 500);
            let mut cut = Vec::new();
            for len in &lens {
                cut.extend(order(&mut batches, *len));
            }
            cut.push(batches.cut().iter().map(Bytes::len).collect());
            for batch in &cut {
                prop_assert!(batch.len() <= count as usize);
                prop_assert!(batch.len() <= 1 || batch.iter().sum::<usize>() <= 500);
            }
            prop_assert_eq!(cut.concat(), lens);
        }
    }
}
