//! What each message and each timer does.

use super::*;

const LEN: usize = 40 << 10;

fn ack(number: u64, stripe: u8) -> Message {
    Message::Ack { number, stripe }
}

#[test]
fn an_inner_member_acknowledges_and_passes_a_chunk_on_and_a_leaf_does_neither() {
    for is_inner in [true, false] {
        let mut t = Table::of(12);
        let number = t.block_where(4, is_inner);
        let (parent, children) = t.family(number, 4, 0);
        let chunk = t.chunk(number, LEN, 0);
        let mut expected = vec![];
        if is_inner {
            expected.push(send(parent, ack(number, 0)));
        }
        let passed = |child: &u8| send(*child, Message::Chunk(chunk.clone()));
        expected.extend(children.iter().map(passed));
        assert_eq!(t.hear(parent, Message::Chunk(chunk.clone())), expected);
        // Again: acknowledged again, passed on once.
        expected.truncate(usize::from(is_inner));
        assert_eq!(t.hear(parent, Message::Chunk(chunk)), expected);
    }
}

#[test]
fn a_block_is_judged_when_enough_is_here_and_delivered_when_it_is_good() {
    let mut t = Table::of(12);
    let (block, hash) = whole(0, LEN);
    for stripe in 0..4 {
        let parent = t.family(0, 4, stripe).0;
        let chunk = t.chunk(0, LEN, stripe);
        let out = t.hear(parent, Message::Chunk(chunk));
        let judged = out.iter().filter(|e| matches!(e, Effect::Judge { .. }));
        let is_last = stripe == 3;
        assert_eq!(judged.count(), usize::from(is_last));
        if is_last {
            let opener = peer(t.family(0, 4, 0).0);
            let judge = Effect::Judge {
                number: 0,
                hash,
                bytes: block.bytes.clone(),
                from: opener,
            };
            assert_eq!(out.last(), Some(&judge));
        }
    }
    let verdict = Verdict::Good(block.clone());
    let judged = Input::Judged {
        number: 0,
        hash,
        verdict,
    };
    let out = t.feed(judged.clone());
    assert_eq!(out[0], Effect::Deliver(block));
    let told: Vec<_> = out[1..]
        .iter()
        .map(|effect| match effect {
            Effect::Send {
                message: Message::Have(have),
                ..
            } => (have.number, have.hash, have.stripes, have.urgent),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(0, hash, Have::COMPLETE, false); 2]);
    assert_eq!(t.feed(judged), [], "an answer counts once");
    assert!(!t.machine.blocks[&0].asked);
}

#[test]
fn a_child_that_does_not_acknowledge_gets_it_once_more_and_then_those_below_it_are_told() {
    let mut t = Table::of(30);
    // A block in which a child of ours has children.
    let (number, child) = (0..AHEAD_MAX)
        .find_map(|number| {
            let (_, children) = t.family(number, 4, 0);
            let places = t.places(number);
            let is_inner = |child: &&u8| {
                let position = places.position(0, 4, &peer(**child)).unwrap();
                places.tree.is_inner(position)
            };
            children.iter().find(is_inner).map(|child| (number, *child))
        })
        .unwrap();
    let parent = t.family(number, 4, 0).0;
    let chunk = t.chunk(number, LEN, 0);
    t.hear(parent, Message::Chunk(chunk.clone()));
    let inner: Vec<_> = t
        .machine
        .acks
        .keys()
        .map(|(.., peer)| name(*peer))
        .collect();
    assert!(inner.contains(&child));
    for other in inner.iter().filter(|other| **other != child) {
        assert_eq!(t.hear(*other, ack(number, 0)), []);
    }
    let suspect = send(
        1,
        Message::Suspect {
            member: peer(child),
            kind: Suspicion::Silent,
        },
    );
    let again = Chunk {
        resend: true,
        ..chunk.clone()
    };
    assert_eq!(
        t.wait_for_effects(),
        [suspect.clone(), send(child, Message::Chunk(again))]
    );
    let places = t.places(number);
    let position = places.position(0, 4, &peer(child)).unwrap();
    let below = places.tree.children(position).iter();
    let below = below.map(|q| name(places.node(0, 4, usize::from(*q)).unwrap().0));
    let have = Message::Have(Have {
        number,
        hash: chunk.hash,
        stripes: 1,
        cut: chunk.cut,
        urgent: true,
    });
    let mut expected = vec![suspect];
    expected.extend(below.map(|grandchild| send(grandchild, have.clone())));
    assert!(expected.len() > 1);
    assert_eq!(t.wait_for_effects(), expected);
    assert!(t.machine.acks.is_empty());
}

#[test]
fn in_the_place_of_a_lost_child_its_children_are_sent_to() {
    let mut t = Table::of(12);
    let number = t.block_where(4, true);
    let (parent, children) = t.family(number, 4, 0);
    let lost = Input::Connection {
        peer: peer(children[0]),
        is_up: false,
    };
    let report = Message::Suspect {
        member: peer(children[0]),
        kind: Suspicion::Lost,
    };
    assert_eq!(t.feed(lost.clone()), [send(1, report)]);
    assert_eq!(t.feed(lost), [], "once");
    let places = t.places(number);
    let position = places.position(0, 4, &peer(children[0])).unwrap();
    let adopted = places.tree.children(position).iter();
    let adopted = adopted.map(|q| name(places.node(0, 4, usize::from(*q)).unwrap().0));
    let chunk = t.chunk(number, LEN, 0);
    let mut expected = vec![send(parent, ack(number, 0))];
    let to = adopted.chain(children[1..].iter().copied());
    expected.extend(to.map(|child| send(child, Message::Chunk(chunk.clone()))));
    assert_eq!(t.hear(parent, Message::Chunk(chunk)), expected);
}

#[test]
fn a_suspect_gets_a_digest_and_is_none_when_it_asks() {
    let mut t = Table::of(12);
    let number = t.block_where(4, true);
    let (parent, children) = t.family(number, 4, 0);
    t.machine
        .neighbours
        .find_mut(&peer(children[0]))
        .unwrap()
        .seen = Some(Class::Suspect);
    let chunk = t.chunk(number, LEN, 0);
    let out = t.hear(parent, Message::Chunk(chunk.clone()));
    let digest = Message::Have(Have {
        number,
        hash: chunk.hash,
        stripes: 0,
        cut: chunk.cut,
        urgent: false,
    });
    assert_eq!(out[1], send(children[0], digest));
    let request = Message::Request {
        number,
        hash: chunk.hash,
        cut: chunk.cut,
        stripes: 0b11,
    };
    let alive = Message::Suspect {
        member: peer(children[0]),
        kind: Suspicion::Alive,
    };
    let answer = Message::Chunk(Chunk {
        repair: true,
        ..chunk
    });
    let expected = [send(1, alive), send(children[0], answer)];
    assert_eq!(t.hear(children[0], request), expected);
}

#[test]
fn a_block_that_was_announced_is_asked_for_and_the_answer_counts() {
    let mut t = Table::of(12);
    let (block, hash) = whole(0, LEN);
    let cut = t.chunk(0, LEN, 0).cut;
    let have = Message::Have(Have {
        number: 0,
        hash,
        stripes: Have::COMPLETE,
        cut,
        urgent: false,
    });
    assert_eq!(t.hear(7, have), []);
    let request = Message::Request {
        number: 0,
        hash,
        cut,
        stripes: Have::COMPLETE,
    };
    assert_eq!(t.wait_for_effects(), [send(7, request)]);
    let answer = |t: &mut Table, stripe| Chunk {
        repair: true,
        ..t.chunk(0, LEN, stripe)
    };
    let stranger = answer(&mut t, 0);
    assert_eq!(rules(&t.hear(8, Message::Chunk(stranger))), ["S-T4"]);
    for stripe in 0..4 {
        let chunk = answer(&mut t, stripe);
        let out = t.hear(7, Message::Chunk(chunk));
        let is_judged = out
            .iter()
            .any(|e| matches!(e, Effect::Judge { bytes, .. } if *bytes == block.bytes));
        assert_eq!(is_judged, stripe == 3, "{out:?}");
    }
}

#[test]
fn what_is_missing_after_a_while_is_asked_of_the_parents() {
    let mut t = Table::of(12);
    let parent = t.family(0, 4, 0).0;
    let chunk = t.chunk(0, LEN, 0);
    t.hear(parent, Message::Chunk(chunk.clone()));
    for acked in t.machine.acks.keys().copied().collect::<Vec<_>>() {
        t.hear(name(acked.2), ack(0, 0));
    }
    let expected: Vec<_> = (1..4)
        .map(|stripe| {
            let request = Message::Request {
                number: 0,
                hash: chunk.hash,
                cut: chunk.cut,
                stripes: 1 << stripe,
            };
            send(t.family(0, 4, stripe).0, request)
        })
        .collect();
    assert_eq!(t.wait_for_effects(), expected);
}

#[test]
fn a_status_tells_of_what_is_missing_here_and_there() {
    let mut t = Table::of(12);
    let (block, hash) = whole(0, LEN);
    t.feed(Input::Block {
        block,
        hash,
        origin: Origin::Received,
    });
    let status = |height, answer| message::Status {
        height,
        answer,
        ..message::Status::default()
    };
    assert_eq!(
        t.hear(7, Message::Status(status(0, false))),
        [],
        "it may be under way"
    );
    t.now = at(5_000);
    let out = t.hear(7, Message::Status(status(0, false)));
    let told = |e: &&Effect| matches!(e, Effect::Send { message: Message::Have(have), .. } if have.number == 0);
    assert_eq!(out.iter().filter(told).count(), 1, "{out:?}");
    let out = t.hear(7, Message::Status(status(2, true)));
    let own = Message::Status(message::Status {
        counters: t.machine.counters,
        ..status(1, false)
    });
    assert!(out.contains(&send(7, own)), "{out:?}");
    let request = Message::Request {
        number: 1,
        hash: Digest::ANY,
        cut: Cut { len: 0, k: 0, p: 0 },
        stripes: Have::COMPLETE,
    };
    let asked = t.wait_for_effects();
    assert_eq!(asked, [send(7, request)]);
}

#[test]
fn a_root_sends_each_stripe_to_its_head() {
    let mut t = Table::bare(1, 12);
    let out = t.feed(Input::Leader(Leader::Me));
    let views = out.iter().filter(|e| {
        matches!(
            e,
            Effect::Send {
                message: Message::View(_),
                ..
            }
        )
    });
    assert_eq!((views.count(), out.len()), (11, 11));
    let (block, hash) = whole(0, 160 << 10);
    let out = t.feed(Input::Block {
        block: block.clone(),
        hash,
        origin: Origin::Ordered,
    });
    let epoch = t.machine.views.latest_epoch();
    let stripes: Vec<_> = out
        .iter()
        .map(|effect| match effect {
            Effect::Send {
                message: Message::Chunk(chunk),
                ..
            } => {
                assert_eq!((chunk.epoch, chunk.hash), (epoch, hash));
                let offset = usize::from(chunk.stripe) * (20 << 10);
                assert_eq!(
                    chunk.payload.as_ptr(),
                    block.bytes[offset..].as_ptr(),
                    "not copied"
                );
                chunk.stripe
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(stripes, (0..8).collect::<Vec<_>>());
}

#[test]
fn a_block_that_is_not_cut_is_announced_by_the_one_after_it() {
    let mut t = Table::of(12);
    let (block, hash) = whole(1, 100);
    let parent = t.family(1, 1, 0).0;
    let chunk = t.chunk(1, 100, 0);
    t.hear(parent, Message::Chunk(chunk));
    let verdict = Verdict::Good(block.clone());
    let out = t.feed(Input::Judged {
        number: 1,
        hash,
        verdict,
    });
    assert_eq!(out[0], Effect::Deliver(block));
    let is_chunk = |e: &Effect| {
        matches!(
            e,
            Effect::Send {
                message: Message::Chunk(_),
                ..
            }
        )
    };
    assert!(out[1..].iter().all(is_chunk), "{out:?}");
    for acked in t.machine.acks.keys().copied().collect::<Vec<_>>() {
        t.hear(name(acked.2), ack(1, 0));
    }
    let request = Message::Request {
        number: 0,
        hash: Digest::ANY,
        cut: Cut { len: 0, k: 0, p: 0 },
        stripes: u64::MAX,
    };
    assert_eq!(t.wait_for_effects(), [send(parent, request)]);
}

#[test]
fn while_a_block_is_leaving_the_next_one_is_given_to_one_member_only() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    t.now = at(5_000);
    let mut shapes = Vec::new();
    for (number, ms) in [(0, 5_000), (1, 5_000), (2, 5_100)] {
        t.now = at(ms);
        let (block, hash) = whole(number, 30 << 10);
        let origin = Origin::Ordered;
        let out = t.feed(Input::Block {
            block,
            hash,
            origin,
        });
        let chunks: Vec<_> = out
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send {
                    message: Message::Chunk(chunk),
                    ..
                } if !chunk.resend => Some((chunk.cut.k, chunk.shape.root_cap)),
                _ => None,
            })
            .collect();
        shapes.push((chunks[0], chunks.len()));
    }
    let (many, one) = (((1, 8), shapes[0].1), ((1, 1), 1));
    assert!(many.1 > 1);
    assert_eq!(shapes, [many, one, many]);
}

#[test]
fn a_view_is_taken_from_the_leader_only_and_never_goes_back() {
    let mut t = Table::of(12);
    let say = |t: &mut Table, view: View| rules(&t.hear(7, Message::View(Arc::new(view))));
    assert_eq!(say(&mut t, view(0x2_0202, 2, everybody(12))), ["S-T8"]);
    assert_eq!(
        say(&mut t, view(0x2_0505, 5, everybody(12))),
        ["S-T8"],
        "in our name"
    );
    assert_eq!(
        say(&mut t, view(0x2_0202, 1, everybody(12))),
        ["S-T9"],
        "an epoch of another"
    );
    let unsigned = View {
        digest: Digest([0; 32]),
        ..view(0x2_0101, 1, everybody(12))
    };
    assert_eq!(say(&mut t, unsigned), ["S-T9"]);
    assert_eq!(say(&mut t, view(0x3_0101, 1, everybody(11))), [""; 0]);
    assert_eq!(say(&mut t, view(0x2_0101, 1, everybody(10))), [""; 0]);
    assert_eq!(t.machine.views.latest_epoch(), 0x3_0101);
    assert!(
        t.machine.views.find(0x2_0101).is_none(),
        "older than what is known"
    );
    let changes = View {
        base: 0x3_0101,
        added: vec![(peer(12), Class::Slow)],
        removed: vec![peer(2)],
        ..view(0x4_0101, 1, {
            let mut list = everybody(12);
            list.retain(|(member, _)| *member != peer(2));
            list.last_mut().unwrap().1 = Class::Slow;
            list
        })
    };
    assert_eq!(say(&mut t, changes.clone()), [""; 0]);
    assert_eq!(t.machine.views.latest_epoch(), 0x4_0101);
    let baseless = View {
        base: 9,
        epoch: 0x5_0101,
        ..changes
    };
    let asked = t.hear(7, Message::View(Arc::new(baseless)));
    let request = Message::ViewRequest {
        wanted: 0x5_0101,
        known: 0x4_0101,
    };
    assert_eq!(asked, [send(7, request)]);
}

#[test]
fn s_t8_nobody_speaks_for_a_leader_that_takes_part() {
    let mut t = Table::of(12);
    let of_another = |author: u8, epoch: u64| View {
        root: peer(1),
        ..view(epoch, author, everybody(12)[1..].to_vec())
    };
    assert!(peer(2) < t.machine.me);
    let out = t.hear(2, Message::View(Arc::new(of_another(2, 0x9_0202))));
    assert_eq!(rules(&out), ["S-T8"]);
}

#[test]
fn only_the_newest_view_of_the_leader_says_who_is_a_suspect() {
    let suspects = |t: &Table| {
        let all = t.machine.neighbours.iter();
        all.filter(|(_, n)| n.seen == Some(Class::Suspect)).count()
    };
    let bad = || {
        let mut list = everybody(12);
        list[7].1 = Class::Suspect;
        list
    };
    let mut t = Table::of(12);
    t.feed(Input::Leader(Leader::Peer(peer(2))));
    t.hear(1, Message::View(Arc::new(view(0x8_0101, 1, bad()))));
    assert!(t.machine.views.find(0x8_0101).is_some(), "it led before");
    assert_eq!(suspects(&t), 0);
    t.hear(2, Message::View(Arc::new(view(0x9_0202, 2, bad()))));
    assert_eq!(suspects(&t), 1);
}

#[test]
fn s_t9_nobody_uses_up_the_epochs_of_others() {
    let mut t = Table::of(12);
    let latest = t.machine.views.latest_epoch() >> 16;
    let mut say = |count: u64| {
        let view = view(count << 16 | 0x0101, 1, everybody(12));
        rules(&t.hear(1, Message::View(Arc::new(view))))
    };
    assert_eq!(say((1 << 48) - 1), ["S-T9"]);
    assert_eq!(say(latest + (1 << 20) + 1), ["S-T9"]);
    assert_eq!(say(latest + (1 << 20)), [""; 0]);
    let me = peer(5);
    assert_eq!(view::next_epoch(u64::MAX, &me), None);
    assert_eq!(view::next_epoch((1 << 40) << 16, &me), None);
    assert!(view::next_epoch(((1 << 40) - 1) << 16, &me).is_some());
}

#[test]
fn what_is_too_long_or_has_no_takers_is_not_sent_in_stripes() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    t.now = at(5_000);
    let longest = t.machine.parameters.len_max() as usize;
    assert!(t.machine.carries(t.now, longest));
    assert!(!t.machine.carries(t.now, longest + 1));
    let order = |t: &mut Table, number, len| {
        let (block, hash) = whole(number, len);
        let origin = Origin::Ordered;
        let out = t.feed(Input::Block {
            block,
            hash,
            origin,
        });
        let is_chunk = |e: &Effect| {
            matches!(
                e,
                Effect::Send {
                    message: Message::Chunk(_),
                    ..
                }
            )
        };
        out.iter().any(is_chunk)
    };
    assert!(!order(&mut t, 0, longest + 1));
    assert!(order(&mut t, 1, 1000));
    t.feed(Input::Members {
        members: members(1, 12),
        plain: (0..100)
            .map(|number| PlainPeer {
                peer: peer(100 + number),
                height: 1,
            })
            .collect(),
    });
    assert!(!order(&mut t, 2, 1000), "pushed as ever");
}

#[test]
fn a_chunk_waits_for_its_view() {
    let mut t = Table::of(12);
    let number = t.block_where(4, true);
    let parent = t.family(number, 4, 0).0;
    let chunk = Chunk {
        epoch: 0x2_0101,
        ..t.chunk(number, LEN, 0)
    };
    let request = Message::ViewRequest {
        wanted: 0x2_0101,
        known: EPOCH,
    };
    assert_eq!(
        t.hear(parent, Message::Chunk(chunk.clone())),
        [send(parent, request)]
    );
    assert_eq!(
        t.hear(parent, Message::Chunk(chunk)),
        [],
        "asked for already"
    );
    assert_eq!(t.machine.sizes().strays, 1);
    let later = view(0x2_0101, 1, everybody(12));
    t.hear(parent, Message::View(Arc::new(later)));
    assert_eq!(t.machine.sizes().strays, 0);
}

#[test]
fn a_view_is_changed_every_five_seconds_but_for_lost_connections() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    let fewer = Input::Members {
        members: members(11, 1),
        plain: Vec::new(),
    };
    assert_eq!(t.feed(fewer), []);
    let out = t.wait_for_effects();
    assert_eq!(t.now, at(5_000));
    let changes = |e: &Effect| match e {
        Effect::Send {
            message: Message::View(view),
            ..
        } => view.removed == [peer(12)] && view.added.is_empty(),
        _ => false,
    };
    assert_eq!((out.len(), out.iter().all(changes)), (10, true));
    t.feed(Input::Connection {
        peer: peer(3),
        is_up: false,
    });
    let lost = Message::Suspect {
        member: peer(3),
        kind: Suspicion::Lost,
    };
    t.hear(4, lost);
    let out = t.wait_for_effects();
    assert_eq!((t.now, out.len()), (at(5_250), 10));
}

#[test]
fn views_in_quick_succession_do_not_push_out_the_one_in_use() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    let in_use = |t: &Table| t.machine.views.in_use(t.now, &peer(1)).unwrap().epoch;
    let first = in_use(&t);
    for (lost, ms) in (3..7).zip((6_000..).step_by(250)) {
        t.now = at(ms);
        let (member, kind) = (peer(lost), Suspicion::Lost);
        t.feed(Input::Connection {
            peer: member,
            is_up: false,
        });
        t.hear(2, Message::Suspect { member, kind });
    }
    assert_eq!(t.machine.sizes().views, 5, "one in use, four to be used");
    assert_eq!(in_use(&t), first);
    t.now = at(7_000);
    assert_ne!(in_use(&t), first);
}

#[test]
fn who_does_not_answer_twice_is_a_suspect_until_it_speaks() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    t.now = at(6_000);
    let silent = Message::Suspect {
        member: peer(3),
        kind: Suspicion::Silent,
    };
    let is_probe = |out: &[Effect]| {
        matches!(out, [Effect::Send { to, message: Message::Status(status) }]
            if *to == peer(3) && status.answer)
    };
    assert!(is_probe(&t.hear(4, silent.clone())));
    assert_eq!(t.hear(6, silent), [], "one probe at a time");
    assert!(is_probe(&t.wait()));
    let out = t.wait_for_effects();
    assert_eq!(out.len(), 11, "a view with a suspect");
    let class = |t: &Table| {
        let view = t.machine.views.latest().unwrap();
        view.member(view.index(&peer(3)).unwrap()).unwrap().1
    };
    assert_eq!(class(&t), Class::Suspect);
    t.hear(3, Message::Status(message::Status::default()));
    t.wait_for_effects();
    assert_eq!(class(&t), Class::Normal);
}

fn class_of(t: &Table, number: u8) -> Class {
    let view = t.machine.views.latest().unwrap();
    view.member(view.index(&peer(number)).unwrap()).unwrap().1
}

fn say_silent(t: &mut Table, by: u8, number: u8) {
    let (member, kind) = (peer(number), Suspicion::Silent);
    t.hear(by, Message::Suspect { member, kind });
    t.hear(number, Message::Status(message::Status::default()));
}

#[test]
fn who_is_missed_far_more_often_than_others_is_slow_though_it_answers() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    let report = |t: &mut Table, number: u8, turn: u8| {
        let by = (2..=12).filter(|by| *by != number).nth(turn.into());
        say_silent(t, by.unwrap(), number);
    };
    t.now = at(6_000);
    for turn in 0..20 {
        for number in 3..=12 {
            report(&mut t, number, turn % 10);
        }
    }
    t.now = at(12_000);
    for turn in 0..9 {
        report(&mut t, 3, turn);
    }
    t.now = at(17_000);
    t.hear(2, Message::Status(message::Status::default()));
    assert!((2..=12).all(|number| class_of(&t, number) == Class::Normal));
    t.now = at(18_000);
    for turn in 0..10 {
        report(&mut t, 3, turn % 4);
    }
    assert_eq!(class_of(&t, 3), Class::Slow);
    assert!((4..=12).all(|number| class_of(&t, number) == Class::Normal));
}

#[test]
fn an_acknowledgement_that_nobody_awaits_resets_nothing() {
    let mut t = Table::of(12);
    t.machine.neighbours.find_mut(&peer(9)).unwrap().misses = 2;
    t.hear(9, ack(0, 0));
    assert_eq!(t.machine.neighbours.find(&peer(9)).unwrap().misses, 2);
}

/// Stripes from 0 on come by their trees, as many as this, and the others as answers of member 8.
/// Who is reported to the root when the block is here.
fn reported_when(in_time: u8) -> (Vec<u8>, Vec<u8>) {
    let mut t = Table::of(12);
    let fits = |t: &mut Table, n| (0..4).all(|s| ![1, 8].contains(&t.family(n, 4, s).0));
    let number = (0..AHEAD_MAX).find(|number| fits(&mut t, *number)).unwrap();
    for stripe in 0..in_time {
        let parent = t.family(number, 4, stripe).0;
        let chunk = t.chunk(number, LEN, stripe);
        t.hear(parent, Message::Chunk(chunk));
    }
    let chunk = t.chunk(number, LEN, 0);
    t.hear(
        8,
        forward::have(number, (chunk.hash, chunk.cut), Have::COMPLETE, false),
    );
    while !t.machine.blocks[&number].asked_of.contains(&peer(8)) {
        t.wait();
    }
    for stripe in in_time..4 {
        let chunk = t.chunk(number, LEN, stripe);
        let repair = true;
        t.hear(8, Message::Chunk(Chunk { repair, ..chunk }));
    }
    let (block, hash) = whole(number, LEN);
    let verdict = Verdict::Good(block);
    let out = t.feed(Input::Judged {
        number,
        hash,
        verdict,
    });
    let reported = out.iter().filter_map(|effect| match effect {
        Effect::Send {
            to,
            message: Message::Suspect { member, kind },
        } => {
            assert_eq!((*to, *kind), (peer(1), Suspicion::Silent));
            Some(name(*member))
        }
        _ => None,
    });
    let parents = (0..4).map(|stripe| t.family(number, 4, stripe).0);
    (parents.collect(), reported.collect())
}

#[test]
fn who_should_have_sent_a_stripe_that_came_from_another_is_reported() {
    let (parents, reported) = reported_when(3);
    assert_eq!(reported, [parents[3]]);
}

#[test]
fn nobody_is_reported_where_much_is_late_or_nothing() {
    assert_eq!(reported_when(2).1, [] as [u8; 0]);
    let mut t = Table::of(12);
    let out = (0..4).flat_map(|stripe| {
        let parent = t.family(0, 4, stripe).0;
        let chunk = t.chunk(0, LEN, stripe);
        t.hear(parent, Message::Chunk(chunk))
    });
    let out: Vec<_> = out.collect();
    assert!(!out.iter().any(|e| matches!(
        e,
        Effect::Send {
            message: Message::Suspect { .. },
            ..
        }
    )));
}

#[test]
fn no_three_members_make_another_slow_and_what_the_root_sees_counts_in_full() {
    let mut t = Table::bare(1, 12);
    t.feed(Input::Leader(Leader::Me));
    t.now = at(6_000);
    for by in [2, 4, 6].repeat(20) {
        say_silent(&mut t, by, 3);
    }
    t.now = at(10_000);
    t.hear(2, Message::Status(message::Status::default()));
    assert_eq!(class_of(&t, 3), Class::Normal);
    t.machine
        .report(t.now, peer(3), Suspicion::Silent, &mut Vec::new());
    t.wait_for_effects();
    assert_eq!(class_of(&t, 3), Class::Slow);
}

#[test]
fn a_suspect_of_a_new_view_is_one_in_the_trees_of_the_old_one_too() {
    let mut t = Table::of(12);
    let old = t.machine.views.latest().unwrap();
    let mut members = old.members.clone();
    for (member, class) in &mut members {
        if *member == peer(3) {
            *class = Class::Suspect;
        }
    }
    let view = View {
        epoch: view::next_epoch(old.epoch, &peer(1)).unwrap(),
        base: 0,
        digest: View::digest_of(&members),
        added: members,
        ..old.in_full()
    };
    t.hear(1, Message::View(Arc::new(view)));
    let seen = |t: &Table, number| t.machine.neighbours.find(&peer(number)).unwrap().seen;
    assert_eq!(seen(&t, 3), Some(Class::Suspect));
    assert_eq!(seen(&t, 4), None);
}

#[test]
fn bad_chunks_are_found_by_the_hashes_of_the_root_and_asked_for_anew() {
    let mut t = Table::of(12);
    let good: Vec<_> = (0..4).map(|stripe| t.chunk(0, LEN, stripe)).collect();
    for (stripe, chunk) in (0..).zip(&good) {
        let parent = t.family(0, 4, stripe).0;
        let mut chunk = chunk.clone();
        if stripe == 2 {
            chunk.payload = vec![0; chunk.payload.len()].into();
        }
        t.hear(parent, Message::Chunk(chunk));
    }
    let (hash, cut) = (good[0].hash, good[0].cut);
    let out = t.feed(Input::Judged {
        number: 0,
        hash,
        verdict: Verdict::Corrupt,
    });
    assert_eq!(out, [send(1, Message::HashesRequest { number: 0, hash })]);
    let hashes = message::Hashes {
        number: 0,
        hash,
        cut,
        chunks: good
            .iter()
            .map(|chunk| Digest::of(&chunk.payload))
            .collect(),
        signer: peer(1),
        signature: Bytes::new(),
    };
    let forged = message::Hashes {
        signer: peer(9),
        ..hashes.clone()
    };
    assert_eq!(
        rules(&t.hear(9, Message::Hashes(Arc::new(forged)))),
        ["S-T6"]
    );
    let out = t.hear(1, Message::Hashes(Arc::new(hashes)));
    let bad = t.family(0, 4, 2).0;
    let kind = Suspicion::Corrupt {
        number: 0,
        stripe: 2,
    };
    let mut expected = vec![];
    if bad != 1 {
        expected.push(send(
            1,
            Message::Suspect {
                member: peer(bad),
                kind,
            },
        ));
    }
    let request = Message::Request {
        number: 0,
        hash,
        cut,
        stripes: 0b100,
    };
    expected.push(send(bad, request));
    assert_eq!(out, expected);
    let still_bad = Chunk {
        repair: true,
        payload: vec![1; good[2].payload.len()].into(),
        ..good[2].clone()
    };
    let out = t.hear(bad, Message::Chunk(still_bad));
    assert!(!out.iter().any(|e| matches!(e, Effect::Judge { .. })));
    let right = Chunk {
        repair: true,
        ..good[2].clone()
    };
    let out = t.hear(bad, Message::Chunk(right));
    assert!(
        out.iter().any(|e| matches!(e, Effect::Judge { .. })),
        "{out:?}"
    );
}

#[test]
fn hashes_that_fit_the_chunks_and_not_the_block_end_it() {
    let mut t = Table::of(12);
    let chunks: Vec<_> = (0..4).map(|stripe| t.chunk(0, LEN, stripe)).collect();
    for (stripe, chunk) in (0..).zip(&chunks) {
        let parent = t.family(0, 4, stripe).0;
        t.hear(parent, Message::Chunk(chunk.clone()));
    }
    let (hash, cut) = (chunks[0].hash, chunks[0].cut);
    t.feed(Input::Judged {
        number: 0,
        hash,
        verdict: Verdict::Corrupt,
    });
    let hashes = message::Hashes {
        number: 0,
        hash,
        cut,
        chunks: chunks
            .iter()
            .map(|chunk| Digest::of(&chunk.payload))
            .collect(),
        signer: peer(1),
        signature: Bytes::new(),
    };
    assert_eq!(
        t.hear(1, Message::Hashes(Arc::new(hashes))),
        [Effect::Fetch(0)]
    );
}

/// Member 9 warns us of a block that is none, is asked and gives it.
pub(super) fn fall_for_junk(t: &mut Table, number: u64) -> Digest {
    let (hash, cut) = (Digest::of(b"j"), Cut { len: 1, k: 1, p: 0 });
    t.hear(9, forward::have(number, (hash, cut), 1, true));
    let junk = Chunk {
        hash,
        cut,
        repair: true,
        payload: Bytes::from_static(b"j"),
        ..t.chunk(number, LEN, 0)
    };
    let out = t.hear(9, Message::Chunk(junk));
    assert!(matches!(out[..], [Effect::Judge { .. }]), "{out:?}");
    let verdict = Verdict::Refused;
    let judged = Input::Judged {
        number,
        hash,
        verdict,
    };
    assert_eq!(t.feed(judged), [Effect::Fetch(number)]);
    hash
}

#[test]
fn who_alone_gave_what_is_no_block_is_blamed_when_the_block_is_here() {
    let mut t = Table::of(12);
    for number in 0..3 {
        let (block, hash) = whole(number, LEN);
        assert_ne!(fall_for_junk(&mut t, number), hash);
        let origin = Origin::Received;
        let out = t.feed(Input::Block {
            block,
            hash,
            origin,
        });
        assert_eq!(rules(&out), ["S-T11"]);
    }
    let (parties, now) = (&t.machine.neighbours, t.now);
    assert!(parties.find(&peer(9)).unwrap().is_distrusted(now));
}

#[test]
fn who_gave_what_we_could_not_verify_yet_is_not_blamed() {
    let mut t = Table::of(12);
    for number in 0..4 {
        let hash = fall_for_junk(&mut t, number);
        let (block, _) = whole(number, 1);
        let origin = Origin::Received;
        let out = t.feed(Input::Block {
            block,
            hash,
            origin,
        });
        assert_eq!(rules(&out), [] as [&str; 0]);
    }
}

#[test]
fn a_block_that_is_given_up_is_fetched_again_and_its_chunks_are_not_acknowledged() {
    let mut t = Table::of(12);
    let number = t.block_where(4, true);
    let hash = fall_for_junk(&mut t, number);
    let parent = t.family(number, 4, 0).0;
    let mut chunk = t.chunk(number, LEN, 0);
    chunk.hash = hash;
    let have = forward::have(number, (chunk.hash, chunk.cut), Have::COMPLETE, false);
    assert_eq!(t.hear(parent, Message::Chunk(chunk.clone())), []);
    assert_eq!(t.hear(7, have.clone()), [], "it was fetched just now");
    let fetches = |out: Vec<Effect>| {
        assert!(!out.iter().any(
            |e| matches!(e, Effect::Send { message, .. } if !matches!(message, Message::Status(_)))
        ));
        out.iter().filter(|e| **e == Effect::Fetch(number)).count()
    };
    t.now = at(1_000);
    assert_eq!(fetches(t.hear(7, have.clone())), 1);
    assert_eq!(fetches(t.hear(7, have)), 0);
    t.now = at(2_000);
    assert_eq!(fetches(t.hear(parent, Message::Chunk(chunk))), 1);
    assert_eq!(fetches(t.wait_for_effects()), 1);
    assert_eq!(t.now, at(12_000));
}

#[test]
fn who_is_not_sure_of_a_block_gives_none_of_it_as_a_whole() {
    let mut t = Table::of(12);
    let chunks: Vec<_> = (0..4).map(|stripe| t.chunk(0, LEN, stripe)).collect();
    for (stripe, chunk) in (0..).zip(&chunks) {
        let parent = t.family(0, 4, stripe).0;
        t.hear(parent, Message::Chunk(chunk.clone()));
    }
    let (hash, cut) = (chunks[0].hash, chunks[0].cut);
    let ask = |stripes| Message::Request {
        number: 0,
        hash,
        cut,
        stripes,
    };
    assert_eq!(t.hear(7, ask(Have::COMPLETE)), []);
    assert_eq!(t.hear(7, ask(0b111)).len(), 3);
}

#[test]
fn a_chunk_from_who_is_not_above_us_is_refused_and_three_make_a_member_avoided() {
    let mut t = Table::of(12);
    let (_, children) = {
        let number = t.block_where(4, true);
        t.family(number, 4, 0)
    };
    let number = t.block_where(4, true);
    let below = children[0];
    for _ in 0..3 {
        let chunk = t.chunk(number, LEN, 0);
        assert_eq!(rules(&t.hear(below, Message::Chunk(chunk))), ["S-T3"]);
    }
    let chunk = t.chunk(number, LEN, 0);
    assert_eq!(
        t.hear(below, Message::Chunk(chunk.clone())),
        [],
        "it is not even listened to"
    );
    let parent = t.family(number, 4, 0).0;
    let out = t.hear(parent, Message::Chunk(chunk));
    let payload = |e: &&Effect| matches!(e, Effect::Send { to, message: Message::Chunk(_) } if *to == peer(below));
    assert_eq!(out.iter().filter(payload).count(), 0);
    t.now = at(3_600_001);
    assert!(
        !t.machine
            .neighbours
            .find(&peer(below))
            .unwrap()
            .is_distrusted(t.now)
    );
}

#[test]
fn who_breaks_the_tree_of_a_former_leader_is_refused_and_not_blamed() {
    let mut t = Table::of(12);
    let number = t.block_where(4, true);
    let below = t.family(number, 4, 0).1[0];
    t.feed(Input::Leader(Leader::Peer(peer(9))));
    for _ in 0..3 {
        let chunk = t.chunk(number, LEN, 0);
        assert_eq!(rules(&t.hear(below, Message::Chunk(chunk))), ["S-T3"]);
    }
    let neighbour = t.machine.neighbours.find(&peer(below)).unwrap();
    assert!(!neighbour.is_distrusted(t.now));
}

#[test]
fn parity_begins_with_losses_and_ends_without() {
    let mut t = Table::bare(1, 3);
    t.feed(Input::Leader(Leader::Me));
    let mut counters = Counters::default();
    let mut inject = |t: &mut Table, number: u64, lost: u64| {
        t.now = at(100 * number);
        counters.sent += 100;
        counters.served += lost;
        let status = message::Status {
            counters,
            height: number,
            ..message::Status::default()
        };
        t.hear(2, Message::Status(status));
        let (block, hash) = whole(number, LEN);
        t.feed(Input::Block {
            block,
            hash,
            origin: Origin::Ordered,
        });
        t.feed(Input::Height(number + 1));
    };
    for number in 0..60 {
        inject(&mut t, number, 2);
    }
    assert_eq!(t.machine.parity(), 1);
    for number in 60..400 {
        inject(&mut t, number, 0);
    }
    assert_eq!(t.machine.parity(), 0);
}

#[test]
fn a_plain_peer_is_pushed_each_block_once_that_is_no_more_than_ten_ahead() {
    let mut t = Table::bare(2, 2);
    t.feed(Input::Leader(Leader::Peer(peer(1))));
    let view = view(EPOCH, 1, everybody(2));
    t.hear(1, Message::View(Arc::new(view)));
    let plain = |height| Input::Members {
        members: members(2, 2),
        plain: vec![PlainPeer {
            peer: peer(99),
            height,
        }],
    };
    t.feed(plain(3));
    let give = |t: &mut Table, number| {
        let (block, hash) = whole(number, 100);
        t.feed(Input::Block {
            block,
            hash,
            origin: Origin::Received,
        })
    };
    let given = |out: Vec<Effect>| -> Vec<(u64, PlainDelivery)> {
        let one = |e: Effect| match e {
            Effect::GivePlain { block, how, .. } => Some((block.number, how)),
            _ => None,
        };
        out.into_iter().filter_map(one).collect()
    };
    let pushed = |number| vec![(number, PlainDelivery::Push)];
    assert_eq!(given(give(&mut t, 2)), [], "it has that");
    assert_eq!(given(give(&mut t, 14)), [], "too far: it pulls that");
    assert_eq!(given(give(&mut t, 13)), pushed(13));
    assert_eq!(given(give(&mut t, 25)), [], "too far again");
    assert_eq!(given(t.feed(plain(16))), [], "nothing is given late");
    assert_eq!(given(give(&mut t, 26)), pushed(26));
    assert_eq!(
        given(give(&mut t, 36)),
        pushed(36),
        "ten above what it was given"
    );
    assert_eq!(given(give(&mut t, 26)), [], "once");
}

#[test]
fn plain_peers_are_left_to_gossip_where_they_are_many() {
    let mut t = Table::bare(2, 2);
    t.feed(Input::Leader(Leader::Peer(peer(1))));
    t.hear(1, Message::View(Arc::new(view(EPOCH, 1, everybody(2)))));
    let mut meet = |count: u8| {
        let plain = (0..count).map(|number| PlainPeer {
            peer: peer(100 + number),
            height: 1,
        });
        t.feed(Input::Members {
            members: members(2, 2),
            plain: plain.collect(),
        });
        t.machine.is_active(t.now)
    };
    assert!(meet(8));
    assert!(!meet(9));
}
