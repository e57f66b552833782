//! Fields of one protobuf message, walked where they lie.
//!
//! Promises to accept and refuse the same bytes as the Go runtime does when it skips a field it
//! does not know: varints of at most ten bytes, groups that close in order, numbers in range. It
//! copies nothing and never panics, whatever the bytes. Knows no message definitions.

/// Groups may nest this deep inside one field; the Go runtime stops at the same place.
const GROUP_DEPTH_MAX: usize = 10_001;

/// Largest number a field may have.
const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;

/// Largest number of a field inside a group: there the Go runtime looks less closely.
const GROUP_FIELD_NUMBER_MAX: u64 = (1 << 31) - 1;

/// Bytes that are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A varint does not fit 64 bits.
    #[error("a varint does not fit 64 bits")]
    Varint,
    /// A field number is zero or too large.
    #[error("a field number is out of range")]
    FieldNumber,
    /// A wire type that no protobuf version defines.
    #[error("wire type {0} does not exist")]
    WireType(u8),
    /// A group ends that was not begun, or another than the one begun last.
    #[error("this is no protobuf message: a group ends that was not begun")]
    EndGroup,
    /// Groups inside groups beyond what the Go runtime reads.
    #[error("groups nest more than {GROUP_DEPTH_MAX} deep")]
    Depth,
    /// A string field that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
}

/// What stands behind a tag. Only what some walker looks at carries its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed-width numbers and groups.
    Other,
}

/// One field with what is needed to tell whether a minimal encoder wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) value: Value<'a>,
    /// The tag is in the fewest bytes.
    pub(crate) tag_minimal: bool,
    /// The length of a length-delimited value is in the fewest bytes; true for other values.
    pub(crate) length_minimal: bool,
}

/// The fields of a message in order. Ends after the first malformed one.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Bytes that are still to be walked.
    pub(crate) fn rest_len(&self) -> usize {
        self.rest.len()
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let tag = self.varint()?;
        let number = tag.value >> 3;
        if !(1..=FIELD_NUMBER_MAX).contains(&number) {
            return Err(Malformed::FieldNumber);
        }
        let (value, length_minimal) = match wire_type(tag.value) {
            0 => (Value::Varint(self.varint()?.value), true),
            2 => {
                let length = self.varint()?;
                (Value::Bytes(self.take(length.value)?), length.minimal)
            }
            3 => {
                self.skip_group(number)?;
                (Value::Other, true)
            }
            scalar_or_bad => {
                self.skip_scalar(scalar_or_bad)?;
                (Value::Other, true)
            }
        };
        Ok(Field {
            number,
            value,
            tag_minimal: tag.minimal,
            length_minimal,
        })
    }

    /// Skips a group whose start tag is read. A stack of our own, so that depth costs heap, not
    /// the thread's stack.
    fn skip_group(&mut self, number: u64) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            let tag = self.varint()?.value;
            let number = tag >> 3;
            if !(1..=GROUP_FIELD_NUMBER_MAX).contains(&number) {
                return Err(Malformed::FieldNumber);
            }
            match wire_type(tag) {
                0 => {
                    self.varint()?;
                }
                2 => {
                    let length = self.varint()?.value;
                    self.take(length)?;
                }
                3 if open.len() == GROUP_DEPTH_MAX => return Err(Malformed::Depth),
                3 => open.push(number),
                4 if number == innermost => {
                    open.pop();
                }
                scalar_or_bad => self.skip_scalar(scalar_or_bad)?,
            }
        }
        Ok(())
    }

    fn skip_scalar(&mut self, wire_type: u8) -> Result<(), Malformed> {
        match wire_type {
            1 => self.take(8).map(drop),
            5 => self.take(4).map(drop),
            4 => Err(Malformed::EndGroup),
            other => Err(Malformed::WireType(other)),
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_too_long| Malformed::Truncated)?;
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<Varint, Malformed> {
        // Most are short.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(Varint {
                value: u64::from(*byte),
                minimal: true,
            });
        }
        let mut value = 0;
        for (index, byte) in self.rest.iter().copied().take(10).enumerate() {
            if index == 9 && byte > 1 {
                return Err(Malformed::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(index + 1..).ok_or(Malformed::Truncated)?;
                // A last byte of zero adds nothing, unless it is the only one.
                return Ok(Varint {
                    value,
                    minimal: byte != 0 || index == 0,
                });
            }
        }
        Err(Malformed::Truncated)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

struct Varint {
    value: u64,
    minimal: bool,
}

fn wire_type(tag: u64) -> u8 {
    tag.to_le_bytes()[0] & 7
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &[u8], expect: Result<usize, Malformed>) {
        let fields: Result<Vec<_>, _> = Fields::new(message).collect();
        assert_eq!(
            fields.map(|fields| fields.len()),
            expect,
            "{}",
            hex::encode(message)
        );
    }

    #[test]
    fn fields_are_read_as_the_go_runtime_reads_them() {
        check(&[], Ok(0));
        check(&[0x08, 0x01, 0x12, 0x01, 0xff], Ok(2));
        check(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4], Ok(2));
        check(&[0x08], Err(Malformed::Truncated));
        check(&[0x08, 0x80], Err(Malformed::Truncated));
        check(&[0x12, 0x02, 0xff], Err(Malformed::Truncated));
        check(&[0x0d, 1, 2, 3], Err(Malformed::Truncated));
        check(&[0x00, 0x00], Err(Malformed::FieldNumber));
        check(
            &[0x80, 0x80, 0x80, 0x80, 0x10, 0x00],
            Err(Malformed::FieldNumber),
        );
        check(&[0x0e], Err(Malformed::WireType(6)));
        check(&[0x0f], Err(Malformed::WireType(7)));
        check(&[0x0c], Err(Malformed::EndGroup));
    }

    #[test]
    fn a_varint_has_at_most_ten_bytes_and_64_bits() {
        let nine = [0xff; 9];
        let of = |last: &[u8]| [&[0x08][..], &nine, last].concat();
        check(&of(&[0x01]), Ok(1));
        check(&of(&[0x02]), Err(Malformed::Varint));
        check(&of(&[0x81, 0x00]), Err(Malformed::Varint));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused_however_large() {
        let huge = [
            0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ];
        check(&huge, Err(Malformed::Truncated));
    }

    #[test]
    fn groups_close_in_order() {
        check(&[0x0b, 0x0c], Ok(1));
        check(&[0x0b, 0x13, 0x08, 0x05, 0x14, 0x0c, 0x08, 0x01], Ok(2));
        check(&[0x0b, 0x14], Err(Malformed::EndGroup));
        check(&[0x0b, 0x13, 0x0c, 0x14], Err(Malformed::EndGroup));
        check(&[0x0b, 0x08, 0x01], Err(Malformed::Truncated));
        check(&[0x0b, 0x00, 0x0c], Err(Malformed::FieldNumber));
        check(&[0x0b, 0x0f, 0x0c], Err(Malformed::WireType(7)));
    }

    #[test]
    fn groups_nest_as_deep_as_in_the_go_runtime_and_no_deeper() {
        let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        check(&nested(GROUP_DEPTH_MAX), Ok(1));
        check(&nested(GROUP_DEPTH_MAX + 1), Err(Malformed::Depth));
    }

    #[test]
    fn a_field_number_inside_a_group_may_be_larger() {
        let group = [0x0b, 0xf8, 0xff, 0xff, 0xff, 0x3f, 0x01, 0x0c];
        check(&group, Ok(1));
        check(&group[1..], Err(Malformed::FieldNumber));
    }

    #[test]
    fn minimal_tags_and_lengths_are_told_from_padded_ones() {
        let of = |message: &[u8]| {
            let field = Fields::new(message).next().unwrap().unwrap();
            (field.tag_minimal, field.length_minimal)
        };
        assert_eq!(of(&[0x0a, 0x00]), (true, true));
        assert_eq!(of(&[0x8a, 0x00, 0x00]), (false, true));
        assert_eq!(of(&[0x0a, 0x80, 0x00]), (true, false));
        assert_eq!(
            of(&[0x08, 0x80, 0x00]),
            (true, true),
            "values of varints are kept verbatim"
        );
    }
}
