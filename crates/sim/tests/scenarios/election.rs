//! Where nobody was appointed, exactly one peer of each organization comes to lead, and stays.
//! That two never lead for long without a fault is watched in all of these.

use std::{ops::Range, time::Duration};

use tidings_sim::{World, millis, secs, seeds};

use crate::all_reach;

/// `leaderAliveThreshold` and `leaderElectionDuration`.
const SILENCE: Duration = secs(10);
const ROUND: Duration = secs(5);

/// Peers start in the first second, wait for a steady membership for at most fifteen, and wait
/// for proposals. A peer that was beaten by another that then did not lead takes a silence more.
const FIRST: Duration = secs(1 + 15 + 5 + 10 + 5);

/// Until somebody takes over: the last word of the leader is at most two silences back when all
/// of its followers have noticed. A second is for messages on their way.
const SUCCESSION: Duration = secs(2 * SILENCE.as_secs() + ROUND.as_secs() + 1);

/// Each organization, given by its peers, has one leader.
fn one_each(world: &World, orgs: &[Range<usize>]) -> bool {
    let leaders = world.who_leads();
    orgs.iter()
        .all(|org| leaders.iter().filter(|peer| org.contains(peer)).count() == 1)
}

#[test]
fn every_organization_elects_one_leader_and_keeps_it() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 6)
            .org("Org2MSP", 3)
            .org("Org3MSP", 1)
            .elect()
            .state_transfer(true);
        let orgs = [0..6, 6..9, 9..10];
        world.blocks(40);
        world.run_until(|world| one_each(world, &orgs), FIRST);
        // Whoever began before it heard of others may still have to step down.
        world.run_for(SILENCE);
        let elected = world.who_leads();
        assert!(one_each(&world, &orgs), "{elected:?}");
        for _ in 0..60 {
            world.run_for(secs(1));
            assert_eq!(world.who_leads(), elected, "{}", world.report());
        }
        all_reach(&mut world, 40, secs(120));
    }
}

#[test]
fn an_organization_keeps_its_leader_through_loss_and_delay() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(6)
            .elect()
            .loss(0.1)
            .duplication(0.05)
            .latency(millis(5)..millis(600))
            .clock_skew(secs(3600))
            .state_transfer(true);
        world.blocks(60);
        all_reach(&mut world, 60, secs(120));
        world.run_until(|world| world.who_leads().len() == 1, secs(200));
    }
}

#[test]
fn when_the_leader_crashes_another_takes_over_and_every_block_arrives() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(6).elect().state_transfer(true);
        world.blocks_from(secs(8), secs(1), 90);
        world.run_for(secs(45));
        let [first] = world.who_leads()[..] else {
            panic!("one leader expected\n{}", world.report());
        };
        let crash = world.now() + secs(1);
        world.crash(first, crash..crash + secs(60));
        world.run_for(secs(2));
        assert_eq!(world.who_leads(), [], "it is down");
        world.run_until(|world| world.who_leads().len() == 1, crash + SUCCESSION);
        assert_ne!(world.who_leads(), [first]);
        all_reach(&mut world, 90, secs(200));
        // The old one may begin before it hears of others; then the lower one stays.
        world.run_for(secs(60));
        let left = world.who_leads();
        assert_eq!(left.len(), 1, "{}", world.report());
        world.run_for(secs(30));
        assert_eq!(world.who_leads(), left);
    }
}

#[test]
fn both_halves_of_a_partition_have_a_leader_and_one_is_left_when_it_heals() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(6)
            .elect()
            .bootstrap(2)
            .state_transfer(true);
        let halves = [0..3, 3..6];
        world.partition(halves.clone(), secs(40)..secs(100));
        world.blocks_from(secs(8), secs(1), 120);
        world.run_for(secs(99));
        assert!(one_each(&world, &halves), "{}", world.report());
        // Dead members are probed every 25 to 30 seconds; then one hears the other.
        world.run_until(|world| world.who_leads().len() == 1, secs(100 + 45));
        let left = world.who_leads();
        world.run_for(secs(60));
        assert_eq!(world.who_leads(), left);
        all_reach(&mut world, 120, secs(300));
    }
}

#[test]
fn leaders_that_cannot_reach_the_orderers_take_turns_and_every_block_arrives() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(4)
            .elect()
            .configure(|config| config.reconnect_total_time_threshold = secs(20))
            .state_transfer(true);
        world.blocks_from(secs(8), secs(1), 60);
        world.run_for(secs(45));
        let first = world.who_leads();
        assert_eq!(first.len(), 1, "{}", world.report());
        let from = world.now() + secs(1);
        world.orderer_down(from..from + secs(120));
        world.run_until(
            |world| world.who_leads().len() == 1 && world.who_leads() != first,
            from + secs(60) + SUCCESSION,
        );
        all_reach(&mut world, 60, from + secs(120) + secs(60));
    }
}
