//! `tidings channel`: the channels of the node that runs, asked through its socket.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, Subcommand};

use super::{print, read_input, socket, unwritable, validity};
use crate::admin::client::ask;
use crate::admin::{Answer, Joined, Question, Which};

/// See to the channels of the node that runs on this machine.
///
/// The node is found by its configuration, as `tidings node start` finds that, or by --socket.
/// Only the user that runs the node may ask.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidings channel join -b genesis.block
  tidings channel list
  tidings channel leave -c mychannel
  tidings channel getinfo -c mychannel
  tidings channel validity -c mychannel
  tidings channel fetch config - -c mychannel | tidings block show -")]
pub(crate) struct Arguments {
    /// The core.yaml of the node, or its folder [default: as for `tidings node start`].
    #[arg(long, value_name = "FILE_OR_DIR", global = true)]
    config: Option<PathBuf>,
    /// The node's socket [default: admin.sock in peer.fileSystemPath].
    #[arg(long, value_name = "FILE", global = true)]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a channel by its genesis block, which is trusted as it is.
    ///
    /// A channel that was left goes on with the ledger that it had then.
    Join {
        /// A file with block 0 of the channel, or `-` for standard input.
        #[arg(short, long = "blockpath", value_name = "FILE")]
        blockpath: PathBuf,
    },
    /// Leave a channel: say so to its peers and take no further part.
    ///
    /// The next start is not in the channel either. Its ledger and its private data are kept:
    /// `tidings channel join` with the same genesis block goes on where they end. To begin anew, to
    /// free the space, or to be rid of the private data, stop the node, remove the folders
    /// channels/NAME, private/NAME and validity/NAME below peer.fileSystemPath, and start it again.
    Leave {
        /// Name of the channel.
        #[arg(short, long = "channelID", value_name = "NAME")]
        channel: String,
    },
    /// Print the channels that the node has joined.
    List,
    /// Print height and last hashes of a channel, as `peer channel getinfo` does.
    Getinfo {
        /// Name of the channel.
        #[arg(short, long = "channelID", value_name = "NAME")]
        channel: String,
    },
    /// Print what peers of which organizations say of the last blocks, or of one.
    ///
    /// A block is agreed if as many organizations as validity.organizations says gave the same
    /// validation codes, and none gave others; disputed if any peer that was heard says otherwise, which is an alarm.
    Validity {
        /// Of which block [default: the last ten].
        #[arg(long, value_name = "NUMBER")]
        block: Option<u64>,
        /// Name of the channel.
        #[arg(short, long = "channelID", value_name = "NAME")]
        channel: String,
        /// Print an object; docs/clients.md describes it.
        #[arg(long)]
        json: bool,
    },
    /// Write a block of a channel to a file.
    Fetch {
        /// `newest`, `oldest`, `config` (the last that changed the configuration), or a number.
        #[arg(value_name = "WHICH", value_parser = which)]
        which: Which,
        /// The file to write, or `-` for standard output [default: NAME_WHICH.block].
        #[arg(value_name = "OUT")]
        out: Option<PathBuf>,
        /// Name of the channel.
        #[arg(short, long = "channelID", value_name = "NAME")]
        channel: String,
    },
}

fn which(text: &str) -> Result<Which, &'static str> {
    match text {
        "newest" => Ok(Which::Newest),
        "oldest" => Ok(Which::Oldest),
        "config" => Ok(Which::Config),
        number => number
            .parse()
            .map(Which::Number)
            .or(Err("give newest, oldest, config or a number")),
    }
}

impl Arguments {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        let question = match &self.command {
            Command::Join { blockpath } => Question::Join {
                genesis: BASE64_STANDARD.encode(read_input(blockpath)?),
            },
            Command::Leave { channel } => Question::Leave {
                channel: channel.clone(),
            },
            Command::List => Question::List {},
            Command::Getinfo { channel } => Question::Info {
                channel: channel.clone(),
            },
            Command::Validity { channel, block, .. } => Question::Validity {
                channel: channel.clone(),
                block: *block,
            },
            Command::Fetch { channel, which, .. } => Question::Fetch {
                channel: channel.clone(),
                which: *which,
            },
        };
        let socket = socket(self.socket, self.config.as_deref())?;
        self.command.show(ask(&socket, &question)?)
    }
}

impl Command {
    fn show(&self, answer: Answer) -> Result<()> {
        match (self, answer) {
            (Self::Join { .. }, Answer::Joined(Joined { channel, warning })) => {
                if let Some(warning) = warning {
                    // Nobody to read it is no reason to fail: the node has logged it.
                    let _ = writeln!(io::stderr(), "warning: {warning}");
                }
                print(&format!("the node is in channel {channel}\n"))
            }
            (Self::Leave { .. }, Answer::Left(channel)) => print(&format!(
                "the node has left channel {channel}; its ledger (channels/{channel}) and its private data \
                 (private/{channel}) are kept below peer.fileSystemPath\n"
            )),
            (Self::List, Answer::Channels(names)) => {
                let names: String = names.iter().map(|name| format!("{name}\n")).collect();
                print(&format!("Channels peers has joined: \n{names}"))
            }
            (Self::Getinfo { .. }, Answer::Info(info)) => print(&format!(
                "Blockchain info: {}\n",
                serde_json::to_string(&info)?
            )),
            (Self::Validity { json: true, .. }, Answer::Validity(report)) => {
                print(&format!("{}\n", serde_json::to_string_pretty(&report)?))
            }
            (Self::Validity { .. }, Answer::Validity(report)) => print(&validity::text(&report)),
            (
                Self::Fetch {
                    channel,
                    which,
                    out,
                },
                Answer::Block(block),
            ) => {
                let block = BASE64_STANDARD
                    .decode(block)
                    .context("the node's block is not base64")?;
                let path = out
                    .clone()
                    .unwrap_or_else(|| PathBuf::from(format!("{channel}_{}.block", name(*which))));
                if path.as_os_str() == "-" {
                    return super::print_bytes(&block);
                }
                fs::write(&path, block).map_err(|error| unwritable(&path, &error))
            }
            (_, answer) => bail!("the node answered something else: {answer:?}"),
        }
    }
}

fn name(which: Which) -> String {
    match which {
        Which::Newest => "newest".into(),
        Which::Oldest => "oldest".into(),
        Which::Config => "config".into(),
        Which::Number(number) => number.to_string(),
    }
}
