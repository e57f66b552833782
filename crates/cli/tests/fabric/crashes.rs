//! Killing nodes at moments that nobody chose, while blocks come.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    fabnet,
    leaders::{Candidates, SLACK, TIMERS, quiet},
    wait::{measured, setting, until},
};

const NAME: &str = "killed_at_any_moment";

/// From one kill to the next: from before a node listens to when it has found its place again.
const PAUSE_MS: std::ops::Range<u64> = 20..6000;

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
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut chance = Chance(setting(
        "TIDINGS_FABRIC_SEED",
        u64::from(clock.subsec_nanos()),
    ));
    measured(NAME, format_args!("TIDINGS_FABRIC_SEED={}", chance.0));
    // As many as come in the longest run.
    let blocks = (kills * PAUSE_MS.end * 10 / 1000).to_string();
    let load = ["--blocks", &blocks, "--tx-bytes", "300", "--rate", "10"];
    let load = candidates.network.load(&load);
    let before = candidates.network.height();
    until("blocks come", LOAD_TIME_MAX, || {
        (candidates.network.height() > before).then_some(())
    });
    let genesis = candidates.network.genesis();
    let mut told = String::new();
    for _ in 0..kills {
        let pause = PAUSE_MS.start + chance.draw(PAUSE_MS.end - PAUSE_MS.start);
        thread::sleep(Duration::from_millis(pause));
        let victim = chance.draw(candidates.ours.len() as u64);
        let victim = usize::try_from(victim).unwrap();
        let node = candidates.ours.values_mut().nth(victim).unwrap();
        node.kill();
        write!(told, " {pause} ms {}", node.name).unwrap();
        node.launch(&genesis);
    }
    drop(load);
    let goal = quiet(&candidates.network);
    let ordered = candidates.network.ordered();
    for node in candidates.ours.values() {
        node.reaches(goal, CATCH_UP_TIME_MAX);
        let chain = node.chain();
        assert_eq!(chain.len(), ordered.len());
        assert!(chain == ordered, "{} has forked", node.name);
    }
    let (leader, several) = candidates.settle(TIMERS + SLACK);
    measured(
        NAME,
        format_args!(
            "{kills} kills ({told} ): {goal} blocks, all equal to the orderer's; {leader} leads \
             alone, after {several:.1?} with several leaders"
        ),
    );
}

/// Moments and victims that can be had again by their seed.
struct Chance(u64);

impl Chance {
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
