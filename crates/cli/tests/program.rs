//! The program as somebody at a terminal meets it: output, exit status, one line for what is
//! wrong. Runs the built binary; opens only ports that the system chooses.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::SystemTime,
};

use tidings_ledger::{Audit, Ledger, Retention, Settings};

fn tidings(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(arguments)
        .output()
        .expect("the binary was built")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The one line on standard error of a command that failed.
fn complaint(arguments: &[&str]) -> String {
    let output = tidings(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("tidings: "), "{arguments:?}: {text}");
    last
}

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
        format_args!("SKIPPED: ../shared is not here: commands on recorded material\n"),
    );
    None
}

#[test]
fn version_and_help_are_there() {
    let version = tidings(&["version"]);
    assert!(version.status.success());
    assert!(stdout(&version).starts_with(concat!("tidings ", env!("CARGO_PKG_VERSION"))));
    for command in [
        &["--help"][..],
        &["demo", "--help"],
        &["block", "verify", "--help"],
    ] {
        let help = tidings(command);
        assert!(help.status.success() && stdout(&help).contains("Example") || command.len() == 1);
    }
    assert_eq!(tidings(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn what_cannot_be_read_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.pb");
    fs::write(&file, "this is no block").unwrap();
    let file = file.to_str().unwrap();
    assert!(complaint(&["block", "show", "absent.pb"]).contains("cannot read absent.pb"));
    assert!(complaint(&["block", "show", file]).contains("text.pb is not a block"));
    assert!(complaint(&["block", "verify", "--genesis", file, file]).contains("is not a block"));
    assert!(complaint(&["envelope", "show", "neither"]).contains("neither a file nor hex"));
    let mistyped = complaint(&["envelope", "show", "alive/msg"]);
    assert!(mistyped.contains("neither a file"), "{mistyped}");
    let mistyped = complaint(&["envelope", "show", "alivemsg"]);
    assert!(mistyped.contains("there is no file alivemsg"), "{mistyped}");
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    let empty = complaint(&["envelope", "show", empty.to_str().unwrap()]);
    assert!(empty.contains("empty: it is empty"), "{empty}");
    assert!(complaint(&["ledger", "verify", dir.path().to_str().unwrap()]).contains("no ledger"));
}

#[test]
fn a_demo_that_cannot_begin_says_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "").unwrap();
    let used = dir.path().to_str().unwrap();
    assert!(complaint(&["demo", "--no-page", "--dir", used]).contains("is not empty"));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing was put there"
    );

    let file = dir.path().join("mine").to_str().unwrap().to_owned();
    let in_the_way = complaint(&["demo", "--no-page", "--dir", &file]);
    assert!(
        in_the_way.ends_with("File exists (os error 17); name another folder"),
        "{in_the_way}"
    );
    assert!(complaint(&["demo", "--no-page", "--recorded", used]).contains("is no recording"));
    let output = tidings(&["demo", "--no-page", "--rate", "-1"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("'-1' for '--rate <R>'") && text.contains("0.001 to 100000"),
        "{text}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(complaint(&["demo", "--page-port", &port]).contains("--page-port"));
}

#[test]
fn block_verify_answers_by_line_by_json_and_by_status() {
    let Some(folder) = fixtures() else { return };
    let genesis = folder.join("genesis.block");
    let block = |name: &str| {
        folder
            .join("blocks")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let genesis = genesis.to_str().unwrap();
    let (good, bad) = (block("ordered_04.pb"), block("bad_data_flipped_bit.pb"));

    let output = tidings(&["block", "verify", "--genesis", genesis, &good]);
    assert!(output.status.success());
    assert!(stdout(&output).starts_with("good     "));

    let output = tidings(&[
        "block",
        "verify",
        "--genesis",
        genesis,
        "--json",
        &good,
        &bad,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["channel"], "mychannel");
    assert_eq!(report["blocks"][0]["good"], true);
    assert_eq!(report["blocks"][0]["reason"], serde_json::Value::Null);
    assert_eq!(report["blocks"][1]["good"], false);
    assert!(
        report["blocks"][1]["reason"]
            .as_str()
            .unwrap()
            .contains("data hash")
    );

    let output = tidings(&[
        "block",
        "verify",
        "--genesis",
        genesis,
        "--number",
        "5",
        &good,
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("claimed number is 5"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Two at a time: neither needs the port that the orderer had when it was recorded.
#[test]
fn recordings_are_replayed_on_free_ports() {
    let Some(folder) = fixtures() else { return };
    let expected = fs::read(folder.join("blocks/expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let last = expected["blocks"].as_array().unwrap().last().unwrap();
    let replay = || {
        Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["demo", "--no-page", "--exit", "--json", "--rate", "max"])
            .args(["--peers", "1", "--recorded", folder.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    for demo in [replay(), replay()] {
        let output = demo.wait_with_output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{report:#}");
        let nodes = report["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 2);
        for node in nodes {
            assert_eq!(node["height"], 20);
            assert_eq!(node["last_block_hash"], last["header_hash"]);
        }
    }
}

/// Nodes would ask for a bad block again and again, until the demo lost patience.
#[test]
fn a_recording_with_a_bad_block_is_refused_before_anything_runs() {
    let Some(folder) = fixtures() else { return };
    let dir = tempfile::tempdir().unwrap();
    copy(&folder.join("crypto"), &dir.path().join("crypto"));
    fs::copy(
        folder.join("genesis.block"),
        dir.path().join("genesis.block"),
    )
    .unwrap();
    let blocks = dir.path().join("blocks");
    fs::create_dir(&blocks).unwrap();
    let recorded = |number: u64| folder.join(format!("blocks/ordered_{number:02}.pb"));
    for number in 1..=6 {
        fs::copy(
            recorded(number),
            blocks.join(format!("ordered_{number:02}.pb")),
        )
        .unwrap();
    }
    let place = blocks.join("ordered_04.pb");
    let dir = dir.path().to_str().unwrap();
    let refused = || complaint(&["demo", "--no-page", "--exit", "--recorded", dir]);

    let mut bytes = fs::read(&place).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&place, bytes).unwrap();
    let said = refused();
    assert!(
        said.contains("blocks/ordered_04.pb: ") && said.contains("data hash"),
        "{said}"
    );
    fs::copy(recorded(5), &place).unwrap();
    let said = refused();
    assert!(
        said.contains("blocks/ordered_04.pb: ") && said.contains("claimed number is"),
        "{said}"
    );
    fs::write(&place, "this is no block").unwrap();
    assert!(refused().contains("blocks/ordered_04.pb is not a block"));
}

/// A whole network, small: keys, orderer, nodes, blocks, a node killed on the way, ledgers
/// verified, folder kept and readable by the other commands.
#[test]
fn a_demo_ends_with_the_same_verified_chain_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("demo");
    let output = tidings(&[
        "demo",
        "--orgs",
        "2",
        "--peers",
        "2",
        "--blocks",
        "12",
        "--rate",
        "20",
        "--exit",
        "--json",
        "--no-page",
        "--kill-one",
        "--dir",
        kept.to_str().unwrap(),
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["ok"], true);
    let nodes = report["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 4);
    for node in nodes {
        assert_eq!(node["height"], 13);
        assert_eq!(node["last_block_hash"], nodes[0]["last_block_hash"]);
        let ways: u64 = node["blocks"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|n| n.as_u64())
            .sum();
        assert_eq!(ways, 12, "every block came one way, once: {node}");
        assert!(node["bytes"]["sent"].as_u64().unwrap() > 0);
    }
    for latency in ["p50", "p99", "max"] {
        assert!(report["latency_ms"][latency].as_f64().unwrap() > 0.0);
    }

    let genesis = kept.join("genesis.block");
    let show = tidings(&["block", "show", genesis.to_str().unwrap()]);
    assert!(
        stdout(&show).contains("Org2MSP, anchor peers: 127.0.0.1:"),
        "{}",
        stdout(&show)
    );
    let progress = String::from_utf8(output.stderr).unwrap();
    for said in [
        "killed peer1.org2.demo, the",
        "started peer1.org2.demo again",
    ] {
        assert!(progress.contains(said), "{progress}");
    }
    let done = progress
        .lines()
        .filter(|line| line.contains("at 13 of 13, nodes at 13..13, 4 of 4"));
    assert_eq!(done.count(), 1, "{progress}");

    let ledger = kept.join("nodes/peer1.org2.demo/channels/tidings");
    let shelf = Shelf {
        dir: dir.path(),
        genesis: genesis.to_str().unwrap(),
    };
    let text = ledger.to_str().unwrap();
    blocks_go_into_files(text, &shelf);
    ledgers_are_made_of_files(text, &shelf);
    spoilt_files_are_refused(text, &shelf);
    blocks_of_a_pruned_ledger_want_those_before_them(&shelf);
    a_ledger_is_judged(&ledger, nodes[0]["last_block_hash"].as_str().unwrap());
}

/// Blocks in files, and the folder in which those are.
struct Shelf<'a> {
    dir: &'a Path,
    genesis: &'a str,
}

impl Shelf<'_> {
    fn place(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// What it says, and the file.
    fn export(&self, ledger: &str, range: &[&str], file: &str) -> (String, Vec<u8>) {
        let (export, place) = (["ledger", "export"], self.place(file));
        let output = tidings(&[&export[..], range, &[ledger, &place]].concat());
        assert!(output.status.success(), "{output:?}");
        (stdout(&output), fs::read(place).unwrap())
    }

    /// Whether it succeeds, and what it says.
    fn import(&self, files: &[&str], to: &str) -> (bool, String) {
        let files: Vec<String> = files.iter().map(|file| self.place(file)).collect();
        let mut arguments = vec!["ledger", "import", "--genesis", self.genesis];
        arguments.extend(files.iter().map(String::as_str));
        let to = self.place(to);
        arguments.push(&to);
        let output = tidings(&arguments);
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        (output.status.success(), stdout(&output) + &error)
    }
}

/// Out of a ledger of 13 blocks, whole, in parts, and alone.
fn blocks_go_into_files(ledger: &str, shelf: &Shelf<'_>) {
    let (dir, place) = (shelf.dir, |name| shelf.place(name));
    let export = |range: &[&str], file| shelf.export(ledger, range, file);
    let (said, whole) = export(&[], "whole");
    assert!(said.contains("wrote 13 blocks") && said.contains("from 0 to 12"));
    let (_, head) = export(&["--to", "5"], "head");
    let (_, tail) = export(&["--from", "6"], "tail");
    assert_eq!([head, tail].concat(), whole);
    let again = complaint(&["ledger", "export", ledger, &place("whole")]);
    assert!(
        again.ends_with("remove it, or choose another name"),
        "{again}"
    );
    let nowhere = complaint(&["ledger", "export", ledger, &place("no/such")]);
    assert!(nowhere.contains("make its folder"), "{nowhere}");
    let beyond = ["ledger", "export", "--to", "13", ledger, &place("beyond")];
    assert!(complaint(&beyond).contains("has blocks from 0 to 12 only"));
    assert!(!dir.join("beyond").exists());
    let (_, seventh) = export(&["--from", "6", "--to", "6"], "sixth");
    let len_len = seventh.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    fs::write(dir.join("alone"), &seventh[len_len..]).unwrap();
}

/// Of those files into other ledgers, in steps.
fn ledgers_are_made_of_files(ledger: &str, shelf: &Shelf<'_>) {
    let import = |files: &[&str], to| shelf.import(files, to);
    for (file, expected) in [
        ("tail", "give the files with blocks 1 to 5 before this one"),
        ("", "is a folder: give files as"),
    ] {
        let (good, said) = import(&[file], "copy");
        assert!(!good && said.contains(expected), "{said}");
        assert!(
            !shelf.dir.join("copy").exists(),
            "not even the folder is made"
        );
    }
    assert!(
        import(&["tail"], "copy")
            .1
            .contains("nothing was written to")
    );
    let (good, said) = import(&["head"], "tail");
    assert!(
        !good && said.contains("tail is a file: name the folder"),
        "{said}"
    );
    let parts = import(&["head", "alone"], "copy");
    assert!(
        parts.0 && parts.1.contains("now has 7 blocks, of which 6 came"),
        "{}",
        parts.1
    );
    let rest = import(&["whole"], "copy");
    assert!(
        rest.0 && rest.1.contains("now has 13 blocks, of which 6 came"),
        "{}",
        rest.1
    );
    let hash = |dir: &str| {
        let output = tidings(&["ledger", "verify", "--json", dir]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["last_block_hash"].clone()
    };
    assert_eq!(hash(&shelf.place("copy")), hash(ledger));
}

/// Of files that were cut off and altered.
fn spoilt_files_are_refused(ledger: &str, shelf: &Shelf<'_>) {
    let dir = shelf.dir;
    let import = |files: &[&str], to: &str| shelf.import(files, to);
    let whole = fs::read(dir.join("whole")).unwrap();
    fs::write(dir.join("short"), &whole[..whole.len() - 9]).unwrap();
    let short = import(&["short"], "short-copy");
    assert!(!short.0 && short.1.contains("short, byte"), "{}", short.1);
    assert!(
        short.1.contains("the ledger in") && short.1.contains("ends with block 11"),
        "{}",
        short.1
    );
    // In the header of block 0, and in the transactions of block 1.
    let (_, first) = shelf.export(ledger, &["--to", "0"], "first");
    for (at, expected) in [
        (10, "block 0 is not the one"),
        (first.len() + 200, "block 1 is refused"),
    ] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        fs::write(dir.join("altered"), &altered).unwrap();
        let (good, said) = import(&["altered"], &format!("altered-{at}"));
        assert!(
            !good && said.contains("altered, byte") && said.contains(expected),
            "{said}"
        );
    }
    let other = import(&["head"], "no/such/../folder");
    assert!(other.0, "{}", other.1);
}

/// Of what a pruned ledger has left no ledger is made.
fn blocks_of_a_pruned_ledger_want_those_before_them(shelf: &Shelf<'_>) {
    let from = pruned(&shelf.dir.join("copy"), &shelf.dir.join("pruned"));
    let (said, _) = shelf.export(&shelf.place("pruned"), &[], "left");
    let behind = format!("takes them behind blocks 0 to {} only", from - 1);
    assert!(said.contains(&behind), "{said}");
    let (good, said) = shelf.import(&["left"], "of-the-rest");
    let missing = format!("`tidings ledger export --from 1 --to {}`", from - 1);
    assert!(!good && said.contains(&missing), "{said}");
    assert!(shelf.import(&["whole", "left"], "of-all").0);
}

/// A ledger with the last blocks of another; says from which on.
fn pruned(whole: &Path, dir: &Path) -> u64 {
    let settings = Settings {
        segment_len_max: 1,
        retention: Retention {
            blocks: Some(4),
            age: None,
        },
        ..Settings::default()
    };
    let mut ledger = Ledger::open_with(dir, settings).unwrap();
    for block in Audit::open(whole).unwrap() {
        ledger.append(&[block.unwrap()]).unwrap();
    }
    let mut prune = || ledger.prune(SystemTime::now(), &|_| false).unwrap();
    while prune().is_some() {}
    ledger.reader().first()
}

/// By a sentence, by JSON and by status: whole, with a tail that a crash left, and damaged.
fn a_ledger_is_judged(ledger: &Path, last_hash: &str) {
    let dir = ledger.to_str().unwrap();
    let json = |status| {
        let output = tidings(&["ledger", "verify", "--json", dir]);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let whole = tidings(&["ledger", "verify", dir]);
    assert!(whole.status.success());
    assert!(stdout(&whole).contains("holds 13 blocks of channel tidings"));
    assert!(!stdout(&whole).contains("cuts them"));
    let expected = serde_json::json!({
        "good": true, "reason": null, "channel": "tidings", "height": 13,
        "last_block_hash": last_hash, "config_sequence": 0, "torn_tail_bytes": 0,
        "first_block": 0, "held_blocks": 0,
    });
    assert_eq!(json(0), expected);

    let segment = ledger.join("00000000000000000000.blocks");
    let good = fs::read(&segment).unwrap();
    let torn = [&good[..], &[0x5a; 70_000]].concat();
    fs::write(&segment, &torn).unwrap();
    let mut with_tail = expected;
    with_tail["torn_tail_bytes"] = 70_000.into();
    assert_eq!(json(0), with_tail);
    let said = stdout(&tidings(&["ledger", "verify", dir]));
    assert!(
        said.contains("70000 bytes follow that were never reported as committed")
            && said.contains("fetches block 13 again"),
        "{said}"
    );
    assert_eq!(fs::read(&segment).unwrap(), torn, "nothing was changed");

    // In the first block, which no node writes together with others: that it had been committed
    // can be seen from those behind it.
    let mut bad = good;
    bad[1000] ^= 1;
    fs::write(&segment, bad).unwrap();
    let verdict = json(1);
    assert_eq!(
        (&verdict["good"], &verdict["height"]),
        (&false.into(), &0.into())
    );
    let reason = verdict["reason"].as_str().unwrap();
    assert!(
        reason.contains("is damaged at byte 32, block 0"),
        "{reason}"
    );
    assert!(complaint(&["ledger", "verify", dir]).contains("is damaged at byte"));

    let absent = ledger.join("absent");
    let output = tidings(&["ledger", "verify", "--json", absent.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&verdict["good"], &verdict["height"]),
        (&false.into(), &0.into())
    );
}
