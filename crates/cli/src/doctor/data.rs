//! Whether the node can have its data where it is told to.

use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use super::finding::Finding;

const CHECK: &str = "data";

const SETTING: &str = "peer.fileSystemPath";

/// Bytes that are tried: on a full disk there is room for an empty file.
const PAGE_BYTES: usize = 4096;

/// Tries to write, to a file that nobody sees: into the folder, or where it is to be made.
pub(super) fn look(dir: &Path) -> Finding {
    let exists = |place: &&Path| place.symlink_metadata().is_ok();
    let place = dir
        .ancestors()
        .find(exists)
        .unwrap_or_else(|| Path::new("."));
    let shown = dir.display().to_string();
    match write(place) {
        Ok(()) => Finding::ok(CHECK, format!("{SETTING}: {shown} can be written to")).at(shown),
        Err(error) => Finding::fault(
            CHECK,
            format!("cannot write to {}: {error}", place.display()),
        )
        .at(shown)
        .because("the node does not start without a folder for its ledgers")
        .change(SETTING, cure(&error)),
    }
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space there, or name another folder"
        }
        _ => {
            "make it a folder that this user may write to, or name another; or run this as the user that runs the node"
        }
    }
}

fn write(place: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(place)?;
    file.write_all(&[0; PAGE_BYTES])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn a_folder_that_cannot_be_made_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(look(dir.path()).severity, Severity::Ok);
        assert_eq!(look(&dir.path().join("a/b")).severity, Severity::Ok);
        for place in [file.join("data"), file] {
            let finding = look(&place);
            assert_eq!(finding.severity, Severity::Fault, "{finding:?}");
            assert_eq!(finding.setting.as_deref(), Some(SETTING));
        }
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left"
        );
    }
}
