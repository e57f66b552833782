//! The order in which members that have agreed on it pass on a block that is pushed.
//!
//! Promises: if they agree on who is there, each gets the block within log2 of their number of steps,
//! whoever has it first, and twice at the most. Nobody says a word for that: each member works out
//! from the block's number to whom it passes it on. Knows nothing of peers.
//!
//! Rules: docs/protocol/dissemination.md.

use crate::config::Config;

/// To so many each passes a block on. With one, a lost push would cut off everybody behind.
pub(crate) const DEGREE: usize = 2;

/// Whether a node with these settings keeps to the order. Who is to send less, or everything again
/// and to others, does as Fabric does.
pub(crate) fn relays(config: &Config) -> bool {
    config.propagate_peer_num >= DEGREE && config.propagate_iterations == 1
}

/// To whom of so many the one in this place passes on the block with this number. The places are a
/// generalized de Bruijn graph: after m steps 2^m neighbouring places have been reached. The number
/// turns it, so that it is not always the same members that depend on another.
pub(super) fn next(place: usize, len: usize, number: u64) -> impl Iterator<Item = usize> {
    let len_max = u64::try_from(len).unwrap_or(u64::MAX).max(1);
    let turn = usize::try_from(number % len_max).unwrap_or_default();
    let steps = (0..DEGREE.min(len)).map(move |step| (DEGREE * place + turn + step) % len);
    steps.filter(move |next| *next != place)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everybody_is_reached_soon_whoever_begins() {
        for len in 1..=70_usize {
            let steps_max = len.next_power_of_two().ilog2();
            for number in [0, 1, 6, 41, u64::MAX] {
                for first in 0..len {
                    let mut reached = BTreeSet::from([first]);
                    for _ in 0..steps_max {
                        let next = reached.iter().flat_map(|place| next(*place, len, number));
                        let next: Vec<usize> = next.collect();
                        reached.extend(next);
                    }
                    assert_eq!(reached.len(), len, "{len} {number} {first}");
                }
            }
        }
    }

    #[test]
    fn nobody_is_sent_a_block_more_than_twice() {
        for len in 1..=70_usize {
            for number in 0..len as u64 {
                let mut copies = vec![0; len];
                for place in 0..len {
                    next(place, len, number).for_each(|next| copies[next] += 1);
                }
                assert!(copies.iter().all(|n| *n <= DEGREE), "{len} {number}");
                let sum: usize = copies.iter().sum();
                assert!(sum <= DEGREE * len.saturating_sub(1), "{len} {number}");
            }
        }
    }

    #[test]
    fn another_block_goes_another_way() {
        let way = |number| next(0, 8, number).collect::<Vec<usize>>();
        assert_eq!((way(2), way(3), way(0)), (vec![2, 3], vec![3, 4], vec![1]));
        assert_eq!(next(0, 0, 5).count(), 0);
    }

    #[test]
    fn who_is_to_send_less_or_again_does_not_take_part() {
        let of = |peers, iterations| {
            relays(&Config {
                propagate_peer_num: peers,
                propagate_iterations: iterations,
                ..Config::default()
            })
        };
        assert!(of(3, 1) && of(2, 1) && !of(1, 1) && !of(0, 1));
        assert!(!of(3, 0) && !of(3, 2));
    }
}
