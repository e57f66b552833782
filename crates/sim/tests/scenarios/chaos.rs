//! Whatever the seed comes up with: organizations, faults, and their times. When all faults are
//! over, everybody ends with the same chain and knows whom it should.

use std::{ops::Range, time::Duration};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use tidings_sim::{World, millis, secs, seeds};

use crate::{Figures, all_reach};

/// No fault lasts beyond this.
pub(crate) const PEACE: Duration = secs(70);

/// Dead members are probed every 25 to 30 seconds, and a hello may be lost several times.
pub(crate) const PATIENCE: Duration = secs(150);

#[test]
fn when_all_faults_are_over_everybody_has_the_same_chain() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut world, peers) = network(seed, &mut rng);
        let height = rng.random_range(20..80);
        world.blocks_from(secs(5), millis(rng.random_range(50..900)), height);
        faults(&mut world, peers, &mut rng);
        all_reach(&mut world, height, PEACE + PATIENCE);
        figures.add(&world, peers);
    }
    figures.print("chaos");
}

#[test]
fn elected_leaders_bring_everybody_the_same_chain_when_all_faults_are_over() {
    for seed in seeds(0..64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (world, peers) = network(seed, &mut rng);
        let mut world = world.elect();
        let height = rng.random_range(20..80);
        world.blocks_from(secs(5), millis(rng.random_range(50..900)), height);
        faults(&mut world, peers, &mut rng);
        all_reach(&mut world, height, PEACE + PATIENCE);
        // Two leaders for long would end the run.
        world.run_for(secs(100));
    }
}

pub(crate) fn network(seed: u64, rng: &mut ChaCha8Rng) -> (World, usize) {
    let mut world = World::new(seed);
    let mut peers = 0;
    let mut hidden = Vec::new();
    for org in ["Org1MSP", "Org2MSP", "Org3MSP"]
        .iter()
        .take(rng.random_range(1..=3))
    {
        let size = rng.random_range(1..=5);
        world = world.org(org, size);
        // The first is the anchor peer; without an address for others it would be none.
        hidden.extend((peers + 1..peers + size).filter(|_| rng.random_bool(0.3)));
        peers += size;
    }
    let slowest = rng.random_range(5..800);
    let world = world
        .hidden(hidden)
        .leaders(rng.random_range(1..=2))
        .anchors(rng.random_range(1..=2))
        .bootstrap(rng.random_range(1..=2))
        .loss(rng.random_range(0.0..0.2))
        .duplication(rng.random_range(0.0..0.1))
        .latency(millis(1)..millis(slowest))
        .commit_delay(millis(1)..millis(rng.random_range(2..500)))
        .commit_failures(if rng.random_bool(0.3) { 0.05 } else { 0.0 })
        .clock_skew(secs(rng.random_range(0..3600)))
        .state_transfer(true);
    (world, peers)
}

pub(crate) fn faults(world: &mut World, peers: usize, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(0..3) {
        let cut = rng.random_range(0..=peers);
        world.partition([0..cut, cut..peers], time(rng));
    }
    if rng.random_bool(0.4) {
        world.orderer_down(time(rng));
    }
    for peer in 0..peers {
        if rng.random_bool(0.4) {
            world.crash(peer, time(rng));
        }
    }
}

/// Some time within the faults.
fn time(rng: &mut ChaCha8Rng) -> Range<Duration> {
    let start = rng.random_range(2_000..50_000);
    let length = rng.random_range(100..20_000);
    millis(start)..millis(start + length)
}
