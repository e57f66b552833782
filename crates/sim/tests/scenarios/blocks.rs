//! Every peer gets every block, whatever the network does.

use tidings_sim::{World, millis, secs, seeds};

use crate::{Figures, all_reach};

#[test]
fn every_peer_gets_every_block_in_a_good_network() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(8).state_transfer(true);
        world.blocks(60);
        all_reach(&mut world, 60, secs(60));
        figures.add(&world, 8);
    }
    figures.print("good network");
}

#[test]
fn every_peer_gets_every_block_through_loss_delay_and_duplication() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(8)
            .loss(0.1)
            .duplication(0.05)
            .latency(millis(5)..millis(600))
            .state_transfer(true);
        world.blocks(60);
        all_reach(&mut world, 60, secs(120));
        figures.add(&world, 8);
    }
    figures.print("loss, delay, duplication");
}

#[test]
fn push_and_pull_alone_bring_every_block_through_loss() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(8).loss(0.05);
        // A block goes round for ten others: slowly enough for several rounds of pull. What they
        // all miss is lost to this network for good, as in Fabric without state transfer.
        world.blocks_from(secs(30), secs(3), 30);
        all_reach(&mut world, 30, secs(180));
        figures.add(&world, 8);
    }
    figures.print("push and pull alone");
}

#[test]
fn every_peer_gets_every_block_through_a_partition() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(8).loss(0.05).state_transfer(true);
        world.partition([0..4, 4..8], secs(10)..secs(40));
        world.blocks(60);
        all_reach(&mut world, 60, secs(120));
        figures.add(&world, 8);
    }
    figures.print("partition");
}

#[test]
fn every_peer_gets_every_block_through_partitions_that_overlap() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(9).loss(0.02).state_transfer(true);
        world.partition([0..3, 3..6, 6..9], secs(9)..secs(25));
        world.partition([0..1, 1..9], secs(20)..secs(30));
        world.partition([0..1, 1..8], secs(28)..secs(50));
        world.blocks(60);
        all_reach(&mut world, 60, secs(150));
    }
}

#[test]
fn every_peer_gets_every_block_through_crashes_and_restarts() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(8).loss(0.05).state_transfer(true);
        world.crash(1, secs(12)..secs(25));
        world.crash(3, secs(15)..secs(45));
        world.crash(5, secs(20)..millis(20_200));
        world.crash(5, secs(30)..secs(31));
        world.crash(7, secs(2)..secs(36));
        world.blocks(60);
        all_reach(&mut world, 60, secs(120));
        figures.add(&world, 8);
    }
    figures.print("crashes");
}

#[test]
fn every_peer_gets_every_block_through_a_crash_of_everybody() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(6).state_transfer(true);
        for peer in 0..6 {
            world.crash(peer, secs(15)..secs(20 + peer as u64));
        }
        world.blocks(40);
        all_reach(&mut world, 40, secs(120));
    }
}

#[test]
fn every_peer_gets_every_block_with_clocks_that_disagree() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(8)
            .loss(0.05)
            .clock_skew(secs(86_400))
            .state_transfer(true);
        world.crash(2, secs(15)..secs(20));
        world.crash(6, secs(18)..secs(40));
        world.blocks(60);
        all_reach(&mut world, 60, secs(120));
    }
}

#[test]
fn every_peer_gets_every_block_when_the_leader_crashes() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(8).loss(0.05).state_transfer(true);
        world.crash(0, secs(15)..secs(35));
        world.crash(0, secs(40)..millis(40_500));
        world.blocks(80);
        all_reach(&mut world, 80, secs(120));
        figures.add(&world, 8);
    }
    figures.print("leader crashes");
}

#[test]
fn one_of_two_leaders_is_enough() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(8).leaders(2).state_transfer(true);
        world.crash(0, secs(10)..secs(100));
        world.crash(1, secs(2)..secs(9));
        world.blocks(40);
        world.run_until(
            |world| (1..8).all(|peer| world.height(peer) == 40),
            secs(60),
        );
        assert!(world.all_hold_the_same_chain());
    }
}

#[test]
fn every_peer_gets_every_block_though_the_orderer_goes_away() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(6).loss(0.02).state_transfer(true);
        world.orderer_down(secs(12)..secs(30));
        world.orderer_down(secs(31)..secs(32));
        world.blocks(60);
        all_reach(&mut world, 60, secs(120));
    }
}

#[test]
fn blocks_that_a_committer_refuses_come_again() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(6)
            .commit_failures(0.1)
            .state_transfer(true);
        world.blocks(40);
        all_reach(&mut world, 40, secs(180));
    }
}

#[test]
fn slow_committers_get_every_block() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(6)
            .commit_delay(millis(100)..secs(3))
            .state_transfer(true);
        world.blocks_from(secs(8), millis(50), 120);
        all_reach(&mut world, 120, secs(300));
    }
}
