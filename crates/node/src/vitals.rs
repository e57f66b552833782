//! What is seen of a node by those who run it: its [`Metrics`] and its [`Health`].
//!
//! Knows where in the node they come from. What passes between the core and its surroundings is
//! looked at here, so that the core need not count; nothing of it is changed.

mod sightings;

use std::{collections::BTreeMap, time::Instant};

use prometheus::{IntCounter, IntGaugeVec};
use tidings_gossip::{
    Effect, Input, Notice,
    delivery::{Command, Event, StreamId},
    id::ChannelId,
    transfer::Stage,
};

use self::sightings::Sightings;
use crate::{
    catch_up,
    health::Health,
    metrics::Metrics,
    outlook::{Matter, Outlook},
    status::Status,
};

/// The signs of life of one node, made before it is started. Copies share everything.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// What can be counted.
    pub metrics: Metrics,
    /// What is not well.
    pub health: Health,
    /// What the node sees.
    pub(crate) outlook: Outlook,
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
        let text = format!("connected to {orderer}");
        self.outlook.note(Matter::Orderer, channel, &text, None);
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
        let Vitals {
            metrics, health, ..
        } = &self.vitals;
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

    /// Where it is noted what happens.
    pub(crate) fn outlook(&self) -> &Outlook {
        &self.vitals.outlook
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
                let text = format!("the orderer {reason}");
                let outlook = &self.vitals.outlook;
                outlook.note(Matter::Orderer, channel, &text, None);
            }
        }
    }

    /// When a block that is not durable yet was first seen.
    pub(crate) fn seen_at(&self, channel: &ChannelId, number: u64) -> Option<Instant> {
        self.sightings.first(channel, number)
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

    /// The node as it stands.
    pub(crate) fn status(&self, status: &Status) {
        let metrics = &self.vitals.metrics;
        let members = i64::try_from(status.members.len()).unwrap_or(i64::MAX);
        metrics.members_alive.set(members);
        for each in &status.channels {
            let highest = each.peers.iter().map(|(_, height)| *height).max();
            let behind = highest.unwrap_or_default().saturating_sub(each.height);
            let (missing, sources) = each.catching_up.as_ref().map_or((0, 0), |progress| {
                let asked = progress.sources.iter().filter(|share| share.window > 0);
                (progress.behind(), asked.count())
            });
            set(&metrics.leader, &each.channel, i64::from(each.leader));
            set(&metrics.blocks_behind, &each.channel, behind);
            set(&metrics.catch_up_missing, &each.channel, missing);
            set(&metrics.catch_up_sources, &each.channel, sources);
        }
    }

    fn notice(&self, notice: &Notice, is_joined: impl Fn(&ChannelId) -> bool) {
        let metrics = &self.vitals.metrics;
        match notice {
            Notice::ChannelMembers { channel, .. } | Notice::PayloadBuffer { channel, .. }
                if !is_joined(channel) => {}
            Notice::ChannelMembers { channel, count } => set(&metrics.peers_known, channel, *count),
            Notice::PayloadBuffer { channel, size } => {
                set(&metrics.payload_buffer_size, channel, *size);
            }
            Notice::CatchUp {
                channel,
                stage,
                progress,
            } => {
                let outcome = match stage {
                    Stage::CaughtUp => "caught up",
                    Stage::Stopped => "stopped",
                    Stage::Began | Stage::UnderWay => "",
                };
                if *stage != Stage::UnderWay {
                    let line = catch_up::line(*stage, progress);
                    let outlook = &self.vitals.outlook;
                    outlook.note(Matter::CatchUp, channel, &line, None);
                }
                if outcome.is_empty() {
                    return;
                }
                let labels = [channel.as_str(), outcome];
                metrics.catch_ups.with_label_values(&labels).inc();
            }
            Notice::PrivateAnswered { channel, after, .. } => {
                let pulls = &metrics.privdata_pull_duration;
                let pulls = pulls.with_label_values(&[channel.as_str()]);
                pulls.observe(after.as_secs_f64());
            }
            Notice::Refused { rule, .. } => metrics.refused.with_label_values(&[rule]).inc(),
            _ => {}
        }
    }
}

fn set(gauge: &IntGaugeVec, channel: &ChannelId, value: impl TryInto<i64>) {
    let gauge = gauge.with_label_values(&[channel.as_str()]);
    gauge.set(value.try_into().unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidings_gossip::{
        id::PkiId,
        transfer::{Progress, Share},
    };

    use super::*;
    use crate::status::{ChannelStatus, MemberStatus};

    fn share(peer: u8, window: usize) -> Share {
        Share {
            peer: PkiId::new([peer; 32]),
            blocks: 7,
            window,
            open: 0,
        }
    }

    #[test]
    fn catching_up_can_be_seen_until_it_has_ended() {
        let mut lookout = Lookout::new(Vitals::default());
        let channel = ChannelId::from("ch");
        let progress = Progress {
            from: 10,
            height: 30,
            goal: 90,
            elapsed: Duration::from_secs(1),
            sources: vec![share(1, 2), share(2, 0), share(3, 1)],
        };
        let member = MemberStatus {
            peer: PkiId::new([1; 32]),
            org: None,
            endpoint: String::new(),
        };
        let mut status = Status {
            members: vec![member],
            channels: vec![ChannelStatus {
                channel: channel.clone(),
                height: 30,
                peers: vec![(PkiId::new([1; 32]), 90), (PkiId::new([2; 32]), 100)],
                leader: true,
                elected: None,
                catching_up: Some(progress.clone()),
            }],
        };
        let shown = |lookout: &Lookout| {
            let metrics = &lookout.vitals.metrics;
            [
                &metrics.leader,
                &metrics.blocks_behind,
                &metrics.catch_up_missing,
                &metrics.catch_up_sources,
            ]
            .map(|gauge| gauge.with_label_values(&["ch"]).get())
        };
        lookout.status(&status);
        assert_eq!(shown(&lookout), [1, 70, 60, 2]);
        assert_eq!(lookout.vitals.metrics.members_alive.get(), 1);
        for stage in [Stage::Began, Stage::UnderWay, Stage::CaughtUp] {
            let (channel, progress) = (channel.clone(), progress.clone());
            let notice = Notice::CatchUp {
                channel,
                stage,
                progress,
            };
            lookout.effect(&Effect::Notify(notice), |_| true);
        }
        let ended = &lookout.vitals.metrics.catch_ups;
        assert_eq!(ended.with_label_values(&["ch", "caught up"]).get(), 1);
        assert_eq!(ended.with_label_values(&["ch", "stopped"]).get(), 0);
        status.channels[0].catching_up = None;
        status.channels[0].height = 101;
        lookout.status(&status);
        assert_eq!(shown(&lookout), [1, 0, 0, 0]);
    }

    #[test]
    fn nothing_is_shown_of_a_channel_that_was_left() {
        let mut lookout = Lookout::new(Vitals::default());
        for joined in [true, false] {
            let channel = ChannelId::from("ch");
            let notice = Notice::ChannelMembers { channel, count: 3 };
            lookout.effect(&Effect::Notify(notice), |_| joined);
            let text = lookout.vitals.metrics.text();
            let line = "gossip_membership_total_peers_known{channel=\"ch\"} 3\n";
            assert_eq!(text.contains(line), joined, "{text}");
            lookout.vitals.forget_channel(&ChannelId::from("ch"));
        }
    }
}
