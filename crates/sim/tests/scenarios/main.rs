//! Scenarios: each is one claim about a network, tried under many seeds.
//!
//! A failing run prints its seed and the command that runs it again. What must never happen on
//! any envelope, commit or in any memory is watched in all of them.

mod blocks;
mod calm;
mod chaos;
mod election;
mod late;
mod orderers;
mod orgs;
mod private;
mod stripes;

use std::time::Duration;

use tidings_sim::{World, stats::quantile};

/// Runs until all peers hold the same chain of this height.
fn all_reach(world: &mut World, height: u64, limit: Duration) {
    world.run_until(|world| world.all_at_height(height), limit);
    assert!(world.all_hold_the_same_chain(), "{}", world.report());
}

/// Figures over the seeds of one scenario, for those who run it with `--nocapture`.
#[derive(Default)]
struct Figures {
    times: Vec<Duration>,
    ends: Vec<Duration>,
    bytes: u64,
    messages: u64,
    arrivals: u64,
    duplicates: u64,
}

impl Figures {
    fn add(&mut self, world: &World, peers: usize) {
        let stats = world.stats();
        self.times.extend(stats.times_to_all(peers));
        self.ends.push(world.now());
        self.bytes += stats.bytes();
        self.messages += stats.messages();
        self.arrivals += stats.block_arrivals;
        self.duplicates += stats.block_duplicates;
    }

    fn print(mut self, scenario: &str) {
        self.times.sort_unstable();
        self.ends.sort_unstable();
        let runs = self.ends.len().max(1) as u64;
        eprintln!(
            "{scenario}: {runs} runs, end {:.1?} at the median and {:.1?} at worst; block to all \
             p50 {:.0?} p99 {:.1?} max {:.1?}; per run {} kB in {} messages, {} copies of blocks, \
             {} of them late",
            quantile(&self.ends, 0.5),
            quantile(&self.ends, 1.0),
            quantile(&self.times, 0.5),
            quantile(&self.times, 0.99),
            quantile(&self.times, 1.0),
            self.bytes / runs / 1000,
            self.messages / runs,
            self.arrivals / runs,
            self.duplicates / runs,
        );
    }
}
