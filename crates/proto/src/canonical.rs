//! The canonical form of a transaction envelope, judged on its bytes.
//!
//! A block's data hash has no lengths in it, so every peer also insists that each transaction is
//! what the Go runtime would write for it: field 1, then field 2, then the fields it does not
//! know. Decoding and encoding with a codec that drops unknown fields would refuse blocks that
//! every Go peer commits, hence this check looks at the bytes themselves.
//!
//! Knows nothing of what payload and signature mean.
//!
//! Rules: docs/protocol/wire.md.

use crate::wire::{Field, Fields, Malformed, Value};

/// A transaction envelope whose bytes are exactly those that Go would write for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalEnvelope<'a> {
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> CanonicalEnvelope<'a> {
    /// Takes a serialized `common.Envelope` out of a block's data.
    pub fn parse(envelope: &'a [u8]) -> Result<Self, NotCanonical> {
        let mut fields = Fields::new(envelope);
        let payload = required(fields.next(), 1, NotCanonical::Payload)?;
        let signature = required(fields.next(), 2, NotCanonical::Signature)?;
        for field in fields {
            let field = field?;
            if matches!(
                field,
                Field {
                    number: 1 | 2,
                    value: Value::Bytes(_),
                    ..
                }
            ) {
                return Err(NotCanonical::Repeated(field.number));
            }
            if !field.tag_minimal {
                return Err(NotCanonical::Padded(field.number));
            }
        }
        Ok(Self { payload, signature })
    }

    /// The signed bytes; never empty.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The signature over the payload; never empty.
    pub fn signature(&self) -> &'a [u8] {
        self.signature
    }
}

/// Why a transaction is not well formed. The block it is in must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// Not a protobuf message at all.
    #[error("the transaction does not parse: {0}")]
    Malformed(#[from] Malformed),
    /// The first field is not a payload, or it is empty.
    #[error("the transaction does not begin with a payload")]
    Payload,
    /// The second field is not a signature, or it is empty.
    #[error("the transaction's payload is not followed by a signature")]
    Signature,
    /// Payload or signature stands there again.
    #[error("field {0} of the transaction is repeated")]
    Repeated(u64),
    /// A tag or length takes more bytes than it needs.
    #[error("field {0} of the transaction is not encoded minimally")]
    Padded(u64),
}

fn required<'a>(
    field: Option<Result<Field<'a>, Malformed>>,
    number: u64,
    absent: NotCanonical,
) -> Result<&'a [u8], NotCanonical> {
    let field = field.ok_or(absent)??;
    match field.value {
        Value::Bytes(value) if field.number == number && !value.is_empty() => {
            if field.tag_minimal && field.length_minimal {
                Ok(value)
            } else {
                Err(NotCanonical::Padded(number))
            }
        }
        _ => Err(absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = &[0x0a, 0x01, 0xaa, 0x12, 0x01, 0xbb];

    fn check(envelope: &[u8], expect: Result<(), NotCanonical>) {
        let verdict = CanonicalEnvelope::parse(envelope).map(drop);
        assert_eq!(verdict, expect, "{}", hex::encode(envelope));
    }

    fn tail(tail: &[u8]) -> Vec<u8> {
        [GOOD, tail].concat()
    }

    #[test]
    fn payload_then_signature_is_canonical() {
        let envelope = CanonicalEnvelope::parse(GOOD).unwrap();
        assert_eq!(
            (envelope.payload(), envelope.signature()),
            (&[0xaa][..], &[0xbb][..])
        );
    }

    #[test]
    fn g_1_2_both_must_be_there_and_not_empty() {
        check(&[], Err(NotCanonical::Payload));
        check(&[0x0a, 0x00, 0x12, 0x01, 0xbb], Err(NotCanonical::Payload));
        check(&[0x12, 0x01, 0xbb], Err(NotCanonical::Payload));
        check(&[0x0a, 0x01, 0xaa], Err(NotCanonical::Signature));
        check(
            &[0x0a, 0x01, 0xaa, 0x12, 0x00],
            Err(NotCanonical::Signature),
        );
    }

    #[test]
    fn g_1_2_swapped_and_repeated_fields_are_refused() {
        check(
            &[0x12, 0x01, 0xbb, 0x0a, 0x01, 0xaa],
            Err(NotCanonical::Payload),
        );
        check(
            &[0x0a, 0x01, 0xaa, 0x0a, 0x01, 0xaa],
            Err(NotCanonical::Signature),
        );
        check(&tail(&[0x0a, 0x01, 0xaa]), Err(NotCanonical::Repeated(1)));
        check(&tail(&[0x12, 0x00]), Err(NotCanonical::Repeated(2)));
        check(
            &tail(&[0x18, 0x01, 0x12, 0x01, 0xbb]),
            Err(NotCanonical::Repeated(2)),
        );
        check(&tail(&[0x92, 0x00, 0x00]), Err(NotCanonical::Repeated(2)));
    }

    #[test]
    fn g_1_2_padded_tags_and_lengths_are_refused() {
        check(
            &[0x8a, 0x00, 0x01, 0xaa, 0x12, 0x01, 0xbb],
            Err(NotCanonical::Padded(1)),
        );
        check(
            &[0x0a, 0x81, 0x00, 0xaa, 0x12, 0x01, 0xbb],
            Err(NotCanonical::Padded(1)),
        );
        check(
            &[0x0a, 0x01, 0xaa, 0x92, 0x00, 0x01, 0xbb],
            Err(NotCanonical::Padded(2)),
        );
        check(
            &[0x0a, 0x01, 0xaa, 0x12, 0x81, 0x00, 0xbb],
            Err(NotCanonical::Padded(2)),
        );
        check(&tail(&[0x98, 0x00, 0x01]), Err(NotCanonical::Padded(3)));
    }

    #[test]
    fn g_1_2_unknown_fields_come_last_with_their_values_as_they_are() {
        check(&tail(&[0x18, 0x01]), Ok(()));
        check(&tail(&[0x18, 0x81, 0x00]), Ok(()));
        check(&tail(&[0x1a, 0x81, 0x00, 0xcc]), Ok(()));
        check(&tail(&[0x28, 0x01, 0x18, 0x01]), Ok(()));
        check(&tail(&[0x1b, 0x98, 0x00, 0x01, 0x9c, 0x00]), Ok(()));
        check(
            &[0x18, 0x01, 0x0a, 0x01, 0xaa, 0x12, 0x01, 0xbb],
            Err(NotCanonical::Payload),
        );
        let between = [0x0a, 0x01, 0xaa, 0x18, 0x01, 0x12, 0x01, 0xbb];
        check(&between, Err(NotCanonical::Signature));
    }

    #[test]
    fn g_1_2_fields_one_and_two_of_another_wire_type_are_unknown_fields() {
        check(&tail(&[0x08, 0x01, 0x10, 0x01]), Ok(()));
        check(&tail(&[0x0b, 0x0c]), Ok(()));
        check(
            &[0x08, 0x01, 0x0a, 0x01, 0xaa, 0x12, 0x01, 0xbb],
            Err(NotCanonical::Payload),
        );
    }

    #[test]
    fn g_1_2_a_tail_that_does_not_parse_is_refused() {
        check(&tail(&[0x1a, 0x05, 0x00]), Err(Malformed::Truncated.into()));
        check(&tail(&[0x1b]), Err(Malformed::Truncated.into()));
        check(&tail(&[0x1b, 0x24]), Err(Malformed::EndGroup.into()));
        check(&tail(&[0x1c]), Err(Malformed::EndGroup.into()));
        check(&tail(&[0x00]), Err(Malformed::FieldNumber.into()));
    }
}
