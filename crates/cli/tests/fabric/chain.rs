//! Chains set side by side: what the orderer keeps, what Go peers keep, what a node of ours gives.
//!
//! Promises: a difference in any byte that the orderer signed or hashed is found. Validation codes
//! and commit hashes, which Go peers add on their own, are no part of a chain.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tidings_proto::{
    Message as _,
    common::{Block, BlockData, BlockHeader, BlockMetadata},
};

/// Metadata of blocks that comes from the orderer: signatures, and what they are over.
const ORDERERS: [usize; 3] = [0, 1, 3];

/// Metadata that Go peers add: validation codes.
const CODES: usize = 2;

/// What of a block must be the same everywhere: header, data, and the orderer's signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Essence {
    header: BlockHeader,
    data: Vec<Bytes>,
    signed: Vec<Bytes>,
}

impl Essence {
    /// Of a serialized block.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self::of(Block::decode(bytes).unwrap())
    }

    fn of(block: Block) -> Self {
        let metadata = block.metadata.unwrap_or_default().metadata;
        let given = |index: usize| metadata.get(index).cloned().unwrap_or_default();
        Self {
            header: block.header.unwrap(),
            data: block.data.unwrap().data,
            signed: ORDERERS.map(given).to_vec(),
        }
    }

    /// As a block again, without what was left out.
    pub(crate) fn block(&self) -> Block {
        let mut metadata = vec![Bytes::new(); 5];
        for (index, signed) in ORDERERS.into_iter().zip(&self.signed) {
            metadata[index].clone_from(signed);
        }
        Block {
            header: Some(self.header.clone()),
            data: Some(BlockData {
                data: self.data.clone(),
            }),
            metadata: Some(BlockMetadata { metadata }),
        }
    }

    /// Its number.
    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }
}

/// Every block in the files of a Fabric ledger, an orderer's or a peer's, from block 0 on.
/// Whoever writes them may be doing so; what is not complete yet is left out.
pub(crate) fn stored(folder: &Path) -> Vec<Essence> {
    let mut blocks = Vec::new();
    for file in files(folder) {
        let bytes = Bytes::from(fs::read(file).unwrap());
        let mut rest = Stored(bytes);
        while let Some(block) = rest.framed() {
            blocks.push(Essence::of(Stored(block).block().unwrap()));
        }
    }
    for (number, block) in (0..).zip(&blocks) {
        assert_eq!(block.number(), number, "a ledger with a gap");
    }
    blocks
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("blockfile_")
        })
        .collect();
    files.sort();
    files
}

/// Where the codes of a block lie in the files of a Go peer's ledger.
pub(crate) fn codes_place(folder: &Path, number: u64) -> (PathBuf, usize, Bytes) {
    for file in files(folder) {
        let bytes = Bytes::from(fs::read(&file).unwrap());
        let mut rest = Stored(bytes.clone());
        while let Some(block) = rest.framed() {
            let block = Stored(block).block().unwrap();
            if block.header.unwrap().number == number {
                let codes = block.metadata.unwrap().metadata[CODES].clone();
                // A part of the file, as all that is read.
                let offset = codes.as_ptr() as usize - bytes.as_ptr() as usize;
                return (file, offset, codes);
            }
        }
    }
    panic!("block {number} is not there");
}

/// What is left to read of Fabric's own storage format: counts and lengths are varints.
struct Stored(Bytes);

impl Stored {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for (index, byte) in self.0.iter().enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = self.0.slice(index + 1..);
                return Some(number);
            }
        }
        None
    }

    fn framed(&mut self) -> Option<Bytes> {
        let whole = self.0.clone();
        let len = usize::try_from(self.number()?).unwrap();
        if self.0.len() < len {
            self.0 = whole;
            return None;
        }
        Some(self.0.split_to(len))
    }

    fn list(&mut self) -> Option<Vec<Bytes>> {
        let count = self.number()?;
        (0..count).map(|_| self.framed()).collect()
    }

    fn block(&mut self) -> Option<Block> {
        let header = BlockHeader {
            number: self.number()?,
            data_hash: self.framed()?,
            previous_hash: self.framed()?,
        };
        Some(Block {
            header: Some(header),
            data: Some(BlockData { data: self.list()? }),
            metadata: Some(BlockMetadata {
                metadata: self.list()?,
            }),
        })
    }
}

#[test]
fn a_ledger_that_is_being_written_is_read_as_far_as_it_is_complete() {
    let block = |number: u8| [&[number, 1, 7, 1, 8, 2, 1, 5, 0, 1, 1, 9][..]].concat();
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    for number in [0, 1] {
        bytes.push(12);
        bytes.extend(block(number));
    }
    bytes.extend([12, 2, 1]);
    fs::write(folder.path().join("blockfile_000000"), bytes).unwrap();
    let blocks = stored(folder.path());
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[1].number(), 1);
    assert_eq!(blocks[1].header.data_hash, vec![7]);
    assert_eq!(blocks[1].header.previous_hash, vec![8]);
    assert_eq!(blocks[1].data, [vec![5], vec![]]);
    assert_eq!(blocks[1].signed, [vec![9], vec![], vec![]]);
}
