//! What happens when members say different things about one number.

use super::{
    lies::fall_for_junk,
    parameters::{BEGINNERS_MAX, BEGUN_BYTES_MAX, BEGUN_EACH_MAX, GIVES_WAY_AFTER, GROUPS_MAX},
    steps::LEN,
    *,
};

/// As if the chunk were of another block.
fn other(chunk: Chunk, hash: u8) -> Message {
    let hash = Digest([hash; 32]);
    Message::Chunk(Chunk { hash, ..chunk })
}

fn groups(t: &Table, number: u64) -> Vec<Digest> {
    let groups = t.machine.blocks[&number].groups();
    groups.map(|group| group.hash).collect()
}

fn good(t: &mut Table, number: u64) -> Vec<Effect> {
    let (block, hash) = whole(number, LEN);
    let verdict = Verdict::Good(block);
    t.feed(Input::Judged {
        number,
        hash,
        verdict,
    })
}

fn is_judged(out: &[Effect], is: Digest) -> bool {
    out.iter()
        .any(|e| matches!(e, Effect::Judge { hash, .. } if *hash == is))
}

/// All stripes of the block as it is, by their trees. Says what came of the last.
fn bring(t: &mut Table, number: u64) -> Vec<Effect> {
    let mut out = Vec::new();
    for stripe in 0..4 {
        let parent = t.family(number, 4, stripe).0;
        let chunk = t.chunk(number, LEN, stripe);
        out = t.hear(parent, Message::Chunk(chunk));
    }
    out
}

#[test]
fn what_is_said_first_about_a_block_is_not_right_for_that() {
    let mut t = Table::of(12);
    let liar = t.family(0, 4, 1).0;
    let junk = t.chunk(0, LEN, 1);
    assert_eq!(rules(&t.hear(liar, other(junk, 7))), [] as [&str; 0]);
    let (_, hash) = whole(0, LEN);
    let out = bring(&mut t, 0);
    assert!(is_judged(&out, hash), "{out:?}");
    assert!(!out.contains(&Effect::Fetch(0)));
    let out = good(&mut t, 0);
    assert!(matches!(out[0], Effect::Deliver(_)));
    assert_eq!(rules(&out), ["S-T7"], "it is noted who began the other");
    assert_eq!(groups(&t, 0), [hash]);
}

#[test]
fn each_of_what_is_said_travels_on_and_is_acknowledged() {
    let mut t = Table::of(40);
    let awaits = |t: &mut Table, number| {
        let places = t.places(number);
        let own = places.position(0, 4, &peer(ME)).unwrap();
        let children = places.tree.children(own).iter();
        children
            .map(|q| usize::from(*q))
            .any(|q| places.tree.is_inner(q))
    };
    let number = (0..AHEAD_MAX).find(|number| awaits(&mut t, *number));
    let number = number.expect("one of twenty");
    let (parent, children) = t.family(number, 4, 0);
    for hash in [7, 8] {
        let chunk = t.chunk(number, LEN, 0);
        let out = t.hear(parent, other(chunk, hash));
        let of = Digest([hash; 32]);
        let is_passed_on = |child: &u8| {
            out.iter().any(|e| matches!(e, Effect::Send { to, message: Message::Chunk(c) } if *to == peer(*child) && c.hash == of))
        };
        assert!(children.iter().all(is_passed_on));
        let ack = Message::Ack { number, stripe: 0 };
        assert!(out.contains(&send(parent, ack)));
    }
    // Whoever of them does not acknowledge gets the one that it did not acknowledge.
    let out: Vec<_> = (0..6).flat_map(|_| t.wait()).collect();
    let again = |e: &Effect| matches!(e, Effect::Send { message: Message::Chunk(c), .. } if c.resend && c.hash == Digest([8; 32]));
    assert!(out.iter().any(again), "{out:?}");
    // But junk may be what it is silent about, as it should be.
    let reports = |e: &Effect| {
        matches!(
            e,
            Effect::Send {
                message: Message::Suspect { .. },
                ..
            }
        )
    };
    assert!(!out.iter().any(reports), "{out:?}");
}

#[test]
fn an_acknowledgement_of_junk_is_none_of_the_block() {
    let mut t = Table::of(40);
    let inner_child = |t: &mut Table, number| {
        let places = t.places(number);
        let own = places.position(0, 4, &peer(ME))?;
        let mut below = places.tree.children(own).iter().map(|q| usize::from(*q));
        let q = below.find(|q| places.tree.is_inner(*q))?;
        Some((number, name(places.node(0, 4, q)?.0)))
    };
    let found = (0..AHEAD_MAX).find_map(|number| inner_child(&mut t, number));
    let (number, child) = found.expect("one of twenty");
    let parent = t.family(number, 4, 0).0;
    let chunk = t.chunk(number, LEN, 0);
    let real = chunk.hash;
    t.hear(parent, other(chunk.clone(), 7));
    t.hear(parent, Message::Chunk(chunk));
    let ack = Message::Ack { number, stripe: 0 };
    // It came first, and what came after it was lost.
    t.hear(child, ack.clone());
    let key = (number, 0, peer(child));
    assert_eq!(t.machine.acks[&key].len(), 1);
    let of_child = |out: Vec<Effect>| {
        out.into_iter().filter_map(move |effect| match effect {
            Effect::Send {
                to,
                message: Message::Chunk(chunk),
            } if to == peer(child) => Some((chunk.hash, chunk.resend)),
            _ => None,
        })
    };
    let sent: Vec<_> = (0..6).flat_map(|_| of_child(t.wait())).collect();
    assert_eq!(sent, [(real, true)]);
    t.hear(child, ack);
    assert!(!t.machine.acks.contains_key(&key));
    assert!(
        !t.machine
            .timers
            .is_armed(Timer::Ack(number, 0, peer(child)))
    );
}

#[test]
fn so_many_acknowledgements_of_one_stripe_are_awaited_as_things_may_be_said() {
    let mut t = Table::of(40);
    let way = t.chunk(0, LEN, 0);
    let parent = t.family(0, 4, 0).0;
    t.hear(parent, Message::Chunk(way));
    let (epoch, shape) = (EPOCH, SHAPE);
    let key = (0, 0, peer(9));
    for _ in 0..10 {
        t.machine
            .await_ack(t.now, key, Way { epoch, shape }, 1, None);
    }
    assert_eq!(t.machine.acks[&key].len(), GROUPS_MAX);
}

#[test]
fn a_member_says_so_many_things_about_a_block_and_no_more() {
    let mut t = Table::of(12);
    let number = t.block_where(4, true);
    let parent = t.family(number, 4, 0).0;
    for hash in 0..BEGUN_EACH_MAX {
        let chunk = t.chunk(number, LEN, 0);
        let out = t.hear(parent, other(chunk, 7 + hash));
        assert_eq!(rules(&out), [] as [&str; 0]);
    }
    let chunk = t.chunk(number, LEN, 0);
    let out = t.hear(parent, other(chunk, 99));
    assert_eq!(rules(&out), ["S-T7"]);
    let sends = |e: &Effect| matches!(e, Effect::Send { .. });
    assert!(!out.iter().any(sends), "it is not acknowledged");
    assert_eq!(groups(&t, number).len(), usize::from(BEGUN_EACH_MAX));
    // It may have been right this time: the block is fetched beside, and asked for.
    assert!(out.contains(&Effect::Fetch(number)));
    let asks = |e: &Effect| {
        matches!(e, Effect::Send { to, message: Message::Request { hash, .. } }
            if *to == peer(parent) && *hash == Digest([99; 32]))
    };
    assert!((0..12).any(|_| t.wait().iter().any(asks)));
    let repair = true;
    let answer = Chunk {
        repair,
        ..t.chunk(number, LEN, 0)
    };
    assert_eq!(rules(&t.hear(parent, other(answer, 99))), [] as [&str; 0]);
    assert_eq!(groups(&t, number).len(), usize::from(BEGUN_EACH_MAX) + 1);
}

#[test]
fn what_was_announced_long_before_and_then_answered_is_no_measure() {
    let mut t = Table::of(12);
    for number in 0..10 {
        let chunk = t.chunk(number, LEN, 0);
        let id = (chunk.hash, chunk.cut);
        t.hear(9, forward::have(number, id, Have::COMPLETE, false));
        for _ in 0..4 {
            t.wait();
        }
        t.now = t.now + Duration::from_secs(5);
        let repair = true;
        let answer = Chunk {
            repair,
            ..chunk.clone()
        };
        t.hear(9, Message::Chunk(answer));
        let parent = t.family(number, 4, 0).0;
        t.hear(parent, Message::Chunk(chunk));
        assert!(
            t.machine.blocks[&number].spurious,
            "it was asked for too early"
        );
    }
    let model = t.machine.model(9);
    let delta = t.machine.estimates.delta(model);
    assert!(delta < Duration::from_millis(50), "{delta:?}");
}

#[test]
fn however_often_something_else_is_said_asking_goes_on() {
    let mut t = Table::of(12);
    for hash in 0..8 {
        let stripe = hash % 4;
        let parent = t.family(0, 4, stripe).0;
        let chunk = t.chunk(0, LEN, stripe);
        t.hear(parent, other(chunk, 7 + hash));
        for _ in 0..5 {
            t.wait();
        }
        t.now = t.now + GIVES_WAY_AFTER;
        let timers = [Timer::Have(0), Timer::Spread(0), Timer::Retry(0)];
        let is_armed = timers.iter().any(|timer| t.machine.timers.is_armed(*timer));
        assert!(is_armed, "{hash}");
    }
    let asks = |e: &Effect| {
        matches!(
            e,
            Effect::Send {
                message: Message::Request { .. },
                ..
            }
        )
    };
    assert!((0..12).any(|_| t.wait().iter().any(asks)));
    assert!((0..100).any(|_| t.wait().contains(&Effect::Fetch(0))));
}

#[test]
fn what_does_not_go_on_gives_way_to_something_else() {
    let t = Table::of(12);
    let chunk = t.chunk(0, LEN, 0);
    let mut block = Block::new(t.now);
    for by in 0..GROUPS_MAX as u8 {
        let hash = Digest([by; 32]);
        let of = Chunk {
            hash,
            ..chunk.clone()
        };
        assert!(block.take_in(at(u64::from(by)), &of, peer(by), false));
    }
    let from = peer(20);
    let mut now = at(0) + (GIVES_WAY_AFTER - Duration::from_millis(1));
    assert!(!block.take_in(now, &chunk, from, false));
    now = now + Duration::from_millis(1);
    assert!(block.take_in(now, &chunk, from, false));
    let hashes = |block: &Block| block.groups().map(|g| g.hash).collect::<Vec<_>>();
    assert_eq!(hashes(&block).len(), GROUPS_MAX);
    assert!(
        !hashes(&block).contains(&Digest([0; 32])),
        "the oldest goes"
    );
    let of_root = Chunk {
        hash: Digest([77; 32]),
        ..chunk.clone()
    };
    assert!(!block.take_in(now, &of_root, peer(21), false));
    assert!(
        block.take_in(now, &of_root, peer(21), true),
        "who injects it is always heard"
    );
    assert_eq!(hashes(&block).len(), GROUPS_MAX);
}

#[test]
fn those_who_said_something_first_are_remembered_up_to_a_limit() {
    let t = Table::of(12);
    let chunk = t.chunk(0, LEN, 0);
    let mut block = Block::new(t.now);
    for by in 0..BEGINNERS_MAX as u8 + 5 {
        let hash = Digest([by; 32]);
        let of = Chunk {
            hash,
            ..chunk.clone()
        };
        let now = at(1000 * u64::from(by));
        let is_taken = block.take_in(now, &of, peer(by), false);
        assert_eq!(is_taken, usize::from(by) < BEGINNERS_MAX);
        // Who injects has a place all the same, and what it says may be wrong, too.
        assert!(is_taken || block.take_in(now, &of, peer(by), true));
        block.reject(false);
        assert!(block.is_rejected((hash, chunk.cut)) == is_taken);
    }
    assert_eq!(block.rejected.len(), BEGINNERS_MAX);
}

#[test]
fn a_member_begins_no_more_than_a_share_of_what_is_kept() {
    let mut t = Table::of(12);
    let len = 8 << 20;
    let mut begun = 0;
    for number in 1..=20 {
        let mut chunk = t.chunk(number, LEN, 0);
        chunk.cut = Cut { len, k: 32, p: 0 };
        begun += usize::from(t.machine.has_room(&chunk, &peer(7), false));
        assert!(t.machine.has_room(&chunk, &peer(7), true), "who injects it");
        let mut block = Block::new(t.now);
        block.take_in(t.now, &chunk, peer(7), false);
        t.machine.blocks.insert(number, block);
    }
    assert_eq!(begun, BEGUN_BYTES_MAX / len as usize);
    assert!(!t.machine.has_room(&t.chunk(5, LEN, 0), &peer(7), false));
    assert!(t.machine.has_room(&t.chunk(5, LEN, 0), &peer(8), false));
    assert!(
        t.machine.has_room(&t.chunk(0, LEN, 0), &peer(7), false),
        "the next always has room"
    );
}

#[test]
fn who_was_appointed_and_brings_the_blocks_begins_more_than_others_do() {
    let mut t = Table::bare(ME, 12);
    t.feed(Input::Leader(Leader::Appointed));
    t.hear(1, Message::View(Arc::new(view(EPOCH, 1, everybody(12)))));
    let begins = |t: &mut Table, author: u8| {
        let begun = (5..10).filter(|number| {
            let mut chunk = t.chunk(*number, LEN, 0);
            chunk.cut = Cut {
                len: 10 << 20,
                k: 32,
                p: 0,
            };
            chunk.payload = vec![0; chunk.cut.payload_len(0)].into();
            rules(&t.hear(author, Message::Chunk(chunk))).is_empty()
        });
        begun.count()
    };
    assert_eq!(begins(&mut t, 1), 3, "32 MiB");
    bring(&mut t, 0);
    good(&mut t, 0);
    assert_eq!(begins(&mut t, 1), 5);
}

#[test]
fn a_block_of_which_junk_was_given_comes_by_stripes_all_the_same() {
    let mut t = Table::of(12);
    fall_for_junk(&mut t, 0);
    let (_, hash) = whole(0, LEN);
    let out = bring(&mut t, 0);
    assert!(is_judged(&out, hash), "{out:?}");
    assert_eq!(rules(&good(&mut t, 0)), ["S-T11"]);
}

#[test]
fn what_is_judged_and_is_none_gives_way_to_what_came_meanwhile() {
    let mut t = Table::of(12);
    let (_, hash) = whole(0, LEN);
    let liar = t.family(0, 1, 0).0;
    let junk = Chunk {
        cut: Cut { len: 1, k: 1, p: 0 },
        payload: Bytes::from_static(b"j"),
        ..t.chunk(0, LEN, 0)
    };
    assert!(is_judged(&t.hear(liar, other(junk, 7)), Digest([7; 32])));
    let out = bring(&mut t, 0);
    assert!(
        !out.iter().any(|e| matches!(e, Effect::Judge { .. })),
        "one at a time"
    );
    let out = t.feed(Input::Judged {
        number: 0,
        hash: Digest([7; 32]),
        verdict: Verdict::Refused,
    });
    assert!(is_judged(&out, hash), "{out:?}");
    assert_eq!(rules(&good(&mut t, 0)), ["S-T11"]);
}

#[test]
fn while_chunks_of_one_thing_are_doubted_another_may_be_the_block() {
    let mut t = Table::of(12);
    let (_, hash) = whole(0, LEN);
    for stripe in 0..4 {
        let parent = t.family(0, 4, stripe).0;
        let junk = t.chunk(0, LEN, stripe);
        t.hear(parent, other(junk, 7));
    }
    t.feed(Input::Judged {
        number: 0,
        hash: Digest([7; 32]),
        verdict: Verdict::Corrupt,
    });
    assert!(t.machine.timers.is_armed(Timer::Hashes(0)));
    let out = bring(&mut t, 0);
    assert!(is_judged(&out, hash), "{out:?}");
    assert!(!t.machine.timers.is_armed(Timer::Hashes(0)));
    assert!(matches!(good(&mut t, 0)[0], Effect::Deliver(_)));
}

#[test]
fn what_is_missing_is_asked_of_all_that_is_said() {
    let mut t = Table::of(12);
    let (_, hash) = whole(0, LEN);
    let parent = t.family(0, 4, 0).0;
    let chunk = t.chunk(0, LEN, 0);
    t.hear(parent, other(chunk.clone(), 7));
    t.hear(parent, Message::Chunk(chunk.clone()));
    let have = forward::have(0, (hash, chunk.cut), Have::COMPLETE, false);
    t.hear(8, have);
    let mut asked = Vec::new();
    for _ in 0..30 {
        for effect in t.wait() {
            if let Effect::Send {
                message: Message::Request { hash, stripes, .. },
                ..
            } = effect
            {
                assert_eq!(stripes, 0b1110);
                asked.push(hash);
            }
        }
    }
    assert!(
        asked.contains(&hash) && asked.contains(&Digest([7; 32])),
        "{asked:?}"
    );
}

#[test]
fn a_root_sends_its_block_whatever_was_said_of_it_before() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    let (block, hash) = whole(0, LEN);
    let mut before = Block::new(t.now);
    let junk = Chunk {
        hash: Digest([7; 32]),
        ..t.chunk(0, LEN, 0)
    };
    assert!(before.take_in(t.now, &junk, peer(9), false));
    before.group.as_mut().unwrap().ways[0] = Some(Way {
        epoch: EPOCH,
        shape: SHAPE,
    });
    t.machine.blocks.insert(0, before);
    let origin = Origin::Ordered;
    let out = t.feed(Input::Block {
        block,
        hash,
        origin,
    });
    let sent = out
        .iter()
        .filter(|e| matches!(e, Effect::Send { message: Message::Chunk(c), .. } if c.hash == hash));
    assert_eq!(sent.count(), 4);
}
