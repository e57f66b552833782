//! `tidings block`: what a block says, and whether it is the orderers'.

mod show;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

pub(crate) use self::verify::Judge;
use super::{print, read_input};

/// Look at blocks and judge them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what a block says, without judging it.
    ///
    /// Shown are the hashes, who signed, the last configuration block, every transaction with
    /// creator, chaincode and validation code, and for a configuration block the organizations,
    /// policies' owners, addresses and capabilities that it puts in force. Nothing is verified
    /// but the data hash, which needs nothing else: use `tidings block verify` for the rest.
    #[command(after_help = "Examples:
  tidings block show genesis.block
  peer channel fetch newest - -c mychannel | tidings block show -")]
    Show {
        /// A file with a serialized common.Block, or `-` for standard input.
        file: PathBuf,
    },
    /// Judge blocks as a Go peer does before it takes them from another peer.
    ///
    /// Each file gets one verdict: number, channel, form of the transactions, data hash, and the
    /// orderers' signatures under the channel's BlockValidation policy. The rules come from the
    /// configuration in --genesis; a good configuration block among the files is checked against
    /// the policies that were in force and changes the rules for the files after it, so give
    /// files in order. Block 0 carries no signature and is refused like any other unsigned block
    /// (a peer takes it on trust when it joins); the verdict says whether it is the --genesis.
    ///
    /// Exit status 0 only if every file is good.
    #[command(after_help = "Examples:
  tidings block verify --genesis genesis.block block_01.pb block_02.pb
  tidings block verify --genesis genesis.block --json blocks/*.pb | jq '.blocks[] | select(.good | not)'
  tidings block verify --genesis genesis.block --number 5 from_peer.pb")]
    Verify(Verify),
}

/// Arguments of `block verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Block 0 of the channel, or any configuration block of it that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The number under which somebody gave you the block; as the block itself says, if left out.
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    /// Print one JSON object instead of a line a file.
    #[arg(long)]
    json: bool,
    /// Files with one serialized common.Block each.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Command {
    /// Does it; the exit status is part of the answer.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Show { file } => {
                print(&show::show(&file, &read_input(&file)?)?)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Verify(arguments) => verify::run(&arguments),
        }
    }
}
