//! An endorsed transaction, looked at where it lies: who endorsed it, and what it writes.
//!
//! Promises to read what Go peers read: the first action, repeated parts merged, and nothing at
//! all of a transaction of which any part does not decode. Every part handed out is a slice of
//! the transaction, and nothing the bytes say sizes an allocation. Does not know whether the
//! transaction is valid: a block holds invalid ones too, and says so in metadata that nobody
//! signs. Hashes and signatures are compared elsewhere.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::{
    NoHead, TransactionHead, last_bytes,
    names::text,
    private::{PrivateWrites, PublicWrite},
    shape,
};
use crate::{
    common::HeaderType,
    wire::{Field, Fields, Malformed, Value},
};

/// Collections in one transaction, those that it only reads from counted. Each is handed out in
/// some hundred bytes of memory and costs six on the wire; real transactions have a few.
pub const TRANSACTION_COLLECTIONS_MAX: usize = 4096;

/// Public writes of one transaction in one namespace that are handed out. What is asked for are
/// definitions of chaincodes, which take five.
pub const PUBLIC_WRITES_MAX: usize = 4096;

/// A serialized `common.Envelope` with an endorsed transaction, walked once from end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsedTransaction {
    envelope: Bytes,
    channel_id: Arc<str>,
    tx_id: Arc<str>,
    actions_len: usize,
    action_header: Bytes,
    /// `protos.ChaincodeActionPayload`.
    action: Bytes,
    /// `protos.ProposalResponsePayload`.
    response: Bytes,
    /// `rwset.TxReadWriteSet`.
    results: Bytes,
}

/// Somebody's signature over [`EndorsedTransaction::response_payload`] and himself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsement {
    /// His serialized identity.
    pub endorser: Bytes,
    /// The signature.
    pub signature: Bytes,
}

/// A namespace that a transaction reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TouchedNamespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether anything in it is written: public, private, or metadata of either.
    pub is_written: bool,
    /// `rwset.NsReadWriteSet`.
    pub(super) part: &'a [u8],
}

/// Why a transaction is none that anybody could have endorsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotEndorsed {
    /// Its header says nothing.
    #[error(transparent)]
    NoHead(#[from] NoHead),
    /// A part is no message.
    #[error("a part of the transaction does not parse: {0}")]
    Malformed(#[from] Malformed),
    /// Of another type, such as a change of the configuration.
    #[error("a transaction of type {0} is not endorsed")]
    HeaderType(i32),
    /// No action, or nothing in it.
    #[error("the transaction has no endorsed action")]
    NoAction,
    /// More collections than anybody needs.
    #[error("more than {TRANSACTION_COLLECTIONS_MAX} collections in one transaction")]
    TooManyCollections,
}

impl EndorsedTransaction {
    /// Walks the bytes of a transaction, such as [`super::BlockView::transactions`] gives.
    pub fn parse(envelope: &Bytes) -> Result<Self, NotEndorsed> {
        let head = TransactionHead::parse(envelope)?;
        if head.header_type != HeaderType::EndorserTransaction as i32 {
            return Err(NotEndorsed::HeaderType(head.header_type));
        }
        let payload = last_bytes(envelope, 1)?.unwrap_or_default();
        shape::PAYLOAD.check(payload)?;
        let transaction = last_bytes(payload, 2)?.unwrap_or_default();
        shape::TRANSACTION.check(transaction)?;
        let first = parts(transaction, 1).next().ok_or(NotEndorsed::NoAction)?;
        let action = last_bytes(first, 2)?.unwrap_or_default();
        shape::ACTION_PAYLOAD.check(action)?;
        let response = parts(action, 2)
            .filter_map(|part| parts(part, 1).last())
            .last()
            .ok_or(NotEndorsed::NoAction)?;
        let extension = last_bytes(response, 2)?.ok_or(NotEndorsed::NoAction)?;
        shape::CHAINCODE_ACTION.check(extension)?;
        let results = last_bytes(extension, 1)?.unwrap_or_default();
        check_results(results)?;
        Ok(Self {
            channel_id: head.channel_id.into(),
            tx_id: head.tx_id.into(),
            actions_len: parts(transaction, 1).count(),
            action_header: envelope.slice_ref(last_bytes(first, 1)?.unwrap_or_default()),
            action: envelope.slice_ref(action),
            response: envelope.slice_ref(response),
            results: envelope.slice_ref(results),
            envelope: envelope.clone(),
        })
    }

    /// The transaction as it was received.
    pub fn envelope(&self) -> &Bytes {
        &self.envelope
    }

    /// The channel that it was made for.
    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// The id that its creator gave it; may be empty.
    pub fn tx_id(&self) -> &str {
        &self.tx_id
    }

    /// How many actions it has. Only the first is looked at, and a valid one has no other.
    pub fn actions_len(&self) -> usize {
        self.actions_len
    }

    /// The header of the action: who proposed it.
    pub fn action_header(&self) -> &Bytes {
        &self.action_header
    }

    /// The proposal as its creator shows it to everybody.
    pub fn proposal(&self) -> &[u8] {
        parts(&self.action, 1).last().unwrap_or_default()
    }

    /// The hash of the proposal that was endorsed, as the endorsers computed it.
    pub fn proposal_hash(&self) -> &[u8] {
        parts(&self.response, 1).last().unwrap_or_default()
    }

    /// What each endorser signed, in front of his identity.
    pub fn response_payload(&self) -> &Bytes {
        &self.response
    }

    /// Who endorsed it, in order, without regard to whether the signatures are good.
    pub fn endorsements(&self) -> impl Iterator<Item = Endorsement> {
        let slice = |part: Option<&[u8]>| self.action.slice_ref(part.unwrap_or_default());
        parts(&self.action, 2)
            .flat_map(|action| parts(action, 2))
            .map(move |endorsement| Endorsement {
                endorser: slice(parts(endorsement, 1).last()),
                signature: slice(parts(endorsement, 2).last()),
            })
    }

    /// The namespaces that it touches, in order. One may stand there twice; no valid transaction
    /// has that.
    pub fn namespaces(&self) -> impl Iterator<Item = TouchedNamespace<'_>> {
        parts(&self.results, 2).map(|part| TouchedNamespace {
            name: name(part),
            is_written: has_any(public_set(part), [3, 4])
                || parts(part, 3).any(|collection| is_written(hashed_set(collection))),
            part,
        })
    }

    /// What it reads and writes in collections, by their hashes, as the transaction of that number
    /// in its block. Of a collection that is named twice, the first counts.
    pub fn private_writes(&self, tx: u64) -> Vec<PrivateWrites> {
        let mut endorsers: Option<Arc<[Bytes]>> = None;
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for part in parts(&self.results, 2) {
            let namespace = name(part);
            let mut shared: Option<Arc<str>> = None;
            for collection in parts(part, 3) {
                let collection_name = name(collection);
                if !seen.insert((namespace, collection_name)) {
                    continue;
                }
                let hashed = hashed_set(collection);
                found.push(PrivateWrites {
                    tx,
                    tx_id: Arc::clone(&self.tx_id),
                    namespace: Arc::clone(shared.get_or_insert_with(|| namespace.into())),
                    collection: collection_name.into(),
                    hash: self.slice(parts(collection, 3).last()),
                    has_writes: is_written(hashed),
                    endorsers: Arc::clone(endorsers.get_or_insert_with(|| self.endorsers())),
                    hashed: self.slice(Some(hashed)),
                });
            }
        }
        found
    }

    /// What it writes for everybody to see in one namespace, in order, as the transaction of that
    /// number in its block. Nothing when there is more than [`PUBLIC_WRITES_MAX`].
    pub fn public_writes(&self, tx: u64, namespace: &str) -> Vec<PublicWrite> {
        let mut found = Vec::new();
        let sets = parts(&self.results, 2).filter(|part| name(part) == namespace);
        for write in sets.flat_map(|part| parts(public_set(part), 3)) {
            if found.len() == PUBLIC_WRITES_MAX {
                return Vec::new();
            }
            let value = parts(write, 3).last().filter(|value| !value.is_empty());
            found.push(PublicWrite {
                tx,
                key: name(write).to_owned(),
                value: value
                    .filter(|_| !flag(write, 2))
                    .map(|value| self.slice(Some(value))),
            });
        }
        found
    }

    fn endorsers(&self) -> Arc<[Bytes]> {
        self.endorsements()
            .map(|endorsement| endorsement.endorser)
            .take(super::private::ENDORSERS_MAX)
            .collect()
    }

    fn slice(&self, part: Option<&[u8]>) -> Bytes {
        self.results.slice_ref(part.unwrap_or_default())
    }
}

/// Every part of the results must decode before any counts.
fn check_results(results: &[u8]) -> Result<(), NotEndorsed> {
    shape::READ_WRITE_SET.check(results)?;
    let mut collections = 0;
    for part in parts(results, 2) {
        shape::PUBLIC_SET.check(public_set(part))?;
        for collection in parts(part, 3) {
            collections += 1;
            if collections > TRANSACTION_COLLECTIONS_MAX {
                return Err(NotEndorsed::TooManyCollections);
            }
            shape::HASHED_SET.check(hashed_set(collection))?;
        }
    }
    Ok(())
}

/// The length-delimited fields of that number. Ends at the first malformed field: there is none
/// in bytes that passed their shape.
pub(super) fn parts(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    Fields::new(message)
        .map_while(Result::ok)
        .filter_map(move |field| match field {
            Field {
                number: found,
                value: Value::Bytes(value),
                ..
            } if found == number => Some(value),
            _ => None,
        })
}

/// What a boolean field says in the end.
pub(super) fn flag(message: &[u8], number: u64) -> bool {
    let fields = Fields::new(message).map_while(Result::ok);
    let values = fields.filter_map(|field| match field.value {
        Value::Varint(value) if field.number == number => Some(value != 0),
        _ => None,
    });
    values.last().unwrap_or_default()
}

/// Namespaces, collections and keys have their names in field 1, checked to be UTF-8.
pub(super) fn name(message: &[u8]) -> &str {
    text(parts(message, 1).last())
}

/// `kvrwset.KVRWSet` of a namespace.
pub(super) fn public_set(namespace: &[u8]) -> &[u8] {
    parts(namespace, 2).last().unwrap_or_default()
}

/// `kvrwset.HashedRWSet` of a collection.
fn hashed_set(collection: &[u8]) -> &[u8] {
    parts(collection, 2).last().unwrap_or_default()
}

/// Whether a hashed set has writes or metadata writes.
fn is_written(hashed_set: &[u8]) -> bool {
    has_any(hashed_set, [2, 3])
}

fn has_any(message: &[u8], numbers: [u64; 2]) -> bool {
    numbers
        .iter()
        .any(|number| parts(message, *number).next().is_some())
}
