//! The parts of private data by themselves, without a core, threads and sockets: a ledger in
//! memory, stores in a folder, and whoever takes a step is the test.

mod disk;
mod listing;
mod purges;
mod recovery;
mod serving;
mod telling;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use tempfile::TempDir;
use tidings_gossip::{PeerIdentity, PvtDataConfig, Verifier, message::PushedWrites};
use tidings_ledger::private::Counts;
use tidings_msp::crypto::sha256;
use tidings_proto::{block::BlockView, rwset::NsReadWriteSet};
use tokio::sync::mpsc;

use super::{keeper::Run, *};
use crate::{
    commit::{Job, tests::crypto},
    crypto::Crypto,
    material::{CHANNEL, Material, block},
    serve::Blocks,
};
use tidings_gossip::Source;

#[path = "../../../msp/tests/collections/draft.rs"]
mod draft;

const CHAINCODE: &str = "cc";

/// A ledger in memory of which some blocks cannot be had.
#[derive(Default)]
struct Chain {
    blocks: Mutex<Vec<Bytes>>,
    /// Damaged.
    bad: Mutex<BTreeSet<u64>>,
    /// Not kept.
    absent: Mutex<BTreeSet<u64>>,
    /// What is absent below was pruned.
    first: Mutex<u64>,
}

impl Chain {
    fn all(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.blocks.lock().unwrap()
    }
}

impl Blocks for Chain {
    fn block(&self, number: u64) -> Result<Option<Bytes>, String> {
        if self.bad.lock().unwrap().contains(&number) {
            return Err(format!("block {number} is damaged"));
        }
        if self.absent.lock().unwrap().contains(&number) {
            return Ok(None);
        }
        let at = usize::try_from(number).unwrap();
        Ok(self.all().get(at).cloned())
    }

    fn first(&self) -> u64 {
        *self.first.lock().unwrap()
    }
}

/// A peer of the first organization and its channel.
struct Scene {
    material: Material,
    crypto: Arc<Crypto>,
    chain: Arc<Chain>,
    dir: TempDir,
    settings: PvtDataConfig,
}

impl Scene {
    /// With the first block.
    fn new() -> Self {
        let material = Material::new();
        let crypto = crypto(&material);
        let scene = Self {
            chain: Arc::default(),
            dir: tempfile::tempdir().unwrap(),
            settings: PvtDataConfig::default(),
            material,
            crypto,
        };
        let genesis = scene.material.genesis(scene.material.group());
        scene.chain.all().push(genesis);
        scene
    }

    fn height(&self) -> u64 {
        self.chain.all().len() as u64
    }

    /// The stores as they are on disk, after they have caught up with the ledger.
    fn try_open(&self) -> Result<Arc<Vault>, StartRefused> {
        let channel = ChannelId::from(CHANNEL);
        let surroundings = Surroundings {
            me: self.crypto.own_identity(),
            crypto: Arc::clone(&self.crypto),
            blocks: Arc::clone(&self.chain) as Arc<dyn Blocks>,
            height: self.height(),
            private: PrivateSettings {
                settings: self.settings.clone(),
                registries: Registries::default(),
                metrics: Metrics::default(),
            },
            channel: channel.clone(),
        };
        let config = self.crypto.config(&channel).unwrap();
        Vault::open(self.dir.path(), surroundings, &config).map(Arc::new)
    }

    fn open(&self) -> Arc<Vault> {
        self.try_open().unwrap()
    }

    /// A block with these transactions that follows the ledger and `ahead` blocks that are not in
    /// it.
    fn block(&self, ahead: u64, transactions: Vec<Bytes>) -> Bytes {
        let mut block = block(self.height() + ahead, &[8; 32], transactions);
        block.sign(&[&self.material.orderers[0]]);
        block.encode()
    }

    /// Puts a block into the ledger of which the stores hear when they are opened.
    fn append(&self, transactions: Vec<Bytes>) -> u64 {
        let block = self.block(0, transactions);
        self.chain.all().push(block);
        self.height() - 1
    }

    /// The definition of the chaincode with that number, with collections as `name=organization`.
    fn definition(&self, number: i64, collections: &[&str]) -> Bytes {
        let package = draft::of(collections);
        let writes = match number {
            1 => draft::first(CHAINCODE, &package),
            _ => draft::next(CHAINCODE, number, &package),
        };
        let endorsers = [&self.material.peer1, &self.material.peer2];
        let draft = draft::Draft::of(writes);
        draft.by(&self.material.admin1, &endorsers).envelope()
    }

    /// A transaction that writes this text to a collection, and others' namespaces beside.
    fn write(&self, collection: &str, text: &str) -> Bytes {
        let hash = sha256(text.as_bytes());
        let set = draft::private_of(CHAINCODE, collection, Bytes::copy_from_slice(&hash));
        self.transaction(text, vec![set])
    }

    fn transaction(&self, nonce: &str, namespaces: Vec<NsReadWriteSet>) -> Bytes {
        let mut draft = draft::Draft::of(Vec::new());
        draft.namespaces = namespaces;
        draft.nonce = nonce.into();
        let endorsers = [&self.material.peer1];
        draft.by(&self.material.admin1, &endorsers).envelope()
    }

    /// What an endorser pushes of it.
    fn pushed(&self, collection: &str, text: &str) -> PushedWrites {
        PushedWrites {
            tx_id: draft::tx_id(text.as_bytes(), &self.material.admin1.identity),
            namespace: CHAINCODE.to_owned(),
            collection: collection.to_owned(),
            rwset: Bytes::copy_from_slice(text.as_bytes()),
            sim_height: 1,
            configs: draft::of(&[]),
        }
    }

    fn member(&self) -> Arc<PeerIdentity> {
        self.crypto.validate(&self.material.peer2.identity).unwrap()
    }

    fn job(&self, block: &Bytes) -> Job {
        let number = BlockView::parse(block.clone()).unwrap().number().unwrap();
        let channel = ChannelId::from(CHANNEL);
        Job {
            block: self.crypto.verify_block(&channel, number, block).unwrap(),
            source: Source::Push,
            seen_at: None,
            private_data: Vec::new(),
        }
    }
}

/// Stores with nothing in them, for a channel of which nobody asks for private data.
pub(crate) fn some_vault() -> Arc<Vault> {
    Scene::new().open()
}

/// Keeps what was pushed.
fn keep(vault: &Vault, pushed: PushedWrites, from: &PeerIdentity) {
    let push = vault.copy_of(pushed, from);
    let stored = vault.with(|stores| Ok(stores.transient.put(push)));
    stored.unwrap().unwrap();
}

fn waiting(vault: &Vault) -> u64 {
    let usage = vault.with(|stores| Ok(stores.transient.usage().unwrap()));
    usage.unwrap().copies
}

fn counts(vault: &Vault) -> Counts {
    let backlog = vault.with(|stores| Ok(stores.committed.backlog(u64::MAX).unwrap()));
    backlog.unwrap().total()
}

fn held(vault: &Vault, block: u64) -> Vec<Bytes> {
    let sets = vault.with(|stores| {
        let sets = stores.committed.sets(block, vault.last_block()).unwrap();
        Ok(sets.map(|set| set.unwrap().rwset).collect())
    });
    sets.unwrap()
}
