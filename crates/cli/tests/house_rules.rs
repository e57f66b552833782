//! The rules of ARCHITECTURE.md that a machine can check, so that no reviewer has to.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Who may know whom. Anything not listed is forbidden.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("tidings-proto", &[]),
    ("tidings-msp", &["tidings-proto"]),
    ("tidings-gossip", &["tidings-proto"]),
    ("tidings-ledger", &["tidings-proto"]),
    (
        "tidings-node",
        &[
            "tidings-gossip",
            "tidings-ledger",
            "tidings-msp",
            "tidings-proto",
        ],
    ),
    (
        "tidings",
        &[
            "tidings-gossip",
            "tidings-ledger",
            "tidings-msp",
            "tidings-node",
            "tidings-proto",
        ],
    ),
    ("tidings-sim", &["tidings-gossip", "tidings-proto"]),
    (
        "tidings-bench",
        &[
            "tidings-gossip",
            "tidings-ledger",
            "tidings-msp",
            "tidings-node",
            "tidings-proto",
        ],
    ),
];

/// The protocol crates do no IO: these may not be among their dependencies, however deep.
const PURE: &[&str] = &["tidings-proto", "tidings-msp", "tidings-gossip"];
const IO: &[&str] = &["tokio", "tonic", "rustls", "hyper", "h2", "mio", "rustix"];

/// Longest source file, tests and generated code left out.
const LINES_MAX: usize = 650;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--package", package])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn crates_know_only_whom_they_may_know() {
    let rules: BTreeMap<_, _> = MAY_KNOW.iter().copied().collect();
    for (package, allowed) in rules {
        for name in tree(package) {
            let ours = name == "tidings" || name.starts_with("tidings-");
            assert!(
                !ours || name == package || allowed.contains(&name.as_str()),
                "{package} must not depend on {name}"
            );
        }
    }
}

#[test]
fn the_protocol_crates_do_no_io() {
    for package in PURE {
        for name in tree(package) {
            assert!(
                !IO.contains(&name.as_str()),
                "{package} must not depend on {name}"
            );
        }
    }
}

#[test]
fn there_is_one_crypto_provider() {
    assert!(
        !tree("tidings").contains(&"ring".to_owned()),
        "ring came back beside aws-lc-rs"
    );
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("generated") && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("house_rules.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn source_files_keep_to_the_house_style() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: opens without saying what it promises"));
        }
        let lines = text.lines().count();
        let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
        if lines > LINES_MAX && !is_test {
            wrong.push(format!("{name}: {lines} lines, split it by idea"));
        }
        for banned in ["todo!(", "unimplemented!(", "FIXME", "XXX"] {
            if text.contains(banned) {
                wrong.push(format!("{name}: holds {banned}"));
            }
        }
        for vague in ["utils.rs", "helpers.rs", "common.rs", "types.rs", "misc.rs"] {
            if name.ends_with(&format!("/{vague}")) {
                wrong.push(format!("{name}: says nothing by its name"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
