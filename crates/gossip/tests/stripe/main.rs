//! Whole organizations of STRIPE members under one seed, with faults. A failing seed prints itself.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod world;

use tidings_gossip::dissemination::{Origin, parameters::Parameters};
use world::{Lie, World, id, ms};

const KB: usize = 1 << 10;

#[test]
fn everybody_gets_every_block_once_and_hardly_more() {
    for seed in 0..10 {
        let count = [2, 3, 5, 16, 60][seed as usize % 5];
        let mut world = World::founded(seed, count);
        world.control_bytes = 0;
        for number in 0..20 {
            world.order(0, number, 160 * KB);
            world.run(ms(100));
        }
        world.run(ms(2000));
        assert_eq!(world.lacking(0..20), []);
        assert_eq!(world.fetches(), 0);
        let floor = 20 * (count as u64 - 1) * 160 * KB as u64;
        let bytes = world.chunk_bytes + world.control_bytes;
        assert!(bytes * 100 <= floor * 102, "{bytes} bytes against {floor}");
        let worst = (0..20).map(|number| {
            let times = world.peers.iter().map(|peer| peer.has[&number]);
            times.clone().max().unwrap().since(times.min().unwrap())
        });
        let worst = worst.max().unwrap();
        assert!(worst < ms(12), "{worst:?} with {count}");
    }
}

#[test]
fn small_blocks_and_tiny_ones_arrive() {
    for (seed, len) in [
        (0, 8),
        (1, 100),
        (2, 8 * KB),
        (3, 8 * KB - 1),
        (4, 16 * KB + 3),
    ] {
        let mut world = World::founded(seed, 20);
        for number in 0..10 {
            world.order(0, number, len);
            world.run(ms(20));
        }
        world.run(ms(1000));
        assert_eq!(world.lacking(0..10), []);
        assert_eq!(world.fetches(), 0);
    }
}

#[test]
fn losses_are_repaired() {
    for seed in 0..10 {
        let mut world = World::founded(seed, 30);
        world.loss = [0.01, 0.05, 0.2][seed as usize % 3];
        for number in 0..20 {
            world.order(0, number, 160 * KB);
            world.run(ms(50));
        }
        world.run(ms(5000));
        assert_eq!(world.lacking(0..20), [], "loss {}", world.loss);
        if world.loss < 0.02 {
            let floor = 20 * 29 * 160 * KB as u64;
            let bytes = world.chunk_bytes + world.control_bytes;
            assert!(bytes * 100 <= floor * 106, "{bytes} bytes against {floor}");
        }
    }
}

#[test]
fn any_one_stripe_may_be_suppressed_everywhere() {
    for (seed, parity) in [(0, None), (1, Some(1))] {
        let parameters = Parameters {
            parity,
            ..Parameters::default()
        };
        for stripe in 0..9 {
            let mut world = World::with(seed, 12, parameters.clone());
            world.introduce();
            world.crown(0);
            world.suppressed = Some(stripe);
            for number in 0..3 {
                world.order(0, number, 160 * KB);
                world.run(ms(300));
            }
            world.run(ms(3000));
            assert_eq!(world.lacking(0..3), [], "stripe {stripe}");
            if parity.is_some() {
                assert_eq!(world.fetches(), 0, "stripe {stripe}");
            }
        }
    }
}

#[test]
fn crashes_that_nobody_has_noticed_cost_time_and_no_block() {
    for seed in 0..8 {
        let mut world = World::founded(seed, 30);
        for number in 0..30 {
            if number % 10 == 5 {
                world.crash(1 + (seed as usize * 7 + number as usize) % 29);
            }
            world.order(0, number, 160 * KB);
            world.run(ms(100));
        }
        world.run(ms(2000));
        assert_eq!(world.lacking(0..30), []);
        assert_eq!(world.fetches(), 0);
        let late = (0..30).map(|number| {
            let times = world.live().map(|at| world.peers[at].has[&number]);
            let times: Vec<_> = times.collect();
            times
                .iter()
                .max()
                .unwrap()
                .since(*times.iter().min().unwrap())
        });
        let worst = late.max().unwrap();
        assert!(worst < ms(60), "{worst:?}");
    }
}

#[test]
fn a_lost_connection_is_seen_at_once() {
    for seed in 0..5 {
        let mut world = World::founded(seed, 20);
        world.order(0, 0, 160 * KB);
        world.run(ms(100));
        world.crash(7);
        world.connection(7, false);
        world.run(ms(2000));
        let sent = world.chunk_bytes;
        for number in 1..6 {
            world.order(0, number, 160 * KB);
            world.run(ms(100));
        }
        assert_eq!(world.lacking(0..6), []);
        assert_eq!(world.fetches(), 0);
        let most = 5 * 18 * (160 * KB as u64 + 8 * 128);
        assert!(
            world.chunk_bytes - sent <= most,
            "nothing is sent to whom nobody reaches"
        );
    }
}

#[test]
fn members_with_the_view_before_get_every_block() {
    for seed in 0..5 {
        let mut world = World::founded(seed, 21);
        world.order(0, 0, 160 * KB);
        world.run(ms(100));
        // A member is gone; only half of the others hear how the trees are without it.
        world.crash(20);
        world.views_reach = |at| at % 2 == 0;
        world.introduce();
        world.run(ms(7000));
        for number in 1..11 {
            world.order(0, number, 160 * KB);
            world.run(ms(100));
        }
        world.run(ms(2000));
        assert_eq!(world.lacking(0..11), []);
        assert_eq!(world.fetches(), 0);
    }
}

#[test]
fn another_leads_in_the_middle_of_a_block() {
    for seed in 0..10 {
        let mut world = World::founded(seed, 20);
        world.order(0, 0, 160 * KB);
        world.run(ms(100));
        world.order(0, 1, 160 * KB);
        world.run(std::time::Duration::from_micros(300 * seed));
        world.crash(0);
        world.connection(0, false);
        world.introduce();
        world.crown(1);
        world.run(ms(50));
        if !world.peers[1].has.contains_key(&1) {
            world.give(1, 1, Origin::Ordered);
        }
        for number in 2..6 {
            world.order(1, number, 160 * KB);
            world.run(ms(100));
        }
        world.run(ms(2000));
        assert_eq!(world.lacking(0..6), []);
        assert_eq!(world.fetches(), 0);
    }
}

#[test]
fn two_roots_at_once_are_no_harm() {
    for seed in 0..5 {
        let mut world = World::founded(seed, 20);
        // Half of the members follow another, which believes it, too.
        for at in 0..20 {
            world.follow(at, at % 2);
        }
        world.run(ms(1500));
        for number in 0..10 {
            world.order(0, number, 160 * KB);
            world.run(ms(1));
            if !world.peers[1].has.contains_key(&number) {
                world.give(1, number, Origin::Ordered);
            }
            world.run(ms(100));
        }
        world.run(ms(2000));
        assert_eq!(world.lacking(0..10), []);
        assert_eq!(world.fetches(), 0);
    }
}

#[test]
fn who_corrupts_chunks_is_found_and_avoided() {
    for seed in 0..4 {
        let count = [12, 30][seed as usize % 2];
        let mut world = World::founded(seed, count);
        let liar = 1 + seed as usize % (count - 1);
        let lies = [Lie::Corrupts, Lie::CorruptsAndAccuses];
        world.peers[liar].lie = Some(lies[seed as usize / 2 % 2]);
        for number in 0..30 {
            world.order(0, number, 160 * KB);
            world.run(ms(1000));
        }
        world.run(ms(3000));
        assert_eq!(world.lacking(0..30), []);
        assert!(world.doubts > 0, "bad chunks were found");
        assert_eq!(
            world.suspects,
            [id(liar)].into(),
            "the liar and nobody else"
        );
        world.doubts = 0;
        let before = world.control_bytes + world.chunk_bytes;
        for number in 30..40 {
            world.order(0, number, 160 * KB);
            world.run(ms(200));
        }
        assert_eq!(world.lacking(0..40), []);
        assert_eq!(world.doubts, 0, "the liar is in no one's way any more");
        let bytes = world.control_bytes + world.chunk_bytes - before;
        let floor = 10 * (count as u64 - 1) * 160 * KB as u64;
        assert!(bytes * 100 < floor * 115, "{bytes} bytes against {floor}");
    }
}

#[test]
fn who_slanders_others_harms_itself_and_nobody_else() {
    for seed in 0..4 {
        let count = [12, 30][seed as usize % 2];
        let mut world = World::founded(seed, count);
        let liar = 1 + seed as usize % (count - 1);
        world.peers[liar].lie = Some(Lie::Slanders);
        for number in 0..20 {
            world.order(0, number, 160 * KB);
            world.run(ms(500));
        }
        world.run(ms(3000));
        assert_eq!(world.lacking(0..20), []);
        assert_eq!(world.fetches(), 0);
        assert_eq!(world.suspects, [id(liar)].into());
        assert_eq!(world.slow, [].into());
    }
}

#[test]
fn who_says_something_else_about_a_block_stops_none() {
    for seed in 0..4 {
        let mut world = World::founded(seed, 20);
        world.peers[3].lie = Some(Lie::Contradicts);
        for number in 0..10 {
            world.order(0, number, 160 * KB);
            world.run(ms(1000));
        }
        world.run(ms(3000));
        assert_eq!(world.lacking(0..10), []);
        assert_eq!(world.fetches(), 0);
        assert!(world.refusals("S-T7") > 0);
        let worst = world.latest(0..10);
        assert!(worst < ms(60), "{worst:?}");
    }
}

#[test]
fn who_acknowledges_and_passes_nothing_on_soon_has_nothing_to_pass_on() {
    for seed in 0..6 {
        let count = [12, 30, 60][seed as usize % 3];
        let mut world = World::founded(seed, count);
        let liar = 1 + seed as usize % (count - 1);
        world.peers[liar].lie = Some(Lie::Withholds);
        for number in 0..60 {
            world.order(0, number, 160 * KB);
            world.run(ms(100));
        }
        assert_eq!(world.lacking(0..60), []);
        assert_eq!(world.fetches(), 0);
        // One below it, which has nothing to pass on either, may be taken for its like.
        let is_found = world.slow.contains(&id(liar)) && world.slow.len() <= 2;
        assert!(is_found, "{count}: {:?}", world.slow);
        let (before, after) = (world.latest(0..20), world.latest(40..60));
        assert!(after < ms(12), "{before:?}, {after:?} with {count}");
    }
}

#[test]
fn losses_make_nobody_slow() {
    for seed in 0..6 {
        let mut world = World::founded(seed, [12, 30, 60][seed as usize % 3]);
        world.loss = [0.01, 0.05][seed as usize / 3];
        for number in 0..60 {
            world.order(0, number, 160 * KB);
            world.run(ms(100));
        }
        world.run(ms(3000));
        assert_eq!(world.lacking(0..60), []);
        assert_eq!(world.slow, [].into(), "loss {}", world.loss);
    }
}

#[test]
fn who_is_first_to_say_something_else_about_every_block_stops_none() {
    for seed in 0..4 {
        let mut world = World::founded(seed, 20);
        world.peers[3].lie = Some(Lie::Forestalls);
        for number in 0..10 {
            for coming in number..number + 3 {
                world.forestall(3, coming);
            }
            world.run(ms(20));
            world.order(0, number, 160 * KB);
            world.run(ms(200));
        }
        world.run(ms(3000));
        assert_eq!(world.lacking(0..10), []);
        assert!(world.refusals("S-T11") > 0);
        let worst = world.latest(0..10);
        assert!(worst < ms(60), "{worst:?}");
    }
}

#[test]
fn who_claims_to_have_everything_keeps_nobody_from_being_repaired() {
    for seed in 0..6 {
        let mut world = World::founded(seed, 20);
        world.peers[3].lie = Some(Lie::Claims);
        world.loss = 0.05;
        let len = [160 * KB, 20 * KB][seed as usize % 2];
        let mut ordered = Vec::new();
        for number in 0..40 {
            ordered.push(world.now);
            world.order(0, number, len);
            for _ in 0..5 {
                world.claim(3);
                world.run(ms(20));
            }
        }
        world.run(ms(3000));
        assert_eq!(world.lacking(0..40), []);
        let late = |at: usize, n: u64| world.peers[at].has[&n].since(ordered[n as usize]);
        let all = world.live().flat_map(|at| (0..40).map(move |n| (at, n)));
        let mut late: Vec<_> = all.map(|(at, n)| late(at, n)).collect();
        late.sort();
        let (most, worst) = (late[late.len() * 99 / 100], late[late.len() - 1]);
        assert!(most < ms(250) && worst < ms(1000), "{most:?}, {worst:?}");
    }
}

#[test]
fn members_bring_the_blocks_of_a_plain_leader() {
    for seed in 0..6 {
        let mut world = World::new(seed, 15);
        let leader = id(200);
        world.add_plain(leader);
        world.introduce();
        world.led_by_plain(leader);
        world.run(ms(1500));
        for number in 0..10 {
            // What a plain peer pushes reaches three of us.
            world.make(number, 160 * KB);
            for turn in 0..3 {
                world.give(
                    (number as usize * 5 + turn * 4) % 15,
                    number,
                    Origin::Received,
                );
            }
            world.run(ms(500));
        }
        world.run(ms(3000));
        assert_eq!(world.lacking(0..10), []);
        assert_eq!(world.fetches(), 0);
    }
}

#[test]
fn plain_peers_get_every_block_once_and_never_too_far_ahead() {
    for seed in 0..4 {
        let mut world = World::new(seed, 8);
        let plain = id(100);
        world.add_plain(plain);
        world.introduce();
        world.crown(0);
        for number in 0..40 {
            world.order(0, number, 20 * KB);
            world.run(ms(100));
            let mut given: Vec<u64> = world.given.iter().map(|given| given.number).collect();
            given.sort();
            let gap_free = (0..)
                .zip(&given)
                .take_while(|(n, given)| n == *given)
                .count();
            world.advertise(plain, gap_free as u64);
        }
        world.run(ms(1000));
        let mut numbers: Vec<u64> = world.given.iter().map(|given| given.number).collect();
        numbers.sort();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>());
        let by: std::collections::BTreeSet<_> = world.given.iter().map(|g| g.by).collect();
        assert!(by.len() > 3, "the work is shared: {by:?}");
    }
}

#[test]
fn where_all_are_appointed_who_has_a_block_brings_it_to_the_others() {
    for seed in 0..6 {
        let count = [4, 12, 30][seed as usize % 3];
        let mut world = World::new(seed, count);
        world.introduce();
        world.appoint_all();
        world.run(ms(1500));
        for number in 0..20 {
            // Each has its orderer; those of some do not answer, and then all but one.
            let having = if number < 10 { count / 2 } else { 1 };
            world.make(number, 160 * KB);
            for turn in 0..having {
                let at = (number as usize + turn) % count;
                if !world.peers[at].has.contains_key(&number) {
                    world.give(at, number, Origin::Ordered);
                }
                world.run(ms(1));
            }
            world.run(ms(200));
        }
        world.run(ms(3000));
        assert_eq!(world.lacking(0..20), []);
        assert_eq!(world.fetches(), 0);
        assert_eq!(world.refusals("S-T8") + world.refusals("S-T3"), 0);
        let worst = world.latest(10..20);
        assert!(worst < ms(12), "{worst:?} with {count}");
    }
}
