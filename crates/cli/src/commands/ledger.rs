//! `tidings ledger`: checks what a node has on disk, and takes blocks out and in by files.
//!
//! Keeps a writer out while it works. Only `import` changes anything.

mod blocks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use clap::Subcommand;
use serde::Serialize;
use tidings_ledger::Audit;

use self::blocks::{Export, Import};
use super::block::Judge;
use super::outline::plural;
use super::print;
use crate::complaint::in_one_line;

/// Look after the ledger folder of a node.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check every block of a ledger folder, from the disk up to the signatures.
    ///
    /// Checked are the records and index files, block numbers, the hash chain, every data hash,
    /// and every orderer signature under the configuration that was in force; block 0 is trusted,
    /// as it is when a peer joins. Nothing is changed. The node must be stopped.
    ///
    /// Of a pruned ledger every block that is left is checked, and those below that are held. That
    /// the one before the first of them had the hash that this one names, only the ledger's own note
    /// says, and whoever signed this one.
    ///
    /// A tail that a write left which was broken off is no fault: none of it was ever reported as
    /// committed, and a node cuts it when it opens the folder. It is reported, with its bytes.
    /// Where anything shows that a block had been committed, and it is damaged, that is a fault.
    ///
    /// Exit status 0 only if every block is good. With --json there is one object in any case:
    /// `good`, `reason` if it is not, what was found good, and `torn_tail_bytes`.
    #[command(after_help = "Examples:
  tidings ledger verify demo/nodes/peer0.org1.demo/channels/tidings
  tidings ledger verify --json ledger | jq .last_block_hash")]
    Verify {
        /// The folder that holds the .blocks files.
        dir: PathBuf,
        /// Print one JSON object instead of a line, whatever the verdict.
        #[arg(long)]
        json: bool,
    },
    /// Write blocks of a ledger folder to one file.
    ///
    /// The file has the blocks one after the other, each behind its length as protobuf libraries
    /// write delimited messages. Records, links and data hashes are checked on the way. The node must
    /// be stopped; from one that runs `tidings channel fetch` takes single blocks.
    #[command(after_help = "Examples:
  tidings ledger export data/channels/mychannel mychannel.blocks
  tidings ledger export --from 100 --to 199 data/channels/mychannel part.blocks")]
    Export(Export),
    /// Make a ledger folder of files of blocks, or go on with one.
    ///
    /// Each block's link, data hash and orderer signatures are checked under the configuration that
    /// was in force before it is written. Blocks that the ledger has are passed over. What was found
    /// good before a fault stays: the same command with good files goes on behind it. What was good
    /// before this was broken off stays, too, but for the last blocks, up to 500 or 8 MiB, which wait
    /// to be written together. Where nothing behind block 0 was good nothing is made. The first file of a
    /// new ledger begins with block 0 or 1: what was exported from a pruned ledger wants the blocks
    /// before it.
    ///
    /// To bring a node into the channel, import into channels/NAME below its peer.fileSystemPath
    /// while it is stopped, and start it; or, while it runs and is not in the channel, import and
    /// then join with the same genesis block. It goes on where the ledger ends.
    #[command(after_help = "Examples:
  tidings ledger import --genesis genesis.block mychannel.blocks data/channels/mychannel
  tidings ledger import --genesis genesis.block mychannel_1.block mychannel_2.block ledger")]
    Import(Import),
}

/// What a ledger holds, up to its end or its first fault.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Whether there is no fault.
    good: bool,
    /// The fault.
    reason: Option<String>,
    channel: Option<String>,
    /// The first block that was not pruned.
    first_block: u64,
    /// Blocks below it that are held, and good.
    held_blocks: u64,
    /// How many blocks the chain has, up to the last good one.
    pub(crate) height: u64,
    /// The hash of the last header in hex.
    pub(crate) last_block_hash: String,
    config_sequence: Option<u64>,
    /// Bytes at the end that were never reported as committed and that the next start cuts.
    torn_tail_bytes: u64,
}

impl Command {
    /// Does it; the exit status is part of the answer.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (dir, json) = match self {
            Self::Verify { dir, json } => (dir, json),
            Self::Export(export) => return export.run().map(|()| ExitCode::SUCCESS),
            Self::Import(import) => return import.run().map(|()| ExitCode::SUCCESS),
        };
        let mut report = Report::default();
        let outcome = report.judge(&dir);
        if json {
            report.reason = outcome.as_ref().err().map(in_one_line);
            print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
            return Ok(match outcome {
                Ok(_) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            });
        }
        outcome?;
        print(&report.text(&dir))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Checks a whole ledger whose first block is trusted.
pub(crate) fn verify(dir: &Path) -> Result<Report> {
    let mut report = Report::default();
    report.judge(dir)?;
    Ok(report)
}

impl Report {
    /// Walks the ledger and notes what is good, up to the end or the first fault. Returns with the
    /// rules in force at the end.
    fn judge(&mut self, dir: &Path) -> Result<Judge> {
        let mut audit = Audit::open(dir)?;
        self.first_block = audit.begin().height();
        self.height = self.first_block;
        let mut judge: Option<Judge> = None;
        while let Some(block) = audit.next() {
            let block = block?;
            let number = block.number().unwrap_or_default();
            let place = || format!("{}: block {number}", dir.display());
            let judge = match &mut judge {
                Some(judge) => {
                    let judged = judge.judge(&block, number);
                    judged.map_err(Error::msg).with_context(place)?;
                    judge
                }
                None => judge.insert(
                    Judge::begin(block)
                        .with_context(|| format!("{} cannot begin a channel", place()))?,
                ),
            };
            self.channel = Some(judge.config().channel_id().to_owned());
            self.config_sequence = Some(judge.config().sequence());
            if number < self.first_block {
                self.held_blocks += 1;
                continue;
            }
            let tip = audit.tip();
            self.height = tip.height();
            self.last_block_hash = tip
                .last_hash()
                .map(|hash| hex::encode(hash.as_bytes()))
                .unwrap_or_default();
        }
        let judge = judge.with_context(|| format!("{} holds no block yet", dir.display()))?;
        self.torn_tail_bytes = audit.torn().map_or(0, |cut| cut.bytes);
        self.good = true;
        Ok(judge)
    }

    fn text(&self, dir: &Path) -> String {
        let torn = match self.torn_tail_bytes {
            0 => String::new(),
            bytes => format!(
                "Behind them {bytes} bytes follow that were never reported as committed, as a \
                 write leaves them that was broken off. The next start cuts them and fetches \
                 block {} again. If nothing broke off this node, suspect the disk.\n",
                self.height
            ),
        };
        let blocks = usize::try_from(self.height - self.first_block).unwrap_or(usize::MAX);
        let pruned = match self.first_block {
            0 => String::new(),
            first => format!(" from {first} on, and {} of those below,", self.held_blocks),
        };
        format!(
            "good: {} holds {}{pruned} of channel {}, configuration sequence {}, last block {}\n{torn}",
            dir.display(),
            plural(blocks, "block"),
            self.channel.as_deref().unwrap_or_default(),
            self.config_sequence.unwrap_or_default(),
            self.last_block_hash,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;
    use tidings_ledger::Ledger;
    use tidings_proto::Message;
    use tidings_proto::block::BlockView;
    use tidings_proto::common::Block;

    use super::*;

    fn block(name: &str) -> Option<BlockView> {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/fixtures/blocks/"
        );
        match fs::read(format!("{folder}{name}")) {
            Ok(bytes) => Some(BlockView::parse(bytes.into()).unwrap()),
            Err(_) => {
                let _ = std::io::Write::write_fmt(
                    &mut std::io::stderr(),
                    format_args!(
                        "SKIPPED: ../shared is not here: recorded chain verified on disk\n"
                    ),
                );
                None
            }
        }
    }

    #[test]
    fn a_recorded_chain_is_good_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        for number in 0..20 {
            let Some(block) = block(&format!("block_{number:02}.pb")) else {
                return;
            };
            ledger.append(&[block]).unwrap();
        }
        let hash = hex::encode(ledger.tip().last_hash().unwrap().as_bytes());
        drop(ledger);
        let report = verify(dir.path()).unwrap();
        assert_eq!(
            (
                report.height,
                report.config_sequence,
                report.torn_tail_bytes
            ),
            (20, Some(2), 0)
        );
        assert_eq!(report.last_block_hash, hash);
        assert!(report.text(dir.path()).starts_with("good: "));
    }

    #[test]
    fn a_chain_without_signatures_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let (Some(first), Some(second)) = (block("ordered_00.pb"), block("ordered_01.pb")) else {
            return;
        };
        let mut unsigned = Block::decode(second.bytes().clone()).unwrap();
        unsigned.metadata.as_mut().unwrap().metadata[0] = Bytes::new();
        let unsigned = BlockView::parse(unsigned.encode_to_vec().into()).unwrap();
        ledger.append(&[first, unsigned]).unwrap();
        drop(ledger);
        let error = format!("{:#}", verify(dir.path()).unwrap_err());
        assert!(
            error.contains("block 1") && error.contains("BlockValidation"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_ledger_is_said_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("absent")] {
            let error = format!("{:#}", verify(&path).unwrap_err());
            assert!(!error.contains('\n') && !error.is_empty(), "{error}");
        }
    }
}
