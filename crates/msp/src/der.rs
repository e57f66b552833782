//! The few DER shapes that we must read to the byte ourselves.
//!
//! Promises what Go's decoder demands: definite, minimal lengths and minimal integers. Never
//! panics and never allocates. Certificates as a whole are parsed elsewhere; here are only the
//! places where a byte more or less decides whether a signature counts.

/// Tag of INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// Tag of BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// Tag of OCTET STRING.
#[cfg(test)]
pub(crate) const OCTET_STRING: u8 = 0x04;
/// Tag of an element that wraps another under number 0.
pub(crate) const EXPLICIT_0: u8 = 0xa0;
/// Tag of SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;

/// One element, and what follows it.
pub(crate) struct Element<'a> {
    /// Header and content.
    pub(crate) whole: &'a [u8],
    /// The content.
    pub(crate) content: &'a [u8],
    /// The bytes after the element.
    pub(crate) rest: &'a [u8],
}

/// Reads the element of `tag` at the start of `input`.
pub(crate) fn read(tag: u8, input: &[u8]) -> Option<Element<'_>> {
    let (&first, after_tag) = input.split_first()?;
    if first != tag {
        return None;
    }
    let (length, after_length) = read_length(after_tag)?;
    let (content, rest) = after_length.split_at_checked(length)?;
    let whole = input.get(..input.len() - rest.len())?;
    Some(Element {
        whole,
        content,
        rest,
    })
}

/// Reads a positive INTEGER and gives its big-endian bytes without leading zeros.
///
/// Zero and negative numbers are refused as they are for every use we have.
pub(crate) fn read_positive(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let element = read(INTEGER, input)?;
    let digits = match element.content {
        [0, second, ..] if *second < 0x80 => return None,
        [0] | [] => return None,
        [0, digits @ ..] => digits,
        [first, ..] if *first >= 0x80 => return None,
        digits => digits,
    };
    Some((digits, element.rest))
}

/// Whether these are the contents of an OBJECT IDENTIFIER that Go reads: arcs in as few bytes as
/// they need, each below 2^31.
///
/// Anything else must be refused before it is printed: the time that takes grows with the square
/// of the length of an arc, and strangers choose the length.
pub(crate) fn is_object_identifier(content: &[u8]) -> bool {
    const ARC_MAX: u32 = (1 << 31) - 1;
    let mut arc: u32 = 0;
    let mut at_start = true;
    for byte in content {
        if (at_start && *byte == 0x80) || arc > ARC_MAX >> 7 {
            return false;
        }
        arc = (arc << 7) | u32::from(byte & 0x7f);
        at_start = *byte < 0x80;
        if at_start {
            arc = 0;
        }
    }
    at_start && !content.is_empty()
}

/// Appends one element.
pub(crate) fn write(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    write_length(content.len(), out);
    out.extend_from_slice(content);
}

/// Appends a positive INTEGER given as big-endian bytes, leading zeros allowed.
pub(crate) fn write_positive(digits: &[u8], out: &mut Vec<u8>) {
    let digits = without_leading_zeros(digits);
    let mut content = Vec::with_capacity(digits.len() + 1);
    if digits.first().is_none_or(|first| *first >= 0x80) {
        content.push(0);
    }
    content.extend_from_slice(digits);
    write(INTEGER, &content, out);
}

/// The number without its leading zero bytes.
pub(crate) fn without_leading_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|byte| **byte == 0).count();
    &digits[zeros..]
}

fn read_length(input: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = input.split_first()?;
    if first < 0x80 {
        return Some((usize::from(first), rest));
    }
    let count = usize::from(first & 0x7f);
    // No length of more than four bytes is minimal for anything that fits a message.
    if count == 0 || count > 4 {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(count)?;
    if digits.first() == Some(&0) {
        return None;
    }
    let length = digits
        .iter()
        .fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    if length < 0x80 {
        return None;
    }
    Some((usize::try_from(length).ok()?, rest))
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let digits = without_leading_zeros(&bytes);
            out.push(0x80 | u8::try_from(digits.len()).expect("a length has at most eight bytes"));
            out.extend_from_slice(digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_be_minimal_and_definite() {
        let accepted: [&[u8]; 3] = [&[0x30, 0], &[0x30, 1, 9], &[0x30, 1, 9, 7]];
        for input in accepted {
            assert!(read(SEQUENCE, input).is_some(), "{input:?}");
        }
        let refused: [&[u8]; 8] = [
            &[],
            &[0x30],
            &[0x31, 0],
            &[0x30, 2, 9],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 1, 9],
            &[0x30, 0x82, 0, 1, 9],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
        ];
        for input in refused {
            assert!(read(SEQUENCE, input).is_none(), "{input:?}");
        }
    }

    #[test]
    fn a_long_element_survives_writing_and_reading() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7u8; length];
            let mut out = Vec::new();
            write(OCTET_STRING, &content, &mut out);
            let element = read(OCTET_STRING, &out).expect("what we wrote");
            assert_eq!(element.content, content);
            assert_eq!(element.whole, out);
            assert!(element.rest.is_empty());
        }
    }

    #[test]
    fn integers_must_be_positive_and_minimal() {
        assert_eq!(read_positive(&[2, 1, 1]), Some((&[1u8][..], &[][..])));
        assert_eq!(
            read_positive(&[2, 2, 0, 0x80, 5]),
            Some((&[0x80u8][..], &[5u8][..]))
        );
        let refused: [&[u8]; 6] = [
            &[2, 0],
            &[2, 1, 0],
            &[2, 1, 0x80],
            &[2, 2, 0, 1],
            &[2, 2, 0, 0],
            &[3, 1, 1],
        ];
        for input in refused {
            assert_eq!(read_positive(input), None, "{input:?}");
        }
    }

    #[test]
    fn object_identifiers_have_short_minimal_arcs() {
        let accepted: [&[u8]; 4] = [
            &[0x2a],
            &[0x55, 0x04, 0x0b],
            &[0x2a, 0x87, 0xff, 0xff, 0xff, 0x7f],
            &[0x2a, 0x81, 0x00],
        ];
        for content in accepted {
            assert!(is_object_identifier(content), "{content:x?}");
        }
        let refused: [&[u8]; 6] = [
            &[],
            &[0x2a, 0x80, 0x01],
            &[0x2a, 0x88, 0x80, 0x80, 0x80, 0x00],
            &[0x2a, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0x2a, 0x87],
            &[0xff; 100],
        ];
        for content in refused {
            assert!(!is_object_identifier(content), "{content:x?}");
        }
    }

    #[test]
    fn integers_are_written_minimal() {
        let mut out = Vec::new();
        write_positive(&[0, 0, 0x80], &mut out);
        write_positive(&[0, 1], &mut out);
        assert_eq!(out, [2, 2, 0, 0x80, 2, 1, 1]);
    }
}
