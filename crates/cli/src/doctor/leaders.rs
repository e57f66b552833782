//! Who pulls blocks for the organization, and whether they arrive.
//!
//! Pure: judges what the running node says, beside what others say of the chain.

use std::collections::BTreeMap;

use tidings_gossip::Config;

use super::finding::Finding;
use tidings_node::view::{Channel, View};

const ELECTION: &str = "peer.gossip.useLeaderElection";

const LEADER: &str = "peer.gossip.orgLeader";

/// Blocks that may be on their way.
const LAG_MAX: u64 = 10;

/// Who is to lead, as far as the settings say it, where no node runs.
pub(super) fn configured(gossip: &Config) -> Finding {
    const CHECK: &str = "leader";
    match (gossip.org_leader, gossip.use_leader_election) {
        (true, _) => Finding::ok(
            CHECK,
            "this node pulls blocks for its organization (orgLeader)",
        ),
        (false, true) => Finding::ok(
            CHECK,
            "the peers of the organization elect who pulls blocks",
        ),
        (false, false) => follower(Finding::warning(
            CHECK,
            "this node waits for blocks of another peer that was appointed to pull them: it neither leads nor elects",
        )),
    }
}

fn follower(finding: Finding) -> Finding {
    finding
        .because("where nobody of the organization pulls blocks, no new block comes")
        .change(
            format!("{ELECTION}, {LEADER}"),
            "set the first to true on all peers of the organization; or the second on one that is always there",
        )
}

/// What the running node is worth to its channels. `later` is how high its ledgers were a while
/// after the state was taken, `served` how high the orderers' are.
pub(super) fn judge(
    state: &View,
    gossip: &Config,
    later: &BTreeMap<String, u64>,
    served: &BTreeMap<String, u64>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for channel in &state.channels {
        let now = later.get(&channel.channel).copied().unwrap_or_default();
        let seen = Seen {
            state,
            channel,
            height: now.max(channel.height),
            served: served.get(&channel.channel).copied(),
        };
        findings.push(seen.leader(gossip).at(channel.channel.clone()));
        findings.push(seen.lag(gossip).at(channel.channel.clone()));
    }
    findings
}

/// A channel of the running node.
struct Seen<'a> {
    state: &'a View,
    channel: &'a Channel,
    height: u64,
    served: Option<u64>,
}

impl Seen<'_> {
    /// Heights of the other members of our organization in the channel.
    fn own(&self) -> Vec<u64> {
        let own = self.state.members.iter().filter(|member| {
            member.organization.as_deref() == Some(self.state.organization.as_str())
        });
        own.filter_map(|member| self.channel.heights.get(&member.peer).copied())
            .collect()
    }

    fn leader(&self, gossip: &Config) -> Finding {
        const CHECK: &str = "leader";
        let name = &self.channel.channel;
        let own = self.own();
        let best = own
            .iter()
            .copied()
            .chain([self.height])
            .max()
            .unwrap_or_default();
        if self.channel.leads {
            return Finding::ok(
                CHECK,
                format!("this node pulls the blocks of channel {name}"),
            );
        }
        if gossip.use_leader_election {
            return match &self.channel.elected {
                Some(leader) => {
                    let leader: String = leader.chars().take(8).collect();
                    Finding::ok(CHECK, format!("{leader} pulls the blocks of channel {name}"))
                }
                None => Finding::warning(CHECK, format!("nobody of our organization is known to pull the blocks of channel {name}"))
                    .because("an election takes some twenty seconds from the start; until it is over no new block comes")
                    .change(ELECTION, "if this stays, set it to true on all peers of the organization, and see that they reach each other"),
            };
        }
        if own.is_empty() {
            return follower(Finding::fault(
                CHECK,
                format!(
                    "nobody pulls the blocks of channel {name}: this node neither leads nor elects, and no other peer of {} is in the channel",
                    self.state.organization
                ),
            ));
        }
        match self.served {
            Some(served) if served > best + LAG_MAX => follower(Finding::fault(
                CHECK,
                format!(
                    "nobody of our organization seems to pull the blocks of channel {name}: its peers have {best}, the orderers {served}"
                ),
            )),
            _ => Finding::ok(
                CHECK,
                format!(
                    "another peer is to pull the blocks of channel {name}; our organization has {best}"
                ),
            ),
        }
    }

    fn lag(&self, gossip: &Config) -> Finding {
        const CHECK: &str = "lag";
        let name = &self.channel.channel;
        let peers = self.channel.heights.values().copied();
        let best = peers.chain(self.served).max().unwrap_or_default();
        let behind = best.saturating_sub(self.height);
        let found = format!(
            "channel {name}: height {} here, {best} elsewhere at most",
            self.height
        );
        if behind <= LAG_MAX {
            return Finding::ok(CHECK, found);
        }
        if self.height > self.channel.height {
            let came = self.height - self.channel.height;
            return Finding::ok(
                CHECK,
                format!("{found}; catching up, {came} came meanwhile"),
            );
        }
        if self.channel.missing.is_some() {
            return Finding::ok(CHECK, format!("{found}; they are being asked of peers"));
        }
        let finding = Finding::warning(CHECK, format!("{found}, and none came meanwhile"))
            .because("who asks this node gets an old state of the channel");
        if gossip.state.enabled {
            finding.change(
                "peer.gossip.bootstrap",
                "see that this node reaches peers that have them; its log (gossip.state) says what it tried",
            )
        } else {
            finding.change(
                "peer.gossip.state.enabled",
                "set it to true: gaps are then filled from other peers",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;
    use tidings_node::view::Member;

    fn state(leads: bool, elected: Option<&str>, others: &[(&str, u64)]) -> View {
        let member = |(number, (org, _)): (usize, &(&str, u64))| Member {
            peer: number.to_string(),
            organization: Some((*org).to_owned()),
            endpoint: String::new(),
            heard_ms: None,
            ..Member::default()
        };
        let heights = others.iter().enumerate();
        let heights = heights.map(|(number, (_, height))| (number.to_string(), *height));
        View {
            organization: "Org1MSP".into(),
            members: others.iter().enumerate().map(member).collect(),
            channels: vec![Channel {
                channel: "ch".into(),
                height: 5,
                leads,
                elected: elected.map(str::to_owned),
                missing: None,
                heights: heights.collect(),
                ..Channel::default()
            }],
            ..View::default()
        }
    }

    fn elects() -> Config {
        Config {
            use_leader_election: true,
            ..Config::default()
        }
    }

    fn judged(state: &View, gossip: &Config, later: u64, served: Option<u64>) -> [Finding; 2] {
        let of = |height: Option<u64>| height.map(|height| ("ch".to_owned(), height));
        let (later, served) = (of(Some(later)), of(served));
        let later = later.into_iter().collect();
        let findings = judge(state, gossip, &later, &served.into_iter().collect());
        findings.try_into().unwrap()
    }

    #[test]
    fn a_follower_without_anybody_to_follow_is_a_fault() {
        let follows = Config::default();
        let leader = |state: &View, served| judged(state, &follows, 5, served)[0].clone();
        for (others, served, severity) in [
            (&[][..], None, Severity::Fault),
            (&[("Org2MSP", 5)], None, Severity::Fault),
            (&[("Org1MSP", 5)], None, Severity::Ok),
            (&[("Org1MSP", 5)], Some(15), Severity::Ok),
            (&[("Org1MSP", 5)], Some(16), Severity::Fault),
            (&[("Org1MSP", 20)], Some(21), Severity::Ok),
        ] {
            let finding = leader(&state(false, None, others), served);
            assert_eq!(
                finding.severity, severity,
                "{others:?} {served:?}: {finding:?}"
            );
            let setting = finding.setting.unwrap_or_default();
            assert_eq!(setting.contains(ELECTION), severity == Severity::Fault);
        }
        assert_eq!(configured(&follows).severity, Severity::Warning);
        assert_eq!(configured(&elects()).severity, Severity::Ok);
    }

    #[test]
    fn an_election_is_over_when_somebody_is_known() {
        let leader = |state: &View| judged(state, &elects(), 5, None)[0].severity;
        assert_eq!(leader(&state(true, None, &[])), Severity::Ok);
        assert_eq!(leader(&state(false, Some("aa"), &[])), Severity::Ok);
        assert_eq!(leader(&state(false, None, &[])), Severity::Warning);
    }

    #[test]
    fn who_is_behind_and_stays_there_is_warned_of() {
        let lag = |later, served, state: &View, gossip: &Config| {
            let [_, lag] = judged(state, gossip, later, served);
            (lag.severity, lag.setting.unwrap_or_default())
        };
        let alone = state(true, None, &[("Org2MSP", 15)]);
        let gossip = elects();
        assert_eq!(lag(5, None, &alone, &gossip).0, Severity::Ok);
        let (severity, setting) = lag(5, Some(16), &alone, &gossip);
        assert_eq!(severity, Severity::Warning);
        assert_eq!(setting, "peer.gossip.state.enabled");
        assert_eq!(
            lag(6, Some(17), &alone, &gossip).0,
            Severity::Ok,
            "it moves"
        );
        let mut asking = alone.clone();
        asking.channels[0].missing = Some(11);
        assert_eq!(lag(5, Some(16), &asking, &gossip).0, Severity::Ok);
        let mut transfers = gossip;
        transfers.state.enabled = true;
        assert_eq!(
            lag(5, Some(16), &alone, &transfers).1,
            "peer.gossip.bootstrap"
        );
    }
}
