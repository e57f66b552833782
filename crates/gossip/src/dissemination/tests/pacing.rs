//! A leader goes no faster than its members.

use super::{steps::ack, *};

fn holds(out: &[Effect]) -> Vec<bool> {
    let hold = |effect: &Effect| match effect {
        Effect::Hold(is_held) => Some(*is_held),
        _ => None,
    };
    out.iter().filter_map(hold).collect()
}

fn ordered(t: &mut Table, number: u64, len: usize) -> Vec<Effect> {
    let (block, hash) = whole(number, len);
    let origin = Origin::Ordered;
    t.feed(Input::Block {
        block,
        hash,
        origin,
    })
}

/// Orders blocks of one chunk, as long as none is held back; the number of one after which the next
/// is.
fn order(t: &mut Table, numbers: std::ops::Range<u64>) -> Option<u64> {
    for number in numbers {
        let out = ordered(t, number, 100);
        if holds(&out) == [true] {
            return Some(number);
        }
        assert!(holds(&out).is_empty());
    }
    None
}

/// Who did not acknowledge what.
fn awaited(t: &Table) -> Vec<(u64, u8)> {
    let keys = t.machine.acks.keys();
    keys.map(|key| (key.0, name(key.2))).collect()
}

/// How many of these count.
fn count(awaited: &[(u64, u8)], each: usize) -> usize {
    let of = |member| awaited.iter().filter(|it| it.1 == member).count();
    (1..=u8::MAX).map(|member| of(member).min(each)).sum()
}

/// Member 1 leads so many, and a block is on its uplink for a while.
fn leader(count: u8) -> Table {
    let mut t = Table::bare(1, count);
    t.feed(Input::Leader(Leader::Me));
    t.machine.parameters.uplink_bps = 1_000_000;
    t
}

#[test]
fn a_leader_waits_while_six_acknowledgements_are_missing() {
    let mut t = leader(8);
    let held = order(&mut t, 0..40).expect("nobody acknowledges anything");
    let missing = awaited(&t);
    assert_eq!(count(&missing, 2), 6);
    let before: Vec<_> = missing.iter().copied().filter(|it| it.0 < held).collect();
    assert_eq!(count(&before, 2), 5);
    let chunks = |out: &[Effect]| {
        let is_chunk = |e: &&Effect| {
            matches!(
                e,
                Effect::Send {
                    message: Message::Chunk(_),
                    ..
                }
            )
        };
        out.iter().filter(is_chunk).count()
    };
    let (block, hash) = whole(held + 1, 100);
    let origin = Origin::Ordered;
    let out = t.feed(Input::Block {
        block,
        hash,
        origin,
    });
    assert_eq!(chunks(&out), 0, "it waits");
    let (number, member) = *missing.last().unwrap();
    let out = t.hear(member, ack(number, 0));
    assert!(chunks(&out) > 0, "and goes out");
    let mut said = holds(&out);
    for (number, member) in awaited(&t) {
        said.extend(holds(&t.hear(member, ack(number, 0))));
    }
    assert_eq!(said, [false]);
}

#[test]
fn few_slow_members_hold_nobody_up() {
    let mut t = leader(8);
    for number in 0..100 {
        assert_eq!(order(&mut t, number..number + 1), None);
        for (number, member) in awaited(&t) {
            if member > 3 {
                t.hear(member, ack(number, 0));
            }
        }
        t.feed(Input::Height(number + 1));
    }
    assert_eq!(count(&awaited(&t), 2), 4);
}

#[test]
fn over_long_links_more_is_under_way() {
    let mut t = leader(8);
    t.machine.parameters.latency = Duration::from_millis(50);
    assert!(order(&mut t, 0..60).is_some());
    assert_eq!(count(&awaited(&t), 8), 24);
}

/// Orders one more; of which blocks something is sent.
fn one_more(t: &mut Table, number: u64, len: usize) -> Vec<u64> {
    sent(&ordered(t, number, len))
}

fn sent(out: &[Effect]) -> Vec<u64> {
    let number = |effect: &Effect| match effect {
        Effect::Send {
            message: Message::Chunk(chunk),
            ..
        } => Some(chunk.number),
        _ => None,
    };
    let mut sent: Vec<u64> = out.iter().filter_map(number).collect();
    sent.dedup();
    sent
}

const NONE: [u64; 0] = [];

#[test]
fn no_more_than_so_many_blocks_wait_and_the_oldest_go_first() {
    let mut t = leader(8);
    let held = order(&mut t, 0..40).expect("nobody acknowledges anything");
    for number in held + 1..=held + 64 {
        assert_eq!(one_more(&mut t, number, 100), NONE);
    }
    assert_eq!(one_more(&mut t, held + 65, 100), [held + 1]);
}

#[test]
fn no_more_than_so_many_bytes_wait() {
    let mut t = leader(8);
    let held = order(&mut t, 0..40).expect("nobody acknowledges anything");
    for number in held + 1..=held + 4 {
        assert_eq!(one_more(&mut t, number, 8 << 20), NONE);
    }
    assert_eq!(one_more(&mut t, held + 5, 1), [held + 1]);
}

#[test]
fn cut_blocks_are_under_way_three_at_a_time() {
    let mut t = leader(20);
    t.machine.parameters.uplink_bps = 1_000_000_000;
    let mut held = (0..10).filter(|number| one_more(&mut t, *number, 1 << 20).is_empty());
    assert_eq!(held.next(), Some(3));
}

#[test]
fn what_waits_is_told_to_nobody() {
    let mut t = leader(8);
    let held = order(&mut t, 0..40).expect("nobody acknowledges anything");
    for number in held + 1..=held + 8 {
        assert_eq!(one_more(&mut t, number, 100), NONE);
    }
    let status = t.machine.status(false);
    assert_eq!((status.height, status.ahead), (held + 1, [0; 4]));
    // It leads no more: it sends what it said it would.
    let out = t.feed(Input::Leader(Leader::Peer(peer(2))));
    assert_eq!(holds(&out), [false]);
    assert_eq!(sent(&out), (held + 1..=held + 8).collect::<Vec<u64>>());
    assert_eq!(t.machine.status(false).height, held + 9);
}

#[test]
fn what_has_travelled_in_part_goes_on_by_our_own_trees() {
    let mut t = Table::of(12);
    let number = 3;
    let parent = t.family(number, 4, 0).0;
    let chunk = t.chunk(number, steps::LEN, 0);
    t.hear(parent, Message::Chunk(chunk));
    t.feed(Input::Leader(Leader::Me));
    let own = t.machine.views.latest_of(&peer(ME)).unwrap().epoch;
    let (block, hash) = whole(number, steps::LEN);
    let out = t.feed(Input::Block {
        block,
        hash,
        origin: Origin::Ordered,
    });
    let stripe = |effect: &Effect| match effect {
        Effect::Send {
            message: Message::Chunk(chunk),
            ..
        } if chunk.epoch == own => Some(chunk.stripe),
        _ => None,
    };
    let stripes: BTreeSet<u8> = out.iter().filter_map(stripe).collect();
    assert_eq!(stripes, (1..4).collect());
}

#[test]
fn silent_members_are_waited_for_a_tenth_of_a_second() {
    let mut t = leader(8);
    let held = order(&mut t, 0..40).expect("nobody acknowledges anything");
    assert_eq!(one_more(&mut t, held + 1, 100), NONE);
    while t.machine.deadline() <= Some(at(100)) {
        let out = t.wait();
        if sent(&out).contains(&(held + 1)) {
            return;
        }
    }
    panic!("still held");
}
