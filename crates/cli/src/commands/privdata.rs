//! `tidings privdata`: the private data of the node that runs, asked through its socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::outline::{Outline, clean, plural};
use super::{print, socket};
use crate::admin::client::ask;
use crate::admin::{Answer, Lacking, Missing, PrivateSet, Purge, PurgedKeys, Question};

/// See what private data the node that runs on this machine has and lacks.
///
/// The node is found by its configuration, as `tidings node start` finds that, or by --socket.
/// Only the user that runs the node may ask.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidings privdata missing -c mychannel
  tidings privdata missing -c mychannel --json | jq '.missing[].block'
  tidings privdata list -c mychannel --json | jq -r 'select(.state == \"held\").hash'")]
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
    /// Print which private write sets of committed blocks are missing, in the order in which they
    /// are asked for, and how many there are.
    ///
    /// First those that were not tried yet, newest block first, then those that were tried in
    /// vain. Those of our organization only: what is for others is counted and not named. What is
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
    /// Print every private write set that committed blocks name, with its hash, oldest first.
    ///
    /// What is held has the hash of the bytes that are here, what is missing that which the block
    /// says it must have. What has expired is gone, and what other organizations write to their
    /// implicit collections is not put down at all. A line at the end, not with --json, counts what
    /// was printed and says from where to go on if that was not all.
    List {
        /// Name of the channel.
        #[arg(short, long = "channelID", value_name = "NAME")]
        channel: String,
        /// The block to begin with.
        #[arg(long, value_name = "BLOCK", default_value_t = 0)]
        from: u64,
        /// Write sets to print at most [default: 1000; with --json all].
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
        /// Print a JSON object for each, one a line.
        #[arg(long)]
        json: bool,
    },
    /// Print which transactions say that keys of private data are to be forgotten, oldest first.
    ///
    /// Whether such a transaction is valid the node does not know, and it deletes nothing before it
    /// is told to. The number of write sets is of those here that have one of the keys.
    Purges {
        /// Name of the channel.
        #[arg(short, long = "channelID", value_name = "NAME")]
        channel: String,
        /// The block to begin with.
        #[arg(long, value_name = "BLOCK", default_value_t = 0)]
        from: u64,
        /// Print a JSON object for each, one a line.
        #[arg(long)]
        json: bool,
    },
    /// Delete what a transaction says is to be forgotten, for good.
    ///
    /// For transactions that are known to be valid, as a Fabric peer of the organization tells. The
    /// keys are taken out of every write set up to that of the transaction, and out of those that
    /// are still to come.
    Purge {
        /// Name of the channel.
        #[arg(short, long = "channelID", value_name = "NAME")]
        channel: String,
        /// The block of the transaction.
        #[arg(long, value_name = "BLOCK")]
        block: u64,
        /// Its position in the block, from 0.
        #[arg(long, value_name = "NUMBER")]
        tx: u64,
    },
}

impl Arguments {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        let socket = socket(self.socket, self.config.as_deref())?;
        match self.command {
            Command::Missing {
                channel,
                limit,
                json,
            } => missing(&socket, channel, limit, json),
            Command::List {
                channel,
                from,
                limit,
                json,
            } => {
                let limit = limit.unwrap_or(if json { usize::MAX } else { LIST_LIMIT });
                list(&socket, &channel, from, limit, json)
            }
            Command::Purges {
                channel,
                from,
                json,
            } => purges(&socket, &channel, from, json),
            Command::Purge { channel, block, tx } => purge(&socket, channel, block, tx),
        }
    }
}

fn missing(socket: &Path, channel: String, limit: usize, json: bool) -> Result<()> {
    let question = Question::Missing { channel, limit };
    match ask(socket, &question)? {
        Answer::Missing(missing) if json => {
            print(&format!("{}\n", serde_json::to_string(&missing)?))
        }
        Answer::Missing(missing) => print(&outline(&missing)),
        answer => bail!("the node answered something else: {answer:?}"),
    }
}

/// Asks for one page after the other, so that neither end holds more.
fn list(socket: &Path, channel: &str, from: u64, limit: usize, json: bool) -> Result<()> {
    let mut next = Some((from, 0));
    let mut tally = Tally::default();
    while let Some(from) = next {
        let question = Question::PrivateList {
            channel: channel.to_owned(),
            from,
        };
        let page = match ask(socket, &question)? {
            Answer::PrivateList(page) => page,
            answer => bail!("the node answered something else: {answer:?}"),
        };
        let mut text = String::new();
        let room = limit - tally.len;
        for set in page.sets.iter().take(room) {
            tally.add(&set.state);
            text += &if json {
                serde_json::to_string(set)?
            } else {
                line(set)
            };
            text.push('\n');
        }
        print(&text)?;
        let cut = page.sets.get(room).map(|set| set.block);
        if let Some(block) = cut.or_else(|| {
            let (block, _) = page.next?;
            (tally.len >= limit).then_some(block)
        }) {
            tally.rest = Some(block);
            break;
        }
        next = page.next;
    }
    if json {
        return Ok(());
    }
    print(&tally.line(from))
}

/// Write sets of which a list without --limit and --json ends: as many as anybody reads.
const LIST_LIMIT: usize = 1000;

/// What a list has printed.
#[derive(Debug, Default)]
struct Tally {
    len: usize,
    /// By state.
    states: BTreeMap<String, usize>,
    /// The block with which the rest begins.
    rest: Option<u64>,
}

impl Tally {
    fn add(&mut self, state: &str) {
        self.len += 1;
        *self.states.entry(state.to_owned()).or_default() += 1;
    }

    fn line(&self, from: u64) -> String {
        let rest = self
            .rest
            .map(|block| format!("; there are more: go on with --from {block}, or give --limit"));
        let rest = rest.unwrap_or_default();
        if self.len == 0 {
            return format!(
                "no block from {from} on names private write sets that are kept{rest}\n"
            );
        }
        let states = self.states.iter();
        let states: Vec<String> = states
            .map(|(state, len)| format!("{len} {state}"))
            .collect();
        let sets = plural(self.len, "write set");
        format!("{sets}: {}{rest}\n", states.join(", "))
    }
}

fn purges(socket: &Path, channel: &str, from: u64, json: bool) -> Result<()> {
    let mut next = Some((from, 0));
    while let Some(from) = next {
        let question = Question::Purges {
            channel: channel.to_owned(),
            from,
        };
        let page = match ask(socket, &question)? {
            Answer::Purges(page) => page,
            answer => bail!("the node answered something else: {answer:?}"),
        };
        let mut text = String::new();
        for purge in &page.purges {
            text += &if json {
                serde_json::to_string(purge)?
            } else {
                purge_line(purge)
            };
            text.push('\n');
        }
        print(&text)?;
        next = page.next;
    }
    Ok(())
}

fn purge(socket: &Path, channel: String, block: u64, transaction: u64) -> Result<()> {
    let question = Question::Purge {
        channel,
        block,
        transaction,
    };
    match ask(socket, &question)? {
        Answer::Purged { changed, left_out } => print(&format!(
            "purged: {} changed{}\n",
            plural(usize::try_from(changed).unwrap_or(usize::MAX), "write set"),
            beyond(left_out)
        )),
        answer => bail!("the node answered something else: {answer:?}"),
    }
}

/// What is said of keys that were left out.
fn beyond(left_out: u64) -> String {
    if left_out == 0 {
        return String::new();
    }
    let keys = plural(usize::try_from(left_out).unwrap_or(usize::MAX), "key");
    format!("; {keys} more of that transaction could not be noted and cannot be purged here")
}

fn purge_line(purge: &Purge) -> String {
    let Purge {
        block,
        transaction,
        state,
        write_sets,
        keys_left_out,
        ..
    } = purge;
    let count = |number: u64, what| plural(usize::try_from(number).unwrap_or(usize::MAX), what);
    let keys = purge.collections.iter().map(
        |PurgedKeys {
             namespace,
             collection,
             keys,
         }| {
            let (namespace, collection) = (clean(namespace), clean(collection));
            format!("{} of {namespace}/{collection}", count(*keys, "key"))
        },
    );
    let keys = keys.collect::<Vec<_>>().join(", ");
    let at_least = if purge.at_least { "at least " } else { "" };
    let sets = count(*write_sets, "write set");
    let beyond = beyond(*keys_left_out);
    let in_part = match (beyond.is_empty(), state.as_str()) {
        (false, "applied") => " in part",
        _ => "",
    };
    format!(
        "block {block}, transaction {transaction}: {keys}: {state}{in_part}, {at_least}{sets}{beyond}"
    )
}

fn line(set: &PrivateSet) -> String {
    let PrivateSet {
        block,
        transaction,
        state,
        hash,
        ..
    } = set;
    let (namespace, collection) = (clean(&set.namespace), clean(&set.collection));
    let size = set.size.map(|size| format!(", {size} bytes"));
    let size = size.unwrap_or_default();
    let why = set.why.as_ref().map(|why| format!(" ({why})"));
    let why = why.unwrap_or_default();
    format!(
        "block {block}, transaction {transaction}: {namespace}/{collection}: \
         {state}{why}{size}, sha256 {hash}"
    )
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
        let mut was = None;
        for Lacking {
            block,
            transaction,
            namespace,
            collection,
            was_tried,
            why,
        } in &missing.missing
        {
            if was != Some(*was_tried) {
                outline.line(match was_tried {
                    true => "tried in vain, in the order in which they are asked for again:",
                    false => "to be asked for next, in this order:",
                });
                was = Some(*was_tried);
            }
            let (namespace, collection) = (clean(namespace), clean(collection));
            outline.below(|outline| {
                outline.line(format_args!(
                    "block {block}, transaction {transaction}: {namespace}/{collection}: {why}"
                ));
            });
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
        let lacking = |block, was_tried, why: &str| Lacking {
            block,
            transaction: 0,
            namespace: "cc".into(),
            collection: "one\u{1b}".into(),
            was_tried,
            why: why.into(),
        };
        let missing = Missing {
            held: 1,
            to_be_fetched: 1,
            tried_in_vain: 3,
            not_for_us: 4,
            missing: vec![
                lacking(17, false, "nobody was asked yet"),
                lacking(9, true, "no member could be asked"),
                lacking(30, true, "nobody who was asked gave it"),
            ],
        };
        assert_eq!(
            outline(&missing),
            "1 write set held, 4 missing (3 tried in vain), 4 not for our organization
  to be asked for next, in this order:
    block 17, transaction 0: cc/one\\u{1b}: nobody was asked yet
  tried in vain, in the order in which they are asked for again:
    block 9, transaction 0: cc/one\\u{1b}: no member could be asked
    block 30, transaction 0: cc/one\\u{1b}: nobody who was asked gave it
  and 1 more
"
        );
    }

    #[test]
    fn a_list_ends_with_a_line_that_sums_it_up() {
        let mut tally = Tally::default();
        let nothing = "no block from 3 on names private write sets that are kept\n";
        assert_eq!(tally.line(3), nothing);
        for state in ["held", "not ours", "held"] {
            tally.add(state);
        }
        assert_eq!(tally.line(0), "3 write sets: 2 held, 1 not ours\n");
        tally.rest = Some(17);
        assert_eq!(
            tally.line(0),
            "3 write sets: 2 held, 1 not ours; there are more: go on with --from 17, or give --limit\n"
        );
    }

    #[test]
    fn a_line_says_what_a_purge_is_about_and_what_became_of_it() {
        let keys = |collection: &str, keys| PurgedKeys {
            namespace: "cc".into(),
            collection: collection.into(),
            keys,
        };
        let mut purge = Purge {
            block: 7,
            transaction: 2,
            state: "validity unknown".into(),
            write_sets: 3,
            at_least: true,
            keys_left_out: 0,
            collections: vec![keys("one\u{1b}", 1), keys("two", 2)],
        };
        assert_eq!(
            purge_line(&purge),
            "block 7, transaction 2: 1 key of cc/one\\u{1b}, 2 keys of cc/two: validity unknown, \
             at least 3 write sets"
        );
        purge.state = "applied".into();
        (purge.at_least, purge.write_sets) = (false, 1);
        assert!(purge_line(&purge).ends_with(": applied, 1 write set"));
        purge.keys_left_out = 2;
        assert!(
            purge_line(&purge).ends_with(
                ": applied in part, 1 write set; 2 keys more of that transaction could not be \
                 noted and cannot be purged here"
            ),
            "{}",
            purge_line(&purge)
        );
    }

    #[test]
    fn a_line_says_all_that_is_known_of_a_set() {
        let mut set = PrivateSet {
            block: 7,
            transaction: 2,
            namespace: "cc".into(),
            collection: "one\u{1b}".into(),
            hash: "ab".into(),
            state: "held".into(),
            size: Some(3),
            why: None,
            expires_at: None,
        };
        assert_eq!(
            line(&set),
            "block 7, transaction 2: cc/one\\u{1b}: held, 3 bytes, sha256 ab"
        );
        set.state = "missing".into();
        (set.size, set.why) = (None, Some("nobody had it".into()));
        assert_eq!(
            line(&set),
            "block 7, transaction 2: cc/one\\u{1b}: missing (nobody had it), sha256 ab"
        );
    }
}
