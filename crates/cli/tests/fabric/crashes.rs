//! Killing nodes at moments that nobody chose, while blocks come.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    ops::Range,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    fabnet::{self, Fabnet},
    leaders::{Candidates, SLACK, TIMERS, quiet},
    node::Node,
    update::{anchor, application},
    wait::{measured, setting, until},
};

const NAME: &str = "killed_at_any_moment";

/// From one kill to the next: from before a node listens to when it has found its place again.
const PAUSE_MS: Range<u64> = 20..6000;

/// Signing the load ahead takes a while.
const LOAD_TIME_MAX: Duration = Duration::from_secs(180);

const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(120);

#[test]
fn killed_at_any_moment() {
    let Some(network) = fabnet::up(NAME, &[]) else {
        return;
    };
    let nodes = ["org1-extra0", "org1-extra1"].map(|name| network.join(name));
    let mut candidates = Candidates::new(network, nodes);
    let kills: u64 = setting("TIDINGS_FABRIC_KILLS", 10);
    let mut chance = Chance::new(NAME);
    let Candidates { network, ours, .. } = &mut candidates;
    while_blocks_come(network, ours, kills, &mut chance);
    check(network, ours);
    while_catching_up(network, ours, kills, &mut chance);
    check(network, ours);
    while_the_configuration_changes(network, ours, &mut chance);
    check(network, ours);
    let (leader, several) = candidates.settle(TIMERS + SLACK);
    measured(
        NAME,
        format_args!("{leader} leads alone, after {several:.1?} with several leaders"),
    );
}

type Nodes = BTreeMap<String, Node>;

fn while_blocks_come(network: &Fabnet, nodes: &mut Nodes, kills: u64, chance: &mut Chance) {
    // As many as come in the longest run.
    let blocks = (kills * PAUSE_MS.end * 10 / 1000).to_string();
    let load = network.load(&["--blocks", &blocks, "--tx-bytes", "300", "--rate", "10"]);
    let before = network.height();
    until("blocks come", LOAD_TIME_MAX, || {
        (network.height() > before).then_some(())
    });
    let mut told = String::new();
    for _ in 0..kills {
        let pause = chance.pause(PAUSE_MS);
        let node = chance.one_of(nodes);
        node.kill();
        write!(told, " {pause} ms {}", node.name).unwrap();
        node.launch(&network.genesis());
    }
    drop(load);
    measured(NAME, format_args!("{kills} kills while blocks came:{told}"));
}

/// One that lost all it had, and is killed again and again on its way back.
fn while_catching_up(network: &Fabnet, nodes: &mut Nodes, kills: u64, chance: &mut Chance) {
    let goal = quiet(network);
    let node = chance.one_of(nodes);
    node.kill();
    node.wipe();
    let mut told = String::new();
    for _ in 0..kills {
        node.launch(&network.genesis());
        let pause = chance.pause(PAUSE_MS.start..PAUSE_MS.end / 2);
        // What it tells, if it is up, is how far it has come.
        write!(told, " {pause} ms {:?}", node.height()).unwrap();
        node.kill();
    }
    node.launch(&network.genesis());
    measured(
        NAME,
        format_args!("{kills} kills on the way to {goal} blocks:{told}"),
    );
}

/// The same anchors at another port, and back.
fn while_the_configuration_changes(network: &Fabnet, nodes: &mut Nodes, chance: &mut Chance) {
    for peer in ["org1-peer1", "org1-peer0"] {
        let endpoint = &network.peer(peer).endpoint;
        network.reconfigure(&["Org1"], |config| {
            application(config)["Org1"]["values"]["AnchorPeers"] = anchor(endpoint);
        });
        chance.pause(PAUSE_MS.start..PAUSE_MS.end / 20);
        for node in nodes.values_mut() {
            node.kill();
            node.launch(&network.genesis());
        }
    }
}

/// Waits until all have what the orderer has, and compares every block.
fn check(network: &Fabnet, nodes: &Nodes) {
    let goal = quiet(network);
    let ordered = network.ordered();
    for node in nodes.values() {
        node.reaches(goal, CATCH_UP_TIME_MAX);
        let chain = node.chain();
        assert_eq!(chain.len(), ordered.len());
        assert!(chain == ordered, "{} has forked", node.name);
    }
    measured(
        NAME,
        format_args!("{goal} blocks, all equal to the orderer's"),
    );
}

/// Moments and victims that can be had again by their seed.
pub(crate) struct Chance(u64);

impl Chance {
    /// By the seed that the environment names, or one that it tells.
    pub(crate) fn new(scenario: &str) -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = setting("TIDINGS_FABRIC_SEED", u64::from(clock.subsec_nanos()));
        measured(scenario, format_args!("TIDINGS_FABRIC_SEED={seed}"));
        Self(seed)
    }

    /// Lets some time pass, and says how many milliseconds.
    pub(crate) fn pause(&mut self, range: Range<u64>) -> u64 {
        let pause = range.start + self.draw(range.end - range.start);
        thread::sleep(Duration::from_millis(pause));
        pause
    }

    fn one_of<'a>(&mut self, nodes: &'a mut Nodes) -> &'a mut Node {
        let number = self.draw(nodes.len() as u64);
        nodes
            .values_mut()
            .nth(usize::try_from(number).unwrap())
            .unwrap()
    }

    /// A number below that one.
    fn draw(&mut self, below: u64) -> u64 {
        // Knuth's multiplier; its high bits are good enough to be surprised by.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below
    }
}
