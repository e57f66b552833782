//! Requests to an orderer: signed envelopes, and why they are refused.
//!
//! Promises the checks of Fabric's deliver and broadcast handlers with their status numbers. A
//! refusal carries a reason for logs; the client of Deliver sees the number only. Reads no clock.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::DecodeError;
use tidings_msp::channel_config::ChannelConfig;
use tidings_msp::policy::SignedDatum;
use tidings_proto::Message;
use tidings_proto::common::{ChannelHeader, Envelope, Payload, SignatureHeader, Status};

/// How far the clock of a client may be from ours (`Authentication.TimeWindow`).
const TIME_WINDOW_SECS: i64 = 15 * 60;

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}: {reason}", *status as i32, status.as_str_name())]
pub(crate) struct Refused {
    /// What the client is told.
    pub(crate) status: Status,
    /// What a person is told.
    pub(crate) reason: String,
}

impl Refused {
    pub(crate) fn new(status: Status, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    pub(crate) fn undecodable(part: &str, error: &DecodeError) -> Self {
        Self::bad(format!("the {part} does not decode: {error}"))
    }

    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::new(Status::BadRequest, reason)
    }
}

/// A request whose outside was read. Nothing about it is believed yet.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    envelope: Envelope,
    creator: Bytes,
    /// What it says about itself.
    pub(crate) header: ChannelHeader,
    /// What it asks.
    pub(crate) data: Bytes,
}

impl Request {
    /// Reads the envelope.
    pub(crate) fn parse(envelope: Envelope) -> Result<Self, Refused> {
        let payload = Payload::decode(envelope.payload.clone())
            .map_err(|error| Refused::undecodable("payload", &error))?;
        let header = payload
            .header
            .ok_or_else(|| Refused::bad("there is no header"))?;
        let channel = ChannelHeader::decode(header.channel_header)
            .map_err(|error| Refused::undecodable("channel header", &error))?;
        let signer = SignatureHeader::decode(header.signature_header)
            .map_err(|error| Refused::undecodable("signature header", &error))?;
        Ok(Self {
            envelope,
            creator: signer.creator,
            header: channel,
            data: payload.data,
        })
    }

    /// The request was made just now.
    pub(crate) fn check_time(&self, now: SystemTime) -> Result<(), Refused> {
        let at = self
            .header
            .timestamp
            .ok_or_else(|| Refused::bad("there is no timestamp"))?;
        if at.seconds.abs_diff(seconds(now)) > TIME_WINDOW_SECS.unsigned_abs() {
            return Err(Refused::bad(
                "the timestamp is more than 15 minutes from our time",
            ));
        }
        Ok(())
    }

    /// The request was made for the connection that it came on.
    pub(crate) fn check_binding(&self, presented: Option<[u8; 32]>) -> Result<(), Refused> {
        match presented {
            Some(presented) if self.header.tls_cert_hash == presented[..] => Ok(()),
            Some(_) => Err(Refused::bad(
                "the TLS certificate hash is not that of the connection",
            )),
            None => Err(Refused::bad("the client showed no TLS certificate")),
        }
    }

    /// The request is for the channel.
    pub(crate) fn check_channel(&self, config: &ChannelConfig) -> Result<(), Refused> {
        if self.header.channel_id != config.channel_id() {
            return Err(Refused::new(Status::NotFound, "that channel is not here"));
        }
        Ok(())
    }

    /// The certificate of the creator has not ended. Whoever is unknown fails the policy.
    pub(crate) fn check_expiry(
        &self,
        config: &ChannelConfig,
        now: SystemTime,
    ) -> Result<(), Refused> {
        match config.msps().deserialize(&self.creator) {
            Ok(identity) if identity.expires_at() < seconds(now) => Err(Refused::new(
                Status::Forbidden,
                "the certificate of the client has expired",
            )),
            _ => Ok(()),
        }
    }

    /// The creator signed it and satisfies the policy.
    pub(crate) fn check_policy(&self, config: &ChannelConfig, path: &str) -> Result<(), Refused> {
        let datum = SignedDatum {
            message: self.envelope.payload.as_ref().into(),
            identity: self.creator.as_ref().into(),
            signature: self.envelope.signature.as_ref().into(),
        };
        config
            .policies()
            .policy(path)
            .evaluate(&[datum])
            .map_err(|error| Refused::new(Status::Forbidden, error.to_string()))
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
