//! Where the blocks of a demo come from: a client that submits, or the files of a recording.
//!
//! Promises: the rate is kept as long as the orderer keeps up; nothing is skipped to catch up; a
//! recording is served only if every node will find every block of it good.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tidings_ledger::BlockHash;
use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::block::BlockView;
use tokio::time::{Interval, MissedTickBehavior};

use super::load::Load;
use crate::commands::block::Judge;
use crate::orderer::{self, Chain, Orderer};

/// How fast blocks come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// So many a second.
    PerSecond(f64),
    /// As fast as the orderer can.
    Max,
}

/// Submits blocks of transactions until there are enough, or for ever.
pub(crate) async fn submit(
    orderer: &Orderer,
    load: &Load,
    rate: Rate,
    blocks: Option<u64>,
) -> Result<()> {
    let mut beat = beat(rate);
    let mut made = 0;
    while blocks.is_none_or(|blocks| made < blocks) {
        if let Some(beat) = &mut beat {
            beat.tick().await;
        }
        for _ in 0..load.per_block() {
            let transaction = load.transaction()?;
            orderer
                .submit(transaction)
                .await
                .context("the orderer refuses the load")?;
        }
        made += 1;
    }
    Ok(())
}

/// Blocks of a recording after the genesis block, in order.
fn recorded_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let file = |number: u64| dir.join("blocks").join(format!("ordered_{number:02}.pb"));
    let files: Vec<PathBuf> = (1..).map(file).take_while(|path| path.is_file()).collect();
    let missing = 1 + files.len() as u64;
    ensure!(
        !file(missing + 1).is_file(),
        "{} is missing although the block after it is there",
        file(missing).display()
    );
    ensure!(
        !files.is_empty(),
        "{} holds no blocks/ordered_01.pb: name a folder with a recording",
        dir.display()
    );
    Ok(files)
}

/// The blocks of a recording, and the configuration at their end. All of them were found good:
/// nodes would ask again and again for one that is not.
pub(crate) struct Recording {
    /// Files of blocks after the genesis block, in order.
    pub(crate) files: Vec<PathBuf>,
    /// What is in force after the last of them.
    pub(crate) config: ChannelConfig,
}

impl Recording {
    /// Reads and judges every block, as `tidings block verify` does and as a ledger will.
    pub(crate) fn read(dir: &Path, genesis: &Bytes) -> Result<Self> {
        let files = recorded_files(dir)?;
        let first = dir.join("genesis.block");
        let mut judge = Judge::new(&first, genesis.clone())?;
        let genesis = BlockView::parse(genesis.clone());
        let mut last = BlockHash::of(&genesis.context("the genesis block")?);
        for (number, path) in (1..).zip(&files) {
            let block = orderer::read_block(path)?;
            if let Err(reason) = judge.judge(&block, number) {
                bail!(
                    "the recording cannot be served: {}: {reason}",
                    path.display()
                );
            }
            let previous = block.header().map(|header| &header.previous_hash[..]);
            let follows = previous == last.as_ref().map(|hash| &hash.as_bytes()[..]);
            ensure!(
                follows,
                "the recording cannot be served: {}: its previous hash is not the hash of the block before",
                path.display()
            );
            last = BlockHash::of(&block);
        }
        let config = judge.config().clone();
        Ok(Self { files, config })
    }
}

/// Gives the blocks of a recording to the orderer, which serves them.
pub(crate) async fn replay(chain: &Arc<Chain>, files: Vec<PathBuf>, rate: Rate) -> Result<()> {
    let mut beat = beat(rate);
    for path in files {
        if let Some(beat) = &mut beat {
            beat.tick().await;
        }
        let chain = Arc::clone(chain);
        tokio::task::spawn_blocking(move || {
            let block = orderer::read_block(&path)?;
            chain
                .append(block)
                .with_context(|| format!("cannot serve {}", path.display()))
        })
        .await??;
    }
    Ok(())
}

/// Ticks at the rate; nothing for as fast as possible.
fn beat(rate: Rate) -> Option<Interval> {
    let Rate::PerSecond(rate) = rate else {
        return None;
    };
    let mut interval = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}
