//! Who leads, where leaders are elected.
//!
//! Two peers of an organization may both lead until they have found each other and one has heard
//! the other. Whoever comes back after a fault is found by the periodic probe of dead members at
//! the latest; two leaders that stay longer than that in a network without faults would do so for
//! good.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tidings_gossip::id::OrgId;

use super::{Life, World};
use crate::{secs, watch::Violation};

/// How long an organization may have several leaders after the last fault: a probe of dead
/// members every 25 to 30 seconds, whose hello may be lost once, half a leader's silence until
/// the next declaration, which may be lost, too.
pub(super) const RIVALRY_MAX: Duration = secs(75);

/// The leaders of all organizations.
#[derive(Debug, Default)]
pub(super) struct Reign {
    leaders: BTreeMap<OrgId, BTreeSet<usize>>,
    /// Organizations with several leaders, and since when.
    rivals: BTreeMap<OrgId, Duration>,
    last_fault: Duration,
}

impl Reign {
    fn note(&mut self, now: Duration, org: &OrgId, peer: usize, leads: bool) {
        let leaders = self.leaders.entry(org.clone()).or_default();
        if leads {
            leaders.insert(peer);
        } else {
            leaders.remove(&peer);
        }
        if leaders.len() > 1 {
            self.rivals.entry(org.clone()).or_insert(now);
        } else {
            self.rivals.remove(org);
        }
    }

    /// Rivals that had the time to find each other.
    fn stale(&self, now: Duration) -> Option<(&OrgId, &BTreeSet<usize>)> {
        let is_stale = |since: Duration| {
            let begun = since.max(self.last_fault);
            now.saturating_sub(begun) > RIVALRY_MAX
        };
        let (org, _) = self.rivals.iter().find(|(_, since)| is_stale(**since))?;
        Some((org, self.leaders.get(org)?))
    }
}

impl World {
    /// Peers that are up and pull blocks from the ordering service.
    pub fn who_leads(&self) -> Vec<usize> {
        let leads = |peer: &usize| {
            let channel = &self.settings.channel;
            self.node(*peer)
                .is_some_and(|node| node.is_leading(channel))
        };
        (0..self.hosts.len()).filter(leads).collect()
    }

    /// To be told after everything that a core did.
    pub(super) fn note_leader(&mut self, life: Life) {
        let leads = self
            .body(life)
            .is_some_and(|body| body.node.is_leading(&self.settings.channel));
        if let Some(host) = self.hosts.get(life.peer) {
            let org = &host.identity.org;
            self.reign.note(self.now, org, life.peer, leads);
        }
    }

    pub(super) fn note_fault(&mut self) {
        self.reign.last_fault = self.now;
    }

    /// Whom nobody appointed must not lead beside others for long.
    pub(super) fn watch_leaders(&mut self) {
        if !self.settings.config.use_leader_election || !self.partitions.is_empty() {
            return;
        }
        if let Some((org, peers)) = self.reign.stale(self.now) {
            let what = format!("peers {peers:?} of {org} all lead for more than {RIVALRY_MAX:?}");
            self.violate(Violation::new("election", what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rivals_that_stay_after_the_last_fault_are_stale() {
        let org = OrgId::from("Org1MSP");
        let mut reign = Reign::default();
        reign.note(secs(1), &org, 0, true);
        assert_eq!(reign.stale(secs(1000)), None, "one alone");
        reign.note(secs(10), &org, 3, true);
        assert_eq!(reign.stale(secs(10) + RIVALRY_MAX), None);
        let rivals = BTreeSet::from([0, 3]);
        assert_eq!(reign.stale(secs(11) + RIVALRY_MAX), Some((&org, &rivals)));
        reign.last_fault = secs(20);
        assert_eq!(reign.stale(secs(11) + RIVALRY_MAX), None);
        assert_eq!(reign.stale(secs(21) + RIVALRY_MAX), Some((&org, &rivals)));
        reign.note(secs(30), &org, 0, false);
        assert_eq!(reign.stale(secs(1000)), None);
        reign.note(secs(500), &org, 0, true);
        assert_eq!(reign.stale(secs(501) + RIVALRY_MAX), Some((&org, &rivals)));
    }
}
