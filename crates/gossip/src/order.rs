//! Which of two messages about the same thing stays.

use crate::id::PeerTime;

/// What one message means to another that is already stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The new one takes the place of the stored one.
    Invalidates,
    /// The stored one stays, the new one is refused.
    Invalidated,
    /// Both may stay.
    NoAction,
}

/// The rule for alive messages, state infos and leadership messages of one speaker: the later
/// one stays, and an equal one is not later.
pub fn by_time(new: PeerTime, stored: PeerTime) -> Relation {
    if new > stored {
        Relation::Invalidates
    } else {
        Relation::Invalidated
    }
}

/// The rule for blocks: two may be stored together when their numbers are no more than `most`
/// apart, else the higher one stays.
pub fn by_distance(new: u64, stored: u64, most: u64) -> Relation {
    if new == stored {
        Relation::Invalidated
    } else if new.abs_diff(stored) <= most {
        Relation::NoAction
    } else if new > stored {
        Relation::Invalidates
    } else {
        Relation::Invalidated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_incarnation_then_a_later_sequence_wins() {
        let time = |incarnation, sequence| PeerTime {
            incarnation,
            sequence,
        };
        let check = |new: (u64, u64), stored: (u64, u64), expect| {
            assert_eq!(
                by_time(time(new.0, new.1), time(stored.0, stored.1)),
                expect
            );
        };
        check((2, 1), (1, 9), Relation::Invalidates);
        check((1, 9), (2, 1), Relation::Invalidated);
        check((1, 2), (1, 1), Relation::Invalidates);
        check((1, 1), (1, 1), Relation::Invalidated);
        check((1, 1), (1, 2), Relation::Invalidated);
        check((u64::MAX, 0), (1 << 63, u64::MAX), Relation::Invalidates);
    }

    #[test]
    fn blocks_that_lie_close_together_coexist() {
        assert_eq!(by_distance(5, 5, 10), Relation::Invalidated);
        assert_eq!(by_distance(15, 5, 10), Relation::NoAction);
        assert_eq!(by_distance(5, 15, 10), Relation::NoAction);
        assert_eq!(by_distance(16, 5, 10), Relation::Invalidates);
        assert_eq!(by_distance(5, 16, 10), Relation::Invalidated);
        assert_eq!(by_distance(u64::MAX, 0, 10), Relation::Invalidates);
        assert_eq!(by_distance(6, 5, 0), Relation::Invalidates);
    }
}
