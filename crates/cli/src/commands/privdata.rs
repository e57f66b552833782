//! `tidings privdata`: the private data of the node that runs, asked through its socket.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::outline::{Outline, clean, plural};
use super::{print, socket};
use crate::admin::client::ask;
use crate::admin::{Answer, Lacking, Missing, Question};

/// See what private data the node that runs on this machine lacks.
///
/// The node is found by its configuration, as `tidings node start` finds that, or by --socket.
/// Only the user that runs the node may ask.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidings privdata missing -c mychannel
  tidings privdata missing -c mychannel --json | jq '.missing[].block'")]
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
    /// Print which private write sets of committed blocks are missing, those of the newest blocks
    /// first, and how many there are.
    ///
    /// Those of our organization only: what is for others is counted and not named. What is
    /// missing is looked for as long as it is: at once, and again every reconcileSleepInterval.
    Missing {
        /// Name of the channel.
        #[arg(short, long = "channelID", value_name = "NAME")]
        channel: String,
        /// Write sets to name at most.
        #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
        limit: usize,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

impl Arguments {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        let Command::Missing {
            channel,
            limit,
            json,
        } = self.command;
        let socket = socket(self.socket, self.config.as_deref())?;
        let question = Question::Missing { channel, limit };
        match ask(&socket, &question)? {
            Answer::Missing(missing) if json => {
                print(&format!("{}\n", serde_json::to_string(&missing)?))
            }
            Answer::Missing(missing) => print(&outline(&missing)),
            answer => bail!("the node answered something else: {answer:?}"),
        }
    }
}

fn outline(missing: &Missing) -> String {
    let mut outline = Outline::default();
    let sets = |number: u64| plural(usize::try_from(number).unwrap_or(usize::MAX), "write set");
    outline.line(format_args!(
        "{} held, {} missing ({} tried in vain), {} not for our organization",
        sets(missing.held),
        missing.to_be_fetched + missing.tried_in_vain,
        missing.tried_in_vain,
        missing.not_for_us
    ));
    outline.below(|outline| {
        for Lacking {
            block,
            transaction,
            namespace,
            collection,
            why,
        } in &missing.missing
        {
            let (namespace, collection) = (clean(namespace), clean(collection));
            outline.line(format_args!(
                "block {block}, transaction {transaction}: {namespace}/{collection}: {why}"
            ));
        }
        let named = missing.missing.len() as u64;
        let all = missing.to_be_fetched + missing.tried_in_vain;
        if all > named {
            outline.line(format_args!("and {} more", all - named));
        }
    });
    outline.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_counted() {
        let lacking = Lacking {
            block: 17,
            transaction: 0,
            namespace: "cc".into(),
            collection: "one\u{1b}".into(),
            why: "nobody had it".into(),
        };
        let missing = Missing {
            held: 1,
            to_be_fetched: 1,
            tried_in_vain: 2,
            not_for_us: 4,
            missing: vec![lacking],
        };
        assert_eq!(
            outline(&missing),
            "1 write set held, 3 missing (2 tried in vain), 4 not for our organization
  block 17, transaction 0: cc/one\\u{1b}: nobody had it
  and 2 more
"
        );
    }
}
