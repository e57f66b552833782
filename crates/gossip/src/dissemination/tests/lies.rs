//! Junk and bad chunks: what is done about them, and who is blamed.

use super::{steps::LEN, *};

/// All of block 0 comes as it should, but for the verdict; its chunks.
fn all_chunks(t: &mut Table) -> Vec<Chunk> {
    let chunks: Vec<Chunk> = (0..4).map(|stripe| t.chunk(0, LEN, stripe)).collect();
    for (stripe, chunk) in (0..).zip(&chunks) {
        let parent = t.family(0, 4, stripe).0;
        t.hear(parent, Message::Chunk(chunk.clone()));
    }
    chunks
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
    let chunks = all_chunks(&mut t);
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
    let chunks = all_chunks(&mut t);
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

/// The view of member 9, and the stripes that come by its trees.
fn by_trees_of_nine(t: &mut Table, stripe: u8) -> (u8, Chunk) {
    let epoch = 0x2_0909;
    let way = Way {
        epoch,
        shape: SHAPE,
    };
    let places = t.machine.places(0, way).expect("the view is known");
    let parent = places.parent(stripe, 4, &peer(ME)).expect("it is another");
    let chunk = Chunk {
        epoch,
        ..t.chunk(0, LEN, stripe)
    };
    (name(parent), chunk)
}

/// Member 1 sends the first stripe by its own trees, and it is bad; the others come by those of 9.
fn spoil(t: &mut Table) -> (Digest, Cut, Vec<Digest>) {
    let mut junk = t.chunk(0, LEN, 0);
    junk.payload = vec![0; junk.payload.len()].into();
    let (hash, cut) = (junk.hash, junk.cut);
    t.hear(1, Message::Chunk(junk));
    for stripe in 1..4 {
        let (parent, chunk) = by_trees_of_nine(t, stripe);
        t.hear(parent, Message::Chunk(chunk));
    }
    let all = (0..4).map(|stripe| Digest::of(&t.chunk(0, LEN, stripe).payload));
    (hash, cut, all.collect())
}

fn signed_by(signer: u8, (hash, cut): (Digest, Cut), chunks: Vec<Digest>) -> Message {
    Message::Hashes(Arc::new(message::Hashes {
        number: 0,
        hash,
        cut,
        chunks,
        signer: peer(signer),
        signature: Bytes::new(),
    }))
}

#[test]
fn s_t6_a_former_leader_says_nothing_about_what_came_by_the_trees_of_the_leader() {
    let mut t = Table::of(12);
    t.feed(Input::Leader(Leader::Peer(peer(9))));
    t.hear(9, Message::View(Arc::new(view(0x2_0909, 9, everybody(12)))));
    let (hash, cut, chunks) = spoil(&mut t);
    let doubted = Input::Judged {
        number: 0,
        hash,
        verdict: Verdict::Corrupt,
    };
    assert_eq!(
        t.feed(doubted),
        [send(9, Message::HashesRequest { number: 0, hash })]
    );
    let out = t.hear(1, signed_by(1, (hash, cut), chunks.clone()));
    assert_eq!(rules(&out), ["S-T6"]);
    let kind = Suspicion::Corrupt {
        number: 0,
        stripe: 0,
    };
    let blames = send(
        9,
        Message::Suspect {
            member: peer(1),
            kind,
        },
    );
    let out = t.hear(9, signed_by(9, (hash, cut), chunks));
    assert_eq!(out.first(), Some(&blames));
}

#[test]
fn who_is_appointed_calls_nothing_bad_that_came_by_the_trees_of_another() {
    let mut t = Table::bare(ME, 12);
    t.feed(Input::Leader(Leader::Appointed));
    t.hear(1, Message::View(Arc::new(view(EPOCH, 1, everybody(12)))));
    t.hear(9, Message::View(Arc::new(view(0x2_0909, 9, everybody(12)))));
    let (hash, cut, _) = spoil(&mut t);
    let doubted = Input::Judged {
        number: 0,
        hash,
        verdict: Verdict::Corrupt,
    };
    assert_eq!(
        t.feed(doubted),
        [send(1, Message::HashesRequest { number: 0, hash })]
    );
    // It says that its own chunk is the good one.
    let mut chunks = vec![Digest([7; 32]); 4];
    chunks[0] = Digest::of(&vec![0; cut.payload_len(0)]);
    let out = t.hear(1, signed_by(1, (hash, cut), chunks));
    let is_accusation = |e: &Effect| {
        matches!(
            e,
            Effect::Send {
                message: Message::Suspect { .. },
                ..
            }
        )
    };
    assert!(!out.iter().any(is_accusation), "{out:?}");
    assert_eq!(t.machine.blocks[&0].blamed, [].into());
    assert_eq!(t.machine.blocks[&0].group.as_ref().unwrap().got, 1);
}
