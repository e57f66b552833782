//! Asks the node that runs.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::{ANSWER_LEN_MAX, Answer, Question};

/// A join writes to disk; nothing that a node does for an answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether something else is there.
fn is_no_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket())
}

/// Asks one question. A refusal is an error with the node's reason.
pub(crate) fn ask(socket: &Path, question: &Question) -> Result<Answer> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        let place = socket.display();
        match error.kind() {
            // Of a file or folder the system says that nobody answers.
            _ if is_no_socket(socket) => anyhow!(
                "{place} is no socket: name that of the node with --socket, or the configuration of the node with --config"
            ),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
                "no node answers at {place}: start it with `tidings node start`, or name its socket with --socket"
            ),
            ErrorKind::PermissionDenied => {
                anyhow!("{place} is not for this user: only the one that runs the node may ask")
            }
            _ => anyhow!("cannot reach the node at {place}: {error}"),
        }
    })?;
    let broken = || format!("the node at {} broke off", socket.display());
    stream
        .set_read_timeout(Some(PATIENCE))
        .with_context(broken)?;
    stream
        .set_write_timeout(Some(PATIENCE))
        .with_context(broken)?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    (&stream).write_all(&line).with_context(broken)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_LEN_MAX))
        .read_until(b'\n', &mut answer)
        .with_context(broken)?;
    if answer.last() != Some(&b'\n') {
        bail!("{} before its answer was complete", broken());
    }
    match serde_json::from_slice(&answer).context("the node's answer is not understood")? {
        Answer::Refused(reason) => Err(anyhow!(reason)),
        answer => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_or_folder_in_place_of_the_socket_is_named_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("core.yaml");
        fs::write(&file, "").unwrap();
        for place in [dir.path(), &file] {
            let error = ask(place, &Question::List {}).unwrap_err().to_string();
            assert!(error.contains("is no socket"), "{error}");
        }
        let nothing = dir.path().join("admin.sock");
        let error = ask(&nothing, &Question::List {}).unwrap_err().to_string();
        assert!(error.contains("no node answers at"), "{error}");
    }
}
