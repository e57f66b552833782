//! What came of a run.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// Parts into which the distribution of arrivals is cut.
const PARTS: usize = 200;

/// What a run gave. Times are from the injection of a block, over the blocks after the warm-up;
/// a block that some node never got counts as long as the run lasted.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Until every node had it: the mean over blocks.
    #[serde(rename = "to_all_ms", serialize_with = "as_ms")]
    pub to_all: Duration,
    /// The same: the median over blocks.
    #[serde(rename = "to_all_median_ms", serialize_with = "as_ms")]
    pub to_all_median: Duration,
    /// The same: the worst of all blocks.
    #[serde(rename = "to_all_worst_ms", serialize_with = "as_ms")]
    pub to_all_worst: Duration,
    /// Until half of the nodes had it: the mean over blocks.
    #[serde(rename = "to_half_ms", serialize_with = "as_ms")]
    pub to_half: Duration,
    /// How many blocks did not reach how many nodes before the end.
    pub never: usize,
    /// All bytes sent, in blocks for each block and each node but the root.
    pub bytes: f64,
    /// What the root sent, in blocks for each block.
    pub root: f64,
    /// What the node sent that sent most, in blocks for each block.
    pub busiest: f64,
    /// Messages for each block and each node but the root.
    pub messages: f64,
    /// When it ended.
    #[serde(rename = "ended_ms", serialize_with = "as_ms")]
    pub ended: Duration,
    /// Times within which one in two hundred, two in two hundred, … of all arrivals happened.
    #[serde(skip)]
    pub distribution: Vec<Duration>,
}

/// What was measured, block by block.
#[derive(Default)]
pub(super) struct Measured {
    /// Until all had it, for each block.
    pub(super) to_all: Vec<Duration>,
    /// Until half had it, for each block.
    pub(super) to_half: Vec<Duration>,
    /// Until each had it, of all blocks.
    pub(super) arrivals: Vec<Duration>,
    /// Blocks that did not reach a node.
    pub(super) never: usize,
}

impl Measured {
    /// Adds a block, by the times after which the nodes had it.
    pub(super) fn add(&mut self, times: impl Iterator<Item = Option<Duration>>, ended: Duration) {
        let mut block = Vec::new();
        for time in times {
            self.never += usize::from(time.is_none());
            block.push(time.unwrap_or(ended));
        }
        block.sort_unstable();
        self.to_all.extend(block.last());
        self.to_half.extend(block.get(block.len() / 2));
        self.arrivals.append(&mut block);
    }

    /// The end: what this many receivers got for the bytes that each node sent.
    pub(super) fn outcome(
        mut self,
        sent: &[u64],
        messages: u64,
        receivers: usize,
        size: usize,
        ended: Duration,
    ) -> Outcome {
        self.to_all.sort_unstable();
        self.arrivals.sort_unstable();
        let blocks = self.to_all.len().max(1);
        let useful = (blocks * size) as f64;
        let receivers = receivers as f64;
        Outcome {
            to_all: mean(&self.to_all),
            to_all_median: self.to_all.get(blocks / 2).copied().unwrap_or_default(),
            to_all_worst: self.to_all.last().copied().unwrap_or_default(),
            to_half: mean(&self.to_half),
            never: self.never,
            bytes: sent.iter().sum::<u64>() as f64 / useful / receivers,
            root: sent.first().copied().unwrap_or_default() as f64 / useful,
            busiest: sent.iter().max().copied().unwrap_or_default() as f64 / useful,
            messages: messages as f64 / blocks as f64 / receivers,
            ended,
            distribution: (1..=PARTS)
                .filter_map(|part| {
                    self.arrivals
                        .get((self.arrivals.len() * part / PARTS).checked_sub(1)?)
                })
                .copied()
                .collect(),
        }
    }
}

fn mean(times: &[Duration]) -> Duration {
    let count = u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
    times.iter().sum::<Duration>() / count
}

/// Milliseconds to a thousandth.
fn as_ms<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_micros() as f64 / 1000.0)
}
