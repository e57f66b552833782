//! How other commands talk to the node that runs: a socket in its data folder.
//!
//! One JSON object a line, one line for each question and its answer, of bounded length.
//! Promises: only the user that runs the node may ask, since the socket is that user's alone;
//! a socket that somebody answers at is never taken away. Knows nothing of configuration.

pub(crate) mod client;
mod private;
pub(crate) mod server;

pub(crate) use private::{Page, PrivateSet, Purge, PurgePage, PurgedKeys};
use serde::{Deserialize, Serialize};
use tidings_node::{validity::Report, view::View};

/// Name of the socket in the data folder.
pub(crate) const SOCKET: &str = "admin.sock";

/// Bytes of one question. The longest holds a genesis block, of which even those with hundreds of
/// organizations have a few megabytes.
const QUESTION_LEN_MAX: u64 = 64 << 20;

/// Bytes of one answer. The longest holds a block in base64, and no message of Fabric is longer
/// than 100 MiB.
const ANSWER_LEN_MAX: u64 = 192 << 20;

/// Write sets in one answer: each takes some hundred bytes, and nobody reads more.
const MISSING_MAX: usize = 100_000;

/// What can be asked of a node.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    /// Join a channel by its genesis block.
    Join {
        /// The block in base64.
        genesis: String,
    },
    /// Leave a channel.
    Leave {
        /// The channel.
        channel: String,
    },
    /// Which channels were joined.
    List {},
    /// How the node is.
    State {},
    /// How long the chain of a channel is.
    Info {
        /// The channel.
        channel: String,
    },
    /// Which private write sets are missing.
    Missing {
        /// The channel.
        channel: String,
        /// How many to name at most.
        limit: usize,
    },
    /// What organizations say of blocks.
    Validity {
        /// The channel.
        channel: String,
        /// Of which block; of the last ones if none is named.
        block: Option<u64>,
    },
    /// A block.
    Fetch {
        /// The channel.
        channel: String,
        /// Which one.
        which: Which,
    },
    /// What is held and missing of private data.
    PrivateList {
        /// The channel.
        channel: String,
        /// The block and transaction to begin with.
        from: (u64, u64),
    },
    /// Which keys of private data transactions say are to be forgotten.
    Purges {
        /// The channel.
        channel: String,
        /// The block and transaction to begin with.
        from: (u64, u64),
    },
    /// Forget what a transaction says is to be forgotten, for good.
    Purge {
        /// The channel.
        channel: String,
        /// Its block.
        block: u64,
        /// The transaction's position in it.
        transaction: u64,
    },
}

/// Private write sets that a node lacks.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Missing {
    /// Write sets that are here.
    pub(crate) held: u64,
    /// Ours, missing.
    pub(crate) to_be_fetched: u64,
    /// Ours, missing, and looked for in vain before.
    pub(crate) tried_in_vain: u64,
    /// Of collections that are not for our organization.
    pub(crate) not_for_us: u64,
    /// Some of those that are ours and missing, in the order in which they are asked for.
    pub(crate) missing: Vec<Lacking>,
}

/// A private write set that is missing.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lacking {
    /// Number of its block.
    pub(crate) block: u64,
    /// Number of its transaction in the block.
    pub(crate) transaction: u64,
    /// The chaincode.
    pub(crate) namespace: String,
    /// The collection.
    pub(crate) collection: String,
    /// Whether it was looked for in vain.
    #[serde(rename = "triedInVain")]
    pub(crate) was_tried: bool,
    /// Why it is missing.
    pub(crate) why: String,
}

/// A block of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Which {
    /// The last one.
    Newest,
    /// The first one.
    Oldest,
    /// The last one that changed the configuration.
    Config,
    /// The one with this number.
    Number(u64),
}

/// What a node says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The channel was joined.
    Joined(Joined),
    /// The channel was left.
    Left(String),
    /// The channels that were joined, in the order of their names.
    Channels(Vec<String>),
    /// How the node is.
    State(Box<View>),
    /// How long the chain is.
    Info(Info),
    /// What organizations say of blocks.
    Validity(Report),
    /// A block in base64.
    Block(String),
    /// What private data is missing.
    Missing(Missing),
    /// What is held and missing of private data.
    PrivateList(Page),
    /// Purges that are noted.
    Purges(PurgePage),
    /// A purge changed so many write sets, and could not purge so many of its keys.
    Purged { changed: u64, left_out: u64 },
    /// It was not done, for this reason.
    Refused(String),
}

/// A channel that was joined.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// Its name.
    pub(crate) channel: String,
    /// What is to be known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

/// The end of a chain, named as Fabric prints it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    /// Blocks in it.
    pub(crate) height: u64,
    /// Header hash of the last one in base64.
    pub(crate) current_block_hash: String,
    /// Header hash of the one before in base64; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) previous_block_hash: String,
    /// The first block that was not pruned; left out if it is the first of all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) first_block: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_plain_json() {
        for (question, line) in [
            (Question::List {}, r#"{"do":"list"}"#),
            (
                Question::Fetch {
                    channel: "ch".into(),
                    which: Which::Number(7),
                },
                r#"{"do":"fetch","channel":"ch","which":{"number":7}}"#,
            ),
            (
                Question::Fetch {
                    channel: "ch".into(),
                    which: Which::Newest,
                },
                r#"{"do":"fetch","channel":"ch","which":"newest"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&question).unwrap(), line);
            assert_eq!(serde_json::from_str::<Question>(line).unwrap(), question);
        }
        for nonsense in [r#"{"do":"leave"}"#, r#"{"do":"list","all":true}"#, "[]"] {
            assert!(
                serde_json::from_str::<Question>(nonsense).is_err(),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn the_first_block_has_no_previous_hash_to_print() {
        let info = |previous: &str| Info {
            height: 1,
            current_block_hash: "aa".into(),
            previous_block_hash: previous.into(),
            first_block: 0,
        };
        assert_eq!(
            serde_json::to_string(&info("")).unwrap(),
            r#"{"height":1,"currentBlockHash":"aa"}"#
        );
        assert_eq!(
            serde_json::to_string(&info("bb")).unwrap(),
            r#"{"height":1,"currentBlockHash":"aa","previousBlockHash":"bb"}"#
        );
    }
}
