//! Where a stream of events is: the `id` of an event, and what `after` takes.

use std::fmt;

use super::ask::digits;

const START: &str = "start";

/// The next transaction of a chain that was not looked at. As text it is the last one that was:
/// `17.3`, or `17` when block 17 is done with, or `start` before all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    pub(super) block: u64,
    pub(super) position: usize,
}

impl Cursor {
    /// In front of a block.
    pub(super) fn before(block: u64) -> Self {
        Self { block, position: 0 }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == START {
            return Some(Self::before(0));
        }
        match text.split_once('.') {
            None => Some(Self::before(digits(text)?.checked_add(1)?)),
            Some((block, position)) => Some(Self {
                block: digits(block)?,
                position: usize::try_from(digits(position)?).ok()?.checked_add(1)?,
            }),
        }
    }

    /// Between two blocks.
    pub(super) fn is_whole(self) -> bool {
        self.position == 0
    }

    /// Whether it speaks of what a chain of this height does not have.
    pub(super) fn is_beyond(self, height: u64) -> bool {
        self > Self::before(height)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.block, self.position.checked_sub(1)) {
            (block, Some(position)) => write!(f, "{block}.{position}"),
            (0, None) => f.write_str(START),
            (block, None) => write!(f, "{}", block - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for (text, block, position) in [
            ("start", 0, 0),
            ("0", 1, 0),
            ("17", 18, 0),
            ("17.0", 17, 1),
            ("17.3", 17, 4),
        ] {
            let cursor = Cursor { block, position };
            assert_eq!(Cursor::parse(text), Some(cursor));
            assert_eq!(cursor.to_string(), text);
        }
        let most = u64::MAX.to_string();
        for text in ["", "-1", "+1", "1.", ".1", "1.2.3", "1 ", "٣", &most] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_chain_does_not_have_is_beyond_it() {
        let beyond = |text| Cursor::parse(text).unwrap().is_beyond(18);
        assert!(!beyond("start") && !beyond("17") && !beyond("17.9"));
        assert!(beyond("18") && beyond("18.0"));
    }
}
