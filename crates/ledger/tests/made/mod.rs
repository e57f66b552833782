//! Chains made for tests, and children that run one test of the same binary.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use tidings_ledger::{Audit, BlockHash, Ledger, ReadError, Retention, Settings, Tip, data_hash};
use tidings_proto::{
    Message,
    block::BlockView,
    common::{
        Block, BlockData, BlockHeader, BlockMetadata, ChannelHeader, Envelope, Header, Payload,
    },
};

/// Segments so small that every test crosses a few.
pub(crate) const SMALL: Settings = Settings {
    segment_len_max: 2_000,
    segment_entries_max: 64,
    retention: Retention::ALL,
};

pub(crate) fn tx_id(number: u64, position: usize) -> String {
    format!("tx {number}.{position}")
}

/// A serialized transaction whose data is so many bytes of `fill`.
pub(crate) fn transaction(tx_id: String, len: usize, fill: u8) -> Bytes {
    let channel_header = ChannelHeader {
        r#type: 3,
        channel_id: "mychannel".into(),
        tx_id,
        ..Default::default()
    };
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: Bytes::new(),
    };
    let payload = Payload {
        header: Some(header),
        data: vec![fill; len].into(),
    };
    let payload = payload.encode_to_vec().into();
    Envelope {
        payload,
        signature: Bytes::from_static(b"signature"),
    }
    .encode_to_vec()
    .into()
}

/// The block that continues `tip`, with one transaction for each length.
pub(crate) fn block(tip: Tip, lens: &[usize]) -> BlockView {
    let number = tip.height();
    let fill = number.to_le_bytes()[0];
    let data = lens
        .iter()
        .enumerate()
        .map(|(position, len)| transaction(tx_id(number, position), *len, fill))
        .collect();
    block_of(tip, data)
}

pub(crate) fn block_of(tip: Tip, data: Vec<Bytes>) -> BlockView {
    let previous_hash = tip
        .last_hash()
        .map(|hash| Bytes::copy_from_slice(hash.as_bytes()));
    let mut block = Block {
        header: Some(BlockHeader {
            number: tip.height(),
            previous_hash: previous_hash.unwrap_or_default(),
            data_hash: Bytes::new(),
        }),
        data: Some(BlockData { data }),
        metadata: Some(BlockMetadata {
            metadata: vec![Bytes::new(); 5],
        }),
    };
    let hash = data_hash(&view(&block));
    block.header.as_mut().expect("just made").data_hash = Bytes::copy_from_slice(&hash);
    view(&block)
}

pub(crate) fn view(block: &Block) -> BlockView {
    BlockView::parse(block.encode_to_vec().into()).expect("an encoded block parses")
}

/// A chain as it should be on disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    pub(crate) blocks: Vec<BlockView>,
    pub(crate) tips: Vec<Tip>,
}

impl Chain {
    pub(crate) fn tip(&self) -> Tip {
        self.tips.last().copied().unwrap_or_default()
    }

    /// Makes the next blocks and appends them to the ledger in one group.
    pub(crate) fn append(&mut self, ledger: &mut Ledger, group: &[&[usize]]) {
        let mut blocks = Vec::new();
        for lens in group {
            let tip = blocks.last().map_or_else(|| self.tip(), behind);
            blocks.push(block(tip, lens));
        }
        let tip = ledger
            .append(&blocks)
            .expect("the blocks continue the chain");
        self.extend(blocks);
        assert_eq!(tip, self.tip());
    }

    pub(crate) fn extend(&mut self, blocks: Vec<BlockView>) {
        for block in blocks {
            self.tips.push(behind(&block));
            self.blocks.push(block);
        }
    }

    pub(crate) fn truncate(&mut self, height: u64) {
        let height = usize::try_from(height).expect("a test chain is short");
        self.blocks.truncate(height);
        self.tips.truncate(height);
    }

    /// The ledger holds this chain and no block more, whichever way it is asked.
    pub(crate) fn check(&self, ledger: &Ledger) {
        let reader = ledger.reader();
        assert_eq!(reader.tip(), self.tip());
        assert_eq!(reader.block(reader.height()).unwrap(), None);
        let all: Result<Vec<_>, ReadError> = reader.blocks(0..u64::MAX).collect();
        assert_eq!(all.unwrap(), self.blocks);
        for (number, block) in (0..).zip(&self.blocks) {
            assert_eq!(reader.block(number).unwrap().as_ref(), Some(block));
            let hash = BlockHash::of(block).unwrap();
            assert_eq!(reader.block_by_hash(&hash).unwrap().as_ref(), Some(block));
            for (position, envelope) in block.transactions().enumerate() {
                let found = reader
                    .transaction(&tx_id(number, position))
                    .unwrap()
                    .unwrap();
                assert_eq!((&found.block, found.position), (block, position));
                assert_eq!(found.envelope, envelope);
            }
        }
    }

    /// As `check`, for the files themselves.
    pub(crate) fn audit(&self, dir: &Path) {
        let mut audit = Audit::open(dir).unwrap();
        let all: Result<Vec<_>, ReadError> = audit.by_ref().collect();
        assert_eq!(all.unwrap(), self.blocks);
        assert_eq!((audit.tip(), audit.torn()), (self.tip(), None));
    }
}

pub(crate) fn behind(block: &BlockView) -> Tip {
    Tip::of(block).expect("a made block has a header")
}

/// Files of the ledger with this ending, in order.
pub(crate) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == ending)
        })
        .collect();
    files.sort();
    files
}

pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// This test binary again, to run one test in a child process with a folder to work on.
pub(crate) fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir);
    command
}

/// The folder to work on, in a child only.
pub(crate) fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

const CHILD_DIR: &str = "TIDINGS_LEDGER_CHILD_DIR";
