//! A peer that comes late gets everything from whoever has it.

use std::{collections::BTreeMap, time::Duration};

use tidings_gossip::{Source, Verdict, transfer::Stage};
use tidings_sim::{World, millis, secs, seeds, stats::quantile};

use crate::all_reach;

/// How long catch-ups took, and how many blocks came from whom.
#[derive(Default)]
struct CatchUps {
    times: Vec<Duration>,
    shares: BTreeMap<usize, u64>,
}

impl CatchUps {
    /// Adds those of one peer. It must have said that it began, and that it was done.
    fn add(&mut self, world: &World, late: usize) {
        let own = world.stats().catch_ups.iter();
        let own: Vec<_> = own.filter(|(peer, ..)| *peer == late).collect();
        let stages: Vec<Stage> = own.iter().map(|(_, stage, _)| *stage).collect();
        assert_eq!(stages.first(), Some(&Stage::Began), "{}", world.report());
        assert!(stages.contains(&Stage::CaughtUp), "{}", world.report());
        for (_, stage, progress) in own {
            if !matches!(stage, Stage::CaughtUp | Stage::Stopped) {
                continue;
            }
            self.times.push(progress.elapsed);
            for share in &progress.sources {
                let mut peers = (0..).filter(|peer| world.pki_id(*peer) == Some(share.peer));
                let peer = peers.next().expect("the world knows everybody");
                *self.shares.entry(peer).or_default() += share.blocks;
            }
        }
    }

    fn print(&mut self, scenario: &str) {
        self.times.sort_unstable();
        eprintln!(
            "{scenario}: {} catch-ups, {:.1?} at the median and {:.1?} at worst; blocks from {:?}",
            self.times.len(),
            quantile(&self.times, 0.5),
            quantile(&self.times, 1.0),
            self.shares,
        );
    }
}

/// Everybody but this one holds a chain of this height.
fn all_but(world: &World, one: usize, peers: usize, height: u64) -> bool {
    (0..peers)
        .filter(|peer| *peer != one)
        .all(|peer| world.node(peer).is_some() && world.height(peer) == height)
}

/// This peer has said that it has caught up.
fn is_done(world: &World, late: usize) -> bool {
    let mut reports = world.stats().catch_ups.iter();
    reports.any(|(peer, stage, _)| *peer == late && *stage == Stage::CaughtUp)
}

/// This peer has blocks both from an orderer and from peers that it asked.
fn commits_from_both(world: &World, late: usize) {
    for source in [Source::Deliver, Source::Transfer] {
        let blocks = world.stats().committed(late, source);
        assert!(blocks > 0, "none by {source:?}\n{}", world.report());
    }
}

#[test]
fn a_late_peer_catches_up_though_a_source_is_slow_one_lies_and_one_crashes() {
    let mut catch_ups = CatchUps::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(6)
            .loss(0.02)
            .bootstrap(3)
            .latency(millis(80)..millis(400))
            .slow(2, secs(1)..secs(4))
            .state_transfer(true);
        world.crash(5, secs(3)..secs(35));
        world.blocks_from(secs(4), millis(50), 300);
        world.lie(3, secs(34));
        world.crash(4, millis(36_000 + seed * 40)..secs(50));
        world.run_until(
            |world| all_but(world, 3, 6, 300) && is_done(world, 5),
            secs(120),
        );
        assert!(world.all_hold_the_same_chain(), "{}", world.report());
        catch_ups.add(&world, 5);
    }
    catch_ups.print("slow, liar, crash");
    let share = |peer| catch_ups.shares.get(&peer).copied().unwrap_or_default();
    let quick = share(0) + share(1);
    assert!(share(2) * 10 < quick, "the slow one lost its share");
    assert!(share(3) * 10 < quick, "the liar lost its share");
}

#[test]
fn a_late_peer_catches_up_through_loss_delay_and_duplication() {
    let mut catch_ups = CatchUps::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .peers(5)
            .loss(0.1)
            .duplication(0.05)
            .latency(millis(5)..millis(600))
            .state_transfer(true);
        world.crash(4, secs(3)..secs(30));
        world.blocks_from(secs(4), millis(50), 300);
        all_reach(&mut world, 300, secs(150));
        catch_ups.add(&world, 4);
    }
    catch_ups.print("loss, delay, duplication");
}

#[test]
fn a_late_peer_catches_up_from_the_only_other_while_blocks_go_on() {
    let mut catch_ups = CatchUps::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(2).state_transfer(true);
        world.crash(1, secs(3)..secs(20));
        world.blocks_from(secs(4), millis(50), 600);
        all_reach(&mut world, 600, secs(60));
        catch_ups.add(&world, 1);
    }
    catch_ups.print("one source");
}

#[test]
fn a_late_leader_catches_up_from_orderer_and_peers_together() {
    let mut catch_ups = CatchUps::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 3)
            .org("Org2MSP", 2)
            // Often enough that some come before peers have given all.
            .delivery_interval(millis(20))
            .state_transfer(true);
        world.crash(3, secs(3)..secs(25));
        world.blocks_from(secs(4), millis(50), 400);
        all_reach(&mut world, 400, secs(60));
        commits_from_both(&world, 3);
        catch_ups.add(&world, 3);
    }
    catch_ups.print("orderer and peers");
}

/// With one orderer among several that may be dishonest, blocks that come from peers prove headers
/// far beyond what the orderer has brought. That is not its fault.
#[test]
fn a_late_leader_accuses_no_slow_orderer_though_a_peer_lies() {
    let mut catch_ups = CatchUps::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 3)
            .org("Org2MSP", 2)
            .byzantine_orderers(4)
            .configure(|config| config.cluster.block_censorship_timeout = secs(5))
            .delivery_interval(millis(50))
            .state_transfer(true);
        world.crash(3, secs(3)..secs(25));
        world.lie(1, secs(24));
        world.blocks_from(secs(4), millis(50), 400);
        world.run_until(
            |world| all_but(world, 1, 5, 400) && is_done(world, 3),
            secs(120),
        );
        // What the orderer still has to bring takes it longer than it has for a single block.
        world.run_for(secs(30));
        assert!(world.all_hold_the_same_chain(), "{}", world.report());
        let verdicts = &world.stats().verdicts;
        assert!(!verdicts.contains_key(&Verdict::Withheld), "{verdicts:?}");
        commits_from_both(&world, 3);
        catch_ups.add(&world, 3);
    }
    catch_ups.print("orderer and peers of which one lies");
    let share = |peer| catch_ups.shares.get(&peer).copied().unwrap_or_default();
    let honest = share(0) + share(2) + share(4);
    assert!(share(1) * 10 < honest, "the liar lost its share");
}

#[test]
fn a_late_peer_catches_up_across_organizations_when_nothing_is_pushed() {
    let mut catch_ups = CatchUps::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 3)
            .org("Org2MSP", 2)
            .anchors(2)
            .loss(0.05)
            .state_transfer(true)
            .configure(|config| config.block_gossip_enabled = false);
        world.crash(4, secs(3)..secs(30));
        world.crash(3, secs(28)..secs(100));
        world.blocks_from(secs(4), millis(50), 300);
        world.run_until(|world| world.height(4) == 300, secs(90));
        assert!(world.all_hold_the_same_chain(), "{}", world.report());
        catch_ups.add(&world, 4);
    }
    catch_ups.print("across organizations, no push");
}
