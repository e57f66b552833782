//! Where the blocks of a demo come from: a client that submits, or the files of a recording.
//!
//! Promises: the rate is kept as long as the orderer keeps up; nothing is skipped to catch up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Interval, MissedTickBehavior};

use super::load::Load;
use crate::orderer::{self, Chain, Orderer};

/// Submits blocks of transactions until there are enough, or for ever.
pub(crate) async fn submit(
    orderer: &Orderer,
    load: &Load,
    rate: f64,
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
pub(crate) fn recorded_files(dir: &Path) -> Result<Vec<PathBuf>> {
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

/// Gives the blocks of a recording to the orderer, which serves them.
pub(crate) async fn replay(chain: &Arc<Chain>, files: Vec<PathBuf>, rate: f64) -> Result<()> {
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
fn beat(rate: f64) -> Option<Interval> {
    if rate <= 0.0 {
        return None;
    }
    let mut interval = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}
