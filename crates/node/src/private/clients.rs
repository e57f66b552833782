//! Private data for client applications that ask for blocks with it.
//!
//! Promises Fabric's rule: the definition that holds for the block decides; where it says that
//! only members read, the client's signature must satisfy its policy, else every reader of the
//! channel has the data. A definition that is not proven gives nobody anything.

use std::collections::BTreeMap;

use tidings_ledger::private::{Place, StoredSet};
use tidings_msp::{channel_config::ChannelConfig, policy::SignedDatum};
use tidings_proto::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};

use super::vault::Vault;

/// What this client may have of a block's private data, by transaction.
pub(crate) fn for_client(
    vault: &Vault,
    config: &ChannelConfig,
    client: &SignedDatum<'_>,
    block: u64,
) -> Result<BTreeMap<u64, TxPvtReadWriteSet>, String> {
    vault.with(|stores| {
        let mut given: BTreeMap<u64, TxPvtReadWriteSet> = BTreeMap::new();
        let mut answers = BTreeMap::new();
        let sets = stores.committed.sets(block, vault.last_block());
        for set in sets.map_err(|error| error.to_string())? {
            let StoredSet { place, rwset, .. } = set.map_err(|error| error.to_string())?;
            let Place {
                tx,
                namespace,
                collection,
                ..
            } = place;
            let may = answers
                .entry((namespace.clone(), collection.clone()))
                .or_insert_with(|| {
                    may_read(vault, config, client, (block, &namespace, &collection))
                });
            if !*may {
                continue;
            }
            let sets = &mut given.entry(tx).or_default().ns_pvt_rwset;
            let set = CollectionPvtReadWriteSet {
                collection_name: collection,
                rwset,
            };
            match sets.last_mut() {
                Some(last) if last.namespace == namespace => last.collection_pvt_rwset.push(set),
                _ => sets.push(NsPvtReadWriteSet {
                    namespace,
                    collection_pvt_rwset: vec![set],
                }),
            }
        }
        Ok(given)
    })
}

fn may_read(
    vault: &Vault,
    config: &ChannelConfig,
    client: &SignedDatum<'_>,
    (block, namespace, collection): (u64, &str, &str),
) -> bool {
    let Ok(defined) = vault.registry.at(block, namespace, collection) else {
        return false;
    };
    let collection = &defined.collection;
    defined.basis.is_proven()
        && (!collection.member_only_read() || collection.accepts(client, config).is_ok())
}
