//! Gives private data to whom it may be given.
//!
//! Promises: nothing goes out but to somebody whose handshake satisfies the policy of a definition
//! that the organizations are proven to have agreed to (or whose name says whose it is): the last
//! one, or the one that the data belongs to. A definition that came with a push counts for nothing
//! here. What may not be given looks like what is not there, and is counted.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use tidings_gossip::{
    Connection,
    id::{ChannelId, Ticket},
    message::PrivateDigest,
    verify::PAYLOADS_MAX,
};
use tidings_ledger::{
    private::{Place, StoredSet},
    transient::WriteSetName,
};
use tidings_msp::{
    channel_config::ChannelConfig,
    collection::{Defined, Undefined},
};
use tidings_proto::gossip::{
    Envelope, GossipMessage, PvtDataElement, RemotePvtDataResponse,
    gossip_message::{Content, Tag},
};

use super::{
    copy, evidence,
    vault::{Stores, Vault},
};
use crate::{logging::Seldom, metrics::Way};

/// Bytes of write sets in one response, unless a single one is larger. Whoever asks asks again for
/// what it did not get. Nothing is read that is not given, so this bounds what a request costs.
const RESPONSE_BYTES_MAX: usize = 32 << 20;

static UNREADABLE: Seldom = Seldom::new();

/// What is asked for.
pub(crate) struct PrivateAsk {
    pub(crate) ticket: Ticket,
    pub(crate) from: Arc<Connection>,
    pub(crate) nonce: u64,
    pub(crate) digests: Vec<PrivateDigest>,
}

/// The response to a request; with nothing in it if there is nothing to give.
pub(crate) fn response(vault: &Vault, ask: PrivateAsk) -> Envelope {
    let begun = Instant::now();
    let elements = vault.with(|stores| {
        let mut door = Door::new(vault, stores, &ask.from);
        Ok(elements(&mut door, ask.digests))
    });
    let elements = elements.unwrap_or_default();
    let label = [vault.channel.as_str()];
    let histogram = vault
        .metrics
        .privdata_retrieve_duration
        .with_label_values(&label);
    histogram.observe(begun.elapsed().as_secs_f64());
    let given = elements.len();
    vault
        .metrics
        .private_went(&vault.channel, Way::Asked, given);
    Envelope::unsigned(&GossipMessage {
        nonce: ask.nonce,
        channel: Bytes::copy_from_slice(vault.channel.as_bytes()),
        tag: Tag::ChanOnly.into(),
        content: Some(Content::PrivateRes(RemotePvtDataResponse { elements })),
    })
}

/// The private data that goes along with a block to this peer, of at most so many bytes. Nobody
/// asked for it, so that only the last definition counts, as in Fabric.
pub(crate) fn to_go_along(
    vault: &Vault,
    to: &Connection,
    block: u64,
    bytes_max: usize,
) -> Vec<Bytes> {
    let sets = vault.with(|stores| {
        let mut door = Door::new(vault, stores, to);
        let sets = stores.committed.sets(block, vault.last_block());
        let mut given = Vec::new();
        let mut bytes = 0;
        for set in sets.map_err(|error| error.to_string())? {
            let set = set.map_err(|error| error.to_string())?;
            let Place {
                namespace,
                collection,
                ..
            } = &set.place;
            if !door.may_have(None, namespace, collection) {
                continue;
            }
            bytes += set.rwset.len();
            if bytes > bytes_max {
                break;
            }
            given.push(set);
        }
        let metrics = &vault.metrics;
        metrics.private_went(&vault.channel, Way::WithBlock, given.len());
        Ok(given)
    });
    sets.map(copy::to_go_along).unwrap_or_else(|reason| {
        tell_unreadable(&vault.channel, &reason);
        Vec::new()
    })
}

/// What of these may be given, in their order, until it is enough for one response.
pub(super) fn elements(door: &mut Door<'_>, digests: Vec<PrivateDigest>) -> Vec<PvtDataElement> {
    let (mut elements, mut bytes) = (Vec::new(), 0);
    for digest in digests {
        let payload = match door.payload(&digest) {
            Ok(payload) => payload,
            Err(reason) => {
                tell_unreadable(&door.vault.channel, &reason);
                continue;
            }
        };
        if payload.is_empty() {
            continue;
        }
        bytes += payload.iter().map(Bytes::len).sum::<usize>();
        if bytes > door.bytes_max && !elements.is_empty() {
            break;
        }
        elements.push(PvtDataElement {
            digest: Some(digest.into()),
            payload,
        });
    }
    elements
}

/// Where one peer is served.
pub(super) struct Door<'a> {
    vault: &'a Vault,
    stores: &'a Stores,
    to: &'a Connection,
    config: Option<Arc<ChannelConfig>>,
    /// What was found out about definitions of collections, by their blocks. It takes a signature
    /// each.
    answers: BTreeMap<(String, String, Option<u64>), bool>,
    height: u64,
    /// [`RESPONSE_BYTES_MAX`].
    pub(super) bytes_max: usize,
}

impl<'a> Door<'a> {
    pub(super) fn new(vault: &'a Vault, stores: &'a Stores, to: &'a Connection) -> Self {
        Self {
            vault,
            stores,
            to,
            config: vault.crypto.config(&vault.channel),
            answers: BTreeMap::new(),
            height: vault.height(),
            bytes_max: RESPONSE_BYTES_MAX,
        }
    }

    /// What of a digest may be given: of a block that we have the write set, else what was pushed.
    fn payload(&mut self, digest: &PrivateDigest) -> Result<Vec<Bytes>, String> {
        let PrivateDigest {
            block,
            seq_in_block,
            namespace,
            collection,
            tx_id,
        } = digest;
        let is_committed = *block < self.height;
        if !is_committed && tx_id.is_empty() {
            return Ok(Vec::new());
        }
        if !self.may_have(is_committed.then_some(*block), namespace, collection) {
            self.refuse(namespace, collection);
            return Ok(Vec::new());
        }
        if is_committed {
            let place = Place {
                block: *block,
                tx: *seq_in_block,
                namespace: namespace.clone(),
                collection: collection.clone(),
            };
            let set = self.stores.committed.set(&place, self.height - 1);
            let set = set.map_err(|error| error.to_string())?;
            return Ok(set
                .map(|StoredSet { rwset, .. }| rwset)
                .into_iter()
                .collect());
        }
        let name = WriteSetName {
            tx_id,
            namespace,
            collection,
        };
        let (mut payload, mut bytes) = (Vec::new(), 0);
        let copies = self.stores.transient.of(name);
        for copy in copies.map_err(|error| error.to_string())? {
            let copy = copy.map_err(|error| error.to_string())?;
            bytes += copy.len();
            payload.push(copy);
            if payload.len() == PAYLOADS_MAX || bytes >= self.bytes_max {
                break;
            }
        }
        Ok(payload)
    }

    /// By the last definition, or by the one that data of this block belongs to.
    fn may_have(&mut self, block: Option<u64>, namespace: &str, collection: &str) -> bool {
        let registry = &self.vault.registry;
        let latest = registry.latest(namespace, collection);
        if self.is_accepted(namespace, collection, latest) {
            return true;
        }
        block.is_some_and(|block| {
            let at = self.vault.registry.at(block, namespace, collection);
            self.is_accepted(namespace, collection, at)
        })
    }

    fn is_accepted(
        &mut self,
        namespace: &str,
        collection: &str,
        defined: Result<Defined, Undefined>,
    ) -> bool {
        let (Ok(defined), Some(config)) = (defined, &self.config) else {
            return false;
        };
        if !defined.basis.is_proven() {
            return false;
        }
        let question = (namespace.to_owned(), collection.to_owned(), defined.block);
        *self.answers.entry(question).or_insert_with(|| {
            let accepted = defined.collection.accepts(&evidence(self.to), config);
            accepted.is_ok()
        })
    }

    fn refuse(&self, namespace: &str, collection: &str) {
        let metrics = &self.vault.metrics;
        let label = [self.vault.channel.as_str()];
        metrics.private_withheld.with_label_values(&label).inc();
        tracing::debug!(
            target: "gossip.privdata", channel = %self.vault.channel, peer = %self.to.peer(),
            org = %self.to.org(), namespace, collection, "not given: it may not have the data"
        );
    }
}

fn tell_unreadable(channel: &ChannelId, reason: &str) {
    if let Some(left_out) = UNREADABLE.line(Instant::now()) {
        tracing::error!(
            target: "gossip.privdata", %channel, left_out,
            "cannot read private data that a peer asks for: {reason}"
        );
    }
}
