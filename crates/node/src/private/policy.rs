//! Who may have the data of which collection, for the core.
//!
//! Answers are remembered for as long as configuration and definition stay the same: the core asks
//! the same of each peer for every write set, and a certificate takes long to look at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use prost::Message as _;
use tidings_gossip::{
    id::{ChannelId, OrgId},
    message::StateInfo,
    ports::{CollectionName, Terms},
};
use tidings_msp::{
    channel_config::ChannelConfig,
    collection::{Collection, implicit_org},
    crypto::sha256_parts,
};
use tidings_proto::protos::{
    CollectionConfigPackage, StaticCollectionConfig, collection_config::Payload,
};

use super::registry::Registry;
use crate::crypto::{Crypto, Recent};

/// Answers remembered: some dozens of collections for a hundred peers.
const ANSWERS_MAX: usize = 16_384;

/// The definitions of every channel that was joined. Copies share everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registries(Arc<RwLock<BTreeMap<ChannelId, Arc<Registry>>>>);

impl Registries {
    pub(crate) fn add(&self, channel: ChannelId, registry: Arc<Registry>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(channel, registry);
    }

    pub(crate) fn remove(&self, channel: &ChannelId) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(channel);
    }

    pub(crate) fn of(&self, channel: &ChannelId) -> Option<Arc<Registry>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(channel).cloned()
    }
}

/// What the core asks of collections.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    crypto: Arc<Crypto>,
    registries: Registries,
    answers: Arc<Mutex<Recent<[u8; 32], bool>>>,
}

impl Judge {
    pub(crate) fn new(crypto: Arc<Crypto>, registries: Registries) -> Self {
        Self {
            crypto,
            registries,
            answers: Arc::new(Mutex::new(Recent::new(ANSWERS_MAX))),
        }
    }

    /// See [`tidings_gossip::Ports::member_orgs`]. What comes with a push decides no more than
    /// whether it is kept: its definition may be newer than what we have committed. So it counts
    /// beside the one that was committed, unless the name says whose collection it is.
    pub(crate) fn member_orgs(
        &self,
        channel: &ChannelId,
        name: CollectionName<'_>,
        configs: &CollectionConfigPackage,
    ) -> Result<BTreeSet<OrgId>, String> {
        let CollectionName {
            namespace,
            collection,
        } = name;
        if let Some(msp_id) = implicit_org(collection) {
            return Ok([OrgId::from(msp_id)].into());
        }
        let config = self.crypto.config(channel).ok_or("we left the channel")?;
        let pushed = given(collection, configs)?;
        let mut members = pushed.member_orgs(&config);
        let registry = self.registries.of(channel);
        let latest = registry.and_then(|registry| registry.latest(namespace, collection).ok());
        if let Some(latest) = latest {
            members.extend(latest.collection.member_orgs(&config));
        }
        let members = members.iter().map(|msp_id| OrgId::from(msp_id.as_str()));
        Ok(members.collect())
    }

    /// See [`tidings_gossip::Ports::is_entitled`].
    pub(crate) fn is_entitled(
        &self,
        channel: &ChannelId,
        name: CollectionName<'_>,
        terms: Terms<'_>,
        info: &StateInfo,
    ) -> bool {
        let Some(config) = self.crypto.config(channel) else {
            return false;
        };
        let Some((collection, definition)) = self.collection(channel, name, terms) else {
            return false;
        };
        let question = sha256_parts(&[
            channel.as_bytes(),
            &config.sequence().to_be_bytes(),
            info.identity.pki_id.as_bytes(),
            &definition,
        ]);
        let lock = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = lock().find(&question) {
            return *answer;
        }
        let answer = accepts(&collection, &info.identity.serialized, &config);
        lock().insert(question, answer);
        answer
    }

    /// The collection, and what tells its definition from others.
    fn collection(
        &self,
        channel: &ChannelId,
        CollectionName {
            namespace,
            collection,
        }: CollectionName<'_>,
        terms: Terms<'_>,
    ) -> Option<(Arc<Collection>, Vec<u8>)> {
        let found = match terms {
            Terms::Latest => {
                let registry = self.registries.of(channel)?;
                registry.latest(namespace, collection).ok()?.collection
            }
            Terms::Given(_) if implicit_org(collection).is_some() => {
                Arc::new(Collection::implicit(implicit_org(collection)?))
            }
            Terms::Given(configs) => Arc::new(given(collection, configs).ok()?),
        };
        let definition = found.config().encode_to_vec();
        Some((found, definition))
    }
}

fn accepts(collection: &Collection, identity: &[u8], config: &ChannelConfig) -> bool {
    collection.accepts_identity(identity, config).is_ok()
}

/// The collection in a package of just that one.
fn given(name: &str, configs: &CollectionConfigPackage) -> Result<Collection, String> {
    let [config] = configs.config.as_slice() else {
        return Err("not the definition of one collection".to_owned());
    };
    match &config.payload {
        Some(Payload::StaticCollectionConfig(config)) if config.name == name => {
            Collection::new(StaticCollectionConfig::clone(config)).map_err(|e| e.to_string())
        }
        _ => Err(format!("not the definition of {name}")),
    }
}
