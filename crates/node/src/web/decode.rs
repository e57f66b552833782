//! Blocks and transactions as JSON.
//!
//! Promises that everything a block can hold is written or said to be left out, and that it is
//! written from where it lies: what one byte of a block costs is a few bytes of text, within the
//! limit of that. Validation codes are those that it is handed. Judges nothing.

use bytes::Bytes;
use prost::Message;
use serde::{Serialize, Serializer, ser::SerializeMap};
use tidings_ledger::BlockHash;
use tidings_msp::certificate::Certificate;
use tidings_proto::{
    block::{
        BlockView, EndorsedTransaction, TouchedNamespace, TransactionHead, code_name, type_name,
    },
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader},
    msp::SerializedIdentity,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    ask::{Filter, KEY_LEN_MAX},
    json::{Each, Full, Json, Octets},
};

/// Longest certificate of a creator that is looked into. Real ones have a kilobyte; parsing takes
/// several times the bytes.
const CERTIFICATE_LEN_MAX: usize = 64 << 10;

/// `protos::TxValidationCode::NotValidated`, where there is no code.
const NOT_VALIDATED: u8 = 254;

/// Room that is kept for the end of a block.
const END_LEN: usize = 64;

/// A transaction and where it stands.
pub(super) struct Placed {
    block: u64,
    position: usize,
    code: u8,
    envelope: Bytes,
}

impl Placed {
    /// The transactions of a block with these validation codes, from a position on.
    pub(super) fn all(view: &BlockView, codes: Vec<u8>, from: usize) -> impl Iterator<Item = Self> {
        let block = view.number().unwrap_or_default();
        let all = view.transactions().enumerate().skip(from);
        all.map(move |(position, envelope)| Self {
            block,
            position,
            code: codes.get(position).copied().unwrap_or(NOT_VALIDATED),
            envelope,
        })
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Whether somebody with this filter wants it.
    pub(super) fn passes(&self, filter: &Filter) -> bool {
        let Ok(head) = TransactionHead::parse(&self.envelope) else {
            return *filter == Filter::default();
        };
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        if !is(&filter.txid, head.tx_id) {
            return false;
        }
        if filter.organization.is_some() {
            let creator = header(&self.envelope).and_then(creator);
            if !creator.is_some_and(|creator| is(&filter.organization, &creator.mspid)) {
                return false;
            }
        }
        filter.chaincode.is_none()
            || EndorsedTransaction::parse(&self.envelope)
                .is_ok_and(|endorsed| is(&filter.chaincode, endorsed.chaincode().0))
    }

    /// Writes all of it; or, where there is no room for that, that it is left out.
    pub(super) fn write(&self, out: &mut Json) -> Result<(), Full> {
        out.value(self).or_else(|Full| out.value(&LeftOut(self)))
    }
}

/// Writes a block with as many of its transactions as there is room for.
pub(super) fn block(
    out: &mut Json,
    channel: &str,
    view: &BlockView,
    codes: Vec<u8>,
) -> Result<(), Full> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        channel: &'a str,
        number: u64,
        hash: Option<String>,
        previous_hash: String,
        data_hash: String,
        transaction_count: usize,
    }
    let header = view.header().cloned().unwrap_or_default();
    let count = view.transactions_len();
    out.value(&Head {
        channel,
        number: header.number,
        hash: BlockHash::of(view).map(|hash| hex::encode(hash.as_bytes())),
        previous_hash: hex::encode(&header.previous_hash),
        data_hash: hex::encode(&header.data_hash),
        transaction_count: count,
    })?;
    out.reopen();
    out.raw(",\"transactions\":[")?;
    let mut written = 0;
    for transaction in Placed::all(view, codes, 0) {
        let room = out.room().saturating_sub(END_LEN);
        let fits = out.within(room, |out| {
            if written > 0 {
                out.raw(",")?;
            }
            transaction.write(out)
        });
        if fits.is_err() {
            break;
        }
        written += 1;
    }
    let left_out = count - written;
    out.raw(&format!("],\"transactionsLeftOut\":{left_out}}}"))
}

impl Serialize for Placed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("block", &self.block)?;
        map.serialize_entry("position", &self.position)?;
        map.serialize_entry("validation", &code_name(self.code))?;
        let head = match TransactionHead::parse(&self.envelope) {
            Ok(head) => head,
            Err(reason) => {
                map.serialize_entry("unreadable", &reason.to_string())?;
                return map.end();
            }
        };
        map.serialize_entry("id", head.tx_id)?;
        map.serialize_entry("type", &type_name(head.header_type))?;
        let header = header(&self.envelope);
        let time = header.as_ref().and_then(timestamp);
        map.serialize_entry("timestamp", &time)?;
        map.serialize_entry("creator", &header.and_then(creator).map(Creator))?;
        if head.header_type == i32::from(HeaderType::EndorserTransaction) {
            match EndorsedTransaction::parse(&self.envelope) {
                Ok(endorsed) => call(&mut map, &endorsed)?,
                Err(reason) => map.serialize_entry("unreadable", &reason.to_string())?,
            }
        }
        map.end()
    }
}

fn call<M: SerializeMap>(map: &mut M, endorsed: &EndorsedTransaction) -> Result<(), M::Error> {
    let (chaincode, version) = endorsed.chaincode();
    map.serialize_entry("chaincode", chaincode)?;
    map.serialize_entry("chaincodeVersion", version)?;
    let arguments = Each(|| endorsed.arguments().map(Octets));
    map.serialize_entry("arguments", &arguments)?;
    let endorsers = Each(|| {
        endorsed.endorsements().map(|endorsement| {
            let identity = SerializedIdentity::decode(endorsement.endorser);
            identity.unwrap_or_default().mspid
        })
    });
    map.serialize_entry("endorsers", &endorsers)?;
    map.serialize_entry("namespaces", &Each(|| endorsed.namespaces().map(Namespace)))?;
    let event = endorsed.event().map(|event| Event {
        name: event.name,
        payload: Octets(event.payload),
    });
    map.serialize_entry("event", &event)
}

#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    payload: Octets<'a>,
}

struct Namespace<'a>(TouchedNamespace<'a>);

impl Serialize for Namespace<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Write<'a> {
            key: &'a str,
            is_delete: bool,
            value: Option<Octets<'a>>,
        }
        let write = |(key, value): (_, Option<_>)| Write {
            key,
            is_delete: value.is_none(),
            value: value.map(Octets),
        };
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("name", self.0.name)?;
        map.serialize_entry("writes", &Each(|| self.0.writes().map(write)))?;
        map.serialize_entry("collections", &Each(|| self.0.collections()))?;
        map.end()
    }
}

struct Creator(SerializedIdentity);

impl Serialize for Creator {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let pem = Some(&self.0.id_bytes).filter(|pem| pem.len() <= CERTIFICATE_LEN_MAX);
        let certificate = pem.and_then(|pem| Certificate::from_pem(pem).ok());
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("mspId", &self.0.mspid)?;
        map.serialize_entry("subject", &certificate.as_ref().map(Certificate::subject))?;
        map.end()
    }
}

/// What is said of a transaction for which there is no room.
struct LeftOut<'a>(&'a Placed);

impl Serialize for LeftOut<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let head = TransactionHead::parse(&self.0.envelope).ok();
        let id = head.map(|head| head.tx_id);
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("block", &self.0.block)?;
        map.serialize_entry("position", &self.0.position)?;
        map.serialize_entry("validation", &code_name(self.0.code))?;
        if let Some(id) = id.filter(|id| id.len() <= KEY_LEN_MAX) {
            map.serialize_entry("id", id)?;
        }
        let size = self.0.envelope.len();
        let reason = format!("there is no room here for this transaction of {size} bytes");
        map.serialize_entry("leftOut", &reason)?;
        map.end()
    }
}

/// The header of a serialized envelope.
fn header(envelope: &Bytes) -> Option<Header> {
    Payload::decode(Envelope::decode(envelope.clone()).ok()?.payload)
        .ok()?
        .header
}

fn timestamp(header: &Header) -> Option<String> {
    let header = ChannelHeader::decode(header.channel_header.clone()).ok()?;
    let time = header.timestamp?;
    let seconds = OffsetDateTime::from_unix_timestamp(time.seconds).ok()?;
    let nanos = u32::try_from(time.nanos).ok()?;
    let time = seconds.replace_nanosecond(nanos).ok()?;
    time.format(&Rfc3339).ok()
}

fn creator(header: Header) -> Option<SerializedIdentity> {
    let header = SignatureHeader::decode(header.signature_header).ok()?;
    let creator = Some(header.creator).filter(|creator| !creator.is_empty())?;
    SerializedIdentity::decode(creator).ok()
}

#[cfg(test)]
mod tests;
