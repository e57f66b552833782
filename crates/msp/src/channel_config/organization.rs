//! The MSPs of a channel's organizations, gathered section by section.

use std::collections::BTreeMap;

use prost::Message;
use tidings_proto::msp::{FabricMspConfig, MspConfig};

use super::refused::ConfigRefused;
use crate::msp::{Msp, MspConflict, MspManager, MspVersion};

/// X.509, the one type of MSP that we know.
const MSP_TYPE_FABRIC: i32 = 0;

/// The MSPs so far, and the definitions by id that they were made from.
pub(super) struct OrganizationMsps {
    version: MspVersion,
    definitions: BTreeMap<String, MspConfig>,
    msps: Vec<Msp>,
}

impl OrganizationMsps {
    pub(super) fn new(version: MspVersion) -> Self {
        Self {
            version,
            definitions: BTreeMap::new(),
            msps: Vec::new(),
        }
    }

    /// Sets up the MSP of the organization at `path` and gives its id. Several organizations may
    /// share an MSP if they define it in the same bytes.
    pub(super) fn add(
        &mut self,
        path: &str,
        definition: MspConfig,
    ) -> Result<String, ConfigRefused> {
        if definition.r#type != MSP_TYPE_FABRIC {
            return Err(ConfigRefused::MspKind {
                path: path.to_owned(),
                kind: definition.r#type,
            });
        }
        let config = FabricMspConfig::decode(definition.config.as_ref()).map_err(|source| {
            ConfigRefused::Undecodable {
                path: format!("MSP of {path}"),
                source,
            }
        })?;
        if config.name.is_empty() {
            return Err(ConfigRefused::EmptyMspId(path.to_owned()));
        }
        let id = config.name.clone();
        match self.definitions.get(&id) {
            Some(known) if *known == definition => return Ok(id),
            Some(_) => return Err(ConfigRefused::MspRedefined(id)),
            None => {}
        }
        let msp =
            Msp::from_config(&config, self.version).map_err(|refused| ConfigRefused::Msp {
                path: path.to_owned(),
                refused,
            })?;
        self.msps.push(msp);
        self.definitions.insert(id.clone(), definition);
        Ok(id)
    }

    /// One door to all of them.
    pub(super) fn finish(self) -> Result<MspManager, ConfigRefused> {
        MspManager::new(self.msps).map_err(|MspConflict(id)| ConfigRefused::MspRedefined(id))
    }
}
