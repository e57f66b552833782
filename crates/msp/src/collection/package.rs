//! The collections of one definition.
//!
//! Promises that a package costs what it says in memory and no more. A collection in it that
//! cannot be used does not spoil the others.

use std::{collections::BTreeMap, collections::btree_map::Entry, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tidings_proto::{
    ELEMENTS_MAX, collection_elements,
    protos::{CollectionConfigPackage, collection_config},
};

use super::{Collection, CollectionRefused};

/// Bytes of one definition's collections. Five hundred collections of a consortium of fifty
/// organizations need half of it.
pub const PACKAGE_LEN_MAX: usize = 1 << 20;

/// Collections of one chaincode: several times what anybody has been seen to use.
pub const COLLECTIONS_MAX: usize = 1024;

/// What an element of a list takes in memory, about, once for its definition as on the wire and
/// once compiled.
const ELEMENT_COST: usize = 256;

/// Why the collections of a definition are not known. Nobody may have their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageRefused {
    /// Not what a definition holds.
    #[error("the definition's collections do not decode")]
    Undecodable,
    /// More bytes than anybody needs.
    #[error("the definition's collections take more than {PACKAGE_LEN_MAX} bytes")]
    TooLong,
    /// More collections or principals than anybody needs.
    #[error(
        "the definition has more than {COLLECTIONS_MAX} collections, or {ELEMENTS_MAX} elements in them"
    )]
    TooMany,
    /// There is no room left for what definitions say.
    #[error("the definitions of the channel take more memory than they may")]
    Full,
    /// The definition keeps the collections of an earlier one, which we have not seen.
    #[error("the definition keeps collections of an earlier one that was not seen")]
    Unseen,
    /// Two definitions with one sequence number.
    #[error("two different definitions claim the same sequence number")]
    Disputed,
    /// What is defined is no chaincode.
    #[error("the name is not that of a chaincode any more")]
    NotAChaincode,
}

/// The collections by name, and the bytes that say so.
#[derive(Debug, Default)]
pub(super) struct Package {
    bytes: Bytes,
    collections: BTreeMap<String, Result<Arc<Collection>, CollectionRefused>>,
    cost: usize,
}

impl Package {
    /// Takes a serialized `protos.CollectionConfigPackage`, of which it keeps a copy: what it is
    /// given may be a slice of a block.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PackageRefused> {
        if bytes.len() > PACKAGE_LEN_MAX {
            return Err(PackageRefused::TooLong);
        }
        let elements = collection_elements(bytes)
            .or(Err(PackageRefused::Undecodable))?
            .ok_or(PackageRefused::TooMany)?;
        let bytes = Bytes::copy_from_slice(bytes);
        let decoded =
            CollectionConfigPackage::decode(bytes.clone()).or(Err(PackageRefused::Undecodable))?;
        if decoded.config.len() > COLLECTIONS_MAX {
            return Err(PackageRefused::TooMany);
        }
        let mut collections = BTreeMap::new();
        for config in decoded.config {
            let Some(collection_config::Payload::StaticCollectionConfig(config)) = config.payload
            else {
                continue;
            };
            // Of two with one name the first counts.
            if let Entry::Vacant(place) = collections.entry(config.name.clone()) {
                place.insert(Collection::new(config).map(Arc::new));
            }
        }
        Ok(Self {
            cost: bytes.len() + elements * ELEMENT_COST,
            bytes,
            collections,
        })
    }

    /// The bytes that it was made from.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// No collections at all.
    pub(super) fn is_empty(&self) -> bool {
        self.collections.is_empty()
    }

    /// The names of the collections.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.collections.keys().map(String::as_str)
    }

    /// The collection of that name.
    pub(super) fn collection(
        &self,
        name: &str,
    ) -> Option<&Result<Arc<Collection>, CollectionRefused>> {
        self.collections.get(name)
    }

    /// What it takes in memory, about.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}
