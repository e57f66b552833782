//! When there is no room for private data: a clear error, nothing lost that was acknowledged, and
//! all goes on when there is room again, without a restart.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use bytes::Bytes;
use made::child_dir;
use tempfile::tempdir;
use tidings_ledger::{
    StoreError,
    private::{Content, PrepareError, PrivateBlock, PrivateEntry, PrivateStore},
    transient::{Push, PutError, TransientStore, WriteSetName},
};

const LEN: usize = 20_000;

fn body(number: u64) -> Bytes {
    vec![number.to_le_bytes()[0]; LEN].into()
}

fn push(number: u64) -> Push {
    Push {
        tx_id: number.to_string(),
        namespace: "cc".to_owned(),
        collection: "col".to_owned(),
        height: number,
        owner: Bytes::new(),
        org: Bytes::new(),
        is_own: true,
        bytes: body(number),
    }
}

fn block(number: u64) -> PrivateBlock {
    let entry = PrivateEntry {
        tx: 0,
        namespace: "ns".into(),
        collection: "coll".into(),
        block_to_live: 0,
        content: Content::Held(body(number)),
    };
    PrivateBlock {
        number,
        entries: vec![entry],
        purges: Vec::new(),
        left_out: BTreeMap::new(),
    }
}

fn check_full(error: &StoreError) {
    let StoreError::Failed(failed) = error else {
        panic!("{error}");
    };
    assert!(failed.is_full(), "{error}");
    let text = error.to_string();
    assert!(text.contains("free some space and try again"), "{text}");
}

/// Puts until there is no room; says how many were taken.
fn fill_transient(store: &TransientStore, from: u64) -> u64 {
    let refused = |error: PutError| match error {
        PutError::Store(error) => check_full(&error),
        other => panic!("{other}"),
    };
    for number in from..10_000 {
        if let Err(error) = store.put(push(number)) {
            refused(error);
            refused(store.put(push(number)).expect_err("there is still no room"));
            return number;
        }
    }
    panic!("no limit here");
}

fn check_transient(store: &TransientStore, len: u64) {
    for number in 0..len {
        let name = WriteSetName {
            tx_id: &number.to_string(),
            namespace: "cc",
            collection: "col",
        };
        let mut copies = store.of(name).unwrap();
        assert_eq!(copies.next().unwrap().unwrap(), body(number));
    }
}

fn fill_private(store: &PrivateStore, from: u64) -> u64 {
    let refused = |error: PrepareError| match error {
        PrepareError::Store(error) => check_full(&error),
        other => panic!("{other}"),
    };
    for number in from..10_000 {
        if let Err(error) = store.prepare(&[block(number)]) {
            refused(error);
            refused(
                store
                    .prepare(&[block(number)])
                    .expect_err("there is still no room"),
            );
            return number;
        }
    }
    panic!("no limit here");
}

fn check_private(store: &PrivateStore, len: u64) {
    for number in 0..len {
        let mut sets = store.sets(number, len).unwrap();
        assert_eq!(sets.next().unwrap().unwrap().rwset, body(number));
    }
}

/// Runs in a child whose disk is small.
#[test]
fn fill_up_in_a_child() {
    let Some(dir) = child_dir() else { return };
    let ballast = dir.join("ballast");

    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let path = dir.join("transient");
    let store = TransientStore::open(&path).unwrap();
    let first = fill_transient(&store, 0);
    check_transient(&store, first);
    fs::remove_file(&ballast).unwrap();
    let second = fill_transient(&store, first);
    assert!(second > first, "{second} > {first}");
    drop(store);
    let store = TransientStore::open(&path).expect("opening takes no room");
    check_transient(&store, second);
    drop(store);
    fs::remove_dir_all(path).unwrap();

    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let path = dir.join("private");
    let store = PrivateStore::open(&path, 0).unwrap();
    let first = fill_private(&store, 0);
    check_private(&store, first);
    fs::remove_file(&ballast).unwrap();
    let second = fill_private(&store, first);
    assert!(second > first, "{second} > {first}");
    drop(store);
    let store = PrivateStore::open(&path, second).expect("opening takes no room");
    check_private(&store, second);
    println!("\nfilled");
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_takes_it_when_there_is_room() {
    let mount = tempdir().unwrap();
    let probe = ["unshare", "-Urm", "sh", "-c"];
    let mounted = "mount -t tmpfs -o size=8m none \"$MOUNT\"";
    let run = |script: &str, arguments: &[&std::ffi::OsStr], dir: Option<&Path>| {
        let mut command = Command::new(probe[0]);
        command.args(&probe[1..]).arg(script).args(arguments);
        command.env("MOUNT", mount.path());
        if let Some(dir) = dir {
            let child = made::child("fill_up_in_a_child", dir);
            command.arg(child.get_program()).args(child.get_args());
            command.envs(
                child
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        }
        command.output()
    };
    if !run(mounted, &[], None).is_ok_and(|output| output.status.success()) {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!(
                "SKIPPED: no small disk can be mounted here: private data on a full disk\n"
            ),
        );
        return;
    }
    let script = format!("{mounted} && exec \"$0\" \"$@\"");
    let output = run(&script, &[], Some(mount.path())).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
    assert!(text.contains("\nfilled"), "{text}{error}");
}
