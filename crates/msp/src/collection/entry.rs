//! A definition as it is kept.
//!
//! Promises that what was written is read again, and that bytes of anything else are refused.

use bytes::Bytes;
use prost::Message;

use super::{
    definitions::Basis,
    package::{PACKAGE_LEN_MAX, PackageRefused},
};

/// One definition of one chaincode, to be kept by its namespace and block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The chaincode.
    pub namespace: String,
    /// The block with the definition, which holds from the next one on.
    pub block: u64,
    /// The number of the transaction in the block.
    pub tx: u64,
    /// On what grounds it counts.
    pub basis: Basis,
    /// The number of the definition; none for one before version 2.
    pub sequence: Option<i64>,
    /// The serialized `protos.CollectionConfigPackage`, or why the collections are unknown.
    pub package: Result<Bytes, PackageRefused>,
}

/// Why bytes are not a kept definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryRefused {
    /// Not written by us.
    #[error("the kept definition does not decode: {0}; scan the ledger for definitions again")]
    Undecodable(#[from] prost::DecodeError),
    /// A number that no version of ours gives a meaning to.
    #[error("the kept definition has {what} {number}, which this version does not know")]
    Unknown {
        /// What the number is of.
        what: &'static str,
        /// The number.
        number: u32,
    },
}

/// The form on disk. Numbers may be added and never change their meaning.
#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(uint64, tag = "2")]
    block: u64,
    #[prost(uint64, tag = "3")]
    tx: u64,
    #[prost(uint32, tag = "4")]
    basis: u32,
    #[prost(sint64, optional, tag = "5")]
    sequence: Option<i64>,
    #[prost(bytes = "bytes", tag = "6")]
    package: Bytes,
    #[prost(uint32, tag = "7")]
    refused: u32,
}

const BASES: [(u32, Basis); 4] = [
    (1, Basis::Assumed),
    (2, Basis::Claimed),
    (3, Basis::Endorsed),
    (4, Basis::Implicit),
];

const REFUSALS: [(u32, PackageRefused); 7] = [
    (1, PackageRefused::Undecodable),
    (2, PackageRefused::TooLong),
    (3, PackageRefused::TooMany),
    (4, PackageRefused::Full),
    (5, PackageRefused::Unseen),
    (6, PackageRefused::Disputed),
    (7, PackageRefused::NotAChaincode),
];

impl Entry {
    /// The form in which it is kept; a package's length and some hundred bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (package, refused) = match &self.package {
            Ok(package) => (package.clone(), 0),
            Err(refused) => (Bytes::new(), number(&REFUSALS, *refused)),
        };
        Kept {
            namespace: self.namespace.clone(),
            block: self.block,
            tx: self.tx,
            basis: number(&BASES, self.basis),
            sequence: self.sequence,
            package,
            refused,
        }
        .encode_to_vec()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryRefused> {
        let kept = Kept::decode(bytes)?;
        let package = match kept.refused {
            0 if kept.package.len() > PACKAGE_LEN_MAX => Err(PackageRefused::TooLong),
            0 => Ok(kept.package),
            refused => Err(meaning(&REFUSALS, "reason", refused)?),
        };
        Ok(Self {
            namespace: kept.namespace,
            block: kept.block,
            tx: kept.tx,
            basis: meaning(&BASES, "basis", kept.basis)?,
            sequence: kept.sequence,
            package,
        })
    }
}

fn number<T: PartialEq>(numbers: &[(u32, T)], meaning: T) -> u32 {
    let found = numbers.iter().find(|(_, listed)| *listed == meaning);
    found
        .map(|(number, _)| *number)
        .expect("every meaning has a number")
}

fn meaning<T: Copy>(
    numbers: &[(u32, T)],
    what: &'static str,
    number: u32,
) -> Result<T, EntryRefused> {
    let found = numbers.iter().find(|(listed, _)| *listed == number);
    found
        .map(|(_, meaning)| *meaning)
        .ok_or(EntryRefused::Unknown { what, number })
}
