//! A keyed store on disk: one redb file in a folder of its own.
//!
//! # Promises
//!
//! - **Committed means on disk.** [`Keyed::write`] returns after redb's commit in two phases: the
//!   new pages are synced before the head of the file names them. Values come from strangers, and a
//!   commit in one phase would rest on a checksum that is not made against them.
//! - **Only what was written is read.** On opening, the checksum of every page is compared. A file
//!   that does not pass is left as it is, and the error says what an operator can do; nothing is
//!   ever made anew over a file that is there.
//! - **One process.** The folder is locked while the store is open.
//! - **A full disk is no end.** After a failure of the operating system the file is opened again
//!   by whoever comes next.
//!
//! It knows neither keys nor values: the stores on top name their tables.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{
    Builder, Database, Error, ReadTransaction, ReadableDatabase, TableDefinition, TableError,
    WriteTransaction,
};

use crate::{
    Failed,
    folder::{self, Lock},
};

/// How every redb file begins.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// The row that holds the version of the tables.
const VERSION: &str = "version";

/// What a store is called and holds.
pub(crate) struct Kind {
    /// For people.
    pub(crate) name: &'static str,
    /// The file in the folder.
    pub(crate) file: &'static str,
    /// The table that tells this kind from others, with the version and numbers of the store.
    pub(crate) about: TableDefinition<'static, &'static str, u64>,
    /// Raised with every change of the tables.
    pub(crate) version: u64,
    /// Makes the tables that are not there; one of another shape is an error.
    pub(crate) tables: fn(&WriteTransaction) -> Result<(), TableError>,
    /// Changes what a file of this earlier version has, before tables are made that it lacks; says
    /// whether it can.
    pub(crate) upgrade: fn(&WriteTransaction, u64) -> Result<bool, Error>,
    /// Memory for pages.
    pub(crate) cache_bytes: usize,
    /// What an operator can do when the file is of no use.
    pub(crate) cure: &'static str,
}

/// What a change of the store comes to.
#[derive(Debug)]
pub(crate) enum Change<T> {
    /// Make it durable.
    Keep(T),
    /// Nothing was changed.
    Nothing(T),
}

/// The open file.
pub(crate) struct Keyed {
    kind: &'static Kind,
    path: PathBuf,
    /// One change at a time, so that nobody changes anything while the file is opened again.
    writer: Mutex<()>,
    state: RwLock<State>,
    /// Set by whoever met a failure; the next to come opens the file again.
    broken: AtomicBool,
    created: bool,
    /// Held, not used. Dropped after the file is closed.
    _lock: File,
}

enum State {
    Open(Database),
    /// To be opened by whoever comes next.
    Closed,
    /// Known to be damaged: checking the whole file again would find the same.
    Damaged(StoreDamage),
}

impl Keyed {
    /// Opens the file in this folder, or makes folder and file.
    pub(crate) fn open(dir: &Path, kind: &'static Kind) -> Result<Self, StoreOpenError> {
        folder::create(dir)?;
        let lock = Lock::Exclusive.take(dir)?;
        let lock = lock.ok_or_else(|| StoreOpenError::InUse {
            dir: dir.to_owned(),
        })?;
        let path = dir.join(kind.file);
        let created = !path.try_exists().map_err(Failed::to("look for", &path))?;
        if created {
            create(dir, &path, kind)?;
        }
        let database = open(&path, kind)?;
        Ok(Self {
            kind,
            path,
            writer: Mutex::new(()),
            state: RwLock::new(State::Open(database)),
            broken: AtomicBool::new(false),
            created,
            _lock: lock,
        })
    }

    /// The file was not there and was made.
    pub(crate) fn was_created(&self) -> bool {
        self.created
    }

    /// Looks at the store as it is at this moment.
    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        if self.broken.load(Ordering::Acquire) {
            self.mend(&self.only_writer())?;
        }
        let look = || -> Result<T, Error> {
            let transaction = self.with_database(|database| Ok(database.begin_read()?))?;
            look(&transaction)
        };
        look().map_err(|error| self.failed("read", error))
    }

    /// Changes the store; what was kept is on disk when this returns. After an error the change
    /// may be there or not, whole in either case.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<Change<T>, Error>,
    ) -> Result<T, StoreError> {
        let only = self.only_writer();
        self.mend(&only)?;
        let done = self.with_database(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(true);
            match change(&transaction)? {
                Change::Keep(value) => {
                    transaction.commit()?;
                    Ok(value)
                }
                Change::Nothing(value) => {
                    transaction.abort()?;
                    Ok(value)
                }
            }
        });
        done.map_err(|error| self.failed("write", error))
    }

    /// What redb says, for people. The file is opened again before it is used again.
    pub(crate) fn failed(&self, action: &'static str, error: Error) -> StoreError {
        // A reader of the file that was closed says nothing about the one that is open now.
        if !matches!(error, Error::DatabaseClosed) {
            self.broken.store(true, Ordering::Release);
        }
        told(action, &self.path, self.kind, error)
    }

    /// What guards nothing cannot be left in disorder by a panic.
    fn only_writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_database<T>(
        &self,
        act: impl FnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => act(database),
            State::Closed | State::Damaged(_) => Err(Error::DatabaseClosed),
        }
    }

    /// Opens the file again if somebody met a failure.
    fn mend(&self, _only: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        if !self.broken.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Damaged(damage) = &*state {
            return Err(damage.clone().into());
        }
        // The old one is closed first: it holds redb's own lock.
        *state = State::Closed;
        match open(&self.path, self.kind) {
            Ok(database) => {
                *state = State::Open(database);
                self.broken.store(false, Ordering::Release);
                Ok(())
            }
            Err(StoreOpenError::Failed(failed)) => Err(failed.into()),
            Err(error) => {
                let damage = match error {
                    StoreOpenError::Damaged(damage) => damage,
                    other => StoreDamage::new(&self.path, self.kind, other.to_string()),
                };
                *state = State::Damaged(damage.clone());
                Err(damage.into())
            }
        }
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Makes the file under another name first: a crash leaves the whole file or none.
fn create(dir: &Path, path: &Path, kind: &'static Kind) -> Result<(), StoreOpenError> {
    let draft = dir.join(format!("{}-draft", kind.file));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failed::to("remove", &draft)(error).into());
        }
        _ => {}
    }
    let make = || -> Result<(), Error> {
        let database = builder(kind).create(&draft)?;
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        (kind.tables)(&transaction)?;
        transaction
            .open_table(kind.about)?
            .insert(VERSION, kind.version)?;
        transaction.commit()?;
        database.close()?;
        Ok(())
    };
    make().map_err(|error| StoreOpenError::of("create", &draft, kind, error))?;
    File::open(&draft)
        .and_then(|file| file.sync_all())
        .map_err(Failed::to("sync", &draft))?;
    fs::rename(&draft, path).map_err(Failed::to("name", path))?;
    Ok(folder::sync(dir)?)
}

/// Opens a file that is there, checks all of it, and that it is of this kind and version.
fn open(path: &Path, kind: &'static Kind) -> Result<Database, StoreOpenError> {
    let foreign = || StoreOpenError::Foreign {
        path: path.to_owned(),
        name: kind.name,
        cure: kind.cure,
    };
    if !begins_as_redb(path)? {
        return Err(foreign());
    }
    let told = |error| StoreOpenError::of("open", path, kind, error);
    let database = builder(kind)
        .open(path)
        .map_err(|error| told(error.into()))?;
    let version = || -> Result<Option<u64>, Error> {
        let transaction = database.begin_read()?;
        let table = match transaction.open_table(kind.about) {
            Err(TableError::Storage(error)) => return Err(error.into()),
            // Of other names and shapes: somebody else's.
            Err(_) => return Ok(None),
            Ok(table) => table,
        };
        Ok(table.get(VERSION)?.map(|version| version.value()))
    };
    let version = version().map_err(told)?.ok_or_else(foreign)?;
    if version != kind.version && !upgraded(&database, kind, version).map_err(told)? {
        return Err(StoreOpenError::Version {
            path: path.to_owned(),
            name: kind.name,
            found: version,
            known: kind.version,
            cure: kind.cure,
        });
    }
    let tables = || -> Result<(), Error> {
        let transaction = database.begin_write()?;
        (kind.tables)(&transaction)?;
        transaction.abort()?;
        Ok(())
    };
    tables().map_err(told)?;
    Ok(database)
}

/// Makes a file of an earlier version one of this, whole or not at all.
fn upgraded(database: &Database, kind: &Kind, from: u64) -> Result<bool, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    if from > kind.version || !(kind.upgrade)(&transaction, from)? {
        transaction.abort()?;
        return Ok(false);
    }
    (kind.tables)(&transaction)?;
    transaction
        .open_table(kind.about)?
        .insert(VERSION, kind.version)?;
    transaction.commit()?;
    Ok(true)
}

fn begins_as_redb(path: &Path) -> Result<bool, Failed> {
    let mut head = [0; MAGIC.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut head)) {
        Ok(()) => Ok(head == MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Failed::to("read", path)(error)),
    }
}

fn builder(kind: &Kind) -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(kind.cache_bytes)
        .set_check_integrity_on_open(true);
    builder
}

/// Why a store could not be opened. The file is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// Another process has it open, or this one already does.
    #[error(
        "the store in {} is already open: stop the other process or choose another folder",
        dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The file is something else.
    #[error(
        "{} is no {name} of tidings: {cure}",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it should be.
        name: &'static str,
        /// What can be done.
        cure: &'static str,
    },
    /// Another version of this program made the file.
    #[error(
        "{} is a {name} of version {found}, and this program knows {known}: run the program that \
         made it; or {cure}",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it is.
        name: &'static str,
        /// Its version.
        found: u64,
        /// The only one that would do.
        known: u64,
        /// What else can be done.
        cure: &'static str,
    },
    /// What is in the file is not what was written.
    #[error(transparent)]
    Damaged(#[from] StoreDamage),
    /// The operating system refused.
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl StoreOpenError {
    fn of(action: &'static str, path: &Path, kind: &Kind, error: Error) -> Self {
        if matches!(
            error,
            Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch
        ) {
            let dir = path.parent().unwrap_or(path).to_owned();
            return Self::InUse { dir };
        }
        match told(action, path, kind, error) {
            StoreError::Failed(failed) => failed.into(),
            StoreError::Damaged(damage) => damage.into(),
        }
    }
}

/// Why a store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused. Once the cause is gone the same can be tried again.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// What is in the file is not what was written.
    #[error(transparent)]
    Damaged(#[from] StoreDamage),
}

/// A store does not hold what was written into it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged: {what}; {cure}", path.display())]
pub struct StoreDamage {
    path: PathBuf,
    what: String,
    cure: &'static str,
}

impl StoreDamage {
    pub(crate) fn new(path: &Path, kind: &Kind, what: String) -> Self {
        Self {
            path: path.to_owned(),
            what,
            cure: kind.cure,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What redb says, for people.
fn told(action: &'static str, path: &Path, kind: &Kind, error: Error) -> StoreError {
    let failed = |error| Failed::to(action, path)(error).into();
    match error {
        // The file names pages behind its end.
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StoreDamage::new(path, kind, "it is cut off".to_owned()).into()
        }
        Error::Io(error) => failed(error),
        Error::Corrupted(_) => {
            let what = "what is in it is not what was written".to_owned();
            StoreDamage::new(path, kind, what).into()
        }
        Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TableIsNotMultimap(_)
        | Error::TypeDefinitionChanged { .. }
        | Error::TableDoesNotExist(_)
        | Error::UpgradeRequired(_) => {
            let what = "its tables are not those that were made".to_owned();
            StoreDamage::new(path, kind, what).into()
        }
        Error::PreviousIo => failed(io::Error::other("reading or writing it failed before")),
        Error::DatabaseClosed => failed(io::Error::other("the file is closed")),
        // What is left is a mistake of this program: for whoever looks for it.
        error => failed(io::Error::other(format!("the store refuses: {error}"))),
    }
}
