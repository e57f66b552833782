//! `tidings ledger`: checks what a node has on disk.
//!
//! Changes nothing, and keeps a writer out while it looks.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use serde::Serialize;
use tidings_ledger::Audit;
use tidings_msp::channel_config::ChannelConfig;
use tidings_msp::verify_block::verify_view;
use tidings_proto::block::BlockView;

use super::outline::plural;
use super::print;

/// Look after the ledger folder of a node.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check every block of a ledger folder, from the disk up to the signatures.
    ///
    /// Checked are the records and index files, block numbers, the hash chain, every data hash,
    /// and every orderer signature under the configuration that was in force; block 0 is trusted,
    /// as it is when a peer joins. Nothing is changed: the incomplete record that a crash may
    /// leave at the end is reported, and cut when a node opens the folder. The node must be
    /// stopped.
    ///
    /// Exit status 0 only if every block is good.
    #[command(after_help = "Examples:
  tidings ledger verify demo/nodes/peer0.org1.demo/channels/tidings
  tidings ledger verify --json ledger | jq .last_block_hash")]
    Verify {
        /// The folder that holds the .blocks files.
        dir: PathBuf,
        /// Print one JSON object instead of a line.
        #[arg(long)]
        json: bool,
    },
}

/// What a good ledger holds.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    channel: String,
    /// Blocks in it.
    pub(crate) height: u64,
    /// The hash of the last header in hex.
    pub(crate) last_block_hash: String,
    config_sequence: u64,
    /// Bytes of an incomplete record at the end.
    torn_bytes: u64,
}

impl Command {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        let Self::Verify { dir, json } = self;
        let report = verify(&dir)?;
        if json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
        }
        print(&report.text(&dir))
    }
}

/// Checks a whole ledger whose first block is trusted.
pub(crate) fn verify(dir: &Path) -> Result<Report> {
    let mut audit = Audit::open(dir)?;
    let mut rules: Option<ChannelConfig> = None;
    for block in audit.by_ref() {
        let block = block?;
        let place = || {
            format!(
                "{}: block {}",
                dir.display(),
                block.number().unwrap_or_default()
            )
        };
        rules = Some(match rules {
            None => ChannelConfig::from_config_block(block.bytes())
                .with_context(|| format!("{} cannot begin a channel", place()))?,
            Some(rules) => next_rules(rules, &block).with_context(place)?,
        });
    }
    let rules = rules.ok_or_else(|| anyhow!("{} holds no block yet", dir.display()))?;
    let tip = audit.tip();
    Ok(Report {
        channel: rules.channel_id().to_owned(),
        height: tip.height(),
        last_block_hash: tip
            .last_hash()
            .map(|hash| hex::encode(hash.as_bytes()))
            .unwrap_or_default(),
        config_sequence: rules.sequence(),
        torn_bytes: audit.torn().map_or(0, |cut| cut.bytes),
    })
}

/// The rules after a block that the rules before it find good.
fn next_rules(rules: ChannelConfig, block: &BlockView) -> Result<ChannelConfig> {
    let number = block.number().unwrap_or_default();
    let facts = verify_view(&rules, rules.channel_id(), number, block)?;
    if facts.is_config {
        return rules
            .apply(block.bytes())
            .context("its configuration is refused");
    }
    Ok(rules)
}

impl Report {
    fn text(&self, dir: &Path) -> String {
        let torn = match self.torn_bytes {
            0 => String::new(),
            bytes => format!(
                "An incomplete record of {bytes} bytes follows, as a crash leaves it; the next start cuts it.\n"
            ),
        };
        let height = usize::try_from(self.height).unwrap_or(usize::MAX);
        format!(
            "good: {} holds {} of channel {}, configuration sequence {}, last block {}\n{torn}",
            dir.display(),
            plural(height, "block"),
            self.channel,
            self.config_sequence,
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
            (report.height, report.config_sequence, report.torn_bytes),
            (20, 2, 0)
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
