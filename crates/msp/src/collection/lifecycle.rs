//! What a transaction says of chaincodes.
//!
//! Chaincodes are defined by writes in two namespaces: `_lifecycle`, where the fields of a
//! definition are keys of their own and only those that change are written, and `lscc`, as it was
//! before version 2. Promises to read keys and values as Fabric's lifecycle writes them. Does not
//! know who may write there.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use tidings_proto::{
    block::{EndorsedTransaction, PublicWrite},
    lifecycle::{StateData, StateMetadata, state_data},
};

use super::package::PackageRefused;

/// The namespace of definitions since version 2, which has implicit collections itself.
pub const LIFECYCLE_NAMESPACE: &str = "_lifecycle";

/// The namespace of definitions before version 2.
pub const LEGACY_NAMESPACE: &str = "lscc";

/// Bytes in the name of a chaincode. Fabric sets no limit; file names and labels with the name in
/// them end far below.
pub const NAMESPACE_LEN_MAX: usize = 512;

const METADATA_PREFIX: &str = "namespaces/metadata/";
const FIELDS_PREFIX: &str = "namespaces/fields/";
const CHAINCODE_TYPE: &str = "ChaincodeDefinition";
const LEGACY_SUFFIX: &str = "~collection";

/// Bytes in the metadata of a definition, which names its four fields.
const METADATA_LEN_MAX: usize = 4096;

/// A definition of one chaincode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// In `_lifecycle`.
    Lifecycle(LifecycleStatement),
    /// In `lscc`: the collections, or that there are none.
    Legacy(Bytes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LifecycleStatement {
    /// Each definition of a chaincode has a number, one more than the one before.
    pub(super) sequence: i64,
    /// Whether it is a chaincode that is defined; none when nothing is said anew.
    pub(super) is_chaincode: Option<bool>,
    /// The serialized package; none when nothing is said anew.
    pub(super) collections: Option<Result<Bytes, PackageRefused>>,
}

#[derive(Default)]
struct Fields {
    sequence: Option<i64>,
    is_chaincode: Option<bool>,
    collections: Option<Result<Bytes, PackageRefused>>,
}

/// The definitions in a transaction, by chaincode. A definition without a legible sequence number
/// is none, as Fabric looks for that one key.
pub(super) fn statements(transaction: &EndorsedTransaction) -> BTreeMap<String, Statement> {
    let mut statements = BTreeMap::new();
    for write in transaction.public_writes(0, LEGACY_NAMESPACE) {
        if let Some((chaincode, package)) = legacy(&write) {
            statements.insert(chaincode.to_owned(), Statement::Legacy(package));
        }
    }
    let mut chaincodes: BTreeMap<String, Fields> = BTreeMap::new();
    for write in transaction.public_writes(0, LIFECYCLE_NAMESPACE) {
        read_field(&write, &mut chaincodes);
    }
    for (chaincode, fields) in chaincodes {
        if let Some(sequence) = fields.sequence {
            let statement = LifecycleStatement {
                sequence,
                is_chaincode: fields.is_chaincode,
                collections: fields.collections,
            };
            statements.insert(chaincode, Statement::Lifecycle(statement));
        }
    }
    statements
}

fn legacy(write: &PublicWrite) -> Option<(&str, Bytes)> {
    let chaincode = write.key.strip_suffix(LEGACY_SUFFIX)?;
    is_name(chaincode).then(|| (chaincode, write.value.clone().unwrap_or_default()))
}

fn read_field(write: &PublicWrite, chaincodes: &mut BTreeMap<String, Fields>) {
    if let Some(chaincode) = write.key.strip_prefix(METADATA_PREFIX) {
        if is_name(chaincode) {
            let fields = chaincodes.entry(chaincode.to_owned()).or_default();
            fields.is_chaincode = Some(is_chaincode(write.value.as_ref()));
        }
        return;
    }
    let Some((chaincode, field)) = write
        .key
        .strip_prefix(FIELDS_PREFIX)
        .and_then(|rest| rest.split_once('/'))
        .filter(|(chaincode, _)| is_name(chaincode))
    else {
        return;
    };
    match field {
        "Sequence" => {
            let fields = chaincodes.entry(chaincode.to_owned()).or_default();
            fields.sequence = match data(write.value.as_ref()) {
                Ok(Some(state_data::Type::Int64(sequence))) => Some(sequence),
                _ => None,
            };
        }
        "Collections" => {
            let fields = chaincodes.entry(chaincode.to_owned()).or_default();
            fields.collections = Some(match data(write.value.as_ref()) {
                Ok(Some(state_data::Type::Bytes(package))) => Ok(package),
                // A field that is not there is an empty one.
                Ok(None) => Ok(Bytes::new()),
                _ => Err(PackageRefused::Undecodable),
            });
        }
        _ => {}
    }
}

fn is_name(chaincode: &str) -> bool {
    (1..=NAMESPACE_LEN_MAX).contains(&chaincode.len()) && !chaincode.contains(['/', '~'])
}

fn is_chaincode(metadata: Option<&Bytes>) -> bool {
    metadata
        .filter(|metadata| metadata.len() <= METADATA_LEN_MAX)
        .and_then(|metadata| StateMetadata::decode(metadata.clone()).ok())
        .is_some_and(|metadata| metadata.datatype == CHAINCODE_TYPE)
}

fn data(value: Option<&Bytes>) -> Result<Option<state_data::Type>, prost::DecodeError> {
    let value = value.cloned().unwrap_or_default();
    Ok(StateData::decode(value)?.r#type)
}
