//! Blocks by stripes, among whole nodes and beside plain ones: nobody is worse off for it.

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use tidings_gossip::Source;
use tidings_sim::{World, millis, secs, seeds};

use crate::{
    Figures, all_reach,
    chaos::{PATIENCE, PEACE, faults, network},
};

/// How many blocks were committed that came so.
fn came(world: &World, source: Source) -> u64 {
    let commits = world.stats().commits.values();
    commits.filter_map(|sources| sources.get(&source)).sum()
}

#[test]
fn nearly_all_blocks_come_by_stripes_in_a_good_network() {
    let mut figures = Figures::default();
    for seed in seeds(0..32) {
        let mut world = World::new(seed)
            .peers(12)
            .block_len(20_000)
            .stripes_without([])
            .state_transfer(true);
        world.blocks_from(secs(20), millis(200), 60);
        all_reach(&mut world, 60, secs(90));
        let (stripe, push) = (came(&world, Source::Stripe), came(&world, Source::Push));
        let all = 11 * 59;
        assert!(stripe * 100 >= all * 95, "{stripe} of {all}, {push} pushed");
        figures.add(&world, 12);
    }
    figures.print("stripes");
}

#[test]
fn plain_peers_get_every_block_beside_stripes() {
    let mut figures = Figures::default();
    for seed in seeds(0..32) {
        let mut world = World::new(seed)
            .peers(10)
            .block_len(20_000)
            .stripes_without([2, 5, 8])
            .state_transfer(true);
        world.blocks_from(secs(20), millis(500), 60);
        all_reach(&mut world, 60, secs(120));
        figures.add(&world, 10);
    }
    figures.print("stripes beside plain peers");
}

#[test]
fn a_plain_leader_and_members_with_stripes_reach_everybody() {
    for seed in seeds(0..32) {
        let mut world = World::new(seed)
            .peers(9)
            .block_len(20_000)
            .stripes_without([0, 4])
            .elect()
            .state_transfer(true);
        world.blocks_from(secs(40), millis(300), 60);
        all_reach(&mut world, 60, secs(180));
    }
}

#[test]
fn when_all_faults_are_over_stripes_or_not_everybody_has_the_same_chain() {
    for seed in seeds(0..32) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (world, peers) = network(seed, &mut rng);
        let plain: Vec<usize> = (0..peers).filter(|_| rng.random_bool(0.3)).collect();
        let mut world = world
            .stripes_without(plain)
            .block_len(rng.random_range(100..40_000));
        if rng.random_bool(0.5) {
            world = world.elect();
        }
        let height = rng.random_range(20..80);
        world.blocks_from(secs(5), millis(rng.random_range(50..900)), height);
        faults(&mut world, peers, &mut rng);
        all_reach(&mut world, height, PEACE + PATIENCE);
    }
}
