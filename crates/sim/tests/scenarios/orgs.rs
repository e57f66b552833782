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
        for moment in [secs(22), secs(60)] {
            world.run_for(moment.saturating_sub(world.now()));
            assert_forgotten(&world, 3, [0, 1, 2, 4, 5]);
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
        let others = [0, 1, 3, 4, 5, 6];
        world.revoke(2, secs(20));
        world.blocks(60);
        world.run_for(secs(22));
        assert_forgotten(&world, 2, others);
        world.run_until(
            |world| others.iter().all(|peer| world.height(*peer) == 60),
            secs(120),
        );
        assert_forgotten(&world, 2, others);
    }
}

#[test]
fn a_peer_that_comes_back_under_a_new_certificate_takes_the_place_of_the_old() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed)
            .org("Org1MSP", 4)
            .org("Org2MSP", 3)
            .state_transfer(true);
        world.renew(2, secs(15)..secs(18));
        world.blocks(40);
        world.run_for(secs(14));
        let old = world.pki_id(2).unwrap();
        all_reach(&mut world, 40, secs(120));
        world.run_for(secs(90).saturating_sub(world.now()));
        assert_ne!(world.pki_id(2), Some(old));
        for peer in 0..7 {
            assert!(knows(&world, peer, 0..7), "{}", world.report());
            let node = world.node(peer).unwrap();
            let mut members = node.members().chain(node.dead_members());
            assert!(
                members.all(|member| member.peer != old),
                "{}",
                world.report()
            );
        }
    }
}

/// None of these knows anything of that peer.
fn assert_forgotten<const N: usize>(world: &World, gone: usize, others: [usize; N]) {
    let gone = world.pki_id(gone).expect("it is one of the world");
    for node in others.map(|peer| world.node(peer).expect("nobody crashes here")) {
        let mut members = node.members().chain(node.dead_members());
        assert!(
            members.all(|member| member.peer != gone),
            "{}",
            world.report()
        );
        assert!(node.identity(&gone).is_none(), "{}", world.report());
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
