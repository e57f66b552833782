//! The files of both stores of private data: locked, checked on opening, never made anew over
//! something that is there.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use bytes::Bytes;
use made::{child, child_dir};
use redb::{Database, ReadableDatabase, TableDefinition};
use tempfile::tempdir;
use tidings_ledger::{
    StoreOpenError,
    private::{Content, Counts, PrivateBlock, PrivateEntry, PrivateStore},
    transient::{Push, TransientStore, Usage, WriteSetName},
};

/// One of the two stores, with some content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Transient,
    Private,
}

const BOTH: [Which; 2] = [Which::Transient, Which::Private];
const LEN: u64 = 30;

fn body(number: u64) -> Bytes {
    let len = usize::try_from(number * number * 9).unwrap();
    vec![number.to_le_bytes()[0]; len].into()
}

impl Which {
    fn file(self) -> &'static str {
        match self {
            Self::Transient => "transient.redb",
            Self::Private => "private.redb",
        }
    }

    /// Opens the store and closes it again; says whether it was made.
    fn open(self, dir: &Path) -> Result<bool, StoreOpenError> {
        match self {
            Self::Transient => TransientStore::open(dir).map(|store| store.was_created()),
            Self::Private => PrivateStore::open(dir, 0).map(|store| store.was_created()),
        }
    }

    fn fill(self, dir: &Path) {
        match self {
            Self::Transient => {
                let store = TransientStore::open(dir).unwrap();
                for number in 0..LEN {
                    let push = Push {
                        tx_id: format!("tx {number}"),
                        namespace: "cc".into(),
                        collection: "col".into(),
                        height: number,
                        owner: Bytes::from_static(b"owner"),
                        org: Bytes::from_static(b"org"),
                        is_own: true,
                        bytes: body(number),
                    };
                    store.put(push).unwrap();
                }
            }
            Self::Private => {
                let store = PrivateStore::open(dir, 0).unwrap();
                for number in 0..LEN {
                    store.prepare(&[block(number)]).unwrap();
                }
            }
        }
    }

    /// The content is what `fill` put in.
    fn check(self, dir: &Path) {
        match self {
            Self::Transient => {
                let store = TransientStore::open(dir).unwrap();
                assert_eq!(store.usage().unwrap().copies, LEN);
                for number in 0..LEN {
                    let name = WriteSetName {
                        tx_id: &format!("tx {number}"),
                        namespace: "cc",
                        collection: "col",
                    };
                    let mut copies = store.of(name).unwrap();
                    assert_eq!(copies.next().unwrap().unwrap(), body(number));
                }
            }
            Self::Private => {
                let store = PrivateStore::open(dir, 0).unwrap();
                assert_eq!(store.height().unwrap(), LEN);
                for number in 0..LEN {
                    let mut sets = store.sets(number, LEN).unwrap();
                    assert_eq!(sets.next().unwrap().unwrap().rwset, body(number));
                }
            }
        }
    }

    /// There is nothing in it.
    fn is_empty(self, dir: &Path) -> bool {
        match self {
            Self::Transient => {
                TransientStore::open(dir).unwrap().usage().unwrap() == Usage::default()
            }
            Self::Private => {
                let store = PrivateStore::open(dir, 0).unwrap();
                let counts = store.backlog(u64::MAX).unwrap().total();
                store.height().unwrap() == 0 && counts == Counts::default()
            }
        }
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

/// A folder with a filled store.
fn filled(which: Which) -> (tempfile::TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    which.fill(dir.path());
    let path = dir.path().join(which.file());
    (dir, path)
}

fn refused(which: Which, dir: &Path) -> StoreOpenError {
    which.open(dir).expect_err("it cannot be opened")
}

#[test]
fn a_folder_without_the_file_gets_an_empty_store_and_one_with_it_never() {
    for which in BOTH {
        let (dir, path) = filled(which);
        assert!(!which.open(dir.path()).unwrap());
        which.check(dir.path());
        fs::rename(&path, dir.path().join("moved away")).unwrap();
        assert!(which.open(dir.path()).unwrap());
        assert!(!which.open(dir.path()).unwrap());
        assert!(which.is_empty(dir.path()));
        fs::rename(dir.path().join("moved away"), &path).unwrap();
        which.check(dir.path());
    }
}

#[test]
fn what_a_crash_left_of_making_a_store_is_made_anew() {
    for which in BOTH {
        let dir = tempdir().unwrap();
        let draft = dir.path().join(format!("{}-draft", which.file()));
        for left in [&b""[..], b"redb", &[7; 10_000]] {
            fs::write(&draft, left).unwrap();
            assert!(which.open(dir.path()).unwrap());
            assert!(!draft.exists());
            assert!(which.is_empty(dir.path()));
            fs::remove_file(dir.path().join(which.file())).unwrap();
        }
    }
}

#[test]
fn a_folder_has_one_store_open_in_this_process() {
    let dir = tempdir().unwrap();
    let transient = TransientStore::open(dir.path()).unwrap();
    for which in BOTH {
        let error = refused(which, dir.path());
        assert!(matches!(&error, StoreOpenError::InUse { dir: named } if named == dir.path()));
        assert!(
            error.to_string().contains("stop the other process"),
            "{error}"
        );
    }
    drop(transient);
    let private = PrivateStore::open(dir.path(), 0).unwrap();
    assert!(matches!(
        refused(Which::Private, dir.path()),
        StoreOpenError::InUse { .. }
    ));
    drop(private);
    Which::Private.open(dir.path()).unwrap();
}

#[test]
fn a_folder_has_one_store_open_among_processes() {
    if let Some(dir) = child_dir() {
        for which in BOTH {
            let dir = dir.join(which.file());
            assert!(matches!(refused(which, &dir), StoreOpenError::InUse { .. }));
        }
        println!("\nrefused");
        return;
    }
    let dir = tempdir().unwrap();
    let [transient, private] = BOTH.map(|which| dir.path().join(which.file()));
    let _transient = TransientStore::open(transient).unwrap();
    let _private = PrivateStore::open(private, 0).unwrap();
    let test = "a_folder_has_one_store_open_among_processes";
    let output = child(test, dir.path()).stdout(Stdio::piped()).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.contains("\nrefused"), "{text}");
}

#[test]
fn what_is_no_store_of_this_kind_is_named_and_left_alone() {
    for which in BOTH {
        let dir = tempdir().unwrap();
        let path = dir.path().join(which.file());
        let other = match which {
            Which::Transient => Which::Private,
            Which::Private => Which::Transient,
        };
        let (theirs, of_other) = filled(other);
        let of_others = theirs.path().join("others.redb");
        let database = Database::create(&of_others).unwrap();
        let change = database.begin_write().unwrap();
        let table: TableDefinition<'_, u64, u64> = TableDefinition::new("transient store");
        change.open_table(table).unwrap().insert(1, 1).unwrap();
        change.commit().unwrap();
        database.close().unwrap();
        let contents = [
            Vec::new(),
            b"redb".to_vec(),
            b"an operator's notes, which are precious".to_vec(),
            vec![0; 100_000],
            fs::read(of_other).unwrap(),
            fs::read(of_others).unwrap(),
        ];
        for content in contents {
            fs::write(&path, &content).unwrap();
            let error = refused(which, dir.path());
            let text = error.to_string();
            assert!(
                matches!(&error, StoreOpenError::Foreign { path: named, .. } if *named == path),
                "{text}"
            );
            assert!(text.contains("move the file away"), "{text}");
            assert!(path.exists());
        }
    }
}

#[test]
fn a_store_of_another_version_is_named_and_left_alone() {
    for which in BOTH {
        let (dir, path) = filled(which);
        let table = match which {
            Which::Transient => "transient store",
            Which::Private => "private store",
        };
        let table: TableDefinition<'_, &str, u64> = TableDefinition::new(table);
        let set = |version: u64| {
            let database = Database::open(&path).unwrap();
            let change = database.begin_write().unwrap();
            change
                .open_table(table)
                .unwrap()
                .insert("version", version)
                .unwrap();
            change.commit().unwrap();
        };
        let known = match which {
            Which::Transient => 2,
            Which::Private => 3,
        };
        set(7);
        let error = refused(which, dir.path());
        assert!(
            matches!(error, StoreOpenError::Version { found: 7, known: is, .. } if is == known),
            "{error}"
        );
        assert!(
            error.to_string().contains("run the program that made it"),
            "{error}"
        );
        let database = Database::open(&path).unwrap();
        let about = database.begin_read().unwrap().open_table(table).unwrap();
        assert_eq!(about.get("version").unwrap().unwrap().value(), 7);
        drop((about, database));
        set(known);
        which.check(dir.path());
    }
}

/// Many of these bytes are not used, so not every one that is wrong shows.
#[test]
fn a_damaged_file_never_opens_with_other_content_and_is_left_as_it_is() {
    let mut found = 0;
    for which in BOTH {
        let (dir, path) = filled(which);
        let good = fs::read(&path).unwrap();
        // The head, and places all over the rest.
        let places = (0..9)
            .chain((9..320).step_by(29))
            .chain((320..good.len()).step_by(15_013));
        for at in places {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            let Err(error) = which.open(dir.path()) else {
                which.check(dir.path());
                continue;
            };
            let text = error.to_string();
            match &error {
                StoreOpenError::Damaged(damage) => assert_eq!(damage.path(), path),
                StoreOpenError::Foreign { .. } => assert!(at < 9, "{at}: {text}"),
                _ => panic!("{at}: {text}"),
            }
            assert!(text.contains("away"), "{text}");
            assert!(fs::read(&path).unwrap() == bad, "{at}: changed");
            found += 1;
        }
        for len in [1, 9, 100, 4_096, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..len]).unwrap();
            let error = refused(which, dir.path());
            assert!(
                matches!(
                    error,
                    StoreOpenError::Damaged(_) | StoreOpenError::Foreign { .. }
                ),
                "{len}: {error}"
            );
            assert_eq!(fs::read(&path).unwrap(), good[..len]);
        }
        fs::write(&path, &good).unwrap();
        which.check(dir.path());
    }
    assert!(found > 10, "{found}");
}
