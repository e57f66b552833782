//! Blocks on their way from peers to the ledger.

use super::*;

/// The numbers of the blocks that are to be committed.
fn commits(out: &[Effect]) -> Vec<u64> {
    let number = |effect: &Effect| match effect {
        Effect::Commit { block, .. } => Some(block.number),
        _ => None,
    };
    out.iter().filter_map(number).collect()
}

/// Peer `a` pushes this block.
fn push(t: &mut Table, number: u64) -> Vec<Effect> {
    let message = Message::Block {
        channel: "ch".into(),
        block: block_message(number),
    };
    t.receive(&identity("A", "a"), message)
}

#[test]
fn only_the_block_that_was_refused_is_wanted_again_not_those_behind_it() {
    let mut t = Table::in_channel(follower());
    t.meet("A", "a");
    assert_eq!(commits(&push(&mut t, 1)), [1]);
    assert_eq!(commits(&push(&mut t, 2)), [2]);
    for number in [1, 2] {
        t.feed(Input::CommitRefused {
            channel: "ch".into(),
            number,
        });
    }
    assert_eq!(t.node.sizes().blocks_held, 1);
    assert_eq!(commits(&push(&mut t, 2)), [0; 0]);
    assert_eq!(commits(&push(&mut t, 1)), [1, 2]);
}

#[test]
fn blocks_that_were_pushed_too_far_ahead_reach_the_ledger_without_being_sent_again() {
    let mut t = Table::in_channel(follower());
    t.meet("A", "a");
    let mut committed = Vec::new();
    for number in 1..=25 {
        committed.extend(commits(&push(&mut t, number)));
    }
    assert_eq!(
        committed,
        Vec::from_iter(1..=16),
        "the window of the committer"
    );
    for height in 2..=26 {
        let out = t.feed(Input::Committed {
            channel: "ch".into(),
            height,
        });
        committed.extend(commits(&out));
    }
    assert_eq!(committed, Vec::from_iter(1..=25));
}
