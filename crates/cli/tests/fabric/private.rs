//! Private data set side by side: what blocks promise by hashes, what Go peers keep of it, what a
//! node of ours keeps.
//!
//! Promises: a write set counts by the hash of its bytes as they were had from whoever keeps it,
//! never by the hash that somebody says it has.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::Value;
use tidings_proto::{Message as _, block::BlockView};

use crate::{
    chain::Essence,
    fabnet::{CHANNEL, Fabnet},
    node::Node,
};

/// Where a private write set belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) block: u64,
    pub(crate) tx: u64,
    pub(crate) namespace: String,
    pub(crate) collection: String,
}

/// A private write set, by the SHA-256 of its bytes in hex, and how many they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) hash: String,
    pub(crate) len: u64,
}

/// What somebody keeps.
pub(crate) type Sets = BTreeMap<Slot, Set>;

/// What blocks promise: hashes in hex.
pub(crate) type Promises = BTreeMap<Slot, Promise>;

/// What a block says of a private write set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) hash: String,
    pub(crate) tx_id: String,
}

/// The collection that each organization has of itself.
pub(crate) fn implicit(org: &str) -> String {
    format!("_implicit_org_{org}MSP")
}

/// What blocks promise to an organization.
pub(crate) fn promised(blocks: &[Essence], org: &str) -> Promises {
    let collection = implicit(org);
    let mut promises = Promises::new();
    for block in blocks {
        let bytes = Bytes::from(block.block().encode_to_vec());
        let view = BlockView::parse(bytes).unwrap();
        for write in view.private_writes() {
            if write.has_writes && *write.collection == *collection {
                let slot = Slot {
                    block: block.number(),
                    tx: write.tx,
                    namespace: write.namespace.to_string(),
                    collection: collection.clone(),
                };
                let promise = Promise {
                    hash: hex::encode(&write.hash),
                    tx_id: write.tx_id.to_string(),
                };
                promises.insert(slot, promise);
            }
        }
    }
    promises
}

/// What these sets lack or have different, in a line each; nothing if they are what was promised
/// and no more.
pub(crate) fn differences(promises: &Promises, sets: &Sets) -> String {
    let mut told = String::new();
    for (slot, promise) in promises {
        match sets.get(slot) {
            None => writeln!(told, "lacks {slot:?}").unwrap(),
            Some(set) if set.hash != promise.hash => {
                writeln!(told, "has {} for {promise:?} at {slot:?}", set.hash).unwrap();
            }
            Some(_) => {}
        }
    }
    for slot in sets.keys().filter(|slot| !promises.contains_key(slot)) {
        writeln!(told, "has {slot:?}, which was not promised").unwrap();
    }
    told
}

/// How many blocks and sets of each collection, to be told.
pub(crate) fn counts(sets: &Sets) -> String {
    let mut counts: BTreeMap<(&str, &str), (u64, u64, u64)> = BTreeMap::new();
    for (slot, set) in sets {
        let count = counts
            .entry((&slot.namespace, &slot.collection))
            .or_insert((u64::MAX, 0, 0));
        if count.0 != slot.block {
            count.0 = slot.block;
            count.1 += 1;
        }
        count.2 += set.len;
    }
    let told = counts
        .into_iter()
        .map(|((namespace, collection), (_, blocks, bytes))| {
            format!("{namespace}/{collection} in {blocks} blocks, {bytes} bytes")
        });
    let told: Vec<String> = told.collect();
    format!("{} sets ({})", sets.len(), told.join("; "))
}

impl Node {
    /// The private write sets that it keeps, as it tells its operator.
    #[track_caller]
    pub(crate) fn sets(&self) -> Sets {
        self.listed("held")
            .into_iter()
            .map(|(slot, set)| {
                let set = Set {
                    hash: set["hash"].as_str().unwrap().to_owned(),
                    len: set["size"].as_u64().unwrap(),
                };
                (slot, set)
            })
            .collect()
    }

    /// Those that it knows to lack.
    #[track_caller]
    pub(crate) fn lacks(&self) -> Vec<Slot> {
        self.listed("missing").into_keys().collect()
    }

    #[track_caller]
    fn listed(&self, state: &str) -> BTreeMap<Slot, Value> {
        let output = self.tidings(&["privdata", "list", "-c", CHANNEL, "--json"]);
        assert!(output.status.success(), "{}: {output:?}", self.name);
        let told = String::from_utf8(output.stdout).unwrap();
        let sets = told.lines().map(|line| serde_json::from_str(line).unwrap());
        sets.filter(|set: &Value| set["state"] == state)
            .map(|set| (Slot::told(&set), set))
            .collect()
    }

    /// In how many files of its data these bytes are.
    pub(crate) fn files_with(&self, bytes: &[u8]) -> usize {
        files_with(&self.data(), bytes)
    }
}

impl Slot {
    fn told(set: &Value) -> Self {
        let text = |key: &str| set[key].as_str().unwrap().to_owned();
        Self {
            block: set["block"].as_u64().unwrap(),
            tx: set["transaction"].as_u64().unwrap(),
            namespace: text("namespace"),
            collection: text("collection"),
        }
    }
}

fn files_with(folder: &Path, bytes: &[u8]) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += files_with(&path, bytes);
        } else if path.is_file() {
            let content = fs::read(&path).unwrap();
            let finds = memmem(&content, bytes);
            files += usize::from(finds);
        }
    }
    files
}

fn memmem(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|part| part == needle)
}

impl Fabnet {
    /// What the chain as the orderer has it promises to an organization.
    pub(crate) fn promised(&self, org: &str) -> Promises {
        promised(&self.ordered(), org)
    }

    /// An approval of a chaincode that nobody has approved before, to be endorsed by the first
    /// peer of an organization and ordered in a block of its own. It does not wait for the block.
    pub(crate) fn approval(&self, org: &str) -> Command {
        self.approval_of(org, &chaincode())
    }

    /// The same of a chaincode with this name.
    pub(crate) fn approval_of(&self, org: &str, name: &str) -> Command {
        let approve = ["lifecycle", "chaincode", "approveformyorg"];
        let channel = ["--channelID", CHANNEL, "--waitForEvent=false"];
        let which = ["--name", name, "--version", "1", "--sequence", "1"];
        let policy = ["--signature-policy", "OR('Org1MSP.peer','Org2MSP.peer')"];
        let orderer = self.to_orderer();
        let all = [&approve[..], &channel, &which, &policy, &orderer].concat();
        self.attempt(org, "peer", &all)
    }

    /// Has it done, and its block ordered.
    #[track_caller]
    pub(crate) fn approve(&self, org: &str) {
        let before = self.height();
        let output = self.approval(org).output().unwrap();
        assert!(output.status.success(), "{}", complaint(&output));
        crate::wait::until("the approval is ordered", ORDER_TIME_MAX, || {
            (self.height() > before).then_some(())
        });
    }
}

/// A name that no chaincode has.
pub(crate) fn chaincode() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("cc{:x}-{number}", clock.as_nanos())
}

/// The batch timeout is a fifth of a second.
const ORDER_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// What a program of Fabric says went wrong.
pub(crate) fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().rfind(|line| line.starts_with("Error"));
    error.unwrap_or(&said).to_owned()
}

#[test]
fn what_is_lacking_different_or_too_much_is_found() {
    let slot = |block| Slot {
        block,
        tx: 0,
        namespace: "cc".into(),
        collection: implicit("Org1"),
    };
    let set = |hash: &str| Set {
        hash: hash.into(),
        len: 3,
    };
    let promise = |hash: &str| Promise {
        hash: hash.into(),
        tx_id: "t".into(),
    };
    let promises = Promises::from([(slot(1), promise("aa")), (slot(2), promise("bb"))]);
    let mut sets = Sets::from([(slot(1), set("aa")), (slot(2), set("bb"))]);
    assert_eq!(differences(&promises, &sets), "");
    assert_eq!(
        counts(&sets),
        "2 sets (cc/_implicit_org_Org1MSP in 2 blocks, 6 bytes)"
    );
    sets.insert(slot(3), set("cc"));
    assert!(differences(&promises, &sets).contains("not promised"));
    sets.remove(&slot(3));
    sets.insert(slot(2), set("aa"));
    assert!(differences(&promises, &sets).contains("has aa for"));
    sets.remove(&slot(2));
    assert!(differences(&promises, &sets).contains("lacks"));
    assert!(memmem(b"abcd", b"bc"));
    assert!(!memmem(b"abcd", b"cb"));
}
