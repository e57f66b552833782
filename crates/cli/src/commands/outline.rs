//! Indented lines for a person, made of bytes that somebody else chose.
//!
//! Promises: no foreign byte reaches the terminal as a control character, and no list or text is
//! printed longer than its limit. Knows nothing of what the lines mean.

use std::fmt::Display;

/// Characters of one foreign text; an endpoint or name is far shorter.
const TEXT_LEN_MAX: usize = 200;

/// Entries printed of one list.
pub(crate) const ITEMS_MAX: usize = 50;

/// Bytes of binary values printed in hex; a hash is shown whole.
const HEX_LEN_MAX: usize = 32;

/// Lines under construction.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    text: String,
    depth: usize,
}

impl Outline {
    /// A line with a label and a value.
    pub(crate) fn field(&mut self, label: &str, value: impl Display) {
        self.line(format_args!("{label:<15} {value}"));
    }

    /// A line.
    pub(crate) fn line(&mut self, line: impl Display) {
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
        self.text.push_str(line.to_string().trim_end());
        self.text.push('\n');
    }

    /// Lines below the last one, indented.
    pub(crate) fn below(&mut self, lines: impl FnOnce(&mut Self)) {
        self.depth += 1;
        lines(self);
        self.depth -= 1;
    }

    /// The first entries of a list and how many were left out.
    pub(crate) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        for item in items.iter().take(ITEMS_MAX) {
            each(self, item);
        }
        if let Some(rest @ 1..) = items.len().checked_sub(ITEMS_MAX) {
            self.line(format_args!("and {rest} more"));
        }
    }

    /// All lines.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// Foreign text without anything that a terminal would obey, and not too much of it.
pub(crate) fn clean(text: &str) -> String {
    match text.char_indices().nth(TEXT_LEN_MAX) {
        Some((end, _)) => format!("{}…", visible(text.get(..end).unwrap_or_default())),
        None => visible(text),
    }
}

/// Text with everything written out that a terminal would obey.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if hides(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Control characters, and those that turn the direction of what is around them.
fn hides(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// Foreign bytes that should be text, such as the name of a channel.
pub(crate) fn clean_bytes(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| short_hex(bytes), clean)
}

/// Hex, cut where it gets long.
pub(crate) fn short_hex(bytes: &[u8]) -> String {
    match bytes.get(..HEX_LEN_MAX) {
        Some(head) if bytes.len() > HEX_LEN_MAX => format!("{}…", hex::encode(head)),
        _ => hex::encode(bytes),
    }
}

/// `1 byte`, `2 bytes`.
pub(crate) fn plural(count: usize, word: &str) -> String {
    if count == 1 {
        format!("1 {word}")
    } else {
        format!("{count} {word}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{9b}d"), "a\\u{1b}[2Jb\\nc\\u{9b}d");
        assert_eq!(clean("ab\u{202e}cd"), "ab\\u{202e}cd");
        assert_eq!(clean("Zürich 1"), "Zürich 1");
        assert_eq!(clean_bytes(b"\xff\x00"), "ff00");
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(
            clean(&"x".repeat(TEXT_LEN_MAX)).chars().count(),
            TEXT_LEN_MAX
        );
        assert_eq!(
            clean(&"x".repeat(TEXT_LEN_MAX + 1)).chars().count(),
            TEXT_LEN_MAX + 1
        );
        assert!(clean(&"x".repeat(10_000)).ends_with('…'));
        assert_eq!(short_hex(&[0xab; 32]), "ab".repeat(32));
        assert_eq!(short_hex(&[0xab; 33]), format!("{}…", "ab".repeat(32)));
    }

    #[test]
    fn long_lists_are_cut() {
        let mut outline = Outline::default();
        outline.line("all");
        outline.below(|o| o.list(&[(); ITEMS_MAX + 2], |o, ()| o.line("one")));
        let text = outline.finish();
        assert_eq!(text.lines().count(), ITEMS_MAX + 2);
        assert_eq!(text.lines().last(), Some("  and 2 more"));
    }
}
