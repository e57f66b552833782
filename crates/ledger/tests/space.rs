//! When there is no room: one clear error, nothing lost, and the same blocks go in later.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use made::{Chain, behind, block, child_dir, files};
use tempfile::tempdir;
use tidings_ledger::{AppendError, Ledger, Settings, Tip};
use tidings_proto::block::BlockView;

fn group(tip: Tip) -> Vec<BlockView> {
    let first = block(tip, &[10_000]);
    let second = block(behind(&first), &[10_000]);
    vec![first, second]
}

/// Appends groups until there is no room, and checks that the refused one left no trace.
fn fill(ledger: &mut Ledger, chain: &mut Chain) {
    let refused = loop {
        let group = group(chain.tip());
        match ledger.append(&group) {
            Ok(_) => chain.extend(group),
            Err(error) => break error,
        }
        assert!(chain.blocks.len() < 1_000, "no limit here");
    };
    assert!(matches!(refused, AppendError::NoSpace(_)), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("free some space and try again"),
        "{refused}"
    );
    let again = ledger.append(&group(chain.tip()));
    assert!(matches!(again, Err(AppendError::NoSpace(_))), "{again:?}");
    chain.check(ledger);
    let last = files(ledger.dir(), "blocks").pop().unwrap();
    let first: usize = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let stored: usize = chain.blocks[first..]
        .iter()
        .map(|block| 40 + block.bytes().len())
        .sum();
    assert_eq!(
        fs::metadata(last).unwrap().len(),
        32 + stored as u64,
        "cut back"
    );
}

/// Runs in a child whose files may not grow, or whose disk is small.
#[test]
fn fill_up_in_a_child() {
    let Some(dir) = child_dir() else { return };
    let entries = std::env::var("ENTRIES").unwrap().parse().unwrap();
    let settings = Settings {
        segment_entries_max: entries,
        ..Settings::default()
    };
    let ballast = dir.parent().unwrap().join("ballast");
    if std::env::var_os("BALLAST").is_some() {
        fs::write(&ballast, vec![1; 200_000]).unwrap();
    }
    let mut ledger = Ledger::open_with(&dir, settings).unwrap();
    let mut chain = Chain::default();
    fill(&mut ledger, &mut chain);
    if ballast.exists() {
        fs::remove_file(&ballast).unwrap();
        let refused_before = group(chain.tip());
        ledger.append(&refused_before).unwrap();
        chain.extend(refused_before);
        fill(&mut ledger, &mut chain);
    } else {
        let small = block(chain.tip(), &[1]);
        ledger
            .append(std::slice::from_ref(&small))
            .expect("a small block still fits");
        chain.extend(vec![small]);
    }
    drop(ledger);
    chain.audit(&dir);
    let ledger = Ledger::open_with(&dir, settings).unwrap();
    assert_eq!(ledger.recovery().cut, None);
    chain.check(&ledger);
    println!("\nfilled {}", chain.blocks.len());
}

/// Runs the child under a shell script that makes the limit; says how many blocks went in.
fn limited(shell: &[&str], script: &str, env: &[(&str, &str)], dir: &Path) -> u64 {
    let child = made::child("fill_up_in_a_child", dir);
    let mut command = Command::new(shell[0]);
    command
        .args(&shell[1..])
        .arg(script)
        .arg(child.get_program())
        .args(child.get_args());
    command.envs(
        child
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let output = command.envs(env.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    let filled = text.lines().find_map(|line| line.strip_prefix("filled "));
    filled
        .unwrap_or_else(|| panic!("{text}{error}"))
        .parse()
        .unwrap()
}

#[test]
fn a_file_that_may_not_grow_refuses_a_block_and_loses_none() {
    let dir = tempdir().unwrap();
    let dir = dir.path().join("ledger");
    // A shell that ignores the signal hands that on, so that writing fails with an error.
    let script = "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\"";
    let height = limited(&["sh", "-c"], script, &[("ENTRIES", "1000")], &dir);
    assert!(height >= 5, "{height}");
    let mut ledger = Ledger::open(&dir).unwrap();
    assert_eq!(ledger.height(), height);
    let refused_before = group(ledger.tip());
    assert_eq!(ledger.append(&refused_before).unwrap().height(), height + 2);
}

#[test]
fn a_full_disk_refuses_a_block_loses_none_and_takes_it_when_there_is_room() {
    let mount = tempdir().unwrap();
    let probe = ["unshare", "-Urm", "sh", "-c"];
    let mounted = "mount -t tmpfs -o size=1m none \"$MOUNT\"";
    let able = Command::new(probe[0])
        .args(&probe[1..])
        .arg(mounted)
        .env("MOUNT", mount.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !able {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no small disk can be mounted here: appending to a full disk\n"),
        );
        return;
    }
    let dir: PathBuf = mount.path().join("ledger");
    let script = format!("{mounted} && exec \"$0\" \"$@\"");
    let mount = mount.path().to_str().unwrap();
    // With six entries a segment is finished every few blocks, so that finishing fails too.
    for entries in ["4", "6", "1000"] {
        let env = [("ENTRIES", entries), ("BALLAST", "1"), ("MOUNT", mount)];
        let height = limited(&probe, &script, &env, &dir);
        assert!(height > 60, "{height}");
    }
}
