//! Blocks on their way to the ledger, one step at a time.

use tidings_gossip::{
    Input,
    privdata::{GatherKey, Missing, Wanted},
};

use prost::Message as _;
use tidings_ledger::private::Why;
use tidings_proto::common::Block;

use super::*;

/// The writer of a channel without its thread: what is asked of the core, and what is written.
pub(super) struct Writer<'a> {
    scene: &'a Scene,
    pub(super) vault: Arc<Vault>,
    window: Window,
    keeper: Run,
    heard: mpsc::Receiver<Input>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(scene: &'a Scene) -> Self {
        let vault = scene.open();
        let (inputs, heard) = mpsc::channel(64);
        Self {
            scene,
            window: Window::new(Arc::clone(&vault), inputs.clone()),
            keeper: Run::new(Arc::clone(&vault), inputs),
            vault,
            heard,
        }
    }

    pub(super) fn take(&mut self, block: &Bytes) {
        self.window.take(self.scene.job(block)).unwrap();
    }

    /// What the core was asked to look for: block and items.
    pub(super) fn asked(&mut self) -> Option<(u64, Vec<Wanted>)> {
        match self.heard.try_recv() {
            Ok(Input::PrivateWanted {
                key: GatherKey::Block(number),
                items,
                ..
            }) => Some((number, items)),
            Ok(other) => panic!("the window does not tell {other:?}"),
            Err(_) => None,
        }
    }

    /// The core has found nothing of this.
    fn found_nothing(&mut self, number: u64, items: Vec<Wanted>) {
        let missing: Vec<_> = items
            .into_iter()
            .map(|item| (item.digest, Missing::NotFound))
            .collect();
        self.window.gathered(number, Vec::new(), &missing);
    }

    /// Writes what is ready; says which blocks were written together.
    pub(super) fn write(&mut self) -> Vec<u64> {
        let ready = self.window.ready().unwrap();
        let numbers = ready.iter().map(|ready| ready.job.block.number).collect();
        let chores = self.commit(ready);
        for chore in chores {
            self.keeper.work(chore).unwrap();
        }
        numbers
    }

    /// Puts down what is ready and dies.
    pub(super) fn only_prepare(&mut self) {
        let mut ready = self.window.ready().unwrap();
        self.prepare(&mut ready);
    }

    /// Commits what is ready and dies before its chores are done.
    pub(super) fn without_chores(&mut self) {
        let ready = self.window.ready().unwrap();
        self.commit(ready);
    }

    fn prepare(&self, ready: &mut [Ready]) {
        let accounts = ready.iter_mut().filter_map(|each| each.account.take());
        self.vault.prepare(&accounts.collect::<Vec<_>>()).unwrap();
    }

    fn commit(&self, mut ready: Vec<Ready>) -> Vec<Chore> {
        self.prepare(&mut ready);
        let from = self.scene.height();
        for each in &ready {
            self.scene.chain.all().push(each.job.block.bytes.clone());
        }
        let height = self.scene.height();
        self.vault.grown(height);
        let config = self.vault.crypto.config(&self.vault.channel).unwrap();
        let (mut chores, mut copies) = (Vec::new(), BTreeSet::new());
        for each in ready {
            copies.extend(each.copies);
            if each.defines {
                let changed = self.vault.define(&each.job.block, &config);
                chores.extend(changed.into_iter().map(Chore::Defined));
            }
        }
        chores.push(Chore::Committed {
            from,
            height,
            copies,
        });
        chores
    }
}

#[test]
fn what_was_pushed_goes_into_its_block_and_is_forgotten() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(&scene);
    keep(&writer.vault, scene.pushed("one", "text"), &scene.member());
    writer.take(&scene.block(0, vec![scene.write("one", "text")]));
    assert!(writer.asked().is_none());
    assert_eq!(writer.write(), [2]);
    assert_eq!(held(&writer.vault, 2), ["text"]);
    assert_eq!(waiting(&writer.vault), 0);
}

#[test]
fn a_transaction_with_anothers_id_makes_nobody_forget_the_others_copy() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(&scene);
    keep(
        &writer.vault,
        scene.pushed("one", "honest"),
        &scene.member(),
    );
    // The nonce of the other one, and with it the id; pushed and ordered first.
    let tx_id = scene.pushed("one", "honest").tx_id;
    let forged = PushedWrites {
        tx_id,
        ..scene.pushed("one", "forged")
    };
    keep(&writer.vault, forged, &scene.member());
    let hash = Bytes::copy_from_slice(&sha256(b"forged"));
    let forged = scene.transaction("honest", vec![draft::private_of(CHAINCODE, "one", hash)]);
    writer.take(&scene.block(0, vec![forged]));
    assert_eq!(writer.write(), [2]);
    assert_eq!(held(&writer.vault, 2), ["forged"]);
    writer.take(&scene.block(0, vec![scene.write("one", "honest")]));
    assert!(writer.asked().is_none(), "it is still there");
    assert_eq!(writer.write(), [3]);
    assert_eq!(held(&writer.vault, 3), ["honest"]);
    assert_eq!(waiting(&writer.vault), 0);
}

#[test]
fn a_block_behind_others_waits_for_room() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(&scene);
    writer.window.bytes_max = 5;
    for text in ["first", "second"] {
        keep(&writer.vault, scene.pushed("one", text), &scene.member());
    }
    writer.take(&scene.block(0, vec![scene.write("one", "first")]));
    writer.take(&scene.block(1, vec![scene.write("one", "second")]));
    assert!(writer.asked().is_none(), "it is on our own disk");
    assert_eq!(writer.write(), [2, 3]);
    assert_eq!(held(&writer.vault, 2), ["first"]);
    assert_eq!(held(&writer.vault, 3), ["second"]);
}

#[test]
fn a_definition_ends_a_group_and_what_comes_after_is_judged_by_it() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org2MSP"])]);
    let mut writer = Writer::new(&scene);
    writer.take(&scene.block(0, vec![scene.write("one", "before")]));
    writer.take(&scene.block(1, vec![scene.definition(2, &["one=Org1MSP"])]));
    writer.take(&scene.block(2, vec![scene.write("one", "after")]));
    assert!(
        writer.asked().is_none(),
        "nothing is ours as far as we know"
    );
    assert_eq!(writer.write(), [2, 3]);
    // With the definition, what was missing of the collection is to be fetched.
    assert_eq!(
        (
            counts(&writer.vault).eligible,
            counts(&writer.vault).ineligible
        ),
        (1, 0)
    );
    assert!(writer.write().is_empty());
    let (number, items) = writer.asked().unwrap();
    assert_eq!((number, items.len()), (4, 1));
    assert!(writer.write().is_empty(), "it is waited for");
    assert!(writer.asked().is_none(), "and asked for once");
    writer.found_nothing(number, items);
    assert_eq!(writer.write(), [4]);
    assert_eq!(counts(&writer.vault).eligible, 2);
}

#[test]
fn who_is_no_member_any_more_neither_keeps_nor_misses_what_comes() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(&scene);
    keep(&writer.vault, scene.pushed("one", "after"), &scene.member());
    writer.take(&scene.block(0, vec![scene.definition(2, &["one=Org2MSP"])]));
    writer.take(&scene.block(1, vec![scene.write("one", "after")]));
    assert_eq!(writer.write(), [2]);
    assert_eq!(writer.write(), [3]);
    assert!(writer.asked().is_none());
    let counts = counts(&writer.vault);
    // It was found when the collection was still ours as far as we knew.
    assert_eq!((counts.held, counts.eligible, counts.ineligible), (0, 0, 1));
}

#[test]
fn what_came_by_state_transfer_does_not_wait_and_is_not_said_to_be_asked_for() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(&scene);
    for (ahead, text) in [(0, "first"), (1, "second")] {
        let mut job = scene.job(&scene.block(ahead, vec![scene.write("one", text)]));
        job.source = Source::Transfer;
        writer.window.take(job).unwrap();
        let asked = writer.asked().map(|(number, items)| (number, items.len()));
        assert_eq!(
            asked,
            Some((2 + ahead, 1)),
            "the core knows what is to be reconciled"
        );
    }
    assert_eq!(writer.write(), [2, 3], "together");
    let missing = PrivateData(Arc::clone(&writer.vault)).missing(10).unwrap();
    assert_eq!(missing.len(), 2);
    assert_eq!(missing[0].why, Why::NotAsked);
    let fetches = &writer.vault.metrics.privdata_fetch_duration;
    assert_eq!(fetches.with_label_values(&[CHANNEL]).get_sample_count(), 0);
}

#[test]
fn what_is_claimed_invalid_is_left_to_reconciliation_if_the_setting_says_so() {
    const MVCC_CONFLICT: u8 = 11;
    for skips in [false, true] {
        let mut scene = Scene::new();
        let skip = &mut scene
            .settings
            .skip_pulling_invalid_transactions_during_commit;
        *skip = skips;
        scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
        let mut writer = Writer::new(&scene);
        let writes = vec![scene.write("one", "bad"), scene.write("one", "good")];
        let mut block = Block::decode(scene.block(0, writes)).unwrap();
        let metadata = &mut block.metadata.as_mut().unwrap().metadata;
        metadata.resize(5, Bytes::new());
        metadata[2] = Bytes::from_static(&[MVCC_CONFLICT, 0]);
        writer.take(&block.encode_to_vec().into());
        let (number, items) = writer.asked().unwrap();
        let asked: Vec<u64> = items.iter().map(|item| item.digest.seq_in_block).collect();
        assert_eq!(asked, if skips { vec![1] } else { vec![0, 1] });
        writer.found_nothing(number, items);
        assert_eq!(writer.write(), [2]);
        let missing = PrivateData(Arc::clone(&writer.vault)).missing(10).unwrap();
        let why: Vec<Why> = missing.iter().map(|set| set.why).collect();
        let of_the_first = if skips { Why::NotAsked } else { Why::Absent };
        assert_eq!(why, [Why::Absent, of_the_first], "the last is listed first");
    }
}
