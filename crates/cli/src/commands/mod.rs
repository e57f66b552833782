//! The commands that look at one thing and end, and what they share in reading and printing.

pub(crate) mod block;
pub(crate) mod channel;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod envelope;
pub(crate) mod ledger;
pub(crate) mod node;
pub(crate) mod outline;
pub(crate) mod peers;
pub(crate) mod privdata;
mod validity;
pub(crate) mod watch;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use bytes::Bytes;
use tidings_node::core_config::CoreConfig;

use crate::admin::SOCKET;

/// Larger than any message of Fabric (100 MiB): a bigger file is not one.
const INPUT_LEN_MAX: u64 = 128 * 1024 * 1024;

/// Reads a file, or standard input for `-`, whole.
pub(crate) fn read_input(path: &Path) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().take(INPUT_LEN_MAX + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(INPUT_LEN_MAX + 1).read_to_end(&mut bytes))
    };
    let len = read.with_context(|| format!("cannot read {}", path.display()))?;
    if len as u64 > INPUT_LEN_MAX {
        bail!(
            "{} is larger than {INPUT_LEN_MAX} bytes: no message of Fabric is",
            path.display()
        );
    }
    Ok(bytes.into())
}

/// That a file cannot be written, and what to do.
pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Error {
    let cure = match error.kind() {
        io::ErrorKind::AlreadyExists => "remove it, or choose another name",
        io::ErrorKind::NotFound => "make its folder, or choose another name",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that you may write to"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        _ => "choose another name",
    };
    anyhow!("cannot write {}: {error}; {cure}", path.display())
}

/// Where the node that runs can be asked.
pub(crate) fn socket(named: Option<PathBuf>, config: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(socket) => Ok(socket),
        None => Ok(CoreConfig::load(config)?.data_dir()?.join(SOCKET)),
    }
}

/// Prints to standard output. A reader that goes away early (`| head`) is not a failure.
pub(crate) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes to standard output what is no text.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    match io::stdout()
        .write_all(bytes)
        .and_then(|()| io::stdout().flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
