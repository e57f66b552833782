//! Blocks on their way to the ledger, one step at a time.

use tidings_gossip::{
    Input,
    privdata::{GatherKey, Missing, Wanted},
};

use super::*;

/// The writer of a channel without its thread: what is asked of the core, and what is written.
struct Writer<'a> {
    scene: &'a Scene,
    vault: Arc<Vault>,
    window: Window,
    keeper: Run,
    heard: mpsc::Receiver<Input>,
}

impl<'a> Writer<'a> {
    fn new(scene: &'a Scene) -> Self {
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

    fn take(&mut self, block: &Bytes) {
        self.window.take(self.scene.job(block)).unwrap();
    }

    /// What the core was asked to look for: block and items.
    fn asked(&mut self) -> Option<(u64, Vec<Wanted>)> {
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
    fn write(&mut self) -> Vec<u64> {
        let ready = self.window.ready().unwrap();
        let numbers = ready.iter().map(|ready| ready.job.block.number).collect();
        self.write_these(ready);
        numbers
    }

    fn write_these(&mut self, mut ready: Vec<Ready>) {
        let accounts: Vec<_> = ready
            .iter_mut()
            .filter_map(|each| each.account.take())
            .collect();
        self.vault.prepare(&accounts).unwrap();
        let from = self.scene.height();
        for each in &ready {
            self.scene.chain.all().push(each.job.block.bytes.clone());
        }
        let height = self.scene.height();
        self.vault.grown(height);
        let config = self.vault.crypto.config(&self.vault.channel).unwrap();
        let mut copies = BTreeSet::new();
        for each in ready {
            copies.extend(each.copies);
            if each.defines {
                for chaincode in self.vault.define(&each.job.block, &config) {
                    self.keeper.work(Chore::Defined(chaincode)).unwrap();
                }
            }
        }
        self.keeper
            .work(Chore::Committed {
                from,
                height,
                copies,
            })
            .unwrap();
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
