//! Gossip envelopes over the bytes as they came.
//!
//! A signature covers the bytes that were received, and what is forwarded are those same bytes:
//! a decoded message is a copy to look at and is never encoded again (W-G1). Signing and checking
//! signatures is not done here.
//!
//! Rules: docs/protocol/wire.md.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::{
    Malformed,
    elements::{self, ELEMENTS_MAX},
    gossip::{Envelope, GossipMessage, Secret, SecretEnvelope, secret},
};

/// Bytes that are not a message to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Not a protobuf message.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// Not the message that it should be.
    #[error("{0}")]
    Unexpected(#[from] DecodeError),
    /// It would take far more memory than it has bytes.
    #[error("more than {ELEMENTS_MAX} list elements")]
    TooMany,
}

impl Envelope {
    /// An envelope without signature, for messages whose trust comes from the connection.
    pub fn unsigned(message: &GossipMessage) -> Self {
        Self::signed(message.encode_to_vec().into(), Bytes::new())
    }

    /// An envelope over bytes that were signed as they are.
    pub fn signed(payload: Bytes, signature: Bytes) -> Self {
        Self {
            payload,
            signature,
            secret_envelope: None,
        }
    }

    /// This envelope with what only the own organization may see.
    #[must_use]
    pub fn with_secret(mut self, secret: SecretEnvelope) -> Self {
        self.secret_envelope = Some(secret);
        self
    }

    /// A copy that other organizations may see. Payload and signature stay valid: they do not
    /// cover the secret.
    #[must_use]
    pub fn without_secret(&self) -> Self {
        Self::signed(self.payload.clone(), self.signature.clone())
    }

    /// Bytes of this envelope on the wire.
    pub fn wire_len(&self) -> usize {
        self.encoded_len()
    }

    /// Decodes the payload and keeps its bytes beside it. At most [`ELEMENTS_MAX`] list elements.
    pub fn open(self) -> Result<Opened, Undecodable> {
        let may_be_many = self.payload.len() > elements::SURELY_FEW_LEN;
        if may_be_many && !elements::are_few(&self.payload)? {
            return Err(Undecodable::TooMany);
        }
        let message = GossipMessage::decode(self.payload.clone())?;
        Ok(Opened {
            envelope: self,
            message,
        })
    }
}

impl SecretEnvelope {
    /// The endpoint for the own organization that the secret names. Nothing when it does not
    /// decode: an unreadable secret counts as none.
    pub fn internal_endpoint(&self) -> Option<String> {
        let Secret { content } = Secret::decode(self.payload.clone()).ok()?;
        content.map(|secret::Content::InternalEndpoint(endpoint)| endpoint)
    }
}

impl Secret {
    /// The secret that names an endpoint for the own organization.
    pub fn of_internal_endpoint(endpoint: impl Into<String>) -> Self {
        Self {
            content: Some(secret::Content::InternalEndpoint(endpoint.into())),
        }
    }
}

/// A decoded message together with the bytes it was decoded from.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    envelope: Envelope,
    message: GossipMessage,
}

impl Opened {
    /// Our own message, not signed.
    pub fn unsigned(message: GossipMessage) -> Self {
        Self {
            envelope: Envelope::unsigned(&message),
            message,
        }
    }

    /// Decodes an envelope from the bytes of a frame, and then its payload.
    pub fn decode(frame: Bytes) -> Result<Self, Undecodable> {
        Envelope::decode(frame)?.open()
    }

    /// The envelope to forward, byte for byte as it came.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// What the payload says.
    pub fn message(&self) -> &GossipMessage {
        &self.message
    }

    /// Both parts.
    pub fn into_parts(self) -> (Envelope, GossipMessage) {
        (self.envelope, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::{DataDigest, gossip_message};

    fn secret() -> SecretEnvelope {
        let payload = Secret::of_internal_endpoint("peer0:7051")
            .encode_to_vec()
            .into();
        SecretEnvelope {
            payload,
            signature: Bytes::from_static(b"sig"),
        }
    }

    #[test]
    fn w_g1_an_opened_message_keeps_bytes_that_we_would_not_write() {
        // Fields out of order and one that nobody knows.
        let payload = Bytes::from_static(&[0x18, 0x01, 0x08, 0x05, 0xf8, 0x07, 0x01]);
        let opened = Envelope::signed(payload.clone(), Bytes::new())
            .open()
            .unwrap();
        assert_eq!(opened.message().nonce, 5);
        assert_ne!(opened.message().encode_to_vec(), payload);
        let again = Opened::decode(opened.envelope().encode_to_vec().into()).unwrap();
        assert_eq!(again, opened);
        assert_eq!(again.into_parts().0.payload, payload);
    }

    #[test]
    fn stripping_the_secret_keeps_payload_and_signature() {
        let plain = Envelope::signed(Bytes::from_static(b"p"), Bytes::from_static(b"s"));
        let full = plain.clone().with_secret(secret());
        assert_eq!(full.without_secret(), plain);
        assert_eq!(full.wire_len(), full.encode_to_vec().len());
        let endpoint = full
            .secret_envelope
            .and_then(|secret| secret.internal_endpoint());
        assert_eq!(endpoint.as_deref(), Some("peer0:7051"));
    }

    #[test]
    fn an_unreadable_secret_names_no_endpoint() {
        let of = |payload| {
            SecretEnvelope {
                payload,
                signature: Bytes::new(),
            }
            .internal_endpoint()
        };
        assert_eq!(of(Bytes::from_static(&[0x0a, 0xff])), None);
        assert_eq!(of(Bytes::new()), None);
    }

    #[test]
    fn w_s1_a_payload_that_does_not_decode_is_refused() {
        let of = |payload| Envelope::signed(payload, Bytes::new()).open();
        assert!(of(Bytes::from_static(&[0x08])).is_err());
        assert!(of(Bytes::from_static(&[0x2a, 0x05, 0x00])).is_err());
        assert!(Opened::decode(Bytes::from_static(&[0xff])).is_err());
    }

    #[test]
    fn w_s1_more_elements_than_anybody_looks_at_are_not_decoded() {
        let of = |elements: usize| {
            let digests = vec![Bytes::new(); elements];
            let digest = DataDigest {
                digests,
                ..DataDigest::default()
            };
            let content = Some(gossip_message::Content::DataDig(digest));
            Envelope::unsigned(&GossipMessage {
                content,
                ..GossipMessage::default()
            })
            .open()
        };
        assert!(of(ELEMENTS_MAX).is_ok());
        assert_eq!(of(ELEMENTS_MAX + 1), Err(Undecodable::TooMany));
    }

    #[test]
    fn w_g5_a_string_that_is_not_utf8_is_refused() {
        // An ack whose error text is one byte 0xff.
        let payload = Bytes::from_static(&[0xb2, 0x01, 0x03, 0x0a, 0x01, 0xff]);
        assert!(Envelope::signed(payload, Bytes::new()).open().is_err());
    }
}
