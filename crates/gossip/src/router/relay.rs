//! The order in which members that have agreed on it pass on a block that is pushed.
//!
//! Promises: if they agree on who is there, each gets the block within log2 of their number of steps,
//! whoever has it first, and twice at the most. Nobody says a word for that: each member works out
//! from the block's number to whom it passes it on. Knows nothing of peers.
//!
//! Rules: docs/protocol/dissemination.md.

/// To whom of so many the one in this place passes on the block with this number: two, or there are
/// no two others. The number turns the places, so that it is not always the same members that depend
/// on another.
pub(super) fn next(place: usize, len: usize, number: u64) -> impl Iterator<Item = usize> {
    let len_max = u64::try_from(len).unwrap_or(u64::MAX).max(1);
    let turn = usize::try_from(number % len_max).unwrap_or_default();
    let places = len.max(1);
    let next = steps((place + turn) % places, places);
    let next = next.map(move |next| (next + places - turn) % places);
    let is_twice = next[0] == next[1];
    let next = next.into_iter().take(if is_twice { 1 } else { 2 });
    next.filter(move |next| *next != place)
}

/// The places are a generalized de Bruijn graph: from i to 2i and 2i + 1, so after m steps 2^m
/// neighbouring places have been reached. The first and the last place would step to themselves.
/// They swap these steps for others, such that no single silent place cuts anybody off.
fn steps(place: usize, len: usize) -> [usize; 2] {
    let last = len - 1;
    let usual = [2 * place % len, (2 * place + 1) % len];
    match place {
        _ if len < 4 => [(place + 1) % len, (place + 2) % len],
        0 if len.is_multiple_of(2) => [last, 1],
        0 => [1, 2],
        1 if len % 2 == 1 => [0, 3],
        _ if place == last && len.is_multiple_of(2) => [last - 1, 0],
        _ if place == last => [last - 1, last - 2],
        _ if place == last - 1 && len % 2 == 1 => [usual[0], last],
        _ => usual,
    }
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
    fn one_that_is_silent_cuts_nobody_off() {
        for len in 3..=70_usize {
            for (first, silent) in (0..len).flat_map(|a| (0..len).map(move |b| (a, b))) {
                let mut reached = BTreeSet::from([first]);
                let mut open = vec![first];
                while let Some(place) = open.pop().filter(|_| first != silent) {
                    let passes_on = place != silent;
                    let next = next(place, len, 5).filter(|_| passes_on);
                    open.extend(next.filter(|next| reached.insert(*next)));
                }
                reached.insert(silent);
                assert!(
                    reached.len() == len || first == silent,
                    "{len} {first} {silent}"
                );
            }
        }
    }

    #[test]
    fn each_sends_a_block_to_two_and_nobody_is_sent_it_more_than_twice() {
        for len in 1..=70_usize {
            for number in 0..len as u64 {
                let mut copies = vec![0; len];
                for place in 0..len {
                    assert_eq!(next(place, len, number).count(), 2.min(len - 1));
                    next(place, len, number).for_each(|next| copies[next] += 1);
                }
                assert!(copies.iter().all(|n| *n <= 2), "{len} {number}");
            }
        }
    }

    #[test]
    fn another_block_goes_another_way() {
        let way = |number| next(1, 8, number).collect::<Vec<usize>>();
        assert_eq!(
            (way(0), way(1), way(2)),
            (vec![2, 3], vec![3, 4], vec![4, 5])
        );
        assert_eq!(next(0, 0, 5).count(), 0);
    }
}
