//! The MSPs of a channel, by id.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use prost::Message;
use tidings_proto::common::MspPrincipal;
use tidings_proto::msp::SerializedIdentity;

use crate::identity::Identity;
use crate::msp::{IdentityRefused, Msp};
use crate::principal::PrincipalRefused;

/// Two different MSPs claim one id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two different configurations of MSP {0}; an MSP id may appear twice only if both agree")]
pub struct MspConflict(pub String);

/// All MSPs that a channel trusts.
#[derive(Debug)]
pub struct MspManager {
    msps: BTreeMap<Arc<str>, Arc<Msp>>,
}

impl MspManager {
    /// Gathers MSPs. The same id may appear again with the same content.
    pub fn new(msps: Vec<Msp>) -> Result<Self, MspConflict> {
        let mut gathered = BTreeMap::new();
        for msp in msps {
            match gathered.entry(Arc::clone(msp.id())) {
                Entry::Vacant(place) => {
                    place.insert(Arc::new(msp));
                }
                Entry::Occupied(place) if place.get().content == msp.content => {}
                Entry::Occupied(_) => return Err(MspConflict(msp.id().to_string())),
            }
        }
        Ok(Self { msps: gathered })
    }

    /// The MSP of that id.
    pub fn msp(&self, id: &str) -> Option<&Arc<Msp>> {
        self.msps.get(id)
    }

    /// All MSPs in the order of their ids.
    pub fn msps(&self) -> impl Iterator<Item = &Arc<Msp>> {
        self.msps.values()
    }

    /// Recognises an identity by the MSP that it names.
    pub fn deserialize(&self, serialized: &[u8]) -> Result<Arc<Identity>, IdentityRefused> {
        let parsed = SerializedIdentity::decode(serialized);
        let parsed = parsed.or(Err(IdentityRefused::NotAnIdentity))?;
        match self.msp(&parsed.mspid) {
            Some(msp) => msp.deserialize(serialized),
            None => Err(IdentityRefused::UnknownMsp(parsed.mspid)),
        }
    }

    /// Approves an identity by the MSP that it belongs to.
    pub fn validate(&self, identity: &Identity) -> Result<(), IdentityRefused> {
        match self.msp(identity.msp_id()) {
            Some(msp) => msp.validate(identity),
            None => Err(IdentityRefused::UnknownMsp(identity.msp_id().to_string())),
        }
    }

    /// Asks the MSP of the identity whether the identity is what the principal describes.
    pub fn satisfies(
        &self,
        identity: &Identity,
        principal: &MspPrincipal,
    ) -> Result<(), PrincipalRefused> {
        match self.msp(identity.msp_id()) {
            Some(msp) => msp.satisfies(identity, principal),
            None => Err(IdentityRefused::UnknownMsp(identity.msp_id().to_string()).into()),
        }
    }
}
