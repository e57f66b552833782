//! `tidings block verify`: Go's verdict on files, one after the other.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::Serialize;
use tidings_msp::channel_config::{ChannelConfig, ConfigRefused};
use tidings_msp::verify_block::verify_view;
use tidings_proto::block::BlockView;

use super::{Verify, show};
use crate::commands::outline::visible;
use crate::commands::{print, read_input};
use crate::complaint::in_one_line;

/// What is said of one file.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Verdict {
    file: String,
    /// The number inside the block, if it is one.
    number: Option<u64>,
    good: bool,
    /// Why it is refused.
    reason: Option<String>,
    /// Whether it changed the rules for those after it.
    updates_config: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    channel: String,
    good: bool,
    blocks: Vec<Verdict>,
}

pub(super) fn run(arguments: &Verify) -> Result<ExitCode> {
    ensure!(
        arguments.number.is_none() || arguments.files.len() == 1,
        "--number says what one block is claimed to be: give one FILE with it"
    );
    let genesis = read_input(&arguments.genesis)?;
    let mut judge = Judge::new(&arguments.genesis, genesis)?;
    let mut blocks = Vec::new();
    for file in &arguments.files {
        let verdict = judge.verdict(file, &read_input(file)?, arguments.number);
        if !arguments.json {
            print(&verdict.line())?;
        }
        blocks.push(verdict);
    }
    let good = blocks.iter().all(|verdict| verdict.good);
    if arguments.json {
        let report = Report {
            channel: judge.config.channel_id().to_owned(),
            good,
            blocks,
        };
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The rules in force before the next file.
pub(crate) struct Judge {
    config: ChannelConfig,
    genesis: BlockView,
    /// The block that the configuration is from; one that is not newer changes nothing.
    config_number: u64,
}

impl Judge {
    /// Begins with the rules of a configuration block, which is trusted as it is.
    pub(crate) fn new(path: &Path, bytes: Bytes) -> Result<Self> {
        Self::begin(show::parse(path, &bytes)?).with_context(|| {
            format!(
                "{} cannot be used as --genesis: not a valid configuration block",
                path.display()
            )
        })
    }

    /// The same for a block that was walked already.
    pub(crate) fn begin(genesis: BlockView) -> Result<Self, ConfigRefused> {
        Ok(Self {
            config: ChannelConfig::from_config_block(genesis.bytes())?,
            config_number: genesis.number().unwrap_or_default(),
            genesis,
        })
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> &ChannelConfig {
        &self.config
    }

    fn verdict(&mut self, path: &Path, bytes: &Bytes, claimed: Option<u64>) -> Verdict {
        let file = path.display().to_string();
        let mut verdict = Verdict {
            file,
            number: None,
            good: false,
            reason: None,
            updates_config: false,
        };
        let block = match show::parse(path, bytes) {
            Ok(block) => block,
            Err(error) => {
                verdict.reason = Some(in_one_line(&error));
                return verdict;
            }
        };
        let number = block.number().unwrap_or_default();
        verdict.number = Some(number);
        match self.judge(&block, claimed.unwrap_or(number)) {
            Ok(updates_config) => {
                verdict.good = true;
                verdict.updates_config = updates_config;
            }
            Err(reason) => verdict.reason = Some(visible(&reason)),
        }
        verdict
    }

    /// Whether a good block changed the rules, or why it is not good.
    pub(crate) fn judge(&mut self, block: &BlockView, claimed: u64) -> Result<bool, String> {
        let channel = self.config.channel_id().to_owned();
        let facts = verify_view(&self.config, &channel, claimed, block)
            .map_err(|error| self.explain(block, &error.to_string()))?;
        if !facts.is_config || facts.number <= self.config_number {
            return Ok(false);
        }
        self.config = self.config.apply(block.bytes()).map_err(|error| {
            format!("the orderers signed it, but its configuration is refused: {error}")
        })?;
        self.config_number = facts.number;
        Ok(true)
    }

    /// Block 0 is refused for want of signatures, which is not what somebody wants to hear who
    /// holds the very block that the channel began with.
    fn explain(&self, block: &BlockView, reason: &str) -> String {
        if block.number() != Some(0) {
            return reason.to_owned();
        }
        let same = block.header() == self.genesis.header()
            && block.transactions().eq(self.genesis.transactions());
        let which = if same {
            "it is the --genesis block"
        } else {
            "it is not the --genesis block"
        };
        format!("{reason} (block 0 is never signed but trusted when a peer joins; {which})")
    }
}

impl Verdict {
    fn line(&self) -> String {
        let number = self
            .number
            .map_or_else(|| "?".to_owned(), |number| number.to_string());
        match &self.reason {
            Some(reason) => format!("refused  {}  block {number}: {reason}\n", self.file),
            None if self.updates_config => {
                format!(
                    "good     {}  block {number}, configuration in force from here\n",
                    self.file
                )
            }
            None => format!("good     {}  block {number}\n", self.file),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn fixtures() -> Option<PathBuf> {
        let folder = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/fixtures"
        ));
        if folder.exists() {
            return Some(folder.to_owned());
        }
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!(
                "SKIPPED: ../shared is not here: Go's verdicts on recorded and altered blocks\n"
            ),
        );
        None
    }

    fn judge(folder: &Path) -> Judge {
        let path = folder.join("genesis.block");
        Judge::new(&path, fs::read(&path).unwrap().into()).unwrap()
    }

    #[test]
    fn verdicts_are_those_of_go() {
        let Some(folder) = fixtures() else { return };
        let expected = fs::read(folder.join("blocks/expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let verdict = |judge: &mut Judge, file: &serde_json::Value, claimed| {
            let path = folder.join("blocks").join(file.as_str().unwrap());
            judge.verdict(&path, &fs::read(&path).unwrap().into(), claimed)
        };
        let mut rules = judge(&folder);
        let mut updates = Vec::new();
        for block in expected["blocks"].as_array().unwrap() {
            let number = block["number"].as_u64();
            for (file, error) in [
                ("from_orderer_file", "verify_block_error_as_ordered"),
                ("file", "verify_block_error"),
            ] {
                let got = verdict(&mut rules, &block[file], None);
                assert_eq!(got.number, number);
                assert_eq!(got.good, block[error].is_null(), "{got:?}");
                assert_eq!(got.good, got.reason.is_none());
                updates.extend(got.updates_config.then_some(number));
            }
        }
        assert_eq!(updates, [Some(1), Some(2)]);
        for altered in expected["altered"].as_array().unwrap() {
            let got = verdict(
                &mut rules,
                &altered["file"],
                altered["claimed_number"].as_u64(),
            );
            assert_eq!(got.good, altered["verify_block_error"].is_null(), "{got:?}");
        }
    }

    #[test]
    fn block_0_is_refused_but_recognized() {
        let Some(folder) = fixtures() else { return };
        let path = folder.join("genesis.block");
        let bytes = Bytes::from(fs::read(&path).unwrap());
        let got = judge(&folder).verdict(&path, &bytes, None);
        assert!(!got.good);
        assert!(got.reason.unwrap().contains("it is the --genesis block"));
    }

    #[test]
    fn a_configuration_that_skips_one_is_refused() {
        let Some(folder) = fixtures() else { return };
        let path = folder.join("blocks/ordered_02.pb");
        let got = judge(&folder).verdict(&path, &fs::read(&path).unwrap().into(), None);
        assert!(!got.good && !got.updates_config);
        assert!(got.reason.unwrap().contains("its configuration is refused"));
    }

    #[test]
    fn what_is_no_block_gets_a_verdict_too() {
        let Some(folder) = fixtures() else { return };
        let got = judge(&folder).verdict(Path::new("x"), &Bytes::from_static(b"hello"), None);
        assert_eq!((got.good, got.number), (false, None));
        assert!(
            got.line()
                .starts_with("refused  x  block ?: x is not a block"),
            "{}",
            got.line()
        );
    }
}
