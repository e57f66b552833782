//! Reads an MSP folder from disk. What is in it is judged by `tidings_msp::folder`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tidings_msp::{
    folder::{
        CONFIG_FILE, FolderRefused, KEY_FILE_BYTES_MAX, LocalMsp, LocalMspRefused, MspFolder,
        NamedFile, SUB_FOLDERS, referenced_files,
    },
    msp::MspVersion,
};

use crate::crypto::unix_seconds;

/// Larger files are not read: no certificate or list of revocations is that long.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a folder is of no use as the local MSP.
#[derive(Debug, thiserror::Error)]
pub enum MspFolderRefused {
    /// There is no such folder, or it cannot be read.
    #[error(
        "cannot read the MSP folder {}: {source}; peer.mspConfigPath must name a readable folder with cacerts, signcerts and keystore",
        path.display()
    )]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `config.yaml` is no good.
    #[error("{0}")]
    Config(#[from] FolderRefused),
    /// The contents do not make an MSP with a signing identity.
    #[error("{0}")]
    Contents(#[from] LocalMspRefused),
}

/// Sets up the local MSP from its folder, at the present time.
pub fn load(dir: &Path, msp_id: &str) -> Result<LocalMsp, MspFolderRefused> {
    let local = LocalMsp::set_up(msp_id, &read(dir)?, MspVersion::V3_0, unix_seconds())?;
    for warning in &local.warnings {
        tracing::warn!(target: "msp", "{warning}");
    }
    Ok(local)
}

/// Reads the contents of an MSP folder.
pub fn read(dir: &Path) -> Result<MspFolder, MspFolderRefused> {
    let unreadable = |path: PathBuf| move |source| MspFolderRefused::Unreadable { path, source };
    // A folder that is not there must be told apart from one without sub-folders.
    fs::read_dir(dir).map_err(unreadable(dir.to_owned()))?;
    let mut folder = MspFolder {
        place: dir.display().to_string(),
        ..MspFolder::default()
    };
    for name in SUB_FOLDERS {
        let path = dir.join(name);
        let files = files(&path).map_err(unreadable(path))?;
        if let Some(slot) = folder.files_mut(name) {
            *slot = files;
        }
    }
    let config = dir.join(CONFIG_FILE);
    match read_file(&config) {
        Ok(content) => {
            for referenced in referenced_files(&folder.place, &content)? {
                // What cannot be read is left out; the MSP says whether that matters.
                if let Ok(content) = read_file(&dir.join(&referenced)) {
                    folder.referenced.insert(referenced, content);
                }
            }
            folder.config_yaml = Some(content);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(config)(error)),
    }
    Ok(folder)
}

/// The regular files directly in a folder, in name order; none if there is no such folder.
fn files(dir: &Path) -> io::Result<Vec<NamedFile>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let metadata = fs::metadata(&path)?;
        let in_keystore = dir.ends_with("keystore");
        let too_large = in_keystore && metadata.len() > KEY_FILE_BYTES_MAX as u64;
        if !metadata.is_file() || too_large {
            continue;
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        files.push(NamedFile {
            name,
            content: read_file(&path)?,
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        let reason = format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_says_what_belongs_there() {
        let gone = tempfile::tempdir().unwrap().path().join("msp");
        let error = read(&gone).unwrap_err().to_string();
        assert!(error.contains("peer.mspConfigPath"), "{error}");
        assert!(error.contains(&gone.display().to_string()), "{error}");
    }

    #[test]
    fn files_come_in_name_order_and_folders_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("cacerts/deeper")).unwrap();
        for name in ["b.pem", "a.pem"] {
            fs::write(dir.path().join("cacerts").join(name), name).unwrap();
        }
        let folder = read(dir.path()).unwrap();
        let names: Vec<_> = folder
            .cacerts
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        assert_eq!(names, ["a.pem", "b.pem"]);
        assert!(folder.signcerts.is_empty() && folder.config_yaml.is_none());
    }

    #[test]
    fn a_file_may_be_so_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let file = fs::File::create(&path).unwrap();
        file.set_len(FILE_BYTES_MAX).unwrap();
        assert_eq!(read_file(&path).unwrap().len() as u64, FILE_BYTES_MAX);
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        let error = read_file(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
