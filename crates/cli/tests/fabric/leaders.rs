//! Who leads an organization of Go peers and nodes of ours, and what becomes of the blocks when
//! leaders die.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use crate::{
    fabnet::{self, Fabnet},
    node::Node,
    wait::{measured, setting, settle, until},
};

/// `leaderAliveThreshold` and `leaderElectionDuration`, as Fabric has them by default.
const ALIVE_THRESHOLD: Duration = Duration::from_secs(10);
const ELECTION: Duration = Duration::from_secs(5);

/// A silent leader is noticed at most twice the threshold after its last word, and followed by
/// another one election later.
pub(crate) const TIMERS: Duration =
    Duration::from_secs(2 * ALIVE_THRESHOLD.as_secs() + ELECTION.as_secs());

/// What a loaded machine may add to that.
pub(crate) const SLACK: Duration = Duration::from_secs(10);

/// What was steady for so long is taken for settled: whoever has just come back would have proposed
/// itself and been elected by then if it heard of no leader.
const STEADY: Duration = Duration::from_secs(15);

const BLOCKS_TIME_MAX: Duration = Duration::from_secs(120);

/// A network where one of our identities comes before both Go peers of its organization: it wins
/// where several would lead. Keys are drawn anew for every network, so it may take some.
pub(crate) fn where_ours_is_first(scenario: &str, options: &[&str]) -> Option<(Fabnet, String)> {
    let options = [options, &["--extra-org1", "7"]].concat();
    for _ in 0..20 {
        let network = fabnet::up(scenario, &options)?;
        let first = (0..7)
            .map(|number| format!("org1-extra{number}"))
            .min_by_key(|name| network.guest(name).pki.clone())
            .unwrap();
        let node = network.guest(&first);
        if network.of("Org1").all(|peer| node.pki < peer.pki) {
            return Some((network, first));
        }
    }
    panic!("a Go peer came first in twenty networks");
}

/// Everybody of Org1 that can lead.
pub(crate) struct Candidates {
    pub(crate) network: Fabnet,
    pub(crate) ours: BTreeMap<String, Node>,
    dead: Option<String>,
}

impl Candidates {
    /// Nodes of ours that run beside the Go peers of a network.
    pub(crate) fn new(network: Fabnet, ours: impl IntoIterator<Item = Node>) -> Self {
        let ours = ours.into_iter().map(|node| (node.name.clone(), node));
        Self {
            network,
            ours: ours.collect(),
            dead: None,
        }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let go = self.network.of("Org1").map(|peer| peer.name.clone());
        let all = go.chain(self.ours.keys().cloned());
        all.filter(|name| self.dead.as_ref() != Some(name))
    }

    fn leads(&self, name: &str) -> bool {
        match self.ours.get(name) {
            Some(node) => node.leads(),
            None => self.network.peer(name).leads(),
        }
    }

    fn leaders(&self) -> Vec<String> {
        self.names().filter(|name| self.leads(name)).collect()
    }

    /// Waits until there was one and the same leader for a while. Gives it, and for how long
    /// there were several before.
    pub(crate) fn settle(&self, within: Duration) -> (String, Duration) {
        settle(STEADY, within, || self.leaders())
    }

    fn kill(&mut self, name: &str) {
        match self.ours.get_mut(name) {
            Some(node) => node.kill(),
            None => _ = self.network.run(&["kill-peer", name]),
        }
        self.dead = Some(name.to_owned());
    }

    fn revive(&mut self) {
        let name = self.dead.take().unwrap();
        let genesis = self.network.genesis();
        match self.ours.get_mut(&name) {
            Some(node) => node.start(&genesis),
            None => _ = self.network.run(&["start-peer", &name]),
        }
    }
}

#[test]
fn leads_for_go_peers() {
    const NAME: &str = "leads_for_go_peers";
    let held = ["--hold", "org1-peer0", "--hold", "org1-peer1"];
    let Some((network, first)) = where_ours_is_first(NAME, &held) else {
        return;
    };
    // Blocks would cross from the other organization too.
    network.run(&["stop-peer", "org2-peer0"]);
    let start = Instant::now();
    let node = network.join(&first);
    until("the lonely node leads", TIMERS + SLACK, || {
        node.leads().then_some(())
    });
    measured(
        NAME,
        format_args!("alone, our node led after {:.1?}", start.elapsed()),
    );
    network.run(&["start-peer", "org1-peer0", "org1-peer1"]);
    let candidates = Candidates::new(network, [node]);
    let (leader, several) = candidates.settle(TIMERS + SLACK);
    assert_eq!(leader, first, "whoever comes first is not displaced");
    measured(
        NAME,
        format_args!("beside Go peers there were several leaders for {several:.1?}"),
    );
    let network = &candidates.network;
    let logs: Vec<_> = network.of("Org1").map(fabnet::GoPeer::log_len).collect();
    let load = network.load(&["--blocks", "100", "--tx-bytes", "3000", "--rate", "10"]);
    let goal = network.height() + 100;
    until("the load is ordered", BLOCKS_TIME_MAX, || {
        (network.height() >= goal).then_some(())
    });
    let ordered = Instant::now();
    for peer in network.of("Org1") {
        until("a Go peer has all blocks", BLOCKS_TIME_MAX, || {
            (peer.height()? >= goal).then_some(())
        });
    }
    measured(
        NAME,
        format_args!(
            "100 blocks; both Go peers had all {:.1?} after the last",
            ordered.elapsed()
        ),
    );
    load.finish();
    assert_eq!(candidates.leaders(), [first]);
    for (peer, start) in network.of("Org1").zip(logs) {
        for line in peer.log_since(start) {
            assert_ne!(
                line.logger, "peer.blocksprovider",
                "{}: {line:?}",
                peer.name
            );
        }
        network.run(&["stop-peer", &peer.name]);
        assert!(
            network.kept(&peer.name) == network.ordered(),
            "{} differs",
            peer.name
        );
    }
}

#[test]
fn leaders_die_ten_times() {
    const NAME: &str = "leaders_die_ten_times";
    let Some((network, first)) = where_ours_is_first(NAME, &[]) else {
        return;
    };
    let second = if first == "org1-extra0" {
        "org1-extra1"
    } else {
        "org1-extra0"
    };
    let ours = [first.as_str(), second].map(|name| network.join(name));
    let mut candidates = Candidates::new(network, ours);
    let kills: u32 = setting("TIDINGS_FABRIC_KILLS", 10);
    let blocks = (60 * kills).to_string();
    let (mut leader, _) = candidates.settle(TIMERS + SLACK);
    let load =
        candidates
            .network
            .load(&["--blocks", &blocks, "--tx-bytes", "300", "--rate", "1.5"]);
    let mut slowest = Duration::ZERO;
    let mut longest = Duration::ZERO;
    let mut ours_died = 0;
    for kill in 1..=kills {
        ours_died += u32::from(candidates.ours.contains_key(&leader));
        candidates.kill(&leader);
        let died = Instant::now();
        let next = until("another leads", TIMERS + SLACK, || {
            candidates.leaders().pop()
        });
        let took = died.elapsed();
        candidates.revive();
        let (settled, several) = candidates.settle(TIMERS + SLACK);
        measured(
            NAME,
            format_args!(
                "kill {kill}: {leader} died, {next} led after {took:.1?}; {settled} was the one \
                 when {leader} was back, several led for {several:.1?}"
            ),
        );
        (slowest, longest) = (slowest.max(took), longest.max(several));
        leader = settled;
    }
    drop(load);
    let goal = quiet(&candidates.network);
    let caught_up = Instant::now();
    let mut last = String::new();
    for peer in candidates.network.peers() {
        until("a Go peer has all blocks", BLOCKS_TIME_MAX, || {
            (peer.height()? >= goal).then_some(())
        });
        write!(last, " {} {:.1?}", peer.name, caught_up.elapsed()).unwrap();
    }
    let ordered = candidates.network.ordered();
    for node in candidates.ours.values() {
        node.reaches(goal, BLOCKS_TIME_MAX);
        write!(last, " {} {:.1?}", node.name, caught_up.elapsed()).unwrap();
    }
    for node in candidates.ours.values() {
        assert!(node.chain() == ordered, "{} differs", node.name);
    }
    measured(
        NAME,
        format_args!(
            "{kills} leaders died, {ours_died} of them ours; a new one after at most {slowest:.1?} \
             of {TIMERS:?}; two at a time for at most {longest:.1?} after a return; all {goal} \
             blocks were everywhere so long after the end of the load, as they were asked:{last}"
        ),
    );
    for peer in candidates.network.peers() {
        candidates.network.run(&["stop-peer", &peer.name]);
        assert!(
            candidates.network.kept(&peer.name) == ordered,
            "{} differs",
            peer.name
        );
    }
}

/// The height of the orderer when it grows no more.
pub(crate) fn quiet(network: &Fabnet) -> u64 {
    let mut last = 0;
    until("the orderer has nothing to do", BLOCKS_TIME_MAX, || {
        let before = last;
        last = network.height();
        // Longer than the orderer waits for a block to fill.
        thread::sleep(Duration::from_millis(500));
        (before == last).then_some(last)
    })
}
