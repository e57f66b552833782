//! Identities, transactions and codes in the words of a person.
//!
//! Promises: whatever the bytes are, the answer is one short clean text. Judges nothing.

use bytes::Bytes;
use tidings_msp::certificate::Certificate;
use tidings_proto::Message;
use tidings_proto::block::{TransactionHead, type_name};
use tidings_proto::common::{Envelope, HeaderType, Payload, SignatureHeader};
use tidings_proto::msp::SerializedIdentity;
use tidings_proto::protos::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeHeaderExtension, ProposalResponsePayload,
    Transaction,
};

use super::outline::clean;

/// `Org1MSP peer0.org1.test`, the MSP and common name of a serialized identity.
pub(crate) fn identity(serialized: &[u8]) -> String {
    if serialized.is_empty() {
        return "nobody".into();
    }
    let Ok(identity) = SerializedIdentity::decode(serialized) else {
        return format!("{} bytes that are no identity", serialized.len());
    };
    let name = match Certificate::from_pem(&identity.id_bytes) {
        Ok(certificate) => clean(certificate.common_name()),
        Err(error) => format!("(certificate: {})", clean(&error.to_string())),
    };
    format!("{} {name}", clean(&identity.mspid))
}

/// What one transaction of a block says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TransactionFacts {
    /// Type by name, or its number.
    pub(crate) kind: String,
    /// The id that its creator gave it.
    pub(crate) id: String,
    /// MSP and common name of the creator.
    pub(crate) creator: String,
    /// The chaincode that it invoked.
    pub(crate) chaincode: String,
    /// Endorsements that it carries.
    pub(crate) endorsements: usize,
}

/// Reads the outside of a transaction as far as it can be read.
pub(crate) fn transaction(envelope: &Bytes) -> TransactionFacts {
    let Ok(head) = TransactionHead::parse(envelope) else {
        return TransactionFacts {
            kind: "unreadable".into(),
            ..TransactionFacts::default()
        };
    };
    let mut facts = TransactionFacts {
        kind: type_name(head.header_type),
        id: clean(head.tx_id),
        ..TransactionFacts::default()
    };
    let Some(payload) = payload_of(envelope) else {
        return facts;
    };
    let header = payload.header.unwrap_or_default();
    facts.creator = SignatureHeader::decode(header.signature_header)
        .map_or_else(|_| "unreadable".into(), |header| identity(&header.creator));
    if head.header_type == HeaderType::EndorserTransaction as i32 {
        let action = first_action(payload.data);
        facts.endorsements = action.as_ref().map_or(0, |(_, count)| *count);
        let named = action.and_then(|(action, _)| action.chaincode_id);
        let named = named.or_else(|| {
            let header =
                tidings_proto::common::ChannelHeader::decode(header.channel_header).ok()?;
            ChaincodeHeaderExtension::decode(header.extension)
                .ok()?
                .chaincode_id
        });
        facts.chaincode = named.map(|id| clean(&id.name)).unwrap_or_default();
    }
    facts
}

/// The payload of a serialized envelope.
pub(crate) fn payload_of(envelope: &Bytes) -> Option<Payload> {
    Payload::decode(Envelope::decode(envelope.clone()).ok()?.payload).ok()
}

/// What the first action of an endorser transaction did, and how many endorsed it.
fn first_action(data: Bytes) -> Option<(ChaincodeAction, usize)> {
    let action = Transaction::decode(data).ok()?.actions.into_iter().next()?;
    let action = ChaincodeActionPayload::decode(action.payload)
        .ok()?
        .action?;
    let response = ProposalResponsePayload::decode(action.proposal_response_payload).ok()?;
    let count = action.endorsements.len();
    Some((ChaincodeAction::decode(response.extension).ok()?, count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_identity_that_is_none_is_said_so() {
        assert_eq!(identity(b""), "nobody");
        assert_eq!(identity(b"\xff\xff"), "2 bytes that are no identity");
        let hollow = SerializedIdentity {
            mspid: "Org\u{7}".into(),
            id_bytes: Bytes::new(),
        };
        let text = identity(&hollow.encode_to_vec());
        assert!(text.starts_with("Org\\u{7} (certificate: "), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_described(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            identity(&bytes);
            transaction(&Bytes::from(bytes));
        }
    }
}
