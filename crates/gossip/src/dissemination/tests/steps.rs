//! What each message and each timer does.

use super::*;

pub(super) const LEN: usize = 40 << 10;

pub(super) fn ack(number: u64, stripe: u8) -> Message {
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
