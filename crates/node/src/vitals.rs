//! What is seen of a node by those who run it: its [`Metrics`] and its [`Health`].
//!
//! Knows where in the node they come from. What passes between the core and its surroundings is
//! looked at here, so that the core need not count; nothing of it is changed.

mod sightings;

use std::{collections::BTreeMap, time::Instant};

use prometheus::IntCounter;
use tidings_gossip::{
    Effect, Input, Notice,
    delivery::{Command, Event, StreamId},
    id::ChannelId,
};

use self::sightings::Sightings;
use crate::{health::Health, metrics::Metrics};

/// The signs of life of one node, made before it is started. Copies share everything.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// What can be counted.
    pub metrics: Metrics,
    /// What is not well.
    pub health: Health,
}

impl Vitals {
    /// Shows nothing of how a channel stands any more.
    pub(crate) fn forget_channel(&self, channel: &ChannelId) {
        self.metrics.forget_channel(channel.as_str());
        self.health.forget_channel(channel);
    }

    /// We are connected to an orderer that shall give us blocks, until the answer is dropped.
    pub(crate) fn pulling(&self, channel: &ChannelId, orderer: &str) -> Pulling {
        let gauge = &self.metrics.delivery_connected;
        gauge.with_label_values(&[channel.as_str(), orderer]).set(1);
        self.health.pull_connected(channel, true, Instant::now());
        Pulling {
            vitals: self.clone(),
            channel: channel.clone(),
            orderer: orderer.to_owned(),
        }
    }
}

/// A stream from an orderer that is open.
#[derive(Debug)]
pub(crate) struct Pulling {
    vitals: Vitals,
    channel: ChannelId,
    orderer: String,
}

impl Drop for Pulling {
    fn drop(&mut self) {
        let Vitals { metrics, health } = &self.vitals;
        // Orderers come and go with configurations: those that are left are not shown as zero.
        let labels = [self.channel.as_str(), &self.orderer];
        // An error says that it was not there.
        let _ = metrics.delivery_connected.remove_label_values(&labels);
        health.pull_connected(&self.channel, false, Instant::now());
    }
}

/// A connection that came in and is open.
#[derive(Debug)]
pub(crate) struct Open {
    closed: IntCounter,
}

impl Open {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        metrics.connections_opened.inc();
        let closed = metrics.connections_closed.clone();
        Self { closed }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.closed.inc();
    }
}

/// Looks at what goes into the core and what comes out.
#[derive(Debug)]
pub(crate) struct Lookout {
    vitals: Vitals,
    sightings: Sightings,
    /// The latest stream of blocks of each channel, to tell it from those of headers.
    sources: BTreeMap<ChannelId, StreamId>,
}

impl Lookout {
    pub(crate) fn new(vitals: Vitals) -> Self {
        let sightings = Sightings::new(vitals.metrics.clone());
        Self {
            vitals,
            sightings,
            sources: BTreeMap::new(),
        }
    }

    /// Before it is handled.
    pub(crate) fn input(&mut self, input: &Input) {
        self.sightings.input(Instant::now(), input);
        if let Input::Delivery {
            channel,
            event: Event::Failed { stream, reason, .. },
        } = input
        {
            let failures = &self.vitals.metrics.delivery_failures;
            failures.with_label_values(&[channel.as_str()]).inc();
            if self.sources.get(channel) == Some(stream) {
                self.vitals.health.pull_failed(channel, reason);
            }
        }
    }

    /// Before it is done. The core goes on saying of a channel that it was left.
    pub(crate) fn effect(&mut self, effect: &Effect, is_joined: impl Fn(&ChannelId) -> bool) {
        match effect {
            Effect::Deliver { channel, command } => match command {
                Command::Connect { stream, .. } => {
                    self.sources.insert(channel.clone(), *stream);
                    self.vitals.health.pull_wanted(channel, Instant::now());
                }
                Command::Disconnect => {
                    self.sources.remove(channel);
                    self.vitals.health.pull_ended(channel);
                }
                // Of headers, without which blocks come all the same.
                Command::Watch { .. } | Command::Unwatch(_) => {}
            },
            Effect::Notify(notice) => self.notice(notice, is_joined),
            _ => {}
        }
    }

    fn notice(&self, notice: &Notice, is_joined: impl Fn(&ChannelId) -> bool) {
        let metrics = &self.vitals.metrics;
        let set = |gauge: &prometheus::IntGaugeVec, channel: &ChannelId, value: usize| {
            let gauge = gauge.with_label_values(&[channel.as_str()]);
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        match notice {
            Notice::ChannelMembers { channel, .. } | Notice::PayloadBuffer { channel, .. }
                if !is_joined(channel) => {}
            Notice::ChannelMembers { channel, count } => set(&metrics.peers_known, channel, *count),
            Notice::PayloadBuffer { channel, size } => {
                set(&metrics.payload_buffer_size, channel, *size);
            }
            Notice::Refused { rule, .. } => metrics.refused.with_label_values(&[rule]).inc(),
            _ => {}
        }
    }
}
