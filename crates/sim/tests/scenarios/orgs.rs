//! Several organizations: who learns of whom, and what crosses the borders.

use tidings_sim::{World, secs, seeds};

use crate::{Figures, all_reach};

#[test]
fn two_organizations_meet_through_their_anchor_peers() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 4)
            .org("Org2MSP", 4)
            .loss(0.02)
            .state_transfer(true);
        world.blocks(60);
        all_reach(&mut world, 60, secs(90));
        world.run_until(
            |world| (0..8).all(|peer| knows(world, peer, 0..8)),
            secs(90),
        );
        figures.add(&world, 8);
    }
    figures.print("two organizations");
}

#[test]
fn hidden_peers_are_known_at_home_and_nowhere_else() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 4)
            .org("Org2MSP", 4)
            .org("Org3MSP", 3)
            .hidden([1, 3, 5, 6, 10])
            .state_transfer(true);
        world.crash(1, secs(15)..secs(20));
        world.crash(4, secs(18)..secs(22));
        world.blocks(40);
        all_reach(&mut world, 40, secs(120));
        world.run_for(secs(30));
        for (home, hidden) in [(0..4, vec![1, 3]), (4..8, vec![5, 6]), (8..11, vec![10])] {
            for peer in 0..11 {
                for other in &hidden {
                    let knows = knows(&world, peer, *other..*other + 1);
                    assert_eq!(knows, home.contains(&peer), "{}", world.report());
                }
            }
        }
    }
}

#[test]
fn an_organization_without_its_leader_gets_blocks_from_the_other() {
    let mut figures = Figures::default();
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 4)
            .org("Org2MSP", 4)
            .anchors(2)
            .state_transfer(true);
        world.crash(4, secs(14)..secs(100));
        world.blocks(50);
        world.run_until(
            |world| (5..8).all(|peer| world.height(peer) == 50),
            secs(99),
        );
        all_reach(&mut world, 50, secs(150));
        figures.add(&world, 7);
    }
    figures.print("leader of one organization down");
}

#[test]
fn organizations_that_were_apart_meet_again() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 4)
            .org("Org2MSP", 4)
            .loss(0.05)
            .state_transfer(true);
        world.partition([0..4, 4..8], secs(12)..secs(60));
        world.blocks(60);
        all_reach(&mut world, 60, secs(120));
        world.run_until(
            |world| (0..8).all(|peer| knows(world, peer, 0..8)),
            secs(150),
        );
    }
}

#[test]
fn a_peer_whose_certificate_ends_is_forgotten_by_all() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(6).expires(3, secs(20));
        world.run_until(
            |world| (0..6).all(|peer| knows(world, peer, 0..6)),
            secs(19),
        );
        world.run_for(secs(40));
        for peer in [0, 1, 2, 4, 5] {
            assert!(!knows(&world, peer, 3..4), "{}", world.report());
            let expired = world.pki_id(3).unwrap();
            assert!(world.node(peer).unwrap().identity(&expired).is_none());
        }
    }
}

#[test]
fn a_peer_that_is_revoked_is_forgotten_by_all() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 4)
            .org("Org2MSP", 3)
            .loss(0.05)
            .state_transfer(true);
        world.revoke(2, secs(20));
        world.blocks(60);
        world.run_until(
            |world| {
                [0, 1, 3, 4, 5, 6]
                    .iter()
                    .all(|peer| world.height(*peer) == 60)
            },
            secs(120),
        );
        world.run_for(secs(30));
        let revoked = world.pki_id(2).unwrap();
        for peer in [0, 1, 3, 4, 5, 6] {
            assert!(!knows(&world, peer, 2..3), "{}", world.report());
            assert!(world.node(peer).unwrap().identity(&revoked).is_none());
        }
    }
}

/// Whether a peer holds all of these, itself left out, to be alive.
fn knows(world: &World, peer: usize, others: std::ops::Range<usize>) -> bool {
    let Some(node) = world.node(peer) else {
        return false;
    };
    let alive: Vec<_> = node.members().map(|member| member.peer).collect();
    others
        .filter(|other| *other != peer)
        .filter_map(|other| world.pki_id(other))
        .all(|other| alive.contains(&other))
}
