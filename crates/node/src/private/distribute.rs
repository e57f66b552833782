//! Handing private write sets to other members before their transaction is ordered, for whoever
//! endorses.

use bytes::Bytes;
use tidings_gossip::{
    id::{ChannelId, Ticket},
    message::PushedWrites,
    privdata::distribute::{Distribution, PrivateSet},
};
use tidings_msp::collection::{Collection, implicit_org};

use super::vault::Vault;

/// What a transaction writes to one collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handout {
    /// The chaincode.
    pub namespace: String,
    /// The collection.
    pub collection: String,
    /// The serialized `KVRWSet`, which the block will have the hash of.
    pub rwset: Bytes,
}

/// Why private data was not handed out as its collections demand.
#[derive(Debug, thiserror::Error)]
pub enum DistributeRefused {
    /// The node is not in the channel.
    #[error("channel '{0}' has not been joined")]
    NotJoined(ChannelId),
    /// Nobody knows who may have it.
    #[error("collection {collection} of {namespace} cannot be used: {reason}")]
    Collection {
        /// The chaincode.
        namespace: String,
        /// The collection.
        collection: String,
        /// Why.
        reason: String,
    },
    /// Too few peers confirmed, or there are too few.
    #[error("{0}")]
    TooFew(String),
    /// Our own copy is not on disk.
    #[error("our own copy is not stored: {0}")]
    Own(String),
    /// The node is going down.
    #[error("the node is stopping")]
    Stopping,
}

impl Vault {
    /// What the core needs to hand these out, by the last definitions of their collections. Those
    /// that nobody is proven to have agreed to are not gone by.
    pub(crate) fn distribution(
        &self,
        tx_id: &str,
        handouts: &[Handout],
    ) -> Result<Distribution, DistributeRefused> {
        let sets: Result<Vec<PrivateSet>, _> = handouts.iter().map(|out| self.set(out)).collect();
        Ok(Distribution {
            // Given by whoever feeds the core.
            ticket: Ticket(0),
            channel: self.channel.clone(),
            tx_id: tx_id.to_owned(),
            sim_height: self.height(),
            sets: sets?,
        })
    }

    /// Keeps our own copies of what was handed out, which we need when the block comes. Waits for
    /// the disk.
    pub(crate) fn keep_own(&self, copies: Vec<PushedWrites>) -> Result<(), String> {
        let copies = copies
            .into_iter()
            .map(|pushed| self.copy_of(pushed, &self.me));
        let stored = self.with(|stores| Ok(stores.transient.put_many(copies.collect())))?;
        let refused = stored.into_iter().find_map(Result::err);
        refused.map_or(Ok(()), |refused| Err(refused.to_string()))
    }

    fn set(&self, handout: &Handout) -> Result<PrivateSet, DistributeRefused> {
        let Handout {
            namespace,
            collection,
            rwset,
        } = handout;
        let refused = |reason: String| DistributeRefused::Collection {
            namespace: namespace.clone(),
            collection: collection.clone(),
            reason,
        };
        let defined = self.registry.latest(namespace, collection);
        let defined = defined.map_err(|undefined| refused(undefined.to_string()))?;
        if !defined.basis.is_proven() {
            let reason = "it is not proven that the organizations agreed to its definition";
            return Err(refused(reason.to_owned()));
        }
        let definition = self.with_counts(&defined.collection);
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(PrivateSet {
            namespace: namespace.clone(),
            collection: collection.clone(),
            rwset: rwset.clone(),
            required: count(definition.required_peer_count()),
            maximum: count(definition.maximum_peer_count()),
            configs: definition.package(),
        })
    }

    /// How many peers have our own implicit data is ours to say
    /// (`implicitCollectionDisseminationPolicy`).
    fn with_counts(&self, collection: &Collection) -> Collection {
        let collection = collection.clone();
        if implicit_org(collection.name()) != Some(self.me.org.as_str()) {
            return collection;
        }
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        collection.with_peer_counts(
            count(self.settings.implicit_required_peer_count),
            count(self.settings.implicit_max_peer_count),
        )
    }
}

/// Our own copies of what was handed out, which we need when the block comes.
pub(crate) fn own_copies(distribution: &Distribution) -> Vec<PushedWrites> {
    let copies = distribution.sets.iter().map(|set| PushedWrites {
        tx_id: distribution.tx_id.clone(),
        namespace: set.namespace.clone(),
        collection: set.collection.clone(),
        rwset: set.rwset.clone(),
        sim_height: distribution.sim_height,
        configs: set.configs.clone(),
    });
    copies.collect()
}
