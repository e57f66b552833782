//! What a run cost and how fast blocks came through.

use std::{collections::BTreeMap, time::Duration};

use tidings_gossip::{
    Message, Source, Verdict,
    message::Pull,
    transfer::{Progress, Stage},
};
use tidings_proto::tag::Kind;

/// Counted over a whole world.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Messages and bytes handed to the network, by kind.
    pub sent: BTreeMap<Kind, Traffic>,
    /// Envelopes that the network lost.
    pub lost: u64,
    /// Envelopes dropped because a send queue was full.
    pub overflown: u64,
    /// Envelopes that did not pass the checks in front of a core.
    pub unverified: u64,
    /// Copies of blocks that arrived, pushed, pulled or transferred.
    pub block_arrivals: u64,
    /// Copies of blocks that arrived at a peer which had committed that block.
    pub block_duplicates: u64,
    /// Messages that a core refused, by rule.
    pub refused: BTreeMap<&'static str, u64>,
    /// What peers thought of orderers.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Private write sets that were given to peers that asked.
    pub private_given: u64,
    /// Private write sets that were refused to peers that may not have them.
    pub private_refused: u64,
    /// Private write sets that were found after their block was committed without.
    pub reconciled: u64,
    /// Transactions that were not ordered because too few members confirmed the push.
    pub endorsements_failed: u64,
    /// How committed blocks had reached each peer.
    pub commits: BTreeMap<usize, BTreeMap<Source, u64>>,
    /// What peers reported of filling large gaps, in the order in which it happened.
    pub catch_ups: Vec<(usize, Stage, Progress)>,
    blocks: BTreeMap<u64, Flight>,
}

/// Messages of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// Their size on the wire.
    pub bytes: u64,
}

/// From the orderer to the last peer.
#[derive(Clone, Copy, Debug, Default)]
struct Flight {
    cut: Duration,
    commits: usize,
    last_commit: Duration,
}

/// Numbers of the blocks in one message.
pub(crate) struct Arrivals(Vec<u64>);

impl Arrivals {
    pub(crate) fn of(message: &Message) -> Self {
        Self(match message {
            Message::Block { block, .. } => vec![block.block.number],
            Message::BlockPull {
                pull: Pull::Update { items, .. },
                ..
            } => items.iter().map(|item| item.block.number).collect(),
            Message::StateResponse { blocks, .. } => {
                blocks.iter().map(|block| block.block.number).collect()
            }
            _ => Vec::new(),
        })
    }
}

impl Stats {
    pub(crate) fn count_arrivals(&mut self, arrivals: &Arrivals, height: u64) {
        for number in &arrivals.0 {
            self.block_arrivals += 1;
            self.block_duplicates += u64::from(*number < height);
        }
    }

    pub(crate) fn count_sent(&mut self, kind: Kind, bytes: usize) {
        let traffic = self.sent.entry(kind).or_default();
        traffic.messages += 1;
        traffic.bytes += bytes as u64;
    }

    pub(crate) fn count_cut(&mut self, number: u64, at: Duration) {
        self.blocks.entry(number).or_default().cut = at;
    }

    pub(crate) fn count_commit(&mut self, peer: usize, number: u64, source: Source, at: Duration) {
        let sources = self.commits.entry(peer).or_default();
        *sources.entry(source).or_default() += 1;
        if let Some(flight) = self.blocks.get_mut(&number) {
            flight.commits += 1;
            flight.last_commit = at;
        }
    }

    /// How many blocks this peer committed that had reached it so.
    pub fn committed(&self, peer: usize, source: Source) -> u64 {
        let sources = self.commits.get(&peer);
        let count = sources.and_then(|sources| sources.get(&source));
        count.copied().unwrap_or_default()
    }

    /// Bytes of all kinds together.
    pub fn bytes(&self) -> u64 {
        self.sent.values().map(|traffic| traffic.bytes).sum()
    }

    /// Messages of all kinds together.
    pub fn messages(&self) -> u64 {
        self.sent.values().map(|traffic| traffic.messages).sum()
    }

    /// For each block that so many peers committed: the time from its cut to the last commit,
    /// shortest first.
    pub fn times_to_all(&self, peers: usize) -> Vec<Duration> {
        let mut times: Vec<_> = self
            .blocks
            .values()
            .filter(|flight| flight.commits >= peers)
            .map(|flight| flight.last_commit.saturating_sub(flight.cut))
            .collect();
        times.sort_unstable();
        times
    }
}

/// The value below which this share of a sorted list lies; zero of none.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list of own measurements"
    )]
    let index = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::millis;

    #[test]
    fn the_time_of_a_block_ends_with_its_last_commit() {
        let mut stats = Stats::default();
        for (number, at) in [(1, 10), (2, 20), (3, 30)] {
            stats.count_cut(number, millis(at));
        }
        for (peer, number, at) in [(0, 1, 12), (0, 2, 29), (1, 1, 15), (1, 2, 40), (0, 3, 31)] {
            stats.count_commit(peer, number, Source::Push, millis(at));
        }
        assert_eq!(stats.times_to_all(2), [millis(5), millis(20)]);
        assert_eq!(
            stats.commits,
            [
                (0, [(Source::Push, 3)].into()),
                (1, [(Source::Push, 2)].into())
            ]
            .into()
        );
    }

    #[test]
    fn a_quantile_is_a_measured_value() {
        let times = [millis(1), millis(2), millis(9)];
        assert_eq!(quantile(&times, 0.5), millis(2));
        assert_eq!(quantile(&times, 1.0), millis(9));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
