//! A leader goes no faster than its members.

use super::{steps::ack, *};

fn holds(out: &[Effect]) -> Vec<bool> {
    let hold = |effect: &Effect| match effect {
        Effect::Hold(is_held) => Some(*is_held),
        _ => None,
    };
    out.iter().filter_map(hold).collect()
}

/// Orders blocks of one chunk, as long as none is held back; the number of one after which the next
/// is.
fn order(t: &mut Table, numbers: std::ops::Range<u64>) -> Option<u64> {
    for number in numbers {
        let (block, hash) = whole(number, 100);
        let out = t.feed(Input::Block {
            block,
            hash,
            origin: Origin::Ordered,
        });
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

#[test]
fn no_more_than_so_many_blocks_wait_and_the_oldest_go_first() {
    let mut t = leader(8);
    let held = order(&mut t, 0..40).expect("nobody acknowledges anything");
    let sent = |t: &mut Table, number: u64| -> Vec<u64> {
        let (block, hash) = whole(number, 100);
        let origin = Origin::Ordered;
        let input = Input::Block {
            block,
            hash,
            origin,
        };
        let sent = |effect: Effect| match effect {
            Effect::Send {
                message: Message::Chunk(chunk),
                ..
            } => Some(chunk.number),
            _ => None,
        };
        let mut sent: Vec<u64> = t.feed(input).into_iter().filter_map(sent).collect();
        sent.dedup();
        sent
    };
    for number in held + 1..=held + 64 {
        assert_eq!(sent(&mut t, number), Vec::<u64>::new());
    }
    assert_eq!(sent(&mut t, held + 65), [held + 1]);
}

#[test]
fn who_leads_no_longer_holds_nothing_back() {
    let mut t = leader(8);
    assert!(order(&mut t, 0..40).is_some());
    let out = t.feed(Input::Leader(Leader::Peer(peer(2))));
    assert_eq!(holds(&out), [false]);
}

#[test]
fn whose_silence_was_noticed_is_waited_for_no_more() {
    let mut t = leader(8);
    assert!(order(&mut t, 0..40).is_some());
    for _ in 0..1000 {
        if holds(&t.wait()) == [false] {
            return;
        }
    }
    panic!("still held");
}
