//! What is remembered so that it need not be checked or shown again, and how much of it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    sync::Arc,
};

use tidings_gossip::{
    PeerIdentity, VerifiedBlock,
    id::{ChannelId, OrgId, PkiId},
};

/// Identities that may verify something. When there is no room, the oldest of the organization
/// that has most gives way: whoever makes certificates without end crowds out only its own.
#[derive(Debug)]
pub(super) struct Known {
    identities: HashMap<PkiId, (u64, Arc<PeerIdentity>)>,
    /// By age, for each organization.
    ages: BTreeMap<OrgId, BTreeMap<u64, PkiId>>,
    next_age: u64,
    len_max: usize,
}

impl Known {
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            identities: HashMap::new(),
            ages: BTreeMap::new(),
            next_age: 0,
            len_max,
        }
    }

    pub(super) fn find(&self, peer: &PkiId) -> Option<&Arc<PeerIdentity>> {
        self.identities.get(peer).map(|(_, identity)| identity)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<PeerIdentity>> {
        self.identities.values().map(|(_, identity)| identity)
    }

    /// Takes an identity in. The first one under a PKI-ID stays, and is given back.
    pub(super) fn insert(&mut self, identity: Arc<PeerIdentity>) -> Arc<PeerIdentity> {
        if let Some(known) = self.find(&identity.pki_id) {
            return Arc::clone(known);
        }
        if self.identities.len() >= self.len_max {
            self.evict();
        }
        let age = self.next_age;
        self.next_age += 1;
        self.ages
            .entry(identity.org.clone())
            .or_default()
            .insert(age, identity.pki_id);
        self.identities
            .insert(identity.pki_id, (age, Arc::clone(&identity)));
        identity
    }

    pub(super) fn remove(&mut self, peer: &PkiId) {
        let Some((age, identity)) = self.identities.remove(peer) else {
            return;
        };
        if let Some(of_org) = self.ages.get_mut(&identity.org) {
            of_org.remove(&age);
            if of_org.is_empty() {
                self.ages.remove(&identity.org);
            }
        }
    }

    fn evict(&mut self) {
        let largest = self.ages.values().max_by_key(|of_org| of_org.len());
        let oldest = largest.and_then(|of_org| of_org.first_key_value());
        if let Some(peer) = oldest.map(|(_, peer)| *peer) {
            self.remove(&peer);
        }
    }
}

/// The last so many answers; the oldest goes when a new one comes.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    answers: HashMap<K, V>,
    order: VecDeque<K>,
    len_max: usize,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(len_max: usize) -> Self {
        Self {
            answers: HashMap::new(),
            order: VecDeque::new(),
            len_max,
        }
    }

    pub(crate) fn find(&self, key: &K) -> Option<&V> {
        self.answers.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.answers.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.len_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.answers.clear();
        self.order.clear();
    }
}

/// Blocks that were verified lately, whole, one of each number: what comes again is compared with
/// them. The oldest go when there is no room.
#[derive(Debug)]
pub(super) struct RecentBlocks {
    blocks: HashMap<(ChannelId, u64), VerifiedBlock>,
    order: VecDeque<(ChannelId, u64)>,
    bytes: usize,
    len_max: usize,
    bytes_max: usize,
}

impl RecentBlocks {
    pub(super) fn new(len_max: usize, bytes_max: usize) -> Self {
        Self {
            blocks: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            len_max,
            bytes_max,
        }
    }

    pub(super) fn find(&self, channel: &ChannelId, number: u64) -> Option<&VerifiedBlock> {
        self.blocks.get(&(channel.clone(), number))
    }

    /// Keeps a block in place of the one of its number, unless it is larger than all that may be
    /// kept.
    pub(super) fn insert(&mut self, channel: &ChannelId, block: VerifiedBlock) {
        let (key, len) = ((channel.clone(), block.number), block.bytes.len());
        if let Some(before) = self.blocks.remove(&key) {
            self.bytes -= before.bytes.len();
            self.order.retain(|other| *other != key);
        }
        if len > self.bytes_max {
            return;
        }
        while self.order.len() >= self.len_max || self.bytes + len > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(gone) = self.blocks.remove(&oldest) {
                self.bytes -= gone.bytes.len();
            }
        }
        self.bytes += len;
        self.order.push_back(key.clone());
        self.blocks.insert(key, block);
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.order.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn identity(org: &str, number: u8) -> Arc<PeerIdentity> {
        Arc::new(PeerIdentity {
            pki_id: PkiId::new([number; 32]),
            org: OrgId::from(org),
            serialized: Bytes::from(vec![number]),
            expires_at: 0,
        })
    }

    #[test]
    fn an_organization_that_fills_the_memory_crowds_out_only_itself() {
        let mut known = Known::new(4);
        for (org, number) in [("honest", 1), ("flood", 2), ("flood", 3), ("flood", 4)] {
            known.insert(identity(org, number));
        }
        for number in 5..100 {
            known.insert(identity("flood", number));
        }
        known.insert(identity("late", 100));
        let mut left: Vec<u8> = known.all().map(|identity| identity.serialized[0]).collect();
        left.sort_unstable();
        assert_eq!(left, [1, 98, 99, 100]);
    }

    #[test]
    fn the_first_identity_under_a_name_stays_until_it_is_removed() {
        let mut known = Known::new(4);
        let first = identity("org", 1);
        let second = Arc::new(PeerIdentity {
            expires_at: 7,
            ..(*first).clone()
        });
        assert_eq!(known.insert(Arc::clone(&first)), first);
        assert_eq!(known.insert(Arc::clone(&second)), first);
        known.remove(&first.pki_id);
        assert!(known.find(&first.pki_id).is_none() && known.ages.is_empty());
        assert_eq!(known.insert(Arc::clone(&second)), second);
    }

    #[test]
    fn recent_answers_are_bounded_and_the_oldest_goes() {
        let mut recent = Recent::new(2);
        for key in [1, 2, 2, 3] {
            recent.insert(key, key * 10);
        }
        assert_eq!(recent.find(&1), None);
        assert_eq!((recent.find(&2), recent.find(&3)), (Some(&20), Some(&30)));
        assert_eq!(recent.order.len(), 2);
        recent.clear();
        assert_eq!(recent.find(&3), None);
    }

    #[test]
    fn recent_blocks_are_bounded_in_number_and_bytes_and_the_oldest_go() {
        let channel = ChannelId::from("ch");
        let block = |number, len| VerifiedBlock {
            number,
            hash: [0; 32],
            previous_hash: Bytes::new(),
            is_config: false,
            config_sequence: 0,
            bytes: vec![7; len].into(),
        };
        let mut recent = RecentBlocks::new(3, 100);
        for number in 1..=4 {
            recent.insert(&channel, block(number, 10));
        }
        let numbers = |recent: &RecentBlocks| {
            let held = (1..=9).filter(|number| recent.find(&channel, *number).is_some());
            (held.collect::<Vec<u64>>(), recent.bytes)
        };
        assert_eq!(numbers(&recent), (vec![2, 3, 4], 30));
        recent.insert(&channel, block(3, 20));
        assert_eq!(numbers(&recent), (vec![2, 3, 4], 40), "in its place");
        recent.insert(&channel, block(5, 80));
        assert_eq!(numbers(&recent), (vec![3, 5], 100));
        recent.insert(&channel, block(6, 101));
        assert_eq!(numbers(&recent), (vec![3, 5], 100), "larger than all");
        assert!(recent.find(&ChannelId::from("other"), 3).is_none());
        recent.clear();
        assert_eq!(numbers(&recent), (vec![], 0));
        assert!(recent.order.is_empty());
    }
}
