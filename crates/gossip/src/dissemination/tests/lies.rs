//! Junk and bad chunks: what is done about them, and who is blamed.

use super::{steps::LEN, *};

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
