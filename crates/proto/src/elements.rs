//! How many list elements a gossip message holds, before it is decoded.
//!
//! An element can take two bytes on the wire and a hundred in memory, so a message that passes
//! the limit in bytes could still cost gigabytes. Promises to count every element that decoding
//! would make, without making any. Knows which fields are lists and nothing else of messages.

use crate::wire::{Fields, Malformed, Value};

/// List elements in one message, over all its lists: several times what is looked at of the
/// longest lists, and a few megabytes in memory.
pub const ELEMENTS_MAX: usize = 65_536;

/// Messages nest no deeper than this when they are decoded; deeper ones are refused there.
const DEPTH_MAX: usize = 100;

/// The fields of a message type that are lists, or lead to some.
struct Shape(&'static [(u64, Part)]);

enum Part {
    /// One message.
    One(&'static Shape),
    /// A list of such messages, or of plain values.
    Many(&'static Shape),
}

use Part::{Many, One};

static PLAIN: Shape = Shape(&[]);
static LIST_1: Shape = Shape(&[(1, Many(&PLAIN))]);
static LIST_2: Shape = Shape(&[(2, Many(&PLAIN))]);
static LIST_3: Shape = Shape(&[(3, Many(&PLAIN))]);
static TWO_LISTS: Shape = Shape(&[(1, Many(&PLAIN)), (2, Many(&PLAIN))]);
static DATA: Shape = Shape(&[(1, One(&LIST_3))]);
static STATE_INFO: Shape = Shape(&[(5, One(&LIST_3))]);
static STATE_RESPONSE: Shape = Shape(&[(1, Many(&LIST_3))]);
static PRIVATE_RESPONSE: Shape = Shape(&[(1, Many(&LIST_2))]);

/// `SignaturePolicyEnvelope`, whose rules nest.
static POLICY: Shape = Shape(&[(2, One(&RULE)), (3, Many(&PLAIN))]);
static RULE: Shape = Shape(&[(2, One(&N_OUT_OF))]);
static N_OUT_OF: Shape = Shape(&[(2, Many(&RULE))]);
static POLICY_CONFIG: Shape = Shape(&[(1, One(&POLICY))]);
static STATIC_COLLECTION: Shape = Shape(&[(2, One(&POLICY_CONFIG)), (8, One(&POLICY_CONFIG))]);
static COLLECTION: Shape = Shape(&[(1, One(&STATIC_COLLECTION))]);
static COLLECTIONS: Shape = Shape(&[(1, Many(&COLLECTION))]);
static PRIVATE_PAYLOAD: Shape = Shape(&[(6, One(&COLLECTIONS))]);
static PRIVATE_DATA: Shape = Shape(&[(1, One(&PRIVATE_PAYLOAD))]);

/// `PvtDataPayload`, whose `TxPvtReadWriteSet` is serialized once more.
static PRIVATE_SET_PAYLOAD: Shape = Shape(&[(2, One(&PRIVATE_SET))]);
static PRIVATE_SET: Shape = Shape(&[(2, Many(&LIST_2))]);

/// `GossipMessage`.
static MESSAGE: Shape = Shape(&[
    (6, One(&LIST_2)),
    (7, One(&TWO_LISTS)),
    (8, One(&DATA)),
    (10, One(&LIST_2)),
    (11, One(&LIST_2)),
    (12, One(&LIST_2)),
    (15, One(&STATE_INFO)),
    (16, One(&LIST_1)),
    (19, One(&STATE_RESPONSE)),
    (23, One(&LIST_1)),
    (24, One(&PRIVATE_RESPONSE)),
    (25, One(&PRIVATE_DATA)),
]);

/// A message that is no longer cannot hold more list elements than [`ELEMENTS_MAX`]: each takes
/// two bytes at least, for its tag and its length.
pub(crate) const SURELY_FEW_LEN: usize = 2 * ELEMENTS_MAX;

/// Whether a serialized `GossipMessage` holds at most [`ELEMENTS_MAX`] list elements.
pub(crate) fn are_few(message: &[u8]) -> Result<bool, Malformed> {
    let mut left = ELEMENTS_MAX;
    count(&MESSAGE, message, DEPTH_MAX, &mut left)
}

/// How many list elements a serialized `protos.CollectionConfigPackage` holds, over all its lists:
/// what its decoded form takes in memory. None when it is more than [`ELEMENTS_MAX`].
pub fn collection_elements(package: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut left = ELEMENTS_MAX;
    let few = count(&COLLECTIONS, package, DEPTH_MAX, &mut left)?;
    Ok(few.then_some(ELEMENTS_MAX - left))
}

/// Whether the serialized `PvtDataPayload`s that came with one block hold at most
/// [`ELEMENTS_MAX`] list elements between them.
pub fn private_sets_are_few<'a>(
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> Result<bool, Malformed> {
    let mut left = ELEMENTS_MAX;
    for payload in payloads {
        if !count(&PRIVATE_SET_PAYLOAD, payload, DEPTH_MAX, &mut left)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes what is found from `left`. Gives false as soon as there is more.
fn count(shape: &Shape, message: &[u8], depth: usize, left: &mut usize) -> Result<bool, Malformed> {
    if shape.0.is_empty() || depth == 0 {
        return Ok(true);
    }
    for field in Fields::new(message) {
        let field = field?;
        let Some((_, part)) = shape.0.iter().find(|(number, _)| *number == field.number) else {
            continue;
        };
        // Another wire type is an error to the decoder.
        let Value::Bytes(value) = field.value else {
            continue;
        };
        let inner = match part {
            One(inner) => inner,
            Many(inner) => {
                let Some(fewer) = left.checked_sub(1) else {
                    return Ok(false);
                };
                *left = fewer;
                inner
            }
        };
        if !count(inner, value, depth - 1, left)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn field(number: u64, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for varint in [number << 3 | 2, value.len() as u64] {
            prost::encoding::encode_varint(varint, &mut bytes);
        }
        [bytes, value.to_vec()].concat()
    }

    /// A message with that many empty elements in the list at the end of the path.
    fn message(path: &[u64], elements: usize) -> Vec<u8> {
        let (list, above) = path.split_last().unwrap();
        let lists = field(*list, &[]).repeat(elements);
        above
            .iter()
            .rev()
            .fold(lists, |inner, number| field(*number, &inner))
    }

    #[test]
    fn every_list_is_counted_up_to_the_limit() {
        let paths: [&[u64]; 17] = [
            &[6, 2],
            &[7, 1],
            &[7, 2],
            &[8, 1, 3],
            &[10, 2],
            &[11, 2],
            &[12, 2],
            &[15, 5, 3],
            &[16, 1],
            &[19, 1],
            &[23, 1],
            &[24, 1],
            &[25, 1, 6, 1],
            &[25, 1, 6, 1, 1, 2, 1, 3],
            &[25, 1, 6, 1, 1, 2, 1, 2, 2, 2],
            &[25, 1, 6, 1, 1, 8, 1, 3],
            &[25, 1, 6, 1, 1, 8, 1, 2, 2, 2],
        ];
        for path in paths {
            // The collection around a policy is an element, too.
            let around = usize::from(path.len() > 4);
            let at_limit = message(path, ELEMENTS_MAX - around);
            assert_eq!(are_few(&at_limit), Ok(true), "{path:?}");
            let above = message(path, ELEMENTS_MAX - around + 1);
            assert_eq!(are_few(&above), Ok(false), "{path:?}");
        }
    }

    #[test]
    fn lists_in_elements_and_repeated_messages_add_up() {
        let payload = field(1, &field(3, &[]).repeat(3));
        let payloads = payload.repeat(ELEMENTS_MAX / 4);
        assert_eq!(are_few(&field(19, &payloads)), Ok(true));
        let one_more = [payloads, field(1, &[])].concat();
        assert_eq!(are_few(&field(19, &one_more)), Ok(false));
        let half = message(&[7, 1], ELEMENTS_MAX / 2);
        assert_eq!(are_few(&half.repeat(2)), Ok(true));
        assert_eq!(are_few(&half.repeat(3)), Ok(false));
        let elements = field(1, &field(2, &[]));
        assert_eq!(
            are_few(&field(24, &elements.repeat(ELEMENTS_MAX / 2))),
            Ok(true)
        );
        assert_eq!(
            are_few(&field(24, &elements.repeat(ELEMENTS_MAX / 2 + 1))),
            Ok(false)
        );
    }

    #[test]
    fn elements_of_a_package_of_collections_are_counted() {
        let policy = [field(2, &field(2, &field(2, &[]).repeat(2))), field(3, &[])].concat();
        let collection = field(1, &field(2, &field(1, &policy)));
        let package = field(1, &collection).repeat(3);
        assert_eq!(collection_elements(&package), Ok(Some(12)));
        assert_eq!(collection_elements(&[]), Ok(Some(0)));
        let at_limit = field(1, &[]).repeat(ELEMENTS_MAX);
        assert_eq!(collection_elements(&at_limit), Ok(Some(ELEMENTS_MAX)));
        let above = field(1, &[]).repeat(ELEMENTS_MAX + 1);
        assert_eq!(collection_elements(&above), Ok(None));
        assert_eq!(collection_elements(&[0x0a]), Err(Malformed::Truncated));
    }

    #[test]
    fn private_sets_of_a_block_are_counted_together() {
        let set = |namespaces: usize| {
            let namespaces = field(2, &field(2, &[])).repeat(namespaces);
            [vec![0x08, 1], field(2, &namespaces)].concat()
        };
        let few = |sets: &[Vec<u8>]| private_sets_are_few(sets.iter().map(|set| &set[..]));
        let half = set(ELEMENTS_MAX / 4);
        assert_eq!(few(&[half.clone(), half.clone()]), Ok(true));
        assert_eq!(few(&[half.clone(), half, set(1)]), Ok(false));
        assert_eq!(few(&[field(2, &[0x12])]), Err(Malformed::Truncated));
    }

    #[test]
    fn what_is_no_list_is_not_looked_into() {
        // A block may hold what looks like lists, and an envelope is counted when it is opened.
        let many = field(1, &[]).repeat(ELEMENTS_MAX + 1);
        assert_eq!(are_few(&field(8, &field(1, &field(2, &many)))), Ok(true));
        assert_eq!(are_few(&field(7, &field(1, &many))), Ok(true));
        assert_eq!(are_few(&field(99, &many)), Ok(true));
    }

    #[test]
    fn what_surely_holds_few_does() {
        // Around the elements are two bytes of a tag and three of a length.
        let elements = (SURELY_FEW_LEN - 5) / 2;
        let longest = message(&[16, 1], elements);
        assert!((SURELY_FEW_LEN - 1..=SURELY_FEW_LEN).contains(&longest.len()));
        assert_eq!(are_few(&longest), Ok(true));
    }

    #[test]
    fn rules_nest_without_end() {
        let rules = (0..10_000).fold(Vec::new(), |inner, _| field(2, &inner));
        let path = [25, 1, 6, 1, 1, 2, 1];
        let message = path
            .iter()
            .rev()
            .fold(rules, |inner, number| field(*number, &inner));
        assert_eq!(are_few(&message), Ok(true), "and the decoder refuses it");
        assert_eq!(are_few(&[0x3a, 0x02, 0x0a]), Err(Malformed::Truncated));
    }
}
