//! When old blocks are looked after.

use super::*;
use crate::{
    privdata::reconcile::{DOUBTFUL_MAX, LACKING_MAX, MISSED_MAX},
    scene::state_info,
};

fn list(round: u64) -> Effect {
    Effect::ListMissing { round, limit: 10 }
}

fn old(block: u64, seq: u64) -> Wanted {
    let mut item = wanted(block, seq);
    item.digest.tx_id.clear();
    item
}

impl Table {
    /// The owner says that this is missing.
    fn listed(&mut self, round: u64, items: Vec<Wanted>) -> Vec<Effect> {
        self.feed(Input::Wanted {
            key: GatherKey::Reconcile(round),
            items,
            patience: Duration::from_secs(60),
        })
    }

    /// The only request among these effects, beside the end of a gathering.
    fn asked_after(&self, out: &[Effect]) -> Asked {
        let asked = self.asked(out);
        assert_eq!(asked.len(), 1, "{out:?}");
        asked[0].clone()
    }
}

fn ended(round: u64, found: Vec<Found>, missing: Vec<PrivateDigest>) -> Effect {
    Effect::Gathered {
        key: GatherKey::Reconcile(round),
        found,
        missing: missing
            .into_iter()
            .map(|d| (d, Missing::NotFound))
            .collect(),
    }
}

#[test]
fn what_is_missing_is_listed_soon_after_the_start_and_then_every_interval() {
    let mut t = Table::with(Config::default());
    assert_eq!(t.until(999), []);
    assert_eq!(t.until(1000), [list(1)]);
    assert_eq!(t.listed(1, vec![]), [ended(1, vec![], vec![])]);
    assert_eq!(t.until(60_999), []);
    assert_eq!(t.until(61_000), [list(2)]);
    assert_eq!(t.listed(2, vec![]), [ended(2, vec![], vec![])]);
    assert_eq!(t.until(121_000), [list(3)]);
}

#[test]
fn a_list_that_does_not_come_is_asked_for_again() {
    let mut t = Table::with(Config::default());
    assert_eq!(t.until(1000), [list(1)]);
    assert_eq!(t.until(61_000), [list(2)]);
    let late = t.listed(1, vec![old(8, 0)]);
    let missing = vec![(old(8, 0).digest, Missing::NotAsked)];
    assert_eq!(
        late,
        [Effect::Gathered {
            key: GatherKey::Reconcile(1),
            found: vec![],
            missing
        }]
    );
    assert_eq!(t.listed(2, vec![]), [ended(2, vec![], vec![])]);
}

#[test]
fn without_reconciliation_nothing_is_listed() {
    let mut t = Table::among(&[("b", 9)]);
    assert_eq!(t.until(1_000_000), []);
    assert_eq!(t.private.deadline(), None);
}

#[test]
fn a_round_asks_everybody_once_and_ends() {
    let mut t = Table::with(Config::default());
    t.meet("B", "b", 9);
    t.meet("B", "b2", 9);
    t.until(1000);
    let out = t.listed(1, vec![old(8, 0)]);
    let first = t.the_one_asked(&out);
    assert_eq!(first.digests[0].tx_id, "");
    let out = t.answer(&first, vec![]);
    let second = t.asked_after(&out);
    assert_ne!(second.whom, first.whom);
    let out = t.answer(&second, vec![]);
    let missing = vec![old(8, 0).digest];
    assert_eq!(out.last(), Some(&ended(1, vec![], missing)));
    assert_eq!(t.until(60_999), [], "nothing new: the interval has to do");
    assert_eq!(t.until(61_000), [list(2)]);
}

#[test]
fn rounds_follow_one_another_while_they_find_something_new() {
    let mut t = Table::with(Config::default());
    t.meet("B", "b", 20);
    let mut now = 1000;
    assert_eq!(t.until(now), [list(1)]);
    for round in 1..=3 {
        let digest = old(round, 0).digest;
        let out = t.listed(round, vec![old(round, 0)]);
        let asked = t.the_one_asked(&out);
        let out = t.answer(&asked, vec![element(&digest)]);
        let found = found(&digest, "b");
        assert_eq!(out.last(), Some(&ended(round, vec![found], vec![])));
        assert_eq!(t.until(now + 99), []);
        now += 100;
        assert_eq!(t.until(now), [list(round + 1)]);
    }
    // The owner refused it and lists it again: the same once more is no progress.
    let digest = old(3, 0).digest;
    let out = t.listed(4, vec![old(3, 0)]);
    let asked = t.the_one_asked(&out);
    t.answer(&asked, vec![element(&digest)]);
    assert_eq!(t.until(now + 59_999), []);
    assert_eq!(t.until(now + 60_000), [list(5)]);
}

#[test]
fn a_block_that_was_committed_without_something_is_looked_after_at_once() {
    let mut t = Table::with(Config::default());
    t.until(1000);
    t.listed(1, vec![]);
    t.until(10_000);
    t.want(8, vec![wanted(8, 0)]);
    let out = t.until(70_000);
    assert_eq!(out[0], list(2), "the interval");
    t.listed(2, vec![]);
    assert_eq!(t.feed(Input::Height(8)), [], "not yet committed");
    assert_eq!(t.feed(Input::Height(9)), [list(3)]);
    t.listed(3, vec![]);
    assert_eq!(t.feed(Input::Height(10)), [], "once");
}

#[test]
fn many_such_blocks_are_looked_after_once_in_a_second() {
    let mut t = Table::with(Config::default());
    t.until(1000);
    t.listed(1, vec![]);
    t.until(5000);
    let nothing = |t: &mut Table, number| {
        t.feed(Input::Wanted {
            key: GatherKey::Block(number),
            items: vec![wanted(number, 0)],
            patience: Duration::ZERO,
        })
    };
    nothing(&mut t, 8);
    assert_eq!(t.feed(Input::Height(9)), [list(2)]);
    // During a round, and right after it.
    nothing(&mut t, 9);
    assert_eq!(t.feed(Input::Height(10)), []);
    t.listed(2, vec![]);
    nothing(&mut t, 10);
    assert_eq!(t.feed(Input::Height(11)), []);
    assert_eq!(t.until(5999), []);
    assert_eq!(t.until(6000), [list(3)]);
}

#[test]
fn a_peer_that_appears_and_may_have_it_is_asked_soon() {
    let mut t = Table::with(Config::default());
    t.until(1000);
    let mut item = old(8, 0);
    item.digest.collection = "B".to_owned();
    t.listed(1, vec![item.clone()]);
    t.meet_own("a", 9);
    assert_eq!(t.until(20_000), [], "this one may not have it");
    t.meet("B", "b", 9);
    assert_eq!(t.until(21_000), [list(2)]);
    let out = t.listed(2, vec![item]);
    let asked = t.the_one_asked(&out);
    t.answer(&asked, vec![]);
    assert_eq!(t.until(80_999), [], "it is no news any more");
    assert_eq!(t.until(81_000), [list(3)]);
}

#[test]
fn a_peer_that_gets_the_block_is_asked_soon() {
    let mut t = Table::with(Config::default());
    let peer = t.meet("B", "b", 8);
    t.until(1000);
    let missing = [old(8, 0), old(5, 1)];
    let out = t.listed(1, missing.to_vec());
    let asked = t.the_one_asked(&out);
    assert_eq!(
        asked.digests,
        [missing[1].digest.clone()],
        "it has not block 8"
    );
    t.answer(&asked, vec![]);
    assert_eq!(t.until(20_000), [], "and still has not");
    t.scene.hears(&mut t.channel, &peer, 9);
    assert_eq!(t.until(21_000), [list(2)]);
    let out = t.listed(2, missing.to_vec());
    let asked = t.the_one_asked(&out);
    t.answer(&asked, vec![]);
    t.scene.hears(&mut t.channel, &peer, 10);
    assert_eq!(t.until(80_999), [], "block 10 is nothing that is missing");
    assert_eq!(t.until(81_000), [list(3)]);
}

#[test]
fn a_peer_that_grows_between_blocks_that_lack_something_is_no_news() {
    let mut t = Table::with(Config::default());
    let peer = t.meet("B", "b", 6);
    t.until(1000);
    let missing = vec![old(5, 0), old(1_000_000, 0)];
    let out = t.listed(1, missing);
    let asked = t.the_one_asked(&out);
    t.answer(&asked, vec![]);
    let mut heights = (10..).zip([7, 1_000_000, 8, 1_000_001]);
    let mut hear = |t: &mut Table| {
        let (sequence, height) = heights.next().unwrap();
        let info = state_info(&peer, "ch", sequence, height);
        t.scene.hears_info(&mut t.channel, &peer, info);
    };
    // Up to the last one it has not, and far back again.
    for ms in [10_000, 20_000, 30_000] {
        hear(&mut t);
        assert_eq!(t.until(ms), [], "at {ms} ms");
    }
    hear(&mut t);
    assert_eq!(t.until(40_000), [list(2)]);
}

#[test]
fn reasons_to_look_sooner_are_bounded() {
    let mut t = Table::with(Config::default());
    for number in 0..=MISSED_MAX as u64 {
        t.feed(Input::Wanted {
            key: GatherKey::Block(number),
            items: vec![wanted(number, 0)],
            patience: Duration::ZERO,
        });
    }
    assert_eq!(t.private.reconcile.missed.len(), MISSED_MAX);
    t.until(1000);
    let of = |n: usize| {
        let mut item = old(8, n as u64);
        item.digest.collection = format!("B{n}");
        item
    };
    let mut items: Vec<_> = (0..=LACKING_MAX).map(of).collect();
    items.extend((0..LACKING_MAX as u64).map(|number| {
        let mut item = of(0);
        item.digest.block = 100 + number;
        item
    }));
    t.listed(1, items);
    let lacking = &t.private.reconcile.lacking;
    assert_eq!(lacking.len(), LACKING_MAX);
    let lens: Vec<_> = lacking.values().map(BTreeSet::len).collect();
    assert_eq!(lens[..2], [LACKING_MAX, 1]);
}

#[test]
fn whoever_left_the_channel_looks_after_nothing() {
    let mut t = Table::with(Config::default());
    let view = t.scene.view();
    let leave = crate::channel::Input::Leave;
    t.channel
        .handle(at(0), leave, &view, &t.scene.ports, &mut Vec::new());
    t.feed(Input::Left);
    t.now = at(2000);
    let mut out = Vec::new();
    let view = t.scene.view();
    t.private
        .tick(t.now, &t.channel, &view, &t.scene.ports, &mut out);
    assert_eq!(out, []);
    assert_eq!(t.private.deadline(), Some(at(62_000)));
}

#[test]
fn what_nobody_has_verified_is_progress_once() {
    let mut t = Table::with(Config::default());
    t.meet("B", "b", 20);
    let mut now = 1000;
    let mut begun = Vec::new();
    for round in 1..=5 {
        assert_eq!(t.until(now), [list(round)]);
        begun.push(now);
        // Now this one and now that.
        let mut item = old(8 + round % 2, 0);
        item.may_differ = true;
        let digest = item.digest.clone();
        let out = t.listed(round, vec![item]);
        let asked = t.the_one_asked(&out);
        let out = t.answer(&asked, vec![wrong(&digest)]);
        assert!(matches!(out.last(), Some(Effect::Gathered { found, .. }) if found.len() == 1));
        now += if round <= 2 { 100 } else { 60_000 };
    }
    assert_eq!(begun, [1000, 1100, 1200, 61_200, 121_200]);
}

#[test]
fn so_much_is_remembered_of_what_nobody_has_verified() {
    let mut t = Table::with(Config::default());
    let doubtful = |seq| Found {
        is_verified: false,
        ..found(&digest(8, seq), "b")
    };
    let most: Vec<_> = (0..DOUBTFUL_MAX as u64).map(doubtful).collect();
    assert!(t.private.reconcile.is_progress(&most));
    assert!(
        !t.private
            .reconcile
            .is_progress(&[doubtful(DOUBTFUL_MAX as u64)])
    );
    assert!(
        t.private
            .reconcile
            .is_progress(&[found(&digest(8, 0), "b")])
    );
}
