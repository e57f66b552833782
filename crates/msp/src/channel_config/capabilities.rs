//! What the members of a channel have agreed to be able to do.

use std::collections::BTreeSet;

use tidings_proto::common;

use super::refused::ConfigRefused;
use crate::msp::MspVersion;

const CHANNEL_KNOWN: &[&str] = &["V1_1", "V1_3", "V1_4_2", "V1_4_3", "V2_0", "V3_0"];

const APPLICATION_KNOWN: &[&str] = &[
    "V1_1",
    "V1_2",
    "V1_3",
    "V1_4_2",
    "V2_0",
    "V2_5",
    "V1_1_PVTDATA_EXPERIMENTAL",
    "V1_1_RESOURCETREE_EXPERIMENTAL",
];

/// The capabilities of the three sections. Those of channel and application are all known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    channel: BTreeSet<String>,
    application: BTreeSet<String>,
    orderer: BTreeSet<String>,
}

impl Capabilities {
    /// Refuses names of the channel and application section that we do not know. The orderer's
    /// own capabilities do not concern a peer.
    pub(super) fn new(
        channel: common::Capabilities,
        application: common::Capabilities,
        orderer: common::Capabilities,
    ) -> Result<Self, ConfigRefused> {
        let names = |section: common::Capabilities| section.capabilities.into_keys().collect();
        let capabilities = Self {
            channel: names(channel),
            application: names(application),
            orderer: names(orderer),
        };
        check("channel", &capabilities.channel, CHANNEL_KNOWN)?;
        check("application", &capabilities.application, APPLICATION_KNOWN)?;
        Ok(capabilities)
    }

    /// Names in the channel section.
    pub fn channel(&self) -> &BTreeSet<String> {
        &self.channel
    }

    /// Names in the application section.
    pub fn application(&self) -> &BTreeSet<String> {
        &self.application
    }

    /// Names in the orderer section.
    pub fn orderer(&self) -> &BTreeSet<String> {
        &self.orderer
    }

    /// Whether the channel has V3_0: BFT block signatures and Ed25519 identities.
    pub fn v3_0(&self) -> bool {
        self.channel.contains("V3_0")
    }

    /// How identities of this channel are judged.
    pub fn msp_version(&self) -> MspVersion {
        if self.v3_0() {
            MspVersion::V3_0
        } else if self.any_of_channel(&["V1_4_3", "V2_0"]) {
            MspVersion::V1_4_3
        } else if self.any_of_channel(&["V1_3", "V1_4_2"]) {
            MspVersion::V1_3
        } else if self.any_of_channel(&["V1_1"]) {
            MspVersion::V1_1
        } else {
            MspVersion::V1_0
        }
    }

    /// From V1_4_2: orderer organizations have endpoints of their own, and the consensus type
    /// may change.
    pub(super) fn v1_4_2_or_later(&self) -> bool {
        self.any_of_channel(&["V1_4_2", "V1_4_3", "V2_0", "V3_0"])
    }

    /// From application V1_2: access control lists.
    pub(super) fn acls(&self) -> bool {
        ["V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"]
            .iter()
            .any(|name| self.application.contains(*name))
    }

    /// From application V2_0: chaincodes are defined in the `_lifecycle` namespace.
    pub fn lifecycle_v2(&self) -> bool {
        ["V2_0", "V2_5"]
            .iter()
            .any(|name| self.application.contains(*name))
    }

    /// From application V1_4_2: peers keep private data of transactions that turn out invalid.
    pub fn keeps_private_data_of_invalid(&self) -> bool {
        self.lifecycle_v2() || self.application.contains("V1_4_2")
    }

    /// From application V2_5: a transaction may have earlier private data of a key forgotten.
    pub fn purges_private_data(&self) -> bool {
        self.application.contains("V2_5")
    }

    fn any_of_channel(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.channel.contains(*name))
    }
}

fn check(
    section: &'static str,
    names: &BTreeSet<String>,
    known: &[&str],
) -> Result<(), ConfigRefused> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(ConfigRefused::UnsupportedCapability {
            section,
            name: name.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(channel: &[&str], application: &[&str]) -> Result<Capabilities, ConfigRefused> {
        let section = |names: &[&str]| common::Capabilities {
            capabilities: names
                .iter()
                .map(|name| ((*name).to_owned(), Default::default()))
                .collect(),
        };
        Capabilities::new(section(channel), section(application), section(&["V9_9"]))
    }

    #[test]
    fn msp_versions_follow_the_channel_capability() {
        for (names, version) in [
            (&[][..], MspVersion::V1_0),
            (&["V1_1"], MspVersion::V1_1),
            (&["V1_3"], MspVersion::V1_3),
            (&["V1_1", "V1_4_2"], MspVersion::V1_3),
            (&["V1_4_3"], MspVersion::V1_4_3),
            (&["V2_0"], MspVersion::V1_4_3),
            (&["V2_0", "V3_0"], MspVersion::V3_0),
        ] {
            assert_eq!(of(names, &[]).unwrap().msp_version(), version, "{names:?}");
        }
    }

    #[test]
    fn nt_3_8_unknown_capability_is_refused_cleanly() {
        let refused = |section, name: &str| {
            Err(ConfigRefused::UnsupportedCapability {
                section,
                name: name.to_owned(),
            })
        };
        assert_eq!(of(&["V2_0", "V4_0"], &[]), refused("channel", "V4_0"));
        assert_eq!(of(&["V2_0"], &["V3_0"]), refused("application", "V3_0"));
        assert!(of(&["V3_0"], &["V2_5", "V1_1_PVTDATA_EXPERIMENTAL"]).is_ok());
    }

    #[test]
    fn what_came_with_a_capability_is_told_by_it() {
        assert!(!of(&[], &["V1_1"]).unwrap().acls());
        assert!(of(&[], &["V1_2"]).unwrap().acls());
        for (application, lifecycle, keeps, purges) in [
            ("V1_3", false, false, false),
            ("V1_4_2", false, true, false),
            ("V2_0", true, true, false),
            ("V2_5", true, true, true),
        ] {
            let capabilities = of(&["V2_0"], &[application]).unwrap();
            assert_eq!(capabilities.lifecycle_v2(), lifecycle, "{application}");
            assert_eq!(capabilities.keeps_private_data_of_invalid(), keeps);
            assert_eq!(capabilities.purges_private_data(), purges);
        }
        assert!(!of(&["V1_3"], &[]).unwrap().v1_4_2_or_later());
        assert!(of(&["V3_0"], &[]).unwrap().v1_4_2_or_later());
    }
}
