//! What no way of spreading gets below: the physical floor of a scenario.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{
    Net, Scenario, network,
    scenario::{CHECKING, HEADER, processing},
};

/// Most parts that a block is cut into in thought; powers of two up to it.
const PARTS_MAX: usize = 64;

/// The larger of two bounds: the best schedule for the best number of parts if all were as near
/// as the nearest, and one copy of the whole block to the farthest.
pub fn floor(scenario: &Scenario) -> Duration {
    scheduled(scenario).max(farthest(scenario))
}

fn scheduled(scenario: &Scenario) -> Duration {
    let nearest = match scenario.net {
        Net::Lan => network::LAN_LATENCY,
        Net::Wan => network::WAN_LATENCY_MIN,
    };
    let sizes = std::iter::successors(Some(1), |parts| Some(parts * 2));
    let times = sizes
        .take_while(|parts| *parts <= PARTS_MAX)
        .map(|parts: usize| {
            let part = scenario.size.div_ceil(parts) + HEADER;
            let sending = scenario.send_time(part);
            let before = sending * u32::try_from(parts - 1).unwrap_or(u32::MAX);
            before + last_arrival(scenario.nodes, sending, nearest + processing(part))
        });
    times.min().unwrap_or_default() + CHECKING
}

/// When the last of so many nodes has a message that every node that has it sends on without a
/// pause, one after the other.
fn last_arrival(nodes: usize, sending: Duration, arriving: Duration) -> Duration {
    let mut next = BinaryHeap::from([Reverse(sending + arriving)]);
    let mut last = Duration::ZERO;
    for _ in 1..nodes {
        let Some(Reverse(arrival)) = next.pop() else {
            break;
        };
        last = arrival;
        next.push(Reverse(arrival + sending));
        next.push(Reverse(arrival + sending + arriving));
    }
    last
}

fn farthest(scenario: &Scenario) -> Duration {
    let farthest = network::latencies_of_root(scenario).pop();
    let hop = Duration::from_micros(100);
    scenario.send_time(scenario.size + HEADER) + farthest.unwrap_or_default() + hop + CHECKING + hop
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::millis;

    #[test]
    fn whoever_has_it_sends_it_on_without_a_pause() {
        // Sending 1, arriving 1 later: at 2 one has it, at 3 two, at 4 three, at 5 five.
        let last = |nodes| last_arrival(nodes, millis(1), millis(1));
        assert_eq!(last(1), millis(0));
        assert_eq!(last(2), millis(2));
        assert_eq!(last(3), millis(3));
        assert_eq!(last(5), millis(4));
        assert_eq!(last(6), millis(5));
        assert_eq!(last(8), millis(5));
    }
}
