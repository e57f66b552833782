//! `tidings doctor`: what is wrong with a node, and which setting to change.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::print;
use crate::doctor::{Subject, examine};

/// Find out what is wrong with a node or its configuration, and which setting to change.
///
/// Looked at are core.yaml and the CORE_ variables, the MSP folder, TLS, ports, the ledgers, and the
/// configuration of every channel that is joined or whose genesis block is given; anchor and
/// bootstrap peers and the own endpoints are dialled as the node dials them, orderers are asked for
/// the first and the newest block and for which times they take, from which follows how far the
/// clock is off. If a node runs here, it is asked too: members, leader, lag, health, whom it
/// refused. Nothing is changed, and nobody but who is named in all that is contacted.
///
/// Exit status 0 if there is no fault; a warning is none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidings doctor
  tidings doctor --config net/nodes/peer0.org1.demo --genesis net/genesis.block
  tidings doctor --json | jq '.findings[] | select(.severity == \"fault\")'")]
pub(crate) struct Arguments {
    /// A core.yaml, or the folder of one [default: as for `tidings node start`].
    #[arg(long, value_name = "FILE_OR_DIR")]
    config: Option<PathBuf>,
    /// The genesis block of a channel, joined or to be joined; may be given again.
    #[arg(long, value_name = "FILE")]
    genesis: Vec<PathBuf>,
    /// The socket of the node, if one runs [default: admin.sock in peer.fileSystemPath].
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Does it; the exit status is part of the answer.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let report = examine(&Subject {
            config: self.config,
            genesis: self.genesis,
            socket: self.socket,
        })?;
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
        } else {
            print(&report.text(io::stdout().is_terminal()))?;
        }
        Ok(if report.is_good() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
