//! Which transactions are valid, as peers of several organizations say.
//!
//! This node validates nothing, and of what it is told it believes nobody alone. Peers that validate
//! are asked for the codes that they gave, and where as many organizations as the operator asks for
//! (`validity.organizations`) give the same ones, clients get them. Promises that codes are shown as
//! agreed only while nobody contradicts them, and that whoever contradicts is told of: by metric,
//! log and health. Knows nothing of what makes a transaction valid.
//!
//! Rules: docs/clients.md.

mod follow;
mod known;
mod report;
mod settings;
mod sources;
mod standings;
mod turns;
mod word;

use std::path::{Path, PathBuf};

use tidings_gossip::id::ChannelId;
use tidings_ledger::StoreOpenError;

pub(crate) use self::{follow::Follow, standings::Agreed, word::kinds};
pub use self::{
    report::{BlockReport, Objection, OrganizationReport, Report},
    settings::ValiditySettings,
    standings::Validity,
    word::{ORGANIZATIONS_MAX, Standing},
};
use crate::vitals::Vitals;

/// Where what was heard of a channel lies.
fn dir(data_dir: &Path, channel: &ChannelId) -> PathBuf {
    data_dir.join("validity").join(channel.as_str())
}

/// Opens what was heard of a channel. It stays open as long as somebody has it.
pub(crate) fn open(
    data_dir: &Path,
    channel: ChannelId,
    wanted: usize,
    vitals: Vitals,
) -> Result<Validity, StoreOpenError> {
    Validity::open(&dir(data_dir, &channel), channel, wanted, vitals)
}
