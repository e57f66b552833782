//! Which blocks are asked for, and of whom, whatever is announced.

use super::{
    parameters::ASKED_MAX,
    steps::{LEN, ack},
    *,
};

#[test]
fn no_more_than_eight_blocks_are_asked_for_at_once() {
    let mut t = Table::of(12);
    for number in 0..AHEAD_MAX {
        let (_, hash) = whole(number, LEN);
        let cut = t.chunk(number, LEN, 0).cut;
        let have = Have {
            number,
            hash,
            stripes: Have::COMPLETE,
            cut,
            urgent: false,
        };
        t.hear(7, Message::Have(have));
    }
    for _ in 0..200 {
        t.wait();
        let asked = t
            .machine
            .blocks
            .values()
            .filter(|block| block.asked)
            .count();
        assert!(asked <= ASKED_MAX);
    }
    assert_eq!(
        t.machine
            .blocks
            .values()
            .filter(|block| block.asked)
            .count(),
        ASKED_MAX
    );
}

fn claim_everything() -> Message {
    Message::Status(message::Status {
        height: u64::MAX,
        ..message::Status::default()
    })
}

/// Requests in these effects: of which member and block.
fn requests(out: &[Effect]) -> Vec<(u8, u64)> {
    let request = |effect: &Effect| match effect {
        Effect::Send {
            to,
            message: Message::Request { number, .. },
        } => Some((name(*to), *number)),
        _ => None,
    };
    out.iter().filter_map(request).collect()
}

#[test]
fn what_one_member_claims_to_have_is_in_no_other_blocks_way() {
    let mut t = Table::of(12);
    t.hear(9, claim_everything());
    assert_eq!(t.machine.last_block, None, "no reason for statuses");
    let mut out = Vec::new();
    while t.machine.blocks[&0].tries < 5 {
        out.extend(t.wait());
    }
    assert!(requests(&out).iter().all(|(of, _)| *of == 9));
    // The ninth of what is asked for is a block that exists: two members say so.
    let number = AHEAD_MAX - 1;
    let chunk = t.chunk(number, LEN, 0);
    for from in [7, 8] {
        let have = forward::have(number, (chunk.hash, chunk.cut), Have::COMPLETE, false);
        t.hear(from, have);
    }
    let start = t.now;
    while !requests(&t.wait()).iter().any(|(_, n)| *n == number) {}
    assert!(t.now.since(start) < Duration::from_millis(200));
    // And one that was asked for in vain and then begins as it should is waited for as if nobody had
    // said anything.
    while t.machine.blocks[&0].tries < 6 {
        t.wait();
    }
    let parent = t.family(0, 4, 0).0;
    let chunk = t.chunk(0, LEN, 0);
    t.hear(parent, Message::Chunk(chunk));
    let block = &t.machine.blocks[&0];
    assert_eq!((block.asked, block.tries), (false, 0));
    assert!(t.machine.timers.is_armed(Timer::Spread(0)));
    assert!(!t.machine.timers.is_armed(Timer::Retry(0)));
}

#[test]
fn an_older_block_takes_the_place_of_a_newer_one() {
    let mut t = Table::of(12);
    for number in (0..AHEAD_MAX).rev() {
        let chunk = t.chunk(number, LEN, 0);
        for from in [7, 8] {
            let have = forward::have(number, (chunk.hash, chunk.cut), Have::COMPLETE, false);
            t.hear(from, have);
        }
        t.now = t.now + Duration::from_secs(1);
        let mut out = Vec::new();
        t.machine.tick(t.now, &t.desk, &mut out);
        assert!(requests(&out).iter().any(|(_, n)| *n == number), "{number}");
        let slots = t.machine.blocks.values().filter(|block| block.has_slot);
        assert!(slots.count() <= ASKED_MAX);
    }
}

#[test]
fn who_announces_what_it_does_not_give_is_not_believed_for_a_while() {
    let mut t = Table::of(12);
    t.hear(9, claim_everything());
    let mut out = Vec::new();
    while t.machine.blocks[&0].tries < 6 {
        t.hear(9, ack(99, 0));
        out.extend(t.wait());
    }
    assert!(rules(&out).contains(&"S-T10"));
    t.machine.blocks.clear();
    t.hear(9, claim_everything());
    assert!(t.machine.blocks.is_empty());
    t.hear(8, claim_everything());
    assert!(!t.machine.blocks.is_empty(), "another is believed");
    t.now = t.now + Duration::from_secs(10);
    t.machine.blocks.clear();
    t.hear(9, claim_everything());
    assert!(!t.machine.blocks.is_empty(), "it may have been slow");
}

#[test]
fn who_alone_announces_a_block_is_not_the_only_one_that_is_asked() {
    let mut t = Table::of(12);
    let parent = t.family(0, 4, 0).0;
    let chunk = t.chunk(0, LEN, 0);
    let have = forward::have(0, (chunk.hash, chunk.cut), Have::COMPLETE, false);
    t.hear(parent, Message::Chunk(chunk));
    t.hear(9, have);
    let mut asked = Vec::new();
    for _ in 0..40 {
        asked.extend(requests(&t.wait()));
    }
    assert!(asked.iter().any(|(of, _)| *of == 9));
    assert!(
        asked.iter().filter(|(of, _)| *of != 9).count() * 3 > asked.len(),
        "{asked:?}"
    );
}

#[test]
fn a_false_warning_does_not_keep_us_from_asking_after_a_true_one() {
    let mut t = Table::of(12);
    let chunk = t.chunk(0, LEN, 0);
    let junk = forward::have(0, (Digest([7; 32]), chunk.cut), u64::MAX, true);
    assert_eq!(requests(&t.hear(9, junk)), [(9, 0)]);
    let warning = forward::have(0, (chunk.hash, chunk.cut), 1, true);
    assert_eq!(requests(&t.hear(7, warning.clone())), [(7, 0)]);
    assert_eq!(t.hear(8, warning), [], "once is enough");
}
