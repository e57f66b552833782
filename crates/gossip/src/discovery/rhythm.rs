//! How often we say that we are alive, and how long silence may last.
//!
//! Promises: as long as one peer of Fabric is alive, or a handful of nodes are all there are, we
//! speak as often as Fabric's peers do. Else everybody speaks less often the more there are, so
//! that what all of them say together grows as the logarithm of their number; and each says how
//! long it may take. Who dies meanwhile is found by questions, not by silence.

use std::time::Duration;

use rand::RngExt;

use super::{Discovery, Effect, Member, World, forgetting_time, members::Change, period};
use crate::{config::Config, id::Moment, message::Alive, ports::Ports};

/// Longest time between two words of a member: that of a thousand nodes. What claims more is held
/// to this.
pub const PERIOD_MAX: Duration = Duration::from_secs(400);

/// Nodes that speak as often as Fabric's peers: so few cost little.
const FEW: usize = 12;

/// In a network of N nodes everybody speaks N / (log2 N × this / 4) times less often than peers
/// of Fabric. Sixty-four nodes speak every 43 s.
const QUARTERS: u32 = 5;

impl Discovery {
    /// Says that we are alive, while somebody is there to hear it.
    pub(super) fn speak(&mut self, world: &World<'_, impl Ports>, out: &mut Vec<Effect>) {
        let usual = period(self.config.alive_time_interval);
        self.choose_period(world.now);
        let is_longer = self.own_period > self.spoken_period.max(usual);
        self.spoken_period = self.own_period;
        self.next_alive = world.now + self.own_period;
        if self.members.alive().is_empty() {
            return;
        }
        if is_longer {
            // Those who heard of each other together shall not go on speaking together.
            self.next_alive = world.now + self.own_period.mul_f64(self.rng.random());
        }
        let alive = self
            .voice
            .gossip(world.now, self.own_period, world.me, world.ports);
        out.push(Effect::Gossip {
            alive: Box::new(alive),
            source: None,
        });
    }

    /// A word of ours for one peer. It promises another one no later than it is planned.
    pub(super) fn word(&mut self, world: &World<'_, impl Ports>) -> Alive {
        self.choose_period(world.now);
        self.voice
            .speak(world.now, self.own_period, world.me, world.ports)
    }

    /// What a change of the membership means for our own next words and questions.
    pub(super) fn keep_time(
        &mut self,
        now: Moment,
        about: &Alive,
        change: Change,
        was_alone: bool,
    ) {
        if !matches!(change, Change::Stale | Change::Full) {
            self.questions.answered(&about.peer);
            if about.period.is_none() {
                // It may know nothing of ours, and believes nobody to be alive for longer.
                let soon = now + period(self.config.alive_time_interval);
                self.next_alive = self.next_alive.min(soon);
            }
        }
        if matches!(change, Change::Learned | Change::Resurrected) {
            if was_alone {
                self.next_alive = now;
            }
            self.news.somebody_met(now);
        }
    }

    fn choose_period(&mut self, now: Moment) {
        let usual = period(self.config.alive_time_interval);
        let alive = self.members.alive();
        let all = alive.len().saturating_add(1);
        let is_usual = all <= FEW || alive.values().any(|member| member.period.is_none());
        self.own_period = if is_usual {
            usual
        } else {
            let nodes = u32::try_from(all).unwrap_or(u32::MAX);
            let long = usual.saturating_mul(nodes) * 4 / (QUARTERS * nodes.ilog2());
            let long = Duration::from_secs(long.as_secs());
            long.clamp(usual, PERIOD_MAX.max(usual))
        };
        self.next_alive = self.next_alive.min(now + self.own_period);
    }
}

/// Silence after which a member is dead.
pub(super) fn patience(config: &Config, member: &Member) -> Duration {
    let own = member
        .period
        .map_or(Duration::ZERO, |period| period * 5 / 2);
    own.max(config.alive_expiration_timeout)
}

/// Silence after which a dead member is forgotten.
pub(super) fn memory(config: &Config, member: &Member) -> Duration {
    let longer = patience(config, member).saturating_sub(config.alive_expiration_timeout);
    forgetting_time(config).saturating_add(longer)
}

/// Whether this member speaks less often than Fabric's peers, so that silence tells little.
pub(super) fn is_slow(config: &Config, member: &Member) -> bool {
    member
        .period
        .is_some_and(|period| period > config.alive_time_interval)
}
