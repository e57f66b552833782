//! The model of the study: that it is the one by which the design was chosen.

use std::time::Duration;

use tidings_sim::{
    seed::replay_command,
    seeds,
    study::{Fanout, Net, Outcome, Scenario, Way},
};

/// How far a figure may be off that of the design's own simulator.
const TOLERANCE: f64 = 0.06;

/// Both gossips in a network: times in milliseconds and bytes in blocks, of (a) and of (b).
struct Row {
    nodes: usize,
    kb: usize,
    net: Net,
    times_ms: [f64; 2],
    bytes: [f64; 2],
}

/// Table 1 of the design.
const ROWS: [Row; 5] = [
    Row {
        nodes: 100,
        kb: 16,
        net: Net::Lan,
        times_ms: [4249.0, 9.4],
        bytes: [2.92, 1.16],
    },
    Row {
        nodes: 100,
        kb: 160,
        net: Net::Lan,
        times_ms: [4310.0, 23.1],
        bytes: [2.89, 1.08],
    },
    Row {
        nodes: 100,
        kb: 1024,
        net: Net::Lan,
        times_ms: [4324.0, 116.0],
        bytes: [2.89, 1.11],
    },
    Row {
        nodes: 100,
        kb: 160,
        net: Net::Wan,
        times_ms: [4560.0, 641.0],
        bytes: [2.90, 1.04],
    },
    Row {
        nodes: 1000,
        kb: 160,
        net: Net::Lan,
        times_ms: [4983.0, 33.7],
        bytes: [2.89, 1.03],
    },
];

fn is_near(found: f64, expected: f64) -> bool {
    (found / expected - 1.0).abs() <= TOLERANCE
}

fn check(row: &Row, way: Way, outcome: &Outcome, index: usize, seed: u64) {
    let to_all_ms = outcome.to_all.as_secs_f64() * 1000.0;
    let Row { nodes, kb, net, .. } = row;
    assert!(
        is_near(to_all_ms, row.times_ms[index]) && is_near(outcome.bytes, row.bytes[index]),
        "N = {nodes}, {kb} KB, {net:?}, {way:?}: {to_all_ms} ms and {} blocks where {} and {} are \
         expected; {}",
        outcome.bytes,
        row.times_ms[index],
        row.bytes[index],
        replay_command(seed),
    );
    assert_eq!(outcome.never, 0, "{}", replay_command(seed));
}

#[test]
fn both_gossips_cost_what_the_design_says() {
    for seed in seeds(1..2) {
        for row in &ROWS {
            let scenario = Scenario::new(row.nodes, row.net);
            let scenario = scenario.size(row.kb * 1024).seed(seed);
            let ways = [Way::Fabric, Way::Enhanced(Fanout::Four)];
            for (index, way) in ways.into_iter().enumerate() {
                check(row, way, &scenario.run(way), index, seed);
            }
        }
    }
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    let run = |seed, way| {
        let scenario = Scenario {
            loss: 0.01,
            ..Scenario::new(30, Net::Wan).blocks(20).seed(seed)
        };
        let outcome = scenario.run(way);
        (outcome.to_all, outcome.to_half, outcome.bytes.to_bits())
    };
    for way in [Way::Fabric, Way::Enhanced(Fanout::Two)] {
        assert_eq!(run(1, way), run(1, way));
        assert_ne!(run(1, way), run(2, way));
    }
}

#[test]
fn nobody_is_left_out_for_good() {
    for seed in seeds(0..8) {
        let scenario = Scenario {
            loss: 0.05,
            ..Scenario::new(50, Net::Lan).blocks(40).seed(seed)
        };
        for way in [Way::Fabric, Way::Enhanced(Fanout::Two)] {
            let outcome = scenario.run(way);
            assert_eq!(outcome.never, 0, "{way:?}: {}", replay_command(seed));
            assert!(outcome.to_all < Duration::from_secs(40));
        }
    }
}
