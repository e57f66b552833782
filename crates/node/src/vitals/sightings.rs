//! When each block was first seen by this node, by whichever way.
//!
//! What is counted here is what spreading costs and how long it takes: blocks that came in vain,
//! and the time from the first sight of a block until it was durable. Only blocks that passed
//! their check are looked at, so nobody can invent one.

use std::{collections::BTreeMap, time::Instant};

use tidings_gossip::{
    Input, Source, VerifiedBlock,
    delivery::Event,
    dissemination::Verdict,
    id::ChannelId,
    message::{Message, Pull},
};

use crate::metrics::{Metrics, source_label};

/// Blocks of a channel beyond the ledger that are remembered; many more than the buffer holds for
/// which they wait. Those beyond are not timed, and count as new whenever they come.
const SEEN_MAX: u64 = 1024;

#[derive(Debug)]
pub(super) struct Sightings {
    metrics: Metrics,
    /// Of the channels that were joined.
    channels: BTreeMap<ChannelId, Seen>,
}

/// What was seen of one channel.
#[derive(Debug)]
struct Seen {
    height: u64,
    /// When each block from the height on first came.
    first: BTreeMap<u64, Instant>,
}

impl Sightings {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            channels: BTreeMap::new(),
        }
    }

    pub(super) fn input(&mut self, now: Instant, input: &Input) {
        match input {
            Input::Join {
                channel, height, ..
            } => {
                let joined = Seen {
                    height: *height,
                    first: BTreeMap::new(),
                };
                self.channels.entry(channel.clone()).or_insert(joined);
            }
            Input::Leave(channel) => {
                self.channels.remove(channel);
            }
            Input::Committed { channel, height } => self.committed(now, channel, *height),
            Input::Delivery {
                channel,
                event: Event::Block { block, .. },
            }
            | Input::Offered { channel, block } => self.saw(now, channel, Source::Deliver, block),
            Input::Received { message, .. } => self.received(now, message),
            Input::Judged {
                channel,
                verdict: Verdict::Good(block),
                ..
            } => self.saw(now, channel, Source::Stripe, block),
            _ => {}
        }
    }

    /// When a block that is not durable yet first came.
    pub(super) fn first(&self, channel: &ChannelId, number: u64) -> Option<Instant> {
        self.channels.get(channel)?.first.get(&number).copied()
    }

    fn received(&mut self, now: Instant, message: &Message) {
        match message {
            Message::Block { channel, block } => {
                self.saw(now, channel, Source::Push, &block.block);
            }
            Message::BlockPull {
                channel,
                pull: Pull::Update { items, .. },
            } => {
                for item in items {
                    self.saw(now, channel, Source::Pull, &item.block);
                }
            }
            Message::StateResponse {
                channel, blocks, ..
            } => {
                for block in blocks {
                    self.saw(now, channel, Source::Transfer, &block.block);
                }
            }
            _ => {}
        }
    }

    fn saw(&mut self, now: Instant, channel: &ChannelId, source: Source, block: &VerifiedBlock) {
        let Some(seen) = self.channels.get_mut(channel) else {
            return;
        };
        let labels = [channel.as_str(), source_label(source)];
        let metrics = &self.metrics;
        metrics.blocks_received.with_label_values(&labels).inc();
        let number = block.number;
        if number < seen.height || seen.first.contains_key(&number) {
            let bytes = u64::try_from(block.bytes.len()).unwrap_or(u64::MAX);
            metrics.blocks_duplicate.with_label_values(&labels).inc();
            let counter = &metrics.duplicate_bytes;
            counter.with_label_values(&labels).inc_by(bytes);
        } else if number - seen.height < SEEN_MAX {
            seen.first.insert(number, now);
        }
    }

    fn committed(&mut self, now: Instant, channel: &ChannelId, height: u64) {
        let Some(seen) = self.channels.get_mut(channel) else {
            return;
        };
        let above = seen.first.split_off(&height);
        let histogram = &self.metrics.spreading_duration;
        let histogram = histogram.with_label_values(&[channel.as_str()]);
        for first in std::mem::replace(&mut seen.first, above).into_values() {
            histogram.observe(now.saturating_duration_since(first).as_secs_f64());
        }
        seen.height = seen.height.max(height);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tidings_gossip::delivery::StreamId;

    use super::*;

    struct Scene {
        sightings: Sightings,
        start: Instant,
    }

    impl Scene {
        /// A channel of five blocks.
        fn new() -> Self {
            let mut sightings = Sightings::new(Metrics::new());
            let start = Instant::now();
            let join = tidings_gossip::JoinChannel {
                sequence: 1,
                members: BTreeMap::new(),
            };
            for height in [5, 3] {
                let (channel, join) = (ChannelId::from("ch"), join.clone());
                let join = Input::Join {
                    channel,
                    join,
                    height,
                };
                sightings.input(start, &join);
            }
            Self { sightings, start }
        }

        fn saw(&mut self, after_ms: u64, source: Source, number: u64) {
            let block = VerifiedBlock {
                number,
                hash: [0; 32],
                previous_hash: Bytes::new(),
                is_config: false,
                config_sequence: 1,
                bytes: Bytes::from_static(&[0; 10]),
            };
            let (channel, now) = (ChannelId::from("ch"), self.at(after_ms));
            if source == Source::Deliver {
                let stream = StreamId(1);
                let event = Event::Block { stream, block };
                let input = Input::Delivery { channel, event };
                return self.sightings.input(now, &input);
            }
            self.sightings.saw(now, &channel, source, &block);
        }

        fn committed(&mut self, after_ms: u64, height: u64) {
            let (channel, now) = (ChannelId::from("ch"), self.at(after_ms));
            let input = Input::Committed { channel, height };
            self.sightings.input(now, &input);
        }

        fn at(&self, after_ms: u64) -> Instant {
            self.start + Duration::from_millis(after_ms)
        }

        /// Received, in vain, their bytes.
        fn counted(&self, source: Source) -> [u64; 3] {
            let metrics = &self.sightings.metrics;
            [
                &metrics.blocks_received,
                &metrics.blocks_duplicate,
                &metrics.duplicate_bytes,
            ]
            .map(|counter| {
                counter
                    .with_label_values(&["ch", source_label(source)])
                    .get()
            })
        }

        /// Blocks that were timed, and the milliseconds of all.
        fn timed(&self) -> (u64, f64) {
            let histogram = &self.sightings.metrics.spreading_duration;
            let histogram = histogram.with_label_values(&["ch"]);
            let sum = (histogram.get_sample_sum() * 1000.0).round();
            (histogram.get_sample_count(), sum)
        }
    }

    #[test]
    fn a_block_that_comes_again_is_counted_with_its_bytes_by_the_way_it_came() {
        let mut scene = Scene::new();
        scene.saw(0, Source::Push, 5);
        scene.saw(1, Source::Push, 5);
        scene.saw(2, Source::Pull, 4);
        scene.saw(3, Source::Deliver, 5);
        scene.saw(4, Source::Transfer, 6);
        assert_eq!(scene.counted(Source::Push), [2, 1, 10]);
        assert_eq!(scene.counted(Source::Pull), [1, 1, 10]);
        assert_eq!(scene.counted(Source::Deliver), [1, 1, 10]);
        assert_eq!(scene.counted(Source::Transfer), [1, 0, 0]);
        scene.committed(10, 7);
        scene.saw(11, Source::Transfer, 6);
        assert_eq!(scene.counted(Source::Transfer), [2, 1, 10]);
    }

    #[test]
    fn time_runs_from_the_first_sight_to_the_commit() {
        let mut scene = Scene::new();
        scene.saw(10, Source::Push, 6);
        scene.saw(20, Source::Push, 5);
        scene.saw(25, Source::Pull, 6);
        let first = |scene: &Scene, number| scene.sightings.first(&ChannelId::from("ch"), number);
        assert_eq!(first(&scene, 6), Some(scene.at(10)));
        scene.committed(30, 5);
        assert_eq!(scene.timed(), (0, 0.0));
        scene.committed(40, 7);
        assert_eq!(scene.timed(), (2, 30.0 + 20.0));
        scene.committed(50, 7);
        assert_eq!(scene.timed(), (2, 50.0));
        assert_eq!(first(&scene, 6), None);
    }

    #[test]
    fn only_so_many_are_remembered_and_only_of_channels_that_were_joined() {
        let mut scene = Scene::new();
        for number in 5..5 + SEEN_MAX + 10 {
            scene.saw(0, Source::Transfer, number);
        }
        let seen = &scene.sightings.channels[&ChannelId::from("ch")];
        assert_eq!(seen.first.len() as u64, SEEN_MAX);
        scene
            .sightings
            .input(scene.start, &Input::Leave(ChannelId::from("ch")));
        let before = scene.counted(Source::Push);
        scene.saw(1, Source::Push, 5);
        assert_eq!(scene.counted(Source::Push), before);
        assert!(scene.sightings.channels.is_empty());
    }
}
