//! The door through which transactions come.
//!
//! Promises: what is queued is a transaction of the channel, not too large, signed by somebody
//! who satisfies `/Channel/Writers`; a configuration update is one that the configuration in
//! force allows.

use std::time::SystemTime;

use bytes::Bytes;
use tidings_proto::Message;
use tidings_proto::common::{Envelope, HeaderType, Status};
use tokio::sync::mpsc;

use super::chain::Chain;
use tidings_node::clients::{Refused, Request, check_expiry};

const WRITERS: &str = "/Channel/Writers";

/// What may be ordered.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// A transaction for the next block.
    Transaction(Bytes),
    /// An update, which gets a block of its own.
    Update(Envelope),
}

/// Checks an envelope and queues it.
pub(super) async fn submit(
    chain: &Chain,
    queue: Option<&mpsc::Sender<Submitted>>,
    envelope: Bytes,
) -> Result<(), Refused> {
    let queue = queue.ok_or_else(|| {
        Refused::new(
            Status::ServiceUnavailable,
            "this orderer serves a recording",
        )
    })?;
    let submitted = check(chain, envelope, SystemTime::now())?;
    queue
        .send(submitted)
        .await
        .map_err(|_ended| Refused::new(Status::ServiceUnavailable, "ordering has ended"))
}

fn check(chain: &Chain, envelope: Bytes, now: SystemTime) -> Result<Submitted, Refused> {
    let config = chain.config();
    let decoded = Envelope::decode(envelope.clone())
        .map_err(|error| Refused::undecodable("envelope", &error))?;
    if decoded.payload.is_empty() || decoded.signature.is_empty() {
        return Err(Refused::bad("the envelope lacks payload or signature"));
    }
    let request = Request::parse(decoded.clone())?;
    request.check_channel(&config)?;
    let is_update = match HeaderType::try_from(request.header.r#type) {
        Ok(HeaderType::Message | HeaderType::EndorserTransaction) => false,
        Ok(HeaderType::ConfigUpdate) => true,
        _ => {
            return Err(Refused::bad(
                "transactions of that type are not submitted by clients",
            ));
        }
    };
    let len_max = usize::try_from(config.batch().absolute_bytes_max).unwrap_or(usize::MAX);
    if envelope.len() > len_max {
        let reason = format!(
            "{} bytes, at most {len_max} fit into a block",
            envelope.len()
        );
        return Err(Refused::new(Status::RequestEntityTooLarge, reason));
    }
    check_expiry(request.expires_at(&config), now)?;
    request.check_policy(&config.policies().policy(WRITERS))?;
    if !is_update {
        return Ok(Submitted::Transaction(envelope));
    }
    config
        .propose(decoded.clone())
        .map_err(|refused| Refused::bad(refused.to_string()))?;
    Ok(Submitted::Update(decoded))
}
