//! Orderers of which one is dishonest.

use tidings_gossip::Verdict;
use tidings_sim::{World, millis, secs, seeds};

use crate::{Figures, all_reach};

fn verdicts(world: &World, verdict: Verdict) -> u64 {
    let verdicts = &world.stats().verdicts;
    verdicts.get(&verdict).copied().unwrap_or_default()
}

#[test]
fn every_peer_gets_every_block_though_an_orderer_withholds_them() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(6)
            .leaders(2)
            .loss(0.02)
            .byzantine_orderers(4)
            .state_transfer(true);
        world.withhold_from(0, secs(12)..secs(3600));
        world.blocks(60);
        all_reach(&mut world, 60, secs(150));
        // Where the other leader had an honest one, all blocks may be there before that.
        world.run_until(|world| verdicts(world, Verdict::Withheld) > 0, secs(150));
        assert!(verdicts(&world, Verdict::Opened) >= verdicts(&world, Verdict::Withheld));
        figures.add(&world, 6);
    }
    figures.print("an orderer withholds");
}

#[test]
fn withholding_is_found_out_through_crashes_and_an_outage() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(5)
            .loss(0.02)
            .byzantine_orderers(4)
            .configure(|config| config.cluster.block_censorship_timeout = secs(5))
            .state_transfer(true);
        world.withhold_from(0, secs(10)..secs(60));
        world.orderer_down(secs(20)..secs(22));
        world.crash(0, secs(25)..secs(27));
        world.crash(3, secs(11)..secs(40));
        world.blocks(80);
        all_reach(&mut world, 80, secs(150));
        assert!(verdicts(&world, Verdict::Withheld) > 0);
    }
}

#[test]
fn no_honest_orderer_is_accused() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(5)
            .leaders(3)
            .loss(0.05)
            .latency(millis(5)..millis(600))
            .commit_delay(millis(10)..millis(300))
            .byzantine_orderers(7)
            .configure(|config| config.cluster.block_censorship_timeout = secs(5))
            .state_transfer(true);
        world.orderer_down(secs(15)..secs(30));
        world.crash(1, secs(20)..secs(35));
        world.blocks(60);
        // The world itself objects to an accusation.
        all_reach(&mut world, 60, secs(150));
        assert_eq!(verdicts(&world, Verdict::Withheld), 0);
    }
}
