//! The form of what peers say about private data.
//!
//! Nothing here is signed and nothing can be believed: what a write set is worth is known when a
//! block has its hash, and who may have it when its collection is known. Both take state.
//!
//! Rules: docs/protocol/private.md.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};
use tidings_proto::{
    gossip::{
        PrivateDataMessage, PrivatePayload as WirePayload, PvtDataDigest, PvtDataElement,
        RemotePvtDataRequest, RemotePvtDataResponse, gossip_message::Tag,
    },
    protos::{CollectionConfigPackage, collection_config},
    tag::Kind,
};

use super::{Refused, copied};
use crate::message::{PrivateDigest, PrivateElement, PrivatePayload, PushedWrites};

/// Length of one private write set. Fabric has no limit but that of a message, 100 MiB; this
/// leaves room for what is around it, and for two in the memory for pushes.
pub const WRITE_SET_LEN_MAX: usize = 64 * 1024 * 1024;

/// Length of a transaction id. Those of Fabric have 64 characters.
pub const TX_ID_LEN_MAX: usize = 128;

/// Length of the name of a chaincode or of a collection. Real ones are short; they are part of
/// every digest.
pub const NAME_LEN_MAX: usize = 256;

/// Length of the definition of one collection: a few organizations and numbers.
pub const COLLECTION_CONFIG_LEN_MAX: usize = 64 * 1024;

/// Digests looked at in a request. A block of 500 transactions has fewer; the rest is asked for
/// again.
pub const REQUEST_DIGESTS_MAX: usize = 4096;

/// Elements in a response. Nobody can be answering more than is ever asked.
pub const RESPONSE_ELEMENTS_MAX: usize = REQUEST_DIGESTS_MAX;

/// Payloads looked at for one digest. There is one for each endorser that pushed one, and they
/// differ only if the endorsers did not agree.
pub const PAYLOADS_MAX: usize = 16;

const MISSING: &str = "PD-S1";
const TOO_LONG: &str = "PD-S2";
const FOREIGN_CONFIG: &str = "PD-S3";
const TOO_MANY: &str = "PD-S9";

/// Private data is for members of the channel and nobody else.
pub(super) fn check_tag(kind: Kind, tag: i32) -> Result<(), Refused> {
    if tag == Tag::ChanOnly as i32 {
        return Ok(());
    }
    let reason = format_args!("{kind} with tag {tag} instead of CHAN_ONLY");
    Err(Refused::new("W-S4", reason))
}

/// A pushed write set, in memory of its own.
pub(super) fn pushed(message: PrivateDataMessage) -> Result<PushedWrites, Refused> {
    let WirePayload {
        collection_name: collection,
        namespace,
        tx_id,
        private_rwset,
        private_sim_height,
        collection_configs,
    } = message
        .payload
        .ok_or_else(|| Refused::new(MISSING, "a push without payload"))?;
    if tx_id.is_empty() || namespace.is_empty() || collection.is_empty() {
        return Err(Refused::new(MISSING, "a push that does not say of what"));
    }
    if private_rwset.is_empty() {
        return Err(Refused::new(MISSING, "a push without write set"));
    }
    check_names(&tx_id, &namespace, &collection)?;
    if private_rwset.len() > WRITE_SET_LEN_MAX {
        let len = private_rwset.len();
        let reason = format_args!("a write set of {len} bytes, of at most {WRITE_SET_LEN_MAX}");
        return Err(Refused::new(TOO_LONG, reason));
    }
    let configs = collection_configs
        .ok_or_else(|| Refused::new(MISSING, "a push without collection configuration"))?;
    Ok(PushedWrites {
        configs: only_config(configs, &collection)?,
        tx_id,
        namespace,
        collection,
        rwset: copied(&private_rwset),
        sim_height: private_sim_height,
    })
}

/// A definition of another collection, or more of them than one, would later stand for this one.
fn only_config(
    configs: CollectionConfigPackage,
    collection: &str,
) -> Result<CollectionConfigPackage, Refused> {
    if configs.encoded_len() > COLLECTION_CONFIG_LEN_MAX {
        let reason = "a collection configuration that is too long";
        return Err(Refused::new(TOO_LONG, reason));
    }
    let [config] = configs.config.as_slice() else {
        let number = configs.config.len();
        let reason = format_args!("{number} collection configurations instead of one");
        return Err(Refused::new(FOREIGN_CONFIG, reason));
    };
    let Some(collection_config::Payload::StaticCollectionConfig(config)) = &config.payload else {
        let reason = "a collection configuration of an unknown kind";
        return Err(Refused::new(FOREIGN_CONFIG, reason));
    };
    if config.name != collection {
        let reason = "the configuration of another collection";
        return Err(Refused::new(FOREIGN_CONFIG, reason));
    }
    // Principals share the memory of the frame.
    let own_memory = Bytes::from(configs.encode_to_vec());
    CollectionConfigPackage::decode(own_memory).map_err(|error| Refused::new(FOREIGN_CONFIG, error))
}

/// What is asked for. A digest that can name nothing is left out, as one that names nothing.
pub(super) fn digests(request: RemotePvtDataRequest) -> Vec<PrivateDigest> {
    let digests = request.digests.into_iter().take(REQUEST_DIGESTS_MAX);
    digests.filter_map(|digest| names(digest).ok()).collect()
}

/// What came of a request. Elements that name nothing are left out.
pub(super) fn elements(response: RemotePvtDataResponse) -> Result<Vec<PrivateElement>, Refused> {
    if response.elements.len() > RESPONSE_ELEMENTS_MAX {
        let number = response.elements.len();
        let reason = format_args!("{number} elements, of at most {RESPONSE_ELEMENTS_MAX}");
        return Err(Refused::new(TOO_MANY, reason));
    }
    let elements = response.elements.into_iter();
    Ok(elements.filter_map(|e| element(e).ok()).collect())
}

fn element(element: PvtDataElement) -> Result<PrivateElement, Refused> {
    let digest = element
        .digest
        .ok_or_else(|| Refused::new(MISSING, "an element without digest"))?;
    // One of which all keys were purged is empty; beside another it says nothing.
    let is_one = element.payload.len() == 1;
    let payloads = element.payload.iter();
    let payloads = payloads.filter(|payload| is_one || !payload.is_empty());
    let payloads = payloads.filter(|payload| payload.len() <= WRITE_SET_LEN_MAX);
    Ok(PrivateElement {
        digest: names(digest)?,
        payloads: payloads.take(PAYLOADS_MAX).map(hashed).collect(),
    })
}

fn hashed(payload: &Bytes) -> PrivatePayload {
    PrivatePayload {
        hash: Sha256::digest(payload).into(),
        bytes: copied(payload),
    }
}

fn names(digest: PvtDataDigest) -> Result<PrivateDigest, Refused> {
    if digest.namespace.is_empty() || digest.collection.is_empty() {
        return Err(Refused::new(MISSING, "a digest that does not say of what"));
    }
    check_names(&digest.tx_id, &digest.namespace, &digest.collection)?;
    Ok(digest.into())
}

/// A zero byte separates the parts of keys in Fabric's stores.
fn check_names(tx_id: &str, namespace: &str, collection: &str) -> Result<(), Refused> {
    for (what, text, len_max) in [
        ("a transaction id", tx_id, TX_ID_LEN_MAX),
        ("a chaincode name", namespace, NAME_LEN_MAX),
        ("a collection name", collection, NAME_LEN_MAX),
    ] {
        if text.len() > len_max {
            let reason = format_args!("{what} of {} bytes, of at most {len_max}", text.len());
            return Err(Refused::new(TOO_LONG, reason));
        }
        if text.contains('\0') {
            let reason = format_args!("{what} with a zero byte");
            return Err(Refused::new(TOO_LONG, reason));
        }
    }
    Ok(())
}
