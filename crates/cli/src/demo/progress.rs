//! Which block came where and when, and what that says about the network.
//!
//! Promises: bounded memory however long the demo runs. Told of cuts and commits; opens nothing,
//! asks nobody, reads no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::latency::{Histogram, millis};
use super::snapshot::{
    Arrival, BlockLatency, BlockView, LatencyView, LinkView, NodeView, OrgView, Snapshot, Totals,
    Ways,
};

/// Blocks that not every node holds. Beyond, the oldest is no longer timed: a node that stands
/// still for an hour must not make the others remember.
const UNFINISHED_MAX: usize = 4096;

/// Blocks in the strip of latencies; wider than the page can show.
const RECENT_MAX: usize = 160;

/// The orderer among the names of nodes.
const ORDERER: &str = "orderer";

/// A node of the demo.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// The MSP of its organization.
    pub(crate) org: String,
}

/// A block that the orderer has just cut.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// Its number.
    pub(crate) number: u64,
    /// Its header hash in hex.
    pub(crate) hash: String,
    /// Transactions in it.
    pub(crate) transactions: usize,
    /// Its size.
    pub(crate) bytes: usize,
}

/// How a block came to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In parts, down the trees of a block.
    Stripe,
    /// Pushed whole by a peer.
    Push,
    /// Pulled after comparing digests.
    Pull,
    /// By state transfer.
    Transfer,
    /// From the orderer.
    Deliver,
}

/// What a node says of itself now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vitals {
    /// Blocks that it holds.
    pub(crate) height: u64,
    /// Whether it leads its organization.
    pub(crate) leader: bool,
    /// Whether it runs.
    pub(crate) alive: bool,
    /// Peers that it believes alive, itself included.
    pub(crate) members: usize,
    /// Bytes sent.
    pub(crate) sent: u64,
    /// Bytes received.
    pub(crate) received: u64,
}

/// The demo's memory of its blocks and nodes.
pub(crate) struct Progress {
    channel: String,
    target: Option<u64>,
    nodes: Vec<Node>,
    vitals: Vec<Vitals>,
    ways: Vec<Ways>,
    height: u64,
    transactions: u64,
    unfinished: BTreeMap<u64, Unfinished>,
    newest: Option<BlockView>,
    recent: VecDeque<BlockLatency>,
    latencies: Histogram,
    /// Blocks since the last snapshot, by giver and taker.
    links: BTreeMap<(String, String), u64>,
}

struct Unfinished {
    cut: Cut,
    at: Duration,
    arrivals: Vec<Option<Arrival>>,
}

impl Progress {
    /// A network of these nodes before its first block.
    pub(crate) fn new(channel: &str, target: Option<u64>, nodes: Vec<Node>) -> Self {
        Self {
            channel: channel.to_owned(),
            target,
            vitals: vec![Vitals::default(); nodes.len()],
            ways: vec![Ways::default(); nodes.len()],
            nodes,
            height: 1,
            transactions: 0,
            unfinished: BTreeMap::new(),
            newest: None,
            recent: VecDeque::new(),
            latencies: Histogram::new(),
            links: BTreeMap::new(),
        }
    }

    /// The orderer cut a block.
    pub(crate) fn cut(&mut self, at: Duration, cut: Cut) {
        self.height = self.height.max(cut.number.saturating_add(1));
        self.transactions += cut.transactions as u64;
        let arrivals = vec![None; self.nodes.len()];
        self.unfinished
            .insert(cut.number, Unfinished { cut, at, arrivals });
        if self.unfinished.len() > UNFINISHED_MAX {
            self.unfinished.pop_first();
        }
    }

    /// A node committed a block.
    pub(crate) fn committed(&mut self, at: Duration, node: usize, number: u64, way: Way) {
        let (Some(ways), Some(known)) = (self.ways.get_mut(node), self.nodes.get(node)) else {
            return;
        };
        match way {
            Way::Stripe => ways.stripe += 1,
            Way::Push => ways.push += 1,
            Way::Pull => ways.pull += 1,
            Way::Transfer => ways.transfer += 1,
            Way::Deliver => ways.deliver += 1,
        }
        let Some(block) = self.unfinished.get_mut(&number) else {
            return;
        };
        let after = at.saturating_sub(block.at);
        let from = block.giver(way, node, &self.nodes);
        *self
            .links
            .entry((from.clone(), known.name.clone()))
            .or_default() += 1;
        if let Some(slot @ None) = block.arrivals.get_mut(node) {
            *slot = Some(Arrival {
                node: known.name.clone(),
                from,
                after_ms: millis(after),
            });
            self.latencies.add(after);
        }
        self.settle(number);
    }

    /// What a node says of itself.
    pub(crate) fn vitals(&mut self, node: usize, vitals: Vitals) {
        if let Some(slot) = self.vitals.get_mut(node) {
            *slot = vitals;
        }
    }

    /// Everything that is shown, and the counts of the links begin anew. `known` are the pairs
    /// of nodes that know each other.
    pub(crate) fn snapshot(&mut self, now: Duration, known: &[(String, String)]) -> Snapshot {
        for ends in known {
            self.links.entry(ends.clone()).or_default();
        }
        for (node, vitals) in self.nodes.iter().zip(&self.vitals) {
            if vitals.alive && vitals.leader {
                self.links
                    .entry((ORDERER.to_owned(), node.name.clone()))
                    .or_default();
            }
        }
        let links = std::mem::take(&mut self.links)
            .into_iter()
            .map(|((from, to), blocks)| LinkView { from, to, blocks })
            .collect();
        let sum = |of: fn(&Vitals) -> u64| self.vitals.iter().map(of).sum();
        Snapshot {
            channel: self.channel.clone(),
            elapsed_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            height: self.height,
            target: self.target,
            finished: self.finished(),
            orgs: self.orgs(),
            nodes: self.node_views(),
            links,
            newest: self.newest.clone(),
            latency: LatencyView {
                p50: self.latencies.percentile_ms(0.5),
                p99: self.latencies.percentile_ms(0.99),
                max: self.latencies.max_ms(),
                last: self.recent.back().map(|block| block.last),
                recent: self.recent.iter().copied().collect(),
            },
            totals: Totals {
                transactions: self.transactions,
                sent: sum(|v| v.sent),
                received: sum(|v| v.received),
            },
        }
    }

    /// Whether all nodes run and hold every block up to the target.
    pub(crate) fn finished(&self) -> bool {
        self.target.is_some_and(|target| {
            self.height >= target
                && self
                    .vitals
                    .iter()
                    .all(|node| node.alive && node.height >= target)
        })
    }

    /// A block that every running node holds becomes the newest; one that all nodes hold is done.
    fn settle(&mut self, number: u64) {
        let Some(block) = self.unfinished.get(&number) else {
            return;
        };
        let missing = |only_alive: bool| {
            block
                .arrivals
                .iter()
                .zip(&self.vitals)
                .any(|(arrival, vitals)| arrival.is_none() && (vitals.alive || !only_alive))
        };
        let (shown, done) = (!missing(true), !missing(false));
        let older = self
            .newest
            .as_ref()
            .is_some_and(|newest| newest.number >= number);
        if shown && !older {
            let view = block.view();
            self.recent.extend(block.latency());
            if self.recent.len() > RECENT_MAX {
                self.recent.pop_front();
            }
            self.newest = Some(view);
        }
        if done {
            self.unfinished.remove(&number);
        }
    }

    fn orgs(&self) -> Vec<OrgView> {
        let mut orgs: Vec<OrgView> = Vec::new();
        for node in &self.nodes {
            match orgs.iter_mut().find(|org| org.name == node.org) {
                Some(org) => org.nodes.push(node.name.clone()),
                None => {
                    orgs.push(OrgView {
                        name: node.org.clone(),
                        nodes: vec![node.name.clone()],
                    });
                }
            }
        }
        orgs
    }

    fn node_views(&self) -> Vec<NodeView> {
        let all = self.nodes.iter().zip(&self.vitals).zip(&self.ways);
        all.map(|((node, vitals), ways)| NodeView {
            name: node.name.clone(),
            org: node.org.clone(),
            height: vitals.height,
            leader: vitals.leader,
            alive: vitals.alive,
            members: vitals.members,
            sent: vitals.sent,
            received: vitals.received,
            blocks: *ways,
        })
        .collect()
    }
}

impl Unfinished {
    /// Who gave the block to a node. A node does not remember from whom a push came, so what is
    /// shown is the likeliest way: from the node of its organization that held the block first.
    fn giver(&self, way: Way, taker: usize, nodes: &[Node]) -> String {
        let org = nodes.get(taker).map(|node| &node.org);
        let first = |own_org: bool| {
            nodes
                .iter()
                .zip(&self.arrivals)
                .filter(|(node, _)| !own_org || Some(&node.org) == org)
                .filter_map(|(node, arrival)| Some((node, arrival.as_ref()?.after_ms)))
                .min_by(|(_, a), (_, b)| a.total_cmp(b))
                .map(|(node, _)| node.name.clone())
        };
        match way {
            Way::Deliver => ORDERER.to_owned(),
            _ => first(true)
                .or_else(|| first(false))
                .unwrap_or_else(|| ORDERER.to_owned()),
        }
    }

    fn view(&self) -> BlockView {
        BlockView {
            number: self.cut.number,
            hash: self.cut.hash.clone(),
            transactions: self.cut.transactions,
            bytes: self.cut.bytes,
            arrivals: self.arrivals.iter().flatten().cloned().collect(),
        }
    }

    fn latency(&self) -> Option<BlockLatency> {
        let mut after: Vec<f64> = self.arrivals.iter().flatten().map(|a| a.after_ms).collect();
        after.sort_by(f64::total_cmp);
        Some(BlockLatency {
            block: self.cut.number,
            first: *after.first()?,
            p50: *after.get((after.len() - 1) / 2)?,
            last: *after.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn cut(number: u64) -> Cut {
        Cut {
            number,
            hash: format!("{number:064x}"),
            transactions: 10,
            bytes: 1000,
        }
    }

    fn network(names: &[&str], target: Option<u64>) -> Progress {
        let node = |name: &&str| Node {
            name: (*name).into(),
            org: "Org1MSP".into(),
        };
        let mut progress = Progress::new("demo", target, names.iter().map(node).collect());
        for node in 0..names.len() {
            progress.vitals(
                node,
                Vitals {
                    alive: true,
                    height: 1,
                    ..Vitals::default()
                },
            );
        }
        progress
    }

    #[test]
    fn a_block_is_shown_when_all_running_nodes_hold_it() {
        let mut progress = network(&["a", "b", "c"], None);
        progress.vitals(2, Vitals::default());
        progress.cut(ms(100), cut(1));
        progress.committed(ms(103), 0, 1, Way::Deliver);
        assert_eq!(progress.snapshot(ms(104), &[]).newest, None);
        progress.committed(ms(105), 1, 1, Way::Push);

        let shown = progress.snapshot(ms(106), &[]);
        let arrival = |node: &str, from: &str, after_ms| Arrival {
            node: node.into(),
            from: from.into(),
            after_ms,
        };
        assert_eq!(
            shown.newest.map(|block| (block.number, block.arrivals)),
            Some((
                1,
                vec![arrival("a", "orderer", 3.0), arrival("b", "a", 5.0)]
            ))
        );
        assert_eq!(
            shown.latency.recent,
            [BlockLatency {
                block: 1,
                first: 3.0,
                p50: 3.0,
                last: 5.0
            }]
        );
        assert_eq!(
            (shown.latency.max, shown.latency.last),
            (Some(5.0), Some(5.0))
        );
        assert_eq!(
            progress.unfinished.len(),
            1,
            "the stopped node still lacks it"
        );

        progress.committed(ms(900), 2, 1, Way::Transfer);
        let shown = progress.snapshot(ms(901), &[]);
        assert_eq!(shown.latency.max, Some(800.0));
        assert_eq!(
            shown.nodes[2].blocks,
            Ways {
                transfer: 1,
                ..Ways::default()
            }
        );
        assert!(progress.unfinished.is_empty());
    }

    #[test]
    fn links_are_counted_between_two_snapshots() {
        let mut progress = network(&["a", "b"], None);
        progress.vitals(
            0,
            Vitals {
                alive: true,
                leader: true,
                ..Vitals::default()
            },
        );
        progress.cut(ms(0), cut(1));
        progress.committed(ms(1), 0, 1, Way::Deliver);
        progress.committed(ms(2), 1, 1, Way::Push);
        let known = [("a".to_owned(), "b".to_owned())];
        let link = |from: &str, to: &str, blocks| LinkView {
            from: from.into(),
            to: to.into(),
            blocks,
        };
        let links = |progress: &mut Progress, known: &[_]| progress.snapshot(ms(3), known).links;
        assert_eq!(
            links(&mut progress, &known),
            [link("a", "b", 1), link("orderer", "a", 1)]
        );
        assert_eq!(
            links(&mut progress, &known),
            [link("a", "b", 0), link("orderer", "a", 0)]
        );
        assert_eq!(links(&mut progress, &[]), [link("orderer", "a", 0)]);
    }

    #[test]
    fn the_giver_is_the_first_holder_of_the_own_organization() {
        let node = |name: &str, org: &str| Node {
            name: name.into(),
            org: org.into(),
        };
        let nodes = vec![
            node("a1", "A"),
            node("b1", "B"),
            node("b2", "B"),
            node("b3", "B"),
        ];
        let mut progress = Progress::new("demo", None, nodes);
        for node in 0..4 {
            progress.vitals(
                node,
                Vitals {
                    alive: true,
                    ..Vitals::default()
                },
            );
        }
        progress.cut(ms(0), cut(1));
        for (at, node, way) in [
            (1, 0, Way::Deliver),
            (2, 2, Way::Deliver),
            (3, 1, Way::Deliver),
            (4, 3, Way::Pull),
        ] {
            progress.committed(ms(at), node, 1, way);
        }
        let newest = progress.snapshot(ms(5), &[]).newest.unwrap();
        let from: Vec<_> = newest
            .arrivals
            .iter()
            .map(|arrival| arrival.from.as_str())
            .collect();
        assert_eq!(from, ["orderer", "orderer", "orderer", "b2"]);
    }

    #[test]
    fn finished_means_every_node_runs_and_holds_every_block() {
        let mut progress = network(&["a", "b"], Some(3));
        let at = |height, alive| Vitals {
            height,
            alive,
            ..Vitals::default()
        };
        for node in 0..2 {
            progress.vitals(node, at(3, true));
        }
        assert!(!progress.finished(), "the orderer has not cut them");
        progress.cut(ms(0), cut(2));
        assert!(progress.finished());
        progress.vitals(1, at(3, false));
        assert!(!progress.finished(), "a stopped node is no success");
        progress.vitals(1, at(2, true));
        assert!(!progress.finished());
    }

    #[test]
    fn a_node_that_stands_still_costs_bounded_memory() {
        let mut progress = network(&["a", "b"], None);
        let many = UNFINISHED_MAX as u64 + 500;
        for number in 1..=many {
            progress.cut(ms(number), cut(number));
            progress.committed(ms(number + 1), 0, number, Way::Deliver);
        }
        assert_eq!(progress.unfinished.len(), UNFINISHED_MAX);
        progress.vitals(1, Vitals::default());
        for number in 1..=many {
            progress.committed(ms(many + 1), 1, number, Way::Transfer);
        }
        let shown = progress.snapshot(ms(many), &[]);
        assert_eq!(
            shown.nodes[1].blocks.transfer, many,
            "counted although not timed"
        );
        assert_eq!(shown.latency.recent.len(), RECENT_MAX);
        assert!(progress.unfinished.is_empty());
    }

    #[test]
    fn a_repeated_commit_is_timed_once() {
        let mut progress = network(&["a", "b"], None);
        progress.cut(ms(0), cut(1));
        progress.committed(ms(4), 0, 1, Way::Push);
        progress.committed(ms(400), 0, 1, Way::Push);
        assert_eq!(progress.snapshot(ms(401), &[]).latency.max, Some(4.0));
    }
}
