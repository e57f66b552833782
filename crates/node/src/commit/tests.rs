//! The writer with a ledger in memory: what is committed, what is refused, and what is told.

use std::path::Path;

use prost::Message as _;
use tidings_gossip::PvtDataConfig;
use tidings_msp::{block::header_hash, identity::SigningIdentity, services::CryptoServices};
use tidings_proto::common::{Config, ConfigEnvelope, HeaderType};

use super::*;
use crate::{
    metrics::Metrics,
    private::{PrivateData, PrivateParts, PrivateSettings, Registries, Surroundings},
    serve::Blocks,
};
use material::{CHANNEL, Draft, Material, Member, tree};

#[path = "../../../msp/tests/material/mod.rs"]
pub(crate) mod material;

/// Hashes of what was committed, and the block below which it is to be given up.
struct InMemory(Vec<[u8; 32]>, Option<u64>);

impl Committer for InMemory {
    fn height(&self) -> u64 {
        self.0.len() as u64
    }

    fn last_hash(&self) -> Option<[u8; 32]> {
        self.0.last().copied()
    }

    fn commit(&mut self, blocks: &[VerifiedBlock]) -> Result<(), String> {
        self.0.extend(blocks.iter().map(|block| block.hash));
        Ok(())
    }

    fn prune(&mut self, _hold: &dyn Fn(&BlockView) -> bool) -> Result<Option<u64>, String> {
        Ok(self.1.take())
    }
}

fn hash(draft: &mut Draft) -> [u8; 32] {
    let header = draft.header();
    header_hash(header.number, &header.previous_hash, &header.data_hash)
}

fn ordinary(number: u64, previous: &[u8], material: &Material, signer: &Member) -> Draft {
    let kind = HeaderType::EndorserTransaction;
    let transaction = material::transaction(kind, CHANNEL, &material.peer1, vec![1]);
    let mut draft = material::block(number, previous, [transaction]);
    draft.sign(&[signer]);
    draft
}

/// The block that puts the second ordering organization out of the channel.
fn without_b(number: u64, previous: &[u8], material: &Material) -> Draft {
    let current = material.group();
    let mut next = current.clone();
    let orderer = tree::at(&mut next, &["Orderer"]);
    orderer.groups.remove("OrdererB-group");
    orderer.version += 1;
    let admin_b = material.orderer_b.member("admin.b", "admin");
    let update = material::update(&current, &next);
    let signers = [&material.orderer_admin, &admin_b];
    let envelope = ConfigEnvelope {
        config: Some(Config {
            sequence: 1,
            channel_group: Some(next),
        }),
        last_update: Some(material::signed_update(&update, &signers)),
    };
    let (kind, data) = (HeaderType::Config, envelope.encode_to_vec());
    let transaction = material::transaction(kind, CHANNEL, &material.orderers[0], data);
    let mut draft = material::block(number, previous, [transaction]);
    draft.sign(&[&material.orderers[0]]);
    draft
}

pub(crate) fn crypto(material: &Material) -> Arc<Crypto> {
    let msp = tidings_msp::msp::Msp::from_config(
        &material.org1.msp(),
        tidings_msp::msp::MspVersion::V3_0,
    );
    let msp = Arc::new(msp.unwrap());
    let member = &material.peer1;
    let key = tidings_msp::crypto::PrivateKey::from_pem(member.key_pem.as_bytes()).unwrap();
    let signer: SigningIdentity = msp
        .signing_identity(member.certificate_pem.as_bytes(), key, 0)
        .unwrap();
    let config = ChannelConfig::from_config_block(&material.genesis(material.group())).unwrap();
    let services = CryptoServices::new(msp, Arc::new(signer)).with_channel(Arc::new(config));
    Arc::new(Crypto::new(services))
}

/// The stores of the channel in a folder.
fn private(crypto: &Arc<Crypto>, dir: &Path, inputs: &mpsc::Sender<Input>) -> PrivateParts {
    /// Where nothing was committed.
    struct Nothing;
    impl Blocks for Nothing {
        fn block(&self, _: u64) -> Result<Option<Bytes>, String> {
            Ok(None)
        }
    }
    let channel = ChannelId::from(CHANNEL);
    let config = crypto.config(&channel).unwrap();
    let surroundings = Surroundings {
        channel,
        me: crypto.own_identity(),
        crypto: Arc::clone(crypto),
        blocks: Arc::new(Nothing),
        height: 1,
        private: PrivateSettings {
            settings: PvtDataConfig::default(),
            registries: Registries::default(),
            metrics: Metrics::default(),
        },
    };
    PrivateParts::open(dir, surroundings, &config, inputs).unwrap()
}

fn outlets(crypto: &Arc<Crypto>, dir: &Path) -> (Outlets, mpsc::Receiver<Input>) {
    let (inputs, heard) = mpsc::channel(2 * JOBS_MAX);
    let private = private(crypto, dir, &inputs);
    let outlets = Outlets {
        vault: Arc::clone(&private.vault),
        commits: private.keeper.commits(),
        inputs,
        committed: broadcast::channel(64).0,
        height: watch::channel(1).0,
        roots: watch::channel(()).0,
        failed: Failed::default(),
        crypto: Arc::clone(crypto),
        tls: None,
        vitals: Vitals::default(),
    };
    (outlets, heard)
}

fn job(block: VerifiedBlock) -> Job {
    Job {
        block,
        source: Source::Push,
        seen_at: None,
        private_data: Vec::new(),
    }
}

fn told(input: &Input) -> String {
    match input {
        Input::Committed { height, .. } => format!("height {height}"),
        Input::CommitRefused { number, .. } => format!("refused {number}"),
        Input::Join { join, .. } => format!("sequence {}", join.sequence),
        Input::Delivery { event, .. } => match event {
            Event::Agreement(agreement) => format!("{agreement:?}"),
            Event::Endpoints(_) => "orderers".to_owned(),
            Event::Tip { number, .. } => format!("tip {number}"),
            other => panic!("the writer does not tell {other:?}"),
        },
        Input::Revoked(peer) => format!("revoked {peer}"),
        other => panic!("the writer does not tell {other:?}"),
    }
}

#[test]
fn blocks_that_wait_behind_a_configuration_are_judged_by_it() {
    let material = Material::new();
    let crypto = crypto(&material);
    let channel = ChannelId::from(CHANNEL);
    let orderer_b = crypto.validate(&material.other_orderer.identity).unwrap();
    let orderer_b = crypto.remember(&orderer_b).unwrap();
    let genesis = [3; 32];
    let mut first = ordinary(1, &genesis, &material, &material.other_orderer);
    let mut config = without_b(2, &hash(&mut first), &material);
    let bad = ordinary(3, &hash(&mut config), &material, &material.other_orderer);
    let mut good = ordinary(3, &hash(&mut config), &material, &material.orderers[0]);
    let astray = ordinary(4, &[7; 32], &material, &material.orderers[0]);
    let last = ordinary(4, &hash(&mut good), &material, &material.orderers[0]);

    let dir = tempfile::tempdir().unwrap();
    let (outlets, mut heard) = outlets(&crypto, dir.path());
    let (heights, roots) = (outlets.height.subscribe(), outlets.roots.clone());
    let roots_seen = roots.subscribe();
    let committer = Box::new(InMemory(vec![genesis], None));
    let writer = Writer::start(channel.clone(), committer, outlets).unwrap();
    // All pass the gate while the second ordering organization still belongs.
    let jobs = [first, config, bad, good, astray, last].map(|draft| {
        let number = draft.0.header.as_ref().unwrap().number;
        let block = crypto
            .verify_block(&channel, number, &draft.encode())
            .unwrap();
        job(block)
    });
    for job in jobs {
        assert!(writer.submit(job));
    }
    writer.finish();
    let mut all = Vec::new();
    while let Ok(input) = heard.try_recv() {
        all.push(told(&input));
    }
    // How many are written together is up to the moment.
    let outcome: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|told| !["tip 1", "height 2", "tip 3", "height 4"].contains(told))
        .collect();
    let revoked = format!("revoked {}", orderer_b.pki_id);
    let expected = [
        "tip 2",
        "height 3",
        "sequence 1",
        "CrashFault",
        "orderers",
        &revoked,
        "refused 3",
        "refused 4",
        "tip 4",
        "height 5",
    ];
    assert_eq!(outcome, expected);
    assert_eq!(*heights.borrow(), 5);
    assert!(
        !roots_seen.has_changed().unwrap(),
        "addresses changed, so the core was told"
    );
    assert!(crypto.known(&orderer_b.pki_id).is_none());
}

/// Says when it begins, and waits until it may go on.
struct Stuck {
    begins: SyncSender<()>,
    go: Receiver<()>,
    held: InMemory,
}

impl Committer for Stuck {
    fn height(&self) -> u64 {
        self.held.height()
    }

    fn last_hash(&self) -> Option<[u8; 32]> {
        self.held.last_hash()
    }

    fn commit(&mut self, blocks: &[VerifiedBlock]) -> Result<(), String> {
        self.begins.send(()).map_err(|gone| gone.to_string())?;
        self.go.recv().map_err(|gone| gone.to_string())?;
        self.held.commit(blocks)
    }
}

#[test]
fn so_many_blocks_wait_for_a_slow_disk_and_more_are_refused() {
    let material = Material::new();
    let crypto = crypto(&material);
    let channel = ChannelId::from(CHANNEL);
    let genesis = [3; 32];
    let draft = ordinary(1, &genesis, &material, &material.orderers[0]);
    let block = crypto.verify_block(&channel, 1, &draft.encode()).unwrap();
    let job = || job(block.clone());
    let dir = tempfile::tempdir().unwrap();
    let (outlets, mut heard) = outlets(&crypto, dir.path());
    let waiting = &outlets.vitals.metrics.commit_queue_length;
    let waiting = waiting.with_label_values(&[CHANNEL]);
    let ((begins, began), (go, may_go)) = (sync_channel(1), sync_channel(1));
    let committer = Stuck {
        begins,
        go: may_go,
        held: InMemory(vec![genesis], None),
    };
    let writer = Writer::start(channel, Box::new(committer), outlets).unwrap();
    assert!(writer.submit(job()));
    began.recv().unwrap();
    for _ in 0..JOBS_MAX {
        assert!(writer.submit(job()));
    }
    assert!(!writer.submit(job()));
    assert_eq!(waiting.get(), i64::try_from(JOBS_MAX).unwrap());
    go.send(()).unwrap();
    writer.finish();
    assert_eq!(waiting.get(), 0);
    let mut all = Vec::new();
    while let Ok(input) = heard.try_recv() {
        all.push(told(&input));
    }
    // Each that was taken is answered.
    let mut expected = vec!["tip 1".to_owned(), "height 2".to_owned()];
    expected.extend(vec!["refused 1".to_owned(); JOBS_MAX]);
    assert_eq!(all, expected);
}

#[test]
fn what_is_missing_of_a_block_is_forgotten_with_the_block() {
    let crypto = crypto(&Material::new());
    let dir = tempfile::tempdir().unwrap();
    let (outlets, mut heard) = outlets(&crypto, dir.path());
    let vault = Arc::clone(&outlets.vault);
    let lacking = |number| PrivateBlock {
        number,
        entries: vec![PrivateEntry {
            tx: 0,
            namespace: "cc".to_owned(),
            collection: "one".to_owned(),
            block_to_live: 0,
            content: Content::Missing(Why::Absent),
        }],
        purges: Vec::new(),
        left_out: BTreeMap::new(),
    };
    vault.prepare(&[lacking(1), lacking(2)]).unwrap();
    vault.grown(3);
    let missing = || {
        PrivateData(Arc::clone(&vault))
            .backlog()
            .unwrap()
            .total()
            .eligible
    };
    assert_eq!(missing(), 2);
    let committer = InMemory(vec![[3; 32]; 3], Some(2));
    let writer = Writer::start(ChannelId::from(CHANNEL), Box::new(committer), outlets);
    writer.unwrap().finish();
    // Until the other threads have ended, too.
    while heard.blocking_recv().is_some() {}
    assert_eq!(missing(), 1);
}

#[test]
fn what_was_verified_is_known_by_all_its_bytes_until_a_configuration_is_put_in_force() {
    let material = Material::new();
    let crypto = crypto(&material);
    let channel = ChannelId::from(CHANNEL);
    let block = ordinary(1, &[3; 32], &material, &material.orderers[0]).encode();
    let before = |number, bytes: &Bytes| crypto.verified_before(&channel, number, bytes);
    assert_eq!(before(1, &block), None);
    let verified = crypto.verify_block(&channel, 1, &block).unwrap();
    let copy = Bytes::copy_from_slice(&block);
    let known = before(1, &copy).unwrap();
    assert_eq!(known, verified);
    assert_eq!(known.bytes.as_ptr(), block.as_ptr(), "one copy in memory");
    assert_eq!(before(2, &block), None);
    let mut other = block.to_vec();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(before(1, &other.into()), None);
    crypto.install(crypto.config(&channel).unwrap());
    assert_eq!(before(1, &block), None);
}
