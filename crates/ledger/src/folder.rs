//! The folder of a ledger: making it, locking it, listing it, and syncing its names.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::Failed;

/// Makes the folder if it is not there, so that it survives a crash.
pub(crate) fn create(dir: &Path) -> Result<(), Failed> {
    let missing: Vec<_> = dir.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(dir).map_err(Failed::to("create", dir))?;
    for path in missing {
        if let Some(parent) = path.parent() {
            let here = parent.as_os_str().is_empty();
            sync(if here { Path::new(".") } else { parent })?;
        }
    }
    Ok(())
}

/// Makes sure that names made or removed in the folder survive a crash.
pub(crate) fn sync(dir: &Path) -> Result<(), Failed> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Failed::to("sync", dir))
}

/// How a folder is locked. The lock ends when the file is dropped or the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// By the one writer.
    Exclusive,
    /// By those who only look and want no writer.
    Shared,
}

impl Lock {
    /// Nothing if somebody holds it.
    pub(crate) fn take(self, dir: &Path) -> Result<Option<File>, Failed> {
        let path = dir.join("LOCK");
        let (open, operation) = match self {
            Self::Exclusive => (
                File::options()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(&path),
                FlockOperation::NonBlockingLockExclusive,
            ),
            Self::Shared => (File::open(&path), FlockOperation::NonBlockingLockShared),
        };
        let file = open.map_err(Failed::to("open", &path))?;
        match flock(&file, operation) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(Failed::to("lock", &path)(io::Error::from(errno))),
        }
    }
}

/// First block numbers of the segments in the folder, in order. Other names are not ours.
pub(crate) fn segments(dir: &Path) -> Result<Vec<u64>, Failed> {
    let failed = || Failed::to("list", dir);
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        let path = PathBuf::from(entry.map_err(failed())?.file_name());
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number
            && path == segment_name(number)
        {
            firsts.push(number);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

pub(crate) fn segment_name(first: u64) -> PathBuf {
    format!("{first:020}.blocks").into()
}

pub(crate) fn index_name(first: u64) -> PathBuf {
    format!("{first:020}.index").into()
}
