//! Reaching those who are silent: the dead, and endpoints that were named to us.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;

use super::{
    Discovery, Effect, World,
    asking::Told,
    bootstrap,
    connects::{Due, Target},
    period, refused,
};
use crate::{
    config::Me,
    effect::{Destination, Notice},
    id::{ChannelId, Moment, OrgId, Ticket},
    message::PeerIdentity,
    ports::Ports,
};

/// Pause after the first failed attempt to reach an endpoint. Each further one is twice as long,
/// up to the reconnect interval, which Fabric waits from the beginning: peers that start together
/// rarely find each other in the first second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// More doublings would only overflow; every reconnect interval is shorter by far.
const DOUBLINGS_MAX: u32 = 16;

/// A pause is made longer by up to this part of it, or peers that lost the same peer would all
/// come back to it at the same moment.
const JITTER_PART: u32 = 8;

impl Discovery {
    /// Knocks at the dead, to be told of them if they are back.
    pub(super) fn reconnect(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.probes.expire(now);
        let lost = self.probes.looks(now);
        self.probes.queue(lost.into_iter());
        if self.probes.begins_round(now) {
            let pause = self.jittered(period(self.config.reconnect_interval));
            self.probes.end_round(now + pause);
            self.probes.queue(self.members.dead().keys().copied());
        }
        self.knock(now, out);
    }

    fn knock(&mut self, now: Moment, out: &mut Vec<Effect>) {
        while let Some(peer) = self.probes.next() {
            let Some(member) = self.members.dead().get(&peer) else {
                continue;
            };
            let endpoint = member.preferred_endpoint().to_owned();
            if endpoint.is_empty() {
                continue;
            }
            let ticket = self.ticket();
            self.probes.knocked(now, ticket, peer);
            out.push(Effect::Probe { ticket, endpoint });
        }
    }

    pub(super) fn probed(
        &mut self,
        world: &World<'_, impl Ports>,
        ticket: Ticket,
        answered: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.probes.reported(ticket) else {
            return;
        };
        if answered && let Some(member) = self.members.dead().get(&peer) {
            let to = member.destination();
            let own = self.word(world);
            let org = world.identities.org_of(&peer);
            let effect = self.ask(world, org, to, 0, &own.envelope, &mut Told::new());
            out.push(effect);
        }
        self.knock(world.now, out);
    }

    /// Goes on with the endpoints that were named to us and not reached yet.
    pub(super) fn connect(&mut self, world: &World<'_, impl Ports>, out: &mut Vec<Effect>) {
        for (target, due) in self.connects.due(world.now) {
            match due {
                Due::Identify => {
                    let ticket = self.ticket();
                    self.connects.identifying(world.now, &target, ticket);
                    let endpoint = target.endpoint;
                    out.push(Effect::Identify { ticket, endpoint });
                }
                Due::Failed(reason) => self.not_reached(world.now, &target, reason, out),
            }
        }
    }

    pub(super) fn identified(
        &mut self,
        world: &World<'_, impl Ports>,
        ticket: Ticket,
        peer: Result<Arc<PeerIdentity>, String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(target) = self.connects.identified(ticket) else {
            return;
        };
        let me = world.me;
        let peer = match peer {
            Ok(peer) => peer,
            Err(reason) => {
                self.not_reached(world.now, &target, &reason, out);
                return;
            }
        };
        if peer.pki_id == me.identity.pki_id {
            // Another name for our own endpoint.
            self.connects.end(&target);
            return;
        }
        if target.within_org && peer.org != me.identity.org {
            let reason = format!("a peer of {} answers at {}", peer.org, target.endpoint);
            out.push(refused(peer.pki_id, "D-S11", reason.clone()));
            self.not_reached(world.now, &target, &reason, out);
            return;
        }
        let nonce = self.rng.random();
        let own = self.word(world);
        self.connects.asked(world.now, &target, peer.pki_id, nonce);
        let to = Destination {
            peer: peer.pki_id,
            endpoint: target.endpoint,
        };
        let effect = self.ask(
            world,
            Some(&peer.org),
            to,
            nonce,
            &own.envelope,
            &mut Told::new(),
        );
        out.push(effect);
    }

    fn not_reached(&mut self, now: Moment, target: &Target, reason: &str, out: &mut Vec<Effect>) {
        let longest = period(self.config.reconnect_interval);
        let doublings = self.connects.failures(target).min(DOUBLINGS_MAX);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(longest);
        let until = now + self.jittered(pause);
        if let Some(text) = self.connects.failed(now, target, reason, until) {
            let Target { endpoint, .. } = target;
            let text = format!(
                "{} {endpoint} is not reached: {text}",
                self.named_by(target)
            );
            out.push(Effect::Notify(Notice::Warning(text)));
        }
    }

    /// Tells of those that are reached after they were not.
    pub(super) fn reached(&self, after_trouble: Vec<(Target, Duration)>, out: &mut Vec<Effect>) {
        for (target, after) in after_trouble {
            let (named, endpoint) = (self.named_by(&target), &target.endpoint);
            let text = format!("{named} {endpoint} is reached after {after:?}");
            out.push(Effect::Notify(Notice::Over(text)));
        }
    }

    /// Who wants this endpoint reached, and so where it is to be corrected.
    fn named_by(&self, target: &Target) -> &'static str {
        if bootstrap(&self.config).any(|named| named == *target) {
            "bootstrap peer (peer.gossip.bootstrap)"
        } else {
            "anchor peer (of the channel configuration)"
        }
    }

    pub(super) fn anchored(
        &mut self,
        world: &World<'_, impl Ports>,
        channel: ChannelId,
        anchors: &BTreeMap<OrgId, Vec<String>>,
        out: &mut Vec<Effect>,
    ) {
        let mut targets = BTreeSet::new();
        for (org, endpoints) in anchors {
            let within_org = *org == world.me.identity.org;
            for endpoint in endpoints.iter().filter(|endpoint| is_dialable(endpoint)) {
                targets.insert(Target {
                    endpoint: endpoint.clone(),
                    within_org,
                });
            }
        }
        if targets.is_empty() {
            self.anchors.remove(&channel);
        } else {
            self.anchors.insert(channel, targets.clone());
        }
        let wanted: BTreeSet<Target> = bootstrap(&self.config)
            .chain(self.anchors.values().flatten().cloned())
            .collect();
        self.connects.retain(|target| wanted.contains(target));
        for target in targets {
            if !self.reach_for(world, target) {
                let warning = "too many anchor peers: some are not contacted".to_owned();
                out.push(Effect::Notify(Notice::Warning(warning)));
                break;
            }
        }
    }

    /// Begins with this endpoint, unless that cannot lead to anything. False if there are too
    /// many.
    pub(super) fn reach_for(&mut self, world: &World<'_, impl Ports>, target: Target) -> bool {
        // Nobody of another organization would tell us anything.
        let is_hopeless = !target.within_org && world.me.external_endpoint.is_empty();
        is_hopeless || is_own(&target.endpoint, world.me) || self.connects.begin(world.now, target)
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        pause + (pause / JITTER_PART).mul_f64(self.rng.random())
    }
}

pub(super) fn is_own(endpoint: &str, me: &Me) -> bool {
    let is_loopback = || {
        let own_port = me.endpoint.rsplit_once(':').map(|(_, port)| port);
        endpoint.rsplit_once(':').is_some_and(|(host, port)| {
            ["127.0.0.1", "localhost"].contains(&host) && Some(port) == own_port
        })
    };
    endpoint == me.endpoint || endpoint == me.external_endpoint || is_loopback()
}

fn is_dialable(endpoint: &str) -> bool {
    endpoint.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}
