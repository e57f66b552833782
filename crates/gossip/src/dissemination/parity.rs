//! Cutting a block into stripes, and putting it together again.
//!
//! A parity stripe is the exclusive or of all data stripes, the last one padded with zeros. The
//! stripes of a block that is here are slices of it.

use bytes::{Bytes, BytesMut};

use super::message::Cut;

/// The parity stripe of a block.
pub(super) fn parity(block: &[u8], cut: Cut) -> Bytes {
    let mut sum = BytesMut::zeroed(cut.payload_len(cut.k));
    for stripe in 0..cut.k {
        add(&mut sum, block.get(cut.range(stripe)).unwrap_or_default());
    }
    sum.freeze()
}

/// One stripe of a block; empty if the block is not as long as the cut says.
pub(super) fn stripe(block: &Bytes, cut: Cut, stripe: u8) -> Bytes {
    let range = cut.range(stripe);
    match stripe < cut.k {
        true if range.end <= block.len() => block.slice(range),
        true => Bytes::new(),
        false => parity(block, cut),
    }
}

/// The block, if all data stripes are here or one of them can be told from parity.
pub(super) fn assemble<'a>(cut: Cut, piece: impl Fn(u8) -> Option<&'a Bytes>) -> Option<Bytes> {
    if cut.k == 1
        && let Some(whole) = piece(0)
    {
        return Some(whole.clone());
    }
    let missing: Vec<u8> = (0..cut.k).filter(|s| piece(*s).is_none()).collect();
    let rebuilt = match missing.as_slice() {
        [] => None,
        [lost] => Some(rebuild(cut, *lost, &piece)?),
        _ => return None,
    };
    let mut block = BytesMut::new();
    for stripe in 0..cut.k {
        block.extend_from_slice(piece(stripe).or(rebuilt.as_ref())?);
    }
    Some(block.freeze())
}

fn rebuild<'a>(cut: Cut, lost: u8, piece: &impl Fn(u8) -> Option<&'a Bytes>) -> Option<Bytes> {
    let mut sum = BytesMut::from(piece(cut.k)?.as_ref());
    for stripe in (0..cut.k).filter(|s| *s != lost) {
        add(&mut sum, piece(stripe)?);
    }
    sum.truncate(cut.payload_len(lost));
    Some(sum.freeze())
}

fn add(sum: &mut [u8], piece: &[u8]) {
    for (sum, byte) in sum.iter_mut().zip(piece) {
        *sum ^= byte;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_one_stripe_may_be_missing(
            block in prop::collection::vec(any::<u8>(), 1..500),
            k in 1..=32_u8,
            lost in 0..33_u8,
        ) {
            let cut = Cut { len: block.len() as u32, k, p: 1 };
            prop_assume!(cut.is_sound(500));
            let block = Bytes::from(block);
            let pieces: Vec<Bytes> = (0..=k).map(|s| stripe(&block, cut, s)).collect();
            let here = |s: u8| (s != lost).then(|| &pieces[usize::from(s)]);
            prop_assert_eq!(assemble(cut, here), Some(block.clone()));
            for (s, piece) in (0..).zip(&pieces) {
                prop_assert_eq!(piece.len(), cut.payload_len(s));
            }
            let without_parity = |s: u8| (s != lost && s < k).then(|| &pieces[usize::from(s)]);
            let expected = (lost >= k).then_some(block);
            prop_assert_eq!(assemble(cut, without_parity), expected);
        }
    }

    #[test]
    fn stripes_are_slices_of_the_block() {
        let block = Bytes::from(vec![7; 100]);
        let cut = Cut {
            len: 100,
            k: 4,
            p: 0,
        };
        let second = stripe(&block, cut, 1);
        assert_eq!(second.as_ptr(), block[25..].as_ptr());
        assert!(stripe(&Bytes::new(), cut, 1).is_empty());
    }
}
