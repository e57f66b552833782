//! Whether bytes are a message that the Go runtime decodes, told without decoding them.
//!
//! A transaction can be as large as a block, and its parts take many times their bytes in memory
//! once they are decoded. Promises to walk every part that decoding would visit, and to refuse
//! what decoding refuses: a malformed field and a string that is not UTF-8. Allocates nothing
//! and knows nothing of what the messages are for. The shapes here do not nest in themselves, so
//! that the walk is as deep as they are.

use crate::wire::{Field, Fields, Malformed, Value};

/// The fields of a message type that the decoder looks into.
pub(super) struct Shape(&'static [(u64, Part)]);

enum Part {
    /// A string.
    Text,
    /// A message, alone or in a list.
    Inner(&'static Shape),
}

use Part::{Inner, Text};

static VERSION: Shape = Shape(&[]);
static READ: Shape = Shape(&[(1, Text), (2, Inner(&VERSION))]);
static READS: Shape = Shape(&[(1, Inner(&READ))]);
static SUMMARY: Shape = Shape(&[]);
static RANGE: Shape = Shape(&[
    (1, Text),
    (2, Text),
    (4, Inner(&READS)),
    (5, Inner(&SUMMARY)),
]);
static WRITE: Shape = Shape(&[(1, Text)]);
static METADATA: Shape = Shape(&[(1, Text)]);
static METADATA_WRITE: Shape = Shape(&[(1, Text), (2, Inner(&METADATA))]);
static READ_HASH: Shape = Shape(&[(2, Inner(&VERSION))]);
static WRITE_HASH: Shape = Shape(&[]);
static METADATA_WRITE_HASH: Shape = Shape(&[(2, Inner(&METADATA))]);
static COLLECTION: Shape = Shape(&[(1, Text)]);
static NAMESPACE: Shape = Shape(&[(1, Text), (3, Inner(&COLLECTION))]);
static HEADER: Shape = Shape(&[]);
static ENDORSEMENT: Shape = Shape(&[]);
static ENDORSED_ACTION: Shape = Shape(&[(2, Inner(&ENDORSEMENT))]);
static ACTION: Shape = Shape(&[]);
static RESPONSE: Shape = Shape(&[(2, Text)]);
static CHAINCODE_ID: Shape = Shape(&[(1, Text), (2, Text), (3, Text)]);

/// `common.Payload`.
pub(super) static PAYLOAD: Shape = Shape(&[(1, Inner(&HEADER))]);
/// `protos.Transaction`.
pub(super) static TRANSACTION: Shape = Shape(&[(1, Inner(&ACTION))]);
/// `protos.ChaincodeActionPayload`.
pub(super) static ACTION_PAYLOAD: Shape = Shape(&[(2, Inner(&ENDORSED_ACTION))]);
/// `protos.ChaincodeAction`.
pub(super) static CHAINCODE_ACTION: Shape =
    Shape(&[(3, Inner(&RESPONSE)), (4, Inner(&CHAINCODE_ID))]);
/// `rwset.TxReadWriteSet`.
pub(super) static READ_WRITE_SET: Shape = Shape(&[(2, Inner(&NAMESPACE))]);
/// `kvrwset.KVRWSet`.
pub(super) static PUBLIC_SET: Shape = Shape(&[
    (1, Inner(&READ)),
    (2, Inner(&RANGE)),
    (3, Inner(&WRITE)),
    (4, Inner(&METADATA_WRITE)),
]);
/// `kvrwset.HashedRWSet`.
pub(super) static HASHED_SET: Shape = Shape(&[
    (1, Inner(&READ_HASH)),
    (2, Inner(&WRITE_HASH)),
    (3, Inner(&METADATA_WRITE_HASH)),
]);

impl Shape {
    /// Refuses what the decoder would refuse.
    pub(super) fn check(&self, message: &[u8]) -> Result<(), Malformed> {
        for field in Fields::new(message) {
            // Another wire type makes an unknown field of a known one.
            let Field {
                number,
                value: Value::Bytes(value),
                ..
            } = field?
            else {
                continue;
            };
            match self.0.iter().find(|(known, _)| *known == number) {
                Some((_, Text)) => {
                    std::str::from_utf8(value).map_err(|_where| Malformed::Utf8)?;
                }
                Some((_, Inner(shape))) => shape.check(value)?,
                None => {}
            }
        }
        Ok(())
    }
}
