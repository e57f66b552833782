//! The program as somebody at a terminal meets it: output, exit status, one line for what is
//! wrong. Runs the built binary; opens only ports that the system chooses.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

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
    assert!(complaint(&["demo", "--no-page", "--dir", &file]).contains("--dir"));
    assert!(complaint(&["demo", "--no-page", "--recorded", used]).contains("is no recording"));
    assert!(complaint(&["demo", "--no-page", "--rate=-3"]).contains("--rate"));

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
    let ledger = kept.join("nodes/peer1.org2.demo/channels/tidings");
    let verify = tidings(&["ledger", "verify", ledger.to_str().unwrap()]);
    assert!(stdout(&verify).contains("holds 13 blocks of channel tidings"));
}
