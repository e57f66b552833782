//! Requests of clients, to a peer or to an orderer: signed envelopes, and why they are refused.
//!
//! Promises the checks of Fabric's deliver and broadcast handlers with their status numbers. A
//! refusal carries a reason for logs; the client of Deliver sees the number only. Reads no clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::DecodeError;
use prost_types::Timestamp;
use tidings_msp::channel_config::ChannelConfig;
use tidings_msp::policy::{Policy, SignedDatum};
use tidings_proto::Message;
use tidings_proto::common::{ChannelHeader, Envelope, Payload, SignatureHeader, Status};

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}: {reason}", *status as i32, status.as_str_name())]
pub struct Refused {
    /// What the client is told.
    pub status: Status,
    /// What a person is told.
    pub reason: String,
}

impl Refused {
    /// With this status, for this reason.
    pub fn new(status: Status, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    /// A part of the request is no protobuf message.
    pub fn undecodable(part: &str, error: &DecodeError) -> Self {
        Self::bad(format!("the {part} does not decode: {error}"))
    }

    /// The request is wrong in itself.
    pub fn bad(reason: impl Into<String>) -> Self {
        Self::new(Status::BadRequest, reason)
    }
}

/// A request whose outside was read. Nothing about it is believed yet.
#[derive(Clone, Debug)]
pub struct Request {
    envelope: Envelope,
    creator: Bytes,
    /// What it says about itself.
    pub header: ChannelHeader,
    /// What it asks.
    pub data: Bytes,
}

impl Request {
    /// Reads the envelope.
    pub fn parse(envelope: Envelope) -> Result<Self, Refused> {
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

    /// The request was made just now, as far as clocks agree.
    pub fn check_time(&self, now: SystemTime, window: Duration) -> Result<(), Refused> {
        check_time(self.header.timestamp.as_ref(), now, window)
    }

    /// The request was made for the connection that it came on.
    pub fn check_binding(&self, presented: Option<[u8; 32]>) -> Result<(), Refused> {
        match presented {
            Some(presented) if self.header.tls_cert_hash == presented[..] => Ok(()),
            Some(_) => Err(Refused::bad(
                "the TLS certificate hash is not that of the connection",
            )),
            None => Err(Refused::bad("the client showed no TLS certificate")),
        }
    }

    /// The request is for the channel.
    pub fn check_channel(&self, config: &ChannelConfig) -> Result<(), Refused> {
        if self.header.channel_id != config.channel_id() {
            return Err(Refused::new(Status::NotFound, "that channel is not here"));
        }
        Ok(())
    }

    /// When the creator's certificate ends, in seconds since 1970. Whoever is unknown fails the
    /// policy.
    pub fn expires_at(&self, config: &ChannelConfig) -> Option<i64> {
        let identity = config.msps().deserialize(&self.creator).ok()?;
        Some(identity.expires_at())
    }

    /// What the creator signed, as policies take it.
    pub fn signed(&self) -> SignedDatum<'_> {
        SignedDatum {
            message: self.envelope.payload.as_ref().into(),
            identity: self.creator.as_ref().into(),
            signature: self.envelope.signature.as_ref().into(),
        }
    }

    /// The creator signed it and satisfies the policy.
    pub fn check_policy(&self, policy: &Policy) -> Result<(), Refused> {
        policy
            .evaluate(&[self.signed()])
            .map_err(|error| Refused::new(Status::Forbidden, error.to_string()))
    }
}

/// What bears this timestamp was made just now, as far as clocks agree.
pub(super) fn check_time(
    at: Option<&Timestamp>,
    now: SystemTime,
    window: Duration,
) -> Result<(), Refused> {
    let at = at.ok_or_else(|| Refused::bad("there is no timestamp"))?;
    if at.seconds.abs_diff(seconds(now)) > window.as_secs() {
        return Err(Refused::bad(format!(
            "the timestamp is more than {} minutes from our time",
            window.as_secs() / 60
        )));
    }
    Ok(())
}

/// A certificate that ends then has not ended. None is no certificate of anybody.
pub fn check_expiry(expires_at: Option<i64>, now: SystemTime) -> Result<(), Refused> {
    match expires_at {
        Some(at) if at < seconds(now) => Err(Refused::new(
            Status::Forbidden,
            "the certificate of the client has expired",
        )),
        _ => Ok(()),
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_certificate_is_good_until_its_last_second() {
        let refused = |expires_at, now| {
            let checked = check_expiry(expires_at, at(now));
            checked.map_err(|refused| refused.status)
        };
        assert_eq!(refused(Some(100), 100), Ok(()));
        assert_eq!(refused(Some(100), 101), Err(Status::Forbidden));
        // Who has none satisfies no policy.
        assert_eq!(refused(None, 101), Ok(()));
    }

    #[test]
    fn a_timestamp_is_good_within_the_window() {
        let window = Duration::from_secs(900);
        let refused = |seconds| {
            let timestamp = Timestamp { seconds, nanos: 0 };
            check_time(Some(&timestamp), at(10_000), window).is_err()
        };
        let found = [9_099, 9_100, 10_900, 10_901, i64::MIN, i64::MAX].map(refused);
        assert_eq!(found, [true, false, false, true, true, true]);
        assert!(check_time(None, at(10_000), window).is_err());
    }
}
