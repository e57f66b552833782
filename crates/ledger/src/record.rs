//! One block in a segment file: a head that proves itself, then the block's bytes.
//!
//! The head carries how many blocks were on disk when it was written. A good head behind a bad
//! record therefore proves that the bad one had been committed, which is how damage is told from
//! a torn tail. The checks are salted with a number that never leaves the folder, so that nobody
//! can plant such a head inside a transaction.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::Fault;

/// The largest block that is stored: above the 100 MiB that a gossip message may have, and small
/// enough that a wrong length in a file cannot ask for all memory.
pub const BLOCK_LEN_MAX: usize = 128 << 20;

/// Bytes in front of each block.
pub(crate) const HEAD_LEN: usize = 40;

/// What a record begins with.
pub(crate) const MAGIC: [u8; 4] = *b"TDBK";

/// A random number in the head of a segment file that all its checks depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) [u8; 8]);

impl Salt {
    /// First eight bytes of the hash of salt and parts.
    pub(crate) fn check(self, parts: &[&[u8]]) -> [u8; 8] {
        let mut hash = Sha256::new_with_prefix(self.0);
        for part in parts {
            hash.update(part);
        }
        let mut check = [0; 8];
        check.copy_from_slice(&hash.finalize()[..8]);
        check
    }
}

/// What stands in front of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) len: u32,
    pub(crate) number: u64,
    /// Blocks below this number were on disk when this record was written.
    pub(crate) synced: u64,
    pub(crate) body_check: [u8; 8],
}

impl Head {
    /// Nothing when the block is larger than [`BLOCK_LEN_MAX`].
    pub(crate) fn of(salt: Salt, number: u64, synced: u64, block: &[u8]) -> Option<Self> {
        let len = u32::try_from(block.len())
            .ok()
            .filter(|_| block.len() <= BLOCK_LEN_MAX)?;
        Some(Self {
            len,
            number,
            synced,
            body_check: salt.check(&[block]),
        })
    }

    pub(crate) fn encode(&self, salt: Salt) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        head[..4].copy_from_slice(&MAGIC);
        head[4..8].copy_from_slice(&self.len.to_le_bytes());
        head[8..16].copy_from_slice(&self.number.to_le_bytes());
        head[16..24].copy_from_slice(&self.synced.to_le_bytes());
        head[24..32].copy_from_slice(&self.body_check);
        let check = salt.check(&[&head[..32]]);
        head[32..].copy_from_slice(&check);
        head
    }

    pub(crate) fn decode(head: &[u8; HEAD_LEN], salt: Salt) -> Option<Self> {
        if head[..4] != MAGIC || head[32..] != salt.check(&[&head[..32]]) {
            return None;
        }
        Some(Self {
            len: u32_at(head, 4),
            number: u64_at(head, 8),
            synced: u64_at(head, 16),
            body_check: bytes_at(head, 24),
        })
    }
}

/// What is found at an offset.
pub(crate) enum Found {
    /// A whole record, and where the next one begins.
    Record {
        number: u64,
        block: Bytes,
        next: u64,
    },
    /// The end, exactly.
    End,
    /// Neither.
    Bad(Fault),
}

/// Reads the record at `offset` of a file whose records end at `end`. A length is believed only
/// if so many bytes are there.
pub(crate) fn read(file: &File, salt: Salt, offset: u64, end: u64) -> io::Result<Found> {
    if offset == end {
        return Ok(Found::End);
    }
    let body = offset.saturating_add(HEAD_LEN as u64);
    if body > end {
        return Ok(Found::Bad(Fault::RecordHead));
    }
    let mut head = [0; HEAD_LEN];
    file.read_exact_at(&mut head, offset)?;
    let Some(head) = Head::decode(&head, salt) else {
        return Ok(Found::Bad(Fault::RecordHead));
    };
    let next = body.saturating_add(head.len.into());
    let len = usize::try_from(head.len)
        .ok()
        .filter(|len| *len <= BLOCK_LEN_MAX && next <= end);
    let Some(len) = len else {
        return Ok(Found::Bad(Fault::Checksum));
    };
    let mut block = vec![0; len];
    file.read_exact_at(&mut block, body)?;
    if salt.check(&[&block]) != head.body_check {
        return Ok(Found::Bad(Fault::Checksum));
    }
    Ok(Found::Record {
        number: head.number,
        block: block.into(),
        next,
    })
}

/// The little-endian number at a place that the format fixes.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

/// The little-endian number at a place that the format fixes.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

/// The bytes at a place that the format fixes.
pub(crate) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(*b"saltsalt");

    #[test]
    fn a_head_is_laid_out_as_the_format_says() {
        let head = Head::of(SALT, 258, 7, b"block").unwrap();
        let bytes = head.encode(SALT);
        assert_eq!(&bytes[..4], b"TDBK");
        assert_eq!(bytes[4..8], [5, 0, 0, 0]);
        assert_eq!(bytes[8..16], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..24], [7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..32], Sha256::digest(b"saltsaltblock")[..8]);
        let signed = [b"saltsalt", &bytes[..32]].concat();
        assert_eq!(bytes[32..], Sha256::digest(signed)[..8]);
        assert_eq!(Head::decode(&bytes, SALT), Some(head));
    }

    #[test]
    fn a_head_with_any_bit_flipped_or_another_salt_is_no_head() {
        let good = Head::of(SALT, 1, 1, b"block").unwrap().encode(SALT);
        assert_eq!(Head::decode(&good, Salt(*b"pepperrr")), None);
        for bit in 0..HEAD_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bad, SALT), None, "bit {bit}");
        }
    }

    #[test]
    fn a_block_at_the_limit_has_a_head_and_one_above_has_none() {
        let block = vec![0; BLOCK_LEN_MAX + 1];
        assert!(Head::of(SALT, 0, 0, &block[1..]).is_some());
        assert!(Head::of(SALT, 0, 0, &block).is_none());
    }
}
