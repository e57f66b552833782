//! The ledgers of joined channels below the data folder, and what their channels agreed on.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use tidings_gossip::id::ChannelId;
use tidings_ledger::{Ledger, OpenError, Settings};
use tidings_msp::channel_config::ChannelConfig;

use super::StartRefused;
use crate::history::config_in_force;

/// Where channels lie below the data folder.
const CHANNELS: &str = "channels";

/// A file beside a ledger whose channel was left. It holds nothing.
const LEFT: &str = "LEFT";

/// The folder of a channel's ledger.
pub(super) fn dir(data_dir: &Path, channel: &str) -> PathBuf {
    data_dir.join(CHANNELS).join(channel)
}

/// Opens every ledger that is there, in the order of the channels' names, with the configuration
/// in force at its end.
pub(super) fn open_all(
    data_dir: &Path,
    settings: Settings,
) -> Result<Vec<(ChannelConfig, Ledger)>, StartRefused> {
    let root = data_dir.join(CHANNELS);
    let refused = |source| StartRefused::Folder {
        path: root.clone(),
        source,
    };
    fs::create_dir_all(&root).map_err(refused)?;
    let mut dirs = Vec::new();
    for entry in fs::read_dir(&root).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        // Whatever else lies there, `lost+found` for one, is not ours.
        if path.is_dir()
            && path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(is_name)
        {
            dirs.push(path);
        }
    }
    dirs.sort();
    let mut chains: Vec<(ChannelConfig, Ledger)> = Vec::new();
    for dir in dirs {
        if is_left(&dir) {
            tracing::info!(
                target: "peer.channel",
                folder = %dir.display(), "a channel that was left; its ledger rests"
            );
            continue;
        }
        let ledger = open(&dir, settings)?;
        if ledger.height() == 0 {
            // A join that was cut off before its first block: joining again will do.
            continue;
        }
        let config = config_in_force(&ledger.reader()).map_err(|reason| StartRefused::Channel {
            path: dir.clone(),
            reason,
        })?;
        let channel = config.channel_id();
        if let Some((_, other)) = chains.iter().find(|(of, _)| of.channel_id() == channel) {
            return Err(StartRefused::Twice {
                channel: ChannelId::from(channel),
                folders: [other.dir().to_owned(), dir],
            });
        }
        chains.push((config, ledger));
    }
    Ok(chains)
}

/// Whether the channel of this ledger was left.
pub(super) fn is_left(dir: &Path) -> bool {
    dir.join(LEFT).exists()
}

/// Notes, for good, that the channel of this ledger was left.
pub(super) fn mark_left(dir: &Path) -> io::Result<()> {
    File::create(dir.join(LEFT))?.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Takes the note away, for good, if there is one.
pub(super) fn unmark_left(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(LEFT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| File::open(dir)?.sync_all()),
    }
}

/// Opens a ledger and says what had to be put right.
pub(super) fn open(dir: &Path, settings: Settings) -> Result<Ledger, OpenError> {
    let ledger = Ledger::open_with(dir, settings)?;
    let recovery = ledger.recovery();
    if let Some(cut) = &recovery.cut {
        tracing::warn!(
            target: "ledger",
            file = %cut.path.display(), offset = cut.offset, bytes = cut.bytes, block = cut.number,
            "cut the tail of a ledger, which a write that was broken off left; nothing that was \
             reported as committed is lost, blocks from this one on are fetched again"
        );
    }
    if recovery.indexes_rebuilt > 0 {
        tracing::info!(
            target: "ledger",
            folder = %dir.display(), indexes = recovery.indexes_rebuilt,
            "made indexes again that were missing"
        );
    }
    Ok(ledger)
}

/// Letters that occur in names of channels.
pub(super) fn is_name(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
}

#[cfg(test)]
mod tests {
    use tidings_proto::{Message, block::BlockView, common::Block};

    use super::*;
    use crate::material::{CHANNEL, Material};

    #[test]
    fn a_note_of_leaving_is_made_and_taken_away_as_often_as_one_likes() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            mark_left(dir.path()).unwrap();
            mark_left(dir.path()).unwrap();
            assert!(is_left(dir.path()));
            unmark_left(dir.path()).unwrap();
            unmark_left(dir.path()).unwrap();
            assert!(!is_left(dir.path()));
        }
    }

    #[test]
    fn two_ledgers_of_one_channel_are_both_named() {
        let (dir, material) = (tempfile::tempdir().unwrap(), Material::new());
        let genesis = material.genesis(material.group());
        let mut genesis = Block::decode(genesis).unwrap();
        genesis.header.as_mut().unwrap().previous_hash.clear();
        let genesis = BlockView::parse(genesis.encode_to_vec().into()).unwrap();
        for name in [CHANNEL, "copy"] {
            let mut ledger = Ledger::open(super::dir(dir.path(), name)).unwrap();
            ledger.append(std::slice::from_ref(&genesis)).unwrap();
        }
        let refused = open_all(dir.path(), Settings::default()).unwrap_err();
        let said = refused.to_string();
        for name in [CHANNEL, "copy"] {
            let folder = super::dir(dir.path(), name);
            assert!(said.contains(folder.to_str().unwrap()), "{said}");
        }
        assert!(said.contains("move the one"), "{said}");
    }

    #[test]
    fn only_folders_with_names_of_channels_are_opened() {
        assert!(is_name("my-channel.2"));
        assert!(!is_name("lost+found") && !is_name("LOCK"));
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("channels/lost+found")).unwrap();
        fs::write(dir.path().join("channels/file"), "").unwrap();
        assert!(
            open_all(dir.path(), Settings::default())
                .unwrap()
                .is_empty()
        );
        assert!(!dir.path().join("channels/lost+found/LOCK").exists());
    }
}
