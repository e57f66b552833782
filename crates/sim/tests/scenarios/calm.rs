//! What a network does that has nothing to do, and that it does the same every time.

use std::time::Duration;

use tidings_proto::tag::Kind;
use tidings_sim::{World, millis, secs, seeds};

/// Most that a quiet peer may send in a second, on average: alive messages, membership syncs and
/// state info pulls of eight peers. A measured value with a quarter on top.
const QUIET_BYTES_MAX: u64 = 4_000;

#[test]
fn a_quiet_network_stays_quiet() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(8).state_transfer(true);
        world.blocks(20);
        world.run_until(|world| world.all_at_height(20), secs(60));
        world.run_for(secs(30));
        let before = world.stats().clone();
        world.run_for(secs(60));
        let after = world.stats();
        for kind in [
            Kind::DataMsg,
            Kind::DataReq,
            Kind::DataUpdate,
            Kind::StateInfo,
            Kind::StateRequest,
            Kind::StateResponse,
            Kind::LeadershipMsg,
        ] {
            assert_eq!(before.sent.get(&kind), after.sent.get(&kind), "{kind}");
        }
        let rate = (after.bytes() - before.bytes()) / 8 / 60;
        assert!(rate <= QUIET_BYTES_MAX, "{rate} bytes a second and peer");
    }
}

#[test]
fn a_peer_alone_says_nothing() {
    for seed in seeds(0..64) {
        let mut world = World::new(seed).peers(1);
        world.blocks(20);
        world.run_for(secs(60));
        assert!(world.all_at_height(20));
        assert_eq!(world.stats().messages(), 0);
    }
}

#[test]
fn equal_seeds_give_equal_runs() {
    let trace = |seed| {
        let mut world = World::new(seed)
            .org("Org1MSP", 4)
            .org("Org2MSP", 3)
            .hidden([2])
            .loss(0.05)
            .duplication(0.02)
            .clock_skew(secs(10))
            .state_transfer(true);
        world.partition([0..3, 3..7], secs(12)..secs(20));
        world.crash(1, secs(15)..secs(25));
        world.blocks(40);
        world.run_for(secs(60));
        world.trace_digest()
    };
    for seed in seeds(0..16) {
        let first = trace(seed);
        assert_eq!(first, trace(seed), "seed {seed}");
        assert_ne!(first, trace(seed + 1), "seed {seed}");
    }
}

/// A network is started one node after another, as a script does it. Who is passed over when the
/// last one is made known hears of it soon all the same, and not with the next pull.
#[test]
fn nodes_that_start_one_after_another_meet_at_once() {
    const PEERS: usize = 64;
    const BETWEEN: Duration = millis(40);
    let last = BETWEEN * PEERS as u32;
    for seed in seeds(0..24) {
        let world = World::new(seed).peers(PEERS).state_transfer(true);
        let mut world = world.one_after_another(BETWEEN);
        world.run_for(last);
        world.run_until(|world| all_see_all(world, PEERS), last + secs(2));
    }
}

fn all_see_all(world: &World, peers: usize) -> bool {
    let mut all = (0..peers).filter_map(|peer| world.node(peer));
    all.all(|node| node.members().count() == peers - 1)
}

/// Everybody but the one sees all others, and nobody else is thought to be dead.
fn all_see_all_but(world: &World, peers: usize, gone: usize) -> bool {
    (0..peers).filter(|peer| *peer != gone).all(|peer| {
        let node = world.node(peer).expect("it is up");
        let dead: Vec<_> = node.dead_members().map(|member| member.peer).collect();
        node.members().count() == peers - 2
            && Some(&dead[..]) == world.pki_id(gone).as_ref().map(std::slice::from_ref)
    })
}

#[test]
fn many_peers_say_little_and_see_at_once_who_is_gone() {
    const PEERS: usize = 48;
    const GONE: usize = 7;
    for seed in seeds(0..4) {
        let mut world = World::new(seed).peers(PEERS).state_transfer(true);
        world.crash(GONE, secs(400)..secs(4000));
        world.run_until(|world| all_see_all(world, PEERS), secs(10));
        world.run_for(secs(200) - world.now());
        let before = world.stats().bytes();
        world.run_for(secs(199));
        assert!(
            all_see_all(&world, PEERS),
            "nobody is lost in a good network"
        );
        let rate = (world.stats().bytes() - before) / PEERS as u64 / 199;
        assert!(rate <= QUIET_BYTES_MAX, "{rate} bytes a second and peer");
        world.run_until(
            |world| world.now() > secs(401) && all_see_all_but(world, PEERS, GONE),
            secs(450),
        );
        world.run_for(secs(100));
        assert!(all_see_all_but(&world, PEERS, GONE), "seed {seed}");
    }
}
