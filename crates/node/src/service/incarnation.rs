//! The number by which peers tell this life of the node from earlier ones.

use std::{
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::StartRefused;

/// Where the newest incarnation lies below the data folder.
const INCARNATION: &str = "incarnation";

/// The incarnation of this start: the wall clock, but later than at every start before, so that
/// peers never take us for an older self when the clock was set back.
pub(super) fn next(data_dir: &Path, now: SystemTime) -> Result<u64, StartRefused> {
    let refused = |source| StartRefused::Folder {
        path: data_dir.to_owned(),
        source,
    };
    fs::create_dir_all(data_dir).map_err(refused)?;
    let path = data_dir.join(INCARNATION);
    let before = match fs::read_to_string(&path) {
        // Unreadable content is from a write that was cut off: the clock alone decides then.
        Ok(text) => text.trim().parse::<u64>().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(refused(error)),
    };
    let incarnation = wall_ns(now).max(before.saturating_add(1));
    let fresh = path.with_extension("new");
    fs::write(&fresh, incarnation.to_string()).map_err(refused)?;
    fs::rename(&fresh, &path).map_err(refused)?;
    Ok(incarnation)
}

/// In nanoseconds since the Unix epoch.
pub(super) fn wall_ns(now: SystemTime) -> u64 {
    let clock = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(clock.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_incarnation_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(next(dir.path(), at(100)).unwrap(), 100_000_000_000);
        assert_eq!(next(dir.path(), at(50)).unwrap(), 100_000_000_001);
        assert_eq!(
            wall_ns(at(50)),
            50_000_000_000,
            "the clock stays what it is"
        );
        assert_eq!(next(dir.path(), at(200)).unwrap(), 200_000_000_000);
        fs::write(dir.path().join(INCARNATION), "torn").unwrap();
        assert_eq!(next(dir.path(), at(201)).unwrap(), 201_000_000_000);
    }

    #[test]
    fn a_data_folder_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = next(&file, UNIX_EPOCH).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}
