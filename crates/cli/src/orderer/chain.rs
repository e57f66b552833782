//! The orderer's chain: on disk, and the configuration that its last block leaves in force.
//!
//! Promises: a block is announced only when it is on disk; readers never wait for the writer.
//! Does not judge signatures: what comes here, the orderer made or was given as a recording.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result};
use bytes::Bytes;
use tidings_ledger::{Ledger, ReadError, Reader};
use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::block::BlockView;
use tokio::sync::watch;

use super::block::Place;

/// The one chain of an orderer.
pub(crate) struct Chain {
    ledger: Mutex<Ledger>,
    reader: Reader,
    config: RwLock<InForce>,
    height: watch::Sender<u64>,
    on_cut: Box<dyn Fn(&BlockView) + Send + Sync>,
}

#[derive(Clone)]
struct InForce {
    config: Arc<ChannelConfig>,
    number: u64,
}

impl Chain {
    /// Opens the ledger folder, or begins it with the genesis block. `on_cut` hears of every
    /// later block before anybody else can get it.
    pub(crate) fn open(
        dir: &Path,
        genesis: &Bytes,
        on_cut: Box<dyn Fn(&BlockView) + Send + Sync>,
    ) -> Result<Self> {
        let mut ledger = Ledger::open(dir)?;
        let mut config = ChannelConfig::from_config_block(genesis).context("the genesis block")?;
        if ledger.height() == 0 {
            ledger.append(&[BlockView::parse(genesis.clone()).context("the genesis block")?])?;
        }
        let reader = ledger.reader();
        let mut number = 0;
        for block in reader.blocks(1..reader.height()) {
            let block = block?;
            if block.is_config_block() {
                config = config.apply(block.bytes())?;
                number = block.number().unwrap_or(number);
            }
        }
        Ok(Self {
            height: watch::Sender::new(ledger.height()),
            ledger: Mutex::new(ledger),
            reader,
            config: RwLock::new(InForce {
                config: Arc::new(config),
                number,
            }),
            on_cut,
        })
    }

    /// Appends the next block; it is on disk and announced when this returns. Blocks the thread.
    pub(crate) fn append(&self, block: BlockView) -> Result<()> {
        let changed = if block.is_config_block() {
            Some(
                self.config()
                    .apply(block.bytes())
                    .context("a configuration block")?,
            )
        } else {
            None
        };
        (self.on_cut)(&block);
        let number = block.number().unwrap_or_default();
        let height = {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.append(&[block])?.height()
        };
        if let Some(config) = changed {
            let mut in_force = self.config.write().unwrap_or_else(PoisonError::into_inner);
            *in_force = InForce {
                config: Arc::new(config),
                number,
            };
        }
        self.height.send_replace(height);
        Ok(())
    }

    /// Where the next block goes.
    pub(crate) fn next(&self) -> Place {
        let tip = self.reader.tip();
        Place {
            number: tip.height(),
            previous_hash: tip
                .last_hash()
                .map_or_else(Vec::new, |hash| hash.as_bytes().to_vec()),
            last_config: self.in_force().number,
        }
    }

    /// A block, if there is one of that number. Reads the disk.
    pub(crate) fn block(&self, number: u64) -> Result<Option<BlockView>, ReadError> {
        self.reader.block(number)
    }

    /// Blocks so far.
    pub(crate) fn height(&self) -> u64 {
        self.reader.height()
    }

    /// The hash of the last header.
    pub(crate) fn last_hash(&self) -> Option<[u8; 32]> {
        self.reader.last_hash().map(|hash| *hash.as_bytes())
    }

    /// Hears of new heights; ends with the chain.
    pub(crate) fn heights(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<ChannelConfig> {
        self.in_force().config
    }

    fn in_force(&self) -> InForce {
        self.config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
