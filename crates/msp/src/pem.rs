//! PEM, read as Go reads it and written as Go writes it.
//!
//! Identities on the wire are PEM, and whether one parses decides whose transaction counts, so
//! the accepted language is Go's to the byte: text before a block, header lines and odd line
//! breaks are all fine, a block that does not end properly is passed over. Knows nothing of what
//! is inside a block.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Columns of base64 text in a line that we write.
const COLUMNS: usize = 64;

/// Padding is demanded, stray low bits in the last digit are not looked at: Go's standard
/// encoding, which is not strict.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// One decoded block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    /// What stands after BEGIN.
    pub(crate) label: &'a [u8],
    /// The decoded content.
    pub(crate) content: Vec<u8>,
}

/// The first block of `text`, and what follows its END line.
pub(crate) fn first_block(text: &[u8]) -> Option<(Block<'_>, &[u8])> {
    let mut ends = Ends { text, next: 0 };
    let mut rest = text;
    loop {
        rest = after_begin(rest)?;
        let (label_line, after_label) = line(rest);
        rest = after_label;
        let Some(label) = label_line.strip_suffix(DASHES) else {
            continue;
        };
        let (body, has_headers) = skip_headers(rest)?;
        rest = body;
        let (digits, trailer) = match body.strip_prefix(END) {
            // An empty block has its END where the body should start.
            Some(trailer) if !has_headers => (&body[..0], trailer),
            _ => ends.split(body)?,
        };
        if let Some((content, after)) = content_of(label, digits, trailer) {
            return Some((Block { label, content }, after));
        }
    }
}

/// Every block of `text`, in order.
pub(crate) fn blocks(text: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (block, after) = first_block(rest)?;
        rest = after;
        Some(block)
    })
}

/// Writes one block without headers.
pub(crate) fn encode(label: &str, content: &[u8]) -> String {
    let digits = BASE64.encode(content);
    let mut text = String::with_capacity(digits.len() + digits.len() / COLUMNS + 64);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        let (row, after) = rest.split_at(rest.len().min(COLUMNS));
        text.push_str(row);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// A BEGIN counts at the very start and after a line feed.
fn after_begin(text: &[u8]) -> Option<&[u8]> {
    if let Some(after) = text.strip_prefix(BEGIN) {
        return Some(after);
    }
    let at = find_line(text, BEGIN)?;
    text.get(at + 1 + BEGIN.len()..)
}

/// Position of the line feed before the first line that starts with `start`.
fn find_line(text: &[u8], start: &[u8]) -> Option<usize> {
    text.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at)
        .find(|at| {
            text.get(at + 1..)
                .is_some_and(|after| after.starts_with(start))
        })
}

/// Passes over header lines, which are all lines with a colon.
fn skip_headers(text: &[u8]) -> Option<(&[u8], bool)> {
    let mut rest = text;
    let mut seen = false;
    loop {
        if rest.is_empty() {
            return None;
        }
        let (current, after) = line(rest);
        if !current.contains(&b':') {
            return Some((rest, seen));
        }
        seen = true;
        rest = after;
    }
}

/// Where the next END line stands. Found once for all the BEGIN lines before it: whoever sends us
/// a text of nothing but BEGIN lines must not make us search to the end for each.
struct Ends<'a> {
    text: &'a [u8],
    /// Position of the line feed before the END found last.
    next: usize,
}

impl<'a> Ends<'a> {
    /// What stands before and after the first END of `rest`, which is a tail of the text.
    /// Nothing if there is none, and then no block can follow either.
    fn split(&mut self, rest: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let start = self.text.len() - rest.len();
        if self.next < start {
            self.next = start + find_line(rest, END)?;
        }
        let digits = self.text.get(start..self.next)?;
        Some((digits, self.text.get(self.next + 1 + END.len()..)?))
    }
}

fn content_of<'a>(label: &[u8], digits: &[u8], trailer: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
    let after_label = trailer.strip_prefix(label)?.strip_prefix(DASHES)?;
    let (remainder, after) = line(after_label);
    if !remainder.is_empty() {
        return None;
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    // Before anything is copied: the next BEGIN line ends this look.
    if !digits.iter().all(|byte| is_blank(byte) || is_digit(byte)) {
        return None;
    }
    let digits: Vec<u8> = digits
        .iter()
        .copied()
        .filter(|byte| !is_blank(byte))
        .collect();
    Some((BASE64.decode(digits).ok()?, after))
}

/// The first line without its end and trailing blanks, and what follows it.
fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let (content, after) = match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => {
            let content = &text[..at];
            (
                content.strip_suffix(b"\r").unwrap_or(content),
                &text[at + 1..],
            )
        }
        None => (text, &text[text.len()..]),
    };
    let blanks = content
        .iter()
        .rev()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    (&content[..content.len() - blanks], after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Option<(String, Vec<u8>, String)> {
        let (block, rest) = first_block(text.as_bytes())?;
        Some((
            String::from_utf8_lossy(block.label).into_owned(),
            block.content,
            String::from_utf8_lossy(rest).into_owned(),
        ))
    }

    #[test]
    fn blocks_that_go_reads() {
        let accepted = [
            ("-----BEGIN A-----\nAQI=\n-----END A-----\n", vec![1, 2], ""),
            ("-----BEGIN A-----\nAQI=\n-----END A-----", vec![1, 2], ""),
            (
                "text\n-----BEGIN A-----\r\nAQ\r\nI=\r\n-----END A-----\r\nrest",
                vec![1, 2],
                "rest",
            ),
            (
                "-----BEGIN A-----\nName: value\n\nAQI=\n-----END A----- \t\n\n",
                vec![1, 2],
                "\n",
            ),
            ("-----BEGIN A-----\n-----END A-----\n", vec![], ""),
            // Stray low bits in the last digit.
            ("-----BEGIN A-----\nAQJ=\n-----END A-----\n", vec![1, 2], ""),
            // A broken block is passed over.
            (
                "-----BEGIN B-----\nAQI\n-----END B-----\n-----BEGIN A-----\nAw==\n-----END A-----\n",
                vec![3],
                "",
            ),
        ];
        for (text, content, rest) in accepted {
            assert_eq!(
                decoded(text),
                Some(("A".to_owned(), content, rest.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn blocks_that_go_does_not_read() {
        let refused = [
            "",
            "AQI=",
            " -----BEGIN A-----\nAQI=\n-----END A-----\n",
            "-----BEGIN A----\nAQI=\n-----END A-----\n",
            "-----BEGIN A-----\nAQI=\n-----END B-----\n",
            "-----BEGIN A-----\nAQI=\n-----END A-----x\n",
            "-----BEGIN A-----\nAQI\n-----END A-----\n",
            "-----BEGIN A-----\nAQI=",
            "-----BEGIN A-----\n",
            "-----BEGIN A-----\nName: value\n-----END A-----\n",
        ];
        for text in refused {
            assert_eq!(decoded(text), None, "{text}");
        }
    }

    /// Looking for the END of each BEGIN anew would take hours here.
    #[test]
    fn many_begins_cost_no_more_than_their_length() {
        let begins = "-----BEGIN A-----\n".repeat(500_000);
        assert_eq!(decoded(&begins), None);
        assert_eq!(decoded(&format!("{begins}-----END B-----\n")), None);
        let good = encode("A", &[1, 2]);
        let found = decoded(&format!("{begins}{good}"));
        assert_eq!(found, Some(("A".to_owned(), vec![1, 2], String::new())));
        let headers = "-----BEGIN A-----\nName: value\n".repeat(200_000);
        assert_eq!(decoded(&format!("{headers}-----END A-----\n")), None);
    }

    #[test]
    fn each_begin_has_the_first_end_behind_it() {
        let (one, other) = (encode("A", &[1]), encode("B", &[2]));
        for before in [
            "-----END A-----\n",
            "-----BEGIN A-----\nAQ\n-----END A-----\n",
        ] {
            let text = format!("{before}{one}{other}");
            let found: Vec<_> = blocks(text.as_bytes()).map(|block| block.content).collect();
            assert_eq!(found, [[1], [2]], "{before}");
        }
    }

    #[test]
    fn long_content_is_broken_at_64_columns() {
        let text = encode("A", &[0u8; 49]);
        let rows: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(rows, [17, 64, 4, 15]);
        assert!(text.ends_with("-----END A-----\n"));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(content in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = encode("CERTIFICATE", &content);
            let (block, rest) = first_block(text.as_bytes()).expect("our own block");
            prop_assert_eq!(block.content, content);
            prop_assert_eq!(block.label, b"CERTIFICATE");
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(b'-'), Just(b'\n'), Just(b':')], 0..200)
        ) {
            let mut framed = b"-----BEGIN A-----\n".to_vec();
            framed.extend_from_slice(&text);
            let _ = first_block(&text);
            let _ = blocks(&framed).count();
        }
    }
}
