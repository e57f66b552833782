//! What is known of channels here: from the node that runs, from ledger folders, from genesis
//! blocks that were given.
//!
//! Changes nothing. A ledger that nobody has open is walked from its first block, which checks its
//! records; a large one is not, for that takes minutes, and then only its first block is known.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Error, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use tidings_ledger::{Audit, AuditError, BlockHash};
use tidings_msp::channel_config::ChannelConfig;
use tidings_proto::Message as _;
use tidings_proto::block::BlockView;
use tidings_proto::common::ChannelHeader;

use super::finding::{Finding, Severity};
use super::orderers::Said;
use crate::admin::client::ask;
use crate::admin::{Answer, Question, Which};
use crate::commands::describe::payload_of;
use crate::commands::read_input;
use crate::complaint::in_one_line;

const CHECK: &str = "ledger";

const SOCKET: &str = "--socket";

/// Bytes of blocks that are walked: some seconds.
const WALK_BYTES_MAX: u64 = 256 << 20;

/// Where ledgers lie in the data folder.
const FOLDER: &str = "channels";

/// Of a channel that was left, beside its ledger.
const LEFT: &str = "LEFT";

/// A channel that something is known of.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its name.
    pub(super) name: String,
    /// The latest configuration that is known.
    pub(super) config: Arc<ChannelConfig>,
    /// What the ledger here holds, if there is one.
    pub(super) held: Option<Held>,
    /// Genesis blocks that were given.
    pub(super) given: Vec<Given>,
    /// Number of the block with that configuration.
    pub(super) config_at: u64,
    /// Whether that is the newest.
    pub(super) age: Age,
}

/// Whether a configuration is the newest of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// Nobody says otherwise.
    Newest,
    /// Members claim more blocks than are here, and no orderer says what is in them. Anybody can.
    Claimed,
    /// It is that of the first block, and no orderer says whether there is another.
    Unknown,
    /// An orderer of so many blocks has a newer one.
    Behind(u64),
}

/// A ledger.
#[derive(Debug)]
pub(super) struct Held {
    /// Its folder.
    pub(super) place: PathBuf,
    /// Header hash of its first block.
    pub(super) genesis: BlockHash,
    /// Blocks in it, where that was found out.
    pub(super) height: Option<u64>,
    /// When its newest block was made, by the clock of who made its first transaction, in seconds
    /// since 1970.
    pub(super) newest_at: Option<i64>,
    config: ChannelConfig,
    config_at: u64,
}

/// A genesis block in a file.
#[derive(Debug)]
pub(super) struct Given {
    /// The file.
    pub(super) path: PathBuf,
    /// Its header hash.
    pub(super) genesis: BlockHash,
    config: ChannelConfig,
}

impl Channel {
    /// Header hash of the first block, as far as it is known here; the ledger's before a given one.
    pub(super) fn genesis(&self) -> Option<BlockHash> {
        let held = self.held.as_ref().map(|held| held.genesis);
        held.or_else(|| self.given.first().map(|given| given.genesis))
    }

    /// Notes whether there is a newer configuration than ours. Orderers say in which block it is;
    /// where none does, who claims to have more blocks may have one among them. If the orderers have
    /// another chain, ours is judged by what is here: nothing newer is to come.
    pub(super) fn compare(&mut self, said: &[&Said], claimed: u64) {
        let ours = self.genesis();
        let is_silent = said.iter().all(|said| said.config_at.is_none());
        let said = said.iter().filter(|said| said.genesis == ours);
        let newest = said.filter_map(|said| Some((said.config_at?, said.height)));
        let held = self.held.as_ref().and_then(|held| held.height);
        self.age = match newest.max() {
            Some((at, height)) if at > self.config_at => Age::Behind(height),
            Some(_) => Age::Newest,
            None if is_silent && held.is_none_or(|held| held <= 1) => Age::Unknown,
            None if held.is_some_and(|held| claimed > held) => Age::Claimed,
            None => Age::Newest,
        };
    }

    /// What follows from its configuration. If that is known not to be the newest, or only the
    /// first is known, nothing is to be changed for it.
    pub(super) fn judged(&self, mut finding: Finding) -> Finding {
        let held = self.held.as_ref().and_then(|held| held.height);
        let (here, when) = match self.age {
            Age::Newest | Age::Claimed => return self.hedged(finding),
            Age::Unknown => (
                "only the first block is read here".to_owned(),
                "an orderer answers",
            ),
            Age::Behind(there) => (
                held.map_or_else(
                    || format!("of {there} blocks the first is read here"),
                    |here| format!("the node holds {here} of {there} blocks"),
                ),
                "this node runs and has caught up",
            ),
        };
        if finding.severity != Severity::Ok {
            finding.found = format!("not judged yet, {here}: {}", finding.found);
        }
        finding.unsettled(format!(
            "a newer configuration of the channel may say otherwise: ask again when {when}"
        ))
    }

    /// What may itself keep the node from the newest configuration stays, with what else it may be;
    /// so does everything that only a claim puts in doubt.
    pub(super) fn hedged(&self, mut finding: Finding) -> Finding {
        if self.age != Age::Newest
            && let Some(advice) = &mut finding.advice
        {
            advice.push_str("; or a newer configuration of the channel says otherwise");
        }
        finding
    }

    /// Whether nothing is to be changed by this configuration.
    pub(super) fn is_old(&self) -> bool {
        matches!(self.age, Age::Behind(_) | Age::Unknown)
    }
}

/// Everything that is known, by name, and what was found wrong in looking.
pub(super) fn look(
    socket: Option<&Path>,
    data_dir: &Path,
    files: &[PathBuf],
) -> (Vec<Channel>, Vec<Finding>) {
    let mut findings = Vec::new();
    let folder = data_dir.join(FOLDER);
    let held = match socket {
        Some(socket) => of_node(socket, &folder),
        None => of_folder(&folder, &mut findings),
    };
    let mut channels = Vec::new();
    match held {
        Ok(held) => channels.extend(held.into_iter().map(|held| Channel {
            name: held.config.channel_id().to_owned(),
            config: Arc::new(held.config.clone()),
            config_at: held.config_at,
            held: Some(held),
            given: Vec::new(),
            age: Age::Newest,
        })),
        Err(error) => findings.push(
            Finding::fault(CHECK, in_one_line(&error))
                .at(folder.display().to_string())
                .because("without its ledgers the node does not start")
                .change(
                    "peer.fileSystemPath",
                    "make the folder readable, or name another",
                ),
        ),
    }
    for path in files {
        match given(path) {
            Ok(given) => add(&mut channels, given),
            Err(error) => findings.push(
                Finding::fault("genesis", in_one_line(&error))
                    .at(path.display().to_string())
                    .because("no channel can be joined by it")
                    .change(
                        "--genesis, --join",
                        "give block 0 of the channel, as `peer channel fetch oldest` writes it",
                    ),
            ),
        }
    }
    channels.sort_by(|a, b| a.name.cmp(&b.name));
    (channels, findings)
}

fn add(channels: &mut Vec<Channel>, given: Given) {
    let name = given.config.channel_id();
    if let Some(channel) = channels.iter_mut().find(|channel| channel.name == name) {
        channel.given.push(given);
        return;
    }
    channels.push(Channel {
        name: name.to_owned(),
        config: Arc::new(given.config.clone()),
        held: None,
        given: vec![given],
        config_at: 0,
        age: Age::Newest,
    });
}

fn given(path: &Path) -> Result<Given> {
    let bytes = read_input(path)?;
    ensure!(!bytes.is_empty(), "not a genesis block: the file is empty");
    let config = ChannelConfig::from_config_block(&bytes).context("not a genesis block")?;
    let block = BlockView::parse(bytes).context("not a genesis block")?;
    ensure!(
        block.number() == Some(0),
        "not a genesis block: its number is not 0"
    );
    Ok(Given {
        path: path.to_owned(),
        genesis: hash(&block)?,
        config,
    })
}

fn hash(block: &BlockView) -> Result<BlockHash> {
    BlockHash::of(block).context("a block without header")
}

/// What the running node has joined.
fn of_node(socket: &Path, folder: &Path) -> Result<Vec<Held>> {
    let names = match ask(socket, &Question::List {})? {
        Answer::Channels(names) => names,
        answer => bail!("the node answered something else: {answer:?}"),
    };
    let mut held = Vec::new();
    for channel in names {
        let fetch = |which| -> Result<Bytes> {
            let channel = channel.clone();
            match ask(socket, &Question::Fetch { channel, which })? {
                Answer::Block(block) => Ok(BASE64_STANDARD.decode(block)?.into()),
                answer => bail!("the node answered something else: {answer:?}"),
            }
        };
        let newest = BlockView::parse(fetch(Which::Newest)?)?;
        let config = BlockView::parse(fetch(Which::Config)?)?;
        held.push(Held {
            place: folder.join(&channel),
            genesis: hash(&BlockView::parse(fetch(Which::Oldest)?)?)?,
            height: newest.number().map(|number| number + 1),
            newest_at: made_at(&newest),
            config: ChannelConfig::from_config_block(config.bytes())?,
            config_at: config.number().unwrap_or_default(),
        });
    }
    Ok(held)
}

/// Ledgers of channels that were left. What cannot be read is told elsewhere.
pub(super) fn left(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir.join(FOLDER));
    let dirs = entries.into_iter().flatten().flatten();
    let dirs = dirs.map(|entry| entry.path());
    let mut dirs: Vec<_> = dirs.filter(|dir| dir.join(LEFT).exists()).collect();
    dirs.sort();
    dirs
}

/// To have left a channel is no fault.
pub(super) fn was_left(dir: &Path) -> Finding {
    let name = dir.file_name().unwrap_or_default().display();
    let found = format!(
        "channel {name} was left: its ledger is kept, and `tidings channel join` goes on with it"
    );
    Finding::ok("channel", found).at(dir.display().to_string())
}

/// What lies in the ledger folders of a node that does not run.
fn of_folder(folder: &Path, findings: &mut Vec<Finding>) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    if !folder.exists() {
        return Ok(held);
    }
    let context = || format!("cannot read {}", folder.display());
    let mut dirs = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let dir = entry.with_context(context)?.path();
        if dir.is_dir() && !dir.join(LEFT).exists() {
            dirs.push(dir);
        }
    }
    dirs.sort();
    for dir in dirs {
        match of_ledger(&dir) {
            Ok(Some(ledger)) => held.push(ledger),
            // Nothing was joined there yet.
            Ok(None) => {}
            Err(error) => findings.push(damaged(&error, &dir)),
        }
    }
    Ok(held)
}

/// Why nothing is known of what lies in a folder.
fn damaged(error: &Error, dir: &Path) -> Finding {
    let found = in_one_line(error);
    let finding = match error.downcast_ref() {
        Some(AuditError::InUse { .. }) => Finding::warning(CHECK, found)
            .because("a node runs with it that was not asked: what is said here of ports and channels is half the truth")
            .change(SOCKET, "name the socket of that node"),
        _ => Finding::fault(CHECK, found)
            .because("the node does not start with it")
            .change(
                "peer.fileSystemPath",
                "see what `tidings ledger verify` says of that folder, and put back a copy that is whole",
            ),
    };
    finding.at(dir.display().to_string())
}

/// Whether a finding says that somebody has a ledger open.
pub(super) fn is_in_use(finding: &Finding) -> bool {
    finding.check == CHECK && finding.setting.as_deref() == Some(SOCKET)
}

/// Whether a finding says that what lies here is not known.
pub(super) fn is_unread(finding: &Finding) -> bool {
    finding.check == CHECK && finding.severity == Severity::Fault
}

fn of_ledger(dir: &Path) -> Result<Option<Held>> {
    let (mut bytes, mut segments) = (0_u64, 0_u64);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "blocks")
        {
            segments += 1;
            bytes = bytes.saturating_add(path.metadata()?.len());
        }
    }
    if segments == 0 {
        return Ok(None);
    }
    let walked = bytes <= WALK_BYTES_MAX;
    let mut audit = Audit::open(dir)?;
    let Some(first) = audit.next() else {
        return Ok(None);
    };
    let first = first?;
    let genesis = hash(&first)?;
    let (mut config, mut newest) = (first.clone(), first);
    if walked {
        for block in &mut audit {
            let block = block?;
            if block.is_config_block() {
                config = block.clone();
            }
            newest = block;
        }
    }
    Ok(Some(Held {
        place: dir.to_owned(),
        genesis,
        height: walked.then(|| audit.tip().height()),
        newest_at: made_at(&newest).filter(|_| walked),
        config: ChannelConfig::from_config_block(config.bytes())?,
        config_at: config.number().unwrap_or_default(),
    }))
}

/// When a block was made, by its first transaction.
fn made_at(block: &BlockView) -> Option<i64> {
    let envelope = block.transactions().next()?;
    let header = payload_of(&envelope)?.header?;
    let header = ChannelHeader::decode(header.channel_header).ok()?;
    Some(header.timestamp?.seconds)
}

/// Whether the genesis blocks that are known of each channel are one.
pub(super) fn judge(channels: &[Channel]) -> Vec<Finding> {
    channels.iter().flat_map(one_genesis).collect()
}

fn one_genesis(channel: &Channel) -> Vec<Finding> {
    let name = &channel.name;
    let mut findings = Vec::new();
    if let Some(held) = &channel.held {
        let blocks = held.height.map_or_else(
            || "more blocks than are read here; its first configuration is used".to_owned(),
            |height| format!("height {height}"),
        );
        let place = held.place.display().to_string();
        findings.push(
            Finding::ok(
                CHECK,
                format!(
                    "channel {name}: {blocks}, configuration {}",
                    channel.config.sequence()
                ),
            )
            .at(place),
        );
    }
    let Some(known) = channel.genesis() else {
        return findings;
    };
    for given in &channel.given {
        let file = given.path.display().to_string();
        if given.genesis == known {
            let found = format!("{file} is the first block of channel {name}");
            findings.push(Finding::ok("genesis", found).at(file));
            continue;
        }
        let (place, cure) = match &channel.held {
            Some(held) => (
                format!("{file}, and {}", held.place.display()),
                format!(
                    "give the block that the ledger begins with; or, if that is the wrong one, stop the node and remove {} (below peer.fileSystemPath) to join anew",
                    held.place.display()
                ),
            ),
            None => (
                file.clone(),
                "give the genesis block of one channel only".to_owned(),
            ),
        };
        findings.push(
            Finding::fault(
                "genesis",
                format!(
                    "{file} is of another channel {name}: its hash is {}, and that of the first block here {}",
                    short(&given.genesis),
                    short(&known)
                ),
            )
            .at(place)
            .because("two chains of one name: the node cannot join by it, and would find no block that fits")
            .change("--join of `tidings node start`", cure),
        );
    }
    findings
}

/// The beginning of a hash, for a person.
pub(super) fn short(hash: &BlockHash) -> String {
    hex::encode(hash.as_bytes()).chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::sample;
    use crate::doctor::clock::Offset;

    fn said(genesis: Option<BlockHash>, config_at: Option<u64>) -> Said {
        Said {
            genesis,
            height: 10,
            config_at,
            clock: Ok(Offset::Close),
        }
    }

    #[test]
    fn nothing_is_to_be_changed_for_a_configuration_that_is_not_the_newest() {
        let (dir, _material) = sample::network(2);
        let genesis = dir.path().join("genesis.block");
        let (mut channels, wrong) = look(None, &dir.path().join("data"), &[genesis]);
        assert_eq!(wrong, []);
        let channel = &mut channels[0];
        let given = channel.given.remove(0);
        let ours = Some(given.genesis);
        channel.held = Some(Held {
            place: PathBuf::new(),
            genesis: given.genesis,
            height: Some(3),
            newest_at: None,
            config: given.config,
            config_at: 2,
        });
        channel.config_at = 2;
        let (older, newer, silent) = (said(ours, Some(2)), said(ours, Some(3)), said(ours, None));
        let foreign = said(None, Some(9));
        for (said, claimed, age) in [
            (&[][..], 3, Age::Newest),
            (&[], 4, Age::Claimed),
            // Whatever members claim: the orderer has no newer configuration.
            (&[&older], u64::MAX, Age::Newest),
            (&[&older, &newer], 0, Age::Behind(10)),
            (&[&silent, &foreign], 3, Age::Newest),
        ] {
            channel.compare(said, claimed);
            assert_eq!(channel.age, age, "{said:?} {claimed}");
        }
        channel.compare(&[&older], 0);
        let fault =
            Finding::fault("anchor peers", "there is none").change("AnchorPeers", "add one");
        assert_eq!(channel.judged(fault.clone()), fault);
        // What members claim changes no severity and hides no setting.
        channel.compare(&[], u64::MAX);
        for told in [channel.judged(fault.clone()), channel.hedged(fault.clone())] {
            assert_eq!(
                (told.severity, &told.setting),
                (fault.severity, &fault.setting)
            );
            let advice = "add one; or a newer configuration of the channel says otherwise";
            assert_eq!(told.advice.as_deref(), Some(advice));
        }
        channel.compare(&[&newer], 0);
        assert_eq!(channel.hedged(fault.clone()).severity, Severity::Fault);
        let told = channel.judged(fault.clone());
        assert_eq!(told.severity, Severity::Warning);
        let found = "not judged yet, the node holds 3 of 10 blocks: there is none";
        assert_eq!(
            (&*told.found, told.setting, told.advice),
            (found, None, None)
        );
        let ok = Finding::ok("anchor peers", "answers");
        assert_eq!(channel.judged(ok.clone()), ok);
        // As of one that is too large to walk.
        channel.held.as_mut().unwrap().height = None;
        let told = channel.judged(Finding::fault("anchor peers", "x")).found;
        assert!(
            told.contains("of 10 blocks the first is read here"),
            "{told}"
        );
        // Only the first configuration is known.
        channel.config_at = 0;
        for (said, age) in [
            (&[][..], Age::Unknown),
            (&[&silent], Age::Unknown),
            (&[&foreign], Age::Newest),
            (&[&older], Age::Behind(10)),
        ] {
            channel.compare(said, u64::MAX);
            assert_eq!(channel.age, age, "{said:?}");
        }
        channel.compare(&[], 0);
        let told = channel.judged(fault);
        assert_eq!((told.severity, told.setting), (Severity::Warning, None));
        let found = "not judged yet, only the first block is read here: there is none";
        assert_eq!(told.found, found);
    }

    #[test]
    fn a_channel_that_was_left_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        assert!(left(dir.path()).is_empty());
        for (name, mark) in [("b", LEFT), ("a", LEFT), ("joined", "x")] {
            let place = dir.path().join(FOLDER).join(name);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join(mark), "").unwrap();
        }
        let told: Vec<_> = left(dir.path()).iter().map(|dir| was_left(dir)).collect();
        let [a, b] = &told[..] else {
            panic!("{told:?}");
        };
        assert!(a.found.starts_with("channel a was left"), "{a:?}");
        assert_eq!((a.severity, b.severity), (Severity::Ok, Severity::Ok));
    }
}
