//! A serialized block, looked at where it lies.
//!
//! What is hashed, signed, stored and forwarded is the block as it was received, so a block is
//! walked in place: every part handed out is a slice of the same bytes, and nothing the bytes say
//! sizes an allocation. The walk reads what the Go runtime reads: repeated parts merge, unknown
//! fields are passed over. Hashing and signatures are not done here.

mod endorsed;
mod names;
mod private;
pub mod purged;
mod shape;
mod told;

use bytes::Bytes;

pub use self::{
    endorsed::{
        EndorsedTransaction, Endorsement, NotEndorsed, PUBLIC_WRITES_MAX,
        TRANSACTION_COLLECTIONS_MAX, TouchedNamespace,
    },
    names::{code_name, type_name},
    private::{ENDORSERS_MAX, HashedWrite, PrivateWrites, PublicWrite},
    told::Event,
};

use crate::{
    common::{BlockHeader, HeaderType},
    wire::{Field, Fields, Malformed, Value},
};

/// A serialized `common.Block` whose structure was walked once from end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockView {
    bytes: Bytes,
    header: Option<BlockHeader>,
    transactions_len: usize,
    metadata_len: usize,
}

impl BlockView {
    /// Walks the bytes. Header, data and metadata may each be missing: that is for whoever
    /// verifies the block to judge.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let mut header: Option<BlockHeader> = None;
        let (mut transactions_len, mut metadata_len) = (0, 0);
        for field in Fields::new(&bytes) {
            match field? {
                Field {
                    number: 1,
                    value: Value::Bytes(part),
                    ..
                } => {
                    merge_header(header.get_or_insert_default(), &bytes, part)?;
                }
                Field {
                    number: 2,
                    value: Value::Bytes(part),
                    ..
                } => {
                    transactions_len += entries_len(part)?;
                }
                Field {
                    number: 3,
                    value: Value::Bytes(part),
                    ..
                } => {
                    metadata_len += entries_len(part)?;
                }
                _ => {}
            }
        }
        Ok(Self {
            bytes,
            header,
            transactions_len,
            metadata_len,
        })
    }

    /// The whole block as it was received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The header, if there is one.
    pub fn header(&self) -> Option<&BlockHeader> {
        self.header.as_ref()
    }

    /// The number in the header.
    pub fn number(&self) -> Option<u64> {
        self.header.as_ref().map(|header| header.number)
    }

    /// The hashed and signed form of the header.
    pub fn header_asn1(&self) -> Option<Vec<u8>> {
        let header = self.header.as_ref()?;
        Some(header_asn1(
            header.number,
            &header.previous_hash,
            &header.data_hash,
        ))
    }

    /// Serialized transaction envelopes in order. Their plain concatenation is what the data
    /// hash covers.
    pub fn transactions(&self) -> Entries<'_> {
        Entries::new(&self.bytes, 2)
    }

    /// How many transactions there are.
    pub fn transactions_len(&self) -> usize {
        self.transactions_len
    }

    /// Metadata entries in order; which is which, `common::BlockMetadataIndex` says.
    pub fn metadata(&self) -> Entries<'_> {
        Entries::new(&self.bytes, 3)
    }

    /// How many metadata entries there are.
    pub fn metadata_len(&self) -> usize {
        self.metadata_len
    }

    /// The channel that the first transaction names. This is what says which channel a block
    /// belongs to.
    pub fn channel_id(&self) -> Result<String, NoHead> {
        let first = self.transactions().next().ok_or(NoHead::NoTransaction)?;
        TransactionHead::parse(&first).map(|head| head.channel_id.to_owned())
    }

    /// A block with exactly one transaction, whose type is CONFIG.
    pub fn is_config_block(&self) -> bool {
        if self.transactions_len != 1 {
            return false;
        }
        let head = |envelope: Bytes| TransactionHead::parse(&envelope).map(|head| head.header_type);
        self.transactions().next().map(head) == Some(Ok(HeaderType::Config as i32))
    }
}

/// Entries of a block's data or metadata, each a slice of the block.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    block: &'a Bytes,
    list: u64,
    parts: Fields<'a>,
    entries: Fields<'a>,
}

impl<'a> Entries<'a> {
    fn new(block: &'a Bytes, list: u64) -> Self {
        Self {
            block,
            list,
            parts: Fields::new(block),
            entries: Fields::new(&[]),
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            for entry in self.entries.by_ref() {
                if let Ok(Field {
                    number: 1,
                    value: Value::Bytes(entry),
                    ..
                }) = entry
                {
                    return Some(self.block.slice_ref(entry));
                }
            }
            let list = self.list;
            let part = self.parts.by_ref().find_map(|field| match field {
                Ok(Field {
                    number,
                    value: Value::Bytes(part),
                    ..
                }) if number == list => Some(part),
                _ => None,
            })?;
            self.entries = Fields::new(part);
        }
    }
}

/// What routes a transaction: the parts of its channel header that blocks are handled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionHead<'a> {
    /// A number of `common::HeaderType`, or an unknown one.
    pub header_type: i32,
    /// The channel it was made for.
    pub channel_id: &'a str,
    /// The id that its creator gave it; may be empty.
    pub tx_id: &'a str,
}

impl<'a> TransactionHead<'a> {
    /// Reads the head out of a serialized `common.Envelope`.
    pub fn parse(envelope: &'a [u8]) -> Result<Self, NoHead> {
        let payload = last_bytes(envelope, 1)?.unwrap_or_default();
        let mut header = None;
        for field in Fields::new(payload) {
            if let Field {
                number: 1,
                value: Value::Bytes(part),
                ..
            } = field?
            {
                // A repeated header merges: what the later one does not name stays.
                let channel_header = last_bytes(part, 1)?;
                header = Some(channel_header.or_else(|| header.flatten()));
            }
        }
        let channel_header = header.ok_or(NoHead::NoHeader)?.unwrap_or_default();
        Self::of_channel_header(channel_header)
    }

    fn of_channel_header(channel_header: &'a [u8]) -> Result<Self, NoHead> {
        let mut head = Self {
            header_type: 0,
            channel_id: "",
            tx_id: "",
        };
        for field in Fields::new(channel_header) {
            match field? {
                Field {
                    number: 1,
                    value: Value::Varint(value),
                    ..
                } => {
                    head.header_type = low_32_bits(value);
                }
                Field {
                    number: 3,
                    value: Value::Bytes(timestamp),
                    ..
                } => {
                    Fields::new(timestamp).try_for_each(|field| field.map(drop))?;
                }
                Field {
                    number: 4,
                    value: Value::Bytes(text),
                    ..
                } => head.channel_id = utf8(text)?,
                Field {
                    number: 5,
                    value: Value::Bytes(text),
                    ..
                } => head.tx_id = utf8(text)?,
                _ => {}
            }
        }
        Ok(head)
    }
}

/// Why nothing can be said about a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoHead {
    /// The block holds none.
    #[error("the block has no transaction")]
    NoTransaction,
    /// The payload has no header.
    #[error("the transaction has no header")]
    NoHeader,
    /// A part of it is not a protobuf message.
    #[error("the transaction does not parse: {0}")]
    Malformed(#[from] Malformed),
}

/// The hashed and signed form of a block header: DER
/// `SEQUENCE { INTEGER number, OCTET STRING previous_hash, OCTET STRING data_hash }`.
pub fn header_asn1(number: u64, previous_hash: &[u8], data_hash: &[u8]) -> Vec<u8> {
    let mut integer = vec![0];
    integer.extend(number.to_be_bytes());
    // As few bytes as keep the number positive.
    let padding = integer
        .windows(2)
        .take_while(|pair| pair[0] == 0 && pair[1] < 0x80)
        .count();
    let mut content = Vec::new();
    der(
        0x02,
        integer.get(padding..).unwrap_or_default(),
        &mut content,
    );
    der(0x04, previous_hash, &mut content);
    der(0x04, data_hash, &mut content);
    let mut sequence = Vec::new();
    der(0x30, &content, &mut sequence);
    sequence
}

fn der(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let digits = length.get(zeros..).unwrap_or_default();
    match digits {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).expect("a length has at most eight bytes"));
            out.extend(long);
        }
    }
    out.extend(content);
}

fn merge_header(header: &mut BlockHeader, block: &Bytes, part: &[u8]) -> Result<(), Malformed> {
    for field in Fields::new(part) {
        match field? {
            Field {
                number: 1,
                value: Value::Varint(number),
                ..
            } => header.number = number,
            Field {
                number: 2,
                value: Value::Bytes(hash),
                ..
            } => {
                header.previous_hash = block.slice_ref(hash);
            }
            Field {
                number: 3,
                value: Value::Bytes(hash),
                ..
            } => {
                header.data_hash = block.slice_ref(hash);
            }
            _ => {}
        }
    }
    Ok(())
}

fn entries_len(part: &[u8]) -> Result<usize, Malformed> {
    let mut len = 0;
    for field in Fields::new(part) {
        len += usize::from(matches!(
            field?,
            Field {
                number: 1,
                value: Value::Bytes(_),
                ..
            }
        ));
    }
    Ok(len)
}

fn last_bytes(message: &[u8], number: u64) -> Result<Option<&[u8]>, Malformed> {
    let mut last = None;
    for field in Fields::new(message) {
        match field? {
            Field {
                number: n,
                value: Value::Bytes(value),
                ..
            } if n == number => {
                last = Some(value);
            }
            _ => {}
        }
    }
    Ok(last)
}

fn utf8(text: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(text).map_err(|_where| Malformed::Utf8)
}

/// What protobuf makes of a varint in an `int32` field: the low half, whatever stands above it.
fn low_32_bits(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
