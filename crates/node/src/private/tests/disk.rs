//! What was pushed is found for its block and no other, and forgotten with it.

use tidings_proto::block::PrivateWrites;

use super::*;
use crate::private::disk::OnDisk;

/// What of a block with these transactions is on disk, up to so many bytes: by transaction, then
/// what was left.
fn on_disk(
    scene: &Scene,
    vault: &Vault,
    transactions: Vec<Bytes>,
    bytes_max: usize,
) -> (Vec<u64>, Vec<u64>) {
    let block = BlockView::parse(scene.block(0, transactions)).unwrap();
    let writes: Vec<PrivateWrites> = block.private_writes().collect();
    let writes: Vec<&PrivateWrites> = writes.iter().collect();
    let number = block.number().unwrap();
    let OnDisk { found, left } = vault.on_disk(number, &writes, bytes_max).unwrap();
    let found = found.into_keys().map(|(tx, ..)| tx);
    (
        found.collect(),
        left.into_iter().map(|(tx, ..)| tx).collect(),
    )
}

#[test]
fn transactions_with_one_id_find_their_copy_each_until_it_is_enough() {
    let scene = Scene::new();
    let vault = scene.open();
    keep(&vault, scene.pushed("one", "0123456789"), &scene.member());
    let same = || vec![scene.write("one", "0123456789"); 3];
    assert_eq!(on_disk(&scene, &vault, same(), 21), (vec![0, 1, 2], vec![]));
    assert_eq!(on_disk(&scene, &vault, same(), 11), (vec![0, 1], vec![2]));
    assert_eq!(on_disk(&scene, &vault, same(), 0), (vec![], vec![0, 1, 2]));
}

#[test]
fn a_copy_of_another_hash_or_collection_is_not_taken() {
    let scene = Scene::new();
    let vault = scene.open();
    let forged = PushedWrites {
        rwset: Bytes::from_static(b"forged"),
        ..scene.pushed("one", "text")
    };
    keep(&vault, forged, &scene.member());
    keep(&vault, scene.pushed("two", "text"), &scene.member());
    let block = || vec![scene.write("one", "text")];
    assert_eq!(on_disk(&scene, &vault, block(), 100), (vec![], vec![]));
    keep(&vault, scene.pushed("one", "text"), &scene.member());
    assert_eq!(on_disk(&scene, &vault, block(), 100), (vec![0], vec![]));
}

#[test]
fn a_copy_is_forgotten_by_the_height_of_who_simulated_it() {
    let mut scene = Scene::new();
    scene.settings.transientstore_max_block_retention = 1000;
    let vault = scene.open();
    let far = PushedWrites {
        sim_height: 100_000,
        ..scene.pushed("one", "far")
    };
    keep(&vault, far, &scene.member());
    keep(&vault, scene.pushed("one", "near"), &scene.member());
    let claimed = PushedWrites {
        sim_height: u64::MAX,
        ..scene.pushed("one", "claimed")
    };
    keep(&vault, claimed, &scene.member());
    assert_eq!(waiting(&vault), 3);
    let mut run = Run::new(Arc::clone(&vault), mpsc::channel(1).0);
    let mut commit_to = |height: u64| {
        let (from, copies) = (height - 1, BTreeSet::new());
        run.work(Chore::Committed {
            from,
            height,
            copies,
        })
        .unwrap();
        waiting(&vault)
    };
    assert_eq!(commit_to(40_001), 2, "what is ahead of us may still come");
    assert_eq!(commit_to(101_001), 2);
    assert_eq!(commit_to(102_001), 1);
    assert_eq!(commit_to(1_003_001), 0, "and no claim holds for ever");
}
